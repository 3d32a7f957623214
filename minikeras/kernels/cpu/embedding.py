"""The gradient of a table lookup on the CPU: a compiled scatter-add; the team shares a large table.

(The lookup itself is NumPy's `take`.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty, fitting
from minikeras.kernels.cpu.jit import lazy, lazy_njit
from minikeras.kernels.reference import embedding as reference
from minikeras.kernels.table import Kernels, override


@lazy_njit
def _scatter_add(g, indices, out):  # type: ignore[no-untyped-def]
    out[:] = 0
    for i in range(indices.size):
        row, target = g[i], out[indices[i]]
        for j in range(row.size):
            target[j] += row[j]


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
    if out.dtype.char == "f":
        lazy("parts").scatter_add(np.ascontiguousarray(g), np.ascontiguousarray(indices, np.int64), out)
    else:
        _scatter_add(g, indices, out)
    return out
