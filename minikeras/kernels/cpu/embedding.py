"""The gradient of a table lookup on the CPU: a compiled scatter-add; the team shares a large table.

(The lookup itself is NumPy's `take`.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty, fitting
from minikeras.kernels.cpu.compiler import Doubles, Floats, Numbers, inner, part, parts_for, share
from minikeras.kernels.reference import embedding as reference
from minikeras.kernels.table import Kernels, override


@inner
def _add_rows(g, indices, count, table, first, last, width, zero):
    for j in range(first * width, last * width):
        table[j] = zero
    for i in range(count):
        if first <= indices[i] < last:
            source, target = i * width, indices[i] * width
            for j in range(width):
                table[target + j] += g[source + j]


@part
def _scatter_add(part, parts, g: Floats, indices: Numbers, count, table: Floats, rows, width):
    """Rows of the table: zeros, and each of `count` rows of `g` added at its index."""
    first, last = share(part, parts, rows)
    _add_rows(g, indices, count, table, first, last, width, np.float32(0))


@part
def _scatter_add_in_float64(part, parts, g: Doubles, indices: Numbers, count, table: Doubles, rows, width):
    first, last = share(part, parts, rows)
    _add_rows(g, indices, count, table, first, last, width, 0.0)


@override(
    reference.embedding_grad,
    "cpu",
    when=lambda g, out: g.dtype.char in "fd" and (out is None or out.flags.c_contiguous),
)
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    indices = reference.checked_indices(k, indices, table_shape[0])  # the compiled loop does not look
    shape = tuple(table_shape)
    out = empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    g, indices = g.reshape(indices.size, table_shape[1]), indices.reshape(indices.size)
    g, indices = np.ascontiguousarray(g), np.ascontiguousarray(indices, np.int64)
    scatter_add = _scatter_add if out.dtype.char == "f" else _scatter_add_in_float64
    parts = min(parts_for(out.size), len(out), 8)  # each looks at all indices
    scatter_add.run(parts, g=g, indices=indices, count=indices.size, table=out, rows=len(out), width=out.shape[1])
    return out
