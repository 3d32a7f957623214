"""Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 28 x 28, in MNIST's form (Zalando Research, MIT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minikeras.datasets import files, idx
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing

URL = files.STORE
SHA256 = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_FOLDER = "fashion-mnist"  # never the folder itself: MNIST's files have the same names


@user_facing
def load_data() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load Fashion-MNIST as `(x_train, y_train), (x_test, y_test)`.

    The subfolder `fashion-mnist` of every folder of `config.dataset_folders()` is searched for the four IDX files.
    Those that are nowhere are downloaded to `~/.minikeras/datasets/fashion-mnist` and checked by their SHA-256 sums.

    Returns:
        Pictures, uint8 of shape `(n, 28, 28)`, 0 for the background; labels, uint8 of shape `(n,)`: 0 T-shirt or top,
        1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.

    Raises:
        ValueError: if a file found is damaged or has another form.
        FileNotFoundError: if a file is nowhere and cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()  # doctest: +SKIP
    """
    paths = [_fetch(name) for name in idx.NAMES]
    return idx.checked("Fashion-MNIST", paths[0].parent, [idx.read_idx(path) for path in paths])


def _fetch(name: str) -> Path:
    plain = files.find(f"{_FOLDER}/{name}", "")
    if plain is not None:
        return plain
    return files.fetch("Fashion-MNIST", f"{_FOLDER}/{name}.gz", f"{URL}{name}.gz", SHA256[name])


offer_names(__name__)
