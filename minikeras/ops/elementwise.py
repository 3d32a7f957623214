"""Elementwise functions of one and of two arrays, comparisons and logic, with NumPy's broadcasting."""

from __future__ import annotations

import math
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import Op, composite, differentiable, operation
from minikeras.autodiff.operands import raw
from minikeras.ops.common import (
    NUMBERS,
    activated,
    as_array,
    as_float,
    as_type,
    broadcasting,
    curved,
    elementary,
    elementwise,
    named,
    promote,
    promote_exact,
    result_type,
    transformed,
    unbroadcast,
)

KERAS_MODULE = "keras.src.ops.numpy"

# ---------------------------------------------------------------- arithmetic


@broadcasting
def add(x1: Any, x2: Any) -> Any:
    """`x1 + x2`.

    >>> from minikeras import ops
    >>> ops.add([1, 2], 3)
    <Tensor shape=(2,) dtype=int32>
    array([4, 5], dtype=int32)
    """
    return k.combine(x1, x2, "add"), lambda g: g, lambda g: g


@broadcasting
def subtract(x1: Any, x2: Any) -> Any:
    """`x1 - x2`.

    >>> from minikeras import ops
    >>> ops.subtract([1.0, 2.0], 3.0)
    <Tensor shape=(2,) dtype=float32>
    array([-2., -1.], dtype=float32)
    """
    return k.combine(x1, x2, "subtract"), lambda g: g, lambda g: k.transform(g, "negative")


@broadcasting
def multiply(x1: Any, x2: Any) -> Any:
    """`x1 * x2`.

    >>> from minikeras import ops
    >>> ops.multiply([1.0, 2.0], 3.0)
    <Tensor shape=(2,) dtype=float32>
    array([3., 6.], dtype=float32)
    """
    return (
        k.combine(x1, x2, "multiply"),
        lambda g: k.combine(g, x2, "multiply"),
        lambda g: k.combine(g, x1, "multiply"),
    )


@broadcasting(floats=True)
def divide(x1: Any, x2: Any) -> Any:
    """`x1 / x2`; integers are divided as floats.

    >>> from minikeras import ops
    >>> ops.divide([1, 2], 2)
    <Tensor shape=(2,) dtype=float32>
    array([0.5, 1. ], dtype=float32)
    """
    y = k.combine(x1, x2, "divide")

    def divisor(g: Any) -> Any:
        return k.combine(k.transform(g, "negative"), k.combine(y, x2, "divide"), "multiply")

    return y, lambda g: k.combine(g, x2, "divide"), divisor


true_divide = divide


@broadcasting(common=promote_exact)
def mod(x1: Any, x2: Any) -> Any:
    """The remainder of `x1 / x2`, with the sign of `x2`.

    >>> from minikeras import ops
    >>> ops.mod([7, -7], 3)
    <Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32)
    """
    return k.xp.mod(x1, x2), lambda g: g, lambda g: -g * k.xp.floor(x1 / x2)


@operation(shape=shapes.broadcast)
def floor_divide(x1: Any, x2: Any) -> Any:
    """The largest whole number not above `x1 / x2`.

    >>> from minikeras import ops
    >>> ops.floor_divide([7, -7], 2)
    <Tensor shape=(2,) dtype=int32>
    array([ 3, -4], dtype=int32)
    """
    return k.xp.floor_divide(*promote_exact(x1, x2))


@broadcasting(common=promote_exact)
def power(x1: Any, x2: Any) -> Any:
    """`x1 ** x2`.

    The gradients stay finite at `x1 = 0`: the one at `x1` is 0 where `x2 = 0`, the one at `x2` takes log 0 as 0.

    >>> from minikeras import ops
    >>> ops.power([2.0, 3.0], 2)
    <Tensor shape=(2,) dtype=float32>
    array([4., 9.], dtype=float32)
    """
    y = k.power(x1, x2) if isinstance(x2, NUMBERS) else k.xp.power(x1, x2)

    def base(g: Any) -> Any:
        if isinstance(x2, NUMBERS):
            return g * (x2 * k.power(x1, x2 - 1)) if x2 else k.xp.zeros_like(g)
        return g * (x2 * k.xp.power(x1, k.xp.where(x2 == 0, k.xp.ones_like(x2), x2 - 1)))

    def exponent(g: Any) -> Any:
        if isinstance(x1, NUMBERS):
            return g * (y * (math.log(x1) if x1 > 0 else 0.0 if x1 == 0 else math.nan))
        return g * (y * k.xp.log(k.xp.where(x1 == 0, k.xp.ones_like(x1), x1)))

    return y, base, exponent


@broadcasting
def maximum(x1: Any, x2: Any) -> Any:
    """The larger of two values; at a tie each gets half of the gradient.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.maximum([1.0, 5.0], 3.0)
    <Tensor shape=(2,) dtype=float32>
    array([3., 5.], dtype=float32)
    """
    return k.combine(x1, x2, "maximum"), lambda g: k.larger_grad(g, x1, x2), lambda g: k.larger_grad(g, x2, x1)


@broadcasting
def minimum(x1: Any, x2: Any) -> Any:
    """The smaller of two values; at a tie each gets half of the gradient.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.minimum([1.0, 5.0], 3.0)
    <Tensor shape=(2,) dtype=float32>
    array([1., 3.], dtype=float32)
    """
    return k.combine(x1, x2, "minimum"), lambda g: k.larger_grad(g, x2, x1), lambda g: k.larger_grad(g, x1, x2)


def _clip_shape(x: Any, *, x_min: Any, x_max: Any) -> Any:
    return shapes.broadcast(*[one for one in (x, x_min, x_max) if one is not None])


@composite(inputs=1, shape=_clip_shape)
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """`x` limited to `x_min ... x_max`; the gradient is 1 inside, 0 outside, 1/2 on the limit itself.

    >>> from minikeras import ops
    >>> ops.clip([-2.0, 0.5, 2.0], -1.0, 1.0)
    <Tensor shape=(3,) dtype=float32>
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    if str(getattr(raw(x), "dtype", None)) == "bool":
        x = multiply(x, 1)  # as int32
    if x_min is not None:
        x = maximum(x, x_min)
    return x if x_max is None else minimum(x, x_max)


@broadcasting(floats=True)
def hypot(x1: Any, x2: Any) -> Any:
    """`sqrt(x1**2 + x2**2)`, without overflow.

    >>> from minikeras import ops
    >>> ops.hypot([3.0], [4.0])
    <Tensor shape=(1,) dtype=float32>
    array([5.], dtype=float32)
    """
    y = k.xp.hypot(x1, x2)
    safe = k.xp.where(y == 0, k.xp.ones_like(y), y)
    return y, lambda g: g * (x1 / safe), lambda g: g * (x2 / safe)


@broadcasting(floats=True)
def arctan2(x1: Any, x2: Any) -> Any:
    """The angle of the point (x2, x1).

    >>> from minikeras import ops
    >>> ops.arctan2([1.0, -1.0], [1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([ 0.7853981, -0.7853981], dtype=float32)
    """
    norm = x1 * x1 + x2 * x2
    return k.xp.arctan2(x1, x2), lambda g: g * (x2 / norm), lambda g: -g * (x1 / norm)


@broadcasting(floats=True)
def logaddexp(x1: Any, x2: Any) -> Any:
    """`log(exp(x1) + exp(x2))`, without overflow.

    >>> from minikeras import ops
    >>> ops.logaddexp([0.0], [0.0])
    <Tensor shape=(1,) dtype=float32>
    array([0.6931472], dtype=float32)
    """
    y = k.xp.logaddexp(x1, x2)
    return y, lambda g: g * k.xp.exp(x1 - y), lambda g: g * k.xp.exp(x2 - y)


# ---------------------------------------------------------------- one array


def _asked(name: str, meaning: str) -> Op:
    """The array module's function of that name, of each value of one array, without a gradient."""
    return operation(named(lambda x: getattr(k.xp, name)(as_array(x)), name, meaning), shape=shapes.same)


def _transformed(name: str, meaning: str, of_output: bool = False, integers: bool = False) -> Op:
    """The operation of what the kernels' `transform` does."""
    convert = as_array if integers else as_float
    function = named(lambda x: transformed(convert(x), name, of_output), name, meaning)
    return differentiable(function, shape=shapes.same)


def _curved(name: str, meaning: str, **options: Any) -> Op:
    """The operation of one of the kernels' curves."""
    return differentiable(named(lambda x: curved(x, name), name, meaning), shape=shapes.same, **options)


negative = _transformed("negative", "`-x`.", integers=True)


@differentiable(shape=shapes.same)
def absolute(x: Any) -> Any:
    """`|x|`; the gradient at 0 is 0.

    >>> from minikeras import ops
    >>> ops.abs([-1.0, 2.0])
    <Tensor shape=(2,) dtype=float32>
    array([1., 2.], dtype=float32)
    """
    return transformed(as_array(x), "absolute")


abs = absolute


@differentiable(shape=shapes.same)
def square(x: Any) -> Any:
    """`x * x`.

    >>> from minikeras import ops
    >>> ops.square([2.0, 3.0])
    <Tensor shape=(2,) dtype=float32>
    array([4., 9.], dtype=float32)
    """
    x = as_array(x)
    return transformed(x.astype("int32") if x.dtype.kind == "b" else x, "square")


sqrt = _transformed("sqrt", "The square root.", of_output=True)


@elementwise(keras="keras.src.ops.math.Rsqrt")
def rsqrt(x: Any) -> Any:
    """`1 / sqrt(x)`.

    >>> from minikeras import ops
    >>> ops.rsqrt([4.0, 16.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.5 , 0.25], dtype=float32)
    """
    y = k.transform(k.transform(x, "sqrt"), "reciprocal")
    slope = lambda: k.combine(k.combine(y, -0.5, "multiply"), x, "divide")
    return y, lambda g: k.combine(g, slope(), "multiply")


@differentiable(shape=shapes.same)
def reciprocal(x: Any) -> Any:
    """`1 / x`.

    >>> from minikeras import ops
    >>> ops.reciprocal([2.0, 4.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.5 , 0.25], dtype=float32)
    """
    return transformed(as_float(x), "reciprocal", of_output=True)


exp = differentiable(named(lambda x: activated(x, "exponential"), "exp", "`e ** x`."), shape=shapes.same)
expm1 = _curved("expm1", "`exp(x) - 1`, exact for small `x`.")
log = _curved("log", "The natural logarithm.")
log1p = _curved("log1p", "`log(1 + x)`, exact for small `x`.")
log2 = elementary("log2", "The logarithm to base 2.", lambda g, x: g / (x * math.log(2)))
log10 = elementary("log10", "The logarithm to base 10.", lambda g, x: g / (x * math.log(10)))
sin = elementary("sin", "The sine.", lambda g, x: g * k.xp.cos(x))
cos = elementary("cos", "The cosine.", lambda g, x: -g * k.xp.sin(x))
tan = elementary("tan", "The tangent.", at_y=lambda g, y: g * (y * y + 1))
arcsin = elementary("arcsin", "The angle from -pi/2 to pi/2 whose sine is `x`.", lambda g, x: g / k.xp.sqrt(1 - x * x))
arccos = elementary("arccos", "The angle from 0 to pi whose cosine is `x`.", lambda g, x: -g / k.xp.sqrt(1 - x * x))
arctan = elementary("arctan", "The angle from -pi/2 to pi/2 whose tangent is `x`.", lambda g, x: g / (x * x + 1))
sinh = elementary("sinh", "The hyperbolic sine.", lambda g, x: g * k.xp.cosh(x))
cosh = elementary("cosh", "The hyperbolic cosine.", lambda g, x: g * k.xp.sinh(x))


@differentiable(shape=shapes.same)
def tanh(x: Any) -> Any:
    """The hyperbolic tangent.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.tanh([0.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.       , 0.7615942], dtype=float32)
    """
    return activated(x, "tanh")


arcsinh = elementary("arcsinh", "The inverse of `sinh`.", lambda g, x: g / k.xp.sqrt(x * x + 1))
arccosh = elementary("arccosh", "The inverse of `cosh`, not negative.", lambda g, x: g / k.xp.sqrt(x * x - 1))
arctanh = elementary("arctanh", "The inverse of `tanh`.", lambda g, x: g / (1 - x * x), example=("[0.0]", "[0.0]"))


@differentiable(shape=shapes.same, keras="keras.src.ops.math.Erf")
def erf(x: Any) -> Any:
    """The error function, `2 / sqrt(pi)` times the integral of `exp(-t**2)` from 0 to `x`.

    >>> from minikeras import ops
    >>> ops.erf([0.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.        , 0.84270084], dtype=float32)
    """
    return curved(x, "erf")


@differentiable(inputs=1, shape=shapes.same)
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """`x` with NaN and the infinities replaced; None stands for the type's largest and smallest finite number.

    Args:
        posinf: what stands for infinity; default the largest number.
        neginf: what stands for minus infinity.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.nan_to_num([1.0, np.nan])
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    x = as_array(x)
    return k.xp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf), lambda g, needs: (g * k.xp.isfinite(x),)


sign = _asked("sign", "-1, 0 or 1.")


@operation(shape=shapes.same)
def floor(x: Any) -> Any:
    """The largest whole number not above `x`.

    >>> from minikeras import ops
    >>> ops.floor([1.2, -1.2])
    <Tensor shape=(2,) dtype=float32>
    array([ 1., -2.], dtype=float32)
    """
    return k.xp.floor(as_float(x))


@operation(shape=shapes.same)
def ceil(x: Any) -> Any:
    """The smallest whole number not below `x`.

    >>> from minikeras import ops
    >>> ops.ceil([1.2, -1.2])
    <Tensor shape=(2,) dtype=float32>
    array([ 2., -1.], dtype=float32)
    """
    return k.xp.ceil(as_float(x))


@operation(shape=shapes.same)
def trunc(x: Any) -> Any:
    """`x` without its fraction.

    >>> from minikeras import ops
    >>> ops.trunc([1.7, -1.7])
    <Tensor shape=(2,) dtype=float32>
    array([ 1., -1.], dtype=float32)
    """
    x = as_array(x)
    return k.xp.trunc(x) if x.dtype.kind == "f" else x


@operation(inputs=1, shape=shapes.same)
def round(x: Any, decimals: int = 0) -> Any:
    """`x` rounded to so many decimals, halves to the even neighbour; booleans are what they are.

    >>> from minikeras import ops
    >>> ops.round([1.26, 2.5], decimals=1)
    <Tensor shape=(2,) dtype=float32>
    array([1.3, 2.5], dtype=float32)
    """
    x = as_array(x)
    return x if x.dtype.kind == "b" else k.xp.round(x, decimals)


# ---------------------------------------------------------------- choice, comparison, logic


def _where_shape(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None and x2 is None:
        return tuple([shapes.Spec((None,), "int32") for _ in condition.shape])
    return shapes.broadcast(condition, x1, x2)


@differentiable(shape=_where_shape)
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """`x1` where the condition holds, else `x2`; with the condition alone, `nonzero(condition)`.

    >>> from minikeras import ops
    >>> ops.where([True, False], 1.0, 2.0)
    <Tensor shape=(2,) dtype=float32>
    array([1., 2.], dtype=float32)
    """
    condition = as_array(condition)
    if x1 is None and x2 is None:
        return tuple(index.astype("int32") for index in k.xp.nonzero(condition)), None
    if x1 is None or x2 is None:
        raise ValueError(f"where takes both x1 and x2 or neither, got x1={x1!r:.80} and x2={x2!r:.80}.")
    condition = condition.astype(bool)
    dtype = result_type(x1, x2)
    # a number beside an array of this type stays one
    one, other = (
        value if isinstance(value, NUMBERS) and getattr(beside, "dtype", None) == dtype else as_type(value, dtype)
        for value, beside in ((x1, x2), (x2, x1))
    )
    y = k.choose(condition, one, other)

    def vjp(g: Any, needs: Any) -> Any:
        return (
            None,
            unbroadcast(k.choose(condition, g, 0), x1) if needs[1] else None,
            unbroadcast(k.choose(condition, 0, g), x2) if needs[2] else None,
        )

    return y, vjp


def nonzero(x: Any) -> Any:
    """The indices of the values that are not zero, one int32 array for each axis.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.nonzero([0, 3, 0, 4])
    (<Tensor shape=(2,) dtype=int32>
    array([1, 3], dtype=int32),)
    """
    return where(x)


def _compared(name: str, meaning: str) -> Op:
    """The array module's function of that name, of two arrays, without a gradient."""
    return operation(named(lambda x1, x2: getattr(k.xp, name)(x1, x2), name, meaning), shape=shapes.broadcast)


equal = _compared("equal", "Elementwise `x1 == x2`.")
not_equal = _compared("not_equal", "Elementwise `x1 != x2`.")
less = _compared("less", "Elementwise `x1 < x2`.")
less_equal = _compared("less_equal", "Elementwise `x1 <= x2`.")
greater = _compared("greater", "Elementwise `x1 > x2`.")
greater_equal = _compared("greater_equal", "Elementwise `x1 >= x2`.")
logical_and = _compared("logical_and", "Whether both values are true (not zero).")
logical_or = _compared("logical_or", "Whether at least one value is true (not zero).")
logical_xor = _compared("logical_xor", "Whether exactly one value is true (not zero).")


@operation(shape=shapes.same)
def logical_not(x: Any) -> Any:
    """Whether the value is zero.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.logical_not([True, False])
    <Tensor shape=(2,) dtype=bool>
    array([False,  True])
    """
    return k.xp.logical_not(x)


@operation(shape=shapes.broadcast)
def bitwise_and(x: Any, y: Any) -> Any:
    """The bits set in both; of booleans, logical and.

    Args:
        x: tensor, array or number.
        y: tensor, array or number; both broadcast together.

    >>> from minikeras import ops
    >>> ops.bitwise_and([6], [3])
    <Tensor shape=(1,) dtype=int32>
    array([2], dtype=int32)
    """
    return k.xp.bitwise_and(*promote(x, y))


@operation(shape=shapes.broadcast)
def bitwise_or(x: Any, y: Any) -> Any:
    """The bits set in either; of booleans, logical or.

    Args:
        x: tensor, array or number.
        y: tensor, array or number; both broadcast together.

    >>> from minikeras import ops
    >>> ops.bitwise_or([6], [3])
    <Tensor shape=(1,) dtype=int32>
    array([7], dtype=int32)
    """
    return k.xp.bitwise_or(*promote(x, y))


@operation(shape=shapes.broadcast)
def bitwise_xor(x: Any, y: Any) -> Any:
    """The bits set in exactly one; of booleans, logical exclusive or.

    Args:
        x: tensor, array or number.
        y: tensor, array or number; both broadcast together.

    >>> from minikeras import ops
    >>> ops.bitwise_xor([6], [3])
    <Tensor shape=(1,) dtype=int32>
    array([5], dtype=int32)
    """
    return k.xp.bitwise_xor(*promote(x, y))


@operation(shape=shapes.same)
def bitwise_not(x: Any) -> Any:
    """All bits inverted; of booleans, logical not.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.bitwise_not([0, 1])
    <Tensor shape=(2,) dtype=int32>
    array([-1, -2], dtype=int32)
    """
    return k.xp.invert(as_array(x))


isnan = _asked("isnan", "Whether the value is NaN.")
isinf = _asked("isinf", "Whether the value is an infinity.")
isfinite = _asked("isfinite", "Whether the value is neither NaN nor an infinity.")


@operation(inputs=2, shape=shapes.broadcast, takes=4)
def isclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Elementwise `|x1 - x2| <= atol + rtol * |x2|`.

    Args:
        equal_nan: whether NaN equals NaN.

    >>> from minikeras import ops
    >>> ops.isclose([1.0, 1.1], 1.000001)
    <Tensor shape=(2,) dtype=bool>
    array([ True, False])
    """
    return k.xp.isclose(as_array(x1), as_array(x2), rtol=rtol, atol=atol, equal_nan=equal_nan)


@operation(shape=shapes.scalar, keras="")
def array_equal(x1: Any, x2: Any) -> Any:
    """Whether two arrays have the same shape and the same values, as a boolean scalar."""
    x1, x2 = as_array(x1), as_array(x2)
    return k.xp.all(x1 == x2) if x1.shape == x2.shape else k.xp.zeros((), bool)
