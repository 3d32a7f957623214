"""Numbers in other types, and arithmetic of single numbers and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.table import Kernels, kernel


@kernel
def cast(k: Kernels, x: Any, dtype: Any) -> Any:
    """An array in another type; one that has it already is itself."""
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore"):  # beyond float16 is infinity
        return x.astype(dtype)


@kernel
def scaled_sum(k: Kernels, x: Any, y: Any, x_factor: float = 1.0, y_factor: float = 1.0) -> Any:
    """`x_factor * x + y_factor * y`, elementwise; without `y` (None) `x_factor * x + y_factor`."""
    return x * x_factor + (y_factor if y is None else y * y_factor)


@kernel
def filled(k: Kernels, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
    """A new array with one value everywhere."""
    return k.xp.full(shape, value, dtype)
