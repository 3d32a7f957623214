"""CIFAR-10: 50,000 and 10,000 coloured pictures of 10 classes, 32 x 32 (Krizhevsky, 2009)."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.datasets import cifar
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))


@user_facing
def load_data() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load CIFAR-10 as `(x_train, y_train), (x_test, y_test)`.

    Every folder of `config.dataset_folders()` is searched for the unpacked folder `cifar-10-batches-py` and for the
    archive `cifar-10-python.tar.gz`.  Where there is none, the archive is downloaded and checked by its SHA-256 sum.
    The pickles in it are read by `minikeras.datasets.pickles`, which runs nothing.

    Returns:
        Pictures, uint8 of shape `(n, 32, 32, 3)`, or `(n, 3, 32, 32)` where `image_data_format()` is
        `"channels_first"`; labels, uint8 of shape `(n, 1)`: 0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog,
        6 frog, 7 horse, 8 ship, 9 truck.

    Raises:
        ValueError: if what is found is damaged or has another form.
        FileNotFoundError: if there is nothing and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()  # doctest: +SKIP
    """
    batches = cifar.fetch(
        "CIFAR-10", "cifar-10-batches-py", "cifar-10-python.tar.gz", URL, SHA256, (*_TRAIN, "test_batch")
    )
    train, test = [batches[name] for name in _TRAIN], [batches["test_batch"]]
    y_train, y_test = (cifar.labels(part, "labels", 10).astype(np.uint8) for part in (train, test))
    return (cifar.pictures(train), y_train), (cifar.pictures(test), y_test)


offer_names(__name__)
