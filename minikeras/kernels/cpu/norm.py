"""Normalisation on the CPU: of float32 in passes that the team shares; masked batches and others are the reference's.

The columns of a matrix are the channels or the features.  Batch statistics take one pass over the rows.  A block of
them sums its distances from its own first row, so that a mean far from zero costs no digits, and blocks are joined in
float64.  What is computed for each channel between the passes is compiled too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Doubles, Floats, add_up_rows, doubles, floats, inner, part, parts_for, share
from minikeras.kernels.reference import norm as reference
from minikeras.kernels.table import Kernels, absent, contiguous_float32, override

_WIDE = 256  # numbers in a line, about: narrow matrices are read several rows at a time
_BLOCK = 64  # lines (or rows) whose sums are taken in float32
_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_FAST = {"reassoc", "nsz", "contract"}
_ZERO, _ONE = np.float32(0), np.float32(1)


@inner
def _share(part, parts, size, width):
    """A part's first element and the one after its last: whole lines; the last part has the rest."""
    first, last = share(part, parts, size // width)
    return first * width, size if part + 1 == parts else last * width


@inner
def _sums(totals_at, width, part):
    """A part's two totals of each column, set to 0, and the place for as many sums in float32."""
    at = totals_at + part * 3 * width * 8
    totals = doubles(at)
    for j in range(2 * width):
        totals[j] = 0.0
    return totals, floats(at + 2 * width * 8)


# ---- batch -----------------------------------------------------------------------------------------------------------


@part(fastmath=_FAST)
def _column_sums(part, parts, size, width, x, g, mean, totals):
    """For each column of a line: sums of g and of g * (x - mean).

    Without a mean (0) sums of g and of g * x: a block takes both as distances from its own first line.
    """
    begin, end = _share(part, parts, size, width)
    total, sums = _sums(totals, width, part)
    share_of_mean = _ZERO if mean else _ONE
    while begin < end:
        stop = begin + _BLOCK * width
        if stop > end - width:  # what does not fill a line is not a block
            stop = end
        value, gradient = floats(x + 4 * begin), floats(g + 4 * begin)
        middle = floats(mean if mean else x + 4 * begin)
        for j in range(2 * width):
            sums[j] = _ZERO
        count = stop - begin
        begin = stop
        rows = count // width
        fours, rest = rows // 4 * 4 * width, count - rows * width
        for row in range(0, fours, 4 * width):
            for j in range(width):
                at = row + j
                center, origin = middle[j], share_of_mean * middle[j]
                a, b = gradient[at] - origin, gradient[at + width] - origin
                c, d = gradient[at + 2 * width] - origin, gradient[at + 3 * width] - origin
                sums[j] += (a + b) + (c + d)
                first, second = a * (value[at] - center), b * (value[at + width] - center)
                third, fourth = c * (value[at + 2 * width] - center), d * (value[at + 3 * width] - center)
                sums[j + width] += (first + second) + (third + fourth)
        for row in range(fours, count, width):
            for j in range(min(width, count - row)):
                a = gradient[row + j] - share_of_mean * middle[j]
                sums[j] += a
                sums[j + width] += a * (value[row + j] - middle[j])
        for j in range(width):
            n, shift = np.float64(rows + (j < rest)), np.float64(share_of_mean * middle[j])
            distance = np.float64(sums[j])
            total[j] += distance + n * shift
            total[j + width] += np.float64(sums[j + width]) + shift * (distance + distance + n * shift)


@part(fastmath=_FAST)
def _normalize(part, parts, size, width, x, out, vectors):
    """For each column of a line: mean, scale, shift."""
    begin, end = _share(part, parts, size, width)
    mean, scale, shift = floats(vectors), floats(vectors + 4 * width), floats(vectors + 8 * width)
    for start in range(begin, end, width):
        value, y = floats(x + 4 * start), floats(out + 4 * start)
        for j in range(min(width, end - start)):
            y[j] = (value[j] - mean[j]) * scale[j] + shift[j]


@part(fastmath=_FAST)
def _combine(part, parts, size, width, x, g, out, vectors):
    """For each column of a line: mean, and the factors of g, of x - mean and of 1."""
    begin, end = _share(part, parts, size, width)
    mean, of_g = floats(vectors), floats(vectors + 4 * width)
    of_x, of_one = floats(vectors + 8 * width), floats(vectors + 12 * width)
    for start in range(begin, end, width):
        value, gradient, result = floats(x + 4 * start), floats(g + 4 * start), floats(out + 4 * start)
        for j in range(min(width, end - start)):
            result[j] = of_g[j] * gradient[j] + of_x[j] * (value[j] - mean[j]) + of_one[j]


# ---- for each channel, between the passes ----------------------------------------------------------------------------


@inner
def _spread(out, place, channels, together, channel, value):
    """Write a channel's value to a row of vectors for the columns of a line."""
    for copy in range(together):
        out[(place * together + copy) * channels + channel] = value


@inner
def _at(vector, channel, usual):
    """A channel's value in the vector at an address, or the usual one where that is 0."""
    return floats(vector)[channel] if vector else usual


@inner
def _both_totals(totals, lines, channels, together, channel):
    """The two totals of a channel, of all parts and all columns of a line that are its own."""
    first, second, width = 0.0, 0.0, channels * together
    for line in range(lines):
        for at in range(3 * line * width + channel, (3 * line + 1) * width, channels):
            first += totals[at]
            second += totals[at + width]
    return first, second


@part
def _vectors(part, parts, channels, together, out: Floats, mean, scale, shift):
    """For the columns of a line: mean, scale, shift; 0, 1 and 0 where they are missing."""
    begin, end = share(part, parts, channels)
    for j in range(begin, end):
        _spread(out, 0, channels, together, j, _at(mean, j, _ZERO))
        _spread(out, 1, channels, together, j, _at(scale, j, _ONE))
        _spread(out, 2, channels, together, j, _at(shift, j, _ZERO))


@part
def _scales(part, parts, channels, together, out: Floats, one: Floats, other):
    """For the columns of a line: 0, the product of both (the other is 1 where it is missing), 0."""
    begin, end = share(part, parts, channels)
    for j in range(begin, end):
        _spread(out, 0, channels, together, j, _ZERO)
        _spread(out, 1, channels, together, j, one[j] * _at(other, j, _ONE))
        _spread(out, 2, channels, together, j, _ZERO)


@part
def _statistics(
    part, parts, rows, lines, channels, together, totals: Doubles, gamma, beta, statistics: Floats, vectors: Floats,
    epsilon: np.float32,
):  # fmt: skip
    """Mean, variance and inverse deviation of each channel, and for the columns of a line mean, scale, shift."""
    begin, end = share(part, parts, channels)
    for j in range(begin, end):
        total, square = _both_totals(totals, lines, channels, together, j)
        mean = total / np.float64(rows)
        spread = square / np.float64(rows) - mean * mean
        center, variance = np.float32(mean), _ZERO if spread < 0.0 else np.float32(spread)
        inverse = _ONE / math.sqrt(variance + epsilon)
        statistics[j], statistics[channels + j], statistics[2 * channels + j] = center, variance, inverse
        _spread(vectors, 0, channels, together, j, center)
        _spread(vectors, 1, channels, together, j, inverse * _at(gamma, j, _ONE))
        _spread(vectors, 2, channels, together, j, _at(beta, j, _ZERO))


@part
def _fixed_statistics(
    part, parts, channels, together, mean: Floats, variance: Floats, gamma, beta, inverse: Floats, vectors: Floats,
    epsilon: np.float32,
):  # fmt: skip
    """The same where mean and variance are given: the inverse deviation, and for the columns mean, scale, shift."""
    begin, end = share(part, parts, channels)
    for j in range(begin, end):
        inverse[j] = _ONE / math.sqrt(variance[j] + epsilon)
        _spread(vectors, 0, channels, together, j, mean[j])
        _spread(vectors, 1, channels, together, j, inverse[j] * _at(gamma, j, _ONE))
        _spread(vectors, 2, channels, together, j, _at(beta, j, _ZERO))


@part
def _slopes(
    part, parts, rows, lines, channels, together, totals: Doubles, mean, inverse, gamma, g_gamma, g_beta, vectors
):
    """Gradients of gamma and beta, and for the columns of a line what `_combine` takes (each 0: not wanted).

    Without inverse deviations (0) the second totals are of normalised values already; without `rows` the statistics do
    not depend on the input.
    """
    begin, end = share(part, parts, channels)
    for j in range(begin, end):
        total, along = _both_totals(totals, lines, channels, together, j)
        deviation = _at(inverse, j, _ONE)
        along *= np.float64(deviation)
        if g_gamma:
            floats(g_gamma)[j] = np.float32(along)
        if g_beta:
            floats(g_beta)[j] = np.float32(total)
        if vectors:
            scale, of_line = deviation * _at(gamma, j, _ONE), floats(vectors)
            weight = -np.float64(scale) / np.float64(rows) if rows else 0.0
            _spread(of_line, 0, channels, together, j, _at(mean, j, _ZERO))
            _spread(of_line, 1, channels, together, j, scale)
            _spread(of_line, 2, channels, together, j, np.float32(weight * along) * deviation)
            _spread(of_line, 3, channels, together, j, np.float32(weight * total))


# ---- layer and root mean square: a line is a row ---------------------------------------------------------------------


@part(fastmath=_FAST)
def _normalize_rows(
    part, parts, size, width, x, out, vectors, means: Floats, inverses: Floats, epsilon: np.float32, centered
):
    """Means and inverse deviations of the rows; vectors: the second is gamma, the third beta."""
    begin, end = _share(part, parts, size, width)
    gamma, beta, count = floats(vectors + 4 * width), floats(vectors + 8 * width), np.float32(width)
    for row in range(begin // width, end // width):
        value, y = floats(x + 4 * row * width), floats(out + 4 * row * width)
        mean, square = _ZERO, _ZERO
        if centered:
            for j in range(width):
                mean += value[j]
            mean /= count
        for j in range(width):
            square += (value[j] - mean) * (value[j] - mean)
        inverse = _ONE / math.sqrt(square / count + epsilon)
        for j in range(width):
            y[j] = (value[j] - mean) * inverse * gamma[j] + beta[j]
        means[row] = mean
        inverses[row] = inverse


@part(fastmath=_FAST)
def _rows_grad(part, parts, size, width, x, g, vectors, means, inverses: Floats, out, totals):
    """The gradient at x (0: none), from means (0: none) and inverse deviations of the rows.

    The totals of each feature are sums of g and of g * normalized x.
    """
    begin, end = _share(part, parts, size, width)
    total, sums = _sums(totals, width, part)
    gamma = floats(vectors + 4 * width)
    first, last, count = begin // width, end // width, np.float32(width)
    for block in range(first, last, _BLOCK):
        for j in range(2 * width):
            sums[j] = _ZERO
        for row in range(block, min(block + _BLOCK, last)):
            value, gradient = floats(x + 4 * row * width), floats(g + 4 * row * width)
            mean, inverse = floats(means)[row] if means else _ZERO, inverses[row]
            across, along = _ZERO, _ZERO
            for j in range(width):
                normalized = (value[j] - mean) * inverse
                sums[j] += gradient[j]
                sums[j + width] += gradient[j] * normalized
                across += gradient[j] * gamma[j]
                along += gradient[j] * gamma[j] * normalized
            if out:
                result = floats(out + 4 * row * width)
                across = across / count if means else _ZERO
                along /= count
                for j in range(width):
                    result[j] = inverse * (gradient[j] * gamma[j] - across - (value[j] - mean) * inverse * along)
        for j in range(2 * width):
            total[j] += np.float64(sums[j])


# ---- group and unit: a sample or a row at a time ---------------------------------------------------------------------


@inner
def _sum_columns(x, rows, columns, total, sums):
    """The sum of each column, in float64."""
    for j in range(columns):
        total[j] = 0.0
    for row in range(0, rows, _BLOCK):
        add_up_rows(floats(x + 4 * row * columns), min(_BLOCK, rows - row), columns, columns, sums)
        for j in range(columns):
            total[j] += np.float64(sums[j])


@inner(fastmath=_FAST)
def _sum_products(x, g, center, rows, columns, total, sums):
    """The sum of `(x - center) * g` of each column, or without a `g` (0) of `(x - center)²`."""
    for j in range(columns):
        total[j] = 0.0
    for block in range(0, rows, _BLOCK):
        for j in range(columns):
            sums[j] = _ZERO
        for row in range(block, min(block + _BLOCK, rows)):
            value, gradient = floats(x + 4 * row * columns), floats(g + 4 * row * columns)
            if g:
                for j in range(columns):
                    sums[j] += (value[j] - center[j]) * gradient[j]
            else:
                for j in range(columns):
                    sums[j] += (value[j] - center[j]) * (value[j] - center[j])
        for j in range(columns):
            total[j] += np.float64(sums[j])


@part(fastmath=_FAST)
def _group_norm(
    part, parts, samples, positions, channels, groups, x, out, gamma, beta, means: Floats, inverses: Floats,
    epsilon: np.float32, work,
):  # fmt: skip
    first, last = share(part, parts, samples)
    own, size = work + 24 * part * channels, channels // groups
    total, sums, center = doubles(own), floats(own + 8 * channels), floats(own + 12 * channels)
    scale, shift = floats(own + 16 * channels), floats(own + 20 * channels)
    count = np.float64(positions * size)
    for sample in range(first, last):
        at = 4 * sample * positions * channels
        _sum_columns(x + at, positions, channels, total, sums)
        for group in range(groups):
            whole = 0.0
            for j in range(group * size, (group + 1) * size):
                whole += total[j]
            mean = np.float32(whole / count)
            means[sample * groups + group] = mean
            for j in range(group * size, (group + 1) * size):
                center[j] = mean
        _sum_products(x + at, 0, center, positions, channels, total, sums)
        for group in range(groups):
            whole = 0.0
            for j in range(group * size, (group + 1) * size):
                whole += total[j]
            inverse = _ONE / math.sqrt(np.float32(whole / count) + epsilon)
            inverses[sample * groups + group] = inverse
            for j in range(group * size, (group + 1) * size):
                scale[j] = inverse * _at(gamma, j, _ONE)
                shift[j] = _at(beta, j, _ZERO)
        for position in range(positions):
            value, y = floats(x + at + 4 * position * channels), floats(out + at + 4 * position * channels)
            for j in range(channels):
                y[j] = (value[j] - center[j]) * scale[j] + shift[j]


@part(fastmath=_FAST)
def _group_norm_grad(
    part, parts, samples, positions, channels, groups, x, g, out, gamma, means: Floats, inverses: Floats, totals, work
):
    """The gradient at x (0: none); the totals of each channel are sums of g and of g * normalized x."""
    first, last = share(part, parts, samples)
    total, sums = _sums(totals, channels, part)
    own, size = work + 32 * part * channels, channels // groups
    sum_of_g, along_x = doubles(own), doubles(own + 8 * channels)
    center, of_g = floats(own + 16 * channels), floats(own + 20 * channels)
    of_x, of_one = floats(own + 24 * channels), floats(own + 28 * channels)
    count = np.float64(positions * size)
    for sample in range(first, last):
        at = 4 * sample * positions * channels
        for group in range(groups):
            for j in range(group * size, (group + 1) * size):
                center[j] = means[sample * groups + group]
        _sum_columns(g + at, positions, channels, sum_of_g, sums)
        _sum_products(x + at, g + at, center, positions, channels, along_x, sums)
        for group in range(groups):
            inverse = inverses[sample * groups + group]
            across, along = 0.0, 0.0
            for j in range(group * size, (group + 1) * size):
                normalized = along_x[j] * np.float64(inverse)
                total[j] += sum_of_g[j]
                total[j + channels] += normalized
                weight = np.float64(_at(gamma, j, _ONE))
                across += weight * sum_of_g[j]
                along += weight * normalized
            for j in range(group * size, (group + 1) * size):
                of_g[j] = inverse * _at(gamma, j, _ONE)
                of_x[j] = -inverse * inverse * np.float32(along / count)
                of_one[j] = -inverse * np.float32(across / count)
        if out:
            for position in range(positions):
                place = at + 4 * position * channels
                value, gradient, result = floats(x + place), floats(g + place), floats(out + place)
                for j in range(channels):
                    result[j] = of_g[j] * gradient[j] + of_x[j] * (value[j] - center[j]) + of_one[j]


@part(fastmath=_FAST)
def _unit_rows(part, parts, rows, columns, x, out, inverses: Floats, long: Floats, least: np.float32):
    """Rows divided by their norms, of which `long` says whether their squares are above the least."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, y, square = floats(x + 4 * row * columns), floats(out + 4 * row * columns), _ZERO
        for j in range(columns):
            square += value[j] * value[j]
        inverse = _ONE / math.sqrt(least if square < least else square)
        for j in range(columns):
            y[j] = value[j] * inverse
        inverses[row] = inverse
        long[row] = _ONE if square > least else _ZERO


@part(fastmath=_FAST)
def _unit_rows_grad(part, parts, rows, columns, g, y, out, inverses: Floats, long: Floats):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at, along, inverse = 4 * row * columns, _ZERO, inverses[row]
        gradient, value, result = floats(g + at), floats(y + at), floats(out + at)
        for j in range(columns):
            along += gradient[j] * value[j]
        along *= long[row]
        for j in range(columns):
            result[j] = inverse * (gradient[j] - value[j] * along)


class _Lines:
    """How a matrix is read: `together` rows in a line of `width` numbers."""

    def __init__(self, x: Any, wide: int = _WIDE):
        rows, channels = x.shape
        self.channels, self.together = channels, min(max(wide // channels, 1), rows)
        self.width = self.together * channels
        self.parts = min(parts_for(x.size), rows // self.together)

    def for_columns(self, rows: int = 3) -> Any:
        """Where vectors for the columns of a line are to be."""
        return empty((rows, self.width), _FLOAT)

    def vectors(self, mean: Any = None, scale: Any = None, shift: Any = None) -> Any:
        """Vectors for the channels as rows for the columns of a line; 0, 1 and 0 where they are missing."""
        made = self.for_columns()
        self.each_channel(_vectors, out=made, mean=mean, scale=scale, shift=shift)
        return made

    def run(self, part: Any, x: Any, **arguments: Any) -> None:
        """Run a pass over a matrix."""
        part.run(self.parts, size=x.size, width=self.width, x=x, **arguments)

    def each_channel(self, part: Any, **arguments: Any) -> None:
        """Run what is computed for each channel."""
        part.run(
            min(parts_for(self.parts * self.width), self.channels),
            channels=self.channels,
            together=self.together,
            **arguments,
        )

    def totals(self) -> Any:
        """Where each part leaves its two totals, with the place for its sums."""
        return empty((self.parts, 3, self.width), _DOUBLE)

    def slopes(self, totals: Any, wanted: tuple[bool, bool], outs: tuple, **arguments: Any) -> tuple[Any, Any]:
        """Gradients of gamma and beta from the totals, where they should be; None where they are not wanted."""
        made = [
            None if not want else empty((self.channels,), _FLOAT) if out is None else out
            for want, out in zip(wanted, outs, strict=True)
        ]
        given = {"rows": 0, "mean": None, "inverse": None, "gamma": None, "vectors": None, **arguments}
        self.each_channel(_slopes, lines=self.parts, totals=totals, g_gamma=made[0], g_beta=made[1], **given)
        return made[0], made[1]


def _are_plain(*arrays: Any) -> bool:
    """Whether what a residual holds (None: absent) is contiguous float32."""
    return all([array is None or (array.dtype.char == "f" and array.flags.c_contiguous) for array in arrays])


def _fit(x: Any, *vectors: Any) -> bool:
    """Whether vectors (None: absent) have a number for each column: compiled code does not look."""
    shape = x.shape[-1:]
    return all([vector is None or vector.shape == shape for vector in vectors])


def _scale_and_shift_fit(x: Any, gamma: Any, beta: Any) -> bool:
    return _fit(x, gamma, beta)


def _all_fit(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any) -> bool:
    return _fit(x, mean, variance, gamma, beta)


def _was_compiled(residual: Any, outs: tuple) -> bool:
    x, gamma, _, mean, inverse, *weight = residual
    masked = weight and not isinstance(weight[0], float | int)
    return not masked and _are_plain(x, gamma, mean, inverse, *outs) and _fit(x, gamma, *outs)


def _like(x: Any, out: Any) -> Any:
    return empty(x.shape, x.dtype) if out is None else out


def _normalized_rows(x: Any, gamma: Any, beta: Any, epsilon: float, centered: bool, out: Any) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with each row's statistics: (means, inverse deviations).

    Where not `centered`, the mean is taken as 0.
    """
    lines = _Lines(x, 1)
    means, inverses = empty((2, len(x), 1), _FLOAT)
    arrays = {"x": x, "out": out, "vectors": lines.vectors(None, gamma, beta), "means": means, "inverses": inverses}
    lines.run(_normalize_rows, **arrays, epsilon=float(epsilon), centered=centered)
    return means, inverses


_AFFINE = contiguous_float32("x", "gamma", "beta", "out"), _scale_and_shift_fit


@override(reference.batch_norm, "cpu", when=(absent("mask"), *_AFFINE))
def batch_norm(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    y, lines = _like(x, out), _Lines(x)
    totals, vectors, statistics = lines.totals(), lines.for_columns(), empty((3, lines.channels), _FLOAT)
    lines.run(_column_sums, x, g=x, mean=None, totals=totals)
    given = {"rows": len(x), "lines": lines.parts, "gamma": gamma, "beta": beta, "epsilon": float(epsilon)}
    lines.each_channel(_statistics, totals=totals, statistics=statistics, vectors=vectors, **given)
    lines.run(_normalize, x, out=y, vectors=vectors)
    mean, variance, inverse = statistics
    return y, mean, variance, (x, gamma, beta, mean, inverse, 1 / len(x))


def _column_slopes(
    g: Any, residual: Any, wanted: tuple[bool, bool], outs: tuple, rows: int = 0, vectors: Any = None
) -> tuple[Any, Any]:
    """Gradients of gamma and beta; and to `vectors` what `_combine` takes, where so many rows made the statistics."""
    x, gamma, _, mean, inverse = residual[:5]
    lines = _Lines(x)
    totals = lines.totals()
    lines.run(_column_sums, x, g=g, mean=mean if lines.together == 1 else lines.vectors(mean), totals=totals)
    given = {"mean": mean, "inverse": inverse, "gamma": gamma, "rows": rows, "vectors": vectors}
    return lines.slopes(totals, wanted, outs, **given)


@override(reference.batch_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled))
def batch_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta = residual[:3]
    lines = _Lines(x)
    vectors = lines.for_columns(4) if needs_x else None
    slopes = _column_slopes(g, residual, (gamma is not None, beta is not None), outs, len(x), vectors)
    g_x = None
    if needs_x:
        g_x = empty(x.shape, _FLOAT)
        lines.run(_combine, x, g=g, out=g_x, vectors=vectors)
    return g_x, *slopes


_FIXED = contiguous_float32("x", "mean", "variance", "gamma", "beta", "out"), _all_fit


@override(reference.fixed_norm, "cpu", when=_FIXED)
def fixed_norm(
    k: Kernels, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None
) -> tuple[Any, Any]:
    y, lines = _like(x, out), _Lines(x)
    vectors, inverse = lines.for_columns(), empty((lines.channels,), _FLOAT)
    given = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "epsilon": float(epsilon)}
    lines.each_channel(_fixed_statistics, inverse=inverse, vectors=vectors, **given)
    lines.run(_normalize, x, out=y, vectors=vectors)
    return y, (x, gamma, beta, mean, inverse)


def _has_statistics_of_channels(residual: Any) -> bool:
    return _fit(residual[0], residual[3], residual[4])


@override(reference.fixed_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled, _has_statistics_of_channels))
def fixed_norm_grad(
    k: Kernels, g: Any, residual: Any, needs: tuple[bool, bool] = (True, True), outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, _, _, inverse = residual
    g_x, lines = None, _Lines(x)
    if needs[0]:
        g_x, vectors = empty(x.shape, _FLOAT), lines.for_columns()
        lines.each_channel(_scales, out=vectors, one=inverse, other=gamma)
        lines.run(_normalize, g, out=g_x, vectors=vectors)
    return g_x, *(_column_slopes(g, residual, (True, True), outs) if needs[1] else (None, None))


@override(reference.layer_norm, "cpu", when=_AFFINE)
def layer_norm(k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, beta, *_normalized_rows(x, gamma, beta, epsilon, True, y))


@override(reference.rms_norm, "cpu", when=(contiguous_float32("x", "gamma", "out"), lambda x, gamma: _fit(x, gamma)))
def rms_norm(k: Kernels, x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, None, None, _normalized_rows(x, gamma, None, epsilon, False, y)[1])


@override(reference.layer_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled))
def layer_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse = residual
    g_x = empty(x.shape, _FLOAT) if needs_x else None
    lines = _Lines(x, 1)
    totals, vectors = lines.totals(), lines.vectors(None, gamma)
    lines.run(_rows_grad, x, g=g, out=g_x, vectors=vectors, means=mean, inverses=inverse, totals=totals)
    return g_x, *lines.slopes(totals, (gamma is not None, beta is not None), outs)


def _are_groups(x: Any, groups: int) -> bool:
    return groups > 0 and x.shape[-1] % groups == 0


@override(
    reference.group_norm, "cpu", when=(contiguous_float32("x", "gamma", "beta"), _scale_and_shift_fit, _are_groups)
)
def group_norm(k: Kernels, x: Any, gamma: Any, beta: Any, groups: int, epsilon: float) -> tuple[Any, Any]:
    samples, positions, channels = x.shape
    y, parts = empty(x.shape, _FLOAT), min(parts_for(x.size), samples)
    means, inverses = empty((2, samples, 1, groups, 1), _FLOAT)
    _group_norm.run(
        parts, samples=samples, positions=positions, channels=channels, groups=groups, x=x, out=y, gamma=gamma,
        beta=beta, means=means, inverses=inverses, epsilon=float(epsilon), work=empty((parts, 3, channels), _DOUBLE),
    )  # fmt: skip
    return y, (x, gamma, beta, means, inverses)


@override(reference.group_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled))
def group_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, means, inverses = residual
    samples, positions, channels = x.shape
    lines = _Lines(x.reshape(-1, channels), 1)
    lines.parts = min(lines.parts, samples)
    g_x, totals = empty(x.shape, _FLOAT) if needs_x else None, lines.totals()
    _group_norm_grad.run(
        lines.parts, samples=samples, positions=positions, channels=channels, groups=means.shape[2], x=x, g=g, out=g_x,
        gamma=gamma, means=means, inverses=inverses, totals=totals, work=empty((lines.parts, 4, channels), _DOUBLE),
    )  # fmt: skip
    return g_x, *lines.slopes(totals, (gamma is not None, beta is not None), outs)


@override(reference.unit_norm, "cpu", when=contiguous_float32("x"))
def unit_norm(k: Kernels, x: Any, epsilon: float) -> tuple[Any, Any]:
    rows, columns = x.shape
    y, (inverses, long) = empty(x.shape, _FLOAT), empty((2, rows, 1), _FLOAT)
    arrays = {"x": x, "out": y, "inverses": inverses, "long": long}
    _unit_rows.run(min(parts_for(x.size), rows), rows=rows, columns=columns, **arrays, least=float(epsilon * epsilon))
    return y, (y, inverses, long)


@override(reference.unit_norm_grad, "cpu", when=(contiguous_float32("g"), lambda residual: _are_plain(*residual)))
def unit_norm_grad(k: Kernels, g: Any, residual: Any) -> Any:
    y, inverses, long = residual
    rows, columns = y.shape
    arrays = {"g": g, "y": y, "out": empty(y.shape, _FLOAT), "inverses": inverses, "long": long}
    _unit_rows_grad.run(min(parts_for(y.size), rows), rows=rows, columns=columns, **arrays)
    return arrays["out"]
