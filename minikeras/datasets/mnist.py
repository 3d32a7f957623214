"""MNIST: 60,000 and 10,000 handwritten digits, 28 x 28 (LeCun, Cortes and Burges)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minikeras.datasets import files, idx
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing

URL = files.STORE + "mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def find(path: str = "mnist.npz") -> Path | None:
    """Where `load_data(path)` finds MNIST without a download: an `.npz` file, a folder of four IDX files, or None."""
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        return wanted if wanted.is_file() else None
    for place in files.places("mnist"):
        if (place / wanted).is_file():
            return place / wanted
        if None not in idx.paths(place):
            return place
    return None


@user_facing
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

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()  # doctest: +SKIP
    """
    place = find(path) or files.fetch("MNIST", path, URL, SHA256, "mnist")
    if place.is_dir():
        return idx.checked("MNIST", place, [idx.read_idx(path) for path in idx.paths(place) if path is not None])
    return idx.checked("MNIST", place, files.read_npz(place, ("x_train", "y_train", "x_test", "y_test")))


offer_names(__name__, hidden="find")
