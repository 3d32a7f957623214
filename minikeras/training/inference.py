"""Predictions: through the layers the first time, replayed for further batches of the same shapes (see replay.py)."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter, is_
from threading import get_ident
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.op import Op
from minikeras.autodiff.replay import Program, Recorder
from minikeras.autodiff.symbolic import FunctionNode
from minikeras.autodiff.tensor import Tensor
from minikeras.autodiff.turns import computing, turn, wait
from minikeras.layers.context import context, entrance
from minikeras.layers.layer import Layer

_settings_of = attrgetter("_settings")
_MOST = 16  # programs of one model; for ever-changing shapes recording would not pay


def _is_own(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("minikeras.")


def foreign_part(operation: Any) -> str | None:
    """The name of what may not be repeated without Python, in an element of a model's graph or below it; or None.

    The Python code of a user could look at anything, so it says itself that it does not: `replayable = True` in the
    body of the class, `@differentiable(replayable=True)` for an operation.
    """
    if isinstance(operation, FunctionNode):
        return None if _repeats(operation.function) else f"the operation {operation.name!r}"
    name = f"{type(operation).__name__} {getattr(operation, 'name', '')!r}"
    if not isinstance(operation, Layer):
        return None if vars(type(operation)).get("replayable", False) else name
    if {"call", "__call__"} & vars(operation).keys() or operation.activity_regularizer is not None:
        return name
    graph = getattr(operation, "_graph", None)
    if graph is not None:
        if not _is_own(type(operation).call) or type(operation).__call__ is not Layer.__call__:
            return name
        return _first(map(foreign_part, {node.operation: None for node in graph.output_nodes}))
    cls = type(operation)
    if not (cls.replayable if _is_own(cls) else vars(cls).get("replayable", False)):
        return name
    for attribute, value in vars(operation).items():
        if not (isinstance(value, Layer) or not callable(value) or attribute.endswith(_FOR_WEIGHTS) or _repeats(value)):
            return f"{attribute} of {name}"
    return _first(foreign_part(part) for _, part in operation.named_children() if isinstance(part, Layer))


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


_FOR_WEIGHTS = ("_initializer", "_regularizer", "_constraint")  # of no account in a prediction


def _repeats(function: Any) -> bool:
    return function.replayable if isinstance(function, Op) else _is_own(function)


class Inference:
    """A model's predictions.

    Args:
        model: a model of any kind; those of which nothing is known but their `call` always go through their layers.
    """

    def __init__(self, model: Any):
        self._model = model
        self._programs: dict[tuple, Program | None] = {}
        self._layers: list[Any] = []  # whose settings were these
        self._settings: list[Any] = []

    def __call__(self, x: Any) -> Any:
        """The outputs, as a tensor or a structure of them, for a batch of raw arrays."""
        if type(x) is not k.xp.ndarray:
            return self._run(x)
        if not (self._settings and all(map(is_, map(_settings_of, self._layers), self._settings))):
            self._programs.clear()  # a layer was built, switched or changed
            self._layers = self._model._contents().layers
            self._settings = list(map(_settings_of, self._layers))
        key = x.shape, x.dtype
        program = self._programs.get(key)
        if program is not None:
            if entrance.before is not None:
                entrance.before(self._model)
            if (me := get_ident()) in computing:  # within the call of another model
                return Tensor(program((x,))[0])
            try:
                computing.add(me)
                if turn.owner is not None:
                    wait(me)
                return Tensor(program((x,))[0])
            finally:
                computing.discard(me)
        if key in self._programs or len(self._programs) >= _MOST:
            return self._run(x)
        return self._record(key, x)

    def _run(self, x: Any) -> Any:
        """The outputs by way of the layers, without losses that were added to the model."""
        outer, context.predicting = context.predicting, True
        try:
            return self._model(x, training=False)
        finally:
            context.predicting = outer

    def _record(self, key: tuple, x: Any) -> Any:
        """The outputs; where it can be replayed, how they were computed is kept."""
        if not self._model.built or foreign_part(self._model) is not None:
            outputs = self._run(x)
            if self._model.built:
                self._programs[key] = None
            return outputs
        tensor = Tensor(x)
        with Recorder([tensor]) as recorder:
            outputs = self._run(tensor)
        single = isinstance(outputs, Tensor)
        program = recorder.program([outputs]) if single else None
        if all(map(is_, map(_settings_of, self._layers), self._settings)):
            self._programs[key] = program
        return outputs
