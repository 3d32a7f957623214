"""Penalties in one pass over the weights, whose blocks' sums a second kernel adds up."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, each, fours, launch
from minikeras.kernels.reference import regularizer as reference
from minikeras.kernels.table import Kernels, override, same_shape

_MOST_BLOCKS = 512  # whose sums one block adds up

_SOURCE = Source(
    """
// of each block the sums of absolute values and of squares; each thread adds 64 of its numbers to a sum of its own
__global__ void norms(const T* x, A* sums, whole n) {
  A total = 0, squares = 0;
  whole step = (whole)gridDim.x * blockDim.x;
  for (whole first = blockIdx.x * (whole)blockDim.x + threadIdx.x; first < n; first += 64 * step) {
    A some = 0, some_squares = 0;
    for (whole i = first; i < n && i < first + 64 * step; i += step) {
      A v = x[i];
      some += v < 0 ? -v : v;
      some_squares += v * v;
    }
    total += some;
    squares += some_squares;
  }
  total = over_block<Sum>(total);
  squares = over_block<Sum>(squares);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = total;
    sums[2 * blockIdx.x + 1] = squares;
  }
}
__global__ void penalty(const A* sums, T* out, double l1, double l2, whole count) {
  A total = 0, squares = 0;
  EACH_IN_BLOCK(i, count) {
    total += sums[2 * i];
    squares += sums[2 * i + 1];
  }
  total = over_block<Sum>(total);
  squares = over_block<Sum>(squares);
  if (threadIdx.x == 0) out[0] = (l1 != 0 ? A(l1) * total : A(0)) + (l2 != 0 ? A(l2) * squares : A(0));
}
__global__ void penalty_grad(const T* g, const T* x, T* out, double l1, double l2, whole n) {
  A flat = A(g[0]) * A(l1), steep = A(g[0]) * A(2 * l2);
  in_fours(n, [=](whole i) { return A(x[i]); }, [=](whole i, A v) {
    A sign = v > 0 ? A(1) : v < 0 ? A(-1) : v;
    out[i] = l1 != 0 ? v * steep + sign * flat : v * steep;
  });
}
"""
)


@override(reference.penalty, "gpu", when=contiguous_numbers("x"))
def penalty(k: Kernels, x: Any, l1: float, l2: float) -> Any:
    blocks = min(each(x.size, 8 * THREADS), _MOST_BLOCKS)
    sums = k.empty((blocks, 2), np.dtype("float64" if x.dtype.char == "d" else "float32"))
    out = k.empty((), x.dtype)
    launch(k, _SOURCE, "norms", x.dtype, blocks, THREADS, (x, sums, x.size))
    launch(k, _SOURCE, "penalty", x.dtype, 1, THREADS, (sums, out, float(l1), float(l2), blocks))
    return out


def _is_one(g: Any, x: Any) -> bool:
    return g.size == 1 and g.dtype == x.dtype


@override(reference.penalty_grad, "gpu", when=(contiguous_numbers("x", "out"), same_shape("x", "out"), _is_one))
def penalty_grad(k: Kernels, g: Any, x: Any, l1: float, l2: float, out: Any = None) -> Any:
    out = k.empty(x.shape, x.dtype) if out is None else out
    arguments = (g, x, out, float(l1), float(l2), x.size)
    launch(k, _SOURCE, "penalty_grad", x.dtype, fours(x.size), THREADS, arguments)
    return out
