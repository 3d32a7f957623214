"""Files of every kind opened as one: a description of a model, arrays by path, layers' own files, or some of these."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.models.description import LARGEST_TEXT, parse_description
from minikeras.registry import is_description
from minikeras.saving import hdf5_file, kinds
from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.saving.npz_file import NpzReader
from minikeras.saving.paths import inside, path_of
from minikeras.saving.shards import ShardedReader
from minikeras.utils.bounded import DAMAGE, Zip, reason
from minikeras.utils.checks import whole
from minikeras.utils.console import announce

_MEMBERS = (kinds.CONFIG, kinds.METADATA, kinds.WEIGHTS, kinds.NPZ_WEIGHTS)
_TOLD = {"version": "keras_version", "backend": "backend", "saved": "date_saved"}  # what a file may say of itself


@dataclass
class Opened:
    """What a file or folder holds; arrays are read when they are asked for.

    Attributes:
        path: where it lies.
        kind: what it is, in words.
        config: the model's description as it stands there; None where there is none.
        reader: gives the arrays; None where there are none.
        layered: whether the arrays are by layer, as Keras 2 keeps them, and not by path.
        training: what an HDF5 file says of how the model was compiled.
        version, backend, saved: what wrote it, and when; None where it does not say.
        files: layers' own files by their names: what is in them, or where it is.
    """

    path: Path
    kind: str
    config: Any = None
    reader: Any = None
    layered: bool = False
    training: Any = None
    version: str | None = None
    backend: str | None = None
    saved: str | None = None
    files: Mapping[str, bytes | Path] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return str(self.path)

    def size(self, limit: int | None = None) -> int:
        """Bytes of all arrays together.

        Raises:
            ValueError: where they are more than `limit`, if that is one, or one of them cannot be read.
        """
        size = sum(prod(found.shape) * found.dtype.itemsize for found in self.reader.arrays())
        if limit is not None and size > limit:
            raise ValueError(f"{self.label!r} holds arrays of {size:,} bytes, more than limit={limit:,}; allow more.")
        return size

    def weights(self) -> dict[str, np.ndarray]:
        """All arrays by path."""
        return {found.path.lstrip("/"): found[()] for found in self.reader.arrays()}


@contextmanager
def opened(filepath: Any, limit: int | None = None) -> Iterator[Opened]:
    """What lies at a path, open as long as the block lasts.

    Args:
        filepath: the path.
        limit: bytes that may be read, where they are more than a file of its size may have anyway.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for what is damaged or of no known kind.
    """
    path = path_of(filepath)
    with ExitStack() as stack:
        yield _OPENERS[kinds.kind_of(path)](path, stack, whole("limit", limit, 0, optional=True))


@contextmanager
def reporting(report: bool | list[str]) -> Iterator[list[str]]:
    """A list for sentences on what was translated; they are printed at the end where `report` is True.

    Raises:
        ValueError: where it is neither a list nor True or False.
    """
    if not isinstance(report, (bool, list)):
        raise ValueError(f"report must be True, False or a list that is filled, got {report!r:.80}.")
    sentences = report if isinstance(report, list) else []
    yield sentences
    if report is True:
        announce("\n".join(sentences) or "Nothing had to be translated.")


def _open_archive(path: Path, stack: ExitStack, limit: int | None) -> Opened:
    try:
        with Zip(path, limit) as archive:
            members = {name: archive.contents(name) for name in archive.namelist() if _is_member(name)}
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {reason(error)}.") from error
    return _opened_model(path, "Keras archive (.keras)", members, stack, limit)


def _is_member(name: str) -> bool:
    return name in _MEMBERS or (name.startswith(kinds.ASSETS) and not name.endswith("/"))


def _open_folder(path: Path, stack: ExitStack, limit: int | None) -> Opened:
    assets = path / kinds.ASSETS
    if assets.is_symlink():  # before all of what it leads to is listed
        raise ValueError(f"{str(assets)!r} is a link, which is not followed; copy the folder there.")
    found = [path / name for name in _MEMBERS] + sorted(assets.rglob("*"))
    members: dict[str, Any] = {}
    for name in (one.relative_to(path).as_posix() for one in found if one.is_file()):
        file = inside(path, name)
        members[name] = _text(file) if name in (kinds.CONFIG, kinds.METADATA) else file
    return _opened_model(path, "folder with a Keras model", members, stack, limit)


def _opened_model(path: Path, kind: str, members: Mapping[str, Any], stack: ExitStack, limit: int | None) -> Opened:
    name = next((name for name in (kinds.WEIGHTS, kinds.NPZ_WEIGHTS) if name in members), None)
    if name is None:
        raise ValueError(f"{str(path)!r} is not a model file: it has no {kinds.WEIGHTS}; save the model anew.")
    config, weights = _described(members[kinds.CONFIG], path), members[name]
    if not is_description(config):
        raise ValueError(f"{str(path)!r} cannot be loaded: a model has class_name and config, got {config!r:.80}.")
    try:
        metadata = json.loads(members.get(kinds.METADATA, b"{}"))
    except (ValueError, RecursionError):
        metadata = {}  # nothing depends on it
    kind_of_weights = kinds.kind_of(weights) if isinstance(weights, Path) else name
    make: Callable = NpzReader if kind_of_weights in (kinds.NPZ, kinds.NPZ_WEIGHTS) else WeightsReader
    weights = io.BytesIO(weights) if isinstance(weights, bytes) else weights
    reader = make(weights, str(path), limit)
    files = {name: content for name, content in members.items() if name.startswith(kinds.ASSETS)}
    return Opened(path, kind, config, stack.enter_context(reader), files=files, **_told(metadata))


def _told(found: Any) -> dict[str, Any]:
    """What a JSON object tells of its file: version, backend, saved."""
    named = {key: found.get(name) if isinstance(found, dict) else None for key, name in _TOLD.items()}
    return {key: value for key, value in named.items() if isinstance(value, str)}


def _text(path: Path) -> bytes:
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(f"{str(path)!r} has more than {LARGEST_TEXT} bytes, too many for a description.")
    return path.read_bytes()


def _described(text: str | bytes, path: Path) -> Any:
    try:
        return parse_description(text)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error


def _open_hdf5(path: Path, stack: ExitStack, limit: int | None) -> Opened:
    reader = stack.enter_context(WeightsReader(path, str(path), limit))
    if hdf5_file.is_model(reader):
        config, training, version, backend = hdf5_file.read_model_config(reader)
        return Opened(path, "HDF5 file with a Keras model", config, reader, True, training, version, backend)
    if hdf5_file.is_layered(reader):
        told: Any = {key: next(iter(reader.words(reader.root, name)), None) for key, name in _TOLD.items()}
        return Opened(path, "weights by layer, as Keras 2 writes them (HDF5)", None, reader, True, **told)
    names = reader.names(reader.root)
    if not any(name == "vars" or name.startswith(("layers", "_layer")) for name in names):
        found = sorted(names)[:5]
        raise ValueError(f"{str(path)!r} is an HDF5 file without a model or weights of Keras, it has {found!r:.80}.")
    return Opened(path, "weights by path (.weights.h5)", None, reader)


def _open_npz(path: Path, stack: ExitStack, limit: int | None) -> Opened:
    return Opened(path, "weights (.npz)", None, stack.enter_context(NpzReader(path, str(path), limit)))


def _open_text(path: Path, stack: ExitStack, limit: int | None) -> Opened:
    found = _described(_text(path), path)
    if is_description(found):
        return Opened(path, "architecture (JSON)", found, **_told(found))
    if not isinstance(found, dict) or "weight_map" not in found:
        what = (
            "a model of TensorFlow.js" if isinstance(found, dict) and "weightsManifest" in found else "JSON of no model"
        )
        raise ValueError(f"{str(path)!r} is {what} and no list of shards, got {found!r:.80}; pass another file.")
    reader = stack.enter_context(ShardedReader(path, found, limit))
    return Opened(path, f"weights in {len(reader.readers)} shards (.weights.json)", None, reader)


_OPENERS: dict[str, Callable[[Path, ExitStack, int | None], Opened]] = {
    kinds.ARCHIVE: _open_archive,
    kinds.FOLDER: _open_folder,
    kinds.HDF5: _open_hdf5,
    kinds.NPZ: _open_npz,
    kinds.TEXT: _open_text,
}
