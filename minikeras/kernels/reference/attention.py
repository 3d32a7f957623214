"""Scaled dot-product attention (Vaswani et al. 2017), and columns of matrices side by side, as its projections are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikeras.kernels.table import Kernels, kernel

# scores that leave nothing of a weight beside any other, and the mean among their like
_HIDDEN, _HIDDEN_HALF = -2e38, -6e4


@kernel
def attention(
    k: Kernels,
    query: Any,
    key: Any,
    value: Any,
    scale: float,
    mask: Any = None,
    causal: bool = False,
    keep: Any = None,
    keep_scale: float = 1.0,
    zero_empty: bool = False,
    wants_weights: bool = True,
) -> tuple[Any, Any]:
    """`softmax(query key^T scale) value` for each head: (result (batch, steps, heads, size), weights).

    Args:
        query: (batch, steps, heads, depth).
        key: (batch, sources, groups, depth); each key head serves `heads / groups` heads that follow each other.
        value: (batch, sources, groups, size).
        scale: factor of the scores.
        mask: bools that broadcast to (batch, heads, steps, sources): what may be attended to.
        causal: whether step i attends to sources up to i only.
        keep, keep_scale: dropout of the weights: 0/1 mask (batch, heads, steps, sources) and its factor.
        zero_empty: what a step that may attend to nothing gets: zeros, or (False) the mean of all sources.
        wants_weights: whether the weights are of use; if not, None may come in their place.

    The weights (batch, heads, steps, sources) are those before dropout.
    """
    batch, steps, heads, _ = query.shape
    scores = k.xp.matmul(_grouped(query, key.shape[2]), _grouped(key, key.shape[2]).swapaxes(-1, -2))
    scores = scores.reshape(batch, heads, steps, key.shape[1])
    scores *= scale
    allowed = _allowed(k, mask, causal, steps, key.shape[1])
    if allowed is not None:
        scores = k.xp.where(allowed, scores, _HIDDEN if scores.dtype.itemsize > 2 else _HIDDEN_HALF)
    weights = k.softmax(scores)
    if zero_empty and allowed is not None:
        weights *= allowed
    used = weights if keep is None else weights * keep * keep_scale
    groups = key.shape[2]
    y = k.xp.matmul(_by_group(used, groups), _grouped(value, groups))
    return _by_step(k, y, query.shape[:3]), weights


@kernel
def attention_grad(
    k: Kernels,
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    weights: Any,
    scale: float,
    mask: Any = None,
    causal: bool = False,
    keep: Any = None,
    keep_scale: float = 1.0,
    g_weights: Any = None,
) -> tuple[Any, Any, Any]:
    """The gradients at query, key and value, from those at the result, `g`, and at the weights (None: 0).

    The other arguments are as for `attention`.
    """
    xp = k.xp
    groups = key.shape[2]
    g = _grouped(g, groups)
    used = weights if keep is None else weights * keep * keep_scale
    g_used = xp.matmul(g, _grouped(value, groups).swapaxes(-1, -2)).reshape(weights.shape)
    if keep is not None:
        g_used = g_used * keep * keep_scale
    g_scores = k.softmax_grad(g_used if g_weights is None else g_used + g_weights, weights) * scale
    allowed = _allowed(k, mask, causal, query.shape[1], key.shape[1])
    if allowed is not None:
        g_scores = xp.where(allowed, g_scores, xp.zeros_like(g_scores))
    g_scores = _by_group(g_scores, groups)
    g_query = xp.matmul(g_scores, _grouped(key, groups))
    g_key = xp.matmul(g_scores.swapaxes(-1, -2), _grouped(query, groups)).sum(axis=2)
    g_value = xp.matmul(_by_group(used, groups).swapaxes(-1, -2), g).sum(axis=2)
    return _by_step(k, g_query, query.shape[:3]), g_key.swapaxes(1, 2), g_value.swapaxes(1, 2)


def _grouped(x: Any, groups: int) -> Any:
    """(batch, steps, heads, size) as (batch, groups, heads / groups, steps, size)."""
    batch, steps, heads, size = x.shape
    return x.reshape(batch, steps, groups, heads // groups, size).transpose(0, 2, 3, 1, 4)


def _by_group(weights: Any, groups: int) -> Any:
    batch, heads, steps, sources = weights.shape
    return weights.reshape(batch, groups, heads // groups, steps, sources)


def _by_step(k: Kernels, x: Any, shape: tuple[int, ...]) -> Any:
    """The reverse of `_grouped`, contiguous."""
    y = k.empty((*shape, x.shape[-1]), x.dtype)
    y.reshape(*shape[:2], x.shape[1], x.shape[2], x.shape[-1])[...] = x.transpose(0, 3, 1, 2, 4)
    return y


def _allowed(k: Kernels, mask: Any, causal: bool, steps: int, sources: int) -> Any:
    """What may be attended to, or None for everything."""
    if not causal:
        return mask
    before = k.xp.tri(steps, sources, dtype=bool)
    return before if mask is None else k.xp.logical_and(mask, before)


@kernel
def side_by_side(k: Kernels, matrices: Sequence[Any]) -> Any:
    """Arrays of equal leading axes as one, joined along the last; a single one is itself."""
    return matrices[0] if len(matrices) == 1 else k.concatenate(matrices, matrices[0].ndim - 1)
