"""Class numbers and cross-entropies."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable, operation, producer
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import Tensor
from minikeras.kernels.arena import explain
from minikeras.ops import numpy as fine
from minikeras.ops.activation import sigmoid, softmax
from minikeras.ops.common import as_array, as_float, as_type, counted, tensors_of, unbroadcast

KERAS_MODULE = "keras.src.ops.nn"


def _one_hot_shape(x: Any, *, num_classes: int, axis: int, dtype: Any, **settings: Any) -> Any:
    place = shapes.place_of(axis, x.ndim + 1)
    return shapes.Spec((*x.shape[:place], num_classes, *x.shape[place:]), dtype or config.floatx())


def _multi_hot_shape(inputs: Any, *, num_classes: int, axis: int, dtype: Any, **settings: Any) -> Any:
    hits = _one_hot_shape(inputs, num_classes=num_classes, axis=axis, dtype=dtype)
    return shapes.Spec(shapes.reduced(hits.shape, min(inputs.ndim - 1, 1)), hits.dtype)


@operation(inputs=1, shape=_one_hot_shape)
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """Integers to vectors with a single 1; an integer out of range gives zeros.

    Args:
        x: whole numbers.
        num_classes: size of the new axis.
        axis: where it stands.
        sparse: accepted for familiarity; the result is dense.

    >>> from minikeras import ops
    >>> ops.one_hot([0, 2], 3)
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    return _hits(as_array(x), num_classes, axis).astype(dtype or config.floatx())


@operation(inputs=1, shape=_multi_hot_shape)
def multi_hot(inputs: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """Sets of integers to vectors with a 1 for each member: the maximum of `one_hot` over axis 1, of a vector 0.

    Args:
        inputs: whole numbers, several for each sample.
        num_classes: size of the new axis.
        sparse: accepted for familiarity; the result is dense.

    >>> from minikeras import ops
    >>> ops.multi_hot([[0, 2]], 4)
    <Tensor shape=(1, 4) dtype=float32>
    array([[1., 0., 1., 0.]], dtype=float32)
    """
    return _hits(inputs, num_classes, axis).any(axis=min(inputs.ndim - 1, 1)).astype(dtype or config.floatx())


def _hits(x: Any, num_classes: int, axis: int) -> Any:
    return k.xp.moveaxis(x[..., None] == counted(num_classes), -1, axis)


def _without_classes(logits: Any, *others: Any, **settings: Any) -> Any:
    return shapes.reduced(logits.shape, -1)


@differentiable(shape=_without_classes)
def _cross_entropy(logits: Any, target: Any, *, probabilities: Any = None) -> Any:
    y = k.cross_entropy(logits, target, probabilities)

    def vjp(g: Any, needs: Any) -> Any:
        return (
            k.cross_entropy_grad(g, logits, target, probabilities) if needs[0] else None,
            -g[..., None] * k.log_softmax(logits) if needs[1] else None,
        )

    return y, vjp


@differentiable(shape=_without_classes)
def _sparse_cross_entropy(logits: Any, labels: Any, *, probabilities: Any = None) -> Any:
    y = k.sparse_cross_entropy(logits, labels, probabilities)
    return y, lambda g, needs: (k.sparse_cross_entropy_grad(g, logits, labels, probabilities), None)


@differentiable(shape=_without_classes)
def _share_cross_entropy(output: Any, target: Any, *, epsilon: float) -> Any:
    def vjp(g: Any, needs: Any) -> Any:
        at_target = None
        if needs[1]:
            share = k.xp.clip(output / output.sum(axis=-1, keepdims=True), epsilon, 1 - epsilon)
            at_target = -g[..., None] * k.xp.log(share)
        return k.share_cross_entropy_grad(g, output, target, epsilon) if needs[0] else None, at_target

    return k.share_cross_entropy(output, target, epsilon), vjp


@differentiable(shape=_without_classes)
def _sparse_share_cross_entropy(output: Any, labels: Any, *, epsilon: float) -> Any:
    y = k.sparse_share_cross_entropy(output, labels, epsilon)
    return y, lambda g, needs: (k.sparse_share_cross_entropy_grad(g, output, labels, epsilon), None)


_BINARY = "binary", "binary_logits"  # kinds of `mean_error`, from probabilities and from logits


@differentiable(shape=shapes.same)
def _binary_cross_entropy(target: Any, output: Any, *, from_logits: bool) -> Any:
    output = as_float(output)
    t, kind, epsilon = (
        as_type(target, output.dtype)[..., None],
        "binary_logits" if from_logits else "binary",
        config.epsilon(),
    )

    def vjp(g: Any, needs: Any) -> Any:
        gradients = [
            k.mean_error_grad(g, t, output[..., None], kind, epsilon, of_target)[..., 0] if needed else None
            for of_target, needed in ((True, needs[0]), (False, needs[1]))
        ]
        return None if gradients[0] is None else unbroadcast(gradients[0], target), gradients[1]

    return k.mean_error(t, output[..., None], kind, epsilon), vjp


@differentiable(shape=shapes.same, traced=True, rounds=False)
def as_single(x: Any) -> Any:
    """float16 or bfloat16 in float32, with which a cross-entropy computes."""

    def vjp(g: Any, needs: Any) -> Any:  # the slope of a logarithm next to 0 is beyond float16: its largest number then
        if x.dtype.char == "e":
            g = k.xp.clip(g, -_LARGEST_HALF, _LARGEST_HALF)
        return (g.astype(x.dtype),)

    return x.astype("float32"), vjp


_LARGEST_HALF = 65504.0


def logits_behind(output: Any, op: Any) -> Any:
    """What `output` was computed from by a softmax over the last axis or a sigmoid, or None."""
    node = producer(output)
    if node is None:
        return None
    if node.op is as_single:
        logits = logits_behind(node.args[0], op)
        return None if logits is None else as_single(logits)
    if node.op is not op or not isinstance(node.args[0], Tensor):
        return None
    axis = node.args[1] if len(node.args) > 1 else node.settings.get("axis", -1)
    return node.args[0] if axis in (-1, len(output.shape) - 1) else None


def _categorical_shape(target: Any, output: Any, *, axis: int, **settings: Any) -> Any:
    if not shapes.agree(target.shape, output.shape):
        raise ValueError(_of_different_shape(target, output))
    return shapes.reduced(output.shape, axis)


def _of_different_shape(target: Any, output: Any) -> str:
    return (
        f"categorical_crossentropy needs targets and predictions of one shape, got {tuple(target.shape)} and "
        f"{tuple(output.shape)}; integer labels go with sparse_categorical_crossentropy."
    )


@composite(inputs=2, shape=_categorical_shape)
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of class weights `target` and predictions of the same shape, without the class axis.

    Probabilities are divided by their sum and clipped to [epsilon, 1 - epsilon]; where they come straight out of a
    softmax, its logits are used instead, which is exact and stable.

    Args:
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.categorical_crossentropy(np.array([[0.0, 1.0]]), np.array([[0.2, 0.8]]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    if isinstance(target, (list, tuple)) or isinstance(output, (list, tuple)):
        target, output = tensors_of(target, output)
    if target.shape != output.shape:
        raise ValueError(_of_different_shape(target, output))
    if axis not in (-1, len(output.shape) - 1):
        target, output = fine.moveaxis(target, axis, -1), fine.moveaxis(output, axis, -1)
    if from_logits:
        return _cross_entropy(output, target)
    logits = logits_behind(output, softmax)
    if logits is not None:
        return _cross_entropy(logits, target, probabilities=output.data)
    return _share_cross_entropy(output, target, epsilon=config.epsilon())


def _sparse_shape(target: Any, output: Any, *, axis: int, **settings: Any) -> Any:
    expected = shapes.reduced(output.shape, axis)
    given = target.shape[:-1] if target.ndim == output.ndim and target.shape[-1] == 1 else target.shape
    if not shapes.agree(given, expected):
        raise ValueError(_labels_of_different_shape(given, output))
    return expected


def _labels_of_different_shape(target: Any, output: Any) -> str:
    return (
        f"sparse_categorical_crossentropy needs labels of the predictions' shape without the classes, got labels "
        f"{tuple(target)} and predictions {tuple(output.shape)}; one-hot targets go with categorical_crossentropy."
    )


@composite(inputs=2, shape=_sparse_shape)
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of integer labels `target` and predictions with one more axis, the classes.

    Args:
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    Raises:
        ValueError: a label is out of range or no whole number (CPU; on a GPU its cross-entropy is NaN and its gradient
            zero).

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.sparse_categorical_crossentropy(np.array([1]), np.array([[0.2, 0.8]]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    if isinstance(target, (list, tuple)) or isinstance(output, (list, tuple)):
        target, output = tensors_of(target, output)
    if len(target.shape) == len(output.shape) and target.shape[-1] == 1:
        target = fine.squeeze(target, -1)
    if axis not in (-1, len(output.shape) - 1):
        output = fine.moveaxis(output, axis, -1)
    if tuple(target.shape) != tuple(output.shape[:-1]):
        raise ValueError(_labels_of_different_shape(target.shape, output))
    labels = raw(target)
    if k.active_device() != "gpu":
        return _sparse_crossentropy_of(class_numbers(labels, output.shape[-1]), output, from_logits)
    # on the GPU reading a label back would wait for the stream
    named = k.xp.clip(labels, 0, output.shape[-1] - 1)
    if named.dtype.kind not in "iu":
        named = named.astype("int32")
    return fine.where(labels == named, _sparse_crossentropy_of(named, output, from_logits), float("nan"))


def _sparse_crossentropy_of(labels: Any, output: Any, from_logits: bool) -> Any:
    if from_logits:
        return _sparse_cross_entropy(output, labels)
    logits = logits_behind(output, softmax)
    if logits is not None:
        return _sparse_cross_entropy(logits, labels, probabilities=output.data)
    return _sparse_share_cross_entropy(output, labels, epsilon=config.epsilon())


def class_numbers(labels: Any, classes: int) -> Any:
    """Labels on the host as int64, each the number of a class.

    Raises:
        ValueError: a label is out of range or no whole number.
    """
    named, wrong = k.class_numbers(labels, classes)
    explain(wrong, functools.partial(check_labels, labels.view(np.ndarray), classes))
    return named


def whole_labels(labels: Any) -> Any:
    """Labels on the host as integers.

    Raises:
        ValueError: a label is no whole number.
    """
    named = labels.astype("int64")  # NaN and infinity become some integer
    if not (named == labels).all():
        wrong = labels[named != labels][0]
        raise ValueError(
            f"A label must be the whole number of its class, got {wrong}; probabilities of the classes go with "
            "categorical_crossentropy."
        )
    return named


def check_labels(labels: Any, classes: int | None) -> None:
    """Refuse class numbers that are not in [0, classes), or no whole numbers; None is any number of classes.

    Raises:
        ValueError: a label is out of range or has a fraction.
    """
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        wrong = labels[labels != np.floor(labels)][0]
        raise ValueError(
            f"A label must be the whole number of its class, got {wrong}; probabilities of the classes go with "
            "categorical_crossentropy."
        )
    if classes is None:
        if labels.size and labels.min() < 0:
            raise ValueError(f"A label must be the number of its class, counted from 0, got {labels.min()}.")
        return
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"A label must lie between 0 and {classes - 1} for {classes} classes, got labels between "
            f"{labels.min()} and {labels.max()}."
        )


@composite(inputs=2, shape=shapes.broadcast)
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Elementwise cross-entropy of targets in [0, 1] and predicted probabilities (or logits) of the same shape.

    Args:
        target: the right values.
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.binary_crossentropy(np.array([1.0]), np.array([0.8]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    if isinstance(target, (list, tuple)) or isinstance(output, (list, tuple)):
        target, output = tensors_of(target, output)
    if tuple(target.shape) != tuple(output.shape):
        raise ValueError(
            f"binary_crossentropy needs targets and predictions of one shape, got {tuple(target.shape)} and "
            f"{tuple(output.shape)}."
        )
    logits = output if from_logits else logits_behind(output, sigmoid)
    return _binary_cross_entropy(target, output if logits is None else logits, from_logits=logits is not None)
