"""Transposed convolutions over one, two and three spatial axes: they make pictures larger by learned windows."""

from __future__ import annotations

from typing import Any

from minikeras import constraints, initializers, regularizers
from minikeras.layers.common import int_tuple, known_size, positive_int, replace_axes, spatial_axes
from minikeras.layers.convolutional import Windowed
from minikeras.ops import nn


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

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = 1,
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
        super().__init__(
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            bias_constraint,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        kind = type(self).__name__
        self.filters = positive_int(kind, "filters", filters)
        self.output_padding = (
            None if output_padding is None else int_tuple(self, "output_padding", output_padding, self.rank, least=0)
        )
        self._extras = self.output_padding or (None,) * self.rank
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        if any(extra is not None and extra >= step for extra, step in zip(self._extras, self.strides, strict=True)):
            raise ValueError(
                f"{kind} needs an output_padding that is less than the strides, got output_padding="
                f"{self.output_padding} and strides={self.strides}."
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{kind} takes strides above 1 or a dilation_rate above 1, not both, got strides={self.strides} and "
                f"dilation_rate={self.dilation_rate}."
            )

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self._channel_axis)
        self.kernel = self.add_weight(
            (*self.kernel_size, self.filters, channels),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self._add_bias(channels, self.filters)

    def call(self, inputs: Any) -> Any:
        return self._convolve(nn.transposed_convolution, inputs, output_padding=self._extras)

    def compute_output_shape(self, input_shape: Any) -> Any:
        axes = spatial_axes(self.data_format, self.rank)
        geometry = zip(self.kernel_size, self.strides, self.dilation_rate, self._extras, strict=True)
        sizes: dict[int, int | None] = {self._channel_axis % len(input_shape): self.filters}
        for axis, (size, stride, dilation, extra) in zip(axes, geometry, strict=True):
            length = input_shape[axis]
            sizes[axis] = (
                None if length is None else nn.transposed_length(length, size, stride, dilation, self.padding, extra)
            )
        return replace_axes(input_shape, sizes)


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution of sequences: (batch, steps, channels); arguments as for `ConvTranspose`."""

    rank = 1


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution of pictures: (batch, rows, columns, channels); arguments as for `ConvTranspose`."""

    rank = 2


class Conv3DTranspose(ConvTranspose):
    """Transposed convolution of volumes: (batch, depth, rows, columns, channels); arguments as for `ConvTranspose`.

    By position `data_format` comes before `output_padding` here.
    """

    rank = 3

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: Any = None,
        dilation_rate: Any = 1,
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
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            output_padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            **kwargs,
        )
