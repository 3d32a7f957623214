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
    "initializers",
    "kernels",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
)

# public name -> room
_NAMES = {
    "GradientTape": "autodiff",
    "KerasTensor": "autodiff",
    "Variable": "autodiff",
    "grad": "autodiff",
    "value_and_grad": "autodiff",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Function": "models.function",
    "Model": "models",
    "Sequential": "models",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "DTypePolicy": "config",
    "name_scope": "layers.context",
}


if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    _homes = {room: f"minikeras.{room}" for room in _ROOMS}
    __getattr__, __dir__ = public_names(__name__, {**_homes, **{n: f"minikeras.{at}:{n}" for n, at in _NAMES.items()}})


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
    from minikeras import initializers as initializers
    from minikeras import kernels as kernels
    from minikeras import layers as layers
    from minikeras import losses as losses
    from minikeras import metrics as metrics
    from minikeras import models as models
    from minikeras import ops as ops
    from minikeras import optimizers as optimizers
    from minikeras import preprocessing as preprocessing
    from minikeras import random as random
    from minikeras import regularizers as regularizers
    from minikeras import saving as saving
    from minikeras import tree as tree
    from minikeras import utils as utils
    from minikeras.autodiff import GradientTape as GradientTape
    from minikeras.autodiff import KerasTensor as KerasTensor
    from minikeras.autodiff import Variable as Variable
    from minikeras.autodiff import grad as grad
    from minikeras.autodiff import value_and_grad as value_and_grad
    from minikeras.config import DTypePolicy as DTypePolicy
    from minikeras.initializers import Initializer as Initializer
    from minikeras.layers import Input as Input
    from minikeras.layers import InputSpec as InputSpec
    from minikeras.layers import Layer as Layer
    from minikeras.layers.context import name_scope as name_scope
    from minikeras.losses import Loss as Loss
    from minikeras.metrics import Metric as Metric
    from minikeras.models import Model as Model
    from minikeras.models import Sequential as Sequential
    from minikeras.models.function import Function as Function
    from minikeras.optimizers import Optimizer as Optimizer
    from minikeras.regularizers import Regularizer as Regularizer
