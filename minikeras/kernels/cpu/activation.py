"""Elementwise passes on the CPU: compiled for float32, long ones shared by the team."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Floats, Octets, inner, part, parts_for, share_of_lines
from minikeras.kernels.reference import activation as reference
from minikeras.kernels.table import Kernels, contiguous_float32, one_of, override, same_shape

_ZERO = np.float32(0)


@inner
def _line(x, slope, threshold):
    """Below the threshold a line of its own; NaN stays NaN."""
    below = _ZERO if slope == _ZERO else slope * (x - threshold)  # the slope may meet an infinity
    return below if x <= threshold else x


@part
def _piecewise_relu(
    part, parts, size, x: Floats, out: Floats, slope: np.float32, limit: np.float32, threshold: np.float32
):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        value = _line(x[i], slope, threshold)
        out[i] = limit if value > limit else value


@part
def _piecewise_relu_grad(
    part, parts, size, g: Floats, x: Floats, out: Floats, slope: np.float32, limit: np.float32, threshold: np.float32
):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        less = _ZERO if slope == _ZERO else g[i] * slope
        steep = g[i] if x[i] > threshold else less
        out[i] = _ZERO if _line(x[i], slope, threshold) >= limit else steep


@part
def _masked_scale(part, parts, size, x: Floats, mask: Octets, out: Floats, scale: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = x[i] * np.float32(mask[i]) * scale


def _limit(limit: float | None) -> float:
    return math.nan if limit is None else float(limit)  # nothing is above NaN


_LIMITS: dict[str | None, float | None] = {"relu": None, "relu6": 6.0}
_HAS_LIMIT = one_of("activation", *_LIMITS)


def _is_plain(mask: Any) -> bool:
    return mask.dtype.char == "B" and mask.flags.c_contiguous


@override(reference.activate, "cpu", when=(_HAS_LIMIT, contiguous_float32("x", "out")))
def activate(k: Kernels, x: Any, activation: str | None, out: Any = None) -> Any:
    return k.piecewise_relu(x, 0.0, _LIMITS[activation], out=out)


@override(reference.activate_grad, "cpu", when=(_HAS_LIMIT, contiguous_float32("g", "y")))
def activate_grad(k: Kernels, g: Any, y: Any, activation: str | None) -> Any:
    # the output says as well as the input where the slope is 1
    return k.piecewise_relu_grad(g, y, 0.0, _LIMITS[activation])


@override(reference.piecewise_relu, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "out")))
def piecewise_relu(
    k: Kernels, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    lines = {"slope": float(slope), "limit": _limit(limit), "threshold": float(threshold)}
    _piecewise_relu.run(parts_for(x.size), size=x.size, x=x, out=out, **lines)
    return out


@override(reference.piecewise_relu_grad, "cpu", when=(contiguous_float32("g", "x", "out"), same_shape("g", "x", "out")))
def piecewise_relu_grad(
    k: Kernels, g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = empty(g.shape, g.dtype) if out is None else out
    lines = {"slope": float(slope), "limit": _limit(limit), "threshold": float(threshold)}
    _piecewise_relu_grad.run(parts_for(x.size), size=x.size, g=g, x=x, out=out, **lines)
    return out


@override(reference.masked_scale, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "mask"), _is_plain))
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    _masked_scale.run(parts_for(x.size), size=x.size, x=x, mask=mask, out=out, scale=float(scale))
    return out
