"""Normalisation on the CPU: float32 is the team's (norm_parts.py); masked batches and others are the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import norm as reference
from minikeras.kernels.table import Kernels, absent, contiguous_float32, override


def _has_vectors(x: Any, scale: Any, shift: Any) -> bool:
    return bool(x.ndim == 2 and scale.ndim == shift.ndim == 1)


def _are_plain(*arrays: Any) -> bool:
    """Whether what a residual holds (None: absent) is contiguous float32."""
    return all([array is None or (array.dtype.char == "f" and array.flags.c_contiguous) for array in arrays])


def _was_unmasked(residual: Any) -> bool:
    return isinstance(residual[5], float | int) and _are_plain(residual[0])


def _was_compiled(residual: Any) -> bool:
    x, gamma, _, mean, inverse = residual
    return _are_plain(x, gamma, mean, inverse)


def _like(x: Any, out: Any) -> Any:
    return empty(x.shape, x.dtype) if out is None else out


def _or(vector: Any, value: float) -> Any:
    return value if vector is None else vector


def _into(out: Any, value: Any, wanted: bool) -> Any:
    """A sum, taken in float64, as float32 and where it should be; None where it is not wanted."""
    if not wanted:
        return None
    if out is None:
        return value.astype(np.float32)
    out[...] = value
    return out


@override(reference.batch_norm, "cpu", when=(absent("mask"), contiguous_float32("x", "gamma", "beta", "out")))
def batch_norm(
    k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    y = _like(x, out)
    mean, variance = lazy("norm_parts").batch_moments(x)
    inverse = 1 / np.sqrt(variance + epsilon)
    lazy("norm_parts").normalize(x, mean, inverse * _or(gamma, 1), _or(beta, 0), y)
    return y, mean, variance, (x, gamma, beta, mean, inverse, 1 / len(x))


@override(reference.batch_norm_grad, "cpu", when=(contiguous_float32("g"), _was_unmasked))
def batch_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse, share = residual
    total, along = lazy("norm_parts").batch_gradient_sums(x, g, mean)
    along *= inverse
    g_x = None
    if needs_x:
        g_x = _like(x, None)
        scale = inverse * _or(gamma, 1)
        factors = -share * scale * inverse * along, -share * scale * total
        lazy("norm_parts").batch_combine(x, g, mean, scale, *factors, g_x)
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)


@override(reference.scale_shift, "cpu", when=(_has_vectors, contiguous_float32("x", "scale", "shift", "out")))
def scale_shift(k: Kernels, x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    y = _like(x, out)
    lazy("norm_parts").normalize(x, 0, scale, shift, y)
    return y


@override(reference.layer_norm, "cpu", when=contiguous_float32("x", "gamma", "beta", "out"))
def layer_norm(k: Kernels, x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, beta, *lazy("norm_parts").normalize_rows(x, _or(gamma, 1), _or(beta, 0), epsilon, True, y))


@override(reference.rms_norm, "cpu", when=contiguous_float32("x", "gamma", "out"))
def rms_norm(k: Kernels, x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    y = _like(x, out)
    return y, (x, gamma, None, None, lazy("norm_parts").normalize_rows(x, _or(gamma, 1), 0, epsilon, False, y)[1])


@override(reference.layer_norm_grad, "cpu", when=(contiguous_float32("g"), _was_compiled))
def layer_norm_grad(
    k: Kernels, g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)
) -> tuple[Any, Any, Any]:
    x, gamma, beta, mean, inverse = residual
    g_x = _like(x, None) if needs_x else None
    total, along = lazy("norm_parts").rows_grad(x, g, _or(gamma, 1), mean, inverse, g_x)
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)
