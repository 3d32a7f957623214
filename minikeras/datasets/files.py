"""What datasets share: where their files are looked for, safe reading of `.npz` and JSON files, downloads."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minikeras import config
from minikeras.datasets import pickles
from minikeras.utils.bounded import DAMAGE, Zip, array_header, reason

STORE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # where Keras keeps its datasets
TIMEOUT = 30.0  # seconds without an answer after which a download is given up
_BLOCK = 1 << 18


def places(subfolder: str) -> Iterator[Path]:
    """Folders where a dataset's files may lie, in order: each of `config.dataset_folders()`, then its `subfolder`."""
    for folder in config.dataset_folders():
        yield folder
        yield folder / subfolder


def home(name: str) -> Path:
    """Where a download is kept: `~/.minikeras/datasets/name` (an absolute `name` stays as it is)."""
    return Path.home() / ".minikeras" / "datasets" / name


def find(path: str, subfolder: str) -> Path | None:
    """The file or folder `path`, absolute or in one of `places(subfolder)`; None where there is none."""
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        return wanted if wanted.exists() else None
    return next((place / wanted for place in places(subfolder) if (place / wanted).exists()), None)


def fetch(title: str, path: str, url: str, expected: str, subfolder: str = "", kept_in: str = "") -> Path:
    """The file `path` of a dataset, found on disk or else downloaded to `home(kept_in/path)`.

    Args:
        title: the name of the dataset.
        path: the name of the file, relative to `places(subfolder)`, or an absolute path, then the only place.
        url: where it is on the network.
        expected: its SHA-256 or MD5 sum there.

    Raises:
        FileNotFoundError: if there is no file and it cannot be downloaded.
    """
    found = find(path, subfolder)
    if found is not None:
        return found
    place = home(str(Path(kept_in) / Path(path).expanduser()))
    try:
        return download(url, place, expected)
    except OSError as error:
        raise FileNotFoundError(
            f"{title} is in none of {', '.join(map(str, config.dataset_folders()))} and could not be downloaded "
            f"from {url} ({error}); put {place.name} at {place}, or set MINIKERAS_DATASETS to the folder that has it."
        ) from error


def read_npz(path: Path, names: tuple[str, ...]) -> list[Any]:
    """Read the arrays `names` of an `.npz` file, never unpickling anything.

    Raises:
        ValueError: if the file is damaged, is no `.npz` file, lacks one of the arrays, or holds pickled objects.
    """
    return _read_arrays(path, names, _refuse)


def read_object_npz(path: Path, names: tuple[str, ...]) -> list[Any]:
    """Read the arrays `names` of an `.npz` file: numbers, or lists of whole numbers, read from restricted pickles.

    Raises:
        ValueError: if the file is damaged, is no `.npz` file, lacks one of the arrays, or holds other objects.
    """
    return _read_arrays(path, names, pickles.loads)


def _read_arrays(path: Path, names: tuple[str, ...], read_objects: Callable[[bytes], Any]) -> list[Any]:
    try:
        with Zip(path) as archive:
            missing = sorted({f"{name}.npy" for name in names}.difference(archive.namelist()))
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            return [_read_array(archive, f"{name}.npy", read_objects) for name in names]
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged or is not the right .npz file ({reason(error)}); replace or remove it."
        ) from error


def _read_array(archive: Zip, name: str, read_objects: Callable[[bytes], Any]) -> Any:
    with archive.member(name) as stream:
        _, dtype = array_header(stream, archive.getinfo(name).file_size, name)
        if not dtype.hasobject:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        content = read_objects(stream.read())
    if not isinstance(content, np.ndarray):
        raise ValueError(f"{name} should hold an array, got a {type(content).__name__}")
    return content


def _refuse(content: bytes) -> Any:
    raise ValueError("it holds objects, which allow_pickle=False refuses")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: if the file is damaged or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or is not JSON ({error}); replace or remove it.") from error


class WrongSum(OSError, ValueError):
    """A download whose SHA-256 or MD5 sum is not the expected one."""


def hasher(algorithm: str, expected: str | None = None) -> Any:
    """A new hash object: `"sha256"`, `"md5"`, or `"auto"` by the length of the expected sum.

    Raises:
        ValueError: for another algorithm.
    """
    if algorithm == "auto":
        algorithm = "md5" if expected is not None and len(expected) == 32 else "sha256"
    if algorithm not in ("sha256", "md5"):
        raise ValueError(f"hash_algorithm must be 'auto', 'sha256' or 'md5', got {algorithm!r}.")
    return hashlib.sha256() if algorithm == "sha256" else hashlib.md5(usedforsecurity=False)


def download(url: str, destination: Path, expected: str | None, algorithm: str = "auto") -> Path:
    """Fetch `url` into `destination`, which appears complete and checked or not at all.

    A progress line goes to the standard error stream.

    Args:
        url: an address that begins with `https:`, `http:` or `file:`.
        destination: the file to be written; its folder is made.
        expected: the SHA-256 or MD5 sum in hexadecimal digits, None for no check.
        algorithm: `"sha256"`, `"md5"`, or `"auto"` by the length of `expected`.

    Raises:
        WrongSum: if the sum is not the expected one; nothing is left behind.
        OSError: if the network or the disk says no; nothing is left behind.
        ValueError: for another kind of address.
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("https", "http", "file"):
        raise ValueError(f"A download needs an address that begins with https:, http: or file:, got {url!r}.")
    digest = hasher(algorithm, expected)
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    live = _on_terminal()
    _tell(f"Downloading {url}", end="" if live else "\n")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(partial, "wb") as file:
            announced = response.headers.get("Content-Length") or ""
            total = int(announced) if announced.isdecimal() else 0
            if total > (free := shutil.disk_usage(destination.parent).free):
                raise OSError(f"it has {total} bytes, the disk has room for {free}")
            while block := response.read(_BLOCK):
                file.write(block)
                digest.update(block)
                if live:
                    share = f" ({100 * file.tell() // total} %)" if total else ""
                    _tell(f"\rDownloading {url} {file.tell() / 1e6:.1f} MB{share}", end="")
            if file.tell() < total:
                raise OSError(f"the transfer broke off after {file.tell()} of {total} bytes")
        if expected is not None and digest.hexdigest() != expected.lower():
            raise WrongSum(
                f"the {_TITLES[digest.name]} sum of the download is {digest.hexdigest()}, expected {expected}"
            )
        os.replace(partial, destination)
    except http.client.HTTPException as error:
        raise OSError(f"the transfer broke off: {error!r}") from error
    finally:
        partial.unlink(missing_ok=True)
        if live:
            _tell("")
    return destination


_TITLES = {"sha256": "SHA-256", "md5": "MD5"}


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, or one that knows no terminals; a closed file
        return False


def _tell(text: str, end: str = "\n") -> None:
    """Write to the standard error stream, where there is one that takes it."""
    try:
        if sys.stderr is not None:
            print(text, end=end, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a broken pipe; a closed file
        return
