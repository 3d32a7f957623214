"""Convolutions as matrix products whose columns are never in memory, and large ones as products of columns that are.

A block of 256 threads makes a tile of the result, 4 x 4 values a thread, from 16 columns at a time, which it gathers
from the arrays into the memory that it shares (`multiply`).  All three passes are such products, of any rank, stride,
padding and dilation:

    output        (positions x taps and channels) * (taps and channels x filters)
    input grad    (inputs x taps and filters) * (taps and filters x channels)
    kernel grad   (taps and channels x positions) * (positions x filters)

For the gradient at the input, inputs are sorted by their places modulo the strides: those of one *phase* take part in
outputs by the same taps, so they too are windows that go on by 1, and nothing is multiplied by the zeros between the
outputs.  For the kernel's gradient positions are cut into spans, whose sums are added up in their order by a second
kernel, so that there are blocks enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.cuda.activation import ACTIVATIONS, known_activation
from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, each, launch
from minikeras.kernels.reference import conv as reference
from minikeras.kernels.reference.conv import Ints, Padding, is_pointwise, output_shape
from minikeras.kernels.table import Kernels, override

# ---- geometry --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def geometry(x_shape: Ints, size: Ints, strides: Ints, padding: Padding, dilation: Ints) -> Ints:
    """The arguments for `GEOMETRY` (windows.cu): of each kind three numbers, for axes that are missing those of one."""
    missing = 3 - len(size)
    before = [pair[0] for pair in padding]
    common = [math.gcd(s, d) for s, d in zip(strides, dilation, strict=True)]
    apart = [s // c for s, c in zip(strides, common, strict=True)]
    nearer = [d // c for d, c in zip(dilation, common, strict=True)]
    kinds = x_shape[1:-1], output_shape(x_shape, size, strides, padding, dilation), size, strides
    ones, zeros = [1] * missing, [0] * missing
    numbers = [[*ones, *kind] for kind in kinds] + [[*zeros, *before]]
    numbers += [[*ones, *kind] for kind in (dilation, apart, nearer)]
    return tuple(number for kind in numbers for number in kind)


def fits(x_shape: Ints, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    """Whether there is one number of each kind for each of up to three axes, and places in a picture fit 32 bits."""
    rank = len(kernel_shape) - 2
    of_each_axis = rank == len(x_shape) - 2 == len(strides) == len(padding) == len(dilation)
    return 1 <= rank <= 3 and of_each_axis and math.prod(x_shape[1:-1]) < 1 << 30


# ---- sums of parts ---------------------------------------------------------------------------------------------------

_ADDING = Source(
    """
// 32 sums a block, of parts that are `count` apart; 8 threads share one, always in the same way
__global__ void add_parts(const P* parts, T* out, whole count, whole many, whole divisor) {
  __shared__ A sums[8][32];
  int lane = threadIdx.x % 32, row = threadIdx.x / 32;
  whole i = blockIdx.x * 32ll + lane;
  A sum = 0;
  if (i < count)
    for (whole part = row; part < many; part += 8) sum += A(parts[part * count + i]);
  sums[row][lane] = sum;
  __syncthreads();
  if (row == 0 && i < count) {
    for (int r = 1; r < 8; ++r) sum += sums[r][lane];
    out[i] = sum / A(divisor);
  }
}
""",
    types=("P",),
)


def add_parts(k: Kernels, parts: Any, out: Any, divisor: int = 1) -> None:
    """Write the sums over the first axis to `out`, divided by a number."""
    blocks = -(-out.size // 32)
    launch(k, _ADDING, "add_parts", out.dtype, blocks, 256, (parts, out, out.size, len(parts), divisor), P=parts.dtype)


def sums_of(dtype: Any) -> np.dtype:
    """The type that sums of numbers of a type are made in."""
    return np.dtype("float64" if dtype.char == "d" else "float32")


def spans(positions: int, blocks: int, step: int, bytes_of_part: int, most: int = 1024) -> tuple[int, int]:
    """(how many spans positions are cut into, their length, a multiple of a step), by shapes alone.

    There are to be a thousand blocks, each with some work; a number is not to be added to thousands of others; and the
    parts are not to take more than 64 MB.
    """
    wanted = max(-(-1024 // blocks), -(-positions // 4096))
    most = min(most, (64 << 20) // bytes_of_part, -(-positions // (8 * step)))
    length = max(-(-positions // (max(min(wanted, most), 1) * step)), 1) * step
    return max(-(-positions // length), 1), length


# ---- products in tiles -----------------------------------------------------------------------------------------------

_COMMON = """
template <class V> using Four = Pack<V, 4>;

__device__ __forceinline__ void take(const T* from, A* values) {
  Four<T> found = several<4>(from);
  for (int j = 0; j < 4; ++j) values[j] = found.v[j];
}
template <class V> __device__ __forceinline__ void put(const A* values, V* to) {
  Four<V> y;
  for (int j = 0; j < 4; ++j) y.v[j] = values[j];
  *(Four<V>*)to = y;
}
__device__ __forceinline__ void clear(A* values) {
  for (int j = 0; j < 4; ++j) values[j] = 0;
}

// Four columns (tap and channel) of the matrix of windows, in rows (positions) that go on by a step.
struct Columns {
  const T* x;  // the group's first channel
  int channels, pictures;
  Geometry g;
  bool fours;
  Digits column;  // the first: tap, tap, tap, channel
  Digits at;      // picture, place, place, place

  __device__ __forceinline__ Columns(
      const T* x, int channels, int own, int pictures, const Geometry& g, whole column, whole position, int by)
      : x(x), channels(channels), pictures(pictures), g(g), fours(in_fours(x, channels) && own % 4 == 0),
        column(column, 0, g.size[1], g.size[2], own), at(position, by, g.output) {}
  __device__ __forceinline__ const T* place(const Digits& column) const {
    int p[3];
    for (int i = 0; i < 3; ++i) p[i] = at.at[i + 1] * g.stride[i] + column.at[i] * g.dilation[i] - g.before[i];
    bool inside = at.at[0] < pictures && column.at[0] < g.size[0] && within(p, g.input);
    return inside ? x + g.position(at.at[0], p) * channels + column.at[3] : nullptr;
  }
  __device__ __forceinline__ void read(A* values) {
    clear(values);
    if (fours) {
      const T* from = place(column);
      if (from) take(from, values);
    } else {
      Digits each = column;
      for (int j = 0; j < 4; ++j, each.next()) {
        const T* from = place(each);
        if (from) values[j] = *from;
      }
    }
    at.advance();
  }
};
"""

_TILES = """
#define FAR (1 << 30)            // a place that lies in no array
#define DEPTH 16                 // columns at a time
#define ROWS 64                  // of a tile
#define MINE (COLUMNS / 16)      // rows of a tile in which a thread has four results
#define AHEAD (sizeof(A) == 4)   // whether a tile is read while another is multiplied, for which double needs too much

// A tile has a row of memory for each of `DEPTH`, and four values more, so that threads write to different banks.
// Four values of this thread for one row of the matrix each, or for one column:
__device__ __forceinline__ void write_along(const A* values, Four<A>* tile, int width) {
  Four<A>& to = tile[threadIdx.x / (width / 4) * (width / 4 + 1) + threadIdx.x % (width / 4)];
  for (int j = 0; j < 4; ++j) to.v[j] = values[j];
}
__device__ __forceinline__ void write_down(const A* values, Four<A>* tile, int width) {
  A* to = (A*)tile + threadIdx.x / 4;
  for (int j = 0; j < 4; ++j) to[(threadIdx.x % 4 * 4 + j) * (width + 4)] = values[j];
}

// Left matrix: a row is a window, whose tap is at base + tap * step along each axis.  A thread brings 4 columns of one.
struct Windows {
  const T* x;      // the group's first channel
  int channels;    // of all groups
  int taps, step[3], length[3], base[3], picture;
  bool fours;
  Digits at;  // tap, tap, tap, channel
  A v[4];

  // rows are (picture, place, place, place), windows begin at place * stride + shift
  __device__ __forceinline__ Windows(
      const T* x, int channels, int own, const int* size, const int* step, const int* length, int pictures,
      const int* places, const int* stride, const int* shift)
      : x(x), channels(channels), taps(size[0]), fours(in_fours(x, channels) && own % 4 == 0),
        at(threadIdx.x % 4 * 4, DEPTH, max(size[1], 1), max(size[2], 1), own) {
    Digits row(blockIdx.x * (whole)ROWS + threadIdx.x / 4, 0, places[0], places[1], places[2]);
    picture = row.at[0];
    for (int i = 0; i < 3; ++i) {
      this->step[i] = step[i], this->length[i] = length[i];
      base[i] = picture < pictures ? row.at[i + 1] * stride[i] + shift[i] : -FAR;
    }
  }
  __device__ __forceinline__ const T* place(const Digits& d) const {
    int p[3];
    for (int i = 0; i < 3; ++i) p[i] = base[i] + d.at[i] * step[i];
    return d.at[0] < taps && within(p, length) ? x + position_of(picture, p, length) * channels + d.at[3] : nullptr;
  }
  __device__ __forceinline__ void read() {
    clear(v);
    if (fours) {
      const T* from = place(at);
      if (from) take(from, v);
    } else {
      Digits d = at;
      for (int j = 0; j < 4; ++j, d.next()) {
        const T* from = place(d);
        if (from) v[j] = *from;
      }
    }
    at.advance();
  }
  __device__ __forceinline__ void write(Four<A>* tile) const { write_down(v, tile, ROWS); }
};

// Left matrix: a row is such a column.
struct ColumnsAsRows {
  Columns columns;
  A v[4];
  __device__ __forceinline__ void read() { columns.read(v); }
  __device__ __forceinline__ void write(Four<A>* tile) const { write_along(v, tile, ROWS); }
};

// Right matrix: one that is in memory.
struct Matrix {
  const T* from;
  whole left;      // rows that are left
  int row, there;  // what lies between two, and columns of this thread
  bool fours;
  A v[4];
  __device__ __forceinline__ Matrix(const T* matrix, whole rows, int row, int columns)
      : row(row), fours(in_fours(matrix, row) && columns % 4 == 0) {
    int k = threadIdx.x / (COLUMNS / 4);
    whole column = blockIdx.y * (whole)COLUMNS + threadIdx.x % (COLUMNS / 4) * 4;
    from = matrix + k * (whole)row + column;
    left = k < DEPTH ? rows - k : 0;
    there = int(min((whole)columns - column, 4ll));
  }
  template <class Left> __device__ __forceinline__ void read(const Left&) {
    clear(v);
    if (left > 0 && there > 0) {
      if (fours) take(from, v);
      else
        for (int j = 0; j < 4; ++j)
          if (j < there) v[j] = from[j];
    }
    from += DEPTH * (whole)row;
    left -= DEPTH;
  }
  __device__ __forceinline__ void write(Four<A>* tile) const {
    if (threadIdx.x / (COLUMNS / 4) < DEPTH) write_along(v, tile, COLUMNS);
  }
};

// Right matrix: the kernel with filters and channels exchanged, of the taps that the windows have.
struct Exchanged {
  const T* w;  // the group's first filter, the first tap, this thread's channel
  int plane;   // values of a tap
  int size[3], apart[3];
  bool there, fours;
  A v[4];
  __device__ __forceinline__ const T* place(const Digits& d) const {
    int tap = 0;
    for (int i = 0; i < 3; ++i) tap = tap * size[i] + d.at[i] * apart[i];
    return w + tap * (whole)plane + d.at[3];
  }
  __device__ __forceinline__ void read(const Windows& left) {
    clear(v);
    if (!there) return;
    Digits d = left.at;
    if (fours) {
      if (d.at[0] < left.taps) take(place(d), v);
    } else {
      for (int j = 0; j < 4; ++j, d.next())
        if (d.at[0] < left.taps) v[j] = *place(d);
    }
  }
  __device__ __forceinline__ void write(Four<A>* tile) const {
    if (threadIdx.x / 4 < COLUMNS) write_down(v, tile, COLUMNS);
  }
};

// A tile of the product of two matrices: this thread's sums over `depth`.
template <class Left, class Right>
__device__ __forceinline__ void multiply(Left& left, Right& right, whole depth, A (&sums)[MINE][4]) {
  __shared__ Four<A> rows[DEPTH][ROWS / 4 + 1], columns[DEPTH][COLUMNS / 4 + 1];
  for (int i = 0; i < MINE; ++i) clear(sums[i]);
  auto read = [&] { right.read(left), left.read(); };
  if (AHEAD && depth > 0) read();
  for (whole done = 0; done < depth; done += DEPTH) {
    if (!AHEAD) read();
    left.write(&rows[0][0]);
    right.write(&columns[0][0]);
    __syncthreads();
    if (AHEAD && done + DEPTH < depth) read();
#pragma unroll(AHEAD ? 4 : 2)
    for (int k = 0; k < DEPTH; ++k) {
      auto a = several<MINE>((A*)rows[k] + threadIdx.x / (COLUMNS / 4) * MINE);
      Four<A> b = columns[k][threadIdx.x % (COLUMNS / 4)];
      for (int i = 0; i < MINE; ++i)
        for (int j = 0; j < 4; ++j) sums[i][j] += a.v[i] * b.v[j];
    }
    __syncthreads();
  }
}
// the first of this thread's rows and columns of the result
__device__ __forceinline__ whole own_row() { return blockIdx.x * (whole)ROWS + threadIdx.x / (COLUMNS / 4) * MINE; }
__device__ __forceinline__ whole own_column() { return blockIdx.y * (whole)COLUMNS + threadIdx.x % (COLUMNS / 4) * 4; }
// Write the sums to the columns of rows; `at(row of a thread's)` is where that begins, null for one that is not there.
template <class Place>
__device__ __forceinline__ void store(const A (&sums)[MINE][4], int columns, bool fours, Place at) {
  whole column = own_column();
  for (int i = 0; i < MINE; ++i) {
    auto* row = at(i);
    if (!row || column >= columns) continue;
    if (fours) put(sums[i], row + column);
    else
      for (int j = 0; j < 4; ++j)
        if (column + j < columns) row[column + j] = sums[i][j];
  }
}

__global__ void __launch_bounds__(256) convolve(
    const T* x, const T* w, const T* bias, T* y, whole pictures, whole channels, whole filters, whole groups, GEOMETRY,
    whole activation) {
  Geometry g = THE_GEOMETRY;
  whole group = blockIdx.z, own = channels / groups, columns = filters / groups, depth = g.taps() * own;
  int shift[3] = {-g.before[0], -g.before[1], -g.before[2]};
  Windows left(x + group * own, channels, own, g.size, g.dilation, g.input, pictures, g.output, g.stride, shift);
  Matrix right(w + group * columns, depth, filters, columns);
  A sums[MINE][4];
  multiply(left, right, depth, sums);
  whole rows = pictures * g.output[0] * g.output[1] * g.output[2], row = own_row(), column = own_column();
  y += group * columns;
  if (bias)
    for (int j = 0; j < 4; ++j)
      if (column + j < columns) {
        A one = bias[group * columns + column + j];
        for (int i = 0; i < MINE; ++i) sums[i][j] += one;
      }
  if (activation) {
    A* all = sums[0];
#pragma unroll 1
    for (int n = 0; n < 4 * MINE; ++n) {  // all go round once: values with an index that is computed have no register
      A first = activated(all[0], activation);
      for (int j = 1; j < 4 * MINE; ++j) all[j - 1] = all[j];
      all[4 * MINE - 1] = first;
    }
  }
  store(sums, columns, in_fours(y, filters) && columns % 4 == 0, [&](int i) {
    return row + i < rows ? y + (row + i) * filters : nullptr;
  });
}

__global__ void __launch_bounds__(256) convolve_input_grad(
    const T* gy, const T* w, T* gx, whole pictures, whole channels, whole filters, whole groups, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  whole group = blockIdx.z % groups, own = filters / groups, columns = channels / groups;
  int phase = blockIdx.z / groups, at[3], places[3], taps[3], shift[3], back[3], ones[3] = {1, 1, 1};
  whole tap = 0;
  Exchanged right;
  for (int i = 0; i < 3; ++i) {
    at[i] = phase % g.stride[i];
    phase /= g.stride[i];
    places[i] = (g.input[i] - at[i] + g.stride[i] - 1) / g.stride[i];  // those that are there: at + place * stride
    int first = g.first(i, at[i]);
    taps[i] = (g.size[i] - first + g.apart[i] - 1) / g.apart[i];
    shift[i] = g.meets(i, at[i], first);
    back[i] = -g.nearer[i];
    right.size[i] = g.size[i], right.apart[i] = g.apart[i];
    tap = tap * g.size[i] + first;
  }
  whole rows = pictures * places[0] * places[1] * places[2], depth = own * taps[0] * taps[1] * taps[2];
  if (blockIdx.x * (whole)ROWS >= rows) return;
  Windows left(gy + group * own, filters, own, taps, back, g.output, pictures, places, ones, shift);
  whole column = blockIdx.y * (whole)COLUMNS + threadIdx.x / 4;
  right.plane = columns * filters;
  right.w = w + tap * right.plane + column * filters + group * own;
  right.there = threadIdx.x / 4 < COLUMNS && column < columns;
  right.fours = in_fours(w + group * own, filters) && own % 4 == 0;
  A sums[MINE][4];
  multiply(left, right, depth, sums);
  Digits place(own_row(), 0, places[0], places[1], places[2]);
  gx += group * columns;
  store(sums, columns, in_fours(gx, channels) && columns % 4 == 0, [&](int) {
    T* to = nullptr;
    if (place.at[0] < pictures) {
      whole row = place.at[0];
      for (int j = 0; j < 3; ++j) row = row * g.input[j] + at[j] + place.at[j + 1] * g.stride[j];
      to = gx + row * channels;
    }
    place.next();
    return to;
  });
}

// of one span to gw, of several to parts
__global__ void __launch_bounds__(256) convolve_kernel_grad(
    const T* x, const T* gy, T* gw, A* parts, whole pictures, whole channels, whole filters, whole groups, GEOMETRY,
    whole span) {
  Geometry g = THE_GEOMETRY;
  whole group = blockIdx.z % groups, own = channels / groups, columns = filters / groups, rows = g.taps() * own;
  whole positions = pictures * g.output[0] * g.output[1] * g.output[2], part = blockIdx.z / groups;
  whole first = part * span, many = min(span, positions - first);
  ColumnsAsRows left{Columns(
      x + group * own, channels, own, pictures, g, blockIdx.x * (whole)ROWS + threadIdx.x % (ROWS / 4) * 4,
      first + threadIdx.x / (ROWS / 4), DEPTH)};
  Matrix right(gy + first * filters + group * columns, many, filters, columns);
  A sums[MINE][4];
  multiply(left, right, many, sums);
  whole row = own_row();
  auto write = [&](auto* to) {
    to += group * columns;
    store(sums, columns, in_fours(to, filters) && columns % 4 == 0, [&](int i) {
      return row + i < rows ? to + (row + i) * filters : nullptr;
    });
  };
  if (parts) write(parts + part * rows * filters);
  else write(gw);
}
"""
_PARTS = ("activations.cu", "windows.cu")
_IN_TILES = {columns: Source(f"#define COLUMNS {columns}\n{_COMMON}{_TILES}", parts=_PARTS) for columns in (64, 32)}


def _tile(columns: int) -> int:
    """How many columns a tile has: as many as leave the fewest of it empty; of equals the widest, which reads least."""
    return min(_IN_TILES, key=lambda width: (-(-columns // width) * width, -width))


def _launch(k: Kernels, name: str, dtype: Any, rows: int, columns: int, layers: int, arguments: tuple) -> None:
    """Launch a kernel for a product of so many rows and columns."""
    width = _tile(columns)
    grid = -(-rows // 64), -(-columns // width), layers
    launch(k, _IN_TILES[width], name, dtype, grid, 256, arguments)


# ---- products of columns in memory -----------------------------------------------------------------------------------


def _products_pay(positions: int, depth: int, filters: int, dtype: Any) -> bool:
    """Whether columns are to be written to memory and multiplied by `k.gemm`: an estimate, which nobody has measured.

    Of a column's value, a tile needs the time of 2 * filters operations at perhaps half of what the device can do, a
    library at 0.9 of it, and with numbers of two bytes, which have units of their own, at ten times the speed; but
    writing and reading the value moves twice its bytes.  A device does about 20 operations (of float32) in the time of
    a byte.  So it pays from about 90 filters on, and from about 20 for numbers of two bytes; and there must be so much
    to do that two more launches are little.
    """
    enough = 32 if dtype.itemsize == 2 else 128
    return filters >= enough and positions * depth * filters >= 1 << 30 and _multiplies(dtype)


def _multiplies(dtype: Any) -> bool:
    """Whether `k.gemm` takes numbers of a type."""
    return dtype.char != "E"


_MOST_BYTES = 256 << 20  # of columns at a time

_COLUMNS = Source(
    _COMMON
    + """
// rows are positions; a block writes 64 of them, 256 columns each
__global__ void gather_columns(
    const T* x, T* y, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  whole width = g.taps() * channels, column = blockIdx.y * 256ll + threadIdx.x % 64 * 4;
  whole rows = pictures * g.output[0] * g.output[1] * g.output[2], row = blockIdx.x * 64ll + threadIdx.x / 64;
  if (column >= width) return;
  Columns columns(x, channels, channels, pictures, g, column, row, 4);
  for (whole last = min(row + 64 - threadIdx.x / 64, rows); row < last; row += 4) {
    A values[4];
    columns.read(values);
    T* to = y + row * width + column;
    if (in_fours(y, width)) {
      put(values, to);
    } else {
      for (int j = 0; j < 4; ++j)
        if (column + j < width) to[j] = values[j];
    }
  }
}

// each input's sum over the columns (positions, taps, channels) that it is in
template <int WIDTH>
__device__ void sum_columns(const T* columns, T* gx, whole pictures, whole channels, const Geometry& g) {
  whole width = channels / WIDTH;
  EACH(i, pictures * g.input[0] * g.input[1] * g.input[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.input);
    A sums[WIDTH] = {};
    each_output(g, at, [&](const int* t, const int* o) {
      whole place = position_of(at.at[0], o, g.output) * g.taps() + (t[0] * g.size[1] + t[1]) * g.size[2] + t[2];
      auto values = several<WIDTH>(columns + place * channels + channel);
      for (int j = 0; j < WIDTH; ++j) sums[j] += A(values.v[j]);
    });
    Pack<T, WIDTH> y;
    for (int j = 0; j < WIDTH; ++j) y.v[j] = sums[j];
    *(Pack<T, WIDTH>*)(gx + i * WIDTH) = y;
  }
}
__global__ void add_columns(const T* columns, T* gx, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (in_fours(columns, channels) && in_fours(gx, channels)) sum_columns<4>(columns, gx, pictures, channels, g);
  else sum_columns<1>(columns, gx, pictures, channels, g);
}
""",
    parts=("windows.cu",),
)


def _columns(k: Kernels, x: Any, *geometry_of: Any) -> Iterator[tuple[slice, Any]]:
    """Matrices of windows of a few pictures at a time, each with the slice of pictures that it is of.

    The next one is where the last one was.
    """
    lengths, width = output_shape(x.shape, *geometry_of), math.prod(geometry_of[0]) * x.shape[-1]
    positions = math.prod(lengths)
    numbers = geometry(x.shape, *geometry_of)
    at_once = _pictures_at_once(len(x), positions * width * x.itemsize)
    memory = k.empty((at_once * positions, width), x.dtype)
    for start in range(0, len(x), at_once):
        pictures = x[start : start + at_once]
        columns = memory[: len(pictures) * positions]
        grid = -(-len(columns) // 64), -(-width // 256)
        arguments = (pictures, columns, len(pictures), x.shape[-1], *numbers)
        launch(k, _COLUMNS, "gather_columns", x.dtype, grid, 256, arguments)
        yield slice(start, start + len(pictures)), columns


def _pictures_at_once(pictures: int, bytes_of_one: int) -> int:
    return min(max(_MOST_BYTES // bytes_of_one, 1), pictures)


# ---- overrides -------------------------------------------------------------------------------------------------------


def _of_conv(x: Any, kernel: Any, bias: Any, strides: Ints, padding: Padding, dilation: Ints, groups: int) -> bool:
    channels, filters = kernel.shape[-2:]
    return (
        fits(x.shape, kernel.shape, strides, padding, dilation)
        and x.shape[-1] == channels * groups
        and _divides(groups, filters, strides)
        and (bias is None or bias.shape == (filters,))
    )


def _of_gradient(
    x_shape: Ints, kernel_shape: Ints, g: Any, strides: Ints, padding: Padding, dilation: Ints, groups: int
) -> bool:
    channels, filters = kernel_shape[-2:]
    return (
        fits(x_shape, kernel_shape, strides, padding, dilation)
        and x_shape[-1] == channels * groups
        and _divides(groups, filters, strides)
        and g.shape == (x_shape[0], *output_shape(x_shape, kernel_shape[:-2], strides, padding, dilation), filters)
    )


def _divides(groups: int, filters: int, strides: Ints) -> bool:
    """Whether filters fall into groups, which with the strides' phases are layers of a grid."""
    return filters % groups == 0 and groups * math.prod(strides) < 1 << 16


def _of_input(g: Any, kernel: Any, x_shape: Ints, strides: Ints, padding: Padding, dilation: Ints, groups: int) -> bool:
    return _of_gradient(x_shape, kernel.shape, g, strides, padding, dilation, groups)


def _of_kernel(
    x: Any, g: Any, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints, groups: int
) -> bool:
    return _of_gradient(x.shape, kernel_shape, g, strides, padding, dilation, groups)


@override(reference.conv, "gpu", when=(contiguous_numbers("x", "kernel", "bias", "out"), known_activation, _of_conv))
def conv(
    k: Kernels,
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    activation: str | None = None,
    out: Any = None,
) -> Any:
    *size, channels, filters = kernel.shape
    windows = tuple(size), strides, padding, dilation
    if out is None:
        out = k.empty((len(x), *output_shape(x.shape, *windows), filters), x.dtype)
    if not out.size:
        return out
    weights, y = kernel.reshape(-1, filters), out.reshape(-1, filters)
    if groups == 1 and is_pointwise(*windows) and _multiplies(x.dtype):
        k.dense(x.reshape(-1, channels), weights, bias, activation, y)
    elif groups == 1 and _products_pay(len(y), len(weights), filters, x.dtype):
        for pictures, columns in _columns(k, x, *windows):
            k.dense(columns, weights, bias, activation, out[pictures].reshape(-1, filters))
    else:
        numbers = geometry(x.shape, *windows)
        arguments = (x, kernel, bias, out, len(x), x.shape[-1], filters, groups, *numbers, ACTIVATIONS[activation])
        _launch(k, "convolve", x.dtype, len(y), filters // groups, groups, arguments)
    return out


@override(reference.conv_input_grad, "gpu", when=(contiguous_numbers("g", "kernel", "out"), _of_input))
def conv_input_grad(
    k: Kernels,
    g: Any,
    kernel: Any,
    x_shape: Ints,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    out: Any = None,
) -> Any:
    *size, channels, filters = kernel.shape
    windows = tuple(size), strides, padding, dilation
    out = k.empty(x_shape, g.dtype) if out is None else out
    if not out.size:
        return out
    rows, weights, numbers = g.reshape(-1, filters), kernel.reshape(-1, filters), geometry(x_shape, *windows)
    if groups == 1 and is_pointwise(*windows) and _multiplies(g.dtype):
        k.gemm(rows, weights, tb=True, out=out.reshape(-1, channels))
    elif groups == 1 and _products_pay(len(rows), len(weights), filters, g.dtype):
        positions = len(rows) // len(g)
        at_once = _pictures_at_once(len(g), positions * len(weights) * g.itemsize)
        memory = k.empty((at_once * positions, len(weights)), g.dtype)
        for start in range(0, len(g), at_once):
            part = out[start : start + at_once]
            first = start * positions
            columns = memory[: len(part) * positions]
            k.gemm(rows[first : first + len(columns)], weights, tb=True, out=columns)
            blocks = each(part.size // 4 if channels % 4 == 0 else part.size)
            arguments = (columns, part, len(part), channels, *numbers)
            launch(k, _COLUMNS, "add_columns", g.dtype, blocks, THREADS, arguments)
    else:
        inputs = math.prod([-(-length // step) for length, step in zip(x_shape[1:-1], strides, strict=True)])
        arguments = (g, kernel, out, len(g), x_shape[-1], filters, groups, *numbers)
        layers = groups * math.prod(strides)
        _launch(k, "convolve_input_grad", g.dtype, len(g) * inputs, channels, layers, arguments)
    return out


@override(reference.conv_kernel_grad, "gpu", when=(contiguous_numbers("x", "g", "out"), _of_kernel))
def conv_kernel_grad(
    k: Kernels,
    x: Any,
    g: Any,
    kernel_shape: Ints,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int = 1,
    out: Any = None,
) -> Any:
    *size, channels, filters = kernel_shape
    windows = tuple(size), strides, padding, dilation
    out = k.empty(kernel_shape, g.dtype) if out is None else out
    if not (out.size and g.size):
        out.fill(0)
        return out
    total, rows = out.reshape(-1, filters), g.reshape(-1, filters)
    if groups == 1 and is_pointwise(*windows) and _multiplies(g.dtype):
        k.gemm(x.reshape(-1, channels), rows, ta=True, out=total)
    elif groups == 1 and _products_pay(len(rows), len(total), filters, g.dtype):
        at_once = _pictures_at_once(len(x), len(rows) // len(x) * len(total) * x.itemsize)
        parts = k.empty((-(-len(x) // at_once), *total.shape), g.dtype)
        for part, (pictures, columns) in enumerate(_columns(k, x, *windows)):
            k.gemm(columns, g[pictures].reshape(-1, filters), ta=True, out=parts[part])
        add_parts(k, parts, out)
    else:
        width = _tile(filters // groups)
        blocks = -(-len(total) // 64) * -(-filters // groups // width) * groups
        kind = sums_of(g.dtype)
        count, span = spans(len(rows), blocks, 16, out.size * kind.itemsize, min(1024, 65535 // groups))
        parts = None if count == 1 else k.empty((count, *kernel_shape), kind)
        numbers = geometry(x.shape, *windows)
        arguments = (x, g, out, parts, len(x), x.shape[-1], filters, groups, *numbers, span)
        _launch(k, "convolve_kernel_grad", g.dtype, len(total), filters // groups, groups * count, arguments)
        if parts is not None:
            add_parts(k, parts, out)
    return out
