"""Optimizer steps over one flat buffer of parameters: the formulas of Keras 3, in place.

Unlike other kernels these change arguments: `p` and the state slots, each a 1-D array as long as `p`; the gradient `g`
stays as it is except in those that clip and scale it.  What may change from step to step (`lr`, `alpha`, `amount` and
the like) is a number or lies in memory: an array of one float64 number in the host's, which is read when the kernel
runs.  It is rounded once to `p`'s type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.table import Kernels, kernel


def number(value: Any) -> Any:
    """As Python's, from a number or where one lies (one of NumPy would make a float32 step run in float64)."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim else value


@kernel
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    """`p -= lr * g`."""
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(g, number(lr), out=t)
    k.xp.subtract(p, t, out=p)


@kernel
def sgd_momentum(k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False) -> None:
    """`v = momentum * v - lr * g`, then `p += v`, or with Nesterov `p += momentum * v - lr * g`."""
    xp = k.xp
    t = k.empty(p.shape, p.dtype)
    xp.multiply(g, number(lr), out=t)
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
    xp.multiply(t, number(lr), out=t)
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
    amount: Any = None,
) -> None:
    """Adam (Kingma and Ba 2015): `m` averages `g`, `v` averages `g**2`, and `p -= alpha * m / (sqrt(v) + epsilon)`.

    `alpha` is the bias-corrected rate `lr * sqrt(1 - beta_2**t) / (1 - beta_1**t)`, t = 1 in the first step.  Given
    `vhat`, AMSGrad: the greatest `v` so far stands in the root.  Given `amount`, `p` decays by it first.
    """
    xp = k.xp
    if amount is not None:
        decay(k, p, amount)
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
    xp.multiply(t, number(alpha), out=t)
    xp.subtract(p, t, out=p)


@kernel
def adagrad(k: Kernels, p: Any, g: Any, total: Any, lr: Any, epsilon: float) -> None:
    """Adagrad (Duchi et al. 2011): `total` sums `g**2`, and `p -= lr * g / sqrt(total + epsilon)`."""
    total += g * g
    p -= g * number(lr) / k.xp.sqrt(total + epsilon)


@kernel
def adadelta(k: Kernels, p: Any, g: Any, squares: Any, steps: Any, lr: Any, rho: float, epsilon: float) -> None:
    """Adadelta (Zeiler 2012): `squares` averages `g**2`, and `steps` the squares of the steps before `lr`."""
    squares *= rho
    squares += g * g * (1 - rho)
    step = g * k.xp.sqrt(steps + epsilon) / k.xp.sqrt(squares + epsilon)
    steps *= rho
    steps += step * step * (1 - rho)
    p -= step * number(lr)


@kernel
def adamax(
    k: Kernels, p: Any, g: Any, m: Any, norm: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float
) -> None:
    """Adamax (Kingma and Ba 2015): `norm = max(beta_2 * norm, |g|)`, and `p -= alpha * m / (norm + epsilon)`.

    `alpha` is `lr / (1 - beta_1**t)`.
    """
    m += (g - m) * (1 - beta_1)
    k.xp.maximum(norm * beta_2, k.xp.abs(g), out=norm)
    p -= m * number(alpha) / (norm + epsilon)


@kernel
def nadam(
    k: Kernels,
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    lr: Any,
    of_mean: Any,
    of_gradient: Any,
    correction: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Nadam (Dozat 2016): Adam's averages, and `p -= lr * mean / (sqrt(v / correction) + epsilon)`.

    There `mean = of_mean * m + of_gradient * g`, factors that follow from the shares of momentum, and `correction` is
    `1 - beta_2**t`.
    """
    m += (g - m) * (1 - beta_1)
    v += (g * g - v) * (1 - beta_2)
    mean = m * number(of_mean) + g * number(of_gradient)
    p -= mean * number(lr) / (k.xp.sqrt(v / number(correction)) + epsilon)


@kernel
def lion(k: Kernels, p: Any, g: Any, m: Any, lr: Any, beta_1: float, beta_2: float) -> None:
    """Lion (Chen et al. 2023): `p -= lr * sign(beta_1 * m + (1 - beta_1) * g)`; then `m` averages `g` by `beta_2`."""
    p -= k.xp.sign(m * beta_1 + g * (1 - beta_1)) * number(lr)
    m *= beta_2
    m += g * (1 - beta_2)


@kernel
def ftrl(
    k: Kernels,
    p: Any,
    g: Any,
    total: Any,
    linear: Any,
    lr: Any,
    power: float,
    l1: float,
    l2: float,
    shrinkage: float,
    beta: float,
) -> None:
    """FTRL-Proximal (McMahan et al. 2013): `total` sums `g**2`; `p` is the least point of what `linear` describes.

    Steps shrink with `total**power`.  A rate of 0 changes nothing: the limit of steps of the formula, which divides by
    it.
    """
    lr = number(lr)
    if lr == 0:
        return
    before = total**power
    total += g * g
    after = total**power
    linear += g + 2 * shrinkage * p - (after - before) / lr * p
    p[...] = (k.xp.clip(linear, -l1, l1) - linear) / ((after + beta) / lr + 2 * l2)


@kernel
def lamb(
    k: Kernels,
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    lr: Any,
    correction_1: Any,
    correction_2: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """LAMB (You et al. 2020) for one weight: Adam's step, as long as `lr` times the weight.

    The corrections are `1 - beta_1**t` and `1 - beta_2**t`.  Where weight or step are 0 (or NaN) the step is Adam's.
    """
    xp = k.xp
    m += (g - m) * (1 - beta_1)
    v += (g * g - v) * (1 - beta_2)
    update = m / number(correction_1) / (xp.sqrt(v / number(correction_2)) + epsilon)
    size, length = (xp.sqrt(k.sum_of_squares(x.reshape(-1))) for x in (p, update))
    ratio = xp.where((size > 0) & (length > 0), size / xp.where(length > 0, length, 1), 1)
    p -= update * (ratio * number(lr)).astype(p.dtype)


@kernel
def adafactor(
    k: Kernels,
    p: Any,
    g: Any,
    rows: Any,
    columns: Any,
    v: Any,
    lr: Any,
    new: Any,
    epsilon_1: float,
    epsilon_2: float,
    threshold: float,
) -> None:
    """Adafactor (Shazeer and Stern 2018) for one weight, whose mean squares are those of its rows and columns.

    `new` is the share of the new squares in the means.  A vector has means of its own in `v`, and `rows` and `columns`
    are not used.
    """
    xp, lr, new = k.xp, number(lr), number(new)
    squares = g * g + epsilon_1
    if p.ndim > 1:
        rows += (squares.mean(axis=-1) - rows) * new
        columns += (squares.mean(axis=-2) - columns) * new
        v[...] = (rows / rows.mean(axis=-1, keepdims=True))[..., None] * columns[..., None, :]
    else:
        v += (squares - v) * new
    update = g / xp.sqrt(v)
    size, length = (xp.sqrt((x * x).mean()) for x in (p, update))
    factor = xp.maximum(size, epsilon_2) / xp.maximum(length / threshold, 1)
    p -= update * (factor * lr).astype(p.dtype)


@kernel
def decay(k: Kernels, p: Any, amount: Any) -> None:
    """`p -= p * amount`: decoupled weight decay.

    Not `p *= 1 - amount`: in float32 a small amount would lose most of its digits there.
    """
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(p, number(amount), out=t)
    k.xp.subtract(p, t, out=p)


@kernel
def ema(k: Kernels, average: Any, p: Any, momentum: Any) -> None:
    """`average = momentum * average + (1 - momentum) * p`; changes `average` only."""
    momentum = number(momentum)
    t = k.empty(p.shape, p.dtype)
    k.xp.multiply(p, 1 - momentum, out=t)
    k.xp.multiply(average, momentum, out=average)
    k.xp.add(average, t, out=average)


@kernel
def add_up(k: Kernels, total: Any, g: Any) -> None:
    """`total += g`: of gradients that are accumulated."""
    k.xp.add(total, g, out=total)


@kernel
def take_mean(k: Kernels, total: Any, count: int, out: Any) -> None:
    """`out = total / count`, and 0 in `total`: the mean of gradients that were added up over so many steps."""
    k.xp.divide(total, count, out=out)
    total.fill(0)


@kernel
def clip_by_value(k: Kernels, g: Any, limit: float) -> None:
    """Bring every value of `g` into [-limit, limit], in place."""
    k.xp.clip(g, -limit, limit, out=g)


@kernel
def scale(k: Kernels, g: Any, factor: Any) -> None:
    """`g *= factor`, in place; `factor` may be a 0-d array on the device."""
    k.xp.multiply(g, number(factor), out=g)


@kernel
def all_finite(k: Kernels, arrays: Sequence[Any], out: Any) -> bool:
    """Whether all numbers of some arrays are finite; `out`, a float64 in the host's memory, is then 1, else 0."""
    out[...] = not arrays or bool(k.xp.stack([k.xp.isfinite(g).all() for g in arrays]).all())
    return bool(out)


@kernel
def clip_by_norm(k: Kernels, arrays: Sequence[Any], limit: float, together: bool = True) -> None:
    """Scale arrays down, in place, so that the Euclidean norm of all `together`, or of each one, is at most `limit`.

    A norm that is not finite makes NaN of all numbers together, where it would make 0 of those that are finite; alone,
    an infinite one does that.
    """
    xp = k.xp
    for group in (arrays,) if together else zip(arrays, strict=True):
        norm = xp.sqrt(sum(k.sum_of_squares(g.reshape(-1)) for g in group))
        factor = limit / xp.maximum(norm, limit)
        if together:
            factor = xp.where(xp.isfinite(norm), factor, xp.nan)
        for g in group:
            k.scale(g, factor)


@kernel
def sum_of_squares(k: Kernels, g: Any) -> Any:
    """The sum of `g**2` as a 0-d array on the device; of float16 values in float32, where it does not overflow."""
    if g.dtype.itemsize < 4:
        g = g.astype("float32")
    return k.xp.asarray(k.xp.dot(g, g))


@kernel
def limit_norms(
    k: Kernels,
    w: Any,
    axis: Any,
    least: float,
    most: float,
    rate: float,
    epsilon: float,
    unit: bool = False,
    out: Any = None,
) -> Any:
    """The vectors along one axis, a list of axes or all (None), with norms from `least` to `most`.

    `w * (wanted / (norm + epsilon))`, where `wanted = rate * clip(norm, least, most) + (1 - rate) * norm`; `unit`:
    `w / (norm + epsilon)`.  `out` may be `w`.
    """
    xp = k.xp
    norms = xp.sqrt((w * w).sum(axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=True))
    if unit:
        return xp.divide(w, norms + epsilon, out=out)
    wanted = xp.clip(norms, least, most)
    if rate != 1:
        wanted = rate * wanted + (1 - rate) * norms
    return xp.multiply(w, wanted / (norms + epsilon), out=out)


@kernel
def without_negative(k: Kernels, w: Any, out: Any = None) -> Any:
    """The array with 0 in the place of what is negative; `out` may be `w`."""
    return k.xp.maximum(w, 0, out=out)
