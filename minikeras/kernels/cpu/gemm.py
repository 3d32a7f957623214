"""Matrix products on the CPU: large ones of float32 in the tile, by the team; small ones and float64 by BLAS.

OpenBLAS's threads wait for each other in a loop: with anything else running on the machine they take ten times as long,
and they fight with the team's threads.  BLAS is therefore asked for products that it does on one thread.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

from minikeras.kernels.cpu.elementwise import activate
from minikeras.kernels.cpu.jit import tile
from minikeras.kernels.reference.dense import dense as reference_dense
from minikeras.kernels.reference.dense import gemm as reference_gemm
from minikeras.kernels.reference.dense import matmul as reference_matmul

_SMALL = 1 << 18  # multiplications: OpenBLAS does no more than these on one thread
_WIDE = 1 << 13  # elements of a result: OpenBLAS is slow where few numbers are added up for many
_FEW = 4  # rows: the tile would be half empty
_NARROW = 8  # columns of each of many products


def _tile_for(rows: int, columns: int, multiplications: int, *arrays: Any) -> Any:
    """The module `tile` if it should do a product, else None."""
    small = multiplications <= _SMALL and rows * columns < _WIDE
    if small or rows < _FEW or arrays[0].dtype.char != "f":
        return None
    module = tile()
    return module if module is not None and all(map(module.is_matrix, arrays)) else None


def gemm(a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    """See the reference."""
    rows, columns = a.shape[1 if ta else 0], b.shape[0 if tb else 1]
    module = _tile_for(rows, columns, a.size * columns, a, b, *(() if out is None else (out,)))
    if module is None:
        return reference_gemm(a, b, ta, tb, out)
    return module.matrix_product(a, b, ta, tb, out=out)


def dense(x: Any, w: Any, b: Any = None, activation: str | None = None, out: Any = None) -> Any:
    """See the reference."""
    module = _tile_for(len(x), w.shape[1], x.size * w.shape[1], x, w, *(() if out is None else (out,)))
    if module is None or (b is not None and (b.dtype != x.dtype or not b.flags.c_contiguous)):
        return reference_dense(x, w, b, activation, out)
    y = module.matrix_product(x, w, bias=b, relu=activation == "relu", out=out)
    return y if activation in (None, "relu") else activate(y, activation, out=y)


def matmul(a: Any, b: Any) -> Any:
    """See the reference."""
    if a.ndim < 2 or b.ndim < 2 or a.ndim == b.ndim == 2 or not a.dtype.char == b.dtype.char == "f":
        return reference_matmul(a, b)
    if b.ndim == 2:  # one product over all leading axes
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        turned = b.strides[0] == 4 and b.strides[1] != 4
        y = gemm(rows, b.T if turned else b, tb=turned)
        return y.reshape(*a.shape[:-1], b.shape[-1])
    rows, columns = a.shape[-2], b.shape[-1]
    work = max(a.size * columns, b.size * rows)
    if work <= _SMALL or rows < _FEW or columns < _NARROW or 4 not in b.strides[-2:] or 0 in (a.size, b.size):
        return reference_matmul(a, b)
    if tile() is None:
        return reference_matmul(a, b)
    return importlib.import_module("minikeras.kernels.cpu.stack").stacked_product(a, b)


OVERRIDES = {"gemm": gemm, "dense": dense, "matmul": matmul}
