"""Batches of a dataset in host memory: rows gathered into a buffer, where the device can, beside other work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np  # whatever the device: a batch is gathered where the dataset is

from minikeras.kernels.arena import fitting
from minikeras.kernels.table import Kernels, kernel


@kernel
def gather(k: Kernels, array: Any, rows: Any, out: Any = None) -> tuple[Any, Callable[[], None] | None]:
    """The rows of a NumPy array at the integers `rows`, all of them in range, and what to call before they are read.

    That is None where they can be read at once.  Until then `array`, `rows` and `out` must stay as they are.

    Raises:
        ValueError: `out` has another shape or type.
    """
    if out is not None:
        fitting(out, (len(rows), *array.shape[1:]), array.dtype)
    # mode="clip" lets NumPy write to `out` without a buffer between
    return np.take(array, rows, axis=0, out=out, mode="clip"), None
