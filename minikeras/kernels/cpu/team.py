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
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import kept_njit
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
_ERRAND_LEFT = 512  # 1 while nobody has begun the errand
_ERRAND_OPEN = 640  # 1 until the errand is finished
_ERRAND_BUSY = 768
_ERRAND_FUNCTION = 896
_ERRAND_ARGUMENTS = 904
_BYTES = 1024

_WATCH = 100  # rounds of looking before a helper sleeps: some 0.5 to 2 ms
_LOOKS = 300  # looks in a round, before the core is offered to others


@kept_njit(nogil=True)
def _work(control, worker):  # type: ignore[no-untyped-def]
    """Do parts until none is left."""
    while load(control + _LEFT) > 0:
        left = add(control + _LEFT, -1)
        if left <= 0:
            break
        # a part was left, so its kernel is not over: function and arguments stay until this part is done
        call(load(control + _FUNCTION), load(control + _ARGUMENTS), left - 1, worker)
        add(control + _OPEN, -1)


@kept_njit(nogil=True)
def _do_errand(control):  # type: ignore[no-untyped-def]
    """Do the errand unless somebody has begun it; whether this was so."""
    if add(control + _ERRAND_LEFT, -1) != 1:
        return False
    call(load(control + _ERRAND_FUNCTION), load(control + _ERRAND_ARGUMENTS), 0, 0)
    store(control + _ERRAND_OPEN, 0)
    return True


@kept_njit(nogil=True)
def _offer_errand(control, function, arguments):  # type: ignore[no-untyped-def]
    if exchange(control + _ERRAND_BUSY, 1) != 0:
        return False
    store(control + _ERRAND_FUNCTION, function)
    store(control + _ERRAND_ARGUMENTS, arguments.ctypes.data)
    store(control + _ERRAND_OPEN, 1)
    store(control + _ERRAND_LEFT, 1)
    return True


@kept_njit(nogil=True)
def _end_errand(control):  # type: ignore[no-untyped-def]
    if not _do_errand(control):
        while load(control + _ERRAND_OPEN) > 0:
            rest()
            give_way()
    store(control + _ERRAND_BUSY, 0)


@kept_njit(nogil=True)
def _help(control, worker, watch):  # type: ignore[no-untyped-def]
    """Do parts as they come, until none has come for a while."""
    before = flush_denormals()
    idle = 0
    while idle < watch:
        for _ in range(_LOOKS):
            if load(control + _LEFT) > 0:
                _work(control, worker)
                idle = 0
            elif load(control + _ERRAND_LEFT) > 0:
                _do_errand(control)
            rest()
        give_way()
        idle += 1
    restore_denormals(before)


@kept_njit(nogil=True)
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


_MOST_THREADS = 8  # kernels of small and medium models have few parts; waking more threads costs more than it gains


def threads_allowed() -> int:
    """How many threads a kernel may use.

    `MINIKERAS_NUM_THREADS`, else `OMP_NUM_THREADS`, else the cores that this process may run on, at most 8.
    """
    asked = os.environ.get("MINIKERAS_NUM_THREADS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"MINIKERAS_NUM_THREADS must be a whole number of at least 1, got {asked!r}.")
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usual = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(usual) if usual.isdecimal() and int(usual) else cores, _MOST_THREADS)


class Team:
    """The caller and its helpers.  Any thread may call `run`; one at a time has the helpers, others work alone."""

    def __init__(self, size: int):
        self.size = size
        block = np.zeros(_BYTES // 8 + 16, np.int64)
        self._block = block
        self._control = -(-block.ctypes.data // 128) * 128
        self._asleep: list[threading.Lock] = []
        self._helpers: list[threading.Thread] = []
        self._starting = threading.Lock()

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

    def errand(self, function: int, arguments: Any, *kept: Any) -> Callable[[], None] | None:
        """Offer a part function to a helper that has nothing else to do, while the caller goes on.

        Args:
            function, arguments: as for `run`; the function is called for part 0 and must not use its worker's number.
            kept: what must stay alive until the end.

        Returns:
            What the caller has to call before it uses the result (it does the work there if nobody has), or None where
            another errand is on its way.
        """
        if not self._helpers or not _offer_errand(self._control, function, arguments):
            return None

        def finish(block: Any = self._block, control: int = self._control, kept: Any = (arguments, kept)) -> None:
            if block is self._block:
                _end_errand(control)
            else:  # the process was forked meanwhile, and its parent's helper works for the parent
                _run(self._control, function, arguments, 1)

        return finish

    def _start(self) -> None:
        with self._starting:
            if self._helpers:  # another thread was faster
                return
            for worker in range(1, self.size):
                helper = threading.Thread(target=self._serve, args=(worker,), name=f"minikeras-{worker}", daemon=True)
                self._helpers.append(helper)
                try:
                    helper.start()
                except RuntimeError:  # no thread is left, or the interpreter is about to end: it goes without
                    break

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
