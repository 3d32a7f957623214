"""The names of `keras.backend`: settings, questions about types, and the functions that Keras 2 programs call `K`.

Own losses, metrics and layers of such programs are written with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import activations, config, lazy, ops, random, tree
from minikeras.autodiff.gradients import GradientTape
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.symbolic import next_number as _next_number
from minikeras.autodiff.tensor import Variable
from minikeras.autodiff.tensor import assign_all as _assign_all
from minikeras.config import backend as backend
from minikeras.config import epsilon as epsilon
from minikeras.config import floatx as floatx
from minikeras.config import image_data_format as image_data_format
from minikeras.config import result_type as result_type
from minikeras.config import set_epsilon as set_epsilon
from minikeras.config import set_floatx as set_floatx
from minikeras.config import set_image_data_format as set_image_data_format
from minikeras.config import standardize_dtype as standardize_dtype
from minikeras.layers.context import context
from minikeras.layers.context import name_scope as name_scope
from minikeras.models import Model
from minikeras.ops import abs as abs
from minikeras.ops import arange as arange
from minikeras.ops import cast as cast
from minikeras.ops import clip as clip
from minikeras.ops import cos as cos
from minikeras.ops import cumprod as cumprod
from minikeras.ops import cumsum as cumsum
from minikeras.ops import elu as elu
from minikeras.ops import equal as equal
from minikeras.ops import exp as exp
from minikeras.ops import expand_dims as expand_dims
from minikeras.ops import eye as eye
from minikeras.ops import greater as greater
from minikeras.ops import greater_equal as greater_equal
from minikeras.ops import hard_sigmoid as hard_sigmoid
from minikeras.ops import is_tensor as is_tensor
from minikeras.ops import less as less
from minikeras.ops import less_equal as less_equal
from minikeras.ops import log as log
from minikeras.ops import maximum as maximum
from minikeras.ops import minimum as minimum
from minikeras.ops import not_equal as not_equal
from minikeras.ops import one_hot as one_hot
from minikeras.ops import ones_like as ones_like
from minikeras.ops import reshape as reshape
from minikeras.ops import round as round
from minikeras.ops import sigmoid as sigmoid
from minikeras.ops import sign as sign
from minikeras.ops import sin as sin
from minikeras.ops import softmax as softmax
from minikeras.ops import softplus as softplus
from minikeras.ops import softsign as softsign
from minikeras.ops import sqrt as sqrt
from minikeras.ops import square as square
from minikeras.ops import squeeze as squeeze
from minikeras.ops import stack as stack
from minikeras.ops import stop_gradient as stop_gradient
from minikeras.ops import tanh as tanh
from minikeras.ops import tile as tile
from minikeras.ops import transpose as transpose
from minikeras.ops import zeros_like as zeros_like
from minikeras.utils.seeds import clear_session as clear_session

get_uid = _next_number


def is_float_dtype(dtype: Any) -> bool:
    """Whether the type is one of floats."""
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Whether the type is one of integers."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor."""
    return isinstance(x, KerasTensor)


# ---------------------------------------------------------------- Keras 2 names: variables and values


def variable(value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None) -> Variable:
    """A trainable variable with this value.

    Args:
        value: a number, an array or a tensor.
        dtype: default `floatx()`.
        name: default automatic.
        constraint: projection after each update, default none.
    """
    made = Variable(value, dtype=standardize_dtype(dtype), name=name)
    made.constraint = constraint
    return made


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """A tensor of `value`, repeated to `shape` where that is given."""
    tensor = ops.convert_to_tensor(value, dtype=standardize_dtype(dtype))
    return tensor if shape is None else ops.broadcast_to(tensor, shape)


def get_value(x: Any) -> Any:
    """The value of a variable or tensor as a NumPy array, of a scalar as a NumPy number."""
    return ops.convert_to_numpy(x)[()]


eval = get_value


def set_value(x: Variable, value: Any) -> None:
    """`x.assign(value)`."""
    x.assign(value)


def batch_get_value(tensors: Any) -> list[Any]:
    """The values of several variables or tensors."""
    return [get_value(tensor) for tensor in tensors]


def batch_set_value(tuples: Any) -> None:
    """Assign a value to each of several variables, from pairs (variable, value); all are checked before the first."""
    pairs = list(tuples)
    _assign_all([one for one, _ in pairs], [value for _, value in pairs])


def update(x: Variable, new_x: Any) -> Variable:
    """`x.assign(new_x)`; returns x."""
    x.assign(new_x)
    return x


def update_add(x: Variable, increment: Any) -> Variable:
    """`x.assign(x + increment)`; returns x."""
    return update(x, x + increment)


def update_sub(x: Variable, decrement: Any) -> Variable:
    """`x.assign(x - decrement)`; returns x."""
    return update(x, x - decrement)


def ones(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of ones."""
    return variable(ops.ones(shape, dtype=standardize_dtype(dtype)), dtype, name)


def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of zeros."""
    return variable(ops.zeros(shape, dtype=standardize_dtype(dtype)), dtype, name)


def random_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers."""
    return random.normal(shape, mean, stddev, standardize_dtype(dtype), seed)


def random_uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Uniformly distributed numbers between `minval` and `maxval`."""
    return random.uniform(shape, minval, maxval, standardize_dtype(dtype), seed)


def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers that lie less than two standard deviations from the mean."""
    return random.truncated_normal(shape, mean, stddev, standardize_dtype(dtype), seed)


def random_bernoulli(shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None) -> Any:
    """Ones with probability `p`, else zeros."""
    return ops.cast(ops.less(random.uniform(shape, seed=seed), p), standardize_dtype(dtype))


def moving_average_update(x: Variable, value: Any, momentum: float) -> Variable:
    """`x.assign(x * momentum + value * (1 - momentum))`; returns x."""
    return update(x, ops.add(ops.multiply(x, momentum), ops.multiply(value, 1 - momentum)))


def cast_to_floatx(x: Any) -> Any:
    """The values as `floatx()`: of a tensor as a tensor, else as a NumPy array."""
    return ops.cast(x, config.floatx()) if ops.is_tensor(x) else np.asarray(x, config.floatx())


def count_params(x: Any) -> int:
    """The number of values."""
    return math.prod(x.shape)


# ---------------------------------------------------------------- Keras 2 names: shapes


def shape(x: Any) -> Any:
    """The shape, as a tuple."""
    return ops.shape(x)


def int_shape(x: Any) -> tuple[int | None, ...]:
    """The shape as a tuple of integers, None where open."""
    return tuple(x.shape)


def ndim(x: Any) -> int:
    """The number of axes."""
    return len(x.shape)


def dtype(x: Any) -> str:
    """The name of the number type."""
    return str(x.dtype)


def flatten(x: Any) -> Any:
    """All values in one axis."""
    return ops.reshape(x, (-1,))


def batch_flatten(x: Any) -> Any:
    """(batch, ...) as (batch, all the rest)."""
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


def permute_dimensions(x: Any, pattern: Any) -> Any:
    """The axes in another order."""
    return ops.transpose(x, pattern)


def reverse(x: Any, axes: Any) -> Any:
    """The values in reverse order along an axis or several."""
    return ops.flip(x, axes if isinstance(axes, int) else tuple(axes))


def concatenate(tensors: Any, axis: int = -1) -> Any:
    """Tensors one after the other along an axis, the last by default."""
    return ops.concatenate(tensors, axis)


def repeat_elements(x: Any, rep: int, axis: int) -> Any:
    """Each entry of an axis `rep` times."""
    return ops.repeat(x, rep, axis)


def gather(reference: Any, indices: Any) -> Any:
    """The entries of the first axis at these indices."""
    return ops.take(reference, indices, axis=0)


def repeat(x: Any, n: int) -> Any:
    """(batch, features) as (batch, n, features), n times the same."""
    return ops.repeat(ops.expand_dims(x, 1), n, 1)


def temporal_padding(x: Any, padding: Any = (1, 1)) -> Any:
    """Zeros before and after the steps of (batch, steps, features)."""
    return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))


def spatial_2d_padding(x: Any, padding: Any = ((1, 1), (1, 1)), data_format: Any = None) -> Any:
    """Zeros around pictures: ((above, below), (left, right))."""
    rows, columns = map(tuple, padding)
    if config.standardize_data_format(data_format) == "channels_last":
        return ops.pad(x, ((0, 0), rows, columns, (0, 0)))
    return ops.pad(x, ((0, 0), (0, 0), rows, columns))


# ---------------------------------------------------------------- Keras 2 names: mathematics


def gradients(loss: Any, variables: Any) -> Any:
    """The gradients of a tensor, computed inside a `GradientTape`, at a variable or several.

    Raises:
        ValueError: for a symbolic tensor, which has no values to differentiate.
    """
    if isinstance(loss, KerasTensor):
        raise ValueError(
            f"The gradients of a symbolic tensor are not known, got {loss!r}; compute the loss inside a GradientTape."
        )
    return GradientTape().gradient(loss, variables)


def function(inputs: Any, outputs: Any, updates: Any = None, **kwargs: Any) -> Callable[[Any], list[Any]]:
    """A function of a list of arrays that returns the values of symbolic outputs as a list of arrays.

    Args:
        inputs: symbolic tensors; where `learning_phase()` stands among them, the function takes 1 for training, else 0.
        outputs: symbolic tensors that follow from them.
        updates: accepted for familiarity; layers update their own variables.
    """
    model: Any = Model([one for one in inputs if isinstance(one, KerasTensor)], list(outputs))

    def run(values: Any) -> list[Any]:
        pairs = list(zip(inputs, values, strict=True))
        training = True in [bool(value) for one, value in pairs if not isinstance(one, KerasTensor)]
        results = model([value for one, value in pairs if isinstance(one, KerasTensor)], training=training)
        return [ops.convert_to_numpy(result) for result in tree.flatten(results)]

    return run


def map_fn(fn: Callable, elems: Any, name: str | None = None, dtype: Any = None) -> Any:
    """The results of a function for each entry of the first axis, stacked."""
    return ops.map(fn, elems)


def bias_add(x: Any, bias: Any, data_format: Any = None) -> Any:
    """`x + bias`, the bias having one value for each channel."""
    first = config.standardize_data_format(data_format) == "channels_first"
    return x + (ops.reshape(bias, (-1, *(1,) * (len(x.shape) - 2))) if first and len(bias.shape) == 1 else bias)


def _convolution(operation: Callable, meaning: str, name: str) -> Callable[..., Any]:
    def convolve(
        x: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: Any = None,
        dilation_rate: Any = 1,
    ) -> Any:
        return operation(x, kernel, strides, padding, data_format, dilation_rate)

    convolve.__name__ = convolve.__qualname__ = name
    convolve.__doc__ = f"{meaning}, as `ops.{operation.__name__}` does it."
    return convolve


conv1d = _convolution(ops.conv, "Convolution of sequences", "conv1d")
conv2d = _convolution(ops.conv, "Convolution of pictures", "conv2d")
conv3d = _convolution(ops.conv, "Convolution of volumes", "conv3d")
depthwise_conv2d = _convolution(ops.depthwise_conv, "Convolution of each channel by itself", "depthwise_conv2d")


def separable_conv2d(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = 1,
) -> Any:
    """A depthwise convolution of pictures, then one with windows of one position."""
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def pool2d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: Any = None,
    pool_mode: str = "max",
) -> Any:
    """The largest values of windows of pictures, or the means with `pool_mode="avg"`."""
    if pool_mode not in ("max", "avg"):
        raise ValueError(f"pool2d takes 'max' or 'avg' for pool_mode, got {pool_mode!r}.")
    pool = ops.max_pool if pool_mode == "max" else ops.average_pool
    return pool(x, pool_size, strides, padding, data_format)


def in_top_k(predictions: Any, targets: Any, k: int) -> Any:
    """Whether each target is among the k classes with the largest predictions."""
    return ops.in_top_k(targets, predictions, k)


def dot(x: Any, y: Any) -> Any:
    """The product over the last axis of x and the last but one of y."""
    return ops.dot(x, y)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """The products of two batches, sample by sample, over one axis of each.

    Args:
        x, y: (batch, ...).
        axes: the axis, or one for each; default the last of x and the last but one of y (the last of a matrix).

    What is left of x without its axis, then of y; (batch, 1) if that is nothing.
    """
    if axes is None:
        axes = (len(x.shape) - 1, 1 if len(y.shape) == 2 else len(y.shape) - 2)
    first, second = (axes, axes) if isinstance(axes, int) else axes
    first, second = first % len(x.shape), second % len(y.shape)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    batch, summed = next(letters), next(letters)
    terms = [
        batch + "".join(summed if i == axis else next(letters) for i in range(1, rank))
        for axis, rank in ((first, len(x.shape)), (second, len(y.shape)))
    ]
    left = batch + "".join(term[1:].replace(summed, "") for term in terms)
    product = ops.einsum(f"{terms[0]},{terms[1]}->{left}", x, y)
    return ops.expand_dims(product, 1) if left == batch else product


def _reduction(name: str, meaning: str) -> Callable[..., Any]:
    operation = getattr(ops, name)

    def reduce(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = ops.cast(x, config.floatx()) if name in _OF_FLOATS and str(x.dtype) == "bool" else x
        return operation(x, axis=axis, keepdims=keepdims)

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"{meaning} over an axis or several, over all by default."
    return reduce


_OF_FLOATS = ("mean", "std", "var")
sum = _reduction("sum", "The sum")
prod = _reduction("prod", "The product")
mean = _reduction("mean", "The mean")
std = _reduction("std", "The standard deviation")
var = _reduction("var", "The variance")
max = _reduction("max", "The largest value")
min = _reduction("min", "The smallest value")
any = _reduction("any", "Whether any value is true")
all = _reduction("all", "Whether all values are true")
logsumexp = _reduction("logsumexp", "The logarithm of the sum of the exponentials")


def argmax(x: Any, axis: int = -1) -> Any:
    """Where the largest value is along an axis, the last by default."""
    return ops.argmax(x, axis)


def argmin(x: Any, axis: int = -1) -> Any:
    """Where the smallest value is along an axis, the last by default."""
    return ops.argmin(x, axis)


def pow(x: Any, a: Any) -> Any:
    """`x ** a`."""
    return ops.power(x, a)


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """`x` divided by its Euclidean norm along an axis."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """`max_value` above it, `x` above the threshold, `alpha * (x - threshold)` below."""
    return activations.relu(x, negative_slope=alpha, max_value=max_value, threshold=threshold)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of probabilities (or logits) with targets between 0 and 1, elementwise."""
    return ops.binary_crossentropy(target, output, from_logits)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of distributions (or logits) along an axis with target distributions."""
    return ops.categorical_crossentropy(target, output, from_logits, axis)


def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of distributions (or logits) along an axis with integer targets."""
    return ops.sparse_categorical_crossentropy(target, output, from_logits, axis)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """Values of the one or the other (tensors, or functions that return them), as the condition says."""
    chosen = [part() if callable(part) else part for part in (then_expression, else_expression)]
    missing = len(chosen[0].shape) - len(condition.shape)
    return ops.where(ops.reshape(condition, (*condition.shape, *(1,) * missing)), *chosen)


def in_train_phase(x: Any, alt: Any, training: Any = None) -> Any:
    """`x` in training, else `alt`; each may be a function that returns it.

    Args:
        training: default what the layers around this call were told.
    """
    chosen = x if (context.training if training is None else training) else alt
    return chosen() if callable(chosen) else chosen


def learning_phase() -> int:
    """1 where the layers around this call were told that it is training, else 0."""
    return int(bool(context.training))


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """`x` with a share `level` of its values set to 0 and the others scaled up."""
    return random.dropout(x, level, noise_shape, seed)


__all__ = [
    name
    for name, one in globals().items()
    if callable(one)
    and name[0] != "_"
    and name == name.lower()
    and getattr(one, "__module__", "").startswith("minikeras.")
]


lazy.offer_names(__name__)
