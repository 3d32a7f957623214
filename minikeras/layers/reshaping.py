"""Layers that move values: other shapes, other orders, borders added or cut off, values repeated."""

from __future__ import annotations

import math
from typing import Annotated, Any

from minikeras import ops
from minikeras.declared import Whole
from minikeras.layers.common import SameType, Spatial, int_tuple, positive_int, replace_axes
from minikeras.layers.fields import DataFormat, Sizes, Word, declared, sizes
from minikeras.layers.spec import InputSpec
from minikeras.lazy import LazyModule

_image: Any = LazyModule("minikeras.ops.image")


@declared
class Flatten(SameType):
    """All of a sample's values in one axis.

    Args:
        data_format: with `"channels_first"`, (batch, channels, ...) is flattened in the order of
            (batch, ..., channels), so that what follows is the same for both; default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    data_format: DataFormat = None
    input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = ops.moveaxis(inputs, 1, -1)
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: Any) -> Any:
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))


@declared
class Reshape(SameType):
    """The same values of each sample in another shape.

    Args:
        target_shape: shape of a sample; one size may be -1 and follows from the others.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Reshape((3, -1))(np.ones((2, 12))).shape
    (2, 3, 4)
    """

    target_shape: Annotated[Any, sizes(least=-1)]

    def __post_init__(self) -> None:
        if self.target_shape.count(-1) > 1:
            raise ValueError(f"Reshape needs sizes of which one may be -1 for target_shape, got {self.target_shape!r}.")

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sizes = input_shape
        if None in sizes:
            return (batch, *(None if size == -1 else size for size in self.target_shape))
        values, known = math.prod(sizes), math.prod(size for size in self.target_shape if size != -1)
        if values != known if -1 not in self.target_shape else known == 0 or values % known:
            self._refuse(
                f"makes samples of shape {self.target_shape}, got samples of shape {tuple(sizes)} with {values} "
                "values; the number of values must stay the same"
            )
        return (batch, *(values // known if size == -1 else size for size in self.target_shape))


@declared
class Permute(SameType):
    """The axes of each sample in another order.

    Args:
        dims: for each axis of the result the axis it comes from, counted from 1 after the batch: `(2, 1)` swaps two.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Permute((2, 1))(np.ones((2, 3, 4))).shape
    (2, 4, 3)
    """

    dims: Annotated[Any, sizes()]

    def __post_init__(self) -> None:
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"Permute needs the numbers 1 to {len(self.dims)} in some order for dims, got {self.dims!r}."
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Any) -> Any:
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


def _count(layer: SameType, name: str, value: Any) -> int:
    if not hasattr(value, "__index__"):
        raise TypeError(f"RepeatVector needs an integer for {name}, got {value!r}.")
    return positive_int("RepeatVector", name, value)


@declared
class RepeatVector(SameType):
    """(batch, features) repeated to (batch, n, features).

    Args:
        n: number of repetitions.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RepeatVector(5)(np.ones((2, 3))).shape
    (2, 5, 3)
    """

    n: Annotated[int, _count]
    input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.n, input_shape[1])


class Bordered(SameType, Spatial):
    """A layer that adds something around the spatial axes, or cuts it off."""

    def _pairs(self, borders: Any) -> dict[int, tuple[int, int]]:
        """(before, after) by axis."""
        return dict(zip(self._axes, (borders,) if self.rank == 1 else borders, strict=True))


def _borders(layer: Bordered, name: str, value: Any) -> Any:
    """(before, after) for each spatial axis as Keras stores it: of a single axis without the outer tuple."""
    if layer.rank == 1:
        return int_tuple(layer, name, value, 2, least=0)
    values = value if isinstance(value, (list, tuple)) else (value,) * layer.rank
    if not isinstance(values, (list, tuple)) or len(values) != layer.rank:
        raise ValueError(
            f"{type(layer).__name__} needs for {name} an integer, {layer.rank} integers or {layer.rank} pairs "
            f"(before, after), got {value!r}."
        )
    return tuple(int_tuple(layer, name, pair, 2, least=0) for pair in values)


Borders = Annotated[Any, _borders]


@declared
class ZeroPadding(Bordered):
    """Zeros around the spatial axes.

    Args:
        padding: how many, one integer for everywhere, or for each axis an integer or a pair (before, after); for a
            single axis a pair.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    padding: Borders = 1
    data_format: DataFormat = None

    def call(self, inputs: Any) -> Any:
        pairs = self._pairs(self.padding)
        return ops.pad(inputs, [pairs.get(axis, (0, 0)) for axis in range(inputs.ndim)])

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = {axis: input_shape[axis] for axis in self._axes}
        pairs = self._pairs(self.padding)
        return replace_axes(input_shape, {axis: n if n is None else n + sum(pairs[axis]) for axis, n in sizes.items()})


class ZeroPadding1D(ZeroPadding):
    """Zeros before and after sequences (batch, steps, channels); arguments as for `ZeroPadding`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ZeroPadding1D((1, 2))(np.ones((1, 4, 3))).shape
    (1, 7, 3)
    """

    rank = 1


class ZeroPadding2D(ZeroPadding):
    """Zeros around pictures (batch, rows, columns, channels); arguments as for `ZeroPadding`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ZeroPadding2D(2)(np.ones((1, 4, 4, 3))).shape
    (1, 8, 8, 3)
    """

    rank = 2


class ZeroPadding3D(ZeroPadding):
    """Zeros around volumes (batch, depth, rows, columns, channels); arguments as for `ZeroPadding`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ZeroPadding3D(1)(np.ones((1, 2, 2, 2, 3))).shape
    (1, 4, 4, 4, 3)
    """

    rank = 3


class Cropping(Bordered):
    """The spatial axes without their borders.

    Args:
        cropping: how many values are cut off, as for the `padding` of `ZeroPadding`.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    cropping: Any

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(inputs.shape)
        pairs = self._pairs(self.cropping)
        key = [slice(None)] * inputs.ndim
        for axis, (before, after) in pairs.items():
            key[axis] = slice(before, inputs.shape[axis] - after)
        return inputs[tuple(key)]

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes: dict[int, int | None] = {}
        for axis, (before, after) in self._pairs(self.cropping).items():
            size = input_shape[axis]
            if size is not None and size <= before + after:
                self._refuse(
                    f"cuts {before + after} values off axis {axis}, got inputs of shape {tuple(input_shape)}; cut off "
                    "less than there is"
                )
            sizes[axis] = None if size is None else size - before - after
        return replace_axes(input_shape, sizes)


@declared
class Cropping1D(Cropping):
    """Cuts steps off sequences (batch, steps, channels).

    Args:
        cropping: how many at either end, or a pair (before, after).

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Cropping1D((1, 2))(np.ones((1, 8, 3))).shape
    (1, 5, 3)
    """

    rank = 1

    cropping: Borders = (1, 1)


@declared
class Cropping2D(Cropping):
    """Cuts the borders off pictures (batch, rows, columns, channels); arguments as for `Cropping`, default nothing.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Cropping2D(((1, 1), (2, 0)))(np.ones((1, 8, 8, 3))).shape
    (1, 6, 6, 3)
    """

    rank = 2

    cropping: Borders = ((0, 0), (0, 0))
    data_format: DataFormat = None


@declared
class Cropping3D(Cropping):
    """Cuts the borders off volumes (batch, depth, rows, columns, channels); arguments as for `Cropping`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Cropping3D(1)(np.ones((1, 4, 4, 4, 3))).shape
    (1, 2, 2, 2, 3)
    """

    rank = 3

    cropping: Borders = 1
    data_format: DataFormat = None


class UpSampling(SameType, Spatial):
    """Each value several times along the spatial axes.

    Args:
        size: how many times, one integer or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    size: Any

    def _factors(self) -> dict[int, int]:
        return dict(zip(self._axes, self.size, strict=True))

    def call(self, inputs: Any) -> Any:
        for axis, factor in self._factors().items():
            if factor > 1:
                inputs = ops.repeat(inputs, factor, axis=axis)
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = {axis: (input_shape[axis], factor) for axis, factor in self._factors().items()}
        return replace_axes(input_shape, {axis: n if n is None else n * factor for axis, (n, factor) in sizes.items()})


@declared
class UpSampling1D(UpSampling):
    """Each step of sequences (batch, steps, channels) several times.

    Args:
        size: how many times.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.UpSampling1D(2)(np.array([[[1.0], [2.0]]])).numpy()[0, :, 0]
    array([1., 1., 2., 2.], dtype=float32)
    """

    rank = 1

    size: Annotated[int, Whole(1)] = 2

    def _factors(self) -> dict[int, int]:
        return {1: self.size}


@declared
class UpSampling2D(UpSampling):
    """Each pixel of pictures (batch, rows, columns, channels) several times.

    Args:
        size, data_format: as for `UpSampling`.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.

    >>> from minikeras import layers, ops
    >>> x = ops.reshape([0.0, 4.0], (1, 1, 2, 1))
    >>> layers.UpSampling2D((1, 2), interpolation="bilinear")(x).numpy().ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """

    rank = 2

    size: Sizes = 2
    data_format: DataFormat = None
    interpolation: Annotated[str, Word("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")] = "nearest"

    def call(self, inputs: Any) -> Any:
        if self.interpolation == "nearest":
            return super().call(inputs)
        size = [inputs.shape[axis] * factor for axis, factor in self._factors().items()]
        return _image.resize(inputs, size, self.interpolation, data_format=self.data_format)


@declared
class UpSampling3D(UpSampling):
    """Each value of volumes (batch, depth, rows, columns, channels) several times; arguments as for `UpSampling`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.UpSampling3D(2)(np.ones((1, 2, 2, 2, 3))).shape
    (1, 4, 4, 4, 3)
    """

    rank = 3

    size: Sizes = 2
    data_format: DataFormat = None
