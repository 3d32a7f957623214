"""Normalisation on the CPU: of float32 in passes that the team shares; masked batches and others are the reference's.

The columns of a matrix are the channels or the features.  Batch statistics take one pass over the rows.  A block of
them sums its distances from its own first row, so that a mean far from zero costs no digits, and blocks are joined in
float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Floats, doubles, floats, inner, part, parts_for, share
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


# ---- layer and root mean square: a line is a row ---------------------------------------------------------------------


@part(fastmath=_FAST)
def _normalize_rows(
    part, parts, size, width, x, out, vectors, means: Floats, inverses: Floats, epsilon: np.float32, centered
):
    """Means and inverse deviations of the rows; vectors: gamma and beta."""
    begin, end = _share(part, parts, size, width)
    gamma, beta, count = floats(vectors), floats(vectors + 4 * width), np.float32(width)
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
def _rows_grad(part, parts, size, width, x, g, gamma: Floats, means, inverses: Floats, out, totals):
    """The gradient at x (0: none), from means (0: none) and inverse deviations of the rows.

    The totals of each feature are sums of g and of g * normalized x.
    """
    begin, end = _share(part, parts, size, width)
    total, sums = _sums(totals, width, part)
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


class _Lines:
    """How a matrix is read: `together` rows in a line of `width` numbers."""

    def __init__(self, x: Any, wide: int = _WIDE):
        rows, channels = x.shape
        self.channels, self.together = channels, min(max(wide // channels, 1), rows)
        self.width = self.together * channels
        self.parts = min(parts_for(x.size), rows // self.together)

    def vectors(self, *rows: Any) -> Any:
        """Vectors or numbers for the channels as a matrix of rows for the columns of a line."""
        made = empty((len(rows), self.width), _FLOAT)
        for row, value in zip(made.reshape(len(rows), self.together, self.channels), rows, strict=True):
            row[...] = value
        return made

    def totals(self) -> Any:
        """Where each part leaves its two totals, with the place for its sums."""
        return empty((self.parts, 3, self.width), _DOUBLE)

    def of_channels(self, totals: Any) -> Any:
        """The two totals of each channel, in float64."""
        return totals[:, :2].reshape(-1, 2, self.together, self.channels).sum(axis=(0, 2))


def _has_vectors(x: Any, scale: Any, shift: Any) -> bool:
    return bool(x.ndim == 2 and scale.ndim == shift.ndim == 1)


def _are_plain(*arrays: Any) -> bool:
    """Whether what a residual holds (None: absent) is contiguous float32."""
    return all([array is None or (array.dtype.char == "f" and array.flags.c_contiguous) for array in arrays])


def _was_unmasked(residual: Any) -> bool:
    return isinstance(residual[5], float | int) and _are_plain(residual[0])


def _was_compiled(residual: Any) -> bool:
    x, gamma, _, mean, inverse = residual
    return _are_plain(x, gamma, mean, inverse)


def _like(x: Any, out: Any) -> Any:
    return empty(x.shape, x.dtype) if out is None else out


def _or(vector: Any, value: float) -> Any:
    return value if vector is None else vector


def _into(out: Any, value: Any, wanted: bool) -> Any:
    """A sum, taken in float64, as float32 and where it should be; None where it is not wanted."""
    if not wanted:
        return None
    if out is None:
        return value.astype(np.float32)
    out[...] = value
    return out


def _normalized(x: Any, mean: Any, scale: Any, shift: Any, out: Any) -> None:
    """`(x - mean) * scale + shift` with a vector or a number for each."""
    lines = _Lines(x)
    _normalize.run(lines.parts, size=x.size, width=lines.width, x=x, out=out, vectors=lines.vectors(mean, scale, shift))


def _normalized_rows(x: Any, gamma: Any, beta: Any, epsilon: float, centered: bool, out: Any) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with each row's statistics: (means, inverse deviations).

    Where not `centered`, the mean is taken as 0.  `gamma` and `beta` are vectors or numbers.
    """
    lines = _Lines(x, 1)
    means, inverses = empty((2, len(x), 1), _FLOAT)
    vectors = lines.vectors(_or(gamma, 1), _or(beta, 0))
    arrays = {"x": x, "out": out, "vectors": vectors, "means": means, "inverses": inverses}
    _normalize_rows.run(
        lines.parts, size=x.size, width=lines.width, **arrays, epsilon=float(epsilon), centered=centered
    )
    return means, inverses


@override(reference.batch_norm, "cpu", when=(absent("mask"), contiguous_float32("x", "gamma", "beta", "out")))
def batch_norm(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    y = _like(x, out)
    lines = _Lines(x)
    totals = lines.totals()
    _column_sums.run(lines.parts, size=x.size, width=lines.width, x=x, g=x, mean=None, totals=totals)
    mean, square = lines.of_channels(totals) / len(x)
    mean, variance = mean.astype(_FLOAT), np.maximum(square - mean * mean, 0).astype(_FLOAT)
    inverse = 1 / np.sqrt(variance + epsilon)
    _normalized(x, mean, inverse * _or(gamma, 1), _or(beta, 0), y)
    return y, mean, variance, (x, gamma, beta, mean, inverse, 1 / len(x))


@override(reference.batch_norm_grad, "cpu", when=(contiguous_float32("g"), _was_unmasked))
def batch_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse, weight = residual
    lines = _Lines(x)
    totals = lines.totals()
    _column_sums.run(lines.parts, size=x.size, width=lines.width, x=x, g=g, mean=lines.vectors(mean), totals=totals)
    total, along = lines.of_channels(totals)
    along *= inverse
    g_x = None
    if needs_x:
        g_x = _like(x, None)
        scale = inverse * _or(gamma, 1)
        factors = -weight * scale * inverse * along, -weight * scale * total
        _combine.run(
            lines.parts, size=x.size, width=lines.width, x=x, g=g, out=g_x, vectors=lines.vectors(mean, scale, *factors)
        )
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)


@override(reference.scale_shift, "cpu", when=(_has_vectors, contiguous_float32("x", "scale", "shift", "out")))
def scale_shift(k: Kernels, x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    y = _like(x, out)
    _normalized(x, 0, scale, shift, y)
    return y


@override(reference.layer_norm, "cpu", when=contiguous_float32("x", "gamma", "beta", "out"))
def layer_norm(k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, beta, *_normalized_rows(x, gamma, beta, epsilon, True, y))


@override(reference.rms_norm, "cpu", when=contiguous_float32("x", "gamma", "out"))
def rms_norm(k: Kernels, x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, None, None, _normalized_rows(x, gamma, None, epsilon, False, y)[1])


@override(reference.layer_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled))
def layer_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse = residual
    g_x = _like(x, None) if needs_x else None
    lines = _Lines(x, 1)
    arrays = {"gamma": lines.vectors(_or(gamma, 1)), "means": mean, "inverses": inverse, "totals": lines.totals()}
    _rows_grad.run(lines.parts, size=x.size, width=lines.width, x=x, g=g, out=g_x, **arrays)
    total, along = lines.of_channels(arrays["totals"])
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)
