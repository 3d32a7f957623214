"""History: the values of each epoch; `fit` returns one.  It prints them as a table and draws them as curves."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from minikeras.callbacks.base import Callback
from minikeras.callbacks.monitor import higher_is_better
from minikeras.lazy import LazyModule
from minikeras.utils.console import show

drawing = LazyModule("minikeras.callbacks.curves")


class History(Callback):
    """Records each epoch's losses and metrics.

    Attributes:
        epoch: the numbers of the epochs of the last training, from 0.
        history: `{"loss": [...], "val_loss": [...], ...}`, one value per epoch.  After a comparison of optimizers (see
            `Model.compile`) also `"sgd/loss"` and so on for each replica; the plain names have the best one's.
        params: `{"verbose": ..., "epochs": ..., "steps": ...}`.
        model: the trained model.
        replicas: the names of what was compared, empty where nothing was.
        best: the name of the replica that the model has become; None where nothing was compared.
        seconds: duration of the training; in a comparison by replica.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=3, verbose=0)
    >>> history.epoch, list(history.history)
    ([0, 1, 2], ['loss'])
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}
        self._begin()

    def _begin(self) -> None:
        self.replicas: list[str] = []
        self.best: str | None = None
        self.seconds: Any = 0.0
        self._epochs: dict[str, list[int]] = {}  # of each value: not every epoch is validated
        self._began = perf_counter()

    def __repr__(self) -> str:
        values = [f" {name}={_text_of(values[-1])}" for name, values in self.history.items()]
        return f"<History epochs={len(self.epoch)}{''.join(values)}>"

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
            self._epochs.setdefault(name, []).append(epoch)
        if not self.replicas:
            self.seconds = perf_counter() - self._began

    def get_state(self) -> dict[str, Any]:
        names = ("epoch", "history", "_epochs", "replicas", "best", "seconds")
        return {**{name: getattr(self, name) for name in names}, "elapsed": perf_counter() - self._began}

    def set_state(self, state: dict[str, Any]) -> None:
        elapsed = state.pop("elapsed")
        vars(self).update(state, _began=perf_counter() - elapsed)

    def adopt_best(self) -> None:
        """Give the best replica's values the plain names: until the end these had those of each epoch's leader."""
        prefix = f"{self.best}/"
        for name in [name for name in self.history if name.startswith(prefix)]:
            plain = name.removeprefix(prefix)
            self.history[plain] = list(self.history[name])
            self._epochs[plain] = list(self._epochs[name])

    # ------------------------------------------------------------ as a table

    def table(self) -> list[dict[str, Any]]:
        """What `summary` prints: a dict for each value, in a comparison for each value of each replica.

        Its entries are `replica` (None without a comparison), `metric`, `final`, `best` and `best_epoch` of training,
        `val_final`, `val_best` and `val_best_epoch` of validation, `gap` (validation minus training, in the last
        epoch that was validated), `epochs` and `seconds`.  Epochs are counted from 1; what is not known is None, such
        as the best of a value whose name does not say whether it is to rise or to fall.
        """
        return [self._row(replica, metric) for replica in self._compared() for metric in self._metrics(replica)]

    def _compared(self) -> list[str | None]:
        return [*self.replicas] or [None]

    def _metrics(self, replica: str | None) -> list[str]:
        """The names of the training's values, the losses first."""
        names = self._names(replica)
        names = [name for name in names if not (name.startswith("val_") and name.removeprefix("val_") in names)]
        return sorted(names, key=lambda name: not name.endswith("loss"))

    def _names(self, replica: str | None) -> list[str]:
        prefix = "" if replica is None else f"{replica}/"
        return [name.removeprefix(prefix) for name in self.history if name.startswith(prefix)]

    def _series(self, replica: str | None, metric: str) -> tuple[list[int], list[Any]]:
        """The epochs, from 1, and the values of this training."""
        name = metric if replica is None else f"{replica}/{metric}"
        epochs = [epoch + 1 for epoch in self._epochs.get(name, [])]
        return epochs, self.history[name][-len(epochs) :] if epochs else []

    def _row(self, replica: str | None, metric: str) -> dict[str, Any]:
        row: dict[str, Any] = {"replica": replica, "metric": metric}
        curves = {prefix: self._series(replica, prefix + metric) for prefix in ("", "val_")}
        for prefix, (epochs, values) in curves.items():
            row[f"{prefix}final"] = values[-1] if values else None
            row[f"{prefix}best"], row[f"{prefix}best_epoch"] = _best(metric, epochs, values)
        (epochs, values), (val_epochs, val_values) = curves.values()
        at_validation = dict(zip(epochs, values, strict=True)).get(val_epochs[-1]) if val_epochs else None
        known = _is_number(at_validation) and _is_number(val_values[-1])
        row["gap"] = val_values[-1] - at_validation if known else None
        row["epochs"] = len(epochs)
        row["seconds"] = self.seconds if replica is None else self.seconds.get(replica)
        return row

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of all values: the final and the best ones, the epochs it took to reach these, and the gap.

        The gap is validation minus training in the last validated epoch, the generalisation gap.  In a comparison
        each replica has its rows, its time, and the winner a star.

        Args:
            print_fn: called with the text instead of printing it.
        """
        (print_fn or show)(self._text())

    def _repr_html_(self) -> str:
        """The table of `summary`, which a notebook shows."""
        return f"<pre>{html.escape(self._text())}</pre>"

    def _text(self) -> str:
        rows = self.table()
        if not rows:
            return "There are no values yet: no epoch has been trained.\n"
        head = ("metric", "final", "best", "epoch", "val final", "val best", "epoch", "gap")
        columns = ("final", "best", "best_epoch", "val_final", "val_best", "val_best_epoch", "gap")
        validated = any(row["val_final"] is not None for row in rows)
        used = 8 if validated else 4
        lines = [head[:used]]
        lines += [(row["metric"], *(_text_of(row[column]) for column in columns))[:used] for row in rows]
        if self.replicas:
            times = {name: f"{seconds:.1f} s" for name, seconds in self.seconds.items()}
            beginning = [row["metric"] == self._metrics(row["replica"])[0] for row in rows]
            stars = {name: f"{name} *" if name == self.best else name for name in self.replicas}
            names = ["replica", *(stars[r["replica"]] if new else "" for r, new in zip(rows, beginning, strict=True))]
            ends = ["time", *(times[r["replica"]] if new else "" for r, new in zip(rows, beginning, strict=True))]
            lines = [(name, *line, end) for name, line, end in zip(names, lines, ends, strict=True)]
            judged = "validation loss" if any(row["val_best"] is not None for row in rows) else "loss"
            closing = f"* the lowest final {judged}: what the model has become"
        else:
            closing = f"{_counted(len(self.epoch), 'epoch')} in {self.seconds:.1f} s"
        if validated:
            closing += "; gap: validation minus training"
        return f"{_aligned(lines, 2 if self.replicas else 1)}\n{closing}.\n"

    # ------------------------------------------------------------ as a picture

    def plot(self, metrics: str | Iterable[str] | None = None, path: Any = None, figure: Any = None) -> Any:
        """Draw the learning curves with matplotlib: training dashed, validation solid, each replica in a colour.

        The figure is no window's, and matplotlib's backend stays what it is; `plot(figure=plt.figure())` draws into a
        figure of pyplot's, which `plt.show()` shows.

        Args:
            metrics: names of the values to draw, one below the other, such as `"loss"` or `["loss", "accuracy"]`;
                default all.
            path: file to write the figure to, its ending says in which format, such as `"curves.png"`.
            figure: a matplotlib figure to draw into, default a new one.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: where matplotlib is not installed.
            ValueError: for a metric that was not recorded, or where no epoch has been trained.
        """
        curves = {
            (replica, metric): (self._series(replica, metric), self._series(replica, f"val_{metric}"))
            for replica in self._compared()
            for metric in self._metrics(replica)
        }
        return drawing.draw(curves, metrics, path, figure)


def _best(metric: str, epochs: list[int], values: list[Any]) -> tuple[Any, int | None]:
    """The best value and its epoch; None where it cannot be told."""
    try:
        rises = higher_is_better(metric)
    except ValueError:
        return None, None
    numbers = [(value, epoch) for epoch, value in zip(epochs, values, strict=True) if _is_number(value)]
    numbers = [(value, epoch) for value, epoch in numbers if value == value]
    if not numbers:
        return None, None
    return max(numbers, key=lambda pair: pair[0]) if rises else min(numbers, key=lambda pair: pair[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) or not _is_number(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 or value != value else f"{value:.2e}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _aligned(lines: list[tuple[str, ...]], names: int) -> str:
    """Columns of equal width, the first `names` flush left, and a rule below the heads."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *texts[1:]])
