"""A table lookup and its gradient on the CPU: a compiled gather and scatter-add, which look at the indices.

Other types of tables, and tables that are not contiguous, are left to NumPy's `take`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty, explain, fitting
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.compiler import Doubles, Floats, inner, numbers, part, parts_for, share, words
from minikeras.kernels.cpu.refusals import refuse
from minikeras.kernels.reference import embedding as reference
from minikeras.kernels.table import Kernels, contiguous_floats, override


@inner
def index_at(indices, wide, i):
    """Index i, of int64 where `wide`, else of int32."""
    if wide:
        return numbers(indices)[i]
    return (int(words(indices)[i]) ^ 0x80000000) - 0x80000000


@part
def _lookup(part, parts, table, indices, wide, count, rows, width, out, refusals):
    """Rows of the table, of `width` numbers of 4 bytes; of an index that is out of range the nearest one."""
    first, last = share(part, parts, count)
    for i in range(first, last):
        index = index_at(indices, wide, i)
        if index < 0 or index >= rows:
            refuse(refusals)
            index = min(max(index, 0), rows - 1)
        source, target = words(table + 4 * width * index), words(out + 4 * width * i)
        for j in range(width):
            target[j] = source[j]


@inner
def _add_rows(part, parts, g, indices, wide, count, table, rows, width, refusals, zero):
    first, last = share(part, parts, rows)
    for j in range(first * width, last * width):
        table[j] = zero
    for i in range(count):
        index = index_at(indices, wide, i)
        if first <= index < last:
            source, target = i * width, index * width
            for j in range(width):
                table[target + j] += g[source + j]
        elif index < 0 or index >= rows:
            refuse(refusals)


@part
def _scatter_add(part, parts, g: Floats, indices, wide, count, table: Floats, rows, width, refusals):
    """Rows of the table: zeros, and each of `count` rows of `g` added at its index."""
    _add_rows(part, parts, g, indices, wide, count, table, rows, width, refusals, np.float32(0))


@part
def _scatter_add_in_float64(part, parts, g: Doubles, indices, wide, count, table: Doubles, rows, width, refusals):
    _add_rows(part, parts, g, indices, wide, count, table, rows, width, refusals, 0.0)


def _run(run: Any, parts: int, k: Kernels, indices: Any, rows: int, **arguments: Any) -> None:
    """Run a part on indices, all of which must be in [0, rows)."""
    wide, before = indices.dtype.char != "i", refusals.count()
    flat = contiguous(indices, _INT64 if wide else None).reshape(indices.size)
    run(
        parts, indices=flat, wide=int(wide), count=len(flat), rows=rows, refusals=refusals.ADDRESS, **arguments
    )  # fmt: skip
    explain(refusals.count() - before, partial(reference.checked_indices, k, indices.view(np.ndarray), rows))


_INT64 = np.dtype(np.int64)


@override(
    reference.embedding,
    "cpu",
    when=(contiguous_floats("table", "out"), lambda indices: indices.size > 0 and indices.dtype.kind in "iu"),
)
def embedding(k: Kernels, table: Any, indices: Any, out: Any = None) -> Any:
    shape, (rows, columns) = (*indices.shape, table.shape[1]), table.shape
    out = empty(shape, table.dtype) if out is None else fitting(out, shape, table.dtype)
    width = columns * table.itemsize // 4
    _run(_lookup.run, min(parts_for(out.size), indices.size), k, indices, rows, table=table, width=width, out=out)
    return out


@override(
    reference.embedding_grad,
    "cpu",
    when=lambda g, out: g.dtype.char in "fd" and (out is None or out.flags.c_contiguous),
)
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    rows, columns = shape = tuple(table_shape)
    out = empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    g = contiguous(g.reshape(indices.size, columns))
    scatter_add = _scatter_add if out.dtype.char == "f" else _scatter_add_in_float64
    parts = min(parts_for(out.size), rows, 8)  # each looks at all indices
    _run(scatter_add.run, parts, k, indices, rows, g=g, table=out, width=columns)
    return out
