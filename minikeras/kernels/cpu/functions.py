"""Elementary functions of float32 numbers for compiled kernels, in arithmetic that runs in vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.cpu.jit import FAST, inner, instruction
from minikeras.kernels.cpu.machine import function

_TINIEST, _LARGEST = -87.3365, 88.7228  # exponents of normal numbers
_ROUNDS = 1.5 * 2**23  # adding it leaves the nearest whole number in the lowest bits
_LN_2 = (0.693145751953125, 1.428606765330187e-06)  # in two parts, the first short enough for exact multiples
# of (exp(r) - 1 - r) / r**2, highest power first: least relative error of exp(r) for |r| <= ln 2 / 2, 3e-9
_EXP = (0.0013814596459269524, 0.0083687175065279, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552)

_HALF, _ONE = np.float32(0.5), np.float32(1)
# tanh(x) = x * P(x²) / Q(x²) on [-9.02, 9.02], where tanh reaches 1 in float32.  Least squares on the relative error,
# reweighted until its peaks are level (Lawson 1961): 2.1e-8, so that rounding, 3e-7, is what remains.
_LIMIT = np.float32(9.02)
_P0, _P1, _P2, _P3, _P4 = map(
    np.float32, (1.0, 0.13379713892936707, 0.003494029864668846, 2.058340578514617e-05, 1.331897081513489e-08)
)
_Q0, _Q1, _Q2, _Q3, _Q4 = map(
    np.float32, (1.0, 0.46713030338287354, 0.02587105520069599, 0.00032830852433107793, 7.761977371956164e-07)
)


def exponential(builder: Any, x: Any, falling: bool = False) -> Any:
    """Emit the exponential function of a float32 number or a vector of them; `falling`: none is above 0.

    To 1e-7 of its value, and 0 where it would be denormal.  No instruction permits reassociation,
    whatever the caller permits: the two parts of ln 2 would become one.
    """
    kind, whole = x.type, ir.IntType(32)
    suffix, lanes = "f32", getattr(kind, "count", 0)
    if lanes:
        suffix, whole = f"v{lanes}f32", ir.VectorType(whole, lanes)

    def constant(value: float, of: Any = kind) -> Any:
        value = value if of is whole else float(np.float32(value))
        return ir.Constant(of, [value] * lanes if lanes else value)

    def multiply_add(*values: Any) -> Any:
        return builder.call(function(builder, f"llvm.fma.{suffix}", kind, [kind] * 3), values)

    tiny = builder.fcmp_ordered("<", x, constant(_TINIEST))  # NaN is neither tiny nor large, and stays
    inside = builder.select(tiny, constant(_TINIEST), x)
    if not falling:
        large = builder.fcmp_ordered(">=", x, constant(_LARGEST))
        inside = builder.select(large, constant(_LARGEST), inside)
    shifted = multiply_add(inside, constant(1 / math.log(2)), constant(_ROUNDS))
    exponent = builder.fsub(shifted, constant(_ROUNDS))
    r = inside
    for part in _LN_2:
        r = multiply_add(exponent, constant(-part), r)
    power = constant(_EXP[0])
    for coefficient in _EXP[1:]:
        power = multiply_add(power, r, constant(coefficient))
    value = builder.fadd(multiply_add(builder.fmul(power, r), r, r), constant(1))
    if not falling:  # 2**128 is no float32: twice 2**127
        most = constant(_ROUNDS + 127)
        above = builder.fcmp_ordered(">", shifted, most)
        shifted = builder.select(above, most, shifted)
        value = builder.select(above, builder.fadd(value, value), value)
    bits = builder.shl(builder.bitcast(shifted, whole), constant(23, whole))
    value = builder.fmul(value, builder.bitcast(builder.add(bits, constant(127 << 23, whole)), kind))
    value = builder.select(tiny, constant(0), value)
    return value if falling else builder.select(large, constant(math.inf), value)


@instruction("float32(float32)")
def exp(builder: Any, x: Any) -> Any:
    """The exponential function; see `exponential`."""
    return exponential(builder, x)


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
