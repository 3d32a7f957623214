"""The members of a `.keras` archive."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Any

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_LARGEST_EXPANSION = 100  # how much a member may be compressed; Keras stores them as they are
_FREE_BYTES = 1 << 20


def read_members(path: Any) -> tuple[bytes, io.BytesIO]:
    """The description and the weights in a `.keras` archive.

    Raises:
        ValueError: for a damaged archive, or one without them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_member(archive, CONFIG), io.BytesIO(_read_member(archive, WEIGHTS))
    except KeyError as error:
        raise ValueError(f"{str(path)!r} is not a model file: {error.args[0]}.") from error
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {error}.") from error


def read_assets(path: Any, folder: str) -> dict[str, bytes]:
    """The members right within a folder of the archive, by their names; none that a file system takes for a path.

    Raises:
        ValueError: for a damaged archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removeprefix(folder) for name in archive.namelist() if name.startswith(folder)]
            plain = [name for name in names if re.fullmatch(r"[\w-][\w. -]*", name)]
            return {name: _read_member(archive, folder + name) for name in plain}
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}.") from error


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    member = archive.getinfo(name)
    if member.file_size > _FREE_BYTES + _LARGEST_EXPANSION * member.compress_size:
        raise zipfile.BadZipFile(f"{name} claims {member.file_size} bytes, far more than the file holds")
    return archive.read(member)
