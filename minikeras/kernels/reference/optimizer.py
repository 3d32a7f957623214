"""Optimizer steps over one flat buffer of parameters: the formulas of Keras 3, in place.

Unlike other kernels these change arguments: `p` and the state slots, each a 1-D array as long as `p`; the gradient `g`
stays as it is except in `clip_by_value` and `scale`.  Numbers such as `lr` are Python floats or 0-d arrays of `p`'s
type (a NumPy float64 would make a float32 step run in float64).
"""

from __future__ import annotations

from typing import Any

from minikeras.kernels.table import Kernels, kernel


@kernel
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    """`p -= lr * g`."""
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(g, lr, out=t)
    k.xp.subtract(p, t, out=p)


@kernel
def sgd_momentum(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False, *, scratch: Any = None
) -> None:
    """`v = momentum * v - lr * g`, then `p += v`, or with Nesterov `p += momentum * v - lr * g`."""
    xp = k.xp
    t = k.empty(p.shape, p.dtype)
    xp.multiply(g, lr, out=t)
    xp.multiply(v, momentum, out=v)
    xp.subtract(v, t, out=v)
    if nesterov:
        xp.subtract(p, t, out=p)
        xp.multiply(v, momentum, out=t)
        xp.add(p, t, out=p)
    else:
        xp.add(p, v, out=p)


@kernel
def rmsprop(
    k: Kernels,
    p: Any,
    g: Any,
    v: Any,
    lr: Any,
    rho: float,
    epsilon: float,
    momentum: float = 0.0,
    momentum_buffer: Any = None,
    average_gradient: Any = None,
) -> None:
    """RMSprop (Hinton 2012): `v` averages `g**2`, and `p` falls by `lr * g / sqrt(v + epsilon)`.

    Given `average_gradient`, the centered form: the root is of `v - average_gradient**2 + epsilon`.  Given
    `momentum_buffer`, `p` falls by `momentum_buffer = momentum * momentum_buffer + step`.
    """
    xp = k.xp
    t = k.empty(p.shape, p.dtype)
    xp.multiply(g, g, out=t)
    xp.multiply(t, 1 - rho, out=t)
    xp.multiply(v, rho, out=v)
    xp.add(v, t, out=v)
    if average_gradient is None:
        xp.add(v, epsilon, out=t)
    else:
        xp.multiply(average_gradient, rho, out=average_gradient)
        xp.multiply(g, 1 - rho, out=t)
        xp.add(average_gradient, t, out=average_gradient)
        xp.multiply(average_gradient, average_gradient, out=t)
        xp.subtract(v, t, out=t)
        xp.maximum(t, 0, out=t)  # a variance: only rounding makes it negative
        xp.add(t, epsilon, out=t)
    xp.sqrt(t, out=t)
    xp.divide(g, t, out=t)
    xp.multiply(t, lr, out=t)
    if momentum_buffer is not None:
        xp.multiply(momentum_buffer, momentum, out=momentum_buffer)
        xp.add(momentum_buffer, t, out=momentum_buffer)
        t = momentum_buffer
    xp.subtract(p, t, out=p)


@kernel
def adam(
    k: Kernels,
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    alpha: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    vhat: Any = None,
) -> None:
    """Adam (Kingma and Ba 2015): `m` averages `g`, `v` averages `g**2`, and `p -= alpha * m / (sqrt(v) + epsilon)`.

    `alpha` is the bias-corrected rate `lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)`, t = 1 in the first step.  Given
    `vhat`, AMSGrad: the greatest `v` so far stands in the root.
    """
    xp = k.xp
    t = k.empty(p.shape, p.dtype)
    xp.subtract(g, m, out=t)
    xp.multiply(t, 1 - beta_1, out=t)
    xp.add(m, t, out=m)
    xp.multiply(g, g, out=t)
    xp.subtract(t, v, out=t)
    xp.multiply(t, 1 - beta_2, out=t)
    xp.add(v, t, out=v)
    if vhat is not None:
        xp.maximum(vhat, v, out=vhat)
        v = vhat
    xp.sqrt(v, out=t)
    xp.add(t, epsilon, out=t)
    xp.divide(m, t, out=t)
    xp.multiply(t, alpha, out=t)
    xp.subtract(p, t, out=p)


@kernel
def decay(k: Kernels, p: Any, amount: Any) -> None:
    """`p -= p * amount`: decoupled weight decay.

    Not `p *= 1 - amount`: in float32 a small amount would lose most of its digits there.
    """
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(p, amount, out=t)
    k.xp.subtract(p, t, out=p)


@kernel
def ema(k: Kernels, average: Any, p: Any, momentum: float) -> None:
    """`average = momentum * average + (1 - momentum) * p`; changes `average` only."""
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(p, 1 - momentum, out=t)
    k.xp.multiply(average, momentum, out=average)
    k.xp.add(average, t, out=average)


@kernel
def clip_by_value(k: Kernels, g: Any, limit: float) -> None:
    """Bring every value of `g` into [-limit, limit], in place."""
    k.xp.clip(g, -limit, limit, out=g)


@kernel
def scale(k: Kernels, g: Any, factor: Any) -> None:
    """`g *= factor`, in place; `factor` may be a 0-d array on the device."""
    k.xp.multiply(g, factor, out=g)


@kernel
def sum_of_squares(k: Kernels, g: Any) -> Any:
    """The sum of `g**2` as a 0-d array on the device; of float16 values in float32, where it does not overflow."""
    if g.dtype.itemsize < 4:
        g = g.astype("float32")
    return k.xp.asarray(k.xp.dot(g, g))
