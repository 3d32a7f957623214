"""Image augmentation on the CPU: one compiled pass over each picture, for float32 and bytes; the team shares a batch.

A picture is made in blocks of lines, in passes over the pixels of a block: where each is read, in float64 as SciPy
rounds it; the first neighbour of that place and the fraction beyond it; the weights of all neighbours, polynomials of
the fraction; and the weighted sum of neighbours.  The passes have no branches: coordinates outside are first moved
inside, and in mode "constant" what was outside is overwritten afterwards.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import (
    Doubles,
    Numbers,
    doubles,
    floats,
    host,
    inner,
    instruction,
    octets,
    own_scratch,
    part,
    scratch,
    share,
)
from minikeras.kernels.reference import image as reference
from minikeras.kernels.reference.image import _FAR, _PADDING, FILL_MODES, _inverse, _spline, folded
from minikeras.kernels.table import Kernels, override

_BLOCK = 512  # pixels whose passes stay in the fastest cache
_SHORT = 1 << 11  # elements that are not worth a part of their own
_LONG = 1 << 15  # elements that are worth waking a helper
_MOST = 64  # parts, and pictures whose coefficients are made at once
_TINY = 1e-12  # too small to count in float32; far from the diagonal numbers become denormal, which take long
_ONE = np.float32(1)
_CONSTANT, _REFLECT = FILL_MODES.index("constant"), FILL_MODES.index("reflect")


@inner
def _places(place, columns, size, base, step):
    """The coordinate of each pixel of a line: base + column * step, without a fused multiplication, as SciPy."""
    for e in range(size):
        place[e] = base + columns[e] * step


@inner
def _reflected(place, size, length):
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
def _wrapped(place, size, last):
    """As `_reflected`, for a picture that repeats after `last` pixels."""
    for e in range(size):
        p = place[e]
        p = _FAR if p > _FAR else p
        p = -_FAR if p < -_FAR else p
        below = p + last * (np.floor(-p / last) + 1.0)
        above = p - last * np.floor(p / last)
        above = above if p > last else p
        place[e] = below if p < 0.0 else above


# Arrays of coordinates, neighbours and weights end with whole vectors.


@instruction
def _neighbours(b, place, pixel, fraction, size, least: float, most: float, last: float, half: float, margin: float):
    """The first neighbour of each coordinate and how far the coordinate is beyond it.

    Coordinates are moved into the range from `least` to `most`; the neighbour is at most `last`, and `margin` is added.
    """
    lanes = host.LANES
    wide = [b.spread(value, lanes) for value in (least, most, last, half, margin)]
    with b.loop(size, step=lanes) as pixels:
        p = b.read(b.at(place, pixels.index, 8), "float64", lanes)
        p = b.select(b.fcmp_ordered(">", p, wide[0]), p, wide[0])  # NaN too
        p = b.select(b.fcmp_ordered("<", p, wide[1]), p, wide[1])
        whole = b.invoke(f"llvm.floor.v{lanes}f64", p.type, b.fadd(p, wide[3]))
        whole = b.select(b.fcmp_ordered("<", whole, wide[2]), whole, wide[2])
        for value, array in ((b.fadd(whole, wide[4]), pixel), (b.fsub(p, whole), fraction)):
            b.write(b.fptrunc(value, b.type("float32", lanes)), b.at(array, pixels.index))


@instruction
def _weights(b, fraction, weights, size, stride, polynomials, taps):
    """The weight of each neighbour of each pixel; a polynomial's coefficients have the highest power first."""
    lanes = host.LANES
    with b.loop(taps) as tap, b.loop(size, step=lanes) as pixels:
        variable = b.read(b.at(fraction, pixels.index), "float32", lanes)
        with b.loop(taps, values=[b.constant(0.0, "float32", lanes)]) as power:
            coefficient = b.read(b.at(polynomials, b.add(b.mul(tap.index, taps), power.index)))
            power.following = [b.fma(power.values[0], variable, b.spread(coefficient, lanes))]
        b.write(power.values[0], b.at(weights, b.add(b.mul(tap.index, stride), pixels.index)))


@inner
def _nearest(source, y, x, row, channels, out, size):
    """The pixels (y, x)."""
    for p in range(size):
        place = np.int64(y[p]) * row + np.int64(x[p]) * channels
        for c in range(channels):
            out[p * channels + c] = source[place + c]


@instruction
def _bilinear(b, source, y, x, y_fraction, x_fraction, row, out, size):
    """Pixels of one channel, each between four neighbours: (y, x), the one beside it, and those `row` further."""
    lanes = host.LANES
    whole, places, pointers = b.type("int32", lanes), b.type("int64", lanes), b.type("*float64", lanes)
    none = b.constant(0.0, "float64", lanes)
    row_spread, source = b.spread(row, lanes), b.spread(source, lanes)
    with b.loop(size, step=lanes) as pixels:
        wanted = b.first_lanes(b.sub(size, pixels.index), lanes)
        lines, columns, down, along = (
            b.read(b.at(array, pixels.index), "float32", lanes) for array in (y, x, y_fraction, x_fraction)
        )
        lines, columns = (b.sext(b.fptosi(value, whole), places) for value in (lines, columns))
        sides = []
        for further in (0, 1):
            place = b.add(b.mul(b.add(lines, b.constant(further, "int64", lanes)), row_spread), columns)
            place = b.inttoptr(b.add(source, b.shl(place, b.constant(2, "int64", lanes))), pointers)
            gather = f"llvm.masked.gather.v{lanes}f64.v{lanes}p0"
            pair = b.invoke(gather, none.type, place, b.constant(4, "int32"), wanted.lanes, none)
            pair = b.bitcast(pair, b.type("float32", 2 * lanes))
            one, other = (b.picked(pair, pair, [2 * lane + side for lane in range(lanes)]) for side in (0, 1))
            sides.append(_between(b, one, other, along))
        b.write(_between(b, sides[0], sides[1], down), b.at(out, pixels.index), wanted)


def _between(b: Any, one: Any, other: Any, fraction: Any) -> Any:
    """Emit (1 - fraction) * one + fraction * other, exact at both ends."""
    return b.fma(fraction, other, b.fmul(b.fsub(b.constant(1.0, "float32", host.LANES), fraction), one))


@instruction
def _weighted_sums(b, source, y, x, y_weights, x_weights, stride, row, column, channels, taps, out, size):
    """Each pixel's sum over `taps` x `taps` neighbours from (y, x) on, `row` and `column` numbers apart.

    The weights of one neighbour are `stride` from those of the next.
    """
    few = 4  # channels at a time
    zeros = b.constant(0.0, "float32", few)

    def weight(weights: Any, tap: Any, pixel: Any) -> Any:
        return b.spread(b.read(b.at(weights, b.add(b.mul(tap, stride), pixel))), few)

    with b.loop(size) as pixels:
        line, place = (b.fptosi(b.read(b.at(array, pixels.index)), b.type("int64")) for array in (y, x))
        place = b.add(b.mul(line, row), b.mul(place, column))
        target = b.mul(pixels.index, channels)
        with b.loop(channels, step=few) as group:
            wanted = b.first_lanes(b.sub(channels, group.index), few)
            first = b.add(place, group.index)
            with b.loop(taps, values=[zeros]) as down:
                begin = b.add(first, b.mul(down.index, row))
                with b.loop(taps, values=[zeros]) as along:
                    at = b.add(begin, b.mul(along.index, column))
                    values = b.read(b.at(source, at), "float32", few, wanted)
                    along.following = [b.fma(values, weight(x_weights, along.index, pixels.index), along.values[0])]
                down.following = [b.fma(along.values[0], weight(y_weights, down.index, pixels.index), down.values[0])]
            b.write(down.values[0], b.at(out, b.add(target, group.index)), wanted)


@inner
def _matrix(matrices, identity: Doubles, picture):
    """A picture's map, 0 if it changes nothing."""
    if matrices == 0:
        return 0
    address = matrices + 48 * picture
    matrix = doubles(address)
    for i in range(6):
        if matrix[i] != identity[i]:
            return address
    return 0


@inner
def _fill_outside(y, x, out, size, channels, height, width, value):
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
def _copy(height, width, channels, mirrored, upside_down, source, out):
    """A picture that is at most mirrored."""
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
def _transform(
    source, height, width, channels, mode, taps, margin, outside, lines, stride, columns_at, polynomials, cval, address,
    mirrored, upside_down, out, scratch,
):  # fmt: skip
    """Read a picture, or the coefficients of its splines, through its map and its mirrors."""
    row = (width + 2 * margin) * channels
    row_step, column_step = row if height + margin > 1 else 0, channels if width + margin > 1 else 0
    beyond = np.float64(outside if margin else 0)
    columns, matrix = doubles(columns_at + 8 * mirrored * width), doubles(address)
    y, x = scratch + 16 * stride, scratch + 20 * stride
    y_fraction, x_fraction = y + 8 * stride, x + 8 * stride
    y_weights, x_weights = scratch + 32 * stride, scratch + (32 + 4 * taps) * stride
    for begin in range(0, height, lines):
        count = min(lines, height - begin)
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
                if mode >= _REFLECT and not (first >= 0.0 and first <= most and final >= 0.0 and final <= most):
                    if mode == _REFLECT:
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
                _weights(y_fraction + 4 * axis * stride, weights, size, stride, polynomials, taps)
            if taps == 2:  # so that loops over neighbours are unrolled
                _weighted_sums(
                    source, y, x, y_weights, x_weights, stride, row_step, column_step, channels, 2, result, size
                )
            else:
                _weighted_sums(
                    source, y, x, y_weights, x_weights, stride, row_step, column_step, channels, taps, result, size
                )
        if mode == _CONSTANT:
            tall, wide = np.float64(height) - 1.0, np.float64(width) - 1.0
            for i in range(count):
                line, where = floats(result + 4 * i * width * channels), scratch + 8 * i * width
                _fill_outside(doubles(where), doubles(where + 8 * stride), line, width, channels, tall, wide, cval)


@inner
def _shift(x, lines, line, shift, low, high):
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


@part
def _pictures(
    part, parts, worker, pictures, source, rows: Numbers, coefficients, matrices, flips, height, width, channels, mode,
    taps, margin, outside, lines, stride, columns, identity: Doubles, polynomials, cval: np.float32, factor: np.float32,
    channel_shifts, of_bytes, scratch, each, out,
):  # fmt: skip
    """Some pictures of the batch.

    Args:
        source, rows: all pictures, bytes or float32, and which are made.
        coefficients, margin, outside: of splines, of so many beyond a picture, and how far coordinates may lie outside.
        matrices, flips, channel_shifts: for each picture, or 0.
        lines, stride: of a block, and pixels for one.
        columns: the columns, and the columns mirrored.
        polynomials: of the weights of `taps` neighbours.
    """
    size, own = height * width * channels, own_scratch(scratch, each, worker)
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        at = rows[picture] * size
        taken, target = source + 4 * at, out + 4 * picture * size
        result = floats(target)
        mirrored, upside_down = 0, 0
        if flips:
            mirrored, upside_down = octets(flips)[2 * picture] * 1, octets(flips)[2 * picture + 1] * 1
        matrix = _matrix(matrices, identity, picture)
        if of_bytes:
            still = matrix == 0 and mirrored + upside_down == 0
            taken = target if still else own + each - 4 * size
            given, converted = octets(source + at), floats(taken)
            for e in range(size):
                converted[e] = np.float32(given[e])
        if matrix:
            if margin:
                taken = coefficients + 4 * picture * (height + 2 * margin) * (width + 2 * margin) * channels
            _transform(
                taken, height, width, channels, mode, taps, margin, outside, lines, stride, columns, polynomials, cval,
                matrix, mirrored, upside_down, target, own,
            )  # fmt: skip
        elif taken != target:
            _copy(height, width, channels, mirrored, upside_down, floats(taken), result)
        if channel_shifts:
            shift = floats(channel_shifts)[picture]
            if shift == shift:
                line = width * channels
                _shift(result, height, line, shift, floats(own), floats(own + 4 * line))
        if factor != _ONE:
            for e in range(size):
                result[e] *= factor


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
    rows = folded(places, length + 2 * padding, fill_mode)
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


def _affine_images(
    images: Any, rows: Any, matrices: Any, order: int, fill_mode: str, cval: float, channel_shifts: Any, flips: Any,
    scale: float, out: Any,
) -> None:  # fmt: skip
    """The kernel, of contiguous arrays that are not empty, float32 or bytes, into `out`; all arguments checked."""
    if order > 1 and len(rows) > _MOST:  # coefficients take several times the memory of pictures
        for start in range(0, len(rows), _MOST):
            part = slice(start, start + _MOST)
            moved, shifted, flipped = (
                None if values is None else values[part] for values in (matrices, channel_shifts, flips)
            )
            _affine_images(images, rows[part], moved, order, fill_mode, cval, shifted, flipped, scale, out[part])
        return
    height, width, channels = images.shape[1:]
    lines = min(max(_BLOCK // width, 1), height)
    stride = -(-lines * width // host.LANES) * host.LANES
    margin = outside = 0
    coefficients = None
    if order > 1 and matrices is not None:
        outside = {"nearest": _PADDING + (order + 1) // 2, "reflect": 1}.get(fill_mode, 0)
        margin = outside + order
        coefficients = _spline_pictures(images[rows], order, fill_mode, margin)
    taps = order + 1
    of_bytes = images.dtype.char == "B"
    needed = max((32 + 8 * taps) * stride, 8 * width * channels * (channel_shifts is not None))
    needed = -(-(needed + 4 * height * width * channels * of_bytes) // 64) * 64
    _pictures.run(
        min(len(rows), _MOST, max(out.size // _SHORT, 1)), out.size >= _LONG, pictures=len(rows), source=images,
        rows=rows, coefficients=coefficients, matrices=matrices, flips=flips, height=height, width=width,
        channels=channels, mode=FILL_MODES.index(fill_mode), taps=taps, margin=margin, outside=outside, lines=lines,
        stride=stride, columns=_columns(width), identity=_IDENTITY,
        polynomials=_polynomials(order) if order else None, cval=float(cval), factor=float(scale),
        channel_shifts=channel_shifts, of_bytes=of_bytes, out=out, **scratch(needed),
    )  # fmt: skip


_MOST_PIXELS = 1 << 23  # along an axis: float32 counts a little further


def _compiled(images: Any, out: Any) -> bool:
    fits = images.dtype.char in "fB" and images.ndim == 4 and (out is None or out.dtype.char == "f")
    return fits and max(images.shape[1:3]) <= _MOST_PIXELS


@override(reference.affine_images, "cpu", when=_compiled)
def affine_images(
    k: Kernels, images: Any, rows: Any, matrices: Any, *, order: int = 1, fill_mode: str = "nearest",
    cval: float = 0.0, channel_shifts: Any = None, flips: Any = None, scale: float | None = None, out: Any = None,
) -> Any:  # fmt: skip
    """On the CPU weights and sums are float32: a result may differ by 1e-6 of the picture's range."""
    rows, matrices, channel_shifts, flips = reference.checked(
        images, rows, matrices, order, fill_mode, channel_shifts, flips, out
    )
    shape = (len(rows), *images.shape[1:])
    result = out if out is not None and out.flags.c_contiguous else empty(shape, np.dtype(np.float32))
    if result.size:
        if not images.flags.c_contiguous:
            images, rows = images[rows], np.arange(len(rows))
        if channel_shifts is not None:
            channel_shifts = channel_shifts.astype(np.float32)
        images, rows = np.ascontiguousarray(images), np.ascontiguousarray(rows)
        factor = 1.0 if scale is None else scale
        _affine_images(images, rows, matrices, order, fill_mode, cval, channel_shifts, flips, factor, result)
    if out is not None and result is not out:
        out[...] = result
        return out
    return result
