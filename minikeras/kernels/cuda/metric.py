"""Metrics: where predictions are right, in one pass over them, and sums that are added to where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import FLOATS, THREADS, TYPES, Source, contiguous_numbers, each, launch
from minikeras.kernels.cuda.loss import each_of, parts_of, type_of, weighs
from minikeras.kernels.cuda.rows import of_rows, rows_of
from minikeras.kernels.reference import metric as reference
from minikeras.kernels.table import Kernels, override, same_shape

_FLOAT, _DOUBLE, _WHOLE = map(np.dtype, ("float32", "float64", "int64"))

# ---- where predictions are right -------------------------------------------------------------------------------------

_PLACES = Source(
    """
struct First {
  template <class V> __device__ __forceinline__ static V both(V a, V b) { return a < b ? a : b; }
  template <class V> __device__ __forceinline__ static V none() { return V(0x7fffffffffffffffll); }
};
// of a row: the first of the largest numbers; NaN counts as larger than all
__device__ whole place_of_largest(const T* x, whole classes) {
  A best = x[0];
  whole place = 0;
  EACH_IN_BLOCK(j, classes) {
    A value = x[j];
    if (value > best || (value != value && best == best)) {
      best = value;
      place = j;
    }
  }
  A most = over_row<Largest>(best);
  return over_row<First>(best == most || (best != best && most != most) ? place : classes);
}
__global__ void places_of_largest(const T* x, whole* out, whole rows, whole classes) {
  whole row = own_row(rows), place = place_of_largest(x + row * classes, classes);
  if (threadIdx.x == 0) out[row] = place;
}
__global__ void largest_matches(const T* target, const T* output, float* out, whole rows, whole classes) {
  whole row = own_row(rows), place = place_of_largest(output + row * classes, classes);
  whole right = place_of_largest(target + row * classes, classes);
  if (threadIdx.x == 0) out[row] = place == right;
}
__global__ void label_matches(const I* labels, const T* output, float* out, whole rows, whole classes) {
  whole row = own_row(rows), place = place_of_largest(output + row * classes, classes);
  if (threadIdx.x == 0) out[row] = double(place) == double(labels[row]);
}
__global__ void rank_matches(const I* labels, const T* output, float* out, whole count, whole rows, whole classes) {
  whole row = own_row(rows), above = 0;
  const T* x = output + row * classes;
  double label = labels[row];
  bool known = label >= 0 && label < classes;
  A chosen = known ? A(x[(whole)label]) : A(0);
  EACH_IN_BLOCK(j, classes) above += A(x[j]) > chosen;
  above = over_row<Sum>(above);
  if (threadIdx.x == 0) out[row] = known && above < count && chosen - chosen == 0;
}
""",
    parts=("rows.cu",),
    types=("I",),
)
_MATCHES = Source(
    """
template <class V> __device__ __forceinline__ bool are_equal(V a, V b) { return a == b; }
template <class V, class U> __device__ __forceinline__ bool are_equal(V a, U b) { return double(a) == double(b); }
__global__ void equal_matches(const I* target, const J* output, float* out, whole n) {
  EACH(i, n) out[i] = are_equal(target[i], output[i]);
}
__global__ void threshold_matches(const I* target, const J* output, float* out, double threshold, whole n) {
  J limit = threshold;  // as the output's type has it
  EACH(i, n) out[i] = double(double(output[i]) > double(limit)) == double(target[i]);
}
""",
    types=("I", "J"),
)


def _are_numbers(x: Any) -> bool:
    return x.dtype.char in TYPES and x.flags.c_contiguous


def _are_labels(labels: Any, output: Any) -> bool:
    return labels.shape == output.shape[:-1] and _are_numbers(labels)


_BOTH = contiguous_numbers("output", "target"), same_shape("output", "target")


@override(reference.places_of_largest, "gpu", when=contiguous_numbers("x"))
def places_of_largest(k: Kernels, x: Any) -> Any:
    out, size = k.empty(x.shape[:-1], _WHOLE), rows_of(x.shape)
    launch(k, _PLACES, "places_of_largest", x.dtype, *of_rows(*size), (x, out, *size), I=_WHOLE)
    return out


@override(reference.largest_matches, "gpu", when=_BOTH)
def largest_matches(k: Kernels, target: Any, output: Any) -> Any:
    out, size = k.empty(output.shape[:-1], _FLOAT), rows_of(output.shape)
    launch(k, _PLACES, "largest_matches", output.dtype, *of_rows(*size), (target, output, out, *size), I=_WHOLE)
    return out


@override(reference.label_matches, "gpu", when=(contiguous_numbers("output"), _are_labels))
def label_matches(k: Kernels, labels: Any, output: Any) -> Any:
    out, size = k.empty(labels.shape, _FLOAT), rows_of(output.shape)
    launch(k, _PLACES, "label_matches", output.dtype, *of_rows(*size), (labels, output, out, *size), I=labels.dtype)
    return out


@override(reference.rank_matches, "gpu", when=(contiguous_numbers("output"), _are_labels))
def rank_matches(k: Kernels, labels: Any, output: Any, count: int) -> Any:
    out, size = k.empty(labels.shape, _FLOAT), rows_of(output.shape)
    arguments = labels, output, out, count, *size
    launch(k, _PLACES, "rank_matches", output.dtype, *of_rows(*size), arguments, I=labels.dtype)
    return out


def _are_comparable(target: Any, output: Any) -> bool:
    """Whether numbers of one shape are of one type, or of types that float64 holds."""
    if target.shape != output.shape or not output.size or not (_are_numbers(target) and _are_numbers(output)):
        return False
    return target.dtype == output.dtype or not any([one.dtype.char in "lLqQ" for one in (target, output)])


@override(reference.equal_matches, "gpu", when=_are_comparable)
def equal_matches(k: Kernels, target: Any, output: Any) -> Any:
    out, n = k.empty(output.shape, _FLOAT), output.size
    arguments = target, output, out, n
    launch(k, _MATCHES, "equal_matches", _FLOAT, each(n), THREADS, arguments, I=target.dtype, J=output.dtype)
    return out


def _target_has_numbers(target: Any) -> bool:
    return _are_numbers(target)


@override(
    reference.threshold_matches,
    "gpu",
    when=(contiguous_numbers("output"), same_shape("output", "target"), _target_has_numbers),
)
def threshold_matches(k: Kernels, target: Any, output: Any, threshold: float) -> Any:
    out, n = k.empty(output.shape, _FLOAT), output.size
    arguments = target, output, out, float(threshold), n
    launch(k, _MATCHES, "threshold_matches", _FLOAT, each(n), THREADS, arguments, I=target.dtype, J=output.dtype)
    return out


# ---- sums ------------------------------------------------------------------------------------------------------------

_SUMS = Source(
    """
// by one block; `samples` is counted where there are no weights
__global__ void add_to_mean(
    const T* values, const W* weights, whole each, whole n, const double* sums, whole parts, double scale,
    double samples, S* total, S* count
) {
  double added, weight;
  add_up(values, weights, each, n, sums, parts, added, weight);
  if (threadIdx.x == 0) {
    *total = double(*total) + added * scale;
    if (count) *count = double(*count) + (weights ? weight * each * scale : samples);
  }
}
__global__ void ratio(const T* a, const T* b, T* out, whole n) {
  EACH(i, n) out[i] = A(b[i]) == 0 ? A(a[i]) * 0 : A(a[i]) / A(b[i]);
}
""",
    parts=("totals.cu",),
    types=("W", "S"),
)


def _is_sum(x: Any) -> bool:
    return getattr(x, "size", 0) == 1 and x.dtype.char in "fd"


def _are_sums(total: Any, count: Any, values: Any, weights: Any) -> bool:
    if not (values.dtype.char in FLOATS and values.size and values.flags.c_contiguous and _is_sum(total)):
        return False
    return (count is None or (_is_sum(count) and count.dtype == total.dtype)) and (
        weights is None or weights.dtype.char in FLOATS
    )


@override(reference.add_to_mean, "gpu", when=(_are_sums, weighs))
def add_to_mean(
    k: Kernels, total: Any, count: Any, values: Any, weights: Any = None, scale: float = 1.0, samples: float = 1.0
) -> None:
    threads, given = parts_of(k, values, weights)
    arguments = *given, float(scale), float(samples), total, count
    types = {"W": type_of(weights, values), "S": total.dtype}
    launch(k, _SUMS, "add_to_mean", values.dtype, 1, threads, arguments, **types)


def _are_ratios(a: Any, b: Any) -> bool:
    if not (hasattr(a, "dtype") and hasattr(b, "dtype")) or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.dtype.char in FLOATS and a.size > 0 and a.flags.c_contiguous and b.flags.c_contiguous


@override(reference.ratio, "gpu", when=_are_ratios)
def ratio(k: Kernels, a: Any, b: Any) -> Any:
    out = k.empty(a.shape, a.dtype)
    launch(k, _SUMS, "ratio", a.dtype, each(a.size), THREADS, (a, b, out, a.size), W=a.dtype, S=_DOUBLE)
    return out


# ---- confusion -------------------------------------------------------------------------------------------------------

_CONFUSION = Source(
    """
// the weights of the true and the false among those above a threshold, and of all
struct Found {
  double yes, no, all_yes, all_no;
};
// to the counts, where they are not null
__device__ __forceinline__ void add_counts(whole at, Found found, S* tp, S* fp, S* tn, S* fn) {
  if (tp) tp[at] = double(tp[at]) + found.yes;
  if (fp) fp[at] = double(fp[at]) + found.no;
  if (tn) tn[at] = double(tn[at]) + (found.all_no - found.no);
  if (fn) fn[at] = double(fn[at]) + (found.all_yes - found.yes);
}
// A warp has a threshold, of a label (or of all that counts), and a tile of the scores, which are those at `first`,
// `first + step`, and so on.  Where there are several tiles, what they find goes to `parts`.
__global__ void add_confusion(
    const I* truth, const T* scores, const T* weights, whole each, const T* label_weights, whole columns,
    const T* bounds, double threshold, whole thresholds, whole first, whole step, whole count, whole tile,
    Found* parts, S* tp, S* fp, S* tn, S* fn
) {
  whole number = blockIdx.y * (whole)blockDim.y + threadIdx.y, label = blockIdx.z, at = number * gridDim.z + label;
  if (number >= thresholds) return;
  T limit = A(threshold);  // as the scores' type has it
  A bound = bounds ? bounds[number] : limit;
  Found found = {0, 0, 0, 0};
  whole begin = blockIdx.x * tile, end = begin + tile < count ? begin + tile : count;
  for (whole s = begin + threadIdx.x; s < end; s += 32) {
    whole i = first + label + s * step;
    double weight = weights ? double(weights[each == 1 ? i : i / each]) : 1.0;
    if (label_weights) weight *= double(label_weights[i % columns]);
    bool right = truth[i] != I(0), above = A(scores[i]) > bound;
    found.all_yes += weight * right;
    found.all_no += weight * !right;
    found.yes += weight * (right && above);
    found.no += weight * (!right && above);
  }
  found.yes = over_warp<Sum>(found.yes), found.all_yes = over_warp<Sum>(found.all_yes);
  found.no = over_warp<Sum>(found.no), found.all_no = over_warp<Sum>(found.all_no);
  if (threadIdx.x == 0 && parts) parts[blockIdx.x * thresholds * gridDim.z + at] = found;
  else if (threadIdx.x == 0) add_counts(at, found, tp, fp, tn, fn);
}
__global__ void join_confusion(const Found* parts, whole tiles, S* tp, S* fp, S* tn, S* fn, whole n) {
  EACH(i, n) {
    Found found = {0, 0, 0, 0};
    for (whole tile = 0; tile < tiles; ++tile) {
      Found part = parts[tile * n + i];
      found.yes += part.yes, found.no += part.no, found.all_yes += part.all_yes, found.all_no += part.all_no;
    }
    add_counts(i, found, tp, fp, tn, fn);
  }
}
""",
    types=("I", "S"),
)
_TILE = 4096  # scores that a warp looks at, at least where several share them
_BLOCKS = 4096  # about so many are enough
_TOGETHER = 8  # thresholds of a block
_MOST = 65535  # of the second and third number of a grid


def _are_counted(
    counts: Any, truth: Any, scores: Any, label_weights: Any, thresholds: Any, class_id: Any, by_label: Any
) -> bool:
    if not (scores.ndim and scores.size and truth.shape == scores.shape and _are_numbers(truth) and thresholds):
        return False
    if class_id is not None and (by_label or label_weights is not None or class_id < 0):
        return False
    labels = scores.shape[-1] if by_label else 1
    shape = (len(thresholds), labels) if by_label else (len(thresholds),)
    given = [one for one in counts if one is not None]
    kinds = {one.dtype.char for one in given}
    fit = all([one.shape == shape and one.flags.c_contiguous for one in given])
    return fit and max(labels, len(thresholds) // _TOGETHER) < _MOST and (kinds == {"f"} or kinds == {"d"})


def _weigh_scores(scores: Any, weights: Any, label_weights: Any, class_id: int | None) -> bool:
    if not (weighs(scores, weights) and (label_weights is None or label_weights.shape == scores.shape[-1:])):
        return False
    return class_id is None or weights is None or each_of(scores, weights) % scores.shape[-1] == 0


@override(
    reference.add_confusion,
    "gpu",
    when=(contiguous_numbers("scores", "weights", "label_weights"), _are_counted, _weigh_scores),
)
def add_confusion(
    k: Kernels, counts: tuple, truth: Any, scores: Any, weights: Any, label_weights: Any, thresholds: tuple[float, ...],
    class_id: int | None = None, by_label: bool = False,
) -> None:  # fmt: skip
    """A score that is NaN is above no threshold."""
    columns, several = scores.shape[-1], len(thresholds) > 1
    labels, step = (columns, columns) if by_label else (1, 1 if class_id is None else columns)
    count = scores.size // step
    together = min(len(thresholds), _TOGETHER)
    blocks = -(-len(thresholds) // together)
    tile = max(_TILE, -(-count // max(_BLOCKS // (blocks * labels), 1)))
    tiles = -(-count // tile)
    bounds = reference._bounds(thresholds, scores.dtype, k.xp) if several else None
    parts = k.empty((4 * tiles * len(thresholds) * labels,), _DOUBLE) if tiles > 1 else None
    grid, types = (tiles, blocks, labels), {"I": truth.dtype, "S": _type_of_counts(counts)}
    arguments = (
        truth, scores, weights, each_of(scores, weights), label_weights, columns, bounds, float(thresholds[0]),
        len(thresholds), class_id or 0, step, count, tile, parts, *counts,
    )  # fmt: skip
    launch(k, _CONFUSION, "add_confusion", scores.dtype, grid, (32, together), arguments, **types)
    if parts is not None:
        n = len(thresholds) * labels
        launch(k, _CONFUSION, "join_confusion", scores.dtype, each(n), THREADS, (parts, tiles, *counts, n), **types)


def _type_of_counts(counts: tuple) -> Any:
    return next(one.dtype for one in counts if one is not None)
