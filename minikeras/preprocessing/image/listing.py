"""Which files of a folder are read, and that none lies outside of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence


def inside(path: str | os.PathLike, folder: str | os.PathLike, links: bool) -> bool:
    """Whether a path stays in a folder, where its `..` lead and, if `links`, its symbolic links."""
    place = os.path.realpath if links else os.path.abspath
    root = place(os.fspath(folder))
    try:
        return os.path.commonpath([place(os.fspath(path)), root]) == root
    except ValueError:  # another drive
        return False


def first_outside(names: Sequence[str], directory: str) -> str | None:
    """The first of these names of files that leads out of `directory`, itself or as a link; None where none does."""
    known: dict[str, bool] = {}
    for name in names:
        path = os.path.join(directory, name)
        folder, last = os.path.split(path)
        if folder not in known:
            known[folder] = inside(folder, directory, links=True)
        if not known[folder] or ((last == ".." or os.path.islink(path)) and not inside(path, directory, links=True)):
            return name
    return None


def pictures_of_class(directory: str | os.PathLike, name: str, endings: Sequence[str], follow_links: bool) -> list[str]:
    """The pictures of a class, as paths that begin with its name, sorted by folder, then by name.

    Links out of `directory` are left out with a warning, and with `follow_links` refused.

    Raises:
        ValueError: for a name that leads out of `directory`, or with `follow_links` a link out of `directory`.
    """
    top = os.path.join(directory, name)
    if not inside(top, directory, links=False) or not name:
        raise ValueError(f"A class is the name of a folder in {str(directory)!r}, got {name!r}; correct it.")
    outside: list[str] = []

    def stays(path: str) -> bool:
        if not os.path.islink(path) or inside(path, directory, links=True):
            return True
        if follow_links:
            raise ValueError(
                f"The symbolic link {path!r} leads out of {str(directory)!r}, to {os.path.realpath(path)!r}; remove it "
                "or copy there what it leads to."
            )
        outside.append(path)
        return False

    found: list[tuple[str, list[str]]] = []
    if stays(top):
        for folder, below, names in os.walk(top, followlinks=follow_links):
            if follow_links:  # but not back to where the walk came from, which has no end
                below[:] = [one for one in below if stays(os.path.join(folder, one)) and not _returns(folder, one)]
            pictures = [one for one in names if one.lower().endswith(tuple(endings))]
            found.append((folder, sorted(one for one in pictures if stays(os.path.join(folder, one)))))
    if outside:
        warnings.warn(
            f"{len(outside)} symbolic links that lead out of {str(directory)!r} were left out, such as {outside[0]!r}; "
            "copy there what they lead to.",
            stacklevel=4,
        )
    paths = [os.path.join(folder, one) for folder, names in sorted(found) for one in names]
    return [os.path.join(name, os.path.relpath(path, top)) for path in paths]


def _returns(folder: str, name: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    path = os.path.join(folder, name)
    return os.path.islink(path) and inside(folder, os.path.realpath(path), links=True)
