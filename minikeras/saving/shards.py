"""Weights in several files: `NAME.weights.json` says which of `NAME_00000.weights.h5`, ... holds what, as in Keras."""

from __future__ import annotations

import functools
import glob
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.saving.npz_file import ArrayStore
from minikeras.saving.paths import inside, replacing
from minikeras.saving.sinks import Hdf5Sink

GB = 1 << 30
SHARDS = ".weights.json"  # the ending of the list
_NAME = re.compile(r"[^\\/:\x00]+\.h5")  # of a file right beside the list
_SAVE = "minikeras_save"  # marks the files of one save, so that those of two are never mixed


class ShardedReader:
    """The files that a list of shards names, read as one.

    Args:
        path: of the list, beside which the shards lie.
        description: the list.

    Raises:
        ValueError: for a list of another form, shards that are missing, elsewhere, or of another save.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]):
        self._path, self._stack = path, ExitStack()
        self._map = shards_of(path, description)
        mark = description["metadata"].get(_SAVE)
        self._readers: dict[str, WeightsReader] = {}
        with self._stack:
            for name in sorted({name for names in self._map.values() for name in names}):
                file = inside(path.parent, name)
                reader = self._readers[name] = self._stack.enter_context(WeightsReader(file, str(file)))
                if mark is not None and reader.root.attrs.get(_SAVE) != mark:
                    raise ValueError(f"{str(file)!r} is of another save than {str(path)!r}, which names it; save anew.")
            self._stack = self._stack.pop_all()

    def __enter__(self) -> ShardedReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def readers(self) -> list[WeightsReader]:
        """Those of the shards."""
        return list(self._readers.values())

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """All arrays with their paths, not yet read."""
        for reader in self.readers:
            yield from reader.arrays()

    def read(self, found: Any) -> np.ndarray:
        """The numbers of an array."""
        return self.readers[0].read(found)

    def store(self, path: str) -> ArrayStore:
        """The variables at a path, from all the shards that have some; none where no shard has.

        Raises:
            ValueError: where two shards have the same one.
        """
        arrays: dict[str, tuple[Any, Any]] = {}
        place = f"{path}/vars" if path else "vars"
        for name in self._map.get(f"/{place}", ()):
            reader = self._readers[name]
            group = reader.group(reader.root, place)
            for key in () if group is None else group:
                if key in arrays:
                    raise ValueError(f"{str(self._path)!r} has {place}/{key} in two shards; save the weights anew.")
                arrays[key] = reader, reader.dataset(group, key)
        return ArrayStore(arrays)


def shards_of(path: Path, description: Any) -> dict[str, list[str]]:
    """Which shards hold which group of variables.

    Raises:
        ValueError: for a list of another form.
    """
    metadata, places = description.get("metadata"), description.get("weight_map")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(places, dict) or not isinstance(total, (int, float)) or not 0 <= total < float("inf"):
        raise ValueError(f"{str(path)!r} should list shards by metadata and weight_map, got {description!r:.80}.")
    found = {place: names if isinstance(names, list) else [names] for place, names in places.items()}
    wrong = [
        name for names in found.values() for name in names if not isinstance(name, str) or not _NAME.fullmatch(name)
    ]
    if wrong:
        raise ValueError(f"{str(path)!r} should name .h5 files beside it, got {wrong[0]!r:.80}.")
    return found


def write_shards(path: Path, write: Callable[[Any], None], largest: float, overwrite: bool) -> None:
    """Write shards and their list, which takes its place last; shards that an earlier list named are removed.

    Args:
        path: of the list.
        write: called with the sink that the arrays go to.
        largest: bytes of the arrays in one shard.
        overwrite: whether existing files are replaced.

    Raises:
        ValueError: for an array that is larger than a shard may be.
        FileExistsError: where one of the files exists and `overwrite` is False.
    """
    with ExitStack() as stack:
        partial = stack.enter_context(replacing(path, overwrite))
        sink = _ShardsSink(path, largest, overwrite, stack)
        write(sink)
        metadata = {"total_size": sink.total, _SAVE: sink.mark}
        partial.write_text(json.dumps({"metadata": metadata, "weight_map": sink.places}, indent=4))
    for other in path.parent.glob(f"{glob.escape(sink.base)}_*.weights.h5"):
        number = re.fullmatch(r"_(\d{5})\.weights\.h5", other.name[len(sink.base) :])
        if number and int(number[1]) >= sink.count:
            other.unlink()


class _ShardsSink:
    """Takes arrays by group and writes them to one file after the other."""

    def __init__(self, path: Path, largest: float, overwrite: bool, stack: ExitStack):
        self._path, self._largest, self._overwrite, self._stack = path, largest, overwrite, stack
        self.base = path.stem.replace(".weights", "")
        self.mark = secrets.token_hex(8)
        self.places: dict[str, list[str]] = {}
        self.count = self.total = self._size = 0
        self._sink: Any = None
        self._open_next()

    def _open_next(self) -> None:
        if self.count:
            self._sink.root.close()
        self._name = f"{self.base}_{self.count:05}.weights.h5"
        partial = self._stack.enter_context(replacing(self._path.with_name(self._name), self._overwrite))
        self._sink = Hdf5Sink(self._stack, partial)
        self._sink.root.attrs[_SAVE] = self.mark
        self.count, self._size = self.count + 1, 0

    def group(self, place: str, name: str | None = None) -> _Shared:
        return _Shared(self, place, name)

    def add(self, place: str, name: str | None, key: str, value: Any) -> None:
        array = np.asarray(value)
        if array.nbytes > self._largest:
            problem = f"The array {place}/{key} has {array.nbytes:,} bytes, a shard at most {self._largest:,.0f}"
            raise ValueError(f"{problem}; pass a larger max_shard_size (in GB).")
        if self._size + array.nbytes > self._largest:
            self._open_next()
        self._size += array.nbytes
        self.total += array.nbytes
        self._sink.group(place, name)[key] = array
        names = self.places.setdefault(f"/{place}", [])
        if self._name not in names:
            names.append(self._name)


class _Shared:
    """What `save_own_variables` writes to: one object's arrays by name, wherever they end up."""

    def __init__(self, sink: _ShardsSink, place: str, name: str | None):
        self._add = functools.partial(sink.add, place, name)

    def __setitem__(self, key: str, value: Any) -> None:
        self._add(key, value)
