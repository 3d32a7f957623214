"""Maximum and average over windows of one, two or three spatial axes, channels-last.

`size` and `strides` hold one entry per spatial axis, `padding` one (before, after) each.  Padding never takes part: it
counts as minus infinity for a maximum and is left out of an average's count.
"""

from __future__ import annotations

import math
from typing import Any

from minikeras.kernels.reference.conv import Ints, Padding, output_shape, taps
from minikeras.kernels.table import Kernels, kernel


def undilated(size: Ints) -> Ints:
    """The dilation of a pooling window: 1 on every axis."""
    return (1,) * len(size)


def index_dtype(size: Ints) -> str:
    """The smallest type that counts the taps of a window."""
    count = math.prod(size)
    return "uint8" if count <= 1 << 8 else "uint16" if count <= 1 << 16 else "uint32"


@kernel
def max_pool(
    k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, with_index: bool = False
) -> tuple[Any, Any]:
    """(maxima (n, *outputs, c), index of the winning tap or None); the first tap wins a tie, and NaN wins over numbers.

    The index counts the window's positions in row-major order; `max_pool_grad` needs it.
    """
    geometry = x.shape, size, strides, padding, undilated(size)
    y = k.empty((x.shape[0], *output_shape(*geometry), x.shape[-1]), x.dtype)
    y.fill(-math.inf)
    index = None
    if with_index:
        index = k.empty(y.shape, k.xp.dtype(index_dtype(size)))
        index.fill(0)
    last = math.prod(size) - 1
    for place, (_, outputs, inputs) in enumerate(reversed(taps(*geometry))):  # from the last tap: the first has its say
        best, value = y[outputs], x[inputs]
        if index is not None:
            won = (value >= best) | (value != value)
            part = index[outputs]
            part[...] = k.xp.where(won, last - place, part)
        k.xp.maximum(best, value, out=best)
    return y, index


@kernel
def max_pool_grad(
    k: Kernels, g: Any, index: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    """The gradient at the input of a `max_pool` that gave `index`: each output's gradient goes to the tap that won."""
    out = k.empty(x_shape, g.dtype) if out is None else out
    out.fill(0)
    for place, (_, outputs, inputs) in enumerate(taps(x_shape, size, strides, padding, undilated(size))):
        part = out[inputs]
        k.xp.add(part, k.xp.where(index[outputs] == place, g[outputs], 0), out=part)
    return out


def _counts(k: Kernels, x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dtype: Any) -> Any:
    """How many inputs each window holds: a number, or (*outputs, 1) where padding leaves some out; 1 for none."""
    xp = k.xp
    if not any(before or after for before, after in padding):
        return math.prod(size)
    counts: Any = 1
    lengths = output_shape(x_shape, size, strides, padding, undilated(size))
    for axis, (length, outputs) in enumerate(zip(x_shape[1:-1], lengths, strict=True)):
        start = xp.arange(outputs) * strides[axis] - padding[axis][0]
        along = xp.clip(start + size[axis], 0, length) - xp.clip(start, 0, length)
        counts = counts * along.reshape(-1, *(1,) * (len(size) - axis))
    return xp.maximum(counts, 1).astype(dtype)


@kernel
def average_pool(k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    """The mean of each window's inputs, padding not counted: (n, *outputs, c)."""
    geometry = x.shape, size, strides, padding, undilated(size)
    out = k.empty((x.shape[0], *output_shape(*geometry), x.shape[-1]), x.dtype) if out is None else out
    out.fill(0)
    for _, outputs, inputs in taps(*geometry):
        part = out[outputs]
        k.xp.add(part, x[inputs], out=part)
    return k.xp.divide(out, _counts(k, x.shape, size, strides, padding, x.dtype), out=out)


@kernel
def average_pool_grad(
    k: Kernels, g: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    """The gradient at the input of `average_pool`: each output's gradient, in equal parts, to its window's inputs."""
    out = k.empty(x_shape, g.dtype) if out is None else out
    out.fill(0)
    share = g / _counts(k, x_shape, size, strides, padding, g.dtype)
    for _, outputs, inputs in taps(x_shape, size, strides, padding, undilated(size)):
        part = out[inputs]
        k.xp.add(part, share[outputs], out=part)
    return out


@kernel
def global_average_pool(k: Kernels, x: Any) -> Any:
    """The mean of each channel over all positions: `x` (n, positions, c) gives (n, c)."""
    return k.average(x, 1)


@kernel
def global_average_pool_grad(k: Kernels, g: Any, positions: int) -> Any:
    """The gradient at the input of `global_average_pool`: `g` (n, c), in equal parts, to all positions."""
    out = k.empty((g.shape[0], positions, g.shape[1]), g.dtype)
    out[...] = (g / positions)[:, None]
    return out
