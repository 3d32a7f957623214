"""Preparing things ahead of their use: in order, a bounded number ahead, by threads or by processes.

A `ReadAhead` has one thread for each of its *makers*, functions that turn a task into a result.  Whoever iterates over
`run(tasks)` gets the results in the order of the tasks, whichever thread was faster, and an exception where its result
would have come.  Nothing is begun that is more than `ahead` results away, and nothing at all after `close`.

A thread that calls a model waits until its own result is the one that is waited for, so a generator that asks the model
that is being trained finds it as it would without threads.
"""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from minikeras.layers.context import entrance

PATIENCE = 30.0  # seconds of waiting for one result until the user is told
LIMIT = 600.0  # seconds of waiting for one result until it is given up
GRACE = 10.0  # seconds that a thread gets to finish what it is at when nobody wants it any more

_END = object()


class _Failure:
    """An exception on its way to whoever waits for a result."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException):
        self.error = error


class _Slot:
    """A task and the place where its result is waited for."""

    __slots__ = ("asked", "cancelled", "done", "task")

    def __init__(self, task: Any):
        self.task = task
        self.cancelled = False
        self.done: SimpleQueue = SimpleQueue()
        self.asked: SimpleQueue = SimpleQueue()


class ReadAhead:
    """Threads that prepare results in order.

    Args:
        makers: one function for each thread; where it has `close` and `kill`, these are called when the thread ends and
            when nobody wants the result any more that it is at.
        ahead: how many results are prepared beyond the one in use, at least 1.
        name: what the results come from, for messages.
    """

    def __init__(self, makers: list[Callable[[Any], Any]], ahead: int, name: str):
        self._ahead = max(int(ahead), 1)
        self._name = name
        self._makers = makers
        self._inbox: SimpleQueue = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._active: Iterator[Any] | None = None
        self._pending: deque[_Slot] = deque()

    def run(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The results of `tasks` in their order, until a maker raises StopIteration.

        Raises:
            Exception: what a maker raised, with its traceback.
            TimeoutError: where one result does not come for ten minutes.
        """
        if self._active is not None:
            self._active.close()  # type: ignore[attr-defined]
        self._start()
        self._active = self._results(iter(tasks))
        return self._active

    def _results(self, tasks: Iterator[Any]) -> Iterator[Any]:
        pending = self._pending
        try:
            self._submit(itertools.islice(tasks, self._ahead))
            while pending:
                slot = pending.popleft()
                self._submit(itertools.islice(tasks, 1))
                result = self._wait(slot)
                if result is _END:
                    return
                if type(result) is _Failure:
                    raise result.error
                yield result
                del result  # the next one is not prepared in memory beside this one longer than needed
        finally:
            self._cancel()

    def _submit(self, tasks: Iterable[Any]) -> None:
        for task in tasks:
            slot = _Slot(task)
            self._pending.append(slot)
            self._inbox.put(slot)

    def _wait(self, slot: _Slot) -> Any:
        """The result in the slot; its maker may use models while we wait."""
        slot.asked.put(None)
        try:
            return slot.done.get(timeout=PATIENCE)
        except Empty:
            warnings.warn(
                f"No batch came from {self._name} for {PATIENCE:.0f} seconds; still waiting, Ctrl-C stops.",
                stacklevel=4,
            )
        try:
            return slot.done.get(timeout=LIMIT - PATIENCE)
        except Empty:
            slot.cancelled = True
            raise TimeoutError(
                f"{self._name} has stalled, no batch came from it for {LIMIT:.0f} seconds; see what it waits for, or "
                "pass workers=0 to prepare batches without a limit in the main thread."
            ) from None

    def _cancel(self) -> None:
        """What nobody waits for is not begun, and what was begun is over when this returns."""
        for slot in self._pending:
            slot.cancelled = True
            slot.asked.put(None)
        deadline = time.monotonic() + GRACE
        while self._pending and time.monotonic() < deadline:
            for make in self._makers:
                getattr(make, "kill", _nothing)()
            try:
                self._pending[0].done.get(timeout=min(GRACE, 0.5))
            except Empty:
                continue
            self._pending.popleft()
        self._pending.clear()  # if a thread is still at work, `close` says so

    def _start(self) -> None:
        if self._threads:
            return
        for number, make in enumerate(self._makers):
            thread = threading.Thread(target=self._work, args=(make,), daemon=True, name=f"minikeras-batches-{number}")
            self._threads.append(thread)
            thread.start()

    def _work(self, make: Callable[[Any], Any]) -> None:
        """What each thread does until it takes None from the inbox."""
        slot: Any = None
        entrance.before = lambda layer: _wait_until_asked(slot) if layer.weights or not layer.built else None
        ended = False
        try:
            while True:
                slot = self._inbox.get()
                if slot is None:
                    return
                result: Any = _END
                if not (slot.cancelled or ended):
                    try:
                        result = make(slot.task)
                    except StopIteration:
                        ended = True
                    except BaseException as error:
                        result = _Failure(error)
                slot.done.put(result)
                slot = result = None  # no batch is kept alive by a thread that waits
        finally:
            getattr(make, "close", _nothing)()

    def close(self) -> None:
        """End all threads, and processes behind them; what they were at is lost."""
        if self._active is not None:
            self._active.close()  # type: ignore[attr-defined]
            self._active = None
        threads, self._threads = self._threads, []
        for _ in threads:
            self._inbox.put(None)
        for thread in threads:
            thread.join(GRACE)
            if thread.is_alive():
                warnings.warn(
                    f"A thread that prepares batches of {self._name} did not end within {GRACE:.0f} seconds and was "
                    "left behind; see what it waits for.",
                    stacklevel=3,
                )


def _wait_until_asked(slot: Any) -> None:
    if slot is not None:
        slot.asked.get()
        slot.asked.put(None)  # not only the first call of a model is in order


def _nothing() -> None:
    """There is nothing to close."""


class Iterated:
    """A maker that takes the next item of an iterator, whatever the task, and hands it to `finish`."""

    def __init__(self, iterator: Iterator[Any], finish: Callable[[Any], Any]):
        self._iterator, self._finish = iterator, finish

    def __call__(self, task: Any) -> Any:
        return self._finish(next(self._iterator))
