"""Attention on the CPU: of float32 by heads, which the team shares; else by the reference.

One head after the other: scores, softmax and sum while they are in the cache.  The products are made of tiles; the
passes over a row of scores are written as LLVM code with vector types and masks, as a compiler's loops take what does
not fill several vectors one number at a time, and rows are short.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, contiguous, empty, memory_of
from minikeras.kernels.cpu.compiler import (
    Numbers,
    exponential,
    floats,
    host,
    inner,
    instruction,
    octets,
    own_scratch,
    part,
    scratch,
)
from minikeras.kernels.cpu.tile.products import BLOCK_BYTES, block_product
from minikeras.kernels.cpu.tile.register import pack_all, panel_bytes, panels
from minikeras.kernels.reference import attention as reference
from minikeras.kernels.table import Kernels, absent, of_float32, override

# ---- passes over a row -----------------------------------------------------------------------------------------------


def _real(b: Any, value: float) -> Any:
    return b.constant(value, "float32", host.LANES)


@instruction
def _scale_row(b, row, count, factor: np.float32) -> np.float32:
    """Multiply a row; returns its largest number, NaN passed over."""
    factors = b.spread(factor, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        scaled = b.fmul(vectors[0], factors)
        return [scaled], [b.at_least(carried[0], scaled)]

    (best,) = b.over_row(count, [(row, float("nan"))], [_real(b, float("-inf"))], body, host.LANES)
    return b.across(best, b.at_least)


@instruction
def _exp_row(b, row, count, shift: np.float32) -> np.float32:
    """Replace a row by `exp(row - shift)`, none of it above 1; returns the sum."""
    shifts = b.spread(shift, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        value = exponential(b, b.fsub(vectors[0], shifts), falling=True)
        return [value], [b.fadd(carried[0], value)]

    (total,) = b.over_row(count, [(row, float("-inf"))], [_real(b, 0.0)], body, host.LANES)
    return b.across(total, b.fadd)


@instruction
def _softmax_of_few(b, row, count, factor: np.float32):
    """Replace a row that fills one vector at most by `softmax(row * factor)`: the three passes in one."""
    mask = b.first_lanes(count, host.LANES)
    scores = b.fmul(b.read(row, "float32", host.LANES, mask, float("nan")), b.spread(factor, host.LANES))
    best = b.spread(b.across(b.at_least(_real(b, float("-inf")), scores), b.at_least), host.LANES)
    there = b.select(mask.lanes, b.fsub(scores, best), _real(b, float("-inf")))
    values = exponential(b, there, falling=True)
    total = b.fdiv(b.constant(1.0, "float32"), b.across(values, b.fadd))
    b.write(b.fmul(values, b.spread(total, host.LANES)), row, mask)


@instruction
def _dot_rows(b, one, other, count) -> np.float32:
    """The sum of the products of two rows."""

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        return [None, None], [b.fma(*vectors, carried[0])]

    (total,) = b.over_row(count, [(one, 0.0), (other, 0.0)], [_real(b, 0.0)], body, host.LANES)
    return b.across(total, b.fadd)


@instruction
def _softmax_grad_row(b, g, y, count, along: np.float32, scale: np.float32):
    """Replace `g` by `y * (g - along) * scale`."""
    sums, factors = b.spread(along, host.LANES), b.spread(scale, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        difference = b.fmul(b.fsub(vectors[0], sums), factors)
        return [b.fmul(vectors[1], difference), None], []

    b.over_row(count, [(g, 0.0), (y, 0.0)], [], body, host.LANES)


# ---- parts -----------------------------------------------------------------------------------------------------------

# What parts have in common: arrays (batch, steps, heads, size), by address and by `strides`, for each array at one of
# these places those over batch, steps and heads; `mask` and `keep` may be missing, `weights` and `keep` are contiguous
# (batch, heads, steps, sources); `each_group` is how many heads each of the groups has.
_QUERY, _KEY, _VALUE, _RESULT, _MASK, _G_QUERY, _G_KEY, _G_VALUE = range(8)

_FEW = 64  # steps whose scores are in the cache together; a multiple of the tile's rows
_ZERO, _ONE, _LEAST = np.float32(0), np.float32(1), np.float32(-np.inf)


@inner
def _at(array, strides, place, batch, step, head):
    """The address of a row."""
    return array + batch * strides[3 * place] + step * strides[3 * place + 1] + head * strides[3 * place + 2]


@inner
def _fill(row, first, last, value):
    x = floats(row)
    for j in range(first, last):
        x[j] = value


@inner
def _softmax_row(row, mask_row, sources, limit, scale, zero_empty):
    """Scores become weights, those from `limit` on zeros; `mask_row` may be missing."""
    factor = scale
    if mask_row:
        scores, mask = floats(row), octets(mask_row)
        allowed = 0
        for j in range(limit):
            allowed |= mask[j]
            score = scores[j] * scale
            scores[j] = score if mask[j] else _LEAST
        if allowed == 0:
            _fill(row, 0, sources, _ZERO if zero_empty else _ONE / np.float32(sources))
            return
        factor = _ONE
    if limit <= host.LANES:
        _softmax_of_few(row, limit, factor)
    else:
        best = _scale_row(row, limit, factor)
        total = _exp_row(row, limit, best)
        _scale_row(row, limit, _ONE / total)
    _fill(row, limit, sources, _ZERO)


@inner
def _kept(row, keep_row, sources, target, scale):
    """`row * keep * scale` to the target, which may be the row."""
    keep, x, result = octets(keep_row), floats(row), floats(target)
    for j in range(sources):
        result[j] = x[j] * np.float32(keep[j]) * scale


@part
def _attention(
    part, worker, query, key, value, y, mask, strides: Numbers, steps, sources, depth, size, groups, each_group, causal,
    zero_empty, weights, keep, scale: np.float32, keep_scale: np.float32, block, blocks, scratch, each,
):  # fmt: skip
    """A slice of `block` steps of one group's heads."""
    number, group = part % blocks, part // blocks
    batch, group = group // groups, group % groups
    begin = number * block
    end = min(begin + block, steps)
    own = own_scratch(scratch, each, worker)
    keys = own + BLOCK_BYTES
    values = keys + panels(sources) * depth * host.PANEL
    free = values + panels(size) * sources * host.PANEL
    used = free + _FEW * 4 * sources
    keys_at, values_at = _at(key, strides, _KEY, batch, 0, group), _at(value, strides, _VALUE, batch, 0, group)
    pack_all(keys_at, 4, strides[3 * _KEY + 1], depth, sources, keys)
    pack_all(values_at, strides[3 * _VALUE + 1], 4, sources, size, values)
    row, key_panel, value_panel = 4 * sources, depth * host.PANEL, sources * host.PANEL
    query_row, y_row = strides[3 * _QUERY + 1], strides[3 * _RESULT + 1]
    for head in range(group * each_group, (group + 1) * each_group):
        for first in range(begin, end, _FEW):
            rows = min(_FEW, end - first)
            reach = min(sources, first + rows) if causal and not mask else sources
            at = ((batch * groups * each_group + head) * steps + first) * sources
            scores = weights + 4 * at if weights else free
            query_at = _at(query, strides, _QUERY, batch, first, head)
            block_product(own, query_at, query_row, 4, rows, depth, keys, key_panel, reach, scores, row, 0)
            for i in range(rows):
                limit = min(sources, first + i + 1) if causal else sources
                mask_row = _at(mask, strides, _MASK, batch, first + i, head) if mask else 0
                _softmax_row(scores + i * row, mask_row, sources, limit, scale, zero_empty)
            if keep:
                for i in range(rows):
                    _kept(scores + i * row, keep + at + i * sources, sources, used + i * row, keep_scale)
                scores = used
            y_at = _at(y, strides, _RESULT, batch, first, head)
            block_product(own, scores, row, 4, rows, reach, values, value_panel, size, y_at, y_row, 0)


@part
def _attention_grad(
    part, worker, query, key, value, y, mask, g_query, g_key, g_value, strides: Numbers, steps, sources, depth, size,
    groups, each_group, causal, weights, keep, scale: np.float32, keep_scale: np.float32, scratch, each,
):  # fmt: skip
    """One group's heads; `y` is the gradient at the results."""
    batch, group = part // groups, part % groups
    row = 4 * sources
    wide = row + 64  # so that a column's numbers do not all fall into one place of the cache
    own = own_scratch(scratch, each, worker)
    keys = own + BLOCK_BYTES
    values = keys + panels(depth) * sources * host.PANEL
    queries = values + panels(sources) * size * host.PANEL
    results = queries + panels(depth) * _FEW * host.PANEL
    scores = results + panels(size) * _FEW * host.PANEL
    used = scores + _FEW * wide
    keys_at, values_at = _at(key, strides, _KEY, batch, 0, group), _at(value, strides, _VALUE, batch, 0, group)
    pack_all(keys_at, strides[3 * _KEY + 1], 4, sources, depth, keys)
    pack_all(values_at, 4, strides[3 * _VALUE + 1], size, sources, values)
    g_key_at = _at(g_key, strides, _G_KEY, batch, 0, group)
    g_value_at = _at(g_value, strides, _G_VALUE, batch, 0, group)
    query_row, y_row = strides[3 * _QUERY + 1], strides[3 * _RESULT + 1]
    key_panel, value_panel = sources * host.PANEL, size * host.PANEL
    g_query_row, g_key_row, g_value_row = strides[3 * _G_QUERY + 1], strides[3 * _G_KEY + 1], strides[3 * _G_VALUE + 1]
    more = 0
    for head in range(group * each_group, (group + 1) * each_group):
        for first in range(0, steps, _FEW):
            rows = min(_FEW, steps - first)
            reach = sources
            if causal and not mask and more:
                reach = min(sources, first + rows)
            at = ((batch * groups * each_group + head) * steps + first) * sources
            used_weights = weights + 4 * at
            query_at = _at(query, strides, _QUERY, batch, first, head)
            y_at = _at(y, strides, _RESULT, batch, first, head)
            pack_all(query_at, query_row, 4, rows, depth, queries)
            pack_all(y_at, y_row, 4, rows, size, results)
            block_product(own, y_at, y_row, 4, rows, size, values, value_panel, reach, scores, wide, 0)
            if keep:
                for i in range(rows):
                    kept = keep + at + i * sources
                    _kept(used_weights + i * row, kept, sources, used + i * row, keep_scale)
                    _kept(scores + i * wide, kept, sources, scores + i * wide, keep_scale)
            for i in range(rows):
                g, w = scores + i * wide, used_weights + i * row
                _softmax_grad_row(g, w, reach, _dot_rows(g, w, reach), scale)
                if mask:
                    allowed, gradient = octets(_at(mask, strides, _MASK, batch, first + i, head)), floats(g)
                    for j in range(reach):
                        number = gradient[j]
                        gradient[j] = number if allowed[j] else _ZERO
                    if causal:
                        _fill(g, min(first + i + 1, reach), reach, _ZERO)
            if keep:
                used_weights = used
            depth_panel = rows * host.PANEL
            block_product(
                own, used_weights, 4, row, reach, rows, results, depth_panel, size, g_value_at, g_value_row, more
            )
            block_product(own, scores, 4, wide, reach, rows, queries, depth_panel, depth, g_key_at, g_key_row, more)
            g_query_at = _at(g_query, strides, _G_QUERY, batch, first, head)
            block_product(own, scores, wide, 4, rows, reach, keys, key_panel, depth, g_query_at, g_query_row, 0)
            more = 1


@lru_cache(maxsize=256)
def _strides(strides: tuple[tuple[int, ...], ...]) -> Any:
    """How the arrays lie, for parts."""
    return constant(np.array([stride for four in strides for stride in four[:3]], np.int64))


_PARTS = 16  # at least, of a forward pass that has steps enough
_WAKES = 4_000_000  # multiplications for which a helper is waked


def _run(
    part: Any, arrays: tuple, mask: Any, causal: bool, scale: float, keep: Any, keep_scale: float, bytes_needed: int,
    **arguments: Any,
) -> None:  # fmt: skip
    """Run a part on query, key, value, the result and further arrays of this kind."""
    query, key, value, y, *others = arrays
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    if mask is not None:
        if mask.shape[-1] != sources or mask.strides[-1] != 1:
            mask = contiguous(np.broadcast_to(mask, (*mask.shape[:-1], sources)))
        mask = np.broadcast_to(mask, (batch, heads, steps, sources)).swapaxes(1, 2)
    strides = _strides(tuple((0, 0, 0) if one is None else one.strides for one in (*arrays[:4], mask, *others)))
    part.run(
        batch * groups * arguments.get("blocks", 1), batch * heads * steps * sources * (depth + size) >= _WAKES,
        query=query, key=key, value=value, y=y, mask=mask, strides=strides, steps=steps, sources=sources, depth=depth,
        size=size, groups=groups, each_group=heads // groups, causal=causal, keep=keep, scale=float(scale),
        keep_scale=float(keep_scale), **arguments, **scratch(BLOCK_BYTES + bytes_needed),
    )  # fmt: skip


def _beside_each_other(*arrays: Any) -> Any:
    """New arrays of these shapes (batch, steps, heads, size); what follows with the same steps shares a buffer."""
    results: list[Any] = []
    while len(results) < len(arrays):
        first = arrays[len(results)]
        together = [one for one in arrays[len(results) :] if one.shape[:2] == first.shape[:2]]
        if len(together) < len(arrays) - len(results):
            together = [first]
        widths = [one.shape[2] * one.shape[3] for one in together]
        buffer = empty((first.shape[0] * first.shape[1], sum(widths)), first.dtype)
        start = 0
        for one, width in zip(together, widths, strict=True):
            results.append(buffer[:, start : start + width].reshape(one.shape))
            start += width
    return tuple(results)


# ---- overrides -------------------------------------------------------------------------------------------------------


def _is_for_heads(query: Any, key: Any, value: Any, keep: Any) -> bool:
    """Whether this is done by heads."""
    if not (query.dtype.char == key.dtype.char == value.dtype.char == "f" and host.HAS_VECTORS):
        return False
    if query.size == 0 or 0 in value.shape:
        return False
    return keep is None or (keep.dtype.char == "B" and keep.flags.c_contiguous)


def _contiguous(array: Any) -> Any:
    """An array whose last axis is contiguous."""
    return array if array.strides[-1] == array.itemsize else contiguous(array)


@override(reference.attention, "cpu", when=_is_for_heads)
def attention(
    k: Kernels, query: Any, key: Any, value: Any, scale: float, mask: Any = None, causal: bool = False,
    keep: Any = None, keep_scale: float = 1.0, zero_empty: bool = False, wants_weights: bool = True,
) -> tuple[Any, Any]:  # fmt: skip
    query, key, value = map(_contiguous, (query, key, value))
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    y = empty((batch, steps, heads, size), query.dtype)
    weights = empty((batch, heads, steps, sources), query.dtype) if wants_weights else None
    fews = -(-steps // _FEW)
    block = -(-fews // min(-(-_PARTS // (batch * groups)), fews)) * _FEW
    bytes_needed = panel_bytes(sources, depth) + panel_bytes(size, sources) + 2 * _FEW * 4 * sources
    arguments = {"block": block, "blocks": -(-steps // block), "zero_empty": zero_empty, "weights": weights}
    _run(_attention, (query, key, value, y), mask, causal, scale, keep, keep_scale, bytes_needed, **arguments)
    return y, weights


@override(reference.attention_grad, "cpu", when=(absent("g_weights"), of_float32("g"), _is_for_heads))
def attention_grad(
    k: Kernels, g: Any, query: Any, key: Any, value: Any, weights: Any, scale: float, mask: Any = None,
    causal: bool = False, keep: Any = None, keep_scale: float = 1.0, g_weights: Any = None,
) -> tuple[Any, Any, Any]:  # fmt: skip
    g, query, key, value = map(_contiguous, (g, query, key, value))
    depth, sources, size = query.shape[3], key.shape[1], value.shape[3]
    gradients = _beside_each_other(query, key, value)
    bytes_needed = panel_bytes(depth, sources + _FEW) + panel_bytes(sources, size) + panel_bytes(size, _FEW)
    bytes_needed += _FEW * (8 * sources + 64)
    arguments = {"weights": contiguous(weights)}
    arguments |= dict(zip(("g_query", "g_key", "g_value"), gradients, strict=True))
    arrays = query, key, value, g, *gradients
    _run(_attention_grad, arrays, mask, causal, scale, keep, keep_scale, bytes_needed, **arguments)
    return gradients


def _are_neighbours(matrices: Sequence[Any]) -> bool:
    """Whether matrices are columns of one buffer, each beginning where the one before it ends."""
    first = matrices[0]
    memory = memory_of(first)
    if len(matrices) == 1 or memory is first or first.ndim != 2:
        return False
    start = first.ctypes.data
    for one in matrices:
        if memory_of(one) is not memory or (one.strides, one.dtype) != (first.strides, first.dtype):
            return False
        if one.ctypes.data != start:
            return False
        start += one.shape[1] * one.itemsize
    return first.strides[1] == first.itemsize and first.strides[0] >= start - first.ctypes.data


@override(reference.side_by_side, "cpu", when=_are_neighbours)
def side_by_side(k: Kernels, matrices: Sequence[Any]) -> Any:
    """Neighbouring columns of one buffer are not copied."""
    first = matrices[0]
    width = sum(one.shape[1] for one in matrices)
    return np.lib.stride_tricks.as_strided(first, (len(first), width), first.strides, subok=True)
