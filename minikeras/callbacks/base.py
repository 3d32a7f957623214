"""Callback: what users hook into training with.  CallbackList: at each batch calls those that listen, and no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from minikeras import tree
from minikeras.tracebacks import UserFacing
from minikeras.utils.console import announce


def lazy_logs(hook: Callable) -> Callable:
    """Mark a batch hook that takes its logs unread: a function without arguments that returns the dict.

    Reading logs waits for the device; a hook that seldom looks at them asks for them this way and calls the function
    (through `read_logs`) when it does.
    """
    hook.lazy_logs = True  # type: ignore[attr-defined]
    return hook


def read_logs(logs: Any) -> dict[str, Any]:
    """The dict of logs, computed now if it comes as a function."""
    return logs() if callable(logs) else logs or {}


def file_name(owner: str, argument: str, value: Any) -> str:
    """A path as a string, or a sentence."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ValueError(f"{owner}'s {argument} must be a path, got {value!r}.")
    return path


class Callback(UserFacing):
    """The base of callbacks: subclass it and define the hooks that are wanted.

    `self.model` is the model being trained, `self.params` a dict with `verbose`, `epochs` and `steps`.  `logs` maps
    names of losses and metrics to floats; what `on_epoch_end` adds to it is recorded in the history and shown.  Setting
    `self.model.stop_training = True` ends training after the batch or epoch.

    Listening to batches makes training read the metrics back from the device at each of them.

    Attributes:
        per_replica: whether in a comparison of optimizers (see `Model.compile`) each replica gets a shallow copy of
            the callback, called with its values alone, before `on_train_begin`; the object itself ends as the winner's.
            Of the hooks these get those of training, its epochs and its batches.  False where it is called once, with
            the values of all replicas.
        replica: the name of the replica that such a copy acts on, else None.
        adds: names of the values that the callback adds to the logs of an epoch.
        restored_epoch: the epoch whose weights the callback gave back to the model at the end of training, or None.
    """

    params: Any = None
    model: Any = None
    per_replica = False
    replica: str | None = None
    restored_epoch: int | None = None
    adds: tuple[str, ...] = ()

    def _announce(self, message: str) -> None:
        """Tell the user, in a comparison with the replica's name."""
        announce(message if self.replica is None else f"{self.replica}: {message}")

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self.model = model

    def check_before_training(self) -> None:
        """Refuse what could not work in a training, before it begins; nothing may be changed here.

        Raises:
            ValueError, OSError: what is wrong, and the remedy.
        """

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


_BATCH_HOOKS = [f"on_{phase}_batch_{moment}" for phase in ("train", "test", "predict") for moment in ("begin", "end")]


class _BatchHook:
    """One batch hook of a list of callbacks: those that define it."""

    def __init__(self, name: str, callbacks: list[Callback]):
        names = [name, name.replace("train_", "")] if "train" in name else [name]
        self.listeners = [
            getattr(callback, name) for callback in callbacks if any(_defines(callback, hook) for hook in names)
        ]
        self.eager = any(not hasattr(listener, "lazy_logs") for listener in self.listeners)

    def __call__(self, batch: int, logs: Any = None) -> None:
        if self.listeners:
            if logs is None or self.eager:
                logs = read_logs(logs)
            for listener in self.listeners:
                listener(batch, logs)


def _defines(callback: Callback, hook: str) -> bool:
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


_NOBODY = _BatchHook("", [])  # of no callbacks, as in most predictions of a single sample


class CallbackList(Callback):
    """Several callbacks called as one, in their order.

    Which callbacks define which batch hooks is found out once, in the beginning; the others cost nothing per batch.
    The batch hooks take logs as a dict or as a function that returns it, which is only called where they are read.

    Args:
        callbacks: a `Callback` or a list of them.
        add_history, add_progbar: whether to append a `History` and a `ProgbarLogger` where there is none.
        model: passed to the callbacks' `set_model`.
        **params: passed to the callbacks' `set_params`.

    Attributes:
        wants_train_batches, wants_test_batches, wants_predict_batches: whether some callback reads the logs of every
            such batch; one that looks only now and then, as the progress bar, does not count.

    Raises:
        TypeError: for what is not a callback.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
        from minikeras.callbacks.history import History
        from minikeras.callbacks.progress import ProgbarLogger

        self.callbacks: list[Callback] = [] if callbacks is None else tree.flatten(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"Callbacks are instances of subclasses of minikeras Callback, got {callback!r}.")
        self.history = next((callback for callback in self.callbacks if isinstance(callback, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        if add_progbar and not any(isinstance(callback, ProgbarLogger) for callback in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        self._find_listeners()
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def _find_listeners(self) -> None:
        hooks = {name: _BatchHook(name, self.callbacks) if self.callbacks else _NOBODY for name in _BATCH_HOOKS}
        # attributes of the instance: one call less per batch than methods that look the hooks up
        self.__dict__.update(hooks)
        self.__dict__.update(on_batch_begin=hooks["on_train_batch_begin"], on_batch_end=hooks["on_train_batch_end"])
        self.wants_train_batches = hooks["on_train_batch_end"].eager
        self.wants_test_batches = hooks["on_test_batch_end"].eager
        self.wants_predict_batches = hooks["on_predict_batch_end"].eager

    def append(self, callback: Callback) -> None:
        """Add a callback at the end."""
        self.callbacks.append(callback)
        self._find_listeners()

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: Any) -> None:
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def check_before_training(self) -> None:
        for callback in self.callbacks:
            callback.check_before_training()

    def check_log_names(self, names: set[str]) -> None:
        if not all(type(callback).__module__.startswith("minikeras.") for callback in self.callbacks):
            return  # the user's own may add values of any name
        added = {name for callback in self.callbacks for name in callback.adds}
        for callback in self.callbacks:
            callback.check_log_names(names | added)

    def on_train_begin(self, logs: Any = None) -> None:
        self._call("on_train_begin", logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._call("on_train_end", logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self._call("on_test_begin", logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        self._call("on_predict_begin", logs)

    def on_predict_end(self, logs: Any = None) -> None:
        self._call("on_predict_end", logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_begin", logs, epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._call("on_epoch_end", logs, epoch)

    def _call(self, hook: str, logs: Any, *position: int) -> None:
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(*position, logs)
