"""Depthwise convolutions on the CPU: sums of products along lists of places, whatever the rank, stride and dilation.

Of float32 the team makes them, in vector registers; of float64, and where there are none, one
compiled loop.  Several filters per channel are one each of a repeated channel.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, empty
from minikeras.kernels.cpu.compiler import (
    FAST,
    Doubles,
    Floats,
    Numbers,
    floats,
    host,
    inner,
    instruction,
    part,
    parts_for,
    share,
)
from minikeras.kernels.cpu.conv import window_table
from minikeras.kernels.cpu.tile.products import add_up, check_gradient
from minikeras.kernels.reference import depthwise as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.table import Kernels, contiguous_floats, override

_NEAR = 2048  # numbers of a gradient that stay in the fastest cache while all taps go over them


@lru_cache(maxsize=64)
def _lists(what: str, spatial: Ints, size: Ints, filters: int, strides: Ints, padding: Padding, dilation: Ints) -> Any:
    """For each row of a result, which numbers are multiplied: (where a row's slice begins, places in A, in B).

    The rows of `"output"` are the outputs, made of inputs (A) and taps (B); those of `"input"` the inputs, of gradients
    and taps; those of `"kernel"` the taps, of inputs and gradients, once for each slice of outputs.
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
    return tuple(map(constant, (starts, a[order] * filters, b[order] * filters)))


@inner
def _sums_of_lists(starts, a_places, b_places, a, b, a_step, b_step, pictures, rows, out, out_rows, channels, zero):
    """Row r of the lists is added to row `r % out_rows` of the result, of all pictures.

    The last row of `out` is beyond the result: the sums of one row of the lists, because sums of sums round less.
    """
    for j in range(out_rows * channels):
        out[j] = zero
    total, row = out_rows * channels, 0
    for picture in range(pictures):
        for r in range(rows):
            for j in range(channels):
                out[total + j] = zero
            for k in range(starts[r], starts[r + 1]):
                here, there = picture * a_step + a_places[k], picture * b_step + b_places[k]
                for j in range(channels):
                    out[total + j] += a[here + j] * b[there + j]
            for j in range(channels):
                out[row + j] += out[total + j]
            row = row + channels if row + channels < total else 0


@part(fastmath=FAST)
def _in_float64(
    starts: Numbers, a_places: Numbers, b_places: Numbers, a: Doubles, b: Doubles, a_step, b_step, pictures, rows,
    out: Doubles, out_rows, channels,
):  # fmt: skip
    _sums_of_lists(starts, a_places, b_places, a, b, a_step, b_step, pictures, rows, out, out_rows, channels, 0.0)


@part(fastmath=FAST)
def _in_float32(
    starts: Numbers, a_places: Numbers, b_places: Numbers, a: Floats, b: Floats, a_step, b_step, pictures, rows,
    out: Floats, out_rows, channels,
):  # fmt: skip
    zero = np.float32(0)
    _sums_of_lists(starts, a_places, b_places, a, b, a_step, b_step, pictures, rows, out, out_rows, channels, zero)


_NONE = constant(np.zeros(64, np.float32))  # as many as a row's sums in registers
_SHARES = 16  # of the rows of a folded result, about; fixed, so that sums do not depend on the number of threads
_VECTORS = 4  # of a row whose sums are in registers


@instruction
def _sum_of_products(b, a_places, b_places, count, a, factors, start, out, floor: np.float32, columns):
    """A row: the first `columns` of its channels, as many as registers have at most.  All but numbers are addresses."""
    lanes = host.LANES
    masks = [b.first_lanes(b.sub(columns, b.constant(v * lanes)), lanes) for v in range(_VECTORS)]

    def places(address: Any) -> list[Any]:
        return [b.at(address, v, 4 * lanes) for v in range(_VECTORS)]

    def vectors(address: Any) -> list[Any]:
        return [b.read(place, "float32", lanes, mask) for place, mask in zip(places(address), masks, strict=True)]

    def number(list_address: Any, k: Any, array: Any) -> Any:
        return b.at(array, b.read(b.at(list_address, k, 8), "int64"))

    with b.loop(count, values=vectors(start)) as loop:
        pairs = zip(
            vectors(number(a_places, loop.index, a)), vectors(number(b_places, loop.index, factors)), strict=True
        )
        loop.following = [b.fma(*pair, before) for pair, before in zip(pairs, loop.values, strict=True)]
    least = b.spread(floor, lanes)
    for total, place, mask in zip(loop.results, places(out), masks, strict=True):
        b.write(b.at_least(total, least), place, mask)


@part
def _rows(
    part, parts, rows, rows_of_picture, starts: Numbers, a_places, b_places, a, b, a_step, b_step, out, start,
    start_step, channels, relu, fold,
):  # fmt: skip
    """Some rows of all pictures: max(floor, start + sum over k of A[a_places[k]] * B[b_places[k]]).

    k runs over the row's slice of the two lists, a place is that of the first of `channels` numbers, and products are
    taken number by number.  A picture has `a_step` and `b_step` numbers in A and in B (0: the same for all), channels
    have starts of their own or not (`start_step`), and where there is a `fold`, row r is added to row r % fold, of a
    result of each part's own.
    """
    floor = np.float32(0) if relu else np.float32(-np.inf)
    own = out + part * fold * channels * 4
    if fold:
        zeros = floats(own)
        for j in range(fold * channels):
            zeros[j] = np.float32(0)
    first, last = share(part, parts, rows)
    picture, r, to = first // rows_of_picture, first % rows_of_picture, first % fold if fold else first
    for _ in range(last - first):
        begin, count = starts[r] * 8, starts[r + 1] - starts[r]
        a_at, b_at, target = a + picture * a_step * 4, b + picture * b_step * 4, own + to * channels * 4
        for column in range(0, channels, _VECTORS * host.LANES):
            further = column * 4
            here = target + further
            begin_at, left = here if fold else start + further * start_step, channels - column
            lists, others = a_places + begin, b_places + begin
            _sum_of_products(lists, others, count, a_at + further, b_at + further, begin_at, here, floor, left)
        r, to = r + 1, to + 1
        if r == rows_of_picture:
            r, picture = 0, picture + 1
        if to == fold:
            to = 0


def _sums(
    k: Kernels, what: str, a: Any, b: Any, out: Any, x_shape: Ints, size: Ints, bias: Any = None, relu: bool = False,
    **geometry: Any,
) -> None:  # fmt: skip
    """Fill `out`, rows of filters, with the sums that `_lists` describes; pictures of `"kernel"` add up."""
    pictures, folded = x_shape[0], what == "kernel"
    starts, a_places, b_places = _lists(what, x_shape[1:-1], size, out.shape[1], **geometry)
    a_step, b_step = a.size // pictures, b.size // pictures if folded else 0
    if a.dtype.char != "f" or not host.HAS_VECTORS:
        sums = empty((len(out) + 1, out.shape[1]), out.dtype)
        plain = _in_float32 if a.dtype.char == "f" else _in_float64
        plain.run(
            1, starts=starts, a_places=a_places, b_places=b_places, a=a, b=b, a_step=a_step, b_step=b_step,
            pictures=pictures, rows=len(starts) - 1, out=sums, out_rows=len(out), channels=out.shape[1],
        )  # fmt: skip
        out[...] = sums[:-1]
        if bias is not None:
            out += bias
        if relu:
            k.activate(out, "relu", out=out)
        return
    count = pictures * (len(starts) - 1)
    parts = min(_SHARES if folded else parts_for(out.size), count)
    sums = empty((parts, *out.shape), out.dtype) if folded else out
    _rows.run(
        parts, rows=count, rows_of_picture=len(starts) - 1, starts=starts, a_places=a_places, b_places=b_places, a=a,
        b=b, a_step=a_step, b_step=b_step, out=sums, start=_NONE if bias is None else bias, start_step=bias is not None,
        channels=out.shape[1], relu=relu, fold=len(out) if folded else 0,
    )  # fmt: skip
    if folded:
        add_up(sums, out)


def _check_gradient(g: Any, x_shape: Ints, kernel_shape: Ints, **geometry: Any) -> None:
    """The loops do not look at shapes: an array that is too small would have them read beside it."""
    fitting = (x_shape[0], *output_shape(x_shape, kernel_shape[:-2], **geometry), math.prod(kernel_shape[-2:]))
    check_gradient(x_shape, g.shape, kernel_shape, fitting)


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
        out[...] = repeated[..., 0]
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
