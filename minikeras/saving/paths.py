"""Paths of files, and writing that either finishes or leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minikeras.utils.checks import ending


def path_of(filepath: Any) -> Path:
    """A path from a string or path, `~` resolved.

    Raises:
        TypeError: for what is no path.
    """
    if not isinstance(filepath, (str, os.PathLike)):
        raise TypeError(f"A file is given by its path, got {filepath!r}.")
    return Path(filepath).expanduser()


def inside(folder: Path, name: str) -> Path:
    """The file of that name in a folder.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is a link to elsewhere.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; copy or download the whole folder.")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{str(path)!r} is a link out of its folder, which is not followed; copy the file there.")
    return path


_OTHER_OPTIONS = {"options": (None,), "signatures": (None,), "save_traces": (True, None)}  # Keras 2's, for TensorFlow


def format_of(owner: str, path: Path, endings: tuple[str, ...], options: dict[str, Any]) -> str:
    """The ending that says in which format a file is written, its own or the one that Keras 2's `save_format` means.

    Args:
        owner: what writes it.
        path: where.
        endings: those that are possible.
        options: further arguments.

    Raises:
        ValueError: for arguments that are not known, a `save_format` of TensorFlow's or one that contradicts the
            ending, or a path without one of the endings.
    """
    wanted = options.pop("save_format", None)
    others = sorted(name for name, value in options.items() if value not in _OTHER_OPTIONS.get(name, ()))
    if others:
        raise ValueError(f"{owner} got the unknown arguments {others}; leave them out.")
    if wanted is None:
        return ending(owner, str(path), endings)
    if wanted not in ("h5", "hdf5", "keras"):
        problem = f"{owner} got save_format={wanted!r}, and TensorFlow's own formats are not written"
        raise ValueError(f"{problem}; leave it out and end the path in {endings[0]}.")
    found = next((one for one in endings if path.name.endswith(one)), ".h5")
    if (wanted == "keras") != (found == ".keras") or found in (".npz", ".weights.json"):
        raise ValueError(f"{owner}: save_format={wanted!r} and {str(path)!r} contradict; leave the first out.")
    return found


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


@contextmanager
def replacing_folder(path: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """A new folder beside `path` to write to, which takes its place when the block ends well and vanishes otherwise.

    Args:
        path: of the folder.
        overwrite: whether an existing one is replaced.
        replaceable: tells of an existing folder whether it is of the kind that may be; an empty one always is.

    Raises:
        FileExistsError: where something exists that must not be replaced.
        FileNotFoundError: where the folder around it does not exist.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not overwrite:
        raise FileExistsError(f"The folder {str(path)!r} exists; pass overwrite=True or another path.")
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or replaceable(target))):
        problem = f"{str(path)!r} exists and is no folder with a model and nothing else, so it is not replaced"
        raise FileExistsError(f"{problem}; choose another path.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(target.parent)!r} does not exist; create it first.")
    partial, old = (target.with_name(f".{target.name}.{secrets.token_hex(6)}") for _ in range(2))
    try:
        partial.mkdir()
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as written:
                    os.fsync(written.fileno())
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(partial, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if target.exists():  # else what was there before is all there is
            shutil.rmtree(old, ignore_errors=True)
