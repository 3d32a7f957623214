"""What reading a file may cost, decided before anything is allocated: an allowance by its size, and archives within it.

A reader says what it is about to take (`Allowance.spend`).  Zip archives (`Zip`) and tar archives (`open_tar`) are
Python's own, held to what their files really have.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import math
import os
import reprlib
import tarfile
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

FREE = 1 << 24  # bytes that a file may take whatever its size
RATIO = 100  # how many times its size it may take besides; weights and datasets are seldom compressed to a tenth
_LARGEST_HEADER = 1 << 20  # bytes of a header in a tar archive, such as a long name
_LARGEST_DIRECTORY = 1 << 20  # bytes of a zip archive's directory, of which each member takes about 100; or
_DIRECTORY_SHARE = 3  # a third of the archive, as thousands of small arrays have it
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA may ask for gigabytes
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

# What Python's readers of archives and compressed files raise at damage.
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError,
    ValueError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError,
)  # fmt: skip


def reason(error: Exception) -> str:
    """What an error says, as a part of a sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")[:200]


class Allowance:
    """Bytes that reading one file may take.

    Args:
        size: bytes that the file has.
        limit: bytes that the caller allows, where they are more than the default, a hundred times the size and 16 MiB.
    """

    def __init__(self, size: int, limit: int | None = None):
        self.left = max(FREE + RATIO * size, limit or 0)

    def spend(self, nbytes: int, what: str) -> None:
        """Count bytes that are about to be taken.

        Raises:
            ValueError: where they are more than is left.
        """
        if nbytes > self.left:
            raise ValueError(f"{what} claims {_amount(nbytes)}, far more than the file holds")
        self.left -= nbytes


def _amount(nbytes: int) -> str:
    return f"{nbytes} bytes" if nbytes < 1 << 64 else "more than 2**64 bytes"


def size_of(file: Any) -> int:
    """The bytes of a file, given by its path or opened."""
    if isinstance(file, (str, os.PathLike)):
        return os.stat(file).st_size
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size


class Zip(zipfile.ZipFile):
    """A zip archive whose members take no more than its allowance.

    Args:
        file: its path, or the open file.
        limit: bytes that its members may take together; see `Allowance`.
        directory: bytes that its directory may have; by default a MiB or a third of the archive.

    Raises:
        zipfile.BadZipFile: for one that is damaged.
    """

    def __init__(self, file: Any, limit: int | None = None, directory: int | None = None):
        self.size = size_of(file)
        self.allowance = Allowance(self.size, limit)
        directory = max(_LARGEST_DIRECTORY, self.size // _DIRECTORY_SHARE) if directory is None else directory
        try:
            with open(file, "rb") if isinstance(file, (str, os.PathLike)) else nullcontext(file) as stream:
                end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # what zipfile itself goes by
            if end and end[5] > directory:
                raise zipfile.BadZipFile(f"its directory has {end[5]} bytes, {directory} are the most")
            super().__init__(file)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise zipfile.BadZipFile("its directory lies outside of the file") from error
        self._twice = {name for name, count in Counter(self.namelist()).items() if count > 1}

    def contents(self, name: str) -> bytes:
        """A member, read and checked.

        Raises:
            KeyError: where there is none.
            zipfile.BadZipFile: for one that is there twice, encrypted, or claims more than the file holds.
            ValueError: where it takes more than is allowed.
        """
        with self.member(name) as stream:
            return stream.read()

    def member(self, name: str) -> IO[bytes]:
        """A member, checked and opened, as `contents` does."""
        found = self.getinfo(name)
        if name in self._twice:
            raise zipfile.BadZipFile(f"it holds {name!r} twice")
        self.check(found)
        self.allowance.spend(found.file_size, name)
        return self.open(found)

    def check(self, member: zipfile.ZipInfo) -> None:
        """Refuse a member that is compressed in an unusual way, or that does not lie in the file."""
        if member.compress_type not in _METHODS:
            raise zipfile.BadZipFile(f"{member.filename!r} is compressed by the method {member.compress_type}")
        if not 0 <= member.header_offset <= self.size - member.compress_size:
            raise zipfile.BadZipFile(f"{member.filename!r} claims {member.compress_size} bytes that are not there")
        if not member.filename:
            raise zipfile.BadZipFile("it holds a file without a name")


def array_header(stream: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in NumPy's format, of so many bytes with its header, which is read.

    Raises:
        ValueError: for another format, or a shape that does not agree with the bytes, as those of all but objects do.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name!r} has the unknown version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    size -= stream.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size):
        raise ValueError(f"{name!r} claims the shape {reprlib.repr(shape)} of {dtype}, and has {size} bytes")
    return shape, dtype


_HEADERS: dict[Any, Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Stream(AbstractContextManager):
    """The content of a file, inflated where gzip, bzip2 or xz compressed it (told by its content), read forward.

    Args:
        path: the file.
        most: bytes of content that are read at most.
        at_once: bytes that may be asked for at once.
    """

    def __init__(self, path: Path, most: int, at_once: int | None = None):
        with open(path, "rb") as file:
            begin = file.read(6)
        opener = next((one for magic, one in _OPENERS.items() if begin.startswith(magic)), open)
        self._file = opener(path, "rb")
        self._most, self._at_once, self._at = most, most if at_once is None else at_once, 0

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end.

        Raises:
            ValueError: where more are asked for, at once or together, than is allowed.
        """
        if not 0 <= size <= self._at_once:
            raise ValueError(f"it asks for {_amount(size)} at once, {self._at_once} are the most")
        try:
            content = self._file.read(size)
        except OSError as error:
            if error.errno is not None:  # the disk, not the content
                raise
            raise ValueError(f"{error}") from error
        self._at += len(content)
        if self._at > self._most:
            raise ValueError(f"it holds more than {self._most} bytes, far more than its size allows")
        return content

    def seek(self, offset: int) -> int:
        """Pass over what comes before that place."""
        if offset < self._at:
            raise ValueError("it would have to be read backwards")
        while self._at < offset and self.read(min(offset - self._at, 1 << 16)):
            pass
        return self._at


class _GlobalHeaders(dict[str, str]):
    """What a tar archive says of all members that follow, any number of times before one: of a bounded size."""

    said = 0

    def __setitem__(self, name: str, value: str) -> None:
        self.said += len(name) + len(value)
        if self.said > _LARGEST_HEADER:
            raise ValueError(f"its headers for all members have more than {_LARGEST_HEADER} bytes")
        super().__setitem__(name, value)


@contextmanager
def open_tar(path: Path, most: int) -> Iterator[tarfile.TarFile]:
    """A tar archive, plain or compressed, of at most so many bytes of content, read from begin to end.

    Raises:
        ValueError, tarfile.TarError: or any of `DAMAGE`, for what is none.
    """
    with Stream(path, most, _LARGEST_HEADER) as stream:
        yield tarfile.TarFile(path, "r", stream, pax_headers=_GlobalHeaders())  # type: ignore[arg-type]  # it is read


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar archive, none of which is kept.

    Raises:
        ValueError: for a member of a negative size.
    """
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined]
        if member.size < 0:
            raise ValueError(f"{member.name[:80]!r} has a header that makes no sense")
        yield member
