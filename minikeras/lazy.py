"""Modules that are loaded when something of them is first asked for: what takes a while and is seldom wanted."""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """Stands for a module until it is needed: `drawing = Lazy("minikeras.callbacks.curves")`, `drawing.draw(...)`."""

    def __init__(self, module: str):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)
