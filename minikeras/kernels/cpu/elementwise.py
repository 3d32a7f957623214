"""Elementwise passes on the CPU: compiled for float32, long ones shared by the team."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import shared
from minikeras.kernels.reference.activation import activate as reference_activate
from minikeras.kernels.reference.activation import activate_grad as reference_activate_grad
from minikeras.kernels.reference.activation import masked_scale as reference_masked_scale
from minikeras.kernels.reference.activation import piecewise_relu as reference_piecewise_relu
from minikeras.kernels.reference.activation import piecewise_relu_grad as reference_piecewise_relu_grad
from minikeras.kernels.reference.dense import epilogue_grad as reference_epilogue_grad


def _compiled(*arrays: Any) -> bool:
    """Whether a compiled pass takes these (None is passed over): contiguous float32, neither empty nor a scalar."""
    for array in arrays:
        if array is not None and (array.dtype.char != "f" or not array.flags.c_contiguous):
            return False
    return arrays[0].size > 0 < arrays[0].ndim


_LIMITS: dict[str | None, float | None] = {"relu": None, "relu6": 6.0}


def activate(x: Any, activation: str | None, out: Any = None) -> Any:
    """See the reference."""
    if activation in _LIMITS and _compiled(x, out):
        return piecewise_relu(x, 0.0, _LIMITS[activation], out=out)
    return reference_activate(x, activation, out)


def activate_grad(g: Any, y: Any, activation: str | None) -> Any:
    """See the reference."""
    if activation in _LIMITS and _compiled(g, y):  # the output says as well as the input where the slope is 1
        return piecewise_relu_grad(g, y, 0.0, _LIMITS[activation])
    return reference_activate_grad(g, y, activation)


def piecewise_relu(
    x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    """See the reference."""
    if not _compiled(x, out) or (out is not None and out.shape != x.shape):
        return reference_piecewise_relu(x, slope, limit, threshold, out)
    if out is None:
        out = empty(x.shape, x.dtype)
    shared().piecewise_relu(x, slope, limit, threshold, out)
    return out


def piecewise_relu_grad(
    g: Any, x: Any, slope: float = 0.0, limit: float | None = None, threshold: float = 0.0, out: Any = None
) -> Any:
    """See the reference."""
    if not _compiled(g, x, out) or g.shape != x.shape or (out is not None and out.shape != x.shape):
        return reference_piecewise_relu_grad(g, x, slope, limit, threshold, out)
    if out is None:
        out = empty(g.shape, g.dtype)
    shared().piecewise_relu_grad(g, x, slope, limit, threshold, out)
    return out


def epilogue_grad(g: Any, y: Any, activation: str | None, bias: bool, bias_out: Any = None) -> tuple[Any, Any]:
    """See the reference."""
    if not _compiled(g, y, bias_out):
        return reference_epilogue_grad(g, y, activation, bias, bias_out)
    if activation not in (None, "relu"):
        g = activate_grad(g, y, activation)
    if bias and bias_out is None:
        bias_out = empty((g.shape[-1],), g.dtype)
    if activation == "relu":
        g = shared().relu_grad(g, y, bias_out if bias else None)
    elif bias:
        shared().relu_grad(g, None, bias_out)
    return g, bias_out if bias else None


def masked_scale(x: Any, mask: Any, scale: float, out: Any = None) -> Any:
    """See the reference."""
    if mask.shape != x.shape or mask.dtype.char != "B" or not mask.flags.c_contiguous or not _compiled(x, out):
        return reference_masked_scale(x, mask, scale, out)
    if out is None:
        out = empty(x.shape, x.dtype)
    shared().masked_scale(x, mask, scale, out)
    return out


OVERRIDES = {
    "activate": activate,
    "activate_grad": activate_grad,
    "epilogue_grad": epilogue_grad,
    "masked_scale": masked_scale,
    "piecewise_relu": piecewise_relu,
    "piecewise_relu_grad": piecewise_relu_grad,
}
