"""Going on after a kill: what the state of a `fit` is, when it is saved, and how the same `fit` takes it up again.

The state is all that the rest of a training follows from: the variables of the model, its optimizers and metrics, the
random streams, the process's own generators, the place in the data and its order, callbacks with the history, and what
users' layers and metrics keep in attributes.  It is taken between two steps, copied (see `states`) and written by a
thread (see `checkpoint`).

A `fit` that finds one makes one step on some batch, after which everything exists that the killed one had, and then
puts everything to what it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from minikeras import tree
from minikeras.autodiff.tensor import Variable
from minikeras.callbacks.simple import check_writable
from minikeras.tracebacks import warn
from minikeras.training.checkpoint import NAMES, Folder, Writer
from minikeras.training.states import (
    Attributes,
    CallbackStates,
    NotData,
    data_of,
    described,
    random_states,
    set_random_states,
)
from minikeras.training.step import checked_logs, step_data, to_floats
from minikeras.utils.console import announce

FIRST = 5.0  # seconds until a training is saved for the first time, where no epoch ends before
EVERY = 15.0  # seconds from one save to the next within an epoch
SHARE = 100  # the time that a save takes, times this, is the least time until the next


def progress_of(trainer: Any, resume: Any, callbacks: Any, streams: tuple, **training: Any) -> Progress | None:
    """What saves a `fit` and takes it up again, None where nothing is to.

    Args:
        trainer: whose `fit` it is.
        resume: its argument.
        callbacks: its callbacks, one of which may be a `BackupAndRestore`.
        streams: the data, and that of the validation or None.
        training: further settings of the training.

    Raises:
        ValueError: where these contradict each other, for data that cannot be resumed, and for a checkpoint that is
            damaged or does not fit.
        OSError: where nothing can be written.
    """
    backups = [one for one in callbacks.callbacks if hasattr(one, "backup_dir")]
    if len(backups) + (resume is not None) > 1:
        raise ValueError("A training is saved in one folder; pass either resume or one BackupAndRestore.")
    if resume is None:
        (backup,) = backups
        strict = trainer._begins_with_data
        progress = Progress(trainer, backup.backup_dir, callbacks, streams, strict, training)
        progress.every, progress.keeps = backup.save_freq, not backup.delete_checkpoint
        return progress
    check_writable(os.path.join(resume, NAMES[0]), "fit(resume=...)")
    return Progress(trainer, resume, callbacks, streams, True, training)


class Progress:
    """The state of a `fit`, to disk and back.

    Args:
        trainer, callbacks, streams, training: as for `progress_of`.
        folder: where.
        strict: whether data that cannot be resumed is refused; else an epoch that was broken off begins anew.

    Attributes:
        every: `"epoch"`, or after how many batches it is saved.
        keeps: whether the files stay when training has ended.
        done: batches of the epoch that the broken training has made; 0 once it goes on.
    """

    every: Any = "epoch"
    keeps = True

    def __init__(self, trainer: Any, folder: str, callbacks: Any, streams: tuple, strict: bool, training: dict):
        self._trainer, self._callbacks, self._stream = trainer, callbacks, streams[0]
        self._streams = [stream for stream in streams if stream is not None]
        self._can_be_read_again = True
        for stream in self._streams:
            try:
                stream.refuse(validates=stream is not self._stream)
            except ValueError:
                if strict:
                    raise
                self._can_be_read_again = False
        self._folder, self._path = Folder(folder), folder
        self._training = {**training, **self._description()}
        self._found = self._checked(self._folder.newest())
        for stream in self._streams:
            stream.remember(within=stream is self._stream and self._can_be_read_again)
        self._states = CallbackStates(callbacks.callbacks)
        self._attributes = [Attributes(thing) for thing in self._users_things()]
        self._writer: Writer | None = None
        self._batches = self.done = 0
        self._saved: tuple[int, int] | None = None
        self._place = (0, 0)
        self._logs: dict[str, Any] = {}
        self._due = perf_counter() + FIRST
        self._told = False

    # ------------------------------------------------------------ whether it fits

    def _description(self) -> dict[str, Any]:
        """What must be as it was for a checkpoint to fit; in plain data."""
        stream, optimizers = self._stream, []
        self._trainer._for_each_model(
            lambda model: optimizers.append([type(one).__name__ for one in _optimizers(model)])
        )
        found = {"optimizers": optimizers, "data": getattr(stream, "_name", "arrays"), "steps_per_epoch": stream.steps}
        return {**found, "samples": stream.samples, "batch_size": getattr(stream, "batch_size", None)}

    def _checked(self, content: dict[str, Any] | None) -> dict[str, Any] | None:
        """The state in a checkpoint's content, which fits as far as it shows before a step is made."""
        if content is None:
            return None
        was, state = content["training"], content["state"]
        for name, value in self._training.items():
            if name != "epochs" and was.get(name) != value:
                self._refuse(f"{name} was {was.get(name)!r}, got {value!r}")
        if (self._training["epochs"], 0) < (state["epoch"], state["done"]):
            self._refuse(
                f"{state['epoch']} epochs and {state['done']} batches are done, got {self._training['epochs']}"
            )
        if all(layer.built for layer in self._trainer._contents().layers):
            self._trainer._for_each_model(lambda model: self._compare(model.weights, state["models"][0]["weights"]))
        return state

    def _refuse(self, problem: str) -> None:
        raise ValueError(
            f"The checkpoint in {self._path!r} is of another training: {problem}; pass what it was begun with, or "
            "another folder."
        )

    def _compare(self, variables: Sequence[Variable], values: list[Any]) -> None:
        """Refuse values that are not of these variables."""
        wanted, given = ([(tuple(one.shape), str(one.dtype)) for one in some] for some in (variables, values))
        if wanted != given:
            if len(wanted) != len(given):
                self._refuse(f"{len(given)} variables were there, got {len(wanted)}")
            place = next(i for i, pair in enumerate(zip(wanted, given, strict=True)) if pair[0] != pair[1])
            self._refuse(f"{variables[place].path!r} was {given[place]}, got {wanted[place]}")

    # ------------------------------------------------------------ taking it up

    def begin(self, arena: Any) -> int:
        """Take up what was found; the epoch that training begins with.  To be called after `on_train_begin`."""
        self._writer = Writer(self._folder, paced=self.every == "epoch")
        state, trainer = self._found, self._trainer
        if state is None:
            return self._training["initial_epoch"]
        self._found = None
        epoch, done = state["epoch"], state["done"] if self._can_be_read_again else 0
        if done:  # what this epoch began with has been done; what it changes is overwritten
            trainer.reset_metrics()
            self._callbacks.on_epoch_begin(epoch)
        kept: dict[int, Any] = {}
        self._each_variable(lambda variable: kept.setdefault(id(variable), variable.numpy()))
        try:
            self._put_back(state, done, arena)
        except BaseException:
            self._each_variable(lambda variable: id(variable) in kept and variable.assign(kept[id(variable)]))
            raise
        trainer._kept = None
        self.done, self._place, self._logs = done, (epoch, done), state["logs"]
        self._saved = self._place
        over = trainer.stop_training or epoch >= self._training["epochs"]
        if self._callbacks.params.get("verbose"):
            how = "has ended already, and nothing is left to train" if over else f"goes on in epoch {epoch + 1}"
            announce(f"The training in {self._path!r} {how}" + (f" after {done} batches." if done else "."))
        return self._training["epochs"] if over else epoch

    def _put_back(self, state: dict[str, Any], done: int, arena: Any) -> None:
        trainer = self._trainer
        batch = self._stream.sample() if self._can_be_read_again else None
        if batch is not None:
            with arena:
                checked_logs(trainer.train_step(step_data(batch)), "train_step")
        models: list[Any] = []
        trainer._for_each_model(models.append)
        if len(models) != len(state["models"]):
            self._refuse(f"{len(state['models'])} models were compared, got {len(models)}")
        pairs = {id(model): one for model, one in zip(models, state["models"], strict=True)}
        parts = ("weights", "carried", "optimizers", *(() if batch is None else ("metrics",)))

        def compare(model: Any) -> None:
            for optimizer in _optimizers(model) if batch is None else ():
                optimizer.build(model._trainable_now())
            for part in parts:
                self._compare(_variables(model)[part], pairs[id(model)][part])

        def put(model: Any) -> None:
            one = pairs[id(model)]
            for part in parts:
                for variable, value in zip(_variables(model)[part], one[part], strict=True):
                    variable.assign(value)
            for stream, position in zip(model._contents().streams, one["streams"], strict=True):
                stream.state = position
            model.stop_training = one["stopped"]

        trainer._for_each_model(compare)
        trainer._for_each_model(put)
        for attributes, values in zip(self._attributes, state["things"], strict=True):
            attributes.put_back(values)
        self._states.put(state["callbacks"])
        trainer.stop_training = state["stopped"]
        if self._can_be_read_again:
            for stream, place in zip(self._streams, state["streams"], strict=True):
                stream.set_state(place, done if stream is self._stream else 0)
        set_random_states(state["random"])

    def enter_epoch(self) -> tuple[int, dict[str, Any]]:
        """How many batches of this epoch are done, and the logs of the last of them."""
        done, self.done = self.done, 0
        return done, self._logs if done else {}

    # ------------------------------------------------------------ saving it

    def is_due(self) -> bool:
        """Whether to save after this batch."""
        if self.every == "epoch":
            return perf_counter() >= self._due
        self._batches += 1
        return self._batches >= self.every

    def save(self, epoch: int, done: int, logs: Any) -> None:
        """Save the state after `done` batches of an epoch, or with 0 before it."""
        began = perf_counter()
        assert self._writer is not None
        self._batches, self._saved = 0, (epoch, done)
        try:
            self._writer.write(*self._described(epoch, done, logs))
        except NotData as error:
            if not self._told:
                self._told = True
                warn(f"The training cannot be saved: it holds {error}; let get_state() of callbacks give plain data.")
        now = perf_counter()
        self._due = now + max(EVERY, SHARE * (now - began + self._writer.seconds))

    def _described(self, epoch: int, done: int, logs: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
        models: list[Any] = []
        self._trainer._for_each_model(lambda model: models.append(_state_of(model)))
        again = self._can_be_read_again
        state = {
            **{"epoch": epoch, "done": done, "logs": data_of(to_floats(logs)), "models": models},
            "things": [attributes.state() for attributes in self._attributes],
            "callbacks": self._states.get(),
            "stopped": bool(self._trainer.stop_training),
            "streams": [one.get_state(done if one is self._stream else 0) for one in self._streams] if again else None,
            "random": {**random_states(), **(self._stream.random_states() if done else {})},
        }
        description, arrays = described(state)
        return {"training": self._training, "state": description}, arrays

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """To be called after each epoch."""
        self._place, self._logs = (epoch + 1, 0), logs
        if self.every == "epoch":
            self.save(*self._place, logs)

    def complete(self) -> dict[str, Any]:
        """To be called after the last epoch; the logs of that."""
        if self.keeps and self._saved != self._place:
            self.save(*self._place, self._logs)
        return self._logs

    def finish(self) -> None:
        """To be called when training has ended well."""
        self.close(discard=not self.keeps)
        if not self.keeps:
            self._folder.remove()

    def close(self, discard: bool = False) -> None:
        """End the thread that writes."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close(discard)

    # ------------------------------------------------------------ what there is

    def _each_variable(self, act: Callable[[Variable], Any]) -> None:
        def each(model: Any) -> None:
            for some in _variables(model).values():
                for variable in some:
                    act(variable)

        self._trainer._for_each_model(each)

    def _users_things(self) -> list[Any]:
        """The layers, metrics and optimizers whose classes are the user's own."""
        found = [*self._trainer._contents().layers]
        self._trainer._for_each_model(lambda model: found.extend([*model.metrics, *_optimizers(model)]))
        unique = {id(one): one for one in found}
        return [one for one in unique.values() if not type(one).__module__.startswith("minikeras.")]


def _optimizers(model: Any) -> list[Any]:
    return [value for value in vars(model).values() if hasattr(value, "apply_flat")]


def _variables(model: Any) -> dict[str, list[Variable]]:
    """All variables of a training: weights, states from batch to batch, and what optimizers and metrics have."""
    states = [getattr(layer, "states", None) for layer in model._contents().layers]
    optimizers = []
    for one in _optimizers(model):
        rates = [getattr(some, "_learning_rate", None) for some in (one, *getattr(one, "optimizers", ()))]
        optimizers += [*one.variables, *rates]
    found = {
        "weights": model.weights,
        "carried": tree.flatten(states),
        "optimizers": optimizers,
        "metrics": [variable for metric in model.metrics for variable in metric.variables],
    }
    return {
        part: list({id(one): one for one in some if isinstance(one, Variable)}.values()) for part, some in found.items()
    }


def _state_of(model: Any) -> dict[str, Any]:
    state: dict[str, Any] = {part: [one.data for one in some] for part, some in _variables(model).items()}
    state["streams"] = [stream.state for stream in model._contents().streams]
    return {**state, "stopped": bool(model.stop_training)}


def checked_folder(resume: Any) -> str:
    """The argument `resume` of `fit` as a path.

    Raises:
        ValueError: for what is none.
    """
    path = os.fspath(resume) if isinstance(resume, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ValueError(f"resume must be the path of a folder, got {resume!r}; name one for this training alone.")
    return path
