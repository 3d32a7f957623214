"""minikeras: a lightweight Keras, written from scratch.

Whoever knows Keras needs no manual: `import minikeras as keras` runs their program.  Importing this imports NumPy and
little else; each room opens at first need (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikeras.lazy import public_names

__version__ = "0.1.0"

_ROOMS = (
    "_legacy",
    "activations",
    "applications",
    "autodiff",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "data",
    "datasets",
    "dtype_policies",
    "initializers",
    "kernels",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
    "wrappers",
)

# public name -> room, with the name that it has there if that is another
_NAMES = {
    "GradientTape": "ops.operators",
    "KerasTensor": "autodiff",
    "Variable": "ops.operators",
    "grad": "ops.operators",
    "value_and_grad": "ops.operators",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Function": "models.function",
    "Model": "models",
    "Operation": "layers.operation",
    "Sequential": "models",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "DTypePolicy": "config",
    "device": "config:device_scope",
    "FloatDTypePolicy": "config",
    "name_scope": "layers.context",
}

__all__ = ["__version__", "version", *(room for room in _ROOMS if room[0] != "_"), *_NAMES]


if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    _homes = {room: f"minikeras.{room}" for room in _ROOMS}
    for _name, _home in _NAMES.items():
        _homes[_name] = f"minikeras.{_home}" if ":" in _home else f"minikeras.{_home}:{_name}"
    __getattr__, __dir__ = public_names(__name__, _homes)


def version() -> str:
    """The version of minikeras."""
    return __version__


if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras import _legacy as _legacy
    from minikeras import activations as activations
    from minikeras import applications as applications
    from minikeras import autodiff as autodiff
    from minikeras import backend as backend
    from minikeras import callbacks as callbacks
    from minikeras import config as config
    from minikeras import constraints as constraints
    from minikeras import data as data
    from minikeras import datasets as datasets
    from minikeras import dtype_policies as dtype_policies
    from minikeras import initializers as initializers
    from minikeras import kernels as kernels
    from minikeras import layers as layers
    from minikeras import losses as losses
    from minikeras import metrics as metrics
    from minikeras import mixed_precision as mixed_precision
    from minikeras import models as models
    from minikeras import ops as ops
    from minikeras import optimizers as optimizers
    from minikeras import preprocessing as preprocessing
    from minikeras import random as random
    from minikeras import regularizers as regularizers
    from minikeras import saving as saving
    from minikeras import tree as tree
    from minikeras import utils as utils
    from minikeras import wrappers as wrappers
    from minikeras.autodiff import GradientTape as GradientTape
    from minikeras.autodiff import KerasTensor as KerasTensor
    from minikeras.autodiff import Variable as Variable
    from minikeras.autodiff import grad as grad
    from minikeras.autodiff import value_and_grad as value_and_grad
    from minikeras.config import DTypePolicy as DTypePolicy
    from minikeras.config import FloatDTypePolicy as FloatDTypePolicy
    from minikeras.config import device_scope as device  # noqa: F401
    from minikeras.initializers import Initializer as Initializer
    from minikeras.layers import Input as Input
    from minikeras.layers import InputSpec as InputSpec
    from minikeras.layers import Layer as Layer
    from minikeras.layers.context import name_scope as name_scope
    from minikeras.layers.operation import Operation as Operation
    from minikeras.losses import Loss as Loss
    from minikeras.metrics import Metric as Metric
    from minikeras.models import Model as Model
    from minikeras.models import Sequential as Sequential
    from minikeras.models.function import Function as Function
    from minikeras.optimizers import Optimizer as Optimizer
    from minikeras.regularizers import Regularizer as Regularizer
