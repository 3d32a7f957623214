"""Windows that slide: the largest or the mean of each."""

from __future__ import annotations

from typing import Any

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff.tape import differentiable, is_recording
from minikeras.ops.convolution import channels_last, explicit_padding, per_axis, restore_channels
from minikeras.tracebacks import end_at_users_line

__all__ = ["average_pool", "max_pool"]


@differentiable
def _max_pool(x: Any, *, size: Any, strides: Any, padding: str, data_format: str) -> Any:
    x = channels_last(x, data_format)
    settings = _pool_settings(x, size, strides, padding)
    y, index = k.max_pool(x, with_index=is_recording(), **settings)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.max_pool_grad(channels_last(g, data_format), index, x.shape, **settings)
        return (restore_channels(g, data_format),)

    return restore_channels(y, data_format), vjp


@differentiable
def _average_pool(x: Any, *, size: Any, strides: Any, padding: str, data_format: str) -> Any:
    x = channels_last(x, data_format)
    settings = _pool_settings(x, size, strides, padding)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.average_pool_grad(channels_last(g, data_format), x.shape, **settings)
        return (restore_channels(g, data_format),)

    return restore_channels(k.average_pool(x, **settings), data_format), vjp


def _pool_settings(x: Any, size: Any, strides: Any, padding: str) -> dict[str, Any]:
    n = x.ndim - 2
    size = per_axis(size, n)
    strides = size if strides is None else per_axis(strides, n)
    return {
        "size": size,
        "strides": strides,
        "padding": explicit_padding(padding, x.shape[1:-1], size, strides, (1,) * n),
    }


def max_pool(inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None) -> Any:
    """The maximum of each window; `strides` default to `pool_size`; padding counts as minus infinity."""
    try:
        data_format = config.standardize_data_format(data_format)
        return _max_pool(inputs, size=pool_size, strides=strides, padding=padding, data_format=data_format)
    except BaseException as error:
        end_at_users_line(error)
        raise


def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None
) -> Any:
    """The mean of each window; `strides` default to `pool_size`; padding is not counted."""
    try:
        data_format = config.standardize_data_format(data_format)
        return _average_pool(inputs, size=pool_size, strides=strides, padding=padding, data_format=data_format)
    except BaseException as error:
        end_at_users_line(error)
        raise
