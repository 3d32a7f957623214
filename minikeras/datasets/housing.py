"""What the two datasets of house prices share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minikeras.datasets import files
from minikeras.utils.checks import number


def read(path: Path, features: int) -> tuple[Any, Any]:
    """The arrays `x` and `y` of an `.npz` file.

    Raises:
        ValueError: if the file is damaged, or these are not rows of `features` numbers with one target each.
    """
    x, y = files.read_npz(path, ("x", "y"))
    if x.ndim != 2 or x.shape[1] != features or y.shape != x.shape[:1] or x.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} is not this dataset: x must be numbers of shape (n, {features}), it is {x.dtype} of shape "
            f"{x.shape}, and y is of shape {y.shape}; replace or remove it."
        )
    return x, y


def check_split(test_split: float) -> None:
    """Raise ValueError unless `0 <= test_split < 1`."""
    number("test_split", test_split, 0, below=1)


def split(x: Any, y: Any, test_split: float, seed: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Shuffle and cut: `(x_train, y_train), (x_test, y_test)`, the same as Keras's for the same seed."""
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)
    at = int(len(x) * (1 - test_split))
    return (x[order[:at]], y[order[:at]]), (x[order[at:]], y[order[at:]])
