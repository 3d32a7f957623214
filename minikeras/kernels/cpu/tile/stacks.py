"""Products of many small matrices, in parts for the team."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Numbers, host, own_scratch, part, scratch, share
from minikeras.kernels.cpu.tile.products import BLOCK_BYTES, WAKES, block_product
from minikeras.kernels.cpu.tile.register import pack_all, panel_bytes


@part
def _stack(
    part, worker, a, a_offsets: Numbers, a_row, a_step, b, b_offsets: Numbers, b_step, b_column, c, count, rows, steps,
    columns, shares, block, blocks, scratch, each,
):  # fmt: skip
    """A share of the products, of each a block of rows."""
    own = own_scratch(scratch, each, worker)
    panels, panel = own + BLOCK_BYTES, steps * host.PANEL
    first = part % blocks * block
    size = min(block, rows - first)
    begin, end = share(part // blocks, shares, count)
    for i in range(begin, end):
        pack_all(b + b_offsets[i], b_step, b_column, steps, columns, panels)
        a_block, c_block = a + a_offsets[i] + first * a_row, c + (i * rows + first) * columns * 4
        block_product(own, a_block, a_row, a_step, size, steps, panels, panel, columns, c_block, columns * 4, 0)


_PARTS = 32  # at most, and about so many where there are rows enough


@lru_cache(maxsize=256)
def _offsets(shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """The offset of every matrix of a stack, in bytes."""
    grid = np.zeros((), np.int64)
    for size, stride in zip(shape, strides, strict=True):
        grid = grid[..., None] + np.arange(size) * stride
    return np.ascontiguousarray(grid.reshape(-1))


def stacked_product(a: Any, b: Any) -> Any:
    """As the kernel `matmul`, of float32 arrays that are not empty; one of the last two axes of `b` is contiguous."""
    rows, steps = a.shape[-2:]
    columns = b.shape[-1]
    if b.shape[-2] != steps:
        raise ValueError(f"Matrices of the shapes {a.shape} and {b.shape} cannot be multiplied.")
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count = math.prod(stack)
    a, b = np.broadcast_to(a, (*stack, rows, steps)), np.broadcast_to(b, (*stack, steps, columns))
    c = empty((*stack, rows, columns), a.dtype)
    shares = min(count, _PARTS)
    blocks = min(_PARTS // shares, -(-rows // (8 * host.ROWS)))  # a block has so many rows, at least
    block = -(-rows // blocks)
    blocks = -(-rows // block)
    _stack.run(
        shares * blocks, count * rows * steps * columns >= WAKES,
        a=a, a_offsets=_offsets(stack, a.strides[:-2]), a_row=a.strides[-2], a_step=a.strides[-1],
        b=b, b_offsets=_offsets(stack, b.strides[:-2]), b_step=b.strides[-2], b_column=b.strides[-1],
        c=c, count=count, rows=rows, steps=steps, columns=columns,
        shares=shares, block=block, blocks=blocks,
        **scratch(BLOCK_BYTES + panel_bytes(columns, steps)),
    )  # fmt: skip
    return c
