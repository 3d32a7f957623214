"""Convolutions, transposed and by depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.autodiff.symbolic import TooSmall
from minikeras.kernels.arena import contiguous
from minikeras.ops.common import as_type

KERAS_MODULE = "keras.src.ops.nn"


def per_axis(value: Any, n: int) -> tuple[int, ...]:
    if type(value) is tuple:
        return value
    return (int(value),) * n if isinstance(value, (int, np.integer)) else tuple(value)


def explicit_padding(
    padding: Any, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(before, after) per spatial axis for `"valid"`, `"same"` or `"causal"`."""
    written = str(padding).lower()
    if written not in ("valid", "same", "causal"):
        raise ValueError(f"padding must be 'valid', 'same' or 'causal', got {padding!r}.")
    return _paddings(written, sizes, kernel, strides, dilation)


@lru_cache(maxsize=256)
def _paddings(padding: str, sizes: Any, kernel: Any, strides: Any, dilation: Any) -> tuple[tuple[int, int], ...]:
    if not len(sizes) == len(kernel) == len(strides) == len(dilation):
        raise ValueError(
            f"Window, strides and dilation have one number for each axis between batch and channels, got {kernel}, "
            f"{strides} and {dilation} for inputs of size {sizes}."
        )
    for n, m, s, d in zip(sizes, kernel, strides, dilation, strict=True):
        if min(m, s, d) < 1:
            raise ValueError(f"Windows, strides and dilations are at least 1, got {kernel}, {strides} and {dilation}.")
        if n < (d * (m - 1) + 1 if padding == "valid" else 1):
            window = f"{kernel}{f' and dilation {dilation}' if max(dilation) > 1 else ''}"
            raise TooSmall(
                f"A window of size {window} does not fit into inputs of size {sizes} with padding={padding!r}; use a "
                "smaller window, padding='same' or larger inputs."
            )
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    if padding == "same":
        return tuple(k.same_padding(n, m, s, d) for n, m, s, d in zip(sizes, kernel, strides, dilation, strict=True))
    return tuple((d * (m - 1), 0) for m, d in zip(kernel, dilation, strict=True))


def windows(
    sizes: Sequence[int | None], window: Sequence[int], strides: Sequence[int], padding: str, dilation: Any = None
) -> tuple[int | None, ...]:
    """How many windows lie along each axis; None where its size is open.

    Raises:
        ValueError: where a window does not fit.
    """
    dilation = (1,) * len(window) if dilation is None else dilation
    reach = tuple([d * (m - 1) + 1 for m, d in zip(window, dilation, strict=True)])
    fitting = tuple([m if n is None else n for n, m in zip(sizes, reach, strict=True)])
    pads = explicit_padding(padding, fitting, tuple(window), tuple(strides), tuple(dilation))
    axes = zip(sizes, pads, reach, strides, strict=True)
    return tuple([None if n is None else (n + sum(pad) - m) // step + 1 for n, pad, m, step in axes])


def _convolved(x: Any, made: Callable[[Any], Any], channels: int, data_format: str) -> Any:
    """The shape of `x` with its sizes between batch and channels as `made` gives them, and so many channels."""
    if data_format == "channels_last":
        return (x.shape[0], *made(x.shape[1:-1]), channels)
    return (x.shape[0], channels, *made(x.shape[2:]))


def _conv_shape(depthwise: bool) -> Callable:
    """The rule of convolutions, whose settings are named in two ways."""

    def rule(
        inputs: Any,
        kernel: Any,
        bias: Any = None,
        *,
        strides: Any,
        padding: str,
        data_format: Any,
        dilation: Any = None,
        dilation_rate: Any = 1,
        **settings: Any,
    ) -> Any:
        data_format = config.standardize_data_format(data_format)
        n = inputs.ndim - 2
        spread = per_axis(dilation_rate if dilation is None else dilation, n)
        channels, within = inputs.shape[-1 if data_format == "channels_last" else 1], kernel.shape[-2]
        if channels is not None and (channels != within if depthwise else channels % within):
            raise ValueError(
                f"A convolution of inputs of shape {inputs.shape} with {channels} channels does not go with a kernel "
                f"of shape {kernel.shape}, which is for {within}."
            )
        steps = per_axis(strides, n)
        shape = _convolved(
            inputs,
            lambda sizes: windows(sizes, kernel.shape[:-2], steps, padding, spread),
            kernel.shape[-1] * (within if depthwise else 1),
            data_format,
        )
        return shape if dilation is None else shapes.Spec(shape, kernel.dtype)  # the primitive, which may have groups

    return rule


def channels_last(x: Any, data_format: str) -> Any:
    return x if data_format == "channels_last" else contiguous(k.xp.moveaxis(x, 1, -1))


def restore_channels(y: Any, data_format: str) -> Any:
    return y if data_format == "channels_last" else contiguous(k.xp.moveaxis(y, -1, 1))


def _convolution(depthwise: bool) -> Callable:
    """The convolution primitive: `depthwise` chooses the kernels it runs on."""

    @differentiable(shape=_conv_shape(depthwise))
    def primitive(
        x: Any,
        kernel: Any,
        bias: Any = None,
        *,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation: Any = 1,
        groups: int = 1,
        activation: str | None = None,
    ) -> Any:
        forward, input_grad, kernel_grad = (
            (k.depthwise_conv, k.depthwise_conv_input_grad, k.depthwise_conv_kernel_grad)
            if depthwise
            else (k.conv, k.conv_input_grad, k.conv_kernel_grad)
        )
        x = channels_last(x, data_format)
        if x.dtype != kernel.dtype:
            x = x.astype(kernel.dtype)
        n = x.ndim - 2
        steps, spread = per_axis(strides, n), per_axis(dilation, n)
        settings: dict[str, Any] = {
            "strides": steps,
            "padding": explicit_padding(padding, x.shape[1:-1], kernel.shape[:-2], steps, spread),
            "dilation": spread,
        }
        if not depthwise:
            settings["groups"] = groups
        y = forward(x, kernel, bias, activation=activation, **settings)

        def vjp(g: Any, needs: Any) -> Any:
            g = channels_last(g, data_format)
            g, gb = k.epilogue_grad(g, y, activation, needs[2], needs.out[2])
            gx = gw = None
            if needs[0]:
                gx = restore_channels(input_grad(g, kernel, x.shape, **settings), data_format)
            if needs[1]:
                gw = kernel_grad(x, g, kernel.shape, out=needs.out[1], **settings)
            return gx, gw, gb

        return restore_channels(y, data_format), vjp

    return primitive


convolution = _convolution(depthwise=False)
depthwise_convolution = _convolution(depthwise=True)


@composite(inputs=2, shape=_conv_shape(depthwise=False))
def conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    """Convolution (correlation) of `inputs` (n, *spatial, channels) and `kernel` (*sizes, channels / groups, filters).

    Groups follow from the kernel's shape.  `padding` is `"valid"`, `"same"` or (1-d) `"causal"`.

    Args:
        strides: steps between windows, one number or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        dilation_rate: steps within a window.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.conv(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4))).shape
    (1, 3, 3, 4)
    """
    data_format = config.standardize_data_format(data_format)
    groups = inputs.shape[-1 if data_format == "channels_last" else 1] // kernel.shape[-2]
    settings: Any = {"strides": strides, "padding": padding, "data_format": data_format, "dilation": dilation_rate}
    return convolution(inputs, kernel, None, groups=groups, **settings)


@composite(inputs=2, shape=_conv_shape(depthwise=True))
def depthwise_conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    """Each channel of `inputs` with its own `kernel` (*sizes, channels, multiplier).

    Args:
        strides: steps between windows, one number or one for each axis.
        padding: `"valid"` (none) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        dilation_rate: steps within a window.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.depthwise_conv(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 1))).shape
    (1, 3, 3, 2)
    """
    settings: Any = {"strides": strides, "padding": padding, "dilation": dilation_rate}
    settings["data_format"] = config.standardize_data_format(data_format)
    return depthwise_convolution(inputs, kernel, None, **settings)


def _separable_shape(
    inputs: Any, depthwise_kernel: Any, pointwise_kernel: Any, *, data_format: Any, **settings: Any
) -> Any:
    middle = _conv_shape(depthwise=True)(inputs, depthwise_kernel, data_format=data_format, **settings)
    around = {"strides": 1, "padding": "valid", "data_format": data_format}
    return _conv_shape(depthwise=False)(shapes.Spec(middle, inputs.dtype), pointwise_kernel, **around)


@composite(inputs=3, shape=_separable_shape)
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> Any:
    """`depthwise_conv`, then a convolution with `pointwise_kernel` (1, ..., channels * multiplier, filters).

    Args:
        inputs: tensor of (batch, *spatial axes, channels), or with the channels first.
        depthwise_kernel: tensor of (*window, channels, multiplier).
        strides: steps between windows, one number or one for each axis.
        padding: `"valid"` (none) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        dilation_rate: steps within a window.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.separable_conv(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 1)), np.ones((1, 1, 2, 4))).shape
    (1, 3, 3, 4)
    """
    middle = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(middle, pointwise_kernel, data_format=data_format)


def transposed_length(length: int, size: int, stride: int, dilation: int, padding: str, extra: int | None) -> int:
    """How long an axis becomes in a transposed convolution; see `conv_transpose`, whose `output_padding` is `extra`."""
    window = dilation * (size - 1) + 1
    reach = (length - 1) * stride + window  # of all windows, side by side
    if extra is None:
        return length * stride if padding == "same" else max(reach, length * stride)
    made = reach - (window // 2 * 2 if padding == "same" else 0) + extra
    if made < 1:
        raise TooSmall(
            f"A transposed convolution makes {made} values of {length} along an axis, with a window of {window}, "
            f"stride {stride}, padding={padding!r} and output_padding={extra}; use larger inputs or padding='valid'."
        )
    return made


def _transposed_shape(
    inputs: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Any,
    padding: str,
    output_padding: Any,
    data_format: Any,
    dilation: Any = None,
    dilation_rate: Any = 1,
    **settings: Any,
) -> Any:
    n = inputs.ndim - 2
    extras = (None,) * n if output_padding is None else per_axis(output_padding, n)
    steps, spread = per_axis(strides, n), per_axis(dilation_rate if dilation is None else dilation, n)
    padding = padding.lower()
    data_format = config.standardize_data_format(data_format)
    channels, within = inputs.shape[-1 if data_format == "channels_last" else 1], kernel.shape[-1]
    if channels not in (None, within):
        raise ValueError(f"A transposed kernel of shape {kernel.shape} takes {within} channels, got {inputs.shape}.")
    axes = list(zip(kernel.shape[:-2], steps, spread, extras, strict=True))

    def made(sizes: Any) -> Any:
        return [
            None if size is None else transposed_length(size, window, step, apart, padding, extra)
            for size, (window, step, apart, extra) in zip(sizes, axes, strict=True)
        ]

    return _convolved(inputs, made, kernel.shape[-2], data_format)


@differentiable(shape=_transposed_shape)
def transposed_convolution(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Any,
    padding: str,
    output_padding: Any,
    data_format: str,
    dilation: Any,
    activation: str | None = None,
) -> Any:
    """The gradient of a convolution at its input: what that has for input is the output here, and the reverse."""
    x = channels_last(as_type(x, kernel.dtype), data_format)
    n = x.ndim - 2
    steps, spread = per_axis(strides, n), per_axis(dilation, n)
    lengths, pads = [], []
    for length, size, step, apart, extra in zip(
        x.shape[1:-1], kernel.shape[:-2], steps, spread, output_padding, strict=True
    ):
        lengths.append(transposed_length(length, size, step, apart, padding, extra))
        cut = max((length - 1) * step + apart * (size - 1) + 1 - lengths[-1], 0)
        pads.append((cut // 2, cut - cut // 2))
    settings: dict[str, Any] = {"strides": steps, "padding": tuple(pads), "dilation": spread}
    y = k.conv_input_grad(x, kernel, (x.shape[0], *lengths, kernel.shape[-2]), **settings)
    if bias is not None:
        k.xp.add(y, bias, out=y)
    y = k.activate(y, activation, out=y)

    def vjp(g: Any, needs: Any) -> Any:
        g, gb = k.epilogue_grad(channels_last(g, data_format), y, activation, needs[2], needs.out[2])
        gx = restore_channels(k.conv(g, kernel, None, **settings), data_format) if needs[0] else None
        gw = k.conv_kernel_grad(g, x, kernel.shape, out=needs.out[1], **settings) if needs[1] else None
        return gx, gw, gb

    return restore_channels(y, data_format), vjp


@composite(inputs=2, shape=_transposed_shape)
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> Any:
    """Transposed convolution of `inputs` (n, *spatial, channels) with `kernel` (*sizes, filters, channels).

    A length n becomes `n * stride` for `"same"` and `(n - 1) * stride + max(window, stride)` for `"valid"` padding, a
    window being `dilation_rate * (size - 1) + 1` long; with `output_padding`, less than the stride, it becomes
    `(n - 1) * stride + window + output_padding`, without `2 * (window // 2)` of it for `"same"`.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    Raises:
        ValueError: for another padding, and where `output_padding` is not less than the stride.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.conv_transpose(np.ones((1, 5, 2)), np.ones((3, 4, 2)), strides=2).shape
    (1, 11, 4)
    """
    padding = str(padding).lower()
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
    n = len(inputs.shape) - 2
    extras = (None,) * n if output_padding is None else per_axis(output_padding, n)
    if any(extra is not None and extra >= step for extra, step in zip(extras, per_axis(strides, n), strict=True)):
        raise ValueError(
            f"conv_transpose needs an output_padding that is less than the strides, got {output_padding} and {strides}."
        )
    settings: Any = {"strides": strides, "padding": padding, "output_padding": extras, "dilation": dilation_rate}
    settings["data_format"] = config.standardize_data_format(data_format)
    return transposed_convolution(inputs, kernel, None, **settings)
