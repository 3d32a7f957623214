"""What training shows: a bar that is drawn over on a terminal, and one plain line per epoch anywhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import numpy as np

from minikeras.callbacks.base import Callback, lazy_logs, may_skip, read_logs
from minikeras.utils.console import announce, colours, redraws, show

_BOLD, _GREEN, _END = "\x1b[1m", "\x1b[32m", "\x1b[0m"


class Progbar:
    """A progress bar.

    Args:
        target: number of steps in all, None where it is not known.
        width: characters of the bar.
        verbose: 0 silent, 1 a bar, 2 one line at the end.  Where lines cannot be drawn over, 1 is as 2.
        interval: least seconds between two drawings.
        stateful_metrics: names of the values that are shown as they come; others are averaged over the steps.
        stateless_metrics: instead of `stateful_metrics`, the names of the only values that are averaged.
        unit_name: what a step is called.

    Raises:
        ValueError: for both `stateful_metrics` and `stateless_metrics`.

    >>> import minikeras as keras
    >>> bar = keras.utils.Progbar(10, verbose=0)
    >>> bar.update(5, [("loss", 0.5)])
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError("Only one of stateful_metrics and stateless_metrics can be given to a Progbar, got both.")
        self.target, self.width, self.interval, self.unit_name = target, width, interval, unit_name
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self.stateful_metrics = set(stateful_metrics or ()) if stateless_metrics is None else None
        self.verbose = 2 if verbose == 1 and not redraws() else verbose
        self._colours = colours()
        self._sums: dict[str, tuple[Any, float]] = {}  # (weighted sum, sum of weights)
        self._seen = 0
        self._drawn = 0  # characters of the line on screen
        self._start = perf_counter()
        self._first_step: tuple[float, int] | None = None  # when the first drawing was, and after how many steps
        self._last_draw = -float("inf")

    def update(self, current: int, values: Any = None, finalize: bool | None = None) -> None:
        """Show that `current` steps are done.

        Args:
            values: list of pairs of name and value; or a function that returns a dict of values to be shown as they
                are, which is only called when the bar is drawn.
            finalize: whether this is the end; default where `current` reaches the target.  The values then are shown as
                they are.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        steps, self._seen = current - self._seen, current
        now = perf_counter()
        due = self.verbose == 1 and now - self._last_draw >= self.interval
        if callable(values):
            if not (finalize or due):
                return
            self._sums.update({name: (value, 1) for name, value in values().items()})
        else:
            self._take(values or (), max(steps, 1), finalize)
        if self.verbose == 2 and finalize:
            show(self._line(now) + "\n")
        elif self.verbose == 1 and (finalize or due):
            self._draw(now, finalize)

    def add(self, n: int, values: Any = None) -> None:
        """Show that `n` more steps are done."""
        self.update(self._seen + n, values)

    def finish(self, values: Any = None) -> None:
        """Show the end, after however many steps."""
        self.update(self._seen, values, finalize=True)

    def _take(self, values: Iterable[tuple[str, Any]], steps: int, final: bool) -> None:
        for name, value in values:
            if final or not self._averages(name) or not _is_number(value):
                self._sums[name] = value, 1
            else:
                total, weight = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + float(np.mean(value)) * steps, weight + steps

    def _averages(self, name: str) -> bool:
        if self.stateful_metrics is None:
            return name in (self.stateless_metrics or ())
        return name not in self.stateful_metrics

    def _metrics(self) -> str:
        return "".join(f" - {name}: {_format(total, weight)}" for name, (total, weight) in self._sums.items())

    def _count(self) -> str:
        return str(self._seen) if self.target is None else f"{self._seen:{len(str(self.target))}d}/{self.target}"

    def _line(self, now: float) -> str:
        each = _format_step((now - self._start) / max(self._seen, 1), self.unit_name)
        return f"{self._count()} - {now - self._start:.0f}s - {each}{self._metrics()}"

    def _draw(self, now: float, final: bool) -> None:
        each = self._seconds_per_step(now)
        elapsed = f"{now - self._start:.0f}s"
        if self.target is None:
            parts = [(_BOLD, f"{self._seen:7d}/Unknown"), ("", " "), (_BOLD, elapsed)]
        else:
            done = min(int(self.width * self._seen / max(self.target, 1)), self.width)
            left = (self.width - done) * ("━" if self._colours else "─")
            clock = elapsed if final else _format_clock(each * max(self.target - self._seen, 0))
            parts = [(_BOLD, self._count()), ("", " "), (_GREEN, done * "━"), ("", f"{left} "), (_BOLD, clock)]
        head = sum(len(text) for _, text in parts)
        tail = f" {_format_step(each, self.unit_name)}{self._metrics()}"
        if not final:  # a line that wraps could not be drawn over
            tail = tail[: max(shutil.get_terminal_size().columns - 1 - head, 0)]
        line = "".join(f"{style}{text}{_END}" if self._colours and style and text else text for style, text in parts)
        blank = " " * (self._drawn - head - len(tail))
        show(f"\r{line}{tail}{blank}" + ("\n" if final else ""))
        self._drawn, self._last_draw = head + len(tail), now

    def _seconds_per_step(self, now: float) -> float:
        """The mean, without the first step, which is slower than the others."""
        if self._first_step is None:
            self._first_step = now, self._seen
        when, after = self._first_step
        return (now - when) / (self._seen - after) if self._seen > after else (now - self._start) / max(self._seen, 1)


class ProgbarLogger(Callback):
    """Shows the progress of training, evaluation and prediction; `fit` adds it by itself.

    >>> from minikeras import callbacks
    >>> bar = callbacks.ProgbarLogger()
    """

    def __init__(self) -> None:
        self.progbar: Progbar | None = None
        self.seen = 0
        self.target: int | None = None
        self.verbose = self.epochs = 1
        self._training = False

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        self.verbose = 1 if params.get("verbose", 1) == "auto" else int(params.get("verbose", 1))
        self.epochs = params.get("epochs") or 1
        self.target = params.get("steps")

    def on_train_begin(self, logs: Any = None) -> None:
        self._training = True

    def on_train_end(self, logs: Any = None) -> None:
        self._training = False

    def get_state(self) -> dict[str, Any]:
        return {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.verbose and self.epochs > 1:
            announce(f"Epoch {epoch + 1}/{self.epochs}")
        self._start()

    def on_test_begin(self, logs: Any = None) -> None:
        if not self._training:
            self._start()

    def on_predict_begin(self, logs: Any = None) -> None:
        self._start()

    @may_skip
    @lazy_logs
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._update(batch, logs)

    @may_skip
    @lazy_logs
    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._training:
            self._update(batch, logs)

    @may_skip
    @lazy_logs
    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._update(batch, None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._finish(logs)

    def on_test_end(self, logs: Any = None) -> None:
        if not self._training:
            self._finish(logs)

    def on_predict_end(self, logs: Any = None) -> None:
        self._finish(None)

    def _start(self) -> None:
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose)

    def _update(self, batch: int, logs: Any) -> None:
        self.seen = batch + 1
        if self.progbar is not None and self.progbar.verbose == 1:
            self.progbar.update(self.seen, lambda: read_logs(logs), finalize=False)

    def _finish(self, logs: Any) -> None:
        if self.progbar is None:
            return
        if self.target is None:
            self.target = self.progbar.target = self.seen
        self.progbar.update(self.seen, list((logs or {}).items()), finalize=True)
        self.progbar = None


def _is_number(value: Any) -> bool:
    return value is not None and not isinstance(value, str)


def _format(total: Any, weight: float) -> str:
    """Four decimals, or scientific where they would not show anything."""
    if not _is_number(total):
        return str(total)
    value = float(np.mean(total)) / max(weight, 1)
    return f"{value:.4e}" if abs(value) <= 1e-3 else f"{value:.4f}"


def _format_step(seconds: float, unit: str) -> str:
    for scale, name in ((1.0, "s"), (1e3, "ms")):
        if seconds * scale >= 1 or seconds == 0:
            return f"{seconds * scale:.0f}{name}/{unit}"
    return f"{seconds * 1e6:.0f}us/{unit}"


def _format_clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if seconds > 3600:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if seconds > 60 else f"{rest}s"
