"""Activations with settings or weights of their own, as layers."""

from __future__ import annotations

from typing import Annotated, Any

from minikeras import activations, ops
from minikeras.declared import Kept, Number
from minikeras.layers.common import Elementwise, axes_argument, axis_of, check_axes, known_size, sizes_argument
from minikeras.layers.fields import Constraint, Initializer, Regularizer, declared
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn

AtLeast0 = Annotated[float, Kept(Number(0))]


@declared
class ReLU(Elementwise):
    """`max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below.

    Args:
        max_value: upper limit, default none.
        negative_slope, threshold: default 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ReLU(max_value=6.0)(np.array([-1.0, 9.0]))
    <Tensor shape=(2,) dtype=float32>
    array([0., 6.], dtype=float32)
    """

    max_value: Annotated[float | None, Kept(Number(0, infinite=True, optional=True))] = None
    negative_slope: AtLeast0 = 0.0
    threshold: AtLeast0 = 0.0

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@declared
class LeakyReLU(Elementwise):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: default 0.3 (the function `leaky_relu` has 0.2); `alpha` is its older name.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.LeakyReLU()(np.array([-1.0, 1.0]))
    <Tensor shape=(2,) dtype=float32>
    array([-0.3,  1. ], dtype=float32)
    """

    negative_slope: AtLeast0 = 0.3

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        return super()._other_arguments({"negative_slope" if name == "alpha" else name: given[name] for name in given})

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


def _shared_axes(layer: Elementwise, name: str, value: Any) -> Any:
    return None if value is None else list(sizes_argument(layer, name, value))


@declared
class PReLU(Elementwise):
    """`x` where positive, else `alpha * x` with a learned `alpha` for each value of a sample (He et al. 2015).

    Args:
        alpha_initializer: default zeros.
        alpha_regularizer, alpha_constraint: default none.
        shared_axes: axes along which one `alpha` serves all, counted from 1; default none.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.PReLU(alpha_initializer="ones")(np.array([[-1.0, 1.0]]))
    <Tensor shape=(1, 2) dtype=float32>
    array([[-1.,  1.]], dtype=float32)
    """

    alpha_initializer: Initializer = "Zeros"
    alpha_regularizer: Regularizer = None
    alpha_constraint: Constraint = None
    shared_axes: Annotated[Any, _shared_axes] = None

    def build(self, input_shape: Any) -> None:
        for axis in self.shared_axes or ():
            axis_of(self, axis, len(input_shape), input_shape=input_shape)
        own = [axis for axis in range(1, len(input_shape)) if axis not in (self.shared_axes or ())]
        sizes = {axis: known_size(self, input_shape, axis) for axis in own}
        self.alpha = self.add_weight("alpha", tuple(sizes.get(axis, 1) for axis in range(1, len(input_shape))))
        self.input_spec = InputSpec(ndim=len(input_shape), axes=sizes)

    def call(self, inputs: Any) -> Any:
        below = nn.relu(ops.negative(inputs))
        return ops.subtract(nn.relu(inputs), ops.multiply(self.alpha, below))


@declared
class ELU(Elementwise):
    """`x` where positive, else `alpha * (exp(x) - 1)` (Clevert et al. 2016).

    Args:
        alpha: default 1.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.ELU()(np.array([-1.0, 1.0]))
    <Tensor shape=(2,) dtype=float32>
    array([-0.63212055,  1.        ], dtype=float32)
    """

    alpha: Annotated[float, Number()] = 1.0

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)


@declared
class ThresholdedReLU(Elementwise):
    """`x` where it is above `theta`, else 0: a layer of older programs.

    Args:
        theta: default 1.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras._legacy.layers.ThresholdedReLU(theta=1.0)(np.array([0.5, 2.0]))
    <Tensor shape=(2,) dtype=float32>
    array([0., 2.], dtype=float32)
    """

    theta: Annotated[float, Number(0)] = 1.0

    def call(self, inputs: Any) -> Any:
        return ops.where(ops.greater(inputs, self.theta), inputs, 0)


def _softmax_axes(layer: Elementwise, name: str, value: Any) -> Any:
    return None if value is None else axes_argument(layer, name, value)


@declared
class Softmax(Elementwise):
    """`exp(x) / sum(exp(x))` along an axis.

    Args:
        axis: the axis, or several.

    A mask that broadcasts with the inputs may be passed to the call: where it is False the result is 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Softmax()(np.array([[0.0, 0.0]]))
    <Tensor shape=(1, 2) dtype=float32>
    array([[0.5, 0.5]], dtype=float32)
    """

    axis: Annotated[Any, _softmax_axes] = -1

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.axis is not None:
            check_axes(self, self.axis, input_shape)
        return input_shape

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            try:
                return nn.softmax(inputs, self.axis)
            except (ValueError, IndexError):
                self.compute_output_shape(inputs.shape)
                raise
        if len(mask.shape) > inputs.ndim or not all(
            m in (1, n) for m, n in zip(mask.shape[::-1], inputs.shape[::-1], strict=False)
        ):
            self._refuse(
                f"needs a mask that broadcasts with its inputs, got a mask of shape {tuple(mask.shape)} and inputs "
                f"{tuple(inputs.shape)}"
            )
        if mask.dtype != "bool":
            mask = ops.greater(mask, 0.5)
        hidden = -3e4 if inputs.dtype == "float16" else -1e9
        return ops.where(mask, nn.softmax(ops.where(mask, inputs, hidden), self.axis), 0)
