"""Weights in several files: `NAME.weights.json` says which of `NAME_00000.weights.h5`, ... holds what, as in Keras."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.saving.hdf5_arrays import new_file, write_array
from minikeras.saving.hdf5_reader import Store, WeightsReader
from minikeras.saving.paths import inside, replacing
from minikeras.saving.state import State

GB = 1 << 30
SHARDS = ".weights.json"  # the ending of the list
_NAME = re.compile(r"[^\\/:\x00]+\.h5")  # of a file right beside the list
_WRITING = threading.Lock()  # so that the files of two threads' saves are not mixed
_SAVE = "minikeras_save"  # marks the files of one save, so that those of two are never mixed


class ShardedReader(AbstractContextManager):
    """The files that a list of shards names, read as one.

    Args:
        path: of the list, beside which the shards lie.
        description: the list.

    Raises:
        FileNotFoundError: for a shard that is missing.
        ValueError: for a list of another form, or shards that lie elsewhere or are of another save.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], limit: int | None = None):
        self.label, self._map = str(path), _places(path, description)
        mark = description["metadata"].get(_SAVE)
        with ExitStack() as stack:
            self.readers: dict[str, WeightsReader] = {}
            for name in sorted({name for names in self._map.values() for name in names}):
                file = inside(path.parent, name)
                reader = WeightsReader(file, str(file), limit)
                self.readers[name] = stack.enter_context(reader)
                if mark is not None and str(reader.attribute(reader.root, _SAVE)) != str(mark):
                    raise ValueError(f"{str(file)!r} is of another save than {str(path)!r}, which names it; save anew.")
            self._stack = stack.pop_all()

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def arrays(self) -> Iterator[Any]:
        """All arrays, not yet read."""
        for reader in self.readers.values():
            yield from reader.arrays()

    def store(self, path: str) -> Store:
        """The variables at a path, from all the shards that have some; none where no shard has.

        Raises:
            ValueError: where two shards have the same one.
        """
        found: dict[str, Any] = {}
        place = f"{path}/vars" if path else "vars"
        for reader in (self.readers[name] for name in self._map.get(f"/{place}", ())):
            group = reader.group(reader.root, place)
            for name in () if group is None else reader.names(group):
                if name in found:
                    raise ValueError(f"{self.label!r} has {place}/{name} in two shards; save the weights anew.")
                found[name] = reader.array(group, name)
        return Store(found, found.__getitem__)


def _places(path: Path, description: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which shards hold which group of variables, checked."""
    metadata, places = description.get("metadata"), description.get("weight_map")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(places, dict) or not isinstance(total, (int, float)) or not 0 <= total < float("inf"):
        raise ValueError(f"{str(path)!r} should list shards by metadata and weight_map, got {description!r:.80}.")
    found = {place: names if isinstance(names, list) else [names] for place, names in places.items()}
    for name in (name for names in found.values() for name in names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{str(path)!r} should name .h5 files beside it, got {name!r:.80}.")
    return found


def write_shards(path: Path, state: State, largest: float, overwrite: bool) -> None:
    """Write shards and their list, which takes its place last; further shards of an earlier save are removed.

    Args:
        path: of the list.
        state: the arrays.
        largest: bytes of the arrays in one shard.
        overwrite: whether existing files are replaced.

    Raises:
        ValueError: for an array that is larger than a shard may be.
        FileExistsError: where one of the files exists and `overwrite` is False.
    """
    with _WRITING:
        _write_shards(path, state, largest, overwrite)


def _write_shards(path: Path, state: State, largest: float, overwrite: bool) -> None:
    base, mark, total, left = path.name.removesuffix(SHARDS), secrets.token_hex(8), 0, -1.0
    before, files = _shards_before(path), list[Any]()
    places: dict[str, list[str]] = {}
    with ExitStack() as stack:
        listed = stack.enter_context(replacing(path, overwrite))
        for place, name, value in ((place, *item) for place, group in state for item in group.items()):
            array = np.asarray(value)
            if array.nbytes > largest:
                problem = f"The array {place}/{name} has {array.nbytes:,} bytes, a shard at most {largest:,.0f}"
                raise ValueError(f"{problem}; pass a larger max_shard_size (in GB).")
            if array.nbytes > left:
                if files:
                    files[-1].close()
                shard, left = f"{base}_{len(files):05}.weights.h5", largest
                partial = stack.enter_context(replacing(path.with_name(shard), overwrite))
                files.append(stack.enter_context(new_file(partial)))
                files[-1].attrs[_SAVE] = mark
            left, total = left - array.nbytes, total + array.nbytes
            write_array(files[-1].require_group(place), name, array)
            if shard not in places.setdefault(f"/{place}", []):
                places[f"/{place}"].append(shard)
        listed.write_text(json.dumps({"metadata": {"total_size": total, _SAVE: mark}, "weight_map": places}, indent=4))
    written = {f"{base}_{i:05}.weights.h5" for i in range(len(files))}
    for name in before - written:
        if re.fullmatch(rf"{re.escape(base)}_\d{{5}}\.weights\.h5", name):
            path.with_name(name).unlink(missing_ok=True)


def _shards_before(path: Path) -> set[str]:
    """The shards that a list names which is there already."""
    if not path.is_file():  # a pipe would be waited for
        return set()
    try:
        return {name for names in _places(path, json.loads(path.read_bytes())).values() for name in names}
    except (OSError, ValueError, AttributeError, RecursionError):
        return set()  # none, or none of ours
