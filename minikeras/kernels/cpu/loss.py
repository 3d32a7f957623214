"""Losses on the CPU: a row at a time in compiled loops, where NumPy makes ten passes.

Sums over all values are cut by their number alone, and those of the slices are added up in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.cast import SOURCES, class_at, is_float32, source_of
from minikeras.kernels.cpu.compiler import (
    FAST,
    Doubles,
    Floats,
    Numbers,
    Octets,
    Part,
    exp,
    exp_of_falling,
    floats,
    inner,
    log,
    log1p_of_share,
    logistic,
    part,
    parts_for,
    share,
    specialised,
    tanh,
)
from minikeras.kernels.cpu.refusals import refuse
from minikeras.kernels.reference import loss as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override, same_shape

_EXACT = {"contract"}  # sums keep their order: large logits cancel
_ZERO, _HALF, _ONE, _TWO, _HUNDRED = map(np.float32, (0, 0.5, 1, 2, 100))
_NAN, _LN_2 = np.float32(math.nan), np.float32(math.log(2))


@inner
def _largest(x, size):
    """The largest number; NaN if there is one."""
    best = x[0]
    for j in range(1, size):
        best = x[j] if x[j] > best or x[j] != x[j] else best
    return best


@inner
def _sum_of_exponentials(x, classes, most, probabilities):
    """Of `x - most` in a row; where its probabilities are known the largest, which is `exp(0) / sum`, tells."""
    if probabilities:
        return _ONE / _largest(floats(probabilities), classes)
    total = _ZERO
    for j in range(classes):
        total += exp(x[j] - most)
    return total


@inner
def _of_row(array, at):
    """Where a row of an array begins that may be missing."""
    return array + at if array else 0


@part(fastmath=_EXACT)
def _cross_entropy(part, parts, rows, classes, logits, target, out: Floats, probabilities):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        x, wanted = floats(logits + at), floats(target + at)
        most, weight, product = _largest(x, classes), _ZERO, _ZERO
        for j in range(classes):
            weight += wanted[j]
            product += (x[j] - most) * wanted[j]
        total = _sum_of_exponentials(x, classes, most, _of_row(probabilities, at))
        out[row] = math.log(total) * weight - product


@part(fastmath=_EXACT)
def _cross_entropy_grad(part, parts, rows, classes, g: Floats, probabilities, target, out):
    """From the gradient at the losses."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        p, wanted, result, gradient = floats(probabilities + at), floats(target + at), floats(out + at), g[row]
        weight = _ZERO
        for j in range(classes):
            weight += wanted[j]
        for j in range(classes):
            result[j] = (p[j] * weight - wanted[j]) * gradient


@part(fastmath=_EXACT)
def _sparse_cross_entropy(part, parts, rows, classes, logits, labels: Numbers, out: Floats, probabilities):
    """Labels are in range, or negative: these name no class, and their cross-entropy is NaN."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        x = floats(logits + at)
        most = _largest(x, classes)
        total = _sum_of_exponentials(x, classes, most, _of_row(probabilities, at))
        label = labels[row]
        out[row] = math.log(total) - (x[label] - most) if label >= 0 else _NAN


@part(fastmath=_EXACT)
def _sparse_cross_entropy_grad(part, parts, rows, classes, g: Floats, probabilities, labels: Numbers, out):
    """From the gradient at the losses."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        p, result, gradient = floats(probabilities + at), floats(out + at), g[row]
        label = labels[row]
        gradient = gradient if label >= 0 else _ZERO
        for j in range(classes):
            result[j] = p[j] * gradient
        if label >= 0:
            result[label] = (p[label] - _ONE) * gradient


@lru_cache(maxsize=1024)
def rows_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(parts, rows, classes) of scores."""
    size = math.prod(shape)
    rows = size // shape[-1]
    return min(parts_for(4 * size), rows), rows, shape[-1]  # an exponential costs more than a pass over memory


def _run(part: Any, scores: Any, **arguments: Any) -> None:
    """Run a part on the rows of scores."""
    parts, rows, classes = rows_of(scores.shape)
    part.run(parts, rows=rows, classes=classes, **arguments)


_LABELS = (
    *(contiguous_float32("logits", "probabilities"), same_shape("logits", "probabilities")),
    lambda logits, labels: labels.shape == logits.shape[:-1],
)
_TARGETS = contiguous_float32("logits", "target", "probabilities"), same_shape("logits", "target", "probabilities")


@override(reference.cross_entropy, "cpu", when=_TARGETS)
def cross_entropy(k: Kernels, logits: Any, target: Any, probabilities: Any = None) -> Any:
    out = empty(logits.shape[:-1], logits.dtype)
    _run(_cross_entropy, logits, logits=logits, target=target, out=out, probabilities=probabilities)
    return out


@override(reference.cross_entropy_grad, "cpu", when=(of_float32("g"), *_TARGETS))
def cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    _run(_cross_entropy_grad, p, g=_row_of(g, logits), probabilities=p, target=target, out=out)
    return out


@override(reference.sparse_cross_entropy, "cpu", when=_LABELS)
def sparse_cross_entropy(k: Kernels, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    out = empty(labels.shape, logits.dtype)
    labels = contiguous(labels, np.int64)
    _run(_sparse_cross_entropy, logits, logits=logits, labels=labels, out=out, probabilities=probabilities)
    return out


@override(reference.sparse_cross_entropy_grad, "cpu", when=(of_float32("g"), *_LABELS))
def sparse_cross_entropy_grad(k: Kernels, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    labels = contiguous(labels, np.int64)
    _run(_sparse_cross_entropy_grad, p, g=_row_of(g, logits), probabilities=p, labels=labels, out=out)
    return out


def _row_of(g: Any, logits: Any) -> Any:
    """One number for each row, contiguous."""
    fits = g.shape == logits.shape[:-1] and is_float32(g)
    return g if fits else contiguous(np.broadcast_to(g, logits.shape[:-1]))


# ---- cross-entropies of probabilities, and likenesses of rows --------------------------------------------------------


@inner(fastmath=FAST)
def _sum(x, size):
    total = _ZERO
    for j in range(size):
        total += x[j]
    return total


@inner
def _within(x, low, high):
    return low if x < low else high if x > high else x


@inner
def _passing(x, low, high):
    """How much of its change limits let through: on one of them the mean of both sides."""
    return _ONE if low < x and x < high else _HALF if low <= x and x <= high else _ZERO


@part(fastmath=FAST)
def _share_cross_entropy(part, parts, rows, classes, output, target, out: Floats, epsilon: np.float32):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        x, wanted = floats(output + 4 * row * classes), floats(target + 4 * row * classes)
        total, entropy = _sum(x, classes), _ZERO
        for j in range(classes):
            entropy -= wanted[j] * log(_within(x[j] / total, epsilon, _ONE - epsilon))
        out[row] = entropy


@part(fastmath=FAST)
def _share_cross_entropy_grad(part, parts, rows, classes, g: Floats, output, target, out, epsilon: np.float32):
    first, last = share(part, parts, rows)
    low, high = epsilon, _ONE - epsilon
    for row in range(first, last):
        at = 4 * row * classes
        x, wanted, result = floats(output + at), floats(target + at), floats(out + at)
        total, along = _sum(x, classes), _ZERO
        for j in range(classes):
            p = x[j] / total
            slope = -wanted[j] / _within(p, low, high) * _passing(p, low, high)
            result[j] = slope
            along += slope * p
        factor = g[row] / total
        for j in range(classes):
            result[j] = (result[j] - along) * factor


@part(fastmath=FAST)
def _sparse_share_cross_entropy(part, parts, rows, classes, output, labels: Numbers, out: Floats, epsilon: np.float32):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        x, label = floats(output + 4 * row * classes), labels[row]
        entropy = _NAN
        if label >= 0:
            entropy = -log(_within(x[label] / _sum(x, classes), epsilon, _ONE - epsilon))
        out[row] = entropy


@part(fastmath=FAST)
def _sparse_share_cross_entropy_grad(
    part, parts, rows, classes, g: Floats, output, labels: Numbers, out, epsilon: np.float32
):
    first, last = share(part, parts, rows)
    low, high = epsilon, _ONE - epsilon
    for row in range(first, last):
        x, result, label = floats(output + 4 * row * classes), floats(out + 4 * row * classes), labels[row]
        total, slope, along = _sum(x, classes), _ZERO, _ZERO
        if label >= 0:
            p = x[label] / total
            slope = -_passing(p, low, high) / _within(p, low, high) * (g[row] / total)
            along = slope * p
        for j in range(classes):
            result[j] = -along
        if label >= 0:
            result[label] = slope - along


_SHARES = contiguous_float32("output", "target"), same_shape("output", "target")
_NAMED = contiguous_float32("output"), lambda output, labels: labels.shape == output.shape[:-1]


@override(reference.share_cross_entropy, "cpu", when=_SHARES)
def share_cross_entropy(k: Kernels, output: Any, target: Any, epsilon: float) -> Any:
    out = empty(output.shape[:-1], output.dtype)
    _run(_share_cross_entropy, output, output=output, target=target, out=out, epsilon=float(epsilon))
    return out


@override(reference.share_cross_entropy_grad, "cpu", when=(of_float32("g"), *_SHARES))
def share_cross_entropy_grad(k: Kernels, g: Any, output: Any, target: Any, epsilon: float) -> Any:
    out, g = empty(output.shape, output.dtype), _row_of(g, output)
    _run(_share_cross_entropy_grad, output, g=g, output=output, target=target, out=out, epsilon=float(epsilon))
    return out


@override(reference.sparse_share_cross_entropy, "cpu", when=_NAMED)
def sparse_share_cross_entropy(k: Kernels, output: Any, labels: Any, epsilon: float) -> Any:
    out, labels = empty(labels.shape, output.dtype), contiguous(labels, np.int64)
    _run(_sparse_share_cross_entropy, output, output=output, labels=labels, out=out, epsilon=float(epsilon))
    return out


@override(reference.sparse_share_cross_entropy_grad, "cpu", when=(of_float32("g"), *_NAMED))
def sparse_share_cross_entropy_grad(k: Kernels, g: Any, output: Any, labels: Any, epsilon: float) -> Any:
    out, labels = empty(output.shape, output.dtype), contiguous(labels, np.int64)
    g = _row_of(g, output)
    _run(_sparse_share_cross_entropy_grad, output, g=g, output=output, labels=labels, out=out, epsilon=float(epsilon))
    return out


@inner(fastmath=FAST)
def _dot(x, y, size):
    total = _ZERO
    for j in range(size):
        total += x[j] * y[j]
    return total


@inner
def _length(squares, epsilon):
    return math.sqrt(epsilon * epsilon if squares < epsilon * epsilon else squares)


@part
def _cosine(part, parts, rows, classes, x, y, out: Floats, epsilon: np.float32):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        a, b = floats(x + 4 * row * classes), floats(y + 4 * row * classes)
        lengths = _length(_dot(a, a, classes), epsilon) * _length(_dot(b, b, classes), epsilon)
        out[row] = -_dot(a, b, classes) / lengths


@part
def _cosine_grad(part, parts, rows, classes, g: Floats, x, y, out, epsilon: np.float32):
    first, last = share(part, parts, rows)
    least = epsilon * epsilon
    for row in range(first, last):
        at = 4 * row * classes
        a, b, result = floats(x + at), floats(y + at), floats(out + at)
        squares = _dot(a, a, classes)
        length = _length(squares, epsilon)
        of_other = g[row] / (length * _length(_dot(b, b, classes), epsilon))
        inside = _ONE if squares > least else _HALF if squares == least else _ZERO
        of_own = _dot(a, b, classes) * of_other / (length * length) * inside
        for j in range(classes):
            result[j] = a[j] * of_own - b[j] * of_other


_ALIKE = contiguous_float32("x", "y"), same_shape("x", "y")


@override(reference.cosine, "cpu", when=_ALIKE)
def cosine(k: Kernels, x: Any, y: Any, epsilon: float) -> Any:
    out = empty(x.shape[:-1], x.dtype)
    _run(_cosine, x, x=x, y=y, out=out, epsilon=float(epsilon))
    return out


@override(reference.cosine_grad, "cpu", when=(of_float32("g"), *_ALIKE))
def cosine_grad(k: Kernels, g: Any, x: Any, y: Any, epsilon: float) -> Any:
    out = empty(x.shape, x.dtype)
    _run(_cosine_grad, x, g=_row_of(g, x), x=x, y=y, out=out, epsilon=float(epsilon))
    return out


@inner
def _largest_wrong(wanted, x, classes):
    """The largest of `(1 - target) * output` in a row; NaN if there is one."""
    best = (_ONE - wanted[0]) * x[0]
    for j in range(1, classes):
        value = (_ONE - wanted[j]) * x[j]
        best = value if value > best or value != value else best
    return best


@part
def _largest_margin(part, parts, rows, classes, target, output, out: Floats):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        wanted, x = floats(target + 4 * row * classes), floats(output + 4 * row * classes)
        margin = _largest_wrong(wanted, x, classes) - _dot(wanted, x, classes) + _ONE
        out[row] = _ZERO if margin < _ZERO else margin


@part
def _largest_margin_grad(part, parts, rows, classes, g: Floats, target, output, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        wanted, x, result = floats(target + at), floats(output + at), floats(out + at)
        most, count = _largest_wrong(wanted, x, classes), _ZERO
        for j in range(classes):
            count += _ONE if (_ONE - wanted[j]) * x[j] == most else _ZERO
        margin = most - _dot(wanted, x, classes) + _ONE
        slope = g[row] * (_ONE if margin > _ZERO else _HALF if margin == _ZERO else _ZERO)
        for j in range(classes):
            rest = _ONE - wanted[j]
            result[j] = slope * ((rest / count if rest * x[j] == most else _ZERO) - wanted[j])


@override(reference.largest_margin, "cpu", when=_SHARES)
def largest_margin(k: Kernels, target: Any, output: Any) -> Any:
    out = empty(output.shape[:-1], output.dtype)
    _run(_largest_margin, output, target=target, output=output, out=out)
    return out


def _of_output(of_target: bool) -> bool:
    return not of_target


@override(reference.largest_margin_grad, "cpu", when=(_of_output, of_float32("g"), *_SHARES))
def largest_margin_grad(k: Kernels, g: Any, target: Any, output: Any, of_target: bool = False) -> Any:
    out = empty(output.shape, output.dtype)
    _run(_largest_margin_grad, output, g=_row_of(g, output), target=target, output=output, out=out)
    return out


# ---- errors of single elements ---------------------------------------------------------------------------------------


@inner
def at_least(x, low):
    """The larger of both; NaN stays."""
    return low if x < low else x


@inner
def at_most(x, high):
    """The smaller of both; NaN stays."""
    return high if x > high else x


@inner
def sign(x):
    """-1, 0 or 1; NaN stays."""
    return _ONE if x > _ZERO else -_ONE if x < _ZERO else x


# An error and its slope by the output, as in the reference: of a target, an output and a setting.


@inner
def squared(target, output, setting):
    return (output - target) * (output - target)


@inner
def squared_slope(target, output, setting):
    return _TWO * (output - target)


@inner
def absolute(target, output, setting):
    return abs(output - target)


@inner
def absolute_slope(target, output, setting):
    return sign(output - target)


@inner
def percentage(target, output, epsilon):
    return _HUNDRED * abs((output - target) / at_least(abs(target), epsilon))


@inner
def percentage_slope(target, output, epsilon):
    size = at_least(abs(target), epsilon)
    return _HUNDRED * sign((output - target) / size) / size


@inner
def logarithmic_difference(target, output, epsilon):
    return log(at_least(output, epsilon) + _ONE) - log(at_least(target, epsilon) + _ONE)


@inner
def squared_logarithmic(target, output, epsilon):
    difference = logarithmic_difference(target, output, epsilon)
    return difference * difference


@inner
def squared_logarithmic_slope(target, output, epsilon):
    slope = _TWO * logarithmic_difference(target, output, epsilon) / (at_least(output, epsilon) + _ONE)
    return slope * (_ONE if output > epsilon else _ZERO)


@inner
def huber(target, output, delta):
    difference = output - target
    size = abs(difference)
    return _HALF * difference * difference if size <= delta else delta * size - _HALF * delta * delta


@inner
def huber_slope(target, output, delta):
    return at_most(at_least(output - target, -delta), delta)


@inner
def log_cosh(target, output, setting):
    size = abs(output - target)
    return size + log1p_of_share(exp_of_falling(-_TWO * size)) - _LN_2


@inner
def log_cosh_slope(target, output, setting):
    return tanh(output - target)


@inner
def hinge(target, output, setting):  # targets are -1 and 1
    return at_least(_ONE - target * output, _ZERO)


@inner
def hinge_slope(target, output, setting):
    return -target * (_ONE if _ONE - target * output > _ZERO else _ZERO)


@inner
def squared_hinge(target, output, setting):
    margin = at_least(_ONE - target * output, _ZERO)
    return margin * margin


@inner
def squared_hinge_slope(target, output, setting):
    return -_TWO * target * at_least(_ONE - target * output, _ZERO)


@inner
def poisson(target, output, epsilon):
    return output - target * log(output + epsilon)


@inner
def poisson_slope(target, output, epsilon):
    return _ONE - target / (output + epsilon)


@inner
def binary(target, output, epsilon):
    p = at_most(at_least(output, epsilon), _ONE - epsilon)
    return -(target * log(p) + (_ONE - target) * log(_ONE - p))


@inner
def binary_slope(target, output, epsilon):
    p = at_most(at_least(output, epsilon), _ONE - epsilon)
    slope = (p - target) / (p * (_ONE - p))
    return slope * (_ONE if output >= epsilon and output <= _ONE - epsilon else _ZERO)


@inner
def binary_logits(target, output, setting):
    return at_least(output, _ZERO) - output * target + log1p_of_share(exp_of_falling(-abs(output)))


@inner
def binary_logits_slope(target, output, setting):
    return logistic(output) - target


@inner
def kl_divergence(target, output, epsilon):
    true, pred = at_most(at_least(target, epsilon), _ONE), at_most(at_least(output, epsilon), _ONE)
    return true * log(true / pred)


@inner
def kl_divergence_slope(target, output, epsilon):
    true, pred = at_most(at_least(target, epsilon), _ONE), at_most(at_least(output, epsilon), _ONE)
    low = _ONE if output > epsilon else _HALF if output == epsilon else _ZERO
    high = _ONE if output < _ONE else _HALF if output == _ONE else _ZERO
    return -true / pred * at_most(low, high)


def _mean_errors(part, parts, rows, columns, target, output, out: Floats, setting: np.float32, scale: np.float32):
    first, last = share(part, parts, rows)
    t, y = floats(target), floats(output)
    if columns == 1:
        for row in range(first, last):
            out[row] = error(t[row], y[row], setting) * scale  # type: ignore[name-defined]  # noqa: F821
    else:
        for row in range(first, last):
            total, at = _ZERO, row * columns
            for j in range(columns):
                total += error(t[at + j], y[at + j], setting)  # type: ignore[name-defined]  # noqa: F821
            out[row] = total * scale


def _mean_error_slopes(
    part, parts, rows, columns, g: Floats, target, output, out: Floats, setting: np.float32, scale: np.float32
):
    first, last = share(part, parts, rows)
    t, y = floats(target), floats(output)
    if columns == 1:
        for row in range(first, last):
            out[row] = error(t[row], y[row], setting) * (g[row] * scale)  # type: ignore[name-defined]  # noqa: F821
    else:
        for row in range(first, last):
            factor, at = g[row] * scale, row * columns
            for j in range(columns):
                out[at + j] = error(t[at + j], y[at + j], setting) * factor  # type: ignore[name-defined]  # noqa: F821


_IN_LANES = {"contract", "reassoc", "nsz"}  # sums of rows may vectorise


_ERRORS: dict[str, tuple[Part, Part]] = {}
for _kind in reference.ERRORS:
    _functions = (_mean_errors, globals()[_kind]), (_mean_error_slopes, globals()[f"{_kind}_slope"])
    _ERRORS[_kind] = tuple(
        specialised(template, f"{template.__name__}_of_{_kind}", _IN_LANES, error=error)
        for template, error in _functions
    )  # type: ignore[assignment]
    for _part in _ERRORS[_kind]:
        globals()[_part.function.__name__] = _part  # where all compiled kernels are looked for

_ONES = contiguous_float32("output", "target"), same_shape("output", "target")
_HINGES = frozenset({"hinge", "squared_hinge"})


@lru_cache(maxsize=1024)
def _cut(shape: tuple[int, ...], kind: str) -> tuple[int, int, int, float]:
    """(parts, rows, columns, what their sums are multiplied by)."""
    columns, size = shape[-1], math.prod(shape)
    rows = size // columns
    return min(parts_for(2 * size), rows), rows, columns, 1.0 if kind in reference.SUMMED else 1 / columns


@override(reference.mean_error, "cpu", when=_ONES)
def mean_error(k: Kernels, target: Any, output: Any, kind: str, setting: float = 0.0) -> Any:
    shape = output.shape
    out = empty(shape[:-1], output.dtype)
    target = k.signs(target) if kind in _HINGES else target
    parts, rows, columns, scale = _cut(shape, kind)
    _ERRORS[kind][0].run(
        parts, rows=rows, columns=columns, target=target, output=output, out=out, setting=float(setting), scale=scale
    )
    return out


@override(reference.mean_error_grad, "cpu", when=(_of_output, of_float32("g"), *_ONES))
def mean_error_grad(
    k: Kernels, g: Any, target: Any, output: Any, kind: str, setting: float = 0.0, of_target: bool = False
) -> Any:
    out = empty(output.shape, output.dtype)
    target = k.signs(target) if kind in _HINGES else target
    parts, rows, columns, scale = _cut(output.shape, kind)
    _ERRORS[kind][1].run(
        parts, rows=rows, columns=columns, g=_row_of(g, output), target=target, output=output, out=out,
        setting=float(setting), scale=scale,
    )  # fmt: skip
    return out


@part
def _signs(part, size, target: Floats, out: Floats):
    """In one part, for it takes a look at all before it writes the first."""
    others = 0
    for i in range(size):
        others += 0 if target[i] == _ZERO or target[i] == _ONE else 1
    if others:
        for i in range(size):
            out[i] = target[i]
    else:
        for i in range(size):
            out[i] = _TWO * target[i] - _ONE


@override(reference.signs, "cpu", when=contiguous_float32("target"))
def signs(k: Kernels, target: Any) -> Any:
    out = empty(target.shape, target.dtype)
    _signs.run(1, size=target.size, target=target, out=out)
    return out


# ---- weights, and the sum of all values ------------------------------------------------------------------------------

_BLOCK = 512  # so many float32 numbers are added in their own type


@inner(fastmath=FAST)
def _sum_of_products(values, weights, each, first, last):
    """(the sum of all values in some rows times their weights, the sum of their weights); a row has one weight."""
    total, weight = 0.0, 0.0
    x, w = floats(values), floats(weights)
    if weights == 0:
        for start in range(first * each, last * each, _BLOCK):
            some = _ZERO
            for i in range(start, min(start + _BLOCK, last * each)):
                some += x[i]
            total += np.float64(some)
    elif each == 1:
        for start in range(first, last, _BLOCK):
            some, some_weights = _ZERO, _ZERO
            for i in range(start, min(start + _BLOCK, last)):
                some += x[i] * w[i]
                some_weights += w[i]
            total += np.float64(some)
            weight += np.float64(some_weights)
    else:
        for row in range(first, last):
            row_total = 0.0
            for start in range(row * each, (row + 1) * each, _BLOCK):
                some = _ZERO
                for i in range(start, min(start + _BLOCK, (row + 1) * each)):
                    some += x[i]
                row_total += np.float64(some)
            total += row_total * np.float64(w[row])
            weight += np.float64(w[row])
    return total, weight


@part
def _slices_of_products(part, parts, rows, each, values, weights, sums: Doubles):
    first, last = share(part, parts, rows)
    total, weight = _sum_of_products(values, weights, each, first, last)
    sums[2 * part] = total
    sums[2 * part + 1] = weight


@inner
def sums_of(rows, each, values, weights, slices, sums):
    """`_sum_of_products` of all rows, or the sums of so many slices of them added up."""
    if slices == 0:
        total, weight = _sum_of_products(values, weights, each, 0, rows)
    else:
        total, weight = 0.0, 0.0
        for i in range(slices):
            total += sums[2 * i]
            weight += sums[2 * i + 1]
    return total, weight


def cut(values: Any, weights: Any) -> tuple[int, int, int, Any]:
    """`rows`, `each`, `slices` and `sums` of a part that asks for `sums_of` values; long ones are added up here."""
    size = values.size
    rows = size if weights is None else weights.size
    each = 1 if rows == size else size // rows
    slices = min(parts_for(size), rows)
    if slices < 2:
        return rows, each, 0, None
    sums = empty((2 * slices,), _DOUBLE)
    _slices_of_products.run(slices, rows=rows, each=each, values=values, weights=weights, sums=sums)
    return rows, each, slices, sums


_DOUBLE = np.dtype(np.float64)


def weighs(values: Any, weights: Any) -> bool:
    """Whether there are no weights, or one for each of the values or of the rows that these begin with."""
    if weights is None:
        return True
    if weights.dtype.char != "f" or not weights.flags.c_contiguous:
        return False
    if weights.shape == values.shape:
        return True
    shape = weights.shape
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return weights.ndim == values.ndim and values.shape[: len(shape)] == shape


@part
def _weighted_total(part, rows, each, values, weights, slices, sums: Doubles, factor: float, scale, out: Floats):
    total, weight = sums_of(rows, each, values, weights, slices, sums)
    if scale:
        factor = 0.0 if weight == 0.0 else 1.0 / (weight * np.float64(each))
        floats(scale)[0] = np.float32(factor)
    out[0] = np.float32(total * factor)


@override(reference.weighted_total, "cpu", when=(contiguous_float32("values"), weighs))
def weighted_total(k: Kernels, values: Any, weights: Any = None, factor: float | None = None) -> tuple[Any, Any]:
    out = empty((), values.dtype)
    scale = empty((), values.dtype) if factor is None else None
    rows, each, slices, sums = cut(values, weights)
    _weighted_total.run(
        1, rows=rows, each=each, values=values, weights=weights, slices=slices, sums=sums, factor=float(factor or 0),
        scale=scale, out=out,
    )  # fmt: skip
    return out, factor if scale is None else scale


@part
def _weighted_total_grad(part, parts, rows, each, g: Floats, weights, factor: np.float32, scale, out: Floats):
    first, last = share(part, parts, rows)
    slope = g[0] * (floats(scale)[0] if scale else factor)
    if weights == 0:
        for i in range(first * each, last * each):
            out[i] = slope
    elif each == 1:
        for i in range(first, last):
            out[i] = slope * floats(weights)[i]
    else:
        for row in range(first, last):
            value = slope * floats(weights)[row]
            for i in range(row * each, (row + 1) * each):
                out[i] = value


def _is_scalar(g: Any) -> bool:
    return g.size == 1 and is_float32(g)


@override(reference.weighted_total_grad, "cpu", when=(_is_scalar, contiguous_float32("values"), weighs))
def weighted_total_grad(k: Kernels, g: Any, values: Any, weights: Any, factor: Any) -> Any:
    out = empty(values.shape, values.dtype)
    rows = values.size if weights is None else weights.size
    fixed, scale = (factor, None) if isinstance(factor, float) else (0.0, factor)
    parts, each = min(parts_for(values.size), rows), values.size // rows
    _weighted_total_grad.run(parts, rows=rows, each=each, g=g, weights=weights, factor=fixed, scale=scale, out=out)
    return out


@part
def _weights_of_mask(part, rows, each, mask: Octets, weights, mean, out: Floats):
    size, chosen = rows * each, 0
    for i in range(size):
        chosen += 1 if mask[i] else 0
    scale = np.float32(np.float64(size) / np.float64(max(chosen, 1))) if mean else _ONE
    for row in range(rows):
        weight = scale * floats(weights)[row] if weights else scale
        for i in range(row * each, (row + 1) * each):
            out[i] = weight if mask[i] else _ZERO


def _has_rows(mask: Any, weights: Any, dtype: Any) -> bool:
    """Whether a mask is one of bytes, and there is one weight for each, or for each of the rows it begins with."""
    if mask.dtype.char != "?" or not mask.flags.c_contiguous or not mask.size or dtype != np.float32:
        return False
    return weights is None or (weights.ndim <= mask.ndim and weighs(mask, reference.fitted(weights, mask.shape)))


@override(reference.weights_of_mask, "cpu", when=_has_rows)
def weights_of_mask(k: Kernels, mask: Any, weights: Any, dtype: Any, mean: bool) -> Any:
    out = empty(mask.shape, np.dtype(np.float32))
    rows = 1 if weights is None else weights.size
    _weights_of_mask.run(1, rows=rows, each=mask.size // rows, mask=mask, weights=weights, mean=int(mean), out=out)
    return out


# ---- class numbers ---------------------------------------------------------------------------------------------------


@part
def _class_numbers(part, parts, size, source, labels, least, classes, out: Numbers, refusals):
    first, last = share(part, parts, size)
    for i in range(first, last):
        label = class_at(labels, source, i, least, classes)
        out[i] = max(label, least)
        if label < least:
            refuse(refusals)


_NUMBER = np.dtype(np.int64)


def _are_numbers(labels: Any) -> bool:
    return labels.size > 0 and source_of(labels) is not None


@override(reference.class_numbers, "cpu", when=_are_numbers)
def class_numbers(k: Kernels, labels: Any, classes: int, least: int = 0) -> tuple[Any, Any]:
    out, before = empty(labels.shape, _NUMBER), refusals.count()
    _class_numbers.run(
        parts_for(4 * labels.size), size=labels.size, source=SOURCES[labels.dtype], labels=labels, least=least,
        classes=classes, out=out, refusals=refusals.ADDRESS,
    )  # fmt: skip
    return out, refusals.count() - before
