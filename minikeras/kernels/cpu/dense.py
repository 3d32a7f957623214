"""Matrix products on the CPU: those of float32 in the tile, whatever their size; float64 and others by BLAS.

OpenBLAS's threads wait for each other in a loop: with anything else running on the machine they take ten times as long,
and they fight with the team's threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import add_up_rows, floats, part, parts_for, share
from minikeras.kernels.cpu.tile.products import matrix_product
from minikeras.kernels.cpu.tile.stacks import stacked_product
from minikeras.kernels.reference import dense as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override

_ZERO = np.float32(0)
_WAKES = 1 << 19  # elements of a gradient for which a helper is waked


@override(reference.gemm, "cpu")  # always, since a condition would be one more call of Python
def gemm(k: Kernels, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    y = matrix_product(a, b, ta, tb, out=out)
    return reference.gemm(k, a, b, ta, tb, out) if y is None else y


@override(reference.dense, "cpu")
def dense(k: Kernels, x: Any, w: Any, b: Any = None, activation: str | None = None, out: Any = None) -> Any:
    y = matrix_product(x, w, bias=b, relu=activation == "relu", out=out)
    if y is None:
        return reference.dense(k, x, w, b, activation, out)
    return y if activation in (None, "relu") else k.activate(y, activation, out=y)


@part(fastmath={"reassoc", "nsz", "contract"})
def _relu_grad(part, parts, rows, columns, g, y, out, sums):
    """Rows: the gradient `g` where `y` (0: no activation) is positive, and its sums for each part (0: none)."""
    begin, end = share(part, parts, rows)
    first, own = 4 * begin * columns, end - begin
    gradient = floats(g + first)
    if y:
        value, result = floats(y + first), floats(out + first)
        for i in range(own * columns):
            result[i] = gradient[i] if value[i] > _ZERO else _ZERO
        gradient = result
    if sums:
        add_up_rows(gradient, own, columns, columns, floats(sums + 4 * part * columns))


def _relu_grads(g: Any, y: Any, bias_out: Any) -> Any:
    """`g` where `y` is positive, else 0 (`g` itself where `y` is None); its sums over rows go to `bias_out`."""
    columns = g.shape[-1]
    rows = g.size // columns
    parts = min(parts_for(g.size), rows)
    out = g if y is None else empty(g.shape, g.dtype)
    sums = bias_out if bias_out is None or parts == 1 else empty((parts, columns), g.dtype)
    _relu_grad.run(parts, g.size >= _WAKES, rows=rows, columns=columns, g=g, y=y, out=out, sums=sums)
    if sums is not bias_out:
        _relu_grad.run(1, rows=parts, columns=columns, g=sums, y=None, out=None, sums=bias_out)
    return out


@override(reference.epilogue_grad, "cpu", when=contiguous_float32("g", "y", "bias_out"))
def epilogue_grad(
    k: Kernels, g: Any, y: Any, activation: str | None, bias: bool, bias_out: Any = None
) -> tuple[Any, Any]:
    if activation not in (None, "relu"):
        g = k.activate_grad(g, y, activation)
    if bias and bias_out is None:
        bias_out = empty((g.shape[-1],), g.dtype)
    if activation == "relu":
        g = _relu_grads(g, y, bias_out if bias else None)
    elif bias:
        _relu_grads(g, None, bias_out)
    return g, bias_out if bias else None


@override(reference.matmul, "cpu")
def matmul(k: Kernels, a: Any, b: Any) -> Any:
    y = stacked_product(a, b)
    return reference.matmul(k, a, b) if y is None else y
