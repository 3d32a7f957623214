"""Optimizer steps on the CPU: compiled loops for float32 (parts.py), else the reference in blocks that stay in cache.

The compiled loops round like the reference, operation by operation: no fast-math, nothing contracted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import shared
from minikeras.kernels.reference import optimizer as reference

_BLOCK = (
    32768  # Adam's five float32 blocks fill 640 KiB of a 1 MiB L2; half of it was 15 % slower, through call overhead
)

_scratch = threading.local()


def _in_blocks(update: Callable) -> Callable:
    """The same update, block by block: a dozen passes over a block cost less than a dozen over the whole buffer."""

    @wraps(update)
    def blocked(p: Any, *arguments: Any, **options: Any) -> None:
        room = _scratch.__dict__.get(p.dtype)
        if room is None:
            room = _scratch.__dict__[p.dtype] = np.empty(_BLOCK, p.dtype)
        if p.size <= _BLOCK:
            update(p, *arguments, scratch=room[: p.size], **options)
            return
        for start in range(0, p.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            piece = p[part]
            update(
                piece,
                *[_cut(argument, part) for argument in arguments],
                scratch=room[: piece.size],
                **{name: _cut(option, part) for name, option in options.items()},
            )

    return blocked


def _cut(argument: Any, part: slice) -> Any:
    return argument[part] if getattr(argument, "ndim", 0) else argument


def _compiled(*arrays: Any) -> bool:
    """Whether the compiled loops take these: contiguous float32.  (Denormal numbers count as zero in them.)"""
    return all([array.dtype.char == "f" and array.flags.c_contiguous for array in arrays])


_sgd_blocks = _in_blocks(reference.sgd)
_sgd_momentum_blocks = _in_blocks(reference.sgd_momentum)
_rmsprop_blocks = _in_blocks(reference.rmsprop)
_adam_blocks = _in_blocks(reference.adam)


def sgd(p: Any, g: Any, lr: Any) -> None:
    """See the reference."""
    if _compiled(p, g):
        shared().sgd(p, g, lr)
    else:
        _sgd_blocks(p, g, lr)


def sgd_momentum(p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False) -> None:
    """See the reference."""
    if _compiled(p, g, v):
        shared().sgd_momentum(p, g, v, lr, momentum, nesterov)
    else:
        _sgd_momentum_blocks(p, g, v, lr, momentum, nesterov)


def rmsprop(
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
    """See the reference."""
    if momentum_buffer is None and average_gradient is None and _compiled(p, g, v):
        shared().rmsprop(p, g, v, lr, rho, 1 - rho, epsilon)
    else:
        _rmsprop_blocks(p, g, v, lr, rho, epsilon, momentum, momentum_buffer, average_gradient)


def adam(
    p: Any, g: Any, m: Any, v: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float, vhat: Any = None
) -> None:
    """See the reference."""
    if vhat is None and _compiled(p, g, m, v):
        shared().adam(p, g, m, v, alpha, 1 - beta_1, 1 - beta_2, epsilon)
    else:
        _adam_blocks(p, g, m, v, alpha, beta_1, beta_2, epsilon, vhat)


OVERRIDES = {
    "adam": adam,
    "decay": _in_blocks(reference.decay),
    "ema": _in_blocks(reference.ema),
    "rmsprop": rmsprop,
    "sgd": sgd,
    "sgd_momentum": sgd_momentum,
}
