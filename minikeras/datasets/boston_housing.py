"""Boston housing: 506 districts of 13 features, and the median price of a house in thousands of dollars.

One of the features assumes that segregation decides prices; the data is of use for showing what is wrong with that.
"""

from __future__ import annotations

from typing import Any

from minikeras.datasets import files, housing
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing

URL = files.STORE + "boston_housing.npz"
SHA256 = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"


@user_facing
def load_data(
    path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load the Boston housing data as `(x_train, y_train), (x_test, y_test)`.

    Args:
        path: the name of the file in one of `config.dataset_folders()`, or an absolute path, then the only place; a
            missing one is downloaded and checked by its SHA-256 sum.
        test_split: the share of the data that is kept for testing.
        seed: decides how the data is shuffled before.

    Returns:
        Features, float64 of shape `(n, 13)`; prices in thousands of dollars, float64 of shape `(n,)`.

    Raises:
        ValueError: if the file found is damaged or has another form, or for a `test_split` outside of [0, 1).
        FileNotFoundError: if there is no file and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.boston_housing.load_data()  # doctest: +SKIP
    """
    housing.check_split(test_split)
    x, y = housing.read(files.fetch("Boston housing", path, URL, SHA256), 13)
    return housing.split(x, y, test_split, seed)


offer_names(__name__)
