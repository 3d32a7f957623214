"""Every loss with the kinds of targets and predictions that it takes, for tests against formulas and real Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LossCase:
    """A loss class and its function, options, and how targets and predictions (shape, rng) are drawn."""

    cls: str
    function: str
    draw: Callable[[tuple[int, ...], np.random.Generator], tuple[np.ndarray, np.ndarray]]
    options: dict[str, Any] = field(default_factory=dict)
    target_gradient: bool = True

    def __str__(self) -> str:
        return "-".join([self.cls, *[f"{key}={value}" for key, value in self.options.items()]])

    def data(self, shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        y_true, y_pred = self.draw(shape, np.random.default_rng(seed))
        return (y_true.astype(dtype) if y_true.dtype.kind == "f" else y_true), y_pred.astype(dtype)


def _real(shape, rng):
    return rng.normal(size=shape), rng.normal(size=shape)


def _positive(shape, rng):
    return rng.uniform(0.5, 3, shape), rng.uniform(0.5, 3, shape)


def _binary(shape, rng):
    return rng.integers(0, 2, shape).astype(float), rng.uniform(0.05, 0.95, shape)


def _binary_logits(shape, rng):
    return rng.integers(0, 2, shape).astype(float), rng.normal(size=shape) * 3


def _probabilities(shape, rng):
    weights = rng.uniform(0.1, 1, shape)
    return weights / weights.sum(-1, keepdims=True)


def _one_hot(shape, rng):
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


def _classes(shape, rng):
    return _one_hot(shape, rng), _probabilities(shape, rng)


def _soft_classes(shape, rng):
    return _probabilities(shape, rng), _probabilities(shape, rng)


def _class_logits(shape, rng):
    return _one_hot(shape, rng), rng.normal(size=shape) * 3


def _labels(shape, rng):
    return rng.integers(0, shape[-1], shape[:-1]), _probabilities(shape, rng)


def _label_logits(shape, rng):
    return rng.integers(0, shape[-1], shape[:-1]), rng.normal(size=shape) * 3


def _signs(shape, rng):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.6, 0.9, shape), rng.normal(size=shape)


CASES = [
    LossCase("MeanSquaredError", "mean_squared_error", _real),
    LossCase("MeanAbsoluteError", "mean_absolute_error", _real),
    LossCase("MeanAbsolutePercentageError", "mean_absolute_percentage_error", _positive),
    LossCase("MeanSquaredLogarithmicError", "mean_squared_logarithmic_error", _positive),
    LossCase("Huber", "huber", _real),
    LossCase("Huber", "huber", _real, {"delta": 0.4}),
    LossCase("LogCosh", "log_cosh", _real),
    LossCase("Hinge", "hinge", _signs),
    LossCase("Hinge", "hinge", _binary_logits, target_gradient=False),
    LossCase("SquaredHinge", "squared_hinge", _signs),
    LossCase("SquaredHinge", "squared_hinge", _binary_logits, target_gradient=False),
    LossCase("CategoricalHinge", "categorical_hinge", _class_logits),
    LossCase("KLDivergence", "kl_divergence", _soft_classes),
    LossCase("Poisson", "poisson", _positive),
    LossCase("CosineSimilarity", "cosine_similarity", _real),
    LossCase("CosineSimilarity", "cosine_similarity", _real, {"axis": 0}),
    LossCase("BinaryCrossentropy", "binary_crossentropy", _binary),
    LossCase("BinaryCrossentropy", "binary_crossentropy", _binary, {"label_smoothing": 0.2}),
    LossCase("BinaryCrossentropy", "binary_crossentropy", _binary, {"axis": 0}),
    LossCase("BinaryCrossentropy", "binary_crossentropy", _binary_logits, {"from_logits": True}),
    LossCase("BinaryFocalCrossentropy", "binary_focal_crossentropy", _binary),
    LossCase(
        "BinaryFocalCrossentropy",
        "binary_focal_crossentropy",
        _binary_logits,
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 1.5, "from_logits": True, "label_smoothing": 0.1},
    ),
    LossCase("CategoricalCrossentropy", "categorical_crossentropy", _classes),
    LossCase("CategoricalCrossentropy", "categorical_crossentropy", _soft_classes, {"label_smoothing": 0.1}),
    LossCase("CategoricalCrossentropy", "categorical_crossentropy", _class_logits, {"from_logits": True}),
    LossCase("CategoricalCrossentropy", "categorical_crossentropy", _classes, {"axis": 0}),
    LossCase("CategoricalFocalCrossentropy", "categorical_focal_crossentropy", _classes),
    LossCase(
        "CategoricalFocalCrossentropy",
        "categorical_focal_crossentropy",
        _class_logits,
        {"alpha": 0.4, "gamma": 1.5, "from_logits": True, "label_smoothing": 0.1},
    ),
    LossCase("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy", _labels, target_gradient=False),
    LossCase(
        "SparseCategoricalCrossentropy",
        "sparse_categorical_crossentropy",
        _label_logits,
        {"from_logits": True},
        target_gradient=False,
    ),
    LossCase(
        "SparseCategoricalCrossentropy",
        "sparse_categorical_crossentropy",
        _labels,
        {"ignore_class": 1},
        target_gradient=False,
    ),
    LossCase(
        "CategoricalGeneralizedCrossEntropy",
        "categorical_generalized_cross_entropy",
        _labels,
        {"q": 0.3},
        target_gradient=False,
    ),
    LossCase("Dice", "dice", _binary),
    LossCase("Dice", "dice", _binary, {"axis": -1}),
    LossCase("Tversky", "tversky", _binary, {"alpha": 0.3, "beta": 0.8}),
]
