"""A table lookup and its gradient on the CPU: a compiled gather and scatter-add, which look at the indices.

Other types of tables, and tables that are not contiguous, are left to NumPy's `take`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.arena import afterwards, empty, fitting
from minikeras.kernels.cpu.compiler import Floats, NumbaKernel, Numbers, inner, numbers, part, parts_for, share, words
from minikeras.kernels.reference import embedding as reference
from minikeras.kernels.table import Kernels, contiguous_floats, override


@NumbaKernel
def _scatter_add_in_float64(g, indices, out):
    out[:] = 0
    for i in range(indices.size):
        row, target = g[i], out[indices[i]]
        for j in range(row.size):
            target[j] += row[j]


@inner
def _index(indices, wide, i):
    """Index i, of int64 where `wide`, else of int32."""
    if wide:
        return numbers(indices)[i]
    return (int(words(indices)[i]) ^ 0x80000000) - 0x80000000


@inner
def _complain(found: Numbers, part, wrong):
    """Note that an index is out of range; the first of a part counts."""
    if found[2 * part] == 0:
        found[2 * part], found[2 * part + 1] = 1, wrong


@part
def _lookup(part, parts, table, indices, wide, count, rows, width, out, found: Numbers):
    """Rows of the table, of `width` numbers of 4 bytes; of an index that is out of range the nearest one."""
    first, last = share(part, parts, count)
    found[2 * part] = 0
    for i in range(first, last):
        index = _index(indices, wide, i)
        if index < 0 or index >= rows:
            _complain(found, part, index)
            index = min(max(index, 0), rows - 1)
        source, target = words(table + 4 * width * index), words(out + 4 * width * i)
        for j in range(width):
            target[j] = source[j]


@part
def _scatter_add(part, parts, g: Floats, indices, wide, count, table: Floats, rows, width, found: Numbers):
    """Rows of the table: zeros, and each of `count` rows of `g` added at its index."""
    first, last = share(part, parts, rows)
    found[2 * part] = 0
    for j in range(first * width, last * width):
        table[j] = np.float32(0)
    for i in range(count):
        index = _index(indices, wide, i)
        if first <= index < last:
            source, target = i * width, index * width
            for j in range(width):
                table[target + j] += g[source + j]
        elif index < 0 or index >= rows:
            _complain(found, part, index)


def _found(parts: int, rows: int) -> tuple[Any, Callable[[], None]]:
    """Where parts note an index that is out of range, and a check whether they did."""
    found = empty((2 * parts,), _INT64)
    plain = found.view(np.ndarray)

    def check() -> None:
        for bad, wrong in zip(*[iter(plain.tolist())] * 2, strict=True):
            if bad:
                raise reference.out_of_range(wrong, rows)

    return found, check


def _indices(indices: Any) -> tuple[Any, int]:
    """The indices as parts read them, and whether they are wide."""
    wide = indices.dtype.char != "i"
    return np.ascontiguousarray(indices, _INT64 if wide else None).reshape(indices.size), int(wide)


_INT64 = np.dtype(np.int64)


@override(
    reference.embedding,
    "cpu",
    when=(contiguous_floats("table", "out"), lambda indices: indices.size > 0 and indices.dtype.kind in "iu"),
)
def embedding(k: Kernels, table: Any, indices: Any, out: Any = None) -> Any:
    shape, (rows, columns) = (*indices.shape, table.shape[1]), table.shape
    out = empty(shape, table.dtype) if out is None else fitting(out, shape, table.dtype)
    flat, wide = _indices(indices)
    parts = min(parts_for(out.size), len(flat))
    found, check = _found(parts, rows)
    sizes = {"count": len(flat), "rows": rows, "width": columns * table.itemsize // 4}
    _lookup.run(parts, table=table, indices=flat, wide=wide, out=out, found=found, **sizes)
    afterwards(check)
    return out


@override(
    reference.embedding_grad,
    "cpu",
    when=lambda g, out: g.dtype.char in "fd" and (out is None or out.flags.c_contiguous),
)
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    shape = rows, columns = tuple(table_shape)
    out = empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    g = g.reshape(indices.size, columns)
    if out.dtype.char == "f":
        flat, wide = _indices(indices)
        parts = min(parts_for(out.size), rows, 8)  # each looks at all indices
        found, check = _found(parts, rows)
        sizes = {"count": len(flat), "rows": rows, "width": columns}
        g = np.ascontiguousarray(g)
        _scatter_add.run(parts, g=g, indices=flat, wide=wide, table=out, found=found, **sizes)
        afterwards(check)
    else:
        indices = reference.checked_indices(k, indices, rows)  # the compiled loop does not look
        _scatter_add_in_float64(g, indices.reshape(indices.size), out)
    return out
