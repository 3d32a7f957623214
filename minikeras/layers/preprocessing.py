"""Inputs brought to a fitting range: by numbers given, or learned from data before the training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import limits, ops
from minikeras.kernels.arena import constant
from minikeras.layers.common import Elementwise, check_axes, known_size, numbers_argument
from minikeras.layers.fields import Numbers, declared
from minikeras.layers.host import batches, on_host
from minikeras.utils.checks import flag, shown, whole


@declared
class Rescaling(Elementwise):
    """`inputs * scale + offset`, of integers too: `Rescaling(1 / 255)` takes pictures to the range 0 to 1.

    Args:
        scale: a number, or several that broadcast with the inputs' last axes (with the image data format
            `"channels_first"`: with the channels).
        offset: a number, or several that broadcast with the inputs; default 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Rescaling(1 / 255)(np.array([0.0, 255.0]))
    <Tensor shape=(2,) dtype=float32>
    array([0., 1.], dtype=float32)
    """

    scale: Numbers
    offset: Numbers = 0.0

    def __post_init__(self) -> None:
        self._arrays: dict[str, tuple[Any, Any]] = {}  # what several numbers are given as, and their array

    def compute_output_shape(self, input_shape: Any) -> Any:
        for name in ("scale", "offset"):
            array = self._factor(name)
            own = () if isinstance(array, float) else array.shape
            if name == "scale" and own and settings.image_data_format() == "channels_first":
                own = (*own, *(1,) * (3 - len(own)))
            pairs = zip(own[::-1], tuple(input_shape)[::-1], strict=False)
            if len(own) > len(input_shape) or any(
                size != 1 and wanted not in (None, 1, size) for size, wanted in pairs
            ):
                self._refuse(
                    f"has a {name} of shape {own}, which does not broadcast with inputs of shape {tuple(input_shape)}"
                )
        return input_shape

    def call(self, inputs: Any) -> Any:
        scale, offset = self._factor("scale"), self._factor("offset")
        if not isinstance(scale, float) and settings.image_data_format() == "channels_first":
            scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
        try:
            outputs = ops.multiply(ops.cast(inputs, self.compute_dtype), scale)
            return outputs if isinstance(offset, float) and offset == 0 else ops.add(outputs, offset)
        except ValueError:
            self.compute_output_shape(inputs.shape)
            raise

    def _factor(self, name: str) -> Any:
        """A number as it is, several as an array, which is made once."""
        value = getattr(self, name)
        if isinstance(value, (int, float)):
            return float(value)
        if name not in self._arrays or self._arrays[name][0] is not value:
            array = np.asarray(k.to_host(value), self._compute_type)
            self._arrays[name] = value, float(array) if array.ndim == 0 else k.to_device(array)
        return self._arrays[name][1]


class Normalization(Elementwise):
    """`(inputs - mean) / sqrt(variance)`, with the mean and variance of each feature of the data.

    Args:
        axis: the axis, or axes, of the features, each of which has its own mean and variance; None: one mean and
            variance for all values.
        mean, variance: if they are known: numbers, or as many as there are features; default learned by `adapt`.
        invert: whether to do the opposite, `inputs * sqrt(variance) + mean`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.Normalization()
    >>> layer.adapt(np.array([[1.0], [3.0]]))
    >>> layer(np.array([[5.0]]))
    <Tensor shape=(1, 1) dtype=float32>
    array([[3.]], dtype=float32)
    """

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        axes = () if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
        self.axis = tuple(whole("axis", one, owner="Normalization") for one in axes)
        for name, value in (("mean", mean), ("variance", variance)):
            if value is not None:
                numbers_argument(self, name, value)
        if variance is not None and np.any(np.asarray(k.to_host(variance)) < 0):
            raise ValueError(f"Normalization's variance must not be negative, got {shown(variance)}.")
        self.input_mean, self.input_variance = mean, variance
        self.invert = flag("invert", invert, owner="Normalization")
        self._shape: tuple[int, ...] | None = None  # of the inputs that the layer was built for
        if (mean is None) != (variance is None) or np.shape(mean) != np.shape(variance):
            raise ValueError(
                f"Normalization takes a mean and a variance of the same shape, or neither, got mean={mean!r} and "
                f"variance={variance!r}."
            )
        if np.ndim(mean) > len(self.axis):
            raise ValueError(
                f"Normalization has {len(self.axis)} axes of features, got a mean with {np.ndim(mean)} axes, of shape "
                f"{np.shape(mean)}."
            )

    def build(self, input_shape: Any) -> None:
        check_axes(self, self.axis, input_shape)
        sizes = {axis % len(input_shape): known_size(self, input_shape, axis) for axis in self.axis}
        self._shape = tuple(input_shape)
        self._kept = tuple(sorted(sizes))
        self._reduced = tuple(axis for axis in range(len(input_shape)) if axis not in sizes)
        self._broadcast = tuple(sizes.get(axis, 1) for axis in range(len(input_shape)))
        if self.input_mean is not None:
            self._given = [self._spread(value) for value in (self.input_mean, self.input_variance)]
            return
        shape = tuple(sizes[axis] for axis in self._kept)
        self.adapt_mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
        self.adapt_variance = self.add_weight(shape, "ones", trainable=False, name="variance")
        self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")  # for older files

    def _spread(self, value: Any) -> Any:
        """A given mean or variance with the axes of the inputs, which it follows from the last of `axis` on."""
        array = np.asarray(k.to_host(value), self._compute_type)
        own = dict(zip(self._kept[::-1], array.shape[::-1], strict=False))
        array = array.reshape([own.get(axis, 1) for axis in range(len(self._broadcast))])
        limits.spend_array(self._broadcast, array.itemsize, "a mean or a variance")
        try:
            return k.to_device(constant(np.broadcast_to(array, self._broadcast).copy()))
        except ValueError:
            raise ValueError(
                f"Normalization {self.name!r} has a mean and variance of shape {np.shape(value)}, which do not fit "
                f"inputs of shape {self._shape} along the axes {self.axis}."
            ) from None

    def _statistic(self, index: int) -> Any:
        if self.input_mean is not None:
            return self._given[index]
        value = ops.reshape((self.adapt_mean, self.adapt_variance)[index], self._broadcast)
        return value if value.dtype == self._compute_type else ops.cast(value, self.compute_dtype)

    @property
    def mean(self) -> Any:
        """The mean, with the inputs' axes; None before the layer is built."""
        return ops.convert_to_tensor(self._statistic(0)) if self._shape else None

    @property
    def variance(self) -> Any:
        """The variance, with the inputs' axes; None before the layer is built."""
        return ops.convert_to_tensor(self._statistic(1)) if self._shape else None

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learn mean and variance from data, which replace those learned before.

        Args:
            data: an array, or an iterable of batches (arrays, or tuples that begin with one).
            batch_size: accepted for familiarity.
            steps: number of batches to take, default all.

        Raises:
            ValueError: where the layer was given its mean, where there is no data, and where shapes do not fit.
            TypeError: for data of another kind.
        """
        if self.input_mean is not None:
            self._refuse("was given its mean and variance; leave them out to learn them by adapt()")
        total, mean, variance = 0, np.zeros(()), np.zeros(())
        for batch in map(_array, batches(self, data, steps)):
            if not self.built:
                self.build(batch.shape)
                self._after_build()
            self._check_batch(batch.shape)
            count = math.prod(batch.shape[axis] for axis in self._reduced)
            if not count:
                continue
            total += count
            share = count / total
            # two groups together: the mean of their variances, and the variance of their means (Chan et al. 1979)
            shift = batch.mean(axis=self._reduced, dtype="float64") - mean
            spread = batch.var(axis=self._reduced, dtype="float64")
            variance = variance * (1 - share) + spread * share + shift**2 * (share * (1 - share))
            mean = mean + shift * share
        if not total:
            self._refuse("learns from at least one batch of data, got none")
        self.adapt_mean.assign(mean.astype(self.adapt_mean.dtype))
        self.adapt_variance.assign(variance.astype(self.adapt_variance.dtype))

    def _check_batch(self, shape: tuple[int, ...]) -> None:
        built = self._shape or ()
        if len(shape) != len(built) or any(shape[axis] != built[axis] for axis in self._kept):
            self._refuse(f"was built for inputs of shape {built}, got data of shape {shape}")

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        mean, deviation = self._statistic(0), ops.maximum(ops.sqrt(self._statistic(1)), settings.epsilon())
        if self.invert:
            return ops.add(mean, ops.multiply(x, deviation))
        return ops.divide(ops.subtract(x, mean), deviation)

    def get_config(self) -> dict[str, Any]:
        given = {"mean": self.input_mean, "variance": self.input_variance}
        lists = {name: None if value is None else k.to_host(value).tolist() for name, value in given.items()}
        return {**super().get_config(), **lists}

    def _configured(self, name: str) -> Any:
        return None if name in ("mean", "variance") else super()._configured(name)


def _array(batch: Any) -> np.ndarray:
    if not hasattr(batch, "shape"):
        raise TypeError(f"Normalization learns from batches that are arrays, got one of {type(batch).__name__}.")
    return on_host(batch)
