"""Elementwise work that the team shares: passes over float32 arrays too long for one core.

A part takes its stretch of the arrays, cut at the same places whatever the number of threads.  This module imports
Numba: import it at first need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import kept_njit, lazy_part
from minikeras.kernels.cpu.machine import pointer
from minikeras.kernels.cpu.team import team

_STRETCH = 1 << 14  # elements of a part, about
_MOST = 64  # parts
_FLOAT = np.dtype(np.float32)
_ZERO = np.float32(0)
_ROOM = 24  # numbers that a part's arguments have

# Arguments: 0 the number of elements (or rows), 1 of parts; then what the part's docstring says.  `_stretch` gives a
# part's first element and the one after its last, in whole cache lines.


@kept_njit()
def _stretch(arguments, part):  # type: ignore[no-untyped-def]
    n = carray(pointer(arguments), _ROOM, np.int64)
    lines = (n[0] + 15) // 16
    return n, min(lines * part // n[1] * 16, n[0]), min(lines * (part + 1) // n[1] * 16, n[0])


@kept_njit()
def _floats(address, first, last):  # type: ignore[no-untyped-def]
    return carray(pointer(address + 4 * first), last - first, np.float32)


def parts_of(elements: int) -> int:
    """How many parts a pass over so many elements has."""
    return max(min(elements // _STRETCH, _MOST), 1)


def _run(part: Any, parts: int, elements: int, *arguments: Any) -> None:
    """Run a part function; arrays among the arguments are given by address (None: 0)."""
    numbers = np.zeros(_ROOM, np.int64)
    numbers[: 2 + len(arguments)] = elements, parts, *map(_number, arguments)
    team.run(part.address, numbers, parts)


def _number(argument: Any) -> int:
    if argument is None:
        return 0
    return argument.ctypes.data if isinstance(argument, np.ndarray) else argument


# ---- optimizers ------------------------------------------------------------------------------------------------------


# Every number in a loop has the arrays' own type: one float64 among float32 would make it ten times slower.

_EXACT: dict[str, Any] = {"nogil": True, "error_model": "numpy"}  # rounds like NumPy, operation by operation


@kept_njit(**_EXACT)
def adam_loop(p, g, m, v, alpha, one_minus_beta_1, one_minus_beta_2, epsilon):  # type: ignore[no-untyped-def]
    for i in range(p.size):
        gradient = g[i]
        mean = m[i] + (gradient - m[i]) * one_minus_beta_1
        square = v[i] + (gradient * gradient - v[i]) * one_minus_beta_2
        m[i] = mean
        v[i] = square
        p[i] -= mean / (np.sqrt(square) + epsilon) * alpha


@kept_njit(**_EXACT)
def rmsprop_loop(p, g, v, lr, rho, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    for i in range(p.size):
        gradient = g[i]
        square = v[i] * rho + gradient * gradient * one_minus_rho
        v[i] = square
        p[i] -= gradient / np.sqrt(square + epsilon) * lr


@kept_njit(**_EXACT)
def sgd_momentum_loop(p, g, v, lr, momentum, nesterov):  # type: ignore[no-untyped-def]
    if nesterov:
        for i in range(p.size):
            step = g[i] * lr
            velocity = v[i] * momentum - step
            v[i] = velocity
            p[i] = (p[i] - step) + velocity * momentum
    else:
        for i in range(p.size):
            velocity = v[i] * momentum - g[i] * lr
            v[i] = velocity
            p[i] += velocity


@lazy_part
def _adam_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 5: p, g, m, v; 6: alpha, 1 - beta_1, 1 - beta_2, epsilon."""
    n, first, last = _stretch(arguments, part)
    p, g = _floats(n[2], first, last), _floats(n[3], first, last)
    m, v = _floats(n[4], first, last), _floats(n[5], first, last)
    numbers = _floats(n[6], 0, 4)
    adam_loop(p, g, m, v, numbers[0], numbers[1], numbers[2], numbers[3])


def adam(p: Any, g: Any, m: Any, v: Any, *numbers: float) -> None:
    """As the kernel `adam`, its last four arguments alpha, 1 - beta_1, 1 - beta_2 and epsilon."""
    _run(_adam_part, parts_of(p.size), p.size, p, g, m, v, np.array(numbers, _FLOAT))


@lazy_part
def _rmsprop_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 4: p, g, v; 5: lr, rho, 1 - rho, epsilon."""
    n, first, last = _stretch(arguments, part)
    numbers = _floats(n[5], 0, 4)
    p, g, v = _floats(n[2], first, last), _floats(n[3], first, last), _floats(n[4], first, last)
    rmsprop_loop(p, g, v, numbers[0], numbers[1], numbers[2], numbers[3])


def rmsprop(p: Any, g: Any, v: Any, *numbers: float) -> None:
    """As the kernel `rmsprop`, its last four arguments lr, rho, 1 - rho and epsilon."""
    _run(_rmsprop_part, parts_of(p.size), p.size, p, g, v, np.array(numbers, _FLOAT))


@lazy_part
def _sgd_momentum_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 4: p, g, v; 5: lr, momentum; 6: whether Nesterov's."""
    n, first, last = _stretch(arguments, part)
    numbers = _floats(n[5], 0, 2)
    p, g, v = _floats(n[2], first, last), _floats(n[3], first, last), _floats(n[4], first, last)
    sgd_momentum_loop(p, g, v, numbers[0], numbers[1], n[6] != 0)


def sgd_momentum(p: Any, g: Any, v: Any, lr: float, momentum: float, nesterov: bool) -> None:
    """As the kernel."""
    _run(_sgd_momentum_part, parts_of(p.size), p.size, p, g, v, np.array([lr, momentum], _FLOAT), int(nesterov))


# ---- backward through an activation and a bias -----------------------------------------------------------------------


@lazy_part(fastmath={"reassoc", "nsz", "contract"})
def _relu_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows: 2 g, 3 y (0: no activation), 4 the gradient before it, 5 sums of each part (0: none); 6 columns."""
    n = carray(pointer(arguments), _ROOM, np.int64)
    columns = n[6]
    begin, end = n[0] * part // n[1], n[0] * (part + 1) // n[1]
    first, last, width = begin * columns, end * columns, np.uint64(columns)
    g = _floats(n[2], first, last)
    if n[3]:
        y, out = _floats(n[3], first, last), _floats(n[4], first, last)
        for i in range(np.uint64(last - first)):
            out[i] = g[i] if y[i] > _ZERO else _ZERO
        g = out
    if n[5]:
        # one row of sums for each of four rows, so that an addition need not wait for the one before
        sums = _floats(n[5], part * columns, (part + 1) * columns)
        sums[:] = _ZERO
        rows = np.uint64(end - begin)
        fours = rows // np.uint64(4) * np.uint64(4)
        for i in range(np.uint64(0), fours, np.uint64(4)):
            row = i * width
            for j in range(width):
                at = row + j
                sums[j] += (g[at] + g[at + width]) + (g[at + width + width] + g[at + width + width + width])
        for i in range(fours, rows):
            for j in range(width):
                sums[j] += g[i * width + j]


def relu_grad(g: Any, y: Any, bias_out: Any) -> Any:
    """`g` where `y` is positive, else 0 (`g` itself where `y` is None); its sums over rows go to `bias_out`."""
    columns = g.shape[-1]
    rows = g.size // columns
    parts = min(parts_of(g.size), rows)
    out = g if y is None else empty(g.shape, g.dtype)
    if bias_out is None or parts == 1:
        _run(_relu_grad_part, parts, rows, g, y, out, bias_out, columns)
        return out
    sums = empty((parts, columns), g.dtype)
    _run(_relu_grad_part, parts, rows, g, y, out, sums, columns)
    np.sum(sums, axis=0, out=bias_out)
    return out


# ---- dropout ---------------------------------------------------------------------------------------------------------


@lazy_part
def _masked_scale_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 x, 3 mask (bytes), 4 result; 5 the scale."""
    n, first, last = _stretch(arguments, part)
    x, out, scale = _floats(n[2], first, last), _floats(n[4], first, last), _floats(n[5], 0, 1)[0]
    mask = carray(pointer(n[3] + first), last - first, np.uint8)
    for i in range(np.uint64(last - first)):
        out[i] = x[i] * np.float32(mask[i]) * scale


def masked_scale(x: Any, mask: Any, scale: float, out: Any) -> None:
    """As the kernel, of a mask of bytes with the shape of `x`."""
    _run(_masked_scale_part, parts_of(x.size), x.size, x, mask, out, np.array([scale], _FLOAT))


# ---- the gradient of a table lookup ----------------------------------------------------------------------------------


@lazy_part
def _scatter_add_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows of the table: 2 g, 3 which row each of its rows belongs to (int64), 4 how many, 5 the table, 6 columns."""
    n = carray(pointer(arguments), _ROOM, np.int64)
    first, last, width = n[0] * part // n[1], n[0] * (part + 1) // n[1], n[6]
    indices = carray(pointer(n[3]), n[4], np.int64)
    _floats(n[5], first * width, last * width)[:] = _ZERO
    for i in range(n[4]):
        if first <= indices[i] < last:
            row = _floats(n[2], i * width, (i + 1) * width)
            target = _floats(n[5], indices[i] * width, (indices[i] + 1) * width)
            for j in range(np.uint64(width)):
                target[j] += row[j]


def scatter_add(g: Any, indices: Any, out: Any) -> None:
    """Zeros in `out` (rows, d), and each row of `g` (n, d) added at its index (n of int64, within the table)."""
    parts = min(parts_of(out.size), len(out), 8)  # each looks at all the indices
    _run(_scatter_add_part, parts, len(out), g, indices, indices.size, out, out.shape[1])


# ---- rows of a dataset -----------------------------------------------------------------------------------------------


@lazy_part
def _gather_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows: 2 the dataset, 3 which of its rows (int64), 4 result; 5 bytes of a row."""
    n = carray(pointer(arguments), _ROOM, np.int64)
    first, last, width = n[0] * part // n[1], n[0] * (part + 1) // n[1], n[5]
    rows = carray(pointer(n[3]), n[0], np.int64)
    for i in range(first, last):
        if width % 4 == 0:
            source = carray(pointer(n[2] + rows[i] * width), width // 4, np.uint32)
            target = carray(pointer(n[4] + i * width), width // 4, np.uint32)
            for j in range(np.uint64(width // 4)):
                target[j] = source[j]
        else:
            bytes_there = carray(pointer(n[2] + rows[i] * width), width, np.uint8)
            bytes_here = carray(pointer(n[4] + i * width), width, np.uint8)
            for j in range(np.uint64(width)):
                bytes_here[j] = bytes_there[j]


def gather_ahead(array: Any, rows: Any, out: Any) -> Callable[[], None] | None:
    """Copy these rows of a contiguous array into `out` beside other work, if a helper may; see `Team.errand`."""
    numbers = np.zeros(_ROOM, np.int64)
    numbers[:6] = len(rows), 1, _number(array), _number(rows), _number(out), array.nbytes // len(array)
    return team.errand(_gather_part.address, numbers, array, rows, out)


# ---- pooling ---------------------------------------------------------------------------------------------------------

_POOLING: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
}


@kept_njit(**_POOLING)
def _max_pool_loop(x, y, index, table, inputs, width):  # type: ignore[no-untyped-def]
    """`index` may be None."""
    channels = np.uint64(width)
    outputs, entries = table.shape
    target = np.uint64(0)
    for picture in range(y.size // (outputs * width)):
        for position in range(outputs):
            first = True
            for j in range(channels):
                y[target + j] = -np.inf
                if index is not None:
                    index[target + j] = 0
            for tap in range(entries):
                place = table[position, tap]
                if place < 0:
                    continue
                source = np.uint64(picture * inputs + place) * channels
                for j in range(channels):
                    value, best = x[source + j], y[target + j]
                    won = first or value > best or (value != value and best == best)
                    y[target + j] = value if won else best
                    if index is not None:
                        index[target + j] = tap if won else index[target + j]
                first = False
            target += channels


@kept_njit(**_POOLING)
def _max_pool_grad_loop(g, index, x, table, inputs, width):  # type: ignore[no-untyped-def]
    channels = np.uint64(width)
    outputs, entries = table.shape
    zero = g.dtype.type(0)
    source = np.uint64(0)
    for picture in range(g.size // (outputs * width)):
        x[picture * inputs * width : (picture + 1) * inputs * width] = 0
        for position in range(outputs):
            for tap in range(entries):
                place = table[position, tap]
                if place >= 0:
                    target = np.uint64(picture * inputs + place) * channels
                    for j in range(channels):
                        x[target + j] += g[source + j] if index[source + j] == tap else zero
            source += channels


@kept_njit(**_POOLING)
def _average_pool_loop(x, y, table, inputs, width):  # type: ignore[no-untyped-def]
    channels = np.uint64(width)
    outputs, entries = table.shape
    target = np.uint64(0)
    for picture in range(y.size // (outputs * width)):
        for position in range(outputs):
            for j in range(channels):
                y[target + j] = 0
            count = 0
            for tap in range(entries):
                place = table[position, tap]
                if place >= 0:
                    count += 1
                    source = np.uint64(picture * inputs + place) * channels
                    for j in range(channels):
                        y[target + j] += x[source + j]
            divisor = y.dtype.type(max(count, 1))
            for j in range(channels):
                y[target + j] /= divisor
            target += channels


@kept_njit(**_POOLING)
def _average_pool_grad_loop(g, x, table, inputs, width):  # type: ignore[no-untyped-def]
    channels = np.uint64(width)
    outputs, entries = table.shape
    source = np.uint64(0)
    for picture in range(g.size // (outputs * width)):
        x[picture * inputs * width : (picture + 1) * inputs * width] = 0
        for position in range(outputs):
            count = 0
            for tap in range(entries):
                count += table[position, tap] >= 0
            divisor = g.dtype.type(max(count, 1))
            for tap in range(entries):
                place = table[position, tap]
                if place >= 0:
                    target = np.uint64(picture * inputs + place) * channels
                    for j in range(channels):
                        x[target + j] += g[source + j] / divisor
            source += channels


@kept_njit()
def _pictures(arguments, part):  # type: ignore[no-untyped-def]
    """A part's pictures: (array of the inputs' size, of the outputs' size, index of bytes, table, inputs, channels).

    2 the first array, 4 the second, 5 the index (0: not to be read); 6 the table, 7 outputs, 8 taps, 9 inputs,
    10 channels.
    """
    n = carray(pointer(arguments), _ROOM, np.int64)
    first, last = n[0] * part // n[1], n[0] * (part + 1) // n[1]
    wide, narrow = n[9] * n[10], n[7] * n[10]
    return (
        _floats(n[2], first * wide, last * wide),
        _floats(n[4], first * narrow, last * narrow),
        carray(pointer(n[5] + first * narrow), (last - first) * narrow, np.uint8),
        carray(pointer(n[6]), (n[7], n[8]), np.int64),
        n[9],
        n[10],
    )


@lazy_part
def _max_pool_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y."""
    x, y, _, table, inputs, channels = _pictures(arguments, part)
    _max_pool_loop(x, y, None, table, inputs, channels)


@lazy_part
def _max_pool_index_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y and the index."""
    x, y, index, table, inputs, channels = _pictures(arguments, part)
    _max_pool_loop(x, y, index, table, inputs, channels)


@lazy_part
def _max_pool_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From the gradient at y and the index to x's."""
    x, g, index, table, inputs, channels = _pictures(arguments, part)
    _max_pool_grad_loop(g, index, x, table, inputs, channels)


@lazy_part
def _average_pool_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y."""
    x, y, _, table, inputs, channels = _pictures(arguments, part)
    _average_pool_loop(x, y, table, inputs, channels)


@lazy_part
def _average_pool_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From the gradient at y to x's."""
    x, g, _, table, inputs, channels = _pictures(arguments, part)
    _average_pool_grad_loop(g, x, table, inputs, channels)


def _over_pictures(part: Any, wide: Any, narrow: Any, index: Any, table: Any, inputs: int, channels: int) -> bool:
    """Have the team pool long float32 arrays; False where it should not."""
    parts = parts_of(wide.size)
    if parts == 1 or wide.dtype != _FLOAT or (index is not None and index.itemsize != 1):
        return False
    pictures = wide.size // (inputs * channels)
    _run(part, min(parts, pictures), pictures, wide, None, narrow, index, table, *table.shape, inputs, channels)
    return True


def max_pool(x: Any, y: Any, index: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `max_pool` of flat arrays; `index` may be None."""
    part = _max_pool_part if index is None else _max_pool_index_part
    if not _over_pictures(part, x, y, index, table, inputs, channels):
        _max_pool_loop(x, y, index, table, inputs, channels)


def max_pool_grad(g: Any, index: Any, x: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `max_pool_grad` of flat arrays, into `x`."""
    if not _over_pictures(_max_pool_grad_part, x, g, index, table, inputs, channels):
        _max_pool_grad_loop(g, index, x, table, inputs, channels)


def average_pool(x: Any, y: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `average_pool` of flat arrays."""
    if not _over_pictures(_average_pool_part, x, y, None, table, inputs, channels):
        _average_pool_loop(x, y, table, inputs, channels)


def average_pool_grad(g: Any, x: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `average_pool_grad` of flat arrays, into `x`."""
    if not _over_pictures(_average_pool_grad_part, x, g, None, table, inputs, channels):
        _average_pool_grad_loop(g, x, table, inputs, channels)
