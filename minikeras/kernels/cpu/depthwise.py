"""Depthwise convolutions on the CPU: sums of products along lists of places, whatever the rank, stride and dilation.

Of float32 the team makes them, in vector registers (depthwise_parts.py); of float64, and where there are none, one
compiled loop.  Several filters per channel are one each of a repeated channel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.conv import window_table
from minikeras.kernels.cpu.jit import lazy, lazy_njit, tile
from minikeras.kernels.reference import depthwise as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.table import Kernels, contiguous_floats, override

_NEAR = 2048  # numbers of a gradient that stay in the fastest cache while all taps go over them


@lru_cache(maxsize=64)
def _lists(what: str, spatial: Ints, size: Ints, filters: int, strides: Ints, padding: Padding, dilation: Ints) -> Any:
    """For each row of a result, which numbers are multiplied: (where a row's stretch begins, places in A, in B).

    The rows of `"output"` are the outputs, made of inputs (A) and taps (B); those of `"input"` the inputs, of gradients
    and taps; those of `"kernel"` the taps, of inputs and gradients, once for each stretch of outputs.
    """
    table = window_table((1, *spatial, 1), size, strides, padding, dilation)
    outputs, taps = table.shape
    output, tap = np.nonzero(table >= 0)
    place = table[output, tap]
    if what == "output":
        row, a, b, rows = output, place, tap, outputs
    elif what == "input":
        row, a, b, rows = place, output, tap, math.prod(spatial)
    else:
        near = max(_NEAR // filters, 1)
        row, a, b, rows = output // near * taps + tap, place, output, -(-outputs // near) * taps
    order = np.argsort(row, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return starts, a[order] * filters, b[order] * filters


@lazy_njit
def _rows(starts, a_places, b_places, a, b, a_step, b_step, pictures, out):  # type: ignore[no-untyped-def]
    """Row r of the lists is added to row `r % len(out)` of the result, of all pictures."""
    channels = np.uint64(out.shape[1])
    total = np.empty(out.shape[1], out.dtype)  # of one row of the lists: sums of sums round less
    out[:] = 0
    row = 0
    for picture in range(pictures):
        for r in range(len(starts) - 1):
            total[:] = 0
            for k in range(starts[r], starts[r + 1]):
                here, there = np.uint64(picture * a_step + a_places[k]), np.uint64(picture * b_step + b_places[k])
                for j in range(channels):
                    total[j] += a[here + j] * b[there + j]
            out[row] += total
            row = row + 1 if row + 1 < len(out) else 0


def _sums(
    k: Kernels,
    what: str,
    a: Any,
    b: Any,
    out: Any,
    x_shape: Ints,
    size: Ints,
    bias: Any = None,
    relu: bool = False,
    **geometry: Any,
) -> None:
    """Fill `out`, rows of filters, with the sums that `_lists` describes; pictures of `"kernel"` add up."""
    pictures, folded = x_shape[0], what == "kernel"
    lists = _lists(what, x_shape[1:-1], size, out.shape[1], **geometry)
    steps = a.size // pictures, b.size // pictures if folded else 0
    if a.dtype.char == "f" and tile() is not None:
        module = lazy("depthwise_parts")
        if folded:
            module.folded_rows(lists, a, b, steps, pictures, out)
        else:
            module.rows(lists, a, b, steps, pictures, out, bias, relu)
    else:
        _rows(*lists, a.reshape(-1), b.reshape(-1), *steps, pictures, out)
        if bias is not None:
            out += bias
        if relu:
            k.activate(out, "relu", out=out)


def _check_gradient(g: Any, x_shape: Ints, kernel_shape: Ints, **geometry: Any) -> None:
    """The loops do not look at shapes: an array that is too small would have them read beside it."""
    fitting = (x_shape[0], *output_shape(x_shape, kernel_shape[:-2], **geometry), math.prod(kernel_shape[-2:]))
    if g.shape != fitting or x_shape[-1] != kernel_shape[-2]:
        raise ValueError(
            f"Inputs of the shape {x_shape} and a gradient of {g.shape} do not belong to a kernel of {kernel_shape}."
        )


def _repeated(x: Any, multiplier: int) -> Any:
    return x if multiplier == 1 else np.repeat(x, multiplier, axis=-1)


@override(reference.depthwise_conv, "cpu", when=contiguous_floats("x", "kernel", "bias", "out"))
def depthwise_conv(
    k: Kernels, x: Any, kernel: Any, bias: Any, *, activation: str | None, out: Any, **geometry: Any
) -> Any:
    size, filters = kernel.shape[:-2], kernel.shape[-2] * kernel.shape[-1]
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"A kernel of the shape {kernel.shape} takes {kernel.shape[-2]} channels, got {x.shape[-1]}.")
    if bias is not None and bias.shape != (filters,):
        raise ValueError(f"bias must have the shape {(filters,)}, got {bias.shape}.")
    if out is None:
        out = empty((x.shape[0], *output_shape(x.shape, size, **geometry), filters), x.dtype)
    if out.size:
        y, relu = out.reshape(-1, filters), activation == "relu"
        _sums(k, "output", _repeated(x, kernel.shape[-1]), kernel, y, x.shape, size, bias, relu, **geometry)
        if not relu:
            k.activate(out, activation, out=out)
    return out


@override(reference.depthwise_conv_input_grad, "cpu", when=contiguous_floats("g", "kernel", "out"))
def depthwise_conv_input_grad(k: Kernels, g: Any, kernel: Any, x_shape: Ints, *, out: Any, **geometry: Any) -> Any:
    _check_gradient(g, x_shape, kernel.shape, **geometry)
    multiplier = kernel.shape[-1]
    out = empty(x_shape, g.dtype) if out is None else out
    repeated = out if multiplier == 1 else empty((*x_shape, multiplier), g.dtype)
    _sums(k, "input", g, kernel, repeated.reshape(-1, g.shape[-1]), x_shape, kernel.shape[:-2], **geometry)
    if multiplier > 1:
        np.copyto(out, repeated[..., 0])
        for m in range(1, multiplier):  # np.sum is slow over a short last axis
            np.add(out, repeated[..., m], out=out)
    return out


@override(reference.depthwise_conv_kernel_grad, "cpu", when=contiguous_floats("g", "x", "out"))
def depthwise_conv_kernel_grad(k: Kernels, x: Any, g: Any, kernel_shape: Ints, *, out: Any, **geometry: Any) -> Any:
    _check_gradient(g, x.shape, kernel_shape, **geometry)
    out = empty(kernel_shape, g.dtype) if out is None else out
    rows, size = out.reshape(-1, g.shape[-1]), kernel_shape[:-2]
    _sums(k, "kernel", _repeated(x, kernel_shape[-1]), g, rows, x.shape, size, **geometry)
    return out
