"""The tile: a block of a matrix product kept in vector registers, and the packing of what it reads.

Numba's vectoriser does not keep a block of sums in registers, so the inner loop is written as LLVM code with vector
types.  One tile computes `host.ROWS` rows and `host.WIDTH` columns of

    C[r, :] = max(floor, C0[r, :] + sum over segments s, steps k of A_r[segment[s] + k * step] * B[s * steps + k, :])

where every row has its own address: in A, of its start (C0: a bias, zeros, or C itself) and in C.  The rows of A may
overlap, so a convolution reads its input where it lies (a segment is one line of the window; no columns are made), its
input gradient is a convolution with flipped weights, and its kernel gradient runs over pixels instead.  Bias and relu
cost nothing: they happen in registers.  A result does not depend on the number of threads.

B is read in panels, its columns `host.WIDTH` at a time.  Strides are bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler import compiled, emitted, floats, host, inner, instruction, prefetch, prefetch_line

MOST_ROWS, MOST_WIDTH = 8, 32  # of any host's tile
NO_FLOOR = np.float32(-np.inf)


def _cells() -> list[tuple[int, int]]:
    """(row, vector) of all the sums."""
    return [(row, vector) for row in range(host.ROWS) for vector in range(host.VECTORS)]


def _vector(b: Any, address: Any, number: int, mask: Any = None) -> Any:
    """One of the vectors of a row that begins at an address."""
    return b.read(b.at(address, number, 4 * host.LANES), "float32", host.LANES, mask)


def _sums(b: Any, a: Any, offset: Any, step: Any, panel: Any, steps: Any, before: Any, ahead: int) -> tuple[Any, Any]:
    """Emit the sum over steps: (where the panel ends, the sums), of which `before` is the start.

    Args:
        a: the rows' addresses; `offset` from there is the first step's number, `step` further the next one's.
        ahead: how many steps the first row is to be fetched in advance.
    """
    with b.loop(steps, values=[offset, panel, *before], at_least_once=True) as loop:
        a_at, b_at, *sums = loop.values
        if ahead:
            prefetch_line(b, b.at(b.add(a[0], a_at), ahead, step))
        vectors = [_vector(b, b_at, v) for v in range(host.VECTORS)]
        spread = [b.spread(b.read(b.add(address, a_at)), host.LANES) for address in a]
        new = [b.fma(spread[row], vectors[v], total) for (row, v), total in zip(_cells(), sums, strict=True)]
        loop.following = [b.add(a_at, step), b.at(b_at, 1, host.PANEL), *new]
    _, end, *sums = loop.results
    return end, sums


@emitted
def tile(b, a_rows, start_rows, c_rows, segments, count, steps, step, panel, floor: np.float32, columns):
    """See the module; the rows' and segments' numbers are arrays of int64, `columns` of C's row are written."""

    def entry(addresses: Any, index: Any) -> Any:
        return b.read(b.at(addresses, index, 8), "int64")

    lanes = host.LANES
    masks = [b.first_lanes(b.sub(columns, b.constant(v * lanes)), lanes) for v in range(host.VECTORS)]
    starts, a = ([entry(rows, row) for row in range(host.ROWS)] for rows in (start_rows, a_rows))
    before = [_vector(b, starts[row], v, masks[v]) for row, v in _cells()]
    with b.loop(count, values=[panel, *before], at_least_once=True) as segment:
        first, *sums = segment.values
        end, sums = _sums(b, a, entry(segments, segment.index), step, first, steps, sums, ahead=8)
        segment.following = [end, *sums]
    least, c = b.spread(floor, lanes), [entry(c_rows, row) for row in range(host.ROWS)]
    for (row, v), value in zip(_cells(), segment.results[1:], strict=True):
        b.write(b.at_least(value, least), b.at(c[row], v, 4 * lanes), masks[v])


@emitted
def products(
    b, count, rows, steps, a, a_plane, a_row, a_step, panel, panel_plane, start, start_plane, start_row, c, c_plane,
    c_row,
):  # fmt: skip
    """So many products of one panel, of matrices that lie on planes: C[r, :] = C0[r, :] + sum of A[r, k] * B[k, :].

    Args:
        count, rows, steps: how many products, and their sizes; the number of rows is rounded up to whole tiles.
        a, panel, start, c: addresses of A, B, C0 and C, each with its bytes from one plane to the next, from one row
            and from one step.
    """
    with b.loop(count) as planes, b.loop(rows, step=host.ROWS) as tiles:

        def rows_of(address: Any, plane: Any, row: Any) -> list[Any]:
            first = b.at(address, planes.index, plane)
            return [b.at(first, b.add(tiles.index, b.constant(r)), row) for r in range(host.ROWS)]

        a_rows, c_rows = rows_of(a, a_plane, a_row), rows_of(c, c_plane, c_row)
        starts = rows_of(start, start_plane, start_row)
        before = [_vector(b, starts[row], v) for row, v in _cells()]
        first = b.at(panel, planes.index, panel_plane)
        _, sums = _sums(b, a_rows, b.constant(0), a_step, first, steps, before, ahead=0)
        for (row, v), value in zip(_cells(), sums, strict=True):
            b.write(value, b.at(c_rows[row], v, 4 * host.LANES))


# ---- packing ---------------------------------------------------------------------------------------------------------

_AHEAD = 8  # rows of B to prefetch: with more, rows a power of two apart drive each other out of the first cache


@instruction
def _copy_row(b, source, target):
    """Copy `host.WIDTH` numbers."""
    for v in range(host.VECTORS):
        b.write(_vector(b, source, v), b.at(target, v, 4 * host.LANES))


@instruction
def _transpose(b, source, source_row, target, target_row):
    """Copy a square block of `host.LANES` rows, transposed: in each round, pairs of rows exchange runs of lanes."""
    lanes = host.LANES
    rows = [b.read(b.at(source, row, source_row), "float32", lanes) for row in range(lanes)]
    run = 1
    while run < lanes:
        kept = [lane if not lane & run else lanes + lane - run for lane in range(lanes)]
        taken = [lane + run if not lane & run else lanes + lane for lane in range(lanes)]
        for row in range(lanes):
            if not row & run:
                pair = rows[row], rows[row + run]
                rows[row], rows[row + run] = b.picked(*pair, kept), b.picked(*pair, taken)
        run *= 2
    for row in range(lanes):
        b.write(rows[row], b.at(target, row, target_row))


@compiled
def pack(source, step, column, steps, width, target):
    """Copy a panel of B, `steps` rows of `width` columns of which either is contiguous, filled up with zeros."""
    panel = floats(target)
    if column == 4:
        for k in range(steps):
            at = source + k * step
            for ahead in range(0, host.PANEL, 64):  # the rows are too far apart for the processor to see it coming
                prefetch(at + _AHEAD * step + ahead)
            if width == host.WIDTH:
                _copy_row(at, target + k * host.PANEL)
            else:
                row = floats(at)
                for j in range(host.WIDTH):
                    panel[k * host.WIDTH + j] = row[j] if j < width else np.float32(0)
        return
    # B's columns are contiguous: whole blocks by `_transpose`, the rest one by one
    blocks = steps // host.LANES * host.LANES
    vectors = width // host.LANES * host.LANES
    for j in range(0, vectors, host.LANES):
        for k in range(0, blocks, host.LANES):
            _transpose(source + j * column + 4 * k, column, target + (k * host.WIDTH + j) * 4, host.PANEL)
    for k in range(steps):
        for j in range(0 if k >= blocks else vectors, width):
            panel[k * host.WIDTH + j] = floats(source + j * column)[k]
        for j in range(width, host.WIDTH):
            panel[k * host.WIDTH + j] = np.float32(0)


@compiled
def pack_all(source, step, column, steps, columns, target):
    """All panels of B, one after the other; either the bytes between steps or those between columns are 4."""
    for first in range(0, columns, host.WIDTH):
        panel = target + first // host.WIDTH * steps * host.PANEL
        pack(source + first * column, step, column, steps, min(columns - first, host.WIDTH), panel)


@inner
def panels(columns):
    """How many panels so many columns make."""
    return -(-columns // host.WIDTH)


def panels_of(columns: int) -> int:
    """The same, for Python."""
    return -(-columns // host.WIDTH)


def panel_bytes(columns: int, steps: int) -> int:
    """The size of B in panels."""
    return panels_of(columns) * steps * host.PANEL
