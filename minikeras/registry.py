"""Objects and their descriptions: the closed table of built-in classes and functions, users' own, and JSON in between.

Each room enters its public classes (`builtin`) and functions (`builtin_functions`); users enter theirs with
`register_keras_serializable` or a `custom_object_scope`.  Describing and restoring uses these tables alone: nothing in
a description can name code to import.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.config import DTypePolicy
from minikeras.utils.suggest import unknown

_classes: dict[tuple[str, str], type] = {}
_modules: dict[type, str] = {}
_function_names: dict[Any, str] = {}
_custom: dict[str, Any] = {}
_custom_names: dict[Any, str] = {}


class _Scopes(threading.local):
    def __init__(self) -> None:
        self.stack: list[Mapping[str, Any]] = []


_scopes = _Scopes()


def builtin(module: str, *classes: type) -> None:
    """Enter built-in classes under the public module they are described by, such as `"keras.layers"`."""
    for cls in classes:
        _classes[module, cls.__name__] = cls
        _modules.setdefault(cls, module)


def builtin_functions(functions: Mapping[str, Any]) -> None:
    """Enter built-in functions, which are described by their bare names."""
    for name, function in functions.items():
        _function_names.setdefault(function, name)


def builtin_class(module: str | None, class_name: str) -> type | None:
    """The built-in class of that public module and name, or None."""
    return _classes.get((module or "", class_name))


def is_builtin(cls: type) -> bool:
    """Whether a class is one of minikeras's own."""
    return cls in _modules


# ---------------------------------------------------------------- users' objects


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Class or function decorator: let files name this object, as `package>name`."""

    def decorate(thing: Any) -> Any:
        if isinstance(thing, type) and not hasattr(thing, "get_config"):
            raise ValueError(f"{thing.__name__} cannot be registered: a serializable class needs a get_config() method.")
        registered = f"{package}>{name or thing.__name__}"
        _custom[registered] = thing
        _custom_names[thing] = registered
        return thing

    return decorate


def get_custom_objects() -> dict[str, Any]:
    """The registered objects by name; entries may be added."""
    return _custom


def get_registered_name(thing: Any) -> str:
    """The name an object was registered by, else its own."""
    return _custom_names.get(thing, getattr(thing, "__name__", str(thing)))


def get_registered_object(
    name: str, custom_objects: Mapping[str, Any] | None = None, module_objects: Mapping[str, Any] | None = None
) -> Any:
    """The user's object of that name, from the arguments, the scopes or the registry; None where there is none."""
    for table in (custom_objects or {}, *reversed(_scopes.stack), _custom, module_objects or {}):
        if name in table:
            return table[name]
    return None


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Within this block files may name the given objects."""
    _scopes.stack.append(custom_objects or {})
    try:
        yield
    finally:
        _scopes.stack.pop()


CustomObjectScope = custom_object_scope


def find_custom(class_name: str, registered_name: str | None = None) -> Any:
    """A user's class or function by registered or plain name, or None."""
    for name in (registered_name, class_name):
        found = get_registered_object(name) if name else None
        if found is not None:
            return found
    return get_registered_object(f"Custom>{class_name}")


# ---------------------------------------------------------------- names and descriptions to objects


def get(kind: str, identifier: Any, table: Mapping[str, Any]) -> Any:
    """What an argument such as `loss="mse"` means.

    A string is looked up in `table` and among the user's objects (a class is instantiated), a dict is a description, a
    class is instantiated, None stays None, and any other callable or object with a `get_config` is itself.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        return deserialize_keras_object(identifier)
    if isinstance(identifier, str):
        found = find_custom(identifier)
        if found is None:
            found = table.get(identifier)
        if found is None:
            raise ValueError(unknown(kind, identifier, table))
        return found() if isinstance(found, type) else found
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier) or hasattr(identifier, "get_config"):
        return identifier
    raise ValueError(f"A {kind} is given by name, object or function, got {identifier!r}.")


def serialize_keras_object(thing: Any) -> Any:
    """The description of an object, ready for JSON.

    Raises:
        ValueError: for a lambda, which cannot be described by a name.
        TypeError: for an object without `get_config`.
    """
    if thing is None or isinstance(thing, (str, bool, int, float)):
        return thing
    if isinstance(thing, (np.bool_, np.integer, np.floating)):
        return thing.item()
    if isinstance(thing, (list, tuple)):
        return type(thing)([serialize_keras_object(item) for item in thing]) if not hasattr(thing, "_fields") else [
            serialize_keras_object(item) for item in thing
        ]
    if isinstance(thing, dict):
        return {key: serialize_keras_object(value) for key, value in thing.items()}
    if isinstance(thing, np.dtype) or (isinstance(thing, type) and issubclass(thing, np.generic)):
        return np.dtype(thing).name
    if isinstance(thing, KerasTensor):
        operation, node, index = thing._keras_history
        history = {"shape": thing.shape, "dtype": thing.dtype, "keras_history": [operation.name, node, index]}
        return {"class_name": "__keras_tensor__", "config": history}
    if isinstance(thing, Tensor):
        return {"class_name": "__tensor__", "config": {"value": thing.tolist(), "dtype": str(thing.dtype)}}
    if isinstance(thing, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": thing.tolist(), "dtype": thing.dtype.name}}
    if isinstance(thing, bytes):
        return {"class_name": "__bytes__", "config": {"value": thing.decode("latin-1")}}
    if isinstance(thing, slice):
        parts = [serialize_keras_object(part) for part in (thing.start, thing.stop, thing.step)]
        return {"class_name": "__slice__", "config": dict(zip(("start", "stop", "step"), parts, strict=True))}
    if thing is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(thing, DTypePolicy):
        return {"module": "keras", "class_name": "DTypePolicy", "config": thing.get_config(), "registered_name": None}
    if hasattr(thing, "get_config") and not isinstance(thing, type):
        return _describe(thing)
    if callable(thing) and not isinstance(thing, type):
        return _describe_function(thing)
    raise TypeError(f"{thing!r} cannot be saved; give its class a get_config() method and register it.")


serialize_value = serialize_keras_object


def _describe(thing: Any) -> dict[str, Any]:
    cls = type(thing)
    own = is_builtin(cls)
    description = {
        "module": _modules[cls] if own else cls.__module__,
        "class_name": cls.__name__,
        "config": serialize_keras_object(thing.get_config()),
        "registered_name": None if own else get_registered_name(cls),
    }
    if getattr(thing, "built", False) and hasattr(thing, "get_build_config"):
        build_config = thing.get_build_config()
        if build_config is not None:
            description["build_config"] = serialize_keras_object(build_config)
    if hasattr(thing, "get_compile_config"):
        compile_config = thing.get_compile_config()
        if compile_config is not None:
            description["compile_config"] = serialize_keras_object(compile_config)
    return description


def _describe_function(function: Any) -> Any:
    if function in _function_names:
        return _function_names[function]
    if getattr(function, "__name__", "") == "<lambda>":
        raise ValueError("A lambda cannot be saved, got one; write a named function and register it.")
    return {
        "module": "builtins",
        "class_name": "function",
        "config": get_registered_name(function),
        "registered_name": "function",
    }


def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True, **unused: Any
) -> Any:
    """The object that a description describes.

    Raises:
        ValueError: for a class that is neither built in nor registered, and for what can never be loaded (lambdas).
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize_keras_object(config)
    if isinstance(config, (list, tuple)):
        return type(config)([deserialize_keras_object(item) for item in config])
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: deserialize_keras_object(value) for key, value in config.items()}
    class_name, inner = config["class_name"], config["config"]
    if class_name in _SPECIAL:
        return _SPECIAL[class_name](inner)
    if class_name == "function":
        return _restore_function(inner)
    return _restore(config, class_name, inner)


def _refuse(inner: Any) -> Any:
    raise ValueError("The description holds code (a lambda or a type specification), which is never loaded; pass the "
                     "function through custom_objects.")


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "__tensor__": lambda inner: Tensor(np.asarray(inner["value"], inner["dtype"])),
    "__numpy__": lambda inner: np.asarray(inner["value"], inner["dtype"]),
    "__bytes__": lambda inner: inner["value"].encode("latin-1"),
    "__ellipsis__": lambda inner: Ellipsis,
    "__slice__": lambda inner: slice(inner["start"], inner["stop"], inner["step"]),
    "__lambda__": _refuse,
    "__typespec__": _refuse,
    "DTypePolicy": lambda inner: DTypePolicy.from_config(inner),
}


def _restore_function(name: Any) -> Any:
    found = find_custom(name) if isinstance(name, str) else None
    if found is None:
        for function, known in _function_names.items():
            if known == name:
                return function
        raise ValueError(f"The function {name!r} is not known; pass it through custom_objects or register it.")
    return found


def _restore(config: dict[str, Any], class_name: str, inner: Any) -> Any:
    registered = config.get("registered_name")
    cls = find_custom(class_name, registered)
    if cls is None:
        cls = builtin_class(config.get("module"), class_name)
    if cls is None and not config.get("module"):
        cls = next((known for (_, name), known in _classes.items() if name == class_name), None)
    if not isinstance(cls, type):
        raise ValueError(
            f"The class {class_name!r} of module {config.get('module')!r} is neither built in nor registered; pass it "
            "through custom_objects or decorate it with register_keras_serializable."
        )
    restored = cls.from_config(inner)  # type: ignore[attr-defined]
    build_config = config.get("build_config")
    if build_config and hasattr(restored, "build_from_config"):
        restored.build_from_config(build_config)
    compile_config = config.get("compile_config")
    if compile_config and hasattr(restored, "compile_from_config"):
        restored.compile_from_config(compile_config)
    return restored
