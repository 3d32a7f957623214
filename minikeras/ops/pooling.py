"""Windows that slide: the largest or the mean of each."""

from __future__ import annotations

from typing import Any

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.autodiff.tape import is_recording
from minikeras.ops import core
from minikeras.ops import numpy as fine
from minikeras.ops.common import counted
from minikeras.ops.convolution import channels_last, explicit_padding, per_axis, restore_channels, windows

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
    """The maximum of each window; `strides` default to `pool_size`; padding counts as minus infinity.

    Args:
        inputs: tensor of (batch, *spatial axes, channels), or with the channels first.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.max_pool(np.ones((1, 5, 5, 3)), 2, padding="same").shape
    (1, 3, 3, 3)
    """
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
    """The mean of each window; `strides` default to `pool_size`; padding is not counted.

    Args:
        inputs: tensor of (batch, *spatial axes, channels), or with the channels first.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.average_pool(np.ones((1, 4, 4, 3)), 2).shape
    (1, 2, 2, 3)
    """
    data_format = config.standardize_data_format(data_format)
    x = channels_last(inputs, data_format)
    settings = _pool_settings(x, pool_size, strides, padding)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.average_pool_grad(channels_last(g, data_format), x.shape, **settings)
        return (restore_channels(g, data_format),)

    return restore_channels(k.average_pool(x, **settings), data_format), vjp


def _adaptive_shape(inputs: Any, *, output_size: Any, data_format: Any) -> Any:
    last = config.standardize_data_format(data_format) == "channels_last"
    sizes = per_axis(output_size, inputs.ndim - 2)
    n, c = inputs.shape[0], inputs.shape[-1 if last else 1]
    return (n, *sizes, c) if last else (n, c, *sizes)


def _parts(inputs: Any, output_size: Any, data_format: Any) -> list[tuple[int, Any, Any]]:
    """Of each spatial axis its number, where the parts that it is cut into begin, and where they end.

    Part i of m begins at floor(i * length / m) and ends before ceil((i + 1) * length / m), so neighbours may overlap.
    """
    first = 1 if config.standardize_data_format(data_format) == "channels_last" else 2
    sizes = per_axis(output_size, len(inputs.shape) - 2)
    if len(sizes) != len(inputs.shape) - 2 or min(sizes) < 1:
        raise ValueError(
            f"output_size has a number of at least 1 for each axis between batch and channels, got {output_size!r} for "
            f"inputs of shape {tuple(inputs.shape)}."
        )
    parts = []
    for axis, size in enumerate(sizes, first):
        length = inputs.shape[axis]
        if length == 0:
            raise ValueError(f"There is nothing to pool in inputs of shape {tuple(inputs.shape)}; give larger ones.")
        number = counted(size)  # on the device
        parts.append((axis, number * length // size, -((number + 1) * -length // size)))
    return parts


@composite(inputs=1, shape=_adaptive_shape)
def adaptive_average_pool(inputs: Any, output_size: Any, data_format: Any = None) -> Any:
    """The mean of each of `output_size` parts of about equal size.

    Args:
        inputs: (batch, *spatial, channels), or with `data_format="channels_first"` (batch, channels, *spatial).
        output_size: how many parts each spatial axis is cut into: one integer, or one for each of them.
        data_format: default `config.image_data_format()`.

    Raises:
        ValueError: for sizes that do not fit the inputs.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> np.asarray(ops.adaptive_average_pool(np.arange(5.0, dtype="float32").reshape(1, 5, 1), 2)).ravel().tolist()
    [1.0, 3.0]
    """
    for axis, start, end in _parts(inputs, output_size, data_format):
        place, dtype = counted(inputs.shape[axis]).reshape(-1, 1), inputs.dtype
        weights = ((start <= place) & (place < end)) / (end - start)
        weights = weights.astype("float64" if dtype == "float64" else "float32")
        inputs = fine.moveaxis(fine.tensordot(inputs, weights, axes=([axis], [0])), -1, axis)
        inputs = inputs if inputs.dtype == dtype else core.cast(inputs, dtype)
    return inputs


@composite(inputs=1, shape=_adaptive_shape)
def adaptive_max_pool(inputs: Any, output_size: Any, data_format: Any = None) -> Any:
    """The maximum of each of `output_size` parts of about equal size; arguments as for `adaptive_average_pool`.

    Args:
        inputs: tensor of (batch, *spatial axes, channels), or with the channels first.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> np.asarray(ops.adaptive_max_pool(np.arange(5.0, dtype="float32").reshape(1, 5, 1), 2)).ravel().tolist()
    [2.0, 4.0]
    """
    for axis, start, end in _parts(inputs, output_size, data_format):
        widest = -(-inputs.shape[axis] // len(start)) + 1
        places = k.xp.minimum(start.reshape(-1, 1) + counted(widest), end.reshape(-1, 1) - 1)  # the last ones again
        inputs = fine.max(fine.take(inputs, places, axis=axis), axis=axis + 1)
    return inputs
