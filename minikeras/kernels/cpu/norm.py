"""Normalisation on the CPU: float32 is the team's (norm_parts.py); masked batches and others are the reference's."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.reference import norm as reference


def _team_takes(*arrays: Any) -> bool:
    """Whether the team's passes take these arrays (None: absent): contiguous float32, the first one not empty."""
    return arrays[0].size > 0 and all(a is None or (a.dtype.char == "f" and a.flags.c_contiguous) for a in arrays)


@lru_cache(maxsize=1)
def _parts() -> Any:
    """The module `norm_parts`, imported at first need."""
    return importlib.import_module("minikeras.kernels.cpu.norm_parts")


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


def batch_norm(
    x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None, out: Any = None
) -> tuple[Any, Any, Any, Any]:
    """As the reference's `batch_norm`."""
    if mask is not None or not _team_takes(x, gamma, beta, out):
        return reference.batch_norm(x, gamma, beta, epsilon, mask, out)
    y = _like(x, out)
    mean, variance = _parts().batch_moments(x)
    inverse = 1 / np.sqrt(variance + epsilon)
    _parts().normalize(x, mean, inverse * _or(gamma, 1), _or(beta, 0), y)
    return y, mean, variance, (x, gamma, beta, mean, inverse, 1 / len(x))


def batch_norm_grad(g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)) -> tuple[Any, Any, Any]:
    """As the reference's `batch_norm_grad`."""
    x, gamma, beta, mean, inverse, share = residual
    if not isinstance(share, float | int) or not _team_takes(g, x):
        return reference.batch_norm_grad(g, residual, needs_x, outs)
    total, along = _parts().batch_gradient_sums(x, g, mean)
    along *= inverse
    g_x = None
    if needs_x:
        g_x = _like(x, None)
        scale = inverse * _or(gamma, 1)
        _parts().batch_combine(x, g, mean, scale, -share * scale * inverse * along, -share * scale * total, g_x)
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)


def scale_shift(x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    """As the reference's `scale_shift`."""
    if x.ndim != 2 or scale.ndim != 1 or shift.ndim != 1 or not _team_takes(x, scale, shift, out):
        return reference.scale_shift(x, scale, shift, out)
    y = _like(x, out)
    _parts().normalize(x, 0, scale, shift, y)
    return y


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """As the reference's `layer_norm`."""
    if not _team_takes(x, gamma, beta, out):
        return reference.layer_norm(x, gamma, beta, epsilon, out)
    y = _like(x, out)
    return y, (x, gamma, beta, *_parts().normalize_rows(x, _or(gamma, 1), _or(beta, 0), epsilon, True, y))


def rms_norm(x: Any, gamma: Any, epsilon: float, out: Any = None) -> tuple[Any, Any]:
    """As the reference's `rms_norm`."""
    if not _team_takes(x, gamma, out):
        return reference.rms_norm(x, gamma, epsilon, out)
    y = _like(x, out)
    return y, (x, gamma, None, None, _parts().normalize_rows(x, _or(gamma, 1), 0, epsilon, False, y)[1])


def layer_norm_grad(g: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None)) -> tuple[Any, Any, Any]:
    """As the reference's `layer_norm_grad`."""
    x, gamma, beta, mean, inverse = residual
    if not _team_takes(g, x, gamma, mean, inverse):
        return reference.layer_norm_grad(g, residual, needs_x, outs)
    g_x = _like(x, None) if needs_x else None
    total, along = _parts().rows_grad(x, g, _or(gamma, 1), mean, inverse, g_x)
    return g_x, _into(outs[0], along, gamma is not None), _into(outs[1], total, beta is not None)


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
