"""Attention on the CPU: long enough and of float32 by heads, which the team shares; else by the reference."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import tile
from minikeras.kernels.reference.attention import attention as reference_attention
from minikeras.kernels.reference.attention import attention_grad as reference_attention_grad
from minikeras.kernels.reference.attention import side_by_side as reference_side_by_side

_SMALL = 1 << 17  # multiplications


def _heads(query: Any, key: Any, value: Any, keep: Any) -> Any:
    """The module `heads` if it should do this, else None."""
    work = query.size * key.shape[1]
    arrays = query, key, value
    if work <= _SMALL or 0 in value.shape or any(one.dtype.char != "f" for one in arrays) or tile() is None:
        return None
    if keep is not None and (keep.dtype.char != "B" or not keep.flags.c_contiguous):
        return None
    return importlib.import_module("minikeras.kernels.cpu.heads")


def _contiguous(array: Any) -> Any:
    """An array whose last axis is contiguous."""
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


def attention(
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
    """See the reference."""
    heads = _heads(query, key, value, keep)
    function = reference_attention if heads is None else heads.attention
    if heads is not None:
        query, key, value = map(_contiguous, (query, key, value))
    return function(query, key, value, scale, mask, causal, keep, keep_scale, zero_empty, wants_weights)


def attention_grad(
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
    """See the reference."""
    heads = _heads(query, key, value, keep)
    if heads is None or g_weights is not None or g.dtype.char != "f":
        return reference_attention_grad(g, query, key, value, weights, scale, mask, causal, keep, keep_scale, g_weights)
    g, query, key, value = map(_contiguous, (g, query, key, value))
    return heads.attention_grad(
        g, query, key, value, np.ascontiguousarray(weights), scale, mask, causal, keep, keep_scale
    )


def side_by_side(matrices: Sequence[Any]) -> Any:
    """See the reference; matrices that are neighbouring columns of one buffer are not copied."""
    first = matrices[0]
    base = first.base
    if len(matrices) == 1 or base is None or first.ndim != 2:
        return reference_side_by_side(matrices)
    start = first.ctypes.data
    for one in matrices:
        if one.base is not base or one.strides != first.strides or one.ctypes.data != start or one.dtype != first.dtype:
            return reference_side_by_side(matrices)
        start += one.shape[1] * one.itemsize
    width = sum(one.shape[1] for one in matrices)
    if first.strides[1] != first.itemsize or first.strides[0] < width * first.itemsize:
        return reference_side_by_side(matrices)
    return np.lib.stride_tricks.as_strided(first, (len(first), width), first.strides)


OVERRIDES = {"attention": attention, "attention_grad": attention_grad, "side_by_side": side_by_side}
