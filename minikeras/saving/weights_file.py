"""Weights in files, at the paths that Keras gives them.

The variables of an object lie at `<path>/vars/0`, `<path>/vars/1`, ...  A path follows the attributes, in alphabetical
order with private ones last; a model's own layers come first, and members of lists and dicts are named by their class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from minikeras.autodiff.turns import at_once
from minikeras.layers.layer import Layer
from minikeras.layers.structure import is_stored, named_parts
from minikeras.models.model import Model
from minikeras.models.sequential import Sequential
from minikeras.registry import is_builtin
from minikeras.saving import hdf5_file
from minikeras.saving.hdf5_arrays import new_file
from minikeras.saving.npz_file import NpzReader, write_npz
from minikeras.saving.older_paths import find_stores
from minikeras.saving.opening import Opened, opened, reporting
from minikeras.saving.paths import format_of, path_of, replacing
from minikeras.saving.shards import GB, SHARDS, write_shards
from minikeras.saving.state import Group, State, write_hdf5
from minikeras.tracebacks import user_facing, warn
from minikeras.utils.checks import MODEL_ENDINGS, WEIGHTS_ENDINGS, flag, number

# ---------------------------------------------------------------- where what is stored


def stored_objects(model: Any, skipped: Iterable[Any] = ()) -> Iterator[tuple[str, Any]]:
    """The model and what it contains that has variables, each once, with their paths in a file; the model's is "".

    Args:
        model: the model.
        skipped: objects that are left out, with what they contain unless others contain it too.
    """
    yield from _walk("", model, set(map(id, skipped)))


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
def save_weights(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    max_shard_size: float | None = None,
    objects_to_skip: Iterable[Any] | None = None,
    **kwargs: Any,
) -> None:
    """Write a model's weights to a file; the optimizer's state too, but for the layout of Keras 2.

    Args:
        model: a built model.
        filepath: where; the ending decides: `.weights.h5`; `.weights.json` for several files, listed in it; `.npz`;
            `.h5` or `.hdf5` for the weights by layer, as Keras 2 keeps them.
        overwrite: whether an existing file is replaced.
        max_shard_size: GB of the arrays in one of several files, default 5.
        objects_to_skip: layers, or the optimizer, that are left out.

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
    flag("overwrite", overwrite)
    path = path_of(filepath)
    if max_shard_size is not None and path.name.endswith(".weights.h5"):
        path = path.with_suffix(".json")
        warn(f"Weights in shards are listed in a .json file, here {str(path)!r}.")
    ending = format_of("save_weights", path, WEIGHTS_ENDINGS, kwargs)
    if max_shard_size is not None and ending != SHARDS:
        raise ValueError(f"Shards are listed in a file ending in {SHARDS}, got {str(path)!r} with max_shard_size.")
    if ending in MODEL_ENDINGS and objects_to_skip:
        raise ValueError(f"objects_to_skip goes with files of weights by path, got {str(path)!r}; use .weights.h5.")
    skipped = _skipped(objects_to_skip)
    if not model.built:
        raise ValueError(f"The model {model.name!r} has no weights to save before it is built; call it on data first.")
    if ending in MODEL_ENDINGS:  # whose layout is by layer
        with replacing(path, overwrite) as partial, new_file(partial) as root:
            hdf5_file.write_layers(model, root)
    else:
        write_state(path, state_of(model, skipped=skipped), overwrite, max_shard_size)


def _skipped(objects_to_skip: Iterable[Any] | None) -> list[Any]:
    """The objects that are left out, checked."""
    found = list(objects_to_skip) if isinstance(objects_to_skip, Iterable) else [objects_to_skip]
    if objects_to_skip is not None and not all(is_stored(type(one)) for one in found):
        raise ValueError(f"objects_to_skip must be a list of layers or the optimizer, got {objects_to_skip!r:.80}.")
    return found


def write_state(path: Path, state: State, overwrite: bool, max_shard_size: Any = None) -> None:
    """Write arrays to the kind of file of weights by path that the ending says."""
    if path.name.endswith(SHARDS):
        largest = number("max_shard_size", 5 if max_shard_size is None else max_shard_size, above=0)
        write_shards(path, state, largest * GB, overwrite)
        return
    with replacing(path, overwrite) as partial:
        (write_npz if path.name.endswith(".npz") else write_hdf5)(partial, state)


def state_of(model: Any, include_optimizer: bool = True, skipped: Iterable[Any] = ()) -> State:
    """The arrays of a model and what it contains, of its optimizer too unless told otherwise."""
    for path, thing in stored_objects(model, skipped):
        if thing is not model.optimizer or include_optimizer:
            group, name = Group(), getattr(thing, "name", None)
            group.name = name if isinstance(name, str) else None
            thing.save_own_variables(group)
            yield (f"{path}/vars" if path else "vars"), group


# ---------------------------------------------------------------- reading


@user_facing
def load_weights(
    model: Any,
    filepath: Any,
    skip_mismatch: bool = False,
    objects_to_skip: Iterable[Any] | None = None,
    by_name: bool | None = None,
    report: bool | list[str] = False,
    limit: int | None = None,
    **kwargs: Any,
) -> None:
    """Read weights from a file that Keras, NumPy or minikeras wrote, and the optimizer's state where it has that.

    What is in the file decides, not its name: a model as `.keras`, HDF5 or a folder, weights by path (`.weights.h5`,
    shards, `.npz`), weights by layer as Keras 2 keeps them, or the arrays of `get_weights()` in an `.npz` file.
    Everything is checked before the first weight changes, and a failure leaves the model as it was.

    Args:
        model: a built model.
        filepath: the file or folder.
        skip_mismatch: whether layers that do not fit are left alone, with a warning, instead of refused.
        objects_to_skip: layers, or the optimizer, that are left alone; of files with weights by path.
        by_name: of files with weights by layer: whether layers are matched by their names, others left alone, instead
            of in order.
        report: a list that is filled with sentences on what was translated or left out, or True to have them printed.
        limit: bytes that the arrays in the file may take, default what files of their size can hold.

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
    flag("skip_mismatch", skip_mismatch)
    flag("by_name", by_name)
    skipped = _skipped(objects_to_skip)
    if kwargs:
        raise ValueError(f"load_weights got unknown arguments {sorted(kwargs)}; files are matched by layout.")
    with opened(filepath, limit) as file, reporting(report) as sentences:
        if file.reader is None:
            raise ValueError(f"{file.label!r} holds no weights, it is an {file.kind}; pass a file with weights.")
        given = {"by_name": by_name if not file.layered else None, "objects_to_skip": file.layered and objects_to_skip}
        for name, value in given.items():
            if value:
                raise ValueError(f"{name} does not go with {file.label!r}, it is {file.kind}; leave it out.")
        if not model.built:
            raise ValueError(f"The model {model.name!r} has no weights before it is built; call it on data first.")
        if limit is not None:
            file.size(limit)
        read_state(model, file, sentences, skip_mismatch, bool(by_name), skipped)


def read_state(
    model: Any,
    file: Opened,
    report: list[str],
    skip_mismatch: bool = False,
    by_name: bool = False,
    skipped: Iterable[Any] = (),
) -> None:
    """Read all variables of a model from an open file."""
    with at_once():
        if file.layered:
            hdf5_file.read_layers(model, file.reader, skip_mismatch=skip_mismatch, by_name=by_name, report=report)
        elif isinstance(file.reader, NpzReader) and file.reader.listed:
            _read_listed(model, file.reader, file.label)
        else:
            read_weights(model, file.reader, file.label, skip_mismatch, skipped)


def _read_listed(model: Any, reader: NpzReader, label: str) -> None:
    """Read what `numpy.savez(path, *model.get_weights())` wrote."""
    shapes, wanted = [found.shape for found in reader.listed], [tuple(one.shape) for one in model.weights]
    if shapes != wanted:
        at = next((i for i, pair in enumerate(zip(shapes, wanted, strict=False)) if pair[0] != pair[1]), None)
        what = f"it has {len(shapes)} arrays, the model {len(wanted)}"
        if at is not None:
            what = f"arr_{at} has shape {shapes[at]}, the weight {model.weights[at].path!r} has {wanted[at]}"
        raise ValueError(f"{label!r} does not fit the model: {what}.")
    model.set_weights([reader.read(found) for found in reader.listed])


def read_weights(model: Any, reader: Any, label: str, skip_mismatch: bool = False, skipped: Iterable[Any] = ()) -> None:
    """Read all variables of a model from a reader of arrays by path; `label` is what messages call it."""
    with reader:
        stores = find_stores(reader, list(stored_objects(model, skipped)), label, skip_mismatch)
        problems = {id(thing): _problem(thing, store) for thing, store in stores}
        for problem in problems.values():
            if problem and not skip_mismatch:
                raise ValueError(f"{label!r} does not fit the model: {problem}")
        kept = [(variable, variable.data.copy()) for variable in _all_variables(model)]
        try:
            for thing, store in stores:
                problem = problems[id(thing)] or _load(thing, store, skip_mismatch)
                if problem:
                    warn(f"{label!r} does not fit the model: {problem}  It was left alone.")
        except BaseException as error:
            for variable, value in kept:
                variable.assign(value)
            named = str(error).startswith(repr(label))
            if isinstance(error, (OSError, ValueError, KeyError, TypeError)) and not named:
                raise ValueError(f"{label!r} could not be read: {error}") from error
            raise


def _load(thing: Any, store: Any, skip_mismatch: bool) -> str | None:
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


def _problem(thing: Any, store: Any) -> str | None:
    """Why a layer's weights cannot be read, in a sentence, or None; other objects see for themselves."""
    if getattr(type(thing), "load_own_variables", None) is not Layer.load_own_variables:
        return None
    variables, names = thing._contents().own, list(store)
    if len(names) != len(variables):
        return f"The layer {thing.name!r} has {len(variables)} weights, the file has {len(names)} for it."
    if any(not name.isdecimal() for name in names):
        return f"The weights of the layer {thing.name!r} are not numbered, got {names}."
    for variable, name in zip(variables, sorted(names, key=int), strict=True):
        shape = store.stored(name).shape
        if shape != variable.shape:
            return f"The weight {variable.path!r} has shape {variable.shape}, the file has {shape}."
    return None
