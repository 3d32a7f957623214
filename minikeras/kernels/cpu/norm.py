"""Normalisation on the CPU, compiled: one pass over the rows for the statistics, one for the result.

Sums over many rows are taken block by block, in the cache, and joined in float64 (Chan, Golub & LeVeque 1983), so that
float32 stays accurate however many rows there are.  Masked batches are left to the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy_njit
from minikeras.kernels.reference import norm as reference

_BLOCK = 8192  # elements


def _compiled(*arrays: Any) -> bool:
    """Whether the compiled loops take these arrays (None: absent): contiguous, of one type, float32 or float64."""
    dtype = arrays[0].dtype
    return dtype.char in "fd" and all(a is None or (a.dtype == dtype and a.flags.c_contiguous) for a in arrays)


def _like(x: Any, out: Any) -> Any:
    return empty(x.shape, x.dtype) if out is None else out


def _or(vector: Any, value: float, x: Any) -> Any:
    """`vector`, or in its place one of the channels' length filled with `value`."""
    return np.full(x.shape[1], value, x.dtype) if vector is None else vector


# ---- batch -----------------------------------------------------------------------------------------------------------


@lazy_njit
def _statistics(x, mean, variance):  # type: ignore[no-untyped-def]
    rows, channels = x.shape
    block = max(8, _BLOCK // max(channels, 1))
    total_mean, total_square = np.zeros(channels), np.zeros(channels)
    center, square = np.empty_like(mean), np.empty_like(mean)
    for start in range(0, rows, block):
        stop = min(start + block, rows)
        center[:] = 0
        for i in range(start, stop):
            row = x[i]
            for j in range(channels):
                center[j] += row[j]
        center /= x.dtype.type(stop - start)
        square[:] = 0
        for i in range(start, stop):
            row = x[i]
            for j in range(channels):
                difference = row[j] - center[j]
                square[j] += difference * difference
        share = (stop - start) / stop
        for j in range(channels):
            difference = center[j] - total_mean[j]
            total_mean[j] += difference * share
            total_square[j] += square[j] + difference * difference * share * start
    for j in range(channels):
        mean[j] = total_mean[j]
        variance[j] = total_square[j] / max(rows, 1)


@lazy_njit
def _normalize(x, mean, scale, shift, y):  # type: ignore[no-untyped-def]
    rows, channels = x.shape
    for i in range(rows):
        row, result = x[i], y[i]
        for j in range(channels):
            result[j] = (row[j] - mean[j]) * scale[j] + shift[j]


@lazy_njit
def _gradient_sums(g, x, mean, inverse, g_gamma, g_beta):  # type: ignore[no-untyped-def]
    rows, channels = x.shape
    block = max(8, _BLOCK // max(channels, 1))
    total, total_along = np.zeros(channels), np.zeros(channels)
    part, along = np.empty_like(mean), np.empty_like(mean)
    for start in range(0, rows, block):
        part[:] = 0
        along[:] = 0
        for i in range(start, min(start + block, rows)):
            row, g_row = x[i], g[i]
            for j in range(channels):
                part[j] += g_row[j]
                along[j] += g_row[j] * (row[j] - mean[j])
        for j in range(channels):
            total[j] += part[j]
            total_along[j] += along[j]
    for j in range(channels):
        g_beta[j] = total[j]
        g_gamma[j] = total_along[j] * inverse[j]


@lazy_njit
def _combine(g, x, mean, a, b, c, g_x):  # type: ignore[no-untyped-def]
    rows, channels = x.shape
    for i in range(rows):
        row, g_row, result = x[i], g[i], g_x[i]
        for j in range(channels):
            result[j] = a[j] * g_row[j] + b[j] * (row[j] - mean[j]) + c[j]


def batch_norm(
    x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    """As the reference's `batch_norm`."""
    if mask is not None or not _compiled(x, gamma, beta, out):
        return reference.batch_norm(x, gamma, beta, epsilon, mask, out)
    y = _like(x, out)
    mean, variance = empty(x.shape[1:], x.dtype), empty(x.shape[1:], x.dtype)
    _statistics(x, mean, variance)
    inverse = 1 / np.sqrt(variance + epsilon)
    _normalize(x, mean, inverse if gamma is None else inverse * gamma, _or(beta, 0, x), y)
    return y, mean, variance, (x, gamma, beta, mean, inverse, 1 / max(x.shape[0], 1))


def batch_norm_grad(g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)) -> tuple[Any, Any, Any]:
    """As the reference's `batch_norm_grad`."""
    x, gamma, beta, mean, inverse, share = residual
    if not (isinstance(share, float | int) and _compiled(g, x, gamma, mean, *outs)):
        return reference.batch_norm_grad(g, residual, needs_x, outs)
    g_gamma, g_beta = (_like(mean, out) for out in outs)
    _gradient_sums(g, x, mean, inverse, g_gamma, g_beta)
    g_x = None
    if needs_x:
        g_x = _like(x, None)
        scale = inverse if gamma is None else inverse * gamma
        _combine(g, x, mean, scale, -share * scale * inverse * g_gamma, -share * scale * g_beta, g_x)
    return g_x, None if gamma is None else g_gamma, None if beta is None else g_beta


@lazy_njit
def _scale_shift(x, scale, shift, y):  # type: ignore[no-untyped-def]
    rows, channels = x.shape
    for i in range(rows):
        row, result = x[i], y[i]
        for j in range(channels):
            result[j] = row[j] * scale[j] + shift[j]


def scale_shift(x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    """As the reference's `scale_shift`."""
    if x.ndim != 2 or scale.ndim != 1 or shift.ndim != 1 or not _compiled(x, scale, shift, out):
        return reference.scale_shift(x, scale, shift, out)
    y = _like(x, out)
    _scale_shift(x, scale, shift, y)
    return y


# ---- layer and root mean square --------------------------------------------------------------------------------------


@lazy_njit
def _normalize_rows(x, gamma, beta, epsilon, centered, mean, inverse, y):  # type: ignore[no-untyped-def]
    rows, features = x.shape
    zero = x.dtype.type(0)
    for i in range(rows):
        row, result = x[i], y[i]
        center = zero
        if centered:
            for j in range(features):
                center += row[j]
            center /= x.dtype.type(features)
            mean[i, 0] = center
        square = zero
        for j in range(features):
            square += (row[j] - center) * (row[j] - center)
        scale = x.dtype.type(1 / np.sqrt(square / features + epsilon))
        inverse[i, 0] = scale
        for j in range(features):
            result[j] = (row[j] - center) * scale * gamma[j] + beta[j]


@lazy_njit
def _normalize_rows_grad(g, x, gamma, centered, mean, inverse, needs_x, g_x, g_gamma, g_beta):  # type: ignore[no-untyped-def]
    rows, features = x.shape
    zero = x.dtype.type(0)
    g_gamma[:] = 0
    g_beta[:] = 0
    for i in range(rows):
        row, g_row = x[i], g[i]
        center = mean[i, 0] if centered else zero
        scale = inverse[i, 0]
        for j in range(features):
            g_beta[j] += g_row[j]
        for j in range(features):
            g_gamma[j] += g_row[j] * ((row[j] - center) * scale)
        if needs_x:
            total, along = zero, zero
            for j in range(features):
                scaled = g_row[j] * gamma[j]
                total += scaled
                along += scaled * (row[j] - center)
            along = along * scale * scale / x.dtype.type(features)
            total = total / x.dtype.type(features) if centered else zero
            result = g_x[i]
            for j in range(features):
                result[j] = scale * (g_row[j] * gamma[j] - total - (row[j] - center) * along)


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """As the reference's `layer_norm`."""
    if not _compiled(x, gamma, beta, out):
        return reference.layer_norm(x, gamma, beta, epsilon, out)
    y, mean, inverse = _like(x, out), empty((x.shape[0], 1), x.dtype), empty((x.shape[0], 1), x.dtype)
    _normalize_rows(x, _or(gamma, 1, x), _or(beta, 0, x), epsilon, True, mean, inverse, y)
    return y, (x, gamma, beta, mean, inverse)


def rms_norm(x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """As the reference's `rms_norm`."""
    if not _compiled(x, gamma, out):
        return reference.rms_norm(x, gamma, epsilon, out)
    y, inverse = _like(x, out), empty((x.shape[0], 1), x.dtype)
    _normalize_rows(x, _or(gamma, 1, x), _or(None, 0, x), epsilon, False, inverse, inverse, y)
    return y, (x, gamma, None, None, inverse)


def layer_norm_grad(g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)) -> tuple[Any, Any, Any]:
    """As the reference's `layer_norm_grad`."""
    x, gamma, beta, mean, inverse = residual
    if not _compiled(g, x, gamma, inverse, *outs):
        return reference.layer_norm_grad(g, residual, needs_x, outs)
    g_x = _like(x, None) if needs_x else None
    g_gamma, g_beta = (empty(x.shape[1:], x.dtype) if out is None else out for out in outs)
    centered = mean is not None
    _normalize_rows_grad(
        g,
        x,
        _or(gamma, 1, x),
        centered,
        mean if centered else inverse,
        inverse,
        needs_x,
        g_x if needs_x else g,  # not written to
        g_gamma,
        g_beta,
    )
    return g_x, None if gamma is None else g_gamma, None if beta is None else g_beta


def rms_norm_grad(g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)) -> tuple[Any, Any]:
    """As the reference's `rms_norm_grad`."""
    return layer_norm_grad(g, residual, needs_x, outs)[:2]


OVERRIDES = {
    "batch_norm": batch_norm,
    "batch_norm_grad": batch_norm_grad,
    "layer_norm": layer_norm,
    "layer_norm_grad": layer_norm_grad,
    "rms_norm": rms_norm,
    "rms_norm_grad": rms_norm_grad,
    "scale_shift": scale_shift,
}
