"""Convolutions with windows of 3 x 3 by Winograd's method: four times fewer multiplications than the windows have.

A tile of 4 x 4 outputs depends on 6 x 6 inputs.  Both sides are taken for polynomials: their values at 0, four more
points and infinity are multiplied, and the result is interpolated.  With the matrices that evaluate inputs, evaluate
the kernel and interpolate, used on rows and on columns,

    Y = A' [(G g G') * (B' d B)] A

where * multiplies 36 values one by one; summed over the channels, that is 36 matrix products of (tiles, channels) by
(channels, filters).  The input's gradient is a convolution with the kernel turned round.  The kernel's gradient takes
a tile's 4 x 4 output gradients for the window, and its products run over the tiles.  Formulas: A. Lavin and S. Gray,
"Fast Algorithms for Convolutional Neural Networks" (2015).

The points are +-sqrt(1/2) and +-sqrt(2) instead of the usual +-1 and +-2: the powers of a pair balance those of the
other, and a result of float32 is off by 1e-6 of the largest one, five times less.  A NaN or an infinity reaches the
whole tile instead of the windows that hold it.

A part takes so many tiles that what it makes of them stays in its core's cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import emitted, inner, lazy_part
from minikeras.kernels.cpu.machine import ROOM, Loop, function, numbers
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import LANES, PANEL, ROWS, WIDTH, check_shape, products, turned_round
from minikeras.kernels.reference.conv import Ints, Padding, output_shape

_WINDOW, _TILE = 3, 4  # what an output takes and how many outputs a tile has, along an axis
_SIDE = _TILE + _WINDOW - 1  # of a tile's inputs
_POINTS = _SIDE * _SIDE

_FINITE = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])  # pairs of opposites stand side by side


def _evaluation(length: int) -> Any:
    """(points, length): the values of a polynomial with so many coefficients; at infinity, the last of them."""
    return np.vstack([_FINITE[:, None] ** np.arange(length), np.eye(length)[-1:]])


def _inputs() -> Any:
    """(points, inputs): the coefficients of the polynomials that vanish at all points but one; for infinity, at all."""
    others = [np.append(np.poly(np.delete(_FINITE, i))[::-1], 0) for i in range(len(_FINITE))]
    return np.vstack([*others, np.poly(_FINITE)[::-1]])


def _weights(length: int) -> Any:
    """`_evaluation`, with the divisors of interpolation."""
    divisors = [np.prod(point - np.delete(_FINITE, i)) for i, point in enumerate(_FINITE)]
    return _evaluation(length) / np.array([*divisors, 1])[:, None]


def _sum(builder: Any, coefficients: Any, vectors: list[Any]) -> Any:
    """Emit a linear combination."""
    terms = [(round(c, 12), v) for c, v in zip(coefficients, vectors, strict=True) if abs(c) > 1e-12]
    terms.sort(key=lambda term: term[0] != 1)
    kind = terms[0][1].type
    fma = function(builder, f"llvm.fma.v{LANES}f32", kind, [kind] * 3)
    total = None
    for coefficient, vector in terms:
        factor = ir.Constant(kind, [coefficient] * LANES)
        if total is None:
            total = vector if coefficient == 1 else builder.fmul(factor, vector)
        elif abs(coefficient) == 1:
            total = (builder.fadd if coefficient == 1 else builder.fsub)(total, vector)
        else:
            total = builder.call(fma, [factor, vector, total])
    return total


def _product(builder: Any, matrix: Any, vectors: list[Any]) -> list[Any]:
    """Emit a matrix times a column of vectors.

    Rows, or columns, 1 and 2 differ only in the signs of what is odd, so do 3 and 4: their even and odd halves are
    computed once.
    """
    if len(matrix) == _SIDE:
        made = {i: _sum(builder, matrix[i], vectors) for i in (0, 5)}
        for i in (1, 3):
            even = _sum(builder, (matrix[i] + matrix[i + 1]) / 2, vectors)
            odd = _sum(builder, (matrix[i] - matrix[i + 1]) / 2, vectors)
            made[i], made[i + 1] = builder.fadd(even, odd), builder.fsub(even, odd)
        return [made[i] for i in range(_SIDE)]
    halves, matrix = list(vectors), matrix.copy()
    for i in (1, 3):
        one, other = vectors[i], vectors[i + 1]
        halves[i], halves[i + 1] = builder.fadd(one, other), builder.fsub(one, other)
        even, odd = (matrix[:, i] + matrix[:, i + 1]) / 2, (matrix[:, i] - matrix[:, i + 1]) / 2
        matrix[:, i], matrix[:, i + 1] = even, odd
    return [_sum(builder, row, halves) for row in matrix]


def _whole_vectors(count: int) -> int:
    return -(-count // LANES) * LANES


def _transformation(
    name: str, matrix: Any, source_tiles: bool = False, target_tiles: bool = False, finish: bool = False
) -> Any:
    """The function that computes M V M' for the squares V of many items, each of them a vector over channels.

    Args:
        name: the function's.
        matrix: M.
        source_tiles, target_tiles: whether items there are tiles: each has its own row of the table, the distance is
            an image's, and a value whose offset is negative is not in the image.
        finish: whether the results are max(floor, M V M' + bias).
    """

    def transform(  # type: ignore[no-untyped-def]
        builder,
        count,
        channels,
        source,
        source_table,
        source_distance,
        target,
        target_table,
        target_distance,
        first_tile,
        tiles,
        nowhere,
        bias,
        floor,
    ):
        """See above.

        Args:
            count, channels: how many items, and numbers in each vector.
            source, target: the vectors of an item's square, row by row, are at this address plus the offsets in the
                table, the next item's a distance further.
            first_tile, tiles, nowhere: number of the first item's tile, tiles in an image, address for what is not in
                the image.
        """
        word, number, bit = ir.IntType(32), ir.IntType(64), ir.IntType(1)
        kind, lanes, bits = (ir.VectorType(of, LANES) for of in (ir.FloatType(), number, bit))
        alignment, zeros = ir.Constant(word, 4), ir.Constant(kind, [0.0] * LANES)
        outputs, inputs = matrix.shape
        at, suffix = kind.as_pointer(), f"v{LANES}f32.p0"
        read = function(builder, f"llvm.masked.load.{suffix}", kind, [at, word, bits, kind])
        write = function(builder, f"llvm.masked.store.{suffix}", ir.VoidType(), [kind, at, word, bits])

        def spread(value: Any, kind: Any) -> Any:
            undefined = ir.Constant(kind, ir.Undefined)
            single = builder.insert_element(undefined, value, ir.Constant(word, 0))
            return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(word, LANES), [0] * LANES))

        def times(value: Any, factor: int) -> Any:
            return builder.mul(value, ir.Constant(number, factor))

        def entry(array: Any, index: Any, further: int) -> Any:
            return builder.gep(array, [builder.add(index, ir.Constant(number, further))])

        def room(side: int) -> Any:
            """For the addresses of a square."""
            return builder.alloca(lanes, _whole_vectors(side**2) // LANES)

        def fill(places: Any, item: Any, first: Any, table: Any, distance: Any, is_tile: bool, values: int) -> Any:
            """Write an item's addresses."""
            if is_tile:
                tile = builder.add(first_tile, item)
                item, rest = builder.sdiv(tile, tiles), builder.srem(tile, tiles)
                table = builder.add(table, times(rest, 8 * _whole_vectors(values)))
            start = spread(builder.add(first, builder.mul(item, distance)), lanes)
            table = builder.inttoptr(table, lanes.as_pointer())
            for i in range(_whole_vectors(values) // LANES):
                offsets = builder.load(builder.gep(table, [ir.Constant(word, i)]), align=8)
                addresses = builder.add(start, offsets)
                if is_tile:
                    is_inside = builder.icmp_signed(">=", offsets, ir.Constant(lanes, [0] * LANES))
                    addresses = builder.select(is_inside, addresses, spread(nowhere, lanes))
                builder.store(addresses, builder.gep(places, [ir.Constant(word, i)]))
            return builder.bitcast(places, number.as_pointer())

        def place(places: Any, index: Any, further: int) -> Any:
            address = builder.load(entry(places, index, further), align=8)
            return builder.inttoptr(builder.add(address, bytes_before), at)

        half, rooms = builder.alloca(kind, inputs * outputs), (room(inputs), room(outputs))
        with Loop(builder, count) as items:
            from_places = fill(rooms[0], items.index, source, source_table, source_distance, source_tiles, inputs**2)
            to_places = fill(rooms[1], items.index, target, target_table, target_distance, target_tiles, outputs**2)
            with Loop(builder, channels, step=LANES) as vectors:
                left = spread(builder.sub(channels, vectors.index), lanes)
                there = builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), left)
                bytes_before = times(vectors.index, 4)
                if finish:
                    shift_place = builder.inttoptr(builder.add(bias, bytes_before), at)
                    shift = builder.call(read, [shift_place, alignment, there, zeros])
                    least = spread(floor, kind)
                with Loop(builder, ir.Constant(number, inputs)) as columns:
                    column = []
                    for row in range(inputs):
                        from_place = place(from_places, columns.index, row * inputs)
                        column.append(builder.call(read, [from_place, alignment, there, zeros]))
                    for row, value in enumerate(_product(builder, matrix, column)):
                        builder.store(value, entry(half, columns.index, row * inputs))
                with Loop(builder, ir.Constant(number, outputs)) as rows:
                    first = times(rows.index, inputs)
                    line = [builder.load(entry(half, first, i)) for i in range(inputs)]
                    for i, value in enumerate(_product(builder, matrix, line)):
                        if finish:
                            value = builder.fadd(value, shift)
                            value = builder.select(builder.fcmp_ordered("<", value, least), least, value)  # NaN stays
                        to_place = place(to_places, times(rows.index, outputs), i)
                        builder.call(write, [value, to_place, alignment, there])

    transform.__name__ = name
    return emitted(f"void({', '.join(['int64'] * 12)}, float32)")(transform)


_transform_inputs = _transformation("_transform_inputs", _inputs(), source_tiles=True)
_transform_kernel = _transformation("_transform_kernel", _weights(_WINDOW))
_transform_gradients = _transformation("_transform_gradients", _weights(_TILE), source_tiles=True)
_make_outputs = _transformation("_make_outputs", _evaluation(_TILE).T, target_tiles=True, finish=True)
_make_kernel = _transformation("_make_kernel", _evaluation(_WINDOW).T)

# What a part reads: numbers at these places of its arguments.  Planes (one for each point) have rows of a tile or of a
# channel: V those of the inputs, M of the outputs, W of a panel of their gradients (in M's place), U of the kernel, a
# panel after the other, S of its gradient (U's like).  A table has offsets in bytes: of a tile's pixels (a row for each
# tile of an image), of planes or of taps.
_X, _Y, _BIAS, _U, _SCRATCH, _RELU = range(6)  # addresses, but for the last
_TOTAL, _TILES, _BLOCK, _SHARES, _SCRATCH_STEP = range(6, 11)  # tiles of all images and of one, tiles of a block
_CHANNELS, _FILTERS, _X_IMAGE, _Y_IMAGE, _EDGE, _ZEROS = range(11, 17)
_X_TABLE, _Y_TABLE, _TAPS, _V_TABLE, _M_TABLE, _U_TABLE = range(17, 23)
_V_ROW, _M_ROW, _V_PLANE, _M_PLANE, _U_PLANE = range(23, 28)

_TAP_COUNT = _WINDOW * _WINDOW
_NO_FLOOR = np.float32(-np.inf)


@inner
def _aligned(address):  # type: ignore[no-untyped-def]
    """The next beginning of a cache line."""
    return (address + 63) // 64 * 64


@lazy_part
def _kernel_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From a channel's weights (at X) to U."""
    n = numbers(arguments)
    filters = n[_FILTERS]
    for panel in range(-(-filters // WIDTH)):
        weights = n[_X] + part * filters * 4 + panel * PANEL
        u = _aligned(n[_U]) + panel * _POINTS * n[_U_PLANE] + part * PANEL
        columns = min(WIDTH, filters - panel * WIDTH)
        _transform_kernel(1, columns, weights, n[_TAPS], 0, u, n[_U_TABLE], 0, 0, 1, 0, 0, _NO_FLOOR)


@lazy_part
def _convolution_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """The outputs of some tiles, from X and U."""
    n = numbers(arguments)
    channels, filters, zeros, v_plane, m_plane = n[_CHANNELS], n[_FILTERS], n[_ZEROS], n[_V_PLANE], n[_M_PLANE]
    v_row, m_row, tiles = n[_V_ROW], n[_M_ROW], n[_TILES]
    first = part * n[_BLOCK]
    count = min(n[_BLOCK], n[_TOTAL] - first)
    nowhere = _aligned(n[_SCRATCH]) + worker * n[_SCRATCH_STEP]
    v = nowhere + n[_EDGE]
    m = v + _POINTS * v_plane
    x, x_table, x_image = n[_X], n[_X_TABLE], n[_X_IMAGE]
    _transform_inputs(count, channels, x, x_table, x_image, v, n[_V_TABLE], v_row, first, tiles, zeros, 0, _NO_FLOOR)
    u = _aligned(n[_U])
    for panel in range(-(-filters // WIDTH)):
        columns = m + panel * PANEL
        products(_POINTS, count, channels, v, v_plane, v_row, 4, u, n[_U_PLANE], zeros, 0, 0, columns, m_plane, m_row)
        u += _POINTS * n[_U_PLANE]
    y, y_table, y_image, bias = n[_Y], n[_Y_TABLE], n[_Y_IMAGE], n[_BIAS] if n[_BIAS] else zeros
    floor = np.float32(0) if n[_RELU] else _NO_FLOOR
    _make_outputs(count, filters, m, n[_M_TABLE], m_row, y, y_table, y_image, first, tiles, nowhere, bias, floor)


@lazy_part
def _kernel_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """One share's sums (at U) over its tiles, from X and the gradient at Y."""
    n = numbers(arguments)
    channels, filters, zeros, v_plane, s_plane = n[_CHANNELS], n[_FILTERS], n[_ZEROS], n[_V_PLANE], n[_U_PLANE]
    w_plane, v_row, tiles = n[_M_PLANE], n[_V_ROW], n[_TILES]
    v = _aligned(n[_SCRATCH]) + worker * n[_SCRATCH_STEP]
    w = v + _POINTS * v_plane
    s = w + _POINTS * w_plane
    panels, s_panel = -(-filters // WIDTH), _POINTS * s_plane
    x, x_table, x_image = n[_X], n[_X_TABLE], n[_X_IMAGE]
    begin, end = n[_TOTAL] * part // n[_SHARES], n[_TOTAL] * (part + 1) // n[_SHARES]
    for first in range(begin, end, n[_BLOCK]):
        count = min(n[_BLOCK], end - first)
        _transform_inputs(
            count, channels, x, x_table, x_image, v, n[_V_TABLE], v_row, first, tiles, zeros, 0, _NO_FLOOR
        )
        for panel in range(panels):
            y, columns = n[_Y] + panel * PANEL, min(WIDTH, filters - panel * WIDTH)
            _transform_gradients(
                count,
                columns,
                y,
                n[_Y_TABLE],
                n[_Y_IMAGE],
                w,
                n[_M_TABLE],
                PANEL,
                first,
                tiles,
                zeros,
                0,
                _NO_FLOOR,
            )
            total = s + panel * s_panel
            start, start_plane, start_row = total, s_plane, PANEL
            if first == begin:
                start, start_plane, start_row = zeros, 0, 0
            products(
                _POINTS,
                channels,
                count,
                v,
                v_plane,
                4,
                v_row,
                w,
                w_plane,
                start,
                start_plane,
                start_row,
                total,
                s_plane,
                PANEL,
            )
    weights = n[_U] + part * _TAP_COUNT * channels * filters * 4
    for panel in range(panels):
        source, taps, columns = s + panel * s_panel, weights + panel * PANEL, min(WIDTH, filters - panel * WIDTH)
        _make_kernel(channels, columns, source, n[_U_TABLE], PANEL, taps, n[_TAPS], 4 * filters, 0, 1, 0, 0, _NO_FLOOR)


_BYTE = np.dtype(np.uint8)
_BLOCK_BYTES = 3 << 18  # of a block's planes: they stay in the cache of a core
_LEAST_PARTS = 16
_MOST_SHARES = 8  # of the tiles in a kernel gradient; fixed, so that sums do not depend on the number of threads
_GAP = 64  # bytes between planes: distances of a power of two would meet in a few lines of the cache


def _table(offsets: Any) -> Any:
    """With rows of whole vectors."""
    return np.pad(offsets, ((0, 0), (0, -offsets.shape[1] % LANES)))


def _pixels(counts: Ints, side: int, before: Ints, lengths: Ints, pixel: int) -> Any:
    """The table of so many tiles' pixels, which begin so far before an image of these lengths; -1 beside the image."""
    y, x = (
        _TILE * np.arange(count)[:, None] + np.arange(side) - first for count, first in zip(counts, before, strict=True)
    )
    y, x = y[:, None, :, None], x[None, :, None, :]
    is_inside = (y >= 0) & (y < lengths[0]) & (x >= 0) & (x < lengths[1])
    return _table(np.where(is_inside, (y * lengths[1] + x) * pixel, -1).reshape(-1, side * side))


class _Plan:
    """What does not change between convolutions of the same shapes, or between their kernel gradients."""

    def __init__(self, x_shape: Ints, kernel_shape: Ints, padding: Padding, is_gradient: bool):
        images, height, width, channels = x_shape
        filters = kernel_shape[-1]
        if channels != kernel_shape[-2]:
            raise ValueError(f"A kernel of the shape {kernel_shape} takes {kernel_shape[-2]} channels, got {channels}.")
        outputs = output_shape(x_shape, kernel_shape[:-2], (1, 1), padding, (1, 1))
        self.output_shape = (images, *outputs, filters)
        counts = tuple(-(-length // _TILE) for length in outputs)
        total, panels = images * counts[0] * counts[1], -(-filters // WIDTH)
        v_row, m_row = 4 * _whole_vectors(channels), PANEL * (1 if is_gradient else panels)
        most = max(_BLOCK_BYTES // (_POINTS * (v_row + m_row)), 1)
        self.parts = min(_MOST_SHARES, total) if is_gradient else max(_LEAST_PARTS, -(-total // most))
        share = -(-total // self.parts)
        block = -(-share // -(-share // most))
        block = -(-block // ROWS) * ROWS
        if not is_gradient:
            self.parts = -(-total // block)
        v_plane, m_plane, u_plane = (
            rows * row + _GAP for rows, row in ((block, v_row), (block, m_row), (channels + ROWS, PANEL))
        )
        self.u_bytes = panels * _POINTS * u_plane
        edge = max(v_row, panels * PANEL)
        room = edge + _POINTS * (v_plane + m_plane) + (self.u_bytes if is_gradient else 0)
        each = -(-room // 128) * 128
        self._scratch = (each * team.size + 64,)
        self._tables = [
            _pixels(counts, _SIDE, (padding[0][0], padding[1][0]), (height, width), 4 * channels),
            _pixels(counts, _TILE, (0, 0), outputs, 4 * filters),
            _table(np.arange(_TAP_COUNT)[None] * (channels * filters * 4)),
            *(_table(np.arange(_POINTS)[None] * plane) for plane in (v_plane, m_plane, u_plane)),
        ]
        self._zeros = np.zeros(edge, _BYTE)
        numbers = {
            **{_TOTAL: total, _TILES: counts[0] * counts[1], _BLOCK: block, _SHARES: self.parts},
            **{
                _CHANNELS: channels,
                _FILTERS: filters,
                _SCRATCH_STEP: each,
                _EDGE: edge,
                _ZEROS: self._zeros.ctypes.data,
            },
            **{_X_IMAGE: 4 * channels * height * width, _Y_IMAGE: 4 * filters * outputs[0] * outputs[1]},
            **{place: table.ctypes.data for place, table in enumerate(self._tables, _X_TABLE)},
            **{_V_ROW: v_row, _M_ROW: m_row, _V_PLANE: v_plane, _M_PLANE: m_plane, _U_PLANE: u_plane},
        }
        self._numbers = np.zeros(ROOM, np.int64)
        self._numbers[list(numbers)] = list(numbers.values())

    def run(self, part: Any, parts: int, x: Any, y: Any, bias: Any, u: Any, relu: bool = False) -> None:
        """Call a part function."""
        items = x, y, bias, u, empty(self._scratch, _BYTE), int(relu)
        team.run(part.address, self._numbers, parts, True, items)


_plan = lru_cache(maxsize=256)(_Plan)


def convolution(x: Any, kernel: Any, bias: Any = None, *, padding: Padding, relu: bool = False, out: Any = None) -> Any:
    """The kernel `conv` of contiguous float32 arrays, with a window of 3 x 3 and strides of 1; relu on request."""
    plan = _plan(x.shape, kernel.shape, padding, False)
    if out is None:
        out = empty(plan.output_shape, x.dtype)
    check_shape("out", out, plan.output_shape)
    check_shape("bias", bias, plan.output_shape[-1:])
    u = empty((plan.u_bytes + 64,), _BYTE)
    plan.run(_kernel_part, x.shape[-1], kernel, None, None, u)
    plan.run(_convolution_part, plan.parts, x, out, bias, u, relu)
    return out


def convolution_input_grad(gradient: Any, kernel: Any, *, padding: Padding, out: Any = None) -> Any:
    """The kernel `conv_input_grad` where `convolution` is `conv`; the padding must be smaller than the window."""
    turned, around = turned_round(kernel, padding, (1, 1))
    return convolution(gradient, turned, padding=around, out=out)


def convolution_kernel_grad(x: Any, gradient: Any, kernel_shape: Ints, *, padding: Padding, out: Any = None) -> Any:
    """The kernel `conv_kernel_grad` where `convolution` is `conv`."""
    plan = _plan(x.shape, kernel_shape, padding, True)
    if gradient.shape != plan.output_shape:
        raise ValueError(
            f"Inputs of the shape {x.shape} and a gradient of {gradient.shape} do not belong to a kernel of "
            f"{kernel_shape}."
        )
    if out is None:
        out = empty(kernel_shape, x.dtype)
    check_shape("out", out, kernel_shape)
    sums = empty((plan.parts, *kernel_shape), x.dtype)
    plan.run(_kernel_grad_part, plan.parts, x, gradient, None, sums)
    return np.sum(sums, axis=0, out=out)
