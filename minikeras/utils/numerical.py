"""Labels and arrays made ready for training, in NumPy."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from minikeras.lazy import LazyModule
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import number, whole

ops = LazyModule("minikeras.ops")


def _is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor of ours; without any there is no need to load them."""
    tensors = sys.modules.get("minikeras.autodiff.tensor")
    return tensors is not None and isinstance(x, tensors.Tensor)


@user_facing
def to_categorical(x: Any, num_classes: int | None = None, dtype: Any = "float64") -> Any:
    """Turn class numbers into rows of zeros with a single one (one-hot).

    Args:
        x: whole numbers from 0 to `num_classes - 1`, of any shape; a last axis of length 1 is dropped.
        num_classes: the number of classes; by default (None or 0) the largest label plus one.
        dtype: the type of the result.

    Returns:
        An array of shape `x.shape + (num_classes,)`; for a tensor a tensor of type `floatx()`, in which labels that
        are no class have no one.

    Raises:
        ValueError: for labels that are negative, too large or not whole numbers, or without labels and `num_classes`.

    >>> import minikeras as keras
    >>> keras.utils.to_categorical([0, 2], num_classes=3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    num_classes = whole("num_classes", num_classes, 0, optional=True)
    if _is_tensor(x):
        if x.ndim > 1 and x.shape[-1] == 1:
            x = ops.reshape(x, x.shape[:-1])
        return ops.one_hot(x, num_classes or int(ops.max(x)) + 1)
    values = np.asarray(x)
    try:
        with np.errstate(invalid="ignore"):  # NaN and infinity are found by the comparison
            labels = values.astype(np.int64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"to_categorical expects whole numbers as labels, got {values.dtype} values.") from error
    wrong = np.ravel(labels != values)
    if wrong.any():
        raise ValueError(
            f"to_categorical expects whole numbers as labels, got {values.ravel()[wrong.argmax()]}; "
            "round or encode the labels first."
        )
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if not num_classes:
        if not labels.size:
            raise ValueError(f"to_categorical got no labels (shape {values.shape}); say how many classes there are.")
        num_classes = int(labels.max()) + 1
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        outside = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(
            f"to_categorical expects labels from 0 to {num_classes - 1}, got {outside}; "
            "number the classes from 0 or raise num_classes."
        )
    one_hot = np.zeros((labels.size, num_classes), dtype)
    one_hot[np.arange(labels.size), labels.ravel()] = 1
    return one_hot.reshape(*labels.shape, num_classes)


@user_facing
def normalize(x: Any, axis: int | None = -1, order: int | float = 2) -> Any:
    """Divide `x` by its norm along `axis`; where the norm is zero, `x` stays as it is.

    Args:
        x: an array of any shape.
        axis: the axis of the vectors; None takes a vector or matrix as a whole (the norms of `numpy.linalg.norm`).
        order: the order of the norm, 2 for the Euclidean one.

    Returns:
        A new array of the shape of `x`, of its type if that is a float type, else float64; for a tensor a tensor.

    Raises:
        ValueError: for what is no array of numbers, an axis that it has not got, and an order that is no number.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras.utils.normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    if _is_tensor(x):
        norm = ops.norm(x, order, axis, keepdims=True)
        return x / ops.where(norm == 0, ops.ones_like(norm), norm)
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"normalize takes an array of numbers, got {x.dtype} values.")
    x = np.atleast_1d(x)
    axis = whole("axis", axis, -x.ndim, at_most=x.ndim - 1, optional=True)
    order = number("order", order, infinite=True)
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norm == 0, norm.dtype.type(1), norm)
