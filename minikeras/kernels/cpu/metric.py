"""Metrics on the CPU: one pass over predictions, and sums that are added to where they lie."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.cast import SOURCES, class_at, is_float32, number_at, source_of
from minikeras.kernels.cpu.compiler import (
    Doubles,
    Floats,
    Numbers,
    doubles,
    floats,
    inner,
    part,
    parts_for,
    share,
)
from minikeras.kernels.cpu.loss import cut, rows_of, sums_of, weighs
from minikeras.kernels.reference import metric as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override, same_shape

_ZERO, _ONE = np.float32(0), np.float32(1)
_FLOAT, _NUMBER = np.dtype(np.float32), np.dtype(np.int64)


@part
def _add_to_mean(
    part, rows, each, values, weights, slices, sums: Doubles, total: Doubles, count, scale: float, samples: float
):
    added, weight = sums_of(rows, each, values, weights, slices, sums)
    total[0] += added * scale
    if count:
        doubles(count)[0] += weight * np.float64(each) * scale if weights else samples


def _are_sums(total: Any, count: Any, values: Any) -> bool:
    return is_float32(values) and values.size > 0 and _is_sum(total) and (count is None or _is_sum(count))


def _is_sum(total: Any) -> bool:
    return isinstance(total, np.ndarray) and total.dtype.char == "d" and total.size == 1


@override(reference.add_to_mean, "cpu", when=(_are_sums, weighs))
def add_to_mean(
    k: Kernels, total: Any, count: Any, values: Any, weights: Any = None, scale: float = 1.0, samples: float = 1.0
) -> None:
    rows, each, slices, sums = cut(values, weights)
    _add_to_mean.run(
        1, rows=rows, each=each, values=values, weights=weights, slices=slices, sums=sums, total=total, count=count,
        scale=float(scale), samples=float(samples),
    )  # fmt: skip


@inner
def place_of_largest(x, size):
    """Of a row: the first of the largest numbers; NaN counts as larger than all."""
    best, place = x[0], 0
    for j in range(1, size):
        if x[j] > best or (x[j] != x[j] and best == best):
            best, place = x[j], j
    return place


@part
def _threshold_matches(part, parts, size, source, target, output: Floats, out: Floats, threshold: np.float32):
    first, last = share(part, parts, size)
    for i in range(first, last):
        above = 1.0 if output[i] > threshold else 0.0
        out[i] = _ONE if above == number_at(target, source, i) else _ZERO


def _has_numbers(target: Any) -> bool:
    return source_of(target) is not None


@override(
    reference.threshold_matches,
    "cpu",
    when=(contiguous_float32("output"), same_shape("output", "target"), _has_numbers),
)
def threshold_matches(k: Kernels, target: Any, output: Any, threshold: float) -> Any:
    out, size = empty(output.shape, _FLOAT), output.size
    source = SOURCES[target.dtype]
    _threshold_matches.run(
        parts_for(size), size=size, source=source, target=target, output=output, out=out, threshold=float(threshold)
    )
    return out


@part
def _largest_matches(part, parts, rows, classes, target, output, out: Floats):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        same = place_of_largest(floats(target + at), classes) == place_of_largest(floats(output + at), classes)
        out[row] = _ONE if same else _ZERO


@override(
    reference.largest_matches, "cpu", when=(contiguous_float32("output", "target"), same_shape("output", "target"))
)
def largest_matches(k: Kernels, target: Any, output: Any) -> Any:
    out = empty(output.shape[:-1], _FLOAT)
    parts, rows, classes = rows_of(output.shape)
    _largest_matches.run(parts, rows=rows, classes=classes, target=target, output=output, out=out)
    return out


@part
def _label_matches(part, parts, rows, classes, source, labels, output, out: Floats):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        place = place_of_largest(floats(output + 4 * row * classes), classes)
        out[row] = _ONE if np.float64(place) == number_at(labels, source, row) else _ZERO


def _are_labels(labels: Any, output: Any) -> bool:
    return labels.shape == output.shape[:-1] and source_of(labels) is not None


@override(reference.label_matches, "cpu", when=(contiguous_float32("output"), _are_labels))
def label_matches(k: Kernels, labels: Any, output: Any) -> Any:
    out = empty(labels.shape, _FLOAT)
    parts, rows, classes = rows_of(output.shape)
    source = SOURCES[labels.dtype]
    _label_matches.run(parts, rows=rows, classes=classes, source=source, labels=labels, output=output, out=out)
    return out


@part
def _rank_matches(part, parts, rows, classes, source, labels, output, out: Floats, count):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        x = floats(output + 4 * row * classes)
        label, rank = class_at(labels, source, row, 0, classes), count
        if label >= 0:
            chosen = x[label]
            if chosen - chosen == _ZERO:
                rank = 0
                for j in range(classes):
                    rank += 1 if x[j] > chosen else 0
        out[row] = _ONE if rank < count else _ZERO


@override(reference.rank_matches, "cpu", when=(contiguous_float32("output"), _are_labels))
def rank_matches(k: Kernels, labels: Any, output: Any, count: int) -> Any:
    out = empty(labels.shape, _FLOAT)
    parts, rows, classes = rows_of(output.shape)
    _rank_matches.run(
        parts, rows=rows, classes=classes, source=SOURCES[labels.dtype], labels=labels, output=output, out=out,
        count=int(count),
    )  # fmt: skip
    return out


@part
def _places_of_largest(part, parts, rows, classes, x, out: Numbers):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        out[row] = place_of_largest(floats(x + 4 * row * classes), classes)


@override(reference.places_of_largest, "cpu", when=contiguous_float32("x"))
def places_of_largest(k: Kernels, x: Any) -> Any:
    out = empty(x.shape[:-1], _NUMBER)
    parts, rows, classes = rows_of(x.shape)
    _places_of_largest.run(parts, rows=rows, classes=classes, x=x, out=out)
    return out


@part
def _equal_matches(part, parts, size, source, target, source_of_output, output, out: Floats):
    first, last = share(part, parts, size)
    for i in range(first, last):
        same = number_at(target, source, i) == number_at(output, source_of_output, i)
        out[i] = _ONE if same else _ZERO


def _are_numbers(target: Any, output: Any) -> bool:
    if target.shape != output.shape or not output.size:
        return False
    return all(source_of(one) is not None and one.dtype.char not in "lq" for one in (target, output))


@override(reference.equal_matches, "cpu", when=_are_numbers)
def equal_matches(k: Kernels, target: Any, output: Any) -> Any:
    out, size = empty(output.shape, _FLOAT), output.size
    given = {"source": SOURCES[target.dtype], "source_of_output": SOURCES[output.dtype]}
    _equal_matches.run(parts_for(size), size=size, target=target, output=output, out=out, **given)
    return out


@part
def _add_confusion(
    part, rows, columns, first, last, labels, each, source, truth, scores: Floats, weights, label_weights,
    bounds: Floats, thresholds, buckets: Doubles, tp, fp, tn, fn,
):  # fmt: skip
    """Of each label and truth the weights by how many thresholds the score is above, and their sums from the top."""
    width = thresholds + 1
    for i in range(2 * labels * width):
        buckets[i] = 0.0
    for row in range(rows):
        for column in range(first, last):
            i = row * columns + column
            weight = 1.0
            if weights:
                weight = np.float64(floats(weights)[i // each])
            if label_weights:
                weight *= np.float64(floats(label_weights)[column])
            low, high = 0, thresholds
            while low < high:
                middle = (low + high) >> 1
                if bounds[middle] < scores[i]:
                    low = middle + 1
                else:
                    high = middle
            place = (column if labels > 1 else 0) * width + low
            if number_at(truth, source, i) == 0.0:
                place += labels * width
            buckets[place] += weight
    for label in range(labels):
        positives, negatives = label * width, (labels + label) * width
        positive, negative = 0.0, 0.0
        for i in range(width):
            positive += buckets[positives + i]
            negative += buckets[negatives + i]
        true, false = 0.0, 0.0
        for below in range(thresholds):
            i = thresholds - 1 - below
            at = i * labels + label
            true += buckets[positives + i + 1]
            false += buckets[negatives + i + 1]
            if tp:
                doubles(tp)[at] += true
            if fp:
                doubles(fp)[at] += false
            if tn:
                doubles(tn)[at] += negative - false
            if fn:
                doubles(fn)[at] += positive - true


@lru_cache(maxsize=256)
def _ascending(thresholds: tuple[float, ...]) -> Any:
    """Thresholds as an array that never changes, or None where they do not ascend."""
    bounds = np.array(thresholds, np.float32)
    bounds.flags.writeable = False
    return bounds if (bounds[1:] >= bounds[:-1]).all() else None


def _are_counted(counts: Any, truth: Any, scores: Any, label_weights: Any, thresholds: Any, by_label: Any) -> bool:
    if not (is_float32(scores) and scores.size and scores.ndim and source_of(truth) is not None):
        return False
    shape = (len(thresholds), scores.shape[-1]) if by_label else (len(thresholds),)
    for count in counts:
        if not (count is None or (count.dtype.char == "d" and count.flags.c_contiguous and count.shape == shape)):
            return False
    return (label_weights is None or is_float32(label_weights)) and _ascending(thresholds) is not None


def _weigh_scores(scores: Any, weights: Any) -> bool:
    return weighs(scores, weights)


@override(reference.add_confusion, "cpu", when=(_are_counted, _weigh_scores))
def add_confusion(
    k: Kernels, counts: tuple, truth: Any, scores: Any, weights: Any, label_weights: Any, thresholds: tuple[float, ...],
    class_id: int | None = None, by_label: bool = False,
) -> None:  # fmt: skip
    columns = scores.shape[-1]
    first, last = (0, columns) if class_id is None else (class_id, class_id + 1)
    labels = columns if by_label else 1
    buckets = empty((2 * labels * (len(thresholds) + 1),), np.dtype(np.float64))
    tp, fp, tn, fn = counts
    _add_confusion.run(
        1, rows=scores.size // columns, columns=columns, first=first, last=last, labels=labels,
        each=1 if weights is None else scores.size // weights.size, source=SOURCES[truth.dtype], truth=truth,
        scores=scores, weights=weights, label_weights=label_weights, bounds=_ascending(thresholds),
        thresholds=len(thresholds), buckets=buckets, tp=tp, fp=fp, tn=tn, fn=fn,
    )  # fmt: skip


@part
def _ratio(part, parts, size, a: Doubles, b: Doubles, out: Doubles):
    first, last = share(part, parts, size)
    for i in range(first, last):
        out[i] = a[i] / b[i] if b[i] != 0.0 else a[i] * 0.0


def _are_doubles(a: Any, b: Any) -> bool:
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype.char == b.dtype.char == "d"
    return both and a.shape == b.shape and a.size > 0 and a.flags.c_contiguous and b.flags.c_contiguous


@override(reference.ratio, "cpu", when=_are_doubles)
def ratio(k: Kernels, a: Any, b: Any) -> Any:
    out = empty(a.shape, a.dtype)
    _ratio.run(1, size=a.size, a=a, b=b, out=out)
    return out
