"""Windows that slide over a time series, as a `Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.data import AUTOTUNE, Dataset
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import flag, one_of, whole


@user_facing
def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Dataset:
    """Windows of equal length over `data`.

    Window n begins at time `t = start_index + n * sequence_stride` and has the times `t`, `t + sampling_rate`, and so
    on, `sequence_length` of them; its target is `targets[t]`.

    Args:
        data: shape (times, ...).
        targets: shape (times, ...), or None for windows alone.
        sequence_length: times in a window.
        sequence_stride: times from the beginning of a window to that of the next.
        sampling_rate: times from one entry of a window to the next.
        batch_size: windows in a batch; None gives single windows.
        shuffle: mix the windows once, and those near each other anew in each pass.
        seed: determines both.
        start_index, end_index: only times from `start_index` on and before `end_index` are used.
        format: `"tf"` or `"grain"`, accepted for familiarity.

    Returns:
        A `Dataset` of arrays of shape (batch, sequence_length, ...), or pairs of them and targets, (batch, ...).

    Raises:
        ValueError: for a stride, rate or index that does not fit the data.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> data = keras.utils.timeseries_dataset_from_array(np.arange(10), None, sequence_length=3, batch_size=8)
    >>> [windows.shape for windows in data]
    [(8, 3)]
    """
    one_of("format", format, ("tf", "grain"))
    sequence_length = whole("sequence_length", sequence_length, 1)
    batch_size = whole("batch_size", batch_size, 1, optional=True)
    sampling_rate, sequence_stride = whole("sampling_rate", sampling_rate), whole("sequence_stride", sequence_stride)
    start_index = whole("start_index", start_index, optional=True)
    end_index = whole("end_index", end_index, optional=True)
    seed, shuffle = whole("seed", seed, 0, at_most=2**32 - 1, optional=True), flag("shuffle", shuffle)
    for name, values in (("data", data), ("targets", targets)):
        if not hasattr(values, "__len__") and (name == "data" or values is not None):
            raise ValueError(f"{name} must be an array with one entry for each time, got {values!r}.")
    times = len(data)
    for name, value in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if not 0 < value < times:
            raise ValueError(f"{name} must lie between 1 and {times - 1} for {times} times, got {value}.")
    for name, index in (("start_index", start_index), ("end_index", end_index)):
        if index and not 0 < index < times:
            raise ValueError(f"{name} must lie between 0 and {times - 1} for {times} times, got {index}.")
    if start_index and end_index and end_index <= start_index:
        raise ValueError(f"end_index must be above start_index, got {end_index} and {start_index}.")
    start, stop = start_index or 0, times if end_index is None else end_index
    series = np.asarray(data)[start:stop]
    windows = stop - start - (sequence_length - 1) * sampling_rate
    goals = None
    if targets is not None:
        windows = min(windows, len(targets))
        goals = np.asarray(targets)[start:stop]
    begins = np.arange(0, max(windows, 0), sequence_stride)
    if shuffle:
        seed = np.random.randint(int(1e6)) if seed is None else seed
        np.random.RandomState(seed).shuffle(begins)
    steps = np.arange(sequence_length) * sampling_rate

    def windowed(begin: Any) -> Any:
        places = np.asarray(begin)[..., None] + steps
        return series[places] if goals is None else (series[places], goals[begin])

    dataset = Dataset.from_arrays(begins)
    if shuffle:
        dataset = dataset.shuffle(8 * batch_size if batch_size else 1024, seed=seed)
    if batch_size is not None:
        dataset = dataset.batch(batch_size)
    return dataset.map(windowed).prefetch(AUTOTUNE)
