"""Matrix products on the CPU: large ones of float32 in the tile, by the team; small ones and float64 by BLAS.

OpenBLAS's threads wait for each other in a loop: with anything else running on the machine they take ten times as long,
and they fight with the team's threads.  BLAS is therefore asked for products that it does on one thread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy, tile
from minikeras.kernels.reference import dense as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override

_SMALL = 1 << 18  # multiplications: OpenBLAS does no more than these on one thread
_WIDE = 1 << 13  # elements of a result: OpenBLAS is slow where few numbers are added up for many
_FEW = 4  # rows: the tile would be half empty
_NARROW = 8  # columns of each of many products


def _tile_takes(rows: int, out: Any, *factors: Any) -> bool:
    """Whether the tile should do a long product."""
    module = tile() if rows >= _FEW and factors[0].dtype.char == "f" else None
    return module is not None and all(map(module.is_matrix, factors if out is None else (*factors, out)))


def _is_for_the_tile(a: Any, b: Any, ta: bool, tb: bool, out: Any) -> bool:
    rows, columns = a.shape[1 if ta else 0], b.shape[0 if tb else 1]
    if a.size * columns <= _SMALL and rows * columns < _WIDE:
        return False
    return _tile_takes(rows, out, a, b)


@override(reference.gemm, "cpu", when=_is_for_the_tile)
def gemm(k: Kernels, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    return tile().matrix_product(a, b, ta, tb, out=out)


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
        y = tile().matrix_product(x, w, bias=b, relu=activation == "relu", out=out)
    return y if activation in (None, "relu") else k.activate(y, activation, out=y)


@override(reference.epilogue_grad, "cpu", when=contiguous_float32("g", "y", "bias_out"))
def epilogue_grad(
    k: Kernels, g: Any, y: Any, activation: str | None, bias: bool, bias_out: Any = None
) -> tuple[Any, Any]:
    if activation not in (None, "relu"):
        g = k.activate_grad(g, y, activation)
    if bias and bias_out is None:
        bias_out = empty((g.shape[-1],), g.dtype)
    if activation == "relu":
        g = lazy("parts").relu_grad(g, y, bias_out if bias else None)
    elif bias:
        lazy("parts").relu_grad(g, None, bias_out)
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
    return tile() is not None


@override(reference.matmul, "cpu", when=_is_for_stacks)
def matmul(k: Kernels, a: Any, b: Any) -> Any:
    if b.ndim > 2:
        return lazy("stack").stacked_product(a, b)
    rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])  # one product over all leading axes
    turned = b.strides[0] == 4 and b.strides[1] != 4
    y = k.gemm(rows, b.T if turned else b, tb=turned)
    return y.reshape(*a.shape[:-1], b.shape[-1])
