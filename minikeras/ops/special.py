"""Special functions, as exact as float64: the error function's complement and inverse, Bessel's and the gamma's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable
from minikeras.ops.common import as_float, elementwise, promote, unbroadcast
from minikeras.ops.elementwise import exp

KERAS_MODULE = "keras.src.ops.math"

_SLOPE = 2 / math.sqrt(math.pi)  # of the error function at 0


def _bell(x: Any) -> Any:
    """`exp(-x**2)` to the last digits: of the square of a large number rounding would leave fewer."""
    coarse = x.astype("float32").astype("float64")
    return k.xp.exp(-coarse * coarse) * k.xp.exp((coarse - x) * (coarse + x))


def _erfc(x: Any) -> Any:
    """The complement by the midpoint rule for its integral, whose error is 7e-18 (Hunter and Regan 1972)."""
    size = k.xp.minimum(k.xp.abs(x), 40)
    total = k.xp.zeros_like(size)
    for n in range(13):
        total += math.exp(-((n + 0.5) ** 2) / 4) / (size * size + (n + 0.5) ** 2 / 4)
    pole = k.xp.where(size < 2 * math.pi, 2 / (k.xp.exp(4 * math.pi * k.xp.minimum(size, 7)) + 1), 0)
    y = size * _bell(size) * total / math.pi + pole
    return k.xp.where(x < 0, 2 - y, y)


@elementwise
def erfc(x: Any) -> Any:
    """`1 - erf(x)`, exact where `erf(x)` is nearly 1.

    >>> from minikeras import ops
    >>> ops.erfc([0.0, 30.0]).numpy().tolist()
    [1.0, 0.0]
    """
    y = _erfc(x.astype("float64")).astype(x.dtype)
    return y, lambda g: g * (k.xp.exp(-x * x) * -_SLOPE)


def _erfinv_gradient(x: Any) -> Any:
    y = erfinv(x)
    return lambda g, needs: (g * (exp(y * y) / _SLOPE),)


@elementwise(gradient=_erfinv_gradient)
def erfinv(x: Any) -> Any:
    """The y of which `erf(y) = x`: Winitzki's approximation (2008), improved by two of Halley's steps.

    >>> from minikeras import ops
    >>> ops.erfinv([0.0, 0.5]).numpy().round(4).tolist()
    [0.0, 0.47690001130104065]
    """
    target = x.astype("float64")
    with np.errstate(all="ignore"):  # the ends are infinities, and beyond them there is nothing
        logarithm = k.xp.log1p(-target * target)
        half = 2 / (math.pi * 0.147) + logarithm / 2
        y = k.xp.copysign(k.xp.sqrt(k.xp.sqrt(half * half - logarithm / 0.147) - half), target)
        for _ in range(2):
            far = k.xp.sign(target) * (1 - k.xp.abs(target) - _erfc(k.xp.abs(y)))
            error = k.xp.where(k.xp.abs(target) > 0.5, far, k.erf(y) - target)
            step = error / (_SLOPE * _bell(y))
            y = y - step / (1 + y * step)
    y = k.xp.where(k.xp.abs(target) == 1, k.xp.copysign(math.inf, target), y).astype(x.dtype)
    return y, lambda g: g * (k.xp.exp(y * y) / _SLOPE)


@elementwise(keras="keras.src.ops.numpy.I0")
def i0(x: Any) -> Any:
    """Bessel's modified function of order 0; its derivative, that of order 1, by the trapezoidal rule for its integral.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.i0([0.0, 1.0]).numpy().round(4).tolist()
    [1.0, 1.2661000490188599]
    """

    def gradient(g: Any) -> Any:
        wide = x.astype("float64")
        total = k.xp.zeros_like(wide)
        for n in range(180):
            total += math.cos(math.pi * (n + 0.5) / 180) * k.xp.exp(wide * math.cos(math.pi * (n + 0.5) / 180))
        return (g * total / 180).astype(x.dtype)

    return k.xp.i0(x.astype("float64")).astype(x.dtype), gradient


# ---------------------------------------------------------------- the incomplete gamma function

_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


def _density(a: Any, x: Any) -> Any:
    """`x**a exp(-x) / gamma(a + 1)`, the gamma function by Stirling's series, which is exact from 8 on."""
    s, product = a, k.xp.ones_like(a)
    for _ in range(8):  # gamma(a + 1) from gamma(a + 9)
        small = s < 8
        s = k.xp.where(small, s + 1, s)
        product = k.xp.where(small, product * s, product)
    series = sum(term / s ** (2 * i + 1) for i, term in enumerate(_STIRLING))
    gap = (x - s) / s
    power = k.xp.where(a < 8, a * k.xp.log(x) - x - s * k.xp.log(s) + s, s * (k.xp.log1p(gap) - gap))
    return product * k.xp.exp(power - series) / k.xp.sqrt(2 * math.pi * s)


@differentiable(shape=shapes.broadcast, keras="")
def gammainc(a: Any, x: Any) -> Any:
    """The regularised lower incomplete gamma function: the integral of `t**(a - 1) exp(-t)` to `x`, over `gamma(a)`.

    Its series where `x < a + 1`, else Legendre's continued fraction (Press et al. 2007, 6.2).

    Args:
        a: positive numbers, at which there is no gradient.
        x: numbers not below 0.

    Raises:
        ValueError: by a gradient at `a`.

    >>> from minikeras import ops
    >>> ops.gammainc(1.0, [0.0, 1.0]).numpy().round(4).tolist()
    [0.0, 0.632099986076355]
    """
    first, second = promote(as_float(a), as_float(x))
    order, upper = k.xp.broadcast_arrays(first.astype("float64"), second.astype("float64"))
    proper = (order > 0) & (upper > 0) & (upper < math.inf)
    order, point = k.xp.where(order > 0, order, 1.0), k.xp.where(proper, upper, 1.0)
    density = _density(order, point)
    by_series = point < order + 1
    count = 60 + int(12 * math.sqrt(float(order.max()))) if point.size else 0  # terms that either needs at most
    inside, outside = k.xp.where(by_series, point, order), k.xp.where(by_series, order + 1, point)
    term = total = k.xp.ones_like(point)
    fraction = k.xp.zeros_like(point)
    for n in range(1, count):
        term = term * (inside / (order + n))
        total = total + term
    for n in range(count, 0, -1):
        fraction = n * (n - order) / (outside + 2 * n + 1 - order - fraction)
    y = k.xp.where(by_series, density * total, 1 - density * order / (outside + 1 - order - fraction))
    y = k.xp.where(proper, y, k.xp.where(upper == 0, 0.0, k.xp.where(upper == math.inf, 1.0, math.nan)))
    y = k.xp.where(first > 0, y, math.nan).astype(first.dtype)

    def vjp(g: Any, needs: Any) -> Any:
        if needs[0]:
            raise ValueError("gammainc has no gradient at its first argument, got one that is watched; stop it there.")
        at_zero = k.xp.where(order < 1, math.inf, order == 1)
        slope = k.xp.where(proper, density * order / point, k.xp.where(upper == 0, at_zero, 0.0))
        return None, unbroadcast((g * slope).astype(g.dtype), x)

    return y, vjp
