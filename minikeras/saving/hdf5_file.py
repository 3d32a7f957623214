"""Whole models in HDF5 files, as Keras wrote them before the `.keras` format and can still write and read them.

Attributes of the file hold the description of the model and of how it was compiled, as JSON; groups hold the weights
(see `hdf5_layers`) and the optimizer's state (`hdf5_optimizer`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from minikeras import config, losses, metrics, registry
from minikeras.lazy import LazyModule
from minikeras.models.description import model_from_config, parse_description
from minikeras.models.functional_config import operation_module
from minikeras.saving.hdf5_layers import KERAS_VERSION, is_layered, read_layers, write_layers
from minikeras.saving.hdf5_optimizer import read_optimizer, write_optimizer
from minikeras.saving.hdf5_reader import WeightsReader

_older = LazyModule("minikeras.models.older_config")
_PUBLIC_NAMES = {"GroupedQueryAttention": "GroupQueryAttention"}  # of classes that Keras itself calls otherwise
_BY_SHAPES = ("accuracy", "acc", "crossentropy", "ce")  # metrics that the model's output decides about

__all__ = ["is_layered", "is_model", "make_model", "read_layers", "read_model_config"]
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
        "loss": registry.map_described(_full_loss, arguments["loss"]),
        "metrics": registry.map_described(_full_metric, arguments["metrics"]),
        "weighted_metrics": registry.map_described(_full_metric, arguments["weighted_metrics"]),
        "optimizer_config": registry.serialize_keras_object(model.optimizer),
    }


def _full_loss(loss: Any) -> Any:
    return registry.serialize_keras_object(losses.get(loss) if isinstance(loss, str) else loss)


def _full_metric(metric: Any) -> Any:
    """The metric that a string means, under the name that it has in the logs."""
    found = metrics.get(metric) if isinstance(metric, str) and metric not in _BY_SHAPES else metric
    if isinstance(metric, str) and isinstance(found, metrics.Metric):
        metric = type(found).from_config({**found.get_config(), "name": metric})
    return registry.serialize_keras_object(metric)


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


def make_model(
    description: Any,
    training: Any = None,
    version: str | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    report: list[str] | None = None,
) -> Any:
    """The model that a file describes, with new weights.

    Args:
        description, training, version: what `read_model_config` found; without `training` it is not compiled.
        custom_objects: classes and functions of your own by name.
        report: a list that sentences about what was translated are appended to.

    Raises:
        ValueError: for what describes no model, or what is not known.
    """
    with registry.custom_object_scope(custom_objects):
        if _older.is_older(description, version):
            description = _older.modern_description(description, version, report)
        else:
            description = _with_modules(description)
        if training is not None and registry.is_description(description):
            description = {**description, "compile_config": _compile_config(training, version, report)}
        return model_from_config(description, custom_objects, "3")


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

    def at_home(one: Any) -> Any:
        if not registry.is_description(one) or "module" in one:
            return _with_modules(one)
        known = registry.builtin_class(module, str(one["class_name"])) is not None
        return {**one, "module": module} if known else _with_modules(one)

    return registry.map_described(at_home, value)
