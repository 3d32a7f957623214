"""Neural-network operations: activations, dense, convolution, pooling, normalisation, recurrence, cross-entropies.

The names in `__all__` are Keras's.  The coarse primitives that layers are made of (`dense_layer`, `convolution`,
`lstm_sequence`, ...) stand beside them: one tape node each, with bias and activation inside the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor, TooSmall
from minikeras.autodiff.tape import composite, differentiable, is_recording, operation, raw
from minikeras.autodiff.tensor import Tensor
from minikeras.ops import numpy as fine
from minikeras.ops.common import as_array, as_float, axes_of, place_of
from minikeras.tracebacks import end_at_users_line

__all__ = [
    "average_pool",
    "batch_normalization",
    "binary_crossentropy",
    "categorical_crossentropy",
    "celu",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "layer_normalization",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "max_pool",
    "moments",
    "multi_hot",
    "one_hot",
    "relu",
    "relu6",
    "selu",
    "separable_conv",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "sparse_categorical_crossentropy",
    "swish",
]

# ---------------------------------------------------------------- activations


@differentiable
def activation(x: Any, *, name: str) -> Any:
    """An elementwise activation of `kernels.FUSED_ACTIVATIONS` by name."""
    x = as_float(x)
    y = k.activate(x, name)
    return y, lambda g, needs: (k.activate_grad(g, y, name),)


activation.graph_name = lambda settings: {"exponential": "exp"}.get(settings["name"], settings["name"])  # type: ignore[attr-defined]


def relu(x: Any) -> Any:
    """`max(x, 0)`."""
    return activation(x, name="relu")


def relu6(x: Any) -> Any:
    """`min(max(x, 0), 6)`."""
    return activation(x, name="relu6")


def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`."""
    y = activation(x, name="sigmoid")
    if isinstance(y, Tensor) and isinstance(x, Tensor):
        y.logits = ("sigmoid", x)
    return y


def softplus(x: Any) -> Any:
    """`log(1 + exp(x))`."""
    return activation(x, name="softplus")


def softsign(x: Any) -> Any:
    """`x / (1 + |x|)`."""
    return activation(x, name="softsign")


def selu(x: Any) -> Any:
    """Scaled exponential linear unit (Klambauer et al. 2017)."""
    return activation(x, name="selu")


def hard_sigmoid(x: Any) -> Any:
    """`clip(x / 6 + 1/2, 0, 1)`."""
    return activation(x, name="hard_sigmoid")


def _require_number(function: str, **setting: Any) -> None:
    """Refuse a tensor as a setting: its gradient would be lost."""
    for name, value in setting.items():
        if isinstance(value, (Tensor, KerasTensor)):
            raise TypeError(
                f"{function} takes a number as {name}, got a tensor of shape {tuple(value.shape)}, whose gradient "
                "would be lost; for a slope that is learned use layers.PReLU or compose it of minikeras.ops."
            )


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """`x` where positive, else `negative_slope * x`."""
    _require_number("leaky_relu", negative_slope=negative_slope)
    if negative_slope == 0.2:
        return activation(x, name="leaky_relu")
    return piecewise_relu(x, negative_slope=negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x) - 1)`."""
    _require_number("elu", alpha=alpha)
    return activation(x, name="elu") if alpha == 1.0 else _elu(x, alpha=float(alpha))


@differentiable
def _elu(x: Any, *, alpha: float) -> Any:
    x = as_float(x)
    y = k.xp.where(x > 0, x, alpha * k.xp.expm1(k.xp.minimum(x, 0)))
    return y, lambda g, needs: (g * k.xp.where(x > 0, k.xp.ones_like(x), y + alpha),)


@differentiable(inputs=1)
def celu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x / alpha) - 1)`."""
    _require_number("celu", alpha=alpha)
    x, alpha = as_float(x), float(alpha)
    y = k.xp.where(x > 0, x, alpha * k.xp.expm1(k.xp.minimum(x, 0) / alpha))
    return y, lambda g, needs: (g * k.xp.where(x > 0, k.xp.ones_like(x), y / alpha + 1),)


@differentiable
def piecewise_relu(
    x: Any, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """`max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below."""
    x = as_float(x)
    y = k.piecewise_relu(x, negative_slope, max_value, threshold)
    return y, lambda g, needs: (k.piecewise_relu_grad(g, x, negative_slope, max_value, threshold),)


piecewise_relu.graph_name = "re_lu"  # type: ignore[attr-defined]


@differentiable
def silu(x: Any) -> Any:
    """`x * sigmoid(x)`."""
    x = as_float(x)
    s = k.activate(x, "sigmoid")
    return x * s, lambda g, needs: (g * (s * (1 + x * (1 - s))),)


swish = silu


@differentiable
def _gelu(x: Any, *, approximate: bool) -> Any:
    x = as_float(x)
    if approximate:
        scale = math.sqrt(2 / math.pi)
        t = k.xp.tanh(scale * (x + 0.044715 * x * x * x))
        slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (scale * (1 + 3 * 0.044715 * x * x))
        return 0.5 * x * (1 + t), lambda g, needs: (g * slope,)
    cumulative = 0.5 * (1 + k.erf(x * math.sqrt(0.5)))
    density = k.xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return x * cumulative, lambda g, needs: (g * (cumulative + x * density),)


def gelu(x: Any, approximate: bool = True) -> Any:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016); the tanh form where `approximate`."""
    try:
        return _gelu(x, approximate=approximate)
    except BaseException as error:
        end_at_users_line(error)
        raise


@differentiable
def hard_silu(x: Any) -> Any:
    """`x * hard_sigmoid(x)`."""
    x = as_float(x)
    s = k.activate(x, "hard_sigmoid")
    return x * s, lambda g, needs: (g * (s + x * k.activate_grad(k.xp.ones_like(x), s, "hard_sigmoid")),)


hard_swish = hard_silu


@differentiable
def log_sigmoid(x: Any) -> Any:
    """`log(sigmoid(x))`, without overflow."""
    x = as_float(x)
    y = -k.activate(-x, "softplus")
    return y, lambda g, needs: (g * -k.xp.expm1(y),)


@differentiable
def _softmax(x: Any, *, axis: Any) -> Any:
    y = k.softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (k.softmax_grad(g, y, axis=axis),)


def softmax(x: Any, axis: Any = -1) -> Any:
    """`exp(x) / sum(exp(x))` along `axis` (an axis or several)."""
    try:
        y = _softmax(x, axis=axes_of(axis))
        if isinstance(y, Tensor) and isinstance(x, Tensor) and axis in (-1, x.ndim - 1):
            y.logits = ("softmax", x)
        return y
    except BaseException as error:
        end_at_users_line(error)
        raise


@differentiable
def _log_softmax(x: Any, *, axis: Any) -> Any:
    y = k.log_softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (g - k.xp.exp(y) * g.sum(axis=axis, keepdims=True),)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """`log(softmax(x))` along `axis` (an axis or several), without overflow."""
    try:
        return _log_softmax(x, axis=axes_of(axis))
    except BaseException as error:
        end_at_users_line(error)
        raise


# ---------------------------------------------------------------- dense, embedding, dropout


@differentiable
def dense_layer(x: Any, w: Any, b: Any = None, *, activation: str | None = None) -> Any:
    """`activation(x @ w + b)` over the last axis of `x`, any leading axes."""
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # -1 is no size beside a 0
    if rows.dtype != w.dtype:
        rows = rows.astype(w.dtype)
    y = k.dense(rows, w, b, activation)

    def vjp(g: Any, needs: Any) -> Any:
        g, gb = k.epilogue_grad(g.reshape(y.shape), y, activation, needs[2], needs.out[2])
        gx = k.gemm(g, w, tb=True).reshape(x.shape) if needs[0] else None
        return gx, (k.gemm(rows, g, ta=True, out=needs.out[1]) if needs[1] else None), gb

    return (y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[-1])), vjp


@differentiable
def embedding_lookup(table: Any, indices: Any) -> Any:
    """Rows of `table` by integer `indices` of any shape."""
    if indices.dtype.kind not in "iu":
        with np.errstate(invalid="ignore"):  # NaN and infinity are found by the comparison
            given, indices = indices, indices.astype("int32")
        if k.xp is np and given.dtype.kind == "f" and (given != indices).any():  # a GPU would have to be waited for
            wrong = given[given != indices][0]
            raise ValueError(
                f"An embedding takes whole numbers, got {wrong!s}; round the inputs or number their values."
            )

    def vjp(g: Any, needs: Any) -> Any:
        return k.embedding_grad(g, indices, table.shape, out=needs.out[0]), None

    return k.embedding(table, indices), vjp


@differentiable
def masked_scale(x: Any, *, mask: Any, scale: float) -> Any:
    """`x * mask * scale` with a 0/1 mask that broadcasts: dropout."""
    y = k.masked_scale(x, mask, scale)
    return y, lambda g, needs: (k.masked_scale(g, mask, scale),)


# ---------------------------------------------------------------- convolution and pooling


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    if type(value) is tuple:
        return value
    return (int(value),) * n if isinstance(value, (int, np.integer)) else tuple(value)


def explicit_padding(
    padding: Any, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(before, after) per spatial axis for `"valid"`, `"same"` or `"causal"`."""
    if padding not in ("valid", "same", "causal"):
        raise ValueError(f"padding must be 'valid', 'same' or 'causal', got {padding!r}.")
    return _paddings(padding, sizes, kernel, strides, dilation)


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


def _channels_last(x: Any, data_format: str) -> Any:
    return x if data_format == "channels_last" else k.xp.ascontiguousarray(k.xp.moveaxis(x, 1, -1))


def _restore_channels(y: Any, data_format: str) -> Any:
    return y if data_format == "channels_last" else k.xp.ascontiguousarray(k.xp.moveaxis(y, -1, 1))


def _convolution(depthwise: bool) -> Callable:
    """The convolution primitive: `depthwise` chooses the kernels it runs on."""

    @differentiable
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
        x = _channels_last(x, data_format)
        if x.dtype != kernel.dtype:
            x = x.astype(kernel.dtype)
        n = x.ndim - 2
        steps, spread = _tuple(strides, n), _tuple(dilation, n)
        settings: dict[str, Any] = {
            "strides": steps,
            "padding": explicit_padding(padding, x.shape[1:-1], kernel.shape[:-2], steps, spread),
            "dilation": spread,
        }
        if not depthwise:
            settings["groups"] = groups
        y = forward(x, kernel, bias, activation=activation, **settings)

        def vjp(g: Any, needs: Any) -> Any:
            g = _channels_last(g, data_format)
            g, gb = k.epilogue_grad(g, y, activation, needs[2], needs.out[2])
            gx = gw = None
            if needs[0]:
                gx = _restore_channels(input_grad(g, kernel, x.shape, **settings), data_format)
            if needs[1]:
                gw = kernel_grad(x, g, kernel.shape, out=needs.out[1], **settings)
            return gx, gw, gb

        return _restore_channels(y, data_format), vjp

    return primitive


convolution = _convolution(depthwise=False)
depthwise_convolution = _convolution(depthwise=True)


@composite
def conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    """Convolution (correlation) of `inputs` (n, *spatial, channels) and `kernel` (*sizes, channels / groups, filters).

    Groups follow from the kernel's shape.  `padding` is `"valid"`, `"same"` or (1-d) `"causal"`.
    """
    data_format = config.standardize_data_format(data_format)
    channels = inputs.shape[-1 if data_format == "channels_last" else 1]
    return convolution(
        inputs,
        kernel,
        None,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation=dilation_rate,
        groups=channels // kernel.shape[-2],
    )


@composite
def depthwise_conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> Any:
    """Each channel of `inputs` with its own `kernel` (*sizes, channels, multiplier)."""
    return depthwise_convolution(
        inputs,
        kernel,
        None,
        strides=strides,
        padding=padding,
        data_format=config.standardize_data_format(data_format),
        dilation=dilation_rate,
    )


@composite
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> Any:
    """`depthwise_conv`, then a convolution with `pointwise_kernel` (1, ..., channels * multiplier, filters)."""
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


@differentiable
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
    x = _channels_last(_as_kernel(x, kernel), data_format)
    n = x.ndim - 2
    steps, spread = _tuple(strides, n), _tuple(dilation, n)
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
        g, gb = k.epilogue_grad(_channels_last(g, data_format), y, activation, needs[2], needs.out[2])
        gx = _restore_channels(k.conv(g, kernel, None, **settings), data_format) if needs[0] else None
        gw = k.conv_kernel_grad(g, x, kernel.shape, out=needs.out[1], **settings) if needs[1] else None
        return gx, gw, gb

    return _restore_channels(y, data_format), vjp


@composite
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

    Raises:
        ValueError: for another padding, and where `output_padding` is not less than the stride.
    """
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
    n = len(inputs.shape) - 2
    extras = (None,) * n if output_padding is None else _tuple(output_padding, n)
    if any(extra is not None and extra >= step for extra, step in zip(extras, _tuple(strides, n), strict=True)):
        raise ValueError(
            f"conv_transpose needs an output_padding that is less than the strides, got {output_padding} and {strides}."
        )
    return transposed_convolution(
        inputs,
        kernel,
        None,
        strides=strides,
        padding=padding,
        output_padding=extras,
        data_format=config.standardize_data_format(data_format),
        dilation=dilation_rate,
    )


@differentiable
def _max_pool(x: Any, *, size: Any, strides: Any, padding: str, data_format: str) -> Any:
    x = _channels_last(x, data_format)
    settings = _pool_settings(x, size, strides, padding)
    y, index = k.max_pool(x, with_index=is_recording(), **settings)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.max_pool_grad(_channels_last(g, data_format), index, x.shape, **settings)
        return (_restore_channels(g, data_format),)

    return _restore_channels(y, data_format), vjp


@differentiable
def _average_pool(x: Any, *, size: Any, strides: Any, padding: str, data_format: str) -> Any:
    x = _channels_last(x, data_format)
    settings = _pool_settings(x, size, strides, padding)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.average_pool_grad(_channels_last(g, data_format), x.shape, **settings)
        return (_restore_channels(g, data_format),)

    return _restore_channels(k.average_pool(x, **settings), data_format), vjp


def _pool_settings(x: Any, size: Any, strides: Any, padding: str) -> dict[str, Any]:
    n = x.ndim - 2
    size = _tuple(size, n)
    strides = size if strides is None else _tuple(strides, n)
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


# ---------------------------------------------------------------- normalisation


@differentiable
def batch_norm_training(x: Any, gamma: Any, beta: Any, *, epsilon: float, mask: Any = None) -> Any:
    """Normalise over all axes but the last with the batch's own statistics: (y, mean, biased variance).

    Gradients flow through `y` only; mean and variance are for the moving averages.
    """
    rows = x.reshape(-1, x.shape[-1])
    weights = None if mask is None else mask.reshape(-1).astype(x.dtype)
    y, mean, variance, residual = k.batch_norm(rows, gamma, beta, epsilon, mask=weights)

    def vjp(g: Any, needs: Any) -> Any:
        gx, ggamma, gbeta = k.batch_norm_grad(g[0].reshape(rows.shape), residual, needs[0], needs.out[1:3])
        return (None if gx is None else gx.reshape(x.shape)), ggamma, gbeta

    return (y.reshape(x.shape), mean, variance), vjp


@differentiable
def layer_norm(x: Any, gamma: Any, beta: Any, *, epsilon: float, axes: int = 1) -> Any:
    """Normalise each sample over its last `axes` axes, then scale by `gamma` and shift by `beta`."""
    rows = x.reshape(-1, math.prod(x.shape[x.ndim - axes :]))
    flat = [None if p is None else p.reshape(-1) for p in (gamma, beta)]
    y, residual = k.layer_norm(rows, *flat, epsilon)

    def vjp(g: Any, needs: Any) -> Any:
        outs = tuple(None if out is None else out.reshape(-1) for out in needs.out[1:3])
        gx, ggamma, gbeta = k.layer_norm_grad(g.reshape(rows.shape), residual, needs[0], outs)
        shaped = [None if p is None else d.reshape(p.shape) for p, d in ((gamma, ggamma), (beta, gbeta))]
        return (None if gx is None else gx.reshape(x.shape)), *shaped

    return y.reshape(x.shape), vjp


@composite
def layer_normalization(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: Any = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Any:
    """Layer normalisation over an axis or several (Ba et al. 2016); `gamma` and `beta` have the shape of these axes.

    With `rms_scaling=True` (out of use, but in files) the mean is not taken off and `beta` does not count.

    Raises:
        TypeError: for any other keyword.
    """
    rms_scaling = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"layer_normalization got unknown arguments {sorted(kwargs)}; check their spelling.")
    epsilon = config.epsilon() if epsilon is None else epsilon
    ndim = len(x.shape)
    axes = sorted(place_of(i, ndim) for i in (axis if isinstance(axis, (list, tuple)) else [axis]))
    last = list(range(ndim - len(axes), ndim))
    if rms_scaling:
        x_hat = x * fine.rsqrt(fine.var(x, axis=tuple(axes), keepdims=True) + epsilon)
        if gamma is None:
            return x_hat
        return x_hat * fine.reshape(gamma, [x.shape[i] if i in axes else 1 for i in range(ndim)])
    if axes == last:
        return layer_norm(x, gamma, beta, epsilon=epsilon, axes=len(axes))
    return fine.moveaxis(
        layer_norm(fine.moveaxis(x, axes, last), gamma, beta, epsilon=epsilon, axes=len(axes)), last, axes
    )


@differentiable
def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
    """`x * scale + shift` along the last axis."""
    rows = x.reshape(-1, x.shape[-1])
    y = k.scale_shift(rows, scale, shift).reshape(x.shape)

    def vjp(g: Any, needs: Any) -> Any:
        flat = g.reshape(rows.shape)
        return (
            g * scale if needs[0] else None,
            k.total(flat * rows, 0) if needs[1] else None,
            k.total(flat, 0) if needs[2] else None,
        )

    return y, vjp


layer_normalization.graph_name = "layer_norm"  # type: ignore[attr-defined]


@composite
def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset` along `axis`, with the statistics given."""
    factor = fine.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * scale
    shift = -1.0 * (mean * factor) if offset is None else offset - mean * factor
    if axis in (-1, len(x.shape) - 1):
        return scale_shift(x, factor, shift)
    return fine.moveaxis(scale_shift(fine.moveaxis(x, axis, -1), factor, shift), -1, axis)


batch_normalization.graph_name = "batch_norm"  # type: ignore[attr-defined]


@composite
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[Any, Any]:
    """Mean and biased variance over `axes`."""
    return fine.mean(x, axis=axes, keepdims=keepdims), fine.var(x, axis=axes, keepdims=keepdims)


# ---------------------------------------------------------------- recurrence


def _as_kernel(x: Any, kernel: Any) -> Any:
    return x if x.dtype == kernel.dtype else x.astype(kernel.dtype)


@differentiable
def simple_rnn_sequence(x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any) -> Any:
    """A whole SimpleRNN sequence: (outputs (n, t, u), last h); the settings are those of the kernel `simple_rnn`."""
    outputs, h, residual = k.simple_rnn(
        _as_kernel(x, kernel), h0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h), lambda g, needs: k.simple_rnn_grad(*g, residual, needs[0], needs.out[2:5])


@differentiable
def lstm_sequence(
    x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any
) -> Any:
    """A whole LSTM sequence: (outputs (n, t, u), last h, last c); the settings are those of the kernel `lstm`."""
    outputs, h, c, residual = k.lstm(
        _as_kernel(x, kernel), h0, c0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h, c), lambda g, needs: k.lstm_grad(*g, residual, needs[0], needs.out[3:6])


@differentiable
def gru_sequence(x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None, **settings: Any) -> Any:
    """A whole GRU sequence: (outputs (n, t, u), last h); the settings are those of the kernel `gru`."""
    outputs, h, residual = k.gru(
        _as_kernel(x, kernel), h0, kernel, recurrent_kernel, bias, with_residual=is_recording(), **settings
    )
    return (outputs, h), lambda g, needs: k.gru_grad(*g, residual, needs[0], needs.out[2:5])


# ---------------------------------------------------------------- classes and cross-entropies


@operation(inputs=1)
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """Integers to vectors with a single 1; an integer out of range gives zeros."""
    return _hits(as_array(x), num_classes, axis).astype(dtype or config.floatx())


@operation(inputs=1)
def multi_hot(inputs: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Any:
    """Sets of integers to vectors with a 1 for each member: the maximum of `one_hot` over axis 1, of a vector 0."""
    return _hits(inputs, num_classes, axis).any(axis=min(inputs.ndim - 1, 1)).astype(dtype or config.floatx())


def _hits(x: Any, num_classes: int, axis: int) -> Any:
    return k.xp.moveaxis(x[..., None] == k.xp.arange(num_classes), -1, axis)


@differentiable
def _cross_entropy(logits: Any, target: Any, *, probabilities: Any = None) -> Any:
    y = k.cross_entropy(logits, target, probabilities)

    def vjp(g: Any, needs: Any) -> Any:
        return (
            k.cross_entropy_grad(g, logits, target, probabilities) if needs[0] else None,
            -g[..., None] * k.log_softmax(logits) if needs[1] else None,
        )

    return y, vjp


@differentiable
def _sparse_cross_entropy(logits: Any, labels: Any, *, probabilities: Any = None) -> Any:
    y = k.sparse_cross_entropy(logits, labels, probabilities)
    return y, lambda g, needs: (k.sparse_cross_entropy_grad(g, logits, labels, probabilities), None)


@differentiable
def _binary_cross_entropy(logits: Any, target: Any) -> Any:
    def vjp(g: Any, needs: Any) -> Any:
        return k.binary_cross_entropy_grad(g, logits, target), -g * logits if needs[1] else None

    return k.binary_cross_entropy(logits, target), vjp


def _logits_behind(output: Any, kind: str) -> Any:
    """What `output` was computed from by a softmax or sigmoid, or None."""
    if isinstance(output, Tensor) and output.logits is not None and output.logits[0] == kind:
        return output.logits[1]
    return None


@composite
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of class weights `target` and predictions of the same shape, without the class axis.

    Probabilities are divided by their sum and clipped to [epsilon, 1 - epsilon]; where they come straight out of a
    softmax, its logits are used instead, which is exact and stable.
    """
    if target.shape != output.shape and (
        len(target.shape) != len(output.shape)
        or any(a is not None and b is not None and a != b for a, b in zip(target.shape, output.shape, strict=True))
    ):
        raise ValueError(
            f"categorical_crossentropy needs targets and predictions of one shape, got {tuple(target.shape)} and "
            f"{tuple(output.shape)}; integer labels go with sparse_categorical_crossentropy."
        )
    if axis not in (-1, len(output.shape) - 1):
        target, output = fine.moveaxis(target, axis, -1), fine.moveaxis(output, axis, -1)
    if from_logits:
        return _cross_entropy(output, target)
    logits = _logits_behind(output, "softmax")
    if logits is not None:
        return _cross_entropy(logits, target, probabilities=output.data)
    output = output / fine.sum(output, axis=-1, keepdims=True)
    output = fine.clip(output, config.epsilon(), 1 - config.epsilon())
    return fine.negative(fine.sum(fine.multiply(target, fine.log(output)), axis=-1))


@composite
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of integer labels `target` and predictions with one more axis, the classes.

    Raises:
        ValueError: a label is out of range or no whole number (CPU; on a GPU its cross-entropy is NaN and its gradient
            zero).
    """
    if len(target.shape) == len(output.shape) and target.shape[-1] == 1:
        target = fine.squeeze(target, -1)
    if axis not in (-1, len(output.shape) - 1):
        output = fine.moveaxis(output, axis, -1)
    if tuple(target.shape) != tuple(output.shape[:-1]):
        raise ValueError(
            f"sparse_categorical_crossentropy needs labels of the predictions' shape without the classes, got labels "
            f"{tuple(target.shape)} and predictions {tuple(output.shape)}; one-hot targets go with "
            "categorical_crossentropy."
        )
    labels = raw(target)
    if k.active_device() == "cpu":
        if labels.dtype.kind not in "iu":
            labels = whole_labels(labels)
        check_labels(labels, output.shape[-1])
        return _sparse_crossentropy_of(labels, output, from_logits)
    # on the GPU reading a label back would wait for the stream
    named = k.xp.clip(labels, 0, output.shape[-1] - 1)
    if named.dtype.kind not in "iu":
        named = named.astype("int32")
    return fine.where(labels == named, _sparse_crossentropy_of(named, output, from_logits), float("nan"))


def _sparse_crossentropy_of(labels: Any, output: Any, from_logits: bool) -> Any:
    if from_logits:
        return _sparse_cross_entropy(output, labels)
    logits = _logits_behind(output, "softmax")
    if logits is not None:
        return _sparse_cross_entropy(logits, labels, probabilities=output.data)
    output = output / fine.sum(output, axis=-1, keepdims=True)
    output = fine.clip(output, config.epsilon(), 1 - config.epsilon())
    return fine.negative(fine.squeeze(fine.take_along_axis(fine.log(output), labels[..., None], axis=-1), -1))


def whole_labels(labels: Any) -> Any:
    """Labels on the host as integers.

    Raises:
        ValueError: a label is no whole number.
    """
    named = labels.astype("int64")  # NaN and infinity become some integer
    if not (named == labels).all():
        wrong = labels[named != labels][0]
        raise ValueError(
            f"A label must be the whole number of its class, got {wrong}; probabilities of the classes go with "
            "categorical_crossentropy."
        )
    return named


def check_labels(labels: Any, classes: int | None) -> None:
    """Refuse class numbers that are not in [0, classes), or no whole numbers; None is any number of classes.

    Raises:
        ValueError: a label is out of range or has a fraction.
    """
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        wrong = labels[labels != np.floor(labels)][0]
        raise ValueError(
            f"A label must be the whole number of its class, got {wrong}; probabilities of the classes go with "
            "categorical_crossentropy."
        )
    if classes is None:
        if labels.size and labels.min() < 0:
            raise ValueError(f"A label must be the number of its class, counted from 0, got {labels.min()}.")
        return
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"A label must lie between 0 and {classes - 1} for {classes} classes, got labels between "
            f"{labels.min()} and {labels.max()}."
        )


@composite
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Elementwise cross-entropy of targets in [0, 1] and predicted probabilities (or logits) of the same shape."""
    if tuple(target.shape) != tuple(output.shape) and not isinstance(output, KerasTensor):
        raise ValueError(
            f"binary_crossentropy needs targets and predictions of one shape, got {tuple(target.shape)} and "
            f"{tuple(output.shape)}."
        )
    logits = output if from_logits else _logits_behind(output, "sigmoid")
    if logits is not None:
        return _binary_cross_entropy(logits, target)
    output = fine.clip(output, config.epsilon(), 1 - config.epsilon())
    return -(target * fine.log(output) + (1 - target) * fine.log(1 - output))
