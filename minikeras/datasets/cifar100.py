"""CIFAR-100: 50,000 and 10,000 coloured pictures of 100 classes in 20 groups, 32 x 32 (Krizhevsky, 2009)."""

from __future__ import annotations

from typing import Any

from minikeras.datasets import cifar
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


@user_facing
def load_data(label_mode: str = "fine") -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load CIFAR-100 as `(x_train, y_train), (x_test, y_test)`.

    Every folder of `config.dataset_folders()` is searched for the unpacked folder `cifar-100-python` and for the
    archive `cifar-100-python.tar.gz`.  Where there is none, the archive is downloaded and checked by its SHA-256 sum.
    The pickles in it are read by `minikeras.datasets.pickles`, which runs nothing.

    Args:
        label_mode: `"fine"` for the 100 classes, `"coarse"` for the 20 groups.

    Returns:
        Pictures, uint8 of shape `(n, 32, 32, 3)`, or `(n, 3, 32, 32)` where `image_data_format()` is
        `"channels_first"`; labels, int64 of shape `(n, 1)`.

    Raises:
        ValueError: if what is found is damaged or has another form, or for another `label_mode`.
        FileNotFoundError: if there is nothing and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.cifar100.load_data()  # doctest: +SKIP
    """
    one_of("label_mode", label_mode, ("fine", "coarse"))
    batches = cifar.fetch("CIFAR-100", "cifar-100-python", "cifar-100-python.tar.gz", URL, SHA256, ("train", "test"))
    classes = 100 if label_mode == "fine" else 20
    train, test = (
        (cifar.pictures([batches[name]]), cifar.labels([batches[name]], f"{label_mode}_labels", classes))
        for name in ("train", "test")
    )
    return train, test


offer_names(__name__)
