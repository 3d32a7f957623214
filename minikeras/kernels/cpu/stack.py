"""Products of many small matrices, in parts for the team, and what a part needs that makes products on its way."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import compiled, inner, instruction, lazy_part
from minikeras.kernels.cpu.machine import floats, numbers
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import PANEL, ROWS, WIDTH, _pack, _tile

_ZEROS = 8 * (3 * ROWS)  # where in a worker's room the tile finds zeros: an offset, and what a sum starts from
ADDRESSES = -(-(_ZEROS + 4 * WIDTH) // 64) * 64  # bytes of a worker's room that belong to the tile
_tile_here = instruction(_tile.signature)(_tile.function)  # sums are short: a call would cost a tenth of them
_ZERO, _LEAST = np.float32(0), np.float32(-np.inf)


@inner
def worker_room(scratch, each, worker):  # type: ignore[no-untyped-def]
    """Where a worker's room begins: at a cache line."""
    return (scratch + 63) // 64 * 64 + worker * each


def rooms(size: int) -> tuple[Any, int]:
    """Memory for a room of so many bytes, and the tile's addresses, for each worker; and the bytes of each."""
    each = -(-(size + ADDRESSES) // 128) * 128
    return empty((each * team.size + 64,), np.dtype(np.uint8)), each


@compiled(f"void({', '.join(['int64'] * 12)})")
def matrix_block(room, a, a_row, a_step, rows, steps, b, b_panel, columns, c, c_row, more):  # type: ignore[no-untyped-def]
    """`C = A B`, or `C += A B` where `more`: A and C by address and bytes between rows (and steps), B in panels.

    The panels lie `b_panel` bytes apart; `room` is that of the worker, `ADDRESSES` bytes.
    """
    addresses, zeros = numbers(room), floats(room + _ZEROS)
    for j in range(WIDTH):
        zeros[j] = _ZERO
    for column in range(0, columns, WIDTH):
        for row in range(0, rows, ROWS):
            for r in range(ROWS):
                i = min(row + r, rows - 1)  # the last row once more
                target = c + i * c_row + column * 4
                addresses[r] = a + i * a_row
                addresses[ROWS + r] = target if more else room + _ZEROS
                addresses[2 * ROWS + r] = target
            _tile_here(
                room,
                room + 8 * ROWS,
                room + 16 * ROWS,
                room + _ZEROS,
                1,
                steps,
                a_step,
                b + column // WIDTH * b_panel,
                _LEAST,
                columns - column,
            )


@compiled("void(int64, int64, int64, int64, int64, int64)")
def pack_all(source, step, column, steps, columns, target):  # type: ignore[no-untyped-def]
    """All panels of B, one after the other; either the bytes between steps or those between columns are 4."""
    for first in range(0, columns, WIDTH):
        panel = target + first // WIDTH * steps * PANEL
        _pack(source + first * column, step, column, steps, min(columns - first, WIDTH), panel)


@inner
def panels(columns):  # type: ignore[no-untyped-def]
    """How many panels so many columns make."""
    return -(-columns // WIDTH)


def panel_bytes(columns: int, steps: int) -> int:
    """The size of B in panels."""
    return -(-columns // WIDTH) * steps * PANEL


# What a part reads: addresses, of tables of offsets too; sizes, and strides in bytes.
_A, _B, _C, _SCRATCH, _A_OFFSETS, _B_OFFSETS = 0, 1, 2, 3, 4, 5
_COUNT, _ROWS, _STEPS, _COLUMNS, _A_ROW, _A_STEP, _B_STEP, _B_COLUMN = 6, 7, 8, 9, 10, 11, 12, 13
_SHARES, _BLOCK, _BLOCKS = 14, 15, 16  # a part: a share of the products, and one of so many blocks of rows
_SCRATCH_STEP = 17


@lazy_part
def _stack_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """A share of the products, of each a block of rows."""
    n = numbers(arguments)
    room = worker_room(n[_SCRATCH], n[_SCRATCH_STEP], worker)
    a_offsets, b_offsets = numbers(n[_A_OFFSETS]), numbers(n[_B_OFFSETS])
    share, first = part // n[_BLOCKS], part % n[_BLOCKS] * n[_BLOCK]
    rows, steps, columns = min(n[_BLOCK], n[_ROWS] - first), n[_STEPS], n[_COLUMNS]
    b = room + ADDRESSES
    for i in range(n[_COUNT] * share // n[_SHARES], n[_COUNT] * (share + 1) // n[_SHARES]):
        pack_all(n[_B] + b_offsets[i], n[_B_STEP], n[_B_COLUMN], steps, columns, b)
        a = n[_A] + a_offsets[i] + first * n[_A_ROW]
        c = n[_C] + (i * n[_ROWS] + first) * columns * 4
        matrix_block(room, a, n[_A_ROW], n[_A_STEP], rows, steps, b, steps * PANEL, columns, c, columns * 4, 0)


_PARTS = 32  # at most, and about so many where there are rows enough
_FEW = 8 * ROWS  # rows of a block, at least
_WAKES = 8_000_000  # multiplications for which a helper is waked


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
    blocks = min(_PARTS // shares, -(-rows // _FEW))
    block = -(-rows // blocks)
    scratch, each = rooms(panel_bytes(columns, steps))
    items = (
        *(a, b, c, scratch, _offsets(stack, a.strides[:-2]), _offsets(stack, b.strides[:-2])),
        *(count, rows, steps, columns, *a.strides[-2:], *b.strides[-2:]),
        *(shares, block, blocks := -(-rows // block), each),
    )
    team.run(_stack_part.address, None, shares * blocks, count * rows * steps * columns >= _WAKES, items)
    return c
