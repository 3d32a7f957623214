"""Files sorted into folders, one folder for each class; none lies outside of the folder that was named."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

IMAGE_EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff")


def class_files(
    directory: str | os.PathLike,
    classes: Sequence[str] | None = None,
    extensions: Iterable[str] = IMAGE_EXTENSIONS,
    follow_links: bool = False,
) -> tuple[list[str], np.ndarray, list[str]]:
    """The files below each class's folder in `directory`.

    Args:
        directory: folder that has one subfolder for each class.
        classes: names of the subfolders in the order of their labels; default all of them, sorted, but for those whose
            names begin with a dot.
        extensions: endings of the names that count, in lower case and with their dot; large letters match too.
        follow_links: also read folders that symbolic links lead to.

    Returns:
        `(paths, labels, class_names)`: paths that begin with `directory`, class by class and sorted as `files_below`
        does; int32 labels, one for each path; the names of the classes, those without files among them.

    Raises:
        FileNotFoundError: where `directory` is no folder.
        ValueError: for a class without a folder, or with `follow_links` a link that leads out of `directory`.
    """
    folders = _class_folders(directory, follow_links)
    if classes is not None:
        missing = [name for name in classes if name not in folders]
        if missing:
            raise ValueError(
                f"Each class needs a folder of its name in {str(directory)!r}, got class {missing[0]!r} without one; "
                f"the folders are {folders}."
            )
        folders = [str(name) for name in classes]
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(folders):
        found = files_below(os.path.join(directory, name), extensions, follow_links, tree=directory)
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, dtype=np.int32), folders


def files_below(
    directory: str | os.PathLike,
    extensions: Iterable[str] = IMAGE_EXTENSIONS,
    follow_links: bool = False,
    tree: str | os.PathLike | None = None,
) -> list[str]:
    """The files in `directory` and in all folders below it, sorted by folder and then by name.

    Links to files inside `tree` (default `directory`) count as files.  What a link out of it leads to is left out with
    a warning, and with `follow_links` refused.

    Raises:
        FileNotFoundError: where `directory` is no folder.
        ValueError: with `follow_links`, for a link that leads out of the tree.
    """
    _require_folder(directory)
    root = os.path.realpath(directory if tree is None else tree)
    endings = tuple(extensions)
    found: list[tuple[str, list[str]]] = []
    outside: list[str] = []
    for folder, below, files in os.walk(os.fspath(directory), followlinks=follow_links):
        if follow_links:
            below[:] = [name for name in below if _is_followed(os.path.join(folder, name), root)]
        names = []
        for name in files:
            path = os.path.join(folder, name)
            if not name.lower().endswith(endings):
                continue
            if _leads_out(path, root, follow_links):
                outside.append(path)
            else:
                names.append(name)
        found.append((folder, sorted(names)))
    _warn_of_links(outside, root)
    return [os.path.join(folder, name) for folder, names in sorted(found) for name in names]


def files_of_class(
    directory: str | os.PathLike, name: str, extensions: Iterable[str], follow_links: bool = False
) -> list[str]:
    """The files of one class as `files_below` finds them, as paths that begin with its name; none without a folder.

    Raises:
        ValueError: for a name that leads out of `directory`, or with `follow_links` a link out of `directory`.
    """
    top = os.path.join(directory, name)
    if not name or not inside(top, directory, links=False):
        raise ValueError(f"A class is the name of a folder in {str(directory)!r}, got {name!r}; correct it.")
    root = os.path.realpath(directory)
    if _leads_out(top, root, follow_links):
        _warn_of_links([top], root)
        return []
    if not os.path.isdir(top):
        return []
    return [
        os.path.join(name, os.path.relpath(path, top)) for path in files_below(top, extensions, follow_links, directory)
    ]


def inside(path: str | os.PathLike, folder: str | os.PathLike, links: bool = True) -> bool:
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
            known[folder] = inside(folder, directory)
        if not known[folder] or ((last == ".." or os.path.islink(path)) and not inside(path, directory)):
            return name
    return None


def _class_folders(directory: str | os.PathLike, follow_links: bool) -> list[str]:
    """The names of the folders in `directory` that are classes, sorted."""
    _require_folder(directory)
    root = os.path.realpath(directory)
    names, outside = [], []
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.startswith(".") or not os.path.isdir(path):
            continue
        if _leads_out(path, root, follow_links):
            outside.append(path)
        else:
            names.append(name)
    _warn_of_links(outside, root)
    return names


def _require_folder(directory: str | os.PathLike) -> None:
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"There is no folder {str(directory)!r}; check the path.")


def _is_followed(path: str, root: str) -> bool:
    """Whether a walk enters the folder: not where a link leads back to a folder that it lies in, which has no end."""
    _leads_out(path, root, refuses=True)
    return not os.path.islink(path) or not inside(os.path.dirname(path), path)


def _leads_out(path: str, root: str, refuses: bool) -> bool:
    """Whether this is a symbolic link that leads out of a folder, which may be refused."""
    is_outside = os.path.islink(path) and not inside(path, root)
    if is_outside and refuses:
        raise ValueError(
            f"The symbolic link {path!r} leads out of {root!r}, to {os.path.realpath(path)!r}; "
            "copy there what it leads to, or remove the link."
        )
    return is_outside


def _warn_of_links(links: list[str], root: str) -> None:
    if links:
        warnings.warn(
            f"{len(links)} symbolic links that lead out of {root!r} were left out, such as {links[0]!r}; "
            "copy there what they lead to.",
            stacklevel=4,
        )
