"""Where `.keras` files of Keras 2.12 to 2.15 keep a model's variables, as the paths of today.

Their groups are called `_layer_checkpoint_dependencies` where Keras 3 says `layers`, with gaps in the numbers; the
whole path is one name with backslashes where the file was written on Windows; and some attributes were private.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from minikeras.optimizers import SGD, Optimizer
from minikeras.saving.hdf5_reader import WeightsReader

_DEPENDENCIES = "_layer_checkpoint_dependencies"
_NUMBER = re.compile(r"_(\d+)$")


def find_stores(
    reader: Any, objects: list[tuple[str, Any]], label: str, skip_mismatch: bool = False
) -> list[tuple[Any, Any]]:
    """Each object with what the file has for it, where today's paths or those of older files lead to.

    Args:
        reader: the weights file.
        objects: paths as of today and what belongs there.
        label: what messages call the file.
        skip_mismatch: whether layers that today's file lacks have nothing there, as Keras has it, instead.

    Raises:
        ValueError: where an older file leaves open which of its groups is meant.
    """
    stores = {path: reader.store(path) for path, _ in objects}
    missing = [path for path, thing in objects if not len(stores[path]) and _own(thing)]
    if missing and isinstance(reader, WeightsReader):
        older = _Older(reader, label)
        if older.is_older or not skip_mismatch:
            older.check([path for path, _ in objects], [path for path, thing in objects if _own(thing)])
        stores |= {path: reader.variables(older.group(path)) for path in missing}
    return [(thing, _with_rate(thing, stores[path])) for path, thing in objects]


def _own(thing: Any) -> list[Any]:
    """The variables of a layer itself."""
    return thing._contents().own if hasattr(thing, "_contents") else []


def _class_of(name: str) -> tuple[str, int]:
    """What a numbered name of a group says: the class, however its parts are set apart, and the number."""
    number = _NUMBER.search(name)
    return _NUMBER.sub("", name).replace("_", ""), int(number[1]) if number else 0


class _Older:
    """The groups of a file by the paths that they would have today."""

    def __init__(self, reader: WeightsReader, label: str):
        found: dict[tuple[str, ...], Any] = {}
        for place in {stored.path.strip("/").rpartition("/")[0] for stored in reader.arrays()}:
            *parts, last = re.split(r"[\\/]", place)
            if last == "vars":
                found[tuple(parts)] = reader.group(reader.root, place)
        within: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for path in found:
            for i, part in enumerate(path[:-1]):
                if part in (_DEPENDENCIES, "layers"):
                    within[path[: i + 1]].add(path[i + 1])
        renamed: dict[tuple[str, ...], str] = {}  # the parts of paths that are called otherwise today
        for container in (one for one in within if one[-1] == _DEPENDENCIES):
            renamed[container] = "layers"
            for kind, names in groupby(sorted(within[container], key=_class_of), lambda name: _class_of(name)[0]):
                renamed |= {(*container, name): f"{kind}_{i}" for i, name in enumerate(names)}
        self._label = label
        self.is_older = bool(renamed) or any("\\" in name for name in reader.names(reader.root))
        self._groups = {_modern(path, renamed): group for path, group in found.items()}
        self._counts = {
            _modern(container, renamed): Counter(_class_of(name)[0] for name in names)
            for container, names in within.items()
        }

    def check(self, paths: list[str], weighty: list[str]) -> None:
        """Refuse numbers that may mean several layers, of the kinds that have variables.

        Raises:
            ValueError: where the file has another number of layers of a class than the model.
        """
        ours: dict[tuple[Any, str], set[str]] = defaultdict(set)
        for container, name in (one for path in paths for one in _members(path)):
            ours[container, _class_of(name)[0]].add(name)
        for container, kind in {(one, _class_of(name)[0]) for path in weighty for one, name in _members(path)}:
            theirs, names = self._counts.get(container), ours[container, kind]
            if theirs and theirs[kind] != len(names):
                raise ValueError(
                    f"{self._label!r} has {theirs[kind]} layers of the kind {kind!r}, the model {len(names)}, "
                    "so that it is open which is which; build the model as it was saved."
                )

    def group(self, path: str) -> Any:
        """The variables of today's path, None where the file has none."""
        return self._groups.get(tuple(map(_plain, path.split("/"))))


def _members(path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The containers of layers on the way of today's path, and which of their layers it goes to."""
    parts = path.split("/")
    for i, part in enumerate(parts[:-1]):
        if part == "layers":
            yield tuple(map(_plain, parts[: i + 1])), parts[i + 1]


def _modern(path: tuple[str, ...], renamed: dict[tuple[str, ...], str]) -> tuple[str, ...]:
    """A path with today's names and numbers, in the form in which paths are compared."""
    return tuple(_plain(renamed.get(path[: i + 1], part)) for i, part in enumerate(path))


def _plain(part: str) -> str:
    """A part of a path whatever way its words are set apart, and whether it was private."""
    kind, number = _class_of(part)
    return f"{kind}_{number}" if number else kind


def _with_rate(thing: Any, store: Any) -> Any:
    """What a file has for an optimizer; Keras 2 did not write the learning rate, which stays what it is then."""
    if not isinstance(thing, Optimizer) or "0" not in store:
        return store
    rates = [one for one in thing.variables[1:2] if one is thing._learning_rate]
    state = [tuple(one.shape) for one in thing.variables[1 + len(rates) :]]
    rest = [str(i) for i in range(1, len(store))]
    shapes = [store.stored(name).shape for name in rest]
    if not state and isinstance(thing, SGD) and shapes == [tuple(one.shape) for one in thing._trainable_variables]:
        rest = []  # Keras 2 kept momenta without using them
    elif shapes != state:
        return store
    kept = [store["0"], *(one.numpy() for one in rates), *(store[name] for name in rest)]
    return {str(i): np.asarray(value) for i, value in enumerate(kept)}
