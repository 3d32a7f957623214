"""What datasets share: where their files are looked for, safe reading of `.npz` and IDX files, checked downloads."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import sys
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minikeras import config

TIMEOUT = 30.0  # seconds without an answer after which a download is given up
_BLOCK = 1 << 18
# What reading a damaged file raises; a file that may not be read keeps its own PermissionError.
_DAMAGE = (
    ValueError, EOFError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, RuntimeError, OverflowError, MemoryError
)  # fmt: skip


def places(subfolder: str) -> Iterator[Path]:
    """Folders where a dataset's files may lie, in order: each of `config.dataset_folders()`, then its `subfolder`."""
    for folder in config.dataset_folders():
        yield folder
        yield folder / subfolder


def home(name: str) -> Path:
    """Where a download is kept: `~/.minikeras/datasets/name` (an absolute `name` stays as it is)."""
    return Path.home() / ".minikeras" / "datasets" / name


def read_npz(path: Path, names: tuple[str, ...]) -> list[Any]:
    """Read the arrays `names` of an `.npz` file, never unpickling anything.

    Raises:
        ValueError: if the file is damaged, is no `.npz` file, lacks one of the arrays, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = sorted({f"{name}.npy" for name in names}.difference(archive.namelist()))
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            return [np.lib.format.read_array(archive.open(f"{name}.npy"), allow_pickle=False) for name in names]
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged or is not the right .npz file ({error}); replace or remove it.") from error


def read_idx(path: Path) -> Any:
    """Read an IDX file of unsigned bytes, plain or compressed by gzip (told by its content, not by its name).

    The format: two zero bytes, the type (8 for unsigned bytes), the rank, each dimension as a big-endian 32-bit
    integer, then the values in C order.

    Raises:
        ValueError: if the file is damaged, is no IDX file, or its length is not the one its header announces.
    """
    with open(path, "rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open if compressed else open)(path, "rb") as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08":
                raise ValueError(f"it begins with {magic!r}")
            shape = tuple(np.frombuffer(stream.read(4 * magic[3]), ">u4").tolist())
            size = math.prod(shape)
            values = np.frombuffer(stream.read(size + 1), np.uint8)  # one more, to notice a longer file
        if len(shape) != magic[3] or values.size != size:
            raise ValueError(f"its header announces {size} values of shape {shape}, it holds another number")
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged or is not an IDX file ({error}); replace or remove it.") from error
    return values.reshape(shape).copy()  # a copy can be written to


def download(url: str, destination: Path, sha256: str) -> Path:
    """Fetch `url` into `destination`, which appears complete and checked or not at all.

    A progress line goes to the standard error stream.

    Raises:
        OSError: if the network, the disk or the SHA-256 sum says no; nothing is left behind.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    digest = hashlib.sha256()
    live = sys.stderr.isatty()
    print(f"Downloading {url}", end="" if live else "\n", file=sys.stderr, flush=True)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(partial, "wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                if live:
                    share = f" ({100 * file.tell() // total} %)" if total else ""
                    print(f"\rDownloading {url} {file.tell() / 1e6:.1f} MB{share}", end="", file=sys.stderr, flush=True)
        if digest.hexdigest() != sha256:
            raise OSError(f"the SHA-256 sum of the download is {digest.hexdigest()}, expected {sha256}")
        os.replace(partial, destination)
    except http.client.HTTPException as error:
        raise OSError(f"the transfer broke off: {error!r}") from error
    finally:
        partial.unlink(missing_ok=True)
        if live:
            print(file=sys.stderr)
    return destination
