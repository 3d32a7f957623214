"""Depthwise convolutions: a thread a result, four of them where each channel has one filter and memory lies so.

They read much more than they compute, so there are no tiles; neighbouring threads have neighbouring channels.  The sums
over all positions that make the kernel's gradient are cut into spans (see conv.py).
"""

from __future__ import annotations

import math
from typing import Any

from minikeras.kernels.cuda.activation import ACTIVATIONS, known_activation
from minikeras.kernels.cuda.conv import add_parts, fits, geometry, spans, sums_of
from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, each, launch
from minikeras.kernels.reference import depthwise as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.table import Kernels, override

_SOURCE = Source(
    """
// outputs (positions, channels, filters of a channel)
template <int WIDTH>
__device__ __forceinline__ void outputs_of(
    const T* x, const T* w, const T* bias, T* y, whole pictures, whole channels, whole multiplier, const Geometry& g,
    int activation) {
  whole filters = channels * multiplier, width = filters / WIDTH;
  EACH(i, pictures * g.output[0] * g.output[1] * g.output[2] * width) {
    whole position = quotient(i, width), filter = (i - position * width) * WIDTH;
    whole channel = quotient(filter, multiplier);
    Digits at(position, 0, g.output);
    A sums[WIDTH] = {};
    each_input(g, at, [&](int tap, const int* p) {
      auto values = several<WIDTH>(x + g.position(at.at[0], p) * channels + channel);
      auto weights = several<WIDTH>(w + tap * filters + filter);
      for (int j = 0; j < WIDTH; ++j) sums[j] += A(values.v[j]) * A(weights.v[j]);
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) {
      if (bias) sums[j] += A(bias[filter + j]);
      result.v[j] = activated(sums[j], activation);
    }
    *(Pack<T, WIDTH>*)(y + i * WIDTH) = result;
  }
}
__global__ void convolve_by_channel(
    const T* x, const T* w, const T* bias, T* y, whole pictures, whole channels, whole multiplier, GEOMETRY,
    whole activation) {
  Geometry g = THE_GEOMETRY;
  if (multiplier == 1 && in_fours(x, channels) && in_fours(w, channels) && in_fours(y, channels))
    outputs_of<4>(x, w, bias, y, pictures, channels, 1, g, activation);
  else outputs_of<1>(x, w, bias, y, pictures, channels, multiplier, g, activation);
}

template <int WIDTH>
__device__ __forceinline__ void input_grads_of(
    const T* gy, const T* w, T* gx, whole pictures, whole channels, whole multiplier, const Geometry& g) {
  whole width = channels / WIDTH, filters = channels * multiplier;
  EACH(i, pictures * g.input[0] * g.input[1] * g.input[2] * width) {
    whole position = quotient(i, width), channel = (i - position * width) * WIDTH;
    Digits at(position, 0, g.input);
    A sums[WIDTH] = {};
    each_output(g, at, [&](const int* t, const int* o) {
      const T* gradient = gy + position_of(at.at[0], o, g.output) * filters + channel * multiplier;
      const T* tap = w + ((t[0] * g.size[1] + t[1]) * g.size[2] + t[2]) * filters + channel * multiplier;
      for (whole m = 0; m < multiplier; ++m) {
        auto values = several<WIDTH>(gradient + m), weights = several<WIDTH>(tap + m);
        for (int j = 0; j < WIDTH; ++j) sums[j] += A(values.v[j]) * A(weights.v[j]);
      }
    });
    Pack<T, WIDTH> result;
    for (int j = 0; j < WIDTH; ++j) result.v[j] = sums[j];
    *(Pack<T, WIDTH>*)(gx + i * WIDTH) = result;
  }
}
__global__ void convolve_by_channel_input_grad(
    const T* gy, const T* w, T* gx, whole pictures, whole channels, whole multiplier, GEOMETRY) {
  Geometry g = THE_GEOMETRY;
  if (multiplier == 1 && in_fours(gy, channels) && in_fours(w, channels) && in_fours(gx, channels))
    input_grads_of<4>(gy, w, gx, pictures, channels, 1, g);
  else input_grads_of<1>(gy, w, gx, pictures, channels, multiplier, g);
}

// A block: 32 filters, 4 taps, a span of positions, of which each warp has every eighth.
__global__ void convolve_by_channel_kernel_grad(
    const T* x, const T* gy, A* parts, whole pictures, whole channels, whole multiplier, GEOMETRY, whole span) {
  __shared__ A sums[8][4][32];
  Geometry g = THE_GEOMETRY;
  int lane = threadIdx.x % 32, row = threadIdx.x / 32, taps = g.taps(), first_tap = blockIdx.y * 4;
  whole filters = channels * multiplier, filter = blockIdx.x * 32ll + lane, channel = filter / multiplier;
  whole positions = pictures * g.output[0] * g.output[1] * g.output[2], first = blockIdx.z * span;
  whole last = min(first + span, positions);
  A own[4] = {};
  if (filter < filters && first + row < last) {
    Digits at(first + row, 8, g.output), of_block(first_tap, 0, g.size);
    for (whole position = first + row; position < last; position += 8, at.advance()) {
      A gradient = gy[position * filters + filter];
      Digits tap = of_block;
      for (int j = 0; j < 4; ++j, tap.next()) {
        int p[3];
        for (int a = 0; a < 3; ++a) p[a] = at.at[a + 1] * g.stride[a] + tap.at[a + 1] * g.dilation[a] - g.before[a];
        if (first_tap + j < taps && within(p, g.input))
          own[j] += gradient * A(x[g.position(at.at[0], p) * channels + channel]);
      }
    }
  }
  for (int j = 0; j < 4; ++j) sums[row][j][lane] = own[j];
  __syncthreads();
  if (row < 4 && first_tap + row < taps && filter < filters) {
    A sum = 0;
    for (int r = 0; r < 8; ++r) sum += sums[r][row][lane];
    parts[(blockIdx.z * (whole)taps + first_tap + row) * filters + filter] = sum;
  }
}
""",
    parts=("activations.cu", "windows.cu"),
)


def _blocks(count: int, multiplier: int, channels: int) -> int:
    """The blocks for so many results, four a thread where they may be."""
    return each(count // 4 if multiplier == 1 and channels % 4 == 0 else count)


def _of_conv(x: Any, kernel: Any, bias: Any, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    channels, multiplier = kernel.shape[-2:]
    return (
        fits(x.shape, kernel.shape, strides, padding, dilation)
        and x.shape[-1] == channels
        and (bias is None or bias.shape == (channels * multiplier,))
    )


def _of_gradient(x_shape: Ints, kernel_shape: Ints, g: Any, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    *size, channels, multiplier = kernel_shape
    return (
        fits(x_shape, kernel_shape, strides, padding, dilation)
        and x_shape[-1] == channels
        and g.shape
        == (x_shape[0], *output_shape(x_shape, tuple(size), strides, padding, dilation), channels * multiplier)
    )


def _of_input(g: Any, kernel: Any, x_shape: Ints, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    return _of_gradient(x_shape, kernel.shape, g, strides, padding, dilation)


def _of_kernel(x: Any, g: Any, kernel_shape: Ints, strides: Ints, padding: Padding, dilation: Ints) -> bool:
    return g.size > 0 and _of_gradient(x.shape, kernel_shape, g, strides, padding, dilation)


@override(
    reference.depthwise_conv, "gpu", when=(contiguous_numbers("x", "kernel", "bias", "out"), known_activation, _of_conv)
)
def depthwise_conv(
    k: Kernels,
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    activation: str | None = None,
    out: Any = None,
) -> Any:
    *size, channels, multiplier = kernel.shape
    windows = tuple(size), strides, padding, dilation
    if out is None:
        out = k.empty((len(x), *output_shape(x.shape, *windows), channels * multiplier), x.dtype)
    numbers = geometry(x.shape, *windows)
    arguments = (x, kernel, bias, out, len(x), channels, multiplier, *numbers, ACTIVATIONS[activation])
    blocks = _blocks(out.size, multiplier, channels)
    launch(k, _SOURCE, "convolve_by_channel", x.dtype, blocks, THREADS, arguments)
    return out


@override(reference.depthwise_conv_input_grad, "gpu", when=(contiguous_numbers("g", "kernel", "out"), _of_input))
def depthwise_conv_input_grad(
    k: Kernels, g: Any, kernel: Any, x_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    *size, channels, multiplier = kernel.shape
    out = k.empty(x_shape, g.dtype) if out is None else out
    numbers = geometry(x_shape, tuple(size), strides, padding, dilation)
    arguments = (g, kernel, out, len(g), channels, multiplier, *numbers)
    blocks = _blocks(out.size, multiplier, channels)
    launch(k, _SOURCE, "convolve_by_channel_input_grad", g.dtype, blocks, THREADS, arguments)
    return out


@override(reference.depthwise_conv_kernel_grad, "gpu", when=(contiguous_numbers("x", "g", "out"), _of_kernel))
def depthwise_conv_kernel_grad(
    k: Kernels, x: Any, g: Any, kernel_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    *size, channels, multiplier = kernel_shape
    out = k.empty(kernel_shape, g.dtype) if out is None else out
    filters, kind = channels * multiplier, sums_of(g.dtype)
    across, tall = -(-filters // 32), -(-math.prod(size) // 4)
    count, span = spans(g.size // filters, across * tall, 8, out.size * kind.itemsize)
    parts = k.empty((count, *kernel_shape), kind)
    numbers = geometry(x.shape, tuple(size), strides, padding, dilation)
    arguments = (x, g, parts, len(x), channels, multiplier, *numbers, span)
    launch(k, _SOURCE, "convolve_by_channel_kernel_grad", g.dtype, (across, tall, count), 256, arguments)
    add_parts(k, parts, out)
    return out
