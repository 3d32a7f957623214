"""Where Keras 2 has the progress bar and what describes objects."""

from typing import Any

from minikeras.callbacks.progress import Progbar
from minikeras.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "register_keras_serializable",
    "serialize_keras_object",
    "to_list",
    "unpack_singleton",
]


def to_list(x: Any, allow_tuple: bool = False) -> list[Any]:
    """`x` if it is a list, the elements of a tuple where `allow_tuple` says so, else a list of `x` alone."""
    if isinstance(x, list):
        return x
    return list(x) if allow_tuple and isinstance(x, tuple) else [x]


def unpack_singleton(x: Any) -> Any:
    """The only element of a list or tuple of one; anything else as it is."""
    return x[0] if isinstance(x, (list, tuple)) and len(x) == 1 else x
