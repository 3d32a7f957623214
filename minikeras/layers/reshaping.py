"""Layers that move values: other shapes, other orders, borders added or cut off, values repeated."""

from __future__ import annotations

import math
from typing import Any

from minikeras import config, ops
from minikeras.layers.common import (
    SameType,
    choice,
    int_tuple,
    positive_int,
    replace_axes,
    sizes_argument,
    spatial_axes,
)
from minikeras.layers.spec import InputSpec


class Flatten(SameType):
    """All of a sample's values in one axis.

    Args:
        data_format: with `"channels_first"`, (batch, channels, ...) is flattened in the order of
            (batch, ..., channels), so that what follows is the same for both; default `config.image_data_format()`.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Any) -> Any:
        if self.data_format == "channels_first" and inputs.ndim > 2:
            inputs = ops.moveaxis(inputs, 1, -1)
        return ops.reshape(inputs, (inputs.shape[0], math.prod(inputs.shape[1:])))

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = input_shape[1:]
        return (input_shape[0], None if None in sizes else math.prod(sizes))


class Reshape(SameType):
    """The same values of each sample in another shape.

    Args:
        target_shape: shape of a sample; one size may be -1 and follows from the others.
    """

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        sizes = sizes_argument(self, "target_shape", target_shape, least=-1)
        if sizes.count(-1) > 1:
            raise ValueError(f"Reshape needs sizes of which one may be -1 for target_shape, got {target_shape!r}.")
        self.target_shape = sizes

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, self.compute_output_shape(inputs.shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sizes = input_shape
        if None in sizes:
            return (batch, *(None if size == -1 else size for size in self.target_shape))
        values, known = math.prod(sizes), math.prod(size for size in self.target_shape if size != -1)
        if values != known if -1 not in self.target_shape else known == 0 or values % known:
            raise ValueError(
                f"Reshape {self.name!r} makes samples of shape {self.target_shape}, got samples of shape "
                f"{tuple(sizes)} with {values} values; the number of values must stay the same."
            )
        return (batch, *(values // known if size == -1 else size for size in self.target_shape))


class Permute(SameType):
    """The axes of each sample in another order.

    Args:
        dims: for each axis of the result the axis it comes from, counted from 1 after the batch: `(2, 1)` swaps two.
    """

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = sizes_argument(self, "dims", dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"Permute needs the numbers 1 to {len(self.dims)} in some order for dims, got {dims!r}.")
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Any) -> Any:
        return ops.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))


class RepeatVector(SameType):
    """(batch, features) repeated to (batch, n, features).

    Args:
        n: number of repetitions.
    """

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        if not hasattr(n, "__index__"):
            raise TypeError(f"RepeatVector needs an integer for n, got {n!r}.")
        self.n = positive_int("RepeatVector", "n", n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        return ops.repeat(ops.expand_dims(inputs, 1), self.n, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.n, input_shape[1])


class Spatial(SameType):
    """A layer that changes the spatial axes of (batch, ..., channels) or (batch, channels, ...)."""

    rank = 0

    def __init__(self, data_format: str | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self._axes = spatial_axes(self.data_format, self.rank)

    def _borders(self, name: str, value: Any) -> Any:
        """(before, after) for each spatial axis as Keras stores it: of a single axis without the outer tuple."""
        if self.rank == 1:
            return int_tuple(self, name, value, 2, least=0)
        values = value if isinstance(value, (list, tuple)) else (value,) * self.rank
        if not isinstance(values, (list, tuple)) or len(values) != self.rank:
            raise ValueError(
                f"{type(self).__name__} needs for {name} an integer, {self.rank} integers or {self.rank} pairs "
                f"(before, after), got {value!r}."
            )
        return tuple(int_tuple(self, name, pair, 2, least=0) for pair in values)

    def _pairs(self, borders: Any) -> dict[int, tuple[int, int]]:
        """(before, after) by axis."""
        return dict(zip(self._axes, (borders,) if self.rank == 1 else borders, strict=True))


class ZeroPadding(Spatial):
    """Zeros around the spatial axes.

    Args:
        padding: how many, one integer for everywhere, or for each axis an integer or a pair (before, after); for a
            single axis a pair.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.padding = self._borders("padding", padding)

    def call(self, inputs: Any) -> Any:
        pairs = self._pairs(self.padding)
        return ops.pad(inputs, [pairs.get(axis, (0, 0)) for axis in range(inputs.ndim)])

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = {axis: input_shape[axis] for axis in self._axes}
        pairs = self._pairs(self.padding)
        return replace_axes(input_shape, {axis: n if n is None else n + sum(pairs[axis]) for axis, n in sizes.items()})


class ZeroPadding1D(ZeroPadding):
    """Zeros before and after sequences (batch, steps, channels); arguments as for `ZeroPadding`."""

    rank = 1


class ZeroPadding2D(ZeroPadding):
    """Zeros around pictures (batch, rows, columns, channels); arguments as for `ZeroPadding`."""

    rank = 2


class ZeroPadding3D(ZeroPadding):
    """Zeros around volumes (batch, depth, rows, columns, channels); arguments as for `ZeroPadding`."""

    rank = 3


class Cropping(Spatial):
    """The spatial axes without their borders.

    Args:
        cropping: how many values are cut off, as for the `padding` of `ZeroPadding`.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.cropping = self._borders("cropping", cropping)

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
                raise ValueError(
                    f"{type(self).__name__} {self.name!r} cuts {before + after} values off axis {axis}, got inputs of "
                    f"shape {tuple(input_shape)}; cut off less than there is."
                )
            sizes[axis] = None if size is None else size - before - after
        return replace_axes(input_shape, sizes)


class Cropping1D(Cropping):
    """Cuts steps off sequences (batch, steps, channels).

    Args:
        cropping: how many at either end, or a pair (before, after).
    """

    rank = 1

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any):
        super().__init__(cropping, "channels_last", **kwargs)


class Cropping2D(Cropping):
    """Cuts the borders off pictures (batch, rows, columns, channels); arguments as for `Cropping`, default nothing."""

    rank = 2

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(Cropping):
    """Cuts the borders off volumes (batch, depth, rows, columns, channels); arguments as for `Cropping`."""

    rank = 3


class UpSampling(Spatial):
    """Each value several times along the spatial axes.

    Args:
        size: how many times, one integer or one for each axis.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
    """

    def __init__(self, size: Any = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.size: Any = int_tuple(self, "size", size, self.rank)

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


class UpSampling1D(UpSampling):
    """Each step of sequences (batch, steps, channels) several times.

    Args:
        size: how many times.
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(positive_int("UpSampling1D", "size", size), "channels_last", **kwargs)
        self.size = size

    def _factors(self) -> dict[int, int]:
        return {1: self.size}


class UpSampling2D(UpSampling):
    """Each pixel of pictures (batch, rows, columns, channels) several times.

    Args:
        size, data_format: as for `UpSampling`.
        interpolation: `"nearest"`.
    """

    rank = 2

    def __init__(self, size: Any = 2, data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = choice(self, "interpolation", interpolation, ("nearest",))


class UpSampling3D(UpSampling):
    """Each value of volumes (batch, depth, rows, columns, channels) several times; arguments as for `UpSampling`."""

    rank = 3
