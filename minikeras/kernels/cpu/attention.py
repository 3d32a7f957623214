"""Attention on the CPU: long enough and of float32 by heads, which the team shares; else by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import lazy, tile
from minikeras.kernels.reference import attention as reference
from minikeras.kernels.table import Kernels, absent, of_float32, override

_SMALL = 1 << 17  # multiplications


def _is_for_heads(query: Any, key: Any, value: Any, keep: Any) -> bool:
    """Whether the module `heads` should do this."""
    work = query.size * key.shape[1]
    arrays = query, key, value
    if work <= _SMALL or 0 in value.shape or any(one.dtype.char != "f" for one in arrays) or tile() is None:
        return False
    return keep is None or (keep.dtype.char == "B" and keep.flags.c_contiguous)


def _contiguous(array: Any) -> Any:
    """An array whose last axis is contiguous."""
    return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)


@override(reference.attention, "cpu", when=_is_for_heads)
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
    query, key, value = map(_contiguous, (query, key, value))
    return lazy("heads").attention(query, key, value, scale, mask, causal, keep, keep_scale, zero_empty, wants_weights)


@override(reference.attention_grad, "cpu", when=(absent("g_weights"), of_float32("g"), _is_for_heads))
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
    g, query, key, value = map(_contiguous, (g, query, key, value))
    return lazy("heads").attention_grad(
        g, query, key, value, np.ascontiguousarray(weights), scale, mask, causal, keep, keep_scale
    )


def _are_neighbours(matrices: Sequence[Any]) -> bool:
    """Whether matrices are columns of one buffer, each beginning where the one before it ends."""
    first = matrices[0]
    base = first.base
    if len(matrices) == 1 or base is None or first.ndim != 2:
        return False
    start = first.ctypes.data
    for one in matrices:
        if one.base is not base or one.strides != first.strides or one.ctypes.data != start or one.dtype != first.dtype:
            return False
        start += one.shape[1] * one.itemsize
    return first.strides[1] == first.itemsize and first.strides[0] >= start - first.ctypes.data


@override(reference.side_by_side, "cpu", when=_are_neighbours)
def side_by_side(k: Kernels, matrices: Sequence[Any]) -> Any:
    """Neighbouring columns of one buffer are not copied."""
    first = matrices[0]
    width = sum(one.shape[1] for one in matrices)
    return np.lib.stride_tricks.as_strided(first, (len(first), width), first.strides)
