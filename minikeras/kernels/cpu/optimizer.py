"""Optimizer steps on the CPU: compiled loops for float32, else the reference in blocks that stay in cache.

The compiled loops round like the reference, operation by operation: no fast-math, nothing contracted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler import Floats, part, parts_for, share_of_lines
from minikeras.kernels.reference import optimizer as reference
from minikeras.kernels.table import Kernels, absent, contiguous_float32, override

_BLOCK = (
    32768  # Adam's five float32 blocks fill 640 KiB of a 1 MiB L2; half of it was 15 % slower, through call overhead
)

_scratch = threading.local()  # tables whose buffers are one and the same block, by type


def _in_blocks(update: Callable) -> Callable:
    """The same update, block by block: a dozen passes over a block cost less than a dozen over the whole buffer."""

    @wraps(update)
    def blocked(k: Kernels, p: Any, *arguments: Any, **options: Any) -> None:
        kept = _scratch.__dict__
        table = kept.get(p.dtype)
        if table is None:
            block = np.empty(_BLOCK, p.dtype)
            table = kept[p.dtype] = SimpleNamespace(xp=k.xp, empty=lambda shape, dtype: block[: shape[0]])
        for start in range(0, p.size, _BLOCK) if p.size > _BLOCK else (0,):
            part = slice(start, start + _BLOCK)
            cut = {name: _cut(option, part) for name, option in options.items()}
            update(table, p[part], *[_cut(argument, part) for argument in arguments], **cut)

    return blocked


def _cut(argument: Any, part: slice) -> Any:
    return argument[part] if getattr(argument, "ndim", 0) else argument


_updates = reference.adam, reference.decay, reference.ema, reference.rmsprop, reference.sgd, reference.sgd_momentum
for _update in _updates:
    override(_update, "cpu")(_in_blocks(_update))

# Above these stand the compiled loops, in which denormal numbers count as zero.  The settings lie in memory, because
# the rate changes from step to step.  They and every number in a loop have the arrays' own type: one float64 among
# float32 would make it ten times slower.

_FLOAT = np.dtype(np.float32)


@part
def _sgd(part, parts, size, p: Floats, g: Floats, settings: Floats):
    first, end = share_of_lines(part, parts, size)
    rate = settings[0]
    for i in range(first, end):
        p[i] -= g[i] * rate


@part
def _sgd_momentum(part, parts, size, p: Floats, g: Floats, v: Floats, settings: Floats, nesterov):
    first, end = share_of_lines(part, parts, size)
    rate, momentum = settings[0], settings[1]
    if nesterov:
        for i in range(first, end):
            step = g[i] * rate
            velocity = v[i] * momentum - step
            v[i] = velocity
            p[i] = (p[i] - step) + velocity * momentum
    else:
        for i in range(first, end):
            velocity = v[i] * momentum - g[i] * rate
            v[i] = velocity
            p[i] += velocity


@part
def _rmsprop(part, parts, size, p: Floats, g: Floats, v: Floats, settings: Floats):
    first, end = share_of_lines(part, parts, size)
    rate, rho, one_minus_rho, epsilon = settings[0], settings[1], settings[2], settings[3]
    for i in range(first, end):
        gradient = g[i]
        square = v[i] * rho + gradient * gradient * one_minus_rho
        v[i] = square
        p[i] -= gradient / math.sqrt(square + epsilon) * rate


@part
def _adam(part, parts, size, p: Floats, g: Floats, m: Floats, v: Floats, settings: Floats):
    first, end = share_of_lines(part, parts, size)
    alpha, one_minus_beta_1, one_minus_beta_2, epsilon = settings[0], settings[1], settings[2], settings[3]
    for i in range(first, end):
        gradient, mean, square = g[i], m[i], v[i]
        mean += (gradient - mean) * one_minus_beta_1
        square += (gradient * gradient - square) * one_minus_beta_2
        m[i] = mean
        v[i] = square
        p[i] -= mean / (math.sqrt(square) + epsilon) * alpha


@override(reference.sgd, "cpu", when=contiguous_float32("p", "g"))
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    _sgd.run(parts_for(p.size), size=p.size, p=p, g=g, settings=np.array([lr], _FLOAT))


@override(reference.sgd_momentum, "cpu", when=contiguous_float32("p", "g", "v"))
def sgd_momentum(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False, *, scratch: Any = None
) -> None:
    settings = np.array([lr, momentum], _FLOAT)
    _sgd_momentum.run(parts_for(p.size), size=p.size, p=p, g=g, v=v, settings=settings, nesterov=nesterov)


@override(
    reference.rmsprop, "cpu", when=(absent("momentum_buffer", "average_gradient"), contiguous_float32("p", "g", "v"))
)
def rmsprop(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, rho: float, epsilon: float, momentum: float, momentum_buffer: Any,
    average_gradient: Any,
) -> None:  # fmt: skip
    settings = np.array([lr, rho, 1 - rho, epsilon], _FLOAT)
    _rmsprop.run(parts_for(p.size), size=p.size, p=p, g=g, v=v, settings=settings)


@override(reference.adam, "cpu", when=(absent("vhat"), contiguous_float32("p", "g", "m", "v")))
def adam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float, vhat: Any
) -> None:
    settings = np.array([alpha, 1 - beta_1, 1 - beta_2, epsilon], _FLOAT)
    _adam.run(parts_for(p.size), size=p.size, p=p, g=g, m=m, v=v, settings=settings)
