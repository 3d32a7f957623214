"""Losses: how far predictions are from targets, per sample and reduced to the scalar that training minimises.

Each function maps `(y_true, y_pred)` of shape (n, ..., d) to one value per sample, (n, ...).  Each class wraps one of
them and adds weights, masks and the reduction.  A loss is two nodes on the tape: the values and their mean.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import ops, registry, tree
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import KerasTensor, is_symbolic, snake_case, unique_name
from minikeras.autodiff.tape import is_recording
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.config import DTypePolicy
from minikeras.declared import Check, Configured, declared, fields, in_order
from minikeras.kernels.reference.loss import fitted
from minikeras.lazy import offer_names
from minikeras.ops import nn
from minikeras.ops.common import as_array, as_type, unbroadcast
from minikeras.ops.crossentropy import as_single, class_numbers, logits_behind
from minikeras.tracebacks import end_at_users_line, user_facing
from minikeras.utils.checks import one_of

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)

# ---------------------------------------------------------------- targets and predictions


def same_rank(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Both with as many axes, where one has a last axis of size 1 more: labels (n,) go with predictions (n, 1).

    A vector is expanded; of anything larger the extra axis is dropped.
    """
    extra = len(y_pred.shape) - len(y_true.shape)
    if extra == 1 and y_pred.shape[-1] == 1:
        if len(y_true.shape) == 1:
            return y_true[..., None], y_pred
        return y_true, _reshaped(y_pred, lambda x: ops.squeeze(x, -1))
    if extra == -1 and y_true.shape[-1] == 1:
        if len(y_pred.shape) == 1:
            return y_true, _reshaped(y_pred, lambda x: ops.expand_dims(x, -1))
        return ops.squeeze(y_true, -1), y_pred
    return y_true, y_pred


def _reshaped(y_pred: Any, reshape: Callable) -> Any:
    """`reshape(y_pred)`; of a sigmoid that of the reshaped logits, which a cross-entropy looks for."""
    logits = logits_behind(y_pred, ops.sigmoid)
    return reshape(y_pred) if logits is None else ops.sigmoid(reshape(logits))


def paired(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Targets and predictions as tensors (or arrays) of one float type and one rank.

    Raises:
        ValueError: where their shapes do not go together.
    """
    y_pred = _tensor(y_pred)
    if y_pred.data.dtype.char not in FLOATS if isinstance(y_pred, Tensor) else False:
        y_pred = ops.cast(y_pred, settings.floatx())
    y_true = _targets(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        check_shapes(y_true.shape, y_pred.shape)
    return y_true, y_pred


def _tensor(value: Any) -> Any:
    return value if isinstance(value, (Tensor, KerasTensor)) else ops.convert_to_tensor(value)


def _targets(y_true: Any, dtype: Any) -> Any:
    """Targets in the predictions' type; untracked ones without a tape node."""
    y_true = _tensor(y_true)
    if y_true.dtype == dtype:
        return y_true
    if isinstance(y_true, Tensor) and not y_true.tracked:
        return Tensor(k.cast(y_true.data, dtype))
    return ops.cast(y_true, dtype)


def check_shapes(true_shape: tuple, pred_shape: tuple) -> None:
    aligned = zip(reversed(true_shape), reversed(pred_shape), strict=False)
    if any(a != b and 1 not in (a, b) and None not in (a, b) for a, b in aligned):
        raise ValueError(
            f"The targets have shape {tuple(true_shape)}, which does not go with predictions of shape "
            f"{tuple(pred_shape)}; give the model's output and the targets the same shape."
        )


def misfit(needs: str, y_true: Any, y_pred: Any) -> ValueError:
    """What is raised where a function needs other shapes, and it says which."""
    return ValueError(f"{needs}, got shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}.")


# ---------------------------------------------------------------- float16 and bfloat16


def _in_single(function: Callable) -> Callable:
    """A loss function that computes with float16 and bfloat16 predictions in float32 and returns their type.

    In float16 epsilon is next to nothing and `1 - epsilon` is 1, so that limits for logarithms and divisors are none.
    """

    @functools.wraps(function)
    def loss(y_true: Any, y_pred: Any, *args: Any, **options: Any) -> Any:
        try:
            y_pred = _tensor(y_pred)
            if _is_half(y_pred):
                return _narrowed(function(_widened(y_true), _widened(y_pred), *args, **options), y_pred.data.dtype)
            return function(y_true, y_pred, *args, **options)
        except BaseException as error:
            end_at_users_line(error)
            raise

    return loss


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.data.dtype.char in "eE"


def _widened(value: Any) -> Any:
    """A tensor of such a type in float32; anything else as it is."""
    return as_single(value) if _is_half(value) else value


def _narrowed(values: Any, dtype: Any) -> Any:
    """A loss in another type, with its mask."""
    result = ops.cast(values, dtype)
    result._keras_mask = values._keras_mask
    return result


# ---------------------------------------------------------------- loss functions: the mean of an elementwise error


def _mean_shape(y_true: Any, y_pred: Any, **options: Any) -> Any:
    return shapes.broadcast(y_true, y_pred)[:-1]


def _mean_of(error: Callable) -> Callable:
    """A loss from `error(t, p, **settings) -> (kind, setting)`: the mean of that error over the last axis.

    The errors are those of the kernel `mean_error`, where some are added up instead.
    """

    @functools.wraps(error)
    def forward(y_true: Any, y_pred: Any, **options: Any) -> Any:
        kind, setting = error(y_true, y_pred, **options)

        def vjp(g: Any, needs: Any) -> Any:
            return (
                unbroadcast(k.mean_error_grad(g, y_true, y_pred, kind, setting, True), y_true) if needs[0] else None,
                unbroadcast(k.mean_error_grad(g, y_true, y_pred, kind, setting), y_pred) if needs[1] else None,
            )

        return k.mean_error(y_true, y_pred, kind, setting), vjp

    primitive = differentiable(forward, shape=_mean_shape)

    @functools.wraps(error)
    def loss(y_true: Any, y_pred: Any, **options: Any) -> Any:
        try:
            y_true, y_pred = paired(y_true, y_pred)
            if _is_half(y_pred):
                return _narrowed(primitive(_widened(y_true), _widened(y_pred), **options), y_pred.data.dtype)
            return primitive(y_true, y_pred, **options)
        except BaseException as error:
            end_at_users_line(error)
            raise

    return loss


@_mean_of
def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    """The mean of `(y_true - y_pred)**2` over the last axis.

    >>> from minikeras import losses
    >>> losses.mean_squared_error([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=(1,) dtype=float32>
    array([2.], dtype=float32)
    """
    return "squared", 0.0


@_mean_of
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """The mean of `|y_true - y_pred|` over the last axis.

    >>> from minikeras import losses
    >>> losses.mean_absolute_error([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=(1,) dtype=float32>
    array([1.], dtype=float32)
    """
    return "absolute", 0.0


@_mean_of
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """100 times the mean of `|y_true - y_pred| / |y_true|` over the last axis; the divisor is at least epsilon.

    >>> from minikeras import losses
    >>> losses.mean_absolute_percentage_error([[1.0, 2.0]], [[1.5, 2.0]])
    <Tensor shape=(1,) dtype=float32>
    array([25.], dtype=float32)
    """
    return "percentage", settings.epsilon()


@_mean_of
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """The mean of `(log(y_true + 1) - log(y_pred + 1))**2` over the last axis; both are at least epsilon.

    >>> from minikeras import losses
    >>> losses.mean_squared_logarithmic_error([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=(1,) dtype=float32>
    array([0.6034744], dtype=float32)
    """
    return "squared_logarithmic", settings.epsilon()


@_mean_of
def _huber(y_true: Any, y_pred: Any, *, delta: float) -> Any:
    return "huber", delta


@user_facing
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """The mean over the last axis of `d**2 / 2` where `|d| <= delta`, else `delta * (|d| - delta / 2)` (Huber 1964).

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import losses
    >>> losses.huber([[0.0, 0.0]], [[0.5, 3.0]])
    <Tensor shape=(1,) dtype=float32>
    array([1.3125], dtype=float32)
    """
    return _huber(y_true, y_pred, delta=delta)


@_mean_of
def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """The mean of `log(cosh(y_pred - y_true))` over the last axis, without overflow.

    >>> from minikeras import losses
    >>> losses.log_cosh([[0.0, 1.0]], [[1.0, 1.0]])
    <Tensor shape=(1,) dtype=float32>
    array([0.2168904], dtype=float32)
    """
    return "log_cosh", 0.0


@_mean_of
def hinge(y_true: Any, y_pred: Any) -> Any:
    """The mean of `max(1 - y_true * y_pred, 0)` over the last axis; targets are -1 and 1, or 0 and 1.

    >>> from minikeras import losses
    >>> losses.hinge([[1.0, -1.0]], [[0.6, 0.4]])
    <Tensor shape=(1,) dtype=float32>
    array([0.9], dtype=float32)
    """
    return "hinge", 0.0


@_mean_of
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """The mean of `max(1 - y_true * y_pred, 0)**2` over the last axis; targets are -1 and 1, or 0 and 1.

    >>> from minikeras import losses
    >>> losses.squared_hinge([[1.0, -1.0]], [[0.6, 0.4]])
    <Tensor shape=(1,) dtype=float32>
    array([1.06], dtype=float32)
    """
    return "squared_hinge", 0.0


@_mean_of
def poisson(y_true: Any, y_pred: Any) -> Any:
    """The mean of `y_pred - y_true * log(y_pred)` over the last axis.

    >>> from minikeras import losses
    >>> losses.poisson([[0.0, 1.0]], [[1.0, 2.0]])
    <Tensor shape=(1,) dtype=float32>
    array([1.1534264], dtype=float32)
    """
    return "poisson", settings.epsilon()


# ---------------------------------------------------------------- loss functions: sums over the last axis


@_mean_of
def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """The sum of `y_true * log(y_true / y_pred)` over the last axis; both are limited to epsilon ... 1.

    >>> from minikeras import losses
    >>> losses.kl_divergence([[0.5, 0.5]], [[0.25, 0.75]])
    <Tensor shape=(1,) dtype=float32>
    array([0.14384106], dtype=float32)
    """
    return "kl_divergence", settings.epsilon()


@_in_single
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """`max(1 + largest wrong score - right score, 0)` for one-hot targets.

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import losses
    >>> losses.categorical_hinge([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=(1,) dtype=float32>
    array([0.39999998], dtype=float32)
    """
    return _largest_margin(*paired(y_true, y_pred))


@differentiable(shape=_mean_shape)
def _largest_margin(y_true: Any, y_pred: Any) -> Any:
    def vjp(g: Any, needs: Any) -> Any:
        return (
            unbroadcast(k.largest_margin_grad(g, y_true, y_pred, True), y_true) if needs[0] else None,
            unbroadcast(k.largest_margin_grad(g, y_true, y_pred), y_pred) if needs[1] else None,
        )

    return k.largest_margin(y_true, y_pred), vjp


@_in_single
def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Minus the cosine of the angle between the vectors along `axis`: -1 for the same direction.

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import losses
    >>> losses.cosine_similarity([[0.0, 1.0]], [[1.0, 1.0]])
    <Tensor shape=(1,) dtype=float32>
    array([-0.70710677], dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    _check_axis(axis, y_pred)
    if axis not in (-1, len(y_pred.shape) - 1):
        y_true, y_pred = ops.moveaxis(y_true, axis, -1), ops.moveaxis(y_pred, axis, -1)
    return _cosine(y_true, y_pred, epsilon=settings.epsilon())


@differentiable(shape=_mean_shape)
def _cosine(y_true: Any, y_pred: Any, *, epsilon: float) -> Any:
    """Minus the cosines of rows; a vector shorter than epsilon becomes short instead of infinite."""

    def vjp(g: Any, needs: Any) -> Any:
        return (
            unbroadcast(k.cosine_grad(g, y_true, y_pred, epsilon), y_true) if needs[0] else None,
            unbroadcast(k.cosine_grad(g, y_pred, y_true, epsilon), y_pred) if needs[1] else None,
        )

    return k.cosine(y_true, y_pred, epsilon), vjp


# ---------------------------------------------------------------- loss functions: cross-entropies


@_in_single
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """`-sum(y_true * log(y_pred))` along the class axis.

    Args:
        y_true: class weights (n, ..., classes), usually one-hot.
        y_pred: probabilities of the same shape, or logits.
        from_logits: whether `y_pred` are logits.
        label_smoothing: the part s in `y_true * (1 - s) + s / classes`.
        axis: the class axis.

    >>> from minikeras import losses
    >>> losses.categorical_crossentropy([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=(1,) dtype=float32>
    array([0.22314353], dtype=float32)
    """
    _check_axis(axis, y_pred)
    y_true = _targets(y_true, y_pred.dtype)
    y_true = _smoothed(y_true, label_smoothing, y_true.shape[axis] if label_smoothing else 1)
    if y_pred.shape[axis] == 1:
        warnings.warn(
            f"categorical_crossentropy needs two classes or more, got predictions of shape {tuple(y_pred.shape)}; "
            "for two classes in one number use binary_crossentropy.",
            SyntaxWarning,
            stacklevel=3,
        )
    return nn.categorical_crossentropy(y_true, y_pred, from_logits, axis)


def _smoothed(y_true: Any, smoothing: float, classes: int) -> Any:
    """`y_true` with the part `smoothing` of it spread evenly over so many classes."""
    if smoothing and isinstance(y_true, Tensor) and not y_true.tracked:
        return Tensor(k.scaled_sum(y_true.data, None, 1.0 - smoothing, smoothing / classes))
    return y_true * (1.0 - smoothing) + smoothing / classes if smoothing else y_true


def _check_axis(axis: Any, y_pred: Any) -> None:
    """Refuse an axis that predictions do not have.

    Raises:
        ValueError: the axis is out of range.
    """
    if axis != -1 and not -len(y_pred.shape) <= axis < len(y_pred.shape):
        raise ValueError(
            f"axis must name an axis of predictions of shape {tuple(y_pred.shape)}, got {axis!r}; the last one is -1."
        )


@_in_single
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """`-log(y_pred)` at the class that the label names.

    Args:
        y_true: integer labels (n, ...), or with a class axis of size 1.
        y_pred: probabilities (n, ..., classes), or logits.
        from_logits: whether `y_pred` are logits.
        ignore_class: the label that counts for nothing, such as 255 or -1 for unlabelled pixels.
        axis: the class axis.

    >>> from minikeras import losses
    >>> losses.sparse_categorical_crossentropy([1], [[0.2, 0.8]])
    <Tensor shape=(1,) dtype=float32>
    array([0.22314353], dtype=float32)
    """
    labels = _tensor(y_true)
    _check_axis(axis, y_pred)
    if len(labels.shape) == len(y_pred.shape) and labels.shape[axis] == 1:
        labels = ops.squeeze(labels, axis)
    if ignore_class is None:
        return nn.sparse_categorical_crossentropy(labels, y_pred, from_logits, axis)
    counted = ops.not_equal(labels, ignore_class)
    labels = ops.where(counted, labels, 0)
    values = nn.sparse_categorical_crossentropy(labels, y_pred, from_logits, axis)
    values = ops.where(counted, values, 0.0)
    values._keras_mask = counted
    return values


@_mean_of
def _binary_crossentropy(y_true: Any, y_pred: Any, *, from_logits: bool) -> Any:
    return ("binary_logits", 0.0) if from_logits else ("binary", settings.epsilon())


@_in_single
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """The mean over `axis` of `-y_true * log(y_pred) - (1 - y_true) * log(1 - y_pred)`.

    Args:
        y_true: targets in 0 ... 1.
        y_pred: probabilities of the same shape, or logits.
        from_logits: whether `y_pred` are logits.
        label_smoothing: the part s in `y_true * (1 - s) + s / 2`.
        axis: the axis of the mean.

    >>> from minikeras import losses
    >>> losses.binary_crossentropy([[0.0, 1.0]], [[0.1, 0.8]])
    <Tensor shape=(1,) dtype=float32>
    array([0.16425204], dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    if y_true.shape != y_pred.shape:
        raise misfit("binary_crossentropy needs targets and predictions of one shape", y_true, y_pred)
    y_true = _smoothed(y_true, label_smoothing, 2)
    logits = None if from_logits else logits_behind(y_pred, ops.sigmoid)
    if logits is not None:
        y_pred, from_logits = logits, True
    if axis not in (-1, len(y_pred.shape) - 1):
        _check_axis(axis, y_pred)
        y_true, y_pred = ops.moveaxis(y_true, axis, -1), ops.moveaxis(y_pred, axis, -1)
    return _binary_crossentropy(y_true, y_pred, from_logits=from_logits)


@_in_single
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """Binary cross-entropy, each element weighted by `(1 - p)**gamma`, p the truth's probability (Lin et al. 2017).

    Args:
        apply_class_balancing: whether ones are weighted by `alpha` and zeros by `1 - alpha` too.
        y_true, y_pred, from_logits, label_smoothing, axis: as for `binary_crossentropy`.

    >>> from minikeras import losses
    >>> losses.binary_focal_crossentropy([[0.0, 1.0]], [[0.1, 0.8]], gamma=1.0)
    <Tensor shape=(1,) dtype=float32>
    array([0.02758238], dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    y_true = _smoothed(y_true, label_smoothing, 2)
    if from_logits:
        y_pred = nn.sigmoid(y_pred)
    values = nn.binary_crossentropy(y_true, y_pred)
    values = values * ops.power(1.0 - (y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)), gamma)
    if apply_class_balancing:
        values = values * (y_true * alpha + (1.0 - y_true) * (1.0 - alpha))
    _check_axis(axis, y_pred)
    return ops.mean(values, axis=axis)


@_in_single
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The sum along `axis` of `-alpha * (1 - y_pred)**gamma * y_true * log(y_pred)` (Lin et al. 2017).

    Args:
        alpha: a number, or one for each class.
        y_true, y_pred, from_logits, label_smoothing, axis: as for `categorical_crossentropy`.

    >>> from minikeras import losses
    >>> losses.categorical_focal_crossentropy([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=(1,) dtype=float32>
    array([0.00223144], dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    _check_axis(axis, y_pred)
    y_true = _smoothed(y_true, label_smoothing, y_true.shape[axis])
    if from_logits:
        y_pred = nn.softmax(y_pred, axis=axis)
    y_pred = y_pred / ops.sum(y_pred, axis=axis, keepdims=True)
    y_pred = ops.clip(y_pred, settings.epsilon(), 1.0 - settings.epsilon())
    weights: Any = alpha
    if not isinstance(alpha, numbers.Real):
        classes = range(len(y_pred.shape))
        weights = ops.reshape(ops.cast(alpha, y_pred.dtype), [-1 if i == classes[axis] else 1 for i in classes])
    return ops.sum(-weights * ops.power(1.0 - y_pred, gamma) * y_true * ops.log(y_pred), axis=axis)


@_in_single
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Any:
    """`(1 - p**q) / q`, p being the probability of the class that the label names (Zhang and Sabuncu 2018).

    It grows from the mean absolute error (q = 1) to the cross-entropy (q to 0), so that wrong labels count for less.

    Args:
        y_true: integer labels (n, ...), or with a class axis of size 1.
        y_pred: probabilities (n, ..., classes).
        q: between 0 and 1.

    Raises:
        ValueError: for one-hot labels, and on the host for a label that is no class.

    >>> from minikeras import losses
    >>> losses.categorical_generalized_cross_entropy([1], [[0.75, 0.25]], q=0.5).numpy().tolist()
    [1.0]
    """
    y_pred, labels = _tensor(y_pred), _tensor(y_true)
    if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) != len(y_pred.shape) - 1:
        raise ValueError(
            "categorical_generalized_cross_entropy takes the number of a class for each sample, got labels of shape "
            f"{tuple(labels.shape)} for probabilities of shape {tuple(y_pred.shape)}; argmax(y_true, -1) makes numbers "
            "of one-hot labels."
        )
    on_host = k.xp is np and isinstance(labels, Tensor)
    labels = Tensor(class_numbers(labels.data, y_pred.shape[-1])) if on_host else ops.cast(labels, "int32")
    p = ops.squeeze(ops.take_along_axis(y_pred, ops.expand_dims(labels, -1), axis=-1), -1)
    return (1 - ops.power(p, q)) / q


def _class_numbers(y_true: Any) -> Any:
    """Labels as integers; on the host those that are no whole numbers are refused."""
    labels = _tensor(y_true)
    if k.xp is np and isinstance(labels, Tensor) and labels.data.dtype.kind == "f":
        return Tensor(nn.whole_labels(labels.data))
    return ops.cast(labels, "int32")


@_in_single
def ctc(y_true: Any, y_pred: Any) -> Any:
    """Connectionist temporal classification, see `ops.ctc_loss`; the class 0 is the blank.

    Args:
        y_true: integer labels (n, length), filled up with 0.
        y_pred: logits (n, frames, classes), of which all frames count.

    Raises:
        ValueError: for other shapes; on the host for a label that is no class, and for a 0 before a label.

    >>> import numpy as np
    >>> from minikeras import losses
    >>> round(float(np.exp(-losses.ctc([[1, 0]], np.zeros((1, 2, 3), "float32")).numpy()[0])), 4)
    0.3333
    """
    labels, y_pred = _class_numbers(y_true), _tensor(y_pred)
    if len(labels.shape) != 2 or len(y_pred.shape) != 3:
        raise misfit("ctc needs labels (n, length) and logits (n, frames, classes)", labels, y_pred)
    counts = ops.sum(ops.cast(ops.not_equal(labels, 0), "int32"), axis=-1)
    return ops.ctc_loss(labels, y_pred, counts, ops.zeros_like(counts) + y_pred.shape[1])


# ---------------------------------------------------------------- loss functions: distances of embeddings


@_in_single
def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Any:
    """The circle loss of embeddings: those of a class close, those of others far (Sun et al. 2020).

    With d the cosine distance (at least 0), `softplus(logsumexp(gamma * (margin + d) * (d - margin)) + logsumexp(gamma
    * max(1 + margin - d, 0) * (1 - margin - d)))`, the first sum over the same class, the second over all others.

    Args:
        y_true: integer labels (n,) or (n, 1).
        y_pred: embeddings (n, size) of length 1.
        ref_labels, ref_embeddings: what they are compared with, default themselves.
        remove_diagonal: whether the i-th is not compared with the i-th of these.
        gamma: scale of the weights.
        margin: how far the classes are to be apart.

    Returns:
        Losses (n,); one of 0, as of what is alone in its class, is masked.

    >>> import numpy as np
    >>> from minikeras import losses
    >>> loss = losses.circle([0, 0, 1], np.eye(3, dtype="float32"), gamma=1.0, margin=0.5)
    >>> [round(float(value), 4) for value in loss]
    [0.9741, 0.9741, 0.0]
    """
    y_pred, labels = _tensor(y_pred), ops.reshape(ops.cast(y_true, "int32"), (-1, 1))
    others = y_pred if ref_embeddings is None else _tensor(ref_embeddings)
    other_labels = labels if ref_labels is None else ops.reshape(ops.cast(ref_labels, "int32"), (-1, 1))
    distance = ops.maximum(1 - ops.matmul(y_pred, ops.transpose(others)), 0.0)
    same = ops.equal(labels, ops.transpose(other_labels))
    near = distance + margin
    far = ops.maximum(1 + margin - distance, 0.0)
    attracted = same
    if remove_diagonal:
        attracted = ops.logical_and(same, ops.logical_not(ops.eye(len(same), same.shape[1], dtype="bool")))
    none = -1e9  # of a class without others: in effect no term, and a gradient that is 0 where -inf has none
    positive = ops.logsumexp(ops.where(attracted, gamma * near * (distance - margin), none), axis=1)
    negative = ops.logsumexp(ops.where(same, none, gamma * far * (1 - margin - distance)), axis=1)
    values = ops.softplus(positive + negative)
    values._keras_mask = values > 0
    return values


# ---------------------------------------------------------------- loss functions: overlap of regions


@_in_single
def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """`1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred))` over `axis`, default all.

    >>> from minikeras import losses
    >>> losses.dice([[1.0, 0.0]], [[0.5, 0.5]])
    <Tensor shape=() dtype=float32>
    array(0.5, dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * both / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + settings.epsilon())


@_in_single
def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Any:
    """`1 - b / (b + alpha * t + beta * p)` (Salehi et al. 2017), sums over `axis`, default all.

    b is the sum of `y_true * y_pred`, t that of `y_true * (1 - y_pred)` and p that of `y_pred * (1 - y_true)`.

    >>> from minikeras import losses
    >>> losses.tversky([[1.0, 0.0]], [[0.5, 0.5]])
    <Tensor shape=() dtype=float32>
    array(0.50000006, dtype=float32)
    """
    y_true, y_pred = paired(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    only_true = ops.sum(y_true * (1.0 - y_pred), axis=axis)
    only_pred = ops.sum(y_pred * (1.0 - y_true), axis=axis)
    return 1.0 - both / (both + alpha * only_true + beta * only_pred + settings.epsilon())


# ---------------------------------------------------------------- weights, masks, reduction


@differentiable(rounds=False)
def _weighted_total(values: Any, weights: Any = None, *, factor: float | None) -> Any:
    """`sum(values * weights) * factor`; without a factor divided by the sum of weights, 0 where that is 0."""
    single = k.cast(values, "float32") if values.dtype.char in "eE" else values  # float16's sums end at 65504
    y, factor = k.weighted_total(single, weights, factor)

    def vjp(g: Any, needs: Any) -> Any:
        return k.weighted_total_grad(g, values, weights, factor), None

    return (y if y.dtype is values.dtype else y.astype(values.dtype)), vjp


def combine_weights(sample_weight: Any, mask: Any, dtype: Any, reduction: str | None) -> Any:
    """One raw array of weights from sample weights and a mask, either of them None; None without both.

    Under a reduction to the mean a mask is scaled such that the mean is taken over the elements that it lets through.
    """
    if np.dtype(dtype).itemsize == 2:  # which can hold neither the sum of many weights nor what a mask is scaled by
        dtype = "float32"
    weights = None if sample_weight is None else _as_weights(raw(sample_weight), dtype)
    if mask is None:
        return weights
    return k.weights_of_mask(raw(mask), weights, np.dtype(dtype), reduction in ("mean", "sum_over_batch_size"))


def _as_weights(weights: Any, dtype: Any) -> Any:
    return as_type(weights, dtype) if isinstance(weights, (bool, int, float)) else k.cast(weights, np.dtype(dtype))


def _reduced(values: Any, weights: Any, reduction: str | None) -> Any:
    """The loss from the values per sample and their weights (a raw array or None).

    One value for the whole batch counts as often as there are weights.
    """
    if weights is not None and weights.shape != values.shape:
        weights = fitted(weights, values.shape)
        if values.size == 1 and weights.shape != values.shape:
            values = ops.broadcast_to(ops.reshape(values, ()), weights.shape)
        if any(n not in (1, m) for n, m in zip(weights.shape[::-1], values.shape[::-1], strict=False)):
            raise ValueError(
                f"The sample weights have shape {tuple(weights.shape)}, which does not go with losses of shape "
                f"{tuple(values.shape)}; give one weight for each of them."
            )
    if reduction in (None, "none") or values.shape == ():  # one value times one weight, whatever the reduction
        return values if weights is None else values * weights
    if reduction == "mean_with_sample_weight" and weights is not None:
        return _weighted_total(values, weights, factor=None)
    return _weighted_total(values, weights, factor=1.0 if reduction == "sum" else 1 / max(values.size, 1))


@differentiable
def _combined(*values: Any, factors: tuple[float | None, ...]) -> Any:
    """The sum of numbers, each times its factor (None: 1)."""
    y, first, *others = values[0], *[1.0 if factor is None else factor for factor in factors]
    if not others:
        y = k.scaled_sum(y, None, first, 0.0)
    for value, factor in zip(values[1:], others, strict=True):
        y, first = k.scaled_sum(y, value, first, factor), 1.0

    def vjp(g: Any, needs: Any) -> Any:
        return tuple([g if factor is None else k.scaled_sum(g, None, factor, 0.0) for factor in factors])

    return y, vjp


def combined(values: Sequence[Any], factors: Sequence[float | None]) -> Any:
    """The sum of losses (scalar tensors, or symbolic ones), each times its factor, None being 1."""
    if len(values) == 1 and factors[0] is None:
        return values[0]
    if all(isinstance(value, Tensor) and not value.data.ndim and value.data.dtype.char == "f" for value in values):
        return _combined(*values, factors=tuple(factors))
    scaled = [value if factor is None else value * factor for value, factor in zip(values, factors, strict=True)]
    return functools.reduce(operator.add, scaled)


# ---------------------------------------------------------------- classes


def number_type(dtype: Any) -> np.dtype:
    """The type that a loss or metric computes in: a name or policy, None for `floatx()`."""
    return np.dtype(dtype.compute_dtype if isinstance(dtype, DTypePolicy) else settings.standardize_dtype(dtype))


class Reduction:
    """The reductions that Keras 2 programs name, `Reduction.AUTO` being `SUM_OVER_BATCH_SIZE`.

    >>> from minikeras._legacy.losses import Reduction
    >>> Reduction.SUM
    'sum'
    """

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """All of them."""
        return cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE

    @classmethod
    def validate(cls, key: Any) -> None:
        """Refuse what is none.

        Raises:
            ValueError: for another word.
        """
        one_of("A reduction", key, cls.all())


class Loss(Configured):
    """Base class: subclasses write `call(y_true, y_pred)`, which returns one value per sample.

    Args:
        name: default the class name in snake case.
        reduction: `"sum_over_batch_size"` and `"mean"` divide the sum by the number of values, `"sum"` does not divide,
            `"mean_with_sample_weight"` divides by the sum of the weights, `"none"` or None leaves the values.
        dtype: number type of the computation, default `floatx()`.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import ops
    >>> class Cubic(keras.Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ops.mean(ops.abs(y_pred - y_true) ** 3, axis=-1)
    ...
    >>> Cubic()(np.zeros((2, 1)), np.ones((2, 1)))
    <Tensor shape=() dtype=float32>
    array(1., dtype=float32)
    """

    _integer_targets = False  # whether `call` takes labels as they are

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None):
        reduction = Reduction.SUM_OVER_BATCH_SIZE if reduction == Reduction.AUTO else reduction
        self.name: Any = name or unique_name(snake_case(type(self).__name__))
        self.reduction = one_of("reduction", reduction, REDUCTIONS, owner="A loss")
        self._dtype = number_type(dtype)
        if self._dtype.char not in FLOATS:
            raise ValueError(f"A loss's dtype must be a float type, got {dtype!r}.")

    @property
    def dtype(self) -> str:
        return str(self._dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One value per sample."""
        raise NotImplementedError(f"{type(self).__name__} does not define call(); return one value per sample there.")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch, a scalar tensor unless the reduction is none.

        Args:
            y_true, y_pred: targets and predictions; structures of them where `call` takes structures.
            sample_weight: one weight per sample, or per value that `call` returns.
        """
        try:
            mask = getattr(y_pred, "_keras_mask", None)
            values = self.call(self._convert(y_true, self._integer_targets), self._convert(y_pred))
            if isinstance(values, KerasTensor):
                return self._symbolic(values, (y_true, y_pred), sample_weight)
            if not (isinstance(values, Tensor) and values.tracked):
                self._check_values(values, y_pred)
            if values.dtype != self._dtype:
                values = _narrowed(values, self._dtype)
            own = getattr(values, "_keras_mask", None)
            if own is not None:
                mask = own if mask is None else Tensor(raw(mask).astype(bool) & raw(own))
            weights = None
            if sample_weight is not None or mask is not None:
                weights = combine_weights(sample_weight, mask, self._dtype, self.reduction)
            return _reduced(values, weights, self.reduction)
        except BaseException as error:
            end_at_users_line(error)
            raise

    def _symbolic(self, values: KerasTensor, ends: Any, sample_weight: Any) -> KerasTensor:
        """The loss of symbolic targets and predictions, each sample counting the same.

        Raises:
            ValueError: where they are values, and where there are weights.
        """
        if not is_symbolic(ends):
            raise ValueError(
                f"The loss {self.name!r} refers to a symbolic tensor, which has no value here: it gave {values!r}; add "
                "the part that needs the tensor with model.add_loss()."
            )
        if sample_weight is not None:
            raise ValueError(
                f"The loss {self.name!r} of symbolic tensors takes no weights, got {sample_weight!r:.80}; multiply the "
                "values of a loss function by them."
            )
        if self.reduction in (None, "none"):
            return values
        return ops.sum(values) if self.reduction == "sum" else ops.mean(values)

    def _check_values(self, values: Any, y_pred: Any) -> None:
        """Refuse what `call` returned where it is no tensor, or while training where no gradient would come from it.

        Raises:
            ValueError: naming this loss.
        """
        if not isinstance(values, (Tensor, KerasTensor)):
            what = "None" if values is None else f"an object of type {type(values).__name__}"
            raise ValueError(
                f"The loss {self.name!r} must return a tensor made from y_pred by operations of minikeras.ops, got "
                f"{what}; write it with minikeras.ops and without NumPy."
            )
        if is_recording() and any(getattr(leaf, "tracked", False) for leaf in tree.flatten(y_pred)):
            raise ValueError(
                f"The loss {self.name!r} must depend on y_pred, got a tensor of shape {tuple(values.shape)} that no "
                "gradient leads through; compute it from y_pred with differentiable functions of minikeras.ops."
            )

    def _convert(self, value: Any, keep_type: bool = False) -> Any:
        """Targets or predictions as tensors of the loss's type; a tensor that is one already is itself."""
        if isinstance(value, Tensor):
            if keep_type or value.data.dtype is self._dtype or value.data.dtype == self._dtype:
                return value
            return ops.cast(value, self._dtype)
        if isinstance(value, KerasTensor):
            return value
        if isinstance(value, (list, tuple, dict)) and any(hasattr(leaf, "shape") for leaf in tree.flatten(value)):
            return tree.map_structure(functools.partial(self._convert, keep_type=keep_type), value)
        array = as_array(raw(value))
        return Tensor(array if keep_type else k.cast(array, self._dtype))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def described(function: Callable) -> Any:
    """A function within a configuration: Keras reads a bare name there as a string."""
    name = registry.serialize_keras_object(function)
    if not isinstance(name, str):
        return name
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _switch(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or (is_whole(value) and value in (0, 1))


def Option(fits: Callable[[Any], bool], words: str) -> Check:
    """The check of an option of a loss or metric, kept as it is: a test that NaN fails, and its words."""

    def check(owner: Any, name: str, value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"{type(owner).__name__}'s {name} must be {words}, got {value!r}.")
        return value

    return check


def _are_axes(value: Any) -> bool:
    return value is None or all(is_whole(one) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _are_weights(value: Any) -> bool:
    return bool(np.size(value)) and all(is_number(one) and one >= 0 for one in np.ravel(value).tolist())


AtLeast0 = Annotated[float, Option(lambda value: is_number(value) and 0 <= value < math.inf, "a number of at least 0")]
Above0 = Annotated[float, Option(lambda value: is_number(value) and value > 0, "a number above 0")]
Share = Annotated[float, Option(lambda value: is_number(value) and 0 <= value <= 1, "a number between 0 and 1")]
Switch = Annotated[bool, Option(_switch, "True or False")]
Axis = Annotated[Any, Option(_are_axes, "a whole number")]
ClassNumber = Annotated[int | None, Option(lambda value: value is None or is_whole(value), "a whole number or None")]
Weights = Annotated[Any, Option(_are_weights, "a number of at least 0")]


_OF_LABELS = (sparse_categorical_crossentropy, categorical_generalized_cross_entropy, circle, ctc)


class LossFunctionWrapper(Loss):
    """A loss from a function of `(y_true, y_pred)`.

    Args:
        fn: returns one value per sample.
        reduction, name, dtype: as for `Loss`.
        kwargs: passed on to `fn`.
    """

    def __init__(
        self,
        fn: Callable,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name, reduction, dtype)
        self.fn = fn
        self._fn_kwargs = kwargs
        self._integer_targets = fn in _OF_LABELS

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if not self._integer_targets and isinstance(y_true, Tensor) and isinstance(y_pred, Tensor):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": described(self.fn), **registry.serialize_keras_object(self._fn_kwargs)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        return cls(**{**config, "fn": get(config["fn"])} if "fn" in config else config)


class _BuiltInLoss(LossFunctionWrapper):
    """A loss from one of the functions above, whose options are fields."""

    function: Callable
    hidden: tuple[tuple[str, Any], ...] = ()  # options that Keras does not write, unless they have another value
    first: tuple[str, ...] = ()  # options that it writes before the others

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = "", dtype: Any = None):
        super().__init__(type(self).function, reduction, type(self).function.__name__ if name == "" else name, dtype)

    def __post_init__(self) -> None:
        self._fn_kwargs = {name: getattr(self, name) for name in fields(self) if name not in _COMMON}

    def get_config(self) -> dict[str, Any]:
        config = in_order(Loss.get_config(self), "name", "reduction", *self.first)
        return {key: value for key, value in config.items() if (key, value) not in self.hidden}


_COMMON = frozenset({"reduction", "name", "dtype"})
_MEAN = "sum_over_batch_size"


class MeanSquaredError(_BuiltInLoss):
    """`mean_squared_error` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.MeanSquaredError()([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=() dtype=float32>
    array(2., dtype=float32)
    """

    function = staticmethod(mean_squared_error)


class MeanAbsoluteError(_BuiltInLoss):
    """`mean_absolute_error` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.MeanAbsoluteError()([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=() dtype=float32>
    array(1., dtype=float32)
    """

    function = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(_BuiltInLoss):
    """`mean_absolute_percentage_error` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.MeanAbsolutePercentageError()([[1.0, 2.0]], [[1.5, 2.0]])
    <Tensor shape=() dtype=float32>
    array(25., dtype=float32)
    """

    function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(_BuiltInLoss):
    """`mean_squared_logarithmic_error` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.MeanSquaredLogarithmicError()([[0.0, 1.0]], [[2.0, 1.0]])
    <Tensor shape=() dtype=float32>
    array(0.6034744, dtype=float32)
    """

    function = staticmethod(mean_squared_logarithmic_error)


class LogCosh(_BuiltInLoss):
    """`log_cosh` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.LogCosh()([[0.0, 1.0]], [[1.0, 1.0]])
    <Tensor shape=() dtype=float32>
    array(0.2168904, dtype=float32)
    """

    function = staticmethod(log_cosh)


class Hinge(_BuiltInLoss):
    """`hinge` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.Hinge()([[1.0, -1.0]], [[0.6, 0.4]])
    <Tensor shape=() dtype=float32>
    array(0.9, dtype=float32)
    """

    function = staticmethod(hinge)


class SquaredHinge(_BuiltInLoss):
    """`squared_hinge` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.SquaredHinge()([[1.0, -1.0]], [[0.6, 0.4]])
    <Tensor shape=() dtype=float32>
    array(1.06, dtype=float32)
    """

    function = staticmethod(squared_hinge)


class CategoricalHinge(_BuiltInLoss):
    """`categorical_hinge` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.CategoricalHinge()([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=() dtype=float32>
    array(0.39999998, dtype=float32)
    """

    function = staticmethod(categorical_hinge)


class KLDivergence(_BuiltInLoss):
    """`kl_divergence` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]])
    <Tensor shape=() dtype=float32>
    array(0.14384106, dtype=float32)
    """

    function = staticmethod(kl_divergence)


class Poisson(_BuiltInLoss):
    """`poisson` reduced over the batch.

    >>> from minikeras import losses
    >>> losses.Poisson()([[0.0, 1.0]], [[1.0, 2.0]])
    <Tensor shape=() dtype=float32>
    array(1.1534264, dtype=float32)
    """

    function = staticmethod(poisson)


@declared
class Huber(_BuiltInLoss):
    """`huber` reduced over the batch.

    Args:
        delta: the error where the loss turns from quadratic to linear.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.Huber(delta=1.0)([[0.0, 0.0]], [[0.5, 3.0]])
    <Tensor shape=() dtype=float32>
    array(1.3125, dtype=float32)
    """

    function = staticmethod(huber)
    hidden = (("delta", 1.0),)

    delta: Above0 = 1.0
    reduction: str | None = _MEAN
    name: str | None = "huber_loss"
    dtype: Any = None


@declared
class CosineSimilarity(_BuiltInLoss):
    """`cosine_similarity` reduced over the batch.

    Args:
        axis: the axis of the vectors.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.CosineSimilarity()([[0.0, 1.0]], [[1.0, 1.0]])
    <Tensor shape=() dtype=float32>
    array(-0.70710677, dtype=float32)
    """

    function = staticmethod(cosine_similarity)
    hidden = (("axis", -1),)

    axis: Axis = -1
    reduction: str | None = _MEAN
    name: str | None = "cosine_similarity"
    dtype: Any = None


@declared
class BinaryCrossentropy(_BuiltInLoss):
    """`binary_crossentropy` reduced over the batch.

    Args:
        from_logits, label_smoothing, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.BinaryCrossentropy()([[0.0], [1.0]], [[0.1], [0.8]])
    <Tensor shape=() dtype=float32>
    array(0.16425204, dtype=float32)
    """

    function = staticmethod(binary_crossentropy)

    from_logits: Switch = False
    label_smoothing: Share = 0.0
    axis: Axis = -1
    reduction: str | None = _MEAN
    name: str | None = "binary_crossentropy"
    dtype: Any = None


@declared
class BinaryFocalCrossentropy(_BuiltInLoss):
    """`binary_focal_crossentropy` reduced over the batch.

    Args:
        apply_class_balancing, alpha, gamma, from_logits, label_smoothing, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.BinaryFocalCrossentropy(gamma=2.0)([[0.0], [1.0]], [[0.1], [0.8]])
    <Tensor shape=() dtype=float32>
    array(0.00498967, dtype=float32)
    """

    function = staticmethod(binary_focal_crossentropy)
    first = ("from_logits", "label_smoothing", "axis")

    apply_class_balancing: Switch = False
    alpha: Share = 0.25
    gamma: AtLeast0 = 2.0
    from_logits: Switch = False
    label_smoothing: Share = 0.0
    axis: Axis = -1
    reduction: str | None = _MEAN
    name: str | None = "binary_focal_crossentropy"
    dtype: Any = None


@declared
class CategoricalCrossentropy(_BuiltInLoss):
    """`categorical_crossentropy` reduced over the batch.

    Args:
        from_logits, label_smoothing, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.CategoricalCrossentropy()([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=() dtype=float32>
    array(0.22314353, dtype=float32)
    """

    function = staticmethod(categorical_crossentropy)

    from_logits: Switch = False
    label_smoothing: Share = 0.0
    axis: Axis = -1
    reduction: str | None = _MEAN
    name: str | None = "categorical_crossentropy"
    dtype: Any = None


@declared
class CategoricalFocalCrossentropy(_BuiltInLoss):
    """`categorical_focal_crossentropy` reduced over the batch.

    Args:
        alpha, gamma, from_logits, label_smoothing, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.CategoricalFocalCrossentropy()([[0.0, 1.0]], [[0.2, 0.8]])
    <Tensor shape=() dtype=float32>
    array(0.00223144, dtype=float32)
    """

    function = staticmethod(categorical_focal_crossentropy)
    first = ("from_logits", "label_smoothing", "axis")

    alpha: Weights = 0.25
    gamma: AtLeast0 = 2.0
    from_logits: Switch = False
    label_smoothing: Share = 0.0
    axis: Axis = -1
    reduction: str | None = _MEAN
    name: str | None = "categorical_focal_crossentropy"
    dtype: Any = None


@declared
class SparseCategoricalCrossentropy(_BuiltInLoss):
    """`sparse_categorical_crossentropy` reduced over the batch.

    Args:
        from_logits, ignore_class, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.SparseCategoricalCrossentropy()([1], [[0.2, 0.8]])
    <Tensor shape=() dtype=float32>
    array(0.22314353, dtype=float32)
    """

    function = staticmethod(sparse_categorical_crossentropy)
    hidden = (("axis", -1),)

    from_logits: Switch = False
    ignore_class: ClassNumber = None
    reduction: str | None = _MEAN
    axis: Axis = -1
    name: str | None = "sparse_categorical_crossentropy"
    dtype: Any = None


@declared
class Dice(_BuiltInLoss):
    """`dice` reduced over what `axis` leaves.

    Args:
        axis: the axes that make up one region, default all.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.Dice()([[1.0, 0.0]], [[0.5, 0.5]])
    <Tensor shape=() dtype=float32>
    array(0.5, dtype=float32)
    """

    function = staticmethod(dice)

    reduction: str | None = _MEAN
    name: str | None = "dice"
    axis: Axis = None
    dtype: Any = None


@declared
class Tversky(_BuiltInLoss):
    """`tversky` reduced over what `axis` leaves.

    Args:
        alpha, beta, axis: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> losses.Tversky(alpha=0.3, beta=0.7)([[1.0, 0.0]], [[0.5, 0.5]])
    <Tensor shape=() dtype=float32>
    array(0.50000006, dtype=float32)
    """

    function = staticmethod(tversky)

    alpha: AtLeast0 = 0.5
    beta: AtLeast0 = 0.5
    reduction: str | None = _MEAN
    name: str | None = "tversky"
    axis: Axis = None
    dtype: Any = None


class CTC(_BuiltInLoss):
    """`ctc` reduced over the batch.

    >>> import numpy as np
    >>> from minikeras import losses
    >>> round(float(losses.CTC()([[1, 0]], np.zeros((1, 2, 3), "float32"))), 4)
    1.0986
    """

    function = staticmethod(ctc)


@declared
class Circle(_BuiltInLoss):
    """`circle` reduced over the batch.

    Args:
        gamma, margin, remove_diagonal: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> import numpy as np
    >>> from minikeras import losses
    >>> round(float(losses.Circle(gamma=1.0, margin=0.5)([0, 0, 1], np.eye(3, dtype="float32"))), 4)
    0.9741
    """

    function = staticmethod(circle)

    gamma: Above0 = 80.0
    margin: Annotated[float, Option(is_number, "a number")] = 0.4
    remove_diagonal: Switch = True
    reduction: str | None = _MEAN
    name: str | None = "circle"
    dtype: Any = None


@declared
class CategoricalGeneralizedCrossEntropy(_BuiltInLoss):
    """`categorical_generalized_cross_entropy` reduced over the batch.

    Args:
        q: as for the function.
        reduction, name, dtype: as for `Loss`.

    >>> from minikeras import losses
    >>> float(losses.CategoricalGeneralizedCrossEntropy()([1], [[0.75, 0.25]]))
    1.0
    """

    function = staticmethod(categorical_generalized_cross_entropy)

    q: Annotated[float, Option(lambda value: is_number(value) and 0 < value < 1, "a number between 0 and 1")] = 0.5
    reduction: str | None = _MEAN
    name: str | None = "categorical_generalized_cross_entropy"
    dtype: Any = None


# ---------------------------------------------------------------- names

FUNCTIONS: dict[str, Callable] = {cls.function.__name__: cls.function for cls in _BuiltInLoss.__subclasses__()}
CLASSES = tuple(_BuiltInLoss.__subclasses__())

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence = kl_divergence
bce = BCE = binary_crossentropy
logcosh = log_cosh
cosine = cosine_proximity = cosine_similarity

# every name that a user or a file may use
ALL: dict[str, Any] = {
    **FUNCTIONS,
    **{cls.__name__: cls for cls in CLASSES},
    **{"mse": mse, "mae": mae, "mape": mape, "msle": msle, "kld": kld, "bce": bce},
    **{"MSE": mse, "MAE": mae, "MAPE": mape, "MSLE": msle, "KLD": kld, "BCE": bce},
    **{"logcosh": logcosh, "kullback_leibler_divergence": kl_divergence, "huber_loss": huber},  # and below, Keras 2
    **{"cosine": cosine_similarity, "cosine_proximity": cosine_similarity},
}
registry.builtin("keras.losses", *CLASSES)
registry.builtin("keras.src.losses.losses", LossFunctionWrapper)
registry.builtin_functions(FUNCTIONS)


@user_facing
def get(identifier: Any) -> Any:
    """A loss from its name (a function's or a class's), class, description or any callable; None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    >>> from minikeras import losses
    >>> losses.get("mse").__name__
    'mean_squared_error'
    """
    if isinstance(identifier, dict):  # a bare class name is a loss's, not the metric's of the same name
        identifier = {"module": "keras.losses", **identifier}
    return registry.get("loss", identifier, ALL)


def serialize(loss: Any) -> Any:
    """The description of a loss; a function's is its name.

    >>> from minikeras import losses
    >>> losses.serialize(losses.MeanSquaredError())["class_name"]
    'MeanSquaredError'
    """
    return registry.serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The loss that a name or description describes; `custom_objects` maps further names to classes and functions.

    >>> from minikeras import losses
    >>> losses.deserialize("mean_squared_error").__name__
    'mean_squared_error'
    """
    with registry.custom_object_scope(custom_objects):
        return get(name)


FOR_METRICS = (
    "Option combined check_shapes combine_weights described is_number is_whole misfit number_type paired same_rank"
)
offer_names(__name__, hidden=FOR_METRICS)
