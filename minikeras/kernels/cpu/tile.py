"""The tile: a block of a matrix product kept in vector registers, and the products and convolutions made of it.

Numba's vectoriser does not keep a block of sums in registers, so the inner loop is written as LLVM code with vector
types.  One tile computes `ROWS` rows and `WIDTH` columns of

    C[r, :] = max(floor, C0[r, :] + sum over segments s, steps k of A_r[segment[s] + k * step] * B[s * steps + k, :])

where every row has its own address: in A, of its start (C0: a bias, zeros, or C itself) and in C.  The rows of A may
overlap, so a convolution reads its input where it lies (a segment is one line of the window; no columns are made), its
input gradient is a convolution with flipped weights, and its kernel gradient runs over pixels instead.  Bias and relu
cost nothing: they happen in registers.  A result does not depend on the number of threads.

Adapted to the host: 16 lanes with AVX-512, 8 with AVX2; `AVAILABLE` is False without these.  Strides are bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding, ir

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import compiled, emitted, inner, instruction, lazy_part
from minikeras.kernels.cpu.machine import ROOM, Loop, floats, function, numbers, prefetch, prefetch_line, stack_room
from minikeras.kernels.cpu.team import team
from minikeras.kernels.reference.conv import Ints, Padding, output_shape

_features = binding.get_host_cpu_features()
_WIDE = bool(_features.get("avx512f"))
AVAILABLE = _WIDE or bool(_features.get("avx2") and _features.get("fma"))
LANES = 16 if _WIDE else 8
VECTORS = 2
ROWS = 8 if _WIDE else 6  # with more, addresses or sums no longer fit the registers
WIDTH = VECTORS * LANES
PANEL = 4 * WIDTH  # bytes of a row of packed B

_FLOAT, _INT64, _INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_CELLS = [(row, vector) for row in range(ROWS) for vector in range(VECTORS)]


def _number(value: int) -> Any:
    return ir.Constant(_INT64, value)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """A number in every lane of a vector type."""
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))


@emitted("void(int64, int64, int64, int64, int64, int64, int64, int64, float32, int64)")
def _tile(builder, a_rows, start_rows, c_rows, segments, count, steps, step, b, floor, columns):  # type: ignore[no-untyped-def]
    """See the module; the rows' and segments' numbers are arrays of int64, `columns` of C's row are written."""
    at = _VECTOR.as_pointer()
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    read = function(builder, f"llvm.masked.load.v{LANES}f32.p0", _VECTOR, [at, _INT32, _BITS, _VECTOR])
    write = function(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), [_VECTOR, at, _INT32, _BITS])
    alignment = ir.Constant(_INT32, 4)

    def entry_of(addresses: Any, index: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(addresses, _INT64.as_pointer()), [index]), align=8)

    def vector_at(address: Any, vector: int) -> Any:
        return builder.inttoptr(builder.add(address, _number(vector * LANES * 4)), at)

    lanes = ir.VectorType(_INT64, LANES)
    places = ir.Constant(lanes, list(range(LANES)))
    wanted = [
        builder.icmp_signed("<", places, _spread(builder, builder.sub(columns, _number(v * LANES)), lanes))
        for v in range(VECTORS)
    ]
    starts = [entry_of(start_rows, _number(row)) for row in range(ROWS)]
    a = [entry_of(a_rows, _number(row)) for row in range(ROWS)]
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    start = {(row, v): builder.call(read, [vector_at(starts[row], v), alignment, wanted[v], zero]) for row, v in _CELLS}

    entry = builder.block
    segment_loop, step_loop, segment_end, done = map(
        builder.append_basic_block, ("segment", "step", "segment_end", "done")
    )
    builder.branch(segment_loop)

    builder.position_at_end(segment_loop)
    segment, b_segment = builder.phi(_INT64), builder.phi(_INT64)
    segment.add_incoming(_number(0), entry)
    b_segment.add_incoming(b, entry)
    before = {cell: builder.phi(_VECTOR) for cell in _CELLS}
    for cell in _CELLS:
        before[cell].add_incoming(start[cell], entry)
    offset = entry_of(segments, segment)
    builder.branch(step_loop)

    builder.position_at_end(step_loop)
    k, a_at, b_at = builder.phi(_INT64), builder.phi(_INT64), builder.phi(_INT64)
    k.add_incoming(_number(0), segment_loop)
    a_at.add_incoming(offset, segment_loop)
    b_at.add_incoming(b_segment, segment_loop)
    sums = {cell: builder.phi(_VECTOR) for cell in _CELLS}
    for cell in _CELLS:
        sums[cell].add_incoming(before[cell], segment_loop)
    prefetch_line(builder, builder.add(builder.add(a[0], a_at), builder.mul(step, _number(8))))
    b_vectors = [builder.load(vector_at(b_at, v), align=4) for v in range(VECTORS)]
    new = {}
    for row in range(ROWS):
        value = builder.load(builder.inttoptr(builder.add(a[row], a_at), _FLOAT.as_pointer()), align=4)
        spread = _spread(builder, value, _VECTOR)
        for v in range(VECTORS):
            new[row, v] = builder.call(fma, [spread, b_vectors[v], sums[row, v]])
    k_next = builder.add(k, _number(1))
    b_next = builder.add(b_at, _number(PANEL))
    k.add_incoming(k_next, step_loop)
    a_at.add_incoming(builder.add(a_at, step), step_loop)
    b_at.add_incoming(b_next, step_loop)
    for cell in _CELLS:
        sums[cell].add_incoming(new[cell], step_loop)
    builder.cbranch(builder.icmp_signed("<", k_next, steps), step_loop, segment_end)

    builder.position_at_end(segment_end)
    segment_next = builder.add(segment, _number(1))
    segment.add_incoming(segment_next, segment_end)
    b_segment.add_incoming(b_next, segment_end)
    for cell in _CELLS:
        before[cell].add_incoming(new[cell], segment_end)
    builder.cbranch(builder.icmp_signed("<", segment_next, count), segment_loop, done)

    builder.position_at_end(done)
    least = _spread(builder, floor, _VECTOR)
    for row in range(ROWS):
        c = entry_of(c_rows, _number(row))
        for v in range(VECTORS):
            value = builder.select(builder.fcmp_ordered("<", new[row, v], least), least, new[row, v])  # NaN stays
            builder.call(write, [value, vector_at(c, v), alignment, wanted[v]])


@emitted(f"void({', '.join(['int64'] * 15)})")
def products(  # type: ignore[no-untyped-def]
    builder, count, rows, steps, a, a_plane, a_row, a_step, b, b_plane, start, start_plane, start_row, c, c_plane, c_row
):
    """So many products of one panel, of matrices that lie on planes: C[r, :] = C0[r, :] + sum of A[r, k] * B[k, :].

    Args:
        count, rows, steps: how many products, and their sizes; the number of rows is rounded up to whole tiles.
        a, b, start, c: addresses of A, B (its rows are a panel's), C0 and C, each with its bytes from one plane to the
            next, from one row and from one step.
    """
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)

    def at(address: Any, distance: Any, index: Any) -> Any:
        return builder.add(address, builder.mul(distance, index))

    def vector_at(address: Any, vector: int) -> Any:
        return builder.inttoptr(builder.add(address, _number(vector * LANES * 4)), _VECTOR.as_pointer())

    with Loop(builder, count) as planes, Loop(builder, rows, step=ROWS) as tiles:
        a_rows, starts, c_rows = (
            [at(at(address, plane, planes.index), row, builder.add(tiles.index, _number(r))) for r in range(ROWS)]
            for address, plane, row in ((a, a_plane, a_row), (start, start_plane, start_row), (c, c_plane, c_row))
        )
        before = {(row, v): builder.load(vector_at(starts[row], v), align=4) for row, v in _CELLS}
        entry = builder.block
        loop, done = map(builder.append_basic_block, ("step", "done"))
        b_first = at(b, b_plane, planes.index)
        builder.branch(loop)

        builder.position_at_end(loop)
        k, a_at, b_at = builder.phi(_INT64), builder.phi(_INT64), builder.phi(_INT64)
        sums = {cell: builder.phi(_VECTOR) for cell in _CELLS}
        b_vectors = [builder.load(vector_at(b_at, v), align=4) for v in range(VECTORS)]
        new = {}
        for row in range(ROWS):
            value = builder.load(builder.inttoptr(builder.add(a_rows[row], a_at), _FLOAT.as_pointer()), align=4)
            spread = _spread(builder, value, _VECTOR)
            for v in range(VECTORS):
                new[row, v] = builder.call(fma, [spread, b_vectors[v], sums[row, v]])
        changing = [(sums[cell], before[cell], new[cell]) for cell in _CELLS]
        counters = ((k, _number(0), _number(1)), (a_at, _number(0), a_step), (b_at, b_first, _number(PANEL)))
        changing += [(phi, initial, builder.add(phi, further)) for phi, initial, further in counters]
        for phi, initial, following in changing:
            phi.add_incoming(initial, entry)
            phi.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", builder.add(k, _number(1)), steps), loop, done)

        builder.position_at_end(done)
        for row, v in _CELLS:
            builder.store(new[row, v], vector_at(c_rows[row], v), align=4)


@instruction("void(int64, int64)")
def _copy_row(builder, source, target):  # type: ignore[no-untyped-def]
    """Copy `WIDTH` numbers."""
    for v in range(VECTORS):
        there, here = (
            builder.inttoptr(builder.add(address, _number(v * LANES * 4)), _VECTOR.as_pointer())
            for address in (source, target)
        )
        builder.store(builder.load(there, align=4), here, align=4)


@instruction("void(int64, int64, int64, int64)")
def _transpose(builder, source, source_row, target, target_row):  # type: ignore[no-untyped-def]
    """Copy a square block of `LANES` rows, transposed: in each round, pairs of rows exchange runs of lanes."""

    def row_at(address: Any, step: Any, row: int) -> Any:
        place = builder.add(address, builder.mul(step, _number(row)))
        return builder.inttoptr(place, _VECTOR.as_pointer())

    rows = [builder.load(row_at(source, source_row, row), align=4) for row in range(LANES)]
    run = 1
    while run < LANES:
        kept = [lane if not lane & run else LANES + lane - run for lane in range(LANES)]
        taken = [lane + run if not lane & run else LANES + lane for lane in range(LANES)]
        for row in range(LANES):
            if not row & run:
                pair = rows[row], rows[row + run]
                for where, lanes in ((row, kept), (row + run, taken)):
                    chosen = ir.Constant(ir.VectorType(_INT32, LANES), lanes)
                    rows[where] = builder.shuffle_vector(*pair, chosen)
        run *= 2
    for row in range(LANES):
        builder.store(rows[row], row_at(target, target_row, row), align=4)


# What a part reads: numbers at these places of its arguments.
_A, _B, _C, _START, _SCRATCH = 0, 1, 2, 3, 4  # addresses
_A_IMAGE, _POSITIONS, _POSITION_TABLE = 5, 6, 7  # row r of A: image r // positions, position r % positions
_SEGMENTS, _COUNT, _STEPS, _STEP = 8, 9, 10, 11
_B_PACKED, _B_STEP, _B_COLUMN = 12, 13, 14
_C_ROW, _ROW_COUNT, _COLUMN_COUNT, _START_COLUMN, _RELU = 15, 16, 17, 18, 19
_BLOCK, _GROUPS = 20, 21  # a part: _BLOCK rows (images, in a kernel gradient) and one of _GROUPS groups of panels
_SCRATCH_STEP = 22  # the room of each worker
# where the padded image has the image's lines; 0 lines: no padding
_LINES, _LINE, _LINE_TABLE, _PADDED = 23, 24, 25, 26
_START_ROW = 27  # C0 of row r: at _START + r * _START_ROW + column * _START_COLUMN

_AHEAD = 8  # rows of B to prefetch: with more, rows a power of two apart drive each other out of the first cache
_ADDRESSES = 256  # bytes of a worker's room that hold a tile's addresses: three for each row


@inner
def _room(n, worker):  # type: ignore[no-untyped-def]
    """Where a worker's room begins."""
    return (n[_SCRATCH] + 63) // 64 * 64 + worker * n[_SCRATCH_STEP]


@compiled("void(int64, int64, int64, int64, int64, int64)")
def _pack(source, step, column, steps, width, target):  # type: ignore[no-untyped-def]
    """Copy a panel of B, `steps` rows of `width` columns of which either is contiguous, filled up with zeros."""
    panel = floats(target)
    if column == 4:
        for k in range(steps):
            at = source + k * step
            for ahead in range(0, 4 * WIDTH, 64):  # the rows are too far apart for the processor to see it coming
                prefetch(at + _AHEAD * step + ahead)
            if width == WIDTH:
                _copy_row(at, target + k * PANEL)
            else:
                row = floats(at)
                for j in range(WIDTH):
                    panel[k * WIDTH + j] = row[j] if j < width else np.float32(0)
        return
    # B's columns are contiguous: whole blocks by `_transpose`, the rest one by one
    blocks = steps // LANES * LANES
    vectors = width // LANES * LANES
    for j in range(0, vectors, LANES):
        for k in range(0, blocks, LANES):
            _transpose(source + j * column + 4 * k, column, target + (k * WIDTH + j) * 4, PANEL)
    for k in range(steps):
        for j in range(0 if k >= blocks else vectors, width):
            panel[k * WIDTH + j] = floats(source + j * column)[k]
        for j in range(width, WIDTH):
            panel[k * WIDTH + j] = np.float32(0)


@inner
def _pad(image, lines, line, table, padded, target):  # type: ignore[no-untyped-def]
    """Copy an image into zeros, line by line."""
    width, whole = line // 4, floats(target)
    for j in range(padded // 4):
        whole[j] = np.float32(0)
    places = numbers(table)
    for i in range(lines):
        source = floats(image + i * line)
        copy = floats(target + places[i])
        for j in range(width):
            copy[j] = source[j]


@lazy_part
def _pack_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Pack one panel of B; C is where the packed panels go."""
    n = numbers(arguments)
    steps, first = n[_COUNT] * n[_STEPS], part * WIDTH
    width = min(n[_COLUMN_COUNT] - first, WIDTH)
    _pack(n[_B] + first * n[_B_COLUMN], n[_B_STEP], n[_B_COLUMN], steps, width, n[_C] + part * steps * PANEL)


@lazy_part
def _product_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Some rows and some panels of a product."""
    n = numbers(arguments)
    room = _room(n, worker)
    at, addresses = room, numbers(room)
    room += _ADDRESSES
    positions, table = n[_POSITIONS], numbers(n[_POSITION_TABLE])
    steps = n[_COUNT] * n[_STEPS]
    panels = -(-n[_COLUMN_COUNT] // WIDTH)
    block, group, groups = part // n[_GROUPS], part % n[_GROUPS], n[_GROUPS]
    first = block * n[_BLOCK]
    last = min(first + n[_BLOCK], n[_ROW_COUNT])
    a, a_image = n[_A] + first // positions * n[_A_IMAGE], n[_A_IMAGE]
    if n[_LINES]:
        for image in range((last - first) // positions):
            _pad(a + image * a_image, n[_LINES], n[_LINE], n[_LINE_TABLE], n[_PADDED], room + image * n[_PADDED])
        a, a_image = room, n[_PADDED]
        room += (last - first) // positions * n[_PADDED]
    floor = np.float32(0) if n[_RELU] else np.float32(-np.inf)
    for panel in range(group * panels // groups, (group + 1) * panels // groups):
        column = panel * WIDTH
        columns = n[_COLUMN_COUNT] - column
        b = n[_B] + panel * steps * PANEL
        if not n[_B_PACKED]:
            b = room
            source = n[_B] + column * n[_B_COLUMN]
            _pack(source, n[_B_STEP], n[_B_COLUMN], steps, min(columns, WIDTH), b)
        start = n[_START] + column * n[_START_COLUMN]
        image, position = a, first % positions
        for row in range(first, last, ROWS):
            for r in range(ROWS):
                if row + r < last:
                    addresses[r] = image + table[position]
                    addresses[ROWS + r] = start + (row + r) * n[_START_ROW]
                    addresses[2 * ROWS + r] = n[_C] + (row + r) * n[_C_ROW] + column * 4
                    position += 1
                    if position == positions:
                        position = 0
                        image += a_image
                else:  # the last row once more
                    addresses[r] = addresses[r - 1]
                    addresses[ROWS + r] = addresses[ROWS + r - 1]
                    addresses[2 * ROWS + r] = addresses[2 * ROWS + r - 1]
            _tile(
                at,
                at + 8 * ROWS,
                at + 16 * ROWS,
                n[_SEGMENTS],
                n[_COUNT],
                n[_STEPS],
                n[_STEP],
                b,
                floor,
                columns,
            )


@compiled("void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def rows_product(a, a_row, start, start_row, c, c_row, rows, steps, columns, panels):  # type: ignore[no-untyped-def]
    """For a part that has more to do: `C = C0 + A @ B` of some rows, B as `packed` gives it.

    A, C0 and C are given by the addresses of their first row (`start` is C0's) and the bytes from row to row.
    """
    at = stack_room()
    addresses = numbers(at)
    addresses[3 * ROWS] = 0  # the only segment
    for column in range(0, columns, WIDTH):
        b = panels + column // WIDTH * steps * PANEL
        for first in range(0, rows, ROWS):
            for r in range(ROWS):
                row = min(first + r, rows - 1)  # the last row once more
                addresses[r] = a + row * a_row
                addresses[ROWS + r] = start + row * start_row + 4 * column
                addresses[2 * ROWS + r] = c + row * c_row + 4 * column
            starts, cs, segments = at + 8 * ROWS, at + 16 * ROWS, at + 24 * ROWS
            _tile(at, starts, cs, segments, 1, steps, 4, b, np.float32(-np.inf), columns - column)


@lazy_part
def _kernel_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """One share of the images: sums over their pixels, for all rows (taps and channels) and columns (filters).

    Row r of A is `_A + table[r]`; a segment is a line of outputs, `_COUNT` of them in an image.
    """
    n = numbers(arguments)
    room = _room(n, worker)
    at, addresses = room, numbers(room)
    room += _ADDRESSES
    images, shares, most = n[_ROW_COUNT], n[_GROUPS], n[_BLOCK]
    count, rows = n[_COUNT], n[_POSITIONS]
    pixels = count * n[_STEPS]  # of an image
    table = numbers(n[_POSITION_TABLE])
    lines = numbers(n[_SEGMENTS])
    segments_at, segments = room, numbers(room)
    room += -(-most * count * 8 // 64) * 64
    packed = room
    room += most * pixels * PANEL
    a_image = n[_PADDED] if n[_LINES] else n[_A_IMAGE]
    for image in range(most):
        for line in range(count):
            segments[image * count + line] = image * a_image + lines[line]
    total = n[_C] + part * rows * n[_C_ROW]
    end = images * (part + 1) // shares
    begin = images * part // shares
    for first in range(begin, end, most):
        size = min(most, end - first)
        a = n[_A] + first * n[_A_IMAGE]
        if n[_LINES]:
            for image in range(size):
                source = a + image * n[_A_IMAGE]
                _pad(source, n[_LINES], n[_LINE], n[_LINE_TABLE], n[_PADDED], room + image * n[_PADDED])
            a = room
        for column in range(0, n[_COLUMN_COUNT], WIDTH):
            columns = n[_COLUMN_COUNT] - column
            source = n[_B] + first * pixels * n[_B_STEP] + column * 4
            _pack(source, n[_B_STEP], 4, size * pixels, min(columns, WIDTH), packed)
            for row in range(0, rows, ROWS):
                for r in range(ROWS):
                    q = min(row + r, rows - 1)
                    addresses[r] = a + table[q]
                    addresses[2 * ROWS + r] = total + q * n[_C_ROW] + column * 4
                    addresses[ROWS + r] = n[_START] if first == begin else addresses[2 * ROWS + r]
                _tile(
                    at,
                    at + 8 * ROWS,
                    at + 16 * ROWS,
                    segments_at,
                    size * count,
                    n[_STEPS],
                    n[_STEP],
                    packed,
                    np.float32(-np.inf),
                    columns,
                )


_BYTE = np.dtype(np.uint8)
_NONE = np.zeros(WIDTH, np.float32)  # C0 without a bias
_ORIGIN = np.zeros(1, np.int64)
_ALONE = 500_000  # multiplications below which a second thread does not pay
_WAKES = 8_000_000  # multiplications for which a helper is waked
_STRETCH = 1 << 18  # numbers of A, 1 MiB: where A is transposed, each panel reads them anew from the cache of a core
_SHARES = 8  # of the images in a kernel gradient; fixed, so that sums do not depend on the number of threads
_BLOCK_BYTES = 1 << 17  # of packed pixels: they stay in the cache of a core


class _Plan:
    """What does not change between products of the same shapes.

    Args:
        part, parts: the part function, and how many parts it is called for.
        numbers: a part's arguments by place, but for the addresses; others are 0.
        room: bytes that a worker needs.
        work: multiplications of all parts.
        tables: positions, segments and lines.
    """

    __slots__ = ("arguments", "part", "parts", "room", "tables", "wake")

    def __init__(
        self,
        part: Any,
        parts: int,
        numbers: dict[int, int],
        room: int = 0,
        work: int = 0,
        tables: tuple[Any, Any, Any] = (_ORIGIN, _ORIGIN, _ORIGIN),
    ):
        self.part, self.parts, self.tables, self.wake = part.address, parts, tables, work >= _WAKES
        each = -(-(room + _ADDRESSES) // 128) * 128
        self.room = ((each * team.size if parts > 1 else each) + 64,)
        self.arguments = np.zeros(ROOM, np.int64)
        for place, number in numbers.items():
            self.arguments[place] = number
        self.arguments[_SCRATCH_STEP] = each
        for place, table in zip((_POSITION_TABLE, _SEGMENTS, _LINE_TABLE), tables, strict=True):
            self.arguments[place] = table.ctypes.data

    def run(self, a: Any, b: Any, c: Any, start: Any = None) -> None:
        """Compute; the arrays begin with the first element of their matrices."""
        items = a, b, c, _NONE if start is None else start, empty(self.room, _BYTE)
        team.run(self.part, self.arguments, self.parts, self.wake, items)


def is_matrix(array: Any) -> bool:
    """Whether `matrix_product` takes it: a float32 matrix, not empty, whose rows are contiguous."""
    return array.dtype.char == "f" and array.ndim == 2 and array.size > 0 and array.strides[1] == 4


def check_shape(name: str, array: Any, shape: Ints) -> None:
    """The tile does not look at shapes: an array that is too small would have it write beside it."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")


def matrix_product(
    a: Any, b: Any, ta: bool = False, tb: bool = False, bias: Any = None, relu: bool = False, out: Any = None
) -> Any:
    """`a @ b + bias`, either matrix transposed on request, through relu on request; of matrices as `is_matrix` says."""
    rows, steps = a.shape[::-1] if ta else a.shape
    there, columns = b.shape[::-1] if tb else b.shape
    if steps != there:
        raise ValueError(f"Matrices of the shapes {a.shape} and {b.shape} cannot be multiplied (ta={ta}, tb={tb}).")
    if out is None:
        out = empty((rows, columns), a.dtype)
    check_shape("out", out, (rows, columns))
    check_shape("bias", bias, (columns,))
    strides = a.strides[0], b.strides[0], out.strides[0]
    stretch = max(_STRETCH // rows, 64)
    if ta and not tb and steps >= 2 * stretch and bias is None and not relu:
        for first in range(0, steps, stretch):
            plan = _product_plan(rows, min(stretch, steps - first), columns, strides, ta, tb, adds=first > 0)
            plan.run(a[first:], b[first:], out, out if first else None)
        return out
    plan = _product_plan(rows, steps, columns, strides, ta, tb, bias is not None, relu)
    plan.run(a, b, out, bias)
    return out


@lru_cache(maxsize=1024)
def _product_plan(
    rows: int,
    steps: int,
    columns: int,
    strides: Ints,
    ta: bool,
    tb: bool,
    has_bias: bool = False,
    relu: bool = False,
    adds: bool = False,
) -> _Plan:
    panels = -(-columns // WIDTH)
    blocks = groups = 1
    work = rows * steps * columns
    if work >= _ALONE:
        groups = panels
        if panels < 2 * team.size:
            blocks = min(-(-4 * team.size // panels), -(-rows // (4 * ROWS)))
    block = -(-rows // blocks)
    numbers = {
        _A_IMAGE: 4 if ta else strides[0],  # a row is an image of one position
        _POSITIONS: 1,
        _COUNT: 1,
        _STEPS: steps,
        _STEP: strides[0] if ta else 4,
        _B_STEP: 4 if tb else strides[1],
        _B_COLUMN: strides[1] if tb else 4,
        _C_ROW: strides[2],
        _ROW_COUNT: rows,
        _COLUMN_COUNT: columns,
        _START_COLUMN: 4 if has_bias or adds else 0,
        _START_ROW: strides[2] if adds else 0,
        _RELU: int(relu),
        _BLOCK: block,
        _GROUPS: groups,
    }
    return _Plan(_product_part, -(-rows // block) * groups, numbers, steps * PANEL, work)


def packed(b: Any, tb: bool = False) -> Any:
    """A matrix (`is_matrix`; transposed on request) in panels, as `rows_product` reads it."""
    steps, columns = b.shape[::-1] if tb else b.shape
    out = empty((-(-columns // WIDTH) * steps * WIDTH,), b.dtype)
    plan = _packing_plan(steps, columns, b.strides[0], tb)
    plan.run(b, b, out)
    return out


@lru_cache(maxsize=256)
def _packing_plan(steps: int, columns: int, stride: int, tb: bool) -> _Plan:
    numbers = {
        _COUNT: 1,
        _STEPS: steps,
        _B_STEP: 4 if tb else stride,
        _B_COLUMN: stride if tb else 4,
        _COLUMN_COUNT: columns,
    }
    return _Plan(_pack_part, -(-columns // WIDTH), numbers)


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
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    relu: bool = False,
    out: Any = None,
) -> Any:
    """The kernel `conv` of contiguous float32 arrays without groups, through relu on request."""
    shape, packed_size, pack, product = _convolution_plans(
        x.shape, kernel.shape, strides, padding, dilation, bias is not None, relu
    )
    if out is None:
        out = empty(shape, x.dtype)
    check_shape("out", out, shape)
    check_shape("bias", bias, shape[-1:])
    weights = kernel
    if pack is not None:
        packed = empty(packed_size, x.dtype)
        pack.run(weights, weights, packed)
        weights = packed
    product.run(x, weights, out, bias)
    return out


@lru_cache(maxsize=256)
def _convolution_plans(
    x_shape: Ints, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints, has_bias: bool, relu: bool
) -> tuple[Ints, Ints, _Plan | None, _Plan]:
    """(shape of the result, size of the packed kernel, plan to pack it unless each part does, plan of the product)."""
    if x_shape[-1] != kernel_shape[-2]:
        raise ValueError(f"A kernel of the shape {kernel_shape} takes {kernel_shape[-2]} channels, got {x_shape[-1]}.")
    g = _geometry(x_shape, kernel_shape[:-2], strides, padding, dilation)
    images, filters = x_shape[0], kernel_shape[-1]
    rows, steps, panels = images * g.pixels, len(g.segments) * g.steps, -(-filters // WIDTH)
    work = rows * steps * filters
    each = max(images // 16, -(-64 // g.pixels)) if work >= _ALONE else images  # images of a block
    blocks = -(-images // each)
    groups = panels if blocks == 1 and work >= _ALONE else 1
    numbers = {
        _A_IMAGE: g.image,
        _POSITIONS: g.pixels,
        _COUNT: len(g.segments),
        _STEPS: g.steps,
        _STEP: 4,
        _B_PACKED: int(blocks > 1),
        _B_STEP: 4 * filters,
        _B_COLUMN: 4,
        _C_ROW: 4 * filters,
        _ROW_COUNT: rows,
        _COLUMN_COUNT: filters,
        _START_COLUMN: 4 if has_bias else 0,
        _RELU: int(relu),
        _BLOCK: each * g.pixels,
        _GROUPS: groups,
        _LINES: g.lines,
        _LINE: g.line,
        _PADDED: g.padded,
    }
    room = (each * g.padded if g.lines else 0) + (0 if blocks > 1 else steps * PANEL)
    tables = (g.positions, g.segments, g.line_table)
    product = _Plan(_product_part, blocks * groups, numbers, room, work, tables)
    pack = _Plan(_pack_part, panels, numbers, tables=tables) if blocks > 1 else None
    return (images, *g.output_shape, filters), (panels * steps * WIDTH,), pack, product


def convolution_kernel_grad(
    x: Any, gradient: Any, kernel_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    """The kernel `conv_kernel_grad` of contiguous float32 arrays without groups."""
    if out is None:
        out = empty(kernel_shape, x.dtype)
    check_shape("out", out, kernel_shape)
    shares, plan = _kernel_grad_plan(x.shape, gradient.shape, kernel_shape, strides, padding, dilation)
    sums = out if shares == 1 else empty((shares, out.size), x.dtype)
    plan.run(x, gradient, sums)
    if shares > 1:
        np.sum(sums, axis=0, out=out.reshape(-1))
    return out


@lru_cache(maxsize=256)
def _kernel_grad_plan(
    x_shape: Ints, gradient_shape: Ints, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints
) -> tuple[int, _Plan]:
    """(how many sums there are to add up, plan)."""
    g = _geometry(x_shape, kernel_shape[:-2], strides, padding, dilation)
    images, filters, rows = x_shape[0], kernel_shape[-1], len(g.kernel_rows)
    fitting = (images, *g.output_shape, filters)
    if x_shape[-1] != kernel_shape[-2] or gradient_shape != fitting:
        raise ValueError(
            f"Inputs of the shape {x_shape} and a gradient of {gradient_shape} do not belong to a kernel of "
            f"{kernel_shape}."
        )
    shares = min(images, _SHARES)
    most = max(min(-(-images // shares), _BLOCK_BYTES // (g.pixels * PANEL)), 1)
    numbers = {
        _A_IMAGE: g.image,
        _POSITIONS: rows,
        _COUNT: len(g.output_lines),
        _STEPS: g.line_length,
        _STEP: g.line_step,
        _B_STEP: 4 * filters,
        _C_ROW: 4 * filters,
        _ROW_COUNT: images,
        _COLUMN_COUNT: filters,
        _BLOCK: most,
        _GROUPS: shares,
        _LINES: g.lines,
        _LINE: g.line,
        _PADDED: g.padded,
    }
    room = most * (8 * len(g.output_lines) + g.pixels * PANEL + (g.padded if g.lines else 0)) + 64
    tables = (g.kernel_rows, g.output_lines, g.line_table)
    return shares, _Plan(_kernel_grad_part, shares, numbers, room, images * g.pixels * rows * filters, tables)


def turned_round(kernel: Any, padding: Padding, dilation: Ints) -> tuple[Any, Padding]:
    """(kernel, padding) of the convolution that is a convolution's input gradient.

    Channels and filters are exchanged, and the window begins at its other end.
    """
    size = kernel.shape[:-2]
    turned = empty((*size, kernel.shape[-1], kernel.shape[-2]), kernel.dtype)
    np.copyto(turned, np.flip(kernel, tuple(range(len(size)))).swapaxes(-1, -2))
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
