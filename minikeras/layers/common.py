"""What several layers share: outputs shaped like inputs, tuples of sizes, windows that slide over spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.layers.base import Layer

_INTEGERS = (int, np.integer)


class Elementwise(Layer):
    """A layer whose outputs have the shape of its inputs, and their mask."""

    supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class SameType(Layer):
    """A layer that moves values without computing: its outputs keep the type of its inputs, integers too."""

    def compute_output_spec(self, inputs: Any) -> Any:
        return KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)


def positive_int(layer: str, name: str, value: Any) -> int:
    """`value` as a positive int, or a sentence."""
    if isinstance(value, bool) or not isinstance(value, _INTEGERS) or value <= 0:
        raise ValueError(f"{layer} needs a positive integer for {name}, got {value!r}.")
    return int(value)


def int_tuple(layer: Layer, name: str, value: Any, length: int, least: int = 1) -> tuple[int, ...]:
    """`length` integers of at least `least` from that many or from one for all, or a sentence."""
    sizes = (value,) * length if isinstance(value, _INTEGERS) else value
    if (
        not isinstance(sizes, (list, tuple))
        or len(sizes) != length
        or not all(isinstance(size, _INTEGERS) and size >= least for size in sizes)
    ):
        raise ValueError(
            f"{type(layer).__name__} needs for {name} an integer of at least {least}"
            f"{f' or {length} of them' if length > 1 else ''}, got {value!r}."
        )
    return tuple(int(size) for size in sizes)


def choice(layer: Layer, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value` in lower case as one of `choices`, or a sentence."""
    word = value.lower() if isinstance(value, str) else value
    if word not in choices:
        raise ValueError(f"{type(layer).__name__} takes one of {choices} for {name}, got {value!r}.")
    return word


def fraction(layer: Layer, name: str, value: Any) -> Any:
    """`value` as it is if it is a number from 0 to 1, or a sentence."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
        raise ValueError(f"{type(layer).__name__} needs a number from 0 to 1 for {name}, got {value!r}.")
    return value


def known_size(layer: Layer, input_shape: Any, axis: int) -> int:
    """The size of an axis that weights depend on, or a sentence where it is open or not there."""
    if not -len(input_shape) <= axis < len(input_shape):
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} works on axis {axis}, got inputs of shape {tuple(input_shape)}; "
            "choose an axis that they have."
        )
    size = input_shape[axis]
    if size is None:
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} needs a known size along axis {axis}, got inputs of shape "
            f"{tuple(input_shape)}; give the Input that size."
        )
    return int(size)


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
            raise ValueError(
                f"{type(layer).__name__} {layer.name!r} needs inputs of size {reach} or more along axis {axis}, got "
                f"shape {tuple(input_shape)}; use padding='same' or a smaller window."
            )
        counts[axis] = (length - reach) // stride + 1
    return counts
