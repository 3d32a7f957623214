"""The submodules that Keras 2 programs import layers from, such as `layers.core`.

Many of them are called otherwise here or hold fewer layers, so all layers are found in each.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_PATHS = (
    *("advanced_activations", "convolutional", "core", "embeddings", "merge", "noise", "normalization", "pooling"),
    *("recurrent", "wrappers"),
)


def open_older_paths(package: str, layers: dict[str, Any]) -> None:
    """Let these layers, by name, be imported from every older path in the package."""
    for path in _PATHS:
        _open(package, path, layers)


def _open(package: str, path: str, layers: dict[str, Any]) -> None:
    name = f"{package}.{path}"

    def find(wanted: str) -> Any:
        if wanted not in layers:
            raise AttributeError(f"{name} has no {wanted!r}.")
        return layers[wanted]

    if name not in sys.modules:
        sys.modules[name] = ModuleType(name, "Layers, under the path that Keras 2 programs know.")
        setattr(sys.modules[package], path, sys.modules[name])
    sys.modules[name].__getattr__ = find  # type: ignore[method-assign]
