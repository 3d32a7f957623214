"""Comparing optimizers, or losses, in one `fit`: a replica of the model for each, trained over identical batches.

There is one model all the while.  A `Replica` is what training changes of it: the arrays of its variables, the states
of its random streams, and what `compile` chose.  Binding a replica puts these into the model, which
copies nothing and takes microseconds; each optimizer finds its flat arrays again as they were.  Whatever else layers
keep in attributes of their own is shared.

Each batch is drawn once and every replica takes a step on it, with the same random numbers.  Between batches and epochs
the model is the *leader*: the replica with the lowest validation loss of the last epoch (the lowest training loss where
there is no validation), in the beginning the first.  In the logs the values of replica `sgd` are `sgd/loss`,
`sgd/val_loss`, ..., and the plain names have the leader's.

Callbacks with `per_replica` (early stopping, learning rates, NaN) act on each replica for itself, with its values under
the plain names; a replica that they stop rests while the others train on.  All other callbacks are called once, with
all values, and `self.model` is the leader.

At the end of `fit` the model becomes the winner, as if compiled with its optimizer and loss alone: a further `fit` goes
on with these, without the factor of `loss_weights`, and files have these.  A model that is saved before it is trained
is a comparison again when it is loaded (by minikeras: Keras knows none).  Losses of different kinds have scales of
their own, so that a metric tells more about them than which one is lowest.
"""

from __future__ import annotations

import copy
import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from minikeras import optimizers as optimizers_room
from minikeras import tree
from minikeras.autodiff.symbolic import snake_case
from minikeras.autodiff.tape import recording
from minikeras.autodiff.tensor import Variable
from minikeras.callbacks import Callback, CallbackList, History, ProgbarLogger
from minikeras.callbacks.base import lazy_logs
from minikeras.seeds import SeedGenerator, global_generator
from minikeras.training.step import MetricLogs, step_data, to_floats

# ---------------------------------------------------------------- what compile was given


@dataclass
class Entry:
    """One of the things that are compared.

    Attributes:
        name: what the logs call it.
        optimizer, loss: what this replica trains with.
        output_weights: the factors of its outputs' losses, as `compile` takes them.
        factor: what the loss that it trains on is multiplied by; None for 1.
    """

    name: str
    optimizer: Any
    loss: Any
    output_weights: Any = None
    factor: float | None = None

    def arguments(self, common: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `compile` that are its own; metrics that are objects are copied, because they count."""
        own = {"optimizer": self.optimizer, "loss": self.loss, "loss_weights": self.output_weights}
        return own | {name: copy.deepcopy(common[name]) for name in ("metrics", "weighted_metrics")}


def find_entries(optimizer: Any, loss: Any, loss_weights: Any, outputs: int | None) -> list[Entry] | None:
    """What is to be compared; None where nothing is.

    Args:
        optimizer, loss, loss_weights: as given to `compile`.
        outputs: the number of the model's outputs, None where it is not known yet.

    Raises:
        ValueError: for an empty list, an optimizer that is no optimizer or occurs twice, and lists of unequal lengths.
    """
    several = isinstance(optimizer, (list, tuple))
    losses = list(loss) if outputs == 1 and isinstance(loss, (list, tuple)) and len(loss) > 1 else None
    if not several and losses is None:
        return None
    if several:
        optimizers = _distinct_optimizers(optimizer)
        names = [_optimizer_name(one) for one in optimizers]
    else:
        assert losses is not None
        optimizers = _copies(optimizers_room.get(optimizer), len(losses))
        names = [""] * len(losses)
    if losses is not None:
        if len(losses) != len(optimizers):
            raise ValueError(
                f"Optimizers and losses are compared in pairs, got {len(optimizers)} optimizers and {len(losses)} "
                "losses; give one loss for each optimizer, or a single one for all."
            )
        names = [f"{name}+{_loss_name(one)}".lstrip("+") for name, one in zip(names, losses, strict=True)]
    entries = [
        Entry(name, one, loss if losses is None else losses[i])
        for i, (name, one) in enumerate(zip(_distinct_names(names), optimizers, strict=True))
    ]
    _weigh(entries, loss_weights)
    return entries


def _distinct_optimizers(given: Sequence[Any]) -> list[Any]:
    if not given:
        raise ValueError("A comparison needs optimizers, got an empty list; pass at least one.")
    optimizers = [optimizers_room.get(one) for one in given]
    for i, one in enumerate(optimizers):
        if one is None:
            raise ValueError(f"A comparison needs optimizers, got None in place {i} of the list; leave it out.")
        if any(one is other for other in optimizers[:i]):
            raise ValueError(
                f"Each replica needs an optimizer of its own, got {one.name!r} twice; make another with "
                f"{type(one).__name__}.from_config(optimizer.get_config())."
            )
    return optimizers


def _copies(optimizer: Any, count: int) -> list[Any]:
    """An optimizer and copies of it, with the same state for the same weights."""
    if optimizer is None:
        return [None] * count
    weights = {id(variable): variable for variable in [*optimizer._trainable_variables, *optimizer._undecayed]}
    return [optimizer, *(copy.deepcopy(optimizer, dict(weights)) for _ in range(count - 1))]


def _optimizer_name(optimizer: Any) -> str:
    """The class in small letters, unless the user gave the optimizer a name."""
    cls = type(optimizer)
    if re.fullmatch(rf"{re.escape(snake_case(cls.__name__))}(_\d+)?", optimizer.name):
        return cls.__name__.lower()
    return optimizer.name


def _loss_name(loss: Any) -> str:
    while isinstance(loss, (list, tuple)) and len(loss) == 1:
        (loss,) = loss
    if isinstance(loss, str):
        return loss
    if isinstance(loss, type):
        return snake_case(loss.__name__)
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    if name is None:
        raise ValueError(f"A comparison of losses takes a loss for each replica, got {loss!r}; give one by name.")
    return name


def _distinct_names(names: list[str]) -> list[str]:
    """Names without `/`, a repeated one with `_1`, `_2`, ..."""
    found: list[str] = []
    for name in names:
        name = base = name.replace("/", "_")
        count = 0
        while name in found:
            count += 1
            name = f"{base}_{count}"
        found.append(name)
    return found


def _weigh(entries: list[Entry], loss_weights: Any) -> None:
    """Give each entry its part of `loss_weights`."""
    if hasattr(loss_weights, "tolist"):
        loss_weights = loss_weights.tolist()
    if loss_weights is None or isinstance(loss_weights, dict):
        for entry in entries:
            entry.output_weights = loss_weights
        return
    if not isinstance(loss_weights, (list, tuple)) or len(loss_weights) != len(entries):
        raise ValueError(
            f"In a comparison of {[entry.name for entry in entries]} loss_weights is a list with one number for each, "
            f"got {loss_weights!r}; factors of the outputs go into a dict by their names."
        )
    for entry, weight in zip(entries, loss_weights, strict=True):
        if weight is None or isinstance(weight, (dict, list, tuple)):
            entry.output_weights = weight
        elif isinstance(weight, numbers.Real) and not isinstance(weight, bool) and math.isfinite(weight):
            entry.factor = None if weight == 1 else float(weight)
        else:
            raise ValueError(f"The weight of a loss is a finite number, got {weight!r} for {entry.name!r}.")


# ---------------------------------------------------------------- the replicas


class Replica:
    """A model in the making: what it has of its own lies here while another one is bound.

    Args:
        name: what the logs call it.
        choices: the model's attributes that `compile` sets.
    """

    def __init__(self, name: str, choices: dict[str, Any]):
        self.name, self.choices = name, choices
        self.arrays: list[Any] = []  # of the model's variables
        self.streams: list[Any] = []  # states of random streams
        self.logs: Any = {}  # of its last step
        self.callbacks: Any = None
        self.begin_training()

    def begin_training(self) -> None:
        """Forget the training before."""
        self.stopped = False
        self.seconds = 0.0
        self.last: dict[str, Any] = {}  # the last epoch's values
        self.losses: dict[int, float] = {}  # what it is judged by, by epoch

    def final_loss(self) -> float:
        """The loss it is judged by, infinite for NaN: of the last epoch, or of that whose weights were restored."""
        restored = [callback.restored_epoch for callback in self.callbacks.callbacks] if self.callbacks else []
        epochs = [epoch for epoch in restored if epoch in self.losses] or list(self.losses)
        loss = self.losses[epochs[-1]] if epochs else math.inf
        return math.inf if math.isnan(loss) else loss


class Comparison:
    """The replicas of a model between `compile` and the end of `fit`; takes the model's place in `fit`'s loop.

    Args:
        model: the model, which now is the first replica.
        replicas: at least one.
        arguments: what `compile` was given.
    """

    def __init__(self, model: Any, replicas: list[Replica], arguments: dict[str, Any]):
        self.model, self.replicas, self.arguments = model, replicas, arguments
        self.begun = False
        self.bound = self.leader = replicas[0]
        self.members = list(replicas)  # those that take part in the present epoch
        self._variables: list[Any] = []
        self._streams: list[SeedGenerator] = []
        check = any(replica.choices["_check_label_values"] for replica in replicas)
        for replica in replicas:
            replica.choices["_check_label_values"] = check

    def bind(self, replica: Replica) -> None:
        """Let the model be this replica."""
        if replica is self.bound:
            return
        self._put_away(self.bound)
        model = self.model
        vars(model).update(replica.choices)
        for variable, array in zip(self._variables, replica.arrays, strict=True):
            variable.data = array
        for stream, state in zip(self._streams, replica.streams, strict=True):
            stream.state = state
        self.bound = replica

    def _put_away(self, replica: Replica) -> None:
        """Keep in the replica what the model has at present."""
        attributes = vars(self.model)
        replica.choices = {name: attributes[name] for name in replica.choices}
        replica.arrays = [variable.data for variable in self._variables]
        replica.streams = [stream.state for stream in self._streams]

    def compiled_losses(self) -> list[Any]:
        """The compiled losses of all replicas."""
        return [
            self.model._compiled_loss if replica is self.bound else replica.choices["_compiled_loss"]
            for replica in self.replicas
        ]

    # ------------------------------------------------------------ what fit's loop asks of a model

    def reset_metrics(self) -> None:
        for replica in self.members:
            self.bind(replica)
            self.model.reset_metrics()
        self.bind(self.leader)

    def _run_train_step(self, batch: tuple, first: bool) -> Any:
        data = step_data(batch)
        first = first or not self.begun
        if not self.begun:
            self._begin(data)
        model, stream = self.model, global_generator()
        drawn = stream.state
        try:
            for replica in self.members:
                if replica.stopped:
                    continue
                self.bind(replica)
                stream.state = drawn
                for observe in model._observers:
                    observe(data)
                began = perf_counter()
                replica.logs = model._guarded_first_step(data) if first else model.train_step(data)
                replica.seconds += perf_counter() - began
                if first:
                    self._check_no_new_variables()
        finally:
            self.bind(self.leader)
        return MetricLogs(self)

    def _run_test_step(self, batch: tuple) -> Any:
        data = step_data(batch)
        try:
            for replica in self.members:
                self.bind(replica)
                began = perf_counter()
                replica.logs = self.model.test_step(data)
                replica.seconds += perf_counter() - began
        finally:
            self.bind(self.leader)
        return MetricLogs(self)

    def get_metrics_result(self) -> dict[str, Any]:
        """The present values of all replicas, and the leader's under plain names."""
        values: dict[str, Any] = {}
        plain = self.leader if self.leader in self.members else self.members[0]
        for replica in self.members:
            own = self.own_logs(replica)
            values.update({f"{replica.name}/{name}": value for name, value in own.items()})
            if replica is plain:
                values.update(own)
        self.bind(self.leader)
        return values

    def own_logs(self, replica: Replica) -> dict[str, Any]:
        """The values of a replica's last step; binds it."""
        self.bind(replica)
        return to_floats(replica.logs)

    def _as_validation(self, values: dict[str, Any]) -> dict[str, Any]:
        names = {replica.name for replica in self.replicas}
        found = {}
        for name, value in values.items():
            head, slash, rest = name.partition("/")
            found[f"{head}/val_{rest}" if slash and head in names else f"val_{name}"] = value
        return found

    def _finalize_weights(self) -> None:
        for replica in self.replicas:
            self.bind(replica)
            self.model._finalize_weights()
        self.bind(self.leader)

    # ------------------------------------------------------------ beginning and end

    def _begin(self, data: Any) -> None:
        """Make the model's weights if need be, try every replica on the first batch, give each its copy of the model.

        Nothing is trained before all have proved to work.
        """
        model = self.model
        if model._has_builtin_train_step():
            self._rehearse(data)
        variables = _variables_of(model)
        others = [replica for replica in self.replicas if replica is not self.bound]
        for replica in others:
            replica.arrays = [variable.data.copy() for variable in variables]
        self._variables = variables
        self._streams = list(model._contents().streams)
        for replica in others:
            replica.streams = [stream.state for stream in self._streams]
        try:
            for replica in self.replicas:
                self.bind(replica)
                if model.optimizer is not None and model._trainable_now():
                    model.optimizer.gradient_destinations(model._trainable_now())  # refuses one of another model
        except BaseException:
            self.bind(self.leader)
            self._variables, self._streams = [], []
            for replica in self.replicas:
                replica.arrays, replica.streams = [], []
            raise
        self.bind(self.leader)
        self.begun = True

    def _rehearse(self, data: Any) -> None:
        """Evaluate every replica on a batch; weights, states and metrics stay as they are."""
        model = self.model
        known = _variables_of(model)
        kept = [(variable, variable.data.copy()) for variable in known if not variable.trainable]
        try:
            with recording(False):
                for replica in self.replicas:
                    self.bind(replica)
                    model._builtin_test_step(data)
        finally:
            for variable, value in kept:
                variable.assign(value)
            self.reset_metrics()
        met = {id(variable) for variable in known}
        for layer, states in _carried_states(model):
            if not any(id(state) in met for state in states):
                layer.reset_states()  # this was the first batch that it saw

    def _check_no_new_variables(self) -> None:
        if len(_variables_of(self.model)) != len(self._variables):
            raise ValueError(
                f"The model {self.model.name!r} made weights in its first training step, which the replicas do not "
                "have in common; build it first, for example by calling it on data."
            )

    def after_batch(self, logs: dict[str, Any], everything: bool) -> dict[str, Any]:
        """Lead by the losses of a single batch; its values of all replicas, or the leader's."""
        self.leader = min(self.replicas, key=lambda replica: _judged(logs.get(f"{replica.name}/loss")))
        self.bind(self.leader)
        plain = self.own_logs(self.leader)
        return {**logs, **plain} if everything else plain

    def choose_leader(self) -> None:
        """Let the replica with the lowest loss lead."""
        self.leader = min(self.replicas, key=Replica.final_loss)
        self.bind(self.leader)

    def decide(self, history: History) -> None:
        """The model becomes the winner, in the arrays that it had; the comparison is over."""
        model, first = self.model, self.replicas[0]
        self.choose_leader()
        self.tell(history)
        history.adopt_best()
        if self.leader is not first:
            for variable, home in zip(self._variables, first.arrays, strict=True):
                home[...] = variable.data
                variable.data = home
        model._loss_factor = None
        model._comparison = None

    def tell(self, history: Any) -> None:
        """Note in the history who is compared, who leads and how long each has taken."""
        history.replicas = [replica.name for replica in self.replicas]
        history.best = self.leader.name
        history.seconds = {replica.name: replica.seconds for replica in self.replicas}

    # ------------------------------------------------------------ callbacks

    def steer(self, callbacks: CallbackList) -> CallbackList:
        """The callbacks of a fit: those that act on each replica, as one, and the others after it."""
        own = [callback for callback in callbacks.callbacks if callback.per_replica]
        shared = [callback for callback in callbacks.callbacks if not callback.per_replica]
        shared = [_LossesOfReplicas(self) if type(callback) is ProgbarLogger else callback for callback in shared]
        return CallbackList([_Steering(self, own), *shared], add_history=True, model=self.model, **callbacks.params)


def _carried_states(model: Any) -> list[tuple[Any, list[Variable]]]:
    """The recurrent layers that carry states from batch to batch and have met one, with these states."""
    carrying = [layer for layer in model._contents().layers if getattr(layer, "stateful", False)]
    found = [(layer, tree.flatten(getattr(layer, "states", None))) for layer in carrying]
    return [(layer, states) for layer, states in found if all(isinstance(state, Variable) for state in states)]


def _variables_of(model: Any) -> list[Variable]:
    """Weights, the variables of the layers' metrics, and the states that are carried from batch to batch."""
    states = [state for _, states in _carried_states(model) for state in states]
    return list({id(variable): variable for variable in [*model.variables, *states]}.values())


def _judged(loss: Any) -> float:
    return math.inf if loss is None or math.isnan(loss) else loss


class _Steering(Callback):
    """Calls the callbacks of each replica, and sees to who leads."""

    def __init__(self, comparison: Comparison, originals: list[Callback]):
        self._comparison, self._originals = comparison, originals
        self._validated = False

    def _call(self, hook: str, replica: Replica, *arguments: Any) -> None:
        model = self._comparison.model
        self._comparison.bind(replica)
        asked, model.stop_training = model.stop_training, False
        try:
            getattr(replica.callbacks, hook)(*arguments)
        finally:
            replica.stopped = replica.stopped or model.stop_training
            model.stop_training = asked

    def _call_all(self, hook: str, *arguments: Any) -> None:
        comparison = self._comparison
        for replica in comparison.members:
            self._call(hook, replica, *arguments)
        comparison.bind(comparison.leader)

    def on_train_begin(self, logs: Any = None) -> None:
        comparison = self._comparison
        self._validated = False
        for replica in comparison.replicas:
            replica.begin_training()
            copies = [copy.copy(callback) for callback in self._originals]
            for one in copies:
                one.replica = replica.name
            replica.callbacks = CallbackList(copies, model=comparison.model, **self.params)
        comparison.members = list(comparison.replicas)
        self._call_all("on_train_begin", {})

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call_all("on_epoch_begin", epoch, {})

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call_on_batch("on_train_batch_begin", batch)

    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call_on_batch("on_train_batch_end", batch)

    def _call_on_batch(self, hook: str, batch: int) -> None:
        comparison = self._comparison
        if not getattr(comparison.replicas[0].callbacks, hook).listeners:
            return
        for replica in comparison.members:
            if not replica.stopped:
                own: Any = partial(comparison.own_logs, replica) if hook.endswith("end") else {}
                self._call(hook, replica, batch, own)
        comparison.bind(comparison.leader)
        if all(replica.stopped for replica in comparison.members):
            comparison.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        comparison = self._comparison
        logs = {} if logs is None else logs
        for replica in comparison.members:
            self._end_epoch(replica, epoch, logs)
        comparison.choose_leader()
        reported = {name for replica in comparison.members for name in replica.last}
        logs.update({name: value for name, value in comparison.leader.last.items() if name in reported})
        comparison.tell(comparison.model.history)
        comparison.members = [replica for replica in comparison.replicas if not replica.stopped]
        if not comparison.members:
            comparison.model.stop_training = True

    def _end_epoch(self, replica: Replica, epoch: int, logs: dict[str, Any]) -> None:
        prefix = f"{replica.name}/"
        own = {name.removeprefix(prefix): value for name, value in logs.items() if name.startswith(prefix)}
        seen = {**logs, **own}
        self._call("on_epoch_end", replica, epoch, seen)
        own.update({name: value for name, value in seen.items() if name not in logs and name not in own})
        logs.update({prefix + name: value for name, value in own.items()})
        replica.last = own
        if "val_loss" in own and not self._validated:
            self._validated = True
            for other in self._comparison.replicas:
                other.losses.clear()
        judged = "val_loss" if self._validated else "loss"
        if judged in own:
            replica.losses[epoch] = own[judged]
        elif not self._validated:
            raise ValueError(
                f"A comparison is decided by the loss, which the training step does not tell, got {sorted(own)}; let "
                "train_step() return it as 'loss'."
            )

    def on_train_end(self, logs: Any = None) -> None:
        comparison = self._comparison
        for replica in comparison.replicas:
            if replica.callbacks is not None:
                self._call("on_train_end", replica, replica.last)
        if any(replica.losses for replica in comparison.replicas):
            comparison.decide(comparison.model.history)
            for original, copied in zip(self._originals, comparison.leader.callbacks.callbacks, strict=True):
                vars(original).update({**vars(copied), "replica": None})  # what the user passed ends as the winner's
            if logs is not None:
                logs.update({name: value for name, value in comparison.leader.last.items() if name in logs})
        comparison.bind(comparison.leader)


class _LossesOfReplicas(ProgbarLogger):
    """A progress bar that shows the losses of the replicas, and no other values: there would be too many."""

    def __init__(self, comparison: Comparison):
        super().__init__()
        self._names = [f"{replica.name}/{name}" for replica in comparison.replicas for name in ("loss", "val_loss")]

    def shown(self, logs: dict[str, Any]) -> dict[str, Any]:
        return {name: logs[name] for name in self._names if name in logs}
