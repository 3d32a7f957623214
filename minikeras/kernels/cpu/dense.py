"""Matrix products on the CPU: large ones of float32 in the tile, by the team; small ones and float64 by BLAS.

OpenBLAS's threads wait for each other in a loop: with anything else running on the machine they take ten times as long,
and they fight with the team's threads.  BLAS is therefore asked for products that it does on one thread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import add_up_rows, floats, host, part, parts_for, share
from minikeras.kernels.cpu.tile.products import is_matrix, matrix_product
from minikeras.kernels.cpu.tile.stacks import stacked_product
from minikeras.kernels.reference import dense as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override

_SMALL = 1 << 18  # multiplications: OpenBLAS does no more than these on one thread
_WIDE = 1 << 13  # elements of a result: OpenBLAS is slow where few numbers are added up for many
_FEW = 4  # rows: the tile would be half empty
_NARROW = 8  # columns of each of many products
_ZERO = np.float32(0)


def _tile_takes(rows: int, out: Any, *factors: Any) -> bool:
    """Whether the tile should do a long product."""
    if rows < _FEW or factors[0].dtype.char != "f" or not host.HAS_VECTORS:
        return False
    return all(map(is_matrix, factors if out is None else (*factors, out)))


def _is_for_the_tile(a: Any, b: Any, ta: bool, tb: bool, out: Any) -> bool:
    rows, columns = a.shape[1 if ta else 0], b.shape[0 if tb else 1]
    if a.size * columns <= _SMALL and rows * columns < _WIDE:
        return False
    return _tile_takes(rows, out, a, b)


@override(reference.gemm, "cpu", when=_is_for_the_tile)
def gemm(k: Kernels, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    return matrix_product(a, b, ta, tb, out=out)


@override(reference.dense, "cpu", when=of_float32("x"))
def dense(k: Kernels, x: Any, w: Any, b: Any = None, activation: str | None = None, out: Any = None) -> Any:
    rows, columns = len(x), w.shape[1]
    is_long = x.size * columns > _SMALL or rows * columns >= _WIDE
    fits = b is None or (b.dtype == x.dtype and b.flags.c_contiguous)
    if not (is_long and fits and _tile_takes(rows, out, x, w)):  # NumPy asks BLAS, at once: this is the shortest way
        y = np.matmul(x, w, out=empty((rows, columns), x.dtype) if out is None else out)
        if b is not None:
            np.add(y, b, out=y)
        if activation == "relu":
            return np.maximum(y, 0, out=y)
    else:
        y = matrix_product(x, w, bias=b, relu=activation == "relu", out=out)
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
        add_up_rows(gradient, own, columns, floats(sums + 4 * part * columns))


def _relu_grads(g: Any, y: Any, bias_out: Any) -> Any:
    """`g` where `y` is positive, else 0 (`g` itself where `y` is None); its sums over rows go to `bias_out`."""
    columns = g.shape[-1]
    rows = g.size // columns
    parts = min(parts_for(g.size), rows)
    out = g if y is None else empty(g.shape, g.dtype)
    sums = bias_out if bias_out is None or parts == 1 else empty((parts, columns), g.dtype)
    _relu_grad.run(parts, rows=rows, columns=columns, g=g, y=y, out=out, sums=sums)
    if sums is not bias_out:
        np.sum(sums, axis=0, out=bias_out)
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


def _is_for_stacks(a: Any, b: Any) -> bool:
    if a.ndim < 2 or b.ndim < 2 or a.ndim == b.ndim == 2 or not a.dtype.char == b.dtype.char == "f":
        return False
    if b.ndim == 2:
        return True
    rows, columns = a.shape[-2], b.shape[-1]
    work = max(a.size * columns, b.size * rows)
    if work <= _SMALL or rows < _FEW or columns < _NARROW or 4 not in b.strides[-2:] or 0 in (a.size, b.size):
        return False
    return host.HAS_VECTORS


@override(reference.matmul, "cpu", when=_is_for_stacks)
def matmul(k: Kernels, a: Any, b: Any) -> Any:
    if b.ndim > 2:
        return stacked_product(a, b)
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])  # one product over all leading axes
    turned = b.strides[0] == 4 and b.strides[1] != 4
    y = k.gemm(rows, b.T if turned else b, tb=turned)
    return y.reshape(*a.shape[:-1], b.shape[-1])
