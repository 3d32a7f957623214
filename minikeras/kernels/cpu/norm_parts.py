"""Normalisation that the team shares: passes over float32 matrices, whose columns are the channels or the features.

Batch statistics take one pass over the rows.  A block of them sums its distances from its own first row, so that a mean
far from zero costs no digits, and blocks are joined in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import inner, lazy_part
from minikeras.kernels.cpu.machine import doubles, floats, numbers
from minikeras.kernels.cpu.parts import _run, parts_of

_WIDE = 256  # numbers in a line, about: narrow matrices are read several rows at a time
_BLOCK = 64  # lines (or rows) whose sums are taken in float32
_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_FAST = {"reassoc", "nsz", "contract"}
_ZERO, _ONE = np.float32(0), np.float32(1)

# Arguments: 0 the number of elements, 1 of parts, 2 the width of a line; then what the part's docstring says.


@inner
def _share(n, part):  # type: ignore[no-untyped-def]
    """A part's first element and the one after its last: whole lines; the last part has the rest."""
    lines = n[0] // n[2]
    end = n[0] if part + 1 == n[1] else lines * (part + 1) // n[1] * n[2]
    return lines * part // n[1] * n[2], end


@inner
def _sums(totals_at, width, part):  # type: ignore[no-untyped-def]
    """A part's two totals of each column, set to 0, and its room for as many sums in float32."""
    at = totals_at + part * 3 * width * 8
    totals = doubles(at)
    for j in range(2 * width):
        totals[j] = 0.0
    return totals, floats(at + 2 * width * 8)


# ---- batch -----------------------------------------------------------------------------------------------------------


@lazy_part(fastmath=_FAST)
def _column_sums_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x; 4 g, 5 the mean of each column of a line; 6 totals: sums of g and of g * (x - mean) for each column.

    Without a mean (0) sums of g and of g * x: a block takes both as distances from its own first line.
    """
    n = numbers(arguments)
    begin, end = _share(n, part)
    width = n[2]
    totals, sums = _sums(n[6], width, part)
    share = _ZERO if n[5] else _ONE
    while begin < end:
        stop = begin + _BLOCK * width
        if stop > end - width:  # what does not fill a line is not a block
            stop = end
        x, g = floats(n[3] + 4 * begin), floats(n[4] + 4 * begin)
        mean = floats(n[5] if n[5] else n[3] + 4 * begin)
        for j in range(2 * width):
            sums[j] = _ZERO
        size = stop - begin
        begin = stop
        rows = size // width
        fours, rest = rows // 4 * 4 * width, size - rows * width
        for row in range(0, fours, 4 * width):
            for j in range(width):
                at = row + j
                center, origin = mean[j], share * mean[j]
                a, b = g[at] - origin, g[at + width] - origin
                c, d = g[at + 2 * width] - origin, g[at + 3 * width] - origin
                sums[j] += (a + b) + (c + d)
                first, second = a * (x[at] - center), b * (x[at + width] - center)
                third, fourth = c * (x[at + 2 * width] - center), d * (x[at + 3 * width] - center)
                sums[j + width] += (first + second) + (third + fourth)
        for row in range(fours, size, width):
            for j in range(min(width, size - row)):
                a = g[row + j] - share * mean[j]
                sums[j] += a
                sums[j + width] += a * (x[row + j] - mean[j])
        for j in range(width):
            count, shift, distance = np.float64(rows + (j < rest)), np.float64(share * mean[j]), np.float64(sums[j])
            totals[j] += distance + count * shift
            totals[j + width] += np.float64(sums[j + width]) + shift * (distance + distance + count * shift)


@lazy_part(fastmath=_FAST)
def _normalize_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x, 4 result, 5 for each column of a line: mean, scale, shift."""
    n = numbers(arguments)
    begin, end = _share(n, part)
    width = n[2]
    mean, scale, shift = floats(n[5]), floats(n[5] + 4 * width), floats(n[5] + 8 * width)
    for start in range(begin, end, width):
        x, y = floats(n[3] + 4 * start), floats(n[4] + 4 * start)
        for j in range(min(width, end - start)):
            y[j] = (x[j] - mean[j]) * scale[j] + shift[j]


@lazy_part(fastmath=_FAST)
def _combine_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x, 4 g, 5 result, 6 for each column of a line: mean, and the factors of g, of x - mean and of 1."""
    n = numbers(arguments)
    begin, end = _share(n, part)
    width = n[2]
    mean, of_g, of_x, of_one = (
        floats(n[6]),
        floats(n[6] + 4 * width),
        floats(n[6] + 8 * width),
        floats(n[6] + 12 * width),
    )
    for start in range(begin, end, width):
        x, g, out = floats(n[3] + 4 * start), floats(n[4] + 4 * start), floats(n[5] + 4 * start)
        for j in range(min(width, end - start)):
            out[j] = of_g[j] * g[j] + of_x[j] * (x[j] - mean[j]) + of_one[j]


# ---- layer and root mean square: a line is a row ---------------------------------------------------------------------


@lazy_part(fastmath=_FAST)
def _normalize_rows_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x, 4 result, 5 gamma and beta, 6 means and inverse deviations of the rows; 7 epsilon, 8 whether centered."""
    n = numbers(arguments)
    begin, end = _share(n, part)
    width = n[2]
    gamma, beta = floats(n[5]), floats(n[5] + 4 * width)
    means, inverses = floats(n[6]), floats(n[6] + 4 * (n[0] // width))
    epsilon, count = floats(n[7])[0], np.float32(width)
    for row in range(begin // width, end // width):
        x, y = floats(n[3] + 4 * row * width), floats(n[4] + 4 * row * width)
        mean, square = _ZERO, _ZERO
        if n[8]:
            for j in range(width):
                mean += x[j]
            mean /= count
        for j in range(width):
            square += (x[j] - mean) * (x[j] - mean)
        inverse = _ONE / math.sqrt(square / count + epsilon)
        for j in range(width):
            y[j] = (x[j] - mean) * inverse * gamma[j] + beta[j]
        means[row] = mean
        inverses[row] = inverse


@lazy_part(fastmath=_FAST)
def _rows_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x, 4 g, 5 gamma, 6 means (0: none) and 7 inverse deviations of the rows, 8 gradient at x (0: none); 9 totals.

    The totals of each feature are sums of g and of g * normalized x.
    """
    n = numbers(arguments)
    begin, end = _share(n, part)
    width = n[2]
    gamma, means, inverses = floats(n[5]), floats(n[6]), floats(n[7])
    totals, sums = _sums(n[9], width, part)
    first, last, count = begin // width, end // width, np.float32(width)
    for block in range(first, last, _BLOCK):
        for j in range(2 * width):
            sums[j] = _ZERO
        for row in range(block, min(block + _BLOCK, last)):
            x, g = floats(n[3] + 4 * row * width), floats(n[4] + 4 * row * width)
            mean, inverse = means[row] if n[6] else _ZERO, inverses[row]
            total, along = _ZERO, _ZERO
            for j in range(width):
                normalized = (x[j] - mean) * inverse
                sums[j] += g[j]
                sums[j + width] += g[j] * normalized
                total += g[j] * gamma[j]
                along += g[j] * gamma[j] * normalized
            if n[8]:
                out = floats(n[8] + 4 * row * width)
                total = total / count if n[6] else _ZERO
                along /= count
                for j in range(width):
                    out[j] = inverse * (g[j] * gamma[j] - total - (x[j] - mean) * inverse * along)
        for j in range(2 * width):
            totals[j] += np.float64(sums[j])


class _Lines:
    """How a matrix is read: `together` rows in a line of `width` numbers."""

    def __init__(self, x: Any, wide: int = _WIDE):
        rows, channels = x.shape
        self.channels, self.together = channels, min(max(wide // channels, 1), rows)
        self.width = self.together * channels
        self.parts = min(parts_of(x.size), rows // self.together)

    def vectors(self, *rows: Any) -> Any:
        """Vectors or numbers for the channels as a matrix of rows for the columns of a line."""
        made = empty((len(rows), self.width), _FLOAT)
        for row, value in zip(made.reshape(len(rows), self.together, self.channels), rows, strict=True):
            row[...] = value
        return made

    def totals(self) -> Any:
        """Where each part leaves its two totals, with its room."""
        return empty((self.parts, 3, self.width), _DOUBLE)

    def of_channels(self, totals: Any) -> Any:
        """The two totals of each channel, in float64."""
        return totals[:, :2].reshape(self.parts, 2, self.together, self.channels).sum(axis=(0, 2))


def batch_moments(x: Any) -> tuple[Any, Any]:
    """Mean and biased variance of each column of a float32 matrix that is not empty."""
    lines = _Lines(x)
    totals = lines.totals()
    _run(_column_sums_part, lines.parts, x.size, lines.width, x, x, None, totals)
    mean, square = lines.of_channels(totals) / len(x)
    return mean.astype(_FLOAT), np.maximum(square - mean * mean, 0).astype(_FLOAT)


def normalize(x: Any, mean: Any, scale: Any, shift: Any, out: Any) -> None:
    """`(x - mean) * scale + shift` with a vector or a number for each."""
    lines = _Lines(x)
    _run(_normalize_part, lines.parts, x.size, lines.width, x, out, lines.vectors(mean, scale, shift))


def batch_gradient_sums(x: Any, g: Any, mean: Any) -> tuple[Any, Any]:
    """Sums of `g` and of `g * (x - mean)` over the rows, in float64."""
    lines = _Lines(x)
    totals = lines.totals()
    _run(_column_sums_part, lines.parts, x.size, lines.width, x, g, lines.vectors(mean), totals)
    return tuple(lines.of_channels(totals))


def batch_combine(x: Any, g: Any, mean: Any, a: Any, b: Any, c: Any, out: Any) -> None:
    """`a * g + b * (x - mean) + c` with a vector or a number for each."""
    lines = _Lines(x)
    _run(_combine_part, lines.parts, x.size, lines.width, x, g, out, lines.vectors(mean, a, b, c))


def normalize_rows(x: Any, gamma: Any, beta: Any, epsilon: float, centered: bool, out: Any) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with each row's statistics: (means, inverse deviations).

    Where not `centered`, the mean is taken as 0.  `gamma` and `beta` are vectors or numbers.
    """
    lines = _Lines(x, 1)
    statistics = empty((2, len(x), 1), _FLOAT)
    settings = np.array([epsilon], _FLOAT), int(centered)
    vectors = lines.vectors(gamma, beta)
    _run(_normalize_rows_part, lines.parts, x.size, lines.width, x, out, vectors, statistics, *settings)
    return statistics[0], statistics[1]


def rows_grad(x: Any, g: Any, gamma: Any, means: Any, inverses: Any, out: Any) -> tuple[Any, Any]:
    """Backward of `normalize_rows`: gradient at x into `out`, unless None; (sums of g, sums of g * normalized x)."""
    lines = _Lines(x, 1)
    totals, vectors = lines.totals(), lines.vectors(gamma)
    _run(_rows_grad_part, lines.parts, x.size, lines.width, x, g, vectors, means, inverses, out, totals)
    return tuple(lines.of_channels(totals))
