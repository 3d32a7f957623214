"""Recurrent layers on the CPU: compiled loops over time that the team shares, or a compiled pass for each step.

For float32 with tanh and sigmoid, the usual activations.  Recurrent dropout and hosts without the tile have the pass;
other activations, and float64, whose exact tanh NumPy vectorises and Numba does not, are left to the reference.

The rows of a batch do not meet before the gradients of the weights, so a core takes its rows from the first time step
to the last without waiting for another, while the recurrent kernel, packed for the tile, stays in its cache.  A step is
the recurrent product of these rows and then, row by row, the arithmetic of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import FAST, floats, host, inner, octets, part, sigmoid, tanh
from minikeras.kernels.cpu.tile.products import WAKES, is_matrix, packed, rows_product
from minikeras.kernels.reference import recurrent as reference
from minikeras.kernels.table import Kernels, override

_ZERO, _ONE = np.float32(0), np.float32(1)

# What parts have in common: `samples`, of which a part has `block`; `time` steps; `units`; the recurrent kernel in
# `panels`; (n, u) states `h` and `c`, or their gradients; (n, t, u) `outputs`, or their gradients, and `mask`, (n, t)
# bytes; (n, t, gates, u) `gates` and their gradients; what is kept of every step, (n, t, u): `history` and `cells`,
# where there are any, and `extra`, which is (n, 1, u) where nothing is kept; `sums` of each part; (n, t, features) `x`,
# or its gradient, `kernel_panels` and `bias`: without x the input product is not done.


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
def _project(x, panels, bias, gates, first, rows, s, t, d, columns):
    """The input product of a step, and the bias."""
    if x:
        at = first * t + s
        rows_product(
            x + 4 * d * at, 4 * d * t, bias, 0, gates + 4 * columns * at, 4 * columns * t, rows, d, columns, panels
        )


@inner
def _project_grad(g_x, panels, zeros, g_gates, first, rows, s, t, d, columns):
    """The gradient of x at a step."""
    if g_x:
        at = first * t + s
        x, gates = g_x + 4 * d * at, g_gates + 4 * columns * at
        rows_product(gates, 4 * columns * t, zeros, 0, x, 4 * d * t, rows, columns, d, panels)


@inner
def _show(h, outputs, mask, r, s, t, u):
    """Write the output of a step."""
    size = 4 * u
    at = r * t + s
    out = outputs + size * at
    if _counts(mask, at):
        _copy(h + size * r, out, u)
    elif s:
        _copy(out - size, out, u)
    else:
        _clear(out, u)


@inner
def _enter(g_outputs, waiting, mask, g_h, r, s, t, u):
    """Add the gradient of a step's output to that of h, where the step counts; returns whether it does.

    Gradients of outputs that repeat an earlier one wait, in (n, u), for that one.
    """
    at = r * t + s
    counts = _counts(mask, at)
    h = g_h + 4 * u * r
    if g_outputs:
        g = g_outputs + 4 * u * at
        if mask:
            waits = waiting + 4 * u * r
            _add(g, waits, u)
            if counts:
                _add(waits, h, u)
                _clear(waits, u)
        else:
            _add(g, h, u)
    return counts


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
    part, samples, block, time, units, panels, h, outputs, gates, features, mask=None, history=None, x=None,
    kernel_panels=None, bias=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    for s in range(t):
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, u)
        states, z = h + size * first, gates + size * (first * t + s)
        rows_product(states, size, z, t * size, z, t * size, rows, u, u, panels)
        for r in range(first, last):
            at = r * t + s
            state, z = h + size * r, gates + size * at
            if history:
                _copy(state, history + size * at, u)
            if _counts(mask, at):
                _tanh(z, u)
                _copy(z, state, u)
            _show(h, outputs, mask, r, s, t, u)


@inner(fastmath=FAST)
def _simple_row_grad(outputs, g_outputs, g_gates, u):
    y, g_h, g_z = floats(outputs), floats(g_outputs), floats(g_gates)
    for j in range(u):
        g_z[j] = g_h[j] * (_ONE - y[j] * y[j])


@part
def _simple_grad(
    part, samples, block, time, units, panels, g_h, gates, g_gates, sums, features, g_outputs=None, mask=None,
    waiting=None, g_x=None, kernel_panels=None, zeros=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    _clear(sums + size * part, u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            g_state, g_z = g_h + size * r, g_gates + at
            if _enter(g_outputs, waiting, mask, g_h, r, s, t, u):
                _simple_row_grad(gates + at, g_state, g_z, u)
                _clear(g_state, u)
                _add(g_z, sums + size * part, u)
            else:
                _clear(g_z, u)
        g_states, g_z = g_h + size * first, g_gates + size * (first * t + s)
        rows_product(g_z, t * size, g_states, size, g_states, size, rows, u, u, panels)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, u)


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
    part, samples, block, time, units, panels, h, c, outputs, gates, extra, features, mask=None, history=None,
    cells=None, x=None, kernel_panels=None, bias=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    for s in range(t):
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, 4 * u)
        states, z = h + size * first, gates + 4 * size * (first * t + s)
        rows_product(states, size, z, 4 * t * size, z, 4 * t * size, rows, u, 4 * u, panels)
        for r in range(first, last):
            at = r * t + s
            state, cell = h + size * r, c + size * r
            if history:
                _copy(state, history + size * at, u)
                _copy(cell, cells + size * at, u)
            if _counts(mask, at):
                _lstm_row(gates + 4 * size * at, cell, _place(extra, history, r, at, u), state, u)
            _show(h, outputs, mask, r, s, t, u)


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
    part, samples, block, time, units, panels, g_h, g_c, gates, cells, extra, g_gates, sums, features, g_outputs=None,
    mask=None, waiting=None, g_x=None, kernel_panels=None, zeros=None,
):  # fmt: skip
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total = sums + 4 * size * part
    _clear(total, 4 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            g_state, g_row = g_h + size * r, g_gates + 4 * at
            if _enter(g_outputs, waiting, mask, g_h, r, s, t, u):
                _lstm_row_grad(gates + 4 * at, cells + at, extra + at, g_state, g_c + size * r, g_row, u)
                _clear(g_state, u)
                _add(g_row, total, 4 * u)
            else:
                _clear(g_row, 4 * u)
        g_states, g_rows = g_h + size * first, g_gates + 4 * size * (first * t + s)
        rows_product(g_rows, 4 * t * size, g_states, size, g_states, size, rows, 4 * u, u, panels)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 4 * u)


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


@inner(fastmath=FAST)
def _multiply(first, second, result, u):
    x, y, out = floats(first), floats(second), floats(result)
    for j in range(u):
        out[j] = x[j] * y[j]


@part
def _gru(
    part, samples, block, time, units, panels, candidate_panels, h, outputs, gates, extra, features,
    candidate_bias=None, mask=None, history=None, x=None, kernel_panels=None, bias=None,
):  # fmt: skip
    """With a candidate bias, the reset gate comes after the product."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    product_row = t * size if history else size
    for s in range(t):
        _project(x, kernel_panels, bias, gates, first, rows, s, t, features, 3 * u)
        states, z = h + size * first, gates + 3 * size * (first * t + s)
        rows_product(states, size, z, 3 * t * size, z, 3 * t * size, rows, u, 2 * u, panels)
        product = _place(extra, history, first, first * t + s, u)
        if candidate_bias:
            rows_product(states, size, candidate_bias, 0, product, product_row, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = r * t + s
            state, row = h + size * r, gates + 3 * size * at
            _sigmoid(row, 2 * u)
            if history:
                _copy(state, history + size * at, u)
            if not candidate_bias:
                _multiply(row + size, state, _place(extra, history, r, at, u), u)
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
            _show(h, outputs, mask, r, s, t, u)


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
    part, samples, block, time, units, panels, g_h, gates, history, extra, g_gates, g_products, sums, product_sums,
    features, g_outputs=None, mask=None, waiting=None, g_x=None, kernel_panels=None, zeros=None,
):  # fmt: skip
    """The reset gate after the product: the gradient of that product differs from the gates'."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total, product_total = sums + 3 * size * part, product_sums + 3 * size * part
    _clear(total, 3 * u)
    _clear(product_total, 3 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            row, g_row, g_product = gates + 3 * at, g_gates + 3 * at, g_products + 3 * at
            if _enter(g_outputs, waiting, mask, g_h, r, s, t, u):
                _gru_row_grad(row, history + at, g_h + size * r, g_row, u)
                g_candidate = g_row + 2 * size
                _reset_grad(g_candidate, extra + at, row + size, g_row + size, g_product + 2 * size, u)
                _copy(g_row, g_product, 2 * u)
                _add(g_row, total, 3 * u)
                _add(g_product, product_total, 3 * u)
            else:
                _clear(g_row, 3 * u)
                _clear(g_product, 3 * u)
        g_states, g_rows = g_h + size * first, g_products + 3 * size * (first * t + s)
        rows_product(g_rows, 3 * t * size, g_states, size, g_states, size, rows, 3 * u, u, panels)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 3 * u)


@part
def _reset_first_grad(
    part, samples, block, time, units, panels, candidate_panels, g_h, g_reset, gates, history, g_gates, sums, features,
    g_outputs=None, mask=None, waiting=None, g_x=None, kernel_panels=None, zeros=None,
):  # fmt: skip
    """The reset gate before the product; `g_reset`, (n, u), takes the gradient of what it gave."""
    first, last = _rows_of(part, block, samples)
    t, u, rows = time, units, last - first
    size = 4 * u
    total, row = sums + 3 * size * part, 3 * t * size
    _clear(total, 3 * u)
    for s in range(t - 1, -1, -1):
        for r in range(first, last):
            at = size * (r * t + s)
            if _enter(g_outputs, waiting, mask, g_h, r, s, t, u):
                _gru_row_grad(gates + 3 * at, history + at, g_h + size * r, g_gates + 3 * at, u)
            else:
                _clear(g_gates + 3 * at, 3 * u)
            _clear(g_reset + size * r, u)
        g_rows, g_resets = g_gates + 3 * size * (first * t + s), g_reset + size * first
        rows_product(g_rows + 2 * size, row, g_resets, size, g_resets, size, rows, u, u, candidate_panels)
        for r in range(first, last):
            at = size * (r * t + s)
            if _counts(mask, r * t + s):
                g_row, g_factor = g_gates + 3 * at, g_reset + size * r
                _reset_grad(g_factor, history + at, gates + 3 * at + size, g_row + size, g_factor, u)
                _add(g_factor, g_h + size * r, u)
                _add(g_row, total, 3 * u)
        g_states = g_h + size * first
        rows_product(g_rows, row, g_states, size, g_states, size, rows, 2 * u, u, panels)
        _project_grad(g_x, kernel_panels, zeros, g_gates, first, rows, s, t, features, 3 * u)


# ---- the loops over time, as the reference's kernels take them -------------------------------------------------------

_NEAR = 1 << 18  # numbers of a kernel, 1 MiB: they stay in the cache of a core


def _block(gates: Any) -> int:
    """Rows of a part: as few as the tile takes, more where the recurrent kernel is read from afar at each step."""
    return host.ROWS if gates.shape[2] * gates.shape[3] ** 2 <= _NEAR else 2 * host.ROWS


def _parts(gates: Any) -> int:
    return -(-len(gates) // _block(gates))


def _fills_the_tile(x: Any, kernel: Any) -> bool:
    """Whether the input product is done step by step too, rather than once for all of them, with more rows."""
    return len(x) >= host.ROWS and kernel.size <= _NEAR and is_matrix(kernel)


def _run(part: Any, gates: Any, **arguments: Any) -> None:
    """Run a part over the gates of a sequence."""
    n, t, _, u = gates.shape
    shape = {"samples": n, "block": _block(gates), "time": t, "units": u}
    part.run(_parts(gates), gates.size * u >= WAKES, **shape, gates=gates, **arguments)


def _bytes(mask: Any) -> Any:
    return None if mask is None else np.ascontiguousarray(mask, np.bool_)


def _forward(
    part: Any, k: Kernels, x: Any, kernel: Any, bias: Any, *, recurrent_kernel: Any, mask: Any, histories: Any,
    gates: Any, squashed: Any = None, inner: Any = None, **arguments: Any,
) -> Any:  # fmt: skip
    """All steps of a cell; `squashed` or `inner` is its `extra`."""
    n, t, count, u = gates.shape
    outputs = empty((n, t, u), gates.dtype)
    arguments |= dict(zip(("history", "cells"), histories, strict=False))
    if squashed is not None or inner is not None:
        arguments["extra"] = inner if squashed is None else squashed
    if "candidate_bias" in arguments:
        arguments["candidate_panels"] = packed(recurrent_kernel[:, 2 * u :])
        recurrent_kernel = recurrent_kernel[:, : 2 * u]
    if _fills_the_tile(x, kernel):
        bias = np.zeros(count * u, gates.dtype) if bias is None else np.ascontiguousarray(bias)
        arguments |= {"x": np.ascontiguousarray(x), "bias": bias, "kernel_panels": packed(kernel)}
    else:
        k.dense(x.reshape(n * t, x.shape[2]), kernel, bias, out=gates.reshape(n * t, count * u))
    shape = {"outputs": outputs, "mask": _bytes(mask), "features": x.shape[2]}
    _run(part, gates, panels=packed(recurrent_kernel), **shape, **arguments)
    return outputs


def _backward(
    part: Any, g_outputs: Any, r: Any, needs_x: bool, gates: Any, products: Any, **arguments: Any
) -> tuple[list[Any], Any]:
    n, t, count, u = gates.shape
    d = r.x.shape[2]
    summands = [empty((_parts(gates), 1, count, u), gates.dtype) for _ in products]
    arguments |= dict(zip(("g_gates", "g_products"), products, strict=False))
    arguments |= dict(zip(("sums", "product_sums"), summands, strict=False))
    if g_outputs is not None:
        arguments["g_outputs"] = np.ascontiguousarray(g_outputs)
        arguments["waiting"] = None if r.mask is None else np.zeros((n, u), gates.dtype)
    g_x = None
    if needs_x and _fills_the_tile(r.x, r.kernel):
        g_x = empty((n, t, d), gates.dtype)
        arguments |= {"g_x": g_x, "zeros": np.zeros(d, gates.dtype), "kernel_panels": packed(r.kernel, tb=True)}
    _run(part, gates, mask=_bytes(r.mask), features=d, **arguments)
    return summands, g_x


def _simple_loop_grad(g_outputs: Any, g_h: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    panels = packed(r.recurrent_kernel, tb=True)
    return _backward(_simple_grad, g_outputs, r, needs_x, r.saved[1], products, g_h=g_h, panels=panels)


def _lstm_loop_grad(g_outputs: Any, g_h: Any, g_c: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    _, cells, gates, squashed = r.saved
    arrays = {"g_h": g_h, "g_c": g_c, "cells": cells, "extra": squashed, "panels": packed(r.recurrent_kernel, tb=True)}
    return _backward(_lstm_grad, g_outputs, r, needs_x, gates, products, **arrays)


def _gru_loop_grad(g_outputs: Any, g_h: Any, r: Any, needs_x: bool, *products: Any) -> tuple[list[Any], Any]:
    history, gates, inner = r.saved
    arrays, kernel = {"g_h": g_h, "history": history}, r.recurrent_kernel
    if r.reset_after:
        arrays |= {"extra": inner, "panels": packed(kernel, tb=True)}
        return _backward(_gru_grad, g_outputs, r, needs_x, gates, products, **arrays)
    u = history.shape[2]
    panels, candidate_panels = packed(kernel[:, : 2 * u], tb=True), packed(kernel[:, 2 * u :], tb=True)
    arrays |= {"g_reset": empty(g_h.shape, g_h.dtype), "panels": panels, "candidate_panels": candidate_panels}
    return _backward(_reset_first_grad, g_outputs, r, needs_x, gates, products, **arrays)


# ---- the arithmetic of one step, for loops over time that are not compiled -------------------------------------------


@part
def _lstm_cell(part, samples, block, time, units, step, gates, product, h, c, extra, keeps):
    first, last = _rows_of(part, block, samples)
    u, size = units, 4 * units
    for r in range(first, last):
        at = r * time + step
        row = gates + 4 * size * at
        _add(product + 4 * size * r, row, 4 * u)
        _lstm_row(row, c + size * r, _place(extra, keeps, r, at, u), h + size * r, u)


@part
def _lstm_cell_grad(part, samples, block, time, units, step, gates, cells, extra, g_h, g_c, g_gates):
    first, last = _rows_of(part, block, samples)
    size = 4 * units
    for r in range(first, last):
        at, state = size * (r * time + step), size * r
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


def _step(part: Any, *names: str, keeps: bool = False) -> Callable[..., None]:
    """The function of a step's number, the gates and arrays of these names; `keeps`: the part is told what is kept."""

    def step(s: int, gates: Any, *arrays: Any) -> None:
        arguments = dict(zip(names, arrays, strict=True))
        if keeps:  # `extra` has a place for every step
            arguments["keeps"] = arguments["extra"].shape[1] == gates.shape[1]
        _run(part, gates, step=s, **arguments)

    return step


LOOPS = {
    "simple_rnn": (partial(_forward, _simple), _simple_loop_grad),
    "lstm": (partial(_forward, _lstm), _lstm_loop_grad),
    "gru": (partial(_forward, _gru), _gru_loop_grad),
}
CELLS = {
    "lstm": (
        _step(_lstm_cell, "product", "c", "h", "extra", keeps=True),
        _step(_lstm_cell_grad, "cells", "extra", "g_h", "g_c", "g_gates"),
    ),
    "gru": (
        _step(_gru_cell, "product", "candidate_bias", "h", "extra", keeps=True),
        _step(_gru_cell_grad, "extra", "history", "g_h", "g_gates", "g_products"),
    ),
}


# ---- overrides -------------------------------------------------------------------------------------------------------


def _chosen(
    kind: str, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """The options, with what is compiled for them."""
    usual = options.get("activation", "tanh") == "tanh" and options.get("recurrent_activation", "sigmoid") == "sigmoid"
    arrays = (x, kernel, recurrent_kernel, *(() if bias is None else (bias,)))
    if not usual or any(array.dtype.char != "f" for array in arrays):
        return options
    dropped = options.get("input_mask") is not None or options.get("recurrent_mask") is not None
    if host.HAS_VECTORS and not dropped and x.size and is_matrix(recurrent_kernel):
        return {**options, "loop": LOOPS[kind]}
    if kind != "simple_rnn" and options.get("reset_after", True):
        return {**options, "cell": CELLS[kind]}
    return options


@override(reference.simple_rnn, "cpu")
def simple_rnn(
    k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("simple_rnn", x, kernel, recurrent_kernel, bias, options)
    return reference.simple_rnn(k, x, h0, kernel, recurrent_kernel, bias, **options)


@override(reference.lstm, "cpu")
def lstm(
    k: Kernels, x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("lstm", x, kernel, recurrent_kernel, bias, options)
    return reference.lstm(k, x, h0, c0, kernel, recurrent_kernel, bias, **options)


@override(reference.gru, "cpu")
def gru(k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("gru", x, kernel, recurrent_kernel, bias, options)
    return reference.gru(k, x, h0, kernel, recurrent_kernel, bias, **options)
