"""A dataset cut in two."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from minikeras.data import AUTOTUNE, Dataset
from minikeras.tracebacks import user_facing


@user_facing
def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Dataset, Dataset]:
    """Two datasets: the first samples, and the last ones.

    Args:
        dataset: an array, a list or tuple of arrays of equal length, a `Dataset`, or any other iterable of samples;
            it is read into memory.  Batches of a `Dataset` are taken apart, and the parts are batched again.
        left_size, right_size: samples of each part, as a number or, with a point, as a fraction; one of them may be
            left out.
        shuffle: mix the samples first.
        seed: determines their order; the same as in Keras.
        preferred_backend: accepted for familiarity.

    Raises:
        TypeError: for data or sizes of another type.
        ValueError: for no data, or sizes that leave a part empty or do not fit together.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> left, right = keras.utils.split_dataset(np.arange(10), left_size=0.8)
    >>> len(list(left)), len(list(right))
    (8, 2)
    """
    if left_size is None and right_size is None:
        raise ValueError("split_dataset needs left_size or right_size, got None for both.")
    samples, batch_size = _samples(dataset)
    left, right = _sizes(left_size, right_size, len(samples))
    if shuffle:
        random.Random(random.randint(0, int(1e6)) if seed is None else seed).shuffle(samples)
    parts = []
    for part in (samples[:left], samples[-right:]):
        made = Dataset.from_generator(lambda part=part: iter(part), length=len(part))  # type: ignore[misc]
        parts.append((made if batch_size is None else made.batch(batch_size)).prefetch(AUTOTUNE))
    return parts[0], parts[1]


def _samples(dataset: Any) -> tuple[list[Any], int | None]:
    """All samples, and how they were batched."""
    batch_size = None
    if isinstance(dataset, (list, tuple)):
        for part in dataset:
            if not isinstance(part, np.ndarray):
                raise ValueError(f"A list to split must hold arrays, got {type(part).__name__}.")
            if len(part) != len(dataset[0]):
                raise ValueError(f"Arrays to split must be of equal length, got {[len(part) for part in dataset]}.")
        samples: list[Any] = list(zip(*dataset, strict=True))
    elif isinstance(dataset, Dataset):
        batch_size = dataset.batched_by()
        samples = list(dataset if batch_size is None else dataset.unbatch())
    elif hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        samples = [dataset[index] for index in range(len(dataset))]
    elif hasattr(dataset, "__iter__"):
        samples = list(dataset)
    else:
        raise TypeError(
            f"split_dataset takes an array, arrays, a Dataset or another iterable, got {type(dataset).__name__}."
        )
    if not samples:
        raise ValueError("The dataset to split is empty, got 0 samples.")
    return samples, batch_size


def _sizes(left: Any, right: Any, total: int) -> tuple[int, int]:
    """Both sizes as numbers of samples."""
    counts = []
    for name, size in (("left_size", left), ("right_size", right)):
        if size is not None and type(size) not in (int, float):
            raise TypeError(f"{name} must be a number of samples, a fraction or None, got {size!r}.")
        if size is not None and not 0 < size < (total if type(size) is int else 1):
            raise ValueError(
                f"{name} must be a whole number between 1 and {total - 1} or a fraction between 0 and 1, got {size!r}."
            )
        counts.append(round(size * total) if type(size) is float else size)
    first, last = counts
    first = total - last if first is None else first
    last = total - first if last is None else last
    if first + last > total:
        raise ValueError(f"left_size and right_size may have {total} samples together, got {first} and {last}.")
    if not first or not last:
        raise ValueError(f"Neither part may be empty, got {first} and {last} of {total} samples.")
    return first, last
