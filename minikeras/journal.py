"""What a piece of code changes, noted so that it can be taken back.

A layer's `call` that only shows what its outputs look like, on zeros, is no batch: the variables that it assigns, the
metrics that it updates and the random numbers that it draws are afterwards what they were before.  Whatever holds such
a value says `note(self)` before it changes; nobody who computes real batches pays more for this than a look at
`active`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

active = 0  # how many journals are open in all threads


class _Open(threading.local):
    journals: tuple[Journal, ...] = ()


_open = _Open()


class Journal:
    """Within its block what is about to change in this thread is noted once; `undo` then puts the first values back."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[Any, Callable[[], None] | None]] = {}  # with the holder, so that ids stay unique

    def __enter__(self) -> Journal:
        _count(1)
        _open.journals = (*_open.journals, self)
        return self

    def __exit__(self, *error: object) -> None:
        _open.journals = _open.journals[:-1]
        _count(-1)

    def note(self, holder: Any) -> None:
        """Keep the present value of what has a method `restorer`, which returns the function that brings it back."""
        if id(holder) not in self._noted:
            self._noted[id(holder)] = holder, holder.restorer()

    def settle(self, holder: Any) -> None:
        """Let the value stay whatever it will be."""
        self._noted[id(holder)] = holder, None

    def undo(self) -> None:
        """Put back what has been noted."""
        for _, restore in self._noted.values():
            if restore is not None:
                restore()
        self._noted.clear()


class dry_run(Journal):
    """A journal that is undone at the end of its block, whether that ends well or not."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.undo()


class paused:
    """Within its block nothing is noted in this thread: what a layer makes when it is built is there to stay."""

    def __enter__(self) -> None:
        self._journals, _open.journals = _open.journals, ()

    def __exit__(self, *error: object) -> None:
        _open.journals = self._journals


def note(holder: Any) -> None:
    """Say that the value of `holder` is about to change; see `Journal.note`."""
    for journal in _open.journals:
        journal.note(holder)


def settle(holder: Any) -> None:
    """Say that the value of `holder` is to stay; see `Journal.settle`."""
    for journal in _open.journals:
        journal.settle(holder)


_lock = threading.Lock()


def _count(change: int) -> None:
    global active
    with _lock:
        active += change
