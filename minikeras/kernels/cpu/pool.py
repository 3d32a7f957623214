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
from minikeras.kernels.cpu.jit import pool_parts, shared
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.reference.pool import average_pool as reference_average_pool
from minikeras.kernels.reference.pool import average_pool_grad as reference_average_pool_grad
from minikeras.kernels.reference.pool import global_average_pool as reference_global_average_pool
from minikeras.kernels.reference.pool import global_average_pool_grad as reference_global_average_pool_grad
from minikeras.kernels.reference.pool import index_dtype, undilated
from minikeras.kernels.reference.pool import max_pool as reference_max_pool
from minikeras.kernels.reference.pool import max_pool_grad as reference_max_pool_grad


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


def _compiled(x: Any, out: Any = None) -> bool:
    """Whether the loops take these: contiguous float32."""
    return all(array is None or (array.dtype.char == "f" and array.flags.c_contiguous) for array in (x, out))


def max_pool(x: Any, *, size: Ints, strides: Ints, padding: Padding, with_index: bool = False) -> tuple[Any, Any]:
    """See the reference."""
    if not _compiled(x) or index_dtype(size) != "uint8":
        return reference_max_pool(x, size=size, strides=strides, padding=padding, with_index=with_index)
    shape = (x.shape[0], *output_shape(x.shape, size, strides, padding, undilated(size)), x.shape[-1])
    y = empty(shape, x.dtype)
    index = empty(shape, np.dtype(index_dtype(size))) if with_index else None
    if y.size:
        pool_parts().max_pool(x, y, index, _table(x.shape, size, strides, padding)[0])
    return y, index


def max_pool_grad(
    g: Any, index: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    """See the reference."""
    if not g.size or not _compiled(g, out) or index.dtype != np.uint8 or not index.flags.c_contiguous:
        return reference_max_pool_grad(g, index, x_shape, size=size, strides=strides, padding=padding, out=out)
    if out is None:
        out = empty(x_shape, g.dtype)
    geometry = x_shape, size, strides, padding
    pool_parts().max_pool_grad(g, index, out, _table(*geometry)[0], *_coverage(*geometry))
    return out


def average_pool(x: Any, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    """See the reference."""
    if not _compiled(x, out):
        return reference_average_pool(x, size=size, strides=strides, padding=padding, out=out)
    if out is None:
        lengths = output_shape(x.shape, size, strides, padding, undilated(size))
        out = empty((x.shape[0], *lengths, x.shape[-1]), x.dtype)
    if out.size:
        shared().average_pool(x, out, *_table(x.shape, size, strides, padding))
    return out


def average_pool_grad(g: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    """See the reference."""
    if not g.size or not _compiled(g, out):
        return reference_average_pool_grad(g, x_shape, size=size, strides=strides, padding=padding, out=out)
    if out is None:
        out = empty(x_shape, g.dtype)
    shared().average_pool_grad(g, out, *_table(x_shape, size, strides, padding))
    return out


_LONG = 1 << 15  # numbers: shorter arrays are NumPy's
_MANY = 1 << 14  # positions: the compiled pass adds them one after the other, which loses digits


def global_average_pool(x: Any) -> Any:
    """See the reference."""
    if x.size < _LONG or x.shape[1] > _MANY or x.dtype.char != "f" or not x.flags.c_contiguous:
        return reference_global_average_pool(x)
    out = empty((x.shape[0], x.shape[2]), x.dtype)
    shared().global_average_pool(x, out)
    return out


def global_average_pool_grad(g: Any, positions: int) -> Any:
    """See the reference."""
    if g.size * positions < _LONG or g.dtype.char != "f" or not g.flags.c_contiguous:
        return reference_global_average_pool_grad(g, positions)
    out = empty((g.shape[0], positions, g.shape[1]), g.dtype)
    shared().global_average_pool_grad(g, out)
    return out


OVERRIDES = {
    "average_pool": average_pool,
    "average_pool_grad": average_pool_grad,
    "global_average_pool": global_average_pool,
    "global_average_pool_grad": global_average_pool_grad,
    "max_pool": max_pool,
    "max_pool_grad": max_pool_grad,
}
