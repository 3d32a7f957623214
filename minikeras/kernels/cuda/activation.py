"""Elementwise functions in one pass each: activations and other curves both ways, and what is along an axis.

A curve is chosen by a number, not by a kernel of its own: all threads take the same way, and what takes time is memory.
Along an axis the rows are shared as `rows.py` has it; where they lie beside each other and are many, each has a thread.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, fours, is_array, launch
from minikeras.kernels.cuda.rows import of_rows
from minikeras.kernels.reference import activation as reference
from minikeras.kernels.table import Kernels, one_of, override, same_shape

# fused activations by their numbers in activations.cu; one of a user's has none
ACTIVATIONS = {
    None: 0, "relu": 1, "sigmoid": 2, "tanh": 3, "exponential": 4, "elu": 5, "selu": 6, "softplus": 7, "log_sigmoid": 8,
    "softsign": 9, "leaky_relu": 10, "hard_sigmoid": 11, "keras2_hard_sigmoid": 12, "relu6": 13,
}  # fmt: skip

known_activation = one_of("activation", *ACTIVATIONS)  # a condition of kernels that end with one
_named = one_of("activation", *list(ACTIVATIONS)[1:])

_SOURCE = Source(
    """
__global__ void activate(const T* x, T* y, whole activation, whole n) {
  in_fours(n, [=](whole i) { return A(x[i]); }, [=](whole i, A v) { y[i] = activated(v, activation); });
}
__global__ void activate_grad(const T* g, const T* y, T* out, whole activation, whole n) {
  struct Both { A g, y; };
  in_fours(n, [=](whole i) { return Both{g[i], y[i]}; },
           [=](whole i, Both at) { out[i] = activated_grad(at.g, at.y, activation); });
}
""",
    parts=("activations.cu",),
)


@override(reference.activate, "gpu", when=(contiguous_numbers("x", "out"), same_shape("x", "out"), _named))
def activate(k: Kernels, x: Any, activation: str | None, out: Any = None) -> Any:
    out = k.empty(x.shape, x.dtype) if out is None else out
    launch(k, _SOURCE, "activate", x.dtype, fours(x.size), THREADS, (x, out, ACTIVATIONS[activation], x.size))
    return out


@override(reference.activate_grad, "gpu", when=(contiguous_numbers("g", "y"), same_shape("g", "y"), _named))
def activate_grad(k: Kernels, g: Any, y: Any, activation: str | None) -> Any:
    out = k.empty(g.shape, g.dtype)
    launch(k, _SOURCE, "activate_grad", g.dtype, fours(g.size), THREADS, (g, y, out, ACTIVATIONS[activation], g.size))
    return out


# ---- curves ----------------------------------------------------------------------------------------------------------

# by their numbers in the source
CURVES = {
    "gelu": 0, "gelu_tanh": 1, "silu": 2, "mish": 3, "hard_silu": 4, "elu": 5, "celu": 6, "hard_tanh": 7,
    "hard_shrink": 8, "soft_shrink": 9, "tanh_shrink": 10, "threshold": 11, "squareplus": 12, "sparse_plus": 13,
    "sparse_sigmoid": 14, "expm1": 15, "log": 16, "log1p": 17, "erf": 18,
}  # fmt: skip

_CURVES = Source(
    """
__device__ __forceinline__ float normal_share(float x) { return normcdff(x); }
__device__ __forceinline__ double normal_share(double x) { return normcdf(x); }
__device__ __forceinline__ A clipped(A x, A low, A high) { return smaller(larger(x, low), high); }
// on the limits themselves it is a half
__device__ __forceinline__ A clipped_slope(A x, A low, A high) {
  return (A(0.5) * (x > low) + A(0.5) * (x >= low)) * (A(0.5) * (x < high) + A(0.5) * (x <= high));
}
// gelu's: the logistic function of it is (1 + tanh(u / 2)) / 2
__device__ __forceinline__ A gelu_argument(A x) {
  return x * (A(1.5957691216057308) * (1 + A(0.044715) * (x * x)));
}
// x - tanh(x), whose digits a difference in float has lost, and near 0 one in double too
__device__ double tanh_shrunk(double x) {
  double square = x * x;
  if (square > 1e-4) return x - tanh(x);
  return x * square * (1.0 / 3 - square * (2.0 / 15 - square * (17.0 / 315)));
}
__device__ A curve_at(A x, int curve, A a, A b) {
  switch (curve) {
    case 0: return x * normal_share(x);
    case 1: return x * logistic(gelu_argument(x));
    case 2: return x * logistic(x);
    case 3: {  // with e = exp(x) is tanh(log(1 + e)) = (e² + 2e) / (e² + 2e + 2), which beyond 20 is 1
      A e = e_to(smaller(x, A(20))), both = e * (e + 2);
      return x * (both / (both + 2));
    }
    case 4: return x * activated(x, 11);
    case 5: return x > 0 ? x : a * expm1(smaller(x, A(0)));
    case 6: return x > 0 ? x : a * expm1(smaller(x, A(0)) / a);
    case 7: return clipped(x, A(-1), A(1));
    case 8: return x > a || x < -a ? x : A(0);
    case 9: return x - clipped(x, -a, a);
    case 10: return A(tanh_shrunk(x));
    case 11: return x > a ? x : b;
    case 12: {
      A all = root(x * x + a);
      return x < 0 ? A(0.5) * a / (all - x) : A(0.5) * (x + all);  // below 0 a difference loses digits
    }
    case 13: return x <= -1 ? A(0) : x < 1 ? A(0.25) * (x + 1) * (x + 1) : x;
    case 14: return A(0.5) * (clipped(x, A(-1), A(1)) + 1);
    case 15: return expm1(x);
    case 16: return log_of(x);
    case 17: return log1p(x);
    case 18: return erf(x);
  }
  return x;
}
__device__ A slope_at(A x, int curve, A a) {
  switch (curve) {
    case 0: return normal_share(x) + x * (e_to(A(-0.5) * x * x) * A(0.3989422804014327));
    case 1: {
      A s = logistic(gelu_argument(x));
      return s + x * s * (1 - s) * (A(1.5957691216057308) * (1 + A(3 * 0.044715) * (x * x)));
    }
    case 2: {
      A s = logistic(x);
      return s * (1 + x * (1 - s));
    }
    case 3: {
      A e = e_to(smaller(x, A(20))), both = e * (e + 2);
      return both / (both + 2) + x * (4 * e / (both + 2) * ((1 + e) / (both + 2)));
    }
    case 4: {
      A s = activated(x, 11);
      return s + x * activated_grad(A(1), s, 11);
    }
    case 5: return x > 0 ? A(1) : a * e_to(smaller(x, A(0)));
    case 6: return x > 0 ? A(1) : e_to(smaller(x, A(0)) / a);
    case 7: return clipped_slope(x, A(-1), A(1));
    case 8: return x > a || x < -a ? A(1) : A(0);
    case 9: return 1 - clipped_slope(x, -a, a);
    case 10: {
      A t = tanh(x);
      return t * t;
    }
    case 11: return x > a ? A(1) : A(0);
    case 12: return curve_at(x, 12, a, A(0)) / root(x * x + a);
    case 13: return x <= -1 ? A(0) : x < 1 ? A(0.5) * (x + 1) : A(1);
    case 14: return A(0.5) * clipped_slope(x, A(-1), A(1));
    case 15: return e_to(x);
    case 16: return 1 / x;
    case 17: return 1 / (x + 1);
    case 18: return e_to(-x * x) * A(1.1283791670955126);
  }
  return A(1);
}
__global__ void curve(const T* x, T* y, whole which, double a, double b, whole n) {
  in_fours(n, [=](whole i) { return A(x[i]); }, [=](whole i, A v) { y[i] = curve_at(v, which, a, b); });
}
__global__ void curve_grad(const T* g, const T* x, T* out, whole which, double a, whole n) {
  struct Both { A g, x; };
  in_fours(n, [=](whole i) { return Both{g[i], x[i]}; },
           [=](whole i, Both at) { out[i] = at.g * slope_at(at.x, which, a); });
}
""",
    parts=("activations.cu",),
)
_known_curve = one_of("name", *CURVES)


def _two(settings: tuple[float, ...]) -> tuple[float, ...]:
    """The settings of a curve as kernels have them."""
    return (*map(float, settings), 0.0, 0.0)[:2]


@override(reference.curve, "gpu", when=(contiguous_numbers("x"), _known_curve))
def curve(k: Kernels, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    out = k.empty(x.shape, x.dtype)
    arguments = (x, out, CURVES[name], *_two(settings), x.size)
    launch(k, _CURVES, "curve", x.dtype, fours(x.size), THREADS, arguments)
    return out


@override(reference.curve_grad, "gpu", when=(contiguous_numbers("g", "x"), same_shape("g", "x"), _known_curve))
def curve_grad(k: Kernels, g: Any, x: Any, name: str, settings: tuple[float, ...] = ()) -> Any:
    out = k.empty(g.shape, g.dtype)
    arguments = (g, x, out, CURVES[name], _two(settings)[0], g.size)
    launch(k, _CURVES, "curve_grad", g.dtype, fours(g.size), THREADS, arguments)
    return out


@override(reference.erf, "gpu", when=contiguous_numbers("x"))
def erf(k: Kernels, x: Any) -> Any:
    return k.curve(x, "erf")


# ---- straight lines and dropout --------------------------------------------------------------------------------------

_LINES = Source(
    """
__device__ __forceinline__ A line(A x, A slope, A threshold) {
  A below = slope != 0 ? slope * (x - threshold) : A(0);  // no slope meets an infinity
  return x <= threshold ? below : x;  // NaN stays NaN
}
// without a limit that is NaN, which nothing is above
__global__ void piecewise_relu(const T* x, T* out, double slope, double limit, double threshold, whole n) {
  in_fours(n, [=](whole i) { return A(x[i]); }, [=](whole i, A v) {
    A y = line(v, slope, threshold);
    out[i] = y > A(limit) ? A(limit) : y;
  });
}
__global__ void piecewise_relu_grad(const T* g, const T* x, T* out, double slope, double limit, double threshold,
                                    whole n) {
  struct Both { A g, x; };
  in_fours(n, [=](whole i) { return Both{g[i], x[i]}; }, [=](whole i, Both at) {
    A gradient = at.x > A(threshold) ? at.g : slope != 0 ? A(slope) * at.g : A(0);
    out[i] = line(at.x, slope, threshold) >= A(limit) ? A(0) : gradient;
  });
}
// the mask is repeated along axes, after which there are `inner` numbers
__global__ void masked_scale(const T* x, const M* mask, T* out, double scale, whole repeats, whole inner, whole n) {
  struct Both { A x, kept; };
  in_fours(n, [=](whole i) {
    return Both{x[i], A(mask[repeats == 1 ? i : i / (repeats * inner) * inner + i % inner])};
  }, [=](whole i, Both at) { out[i] = at.x * at.kept * A(scale); });
}
""",
    types=("M",),
)


def _settings(slope: float, limit: float | None, threshold: float) -> tuple[float, ...]:
    return float(slope), math.nan if limit is None else float(limit), float(threshold)


@override(reference.piecewise_relu, "gpu", when=(contiguous_numbers("x", "out"), same_shape("x", "out")))
def piecewise_relu(
    k: Kernels, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = k.empty(x.shape, x.dtype) if out is None else out
    arguments = (x, out, *_settings(slope, limit, threshold), x.size)
    launch(k, _LINES, "piecewise_relu", x.dtype, fours(x.size), THREADS, arguments, M=x.dtype)
    return out


@override(reference.piecewise_relu_grad, "gpu", when=(contiguous_numbers("g", "x", "out"), same_shape("g", "x", "out")))
def piecewise_relu_grad(
    k: Kernels, g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = k.empty(g.shape, g.dtype) if out is None else out
    arguments = (g, x, out, *_settings(slope, limit, threshold), g.size)
    launch(k, _LINES, "piecewise_relu_grad", g.dtype, fours(g.size), THREADS, arguments, M=g.dtype)
    return out


@lru_cache(maxsize=1024)
def repeated(shape: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, int] | None:
    """How an array of a shape is repeated to another along axes that follow one another.

    Returns:
        How often each part of it is, and how many numbers such a part has; None where it is repeated in another way.
    """
    if len(short) > len(shape):
        return None
    short = (1,) * (len(shape) - len(short)) + short
    axes = [i for i, size in enumerate(short) if size != shape[i]]
    if not axes:
        return 1, 1
    between = slice(axes[0], axes[-1] + 1)
    return (math.prod(shape[between]), math.prod(shape[between.stop :])) if set(short[between]) == {1} else None


def _is_mask(x: Any, mask: Any) -> bool:
    of_numbers = mask.dtype.char in "?B" or mask.dtype == x.dtype
    return of_numbers and is_array(mask) and mask.flags.c_contiguous and repeated(x.shape, mask.shape) is not None


@override(reference.masked_scale, "gpu", when=(contiguous_numbers("x", "out"), same_shape("x", "out"), _is_mask))
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    out = k.empty(x.shape, x.dtype) if out is None else out
    arguments = (x, mask, out, float(scale), *repeated(x.shape, mask.shape), x.size)  # type: ignore[misc]
    launch(k, _LINES, "masked_scale", x.dtype, fours(x.size), THREADS, arguments, M=mask.dtype)
    return out


# ---- along an axis ---------------------------------------------------------------------------------------------------

_ROWS = Source(
    """
// Threads without a row do the last once more but write nothing: the result may lie where the row was.  Between the
// numbers of a row lie `inner - 1` of others.
#define ROW                                                                                                 \\
  bool there = blockIdx.x * (whole)blockDim.y + threadIdx.y < rows;                                         \\
  whole row = own_row(rows), first = row / inner * columns * inner + row % inner;
#define EACH_IN_ROW(i) \\
  for (whole i = first + threadIdx.x * inner; i < first + columns * inner; i += blockDim.x * inner)

__global__ void softmax(const T* x, T* out, whole rows, whole columns, whole inner) {
  ROW
  A most = -INFINITE, sum = 0;
  EACH_IN_ROW(i) most = larger(most, A(x[i]));
  most = over_row<Largest>(most);
  EACH_IN_ROW(i) sum += e_to(x[i] - most);
  sum = over_row<Sum>(sum);
  if (there) EACH_IN_ROW(i) out[i] = e_to(x[i] - most) / sum;
}
__global__ void log_softmax(const T* x, T* out, whole rows, whole columns, whole inner) {
  ROW
  A most = -INFINITE, sum = 0;
  EACH_IN_ROW(i) most = larger(most, A(x[i]));
  most = over_row<Largest>(most);
  EACH_IN_ROW(i) sum += e_to(x[i] - most);
  sum = log_of(over_row<Sum>(sum));
  if (there) EACH_IN_ROW(i) out[i] = x[i] - most - sum;
}
__global__ void softmax_grad(const T* g, const T* y, T* out, whole rows, whole columns, whole inner) {
  ROW
  A sum = 0;
  EACH_IN_ROW(i) sum += A(g[i]) * A(y[i]);
  sum = over_row<Sum>(sum);
  if (there) EACH_IN_ROW(i) out[i] = A(y[i]) * (A(g[i]) - sum);
}
__global__ void log_softmax_grad(const T* g, const T* y, T* out, whole rows, whole columns, whole inner) {
  ROW
  A sum = 0;
  EACH_IN_ROW(i) sum += A(g[i]);
  sum = over_row<Sum>(sum);
  if (there) EACH_IN_ROW(i) out[i] = A(g[i]) - e_to(A(y[i])) * sum;
}
""",
    parts=("rows.cu",),
)

_MANY = 4096  # rows: enough for a thread each


def _along(k: Kernels, name: str, arrays: tuple[Any, ...], axis: int, out: Any) -> Any:
    """Launch one of these kernels, whose last array is the result."""
    x = arrays[0]
    columns, inner = x.shape[axis], math.prod(x.shape[axis % x.ndim + 1 :])
    rows = x.size // columns
    threads = (1, THREADS) if inner > 1 and rows >= _MANY else of_rows(rows, columns)[1]
    out = k.empty(x.shape, x.dtype) if out is None else out
    launch(k, _ROWS, name, x.dtype, -(-rows // threads[1]), threads, (*arrays, out, rows, columns, inner))
    return out


def _axis_of_x(x: Any, axis: Any) -> bool:
    return type(axis) is int and -x.ndim <= axis < x.ndim


def _axis_of_y(y: Any, axis: Any) -> bool:
    return type(axis) is int and -y.ndim <= axis < y.ndim


_BACKWARD = contiguous_numbers("g", "y"), same_shape("g", "y"), _axis_of_y


@override(reference.softmax, "gpu", when=(contiguous_numbers("x", "out"), same_shape("x", "out"), _axis_of_x))
def softmax(k: Kernels, x: Any, axis: int = -1, out: Any = None) -> Any:
    return _along(k, "softmax", (x,), axis, out)


@override(reference.softmax_grad, "gpu", when=_BACKWARD)
def softmax_grad(k: Kernels, g: Any, y: Any, axis: int = -1) -> Any:
    return _along(k, "softmax_grad", (g, y), axis, None)


@override(reference.log_softmax, "gpu", when=(contiguous_numbers("x"), _axis_of_x))
def log_softmax(k: Kernels, x: Any, axis: int = -1) -> Any:
    return _along(k, "log_softmax", (x,), axis, None)


@override(reference.log_softmax_grad, "gpu", when=_BACKWARD)
def log_softmax_grad(k: Kernels, g: Any, y: Any, axis: Any = -1) -> Any:
    return _along(k, "log_softmax_grad", (g, y), axis, None)


_GATED = Source(
    """
// `half` numbers lie side by side, and their gates after them
__global__ void glu(const T* x, T* out, whole half, whole n) {
  struct Both { A value, gate; };
  in_fours(n, [=](whole i) {
    whole at = i + i / half * half;
    return Both{x[at], x[at + half]};
  }, [=](whole i, Both one) { out[i] = one.value * logistic(one.gate); });
}
__global__ void glu_grad(const T* g, const T* x, T* out, whole half, whole n) {
  struct All { A g, value, gate; };
  in_fours(n, [=](whole i) {
    whole at = i + i / half * half;
    return All{g[i], x[at], x[at + half]};
  }, [=](whole i, All one) {
    whole at = i + i / half * half;
    A s = logistic(one.gate);
    out[at] = one.g * s;
    out[at + half] = one.g * (one.value * (s * (1 - s)));
  });
}
""",
    parts=("activations.cu",),
)


def _has_halves(x: Any, axis: Any) -> bool:
    return _axis_of_x(x, axis) and x.shape[axis] % 2 == 0


def _halves(x: Any, axis: int) -> tuple[tuple[int, ...], int]:
    """The shape of a half of `x`, and how many numbers of it lie side by side."""
    axis %= x.ndim
    shape = (*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :])
    return shape, math.prod(shape[axis:])


@override(reference.glu, "gpu", when=(contiguous_numbers("x"), _has_halves))
def glu(k: Kernels, x: Any, axis: int = -1) -> Any:
    shape, half = _halves(x, axis)
    out = k.empty(shape, x.dtype)
    launch(k, _GATED, "glu", x.dtype, fours(out.size), THREADS, (x, out, half, out.size))
    return out


def _is_a_half(g: Any, x: Any, axis: int) -> bool:
    return _has_halves(x, axis) and g.shape == _halves(x, axis)[0]


@override(reference.glu_grad, "gpu", when=(contiguous_numbers("g", "x"), _is_a_half))
def glu_grad(k: Kernels, g: Any, x: Any, axis: int = -1) -> Any:
    out = k.empty(x.shape, x.dtype)
    launch(k, _GATED, "glu_grad", x.dtype, fours(g.size), THREADS, (g, x, out, _halves(x, axis)[1], g.size))
    return out
