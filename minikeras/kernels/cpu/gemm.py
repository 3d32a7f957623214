"""Matrix products on the CPU: large ones of float32 in the tile, by the team; small ones and float64 by BLAS.

OpenBLAS's threads wait for each other in a loop: with anything else running on the machine they take ten times as long,
and they fight with the team's threads.  BLAS is therefore asked for products that it does on one thread.
"""

from __future__ import annotations

from typing import Any

from minikeras.kernels.cpu.elementwise import activate
from minikeras.kernels.cpu.jit import tile
from minikeras.kernels.reference.dense import dense as reference_dense
from minikeras.kernels.reference.dense import gemm as reference_gemm

_SMALL = 1 << 18  # multiplications: OpenBLAS does no more than these on one thread
_WIDE = 1 << 13  # elements of a result: OpenBLAS is slow where few numbers are added up for many
_FEW = 4  # rows: the tile would be half empty


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


OVERRIDES = {"gemm": gemm, "dense": dense}
