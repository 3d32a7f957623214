"""Sums, means and bounds over axes that follow one another, on the CPU: in blocks, so that few digits are lost."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous
from minikeras.kernels.cpu.compiler import (
    FAST,
    Doubles,
    Floats,
    add_up_rows,
    allow_denormals,
    doubles,
    floats,
    part,
    parts_for,
    restore_denormals,
    share,
)
from minikeras.kernels.cpu.elementwise import OF_TWO
from minikeras.kernels.reference import reduction as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override, same_shape

_ZERO, _ONE = np.float32(0), np.float32(1)
_DOUBLE = np.dtype(np.float64)
_FEW = 1 << 16  # numbers: so many with gaps between them are copied, which takes no time to speak of
_larger, _smaller = OF_TWO["maximum"], OF_TWO["minimum"]

_BLOCK = 64  # rows added up in float32; the blocks' sums are added in float64
_SHORT_ROW = 64  # numbers side by side; NumPy finds the bounds of longer rows in less time
_LONG_BLOCK = 512  # of numbers side by side, which are added in several sums


@part
def _sums_of_rows(part, parts, rows, columns, x, totals, out, divisor: np.float32):
    """Each part's totals of its rows, after which stands the place for a block's sums; one part alone fills `out`."""
    first, last = share(part, parts, rows)
    total, sums = doubles(totals + 16 * part * columns), floats(totals + (16 * part + 8) * columns)
    for j in range(columns):
        total[j] = 0.0
    for row in range(first, last, _BLOCK):
        add_up_rows(floats(x + 4 * row * columns), min(_BLOCK, last - row), columns, columns, sums)
        for j in range(columns):
            total[j] += np.float64(sums[j])
    if out:
        for j in range(columns):
            floats(out)[j] = np.float32(total[j]) / divisor


@part
def _sum_of_parts(part, parts, count, columns, totals: Doubles, out: Floats, divisor: np.float32):
    first, last = share(part, parts, columns)
    for j in range(first, last):
        whole = 0.0
        for one in range(count):
            whole += totals[2 * one * columns + j]
        out[j] = np.float32(whole) / divisor


@part(fastmath=FAST)
def _sums_between(part, parts, pictures, rows, columns, x, totals, out, divisor: np.float32):
    """Of each picture of (rows, columns) the sum of its rows, divided."""
    first, last = share(part, parts, pictures)
    total, sums = doubles(totals + 16 * part * columns), floats(totals + (16 * part + 8) * columns)
    for picture in range(first, last):
        value, result = x + 4 * picture * rows * columns, floats(out + 4 * picture * columns)
        if rows <= _BLOCK:
            add_up_rows(floats(value), rows, columns, columns, result)
            for j in range(columns):
                result[j] = result[j] / divisor
        else:
            for j in range(columns):
                total[j] = 0.0
            for row in range(0, rows, _BLOCK):
                add_up_rows(floats(value + 4 * row * columns), min(_BLOCK, rows - row), columns, columns, sums)
                for j in range(columns):
                    total[j] += np.float64(sums[j])
            for j in range(columns):
                result[j] = np.float32(total[j]) / divisor


@part(fastmath=FAST)
def _sums_along(part, parts, rows, columns, x, out: Floats, divisor: np.float32):
    """Of each row of a matrix the sum, divided."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        total = 0.0
        for begin in range(0, columns, _LONG_BLOCK):
            value, some = floats(x + 4 * (row * columns + begin)), _ZERO
            for j in range(min(_LONG_BLOCK, columns - begin)):
                some += value[j]
            total += np.float64(some)
        out[row] = np.float32(total) / divisor


@part
def _extremes(part, parts, pictures, rows, columns, x, out, sign: np.float32):
    """Of each picture of (rows, columns) the largest values of its columns; with a `sign` of -1 the smallest."""
    before = allow_denormals()
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        value, result = x + 4 * picture * rows * columns, floats(out + 4 * picture * columns)
        for j in range(columns):
            result[j] = floats(value)[j]
        for row in range(1, rows):
            one = floats(value + 4 * row * columns)
            if sign > _ZERO:
                for j in range(columns):
                    result[j] = _larger(result[j], one[j])
            else:
                for j in range(columns):
                    result[j] = _smaller(result[j], one[j])
    restore_denormals(before)


@part
def _extremes_grad(part, parts, pictures, rows, columns, x, y, g, counts, out):
    """From gradients at extremes to those at the values that are equal to them, which share."""
    before = allow_denormals()
    first, last = share(part, parts, pictures)
    for picture in range(first, last):
        bound, gradient = floats(y + 4 * picture * columns), floats(g + 4 * picture * columns)
        count = floats(counts + 4 * picture * columns)
        for j in range(columns):
            count[j] = _ZERO
        for row in range(picture * rows, (picture + 1) * rows):
            value = floats(x + 4 * row * columns)
            for j in range(columns):
                count[j] += _ONE if value[j] == bound[j] else _ZERO
        for j in range(columns):
            count[j] = gradient[j] / (count[j] if count[j] > _ONE else _ONE)
        for row in range(picture * rows, (picture + 1) * rows):
            value, result = floats(x + 4 * row * columns), floats(out + 4 * row * columns)
            for j in range(columns):
                result[j] = count[j] * (_ONE if value[j] == bound[j] else _ZERO)
    restore_denormals(before)


@part(fastmath={"reassoc"})
def _extremes_along_grad(part, parts, rows, columns, x, y: Floats, g: Floats, out):
    """The same where the columns of a picture are one."""
    before = allow_denormals()
    first, last = share(part, parts, rows)
    for row in range(first, last):
        value, result, bound, count = floats(x + 4 * row * columns), floats(out + 4 * row * columns), y[row], _ZERO
        for j in range(columns):
            count += _ONE if value[j] == bound else _ZERO
        some = g[row] / (count if count > _ONE else _ONE)
        for j in range(columns):
            result[j] = some * (_ONE if value[j] == bound else _ZERO)
    restore_denormals(before)


@lru_cache(maxsize=1024)
def pictures_of(shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """(the result's shape, pictures, rows, columns) where an array is reduced over the rows of pictures, else None."""
    ndim = len(shape)
    given = axis if isinstance(axis, tuple) else tuple(range(ndim)) if axis is None else (axis,)
    if not all(isinstance(i, int) and -ndim <= i < ndim for i in given) or not given:
        return None
    axes = sorted({i % ndim for i in given})
    if len(axes) < len(given) or axes != list(range(axes[0], axes[-1] + 1)):
        return None
    first, end = axes[0], axes[-1] + 1
    result = (*shape[:first], *((1,) * (end - first) if keepdims else ()), *shape[end:])
    return result, math.prod(shape[:first]), math.prod(shape[first:end]), math.prod(shape[end:])


def _sums(k: Kernels, x: Any, axis: Any, keepdims: bool, out: Any, mean: bool) -> Any:
    shape, pictures, rows, columns = pictures_of(x.shape, axis, keepdims)
    if out is None:
        out = k.empty(shape, x.dtype)
    elif out.shape != shape:
        return reference.total(k, x, axis, keepdims, out)
    divisor = float(rows if mean else 1)
    if columns == 1:
        parts = min(parts_for(x.size), pictures)
        _sums_along.run(parts, rows=pictures, columns=rows, x=x, out=out, divisor=divisor)
    elif pictures == 1:
        _share_rows(k, x, rows, columns, out, divisor)
    else:
        parts = min(parts_for(x.size), pictures)
        totals = k.empty((parts, 2, columns), _DOUBLE) if rows > _BLOCK else None
        sizes = {"pictures": pictures, "rows": rows, "columns": columns}
        _sums_between.run(parts, **sizes, x=x, totals=totals, out=out, divisor=divisor)
    return out


def _share_rows(k: Kernels, x: Any, rows: int, columns: int, out: Any, divisor: float) -> None:
    """The sum of a matrix's rows, whose parts are added up afterwards."""
    count = min(parts_for(x.size), rows)
    totals = k.empty((count, 2, columns), _DOUBLE)
    arguments = {"totals": totals, "divisor": divisor}
    _sums_of_rows.run(count, rows=rows, columns=columns, x=x, out=None if count > 1 else out, **arguments)
    if count > 1:
        _sum_of_parts.run(min(parts_for(totals.size), columns), count=count, columns=columns, out=out, **arguments)


def _has_pictures(x: Any, axis: Any, keepdims: bool) -> bool:
    return pictures_of(x.shape, axis, keepdims) is not None


_OF_PICTURES = contiguous_float32("x"), _has_pictures


_WITH_GAPS = of_float32("x"), lambda x: 0 < x.size <= _FEW and not x.flags.c_contiguous


@override(reference.average, "cpu", when=_WITH_GAPS)
def average_with_gaps(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return k.average(contiguous(x), axis, keepdims)


@override(reference.total, "cpu", when=_WITH_GAPS)
def total_with_gaps(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    return k.total(contiguous(x), axis, keepdims, out)


@override(reference.extreme, "cpu", when=_OF_PICTURES)
def extreme(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, largest: bool = True) -> Any:
    shape, pictures, rows, columns = pictures_of(x.shape, axis, keepdims)
    if columns == 1 and rows > _SHORT_ROW:
        return reference.extreme(k, x, axis, keepdims, largest)
    out, sizes = k.empty(shape, x.dtype), {"pictures": pictures, "rows": rows, "columns": columns}
    parts, sign = min(parts_for(x.size), pictures), 1.0 if largest else -1.0
    _extremes.run(parts, **sizes, x=x, out=out, sign=sign)
    return out


@override(
    reference.extreme_grad,
    "cpu",
    when=(contiguous_float32("x", "g", "y"), same_shape("y", "g"), lambda x, axes: _has_pictures(x, axes, True)),
)
def extreme_grad(k: Kernels, g: Any, x: Any, y: Any, axes: tuple[int, ...]) -> Any:
    shape, pictures, rows, columns = pictures_of(x.shape, axes, True)
    if y.shape != shape:
        return reference.extreme_grad(k, g, x, y, axes)
    out, parts = k.empty(x.shape, x.dtype), min(parts_for(x.size), pictures)
    if columns == 1:
        _extremes_along_grad.run(parts, rows=pictures, columns=rows, x=x, y=y, g=g, out=out)
        return out
    counts = k.empty(shape, x.dtype)
    sizes = {"pictures": pictures, "rows": rows, "columns": columns}
    _extremes_grad.run(parts, **sizes, x=x, y=y, g=g, counts=counts, out=out)
    return out


@override(reference.total, "cpu", when=(contiguous_float32("x", "out"), _has_pictures))
def total(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    return _sums(k, x, axis, keepdims, out, False)


@override(reference.average, "cpu", when=_OF_PICTURES)
def average(k: Kernels, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _sums(k, x, axis, keepdims, None, True)
