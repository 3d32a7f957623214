"""Transposed convolutions over one, two and three spatial axes: they make pictures larger by learned windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from minikeras.layers.common import activated_shape, int_tuple, known_size, replace_axes
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
from minikeras.ops import nn


def _output_padding(layer: Windowed, name: str, value: Any) -> Any:
    return None if value is None else int_tuple(layer, name, value, layer.rank, least=0)


OutputPadding = Annotated[Any, _output_padding]


@declared
class ConvTranspose(Windowed):
    """The transpose of a convolution: each input adds its multiple of the kernel to a window of the outputs.

    Args:
        filters: number of output channels.
        kernel_size: size of the window, one integer or one for each spatial axis; so are `strides`, the steps between
            windows, and `dilation_rate`, the steps within one.
        padding: `"valid"` (all windows, an output length of `(n - 1) * stride + max(window, stride)`) or `"same"`
            (`n * stride`); a window is `dilation_rate * (kernel_size - 1) + 1` long.
        output_padding: how much longer than its shortest an output becomes, one integer less than the stride or one for
            each spatial axis: `(n - 1) * stride + window + output_padding`, without `2 * (window // 2)` of it for
            `"same"`; default None, the lengths above.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        activation: name or function, default none.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.

    The kernel has shape `(*kernel_size, filters, channels)` in either data format.
    """

    filters: Positive[int]
    kernel_size: Sizes
    strides: Sizes = 1
    padding: Padding = "valid"
    output_padding: OutputPadding = None
    data_format: DataFormat = None
    dilation_rate: Sizes = 1
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
        self._extras = self.output_padding or (None,) * self.rank
        if any(extra is not None and extra >= step for extra, step in zip(self._extras, self.strides, strict=True)):
            raise ValueError(
                f"{type(self).__name__} needs an output_padding that is less than the strides, got output_padding="
                f"{self.output_padding} and strides={self.strides}."
            )
        self._not_both()

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        self.kernel = self.add_weight("kernel", (*self.kernel_size, self.filters, channels))
        self._add_bias(channels, self.filters)

    def call(self, inputs: Any) -> Any:
        return self._convolve(nn.transposed_convolution, inputs, output_padding=self._extras)

    def compute_output_shape(self, input_shape: Any) -> Any:
        geometry = zip(self.kernel_size, self.strides, self.dilation_rate, self._extras, strict=True)
        sizes: dict[int, int | None] = {self._channel_axis % len(input_shape): self.filters}
        for axis, (size, stride, dilation, extra) in zip(self._axes, geometry, strict=True):
            length = input_shape[axis]
            sizes[axis] = (
                None if length is None else nn.transposed_length(length, size, stride, dilation, self.padding, extra)
            )
        return activated_shape(self, replace_axes(input_shape, sizes))


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution of sequences: (batch, steps, channels); arguments as for `ConvTranspose`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Conv1DTranspose(8, 3, strides=2)(np.ones((1, 5, 4))).shape
    (1, 11, 8)
    """

    rank = 1


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution of pictures: (batch, rows, columns, channels); arguments as for `ConvTranspose`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Conv2DTranspose(8, 3, strides=2, padding="same")(np.ones((1, 5, 5, 4))).shape
    (1, 10, 10, 8)
    """

    rank = 2


@declared
class Conv3DTranspose(ConvTranspose):
    """Transposed convolution of volumes: (batch, depth, rows, columns, channels); arguments as for `ConvTranspose`.

    By position `data_format` comes before `output_padding` here.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Conv3DTranspose(8, 3)(np.ones((1, 3, 3, 3, 4))).shape
    (1, 5, 5, 5, 8)
    """

    rank = 3

    data_format: DataFormat = None
    output_padding: OutputPadding = None
    dilation_rate: Sizes = 1
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
