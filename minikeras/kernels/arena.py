"""The step arena: inside a step, buffers of the same shape and type are handed out again instead of allocated.

A buffer is free when nobody but the arena refers to it (views count, because a view refers to its base), so a value
that somebody keeps beyond the step is never overwritten: the arena simply makes another buffer in its place.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from sys import getrefcount
from types import MethodType
from typing import Any

import numpy as np


class _Current(threading.local):
    """What a thread is at: the step whose buffers it takes, and who records it (see `recording.py` of a device)."""

    arena: Any = None
    recording: Any = None
    rounded: bool = False  # whether the numbers at hand, of float32, have but the bits of two bytes


current = _Current()


def explain(refused: Any, check: Callable[[], object]) -> None:
    """Call a function that raises, where values were refused; a step that is recorded keeps it for its program."""
    if current.recording is not None:
        current.recording.checks.append(check)
    if refused:
        check()


def only_where(number: Any) -> AbstractContextManager[None]:
    """What a recorded step does in this block its program does in those steps in which a number is not 0.

    Args:
        number: a float64 array of one; it is not 0 in the step that is recorded.
    """
    return nullcontext() if current.recording is None else current.recording.only_where(number)


class Advancing(int):
    """A number that is another one in each step: how far a random stream is.  What is computed from it is no such."""

    source: Any
    offset: int  # of it from where the stream is when the step begins

    def __new__(cls, value: int, source: Any, offset: int) -> Advancing:
        made = super().__new__(cls, value)
        made.source, made.offset = source, offset
        return made


class Arena:
    """Buffers of one thread's repeated step, keyed by array module, shape and type.

    As a context manager it is the step: within its block `empty()` takes buffers from it.
    """

    most_shapes = 512  # a run over ever-changing shapes drops what it held rather than grow

    def __init__(self) -> None:
        self._buffers: dict[tuple, list[tuple[Any, Any]]] = {}  # each with the memory that its views refer to
        self._outer: list[Any] = []  # what was active before, by how often it is entered

    def __enter__(self) -> None:
        self._outer.append(current.arena)
        current.arena = self

    def __exit__(self, *error: object) -> None:
        current.arena = self._outer.pop()

    def clear(self) -> None:
        """Let go of every buffer."""
        self._buffers.clear()

    def arrays(self) -> list[Any]:
        """All buffers."""
        return [buffer for buffers in self._buffers.values() for buffer, _ in buffers]

    @property
    def nbytes(self) -> int:
        """Bytes held at present."""
        return sum(buffer.nbytes for buffers in self._buffers.values() for buffer, _ in buffers)

    def take(self, xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised buffer of an array module that nobody else refers to."""
        buffers = self._buffers.get((xp, shape, dtype))
        if buffers is None:
            if len(self._buffers) >= self.most_shapes:
                self._buffers.clear()
            buffers = self._buffers[xp, shape, dtype] = []
        for buffer, memory in buffers[-1:]:  # the one that was taken last is in the cache
            if getrefcount(buffer) == _UNUSED and getrefcount(memory) == _UNUSED_MEMORY:
                return buffer
        for place, (buffer, memory) in enumerate(buffers):  # the one that was taken first is likely to be free
            if getrefcount(buffer) == _UNUSED and getrefcount(memory) == _UNUSED_MEMORY:
                buffers.append(buffers.pop(place))
                return buffer
        buffers.append(self._new(xp, shape, dtype))
        return buffers[-1][0]

    def _new(self, xp: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
        """A buffer, and the array whose memory it has."""
        return _aligned(xp, shape, dtype)


_LINE = 64  # bytes of a cache line: vectors that lie across two of them take twice as long


def _aligned(xp: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """An array that begins with a cache line, and the array whose memory it has."""
    size = math.prod(shape) * dtype.itemsize
    memory = xp.empty(size + _LINE, "uint8")
    first = -memory.ctypes.data % _LINE if xp is np else 0  # a GPU's begin with one
    return memory[first : first + size].view(dtype).reshape(shape), memory


def _references_in_a_loop(buffers: list[tuple[Any, Any]]) -> tuple[int, int]:
    for buffer, memory in buffers:
        return getrefcount(buffer), getrefcount(memory)
    return 0, 0


# what a loop over the list sees of a buffer that only the list holds
_UNUSED, _UNUSED_MEMORY = _references_in_a_loop([_aligned(np, (1,), np.dtype("float32"))])


def in_step() -> bool:
    """Whether this thread is inside a step."""
    return current.arena is not None


def allocate(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialised array of an array module: from the active arena inside a step, else a new one."""
    arena = current.arena
    return xp.empty(shape, dtype) if arena is None else arena.take(xp, shape, dtype)


empty = MethodType(allocate, np)  # in host memory, whatever the device; a table's `empty` is for its own arrays


def memory_of(array: Any) -> Any:
    """What owns the memory that an array is a view of."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def contiguous(array: Any, dtype: Any = None) -> Any:
    """An array, or a copy of it, without gaps and of a type; unlike `ascontiguousarray`'s, a recorded step sees it."""
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return array if array.flags.c_contiguous else array.copy()


def constant(array: Any) -> Any:
    """An array that nobody will change, which is how a recorded step knows that it need not ask where it comes from."""
    array.flags.writeable = False
    return array


def fixed(array: Any) -> Any:
    """An array that was made of Python's numbers alone, which a step that is recorded takes to be so in each step."""
    return array if current.recording is None else current.recording.fix(array)


def fitting(out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """`out`, refused where it is not a buffer for a result of this shape and type.

    For functions of NumPy that do not refuse it themselves: `take` converts to any type (since NumPy 2.5), `add.at`
    does and leaves rows that are too many, compiled code writes past the end.

    Raises:
        ValueError: the shape or the type is another.
    """
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"A result of shape {shape} and type {dtype} cannot be written to a buffer of shape {out.shape} and type "
            f"{out.dtype}; pass one of the same shape and type, or out=None for a new one."
        )
    return out
