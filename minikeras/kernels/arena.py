"""The step arena: inside a step, buffers of the same shape and type are handed out again instead of allocated.

A buffer is free when nobody but the arena refers to it (views count, because a view refers to its base), so a value
that somebody keeps beyond the step is never overwritten: the arena simply makes another buffer in its place.
"""

from __future__ import annotations

import threading
from sys import getrefcount
from typing import Any

import numpy as xp  # rebound by kernels.use()

_MOST_SHAPES = 512  # a run over ever-changing shapes drops what it held rather than grow


class _Active(threading.local):
    arena: Any = None


_active = _Active()


class Arena:
    """Buffers of one thread's repeated step, keyed by shape and type."""

    def __init__(self) -> None:
        self._buffers: dict[tuple, list[Any]] = {}

    def step(self) -> _Step:
        """Context manager: within its block `empty()` takes buffers from this arena."""
        return _Step(self)

    def clear(self) -> None:
        """Let go of every buffer."""
        self._buffers.clear()

    @property
    def nbytes(self) -> int:
        """Bytes held at present."""
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer in buffers)

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised buffer that nobody else refers to."""
        buffers = self._buffers.get((shape, dtype))
        if buffers is None:
            if len(self._buffers) >= _MOST_SHAPES:
                self._buffers.clear()
            buffers = self._buffers[shape, dtype] = []
        for buffer in buffers:
            if getrefcount(buffer) == _UNUSED:
                return buffer
        buffer = xp.empty(shape, dtype)
        buffers.append(buffer)
        return buffer


class _Step:
    __slots__ = ("_arena", "_previous")

    def __init__(self, arena: Arena):
        self._arena = arena

    def __enter__(self) -> None:
        self._previous = _active.arena
        _active.arena = self._arena

    def __exit__(self, *error: object) -> None:
        _active.arena = self._previous


def _references_in_a_loop(buffers: list[Any]) -> int:
    for buffer in buffers:
        return getrefcount(buffer)
    return 0


_UNUSED = _references_in_a_loop([xp.empty(1)])  # what a loop over the list sees of a buffer that only the list holds


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialised array: from the active arena inside a step, else a new one."""
    arena = _active.arena
    return xp.empty(shape, dtype) if arena is None else arena.take(shape, dtype)
