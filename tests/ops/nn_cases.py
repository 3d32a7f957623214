"""Calls of the neural-network operations, one a line, as `op_cases` has those of the others.

Each has its reference beside it: the formula in plain NumPy, windows taken one by one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ops.op_cases import Case, X, case, values

from minikeras import kernels as k

# ---------------------------------------------------------------- references


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any, axis: Any = -1) -> Any:
    axis = tuple(axis) if isinstance(axis, list) else axis
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


SELU = 1.0507009873554805, 1.6732632423543772  # scale, alpha

# name: (formula, interval of the inputs)
ACTIVATIONS: dict[str, tuple[Callable, float, float]] = {
    "elu": (lambda x: np.where(x > 0, x, np.exp(x) - 1), -3, 3),
    "exponential": (np.exp, -2, 2),
    "hard_sigmoid": (lambda x: np.clip(x / 6 + 0.5, 0, 1), -5, 5),
    "keras2_hard_sigmoid": (lambda x: np.clip(0.2 * x + 0.5, 0, 1), -5, 5),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), -2, 2),
    "log_sigmoid": (lambda x: np.log(sigmoid(x)), -4, 4),
    "relu": (lambda x: np.where(x > 0, x, 0), -2, 2),
    "relu6": (lambda x: np.clip(x, 0, 6), -3, 9),
    "selu": (lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * (np.exp(x) - 1)), -3, 3),
    "sigmoid": (sigmoid, -4, 4),
    "softplus": (lambda x: np.log(1 + np.exp(x)), -4, 4),
    "softsign": (lambda x: x / (1 + np.abs(x)), -3, 3),
    "tanh": (np.tanh, -3, 3),
}


def activated(x: Any, name: str | None) -> Any:
    return x if name is None else ACTIVATIONS[name][0](x)


def _sparsemax(x: Any) -> Any:
    """The projection onto the simplex, its threshold found by halving an interval."""
    low, high = x.min(axis=-1, keepdims=True) - 1, x.max(axis=-1, keepdims=True)
    for _ in range(60):
        middle = (low + high) / 2
        too_much = np.maximum(x - middle, 0).sum(axis=-1, keepdims=True) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    return np.maximum(x - low, 0)


def piecewise_relu(x: Any, negative_slope: float = 0.0, max_value: Any = None, threshold: float = 0.0) -> Any:
    y = np.where(x > threshold, x, negative_slope * (x - threshold))
    return y if max_value is None else np.minimum(y, max_value)


def gelu(x: Any, approximate: bool = True) -> Any:
    if approximate:
        return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[float])(x)


def dense_layer(x: Any, w: Any, b: Any = None, activation: str | None = None) -> Any:
    return activated(np.einsum("...i,io->...o", x, w) + (0 if b is None else b), activation)


def _tuple(value: Any, n: int) -> tuple:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _windows(
    x: Any, sizes: Any, strides: Any, padding: str, data_format: str | None, dilation: Any, fill: float
) -> tuple[Any, Callable]:
    """(every window (n, *outputs, *sizes, channels) of the padded input, how to put the channels where they were)."""
    first = data_format == "channels_first"
    x = np.moveaxis(x, 1, -1) if first else x
    n = len(sizes)
    steps, spread = _tuple(strides, n), _tuple(dilation, n)
    pads, taken = [], []
    for length, size, step, apart in zip(x.shape[1:-1], sizes, steps, spread, strict=True):
        reach = apart * (size - 1) + 1
        total = {
            "valid": 0,
            "causal": reach - 1,
            "same": max((math.ceil(length / step) - 1) * step + reach - length, 0),
        }
        before = total[padding] // 2 if padding == "same" else total[padding]
        pads.append((before, total[padding] - before))
        starts = range(0, length + total[padding] - reach + 1, step)
        taken.append(
            np.array([[start + apart * tap for tap in range(size)] for start in starts], int).reshape(-1, size)
        )
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    y = np.empty((len(x), *map(len, taken), *sizes, x.shape[-1]))
    for outputs in itertools.product(*(range(len(one)) for one in taken)):
        places = [one[o] for one, o in zip(taken, outputs, strict=True)]
        y[(slice(None), *outputs)] = padded[(slice(None), *np.ix_(*places))]
    return y, lambda y: np.moveaxis(y, -1, 1) if first else y


def convolution(
    x: Any,
    kernel: Any,
    bias: Any = None,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Any:
    windows, restore = _windows(x, kernel.shape[:-2], strides, padding, data_format, dilation, 0)
    width, filters = kernel.shape[-2], kernel.shape[-1] // groups
    axes = list(range(-kernel.ndim + 1, 0)), list(range(kernel.ndim - 1))
    parts = [
        np.tensordot(windows[..., g * width : (g + 1) * width], kernel[..., g * filters : (g + 1) * filters], axes)
        for g in range(groups)
    ]
    return restore(activated(np.concatenate(parts, -1) + (0 if bias is None else bias), activation))


def depthwise_convolution(x: Any, kernel: Any, bias: Any = None, activation: str | None = None, **settings: Any) -> Any:
    """A convolution in which a channel's filters are zero for all the other channels."""
    *sizes, channels, multiplier = kernel.shape
    full = np.zeros((*sizes, channels, channels, multiplier))
    full[..., range(channels), range(channels), :] = kernel
    full = full.reshape(*sizes, channels, channels * multiplier)
    return convolution(x, full, bias, activation=activation, **settings)


def conv(x: Any, kernel: Any, dilation_rate: Any = 1, data_format: str | None = None, **settings: Any) -> Any:
    groups = x.shape[1 if data_format == "channels_first" else -1] // kernel.shape[-2]
    return convolution(x, kernel, data_format=data_format, dilation=dilation_rate, groups=groups, **settings)


def depthwise_conv(x: Any, kernel: Any, dilation_rate: Any = 1, **settings: Any) -> Any:
    return depthwise_convolution(x, kernel, dilation=dilation_rate, **settings)


def separable_conv(x: Any, depthwise_kernel: Any, pointwise_kernel: Any, **settings: Any) -> Any:
    data_format = settings.get("data_format")
    return conv(depthwise_conv(x, depthwise_kernel, **settings), pointwise_kernel, data_format=data_format)


def conv_transpose(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Any:
    """Every input value times the kernel, added up where it falls; then the ends are cut off or zeros appended."""
    first = data_format == "channels_first"
    x = np.moveaxis(x, 1, -1) if first else x
    sizes, n = kernel.shape[:-2], x.ndim - 2
    steps, spread = _tuple(strides, n), _tuple(dilation_rate, n)
    extra = (None,) * n if output_padding is None else _tuple(output_padding, n)
    reach = [d * (size - 1) + 1 for d, size in zip(spread, sizes, strict=True)]
    y = np.zeros(
        (len(x), *((m - 1) * s + r for m, s, r in zip(x.shape[1:-1], steps, reach, strict=True)), kernel.shape[-2])
    )
    for place in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*sizes):
            to = [p * s + t * d for p, s, t, d in zip(place, steps, tap, spread, strict=True)]
            y[(slice(None), *to)] += x[(slice(None), *place)] @ kernel[tap].T
    for axis in range(n):
        if extra[axis] is None:
            stretched = x.shape[axis + 1] * steps[axis]
            length = stretched if padding == "same" else max(stretched, y.shape[axis + 1])
        else:
            length = y.shape[axis + 1] + extra[axis] - (reach[axis] // 2 * 2 if padding == "same" else 0)
        cut = max(y.shape[axis + 1] - length, 0) // 2
        y = np.moveaxis(y, axis + 1, 0)[cut : cut + length]
        y = np.moveaxis(np.concatenate([y, np.zeros((length - len(y), *y.shape[1:]))]), 0, axis + 1)
    return np.moveaxis(y, -1, 1) if first else y


def transposed_convolution(
    x: Any, kernel: Any, bias: Any, dilation: Any, activation: str | None = None, **settings: Any
) -> Any:
    return activated(conv_transpose(x, kernel, dilation_rate=dilation, **settings) + bias, activation)


def _pool(reduce: Callable, fill: float) -> Callable:
    def pool(x: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: Any = None) -> Any:
        n = x.ndim - 2
        sizes = _tuple(pool_size, n)
        windows, restore = _windows(x, sizes, strides or sizes, padding, data_format, 1, fill)
        return restore(reduce(windows, axis=tuple(range(n + 1, 2 * n + 1))))

    return pool


max_pool, average_pool = _pool(np.max, -math.inf), _pool(np.nanmean, math.nan)


def batch_norm_training(x: Any, gamma: Any, beta: Any, epsilon: float, mask: Any = None) -> Any:
    rows = x.reshape(-1, x.shape[-1])
    weights = np.ones(len(rows)) if mask is None else mask.reshape(-1)
    mean = np.average(rows, axis=0, weights=weights)
    variance = np.average((rows - mean) ** 2, axis=0, weights=weights)
    y = (x - mean) / np.sqrt(variance + epsilon)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta), mean, variance


def layer_normalization(x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float = 1e-7) -> Any:
    axes = tuple(axis) if isinstance(axis, list) else (axis,)
    shape = [x.shape[i] if i in axes or i - x.ndim in axes else 1 for i in range(x.ndim)]
    y = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
    return y * (1 if gamma is None else gamma.reshape(shape)) + (0 if beta is None else beta.reshape(shape))


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, axes: int = 1) -> Any:
    return layer_normalization(x, gamma, beta, axis=list(range(-axes, 0)), epsilon=epsilon)


def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float = 1e-7) -> Any:
    axes = tuple(axis) if isinstance(axis, list) else (axis,)
    shape = [x.shape[i] if i in axes or i - x.ndim in axes else 1 for i in range(x.ndim)]
    y = x / np.sqrt(np.square(x).mean(axis=axes, keepdims=True) + epsilon)
    return y if scale is None else y * scale.reshape(shape)


def rms_norm(x: Any, scale: Any, epsilon: float, axes: int = 1) -> Any:
    return rms_normalization(x, scale, axis=list(range(-axes, 0)), epsilon=epsilon)


def fixed_norm(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    y = (x - mean) / np.sqrt(variance + epsilon)
    return y * (1 if gamma is None else gamma) + (0 if beta is None else beta)


def group_norm(x: Any, gamma: Any, beta: Any, groups: int, epsilon: float) -> Any:
    parts = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    return fixed_norm(((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape), 0, 1, gamma, beta, 0)


def unit_norm(x: Any, epsilon: float, axes: int = 1) -> Any:
    norm = np.sqrt(np.square(x).sum(tuple(range(-axes, 0)), keepdims=True))
    return x / np.maximum(norm, epsilon)


def _adaptive(reduce: Callable) -> Callable:
    def pool(x: Any, output_size: Any, data_format: str = "channels_last") -> Any:
        x = np.moveaxis(x, 1, -1) if data_format == "channels_first" else x
        for axis, m in enumerate(_tuple(output_size, x.ndim - 2), 1):
            bounds = [(i * x.shape[axis] // m, math.ceil((i + 1) * x.shape[axis] / m)) for i in range(m)]
            parts = [reduce(np.take(x, range(*ends), axis=axis), axis=axis) for ends in bounds]
            x = np.stack(parts, axis=axis)
        return np.moveaxis(x, -1, 1) if data_format == "channels_first" else x

    return pool


adaptive_max_pool, adaptive_average_pool = _adaptive(np.max), _adaptive(np.mean)


def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    y = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + epsilon)
    return y * (1 if scale is None else scale.reshape(shape)) + (0 if offset is None else offset.reshape(shape))


def moments(x: Any, axes: Any, keepdims: bool = False) -> Any:
    return x.mean(axis=tuple(axes), keepdims=keepdims), x.var(axis=tuple(axes), keepdims=keepdims)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    p = softmax(output, axis) if from_logits else output / output.sum(axis=axis, keepdims=True)
    return -(target * np.log(p)).sum(axis=axis)


def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    classes = output.shape[axis]
    hot = np.moveaxis(np.eye(classes)[target.reshape(-1)].reshape(*np.delete(output.shape, axis), classes), -1, axis)
    return categorical_crossentropy(hot, output, from_logits, axis)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    p = sigmoid(output) if from_logits else output
    return -target * np.log(p) - (1 - target) * np.log(1 - p)


def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None) -> Any:
    row = np.vectorize(lambda i: [float(i == j) for j in range(num_classes)], otypes=[list])
    return np.moveaxis(np.array(row(x).tolist()), -1, axis)


# ---------------------------------------------------------------- calls

_KERNELS: dict[str, list[dict[str, Any]]] = {
    "valid": [{}, {"strides": 2}, {"dilation_rate": 2}],
    "same": [{}, {"strides": (1, 2)}, {"strides": 2}, {"dilation_rate": (2, 1)}],
}
_GEOMETRIES = [{"padding": padding, **more} for padding, group in _KERNELS.items() for more in group]
_BY_ROWS = np.array([[True, False, True], [True, True, True]])
_LABELS = np.array([2, 0, 1], "int32")
_STEPS = np.array([[False, True, True, False], [True, False, True, True]])  # which time steps count
_DROPPED = np.array([[2, 0, 2], [0, 2, 2]], "float32")


def _named(function: Callable) -> Callable:
    """The case of a reference of the same name."""

    def make(*args: Any, **kwargs: Any) -> Case:
        return case(function.__name__, *args, reference=function, **kwargs)

    return make


PUBLIC: list[Case] = [
    case("glu", X(3, 4), reference=lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    case("glu", X(4, 3), axis=0, reference=lambda x, axis: x[:2] * sigmoid(x[2:])),
    case("hard_shrink", X(3, 4), reference=lambda x: np.where(abs(x) > 0.5, x, 0)),
    case("hard_shrink", X(3, 4), 0.8, reference=lambda x, limit: np.where(abs(x) > limit, x, 0)),
    case("hard_tanh", X(3, 4), reference=lambda x: np.clip(x, -1, 1)),
    case("soft_shrink", X(3, 4), threshold=0.8, reference=lambda x, threshold: x - np.clip(x, -0.8, 0.8)),
    case("sparse_plus", X(3, 4), reference=lambda x: np.where(abs(x) < 1, (x + 1) ** 2 / 4, np.maximum(x, 0))),
    case("sparse_sigmoid", X(3, 4), reference=lambda x: np.clip((x + 1) / 2, 0, 1)),
    case("sparsemax", X(3, 4), reference=_sparsemax),
    case("sparsemax", X(4, 3), axis=0, reference=lambda x, axis: _sparsemax(x.T).T),
    case("squareplus", X(3, 4), reference=lambda x: (x + np.sqrt(x * x + 4)) / 2),
    case("squareplus", X(3, 4), b=2, reference=lambda x, b: (x + np.sqrt(x * x + b)) / 2),
    case("tanh_shrink", X(3, 4), reference=lambda x: x - np.tanh(x)),
    case("threshold", X(3, 4), 0.3, -1.0, reference=lambda x, limit, other: np.where(x > limit, x, other)),
    *[
        case(name, X(3, 4), low=low, high=high, reference=formula)
        for name, (formula, low, high) in ACTIVATIONS.items()
        if name not in ("exponential", "tanh", "keras2_hard_sigmoid")
    ],
    case("leaky_relu", X(3, 4), negative_slope=0.3, reference=piecewise_relu),
    case("elu", X(3, 4), alpha=0.5, reference=lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1))),
    case("celu", X(3, 4), reference=lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    case("celu", X(3, 4), 0.5, reference=lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x / alpha) - 1))),
    case("silu", X(3, 4), reference=lambda x: x * sigmoid(x)),
    case("swish", X(3, 4), reference=lambda x: x * sigmoid(x)),
    case("hard_silu", X(3, 4), low=-5, high=5, reference=lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    case("hard_swish", X(3, 4), low=-5, high=5, reference=lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    case("gelu", X(3, 4), low=-4, high=4, reference=gelu),
    case("gelu", X(3, 4), approximate=False, low=-4, high=4, reference=gelu),
    *[case("softmax", X(2, 3, 4), axis=axis, reference=softmax) for axis in (-1, 1, (0, 2), [1, 2])],
    *[
        case("log_softmax", X(2, 3, 4), axis=axis, reference=lambda x, axis: np.log(softmax(x, axis)))
        for axis in (-1, 0, (1, 2))
    ],
    # convolution and pooling
    *[case("conv", X(2, 5, 6, 3), X(2, 3, 3, 2), **one, reference=conv) for one in _GEOMETRIES],
    *[case("conv", X(2, 6, 3), X(3, 3, 2), padding=padding, reference=conv) for padding in ("valid", "same")],
    case("conv", X(1, 4, 3, 5, 2), X(2, 2, 3, 2, 3), strides=(1, 2, 2), padding="same", reference=conv),
    case("conv", X(2, 4, 5, 4), X(3, 2, 2, 6), reference=conv),  # two groups
    case("conv", X(2, 3, 3, 3), X(1, 1, 3, 2), reference=conv),
    *[
        case("depthwise_conv", X(2, 5, 4, 3), X(2, 3, 3, multiplier), padding=padding, reference=depthwise_conv)
        for multiplier, padding in ((1, "valid"), (2, "same"))
    ],
    case("depthwise_conv", X(2, 5, 6, 2), X(3, 2, 2, 1), strides=2, padding="same", reference=depthwise_conv),
    case("depthwise_conv", X(2, 5, 6, 2), X(3, 2, 2, 2), dilation_rate=2, reference=depthwise_conv),
    case("depthwise_conv", X(2, 5, 3), X(3, 3, 2), padding="same", reference=depthwise_conv),
    case("separable_conv", X(2, 5, 4, 3), X(2, 3, 3, 2), X(1, 1, 6, 2), padding="same", reference=separable_conv),
    case("separable_conv", X(2, 7, 2), X(3, 2, 1), X(1, 2, 3), strides=2, reference=separable_conv),
    *[case("conv_transpose", X(2, 3, 4, 2), X(2, 3, 3, 2), **one, reference=conv_transpose) for one in _GEOMETRIES],
    case("conv_transpose", X(2, 4, 3), X(2, 2, 3), strides=3, reference=conv_transpose),
    *[
        case(
            "conv_transpose",
            X(2, 3, 2),
            X(size, 3, 2),
            strides=strides,
            padding=padding,
            output_padding=extra,
            reference=conv_transpose,
        )
        for size in (2, 3)
        for strides, extra in ((2, 0), (3, 2))
        for padding in ("valid", "same")
    ],
    case("conv_transpose", X(1, 2, 3, 2, 2), X(2, 1, 3, 3, 2), strides=2, padding="same", reference=conv_transpose),
    *[
        case(name, X(2, 5, 4, 3), pool_size, padding=padding, strides=strides, reference=reference)
        for name, reference in (("max_pool", max_pool), ("average_pool", average_pool))
        for pool_size, strides in ((2, None), ((3, 2), 1), (2, (1, 3)))
        for padding in ("valid", "same")
    ],
    *[case(name, X(2, 5, 3), 2, 2, "same", reference=globals()[name]) for name in ("max_pool", "average_pool")],
    *[case(name, X(1, 4, 3, 5, 2), 2, 2, reference=globals()[name]) for name in ("max_pool", "average_pool")],
    *[
        case(name, X(2, *sizes, 2), output_size, reference=globals()[name], **settings)
        for name in ("adaptive_max_pool", "adaptive_average_pool")
        for sizes, output_size, settings in (
            ((7,), 3, {}),
            ((5, 4), (2, 6), {}),
            ((5, 3), 2, {"data_format": "channels_first"}),
            ((3, 4, 2), (2, 4, 1), {}),
        )
    ],
    # normalisation
    _named(rms_normalization)(X(2, 5)),
    _named(rms_normalization)(X(2, 3, 4), X(4), epsilon=1e-3),
    _named(rms_normalization)(X(2, 3, 4), X(3), axis=1, epsilon=1e-3),
    _named(rms_normalization)(X(2, 3, 4), X(3, 4), axis=[1, 2], epsilon=1e-3),
    *[case("moments", X(2, 3, 4), axes=axes, reference=moments) for axes in ([0], [0, 1], [-1])],
    case("moments", X(2, 3, 4), [1], keepdims=True, reference=moments),
    _named(layer_normalization)(X(2, 5)),
    _named(layer_normalization)(X(2, 3, 4), X(4), X(4), epsilon=1e-3),
    _named(layer_normalization)(X(2, 3, 4), X(3), X(3), axis=1, epsilon=1e-3),
    _named(layer_normalization)(X(2, 3, 4), X(3, 4), X(3, 4), axis=[1, 2], epsilon=1e-3),
    _named(layer_normalization)(X(2, 3, 4), X(2, 3), axis=[0, 1], epsilon=1e-3),
    _named(batch_normalization)(X(2, 3), X(3), X(3), -1, low=0.2),
    _named(batch_normalization)(X(2, 3, 4), X(3), X(3), 1, offset=X(3), low=0.2),
    _named(batch_normalization)(X(2, 3, 4), X(4), X(4), 2, offset=X(4), scale=X(4), epsilon=0.1, low=0.2),
    # classes and cross-entropies
    *[values("one_hot", _LABELS, 4, axis=axis, reference=one_hot) for axis in (-1, 0)],
    values("one_hot", np.array([[0, 5], [-1, 2]], "int32"), 3, axis=1, reference=one_hot),
    values("one_hot", 2, 4, reference=one_hot),
    values("multi_hot", np.array([[0, 2], [1, 1]]), 3, reference=lambda x, n: np.array([[1.0, 0, 1], [0, 1, 0]])),
    values("multi_hot", np.array([3, 1]), 4, reference=lambda x, n: np.array([0.0, 1, 0, 1])),
    values("multi_hot", np.array([[[0, 2], [1, 1]]]), 3, reference=lambda x, n: one_hot(x, n).max(1)),
    *[
        _named(categorical_crossentropy)(target, X(3, 4), from_logits=from_logits, low=0.1)
        for target in (X(3, 4), np.eye(4, dtype="float32")[_LABELS])
        for from_logits in (False, True)
    ],
    _named(categorical_crossentropy)(X(2, 3, 4), X(2, 3, 4), axis=1, low=0.1),
    _named(categorical_crossentropy)(X(2, 3, 4), X(2, 3, 4), from_logits=True, axis=0),
    *[
        _named(sparse_categorical_crossentropy)(labels, X(3, 4), from_logits=from_logits, low=0.1)
        for labels in (_LABELS, _LABELS[:, None])
        for from_logits in (False, True)
    ],
    _named(sparse_categorical_crossentropy)(_LABELS[None], X(1, 4, 3), from_logits=True, axis=1),
    _named(binary_crossentropy)(X(3, 4), X(3, 4), low=0.05, high=0.95),
    _named(binary_crossentropy)(X(3, 4), X(3, 4), from_logits=True),
]


def _sequence(name: str, gates: int, **settings: Any) -> Case:
    """Two samples of four steps of two features, three units; None for an absent bias."""
    bias = settings.pop("bias", True)
    states = [X(2, 3)] * (2 if name == "lstm" else 1)
    place = None if not bias else X(2, 9) if name == "gru" and settings.get("reset_after", True) else X(3 * gates)
    return case(
        f"{name}_sequence", X(2, 4, 2), *states, X(2, 3 * gates), X(3, 3 * gates), place, reference=False, **settings
    )


def _conv_lstm(**settings: Any) -> Case:
    """Two samples of four steps of five places with two channels, which become three of two filters."""
    window = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
    arrays = X(2, 4, 5, 2), X(2, 3, 2), X(2, 3, 2), X(3, 2, 8), X(3, 2, 8), X(8)
    return case("conv_lstm_sequence", *arrays, reference=False, **window, **settings)


PRIMITIVES: list[Case] = [
    *[
        case(
            "transposed_convolution",
            X(2, 3, 4, 2),
            X(2, 3, 3, 2),
            X(3),
            strides=strides,
            padding=padding,
            output_padding=extra,
            data_format="channels_last",
            dilation=dilation,
            activation=activation,
            reference=transposed_convolution,
        )
        for strides, padding, extra, dilation, activation in (
            ((2, 3), "same", (0, 1), 1, "tanh"),
            (1, "valid", (None, None), (1, 2), None),
        )
    ],
    *[
        _named(piecewise_relu)(X(4, 5), **settings)
        for settings in (
            {"negative_slope": 0.1},
            {"max_value": 1.0},
            {"threshold": 0.5},
            {"negative_slope": 0.1, "max_value": 1.0, "threshold": -0.5},
        )
    ],
    *[_named(dense_layer)(X(4, 3), X(3, 2), X(2), activation=name) for name in (None, *ACTIVATIONS)],
    _named(dense_layer)(X(4, 3), X(3, 2)),
    _named(dense_layer)(X(3), X(3, 2), X(2)),
    _named(dense_layer)(X(2, 1, 4, 3), X(3, 2), X(2), activation="relu"),
    *[
        case("embedding_lookup", X(5, 3), indices, reference=lambda table, indices: table[indices.astype(int)])
        for indices in (_LABELS, np.array([[1, 4], [4, 4]], "int32"), np.array(2), np.array([1.0, 0.0], "float32"))
    ],
    case(
        "masked_scale", X(2, 3), mask=_BY_ROWS, scale=1.5, reference=lambda x, mask, scale: np.where(mask, x * scale, 0)
    ),
    case("masked_scale", X(2, 4, 3), mask=_BY_ROWS[:, None], scale=2.0, reference=lambda x, mask, scale: x * mask * 2),
    *[_named(convolution)(X(2, 5, 4), X(2, 4, 3), X(3), activation=name) for name in (None, *ACTIVATIONS)],
    _named(convolution)(X(2, 6, 4), X(3, 2, 4), X(4), padding="causal", dilation=2, groups=2),
    _named(convolution)(X(2, 4, 5), X(2, 4, 3), X(3), strides=2, data_format="channels_first", activation="tanh"),
    _named(convolution)(X(2, 2, 4, 5), X(2, 2, 2, 3), padding="same", data_format="channels_first"),
    _named(convolution)(X(1, 2, 3, 4, 4), X(2, 2, 2, 1, 2), X(2), groups=2, data_format="channels_first"),
    *[
        _named(depthwise_convolution)(X(2, 5, 3), X(2, 3, 2), X(6), activation=name)
        for name in (None, "relu", "tanh", "elu")
    ],
    _named(depthwise_convolution)(X(2, 3, 5), X(2, 3, 2), X(6), padding="causal", data_format="channels_first"),
    _named(depthwise_convolution)(X(1, 3, 4, 5, 2), X(2, 2, 3, 2, 1), X(2), strides=(1, 2, 1), padding="same"),
    *[
        _named(batch_norm_training)(X(5, 3), gamma, beta, epsilon=0.1)
        for gamma in (None, X(3))
        for beta in (None, X(3))
    ],
    _named(batch_norm_training)(X(2, 3, 4), X(4), X(4), epsilon=1e-3),
    *[_named(batch_norm_training)(X(2, 3, 4), gamma, X(4), epsilon=1e-3, mask=_BY_ROWS) for gamma in (None, X(4))],
    *[_named(layer_norm)(X(5, 3), gamma, beta, epsilon=0.1) for gamma in (None, X(3)) for beta in (None, X(3))],
    _named(layer_norm)(X(2, 3, 4), X(3, 4), X(3, 4), epsilon=1e-3, axes=2),
    _named(rms_norm)(X(2, 3, 4), X(3, 4), epsilon=1e-3, axes=2),
    *[
        _named(fixed_norm)(X(2, 3, 4), X(4), np.array([0.5, 1.0, 2.0, 0.3]), gamma, beta, epsilon=1e-3)
        for gamma in (None, X(4))
        for beta in (None, X(4))
    ],
    *[
        _named(group_norm)(X(2, 3, 4), gamma, beta, groups=groups, epsilon=1e-3)
        for groups, gamma, beta in ((1, X(4), X(4)), (2, X(4), None), (4, None, X(4)))
    ],
    _named(unit_norm)(X(3, 4), epsilon=1e-12),
    _named(unit_norm)(X(2, 3, 4), epsilon=1e-12, axes=2),
    *[
        _sequence(name, gates, **settings)
        for name, gates in (("simple_rnn", 1), ("lstm", 4), ("gru", 3))
        for settings in (
            {},
            {"bias": False},
            {"mask": _STEPS},
            {"recurrent_mask": _DROPPED},
            {"mask": _STEPS, "recurrent_mask": _DROPPED, "activation": "softsign"},
        )
    ],
    *[_sequence("gru", 3, reset_after=False, **more) for more in ({}, {"mask": _STEPS, "recurrent_mask": _DROPPED})],
    _sequence("gru", 3, reset_after=False, bias=False, recurrent_activation="hard_sigmoid"),
    *[_conv_lstm(**settings) for settings in ({}, {"mask": _STEPS, "backwards": True}, {"return_sequences": False})],
    case("time_steps", X(2, 3, 4), reference=lambda x: tuple(np.moveaxis(x, 1, 0))),
]

CASES = PUBLIC + PRIMITIVES

assert set(ACTIVATIONS) == k.FUSED_ACTIVATIONS
