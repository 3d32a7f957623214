"""Modules and names that are loaded when they are first asked for.

What a package offers is written once, in its stub: `layers/__init__.pyi` has a line `from minikeras.layers.core import
Dense as Dense` for each name.  Type checkers and editors read it, and `homes` does: a name is loaded from there.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_FEW = 12  # names that a message lists
_OFFER = re.compile(r"^from (\S+) import (\w+) as (\w+)|^(\w+) = (\w+)", re.MULTILINE)


class LazyModule:
    """Stands for a module until something of it is used: `drawing = LazyModule("minikeras.callbacks.curves")`."""

    def __init__(self, module: str):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


def text_of(module: str, name: str) -> str:
    """The text of a file beside a module, empty where there is none; the package may lie in an archive or a program."""
    known = sys.modules[module]
    path = Path(str(known.__file__)).with_name(name)
    try:
        content: bytes = known.__loader__.get_data(str(path))  # type: ignore[union-attr]
    except OSError:
        return ""
    return content.decode("utf-8").replace("\r\n", "\n")


@functools.cache
def homes(package: str) -> Mapping[str, str]:
    """What the stub of a module offers: for each name its module, or `"module:name"`; nothing where there is none."""
    stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi")
    text = text_of(package, stub.name)
    found: dict[str, str] = {}
    for module, name, offered, alias, known in _OFFER.findall(text):
        inside = "." if module == package.removesuffix(f".{stub.stem}") else ":"
        found[offered or alias] = f"{module}{inside}{name}" if module else found[known]
    return {name: home for name, home in found.items() if name[0] != "_" or home.endswith(f".{name}")}


def public_names(
    package: str, more: Mapping[str, str] | None = None, owners: tuple[str, ...] = (), hidden: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a module: names that are found elsewhere when they are first asked for (PEP 562).

    `dir` shows these and the module's `__all__`, or without that what is defined in the module.  A name of Keras that
    is not part of minikeras says so, to `import` as well.

    Args:
        package: the module's name.
        more: further names beside those of the module's stub, with their `homes`, which `dir` shows too.
        owners: the modules in which what it offers is defined, default itself.
        hidden: what is defined there for other modules only, the names with blanks between.
    """
    if homes(package):
        vars(sys.modules[package])["__all__"] = sorted(homes(package))
    offered = {**homes(package), **(more or {})}

    def __getattr__(name: str) -> Any:
        if name not in offered:
            names = vars(sys.modules[package]).get("__all__", offered)
            known = f"; it has {', '.join(names)}." if 0 < len(names) <= _FEW else "."
            remedy = None if name[:1] == "_" else _remedy(f"{package}.{name}")
            if remedy is not None and _is_import(sys._getframe(1)):
                raise ImportError(remedy)
            raise AttributeError(remedy or f"module {package!r} has no attribute {name!r}{known}")
        module, _, attribute = offered[name].partition(":")
        value = importlib.import_module(module)
        if attribute:
            value = getattr(value, attribute)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        here = vars(sys.modules[package])
        own = here.get("__all__") or [name for name in here if name[0] != "_" and _is_own(here[name])]
        return sorted({*own, *offered} - {*hidden.split()})

    def _is_own(value: Any) -> bool:
        home = None if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        return isinstance(home, str) and any(f"{home}.".startswith(f"{one}.") for one in owners or (package,))

    return __getattr__, __dir__


def offer_names(package: str, *, owners: tuple[str, ...] = (), hidden: str = "") -> None:
    """Give a module the `__getattr__` and `__dir__` of `public_names`, at its end.

    Type checkers, which would take any name for one that is there, do not see it.
    """
    find, show = public_names(package, None, owners, hidden)
    vars(sys.modules[package]).update(__getattr__=find, __dir__=show)


def _remedy(name: str) -> str | None:
    return importlib.import_module("minikeras.elsewhere").remedy_for(name)


def _is_import(frame: FrameType) -> bool:
    """Whether a frame is in the middle of `from module import name`, where only an ImportError is shown as it is."""
    opcodes = importlib.import_module("opcode").opmap
    return frame.f_code.co_code[frame.f_lasti] == opcodes["IMPORT_FROM"]


class _Missing:
    """A last finder of modules: `import minikeras.quantizers` says what `minikeras.quantizers` says."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith("minikeras."):
            remedy = _remedy(name)
            if remedy is not None:
                raise ModuleNotFoundError(remedy, name=name)


sys.meta_path.append(_Missing)  # type: ignore[arg-type]
