"""Elementwise arithmetic on the CPU: compiled for float32 within a step, and where it is long enough for the team.

Everything here rounds as NumPy does, tiny numbers included, so that small arrays outside of a step are left to NumPy,
which is called in less time.  Most operands have one shape, or one of them is a number, or is repeated over the
other's leading axes (a row) or its last ones (a column); others are gone through row by row.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, current
from minikeras.kernels.cpu.compiler import (
    Floats,
    Numbers,
    Octets,
    allow_denormals,
    floats,
    inner,
    part,
    parts_for,
    restore_denormals,
    share,
    share_of_lines,
    specialised,
)
from minikeras.kernels.reference import elementwise as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NUMBERS = frozenset((bool, int, float))
_LARGE = 16384  # elements; NumPy's own call takes less time than the least of a part's below, and more above

# ---- functions of one and two numbers --------------------------------------------------------------------------------


@inner
def _add(a, b):
    return a + b


@inner
def _subtract(a, b):
    return a - b


@inner
def _subtract_from(a, b):
    return b - a


@inner
def _multiply(a, b):
    return a * b


@inner
def _divide(a, b):
    return a / b


@inner
def _divide_by(a, b):
    return b / a


@inner
def _maximum(a, b):
    larger = a if a > b else b  # b where it is no number
    return larger if a == a else a


@inner
def _minimum(a, b):
    smaller = a if a < b else b
    return smaller if a == a else a


@inner
def _first(a, b):
    return a


@inner
def _same(x):
    return x


@inner
def _negative(x):
    return -x


@inner
def _of_negative(g, x):
    return -g


@inner
def _absolute(x):
    return abs(x)


@inner
def _of_absolute(g, x):
    sign = _ONE if x > _ZERO else -_ONE if x < _ZERO else x  # of no number that, of zeros those
    return g * sign


@inner
def _square(x):
    return x * x


@inner
def _of_square(g, x):
    return g * (x + x)


@inner
def _sqrt(x):
    return math.sqrt(x)


@inner
def _of_sqrt(g, y):
    return g * (_HALF / y)


@inner
def _reciprocal(x):
    return _ONE / x


@inner
def _of_reciprocal(g, y):
    return -g * (y * y)


@inner
def _of_larger(a, b):
    return (_ONE if a > b else _ZERO) + (_HALF if a == b else _ZERO)


# ---- parts made of them ----------------------------------------------------------------------------------------------

function = _negative  # in the next functions: the one that a part is made for


def _each(part, parts, size, x: Floats, out: Floats):
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = function(x[i])
    restore_denormals(before)


def _pairs(part, parts, size, a: Floats, b: Floats, out: Floats):
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = function(a[i], b[i])
    restore_denormals(before)


def _with_number(part, parts, size, a: Floats, b: np.float32, out: Floats):
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = function(a[i], b)
    restore_denormals(before)


def _with_row(part, parts, rows, columns, a, b: Floats, out):
    before = allow_denormals()
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, result = floats(a + 4 * row * columns), floats(out + 4 * row * columns)
        for j in range(columns):
            result[j] = function(value[j], b[j])
    restore_denormals(before)


def _with_column(part, parts, rows, columns, a, b: Floats, out):
    before = allow_denormals()
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, result, number = floats(a + 4 * row * columns), floats(out + 4 * row * columns), b[row]
        for j in range(columns):
            result[j] = function(value[j], number)
    restore_denormals(before)


def _strided(part, parts, rows, columns, a, b, out, layout: Numbers):
    """Arrays of four axes: in `layout` the sizes of the two in the middle, and the steps of `a` and of `b` in bytes."""
    before = allow_denormals()
    first, last = share(part, parts, rows)
    for row in range(first, last):
        far, middle, near = row // (layout[0] * layout[1]), row // layout[1] % layout[0], row % layout[1]
        one = a + far * layout[2] + middle * layout[3] + near * layout[4]
        other = b + far * layout[6] + middle * layout[7] + near * layout[8]
        step, other_step = layout[5], layout[9]
        x, y, result = floats(one), floats(other), floats(out + 4 * row * columns)
        if step == 4 and other_step == 4:
            for j in range(columns):
                result[j] = function(x[j], y[j])
        elif step == 4 and other_step == 0:
            number = y[0]
            for j in range(columns):
                result[j] = function(x[j], number)
        elif step == 0 and other_step == 4:
            number = x[0]
            for j in range(columns):
                result[j] = function(number, y[j])
        else:
            for j in range(columns):
                result[j] = function(floats(one + j * step)[0], floats(other + j * other_step)[0])
    restore_denormals(before)


def _made(templates: tuple[Any, ...], functions: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """By name, a part of each template."""
    made: dict[str, tuple[Any, ...]] = {}
    for name, one in functions.items():
        made[name] = tuple(
            [specialised(template, f"{name}{template.__name__}", function=one) for template in templates]
        )
        globals().update({f"_{part.function.__name__}": part for part in made[name]})  # where all kernels are found
    return made


_TEMPLATES = _pairs, _with_number, _with_row, _with_column
OF_TWO = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "maximum": _maximum,
    "minimum": _minimum,
}  # inner functions by the names of NumPy's
_PAIRS = _made(_TEMPLATES, OF_TWO)
_STRIDED = _made((_strided,), {**OF_TWO, "first": _first})
_others = _made(_TEMPLATES, {"subtract_from": _subtract_from, "divide_by": _divide_by})
_TURNED = {**_PAIRS, "subtract": _others["subtract_from"], "divide": _others["divide_by"]}  # operands the other way
OF_ONE = {
    "negative": _negative,
    "absolute": _absolute,
    "square": _square,
    "sqrt": _sqrt,
    "reciprocal": _reciprocal,
}
_EACH = _made((_each,), {"copy": _same, **OF_ONE})
_GRADIENTS = _made(
    (_pairs,),
    {
        "negative_at": _of_negative,
        "absolute_at": _of_absolute,
        "square_at": _of_square,
        "sqrt_at": _of_sqrt,
        "reciprocal_at": _of_reciprocal,
    },
)
_UFUNCS = {name: getattr(np, name) for name in (*_PAIRS, *_EACH) if name != "copy"}


def _is_plain(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.char == "f" and x.size > 0 and x.flags.c_contiguous


@lru_cache(maxsize=1024)
def _layout(long: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, int, int] | None:
    """How an array is repeated to another's shape: (which part, rows, columns), or None."""
    if len(short) > len(long):
        return None
    short = (1,) * (len(long) - len(short)) + short
    size = math.prod(long)
    if set(short) == {1}:
        return 3, 1, size
    first = next(i for i, n in enumerate(short) if n != 1)
    if short[first:] == long[first:]:
        columns = math.prod(long[first:])
        return 2, size // columns, columns
    last = next(i for i in range(len(short), 0, -1) if short[i - 1] != 1)
    if short[:last] == long[:last]:
        rows = math.prod(long[:last])
        return 3, rows, size // rows
    return None


def _is_float32(x: Any) -> bool:
    """Whether it is an array of float32 with numbers, wherever they lie."""
    return isinstance(x, np.ndarray) and x.dtype.char == "f" and x.size > 0 and x.flags.aligned


def _joined(shape: tuple[int, ...], *strides: tuple[int, ...]) -> list[list[int]]:
    """(size, a step of each) of the axes of arrays of one shape, those that are one in memory joined."""
    axes: list[list[int]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size > 1 and axes and axes[-1][1:] == [size * step for step in steps]:
            axes[-1] = [axes[-1][0] * size, *steps]
        elif size > 1:
            axes.append([size, *steps])
    return axes


@lru_cache(maxsize=1024)
def _together(one: tuple, other: tuple) -> tuple[tuple[int, ...], int, int, Any] | None:
    """How arrays of some (shape, strides) broadcast: (shape, rows, columns, layout) for `_strided`, or None."""
    try:
        shape = np.broadcast_shapes(one[0], other[0])
    except ValueError:  # NumPy says it better
        return None
    steps = []
    for own, strides in (one, other):
        known = [0 if size == 1 else step for size, step in zip(own, strides, strict=True)]
        steps.append(tuple([0] * (len(shape) - len(own)) + known))
    axes = _joined(shape, *steps)
    if len(axes) > 4:
        return None
    axes = [[1, 0, 0]] * (4 - len(axes)) + axes
    sizes, first, second = zip(*axes, strict=True)
    layout = constant(np.array([*sizes[1:3], *first, *second], np.int64))
    return shape, math.prod(sizes[:3]), sizes[3], layout


def _broadcast(k: Kernels, x1: Any, x2: Any, name: str, out: Any = None) -> Any:
    """What `combine` does, of arrays that lie in any way."""
    found = None
    if _is_float32(x1) and _is_float32(x2):
        found = _together((x1.shape, x1.strides), (x2.shape, x2.strides))
    if found is None or not (out is None or (_is_plain(out) and out.shape == found[0])):
        return _UFUNCS[name](x1, x2, out=out)
    shape, rows, columns, layout = found
    out = k.empty(shape, x1.dtype) if out is None else out
    arguments = {"a": x1, "b": x2, "out": out, "layout": layout}
    _STRIDED[name][0].run(min(parts_for(out.size), rows), rows=rows, columns=columns, **arguments)
    return out


@override(reference.spread, "cpu", when=lambda x, dtype: _is_float32(x) and dtype == x.dtype)
def spread(k: Kernels, x: Any, shape: tuple[int, ...], dtype: Any, out: Any = None) -> Any:
    if out is not None and not _is_plain(out):
        return reference.spread(k, x, shape, dtype, out)
    found = None
    if x.shape != shape or not x.flags.c_contiguous:
        found = _together((x.shape, x.strides), (shape, (0,) * len(shape)))
        if found is None or found[0] != shape:
            return reference.spread(k, x, shape, dtype, out)
    out = k.empty(shape, dtype) if out is None else out
    if found is None:
        _EACH["copy"][0].run(parts_for(x.size), size=x.size, x=x, out=out)
    else:
        _, rows, columns, layout = found
        arguments = {"a": x, "b": x, "out": out, "layout": layout}
        _STRIDED["first"][0].run(min(parts_for(out.size), rows), rows=rows, columns=columns, **arguments)
    return out


@override(reference.combine, "cpu")
def combine(k: Kernels, x1: Any, x2: Any, name: str, out: Any = None) -> Any:
    array = x2 if type(x1) in _NUMBERS else x1
    if current.arena is None and array.size < _LARGE:  # outside of a step
        return _UFUNCS[name](x1, x2, out=out)
    number1, number2 = type(x1) in _NUMBERS, type(x2) in _NUMBERS
    parts, other = (_TURNED, x1) if number1 else (_PAIRS, x2)
    if not _is_plain(array) or not (number1 or number2 or _is_plain(other)):
        return _broadcast(k, x1, x2, name, out)
    if number1 or number2:
        kind, number = 1, float(other)
    elif array.shape == other.shape:
        kind = 0
    else:
        if array.size < other.size:
            parts, array, other = _TURNED, other, array
        layout = _layout(array.shape, other.shape)
        if layout is None:
            return _broadcast(k, x1, x2, name, out)
        kind, rows, columns = layout
    if out is None:
        out = k.empty(array.shape, array.dtype)
    elif not _is_plain(out) or out.shape != array.shape:
        return _UFUNCS[name](x1, x2, out=out)
    chosen = parts[name][kind]
    if kind == 0:
        chosen.run(parts_for(array.size), size=array.size, a=array, b=other, out=out)
    elif kind == 1:
        chosen.run(parts_for(array.size), size=array.size, a=array, b=number, out=out)
    else:
        chosen.run(min(parts_for(array.size), rows), rows=rows, columns=columns, a=array, b=other, out=out)
    return out


@override(reference.transform, "cpu")
def transform(k: Kernels, x: Any, name: str) -> Any:
    if (current.arena is None and x.size < _LARGE) or not _is_plain(x):
        return _UFUNCS[name](x)
    out = k.empty(x.shape, x.dtype)
    _EACH[name][0].run(parts_for(x.size), size=x.size, x=x, out=out)
    return out


@override(reference.transform_grad, "cpu")
def transform_grad(k: Kernels, g: Any, v: Any, name: str) -> Any:
    if (current.arena is None and v.size < _LARGE) or not (_is_plain(g) and _is_plain(v) and g.shape == v.shape):
        return reference.transform_grad(k, g, v, name)
    out = k.empty(v.shape, v.dtype)
    _GRADIENTS[f"{name}_at"][0].run(parts_for(v.size), size=v.size, a=g, b=v, out=out)
    return out


# ---- powers ----------------------------------------------------------------------------------------------------------

_BITS = 5  # of a whole exponent
_LARGEST = float(np.finfo(np.float32).max)


@part
def _power(part, parts, size, x: Floats, out: Floats, halves, inverse):
    """The power of half of a number, computed in float64; an inverse one is what 1 is divided by."""
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        base, result = np.float64(x[i]), 1.0
        if halves & 1:
            base = abs(base) if base == 0.0 or base < -_LARGEST else base  # as the power of -0 and -infinity is defined
            result = math.sqrt(base)
        for bit in range(1, _BITS + 1):
            result = result * base if halves >> bit & 1 else result
            base = base * base
        out[i] = np.float32(1.0 / result if inverse else result)
    restore_denormals(before)


_POWERS = {1: "copy", 2: "square", 0.5: "sqrt", -1: "reciprocal"}


def _halves(exponent: float) -> bool:
    return abs(exponent) < 1 << _BITS and (2 * exponent) % 1 == 0


@override(reference.power, "cpu", when=(_is_plain, _halves))
def power(k: Kernels, x: Any, exponent: float) -> Any:
    out, name = k.empty(x.shape, x.dtype), _POWERS.get(exponent)
    if name is not None:
        _EACH[name][0].run(parts_for(x.size), size=x.size, x=x, out=out)
    else:
        halves = int(2 * abs(exponent))
        _power.run(parts_for(8 * x.size), size=x.size, x=x, out=out, halves=halves, inverse=int(exponent < 0))
    return out


# ---- the larger of two, choices --------------------------------------------------------------------------------------


@part
def _larger_grad(part, parts, size, g: Floats, a: Floats, b: Floats, out: Floats):
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = g[i] * _of_larger(a[i], b[i])
    restore_denormals(before)


@part
def _larger_grad_with_number(
    part, parts, size, g: Floats, a: Floats, out: Floats, number: np.float32, sign: np.float32
):
    """With a `sign` of -1 that of the smaller."""
    before = allow_denormals()
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = g[i] * _of_larger(sign * a[i], number)
    restore_denormals(before)


@override(reference.larger_grad, "cpu", when=contiguous_float32("g"))
def larger_grad(k: Kernels, g: Any, x1: Any, x2: Any) -> Any:
    arrays = [one for one in (x1, x2) if type(one) not in _NUMBERS]
    if not arrays or not all([_is_plain(one) and one.shape == g.shape for one in arrays]):
        return reference.larger_grad(k, g, x1, x2)
    out = k.empty(g.shape, g.dtype)
    if len(arrays) == 2:
        _larger_grad.run(parts_for(g.size), size=g.size, g=g, a=x1, b=x2, out=out)
    else:  # x1 > number, or number > x2, which is -x2 > -number
        number, sign = (float(x2), 1.0) if arrays[0] is x1 else (-float(x1), -1.0)
        arguments = {"g": g, "a": arrays[0], "out": out, "number": number, "sign": sign}
        _larger_grad_with_number.run(parts_for(g.size), size=g.size, **arguments)
    return out


@part
def _choose(part, parts, size, condition: Octets, a, b, number: np.float32, out: Floats):
    """Of two arrays, or of one and a number where the other is missing."""
    first, end = share_of_lines(part, parts, size)
    if a and b:
        one, other = floats(a), floats(b)
        for i in range(first, end):
            out[i] = one[i] if condition[i] else other[i]
    elif a:
        one = floats(a)
        for i in range(first, end):
            out[i] = one[i] if condition[i] else number
    else:
        other = floats(b)
        for i in range(first, end):
            out[i] = number if condition[i] else other[i]


@override(reference.choose, "cpu")
def choose(k: Kernels, condition: Any, x1: Any, x2: Any) -> Any:
    arrays = [one for one in (x1, x2) if type(one) not in _NUMBERS]
    plain = isinstance(condition, np.ndarray) and condition.dtype.char == "?" and condition.flags.c_contiguous
    if (current.arena is None and condition.size < _LARGE) or not plain:
        return reference.choose(k, condition, x1, x2)
    if not all([_is_plain(one) and one.shape == condition.shape for one in arrays]):
        return reference.choose(k, condition, x1, x2)
    out = k.empty(condition.shape, arrays[0].dtype)
    a, b = (None if type(one) in _NUMBERS else one for one in (x1, x2))
    number = float(x1 if a is None else x2 if b is None else 0)
    _choose.run(parts_for(out.size), size=out.size, condition=condition, a=a, b=b, number=number, out=out)
    return out
