"""Elementary functions of float32 numbers for compiled kernels, in arithmetic that runs in vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.cpu.jit import FAST, inner, instruction

_LOG2_E = np.float32(1.44269504)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_TINIEST, _LARGEST = np.float32(-87.3365), np.float32(88.7228)  # exponents of normal numbers
_ZERO, _INFINITY = np.float32(0), np.float32(np.inf)
# of (exp(r) - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2], highest power first: S. L. Moshier, Cephes Mathematical Library
_E5, _E4, _E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_E2, _E1, _E0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)

# tanh(x) = x * P(x²) / Q(x²) on [-9.02, 9.02], where tanh reaches 1 in float32.  Least squares on the relative error,
# reweighted until its peaks are level (Lawson 1961): 2.1e-8, so that rounding, 3e-7, is what remains.
_LIMIT = np.float32(9.02)
_P0, _P1, _P2, _P3, _P4 = map(
    np.float32, (1.0, 0.13379713892936707, 0.003494029864668846, 2.058340578514617e-05, 1.331897081513489e-08)
)
_Q0, _Q1, _Q2, _Q3, _Q4 = map(
    np.float32, (1.0, 0.46713030338287354, 0.02587105520069599, 0.00032830852433107793, 7.761977371956164e-07)
)


@instruction("float32(float32, float32)")
def scale_by_power(builder: Any, x: Any, exponent: Any) -> Any:
    """x times 2 to a whole exponent, given as float32, from -126 to 127."""
    word = ir.IntType(32)
    whole = builder.fptosi(exponent, word)
    bits = builder.shl(builder.add(whole, ir.Constant(word, 127)), ir.Constant(word, 23))
    return builder.fmul(x, builder.bitcast(bits, ir.FloatType()))


@instruction("float32(float32)")
def whole_below(builder: Any, x: Any) -> Any:
    """The largest whole number that is not larger."""
    floor = builder.module.declare_intrinsic("llvm.floor", [ir.FloatType()])
    return builder.call(floor, [x])


@inner(fastmath={"contract"})  # not "reassoc": the two parts of ln 2 would become one
def exp(x):  # type: ignore[no-untyped-def]
    """The exponential function to 1.5e-7 of its value (3e-7 above 88.3); 0 where it would be denormal."""
    inside = x if x > _TINIEST else _TINIEST  # NaN too
    inside = inside if inside < _LARGEST else _LARGEST
    exponent = whole_below(inside * _LOG2_E + _HALF)
    exponent = exponent if exponent < np.float32(127) else np.float32(127)
    r = inside - exponent * _LN_2_HIGH - exponent * _LN_2_LOW
    power = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    value = scale_by_power(power * r * r + r + _ONE, exponent)
    value = value if x > _TINIEST else _ZERO
    value = value if x < _LARGEST else _INFINITY
    return value if x == x else x


@inner(fastmath=FAST)
def tanh(x):  # type: ignore[no-untyped-def]
    """The hyperbolic tangent to 3e-7 of its value."""
    inside = _LIMIT if x > _LIMIT else x
    inside = -_LIMIT if inside < -_LIMIT else inside
    y = inside * inside
    p = inside * (_P0 + y * (_P1 + y * (_P2 + y * (_P3 + y * _P4))))
    q = _Q0 + y * (_Q1 + y * (_Q2 + y * (_Q3 + y * _Q4)))
    ratio = p / q
    ratio = _ONE if ratio > _ONE else ratio  # rounded beyond it
    return -_ONE if ratio < -_ONE else ratio


@inner(fastmath=FAST)
def sigmoid(x):  # type: ignore[no-untyped-def]
    """The logistic function to 2e-7."""
    return _HALF + _HALF * tanh(_HALF * x)
