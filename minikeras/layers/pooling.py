"""Maximum and mean over windows of the spatial axes, or over all of them."""

from __future__ import annotations

from typing import Any

from minikeras import config, ops
from minikeras.layers.base import InputSpec, Layer
from minikeras.layers.common import choice, int_tuple, replace_axes, spatial_axes, window_counts


class _Pooling(Layer):
    """The maximum or the mean of each window.

    Args:
        pool_size: size of the window, one integer or one for each spatial axis.
        strides: steps between windows, default `pool_size`.
        padding: `"valid"`, or `"same"` for ceil(length / stride) windows, those at the ends partly empty.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    rank = 0

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.pool_size = int_tuple(self, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else int_tuple(self, "strides", strides, self.rank)
        self.padding = choice(self, "padding", padding, ("valid", "same"))
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        axes = spatial_axes(self.data_format, self.rank)
        counts = window_counts(self, input_shape, axes, self.pool_size, self.strides, self.padding, (1,) * self.rank)
        return replace_axes(input_shape, counts)


class _MaxPooling(_Pooling):
    def call(self, inputs: Any) -> Any:
        return ops.max_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class _AveragePooling(_Pooling):
    def call(self, inputs: Any) -> Any:
        return ops.average_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class MaxPooling1D(_MaxPooling):
    __doc__, rank = f"{_Pooling.__doc__}\n    Inputs: (batch, steps, channels).\n    ", 1


class MaxPooling2D(_MaxPooling):
    __doc__, rank = _Pooling.__doc__, 2
