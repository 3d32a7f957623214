"""The submodules that Keras 2 programs import layers from, such as `layers.core`.

Many of them are called otherwise here or hold fewer layers, so all layers are found in each.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_PATHS = ("advanced_activations", "embeddings", "merge", "noise", "wrappers")
FILES = ("convolutional", "core", "normalization", "pooling", "recurrent")  # those that are files here too


def open_older_paths(package: str) -> None:
    """Let every layer of the package be imported from every older path in it."""
    for path in _PATHS:
        name = f"{package}.{path}"
        sys.modules[name] = ModuleType(name, "Layers, under the path that Keras 2 programs know.")
        setattr(sys.modules[package], path, sys.modules[name])
        find_all_layers(name)


def find_all_layers(path: str) -> None:
    """Let all layers be found in the module of an older path; what is really there calls this at its end."""
    package = sys.modules[path.rpartition(".")[0]]

    def find(wanted: str) -> Any:
        if wanted not in vars(package).get("__all__", ()):
            raise AttributeError(f"{path} has no {wanted!r}.")
        return getattr(package, wanted)

    sys.modules[path].__getattr__ = find  # type: ignore[method-assign]
