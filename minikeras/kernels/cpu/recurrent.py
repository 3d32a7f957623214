"""Recurrent layers on the CPU: the arithmetic of an LSTM or GRU step in one compiled pass.

For float32 with the usual activations (tanh and sigmoid).  Other activations, and float64, whose exact tanh NumPy
vectorises and Numba does not, are left to the reference.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import lazy_njit
from minikeras.kernels.reference import recurrent as reference

# tanh(x) = x * P(x²) / Q(x²) on [-9.02, 9.02], where tanh reaches 1 in float32.  Least squares on the relative error,
# reweighted until its peaks are level (Lawson 1961): 2.1e-8, so that rounding, 3e-7, is what remains.
_LIMIT = np.float32(9.02)
_P0, _P1, _P2, _P3, _P4 = map(
    np.float32, (1.0, 0.13379713892936707, 0.003494029864668846, 2.058340578514617e-05, 1.331897081513489e-08)
)
_Q0, _Q1, _Q2, _Q3, _Q4 = map(
    np.float32, (1.0, 0.46713030338287354, 0.02587105520069599, 0.00032830852433107793, 7.761977371956164e-07)
)
_ONE, _HALF = np.float32(1), np.float32(0.5)


def tanh(x):  # type: ignore[no-untyped-def]
    """tanh of one float32, free of branches, so that a loop over it vectorises."""
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    y = x * x
    p = x * (_P0 + y * (_P1 + y * (_P2 + y * (_P3 + y * _P4))))
    q = _Q0 + y * (_Q1 + y * (_Q2 + y * (_Q3 + y * _Q4)))
    return p / q


# Each loop below touches few arrays: beyond that the compiler gives up proving that they do not overlap.


@lazy_njit
def _lstm_cell(s, gates, product, c, h, squashed):  # type: ignore[no-untyped-def]
    n, _, _, u = gates.shape
    slot = s % squashed.shape[1]
    for k in range(n):
        for q in range(4):
            gate, added = gates[k, s, q], product[k, q * u : (q + 1) * u]
            if q == 2:
                for j in range(u):
                    gate[j] = tanh(gate[j] + added[j])
            else:
                for j in range(u):
                    gate[j] = _HALF + _HALF * tanh(_HALF * (gate[j] + added[j]))
        i, f, g, o = gates[k, s, 0], gates[k, s, 1], gates[k, s, 2], gates[k, s, 3]
        carry, state, y = c[k], h[k], squashed[k, slot]
        for j in range(u):
            carry[j] = f[j] * carry[j] + i[j] * g[j]
        for j in range(u):
            y[j] = tanh(carry[j])
        for j in range(u):
            state[j] = o[j] * y[j]


@lazy_njit
def _lstm_cell_grad(s, gates, cells, squashed, g_h, g_c, g_gates):  # type: ignore[no-untyped-def]
    n, _, _, u = gates.shape
    for k in range(n):
        i, f, g, o = gates[k, s, 0], gates[k, s, 1], gates[k, s, 2], gates[k, s, 3]
        g_i, g_f, g_g, g_o = g_gates[k, s, 0], g_gates[k, s, 1], g_gates[k, s, 2], g_gates[k, s, 3]
        before, y, g_state, g_carry = cells[k, s], squashed[k, s], g_h[k], g_c[k]
        for j in range(u):
            g_carry[j] += g_state[j] * o[j] * (_ONE - y[j] * y[j])
        for j in range(u):
            g_o[j] = g_state[j] * y[j] * o[j] * (_ONE - o[j])
        for j in range(u):
            g_i[j] = g_carry[j] * g[j] * i[j] * (_ONE - i[j])
        for j in range(u):
            g_g[j] = g_carry[j] * i[j] * (_ONE - g[j] * g[j])
        for j in range(u):
            g_f[j] = g_carry[j] * before[j] * f[j] * (_ONE - f[j])
        for j in range(u):
            g_carry[j] *= f[j]


@lazy_njit
def _gru_cell(s, gates, product, candidate_bias, h, inner):  # type: ignore[no-untyped-def]
    n, _, _, u = gates.shape
    slot = s % inner.shape[1]
    for k in range(n):
        for q in range(2):
            gate, added = gates[k, s, q], product[k, q * u : (q + 1) * u]
            for j in range(u):
                gate[j] = _HALF + _HALF * tanh(_HALF * (gate[j] + added[j]))
        z, r, candidate = gates[k, s, 0], gates[k, s, 1], gates[k, s, 2]
        added, unreset, state = product[k, 2 * u :], inner[k, slot], h[k]
        for j in range(u):
            unreset[j] = added[j] + candidate_bias[j]
        for j in range(u):
            candidate[j] = tanh(candidate[j] + r[j] * unreset[j])
        for j in range(u):
            state[j] = candidate[j] + z[j] * (state[j] - candidate[j])


@lazy_njit
def _gru_cell_grad(s, gates, inner, history, g_h, g_gates, g_products):  # type: ignore[no-untyped-def]
    n, _, _, u = gates.shape
    for k in range(n):
        z, r, candidate = gates[k, s, 0], gates[k, s, 1], gates[k, s, 2]
        g_z, g_r, g_candidate = g_gates[k, s, 0], g_gates[k, s, 1], g_gates[k, s, 2]
        before, unreset, g_state = history[k, s], inner[k, s], g_h[k]
        for j in range(u):
            g_z[j] = g_state[j] * (before[j] - candidate[j]) * z[j] * (_ONE - z[j])
        for j in range(u):
            g_candidate[j] = g_state[j] * (_ONE - z[j]) * (_ONE - candidate[j] * candidate[j])
        for j in range(u):
            g_r[j] = g_candidate[j] * unreset[j] * r[j] * (_ONE - r[j])
        for j in range(u):
            g_state[j] *= z[j]
        g_product = g_products[k, s]
        for j in range(u):
            g_product[0, j] = g_z[j]
            g_product[1, j] = g_r[j]
            g_product[2, j] = g_candidate[j] * r[j]


@lru_cache(maxsize=1)
def _cells() -> dict[str, reference.Cell]:
    from numba.extending import register_jitable

    register_jitable(tanh)
    return {"lstm": (_lstm_cell, _lstm_cell_grad), "gru": (_gru_cell, _gru_cell_grad)}


def _compiled(x: Any, options: dict[str, Any]) -> bool:
    return (
        x.dtype == np.float32
        and options.get("activation", "tanh") == "tanh"
        and options.get("recurrent_activation", "sigmoid") == "sigmoid"
        and options.get("reset_after", True)
    )


def lstm(x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    """As the reference's `lstm`."""
    if _compiled(x, options):
        options["cell"] = _cells()["lstm"]
    return reference.lstm(x, h0, c0, kernel, recurrent_kernel, bias, **options)


def gru(x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    """As the reference's `gru`."""
    if _compiled(x, options):
        options["cell"] = _cells()["gru"]
    return reference.gru(x, h0, kernel, recurrent_kernel, bias, **options)


OVERRIDES = {"lstm": lstm, "gru": gru}
