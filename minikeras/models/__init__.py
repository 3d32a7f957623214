"""Models: Sequential, functional, subclassed."""

from typing import TYPE_CHECKING

from minikeras.lazy import public_names
from minikeras.models.description import clone_model, model_from_config, model_from_json
from minikeras.models.model import Functional, Model
from minikeras.models.sequential import Sequential
from minikeras.registry import builtin

builtin("keras", Sequential, Model)
builtin("keras.models", Sequential, Model)
for _module in ("keras.src.models.functional", "keras.src.engine.functional", "keras.engine.functional"):
    builtin(_module, Functional)

__all__ = ["Functional", "Model", "Sequential", "clone_model", "model_from_config", "model_from_json"]


if TYPE_CHECKING:
    from minikeras.saving import load_model as load_model
    from minikeras.saving import save_model as save_model
else:  # Keras has them here too; the room below is opened when a file is wanted
    _LATER = ("load_model", "save_model")
    __getattr__, __dir__ = public_names(__name__, {name: f"minikeras.saving:{name}" for name in _LATER})
