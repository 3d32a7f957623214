"""Layers of residual branches that networks in `applications` are made of; files name them by Keras's modules."""

from __future__ import annotations

from typing import Annotated, Any

from minikeras import initializers, ops
from minikeras.declared import Number
from minikeras.layers.common import Elementwise
from minikeras.layers.fields import Positive, Rate, declared
from minikeras.layers.merging import Merge
from minikeras.layers.regularization import Dropout, Noise


@declared
class LayerScale(Elementwise):
    """The inputs times a factor learned for each channel (Touvron et al. 2021).

    Args:
        init_values: the factors at first.
        projection_dim: number of channels, the size of the inputs' last axis.

    Example:

    >>> from minikeras import ops
    >>> from minikeras.layers.residual import LayerScale
    >>> ops.convert_to_numpy(LayerScale(0.5, 2)(ops.ones((1, 2))))
    array([[0.5, 0.5]], dtype=float32)
    """

    init_values: Annotated[float, Number()]
    projection_dim: Positive[int]

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != self.projection_dim:
            self._refuse(f"has {self.projection_dim} factors, got inputs of shape {tuple(input_shape)}")
        self.gamma = self.add_weight((self.projection_dim,), initializers.Constant(self.init_values), name="gamma")

    def call(self, inputs: Any) -> Any:
        return ops.multiply(inputs, self.gamma)


@declared
class StochasticDepth(Noise):
    """Sets whole samples to 0 in training and scales the others by `1 / (1 - drop_path_rate)` (Huang et al. 2016).

    Args:
        drop_path_rate: the part of the samples, 0 to 1.

    Example:

    >>> from minikeras import ops
    >>> from minikeras.layers.residual import StochasticDepth
    >>> ops.convert_to_numpy(StochasticDepth(0.5)(ops.ones((1, 2))))
    array([[1., 1.]], dtype=float32)
    """

    drop_path_rate: Rate
    seed = None

    @property
    def rate(self) -> float:
        """What `Dropout` calls it."""
        return self.drop_path_rate

    call = Dropout.call

    def _mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], *(1,) * (len(shape) - 1))


@declared
class CustomScaleLayer(Merge):
    """The first of two inputs plus `scale` times the second.

    Args:
        scale: the factor.

    Example:

    >>> from minikeras import ops
    >>> from minikeras.layers.residual import CustomScaleLayer
    >>> ops.convert_to_numpy(CustomScaleLayer(0.5)([ops.ones((1, 2)), ops.ones((1, 2))]))
    array([[1.5, 1.5]], dtype=float32)
    """

    scale: Annotated[float, Number()]

    def _merge(self, inputs: list[Any]) -> Any:
        return ops.add(inputs[0], ops.multiply(inputs[1], self.scale))
