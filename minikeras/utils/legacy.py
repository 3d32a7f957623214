"""Objects as dicts of a class name and a configuration, without a module: Keras 2's descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikeras.lazy import offer_names
from minikeras.registry import (
    custom_object_scope,
    get_registered_name,
    get_registered_object,
    is_description,
    serialize_value,
)
from minikeras.utils.suggest import unknown


def serialize_keras_object(instance: Any) -> Any:
    """The description of an object, `{"class_name": ..., "config": ...}`, or the name of a function.

    Args:
        instance: what has a `get_config`, a function, or None.

    Raises:
        ValueError: for anything else.

    >>> from minikeras import regularizers
    >>> from minikeras.utils import legacy
    >>> legacy.serialize_keras_object(regularizers.L1(0.5))
    {'class_name': 'L1', 'config': {'l1': 0.5}}
    """
    if isinstance(instance, type) or (instance is not None and not hasattr(instance, "get_config")):
        if not hasattr(instance, "__name__"):
            raise ValueError(f"{instance!r:.80} cannot be described; give its class a get_config() method.")
        return get_registered_name(instance)
    return _plain(serialize_value(instance))


def _plain(value: Any) -> Any:
    """A description and those in it without what Keras 3 adds."""
    if not is_description(value):
        return value
    config = {name: _plain(one) for name, one in value["config"].items()}
    return {"class_name": value.get("registered_name") or value["class_name"], "config": config}


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """The object that a description of `serialize_keras_object` describes.

    Args:
        identifier: the description, or the name of a function or class; anything else is returned as it is.
        module_objects, custom_objects: classes and functions by name, custom ones before others.
        printable_module_name: what is looked up, for messages.

    Raises:
        ValueError: for a name that is in neither, nor registered.

    >>> from minikeras import regularizers
    >>> from minikeras.utils import legacy
    >>> described = {"class_name": "L1", "config": {"l1": 0.5}}
    >>> legacy.deserialize_keras_object(described, module_objects={"L1": regularizers.L1}).l1
    0.5
    """
    if not (isinstance(identifier, str) or is_description(identifier)):
        return identifier
    name = identifier if isinstance(identifier, str) else identifier["class_name"]
    found = get_registered_object(name, custom_objects, module_objects)
    if found is None:
        raise ValueError(unknown(printable_module_name, name, [*(custom_objects or {}), *(module_objects or {})]))
    if isinstance(identifier, str):
        return found() if isinstance(found, type) else found
    with custom_object_scope(custom_objects):
        return getattr(found, "from_config", lambda config: found(**config))(identifier["config"])


offer_names(__name__)
