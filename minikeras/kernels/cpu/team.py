"""The team: threads that share the parts of a kernel, made for steps of many short kernels on a few cores.

Whoever runs a kernel works on its parts itself and never waits for a part that nobody has begun.  A helper that sleeps,
or whose core is busy with something else, therefore costs nothing but its help; and a result never depends on who did
which part.  Helpers watch for the next kernel for a moment, because the kernels of a step follow each other closely,
and sleep after that.

This module imports Numba: import it at first need.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numba
import numpy as np

from minikeras.kernels.cpu.machine import (
    add,
    call,
    exchange,
    flush_denormals,
    give_way,
    load,
    rest,
    restore_denormals,
    store,
)

# The control block, as byte offsets; each number has a cache line (two, for the neighbour that is fetched with it).
_LEFT = 0  # parts that nobody has begun
_OPEN = 128  # parts that are not finished
_BUSY = 256  # whether a thread is having a kernel shared
_FUNCTION = 384
_ARGUMENTS = 392
_BYTES = 512

_WATCH = 100  # rounds of looking before a helper sleeps: some 0.5 to 2 ms
_LOOKS = 300  # looks in a round, before the core is offered to others


@numba.njit(nogil=True, cache=True)
def _work(control, worker):  # type: ignore[no-untyped-def]
    """Do parts until none is left."""
    while load(control + _LEFT) > 0:
        left = add(control + _LEFT, -1)
        if left <= 0:
            break
        # a part was left, so its kernel is not over: function and arguments stay until this part is done
        call(load(control + _FUNCTION), load(control + _ARGUMENTS), left - 1, worker)
        add(control + _OPEN, -1)


@numba.njit(nogil=True, cache=True)
def _help(control, worker, watch):  # type: ignore[no-untyped-def]
    """Do parts as they come, until none has come for a while."""
    before = flush_denormals()
    idle = 0
    while idle < watch:
        for _ in range(_LOOKS):
            if load(control + _LEFT) > 0:
                _work(control, worker)
                idle = 0
            rest()
        give_way()
        idle += 1
    restore_denormals(before)


@numba.njit(nogil=True, cache=True)
def _run(control, function, arguments, parts):  # type: ignore[no-untyped-def]
    block = arguments.ctypes.data
    before = flush_denormals()
    if parts > 1 and exchange(control + _BUSY, 1) == 0:
        store(control + _FUNCTION, function)
        store(control + _ARGUMENTS, block)
        store(control + _OPEN, parts)
        store(control + _LEFT, parts)
        _work(control, 0)
        looks = 0
        while load(control + _OPEN) > 0:  # a helper is still at its last part
            rest()
            looks += 1
            if looks % _LOOKS == 0:
                give_way()
        store(control + _BUSY, 0)
    else:  # one part, or another thread has the helpers
        for part in range(parts - 1, -1, -1):
            call(function, block, part, 0)
    restore_denormals(before)


def threads_allowed() -> int:
    """How many threads a kernel may use: `MINIKERAS_NUM_THREADS`, or the cores that this process may run on."""
    asked = os.environ.get("MINIKERAS_NUM_THREADS", "")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise ValueError(f"MINIKERAS_NUM_THREADS must be a whole number of at least 1, got {asked!r}.")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """The caller and its helpers.  Any thread may call `run`; one at a time has the helpers, others work alone."""

    def __init__(self, size: int):
        self.size = size
        block = np.zeros(_BYTES // 8 + 16, np.int64)
        self._block = block
        self._control = -(-block.ctypes.data // 128) * 128
        self._asleep: list[threading.Lock] = []
        self._helpers: list[threading.Thread] = []

    def run(self, function: int, arguments: Any, parts: int, wake: bool = True) -> None:
        """Call the compiled function at an address for every part from 0 to `parts`, and return when all are done.

        Args:
            function: address of a C function `(arguments, part, worker) -> None`; `worker` is below `size` and no two
                parts with the same one run at once.
            arguments: int64 array that the function reads; it gets the address.
            parts: how many.
            wake: whether the work is worth waking helpers that sleep (some 50 us); those that watch help anyway.
        """
        if wake and parts > 1 and self.size > 1:
            if not self._helpers:
                self._start()
            while self._asleep:
                try:
                    self._asleep.pop().release()
                except IndexError:  # another thread has waked the last one
                    break
        _run(self._control, function, arguments, parts)

    def _start(self) -> None:
        for worker in range(1, self.size):
            helper = threading.Thread(target=self._serve, args=(worker,), name=f"minikeras-{worker}", daemon=True)
            self._helpers.append(helper)
            helper.start()

    def _serve(self, worker: int) -> None:
        bed = threading.Lock()
        bed.acquire()
        while True:
            _help(self._control, worker, _WATCH)
            self._asleep.append(bed)
            bed.acquire()


team = Team(threads_allowed())


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    global team
    team.__init__(team.size)  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
