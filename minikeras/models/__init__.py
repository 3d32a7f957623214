"""Models: Sequential, functional, subclassed."""

from minikeras.models.model import Functional, Model
from minikeras.models.sequential import Sequential
from minikeras.registry import builtin

builtin("keras", Sequential, Model)
builtin("keras.models", Sequential, Model)
builtin("keras.src.models.functional", Functional)

__all__ = ["Functional", "Model", "Sequential"]
