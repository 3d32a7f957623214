"""HDF5 files as Keras 2 and Keras 3's legacy writer make them: whole models, and weights by layer."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from minikeras.registry import describe_whole
from minikeras.saving.hdf5_reader import WeightsReader


def is_model(reader: WeightsReader) -> bool:
    """Whether an HDF5 file holds a whole model."""
    return "model_config" in reader.root.attrs


def is_layered(reader: WeightsReader) -> bool:
    """Whether an HDF5 file holds weights by layer."""
    root = reader.group(reader.root, "model_weights") or reader.root
    return any(name in root.attrs for name in ("layer_names", "layer_names0"))


def read_model_config(reader: WeightsReader) -> tuple[Any, Any, str | None, str | None]:
    """The description, how it was compiled, the version of Keras and its backend, as they stand in the file."""
    texts = [next(iter(reader.words(reader.root, name)), None) for name in ("model_config", "training_config")]
    told = [next(iter(reader.words(reader.root, name)), None) for name in ("keras_version", "backend")]
    found = [None if text is None else json.loads(text) for text in texts]
    return found[0], found[1], told[0], told[1]


def write_model(model: Any, root: Any, include_optimizer: bool = True) -> None:
    """Write a model's description, weights and optimizer's state."""
    description = describe_whole(model)
    root.attrs["keras_version"], root.attrs["backend"] = "3.15.1", "numpy"
    root.attrs["training_config"] = json.dumps(description.pop("compile_config", {}))
    root.attrs["model_config"] = json.dumps(description)
    write_layers(model, root.create_group("model_weights"))
    if include_optimizer and model.optimizer is not None:
        group = root.create_group("optimizer_weights")
        for i, variable in enumerate(model.optimizer.variables):
            group[str(i)] = variable.numpy()


def write_layers(model: Any, root: Any) -> None:
    """Write a model's weights by layer."""
    root.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
    root.attrs["keras_version"], root.attrs["backend"] = b"3.15.1", b"numpy"
    for layer in model.layers:
        group = root.create_group(layer.name)
        weights = [*layer.trainable_weights, *layer.non_trainable_weights]
        group.attrs["weight_names"] = [f"w_{i}".encode() for i in range(len(weights))]
        for i, weight in enumerate(weights):
            group[f"w_{i}"] = weight.numpy()


def read_optimizer(model: Any, reader: WeightsReader, report: list[str] | None = None) -> None:
    """Read the optimizer's state."""
    group = reader.group(reader.root, "optimizer_weights")
    if group is not None:
        model.optimizer.load_own_variables({name: reader.read(reader.dataset(group, name)) for name in group})


def read_layers(
    model: Any, reader: WeightsReader, skip_mismatch: bool = False, by_name: bool = False, report: Any = None
) -> None:
    """Read weights by layer, matched in order or by their names."""
    root = reader.group(reader.root, "model_weights") or reader.root
    if "theano" in reader.words(root, "backend"):
        raise ValueError(
            f"{reader.label!r} comes from Theano, whose kernels are flipped; write it with another backend."
        )
    groups = {name: reader.group(root, name) for name in reader.words(root, "layer_names")}
    arrays = {name: reader.words(group, "weight_names") for name, group in groups.items() if group is not None}
    names, things = [name for name in arrays if arrays[name]], [thing for thing in model.layers if thing.weights]
    if not names or (not by_name and len(names) != len(things)):
        counts = f"it has {len(names)} layers with weights, the model {len(things)}"
        raise ValueError(f"{reader.label!r} does not fit the model: {counts}.")
    pairs = [(thing, thing.name) for thing in things if thing.name in names]
    ready: list[tuple[Any, Any]] = []
    for thing, name in pairs if by_name else zip(things, names, strict=True):
        variables = [*thing.trainable_weights, *thing.non_trainable_weights]
        found = [reader.array(groups[name], path) for path in arrays[name]]
        wanted, shapes = [tuple(one.shape) for one in variables], [one.shape for one in found]
        if wanted == shapes:
            ready += zip(variables, found, strict=True)
            continue
        problem = (
            f"{reader.label!r} does not fit the model: the layer {thing.name!r} has weights of the shapes {wanted}, "
        )
        problem += f"the file has {shapes} for {name!r}."
        if not skip_mismatch:
            raise ValueError(problem)
        warnings.warn(f"{problem}  It was left alone.", stacklevel=4)
    try:
        values = [(variable, np.asarray(array[()])) for variable, array in ready]
    except OSError as error:
        raise ValueError(f"{reader.label!r} could not be read: {error}") from error
    for variable, value in values:
        variable.assign(value)
