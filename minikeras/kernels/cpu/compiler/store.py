"""Machine code kept in files: each holds the digest of what follows, the stamp of what it was made of, and the code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

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
    """What a function's machine code depends on: its module, the kernels, the processor and the compiler."""
    own = getattr(sys.modules[module], "__file__", None)
    digest = hashlib.sha256(f"{machine} {_compiler()} {digest_of_kernels()}".encode())
    if own is not None and not Path(own).is_relative_to(KERNELS):
        digest.update(Path(own).read_bytes() if os.path.isfile(own) else _words(_code_of(module)).encode())
    return digest.digest()


@lru_cache(maxsize=1)
def digest_of_kernels() -> str:
    """That of their sources: compiled functions have constants of the reference in them, and of no other room.

    Where there are none (in a frozen program, or a zip file), of their code.
    """
    digest = hashlib.sha256()
    for source in sources():
        digest.update(source.read_bytes())
    if not sources():
        package = importlib.import_module("minikeras.kernels")
        for module in pkgutil.walk_packages(package.__path__, "minikeras.kernels."):
            digest.update(_words(_code_of(module.name)).encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def sources() -> list[Path]:
    """Those of the kernels."""
    return sorted(KERNELS.rglob("*.py"))


def version() -> str:
    """That of minikeras."""
    return str(sys.modules["minikeras"].__version__)


def _code_of(module: str) -> Any:
    return importlib.util.find_spec(module).loader.get_code(module)  # type: ignore[union-attr]


def _words(code: Any) -> str:
    """A code object as text: what it does and what it names, whatever the run."""
    if isinstance(code, frozenset):  # whose order is another one in every process
        return str(sorted(map(repr, code)))
    if not hasattr(code, "co_code"):
        return repr(code)
    return repr((code.co_name, code.co_code, code.co_names, code.co_varnames, [*map(_words, code.co_consts)]))


@lru_cache(maxsize=1)
def _compiler() -> str:
    """The version of the compiler, without importing it."""
    spec = importlib.util.find_spec("llvmlite")
    text = Path(str(spec and spec.origin)).with_name("_version.py")
    return text.read_text("utf-8") if text.is_file() else ""


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
