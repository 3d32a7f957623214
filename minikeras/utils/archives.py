"""Unpacking tar and zip archives that nobody vouches for.

An archive is unpacked completely or not at all, and nothing of it comes to lie outside of its folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import uuid
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minikeras.tracebacks import warn
from minikeras.utils.bounded import DAMAGE, Zip, members, open_tar, reason

LARGEST = 1 << 37  # bytes that are unpacked at most
RATIO = 200  # how many times larger than the archive they may be, once they are more than
SMALL = 1 << 24  # bytes
_HEADER = 1 << 12  # bytes that each member counts for besides its content: on the disk it takes a block
# What the disk says to names that make no sense together, such as a file where a folder must be.
_IMPOSSIBLE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL)
_DIRECTORY = 128  # bytes that each has in the directory of a zip archive, about
# Python's own second look at each member; 3.11.0 to 3.11.3 have none.
_FILTER: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def unpack(archive: Path, folder: Path, archive_format: str | Iterable[str] | None = "auto") -> bool:
    """Unpack an archive into a folder, beside what is there already.

    Links are left out, with a warning.

    Args:
        archive: a tar file, plain or compressed by gzip, bzip2 or xz, or a zip file.
        folder: where its content is put; made where it is missing.
        archive_format: `"tar"`, `"zip"`, a list of these, `"auto"` for both, or None for none.

    Returns:
        Whether the archive is of one of these formats.

    Raises:
        ValueError: if the archive is damaged, would put something outside of the folder, or unpacks to more than it
            may (`LARGEST`, `RATIO`); nothing is left behind.
    """
    if archive_format is None:
        return False
    formats = ["tar", "zip"] if archive_format == "auto" else archive_format
    formats = [formats] if isinstance(formats, str) else list(formats)
    unknown = [one for one in formats if one not in _FORMATS]
    if unknown:
        raise ValueError(f"archive_format must be 'auto', 'tar', 'zip' or None, got {unknown[0]!r}.")
    read = next((read for is_one, read in map(_FORMATS.__getitem__, formats) if is_one(archive)), None)
    if read is None:
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    aside.mkdir()
    try:
        read(archive, _Place(archive, aside))
        _merge(aside, folder)
    except (*DAMAGE, OSError) as error:
        if isinstance(error, RefusedArchive) or (isinstance(error, OSError) and error.errno not in _IMPOSSIBLE):
            raise
        raise ValueError(f"{archive} is damaged ({reason(error)}); remove it and fetch it again.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _is_tar(path: Path) -> bool:
    try:
        with open_tar(path, SMALL):
            return True
    except DAMAGE as error:
        return "most" in str(error)  # it begins as one that asks for too much


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, OSError):
        return True  # it ends as one, which makes no sense


class RefusedArchive(ValueError):
    """An archive that is whole, and not unpacked for all that."""


class _Place:
    """A folder being filled from an archive, and how much may still come."""

    def __init__(self, archive: Path, folder: Path):
        self.archive, self.folder = archive, folder
        self.allowed = min(LARGEST, max(SMALL, RATIO * archive.stat().st_size))
        self._total = 0
        self._warned = False

    def path(self, name: str, size: int) -> Path:
        """Where a member of that name and size is put."""
        self._total += size + _HEADER
        if self._total > self.allowed:
            raise RefusedArchive(
                f"{self.archive} unpacks to more than {self.allowed} bytes, which is refused; unpack it by hand."
            )
        path = self._inside(self.folder, name)
        if path is None:
            raise RefusedArchive(
                f"{self.archive} puts {name!r} outside of its folder, which is refused; do not trust it."
            )
        return path

    def link(self, name: str, target: str, of_root: bool) -> None:
        """Leave out a link; one that leads out of the folder is an attack."""
        path = self.path(name, 0)
        if self._inside(self.folder if of_root else path.parent, target) is None:
            raise RefusedArchive(
                f"{self.archive} has the link {name!r} to {target!r} outside of its folder, which is refused; "
                "do not trust it."
            )
        if not self._warned:
            warn(f"{self.archive} has links, such as {name!r}; they are left out.")
            self._warned = True

    def _inside(self, start: Path, name: str) -> Path | None:
        """The path of that name, None where it leads out of the folder."""
        if "\0" in name or name.startswith(("/", "\\")) or (os.name == "nt" and ":" in name):
            return None
        path, root = os.path.normpath(start / name.replace("\\", os.sep)), os.path.normpath(self.folder)
        return Path(os.path.normpath(start / name)) if os.path.commonpath([path, root]) == root else None


def _read_tar(source: Path, place: _Place) -> None:
    with open_tar(source, place.allowed) as archive:
        for member in members(archive):
            if member.issym() or member.islnk():
                place.link(member.name, member.linkname, of_root=member.islnk())
            elif member.isdir() or member.isreg():
                place.path(member.name, member.size)
                archive.extract(member, place.folder, set_attrs=False, **_FILTER)
            else:
                raise RefusedArchive(f"{source} has {member.name!r}, which is no file; do not trust it.")


def _read_zip(source: Path, place: _Place) -> None:
    with Zip(source, directory=place.allowed // _HEADER * _DIRECTORY) as archive:
        for member in archive.infolist():
            archive.check(member)
            path = place.path(member.filename, member.file_size)
            if stat.S_ISLNK(member.external_attr >> 16):
                target = archive.read(member).decode(errors="replace") if member.file_size < 4096 else "/"
                place.link(member.filename, target, of_root=False)
            elif member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as content, open(path, "wb") as file:
                    shutil.copyfileobj(content, file)


_FORMATS = {"tar": (_is_tar, _read_tar), "zip": (_is_zip, _read_zip)}


def _merge(source: Path, target: Path) -> None:
    """Move a folder to its place; where there is one, its files beside and over those that are there."""
    if not target.exists():
        os.replace(source, target)
        return
    for parent, folders, names in os.walk(source):
        inside = target / Path(parent).relative_to(source)
        for name in folders:
            (inside / name).mkdir(exist_ok=True)
        for name in names:
            os.replace(Path(parent) / name, inside / name)
