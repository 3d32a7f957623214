"""Noise in training, nothing in inference; and penalties on activations."""

from __future__ import annotations

import math
from typing import Any

from minikeras import config, ops, regularizers
from minikeras import kernels as k
from minikeras.layers.common import Elementwise, fraction, spatial_axes
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.seeds import SeedGenerator


class Noise(Elementwise):
    """A layer that changes its inputs at random in training; `strength` 0 never does.

    Args:
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    def __init__(self, strength: float, seed: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        if strength > 0:
            self.seed_generator = SeedGenerator(seed)

    def _draw(self, kind: str, shape: tuple[int, ...], *args: Any) -> Any:
        """New random numbers from the kernel of that name."""
        blocks = k.blocks_for(kind, math.prod(shape), self.compute_dtype)
        return getattr(k, kind)(*self.seed_generator.next(blocks), shape, *args)


class Dropout(Noise):
    """Sets a random part of the inputs to 0 and scales the rest by `1 / (1 - rate)` (Srivastava et al. 2014).

    Args:
        rate: the part that is dropped, 0 to 1.
        noise_shape: shape of the mask, where 1 shares it along an axis and None is the inputs' size; default all None.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any):
        self.rate = fraction(self, "rate", rate)
        super().__init__(rate, seed, **kwargs)
        kind = type(self).__name__
        if noise_shape is not None and not (
            isinstance(noise_shape, (list, tuple))
            and all(
                size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
                for size in noise_shape
            )
        ):
            raise ValueError(f"{kind} needs positive integers or None for noise_shape, got {noise_shape!r}.")
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.noise_shape is not None and len(self.noise_shape) != len(input_shape):
            raise self._misfit(input_shape)
        return input_shape

    def _misfit(self, shape: Any) -> ValueError:
        return ValueError(
            f"{type(self).__name__} {self.name!r} has noise_shape {self.noise_shape}, got inputs of shape "
            f"{tuple(shape)}; each entry must be 1, None or the size of that axis."
        )

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        mask = self._draw("dropout_mask", self._mask_shape(inputs.shape), float(self.rate))
        return nn.masked_scale(inputs, mask=mask, scale=1 / (1 - self.rate) if self.rate < 1 else 1.0)

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.noise_shape is None:
            return shape
        if len(self.noise_shape) != len(shape) or not all(
            wanted in (None, 1, size) for wanted, size in zip(self.noise_shape, shape, strict=True)
        ):
            raise self._misfit(shape)
        return tuple(size if wanted is None else wanted for wanted, size in zip(self.noise_shape, shape, strict=True))


class SpatialDropout(Dropout):
    """Dropout of whole channels.

    Args:
        rate: the part that is dropped, 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    rank = 0

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        if "noise_shape" in kwargs:
            raise ValueError(
                f"{type(self).__name__} drops whole channels and takes no noise_shape, got {kwargs['noise_shape']!r}; "
                "use Dropout."
            )
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        shared = spatial_axes(self.data_format, self.rank)
        return tuple(1 if axis in shared else size for axis, size in enumerate(shape))

    def get_config(self) -> dict[str, Any]:
        names = ("rate", "seed", "name", "dtype", "data_format")
        return {name: getattr(self, name) for name in names}


class SpatialDropout1D(SpatialDropout):
    """Dropout of whole channels of sequences (batch, steps, channels).

    Args:
        rate: the part that is dropped, 0 to 1.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    rank = 1

    def __init__(self, rate: float, seed: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(rate, "channels_last", seed, name, dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["data_format"]
        return config


class SpatialDropout2D(SpatialDropout):
    """Dropout of whole channels of pictures (batch, rows, columns, channels); arguments as for `SpatialDropout`."""

    rank = 2


class SpatialDropout3D(SpatialDropout):
    """Dropout of whole channels of (batch, depth, rows, columns, channels); arguments as for `SpatialDropout`."""

    rank = 3


class GaussianNoise(Noise):
    """Adds normal noise.

    Args:
        stddev: standard deviation, 0 to 1.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    def __init__(self, stddev: float, seed: Any = None, **kwargs: Any):
        self.stddev = fraction(self, "stddev", stddev)
        super().__init__(stddev, seed, **kwargs)

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        noise = self._draw("normal", inputs.shape, self.compute_dtype)
        return ops.add(inputs, noise * float(self.stddev))


class GaussianDropout(Noise):
    """Multiplies with normal noise of mean 1 and the variance of dropout, `rate / (1 - rate)` (Srivastava et al. 2014).

    Args:
        rate: as for `Dropout`, but less than 1.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    def __init__(self, rate: float, seed: Any = None, **kwargs: Any):
        self.rate = fraction(self, "rate", rate)
        if rate == 1:
            raise ValueError(f"GaussianDropout needs a rate below 1, where its noise is infinite, got {rate!r}.")
        super().__init__(rate, seed, **kwargs)

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        noise = self._draw("normal", inputs.shape, self.compute_dtype)
        return ops.multiply(inputs, noise * math.sqrt(self.rate / (1 - self.rate)) + 1)


class AlphaDropout(Dropout):
    """Dropout for networks of `selu`: a random part of the inputs becomes what `selu` tends to far below 0.

    All is then scaled and shifted so that mean 0 and variance 1 are kept (Klambauer et al. 2017).

    Args:
        rate: the part that is dropped, 0 to below 1.
        noise_shape: as for `Dropout`.
        seed: whole number for the same noise in every run, default drawn from the global stream.
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any):
        super().__init__(rate, noise_shape, seed, **kwargs)
        if rate == 1:
            raise ValueError(f"AlphaDropout needs a rate below 1, where nothing would be left, got {rate!r}.")

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        low = -_SELU_SCALE * _SELU_ALPHA
        factor = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        shift = -factor * low * self.rate
        mask = self._draw("dropout_mask", self._mask_shape(inputs.shape), float(self.rate))
        return ops.add(nn.masked_scale(ops.subtract(inputs, low), mask=mask, scale=factor), factor * low + shift)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class ActivityRegularization(Elementwise):
    """Returns its inputs and adds `l1 * sum(|x|) + l2 * sum(x**2)`, divided by the batch size, to the loss.

    Args:
        l1, l2: factors, default 0.
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(**{**kwargs, "activity_regularizer": regularizers.L1L2(l1, l2)})
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activity_regularizer"]
        return config
