"""Matrix products with their bias and activation, by cuBLASLt (see cublas.py); without it CuPy's products serve."""

from __future__ import annotations

import math
from typing import Any

from minikeras import config
from minikeras.kernels.arena import current
from minikeras.kernels.cuda.activation import ACTIVATIONS
from minikeras.kernels.cuda.cublas import ALONE, WITH_BIAS, Kind, binding
from minikeras.kernels.cuda.launch import THREADS, Source, each, launch
from minikeras.kernels.reference import dense as reference
from minikeras.kernels.table import Kernels, override

_SOURCE = Source(
    """
__global__ void add_bias(T* y, const T* bias, whole activation, whole columns, whole n) {
  EACH(i, n) y[i] = activated(A(y[i]) + A(bias[i % columns]), activation);
}
""",
    parts=("activations.cu",),
)


def _is_number(x: Any) -> bool:
    return x.dtype.char in "eEfd"


def _lies(x: Any) -> tuple[bool, int] | None:
    """Whether a matrix lies transposed, and how many values lie between beginnings of rows; None: in another way."""
    down, along = (stride // x.itemsize for stride in x.strides[-2:])
    rows, columns = x.shape[-2:]
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return False, max(down, columns) if rows > 1 else columns
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return True, max(along, rows) if columns > 1 else rows
    return None


def _aligned(x: Any) -> int:
    """Which power of two an array's address is a multiple of, up to 16, which is all that kernels ask for."""
    return min(x.data.ptr & -x.data.ptr, 16)


def _product(k: Kernels, a: Any, b: Any, out: Any, epilogue: int = ALONE, bias: Any = None) -> bool:
    """Write a product of matrices, or of stacks of them with the same leading axes, to `out`; whether that can be."""
    library = binding(k.xp)
    if library is None:
        return False
    batch = math.prod(out.shape[:-2]) if out.ndim > 2 else 0
    a, b = (x if _lies(x) and _gap(x, batch) is not None else _without_gaps(k, x) for x in (a, b))
    (ta, step_a), (tb, step_b), (_, step_out) = map(_lies, (a, b, out))  # type: ignore[misc]
    gaps = _gap(a, batch), _gap(b, batch), _gap(out, batch)
    kind = Kind(
        a.shape[-2], b.shape[-1], a.shape[-1], a.dtype.char, b.dtype.char, out.dtype.char, ta, tb,
        (step_a, step_b, step_out), batch, gaps, epilogue, current.rounded or config.tf32(),  # type: ignore[arg-type]
        (_aligned(a), _aligned(b), _aligned(out)),
    )  # fmt: skip
    library.multiply(kind, a, b, out, bias)
    return True


def _without_gaps(k: Kernels, x: Any) -> Any:
    """A copy that lies in rows, one after the other."""
    copy = k.empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def _gap(x: Any, batch: int) -> int | None:
    """How many values lie between the matrices of a stack, 0 for a single one; None where that is not even."""
    if not batch or x.ndim == 2:
        return 0
    expected, gap = None, 0
    for size, stride in zip(reversed(x.shape[:-2]), reversed(x.strides[:-2]), strict=True):
        if size == 1:
            continue
        if expected is None:
            gap = stride // x.itemsize
        elif stride != expected:
            return None
        expected = stride * size
    return gap


def _fit(a: Any, b: Any, out: Any) -> bool:
    """Whether products of these arrays are made here."""
    same = _is_number(a) and a.dtype == b.dtype and a.size > 0 < b.size
    return same and (out is None or (out.dtype == a.dtype and _is_in_rows(out)))


def _is_in_rows(x: Any) -> bool:
    """Whether a matrix lies row by row, maybe with gaps between the rows."""
    found = _lies(x)
    return found is not None and not found[0]


def _fit_matrices(a: Any, b: Any, ta: bool, tb: bool, out: Any) -> bool:
    """Whether two matrices have a product, one that is made here; what has none is refused by the reference."""
    if not (_fit(a, b, out) and a.ndim == b.ndim == 2):
        return False
    (inner, rows), (columns, others) = a.shape if ta else a.shape[::-1], b.shape if tb else b.shape[::-1]
    return inner == others and (out is None or out.shape == (rows, columns))


@override(reference.gemm, "gpu", when=_fit_matrices)
def gemm(k: Kernels, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
    a, b = a.T if ta else a, b.T if tb else b
    into = k.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
    return into if _product(k, a, b, into) else k.xp.matmul(a, b, out=into)


def _fit_stacks(a: Any, b: Any) -> bool:
    return _fit(a, b, None) and a.ndim > 1 < b.ndim and a.shape[-1] == b.shape[-2]


@override(reference.matmul, "gpu", when=_fit_stacks)
def matmul(k: Kernels, a: Any, b: Any) -> Any:
    lead = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else _broadcast(a.shape[:-2], b.shape[:-2])
    if lead is None:
        return k.xp.matmul(a, b)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:  # one product of all rows
        rows = a.reshape(-1, a.shape[-1])
        return k.gemm(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    first, second = (x if x.shape[:-2] in (lead, ()) else k.xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
    out = k.empty((*lead, a.shape[-2], b.shape[-1]), a.dtype)
    return out if _product(k, first, second, out) else k.xp.matmul(a, b)


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """The leading axes of a product of stacks; None where they do not fit."""
    count = max(len(first), len(second))
    pairs = [*zip((1,) * (count - len(first)) + first, (1,) * (count - len(second)) + second, strict=True)]
    return tuple([max(pair) for pair in pairs]) if all(1 in pair or pair[0] == pair[1] for pair in pairs) else None


def _fit_dense(x: Any, w: Any, b: Any, activation: str | None, out: Any) -> bool:
    adds = b is None or (b.dtype == x.dtype and b.shape == w.shape[1:] and b.flags.c_contiguous)
    return adds and activation in ACTIVATIONS and _fit_matrices(x, w, False, False, out)


@override(reference.dense, "gpu", when=_fit_dense)
def dense(k: Kernels, x: Any, w: Any, b: Any = None, activation: str | None = None, out: Any = None) -> Any:
    out = k.empty((x.shape[0], w.shape[1]), x.dtype) if out is None else out
    adds = b is not None and activation is None and _aligned(b) >= 16
    if adds and _product(k, x, w, out, WITH_BIAS, b):
        return out
    k.gemm(x, w, out=out)
    if b is None:
        return k.activate(out, activation, out=out)
    given = out, b, ACTIVATIONS[activation], out.shape[1], out.size
    launch(k, _SOURCE, "add_bias", out.dtype, each(out.size), THREADS, given)
    return out
