"""Archives of machine code: a zip file with all kernels for some families of processors, for hosts without a compiler.

It is the file that the user names (`config.set_kernels`, `MINIKERAS_KERNELS`), or else `kernels.zip` in the package.
Its manifest says what it was made of and for; digests show damage.  They do not show who made it: machine code from a
file is run as it is, so an archive is to be trusted like a library.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipimport
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from minikeras import config
from minikeras.kernels.cpu.compiler import loader, processor, store
from minikeras.kernels.cpu.compiler.processor import SYSTEM, Target

BESIDE = store.KERNELS.parent / "kernels.zip"
_FORMAT = 1


class Archive:
    """Machine code in a file, for this processor.

    Raises:
        RuntimeError: it cannot be used here.
        ForOthers: what it has is for other systems or processors.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise self._refused("there is no such file")
        try:
            self._file = zipimport.zipimporter(str(self.path))
            self._file.invalidate_caches()  # another file may have lain there
            digest, text = self._file.get_data("digest"), self._file.get_data("manifest.json")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                raise ValueError("the manifest is damaged")
            manifest = json.loads(text)
            form, system, version, sources = (manifest[key] for key in ("format", "system", "version", "sources"))
            families: dict[str, Any] = manifest["families"]
        except Exception as error:  # of a damaged file, zipimport raises whatever its parts do
            raise self._refused("it is damaged or no archive of kernels") from error
        if system != SYSTEM or not loader.OWN:
            raise ForOthers(self._refused(f"it is for {system}, and this is {SYSTEM}"))
        own = store.digest_of_kernels() if store.sources() else sources  # a frozen program has none
        if (form, version, sources) != (_FORMAT, store.version(), own):
            raise self._refused(f"it was made of other kernels (minikeras {version}) than are here ({store.version()})")
        fitting = [one for one in families if processor.features().issuperset(families[one]["features"])]
        if not fitting:
            lacking = {one: sorted({*families[one]["features"]} - processor.features()) for one in families}
            why = "; ".join(f"for {one} this processor lacks {', '.join(lacking[one])}" for one in lacking)
            raise ForOthers(self._refused(why))
        self._family = max(fitting, key=lambda one: len(families[one]["features"]))
        self._digests: Mapping[str, str] = families[self._family]["kernels"]
        self.target = Target(self._family, frozenset(families[self._family]["features"]))

    def _refused(self, why: str) -> RuntimeError:
        return RuntimeError(
            f"The machine code in {self.path} cannot be used: {why}; make it anew with python -m minikeras warmup "
            f"--output {self.path}, or delete it."
        )

    def code(self, symbol: str) -> bytes | None:
        """The machine code of a function, or None where the archive has none."""
        if symbol not in self._digests:
            return None
        try:
            code: bytes = self._file.get_data(os.path.join(self._family, symbol))
        except Exception as error:
            raise self._refused("it is damaged") from error
        if hashlib.sha256(code).hexdigest() != self._digests[symbol]:
            raise self._refused("it is damaged")
        return code


class ForOthers(RuntimeError):
    """An archive may be sound, but has nothing for this machine."""


_used = False


def active() -> Archive | None:
    """The archive whose machine code this process runs, if any; from now on it is this one."""
    global _used
    _used = True
    return found()


@lru_cache(maxsize=1)
def found() -> Archive | None:
    """The archive that is to be used.

    Raises:
        RuntimeError: the one that the user named cannot be used.  (The package's is passed over, with a warning where
            that is no matter of the processor.)
    """
    chosen = config.kernels()
    if chosen:
        return None if chosen == "none" else Archive(chosen)
    try:
        return Archive(BESIDE) if BESIDE.is_file() else None
    except ForOthers:
        return None
    except RuntimeError as error:
        warnings.warn(str(error), stacklevel=2)
        return None


def change() -> None:
    """Look again which archive is to be used.

    Raises:
        RuntimeError: it cannot be used, or one is in use.
    """
    if _used:
        raise RuntimeError("Machine code is in use already, so config.set_kernels() comes too late; call it first.")
    found.cache_clear()
    found()


def write(path: Path, codes: Mapping[Target, Mapping[str, bytes]]) -> None:
    """Make an archive of the machine code of functions, by target and symbol."""
    import tempfile
    import zipfile

    manifest = {
        "format": _FORMAT,
        "version": store.version(),
        "sources": store.digest_of_kernels(),
        "system": SYSTEM,
        "families": {
            target.name: {
                "features": sorted(target.features),
                "kernels": {symbol: hashlib.sha256(code).hexdigest() for symbol, code in of_target.items()},
            }
            for target, of_target in codes.items()
        },
    }
    text = json.dumps(manifest, indent=1).encode()
    members = {"manifest.json": text, "digest": hashlib.sha256(text).hexdigest().encode()}
    for target, of_target in codes.items():
        members |= {f"{target.name}/{symbol}": code for symbol, code in of_target.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # goes whatever happens
        new = Path(folder) / "kernels.zip"
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # of no date: the same bytes again
        os.replace(new, path)
