"""Attention and the projections before and after it: one tape node for all that have the same input, one for it."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.op import composite, differentiable
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tape import is_recording
from minikeras.ops.activation import softmax
from minikeras.ops.common import result_type
from minikeras.ops.elementwise import add, multiply, where
from minikeras.ops.product import einsum
from minikeras.ops.shaping import repeat

KERAS_MODULE = "keras.src.ops.nn"


def _projections_shape(x: Any, *weights: Any, axes: int) -> Any:
    found = [x.shape[: x.ndim - axes] + kernel.shape[axes:] for kernel in weights[::2]]
    return tuple(found) if len(found) > 1 else found[0]


@differentiable(shape=_projections_shape)
def projections(x: Any, *weights: Any, axes: int = 1) -> Any:
    """The products of `x` and several kernels, each plus its bias: a tuple, or a single result for a single kernel.

    Args:
        x: (*leading, *inner).
        weights: kernel (*inner, *outer) and bias (*outer) or None, kernel and bias, ...
        axes: how many axes `inner` has.
    """
    kernels, biases = weights[::2], weights[1::2]
    leading, inner = x.shape[: x.ndim - axes], math.prod(kernels[0].shape[:axes])
    rows = x.reshape(math.prod(leading), inner)
    if rows.dtype != kernels[0].dtype:
        rows = rows.astype(kernels[0].dtype)
    ends = list(accumulate(math.prod(kernel.shape[axes:]) for kernel in kernels))
    columns = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    wide = k.side_by_side([w.reshape(inner, c.stop - c.start) for w, c in zip(kernels, columns, strict=True)])
    bias = None
    if any(one is not None for one in biases):
        parts = [
            k.filled((c.stop - c.start,), wide.dtype, 0) if one is None else one.reshape(-1)
            for one, c in zip(biases, columns, strict=True)
        ]
        bias = k.side_by_side(parts)
    y = k.dense(rows, wide, bias)
    results = [y[:, c].reshape(*leading, *kernel.shape[axes:]) for kernel, c in zip(kernels, columns, strict=True)]

    def vjp(g: Any, needs: Any) -> Any:
        g = g if type(g) is tuple else (g,)
        matrices = [
            k.filled((len(rows), c.stop - c.start), y.dtype, 0)
            if one is None
            else one.reshape(len(rows), c.stop - c.start)
            for one, c in zip(g, columns, strict=True)
        ]
        joined = k.side_by_side(matrices)
        gradients: list[Any] = [None] * (1 + len(weights))
        if needs[0]:
            gradients[0] = k.gemm(joined, wide, tb=True).reshape(x.shape)
        if any(needs[2::2]):
            bias_gradient = k.epilogue_grad(joined, y, None, True)[1]
        for i, c in enumerate(columns):
            if needs[1 + 2 * i]:
                out = needs.out[1 + 2 * i]
                flat = None if out is None else out.reshape(inner, c.stop - c.start)
                product = k.gemm(rows, matrices[i], ta=True, out=flat)
                gradients[1 + 2 * i] = product.reshape(kernels[i].shape) if out is None else out
            if needs[2 + 2 * i]:
                gradients[2 + 2 * i] = bias_gradient[c].reshape(biases[i].shape)
        return gradients

    return (tuple(results) if len(results) > 1 else results[0]), vjp


def _attention_shape(query: Any, key: Any, value: Any, *, return_weights: bool, **settings: Any) -> Any:
    y = (*query.shape[:-1], value.shape[-1])
    batch, steps, heads, _ = query.shape
    return (y, (batch, heads, steps, key.shape[1])) if return_weights else y


@differentiable(shape=_attention_shape)
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float,
    mask: Any = None,
    causal: bool = False,
    keep: Any = None,
    keep_scale: float = 1.0,
    zero_empty: bool = False,
    return_weights: bool = False,
) -> Any:
    """The kernel `attention` of arrays (batch, steps, heads, size), with the weights where `return_weights`.

    Raises:
        ValueError: for shapes that do not fit together.
    """
    (batch, _, heads, size), (of_keys, _, groups, depth) = query.shape, key.shape
    if not (batch == of_keys and size == depth and key.shape[:3] == value.shape[:3] and heads % groups == 0):
        raise ValueError(
            "Attention takes keys and values of the queries' batch, as many keys as values, and keys of the queries' "
            f"size, got queries of shape {tuple(query.shape)}, keys of {tuple(key.shape)} and values of "
            f"{tuple(value.shape)}; correct them."
        )
    dtype = result_type(query, key, value)
    q, key_, v = (one if one.dtype == dtype else one.astype(dtype) for one in (query, key, value))
    y, weights = k.attention(
        q, key_, v, scale, mask, causal, keep, keep_scale, zero_empty, return_weights or is_recording()
    )

    def vjp(g: Any, needs: Any) -> Any:
        g, g_weights = g if return_weights else (g, None)
        g = k.xp.zeros_like(y) if g is None else g
        gradients = k.attention_grad(g, q, key_, v, weights, scale, mask, causal, keep, keep_scale, g_weights)
        return [one.astype(x.dtype, copy=False) for one, x in zip(gradients, (query, key, value), strict=True)]

    return ((y, weights) if return_weights else y), vjp


def _dot_product_shape(query: Any, key: Any, value: Any, **settings: Any) -> Any:
    _check_heads(query, key, value)
    return (*query.shape[:-1], value.shape[-1])


def _check_heads(query: Any, key: Any, value: Any) -> None:
    shapes = [tuple(one.shape) for one in (query, key, value)]
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(f"dot_product_attention takes arrays (batch, steps, heads, size), got the shapes {shapes}.")
    if shapes[1][2] == 0 or shapes[0][2] % shapes[1][2]:
        raise ValueError(f"dot_product_attention needs query heads in groups of equal size, got the shapes {shapes}.")


@composite(inputs=3, shape=_dot_product_shape, takes=6)
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: Any = None,
) -> Any:
    """`softmax(query key^T scale + bias) value` for each head (Vaswani et al. 2017).

    Args:
        query: (batch, steps, heads, depth).
        key, value: (batch, sources, groups, depth); each serves `heads / groups` heads that follow each other.
        bias: added to the scores (batch, heads, steps, sources), with which it broadcasts.
        mask: bools that broadcast with the scores: what may be attended to.
        scale: factor of the scores, default `1 / sqrt(depth)`.
        is_causal: whether step i attends to sources up to i only.
        flash_attention: accepted for familiarity; there is one way of computing.
        attn_logits_soft_cap: what there is not: None.

    Raises:
        ValueError: for other ranks, heads that the groups do not divide, and a soft cap.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> x = np.ones((1, 5, 2, 4))
    >>> ops.dot_product_attention(x, x, x, is_causal=True).shape
    (1, 5, 2, 4)
    """
    if attn_logits_soft_cap is not None:
        raise ValueError(f"dot_product_attention has no soft cap, got {attn_logits_soft_cap!r}; leave it out.")
    _check_heads(query, key, value)
    heads, groups = query.shape[2], key.shape[2]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else float(scale)
    allowed = None if mask is None else raw(mask).astype(bool, copy=False)
    if bias is None:
        return attention(query, key, value, scale=scale, mask=allowed, causal=is_causal)
    key, value = (repeat(one, heads // groups, axis=2) if groups != heads else one for one in (key, value))
    scores = add(multiply(einsum("btnh,bsnh->bnts", query, key), scale), bias)
    if is_causal:
        before = k.xp.tri(query.shape[1], key.shape[1], dtype=bool)
        allowed = before if allowed is None else k.xp.logical_and(allowed, before)
    if allowed is not None:
        scores = where(allowed, scores, -3e4 if scores.dtype == "float16" else -2e38)
    return einsum("bnts,bsnh->btnh", softmax(scores), value)
