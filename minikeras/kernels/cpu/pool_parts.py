"""Maxima of windows, and their gradients, as parts for the team: the pictures of float32 arrays.

Written as LLVM code with vector types: the best value so far stays in registers, which LLVM's vectoriser does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from minikeras.kernels.cpu.jit import emitted
from minikeras.kernels.cpu.machine import Loop
from minikeras.kernels.cpu.parts import parts_of
from minikeras.kernels.cpu.team import team

_LANES = 16
_NUMBER, _WORD, _BYTE, _BIT, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1), ir.FloatType()

# A part's arguments, which all functions call by these names.
_NAMES = ("pictures", "parts", "x", "y", "index", "table", "outputs", "taps", "inputs", "channels", "apart", "covered")


def _number(value: int) -> Any:
    return ir.Constant(_NUMBER, value)


def _over_pictures(builder: Any, arguments: Any, part: Any, emit: Callable[[dict[str, Any], Any], None]) -> None:
    """Emit code for each of a part's pictures: `emit(arguments by name, picture)`."""
    block = builder.inttoptr(arguments, _NUMBER.as_pointer())
    n = {name: builder.load(builder.gep(block, [_number(i)])) for i, name in enumerate(_NAMES)}
    first, last = (
        builder.sdiv(builder.mul(n["pictures"], place), n["parts"]) for place in (part, builder.add(part, _number(1)))
    )
    with Loop(builder, last, first) as pictures:
        emit(n, pictures.index)


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
        with Loop(builder, end, begin, lanes) as loop:
            emit(loop.index, lanes)


def _place_of(builder: Any, n: dict[str, Any], position: Any, tap: Any) -> Any:
    """What the table says: the position that the tap reads, -1 for padding."""
    entry = builder.add(builder.mul(position, n["taps"]), tap)
    return builder.load(builder.gep(builder.inttoptr(n["table"], _NUMBER.as_pointer()), [entry]))


def _if(builder: Any, condition: Any, usual: list[Any], emit: Callable[[], list[Any]]) -> list[Any]:
    """The values that the code of `emit` gives where the condition holds, else the usual ones."""
    before = builder.block
    with builder.if_then(condition, likely=True):
        values = emit()
        inside = builder.block
    results = []
    for value, other in zip(values, usual, strict=True):
        results.append(builder.phi(value.type))
        results[-1].add_incoming(value, inside)
        results[-1].add_incoming(other, before)
    return results


def _emit_max(builder: Any, arguments: Any, part: Any, with_index: bool) -> None:
    """From x to y (and the index): the first tap wins a tie, and NaN wins over numbers."""

    def of_picture(n: dict[str, Any], picture: Any) -> None:
        x_first, y_first = builder.mul(picture, n["inputs"]), builder.mul(picture, n["outputs"])
        with Loop(builder, n["outputs"]) as positions:
            target = builder.mul(builder.add(y_first, positions.index), n["channels"])

            def one(channel: Any, lanes: int) -> None:
                least = ir.Constant(ir.VectorType(_FLOAT, lanes), [float("-inf")] * lanes)
                first = ir.Constant(ir.VectorType(_BYTE, lanes), [0] * lanes)
                with Loop(builder, n["taps"], values=(least, first, ir.Constant(_BIT, 1))) as taps:
                    best, winner, is_none = taps.values
                    place = _place_of(builder, n, positions.index, taps.index)

                    def better() -> list[Any]:
                        source = builder.add(builder.mul(builder.add(x_first, place), n["channels"]), channel)
                        value = builder.load(_pointer(builder, n["x"], source, _FLOAT, lanes), align=4)
                        is_new_nan = builder.and_(
                            builder.fcmp_unordered("uno", value, value), builder.fcmp_ordered("ord", best, best)
                        )
                        won = builder.or_(builder.fcmp_ordered(">", value, best), is_new_nan)
                        won = builder.or_(won, _spread(builder, is_none, lanes))
                        tap = _spread(builder, builder.trunc(taps.index, _BYTE), lanes)
                        return [
                            builder.select(won, value, best),
                            builder.select(won, tap, winner),
                            ir.Constant(_BIT, 0),
                        ]

                    taps.following = _if(builder, builder.icmp_signed(">=", place, _number(0)), taps.values, better)
                result = builder.add(target, channel)
                best, winner, _ = taps.values
                builder.store(best, _pointer(builder, n["y"], result, _FLOAT, lanes), align=4)
                if with_index:
                    builder.store(winner, _pointer(builder, n["index"], result, _BYTE, lanes), align=1)

            _over_channels(builder, n["channels"], one)

    _over_pictures(builder, arguments, part, of_picture)


_PART = "void(int64, int64, int64)"


@emitted(_PART)
def _max_part(builder, arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y."""
    _emit_max(builder, arguments, part, with_index=False)


@emitted(_PART)
def _max_and_index_part(builder, arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y and the index."""
    _emit_max(builder, arguments, part, with_index=True)


@emitted(_PART)
def _gradient_part(builder, arguments, part, worker):  # type: ignore[no-untyped-def]
    """From the gradient at y and the index to x's; where no windows overlap (`apart`) nothing is added up."""

    def of_picture(n: dict[str, Any], picture: Any) -> None:
        x_first, y_first = builder.mul(picture, n["inputs"]), builder.mul(picture, n["outputs"])
        with builder.if_then(builder.icmp_signed("==", n["covered"], _number(0))):  # some inputs are in no window
            size = builder.mul(n["inputs"], n["channels"])
            start = builder.mul(picture, size)

            def clear(element: Any, lanes: int) -> None:
                zeros = ir.Constant(ir.VectorType(_FLOAT, lanes), [0.0] * lanes)
                place = _pointer(builder, n["x"], builder.add(start, element), _FLOAT, lanes)
                builder.store(zeros, place, align=4)

            _over_channels(builder, size, clear)
        adds = builder.icmp_signed("==", n["apart"], _number(0))
        with Loop(builder, n["outputs"]) as positions, Loop(builder, n["taps"]) as taps:
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
                (before,) = _if(builder, adds, [zeros], lambda: [builder.load(result_place, align=4)])
                builder.store(builder.fadd(own, before), result_place, align=4)

            with builder.if_then(builder.icmp_signed(">=", place, _number(0)), likely=True):
                _over_channels(builder, n["channels"], one)

    _over_pictures(builder, arguments, part, of_picture)


def _run(part: Any, x: Any, y: Any, index: Any, table: Any, apart: bool = False, covered: bool = False) -> None:
    inputs, channels = x[0].size // x.shape[-1], x.shape[-1]
    parts = min(parts_of(x.size), len(x))
    items = len(x), parts, x, y, index, table, *table.shape, inputs, channels, int(apart), int(covered)
    team.run(part.address, None, parts, True, items)


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
