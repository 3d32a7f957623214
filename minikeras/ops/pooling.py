"""Windows that slide: the largest or the mean of each."""

from __future__ import annotations

from typing import Any

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.tape import is_recording
from minikeras.ops.convolution import channels_last, explicit_padding, per_axis, restore_channels, windows

__all__ = ["average_pool", "max_pool"]

KERAS_MODULE = "keras.src.ops.nn"


def _pool_settings(x: Any, size: Any, strides: Any, padding: str) -> dict[str, Any]:
    n = x.ndim - 2
    size = per_axis(size, n)
    strides = size if strides is None else per_axis(strides, n)
    return {
        "size": size,
        "strides": strides,
        "padding": explicit_padding(padding, x.shape[1:-1], size, strides, (1,) * n),
    }


def _pool_shape(inputs: Any, *, pool_size: Any, strides: Any, padding: str, data_format: Any) -> Any:
    last = config.standardize_data_format(data_format) == "channels_last"
    sizes = inputs.shape[1:-1] if last else inputs.shape[2:]
    window = per_axis(pool_size, len(sizes))
    sizes = windows(sizes, window, window if strides is None else per_axis(strides, len(sizes)), padding)
    n, c = inputs.shape[0], inputs.shape[-1 if last else 1]
    return shapes.Spec((n, *sizes, c) if last else (n, c, *sizes), inputs.dtype)


@differentiable(inputs=1, shape=_pool_shape)
def max_pool(inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None) -> Any:
    """The maximum of each window; `strides` default to `pool_size`; padding counts as minus infinity."""
    data_format = config.standardize_data_format(data_format)
    x = channels_last(inputs, data_format)
    settings = _pool_settings(x, pool_size, strides, padding)
    y, index = k.max_pool(x, with_index=is_recording(), **settings)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.max_pool_grad(channels_last(g, data_format), index, x.shape, **settings)
        return (restore_channels(g, data_format),)

    return restore_channels(y, data_format), vjp


@differentiable(inputs=1, shape=_pool_shape)
def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None
) -> Any:
    """The mean of each window; `strides` default to `pool_size`; padding is not counted."""
    data_format = config.standardize_data_format(data_format)
    x = channels_last(inputs, data_format)
    settings = _pool_settings(x, pool_size, strides, padding)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.average_pool_grad(channels_last(g, data_format), x.shape, **settings)
        return (restore_channels(g, data_format),)

    return restore_channels(k.average_pool(x, **settings), data_format), vjp
