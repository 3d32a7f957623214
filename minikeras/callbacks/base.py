"""Callback: what users hook into training with."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from minikeras.declared import Fielded, Whole
from minikeras.utils.console import announce


def lazy_logs(hook: Callable) -> Callable:
    """Mark a batch hook that takes its logs unread: a function without arguments that returns the dict.

    Reading logs waits for the device; a hook that seldom looks at them asks for them this way and calls the function
    (through `read_logs`) when it does.
    """
    hook.lazy_logs = True  # type: ignore[attr-defined]
    return hook


def may_skip(hook: Callable) -> Callable:
    """Mark a batch hook that need not be called for every batch: where several were computed at once, for the last."""
    hook.may_skip = True  # type: ignore[attr-defined]
    return hook


def read_logs(logs: Any) -> dict[str, Any]:
    """The dict of logs, computed now if it comes as a function."""
    return logs() if callable(logs) else logs or {}


def path_of(thing: Any, name: str, value: Any) -> str:
    """The check of a path, which is kept as a string."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ValueError(f"{type(thing).__name__}'s {name} must be a path, got {value!r}.")
    return path


def frequency(thing: Any, name: str, value: Any) -> Any:
    """The check of every how many batches something happens; `"epoch"` is once in each epoch."""
    return value if value == "epoch" else Whole(1)(thing, f"{name} (unless it is 'epoch')", value)


FilePath = Annotated[Any, path_of]
Frequency = Annotated[Any, frequency]


class Callback(Fielded):
    """The base of callbacks: subclass it and define the hooks that are wanted.

    `self.model` is the model being trained, `self.params` a dict with `verbose`, `epochs` and `steps`.  `logs` maps
    names of losses and metrics to floats; what `on_epoch_end` adds to it is recorded in the history and shown.  Setting
    `self.model.stop_training = True` ends training after the batch or epoch; `stop_evaluating` and `stop_predicting` do
    so to an evaluation and a prediction.

    Listening to batches makes training read the metrics back from the device at each of them.

    A training that is broken off and resumed (see `fit`) gives a callback the attributes back that are plain data or
    random generators; one that has to keep more defines `get_state` and `set_state`.

    Attributes:
        per_replica: whether in a comparison of optimizers (see `Model.compile`) each replica gets a shallow copy of
            the callback, called with its values alone, before `on_train_begin`, whose `model` is the clone that is
            trained as this replica; the object itself ends as the winner's.
            Of the hooks these get those of training, its epochs and its batches.  False where it is called once, with
            the values of all replicas, None where a comparison refuses it.
        replica: the name of the replica that such a copy acts on, else None.
        adds: names of the values that the callback adds to the logs of an epoch.
        restored_epoch: the epoch whose weights the callback gave back to the model at the end of training, or None.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import callbacks, layers
    >>> class Print(callbacks.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, sorted(logs))
    ...
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[Print()])
    epoch 0 ['loss']
    """

    params: Any = None
    model: Any = None
    per_replica: bool | None = False
    replica: str | None = None
    restored_epoch: int | None = None
    adds: tuple[str, ...] = ()

    def _announce(self, message: str) -> None:
        """Tell the user, in a comparison with the replica's name."""
        announce(message if self.replica is None else f"{self.replica}: {message}")

    def __repr__(self) -> str:
        """Its class and those of its settings that are no defaults."""
        known = inspect.signature(type(self)).parameters
        held = {name: value for name, value in vars(self).items() if isinstance(value, (str, int, float))}
        shown = [f" {name}={held[name]!r}" for name in known if name in held and held[name] != known[name].default]
        return f"<{type(self).__name__}{''.join(shown)}>"

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self.model = model

    def check_before_training(self) -> None:
        """Refuse what could not work in a training, before it begins; nothing may be changed here.

        Raises:
            ValueError, OSError: what is wrong, and the remedy.
        """

    def get_state(self) -> dict[str, Any] | None:
        """What the callback needs to go on after a training was broken off: numbers, texts, arrays, lists, dicts.

        None, the default, stands for the attributes that are of these kinds.
        """
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with what `get_state` gave; called after `on_train_begin`."""

    def check_log_names(self, names: set[str]) -> None:
        """Refuse what asks for other logs than there will be, before the first update; nothing may be changed here.

        Called where losses and metrics are all that logs are made of.

        Raises:
            ValueError: what is wrong, and the remedy.
        """

    def on_train_begin(self, logs: Any = None) -> None:
        """Before training."""

    def on_train_end(self, logs: Any = None) -> None:
        """After training, with the last epoch's logs."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Before an evaluation, validation in `fit` included."""

    def on_test_end(self, logs: Any = None) -> None:
        """After an evaluation, with its results."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """After a prediction."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before an epoch; the first is 0."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After an epoch and its validation, with the results of both."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a training batch; the first of each epoch is 0."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a training batch, with the means over the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before an evaluation batch."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """After an evaluation batch, with the means so far."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a prediction batch."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a prediction batch; `logs["outputs"]` holds its outputs."""


def is_finite(value: Any) -> bool:
    """Whether a logged value is no NaN and no infinity; what is no number counts as finite."""
    return not isinstance(value, (float, np.floating)) or math.isfinite(value)
