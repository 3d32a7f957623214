"""Pooling: a thread a result, four of them where memory lies so, and neighbouring threads have neighbouring channels.

The gradients are gathered: each input adds up what the windows that it is in give it, in the order of the window's
taps, as the reference does.  The mean over all positions is cut into spans where pictures alone make too few blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.conv import add_parts, fits, geometry, spans, sums_of
from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, each, launch
from minikeras.kernels.reference import pool as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.reference.pool import index_dtype, undilated
from minikeras.kernels.table import Kernels, override

_SOURCE = Source(
    """
// The first tap wins a tie, and NaN wins over numbers.  `index` may be missing.
template <int WIDTH>
__device__ __forceinline__ void maxima(
    const T* x, T* y, I* index, whole pictures, whole channels, const Geometry& g) {
  whole width = channels / WIDTH;
  EACH(i, pictures * g.output[0] * g.output[1] * g.output[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.output);
    A best[WIDTH];
    int winner[WIDTH];
    for (int j = 0; j < WIDTH; ++j) best[j] = -INFINITE, winner[j] = 0;
    bool none = true;
    each_input(g, at, [&](int tap, const int* p) {
      auto values = several<WIDTH>(x + g.position(at.at[0], p) * channels + channel);
      for (int j = 0; j < WIDTH; ++j) {
        A value = values.v[j];
        if (none || value > best[j] || (value != value && best[j] == best[j])) best[j] = value, winner[j] = tap;
      }
      none = false;
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) result.v[j] = best[j];
    *(Pack<T, WIDTH>*)(y + i * WIDTH) = result;
    if (index) {
      Pack<I, WIDTH> winners;
      for (int j = 0; j < WIDTH; ++j) winners.v[j] = I(winner[j]);
      *(Pack<I, WIDTH>*)(index + i * WIDTH) = winners;
    }
  }
}
__global__ void max_pool(const T* x, T* y, I* index, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (in_fours(x, channels) && in_fours(y, channels) && in_fours(index, channels))
    maxima<4>(x, y, index, pictures, channels, g);
  else maxima<1>(x, y, index, pictures, channels, g);
}

template <int WIDTH>
__device__ __forceinline__ void maxima_grads(
    const T* gy, const I* index, T* gx, whole pictures, whole channels, const Geometry& g) {
  whole width = channels / WIDTH;
  EACH(i, pictures * g.input[0] * g.input[1] * g.input[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.input);
    A sums[WIDTH] = {};
    each_output(g, at, [&](const int* t, const int* o) {
      whole from = position_of(at.at[0], o, g.output) * channels + channel;
      int tap = (t[0] * g.size[1] + t[1]) * g.size[2] + t[2];
      auto gradients = several<WIDTH>(gy + from);
      auto winners = several<WIDTH>(index + from);
      for (int j = 0; j < WIDTH; ++j)
        if (int(winners.v[j]) == tap) sums[j] += A(gradients.v[j]);
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) result.v[j] = sums[j];
    *(Pack<T, WIDTH>*)(gx + i * WIDTH) = result;
  }
}
__global__ void max_pool_grad(const T* gy, const I* index, T* gx, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (in_fours(gy, channels) && in_fours(index, channels) && in_fours(gx, channels))
    maxima_grads<4>(gy, index, gx, pictures, channels, g);
  else maxima_grads<1>(gy, index, gx, pictures, channels, g);
}

template <int WIDTH>
__device__ __forceinline__ void averages(const T* x, T* y, whole pictures, whole channels, const Geometry& g) {
  whole width = channels / WIDTH;
  EACH(i, pictures * g.output[0] * g.output[1] * g.output[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.output);
    A sums[WIDTH] = {};
    int count = 0;
    each_input(g, at, [&](int, const int* p) {
      auto values = several<WIDTH>(x + g.position(at.at[0], p) * channels + channel);
      for (int j = 0; j < WIDTH; ++j) sums[j] += A(values.v[j]);
      ++count;
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) result.v[j] = sums[j] / A(max(count, 1));
    *(Pack<T, WIDTH>*)(y + i * WIDTH) = result;
  }
}
__global__ void average_pool(const T* x, T* y, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (in_fours(x, channels) && in_fours(y, channels)) averages<4>(x, y, pictures, channels, g);
  else averages<1>(x, y, pictures, channels, g);
}

template <int WIDTH>
__device__ __forceinline__ void averages_grads(const T* gy, T* gx, whole pictures, whole channels, const Geometry& g) {
  whole width = channels / WIDTH;
  EACH(i, pictures * g.input[0] * g.input[1] * g.input[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.input);
    A sums[WIDTH] = {};
    each_output(g, at, [&](const int*, const int* o) {
      int count = 1;  // inputs of the window
      for (int a = 0; a < 3; ++a) {
        int first = o[a] * g.stride[a] - g.before[a];
        count *= min(first + g.size[a], g.input[a]) - max(first, 0);
      }
      auto gradients = several<WIDTH>(gy + position_of(at.at[0], o, g.output) * channels + channel);
      for (int j = 0; j < WIDTH; ++j) sums[j] += A(gradients.v[j]) / A(count);
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) result.v[j] = sums[j];
    *(Pack<T, WIDTH>*)(gx + i * WIDTH) = result;
  }
}
__global__ void average_pool_grad(const T* gy, T* gx, whole pictures, whole channels, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (in_fours(gy, channels) && in_fours(gx, channels)) averages_grads<4>(gy, gx, pictures, channels, g);
  else averages_grads<1>(gy, gx, pictures, channels, g);
}

// A block: 32 channels of a picture, a span of positions, of which each warp has every eighth.  The only span's mean is
// written to y, the sums of several to parts.
__global__ void average_positions(
    const T* x, T* y, A* parts, whole pictures, whole positions, whole channels, whole span) {
  __shared__ A sums[8][32];
  int lane = threadIdx.x % 32, row = threadIdx.x / 32;
  whole across = (channels + 31) / 32, picture = blockIdx.x / across, channel = blockIdx.x % across * 32 + lane;
  whole first = blockIdx.y * span, last = min(first + span, positions);
  A sum = 0;
  if (channel < channels)
    for (whole i = first + row; i < last; i += 8) sum += A(x[(picture * positions + i) * channels + channel]);
  sums[row][lane] = sum;
  __syncthreads();
  if (row == 0 && channel < channels) {
    for (int r = 1; r < 8; ++r) sum += sums[r][lane];
    if (parts) parts[(blockIdx.y * pictures + picture) * channels + channel] = sum;
    else y[picture * channels + channel] = sum / A(positions);
  }
}
template <int WIDTH>
__device__ __forceinline__ void spread(const T* g, T* gx, whole pictures, whole positions, whole channels) {
  whole width = channels / WIDTH, of_picture = positions * width;
  EACH(i, pictures * of_picture) {
    whole picture = quotient(i, of_picture), position = quotient(i, width), channel = (i - position * width) * WIDTH;
    auto values = several<WIDTH>(g + picture * channels + channel);
    for (int j = 0; j < WIDTH; ++j) values.v[j] = A(values.v[j]) / A(positions);
    *(Pack<T, WIDTH>*)(gx + i * WIDTH) = values;
  }
}
__global__ void average_positions_grad(const T* g, T* gx, whole pictures, whole positions, whole channels) {
  if (in_fours(g, channels) && in_fours(gx, channels)) spread<4>(g, gx, pictures, positions, channels);
  else spread<1>(g, gx, pictures, positions, channels);
}
""",
    parts=("windows.cu",),
    types=("I",),
)
_NO_INDEX = np.dtype("uint8")


def _launch(k: Kernels, name: str, result: Any, arguments: tuple, index: Any = None) -> None:
    """Launch a kernel whose threads make four values each, where the channels allow it."""
    blocks = each(result.size // 4 if result.shape[-1] % 4 == 0 else result.size)
    kind = _NO_INDEX if index is None else index.dtype
    launch(k, _SOURCE, name, result.dtype, blocks, THREADS, arguments, I=kind)


def _outputs(x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> Ints:
    return (x_shape[0], *output_shape(x_shape, size, strides, padding, undilated(size)), x_shape[-1])


def _of_x(x: Any, size: Ints, strides: Ints, padding: Padding) -> bool:
    return fits(x.shape, (*size, 1, 1), strides, padding, size)


def _of_g(g: Any, x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> bool:
    return fits(x_shape, (*size, 1, 1), strides, padding, size) and g.shape == _outputs(x_shape, size, strides, padding)


def _of_index(g: Any, index: Any) -> bool:
    return index.dtype.char in "BHI" and index.flags.c_contiguous and index.shape == g.shape


@override(reference.max_pool, "gpu", when=(contiguous_numbers("x"), _of_x))
def max_pool(
    k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, with_index: bool = False
) -> tuple[Any, Any]:
    y = k.empty(_outputs(x.shape, size, strides, padding), x.dtype)
    index = k.empty(y.shape, np.dtype(index_dtype(size))) if with_index else None
    numbers = geometry(x.shape, size, strides, padding, undilated(size))
    _launch(k, "max_pool", y, (x, y, index, len(x), x.shape[-1], *numbers), index)
    return y, index


@override(reference.max_pool_grad, "gpu", when=(contiguous_numbers("g", "out"), _of_g, _of_index))
def max_pool_grad(
    k: Kernels, g: Any, index: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = k.empty(x_shape, g.dtype) if out is None else out
    numbers = geometry(x_shape, size, strides, padding, undilated(size))
    _launch(k, "max_pool_grad", out, (g, index, out, len(g), g.shape[-1], *numbers), index)
    return out


@override(reference.average_pool, "gpu", when=(contiguous_numbers("x", "out"), _of_x))
def average_pool(k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    out = k.empty(_outputs(x.shape, size, strides, padding), x.dtype) if out is None else out
    numbers = geometry(x.shape, size, strides, padding, undilated(size))
    _launch(k, "average_pool", out, (x, out, len(x), x.shape[-1], *numbers))
    return out


@override(reference.average_pool_grad, "gpu", when=(contiguous_numbers("g", "out"), _of_g))
def average_pool_grad(
    k: Kernels, g: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = k.empty(x_shape, g.dtype) if out is None else out
    numbers = geometry(x_shape, size, strides, padding, undilated(size))
    _launch(k, "average_pool_grad", out, (g, out, len(g), g.shape[-1], *numbers))
    return out


@override(reference.global_average_pool, "gpu", when=(contiguous_numbers("x"), lambda x: x.ndim == 3))
def global_average_pool(k: Kernels, x: Any) -> Any:
    pictures, positions, channels = x.shape
    out, blocks, kind = k.empty((pictures, channels), x.dtype), pictures * -(-channels // 32), sums_of(x.dtype)
    count, span = spans(positions, blocks, 8, out.size * kind.itemsize)
    parts = None if count == 1 else k.empty((count, *out.shape), kind)
    arguments = (x, out, parts, pictures, positions, channels, span)
    launch(k, _SOURCE, "average_positions", x.dtype, (blocks, count), 256, arguments, I=_NO_INDEX)
    if parts is not None:
        add_parts(k, parts, out, positions)
    return out


@override(
    reference.global_average_pool_grad,
    "gpu",
    when=(contiguous_numbers("g"), lambda g, positions: g.ndim == 2 and positions > 0),
)
def global_average_pool_grad(k: Kernels, g: Any, positions: int) -> Any:
    out = k.empty((g.shape[0], positions, g.shape[1]), g.dtype)
    _launch(k, "average_positions_grad", out, (g, out, len(g), positions, g.shape[1]))
    return out
