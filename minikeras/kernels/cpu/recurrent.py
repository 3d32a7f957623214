"""Recurrent layers on the CPU: compiled loops over time that the team shares, or a compiled pass for each step.

For float32 with tanh and sigmoid, the usual activations.  Recurrent dropout and hosts without the tile have the pass;
other activations, and float64, whose exact tanh NumPy vectorises and Numba does not, are left to the reference.

The rows of a batch do not meet before the gradients of the weights, so a core takes its rows from the first time step
to the last without waiting for another, while the recurrent kernel, packed for the tile, stays in its cache.  A step is
the recurrent product of these rows and then, row by row, the arithmetic of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty
from minikeras.kernels.cpu.compiler import (
    FAST,
    Floats,
    Octets,
    add_up_rows,
    floats,
    host,
    inner,
    octets,
    part,
    parts_for,
    share,
    sigmoid,
    tanh,
)
from minikeras.kernels.cpu.tile.products import WAKES, is_matrix, packed, rows_product
from minikeras.kernels.cpu.tile.register import panel_bytes
from minikeras.kernels.reference import recurrent as reference
from minikeras.kernels.table import Kernels, contiguous_float32, override

_ZERO, _ONE = np.float32(0), np.float32(1)

# What parts have in common: `samples`, of which a part has `block`; `time` steps, taken from the last one `backwards`;
# `units`; the recurrent kernel in `panels`; (n, u) states `h` and `c`, which begin as `h0` and `c0` (none: zeros), or
# their gradients, which begin as those of the last states; (n, t, u) `outputs`, or their gradients, `across` bytes from
# sample to sample and `along` from step to step, or (n, u), of the last step `only`; `mask`, (n, t) bytes, and whether
# outputs of steps that it leaves out are `blanks`; (n, t, gates, u) `gates` and their gradients; what is kept of every
# step, (n, t, u): `history` and `cells`, where there are any, and `extra`, which is (n, 1, u) where nothing is kept;
# `sums` of each part, where they are wanted; (n, t, features) `x`, or its gradient, `kernel_panels` and `bias`: without
# x the input product is not done.


# ---- what the cells share --------------------------------------------------------------------------------------------


@inner
def _rows_of(part, block, samples):
    """A part's first row and the one after its last."""
    return part * block, min(part * block + block, samples)


@inner
def _copy(source, target, size):
    there, here = floats(source), floats(target)
    for j in range(size):
        here[j] = there[j]


@inner
def _add(source, target, size):
    there, here = floats(source), floats(target)
    for j in range(size):
        here[j] += there[j]


@inner
def _clear(target, size):
    here = floats(target)
    for j in range(size):
        here[j] = _ZERO


@inner
def _counts(mask, at):
    """Whether step `at` = row * t + s counts."""
    return mask == 0 or octets(mask + at)[0] != 0


@inner
def _place(extra, keeps, r, at, u):
    """Where the part of the residual lies that needs a place even if nothing is kept."""
    return extra + 4 * u * (at if keeps else r)


@inner
def _begin(given, state, first, rows, u):
    """Let the states of some rows be what is given, or zeros."""
    at = 4 * u * first
    if given:
        _copy(given + at, state + at, rows * u)
    else:
        _clear(state + at, rows * u)


@inner
def _step(i, t, backwards):
    """The place of the step that is taken as number i."""
    return t - 1 - i if backwards else i


@inner
def _project(x, panels, bias, gates, first, rows, s, t, d, columns):
    """The input product of a step, and the bias."""
    if x and rows >= host.ROWS:
        at = first * t + s
        rows_product(
            x + 4 * d * at, 4 * d * t, bias, 0, gates + 4 * columns * at, 4 * columns * t, rows, d, columns, panels
        )


@inner
def _project_few(x, panels, bias, gates, first, rows, t, d, columns):
    """The input products of all steps at once, where the rows would not fill a tile."""
    if x and rows < host.ROWS:
        at = first * t
        rows_product(
            x + 4 * d * at, 4 * d, bias, 0, gates + 4 * columns * at, 4 * columns, rows * t, d, columns, panels
        )


@inner
def _project_grad(g_x, panels, zeros, g_gates, first, rows, s, t, d, columns):
    """The gradient of x at a step."""
    if g_x and rows >= host.ROWS:
        at = first * t + s
        x, gates = g_x + 4 * d * at, g_gates + 4 * columns * at
        rows_product(gates, 4 * columns * t, zeros, 0, x, 4 * d * t, rows, columns, d, panels)


@inner
def _project_few_grad(g_x, panels, zeros, g_gates, first, rows, t, d, columns):
    """The gradient of x at all steps at once."""
    if g_x and rows < host.ROWS:
        at = first * t
        rows_product(
            g_gates + 4 * columns * at, 4 * columns, zeros, 0, g_x + 4 * d * at, 4 * d, rows * t, columns, d, panels
        )


@inner(fastmath=FAST)
def _multiply(first, second, result, u):
    x, y, out = floats(first), floats(second), floats(result)
    for j in range(u):
        out[j] = x[j] * y[j]


@inner(fastmath=FAST)
def _add_product(first, second, result, u):
    x, y, out = floats(first), floats(second), floats(result)
    for j in range(u):
        out[j] += x[j] * y[j]


@inner
def _drop(states, factors, dropped, first, last, u):
    """Some rows of states, with dropout."""
    size = 4 * u
    for r in range(first, last):
        _multiply(states + size * r, factors + size * r, dropped + size * r, u)


@inner
def _recur(h, factors, count, samples, dropped, z, z_row, panels, panel, first, last, u, columns):
    """Add the recurrent products of some rows, after dropout, of which so many shares of the columns have their own."""
    size, rows = 4 * u, last - first
    if factors:
        own = columns // count
        for q in range(count):
            _drop(h, factors + size * samples * q, dropped, first, last, u)
            gate = z + 4 * own * q
            rows_product(dropped + size * first, size, gate, z_row, gate, z_row, rows, u, own, panels + panel * q)
    else:
        rows_product(h + size * first, size, z, z_row, z, z_row, rows, u, columns, panels)


@inner
def _recur_grad(g, g_row, factors, count, samples, dropped, g_h, panels, panel, first, last, u, columns):
    """Add to the gradient of some rows of h what reaches it through the recurrent product."""
    size, rows = 4 * u, last - first
    states, space = g_h + size * first, dropped + size * first
    if factors:
        own = columns // count
        for q in range(count):
            _clear(space, rows * u)
            rows_product(g + 4 * own * q, g_row, space, size, space, size, rows, own, u, panels + panel * q)
            for r in range(first, last):
                _add_product(dropped + size * r, factors + size * (samples * q + r), g_h + size * r, u)
    else:
        rows_product(g, g_row, states, size, states, size, rows, columns, u, panels)


@inner
def _show(h, outputs, across, along, mask, blanks, backwards, i, r, s, t, u):
    """Write the output of a step; without `along`, in the place of the one before."""
    if outputs:
        out = outputs + across * r + along * s
        if _counts(mask, r * t + s):
            _copy(h + 4 * u * r, out, u)
        elif blanks or i == 0:
            _clear(out, u)
        elif along:
            _copy(out + along if backwards else out - along, out, u)


@inner
def _enter(g_outputs, across, along, only, waiting, mask, g_h, i, r, s, t, u):
    """Add the gradient of a step's output to that of h, where the step counts; returns whether it does.

    Gradients of outputs that repeat an earlier one wait, in (n, u), for that one.
    """
    counts = _counts(mask, r * t + s)
    h, waits = g_h + 4 * u * r, waiting + 4 * u * r
    if g_outputs and (i == t - 1 or not only):
        g = g_outputs + across * r + along * s
        if waiting:
            _add(g, waits, u)
        elif counts:
            _add(g, h, u)
    if waiting and counts:
        _add(waits, h, u)
        _clear(waits, u)
    return counts


@inner
def _begin_grad(given, state, waiting, first, rows, u):
    _begin(given, state, first, rows, u)
    if waiting:
        _clear(waiting + 4 * u * first, rows * u)


@inner
def _sum(gradient, sums, size):
    if sums:
        _add(gradient, sums, size)


@inner
def _own_sums(sums, part, size):
    """The address of a part's sums, zeros; 0 where none are wanted."""
    own = 0
    if sums:
        own = sums + 4 * size * part
        _clear(own, size)
    return own


# In what follows, each loop touches few arrays: beyond that the compiler gives up proving that they do not overlap.


@inner(fastmath=FAST)
def _tanh(z, size):
    gate = floats(z)
    for j in range(size):
        gate[j] = tanh(gate[j])


@inner(fastmath=FAST)
def _sigmoid(z, size):
    gate = floats(z)
    for j in range(size):
        gate[j] = sigmoid(gate[j])


# ---- simple recurrent layer ------------------------------------------------------------------------------------------


@part
def _simple(
    part, samples, block, time, units, backwards, panels, h, gates, features, h0=None, outputs=None, across=0, along=0,
    mask=None, blanks=0, history=None, x=None, kernel_panels=None, bias=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    _begin(h0, h, first, rows, u)
    _project_few(x, kernel_panels, bias, gates, first, rows, t, features, u)
    for i in range(t):
        s = _step(i, t, backwards)
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, u)
        z = gates + size * (first * t + s)
        _recur(h, factors, count, samples, dropped, z, t * size, panels, panel, first, last, u, u)
        for r in range(first, last):
            at = r * t + s
            state, z = h + size * r, gates + size * at
            if history:
                _copy(state, history + size * at, u)
            if _counts(mask, at):
                _tanh(z, u)
                _copy(z, state, u)
            _show(h, outputs, across, along, mask, blanks, backwards, i, r, s, t, u)


@inner(fastmath=FAST)
def _simple_row_grad(outputs, g_outputs, g_gates, u):
    y, g_h, g_z = floats(outputs), floats(g_outputs), floats(g_gates)
    for j in range(u):
        g_z[j] = g_h[j] * (_ONE - y[j] * y[j])


@part
def _simple_grad(
    part, samples, block, time, units, backwards, panels, g_h, gates, g_gates, features, only, g_h_last=None,
    g_outputs=None, across=0, along=0, mask=None, waiting=None, sums=None, g_x=None, kernel_panels=None, zeros=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total = _own_sums(sums, part, u)
    _begin_grad(g_h_last, g_h, waiting, first, rows, u)
    for i in range(t - 1, -1, -1):
        s = _step(i, t, backwards)
        for r in range(first, last):
            at = size * (r * t + s)
            g_state, g_z = g_h + size * r, g_gates + at
            if _enter(g_outputs, across, along, only, waiting, mask, g_h, i, r, s, t, u):
                _simple_row_grad(gates + at, g_state, g_z, u)
                _clear(g_state, u)
                _sum(g_z, total, u)
            else:
                _clear(g_z, u)
        g_z = g_gates + size * (first * t + s)
        _recur_grad(g_z, t * size, factors, count, samples, dropped, g_h, panels, panel, first, last, u, u)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, u)
    _project_few_grad(g_x, kernel_panels, zeros, g_gates, first, rows, t, features, u)


# ---- LSTM ------------------------------------------------------------------------------------------------------------


@inner(fastmath=FAST)
def _lstm_row(gates, cells, squashed, states, u):
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


@part
def _lstm(
    part, samples, block, time, units, backwards, panels, h, c, gates, extra, features, h0=None, c0=None, outputs=None,
    across=0, along=0, mask=None, blanks=0, history=None, cells=None, x=None, kernel_panels=None, bias=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    _begin(h0, h, first, rows, u)
    _begin(c0, c, first, rows, u)
    _project_few(x, kernel_panels, bias, gates, first, rows, t, features, 4 * u)
    for i in range(t):
        s = _step(i, t, backwards)
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, 4 * u)
        z = gates + 4 * size * (first * t + s)
        _recur(h, factors, count, samples, dropped, z, 4 * t * size, panels, panel, first, last, u, 4 * u)
        for r in range(first, last):
            at = r * t + s
            state, cell = h + size * r, c + size * r
            if history:
                _copy(state, history + size * at, u)
                _copy(cell, cells + size * at, u)
            if _counts(mask, at):
                _lstm_row(gates + 4 * size * at, cell, _place(extra, history, r, at, u), state, u)
            _show(h, outputs, across, along, mask, blanks, backwards, i, r, s, t, u)


@inner(fastmath=FAST)
def _lstm_row_grad(gates, cells, squashed, g_states, g_cells, g_gates, u):
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


@part
def _lstm_grad(
    part, samples, block, time, units, backwards, panels, g_h, g_c, gates, cells, extra, g_gates, features, only,
    g_h_last=None, g_c_last=None, g_outputs=None, across=0, along=0, mask=None, waiting=None, sums=None, g_x=None,
    kernel_panels=None, zeros=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total = _own_sums(sums, part, 4 * u)
    _begin(g_c_last, g_c, first, rows, u)
    _begin_grad(g_h_last, g_h, waiting, first, rows, u)
    for i in range(t - 1, -1, -1):
        s = _step(i, t, backwards)
        for r in range(first, last):
            at = size * (r * t + s)
            g_state, g_row = g_h + size * r, g_gates + 4 * at
            if _enter(g_outputs, across, along, only, waiting, mask, g_h, i, r, s, t, u):
                _lstm_row_grad(gates + 4 * at, cells + at, extra + at, g_state, g_c + size * r, g_row, u)
                _clear(g_state, u)
                _sum(g_row, total, 4 * u)
            else:
                _clear(g_row, 4 * u)
        g_rows = g_gates + 4 * size * (first * t + s)
        _recur_grad(g_rows, 4 * t * size, factors, count, samples, dropped, g_h, panels, panel, first, last, u, 4 * u)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 4 * u)
    _project_few_grad(g_x, kernel_panels, zeros, g_gates, first, rows, t, features, 4 * u)


# ---- GRU: its candidate has panels of its own ------------------------------------------------------------------------


@inner(fastmath=FAST)
def _gru_row(gates, products, states, u, reset_after):
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


@part
def _gru(
    part, samples, block, time, units, backwards, panels, candidate_panels, h, gates, extra, features,
    candidate_bias=None, h0=None, outputs=None, across=0, along=0, mask=None, blanks=0, history=None, x=None,
    kernel_panels=None, bias=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    """With a candidate bias, the reset gate comes after the product."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    product_row = t * size if history else size
    _begin(h0, h, first, rows, u)
    _project_few(x, kernel_panels, bias, gates, first, rows, t, features, 3 * u)
    for i in range(t):
        s = _step(i, t, backwards)
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, 3 * u)
        z = gates + 3 * size * (first * t + s)
        _recur(h, factors, min(count, 2), samples, dropped, z, 3 * t * size, panels, panel, first, last, u, 2 * u)
        entering = h
        if factors:
            _drop(h, factors + size * samples * (count - 1), dropped, first, last, u)
            entering = dropped
        product = _place(extra, history, first, first * t + s, u)
        if candidate_bias:
            states = entering + size * first
            rows_product(states, size, candidate_bias, 0, product, product_row, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = r * t + s
            state, row = h + size * r, gates + 3 * size * at
            _sigmoid(row, 2 * u)
            if history:
                _copy(state, history + size * at, u)
            if not candidate_bias:
                _multiply(row + size, entering + size * r, _place(extra, history, r, at, u), u)
        if not candidate_bias:
            candidate = z + 2 * size
            rows_product(
                product, product_row, candidate, 3 * t * size, candidate, 3 * t * size, rows, u, u, candidate_panels
            )
        for r in range(first, last):
            at = r * t + s
            if _counts(mask, at):
                place = _place(extra, history, r, at, u)
                _gru_row(gates + 3 * size * at, place, h + size * r, u, candidate_bias != 0)
            _show(h, outputs, across, along, mask, blanks, backwards, i, r, s, t, u)


@inner(fastmath=FAST)
def _gru_row_grad(gates, states, g_states, g_gates, u):
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
def _reset_grad(g_resets, factors, gates, g_gates, g_factors, u):
    """The gate r multiplied factors: from the gradient of the result to those before its activation and of factors."""
    g_reset, factor, r = floats(g_resets), floats(factors), floats(gates)
    g_r, g_factor = floats(g_gates), floats(g_factors)
    for j in range(u):
        through = g_reset[j] * r[j]
        g_r[j] = through * factor[j] * (_ONE - r[j])
        g_factor[j] = through


@part
def _gru_grad(
    part, samples, block, time, units, backwards, panels, g_h, gates, history, extra, g_gates, g_products, features,
    only, g_h_last=None, g_outputs=None, across=0, along=0, mask=None, waiting=None, sums=None, product_sums=None,
    g_x=None, kernel_panels=None, zeros=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    """The reset gate after the product: the gradient of that product differs from the gates'."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total, product_total = _own_sums(sums, part, 3 * u), _own_sums(product_sums, part, 3 * u)
    _begin_grad(g_h_last, g_h, waiting, first, rows, u)
    for i in range(t - 1, -1, -1):
        s = _step(i, t, backwards)
        for r in range(first, last):
            at = size * (r * t + s)
            row, g_row, g_product = gates + 3 * at, g_gates + 3 * at, g_products + 3 * at
            if _enter(g_outputs, across, along, only, waiting, mask, g_h, i, r, s, t, u):
                _gru_row_grad(row, history + at, g_h + size * r, g_row, u)
                g_candidate = g_row + 2 * size
                _reset_grad(g_candidate, extra + at, row + size, g_row + size, g_product + 2 * size, u)
                _copy(g_row, g_product, 2 * u)
                _sum(g_row, total, 3 * u)
                _sum(g_product, product_total, 3 * u)
            else:
                _clear(g_row, 3 * u)
                _clear(g_product, 3 * u)
        g_rows = g_products + 3 * size * (first * t + s)
        _recur_grad(g_rows, 3 * t * size, factors, count, samples, dropped, g_h, panels, panel, first, last, u, 3 * u)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 3 * u)
    _project_few_grad(g_x, kernel_panels, zeros, g_gates, first, rows, t, features, 3 * u)


@part
def _reset_first_grad(
    part, samples, block, time, units, backwards, panels, candidate_panels, g_h, g_reset, gates, history, g_gates,
    features, only, g_h_last=None, g_outputs=None, across=0, along=0, mask=None, waiting=None, sums=None, g_x=None,
    kernel_panels=None, zeros=None,
    factors=None, count=0, panel=0, dropped=None,
):  # fmt: skip
    """The reset gate before the product; `g_reset`, (n, u), takes the gradient of what it gave."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total, row = _own_sums(sums, part, 3 * u), 3 * t * size
    _begin_grad(g_h_last, g_h, waiting, first, rows, u)
    for i in range(t - 1, -1, -1):
        s = _step(i, t, backwards)
        for r in range(first, last):
            at = size * (r * t + s)
            if _enter(g_outputs, across, along, only, waiting, mask, g_h, i, r, s, t, u):
                _gru_row_grad(gates + 3 * at, history + at, g_h + size * r, g_gates + 3 * at, u)
            else:
                _clear(g_gates + 3 * at, 3 * u)
            _clear(g_reset + size * r, u)
        g_rows, g_resets = g_gates + 3 * size * (first * t + s), g_reset + size * first
        rows_product(g_rows + 2 * size, row, g_resets, size, g_resets, size, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = size * (r * t + s)
            if _counts(mask, r * t + s):
                g_row, g_factor, entered = g_gates + 3 * at, g_reset + size * r, history + at
                drop = factors + size * (samples * (count - 1) + r)
                if factors:
                    entered = dropped + size * r
                    _multiply(history + at, drop, entered, u)
                _reset_grad(g_factor, entered, gates + 3 * at + size, g_row + size, g_factor, u)
                if factors:
                    _add_product(g_factor, drop, g_h + size * r, u)
                else:
                    _add(g_factor, g_h + size * r, u)
                _sum(g_row, total, 3 * u)
        _recur_grad(g_rows, row, factors, min(count, 2), samples, dropped, g_h, panels, panel, first, last, u, 2 * u)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 3 * u)
    _project_few_grad(g_x, kernel_panels, zeros, g_gates, first, rows, t, features, 3 * u)


# ---- the loops over time, as the reference's kernels take them -------------------------------------------------------

_NEAR = 1 << 18  # numbers of a kernel, 1 MiB: they stay in the cache of a core


def _block(gates: Any) -> int:
    """Rows of a part: as few as the tile takes, more where the recurrent kernel is read from afar at each step."""
    return host.ROWS if gates.shape[2] * gates.shape[3] ** 2 <= _NEAR else 2 * host.ROWS


def _parts(gates: Any) -> int:
    return -(-len(gates) // _block(gates))


def _fills_the_tile(x: Any, kernel: Any) -> bool:
    """Whether the parts do the input product too, rather than it is done once for all of them, with more rows."""
    shared = len(x) < host.ROWS and x.size * kernel.shape[1] >= WAKES
    return kernel.size <= _NEAR and not shared and is_matrix(kernel)


def _run(part: Any, gates: Any, **arguments: Any) -> None:
    """Run a part over the gates of a sequence."""
    n, t, _, u = gates.shape
    shape = {"samples": n, "block": _block(gates), "time": t, "units": u}
    part.run(_parts(gates), gates.size * u >= WAKES, **shape, gates=gates, **arguments)


@lru_cache(maxsize=64)
def _zeros(size: int) -> np.ndarray:
    """Zeros that nobody changes."""
    zeros = np.zeros(size, np.float32)
    zeros.flags.writeable = False
    return zeros


def _shown(order: reference.Order, mask: Any) -> dict[str, Any]:
    bytes_ = None if mask is None else contiguous(mask, np.bool_)
    return {"backwards": int(order.backwards), "mask": bytes_}


def _strides(order: reference.Order, outputs: Any) -> dict[str, int]:
    """From sample to sample and from step to step."""
    return {"across": outputs.strides[0], "along": outputs.strides[1] if order.sequences else 0}


def _factors(recurrent_mask: Any, kernel: Any, gates: int, tb: bool = False) -> dict[str, Any]:
    """The recurrent kernel in panels: those of so many gates, where each has a dropout of its own, one after the other.

    Beside it, where there is dropout, its factors and how many of them there are.
    """
    if recurrent_mask is None:
        return {"panels": packed(kernel, tb)}
    factors = contiguous(recurrent_mask, np.float32)
    count, (n, u) = (len(factors) if factors.ndim == 3 else 1), factors.shape[-2:]
    shares = gates if count > 1 else 1
    own = kernel.shape[1] // shares
    panel = panel_bytes(u, own) if tb else panel_bytes(own, u)
    panels = empty((shares, panel // 4), factors.dtype)
    for q, place in enumerate(panels):
        packed(kernel[:, q * own : (q + 1) * own], tb, place)
    space = empty((n, u), factors.dtype)
    return {"panels": panels, "panel": panel, "factors": factors, "count": count, "dropped": space}


@part
def _gru_biases(part, units, both, out: Floats):
    """What is added to the input product: only the candidate's recurrent bias has to wait for the reset gate."""
    first, second = floats(both), floats(both + 12 * units)
    for j in range(2 * units):
        out[j] = first[j] + second[j]
    for j in range(2 * units, 3 * units):
        out[j] = first[j]


def _forward(
    part: Any, k: Kernels, x: Any, kernel: Any, bias: Any, *, recurrent_kernel: Any, mask: Any, order: reference.Order,
    histories: Any, gates: Any, input_mask: Any = None, recurrent_mask: Any = None, squashed: Any = None,
    inner: Any = None, reset_after: Any = None, **arguments: Any,
) -> Any:  # fmt: skip
    """All steps of a cell; `squashed` or `inner` is its `extra`."""
    n, t, count, u = gates.shape
    arguments |= dict(zip(("history", "cells"), histories, strict=False))
    if reset_after is None:
        arguments |= {} if squashed is None else {"extra": squashed}
    else:
        arguments |= {"extra": inner, "candidate_panels": packed(recurrent_kernel[:, 2 * u :])}
        recurrent_kernel = recurrent_kernel[:, : 2 * u]
    if reset_after:
        arguments["candidate_bias"] = _zeros(u) if bias is None else bias[1, 2 * u :]
        if bias is not None:
            both, bias = bias, empty((3 * u,), bias.dtype)
            _gru_biases.run(1, units=u, both=both, out=bias)
    if input_mask is not None:
        reference.project_by_gate(k, x, kernel, bias, input_mask, gates.reshape(n * t, count * u))
    elif _fills_the_tile(x, kernel):
        arguments |= {"x": x, "bias": _zeros(count * u) if bias is None else bias, "kernel_panels": packed(kernel)}
    else:
        k.dense(x.reshape(n * t, x.shape[2]), kernel, bias, out=gates.reshape(n * t, count * u))
    outputs = arguments["h"]
    if order.sequences or mask is not None:
        outputs = empty((n, t, u) if order.sequences else (n, u), gates.dtype)
        arguments |= {"outputs": outputs, "blanks": int(order.zeros), **_strides(order, outputs)}
    for name in ("h0", "c0"):
        if arguments.get(name) is not None:
            arguments[name] = contiguous(arguments[name], gates.dtype)
    arguments |= _factors(recurrent_mask, recurrent_kernel, recurrent_kernel.shape[1] // u)
    _run(part, gates, features=x.shape[2], **_shown(order, mask), **arguments)
    return outputs


@part
def _add_up(part, rows, columns, x: Floats, out: Floats):
    add_up_rows(x, rows, columns, columns, out)


def _backward(
    part: Any, r: Any, gates: Any, g_outputs: Any, g_last: Any, g_states: Any, products: Any, needs_x: bool,
    biases: Any, **arguments: Any,
) -> Any:  # fmt: skip
    """All steps of a cell backward; see `Loop`."""
    n, t, count, u = gates.shape
    d, parts, order = r.x.shape[2], _parts(gates), r.order
    arguments |= dict(zip(("g_h", "g_c"), g_states, strict=False))
    arguments |= dict(zip(("g_gates", "g_products"), products, strict=False))
    for name, given in zip(("g_h_last", "g_c_last"), g_last, strict=False):
        arguments[name] = None if given is None else contiguous(given, gates.dtype)
    sums = [one.reshape(1, count * u) if parts == 1 else empty((parts, count * u), gates.dtype) for one in biases]
    arguments |= dict(zip(("sums", "product_sums"), sums, strict=False))
    if g_outputs is not None:
        if g_outputs.dtype != gates.dtype or g_outputs.strides[-1] != 4:
            g_outputs = contiguous(g_outputs, gates.dtype)
        arguments |= {"g_outputs": g_outputs, **_strides(order, g_outputs)}
        if r.mask is not None and not order.zeros:
            arguments["waiting"] = empty((n, u), gates.dtype)
    g_x = None
    if needs_x and r.input_mask is None and _fills_the_tile(r.x, r.kernel):
        g_x = empty((n, t, d), gates.dtype)
        arguments |= {"g_x": g_x, "zeros": _zeros(d), "kernel_panels": packed(r.kernel, tb=True)}
    _run(part, gates, features=d, only=int(not order.sequences), **_shown(order, r.mask), **arguments)
    for several, bias in zip(sums if parts > 1 else (), biases, strict=False):
        _add_up.run(1, rows=parts, columns=count * u, x=several, out=bias)
    return g_x


def _simple_loop_grad(r: Any, *call: Any) -> Any:
    return _backward(_simple_grad, r, r.saved[1], *call, **_factors(r.recurrent_mask, r.recurrent_kernel, 1, tb=True))


def _lstm_loop_grad(r: Any, *call: Any) -> Any:
    _, cells, gates, squashed = r.saved
    arrays = _factors(r.recurrent_mask, r.recurrent_kernel, 4, tb=True)
    return _backward(_lstm_grad, r, gates, *call, cells=cells, extra=squashed, **arrays)


def _gru_loop_grad(r: Any, *call: Any) -> Any:
    (history, gates, inner), kernel = r.saved, r.recurrent_kernel
    if r.reset_after:
        arrays = _factors(r.recurrent_mask, kernel, 3, tb=True)
        return _backward(_gru_grad, r, gates, *call, history=history, extra=inner, **arrays)
    n, _, u = history.shape
    arrays = _factors(r.recurrent_mask, kernel[:, : 2 * u], 2, tb=True)
    arrays |= {"candidate_panels": packed(kernel[:, 2 * u :], tb=True), "g_reset": empty((n, u), gates.dtype)}
    return _backward(_reset_first_grad, r, gates, *call, history=history, **arrays)


# ---- the arithmetic of one step, for loops over time that are not compiled -------------------------------------------


@inner
def _row_at(r, places, time, step):
    """The number of a row, of all steps, from that among the rows of a step."""
    return (r // places * time + step) * places + r % places


@part
def _rows_moved(part, parts, rows, columns, target, target_row, adds, source=None, source_row=0):
    """Copy or add the rows of a matrix, whose addresses lie so many bytes apart; without a source they become zeros."""
    first, last = share(part, parts, rows)
    for r in range(first, last):
        here = target + r * target_row
        if adds:
            _add(source + r * source_row, here, columns)
        elif source:
            _copy(source + r * source_row, here, columns)
        else:
            _clear(here, columns)


def _move(source: Any, target: Any, adds: bool) -> None:
    rows, columns = target.shape
    given = {} if source is None else {"source": source, "source_row": source.strides[0]}
    shape = {"rows": rows, "columns": columns, "target_row": target.strides[0]}
    _rows_moved.run(min(parts_for(target.size), rows), adds=int(adds), target=target, **shape, **given)


def _of_rows(source: Any, target: Any) -> bool:
    """Whether both are matrices of float32 numbers, of one shape, with contiguous rows."""
    return is_matrix(target) and (source is None or (source.shape == target.shape and is_matrix(source)))


@override(reference.copy_rows, "cpu", when=_of_rows)
def copy_rows(k: Kernels, source: Any, target: Any) -> None:
    _move(source, target, False)


@part
def _steps_dropped(part, parts, samples, time, size, x, factors, out):
    first, last = share(part, parts, samples * time)
    for row in range(first, last):
        at = 4 * size * row
        _multiply(x + at, factors + 4 * size * (row // time), out + at, size)


@override(reference.drop_steps, "cpu", when=contiguous_float32("x", "factors"))
def drop_steps(k: Kernels, x: Any, factors: Any) -> Any:
    (n, t, d), out = x.shape, empty(x.shape, x.dtype)
    _steps_dropped.run(min(parts_for(x.size), n * t), samples=n, time=t, size=d, x=x, factors=factors, out=out)
    return out


def _for_all_steps(x: Any, mask: Any, scale: float, out: Any) -> bool:
    shape = (*x.shape[:1], 1, *x.shape[2:])
    return x.ndim == 3 and mask.shape == shape and mask.dtype.char == "f" and scale == 1.0 and out is None


@override("masked_scale", "cpu", when=_for_all_steps)
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    """Of all time steps alike."""
    return k.drop_steps(x, mask[:, 0])


@part
def _dropout_factors(part, parts, size, mask: Octets, out: Floats, factor: np.float32):
    first, last = share(part, parts, size)
    for i in range(first, last):
        out[i] = factor if mask[i] else _ZERO


def _of_bytes(mask: Any, dtype: Any) -> bool:
    return dtype.char == "f" and mask.dtype.itemsize == 1 and mask.size > 0 and mask.flags.c_contiguous


@override(reference.dropout_factors, "cpu", when=_of_bytes)
def dropout_factors(k: Kernels, mask: Any, factor: float, dtype: Any) -> Any:
    out = empty(mask.shape, dtype)
    _dropout_factors.run(parts_for(mask.size), size=mask.size, mask=mask, out=out, factor=float(factor))
    return out


@override(reference.add_rows, "cpu", when=_of_rows)
def add_rows(k: Kernels, source: Any, target: Any) -> None:
    _move(source, target, True)


@part
def _lstm_cell(part, samples, block, time, units, step, places, gates, product, h, c, extra, keeps):
    """A sample's row at a step is one for each of so many places."""
    first, last = _rows_of(part, block, samples * places)
    u, size = units, 4 * units
    for r in range(first, last):
        at = _row_at(r, places, time, step)
        row, place = gates + 4 * size * at, extra + size * (at if keeps else r)
        _add(product + 4 * size * r, row, 4 * u)
        _lstm_row(row, c + size * r, place, h + size * r, u)


@part
def _lstm_cell_grad(part, samples, block, time, units, step, places, gates, cells, extra, g_h, g_c, g_gates):
    first, last = _rows_of(part, block, samples * places)
    size = 4 * units
    for r in range(first, last):
        at, state = size * _row_at(r, places, time, step), size * r
        g_row = g_gates + 4 * at
        _lstm_row_grad(gates + 4 * at, cells + at, extra + at, g_h + state, g_c + state, g_row, units)


@part
def _gru_cell(part, samples, block, time, units, step, gates, product, candidate_bias, h, extra, keeps):
    first, last = _rows_of(part, block, samples)
    u, size = units, 4 * units
    for r in range(first, last):
        at = r * time + step
        row, inside, added = gates + 3 * size * at, _place(extra, keeps, r, at, u), product + 3 * size * r
        _add(added, row, 2 * u)
        _sigmoid(row, 2 * u)
        _copy(candidate_bias, inside, u)
        _add(added + 2 * size, inside, u)
        _gru_row(row, inside, h + size * r, u, True)


@part
def _gru_cell_grad(part, samples, block, time, units, step, gates, extra, history, g_h, g_gates, g_products):
    first, last = _rows_of(part, block, samples)
    u, size = units, 4 * units
    for r in range(first, last):
        at = size * (r * time + step)
        row, g_row, g_product = gates + 3 * at, g_gates + 3 * at, g_products + 3 * at
        _gru_row_grad(row, history + at, g_h + size * r, g_row, u)
        _reset_grad(g_row + 2 * size, extra + at, row + size, g_row + size, g_product + 2 * size, u)
        _copy(g_row, g_product, 2 * u)


def _one_step(part: Any, *names: str, keeps: bool = False, places: bool = False) -> Callable[..., None]:
    """The function of a step's number, the gates and arrays of these names.

    `keeps`: the part is told what is kept, `places`: how many places a sample has.
    """

    def step(s: int, gates: Any, *arrays: Any) -> None:
        arguments = dict(zip(names, arrays, strict=True))
        if keeps:  # `extra` has a place for every step
            arguments["keeps"] = arguments["extra"].shape[1] == gates.shape[1]
        n, t, *several, _, u = gates.shape
        if places:
            arguments["places"] = several[0] if several else 1
        rows = n * arguments.get("places", 1)
        block = -(-rows // max(min(parts_for(gates.size // max(t, 1)), rows), 1))
        shape = {"samples": n, "block": block, "time": t, "units": u}
        part.run(-(-rows // max(block, 1)), gates.size // max(t, 1) >= _WIDE, **shape, step=s, gates=gates, **arguments)

    return step


_WIDE = 1 << 17  # numbers of a step for which a helper is waked
LOOPS = {
    "simple_rnn": (partial(_forward, _simple), _simple_loop_grad),
    "lstm": (partial(_forward, _lstm), _lstm_loop_grad),
    "gru": (partial(_forward, _gru), _gru_loop_grad),
}
CELLS = {
    "lstm": (
        _one_step(_lstm_cell, "product", "c", "h", "extra", keeps=True, places=True),
        _one_step(_lstm_cell_grad, "cells", "extra", "g_h", "g_c", "g_gates", places=True),
    ),
    "gru": (
        _one_step(_gru_cell, "product", "candidate_bias", "h", "extra", keeps=True),
        _one_step(_gru_cell_grad, "extra", "history", "g_h", "g_gates", "g_products"),
    ),
}


# ---- overrides -------------------------------------------------------------------------------------------------------


def _chosen(
    kind: str, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """The options, with what is compiled for them."""
    usual = options.get("activation", "tanh") == "tanh" and options.get("recurrent_activation", "sigmoid") == "sigmoid"
    arrays = (x, kernel, recurrent_kernel, *(() if bias is None else (bias,)))
    if bias is not None and not bias.flags.c_contiguous:
        return options
    if not usual or any(array.dtype.char != "f" for array in arrays):
        return options
    if host.HAS_VECTORS and x.size and is_matrix(recurrent_kernel):
        return {**options, "loop": LOOPS[kind]}
    if kind != "simple_rnn" and options.get("reset_after", True):
        return {**options, "cell": CELLS[kind]}
    return options


@override(reference.simple_rnn, "cpu")
def simple_rnn(
    k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = contiguous(x)
    options = _chosen("simple_rnn", x, kernel, recurrent_kernel, bias, options)
    return reference.simple_rnn(k, x, h0, kernel, recurrent_kernel, bias, **options)


@override(reference.lstm, "cpu")
def lstm(
    k: Kernels, x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = contiguous(x)
    options = _chosen("lstm", x, kernel, recurrent_kernel, bias, options)
    return reference.lstm(k, x, h0, c0, kernel, recurrent_kernel, bias, **options)


@override(reference.gru, "cpu")
def gru(k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    x = contiguous(x)
    options = _chosen("gru", x, kernel, recurrent_kernel, bias, options)
    return reference.gru(k, x, h0, kernel, recurrent_kernel, bias, **options)


@override(reference.conv_lstm, "cpu")
def conv_lstm(
    k: Kernels, x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = contiguous(x)
    usual = options.get("activation", "tanh") == "tanh" and options.get("recurrent_activation", "sigmoid") == "sigmoid"
    if usual and x.size and all(array.dtype.char == "f" for array in (x, kernel, recurrent_kernel)):
        options["cell"] = CELLS["lstm"]
    return reference.conv_lstm(k, x, h0, c0, kernel, recurrent_kernel, bias, **options)
