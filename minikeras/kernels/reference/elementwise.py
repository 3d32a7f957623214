"""Elementwise arithmetic: of two operands that broadcast, of one, and choices; rounded as the array module rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikeras.kernels.table import Kernels, kernel


@kernel
def combine(k: Kernels, x1: Any, x2: Any, name: str, out: Any = None) -> Any:
    """`"add"`, `"subtract"`, `"multiply"`, `"divide"`, `"maximum"` or `"minimum"` of arrays or numbers."""
    return getattr(k.xp, name)(x1, x2, out=out)


@kernel
def spread(k: Kernels, x: Any, shape: tuple[int, ...], dtype: Any, out: Any = None) -> Any:
    """A copy of an array, of a type and repeated to a shape, as it broadcasts."""
    out = k.empty(shape, dtype) if out is None else out
    out[...] = x
    return out


@kernel
def larger_grad(k: Kernels, g: Any, x1: Any, x2: Any) -> Any:
    """The gradient at `x1` of the larger one of two, from that at the result: `g`, half of it at a tie, else 0."""
    return g * ((x1 > x2).astype(g.dtype) + (x1 == x2).astype(g.dtype) * 0.5)


# name: (function of the array module and x, gradient at x from it, g, and x or, where it is made of that, the result)
_ONE: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], Any]]] = {
    "negative": (lambda xp, x: xp.negative(x), lambda xp, g, x: xp.negative(g)),
    "absolute": (lambda xp, x: xp.abs(x), lambda xp, g, x: g * xp.sign(x)),
    "square": (lambda xp, x: xp.square(x), lambda xp, g, x: g * (x + x)),
    "sqrt": (lambda xp, x: xp.sqrt(x), lambda xp, g, y: g * (0.5 / y)),
    "reciprocal": (lambda xp, x: 1 / x, lambda xp, g, y: xp.negative(g) * (y * y)),
}


@kernel
def transform(k: Kernels, x: Any, name: str) -> Any:
    """`"negative"`, `"absolute"`, `"square"`, `"sqrt"` or `"reciprocal"` of an array."""
    return _ONE[name][0](k.xp, x)


@kernel
def transform_grad(k: Kernels, g: Any, v: Any, name: str) -> Any:
    """Backward of `transform` at its input; `v` is that, or of the last two the result."""
    return _ONE[name][1](k.xp, g, v)


@kernel
def power(k: Kernels, x: Any, exponent: float) -> Any:
    """An array to the power of a Python number."""
    return x**exponent


@kernel
def choose(k: Kernels, condition: Any, x1: Any, x2: Any) -> Any:
    """`x1` where a condition holds, else `x2`: arrays of one type, or one of them a number."""
    if type(x1) in (bool, int, float):  # NumPy's own numbers have a type
        x1 = x2.dtype.type(x1)
    elif type(x2) in (bool, int, float):
        x2 = x1.dtype.type(x2)
    return k.xp.where(condition, x1, x2)
