"""Convolutions whose kernel differs from place to place, which Keras 2 has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from minikeras import kernels as k
from minikeras import ops
from minikeras.declared import OneOf
from minikeras.layers.common import activated_shape, known_size
from minikeras.layers.convolutional import Padding, Windowed
from minikeras.layers.fields import (
    Activation,
    Constraint,
    DataFormat,
    Initializer,
    Positive,
    Regularizer,
    Sizes,
    declared,
)


@declared
class LocallyConnected(Windowed):
    """A convolution with a kernel, and a bias, of its own for every place.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, one integer or one for each spatial axis; so are `strides`, the steps between
            windows.
        padding: `"valid"` (none) or `"same"` (output length is input length / stride, rounded up).
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        activation: name or function, default none.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.
        implementation: 1, 2 or 3, accepted for familiarity.

    The kernel has shape (places, window * channels, filters), as with Keras 2's `implementation=1`; the bias
    (*places, filters).  The spatial sizes of the inputs must be known.
    """

    filters: Positive[int]
    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    data_format: DataFormat = None
    activation: Activation = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    implementation: Annotated[int, OneOf(1, 2, 3)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dilation_rate = (1,) * self.rank

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        shape = self._output_shape(input_shape, self.filters)
        self._places = [known_size(self, shape, axis) for axis in self._axes]
        inside = math.prod(self.kernel_size) * channels
        self.kernel = self.add_weight("kernel", (math.prod(self._places), inside, self.filters))
        if self.use_bias:
            self.bias = self.add_weight("bias", (*self._places, self.filters))

    def call(self, inputs: Any) -> Any:
        patches = self._windows(inputs)
        outputs = ops.einsum("npk,pkf->npf", patches, self.kernel)
        outputs = ops.reshape(outputs, (inputs.shape[0], *self._places, self.filters))
        outputs = outputs if self.bias is None else ops.add(outputs, self.bias)
        if self.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 1)
        return outputs if self.activation is None else self.activation(outputs)

    def _windows(self, inputs: Any) -> Any:
        """The inputs (n, places, window * channels) of every place; channels come first where they do in the inputs."""
        first = self._axes[0]
        for number, (size, step, places) in enumerate(zip(self.kernel_size, self.strides, self._places, strict=True)):
            axis = first + 2 * number  # each axis before has become two
            if self.padding == "same":
                widths = [(0, 0)] * len(inputs.shape)
                widths[axis] = k.same_padding(inputs.shape[axis], size, step, 1)
                inputs = ops.pad(inputs, widths)
            starts = k.xp.arange(places).reshape(-1, 1) * step
            inputs = ops.take(inputs, starts + k.xp.arange(size), axis=axis)
        spatial = range(first, first + 2 * self.rank)
        channels = 1 if first == 2 else len(inputs.shape) - 1
        inside = [*spatial[1::2], channels] if first == 1 else [channels, *spatial[1::2]]
        inputs = ops.transpose(inputs, (0, *spatial[::2], *inside))
        return ops.reshape(inputs, (inputs.shape[0], math.prod(self._places), -1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, self._output_shape(input_shape, self.filters))


class LocallyConnected1D(LocallyConnected):
    """Sequences: (batch, steps, channels); arguments as for `LocallyConnected`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.LocallyConnected1D(4, 3)(np.ones((2, 8, 1), "float32")).shape
    (2, 6, 4)
    """

    rank = 1


class LocallyConnected2D(LocallyConnected):
    """Pictures: (batch, rows, columns, channels); arguments as for `LocallyConnected`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.LocallyConnected2D(4, 3, strides=2)(np.ones((2, 7, 9, 1), "float32")).shape
    (2, 3, 4, 4)
    """

    rank = 2
