"""What several layers share: outputs shaped like inputs, tuples of sizes, windows that slide over spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import activations
from minikeras import kernels as k
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import KerasTensor, TooSmall, infer_output
from minikeras.layers.layer import Layer
from minikeras.layers.spec import InputSpec
from minikeras.utils.checks import number, shown, whole


class Elementwise(Layer):
    """A layer whose outputs have the shape of its inputs, and their mask."""

    supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def activated_shape(layer: Any, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The shape of what a layer's activation makes of outputs of this shape."""
    activation = layer.activation
    if activation is None:
        return shape
    outputs = KerasTensor(shape, str(layer.compute_dtype))
    knows_shapes = activation in activations.ALL.values()
    return (activation(outputs) if knows_shapes else infer_output(activation, (outputs,), {})).shape


class Spatial(Layer):
    """A layer over the spatial axes, `rank` of them, of (batch, ..., channels) or (batch, channels, ...)."""

    rank = 0
    data_format: str = "channels_last"

    def __post_init__(self) -> None:  # type: ignore[override]
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self._axes = spatial_axes(self.data_format, self.rank)


class SameType(Layer):
    """A layer that moves values without computing: its outputs keep the type of its inputs, integers too."""

    def compute_output_spec(self, inputs: Any) -> Any:
        return KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)


def positive_int(layer: str, name: str, value: Any) -> int:
    """`value` as a positive int, or a sentence."""
    return whole(name, value, 1, owner=layer)


def int_tuple(layer: Layer, name: str, value: Any, length: int, least: int = 1) -> tuple[int, ...]:
    """`length` integers of at least `least` from that many or from one for all, or a sentence."""
    sizes = value if isinstance(value, (list, tuple)) else (value,) * length
    if len(sizes) == length:
        return tuple(whole(name, size, least, owner=type(layer).__name__) for size in sizes)
    raise ValueError(
        f"{type(layer).__name__} needs for {name} an integer of at least {least}"
        f"{f' or {length} of them' if length > 1 else ''}, got {shown(value)}."
    )


def sizes_argument(layer: Layer, name: str, value: Any, *, least: int = 1, open: bool = False) -> tuple[Any, ...]:
    """One size or a list of them as a tuple, or a sentence.

    Args:
        least: the least size that is allowed.
        open: whether None is a size.
    """
    sizes = value if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1 else (value,)
    return tuple(whole(name, size, least, owner=type(layer).__name__, optional=open) for size in sizes)


def numbers_argument(layer: Layer, name: str, value: Any) -> Any:
    """A finite number or an array of them as it is, or a sentence."""
    array = value if hasattr(value, "dtype") else None
    if array is None and isinstance(value, (list, tuple)):
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(f"{type(layer).__name__}'s {name} must be numbers, got {shown(value)}.") from None
    if array is None or not getattr(array, "ndim", 0):
        number(name, value, owner=type(layer).__name__)
    elif np.dtype(array.dtype).kind not in "fiub" or not np.isfinite(k.to_host(raw(array))).all():
        raise ValueError(f"{type(layer).__name__}'s {name} must be finite numbers, got {shown(value)}.")
    return value


def choice(layer: Layer, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value` in lower case as one of `choices`, or a sentence."""
    word = value.lower() if isinstance(value, str) else value
    if word not in choices:
        raise ValueError(f"{type(layer).__name__} takes one of {choices} for {name}, got {value!r}.")
    return word


def axis_of(layer: Layer, axis: Any, rank: int, *, least: int = 0, input_shape: Any = None) -> int:
    """`axis` counted from the front, or a sentence where inputs of that rank have not got it.

    Args:
        least: the first axis that is allowed, 1 where the batch's is not.
    """
    place = axis + rank if axis < 0 else axis
    if not least <= place < rank:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} works on axis {axis}, got inputs of "
            f"{f'rank {rank}' if input_shape is None else f'shape {tuple(input_shape)}'}; choose an axis that they have"
            f"{', not the batch' if least else ''}."
        )
    return place


def axes_argument(layer: Layer, name: str, axis: Any) -> Any:
    """An argument that is an axis, as an int, or several, as a list; or a sentence."""
    if isinstance(axis, (list, tuple)) and axis:
        return [whole(name, one, owner=type(layer).__name__) for one in axis]
    if isinstance(axis, (bool, list, tuple)) or not hasattr(axis, "__index__"):
        raise TypeError(f"{type(layer).__name__} needs an integer or a list of them for {name}, got {shown(axis)}.")
    return whole(name, axis, owner=type(layer).__name__)


def check_axes(layer: Layer, axis: Any, input_shape: Any) -> None:
    """Refuse axes that inputs of this shape have not got, or that are named twice."""
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    places = [axis_of(layer, one, len(input_shape), input_shape=input_shape) for one in axes]
    if len(set(places)) < len(places):
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} needs each of its axes once, got {axis!r} for inputs of shape "
            f"{tuple(input_shape)}."
        )


def known_size(layer: Layer, input_shape: Any, axis: int) -> int:
    """The size of an axis that weights depend on, or a sentence where it is open or not there."""
    size = input_shape[axis_of(layer, axis, len(input_shape), input_shape=input_shape)]
    if size is None:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} needs a known size along axis {axis}, got inputs of shape "
            f"{tuple(input_shape)}; give the Input that size."
        )
    return whole(f"The size along axis {axis} of the inputs of {type(layer).__name__} {layer.name!r}", size, 0)


def spatial_axes(data_format: str, rank: int) -> tuple[int, ...]:
    """The axes between batch and channels."""
    first = 1 if data_format == "channels_last" else 2
    return tuple(range(first, first + rank))


def replace_axes(shape: Any, sizes: dict[int, int | None]) -> tuple[int | None, ...]:
    """`shape` with the sizes of some axes replaced."""
    return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))


def window_counts(
    layer: Layer, input_shape: Any, axes: tuple[int, ...], size: Any, strides: Any, padding: str, dilation: Any
) -> dict[int, int | None]:
    """How many windows there are along each spatial axis, by axis: None where the input is open.

    Raises:
        ValueError: where not a single window fits.
    """
    counts: dict[int, int | None] = {}
    for axis, window, stride, spread in zip(axes, size, strides, dilation, strict=True):
        length = input_shape[axis]
        if length is None:
            counts[axis] = None
            continue
        reach = spread * (window - 1) + 1 if padding == "valid" else 1
        if length < reach:
            raise TooSmall(
                f"{type(layer).__name__} {layer.name!r} needs inputs of size {reach} or more along axis {axis}, got "
                f"shape {tuple(input_shape)}; use padding='same' or a smaller window."
            )
        counts[axis] = (length - reach) // stride + 1
    return counts
