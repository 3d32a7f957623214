"""What a model was before a step, to be put back where the step fails."""

from __future__ import annotations

from typing import Any

from minikeras import tree
from minikeras.autodiff.tensor import Variable
from minikeras.layers.base import _structure_changed
from minikeras.metrics import Metric
from minikeras.seeds import SeedGenerator, global_generator


class Snapshot:
    """A model, but for the weights that training changes: those only change when everything else has gone well.

    It holds copies of the other variables (moving averages, states that are carried from batch to batch, metrics), the
    states of the random streams, and the attributes of the layers, so that a model that the step builds is unbuilt
    again, and what losses and metrics found out from the shapes of bad data is forgotten.

    Args:
        model: the model.
    """

    def __init__(self, model: Any):
        layers = list(model._walk_layers())
        self._optimizer, self._iterations = model.optimizer, _iterations(model.optimizer)
        self._unbuilt = [layer for layer in layers if not layer.built]
        things: dict[int, Any] = {id(thing): thing for thing in [*layers, *_measures(model)]}
        self._attributes = [(thing, dict(vars(thing))) for thing in things.values()]
        self._containers = [
            (value, value.copy())
            for layer in self._unbuilt
            for value in vars(layer).values()
            if isinstance(value, (list, dict, set))
        ]
        streams: dict[int, Any] = {id(global_generator()): global_generator()}
        variables: dict[int, Variable] = {}
        for layer in layers:
            for child in layer._children():
                if isinstance(child, SeedGenerator):
                    streams[id(child)] = child
                elif isinstance(child, Variable):
                    variables[id(child)] = child
            carried = tree.flatten(getattr(layer, "states", None))
            variables |= {id(state): state for state in carried if isinstance(state, Variable)}
        for variable in [*model.variables, *(one for thing in things.values() for one in _state_of(thing))]:
            variables[id(variable)] = variable
        trained = {id(variable) for variable in model.trainable_variables}
        self._variables = [(one, one.data.copy()) for key, one in variables.items() if key not in trained]
        self._streams = [(stream, stream.state) for stream in streams.values()]

    def restore(self) -> None:
        """Put everything back; nothing is done where the optimizer has already made a step."""
        if _iterations(self._optimizer) != self._iterations:
            return
        for variable, value in self._variables:
            variable.assign(value)
        for stream, state in self._streams:
            stream.state = state
        for thing, attributes in self._attributes:
            vars(thing).clear()
            vars(thing).update(attributes)
        for container, content in self._containers:
            container.clear()
            add = container.extend if isinstance(container, list) else container.update
            add(content)
        if self._unbuilt:
            _structure_changed()


def _iterations(optimizer: Any) -> int:
    return 0 if optimizer is None else int(getattr(optimizer, "_iterations", optimizer.iterations))


def _measures(model: Any) -> list[Any]:
    """The losses and metrics of `compile`, resolved or not, and those of the layers."""
    compiled = [one for one in (model._compiled_loss, model._compiled_metrics) if one is not None]
    given = tree.flatten([model._compile_arguments.get(name) for name in ("metrics", "weighted_metrics")])
    resolved = [] if model._compiled_metrics is None else model._compiled_metrics.metrics
    return compiled + [one for one in [*model.metrics, *resolved, *given] if isinstance(one, Metric)]


def _state_of(thing: Any) -> list[Variable]:
    return thing.variables if isinstance(thing, Metric) else []
