"""The names of `keras.backend`: settings, questions about types, and the functions that Keras 2 programs call `K`.

Own losses, metrics and layers of such programs are written with them.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import activations, config, layers, lazy, ops, random, tree
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
from minikeras.ops import cast as cast
from minikeras.ops import cos as cos
from minikeras.ops import elu as elu
from minikeras.ops import exp as exp
from minikeras.ops import hard_sigmoid as hard_sigmoid
from minikeras.ops import is_tensor as is_tensor
from minikeras.ops import log as log
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
from minikeras.ops import transpose as transpose
from minikeras.utils.seeds import clear_session as clear_session

get_uid = _next_number


def is_float_dtype(dtype: Any) -> bool:
    """Whether the type is one of floats.

    >>> import minikeras as keras
    >>> keras.backend.is_float_dtype("float16")
    True
    """
    return standardize_dtype(dtype).startswith(("float", "bfloat"))


def is_int_dtype(dtype: Any) -> bool:
    """Whether the type is one of integers.

    >>> import minikeras as keras
    >>> keras.backend.is_int_dtype("uint8")
    True
    """
    return standardize_dtype(dtype).startswith(("int", "uint"))


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor.

    >>> import minikeras as keras
    >>> keras.backend.is_keras_tensor(keras.Input((3,)))
    True
    """
    return isinstance(x, KerasTensor)


# ---------------------------------------------------------------- Keras 2 names: variables and values


def variable(value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None) -> Variable:
    """A trainable variable with this value.

    Args:
        value: a number, an array or a tensor.
        dtype: default `floatx()`.
        name: default automatic.
        constraint: projection after each update, default none.

    >>> from minikeras import backend as K
    >>> K.get_value(K.variable([1.0, 2.0]))
    array([1., 2.], dtype=float32)
    """
    made = Variable(value, dtype=standardize_dtype(dtype), name=name)
    made.constraint = constraint
    return made


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    """A tensor of `value`, repeated to `shape` where that is given.

    >>> from minikeras import backend as K
    >>> K.constant([1, 2])
    <Tensor shape=(2,) dtype=float32>
    array([1., 2.], dtype=float32)
    """
    tensor = ops.convert_to_tensor(value, dtype=standardize_dtype(dtype))
    return tensor if shape is None else ops.broadcast_to(tensor, shape)


def get_value(x: Any) -> Any:
    """The value of a variable or tensor as a NumPy array, of a scalar as a NumPy number.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.eval(K.variable([1.0, 2.0]) * 2)
    array([2., 4.], dtype=float32)
    """
    return ops.convert_to_numpy(x)[()]


eval = get_value


def set_value(x: Variable, value: Any) -> None:
    """`x.assign(value)`.

    >>> from minikeras import backend as K
    >>> v = K.variable([1.0])
    >>> K.set_value(v, [5.0])
    >>> K.get_value(v)
    array([5.], dtype=float32)
    """
    x.assign(value)


def batch_get_value(tensors: Any) -> list[Any]:
    """The values of several variables or tensors.

    >>> from minikeras import backend as K
    >>> K.batch_get_value([K.variable([1.0])])
    [array([1.], dtype=float32)]
    """
    return [get_value(tensor) for tensor in tensors]


def batch_set_value(tuples: Any) -> None:
    """Assign a value to each of several variables, from pairs (variable, value); all are checked before the first.

    Args:
        tuples: pairs of a variable and its new value.

    >>> from minikeras import backend as K
    >>> v = K.variable([1.0])
    >>> K.batch_set_value([(v, [2.0])])
    >>> K.get_value(v)
    array([2.], dtype=float32)
    """
    pairs = list(tuples)
    _assign_all([one for one, _ in pairs], [value for _, value in pairs])


def update(x: Variable, new_x: Any) -> Variable:
    """`x.assign(new_x)`; returns x.

    >>> from minikeras import backend as K
    >>> K.get_value(K.update(K.variable([1.0]), [4.0]))
    array([4.], dtype=float32)
    """
    x.assign(new_x)
    return x


def update_add(x: Variable, increment: Any) -> Variable:
    """`x.assign(x + increment)`; returns x.

    >>> from minikeras import backend as K
    >>> K.get_value(K.update_add(K.variable([1.0]), [4.0]))
    array([5.], dtype=float32)
    """
    return update(x, x + increment)


def update_sub(x: Variable, decrement: Any) -> Variable:
    """`x.assign(x - decrement)`; returns x.

    >>> from minikeras import backend as K
    >>> K.get_value(K.update_sub(K.variable([1.0]), [4.0]))
    array([-3.], dtype=float32)
    """
    return update(x, x - decrement)


def ones_like(x: Any, dtype: Any = None, name: str | None = None) -> Any:
    """Ones in the shape (and type) of `x`.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.get_value(K.ones_like(np.array([1.0, 2.0])))
    array([1., 1.])
    """
    return ops.ones_like(x, dtype)


def zeros_like(x: Any, dtype: Any = None, name: str | None = None) -> Any:
    """Zeros in the shape (and type) of `x`.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.get_value(K.zeros_like(np.array([1.0, 2.0])))
    array([0., 0.])
    """
    return ops.zeros_like(x, dtype)


def eye(size: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of the matrix of this size (one number, or a pair) with ones on its diagonal.

    >>> from minikeras import backend as K
    >>> K.get_value(K.eye(2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    rows, columns = size if isinstance(size, (list, tuple)) else (size, size)
    return variable(ops.eye(rows, columns, dtype=standardize_dtype(dtype)), dtype, name)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int32") -> Any:
    """The numbers from `start` (0 where only one number is given) to before `stop`.

    Args:
        step: between two values.

    >>> from minikeras import backend as K
    >>> K.arange(0, 6, 2)
    <Tensor shape=(3,) dtype=int32>
    array([0, 2, 4], dtype=int32)
    """
    return ops.cast(ops.arange(start, stop, step), dtype)


def ones(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of ones.

    Args:
        shape: the sizes of the result.

    >>> from minikeras import backend as K
    >>> K.get_value(K.ones((2,)))
    array([1., 1.], dtype=float32)
    """
    return variable(ops.ones(shape, dtype=standardize_dtype(dtype)), dtype, name)


def zeros(shape: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable of zeros.

    Args:
        shape: the sizes of the result.

    >>> from minikeras import backend as K
    >>> K.get_value(K.zeros((2,)))
    array([0., 0.], dtype=float32)
    """
    return variable(ops.zeros(shape, dtype=standardize_dtype(dtype)), dtype, name)


def random_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers.

    Args:
        mean: of the distribution.
        stddev: its standard deviation.

    >>> from minikeras import backend as K
    >>> K.random_normal((2, 3), seed=1).shape
    (2, 3)
    """
    return random.normal(shape, mean, stddev, standardize_dtype(dtype), seed)


def random_uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Uniformly distributed numbers between `minval` and `maxval`.

    >>> from minikeras import backend as K
    >>> K.random_uniform((2, 3), seed=1).shape
    (2, 3)
    """
    return random.uniform(shape, minval, maxval, standardize_dtype(dtype), seed)


def random_normal_variable(
    shape: Any, mean: float, scale: float, dtype: Any = None, name: str | None = None, seed: Any = None
) -> Variable:
    """A variable of normally distributed numbers.

    Args:
        mean: of the distribution.
        scale: the standard deviation.
        seed: an integer, or a `SeedGenerator`; by default the global one.

    >>> from minikeras import backend as K
    >>> K.random_normal_variable((2, 3), 0.0, 1.0).shape
    (2, 3)
    """
    return variable(random_normal(shape, mean, scale, dtype, seed), dtype, name)


def random_uniform_variable(
    shape: Any, low: float, high: float, dtype: Any = None, name: str | None = None, seed: Any = None
) -> Variable:
    """A variable of uniformly distributed numbers.

    Args:
        low: the least value.
        high: the limit above.
        seed: an integer, or a `SeedGenerator`; by default the global one.

    >>> from minikeras import backend as K
    >>> K.random_uniform_variable((2, 3), 0.0, 1.0).shape
    (2, 3)
    """
    return variable(random_uniform(shape, low, high, dtype, seed), dtype, name)


def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normally distributed numbers that lie less than two standard deviations from the mean.

    Args:
        stddev: its standard deviation.

    >>> from minikeras import backend as K
    >>> K.truncated_normal((2, 3), seed=1).shape
    (2, 3)
    """
    return random.truncated_normal(shape, mean, stddev, standardize_dtype(dtype), seed)


def random_bernoulli(shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None) -> Any:
    """Ones with probability `p`, else zeros.

    Args:
        seed: an integer, or a `SeedGenerator`; by default the global one.

    >>> from minikeras import backend as K
    >>> K.random_bernoulli((2, 3), p=1.0)
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    return ops.cast(ops.less(random.uniform(shape, seed=seed), p), standardize_dtype(dtype))


def moving_average_update(x: Variable, value: Any, momentum: float) -> Variable:
    """`x.assign(x * momentum + value * (1 - momentum))`; returns x.

    >>> from minikeras import backend as K
    >>> K.get_value(K.moving_average_update(K.variable([1.0]), [2.0], 0.9))
    array([1.1], dtype=float32)
    """
    return update(x, ops.add(ops.multiply(x, momentum), ops.multiply(value, 1 - momentum)))


def cast_to_floatx(x: Any) -> Any:
    """The values as `floatx()`: of a tensor as a tensor, else as a NumPy array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.cast_to_floatx([1, 2])
    array([1., 2.], dtype=float32)
    """
    return ops.cast(x, config.floatx()) if ops.is_tensor(x) else np.asarray(x, config.floatx())


def count_params(x: Any) -> int:
    """The number of values.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.count_params(K.zeros((2, 3)))
    6
    """
    return math.prod(x.shape)


# ---------------------------------------------------------------- Keras 2 names: shapes


def shape(x: Any) -> Any:
    """The shape, as a tuple.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.shape(np.ones((2, 3)))
    (2, 3)
    """
    return ops.shape(x)


def int_shape(x: Any) -> tuple[int | None, ...]:
    """The shape as a tuple of integers, None where open.

    Args:
        x: tensor, array or number.

    >>> import minikeras as keras
    >>> from minikeras import backend as K
    >>> K.int_shape(keras.Input((3,)))
    (None, 3)
    """
    return tuple(x.shape)


def ndim(x: Any) -> int:
    """The number of axes.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.ndim(np.ones((2, 3)))
    2
    """
    return len(x.shape)


def dtype(x: Any) -> str:
    """The name of the number type.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.dtype(K.variable([1.0]))
    'float32'
    """
    return str(x.dtype)


def flatten(x: Any) -> Any:
    """All values in one axis.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.flatten(np.ones((2, 3))).shape
    (6,)
    """
    return ops.reshape(x, (-1,))


def batch_flatten(x: Any) -> Any:
    """(batch, ...) as (batch, all the rest).

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.batch_flatten(np.ones((2, 3, 4))).shape
    (2, 12)
    """
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


def permute_dimensions(x: Any, pattern: Any) -> Any:
    """The axes in another order.

    Args:
        x: tensor, array or number.
        pattern: the order of the axes.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.permute_dimensions(np.ones((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return ops.transpose(x, pattern)


def reverse(x: Any, axes: Any) -> Any:
    """The values in reverse order along an axis or several.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.reverse([1, 2, 3], axes=0)
    <Tensor shape=(3,) dtype=int32>
    array([3, 2, 1], dtype=int32)
    """
    return ops.flip(x, axes if isinstance(axes, int) else tuple(axes))


def concatenate(tensors: Any, axis: int = -1) -> Any:
    """Tensors one after the other along an axis, the last by default.

    Args:
        tensors: list of tensors.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.concatenate([np.ones((1, 2)), np.zeros((1, 1))])
    <Tensor shape=(1, 3) dtype=float64>
    array([[1., 1., 0.]])
    """
    return ops.concatenate(tensors, axis)


def repeat_elements(x: Any, rep: int, axis: int) -> Any:
    """Each entry of an axis `rep` times.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.repeat_elements([[1, 2]], 2, axis=1)
    <Tensor shape=(1, 4) dtype=int32>
    array([[1, 1, 2, 2]], dtype=int32)
    """
    return ops.repeat(x, rep, axis)


def gather(reference: Any, indices: Any) -> Any:
    """The entries of the first axis at these indices.

    Args:
        reference: tensor whose rows are taken.

    >>> from minikeras import backend as K
    >>> K.gather([10.0, 20.0, 30.0], [2, 0])
    <Tensor shape=(2,) dtype=float32>
    array([30., 10.], dtype=float32)
    """
    return ops.take(reference, indices, axis=0)


def repeat(x: Any, n: int) -> Any:
    """(batch, features) as (batch, n, features), n times the same.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.repeat(np.ones((2, 3)), 4).shape
    (2, 4, 3)
    """
    return ops.repeat(ops.expand_dims(x, 1), n, 1)


def temporal_padding(x: Any, padding: Any = (1, 1)) -> Any:
    """Zeros before and after the steps of (batch, steps, features).

    Args:
        x: tensor, array or number.
        padding: zeros before and after.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.temporal_padding(np.ones((1, 2, 3))).shape
    (1, 4, 3)
    """
    return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))


def spatial_2d_padding(x: Any, padding: Any = ((1, 1), (1, 1)), data_format: Any = None) -> Any:
    """Zeros around pictures: ((above, below), (left, right)).

    Args:
        x: tensor, array or number.
        padding: zeros (above, below), (left, right).
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.spatial_2d_padding(np.ones((1, 2, 2, 1))).shape
    (1, 4, 4, 1)
    """
    return _padded(x, padding, data_format)


def spatial_3d_padding(x: Any, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: Any = None) -> Any:
    """Zeros around volumes: a pair (before, after) for each of three axes.

    Args:
        x: tensor, array or number.
        padding: `"valid"` (none) or `"same"`.

    >>> from minikeras import backend as K
    >>> K.spatial_3d_padding(K.ones((1, 2, 2, 2, 1)), data_format="channels_last").shape
    (1, 4, 4, 4, 1)
    """
    return _padded(x, padding, data_format)


def _padded(x: Any, padding: Any, data_format: Any) -> Any:
    widths = [tuple(pair) for pair in padding]
    if len(widths) != len(x.shape) - 2:
        raise ValueError(f"padding takes pairs of widths for {len(x.shape) - 2} axes, got {padding!r}.")
    first = config.standardize_data_format(data_format) == "channels_first"
    return ops.pad(x, ((0, 0), (0, 0), *widths) if first else ((0, 0), *widths, (0, 0)))


def resize_images(
    x: Any, height_factor: int, width_factor: int, data_format: Any, interpolation: str = "nearest"
) -> Any:
    """Pictures so many times as high and wide, as `layers.UpSampling2D` does it.

    Args:
        x: tensor, array or number.
        height_factor: how many times higher.
        width_factor: how many times wider.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        interpolation: `"nearest"` or `"bilinear"`.

    >>> from minikeras import backend as K
    >>> K.resize_images(K.ones((1, 2, 2, 3)), 2, 3, "channels_last").shape
    (1, 4, 6, 3)
    """
    resize: Any = layers.UpSampling2D((height_factor, width_factor), data_format, interpolation)
    return resize(x)


def resize_volumes(x: Any, depth_factor: int, height_factor: int, width_factor: int, data_format: Any) -> Any:
    """Each value of volumes so many times along the three axes.

    Args:
        x: tensor, array or number.
        depth_factor: how many times deeper.
        height_factor: how many times higher.
        width_factor: how many times wider.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> from minikeras import backend as K
    >>> K.resize_volumes(K.ones((1, 1, 2, 2, 3)), 2, 2, 3, "channels_last").shape
    (1, 2, 4, 6, 3)
    """
    resize: Any = layers.UpSampling3D((depth_factor, height_factor, width_factor), data_format)
    return resize(x)


def reshape(x: Any, shape: Any) -> Any:
    """The same values in another shape.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.reshape(np.ones((2, 3)), (3, 2)).shape
    (3, 2)
    """
    return ops.reshape(x, shape)


def expand_dims(x: Any, axis: int = -1) -> Any:
    """A new axis of size 1, the last by default.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.expand_dims(np.ones((2, 3))).shape
    (2, 3, 1)
    """
    return ops.expand_dims(x, axis)


def tile(x: Any, n: Any) -> Any:
    """The whole array repeated so many times along each axis.

    Args:
        x: tensor, array or number.
        n: how often, for each axis.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.tile(np.array([1.0, 2.0]), 2)
    <Tensor shape=(4,) dtype=float64>
    array([1., 2., 1., 2.])
    """
    return ops.tile(x, n)


# ---------------------------------------------------------------- Keras 2 names: mathematics


def gradients(loss: Any, variables: Any) -> Any:
    """The gradients of a tensor, computed inside a `GradientTape`, at a variable or several.

    Args:
        variables: list of variables.

    Raises:
        ValueError: for a symbolic tensor, which has no values to differentiate.

    >>> import minikeras as keras
    >>> from minikeras import backend as K
    >>> x = K.variable([1.0, 2.0])
    >>> tape = keras.GradientTape()
    >>> with tape:
    ...     loss = K.sum(K.square(x))
    ...
    >>> K.gradients(loss, [x])
    [<Tensor shape=(2,) dtype=float32>
    array([2., 4.], dtype=float32)]
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
    """The results of a function for each entry of the first axis, stacked.

    Args:
        fn: a function of one row.
        elems: tensor, or a structure of them.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.map_fn(lambda row: row * 2, np.array([[1.0], [2.0]]))
    <Tensor shape=(2, 1) dtype=float64>
    array([[2.],
           [4.]])
    """
    return ops.map(fn, elems)


def foldl(fn: Callable, elems: Any, initializer: Any = None, name: str | None = None) -> Any:
    """`fn(accumulated, entry)` for each entry of the first axis, from the first, or from `initializer`.

    Args:
        elems: tensor, whose rows are taken in order.

    >>> from minikeras import backend as K
    >>> K.get_value(K.foldl(lambda total, x: total * 2 + x, K.constant([1.0, 2.0, 3.0]))).tolist()
    11.0
    """
    return _folded(fn, ops.unstack(elems), initializer)


def foldr(fn: Callable, elems: Any, initializer: Any = None, name: str | None = None) -> Any:
    """`fn(accumulated, entry)` for each entry of the first axis, from the last one backwards, or from `initializer`.

    Args:
        elems: tensor, whose rows are taken in order.

    >>> from minikeras import backend as K
    >>> K.get_value(K.foldr(lambda total, x: total * 2 + x, K.constant([1.0, 2.0, 3.0]))).tolist()
    17.0
    """
    return _folded(fn, ops.unstack(elems)[::-1], initializer)


def _folded(fn: Callable, parts: list[Any], initializer: Any) -> Any:
    return functools.reduce(fn, parts) if initializer is None else functools.reduce(fn, parts, initializer)


def rnn(
    step_function: Callable,
    inputs: Any,
    initial_states: Any,
    go_backwards: bool = False,
    mask: Any = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: Any = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple[Any, Any, list[Any]]:
    """A function called for each step of sequences, with the states that it returned at the step before.

    Args:
        step_function: of the inputs at one step and a list of states and constants; returns outputs and new states.
        inputs: (batch, steps, ...), or a structure of these.
        initial_states: a list of arrays.
        go_backwards: begin at the last step; the outputs are in the order in which they were computed.
        mask: (batch, steps): where it is false, states stay, and the outputs are those of the step before.
        constants: what each call gets after the states.
        unroll: accepted for familiarity; steps are always taken one by one.
        input_length: in the place of a mask, how many steps count: one number, or one for each sequence.
        time_major: the first axis of inputs, mask and outputs is that of the steps.
        zero_output_for_mask: masked outputs are zeros.
        return_all_outputs: else only the last ones.

    Returns:
        The outputs at the last step, all outputs (batch, steps, ...), and the last states.

    >>> from minikeras import backend as K
    >>> last, outputs, states = K.rnn(lambda x, states: (x, [x + states[0]]), K.ones((1, 3, 2)), [K.zeros((1, 2))])
    >>> K.get_value(states[0]).tolist()
    [[3.0, 3.0]]
    """

    def by_steps(x: Any) -> Any:
        return x if time_major else ops.swapaxes(x, 0, 1)

    inputs = tree.map_structure(by_steps, inputs)
    steps = tree.flatten(inputs)[0].shape[0]
    if steps is None:
        raise ValueError("rnn takes sequences with a known number of steps, got an open one; use layers.RNN.")
    if mask is not None:
        mask = by_steps(ops.cast(mask, "bool"))
    elif input_length is not None:
        mask = ops.less(ops.reshape(ops.arange(steps), (-1, 1)), ops.reshape(input_length, (1, -1)))
    states, outputs = list(initial_states), list[Any]()
    for step in reversed(range(steps)) if go_backwards else range(steps):
        output, new = step_function(tree.map_structure(lambda x, i=step: x[i], inputs), [*states, *(constants or ())])
        if mask is not None:
            kept = outputs[-1] if outputs and not zero_output_for_mask else tree.map_structure(ops.zeros_like, output)
            now = mask[step]
            output = tree.map_structure(lambda a, b, now=now: switch(now, a, b), output, kept)
            new = [switch(now, one, before) for one, before in zip(new, states, strict=True)]
        states = list(new)
        outputs = [*outputs, output] if return_all_outputs else [output]
    stacked = tree.map_structure(lambda *parts: by_steps(ops.stack(parts)), *outputs)
    return outputs[-1], stacked, states


def bias_add(x: Any, bias: Any, data_format: Any = None) -> Any:
    """`x + bias`, the bias having one value for each channel.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.bias_add(np.zeros((1, 2)), [1.0, 2.0])
    array([[1., 2.]])
    """
    first = config.standardize_data_format(data_format) == "channels_first"
    return x + (ops.reshape(bias, (-1, *(1,) * (len(x.shape) - 2))) if first and len(bias.shape) == 1 else bias)


_ARGUMENTS = {
    "x": "tensor, array or number.",
    "y": "the same; both broadcast together.",
    "kernel": "tensor of (*window, channels in, channels out).",
    "pool_size": "size of the window.",
    "strides": "steps between windows.",
    "padding": '`"valid"` (none) or `"same"`.',
    "data_format": '`"channels_last"` or `"channels_first"`, default the global one.',
    "dilation_rate": "steps within a window.",
    "pool_mode": '`"max"` or `"avg"`.',
    "axis": "the axis, or several; by default all.",
    "keepdims": "whether the reduced axes stay, with size 1.",
}


def _named(function: Any, name: str, meaning: str, call: str, shape: tuple[int, ...]) -> Any:
    """A function of a family under its own name, with a docstring that shows the shape of a call's result."""
    function.__name__ = function.__qualname__ = name
    code = function.__code__
    told = "".join(f"\n        {one}: {_ARGUMENTS[one]}" for one in code.co_varnames[: code.co_argcount])
    example = f">>> from minikeras import backend as K\n    >>> K.{name}({call}).shape\n    {shape}\n    "
    function.__doc__ = f"{meaning}\n\n    Args:{told}\n\n    {example}"
    return function


def _convolution(operation: Callable, meaning: str, name: str) -> Callable[..., Any]:
    def convolve(
        x: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
    ) -> Any:
        return operation(x, kernel, strides, padding, data_format, dilation_rate)

    rank, filters = int(name[-2]), 1 if operation is ops.depthwise_conv else 4
    call = f"K.ones({(1, *[5] * rank, 2)}), K.ones({(*[3] * rank, 2, filters)})"
    shape = (1, *[3] * rank, 2 if filters == 1 else filters)
    return _named(convolve, name, f"{meaning}, as `ops.{operation.__name__}` does it.", call, shape)


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
    """A depthwise convolution of pictures, then one with windows of one position.

    Args:
        x: tensor, array or number.
        depthwise_kernel: tensor of (*window, channels, multiplier).
        pointwise_kernel: tensor of (1, ..., channels * multiplier, channels out).
        strides: steps between windows, one number or one for each axis.
        padding: `"valid"` (none) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        dilation_rate: steps within a window.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.separable_conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 1)), np.ones((1, 1, 2, 4))).shape
    (1, 3, 3, 4)
    """
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def _pooling(meaning: str, name: str) -> Callable[..., Any]:
    def pool(
        x: Any,
        pool_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: Any = None,
        pool_mode: str = "max",
    ) -> Any:
        if pool_mode not in ("max", "avg"):
            raise ValueError(f"{name} takes 'max' or 'avg' for pool_mode, got {pool_mode!r}.")
        return (ops.max_pool if pool_mode == "max" else ops.average_pool)(x, pool_size, strides, padding, data_format)

    rank = int(name[-2])
    call, text = f"K.ones({(1, *[4] * rank, 1)}), {(2,) * rank}", f"The largest values of windows of {meaning}"
    return _named(pool, name, f"{text}, or the means with `pool_mode='avg'`.", call, (1, *[3] * rank, 1))


pool2d = _pooling("pictures", "pool2d")
pool3d = _pooling("volumes", "pool3d")


def conv2d_transpose(
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: Any = None,
    dilation_rate: Any = (1, 1),
) -> Any:
    """The gradient of `conv2d` at its input.

    Args:
        x: what the convolution returned.
        kernel: (rows, columns, filters, channels of x).
        output_shape: the shape of the convolution's input; that of the batch may be None.
        strides: steps between windows, one number or one for each axis.
        padding: `"valid"` (none) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.
        dilation_rate: steps within a window.

    >>> from minikeras import backend as K
    >>> K.conv2d_transpose(K.ones((1, 2, 2, 1)), K.ones((2, 2, 3, 1)), (1, 3, 3, 3)).shape
    (1, 3, 3, 3)
    """
    last = config.standardize_data_format(data_format) == "channels_last"
    y = ops.conv_transpose(x, kernel, strides, "valid", None, data_format, dilation_rate)
    part, extra = [slice(None)] * 4, [(0, 0)] * 4
    for axis in (1, 2) if last else (2, 3):
        made, wanted = y.shape[axis], output_shape[axis]
        size, step, apart = (one[axis - 1 - (not last)] for one in (kernel.shape, strides, dilation_rate))
        reach = (x.shape[axis] - 1) * step + apart * (size - 1) + 1  # what the windows cover
        start = builtins.max(reach - wanted, 0) // 2 if padding == "same" else 0
        part[axis], extra[axis] = slice(start, start + wanted), (0, builtins.max(start + wanted - made, 0))
    return ops.pad(y, extra)[tuple(part)]


def in_top_k(predictions: Any, targets: Any, k: int) -> Any:
    """Whether each target is among the k classes with the largest predictions.

    Args:
        targets: the right classes.

    >>> from minikeras import backend as K
    >>> K.in_top_k([[0.1, 0.6, 0.3]], [2], 2)
    <Tensor shape=(1,) dtype=bool>
    array([ True])
    """
    return ops.in_top_k(targets, predictions, k)


def dot(x: Any, y: Any) -> Any:
    """The product over the last axis of x and the last but one of y.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.dot(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    return ops.dot(x, y)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """The products of two batches, sample by sample, over one axis of each.

    Args:
        x, y: (batch, ...).
        axes: the axis, or one for each; default the last of x and the last but one of y (the last of a matrix).

    What is left of x without its axis, then of y; (batch, 1) if that is nothing.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.batch_dot(np.ones((5, 3)), np.ones((5, 3))).shape
    (5, 1)
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

    return _named(reduce, name, f"{meaning} over an axis or several, over all by default.", "K.ones((2, 3)), 1", (2,))


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
    """Where the largest value is along an axis, the last by default.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.argmax([[1.0, 3.0, 2.0]])
    <Tensor shape=(1,) dtype=int32>
    array([1], dtype=int32)
    """
    return ops.argmax(x, axis)


def argmin(x: Any, axis: int = -1) -> Any:
    """Where the smallest value is along an axis, the last by default.

    Args:
        x: tensor, array or number.

    >>> from minikeras import backend as K
    >>> K.argmin([[1.0, 3.0, 2.0]])
    <Tensor shape=(1,) dtype=int32>
    array([0], dtype=int32)
    """
    return ops.argmin(x, axis)


def cumsum(x: Any, axis: int = 0) -> Any:
    """Running sums along an axis, the first by default.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.cumsum(np.array([1.0, 2.0, 3.0]))
    <Tensor shape=(3,) dtype=float64>
    array([1., 3., 6.])
    """
    return ops.cumsum(x, axis)


def cumprod(x: Any, axis: int = 0) -> Any:
    """Running products along an axis, the first by default.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.cumprod(np.array([1.0, 2.0, 3.0]))
    <Tensor shape=(3,) dtype=float64>
    array([1., 2., 6.])
    """
    return ops.cumprod(x, axis)


def clip(x: Any, min_value: Any, max_value: Any) -> Any:
    """`x` limited to `min_value ... max_value`; of limits in the wrong order the lower one counts for both.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.clip(np.array([-2.0, 2.0]), -1.0, 1.0)
    <Tensor shape=(2,) dtype=float64>
    array([-1.,  1.])
    """
    if isinstance(min_value, (int, float)) and isinstance(max_value, (int, float)) and max_value < min_value:
        max_value = min_value
    return ops.clip(x, -math.inf if min_value is None else min_value, math.inf if max_value is None else max_value)


def one_hot(indices: Any, num_classes: int) -> Any:
    """Rows with a one at each index, else zeros.

    Args:
        indices: whole numbers.
        num_classes: size of the new axis.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.one_hot(np.array([0, 2]), 3)
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    return ops.one_hot(indices, num_classes)


def _of_two(name: str) -> Callable[[Any, Any], Any]:
    operation = getattr(ops, name)

    return _named(
        lambda x, y: operation(x, y), name, f"`ops.{name}` of two tensors.", "K.ones((2,)), K.ones((2,))", (2,)
    )


equal, not_equal = _of_two("equal"), _of_two("not_equal")
greater, greater_equal = _of_two("greater"), _of_two("greater_equal")
less, less_equal = _of_two("less"), _of_two("less_equal")
maximum, minimum = _of_two("maximum"), _of_two("minimum")


def pow(x: Any, a: Any) -> Any:
    """`x ** a`.

    >>> from minikeras import backend as K
    >>> K.pow([2.0, 3.0], 2)
    <Tensor shape=(2,) dtype=float32>
    array([4., 9.], dtype=float32)
    """
    return ops.power(x, a)


def l2_normalize(x: Any, axis: Any = None) -> Any:
    """`x` divided by its Euclidean norm along an axis.

    >>> from minikeras import backend as K
    >>> K.l2_normalize([3.0, 4.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.6, 0.8], dtype=float32)
    """
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """`max_value` above it, `x` above the threshold, `alpha * (x - threshold)` below.

    >>> from minikeras import backend as K
    >>> K.relu([-1.0, 9.0], alpha=0.1, max_value=6.0)
    <Tensor shape=(2,) dtype=float32>
    array([-0.1,  6. ], dtype=float32)
    """
    return activations.relu(x, negative_slope=alpha, max_value=max_value, threshold=threshold)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of probabilities (or logits) with targets between 0 and 1, elementwise.

    Args:
        target: the right values.
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.binary_crossentropy(np.array([1.0]), np.array([0.8]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    return ops.binary_crossentropy(target, output, from_logits)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of distributions (or logits) along an axis with target distributions.

    Args:
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.categorical_crossentropy(np.array([[0.0, 1.0]]), np.array([[0.2, 0.8]]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    return ops.categorical_crossentropy(target, output, from_logits, axis)


def binary_focal_crossentropy(
    target: Any,
    output: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
) -> Any:
    """`binary_crossentropy`, elementwise, less where predictions are right (Lin et al. 2018).

    Args:
        target: the right values.
        output: the predictions.
        apply_class_balancing: whether classes are weighted by `alpha`.
        alpha: the weight of class 1.
        gamma: how much easy samples count less.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> from minikeras import backend as K
    >>> K.binary_focal_crossentropy(K.constant([[1.0]]), K.constant([[0.5]])).numpy().round(4).tolist()
    [[0.17329999804496765]]
    """
    chance = ops.sigmoid(output) if from_logits else output
    right = target * chance + (1 - target) * (1 - chance)
    loss = ops.power(1 - right, gamma) * binary_crossentropy(target, output, from_logits)
    return loss * (target * alpha + (1 - target) * (1 - alpha)) if apply_class_balancing else loss


def categorical_focal_crossentropy(
    target: Any, output: Any, alpha: Any = 0.25, gamma: float = 2.0, from_logits: bool = False, axis: int = -1
) -> Any:
    """`categorical_crossentropy`, less where predictions are right (Lin et al. 2018).

    Args:
        alpha: one number, or one for each class.
        target: the right values.
        output: the predictions.
        gamma: how much easy samples count less.
        from_logits: whether `output` holds logits instead of probabilities.
        axis: the axis, or several; by default all.

    >>> from minikeras import backend as K
    >>> K.categorical_focal_crossentropy(K.constant([[1.0, 0.0]]), K.constant([[0.5, 0.5]])).numpy().round(4).tolist()
    [0.043299999088048935]
    """
    chances = ops.softmax(output, axis) if from_logits else output / ops.sum(output, axis, keepdims=True)
    chances = ops.clip(chances, config.epsilon(), 1 - config.epsilon())
    return ops.sum(-alpha * ops.power(1 - chances, gamma) * target * ops.log(chances), axis)


def batch_normalization(
    x: Any, mean: Any, var: Any, beta: Any, gamma: Any, axis: int = -1, epsilon: float = 1e-3
) -> Any:
    """`gamma * (x - mean) / sqrt(var + epsilon) + beta`, with one number for each entry of an axis, or broadcast.

    Args:
        beta, gamma: None for none.

    >>> from minikeras import backend as K
    >>> K.batch_normalization(K.constant([[4.0]]), 0.0, 4.0, 1.0, 2.0, epsilon=0.0).numpy().tolist()
    [[5.0]]
    """
    shape = [1] * len(x.shape)
    shape[axis] = -1
    mean, var, beta, gamma = [
        ops.reshape(one, shape) if len(getattr(one, "shape", ())) == 1 else one for one in (mean, var, beta, gamma)
    ]
    y = (x - mean) / ops.sqrt(var + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of distributions (or logits) along an axis with integer targets.

    Args:
        target: the right values.
        output: the predictions.
        from_logits: whether `output` holds logits instead of probabilities.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.sparse_categorical_crossentropy(np.array([1]), np.array([[0.2, 0.8]]))
    <Tensor shape=(1,) dtype=float64>
    array([0.22314355])
    """
    return ops.sparse_categorical_crossentropy(target, output, from_logits, axis)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """Values of the one or the other (tensors, or functions that return them), as the condition says.

    Args:
        then_expression: a tensor or a function of no arguments.
        else_expression: the same, for where the condition is false.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.switch(np.array(True), np.array([1.0]), np.array([2.0]))
    <Tensor shape=(1,) dtype=float32>
    array([1.], dtype=float32)
    """
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
    """`x` with a share `level` of its values set to 0 and the others scaled up.

    Args:
        noise_shape: shape of the mask, whose axes of size 1 are shared.

    >>> import numpy as np
    >>> from minikeras import backend as K
    >>> K.dropout(np.ones((2, 3)), 0.5, seed=1).shape
    (2, 3)
    """
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
