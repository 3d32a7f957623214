"""Activations with settings or weights of their own, as layers."""

from __future__ import annotations

from typing import Any

from minikeras import activations, constraints, initializers, ops, regularizers
from minikeras.layers.common import Elementwise, axes_argument, axis_of, check_axes, known_size, sizes_argument
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.utils.checks import number


class ReLU(Elementwise):
    """`max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below.

    Args:
        max_value: upper limit, default none.
        negative_slope, threshold: default 0.
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else _not_negative(self, "max_value", max_value, infinite=True)
        self.negative_slope = _not_negative(self, "negative_slope", negative_slope)
        self.threshold = _not_negative(self, "threshold", threshold)

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Elementwise):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: default 0.3 (the function `leaky_relu` has 0.2); `alpha` is its older name.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = _not_negative(self, "negative_slope", negative_slope)

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


class PReLU(Elementwise):
    """`x` where positive, else `alpha * x` with a learned `alpha` for each value of a sample (He et al. 2015).

    Args:
        alpha_initializer: default zeros.
        alpha_regularizer, alpha_constraint: default none.
        shared_axes: axes along which one `alpha` serves all, counted from 1; default none.
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = (
            shared_axes if shared_axes is None else list(sizes_argument(self, "shared_axes", shared_axes))
        )

    def build(self, input_shape: Any) -> None:
        for axis in self.shared_axes or ():
            axis_of(self, axis, len(input_shape), input_shape=input_shape)
        own = [axis for axis in range(1, len(input_shape)) if axis not in (self.shared_axes or ())]
        sizes = {axis: known_size(self, input_shape, axis) for axis in own}
        self.alpha = self.add_weight(
            tuple(sizes.get(axis, 1) for axis in range(1, len(input_shape))),
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            name="alpha",
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes=sizes)

    def call(self, inputs: Any) -> Any:
        below = nn.relu(ops.negative(inputs))
        return ops.subtract(nn.relu(inputs), ops.multiply(self.alpha, below))


class ELU(Elementwise):
    """`x` where positive, else `alpha * (exp(x) - 1)` (Clevert et al. 2016).

    Args:
        alpha: default 1.
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = number("alpha", alpha, owner="ELU")

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)


class ThresholdedReLU(Elementwise):
    """`x` where it is above `theta`, else 0: a layer of older programs.

    Args:
        theta: default 1.
    """

    def __init__(self, theta: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.theta = float(_not_negative(self, "theta", theta))

    def call(self, inputs: Any) -> Any:
        return ops.where(ops.greater(inputs, self.theta), inputs, 0)


class Softmax(Elementwise):
    """`exp(x) / sum(exp(x))` along an axis.

    Args:
        axis: the axis, or several.

    A mask that broadcasts with the inputs may be passed to the call: where it is False the result is 0.
    """

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis if axis is None else axes_argument(self, axis)

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
            raise ValueError(
                f"Softmax {self.name!r} needs a mask that broadcasts with its inputs, got a mask of shape "
                f"{tuple(mask.shape)} and inputs {tuple(inputs.shape)}."
            )
        if mask.dtype != "bool":
            mask = ops.greater(mask, 0.5)
        hidden = -3e4 if inputs.dtype == "float16" else -1e9
        return ops.where(mask, nn.softmax(ops.where(mask, inputs, hidden), self.axis), 0)


def _not_negative(layer: Elementwise, name: str, value: Any, infinite: bool = False) -> Any:
    number(name, value, 0, owner=type(layer).__name__, infinite=infinite)
    return value
