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

# (log(1 + r) - r + r**2 / 2) / r**3, highest power first: least relative error of log(1 + r) between the roots of 1/2
# and 2, 6e-9
_LOG = (
    -0.07634497433900833, 0.1276157796382904, -0.13160182535648346, 0.14201757311820984, -0.16623356938362122,
    0.20001226663589478, -0.2500081956386566, 0.3333333134651184,
)  # fmt: skip
# the bits of these, of the least normal number, and all but the sign
_ROOT_OF_HALF, _INFINITY, _LEAST, _MAGNITUDE = 0x3F3504F3, 0x7F800000, 0x00800000, 0x7FFFFFFF

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
# tanh(x) = x * P(x²) / Q(x²) on [-9.02, 9.02], where tanh reaches 1 in float32.  Least squares on the relative error,
# reweighted until its peaks are level (Lawson 1961): 2.1e-8, so that rounding, 3e-7, is what remains.
_LIMIT = np.float32(9.02)
_P0, _P1, _P2, _P3, _P4 = map(
    np.float32, (1.0, 0.13379713892936707, 0.003494029864668846, 2.058340578514617e-05, 1.331897081513489e-08)
)
_Q0, _Q1, _Q2, _Q3, _Q4 = map(
    np.float32, (1.0, 0.46713030338287354, 0.02587105520069599, 0.00032830852433107793, 7.761977371956164e-07)
)
# erf(x) = x * P(x²) / Q(x²) on [-3.95, 3.95], where erf reaches 1 in float32, made the same way: 2.1e-8
_ERF_LIMIT = np.float32(3.95)
_E0, _E1, _E2, _E3, _E4, _E5 = map(
    np.float32,
    (
        *(1.1283791065216064, 0.19155003130435944, 0.05287541449069977),
        *(0.0038081505335867405, 0.000284687674138695, 2.0259130906197242e-06),
    ),
)
_F1, _F2, _F3, _F4, _F5 = map(
    np.float32,
    (0.5030894875526428, 0.11455950886011124, 0.015055067837238312, 0.0011707234662026167, 3.7831850931979716e-05),
)
# the normal distribution below -t is exp(-t²/2) * P(t) / Q(t) for t up to 14.3, where it is 0 in float32: 4.2e-8
_FARTHEST = np.float32(14.3)
_M0, _M1, _M2, _M3, _M4 = map(
    np.float32, (0.5, 0.43788421154022217, 0.18293067812919617, 0.04053053632378578, 0.004101049154996872)
)
_N1, _N2, _N3, _N4, _N5 = map(
    np.float32,
    (1.6736533641815186, 1.2012388706207275, 0.46866679191589355, 0.10160157084465027, 0.010279682464897633),
)


def exponential(b: Any, x: Any, falling: bool = False, less_one: bool = False) -> Any:
    """Emit the exponential function of a float32 number or a vector of them; `falling`: none is above 0.

    To 1e-7 of its value, and 0 where it would be denormal; `less_one` takes 1 off before it is rounded.  No instruction
    permits reassociation, whatever the caller permits: the two parts of ln 2 would become one.
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
    beyond_one = b.fma(b.fmul(power, r), r, r)
    value = b.fadd(beyond_one, constant(1))
    if not falling:  # 2**128 is no float32: twice 2**127
        most = constant(_ROUNDS + 127)
        above = b.fcmp_ordered(">", shifted, most)
        shifted = b.select(above, most, shifted)
        value = b.select(above, b.fadd(value, value), value)
    bits = b.shl(b.bitcast(shifted, whole), b.constant(23, "int32", lanes))
    scale = b.bitcast(b.add(bits, b.constant(127 << 23, "int32", lanes)), kind)
    value = b.fmul(value, scale)
    if less_one:
        near = b.fma(beyond_one, scale, b.fsub(scale, constant(1)))
        value = near if falling else b.select(b.fcmp_ordered(">", x, constant(20)), value, near)  # 1 is lost beyond
    value = b.select(tiny, constant(-1 if less_one else 0), value)
    return value if falling else b.select(large, constant(math.inf), value)


@instruction
def exp(b: Any, x: np.float32) -> np.float32:
    """The exponential function; see `exponential`."""
    return exponential(b, x)


@instruction
def exp_of_falling(b: Any, x: np.float32) -> np.float32:
    """The exponential function of what is not above 0."""
    return exponential(b, x, falling=True)


@instruction
def expm1(b: Any, x: np.float32) -> np.float32:
    """`exp(x) - 1`, to 2e-7 of its value."""
    return exponential(b, x, less_one=True)


@instruction
def expm1_of_falling(b: Any, x: np.float32) -> np.float32:
    """The same of what is not above 0."""
    return exponential(b, x, falling=True, less_one=True)


def logarithm(b: Any, x: Any, of_next: bool = False) -> Any:
    """Emit the natural logarithm of a float32 number or vector, or of 1 more (`of_next`), to 1e-7 of its value.

    Denormal numbers count as 0, as they do in all arithmetic of compiled functions.
    """
    kind, lanes = x.type, getattr(x.type, "count", 0)
    integer = b.type("int32", lanes)

    def constant(value: float) -> Any:
        return b.constant(float(np.float32(value)), "float32", lanes)

    def whole(value: int) -> Any:
        return b.constant(value, "int32", lanes)

    y = b.fadd(x, constant(1)) if of_next else x
    bits = b.bitcast(y, integer)
    exponent = b.ashr(b.sub(bits, whole(_ROOT_OF_HALF)), whole(23))
    r = b.fsub(b.bitcast(b.sub(bits, b.shl(exponent, whole(23))), kind), constant(1))
    if of_next:  # what the sum has lost, divided by the same power of two
        large = b.fcmp_ordered(">=", x, constant(1))
        lost = b.select(large, b.fsub(constant(1), b.fsub(y, x)), b.fsub(x, b.fsub(y, constant(1))))
        inverse = b.sub(whole(127), exponent)
        inverse = b.select(b.icmp_signed("<", inverse, whole(0)), whole(0), inverse)
        r = b.fma(lost, b.bitcast(b.shl(inverse, whole(23)), kind), r)
    exponent = b.sitofp(exponent, kind)
    series = constant(_LOG[0])
    for coefficient in (*_LOG[1:], -0.5):
        series = b.fma(series, r, constant(coefficient))
    value = b.fma(exponent, constant(_LN_2[1]), b.fma(b.fmul(r, r), series, r))
    value = b.fma(exponent, constant(_LN_2[0]), value)
    value = b.select(b.icmp_signed(">=", bits, whole(_INFINITY)), y, value)  # NaN too
    value = b.select(b.icmp_signed("<", bits, whole(0)), constant(math.nan), value)
    zero = b.icmp_unsigned("<", b.and_(bits, whole(_MAGNITUDE)), whole(_LEAST))
    return b.select(zero, constant(-math.inf), value)


@instruction
def log(b: Any, x: np.float32) -> np.float32:
    """The natural logarithm; see `logarithm`."""
    return logarithm(b, x)


@instruction
def log1p(b: Any, x: np.float32) -> np.float32:
    """`log(1 + x)`; see `logarithm`."""
    return logarithm(b, x, of_next=True)


@instruction
def log1p_of_share(b: Any, x: np.float32) -> np.float32:
    """The same of what is between 0 and 1, where fewer steps lead to it."""

    def constant(value: float) -> Any:
        return b.constant(float(np.float32(value)), "float32")

    large = b.fcmp_ordered(">", x, constant(math.sqrt(2) - 1))
    r = b.select(large, b.fmul(b.fsub(x, constant(1)), constant(0.5)), x)
    series = constant(_LOG[0])
    for coefficient in (*_LOG[1:], -0.5):
        series = b.fma(series, r, constant(coefficient))
    value = b.fma(b.fmul(r, r), series, r)
    return b.select(large, b.fadd(value, constant(math.log(2))), value)


@instruction
def fma(b: Any, x: np.float32, y: np.float32, z: np.float32) -> np.float32:
    """`x * y + z`, rounded once."""
    return b.fma(x, y, z)


@inner(fastmath=FAST)
def erf(x):
    """The error function, to 3e-7 of its value."""
    inside = _ERF_LIMIT if x > _ERF_LIMIT else x
    inside = -_ERF_LIMIT if inside < -_ERF_LIMIT else inside
    y = inside * inside
    p = inside * (_E0 + y * (_E1 + y * (_E2 + y * (_E3 + y * (_E4 + y * _E5)))))
    ratio = p / (_ONE + y * (_F1 + y * (_F2 + y * (_F3 + y * (_F4 + y * _F5)))))
    ratio = _ONE if ratio > _ONE else ratio  # rounded beyond it
    return -_ONE if ratio < -_ONE else ratio


@inner(fastmath={"contract", "nsz"})
def normal(x):
    """The normal distribution function, to 5e-7 of its value however small that is, and `exp(-x²/2)`."""
    t = abs(x)
    t = _FARTHEST if t > _FARTHEST else t
    square = t * t
    bell = exp_of_falling(-_HALF * square)
    bell -= bell * (_HALF * fma(t, t, -square))  # what the square has lost
    p = _M0 + t * (_M1 + t * (_M2 + t * (_M3 + t * _M4)))
    tail = bell * (p / (_ONE + t * (_N1 + t * (_N2 + t * (_N3 + t * (_N4 + t * _N5))))))
    return tail if x < _ZERO else _ONE - tail, bell


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
    """The logistic function to 2e-7, which gates of recurrences need: faster than `logistic`."""
    return _HALF + _HALF * tanh(_HALF * x)


@inner
def logistic(x):
    """The logistic function, to 3e-7 of its value however small that is."""
    small = exp_of_falling(-abs(x))
    return (small if x < _ZERO else _ONE) / (_ONE + small)


@inner
def add_up_rows(x, rows, columns, step, sums):
    """The sum of each column of a matrix whose rows begin `step` numbers after each other.

    Four rows are added at a time, so that an addition need not wait for the last.
    """
    for j in range(columns):
        sums[j] = np.float32(0)
    fours = rows // 4 * 4
    for i in range(0, fours, 4):
        at, third = i * step, (i + 2) * step
        for j in range(columns):
            sums[j] += (x[at + j] + x[at + step + j]) + (x[third + j] + x[third + step + j])
    for i in range(fours, rows):
        at = i * step
        for j in range(columns):
            sums[j] += x[at + j]
