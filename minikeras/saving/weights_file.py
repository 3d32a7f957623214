"""Weights in HDF5 files, at the paths that Keras gives them.

The variables of an object lie at `<path>/vars/0`, `<path>/vars/1`, ...  A path follows the attributes, in alphabetical
order with private ones last; a model's own layers come first, and members of lists and dicts are named by their class.
"""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.config import standardize_dtype
from minikeras.layers.layer import Layer
from minikeras.layers.structure import is_stored, named_parts
from minikeras.models.model import Model
from minikeras.models.sequential import Sequential
from minikeras.registry import is_builtin
from minikeras.saving.archive import read_members
from minikeras.saving.paths import as_path, existing, replacing
from minikeras.tracebacks import user_facing

_LARGEST_EXPANSION = 1000  # how much larger than its bytes in the file an array may be; compression reaches about 1000
_FREE_BYTES = 1 << 20  # whatever is smaller may be so for all that


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
    with WeightsReader(file, label) as reader:
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
    for variable, value in values:
        variable.assign(value)


class WeightsReader:
    """An HDF5 file that is read without following links out of it.

    Raises:
        ValueError: for a file that is damaged or of another kind.
    """

    def __init__(self, file: Any, label: str):
        import h5py

        self._h5py, self._label = h5py, label
        try:
            self.root = h5py.File(file, "r")
        except OSError as error:
            raise ValueError(f"{label!r} is damaged or holds no weights: {error}.") from error

    def __enter__(self) -> WeightsReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.root.close()

    def store(self, path: str) -> Store:
        """The variables at a path; none where the file has nothing there."""
        return Store(self, self.group(self.root, f"{path}/vars" if path else "vars"))

    def group(self, group: Any, path: str) -> Any:
        """The group at a path below a group, None where there is none; each step is looked at before it is taken."""
        for part in path.split("/"):
            group = None if group is None else self.member(group, part, self._h5py.Group)
        return group

    def array(self, group: Any, path: str) -> Any:
        """The array at a path below a group, not yet read.

        Raises:
            ValueError: where there is none.
        """
        folder, _, name = path.rpartition("/")
        group = self.group(group, folder) if folder else group
        if group is None or self.member(group, name, self._h5py.Dataset) is None:
            raise ValueError(f"{self._label!r} names an array {path!r} that it lacks.")
        return self.dataset(group, name)

    def words(self, group: Any, name: str) -> list[str]:
        """The strings in an attribute, which may be cut into `name0`, `name1`, ...; none where there is none."""
        cut = itertools.takewhile(group.attrs.__contains__, (f"{name}{i}" for i in itertools.count()))
        found = [one for part in ([name] if name in group.attrs else cut) for one in np.ravel(group.attrs[part])]
        words = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in found]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"{self._label!r} should have words as {name!r} of {group.name}, got {words!r:.80}.")
        return words

    def member(self, group: Any, name: str, kind: type) -> Any:
        """A member of a group, None where there is none.

        Raises:
            ValueError: where it is a link to another place or file, or not of that kind.
        """
        link = group.get(name, getlink=True) if name != "." else None
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            raise ValueError(f"{self._label!r} holds a link at {group.name}/{name}, which is not followed.")
        found = group.get(name)
        if not isinstance(found, kind):
            raise ValueError(f"{self._label!r} should have a {kind.__name__} at {group.name}/{name}, got {found!r}.")
        return found

    def dataset(self, group: Any, name: str) -> Any:
        """An array of a group, not yet read.

        Raises:
            ValueError: where it is stored elsewhere, holds no numbers, or claims far more than its bytes in the file.
        """
        found = self.member(group, name, self._h5py.Dataset)
        if found is None:
            raise KeyError(name)
        place = f"The array {found.name} of {self._label!r}"
        if found.external or found.is_virtual:
            raise ValueError(f"{place} is stored in another file, which is not read.")
        is_number = found.dtype.kind in "biuf" or self.holds_bfloat16(found)
        if found.shape is None or not is_number:
            raise ValueError(f"{place} should hold numbers, got the type {found.dtype}.")
        size = math.prod(found.shape) * found.dtype.itemsize
        if size > _FREE_BYTES + _LARGEST_EXPANSION * found.id.get_storage_size():
            raise ValueError(f"{place} claims {size} bytes, far more than the file holds.")
        return found

    def holds_bfloat16(self, found: Any) -> bool:
        """Whether the pairs of bytes in an array are bfloat16, as an attribute says."""
        return found.dtype == np.dtype("V2") and found.attrs.get("dtype") == "bfloat16"

    def count_entries(self) -> int:
        """The number of entries of all arrays together."""
        total = 0

        def add(name: str, found: Any) -> None:
            nonlocal total
            if isinstance(found, self._h5py.Dataset):
                total += math.prod(self.dataset(found.parent, found.name.rsplit("/", 1)[1]).shape)

        self.root.visititems(add)
        return total


class Store:
    """What `load_own_variables` reads from: one object's arrays by name."""

    def __init__(self, reader: WeightsReader, group: Any):
        self._reader, self._group = reader, group

    def keys(self) -> list[str]:
        return [] if self._group is None else list(self._group.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, which is not read for it."""
        return self._reader.dataset(self._group, name).shape

    def __getitem__(self, name: str) -> np.ndarray:
        if self._group is None:
            raise KeyError(name)
        found = self._reader.dataset(self._group, name)
        values = np.asarray(found[()])
        return values.view(standardize_dtype("bfloat16")) if self._reader.holds_bfloat16(found) else values
