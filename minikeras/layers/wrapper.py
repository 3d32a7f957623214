"""Layers that hold another layer and change what it does."""

from __future__ import annotations

from typing import Annotated, Any

from minikeras import initializers
from minikeras import kernels as k
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.fields import Positive, declared
from minikeras.layers.layer import Layer
from minikeras.layers.spec import InputSpec


def _wrapped(wrapper: Layer, name: str, value: Any) -> Layer:
    if not isinstance(value, Layer):
        raise ValueError(f"{type(wrapper).__name__} wraps a layer, got {value!r}.")
    return value


@declared
class Wrapper(Layer):
    """The base of layers that wrap another one; a subclass defines `call`.

    Args:
        layer: the layer, kept as `layer` and built together with the wrapper.

    >>> from minikeras import layers
    >>> layers.Wrapper(layers.Dense(4)).layer.units
    4
    """

    layer: Annotated[Any, _wrapped]

    def build(self, input_shape: Any = None) -> None:
        self.layer.build_from_config({"input_shape": input_shape})


@declared
class SpectralNormalization(Wrapper):
    """Before each training step divides a layer's kernel by (an estimate of) its largest singular value.

    The estimate gets better with each step: it is made by power iterations that begin where the last ones ended
    (Miyato et al. 2018, "Spectral normalization for generative adversarial networks").

    Args:
        layer: a layer with a `kernel` (such as Dense or Conv2D) or with `embeddings`.
        power_iterations: how many for each step, default 1.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.SpectralNormalization(layers.Dense(4))(np.ones((2, 3))).shape
    (2, 4)
    """

    power_iterations: Positive[int] = 1

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        kernel = getattr(self.layer, "kernel", None)
        self.kernel: Any = getattr(self.layer, "embeddings", None) if kernel is None else kernel
        if self.kernel is None:
            raise ValueError(
                f"SpectralNormalization wraps a layer with a kernel or embeddings, got {self.layer!r}; it has none."
            )
        self.vector_u = self.add_weight(
            (1, self.kernel.shape[-1]),
            initializers.TruncatedNormal(stddev=0.02),
            dtype=str(self.kernel.dtype),
            trainable=False,
            name="vector_u",
        )

    def call(self, inputs: Any, training: Any = False) -> Any:
        if training:
            self._normalize()
        return self._convert(self.layer(inputs))

    def _normalize(self) -> None:
        kernel = self.kernel.data
        matrix, u = kernel.reshape(-1, kernel.shape[-1]), self.vector_u.data
        for _ in range(self.power_iterations):
            v = _unit(u @ matrix.T)
            u = _unit(v @ matrix)
        largest = v @ matrix @ u.T
        # a kernel of zeros stays as it is, and is not looked at: that would wait for the device
        divisor = k.xp.where(largest == 0, 1, largest).astype(kernel.dtype)
        self.kernel.assign(Tensor(kernel / divisor[0, 0]))
        self.vector_u.assign(Tensor(k.xp.where(largest == 0, self.vector_u.data, u)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)


def _unit(vector: Any) -> Any:
    """A vector of length 1, or of zeros."""
    return vector / k.xp.sqrt(k.xp.maximum(k.xp.sum(vector * vector), vector.dtype.type(1e-12)))
