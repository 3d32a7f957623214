"""Where Keras 3 keeps what it no longer documents; here these are names of what is public."""

from importlib import import_module
from typing import Any

_HOMES = {"backend": "minikeras.backend", "preprocessing": "minikeras._legacy.preprocessing"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return import_module(_HOMES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
