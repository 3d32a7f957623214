"""Which steps may be repeated without the Python code around them: what is built in, and what says so of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.op import Op
from minikeras.autodiff.symbolic import FunctionNode
from minikeras.layers.layer import Layer
from minikeras.registry import is_builtin


def _is_own(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("minikeras.")


def foreign_part(operation: Any, losses_too: bool = True) -> str | None:
    """The name of what may not be repeated without Python, in an element of a model's graph or below it; or None.

    The Python code of a user could look at anything, so it says itself that it does not: `replayable = True` in the
    body of the class, `@differentiable(replayable=True)` for an operation.
    """
    if isinstance(operation, FunctionNode):
        return None if _repeats(operation.function) else f"the operation {operation.name!r}"
    name = f"{type(operation).__name__} {getattr(operation, 'name', '')!r}"
    if not isinstance(operation, Layer):
        return None if vars(type(operation)).get("replayable", False) else name
    if {"call", "__call__"} & vars(operation).keys():
        return name
    if operation.activity_regularizer is not None and not is_builtin(type(operation.activity_regularizer)):
        return f"the activity_regularizer of {name}"
    graph = getattr(operation, "_graph", None)
    if graph is not None:
        if not _is_own(type(operation).call) or type(operation).__call__ is not Layer.__call__:
            return name
        nodes = graph.nodes if losses_too else graph.output_nodes
        return _first(foreign_part(one, losses_too) for one in {node.operation: None for node in nodes})
    cls = type(operation)
    if not (cls.replayable if _is_own(cls) else vars(cls).get("replayable", False)):
        return name
    for attribute, value in vars(operation).items():
        if not (isinstance(value, Layer) or not callable(value) or attribute.endswith(_FOR_WEIGHTS) or _repeats(value)):
            return f"{attribute} of {name}"
    return _first(foreign_part(part, losses_too) for _, part in operation.named_children() if isinstance(part, Layer))


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


_FOR_WEIGHTS = ("_initializer", "_regularizer", "_constraint")  # of no account in a prediction


def _repeats(function: Any) -> bool:
    return function.replayable if isinstance(function, Op) else _is_own(function)


def things(model: Any, kind: str) -> list[Any]:
    """The objects whose settings a step's calls are made of, besides layers."""
    found: list[Any] = [layer.activity_regularizer for layer in _layers(model)]
    if kind == "predict":
        return _each_once(found)
    loss, metrics = model._compiled_loss, model._compiled_metrics
    found += [model._loss_tracker, loss, metrics]
    found += [] if loss is None else [*loss.trackers, *(one for one, _, _ in loss._parts)]
    found += [] if metrics is None else metrics.metrics
    weights = model._contents().trainable
    found += [one.regularizer for one in weights]
    if kind == "train":
        found += [*_optimizers(model, kind), *(one.constraint for one in weights)]
    return _each_once(found)


def _each_once(found: list[Any]) -> list[Any]:
    return [one for one in {id(one): one for one in found}.values() if one is not None]


def _optimizers(model: Any, kind: str) -> list[Any]:
    return [model.optimizer, *model.optimizer._leaves] if kind == "train" else []


def obstacle(model: Any, kind: str, built_in: type) -> str | None:
    """Why steps of a kind are not recorded for this model, as the end of a sentence; None if they may be."""
    if k.active_device() == "numpy":
        return "NumPy computes everything, which has no programs"
    if (why := k.turned_off("graphs")) is not None:
        return f"graphs are turned off on this GPU, because it {why}"
    if model.run_eagerly or model.jit_compile is False:
        return "the model is compiled with " + ("run_eagerly=True" if model.run_eagerly else "jit_compile=False")
    own = {"train": _OF_TRAINING, "test": _OF_TESTS, "predict": ("predict_step",)}[kind]
    for name in own:
        found = getattr(model, name)
        is_own = model.jit_compile is True and kind != "predict" and name not in vars(model)
        if getattr(found, "__func__", None) is not getattr(built_in, name) and not is_own:
            return f"{name} is not the built-in one"
    if model.jit_compile is not True and (part := foreign_part(model, losses_too=kind != "predict")) is not None:
        return f"{part} may run Python code that a program would not"
    if kind == "predict":
        return None
    for name in ("losses", "trainable_variables", "trainable_weights"):
        if getattr(type(model), name) is not getattr(Layer, name):
            return f"{name} is a property of the user's"
    if model._contents().loss_functions and model.jit_compile is not True:
        return "a function that was given to add_loss() may run Python code that a program would not"
    for thing in _optimizers(model, kind) if model.jit_compile is True else things(model, kind):
        if not is_builtin(type(thing)) and not type(thing).__module__.startswith("minikeras."):
            return f"{type(thing).__name__} is not built in"
        for value in vars(thing).values():  # also a method that the user has put in the place of its own
            if callable(value) and not _is_own(value):
                return f"the function {getattr(value, '__name__', type(value).__name__)!r} is not built in"
    if kind == "train":
        return model.optimizer._obstacle if model._contents().trainable else "it has no weights to train"
    return None


def has_own_steps(model: Any, kind: str, built_in: type) -> bool:
    """Whether the targets of a batch meet Python code of a user's model."""
    names = {"train": _OF_TRAINING, "test": _OF_TESTS, "predict": ()}[kind]
    return any(getattr(type(model), name) is not getattr(built_in, name) for name in names)


STEPS = {"train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "reduce_gradients", "call"}
_OF_TESTS = ("test_step", "compute_loss", "compute_metrics")
_OF_TRAINING = ("train_step", "compute_loss", "compute_metrics", "reduce_gradients")


def _layers(model: Any) -> list[Any]:
    return [layer for layer in model._contents().layers if isinstance(layer, Layer)]
