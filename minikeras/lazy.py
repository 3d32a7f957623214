"""Modules that are loaded when something of them is first asked for: what takes a while and is seldom wanted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

_FEW = 12  # names that a message lists
_OURS = {"TYPE_CHECKING", "annotations", "public_names"}  # what such a package needs itself


class LazyModule:
    """Stands for a module until something of it is used: `drawing = LazyModule("minikeras.callbacks.curves")`."""

    def __init__(self, module: str):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


def public_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names are found elsewhere when they are first asked for (PEP 562).

    Args:
        package: its name.
        homes: for each name the module that it stands for, or `"module:name"` for something in a module.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            known = f"; it has {', '.join(homes)}." if 1 < len(homes) <= _FEW else "."
            raise AttributeError(f"module {package!r} has no attribute {name!r}{known}")
        module, _, attribute = homes[name].partition(":")
        value = importlib.import_module(module)
        if attribute:
            value = getattr(value, attribute)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        here = vars(sys.modules[package])
        return sorted({*here.get("__all__", here.keys() - _OURS), *homes})

    return __getattr__, __dir__
