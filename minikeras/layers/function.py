"""A Python function as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minikeras import tree
from minikeras.layers.layer import Layer
from minikeras.layers.spec import as_shape, is_shape, map_shapes, mask_of, shapes_of, specs_of
from minikeras.registry import (
    custom_object_scope,
    deserialize_keras_object,
    find_custom,
    get_registered_name,
    serialize_value,
)


class Lambda(Layer):
    """A Python function as a layer.

    Args:
        function: `function(inputs)`, made of `minikeras.ops` and operators of tensors; a parameter `training` or `mask`
            is given what the layer is called with.
        output_shape: the outputs' shape without the batch axis, or a function of the inputs' shape; default found out.
        mask: the outputs' mask, or a function `mask(inputs, mask)` that makes it; default none.
        arguments: further arguments of the function, by name.

    A function is code, which files neither hold nor bring back: a saved model names it, and whoever opens the file
    passes it by that name, as `load_model(path, custom_objects={"double": double})`, or by the layer's:
    `custom_objects={"lambda": lambda x: 2 * x}` for a layer named `"lambda"`; `safe_mode` makes no difference.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Lambda(lambda x: x * 2)(np.array([1.0, 2.0]))
    <Tensor shape=(2,) dtype=float32>
    array([2., 4.], dtype=float32)
    """

    takes_strings = True  # whether the function does

    def __init__(
        self, function: Callable, output_shape: Any = None, mask: Any = None, arguments: Any = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"Lambda makes a layer of a function, got {function!r}.")
        if output_shape is not None and not callable(output_shape) and not _are_shapes(output_shape):
            raise ValueError(
                "Lambda's output_shape must be a shape without the batch axis, such as (3,), or a function, got "
                f"{output_shape!r}."
            )
        if mask is not None and not callable(mask) and not hasattr(mask, "shape"):
            raise ValueError(f"Lambda's mask must be a tensor or a function, got {mask!r}.")
        self.function = function
        self.arguments = dict(arguments or {})
        self.mask = mask
        self.supports_masking = mask is not None
        self._output_shape = output_shape
        parameters = inspect.signature(function).parameters
        self._passed_on = [name for name in ("training", "mask") if name in parameters and name not in self.arguments]

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        given = {"training": training, "mask": mask}
        return self.function(inputs, **self.arguments, **{name: given[name] for name in self._passed_on})

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        if self._output_shape is not None:
            return super().compute_output_spec(inputs)
        return self._spec_by_running((inputs, mask_of(inputs) if mask is None else mask, bool(training)), {})

    def compute_output_shape(self, input_shape: Any) -> Any:
        if callable(self._output_shape):
            return self._output_shape(input_shape)
        if self._output_shape is None:
            return shapes_of(self.compute_output_spec(specs_of(input_shape, str(self.compute_dtype))))
        batch = tree.flatten(input_shape)[0]
        return map_shapes(lambda shape: (batch, *shape), self._output_shape)

    def get_config(self) -> dict[str, Any]:
        config = {"name": self.name, "trainable": self.trainable, "dtype": serialize_value(self.dtype_policy)}
        parts = {"function": self.function, "output_shape": self._output_shape, "mask": self.mask}
        for name, value in {**parts, "arguments": self.arguments}.items():
            if callable(value):
                config[name] = self._describe(name, value)
            elif value is not None:
                config[name] = serialize_value(value)
        return config

    def _describe(self, part: str, function: Any) -> dict[str, Any]:
        """A function by name, which stands for nothing that could be run."""
        name = get_registered_name(function)
        if name == "<lambda>" or not hasattr(function, "__name__"):
            name = f"{self.name}>{part}"
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None, safe_mode: Any = None) -> Any:
        """The layer that a description describes, with the functions that the user passes for it.

        Args:
            config: the description.
            custom_objects: the functions by name.
            safe_mode: accepted for familiarity; code in a description is never run.

        Raises:
            ValueError: where one of the functions is not among the user's custom objects, and for unknown entries.
        """
        if custom_objects:
            with custom_object_scope(custom_objects):
                return cls.from_config(config)
        parts: dict[str, Any] = {
            name: config[name] for name in ("name", "trainable", "dtype", "arguments") if name in config
        }
        parts["arguments"] = deserialize_keras_object(parts.get("arguments"))
        for part in ("function", "output_shape", "mask"):
            value: Any = config.get(part)
            if cls._is_passed(config, part):
                parts[part] = cls._passed_function(config, part)
                if parts[part] is None:
                    layer, name = config.get("name"), _names(config, part)[0]
                    raise ValueError(
                        f"The {part} of the Lambda layer {layer!r} is a Python function, which is never taken from a "
                        f"description; pass it as custom_objects={{{name!r}: function}}, whatever safe_mode is."
                    )
            elif part == "output_shape":
                parts[part] = None if value is None else as_shape(value)
            else:
                parts[part] = deserialize_keras_object(value)
        unknown = sorted(config.keys() - parts.keys() - _OF_OLDER_FILES)
        if unknown:
            raise ValueError(f"The description of a Lambda layer has the unknown entries {unknown}; remove them.")
        return cls(**parts)

    @classmethod
    def lacking(cls, config: dict[str, Any]) -> list[tuple[str, str, str]]:
        """The functions that a description needs and nobody passed: name, part, and whose, in words."""
        parts = [part for part in ("function", "output_shape", "mask") if cls._is_passed(config, part)]
        layer = f"the Lambda layer {config.get('name')!r}"
        return [(_names(config, part)[0], part, layer) for part in parts if cls._passed_function(config, part) is None]

    @staticmethod
    def _is_passed(config: dict[str, Any], part: str) -> bool:
        """Whether a part of a description stands for a function."""
        kinds = ("lambda", "function")
        return part == "function" or _is_function(config.get(part)) or config.get(f"{part}_type") in kinds

    @staticmethod
    def _passed_function(config: dict[str, Any], part: str) -> Callable | None:
        """The user's function of the name that the description gives, or of the layer's."""
        found = map(find_custom, _names(config, part))
        return next((one for one in found if callable(one) and not isinstance(one, type)), None)


def _names(config: dict[str, Any], part: str) -> list[str]:
    """Under which names a user may pass a function: its own, the layer's, and the layer's with the part."""
    layer, described = config.get("name"), config.get(part)
    own = described.get("config") if isinstance(described, dict) else described
    names = [own, layer if part == "function" else None, f"{layer}>{part}"]
    return [name for name in names if isinstance(name, str)]


# beside the code itself, which counts for nothing
_OF_OLDER_FILES = {"module", "function_type", "output_shape_type", "output_shape_module"}


def _are_shapes(value: Any) -> bool:
    """Whether this is a shape or a structure of shapes."""
    if is_shape(value):
        return all(size is None or (size >= 0 and not isinstance(size, bool)) for size in value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return bool(parts) and all(map(_are_shapes, parts))


def _is_function(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") in ("function", "__lambda__")
