"""Whole models in HDF5 files, as Keras wrote them before the `.keras` format and can still write and read them.

Attributes of the file hold the description of the model and of how it was compiled, as JSON; groups hold the weights
(see `hdf5_layers`) and the optimizer's state (`hdf5_optimizer`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from minikeras import config, losses, metrics, registry
from minikeras.lazy import LazyModule
from minikeras.models.description import lacks_compilation, model_from_config, parse_description
from minikeras.models.functional_config import operation_module
from minikeras.saving.hdf5_layers import KERAS_VERSION, is_layered, read_layers, write_layers
from minikeras.saving.hdf5_optimizer import read_optimizer, write_optimizer
from minikeras.saving.hdf5_reader import WeightsReader

_older = LazyModule("minikeras.models.older_config")
_PUBLIC_NAMES = {"GroupedQueryAttention": "GroupQueryAttention"}  # of classes that Keras itself calls otherwise
_BY_SHAPES = ("accuracy", "acc", "crossentropy", "ce")  # metrics that the model's output decides about

__all__ = ["is_layered", "is_model", "make_model", "read_into", "read_layers", "read_model", "read_model_config"]
__all__ += ["read_optimizer", "write_layers", "write_model"]


# ---------------------------------------------------------------- writing


def write_model(model: Any, root: Any, include_optimizer: bool = True) -> None:
    """Write a model into an open HDF5 file: its description, weights, and how it was compiled.

    Args:
        model: the model.
        root: an `h5py.File` open for writing.
        include_optimizer: whether the file says how the model was compiled, and holds the optimizer's state.

    Raises:
        ValueError, TypeError: for a model that holds what cannot be described; nothing is written then.
    """
    description = registry.describe_whole(model, without_files=True)
    description.pop("compile_config", None)
    # Keras looks the model's class up by this name alone; within the model the module tells layers from operations
    description["class_name"] = description["registered_name"] or description["class_name"]
    attributes = {"model_config": json.dumps(description)}
    if include_optimizer and model.compiled and model.optimizer is not None:
        attributes["training_config"] = json.dumps(_training_config(model))
    attributes |= {"keras_version": KERAS_VERSION, "backend": config.backend()}
    for name, text in attributes.items():
        root.attrs[name] = text.encode()
    write_layers(model, root.create_group("model_weights"))
    if "training_config" in attributes:
        write_optimizer(model.optimizer, root)


def _training_config(model: Any) -> dict[str, Any]:
    """What the model was compiled with.

    Strings such as `"mse"` are written in full: Keras writes them as they are and then cannot load them.
    """
    arguments = model._compile_arguments
    return {
        **registry.serialize_keras_object({**arguments, "optimizer": None}),
        "loss": _mapped(arguments["loss"], _full_loss),
        "metrics": _mapped(arguments["metrics"], _full_metric),
        "weighted_metrics": _mapped(arguments["weighted_metrics"], _full_metric),
        "optimizer_config": registry.serialize_keras_object(model.optimizer),
    }


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return registry.serialize_keras_object(change(value))


def _full_loss(loss: Any) -> Any:
    return losses.get(loss) if isinstance(loss, str) else loss


def _full_metric(metric: Any) -> Any:
    """The metric that a string means, under the name that it has in the logs."""
    found = metrics.get(metric) if isinstance(metric, str) and metric not in _BY_SHAPES else metric
    if not isinstance(metric, str) or not isinstance(found, metrics.Metric):
        return metric
    return type(found).from_config({**found.get_config(), "name": metric})


# ---------------------------------------------------------------- reading


def is_model(reader: WeightsReader) -> bool:
    """Whether an HDF5 file holds a whole model."""
    return any(reader.attribute(reader.root, name) is not None for name in ("model_config", "model_config0"))


def read_model_config(reader: WeightsReader) -> tuple[Any, Any, str | None, str | None]:
    """What a file says about its model, as it stands there.

    Returns:
        The description, that of how the model was compiled, Keras's version and the backend, each None where the file
        says nothing.

    Raises:
        ValueError: for text that is no JSON.
    """
    texts = {name: "".join(reader.words(reader.root, name)) for name in ("model_config", "training_config")}
    try:
        description, training = (parse_description(text) if text else None for text in texts.values())
    except ValueError as error:
        raise ValueError(f"{reader.label!r} cannot be loaded: {error}") from error
    version, backend = ("".join(reader.words(reader.root, name)) or None for name in ("keras_version", "backend"))
    return description, training, version, backend


def read_model(
    reader: WeightsReader,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    report: list[str] | None = None,
) -> Any:
    """The model in a file, with its weights and its optimizer's state: `make_model`, then `read_into`.

    Raises:
        ValueError: for a file that is damaged or describes what is not known.
    """
    try:
        model = make_model(reader, custom_objects, compile, report)
    except ValueError as error:
        raise ValueError(f"{reader.label!r} cannot be loaded: {error}") from error
    read_into(model, reader, report)
    return model


def make_model(
    reader: WeightsReader,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    report: list[str] | None = None,
) -> Any:
    """The model that a file describes, with new weights.

    Args:
        reader: the file.
        custom_objects: classes and functions of your own by name.
        compile: whether the model is compiled as it was.
        report: a list that sentences about what was translated are appended to.

    Raises:
        ValueError: for a file that describes no model, or what is not known.
    """
    description, training, version, _ = read_model_config(reader)
    if description is None:
        raise ValueError("It holds no description of a model; build the model and load its weights.")
    with registry.custom_object_scope(custom_objects):
        if not _older.is_older(description, version):
            description = _with_modules(description)
        given = _compile_config(training, version, report) if compile and training is not None else None
        if given is not None and lacks_compilation([given, _older.modern_description(description, version)]):
            given = None
        model = model_from_config(description, custom_objects, version, report)
        if given is not None:
            model.compile_from_config(given)
    return model


def read_into(model: Any, reader: WeightsReader, report: list[str] | None = None) -> None:
    """Read the weights of the model that the file describes and, where it is compiled, its optimizer's state."""
    converted = read_layers(model, reader, by_name=None, report=report)
    if model.compiled:
        read_optimizer(model, reader, report, converted)


def _with_modules(description: Any) -> Any:
    """The description of a model or layer, and those in it, with the modules that Keras 3 leaves out in HDF5 files."""
    if not registry.is_description(description) or not isinstance(description["config"], dict):
        return description
    inner, found = description["config"], description
    if "module" not in description:
        class_name = str(description["class_name"])
        plain = class_name.rpartition(">")[2]
        name = _PUBLIC_NAMES.get(plain, plain)
        # an operation and a layer may be called the same, as Add; only a layer says whether it is trainable
        home = operation_module(name) if "trainable" not in inner else None
        if home is None and registry.builtin_class("keras.layers", name) is not None:
            home = "keras.layers"
        if registry.find_custom(plain, class_name) is not None or plain != class_name:
            found = {**description, "module": None, "class_name": plain, "registered_name": class_name}
        elif home is not None:
            found = {**description, "module": home, "class_name": name}
    if not isinstance(inner.get("layers"), list):
        return found
    return {**found, "config": {**inner, "layers": [_with_modules(layer) for layer in inner["layers"]]}}


def _compile_config(training: Any, version: str | None, report: list[str] | None) -> dict[str, Any]:
    """The arguments of `compile` as descriptions that name the module of each object."""
    if not isinstance(training, dict):
        raise ValueError(f"How a model was compiled is described by a dict, got {training!r:.80}.")
    if not str(version).startswith("3"):
        return _older.modern_compile_config(training, version, report)
    homes = {"loss": "keras.losses", "metrics": "keras.metrics", "weighted_metrics": "keras.metrics"}
    found = {name: _at_home(training.get(name), home) for name, home in homes.items()}
    optimizer = _at_home(training.get("optimizer_config"), "keras.optimizers")
    return {**found, "optimizer": optimizer, "loss_weights": training.get("loss_weights")}


def _at_home(value: Any, module: str) -> Any:
    """Descriptions without a module as those of objects of this one, where it has them."""
    if isinstance(value, list):
        return [_at_home(item, module) for item in value]
    if not registry.is_description(value):
        return {key: _at_home(item, module) for key, item in value.items()} if isinstance(value, dict) else value
    if "module" in value or registry.builtin_class(module, str(value["class_name"])) is None:
        return _with_modules(value)
    return {**value, "module": module}
