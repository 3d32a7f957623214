"""Convolutions on the CPU: of float32 in the tile, without columns; others with the columns of a few windows at a time.

The tile (tile/) takes ordinary convolutions of float32, and their input gradients where the strides are 1; large ones
with windows of 3 x 3 are left to Winograd's method.  For others, columns are made for so few windows at a
time that BLAS finds them in the cache.  The compiled loops know one spatial axis, the flattened one: `window_table`
says where each window takes its inputs from, whatever the rank, stride, padding and dilation.  They index with unsigned
integers, because Numba otherwise allows for negative indices and the loops do not become vector code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty
from minikeras.kernels.cpu.compiler import Doubles, Floats, Numbers, Words, host, inner, part, parts_for, share
from minikeras.kernels.cpu.tile import convolutions, winograd
from minikeras.kernels.cpu.tile.products import matrix_product
from minikeras.kernels.reference import conv as reference
from minikeras.kernels.reference.conv import Ints, Padding, is_pointwise, output_shape, taps
from minikeras.kernels.table import Kernels, contiguous_floats, override

_BLOCK_BYTES = 1 << 21  # of columns at a time: they stay near the cores, and BLAS starts its threads rarely


@lru_cache(maxsize=64)
def window_table(x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> Any:
    """(outputs, taps): the flat position in one picture that each window's tap reads, or -1 for padding."""
    positions = np.arange(math.prod(x_shape[1:-1])).reshape(1, *x_shape[1:-1])
    lengths = output_shape(x_shape, size, strides, padding, dilation)
    table = np.full((1, *lengths, math.prod(size)), -1)
    for place, (_, outputs, inputs) in enumerate(taps(x_shape, size, strides, padding, dilation)):
        table[(*outputs, place)] = positions[inputs]
    table.flags.writeable = False
    return table.reshape(-1, table.shape[-1])


def _slice_table(x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> tuple[Any, int]:
    """(table, values per entry): where a window's pixels on the last axis stand side by side, one entry is for all."""
    pixels = 1
    if dilation[-1] == 1 and padding[-1] == (0, 0):
        pixels = size[-1]
        size, padding = (*size[:-1], 1), (*padding[:-1], (0, 1 - pixels))
    return window_table((1, *x_shape[1:-1], 1), size, strides, padding, dilation), pixels * x_shape[-1]


def _tile_takes(array: Any, *others: Any) -> bool:
    """Whether the tile takes these contiguous arrays."""
    if array.dtype.char != "f" or not array.size:
        return False
    return all([other is None or other.size for other in others]) and host.HAS_VECTORS


_LARGE = 1 << 26  # multiplications: where it takes less, loading or compiling Winograd's method does not pay


@lru_cache(maxsize=256)
def winograd_pays(outputs: Ints, kernel_shape: Ints, strides: Ints, dilation: Ints, padding: Padding = ()) -> bool:
    """Whether a convolution that the tile takes is faster by Winograd's method; its kernel's gradient then is too.

    That is for windows of 3 x 3.  It makes 4 x 4 outputs at once, of which those beyond an edge are lost; transforming
    the kernel costs as much as some of these; and with few channels the products do not make up for transformations.
    Whatever the padding.

    Args:
        outputs: (images, *lengths).
    """
    *size, channels, filters = kernel_shape
    if size != [3, 3] or set(strides) != {1} or set(dilation) != {1} or channels < 16 or filters < 8:
        return False
    pixels, tiles = math.prod(outputs), outputs[0] * -(-outputs[1] // 4) * -(-outputs[2] // 4)
    return pixels * math.prod(kernel_shape) >= _LARGE and pixels > 7 * (tiles + 64)


@part
def _gather(
    part, parts, x: Words, columns: Words, table: Numbers, outputs, entries, start, rows, inputs, channels, span
):
    """Fill `columns` with the windows from number `start` on, counted over all pictures; `span` words per entry."""
    first, end = share(part, parts, rows)
    at = first * entries * span
    for row in range(start + first, start + end):
        picture, position = row // outputs, row % outputs
        for entry in range(entries):
            place = table[position * entries + entry]
            if place < 0:
                for j in range(span):
                    columns[at + j] = 0
            else:
                source = (picture * inputs + place) * channels
                for j in range(span):
                    columns[at + j] = x[source + j]
            at += span


@inner
def _scatter_rows(columns, x, zero, table, outputs, entries, start, rows, inputs, channels, span):
    """Add `columns` to where `_gather` takes them from; a picture begins as zeros with its first window."""
    at = 0
    for row in range(start, start + rows):
        picture, position = row // outputs, row % outputs
        if position == 0:
            for j in range(picture * inputs * channels, (picture + 1) * inputs * channels):
                x[j] = zero
        for entry in range(entries):
            place = table[position * entries + entry]
            if place >= 0:
                target = (picture * inputs + place) * channels
                for j in range(span):
                    x[target + j] += columns[at + j]
            at += span


@part
def _scatter(columns: Floats, x: Floats, table: Numbers, outputs, entries, start, rows, inputs, channels, span):
    _scatter_rows(columns, x, np.float32(0), table, outputs, entries, start, rows, inputs, channels, span)


@part
def _scatter_in_float64(
    columns: Doubles, x: Doubles, table: Numbers, outputs, entries, start, rows, inputs, channels, span
):
    _scatter_rows(columns, x, 0.0, table, outputs, entries, start, rows, inputs, channels, span)


def _epilogue(k: Kernels, y: Any, bias: Any, activation: str | None) -> None:
    if bias is not None:
        if bias.shape != y.shape[-1:]:
            raise ValueError(f"bias must have the shape {y.shape[-1:]}, got {bias.shape}.")
        np.add(y, bias, out=y)
    k.activate(y, activation, out=y)


def _blocks(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(_BLOCK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _columns(x: Any, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> Iterator[tuple[slice, Any]]:
    """Matrices (rows, taps * c) of windows that fit the cache, each with the slice of all the rows that it is."""
    n, channels = x.shape[0], x.shape[-1]
    outputs = math.prod(output_shape(x.shape, size, strides, padding, dilation))
    width = math.prod(size) * channels
    if is_pointwise(size, strides, padding, dilation):
        matrix = x.reshape(-1, channels)
        for start, stop in _blocks(n * outputs, width * x.itemsize):
            yield slice(start, stop), matrix[start:stop]
    elif channels == 1:  # the copies would be tiny: take whole tap planes, which are the columns transposed
        geometry = taps(x.shape, size, strides, padding, dilation)
        lengths = output_shape(x.shape, size, strides, padding, dilation)
        for start, stop in _blocks(n, outputs * width * x.itemsize):
            planes = empty((width, stop - start, *lengths, 1), x.dtype)
            planes.fill(0)
            pictures = x[start:stop]
            for plane, (_, reached, inputs) in zip(planes, geometry, strict=True):
                plane[reached] = pictures[inputs]
            yield slice(start * outputs, stop * outputs), planes.reshape(width, -1).T
    else:
        table, span = _slice_table(x.shape, size, strides, padding, dilation)
        outputs, inputs = len(table), math.prod(x.shape[1:-1])
        for start, stop in _blocks(n * outputs, width * x.itemsize):
            columns, words = empty((stop - start, width), x.dtype), x.itemsize // 4
            _gather.run(
                parts_for(columns.size), x=x, columns=columns, table=table, outputs=outputs, entries=table.shape[1],
                start=start, rows=stop - start, inputs=inputs, channels=channels * words, span=span * words,
            )  # fmt: skip
            yield slice(start, stop), columns


_GROUP = 1024  # numbers of an array that belong to one group: where there are fewer, calls would take longer than sums


def _group_pays(array: Any, kernel_shape: Ints, groups: int) -> bool:
    """Whether groups are better convolved one by one than as the reference does, all columns at once."""
    return groups == 1 or (array.size >= groups * _GROUP and set(kernel_shape[:-2]) != {1} and _tile_takes(array))


# when the three overrides are used
_CONV = contiguous_floats("x", "kernel", "bias", "out"), lambda x, kernel, groups: _group_pays(x, kernel.shape, groups)
_OF_INPUT = contiguous_floats("g", "kernel", "out"), lambda g, kernel, groups: _group_pays(g, kernel.shape, groups)
_OF_KERNEL = contiguous_floats("x", "g", "out"), lambda x, kernel_shape, groups: _group_pays(x, kernel_shape, groups)


def _by_group(groups: int, out: Any, one: Callable, *arrays: Any) -> Any:
    """Fill `out` with what `one` makes of each group of the arrays' channels (None is passed on)."""

    def part(array: Any, group: int) -> Any:
        width = array.shape[-1] // groups
        return array[..., group * width : (group + 1) * width]

    for group in range(groups):
        copies = [None if array is None else contiguous(part(array, group)) for array in arrays]
        part(out, group)[...] = one(*copies)
    return out


@override(reference.conv, "cpu", when=_CONV)
def conv(
    k: Kernels, x: Any, kernel: Any, bias: Any, *, groups: int, activation: str | None, out: Any, **geometry: Any
) -> Any:
    if groups > 1:
        if out is None:
            lengths = output_shape(x.shape, kernel.shape[:-2], **geometry)
            out = empty((x.shape[0], *lengths, kernel.shape[-1]), x.dtype)
        return _by_group(groups, out, partial(k.conv, **geometry, activation=activation), x, kernel, bias)
    size, filters = kernel.shape[:-2], kernel.shape[-1]
    takes, relu = _tile_takes(x, kernel, out), activation == "relu"
    if takes and not is_pointwise(size, **geometry):
        lengths = output_shape(x.shape, size, **geometry)
        if winograd_pays((len(x), *lengths), kernel.shape, **geometry):
            out = winograd.convolution(x, kernel, bias, padding=geometry["padding"], relu=relu, out=out)
        else:
            out = convolutions.convolution(x, kernel, bias, **geometry, relu=relu, out=out)
        return out if relu else k.activate(out, activation, out=out)
    if out is None:
        out = empty((x.shape[0], *output_shape(x.shape, size, **geometry), filters), x.dtype)
    if takes:
        rows, y = x.reshape(-1, x.shape[-1]), out.reshape(-1, filters)
        matrix_product(rows, kernel.reshape(-1, filters), bias=bias, relu=relu, out=y)
        return out if relu else k.activate(out, activation, out=out)
    y, weights = out.reshape(-1, filters), kernel.reshape(-1, filters)
    for rows, columns in _columns(x, size, **geometry):
        block = y[rows]
        np.matmul(columns, weights, out=block)
        _epilogue(k, block, bias, activation)
    return out


@override(reference.conv_input_grad, "cpu", when=_OF_INPUT)
def conv_input_grad(k: Kernels, g: Any, kernel: Any, x_shape: Ints, *, groups: int, out: Any, **geometry: Any) -> Any:
    size = kernel.shape[:-2]
    if groups == 1 and is_pointwise(size, **geometry):
        out = empty(x_shape, g.dtype) if out is None else out
        weights = kernel.reshape(-1, kernel.shape[-1])
        k.gemm(g.reshape(-1, g.shape[-1]), weights, tb=True, out=out.reshape(-1, x_shape[-1]))
        return out
    out = empty(x_shape, g.dtype) if out is None else out
    if groups > 1:
        shape = (*x_shape[:-1], x_shape[-1] // groups)
        return _by_group(groups, out, partial(k.conv_input_grad, x_shape=shape, **geometry), g, kernel)
    takes = _tile_takes(g, kernel, out)
    strides, padding, dilation = geometry["strides"], geometry["padding"], geometry["dilation"]
    within = zip(padding, size, dilation, strict=True)
    if takes and set(strides) == {1} and all(max(pair) <= d * (k - 1) for pair, k, d in within):
        if winograd_pays(x_shape[:-1], (*size, *kernel.shape[:-3:-1]), **geometry):
            return winograd.convolution_input_grad(g, kernel, padding=padding, out=out)
        return convolutions.convolution_input_grad(g, kernel, x_shape, padding=padding, dilation=dilation, out=out)
    rows, weights = g.reshape(-1, g.shape[-1]), kernel.reshape(-1, kernel.shape[-1])
    table, span = _slice_table(x_shape, size, **geometry)
    scatter = _scatter if out.dtype.char == "f" else _scatter_in_float64
    for start, stop in _blocks(len(rows), len(weights) * g.itemsize):
        columns = k.gemm(rows[start:stop], weights, tb=True, out=empty((stop - start, len(weights)), g.dtype))
        scatter.run(
            1, columns=columns, x=out, table=table, outputs=len(table), entries=table.shape[1], start=start,
            rows=stop - start, inputs=math.prod(x_shape[1:-1]), channels=x_shape[-1], span=span,
        )  # fmt: skip
    return out


@override(reference.conv_kernel_grad, "cpu", when=_OF_KERNEL)
def conv_kernel_grad(k: Kernels, x: Any, g: Any, kernel_shape: Ints, *, groups: int, out: Any, **geometry: Any) -> Any:
    out = empty(kernel_shape, g.dtype) if out is None else out
    if groups > 1:
        shape = (*kernel_shape[:-1], kernel_shape[-1] // groups)
        return _by_group(groups, out, partial(k.conv_kernel_grad, kernel_shape=shape, **geometry), x, g)
    if _tile_takes(x, g, out):
        if is_pointwise(kernel_shape[:-2], **geometry):
            matrix = x.reshape(-1, x.shape[-1])
            k.gemm(matrix, g.reshape(-1, g.shape[-1]), ta=True, out=out.reshape(matrix.shape[1], -1))
            return out
        if winograd_pays(g.shape[:-1], kernel_shape, **geometry):
            return winograd.convolution_kernel_grad(x, g, kernel_shape, padding=geometry["padding"], out=out)
        return convolutions.convolution_kernel_grad(x, g, kernel_shape, **geometry, out=out)
    g, total = g.reshape(-1, g.shape[-1]), out.reshape(-1, g.shape[-1])
    total.fill(0)
    part = empty(total.shape, total.dtype)
    for rows, columns in _columns(x, kernel_shape[:-2], **geometry):
        np.matmul(columns.T, g[rows], out=part)
        np.add(total, part, out=total)
    return out
