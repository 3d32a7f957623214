"""Comparing optimizers, or losses, in one `fit`: a replica of the model for each, trained over identical batches.

A replica is a shallow clone of the model: an object of its class that the ordinary trainer compiles and trains, with an
optimizer, losses, metrics, callbacks and a `stop_training` of its own.  The layers are those of the model, so that
whatever refers to them, such as a function given to `add_loss`, means them in every replica.  What training changes of
them, the arrays of the variables and the states of the random streams, each replica has for itself: they are put in
their place when it is its turn, which copies nothing and takes microseconds; each optimizer finds its flat arrays again
as they were.

The trainer knows none of this.  `Comparison` is a trainer too: one whose training step is a step of every replica on
the same batch, with the same random numbers.  `fit` of the model is its `fit`.

Between batches and epochs the model is the *leader*: the replica with the lowest validation loss of the last epoch (the
lowest training loss where there is no validation), in the beginning the first.  In the logs the values of replica `sgd`
are `sgd/loss`, `sgd/val_loss`, ..., and the plain names have the leader's.

Callbacks with `per_replica` (early stopping, learning rates, NaN) act on each replica for itself, with its values under
the plain names; a replica that they stop rests while the others train on.  All other callbacks are called once, with
all values, and `self.model` is the model, which is as the leader.

At the end of `fit` the model becomes the winner, as if compiled with its optimizer and loss alone: a further `fit` goes
on with these, without the factor of `loss_weights`, and files have these.  A model that is saved before it is trained
is a comparison again when it is loaded (by minikeras: Keras knows none).  Losses of different kinds have scales of
their own, so that a metric tells more about them than which one is lowest.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeVar

from minikeras.autodiff.tape import recording
from minikeras.autodiff.tensor import Variable
from minikeras.callbacks import Callback, CallbackList, ProgbarLogger
from minikeras.callbacks.base import lazy_logs, read_logs
from minikeras.lazy import LazyModule
from minikeras.seeds import SeedGenerator, global_generator
from minikeras.tracebacks import end_at_users_line
from minikeras.training.entries import find_entries
from minikeras.training.replica import CHOSEN, Replica, carried_states, judged, meet_variables, share, variables_of
from minikeras.training.snapshot import Snapshot
from minikeras.training.step import Later, MetricLogs, checked_logs, to_floats
from minikeras.training.trainer import Trainer

states = LazyModule("minikeras.training.states")
_Method = TypeVar("_Method", bound=Callable[..., Any])


class _Steps:
    """Steps of all replicas, in the place of a model's `Programs`: they go through the layers."""

    def __init__(self, comparison: Comparison):
        self.train_step, self.test_step = comparison.train_step, comparison.test_step

    def many(self, *given: Any) -> tuple[int, None]:
        return 0, None

    def begin(self) -> None:
        """Nothing is kept."""

    end = begin


class Comparison(Trainer, Callback):
    """The replicas of a model as one, from `compile` to the end of `fit`: a trainer, and a callback of its own `fit`.

    As a callback it calls those of each replica.  What it does not have itself it asks the model for.

    Args:
        model: the model.
        replicas: at least one.
        arguments: what `compile` was given.
    """

    def __init__(self, model: Any, replicas: list[Replica], arguments: dict[str, Any]):
        self.model, self.replicas, self.arguments, self.begun = model, replicas, arguments, False
        self.bound = self.leader = replicas[0]
        self.members = list(replicas)  # those that take part in the present epoch
        self._variables: list[Variable] = []
        self._streams: list[SeedGenerator] = []

    @property
    def _programs(self) -> Any:  # type: ignore[override]
        return _Steps(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)  # of a copy in the making that is the class's None, which has nothing

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None, "_trial": None}  # a copy makes no step of a training under way

    stop_training: Any = property(
        attrgetter("model.stop_training"), lambda self, value: setattr(self.model, "stop_training", value)
    )

    # ------------------------------------------------------------ whose turn it is

    def each(self, replicas: Iterable[Replica], act: Callable[[Replica], Any]) -> None:
        """Call a function for every one of these replicas in its turn; then the model is the leader."""
        try:
            for replica in replicas:
                self._bind(replica)
                share(self.model, replica.model)
                act(replica)
                share(replica.model, self.model)
        finally:
            self.lead()

    def lead(self) -> None:
        """Let the model be the leader."""
        self._bind(self.leader)
        chosen = vars(self.leader.model)
        vars(self.model).update({name: chosen[name] for name in CHOSEN})
        if not self.begun:
            self.model._compile_arguments = self.arguments

    def _bind(self, replica: Replica) -> None:
        """Put the values of a replica in their place."""
        if replica is self.bound:
            return
        self.bound.arrays = [variable.data for variable in self._variables]
        self.bound.streams = [stream.state for stream in self._streams]
        for variable, array in zip(self._variables, replica.arrays, strict=True):
            variable.data = array
        for stream, state in zip(self._streams, replica.streams, strict=True):
            stream.state = state
        self.bound = replica

    # ------------------------------------------------------------ a trainer

    _begins_with_data = True

    def _for_each_model(self, act: Callable[[Any], Any]) -> None:
        self.each(self.replicas, lambda replica: act(replica.model))

    def train_step(self, data: Any) -> Any:
        trial, self._trial = self._trial, None
        first = self._kept is not None or trial is not None or not self.begun
        if not self.begun:
            self._begin(data)
        stream = global_generator()
        drawn = stream.state

        def step(replica: Replica) -> None:
            model, stream.state = replica.model, drawn
            for observe in model._observers:
                observe(data)
            if not first:
                replica.take(model.train_step, data)
                return
            with Snapshot(model):
                model._trial = trial if replica is self.members[0] else None
                replica.take(model.train_step, data)
                checked_logs(replica.logs, "train_step")
            self._kept = None  # what one has learnt is not given back
            if len(variables_of(model)) != len(self._variables):
                raise ValueError(
                    f"The model {model.name!r} made weights in its first training step, which the replicas do not have "
                    "in common; build it first, for example by calling it on data."
                )

        self.each(self._running(), step)
        return MetricLogs(self)

    def _running(self) -> list[Replica]:
        return [replica for replica in self.members if not replica.model.stop_training]

    def test_step(self, data: Any) -> Any:
        self.each(self.members, lambda replica: replica.take(replica.model.test_step, data))
        return MetricLogs(self)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """As of a model, with the values of every replica in the dict, and those of the best in the list."""
        logs = super().train_on_batch(x, y, sample_weight, class_weight, return_dict=True)
        self.leader = min(self.replicas, key=lambda replica: judged(logs.get(f"{replica.name}/loss")))
        self.lead()
        plain = to_floats(self.leader.logs)
        return {**logs, **plain} if return_dict else self._in_order(plain)

    def reset_metrics(self) -> None:
        self.each(self.members, lambda replica: replica.model.reset_metrics())

    def get_metrics_result(self) -> dict[str, Any]:
        """The present values of all replicas, and the leader's under plain names."""
        values: dict[str, Any] = {}
        plain = self.leader if self.leader in self.members else self.members[0]

        def gather(replica: Replica) -> None:
            own = to_floats(replica.logs)
            values.update({f"{replica.name}/{name}": value for name, value in own.items()})
            if replica is plain:
                values.update(own)

        self.each(self.members, gather)
        return values

    def _as_validation(self, values: dict[str, Any]) -> dict[str, Any]:
        replicas = tuple(f"{replica.name}/" for replica in self.replicas)
        names = [name.replace("/", "/val_", 1) if name.startswith(replicas) else f"val_{name}" for name in values]
        return dict(zip(names, values.values(), strict=True))

    def _finalize_weights(self) -> None:
        self.each(self.replicas, lambda replica: replica.model._finalize_weights())

    def _explain_loss(self, logs: dict[str, Any], *rest: Any) -> None:
        self._loss_explained |= any(replica.model._loss_explained for replica in self.replicas)
        super()._explain_loss(logs, *rest)

    def _check_labels(self, y: Any, classes: bool, outputs: Any = None) -> None:
        if outputs is None and self._graph is not None:
            outputs = self.output
        for replica in self.replicas:
            replica.model._check_labels(y, classes, outputs)

    def _plan_trial(self, stream: Any, validation: Any, first: Any, callbacks: CallbackList | None) -> None:
        super()._plan_trial(stream, validation, first, None)  # the logs have other names too

    # what is tried is the model, which is as the leader
    compute_metrics: Any = property(attrgetter("model.compute_metrics"))
    _builtin_test_step: Any = property(attrgetter("model._builtin_test_step"))
    _has_builtin_train_step: Any = property(attrgetter("model._has_builtin_train_step"))
    _has_builtin_test_step: Any = property(attrgetter("model._has_builtin_test_step"))
    _trainable_now: Any = property(attrgetter("model._trainable_now"))

    # ------------------------------------------------------------ beginning and end

    def _begin(self, data: Any) -> None:
        """Make the model's weights if need be, try every replica on the first batch, give each its copy of the weights.

        Nothing is trained before all have proved to work.
        """
        model = self.model
        if model._has_builtin_train_step():
            self._rehearse(data)
        self.each(self.replicas, meet_variables)
        self._variables, self._streams = variables_of(model), list(model._contents().streams)
        for replica in self.replicas:
            if replica is not self.bound:
                replica.arrays = [variable.data.copy() for variable in self._variables]
                replica.streams = [stream.state for stream in self._streams]
        self.begun = True

    def _rehearse(self, data: Any) -> None:
        """Evaluate every replica on a batch; weights, states and metrics stay as they are."""
        known = variables_of(self.model)
        kept = [(variable, variable.data.copy()) for variable in known if not variable.trainable]
        try:
            with recording(False):
                self.each(self.replicas, lambda replica: replica.model._builtin_test_step(data))
        finally:
            for variable, value in kept:
                variable.assign(value)
            self.reset_metrics()
        met = set(map(id, known))
        for layer, states in carried_states(self.model):
            if met.isdisjoint(map(id, states)):
                layer.reset_states()  # this was the first batch that it saw

    def _choose_leader(self) -> None:
        """Let the replica with the lowest loss lead, and note it in the history."""
        self.leader = min(self.replicas, key=Replica.final_loss)
        self.lead()
        history = self.history
        history.replicas, history.best = [replica.name for replica in self.replicas], self.leader.name
        history.seconds = {replica.name: replica.seconds for replica in self.replicas}

    def _decide(self) -> None:
        """The model becomes the winner, in the arrays that it had; the comparison is over."""
        self._choose_leader()
        self.history.adopt_best()
        if self.leader is not self.replicas[0]:
            for variable, home in zip(self._variables, self.replicas[0].arrays, strict=True):
                home[...] = variable.data
                variable.data = home
        self.model._loss_factor = self.model._comparison = None

    # ------------------------------------------------------------ a callback

    def _callback_list(self, *arguments: Any, **more: Any) -> CallbackList:
        """The callbacks of a fit: those that act on each replica, as one, and the others after it."""
        given = self.model._callback_list(*arguments, **more)
        for callback in given.callbacks:
            if callback.per_replica is None:
                raise ValueError(f"{type(callback).__name__} does not work in a comparison; train one model at a time.")
        self._originals: list[Callback] = [callback for callback in given.callbacks if callback.per_replica]
        shared = [callback for callback in given.callbacks if not callback.per_replica]
        names = [f"{replica.name}/{name}" for replica in self.replicas for name in ("loss", "val_loss")]
        shared = [_LossesOfReplicas(names) if type(callback) is ProgbarLogger else callback for callback in shared]
        return CallbackList([self, *shared], add_history=True, model=self.model, **given.params)

    def check_before_training(self) -> None:
        for callback in self._originals:
            callback.check_before_training()

    def on_train_begin(self, logs: Any = None) -> None:
        self._validated, self.members = False, list(self.replicas)
        for replica in self.replicas:
            replica.begin_training()
            copies = [copy.copy(callback) for callback in self._originals]
            for one in copies:
                one.replica = replica.name
            replica.states = states.CallbackStates(copies)
            replica.callbacks = CallbackList(copies, model=replica.model, **self.params)
        self.each(self.members, lambda replica: replica.callbacks.on_train_begin())

    def get_state(self) -> dict[str, Any]:
        names = ("seconds", "last", "losses")
        own = [({name: getattr(one, name) for name in names}, one.states.get()) for one in self.replicas]
        members = [replica.name for replica in self.members]
        return {"replicas": own, "leader": self.leader.name, "members": members, "validated": self._validated}

    def set_state(self, state: dict[str, Any]) -> None:
        replicas = {replica.name: replica for replica in self.replicas}
        for replica, (values, own) in zip(self.replicas, state["replicas"], strict=True):
            vars(replica).update(values)
            replica.states.put(own)
        self.members, self._validated = [replicas[name] for name in state["members"]], state["validated"]
        self.leader = replicas[state["leader"]]
        self.lead()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.each(self.members, lambda replica: replica.callbacks.on_epoch_begin(epoch))

    @lazy_logs
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._call_on_batch("on_train_batch_begin", batch)

    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._call_on_batch("on_train_batch_end", batch)

    def _call_on_batch(self, hook: str, batch: int) -> None:
        if getattr(self.replicas[0].callbacks, hook).listeners:
            ended = hook.endswith("end")
            self.each(self._running(), lambda r: getattr(r.callbacks, hook)(batch, Later(r.logs) if ended else {}))
            if not self._running():
                self.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.each(self.members, lambda replica: self._end_epoch(replica, epoch, logs))
        self._choose_leader()
        reported = {name for replica in self.members for name in replica.last}
        logs.update({name: value for name, value in self.leader.last.items() if name in reported})
        self.members = [replica for replica in self.replicas if not replica.model.stop_training]
        if not self.members:
            self.stop_training = True

    def _end_epoch(self, replica: Replica, epoch: int, logs: dict[str, Any]) -> None:
        prefix = f"{replica.name}/"
        own = {name.removeprefix(prefix): value for name, value in logs.items() if name.startswith(prefix)}
        seen = {**logs, **own}
        replica.callbacks.on_epoch_end(epoch, seen)
        own.update({name: value for name, value in seen.items() if name not in logs and name not in own})
        logs.update({prefix + name: value for name, value in own.items()})
        replica.last = own
        if "val_loss" in own and not self._validated:
            self._validated = True
            for other in self.replicas:
                other.losses.clear()
        judged = "val_loss" if self._validated else "loss"
        if judged in own:
            replica.losses[epoch] = own[judged]
        elif not self._validated:
            problem = f"A comparison is decided by the loss, which the training step does not tell, got {sorted(own)}"
            raise ValueError(f"{problem}; let train_step() return it as 'loss'.")

    def on_train_end(self, logs: Any = None) -> None:
        self.each(self.replicas, lambda replica: replica.callbacks.on_train_end(replica.last))
        if not any(replica.losses for replica in self.replicas):
            return
        self._decide()
        for original, copied in zip(self._originals, self.leader.callbacks.callbacks, strict=True):
            vars(original).update({**vars(copied), "replica": None, "model": self.model})  # it ends as the winner's
        logs.update({name: value for name, value in self.leader.last.items() if name in logs})


class _LossesOfReplicas(ProgbarLogger):
    """A progress bar that shows the losses of the replicas, and no other values: there would be too many."""

    def __init__(self, names: list[str]):
        super().__init__()
        self._names = names

    def _losses(self, logs: Any) -> dict[str, Any]:
        logs = read_logs(logs)
        return {name: logs[name] for name in self._names if name in logs}

    def _update(self, batch: int, logs: Any) -> None:
        super()._update(batch, lambda: self._losses(logs))

    def _finish(self, logs: Any) -> None:
        super()._finish(self._losses(logs))


# ---------------------------------------------------------------- the door


def _by_comparison(method: _Method) -> _Method:
    """A method of the trainer that is the comparison's as long as there is one."""
    plain, name = method.__wrapped__, method.__name__  # type: ignore[attr-defined]

    @functools.wraps(plain)
    def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._comparison is None:
                return plain(self, *args, **kwargs)
            return getattr(self._comparison, name)(*args, **kwargs)
        except BaseException as error:
            end_at_users_line(error)
            raise

    return chosen  # type: ignore[return-value]


class ComparingTrainer(Trainer):
    """A trainer whose `compile` takes lists of optimizers or losses to compare."""

    _comparison: Comparison | None = None

    fit = _by_comparison(Trainer.fit)
    train_on_batch = _by_comparison(Trainer.train_on_batch)

    def _compile(self, arguments: dict[str, Any]) -> None:
        optimizer, loss = arguments["optimizer"], arguments["loss"]
        entries = find_entries(optimizer, loss, arguments["loss_weights"], self._output_count())
        if entries is None:
            super()._compile(arguments)
            self._comparison = None
            return
        for entry in entries:
            if entry.factor is not None and not self._has_builtin_train_step():
                raise ValueError(
                    f"loss_weights={entry.factor} scales the loss in Model.train_step, which {type(self).__name__} "
                    "overrides; scale the loss there and leave loss_weights out."
                )
        replicas = [Replica(self, entry, arguments) for entry in entries]
        several = isinstance(optimizer, (list, tuple))
        objects = [entry.optimizer for entry in entries] if several else entries[0].optimizer
        self._refers_to_graph(loss)
        self._known, self.stop_training, self.compiled = None, False, True
        self._comparison = Comparison(self, replicas, {**arguments, "optimizer": objects})
        self._comparison.lead()
