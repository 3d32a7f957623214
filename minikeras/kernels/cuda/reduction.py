"""Sums, means and bounds over axes of numbers that lie side by side: two launches at most for axes that follow another.

What is reduced are the *rows* of *pictures*, and each column of a picture gives a result; where the axes are the last
ones, a row has one column.  The threads of a block have columns (x), rows (y) and pictures (z), so that neighbours read
what lies side by side, whatever the sizes.  Where there are few results, blocks have slices of the rows, whose results
a second launch reduces.  Numbers of two bytes are added in float.  A thread adds 64 of its numbers, and their sum to
that of others: so sums keep their digits.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, fours, launch
from minikeras.kernels.reference import reduction as reference
from minikeras.kernels.table import Kernels, override, same_shape

_BLOCK = 512  # threads
_ENOUGH = 1024  # blocks to keep a device busy
_ALONE = 32  # numbers that a thread reduces before there are slices

_SOURCE = Source(
    """
struct Smallest {
  template <class V> __device__ __forceinline__ static V both(V a, V b) { return smaller(a, b); }
  template <class V> __device__ __forceinline__ static V none() { return V(INFINITE); }
};
#define SIZES whole pictures, whole rows, whole columns, whole slices

// Reduces a slice of the rows of some pictures: `read` is told the places of a number and of its picture's column.
// Gives the threads of the first rows the results, and where in the slices they go; the others a place of -1.
template <class How, class Read> __device__ A over_rows(Read read, whole* place, SIZES) {
  __shared__ A parts[512];
  whole tiles = (columns + blockDim.x - 1) / blockDim.x, slice = blockIdx.y;
  whole column = blockIdx.x % tiles * blockDim.x + threadIdx.x;
  whole picture = blockIdx.x / tiles * blockDim.z + threadIdx.z;
  whole share = (rows + slices - 1) / slices, step = blockDim.y;
  whole end = min((slice + 1) * share, rows);
  bool there = column < columns && picture < pictures;
  A all = How::template none<A>();
  for (whole row = slice * share + threadIdx.y; there && row < end; row += 64 * step) {
    A some = How::template none<A>();
    int count = (int)min((end - row + step - 1) / step, (whole)64);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      some = How::both(some, read((picture * rows + row + i * step) * columns + column, picture * columns + column));
    }
    all = How::both(all, some);
  }
  int at = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  parts[at] = all;
  __syncthreads();
  for (unsigned half = blockDim.y / 2; half; half /= 2) {
    if (threadIdx.y < half) parts[at] = How::both(parts[at], parts[at + half * blockDim.x]);
    __syncthreads();
  }
  *place = there && threadIdx.y == 0 ? (picture * slices + slice) * columns + column : -1;
  return parts[at];
}
#define REDUCE(How, value)                                                                         \\
  whole place;                                                                                     \\
  auto read = [=](whole i, whole result) { return A(value); };                                     \\
  A all = over_rows<How>(read, &place, pictures, rows, columns, slices);                           \\
  if (place >= 0) out[place] = all / A(divisor);

__global__ void totals(const X* x, Y* out, const X* bound, double divisor, SIZES) { REDUCE(Sum, x[i]) }
__global__ void largest(const X* x, Y* out, const X* bound, double divisor, SIZES) { REDUCE(Largest, x[i]) }
__global__ void smallest(const X* x, Y* out, const X* bound, double divisor, SIZES) { REDUCE(Smallest, x[i]) }
__global__ void counts(const X* x, Y* out, const X* bound, double divisor, SIZES) {
  REDUCE(Sum, A(x[i]) == A(bound[result]))
}
__global__ void extreme_grad(const X* g, const X* x, const X* bound, const Y* counts, X* out, whole rows, whole columns,
                             whole n) {
  struct All { A g, x, bound, count; };
  in_fours(n, [=](whole i) {
    whole at = i / (rows * columns) * columns + i % columns;
    return All{A(g[at]), A(x[i]), A(bound[at]), A(counts[at])};
  }, [=](whole i, All at) { out[i] = A(at.x == at.bound) * (at.g / larger(at.count, A(1))); });
}
""",
    types=("X", "Y"),
)


def _power(count: int, most: int) -> int:
    """The least power of two that is not below a number, at most another."""
    return min(1 << (count - 1).bit_length(), most)


@lru_cache(maxsize=1024)
def _launched(pictures: int, rows: int, columns: int) -> tuple[int, tuple[int, int, int], int]:
    """Blocks, threads of a block in columns, rows and pictures, and slices of the rows."""
    x = _power(columns, 32)
    y = min(max(_power(rows, 32), _power(-(-rows // 4), _BLOCK)), _BLOCK // x)
    z = min(_power(pictures, 64), _BLOCK // (x * y))
    blocks = -(-columns // x) * -(-pictures // z)
    slices = max(min(-(-rows // (_ALONE * y)), _ENOUGH // blocks), 1)
    return blocks, (x, y, z), -(-rows // -(-rows // slices))  # none is empty


@lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """The result's shape, (first, end) of each run of axes, and the product of their sizes; None: there are no such."""
    ndim = len(shape)
    given = axis if isinstance(axis, tuple) else tuple(range(ndim)) if axis is None else (axis,)
    if not all(isinstance(i, int) and -ndim <= i < ndim for i in given) or not given:
        return None
    axes = sorted({i % ndim for i in given})
    if len(axes) < len(given):
        return None
    firsts = [i for i in axes if i - 1 not in axes]
    runs = [(first, next(i for i in range(first, ndim + 1) if i not in axes)) for first in firsts]
    result = tuple([1 if i in axes else size for i, size in enumerate(shape) if keepdims or i not in axes])
    return result, runs, math.prod(shape[i] for i in axes)


def _wide(dtype: Any) -> Any:
    """What numbers are computed with."""
    return np.dtype("float64" if dtype.char == "d" else "float32")


def _over(
    k: Kernels, name: str, x: Any, run: tuple[int, int], out: Any, divisor: float = 1.0, bound: Any = None
) -> Any:
    """Write what one of the kernels makes of an array over a run of axes."""
    first, end = run
    pictures, rows, columns = math.prod(x.shape[:first]), math.prod(x.shape[first:end]), math.prod(x.shape[end:])
    blocks, threads, slices = _launched(pictures, rows, columns)
    wide = _wide(x.dtype)
    if slices > 1:
        parts = k.empty((pictures, slices, columns), wide)
        arguments = (x, parts, bound, 1.0, pictures, rows, columns, slices)
        launch(k, _SOURCE, name, wide, (blocks, slices), threads, arguments, X=x.dtype, Y=wide)
        x, rows, name = parts, slices, "totals" if name == "counts" else name
        blocks, threads, _ = _launched(pictures, rows, columns)
    arguments = (x, out, bound, divisor, pictures, rows, columns, 1)
    launch(k, _SOURCE, name, wide, blocks, threads, arguments, X=x.dtype, Y=out.dtype)
    return out


def _reduced(k: Kernels, name: str, x: Any, axis: Any, keepdims: bool, out: Any = None, mean: bool = False) -> Any:
    shape, runs, count = _plan(x.shape, axis, keepdims)
    out = k.empty(shape, x.dtype) if out is None else out
    for first, end in runs[:0:-1]:
        parts = k.empty((*x.shape[:first], *(1,) * (end - first), *x.shape[end:]), _wide(x.dtype))
        x = _over(k, name, x, (first, end), parts)
    return _over(k, name, x, runs[0], out, float(count) if mean else 1.0)


def _is_planned(x: Any, axis: Any, keepdims: bool) -> bool:
    return _plan(x.shape, axis, keepdims) is not None


def _fits(x: Any, axis: Any, keepdims: bool, out: Any) -> bool:
    plan = _plan(x.shape, axis, keepdims)
    return plan is not None and (out is None or out.shape == plan[0])


@override(reference.total, "gpu", when=(contiguous_numbers("x", "out"), _fits))
def total(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    return _reduced(k, "totals", x, axis, keepdims, out)


@override(reference.average, "gpu", when=(contiguous_numbers("x"), _is_planned))
def average(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _reduced(k, "totals", x, axis, keepdims, mean=True)


@override(reference.extreme, "gpu", when=(contiguous_numbers("x"), _is_planned))
def extreme(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, largest: bool = True) -> Any:
    return _reduced(k, "largest" if largest else "smallest", x, axis, keepdims)


def _of_one_run(x: Any, y: Any, axes: Any) -> bool:
    plan = _plan(x.shape, axes, True)
    return plan is not None and len(plan[1]) == 1 and y.shape == plan[0]


@override(reference.extreme_grad, "gpu", when=(contiguous_numbers("x", "g", "y"), same_shape("y", "g"), _of_one_run))
def extreme_grad(k: Kernels, g: Any, x: Any, y: Any, axes: tuple[int, ...]) -> Any:
    ((first, end),) = _plan(x.shape, axes, True)[1]
    wide = _wide(x.dtype)
    counts = _over(k, "counts", x, (first, end), k.empty(y.shape, wide), bound=y)
    out = k.empty(x.shape, x.dtype)
    arguments = (g, x, y, counts, out, math.prod(x.shape[first:end]), math.prod(x.shape[end:]), x.size)
    launch(k, _SOURCE, "extreme_grad", wide, fours(x.size), THREADS, arguments, X=x.dtype, Y=wide)
    return out
