"""Optimizer steps, each in one pass over the flat buffers: what a number needs is read, computed with and written once.

Norms are sums of blocks, added up by every block of the kernel that needs them: how many there are, the shape says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.arena import current
from minikeras.kernels.cuda.launch import (
    FLOATS,
    THREADS,
    Source,
    contiguous_numbers,
    each,
    fours,
    launch,
    number,
    threads_for,
)
from minikeras.kernels.reference import optimizer as reference
from minikeras.kernels.table import Condition, Kernels, override, same_shape

# ---- updates, number by number

_UPDATES = Source(
    """
// what an update reads of each number: the weight, its gradient, and of up to three slots
struct All { A weight, gradient, first, second, third; };

__device__ __forceinline__ float power_of(float x, float y) { return y == 0.5f ? root(x) : powf(x, y); }
__device__ __forceinline__ double power_of(double x, double y) { return y == 0.5 ? root(x) : pow(x, y); }

__global__ void sgd(T* p, const T* g, NUMBER(lr), whole n) {
  A rate = VALUE(lr);
  in_fours(n, [=](whole i) { return All{p[i], g[i]}; }, [=](whole i, All at) {
    p[i] = at.weight - at.gradient * rate;
  });
}
__global__ void sgd_momentum(T* p, const T* g, T* v, NUMBER(lr), double momentum, whole nesterov, whole n) {
  A rate = VALUE(lr), kept = momentum;
  in_fours(n, [=](whole i) { return All{p[i], g[i], v[i]}; }, [=](whole i, All at) {
    A step = at.gradient * rate, velocity = at.first * kept - step;
    v[i] = velocity;
    p[i] = nesterov ? (at.weight - step) + velocity * kept : at.weight + velocity;
  });
}
__global__ void rmsprop(T* p, const T* g, T* v, NUMBER(lr), double rho, double epsilon, double momentum,
                        T* momentum_buffer, T* average_gradient, whole n) {
  A rate = VALUE(lr), kept = rho, rest = 1 - rho;
  in_fours(n, [=](whole i) {
    A moving = momentum_buffer ? A(momentum_buffer[i]) : A(0), mean = average_gradient ? A(average_gradient[i]) : A(0);
    return All{p[i], g[i], v[i], moving, mean};
  }, [=](whole i, All at) {
    A square = at.first * kept + at.gradient * at.gradient * rest, variance = square;
    v[i] = square;
    if (average_gradient) {
      A mean = at.third * kept + at.gradient * rest;
      average_gradient[i] = mean;
      variance = larger(square - mean * mean, A(0));  // only rounding makes it negative
    }
    A step = at.gradient / root(variance + A(epsilon)) * rate;
    if (momentum_buffer) momentum_buffer[i] = step = at.second * A(momentum) + step;
    p[i] = at.weight - step;
  });
}
__global__ void adam(T* p, const T* g, T* m, T* v, T* vhat, NUMBER(alpha), whole decays, NUMBER(amount), double beta_1,
                     double beta_2, double epsilon, whole n) {
  A rate = VALUE(alpha), decayed = VALUE(amount), rest_1 = 1 - beta_1, rest_2 = 1 - beta_2;
  in_fours(n, [=](whole i) {
    return All{p[i], g[i], m[i], v[i], vhat ? A(vhat[i]) : A(0)};
  }, [=](whole i, All at) {
    A weight = at.weight, mean = at.first + (at.gradient - at.first) * rest_1;
    A square = at.second + (at.gradient * at.gradient - at.second) * rest_2;
    m[i] = mean;
    v[i] = square;
    if (vhat) vhat[i] = square = larger(at.third, square);
    if (decays) weight -= weight * decayed;
    p[i] = weight - mean / (root(square) + A(epsilon)) * rate;
  });
}
__global__ void adagrad(T* p, const T* g, T* total, NUMBER(lr), double epsilon, whole n) {
  A rate = VALUE(lr);
  in_fours(n, [=](whole i) { return All{p[i], g[i], total[i]}; }, [=](whole i, All at) {
    A square = at.first + at.gradient * at.gradient;
    total[i] = square;
    p[i] = at.weight - at.gradient * rate / root(square + A(epsilon));
  });
}
__global__ void adadelta(T* p, const T* g, T* squares, T* steps, NUMBER(lr), double rho, double epsilon, whole n) {
  A rate = VALUE(lr), kept = rho, rest = 1 - rho;
  in_fours(n, [=](whole i) { return All{p[i], g[i], squares[i], steps[i]}; }, [=](whole i, All at) {
    A square = at.first * kept + at.gradient * at.gradient * rest;
    A step = at.gradient * root(at.second + A(epsilon)) / root(square + A(epsilon));
    squares[i] = square;
    steps[i] = at.second * kept + step * step * rest;
    p[i] = at.weight - step * rate;
  });
}
__global__ void adamax(T* p, const T* g, T* m, T* norm, NUMBER(alpha), double beta_1, double beta_2, double epsilon,
                       whole n) {
  A rate = VALUE(alpha), rest = 1 - beta_1;
  in_fours(n, [=](whole i) { return All{p[i], g[i], m[i], norm[i]}; }, [=](whole i, All at) {
    A mean = at.first + (at.gradient - at.first) * rest;
    A largest = larger(at.second * A(beta_2), at.gradient < 0 ? -at.gradient : at.gradient);
    m[i] = mean;
    norm[i] = largest;
    p[i] = at.weight - mean * rate / (largest + A(epsilon));
  });
}
__global__ void nadam(T* p, const T* g, T* m, T* v, NUMBER(lr), NUMBER(of_mean), NUMBER(of_gradient),
                      NUMBER(correction), double beta_1, double beta_2, double epsilon, whole n) {
  A rate = VALUE(lr), share_of_mean = VALUE(of_mean), share_of_gradient = VALUE(of_gradient);
  A corrected = VALUE(correction), rest_1 = 1 - beta_1, rest_2 = 1 - beta_2;
  in_fours(n, [=](whole i) { return All{p[i], g[i], m[i], v[i]}; }, [=](whole i, All at) {
    A mean = at.first + (at.gradient - at.first) * rest_1;
    A square = at.second + (at.gradient * at.gradient - at.second) * rest_2;
    m[i] = mean;
    v[i] = square;
    A step = mean * share_of_mean + at.gradient * share_of_gradient;
    p[i] = at.weight - step * rate / (root(square / corrected) + A(epsilon));
  });
}
__global__ void lion(T* p, const T* g, T* m, NUMBER(lr), double beta_1, double beta_2, whole n) {
  A rate = VALUE(lr), rest_1 = 1 - beta_1, rest_2 = 1 - beta_2;
  in_fours(n, [=](whole i) { return All{p[i], g[i], m[i]}; }, [=](whole i, All at) {
    A direction = at.first * A(beta_1) + at.gradient * rest_1;
    A sign = direction > 0 ? A(1) : direction < 0 ? A(-1) : direction * 0;  // NaN stays
    p[i] = at.weight - sign * rate;
    m[i] = at.first * A(beta_2) + at.gradient * rest_2;
  });
}
__global__ void ftrl(T* p, const T* g, T* total, T* linear, NUMBER(lr), double power, double l1, double twice_l2,
                     double twice_shrinkage, double beta, whole n) {
  if (VALUE(lr) == 0) return;
  A rate = VALUE(lr), most = l1;
  in_fours(n, [=](whole i) { return All{p[i], g[i], total[i], linear[i]}; }, [=](whole i, All at) {
    A square = at.first + at.gradient * at.gradient, after = power_of(square, A(power));
    A moved = (after - power_of(at.first, A(power))) / rate * at.weight;
    moved = at.second + (at.gradient + A(twice_shrinkage) * at.weight - moved);
    total[i] = square;
    linear[i] = moved;
    p[i] = (smaller(larger(moved, -most), most) - moved) / ((after + A(beta)) / rate + A(twice_l2));
  });
}
__global__ void decay(T* p, NUMBER(amount), whole n) {
  A share = VALUE(amount);
  in_fours(n, [=](whole i) { return A(p[i]); }, [=](whole i, A weight) { p[i] = weight - weight * share; });
}
__global__ void ema(T* average, const T* p, NUMBER(momentum), whole n) {
  A kept = VALUE(momentum), rest = 1 - VALUE(momentum);
  in_fours(n, [=](whole i) { return All{p[i], 0, average[i]}; }, [=](whole i, All at) {
    average[i] = at.first * kept + at.weight * rest;
  });
}
__global__ void clip_by_value(T* g, double limit, whole n) {
  A most = limit;
  in_fours(n, [=](whole i) { return A(g[i]); }, [=](whole i, A v) { g[i] = smaller(larger(v, -most), most); });
}
__global__ void add_up(T* total, const T* g, whole n) {
  in_fours(n, [=](whole i) { return All{total[i], g[i]}; }, [=](whole i, All at) {
    total[i] = at.weight + at.gradient;
  });
}
__global__ void take_mean(T* total, T* out, double count, whole n) {
  in_fours(n, [=](whole i) { return A(total[i]); }, [=](whole i, A sum) {
    out[i] = sum / A(count);
    total[i] = A(0);
  });
}
__global__ void scale(T* g, NUMBER(factor), whole n) {
  A by = VALUE(factor);
  in_fours(n, [=](whole i) { return A(g[i]); }, [=](whole i, A v) { g[i] = v * by; });
}
__global__ void without_negative(const T* w, T* out, whole n) {
  in_fours(n, [=](whole i) { return A(w[i]); }, [=](whole i, A v) { out[i] = larger(v, A(0)); });
}
"""
)


def _update(k: Kernels, name: str, p: Any, *arguments: Any) -> None:
    launch(k, _UPDATES, name, p.dtype, fours(p.size), THREADS, (p, *arguments, p.size))


def _alike(first: str, *others: str) -> tuple[Condition, ...]:
    """Whether arrays are contiguous, of one type of floats, and as long: kernels do not look."""
    return contiguous_numbers(first, *others), same_shape(first, *others)


@override(reference.sgd, "gpu", when=_alike("p", "g"))
def sgd(k: Kernels, p: Any, g: Any, lr: Any) -> None:
    _update(k, "sgd", p, g, *number(lr))


@override(reference.sgd_momentum, "gpu", when=_alike("p", "g", "v"))
def sgd_momentum(k: Kernels, p: Any, g: Any, v: Any, lr: Any, momentum: float, nesterov: bool = False) -> None:
    _update(k, "sgd_momentum", p, g, v, *number(lr), float(momentum), bool(nesterov))


@override(reference.rmsprop, "gpu", when=_alike("p", "g", "v", "momentum_buffer", "average_gradient"))
def rmsprop(
    k: Kernels, p: Any, g: Any, v: Any, lr: Any, rho: float, epsilon: float, momentum: float, momentum_buffer: Any,
    average_gradient: Any,
) -> None:  # fmt: skip
    constants = float(rho), float(epsilon), float(momentum)
    _update(k, "rmsprop", p, g, v, *number(lr), *constants, momentum_buffer, average_gradient)


@override(reference.adam, "gpu", when=_alike("p", "g", "m", "v", "vhat"))
def adam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float, vhat: Any,
    amount: Any,
) -> None:  # fmt: skip
    decays, amount = amount is not None, 0.0 if amount is None else amount
    constants = float(beta_1), float(beta_2), float(epsilon)
    _update(k, "adam", p, g, m, v, vhat, *number(alpha), decays, *number(amount), *constants)


@override(reference.adagrad, "gpu", when=_alike("p", "g", "total"))
def adagrad(k: Kernels, p: Any, g: Any, total: Any, lr: Any, epsilon: float) -> None:
    _update(k, "adagrad", p, g, total, *number(lr), float(epsilon))


@override(reference.adadelta, "gpu", when=_alike("p", "g", "squares", "steps"))
def adadelta(k: Kernels, p: Any, g: Any, squares: Any, steps: Any, lr: Any, rho: float, epsilon: float) -> None:
    _update(k, "adadelta", p, g, squares, steps, *number(lr), float(rho), float(epsilon))


@override(reference.adamax, "gpu", when=_alike("p", "g", "m", "norm"))
def adamax(
    k: Kernels, p: Any, g: Any, m: Any, norm: Any, alpha: Any, beta_1: float, beta_2: float, epsilon: float
) -> None:
    _update(k, "adamax", p, g, m, norm, *number(alpha), float(beta_1), float(beta_2), float(epsilon))


@override(reference.nadam, "gpu", when=_alike("p", "g", "m", "v"))
def nadam(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, lr: Any, of_mean: Any, of_gradient: Any, correction: Any,
    beta_1: float, beta_2: float, epsilon: float,
) -> None:  # fmt: skip
    numbers = *number(lr), *number(of_mean), *number(of_gradient), *number(correction)
    _update(k, "nadam", p, g, m, v, *numbers, float(beta_1), float(beta_2), float(epsilon))


@override(reference.lion, "gpu", when=_alike("p", "g", "m"))
def lion(k: Kernels, p: Any, g: Any, m: Any, lr: Any, beta_1: float, beta_2: float) -> None:
    _update(k, "lion", p, g, m, *number(lr), float(beta_1), float(beta_2))


@override(reference.ftrl, "gpu", when=_alike("p", "g", "total", "linear"))
def ftrl(
    k: Kernels, p: Any, g: Any, total: Any, linear: Any, lr: Any, power: float, l1: float, l2: float,
    shrinkage: float, beta: float,
) -> None:  # fmt: skip
    constants = float(power), float(l1), 2.0 * l2, 2.0 * shrinkage, float(beta)
    _update(k, "ftrl", p, g, total, linear, *number(lr), *constants)


@override(reference.decay, "gpu", when=contiguous_numbers("p"))
def decay(k: Kernels, p: Any, amount: Any) -> None:
    _update(k, "decay", p, *number(amount))


@override(reference.ema, "gpu", when=_alike("average", "p"))
def ema(k: Kernels, average: Any, p: Any, momentum: Any) -> None:
    _update(k, "ema", average, p, *number(momentum))


@override(reference.clip_by_value, "gpu", when=contiguous_numbers("g"))
def clip_by_value(k: Kernels, g: Any, limit: float) -> None:
    _update(k, "clip_by_value", g, float(limit))


@override(reference.add_up, "gpu", when=_alike("total", "g"))
def add_up(k: Kernels, total: Any, g: Any) -> None:
    _update(k, "add_up", total, g)


@override(reference.take_mean, "gpu", when=_alike("total", "out"))
def take_mean(k: Kernels, total: Any, count: int, out: Any) -> None:
    _update(k, "take_mean", total, out, float(count))


@override(reference.scale, "gpu", when=(contiguous_numbers("g"), Condition('not hasattr(factor, "get")')))
def scale(k: Kernels, g: Any, factor: Any) -> None:
    _update(k, "scale", g, *number(factor))


@override(reference.without_negative, "gpu", when=_alike("w", "out"))
def without_negative(k: Kernels, w: Any, out: Any = None) -> Any:
    out = k.empty(w.shape, w.dtype) if out is None else out
    _update(k, "without_negative", w, out)
    return out


# ---- what reads a number of the device, or writes one

_SCALES = Source(
    """
__global__ void scale_by(T* g, const F* factor, whole n) {
  A by = *factor;
  in_fours(n, [=](whole i) { return A(g[i]); }, [=](whole i, A v) { g[i] = v * by; });
}
""",
    types=("F",),
)
_FINITE = Source(
    """
__global__ void begin_finite(double* out) { *out = 1; }
__global__ void is_finite(const T* g, double* out, whole n) {
  bool all = true;
  in_fours(n, [=](whole i) { return A(g[i]); }, [&](whole i, A v) { all = all && v - v == 0; });
  if (!all) *out = 0;  // whoever writes, it is this
}
"""
)


@override(
    reference.scale,
    "gpu",
    when=(
        contiguous_numbers("g"),
        Condition(f'hasattr(factor, "get") and factor.size == 1 and factor.dtype.char in "{FLOATS}"'),
    ),
)
def scale_by_a_number_of_the_device(k: Kernels, g: Any, factor: Any) -> None:
    launch(k, _SCALES, "scale_by", g.dtype, fours(g.size), THREADS, (g, factor, g.size), F=factor.dtype)


def _are_plain(arrays: Any) -> bool:
    return all(g.dtype.char in FLOATS and g.flags.c_contiguous for g in arrays)


def _joined(arrays: Sequence[Any]) -> list[Any]:
    """The same numbers in fewer arrays: those that lie side by side in a flat buffer are one."""
    runs: list[list[Any]] = []
    for array in [one for one in arrays if one.size]:
        last = runs[-1][-1] if runs else array
        buffer = array.base
        beside = buffer is not None and buffer is last.base and last.data.ptr + last.nbytes == array.data.ptr
        if beside and buffer.ndim == 1 and buffer.dtype == array.dtype:
            runs[-1].append(array)
        else:
            runs.append([array])
    return [_span(run[0], run[-1]) if len(run) > 1 else run[0] for run in runs]


def _span(first: Any, last: Any) -> Any:
    """The part of their buffer from the start of one view to the end of another."""
    start = (first.data.ptr - first.base.data.ptr) // first.itemsize
    return first.base[start : start + (last.data.ptr + last.nbytes - first.data.ptr) // first.itemsize]


@override(reference.all_finite, "gpu", when=_are_plain)
def all_finite(k: Kernels, arrays: Sequence[Any], out: Any) -> bool:
    """In a recorded step `out` is a number on the device, and nothing is read back."""
    recording, arrays = current.recording, _joined(arrays)
    found = k.empty((1,), _DOUBLE) if recording is None else recording.flag_at(out)
    launch(k, _FINITE, "begin_finite", arrays[0].dtype if arrays else _SINGLE, 1, 1, (found,))
    for g in arrays:
        launch(k, _FINITE, "is_finite", g.dtype, fours(g.size), THREADS, (g, found, g.size))
    if recording is not None:
        return True
    out[...] = k.to_host(found) if arrays else 1
    return bool(out)


_DOUBLE = np.dtype(np.float64)
_SINGLE = np.dtype(np.float32)

# ---- norms

_MOST_SUMS = 1024  # of blocks
_NORMS = Source(
    """
__device__ A norm_of(const double* sums, whole count) {
  double total = 0;
  EACH_IN_BLOCK(i, count) total += sums[i];
  return root(over_block<Sum>(total));
}
__device__ void add_up(A sum, double* sums) {
  double total = over_block<Sum>(double(sum));
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}
__global__ void sum_squares(const T* g, double* sums, whole n) {
  A sum = 0;
  in_fours(n, [=](whole i) { return A(g[i]); }, [&](whole i, A v) { sum += v * v; });
  add_up(sum, sums);
}
__global__ void sum_of_sums(const double* sums, whole count, A* out) {
  double total = 0;
  EACH_IN_BLOCK(i, count) total += sums[i];
  total = over_block<Sum>(total);
  if (threadIdx.x == 0) *out = total;
}
__global__ void scale_to_norm(T* g, const double* sums, whole count, double limit, whole together, whole n) {
  A norm = norm_of(sums, count), most = limit, factor = most / larger(norm, most);
  if (together) factor += norm - norm;  // NaN of what is not finite, else 0
  if (factor != 1) in_fours(n, [=](whole i) { return A(g[i]); }, [=](whole i, A v) { g[i] = v * factor; });
}
// the sums of squares of the weights and, after them, those of the step
__global__ void lamb_averages(const T* p, const T* g, T* m, T* v, NUMBER(correction_1), NUMBER(correction_2),
                              double beta_1, double beta_2, double epsilon, double* sums, whole n) {
  A rest_1 = 1 - beta_1, rest_2 = 1 - beta_2, of_mean = VALUE(correction_1), of_square = VALUE(correction_2);
  A size = 0, length = 0;
  EACH(i, n) {
    A weight = p[i], gradient = g[i], mean = m[i], square = v[i];
    m[i] = mean + (gradient - mean) * rest_1;
    v[i] = square + (gradient * gradient - square) * rest_2;
    A step = A(m[i]) / of_mean / (root(A(v[i]) / of_square) + A(epsilon));
    size += weight * weight;
    length += step * step;
  }
  add_up(size, sums);
  add_up(length, sums + gridDim.x);
}
__global__ void lamb(T* p, const T* m, const T* v, NUMBER(lr), NUMBER(correction_1), NUMBER(correction_2),
                     double epsilon, const double* sums, whole count, whole n) {
  A of_mean = VALUE(correction_1), of_square = VALUE(correction_2), rate = VALUE(lr);
  A size = norm_of(sums, count), length = norm_of(sums + count, count);
  if (size > 0 && length > 0) rate *= size / length;
  EACH(i, n) p[i] = A(p[i]) - A(m[i]) / of_mean / (root(A(v[i]) / of_square) + A(epsilon)) * rate;
}
"""
)


def _sums_of(size: int) -> int:
    """How many blocks share an array's numbers."""
    return min(-(-size // (16 * THREADS)), _MOST_SUMS)


def _add_squares(k: Kernels, arrays: Sequence[Any]) -> Any:
    """The sums of the squares of blocks of arrays, one array after the other."""
    counts = [_sums_of(g.size) for g in arrays]
    sums, start = k.empty((sum(counts),), _DOUBLE), 0
    for g, count in zip(arrays, counts, strict=True):
        launch(k, _NORMS, "sum_squares", g.dtype, count, THREADS, (g, sums[start : start + count], g.size))
        start += count
    return sums


@override(reference.sum_of_squares, "gpu", when=contiguous_numbers("g"))
def sum_of_squares(k: Kernels, g: Any) -> Any:
    sums, out = _add_squares(k, [g]), k.empty((), _DOUBLE if g.dtype == _DOUBLE else _SINGLE)
    launch(k, _NORMS, "sum_of_sums", g.dtype, 1, threads_for(sums.size), (sums, sums.size, out))
    return out


@override(reference.clip_by_norm, "gpu", when=_are_plain)
def clip_by_norm(k: Kernels, arrays: Sequence[Any], limit: float, together: bool = True) -> None:
    for group in (arrays,) if together else zip(arrays, strict=True):
        sums = _add_squares(k, group)
        for g in group:
            arguments = (g, sums, sums.size, float(limit), bool(together), g.size)
            launch(k, _NORMS, "scale_to_norm", g.dtype, min(each(g.size), _MOST_SUMS), THREADS, arguments)


@override(reference.lamb, "gpu", when=_alike("p", "g", "m", "v"))
def lamb(
    k: Kernels, p: Any, g: Any, m: Any, v: Any, lr: Any, correction_1: Any, correction_2: Any, beta_1: float,
    beta_2: float, epsilon: float,
) -> None:  # fmt: skip
    corrections, count = (*number(correction_1), *number(correction_2)), _sums_of(p.size)
    sums = k.empty((2 * count,), _DOUBLE)
    averages = (p, g, m, v, *corrections, float(beta_1), float(beta_2), float(epsilon), sums, p.size)
    launch(k, _NORMS, "lamb_averages", p.dtype, count, THREADS, averages)
    step = (p, m, v, *number(lr), *corrections, float(epsilon), sums, count, p.size)
    launch(k, _NORMS, "lamb", p.dtype, min(each(p.size), _MOST_SUMS), THREADS, step)


# ---- vectors within arrays

_COLUMNS, _LANES = 32, 8  # of a block: neighbouring threads have neighbouring columns, and each lane some of the rows
_VECTORS = Source(
    """
__device__ A over_lanes(A v) {
  __shared__ A parts[32][33];
  parts[threadIdx.y][threadIdx.x] = v;
  __syncthreads();
  A sum = 0;
  for (int lane = 0; lane < blockDim.y; ++lane) sum += parts[lane][threadIdx.x];
  return sum;
}
struct Limits {
  A divisor, factor;
  bool unit;
  __device__ Limits(A norm, double least, double most, double rate, double epsilon, bool unit) : unit(unit) {
    A wanted = smaller(larger(norm, A(least)), A(most));
    if (rate != 1) wanted = A(rate) * wanted + A(1 - rate) * norm;
    divisor = norm + A(epsilon);
    factor = wanted / divisor;
  }
  __device__ A of(A x) { return unit ? x / divisor : x * factor; }
};
// arrays (before, count, after), whose vectors lie along the middle
__global__ void limit_rows(const T* w, T* out, double least, double most, double rate, double epsilon, whole unit,
                           whole count) {
  whole start = blockIdx.x * count;
  A sum = 0;
  EACH_IN_BLOCK(i, count) sum += A(w[start + i]) * A(w[start + i]);
  Limits limits(root(over_block<Sum>(sum)), least, most, rate, epsilon, unit);
  EACH_IN_BLOCK(i, count) out[start + i] = limits.of(w[start + i]);
}
__global__ void limit_columns(const T* w, T* out, double least, double most, double rate, double epsilon, whole unit,
                              whole count, whole after) {
  whole tiles = (after + blockDim.x - 1) / blockDim.x, column = blockIdx.x % tiles * blockDim.x + threadIdx.x;
  whole start = blockIdx.x / tiles * count * after + column, end = column < after ? count : 0;
  A sum = 0;
  for (whole i = threadIdx.y; i < end; i += blockDim.y) sum += A(w[start + i * after]) * A(w[start + i * after]);
  Limits limits(root(over_lanes(sum)), least, most, rate, epsilon, unit);
  for (whole i = threadIdx.y; i < end; i += blockDim.y) out[start + i * after] = limits.of(w[start + i * after]);
}

__global__ void factor_rows(const T* g, T* rows, NUMBER(share), double epsilon, whole width) {
  const T* line = g + blockIdx.x * width;
  A sum = 0, new_share = VALUE(share);
  EACH_IN_BLOCK(j, width) sum += A(line[j]) * A(line[j]) + A(epsilon);
  sum = over_block<Sum>(sum);
  if (threadIdx.x == 0) rows[blockIdx.x] = A(rows[blockIdx.x]) + (sum / A(width) - A(rows[blockIdx.x])) * new_share;
}
// sums of the columns of `part` rows each: (matrices, parts, width)
__global__ void factor_parts(const T* g, A* sums, double epsilon, whole height, whole width, whole parts, whole part) {
  whole tiles = (width + blockDim.x - 1) / blockDim.x, column = blockIdx.x % tiles * blockDim.x + threadIdx.x;
  whole place = blockIdx.x / tiles, first = place % parts * part, end = first + part < height ? first + part : height;
  const T* matrix = g + place / parts * height * width + column;
  A sum = 0;
  if (column < width)
    for (whole i = first + threadIdx.y; i < end; i += blockDim.y)
      sum += A(matrix[i * width]) * A(matrix[i * width]) + A(epsilon);
  sum = over_lanes(sum);
  if (threadIdx.y == 0 && column < width) sums[place * width + column] = sum;
}
// the first block of a matrix gives the mean of its rows, the others the means of its columns
__global__ void factor_means(const T* rows, T* columns, const A* sums, A* means, NUMBER(share), whole height,
                             whole width, whole parts) {
  whole matrix = blockIdx.x;
  if (blockIdx.y == 0) {
    A sum = 0;
    EACH_IN_BLOCK(i, height) sum += A(rows[matrix * height + i]);
    sum = over_block<Sum>(sum);
    if (threadIdx.x == 0) means[matrix] = sum / A(height);
    return;
  }
  A new_share = VALUE(share);
  whole threads = (gridDim.y - 1) * (whole)blockDim.x;
  for (whole j = (blockIdx.y - 1) * (whole)blockDim.x + threadIdx.x; j < width; j += threads) {
    A sum = 0, mean = columns[matrix * width + j];
    for (whole part = 0; part < parts; ++part) sum += sums[(matrix * parts + part) * width + j];
    columns[matrix * width + j] = mean + (sum / A(height) - mean) * new_share;
  }
}

__device__ A mean_root(const double* sums, whole count, whole n) {
  double total = 0;
  EACH_IN_BLOCK(i, count) total += sums[i];
  return root(over_block<Sum>(total) / n);
}
// the mean squares, and the sums of squares of the weights and, after them, those of the step; without rows of a vector
__global__ void adafactor_squares(const T* p, const T* g, const T* rows, const T* columns, const A* means, T* v,
                                  NUMBER(share), double epsilon, whole height, whole width, double* sums, whole n) {
  A size = 0, length = 0, new_share = VALUE(share);
  EACH(i, n) {
    A weight = p[i], gradient = g[i], square = v[i];
    if (rows) {
      whole row = i / width, matrix = row / height;
      v[i] = A(rows[row]) / means[matrix] * A(columns[matrix * width + i % width]);
    } else {
      v[i] = square + (gradient * gradient + A(epsilon) - square) * new_share;
    }
    A step = gradient / root(A(v[i]));
    size += weight * weight;
    length += step * step;
  }
  double of_weights = over_block<Sum>(double(size)), of_step = over_block<Sum>(double(length));
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = of_weights;
    sums[gridDim.x + blockIdx.x] = of_step;
  }
}
__global__ void adafactor(T* p, const T* g, const T* v, NUMBER(lr), double epsilon, double threshold,
                          const double* sums, whole count, whole n) {
  A size = mean_root(sums, count, n), length = mean_root(sums + count, count, n);
  A rate = larger(size, A(epsilon)) / larger(length / A(threshold), A(1)) * A(VALUE(lr));
  EACH(i, n) p[i] = A(p[i]) - A(g[i]) / root(A(v[i])) * rate;
}
"""
)
_PART = 32 * _LANES  # rows of a matrix that a block adds up, column by column


def _blocks(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """How many numbers are before, along and after the axes of the vectors; nothing where these are not neighbours."""
    count = len(shape)
    axes = range(count) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    places = sorted({one % count for one in axes})
    is_run = len(places) == len(axes) and all(-count <= one < count for one in axes)
    if not (places and is_run and places[-1] - places[0] == len(places) - 1):
        return ()
    first, last = places[0], places[-1] + 1
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


def _are_neighbours(w: Any, axis: Any) -> bool:
    return bool(_blocks(w.shape, axis))


@override(reference.limit_norms, "gpu", when=(contiguous_numbers("w", "out"), same_shape("w", "out"), _are_neighbours))
def limit_norms(
    k: Kernels, w: Any, axis: Any, least: float, most: float, rate: float, epsilon: float, unit: bool = False,
    out: Any = None,
) -> Any:  # fmt: skip
    out = k.empty(w.shape, w.dtype) if out is None else out
    before, count, after = _blocks(w.shape, axis)
    arguments = w, out, float(least), float(most), float(rate), float(epsilon), bool(unit), count
    if after == 1:
        launch(k, _VECTORS, "limit_rows", w.dtype, before, threads_for(count), arguments)
    else:
        grid, lanes = before * -(-after // _COLUMNS), _LANES if count <= _PART else 32
        launch(k, _VECTORS, "limit_columns", w.dtype, grid, (_COLUMNS, lanes), (*arguments, after))
    return out


def _has_means(p: Any, rows: Any, columns: Any) -> bool:
    """Whether rows and columns have means that kernels can write; a vector has none."""
    return p.ndim < 2 or all(means.dtype == p.dtype and means.flags.c_contiguous for means in (rows, columns))


@override(reference.adafactor, "gpu", when=(contiguous_numbers("p", "g", "v"), _has_means))
def adafactor(
    k: Kernels, p: Any, g: Any, rows: Any, columns: Any, v: Any, lr: Any, new: Any, epsilon_1: float, epsilon_2: float,
    threshold: float,
) -> None:  # fmt: skip
    height, width, means, count = 1, 1, None, _sums_of(p.size)
    if p.ndim > 1:
        height, width = p.shape[-2:]
        means = _factor(k, g, rows, columns, new, epsilon_1)
    else:
        rows = columns = None
    sums = k.empty((2 * count,), _DOUBLE)
    squares = (p, g, rows, columns, means, v, *number(new), float(epsilon_1), height, width, sums, p.size)
    launch(k, _VECTORS, "adafactor_squares", p.dtype, count, THREADS, squares)
    step = (p, g, v, *number(lr), float(epsilon_2), float(threshold), sums, count, p.size)
    launch(k, _VECTORS, "adafactor", p.dtype, min(each(p.size), _MOST_SUMS), THREADS, step)


def _factor(k: Kernels, g: Any, rows: Any, columns: Any, new: Any, epsilon: float) -> Any:
    """Let the means of rows and columns know the squares of a gradient; gives those of all rows of each matrix."""
    height, width = g.shape[-2:]
    matrices, parts = g.size // (height * width), -(-height // _PART)
    kind = _DOUBLE if g.dtype == _DOUBLE else _SINGLE
    sums, means = k.empty((matrices, parts, width), kind), k.empty((matrices,), kind)
    of_rows = (g, rows, *number(new), float(epsilon), width)
    launch(k, _VECTORS, "factor_rows", g.dtype, matrices * height, threads_for(width), of_rows)
    grid, of_parts = matrices * parts * -(-width // _COLUMNS), (g, sums, float(epsilon), height, width, parts, _PART)
    launch(k, _VECTORS, "factor_parts", g.dtype, grid, (_COLUMNS, _LANES), of_parts)
    grids, of_means = (matrices, 1 + min(each(width), _MOST_SUMS)), (*number(new), height, width, parts)
    launch(k, _VECTORS, "factor_means", g.dtype, grids, THREADS, (rows, columns, sums, means, *of_means))
    return means
