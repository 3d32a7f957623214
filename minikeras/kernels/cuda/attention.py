"""Attention by heads: products, softmax and dropout of a tile of queries in one kernel, whose scores never leave it.

A block has a few queries of one head, with the scores of all sources in shared memory: a row of scores is whole there,
so its softmax is that of the formula.  The gradient at the scores is made in the same way, from another pair of arrays;
those at keys and values are sums over the queries, which a second kernel adds up for a tile of sources, in the order of
the queries.  Where a row of sources does not fit, the products are matrix products, and what lies between them is one
kernel.
"""

from __future__ import annotations

import math
from typing import Any

from minikeras.kernels.cuda.launch import FLOATS, Source, launch, threads_for
from minikeras.kernels.reference import attention as reference
from minikeras.kernels.table import Kernels, override

_COMMON = """
#define HIDDEN A(-2e38)  // a score that leaves nothing of a weight beside any other, and the mean among its like
// what may be attended to: bools by their strides, or none, and whether a step sees sources up to itself only
#define MASK \\
  const bool* mask, whole mask_batch, whole mask_head, whole mask_step, whole mask_source, whole causal
// of a weight: whether it is kept, as 0 or 1, and the factor of those that are
#define KEEP const unsigned char* keep, double keep_scale
struct Allowed {
  const bool* row;
  whole apart, last;
  __device__ bool operator()(whole source) const { return source <= last && (!row || row[source * apart]); }
};
#define ALLOWED(batch, head, step) \\
  Allowed { \\
    mask ? mask + (batch) * mask_batch + (head) * mask_head + (step) * mask_step : nullptr, mask_source, \\
        causal ? (step) : sources \\
  }
"""

# ---- where a row of sources fits -------------------------------------------------------------------------------------

_TILES = Source(
    _COMMON
    + """
// A block of 128 threads multiplies 8 * R rows by 64 columns, 32 numbers of their sums at a time: a thread has R rows
// (8 apart) and 4 columns (16 apart).
const int DEEP = 32, WIDE = 64, ACROSS = 16, DOWN = 8, LEFT = DEEP + 1, RIGHT = WIDE + 1;

// A corner of a matrix, with zeros beyond its end, to shared memory, where its rows and columns lie so far apart.
template <int HEIGHT, int WIDTH>
__device__ __forceinline__ void fetch(
    const T* x, whole apart, int rows, int columns, A* to, int to_row, int to_column) {
#pragma unroll 4
  for (int i = threadIdx.x; i < HEIGHT * WIDTH; i += ACROSS * DOWN) {
    int row = i / WIDTH, column = i % WIDTH;
    to[row * to_row + column * to_column] = row < rows && column < columns ? A(x[row * apart + column]) : A(0);
  }
}
template <int R>
__device__ __forceinline__ void multiply(A (&sums)[R][4], const A* left, int left_row, const A* right, int count) {
  int across = threadIdx.x % ACROSS, down = threadIdx.x / ACROSS, most = count < DEEP ? count : DEEP;
#pragma unroll 2
  for (int m = 0; m < most; ++m) {
    A a[R], b[4];
    for (int r = 0; r < R; ++r) a[r] = left[(down + DOWN * r) * left_row + m];
    for (int c = 0; c < 4; ++c) b[c] = right[m * RIGHT + across + ACROSS * c];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < 4; ++c) sums[r][c] += a[r] * b[c];
  }
}
// the sums of a thread with their rows and columns
#define EACH_SUM(row, column) \\
  for (int r = 0, row = threadIdx.x / ACROSS; r < R; ++r, row += DOWN) \\
    for (int c = 0, column = threadIdx.x % ACROSS; c < 4; ++c, column += ACROSS)

// of an array (batch, steps, heads, size)
#define STRIDES(name) whole name##_batch, whole name##_step, whole name##_head

#define OVER_ROW(s) _Pragma("unroll 1") for (int s = threadIdx.x % 32; s < sources; s += 32)
// scores of the rows of a tile become weights, and what of them is used; a warp has a row
#define SOFTMAX(first, tall) \\
  for (int i = threadIdx.x / 32; i < (tall) && first + i < steps; i += ACROSS * DOWN / 32) { \\
    Allowed allowed = ALLOWED(batch, head, first + i); \\
    A* row = scores + i * wide; \\
    A best = -INFINITE, total = 0; \\
    OVER_ROW(s) { \\
      row[s] = allowed(s) ? row[s] * A(scale) : HIDDEN; \\
      best = larger(best, row[s]); \\
    } \\
    best = over_warp<Largest>(best); \\
    OVER_ROW(s) total += row[s] = e_to(row[s] - best); \\
    total = over_warp<Sum>(total); \\
    whole at = ((batch * heads + head) * steps + first + i) * sources; \\
    OVER_ROW(s) { \\
      A weight = row[s] / total; \\
      if (zero_empty && !allowed(s)) weight *= 0; \\
      if (weights) weights[at + s] = weight; \\
      row[s] = keep ? weight * A(keep[at + s]) * A(keep_scale) : weight; \\
    } \\
  }
// gradients at what was used of the weights become those at the scores
#define SOFTMAX_GRAD(first, tall) \\
  for (int i = threadIdx.x / 32; i < (tall) && first + i < steps; i += ACROSS * DOWN / 32) { \\
    Allowed allowed = ALLOWED(batch, head, first + i); \\
    A *row = scores + i * wide, along = 0; \\
    whole at = ((batch * heads + head) * steps + first + i) * sources; \\
    OVER_ROW(s) { \\
      A g = s < reach ? row[s] : A(0); \\
      if (keep) g = g * A(keep[at + s]) * A(keep_scale); \\
      if (g_weights) g += A(g_weights[at + s]); \\
      row[s] = g; \\
      along += g * A(weights[at + s]); \\
    } \\
    along = over_warp<Sum>(along); \\
    OVER_ROW(s) { \\
      row[s] = allowed(s) ? A(weights[at + s]) * (row[s] - along) * A(scale) : A(0); \\
      g_scores[at + s] = row[s]; \\
    } \\
  }

// The products before and after the scores: of `left` (steps of a head) and `right`, both of `inner` numbers, and of
// the scores and `values` of `size` numbers.
#define BEFORE \\
  extern __shared__ double memory[]; \\
  const int TALL = DOWN * R; \\
  unsigned tiles = (steps + TALL - 1) / TALL; \\
  whole head = blockIdx.x / tiles % heads, batch = blockIdx.x / tiles / heads, group = head / (heads / groups); \\
  whole first = (whole)(blockIdx.x % tiles) * TALL; \\
  int wide = sources | 1, reach = causal && !mask && first + TALL < sources ? first + TALL : sources; \\
  A *scores = (A*)memory, *own = scores + TALL * wide, *other = own + TALL * LEFT; \\
  left += batch * left_batch + head * left_head + first * left_step; \\
  right += batch * right_batch + group * right_head; \\
  for (int s = 0; s < reach; s += WIDE) { \\
    A sums[R][4] = {}; \\
    for (int d = 0; d < inner; d += DEEP) { \\
      fetch<TALL, DEEP>(left + d, left_step, steps - first, inner - d, own, LEFT, 1); \\
      fetch<WIDE, DEEP>(right + s * right_step + d, right_step, sources - s, inner - d, other, 1, RIGHT); \\
      __syncthreads(); \\
      multiply<R>(sums, own, LEFT, other, inner - d); \\
      __syncthreads(); \\
    } \\
    EACH_SUM(row, column) if (s + column < sources) scores[row * wide + s + column] = sums[r][c]; \\
  } \\
  __syncthreads();
#define AFTER \\
  values += batch * values_batch + group * values_head; \\
  y += ((batch * steps + first) * heads + head) * size; \\
  for (int j = 0; j < size; j += WIDE) { \\
    A sums[R][4] = {}; \\
    for (int s = 0; s < reach; s += DEEP) { \\
      fetch<DEEP, WIDE>(values + s * values_step + j, values_step, sources - s, size - j, other, RIGHT, 1); \\
      __syncthreads(); \\
      multiply<R>(sums, scores + s, wide, other, reach - s); \\
      __syncthreads(); \\
    } \\
    EACH_SUM(row, column) \\
      if (first + row < steps && j + column < size) y[row * heads * size + j + column] = sums[r][c]; \\
  }
#define PRODUCTS \\
  whole steps, whole sources, whole heads, whole groups, whole inner, whole size, const T* left, STRIDES(left), \\
  const T* right, STRIDES(right), const T* values, STRIDES(values), T* y, double scale, MASK, KEEP
#define GIVEN \\
  steps, sources, heads, groups, inner, size, left, left_batch, left_step, left_head, right, right_batch, right_step, \\
  right_head, values, values_batch, values_step, values_head, y, scale, mask, mask_batch, mask_head, mask_step, \\
  mask_source, causal, keep, keep_scale

template <int R> __device__ __forceinline__ void attend(PRODUCTS, T* weights, whole zero_empty) {
  BEFORE
  SOFTMAX(first, TALL)
  AFTER
}
__global__ void attention(whole tall, PRODUCTS, T* weights, whole zero_empty) {
  if (tall == 32) attend<4>(GIVEN, weights, zero_empty);
  else if (tall == 16) attend<2>(GIVEN, weights, zero_empty);
  else attend<1>(GIVEN, weights, zero_empty);
}
template <int R>
__device__ __forceinline__ void attend_grad(PRODUCTS, const T* weights, const T* g_weights, T* g_scores) {
  BEFORE
  SOFTMAX_GRAD(first, TALL)
  AFTER
}
__global__ void attention_grad(whole tall, PRODUCTS, const T* weights, const T* g_weights, T* g_scores) {
  if (tall == 32) attend_grad<4>(GIVEN, weights, g_weights, g_scores);
  else if (tall == 16) attend_grad<2>(GIVEN, weights, g_weights, g_scores);
  else attend_grad<1>(GIVEN, weights, g_weights, g_scores);
}
// The sums, over the steps of all heads of a group, of weights times rows: (batch, sources, groups, size).
__global__ void attention_sources_grad(
    whole steps, whole sources, whole heads, whole groups, whole size, const T* weights, KEEP, const T* rows,
    STRIDES(rows), T* y, whole from_diagonal) {
  const int R = 4, TALL = DOWN * R;
  __shared__ A own[TALL * LEFT], other[DEEP * RIGHT];
  whole tiles = (sources + TALL - 1) / TALL, parts = (size + WIDE - 1) / WIDE, each = heads / groups;
  whole first = blockIdx.x % tiles * TALL, j = blockIdx.x / tiles % parts * WIDE;
  whole group = blockIdx.x / tiles / parts % groups, batch = blockIdx.x / tiles / parts / groups;
  A sums[R][4] = {};
  for (whole head = group * each; head < (group + 1) * each; ++head) {
    for (whole step = from_diagonal ? first : 0; step < steps; step += DEEP) {
      whole at = ((batch * heads + head) * steps + step) * sources + first;
      for (int i = threadIdx.x; i < DEEP * TALL; i += ACROSS * DOWN) {
        int row = i / TALL, column = i % TALL;
        A weight = 0;
        if (step + row < steps && first + column < sources) {
          weight = weights[at + row * sources + column];
          if (keep) weight = weight * A(keep[at + row * sources + column]) * A(keep_scale);
        }
        own[column * LEFT + row] = weight;
      }
      const T* x = rows + batch * rows_batch + step * rows_step + head * rows_head + j;
      fetch<DEEP, WIDE>(x, rows_step, steps - step, size - j, other, RIGHT, 1);
      __syncthreads();
      multiply<R>(sums, own, LEFT, other, steps - step);
      __syncthreads();
    }
  }
  EACH_SUM(row, column)
    if (first + row < sources && j + column < size)
      y[((batch * sources + first + row) * groups + group) * size + j + column] = sums[r][c];
}
"""
)

_THREADS, _SHARED = 128, 48 << 10
_MANY = 1 << 28  # multiplications of numbers of two bytes, beyond which tensor cores win what traffic costs


def _tile(query: Any, key: Any, value: Any) -> tuple[int, int]:
    """The queries of a block and the bytes that it shares; (0, 0) where matrix products are to be used."""
    (batch, steps, heads, depth), sources, size = query.shape, key.shape[1], value.shape[3]
    if query.itemsize == 2 and batch * heads * steps * sources * (depth + size) > _MANY:
        return 0, 0
    for tall in (32, 16, 8):
        shared = (tall * ((sources | 1) + 33) + 32 * 65) * max(query.itemsize, 4)
        if shared <= _SHARED and (tall == 8 or steps > tall // 2):
            return (tall, shared) if tall > 8 or steps <= 8 else (0, 0)
    return 0, 0


# ---- where it does not -----------------------------------------------------------------------------------------------

_ROWS = Source(
    _COMMON
    + """
// A block has a row, and the rows after as many as there are blocks.
#define EACH_ROW \\
  for (whole row = blockIdx.x; row < batches * heads * steps; row += gridDim.x)
#define PLACE \\
  whole step = row % steps, head = row / steps % heads, batch = row / steps / heads, at = row * sources; \\
  Allowed allowed = ALLOWED(batch, head, step);
// Scores become weights in place, and `used` what of them is used, where some are dropped.
__global__ void softmax_of_scores(
    T* scores, whole batches, whole heads, whole steps, whole sources, double scale, MASK, KEEP, whole zero_empty,
    T* used) {
  EACH_ROW {
    PLACE
    A best = -INFINITE, total = 0;
    EACH_IN_BLOCK(s, sources) best = larger(best, allowed(s) ? A(scores[at + s]) * A(scale) : HIDDEN);
    best = over_block<Largest>(best);
    EACH_IN_BLOCK(s, sources) total += e_to((allowed(s) ? A(scores[at + s]) * A(scale) : HIDDEN) - best);
    total = over_block<Sum>(total);
    EACH_IN_BLOCK(s, sources) {
      A weight = e_to((allowed(s) ? A(scores[at + s]) * A(scale) : HIDDEN) - best) / total;
      if (zero_empty && !allowed(s)) weight *= 0;
      scores[at + s] = weight;
      if (keep) used[at + s] = weight * A(keep[at + s]) * A(keep_scale);
    }
  }
}
// Gradients at what was used of the weights become those at the scores, in place.
__global__ void softmax_of_scores_grad(
    T* g_used, whole batches, whole heads, whole steps, whole sources, double scale, MASK, KEEP, const T* weights,
    const T* g_weights, T* used) {
  EACH_ROW {
    PLACE
    A along = 0;
    for (int turn = 0; turn < 2; ++turn) {
      EACH_IN_BLOCK(s, sources) {
        A factor = keep ? A(keep[at + s]) * A(keep_scale) : A(1), weight = weights[at + s];
        A g = A(g_used[at + s]) * factor + (g_weights ? A(g_weights[at + s]) : A(0));
        if (turn == 0) along += g * weight;
        else g_used[at + s] = allowed(s) ? weight * (g - along) * A(scale) : A(0);
        if (turn == 0 && keep) used[at + s] = weight * factor;
      }
      if (turn == 0) along = over_block<Sum>(along);
    }
  }
}
"""
)


_MOST_BLOCKS = 1 << 16


def _heads_first(k: Kernels, x: Any) -> Any:
    """(batch, steps, heads, size) as (batch, heads, steps, size) without gaps."""
    batch, steps, heads, size = x.shape
    y = k.empty((batch, heads, steps, size), x.dtype)
    y[...] = x.transpose(0, 2, 1, 3)
    return y


def _product(k: Kernels, a: Any, b: Any) -> Any:
    """Of stacks of matrices, in their type and without gaps."""
    product = k.matmul(a, b)
    if product.dtype == a.dtype and product.flags.c_contiguous:
        return product
    y = k.empty(product.shape, a.dtype)
    y[...] = product
    return y


def _launch_rows(k: Kernels, name: str, scores: Any, shape: tuple[int, ...], *arguments: Any) -> None:
    blocks = min(math.prod(shape[:3]), _MOST_BLOCKS)
    launch(k, _ROWS, name, scores.dtype, blocks, threads_for(shape[3]), (scores, *shape, *arguments))


# ---- overrides -------------------------------------------------------------------------------------------------------


def _are_taken(query: Any, key: Any, value: Any, mask: Any, keep: Any) -> bool:
    """Whether arrays are of one type of floats, none is empty, and masks are bytes."""
    if query.dtype.char not in FLOATS or not query.dtype == key.dtype == value.dtype:
        return False
    if 0 in query.shape or 0 in value.shape or (mask is not None and mask.dtype.char != "?"):
        return False
    return keep is None or (keep.dtype.char in "?B" and keep.flags.c_contiguous)


def _placed(k: Kernels, x: Any) -> tuple[Any, ...]:
    """An array, whose last axis has no gaps, with its other strides."""
    if x.shape[3] > 1 and x.strides[3] != x.itemsize:
        y = k.empty(x.shape, x.dtype)
        y[...] = x
        x = y
    return x, *[stride // x.itemsize for stride in x.strides[:3]]


def _masked(k: Kernels, mask: Any, causal: bool, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The arguments for `MASK`."""
    if mask is None:
        return None, 0, 0, 0, 0, causal
    return mask, *k.xp.broadcast_to(mask, shape).strides, causal


@override(reference.attention, "gpu", when=_are_taken)
def attention(
    k: Kernels, query: Any, key: Any, value: Any, scale: float, mask: Any = None, causal: bool = False,
    keep: Any = None, keep_scale: float = 1.0, zero_empty: bool = False, wants_weights: bool = True,
) -> tuple[Any, Any]:  # fmt: skip
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    shape, zero_empty = (batch, heads, steps, sources), zero_empty and (mask is not None or causal)
    masked, kept = _masked(k, mask, causal, shape), (keep, float(keep_scale))
    y = k.empty((batch, steps, heads, size), query.dtype)
    tall, shared = _tile(query, key, value)
    if tall:
        weights = k.empty(shape, query.dtype) if wants_weights else None
        arrays = (*_placed(k, query), *_placed(k, key), *_placed(k, value), y)
        sizes = (tall, steps, sources, heads, groups, depth, size)
        launch(
            k, _TILES, "attention", query.dtype, -(-steps // tall) * heads * batch, _THREADS,
            (*sizes, *arrays, float(scale), *masked, *kept, weights, zero_empty), shared=shared,
        )  # fmt: skip
        return y, weights
    by_group = (batch, groups, heads // groups * steps)
    keys, values = _heads_first(k, key), _heads_first(k, value)
    weights = _product(k, _heads_first(k, query).reshape(*by_group, depth), keys.swapaxes(-1, -2))
    used = weights if keep is None else k.empty(weights.shape, weights.dtype)
    _launch_rows(k, "softmax_of_scores", weights, shape, float(scale), *masked, *kept, zero_empty, used)
    y[...] = k.matmul(used, values).reshape(batch, heads, steps, size).transpose(0, 2, 1, 3)
    return y, weights.reshape(shape)


def _gradient_is_taken(g: Any, query: Any, weights: Any, g_weights: Any) -> bool:
    others = (weights,) if g_weights is None else (weights, g_weights)
    return g.dtype == query.dtype and all(one.dtype == g.dtype and one.flags.c_contiguous for one in others)


@override(reference.attention_grad, "gpu", when=(_are_taken, _gradient_is_taken))
def attention_grad(
    k: Kernels, g: Any, query: Any, key: Any, value: Any, weights: Any, scale: float, mask: Any = None,
    causal: bool = False, keep: Any = None, keep_scale: float = 1.0, g_weights: Any = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    shape, dtype = (batch, heads, steps, sources), query.dtype
    masked, kept = _masked(k, mask, causal, shape), (keep, float(keep_scale))
    gradients = [k.empty(one.shape, dtype) for one in (query, key, value)]
    g_query, g_key, g_value = gradients
    tall, shared = _tile(query, key, value)
    if tall:
        g_scores, placed, rows = k.empty(shape, dtype), _placed(k, g), _placed(k, query)
        arrays = (*placed, *_placed(k, value), *_placed(k, key), g_query)
        sizes = (tall, steps, sources, heads, groups, size, depth)
        launch(
            k, _TILES, "attention_grad", dtype, -(-steps // tall) * heads * batch, _THREADS,
            (*sizes, *arrays, float(scale), *masked, *kept, weights, g_weights, g_scores), shared=shared,
        )  # fmt: skip
        for out, scores, dropped, x in ((g_key, g_scores, (None, 1.0), rows), (g_value, weights, kept, placed)):
            blocks = -(-sources // 32) * -(-out.shape[3] // 64) * groups * batch
            given = (steps, sources, heads, groups, out.shape[3], scores, *dropped, *x, out, causal and mask is None)
            launch(k, _TILES, "attention_sources_grad", dtype, blocks, _THREADS, given)
        return g_query, g_key, g_value
    by_group = (batch, groups, heads // groups * steps)
    queries, rows = _heads_first(k, query).reshape(*by_group, depth), _heads_first(k, g).reshape(*by_group, size)
    keys, values = _heads_first(k, key), _heads_first(k, value)
    g_scores = _product(k, rows, values.swapaxes(-1, -2))
    used = weights if keep is None else k.empty(shape, dtype)
    given = (float(scale), *masked, *kept, weights, g_weights, used)
    _launch_rows(k, "softmax_of_scores_grad", g_scores, shape, *given)
    used = used.reshape(*by_group, sources)
    g_query[...] = k.matmul(g_scores, keys).reshape(batch, heads, steps, depth).transpose(0, 2, 1, 3)
    g_key[...] = k.matmul(g_scores.swapaxes(-1, -2), queries).transpose(0, 2, 1, 3)
    g_value[...] = k.matmul(used.swapaxes(-1, -2), rows).transpose(0, 2, 1, 3)
    return g_query, g_key, g_value
