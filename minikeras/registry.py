"""Objects and their descriptions: the closed table of built-in classes and functions, users' own, and JSON in between.

Each room enters its public classes (`builtin`) and functions (`builtin_functions`); users enter theirs with
`register_keras_serializable` or a `custom_object_scope`.  Describing and restoring uses these tables alone: nothing in
a description can name code to import.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikeras import dtype_policies, limits
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.config import DTypePolicy, standardize_dtype
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import shown
from minikeras.utils.suggest import unknown

older: Any = None  # what reads the descriptions of Keras 2, once there are layers
_classes: dict[tuple[str, str], type] = {}
_homes: dict[tuple[str, str], str] = {}  # "module:name" of classes that are loaded when they are first needed
_at_home: dict[str, str] = {}  # their public modules
_modules: dict[type, str] = {}
_function_names: dict[Any, str] = {}
_functions: dict[str, Any] = {}
_custom: dict[str, Any] = {}
_custom_names: dict[Any, str] = {}


class _Scopes(threading.local):
    def __init__(self) -> None:
        self.stack: list[Mapping[str, Any]] = []
        self.sharing: _Sharing | None = None
        self.without_files = False


_scopes = _Scopes()


def builtin(module: str, *classes: type) -> None:
    """Enter built-in classes under the public module they are described by, such as `"keras.layers"`."""
    for cls in classes:
        _classes[module, _public_name(cls)] = cls
        _modules.setdefault(cls, module)


def builtin_later(module: str, homes: Mapping[str, str]) -> None:
    """Enter the names of built-in classes that are loaded when they are first needed, from `"module:name"`."""
    _homes.update({(module, name): home for name, home in homes.items()})
    _at_home.update(dict.fromkeys(homes.values(), module))


def _public_name(cls: type) -> str:
    """What a built-in class is called in a description: its `public_name`, if it has one of its own, else its name."""
    return cls.__dict__.get("public_name", cls.__name__)


def builtin_functions(functions: Mapping[str, Any]) -> None:
    """Enter built-in functions, which are described by their bare names."""
    for name, function in functions.items():
        _function_names.setdefault(function, name)
        _functions.setdefault(name, function)


def builtin_class(module: str | None, class_name: str) -> type | None:
    """The built-in class of that public module and name, or None."""
    key = module or "", class_name
    if key in _homes and key not in _classes:
        home, _, name = _homes[key].partition(":")
        builtin(key[0], getattr(importlib.import_module(home), name))
    return _classes.get(key)


def is_builtin(cls: type) -> bool:
    """Whether a class is one of minikeras's own."""
    return _public_module(cls) is not None


def _public_module(cls: type) -> str | None:
    """The public module that a built-in class is described by."""
    return _modules.get(cls) or _at_home.get(f"{cls.__module__}:{cls.__qualname__}")


# ---------------------------------------------------------------- users' objects


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Class or function decorator: let files name this object, as `package>name`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> @keras.saving.register_keras_serializable(package="examples")
    ... class Thrice(layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs * 3
    ...
    >>> keras.saving.get_registered_name(Thrice)
    'examples>Thrice'
    """

    def decorate(thing: Any) -> Any:
        if isinstance(thing, type) and not hasattr(thing, "get_config"):
            raise ValueError(f"{thing.__name__} cannot be registered: a class needs a get_config() method for it.")
        registered = f"{package}>{name or thing.__name__}"
        _custom[registered] = thing
        _custom_names[thing] = registered
        return thing

    return decorate


def get_custom_objects() -> dict[str, Any]:
    """The registered objects by name; entries may be added.

    >>> import minikeras as keras
    >>> isinstance(keras.saving.get_custom_objects(), dict)
    True
    """
    return _custom


def get_registered_name(thing: Any) -> str:
    """The name an object was registered by, else its own.

    Args:
        thing: a class or function.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> keras.saving.get_registered_name(layers.Dense)
    'Dense'
    """
    return _custom_names.get(thing, getattr(thing, "__name__", str(thing)))


def get_registered_object(
    name: str, custom_objects: Mapping[str, Any] | None = None, module_objects: Mapping[str, Any] | None = None
) -> Any:
    """The user's object of that name, from the arguments, the scopes or the registry; None where there is none.

    Args:
        custom_objects: a table that is looked at first.
        module_objects: a table that is looked at last.

    >>> import minikeras as keras
    >>> keras.saving.get_registered_object("nobody") is None
    True
    """
    for table in (custom_objects or {}, *reversed(_scopes.stack), _custom, module_objects or {}):
        if name in table:
            return table[name]
    return None


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Within this block files may name the given objects.

    Args:
        custom_objects: classes and functions by name.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> class Twice(layers.Layer):
    ...     def call(self, inputs):
    ...         return inputs * 2
    ...
    >>> config = layers.serialize(Twice())
    >>> with keras.saving.CustomObjectScope({"Twice": Twice}):
    ...     layer = layers.deserialize(config)
    ...
    >>> layer(np.ones(2))
    <Tensor shape=(2,) dtype=float32>
    array([2., 2.], dtype=float32)
    """
    if custom_objects is not None and not (
        isinstance(custom_objects, Mapping) and all(isinstance(name, str) for name in custom_objects)
    ):
        problem = f"custom_objects must be a dict of classes and functions by their names, got {custom_objects!r:.80}"
        raise ValueError(f"{problem}; pass custom_objects={{'Name': Name}}.")
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


# ---------------------------------------------------------------- what one file shares


class _Sharing:
    """Which objects of one file were described or restored, so that an object that occurs twice stays one object."""

    def __init__(self) -> None:
        self.numbers: dict[int, tuple[int, Any]] = {}  # id -> (number, the object, which keeps its id taken)
        self.restored: dict[int, Any] = {}


@contextmanager
def object_sharing() -> Iterator[None]:
    """Within this block an object that is described twice carries a `shared_object_id` and is restored once."""
    outer, _scopes.sharing = _scopes.sharing, _Sharing()
    try:
        yield
    finally:
        _scopes.sharing = outer


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
        if not is_description(identifier):
            raise ValueError(f"The description of a {kind} has a class_name and a config, got {shown(identifier)}.")
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
    article = "An" if kind[0] in "aeiou" else "A"
    raise ValueError(f"{article} {kind} is given by name, object or function, got {shown(identifier)}.")


@user_facing
def serialize_keras_object(thing: Any) -> Any:
    """The description of an object, ready for JSON.

    Args:
        thing: a layer or model.

    Raises:
        ValueError: for a lambda, which cannot be described by a name.
        TypeError: for an object without `get_config`.

    >>> from minikeras import layers
    >>> layers.serialize(layers.Dense(3))["class_name"]
    'Dense'
    """
    if thing is None or isinstance(thing, (str, bool, int, float)):
        return thing
    if isinstance(thing, (np.bool_, np.integer, np.floating)) or (isinstance(thing, np.ndarray) and thing.ndim == 0):
        return thing.item()
    if isinstance(thing, (list, tuple)):
        items = [serialize_keras_object(item) for item in thing]
        return items if hasattr(thing, "_fields") else type(thing)(items)
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
        return {"class_name": "__bytes__", "config": {"value": thing.decode()}}
    if isinstance(thing, slice):
        parts = [serialize_keras_object(part) for part in (thing.start, thing.stop, thing.step)]
        return {"class_name": "__slice__", "config": dict(zip(("start", "stop", "step"), parts, strict=True))}
    if thing is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(thing, DTypePolicy):
        return dtype_policies.serialize(thing)
    if hasattr(thing, "get_config") and not isinstance(thing, type):
        return _describe(thing)
    if callable(thing) and not isinstance(thing, type):
        return _describe_function(thing)
    raise TypeError(f"{thing!r} cannot be saved; give its class a get_config() method and register it.")


serialize_value = serialize_keras_object


def _describe(thing: Any) -> dict[str, Any]:
    cls = type(thing)
    module = _public_module(cls)
    own = module is not None
    module = module or cls.__module__
    description = {
        "module": None if module == "__main__" else module,
        "class_name": _public_name(cls) if own else cls.__name__,
        "config": serialize_keras_object(thing.get_config()),
        "registered_name": get_registered_name(cls) if not own or module.startswith("keras.src") else None,
    }
    for part, wanted in (("build_config", getattr(thing, "built", False)), ("compile_config", True)):
        config = getattr(thing, f"get_{part}")() if wanted and hasattr(thing, f"get_{part}") else None
        if config is not None:
            description[part] = serialize_keras_object(config)
    if _scopes.sharing is not None:
        numbers = _scopes.sharing.numbers
        description["shared_object_id"] = numbers.setdefault(id(thing), (len(numbers) + 1, thing))[0]
    return description


def describe_whole(thing: Any, without_files: bool = False) -> dict[str, Any]:
    """The description of an object in which parts that occur twice are marked as one.

    Args:
        thing: the object.
        without_files: whether it stands in a file that has no place for files of layers, such as a vocabulary.
    """
    outer, _scopes.without_files = _scopes.without_files, without_files
    try:
        with object_sharing():
            return _drop_unshared(serialize_keras_object(thing))
    finally:
        _scopes.without_files = outer


def describes_without_files() -> bool:
    """Whether what a layer keeps in a file of its own has to be in the configuration that it is asked for."""
    return _scopes.without_files


def _drop_unshared(description: Any) -> Any:
    """A copy of a description without the `shared_object_id`s that occur only once in it."""
    counts: dict[int, int] = {}

    def count(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, (dict, list, tuple)):
                count(item)
        if isinstance(value, dict) and "shared_object_id" in value:
            counts[value["shared_object_id"]] = counts.get(value["shared_object_id"], 0) + 1

    def copy(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [copy(item) for item in value]
        if not isinstance(value, dict):
            return value
        once = counts.get(value.get("shared_object_id", 0)) == 1
        return {key: copy(item) for key, item in value.items() if not (once and key == "shared_object_id")}

    count(description)
    return copy(description)


def _describe_function(function: Any) -> Any:
    if function in _function_names:
        return _function_names[function]
    if getattr(function, "__name__", "<lambda>") == "<lambda>":
        raise ValueError(f"A function without a name cannot be saved, got {function!r}; name and register it.")
    name = get_registered_name(function)
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


# ---------------------------------------------------------------- back


def is_description(value: Any) -> bool:
    """Whether a value from JSON describes an object."""
    return isinstance(value, dict) and "class_name" in value and "config" in value


def map_described(change: Callable[[Any], Any], value: Any) -> Any:
    """A structure of lists and dicts in which each description, and what else is no such structure, is changed."""
    if isinstance(value, (list, tuple)):
        return [map_described(change, item) for item in value]
    if isinstance(value, dict) and not is_description(value):
        return {key: map_described(change, item) for key, item in value.items()}
    return change(value)


def description_of(module: str | None, class_name: str, config: Any, registered: str | None = None) -> dict[str, Any]:
    """The description of an object, without how it is built and compiled."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered}


@user_facing
def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True, **unused: Any
) -> Any:
    """The object that a description describes.

    Args:
        config: the description; what is none is returned as it is, structures item by item.
        custom_objects: further classes and functions by name.
        safe_mode: accepted for familiarity; code in a description is never run.

    Raises:
        ValueError: for a class that is neither built in nor registered, for a description that does not fit its class,
            and for what can never be loaded (lambdas).

    >>> from minikeras import layers
    >>> layers.deserialize({"class_name": "Dense", "config": {"units": 3}}).units
    3
    """
    if limits.account.left is None:
        with limits.for_text():
            try:
                return deserialize_keras_object(config, custom_objects)
            except RecursionError as error:
                raise ValueError("The description nests too deep to be restored; nest fewer layers.") from error
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize_keras_object(config)
    if isinstance(config, (list, tuple)):
        return type(config)([deserialize_keras_object(item) for item in config])
    if not isinstance(config, dict):
        return config
    if not is_description(config):
        return {key: deserialize_keras_object(value) for key, value in config.items()}
    sharing, shared = _scopes.sharing, config.get("shared_object_id")
    if sharing is not None and isinstance(shared, int) and shared in sharing.restored:
        return sharing.restored[shared]
    restored = _restore(config)
    if sharing is not None and isinstance(shared, int):
        sharing.restored[shared] = restored
    return restored


def _restore(description: dict[str, Any]) -> Any:
    if "module" not in description and older is not None:  # as Keras 2 describes
        description = older.modern_layer(description)
    class_name, inner, module = description["class_name"], description["config"], description.get("module")
    if not isinstance(class_name, str) or not isinstance(module, (str, type(None))):
        raise ValueError(f"A description names its class and module by strings, got {class_name!r} of {module!r}.")
    if class_name in _SPECIAL:
        return _SPECIAL[class_name](inner)
    if class_name == "function":
        return _restore_function(inner)
    if not isinstance(inner, dict):
        raise ValueError(f"The description of {class_name!r} needs a config by argument names, got {inner!r:.80}.")
    cls = _class_of(description)
    unknown_keys = sorted(set(description) - _DESCRIPTION_KEYS)
    if unknown_keys:
        raise ValueError(f"The description of {class_name!r} has the unknown entries {unknown_keys}; remove them.")
    try:
        restored = cls.from_config(inner)
    except TypeError as error:
        raise ValueError(f"The description of {class_name!r} does not fit its constructor: {error}.") from error
    for part in ("build", "compile"):
        config = description.get(f"{part}_config")
        if config and hasattr(restored, f"{part}_from_config"):
            getattr(restored, f"{part}_from_config")(config)
    return restored


_DESCRIPTION_KEYS = {
    *("module", "class_name", "config", "registered_name", "build_config", "compile_config", "shared_object_id"),
    *("name", "inbound_nodes"),  # of a layer in a functional model
    "__passive_serialization__",  # of an object among a layer's arguments, in HDF5 files
}


class NotKnown(ValueError):
    """A description needs classes or functions that are neither built in nor registered nor passed."""


def lacking(description: dict[str, Any]) -> str | None:
    """The class or function that a description needs and that is not known, in words; None where it is known."""
    class_name, inner, module = description["class_name"], description["config"], description.get("module")
    if not isinstance(class_name, str) or not isinstance(module, (str, type(None))) or class_name in _SPECIAL:
        return None
    if class_name == "function":
        return None if not isinstance(inner, str) or _find_function(inner) else f"the function {inner!r}"
    return None if find_class(description) is not None else f"the class {class_name!r} of module {module!r}"


def find_class(description: dict[str, Any]) -> Any:
    """The class that a description means: a built-in one by module and name, a user's by registered name, or None."""
    class_name, module = description["class_name"], description.get("module")
    registered = description.get("registered_name")
    cls = builtin_class(module, class_name)
    if cls is not None:
        return cls
    cls = find_custom(class_name, registered if isinstance(registered, str) else None)
    if cls is None and not module:
        home = next((home for home, name in [*_classes, *_homes] if name == class_name), None)
        cls = builtin_class(home, class_name)
    return cls if isinstance(cls, type) and hasattr(cls, "from_config") else None


def _class_of(description: dict[str, Any]) -> Any:
    """The class that a description means."""
    class_name, module = description["class_name"], description.get("module")
    registered, cls = description.get("registered_name"), find_class(description)
    if cls is None:
        problem = f"The class {class_name!r} of module {module!r} is neither built in nor registered"
        raise NotKnown(f"{problem}; pass it through custom_objects or decorate it with register_keras_serializable.")
    if builtin_class(module, class_name) is cls and registered not in (None, class_name):
        raise ValueError(f"The description calls the built-in {class_name!r} {registered!r}; remove that name.")
    return cls


def _find_function(name: str) -> Any:
    found = find_custom(name) or _functions.get(name)
    return found if callable(found) else None


def _restore_function(name: Any) -> Any:
    found = _find_function(name) if isinstance(name, str) else None
    if found is None:
        raise NotKnown(f"The function {name!r} is not known; pass it through custom_objects or register it.")
    return found


def _refuse(inner: Any) -> Any:
    problem = "The description holds code (a lambda or a type specification), which is never loaded"
    raise ValueError(f"{problem}; pass the function through custom_objects.")


def _array(inner: Any) -> np.ndarray:
    array = np.asarray(inner["value"], standardize_dtype(inner["dtype"]))  # which knows numbers alone
    limits.spend(array.nbytes, f"an array of shape {limits.shown_sizes(array.shape)}")
    return array


def _policy(name: str) -> Callable[[Any], Any]:
    return lambda inner: dtype_policies.deserialize({"class_name": name, "config": inner})


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "__tensor__": lambda inner: Tensor(k.to_device(_array(inner))),
    "__numpy__": _array,
    "__bytes__": lambda inner: inner["value"].encode(),
    "__ellipsis__": lambda inner: Ellipsis,
    "__slice__": lambda inner: slice(inner["start"], inner["stop"], inner["step"]),
    "__keras_tensor__": lambda inner: KerasTensor(inner["shape"], inner["dtype"]),
    "__lambda__": _refuse,
    "__typespec__": _refuse,
    **{name: _policy(name) for name in ("DTypePolicy", "FloatDTypePolicy", "DTypePolicyMap")},
}

builtin_later("keras.random", {"SeedGenerator": "minikeras.seeds:SeedGenerator"})
