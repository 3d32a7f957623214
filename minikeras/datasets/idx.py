"""The files of MNIST and of the datasets made after it: pictures of 28 x 28 and labels, in IDX format or as `.npz`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.utils.bounded import DAMAGE, Allowance, Stream, size_of

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def paths(folder: Path) -> list[Path | None]:
    """The four files in the order of `NAMES`, plain or with `.gz`; None for a missing one."""
    candidates = [(folder / name, folder / f"{name}.gz") for name in NAMES]
    return [next((path for path in pair if path.is_file()), None) for pair in candidates]


def read_idx(path: Path) -> Any:
    """Read an IDX file of unsigned bytes, plain or compressed by gzip (told by its content, not by its name).

    The format: two zero bytes, the type (8 for unsigned bytes), the rank, each dimension as a big-endian 32-bit
    integer, then the values in C order.

    Raises:
        ValueError: if the file is damaged, is no IDX file, or its length is not the one its header announces.
    """
    try:
        allowance = Allowance(size_of(path))
        with Stream(path, allowance.left) as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                raise ValueError(f"it begins with {magic!r}")
            shape = tuple(np.frombuffer(stream.read(4 * magic[3]), ">u4").tolist())
            size = math.prod(shape)
            allowance.spend(size, "its header")
            values = np.frombuffer(stream.read(size + 1), np.uint8)  # one more, to notice a longer file
        if len(shape) != magic[3] or values.size != size:
            raise ValueError(f"its header announces {size} values of shape {shape}, it holds another number")
        return values.reshape(shape).copy()  # a copy can be written to
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or is not an IDX file ({error}); replace or remove it.") from error


def checked(title: str, place: Path, arrays: list[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The four arrays as `(x_train, y_train), (x_test, y_test)`.

    Raises:
        ValueError: unless these are pictures and labels of MNIST's form, at least one, as many of each.
    """
    x_train, y_train, x_test, y_test = arrays
    _check(title, place, "train", x_train, y_train)
    _check(title, place, "test", x_test, y_test)
    return (x_train, y_train), (x_test, y_test)


def _check(title: str, place: Path, part: str, x: Any, y: Any) -> None:
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        wrong = f"x_{part} must be uint8 of shape (n, 28, 28), it is {x.dtype} of shape {x.shape}"
    elif y.dtype != np.uint8 or y.shape != x.shape[:1]:
        wrong = f"y_{part} must be uint8 of shape {x.shape[:1]}, it is {y.dtype} of shape {y.shape}"
    elif y.max() > 9:
        wrong = f"y_{part} must hold labels from 0 to 9, it holds {y.max()}"
    else:
        return
    raise ValueError(f"{place} is not {title}: {wrong}; replace or remove it.")
