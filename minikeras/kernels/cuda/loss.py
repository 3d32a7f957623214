"""Losses: a row in one pass or two, by few threads or by a block; sums over everything in two steps of fixed order.

A label that names no class has a loss that is no number, and no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import FLOATS, THREADS, TYPES, Source, contiguous_numbers, each, launch, threads_for
from minikeras.kernels.cuda.rows import in_order, of_rows, one_for_each_row, rows_of
from minikeras.kernels.reference import loss as reference
from minikeras.kernels.table import Condition, Kernels, override, same_shape

_FLOAT, _DOUBLE, _WHOLE = map(np.dtype, ("float32", "float64", "int64"))

# ---- cross-entropies of logits ---------------------------------------------------------------------------------------

_CROSS_ENTROPIES = Source(
    """
__global__ void cross_entropy(const T* logits, const T* target, T* out, whole rows, whole classes) {
  whole row = own_row(rows);
  const T *x = logits + row * classes, *wanted = target + row * classes;
  A most = largest_of_row(x, classes), total = 0, weight = 0, product = 0;
  EACH_IN_BLOCK(j, classes) {
    A shifted = A(x[j]) - most, share = wanted[j];
    total += e_to(shifted);
    weight += share;
    product += shifted * share;
  }
  total = over_row<Sum>(total), weight = over_row<Sum>(weight), product = over_row<Sum>(product);
  if (threadIdx.x == 0) out[row] = log_of(total) * weight - product;
}
// from the gradient at the losses; where there are no probabilities, they are computed
__global__ void cross_entropy_grad(
    const T* g, const T* logits, const T* target, const T* probabilities, T* out, whole rows, whole classes
) {
  whole row = own_row(rows), at = row * classes;
  const T *x = logits + at, *wanted = target + at;
  A most = 0, total = 0, weight = 0, slope = g[row];
  if (!probabilities) {
    most = largest_of_row(x, classes);
    EACH_IN_BLOCK(j, classes) total += e_to(A(x[j]) - most);
    total = over_row<Sum>(total);
  }
  EACH_IN_BLOCK(j, classes) weight += wanted[j];
  weight = over_row<Sum>(weight);
  EACH_IN_BLOCK(j, classes) {
    A p = probabilities ? A(probabilities[at + j]) : e_to(A(x[j]) - most) / total;
    out[at + j] = (p * weight - A(wanted[j])) * slope;
  }
}
__global__ void binary_cross_entropy(const T* logits, const T* target, T* out, whole n) {
  EACH(i, n) {
    A x = logits[i], t = target[i];
    out[i] = larger(x, A(0)) - x * t + log1p(e_to(x < 0 ? x : -x));
  }
}
__global__ void binary_cross_entropy_grad(const T* g, const T* logits, const T* target, T* out, whole n) {
  EACH(i, n) out[i] = A(g[i]) * (logistic(logits[i]) - A(target[i]));
}
""",
    parts=("rows.cu", "activations.cu"),
)

_OF_LABELS = Source(
    """
__device__ __forceinline__ bool names_a_class(whole label, whole classes) { return label >= 0 && label < classes; }
__global__ void sparse_cross_entropy(const T* logits, const I* labels, T* out, whole rows, whole classes) {
  whole row = own_row(rows), label = labels[row];
  const T* x = logits + row * classes;
  A most = largest_of_row(x, classes), total = 0;
  EACH_IN_BLOCK(j, classes) total += e_to(A(x[j]) - most);
  total = over_row<Sum>(total);
  if (threadIdx.x == 0) out[row] = names_a_class(label, classes) ? log_of(total) - (A(x[label]) - most) : NOT_A_NUMBER;
}
__global__ void sparse_cross_entropy_grad(
    const T* g, const T* logits, const I* labels, const T* probabilities, T* out, whole rows, whole classes
) {
  whole row = own_row(rows), at = row * classes, label = labels[row];
  const T* x = logits + at;
  A most = 0, total = 0, slope = g[row];
  if (!probabilities) {
    most = largest_of_row(x, classes);
    EACH_IN_BLOCK(j, classes) total += e_to(A(x[j]) - most);
    total = over_row<Sum>(total);
  }
  bool named = names_a_class(label, classes);
  EACH_IN_BLOCK(j, classes) {
    A p = probabilities ? A(probabilities[at + j]) : e_to(A(x[j]) - most) / total;
    out[at + j] = named ? (j == label ? p - 1 : p) * slope : A(0);
  }
}
__global__ void sparse_share_cross_entropy(
    const T* output, const I* labels, T* out, double low, double high, whole rows, whole classes
) {
  whole row = own_row(rows), label = labels[row];
  const T* x = output + row * classes;
  A total = 0;
  EACH_IN_BLOCK(j, classes) total += x[j];
  total = over_row<Sum>(total);
  if (threadIdx.x == 0)
    out[row] = names_a_class(label, classes) ? -log_of(within(A(x[label]) / total, low, high)) : NOT_A_NUMBER;
}
__global__ void sparse_share_cross_entropy_grad(
    const T* g, const T* output, const I* labels, T* out, double low, double high, whole rows, whole classes
) {
  whole row = own_row(rows), label = labels[row];
  const T* x = output + row * classes;
  A total = 0;
  EACH_IN_BLOCK(j, classes) total += x[j];
  total = over_row<Sum>(total);
  bool named = names_a_class(label, classes);
  A p = named ? A(x[label]) / total : A(0), slope = slope_of_logarithm(A(1), p, low, high);
  A along = total - total == 0 ? slope * p : NOT_A_NUMBER;  // a share of what is infinite
  EACH_IN_BLOCK(j, classes)
    out[row * classes + j] = named ? ((j == label ? slope : A(0)) - along) / total * A(g[row]) : A(0);
}
""",
    parts=("rows.cu", "limits.cu"),
    types=("I",),
)


def _whole_labels(scores: str) -> Condition:
    """Whether there is a label of whole numbers for each row of scores."""
    return Condition(f'labels.dtype.kind in "iu" and labels.shape == {scores}.shape[:-1] and labels.flags.c_contiguous')


_G = one_for_each_row("g", "logits")
_LOGITS = contiguous_numbers("logits", "target"), same_shape("logits", "target")
_LOGITS_OR_SHARES = contiguous_numbers("logits", "probabilities"), same_shape("logits", "probabilities")


@override(reference.cross_entropy, "gpu", when=_LOGITS)
def cross_entropy(k: Kernels, logits: Any, target: Any, probabilities: Any = None) -> Any:
    """From the logits alone: reading probabilities would take longer than computing exponentials."""
    out, size = k.empty(logits.shape[:-1], logits.dtype), rows_of(logits.shape)
    launch(k, _CROSS_ENTROPIES, "cross_entropy", logits.dtype, *of_rows(*size), (logits, target, out, *size))
    return out


@override(reference.cross_entropy_grad, "gpu", when=(_G, *_LOGITS, *_LOGITS_OR_SHARES))
def cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    out, size = k.empty(logits.shape, logits.dtype), rows_of(logits.shape)
    arguments = in_order(k, g), logits, target, probabilities, out, *size
    launch(k, _CROSS_ENTROPIES, "cross_entropy_grad", logits.dtype, *of_rows(*size), arguments)
    return out


@override(reference.binary_cross_entropy, "gpu", when=_LOGITS)
def binary_cross_entropy(k: Kernels, logits: Any, target: Any) -> Any:
    out, n = k.empty(logits.shape, logits.dtype), logits.size
    launch(k, _CROSS_ENTROPIES, "binary_cross_entropy", logits.dtype, each(n), THREADS, (logits, target, out, n))
    return out


def _is_alike(g: Any, logits: Any) -> bool:
    return getattr(g, "shape", None) == logits.shape and g.dtype == logits.dtype


@override(reference.binary_cross_entropy_grad, "gpu", when=(_is_alike, *_LOGITS))
def binary_cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any) -> Any:
    out, n = k.empty(logits.shape, logits.dtype), logits.size
    arguments = in_order(k, g), logits, target, out, n
    launch(k, _CROSS_ENTROPIES, "binary_cross_entropy_grad", logits.dtype, each(n), THREADS, arguments)
    return out


@override(reference.sparse_cross_entropy, "gpu", when=(contiguous_numbers("logits"), _whole_labels("logits")))
def sparse_cross_entropy(k: Kernels, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """From the logits alone.  A label that names no class has a loss that is no number."""
    out, size = k.empty(labels.shape, logits.dtype), rows_of(logits.shape)
    arguments = logits, labels, out, *size
    launch(k, _OF_LABELS, "sparse_cross_entropy", logits.dtype, *of_rows(*size), arguments, I=labels.dtype)
    return out


@override(reference.sparse_cross_entropy_grad, "gpu", when=(_G, *_LOGITS_OR_SHARES, _whole_labels("logits")))
def sparse_cross_entropy_grad(k: Kernels, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """A label that names no class has no gradient."""
    out, size = k.empty(logits.shape, logits.dtype), rows_of(logits.shape)
    arguments = in_order(k, g), logits, labels, probabilities, out, *size
    launch(k, _OF_LABELS, "sparse_cross_entropy_grad", logits.dtype, *of_rows(*size), arguments, I=labels.dtype)
    return out


# ---- cross-entropies of probabilities, and likenesses of rows --------------------------------------------------------

_LIKENESSES = Source(
    """
__global__ void share_cross_entropy(
    const T* output, const T* target, T* out, double low, double high, whole rows, whole classes
) {
  whole row = own_row(rows);
  const T *x = output + row * classes, *wanted = target + row * classes;
  A total = 0, entropy = 0;
  EACH_IN_BLOCK(j, classes) total += x[j];
  total = over_row<Sum>(total);
  EACH_IN_BLOCK(j, classes) entropy -= A(wanted[j]) * log_of(within(A(x[j]) / total, low, high));
  entropy = over_row<Sum>(entropy);
  if (threadIdx.x == 0) out[row] = entropy;
}
__global__ void share_cross_entropy_grad(
    const T* g, const T* output, const T* target, T* out, double low, double high, whole rows, whole classes
) {
  whole row = own_row(rows);
  const T *x = output + row * classes, *wanted = target + row * classes;
  A total = 0, along = 0;
  EACH_IN_BLOCK(j, classes) total += x[j];
  total = over_row<Sum>(total);
  EACH_IN_BLOCK(j, classes) {
    A p = A(x[j]) / total;
    along += slope_of_logarithm(wanted[j], p, low, high) * p;
  }
  along = over_row<Sum>(along);
  EACH_IN_BLOCK(j, classes)
    out[row * classes + j] = (slope_of_logarithm(wanted[j], A(x[j]) / total, low, high) - along) / total * A(g[row]);
}
// a row's length, and how much of its change the limit lets through
__device__ A length_of_row(const T* x, whole size, double least, A& inside) {
  A squares = 0;
  EACH_IN_BLOCK(j, size) squares += A(x[j]) * A(x[j]);
  squares = over_row<Sum>(squares);
  inside = A(0.5) * (squares >= A(least)) + A(0.5) * (squares > A(least));
  return root(larger(squares, A(least)));
}
__global__ void cosine(const T* x, const T* y, T* out, double least, whole rows, whole columns) {
  whole row = own_row(rows), at = row * columns;
  A inside, length = length_of_row(x + at, columns, least, inside);
  A other = length_of_row(y + at, columns, least, inside), product = 0;
  EACH_IN_BLOCK(j, columns) product += A(x[at + j]) / length * (A(y[at + j]) / other);
  product = over_row<Sum>(product);
  if (threadIdx.x == 0) out[row] = -product;
}
__global__ void cosine_grad(const T* g, const T* x, const T* y, T* out, double least, whole rows, whole columns) {
  whole row = own_row(rows), at = row * columns;
  A inside, other = length_of_row(y + at, columns, least, inside);
  A length = length_of_row(x + at, columns, least, inside), along = 0;
  EACH_IN_BLOCK(j, columns) along += A(x[at + j]) / length * (A(y[at + j]) / other);
  along = over_row<Sum>(along) * inside;
  EACH_IN_BLOCK(j, columns)
    out[at + j] = (A(x[at + j]) / length * along - A(y[at + j]) / other) / length * A(g[row]);
}
// what a row lacks to a margin of 1, and the largest output of a wrong class
__device__ A lack_of_row(const T* target, const T* output, whole classes, A& most) {
  A right = 0;
  most = -INFINITE;
  EACH_IN_BLOCK(j, classes) {
    A t = target[j], y = output[j];
    most = larger(most, (1 - t) * y);
    right += t * y;
  }
  most = over_row<Largest>(most);
  return most - over_row<Sum>(right) + 1;
}
__global__ void largest_margin(const T* target, const T* output, T* out, whole rows, whole classes) {
  whole row = own_row(rows);
  A most, lack = lack_of_row(target + row * classes, output + row * classes, classes, most);
  if (threadIdx.x == 0) out[row] = larger(lack, A(0));
}
__global__ void largest_margin_grad(
    const T* g, const T* target, const T* output, T* out, whole of_target, whole rows, whole classes
) {
  whole row = own_row(rows), at = row * classes;
  A most, lack = lack_of_row(target + at, output + at, classes, most), count = 0;
  EACH_IN_BLOCK(j, classes) count += (1 - A(target[at + j])) * A(output[at + j]) == most;
  count = larger(over_row<Sum>(count), A(1));
  A slope = A(g[row]) * (A(0.5) * (lack >= 0) + A(0.5) * (lack > 0));
  EACH_IN_BLOCK(j, classes) {
    A t = target[at + j], y = output[at + j], largest = A((1 - t) * y == most) / count;
    out[at + j] = (of_target ? -y * (largest + 1) : (1 - t) * largest - t) * slope;
  }
}
""",
    parts=("rows.cu", "limits.cu"),
)

_SHARES = contiguous_numbers("output", "target"), same_shape("output", "target")
_NAMED = contiguous_numbers("output"), _whole_labels("output")
_ALIKE = contiguous_numbers("x", "y"), same_shape("x", "y")


@override(reference.share_cross_entropy, "gpu", when=_SHARES)
def share_cross_entropy(k: Kernels, output: Any, target: Any, epsilon: float) -> Any:
    out, size = k.empty(output.shape[:-1], output.dtype), rows_of(output.shape)
    arguments = output, target, out, epsilon, 1 - epsilon, *size
    launch(k, _LIKENESSES, "share_cross_entropy", output.dtype, *of_rows(*size), arguments)
    return out


@override(reference.share_cross_entropy_grad, "gpu", when=(one_for_each_row("g", "output"), *_SHARES))
def share_cross_entropy_grad(k: Kernels, g: Any, output: Any, target: Any, epsilon: float) -> Any:
    out, size = k.empty(output.shape, output.dtype), rows_of(output.shape)
    arguments = in_order(k, g), output, target, out, epsilon, 1 - epsilon, *size
    launch(k, _LIKENESSES, "share_cross_entropy_grad", output.dtype, *of_rows(*size), arguments)
    return out


@override(reference.sparse_share_cross_entropy, "gpu", when=_NAMED)
def sparse_share_cross_entropy(k: Kernels, output: Any, labels: Any, epsilon: float) -> Any:
    """A label that names no class has a loss that is no number."""
    out, size = k.empty(labels.shape, output.dtype), rows_of(output.shape)
    arguments = output, labels, out, epsilon, 1 - epsilon, *size
    launch(k, _OF_LABELS, "sparse_share_cross_entropy", output.dtype, *of_rows(*size), arguments, I=labels.dtype)
    return out


@override(reference.sparse_share_cross_entropy_grad, "gpu", when=(one_for_each_row("g", "output"), *_NAMED))
def sparse_share_cross_entropy_grad(k: Kernels, g: Any, output: Any, labels: Any, epsilon: float) -> Any:
    """A label that names no class has no gradient."""
    out, size = k.empty(output.shape, output.dtype), rows_of(output.shape)
    arguments = in_order(k, g), output, labels, out, epsilon, 1 - epsilon, *size
    launch(k, _OF_LABELS, "sparse_share_cross_entropy_grad", output.dtype, *of_rows(*size), arguments, I=labels.dtype)
    return out


@override(reference.cosine, "gpu", when=_ALIKE)
def cosine(k: Kernels, x: Any, y: Any, epsilon: float) -> Any:
    out, size = k.empty(x.shape[:-1], x.dtype), rows_of(x.shape)
    launch(k, _LIKENESSES, "cosine", x.dtype, *of_rows(*size), (x, y, out, epsilon**2, *size))
    return out


@override(reference.cosine_grad, "gpu", when=(one_for_each_row("g", "x"), *_ALIKE))
def cosine_grad(k: Kernels, g: Any, x: Any, y: Any, epsilon: float) -> Any:
    out, size = k.empty(x.shape, x.dtype), rows_of(x.shape)
    launch(k, _LIKENESSES, "cosine_grad", x.dtype, *of_rows(*size), (in_order(k, g), x, y, out, epsilon**2, *size))
    return out


@override(reference.largest_margin, "gpu", when=_SHARES)
def largest_margin(k: Kernels, target: Any, output: Any) -> Any:
    out, size = k.empty(output.shape[:-1], output.dtype), rows_of(output.shape)
    launch(k, _LIKENESSES, "largest_margin", output.dtype, *of_rows(*size), (target, output, out, *size))
    return out


@override(reference.largest_margin_grad, "gpu", when=(one_for_each_row("g", "output"), *_SHARES))
def largest_margin_grad(k: Kernels, g: Any, target: Any, output: Any, of_target: bool = False) -> Any:
    out, size = k.empty(output.shape, output.dtype), rows_of(output.shape)
    arguments = in_order(k, g), target, output, out, of_target, *size
    launch(k, _LIKENESSES, "largest_margin_grad", output.dtype, *of_rows(*size), arguments)
    return out


# ---- errors of single elements ---------------------------------------------------------------------------------------

# kinds by their numbers in the source below
ERRORS = {
    "squared": 1, "absolute": 2, "percentage": 3, "squared_logarithmic": 4, "huber": 5, "log_cosh": 6, "hinge": 7,
    "squared_hinge": 8, "poisson": 9, "binary": 10, "binary_logits": 11, "kl_divergence": 12,
}  # fmt: skip
_HINGES = frozenset({"hinge", "squared_hinge"})  # whose targets of 0 and 1 stand for -1 and 1

_ERRORS = Source(
    """
__device__ __forceinline__ A size_of(A x) { return x < 0 ? -x : x; }
__device__ __forceinline__ A sign_of(A x) { return x > 0 ? A(1) : x < 0 ? A(-1) : x; }
// the targets that are neither 0 nor 1, by warps
__global__ void count_others(const T* target, whole* others, whole n) {
  whole found = 0;
  EACH(i, n) found += !(A(target[i]) == 0 || A(target[i]) == 1);
  note_count(found, others);
}
__global__ void signs(const T* target, const whole* others, whole warps, T* out, whole n) {
  bool binary = counted(others, warps) == 0;
  EACH(i, n) out[i] = binary ? 2 * A(target[i]) - 1 : A(target[i]);
}
// An error, or its slope by the output or by the target; `rate`: how fast the signs change with the targets, or 0.
__device__ A error(int kind, A t, A y, double setting) {
  A d = y - t, e = setting;
  switch (kind) {
    case 1: return d * d;
    case 2: return size_of(d);
    case 3: return 100 * size_of(d / larger(size_of(t), e));
    case 4: d = log_of(larger(y, e) + 1) - log_of(larger(t, e) + 1); return d * d;
    case 5: return size_of(d) <= e ? A(0.5) * d * d : e * size_of(d) - A(0.5 * setting * setting);
    case 6: return size_of(d) + log1p(e_to(-2 * size_of(d))) - A(0.69314718055994531);
    case 7: return larger(1 - t * y, A(0));
    case 8: d = larger(1 - t * y, A(0)); return d * d;
    case 9: return y - t * log_of(y + e);
    case 10: {
      A p = within(y, setting, 1 - setting);
      return -(t * log_of(p) + (1 - t) * log_of(1 - p));
    }
    case 11: return larger(y, A(0)) - y * t + log1p(e_to(-size_of(y)));
    case 12: t = within(t, setting, 1); return t * log_of(t / within(y, setting, 1));
  }
  return d;
}
__device__ A slope_by_output(int kind, A t, A y, double setting) {
  A d = y - t, e = setting;
  switch (kind) {
    case 1: return 2 * d;
    case 2: return sign_of(d);
    case 3: return 100 * sign_of(d / larger(size_of(t), e)) / larger(size_of(t), e);
    case 4: {
      A pred = larger(y, e) + 1;
      return 2 * (log_of(pred) - log_of(larger(t, e) + 1)) / pred * A(y > e);
    }
    case 5: return within(d, -setting, setting);
    case 6: return tanh(d);
    case 7: return -t * A(1 - t * y > 0);
    case 8: return -2 * t * larger(1 - t * y, A(0));
    case 9: return 1 - t / (y + e);
    case 10: {
      A low = setting, high = 1 - setting, p = within(y, setting, 1 - setting);
      return (p - t) / (p * (1 - p)) * A(y >= low && y <= high);
    }
    case 11: return logistic(y) - t;
    case 12: return -within(t, setting, 1) / within(y, setting, 1) * passing(y, setting, 1);
  }
  return d;
}
__device__ A slope_by_target(int kind, A t, A y, double setting, A rate) {
  A d = y - t, e = setting;
  switch (kind) {
    case 1: return -2 * d;
    case 2: return -sign_of(d);
    case 3: {
      A size = larger(size_of(t), e);
      return -100 * (sign_of(d / size) + size_of(d / size) * sign_of(t) * A(size_of(t) > e)) / size;
    }
    case 4: {
      A kept = larger(t, e) + 1;
      return -2 * (log_of(larger(y, e) + 1) - log_of(kept)) / kept * A(t > e);
    }
    case 5: return -within(d, -setting, setting);
    case 6: return -tanh(d);
    case 7: return -rate * y * A(1 - t * y > 0);
    case 8: return -2 * rate * y * larger(1 - t * y, A(0));
    case 9: return -log_of(y + e);
    case 10: {
      A p = within(y, setting, 1 - setting);
      return log_of(1 - p) - log_of(p);
    }
    case 11: return -y;
    case 12: return (log_of(within(t, setting, 1) / within(y, setting, 1)) + 1) * passing(t, setting, 1);
  }
  return d;
}
__global__ void mean_error(
    const T* target, const T* output, const whole* others, whole warps, T* out, whole kind, double setting,
    double share, whole rows, whole columns
) {
  whole row = own_row(rows), at = row * columns;
  bool binary = others && counted(others, warps) == 0;
  A total = 0;
  EACH_IN_BLOCK(j, columns) {
    A t = target[at + j];
    total += error(kind, binary ? 2 * t - 1 : t, output[at + j], setting);
  }
  total = over_row<Sum>(total);
  if (threadIdx.x == 0) out[row] = total * A(share);
}
__global__ void mean_error_grad(
    const T* g, const T* target, const T* output, const whole* others, whole warps, T* out, whole kind, double setting,
    double share, whole of_target, whole rows, whole columns
) {
  whole row = own_row(rows), at = row * columns;
  bool binary = others && counted(others, warps) == 0;
  A slope = A(g[row]) * A(share), rate = binary ? 2 : 1;
  EACH_IN_BLOCK(j, columns) {
    A t = target[at + j], y = output[at + j];
    t = binary ? 2 * t - 1 : t;
    A own = of_target ? slope_by_target(kind, t, y, setting, rate) : slope_by_output(kind, t, y, setting);
    out[at + j] = own * slope;
  }
}
""",
    parts=("rows.cu", "limits.cu", "activations.cu", "counts.cu"),
)
_MOST_BLOCKS = 128  # that count, each of 8 warps, whose numbers every warp of the kernel that follows adds up


def _counts(k: Kernels, n: int) -> tuple[int, Any]:
    """Blocks that count among so many values, and a place for the number of each warp."""
    blocks = min(each(n), _MOST_BLOCKS)
    return blocks, k.empty((blocks * THREADS // 32,), _WHOLE)


def _others(k: Kernels, target: Any) -> tuple[Any, int]:
    """How many targets are neither 0 nor 1, by warps, and how many warps these are."""
    blocks, others = _counts(k, target.size)
    launch(k, _ERRORS, "count_others", target.dtype, blocks, THREADS, (target, others, target.size))
    return others, others.size


@override(reference.signs, "gpu", when=contiguous_numbers("target"))
def signs(k: Kernels, target: Any) -> Any:
    out, n = k.empty(target.shape, target.dtype), target.size
    launch(k, _ERRORS, "signs", target.dtype, each(n), THREADS, (target, *_others(k, target), out, n))
    return out


def _share(kind: str, columns: int) -> float:
    return 1.0 if kind in reference.SUMMED else 1 / columns


_KNOWN = Condition(f"kind in {tuple(ERRORS)!r}")


@override(reference.mean_error, "gpu", when=(_KNOWN, *_SHARES))
def mean_error(k: Kernels, target: Any, output: Any, kind: str, setting: float = 0.0) -> Any:
    out, size = k.empty(output.shape[:-1], output.dtype), rows_of(output.shape)
    others = _others(k, target) if kind in _HINGES else (None, 0)
    arguments = target, output, *others, out, ERRORS[kind], float(setting), _share(kind, size[1]), *size
    launch(k, _ERRORS, "mean_error", output.dtype, *of_rows(*size), arguments)
    return out


@override(reference.mean_error_grad, "gpu", when=(_KNOWN, one_for_each_row("g", "output"), *_SHARES))
def mean_error_grad(
    k: Kernels, g: Any, target: Any, output: Any, kind: str, setting: float = 0.0, of_target: bool = False
) -> Any:
    out, size = k.empty(output.shape, output.dtype), rows_of(output.shape)
    others = _others(k, target) if kind in _HINGES else (None, 0)
    arguments = (
        in_order(k, g), target, output, *others, out, ERRORS[kind], float(setting), _share(kind, size[1]), of_target,
        *size,
    )  # fmt: skip
    launch(k, _ERRORS, "mean_error_grad", output.dtype, *of_rows(*size), arguments)
    return out


# ---- weights, and the sum of all values ------------------------------------------------------------------------------

_TOTALS = Source(
    """
// of each block: the sum of the values that are its own, each times its weight, and the sum of its weights
__global__ void add_up_parts(const T* values, const W* weights, whole each, whole n, double* sums) {
  double total, weight;
  add_up(values, weights, each, n, (const double*)0, 0, total, weight);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = total;
    sums[2 * blockIdx.x + 1] = weight;
  }
}
// by one block; where there is a `scale`, it becomes the factor
__global__ void weighted_total(
    const T* values, const W* weights, whole each, whole n, const double* sums, whole parts, double factor, T* scale,
    T* out
) {
  double total, weight;
  add_up(values, weights, each, n, sums, parts, total, weight);
  if (threadIdx.x == 0) {
    if (scale) {
      factor = weight == 0 ? 0 : 1 / (weight * each);
      *scale = A(factor);
    }
    *out = A(total * factor);
  }
}
""",
    parts=("totals.cu",),
    types=("W",),
)
_SLOPES = Source(
    """
__global__ void weighted_total_grad(
    const G* g, const W* weights, whole each, double factor, const F* scale, T* out, whole n
) {
  A slope = A(*g) * (scale ? A(*scale) : A(factor));
  EACH(i, n) out[i] = weights ? slope * A(weights[each == 1 ? i : i / each]) : slope;
}
""",
    types=("W", "G", "F"),
)
_MASKS = Source(
    """
// the numbers of a mask that are not 0, by warps
__global__ void count_mask(const I* mask, whole* counts, whole n) {
  whole found = 0;
  EACH(i, n) found += mask[i] != I(0);
  note_count(found, counts);
}
// where there are counts, such that the mean is taken over what the mask lets through
__global__ void weights_of_mask(
    const I* mask, const T* weights, whole each, const whole* counts, whole warps, T* out, whole n
) {
  A scale = 1;
  if (counts) {
    whole found = counted(counts, warps);
    scale = double(n) / double(found ? found : 1);
  }
  EACH(i, n) {
    A weight = mask[i] != I(0) ? scale : A(0);
    out[i] = weights ? weight * A(weights[each == 1 ? i : i / each]) : weight;
  }
}
// `refused`, 0 before, becomes the number of labels that are no whole ones in [least, classes)
__global__ void class_numbers(
    const I* labels, whole* out, unsigned long long* refused, whole least, whole classes, whole n
) {
  whole found = 0;
  EACH(i, n) {
    whole number = labels[i];  // where that is another number, or none, the last comparison says so
    bool known = number >= least && number < classes && double(number) == double(labels[i]);
    out[i] = known ? number : least;
    found += !known;
  }
  found = over_warp<Sum>(found);
  if (threadIdx.x % 32 == 0 && found) atomicAdd(refused, (unsigned long long)found);
}
""",
    parts=("counts.cu",),
    types=("I",),
)
_SHORT = 8192  # so many values are added up by one block
_EACH = 4096  # values for a block, where several add up
_MOST_PARTS = 1024


def weighs(values: Any, weights: Any) -> bool:
    """Whether there are no weights, or one for each of the values or of the rows that these begin with."""
    if weights is None or (weights.shape == values.shape and weights.flags.c_contiguous):
        return True
    if weights.ndim != values.ndim or not weights.flags.c_contiguous:
        return False
    shape = weights.shape
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return values.shape[: len(shape)] == shape


def each_of(values: Any, weights: Any) -> int:
    """The values that have one weight."""
    return 1 if weights is None else values.size // weights.size


def type_of(array: Any, usual: Any) -> Any:
    """The type of an array, or of none the usual one."""
    return usual.dtype if array is None else array.dtype


def parts_of(k: Kernels, values: Any, weights: Any) -> tuple[int, tuple[Any, ...]]:
    """For the block that adds up: its threads, and its arguments, which say where others have begun with it."""
    n = values.size
    given = values, weights, each_of(values, weights), n
    if n <= _SHORT:
        return threads_for(-(-n // 4), 1024), (*given, None, 0)
    parts = min(-(-n // _EACH), _MOST_PARTS)
    sums = k.empty((2 * parts,), _DOUBLE)
    launch(k, _TOTALS, "add_up_parts", values.dtype, parts, THREADS, (*given, sums), W=type_of(weights, values))
    return THREADS, (*given, sums, parts)


def _is_fixed(factor: Any) -> bool:
    return factor is None or isinstance(factor, (int, float))


@override(reference.weighted_total, "gpu", when=(contiguous_numbers("values", "weights"), weighs, _is_fixed))
def weighted_total(k: Kernels, values: Any, weights: Any = None, factor: float | None = None) -> tuple[Any, Any]:
    out, kind = k.empty((), values.dtype), type_of(weights, values)
    scale = k.empty((), values.dtype) if factor is None else None
    threads, given = parts_of(k, values, weights)
    arguments = *given, float(factor or 0), scale, out
    launch(k, _TOTALS, "weighted_total", values.dtype, 1, threads, arguments, W=kind)
    return out, factor if scale is None else scale


def _are_numbers(g: Any, values: Any, weights: Any, factor: Any) -> bool:
    arrays = [one for one in (g, values, weights, factor) if not isinstance(one, (int, float, type(None)))]
    return all([one.dtype.char in FLOATS for one in arrays]) and values.size > 0 and g.size == 1


@override(reference.weighted_total_grad, "gpu", when=(_are_numbers, weighs))
def weighted_total_grad(k: Kernels, g: Any, values: Any, weights: Any, factor: Any) -> Any:
    out, n = k.empty(values.shape, values.dtype), values.size
    fixed, scale = (float(factor), None) if isinstance(factor, (int, float)) else (0.0, factor)
    arguments = g, weights, each_of(values, weights), fixed, scale, out, n
    types = {"W": type_of(weights, values), "G": g.dtype, "F": type_of(scale, values)}
    launch(k, _SLOPES, "weighted_total_grad", values.dtype, each(n), THREADS, arguments, **types)
    return out


def _has_rows(mask: Any, weights: Any, dtype: Any) -> bool:
    """Whether there is one weight for each of a mask's numbers, or for each of the rows it begins with."""
    if mask.dtype.char not in TYPES or not mask.size or not mask.flags.c_contiguous:
        return False
    if weights is None:
        return True
    fits = weights.ndim <= mask.ndim and weights.dtype == dtype
    return fits and weighs(mask, reference.fitted(weights, mask.shape))


@override(reference.weights_of_mask, "gpu", when=_has_rows)
def weights_of_mask(k: Kernels, mask: Any, weights: Any, dtype: Any, mean: bool) -> Any:
    n, dtype = mask.size, np.dtype(dtype)
    out, counts = k.empty(mask.shape, dtype), None
    if mean:
        blocks, counts = _counts(k, n)
        launch(k, _MASKS, "count_mask", dtype, blocks, THREADS, (mask, counts, n), I=mask.dtype)
    arguments = mask, weights, each_of(mask, weights), counts, 0 if counts is None else counts.size, out, n
    launch(k, _MASKS, "weights_of_mask", dtype, each(n), THREADS, arguments, I=mask.dtype)
    return out


def _are_labels(labels: Any) -> bool:
    return labels.dtype.char in TYPES and labels.size > 0 and labels.flags.c_contiguous


@override(reference.class_numbers, "gpu", when=_are_labels)
def class_numbers(k: Kernels, labels: Any, classes: int, least: int = 0) -> tuple[Any, Any]:
    out, refused, n = k.empty(labels.shape, _WHOLE), k.empty((), _WHOLE), labels.size
    refused.fill(0)
    arguments = labels, out, refused, least, classes, n
    launch(k, _MASKS, "class_numbers", _FLOAT, each(n), THREADS, arguments, I=labels.dtype)
    return out, refused
