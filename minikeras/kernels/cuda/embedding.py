"""A table lookup and its gradient.  Of an index out of range the row is no number, and its gradient goes nowhere.

The gradient adds rows of numbers whose order must not depend on which thread comes first.  So the indices are sorted,
digit by digit and stably, and each run of equal ones is summed in their order: within parts of the sorted list, and
then over the parts that a long run has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import fitting
from minikeras.kernels.cuda.launch import FLOATS, THREADS, Source, contiguous_numbers, launch, threads_for
from minikeras.kernels.reference import embedding as reference
from minikeras.kernels.table import Condition, Kernels, override

indices_of_the_device = Condition('indices.size > 0 and indices.dtype.kind in "iu"')


def packed(k: Kernels, x: Any) -> Any:
    """An array, or a copy of it, without gaps."""
    return x if x.flags.c_contiguous else k.spread(x, x.shape, x.dtype)


_LOOKUP = Source(
    """
__global__ void lookup(const T* table, const I* indices, T* out, whole count, whole rows, whole width) {
  whole i = blockIdx.x * (whole)blockDim.y + threadIdx.y;
  if (i >= count) return;
  bool known = is_row(indices[i], rows);
  const T* source = table + (known ? whole(indices[i]) : 0) * width;
  for (whole j = threadIdx.x; j < width; j += blockDim.x) out[i * width + j] = known ? A(source[j]) : NOT_A_NUMBER;
}
""",
    parts=("indices.cu",),
    types=("I",),
)

_DIGITS = 256  # as many as a block has threads
_SORT = Source(
    """
// An index of 32 bits, or one that was sorted by lower digits already; `rows` stands for all that are out of range.
__device__ unsigned key_at(const I* indices, const unsigned* keys, whole i, whole rows) {
  return keys ? keys[i] : (unsigned)(is_row(indices[i], rows) ? whole(indices[i]) : rows);
}
// For each block of numbers: how many have each digit, (digits, blocks), and how many before a number have its digit.
__global__ void count_digits(const I* indices, const unsigned* keys, unsigned* counts, unsigned short* ranks,
                             whole count, whole rows, whole shift) {
  __shared__ unsigned of_warps[8][256];
  whole i = blockIdx.x * 256ll + threadIdx.x;
  unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned digit = i < count ? key_at(indices, keys, i, rows) >> shift & 255 : 0, same = 0xffffffffu;
  for (int d = lane; d < 256; d += 32) of_warps[warp][d] = 0;
  __syncwarp();
  for (int bit = 0; bit < 8; ++bit) {
    unsigned with = __ballot_sync(0xffffffffu, digit >> bit & 1);
    same &= digit >> bit & 1 ? with : ~with;
  }
  same &= __ballot_sync(0xffffffffu, i < count);
  unsigned before = __popc(same & (1u << lane) - 1);
  if (i < count && before == 0) of_warps[warp][digit] = __popc(same);
  __syncthreads();
  if (i < count) {
    for (int w = 0; w < warp; ++w) before += of_warps[w][digit];
    ranks[i] = before;
  }
  unsigned all = 0;
  for (int w = 0; w < 8; ++w) all += of_warps[w][threadIdx.x];
  counts[threadIdx.x * (whole)gridDim.x + blockIdx.x] = all;
}
// What comes before each of the counts, by one block, whose threads take eight neighbours each.
__global__ void sum_counts(unsigned* counts, whole n) {
  __shared__ unsigned of_warps[32];
  unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, start = 0;
  for (whole first = 0; first < n; first += 8 * blockDim.x) {
    whole i = first + 8 * threadIdx.x, end = i + 8 < n ? i + 8 : n;
    unsigned own = 0;
    for (whole e = i; e < end; ++e) own += counts[e];
    unsigned sum = own;
    for (int d = 1; d < 32; d *= 2) {
      unsigned other = __shfl_up_sync(0xffffffffu, sum, d);
      if (lane >= d) sum += other;
    }
    if (lane == 31) of_warps[warp] = sum;
    __syncthreads();
    unsigned all = 0, before = start + sum - own;
    for (int w = 0; w < blockDim.x / 32; ++w) {
      if (w < warp) before += of_warps[w];
      all += of_warps[w];
    }
    for (whole e = i; e < end; ++e) {
      unsigned one = counts[e];
      counts[e] = before;
      before += one;
    }
    start += all;
    __syncthreads();  // the next numbers go to `of_warps`
  }
}
__global__ void place(const I* indices, const unsigned* keys, const unsigned* places, const unsigned* counts,
                      const unsigned short* ranks, unsigned* new_keys, unsigned* new_places, whole count, whole rows,
                      whole shift) {
  whole i = blockIdx.x * 256ll + threadIdx.x;
  if (i >= count) return;
  unsigned key = key_at(indices, keys, i, rows);
  unsigned to = counts[(key >> shift & 255) * (whole)gridDim.x + blockIdx.x] + ranks[i];
  new_keys[to] = key;
  new_places[to] = places ? places[i] : i;
}
""",
    parts=("indices.cu",),
    types=("I",),
)
_PART = 32  # sorted numbers that a block adds up
_RUNS = Source(
    """
// Whether a run of equal numbers goes on across the end of a part.
__device__ bool goes_on(const unsigned* keys, whole end, whole count) {
  return end > 0 && end < count && keys[end - 1] == keys[end];
}
// The runs of a part.  One that it has whole is done; of others the sums go to `open`: that of its first run, then
// that of its last one, where that has begun in it.  The run of indices out of range is no row's.
__global__ void sum_runs(const T* g, const unsigned* keys, const unsigned* places, T* out, A* open, whole count,
                         whole rows, whole width, whole part) {
  whole j = blockIdx.y * (whole)blockDim.x + threadIdx.x;
  whole begin = blockIdx.x * part, end = begin + part < count ? begin + part : count;
  if (j >= width) return;
  bool is_whole = !goes_on(keys, begin, count);
  A sum = 0;
  for (whole i = begin; i < end; ++i) {
    sum += A(g[places[i] * width + j]);
    if (i + 1 < end && keys[i + 1] == keys[i]) continue;
    if (i + 1 < end || !goes_on(keys, end, count)) {
      if (is_whole && keys[i] < rows) out[keys[i] * width + j] = sum;
      if (!is_whole) open[2 * blockIdx.x * width + j] = sum;
    } else {
      open[(2 * blockIdx.x + is_whole) * width + j] = sum;
    }
    is_whole = true;
    sum = 0;
  }
}
// The runs that begin in a part and go on in others.
__global__ void join_runs(const unsigned* keys, T* out, const A* open, whole count, whole rows, whole width,
                          whole part) {
  whole j = blockIdx.y * (whole)blockDim.x + threadIdx.x;
  whole begin = blockIdx.x * part, end = begin + part;
  if (j >= width || !goes_on(keys, end, count)) return;
  unsigned key = keys[end];
  if (key >= rows || (goes_on(keys, begin, count) && keys[begin] == key)) return;
  A sum = open[(2 * blockIdx.x + 1) * width + j];
  for (whole next = blockIdx.x + 1; next * part < count && keys[next * part] == key; ++next)
    sum += open[2 * next * width + j];
  out[key * width + j] = sum;
}
"""
)


@override(reference.embedding, "gpu", when=(contiguous_numbers("table", "out"), indices_of_the_device))
def embedding(k: Kernels, table: Any, indices: Any, out: Any = None) -> Any:
    (rows, width), shape = table.shape, (*indices.shape, table.shape[1])
    out = k.empty(shape, table.dtype) if out is None else fitting(out, shape, table.dtype)
    along = min(1 << (width - 1).bit_length(), THREADS)
    lines = THREADS // along
    arguments = table, packed(k, indices), out, indices.size, rows, width
    grid = -(-indices.size // lines)
    launch(k, _LOOKUP, "lookup", table.dtype, grid, (along, lines), arguments, I=indices.dtype)
    return out


def _are_numbers(g: Any, table_shape: Any, out: Any) -> bool:
    is_fitting = out is None or (out.dtype == g.dtype and out.flags.c_contiguous)
    return g.dtype.char in FLOATS and g.size > 0 and table_shape[0] < 1 << 32 and is_fitting


@override(reference.embedding_grad, "gpu", when=(_are_numbers, indices_of_the_device))
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    rows, width = shape = tuple(table_shape)
    out = k.empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    out.fill(0)
    count, g = indices.size, packed(k, g)
    keys, places = _sorted(k, packed(k, indices), rows)
    parts = -(-count // _PART)
    sums = k.empty((2 * parts, width), _DOUBLE if g.dtype == _DOUBLE else _SINGLE)
    threads = threads_for(width)
    grid = parts, -(-width // threads)
    launch(k, _RUNS, "sum_runs", g.dtype, grid, threads, (g, keys, places, out, sums, count, rows, width, _PART))
    launch(k, _RUNS, "join_runs", g.dtype, grid, threads, (keys, out, sums, count, rows, width, _PART))
    return out


def _sorted(k: Kernels, indices: Any, rows: int) -> tuple[Any, Any]:
    """The indices in order, and where each of them stood; equal ones stay in their order."""
    count, types = indices.size, {"I": indices.dtype}
    blocks, keys, places = -(-count // _DIGITS), None, None
    counts, ranks = k.empty((_DIGITS, blocks), _WORD), k.empty((count,), _HALF_WORD)
    for shift in range(0, max(rows.bit_length(), 1), 8):  # `rows` itself is an index out of range
        new_keys, new_places = k.empty((count,), _WORD), k.empty((count,), _WORD)
        sizes = count, rows, shift
        launch(k, _SORT, "count_digits", _SINGLE, blocks, _DIGITS, (indices, keys, counts, ranks, *sizes), **types)
        launch(k, _SORT, "sum_counts", _SINGLE, 1, 1024, (counts, counts.size), **types)
        arguments = indices, keys, places, counts, ranks, new_keys, new_places, *sizes
        launch(k, _SORT, "place", _SINGLE, blocks, _DIGITS, arguments, **types)
        keys, places = new_keys, new_places
    return keys, places


_DOUBLE, _SINGLE = np.dtype(np.float64), np.dtype(np.float32)
_WORD, _HALF_WORD = np.dtype(np.uint32), np.dtype(np.uint16)
