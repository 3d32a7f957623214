"""The members of a `.keras` archive, and of an `.npz` file, which is a zip archive too."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from typing import Any

_LARGEST_EXPANSION = 100  # how much a member may be compressed; Keras stores them as they are
_FREE_BYTES = 1 << 20
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, zlib.error)


def read_members(path: Any, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The members of an archive whose names are wanted, by these; the others are not looked at.

    Raises:
        ValueError: for a damaged archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: read_member(archive, name) for name in archive.namelist() if wanted(name)}
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {error}.") from error


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member.

    Raises:
        BadZipFile: where it claims to be far larger than what is stored of it.
    """
    member = archive.getinfo(name)
    if member.file_size > _FREE_BYTES + _LARGEST_EXPANSION * member.compress_size:
        raise zipfile.BadZipFile(f"{name} claims {member.file_size} bytes, far more than the file holds")
    return archive.read(member)
