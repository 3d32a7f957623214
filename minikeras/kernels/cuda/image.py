"""Affine maps of pictures: each pixel of a result reads what its place in the picture is made of.

Coordinates and splines are float64, as in the reference, and coordinates are summed without contraction: one on the
edge of a picture is inside, and one rounding beyond it outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import FLOATS, THREADS, TYPES, Source, each, launch, threads_for
from minikeras.kernels.reference import image as reference
from minikeras.kernels.reference.image import _FAR, _IDENTITY, _PADDING, FILL_MODES, _inverse
from minikeras.kernels.table import Kernels, override

_NUMBERS = 10  # that describe a picture: its matrix, what is added to it, whether it is mirrored each way, its row
_SOURCE = Source(
    """
enum { CONSTANT, NEAREST, REFLECT, WRAP };
struct Map {
  const double* matrix;
  int mode, padding;
  whole y, x;
  // a coordinate of the pixel (y, x)
  __device__ double place(int axis) const {
    const double* m = matrix + 3 * axis;
    double sum = __dadd_rn(__dadd_rn(m[2], __dmul_rn(double(y), m[0])), __dmul_rn(double(x), m[1]));
    return smaller(larger(sum, -FAR), FAR);
  }
};
__device__ whole modulo(whole a, whole b) {
  whole rest = a % b;
  return rest < 0 ? rest + b : rest;
}
__device__ whole size_of(whole x) { return x < 0 ? -x : x; }
// A coordinate moved into the picture, or at most one pixel outside.
__device__ double mapped(double place, whole length, int mode) {
  whole last = length - 1;
  if (mode == REFLECT) {
    double period = 2 * length;
    if (place < 0) {
      double below = place + period * floor(-place / period);
      return below < -length ? below + period : -below - 1;
    }
    double above = place - period * floor(place / period);
    return above >= length ? period - above - 1 : above;
  }
  if (mode == WRAP && last) {
    if (place < 0) return place + last * (floor(-place / last) + 1);
    return place > last ? place - last * floor(place / last) : place;
  }
  return smaller(larger(place, 0.0), double(last));
}
// An index of a coefficient moved into the picture.
__device__ int folded(whole index, whole length, int mode) {
  if (mode == NEAREST) return index < 0 ? 0 : index < length ? index : length - 1;
  if (mode == REFLECT)
    return (2 * length - 1 - size_of(2 * modulo(index, 2 * length) - (2 * length - 1))) / 2;
  return length - 1 - size_of(modulo(index, length > 1 ? 2 * length - 2 : 1) - (length - 1));
}
// The cardinal B-spline, as a sum of truncated powers.
template <int ORDER> __device__ double spline(double x) {
  double result = 0, choices = 1, permutations = 1;
#pragma unroll
  for (int i = 2; i <= ORDER; ++i) permutations *= i;
#pragma unroll
  for (int k = 0; k < ORDER + 2; ++k) {
    double ramp = x + ((ORDER + 1) / 2.0 - k), power = 1;
    ramp = (ramp + (ramp < 0 ? -ramp : ramp)) / 2;
#pragma unroll
    for (int i = 0; i < ORDER; ++i) power *= ramp;
    result += choices / permutations * power;
    choices = choices * (k - ORDER - 1) / (k + 1);
  }
  return result;
}
// What a coordinate is made of, along one axis.
template <int ORDER> struct Taps {
  double place;
  whole first, length;
  int mode;
  bool outside;
  __device__ Taps(const Map& map, int axis, whole pixels) : length(pixels + 2 * map.padding), mode(map.mode) {
    place = map.place(axis);
    outside = mode == CONSTANT && (place < 0 || place > pixels - 1);
    place = map.padding ? place + map.padding : mapped(place, pixels, mode);
    first = (whole)floor(ORDER % 2 ? place : place + 0.5) - ORDER / 2;
  }
  __device__ int pixel(int tap) const { return folded(first + tap, length, mode); }
  __device__ double weight(int tap) const { return ORDER ? spline<ORDER>(place - (first + tap)) : 1; }
};
template <int ORDER, class V>
__device__ void write(const V* picture, const Map& map, double cval, double factor, T* out, whole height, whole width,
                      whole channels) {
  Taps<ORDER> rows(map, 0, height), columns(map, 1, width);
  int pixels[ORDER + 1];
  double weights[ORDER + 1];
#pragma unroll
  for (int tap = 0; tap <= ORDER; ++tap) {
    pixels[tap] = columns.pixel(tap) * channels;
    weights[tap] = columns.weight(tap);
  }
  for (whole c = 0; c < channels; ++c) {
    double sum = 0;
#pragma unroll 1
    for (int row = 0; row <= ORDER; ++row) {  // all at once would take too many registers
      const V* line = picture + rows.pixel(row) * columns.length * channels + c;
      double weight = rows.weight(row);
#pragma unroll
      for (int tap = 0; tap <= ORDER; ++tap)
        sum = ORDER ? sum + double(line[pixels[tap]]) * (weight * weights[tap]) : double(line[pixels[tap]]);
    }
    T rounded = A(rows.outside || columns.outside ? cval : sum);
    out[c] = A(rounded) * A(factor);
  }
}
// For the splines of a higher order `coefficients` has theirs, around which pixels may be repeated.
__global__ void affine(const I* images, const double* coefficients, const double* numbers, T* out, whole order,
                       whole mode, double cval, double factor, whole padding, whole height, whole width,
                       whole channels, whole n) {
  EACH(i, n) {
    whole x = i % width, y = i / width % height, number = i / width / height;
    const double* own = numbers + 10 * number;
    const I* picture = images + whole(own[9]) * height * width * channels;
    whole row = own[8] ? height - 1 - y : y, column = own[7] ? width - 1 - x : x;
    T* pixel = out + ((number * height + row) * width + column) * channels;
    Map map = {own, (int)mode, (int)padding, y, x};
    if (own[0] == 1 && own[1] == 0 && own[2] == 0 && own[3] == 0 && own[4] == 1 && own[5] == 0) {
      for (whole c = 0; c < channels; ++c) {
        T rounded = A(picture[(y * width + x) * channels + c]);
        pixel[c] = A(rounded) * A(factor);
      }
      continue;
    }
    const double* spread = coefficients + number * (height + 2 * padding) * (width + 2 * padding) * channels;
    switch (order) {
      case 0: write<0>(picture, map, cval, factor, pixel, height, width, channels); break;
      case 1: write<1>(picture, map, cval, factor, pixel, height, width, channels); break;
      case 2: write<2>(spread, map, cval, factor, pixel, height, width, channels); break;
      case 3: write<3>(spread, map, cval, factor, pixel, height, width, channels); break;
      case 4: write<4>(spread, map, cval, factor, pixel, height, width, channels); break;
      default: write<5>(spread, map, cval, factor, pixel, height, width, channels);
    }
  }
}
// A block for each picture: its number is added, the sum clipped to the picture's range.
__global__ void brighten(T* pictures, const double* numbers, double factor, whole size) {
  T* picture = pictures + blockIdx.x * size;
  A most = -INFINITE, least = -INFINITE, shift = numbers[10 * blockIdx.x + 6], by = factor;
  EACH_IN_BLOCK(i, size) {
    most = larger(most, A(picture[i]));
    least = larger(least, -A(picture[i]));
  }
  most = over_block<Largest>(most);
  least = -over_block<Largest>(least);
  EACH_IN_BLOCK(i, size) {
    T value = picture[i];
    if (shift == shift) value = smaller(larger(A(value) + shift, least), most);
    picture[i] = A(value) * by;
  }
}
""".replace("FAR", f"{_FAR!r}"),
    types=("I",),
)


def _are_pictures(images: Any, out: Any) -> bool:
    is_plain = out is None or (out.dtype.char in FLOATS and out.flags.c_contiguous)
    return images.ndim == 4 and images.dtype.char in TYPES and is_plain


@override(reference.affine_images, "gpu", when=_are_pictures)
def affine_images(
    k: Kernels,
    images: Any,
    rows: Any,
    matrices: Any,
    *,
    order: int = 1,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    channel_shifts: Any = None,
    flips: Any = None,
    scale: float | None = None,
    out: Any = None,
) -> Any:
    """What is drawn for the pictures goes to the device in one array."""
    rows, matrices, channel_shifts, flips = reference.checked(
        images, rows, matrices, order, fill_mode, channel_shifts, flips, out
    )
    batch, (_, height, width, channels) = len(rows), images.shape
    shape = batch, height, width, channels
    out = k.empty(shape, np.dtype("d" if images.dtype.char == "d" else "f")) if out is None else out
    if out.size == 0:
        return out
    is_spline = order > 1 and matrices is not None
    if is_spline or isinstance(images, np.ndarray) or not images.flags.c_contiguous:
        images, rows = _chosen(k, images, rows), np.arange(batch)
    described = np.empty((batch, _NUMBERS))
    described[:, :6] = (_IDENTITY if matrices is None else matrices).reshape(-1, 6)
    described[:, 6] = np.nan if channel_shifts is None else channel_shifts
    described[:, 7:9] = False if flips is None else flips
    described[:, 9] = rows
    numbers, factor = k.to_device(described), 1.0 if scale is None else float(scale)
    padding = _PADDING if is_spline and fill_mode == "nearest" else 0
    spread = _coefficients(k, images, order, fill_mode, padding) if is_spline else None
    how = int(order), FILL_MODES.index(fill_mode), float(cval), factor if channel_shifts is None else 1.0, padding
    pixels = batch * height * width
    arguments = (images, spread, numbers, out, *how, height, width, channels, pixels)
    launch(k, _SOURCE, "affine", out.dtype, each(pixels), THREADS, arguments, I=images.dtype)
    if channel_shifts is not None:
        size = height * width * channels
        threads, given = threads_for(size, 1024), (out, numbers, factor, size)
        launch(k, _SOURCE, "brighten", out.dtype, batch, threads, given, I=images.dtype)
    return out


def _chosen(k: Kernels, images: Any, rows: np.ndarray) -> Any:
    """The pictures `rows` on the device, without gaps."""
    if isinstance(images, np.ndarray):
        return k.to_device(np.ascontiguousarray(images[rows]))
    return k.xp.ascontiguousarray(images[k.to_device(rows)])


def _coefficients(k: Kernels, pictures: Any, order: int, fill_mode: str, padding: int) -> Any:
    """The coefficients of the splines that run through pixels, of which `padding` are repeated at the edges."""
    count, height, width, channels = pictures.shape
    along_rows, along_columns = (k.to_device(_inverse(size, order, fill_mode, padding)) for size in (height, width))
    lines = k.matmul(along_rows, pictures.astype("float64").reshape(count, height, width * channels))
    return k.matmul(along_columns, lines.reshape(-1, width, channels))
