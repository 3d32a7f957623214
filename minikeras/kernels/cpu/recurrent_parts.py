"""Recurrences that the team shares: a part takes some rows of the batch through all time steps.

The rows of a batch do not meet before the gradients of the weights, so a core takes its rows from the first time step
to the last without waiting for another, while the recurrent kernel, packed for the tile, stays in its cache.  A step is
the recurrent product of these rows and then, row by row, the arithmetic of the cell.

Float32 with tanh and sigmoid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.functions import sigmoid, tanh
from minikeras.kernels.cpu.jit import FAST, inner, lazy_part
from minikeras.kernels.cpu.machine import floats, numbers, octets
from minikeras.kernels.cpu.team import team
from minikeras.kernels.cpu.tile import ROWS, is_matrix, packed, rows_product

_ZERO, _ONE = np.float32(0), np.float32(1)


# ---- what the cells share --------------------------------------------------------------------------------------------

# What a part reads: numbers at these places of its arguments; of arrays the address, 0 where there is none.
_SAMPLES, _BLOCK, _TIME, _UNITS = 0, 1, 2, 3  # a part has _BLOCK rows
_STEP = 4  # for one step alone
_PANELS, _CANDIDATE_PANELS, _CANDIDATE_BIAS = 5, 6, 7  # the recurrent kernel; a GRU's candidate has its own
_H, _C = 8, 9  # (n, u): the states, or their gradients
_OUTPUTS, _MASK = 10, 11  # (n, t, u): the outputs, or their gradients; (n, t) bytes
_GATES, _HISTORY, _CELLS, _EXTRA = 12, 13, 14, 15  # (n, t, ...); without _HISTORY nothing is kept, _EXTRA is (n, 1, u)
_G_GATES, _G_PRODUCTS, _SUMS, _PRODUCT_SUMS = 16, 17, 18, 19  # (n, t, gates, u), sums of each part
_WAITING = 20  # (n, u): gradients of outputs that repeat an earlier one, on their way to that one
# (n, t, d): x, or its gradient; without, that product is not done
_X, _FEATURES, _KERNEL_PANELS, _BIAS = 21, 22, 23, 24
_PRODUCT = 25  # (n, gates, u): the recurrent product of one step
_NUMBERS = 26


@inner
def _begin(arguments, part):  # type: ignore[no-untyped-def]
    """(arguments, a part's first row, the one after its last)."""
    n = numbers(arguments)
    first = part * n[_BLOCK]
    return n, first, min(first + n[_BLOCK], n[_SAMPLES])


@inner
def _copy(source, target, size):  # type: ignore[no-untyped-def]
    there, here = floats(source), floats(target)
    for j in range(size):
        here[j] = there[j]


@inner
def _add(source, target, size):  # type: ignore[no-untyped-def]
    there, here = floats(source), floats(target)
    for j in range(size):
        here[j] += there[j]


@inner
def _clear(target, size):  # type: ignore[no-untyped-def]
    here = floats(target)
    for j in range(size):
        here[j] = _ZERO


@inner
def _counts(n, at):  # type: ignore[no-untyped-def]
    """Whether step `at` = row * t + s counts."""
    return n[_MASK] == 0 or octets(n[_MASK] + at)[0] != 0


@inner
def _extra(n, r, at):  # type: ignore[no-untyped-def]
    """Where the part of the residual lies that needs a place even if nothing is kept."""
    return n[_EXTRA] + 4 * n[_UNITS] * (at if n[_HISTORY] else r)


@inner
def _project(n, first, rows, s, columns):  # type: ignore[no-untyped-def]
    """The input product of a step, and the bias."""
    if n[_X]:
        t, d = n[_TIME], n[_FEATURES]
        at = first * t + s
        x, gates = n[_X] + 4 * d * at, n[_GATES] + 4 * columns * at
        rows_product(x, 4 * d * t, n[_BIAS], 0, gates, 4 * columns * t, rows, d, columns, n[_KERNEL_PANELS])


@inner
def _project_grad(n, first, rows, s, columns):  # type: ignore[no-untyped-def]
    """The gradient of x at a step; `_BIAS` has zeros."""
    if n[_X]:
        t, d = n[_TIME], n[_FEATURES]
        at = first * t + s
        g_x, g_gates = n[_X] + 4 * d * at, n[_G_GATES] + 4 * columns * at
        rows_product(g_gates, 4 * columns * t, n[_BIAS], 0, g_x, 4 * d * t, rows, columns, d, n[_KERNEL_PANELS])


@inner
def _show(n, r, s):  # type: ignore[no-untyped-def]
    """Write the output of a step."""
    size = 4 * n[_UNITS]
    at = r * n[_TIME] + s
    out = n[_OUTPUTS] + size * at
    if _counts(n, at):
        _copy(n[_H] + size * r, out, n[_UNITS])
    elif s:
        _copy(out - size, out, n[_UNITS])
    else:
        _clear(out, n[_UNITS])


@inner
def _enter(n, r, s):  # type: ignore[no-untyped-def]
    """Add the gradient of a step's output to that of h, where the step counts; returns whether it does."""
    u = n[_UNITS]
    at = r * n[_TIME] + s
    counts = _counts(n, at)
    h = n[_H] + 4 * u * r
    if n[_OUTPUTS]:
        g = n[_OUTPUTS] + 4 * u * at
        if n[_MASK]:
            waiting = n[_WAITING] + 4 * u * r
            _add(g, waiting, u)
            if counts:
                _add(waiting, h, u)
                _clear(waiting, u)
        else:
            _add(g, h, u)
    return counts


# In what follows, each loop touches few arrays: beyond that the compiler gives up proving that they do not overlap.


@inner(fastmath=FAST)
def _tanh(z, size):  # type: ignore[no-untyped-def]
    gate = floats(z)
    for j in range(size):
        gate[j] = tanh(gate[j])


@inner(fastmath=FAST)
def _sigmoid(z, size):  # type: ignore[no-untyped-def]
    gate = floats(z)
    for j in range(size):
        gate[j] = sigmoid(gate[j])


# ---- simple recurrent layer ------------------------------------------------------------------------------------------


@lazy_part
def _simple_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    for s in range(t):
        _project(n, first, rows, s, u)
        h, z = n[_H] + size * first, n[_GATES] + size * (first * t + s)
        rows_product(h, size, z, t * size, z, t * size, rows, u, u, n[_PANELS])
        for r in range(first, last):
            at = r * t + s
            h, z = n[_H] + size * r, n[_GATES] + size * at
            if n[_HISTORY]:
                _copy(h, n[_HISTORY] + size * at, u)
            if _counts(n, at):
                _tanh(z, u)
                _copy(z, h, u)
            _show(n, r, s)


@inner(fastmath=FAST)
def _simple_row_grad(outputs, g_outputs, g_gates, u):  # type: ignore[no-untyped-def]
    y, g_h, g_z = floats(outputs), floats(g_outputs), floats(g_gates)
    for j in range(u):
        g_z[j] = g_h[j] * (_ONE - y[j] * y[j])


@lazy_part
def _simple_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    _clear(n[_SUMS] + size * part, u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            g_h, g_z = n[_H] + size * r, n[_G_GATES] + at
            if _enter(n, r, s):
                _simple_row_grad(n[_GATES] + at, g_h, g_z, u)
                _clear(g_h, u)
                _add(g_z, n[_SUMS] + size * part, u)
            else:
                _clear(g_z, u)
        g_h, g_z = n[_H] + size * first, n[_G_GATES] + size * (first * t + s)
        rows_product(g_z, t * size, g_h, size, g_h, size, rows, u, u, n[_PANELS])
        _project_grad(n, first, rows, s, u)


# ---- LSTM ------------------------------------------------------------------------------------------------------------


@inner(fastmath=FAST)
def _lstm_row(gates, cells, squashed, states, u):  # type: ignore[no-untyped-def]
    size = 4 * u
    _sigmoid(gates, 2 * u)
    _tanh(gates + 2 * size, u)
    _sigmoid(gates + 3 * size, u)
    i, f = floats(gates), floats(gates + size)
    g, o = floats(gates + 2 * size), floats(gates + 3 * size)
    c, y, h = floats(cells), floats(squashed), floats(states)
    for j in range(u):
        c[j] = f[j] * c[j] + i[j] * g[j]
    for j in range(u):
        value = tanh(c[j])
        y[j] = value
        h[j] = o[j] * value


@lazy_part
def _lstm_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    for s in range(t):
        _project(n, first, rows, s, 4 * u)
        h, z = n[_H] + size * first, n[_GATES] + 4 * size * (first * t + s)
        rows_product(h, size, z, 4 * t * size, z, 4 * t * size, rows, u, 4 * u, n[_PANELS])
        for r in range(first, last):
            at = r * t + s
            h, c = n[_H] + size * r, n[_C] + size * r
            if n[_HISTORY]:
                _copy(h, n[_HISTORY] + size * at, u)
                _copy(c, n[_CELLS] + size * at, u)
            if _counts(n, at):
                _lstm_row(n[_GATES] + 4 * size * at, c, _extra(n, r, at), h, u)
            _show(n, r, s)


@inner(fastmath=FAST)
def _lstm_row_grad(gates, cells, squashed, g_states, g_cells, g_gates, u):  # type: ignore[no-untyped-def]
    size = 4 * u
    i, f = floats(gates), floats(gates + size)
    g, o = floats(gates + 2 * size), floats(gates + 3 * size)
    g_i, g_f = floats(g_gates), floats(g_gates + size)
    g_g, g_o = floats(g_gates + 2 * size), floats(g_gates + 3 * size)
    c, y, g_h, g_c = floats(cells), floats(squashed), floats(g_states), floats(g_cells)
    for j in range(u):
        through = g_h[j] * o[j]
        g_c[j] += through * (_ONE - y[j] * y[j])
        g_o[j] = through * y[j] * (_ONE - o[j])
    for j in range(u):
        g_i[j] = g_c[j] * g[j] * i[j] * (_ONE - i[j])
        g_g[j] = g_c[j] * i[j] * (_ONE - g[j] * g[j])
    for j in range(u):
        through = g_c[j] * f[j]
        g_f[j] = through * c[j] * (_ONE - f[j])
        g_c[j] = through


@lazy_part
def _lstm_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    sums = n[_SUMS] + 4 * size * part
    _clear(sums, 4 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            g_h, g_c, g_gates = n[_H] + size * r, n[_C] + size * r, n[_G_GATES] + 4 * at
            if _enter(n, r, s):
                _lstm_row_grad(n[_GATES] + 4 * at, n[_CELLS] + at, n[_EXTRA] + at, g_h, g_c, g_gates, u)
                _clear(g_h, u)
                _add(g_gates, sums, 4 * u)
            else:
                _clear(g_gates, 4 * u)
        g_h, g_gates = n[_H] + size * first, n[_G_GATES] + 4 * size * (first * t + s)
        rows_product(g_gates, 4 * t * size, g_h, size, g_h, size, rows, 4 * u, u, n[_PANELS])
        _project_grad(n, first, rows, s, 4 * u)


# ---- GRU -------------------------------------------------------------------------------------------------------------


@inner(fastmath=FAST)
def _gru_row(gates, products, states, u, reset_after):  # type: ignore[no-untyped-def]
    """From the gates z and r to the new state."""
    size = 4 * u
    z, r, candidate = floats(gates), floats(gates + size), floats(gates + 2 * size)
    product, h = floats(products), floats(states)
    if reset_after:
        for j in range(u):
            candidate[j] = tanh(candidate[j] + r[j] * product[j])
    else:
        _tanh(gates + 2 * size, u)
    for j in range(u):
        h[j] = candidate[j] + z[j] * (h[j] - candidate[j])


@inner(fastmath=FAST)
def _multiply(first, second, result, u):  # type: ignore[no-untyped-def]
    x, y, out = floats(first), floats(second), floats(result)
    for j in range(u):
        out[j] = x[j] * y[j]


@lazy_part
def _gru_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """With a candidate bias, the reset gate comes after the product."""
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    product_row = t * size if n[_HISTORY] else size
    candidate_panels, bias = n[_CANDIDATE_PANELS], n[_CANDIDATE_BIAS]
    for s in range(t):
        _project(n, first, rows, s, 3 * u)
        h, gates = n[_H] + size * first, n[_GATES] + 3 * size * (first * t + s)
        rows_product(h, size, gates, 3 * t * size, gates, 3 * t * size, rows, u, 2 * u, n[_PANELS])
        product = _extra(n, first, first * t + s)
        if bias:
            rows_product(h, size, bias, 0, product, product_row, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = r * t + s
            h, gates = n[_H] + size * r, n[_GATES] + 3 * size * at
            _sigmoid(gates, 2 * u)
            if n[_HISTORY]:
                _copy(h, n[_HISTORY] + size * at, u)
            if not bias:
                _multiply(gates + size, h, _extra(n, r, at), u)
        if not bias:
            c = n[_GATES] + 3 * size * (first * t + s) + 2 * size
            rows_product(product, product_row, c, 3 * t * size, c, 3 * t * size, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = r * t + s
            if _counts(n, at):
                _gru_row(n[_GATES] + 3 * size * at, _extra(n, r, at), n[_H] + size * r, u, bias != 0)
            _show(n, r, s)


@inner(fastmath=FAST)
def _gru_row_grad(gates, states, g_states, g_gates, u):  # type: ignore[no-untyped-def]
    """The gradients before the activations of z and the candidate; of h, what passes straight through remains."""
    size = 4 * u
    z, candidate, h = floats(gates), floats(gates + 2 * size), floats(states)
    g_h, g_z, g_candidate = floats(g_states), floats(g_gates), floats(g_gates + 2 * size)
    for j in range(u):
        through = g_h[j] * (_ONE - z[j])
        g_z[j] = through * (h[j] - candidate[j]) * z[j]
        g_candidate[j] = through * (_ONE - candidate[j] * candidate[j])
    for j in range(u):
        g_h[j] *= z[j]


@inner(fastmath=FAST)
def _reset_grad(g_resets, factors, gates, g_gates, g_factors, u):  # type: ignore[no-untyped-def]
    """The gate r multiplied factors: from the gradient of the result to those before its activation and of factors."""
    g_reset, factor, r = floats(g_resets), floats(factors), floats(gates)
    g_r, g_factor = floats(g_gates), floats(g_factors)
    for j in range(u):
        through = g_reset[j] * r[j]
        g_r[j] = through * factor[j] * (_ONE - r[j])
        g_factor[j] = through


@lazy_part
def _gru_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """The reset gate after the product: the gradient of that product differs from the gates'."""
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    sums, product_sums = n[_SUMS] + 3 * size * part, n[_PRODUCT_SUMS] + 3 * size * part
    _clear(sums, 3 * u)
    _clear(product_sums, 3 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            gates, g_gates, g_products = n[_GATES] + 3 * at, n[_G_GATES] + 3 * at, n[_G_PRODUCTS] + 3 * at
            if _enter(n, r, s):
                _gru_row_grad(gates, n[_HISTORY] + at, n[_H] + size * r, g_gates, u)
                g_candidate = g_gates + 2 * size
                _reset_grad(g_candidate, n[_EXTRA] + at, gates + size, g_gates + size, g_products + 2 * size, u)
                _copy(g_gates, g_products, 2 * u)
                _add(g_gates, sums, 3 * u)
                _add(g_products, product_sums, 3 * u)
            else:
                _clear(g_gates, 3 * u)
                _clear(g_products, 3 * u)
        g_h, g_products = n[_H] + size * first, n[_G_PRODUCTS] + 3 * size * (first * t + s)
        rows_product(g_products, 3 * t * size, g_h, size, g_h, size, rows, 3 * u, u, n[_PANELS])
        _project_grad(n, first, rows, s, 3 * u)


@lazy_part
def _reset_first_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """The reset gate before the product; `_C` is room for the gradient of what it gave."""
    n, first, last = _begin(arguments, part)
    t, u, rows = n[_TIME], n[_UNITS], last - first
    size = 4 * u
    sums = n[_SUMS] + 3 * size * part
    _clear(sums, 3 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            g_gates = n[_G_GATES] + 3 * at
            if _enter(n, r, s):
                _gru_row_grad(n[_GATES] + 3 * at, n[_HISTORY] + at, n[_H] + size * r, g_gates, u)
            else:
                _clear(g_gates, 3 * u)
            _clear(n[_C] + size * r, u)
        g_gates, g_reset = n[_G_GATES] + 3 * size * (first * t + s), n[_C] + size * first
        g_candidate, row = g_gates + 2 * size, 3 * t * size
        rows_product(g_candidate, row, g_reset, size, g_reset, size, rows, u, u, n[_CANDIDATE_PANELS])
        for r in range(first, last):
            at = size * (r * t + s)
            gates, g_gates, g_reset = n[_GATES] + 3 * at, n[_G_GATES] + 3 * at, n[_C] + size * r
            if _counts(n, r * t + s):
                _reset_grad(g_reset, n[_HISTORY] + at, gates + size, g_gates + size, g_reset, u)
                _add(g_reset, n[_H] + size * r, u)
                _add(g_gates, sums, 3 * u)
        g_h, g_gates = n[_H] + size * first, n[_G_GATES] + 3 * size * (first * t + s)
        rows_product(g_gates, row, g_h, size, g_h, size, rows, 2 * u, u, n[_PANELS])
        _project_grad(n, first, rows, s, 3 * u)


# ---- the loops over time, as the reference's kernels take them -------------------------------------------------------

_WAKES = 8_000_000  # multiplications for which a helper is waked
_NEAR = 1 << 18  # numbers of a kernel, 1 MiB: they stay in the cache of a core


def _block(gates: Any) -> int:
    """Rows of a part: as few as the tile takes, more where the recurrent kernel is read from afar at each step."""
    return ROWS if gates.shape[2] * gates.shape[3] ** 2 <= _NEAR else 2 * ROWS


def _parts(gates: Any) -> int:
    return -(-len(gates) // _block(gates))


def _fills_the_tile(x: Any, kernel: Any) -> bool:
    """Whether the input product is done step by step too, rather than once for all of them, with more rows."""
    return len(x) >= ROWS and kernel.size <= _NEAR


def _run(part: Any, gates: Any, arrays: dict[int, Any], features: int = 0, step: int = 0) -> None:
    """Run a part function over the gates of a sequence; None stands for no array."""
    n, t, _, u = gates.shape
    arrays = {**arrays, _GATES: gates, _FEATURES: features}
    items = n, _block(gates), t, u, step, *(arrays.get(place) for place in range(_STEP + 1, _NUMBERS))
    team.run(part.address, None, _parts(gates), gates.size * u >= _WAKES, items)


def _bytes(mask: Any) -> Any:
    return None if mask is None else np.ascontiguousarray(mask, np.bool_)


def _forward(part: Any, inputs: Any, gates: Any, histories: Any, mask: Any, arrays: dict[int, Any]) -> Any:
    """`inputs`: the table, x, kernel, bias."""
    k, x, kernel, bias = inputs
    n, t, count, u = gates.shape
    outputs = empty((n, t, u), gates.dtype)
    arrays |= {**dict(zip((_HISTORY, _CELLS), histories, strict=False)), _OUTPUTS: outputs, _MASK: _bytes(mask)}
    if _fills_the_tile(x, kernel) and is_matrix(kernel):
        bias = np.zeros(count * u, gates.dtype) if bias is None else np.ascontiguousarray(bias)
        arrays |= {_X: np.ascontiguousarray(x), _BIAS: bias, _KERNEL_PANELS: packed(kernel)}
    else:
        k.dense(x.reshape(n * t, x.shape[2]), kernel, bias, out=gates.reshape(n * t, count * u))
    _run(part, gates, arrays, x.shape[2])
    return outputs


def _backward(
    part: Any, g_outputs: Any, r: Any, needs_x: bool, gates: Any, products: Any, arrays: dict[int, Any]
) -> tuple[list[Any], Any]:
    n, t, count, u = gates.shape
    d = r.x.shape[2]
    summands = [empty((_parts(gates), 1, count, u), gates.dtype) for _ in products]
    arrays |= dict(zip((_G_GATES, _G_PRODUCTS), products, strict=False))
    arrays |= dict(zip((_SUMS, _PRODUCT_SUMS), summands, strict=False))
    arrays[_MASK] = _bytes(r.mask)
    if g_outputs is not None:
        arrays[_OUTPUTS] = np.ascontiguousarray(g_outputs)
        arrays[_WAITING] = None if r.mask is None else np.zeros((n, u), gates.dtype)
    g_x = None
    if needs_x and _fills_the_tile(r.x, r.kernel) and is_matrix(r.kernel):
        g_x = empty((n, t, d), gates.dtype)
        arrays |= {_X: g_x, _BIAS: np.zeros(d, gates.dtype), _KERNEL_PANELS: packed(r.kernel, tb=True)}
    _run(part, gates, arrays, d)
    return summands, g_x


def _simple(*inputs: Any, recurrent_kernel: Any, h: Any, mask: Any, histories: Any, gates: Any) -> Any:
    arrays = {_H: h, _PANELS: packed(recurrent_kernel)}
    return _forward(_simple_part, inputs, gates, histories, mask, arrays)


def _simple_grad(g_outputs: Any, g_h: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    arrays = {_H: g_h, _PANELS: packed(r.recurrent_kernel, tb=True)}
    return _backward(_simple_grad_part, g_outputs, r, needs_x, r.saved[1], products, arrays)


def _lstm(
    *inputs: Any, recurrent_kernel: Any, h: Any, c: Any, mask: Any, histories: Any, gates: Any, squashed: Any
) -> Any:
    arrays = {_H: h, _C: c, _EXTRA: squashed, _PANELS: packed(recurrent_kernel)}
    return _forward(_lstm_part, inputs, gates, histories, mask, arrays)


def _lstm_grad(g_outputs: Any, g_h: Any, g_c: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    _, cells, gates, squashed = r.saved
    panels = packed(r.recurrent_kernel, tb=True)
    arrays = {_H: g_h, _C: g_c, _CELLS: cells, _EXTRA: squashed, _PANELS: panels}
    return _backward(_lstm_grad_part, g_outputs, r, needs_x, gates, products, arrays)


def _gru(
    *inputs: Any, recurrent_kernel: Any, candidate_bias: Any, h: Any, mask: Any, histories: Any, gates: Any, inner: Any
) -> Any:
    u = h.shape[1]
    arrays = {_H: h, _EXTRA: inner, _CANDIDATE_BIAS: candidate_bias}
    arrays[_PANELS] = packed(recurrent_kernel[:, : 2 * u])
    arrays[_CANDIDATE_PANELS] = packed(recurrent_kernel[:, 2 * u :])
    return _forward(_gru_part, inputs, gates, histories, mask, arrays)


def _gru_grad(g_outputs: Any, g_h: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    history, gates, inner = r.saved
    arrays = {_H: g_h, _HISTORY: history, _EXTRA: inner}
    if r.reset_after:
        arrays[_PANELS] = packed(r.recurrent_kernel, tb=True)
        return _backward(_gru_grad_part, g_outputs, r, needs_x, gates, products, arrays)
    u = history.shape[2]
    arrays[_C] = empty(g_h.shape, g_h.dtype)
    arrays[_PANELS] = packed(r.recurrent_kernel[:, : 2 * u], tb=True)
    arrays[_CANDIDATE_PANELS] = packed(r.recurrent_kernel[:, 2 * u :], tb=True)
    return _backward(_reset_first_grad_part, g_outputs, r, needs_x, gates, products, arrays)


# ---- the arithmetic of one step, for loops over time that are not compiled -------------------------------------------


@lazy_part
def _lstm_cell_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    u = n[_UNITS]
    size = 4 * u
    for r in range(first, last):
        at = r * n[_TIME] + n[_STEP]
        gates = n[_GATES] + 4 * size * at
        _add(n[_PRODUCT] + 4 * size * r, gates, 4 * u)
        _lstm_row(gates, n[_C] + size * r, _extra(n, r, at), n[_H] + size * r, u)


@lazy_part
def _lstm_cell_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    u = n[_UNITS]
    size = 4 * u
    for r in range(first, last):
        at = size * (r * n[_TIME] + n[_STEP])
        g_h, g_c = n[_H] + size * r, n[_C] + size * r
        _lstm_row_grad(n[_GATES] + 4 * at, n[_CELLS] + at, n[_EXTRA] + at, g_h, g_c, n[_G_GATES] + 4 * at, u)


@lazy_part
def _gru_cell_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    u = n[_UNITS]
    size = 4 * u
    for r in range(first, last):
        at = r * n[_TIME] + n[_STEP]
        gates, product, added = n[_GATES] + 3 * size * at, _extra(n, r, at), n[_PRODUCT] + 3 * size * r
        _add(added, gates, 2 * u)
        _sigmoid(gates, 2 * u)
        _copy(n[_CANDIDATE_BIAS], product, u)
        _add(added + 2 * size, product, u)
        _gru_row(gates, product, n[_H] + size * r, u, True)


@lazy_part
def _gru_cell_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    n, first, last = _begin(arguments, part)
    u = n[_UNITS]
    size = 4 * u
    for r in range(first, last):
        at = size * (r * n[_TIME] + n[_STEP])
        gates, g_gates, g_products = n[_GATES] + 3 * at, n[_G_GATES] + 3 * at, n[_G_PRODUCTS] + 3 * at
        _gru_row_grad(gates, n[_HISTORY] + at, n[_H] + size * r, g_gates, u)
        g_candidate = g_gates + 2 * size
        _reset_grad(g_candidate, n[_EXTRA] + at, gates + size, g_gates + size, g_products + 2 * size, u)
        _copy(g_gates, g_products, 2 * u)


def _lstm_cell(s: int, gates: Any, product: Any, c: Any, h: Any, squashed: Any) -> None:
    arrays = {_PRODUCT: product, _C: c, _H: h, _EXTRA: squashed, _HISTORY: _kept(squashed, gates)}
    _run(_lstm_cell_part, gates, arrays, step=s)


def _lstm_cell_grad(s: int, gates: Any, cells: Any, squashed: Any, g_h: Any, g_c: Any, g_gates: Any) -> None:
    arrays = {_CELLS: cells, _EXTRA: squashed, _H: g_h, _C: g_c, _G_GATES: g_gates}
    _run(_lstm_cell_grad_part, gates, arrays, step=s)


def _gru_cell(s: int, gates: Any, product: Any, candidate_bias: Any, h: Any, inner: Any) -> None:
    arrays = {_PRODUCT: product, _H: h, _EXTRA: inner, _HISTORY: _kept(inner, gates)}
    _run(_gru_cell_part, gates, {**arrays, _CANDIDATE_BIAS: candidate_bias}, step=s)


def _gru_cell_grad(s: int, gates: Any, inner: Any, history: Any, g_h: Any, g_gates: Any, g_products: Any) -> None:
    arrays = {_EXTRA: inner, _HISTORY: history, _H: g_h, _G_GATES: g_gates, _G_PRODUCTS: g_products}
    _run(_gru_cell_grad_part, gates, arrays, step=s)


def _kept(extra: Any, gates: Any) -> Any:
    """What stands at `_HISTORY`: something where `extra` has a place for every step."""
    return extra if extra.shape[1] == gates.shape[1] else None


LOOPS = {"simple_rnn": (_simple, _simple_grad), "lstm": (_lstm, _lstm_grad), "gru": (_gru, _gru_grad)}
CELLS = {"lstm": (_lstm_cell, _lstm_cell_grad), "gru": (_gru_cell, _gru_cell_grad)}
