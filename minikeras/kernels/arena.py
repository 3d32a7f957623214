"""The step arena: inside a step, buffers of the same shape and type are handed out again instead of allocated.

A buffer is free when nobody but the arena refers to it (views count, because a view refers to its base), so a value
that somebody keeps beyond the step is never overwritten: the arena simply makes another buffer in its place.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as xp  # rebound by kernels.use()

_MOST_SHAPES = 512  # a run over ever-changing shapes drops what it held rather than grow

_active = threading.local()


class Arena:
    """Buffers of one thread's repeated step, keyed by shape and type."""

    def __init__(self) -> None:
        self._buffers: dict[tuple, list[Any]] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within this block `empty()` takes buffers from this arena."""
        previous = getattr(_active, "arena", None)
        _active.arena = self
        try:
            yield
        finally:
            _active.arena = previous

    def clear(self) -> None:
        """Let go of every buffer."""
        self._buffers.clear()

    @property
    def nbytes(self) -> int:
        """Bytes held at present."""
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer in buffers)

    def take(self, shape: tuple[int, ...], dtype: Any) -> Any:
        key = (shape, dtype)
        buffers = self._buffers.get(key)
        if buffers is None:
            if len(self._buffers) >= _MOST_SHAPES:
                self._buffers.clear()
            buffers = self._buffers[key] = []
        buffer = _free_buffer(buffers)
        if buffer is None:
            buffer = xp.empty(shape, dtype)
            buffers.append(buffer)
        return buffer


def _references(buffers: list[Any]) -> int:
    for buffer in buffers:
        return sys.getrefcount(buffer)
    return 0


_UNUSED = _references([xp.empty(1)])  # what getrefcount says, in such a loop, of a buffer that only its list holds


def _free_buffer(buffers: list[Any]) -> Any:
    for buffer in buffers:
        if sys.getrefcount(buffer) == _UNUSED:
            return buffer
    return None


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialised array: from the active arena inside a step, else a new one."""
    arena = getattr(_active, "arena", None)
    if arena is None:
        return xp.empty(shape, dtype)
    return arena.take(shape, dtype)
