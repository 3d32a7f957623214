"""Layers at the root of most models: input, dense, activation, embedding, masking."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from minikeras import activations, journal, ops
from minikeras.autodiff.strings import type_name
from minikeras.autodiff.symbolic import KerasTensor, SymbolicNode
from minikeras.declared import Kept, Number
from minikeras.layers.common import Elementwise, SameType, activated_shape, known_size, sizes_argument
from minikeras.layers.fields import Activation as ActivationFunction
from minikeras.layers.fields import Constraint, Initializer, Positive, Regularizer, declared, field
from minikeras.layers.layer import Layer
from minikeras.layers.older_paths import find_all_layers
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import flag, whole


class InputLayer(Layer):
    """The entrance of a graph.

    Args:
        shape: shape of one sample.
        batch_size: fixed batch size, default open.
        dtype: default `floatx()`.
        batch_shape: shape with the batch axis, instead of `shape` and `batch_size`.
        input_tensor: a symbolic tensor that is the entrance.
        optional: whether None may be passed.
        sparse, ragged: accepted for familiarity.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> keras.Sequential([layers.InputLayer(shape=(3,)), layers.Dense(2)]).output_shape
    (None, 2)
    """

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Any = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ):
        batch_shape = batch_shape if batch_shape is not None else kwargs.pop("batch_input_shape", None)
        if shape is None and kwargs.get("input_shape") is not None:
            warnings.warn(f"InputLayer takes shape={kwargs['input_shape']!r}, not input_shape.", stacklevel=2)
            shape = kwargs.pop("input_shape")
        if input_tensor is not None:
            batch_shape, dtype = _ends_of(input_tensor, shape, batch_size, batch_shape, dtype)
            shape = batch_size = None
        if (shape is None) == (batch_shape is None):
            raise ValueError(f"Input needs a shape or a batch_shape, got shape={shape!r}, batch_shape={batch_shape!r}.")
        if batch_size is not None and batch_shape is not None:
            raise ValueError(
                f"Input takes the batch size in batch_shape or as batch_size, got batch_shape={batch_shape!r} and "
                f"batch_size={batch_size!r}."
            )
        if sparse or ragged:
            raise ValueError(f"Inputs here are dense, got sparse={sparse!r}, ragged={ragged!r}; leave both out.")
        super().__init__(name=name, **kwargs)
        if batch_shape is not None:
            self.batch_shape = sizes_argument(self, "batch_shape", batch_shape, least=0, open=True)
        else:
            batch_size = whole("batch_size", batch_size, 0, owner="Input", optional=True)
            self.batch_shape = (batch_size, *sizes_argument(self, "shape", shape, least=0, open=True))
        if isinstance(dtype, dict):
            dtype = dtype["config"]["name"]
        self._input_dtype = type_name(dtype) if dtype is not None else self.dtype
        self.sparse = self.ragged = False
        self.optional = flag("optional", optional, owner="Input")
        self.built = True
        if input_tensor is None:
            input_tensor = KerasTensor(self.batch_shape, self._input_dtype, name=self.name)
        SymbolicNode(self, (), {}, input_tensor)

    @property
    def dtype(self) -> str:
        return getattr(self, "_input_dtype", self.variable_dtype)

    def call(self) -> None:
        """Nothing: an input has no values of its own."""

    def get_config(self) -> dict[str, Any]:
        names = ("batch_shape", "dtype", "sparse", "ragged", "name", "optional")
        return {name: getattr(self, name) for name in names}


def _ends_of(tensor: Any, shape: Any, batch_size: Any, batch_shape: Any, dtype: Any) -> tuple[Any, Any]:
    """The batch shape and type of a symbolic tensor that becomes an input, which must not contradict the arguments."""
    if not isinstance(tensor, KerasTensor):
        raise ValueError(f"An Input takes a symbolic tensor as its tensor, got {tensor!r:.80}.")
    wanted = tensor.shape if batch_shape is None else tuple(batch_shape)
    if shape is not None:
        wanted = (wanted[0], *((shape,) if isinstance(shape, (int, np.integer)) else shape))
    if batch_size is not None:
        wanted = (batch_size, *wanted[1:])
    if wanted != tensor.shape or (dtype is not None and type_name(dtype) != tensor.dtype):
        raise ValueError(
            f"The tensor of an Input has shape {tensor.shape} and type {tensor.dtype}, got shape={shape!r}, "
            f"batch_size={batch_size!r}, batch_shape={batch_shape!r}, dtype={dtype!r} beside it; leave these out."
        )
    return tensor.shape, tensor.dtype


@user_facing
def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor to start a functional model from.

    Args:
        shape: shape of one sample, for example `(784,)`; None for an open dimension.
        batch_size, dtype, batch_shape, name: as for `InputLayer`.
        sparse: accepted for familiarity; the result is dense.
        ragged: accepted for familiarity; there are no ragged tensors.
        optional: whether None may be passed.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> x = keras.Input((4,))
    >>> keras.Model(x, layers.Dense(2)(x)).output_shape
    (None, 2)
    """
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name).output


@declared
class Dense(Layer):
    """`activation(inputs @ kernel + bias)` over the last axis.

    Args:
        units: size of the output's last axis.
        activation: name or function, default none.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.Dense(2, activation="relu")
    >>> layer(np.ones((5, 3))).shape
    (5, 2)
    >>> [weight.shape for weight in layer.weights]
    [(3, 2), (2,)]
    """

    supports_masking = True
    input_spec = InputSpec(min_ndim=2)

    units: Positive[int]
    activation: ActivationFunction = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def build(self, input_shape: Any) -> None:
        features = known_size(self, input_shape, -1)
        self.kernel = self.add_weight("kernel", (features, self.units))
        self.bias = self.add_weight("bias", (self.units,)) if self.use_bias else None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    def call(self, inputs: Any) -> Any:
        fused, activation = activations.epilogue(self.activation)
        outputs = nn.dense_layer(inputs, self.kernel, self.bias, activation=fused)
        return outputs if activation is None else activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, (*input_shape[:-1], self.units))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "quantization_config": None}
        if self.activity_regularizer is None:
            config.pop("activity_regularizer", None)
        return config


@declared
class Activation(Elementwise):
    """An activation function as a layer.

    Args:
        activation: name or function.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Activation("relu")(np.array([-1.0, 2.0]))
    <Tensor shape=(2,) dtype=float32>
    array([0., 2.], dtype=float32)
    """

    activation: ActivationFunction

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, input_shape)


@declared
class Embedding(Layer):
    """A vector for each integer: integers of any shape to that shape and `output_dim`.

    An integer out of range is refused; on a GPU, which would have to be waited for, its vector is NaN.

    Args:
        input_dim: number of different integers, 0 to `input_dim - 1`.
        output_dim: size of a vector.
        embeddings_initializer: default `"uniform"`, within 0.05 of 0.
        embeddings_regularizer, embeddings_constraint: penalty and projection, default none.
        mask_zero: whether 0 stands for padding, which later layers leave out.
        weights: the vectors to start from, shape `(input_dim, output_dim)`.
        input_length: of the first layer of a `Sequential`: the number of integers in each sample.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Embedding(10, 4)(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    input_dim: Positive[int]
    output_dim: Positive[int]
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: bool = False
    if not TYPE_CHECKING:
        weights: Any = field(default=None, stored=False)
    autocast: bool = field(default=False, kw_only=True)

    def __post_init__(self, weights: Any) -> None:  # type: ignore[override]
        self.supports_masking = self.mask_zero
        if weights is not None:
            self.build()
            with journal.paused():
                self.set_weights(weights if isinstance(weights, list) and len(weights) == 1 else [weights])

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = {"input_shape" if name == "input_length" else name: value for name, value in given.items()}
        return super()._other_arguments({name: value for name, value in given.items() if value is not None})

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.embeddings = self.add_weight("embeddings", (self.input_dim, self.output_dim))

    def call(self, inputs: Any) -> Any:
        outputs = nn.embedding_lookup(self.embeddings, inputs)
        return outputs if outputs.data.dtype is self._compute_type else ops.cast(outputs, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {"activity_regularizer": None, **super().get_config(), "quantization_config": None}
        config.pop("weights", None)
        return config


@declared
class Masking(Elementwise):
    """Marks the time steps of (batch, time, features) whose features all equal `mask_value`, and sets them to 0.

    Args:
        mask_value: default 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> steps = np.array([[[1.0], [0.0], [2.0]]])
    >>> layers.Masking()(steps)._keras_mask
    <Tensor shape=(1, 3) dtype=bool>
    array([[ True, False,  True]])
    """

    mask_value: Annotated[Any, Kept(Number())] = 0.0

    def call(self, inputs: Any) -> Any:
        return ops.where(ops.expand_dims(self.compute_mask(inputs), -1), inputs, 0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)


class Identity(Elementwise, SameType):
    """Returns its inputs.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Identity()(np.array([1.0, 2.0]))
    <Tensor shape=(2,) dtype=float32>
    array([1., 2.], dtype=float32)
    """

    takes_strings = True

    def call(self, inputs: Any) -> Any:
        return inputs


find_all_layers(__name__)
