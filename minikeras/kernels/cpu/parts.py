"""Elementwise work that the team shares: passes over float32 arrays too long for one core.

A part takes its stretch of the arrays, cut at the same places whatever the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import FAST, inner, lazy_part
from minikeras.kernels.cpu.machine import floats, numbers, octets, words
from minikeras.kernels.cpu.team import team

_STRETCH = 1 << 14  # elements of a part, about
_MOST = 64  # parts
_FLOAT = np.dtype(np.float32)
_ZERO = np.float32(0)

# Arguments: 0 the number of elements (or rows), 1 of parts; then what the part's docstring says.


@inner
def _stretch(n, part):  # type: ignore[no-untyped-def]
    """A part's first element, in bytes, and how many it has; cut at whole cache lines."""
    lines = (n[0] + 15) // 16
    first, last = lines * part // n[1] * 16, min(lines * (part + 1) // n[1] * 16, n[0])
    return 4 * first, max(last - first, 0)


def parts_of(elements: int) -> int:
    """How many parts a pass over so many elements has."""
    return max(min(elements // _STRETCH, _MOST), 1)


def _run(part: Any, parts: int, elements: int, *arguments: Any) -> None:
    """Run a part function; arrays among the arguments are given by address (None: 0)."""
    team.run(part.address, None, parts, True, (elements, parts, *arguments))


# ---- optimizers ------------------------------------------------------------------------------------------------------


# Every number in a loop has the arrays' own type: one float64 among float32 would make it ten times slower.  The loops
# round like NumPy, operation by operation.


@lazy_part
def _adam_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 5: p, g, m, v; 6: alpha, 1 - beta_1, 1 - beta_2, epsilon."""
    n = numbers(arguments)
    first, size = _stretch(n, part)
    p, g, m, v = floats(n[2] + first), floats(n[3] + first), floats(n[4] + first), floats(n[5] + first)
    constants = floats(n[6])
    alpha, one_minus_beta_1, one_minus_beta_2, epsilon = constants[0], constants[1], constants[2], constants[3]
    for i in range(size):
        gradient, mean, square = g[i], m[i], v[i]
        mean += (gradient - mean) * one_minus_beta_1
        square += (gradient * gradient - square) * one_minus_beta_2
        m[i] = mean
        v[i] = square
        p[i] -= mean / (math.sqrt(square) + epsilon) * alpha


def adam(p: Any, g: Any, m: Any, v: Any, *numbers: float) -> None:
    """As the kernel `adam`, its last four arguments alpha, 1 - beta_1, 1 - beta_2 and epsilon."""
    _run(_adam_part, parts_of(p.size), p.size, p, g, m, v, np.array(numbers, _FLOAT))


@lazy_part
def _rmsprop_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 4: p, g, v; 5: lr, rho, 1 - rho, epsilon."""
    n = numbers(arguments)
    first, size = _stretch(n, part)
    p, g, v = floats(n[2] + first), floats(n[3] + first), floats(n[4] + first)
    constants = floats(n[5])
    rate, rho, one_minus_rho, epsilon = constants[0], constants[1], constants[2], constants[3]
    for i in range(size):
        gradient = g[i]
        square = v[i] * rho + gradient * gradient * one_minus_rho
        v[i] = square
        p[i] -= gradient / math.sqrt(square + epsilon) * rate


def rmsprop(p: Any, g: Any, v: Any, *numbers: float) -> None:
    """As the kernel `rmsprop`, its last four arguments lr, rho, 1 - rho and epsilon."""
    _run(_rmsprop_part, parts_of(p.size), p.size, p, g, v, np.array(numbers, _FLOAT))


@lazy_part
def _sgd_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2, 3: p, g; 4: lr."""
    n = numbers(arguments)
    first, size = _stretch(n, part)
    p, g, rate = floats(n[2] + first), floats(n[3] + first), floats(n[4])[0]
    for i in range(size):
        p[i] -= g[i] * rate


def sgd(p: Any, g: Any, lr: float) -> None:
    """As the kernel."""
    _run(_sgd_part, parts_of(p.size), p.size, p, g, np.array([lr], _FLOAT))


@lazy_part
def _sgd_momentum_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 to 4: p, g, v; 5: lr, momentum; 6: whether Nesterov's."""
    n = numbers(arguments)
    first, size = _stretch(n, part)
    p, g, v = floats(n[2] + first), floats(n[3] + first), floats(n[4] + first)
    rate, momentum = floats(n[5])[0], floats(n[5])[1]
    if n[6]:
        for i in range(size):
            step = g[i] * rate
            velocity = v[i] * momentum - step
            v[i] = velocity
            p[i] = (p[i] - step) + velocity * momentum
    else:
        for i in range(size):
            velocity = v[i] * momentum - g[i] * rate
            v[i] = velocity
            p[i] += velocity


def sgd_momentum(p: Any, g: Any, v: Any, lr: float, momentum: float, nesterov: bool) -> None:
    """As the kernel."""
    _run(_sgd_momentum_part, parts_of(p.size), p.size, p, g, v, np.array([lr, momentum], _FLOAT), int(nesterov))


# ---- backward through an activation and a bias -----------------------------------------------------------------------


@lazy_part(fastmath={"reassoc", "nsz", "contract"})
def _relu_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows: 2 g, 3 y (0: no activation), 4 the gradient before it, 5 sums of each part (0: none); 6 columns."""
    n = numbers(arguments)
    columns = n[6]
    begin, end = n[0] * part // n[1], n[0] * (part + 1) // n[1]
    first, rows = 4 * begin * columns, end - begin
    g = floats(n[2] + first)
    if n[3]:
        y, out = floats(n[3] + first), floats(n[4] + first)
        for i in range(rows * columns):
            out[i] = g[i] if y[i] > _ZERO else _ZERO
        g = out
    if n[5]:
        # one row of sums for each of four rows, so that an addition need not wait for the one before
        sums = floats(n[5] + 4 * part * columns)
        for j in range(columns):
            sums[j] = _ZERO
        fours = rows // 4 * 4
        for i in range(0, fours, 4):
            at = i * columns
            for j in range(columns):
                sums[j] += (g[at + j] + g[at + columns + j]) + (g[at + 2 * columns + j] + g[at + 3 * columns + j])
        for i in range(fours, rows):
            at = i * columns
            for j in range(columns):
                sums[j] += g[at + j]


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


# ---- activations made of straight lines ------------------------------------------------------------------------------


@inner
def _lines(n, part):  # type: ignore[no-untyped-def]
    """A part's stretch, and 5: slope, limit (NaN: none) and threshold."""
    first, size = _stretch(n, part)
    constants = floats(n[5])
    return first, size, constants[0], constants[1], constants[2]


@lazy_part
def _piecewise_relu_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 x, 4 result."""
    n = numbers(arguments)
    first, size, slope, limit, threshold = _lines(n, part)
    x, out = floats(n[2] + first), floats(n[4] + first)
    for i in range(size):
        below = _ZERO if slope == _ZERO else slope * (x[i] - threshold)  # the slope may meet an infinity
        value = below if x[i] <= threshold else x[i]  # NaN stays NaN
        out[i] = limit if value > limit else value


@lazy_part
def _piecewise_relu_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 g, 3 x, 4 result."""
    n = numbers(arguments)
    first, size, slope, limit, threshold = _lines(n, part)
    g, x, out = floats(n[2] + first), floats(n[3] + first), floats(n[4] + first)
    for i in range(size):
        below = _ZERO if slope == _ZERO else slope * (x[i] - threshold)
        value = below if x[i] <= threshold else x[i]
        less = _ZERO if slope == _ZERO else g[i] * slope
        steep = g[i] if x[i] > threshold else less
        out[i] = _ZERO if value >= limit else steep


def piecewise_relu(x: Any, slope: float, limit: float | None, threshold: float, out: Any) -> None:
    """As the kernel."""
    numbers = np.array([slope, np.nan if limit is None else limit, threshold], _FLOAT)
    _run(_piecewise_relu_part, parts_of(x.size), x.size, x, None, out, numbers)


def piecewise_relu_grad(g: Any, x: Any, slope: float, limit: float | None, threshold: float, out: Any) -> None:
    """As the kernel."""
    numbers = np.array([slope, np.nan if limit is None else limit, threshold], _FLOAT)
    _run(_piecewise_relu_grad_part, parts_of(x.size), x.size, g, x, out, numbers)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@lazy_part
def _masked_scale_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """2 x, 3 mask (bytes), 4 result; 5 the scale."""
    n = numbers(arguments)
    first, size = _stretch(n, part)
    x, out, scale = floats(n[2] + first), floats(n[4] + first), floats(n[5])[0]
    mask = octets(n[3] + first // 4)
    for i in range(size):
        out[i] = x[i] * np.float32(mask[i]) * scale


def masked_scale(x: Any, mask: Any, scale: float, out: Any) -> None:
    """As the kernel, of a mask of bytes with the shape of `x`."""
    _run(_masked_scale_part, parts_of(x.size), x.size, x, mask, out, np.array([scale], _FLOAT))


# ---- the gradient of a table lookup ----------------------------------------------------------------------------------


@lazy_part
def _scatter_add_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows of the table: 2 g, 3 which row each of its rows belongs to (int64), 4 how many, 5 the table, 6 columns."""
    n = numbers(arguments)
    first, last, width, indices = n[0] * part // n[1], n[0] * (part + 1) // n[1], n[6], numbers(n[3])
    table = floats(n[5] + 4 * first * width)
    for j in range((last - first) * width):
        table[j] = _ZERO
    for i in range(n[4]):
        if first <= indices[i] < last:
            row, target = floats(n[2] + 4 * i * width), floats(n[5] + 4 * indices[i] * width)
            for j in range(width):
                target[j] += row[j]


def scatter_add(g: Any, indices: Any, out: Any) -> None:
    """Zeros in `out` (rows, d), and each row of `g` (n, d) added at its index (n of int64, within the table)."""
    parts = min(parts_of(out.size), len(out), 8)  # each looks at all indices
    _run(_scatter_add_part, parts, len(out), g, indices, indices.size, out, out.shape[1])


# ---- rows of a dataset -----------------------------------------------------------------------------------------------


@lazy_part
def _gather_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Rows: 2 the dataset, 3 which of its rows (int64), 4 result; 5 bytes of a row."""
    n = numbers(arguments)
    first, last, width = n[0] * part // n[1], n[0] * (part + 1) // n[1], n[5]
    rows, fours = numbers(n[3]), width // 4
    for i in range(first, last):
        source, target = n[2] + rows[i] * width, n[4] + i * width
        there, here = words(source), words(target)
        for j in range(fours):
            here[j] = there[j]
        for j in range(4 * fours, width):
            octets(target)[j] = octets(source)[j]


def gather_ahead(array: Any, rows: Any, out: Any) -> Callable[[], None] | None:
    """Copy these rows of a contiguous array into `out` beside other work, if a helper may; see `Team.errand`."""
    addresses = array.ctypes.data, rows.ctypes.data, out.ctypes.data
    arguments = np.array([len(rows), 1, *addresses, array.nbytes // len(array)], np.int64)
    return team.errand(_gather_part.address, arguments, array, rows, out)


# ---- pooling ---------------------------------------------------------------------------------------------------------

# Arguments: 0 pictures, 1 parts; 2 the inputs' array, 3 the outputs' array; 4 the table of inputs by output and tap
# (-1: none), 5 outputs, 6 taps, 7 inputs, 8 channels.  Maxima are in pool_parts.py.


@inner
def _pictures(n, part):  # type: ignore[no-untyped-def]
    """A part's pictures: (how many, of the inputs, of the outputs)."""
    first, last = n[0] * part // n[1], n[0] * (part + 1) // n[1]
    return last - first, n[2] + 4 * first * n[7] * n[8], n[3] + 4 * first * n[5] * n[8]


@lazy_part(fastmath=FAST)
def _average_pool_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From x to y."""
    n = numbers(arguments)
    pictures, x_at, y_at = _pictures(n, part)
    outputs, taps, channels, table = n[5], n[6], n[8], numbers(n[4])
    for _ in range(pictures):
        for position in range(outputs):
            y = floats(y_at)
            for j in range(channels):
                y[j] = _ZERO
            count = 0
            for tap in range(taps):
                place = table[position * taps + tap]
                if place >= 0:
                    count += 1
                    x = floats(x_at + 4 * place * channels)
                    for j in range(channels):
                        y[j] += x[j]
            divisor = np.float32(max(count, 1))
            for j in range(channels):
                y[j] /= divisor
            y_at += 4 * channels
        x_at += 4 * n[7] * channels


@lazy_part(fastmath=FAST)
def _average_pool_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """From the gradient at y to x's."""
    n = numbers(arguments)
    pictures, x_at, g_at = _pictures(n, part)
    outputs, taps, channels, table = n[5], n[6], n[8], numbers(n[4])
    for _ in range(pictures):
        x = floats(x_at)
        for j in range(n[7] * channels):
            x[j] = _ZERO
        for position in range(outputs):
            g = floats(g_at)
            count = 0
            for tap in range(taps):
                count += table[position * taps + tap] >= 0
            divisor = np.float32(max(count, 1))
            for tap in range(taps):
                place = table[position * taps + tap]
                if place >= 0:
                    x = floats(x_at + 4 * place * channels)
                    for j in range(channels):
                        x[j] += g[j] / divisor
            g_at += 4 * channels
        x_at += 4 * n[7] * channels


def _over_pictures(part: Any, wide: Any, narrow: Any, table: Any, inputs: int, channels: int) -> None:
    pictures = wide.size // (inputs * channels)
    parts = min(parts_of(wide.size), pictures)
    _run(part, parts, pictures, wide, narrow, table, *table.shape, inputs, channels)


def average_pool(x: Any, y: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `average_pool` of contiguous arrays."""
    _over_pictures(_average_pool_part, x, y, table, inputs, channels)


def average_pool_grad(g: Any, x: Any, table: Any, inputs: int, channels: int) -> None:
    """The kernel `average_pool_grad` of contiguous arrays, into `x`."""
    _over_pictures(_average_pool_grad_part, x, g, table, inputs, channels)


@lazy_part(fastmath=FAST)
def _global_average_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Pictures: 2 of (positions, channels), 3 their means; 4 positions, 5 channels."""
    n = numbers(arguments)
    positions, channels = n[4], n[5]
    fours, count = positions // 4 * 4, np.float32(positions)
    for picture in range(n[0] * part // n[1], n[0] * (part + 1) // n[1]):
        x, out = floats(n[2] + 4 * picture * positions * channels), floats(n[3] + 4 * picture * channels)
        for j in range(channels):
            out[j] = _ZERO
        for i in range(0, fours, 4):
            at = i * channels
            for j in range(channels):
                out[j] += (x[at + j] + x[at + channels + j]) + (x[at + 2 * channels + j] + x[at + 3 * channels + j])
        for i in range(fours, positions):
            at = i * channels
            for j in range(channels):
                out[j] += x[at + j]
        for j in range(channels):
            out[j] /= count


def global_average_pool(x: Any, out: Any) -> None:
    """The kernel, of a long array, into `out`."""
    parts = min(parts_of(x.size), len(x))
    _run(_global_average_part, parts, len(x), x, out, *x.shape[1:])


@lazy_part
def _global_average_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """Pictures: 2 gradients at their means, 3 at them; 4 positions, 5 channels."""
    n = numbers(arguments)
    positions, channels = n[4], n[5]
    count = np.float32(positions)
    for picture in range(n[0] * part // n[1], n[0] * (part + 1) // n[1]):
        g = floats(n[2] + 4 * picture * channels)
        for i in range(picture * positions, (picture + 1) * positions):
            out = floats(n[3] + 4 * i * channels)
            for j in range(channels):
                out[j] = g[j] / count


def global_average_pool_grad(g: Any, out: Any) -> None:
    """The kernel, into a long array."""
    parts = min(parts_of(out.size), len(g))
    _run(_global_average_grad_part, parts, len(g), g, out, *out.shape[1:])
