"""Rows of a matrix, shared out to threads, and what goes with them: for the families that work on rows."""

from __future__ import annotations

import math
from typing import Any

from minikeras.kernels.cuda.launch import THREADS
from minikeras.kernels.table import Condition, Kernels

_MOST_THREADS = 1024  # of a block
_WARP = 32
_EACH = 4  # numbers of a row for each of its threads, at least where the row has more threads than one


def of_rows(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """(blocks, threads) for a matrix whose rows are shared by few threads each, or long ones by a block (`rows.cu`)."""
    lanes = min(1 << (-(-columns // _EACH) - 1).bit_length(), _MOST_THREADS)
    together = THREADS // lanes if lanes <= _WARP else 1
    return -(-rows // together), (lanes, together)


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of an array that is no scalar."""
    return math.prod(shape[:-1]), shape[-1]


def in_order(k: Kernels, x: Any) -> Any:
    """An array, or a copy of it, without gaps."""
    if x.flags.c_contiguous:
        return x
    out = k.empty(x.shape, x.dtype)
    out[...] = x
    return out


def one_for_each_row(g: str, x: str) -> Condition:
    """Whether an argument has a number for each row of another, in its type."""
    return Condition(f"{g}.dtype == {x}.dtype and {g}.shape == {x}.shape[:-1]")
