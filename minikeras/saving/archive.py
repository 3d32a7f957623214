"""The members of a `.keras` archive."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

CONFIG, WEIGHTS, ASSETS = "config.json", "model.weights.h5", "assets/"
_LARGEST_EXPANSION = 100  # how much a member may be compressed; Keras stores them as they are
_FREE_BYTES = 1 << 20


def read_members(path: Any) -> tuple[bytes, io.BytesIO, dict[str, bytes]]:
    """The description and the weights in a `.keras` archive, and the layers' own files in it by their names there.

    Raises:
        ValueError: for a damaged archive, or one without them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config, weights = _read_member(archive, CONFIG), io.BytesIO(_read_member(archive, WEIGHTS))
            names = [name for name in archive.namelist() if name.startswith(ASSETS)]
            return config, weights, {name: _read_member(archive, name) for name in names}
    except KeyError as error:
        raise ValueError(f"{str(path)!r} is not a model file: {error.args[0]}.") from error
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {error}.") from error


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    member = archive.getinfo(name)
    if member.file_size > _FREE_BYTES + _LARGEST_EXPANSION * member.compress_size:
        raise zipfile.BadZipFile(f"{name} claims {member.file_size} bytes, far more than the file holds")
    return archive.read(member)
