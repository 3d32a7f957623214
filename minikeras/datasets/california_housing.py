"""California housing: 20,640 block groups of the census of 1990 with 8 features each, and the median value of a house.

The features: median income, median age of a house, rooms and bedrooms per household, inhabitants, members of a
household, latitude, longitude (Pace and Barry, 1997).
"""

from __future__ import annotations

from typing import Any

from minikeras.datasets import files, housing
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of

URL = files.STORE + "california_housing.npz"
SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
_SMALL = 600


@user_facing
def load_data(
    version: str = "large", path: str = "california_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load the California housing data as `(x_train, y_train), (x_test, y_test)`.

    Args:
        version: `"large"` for all of it, `"small"` for the first 600 samples.
        path: the name of the file in one of `config.dataset_folders()`, or an absolute path, then the only place; a
            missing one is downloaded and checked by its SHA-256 sum.
        test_split: the share of the data that is kept for testing.
        seed: decides how the data is shuffled before.

    Returns:
        Features, of shape `(n, 8)`; values in dollars, of shape `(n,)`.

    Raises:
        ValueError: if the file found is damaged or has another form, for a `test_split` outside of [0, 1), or for
            another `version`.
        FileNotFoundError: if there is no file and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.california_housing.load_data()  # doctest: +SKIP
    """
    housing.check_split(test_split)
    one_of("version", version, ("small", "large"))
    x, y = housing.read(files.fetch("California housing", path, URL, SHA256), 8)
    if version == "small":
        x, y = x[:_SMALL], y[:_SMALL]
    return housing.split(x, y, test_split, seed)


offer_names(__name__)
