"""All compiled kernels at once, for those who want to wait now rather than later."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from minikeras.kernels import cpu
from minikeras.kernels.cpu.compiler import CFunction, host, processor, store
from minikeras.kernels.cpu.compiler.processor import Target


def kernels() -> list[CFunction]:
    """Every function of C that this host can use, in the order of their places."""
    names = [module.name for module in pkgutil.walk_packages(cpu.__path__, f"{cpu.__name__}.")]
    modules = [importlib.import_module(name) for name in names if name.rpartition(".")[2] not in ("llvm", "translate")]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, CFunction)}
    if not host.HAS_VECTORS:
        found = {function for function in found if not _uses_tile(function)}
    return sorted(found, key=lambda function: function.place)


def _uses_tile(function: CFunction) -> bool:
    """Whether a function is one of the tile's or calls one."""
    return ".tile." in function.function.__module__ or any(map(_uses_tile, function.calls()))


def codes(names: Sequence[str]) -> Iterator[tuple[Target, CFunction, bytes]]:
    """The machine code of every function that a processor of some families can use, one after the other.

    Args:
        names: of families, or `"native"` for this processor.
    """
    for name in names:
        target = host.native() if name == "native" else processor.FAMILIES[name]
        host.use(target)
        try:
            for function in kernels():
                yield target, function, function.code() if name == "native" else function.translate()
        finally:
            host.use(None)


def folder_of_code() -> Path | None:
    """Where the machine code of the kernels lies, or None where it could not be kept."""
    place = kernels()[0].place
    return next((folder for folder in store.folders() if (folder / f"{place}.code").is_file()), None)
