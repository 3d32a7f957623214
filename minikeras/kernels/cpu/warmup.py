"""All compiled kernels at once, for those who want to wait now rather than later."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from minikeras.kernels import cpu
from minikeras.kernels.cpu import jit


def kernels() -> list[jit.CFunction]:
    """Every function of C that this host can use, in the order of their places."""
    names = [f"{cpu.__name__}.{module.name}" for module in pkgutil.iter_modules(cpu.__path__)]
    modules = [importlib.import_module(name) for name in names]
    if jit.tile() is None:  # without its vector registers
        modules = [module for module in modules if "tile" not in vars(module) and not module.__name__.endswith(".tile")]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, jit.CFunction)}
    if jit.tile() is None:  # a module may have both kinds
        found = {function for function in found if not _uses_tile(function)}
    return sorted(found, key=lambda function: function.place)


def _uses_tile(function: jit.CFunction) -> bool:
    """Whether a function is one of the tile's or calls one."""
    return function.place.startswith("tile.") or any(_uses_tile(called) for called in function._calls())


def folder_of_code() -> Path | None:
    """Where the machine code of the kernels lies, or None where it could not be kept."""
    place = kernels()[0].place
    return next((folder for folder in jit._folders() if (folder / f"{place}.code").is_file()), None)
