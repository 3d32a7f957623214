"""Maximum and mean over windows of the spatial axes, or over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from minikeras import ops
from minikeras.autodiff import shapes
from minikeras.layers.common import Spatial, int_tuple, replace_axes, window_counts
from minikeras.layers.fields import DataFormat, Sizes, Word, declared
from minikeras.layers.layer import Layer
from minikeras.layers.older_paths import find_all_layers


@declared
class Pooling(Spatial):
    """The maximum or the mean of each window.

    Args:
        pool_size: size of the window, one integer or one for each spatial axis.
        strides: steps between windows, default `pool_size`.
        padding: `"valid"`, or `"same"` for ceil(length / stride) windows, those at the ends partly empty.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    pool_size: Sizes = 2
    strides: Any = None
    padding: Annotated[str, Word("valid", "same")] = "valid"
    data_format: DataFormat = None
    if not TYPE_CHECKING:  # see `Layer`
        name: Any = None

    def __post_init__(self) -> None:
        strides = self.strides
        self.strides = self.pool_size if strides is None else int_tuple(self, "strides", strides, self.rank)
        super().__post_init__()

    def compute_output_shape(self, input_shape: Any) -> Any:
        dilation = (1,) * self.rank
        counts = window_counts(self, input_shape, self._axes, self.pool_size, self.strides, self.padding, dilation)
        return replace_axes(input_shape, counts)


class MaxPooling(Pooling):
    """The maximum of each window; arguments as for `Pooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.max_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class AveragePooling(Pooling):
    """The mean of each window's inputs, padding not counted; arguments as for `Pooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.average_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class MaxPooling1D(MaxPooling):
    """Maximum pooling of sequences: (batch, steps, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.MaxPooling1D(2)(np.ones((1, 6, 3))).shape
    (1, 3, 3)
    """

    rank = 1


class MaxPooling2D(MaxPooling):
    """Maximum pooling of pictures: (batch, rows, columns, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.MaxPooling2D(3, strides=2)(np.ones((1, 7, 7, 3))).shape
    (1, 3, 3, 3)
    """

    rank = 2


class MaxPooling3D(MaxPooling):
    """Maximum pooling of volumes: (batch, depth, rows, columns, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.MaxPooling3D(2)(np.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    rank = 3


class AveragePooling1D(AveragePooling):
    """Average pooling of sequences: (batch, steps, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AveragePooling1D(2)(np.ones((1, 6, 3))).shape
    (1, 3, 3)
    """

    rank = 1


class AveragePooling2D(AveragePooling):
    """Average pooling of pictures: (batch, rows, columns, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AveragePooling2D(2, padding="same")(np.ones((1, 5, 5, 3))).shape
    (1, 3, 3, 3)
    """

    rank = 2


class AveragePooling3D(AveragePooling):
    """Average pooling of volumes: (batch, depth, rows, columns, channels); arguments as for `Pooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AveragePooling3D(2)(np.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    rank = 3


@declared
class GlobalPooling(Spatial):
    """One number for each channel from all of its spatial values.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        keepdims: whether the spatial axes stay, with size 1.
    """

    data_format: DataFormat = None
    keepdims: bool = False

    def compute_output_shape(self, input_shape: Any) -> Any:
        return shapes.reduced(input_shape, self._axes, self.keepdims)


class GlobalMaxPooling(GlobalPooling):
    """The maximum of each channel; arguments as for `GlobalPooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.max(inputs, axis=self._axes, keepdims=self.keepdims)


class GlobalAveragePooling(GlobalPooling):
    """The mean of each channel; arguments as for `GlobalPooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.mean(inputs, axis=self._axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(GlobalMaxPooling):
    """The maximum over the steps of (batch, steps, channels); arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalMaxPooling1D()(np.ones((2, 6, 3))).shape
    (2, 3)
    """

    rank = 1


class GlobalMaxPooling2D(GlobalMaxPooling):
    """The maximum over the pixels of (batch, rows, columns, channels); arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalMaxPooling2D()(np.ones((2, 5, 5, 3))).shape
    (2, 3)
    """

    rank = 2


class GlobalMaxPooling3D(GlobalMaxPooling):
    """The maximum over the values of (batch, depth, rows, columns, channels); arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalMaxPooling3D()(np.ones((2, 4, 4, 4, 3))).shape
    (2, 3)
    """

    rank = 3


class GlobalAveragePooling1D(GlobalAveragePooling):
    """The mean over the steps of (batch, steps, channels) that are not masked, 0 where all of a sequence's are.

    Arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalAveragePooling1D()(np.ones((2, 6, 3))).shape
    (2, 3)
    """

    rank = 1
    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        channels = 2 if self.data_format == "channels_last" else 1
        mask = ops.expand_dims(ops.cast(mask, "bool"), channels)
        total = ops.sum(ops.where(mask, inputs, 0), axis=self._axes, keepdims=self.keepdims)
        steps = ops.sum(ops.cast(mask, inputs.dtype), axis=self._axes, keepdims=self.keepdims)
        return ops.divide(total, ops.maximum(steps, 1))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean over the pixels of (batch, rows, columns, channels); arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalAveragePooling2D()(np.ones((2, 5, 5, 3))).shape
    (2, 3)
    """

    rank = 2


class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean over the values of (batch, depth, rows, columns, channels); arguments as for `GlobalPooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GlobalAveragePooling3D(keepdims=True)(np.ones((2, 4, 4, 4, 3))).shape
    (2, 1, 1, 1, 3)
    """

    rank = 3


def _output_size(layer: Layer, name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (int, list, tuple)) or (not isinstance(value, int) and len(value) != layer.rank):  # type: ignore[attr-defined]
        raise TypeError(f"{type(layer).__name__} takes an integer or {layer.rank} of them for {name}, got {value!r}.")  # type: ignore[attr-defined]
    return int_tuple(layer, name, value, layer.rank)  # type: ignore[attr-defined]


@declared
class AdaptivePooling(Spatial):
    """One value for each of a fixed number of parts of about equal size, whatever the size of the inputs.

    Args:
        output_size: how many parts each spatial axis is cut into: one integer, or one for each of them.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    output_size: Annotated[Any, _output_size]
    data_format: DataFormat = None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return replace_axes(input_shape, dict(zip(self._axes, self.output_size, strict=True)))


class AdaptiveAveragePooling(AdaptivePooling):
    """The mean of each part; arguments as for `AdaptivePooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.adaptive_average_pool(inputs, self.output_size, self.data_format)


class AdaptiveMaxPooling(AdaptivePooling):
    """The maximum of each part; arguments as for `AdaptivePooling`."""

    def call(self, inputs: Any) -> Any:
        return ops.adaptive_max_pool(inputs, self.output_size, self.data_format)


class AdaptiveAveragePooling1D(AdaptiveAveragePooling):
    """The means of parts of sequences: (batch, steps, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveAveragePooling1D(2)(np.ones((1, 7, 3), "float32")).shape
    (1, 2, 3)
    """

    rank = 1


class AdaptiveAveragePooling2D(AdaptiveAveragePooling):
    """The means of parts of pictures: (batch, rows, columns, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveAveragePooling2D((2, 3))(np.ones((1, 7, 9, 3), "float32")).shape
    (1, 2, 3, 3)
    """

    rank = 2


class AdaptiveAveragePooling3D(AdaptiveAveragePooling):
    """The means of parts of volumes: (batch, depth, rows, columns, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveAveragePooling3D(2)(np.ones((1, 7, 9, 8, 3), "float32")).shape
    (1, 2, 2, 2, 3)
    """

    rank = 3


class AdaptiveMaxPooling1D(AdaptiveMaxPooling):
    """The maxima of parts of sequences: (batch, steps, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveMaxPooling1D(2)(np.ones((1, 7, 3), "float32")).shape
    (1, 2, 3)
    """

    rank = 1


class AdaptiveMaxPooling2D(AdaptiveMaxPooling):
    """The maxima of parts of pictures: (batch, rows, columns, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveMaxPooling2D((2, 3))(np.ones((1, 7, 9, 3), "float32")).shape
    (1, 2, 3, 3)
    """

    rank = 2


class AdaptiveMaxPooling3D(AdaptiveMaxPooling):
    """The maxima of parts of volumes: (batch, depth, rows, columns, channels); arguments as for `AdaptivePooling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AdaptiveMaxPooling3D(2)(np.ones((1, 7, 9, 8, 3), "float32")).shape
    (1, 2, 2, 2, 3)
    """

    rank = 3


find_all_layers(__name__)
