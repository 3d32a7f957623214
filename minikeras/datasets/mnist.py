"""MNIST: 60,000 and 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minikeras import config
from minikeras.datasets import files

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find(path: str = "mnist.npz") -> Path | None:
    """Where `load_data(path)` finds MNIST without a download: an `.npz` file, a folder of four IDX files, or None."""
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        return wanted if wanted.is_file() else None
    for place in files.places("mnist"):
        if (place / wanted).is_file():
            return place / wanted
        if None not in _idx_paths(place):
            return place
    return None


def load_data(path: str = "mnist.npz") -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load MNIST as `(x_train, y_train), (x_test, y_test)`.

    Every folder of `config.dataset_folders()`, and its subfolder `mnist`, is searched for the file `path` and for the
    four IDX files of the original (`train-images-idx3-ubyte` and so on, also with `.gz`).  Where there is none,
    Keras's `mnist.npz` is downloaded to `~/.minikeras/datasets` and checked by its SHA-256 sum.

    Args:
        path: the name of the file, relative to those folders, or an absolute path, then the only place.

    Returns:
        Pictures, uint8 of shape `(n, 28, 28)`, 0 for paper and 255 for ink; labels, uint8 of shape `(n,)`, 0 to 9.

    Raises:
        ValueError: if the file found is not MNIST by its arrays' names, shapes and types, or is damaged.
        FileNotFoundError: if there is no file and it cannot be downloaded.
    """
    place = find(path)
    if place is None:
        place = files.home(str(Path(path).expanduser()))
        try:
            files.download(URL, place, SHA256)
        except OSError as error:
            raise FileNotFoundError(
                f"MNIST is in none of {', '.join(map(str, config.dataset_folders()))} and could not be downloaded "
                f"from {URL} ({error}); put mnist.npz at {place}, or set MINIKERAS_DATASETS to the folder that has it."
            ) from error
    if place.is_dir():
        arrays = [files.read_idx(idx) for idx in _idx_paths(place) if idx is not None]
    else:
        arrays = files.read_npz(place, _ARRAYS)
    x_train, y_train, x_test, y_test = arrays
    _check(place, "train", x_train, y_train)
    _check(place, "test", x_test, y_test)
    return (x_train, y_train), (x_test, y_test)


def _idx_paths(folder: Path) -> list[Path | None]:
    """The four IDX files of a folder in the order of `_ARRAYS`, None for a missing one."""
    candidates = [(folder / name, folder / f"{name}.gz") for name in _IDX_FILES]
    return [next((path for path in pair if path.is_file()), None) for pair in candidates]


def _check(place: Path, part: str, x: Any, y: Any) -> None:
    """Raise ValueError unless these are pictures and labels of MNIST's form, at least one, as many of each."""
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28) or not len(x):
        wrong = f"x_{part} must be uint8 of shape (n, 28, 28), it is {x.dtype} of shape {x.shape}"
    elif y.dtype != np.uint8 or y.shape != x.shape[:1]:
        wrong = f"y_{part} must be uint8 of shape {x.shape[:1]}, it is {y.dtype} of shape {y.shape}"
    elif y.max() > 9:
        wrong = f"y_{part} must hold labels from 0 to 9, it holds {y.max()}"
    else:
        return
    raise ValueError(f"{place} is not MNIST: {wrong}; replace or remove it.")
