"""Elementwise passes on the CPU: compiled for float32, long ones shared by the team.

An activation or another curve is declared as functions of one number; the parts for values and for gradients are made
of these, one pass over memory each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty
from minikeras.kernels.cpu.compiler import (
    FAST,
    Floats,
    Octets,
    Part,
    erf,
    exp,
    expm1,
    expm1_of_falling,
    exponential,
    floats,
    host,
    inner,
    instruction,
    log,
    log1p,
    log1p_of_share,
    logistic,
    normal,
    part,
    parts_for,
    share,
    share_of_lines,
    specialised,
    tanh,
)
from minikeras.kernels.cpu.compiler import exp_of_falling as falling
from minikeras.kernels.reference import activation as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override, same_shape

_FLOAT = np.float32
_ZERO, _QUARTER, _HALF, _ONE, _TWO, _FOUR = map(_FLOAT, (0, 0.25, 0.5, 1, 2, 4))
_SIXTH, _FIFTH, _TWENTY = map(_FLOAT, (1 / 6, 0.2, 20))

# ---- activations whose derivative is a function of the output: both functions ----------------------------------------


@inner
def _itself(y):
    return y


@inner
def _of_sigmoid(y):
    return y * (_ONE - y)


@inner
def _of_tanh(y):
    return (_ONE - y) * (_ONE + y)


@inner
def _elu(x):
    below = expm1_of_falling(_ZERO if x > _ZERO else x)
    return x if x > _ZERO else below


@inner
def _of_elu(y):
    return _ONE if y > _ZERO else y + _ONE


_SELU_ALPHA, _SELU_SCALE = _FLOAT(reference.SELU_ALPHA), _FLOAT(reference.SELU_SCALE)
_SELU_BOTH = _FLOAT(reference.SELU_ALPHA * reference.SELU_SCALE)


@inner
def _selu(x):
    below = _SELU_BOTH * expm1_of_falling(_ZERO if x > _ZERO else x)
    return _SELU_SCALE * x if x > _ZERO else below


@inner
def _of_selu(y):
    return _SELU_SCALE if y > _ZERO else y + _SELU_BOTH


@inner
def _softplus(x):
    tail = log1p_of_share(falling(-abs(x)))
    return x + tail if x > _ZERO else tail


@inner
def _of_softplus(y):
    return -expm1_of_falling(-y)


@inner
def _log_sigmoid(x):
    tail = log1p_of_share(falling(-abs(x)))
    return x - tail if x < _ZERO else -tail


@inner
def _of_log_sigmoid(y):
    return -expm1_of_falling(y)


@inner
def _softsign(x):
    return x / (_ONE + abs(x))


@inner
def _of_softsign(y):
    rest = _ONE - abs(y)
    return rest * rest


@inner
def _between(y, low, high, inside):
    """A number where `low < y < high`, else 0."""
    above = inside if y > low else _ZERO
    return above if y < high else _ZERO


@inner
def _clipped(x, low, high):
    above = low if x < low else x
    return high if above > high else above


@inner
def _hard_sigmoid(x):
    return _clipped(x * _SIXTH + _HALF, _ZERO, _ONE)


@inner
def _of_hard_sigmoid(y):
    return _between(y, _ZERO, _ONE, _SIXTH)


@inner
def _keras2_hard_sigmoid(x):
    return _clipped(x * _FIFTH + _HALF, _ZERO, _ONE)


@inner
def _of_keras2_hard_sigmoid(y):
    return _between(y, _ZERO, _ONE, _FIFTH)


# ---- other curves: value and derivative of a number; each part keeps what it needs -----------------------------------

_BELL = _FLOAT(1 / math.sqrt(2 * math.pi))
_GELU_SCALE, _GELU_CUBE = _FLOAT(reference.GELU_SCALE), _FLOAT(reference.GELU_SCALE * reference.GELU_CUBE)
_GELU_SLOPE, _FAR = _FLOAT(3) * _GELU_CUBE, _FLOAT(30)
# (x - tanh(x)) / x³ = P(x²) / Q(x²) up to 9.1, of least relative error, 9e-9: the difference itself has lost its digits
_SHRINK_LIMIT = _FLOAT(9.1)
_S0, _S1, _S2, _S3 = map(
    _FLOAT, (0.3333333432674408, 0.022543495520949364, 0.00031629958539269865, 8.138477483043971e-07)
)
_T1, _T2, _T3, _T4 = map(
    _FLOAT, (0.46763041615486145, 0.026096375659108162, 0.00033782445825636387, 8.284080195153365e-07)
)


@inner
def _gelu(x):
    share, bell = normal(x)
    return x * share, share + x * (_BELL * bell)


@inner
def _gelu_tanh(x):
    inside = _clipped(x, -_FAR, _FAR)  # whose powers are finite
    square = inside * inside
    s = logistic(inside * (_GELU_SCALE + _GELU_CUBE * square))
    return x * s, s + inside * s * (_ONE - s) * (_GELU_SCALE + _GELU_SLOPE * square)


@inner
def _silu(x):
    s = logistic(x)
    return x * s, s * (_ONE + x * (_ONE - s))


@inner
def _mish(x):
    e = exp(_TWENTY if x > _TWENTY else x)
    both = e * (e + _TWO)
    inverse = _ONE / (both + _TWO)
    t = both * inverse
    return x * t, t + x * ((_FOUR * e * inverse) * ((_ONE + e) * inverse))


@inner
def _hard_silu(x):
    s = _hard_sigmoid(x)
    return x * s, s + x * _of_hard_sigmoid(s)


@inner
def _elu_of(x, alpha, _):
    below = _ZERO if x > _ZERO else x
    value, slope = alpha * expm1_of_falling(below), alpha * falling(below)
    return x if x > _ZERO else value, _ONE if x > _ZERO else slope


@inner
def _celu(x, alpha, _):
    below = (_ZERO if x > _ZERO else x) / alpha
    value, slope = alpha * expm1(below), exp(below)
    return x if x > _ZERO else value, _ONE if x > _ZERO else slope


@inner
def _clip(x, low, high):
    """On the limits themselves the slope is a half."""
    above = (_HALF if x > low else _ZERO) + (_HALF if x >= low else _ZERO)
    below = (_HALF if x < high else _ZERO) + (_HALF if x <= high else _ZERO)
    return _clipped(x, low, high), above * below


@inner
def _hard_tanh(x):
    y, slope = _clip(x, -_ONE, _ONE)
    return y, slope


@inner
def _hard_shrink(x, threshold, _):
    far = abs(x) > threshold
    return x if far else _ZERO, _ONE if far else _ZERO


@inner
def _soft_shrink(x, threshold, _):
    near, slope = _clip(x, -threshold, threshold)
    return x - near, _ONE - slope


@inner
def _tanh_shrink(x):
    t = tanh(x)
    inside = _clipped(x, -_SHRINK_LIMIT, _SHRINK_LIMIT)
    y = inside * inside
    p = _S0 + y * (_S1 + y * (_S2 + y * _S3))
    near = inside * (y * (p / (_ONE + y * (_T1 + y * (_T2 + y * (_T3 + y * _T4))))))
    return near if x == inside else x - t, t * t


@inner
def _threshold(x, threshold, default):
    return x if x > threshold else default, _ONE if x > threshold else _ZERO


@inner
def _squareplus(x, b, _):
    root = math.sqrt(x * x + b)
    below = _HALF * b / (root - (x if x < _ZERO else _ZERO))  # where the sum would lose its digits
    y = below if x < _ZERO else _HALF * (x + root)
    return y, y / root


@inner
def _sparse_plus(x):
    inside = x + _ONE
    y, slope = _QUARTER * inside * inside, _HALF * inside
    y, slope = y if x < _ONE else x, slope if x < _ONE else _ONE
    return _ZERO if x <= -_ONE else y, _ZERO if x <= -_ONE else slope


@inner
def _sparse_sigmoid(x):
    y, slope = _clip(x, -_ONE, _ONE)
    return _HALF * (y + _ONE), _HALF * slope


_ERF_SLOPE = _FLOAT(2 / math.sqrt(math.pi))


@inner
def _erf(x):
    return erf(x), _ERF_SLOPE * falling(-x * x)


@inner
def _expm1(x):
    return expm1(x), exp(x)


@inner
def _log(x):
    return log(x), _ONE / x


@inner
def _log1p(x):
    return log1p(x), _ONE / (_ONE + x)


# ---- the parts that are made of them ---------------------------------------------------------------------------------

value = slope = both = _itself  # in the next functions: those of the curve that a part is made for


def _values(part, parts, size, x: Floats, out: Floats):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = value(x[i])


def _gradients(part, parts, size, g: Floats, v: Floats, out: Floats):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = g[i] * slope(v[i])


def _curve(part, parts, size, x: Floats, out: Floats):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        y, _ = both(x[i])
        out[i] = y


def _curve_gradients(part, parts, size, g: Floats, v: Floats, out: Floats):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        _, rise = both(v[i])
        out[i] = g[i] * rise


def _curve_with(part, parts, size, x: Floats, out: Floats, a: np.float32, b: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        y, _ = both(x[i], a, b)
        out[i] = y


def _curve_gradients_with(part, parts, size, g: Floats, v: Floats, out: Floats, a: np.float32, b: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        _, rise = both(v[i], a, b)
        out[i] = g[i] * rise


_ACTIVATIONS: dict[str, tuple[Part, Part]] = {}  # by name: the part for values, and that for gradients
_CURVES: dict[str, tuple[Part, Part]] = {}


def compiled_activation(name: str, value: Any, slope: Any) -> None:
    """Compile an activation whose derivative is a function of its output, under the name that kernels know it by.

    Args:
        value, slope: functions of a number that `inner` or `instruction` made: the output, and from it the derivative.
    """
    _declare(_ACTIVATIONS, name, (_values, _gradients), value=value, slope=slope)


def compiled_curve(name: str, both: Any) -> None:
    """Compile another elementwise function.

    Args:
        both: of a number, or of it and two settings, made by `inner`: (the value, the derivative).
    """
    with_settings = both.function.__code__.co_argcount > 1
    _declare(
        _CURVES, name, (_curve_with, _curve_gradients_with) if with_settings else (_curve, _curve_gradients), both=both
    )


def _declare(table: dict[str, tuple[Part, Part]], name: str, templates: tuple[Callable, Callable], **made: Any) -> None:
    values, gradients = (specialised(one, f"{name.replace('.', '_')}{one.__name__}", **made) for one in templates)
    table[name] = values, gradients
    for one in table[name]:
        globals()[f"_{one.function.__name__}"] = one  # where all compiled kernels are looked for


for _name, _functions in {
    "sigmoid": (logistic, _of_sigmoid),
    "tanh": (tanh, _of_tanh),
    "exponential": (exp, _itself),
    "elu": (_elu, _of_elu),
    "selu": (_selu, _of_selu),
    "softplus": (_softplus, _of_softplus),
    "log_sigmoid": (_log_sigmoid, _of_log_sigmoid),
    "softsign": (_softsign, _of_softsign),
    "hard_sigmoid": (_hard_sigmoid, _of_hard_sigmoid),
    "keras2_hard_sigmoid": (_keras2_hard_sigmoid, _of_keras2_hard_sigmoid),
}.items():
    compiled_activation(_name, *_functions)

for _name, _function in {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "hard_silu": _hard_silu,
    "elu": _elu_of,
    "celu": _celu,
    "hard_tanh": _hard_tanh,
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "tanh_shrink": _tanh_shrink,
    "threshold": _threshold,
    "squareplus": _squareplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": _sparse_sigmoid,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "erf": _erf,
}.items():
    compiled_curve(_name, _function)


@override(reference.curve, "cpu", when=contiguous_float32("x"))
def curve(k: Kernels, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    if name not in _CURVES:
        return reference.curve(k, x, name, settings)
    out = k.empty(x.shape, x.dtype)
    _CURVES[name][0].run(parts_for(x.size), size=x.size, x=x, out=out, **_numbers(settings))
    return out


@override(reference.curve_grad, "cpu", when=(contiguous_float32("x", "g"), same_shape("x", "g")))
def curve_grad(k: Kernels, g: Any, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    if name not in _CURVES:
        return reference.curve_grad(k, g, x, name, settings)
    out = k.empty(x.shape, x.dtype)
    _CURVES[name][1].run(parts_for(x.size), size=x.size, g=g, v=x, out=out, **_numbers(settings))
    return out


def _numbers(settings: tuple[float, ...]) -> dict[str, float]:
    """The settings as a part has them."""
    return {"a": settings[0], "b": settings[-1]} if settings else {}


# ---- made of straight lines ------------------------------------------------------------------------------------------


@inner
def _line(x, slope, threshold):
    """Below the threshold a line of its own; NaN stays NaN."""
    below = _ZERO if slope == _ZERO else slope * (x - threshold)  # the slope may meet an infinity
    return below if x <= threshold else x


@part
def _piecewise_relu(
    part, parts, size, x: Floats, out: Floats, slope: np.float32, limit: np.float32, threshold: np.float32
):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        value = _line(x[i], slope, threshold)
        out[i] = limit if value > limit else value


@part
def _piecewise_relu_grad(
    part, parts, size, g: Floats, x: Floats, out: Floats, slope: np.float32, limit: np.float32, threshold: np.float32
):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        less = _ZERO if slope == _ZERO else g[i] * slope
        steep = g[i] if x[i] > threshold else less
        out[i] = _ZERO if _line(x[i], slope, threshold) >= limit else steep


_LINES: dict[str, tuple[float, float | None]] = {  # slope below 0, and the limit
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "leaky_relu": (reference.LEAKY_SLOPE, None),
}


def _settings(slope: float, limit: float | None, threshold: float = 0.0) -> dict[str, float]:
    # nothing is above NaN
    return {"slope": float(slope), "limit": math.nan if limit is None else float(limit), "threshold": float(threshold)}


@override(reference.activate, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "out")))
def activate(k: Kernels, x: Any, activation: str | None, out: Any = None) -> Any:
    if activation in _LINES:
        out = k.empty(x.shape, x.dtype) if out is None else out
        _piecewise_relu.run(parts_for(x.size), size=x.size, x=x, out=out, **_settings(*_LINES[activation]))
    elif activation in _ACTIVATIONS:
        out = k.empty(x.shape, x.dtype) if out is None else out
        _ACTIVATIONS[activation][0].run(parts_for(x.size), size=x.size, x=x, out=out)
    else:
        return reference.activate(k, x, activation, out)
    return out


@override(reference.activate_grad, "cpu", when=(contiguous_float32("g", "y"), same_shape("g", "y")))
def activate_grad(k: Kernels, g: Any, y: Any, activation: str | None) -> Any:
    if activation in _LINES:  # the output says as well as the input where the slope is 1
        out = k.empty(y.shape, y.dtype)
        _piecewise_relu_grad.run(parts_for(y.size), size=y.size, g=g, x=y, out=out, **_settings(*_LINES[activation]))
        return out
    if activation in _ACTIVATIONS:
        out = k.empty(y.shape, y.dtype)
        _ACTIVATIONS[activation][1].run(parts_for(y.size), size=y.size, g=g, v=y, out=out)
        return out
    return reference.activate_grad(k, g, y, activation)


@override(reference.piecewise_relu, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "out")))
def piecewise_relu(
    k: Kernels, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    _piecewise_relu.run(parts_for(x.size), size=x.size, x=x, out=out, **_settings(slope, limit, threshold))
    return out


@override(reference.piecewise_relu_grad, "cpu", when=(contiguous_float32("g", "x", "out"), same_shape("g", "x", "out")))
def piecewise_relu_grad(
    k: Kernels, g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = empty(g.shape, g.dtype) if out is None else out
    _piecewise_relu_grad.run(parts_for(x.size), size=x.size, g=g, x=x, out=out, **_settings(slope, limit, threshold))
    return out


# ---- dropout ---------------------------------------------------------------------------------------------------------


@part
def _masked_scale(part, parts, size, x: Floats, mask: Octets, out: Floats, scale: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = x[i] * np.float32(mask[i]) * scale


def _is_plain(mask: Any) -> bool:
    return mask.dtype.char == "B" and mask.flags.c_contiguous


@override(reference.masked_scale, "cpu", when=(contiguous_float32("x", "out"), _is_plain))
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    if mask.shape != x.shape:  # it is repeated
        k.combine(x, k.cast(mask, x.dtype), "multiply", out=out)
        return k.combine(out, float(scale), "multiply", out=out)
    _masked_scale.run(parts_for(x.size), size=x.size, x=x, mask=mask, out=out, scale=float(scale))
    return out


# ---- along the last axis ---------------------------------------------------------------------------------------------


def _numbers_of(b: Any, value: float) -> Any:
    return b.constant(value, "float32", host.LANES)


@instruction  # in vectors and masks: rows are often shorter than what a compiler's loops need to be fast
def _largest_of_row(b: Any, row: int, count: int) -> np.float32:
    """The largest number of a row, NaN passed over."""

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        return [None], [b.at_least(carried[0], vectors[0])]

    (best,) = b.over_row(count, [(row, -math.inf)], [_numbers_of(b, -math.inf)], body, host.LANES)
    return b.across(best, b.at_least)


@instruction
def _exp_of_row(b: Any, row: int, out: int, count: int, shift: np.float32) -> np.float32:
    """Write `exp(row - shift)`, none of it above 1; returns the sum."""
    shifts = b.spread(shift, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        value = exponential(b, b.fsub(vectors[0], shifts), falling=True)
        return [None, value], [b.fadd(carried[0], value)]

    (total,) = b.over_row(count, [(row, -math.inf), (out, 0.0)], [_numbers_of(b, 0.0)], body, host.LANES)
    return b.across(total, b.fadd)


@instruction
def _sum_of_exp(b: Any, row: int, count: int, shift: np.float32) -> np.float32:
    """The same sum alone."""
    shifts = b.spread(shift, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        return [None], [b.fadd(carried[0], exponential(b, b.fsub(vectors[0], shifts), falling=True))]

    (total,) = b.over_row(count, [(row, -math.inf)], [_numbers_of(b, 0.0)], body, host.LANES)
    return b.across(total, b.fadd)


@instruction
def _scale_row(b: Any, row: int, count: int, factor: np.float32) -> None:
    factors = b.spread(factor, host.LANES)
    b.over_row(count, [(row, 0.0)], [], lambda vectors, carried: ([b.fmul(vectors[0], factors)], []), host.LANES)


@instruction
def _less_row(b: Any, row: int, out: int, count: int, first: np.float32, second: np.float32) -> None:
    """Write `row - first - second`."""
    one, other = b.spread(first, host.LANES), b.spread(second, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        return [None, b.fsub(b.fsub(vectors[0], one), other)], []

    b.over_row(count, [(row, 0.0), (out, 0.0)], [], body, host.LANES)


@part
def _softmax(part, parts, rows, columns, x, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * columns
        total = _exp_of_row(x + at, out + at, columns, _largest_of_row(x + at, columns))
        _scale_row(out + at, columns, _ONE / total)


@part
def _log_softmax(part, parts, rows, columns, x, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * columns
        most = _largest_of_row(x + at, columns)
        _less_row(x + at, out + at, columns, most, log(_sum_of_exp(x + at, columns, most)))


@part(fastmath=FAST)
def _softmax_grad(part, parts, rows, columns, g, y, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * columns
        gradient, probability, result = floats(g + at), floats(y + at), floats(out + at)
        along = _ZERO
        for j in range(columns):
            along += gradient[j] * probability[j]
        for j in range(columns):
            result[j] = probability[j] * (gradient[j] - along)


@part(fastmath=FAST)
def _log_softmax_grad(part, parts, rows, columns, g, y, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * columns
        gradient, value, result = floats(g + at), floats(y + at), floats(out + at)
        along = _ZERO
        for j in range(columns):
            along += gradient[j]
        for j in range(columns):
            result[j] = gradient[j] - exp(value[j]) * along


@part
def _glu(part, parts, rows, columns, x, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, gate = floats(x + 8 * row * columns), floats(x + 8 * row * columns + 4 * columns)
        result = floats(out + 4 * row * columns)
        for j in range(columns):
            result[j] = value[j] * logistic(gate[j])


@part
def _glu_grad(part, parts, rows, columns, g, x, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, gate = floats(x + 8 * row * columns), floats(x + 8 * row * columns + 4 * columns)
        of_value, of_gate = floats(out + 8 * row * columns), floats(out + 8 * row * columns + 4 * columns)
        gradient = floats(g + 4 * row * columns)
        for j in range(columns):
            s = logistic(gate[j])
            of_value[j] = gradient[j] * s
            of_gate[j] = gradient[j] * (value[j] * (s * (_ONE - s)))


def _by_rows(part: Part, columns: int, **arrays: Any) -> Any:
    """Run a part over the rows of arrays, the last of which is the result."""
    out = arrays["out"]
    rows = next(iter(arrays.values())).size // columns
    part.run(min(parts_for(out.size), rows), rows=rows, columns=columns, **arrays)
    return out


def _along_last(x: Any, axis: Any) -> bool:
    return axis in (-1, x.ndim - 1, (-1,), (x.ndim - 1,))


def _is_other(axis: Any, out: Any = None) -> bool:
    return type(axis) is int and out is None


def _turned(kernel: Any, axis: int, *arrays: Any) -> Any:
    """What a kernel gives along another axis than the last one: of copies in which it is that."""
    return contiguous(kernel(*[contiguous(one.swapaxes(axis, -1)) for one in arrays]).swapaxes(axis, -1))


@override(reference.softmax, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "out")))
def softmax(k: Kernels, x: Any, axis: int = -1, out: Any = None) -> Any:
    if not _along_last(x, axis):
        return _turned(k.softmax, axis, x) if _is_other(axis, out) else reference.softmax(k, x, axis, out)
    return _by_rows(_softmax, x.shape[-1], x=x, out=k.empty(x.shape, x.dtype) if out is None else out)


_BACKWARD = contiguous_float32("y", "g"), same_shape("y", "g")


@override(reference.softmax_grad, "cpu", when=_BACKWARD)
def softmax_grad(k: Kernels, g: Any, y: Any, axis: int = -1) -> Any:
    if not _along_last(y, axis):
        return _turned(k.softmax_grad, axis, g, y) if _is_other(axis) else reference.softmax_grad(k, g, y, axis)
    return _by_rows(_softmax_grad, y.shape[-1], g=g, y=y, out=k.empty(y.shape, y.dtype))


@override(reference.log_softmax, "cpu", when=contiguous_float32("x"))
def log_softmax(k: Kernels, x: Any, axis: int = -1) -> Any:
    if not _along_last(x, axis):
        return _turned(k.log_softmax, axis, x) if _is_other(axis) else reference.log_softmax(k, x, axis)
    return _by_rows(_log_softmax, x.shape[-1], x=x, out=k.empty(x.shape, x.dtype))


@override(reference.log_softmax_grad, "cpu", when=_BACKWARD)
def log_softmax_grad(k: Kernels, g: Any, y: Any, axis: Any = -1) -> Any:
    if not _along_last(y, axis):
        return _turned(k.log_softmax_grad, axis, g, y) if _is_other(axis) else reference.log_softmax_grad(k, g, y, axis)
    return _by_rows(_log_softmax_grad, y.shape[-1], g=g, y=y, out=k.empty(y.shape, y.dtype))


def _half(x: Any, axis: int) -> int:
    """How many numbers lie side by side in a half of `x`; 0 where it has no halves."""
    return math.prod(x.shape[axis:]) // 2 if -x.ndim <= axis < x.ndim and x.shape[axis] % 2 == 0 else 0


@override(reference.glu, "cpu", when=(contiguous_float32("x"), lambda x, axis: _half(x, axis) > 0))
def glu(k: Kernels, x: Any, axis: int = -1) -> Any:
    shape = list(x.shape)
    shape[axis] //= 2
    columns, out = _half(x, axis), k.empty(tuple(shape), x.dtype)
    rows = out.size // columns
    _glu.run(min(parts_for(x.size), rows), rows=rows, columns=columns, x=x, out=out)
    return out


@override(reference.glu_grad, "cpu", when=(contiguous_float32("x", "g"), lambda x, axis: _half(x, axis) > 0))
def glu_grad(k: Kernels, g: Any, x: Any, axis: int = -1) -> Any:
    columns, out = _half(x, axis), k.empty(x.shape, x.dtype)
    rows = g.size // columns
    _glu_grad.run(min(parts_for(x.size), rows), rows=rows, columns=columns, g=g, x=x, out=out)
    return out
