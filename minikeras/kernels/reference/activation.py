"""Elementwise activations whose derivative is a function of their own output, and softmax.

Only these can be fused into the kernel that produces their input: the backward pass then needs the output alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as xp  # rebound by kernels.use()

from minikeras.kernels.arena import empty

__all__ = ["FUSED_ACTIVATIONS", "activate", "activate_grad", "log_softmax", "masked_scale", "softmax", "softmax_grad"]

SELU_ALPHA = 1.6732632423543772  # Klambauer et al. 2017, arXiv:1706.02515
SELU_SCALE = 1.0507009873554805
LEAKY_SLOPE = 0.2


def _relu(x: Any, out: Any) -> None:
    xp.maximum(x, 0, out=out)


def _sigmoid(x: Any, out: Any) -> None:
    # tanh form: one transcendental, exact at both ends, never overflows
    xp.multiply(x, 0.5, out=out)
    xp.tanh(out, out=out)
    xp.multiply(out, 0.5, out=out)
    xp.add(out, 0.5, out=out)


def _tanh(x: Any, out: Any) -> None:
    xp.tanh(x, out=out)


def _exponential(x: Any, out: Any) -> None:
    xp.exp(x, out=out)


def _elu(x: Any, out: Any) -> None:
    negative = xp.expm1(xp.minimum(x, 0))
    xp.maximum(x, 0, out=out)
    xp.add(out, negative, out=out)


def _selu(x: Any, out: Any) -> None:
    negative = xp.expm1(xp.minimum(x, 0)) * SELU_ALPHA
    xp.maximum(x, 0, out=out)
    xp.add(out, negative, out=out)
    xp.multiply(out, SELU_SCALE, out=out)


def _softplus(x: Any, out: Any) -> None:
    tail = xp.log1p(xp.exp(-xp.abs(x)))
    xp.maximum(x, 0, out=out)
    xp.add(out, tail, out=out)


def _softsign(x: Any, out: Any) -> None:
    xp.divide(x, xp.abs(x) + 1, out=out)


def _leaky_relu(x: Any, out: Any) -> None:
    scaled = x * LEAKY_SLOPE
    xp.maximum(x, scaled, out=out)


def _hard_sigmoid(x: Any, out: Any) -> None:
    xp.multiply(x, 1 / 6, out=out)
    xp.add(out, 0.5, out=out)
    xp.clip(out, 0, 1, out=out)


def _relu6(x: Any, out: Any) -> None:
    xp.clip(x, 0, 6, out=out)


# name: (y = f(x) into out, gradient at x from (gradient at y, y))
_TABLE: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any, Any], Any]]] = {
    "relu": (_relu, lambda g, y: g * (y > 0)),
    "sigmoid": (_sigmoid, lambda g, y: g * (y * (1 - y))),
    "tanh": (_tanh, lambda g, y: g * (1 - y * y)),
    "exponential": (_exponential, lambda g, y: g * y),
    "elu": (_elu, lambda g, y: g * xp.where(y > 0, xp.ones_like(y), y + 1)),
    "selu": (_selu, lambda g, y: g * xp.where(y > 0, xp.full_like(y, SELU_SCALE), y + SELU_SCALE * SELU_ALPHA)),
    "softplus": (_softplus, lambda g, y: g * -xp.expm1(-y)),
    "softsign": (_softsign, lambda g, y: g * xp.square(1 - xp.abs(y))),
    "leaky_relu": (_leaky_relu, lambda g, y: g * xp.where(y > 0, xp.ones_like(y), xp.full_like(y, LEAKY_SLOPE))),
    "hard_sigmoid": (_hard_sigmoid, lambda g, y: g * (((y > 0) & (y < 1)) * y.dtype.type(1 / 6))),
    "relu6": (_relu6, lambda g, y: g * ((y > 0) & (y < 6))),
}

FUSED_ACTIVATIONS = frozenset(_TABLE)


def activate(x: Any, activation: str | None, out: Any = None) -> Any:
    """`activation(x)`; `out` may be `x` itself.  None is the identity and returns `x`."""
    if activation is None:
        return x
    if out is None:
        out = empty(x.shape, x.dtype)
    _TABLE[activation][0](x, out)
    return out


def activate_grad(g: Any, y: Any, activation: str | None) -> Any:
    """The gradient at the activation's input, from the gradient `g` at its output `y`.  Does not change `g`."""
    return g if activation is None else _TABLE[activation][1](g, y)


def softmax(x: Any, axis: int = -1, out: Any = None) -> Any:
    """`exp(x) / sum(exp(x))` along `axis`, shifted by the maximum so that it cannot overflow."""
    if out is None:
        out = empty(x.shape, x.dtype)
    if x.size == 0:
        return out
    xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
    xp.exp(out, out=out)
    xp.divide(out, out.sum(axis=axis, keepdims=True), out=out)
    return out


def softmax_grad(g: Any, y: Any, axis: int = -1) -> Any:
    """Gradient at softmax's input: `y * (g - sum(g * y))`."""
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """`x - log(sum(exp(x)))` along `axis`."""
    if x.size == 0:
        return empty(x.shape, x.dtype)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


def masked_scale(x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    """`x * mask * scale` with a 0/1 mask (dropout)."""
    if out is None:
        out = empty(x.shape, x.dtype)
    xp.multiply(x, mask, out=out)
    return xp.multiply(out, scale, out=out)
