"""Weights in HDF5 files, at the paths that Keras gives them.

The variables of an object lie at `<path>/vars/0`, `<path>/vars/1`, ...  A path follows the attributes, in alphabetical
order with private ones last; a model's own layers come first, and members of lists and dicts are named by their class.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.autodiff.turns import at_once
from minikeras.layers.layer import Layer
from minikeras.layers.structure import is_stored, named_parts
from minikeras.models.model import Model
from minikeras.models.sequential import Sequential
from minikeras.registry import is_builtin
from minikeras.saving.archive import read_members
from minikeras.saving.hdf5_reader import Store, WeightsReader
from minikeras.saving.paths import as_path, existing, replacing
from minikeras.tracebacks import user_facing

# ---------------------------------------------------------------- where what is stored


def stored_objects(model: Any) -> Iterator[tuple[str, Any]]:
    """The model and what it contains that has variables, each once, with their paths in a file; the model's is ""."""
    yield from _walk("", model, set())


def _walk(path: str, thing: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield path, thing
    for name, child in _children(thing) if isinstance(thing, Layer) else ():
        if is_stored(type(child)):
            yield from _walk(f"{path}/{name}" if path else name, child, seen)


def _children(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Names and values of what a layer has, in the order of files; some under a second name that counts for nothing."""
    yield from named_parts("layers", layer._own_layers(), {})
    further: dict[str, Any] = {}
    for cls in type(layer).__mro__:
        if not is_builtin(cls) and not cls.__module__.startswith("minikeras."):
            names = [name for name, value in vars(cls).items() if isinstance(value, property)]
            further |= {name: _property(layer, name) for name in names}
    if isinstance(layer, Model):
        further["optimizer"] = layer.optimizer
        if not isinstance(layer, Sequential):
            further["layers"] = layer.layers
    found = [*layer.named_children(), *(one for item in further.items() for one in named_parts(*item, {}))]
    yield from sorted(found, key=lambda one: (one[0].startswith("_"), one[0].split("/")[0]))


def _property(thing: Any, name: str) -> Any:
    """A property of a user's class, None where it cannot be read now: that is no reason not to save."""
    try:
        return getattr(thing, name)
    except Exception:
        return None


# ---------------------------------------------------------------- writing


@user_facing
def save_weights(model: Any, filepath: Any, overwrite: bool = True) -> None:
    """Write a model's weights, and its optimizer's state, to a `.weights.h5` file.

    Args:
        model: a built model.
        filepath: path ending in `.weights.h5`.
        overwrite: whether an existing file is replaced.

    Raises:
        ValueError: for a model without weights yet, or another ending.
        FileExistsError: where the file exists and `overwrite` is False.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.weights.h5")
    >>> keras.saving.save_weights(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), path)
    >>> os.path.exists(path)
    True
    """
    path = as_path(filepath, (".weights.h5",), "Weights")
    if not model.built:
        raise ValueError(f"The model {model.name!r} has no weights to save before it is built; call it on data first.")
    with replacing(path, overwrite) as partial:
        write_weights(model, partial)


def write_weights(model: Any, file: Path | io.BytesIO, include_optimizer: bool = True) -> None:
    """Write all variables of a model into a new HDF5 file, those of its optimizer too unless told otherwise."""
    import h5py

    with h5py.File(file, "w") as root:
        for path, thing in stored_objects(model):
            if thing is model.optimizer and not include_optimizer:
                continue
            group = root.create_group(f"{path}/vars")
            if isinstance(getattr(thing, "name", None), str):
                group.attrs["name"] = thing.name
            thing.save_own_variables(_Writer(group))


class _Writer:
    """What `save_own_variables` writes to: arrays by name."""

    def __init__(self, group: Any):
        self._group = group

    def __setitem__(self, name: str, value: Any) -> None:
        array = np.asarray(value)
        self._group[name] = array
        if array.dtype.name == "bfloat16":  # for HDF5 two bytes that mean nothing
            self._group[name].attrs["dtype"] = "bfloat16"


# ---------------------------------------------------------------- reading


@user_facing
def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Read weights, and the optimizer's state, from a `.weights.h5` or a `.keras` file; or weights alone from an older
    `.h5` file.

    Everything is checked before the first weight changes, and a failure leaves the model as it was.

    Args:
        model: a built model.
        filepath: the file.
        skip_mismatch: whether layers that do not fit are left alone, with a warning, instead of refused.
        by_name: of `.h5` files: whether layers are matched by their names, others left alone, instead of in order.

    Raises:
        ValueError: for a file that is damaged, does not fit the model, or holds links or arrays stored elsewhere.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.weights.h5")
    >>> model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    >>> keras.saving.save_weights(model, path)
    >>> keras.saving.load_weights(model, path)
    """
    path = as_path(filepath, (".weights.h5", ".keras", ".h5", ".hdf5"), "Weights")
    older = not path.name.endswith((".weights.h5", ".keras"))
    by_name = kwargs.pop("by_name", None) if older or kwargs.get("by_name") is None else None
    if kwargs:
        raise ValueError(f"load_weights got unknown arguments {sorted(kwargs)}; files are matched by layout.")
    existing(path)
    if not model.built:
        raise ValueError(f"The model {model.name!r} has no weights before it is built; call it on data first.")
    if older:
        read_older_weights(model, path, str(path), skip_mismatch, bool(by_name))
    elif path.name.endswith(".keras"):
        _, weights, _ = read_members(path)
        read_weights(model, weights, str(path), skip_mismatch)
    else:
        read_weights(model, path, str(path), skip_mismatch)


def read_weights(model: Any, file: Any, label: str, skip_mismatch: bool = False) -> None:
    """Read all variables of a model from an HDF5 file; `label` is what messages call it."""
    with WeightsReader(file, label) as reader, at_once():
        stores = [(thing, reader.store(path)) for path, thing in stored_objects(model)]
        problems = {id(thing): _problem(thing, store) for thing, store in stores}
        for problem in problems.values():
            if problem and not skip_mismatch:
                raise ValueError(f"{label!r} does not fit the model: {problem}")
        kept = [(variable, variable.data.copy()) for variable in _all_variables(model)]
        try:
            for thing, store in stores:
                problem = problems[id(thing)] or _load(thing, store, skip_mismatch)
                if problem:
                    warnings.warn(f"{label!r} does not fit the model: {problem}  It was left alone.", stacklevel=3)
        except BaseException as error:
            for variable, value in kept:
                variable.assign(value)
            if isinstance(error, (OSError, ValueError, KeyError, TypeError)):
                raise ValueError(f"{label!r} could not be read: {error}") from error
            raise


def _load(thing: Any, store: Store, skip_mismatch: bool) -> str | None:
    """Let an object take its variables; what speaks against it where that may be."""
    try:
        thing.load_own_variables(store)
    except ValueError as error:
        if not skip_mismatch:
            raise
        return str(error)
    return None


def _all_variables(model: Any) -> list[Any]:
    variables = {id(v): v for v in model.weights}
    for _, thing in stored_objects(model):
        variables |= {id(v): v for v in getattr(thing, "variables", ())}
    return list(variables.values())


def _problem(thing: Any, store: Store) -> str | None:
    """Why a layer's weights cannot be read, in a sentence, or None; other objects see for themselves."""
    if getattr(type(thing), "load_own_variables", None) is not Layer.load_own_variables:
        return None
    variables, names = thing._contents().own, store.keys()
    if len(names) != len(variables):
        return f"The layer {thing.name!r} has {len(variables)} weights, the file has {len(names)} for it."
    if any(not name.isdecimal() for name in names):
        return f"The weights of the layer {thing.name!r} are not numbered, got {names}."
    for variable, name in zip(variables, sorted(names, key=int), strict=True):
        shape = store.shape(name)
        if shape != variable.shape:
            return f"The weight {variable.path!r} has shape {variable.shape}, the file has {shape}."
    return None


# ---------------------------------------------------------------- the layout of Keras 2


def read_older_weights(model: Any, file: Any, label: str, skip_mismatch: bool = False, by_name: bool = False) -> None:
    """Read weights from an HDF5 file of Keras 2's layout, where attributes name the layers and the arrays of each.

    Layers that have weights are matched in order, or by their names.
    """
    with WeightsReader(file, label) as reader:
        root = reader.group(reader.root, "model_weights") or reader.root  # the former where the file has a whole model
        if "theano" in reader.words(root, "backend"):
            raise ValueError(f"{label!r} comes from Theano, whose kernels are flipped; write it with another backend.")
        groups = {name: reader.group(root, name) for name in reader.words(root, "layer_names")}
        arrays = {name: reader.words(group, "weight_names") for name, group in groups.items() if group is not None}
        names, things = [name for name in arrays if arrays[name]], [thing for thing in model.layers if thing.weights]
        if not names or (not by_name and len(names) != len(things)):
            counts = f"it has {len(names)} layers with weights, the model {len(things)}"
            raise ValueError(f"{label!r} does not fit the model: {counts}.")
        pairs = [(thing, thing.name) for thing in things if thing.name in names]
        ready: list[tuple[Any, Any]] = []
        for thing, name in pairs if by_name else zip(things, names, strict=True):
            variables = [*thing.trainable_weights, *thing.non_trainable_weights]
            found = [reader.array(groups[name], path) for path in arrays[name]]
            wanted, shapes = [tuple(one.shape) for one in variables], [one.shape for one in found]
            if wanted == shapes:
                ready += zip(variables, found, strict=True)
                continue
            problem = f"{label!r} does not fit the model: the layer {thing.name!r} has weights of the shapes {wanted}, "
            problem += f"the file has {shapes} for {name!r}."
            if not skip_mismatch:
                raise ValueError(problem)
            warnings.warn(f"{problem}  It was left alone.", stacklevel=3)
        try:
            values = [(variable, np.asarray(array[()])) for variable, array in ready]
        except OSError as error:
            raise ValueError(f"{label!r} could not be read: {error}") from error
    with at_once():
        for variable, value in values:
            variable.assign(value)
