"""Paths of files, and writing that either finishes or leaves nothing behind."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def as_path(filepath: Any, endings: tuple[str, ...], purpose: str) -> Path:
    """A path from a string or path, `~` resolved.

    Raises:
        ValueError: for another ending than those given.
        TypeError: for what is no path.
    """
    if not isinstance(filepath, (str, os.PathLike)):
        raise TypeError(f"A file is given by its path, got {filepath!r}.")
    path = Path(filepath).expanduser()
    if not path.name.endswith(endings):
        raise ValueError(f"{purpose} are stored in files ending in {' or '.join(endings)}, got {str(path)!r}.")
    return path


def existing(path: Path) -> Path:
    """The path, if there is a file.

    Raises:
        FileNotFoundError: where there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; check the path.")
    return path


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the block ends well and vanishes otherwise.

    Raises:
        FileExistsError: where the file exists and must not be overwritten.
        FileNotFoundError: where the folder does not exist.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"The file {str(path)!r} exists; pass overwrite=True or another path.")
    target = Path(os.path.realpath(path))  # through a link: the file is replaced, not the link
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(target.parent)!r} does not exist; create it first.")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        with open(partial, "xb"):
            pass
        yield partial
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
