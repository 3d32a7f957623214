"""Normalisation over rows (batch), features (layer, root mean square) or groups of them; channels are the last axis.

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
def fixed_norm(
    k: Kernels, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None
) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with the statistics given.  Returns (y, residual).

    x (rows, c); all others (c,), gamma and beta may be None.
    """
    inverse = 1 / k.xp.sqrt(variance + epsilon)
    y = k.xp.subtract(x, mean, out=_like(k, x, out))
    y *= inverse
    return _affine(y, gamma, beta), (x, gamma, beta, mean, inverse)


@kernel
def fixed_norm_grad(
    k: Kernels, g: Any, residual: Any, needs: tuple[bool, bool] = (True, True), outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    """Backward of `fixed_norm`: (gradient at x, sums over the rows of g times normalised values, and of g).

    The latter two are the gradients of gamma and beta, and may have destinations in `outs`; `needs` says whether the
    first is wanted, and whether the others are.
    """
    x, gamma, _, mean, inverse = residual
    g_x = g * (inverse if gamma is None else inverse * gamma) if needs[0] else None
    if not needs[1]:
        return g_x, None, None
    return g_x, k.total(g * ((x - mean) * inverse), 0, out=outs[0]), k.total(g, 0, out=outs[1])


@kernel
def group_norm(k: Kernels, x: Any, gamma: Any, beta: Any, groups: int, epsilon: float) -> tuple[Any, Any]:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` with statistics of groups of channels (Wu & He 2018).

    x (n, positions, channels), whose groups have their statistics in each sample; gamma, beta (channels,) or None.
    Returns (y, residual).
    """
    grouped = _in_groups(x, groups)
    share = 1 / max(grouped[0, :, 0].size if len(x) else 1, 1)
    mean = k.total(grouped, (1, 3), keepdims=True) * share
    y = k.xp.subtract(grouped, mean)
    inverse = 1 / k.xp.sqrt(k.total(k.xp.square(y), (1, 3), keepdims=True) * share + epsilon)
    y *= inverse
    return _affine(y.reshape(x.shape), gamma, beta), (x, gamma, beta, mean, inverse)


def _in_groups(x: Any, groups: int) -> Any:
    return x.reshape(*x.shape[:2], groups, x.shape[2] // groups)


@kernel
def group_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    """Backward of `group_norm`: gradients of (x or None, gamma or None, beta or None).

    `outs`: destinations of the gradients of gamma and beta, each may be None.
    """
    x, gamma, beta, mean, inverse = residual
    groups = mean.shape[2]
    normalized = (_in_groups(x, groups) - mean) * inverse
    channels = x.shape[-1]
    matrix = g.reshape(-1, channels)
    g_gamma, g_beta = _sums(k, matrix, normalized.reshape(-1, channels), gamma, beta, outs)
    if not needs_x:
        return None, g_gamma, g_beta
    scaled = _in_groups(g if gamma is None else g * gamma, groups)
    share = 1 / max(scaled[0, :, 0].size if len(x) else 1, 1)
    across = k.total(scaled, (1, 3), keepdims=True) * share
    along = k.total(scaled * normalized, (1, 3), keepdims=True) * share
    return ((scaled - across - normalized * along) * inverse).reshape(x.shape), g_gamma, g_beta


@kernel
def unit_norm(k: Kernels, x: Any, epsilon: float) -> tuple[Any, Any]:
    """`x / max(|x|, epsilon)` with the Euclidean norm of each row.  Returns (y, residual)."""
    square = k.xp.sum(k.xp.square(x), axis=1, keepdims=True)
    inverse = 1 / k.xp.sqrt(k.xp.maximum(square, epsilon * epsilon))
    y = x * inverse
    return y, (y, inverse, (square > epsilon * epsilon).astype(x.dtype))


@kernel
def unit_norm_grad(k: Kernels, g: Any, residual: Any) -> Any:
    """Backward of `unit_norm`: the gradient at x."""
    y, inverse, long = residual
    return inverse * (g - y * (long * k.xp.sum(g * y, axis=1, keepdims=True)))


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
