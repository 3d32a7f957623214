"""Every metric with the kinds of targets and predictions that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MetricCase:
    """A metric class, options, and how targets and predictions of (samples, rng) are drawn."""

    cls: str
    draw: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
    options: dict[str, Any] = field(default_factory=dict)
    weights: tuple[int, ...] | None = ()  # shape of a weight per sample; None where the metric takes none

    def __str__(self) -> str:
        return "-".join([self.cls, self.draw.__name__, *[f"{key}={value}" for key, value in self.options.items()]])

    def batches(self, count: int = 3) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        made = []
        for samples in [7, 4, 1][:count]:
            y_true, y_pred = self.draw(samples, rng)
            # in steps of 1/64, so that float32 holds their sums without rounding
            weights = (np.round(rng.uniform(0, 2, (samples, *(self.weights or ()))) * 64) / 64).astype("float32")
            made.append((y_true, y_pred.astype("float32"), weights))
        return made


def real(n, rng):
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 3))


def real_sequence(n, rng):
    return rng.normal(size=(n, 4, 3)), rng.normal(size=(n, 4, 3))


def positive(n, rng):
    return rng.uniform(0.5, 3, (n, 3)), rng.uniform(0.5, 3, (n, 3))


def column(n, rng):
    return rng.normal(size=n), rng.normal(size=(n, 1))


def integers(n, rng):
    return rng.integers(0, 3, (n, 2)), rng.integers(0, 3, (n, 2))


def binary(n, rng):
    return rng.integers(0, 2, (n, 1)), rng.uniform(size=(n, 1))


def binary_vector(n, rng):
    return rng.integers(0, 2, n), rng.uniform(size=n)


def multi_label(n, rng):
    return rng.integers(0, 2, (n, 4)), rng.uniform(size=(n, 4))


def signs(n, rng):
    return rng.choice([-1.0, 1.0], (n, 3)) * 0.8, rng.normal(size=(n, 3))


def logits(n, rng):
    return rng.integers(0, 2, (n, 4)), rng.normal(size=(n, 4)) * 2


def classes(n, rng):
    scores = rng.uniform(0.1, 1, (n, 6))
    return np.eye(6)[rng.integers(0, 6, n)], scores / scores.sum(-1, keepdims=True)


def class_sequence(n, rng):
    scores = rng.uniform(0.1, 1, (n, 3, 6))
    return np.eye(6)[rng.integers(0, 6, (n, 3))], scores / scores.sum(-1, keepdims=True)


def labels(n, rng):
    return classes(n, rng)[0].argmax(-1), classes(n, rng)[1]


def label_column(n, rng):
    return labels(n, rng)[0][:, None], classes(n, rng)[1]


def label_sequence(n, rng):
    return rng.integers(0, 6, (n, 3)), class_sequence(n, rng)[1]


def class_numbers(n, rng):
    return rng.integers(0, 4, n), rng.integers(0, 4, n)


def pixels(n, rng):
    return rng.integers(0, 4, (n, 3, 2)), rng.integers(0, 4, (n, 3, 2))


def one_hot_pixels(n, rng):
    return np.eye(4)[rng.integers(0, 4, (n, 3))], rng.uniform(size=(n, 3, 4))


def grid(n, rng):
    return rng.integers(0, 2, (n, 4)), rng.integers(0, 11, (n, 4)) / 10


def sorted_classes(n, rng):
    return rng.integers(0, 6, n), np.argsort(rng.uniform(size=(n, 6)))


CASES = [
    MetricCase("MeanSquaredError", real),
    MetricCase("MeanSquaredError", column),
    MetricCase("MeanSquaredError", real_sequence, weights=(4,)),
    MetricCase("RootMeanSquaredError", real),
    MetricCase("RootMeanSquaredError", column),
    MetricCase("RootMeanSquaredError", real_sequence, weights=(4,)),
    MetricCase("MeanAbsoluteError", real),
    MetricCase("MeanAbsolutePercentageError", positive),
    MetricCase("MeanSquaredLogarithmicError", positive),
    MetricCase("LogCoshError", real),
    MetricCase("CosineSimilarity", real),
    MetricCase("CosineSimilarity", real_sequence, {"axis": 1}, (3,)),
    MetricCase("Hinge", signs),
    MetricCase("Hinge", logits),
    MetricCase("SquaredHinge", signs),
    MetricCase("CategoricalHinge", classes),
    MetricCase("KLDivergence", classes),
    MetricCase("Poisson", positive),
    MetricCase("BinaryCrossentropy", binary),
    MetricCase("BinaryCrossentropy", logits, {"from_logits": True, "label_smoothing": 0.1}),
    MetricCase("CategoricalCrossentropy", classes),
    MetricCase("CategoricalCrossentropy", classes, {"from_logits": True, "label_smoothing": 0.1}),
    MetricCase("CategoricalCrossentropy", class_sequence, weights=(3,)),
    MetricCase("SparseCategoricalCrossentropy", labels, {"from_logits": True}),
    MetricCase("SparseCategoricalCrossentropy", label_sequence, {"ignore_class": 2}, (3,)),
    MetricCase("Accuracy", integers),
    MetricCase("BinaryAccuracy", binary),
    MetricCase("BinaryAccuracy", binary_vector, {"threshold": 0.7}),
    MetricCase("BinaryAccuracy", multi_label),
    MetricCase("CategoricalAccuracy", classes),
    MetricCase("CategoricalAccuracy", class_sequence, weights=(3,)),
    MetricCase("SparseCategoricalAccuracy", labels),
    MetricCase("SparseCategoricalAccuracy", label_column),
    MetricCase("SparseCategoricalAccuracy", label_sequence, weights=(3,)),
    MetricCase("TopKCategoricalAccuracy", classes, {"k": 2}),
    MetricCase("TopKCategoricalAccuracy", class_sequence, {"k": 3}, (3,)),
    MetricCase("SparseTopKCategoricalAccuracy", labels, {"k": 2}),
    MetricCase("SparseTopKCategoricalAccuracy", label_sequence, {"k": 4}, (3,)),
    MetricCase("SparseTopKCategoricalAccuracy", sorted_classes, {"k": 2, "from_sorted_ids": True}),
    *[
        MetricCase(name, draw, options)
        for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")
        for draw, options in ((binary, {}), (multi_label, {"thresholds": [0.2, 0.5, 0.9]}))
    ],
    *[
        MetricCase(name, draw, options)
        for name in ("Precision", "Recall")
        for draw, options in (
            (binary, {}),
            (binary_vector, {"thresholds": [0.1, 0.6]}),
            (multi_label, {"thresholds": [0.0, 0.5, 1.0]}),
            (multi_label, {"class_id": 2}),
            (classes, {"top_k": 2}),
            (classes, {"top_k": 2, "class_id": 1}),
        )
    ],
    *[
        MetricCase("AUC", binary, {"curve": curve, "summation_method": method})
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
    ],
    MetricCase("AUC", binary_vector, {"num_thresholds": None, "thresholds": [0.3, 0.6]}),
    MetricCase("AUC", logits, {"from_logits": True, "num_thresholds": 20}),
    MetricCase("AUC", multi_label, {"multi_label": True}),
    MetricCase("AUC", multi_label, {"multi_label": True, "num_labels": 4, "label_weights": [1.0, 0.0, 2.0, 3.0]}),
    MetricCase("AUC", multi_label, {"curve": "PR", "multi_label": True}),
    *[MetricCase("FBetaScore", classes, {"average": a, "beta": 2.0}) for a in (None, "micro", "macro", "weighted")],
    MetricCase("F1Score", multi_label, {"threshold": 0.4}),
    *[
        MetricCase(name, draw, {rate: 0.6, **options})
        for name, rate in (
            ("SensitivityAtSpecificity", "specificity"),
            ("SpecificityAtSensitivity", "sensitivity"),
            ("PrecisionAtRecall", "recall"),
            ("RecallAtPrecision", "precision"),
        )
        for draw, options in ((grid, {"num_thresholds": 7}), (multi_label, {"class_id": 1}))
    ],
    MetricCase("SpecificityAtSensitivity", grid, {"sensitivity": 0.2, "num_thresholds": 1}),
    MetricCase("PearsonCorrelation", real_sequence, {"axis": (1, 2)}, ()),
    MetricCase("PearsonCorrelation", real),
    MetricCase("ConcordanceCorrelation", real_sequence, {"axis": 1}, (3,)),
    MetricCase("ConcordanceCorrelation", real),
    MetricCase("IoU", class_numbers, {"num_classes": 4, "target_class_ids": [0, 2], "dtype": "float32"}),
    MetricCase("IoU", pixels, {"num_classes": 3, "target_class_ids": [1], "dtype": "float32"}, (3, 2)),
    MetricCase("BinaryIoU", grid, {"threshold": 0.3, "dtype": "float32"}, (4,)),
    MetricCase("MeanIoU", pixels, {"num_classes": 4, "ignore_class": 1, "dtype": "float32"}, (3, 2)),
    MetricCase("OneHotIoU", one_hot_pixels, {"num_classes": 4, "target_class_ids": (1, 3), "dtype": "float32"}, (3,)),
    MetricCase("OneHotMeanIoU", one_hot_pixels, {"num_classes": 4, "dtype": "float32"}, (3,)),
    *[MetricCase("R2Score", real, {"class_aggregation": a}) for a in (None, "uniform_average")],
    MetricCase("R2Score", real, {"class_aggregation": "variance_weighted_average", "num_regressors": 2}),
]
