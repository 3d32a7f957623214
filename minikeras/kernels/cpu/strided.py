"""What a recorded step asks of NumPy and machine code does to the bit: copies, and arithmetic that rounds once.

Here arrays have any strides and are repeated over each other in any way.  Eager code leaves such work to NumPy, which
is called in less time; a program has a call of machine code in its place, and so needs no Python for it (see
recording.py).  What is not done exactly alike, such as sums, which depend on their order, is not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, contiguous, current, empty, explain
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.cast import short_at, signed
from minikeras.kernels.cpu.compiler import (
    allow_denormals,
    floats,
    inner,
    numbers,
    octets,
    part,
    parts_for,
    restore_denormals,
    share,
    share_of_lines,
    specialised,
    words,
)
from minikeras.kernels.cpu.elementwise import OF_ONE, OF_TWO
from minikeras.kernels.cpu.embedding import index_at
from minikeras.kernels.cpu.reduction import pictures_of
from minikeras.kernels.cpu.refusals import refuse

_ZERO, _ONE = np.float32(0), np.float32(1)
_STEP = np.float32(2.0**-24)  # of the least float16 numbers

# A layout is an int64 array: the sizes of the outer axes, and of each operand the steps in bytes along those and along
# the inner axis.  The result is operand 0.


@inner
def _offset(row, layout, axes, operand):
    """How many bytes after an operand's first one a row along the inner axis begins."""
    sizes, steps = numbers(layout), numbers(layout + 8 * (axes + operand * (axes + 1)))
    rest, offset = row, 0
    for back in range(axes):
        size = sizes[axes - 1 - back]
        offset += rest % size * steps[axes - 1 - back]
        rest = rest // size
    return offset


@inner
def _step(layout, axes, operand):
    return numbers(layout)[2 * axes + operand * (axes + 1)]


@inner
def _rows(part, parts, rows):
    """A part's rows: some of them, or all where there are few."""
    first, last = share(part, parts, rows)
    return first if rows >= parts else 0, last if rows >= parts else rows


@inner
def _columns(part, parts, rows, count):
    first, last = share_of_lines(part, parts, count)
    return 0 if rows >= parts else first, count if rows >= parts else last


@inner
def _put_short(out, value):
    octets(out)[0] = np.uint8(value & 255)
    octets(out)[1] = np.uint8(value >> 8)


@part
def _move(part, parts, rows, count, axes, layout, width, number: float, a, out):
    """Copy values of 1, 2, 4 or 8 bytes.  The `number` that they all are, if one is given, tells recordings apart."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        if width == 4 and to == 4 and step == 4:
            for j in range(begin, end):
                words(here)[j] = words(there)[j]
        elif width == 4 and to == 4 and step == 0:
            value = words(there)[0]
            for j in range(begin, end):
                words(here)[j] = value
        elif width == 4:
            for j in range(begin, end):
                words(here + j * to)[0] = words(there + j * step)[0]
        elif width == 8:
            for j in range(begin, end):
                numbers(here + j * to)[0] = numbers(there + j * step)[0]
        elif width == 2:
            for j in range(begin, end):
                _put_short(here + j * to, short_at(there + j * step, 0))
        else:
            for j in range(begin, end):
                octets(here + j * to)[0] = octets(there + j * step)[0]


function = OF_TWO["add"]  # in the next function: the one that a part is made for


def _both(part, parts, rows, count, axes, layout, number: float, a, b, out):
    """A function of two float32 numbers."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step, other = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        y = b + _offset(row, layout, axes, 2)
        if to == 4 and step == 4 and other == 4:
            for j in range(begin, end):
                floats(here)[j] = function(floats(x)[j], floats(y)[j])
        elif to == 4 and step == 4 and other == 0:
            number_of_row = floats(y)[0]
            for j in range(begin, end):
                floats(here)[j] = function(floats(x)[j], number_of_row)
        else:
            for j in range(begin, end):
                floats(here + j * to)[0] = function(floats(x + j * step)[0], floats(y + j * other)[0])
    restore_denormals(before)


def _single(part, parts, rows, count, axes, layout, a, out):
    """A function of a float32 number."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        if to == 4 and step == 4:
            for j in range(begin, end):
                floats(here)[j] = function(floats(x)[j])
        else:
            for j in range(begin, end):
                floats(here + j * to)[0] = function(floats(x + j * step)[0])
    restore_denormals(before)


@inner
def _floor(x):
    return np.floor(x)


@inner
def _ceil(x):
    return -np.floor(-x)


@inner
def _sign(x):
    return _ONE if x > _ZERO else -_ONE if x < _ZERO else _ZERO if x == _ZERO else x


@inner
def _equal(a, b):
    return a == b


@inner
def _not_equal(a, b):
    return a != b


@inner
def _greater(a, b):
    return a > b


@inner
def _greater_equal(a, b):
    return a >= b


@inner
def _less(a, b):
    return a < b


@inner
def _less_equal(a, b):
    return a <= b


def _compared(part, parts, rows, count, axes, layout, number: float, a, b, out):
    """A truth about two float32 numbers."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step, other = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        y = b + _offset(row, layout, axes, 2)
        for j in range(begin, end):
            truth = 1 if function(floats(x + j * step)[0], floats(y + j * other)[0]) else 0
            octets(here + j * to)[0] = np.uint8(truth)
    restore_denormals(before)


@inner
def _is_nan(x):
    return x != x


@inner
def _is_finite(x):
    return x - x == _ZERO


@inner
def _is_infinite(x):
    return x == x and x - x != _ZERO


def _judged(part, parts, rows, count, axes, layout, a, out):
    """A truth about a float32 number."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        for j in range(begin, end):
            octets(here + j * to)[0] = np.uint8(1 if function(floats(x + j * step)[0]) else 0)
    restore_denormals(before)


@inner
def _and(a, b):
    return a & b


@inner
def _or(a, b):
    return a | b


@inner
def _differ(a, b):
    return a ^ b


def _of_truths(part, parts, rows, count, axes, layout, number: float, a, b, out):
    """Of two truths a third."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step, other = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        y = b + _offset(row, layout, axes, 2)
        for j in range(begin, end):
            octets(here + j * to)[0] = np.uint8(function(octets(x + j * step)[0], octets(y + j * other)[0]))


@part
def _not(part, parts, rows, count, axes, layout, a, out):
    """The contrary of truths."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        for j in range(begin, end):
            octets(here + j * to)[0] = np.uint8(0 if octets(there + j * step)[0] else 1)


@part
def _truths(part, parts, rows, count, axes, layout, a, out):
    """Truths as float32 numbers."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        for j in range(begin, end):
            floats(here + j * to)[0] = np.float32(octets(there + j * step)[0])


@inner
def _as_half(x):
    """The bits of the float16 that is nearest to the float32 at an address; of two equally near ones the even one."""
    bits = np.int64(words(x)[0])
    size, sign = bits & 0x7FFFFFFF, bits >> 16 & 0x8000
    if size > 0x7F800000:  # no number
        return sign | (0x7C00 | size >> 13 & 0x3FF if size >> 13 & 0x3FF else 0x7C01)
    if size >= 0x47800000:
        return sign | 0x7C00
    if size >= 0x38800000:
        return sign | size - 0x38000000 + 0xFFF + (size >> 13 & 1) >> 13
    steps = np.float64(abs(floats(x)[0])) * 16777216.0  # below the least normal number they are even
    whole = np.floor(steps)
    rest, below = steps - whole, int(whole)
    return sign | below + (1 if rest > 0.5 or (rest == 0.5 and below & 1) else 0)


@inner
def _from_half(bits, out):
    """Write the float32 that a float16 with these bits is."""
    exponent, rest, sign = bits >> 10 & 31, bits & 0x3FF, (bits & 0x8000) << 16
    if exponent == 0:
        value = np.float32(rest) * _STEP
        floats(out)[0] = -value if sign else value
    else:
        words(out)[0] = sign | (0x7F800000 if exponent == 31 else exponent + 112 << 23) | rest << 13


@inner
def _as_brain(x):
    """The bits of the bfloat16 that is nearest to the float32 at an address."""
    bits = np.int64(words(x)[0])
    if bits & 0x7FFFFFFF > 0x7F800000:
        return bits >> 16 & 0x8000 | 0x7FC0
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


@part
def _narrowed(part, parts, rows, count, axes, layout, brain, a, out):
    """float32 numbers as float16, or as bfloat16."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        pairs = (end - begin) // 2 if brain and to == 2 and step == 4 else 0
        for i in range(pairs):
            at = begin + 2 * i
            words(here + 2 * at)[0] = _as_brain(there + 4 * at) | _as_brain(there + 4 * at + 4) << 16
        for j in range(begin + 2 * pairs, end):
            value = there + j * step
            _put_short(here + j * to, _as_brain(value) if brain else _as_half(value))
    restore_denormals(before)


@part
def _widened(part, parts, rows, count, axes, layout, brain, a, out):
    """float16 numbers, or those of bfloat16, as float32."""
    before = allow_denormals()
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        pairs = (end - begin) // 2 if brain and to == 4 and step == 2 else 0
        for i in range(pairs):
            at = begin + 2 * i
            both = np.int64(words(there + 2 * at)[0])
            words(here + 4 * at)[0] = both << 16 & 0xFFFF0000
            words(here + 4 * at)[1] = both & 0xFFFF0000
        for j in range(begin + 2 * pairs, end):
            bits = short_at(there + j * step, 0)
            if brain:
                words(here + j * to)[0] = bits << 16
            else:
                _from_half(bits, here + j * to)
    restore_denormals(before)


@part
def _selected(part, parts, rows, count, axes, layout, number: float, condition, a, b, out, width):
    """Of two arrays of words of 4 or 8 bytes."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, truth, step = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    other = _step(layout, axes, 3)
    for row in range(first, last):
        here, test = out + _offset(row, layout, axes, 0), condition + _offset(row, layout, axes, 1)
        x, y = a + _offset(row, layout, axes, 2), b + _offset(row, layout, axes, 3)
        for j in range(begin, end):
            chosen = x + j * step if octets(test + j * truth)[0] else y + j * other
            if width == 4:
                words(here + j * to)[0] = words(chosen)[0]
            else:
                numbers(here + j * to)[0] = numbers(chosen)[0]


@inner
def _integer_at(x, kind):
    """A truth or a byte (kind 0), an int32 or an int64."""
    if kind == 0:
        return np.int64(octets(x)[0])
    if kind == 1:
        return signed(np.int64(words(x)[0]), 32)
    return numbers(x)[0]


@inner
def _put_integer(out, kind, value):
    if kind == 0:
        octets(out)[0] = np.uint8(value)
    elif kind == 1:
        words(out)[0] = value
    else:
        numbers(out)[0] = value


@inner
def _remainder(a, b):
    """Of a division by a positive number."""
    rest = a % b
    return rest + b if rest < 0 else rest


def _of_integers(part, parts, rows, count, axes, layout, number, kinds, kind, a, b, out):
    """A function of two integers; `kinds` is three times the second's kind and the first's."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step, other = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        y = b + _offset(row, layout, axes, 2)
        for j in range(begin, end):
            one, two = _integer_at(x + j * step, kinds % 3), _integer_at(y + j * other, kinds // 3)
            _put_integer(here + j * to, kind, function(one, two))


def _compared_integers(part, parts, rows, count, axes, layout, number, kinds, kind, a, b, out):
    """A truth about two integers."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step, other = _step(layout, axes, 0), _step(layout, axes, 1), _step(layout, axes, 2)
    for row in range(first, last):
        here, x = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        y = b + _offset(row, layout, axes, 2)
        for j in range(begin, end):
            one, two = _integer_at(x + j * step, kinds % 3), _integer_at(y + j * other, kinds // 3)
            octets(here + j * to)[0] = np.uint8(1 if function(one, two) else 0)


@part
def _converted(part, parts, rows, count, axes, layout, source, target, a, out):
    """Integers of one kind as those of another, or (3) as float32."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        for j in range(begin, end):
            value = _integer_at(there + j * step, source)
            if target == 3:
                floats(here + j * to)[0] = np.float32(value)
            else:
                _put_integer(here + j * to, target, value)


@part
def _truncated(part, parts, rows, count, axes, layout, target, limit: float, a, out, refusals):
    """float32 numbers within a range as integers."""
    first, last = _rows(part, parts, rows)
    begin, end = _columns(part, parts, rows, count)
    to, step = _step(layout, axes, 0), _step(layout, axes, 1)
    for row in range(first, last):
        here, there = out + _offset(row, layout, axes, 0), a + _offset(row, layout, axes, 1)
        for j in range(begin, end):
            value = np.float64(floats(there + j * step)[0])
            if abs(value) < limit:
                _put_integer(here + j * to, target, int(value))
            else:
                refuse(refusals)


@part
def _taken(part, parts, before, count, after, size, x, indices, wide, clip, out, refusals):
    """Of each picture of `size` rows those with an index, which may count from the end; `after` words are a row."""
    first, last = share(part, parts, before * count)
    for i in range(first, last):
        index = index_at(indices, wide, i % count)
        index = index + size if index < 0 and not clip else index
        if (index < 0 or index >= size) and not clip:
            refuse(refusals)
        index = min(max(index, 0), size - 1)
        source, target = words(x + 4 * (i // count * size + index) * after), words(out + 4 * i * after)
        for j in range(after):
            target[j] = source[j]


@part
def _taken_along(part, parts, before, count, after, size, x, indices, wide, out, refusals):
    """Of each line the words with its indices."""
    first, last = share(part, parts, before)
    for i in range(first * count * after, last * count * after):
        index = index_at(indices, wide, i)
        index = index + size if index < 0 else index
        if index < 0 or index >= size:
            refuse(refusals)
        index = min(max(index, 0), size - 1)
        words(out)[i] = words(x)[(i // (count * after) * size + index) * after + i % after]


@part
def _some(part, parts, pictures, rows, columns, x, out, wanted):
    """Of each picture of (rows, columns) of truths whether columns have one that is as wanted; if so, it is that."""
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        result = octets(out + picture * columns)
        for j in range(columns):
            result[j] = np.uint8(1 - wanted)
        for row in range(picture * rows, (picture + 1) * rows):
            truth = octets(x + row * columns)
            for j in range(columns):
                if truth[j] == wanted:
                    result[j] = np.uint8(wanted)


def _made(template: Callable, functions: dict[str, Any]) -> dict[str, Any]:
    made = {name: specialised(template, f"{name}{template.__name__}", function=one) for name, one in functions.items()}
    globals().update({f"_{one.function.__name__}": one for one in made.values()})  # where all kernels are found
    return made


_BOTH = _made(_both, OF_TWO)
_COMPARISONS = {
    "equal": _equal,
    "not_equal": _not_equal,
    "greater": _greater,
    "greater_equal": _greater_equal,
    "less": _less,
    "less_equal": _less_equal,
}
_COMPARED = _made(_compared, _COMPARISONS)
_INTEGERS_COMPARED = _made(_compared_integers, _COMPARISONS)
_OF_INTEGERS = _made(
    _of_integers, {**{name: OF_TWO[name] for name in ("add", "subtract", "multiply")}, "remainder": _remainder}
)
_EACH = _made(_single, {**OF_ONE, "floor": _floor, "ceil": _ceil, "sign": _sign})
_JUDGED = _made(_judged, {"isnan": _is_nan, "isfinite": _is_finite, "isinf": _is_infinite})
_JOINED = _made(_of_truths, {"bitwise_and": _and, "bitwise_or": _or, "bitwise_xor": _differ})

# ---- how operands lie ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _layout(shape: tuple[int, ...], *strides: tuple[int, ...]) -> dict[str, Any]:
    """The arguments of a part for operands of one shape: neighbouring axes that all walk through as one are one."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(one[-1] == own[axis] * size for one, own in zip(steps, strides, strict=True)):
            sizes[-1] *= size
            for one, own in zip(steps, strides, strict=True):
                one[-1] = own[axis]
        else:
            sizes.append(size)
            for one, own in zip(steps, strides, strict=True):
                one.append(own[axis])
    sizes, steps = sizes or [1], [one or [0] for one in steps]
    layout = constant(np.array([*sizes[:-1], *(step for one in steps for step in one)], np.int64))
    rows = math.prod(sizes[:-1])
    return {"rows": rows, "count": sizes[-1], "axes": len(sizes) - 1, "layout": layout}


def _run(part: Any, names: tuple[str, ...], out: np.ndarray, given: tuple[np.ndarray, ...], **more: Any) -> None:
    """Call a part for operands that are repeated to the shape of `out`."""
    operands = [np.broadcast_to(one.view(np.ndarray), out.shape) for one in given]
    layout = _layout(out.shape, out.strides, *[one.strides for one in operands])
    parts = min(parts_for(out.size), max(layout["rows"], layout["count"]))
    part.run(parts, **layout, **dict(zip(names, given, strict=True)), out=out, **more)


def move(out: np.ndarray, a: Any, number: float = 0.0) -> None:
    """`out[...] = a` for arrays of one type that share no memory."""
    if out.size:
        _run(_move, ("a",), out, (a,), width=out.itemsize, number=number)


def _buffer_like(array: np.ndarray) -> np.ndarray | None:
    """A buffer whose axes lie in memory as those of an array do that NumPy has made."""
    order = sorted(range(array.ndim), key=lambda i: -array.strides[i])
    buffer = empty(tuple([array.shape[i] for i in order]), array.dtype).transpose(np.argsort(order))
    usual = [i for i, size in enumerate(array.shape) if size > 1]
    return buffer if all(buffer.strides[i] == array.strides[i] for i in usual) else None


_KINDS = {np.dtype(np.bool_): 0, np.dtype(np.uint8): 0, np.dtype(np.int32): 1, np.dtype(np.int64): 2}
_WIDTHS, _TYPES = (1, 2, 4, 8), "?bBhHiIlLqQefdE"  # bytes, and letters with that of bfloat16
_SINGLE, _TRUTH = np.dtype(np.float32), np.dtype(np.bool_)
_NUMBERS = (bool, int, float)


def _operand(value: Any, dtype: np.dtype) -> tuple[Any, float] | None:
    """(an array of a type, the number it is made of), or None where a value is neither."""
    if isinstance(value, np.ndarray):
        if value.dtype != dtype or (not value.ndim and type(value) is np.ndarray and value.flags.writeable):
            return None
        return value, 0.0 if value.ndim or value.flags.writeable else float(value)
    if type(value) is dtype.type or type(value) in _NUMBERS:
        try:
            return constant(np.array(value, dtype)), float(value)
        except OverflowError:
            return None
    return None


def _numbers_of(value: Any) -> Any:
    """Truths and bytes as float32 numbers, which they become when they meet one."""
    if not isinstance(value, np.ndarray) or value.dtype.char not in "?B" or not value.size:
        return value
    out = empty(value.shape, _SINGLE)
    _run(_truths, ("a",), out, (value,))
    return out


def _alone(out: np.ndarray, *others: Any) -> bool:
    """Whether an array shares memory with none of the others, or lies exactly as they do."""
    return not any(
        isinstance(one, np.ndarray)
        and np.may_share_memory(out.view(np.ndarray), one.view(np.ndarray))
        and not (out.ctypes.data == one.ctypes.data and out.strides == one.strides and out.shape == one.shape)
        for one in others
    )


# ---- functions of NumPy ----------------------------------------------------------------------------------------------
# Each gets the function, its arguments and its options, and gives the result, or None where it does not do this.


def _is_positive(divisor: Any) -> bool:
    """Whether it is a positive number that is the same in each step."""
    if isinstance(divisor, np.ndarray):
        return not divisor.ndim and current.recording.are_fixed([divisor]) and int(divisor.view(np.ndarray)) > 0
    return type(divisor) is int and divisor > 0


def _integers_combined(name: str, function: Any, given: tuple) -> Any:
    compares = name in _INTEGERS_COMPARED
    part = _INTEGERS_COMPARED[name] if compares else _OF_INTEGERS.get(name)
    types = [one.dtype for one in given if isinstance(one, np.ndarray)]
    if part is None or not types or not all(one in _KINDS for one in types):
        return None
    if name == "remainder" and not _is_positive(given[1]):
        return None
    operands = [_operand(one, one.dtype if isinstance(one, np.ndarray) else types[0]) for one in given]
    new = None if None in operands or float in map(type, given) else _new(function, given, {})
    if new is None or new[0].dtype not in _KINDS or not (compares or new[0].dtype.kind == "i"):
        return None
    (a, one), (b, other) = operands  # type: ignore[misc]
    kinds = _KINDS[a.dtype] + 3 * _KINDS[b.dtype]
    _run(part, ("a", "b"), new[1], (a, b), number=int(one + other), kinds=kinds, kind=_KINDS[new[0].dtype])
    return new[1]


def _combined(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    name = function.__self__.__name__  # of a ufunc, whose `__call__` it is
    known = _FUNCTIONS.get(name)
    if known is None or options.keys() - {"out"} or not any(getattr(one, "dtype", None) == known[1] for one in given):
        return None if options else _integers_combined(name, function, given)
    part, taken, kind = known
    found = [_operand(_numbers_of(one) if taken == _SINGLE else one, taken) for one in given]
    operands = [one for one in found if one is not None]
    if len(operands) < len(found):
        return None
    arrays = tuple([array for array, _ in operands])
    out = options.get("out")
    if out is not None:
        (out,) = out
        if (
            out.dtype != kind
            or out.shape != np.broadcast_shapes(*[a.shape for a in arrays])
            or not _alone(out, *arrays)
        ):
            return None
    else:
        with np.errstate(all="ignore"):
            out = _buffer_like(function(*[a.view(np.ndarray) for a in arrays]))
    if out is not None and out.size:
        numbers_too = {"number": sum([number for _, number in operands])} if len(operands) == 2 else {}
        _run(part, ("a", "b")[: len(operands)], out, arrays, **numbers_too)
    return out


_FUNCTIONS = {
    **{name: (one, _SINGLE, _SINGLE) for name, one in {**_BOTH, **_EACH}.items()},
    **{name: (one, _SINGLE, _TRUTH) for name, one in {**_COMPARED, **_JUDGED}.items()},
    **{name: (one, _TRUTH, _TRUTH) for name, one in _JOINED.items()},
    **{f"logical_{name[8:]}": (one, _TRUTH, _TRUTH) for name, one in _JOINED.items()},
    **dict.fromkeys(("invert", "logical_not"), (_not, _TRUTH, _TRUTH)),
}  # by their names: a part, the type of what they take, and of what they give


def _assignment(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    array, index, value = given
    parts = index if isinstance(index, tuple) else (index,)
    if not all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return None
    target = array.view(np.ndarray)[parts if Ellipsis in parts else (*parts, Ellipsis)]
    return _put(target, value, array)


def _put(target: np.ndarray, value: Any, result: Any) -> Any:
    operand = _operand(value, target.dtype)
    if operand is None or target.itemsize not in _WIDTHS or not _alone(target, value):
        return None
    a, number = operand
    if a.ndim > target.ndim or np.broadcast_shapes(a.shape, target.shape) != target.shape:
        return None
    move(target, a, number)
    return result


def _fill(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    array, value = given
    return _put(array.view(np.ndarray), value, array)


def _copy_to(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    return None if options or len(given) != 2 else _put(given[0].view(np.ndarray), given[1], given[0])


def _new(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    """(NumPy's result, a buffer like it), or None where it is a view, empty or none of ours."""
    with np.errstate(all="ignore"):
        made = function(*_plain(given), **options)
    if not isinstance(made, np.ndarray) or made.itemsize not in _WIDTHS or made.dtype.char not in _TYPES:
        return None
    if not made.size or any(np.may_share_memory(made, one) for one in _plain(given) if isinstance(one, np.ndarray)):
        return None
    buffer = _buffer_like(made)
    return None if buffer is None else (made, buffer)


def _plain(given: Any) -> Any:
    if isinstance(given, (tuple, list)):
        return type(given)([_plain(one) for one in given])
    return given.view(np.ndarray) if isinstance(given, np.ndarray) else given


def _like(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    given_too = [one for one in options.values() if one is not None]
    new = None if given_too or len(given) > 1 else _new(function, given, {})
    if new is None or function is np.empty_like:
        return None if new is None else new[1]
    return _put(new[1], int(function is np.ones_like), new[1])


def _concatenated(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    axis = options.get("axis", 0) if len(given) == 1 else given[1]
    types = {getattr(one, "dtype", None) for one in given[0]}
    if type(axis) is not int or len(types) > 1 or options.get("out") is not None or options.get("dtype") is not None:
        return None
    new = _new(function, given, options)
    if new is None:
        return None
    start, along = 0, axis % new[0].ndim
    for one in given[0]:
        end = start + one.shape[along]
        move(new[1].view(np.ndarray)[(slice(None),) * along + (slice(start, end),)], one)
        start = end
    return new[1]


def _by_its_parts(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    """What NumPy itself makes of other functions."""
    return function.__wrapped__(*given, **options)


def _copy(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    """Copies in the same or (reshape and its kin) in another shape."""
    if "order" in options or not all(isinstance(one, (int, tuple, list)) for one in given[1:]):
        return None
    new = _new(function, given, options)
    if new is None or new[0].dtype != given[0].dtype:
        return None
    made, out = new
    if made.shape != given[0].shape and not made.flags.c_contiguous:
        return None
    move(out if made.shape == given[0].shape else out.reshape(given[0].shape), given[0])
    return out


def _repeat(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    a, repeats, axis = (*given, options.get("axis"))[:3] if len(given) == 2 else (*given, None)[:3]
    if type(repeats) is not int or type(axis) is not int or not repeats or not a.size:
        return None
    new = _new(function, given, options)
    if new is None or not new[0].flags.c_contiguous:
        return None
    axis %= a.ndim
    before, after = a.shape[: axis + 1], a.shape[axis + 1 :]
    move(new[1].reshape((*before, repeats, *after)), a.reshape((*before, 1, *after)))
    return new[1]


def _pad(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    number = options.get("constant_values", 0)
    if options.keys() - {"mode", "constant_values"} or options.get("mode") != "constant" or len(given) != 2:
        return None
    operand = None if isinstance(number, np.ndarray) else _operand(number, given[0].dtype)
    new = None if operand is None else _new(function, given, options)
    if operand is None or new is None:
        return None
    a, widths = given
    inside = tuple([slice(before, before + size) for (before, _), size in zip(widths, a.shape, strict=True)])
    move(new[1], *operand)
    move(new[1].view(np.ndarray)[inside], a)
    return new[1]


def _astype(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    array, kind = given[0], np.dtype(given[1]) if len(given) == 2 else None
    if options.keys() - {"copy"} or kind is None or not array.size:
        return None
    if array.dtype == kind:
        return _copy(lambda one: one.astype(kind), given[:1], {}) if options.get("copy", True) else None
    if array.dtype in _KINDS and (kind == _SINGLE or kind in _KINDS):
        return _integers_astype(array, kind, _new(function, given, {}))
    if array.dtype == _SINGLE and kind in _RANGES:
        return _truncate(array, kind, _new(function, given, {}))
    letters = array.dtype.char + kind.char
    new = _new(function, given, {}) if letters in ("f?", "?f", "fe", "ef", "fE", "Ef") else None
    if new is None:
        return None
    out = new[1]
    if "e" in letters.lower():
        _run(_narrowed if letters[0] == "f" else _widened, ("a",), out, (array,), brain=int("E" in letters))
    elif kind == _SINGLE:
        _run(_truths, ("a",), out, (array,))
    else:
        _run(_COMPARED["not_equal"], ("a", "b"), out, (array, constant(np.zeros((), _SINGLE))), number=0.0)
    return out


def _integers_astype(array: np.ndarray, kind: np.dtype, new: Any) -> Any:
    if new is None:
        return None
    source, target = _KINDS[array.dtype], _KINDS.get(kind, 3)
    if kind == _TRUTH:
        zero, kinds = constant(np.zeros((), array.dtype)), 4 * source
        _run(_INTEGERS_COMPARED["not_equal"], ("a", "b"), new[1], (array, zero), number=0, kinds=kinds, kind=0)
    else:
        _run(_converted, ("a",), new[1], (array,), source=source, target=target)
    return new[1]


def _truncate(array: np.ndarray, kind: np.dtype, new: Any) -> Any:
    """Numbers beyond the range, which NumPy makes something of, end a program."""
    limit = _RANGES[kind]
    if new is None or not (np.abs(array.view(np.ndarray)) < limit).all():
        return None
    _run(_truncated, ("a",), new[1], (array,), target=_KINDS[kind], limit=limit, refusals=refusals.ADDRESS)
    return new[1]


_RANGES = {np.dtype(np.int32): 2.0**31, np.dtype(np.int64): 2.0**63}


def _where(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    if len(given) != 3 or options or not isinstance(given[0], np.ndarray) or given[0].dtype != _TRUTH:
        return None
    types = [one.dtype for one in given[1:] if isinstance(one, np.ndarray)]
    operands = [_operand(one, types[0]) for one in given[1:]] if types and types[0].itemsize in (4, 8) else [None]
    if None in operands:
        return None
    new = _new(function, given, options)
    if new is None or new[0].dtype != types[0]:
        return None
    (a, one), (b, other) = operands  # type: ignore[misc]
    width = new[0].itemsize
    _run(_selected, ("condition", "a", "b"), new[1], (given[0], a, b), number=one + other, width=width)
    return new[1]


_plain_take: Any = np.take


def _take(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    x, indices, axis = (*given, options.get("axis"))[:3]
    out, mode = options.get("out"), options.get("mode", "raise")
    plain = isinstance(x, np.ndarray) and isinstance(indices, np.ndarray) and type(axis) is int and len(given) < 4
    if not plain or options.keys() - {"axis", "out", "mode"} or mode not in ("raise", "clip"):
        return None
    new = _new(_plain_take, (x, indices, axis, None, mode), {}) if _sized_words(x, indices) else None
    if (
        new is None
        or not new[0].flags.c_contiguous
        or (out is not None and not (out.flags.c_contiguous and _alone(out, x)))
    ):
        return None
    axis, out = axis % x.ndim, new[1] if out is None else out
    sizes = math.prod(x.shape[:axis]), indices.size, math.prod(x.shape[axis + 1 :]) * (x.itemsize // 4), x.shape[axis]
    parts = min(parts_for(out.size), sizes[0] * sizes[1])
    _run_taking(_taken, parts, sizes, x, indices, out, clip=int(mode == "clip"))
    explain(0, lambda: _plain_take(*_plain((x, indices)), axis, None, mode))
    return out


def _take_along(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    x, indices, axis = (*given, options.get("axis"))[:3]
    plain = isinstance(x, np.ndarray) and isinstance(indices, np.ndarray) and type(axis) is int and x.itemsize == 4
    if not plain or not _sized_words(x, indices) or x.ndim != indices.ndim:
        return None
    axis %= x.ndim
    if x.shape[:axis] != indices.shape[:axis] or x.shape[axis + 1 :] != indices.shape[axis + 1 :]:
        return None
    new = _new(function, (x, indices), {"axis": axis})
    if new is None or not new[0].flags.c_contiguous:
        return None
    sizes = math.prod(x.shape[:axis]), indices.shape[axis], math.prod(x.shape[axis + 1 :]), x.shape[axis]
    _run_taking(_taken_along, min(parts_for(new[0].size), sizes[0]), sizes, x, indices, new[1])
    explain(0, lambda: function(*_plain((x, indices)), axis=axis))
    return new[1]


def _sized_words(x: np.ndarray, indices: np.ndarray) -> bool:
    """Whether these are numbers of 4 or 8 bytes without gaps, and integers."""
    return (
        x.itemsize in (4, 8)
        and x.size > 0
        and x.flags.c_contiguous
        and indices.dtype.char in "ilq"
        and indices.size > 0
    )


def _run_taking(part: Any, parts: int, sizes: tuple, x: Any, indices: Any, out: Any, **more: Any) -> None:
    named = dict(zip(("before", "count", "after", "size"), sizes, strict=True))
    flat, wide = contiguous(indices), int(indices.dtype.char != "i")
    part.run(parts, **named, x=x, indices=flat, wide=wide, out=out, refusals=refusals.ADDRESS, **more)


def _any_or_all(function: Any, given: tuple, options: dict[str, Any]) -> Any:
    x, axis, keepdims = given[0], options.get("axis"), options.get("keepdims", False)
    if len(given) > 1 or options.keys() - {"axis", "keepdims"} or x.dtype != _TRUTH or not x.flags.c_contiguous:
        return None
    found = pictures_of(x.shape, axis, keepdims) if x.size else None
    if found is None:
        return None
    shape, pictures, rows, columns = found
    out = empty(shape, _TRUTH)
    parts, sizes = min(parts_for(x.size), pictures), {"pictures": pictures, "rows": rows, "columns": columns}
    _some.run(parts, **sizes, x=x, out=out, wanted=int(function is np.any))
    return out


_INSTEAD: dict[str, Callable[[Any, tuple, dict[str, Any]], Any]] = {
    **dict.fromkeys((*_FUNCTIONS, "remainder"), _combined),
    **dict.fromkeys(("empty_like", "ones_like", "zeros_like"), _like),
    **dict.fromkeys(("roll", "stack", "tile"), _by_its_parts),
    "concatenate": _concatenated,
    **dict.fromkeys(("copy", "reshape", "ravel", "flatten", "ascontiguousarray"), _copy),
    **dict.fromkeys(("any", "all"), _any_or_all),
    "assignment": _assignment,
    "copyto": _copy_to,
    "fill": _fill,
    "repeat": _repeat,
    "pad": _pad,
    "astype": _astype,
    "where": _where,
    "take": _take,
    "take_along_axis": _take_along,
}


def instead(function: Any, given: Any, options: dict[str, Any], name: str) -> Any:
    """What a function of NumPy gives, computed by calls of machine code; None where it is not done here."""
    known = _INSTEAD.get(name)
    return None if known is None else known(function, given, options)
