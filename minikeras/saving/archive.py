"""The members of a `.keras` archive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikeras.utils.bounded import DAMAGE, FREE, RATIO, Zip, size_of


def read_members(path: Any, wanted: Callable[[str], bool], limit: int | None = None) -> dict[str, bytes]:
    """The members of an archive whose names are wanted, by these; the others are not looked at.

    Args:
        path: the archive.
        wanted: told a name.
        limit: bytes that these members may take together; by default a hundred times the archive's size and 16 MiB.

    Raises:
        ValueError: for a damaged archive, or one whose members take more than they may.
    """
    try:
        with Zip(path, limit) as archive:
            return {name: archive.contents(name) for name in archive.namelist() if wanted(name)}
    except DAMAGE as error:
        why = str(error).rstrip(".")
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {why}.") from error


def allowed(file: Any, limit: int | None) -> int | None:
    """The bytes that reading a file may take: never fewer than its size allows anyway; None for just these.

    Args:
        file: its path, or the open file.
        limit: bytes that the caller allows.
    """
    return None if limit is None else max(limit, FREE + RATIO * size_of(file))
