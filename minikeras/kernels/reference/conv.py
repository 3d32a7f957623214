"""Convolution over one, two or three spatial axes, as matrix products of window columns.

Everything is channels-last: inputs (n, *spatial, channels), kernels (*size, channels, filters).  A convolution is a
correlation: the kernel is not flipped.  `strides`, `dilation` and `padding` hold one entry per spatial axis, and an
entry of `padding` is always explicit: how many zeros stand (before, after) the input.  Output length and the "same"
padding follow `conv_output_length` and `same_padding`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

from minikeras.kernels.table import Kernels, kernel

Ints = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """(before, after) of an axis so that the output length is ceil(size / stride); an odd one goes after."""
    total = max((math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def conv_output_length(
    size: int, kernel: int, stride: int = 1, dilation: int = 1, before: int = 0, after: int = 0
) -> int:
    """How many windows fit on an axis; 0 where the window is longer than the padded axis."""
    return max((size + before + after - dilation * (kernel - 1) - 1) // stride + 1, 0)


@lru_cache(maxsize=256)
def output_shape(x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> Ints:
    """Output lengths of all spatial axes."""
    axes = zip(x_shape[1:-1], size, strides, dilation, padding, strict=True)
    return tuple(conv_output_length(length, k, s, d, before, after) for length, k, s, d, (before, after) in axes)


@lru_cache(maxsize=256)
def taps(x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> Sequence[tuple]:
    """For every tap of the window: (tap, the outputs that it gives, the inputs that it takes them from).

    A tap is its position in the window; the other two index (n, *spatial) and leave out what lies in the padding.
    """
    axes = []
    lengths = output_shape(x_shape, size, strides, padding, dilation)
    for length, outputs, k, s, d, (before, _) in zip(
        x_shape[1:-1], lengths, size, strides, dilation, padding, strict=True
    ):
        axis = []
        for tap in range(k):
            shift = tap * d - before  # output o takes input o * s + shift
            first = max(-(shift // s), 0)
            last = min((length - 1 - shift) // s + 1, outputs)
            inputs = slice(first * s + shift, (last - 1) * s + shift + 1, s)
            axis.append((tap, slice(first, last), inputs) if first < last else (tap, slice(0, 0), slice(0, 0)))
        axes.append(axis)
    batch = slice(None)
    found = []
    for reached in product(*axes):
        position, outputs_of, inputs_of = zip(*reached, strict=True)
        found.append((position, (batch, *outputs_of), (batch, *inputs_of)))
    return tuple(found)


def _padded(k: Kernels, x: Any, padding: Padding) -> Any:
    if not any(before or after for before, after in padding):
        return x
    lengths = [before + length + after for length, (before, after) in zip(x.shape[1:-1], padding, strict=True)]
    padded = k.empty((x.shape[0], *lengths, x.shape[-1]), x.dtype)
    padded.fill(0)
    inside = [slice(before, before + length) for length, (before, _) in zip(x.shape[1:-1], padding, strict=True)]
    padded[(slice(None), *inside)] = x
    return padded


def is_pointwise(size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    """Whether the input itself is the matrix of columns: a window of one value, at every position."""
    return set(size) == set(strides) == {1} and not any(before or after for before, after in padding)


def _grouped(array: Any, groups: int) -> Any:
    """(..., channels) seen as (groups, rows, channels / groups), without a copy of a contiguous array."""
    return array.reshape(-1, groups, array.shape[-1] // groups).transpose(1, 0, 2)


def _columns(k: Kernels, x: Any, size: Ints, strides: Ints, padding: Padding, dilation: Ints, groups: int) -> Any:
    """Every window of `x` as a row: (groups, n * outputs, taps * channels / groups)."""
    if is_pointwise(size, strides, padding, dilation):
        return _grouped(x, groups)
    n, channels = x.shape[0], x.shape[-1] // groups
    lengths = output_shape(x.shape, size, strides, padding, dilation)
    x = _padded(k, x, padding)
    between = [
        step * each for each_of in (strides, dilation) for step, each in zip(x.strides[1:-1], each_of, strict=True)
    ]
    steps = (channels * x.strides[-1], x.strides[0], *between, x.strides[-1])
    windows = k.xp.lib.stride_tricks.as_strided(x, (groups, n, *lengths, *size, channels), steps)
    columns = k.empty(windows.shape, x.dtype)
    columns[...] = windows
    return columns.reshape(groups, n * math.prod(lengths), math.prod(size) * channels)


def epilogue(k: Kernels, y: Any, bias: Any, activation: str | None) -> Any:
    if bias is not None:
        k.xp.add(y, bias, out=y)
    return k.activate(y, activation, out=y)


@kernel
def conv(
    k: Kernels,
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    activation: str | None = None,
    out: Any = None,
) -> Any:
    """`activation(x * kernel + bias)`: `x` (n, *spatial, c), `kernel` (*size, c / groups, f), `bias` (f,) or None.

    Returns (n, *outputs, f).  Filters and channels fall into `groups` equal parts; each part sees only its own.
    """
    size = kernel.shape[:-2]
    if out is None:
        lengths = output_shape(x.shape, size, strides, padding, dilation)
        out = k.empty((x.shape[0], *lengths, kernel.shape[-1]), x.dtype)
    columns = _columns(k, x, size, strides, padding, dilation, groups)
    k.xp.matmul(columns, _grouped(kernel, groups), out=_grouped(out, groups))
    return epilogue(k, out, bias, activation)


@kernel
def conv_input_grad(
    k: Kernels,
    g: Any,
    kernel: Any,
    x_shape: Ints,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    out: Any = None,
) -> Any:
    """The gradient at a convolution's input, from the gradient `g` before the bias."""
    xp = k.xp
    size, channels = kernel.shape[:-2], kernel.shape[-2]
    out = k.empty(x_shape, g.dtype) if out is None else out
    transposed = _grouped(kernel, groups).transpose(0, 2, 1)
    if is_pointwise(size, strides, padding, dilation):
        xp.matmul(_grouped(g, groups), transposed, out=_grouped(out, groups))
        return out
    columns = k.empty((groups, *g.shape[:-1], *size, channels), g.dtype)
    xp.matmul(_grouped(g, groups), transposed, out=columns.reshape(groups, -1, transposed.shape[-1]))
    out.fill(0)
    by_group = xp.moveaxis(out.reshape(*x_shape[:-1], groups, channels), -2, 0)
    for tap, outputs, inputs in taps(x_shape, size, strides, padding, dilation):
        part = by_group[(slice(None), *inputs)]
        xp.add(part, columns[(slice(None), *outputs, *tap)], out=part)
    return out


@kernel
def conv_kernel_grad(
    k: Kernels,
    x: Any,
    g: Any,
    kernel_shape: Ints,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    out: Any = None,
) -> Any:
    """The gradient of a convolution's kernel, from its input `x` and the gradient `g` before the bias."""
    out = k.empty(kernel_shape, g.dtype) if out is None else out
    columns = _columns(k, x, kernel_shape[:-2], strides, padding, dilation, groups)
    k.xp.matmul(columns.transpose(0, 2, 1), _grouped(g, groups), out=_grouped(out, groups))
    return out
