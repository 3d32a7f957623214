"""Functions of float32 numbers for compiled kernels, in arithmetic that runs in vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler.fallback import FAST
from minikeras.kernels.cpu.compiler.jit import inner, instruction

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


def exponential(b: Any, x: Any, falling: bool = False) -> Any:
    """Emit the exponential function of a float32 number or a vector of them; `falling`: none is above 0.

    To 1e-7 of its value, and 0 where it would be denormal.  No instruction permits reassociation,
    whatever the caller permits: the two parts of ln 2 would become one.
    """
    kind, lanes = x.type, getattr(x.type, "count", 0)
    whole = b.type("int32", lanes)

    def constant(value: float) -> Any:
        return b.constant(float(np.float32(value)), "float32", lanes)

    tiny = b.fcmp_ordered("<", x, constant(_TINIEST))  # NaN is neither tiny nor large, and stays
    inside = b.select(tiny, constant(_TINIEST), x)
    if not falling:
        large = b.fcmp_ordered(">=", x, constant(_LARGEST))
        inside = b.select(large, constant(_LARGEST), inside)
    shifted = b.fma(inside, constant(1 / math.log(2)), constant(_ROUNDS))
    exponent = b.fsub(shifted, constant(_ROUNDS))
    r = inside
    for part in _LN_2:
        r = b.fma(exponent, constant(-part), r)
    power = constant(_EXP[0])
    for coefficient in _EXP[1:]:
        power = b.fma(power, r, constant(coefficient))
    value = b.fadd(b.fma(b.fmul(power, r), r, r), constant(1))
    if not falling:  # 2**128 is no float32: twice 2**127
        most = constant(_ROUNDS + 127)
        above = b.fcmp_ordered(">", shifted, most)
        shifted = b.select(above, most, shifted)
        value = b.select(above, b.fadd(value, value), value)
    bits = b.shl(b.bitcast(shifted, whole), b.constant(23, "int32", lanes))
    value = b.fmul(value, b.bitcast(b.add(bits, b.constant(127 << 23, "int32", lanes)), kind))
    value = b.select(tiny, constant(0), value)
    return value if falling else b.select(large, constant(math.inf), value)


@instruction
def exp(b: Any, x: np.float32) -> np.float32:
    """The exponential function; see `exponential`."""
    return exponential(b, x)


@inner(fastmath=FAST)
def tanh(x):
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
def sigmoid(x):
    """The logistic function to 2e-7."""
    return _HALF + _HALF * tanh(_HALF * x)


@inner
def add_up_rows(x, rows, columns, sums):
    """The sum of each column of a matrix; of four rows at a time, so that an addition need not wait for the last."""
    for j in range(columns):
        sums[j] = np.float32(0)
    fours = rows // 4 * 4
    for i in range(0, fours, 4):
        at, third = i * columns, (i + 2) * columns
        for j in range(columns):
            sums[j] += (x[at + j] + x[at + columns + j]) + (x[third + j] + x[third + columns + j])
    for i in range(fours, rows):
        at = i * columns
        for j in range(columns):
            sums[j] += x[at + j]
