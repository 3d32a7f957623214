"""Optimizer steps on the CPU: compiled loops for float32 (parts.py), else the reference in blocks that stay in cache.

The compiled loops round like the reference, operation by operation: no fast-math, nothing contracted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import lazy
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
            room = np.empty(_BLOCK, p.dtype)
            table = kept[p.dtype] = SimpleNamespace(xp=k.xp, empty=lambda shape, dtype: room[: shape[0]])
        for start in range(0, p.size, _BLOCK) if p.size > _BLOCK else (0,):
            part = slice(start, start + _BLOCK)
            cut = {name: _cut(option, part) for name, option in options.items()}
            update(table, p[part], *[_cut(argument, part) for argument in arguments], **cut)

    return blocked


def _cut(argument: Any, part: slice) -> Any:
    return argument[part] if getattr(argument, "ndim", 0) else argument


for _update in (
    reference.adam,
    reference.decay,
    reference.ema,
    reference.rmsprop,
    reference.sgd,
    reference.sgd_momentum,
):
    override(_update, "cpu")(_in_blocks(_update))

# Above these stand the compiled loops, in which denormal numbers count as zero.


@override(reference.sgd, "cpu", when=contiguous_float32("p", "g"))
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    lazy("parts").sgd(p, g, lr)


@override(reference.sgd_momentum, "cpu", when=contiguous_float32("p", "g", "v"))
def sgd_momentum(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False, *, scratch: Any = None
) -> None:
    lazy("parts").sgd_momentum(p, g, v, lr, momentum, nesterov)


@override(
    reference.rmsprop, "cpu", when=(absent("momentum_buffer", "average_gradient"), contiguous_float32("p", "g", "v"))
)
def rmsprop(
    k: Kernels,
    p: Any,
    g: Any,
    v: Any,
    lr: Any,
    rho: float,
    epsilon: float,
    momentum: float,
    momentum_buffer: Any,
    average_gradient: Any,
) -> None:
    lazy("parts").rmsprop(p, g, v, lr, rho, 1 - rho, epsilon)


@override(reference.adam, "cpu", when=(absent("vhat"), contiguous_float32("p", "g", "m", "v")))
def adam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float, vhat: Any
) -> None:
    lazy("parts").adam(p, g, m, v, alpha, 1 - beta_1, 1 - beta_2, epsilon)
