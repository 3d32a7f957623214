"""Layers at the root of most models: input, dense, activation, embedding, masking."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import activations, constraints, initializers, journal, ops, regularizers
from minikeras.autodiff.symbolic import KerasTensor, SymbolicNode
from minikeras.layers.common import Elementwise, SameType, known_size, positive_int, sizes_argument
from minikeras.layers.layer import Layer
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import number, whole


class InputLayer(Layer):
    """The entrance of a graph.

    Args:
        shape: shape of one sample.
        batch_size: fixed batch size, default open.
        dtype: default `floatx()`.
        batch_shape: shape with the batch axis, instead of `shape` and `batch_size`.
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
            shape = kwargs.pop("input_shape")
        if input_tensor is not None:
            batch_shape, dtype = _ends_of(input_tensor, shape, batch_shape, dtype)
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
        self._input_dtype = str(np.dtype(dtype)) if dtype else self.dtype
        self.sparse, self.ragged, self.optional = bool(sparse), bool(ragged), bool(optional)
        self.built = True
        if input_tensor is None:
            input_tensor = KerasTensor(self.batch_shape, self._input_dtype, name=self.name)
        SymbolicNode(self, (), {}, input_tensor)

    @property
    def dtype(self) -> str:
        return getattr(self, "_input_dtype", self._dtype_policy.variable_dtype)

    def call(self) -> None:
        """Nothing: an input has no values of its own."""

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def _ends_of(tensor: Any, shape: Any, batch_shape: Any, dtype: Any) -> tuple[Any, Any]:
    """The batch shape and type of a symbolic tensor that becomes an input, which must not contradict the arguments."""
    if not isinstance(tensor, KerasTensor):
        raise ValueError(f"An Input takes a symbolic tensor as its tensor, got {tensor!r:.80}.")
    wanted = tensor.shape if batch_shape is None else tuple(batch_shape)
    if shape is not None:
        wanted = (tensor.shape[0], *((shape,) if isinstance(shape, (int, np.integer)) else shape))
    if wanted != tensor.shape or (dtype is not None and str(np.dtype(dtype)) != tensor.dtype):
        raise ValueError(
            f"The tensor of an Input has shape {tensor.shape} and type {tensor.dtype}, got shape={shape!r}, "
            f"batch_shape={batch_shape!r}, dtype={dtype!r} beside it; leave these out."
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
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        name=name,
        optional=optional,
    )
    return layer.output


class Dense(Layer):
    """`activation(inputs @ kernel + bias)` over the last axis.

    Args:
        units: size of the output's last axis.
        activation: name or function, default none.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.
    """

    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive_int("Dense", "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = InputSpec(min_ndim=2)
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        features = known_size(self, input_shape, -1)
        self.kernel = self.add_weight(
            (features, self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    def call(self, inputs: Any) -> Any:
        fused, activation = activations.epilogue(self.activation)
        outputs = nn.dense_layer(inputs, self.kernel, self.bias, activation=fused)
        return outputs if activation is None else activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "quantization_config": None}
        if self.activity_regularizer is None:
            del config["activity_regularizer"]
        return config


class Activation(Elementwise):
    """An activation function as a layer.

    Args:
        activation: name or function.
    """

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class Embedding(Layer):
    """A vector for each integer: integers of any shape to that shape and `output_dim`.

    Args:
        input_dim: number of different integers, 0 to `input_dim - 1`.
        output_dim: size of a vector.
        embeddings_initializer: default `"uniform"`, within 0.05 of 0.
        embeddings_regularizer, embeddings_constraint: penalty and projection, default none.
        mask_zero: whether 0 stands for padding, which later layers leave out.
        weights: the vectors to start from, shape `(input_dim, output_dim)`.
        input_length: of the first layer of a `Sequential`: the number of integers in each sample.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ):
        length = kwargs.pop("input_length", None)
        if length is not None:
            kwargs["input_shape"] = length
        super().__init__(**{"autocast": False, **kwargs})
        self.input_dim = positive_int("Embedding", "input_dim", input_dim)
        self.output_dim = positive_int("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.supports_masking = bool(mask_zero)
        if weights is not None:
            self.build()
            with journal.paused():
                self.set_weights(weights if isinstance(weights, list) and len(weights) == 1 else [weights])

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def call(self, inputs: Any) -> Any:
        return nn.embedding_lookup(self.embeddings, inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {"activity_regularizer": None, **super().get_config(), "quantization_config": None}
        del config["weights"]
        return config


class Masking(Elementwise):
    """Marks the time steps of (batch, time, features) whose features all equal `mask_value`, and sets them to 0.

    Args:
        mask_value: default 0.
    """

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        number("mask_value", mask_value, owner="Masking")
        self.mask_value = mask_value

    def call(self, inputs: Any) -> Any:
        return ops.where(ops.expand_dims(self.compute_mask(inputs), -1), inputs, 0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)


class Identity(Elementwise, SameType):
    """Returns its inputs."""

    def call(self, inputs: Any) -> Any:
        return inputs
