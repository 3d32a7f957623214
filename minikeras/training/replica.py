"""A replica: a shallow clone of a model, with an optimizer, losses and values of the variables of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

from minikeras import tree
from minikeras.autodiff.tensor import Variable
from minikeras.callbacks import CallbackList
from minikeras.training.entries import Entry
from minikeras.training.trainer import Trainer

# what `compile` sets, and all that every replica has for itself
CHOSEN = (
    *("optimizer", "loss", "_compile_arguments", "_compiled_loss", "_compiled_metrics", "_loss_tracker"),
    *("_loss_factor", "_check_label_values"),
)
_OF_ONE = frozenset({"_known", "_comparison", *vars(Trainer())})


class Replica:
    """What is trained with one optimizer and one loss.

    Args:
        model: whose shallow clone it trains.
        entry: what is its own of the arguments of `compile`.
        arguments: all of them.
    """

    def __init__(self, model: Any, entry: Entry, arguments: dict[str, Any]):
        self.name = entry.name
        self.model = clone = object.__new__(type(model))
        vars(clone).update(vars(model), _comparison=None)
        Trainer.__init__(clone)
        own = {"optimizer": entry.optimizer, "loss": entry.loss, "loss_weights": entry.output_weights}
        own |= {name: copy.deepcopy(arguments[name]) for name in ("metrics", "weighted_metrics")}  # objects count
        Trainer._compile(clone, arguments | own)
        clone._loss_factor = entry.factor
        self.arrays: list[Any] = []  # of the variables, while it is not its turn
        self.streams: list[Any] = []  # states of random streams
        self.logs: Any = {}  # of its last step
        self.callbacks = CallbackList()
        self.states: Any = None  # of these callbacks
        self.begin_training()

    def begin_training(self) -> None:
        """Forget the training before."""
        self.model.stop_training = self.model._loss_explained = False
        self.model._observers = ()
        self.seconds = 0.0
        self.last: dict[str, Any] = {}  # the last epoch's values
        self.losses: dict[int, float] = {}  # what it is judged by, by epoch

    def take(self, step: Callable, data: Any) -> None:
        """Make a step on a batch."""
        began = perf_counter()
        self.logs = step(data)
        self.seconds += perf_counter() - began

    def final_loss(self) -> float:
        """The loss it is judged by, infinite for NaN: of the last epoch, or of that whose weights were restored."""
        restored = [callback.restored_epoch for callback in self.callbacks.callbacks]
        epochs = [epoch for epoch in restored if epoch in self.losses] or list(self.losses)
        return judged(self.losses[epochs[-1]] if epochs else None)


def judged(loss: Any) -> float:
    """What a loss counts when the lowest is looked for: infinite where there is none."""
    return math.inf if loss is None or math.isnan(loss) else loss


def share(model: Any, other: Any) -> None:
    """Give a model the attributes of another that they have in common, whoever has set them."""
    attributes, others = vars(model), vars(other)
    if others.keys() != attributes.keys():
        for name in others.keys() - attributes.keys() - _OF_ONE:
            del others[name]
    others.update({name: value for name, value in attributes.items() if name not in _OF_ONE})


def carried_states(model: Any) -> list[tuple[Any, list[Variable]]]:
    """The recurrent layers that carry states from batch to batch and have met one, with these states."""
    carrying = [layer for layer in model._contents().layers if getattr(layer, "stateful", False)]
    found = [(layer, tree.flatten(getattr(layer, "states", None))) for layer in carrying]
    return [(layer, states) for layer, states in found if all(isinstance(state, Variable) for state in states)]


def variables_of(model: Any) -> list[Variable]:
    """Weights, the variables of the layers' metrics, and the states that are carried from batch to batch."""
    states = [state for _, states in carried_states(model) for state in states]
    return list({id(variable): variable for variable in [*model._kept_variables(), *states]}.values())


def meet_variables(replica: Replica) -> None:
    """Let a replica's optimizer refuse variables of another model."""
    optimizer, variables = replica.model.optimizer, replica.model._trainable_now()
    if optimizer is not None and variables:
        optimizer.gradient_destinations(variables)
