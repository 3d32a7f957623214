"""Cross-entropies from logits, over the last axis: one value per row, and their gradients."""

from __future__ import annotations

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
    return log_sum - k.xp.take_along_axis(shifted, labels[..., None], axis=-1)[..., 0]


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
