"""Products of many small matrices, in parts for the team."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Numbers, Plan, host, own_scratch, part, share
from minikeras.kernels.cpu.tile.products import (
    ALONE,
    DIRECT,
    DOTS,
    NO_START,
    PACKED,
    WAKES,
    is_for_columns,
    layout_of_b,
    product_plan,
    way_of,
)
from minikeras.kernels.cpu.tile.register import (
    NO_FLOOR,
    direct_product,
    dot_product,
    even_product,
    pack_all,
    panel_bytes,
    panels,
)
from minikeras.kernels.reference.conv import Ints


@part
def _stack(
    part, worker, a, b, c, none, scratch, each, a_offsets: Numbers, a_row, a_step, b_offsets: Numbers, b_step,
    b_column, count, rows, steps, columns, shares, block, blocks, way, zeros,
):  # fmt: skip
    """A share of the products, of each a block of rows; `none` stands where single products have a bias."""
    own = own_scratch(scratch, each, worker)
    first = part % blocks * block
    size = min(block, rows - first)
    begin, end = share(part // blocks, shares, count)
    c_row = 4 * columns
    for i in range(begin, end):
        a_block, matrix, c_block = a + a_offsets[i] + first * a_row, b + b_offsets[i], c + (i * rows + first) * c_row
        if way == DIRECT:
            direct_product(
                a_block, a_row, a_step, matrix, b_step, zeros, 0, 0, c_block, c_row, size, steps, columns, NO_FLOOR
            )
            continue
        if way == DOTS:
            dot_product(a_block, a_row, matrix, b_column, zeros, 0, 0, c_block, c_row, size, steps, columns, NO_FLOOR)
            continue
        if i == begin or b_offsets[i] != b_offsets[i - 1]:
            pack_all(matrix, b_step, b_column, steps, columns, own)
        for panel in range(panels(columns)):
            column = panel * host.WIDTH
            even_product(
                a_block, a_row, a_step, own + panel * steps * host.PANEL, zeros, 0, c_block + 4 * column, c_row,
                size, steps, min(columns - column, host.WIDTH), NO_FLOOR,
            )  # fmt: skip


_PARTS = 32  # at most, and about so many where there are rows enough


def _offsets(shape: Ints, strides: Ints) -> Any:
    """The offset of every matrix of a stack, in bytes."""
    grid = np.zeros((), np.int64)
    for size, stride in zip(shape, strides, strict=True):
        grid = grid[..., None] + np.arange(size) * stride
    return np.ascontiguousarray(grid.reshape(-1))


def _spread(stack: Ints, shape: Ints, strides: Ints) -> Ints:
    """The strides of leading axes that are repeated to a stack's."""
    new = (0,) * (len(stack) - len(shape))
    return *new, *(0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))


def _merged(shape: Ints, strides: Ints) -> int | None:
    """The bytes from row to row of an array whose leading axes are one axis of rows; None: they are not."""
    each = rows = None
    for size, stride in zip(shape[-2::-1], strides[-2::-1], strict=True):
        if size == 1:
            continue
        if each is None or rows is None:
            each, rows = stride, size
        elif stride != each * rows:
            return None
        else:
            rows *= size
    return each or 0


def stacked_product(a: Any, b: Any) -> Any:
    """As the kernel `matmul`; None, and nothing is done, where the tile does not take the arrays.

    It takes those of float32 that are not empty, where one of the last two axes of `b` is contiguous and not both are
    vectors.
    """
    if not a.dtype.char == b.dtype.char == "f":
        return None
    made = stack_plan(a.shape, a.strides, b.shape, b.strides)
    if made is None:
        return None
    shape, run = made
    c = empty(shape, a.dtype)
    run(a, b, c, None)
    return c


@lru_cache(maxsize=256)  # each has two tables
def stack_plan(
    a_shape: Ints, a_strides: Ints, b_shape: Ints, b_strides: Ints
) -> tuple[Ints, Callable[[Any, Any, Any, Any], None]] | None:
    """What `stacked_product` does for these shapes: (the result's, what does it)."""
    if min(len(a_shape), len(b_shape)) == 0 or len(a_shape) == len(b_shape) == 1 or not host.HAS_VECTORS:
        return None
    if len(a_shape) == 1:
        found = stack_plan((1, *a_shape), (0, *a_strides), b_shape, b_strides)
        return found and ((*found[0][:-2], found[0][-1]), found[1])
    if len(b_shape) == 1:
        found = stack_plan(a_shape, a_strides, (*b_shape, 1), (*b_strides, 4))
        return found and (found[0][:-1], found[1])
    (rows, steps), (a_row, a_step) = a_shape[-2:], a_strides[-2:]
    (there, columns), (b_step, b_column) = b_shape[-2:], b_strides[-2:]
    if steps != there:
        raise ValueError(f"Matrices of the shapes {a_shape} and {b_shape} cannot be multiplied.")
    stack = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    shape = (*stack, rows, columns)
    if 0 in (*shape, steps):
        return None
    if len(b_shape) == 2 and (row := _merged(a_shape, a_strides)) is not None:  # one product over all leading axes
        merged = (math.prod(a_shape[:-1]), steps), (row, a_step)
        whole = product_plan(*merged, b_shape, b_strides, False, False, False, True, True)
        return whole and (shape, whole[1])
    offsets = [
        _offsets(stack, _spread(stack, shape[:-2], strides[:-2]))
        for shape, strides in ((a_shape, a_strides), (b_shape, b_strides))
    ]
    swaps = is_for_columns(rows, columns, 4, a_row, a_step)
    if swaps:
        rows, columns = 1, rows
        (a_row, a_step), (b_step, b_column) = (b_column, b_step), (a_step, a_row)
        offsets.reverse()
    if (layout := layout_of_b(steps, columns, b_step, b_column)) is None:
        return None
    b_step, b_column = layout
    count = math.prod(stack)
    work = count * rows * steps * columns
    shares = min(count, _PARTS) if work >= ALONE else 1
    blocks = min(_PARTS // shares, -(-rows // (8 * host.ROWS))) if work >= ALONE else 1  # such a block has enough rows
    block = -(-rows // blocks)
    blocks = -(-rows // block)
    way = way_of(rows, steps, columns, a_step, b_column)
    plan = Plan(
        _stack, shares * blocks, work >= WAKES, (way == PACKED) * panel_bytes(columns, steps),
        a_offsets=offsets[0], a_row=a_row, a_step=a_step,
        b_offsets=offsets[1], b_step=b_step, b_column=b_column,
        count=count, rows=rows, steps=steps, columns=columns,
        shares=shares, block=block, blocks=blocks, way=way, zeros=NO_START,
    )  # fmt: skip
    return shape, (lambda a, b, c, none: plan.run(b, a, c, none)) if swaps else plan.run
