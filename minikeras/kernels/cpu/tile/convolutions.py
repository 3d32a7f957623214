"""Convolutions of float32 and their gradients, made of tiles, without columns."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Numbers, Plan, floats, host, numbers, own_scratch, part, parts_for, share
from minikeras.kernels.cpu.tile.products import (
    ADDRESSES,
    ALONE,
    NO_START,
    WAKES,
    add_up,
    check_gradient,
    check_shape,
    packed,
    padded_image,
    product,
)
from minikeras.kernels.cpu.tile.register import NO_FLOOR, pack, panels_of, tile
from minikeras.kernels.reference.conv import Ints, Padding, output_shape


class _Geometry:
    """Where a convolution of one shape finds its numbers: tables of byte offsets within an image."""

    def __init__(self, x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints):
        spatial, channels = x_shape[1:-1], x_shape[-1]
        lengths = output_shape(x_shape, size, strides, padding, dilation)
        padded = tuple(before + length + after for length, (before, after) in zip(spatial, padding, strict=True))
        steps = [4 * channels * math.prod(padded[axis + 1 :]) for axis in range(len(padded))]

        def places(counts: Ints, each: Ints, start: Ints) -> Any:
            """Offsets of a grid of so many points, `each` apart."""
            grid = np.zeros((), np.int64)
            for count, distance, first, step in zip(counts, each, start, steps, strict=False):
                grid = grid[..., None] + (first + distance * np.arange(count)) * step
            return grid.reshape(-1)

        zeros = (0,) * len(size)
        self.pixels = math.prod(lengths)
        self.image = 4 * math.prod(x_shape[1:])
        self.padded = 4 * channels * math.prod(padded)
        self.line = 4 * channels * spatial[-1]
        is_padded = any(before or after for before, after in padding)
        self.lines = math.prod(spatial[:-1]) if is_padded else 0
        befores = tuple(before for before, _ in padding)
        self.line_table = places((*spatial[:-1], 1), (1,) * len(size), befores)
        self.positions = places(lengths, strides, zeros)
        taps = places(size, dilation, zeros)
        if dilation[-1] == 1:  # the pixels of a line of the window stand side by side
            self.segments, self.steps = places((*size[:-1], 1), dilation, zeros), size[-1] * channels
        else:
            self.segments, self.steps = taps, channels
        self.kernel_rows = (taps[:, None] + 4 * np.arange(channels)).reshape(-1)
        self.output_lines = places((*lengths[:-1], 1), strides, zeros)
        self.line_length = lengths[-1]
        self.line_step = 4 * channels * strides[-1]
        self.output_shape = lengths


_geometry = lru_cache(maxsize=256)(_Geometry)


def convolution(
    x: Any, kernel: Any, bias: Any = None, *, strides: Ints, padding: Padding, dilation: Ints, relu: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    """The kernel `conv` of contiguous float32 arrays without groups, through relu on request."""
    packs, plan, shape = convolution_plan(x.shape, kernel.shape, strides, padding, dilation, bias is not None, relu)
    if out is None:
        out = empty(shape, x.dtype)
    check_shape("out", out, shape)
    check_shape("bias", bias, shape[-1:])
    weights = packed(kernel.reshape(-1, shape[-1])) if packs else kernel
    plan.run(x, weights, out, NO_START if bias is None else bias)
    return out


@lru_cache(maxsize=256)
def convolution_plan(
    x_shape: Ints, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints, has_bias: bool, relu: bool
) -> tuple[bool, Plan, Ints]:
    """(whether the kernel is packed ahead rather than by each part, what `convolution` does, shape of its result)."""
    if x_shape[-1] != kernel_shape[-2]:
        raise ValueError(f"A kernel of the shape {kernel_shape} takes {kernel_shape[-2]} channels, got {x_shape[-1]}.")
    g = _geometry(x_shape, kernel_shape[:-2], strides, padding, dilation)
    images, filters = x_shape[0], kernel_shape[-1]
    rows, steps = images * g.pixels, len(g.segments) * g.steps
    work = rows * steps * filters
    each = max(images // 16, -(-64 // g.pixels)) if work >= ALONE else images  # images of a block
    blocks = -(-images // each)
    groups = panels_of(filters) if blocks == 1 and work >= ALONE else 1
    scratch = (each * g.padded if g.lines else 0) + (0 if blocks > 1 else steps * host.PANEL)
    plan = Plan(
        product, blocks * groups, work >= WAKES, scratch + ADDRESSES,
        a_image=g.image, positions=g.pixels, table=g.positions,
        segments=g.segments, count=len(g.segments), steps=g.steps, step=4,
        b_packed=blocks > 1, b_step=4 * filters, b_column=4,
        c_row=4 * filters, rows=rows, columns=filters, block=each * g.pixels, groups=groups,
        start_row=0, start_column=4 if has_bias else 0, relu=relu,
        lines=g.lines, line=g.line, line_table=g.line_table, padded=g.padded,
    )  # fmt: skip
    return blocks > 1, plan, (images, *g.output_shape, filters)


@part
def _kernel_grad(
    part, parts, worker, a, b, c, start, scratch, each, a_image, rows, table: Numbers, lines_of_outputs: Numbers, count,
    steps, step, c_row, images, columns, block, lines, line, line_table: Numbers, padded,
):  # fmt: skip
    """One share of the images, `block` at a time: sums over their pixels, for all rows (taps and channels) and filters.

    Row r of A is at `a + table[r]`; a segment is a line of outputs, `count` of them in an image.
    """
    own = own_scratch(scratch, each, worker)
    at, addresses = own, numbers(own)
    segments_at, segments = own + ADDRESSES, numbers(own + ADDRESSES)
    pixels = count * steps  # of an image
    panel = segments_at + -(-block * count * 8 // 64) * 64
    images_at = panel + block * pixels * host.PANEL
    step_of_image = padded if lines else a_image
    for image in range(block):
        for output_line in range(count):
            segments[image * count + output_line] = image * step_of_image + lines_of_outputs[output_line]
    total = c + part * rows * c_row
    begin, end = share(part, parts, images)
    for first in range(begin, end, block):
        size = min(block, end - first)
        source = a + first * a_image
        if lines:
            for image in range(size):
                padded_image(source + image * a_image, lines, line, line_table, padded, images_at + image * padded)
            source = images_at
        for column in range(0, columns, host.WIDTH):
            left = columns - column
            pixels_at = b + first * pixels * c_row + column * 4
            pack(pixels_at, c_row, 4, size * pixels, min(left, host.WIDTH), panel)
            for row in range(0, rows, host.ROWS):
                for r in range(host.ROWS):
                    q = min(row + r, rows - 1)
                    addresses[r] = source + table[q]
                    addresses[2 * host.ROWS + r] = total + q * c_row + column * 4
                    addresses[host.ROWS + r] = start if first == begin else addresses[2 * host.ROWS + r]
                starts, cs = at + 8 * host.ROWS, at + 16 * host.ROWS
                tile(at, starts, cs, segments_at, size * count, steps, step, panel, NO_FLOOR, left)


_SHARES = 8  # of the images in a kernel gradient; fixed, so that sums do not depend on the number of threads
_BLOCK_BYTES = 1 << 17  # of packed pixels: they stay in the cache of a core


def convolution_kernel_grad(
    x: Any, gradient: Any, kernel_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    """The kernel `conv_kernel_grad` of contiguous float32 arrays without groups."""
    if out is None:
        out = empty(kernel_shape, x.dtype)
    check_shape("out", out, kernel_shape)
    shares, plan = kernel_grad_plan(x.shape, gradient.shape, kernel_shape, strides, padding, dilation)
    sums = out if shares == 1 else empty((shares, out.size), x.dtype)
    plan.run(x, gradient, sums, NO_START)
    if shares > 1:
        add_up(sums, out)
    return out


@lru_cache(maxsize=256)
def kernel_grad_plan(
    x_shape: Ints, gradient_shape: Ints, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints
) -> tuple[int, Plan]:
    """(how many sums there are to add up, what `convolution_kernel_grad` does)."""
    g = _geometry(x_shape, kernel_shape[:-2], strides, padding, dilation)
    images, filters, rows = x_shape[0], kernel_shape[-1], len(g.kernel_rows)
    check_gradient(x_shape, gradient_shape, kernel_shape, (images, *g.output_shape, filters))
    shares, lines = min(images, _SHARES), len(g.output_lines)
    most = max(min(-(-images // shares), _BLOCK_BYTES // (g.pixels * host.PANEL)), 1)
    scratch = most * (8 * lines + g.pixels * host.PANEL + (g.padded if g.lines else 0)) + 64 + ADDRESSES
    plan = Plan(
        _kernel_grad, shares, images * g.pixels * rows * filters >= WAKES, scratch,
        a_image=g.image, rows=rows, table=g.kernel_rows,
        lines_of_outputs=g.output_lines, count=lines, steps=g.line_length, step=g.line_step,
        c_row=4 * filters, images=images, columns=filters, block=most,
        lines=g.lines, line=g.line, line_table=g.line_table, padded=g.padded,
    )  # fmt: skip
    return shares, plan


@part
def _turn_round(part, parts, taps, channels, filters, kernel, out):
    """Some taps of a kernel, the last of which comes first, each transposed."""
    first, last = share(part, parts, taps)
    size = channels * filters
    for tap in range(first, last):
        source, target = floats(kernel + 4 * (taps - 1 - tap) * size), floats(out + 4 * tap * size)
        for f in range(filters):
            for c in range(channels):
                target[f * channels + c] = source[c * filters + f]


def turned_round(kernel: Any, padding: Padding, dilation: Ints) -> tuple[Any, Padding]:
    """(kernel, padding) of the convolution that is a convolution's input gradient.

    Channels and filters are exchanged, and the window begins at its other end.
    """
    size = kernel.shape[:-2]
    turned = empty((*size, kernel.shape[-1], kernel.shape[-2]), kernel.dtype)
    taps, (channels, filters) = math.prod(size), kernel.shape[-2:]
    _turn_round.run(
        min(taps, parts_for(kernel.size)), taps=taps, channels=channels, filters=filters, kernel=kernel, out=turned
    )
    reach = [d * (k - 1) for k, d in zip(size, dilation, strict=True)]
    return turned, tuple((r - before, r - after) for r, (before, after) in zip(reach, padding, strict=True))


def convolution_input_grad(
    gradient: Any, kernel: Any, x_shape: Ints, *, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    """The kernel `conv_input_grad` of contiguous float32 arrays without groups or strides.

    The padding must be smaller than the window.
    """
    turned, around = turned_round(kernel, padding, dilation)
    return convolution(gradient, turned, strides=(1,) * len(padding), padding=around, dilation=dilation, out=out)
