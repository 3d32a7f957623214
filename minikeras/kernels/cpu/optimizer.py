"""Optimizer steps on the CPU: compiled loops for float32, else the reference in blocks that stay in cache.

The compiled loops round like the reference, operation by operation: no fast-math, nothing contracted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, empty
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.compiler import Doubles, Floats, doubles, floats, inner, part, parts_for, share_of_lines
from minikeras.kernels.cpu.refusals import refuse
from minikeras.kernels.reference import optimizer as reference
from minikeras.kernels.table import Kernels, contiguous_float32, one_of, override, same_shape

_BLOCK = (
    32768  # Adam's five float32 blocks fill 640 KiB of a 1 MiB L2; half of it was 15 % slower, through call overhead
)

_NOTHING = np.float32(0)
_scratch = threading.local()  # tables whose buffers are one and the same block, by type


def _in_blocks(update: Callable) -> Callable:
    """The same update, block by block: a dozen passes over a block cost less than a dozen over the whole buffer."""

    @wraps(update)
    def blocked(k: Kernels, p: Any, *arguments: Any, **options: Any) -> None:
        kept = _scratch.__dict__
        table = kept.get(p.dtype)
        if table is None:
            block = np.empty(_BLOCK, p.dtype)
            table = kept[p.dtype] = SimpleNamespace(xp=k.xp, empty=lambda shape, dtype: block[: shape[0]])
        for start in range(0, p.size, _BLOCK) if p.size > _BLOCK else (0,):
            part = slice(start, start + _BLOCK)
            cut = {name: _cut(option, p.size, part) for name, option in options.items()}
            update(table, p[part], *[_cut(argument, p.size, part) for argument in arguments], **cut)

    return blocked


def _cut(argument: Any, size: int, part: slice) -> Any:
    return argument[part] if getattr(argument, "ndim", 0) and argument.size == size else argument


_NAMES = "sgd sgd_momentum rmsprop adam adagrad adadelta adamax nadam lion ftrl decay ema"
for _name in _NAMES.split():
    override(_name, "cpu")(_in_blocks(getattr(reference, _name)))

# Above these stand the compiled loops, in which denormal numbers count as zero.  What changes from step to step they
# read from memory, so that the same call is right in every step.  All numbers in a loop have the arrays' own type: one
# float64 among float32 would make it ten times slower.

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_DOUBLE, _ARRAY = np.dtype(np.float64), np.ndarray


def _held(value: Any) -> np.ndarray:
    """A number as it lies in memory, of float64."""
    return value if isinstance(value, _ARRAY) and value.ndim else _constant(float(value))


@lru_cache(maxsize=256)
def _constant(value: float) -> np.ndarray:
    return constant(np.array([value], _DOUBLE))


@inner
def _larger(a, b):
    """The larger number; NaN where one of them is."""
    larger = a if a > b else b
    return a if a != a else larger


@inner
def _smaller(a, b):
    smaller = a if a < b else b
    return a if a != a else smaller


@part
def _sgd(part, parts, size, p: Floats, g: Floats, lr: Doubles):
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    for i in range(first, end):
        p[i] -= g[i] * rate


@part
def _sgd_momentum(part, parts, size, p: Floats, g: Floats, v: Floats, lr: Doubles, momentum: np.float32, nesterov):
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    if nesterov:
        for i in range(first, end):
            step = g[i] * rate
            velocity = v[i] * momentum - step
            v[i] = velocity
            p[i] = (p[i] - step) + velocity * momentum
    else:
        for i in range(first, end):
            velocity = v[i] * momentum - g[i] * rate
            v[i] = velocity
            p[i] += velocity


@part
def _rmsprop(
    part, parts, size, p: Floats, g: Floats, v: Floats, lr: Doubles, rho: np.float32, rest: np.float32,
    epsilon: np.float32, momentum: np.float32, momentum_buffer: Floats, average_gradient: Floats, kind,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    if kind == 0:
        for i in range(first, end):
            gradient = g[i]
            square = v[i] * rho + gradient * gradient * rest
            v[i] = square
            p[i] -= gradient / math.sqrt(square + epsilon) * rate
    elif kind == 1:  # momentum
        for i in range(first, end):
            gradient = g[i]
            square = v[i] * rho + gradient * gradient * rest
            v[i] = square
            step = momentum_buffer[i] * momentum + gradient / math.sqrt(square + epsilon) * rate
            momentum_buffer[i] = step
            p[i] -= step
    elif kind == 2:  # centered
        for i in range(first, end):
            gradient = g[i]
            square = v[i] * rho + gradient * gradient * rest
            v[i] = square
            mean = average_gradient[i] * rho + gradient * rest
            average_gradient[i] = mean
            p[i] -= gradient / math.sqrt(_larger(square - mean * mean, _ZERO) + epsilon) * rate
    else:
        for i in range(first, end):
            gradient = g[i]
            square = v[i] * rho + gradient * gradient * rest
            v[i] = square
            mean = average_gradient[i] * rho + gradient * rest
            average_gradient[i] = mean
            step = gradient / math.sqrt(_larger(square - mean * mean, _ZERO) + epsilon) * rate
            step = momentum_buffer[i] * momentum + step
            momentum_buffer[i] = step
            p[i] -= step


@part
def _adam(
    part, parts, size, p: Floats, g: Floats, m: Floats, v: Floats, alpha: Doubles, rest_1: np.float32,
    rest_2: np.float32, epsilon: np.float32, amount,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate, decayed = np.float32(alpha[0]), _ZERO
    if amount:
        decayed = np.float32(doubles(amount)[0])
    for i in range(first, end):
        gradient, mean, square = g[i], m[i], v[i]
        mean += (gradient - mean) * rest_1
        square += (gradient * gradient - square) * rest_2
        m[i] = mean
        v[i] = square
        weight = p[i]
        weight = weight - weight * decayed if amount else weight
        p[i] = weight - mean / (math.sqrt(square) + epsilon) * rate


@part
def _amsgrad(
    part, parts, size, p: Floats, g: Floats, m: Floats, v: Floats, vhat: Floats, alpha: Doubles, rest_1: np.float32,
    rest_2: np.float32, epsilon: np.float32, amount,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate, decayed = np.float32(alpha[0]), _ZERO
    if amount:
        decayed = np.float32(doubles(amount)[0])
    for i in range(first, end):
        gradient, mean, square = g[i], m[i], v[i]
        mean += (gradient - mean) * rest_1
        square += (gradient * gradient - square) * rest_2
        greatest = _larger(vhat[i], square)
        m[i] = mean
        v[i] = square
        vhat[i] = greatest
        weight = p[i]
        weight = weight - weight * decayed if amount else weight
        p[i] = weight - mean / (math.sqrt(greatest) + epsilon) * rate


@part
def _adagrad(part, parts, size, p: Floats, g: Floats, total: Floats, lr: Doubles, epsilon: np.float32):
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    for i in range(first, end):
        gradient = g[i]
        square = total[i] + gradient * gradient
        total[i] = square
        p[i] -= gradient * rate / math.sqrt(square + epsilon)


@part
def _adadelta(
    part, parts, size, p: Floats, g: Floats, squares: Floats, steps: Floats, lr: Doubles, rho: np.float32,
    rest: np.float32, epsilon: np.float32,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    for i in range(first, end):
        gradient, before = g[i], steps[i]
        square = squares[i] * rho + gradient * gradient * rest
        step = gradient * math.sqrt(before + epsilon) / math.sqrt(square + epsilon)
        squares[i] = square
        steps[i] = before * rho + step * step * rest
        p[i] -= step * rate


@part
def _adamax(
    part, parts, size, p: Floats, g: Floats, m: Floats, norm: Floats, alpha: Doubles, rest_1: np.float32,
    beta_2: np.float32, epsilon: np.float32,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(alpha[0])
    for i in range(first, end):
        gradient, mean = g[i], m[i]
        mean += (gradient - mean) * rest_1
        largest = _larger(norm[i] * beta_2, abs(gradient))
        m[i] = mean
        norm[i] = largest
        p[i] -= mean * rate / (largest + epsilon)


@part
def _nadam(
    part, parts, size, p: Floats, g: Floats, m: Floats, v: Floats, lr: Doubles, of_mean: Doubles, of_gradient: Doubles,
    correction: Doubles, rest_1: np.float32, rest_2: np.float32, epsilon: np.float32,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate, corrected = np.float32(lr[0]), np.float32(correction[0])
    share_of_mean, share_of_gradient = np.float32(of_mean[0]), np.float32(of_gradient[0])
    for i in range(first, end):
        gradient, mean, square = g[i], m[i], v[i]
        mean += (gradient - mean) * rest_1
        square += (gradient * gradient - square) * rest_2
        m[i] = mean
        v[i] = square
        step = mean * share_of_mean + gradient * share_of_gradient
        p[i] -= step * rate / (math.sqrt(square / corrected) + epsilon)


@part
def _lion(
    part, parts, size, p: Floats, g: Floats, m: Floats, lr: Doubles, beta_1: np.float32, rest_1: np.float32,
    beta_2: np.float32, rest_2: np.float32,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    for i in range(first, end):
        gradient, mean = g[i], m[i]
        direction = mean * beta_1 + gradient * rest_1
        sign = _ONE if direction > _ZERO else direction * _ZERO  # NaN stays
        sign = -_ONE if direction < _ZERO else sign
        p[i] -= sign * rate
        m[i] = mean * beta_2 + gradient * rest_2


@part
def _ftrl(
    part, parts, size, p: Floats, g: Floats, total: Floats, linear: Floats, lr: Doubles, l1: np.float32,
    twice_l2: np.float32, twice_shrinkage: np.float32, beta: np.float32,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    rate = np.float32(lr[0])
    if lr[0] != 0.0:
        for i in range(first, end):
            gradient, weight, before = g[i], p[i], total[i]
            square = before + gradient * gradient
            after = math.sqrt(square)
            moved = gradient + weight * twice_shrinkage - (after - math.sqrt(before)) / rate * weight
            moved = linear[i] + moved
            total[i] = square
            linear[i] = moved
            p[i] = (_smaller(_larger(moved, -l1), l1) - moved) / ((after + beta) / rate + twice_l2)


@part
def _decay(part, parts, size, p: Floats, amount: Doubles):
    first, end = share_of_lines(part, parts, size)
    factor = np.float32(amount[0])
    for i in range(first, end):
        p[i] -= p[i] * factor


@part
def _ema(part, parts, size, average: Floats, p: Floats, momentum, kept: np.float32, new: np.float32):
    """The shares lie in memory, where that is given."""
    first, end = share_of_lines(part, parts, size)
    if momentum:
        kept = np.float32(doubles(momentum)[0])
        new = np.float32(1.0 - doubles(momentum)[0])
    for i in range(first, end):
        average[i] = average[i] * kept + p[i] * new


@part
def _scale(part, parts, size, g: Floats, factor: Doubles):
    first, end = share_of_lines(part, parts, size)
    by = np.float32(factor[0])
    for i in range(first, end):
        g[i] *= by


@part
def _clip_by_value(part, parts, size, g: Floats, limit: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        g[i] = _smaller(_larger(g[i], -limit), limit)


# ---- norms: sums of squares, of blocks in float32, of a part's blocks and of the parts in float64, in their order

_REORDER = {"reassoc", "nsz"}  # sums may become vector code; nothing is contracted, divisions stay divisions
_FEW = 1024  # numbers of such a block


@inner(fastmath=_REORDER)
def _squares(x, first, end):
    total = 0.0
    for start in range(first, end, _FEW):
        some = _ZERO
        for i in range(start, min(start + _FEW, end)):
            some += x[i] * x[i]
        total += np.float64(some)
    return total


@inner
def _norm(sums, first, end, step):
    total = 0.0
    for i in range(first, end, step):
        total += sums[i]
    return np.float32(math.sqrt(total))


@part
def _sum_squares(part, parts, size, g: Floats, sums: Doubles, start):
    first, end = share_of_lines(part, parts, size)
    sums[start + part] = _squares(g, first, end)


@part
def _scale_to_norm(part, parts, size, g: Floats, sums: Doubles, count, limit: np.float32, strict):
    """A single part's sum is not there yet."""
    first, end = share_of_lines(part, parts, size)
    if count == 1:
        sums[0] = _squares(g, first, end)
    norm = _norm(sums, 0, count, 1)
    factor = limit / _larger(norm, limit)
    if strict:
        factor += norm - norm  # NaN of what is not finite, else 0
    if factor != _ONE:
        for i in range(first, end):
            g[i] *= factor


@inner(fastmath=_REORDER)
def _lamb_squares(p, m, v, first, end, of_mean, of_square, epsilon):
    size, length = 0.0, 0.0
    for start in range(first, end, _FEW):
        squares_of_p, squares_of_step = _ZERO, _ZERO
        for i in range(start, min(start + _FEW, end)):
            step = m[i] / of_mean / (math.sqrt(v[i] / of_square) + epsilon)
            squares_of_p += p[i] * p[i]
            squares_of_step += step * step
        size += np.float64(squares_of_p)
        length += np.float64(squares_of_step)
    return size, length


_AVERAGES, _STEPS = 1, 2  # what a call does; with a single part both


@part
def _lamb(
    part, parts, size, p: Floats, g: Floats, m: Floats, v: Floats, lr: Doubles, correction_1: Doubles,
    correction_2: Doubles, rest_1: np.float32, rest_2: np.float32, epsilon: np.float32, sums: Doubles, phases,
):  # fmt: skip
    first, end = share_of_lines(part, parts, size)
    of_mean, of_square = np.float32(correction_1[0]), np.float32(correction_2[0])
    if phases & 1:
        for i in range(first, end):
            gradient, mean, square = g[i], m[i], v[i]
            m[i] = mean + (gradient - mean) * rest_1
            v[i] = square + (gradient * gradient - square) * rest_2
        sums[2 * part], sums[2 * part + 1] = _lamb_squares(p, m, v, first, end, of_mean, of_square, epsilon)
    if phases & 2:
        norm, length, ratio = _norm(sums, 0, 2 * parts, 2), _norm(sums, 1, 2 * parts, 2), _ONE
        if norm > _ZERO and length > _ZERO:
            ratio = norm / length
        rate = ratio * np.float32(lr[0])
        for i in range(first, end):
            p[i] -= m[i] / of_mean / (math.sqrt(v[i] / of_square) + epsilon) * rate


@inner(fastmath=_REORDER)
def _line_squares(g, epsilon, columns, size):
    """The sum of the squares in a row, which are added to those of the columns too."""
    total = 0.0
    for j in range(size):
        square = np.float64(g[j] * g[j] + epsilon)
        total += square
        columns[j] += square
    return total


@inner(fastmath=_REORDER)
def _step_squares(g, v, first, end):
    total = 0.0
    for start in range(first, end, _FEW):
        some = _ZERO
        for i in range(start, min(start + _FEW, end)):
            step = g[i] / math.sqrt(v[i])
            some += step * step
        total += np.float64(some)
    return total


@inner(fastmath=_REORDER)
def _sum(x, size):
    total = 0.0
    for i in range(size):
        total += np.float64(x[i])
    return total


@part
def _adafactor(
    part, parts, size, height, width, p: Floats, g, rows, columns, v, lr: Doubles, new: Doubles, epsilon_1: np.float32,
    epsilon_2: np.float32, threshold: np.float32, sums: Doubles,
):  # fmt: skip
    """All matrices one after the other; without a height a vector."""
    gradients, squares, share_of_new = floats(g), floats(v), np.float32(new[0])
    if height == 0:
        for i in range(size):
            gradient, square = gradients[i], squares[i]
            squares[i] = square + (gradient * gradient + epsilon_1 - square) * share_of_new
    else:
        for matrix in range(size // (height * width)):
            of_rows, of_columns = floats(rows + 4 * matrix * height), floats(columns + 4 * matrix * width)
            start = 4 * matrix * height * width
            for j in range(width):
                sums[j] = 0.0
            for i in range(height):
                total = _line_squares(floats(g + start + 4 * i * width), epsilon_1, sums, width)
                of_rows[i] += (np.float32(total / np.float64(width)) - of_rows[i]) * share_of_new
            for j in range(width):
                of_columns[j] += (np.float32(sums[j] / np.float64(height)) - of_columns[j]) * share_of_new
            mean = np.float32(_sum(of_rows, height) / np.float64(height))
            for i in range(height):
                line, of_row = floats(v + start + 4 * i * width), of_rows[i] / mean
                for j in range(width):
                    line[j] = of_row * of_columns[j]
    count = np.float64(size)
    norm = np.float32(math.sqrt(_squares(p, 0, size) / count))
    length = np.float32(math.sqrt(_step_squares(gradients, squares, 0, size) / count))
    rate = _larger(norm, epsilon_2) / _larger(length / threshold, _ONE) * np.float32(lr[0])
    for i in range(size):
        p[i] -= gradients[i] / math.sqrt(squares[i]) * rate


@part
def _limit_norms(
    part, parts, before, count, after, w, out, sums, least: np.float32, most: np.float32, rate: np.float32,
    epsilon: np.float32, unit,
):  # fmt: skip
    """Arrays (before, count, after) whose vectors lie along the middle; room for `after` sums."""
    if after == 1:
        for i in range(before):
            x, y = floats(w + 4 * i * count), floats(out + 4 * i * count)
            norm = np.float32(math.sqrt(_squares(x, 0, count)))
            divisor, wanted = norm + epsilon, _wanted(norm, least, most, rate)
            if unit:
                for j in range(count):
                    y[j] = x[j] / divisor
            else:
                factor = wanted / divisor
                for j in range(count):
                    y[j] = x[j] * factor
    else:
        totals, factors = doubles(sums), floats(sums)  # a factor is written where the sum was read, or before it
        for i in range(before):
            start = 4 * i * count * after
            for j in range(after):
                totals[j] = 0.0
            for c in range(count):
                x = floats(w + start + 4 * c * after)
                for j in range(after):
                    totals[j] += np.float64(x[j]) * np.float64(x[j])
            for j in range(after):
                norm = np.float32(math.sqrt(totals[j]))
                factors[j] = norm + epsilon if unit else _wanted(norm, least, most, rate) / (norm + epsilon)
            for c in range(count):
                x, y = floats(w + start + 4 * c * after), floats(out + start + 4 * c * after)
                if unit:
                    for j in range(after):
                        y[j] = x[j] / factors[j]
                else:
                    for j in range(after):
                        y[j] = x[j] * factors[j]


@inner
def _wanted(norm, least, most, rate):
    clipped = _smaller(_larger(norm, least), most)
    return clipped if rate == _ONE else rate * clipped + (_ONE - rate) * norm


@part
def _without_negative(part, parts, size, w: Floats, out: Floats):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = _larger(w[i], _ZERO)


@override(reference.sgd, "cpu", when=contiguous_float32("p", "g"))
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    _sgd.run(parts_for(p.size), size=p.size, p=p, g=g, lr=_held(lr))


@override(reference.sgd_momentum, "cpu", when=contiguous_float32("p", "g", "v"))
def sgd_momentum(k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False) -> None:
    _sgd_momentum.run(
        parts_for(p.size), size=p.size, p=p, g=g, v=v, lr=_held(lr), momentum=float(momentum), nesterov=nesterov
    )


@override(reference.rmsprop, "cpu", when=contiguous_float32("p", "g", "v", "momentum_buffer", "average_gradient"))
def rmsprop(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, rho: float, epsilon: float, momentum: float, momentum_buffer: Any,
    average_gradient: Any,
) -> None:  # fmt: skip
    _rmsprop.run(
        parts_for(p.size), size=p.size, p=p, g=g, v=v, lr=_held(lr), rho=float(rho), rest=1.0 - rho,
        epsilon=float(epsilon), momentum=float(momentum), momentum_buffer=momentum_buffer,
        average_gradient=average_gradient, kind=(momentum_buffer is not None) + 2 * (average_gradient is not None),
    )  # fmt: skip


@override(reference.adam, "cpu", when=contiguous_float32("p", "g", "m", "v", "vhat"))
def adam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float, vhat: Any,
    amount: Any,
) -> None:  # fmt: skip
    parts, size, alpha = parts_for(p.size), p.size, _held(alpha)
    rest_1, rest_2, epsilon = 1.0 - beta_1, 1.0 - beta_2, float(epsilon)
    amount = None if amount is None else _held(amount)
    if vhat is None:
        _adam.run(
            parts, size=size, p=p, g=g, m=m, v=v, alpha=alpha, rest_1=rest_1, rest_2=rest_2, epsilon=epsilon,
            amount=amount,
        )  # fmt: skip
    else:
        _amsgrad.run(
            parts, size=size, p=p, g=g, m=m, v=v, vhat=vhat, alpha=alpha, rest_1=rest_1, rest_2=rest_2,
            epsilon=epsilon, amount=amount,
        )  # fmt: skip


@override(reference.adagrad, "cpu", when=contiguous_float32("p", "g", "total"))
def adagrad(k: Kernels, p: Any, g: Any, total: Any, lr: Any, epsilon: float) -> None:
    _adagrad.run(parts_for(p.size), size=p.size, p=p, g=g, total=total, lr=_held(lr), epsilon=float(epsilon))


@override(reference.adadelta, "cpu", when=contiguous_float32("p", "g", "squares", "steps"))
def adadelta(k: Kernels, p: Any, g: Any, squares: Any, steps: Any, lr: Any, rho: float, epsilon: float) -> None:
    _adadelta.run(
        parts_for(p.size), size=p.size, p=p, g=g, squares=squares, steps=steps, lr=_held(lr), rho=float(rho),
        rest=1.0 - rho, epsilon=float(epsilon),
    )  # fmt: skip


@override(reference.adamax, "cpu", when=contiguous_float32("p", "g", "m", "norm"))
def adamax(
    k: Kernels, p: Any, g: Any, m: Any, norm: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float
) -> None:
    _adamax.run(
        parts_for(p.size), size=p.size, p=p, g=g, m=m, norm=norm, alpha=_held(alpha), rest_1=1.0 - beta_1,
        beta_2=float(beta_2), epsilon=float(epsilon),
    )  # fmt: skip


@override(reference.nadam, "cpu", when=contiguous_float32("p", "g", "m", "v"))
def nadam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, lr: Any, of_mean: Any, of_gradient: Any, correction: Any,
    beta_1: float, beta_2: float, epsilon: float,
) -> None:  # fmt: skip
    _nadam.run(
        parts_for(p.size), size=p.size, p=p, g=g, m=m, v=v, lr=_held(lr), of_mean=_held(of_mean),
        of_gradient=_held(of_gradient), correction=_held(correction), rest_1=1.0 - beta_1, rest_2=1.0 - beta_2,
        epsilon=float(epsilon),
    )  # fmt: skip


@override(reference.lion, "cpu", when=contiguous_float32("p", "g", "m"))
def lion(k: Kernels, p: Any, g: Any, m: Any, lr: Any, beta_1: float, beta_2: float) -> None:
    _lion.run(
        parts_for(p.size), size=p.size, p=p, g=g, m=m, lr=_held(lr), beta_1=float(beta_1), rest_1=1.0 - beta_1,
        beta_2=float(beta_2), rest_2=1.0 - beta_2,
    )  # fmt: skip


@override(reference.ftrl, "cpu", when=(contiguous_float32("p", "g", "total", "linear"), one_of("power", 0.5)))
def ftrl(
    k: Kernels, p: Any, g: Any, total: Any, linear: Any, lr: Any, power: float, l1: float, l2: float,
    shrinkage: float, beta: float,
) -> None:  # fmt: skip
    _ftrl.run(
        parts_for(p.size), size=p.size, p=p, g=g, total=total, linear=linear, lr=_held(lr), l1=float(l1),
        twice_l2=2.0 * l2, twice_shrinkage=2.0 * shrinkage, beta=float(beta),
    )  # fmt: skip


@override(reference.decay, "cpu", when=contiguous_float32("p"))
def decay(k: Kernels, p: Any, amount: Any) -> None:
    _decay.run(parts_for(p.size), size=p.size, p=p, amount=_held(amount))


@override(reference.ema, "cpu", when=(contiguous_float32("average", "p"), same_shape("average", "p")))
def ema(k: Kernels, average: Any, p: Any, momentum: Any) -> None:
    held, number = (momentum, 0.0) if isinstance(momentum, _ARRAY) else (None, float(momentum))
    _ema.run(parts_for(p.size), size=p.size, average=average, p=p, momentum=held, kept=number, new=1.0 - number)


@override(reference.scale, "cpu", when=contiguous_float32("g"))
def scale(k: Kernels, g: Any, factor: Any) -> None:
    _scale.run(parts_for(g.size), size=g.size, g=g, factor=_held(factor))


@part
def _is_finite(part, out: Doubles):
    out[0] = 1.0


@part(fastmath={"reassoc"})
def _all_finite(part, parts, size, g: Floats, out: Doubles, ends):
    begin, end = share_of_lines(part, parts, size)
    nothing = _NOTHING
    for i in range(begin, end):
        nothing += g[i] * _NOTHING  # of what is not finite it is no number
    if nothing != _NOTHING:
        out[0] = 0.0
        refuse(ends)


@override(reference.all_finite, "cpu", when=lambda arrays: all(map(_is_contiguous, arrays)))
def all_finite(k: Kernels, arrays: Sequence[Any], out: Any) -> bool:
    _is_finite.run(1, out=out)
    for g in arrays:
        _all_finite.run(parts_for(g.size), size=g.size, g=g, out=out, ends=refusals.ENDS)
    return bool(out)


@override(reference.clip_by_value, "cpu", when=contiguous_float32("g"))
def clip_by_value(k: Kernels, g: Any, limit: float) -> None:
    _clip_by_value.run(parts_for(g.size), size=g.size, g=g, limit=float(limit))


@override(reference.clip_by_norm, "cpu", when=lambda arrays: all(map(_is_contiguous, arrays)))
def clip_by_norm(k: Kernels, arrays: Sequence[Any], limit: float, together: bool = True) -> None:
    for group in (arrays,) if together else zip(arrays, strict=True):
        count, start = sum([parts_for(g.size) for g in group]), 0
        sums = empty((count,), _DOUBLE)
        for g in group if count > 1 else ():
            _sum_squares.run(parts_for(g.size), size=g.size, g=g, sums=sums, start=start)
            start += parts_for(g.size)
        for g in group:
            _scale_to_norm.run(
                parts_for(g.size), size=g.size, g=g, sums=sums, count=count, limit=float(limit), strict=together
            )


def _is_contiguous(g: Any) -> bool:
    return g.dtype.char == "f" and g.flags.c_contiguous


@override(reference.lamb, "cpu", when=contiguous_float32("p", "g", "m", "v"))
def lamb(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, lr: Any, correction_1: Any, correction_2: Any, beta_1: float,
    beta_2: float, epsilon: float,
) -> None:  # fmt: skip
    parts = parts_for(p.size)
    sums = empty((2 * parts,), _DOUBLE)
    for phases in (_AVERAGES, _STEPS) if parts > 1 else (_AVERAGES | _STEPS,):
        _lamb.run(
            parts, size=p.size, p=p, g=g, m=m, v=v, lr=_held(lr), correction_1=_held(correction_1),
            correction_2=_held(correction_2), rest_1=1.0 - beta_1, rest_2=1.0 - beta_2, epsilon=float(epsilon),
            sums=sums, phases=phases,
        )  # fmt: skip


def _has_means(p: Any, rows: Any, columns: Any) -> bool:
    """Whether the means of rows and columns can be written by compiled code; a vector's are not."""
    return p.ndim < 2 or all(means.dtype.char == "f" and means.flags.c_contiguous for means in (rows, columns))


@override(reference.adafactor, "cpu", when=(contiguous_float32("p", "g", "v"), _has_means))
def adafactor(
    k: Kernels, p: Any, g: Any, rows: Any, columns: Any, v: Any, lr: Any, new: Any, epsilon_1: float, epsilon_2: float,
    threshold: float,
) -> None:  # fmt: skip
    height, width, rows, columns = (*p.shape[-2:], rows, columns) if p.ndim > 1 else (0, 1, None, None)
    _adafactor.run(
        1, size=p.size, height=height, width=width, p=p, g=g, rows=rows, columns=columns, v=v, lr=_held(lr),
        new=_held(new), epsilon_1=float(epsilon_1), epsilon_2=float(epsilon_2), threshold=float(threshold),
        sums=empty((width,), _DOUBLE),
    )  # fmt: skip


def _blocks(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """How many numbers are before, along and after the axes of the vectors; nothing where these are not neighbours."""
    count = len(shape)
    axes = range(count) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    places = sorted(one % count for one in axes)
    if not places or places[-1] - places[0] != len(places) - 1 or min(axes) < -count or max(axes) >= count:
        return ()
    first, last = places[0], places[-1] + 1
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


def _are_neighbours(w: Any, axis: Any) -> bool:
    return bool(_blocks(w.shape, axis))


@override(reference.limit_norms, "cpu", when=(contiguous_float32("w", "out"), _are_neighbours))
def limit_norms(
    k: Kernels, w: Any, axis: Any, least: float, most: float, rate: float, epsilon: float, unit: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    out = k.empty(w.shape, w.dtype) if out is None else out
    before, count, after = _blocks(w.shape, axis)
    _limit_norms.run(
        1, before=before, count=count, after=after, w=w, out=out, sums=empty((after,), _DOUBLE), least=float(least),
        most=float(most), rate=float(rate), epsilon=float(epsilon), unit=unit,
    )  # fmt: skip
    return out


@override(reference.without_negative, "cpu", when=contiguous_float32("w", "out"))
def without_negative(k: Kernels, w: Any, out: Any = None) -> Any:
    out = k.empty(w.shape, w.dtype) if out is None else out
    _without_negative.run(parts_for(w.size), size=w.size, w=w, out=out)
    return out
