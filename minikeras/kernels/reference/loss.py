"""Losses: cross-entropies from logits, errors of single elements, weights and masks, and the sum of all values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minikeras.kernels.table import Kernels, kernel


def _shifted_log_sum(k: Kernels, logits: Any) -> tuple[Any, Any]:
    shifted = k.empty(logits.shape, logits.dtype)
    k.xp.subtract(logits, logits.max(axis=-1, keepdims=True), out=shifted)
    return shifted, k.xp.log(k.xp.exp(shifted).sum(axis=-1))


@kernel
def cross_entropy(k: Kernels, logits: Any, target: Any, probabilities: Any = None) -> Any:
    """`-sum(target * log_softmax(logits))` along the last axis; targets are any weights of the classes.

    Whoever has the softmax of the logits already may pass it as `probabilities`.
    """
    if logits.size == 0:
        return k.empty(logits.shape[:-1], logits.dtype)
    shifted, log_sum = _shifted_log_sum(k, logits)
    return log_sum * target.sum(axis=-1) - (shifted * target).sum(axis=-1)


@kernel
def cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    """`g * (softmax(logits) * sum(target) - target)`; softmax is computed unless `probabilities` has it."""
    p = k.softmax(logits) if probabilities is None else probabilities
    out = k.empty(logits.shape, logits.dtype)
    k.xp.multiply(p, target.sum(axis=-1, keepdims=True), out=out)
    k.xp.subtract(out, target, out=out)
    return k.xp.multiply(out, g[..., None], out=out)


@kernel
def sparse_cross_entropy(k: Kernels, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """`-log_softmax(logits)[label]` along the last axis, `labels` integers of shape `logits.shape[:-1]`.

    Whoever has the softmax of the logits already may pass it as `probabilities`.
    """
    if logits.size == 0:
        return k.empty(logits.shape[:-1], logits.dtype)
    shifted, log_sum = _shifted_log_sum(k, logits)
    return log_sum - k.take_along(shifted, labels[..., None], shifted.ndim - 1)[..., 0]


@kernel
def sparse_cross_entropy_grad(k: Kernels, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """`g * (softmax(logits) - one_hot(labels))`."""
    p = k.softmax(logits) if probabilities is None else probabilities
    out = k.empty(logits.shape, logits.dtype)
    k.xp.subtract(p, labels[..., None] == k.xp.arange(logits.shape[-1]), out=out)
    return k.xp.multiply(out, g[..., None], out=out)


@kernel
def binary_cross_entropy(k: Kernels, logits: Any, target: Any) -> Any:
    """Elementwise `-t * log(sigmoid(x)) - (1 - t) * log(1 - sigmoid(x))`, as `max(x, 0) - x * t + log1p(e^-|x|)`."""
    xp = k.xp
    return xp.maximum(logits, 0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits)))


@kernel
def binary_cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any) -> Any:
    """`g * (sigmoid(logits) - target)`."""
    return g * (0.5 * k.xp.tanh(0.5 * logits) + 0.5 - target)


# ---- cross-entropies of probabilities, and likenesses of rows --------------------------------------------------------


def _normalised(k: Kernels, output: Any, epsilon: float) -> tuple[Any, Any, Any, Any]:
    """The sums of rows, shares of them, these within limits, and how much of their changes the limits let through."""
    total = output.sum(axis=-1, keepdims=True)
    share = output / total
    low, high = epsilon, 1 - epsilon
    p = k.xp.minimum(k.xp.maximum(share, low), high)
    inside = 0.5 * ((share >= low) & (share <= high)) + 0.5 * ((share > low) & (share < high))
    return total, share, p, inside.astype(output.dtype)


@kernel
def share_cross_entropy(k: Kernels, output: Any, target: Any, epsilon: float) -> Any:
    """`-sum(target * log(p))` along the last axis, p being the share of the row's sum, in [epsilon, 1 - epsilon]."""
    return -(target * k.xp.log(_normalised(k, output, epsilon)[2])).sum(axis=-1)


@kernel
def share_cross_entropy_grad(k: Kernels, g: Any, output: Any, target: Any, epsilon: float) -> Any:
    """The gradient of `share_cross_entropy` at the output."""
    total, share, p, inside = _normalised(k, output, epsilon)
    slope = -target / p * inside
    return (slope - (slope * share).sum(axis=-1, keepdims=True)) / total * g[..., None]


@kernel
def sparse_share_cross_entropy(k: Kernels, output: Any, labels: Any, epsilon: float) -> Any:
    """`-log(p)` of the class that the label names: `share_cross_entropy` of integers of shape `output.shape[:-1]`."""
    return -k.xp.log(k.take_along(_normalised(k, output, epsilon)[2], labels[..., None], output.ndim - 1)[..., 0])


@kernel
def sparse_share_cross_entropy_grad(k: Kernels, g: Any, output: Any, labels: Any, epsilon: float) -> Any:
    """The gradient of `sparse_share_cross_entropy` at the output."""
    named = (labels[..., None] == k.xp.arange(output.shape[-1])).astype(output.dtype)
    return k.share_cross_entropy_grad(g, output, named, epsilon)


@kernel
def cosine(k: Kernels, x: Any, y: Any, epsilon: float) -> Any:
    """Minus the cosine of the angle between rows; one shorter than epsilon counts as so long."""
    return -(_unit(k, x, epsilon)[0] * _unit(k, y, epsilon)[0]).sum(axis=-1)


@kernel
def cosine_grad(k: Kernels, g: Any, x: Any, y: Any, epsilon: float) -> Any:
    """The gradient of `cosine` at `x`, in the shape that both broadcast to."""
    (unit, length, inside), (other, _, _) = _unit(k, x, epsilon), _unit(k, y, epsilon)
    along = (unit * other).sum(axis=-1, keepdims=True) * inside
    return (unit * along - other) / length * g[..., None]


def _unit(k: Kernels, x: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Rows divided by their lengths, the lengths, and how much of their changes the limit lets through."""
    squares, least = k.xp.square(x).sum(axis=-1, keepdims=True), epsilon**2
    length = k.xp.sqrt(k.xp.maximum(squares, least))
    inside = (0.5 * (squares >= least) + 0.5 * (squares > least)).astype(x.dtype)
    return x / length, length, inside


@kernel
def largest_margin(k: Kernels, target: Any, output: Any) -> Any:
    """`max(1 + largest of (1 - target) * output - sum(target * output), 0)` of rows."""
    return k.xp.maximum(_margin(k, target, output)[0], 0)


@kernel
def largest_margin_grad(k: Kernels, g: Any, target: Any, output: Any, of_target: bool = False) -> Any:
    """The gradient of `largest_margin` at the output or the target, in the shape that both broadcast to."""
    margin, wrong = _margin(k, target, output)
    largest = (wrong == wrong.max(axis=-1, keepdims=True)).astype(wrong.dtype)
    largest = largest / k.xp.maximum(largest.sum(axis=-1, keepdims=True), 1)
    slope = -output * (largest + 1) if of_target else (1 - target) * largest - target
    return slope * (g * (0.5 * (margin >= 0) + 0.5 * (margin > 0)).astype(wrong.dtype))[..., None]


def _margin(k: Kernels, target: Any, output: Any) -> tuple[Any, Any]:
    wrong = (1 - target) * output
    return wrong.max(axis=-1) - (target * output).sum(axis=-1) + 1, wrong


# ---- errors of single elements ---------------------------------------------------------------------------------------

# name: (k, target, output, setting) -> (values, their slope by the target, their slope by the output), slopes as
# functions without arguments; `setting` is epsilon, or what the error is configured with
ERRORS: dict[str, Callable[[Kernels, Any, Any, float], tuple[Any, Callable, Callable]]] = {}
SUMMED = frozenset({"kl_divergence"})  # whose values are added up; of the others the mean is taken


def _error(function: Any) -> Any:
    ERRORS[function.__name__] = function
    return function


@_error
def squared(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    difference = output - target
    return difference * difference, lambda: -2 * difference, lambda: 2 * difference


@_error
def absolute(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    difference = output - target
    return k.xp.abs(difference), lambda: -k.xp.sign(difference), lambda: k.xp.sign(difference)


@_error
def percentage(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    size = k.xp.maximum(k.xp.abs(target), setting)
    ratio = (output - target) / size

    def slope_target() -> Any:
        shrinking = k.xp.abs(ratio) * k.xp.sign(target) * (k.xp.abs(target) > setting)
        return -100 * (k.xp.sign(ratio) + shrinking) / size

    return 100 * k.xp.abs(ratio), slope_target, lambda: 100 * k.xp.sign(ratio) / size


@_error
def squared_logarithmic(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    true, pred = k.xp.maximum(target, setting) + 1, k.xp.maximum(output, setting) + 1
    difference = k.xp.log(pred) - k.xp.log(true)
    return (
        difference * difference,
        lambda: -2 * difference / true * (target > setting),
        lambda: 2 * difference / pred * (output > setting),
    )


@_error
def huber(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    difference = output - target
    size = k.xp.abs(difference)
    values = k.xp.where(size <= setting, 0.5 * difference * difference, setting * size - 0.5 * setting * setting)
    return (
        values,
        lambda: -k.xp.clip(difference, -setting, setting),
        lambda: k.xp.clip(difference, -setting, setting),
    )


@_error
def log_cosh(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    difference = output - target
    size = k.xp.abs(difference)
    values = size + k.activate(-2 * size, "softplus") - math.log(2)
    return values, lambda: -k.xp.tanh(difference), lambda: k.xp.tanh(difference)


def _margins(k: Kernels, target: Any, output: Any) -> tuple[Any, Any, Any]:
    """`max(1 - target * output, 0)`, the targets as -1 and 1, and how fast these change with the given ones."""
    signs = k.signs(target)
    binary = ((target == 0) | (target == 1)).all()
    return k.xp.maximum(1 - signs * output, 0), signs, (binary + 1).astype(target.dtype)


@_error
def hinge(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    margin, signs, rate = _margins(k, target, output)
    inside = margin > 0
    return margin, lambda: -rate * output * inside, lambda: -signs * inside


@_error
def squared_hinge(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    margin, signs, rate = _margins(k, target, output)
    return margin * margin, lambda: -2 * rate * output * margin, lambda: -2 * signs * margin


@_error
def poisson(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    shifted = output + setting
    return output - target * k.xp.log(shifted), lambda: -k.xp.log(shifted), lambda: 1 - target / shifted


@_error
def binary(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    low, high = setting, 1 - setting
    p = k.xp.minimum(k.xp.maximum(output, low), high)
    log_p, log_rest = k.xp.log(p), k.xp.log(1 - p)
    return (
        -(target * log_p + (1 - target) * log_rest),
        lambda: log_rest - log_p,
        lambda: (p - target) / (p * (1 - p)) * ((output >= low) & (output <= high)),
    )


@_error
def binary_logits(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    return (
        k.binary_cross_entropy(output, target),
        lambda: -output,
        lambda: k.binary_cross_entropy_grad(1, output, target),
    )


@_error
def kl_divergence(k: Kernels, target: Any, output: Any, setting: float) -> Any:
    true, pred = (k.xp.clip(one, setting, 1) for one in (target, output))

    def inside(x: Any) -> Any:  # on a limit the slope is the mean of those on both sides
        return (0.5 * ((x >= setting) & (x <= 1)) + 0.5 * ((x > setting) & (x < 1))).astype(x.dtype)

    return (
        true * k.xp.log(true / pred),
        lambda: (k.xp.log(true / pred) + 1) * inside(target),
        lambda: -true / pred * inside(output),
    )


@kernel
def signs(k: Kernels, target: Any) -> Any:
    """Targets as -1 and 1: those that are all 0 or 1 stand for them, which is decided on the device."""
    binary = ((target == 0) | (target == 1)).all()
    return k.xp.where(binary, 2 * target - 1, target)


@kernel
def mean_error(k: Kernels, target: Any, output: Any, kind: str, setting: float = 0.0) -> Any:
    """The mean (of some kinds the sum) over the last axis of the errors of single elements, one of `ERRORS`."""
    values, _, _ = ERRORS[kind](k, target, output, setting)
    return _mean_of_rows(k, values, kind) if values.ndim else values


def _mean_of_rows(k: Kernels, values: Any, kind: str) -> Any:
    total = k.total(values, -1)
    return total if kind in SUMMED else total * (1 / max(values.shape[-1], 1))


@kernel
def mean_error_grad(
    k: Kernels, g: Any, target: Any, output: Any, kind: str, setting: float = 0.0, of_target: bool = False
) -> Any:
    """The gradient of `mean_error` at the output, or at the target, in the shape that both broadcast to."""
    _, slope_target, slope_output = ERRORS[kind](k, target, output, setting)
    slope = (slope_target if of_target else slope_output)()
    if not max(target.ndim, output.ndim):
        return slope * g
    count = 1 if kind in SUMMED else max(target.shape[-1:] + output.shape[-1:] + (1,))
    return slope * (g[..., None] * (1 / count))


# ---- weights, and the sum of all values ------------------------------------------------------------------------------


@kernel
def weighted_total(k: Kernels, values: Any, weights: Any = None, factor: float | None = None) -> tuple[Any, Any]:
    """(`sum(values * weights) * factor`, the factor).

    Weights broadcast to the values.  Without a factor it is 1 divided by the sum of the weights, or 0 where that is 0.
    """
    weighted = values if weights is None else values * weights
    if factor is not None:
        return k.total(weighted) * factor, factor
    divisor = k.total(weights) * (values.size // max(weights.size, 1))
    scale = k.xp.where(divisor == 0, 0, 1 / k.xp.where(divisor == 0, 1, divisor)).astype(values.dtype)
    return k.total(weighted) * scale, scale


@kernel
def weighted_total_grad(k: Kernels, g: Any, values: Any, weights: Any, factor: Any) -> Any:
    """The gradient of `weighted_total` at the values, in their type, with the factor that it returned."""
    out = k.empty(values.shape, values.dtype)
    out[...] = g * factor if weights is None else g * factor * weights
    return out


@kernel
def weights_of_mask(k: Kernels, mask: Any, weights: Any, dtype: Any, mean: bool) -> Any:
    """A mask (any numbers, 0 leaves out) as weights, times `weights` that are given or None.

    Args:
        mean: the weights are such that the mean is taken over what the mask lets through.
    """
    mask = mask.astype(bool)
    scale = (mask.size / k.xp.maximum(mask.sum(), 1)).astype(dtype) if mean else k.xp.ones((), dtype)
    mask = mask * scale
    if weights is None:
        return mask
    weights = fitted(weights, mask.shape)
    return fitted(mask, weights.shape) * weights


def fitted(weights: Any, shape: tuple) -> Any:
    """Weights that broadcast over values of `shape`: a last axis of size 1 goes, missing last axes come."""
    if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
        return weights[..., 0]
    if 0 < weights.ndim < len(shape):
        return weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    return weights


# ---- class numbers ---------------------------------------------------------------------------------------------------


@kernel
def class_numbers(k: Kernels, labels: Any, classes: int, least: int = 0) -> tuple[Any, Any]:
    """Labels of any type of numbers as int64, and how many of them are no whole ones in [least, classes).

    Those become `least`: whoever asks looks at the number, and explains (`arena.explain`).
    """
    known = (labels >= least) & (labels < classes)
    if labels.dtype.kind == "f":
        known = known & (labels == k.xp.floor(labels))
    named = k.xp.where(known, k.xp.where(known, labels, 0).astype("int64"), least)
    return named, (~known).sum()
