"""Files from the network: fetched once, checked, unpacked."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

from minikeras import config
from minikeras.datasets import files
from minikeras.tracebacks import user_facing
from minikeras.training.data import PyDataset
from minikeras.utils import archives
from minikeras.utils.console import announce
from minikeras.utils.enqueuers import GeneratorEnqueuer, OrderedEnqueuer, SequenceEnqueuer

Sequence = PyDataset  # Keras 2 has it here

__all__ = [
    "GeneratorEnqueuer",
    "OrderedEnqueuer",
    "PyDataset",
    "Sequence",
    "SequenceEnqueuer",
    "get_file",
    "hash_file",
    "validate_file",
]


@user_facing
def get_file(
    fname: Any = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: Any = "auto",
    cache_dir: Any = None,
    force_download: bool = False,
) -> str:
    """The path of a file from the network, which is fetched where it is not yet in the cache.

    The file, and the folder of an archive's content, appear complete and checked or not at all.

    Args:
        fname: the name of the file in the cache, without folders; by default (None) that of `origin`.
        origin: an address that begins with `https:`, `http:` or `file:`.
        untar: as `extract`, for a tar archive.
        md5_hash: the MD5 sum; `file_hash` is preferred.
        file_hash: the SHA-256 sum of the file, or its MD5 sum.  A file in the cache with another sum is fetched again.
        cache_subdir: the folder in the cache; an absolute path stands for itself.
        hash_algorithm: `"sha256"`, `"md5"`, or `"auto"` by the length of the sum.
        extract: whether to unpack an archive (see `utils.archives.unpack`): to the folder `NAME_extracted` for an
            `fname` of `NAME.tar.gz`, to the folder `fname` for one without a dot, and the archive is kept beside.
        archive_format: `"tar"`, `"zip"`, a list of these, `"auto"` for both, or None for none.
        cache_dir: the cache; by default `$KERAS_HOME`, or `~/.keras`, or where that cannot be written to a folder of
            the user's own among the temporary files.
        force_download: fetch the file in any case.

    Returns:
        The path of the file, or of the folder of its content.

    Raises:
        ValueError: without `origin`, for an `fname` with folders, for another sum than the expected one, or for an
            archive that is damaged or puts files outside of its folder.
        OSError: if the network or the disk says no.

    >>> import minikeras as keras
    >>> import os, tempfile
    >>> os.environ["KERAS_HOME"] = tempfile.mkdtemp()
    >>> folder = os.path.join(os.environ["KERAS_HOME"], "datasets")
    >>> os.makedirs(folder)
    >>> _ = open(os.path.join(folder, "a.txt"), "w").write("here")
    >>> os.path.basename(keras.utils.get_file("a.txt", "https://example.com/a.txt"))
    'a.txt'
    """
    if origin is None:
        raise ValueError("get_file needs the address of the file, got origin=None; pass origin='https://...'.")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    given = os.fspath(fname) if fname else ""
    name = given or os.path.basename(urllib.parse.urlsplit(origin).path)
    if not name:
        raise ValueError(f"The address {origin!r} ends without the name of a file; pass fname.")
    if os.sep in name or name in (".", "..") or (os.altsep and os.altsep in name):
        raise ValueError(f"Paths are not accepted as fname, got {name!r}; name its folder by cache_dir.")
    folder = _cache(cache_dir) / os.path.expanduser(cache_subdir)
    extract = extract or untar
    file, content = folder / name, folder
    if extract and "." in given:
        content = folder / f"{name[: name.index('.')]}_extracted"
    elif extract:
        file, content = folder / f"{name}_archive", folder / name
    if content.is_file():
        raise ValueError(f"The archive cannot be unpacked to {content}, which is a file; pass another fname.")
    missing = force_download or not _is_valid(file, file_hash, hash_algorithm)
    if missing:
        try:
            files.download(origin, file, file_hash, hash_algorithm)
        except urllib.error.HTTPError as error:
            raise OSError(f"{origin} could not be fetched: {error.code} {error.msg}") from error
        except files.WrongSum as error:
            raise files.WrongSum(f"Incomplete or corrupted file: {error}.") from None
        except OSError as error:
            raise OSError(f"{origin} could not be fetched: {getattr(error, 'reason', error)}") from error
    if not extract:
        return str(file)
    if (missing or not content.exists()) and not archives.unpack(file, content, "tar" if untar else archive_format):
        warnings.warn(f"{file} is not an archive of the format {archive_format!r}; nothing was unpacked.", stacklevel=2)
    return str(content)


def _cache(cache_dir: Any) -> Path:
    """The folder of the cache, made where it is missing."""
    folder = Path(cache_dir).expanduser() if cache_dir is not None else config.keras_home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        if cache_dir is not None:
            raise
    if cache_dir is not None:
        raise PermissionError(f"The cache folder {folder} cannot be written to; choose another cache_dir.")
    # nobody else may put files there that would be taken for those of the cache
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"keras-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (folder.is_symlink() or folder.stat().st_uid != user):
        raise PermissionError(f"{folder} belongs to somebody else; choose a cache_dir.")
    return folder


def _is_valid(file: Path, file_hash: str | None, algorithm: str) -> bool:
    """Whether the cache has the file, with that sum."""
    files.hasher(algorithm, file_hash)
    if not file.exists():
        return False
    if file_hash is None or validate_file(file, file_hash, algorithm):
        return True
    announce(f"{file} has another sum than {file_hash}: it is incomplete or outdated, and is fetched again.")
    return False


def hash_file(fpath: Any, algorithm: Any = "sha256", chunk_size: int = 65535) -> str:
    """The SHA-256 or MD5 sum of a file, in hexadecimal digits.

    Args:
        fpath: the path of the file.
        algorithm: `"sha256"`, `"auto"` for the same, `"md5"`, or a new hash object of `hashlib`.
        chunk_size: bytes that are read at once.
    """
    digest = files.hasher(algorithm) if isinstance(algorithm, str) else algorithm
    with open(fpath, "rb") as file:
        while block := file.read(chunk_size):
            digest.update(block)
    return digest.hexdigest()


_hash_file = hash_file  # Keras 2's name


def validate_file(fpath: Any, file_hash: str, algorithm: str = "auto", chunk_size: int = 65535) -> bool:
    """Whether a file has a SHA-256 or MD5 sum.

    Args:
        fpath: the path of the file.
        file_hash: the expected sum, in hexadecimal digits.
        algorithm: `"sha256"`, `"md5"`, or `"auto"` by the length of the sum.
        chunk_size: bytes that are read at once.
    """
    return hash_file(fpath, files.hasher(algorithm, file_hash), chunk_size) == file_hash.lower()
