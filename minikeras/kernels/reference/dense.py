"""Matrix products with their bias and activation."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.table import Kernels, kernel


@kernel
def gemm(k: Kernels, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    """The product of two matrices, either one transposed on request."""
    if ta:
        a = a.T
    if tb:
        b = b.T
    out = k.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
    return k.xp.matmul(a, b, out=out)


@kernel
def matmul(k: Kernels, a: Any, b: Any) -> Any:
    """The products of stacks of matrices, over the last two axes; leading axes broadcast."""
    return k.xp.matmul(a, b)


@kernel
def dense(k: Kernels, x: Any, w: Any, b: Any = None, activation: str | None = None, out: Any = None) -> Any:
    """`activation(x @ w + b)` for a matrix `x` (n, in), `w` (in, units), `b` (units,) or None."""
    y = k.gemm(x, w, out=out)
    if b is not None:
        k.xp.add(y, b, out=y)
    return k.activate(y, activation, out=y)


@kernel
def epilogue_grad(
    k: Kernels, g: Any, y: Any, activation: str | None, bias: bool, bias_out: Any = None
) -> tuple[Any, Any]:
    """Backward of `activation(... + bias)` over the last axis: (gradient before the bias, that of the bias or None).

    Does not change `g`; without an activation the first result is `g` itself.
    """
    g = k.activate_grad(g, y, activation)
    if not bias:
        return g, None
    bias_out = k.empty((g.shape[-1],), g.dtype) if bias_out is None else bias_out
    return g, k.total(g.reshape(-1, g.shape[-1]), 0, out=bias_out)
