"""The tile: a block of a matrix product kept in vector registers, and the packing of what it reads.

Numba's vectoriser does not keep a block of sums in registers, so the inner loop is written as LLVM code with vector
types.  One tile computes `host.ROWS` rows and `host.WIDTH` columns of

    C[r, :] = max(floor, C0[r, :] + sum over segments s, steps k of A_r[segment[s] + k * step] * B[s * steps + k, :])

where every row has its own address: in A, of its start (C0: a bias, zeros, or C itself) and in C.  The rows of A may
overlap, so a convolution reads its input where it lies (a segment is one line of the window; no columns are made), its
input gradient is a convolution with flipped weights, and its kernel gradient runs over pixels instead.  Bias and relu
cost nothing: they happen in registers.  A result does not depend on the number of threads.

B is read in panels, its columns `host.WIDTH` at a time.  Strides are bytes.

Products of matrices that lie evenly need no address of every row: their blocks have as many rows as there are, and B
may be read where it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler import compiled, emitted, floats, host, inner, instruction, prefetch, prefetch_line

MOST_ROWS, MOST_WIDTH = 8, 32  # of any host's tile
NO_FLOOR = np.float32(-np.inf)


def _cells(rows: int = 0, vectors: int = 0) -> list[tuple[int, int]]:
    """(row, vector) of all the sums of a block, without numbers the tile's."""
    return [(row, vector) for row in range(rows or host.ROWS) for vector in range(vectors or host.VECTORS)]


def _vector(b: Any, address: Any, number: int, mask: Any = None, lanes: int = 0) -> Any:
    """One of the vectors of a row that begins at an address; without a number of lanes they are the host's."""
    lanes = lanes or host.LANES
    return b.read(b.at(address, number, 4 * lanes), "float32", lanes, mask)


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


# ---- matrices that lie evenly ----------------------------------------------------------------------------------------

_MOST_VECTORS = 4  # of a block of few rows: wide, so that its sums need not wait for each other


def _block(
    b: Any, rows: int, vectors: int, lanes: int, matrices: tuple, steps: Any, floor: Any, left: Any, even: bool
) -> None:
    """Emit one block of `C = max(floor, C0 + A @ B)`, of so many rows and vectors of so many lanes.

    Args:
        matrices: of A, B, C0 and C the address where the block begins and the bytes from row to row; of A before that
            those from step to step.
        left: how many columns there are still; None: as many as the block has.
        even: whether B can be read beyond them.
    """
    (a, a_step, a_row), (at, b_step), (start, start_row), (c, c_row) = matrices
    masks = [left and b.first_lanes(b.sub(left, b.constant(v * lanes)), lanes) for v in range(vectors)]
    # a vector of which nothing is wanted is read where the first one is: beyond the matrix there may be no memory
    places = [b.constant(4 * v * lanes) for v in range(vectors)]
    if left and not even:
        for v in range(1, vectors):
            reaches = b.icmp_signed("<", b.constant(v * lanes), left)
            places[v] = b.select(reaches, places[v], b.constant(0))
    a_rows, starts, c_rows = (
        [b.at(first, row, step) for row in range(rows)] for first, step in ((a, a_row), (start, start_row), (c, c_row))
    )
    cells = _cells(rows, vectors)
    before = [_vector(b, starts[row], v, masks[v], lanes) for row, v in cells]
    with b.loop(steps, values=[b.constant(0), at, *before], at_least_once=True) as loop:
        a_at, b_at, *sums = loop.values
        if rows == host.ROWS:
            prefetch_line(b, b.at(b.add(a_rows[0], a_at), 8, a_step))
        read = [None if even else mask for mask in masks]
        row_of_b = [b.read(b.add(b_at, places[v]), "float32", lanes, read[v]) for v in range(vectors)]
        spread = [b.spread(b.read(b.add(address, a_at)), lanes) for address in a_rows]
        new = [b.fma(spread[row], row_of_b[v], total) for (row, v), total in zip(cells, sums, strict=True)]
        loop.following = [b.add(a_at, a_step), b.add(b_at, b_step), *new]
    least = b.spread(floor, lanes)
    for (row, v), value in zip(cells, loop.results[2:], strict=True):
        b.write(b.at_least(value, least), b.at(c_rows[row], v, 4 * lanes), masks[v])


def _blocks(
    b: Any, most: int, even: bool, a: Any, a_row: Any, a_step: Any, panel: Any, b_step: Any, start: Any, start_row: Any,
    start_column: Any, c: Any, c_row: Any, rows: Any, steps: Any, columns: Any, floor: Any,
) -> None:  # fmt: skip
    """Emit `C = max(floor, C0 + A @ B)` in blocks: of the tile's rows, then what is left of 4, 2 and 1.

    Every sum is made step by step, so it is the same in every block.  `most` vectors make a block at most, and a last
    one of few columns has half of them, or half a vector.
    """
    lanes = host.LANES

    def line(row: Any, count: int) -> None:
        vectors = min(most, host.VECTORS * host.ROWS // count // 2 * 2)

        def block(column: Any, wide: int, lanes: int, left: Any = None) -> None:
            matrices = (
                (b.at(a, row, a_row), a_step, a_row),
                (b.at(panel, column), b_step),
                (b.at(b.at(start, row, start_row), column, start_column), start_row),
                (b.at(b.at(c, row, c_row), column), c_row),
            )
            _block(b, count, wide, lanes, matrices, steps, floor, left, even)

        width = vectors * lanes
        whole = b.sub(columns, b.urem(columns, b.constant(width)))
        with b.loop(whole, step=width) as loop:
            block(loop.index, vectors, lanes)
        left, below = b.sub(columns, whole), b.constant(0)
        for wide, narrow in ((1, lanes // 2), (vectors // 2, lanes), (vectors, lanes)):
            most_of_it = b.constant(wide * narrow)
            with b.if_then(b.and_(b.icmp_signed("<", below, left), b.icmp_signed("<=", left, most_of_it))):
                block(whole, wide, narrow, left)
            below = most_of_it

    rest = b.urem(rows, b.constant(host.ROWS))
    row = b.sub(rows, rest)
    with b.loop(row, step=host.ROWS) as loop:
        line(loop.index, host.ROWS)
    for count in (4, 2, 1):
        some = b.and_(rest, b.constant(count))
        with b.if_then(b.icmp_signed("<", b.constant(0), some)):
            line(row, count)
        row = b.add(row, some)


@emitted
def even_product(
    b, a, a_row, a_step, panel, start, start_row, c, c_row, rows, steps, columns, floor: np.float32
):  # fmt: skip
    """`C = max(floor, C0 + A @ B)`, where B is one panel: addresses, and bytes from row to row and step to step."""
    panel_step, four = b.constant(host.PANEL), b.constant(4)
    _blocks(
        b, host.VECTORS, True, a, a_row, a_step, panel, panel_step, start, start_row, four, c, c_row, rows, steps,
        columns, floor,
    )  # fmt: skip


@emitted
def direct_product(
    b, a, a_row, a_step, matrix, matrix_step, start, start_row, start_column, c, c_row, rows, steps, columns,
    floor: np.float32,
):  # fmt: skip
    """The same of any columns, B read where it lies, in rows that are contiguous; and C0's bytes between columns."""
    _blocks(
        b, _MOST_VECTORS, False, a, a_row, a_step, matrix, matrix_step, start, start_row, start_column, c, c_row, rows,
        steps, columns, floor,
    )  # fmt: skip


_DOTS = 8  # columns whose sums are made together


def _together(b: Any, sums: list[Any]) -> Any:
    """Emit: a vector of the totals of so many vectors, a power of two; in each round pairs of them become one."""
    lanes, run = sums[0].type.count, 1
    while len(sums) > 1:
        own = [lane if not lane & run else lanes + lane for lane in range(lanes)]
        other = [lane + run if not lane & run else lanes + lane - run for lane in range(lanes)]
        pairs = zip(sums[::2], sums[1::2], strict=True)
        sums = [b.fadd(b.picked(*pair, own), b.picked(*pair, other)) for pair in pairs]
        run *= 2
    (total,) = sums
    while run < lanes:
        total = b.fadd(total, b.picked(total, total, [lane ^ run for lane in range(lanes)]))
        run *= 2
    return total


@emitted
def dot_product(
    b, a, a_row, matrix, column_bytes, start, start_row, start_column, c, c_row, rows, steps, columns, floor: np.float32
):  # fmt: skip
    """The same for few rows, where A's steps and B's are contiguous: each number is the sum of a row times a column."""
    lanes, zero = host.LANES, b.constant(0)
    zeros, least = b.constant(0.0, "float32", lanes), b.spread(floor, _DOTS)
    rest = b.urem(steps, b.constant(lanes))
    whole, last = b.sub(steps, rest), b.sub(columns, b.constant(1))
    some = b.first_lanes(rest, lanes)
    with b.loop(columns, step=_DOTS) as block:
        left = b.first_lanes(b.sub(columns, block.index), _DOTS)
        numbers = [b.add(block.index, b.constant(i)) for i in range(_DOTS)]
        numbers = [b.select(b.icmp_signed("<", last, one), last, one) for one in numbers]  # the last column once more
        places = [b.at(matrix, one, column_bytes) for one in numbers]
        with b.loop(rows) as row:
            a_at = b.at(a, row.index, a_row)

            def add(
                step: Any, sums: list[Any], mask: Any = None, a_at: Any = a_at, places: list[Any] = places
            ) -> list[Any]:
                x, *y = (b.read(b.at(place, step), "float32", lanes, mask) for place in (a_at, *places))
                return [b.fma(x, one, total) for one, total in zip(y, sums, strict=True)]

            with b.loop(whole, step=lanes, values=[zeros] * _DOTS) as loop:
                loop.following = add(loop.index, loop.values)
            before = loop.results
            sums = b.where(b.icmp_signed("<", zero, rest), before, lambda before=before: add(whole, before, some))
            total = _together(b, sums)
            total = b.picked(total, total, list(range(_DOTS)))
            first = b.at(b.at(start, row.index, start_row), block.index, start_column)
            total = b.fadd(total, b.read(first, "float32", _DOTS, left))
            b.write(b.at_least(total, least), b.at(b.at(c, row.index, c_row), block.index), left)


# ---- packing ---------------------------------------------------------------------------------------------------------

_AHEAD = 8  # rows of B to prefetch: with more, rows a power of two apart drive each other out of the first cache


@instruction
def _copy_row(b, source, target):
    """Copy `host.WIDTH` numbers."""
    for v in range(host.VECTORS):
        b.write(_vector(b, source, v), b.at(target, v, 4 * host.LANES))


@instruction
def _copy_some(b, source, count, target):
    """The same of `count` numbers, 1 at least, and zeros after them."""
    lanes = host.LANES
    for v in range(host.VECTORS):
        left = b.sub(count, b.constant(v * lanes))
        place = b.select(b.icmp_signed("<", b.constant(0), left), b.constant(4 * v * lanes), b.constant(0))
        value = b.read(b.add(source, place), "float32", lanes, b.first_lanes(left, lanes))
        b.write(value, b.at(target, v, 4 * lanes))


def _turned(b: Any, rows: list[Any]) -> list[Any]:
    """Emit the transposition of a square block: in each round, pairs of rows exchange runs of lanes."""
    lanes, run = host.LANES, 1
    while run < lanes:
        kept = [lane if not lane & run else lanes + lane - run for lane in range(lanes)]
        taken = [lane + run if not lane & run else lanes + lane for lane in range(lanes)]
        for row in range(lanes):
            if not row & run:
                pair = rows[row], rows[row + run]
                rows[row], rows[row + run] = b.picked(*pair, kept), b.picked(*pair, taken)
        run *= 2
    return rows


@instruction
def _transpose(b, source, source_row, target):
    """Copy a square block of `host.LANES` rows to rows of a panel, transposed."""
    rows = [b.read(b.at(source, row, source_row), "float32", host.LANES) for row in range(host.LANES)]
    for row, value in enumerate(_turned(b, rows)):
        b.write(value, b.at(target, row, host.PANEL))


@instruction
def _transpose_some(b, source, source_row, count, length, target):
    """The same of `count` rows of `length` numbers, either 1 at least and at most `host.LANES`; zeros fill them up."""
    lanes, rows = host.LANES, []
    for row in range(lanes):
        there = b.icmp_signed("<", b.constant(row), count)
        place = b.select(there, b.at(source, row, source_row), source)
        mask = b.first_lanes(b.select(there, length, b.constant(0)), lanes)
        rows.append(b.read(place, "float32", lanes, mask))
    for row, value in enumerate(_turned(b, rows)):
        with b.if_then(b.icmp_signed("<", b.constant(row), length)):
            b.write(value, b.at(target, row, host.PANEL))


@compiled
def pack(source, step, column, steps, width, target):
    """Copy a panel of B, `steps` rows of `width` columns of which either is contiguous, filled up with zeros."""
    if column == 4:
        for k in range(steps):
            at = source + k * step
            for ahead in range(0, host.PANEL, 64):  # the rows are too far apart for the processor to see it coming
                prefetch(at + _AHEAD * step + ahead)
            if width == host.WIDTH:
                _copy_row(at, target + k * host.PANEL)
            else:
                _copy_some(at, width, target + k * host.PANEL)
        return
    # B's columns are contiguous
    for j in range(0, width, host.LANES):
        for k in range(0, steps, host.LANES):
            block, row = source + j * column + 4 * k, target + (k * host.WIDTH + j) * 4
            if j + host.LANES <= width and k + host.LANES <= steps:
                _transpose(block, column, row)
            else:
                _transpose_some(block, column, min(width - j, host.LANES), min(steps - k, host.LANES), row)
    panel = floats(target)
    for k in range(steps):
        for j in range((width + host.LANES - 1) // host.LANES * host.LANES, host.WIDTH):
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
