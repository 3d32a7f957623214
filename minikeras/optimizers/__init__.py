"""Optimizers, learning rate schedules, and how both are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minikeras import registry
from minikeras.lazy import public_names
from minikeras.optimizers import schedules
from minikeras.optimizers.algorithms import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Nadam,
    RMSprop,
)
from minikeras.optimizers.base import Optimizer
from minikeras.optimizers.composed import LossScaleOptimizer, MultiOptimizer, OptimizerMap
from minikeras.tracebacks import user_facing

sgd, rmsprop, adagrad, adadelta, adam, adamax, nadam = SGD, RMSprop, Adagrad, Adadelta, Adam, Adamax, Nadam  # Keras 2

_CLASSES = (SGD, RMSprop, Adam, AdamW, Adagrad, Adadelta, Adamax, Nadam, Lion, Ftrl, Adafactor, Lamb)

# every name that a user or a file may use; capital and small letters are the same here
ALL: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in _CLASSES}
registry.builtin("keras.optimizers", *_CLASSES, LossScaleOptimizer, MultiOptimizer, OptimizerMap)

if TYPE_CHECKING:
    from minikeras.optimizers import legacy as legacy
else:
    __getattr__, __dir__ = public_names(__name__, {"legacy": "minikeras.optimizers.legacy"})

__all__ = ["SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion"]
__all__ += ["LossScaleOptimizer", "MultiOptimizer", "Nadam", "Optimizer", "OptimizerMap", "RMSprop", "deserialize"]
__all__ += ["get", "schedules", "serialize"]


@user_facing
def get(identifier: Any) -> Any:
    """An optimizer from its name, class or description, or an optimizer itself; None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one, and for what is no optimizer.

    >>> from minikeras import optimizers
    >>> type(optimizers.get("adam")).__name__
    'Adam'
    """
    if isinstance(identifier, str) and identifier.lower() in ALL:
        identifier = identifier.lower()
    elif isinstance(identifier, dict) and str(identifier.get("class_name")).lower() in ALL:
        cls = ALL[identifier["class_name"].lower()]
        identifier = {**identifier, "module": "keras.optimizers", "class_name": cls.__name__}
    found = registry.get("optimizer", identifier, ALL)
    if found is not None and not isinstance(found, Optimizer):
        raise ValueError(f"An optimizer is given by name, class or object, got {identifier!r}.")
    return found


def serialize(optimizer: Optimizer) -> Any:
    """The description of an optimizer.

    >>> from minikeras import optimizers
    >>> optimizers.serialize(optimizers.SGD(0.5))["class_name"]
    'SGD'
    """
    return registry.serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The optimizer that a name or description describes; `custom_objects` maps further names to classes.

    >>> from minikeras import optimizers
    >>> float(optimizers.deserialize({"class_name": "SGD", "config": {"learning_rate": 0.5}}).learning_rate)
    0.5
    """
    with registry.custom_object_scope(custom_objects):
        return get(config)
