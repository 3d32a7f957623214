"""Metrics on the CPU: one pass over predictions, and sums that are added to where they lie."""

from __future__ import annotations

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
def _label_ranks(part, parts, rows, classes, source, labels, output, out: Numbers):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        x = floats(output + 4 * row * classes)
        label, rank = class_at(labels, source, row, classes), classes
        if label >= 0:
            chosen = x[label]
            if chosen - chosen == _ZERO:
                rank = 0
                for j in range(classes):
                    rank += 1 if x[j] > chosen else 0
        out[row] = rank


@override(reference.label_ranks, "cpu", when=(contiguous_float32("output"), _are_labels))
def label_ranks(k: Kernels, labels: Any, output: Any) -> Any:
    out = empty(labels.shape, _NUMBER)
    parts, rows, classes = rows_of(output.shape)
    source = SOURCES[labels.dtype]
    _label_ranks.run(parts, rows=rows, classes=classes, source=source, labels=labels, output=output, out=out)
    return out
