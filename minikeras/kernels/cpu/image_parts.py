"""Affine maps of float32 pictures as parts for the team: the pictures of a batch are shared.

An element is a number of a pixel, so the loops over a line of a picture (width x channels elements) do not ask for
channels.  A picture is made in blocks of lines, in passes over the elements of a block: where each is read, in float64
as SciPy rounds it; the pixel there and the fraction beyond it; the weights of neighbours, polynomials of the fraction;
and the weighted sum of neighbours.  The passes have no branches: coordinates outside are first moved inside, and in
mode "constant" what was outside is overwritten afterwards.
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

_BLOCK = 512  # elements whose passes stay in the fastest cache
_SHORT = 1 << 11  # elements that are not worth a part of their own
_LONG = 1 << 15  # elements that are worth waking a helper
_MOST = 64  # parts
_TINY = 1e-12  # too small to count in float32; far from the diagonal numbers become denormal, which take long
_ONE = np.float32(1)
_CONSTANT, _REFLECT = FILL_MODES.index("constant"), FILL_MODES.index("reflect")


@inner
def _places(place, columns, size, base, step):  # type: ignore[no-untyped-def]
    """A coordinate of each element of a line: base + column * step, without a fused multiplication, as SciPy."""
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


@inner
def _neighbours(place, size, extra, pixel, fraction, least, most, last, half, margin, step):  # type: ignore[no-untyped-def]
    """The first neighbour of each coordinate, (its pixel + margin) * step + extra, and the coordinate's fraction."""
    for e in range(size):
        p = place[e]
        p = p if p >= least else least  # NaN too
        p = most if p > most else p
        whole = np.floor(p + half)
        whole = last if whole > last else whole
        pixel[e] = np.float32((whole + margin) * step + extra[e])
        fraction[e] = np.float32(p - whole)


@inner
def _weights(fraction, weights, size, stride, polynomials, taps):  # type: ignore[no-untyped-def]
    """The weight of each neighbour of each element; a polynomial's coefficients have the highest power first."""
    for tap in range(taps):
        weight, polynomial = floats(weights + 4 * tap * stride), floats(polynomials + 4 * tap * taps)
        first = polynomial[0]
        if taps == 1:
            for e in range(size):
                weight[e] = first
        else:
            second = polynomial[1]
            for e in range(size):
                weight[e] = first * fraction[e] + second
        for power in range(2, taps):
            coefficient = polynomial[power]
            for e in range(size):
                weight[e] = weight[e] * fraction[e] + coefficient


@instruction("void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def _weighted_sums(builder, source, y, x, y_weights, x_weights, stride, row, column, taps, out, size):  # type: ignore[no-untyped-def]
    """Each element's sum over `taps` x `taps` neighbours, whose steps in the source are `row` and `column`.

    The first neighbour is at y * row + x; weights of one neighbour are `stride` from those of the next.
    """
    lanes, places = ir.VectorType(_INT32, LANES), ir.VectorType(_INT64, LANES)
    pointers = ir.VectorType(_FLOAT.as_pointer(), LANES)
    read = function(builder, f"llvm.masked.gather.v{LANES}f32.v{LANES}p0", _VECTOR, [pointers, _INT32, _BITS, _VECTOR])
    write = function(
        builder,
        f"llvm.masked.store.v{LANES}f32.p0",
        ir.VoidType(),
        [_VECTOR, _VECTOR.as_pointer(), _INT32, _BITS],
    )
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    zeros, four, align = ir.Constant(_VECTOR, [0.0] * LANES), _number(4), ir.Constant(_INT32, 4)

    def at(array: Any, element: Any) -> Any:
        address = builder.add(array, builder.mul(element, four))
        return builder.inttoptr(address, _VECTOR.as_pointer())

    with Loop(builder, size, step=LANES) as elements:
        e = elements.index
        left = _spread(builder, builder.trunc(builder.sub(size, e), _INT32), lanes)
        wanted = builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), left)
        lines, columns = (
            builder.sext(builder.fptosi(builder.load(at(array, e), align=4), lanes), places) for array in (y, x)
        )
        first = builder.add(builder.mul(lines, _spread(builder, row, places)), columns)
        first = builder.mul(first, ir.Constant(places, [4] * LANES))
        with Loop(builder, taps, values=[zeros]) as down:
            with Loop(builder, taps, values=[zeros]) as along:
                away = builder.add(builder.mul(down.index, row), builder.mul(along.index, column))
                start = _spread(builder, builder.add(source, builder.mul(away, four)), places)
                values = builder.call(
                    read, [builder.inttoptr(builder.add(first, start), pointers), align, wanted, zeros]
                )
                weight = builder.load(at(x_weights, builder.add(builder.mul(along.index, stride), e)), align=4)
                along.following = [builder.call(fma, [values, weight, along.values[0]])]
            weight = builder.load(at(y_weights, builder.add(builder.mul(down.index, stride), e)), align=4)
            down.following = [builder.call(fma, [along.values[0], weight, down.values[0]])]
        builder.call(write, [down.values[0], at(out, e), align, wanted])


# Arguments of the part: 0 pictures made, 1 parts, 2 source (0: coefficients only), 3 the row of each picture,
# 4 coefficients of splines (order above 1), 5 matrices (0: none), 6 flips (0: none), 7 height, 8 elements of a line,
# 9 channels, 10 fill mode, 11 taps, 12 margin around coefficients, 13 how far coordinates may lie outside, 14 lines of
# a block, 15 elements for one, 16 (columns, columns mirrored, channels, zeros) of its elements, 17 the identity,
# 18 polynomials of the weights, 19 (cval, scale), 20 channel shifts (0: none), 21 whether the source is bytes,
# 22 scratch, 23 bytes of it for each worker, 24 result.


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
def _fill_outside(y, x, out, size, height, width, value):  # type: ignore[no-untyped-def]
    """Overwrite what a line reads outside: as its way is straight, that is at its ends."""
    first, last = 0, size - 1
    while first < size and not (y[first] >= 0.0 and y[first] <= height and x[first] >= 0.0 and x[first] <= width):
        out[first] = value
        first += 1
    while last > first and not (y[last] >= 0.0 and y[last] <= height and x[last] >= 0.0 and x[last] <= width):
        out[last] = value
        last -= 1


@inner
def _transform(n, picture, source, out, scratch):  # type: ignore[no-untyped-def]
    """Read a picture through its map, or only mirrored: then the nearest pixel is the pixel."""
    height, line, channels, stride = n[7], n[8], n[9], n[15]
    tables, mirrored, upside_down = n[16], 0, 0
    if n[6]:
        mirrored, upside_down = np.int64(octets(n[6])[2 * picture]), np.int64(octets(n[6])[2 * picture + 1])
    taps, margin, address, polynomials = 1, 0, n[17], n[18]
    given = _matrix(n, picture)
    if given:
        taps, margin, address = n[11], n[12], given
        polynomials += 4  # after the one of order 0
    row = line + 2 * margin * channels
    if margin:
        source = n[4] + 4 * picture * (height + 2 * margin) * row
    steps_row, steps_column = row if height + margin > 1 else 0, channels if line + margin > channels else 0
    beyond = np.float64(n[13]) if margin else 0.0
    half = 0.5 * np.float64(taps % 2)
    columns, matrix = doubles(tables + 8 * mirrored * stride), doubles(address)
    pixels, fractions, weights = scratch + 16 * stride, scratch + 24 * stride, scratch + 32 * stride
    for begin in range(0, height, n[14]):
        count = min(n[14], height - begin)
        size = count * line
        for axis in range(2):
            length = np.float64(line // channels if axis else height)
            most = length - 1.0
            for i in range(count):
                to = begin + i
                at = np.float64(height - 1 - to if upside_down else to)
                place = doubles(scratch + 8 * (axis * stride + i * line))
                _places(place, columns, line, matrix[3 * axis + 2] + at * matrix[3 * axis], matrix[3 * axis + 1])
                first, final = place[0], place[line - 1]
                if n[10] >= _REFLECT and not (first >= 0.0 and first <= most and final >= 0.0 and final <= most):
                    if n[10] == _REFLECT:
                        _reflected(place, line, length)
                    elif most > 0.0:
                        _wrapped(place, line, most)
            last = most + beyond + 1.0
            if taps == 2:  # two neighbours, unless there is but one
                last = most - 1.0 if most > 1.0 else 0.0
            _neighbours(
                doubles(scratch + 8 * axis * stride),
                size,
                doubles(tables + 8 * (3 - axis) * stride),
                floats(pixels + 4 * axis * stride),
                floats(fractions + 4 * axis * stride),
                -beyond,
                most + beyond,
                last,
                half,
                np.float64(margin - (taps - 1) // 2),
                np.float64(channels if axis else 1),
            )
            fraction = floats(fractions + 4 * axis * stride)
            _weights(fraction, weights + 4 * axis * taps * stride, size, stride, polynomials, taps)
        result = out + 4 * begin * line
        _weighted_sums(
            source,
            pixels,
            pixels + 4 * stride,
            weights,
            weights + 4 * taps * stride,
            stride,
            steps_row,
            steps_column,
            taps,
            result,
            size,
        )
        if n[10] == _CONSTANT and given:
            for i in range(count):
                y, x = doubles(scratch + 8 * i * line), doubles(scratch + 8 * (stride + i * line))
                height_most, width_most = np.float64(height) - 1.0, np.float64(line // channels) - 1.0
                _fill_outside(y, x, floats(result + 4 * i * line), line, height_most, width_most, floats(n[19])[0])


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
    size, scratch = n[7] * n[8], n[22] + worker * n[23]
    scale = floats(n[19])[1]
    for picture in range(n[0] * part // n[1], n[0] * (part + 1) // n[1]):
        at = numbers(n[3])[picture] * size
        source, target = n[2] + 4 * at, n[24] + 4 * picture * size
        out = floats(target)
        still = _matrix(n, picture) == 0
        if n[6]:
            flips = octets(n[6] + 2 * picture)
            still = still and flips[0] == 0 and flips[1] == 0
        if n[21]:
            source = target if still else scratch + (32 + 8 * n[11]) * n[15]
            taken, converted = octets(n[2] + at), floats(source)
            for e in range(size):
                converted[e] = np.float32(taken[e])
        if not still:
            _transform(n, picture, source, target, scratch)
        elif source != target:
            before = floats(source)
            for e in range(size):
                out[e] = before[e]
        if n[20]:
            shift = floats(n[20])[picture]
            if shift == shift:
                _shift(out, n[7], n[8], shift, floats(scratch), floats(scratch + 4 * n[15]))
        if scale != _ONE:
            for e in range(size):
                out[e] *= scale


@lru_cache(maxsize=64)
def _tables(width: int, channels: int, stride: int) -> np.ndarray:
    """(column, column mirrored, channel, 0) of each element of a block."""
    elements = np.arange(stride)
    columns = elements // channels % width
    return np.array([columns, width - 1 - columns, elements % channels, 0 * elements], np.float64)


@lru_cache(maxsize=8)
def _polynomials(order: int) -> np.ndarray:
    """1, and the weight of each neighbour as a polynomial of a coordinate's fraction, the highest power first."""
    fractions = np.linspace(0, 1, order + 1) - (0 if order % 2 else 0.5)
    neighbours = np.arange(order + 1) - order // 2
    weights = _spline(order, fractions[:, None] - neighbours) if order else np.ones((1, 1))
    return np.append(1, np.linalg.solve(np.vander(fractions), weights).T).astype(np.float32)


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
    height, width, channels = images.shape[1:]
    line = width * channels
    lines = min(max(_BLOCK // line, 1), height)
    stride = -(-lines * line // LANES) * LANES
    margin = beyond = 0
    coefficients = None
    if order > 1 and matrices is not None:
        beyond = {"nearest": _PADDING + (order + 1) // 2, "reflect": 1}.get(fill_mode, 0)
        margin = beyond + order
        coefficients = _spline_pictures(images[rows], order, fill_mode, margin)
    taps = order + 1
    of_bytes = images.dtype.char == "B"
    room = (32 + 8 * taps) * stride + 4 * height * line * of_bytes
    scratch = empty((team.size, -(-room // 64) * 16), np.dtype(np.float32))
    parts = min(len(rows), _MOST, max(out.size // _SHORT, 1))
    items = (
        (len(rows), parts, images, rows, coefficients, matrices, flips, height, line, channels)
        + (
            FILL_MODES.index(fill_mode),
            taps,
            margin,
            beyond,
            lines,
            stride,
            _tables(width, channels, stride),
            _IDENTITY,
        )
        + (_polynomials(order), np.array([cval, scale], np.float32), channel_shifts, int(of_bytes))
        + (scratch, scratch.shape[1] * 4, out)
    )
    team.run(_pictures_part.address, None, parts, out.size >= _LONG, items)
