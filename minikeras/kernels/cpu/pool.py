"""Pooling on the CPU: one pass over the windows (see conv.py for the table), whose pictures the team shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import FAST, add_up_rows, emitted_part, floats, numbers, part, parts_for, share
from minikeras.kernels.cpu.conv import window_table
from minikeras.kernels.reference import pool as reference
from minikeras.kernels.reference.conv import Ints, Padding, output_shape
from minikeras.kernels.reference.pool import index_dtype, undilated
from minikeras.kernels.table import Kernels, contiguous_float32, override

_ZERO = np.float32(0)


@lru_cache(maxsize=256)
def _windows(x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> dict[str, Any]:
    """Arguments of all parts; the pictures are shared.

    The table (outputs, taps) has the position in a picture that each window's tap reads, or -1 for padding.
    """
    table = window_table((1, *x_shape[1:-1], 1), size, strides, padding, undilated(size))
    shape = {"pictures": x_shape[0], "inputs": math.prod(x_shape[1:-1]), "channels": x_shape[-1]}
    parts = min(parts_for(math.prod(x_shape)), x_shape[0])
    return {"parts": parts, "table": table, "outputs": len(table), "taps": table.shape[1], **shape}


@lru_cache(maxsize=256)
def _coverage(x_shape: Ints, size: Ints, strides: Ints, padding: Padding) -> dict[str, bool]:
    """Whether windows are `apart`, no input being in two, and whether besides every input is `covered` by one."""
    windows = _windows(x_shape, size, strides, padding)
    apart = all(step >= width for step, width in zip(strides, size, strict=True))
    return {"apart": apart, "covered": bool(apart and np.count_nonzero(windows["table"] >= 0) == windows["inputs"])}


# ---- maxima: written as LLVM code, because no vectoriser keeps the best values so far in registers -------------------

_LANES = 16


def _over_pictures(b: Any, part: Any, parts: Any, pictures: Any, inputs: Any, outputs: Any) -> Any:
    """A loop over a part's pictures: its context, and a function that gives a picture's (first input, first output)."""
    first, last = (b.sdiv(b.mul(pictures, place), parts) for place in (part, b.add(part, b.constant(1))))
    loop = b.loop(last, first)
    return loop, lambda: (b.mul(loop.index, inputs), b.mul(loop.index, outputs))


def _over_channels(b: Any, channels: Any, emit: Callable[[Any, int], None]) -> None:
    """Emit code for whole vectors and for what is left: `emit(first channel, lanes)`."""
    whole = b.and_(channels, b.constant(-_LANES))
    for begin, end, lanes in ((b.constant(0), whole, _LANES), (whole, channels, 1)):
        with b.loop(end, begin, lanes) as loop:
            emit(loop.index, lanes)


def _place_of(b: Any, table: Any, taps: Any, position: Any, tap: Any) -> Any:
    """What the table says: the position that the tap reads, -1 for padding."""
    return b.read(b.at(table, b.add(b.mul(position, taps), tap), 8), "int64")


def _maxima(name: str, with_index: bool) -> Any:
    """From x to y (and the index)."""

    def maxima(b, part, parts, pictures, x, y, index, table, outputs, taps, inputs, channels):
        """The first tap wins a tie, and NaN wins over numbers."""
        loop, firsts = _over_pictures(b, part, parts, pictures, inputs, outputs)
        with loop, b.loop(outputs) as positions:
            x_first, y_first = firsts()
            target = b.mul(b.add(y_first, positions.index), channels)

            def one(channel: Any, lanes: int) -> None:
                least, first = b.constant(-math.inf, "float32", lanes), b.constant(0, "uint8", lanes)
                with b.loop(taps, values=(least, first, b.constant(1, "bool"))) as tap:
                    best, winner, is_none = tap.values
                    place = _place_of(b, table, taps, positions.index, tap.index)

                    def better() -> list[Any]:
                        source = b.add(b.mul(b.add(x_first, place), channels), channel)
                        value = b.read(x, "float32", lanes, element=source)
                        is_new_nan = b.and_(b.fcmp_unordered("uno", value, value), b.fcmp_ordered("ord", best, best))
                        won = b.or_(b.fcmp_ordered(">", value, best), is_new_nan)
                        won = b.or_(won, b.spread(is_none, lanes))
                        number = b.spread(b.trunc(tap.index, b.type("uint8")), lanes)
                        return [b.select(won, value, best), b.select(won, number, winner), b.constant(0, "bool")]

                    tap.following = b.where(b.icmp_signed(">=", place, b.constant(0)), tap.values, better)
                result = b.add(target, channel)
                best, winner, _ = tap.values
                b.write(best, y, element=result)
                if with_index:
                    b.write(winner, index, element=result)

            _over_channels(b, channels, one)

    maxima.__name__ = name
    return emitted_part(maxima)


_max, _max_and_index = _maxima("_max", False), _maxima("_max_and_index", True)


@emitted_part
def _max_grad(b, part, parts, pictures, x, y, index, table, outputs, taps, inputs, channels, apart, covered):
    """From the gradient at y and the index to x's; where no windows overlap (`apart`) nothing is added up.

    What is not `covered` by windows is cleared first.
    """
    loop, firsts = _over_pictures(b, part, parts, pictures, inputs, outputs)
    with loop:
        x_first, y_first = firsts()
        with b.if_then(b.icmp_signed("==", covered, b.constant(0))):
            start = b.mul(x_first, channels)

            def clear(element: Any, lanes: int) -> None:
                b.write(b.constant(0.0, "float32", lanes), x, element=b.add(start, element))

            _over_channels(b, b.mul(inputs, channels), clear)
        adds = b.icmp_signed("==", apart, b.constant(0))
        with b.loop(outputs) as positions, b.loop(taps) as tap:
            place = _place_of(b, table, taps, positions.index, tap.index)
            source = b.mul(b.add(y_first, positions.index), channels)
            target = b.mul(b.add(x_first, place), channels)

            def one(channel: Any, lanes: int) -> None:
                zeros, at = b.constant(0.0, "float32", lanes), b.add(source, channel)
                winner = b.read(index, "uint8", lanes, element=at)
                gradient = b.read(y, "float32", lanes, element=at)
                won = b.icmp_signed("==", winner, b.spread(b.trunc(tap.index, b.type("uint8")), lanes))
                result = b.add(target, channel)
                own = b.select(won, gradient, zeros)
                (before,) = b.where(adds, [zeros], lambda: [b.read(x, "float32", lanes, element=result)])
                b.write(b.fadd(own, before), x, element=result)

            with b.if_then(b.icmp_signed(">=", place, b.constant(0)), likely=True):
                _over_channels(b, channels, one)


# ---- averages --------------------------------------------------------------------------------------------------------


@part(fastmath=FAST)
def _average(part, parts, pictures, x, y, table, outputs, taps, inputs, channels):
    first, last = share(part, parts, pictures)
    x_at, y_at = x + 4 * first * inputs * channels, y + 4 * first * outputs * channels
    places = numbers(table)
    for _ in range(last - first):
        for position in range(outputs):
            result = floats(y_at)
            for j in range(channels):
                result[j] = _ZERO
            count = 0
            for tap in range(taps):
                place = places[position * taps + tap]
                if place >= 0:
                    count += 1
                    value = floats(x_at + 4 * place * channels)
                    for j in range(channels):
                        result[j] += value[j]
            divisor = np.float32(max(count, 1))
            for j in range(channels):
                result[j] /= divisor
            y_at += 4 * channels
        x_at += 4 * inputs * channels


@part(fastmath=FAST)
def _average_grad(part, parts, pictures, x, g, table, outputs, taps, inputs, channels):
    first, last = share(part, parts, pictures)
    x_at, g_at = x + 4 * first * inputs * channels, g + 4 * first * outputs * channels
    places = numbers(table)
    for _ in range(last - first):
        result = floats(x_at)
        for j in range(inputs * channels):
            result[j] = _ZERO
        for position in range(outputs):
            gradient = floats(g_at)
            count = 0
            for tap in range(taps):
                count += places[position * taps + tap] >= 0
            divisor = np.float32(max(count, 1))
            for tap in range(taps):
                place = places[position * taps + tap]
                if place >= 0:
                    target = floats(x_at + 4 * place * channels)
                    for j in range(channels):
                        target[j] += gradient[j] / divisor
            g_at += 4 * channels
        x_at += 4 * inputs * channels


@part(fastmath=FAST)
def _global_average(part, parts, pictures, x, out, positions, channels):
    """Of pictures of (positions, channels)."""
    count = np.float32(positions)
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        value, mean = floats(x + 4 * picture * positions * channels), floats(out + 4 * picture * channels)
        add_up_rows(value, positions, channels, channels, mean)
        for j in range(channels):
            mean[j] /= count


@part
def _global_average_grad(part, parts, pictures, g, out, positions, channels):
    """From gradients at means to those at what they are of."""
    count = np.float32(positions)
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        gradient = floats(g + 4 * picture * channels)
        for i in range(picture * positions, (picture + 1) * positions):
            result = floats(out + 4 * i * channels)
            for j in range(channels):
                result[j] = gradient[j] / count


# ---- overrides -------------------------------------------------------------------------------------------------------


@override(reference.max_pool, "cpu", when=(contiguous_float32("x"), lambda size: index_dtype(size) == "uint8"))
def max_pool(
    k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, with_index: bool = False
) -> tuple[Any, Any]:
    shape = (x.shape[0], *output_shape(x.shape, size, strides, padding, undilated(size)), x.shape[-1])
    y = empty(shape, x.dtype)
    index = empty(shape, np.dtype(index_dtype(size))) if with_index else None
    if y.size:
        maxima = _max if index is None else _max_and_index
        maxima.run(x=x, y=y, index=index, **_windows(x.shape, size, strides, padding))
    return y, index


def _counts_in_bytes(index: Any) -> bool:
    return index.dtype.char == "B" and index.flags.c_contiguous


@override(reference.max_pool_grad, "cpu", when=(contiguous_float32("g", "out"), _counts_in_bytes))
def max_pool_grad(
    k: Kernels, g: Any, index: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = empty(x_shape, g.dtype) if out is None else out
    geometry = tuple(x_shape), size, strides, padding
    _max_grad.run(x=out, y=g, index=index, **_windows(*geometry), **_coverage(*geometry))
    return out


@override(reference.average_pool, "cpu", when=contiguous_float32("x", "out"))
def average_pool(k: Kernels, x: Any, *, size: Ints, strides: Ints, padding: Padding, out: Any = None) -> Any:
    if out is None:
        lengths = output_shape(x.shape, size, strides, padding, undilated(size))
        out = empty((x.shape[0], *lengths, x.shape[-1]), x.dtype)
    if out.size:
        _average.run(x=x, y=out, **_windows(x.shape, size, strides, padding))
    return out


@override(reference.average_pool_grad, "cpu", when=contiguous_float32("g", "out"))
def average_pool_grad(
    k: Kernels, g: Any, x_shape: Ints, *, size: Ints, strides: Ints, padding: Padding, out: Any = None
) -> Any:
    out = empty(x_shape, g.dtype) if out is None else out
    _average_grad.run(x=out, g=g, **_windows(tuple(x_shape), size, strides, padding))
    return out


_MANY = 1 << 14  # positions: the compiled pass adds them one after the other, which loses digits


@override(reference.global_average_pool, "cpu", when=(contiguous_float32("x"), lambda x: x.shape[1] <= _MANY))
def global_average_pool(k: Kernels, x: Any) -> Any:
    out = empty((x.shape[0], x.shape[2]), x.dtype)
    _, positions, channels = x.shape
    parts = min(parts_for(x.size), len(x))
    _global_average.run(parts, pictures=len(x), x=x, out=out, positions=positions, channels=channels)
    return out


@override(reference.global_average_pool_grad, "cpu", when=(contiguous_float32("g"), lambda positions: positions > 0))
def global_average_pool_grad(k: Kernels, g: Any, positions: int) -> Any:
    out = empty((g.shape[0], positions, g.shape[1]), g.dtype)
    parts, channels = min(parts_for(out.size), len(g)), g.shape[1]
    _global_average_grad.run(parts, pictures=len(g), g=g, out=out, positions=positions, channels=channels)
    return out
