"""Metrics: sums of float64 that values are added to in place, and where predictions are right."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from minikeras.kernels.table import Kernels, kernel


@kernel
def add_to_mean(
    k: Kernels, total: Any, count: Any, values: Any, weights: Any = None, scale: float = 1.0, samples: float = 1.0
) -> None:
    """Add `scale * sum(values * weights)` to `total`, and to `count` the same of ones; without weights `samples`.

    Args:
        total, count: arrays without axes, changed in place; `count` may be None.
        weights: as many as values, or one for each row that these begin with (of as many axes, then).
    """
    if weights is None:
        total += _summed(values) * scale
        if count is not None:
            count += samples
        return
    total += (values * weights).sum() * scale
    if count is not None:
        count += weights.sum() * (scale * (values.size // max(weights.size, 1)))


def _summed(values: Any) -> Any:
    """The sum of all values; of float16 and bfloat16 in float32."""
    return values.sum() if values.dtype.char not in "eE" else values.sum(dtype="float32")


@kernel
def ratio(k: Kernels, a: Any, b: Any) -> Any:
    """`a / b`, 0 where `b` is 0."""
    none = b == 0
    return a / (b + none) * ~none


@kernel
def threshold_matches(k: Kernels, target: Any, output: Any, threshold: float) -> Any:
    """Whether `output > threshold` is what the target (0 or 1) says, as 1 and 0 in float32."""
    return ((output > threshold) == target).astype("float32")


@kernel
def largest_matches(k: Kernels, target: Any, output: Any) -> Any:
    """Whether the largest number of each row is at the same place in both, as 1 and 0 in float32."""
    return (target.argmax(-1) == output.argmax(-1)).astype("float32")


@kernel
def label_matches(k: Kernels, labels: Any, output: Any) -> Any:
    """Whether the largest number of each row is at the place that the row's label names, as 1 and 0 in float32."""
    return (labels == output.argmax(-1)).astype("float32")


@kernel
def rank_matches(k: Kernels, labels: Any, output: Any, count: int) -> Any:
    """Whether fewer than `count` numbers of each row (n, classes) are above the one that its label names, as 1 and 0.

    It is 0 where the label names none, or its number is infinite or NaN.
    """
    known = (labels >= 0) & (labels < output.shape[-1])
    columns = k.xp.where(known, labels, k.xp.zeros_like(labels)).astype("int64").reshape(-1, 1)
    chosen = k.xp.take_along_axis(output, columns, axis=-1)
    ranks = (output > chosen).sum(axis=-1)
    return ((ranks < count) & known & k.xp.isfinite(chosen[:, 0])).astype("float32")


@kernel
def places_of_largest(k: Kernels, x: Any) -> Any:
    """The place of the first of the largest numbers along the last axis, in int64; NaN counts as larger than all."""
    return x.argmax(-1)


@kernel
def equal_matches(k: Kernels, target: Any, output: Any) -> Any:
    """Whether numbers are equal, as 1 and 0 in float32."""
    return (target == output).astype("float32")


@kernel
def add_confusion(
    k: Kernels, counts: tuple, truth: Any, scores: Any, weights: Any, label_weights: Any, thresholds: tuple[float, ...],
    class_id: int | None = None, by_label: bool = False,
) -> None:  # fmt: skip
    """Add the weights of true and false positives and negatives to counts, at each threshold that scores may be above.

    Args:
        counts: four arrays (thresholds,), or with `by_label` (thresholds, labels), changed in place; None is not asked.
        truth, scores: targets, of which any but 0 are positive, and predictions of one shape.
        weights: of as many axes as the scores, or None.
        label_weights: one for each label, or None.
        class_id: the place in the last axis of what alone counts.
    """
    truth = truth != 0
    if class_id is not None:
        truth, scores = truth[..., class_id, None], scores[..., class_id, None]
    weights = k.xp.ones((1,) * scores.ndim, scores.dtype) if weights is None else weights
    weights = weights if label_weights is None else weights * label_weights
    positive, negative = weights * truth, weights * ~truth
    columns = (-1, scores.shape[-1]) if by_label else (-1, 1)
    scores, positive, negative = (array.reshape(columns) for array in (scores, positive, negative))
    tp, fp = (_above(k, scores, one, thresholds) for one in (positive, negative))
    found = tp, fp, negative.sum(axis=0, dtype="float64") - fp, positive.sum(axis=0, dtype="float64") - tp
    for count, values in zip(counts, found, strict=True):
        if count is not None:
            count += values if by_label else values[:, 0]


def _above(k: Kernels, scores: Any, weights: Any, thresholds: tuple[float, ...]) -> Any:
    """The sum of the weights where the score is above each threshold: (thresholds, labels) from (n, labels)."""
    if len(thresholds) == 1:
        return (weights * (scores > thresholds[0])).sum(axis=0, keepdims=True, dtype="float64")
    if not len(scores):
        return k.xp.zeros((len(thresholds), scores.shape[1]))
    weights = weights * (scores == scores)  # NaN, which sorting takes for the highest, is above no threshold
    bounds = _bounds(thresholds, scores.dtype, k.xp)
    columns = []
    for label in range(scores.shape[1]):
        order = k.xp.argsort(scores[:, label])
        total = k.xp.cumsum(weights[order, label], dtype="float64")
        below = k.concatenate([k.xp.zeros_like(total[:1]), total], 0)  # weight of the i lowest scores at index i
        columns.append(below[-1] - below[k.xp.searchsorted(scores[order, label], bounds, side="right")])
    return k.stack(columns, 1)


@lru_cache(maxsize=256)
def _bounds(thresholds: tuple[float, ...], dtype: Any, array_module: Any) -> Any:
    """Thresholds on a device, moved there once."""
    return array_module.asarray(thresholds, dtype=dtype)
