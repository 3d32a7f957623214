"""Maxima of windows, and their gradients, as parts for the team: the pictures of float32 arrays.

Written as LLVM code with vector types: Numba's vectoriser takes half a second for such a loop, and keeps the best value
so far in memory.  This module imports Numba: import it at first need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minikeras.kernels.cpu.jit import lazy_part
from minikeras.kernels.cpu.parts import parts_of
from minikeras.kernels.cpu.team import team

_LANES = 16
_NUMBER, _WORD, _BYTE, _BIT, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1), ir.FloatType()

# A part's arguments, which both functions call by these names.
_NAMES = ("pictures", "parts", "x", "y", "index", "table", "outputs", "taps", "inputs", "channels", "apart", "covered")


def _of_pictures(emit: Callable[..., None], **options: Any) -> Any:
    """The function that does a part's pictures with the code of `emit(builder, numbers, picture, **options)`."""

    @intrinsic
    def pool(context, arguments, part):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            block = builder.inttoptr(values[0], _NUMBER.as_pointer())
            n = {name: builder.load(builder.gep(block, [_number(i)])) for i, name in enumerate(_NAMES)}
            first, last = (
                builder.sdiv(builder.mul(n["pictures"], place), n["parts"])
                for place in (values[1], builder.add(values[1], _number(1)))
            )
            with cgutils.for_range(builder, builder.sub(last, first)) as pictures:
                emit(builder, n, builder.add(first, pictures.index), **options)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return pool


def _number(value: int) -> Any:
    return ir.Constant(_NUMBER, value)


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """A value in every lane of a vector."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_WORD, lanes), [0] * lanes))


def _pointer(builder: Any, address: Any, index: Any, kind: Any, lanes: int) -> Any:
    """To `lanes` values from number `index` on."""
    start = builder.gep(builder.inttoptr(address, kind.as_pointer()), [index])
    return builder.bitcast(start, ir.VectorType(kind, lanes).as_pointer())


def _over_channels(builder: Any, channels: Any, emit: Callable[[Any, int], None]) -> None:
    """Emit code for whole vectors and for what is left: `emit(first channel, lanes)`."""
    whole = builder.and_(channels, _number(-_LANES))
    for begin, end, lanes in ((_number(0), whole, _LANES), (whole, channels, 1)):
        with cgutils.for_range_slice(builder, begin, end, _number(lanes), _NUMBER) as (channel, _):
            emit(channel, lanes)


def _place_of(builder: Any, n: dict[str, Any], position: Any, tap: Any) -> Any:
    """What the table says: the position that the tap reads, -1 for padding."""
    entry = builder.add(builder.mul(position, n["taps"]), tap)
    return builder.load(builder.gep(builder.inttoptr(n["table"], _NUMBER.as_pointer()), [entry]))


def _emit_max(builder: Any, n: dict[str, Any], picture: Any, with_index: bool) -> None:
    """From x to y (and the index): the first tap wins a tie, and NaN wins over numbers."""
    x_first, y_first = builder.mul(picture, n["inputs"]), builder.mul(picture, n["outputs"])
    with cgutils.for_range(builder, n["outputs"]) as positions:
        target = builder.mul(builder.add(y_first, positions.index), n["channels"])

        def one(channel: Any, lanes: int) -> None:
            floats, bytes_ = ir.VectorType(_FLOAT, lanes), ir.VectorType(_BYTE, lanes)
            best_place, winner_place, none_place = (
                cgutils.alloca_once(builder, kind) for kind in (floats, bytes_, _BIT)
            )
            builder.store(ir.Constant(floats, [float("-inf")] * lanes), best_place)
            builder.store(ir.Constant(bytes_, [0] * lanes), winner_place)
            builder.store(ir.Constant(_BIT, 1), none_place)
            with cgutils.for_range(builder, n["taps"]) as taps:
                place = _place_of(builder, n, positions.index, taps.index)
                with builder.if_then(builder.icmp_signed(">=", place, _number(0)), likely=True):
                    source = builder.add(builder.mul(builder.add(x_first, place), n["channels"]), channel)
                    value = builder.load(_pointer(builder, n["x"], source, _FLOAT, lanes), align=4)
                    best = builder.load(best_place)
                    is_new_nan = builder.and_(
                        builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered("ord", best, best)
                    )
                    won = builder.or_(builder.fcmp_ordered(">", value, best), is_new_nan)
                    won = builder.or_(won, _spread(builder, builder.load(none_place), lanes))
                    builder.store(builder.select(won, value, best), best_place)
                    tap = _spread(builder, builder.trunc(taps.index, _BYTE), lanes)
                    builder.store(builder.select(won, tap, builder.load(winner_place)), winner_place)
                    builder.store(ir.Constant(_BIT, 0), none_place)
            result = builder.add(target, channel)
            builder.store(builder.load(best_place), _pointer(builder, n["y"], result, _FLOAT, lanes), align=4)
            if with_index:
                winner = builder.load(winner_place)
                builder.store(winner, _pointer(builder, n["index"], result, _BYTE, lanes), align=1)

        _over_channels(builder, n["channels"], one)


def _emit_gradient(builder: Any, n: dict[str, Any], picture: Any) -> None:
    """From the gradient at y and the index to x's; where no windows overlap (`apart`) nothing is added up."""
    x_first, y_first = builder.mul(picture, n["inputs"]), builder.mul(picture, n["outputs"])
    with builder.if_then(builder.icmp_signed("==", n["covered"], _number(0))):  # some inputs are in no window
        size = builder.mul(n["inputs"], n["channels"])
        start = _pointer(builder, n["x"], builder.mul(picture, size), _FLOAT, 1)
        cgutils.memset(builder, builder.bitcast(start, _BYTE.as_pointer()), builder.mul(size, _number(4)), 0)
    with cgutils.for_range(builder, n["outputs"]) as positions, cgutils.for_range(builder, n["taps"]) as taps:
        place = _place_of(builder, n, positions.index, taps.index)
        source = builder.mul(builder.add(y_first, positions.index), n["channels"])
        target = builder.mul(builder.add(x_first, place), n["channels"])

        def one(channel: Any, lanes: int) -> None:
            zeros = ir.Constant(ir.VectorType(_FLOAT, lanes), [0.0] * lanes)
            at = builder.add(source, channel)
            winner = builder.load(_pointer(builder, n["index"], at, _BYTE, lanes), align=1)
            gradient = builder.load(_pointer(builder, n["y"], at, _FLOAT, lanes), align=4)
            won = builder.icmp_signed("==", winner, _spread(builder, builder.trunc(taps.index, _BYTE), lanes))
            result_place = _pointer(builder, n["x"], builder.add(target, channel), _FLOAT, lanes)
            own = builder.select(won, gradient, zeros)
            before = cgutils.alloca_once_value(builder, zeros)
            builder.store(zeros, before)
            with builder.if_then(builder.icmp_signed("==", n["apart"], _number(0))):
                builder.store(builder.load(result_place, align=4), before)
            builder.store(builder.fadd(own, builder.load(before)), result_place, align=4)

        with builder.if_then(builder.icmp_signed(">=", place, _number(0)), likely=True):
            _over_channels(builder, n["channels"], one)


_max = _of_pictures(_emit_max, with_index=False)
_max_and_index = _of_pictures(_emit_max, with_index=True)
_gradient = _of_pictures(_emit_gradient)


@lazy_part
def _max_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    _max(arguments, part)


@lazy_part
def _max_and_index_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    _max_and_index(arguments, part)


@lazy_part
def _gradient_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    _gradient(arguments, part)


def _run(part: Any, x: Any, y: Any, index: Any, table: Any, apart: bool = False, covered: bool = False) -> None:
    inputs, channels = x[0].size // x.shape[-1], x.shape[-1]
    parts = min(parts_of(x.size), len(x))
    numbers = np.zeros(len(_NAMES), np.int64)
    numbers[:5] = len(x), parts, x.ctypes.data, y.ctypes.data, 0 if index is None else index.ctypes.data
    numbers[5:] = table.ctypes.data, *table.shape, inputs, channels, apart, covered
    team.run(part.address, numbers, parts)


def max_pool(x: Any, y: Any, index: Any, table: Any) -> None:
    """The kernel `max_pool` of contiguous float32 arrays that are not empty, into `y` and `index` (bytes, or None).

    Args:
        table: (outputs, taps): the position in a picture that each window's tap reads, or -1.
    """
    _run(_max_part if index is None else _max_and_index_part, x, y, index, table)


def max_pool_grad(g: Any, index: Any, x: Any, table: Any, apart: bool, covered: bool) -> None:
    """The kernel `max_pool_grad`, into `x`.

    Args:
        apart: whether no input is in two windows.
        covered: whether, besides, every input is in one.
    """
    _run(_gradient_part, x, g, index, table, apart, covered)
