"""CallbackList: at each batch calls the callbacks that listen, and no others."""

from __future__ import annotations

from typing import Any

from minikeras import tree
from minikeras.callbacks.base import Callback, read_logs
from minikeras.callbacks.history import History
from minikeras.callbacks.progress import ProgbarLogger

_BATCH_HOOKS = [f"on_{phase}_batch_{moment}" for phase in ("train", "test", "predict") for moment in ("begin", "end")]


class _BatchHook:
    """One batch hook of a list of callbacks: those that define it."""

    def __init__(self, name: str, callbacks: list[Callback]):
        names = [name, name.replace("train_", "")] if "train" in name else [name]
        listening = [callback for callback in callbacks if any(_defines(callback, hook) for hook in names)]
        self.listeners = [getattr(callback, name) for callback in listening]
        self.eager = any(not hasattr(listener, "lazy_logs") for listener in self.listeners)
        self.each = any(not hasattr(listener, "may_skip") for listener in self.listeners)

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

    >>> from minikeras import callbacks
    >>> hooks = callbacks.CallbackList([callbacks.History()], epochs=1)
    >>> hooks.on_train_begin()
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ):
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
