"""Activations: elementwise, and softmax."""

from __future__ import annotations

import math
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import differentiable
from minikeras.autodiff.tensor import Tensor
from minikeras.ops.common import as_float, axes_of
from minikeras.tracebacks import end_at_users_line

__all__ = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swish",
]


@differentiable
def activation(x: Any, *, name: str) -> Any:
    """An elementwise activation of `kernels.FUSED_ACTIVATIONS` by name."""
    x = as_float(x)
    y = k.activate(x, name)
    return y, lambda g, needs: (k.activate_grad(g, y, name),)


activation.graph_name = lambda settings: {"exponential": "exp"}.get(settings["name"], settings["name"])  # type: ignore[attr-defined]


def relu(x: Any) -> Any:
    """`max(x, 0)`."""
    return activation(x, name="relu")


def relu6(x: Any) -> Any:
    """`min(max(x, 0), 6)`."""
    return activation(x, name="relu6")


def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`."""
    y = activation(x, name="sigmoid")
    if isinstance(y, Tensor) and isinstance(x, Tensor):
        y.logits = ("sigmoid", x)
    return y


def softplus(x: Any) -> Any:
    """`log(1 + exp(x))`."""
    return activation(x, name="softplus")


def softsign(x: Any) -> Any:
    """`x / (1 + |x|)`."""
    return activation(x, name="softsign")


def selu(x: Any) -> Any:
    """Scaled exponential linear unit (Klambauer et al. 2017)."""
    return activation(x, name="selu")


def hard_sigmoid(x: Any) -> Any:
    """`clip(x / 6 + 1/2, 0, 1)`."""
    return activation(x, name="hard_sigmoid")


def _require_number(function: str, **setting: Any) -> None:
    """Refuse a tensor as a setting: its gradient would be lost."""
    for name, value in setting.items():
        if isinstance(value, (Tensor, KerasTensor)):
            raise TypeError(
                f"{function} takes a number as {name}, got a tensor of shape {tuple(value.shape)}, whose gradient "
                "would be lost; for a slope that is learned use layers.PReLU or compose it of minikeras.ops."
            )


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """`x` where positive, else `negative_slope * x`."""
    _require_number("leaky_relu", negative_slope=negative_slope)
    if negative_slope == 0.2:
        return activation(x, name="leaky_relu")
    return piecewise_relu(x, negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x) - 1)`."""
    _require_number("elu", alpha=alpha)
    return activation(x, name="elu") if alpha == 1.0 else _elu(x, alpha=float(alpha))


@differentiable
def _elu(x: Any, *, alpha: float) -> Any:
    x = as_float(x)
    y = k.xp.where(x > 0, x, alpha * k.xp.expm1(k.xp.minimum(x, 0)))
    return y, lambda g, needs: (g * k.xp.where(x > 0, k.xp.ones_like(x), y + alpha),)


@differentiable(inputs=1)
def celu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x / alpha) - 1)`."""
    _require_number("celu", alpha=alpha)
    x, alpha = as_float(x), float(alpha)
    y = k.xp.where(x > 0, x, alpha * k.xp.expm1(k.xp.minimum(x, 0) / alpha))
    return y, lambda g, needs: (g * k.xp.where(x > 0, k.xp.ones_like(x), y / alpha + 1),)


@differentiable
def piecewise_relu(
    x: Any, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """`max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below."""
    x = as_float(x)
    y = k.piecewise_relu(x, negative_slope, max_value, threshold)
    return y, lambda g, needs: (k.piecewise_relu_grad(g, x, negative_slope, max_value, threshold),)


piecewise_relu.graph_name = "re_lu"  # type: ignore[attr-defined]


@differentiable
def silu(x: Any) -> Any:
    """`x * sigmoid(x)`."""
    x = as_float(x)
    s = k.activate(x, "sigmoid")
    return x * s, lambda g, needs: (g * (s * (1 + x * (1 - s))),)


swish = silu


@differentiable
def _gelu(x: Any, *, approximate: bool) -> Any:
    x = as_float(x)
    if approximate:
        scale = math.sqrt(2 / math.pi)
        t = k.xp.tanh(scale * (x + 0.044715 * x * x * x))
        slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (scale * (1 + 3 * 0.044715 * x * x))
        return 0.5 * x * (1 + t), lambda g, needs: (g * slope,)
    cumulative = 0.5 * (1 + k.erf(x * math.sqrt(0.5)))
    density = k.xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return x * cumulative, lambda g, needs: (g * (cumulative + x * density),)


def gelu(x: Any, approximate: bool = True) -> Any:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016); the tanh form where `approximate`."""
    try:
        return _gelu(x, approximate=approximate)
    except BaseException as error:
        end_at_users_line(error)
        raise


@differentiable
def hard_silu(x: Any) -> Any:
    """`x * hard_sigmoid(x)`."""
    x = as_float(x)
    s = k.activate(x, "hard_sigmoid")
    return x * s, lambda g, needs: (g * (s + x * k.activate_grad(k.xp.ones_like(x), s, "hard_sigmoid")),)


hard_swish = hard_silu


@differentiable
def log_sigmoid(x: Any) -> Any:
    """`log(sigmoid(x))`, without overflow."""
    x = as_float(x)
    y = -k.activate(-x, "softplus")
    return y, lambda g, needs: (g * -k.xp.expm1(y),)


@differentiable
def _softmax(x: Any, *, axis: Any) -> Any:
    y = k.softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (k.softmax_grad(g, y, axis=axis),)


def softmax(x: Any, axis: Any = -1) -> Any:
    """`exp(x) / sum(exp(x))` along `axis` (an axis or several)."""
    try:
        y = _softmax(x, axis=axes_of(axis))
        if isinstance(y, Tensor) and isinstance(x, Tensor) and axis in (-1, x.ndim - 1):
            y.logits = ("softmax", x)
        return y
    except BaseException as error:
        end_at_users_line(error)
        raise


@differentiable
def _log_softmax(x: Any, *, axis: Any) -> Any:
    y = k.log_softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (g - k.xp.exp(y) * g.sum(axis=axis, keepdims=True),)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """`log(softmax(x))` along `axis` (an axis or several), without overflow."""
    try:
        return _log_softmax(x, axis=axes_of(axis))
    except BaseException as error:
        end_at_users_line(error)
        raise
