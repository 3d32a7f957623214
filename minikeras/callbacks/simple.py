"""Small callbacks: functions as hooks, a schedule of learning rates, a guard against NaN, a CSV file."""

from __future__ import annotations

import csv
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from minikeras import kernels as k
from minikeras.autodiff.tensor import assign_all
from minikeras.callbacks.base import Callback, path_of
from minikeras.declared import declared
from minikeras.lazy import LazyModule
from minikeras.tracebacks import warn
from minikeras.utils.checks import number
from minikeras.utils.suggest import unknown

if TYPE_CHECKING:
    from minikeras.callbacks import nonfinite
else:
    nonfinite = LazyModule("minikeras.callbacks.nonfinite")


urllib_request, urllib_parse = LazyModule("urllib.request"), LazyModule("urllib.parse")


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin, on_epoch_end: `function(epoch, logs)`.
        on_train_begin, on_train_end: `function(logs)`.
        on_train_batch_begin, on_train_batch_end: `function(batch, logs)`.
        **kwargs: functions for the other hooks, by name; under other names for the program itself.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import callbacks, layers
    >>> seen = []
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[watch])
    >>> seen
    [0, 1, 2]
    """

    def __init__(
        self,
        on_epoch_begin: Callable | None = None,
        on_epoch_end: Callable | None = None,
        on_train_begin: Callable | None = None,
        on_train_end: Callable | None = None,
        on_train_batch_begin: Callable | None = None,
        on_train_batch_end: Callable | None = None,
        **kwargs: Callable | None,
    ):
        given = {
            **{"on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end},
            **{"on_train_begin": on_train_begin, "on_train_end": on_train_end},
            **{"on_train_batch_begin": on_train_batch_begin, "on_train_batch_end": on_train_batch_end},
            **kwargs,
        }
        hooks = [name for name in dir(Callback) if name.startswith("on_")]
        for name, function in given.items():
            if name.startswith("on_") and name not in hooks:
                raise ValueError(unknown("callback hook", name, hooks))
            if function is not None and not callable(function):
                raise ValueError(f"LambdaCallback takes a function for {name}, got {function!r}.")
        vars(self).update({name: function for name, function in given.items() if function is not None})


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch.

    Args:
        schedule: `function(epoch, learning_rate)` or `function(epoch)` that returns the new rate.
        verbose: 1 tells each rate.

    Raises:
        ValueError: in training, where the function returns no finite number of at least 0; the rate is unchanged.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import callbacks, layers
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.4), "mse")
    >>> halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[halve])
    >>> float(model.optimizer.learning_rate)
    0.10000000149011612
    """

    per_replica = True
    adds = ("learning_rate",)

    def __init__(self, schedule: Callable, verbose: int = 0):
        if not callable(schedule):
            raise ValueError(f"LearningRateScheduler takes a function of the epoch for the rate, got {schedule!r}.")
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        arguments = (epoch, float(optimizer.learning_rate)) if _takes_two(self.schedule) else (epoch,)
        rate = self.schedule(*arguments)
        rate = rate.numpy() if hasattr(rate, "numpy") else rate
        rate = number(f"The learning rate that a schedule returns (for epoch {epoch})", rate, 0)
        optimizer.learning_rate = rate
        if self.verbose:
            self._announce(f"Epoch {epoch + 1}: learning rate set to {rate}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _takes_two(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a built-in that tells no signature
        return True
    return True


@declared
class TerminateOnNaN(Callback):
    """Ends training at a batch whose loss is NaN or infinite.

    Args:
        raise_error: whether to raise a RuntimeError instead.
        locate: whether to find out where that begins, which is not in Keras.  Training then also ends at a batch that
            leaves weights which are not finite, although its loss still was.  That batch is made again from the weights
            before it, forwards and backwards, and a warning names the first layer and operation whose result or
            gradient is not finite, or the columns of the data.  It keeps a copy of the weights and of the optimizer's
            state and makes it anew for each batch, so it is for finding a fault.  `fit` leaves the model as it would
            without `locate`.

    Attributes:
        location: with `locate` what was found, with `phase`, `layer`, `operation`, `epoch` and `batch`;
            `str(location)` is the sentence.  None where all was finite.

    >>> from minikeras import callbacks
    >>> callbacks.TerminateOnNaN(locate=True).locate
    True
    """

    raise_error: bool = False
    locate: bool = False
    per_replica = True

    def __post_init__(self) -> None:
        self.location: nonfinite.Location | None = None
        self._tracer: nonfinite.Tracer | None = None
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.location = None
        if self.locate:
            self._tracer = nonfinite.Tracer(self.model)
            self.model._observers = (*self.model._observers, self._observe)

    def _observe(self, data: Any) -> None:
        if self._tracer is not None:
            self._tracer.observe(data)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        bad = loss is not None and not math.isfinite(loss)
        if self._tracer is not None:
            if bad or not self._tracer.is_finite():
                self._stop_and_locate(loss, batch)
            return
        if not bad:
            return
        if self.raise_error:
            raise RuntimeError(f"The loss is {loss} at batch {batch}; look at the data or lower the learning rate.")
        self._announce(f"Batch {batch}: the loss is {loss}, training ends")
        self.model.stop_training = True

    def _stop_and_locate(self, loss: Any, batch: int) -> None:
        assert self._tracer is not None
        self.location = self._tracer.locate(loss, self._epoch, batch)
        self._tracer = None
        self.model._loss_explained = True
        if self.raise_error:
            raise RuntimeError(str(self.location))
        warn(str(self.location) if self.replica is None else f"{self.replica}: {self.location}")
        self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        self._tracer = None


class CSVLogger(Callback):
    """Writes each epoch's losses and metrics as a row of a CSV file.

    Args:
        filename: the file; it is opened at the end of the first epoch.
        separator: between columns.
        append: whether to go on with an existing file.

    Raises:
        OSError: when training begins, where the file cannot be written.

    >>> from minikeras import callbacks
    >>> callbacks.CSVLogger("training.csv", append=True).filename
    'training.csv'
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False):
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"CSVLogger's separator must be one character, got {separator!r}.")
        self.filename, self.sep, self.append = path_of(self, "filename", filename), separator, append
        self._file: Any = None
        self._writer: Any = None

    def check_before_training(self) -> None:
        check_writable(self.filename, "CSVLogger")
        if not os.path.isdir(os.path.dirname(self.filename) or "."):
            raise FileNotFoundError(f"CSVLogger writes to {self.filename!r}, whose folder does not exist; create it.")

    def on_train_begin(self, logs: Any = None) -> None:
        self._close()

    def get_state(self) -> dict[str, Any]:
        begun = self._writer is not None
        return {"names": self._writer.fieldnames, "size": self._file.tell()} if begun else {}

    def set_state(self, state: dict[str, Any]) -> None:
        if state and os.path.exists(self.filename):  # rows that are to come again are cut off
            self._file = open(self.filename, "r+", newline="")  # noqa: SIM115 - closed at the end
            self._file.truncate(state["size"])
            self._file.seek(0, os.SEEK_END)
            self._write_head(state["names"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if self._file is None:  # not earlier: a training that fails in its first step leaves the file as it was
            self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115 - closed at the end
        if self._writer is None:
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):  # validation may come in a later epoch
                names += [f"val_{name}" for name in names]
            self._write_head(["epoch", *names])
        self._writer.writerow({"epoch": epoch} | {name: _cell(value) for name, value in logs.items()})
        self._file.flush()

    def _write_head(self, names: list[str]) -> None:
        settings: Any = {"restval": "NA", "extrasaction": "ignore", "delimiter": self.sep}
        self._writer = csv.DictWriter(self._file, names, **settings)
        if self._file.tell() == 0:
            self._writer.writeheader()

    def on_train_end(self, logs: Any = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None


def _address(thing: Any, name: str, value: Any) -> str:
    if not str(value).startswith(("http://", "https://")):
        raise ValueError(f"RemoteMonitor's root must begin with 'http://' or 'https://', got {value!r}.")
    return value


@declared
class RemoteMonitor(Callback):
    """Sends each epoch's losses and metrics to a server, by HTTP POST.

    A server that does not answer within ten seconds is warned of, and training goes on.

    Args:
        root: the address of the server.
        path: of the page there.
        field: the field of a form that holds the JSON text.
        headers: further lines of the request, as a dict.
        send_as_json: whether the JSON text is sent as it is instead.

    >>> from minikeras import callbacks
    >>> callbacks.RemoteMonitor("http://localhost:8000")
    <RemoteMonitor root='http://localhost:8000'>
    """

    root: Annotated[str, _address] = "http://localhost:9000"
    path: str = "/publish/epoch/end/"
    field: str = "data"
    headers: Mapping[str, str] | None = None
    send_as_json: bool = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in (logs or {}).items()}
        text = json.dumps({"epoch": epoch, **values})
        body = text if self.send_as_json else urllib_parse.urlencode({self.field: text})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, **(self.headers or {})}
        request = urllib_request.Request(self.root + self.path, body.encode(), headers)
        try:
            urllib_request.urlopen(request, timeout=10).close()
        except OSError as error:
            warn(f"RemoteMonitor could not send epoch {epoch + 1} to {self.root + self.path!r}: {error}.")


@declared
class SwapEMAWeights(Callback):
    """Has evaluations and predictions use the moving averages of the weights, which an optimizer with `use_ema` keeps.

    Args:
        swap_on_epoch: whether the averages also stand in the model from the end of an epoch to the beginning of the
            next, so that callbacks after this one see and save them.

    Raises:
        ValueError: when training begins, without `use_ema`.

    >>> from minikeras import callbacks
    >>> callbacks.SwapEMAWeights(swap_on_epoch=True)
    <SwapEMAWeights swap_on_epoch=True>
    """

    swap_on_epoch: bool = False
    per_replica = None

    def __post_init__(self) -> None:
        self._trained: list[tuple[Any, Any]] = []  # the weights that averages stand in the place of, and their values
        self._swapped_before = False

    def get_state(self) -> dict[str, Any]:
        return {"trained": [value for _, value in self._trained]}

    def set_state(self, state: dict[str, Any]) -> None:
        weights = [weight for weight, _ in self._pairs()] if state["trained"] else []
        self._trained = list(zip(weights, map(k.to_device, state["trained"]), strict=True))

    def _pairs(self) -> list[tuple[Any, Any]]:
        """The weights and their averages, of the optimizers that have made a step."""
        begun = [one for one in self._averaging() if int(one.iterations)]
        return [pair for one in begun for pair in zip(one._trainable_variables, one._averages, strict=True)]

    def _averaging(self) -> list[Any]:
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        return [one for one in getattr(optimizer, "optimizers", [optimizer]) if getattr(one, "use_ema", False)]

    def check_before_training(self) -> None:
        if not self._averaging():
            problem = f"SwapEMAWeights needs an optimizer with use_ema=True, got {self.model.optimizer!r}"
            raise ValueError(f"{problem}; compile with one.")

    def _swap(self) -> None:
        """Put the averages in the place of the weights, where there are any yet."""
        if not self._trained:
            pairs = self._pairs()
            self._trained = [(weight, weight.data.copy()) for weight, _ in pairs]
            assign_all([weight for weight, _ in pairs], [average for _, average in pairs])

    def _swap_back(self) -> None:
        assign_all([weight for weight, _ in self._trained], [value for _, value in self._trained])
        self._trained = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._swap_back()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.swap_on_epoch:
            self._swap()

    def on_train_end(self, logs: Any = None) -> None:
        self._trained = []  # the optimizer has put the averages there for good

    def on_test_begin(self, logs: Any = None) -> None:
        self._swapped_before = bool(self._trained)
        self._swap()

    def on_test_end(self, logs: Any = None) -> None:
        if not self._swapped_before:
            self._swap_back()

    on_predict_begin, on_predict_end = on_test_begin, on_test_end


def check_writable(path: str, owner: str) -> None:
    """Refuse a path where no file can be written, as far as that shows without writing one.

    Raises:
        OSError: where it is a folder, something on the way to it is none, or writing there is not allowed.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{owner} writes a file, got the folder {path!r}; add the name of a file.")
    place = path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if place != path and not os.path.isdir(place):
        raise NotADirectoryError(f"{owner} cannot write to {path!r}, because {place!r} is no folder; choose another.")
    if not os.access(place, os.W_OK):
        raise PermissionError(f"{owner} may not write to {path!r}, because {place!r} is protected; choose another.")


def _cell(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'
