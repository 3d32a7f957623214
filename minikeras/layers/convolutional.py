"""Convolutions over one, two and three spatial axes, dense over the channels or each channel by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from minikeras import activations
from minikeras.layers.common import Spatial, activated_shape, choice, known_size, replace_axes, window_counts
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
from minikeras.layers.older_paths import find_all_layers
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn

Padding = Annotated[str, lambda layer, name, value: choice(layer, name, value, layer._paddings())]


class Windowed(Spatial):
    """What all convolutions share: the geometry, the bias and the activation.

    Args:
        strides, padding, dilation_rate: steps between windows, `"valid"` or `"same"`, steps within a window.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        activation: name or function, default none.
        use_bias, bias_initializer, bias_regularizer, bias_constraint: whether a bias is added, and its settings.
    """

    kernel_size: Any
    strides: Any
    padding: str
    dilation_rate: Any
    activation: Any
    use_bias: bool
    kernel: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bias: Any = None
        self._channel_axis = -1 if self.data_format == "channels_last" else 1

    def _not_both(self) -> None:
        """Refuse strides and dilation together."""
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{type(self).__name__} takes strides above 1 or a dilation_rate above 1, not both, got "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}."
            )

    def _paddings(self) -> tuple[str, ...]:
        return ("valid", "same")

    def _add_bias(self, channels: int, filters: int) -> None:
        if self.use_bias:
            self.bias = self.add_weight("bias", (filters,))
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})

    def _convolve(self, primitive: Callable, inputs: Any, **settings: Any) -> Any:
        """`activation(inputs * kernel + bias)`, where `primitive` is the way of convolving."""
        fused, activation = activations.epilogue(self.activation)
        settings |= {"strides": self.strides, "padding": self.padding, "dilation": self.dilation_rate}
        settings |= {"data_format": self.data_format, "activation": fused}
        outputs = primitive(inputs, self.kernel, self.bias, **settings)
        return outputs if activation is None else activation(outputs)

    def _output_shape(self, input_shape: Any, filters: Any) -> Any:
        geometry = self._axes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        counts = window_counts(self, input_shape, *geometry)
        return replace_axes(input_shape, {**counts, self._channel_axis % len(input_shape): filters})


@declared
class Conv(Windowed):
    """`activation(inputs * kernel + bias)`, `*` being the correlation over the spatial axes.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, one integer or one for each spatial axis; so are `strides`, the steps between
            windows, and `dilation_rate`, the steps within one.
        padding: `"valid"` (none), `"same"` (output length is input length / stride, rounded up) or, for `Conv1D`,
            `"causal"` (no window sees later steps).
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        groups: number of equal parts of the channels that are convolved apart from each other.
        activation: name or function, default none.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.

    The kernel has shape `(*kernel_size, channels / groups, filters)` in either data format.
    """

    filters: Positive[int]
    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    data_format: DataFormat = None
    dilation_rate: Sizes = 1
    groups: Positive[int] = 1
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filters % self.groups:
            raise ValueError(
                f"{type(self).__name__} needs filters that divide into {self.groups} groups, got "
                f"filters={self.filters}."
            )
        self._not_both()

    def _paddings(self) -> tuple[str, ...]:
        return ("valid", "same", "causal") if self.rank == 1 else ("valid", "same")

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        if channels % self.groups:
            self._refuse(
                f"needs channels that divide into {self.groups} groups, got inputs of shape {tuple(input_shape)} with "
                f"{channels} channels"
            )
        self._output_shape(input_shape, self.filters)
        self.kernel = self.add_weight("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self._add_bias(channels, self.filters)

    def call(self, inputs: Any) -> Any:
        return self._convolve(nn.convolution, inputs, groups=self.groups)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, self._output_shape(input_shape, self.filters))


class Conv1D(Conv):
    """Convolution of sequences: (batch, steps, channels); arguments as for `Conv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.Conv1D(8, 3, padding="causal", activation="relu")
    >>> layer(np.ones((2, 10, 4))).shape
    (2, 10, 8)
    >>> layer.kernel.shape
    (3, 4, 8)
    """

    rank = 1


class Conv2D(Conv):
    """Convolution of pictures: (batch, rows, columns, channels); arguments as for `Conv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.Conv2D(8, 3, strides=2, padding="same")
    >>> layer(np.ones((2, 9, 9, 4))).shape
    (2, 5, 5, 8)
    >>> layer.kernel.shape
    (3, 3, 4, 8)
    """

    rank = 2


class Conv3D(Conv):
    """Convolution of volumes: (batch, depth, rows, columns, channels); arguments as for `Conv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Conv3D(8, 3)(np.ones((1, 5, 5, 5, 2))).shape
    (1, 3, 3, 3, 8)
    """

    rank = 3


@declared
class DepthwiseConv(Windowed):
    """Each input channel convolved with `depth_multiplier` kernels of its own.

    Args:
        depth_multiplier: output channels for each input channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: for the kernel, which has shape
            `(*kernel_size, channels, depth_multiplier)`.

    The other arguments are those of `Conv`.
    """

    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    depth_multiplier: Positive[int] = 1
    data_format: DataFormat = None
    dilation_rate: Sizes = 1
    activation: Activation = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None
    depthwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        self._output_shape(input_shape, channels)
        self.kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
            name="kernel",
        )
        self._add_bias(channels, channels * self.depth_multiplier)

    def call(self, inputs: Any) -> Any:
        return self._convolve(nn.depthwise_convolution, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        channels = known_size(self, input_shape, self._channel_axis)
        return activated_shape(self, self._output_shape(input_shape, channels * self.depth_multiplier))


class DepthwiseConv1D(DepthwiseConv):
    """Depthwise convolution of sequences: (batch, steps, channels); arguments as for `DepthwiseConv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.DepthwiseConv1D(3, depth_multiplier=2)(np.ones((1, 5, 4))).shape
    (1, 3, 8)
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """Depthwise convolution of pictures: (batch, rows, columns, channels); arguments as for `DepthwiseConv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.DepthwiseConv2D(3)(np.ones((1, 5, 5, 4))).shape
    (1, 3, 3, 4)
    """

    rank = 2


@declared
class SeparableConv(Windowed):
    """A depthwise convolution, then one with windows of one position, which mixes the channels.

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, data_format, dilation_rate: of the depthwise convolution, as for `Conv`.
        depth_multiplier: channels between the two for each input channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: for the first kernel, which has shape
            `(*kernel_size, channels, depth_multiplier)`.
        pointwise_initializer, pointwise_regularizer, pointwise_constraint: for the second kernel, which has shape
            `(1, ..., channels * depth_multiplier, filters)`.

    The other arguments are those of `Conv`.
    """

    filters: Positive[int]
    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    data_format: DataFormat = None
    dilation_rate: Sizes = 1
    depth_multiplier: Positive[int] = 1
    activation: Activation = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    pointwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    pointwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    if not TYPE_CHECKING:  # see `Layer`
        activity_regularizer: Regularizer = None
    depthwise_constraint: Constraint = None
    pointwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        self._output_shape(input_shape, self.filters)
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier)
        )
        self.pointwise_kernel = self.add_weight(
            "pointwise_kernel", (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        )
        self._add_bias(channels, self.filters)

    def call(self, inputs: Any) -> Any:
        fused, activation = activations.epilogue(self.activation)
        settings: Any = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation_rate}
        layout: Any = {"data_format": self.data_format}
        middle = nn.depthwise_convolution(inputs, self.depthwise_kernel, **settings, **layout)
        outputs = nn.convolution(middle, self.pointwise_kernel, self.bias, activation=fused, **layout)
        return outputs if activation is None else activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, self._output_shape(input_shape, self.filters))


class SeparableConv1D(SeparableConv):
    """Separable convolution of sequences: (batch, steps, channels); arguments as for `SeparableConv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SeparableConv1D(8, 3)(np.ones((1, 5, 4))).shape
    (1, 3, 8)
    """

    rank = 1


class SeparableConv2D(SeparableConv):
    """Separable convolution of pictures: (batch, rows, columns, channels); arguments as for `SeparableConv`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SeparableConv2D(8, 3)(np.ones((1, 5, 5, 4))).shape
    (1, 3, 3, 8)
    """

    rank = 2


find_all_layers(__name__)
