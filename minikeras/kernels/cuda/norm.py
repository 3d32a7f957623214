"""Normalisation: of rows or groups by few threads or a block; of columns by tiles of rows, whose sums are then joined.

Batch statistics take one pass: a thread takes the mean of 8 rows and the squared distances from it, and what threads
and tiles have found is joined in float64 (Chan et al. 1983), so that a mean far from zero costs no digits.  The
statistics of types of two bytes are kept in float32 for the way back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import FLOATS, THREADS, TYPES, Source, contiguous_numbers, launch
from minikeras.kernels.cuda.rows import in_order, of_rows
from minikeras.kernels.reference import norm as reference
from minikeras.kernels.table import Kernels, override

_FLOAT, _DOUBLE = np.dtype("float32"), np.dtype("float64")


def _kept(dtype: Any) -> Any:
    """The type of statistics."""
    return _FLOAT if dtype.itemsize == 2 else dtype


def _like(k: Kernels, x: Any, out: Any) -> Any:
    return k.empty(x.shape, x.dtype) if out is None else out


def _are_plain(dtype: Any, *arrays: Any) -> bool:
    """Whether arrays (None: absent) are contiguous and of a type."""
    return all([one is None or (one.dtype == dtype and one.flags.c_contiguous) for one in arrays])


def _fit(shape: tuple[int, ...], *vectors: Any) -> bool:
    """Whether vectors (None: absent) have that shape: kernels do not look."""
    return all([one is None or one.shape == shape for one in vectors])


def _scale_and_shift_fit(x: Any, gamma: Any, beta: Any) -> bool:
    return _fit(x.shape[-1:], gamma, beta)


def _is_known(g: Any, residual: Any, outs: tuple) -> bool:
    """Whether a residual is as kernels here make it, but for the mask of a batch."""
    x, gamma, beta, mean, inverse = residual[:5]
    kind = inverse.dtype
    if not (g.dtype.char in FLOATS and g.size and kind.char in FLOATS and g.shape == x.shape):
        return False
    shape = x.shape[-1:]
    fit = _are_plain(g.dtype, x, gamma, beta, *outs) and _fit(shape, gamma, beta, *outs)
    return fit and _are_plain(kind, mean, inverse)


# ---- rows and groups -------------------------------------------------------------------------------------------------

_ROWS = Source(
    """
// A group is `size` neighbouring channels at all positions of a sample.  The threads of a row (`rows.cu`) have a group,
// so many of them (`across`, a power of two) channels side by side.  A row that is normalised as a whole is a group.
struct Group {
  whole row, at, channel, channels;
  int first, line, lines;
  __device__ __forceinline__ Group(whole rows, whole groups, whole positions, whole size, whole across) {
    row = own_row(rows);
    channel = row % groups * size;
    channels = groups * size;
    at = row / groups * positions * channels + channel;
    first = threadIdx.x & (int)(across - 1);
    line = threadIdx.x / (int)across;
    lines = blockDim.x / (int)across;
  }
};
#define EACH_OF_GROUP(p, j) \\
  for (whole p = group.line; p < positions; p += group.lines) for (whole j = group.first; j < size; j += across)

// without means (null) they count as 0
__global__ void norm_rows(
    const T* x, const T* gamma, const T* beta, T* y, S* means, S* inverses, double epsilon, double share, whole rows,
    whole groups, whole positions, whole size, whole across
) {
  Group group(rows, groups, positions, size, across);
  A mean = 0, squares = 0;
  if (means) {
    EACH_OF_GROUP(p, j) mean += x[group.at + p * group.channels + j];
    mean = over_row<Sum>(mean) * A(share);
  }
  EACH_OF_GROUP(p, j) {
    A distance = A(x[group.at + p * group.channels + j]) - mean;
    squares += distance * distance;
  }
  A inverse = 1 / root(over_row<Sum>(squares) * A(share) + A(epsilon));
  EACH_OF_GROUP(p, j) {
    whole i = group.at + p * group.channels + j;
    A value = (A(x[i]) - mean) * inverse;
    if (gamma) value *= gamma[group.channel + j];
    if (beta) value += beta[group.channel + j];
    y[i] = value;
  }
  if (threadIdx.x == 0) {
    inverses[group.row] = inverse;
    if (means) means[group.row] = mean;
  }
}
__global__ void norm_rows_grad(
    const T* g, const T* x, const T* gamma, const S* means, const S* inverses, T* g_x, double share, whole rows,
    whole groups, whole positions, whole size, whole across
) {
  Group group(rows, groups, positions, size, across);
  A mean = means ? A(means[group.row]) : A(0), inverse = inverses[group.row], across_g = 0, along = 0;
  EACH_OF_GROUP(p, j) {
    whole i = group.at + p * group.channels + j;
    A scaled = gamma ? A(g[i]) * A(gamma[group.channel + j]) : A(g[i]);
    across_g += scaled;
    along += scaled * ((A(x[i]) - mean) * inverse);
  }
  along = over_row<Sum>(along) * A(share);
  across_g = means ? over_row<Sum>(across_g) * A(share) : A(0);
  EACH_OF_GROUP(p, j) {
    whole i = group.at + p * group.channels + j;
    A scaled = gamma ? A(g[i]) * A(gamma[group.channel + j]) : A(g[i]);
    g_x[i] = (scaled - across_g - (A(x[i]) - mean) * inverse * along) * inverse;
  }
}
// `longer`: whether a row's square is more than the least, as 1 and 0
__global__ void unit_rows(const T* x, T* y, S* inverses, S* longer, double least, whole rows, whole columns) {
  whole row = own_row(rows), at = row * columns;
  A squares = 0;
  EACH_IN_BLOCK(j, columns) squares += A(x[at + j]) * A(x[at + j]);
  squares = over_row<Sum>(squares);
  A inverse = 1 / root(larger(squares, A(least)));
  EACH_IN_BLOCK(j, columns) y[at + j] = A(x[at + j]) * inverse;
  if (threadIdx.x == 0) {
    inverses[row] = inverse;
    longer[row] = A(squares > A(least));
  }
}
__global__ void unit_rows_grad(
    const T* g, const T* y, const S* inverses, const S* longer, T* g_x, whole rows, whole columns
) {
  whole row = own_row(rows), at = row * columns;
  A along = 0, inverse = inverses[row];
  EACH_IN_BLOCK(j, columns) along += A(g[at + j]) * A(y[at + j]);
  along = over_row<Sum>(along) * A(longer[row]);
  EACH_IN_BLOCK(j, columns) g_x[at + j] = inverse * (A(g[at + j]) - A(y[at + j]) * along);
}
""",
    parts=("rows.cu",),
    types=("S",),
)


def _of_groups(x: Any, groups: int) -> tuple[Any, Any, tuple[Any, ...]]:
    """Blocks, threads, and the last arguments of kernels for groups of an array (n, positions, channels)."""
    samples, positions, channels = x.shape
    size = channels // groups
    blocks, (lanes, together) = of_rows(samples * groups, positions * size)
    across = min(1 << (size - 1).bit_length(), lanes)
    return blocks, (lanes, together), (1 / (positions * size), samples * groups, groups, positions, size, across)


def _norm_rows(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, groups: int, shape: tuple[int, ...], centered: bool,
    out: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """An array (n, positions, channels) normalised, and the statistics of its groups in a shape."""
    kept, y = _kept(x.dtype), _like(k, x, out)
    mean, inverse = k.empty(shape, kept) if centered else None, k.empty(shape, kept)
    grid, block, last = _of_groups(x, groups)
    arguments = x, gamma, beta, y, mean, inverse, float(epsilon), *last
    launch(k, _ROWS, "norm_rows", x.dtype, grid, block, arguments, S=kept)
    return y, mean, inverse


def _norm_rows_grad(k: Kernels, g: Any, x: Any, gamma: Any, mean: Any, inverse: Any, groups: int) -> Any:
    """The gradient at an array (n, positions, channels)."""
    g_x, (grid, block, last) = k.empty(x.shape, x.dtype), _of_groups(x, groups)
    arguments = g, x, gamma, mean, inverse, g_x, *last
    launch(k, _ROWS, "norm_rows_grad", x.dtype, grid, block, arguments, S=inverse.dtype)
    return g_x


@override(reference.layer_norm, "gpu", when=(contiguous_numbers("x", "gamma", "beta", "out"), _scale_and_shift_fit))
def layer_norm(k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(k, x, out)
    _, *statistics = _norm_rows(k, x[:, None], gamma, beta, epsilon, 1, (len(x), 1), True, y)
    return y, (x, gamma, beta, *statistics)


def _scale_fits(x: Any, gamma: Any) -> bool:
    return _fit(x.shape[-1:], gamma)


@override(reference.rms_norm, "gpu", when=(contiguous_numbers("x", "gamma", "out"), _scale_fits))
def rms_norm(k: Kernels, x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(k, x, out)
    _, *statistics = _norm_rows(k, x[:, None], gamma, None, epsilon, 1, (len(x), 1), False, y)
    return y, (x, gamma, None, *statistics)


@override(reference.layer_norm_grad, "gpu", when=_is_known)
def layer_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse = residual
    g = in_order(k, g)
    slopes = _slopes(k, g, residual, (gamma is not None, beta is not None), outs, 1, 1)
    return _norm_rows_grad(k, g, x[:, None], gamma, mean, inverse, 1).reshape(x.shape) if needs_x else None, *slopes


def _are_groups(x: Any, groups: int) -> bool:
    return groups > 0 and x.shape[-1] % groups == 0


@override(
    reference.group_norm, "gpu", when=(contiguous_numbers("x", "gamma", "beta"), _scale_and_shift_fit, _are_groups)
)
def group_norm(k: Kernels, x: Any, gamma: Any, beta: Any, groups: int, epsilon: float) -> tuple[Any, Any]:
    y, *statistics = _norm_rows(k, x, gamma, beta, epsilon, groups, (len(x), 1, groups, 1), True, None)
    return y, (x, gamma, beta, *statistics)


@override(reference.group_norm_grad, "gpu", when=_is_known)
def group_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse = residual
    g, groups = in_order(k, g), mean.shape[2]
    slopes = _slopes(k, g, residual, (gamma is not None, beta is not None), outs, x.shape[1], groups)
    return _norm_rows_grad(k, g, x, gamma, mean, inverse, groups) if needs_x else None, *slopes


@override(reference.unit_norm, "gpu", when=contiguous_numbers("x"))
def unit_norm(k: Kernels, x: Any, epsilon: float) -> tuple[Any, Any]:
    kept, y = _kept(x.dtype), k.empty(x.shape, x.dtype)
    inverse, longer = k.empty((len(x), 1), kept), k.empty((len(x), 1), kept)
    arguments = x, y, inverse, longer, float(epsilon * epsilon), *x.shape
    launch(k, _ROWS, "unit_rows", x.dtype, *of_rows(*x.shape), arguments, S=kept)
    return y, (y, inverse, longer)


def _is_unit(g: Any, residual: Any) -> bool:
    y, inverse, longer = residual
    if not (g.dtype.char in FLOATS and g.size and g.shape == y.shape and inverse.dtype.char in FLOATS):
        return False
    return _are_plain(g.dtype, y) and _are_plain(inverse.dtype, inverse, longer)


@override(reference.unit_norm_grad, "gpu", when=_is_unit)
def unit_norm_grad(k: Kernels, g: Any, residual: Any) -> Any:
    (y, inverse, longer), g_x = residual, k.empty(g.shape, g.dtype)
    arguments = in_order(k, g), y, inverse, longer, g_x, *y.shape
    launch(k, _ROWS, "unit_rows_grad", g.dtype, *of_rows(*y.shape), arguments, S=inverse.dtype)
    return g_x


# ---- columns ---------------------------------------------------------------------------------------------------------

_COLUMNS = Source(
    """
// A block has some neighbouring columns, each of one threadIdx.x, of a tile of rows, which its threads of several
// threadIdx.y share.  What blocks find is joined by a warp for each column.
#define TILE_OF_ROWS                                                          \\
  whole column = blockIdx.x * (whole)blockDim.x + threadIdx.x;                \\
  whole tile = (rows + gridDim.y - 1) / gridDim.y, first = blockIdx.y * tile; \\
  whole last = first + tile < rows ? first + tile : rows;
#define EACH_OF_TILE(row) for (whole row = first + threadIdx.y; row < last; row += blockDim.y)
#define ROWS_AT_ONCE 8
#define SOME_OF_TILE(row) for (whole row = first + threadIdx.y; row < last; row += ROWS_AT_ONCE * blockDim.y)

// the mean of numbers that have weights, and the sum of their squared distances from it
struct Moments {
  double weight, mean, squares;
};
__device__ __forceinline__ Moments joined(Moments a, Moments b) {
  double weight = a.weight + b.weight, share = weight > 0 ? 1 / weight : 0, distance = a.mean - b.mean;
  return {weight, (a.mean * a.weight + b.mean * b.weight) * share,
          a.squares + b.squares + distance * distance * (a.weight * b.weight * share)};
}
__global__ void column_moments(const T* x, const M* mask, Moments* parts, whole rows, whole columns) {
  __shared__ Moments found[256];
  TILE_OF_ROWS
  Moments all = {0, 0, 0};
  if (column < columns) SOME_OF_TILE(row) {
    A distances[ROWS_AT_ONCE], weights[ROWS_AT_ONCE], weight = 0, mean = 0, squares = 0;
    A origin = x[row * columns + column];  // sums of what is near it are exact
#pragma unroll
    for (int i = 0; i < ROWS_AT_ONCE; ++i) {
      whole at = row + i * (whole)blockDim.y;
      weights[i] = at < last ? mask ? A(mask[at]) : A(1) : A(0);
      distances[i] = at < last ? A(x[at * columns + column]) - origin : A(0);
      weight += weights[i];
      mean += weights[i] * distances[i];
    }
    if (weight > 0) mean /= weight;
#pragma unroll
    for (int i = 0; i < ROWS_AT_ONCE; ++i) squares += weights[i] * (distances[i] - mean) * (distances[i] - mean);
    all = joined(all, {weight, double(origin) + double(mean), squares});
  }
  Moments* own = found + threadIdx.y * blockDim.x + threadIdx.x;
  *own = all;
  for (int half = blockDim.y / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) *own = joined(*own, own[half * blockDim.x]);
  }
  if (threadIdx.y == 0 && column < columns) parts[column * gridDim.y + blockIdx.y] = *own;
}
// Weights that add up to next to nothing (`least`) count as so much; they are noted in `total`.
__global__ void join_moments(
    const Moments* parts, whole tiles, S* mean, S* inverse, T* mean_out, T* variance_out, double* total, double epsilon,
    double least, whole columns
) {
  whole column = own_row(columns);
  Moments all = {0, 0, 0};
  for (whole i = threadIdx.x; i < tiles; i += 32) all = joined(all, parts[column * tiles + i]);
  for (int d = 16; d; d /= 2)
    all = joined(all, {__shfl_xor_sync(0xffffffffu, all.weight, d), __shfl_xor_sync(0xffffffffu, all.mean, d),
                       __shfl_xor_sync(0xffffffffu, all.squares, d)});
  if (threadIdx.x) return;
  double weight = larger(all.weight, least), middle = all.mean * all.weight / weight, distance = all.mean - middle;
  A variance = (all.squares + distance * distance * all.weight) / weight;
  mean[column] = A(middle);
  inverse[column] = 1 / root(variance + A(epsilon));
  variance_out[column] = variance;
  if (mean_out) mean_out[column] = A(middle);
  if (total && column == 0) *total = weight;
}
// Where there are variances, the inverse deviations are made of them; where there are shares, those of the rows in the
// weights, which add up to `total`.
__global__ void normalize_columns(
    const T* x, const S* mean, const T* variance, S* inverse, const T* gamma, const T* beta, T* y, double epsilon,
    const M* mask, const double* total, S* shares, whole rows, whole columns
) {
  TILE_OF_ROWS
  if (column >= columns) return;
  A middle = mean[column], scale = variance ? 1 / root(A(variance[column]) + A(epsilon)) : A(inverse[column]);
  if (variance && first == 0 && threadIdx.y == 0) inverse[column] = scale;
  A factor = gamma ? A(gamma[column]) : A(1), shift = beta ? A(beta[column]) : A(0);
  EACH_OF_TILE(row) {
    y[row * columns + column] = (A(x[row * columns + column]) - middle) * scale * factor + shift;
    if (shares && column == 0) shares[row] = A(double(mask[row]) / *total);
  }
}

// the sum over a column's threads; the first has it
__device__ double over_column(double value) {
  __shared__ double parts[256];
  double* own = parts + threadIdx.y * blockDim.x + threadIdx.x;
  *own = value;
  for (int half = blockDim.y / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) *own += own[half * blockDim.x];
  }
  value = *own;
  __syncthreads();  // the next call writes to `parts`
  return value;
}
struct Slopes {
  double along, total;
};
// Sums over the rows of g and of g times normalised values.  Statistics (null means count as 0) are of so many rows
// (`positions`) and columns (`size`), of which there are `groups` side by side.  `g_x`, where it is not null, becomes g
// times the inverse deviation and gamma.
__global__ void column_slopes(
    const T* g, const T* x, const S* mean, const S* inverse, const T* gamma, T* g_x, Slopes* parts, whole positions,
    whole groups, whole size, whole rows, whole columns
) {
  TILE_OF_ROWS
  Slopes all = {0, 0};
  if (column < columns) {
    whole group = size == 1 ? column : column / size;
    SOME_OF_TILE(row) {
      A along = 0, total = 0;
#pragma unroll 4
      for (int i = 0; i < ROWS_AT_ONCE; ++i) {
        whole at = row + i * (whole)blockDim.y;
        if (at >= last) continue;
        whole of = (positions == rows ? 0 : positions == 1 ? at : at / positions) * groups + group;
        A slope = g[at * columns + column], deviation = inverse[of];
        total += slope;
        along += slope * ((A(x[at * columns + column]) - (mean ? A(mean[of]) : A(0))) * deviation);
        if (g_x) g_x[at * columns + column] = slope * (gamma ? deviation * A(gamma[column]) : deviation);
      }
      all.along += along;
      all.total += total;
    }
  }
  all.along = over_column(all.along);
  all.total = over_column(all.total);
  if (threadIdx.y == 0 && column < columns && parts) parts[column * gridDim.y + blockIdx.y] = all;
}
// each of the results where it is wanted
__global__ void join_slopes(
    const Slopes* parts, whole tiles, T* g_gamma, T* g_beta, S* along, S* total, whole columns
) {
  whole column = own_row(columns);
  Slopes all = {0, 0};
  for (whole i = threadIdx.x; i < tiles; i += 32) {
    all.along += parts[column * tiles + i].along;
    all.total += parts[column * tiles + i].total;
  }
  all.along = over_warp<Sum>(all.along);
  all.total = over_warp<Sum>(all.total);
  if (threadIdx.x) return;
  if (g_gamma) g_gamma[column] = A(all.along);
  if (g_beta) g_beta[column] = A(all.total);
  if (along) along[column] = A(all.along);
  if (total) total[column] = A(all.total);
}
// the gradient through the statistics of a batch, in which rows have shares, or one that is the same for all
__global__ void batch_slopes(
    const T* g, const T* x, const S* mean, const S* inverse, const T* gamma, const S* along, const S* total,
    const S* shares, double share, T* g_x, whole rows, whole columns
) {
  TILE_OF_ROWS
  if (column >= columns) return;
  A middle = mean[column], deviation = inverse[column], of_x = along[column], of_all = total[column];
  A scale = gamma ? deviation * A(gamma[column]) : deviation;
  EACH_OF_TILE(row) {
    A normalized = (A(x[row * columns + column]) - middle) * deviation;
    A weight = shares ? A(shares[row]) : A(share);
    g_x[row * columns + column] = (A(g[row * columns + column]) - (normalized * of_x + of_all) * weight) * scale;
  }
}
""",
    parts=("rows.cu",),
    types=("S", "M"),
)
_AT_ONCE, _MOST_BLOCKS = 8, 2048  # rows that a thread takes together; blocks that are enough
_MOMENTS, _SLOPES = 3, 2  # numbers of float64 in what is joined


def _of_columns(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(blocks, threads) for a matrix whose columns are looked at by tiles of rows."""
    if columns < 8:
        width = 1 << (columns - 1).bit_length()
    else:  # as few as possible beyond the last, as many as possible side by side
        width = min((8, 16, 32), key=lambda one: (-(-columns // one) * one, -one))
    across, height = -(-columns // width), THREADS // width
    tiles = min(-(-rows // (_AT_ONCE * height)), max(_MOST_BLOCKS // across, 1))
    return (across, tiles), (width, height)


_JOINING = 32, THREADS // 32  # threads of a block that joins what tiles have found, of which a warp has a column


def _slopes(
    k: Kernels, g: Any, residual: Any, wanted: tuple[bool, bool], outs: tuple, positions: int, groups: int,
    sums: Any = None, g_x: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Gradients of gamma and beta where they are wanted; both also to `sums`, which may be None like `g_x`."""
    x, gamma, _, mean, inverse = residual[:5]
    columns = x.shape[-1]
    rows = x.size // columns
    made = [
        None if not want else k.empty((columns,), x.dtype) if out is None else out
        for want, out in zip(wanted, outs, strict=True)
    ]
    if not any(wanted) and sums is None and g_x is None:
        return None, None
    grid, block = _of_columns(rows, columns)
    types = {"S": inverse.dtype, "M": _FLOAT}
    joins = any(wanted) or sums is not None
    parts = k.empty((columns, grid[1], _SLOPES), _DOUBLE) if joins else None
    arguments = g, x, mean, inverse, gamma, g_x, parts, positions, groups, columns // groups, rows, columns
    launch(k, _COLUMNS, "column_slopes", x.dtype, grid, block, arguments, **types)
    if joins:
        both = (None, None) if sums is None else (sums[0], sums[1])
        arguments = parts, grid[1], *made, *both, columns
        launch(k, _COLUMNS, "join_slopes", x.dtype, -(-columns // _JOINING[1]), _JOINING, arguments, **types)
    return made[0], made[1]


def _mask_fits(x: Any, mask: Any) -> bool:
    if mask is None:
        return True
    return mask.shape == x.shape[:1] and mask.dtype.char in TYPES and mask.flags.c_contiguous


@override(
    reference.batch_norm,
    "gpu",
    when=(contiguous_numbers("x", "gamma", "beta", "out"), _scale_and_shift_fit, _mask_fits),
)
def batch_norm(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    (rows, columns), kept, y = x.shape, _kept(x.dtype), _like(k, x, out)
    mean, inverse, variance = k.empty((columns,), kept), k.empty((columns,), kept), k.empty((columns,), x.dtype)
    rounded = None if kept == x.dtype else k.empty((columns,), x.dtype)
    shares, total = (None, None) if mask is None else (k.empty((rows, 1), kept), k.empty((1,), _DOUBLE))
    grid, block = _of_columns(rows, columns)
    parts = k.empty((columns, grid[1], _MOMENTS), _DOUBLE)
    types = {"S": kept, "M": _FLOAT if mask is None else mask.dtype}
    launch(k, _COLUMNS, "column_moments", x.dtype, grid, block, (x, mask, parts, rows, columns), **types)
    arguments: tuple[Any, ...] = (
        parts, grid[1], mean, inverse, rounded, variance, total, float(epsilon), reference.TINY_WEIGHT, columns,
    )  # fmt: skip
    launch(k, _COLUMNS, "join_moments", x.dtype, -(-columns // _JOINING[1]), _JOINING, arguments, **types)
    arguments = x, mean, None, inverse, gamma, beta, y, 0.0, mask, total, shares, rows, columns
    launch(k, _COLUMNS, "normalize_columns", x.dtype, grid, block, arguments, **types)
    share = 1 / rows if shares is None else shares
    return y, mean if rounded is None else rounded, variance, (x, gamma, beta, mean, inverse, share)


def _is_known_share(residual: Any) -> bool:
    share, inverse = residual[5], residual[4]
    return isinstance(share, (int, float)) or _are_plain(inverse.dtype, share)


def _has_columns(g: Any, residual: Any) -> bool:
    """Whether the statistics of a residual are those of columns, and not one for all of them."""
    return _fit(g.shape[-1:], residual[3], residual[4])


@override(reference.batch_norm_grad, "gpu", when=(_is_known, _is_known_share))
def batch_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse, share = residual
    (rows, columns), kept, g, g_x = x.shape, inverse.dtype, in_order(k, g), None
    sums = k.empty((2, columns), kept) if needs_x else None
    slopes = _slopes(k, g, residual, (gamma is not None, beta is not None), outs, rows, columns, sums)
    if sums is not None:
        g_x = k.empty(x.shape, x.dtype)
        of_all, of_rows = (float(share), None) if isinstance(share, (int, float)) else (0.0, share)
        arguments = g, x, mean, inverse, gamma, sums[0], sums[1], of_rows, of_all, g_x, rows, columns
        grid, block = _of_columns(rows, columns)
        launch(k, _COLUMNS, "batch_slopes", x.dtype, grid, block, arguments, S=kept, M=_FLOAT)
    return g_x, *slopes


def _all_fit(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any) -> bool:
    return _fit(x.shape[-1:], mean, variance, gamma, beta)


@override(
    reference.fixed_norm,
    "gpu",
    when=(contiguous_numbers("x", "mean", "variance", "gamma", "beta", "out"), _all_fit),
)
def fixed_norm(
    k: Kernels, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None
) -> tuple[Any, Any]:
    (rows, columns), y, inverse = x.shape, _like(k, x, out), k.empty(variance.shape, x.dtype)
    arguments = x, mean, variance, inverse, gamma, beta, y, float(epsilon), None, None, None, rows, columns
    launch(k, _COLUMNS, "normalize_columns", x.dtype, *_of_columns(rows, columns), arguments, S=x.dtype, M=_FLOAT)
    return y, (x, gamma, beta, mean, inverse)


@override(reference.fixed_norm_grad, "gpu", when=(_is_known, _has_columns))
def fixed_norm_grad(
    k: Kernels, g: Any, residual: Any, needs: tuple[bool, bool] = (True, True), outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, g = residual[0], in_order(k, g)
    g_x = k.empty(x.shape, x.dtype) if needs[0] else None
    rows, columns = x.shape
    return g_x, *_slopes(k, g, residual, (needs[1], needs[1]), outs, rows, columns, None, g_x)
