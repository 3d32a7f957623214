"""Models: Sequential, functional, subclassed."""

import importlib
from typing import TYPE_CHECKING, Any

from minikeras.models.description import clone_model, model_from_config, model_from_json
from minikeras.models.model import Functional, Model
from minikeras.models.sequential import Sequential
from minikeras.registry import builtin

builtin("keras", Sequential, Model)
builtin("keras.models", Sequential, Model)
for _module in ("keras.src.models.functional", "keras.src.engine.functional", "keras.engine.functional"):
    builtin(_module, Functional)

__all__ = ["Functional", "Model", "Sequential", "clone_model", "model_from_config", "model_from_json"]


if not TYPE_CHECKING:  # type checkers would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name in (
            "load_model",
            "save_model",
        ):  # Keras has them here too; opened when a file is wanted
            return getattr(importlib.import_module("minikeras.saving"), name)
        raise AttributeError(f"minikeras.models has no {name!r}.")


if TYPE_CHECKING:
    from minikeras.saving import load_model as load_model
    from minikeras.saving import save_model as save_model
