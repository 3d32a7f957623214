"""Attention of one head after the other, in parts for the team: scores, softmax and sum while they are in the cache.

The products are made of tiles; the passes over a row of scores are written as LLVM code with vector types, as Numba
does not vectorise their sums and maxima.  This module imports Numba: import it at first need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import kept_njit, lazy_part
from minikeras.kernels.cpu.machine import pointer
from minikeras.kernels.cpu.stack import ADDRESSES, matrix_block, pack_all, panel_bytes, panels
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import _BITS, _INT32, _INT64, _LANES, _PANEL, _VECTOR, _number, _spread

# ---- passes over a row -----------------------------------------------------------------------------------------------


def _real(value: float) -> Any:
    return ir.Constant(_VECTOR, [float(np.float32(value))] * _LANES)


def _function(builder: Any, name: str, result: Any, parameters: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, parameters), name)


def _over_row(builder: Any, count: Any, rows: list[tuple[Any, float]], start: list[Any], body: Callable) -> list[Any]:
    """A loop over the vectors of some rows of `count` numbers, 1 at least, given as (address, what follows the last).

    `body(vectors, carried) -> (new vectors, or None for rows that stay, carried)`; returns what is carried at the end.
    """
    at = _VECTOR.as_pointer()
    read = _function(builder, f"llvm.masked.load.v{_LANES}f32.p0", _VECTOR, [at, _INT32, _BITS, _VECTOR])
    write = _function(builder, f"llvm.masked.store.v{_LANES}f32.p0", ir.VoidType(), [_VECTOR, at, _INT32, _BITS])
    alignment, lanes = ir.Constant(_INT32, 4), ir.VectorType(_INT64, _LANES)
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
    wanted = builder.icmp_signed("<", ir.Constant(lanes, list(range(_LANES))), left)
    places = [builder.inttoptr(builder.add(row, builder.mul(place, _number(4))), at) for row, _ in rows]
    vectors = [
        builder.call(read, [there, alignment, wanted, _real(fill)])
        for there, (_, fill) in zip(places, rows, strict=True)
    ]
    results, new = body(vectors, carried)
    for there, result in zip(places, results, strict=True):
        if result is not None:
            builder.call(write, [result, there, alignment, wanted])
    following = builder.add(place, _number(_LANES))
    place.add_incoming(following, loop)
    for phi, value in zip(carried, new, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return new


def _across(builder: Any, vector: Any, combine: Callable) -> Any:
    """All lanes combined, halves with halves."""
    run = _LANES // 2
    while run:
        lanes = [lane ^ run for lane in range(_LANES)]
        other = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_INT32, _LANES), lanes))
        vector = combine(vector, other)
        run //= 2
    return builder.extract_element(vector, ir.Constant(_INT32, 0))


_LEAST = -87.0  # the exponential of less is no normal number in float32, and taken for 0
_ROUNDS = 1.5 * 2**23  # adding it leaves the nearest integer in the lowest bits
_LN2 = (0.693145751953125, 1.428606765330187e-06)  # in two parts, the first short enough for exact multiples
# of (exp(r) - 1 - r) / r**2, highest power first: least relative error for |r| <= log(2) / 2, 3e-9
_EXP = (0.0013814596459269524, 0.0083687175065279, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552)


def _exponential(builder: Any, x: Any) -> Any:
    """exp(x) of a vector of numbers up to 0, to about 1 ulp; NaN stays."""
    fma = _function(builder, f"llvm.fma.v{_LANES}f32", _VECTOR, [_VECTOR] * 3)
    words = ir.VectorType(_INT32, _LANES)
    tiny = builder.fcmp_ordered("<", x, _real(_LEAST))
    x = builder.select(tiny, _real(_LEAST), x)
    shifted = builder.call(fma, [x, _real(1 / np.log(2)), _real(_ROUNDS)])
    n = builder.fsub(shifted, _real(_ROUNDS))
    r = x
    for part in _LN2:
        r = builder.call(fma, [n, _real(-part), r])
    value = _real(_EXP[0])
    for coefficient in _EXP[1:]:
        value = builder.call(fma, [value, r, _real(coefficient)])
    value = builder.call(fma, [builder.fmul(value, r), r, r])
    value = builder.fadd(value, _real(1))
    exponent = builder.shl(builder.bitcast(shifted, words), ir.Constant(words, [23] * _LANES))
    power = builder.bitcast(builder.add(exponent, ir.Constant(words, [127 << 23] * _LANES)), _VECTOR)
    return builder.select(tiny, _real(0), builder.fmul(value, power))


@intrinsic
def _scale_row(context, row, count, factor):  # type: ignore[no-untyped-def]
    """Multiply a row; returns its largest number, NaN passed over."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        row, count, factor = arguments
        factors = _spread(builder, factor, _VECTOR)

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", a, b), b, a)

        def body(vectors: list[Any], carried: list[Any]) -> Any:
            scaled = builder.fmul(vectors[0], factors)
            return [scaled], [larger(carried[0], scaled)]

        (best,) = _over_row(builder, count, [(row, float("nan"))], [_real(float("-inf"))], body)
        return _across(builder, best, larger)

    return types.float32(types.int64, types.int64, types.float32), generate


@intrinsic
def _exp_row(context, row, count, shift):  # type: ignore[no-untyped-def]
    """Replace a row by `exp(row - shift)`; returns the sum."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        row, count, shift = arguments
        shifts = _spread(builder, shift, _VECTOR)

        def body(vectors: list[Any], carried: list[Any]) -> Any:
            value = _exponential(builder, builder.fsub(vectors[0], shifts))
            return [value], [builder.fadd(carried[0], value)]

        (total,) = _over_row(builder, count, [(row, float("-inf"))], [_real(0)], body)
        return _across(builder, total, builder.fadd)

    return types.float32(types.int64, types.int64, types.float32), generate


@intrinsic
def _dot_rows(context, a, b, count):  # type: ignore[no-untyped-def]
    """The sum of the products of two rows."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        a, b, count = arguments
        fma = _function(builder, f"llvm.fma.v{_LANES}f32", _VECTOR, [_VECTOR] * 3)

        def body(vectors: list[Any], carried: list[Any]) -> Any:
            return [None, None], [builder.call(fma, [*vectors, carried[0]])]

        (total,) = _over_row(builder, count, [(a, 0.0), (b, 0.0)], [_real(0)], body)
        return _across(builder, total, builder.fadd)

    return types.float32(types.int64, types.int64, types.int64), generate


@intrinsic
def _softmax_grad_row(context, g, y, count, along, scale):  # type: ignore[no-untyped-def]
    """Replace `g` by `y * (g - along) * scale`."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        g, y, count, along, scale = arguments
        sums, factors = (_spread(builder, one, _VECTOR) for one in (along, scale))

        def body(vectors: list[Any], carried: list[Any]) -> Any:
            difference = builder.fmul(builder.fsub(vectors[0], sums), factors)
            return [builder.fmul(vectors[1], difference), None], []

        _over_row(builder, count, [(g, 0.0), (y, 0.0)], [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, types.float32, types.float32), generate


# ---- parts -----------------------------------------------------------------------------------------------------------

# Arguments, as int64: addresses, then strides in bytes over batch, steps and heads.
_QUERY, _KEY, _VALUE, _RESULT = (
    0,
    4,
    8,
    12,
)  # _RESULT: of the forward pass the result, of the backward pass its gradient
_G_QUERY, _G_KEY, _G_VALUE = 16, 20, 24
_WEIGHTS, _KEEP = 28, 29  # contiguous (batch, heads, steps, sources); 0: not wanted, no dropout
_MASK, _MASK_BATCH, _MASK_STEP, _MASK_HEAD = 30, 31, 32, 33  # address 0: none
_STEPS, _SOURCES, _DEPTH, _SIZE = 34, 35, 36, 37
_GROUPS, _HEADS_EACH = 38, 39  # how many groups, and how many heads each has
_CAUSAL, _ZERO_EMPTY = 40, 41
_BLOCK, _BLOCKS = 42, 43  # a part of the forward pass: so many steps, of so many stretches
_NUMBERS = 44  # address of scale and the kept weights' scale
_SCRATCH, _SCRATCH_STEP = 47, 48
_COUNT = 64

_FEW = 64  # steps whose scores are in the cache together; a multiple of the tile's rows


@kept_njit()
def _mask_of(n, batch, head, step):  # type: ignore[no-untyped-def]
    at = n[_MASK] + batch * n[_MASK_BATCH] + head * n[_MASK_HEAD] + step * n[_MASK_STEP]
    return carray(pointer(at), n[_SOURCES], np.uint8)


@kept_njit()
def _fill(row, first, last, value):  # type: ignore[no-untyped-def]
    numbers = carray(pointer(row), last, np.float32)
    for j in range(np.uint64(first), np.uint64(last)):
        numbers[j] = value


@kept_njit()
def _softmax_row(n, row, batch, head, step, scale):  # type: ignore[no-untyped-def]
    sources = n[_SOURCES]
    limit = min(sources, step + 1) if n[_CAUSAL] else sources
    scores = carray(pointer(row), sources, np.float32)
    if n[_MASK]:
        mask = _mask_of(n, batch, head, step)
        allowed = np.uint8(0)
        for j in range(np.uint64(limit)):
            allowed |= mask[j]
            scores[j] = scores[j] * scale if mask[j] else np.float32(-np.inf)
        if allowed == 0:
            _fill(row, 0, sources, np.float32(0) if n[_ZERO_EMPTY] else np.float32(1.0 / sources))
            return
        scale = np.float32(1)
    best = _scale_row(row, limit, scale)
    total = _exp_row(row, limit, best)
    _scale_row(row, limit, np.float32(1) / total)
    _fill(row, limit, sources, np.float32(0))


@kept_njit()
def _kept(n, row, batch, head, step, target, scale):  # type: ignore[no-untyped-def]
    """`row * keep * scale` to the target, which may be the row."""
    sources = n[_SOURCES]
    heads = n[_GROUPS] * n[_HEADS_EACH]
    keep = carray(pointer(n[_KEEP] + ((batch * heads + head) * n[_STEPS] + step) * sources), sources, np.uint8)
    source, result = carray(pointer(row), sources, np.float32), carray(pointer(target), sources, np.float32)
    for j in range(np.uint64(sources)):
        result[j] = source[j] * np.float32(keep[j]) * scale


@kept_njit()
def _at(n, place, batch, step, head):  # type: ignore[no-untyped-def]
    return n[place] + batch * n[place + 1] + step * n[place + 2] + head * n[place + 3]


@lazy_part
def _attention_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """A stretch of steps of one group's heads."""
    n = carray(pointer(arguments), _COUNT, np.int64)
    numbers = carray(pointer(n[_NUMBERS]), 2, np.float32)
    sources, depth, size, each = n[_SOURCES], n[_DEPTH], n[_SIZE], n[_HEADS_EACH]
    stretch, group = part % n[_BLOCKS], part // n[_BLOCKS]
    batch, group = group // n[_GROUPS], group % n[_GROUPS]
    begin = stretch * n[_BLOCK]
    end = min(begin + n[_BLOCK], n[_STEPS])
    room = n[_SCRATCH] + worker * n[_SCRATCH_STEP]
    keys = room + ADDRESSES
    values = keys + panels(sources) * depth * _PANEL
    free = values + panels(size) * sources * _PANEL
    used = free + _FEW * 4 * sources
    pack_all(_at(n, _KEY, batch, 0, group), 4, n[_KEY + 2], depth, sources, keys)
    pack_all(_at(n, _VALUE, batch, 0, group), n[_VALUE + 2], 4, sources, size, values)
    row = 4 * sources
    for head in range(group * each, (group + 1) * each):
        for first in range(begin, end, _FEW):
            rows = min(_FEW, end - first)
            reach = min(sources, first + rows) if n[_CAUSAL] and not n[_MASK] else sources
            weights = free
            if n[_WEIGHTS]:
                weights = n[_WEIGHTS] + ((batch * n[_GROUPS] * each + head) * n[_STEPS] + first) * row
            query = _at(n, _QUERY, batch, first, head)
            matrix_block(room, query, n[_QUERY + 2], 4, rows, depth, keys, depth * _PANEL, reach, weights, row, False)
            for i in range(rows):
                _softmax_row(n, weights + i * row, batch, head, first + i, numbers[0])
            if n[_KEEP]:
                for i in range(rows):
                    _kept(n, weights + i * row, batch, head, first + i, used + i * row, numbers[1])
                weights = used
            result = _at(n, _RESULT, batch, first, head)
            matrix_block(
                room, weights, row, 4, rows, reach, values, sources * _PANEL, size, result, n[_RESULT + 2], False
            )


@lazy_part
def _attention_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """One group's heads."""
    n = carray(pointer(arguments), _COUNT, np.int64)
    numbers = carray(pointer(n[_NUMBERS]), 2, np.float32)
    steps, sources, depth, size, each = n[_STEPS], n[_SOURCES], n[_DEPTH], n[_SIZE], n[_HEADS_EACH]
    batch, group = part // n[_GROUPS], part % n[_GROUPS]
    row = 4 * sources
    wide = row + 64  # so that a column's numbers do not all fall into one place of the cache
    room = n[_SCRATCH] + worker * n[_SCRATCH_STEP]
    keys = room + ADDRESSES
    values = keys + panels(depth) * sources * _PANEL
    queries = values + panels(sources) * size * _PANEL
    results = queries + panels(depth) * _FEW * _PANEL
    scores = results + panels(size) * _FEW * _PANEL
    used = scores + _FEW * wide
    pack_all(_at(n, _KEY, batch, 0, group), n[_KEY + 2], 4, sources, depth, keys)
    pack_all(_at(n, _VALUE, batch, 0, group), 4, n[_VALUE + 2], size, sources, values)
    g_key, g_value = _at(n, _G_KEY, batch, 0, group), _at(n, _G_VALUE, batch, 0, group)
    more = False
    for head in range(group * each, (group + 1) * each):
        for first in range(0, steps, _FEW):
            rows = min(_FEW, steps - first)
            reach = sources
            if n[_CAUSAL] and not n[_MASK] and more:
                reach = min(sources, first + rows)
            weights = n[_WEIGHTS] + ((batch * n[_GROUPS] * each + head) * steps + first) * row
            query, g_result = _at(n, _QUERY, batch, first, head), _at(n, _RESULT, batch, first, head)
            pack_all(query, n[_QUERY + 2], 4, rows, depth, queries)
            pack_all(g_result, n[_RESULT + 2], 4, rows, size, results)
            matrix_block(
                room, g_result, n[_RESULT + 2], 4, rows, size, values, size * _PANEL, reach, scores, wide, False
            )
            if n[_KEEP]:
                for i in range(rows):
                    _kept(n, weights + i * row, batch, head, first + i, used + i * row, numbers[1])
                    _kept(n, scores + i * wide, batch, head, first + i, scores + i * wide, numbers[1])
            for i in range(rows):
                g, y = scores + i * wide, weights + i * row
                along = _dot_rows(g, y, reach)
                _softmax_grad_row(g, y, reach, along, numbers[0])
                if n[_MASK]:
                    mask = _mask_of(n, batch, head, first + i)
                    numbers_of = carray(pointer(g), reach, np.float32)
                    for j in range(np.uint64(reach)):
                        numbers_of[j] = numbers_of[j] if mask[j] else np.float32(0)
                    if n[_CAUSAL]:
                        _fill(g, min(first + i + 1, reach), reach, np.float32(0))
            y = used if n[_KEEP] else weights
            matrix_block(room, y, 4, row, reach, rows, results, rows * _PANEL, size, g_value, n[_G_VALUE + 2], more)
            matrix_block(room, scores, 4, wide, reach, rows, queries, rows * _PANEL, depth, g_key, n[_G_KEY + 2], more)
            g_query = _at(n, _G_QUERY, batch, first, head)
            matrix_block(
                room, scores, wide, 4, rows, reach, keys, sources * _PANEL, depth, g_query, n[_G_QUERY + 2], False
            )
            more = True


def _places(numbers: Any, place: int, array: Any) -> None:
    """Write address and strides of an array (batch, steps, heads, size) whose last axis is contiguous."""
    numbers[place : place + 4] = array.ctypes.data, *array.strides[:3]


def _run(
    part: Any, parts: int, room: int, work: int, arrays: dict[int, Any], numbers: dict[int, int], factors: Any
) -> None:
    arguments = np.zeros(_COUNT, np.int64)
    for place, array in arrays.items():
        _places(arguments, place, array)
    for place, number in numbers.items():
        arguments[place] = number
    each = -(-(room + ADDRESSES) // 128) * 128
    scratch = empty((each * team.size + 64,), np.dtype(np.uint8))
    both = np.array(factors, np.float32)
    arguments[_NUMBERS] = both.ctypes.data
    arguments[_SCRATCH], arguments[_SCRATCH_STEP] = -(-scratch.ctypes.data // 64) * 64, each
    team.run(part.address, arguments, parts, work >= _WAKES)


_PARTS = 16  # at least, of a forward pass that has steps enough
_WAKES = 4_000_000  # multiplications for which a helper is waked


def _settings(query: Any, key: Any, value: Any, mask: Any, causal: bool, keep: Any) -> tuple[dict[int, int], Any]:
    """What both passes tell their parts, and the mask that the addresses belong to."""
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    numbers = {
        _STEPS: steps,
        _SOURCES: sources,
        _DEPTH: depth,
        _SIZE: size,
        _GROUPS: groups,
        _HEADS_EACH: heads // groups,
        _CAUSAL: int(causal),
        _KEEP: 0 if keep is None else keep.ctypes.data,
    }
    if mask is not None:
        if mask.shape[-1] != sources or mask.strides[-1] != 1:
            mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], sources)))
        mask = np.broadcast_to(mask, (batch, heads, steps, sources))
        numbers[_MASK] = mask.ctypes.data
        numbers[_MASK_BATCH], numbers[_MASK_HEAD], numbers[_MASK_STEP] = mask.strides[:3]
    return numbers, mask


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
    numbers, mask = _settings(query, key, value, mask, causal, keep)
    numbers[_ZERO_EMPTY] = int(zero_empty)
    numbers[_WEIGHTS] = 0 if weights is None else weights.ctypes.data
    fews = -(-steps // _FEW)
    block = -(-fews // min(-(-_PARTS // (batch * groups)), fews)) * _FEW
    numbers[_BLOCK], numbers[_BLOCKS] = block, -(-steps // block)
    room = panel_bytes(sources, depth) + panel_bytes(size, sources) + 2 * _FEW * 4 * sources
    work = batch * heads * steps * sources * (depth + size)
    arrays = {_QUERY: query, _KEY: key, _VALUE: value, _RESULT: y}
    _run(_attention_part, batch * groups * numbers[_BLOCKS], room, work, arrays, numbers, (scale, keep_scale))
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
    (batch, steps, heads, depth), (sources, groups), size = query.shape, key.shape[1:3], value.shape[3]
    gradients = _beside_each_other(query, key, value)
    numbers, mask = _settings(query, key, value, mask, causal, keep)
    numbers[_WEIGHTS] = weights.ctypes.data
    room = panel_bytes(depth, sources + _FEW) + panel_bytes(sources, size) + panel_bytes(size, _FEW)
    room += _FEW * (8 * sources + 64)
    work = 2 * batch * heads * steps * sources * (depth + size)
    arrays = {_QUERY: query, _KEY: key, _VALUE: value, _RESULT: g}
    arrays |= dict(zip((_G_QUERY, _G_KEY, _G_VALUE), gradients, strict=True))
    _run(_attention_grad_part, batch * groups, room, work, arrays, numbers, (scale, keep_scale))
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
