"""Noise in training, nothing in inference; and penalties on activations."""

from __future__ import annotations

import math
from typing import Annotated, Any

from minikeras import config, ops, regularizers
from minikeras import kernels as k
from minikeras.layers.common import Elementwise, spatial_axes
from minikeras.layers.fields import Rate, declared
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.seeds import SeedGenerator


class Noise(Elementwise):
    """A layer that changes its inputs at random in training, unless its strength is 0."""

    seed: Any

    def __post_init__(self) -> None:
        if self._strength() > 0:
            self.seed_generator = SeedGenerator(self.seed)

    def _strength(self) -> float:
        return self.rate  # type: ignore[attr-defined]

    def _draw(self, kind: str, shape: tuple[int, ...], *args: Any) -> Any:
        """New random numbers from the kernel of that name."""
        blocks = k.blocks_for(kind, math.prod(shape), self.compute_dtype)
        return getattr(k, kind)(*self.seed_generator.next(blocks), shape, *args)


def _noise_shape(layer: Noise, name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(
        size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0) for size in value
    ):
        raise ValueError(f"{type(layer).__name__} needs positive integers or None for {name}, got {value!r}.")
    return tuple(value)


@declared
class Dropout(Noise):
    """Sets a random part of the inputs to 0 and scales the rest by `1 / (1 - rate)` (Srivastava et al. 2014).

    Args:
        rate: the part that is dropped, 0 to 1.
        noise_shape: shape of the mask, where 1 shares it along an axis and None is the inputs' size; default all None.
        seed: whole number for the same noise in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Dropout(0.5)(np.ones((2, 3)))
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    >>> sorted(set(layers.Dropout(0.5, seed=1)(np.ones(100), training=True).numpy().tolist()))
    [0.0, 2.0]
    """

    rate: Rate
    noise_shape: Annotated[Any, _noise_shape] = None
    seed: Any = None

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

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SpatialDropout1D(0.5, seed=1)(np.ones((2, 4, 3)), training=True).shape
    (2, 4, 3)
    """

    rank = 1

    def __init__(self, rate: float, seed: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(rate, "channels_last", seed, name, dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("data_format", None)
        return config


class SpatialDropout2D(SpatialDropout):
    """Dropout of whole channels of pictures (batch, rows, columns, channels); arguments as for `SpatialDropout`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SpatialDropout2D(0.5, seed=1)(np.ones((2, 4, 4, 3)), training=True).shape
    (2, 4, 4, 3)
    """

    rank = 2


class SpatialDropout3D(SpatialDropout):
    """Dropout of whole channels of (batch, depth, rows, columns, channels); arguments as for `SpatialDropout`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SpatialDropout3D(0.5, seed=1)(np.ones((2, 4, 4, 4, 3)), training=True).shape
    (2, 4, 4, 4, 3)
    """

    rank = 3


@declared
class GaussianNoise(Noise):
    """Adds normal noise.

    Args:
        stddev: standard deviation, 0 to 1.
        seed: whole number for the same noise in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GaussianNoise(0.1, seed=1)(np.ones((2, 3)), training=True).shape
    (2, 3)
    """

    stddev: Rate
    seed: Any = None

    def _strength(self) -> float:
        return self.stddev

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        noise = self._draw("normal", inputs.shape, self.compute_dtype)
        return ops.add(inputs, k.combine(noise, float(self.stddev), "multiply").astype(noise.dtype, copy=False))


@declared
class GaussianDropout(Noise):
    """Multiplies with normal noise of mean 1 and the variance of dropout, `rate / (1 - rate)` (Srivastava et al. 2014).

    Args:
        rate: as for `Dropout`, but less than 1.
        seed: whole number for the same noise in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GaussianDropout(0.5, seed=1)(np.ones((2, 3)), training=True).shape
    (2, 3)
    """

    rate: Rate
    seed: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate == 1:
            raise ValueError(f"GaussianDropout needs a rate below 1, where its noise is infinite, got {self.rate!r}.")

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        noise = self._draw("normal", inputs.shape, self.compute_dtype)
        deviation = math.sqrt(self.rate / (1 - self.rate))
        noise = k.combine(k.combine(noise, deviation, "multiply"), 1.0, "add")
        return ops.multiply(inputs, noise.astype(self._compute_type, copy=False))


@declared
class AlphaDropout(Dropout):
    """Dropout for networks of `selu`: a random part of the inputs becomes what `selu` tends to far below 0.

    All is then scaled and shifted so that mean 0 and variance 1 are kept (Klambauer et al. 2017).

    Args:
        rate: the part that is dropped, 0 to below 1.
        noise_shape: as for `Dropout`.
        seed: whole number for the same noise in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AlphaDropout(0.5)(np.ones((2, 3)))
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """

    def __post_init__(self) -> None:
        if self.rate == 1:
            raise ValueError(f"AlphaDropout needs a rate below 1, where nothing would be left, got {self.rate!r}.")

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        low = -_SELU_SCALE * _SELU_ALPHA
        factor = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        shift = -factor * low * self.rate
        mask = self._draw("dropout_mask", self._mask_shape(inputs.shape), float(self.rate))
        return ops.add(nn.masked_scale(ops.subtract(inputs, low), mask=mask, scale=factor), factor * low + shift)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@declared
class ActivityRegularization(Elementwise):
    """Returns its inputs and adds `l1 * sum(|x|) + l2 * sum(x**2)`, divided by the batch size, to the loss.

    Args:
        l1, l2: factors, default 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.ActivityRegularization(l1=0.5)
    >>> y = layer(np.ones((2, 3)))
    >>> [float(loss) for loss in layer.losses]
    [1.5]
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        self.activity_regularizer = regularizers.L1L2(self.l1, self.l2)

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return config
