"""Elementwise functions: activations, of which some can be fused, other curves, and what is along an axis.

Where the derivative is a function of the output, an activation can be fused into the kernel that produces its input:
the backward pass then needs the output alone.  All others are *curves*, whose derivative is one of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minikeras.kernels.table import Kernels, kernel

SELU_ALPHA = 1.6732632423543772  # Klambauer et al. 2017, arXiv:1706.02515
SELU_SCALE = 1.0507009873554805
LEAKY_SLOPE = 0.2


def _sigmoid(xp: Any, x: Any, out: Any) -> None:
    # 1 / (1 + e) or e / (1 + e): never overflows, and small values keep their digits
    small = xp.exp(-xp.abs(x))
    xp.divide(xp.where(x < 0, small, 1), small + 1, out=out)


def _elu(xp: Any, x: Any, out: Any) -> None:
    negative = xp.expm1(xp.minimum(x, 0))
    xp.maximum(x, 0, out=out)
    xp.add(out, negative, out=out)


def _selu(xp: Any, x: Any, out: Any) -> None:
    negative = xp.expm1(xp.minimum(x, 0)) * SELU_ALPHA
    xp.maximum(x, 0, out=out)
    xp.add(out, negative, out=out)
    xp.multiply(out, SELU_SCALE, out=out)


def _softplus(xp: Any, x: Any, out: Any) -> None:
    tail = xp.log1p(xp.exp(-xp.abs(x)))
    xp.maximum(x, 0, out=out)
    xp.add(out, tail, out=out)


def _log_sigmoid(xp: Any, x: Any, out: Any) -> None:
    tail = xp.log1p(xp.exp(-xp.abs(x)))
    xp.minimum(x, 0, out=out)
    xp.subtract(out, tail, out=out)


def _softsign(xp: Any, x: Any, out: Any) -> None:
    xp.divide(x, xp.abs(x) + 1, out=out)


def _leaky_relu(xp: Any, x: Any, out: Any) -> None:
    scaled = x * LEAKY_SLOPE
    xp.maximum(x, scaled, out=out)


def _hard_sigmoid(xp: Any, x: Any, out: Any) -> None:
    xp.multiply(x, 1 / 6, out=out)
    xp.add(out, 0.5, out=out)
    xp.clip(out, 0, 1, out=out)


def _keras2_hard_sigmoid(xp: Any, x: Any, out: Any) -> None:
    xp.multiply(x, 0.2, out=out)
    xp.add(out, 0.5, out=out)
    xp.clip(out, 0, 1, out=out)


# name: (y = f(x) into out, gradient at x from (gradient at y, y)), each with the array module before its arguments
_TABLE: dict[str, tuple[Callable[[Any, Any, Any], Any], Callable[[Any, Any, Any], Any]]] = {
    "relu": (lambda xp, x, out: xp.maximum(x, 0, out=out), lambda xp, g, y: g * (y > 0)),
    "sigmoid": (_sigmoid, lambda xp, g, y: g * (y * (1 - y))),
    "tanh": (lambda xp, x, out: xp.tanh(x, out=out), lambda xp, g, y: g * ((1 - y) * (1 + y))),
    "exponential": (lambda xp, x, out: xp.exp(x, out=out), lambda xp, g, y: g * y),
    "elu": (_elu, lambda xp, g, y: g * xp.where(y > 0, xp.ones_like(y), y + 1)),
    "selu": (_selu, lambda xp, g, y: g * xp.where(y > 0, xp.full_like(y, SELU_SCALE), y + SELU_SCALE * SELU_ALPHA)),
    "softplus": (_softplus, lambda xp, g, y: g * -xp.expm1(-y)),
    "log_sigmoid": (_log_sigmoid, lambda xp, g, y: g * -xp.expm1(y)),
    "softsign": (_softsign, lambda xp, g, y: g * xp.square(1 - xp.abs(y))),
    "leaky_relu": (_leaky_relu, lambda xp, g, y: g * xp.where(y > 0, xp.ones_like(y), xp.full_like(y, LEAKY_SLOPE))),
    "hard_sigmoid": (_hard_sigmoid, lambda xp, g, y: g * (((y > 0) & (y < 1)) * y.dtype.type(1 / 6))),
    "keras2_hard_sigmoid": (_keras2_hard_sigmoid, lambda xp, g, y: g * (((y > 0) & (y < 1)) * y.dtype.type(0.2))),
    "relu6": (lambda xp, x, out: xp.clip(x, 0, 6, out=out), lambda xp, g, y: g * ((y > 0) & (y < 6))),
}

FUSED_ACTIVATIONS = _TABLE.keys()


def fused_activation(
    name: str, forward: Callable[[Any, Any, Any], Any], gradient: Callable[[Any, Any, Any], Any]
) -> None:
    """Let every kernel that ends with an activation know another one; see `minikeras.activations.fused`.

    Args:
        name: what the kernels' argument `activation` calls it.
        forward: `forward(xp, x, out)` writes the activation of `x` into `out`, which may be `x` itself.
        gradient: `gradient(xp, g, y)` is the gradient at the input, from that at the output `y`.
    """
    _TABLE[name] = forward, gradient


@kernel
def activate(k: Kernels, x: Any, activation: str | None, out: Any = None) -> Any:
    """`activation(x)`; `out` may be `x` itself.  None is the identity and returns `x`."""
    if activation is None:
        return x
    out = k.empty(x.shape, x.dtype) if out is None else out
    _TABLE[activation][0](k.xp, x, out)
    return out


@kernel
def activate_grad(k: Kernels, g: Any, y: Any, activation: str | None) -> Any:
    """The gradient at the activation's input, from the gradient `g` at its output `y`.  Does not change `g`."""
    return g if activation is None else _TABLE[activation][1](k.xp, g, y)


# ---- curves ----------------------------------------------------------------------------------------------------------


def _gelu(k: Kernels, x: Any) -> Any:
    cumulative = 0.5 * (1 + k.erf(x * math.sqrt(0.5)))
    return x * cumulative, lambda: cumulative + x * (k.xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))


GELU_SCALE, GELU_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(k: Kernels, x: Any) -> Any:
    """With `1 + tanh(u / 2)` as twice the logistic function of u, which keeps its digits where it is small."""
    squared = x * x
    s = k.activate(x * (GELU_SCALE * (1 + GELU_CUBE * squared)), "sigmoid")
    return x * s, lambda: s + x * s * (1 - s) * (GELU_SCALE * (1 + 3 * GELU_CUBE * squared))


def _silu(k: Kernels, x: Any) -> Any:
    s = k.activate(x, "sigmoid")
    return x * s, lambda: s * (1 + x * (1 - s))


def _mish(k: Kernels, x: Any) -> Any:
    """With `e = exp(x)` is `tanh(log(1 + e)) = (e² + 2e) / (e² + 2e + 2)`, which beyond 20 is 1 in float64 too."""
    e = k.xp.exp(k.xp.minimum(x, 20))
    both = e * (e + 2)
    t = both / (both + 2)
    return x * t, lambda: t + x * (4 * e / (both + 2) * ((1 + e) / (both + 2)))


def _hard_silu(k: Kernels, x: Any) -> Any:
    s = k.activate(x, "hard_sigmoid")
    return x * s, lambda: s + x * k.activate_grad(k.xp.ones_like(x), s, "hard_sigmoid")


def _elu_of(k: Kernels, x: Any, alpha: float) -> Any:
    less = k.xp.minimum(x, 0)
    return k.xp.where(x > 0, x, alpha * k.xp.expm1(less)), lambda: k.xp.where(x > 0, 1, alpha * k.xp.exp(less))


def _celu(k: Kernels, x: Any, alpha: float) -> Any:
    less = k.xp.minimum(x, 0) / alpha
    return k.xp.where(x > 0, x, alpha * k.xp.expm1(less)), lambda: k.xp.where(x > 0, 1, k.xp.exp(less))


def _clip(k: Kernels, x: Any, low: float, high: float) -> Any:
    """On the limits themselves the slope is a half."""
    half = lambda condition: 0.5 * condition.astype(x.dtype)
    return (
        k.xp.minimum(k.xp.maximum(x, low), high),
        lambda: (half(x > low) + half(x >= low)) * (half(x < high) + half(x <= high)),
    )


def _hard_tanh(k: Kernels, x: Any) -> Any:
    return _clip(k, x, -1.0, 1.0)


def _hard_shrink(k: Kernels, x: Any, threshold: float) -> Any:
    far = k.xp.abs(x) > threshold
    return k.xp.where(far, x, 0), lambda: far.astype(x.dtype)


def _soft_shrink(k: Kernels, x: Any, threshold: float) -> Any:
    near, slope = _clip(k, x, -threshold, threshold)
    return x - near, lambda: 1 - slope()


def _tanh_shrink(k: Kernels, x: Any) -> Any:
    t = k.activate(x, "tanh")
    return x - t, lambda: t * t


def _threshold(k: Kernels, x: Any, threshold: float, default_value: float) -> Any:
    above = x > threshold
    return k.xp.where(above, x, default_value), lambda: above.astype(x.dtype)


def _squareplus(k: Kernels, x: Any, b: float) -> Any:
    root = k.xp.sqrt(x * x + b)
    y = k.xp.where(x < 0, 0.5 * b / (root - k.xp.minimum(x, 0)), 0.5 * (x + root))  # below 0 a difference loses digits
    return y, lambda: y / root


def _sparse_plus(k: Kernels, x: Any) -> Any:
    where, inside = k.xp.where, x + 1
    y = where(x <= -1, 0, where(x < 1, 0.25 * inside * inside, x))
    return y, lambda: where(x <= -1, 0, where(x < 1, 0.5 * inside, 1)).astype(x.dtype)


def _sparse_sigmoid(k: Kernels, x: Any) -> Any:
    y, slope = _clip(k, x, -1.0, 1.0)
    return 0.5 * (y + 1), lambda: 0.5 * slope()


# name: (k, x, settings) -> (y, what computes the derivative at x)
_CURVES: dict[str, Callable[..., tuple[Any, Callable[[], Any]]]] = {
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
    "expm1": lambda k, x: (k.xp.expm1(x), lambda: k.xp.exp(x)),
    "log": lambda k, x: (k.xp.log(x), lambda: 1 / x),
    "log1p": lambda k, x: (k.xp.log1p(x), lambda: 1 / (x + 1)),
    "erf": lambda k, x: (k.erf(x), lambda: k.xp.exp(-x * x) * (2 / math.sqrt(math.pi))),
}


@kernel
def curve(k: Kernels, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    """The elementwise function of that name, with the numbers that it takes."""
    return _CURVES[name](k, x, *settings)[0].astype(x.dtype, copy=False)


@kernel
def curve_grad(k: Kernels, g: Any, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    """The gradient at the input `x` of a `curve`, from the gradient `g` at its output."""
    return g * _CURVES[name](k, x, *settings)[1]()


# ---- straight lines --------------------------------------------------------------------------------------------------


def _into(out: Any, values: Any) -> Any:
    if out is None:
        return values
    out[...] = values
    return out


@kernel
def piecewise_relu(
    k: Kernels, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    """`x` above the threshold, `slope * (x - threshold)` up to it; at most the limit, if there is one."""
    below = slope * (x - threshold) if slope else 0  # no slope meets an infinity
    y = k.xp.where(x <= threshold, below, x)  # NaN stays NaN
    return _into(out, y if limit is None else k.xp.minimum(y, limit))


@kernel
def piecewise_relu_grad(
    k: Kernels, g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    """Backward of `piecewise_relu` at its input `x`: 0 at the limit and above, `slope * g` up to the threshold."""
    g_x = k.xp.where(x > threshold, g, slope * g if slope else 0)
    if limit is not None:
        g_x = k.xp.where(k.piecewise_relu(x, slope, None, threshold) >= limit, 0, g_x)
    return _into(out, g_x)


@kernel
def softmax(k: Kernels, x: Any, axis: int = -1, out: Any = None) -> Any:
    """`exp(x) / sum(exp(x))` along `axis`, shifted by the maximum so that it cannot overflow."""
    out = k.empty(x.shape, x.dtype) if out is None else out
    if x.size == 0:
        return out
    k.xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
    k.xp.exp(out, out=out)
    k.xp.divide(out, out.sum(axis=axis, keepdims=True), out=out)
    return out


@kernel
def softmax_grad(k: Kernels, g: Any, y: Any, axis: int = -1) -> Any:
    """Gradient at softmax's input: `y * (g - sum(g * y))`."""
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


@kernel
def log_softmax_grad(k: Kernels, g: Any, y: Any, axis: Any = -1) -> Any:
    """Gradient at log_softmax's input: `g - exp(y) * sum(g)`."""
    return g - k.xp.exp(y) * g.sum(axis=axis, keepdims=True)


@kernel
def glu(k: Kernels, x: Any, axis: int = -1) -> Any:
    """One half of `x` along an axis times the logistic function of the other (Dauphin et al. 2016)."""
    values, gates = k.xp.split(x, 2, axis)
    return values * k.activate(gates, "sigmoid")


@kernel
def glu_grad(k: Kernels, g: Any, x: Any, axis: int = -1) -> Any:
    """Backward of `glu` at its input."""
    values, gates = k.xp.split(x, 2, axis)
    s = k.activate(gates, "sigmoid")
    return k.concatenate([g * s, g * (values * (s * (1 - s)))], axis % x.ndim)


@kernel
def log_softmax(k: Kernels, x: Any, axis: int = -1) -> Any:
    """`x - log(sum(exp(x)))` along `axis`."""
    if x.size == 0:
        return k.empty(x.shape, x.dtype)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - k.xp.log(k.xp.exp(shifted).sum(axis=axis, keepdims=True))


@kernel
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    """`x * mask * scale` with a 0/1 mask (dropout)."""
    out = k.empty(x.shape, x.dtype) if out is None else out
    k.xp.multiply(x, mask, out=out)
    return k.xp.multiply(out, scale, out=out)


# Coefficients of rational functions, highest power first: W. J. Cody, "Rational Chebyshev approximations for the
# error function", Mathematics of Computation 23 (1969)
_ERF_NUMERATOR = (
    0.185777706184603153, 3.16112374387056560, 113.864154151050156, 377.485237685302021, 3209.37758913846947
)  # fmt: skip
_ERF_DENOMINATOR = (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062)
_ERFC_NUMERATOR = (
    2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295, 298.635138197400131,
    881.952221241769090, 1712.04761263407058, 2051.07837782607147, 1230.33935479799725,
)  # fmt: skip
_ERFC_DENOMINATOR = (
    1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019, 3290.79923573345963,
    4362.61909014324716, 3439.36767414372164, 1230.33935480374942,
)  # fmt: skip


@kernel
def erf(k: Kernels, x: Any) -> Any:
    """The error function, to the last digits of float64 and to 2e-7 in float32.

    `x P(x^2) / Q(x^2)` up to 0.46875 and `1 - exp(-x^2) P(x) / Q(x)` beyond; the latter was made for magnitudes up to
    4, above which its error vanishes beside 1.
    """
    xp = k.xp
    if x.dtype.itemsize < 4:  # the polynomials overflow in float16
        return k.erf(x.astype("float32")).astype(x.dtype)
    magnitude = xp.minimum(xp.abs(x), 6)
    squared = xp.square(xp.minimum(magnitude, 0.46875))
    near = x * (_polynomial(_ERF_NUMERATOR, squared) / _polynomial(_ERF_DENOMINATOR, squared))
    tail = _polynomial(_ERFC_NUMERATOR, magnitude) / _polynomial(_ERFC_DENOMINATOR, magnitude)
    far = xp.copysign(1 - xp.exp(-xp.square(magnitude)) * tail, x)
    return xp.where(magnitude <= 0.46875, near, far)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value
