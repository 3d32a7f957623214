"""The kinds of arguments that layers have, as types of their fields: what is taken, how it is kept."""

from __future__ import annotations

from typing import Annotated, Any

from minikeras import activations, config, constraints, initializers, regularizers
from minikeras.declared import Check, Converted, Kept, Number, Whole
from minikeras.declared import Positive as Positive
from minikeras.declared import declared as declared
from minikeras.declared import field as field
from minikeras.declared import group as group
from minikeras.layers.common import axes_argument, choice, int_tuple, numbers_argument, sizes_argument

Activation = Annotated[Any, Converted(activations.get)]  # a name or a function; kept as a function
Initializer = Annotated[Any, Converted(initializers.get)]
Regularizer = Annotated[Any, Converted(regularizers.get)]
Constraint = Annotated[Any, Converted(constraints.get)]
DataFormat = Annotated[Any, Converted(config.standardize_data_format)]
NonNegative = Annotated[float, Number(0)]
Rate = Annotated[float, Kept(Number(0, 1))]  # kept as it is given
Share = Annotated[float, Number(0, 1)]
Axis = Annotated[int, Whole()]
Axes = Annotated[Any, axes_argument]  # one axis, or a list of them
Numbers = Annotated[Any, numbers_argument]
Sizes = Annotated[Any, lambda layer, name, value: int_tuple(layer, name, value, layer.rank)]  # one per spatial axis


def Word(*choices: str) -> Check:
    """The check of one of a few words, in capital or small letters; `()`: those of the layer's `_paddings()`."""
    return lambda layer, name, value: choice(layer, name, value, choices)


def sizes(least: int = 1, open: bool = False) -> Check:
    """The check of a list of sizes; the arguments are those of `sizes_argument`."""
    return lambda layer, name, value: sizes_argument(layer, name, value, least=least, open=open)
