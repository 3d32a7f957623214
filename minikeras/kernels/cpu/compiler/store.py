"""Machine code kept in files: each holds the digest of what follows, the stamp of what it was made of, and the code."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

_DIGEST = 32
KERNELS = Path(__file__).parents[2]


@lru_cache(maxsize=1)
def folders() -> list[Path]:
    """Where compiled code may lie, the best place first: as Numba chooses it."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    cache = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return [Path(__file__).parents[1] / "__pycache__", Path(os.path.expanduser(cache)) / "minikeras"]


@lru_cache(maxsize=64)
def stamp_of(module: str, machine: str) -> bytes:
    """What a function's machine code depends on: its module, the kernels' sources, the processor and the compiler."""
    digest, found = _common_stamp(machine)
    own = getattr(sys.modules[module], "__file__", None)
    if own is None or Path(own) in found:
        return digest
    return hashlib.sha256(digest + Path(own).read_bytes()).digest()


@lru_cache(maxsize=1)
def _common_stamp(machine: str) -> tuple[bytes, list[Path]]:
    """The stamp of a function among the kernels, and the sources that its constants may come from."""
    found = sources()
    digest = hashlib.sha256(machine.encode())
    for source in found:
        digest.update(source.read_bytes())
    return digest.digest(), found


def sources() -> list[Path]:
    """Those of the kernels: compiled functions have constants of the reference in them, and of no other room."""
    return sorted(KERNELS.rglob("*.py"))


def read(place: str, stamp: bytes) -> bytes | None:
    """Kept code, or None where there is none for this stamp or it is damaged."""
    for folder in folders():
        try:
            content = (folder / f"{place}.code").read_bytes()
        except OSError:
            continue
        digest, rest = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(rest).digest() == digest and rest.startswith(stamp):
            return rest[len(stamp) :]
    return None


def write(place: str, stamp: bytes, code: bytes) -> None:
    """Keep code in the first folder that takes it; without one, every process compiles anew."""
    content = stamp + code
    content = hashlib.sha256(content).digest() + content
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:  # goes whatever happens
                new = Path(temporary) / "code"
                new.write_bytes(content)
                os.replace(new, folder / f"{place}.code")  # at once: another process may be reading
            return
        except OSError:  # full or not writable: the next one
            continue
