"""The team: threads that share the parts of a kernel, made for steps of many short kernels on a few cores.

Whoever runs a kernel works on its parts itself and never waits for a part that nobody has begun.  A helper that sleeps,
or whose core is busy with something else, therefore costs nothing but its help; and a result never depends on who did
which part.  Helpers watch for the next kernel for a moment, because the kernels of a step follow each other closely,
and sleep after that.

A kernel is run by a built-in function of Python's own kind, made of machine code: calling it takes a third of a
microsecond, arrays and numbers included.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from minikeras.kernels.arena import current
from minikeras.kernels.cpu.compiler.jit import CFunction, compiled, inner
from minikeras.kernels.cpu.compiler.machine import (
    MOST_ARGUMENTS,
    add,
    call,
    error_occurred,
    exchange,
    flush_denormals,
    give_way,
    integer,
    integer_of,
    is_subtype,
    load,
    numbers,
    release_gil,
    rest,
    restore_denormals,
    stack_scratch,
    store,
    take_gil,
)

# The control block, as byte offsets; each number has a cache line (two, for the neighbour that is fetched with it).
_LEFT = 0  # parts that nobody has begun
_OPEN = 128  # parts that are not finished
_BUSY = 256  # whether a thread is having a kernel shared
_FUNCTION = 384
_ARGUMENTS = 392
_TASK_LEFT = 512  # 1 while nobody has begun the task
_TASK_OPEN = 640  # 1 until the task is finished
_TASK_BUSY = 768
_TASK_FUNCTION = 896
_TASK_ARGUMENTS = 904
_WATCHED = 912  # how many programs run whose calls helpers are to watch for
# addresses of None, int and ndarray; where an ndarray has its data, or a float its value, and an object its type; float
_TYPES = 1024
_BYTES = 1152

_WATCH = 100  # rounds of looking before a helper sleeps: some 0.5 to 2 ms
_LOOKS = 300  # looks in a round, before the core is offered to others


@inner
def _work(control, worker):
    """Do parts until none is left."""
    while load(control + _LEFT) > 0:
        left = add(control + _LEFT, -1)
        if left <= 0:
            break
        # a part was left, so its kernel is not over: function and arguments stay until this part is done
        call(load(control + _FUNCTION), load(control + _ARGUMENTS), left - 1, worker)
        add(control + _OPEN, -1)


@inner
def _do_task(control):
    """Do the task unless somebody has begun it; whether this was so."""
    if add(control + _TASK_LEFT, -1) != 1:
        return False
    call(load(control + _TASK_FUNCTION), load(control + _TASK_ARGUMENTS), 0, 0)
    store(control + _TASK_OPEN, 0)
    return True


@inner
def offer_task(control, function, arguments):
    """Whether a task was taken on."""
    if exchange(control + _TASK_BUSY, 1) != 0:
        return 0
    store(control + _TASK_FUNCTION, function)
    store(control + _TASK_ARGUMENTS, arguments)
    store(control + _TASK_OPEN, 1)
    store(control + _TASK_LEFT, 1)
    return 1


@compiled
def _offer_task(control, function, arguments) -> int:
    return offer_task(control, function, arguments)


@inner
def end_task(control):
    """Do the task, or wait until it is done."""
    if not _do_task(control):
        while load(control + _TASK_OPEN) > 0:
            rest()
            give_way()
    store(control + _TASK_BUSY, 0)


@compiled
def _end_task(control):
    end_task(control)


@compiled
def _help(control, worker, watch):
    """Do parts as they come, until none has come for a while."""
    before = flush_denormals()
    idle = 0
    while idle < watch:
        for _ in range(_LOOKS):
            if load(control + _LEFT) > 0:
                _work(control, worker)
                idle = 0
            elif load(control + _TASK_LEFT) > 0:
                _do_task(control)
            rest()
        give_way()
        if load(control + _WATCHED) == 0:
            idle += 1
    restore_denormals(before)


@inner
def do_parts(control, function, block, parts):
    """Call a part function for all parts."""
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


@inner
def _run(control, function, block, parts):
    before = flush_denormals()
    do_parts(control, function, block, parts)
    restore_denormals(before)


@compiled
def _run_block(control, function, block, parts):
    _run(control, function, block, parts)


@compiled
def _watch(control, change):
    add(control + _WATCHED, change)


@inner
def _value(types, item):
    """What a part gets for a Python object: an int's value, an array's address, a float's bits, 0 for None."""
    if item == types[0]:
        return 0
    kind = numbers(item + types[4])[0]
    if kind == types[1]:
        return integer_of(item)
    if kind == types[2] or kind == types[5] or is_subtype(kind, types[2]) or is_subtype(kind, types[5]):
        return numbers(item + types[3])[0]
    return integer_of(item)


@compiled
def _run_items(self, items, count) -> int:
    """`Team._run` as CPython calls a built-in function (METH_FASTCALL)."""
    control = integer_of(self)
    given, types = numbers(items), numbers(control + _TYPES)
    function, parts, block = integer_of(given[0]), integer_of(given[1]), _value(types, given[2])
    if count > 3:
        scratch = stack_scratch()
        n = numbers(scratch)
        if block:
            template = numbers(block)
            for i in range(MOST_ARGUMENTS):
                n[i] = template[i]
        block = scratch
        for i in range(3, min(count, MOST_ARGUMENTS + 3)):
            n[i - 3] = _value(types, given[i])
    if error_occurred():
        return 0
    state = release_gil()
    _run(control, function, block, parts)
    take_gil(state)
    return integer(0)


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


_FASTCALL = 0x80
_CAN_BUILD = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
_run_method = _Method(b"run", None, _FASTCALL, None)


def _built_in(control: int) -> Callable:
    """`_run_items` as a built-in function."""
    _run_method.code = _run_items.address
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    built: Callable = make(ctypes.addressof(_run_method), control, None)
    return built


def _as_python(control: int) -> Callable:
    """The same for other Pythons than CPython with its GIL."""
    run_block = as_function(_run_block)

    def run(function: int, parts: int, block: Any, *items: Any) -> None:
        if items:
            block = block_of(items) if block is None else np.append(block_of(items), block[len(items) :])
        run_block(control, function, 0 if block is None else block.ctypes.data, parts)

    return run


def block_of(items: Iterable[Any]) -> np.ndarray:
    """Arguments as they lie in memory: numbers, the bits of floats, addresses of arrays, which the caller keeps."""
    return np.array([as_number(item) for item in items], np.int64)


def as_number(item: Any) -> int:
    """An argument as it lies in memory; see `block_of`."""
    if isinstance(item, float):
        return int(np.float64(item).view(np.int64))
    return int(item.ctypes.data) if isinstance(item, np.ndarray) else index(item or 0)


def as_function(function: CFunction) -> Callable:
    """A function of int64 numbers that Python can call, and that releases the GIL."""
    result, _, parameters = function.signature
    kind = ctypes.CFUNCTYPE(ctypes.c_int64 if result == "int64" else None, *[ctypes.c_int64] * len(parameters))
    return kind(function.address)


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
        head = object.__basicsize__  # an array's data pointer follows what every object has, whose last is its type
        place = (self._control + _TYPES - block.ctypes.data) // 8
        block[place : place + 6] = id(None), id(int), id(np.ndarray), head, head - 8, id(float)
        self._asleep: list[threading.Lock] = []
        self._helpers: list[threading.Thread] = []
        self._starting = threading.Lock()

    @cached_property
    def _run(self) -> Callable:
        """`(function, parts, block or None, *items)`; see `run`."""
        return _built_in(self._control) if _CAN_BUILD else _as_python(self._control)

    def run(self, function: int, arguments: Any, parts: int, wake: bool = True, items: tuple = ()) -> None:
        """Call the compiled function at an address for every part from 0 to `parts`, and return when all are done.

        Args:
            function: address of a C function `(arguments, part, worker) -> None`; `worker` is below `size` and no two
                parts with the same one run at once.
            arguments: int64 array that the function reads; it gets the address.  With `items`, None or `MOST_ARGUMENTS`
                numbers.
            parts: how many.
            wake: whether the work is worth waking helpers that sleep (some 50 us); those that watch help anyway.
            items: at most `MOST_ARGUMENTS` numbers and arrays (None is 0), of which the function reads values and
                addresses; they stand in the place of the first `arguments`.
        """
        if wake and parts > 1:
            self.wake()
        self._run(function, parts, arguments, *items)
        if current.recording is not None:
            current.recording.note(function, arguments, parts, wake, items)

    def wake(self) -> None:
        """Wake the helpers that sleep."""
        if self.size > 1:
            if not self._helpers:
                self._start()
            while self._asleep:
                try:
                    self._asleep.pop().release()
                except IndexError:  # another thread has waked the last one
                    break

    @contextmanager
    def watching(self) -> Iterator[int]:
        """Within this block, in which machine code shares parts by itself, no helper falls asleep.

        What it is entered with is the address that `do_parts` and its kin take.
        """
        control, block = self._control, self._block  # those of a parent stay where they are when the process is forked
        self.wake()
        self._change_watch(control, 1)
        try:
            yield control
        finally:
            self._change_watch(control, -1)
            del block

    @property
    def control(self) -> int:
        """The address that `do_parts` and its kin take."""
        return self._control

    @cached_property
    def _change_watch(self) -> Callable:
        return as_function(_watch)

    def task(self, function: int, arguments: Any, *kept: Any) -> Callable[[], None] | None:
        """Offer a part function to a helper that has nothing else to do, while the caller goes on.

        Args:
            function, arguments: as for `run`; the function is called for part 0 and must not use its worker's number.
            kept: what must stay alive until the end.

        Returns:
            What the caller has to call before it uses the result (it does the work there if nobody has), or None where
            another task is on its way.
        """
        if not self.has_helpers or not self._offer(self._control, function, arguments.ctypes.data):
            return None

        def finish(block: Any = self._block, control: int = self._control, kept: Any = (arguments, kept)) -> None:
            if block is self._block:
                self._end(control)
            else:  # the process was forked meanwhile, and its parent's helper works for the parent
                self._run(function, 1, arguments)

        return finish

    @property
    def has_helpers(self) -> bool:
        """Whether there are helpers, of whom one may take a task."""
        return bool(self._helpers)

    @cached_property
    def _offer(self) -> Callable:
        return as_function(_offer_task)

    @cached_property
    def _end(self) -> Callable:
        return as_function(_end_task)

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
        help_out = as_function(_help)
        while True:
            help_out(self._control, worker, _WATCH)
            self._asleep.append(bed)
            bed.acquire()


team = Team(threads_allowed())


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    size = team.size
    team.__dict__.clear()
    team.__init__(size)  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
