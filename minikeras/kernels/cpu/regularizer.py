"""Penalties on the CPU: one pass, cut by the number of weights alone, whose parts are added up in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.cast import is_float32
from minikeras.kernels.cpu.compiler import FAST, Doubles, Floats, inner, part, parts_for, share_of_lines
from minikeras.kernels.reference import regularizer as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override, same_shape

_ZERO, _ONE = np.float32(0), np.float32(1)
_BLOCK = 512  # so many float32 numbers are added in their own type


@part(fastmath=FAST)
def _sizes(part, parts, size, x: Floats, sums: Doubles):
    """The sums of absolute values and of squares of each part."""
    first, last = share_of_lines(part, parts, size)
    total, squares = 0.0, 0.0
    for start in range(first, last, _BLOCK):
        some, some_squares = _ZERO, _ZERO
        for i in range(start, min(start + _BLOCK, last)):
            some += abs(x[i])
            some_squares += x[i] * x[i]
        total += np.float64(some)
        squares += np.float64(some_squares)
    sums[2 * part] = total
    sums[2 * part + 1] = squares


@part
def _penalty(part, slices, sums: Doubles, out: Floats, l1: float, l2: float):
    total, squares = 0.0, 0.0
    for i in range(slices):
        total += sums[2 * i]
        squares += sums[2 * i + 1]
    value = l1 * total if l1 != 0.0 else 0.0
    out[0] = np.float32(value + (l2 * squares if l2 != 0.0 else 0.0))


@override(reference.penalty, "cpu", when=contiguous_float32("x"))
def penalty(k: Kernels, x: Any, l1: float, l2: float) -> Any:
    slices, out = parts_for(x.size), empty((), x.dtype)
    sums = empty((2 * slices,), np.dtype(np.float64))
    _sizes.run(slices, size=x.size, x=x, sums=sums)
    _penalty.run(1, slices=slices, sums=sums, out=out, l1=float(l1), l2=float(l2))
    return out


@inner
def _sign(x):
    return _ONE if x > _ZERO else -_ONE if x < _ZERO else x


@part
def _penalty_grad(part, parts, size, g: Floats, x: Floats, out: Floats, l1: np.float32, l2: np.float32):
    first, last = share_of_lines(part, parts, size)
    flat, steep = g[0] * l1, g[0] * l2
    if l1 == _ZERO:
        for i in range(first, last):
            out[i] = x[i] * steep
    else:
        for i in range(first, last):
            out[i] = x[i] * steep + _sign(x[i]) * flat


@override(
    reference.penalty_grad,
    "cpu",
    when=(contiguous_float32("x", "out"), same_shape("x", "out"), lambda g: g.size == 1 and is_float32(g)),
)
def penalty_grad(k: Kernels, g: Any, x: Any, l1: float, l2: float, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    _penalty_grad.run(parts_for(x.size), size=x.size, g=g, x=x, out=out, l1=float(l1), l2=2.0 * l2)
    return out
