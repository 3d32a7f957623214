"""What layers are called with: the arguments of `call`, shapes and masks, and what a layer accepts of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.utils.checks import shown


class InputSpec:
    """What a layer accepts: rank, sizes of some axes.  None means anything.

    Args:
        dtype, shape, ndim, max_ndim, min_ndim: as the names say; `shape` includes the batch axis.
        axes: `{axis: size}`.
        allow_last_axis_squeeze, optional, name: accepted for familiarity.

    >>> import minikeras as keras
    >>> keras.InputSpec(ndim=2, axes={-1: 3}).axes
    {-1: 3}
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype = dtype
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        self.name, self.optional, self.allow_last_axis_squeeze = name, optional, allow_last_axis_squeeze

    def problem(self, shape: tuple) -> str | None:
        """What is expected, in words, where `shape` does not fit; else None."""
        rank = len(shape)
        if self.ndim not in (None, rank):
            return f"inputs of rank {self.ndim}"
        if self.min_ndim is not None and rank < self.min_ndim:
            return f"inputs of rank {self.min_ndim} or more"
        if self.max_ndim is not None and rank > self.max_ndim:
            return f"inputs of rank {self.max_ndim} or less"
        for axis, size in self.axes.items():
            if size is not None and shape[axis] not in (size, None):
                return f"inputs with {size} entries along axis {axis}"
        for axis, size in enumerate(self.shape or ()):
            if size is not None and shape[axis] not in (size, None):
                return f"inputs of shape {self.shape}"
        return None

    def get_config(self) -> dict[str, Any]:
        names = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        return {name: getattr(self, name) for name in names}


class CallSignature:
    """What `call` of a class takes; looked at once per class."""

    def __init__(self, cls: Any):
        parameters = list(inspect.signature(cls.call).parameters.values())[1:]
        self.names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        every = {p.name for p in parameters}
        self.training = "training" in every
        self.mask = "mask" in every
        self.open = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.training_position = self.names.index("training") if "training" in self.names else 99
        self.mask_position = self.names.index("mask") if "mask" in self.names else 99
        self.masked = [name for name in self.names if f"{name}_mask" in every]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.default_training = defaults.get("training")
        self.needs_training = self.training and "training" not in defaults

    def further_masks(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The inputs' masks for a `call` with several inputs `x`, `y` and parameters `x_mask`, `y_mask` for them."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if sum(not is_plain(value) for value in given.values()) < 2:
            return {}
        masks = {f"{name}_mask": mask_of(given.get(name)) for name in self.masked}
        return {name: mask for name, mask in masks.items() if mask is not None and given.get(name) is None}


call_signature: Callable[[Any], CallSignature] = functools.cache(CallSignature)


def is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def mask_of(inputs: Any) -> Any:
    if isinstance(inputs, (Tensor, KerasTensor)):
        return inputs._keras_mask
    if isinstance(inputs, (list, tuple)):
        masks = [mask_of(value) for value in inputs]
        return masks if any(mask is not None for mask in masks) else None
    return None


def shapes_of(value: Any) -> Any:
    """The shapes of a structure of tensors; a single tensor's as a tuple."""
    if isinstance(value, (Tensor, KerasTensor)):
        shape = tuple(value.shape)
        return (None, *shape[1:]) if isinstance(value, Tensor) and shape else shape
    if isinstance(value, dict):
        return {key: shapes_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shapes_of(item) for item in value]
    return None


def is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(v is None or isinstance(v, (int, np.integer)) for v in value)


def map_shapes(function: Callable[[Any], Any], shapes: Any) -> Any:
    """A structure of shapes with `function(shape)` in the place of each."""
    if is_shape(shapes):
        return function(shapes)
    if isinstance(shapes, dict):
        return {key: map_shapes(function, item) for key, item in shapes.items()}
    if not isinstance(shapes, (list, tuple)):
        raise ValueError(f"A shape is a list of sizes, such as (None, 3), got {shown(shapes)}.")
    return type(shapes)([map_shapes(function, item) for item in shapes])


def as_shape(value: Any) -> Any:
    """JSON's lists as tuples, in a structure of shapes."""
    return map_shapes(tuple, value)


def specs_of(shape: Any, dtype: str) -> Any:
    """Symbolic tensors of these shapes."""
    return map_shapes(lambda one: KerasTensor(tuple(one), dtype), shape)
