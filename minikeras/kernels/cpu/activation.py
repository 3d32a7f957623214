"""Elementwise passes on the CPU: compiled for float32, long ones shared by the team."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import activation as reference
from minikeras.kernels.table import Kernels, contiguous_float32, one_of, override, same_shape

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
    lazy("parts").piecewise_relu(x, slope, limit, threshold, out)
    return out


@override(reference.piecewise_relu_grad, "cpu", when=(contiguous_float32("g", "x", "out"), same_shape("g", "x", "out")))
def piecewise_relu_grad(
    k: Kernels, g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    out = empty(g.shape, g.dtype) if out is None else out
    lazy("parts").piecewise_relu_grad(g, x, slope, limit, threshold, out)
    return out


@override(reference.masked_scale, "cpu", when=(contiguous_float32("x", "out"), same_shape("x", "mask"), _is_plain))
def masked_scale(k: Kernels, x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    lazy("parts").masked_scale(x, mask, scale, out)
    return out
