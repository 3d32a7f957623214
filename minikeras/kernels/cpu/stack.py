"""Products of many small matrices, in parts for the team, and what a part needs that makes products on its way.

This module imports Numba: import it at first need.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import kept_njit, lazy_part
from minikeras.kernels.cpu.machine import pointer
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import _PANEL, ROWS, WIDTH, _pack, _tile

_ZEROS = 8 * (3 * ROWS)  # where in a worker's room the tile finds zeros: an offset, and what a sum starts from
ADDRESSES = -(-(_ZEROS + 4 * WIDTH) // 64) * 64  # bytes of a worker's room that belong to the tile


@kept_njit()
def matrix_block(room, a, a_row, a_step, rows, steps, b, b_panel, columns, c, c_row, more):  # type: ignore[no-untyped-def]
    """`C = A B`, or `C += A B` where `more`: A and C by address and bytes between rows (and steps), B in panels.

    The panels lie `b_panel` bytes apart; `room` is that of the worker, `ADDRESSES` bytes.
    """
    addresses = carray(pointer(room), 3 * ROWS, np.int64)
    carray(pointer(room + _ZEROS), WIDTH, np.float32)[:] = np.float32(0)
    at = addresses.ctypes.data
    for column in range(0, columns, WIDTH):
        for row in range(0, rows, ROWS):
            for r in range(ROWS):
                i = min(row + r, rows - 1)  # the last row once more
                addresses[r] = a + i * a_row
                addresses[2 * ROWS + r] = c + i * c_row + column * 4
                addresses[ROWS + r] = addresses[2 * ROWS + r] if more else at + _ZEROS
            _tile(
                at,
                at + 8 * ROWS,
                at + 16 * ROWS,
                at + _ZEROS,
                1,
                steps,
                a_step,
                b + column // WIDTH * b_panel,
                np.float32(-np.inf),
                columns - column,
            )


@kept_njit()
def pack_all(source, step, column, steps, columns, target):  # type: ignore[no-untyped-def]
    """All panels of B, one after the other; either the bytes between steps or those between columns are 4."""
    for first in range(0, columns, WIDTH):
        panel = target + first // WIDTH * steps * _PANEL
        _pack(source + first * column, step, column, steps, min(columns - first, WIDTH), panel)


@kept_njit()
def panels(columns):  # type: ignore[no-untyped-def]
    """How many panels so many columns make."""
    return -(-columns // WIDTH)


def panel_bytes(columns: int, steps: int) -> int:
    """The size of B in panels."""
    return -(-columns // WIDTH) * steps * _PANEL


# What a part reads: tables of offsets, and strides in bytes.
_A, _B, _C, _A_OFFSETS, _B_OFFSETS, _COUNT = 0, 1, 2, 3, 4, 5
_ROWS, _STEPS, _COLUMNS, _A_ROW, _A_STEP, _B_STEP, _B_COLUMN = 6, 7, 8, 9, 10, 11, 12
_SHARES, _BLOCK, _BLOCKS = 13, 14, 15  # a part: a share of the products, and one of so many blocks of rows
_SCRATCH, _SCRATCH_STEP = 16, 17
_ARGUMENTS = 18


@lazy_part
def _stack_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """A share of the products, of each a block of rows."""
    n = carray(pointer(arguments), _ARGUMENTS, np.int64)
    room = n[_SCRATCH] + worker * n[_SCRATCH_STEP]
    a_offsets = carray(pointer(n[_A_OFFSETS]), n[_COUNT], np.int64)
    b_offsets = carray(pointer(n[_B_OFFSETS]), n[_COUNT], np.int64)
    share, first = part // n[_BLOCKS], part % n[_BLOCKS] * n[_BLOCK]
    rows, steps, columns = min(n[_BLOCK], n[_ROWS] - first), n[_STEPS], n[_COLUMNS]
    b = room + ADDRESSES
    for i in range(n[_COUNT] * share // n[_SHARES], n[_COUNT] * (share + 1) // n[_SHARES]):
        pack_all(n[_B] + b_offsets[i], n[_B_STEP], n[_B_COLUMN], steps, columns, b)
        a = n[_A] + a_offsets[i] + first * n[_A_ROW]
        c = n[_C] + (i * n[_ROWS] + first) * columns * 4
        matrix_block(room, a, n[_A_ROW], n[_A_STEP], rows, steps, b, steps * _PANEL, columns, c, columns * 4, False)


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
    each = -(-(ADDRESSES + panel_bytes(columns, steps)) // 128) * 128
    scratch = empty((each * team.size + 64,), np.dtype(np.uint8))
    a_offsets, b_offsets = _offsets(stack, a.strides[:-2]), _offsets(stack, b.strides[:-2])
    arguments = np.array(
        (
            *(one.ctypes.data for one in (a, b, c, a_offsets, b_offsets)),
            count,
            *(rows, steps, columns, *a.strides[-2:], *b.strides[-2:]),
            *(shares, block, blocks := -(-rows // block)),
            -(-scratch.ctypes.data // 64) * 64,
            each,
        ),
        np.int64,
    )
    team.run(_stack_part.address, arguments, shares * blocks, count * rows * steps * columns >= _WAKES)
    return c
