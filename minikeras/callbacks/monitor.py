"""Watching one value from epoch to epoch, and what is done about it: stopping, saving, lowering the learning rate."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from minikeras import ops
from minikeras.callbacks.base import Callback, FilePath, Frequency, lazy_logs, read_logs
from minikeras.callbacks.simple import check_writable
from minikeras.declared import Converted, Number, Whole, declared
from minikeras.tracebacks import warn
from minikeras.utils.checks import MODEL_ENDINGS, WEIGHTS_ENDINGS, ending
from minikeras.utils.suggest import unknown

# Parts of the names of values that are better when higher or lower.
_HIGHER = (
    *("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "io_u", "r2_score", "cosine_similarity", "true_"),
    *("sensitivity", "specificity", "correlation"),
)
_LOWER = (
    *("loss", "error", "mse", "mae", "mape", "msle", "crossentropy", "hinge", "divergence", "cosh", "poisson", "huber"),
    "false_",
)


def higher_is_better(monitor: str) -> bool:
    """Whether a value of that name is to rise (`val_accuracy`) or to fall (`val_loss`).

    The last telling part of the name decides: what comes before it may be the name of an output.

    Raises:
        ValueError: where the name does not say.
    """
    rising, falling = (max(monitor.rfind(part) for part in parts) for parts in (_HIGHER, _LOWER))
    if rising == falling:
        raise ValueError(f"Whether {monitor!r} is to rise or fall does not show in its name; pass mode='max' or 'min'.")
    return rising > falling


def _value_name(thing: Any, name: str, value: Any) -> str:
    if not isinstance(value, str):
        owner = type(thing).__name__
        raise ValueError(f"{owner}'s monitor must be the name of a value, such as 'val_loss', got {value!r}.")
    return value


def _known_mode(thing: Any, name: str, value: Any) -> str:
    if value in ("auto", "min", "max"):
        return value
    warn(f"{unknown('mode', value, ('auto', 'min', 'max'))} 'auto' is taken.")
    return "auto"


ValueName = Annotated[str, _value_name]
Mode = Annotated[str, _known_mode]
Delta = Annotated[float, Number(), Converted(abs)]
Epochs = Annotated[int, Whole(0, floats=True)]
Threshold = Annotated[float | None, Number(optional=True, infinite=True)]


class Monitor(Callback):
    """Base of the callbacks that watch a value.

    Attributes:
        monitor: its name in the logs.
        mode: `"min"` or `"max"`: what is better; `"auto"` goes by the name.
        min_delta: an improvement is larger than this.
    """

    monitor: str
    mode: str
    min_delta = 0.0

    def _watch(self, compares: bool = True) -> None:
        """Find out, where values are compared at all, whether what is better is higher."""
        self.best: Any = None
        self._rising = self.mode == "max" or (self.mode == "auto" and compares and higher_is_better(self.monitor))

    @property
    def monitor_op(self) -> Any:
        """`ops.greater` where higher values are better, else `ops.less`."""
        return ops.greater if self._rising else ops.less

    def is_improvement(self, value: Any, reference: Any) -> bool:
        """Whether `value` is better than `reference` by more than `min_delta`; anything is better than None."""
        if reference is None:
            return True
        if self._rising:
            return bool(value - self.min_delta > reference)
        return bool(value + self.min_delta < reference)

    def monitored(self, logs: Any) -> Any:
        """The watched value; None, with a warning, where the logs have it not."""
        logs = logs or {}
        if self.monitor not in logs:
            warn(f"{type(self).__name__}: {unknown('metric', self.monitor, logs)}")
        return logs.get(self.monitor)


@declared
class EarlyStopping(Monitor):
    """Ends training when a value has stopped to improve.

    Args:
        monitor, min_delta, mode: the value, as for `Monitor`.
        patience: how many epochs without improvement are allowed.
        verbose: 1 tells when training is stopped.
        baseline: epochs that improve but do not beat this do not restart the patience.
        restore_best_weights: whether the model ends with the weights of the best epoch.
        start_from_epoch: number of epochs that are not watched.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import callbacks, layers
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> stop = callbacks.EarlyStopping(monitor="loss", patience=2)
    >>> history = model.fit(np.ones((4, 2)), np.zeros((4, 1)), epochs=10, verbose=0, callbacks=[stop])
    >>> len(history.epoch)
    3
    """

    monitor: ValueName = "val_loss"
    min_delta: Delta = 0.0
    patience: Epochs = 0
    verbose: int = 0
    mode: Mode = "auto"
    baseline: Threshold = None
    restore_best_weights: bool = False
    start_from_epoch: Epochs = 0
    per_replica = True

    def __post_init__(self) -> None:
        self._watch()
        self.on_train_begin()

    def on_train_begin(self, logs: Any = None) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = self.restored_epoch = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        current = self.monitored(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_improvement(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch and self.verbose:
            self._announce(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                self._announce(f"The model has the weights of the best epoch, {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)
            self.restored_epoch = self.best_epoch


@declared
class ReduceLROnPlateau(Monitor):
    """Lowers the learning rate when a value has stopped to improve.

    Args:
        monitor, mode, min_delta: the value, as for `Monitor`; `epsilon` is Keras 2's name of `min_delta`.
        factor: what the learning rate is multiplied by, from 0 to below 1.
        patience: how many epochs without improvement are allowed.
        verbose: 1 tells when the rate is lowered.
        cooldown: number of epochs after that which are not counted.
        min_lr: the rate is not made lower than this.

    >>> from minikeras import callbacks
    >>> callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=3).factor
    0.5
    """

    monitor: ValueName = "val_loss"
    factor: Annotated[float, Number(0, below=1)] = 0.1
    patience: Epochs = 10
    verbose: int = 0
    mode: Mode = "auto"
    min_delta: Delta = 1e-4
    cooldown: Epochs = 0
    min_lr: Annotated[float, Number(0)] = 0.0
    per_replica = True
    adds = ("learning_rate",)

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"min_delta" if name == "epsilon" else name: value for name, value in given.items()}

    def __post_init__(self) -> None:
        self._watch()
        self.on_train_begin()

    def on_train_begin(self, logs: Any = None) -> None:
        self.best = None
        self.wait = self.cooldown_counter = 0

    def in_cooldown(self) -> bool:
        """Whether the rate was lowered less than `cooldown` epochs ago."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        rate = logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        current = self.monitored(logs)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and rate > np.float32(self.min_lr):
                lower = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = lower
                self.cooldown_counter, self.wait = self.cooldown, 0
                if self.verbose:
                    self._announce(f"Epoch {epoch + 1}: learning rate lowered to {lower}")


@declared
class ModelCheckpoint(Monitor):
    """Saves the model or its weights during training.

    Args:
        filepath: where; may contain `{epoch}` (from 1), `{batch}` and names from the logs, such as
            `"{epoch:02d}-{val_loss:.2f}.keras"`.  Its ending decides what is written, as for `save` and `save_weights`:
            `.keras`, `.h5` or `.hdf5`; with `save_weights_only` `.weights.h5`, `.weights.json`, `.npz`, or `.h5` and
            `.hdf5` for the layout of Keras 2.
        monitor, mode: the value, as for `Monitor`; only looked at with `save_best_only`.
        verbose: 1 tells what is saved.
        save_best_only: whether only improvements are saved; where the logs have not got the value everything is.
        save_weights_only: whether the weights are saved alone.
        save_freq: `"epoch"`, or a number of batches.
        initial_value_threshold: the value that the first save has to beat.
        period: Keras 2's number of epochs from one save to the next.

    Raises:
        KeyError: when saving, for a name in `filepath` that the logs have not got.

    >>> from minikeras import callbacks
    >>> callbacks.ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True).filepath
    'best.keras'
    """

    filepath: FilePath
    monitor: ValueName = "val_loss"
    verbose: int = 0
    save_best_only: bool = False
    save_weights_only: bool = False
    mode: Mode = "auto"
    save_freq: Frequency = "epoch"
    initial_value_threshold: Threshold = None
    period: Annotated[int, Whole(1, floats=True)] = 1

    def __post_init__(self) -> None:
        self._watch(compares=self.save_best_only)
        self.best = self.initial_value_threshold
        kinds = WEIGHTS_ENDINGS if self.save_weights_only else MODEL_ENDINGS
        ending(f"ModelCheckpoint with save_weights_only={self.save_weights_only}", self.filepath, kinds)
        self._epoch = self._batches = self._epochs = 0
        self._last_batch = -1

    def check_before_training(self) -> None:
        try:
            path = self.filepath.format_map(_AnyValue(self.save_freq != "epoch"))
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            problem = f"ModelCheckpoint cannot make a path of filepath={self.filepath!r}: {error}"
            raise ValueError(f"{problem}; name values as in '{{epoch:02d}}-{{val_loss:.2f}}.keras'.") from None
        check_writable(os.path.expanduser(path), "ModelCheckpoint")

    def check_log_names(self, names: set[str]) -> None:
        known = {"epoch", *names} | ({"batch"} if self.save_freq != "epoch" else set())
        for _, field, _, _ in string.Formatter().parse(self.filepath):
            if field is not None and field not in known:
                raise ValueError(f"ModelCheckpoint's path {self.filepath!r}: {unknown('value', field, sorted(known))}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._last_batch = epoch, -1

    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            return
        self._batches += batch - self._last_batch
        self._last_batch = batch
        if self._batches >= self.save_freq:
            self._batches = 0
            logs = read_logs(logs)
            self._save(self._epoch, {"batch": batch + 1, **logs})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epochs += 1
        if self.save_freq == "epoch" and self._epochs >= self.period:
            self._epochs = 0
            self._save(epoch, logs or {})

    def _save(self, epoch: int, logs: dict[str, Any]) -> None:
        try:
            path = Path(self.filepath.format(**{**logs, "epoch": epoch + 1}))
        except KeyError as error:
            raise KeyError(f"The path {self.filepath!r} names {error}, the logs only have {sorted(logs)}.") from None
        if self.save_best_only:
            current = self.monitored(logs)
            if current is not None and not self.is_improvement(current, self.best):
                if self.verbose:
                    self._announce(f"Epoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
                return
            self.best = self.best if current is None else current
        path.parent.mkdir(parents=True, exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(str(path), overwrite=True)
        if self.verbose:
            self._announce(f"Epoch {epoch + 1}: model saved to {path}")


class _AnyValue(dict):
    """Some value under every name, whole numbers for epoch and batch, for trying out a path."""

    def __init__(self, batches: bool):
        super().__init__(epoch=1, **({"batch": 1} if batches else {}))

    def __missing__(self, name: str) -> float:
        return 0.5
