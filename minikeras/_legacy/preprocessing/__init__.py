"""Keras 3's other names for the modules of `minikeras.preprocessing`."""

from importlib import import_module
from typing import Any

_MODULES = ("image", "sequence", "text")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
