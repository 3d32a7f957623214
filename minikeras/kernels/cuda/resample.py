"""Pictures of another size: each pixel is the sum of a few others, in one pass.

Which they are is moved to the device once for all calls with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minikeras.kernels.arena import constant
from minikeras.kernels.cuda.launch import FLOATS, THREADS, TYPES, Source, each, launch
from minikeras.kernels.reference import resample as reference
from minikeras.kernels.reference.resample import Weights
from minikeras.kernels.table import Kernels, override

_SOURCE = Source(
    """
// Arrays (before, length, after) that become (before, target, after); pixels and weights are (taps, target).
__global__ void resample(const I* x, const int* pixels, const A* weights, T* out, whole taps, whole length,
                         whole target, whole after, whole n) {
  EACH(i, n) {
    whole made = i / after % target;
    const I* line = x + i / after / target * length * after + i % after;
    A sum = 0;
    for (whole tap = 0; tap < taps; ++tap)
      sum += A(line[pixels[tap * target + made] * after]) * weights[tap * target + made];
    out[i] = sum;
  }
}
""",
    types=("I",),
)
_moved: WeakKeyDictionary[Weights, dict[tuple, tuple[Any, Any]]] = WeakKeyDictionary()


def _taps(k: Kernels, weights: Weights, dtype: Any) -> tuple[Any, Any]:
    """Pixels and weights on the device, the latter of a type."""
    known = _moved.setdefault(weights, {})
    if (k.xp, dtype) not in known:
        pixels, values = (np.stack(parts) for parts in zip(*weights.taps, strict=True))
        kept = constant(pixels.astype(np.int32)), constant(values.astype(dtype))
        known[k.xp, dtype] = k.to_device(kept[0]), k.to_device(kept[1])
    return known[k.xp, dtype]


def _are_arrays(x: Any, out: Any) -> bool:
    is_plain = out is None or (out.dtype.char in FLOATS and out.flags.c_contiguous)
    return x.dtype.char in TYPES and x.flags.c_contiguous and is_plain


@override(reference.resample, "gpu", when=_are_arrays)
def resample(
    k: Kernels, x: Any, weights: Weights, axis: int, out: Any = None, scratch: Callable[..., Any] | None = None
) -> Any:
    target, length = weights.matrix.shape
    shape = (*x.shape[:axis], target, *x.shape[axis + 1 :])
    out = k.empty(shape, x.dtype if x.dtype.char in "fd" else _SINGLE) if out is None else out
    pixels, values = _taps(k, weights, _DOUBLE if out.dtype == _DOUBLE else _SINGLE)
    sizes = len(pixels), length, target, math.prod(shape[axis + 1 :]), out.size
    launch(k, _SOURCE, "resample", out.dtype, each(out.size), THREADS, (x, pixels, values, out, *sizes), I=x.dtype)
    return out


_DOUBLE, _SINGLE = np.dtype(np.float64), np.dtype(np.float32)
