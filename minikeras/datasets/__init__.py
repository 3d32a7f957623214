"""Datasets as NumPy arrays: `mnist` is found on disk or downloaded, `digits` is drawn by this package."""

import importlib
from typing import Any

__all__ = ["digits", "mnist"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
