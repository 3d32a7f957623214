"""Pooling on the CPU: one pass over the windows (see conv.py for the table), whose pictures the team shares.

The loops, for float32, are in pool_parts.py (maxima) and parts.py (averages).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.conv import window_table
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import pool as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.reference.pool import index_dtype, undilated
from minikeras.kernels.table import Kernels, contiguous_float32, override


@lru_cache(maxsize=256)
def _table(x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> tuple[Any, int, int]:
    """(window table, positions per picture, channels)."""
    table = window_table((1, *x_shape[1:-1], 1), size, strides, padding, undilated(size))
    return table, math.prod(x_shape[1:-1]), x_shape[-1]


@lru_cache(maxsize=256)
def _coverage(x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> tuple[bool, bool]:
    """(whether no input is in two windows, whether besides every one is in one)."""
    table, inputs, _ = _table(x_shape, size, strides, padding)
    apart = all(step >= width for step, width in zip(strides, size, strict=True))
    return apart, apart and np.count_nonzero(table >= 0) == inputs


@override(reference.max_pool, "cpu", when=(contiguous_float32("x"), lambda size: index_dtype(size) == "uint8"))
def max_pool(
    k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, with_index: bool = False
) -> tuple[Any, Any]:
    shape = (x.shape[0], *output_shape(x.shape, size, strides, padding, undilated(size)), x.shape[-1])
    y = empty(shape, x.dtype)
    index = empty(shape, np.dtype(index_dtype(size))) if with_index else None
    if y.size:
        lazy("pool_parts").max_pool(x, y, index, _table(x.shape, size, strides, padding)[0])
    return y, index


@override(
    reference.max_pool_grad,
    "cpu",
    (contiguous_float32("g", "out"), lambda index: index.dtype.char == "B" and index.flags.c_contiguous),
)
def max_pool_grad(
    k: Kernels, g: Any, index: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = empty(x_shape, g.dtype) if out is None else out
    geometry = x_shape, size, strides, padding
    lazy("pool_parts").max_pool_grad(g, index, out, _table(*geometry)[0], *_coverage(*geometry))
    return out


@override(reference.average_pool, "cpu", when=contiguous_float32("x", "out"))
def average_pool(k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    if out is None:
        lengths = output_shape(x.shape, size, strides, padding, undilated(size))
        out = empty((x.shape[0], *lengths, x.shape[-1]), x.dtype)
    if out.size:
        lazy("parts").average_pool(x, out, *_table(x.shape, size, strides, padding))
    return out


@override(reference.average_pool_grad, "cpu", when=contiguous_float32("g", "out"))
def average_pool_grad(
    k: Kernels, g: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = empty(x_shape, g.dtype) if out is None else out
    lazy("parts").average_pool_grad(g, out, *_table(x_shape, size, strides, padding))
    return out


_LONG = 1 << 15  # numbers: shorter arrays are NumPy's
_MANY = 1 << 14  # positions: the compiled pass adds them one after the other, which loses digits


@override(
    reference.global_average_pool,
    "cpu",
    when=(contiguous_float32("x"), lambda x: x.size >= _LONG and x.shape[1] <= _MANY),
)
def global_average_pool(k: Kernels, x: Any) -> Any:
    out = empty((x.shape[0], x.shape[2]), x.dtype)
    lazy("parts").global_average_pool(x, out)
    return out


@override(
    reference.global_average_pool_grad,
    "cpu",
    when=(contiguous_float32("g"), lambda g, positions: g.size * positions >= _LONG),
)
def global_average_pool_grad(k: Kernels, g: Any, positions: int) -> Any:
    out = empty((g.shape[0], positions, g.shape[1]), g.dtype)
    lazy("parts").global_average_pool_grad(g, out)
    return out
