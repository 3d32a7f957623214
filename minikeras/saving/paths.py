"""Paths of files, and writing that either finishes or leaves nothing behind."""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minikeras.utils.checks import ending

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says that takes no more
_EXCHANGE = 2  # of Linux's renameat2: what two paths lead to changes places at once
_LONGEST_NAME = 150  # bytes of a name that its partial file repeats, within the 255 that there are


class MissingFileError(FileNotFoundError, ValueError):
    """There is no file to read; Keras raises the one or the other, depending on the file's name."""


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
        MissingFileError: where there is none.
        ValueError: where it is a link to elsewhere.
    """
    path = folder / name
    if not path.is_file():
        raise MissingFileError(f"There is no file {str(path)!r}; copy or download the whole folder.")
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

    The new file has the mode of the old one, and its owner where that may be.  What processes that died while they
    wrote have left of this name is removed first.

    Raises:
        FileExistsError: where the file exists and must not be overwritten, or is a folder, a device or a pipe.
        FileNotFoundError: where the folder does not exist.
        OSError: where the disk is full, or nothing may be written there.
    """
    target = _target(path, overwrite)
    if target.exists() and not target.is_file():  # never a device, nor a pipe
        what = "a folder" if target.is_dir() else "no ordinary file"
        raise FileExistsError(f"{str(target)!r} is {what}, which no file replaces; choose another path.")
    old = target.stat() if target.exists() else None
    with _partial(target) as partial:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if old is None else 0o600))
        yield partial
        _flush(partial)
        if old is not None:
            _resemble(partial, old)
        os.replace(partial, target)


@contextmanager
def replacing_folder(path: Path, overwrite: bool, contents: Collection[str]) -> Iterator[Path]:
    """A new folder beside `path` to write to, which takes its place when the block ends well and vanishes otherwise.

    On Linux the two change places at once; elsewhere the old folder is moved aside a moment before.

    Args:
        path: the folder.
        overwrite: whether an existing folder is replaced.
        contents: the names that an existing folder may hold to be replaced, as what is not ours is not deleted.

    Raises:
        FileExistsError: where the folder exists and must not be overwritten, or holds something else.
        FileNotFoundError: where the folder above does not exist.
        OSError: where the disk is full.
    """
    target = _target(path, overwrite)
    others = sorted({one.name for one in target.iterdir()} - set(contents)) if target.is_dir() else []
    if others or (target.exists() and not target.is_dir()):
        what = f"holds {others[0]!r}" if others else "is a file"
        raise FileExistsError(f"The folder {str(target)!r} is not replaced, as it {what}; choose another path.")
    with _partial(target) as partial:
        partial.mkdir()
        yield partial
        for one in [*partial.rglob("*"), partial]:
            _flush(one)
        if not target.exists():
            os.replace(partial, target)
        elif not _exchange(partial, target):
            with _partial(target) as aside:
                os.replace(target, aside)
                os.replace(partial, target)


def _target(path: Path, overwrite: bool) -> Path:
    if path.exists() and not overwrite:
        raise FileExistsError(f"The file {str(path)!r} exists; pass overwrite=True or another path.")
    target = Path(os.path.realpath(path))  # through a link: the file is replaced, not the link
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(target.parent)!r} does not exist; create it first.")
    return target


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A path beside the target for what is not whole yet; whatever is there at the end is removed."""
    name = target.name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    _clear(target.parent, f".{name}.")
    partial = target.with_name(f".{name}.{_own_mark()}.{secrets.token_hex(3)}")
    try:
        yield partial
        with suppress(OSError):  # what has been renamed is safe when its folder is; not all systems can tell
            _flush(target.parent)
    except Exception as error:
        number = next((number for number in _FULL if _says(error, number)), None)
        if isinstance(error, OSError) and error.filename == str(partial) and error.errno is not None:
            number = error.errno  # of a file that the caller does not know
        if number is None:
            raise
        why = f"{str(target)!r} could not be written: {os.strerror(number)}; what was there is as it was."
        raise OSError(number, why) from error
    finally:
        _remove(partial)


def _says(error: Exception, number: int) -> bool:
    """Whether an error is that of the operating system, also in the words of HDF5."""
    return (isinstance(error, OSError) and error.errno == number) or os.strerror(number) in str(error)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _resemble(path: Path, old: os.stat_result) -> None:
    """Give a new file the owner, where that may be, and the mode of an old one."""
    if hasattr(os, "chown"):
        new = path.stat()
        for user, group in ((old.st_uid, -1), (-1, old.st_gid)):
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                with suppress(PermissionError):
                    os.chown(path, user, group)
    os.chmod(path, stat.S_IMODE(old.st_mode))


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places at once; False where the system cannot."""
    rename: Callable[..., int] | None = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    here = -100  # paths are not relative to an open folder
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE) == 0


# ---------------------------------------------------------------- what killed processes leave


@functools.cache
def _machine() -> tuple[str, str, float] | None:
    """This machine, this view of its processes since it started, and when that was; None where nobody tells (only
    Linux does).

    The same number is another process in another container, or after the machine has started again.
    """
    try:
        view = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
        begin = int(Path("/proc/stat").read_text().partition("\nbtime ")[2].split()[0])
        return _short(socket.gethostname()), _short(view), begin + _started(1) / os.sysconf("SC_CLK_TCK")
    except (OSError, LookupError, ValueError):
        return None


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _started(process: int) -> int:
    """When a process was started, in ticks since the machine was."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])


def _own_mark() -> str:
    """What tells this process from all others, in the name of what it writes."""
    machine = _machine()
    host, view, start = ("0", "0", 0) if machine is None else (*machine[:2], _started(os.getpid()))
    return f"{host}-{view}-{os.getpid():x}-{start:x}"


def _clear(folder: Path, begin: str) -> None:
    """Remove what dead processes have left in a folder under names that begin so."""
    marked = re.compile(re.escape(begin) + r"(\w+)-(\w+)-([0-9a-f]{1,8})-([0-9a-f]{1,16})\.[0-9a-f]{6}")
    with suppress(PermissionError):  # of a folder that may be written to, but not be listed
        for name in os.listdir(folder) if _machine() else ():
            if (found := marked.fullmatch(name)) and _is_dead(folder / name, *found.groups()):
                _remove(folder / name)


def _is_dead(path: Path, host: str, view: str, process: str, start: str) -> bool:
    """Whether the process that writes there is gone; what another machine writes is taken to be alive."""
    own_host, own_view, begin = _machine() or ("", "", 0.0)
    try:
        if host != own_host or view != own_view:  # the same host before it started again: nobody is left
            return host == own_host and path.lstat().st_mtime < begin
        os.kill(int(process, 16), 0)  # asks whether it is there
        return _started(int(process, 16)) != int(start, 16)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is somebody else's; it has been removed meanwhile
        return False
