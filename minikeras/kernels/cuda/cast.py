"""Sums of numbers and constants in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import FLOATS, THREADS, Source, fours, launch
from minikeras.kernels.reference import cast as reference
from minikeras.kernels.table import Kernels, override

_SOURCE = Source(
    """
__global__ void scaled_sum(const T* x, const T* y, T* out, double x_factor, double y_factor, whole n) {
  struct Both { A x, y; };
  in_fours(n, [=](whole i) { return Both{x[i], y ? A(y[i]) : A(1)}; },
           [=](whole i, Both at) { out[i] = at.x * A(x_factor) + at.y * A(y_factor); });
}
"""
)


def _are_numbers(x: Any, y: Any) -> bool:
    """Also single numbers, which losses are."""
    return (
        x.dtype.char in FLOATS
        and x.size > 0
        and x.flags.c_contiguous
        and (y is None or (y.dtype == x.dtype and y.shape == x.shape and y.flags.c_contiguous))
    )


@override(reference.scaled_sum, "gpu", when=_are_numbers)
def scaled_sum(k: Kernels, x: Any, y: Any, x_factor: float = 1.0, y_factor: float = 1.0) -> Any:
    out = k.empty(x.shape, x.dtype)
    arguments = (x, y, out, float(x_factor), float(y_factor), x.size)
    launch(k, _SOURCE, "scaled_sum", x.dtype, fours(x.size), THREADS, arguments)
    return out


@override(reference.filled, "gpu")
def filled(k: Kernels, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
    """In a step's own buffer."""
    out = k.empty(shape, np.dtype(dtype))
    out.fill(value)
    return out
