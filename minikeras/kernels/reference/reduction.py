"""Sums and means whose rounding errors do not grow with the number of values."""

from __future__ import annotations

import math
from typing import Any

from minikeras.kernels.table import Kernels, kernel

_SHORT = 8192  # numbers: not worth a closer look
_LONG = 512  # so many numbers of float32, one after the other, are added to within half a millionth
_BLOCK = 64  # numbers added in their own type; the blocks' sums are added in float64


@kernel
def total(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    """The sum over `axis` (an integer, several, or None: all), in the type of `x` and exact to its last few bits.

    Array modules add pairwise along the axis whose values lie side by side in memory and one after the other along all
    others, which after a million rows leaves float32 four digits.  Here long sums are cut into blocks.  float16, which
    counts no further than 2048, is added up in float32.
    """
    kind = x.dtype.char
    if kind == "e":
        y = k.total(x.astype(k.xp.float32), axis, keepdims).astype(x.dtype)
    elif kind != "f" or x.size <= _SHORT or (axis in (None, -1) and x.flags.c_contiguous):
        return x.sum(axis=axis, keepdims=keepdims, out=out)
    else:
        axes = axes_of(axis, x.ndim)
        along = _pairwise(x, axes)
        if math.prod([x.shape[i] for i in axes if i not in along]) < _LONG:
            return x.sum(axis=axis, keepdims=keepdims, out=out)
        y = _in_blocks(k, x, axes, along)
        if keepdims:
            y = y.reshape([1 if i in axes else size for i, size in enumerate(x.shape)])
    if out is None:
        return y
    out[...] = y
    return out


@kernel
def average(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean over `axis` of floats, as exact as `total`."""
    if x.size <= _SHORT or x.dtype.char not in "ef" or (axis in (None, -1) and x.flags.c_contiguous):
        return x.mean(axis=axis, keepdims=keepdims)
    if x.dtype.char == "e":
        return k.average(x.astype(k.xp.float32), axis, keepdims).astype(x.dtype)
    return k.total(x, axis, keepdims) / math.prod([x.shape[i] for i in axes_of(axis, x.ndim)])


@kernel
def extreme(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, largest: bool = True) -> Any:
    """The largest or the smallest value over `axis` (an integer, several, or None: all)."""
    return (x.max if largest else x.min)(axis=axis, keepdims=keepdims)


@kernel
def extreme_grad(k: Kernels, g: Any, x: Any, y: Any, axes: tuple[int, ...]) -> Any:
    """The gradient at `x` of `y`, a bound over `axes`, which stay with size 1 in `y` and `g`: those equal to it share.

    It is 0 where none is.
    """
    chosen = (x == y).astype(g.dtype)
    return chosen * (g / k.xp.maximum(chosen.sum(axis=axes, keepdims=True), 1))


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes as ascending numbers from 0.

    Raises:
        ValueError: for one that is out of range or comes twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    if any(not -ndim <= i < ndim for i in axes) or len({i % ndim for i in axes}) < len(axes):
        raise ValueError(f"axis must name different axes of an array with {ndim} of them, got {axis!r}.")
    return tuple(sorted(i % ndim for i in axes))


def _pairwise(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the axes whose values lie side by side in memory."""
    order = range(x.ndim - 1, -1, -1) if x.flags.c_contiguous else range(x.ndim) if x.flags.f_contiguous else ()
    found = []
    for i in order:
        if i not in axes:
            break
        found.append(i)
    return tuple(found)


def _in_blocks(k: Kernels, x: Any, axes: tuple[int, ...], along: tuple[int, ...]) -> Any:
    """The sum over `axes`: first `along` those where it is exact at once, then over one after the other."""
    rest = [i for i in axes if i not in along]
    y = x.sum(axis=along, keepdims=True) if along else x
    if rest == list(range(len(rest))) and y.flags.c_contiguous:  # the rows of a matrix, whatever their axes
        y = y.reshape((1,) * (len(rest) - 1) + (-1,) + y.shape[len(rest) :])
        rest = rest[-1:]
    for i in rest:
        y = _over(k, y, i)
    return y.reshape([size for i, size in enumerate(x.shape) if i not in axes])


def _over(k: Kernels, x: Any, axis: int) -> Any:
    """The sum over one axis, which stays with size 1."""
    rows = x.shape[axis]
    if rows < 2 * _BLOCK:
        return x.sum(axis=axis, keepdims=True)
    whole = rows // _BLOCK * _BLOCK
    before = (slice(None),) * axis
    blocks = x[(*before, slice(whole))].reshape((*x.shape[:axis], -1, _BLOCK, *x.shape[axis + 1 :]))
    y = blocks.sum(axis=axis + 1).sum(axis=axis, keepdims=True, dtype=k.xp.float64)
    if whole < rows:
        y += x[(*before, slice(whole, None))].sum(axis=axis, keepdims=True)
    return y.astype(x.dtype)
