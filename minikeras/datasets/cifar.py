"""What CIFAR-10 and CIFAR-100 share: batches of pictures as pickles, in a folder or in a `.tar.gz` archive."""

from __future__ import annotations

import io
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from minikeras import config
from minikeras.datasets import files, pickles
from minikeras.utils.bounded import DAMAGE, Allowance, members, open_tar, size_of

_SIZE = 3 * 32 * 32  # bytes of a picture


def fetch(title: str, folder: str, archive: str, url: str, sha256: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The batches of those names, from the first place that has them.

    Each of `config.dataset_folders()` is searched for the folder as the archive, or Keras, unpacks it, then for the
    archive under its own name and under those that Keras gives it.

    Args:
        title: the name of the dataset.
        folder: the folder in the archive.
        archive: the name of the archive.
        url: where it is on the network.
        sha256: its sum there.
        names: the names of the batches.

    Raises:
        ValueError: if what is found is damaged or holds anything but a batch.
        FileNotFoundError: if there is nothing and it cannot be downloaded.
    """
    for place in files.places(folder):
        for unpacked in (place / f"{folder}-target" / folder, place):
            if all((unpacked / name).is_file() for name in names):
                return {name: _batch(unpacked / name, (unpacked / name).read_bytes()) for name in names}
        for name in (archive, f"{folder}.tar.gz", f"{folder}-target_archive"):
            if (place / name).is_file():
                return _read_archive(place / name, folder, names)
    return _read_archive(files.fetch(title, archive, url, sha256), folder, names)


def _read_archive(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, Any]:
    wanted = {PurePosixPath(folder, name): name for name in names}
    batches = {}
    try:
        with open_tar(path, Allowance(size_of(path)).left) as archive:
            for member in members(archive):
                name = wanted.get(PurePosixPath(member.name))
                stream = archive.extractfile(member) if name is not None and member.isreg() else None
                if name is not None and stream is not None:
                    shutil.copyfileobj(stream, content := io.BytesIO())
                    batches[name] = content.getvalue()
                if len(batches) == len(wanted):
                    break
        missing = sorted(set(names) - set(batches))
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged or is not the right archive ({error}); replace or remove it.") from error
    return {name: _batch(path / folder / name, batches[name]) for name in names}


def _batch(path: Path, content: bytes) -> dict[str, Any]:
    """What a batch holds: `data` is checked, other entries are whatever they are."""
    try:
        batch = pickles.loads(content)
        if not isinstance(batch, dict):
            raise ValueError(f"it holds a {type(batch).__name__}")
        batch = {key.decode() if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
        data = batch.get("data")
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _SIZE:
            raise ValueError(f"its data is not uint8 of shape (n, {_SIZE})")
    except ValueError as error:
        raise ValueError(f"{path} is damaged or is not a batch of CIFAR ({error}); replace or remove it.") from error
    return batch


def pictures(batches: list[dict[str, Any]]) -> Any:
    """The pictures of some batches in the configured `image_data_format`, uint8."""
    data = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(data.transpose(0, 2, 3, 1)) if config.image_data_format() == "channels_last" else data


def labels(batches: list[dict[str, Any]], key: str, classes: int) -> Any:
    """The labels of some batches, int64 of shape `(n, 1)`.

    Raises:
        ValueError: unless there is one for each picture, from 0 to `classes - 1`.
    """
    for batch in batches:
        found, expected = batch.get(key), len(batch["data"])
        if not isinstance(found, list) or len(found) != expected or not set(map(type, found)) <= {int}:
            raise ValueError(f"A batch of CIFAR must have {expected} whole numbers as {key}; replace or remove it.")
        if found and not 0 <= min(found) <= max(found) < classes:
            outside = min(found) if min(found) < 0 else max(found)
            raise ValueError(f"A batch of CIFAR must have {key} from 0 to {classes - 1}, it has {outside}.")
    return np.array([label for batch in batches for label in batch[key]], np.int64).reshape(-1, 1)
