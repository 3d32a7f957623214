"""Arrays joined and cut, picked from by indices, and numbers added along an axis.

CuPy joins arrays through a table of their addresses, which it moves to the device each time; here each array is copied
by a launch of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.cuda.embedding import packed
from minikeras.kernels.cuda.launch import FLOATS, THREADS, Source, each, launch
from minikeras.kernels.reference import shaping as reference
from minikeras.kernels.table import Kernels, override

_STRIPS = Source(
    """
// Strips of `width` numbers, each so many numbers after the one before.
__global__ void copy_strips(const T* source, T* target, whole count, whole width, whole source_step,
                            whole target_step) {
  whole i = blockIdx.x * (whole)blockDim.y + threadIdx.y, step = gridDim.y * (whole)blockDim.x;
  if (i >= count) return;
  for (whole j = blockIdx.y * (whole)blockDim.x + threadIdx.x; j < width; j += step)
    target[i * target_step + j] = source[i * source_step + j];
}
"""
)
_WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}  # what is copied, whatever it means


def _copy(
    k: Kernels, source: Any, start: int, step: int, target: Any, first: int, target_step: int, width: int
) -> None:
    """Copy strips that begin with these numbers of contiguous arrays, as many as the smaller one has."""
    count = min(source.size // step, target.size // target_step)
    along = min(1 << (width - 1).bit_length(), THREADS)
    lines = THREADS // along
    grid = -(-count // lines), min(-(-width // along), 1024)
    arguments = source.reshape(-1)[start:], target.reshape(-1)[first:], count, width, step, target_step
    launch(k, _STRIPS, "copy_strips", _WORDS[source.itemsize], grid, (along, lines), arguments)


def _are_strips(arrays: Any, axis: int) -> bool:
    """Whether they are arrays of numbers, of one type, that may be joined along an axis."""
    first = arrays[0]
    kind, rest = first.dtype, (*first.shape[:axis], *first.shape[axis + 1 :])
    return kind.itemsize in _WORDS and all(
        one.dtype == kind and (*one.shape[:axis], *one.shape[axis + 1 :]) == rest for one in arrays
    )


@override(reference.concatenate, "gpu", when=_are_strips)
def concatenate(k: Kernels, arrays: Sequence[Any], axis: int) -> Any:
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    out = k.empty((*before, sum([one.shape[axis] for one in arrays]), *after), arrays[0].dtype)
    step, start, each_of = math.prod(out.shape[axis:]), 0, math.prod(after)
    for one in arrays:
        width = one.shape[axis] * each_of
        if not one.flags.c_contiguous:
            out[(slice(None),) * axis + (slice(start // each_of, (start + width) // each_of),)] = one
        elif one.size:
            _copy(k, one, 0, width, out, start, step, width)
        start += width
    return out


def _are_alike(arrays: Any) -> bool:
    return all(one.dtype == arrays[0].dtype and one.shape == arrays[0].shape for one in arrays)


@override(reference.stack, "gpu", when=_are_alike)
def stack(k: Kernels, arrays: Sequence[Any], axis: int) -> Any:
    return k.concatenate([k.xp.expand_dims(one, axis) for one in arrays], axis)


def _is_cut(x: Any, axis: int) -> bool:
    """Whether the parts would be views with gaps, which kernels would refuse."""
    is_plain = x.dtype.itemsize in _WORDS and x.size > 0 and x.flags.c_contiguous
    return is_plain and math.prod(x.shape[:axis]) > 1


@override(reference.split, "gpu", when=_is_cut)
def split(k: Kernels, x: Any, ends: Sequence[int], axis: int) -> list[Any]:
    before, after, length = x.shape[:axis], x.shape[axis + 1 :], x.shape[axis]
    each_of, parts = math.prod(after), []
    for begin, end in zip((0, *ends), (*ends, length), strict=True):
        out = k.empty((*before, end - begin, *after), x.dtype)
        if out.size:
            width = (end - begin) * each_of
            _copy(k, x, begin * each_of, length * each_of, out, 0, width, width)
        parts.append(out)
    return parts


# ---- picking: indices are (before, count, after), what they pick from is (before, size, after)

_PICKING = Source(
    """
// out (before, count, width) from x (before, size, width) and indices (count,)
__global__ void take_slices(const T* x, const I* indices, T* out, whole count, whole size, whole width, whole lines) {
  whole i = blockIdx.x * (whole)blockDim.y + threadIdx.y;
  if (i >= lines) return;
  whole place = place_of(indices[i % count], size);
  x += (i / count * size + place) * width;
  for (whole j = threadIdx.x; j < width; j += blockDim.x) out[i * width + j] = place < 0 ? NOT_A_NUMBER : A(x[j]);
}
__global__ void take_along(const T* x, const I* indices, T* out, whole count, whole size, whole after, whole n) {
  EACH(i, n) {
    whole place = place_of(indices[i], size), line = i / after / count;
    out[i] = place < 0 ? NOT_A_NUMBER : A(x[(line * size + place) * after + i % after]);
  }
}
""",
    parts=("indices.cu",),
    types=("I",),
)


def _are_taken(x: Any, indices: Any) -> bool:
    return x.dtype.char in FLOATS and x.size > 0 < indices.size and indices.dtype.kind in "iu"


@override(reference.take, "gpu", when=_are_taken)
def take(k: Kernels, x: Any, indices: Any, axis: int) -> Any:
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    x, indices, width = packed(k, x), packed(k, indices), math.prod(after)
    out = k.empty((*before, *indices.shape, *after), x.dtype)
    along, lines = min(1 << (width - 1).bit_length(), THREADS), out.size // width
    grid = -(-lines // (THREADS // along))
    given = x, indices, out, indices.size, size, width, lines
    launch(k, _PICKING, "take_slices", x.dtype, grid, (along, THREADS // along), given, I=indices.dtype)
    return out


def _are_taken_along(x: Any, indices: Any, axis: int) -> bool:
    alike = x.shape[:axis] == indices.shape[:axis] and x.shape[axis + 1 :] == indices.shape[axis + 1 :]
    return alike and _are_taken(x, indices)


@override(reference.take_along, "gpu", when=_are_taken_along)
def take_along(k: Kernels, x: Any, indices: Any, axis: int) -> Any:
    x, indices, out = packed(k, x), packed(k, indices), k.empty(indices.shape, x.dtype)
    given = x, indices, out, indices.shape[axis], x.shape[axis], math.prod(x.shape[axis + 1 :]), out.size
    launch(k, _PICKING, "take_along", x.dtype, each(out.size), THREADS, given, I=indices.dtype)
    return out


_FEW = 64  # numbers of a line that every one of its results looks at
_ALONG = Source(
    """
__global__ void add_along(const T* g, const I* indices, T* out, whole count, whole size, whole after, whole n) {
  EACH(i, n) {
    whole place = i / after % size, start = i / after / size * count * after + i % after;
    A sum = 0;
    for (whole c = 0; c < count; ++c)
      if (place_of(indices[start + c * after], size) == place) sum += A(g[start + c * after]);
    out[i] = sum;
  }
}
__global__ void number_results(const I* indices, long long* numbers, whole count, whole size, whole after, whole n) {
  EACH(i, n) {
    whole line = i / after / count, place = place_of(indices[i], size);
    numbers[i] = place < 0 ? -1 : (line * size + place) * after + i % after;
  }
}
""",
    parts=("indices.cu",),
    types=("I",),
)


def _are_along(g: Any, indices: Any) -> bool:
    return g.dtype.char in FLOATS and g.size > 0 and g.shape == indices.shape and indices.dtype.kind in "iu"


@override(reference.add_along, "gpu", when=_are_along)
def add_along(k: Kernels, g: Any, indices: Any, size: int, axis: int) -> Any:
    """Of lines with many numbers the indices are sorted."""
    shape, g, indices = indices.shape, packed(k, g), packed(k, indices)
    count, after, types = shape[axis], math.prod(shape[axis + 1 :]), {"I": indices.dtype}
    results = (*shape[:axis], size, *shape[axis + 1 :])
    if count <= _FEW:
        out = k.empty(results, g.dtype)
        arguments = g, indices, out, count, size, after, out.size
        launch(k, _ALONG, "add_along", g.dtype, each(out.size), THREADS, arguments, **types)
        return out
    numbers = k.empty((g.size,), np.dtype(np.int64))
    counting = indices, numbers, count, size, after, g.size
    launch(k, _ALONG, "number_results", g.dtype, each(g.size), THREADS, counting, **types)
    return k.embedding_grad(g.reshape(-1, 1), numbers, (math.prod(results), 1)).reshape(results)
