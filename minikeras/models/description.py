"""Models from descriptions: JSON, dicts, and copies of an architecture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from minikeras.models.model import Model
from minikeras.registry import custom_object_scope, deserialize_keras_object, is_description, serialize_keras_object

_LARGEST_TEXT = 1 << 26  # bytes; a description has no weights in it
_DEEPEST = 200  # nested models take about six levels each


def model_from_json(json_string: str | bytes, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model that `to_json` described, with new weights.

    Args:
        json_string: the description.
        custom_objects: classes and functions of your own by name.

    Raises:
        ValueError: for text that is no description of a model.
    """
    return model_from_config(parse_description(json_string), custom_objects)


def model_from_config(config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model that a description describes, with new weights.

    Raises:
        ValueError: for what describes no model.
    """
    if not is_description(config):
        raise ValueError(f"A model is described by class_name and config, got {config!r:.80}.")
    try:
        model = deserialize_keras_object(config, custom_objects)
    except (TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"The description does not make a model: {type(error).__name__}: {error}.") from error
    if not isinstance(model, Model):
        raise ValueError(f"The description describes a {type(model).__name__}, which is no model.")
    return model


def parse_description(text: str | bytes) -> Any:
    """A description from JSON, of reasonable size and depth.

    Raises:
        ValueError: for other text.
    """
    if len(text) > _LARGEST_TEXT:
        raise ValueError(f"A model's description takes at most {_LARGEST_TEXT} bytes, got {len(text)}.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"A model's description is JSON text, got {text[:40]!r}: {error}.") from error
    level = [config]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return config
    raise ValueError(f"A model's description nests at most {_DEEPEST} levels deep, got more.")


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Any:
    """A model of the same architecture with new layers and new weights.

    Raises:
        ValueError: for arguments that change the architecture; build another model then.
    """
    if input_tensors is not None or clone_function is not None or call_function is not None:
        raise ValueError("clone_model copies an architecture as it is; build the model anew to change its inputs or layers.")
    with custom_object_scope({type(layer).__name__: type(layer) for layer in model._walk_layers()}):
        return type(model).from_config(serialize_keras_object(model.get_config()))
