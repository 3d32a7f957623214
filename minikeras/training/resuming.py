"""Going on after a kill: what the state of a `fit` is, when it is saved, and how the same `fit` takes it up again.

The state is all that the rest of a training follows from: the variables of the model, its optimizers and metrics, the
random streams, the process's own generators, the place in the data and its order, callbacks with the history, and what
users' layers and metrics keep in attributes.  It is taken between two steps, copied (see `states`) and written by a
thread (see `checkpoint`).

A `fit` that finds one makes one step on some batch, after which everything exists that the killed one had, and then
puts everything to what it was.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.tensor import Variable
from minikeras.callbacks.nonfinite import optimizers_of, variables_of
from minikeras.callbacks.simple import check_writable
from minikeras.tracebacks import warn
from minikeras.training import states
from minikeras.training.checkpoint import NAMES, Folder, Writer
from minikeras.training.step import checked_logs, step_data, to_floats
from minikeras.utils.console import announce

FIRST = 5.0  # seconds until a training is saved for the first time, where no epoch ends before
EVERY = 15.0  # seconds from one save to the next within an epoch
SHARE = 100  # the time that a save takes, times this, is the least time until the next within an epoch
ALWAYS = 10  # so many epochs are each followed by a save, however short they are
SHARE_OF_EPOCHS = 50  # the processor's time that a save takes, times this, until the next at the end of an epoch


class Progress:
    """The state of a `fit`, to disk and back.

    Args:
        trainer: whose `fit` it is.
        resume: its argument; None where one of the callbacks is a `BackupAndRestore`.
        callbacks: its callbacks.
        stream, validation: its data, and that of the validation or None.
        training: further settings that must be as they were for a checkpoint to fit; only `epochs` may be more.

    Attributes:
        done: batches of the epoch that the broken training has made; 0 once it goes on.

    Raises:
        ValueError: where the arguments contradict each other, for data that cannot be read again, and for a checkpoint
            that is damaged or does not fit.
        OSError: where nothing can be written.
    """

    def __init__(self, trainer: Any, resume: Any, callbacks: Any, stream: Any, validation: Any, **training: Any):
        backups = [one for one in callbacks.callbacks if hasattr(one, "backup_dir")]
        if len(backups) + (resume is not None) > 1:
            raise ValueError("A training is saved in one folder; pass either resume or one BackupAndRestore.")
        if resume is not None:
            check_writable(os.path.join(resume, NAMES[0]), "fit(resume=...)")
        self._path = resume or backups[0].backup_dir
        self._every: Any = backups[0].save_freq if backups else "epoch"
        self._keeps = not (backups and backups[0].delete_checkpoint)
        self._trainer, self._callbacks, self._stream = trainer, callbacks, stream
        self._streams = [one for one in (stream, validation) if one is not None]
        self._read_again = True  # whether the data can be; else an epoch that was broken off begins anew
        for one in [one for one in self._streams if one.arrays is None]:
            try:
                one.refuse(validates=one is not stream)
            except ValueError:
                if resume is not None or trainer._begins_with_data:
                    raise
                self._read_again = False
        self._training = {**training, **self._description()}
        self._folder = Folder(self._path)
        self._found = self._checked(self._folder.newest())
        things, apart = self._things()
        for one in [one for one in self._streams if one.arrays is None]:
            one.remember(within=one is stream and self._read_again, apart=apart)
        self._states = states.CallbackStates(callbacks.callbacks, apart)
        self._attributes = [states.Attributes(one, apart=apart, follows=follows) for one, follows in things]
        self._writer = Writer(self._folder, paced=self._every == "epoch")
        self._batches = self.done = 0
        self._place = (training["initial_epoch"], 0)  # epoch and batches of where training is, when it ends
        self._saved: tuple[int, int] | None = None
        self._logs: dict[str, Any] = {}
        self._due = perf_counter() + FIRST
        self._due_at_end, self._ends = 0.0, 0
        self._told = False

    # ------------------------------------------------------------ whether it fits

    def _description(self) -> dict[str, Any]:
        """What must be as it was for a checkpoint to fit; in plain data."""
        stream, optimizers, losses = self._stream, [], []
        self._trainer._for_each_model(lambda model: optimizers.extend(optimizers_of(model)))
        self._trainer._for_each_model(
            lambda model: losses.append(tree.map_structure(_named, getattr(model, "loss", 0)))
        )
        steps = [int(getattr(one, "iterations", 0)) for one in optimizers]
        found = {"optimizers": [type(one).__name__ for one in optimizers], "steps made before": steps, "loss": losses}
        found["settings of the optimizers"] = [] if any(steps) else list(map(_settings, optimizers))
        found |= {"data": getattr(stream, "_name", "arrays"), "batch_size": getattr(stream, "batch_size", None)}
        found |= {"samples": stream.samples, "steps_per_epoch": stream.steps}
        found["validation"] = [getattr(one, "_name", one.samples) for one in self._streams[1:]]
        if stream.arrays is not None:
            found["checksum of the first batch"] = _checksum(stream.first_batch())
            found["checksum of the last samples"] = _checksum(stream.last_batch())
        return json.loads(json.dumps(found, default=repr))

    def _checked(self, content: dict[str, Any] | None) -> dict[str, Any] | None:
        """The state in a checkpoint's content, which fits as far as it shows before a step is made."""
        if content is None:
            return None
        was, state = content["training"], content["state"]
        began = was.get("steps made before", [])
        if any(began) and not any(self._training["steps made before"]):  # one of the fits that come later
            self._refuse(f"its optimizers had made {began} steps before it, got new ones (is it that of a later fit?)")
        self._has_trained = any(self._training["steps made before"])
        if self._has_trained:  # this one broke off in the same process
            self._training |= {name: was[name] for name in ("steps made before", "settings of the optimizers")}
        for name, value in self._training.items():
            if name != "epochs" and was.get(name) != value:
                self._refuse(f"{name} was {was.get(name)!r}, got {value!r}")
        if (self._training["epochs"], 0) < (state["epoch"], state["done"]):
            self._refuse(f"{state['epoch']} epochs are done, got epochs={self._training['epochs']}")
        first = state["models"][0]["variables"]
        if all(layer.built for layer in self._trainer._contents().layers):
            self._trainer._for_each_model(lambda model: self._compare(model.weights, first[: len(model.weights)]))
        return state

    def _refuse(self, problem: str) -> None:
        remedy = "pass what it was begun with, or another folder"
        raise ValueError(f"The checkpoint in {self._path!r} is of another training: {problem}; {remedy}.")

    def _compare(self, variables: Sequence[Variable], values: list[Any]) -> None:
        """Refuse values that are not of these variables."""
        if len(variables) != len(values):
            self._refuse(f"{len(values)} variables were there, got {len(variables)}")
        for variable, value in zip(variables, values, strict=True):
            if (variable.shape, variable.dtype) != (value.shape, str(value.dtype)):
                problem = f"was {value.dtype} of shape {value.shape}, got {variable.dtype} of shape {variable.shape}"
                self._refuse(f"{variable.path!r} {problem}")

    # ------------------------------------------------------------ taking it up

    def begin(self, arena: Any) -> int:
        """Take up what was found; the epoch that training begins with.  To be called after `on_train_begin`."""
        trainer, state, self._found = self._trainer, self._found, None
        if state is None:
            return self._training["initial_epoch"]
        epoch, done = state["epoch"], state["done"] if self._read_again else 0
        if done:  # what this epoch began with has been done; what it changes is overwritten
            trainer.reset_metrics()
            self._callbacks.on_epoch_begin(epoch)
        kept: list[Any] = []
        trainer._for_each_model(lambda model: kept.append([(one, one.numpy()) for one in variables_of(model)]))
        try:
            self._put_back(state, done, arena)
        except BaseException:
            trainer._for_each_model(lambda model: [one.assign(value) for one, value in kept.pop(0)])
            raise
        trainer._kept = None
        self.done, self._place, self._logs = done, (epoch, done), state["logs"]
        self._saved = self._place
        over = trainer.stop_training or epoch >= self._training["epochs"]
        if over and self._has_trained:
            warn(f"fit trains nothing: the training in {self._path!r} has ended; pass more epochs, or another folder.")
        if self._callbacks.params.get("verbose"):
            how = "has ended already, and nothing is left to train" if over else f"goes on in epoch {epoch + 1}"
            announce(f"The training in {self._path!r} {how}" + (f" after {done} batches." if done else "."))
        return self._training["epochs"] if over else epoch

    def _put_back(self, state: dict[str, Any], done: int, arena: Any) -> None:
        trainer = self._trainer
        batch = None
        if self._read_again:
            batch = self._stream.first_batch() if self._stream.arrays is not None else self._stream.sample()
        if batch is not None:
            before = [attributes.passing() for attributes in self._attributes]
            with arena:
                checked_logs(trainer.train_step(step_data(batch)), "train_step")
            for attributes, passing in zip(self._attributes, before, strict=True):
                attributes.put_back(passing)
        lasting = batch is None  # without a step the rest is not there
        models: list[Any] = []
        trainer._for_each_model(models.append)
        if len(models) != len(state["models"]):
            self._refuse(f"{len(state['models'])} models were compared, got {len(models)}")
        pairs = {id(model): one for model, one in zip(models, state["models"], strict=True)}

        def compare(model: Any) -> None:
            for optimizer in optimizers_of(model) if lasting else ():
                optimizer.build(model._trainable_now())
            variables, values = variables_of(model, lasting), pairs[id(model)]["variables"]
            self._compare(variables, values[: len(variables)] if lasting else values)

        def put(model: Any) -> None:
            one = pairs[id(model)]
            for variable, value in zip(variables_of(model, lasting), one["variables"], strict=False):
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
        if self._read_again:
            for stream, place in zip(self._streams, state["streams"], strict=True):
                stream.set_state(place, done if stream is self._stream else 0)
        states.set_random_states(state["random"])

    def enter_epoch(self) -> tuple[int, dict[str, Any]]:
        """How many batches of this epoch are done, and the logs of the last of them."""
        done, self.done = self.done, 0
        return done, self._logs if done else {}

    # ------------------------------------------------------------ saving it

    def left(self) -> int | None:
        """How many batches there may be until the next save; None where time decides."""
        return None if self._every == "epoch" else max(self._every - self._batches, 1)

    def is_due(self, batches: int) -> bool:
        """Whether to save after so many more batches."""
        self._batches += batches
        return perf_counter() >= self._due if self._every == "epoch" else self._batches >= self._every

    def save(self, epoch: int, done: int, logs: Any) -> None:
        """Save the state after `done` batches of an epoch, or with 0 before it."""
        began = perf_counter()
        self._batches, self._saved = 0, (epoch, done)
        try:
            self._writer.write(*self._described(epoch, done, logs))
        except states.NotData as error:
            if not self._told:
                self._told = True
                warn(f"The training cannot be saved: it holds {error}; let get_state() of callbacks give plain data.")
        now = perf_counter()
        self._due = now + max(EVERY, SHARE * (now - began + self._writer.seconds))
        self._due_at_end = now + SHARE_OF_EPOCHS * (now - began + self._writer.used)

    def _described(self, epoch: int, done: int, logs: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
        models: list[Any] = []
        self._trainer._for_each_model(lambda model: models.append(_state_of(model)))
        streams = [one.get_state(done if one is self._stream else 0) for one in self._streams if self._read_again]
        state = {
            **{"epoch": epoch, "done": done, "logs": states.data_of(to_floats(logs)), "models": models},
            "things": [attributes.state() for attributes in self._attributes],
            "callbacks": self._states.get(),
            "stopped": bool(self._trainer.stop_training),
            "streams": streams,
            "random": {**states.random_states(), **(self._stream.random_states() if done and streams else {})},
        }
        description, arrays = states.described(state)
        return {"training": self._training, "state": description}, arrays

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """To be called after each epoch."""
        self._place, self._logs = (epoch + 1, 0), logs
        self._ends += 1
        if self._every == "epoch" and (self._ends <= ALWAYS or perf_counter() >= self._due_at_end):
            self.save(*self._place, logs)

    def complete(self) -> dict[str, Any]:
        """To be called after the last epoch; the logs of that."""
        if self._keeps and self._saved != self._place:
            self.save(*self._place, self._logs)
        return self._logs

    def finish(self) -> None:
        """To be called when training has ended well."""
        self.close(discard=not self._keeps)
        if not self._keeps:
            self._folder.remove()

    def close(self, discard: bool = False) -> None:
        """End the thread that writes."""
        self._writer.close(discard)

    # ------------------------------------------------------------ what there is

    def _things(self) -> tuple[list[tuple[Any, bool]], dict[int, Any]]:
        """What may keep a state in attributes, each with whether it is the user's own, and all by `id`."""
        models: list[Any] = []
        self._trainer._for_each_model(models.append)
        found = [*models, *self._trainer._contents().layers]
        for model in models:
            found += [*model._contents().layers, *model.metrics, *optimizers_of(model)]
        unique = {id(one): one for one in found}
        known = unique | {id(one): one for model in models for one in variables_of(model)}
        known |= {id(one): one for model in models for one in model._contents().streams}
        users = {id(model) for model in models}
        users |= {id(one) for one in unique.values() if not type(one).__module__.startswith("minikeras.")}
        return [(one, id(one) in users) for one in unique.values()], known


def _named(loss: Any) -> str:
    return loss if isinstance(loss, str) else getattr(loss, "__qualname__", type(loss).__qualname__)


def _settings(optimizer: Any) -> dict[str, Any]:
    """What an optimizer was made with, as far as it is plain, with its rate or schedule."""
    config = optimizer.get_config() if hasattr(optimizer, "get_config") else {}
    plain = states.data_of({name: value for name, value in config.items() if name != "name"})
    return {name: value for name, value in plain.items() if name == "learning_rate" or not isinstance(value, dict)}


def _checksum(batch: Any) -> int:
    leaves = [k.to_host(leaf) for leaf in tree.flatten(batch) if leaf is not None]
    words = [repr(leaf.tolist()).encode() if leaf.dtype.hasobject else leaf.tobytes() for leaf in leaves]
    return zlib.crc32(b"".join(words))


def _state_of(model: Any) -> dict[str, Any]:
    streams = [stream.state for stream in model._contents().streams]
    return {"variables": [one.data for one in variables_of(model)], "streams": streams, "stopped": model.stop_training}
