"""Names of older Keras versions, as in `keras._legacy`: each submodule is loaded when somebody asks for it."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    path = f"{__name__}.{name}"
    if name.startswith("_") or importlib.util.find_spec(path) is None:
        raise AttributeError(f"minikeras._legacy has no {name!r}.")
    return importlib.import_module(path)
