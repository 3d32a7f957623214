"""Penalties on weights."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.table import Kernels, kernel


@kernel
def penalty(k: Kernels, x: Any, l1: float, l2: float) -> Any:
    """`l1 * sum(|x|) + l2 * sum(x**2)`, without axes."""
    total = k.xp.zeros((), x.dtype)
    if l1:
        total = total + l1 * k.xp.abs(x).sum()
    if l2:
        total = total + l2 * k.xp.vdot(x, x)
    return total


@kernel
def penalty_grad(k: Kernels, g: Any, x: Any, l1: float, l2: float, out: Any = None) -> Any:
    """The gradient of `penalty`, from the one at its result."""
    gradient = x * (g * (2 * l2))
    if l1:
        gradient = gradient + k.xp.sign(x) * (g * l1)
    if out is None:
        return gradient
    out[...] = gradient
    return out
