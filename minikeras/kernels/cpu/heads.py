"""Attention of one head after the other, in parts for the team: scores, softmax and sum while they are in the cache.

The products are made of tiles; the passes over a row of scores are written as LLVM code with vector types and masks, as
a compiler's loops take what does not fill several vectors one number at a time, and rows are short.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.functions import exponential
from minikeras.kernels.cpu.jit import inner, instruction, lazy_part
from minikeras.kernels.cpu.machine import floats, function, numbers, octets
from minikeras.kernels.cpu.stack import ADDRESSES, matrix_block, pack_all, panel_bytes, panels, rooms, worker_room
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import _BITS, _INT32, _INT64, _VECTOR, LANES, PANEL, _number, _spread

# ---- passes over a row -----------------------------------------------------------------------------------------------


def _real(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)


def _over_row(builder: Any, count: Any, rows: list[tuple[Any, float]], start: list[Any], body: Callable) -> list[Any]:
    """A loop over the vectors of some rows of `count` numbers, 1 at least, given as (address, what follows the last).

    `body(vectors, carried) -> (new vectors, or None for rows that stay, carried)`; returns what is carried at the end.
    """
    at = _VECTOR.as_pointer()
    read = function(builder, f"llvm.masked.load.v{LANES}f32.p0", _VECTOR, [at, _INT32, _BITS, _VECTOR])
    write = function(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), [_VECTOR, at, _INT32, _BITS])
    alignment, lanes = ir.Constant(_INT32, 4), ir.VectorType(_INT64, LANES)
    entry, loop, done = builder.block, builder.append_basic_block("row"), builder.append_basic_block("row_end")
    builder.branch(loop)
    builder.position_at_end(loop)
    place = builder.phi(_INT64)
    place.add_incoming(_number(0), entry)
    carried = []
    for value in start:
        carried.append(builder.phi(_VECTOR))
        carried[-1].add_incoming(value, entry)
    left = _spread(builder, builder.sub(count, place), lanes)
    wanted = builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), left)
    places = [builder.inttoptr(builder.add(row, builder.mul(place, _number(4))), at) for row, _ in rows]
    vectors = [
        builder.call(read, [there, alignment, wanted, _real(fill)])
        for there, (_, fill) in zip(places, rows, strict=True)
    ]
    results, new = body(vectors, carried)
    for there, result in zip(places, results, strict=True):
        if result is not None:
            builder.call(write, [result, there, alignment, wanted])
    following = builder.add(place, _number(LANES))
    place.add_incoming(following, loop)
    for phi, value in zip(carried, new, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return new


def _across(builder: Any, vector: Any, combine: Callable) -> Any:
    """All lanes combined, halves with halves."""
    run = LANES // 2
    while run:
        lanes = [lane ^ run for lane in range(LANES)]
        other = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_INT32, LANES), lanes))
        vector = combine(vector, other)
        run //= 2
    return builder.extract_element(vector, ir.Constant(_INT32, 0))


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), b, a)


@instruction("float32(int64, int64, float32)")
def _scale_row(builder: Any, row: Any, count: Any, factor: Any) -> Any:
    """Multiply a row; returns its largest number, NaN passed over."""
    factors = _spread(builder, factor, _VECTOR)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        scaled = builder.fmul(vectors[0], factors)
        return [scaled], [_larger(builder, carried[0], scaled)]

    (best,) = _over_row(builder, count, [(row, float("nan"))], [_real(float("-inf"))], body)
    return _across(builder, best, lambda a, b: _larger(builder, a, b))


@instruction("float32(int64, int64, float32)")
def _exp_row(builder: Any, row: Any, count: Any, shift: Any) -> Any:
    """Replace a row by `exp(row - shift)`, none of it above 1; returns the sum."""
    shifts = _spread(builder, shift, _VECTOR)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        value = exponential(builder, builder.fsub(vectors[0], shifts), falling=True)
        return [value], [builder.fadd(carried[0], value)]

    (total,) = _over_row(builder, count, [(row, float("-inf"))], [_real(0)], body)
    return _across(builder, total, builder.fadd)


@instruction("float32(int64, int64, int64)")
def _dot_rows(builder: Any, a: Any, b: Any, count: Any) -> Any:
    """The sum of the products of two rows."""
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        return [None, None], [builder.call(fma, [*vectors, carried[0]])]

    (total,) = _over_row(builder, count, [(a, 0.0), (b, 0.0)], [_real(0)], body)
    return _across(builder, total, builder.fadd)


@instruction("void(int64, int64, int64, float32, float32)")
def _softmax_grad_row(builder: Any, g: Any, y: Any, count: Any, along: Any, scale: Any) -> None:
    """Replace `g` by `y * (g - along) * scale`."""
    sums, factors = (_spread(builder, one, _VECTOR) for one in (along, scale))

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        difference = builder.fmul(builder.fsub(vectors[0], sums), factors)
        return [builder.fmul(vectors[1], difference), None], []

    _over_row(builder, count, [(g, 0.0), (y, 0.0)], [], body)


# ---- parts -----------------------------------------------------------------------------------------------------------

# Arguments: addresses.
_QUERY, _KEY, _VALUE, _RESULT, _MASK = 0, 1, 2, 3, 4  # _RESULT: in the backward pass its gradient; no _MASK: 0
_G_QUERY, _G_KEY, _G_VALUE = 5, 6, 7
_WEIGHTS, _KEEP = 8, 9  # contiguous (batch, heads, steps, sources); 0: not wanted, no dropout
_SCALES, _SCRATCH, _TABLE = 10, 11, 12  # scale and the kept weights' scale; room for all workers; what follows
# The table: first the strides in bytes over batch, steps and heads of the arrays at places 0 to 7.
_STEPS, _SOURCES, _DEPTH, _SIZE = 24, 25, 26, 27
_GROUPS, _HEADS_EACH = 28, 29  # how many groups, and how many heads each has
_CAUSAL, _ZERO_EMPTY = 30, 31
_BLOCK, _BLOCKS = 32, 33  # a part of the forward pass: so many steps, of so many stretches
_SCRATCH_STEP = 34

_FEW = 64  # steps whose scores are in the cache together; a multiple of the tile's rows
_ZERO, _ONE, _LEAST = np.float32(0), np.float32(1), np.float32(-np.inf)


@inner
def _at(n, table, place, batch, step, head):  # type: ignore[no-untyped-def]
    """The address of a row."""
    return n[place] + batch * table[3 * place] + step * table[3 * place + 1] + head * table[3 * place + 2]


@inner
def _fill(row, first, last, value):  # type: ignore[no-untyped-def]
    x = floats(row)
    for j in range(first, last):
        x[j] = value


@inner
def _softmax_row(n, table, row, batch, head, step, scale):  # type: ignore[no-untyped-def]
    sources, factor = table[_SOURCES], scale
    limit = min(sources, step + 1) if table[_CAUSAL] else sources
    if n[_MASK]:
        scores, mask = floats(row), octets(_at(n, table, _MASK, batch, step, head))
        allowed = 0
        for j in range(limit):
            allowed |= mask[j]
            score = scores[j] * scale
            scores[j] = score if mask[j] else _LEAST
        if allowed == 0:
            _fill(row, 0, sources, _ZERO if table[_ZERO_EMPTY] else _ONE / np.float32(sources))
            return
        factor = _ONE
    best = _scale_row(row, limit, factor)
    total = _exp_row(row, limit, best)
    _scale_row(row, limit, _ONE / total)
    _fill(row, limit, sources, _ZERO)


@inner
def _kept(n, table, row, batch, head, step, target, scale):  # type: ignore[no-untyped-def]
    """`row * keep * scale` to the target, which may be the row."""
    sources, heads = table[_SOURCES], table[_GROUPS] * table[_HEADS_EACH]
    keep = octets(n[_KEEP] + ((batch * heads + head) * table[_STEPS] + step) * sources)
    x, result = floats(row), floats(target)
    for j in range(sources):
        result[j] = x[j] * np.float32(keep[j]) * scale


@lazy_part
def _attention_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """A stretch of steps of one group's heads."""
    n = numbers(arguments)
    table, scales = numbers(n[_TABLE]), floats(n[_SCALES])
    sources, depth, size, each = table[_SOURCES], table[_DEPTH], table[_SIZE], table[_HEADS_EACH]
    stretch, group = part % table[_BLOCKS], part // table[_BLOCKS]
    batch, group = group // table[_GROUPS], group % table[_GROUPS]
    begin = stretch * table[_BLOCK]
    end = min(begin + table[_BLOCK], table[_STEPS])
    room = worker_room(n[_SCRATCH], table[_SCRATCH_STEP], worker)
    keys = room + ADDRESSES
    values = keys + panels(sources) * depth * PANEL
    free = values + panels(size) * sources * PANEL
    used = free + _FEW * 4 * sources
    pack_all(_at(n, table, _KEY, batch, 0, group), 4, table[3 * _KEY + 1], depth, sources, keys)
    pack_all(_at(n, table, _VALUE, batch, 0, group), table[3 * _VALUE + 1], 4, sources, size, values)
    row = 4 * sources
    for head in range(group * each, (group + 1) * each):
        for first in range(begin, end, _FEW):
            rows = min(_FEW, end - first)
            reach = min(sources, first + rows) if table[_CAUSAL] and not n[_MASK] else sources
            weights = free
            if n[_WEIGHTS]:
                weights = n[_WEIGHTS] + ((batch * table[_GROUPS] * each + head) * table[_STEPS] + first) * row
            query = _at(n, table, _QUERY, batch, first, head)
            matrix_block(
                room, query, table[3 * _QUERY + 1], 4, rows, depth, keys, depth * PANEL, reach, weights, row, 0
            )
            for i in range(rows):
                _softmax_row(n, table, weights + i * row, batch, head, first + i, scales[0])
            if n[_KEEP]:
                for i in range(rows):
                    _kept(n, table, weights + i * row, batch, head, first + i, used + i * row, scales[1])
                weights = used
            result = _at(n, table, _RESULT, batch, first, head)
            matrix_block(
                room, weights, row, 4, rows, reach, values, sources * PANEL, size, result, table[3 * _RESULT + 1], 0
            )


@lazy_part
def _attention_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """One group's heads."""
    n = numbers(arguments)
    table, scales = numbers(n[_TABLE]), floats(n[_SCALES])
    steps, sources, depth, size, each = table[_STEPS], table[_SOURCES], table[_DEPTH], table[_SIZE], table[_HEADS_EACH]
    batch, group = part // table[_GROUPS], part % table[_GROUPS]
    row = 4 * sources
    wide = row + 64  # so that a column's numbers do not all fall into one place of the cache
    room = worker_room(n[_SCRATCH], table[_SCRATCH_STEP], worker)
    keys = room + ADDRESSES
    values = keys + panels(depth) * sources * PANEL
    queries = values + panels(sources) * size * PANEL
    results = queries + panels(depth) * _FEW * PANEL
    scores = results + panels(size) * _FEW * PANEL
    used = scores + _FEW * wide
    pack_all(_at(n, table, _KEY, batch, 0, group), table[3 * _KEY + 1], 4, sources, depth, keys)
    pack_all(_at(n, table, _VALUE, batch, 0, group), 4, table[3 * _VALUE + 1], size, sources, values)
    g_key, g_value = _at(n, table, _G_KEY, batch, 0, group), _at(n, table, _G_VALUE, batch, 0, group)
    more = 0
    for head in range(group * each, (group + 1) * each):
        for first in range(0, steps, _FEW):
            rows = min(_FEW, steps - first)
            reach = sources
            if table[_CAUSAL] and not n[_MASK] and more:
                reach = min(sources, first + rows)
            weights = n[_WEIGHTS] + ((batch * table[_GROUPS] * each + head) * steps + first) * row
            query, g_result = _at(n, table, _QUERY, batch, first, head), _at(n, table, _RESULT, batch, first, head)
            pack_all(query, table[3 * _QUERY + 1], 4, rows, depth, queries)
            pack_all(g_result, table[3 * _RESULT + 1], 4, rows, size, results)
            matrix_block(
                room, g_result, table[3 * _RESULT + 1], 4, rows, size, values, size * PANEL, reach, scores, wide, 0
            )
            if n[_KEEP]:
                for i in range(rows):
                    _kept(n, table, weights + i * row, batch, head, first + i, used + i * row, scales[1])
                    _kept(n, table, scores + i * wide, batch, head, first + i, scores + i * wide, scales[1])
            for i in range(rows):
                g, y = scores + i * wide, weights + i * row
                along = _dot_rows(g, y, reach)
                _softmax_grad_row(g, y, reach, along, scales[0])
                if n[_MASK]:
                    mask, gradient = octets(_at(n, table, _MASK, batch, first + i, head)), floats(g)
                    for j in range(reach):
                        value = gradient[j]
                        gradient[j] = value if mask[j] else _ZERO
                    if table[_CAUSAL]:
                        _fill(g, min(first + i + 1, reach), reach, _ZERO)
            y = used if n[_KEEP] else weights
            matrix_block(
                room, y, 4, row, reach, rows, results, rows * PANEL, size, g_value, table[3 * _G_VALUE + 1], more
            )
            matrix_block(
                room, scores, 4, wide, reach, rows, queries, rows * PANEL, depth, g_key, table[3 * _G_KEY + 1], more
            )
            g_query = _at(n, table, _G_QUERY, batch, first, head)
            matrix_block(
                room, scores, wide, 4, rows, reach, keys, sources * PANEL, depth, g_query, table[3 * _G_QUERY + 1], 0
            )
            more = 1


@lru_cache(maxsize=256)
def _table(strides: tuple[tuple[int, ...], ...], *numbers: int) -> Any:
    """What parts read of the shapes and of how the arrays lie."""
    return np.array([*(stride for three in strides for stride in three[:3]), *numbers], np.int64)


_PARTS = 16  # at least, of a forward pass that has steps enough
_WAKES = 4_000_000  # multiplications for which a helper is waked
_NOTHING = (0, 0, 0)  # strides of an array that is not there


def _run(
    part: Any,
    arrays: tuple[Any, ...],
    others: tuple[Any, Any],
    mask: Any,
    scales: tuple[float, float],
    flags: tuple[bool, bool],
    room: int,
    block: int,
) -> None:
    """Run a part function on the arrays (query, key, value, result, gradients) and `others` (weights, keep).

    `block` steps are a part, or with 0 all of a group.
    """
    query, key, value = arrays[:3]
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    if mask is not None:
        if mask.shape[-1] != sources or mask.strides[-1] != 1:
            mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], sources)))
        mask = np.broadcast_to(mask, (batch, heads, steps, sources)).swapaxes(1, 2)
    placed = (*arrays[:4], mask, *(arrays[4:] or (None, None, None)))
    scratch, each = rooms(room)
    blocks = -(-steps // block) if block else 1
    table = _table(
        tuple(_NOTHING if one is None else one.strides for one in placed),
        *(steps, sources, depth, size, groups, heads // groups, *map(int, flags), block, blocks, each),
    )
    work = batch * heads * steps * sources * (depth + size)
    items = (*placed, *others, np.array(scales, np.float32), scratch, table)
    team.run(part.address, None, batch * groups * blocks, work >= _WAKES, items)


def attention(
    query: Any,
    key: Any,
    value: Any,
    scale: float,
    mask: Any,
    causal: bool,
    keep: Any,
    keep_scale: float,
    zero_empty: bool,
    wants_weights: bool,
) -> tuple[Any, Any]:
    """As the kernel, of float32 arrays that are not empty and contiguous along their last axis."""
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    y = empty((batch, steps, heads, size), query.dtype)
    weights = empty((batch, heads, steps, sources), query.dtype) if wants_weights else None
    fews = -(-steps // _FEW)
    block = -(-fews // min(-(-_PARTS // (batch * groups)), fews)) * _FEW
    room = panel_bytes(sources, depth) + panel_bytes(size, sources) + 2 * _FEW * 4 * sources
    arrays, flags = (query, key, value, y), (causal, zero_empty)
    _run(_attention_part, arrays, (weights, keep), mask, (scale, keep_scale), flags, room, block)
    return y, weights


def attention_grad(
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    weights: Any,
    scale: float,
    mask: Any,
    causal: bool,
    keep: Any,
    keep_scale: float,
) -> tuple[Any, Any, Any]:
    """As the kernel, of arrays as `attention` takes them.

    The gradients of arrays with equal leading axes are columns of one buffer, for the product that follows.
    """
    depth, sources, size = query.shape[3], key.shape[1], value.shape[3]
    gradients = _beside_each_other(query, key, value)
    room = panel_bytes(depth, sources + _FEW) + panel_bytes(sources, size) + panel_bytes(size, _FEW)
    room += _FEW * (8 * sources + 64)
    arrays, flags = (query, key, value, g, *gradients), (causal, False)
    _run(_attention_grad_part, arrays, (weights, keep), mask, (scale, keep_scale), flags, room, 0)
    return gradients


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
