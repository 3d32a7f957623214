"""Dense layers whose product is an Einstein sum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from minikeras import activations, ops
from minikeras.declared import Must
from minikeras.initializers import VarianceScaling
from minikeras.layers.common import activated_shape
from minikeras.layers.fields import Activation, Constraint, Initializer, Regularizer, declared, field, sizes
from minikeras.layers.layer import Layer
from minikeras.layers.spec import InputSpec
from minikeras.ops.attention import projections

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@declared
class EinsumDense(Layer):
    """`activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: such as `"abc,cd->abd"`: axes of the inputs, of the kernel, of the outputs; `...` in front of inputs
            and outputs, or behind them, stands for any others.
        output_shape: sizes of the outputs' axes without the first and without those of `...`; None is open.
        activation: name or function, default none.
        bias_axes: the axes of the outputs that have a bias each, such as `"d"`; default none.
        kernel_initializer, bias_initializer: default `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, default none.
        kernel_constraint, bias_constraint: projections after each update, default none.

    Raises:
        ValueError: in `build`, for an equation that does not fit the shapes.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(np.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    equation: Annotated[str, Must(lambda value: isinstance(value, str), "a string such as 'ab,bc->ac'")]
    output_shape: Annotated[Any, sizes(open=True)] = field(stored=False)
    activation: Activation = None
    bias_axes: str | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def __post_init__(self, output_shape: Any) -> None:  # type: ignore[override]
        self.partial_output_shape = output_shape
        self.bias: Any = None
        self._axes = 0  # how many axes are summed over, where the equation is that of `projections`

    def build(self, input_shape: Any) -> None:
        kernel_spec, kernel_shape, bias_shape, outputs, _ = self._shapes(input_shape)
        for weight, shape in ("kernel", kernel_shape), ("bias", bias_shape):
            if None in (shape or ()):
                raise self._misfit(input_shape, f"leaves the {weight}'s shape open, {shape}")
        self.input_spec = InputSpec(ndim=len(input_shape))
        initializer = self.kernel_initializer
        if isinstance(initializer, VarianceScaling) and None in (initializer.input_axes, initializer.output_axes):
            inner = [axis for axis, letter in enumerate(kernel_spec) if letter not in outputs]
            outer = [axis for axis, letter in enumerate(kernel_spec) if letter in outputs]
            axes = {"input_axes": inner, "output_axes": outer}
            initializer = type(initializer).from_config({**initializer.get_config(), "seed": initializer.seed, **axes})
        self.kernel = self.add_weight("kernel", kernel_shape, initializer)
        if bias_shape is not None:
            self.bias = self.add_weight("bias", bias_shape)
        self._axes = self._summed_axes()

    def call(self, inputs: Any, training: Any = None) -> Any:
        if self._axes:
            outputs = projections(inputs, self.kernel, self.bias, axes=self._axes)
        else:
            outputs = ops.einsum(self.equation, inputs, self.kernel)
            outputs = outputs if self.bias is None else ops.add(outputs, self.bias)
        return self._activate(outputs)

    def _activate(self, outputs: Any) -> Any:
        return outputs if self.activation in (None, activations.linear) else self.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return activated_shape(self, self._shapes(input_shape)[-1])

    def _letters(self, input_shape: Any) -> tuple[str, str, str, int, bool]:
        """(the inputs' letters, the kernel's, the outputs', how many axes `...` stands for, whether it is in front)."""
        match = _EQUATION.fullmatch(self.equation.replace(" ", ""))
        before, inputs, after, kernel, before_outputs, outputs, after_outputs = match.groups() if match else [""] * 7
        elided = len(input_shape) - len(inputs)
        if before != before_outputs or after != after_outputs or (before and after) or not match:
            raise self._misfit(input_shape, "is not of the form 'ab,bc->ac', '...b,bc->...c' or 'ab...,bc->ac...'")
        if elided < 0 or (elided and not before and not after):
            raise self._misfit(input_shape, f"takes inputs with {len(inputs)} axes")
        return inputs, kernel, outputs, elided, bool(before)

    def _output_shape(self, letters: tuple[str, str, str, int, bool], input_shape: Any) -> tuple[int | None, ...]:
        elided, in_front = letters[3:]
        if in_front:
            return (*input_shape[: max(elided, 1)], *self.partial_output_shape)
        return (input_shape[0], *self.partial_output_shape, *input_shape[len(input_shape) - elided :])

    def _shapes(self, input_shape: Any) -> tuple[str, tuple[int, ...], tuple[int, ...] | None, str, tuple]:
        """(the kernel's letters, its shape, the bias's shape or None, the outputs' letters, their shape)."""
        inputs, kernel, outputs, elided, in_front = letters = self._letters(input_shape)
        output_shape = self._output_shape(letters, input_shape)
        skipped = elided if in_front else 0
        if len(output_shape) != len(outputs) + elided:
            raise self._misfit(input_shape, f"has outputs with {len(outputs)} axes, not those of output_shape")
        given = dict(zip(inputs, input_shape[skipped:], strict=False))
        made = dict(zip(outputs, output_shape[skipped:], strict=False))
        for letter in inputs:
            if letter in made and made[letter] not in (None, given[letter]):
                raise self._misfit(input_shape, f"makes axis {letter!r} {made[letter]} long, of {given[letter]}")
        for letter in outputs + kernel:
            if letter not in inputs + (kernel if letter in outputs else outputs):
                raise self._misfit(input_shape, f"names an axis {letter!r} on one side only")
        kernel_shape: Any = tuple(made[letter] if letter in made else given[letter] for letter in kernel)
        bias_shape: Any = None
        if self.bias_axes is not None:
            if not self.bias_axes or not set(self.bias_axes) <= set(outputs):
                raise self._misfit(input_shape, f"has not all of the bias_axes {self.bias_axes!r} in its outputs")
            first = min(outputs.index(letter) for letter in self.bias_axes)
            bias_shape = tuple(made[letter] if letter in self.bias_axes else 1 for letter in outputs[first:])
            bias_shape += (1,) * (0 if in_front else elided)
        return kernel, kernel_shape, bias_shape, outputs, output_shape

    def _misfit(self, input_shape: Any, problem: str) -> ValueError:
        return ValueError(
            f"EinsumDense {self.name!r} got inputs of shape {tuple(input_shape)} and output_shape "
            f"{self.partial_output_shape} for the equation {self.equation!r}, which {problem}."
        )

    def _summed_axes(self) -> int:
        """How many axes, the inputs' last and the kernel's first, the equation sums over; 0 for other equations."""
        inputs, kernel, outputs = re.split(",|->", self.equation.replace(" ", ""))
        for axes in range(1, len(kernel)):
            if inputs.endswith(kernel[:axes]) and outputs == inputs[:-axes] + kernel[axes:]:
                fits = self.bias is None or self.bias.shape == self.kernel.shape[axes:]
                return (
                    axes
                    if fits
                    and len(set(inputs + kernel[axes:])) == len(inputs + kernel[axes:]) - 2 * (inputs.startswith("..."))
                    else 0
                )
        return 0

    def get_config(self) -> dict[str, Any]:
        config = {"activity_regularizer": None, **super().get_config(), "quantization_config": None}
        return {**config, "output_shape": self.partial_output_shape}


def project(x: Any, layers: Sequence[EinsumDense]) -> list[Any]:
    """What the layers make of one input: in one product, unless one of them has something else to do."""
    simple = all(
        type(layer) is EinsumDense and layer.built and layer._axes == 1 and layer.activity_regularizer is None
        for layer in layers
    )
    if not simple or len(layers) == 1:
        return [layer(x) for layer in layers]
    outputs = projections(x, *[part for layer in layers for part in (layer.kernel, layer.bias)])
    return [layer._activate(y) for layer, y in zip(layers, outputs, strict=True)]
