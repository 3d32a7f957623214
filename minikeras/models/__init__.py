"""Models: Sequential, functional, subclassed."""

import importlib
from typing import Any

from minikeras.models.description import clone_model, model_from_config, model_from_json
from minikeras.models.model import Functional, Model
from minikeras.models.sequential import Sequential
from minikeras.registry import builtin

builtin("keras", Sequential, Model)
builtin("keras.models", Sequential, Model)
for _module in ("keras.src.models.functional", "keras.src.engine.functional", "keras.engine.functional"):
    builtin(_module, Functional)

__all__ = ["Functional", "Model", "Sequential", "clone_model", "model_from_config", "model_from_json"]


def __getattr__(name: str) -> Any:
    if name in ("load_model", "save_model"):  # Keras has them here too; the room below is opened when a file is wanted
        return getattr(importlib.import_module("minikeras.saving"), name)
    raise AttributeError(f"minikeras.models has no {name!r}.")
