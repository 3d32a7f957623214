"""Normalisation over rows (batch) or over features (layer, root mean square); channels are the last axis of a matrix.

Residuals hold the input and its statistics, not the normalised values: these cost one subtraction and one product to
make again, and no memory between the passes.
"""

from __future__ import annotations

from typing import Any

from minikeras.kernels.table import Kernels, kernel

TINY_WEIGHT = 1e-7  # a batch that is masked altogether has mean 0 and variance 0


def _like(k: Kernels, x: Any, out: Any) -> Any:
    return k.empty(x.shape, x.dtype) if out is None else out


def _affine(y: Any, gamma: Any, beta: Any) -> Any:
    if gamma is not None:
        y *= gamma
    if beta is not None:
        y += beta
    return y


def _sums(k: Kernels, g: Any, normalized: Any, gamma: Any, beta: Any, outs: tuple) -> tuple[Any, Any]:
    """Gradients of gamma and beta, None for one that is absent."""
    g_gamma = None if gamma is None else k.total(g * normalized, 0, out=outs[0])
    return g_gamma, None if beta is None else k.total(g, 0, out=outs[1])


@kernel
def batch_norm(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with the statistics of the rows (Ioffe & Szegedy 2015).

    x (rows, c); gamma, beta (c,) or None; mask None or (rows,): the weight of each row in the statistics (masked rows
    are still normalised).  Returns (y, mean, biased variance, residual).
    """
    xp = k.xp
    rows = x.shape[0]
    y = _like(k, x, out)
    if mask is None:
        share = 1 / max(rows, 1)
        mean = k.total(x, 0) * share
        xp.subtract(x, mean, out=y)
        variance = k.total(xp.square(y), 0) * share
    else:
        weights = mask.astype(x.dtype)
        share = (weights / xp.maximum(k.total(weights), TINY_WEIGHT)).reshape(rows, 1)
        mean = k.total(x * share, 0)
        xp.subtract(x, mean, out=y)
        variance = k.total(xp.square(y) * share, 0)
    inverse = 1 / xp.sqrt(variance + epsilon)
    y *= inverse
    return _affine(y, gamma, beta), mean, variance, (x, gamma, beta, mean, inverse, share)


@kernel
def batch_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    """Backward of `batch_norm`: gradients of (x or None, gamma or None, beta or None).

    `outs`: destinations of the gradients of gamma and beta, each may be None.  The gradient at x includes the way
    through the mean and the variance of y, not through the returned statistics.
    """
    x, gamma, beta, mean, inverse, share = residual
    normalized = k.xp.subtract(x, mean, out=_like(k, x, None))
    normalized *= inverse
    if not needs_x:
        return None, *_sums(k, g, normalized, gamma, beta, outs)
    g_gamma = k.total(g * normalized, 0, out=outs[0])
    g_beta = k.total(g, 0, out=outs[1])
    normalized *= g_gamma
    normalized += g_beta
    normalized *= share
    g_x = k.xp.subtract(g, normalized, out=normalized)
    g_x *= inverse if gamma is None else inverse * gamma
    return g_x, None if gamma is None else g_gamma, None if beta is None else g_beta


@kernel
def scale_shift(k: Kernels, x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    """`x * scale + shift` over the last axis."""
    y = k.xp.multiply(x, scale, out=_like(k, x, out))
    y += shift
    return y


@kernel
def layer_norm(k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with the statistics of each row (Ba et al. 2016).

    x (rows, features); gamma, beta (features,) or None.  Returns (y, residual).
    """
    xp = k.xp
    share = 1 / max(x.shape[1], 1)
    mean = xp.sum(x, axis=1, keepdims=True) * share
    y = xp.subtract(x, mean, out=_like(k, x, out))
    inverse = 1 / xp.sqrt(xp.sum(xp.square(y), axis=1, keepdims=True) * share + epsilon)
    y *= inverse
    return _affine(y, gamma, beta), (x, gamma, beta, mean, inverse)


@kernel
def rms_norm(k: Kernels, x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """`x / sqrt(mean(x²) + epsilon) * gamma` for each row (Zhang & Sennrich 2019).  Returns (y, residual)."""
    xp = k.xp
    inverse = 1 / xp.sqrt(xp.sum(xp.square(x), axis=1, keepdims=True) * (1 / max(x.shape[1], 1)) + epsilon)
    y = xp.multiply(x, inverse, out=_like(k, x, out))
    return _affine(y, gamma, None), (x, gamma, None, None, inverse)


@kernel
def layer_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    """Backward of `layer_norm`: gradients of (x or None, gamma or None, beta or None).

    `outs`: destinations of the gradients of gamma and beta, each may be None.
    """
    x, gamma, beta, mean, inverse = residual
    normalized = (x if mean is None else x - mean) * inverse
    g_gamma, g_beta = _sums(k, g, normalized, gamma, beta, outs)
    if not needs_x:
        return None, g_gamma, g_beta
    share = 1 / max(x.shape[1], 1)
    g_x = _like(k, g, None)
    g_x[...] = g if gamma is None else g * gamma
    along = k.xp.sum(g_x * normalized, axis=1, keepdims=True) * share
    if mean is not None:
        g_x -= k.xp.sum(g_x, axis=1, keepdims=True) * share
    normalized *= along
    g_x -= normalized
    g_x *= inverse
    return g_x, g_gamma, g_beta


@kernel
def rms_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any]:
    """Backward of `rms_norm`: gradients of (x or None, gamma or None)."""
    return k.layer_norm_grad(g, residual, needs_x, outs)[:2]
