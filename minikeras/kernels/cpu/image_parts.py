"""Affine maps of float32 pictures as parts for the team: the pictures of a batch are shared.

A picture is made in blocks of lines, in passes over the pixels of a block: where each is read, in float64 as SciPy
rounds it; the first neighbour of that place and the fraction beyond it; the weights of all neighbours, polynomials of
the fraction; and the weighted sum of neighbours.  The passes have no branches: coordinates outside are first moved
inside, and in mode "constant" what was outside is overwritten afterwards.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import inner, instruction, lazy_part
from minikeras.kernels.cpu.machine import Loop, doubles, floats, function, numbers, octets
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import _BITS, _FLOAT, _INT32, _INT64, _VECTOR, LANES, _number, _spread
from minikeras.kernels.reference.image import _FAR, _PADDING, FILL_MODES, _folded, _inverse, _spline

_BLOCK = 512  # pixels whose passes stay in the fastest cache
_SHORT = 1 << 11  # elements that are not worth a part of their own
_LONG = 1 << 15  # elements that are worth waking a helper
_MOST = 64  # parts, and pictures whose coefficients are made at once
_TINY = 1e-12  # too small to count in float32; far from the diagonal numbers become denormal, which take long
_ONE = np.float32(1)
_CONSTANT, _REFLECT = FILL_MODES.index("constant"), FILL_MODES.index("reflect")


@inner
def _places(place, columns, size, base, step):  # type: ignore[no-untyped-def]
    """The coordinate of each pixel of a line: base + column * step, without a fused multiplication, as SciPy."""
    for e in range(size):
        place[e] = base + columns[e] * step


@inner
def _reflected(place, size, length):  # type: ignore[no-untyped-def]
    """Coordinates moved inside, or half a pixel outside; see the reference's `_mapped`."""
    period = 2.0 * length
    for e in range(size):
        p = place[e]
        p = _FAR if p > _FAR else p
        p = -_FAR if p < -_FAR else p
        below = p + period * np.floor(-p / period)
        below = below + period if below < -length else -below - 1.0
        above = p - period * np.floor(p / period)
        above = period - above - 1.0 if above >= length else above
        place[e] = below if p < 0.0 else above


@inner
def _wrapped(place, size, last):  # type: ignore[no-untyped-def]
    """As `_reflected`, for a picture that repeats after `last` pixels."""
    for e in range(size):
        p = place[e]
        p = _FAR if p > _FAR else p
        p = -_FAR if p < -_FAR else p
        below = p + last * (np.floor(-p / last) + 1.0)
        above = p - last * np.floor(p / last)
        above = above if p > last else p
        place[e] = below if p < 0.0 else above


def _vectors_at(builder: Any, kind: Any, array: Any, element: Any) -> Any:
    """The place of a vector that begins at an element of an array."""
    lane = kind.element if isinstance(kind, ir.VectorType) else kind
    bytes_of_one = _number(8 if lane == ir.DoubleType() else 4)
    return builder.inttoptr(builder.add(array, builder.mul(element, bytes_of_one)), kind.as_pointer())


@instruction("void(int64, int64, int64, int64, float64, float64, float64, float64, float64)")
def _neighbours(builder, place, pixel, fraction, size, least, most, last, half, margin):  # type: ignore[no-untyped-def]
    """The first neighbour of each coordinate and how far the coordinate is beyond it; arrays end with whole vectors.

    Coordinates are moved into the range from `least` to `most`; the neighbour is at most `last`, and `margin` is added.
    """
    wide = ir.VectorType(ir.DoubleType(), LANES)
    floor = function(builder, f"llvm.floor.v{LANES}f64", wide, [wide])
    least, most, last, half, margin = (_spread(builder, value, wide) for value in (least, most, last, half, margin))
    with Loop(builder, size, step=LANES) as pixels:
        p = builder.load(_vectors_at(builder, wide, place, pixels.index), align=8)
        p = builder.select(builder.fcmp_ordered(">", p, least), p, least)  # NaN too
        p = builder.select(builder.fcmp_ordered("<", p, most), p, most)
        whole = builder.call(floor, [builder.fadd(p, half)])
        whole = builder.select(builder.fcmp_ordered("<", whole, last), whole, last)
        for value, array in ((builder.fadd(whole, margin), pixel), (builder.fsub(p, whole), fraction)):
            narrow = builder.fptrunc(value, _VECTOR)
            builder.store(narrow, _vectors_at(builder, _VECTOR, array, pixels.index), align=4)


@instruction("void(int64, int64, int64, int64, int64, int64)")
def _weights(builder, fraction, weights, size, stride, polynomials, taps):  # type: ignore[no-untyped-def]
    """The weight of each neighbour of each pixel; a polynomial's coefficients have the highest power first."""
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    with Loop(builder, taps) as tap, Loop(builder, size, step=LANES) as pixels:
        variable = builder.load(_vectors_at(builder, _VECTOR, fraction, pixels.index), align=4)
        with Loop(builder, taps, values=[ir.Constant(_VECTOR, [0.0] * LANES)]) as power:
            number = builder.add(builder.mul(tap.index, taps), power.index)
            coefficient = builder.load(_vectors_at(builder, _FLOAT, polynomials, number), align=4)
            coefficient = _spread(builder, coefficient, _VECTOR)
            power.following = [builder.call(fma, [power.values[0], variable, coefficient])]
        number = builder.add(builder.mul(tap.index, stride), pixels.index)
        builder.store(power.values[0], _vectors_at(builder, _VECTOR, weights, number), align=4)


@inner
def _nearest(source, y, x, row, channels, out, size):  # type: ignore[no-untyped-def]
    """The pixels (y, x)."""
    for p in range(size):
        place = np.int64(y[p]) * row + np.int64(x[p]) * channels
        for c in range(channels):
            out[p * channels + c] = source[place + c]


@instruction("void(int64, int64, int64, int64, int64, int64, int64, int64)")
def _bilinear(builder, source, y, x, y_fraction, x_fraction, row, out, size):  # type: ignore[no-untyped-def]
    """Pixels of one channel, each between four neighbours: (y, x), the one beside it, and those `row` further."""
    double, lanes, places = ir.DoubleType(), ir.VectorType(_INT32, LANES), ir.VectorType(_INT64, LANES)
    pairs, pointers = ir.VectorType(double, LANES), ir.VectorType(double.as_pointer(), LANES)
    read = function(builder, f"llvm.masked.gather.v{LANES}f64.v{LANES}p0", pairs, [pointers, _INT32, _BITS, pairs])
    kinds = [_VECTOR, _VECTOR.as_pointer(), _INT32, _BITS]
    write = function(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), kinds)
    align, ones = ir.Constant(_INT32, 4), ir.Constant(_VECTOR, [1.0] * LANES)
    undefined = ir.Constant(ir.VectorType(_FLOAT, 2 * LANES), ir.Undefined)
    picks = [ir.Constant(lanes, [2 * lane + side for lane in range(LANES)]) for side in (0, 1)]
    row_spread, source = _spread(builder, row, places), _spread(builder, source, places)
    with Loop(builder, size, step=LANES) as pixels:
        left = _spread(builder, builder.trunc(builder.sub(size, pixels.index), _INT32), lanes)
        wanted = builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), left)
        lines, columns, down, along = (
            builder.load(_vectors_at(builder, _VECTOR, array, pixels.index), align=4)
            for array in (y, x, y_fraction, x_fraction)
        )
        lines, columns = (builder.sext(builder.fptosi(value, lanes), places) for value in (lines, columns))
        sides = []
        for further in (0, 1):
            if further:
                lines = builder.add(lines, ir.Constant(places, [1] * LANES))
            place = builder.add(builder.mul(lines, row_spread), columns)
            place = builder.add(source, builder.shl(place, ir.Constant(places, [2] * LANES)))
            pair = builder.call(
                read, [builder.inttoptr(place, pointers), align, wanted, ir.Constant(pairs, [0.0] * LANES)]
            )
            pair = builder.bitcast(pair, undefined.type)
            one, other = (builder.shuffle_vector(pair, undefined, pick) for pick in picks)
            sides.append(_between(builder, one, other, along, ones))
        result = _between(builder, sides[0], sides[1], down, ones)
        builder.call(write, [result, _vectors_at(builder, _VECTOR, out, pixels.index), align, wanted])


def _between(builder: Any, one: Any, other: Any, fraction: Any, ones: Any) -> Any:
    """Emit (1 - fraction) * one + fraction * other, exact at both ends."""
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    return builder.call(fma, [fraction, other, builder.fmul(builder.fsub(ones, fraction), one)])


@instruction("void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def _weighted_sums(builder, source, y, x, y_weights, x_weights, stride, row, column, channels, taps, out, size):  # type: ignore[no-untyped-def]
    """Each pixel's sum over `taps` x `taps` neighbours from (y, x) on, `row` and `column` numbers apart.

    The weights of one neighbour are `stride` from those of the next.
    """
    few = 4  # channels at a time
    kind, lanes, bits = ir.VectorType(_FLOAT, few), ir.VectorType(_INT32, few), ir.VectorType(ir.IntType(1), few)
    read = function(builder, f"llvm.masked.load.v{few}f32.p0", kind, [kind.as_pointer(), _INT32, bits, kind])
    write = function(builder, f"llvm.masked.store.v{few}f32.p0", ir.VoidType(), [kind, kind.as_pointer(), _INT32, bits])
    fma = function(builder, f"llvm.fma.v{few}f32", kind, [kind] * 3)
    zeros, align = ir.Constant(kind, [0.0] * few), ir.Constant(_INT32, 4)

    def spread(value: Any) -> Any:
        single = builder.insert_element(
            ir.Constant(ir.VectorType(value.type, few), ir.Undefined), value, ir.Constant(_INT32, 0)
        )
        return builder.shuffle_vector(single, single, ir.Constant(lanes, [0] * few))

    def number_at(array: Any, element: Any) -> Any:
        return builder.load(_vectors_at(builder, _FLOAT, array, element), align=4)

    with Loop(builder, size) as pixels:
        line, place = (builder.fptosi(number_at(array, pixels.index), _INT64) for array in (y, x))
        place = builder.add(builder.mul(line, row), builder.mul(place, column))
        target = builder.mul(pixels.index, channels)
        with Loop(builder, channels, step=few) as group:
            left = spread(builder.trunc(builder.sub(channels, group.index), _INT32))
            wanted = builder.icmp_signed("<", ir.Constant(lanes, list(range(few))), left)
            first = builder.add(place, group.index)
            with Loop(builder, taps, values=[zeros]) as down:
                begin = builder.add(first, builder.mul(down.index, row))
                with Loop(builder, taps, values=[zeros]) as along:
                    at = builder.add(begin, builder.mul(along.index, column))
                    values = builder.call(read, [_vectors_at(builder, kind, source, at), align, wanted, zeros])
                    at = builder.add(builder.mul(along.index, stride), pixels.index)
                    along.following = [builder.call(fma, [values, spread(number_at(x_weights, at)), along.values[0]])]
                at = builder.add(builder.mul(down.index, stride), pixels.index)
                down.following = [
                    builder.call(fma, [along.values[0], spread(number_at(y_weights, at)), down.values[0]])
                ]
            at = _vectors_at(builder, kind, out, builder.add(target, group.index))
            builder.call(write, [down.values[0], at, align, wanted])


# Arguments of the part: 0 pictures made, 1 parts, 2 source (0: coefficients only), 3 the row of each picture,
# 4 coefficients of splines (order above 1), 5 matrices (0: none), 6 flips (0: none), 7 height, 8 width, 9 channels,
# 10 fill mode, 11 taps, 12 margin around coefficients, 13 how far coordinates may lie outside, 14 lines of a block,
# 15 pixels for one, 16 (columns, columns mirrored), 17 the identity, 18 polynomials of the weights, 19 (cval, scale),
# 20 channel shifts (0: none), 21 whether the source is bytes, 22 scratch, 23 bytes of it for each worker, 24 result.


@inner
def _matrix(n, picture):  # type: ignore[no-untyped-def]
    """A picture's map, 0 if it changes nothing."""
    if n[5] == 0:
        return 0
    address = n[5] + 48 * picture
    matrix, identity = doubles(address), doubles(n[17])
    for i in range(6):
        if matrix[i] != identity[i]:
            return address
    return 0


@inner
def _fill_outside(y, x, out, size, channels, height, width, value):  # type: ignore[no-untyped-def]
    """Overwrite what a line reads outside: as its way is straight, that is at its ends."""
    first, last = 0, size - 1
    while first < size and not (y[first] >= 0.0 and y[first] <= height and x[first] >= 0.0 and x[first] <= width):
        first += 1
    while last > first and not (y[last] >= 0.0 and y[last] <= height and x[last] >= 0.0 and x[last] <= width):
        last -= 1
    for e in range(first * channels):
        out[e] = value
    for e in range((last + 1) * channels, size * channels):
        out[e] = value


@inner
def _copy(n, mirrored, upside_down, source, out):  # type: ignore[no-untyped-def]
    """A picture that is at most mirrored."""
    height, width, channels = n[7], n[8], n[9]
    for row in range(height):
        line, to = (height - 1 - row if upside_down else row) * width * channels, row * width * channels
        if mirrored:
            for column in range(width):
                at = line + (width - 1 - column) * channels
                for c in range(channels):
                    out[to + c] = source[at + c]
                to += channels
        else:
            for e in range(width * channels):
                out[to + e] = source[line + e]


@inner
def _transform(n, picture, address, mirrored, upside_down, source, out, scratch):  # type: ignore[no-untyped-def]
    """Read a picture, or the coefficients of its splines, through its map and its mirrors."""
    height, width, channels, taps, margin, stride = n[7], n[8], n[9], n[11], n[12], n[15]
    row = (width + 2 * margin) * channels
    if margin:
        source = n[4] + 4 * picture * (height + 2 * margin) * row
    row_step, column_step = row if height + margin > 1 else 0, channels if width + margin > 1 else 0
    beyond = np.float64(n[13] if margin else 0)
    columns, matrix = doubles(n[16] + 8 * mirrored * width), doubles(address)
    y, x = scratch + 16 * stride, scratch + 20 * stride
    y_fraction, x_fraction = y + 8 * stride, x + 8 * stride
    y_weights, x_weights = scratch + 32 * stride, scratch + (32 + 4 * taps) * stride
    for begin in range(0, height, n[14]):
        count = min(n[14], height - begin)
        size = count * width
        for axis in range(2):
            length = np.float64(width if axis else height)
            most = length - 1.0
            for i in range(count):
                to = begin + i
                at = np.float64(height - 1 - to if upside_down else to)
                place = doubles(scratch + 8 * (axis * stride + i * width))
                _places(place, columns, width, matrix[3 * axis + 2] + at * matrix[3 * axis], matrix[3 * axis + 1])
                first, final = place[0], place[width - 1]
                if n[10] >= _REFLECT and not (first >= 0.0 and first <= most and final >= 0.0 and final <= most):
                    if n[10] == _REFLECT:
                        _reflected(place, width, length)
                    elif most > 0.0:
                        _wrapped(place, width, most)
            last = most + beyond + 1.0
            if taps == 2:  # there are two neighbours, unless the picture is one pixel wide
                last = np.float64(max(width if axis else height, 2) - 2)
            half, from_first = 0.5 * np.float64(taps % 2), np.float64(margin - (taps - 1) // 2)
            place_of, pixel = scratch + 8 * axis * stride, y + 4 * axis * stride
            _neighbours(place_of, pixel, pixel + 8 * stride, size, -beyond, most + beyond, last, half, from_first)
        result = out + 4 * begin * width * channels
        if taps == 1:
            _nearest(floats(source), floats(y), floats(x), row, channels, floats(result), size)
        elif taps == 2 and channels == 1 and width > 1:
            _bilinear(source, y, x, y_fraction, x_fraction, row_step, result, size)
        else:
            for axis in range(2):
                weights = y_weights + 4 * axis * taps * stride
                _weights(y_fraction + 4 * axis * stride, weights, size, stride, n[18], taps)
            if taps == 2:  # so that loops over neighbours are unrolled
                _weighted_sums(
                    source, y, x, y_weights, x_weights, stride, row_step, column_step, channels, 2, result, size
                )
            else:
                _weighted_sums(
                    source, y, x, y_weights, x_weights, stride, row_step, column_step, channels, taps, result, size
                )
        if n[10] == _CONSTANT:
            value, tall, wide = floats(n[19])[0], np.float64(height) - 1.0, np.float64(width) - 1.0
            for i in range(count):
                line, where = floats(result + 4 * i * width * channels), scratch + 8 * i * width
                _fill_outside(doubles(where), doubles(where + 8 * stride), line, width, channels, tall, wide, value)


@inner
def _shift(x, lines, line, shift, low, high):  # type: ignore[no-untyped-def]
    """Add a number, and clip to the range of what was before; NaN makes everything NaN."""
    for e in range(line):
        low[e] = x[e]
        high[e] = x[e]
    for i in range(1, lines):
        for e in range(line):
            value, least, most = x[i * line + e], low[e], high[e]
            less = least if least <= value else value
            more = most if most >= value else value
            low[e] = less if least == least else least
            high[e] = more if least == least else least
    least, most = low[0], high[0]
    for e in range(1, line):
        less = least if least <= low[e] else low[e]
        more = most if most >= high[e] else high[e]
        most = more if least == least else least
        least = less if least == least else least
    for e in range(lines * line):
        value = x[e] + shift
        value = value if value > least else least
        x[e] = value if value < most else most


@lazy_part
def _pictures_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Some pictures of the batch."""
    n = numbers(arguments)
    size, scratch = n[7] * n[8] * n[9], n[22] + worker * n[23]
    scale = floats(n[19])[1]
    for picture in range(n[0] * part // n[1], n[0] * (part + 1) // n[1]):
        at = numbers(n[3])[picture] * size
        source, target = n[2] + 4 * at, n[24] + 4 * picture * size
        out = floats(target)
        mirrored, upside_down = 0, 0
        if n[6]:
            mirrored, upside_down = octets(n[6])[2 * picture] * 1, octets(n[6])[2 * picture + 1] * 1
        matrix = _matrix(n, picture)
        if n[21]:
            still = matrix == 0 and mirrored + upside_down == 0
            source = target if still else scratch + n[23] - 4 * size
            taken, converted = octets(n[2] + at), floats(source)
            for e in range(size):
                converted[e] = np.float32(taken[e])
        if matrix:
            _transform(n, picture, matrix, mirrored, upside_down, source, target, scratch)
        elif source != target:
            _copy(n, mirrored, upside_down, floats(source), out)
        if n[20]:
            shift = floats(n[20])[picture]
            if shift == shift:
                _shift(out, n[7], n[8] * n[9], shift, floats(scratch), floats(scratch + 4 * n[8] * n[9]))
        if scale != _ONE:
            for e in range(size):
                out[e] *= scale


@lru_cache(maxsize=64)
def _columns(width: int) -> np.ndarray:
    """The columns of a picture, and the same mirrored."""
    return np.array([np.arange(width), np.arange(width)[::-1]], np.float64)


@lru_cache(maxsize=8)
def _polynomials(order: int) -> np.ndarray:
    """The weight of each neighbour as a polynomial of a coordinate's fraction, the highest power first."""
    fractions = np.linspace(0, 1, order + 1) - (0 if order % 2 else 0.5)
    neighbours = np.arange(order + 1) - order // 2
    weights = _spline(order, fractions[:, None] - neighbours)
    return np.ascontiguousarray(np.linalg.solve(np.vander(fractions), weights).T, np.float32)


@lru_cache(maxsize=16)
def _extended(length: int, order: int, fill_mode: str, margin: int) -> np.ndarray:
    """The matrix that takes pixels to coefficients, `margin` of them before the first pixel and after the last."""
    padding = _PADDING if fill_mode == "nearest" else 0
    places = np.arange(-margin, length + margin) + padding
    rows = _folded(places, length + 2 * padding, fill_mode)
    matrix = _inverse(length, order, fill_mode, padding)[rows].astype(np.float32)
    matrix[np.abs(matrix) < _TINY] = 0
    return matrix


def _spline_pictures(pictures: Any, order: int, fill_mode: str, margin: int) -> np.ndarray:
    """The coefficients of splines through pictures, all that a place inside or nearby can need."""
    n, height, width, channels = pictures.shape
    down, along = (_extended(length, order, fill_mode, margin) for length in (height, width))
    lines = np.ascontiguousarray(pictures.transpose(0, 1, 3, 2), np.float32)
    wide = np.matmul(lines.reshape(-1, width), along.T).reshape(n, height, channels, len(along))
    return np.matmul(down, wide.transpose(0, 1, 3, 2).reshape(n, height, len(along) * channels))


_IDENTITY = np.eye(2, 3)


def affine_images(
    images: Any,
    rows: Any,
    matrices: Any,
    order: int,
    fill_mode: str,
    cval: float,
    channel_shifts: Any,
    flips: Any,
    scale: float,
    out: Any,
) -> None:
    """The kernel, of contiguous arrays that are not empty, float32 or bytes, into `out`; all arguments checked."""
    if order > 1 and len(rows) > _MOST:  # coefficients take several times the room of pictures
        for start in range(0, len(rows), _MOST):
            part = slice(start, start + _MOST)
            moved, shifted, flipped = (
                None if values is None else values[part] for values in (matrices, channel_shifts, flips)
            )
            affine_images(images, rows[part], moved, order, fill_mode, cval, shifted, flipped, scale, out[part])
        return
    height, width, channels = images.shape[1:]
    lines = min(max(_BLOCK // width, 1), height)
    stride = -(-lines * width // LANES) * LANES
    margin = beyond = 0
    coefficients = None
    if order > 1 and matrices is not None:
        beyond = {"nearest": _PADDING + (order + 1) // 2, "reflect": 1}.get(fill_mode, 0)
        margin = beyond + order
        coefficients = _spline_pictures(images[rows], order, fill_mode, margin)
    taps = order + 1
    of_bytes = images.dtype.char == "B"
    room = max((32 + 8 * taps) * stride, 8 * width * channels * (channel_shifts is not None))
    room = -(-(room + 4 * height * width * channels * of_bytes) // 64) * 64
    scratch = empty((team.size, room // 4), np.dtype(np.float32))
    parts = min(len(rows), _MOST, max(out.size // _SHORT, 1))
    items = (
        (len(rows), parts, images, rows, coefficients, matrices, flips, height, width, channels)
        + (FILL_MODES.index(fill_mode), taps, margin, beyond, lines, stride, _columns(width), _IDENTITY)
        + (_polynomials(order) if order else None, np.array([cval, scale], np.float32), channel_shifts, int(of_bytes))
        + (scratch, room, out)
    )
    team.run(_pictures_part.address, None, parts, out.size >= _LONG, items)
