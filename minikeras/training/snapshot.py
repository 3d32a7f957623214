"""What a model was before a step, to be put back where the step fails."""

from __future__ import annotations

from typing import Any

from minikeras import tree
from minikeras.autodiff.tensor import Variable
from minikeras.metrics import Metric
from minikeras.seeds import global_generator


class Snapshot:
    """A model, but for the weights that training changes: those only change when everything else has gone well.

    As a context manager it puts the model back where the block fails.

    It holds copies of the other variables (moving averages, states that are carried from batch to batch, metrics), the
    states of the random streams, and the attributes of the layers, so that a model that the step builds is unbuilt
    again, and what losses and metrics found out from the shapes of bad data is forgotten.

    Args:
        model: the model.
    """

    def __init__(self, model: Any):
        contents = model._contents()
        layers = contents.layers
        self._optimizer, self._iterations = model.optimizer, _iterations(model.optimizer)
        self._unbuilt = [layer for layer in layers if not layer.built]
        things: dict[int, Any] = {id(thing): thing for thing in [*layers, *_measures(model)] if thing is not None}
        values = [value for layer in self._unbuilt for value in vars(layer).values()]
        self._containers = [(value, value.copy()) for value in values if isinstance(value, (list, dict, set))]
        streams = [global_generator(), *contents.streams]
        things |= {id(metric): metric for metric in contents.metrics if isinstance(metric, Metric)}
        carried = [state for layer in layers for state in tree.flatten(getattr(layer, "states", None))]
        variables = {id(one): one for one in [*contents.weights, *carried] if isinstance(one, Variable)}
        for thing in things.values():
            if isinstance(thing, Metric):
                variables |= {id(variable): variable for variable in thing.variables}
        trained = {id(variable) for variable in model._trainable_now()}
        self._attributes = [(thing, dict(vars(thing))) for thing in things.values()]
        kept = [one for key, one in variables.items() if key not in trained]
        self._variables = [(variable, variable.data.copy(), variable.changed) for variable in kept]
        self._streams = [(stream, stream.state) for stream in streams]

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception):
            self.restore()

    def restore(self) -> None:
        """Put everything back; nothing is done where the optimizer has already made a step."""
        if _iterations(self._optimizer) != self._iterations:
            return
        for variable, value, changed in self._variables:
            variable.data[...] = value
            variable.changed = changed  # a loss that was computed from it has its gradient still
        for stream, state in self._streams:
            stream.state = state
        for thing, attributes in self._attributes:
            vars(thing).clear()
            vars(thing).update(attributes)
        for container, content in self._containers:
            container.clear()
            add = container.extend if isinstance(container, list) else container.update
            add(content)


class Trial(Snapshot):
    """A snapshot that puts the model back after the block in any case."""

    def __exit__(self, *failure: Any) -> None:
        self.restore()


def _iterations(optimizer: Any) -> int:
    if optimizer is None:
        return 0
    counting = getattr(optimizer, "inner_optimizer", optimizer)
    own = getattr(counting, "_iterations", None)  # on the host; the public one may be made for whoever asks
    return int(optimizer.iterations if own is None else own.host)


def _measures(model: Any) -> list[Any]:
    """The losses and metrics of `compile`, resolved or not."""
    loss, metrics = model._compiled_loss, model._compiled_metrics
    given = tree.flatten([model._compile_arguments.get(name) for name in ("metrics", "weighted_metrics")])
    found = [model._loss_tracker, *given]
    found += [] if loss is None else [loss, *loss.trackers]
    found += [] if metrics is None else [metrics, *metrics.metrics]
    return [one for one in found if one is loss or one is metrics or isinstance(one, Metric)]
