"""Metrics: sums of float64 that values are added to in place, and where predictions are right."""

from __future__ import annotations

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
def label_ranks(k: Kernels, labels: Any, output: Any) -> Any:
    """How many numbers of each row (n, classes) are above the one that its label names, in int64.

    It is the number of classes where the label names none, or its number is infinite or NaN.
    """
    classes = output.shape[-1]
    known = (labels >= 0) & (labels < classes)
    columns = k.xp.where(known, labels, k.xp.zeros_like(labels)).astype("int64").reshape(-1, 1)
    chosen = k.xp.take_along_axis(output, columns, axis=-1)
    ranks = (output > chosen).sum(axis=-1)
    return k.xp.where(known & k.xp.isfinite(chosen[:, 0]), ranks, classes)
