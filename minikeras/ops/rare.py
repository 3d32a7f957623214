"""Elementwise functions that are seldom wanted, with what is done with bits and with complex numbers.

A complex tensor holds values: it comes from `polar`, `view_as_complex` or an array, and what NumPy computes of complex
numbers is computed of it.  No gradient flows through one, which `real` and its like say when it is asked for; the
Fourier transforms, whose numbers are pairs of real and imaginary parts, have gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable, operation
from minikeras.ops import elementwise as ew
from minikeras.ops.common import (
    array_type,
    as_array,
    as_float,
    broadcasting,
    elementary,
    elementwise,
    promote,
    promote_exact,
    unbroadcast,
)
from minikeras.ops.shaping import _tensors

KERAS_MODULE = "keras.src.ops.numpy"

# ---------------------------------------------------------------- one array


cbrt = elementary("cbrt", "The cube root.", at_y=lambda g, y: g / (3 * y * y), example=("0.125", "0.5"))
deg2rad = elementary("deg2rad", "Degrees as radians.", lambda g, x: g * (math.pi / 180), example=("0.0", "0.0"))
rad2deg = elementary("rad2deg", "Radians as degrees.", lambda g, x: g * (180 / math.pi), example=("3.1415927", "180.0"))
exp2 = elementary("exp2", "`2 ** x`.", at_y=lambda g, y: g * (y * math.log(2)), example=("[3, -1]", "[8.0, 0.5]"))


@elementwise
def fabs(x: Any) -> Any:
    """`|x|` as a float; the gradient at 0 is 0.

    >>> from minikeras import ops
    >>> ops.fabs([-2, 1]).numpy().tolist()
    [2.0, 1.0]
    """
    return k.xp.fabs(x), lambda g: g * k.xp.sign(x)


@elementwise
def sinc(x: Any) -> Any:
    """`sin(pi x) / (pi x)`, 1 at 0.

    >>> from minikeras import ops
    >>> ops.sinc([0.0, 0.5]).numpy().round(4).tolist()
    [1.0, 0.6366000175476074]
    """
    y = k.xp.sinc(x)
    safe = k.xp.where(x == 0, k.xp.ones_like(x), x)
    return y, lambda g: g * ((k.xp.cos(math.pi * safe) - y) / safe) * (x != 0)


@operation(shape=shapes.same)
def signbit(x: Any) -> Any:
    """Whether the sign is negative, that of -0.0 too.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.signbit([-0.0, 2.0]).numpy().tolist()
    [True, False]
    """
    x = as_array(x)
    return k.xp.signbit(x) if x.dtype.kind == "f" else x < 0


@operation(shape=shapes.same)
def isneginf(x: Any) -> Any:
    """Whether the value is minus infinity.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.isneginf([float("-inf"), 1.0]).numpy().tolist()
    [True, False]
    """
    return as_array(x) == -math.inf


@operation(shape=shapes.same)
def isposinf(x: Any) -> Any:
    """Whether the value is plus infinity.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.isposinf([float("inf"), 1.0]).numpy().tolist()
    [True, False]
    """
    return as_array(x) == math.inf


@operation(shape=shapes.same)
def isreal(x: Any) -> Any:
    """Whether the imaginary part is 0.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.isreal([1.0, 2.0]).numpy().tolist()
    [True, True]
    """
    return k.xp.isreal(as_array(x))


# ---------------------------------------------------------------- complex numbers


def _through_real(x: Any, gradient: Callable) -> Callable:
    """A vjp of one array that refuses a complex one."""

    def vjp(g: Any, needs: Any) -> Any:
        if x.dtype.kind == "c":
            raise TypeError(
                f"No gradient flows through complex numbers, got a gradient at {x.dtype} of shape {x.shape}; compute "
                "with real and imaginary parts, as abs * cos(angle) and abs * sin(angle)."
            )
        return (gradient(g),)

    return vjp


@differentiable(shape=shapes.same)
def real(x: Any) -> Any:
    """The real part.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.real([1 + 2j]).numpy().tolist()
    [1.0]
    """
    x = as_array(x)
    return k.xp.real(x), _through_real(x, lambda g: g)


@differentiable(shape=shapes.same)
def imag(x: Any) -> Any:
    """The imaginary part; of real numbers 0.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.imag([1 + 2j]).numpy().tolist()
    [2.0]
    """
    x = as_array(x)
    return k.xp.imag(x), _through_real(x, lambda g: k.xp.zeros_like(g))


@differentiable(shape=shapes.same)
def angle(x: Any) -> Any:
    """The angle of complex numbers in radians; of real ones 0 or pi.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.angle([2j]).numpy().round(4).tolist()
    [1.5707999467849731]
    """
    x = as_float(x)
    return k.xp.angle(x), _through_real(x, lambda g: k.xp.zeros_like(g))


@differentiable(shape=shapes.same)
def conjugate(x: Any) -> Any:
    """The complex conjugate.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.conjugate([1 + 2j]).numpy().tolist()
    [(1-2j)]
    """
    x = as_array(x)
    y = k.xp.conjugate(x) if x.dtype.kind == "c" else x
    return y, _through_real(x, lambda g: g)


conj = conjugate


@differentiable(shape=shapes.broadcast, keras="keras.src.ops.nn.Polar")
def polar(abs_: Any, angle: Any) -> Any:
    """The complex numbers `abs * (cos(angle) + i sin(angle))`.

    Args:
        abs_: the lengths.

    >>> from minikeras import ops
    >>> ops.polar(2.0, 0.0).numpy().tolist()
    (2+0j)
    """
    size, turn = promote(as_float(abs_), as_float(angle))
    y = size * k.xp.cos(turn) + 1j * (size * k.xp.sin(turn))
    return y, _through_real(y, lambda g: g)


@operation(shape=lambda x: shapes.Spec(x.shape[:-1], "complex64"), keras="keras.src.ops.math.ViewAsComplex")
def view_as_complex(x: Any) -> Any:
    """Pairs (..., 2) of real and imaginary parts as complex numbers (...).

    Args:
        x: tensor, array or number.

    Raises:
        ValueError: for another size of the last axis.

    >>> from minikeras import ops
    >>> ops.view_as_complex([[1.0, 2.0]]).numpy().tolist()
    [(1+2j)]
    """
    x = as_float(x)
    if not x.ndim or x.shape[-1] != 2:
        raise ValueError(f"view_as_complex takes pairs along the last axis, got the shape {x.shape}; stack the parts.")
    return x[..., 0] + 1j * x[..., 1]


@operation(shape=lambda x: (*x.shape, 2), keras="keras.src.ops.math.ViewAsReal")
def view_as_real(x: Any) -> Any:
    """Complex numbers (...) as pairs (..., 2) of their real and imaginary parts.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.view_as_real([1 + 2j]).numpy().tolist()
    [[1.0, 2.0]]
    """
    x = as_array(x)
    return k.stack([k.xp.real(x), k.xp.imag(x)], x.ndim)


# ---------------------------------------------------------------- two arrays


@broadcasting(common=promote_exact)
def fmod(x1: Any, x2: Any) -> Any:
    """The remainder of `x1 / x2`, with the sign of `x1`.

    >>> from minikeras import ops
    >>> ops.fmod(-7, 3).numpy().tolist()
    -1
    """
    return k.xp.fmod(x1, x2), lambda g: g, lambda g: -g * k.xp.trunc(x1 / x2)


@broadcasting(floats=True)
def heaviside(x1: Any, x2: Any) -> Any:
    """0 where `x1` is negative, 1 where it is positive, `x2` where it is 0.

    >>> from minikeras import ops
    >>> ops.heaviside([-1.0, 0.0, 2.0], 0.5).numpy().tolist()
    [0.0, 0.5, 1.0]
    """
    return k.xp.heaviside(x1, x2), lambda g: k.xp.zeros_like(g), lambda g: g * (x1 == 0)


@broadcasting(floats=True)
def logaddexp2(x1: Any, x2: Any) -> Any:
    """`log2(2**x1 + 2**x2)`, without overflow.

    >>> from minikeras import ops
    >>> ops.logaddexp2(1.0, 1.0).numpy().tolist()
    2.0
    """
    y = k.xp.logaddexp2(x1, x2)
    return y, lambda g: g * k.xp.exp2(x1 - y), lambda g: g * k.xp.exp2(x2 - y)


@composite(inputs=2, shape=shapes.broadcast)
def fmax(x1: Any, x2: Any) -> Any:
    """The larger of two values; a number beside NaN is the larger one.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.fmax([1.0, float("nan")], 2.0).numpy().tolist()
    [2.0, 2.0]
    """
    x1, x2 = _tensors([x1, x2])
    return ew.maximum(ew.where(ew.isnan(x1), x2, x1), ew.where(ew.isnan(x2), x1, x2))


@composite(inputs=2, shape=shapes.broadcast)
def fmin(x1: Any, x2: Any) -> Any:
    """The smaller of two values; a number beside NaN is the smaller one.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.fmin([1.0, float("nan")], 2.0).numpy().tolist()
    [1.0, 2.0]
    """
    x1, x2 = _tensors([x1, x2])
    return ew.minimum(ew.where(ew.isnan(x1), x2, x1), ew.where(ew.isnan(x2), x1, x2))


@composite(inputs=2, shape=shapes.broadcast)
def divide_no_nan(x1: Any, x2: Any) -> Any:
    """`x1 / x2`, but 0 where `x2` is 0; no gradient flows there.

    >>> from minikeras import ops
    >>> ops.divide_no_nan([1.0, 2.0], [0.0, 4.0]).numpy().tolist()
    [0.0, 0.5]
    """
    x1, x2 = _tensors([x1, x2])
    zero = ew.equal(x2, 0)
    return ew.where(zero, 0, ew.divide(x1, ew.where(zero, 1, x2)))


@differentiable(shape=shapes.broadcast)
def ldexp(x1: Any, x2: Any) -> Any:
    """`x1 * 2**x2` for whole numbers `x2`.

    Raises:
        TypeError: where `x2` is not of an integer type.

    >>> from minikeras import ops
    >>> ops.ldexp(1.5, [1, 2]).numpy().tolist()
    [3.0, 6.0]
    """
    x, powers = as_float(x1), as_array(x2)
    if powers.dtype.kind not in "iu":
        raise TypeError(f"ldexp takes whole numbers as its second argument, got {powers.dtype}; cast them to int32.")
    powers = powers.astype("int32")
    return k.xp.ldexp(x, powers), lambda g, needs: (unbroadcast(k.xp.ldexp(g, powers), x), None)


@operation(shape=shapes.broadcast)
def gcd(x1: Any, x2: Any) -> Any:
    """The greatest common divisor.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.gcd(12, [8, 9]).numpy().tolist()
    [4, 3]
    """
    return k.xp.gcd(*promote(as_array(x1), x2))


@operation(shape=shapes.broadcast)
def lcm(x1: Any, x2: Any) -> Any:
    """The least common multiple.

    Args:
        x1: tensor, array or number.
        x2: the same; both broadcast together.

    >>> from minikeras import ops
    >>> ops.lcm(4, [6, 5]).numpy().tolist()
    [12, 20]
    """
    return k.xp.lcm(*promote(as_array(x1), x2))


@operation(shape=shapes.broadcast, rounds=False)
def nextafter(x1: Any, x2: Any) -> Any:
    """The float that follows `x1` towards `x2`.

    >>> from minikeras import ops
    >>> ops.nextafter(1.0, 2.0).numpy().tolist()
    1.0000001192092896
    """
    return k.xp.nextafter(*map(as_float, promote(as_array(x1), x2)))


@operation(shape=shapes.broadcast)
def bitwise_left_shift(x: Any, y: Any) -> Any:
    """The bits of `x` moved up by `y` places.

    >>> from minikeras import ops
    >>> ops.left_shift(1, [1, 3]).numpy().tolist()
    [2, 8]
    """
    return k.xp.left_shift(*promote_exact(as_array(x), y))


@operation(shape=shapes.broadcast)
def bitwise_right_shift(x: Any, y: Any) -> Any:
    """The bits of `x` moved down by `y` places.

    >>> from minikeras import ops
    >>> ops.right_shift(8, [1, 3]).numpy().tolist()
    [4, 1]
    """
    return k.xp.right_shift(*promote_exact(as_array(x), y))


left_shift, right_shift, bitwise_invert = bitwise_left_shift, bitwise_right_shift, ew.bitwise_not


@operation(inputs=2, shape=shapes.scalar, keras="keras.src.ops.numpy.AllClose")
def allclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether everywhere `|x1 - x2| <= atol + rtol * |x2|`.

    Args:
        equal_nan: whether NaN equals NaN.

    >>> from minikeras import ops
    >>> bool(ops.allclose([1.0, 2.0], [1.0, 2.1]))
    False
    """
    return k.xp.all(k.xp.isclose(as_array(x1), as_array(x2), rtol=rtol, atol=atol, equal_nan=equal_nan))


@operation(inputs=2, shape=shapes.same, keras="keras.src.ops.numpy.IsIn")
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """For each value of `x1` whether it is in `x2`, or with `invert` whether it is not.

    Args:
        assume_unique: accepted for familiarity; it changes no result.

    >>> from minikeras import ops
    >>> ops.isin([1, 2, 3], [3, 1]).numpy().tolist()
    [True, False, True]
    """
    a, b = promote(as_array(x1), as_array(x2))
    return k.xp.isin(a, b, invert=invert)


def _view_shape(x: Any, *, dtype: Any = None) -> Any:
    new = x.dtype if dtype is None else array_type(dtype)
    if new.itemsize == x.dtype.itemsize:
        return shapes.Spec(x.shape, new)
    if not x.shape or (x.shape[-1] is not None and x.shape[-1] * x.dtype.itemsize % new.itemsize):
        raise ValueError(
            f"Numbers of shape {x.shape} and type {x.dtype} cannot be read as {new}, whose size is another; use cast."
        )
    size = x.shape[-1]
    return shapes.Spec((*x.shape[:-1], None if size is None else size * x.dtype.itemsize // new.itemsize), new)


@operation(inputs=1, shape=_view_shape, rounds=False)
def view(x: Any, dtype: Any = None) -> Any:
    """The bits of the array read as another type; the last axis grows or shrinks with the size of a number.

    Args:
        x: tensor, array or number.

    Raises:
        ValueError: where the bits do not make up whole numbers of that type.

    >>> from minikeras import ops
    >>> ops.view(1.0, "int32").numpy().tolist()
    1065353216
    """
    x = as_array(x)
    spec = _view_shape(x, dtype=dtype)
    return k.xp.ascontiguousarray(x).reshape(x.shape).view(spec.dtype).reshape(spec.shape)
