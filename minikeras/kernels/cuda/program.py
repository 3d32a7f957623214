"""A recorded step as a CUDA graph, launched as often as is wanted.

The batches and the settings of many steps move to the device together, by a stream of their own and from pinned memory,
while the device is at work on those before; then the host does nothing but launch the graph once for each step, which
finds its part of them by itself: the step is a number in the device's memory.  Two such loads are on their way at most,
so what has been asked for is never far ahead of what is done.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from minikeras.kernels.arena import current
from minikeras.kernels.cuda.launch import is_array
from minikeras.kernels.cuda.recording import GOES_ON, MADE, MOST_STEPS, PLACES, STEP, Recording

_MOST_BYTES = 1 << 25  # of a load


class Program:
    """What a recording captured, to be done again.

    Args:
        recording: of a step that nothing has spoiled.
        inputs: the buffers that the step's batch lay in.
        tables: arrays that hold the step's settings; the host writes them before each step.
        outputs: arrays that somebody reads after the step.
        double: of no account here.

    Attributes:
        is_native: True, since steps need no Python.
        drawn: the random streams that a step draws from, each with its key and the blocks that it takes.
        capacity: how many steps one call makes at most.
    """

    is_native = True

    def __init__(
        self,
        recording: Recording,
        inputs: Sequence[Any],
        tables: Sequence[np.ndarray] = (),
        outputs: Sequence[Any] = (),
        double: bool = False,
    ):
        self._recording, self._xp = recording, recording.xp
        self.inputs, self._tables, self.outputs = list(inputs), list(tables), list(outputs)
        self.drawn = [(source, source.key, blocks) for source, blocks, _ in recording.streams]
        self._flags = list(recording.flags.values())
        width = sum(one.nbytes for one in self.inputs) + sum(one.nbytes for one in self.outputs)
        self.capacity = max(1, min(MOST_STEPS, _MOST_BYTES // max(width, 1)))
        self._copying = self._xp.cuda.Stream(non_blocking=True)
        self._loads: list[_Load] = []
        self._loads += [_Load(self), _Load(self)]
        self._made = 0
        while _leaving:
            _wait_for(_leaving.pop()[0])

    def __del__(self) -> None:
        """Let the device end its work with the memory: within a capture nobody may wait, so it is kept until later."""
        if current.recording is None:
            _wait_for(self._loads)
        else:
            _leaving.append((self._loads, self._recording))

    @property
    def nbytes(self) -> int:
        """Bytes of its own memory."""
        return self._recording.pool.total_bytes() + sum(load.nbytes for load in self._loads)

    def blank(self, others: Sequence[Any] = ()) -> None:
        """Fill its memory, and other arrays, with what shows in every result: nothing is left of the recorded step."""
        for array in (*self._recording.arena.arrays(), *others):
            array.fill(math.nan if array.dtype.kind == "f" else 0)

    def fits(self) -> bool:
        """Whether the random streams have the keys that they had."""
        return all(source.key == key for source, key, _ in self.drawn)

    def write(self, batch: Sequence[Any]) -> None:
        """Put a batch where the next `run` finds it."""
        self._load = self._next_load()
        self._load.moving = [self._load.fill(place, part) for place, part in enumerate(batch)]

    def _next_load(self) -> _Load:
        """The load of which the device has had no need for longer."""
        self._loads.reverse()
        self._loads[0].wait()
        return self._loads[0]

    def run(self) -> int:
        """Make a step on what was written, with the tables as they are; 0 where it was left out."""
        with _undisturbed(), self._drawing(1):
            self._load.start(self, 1, [table.reshape(1, -1) for table in self._tables])
            self._made = self._launch(self._load, 1, ())
        return self._made

    def run_many(
        self, steps: int, arrays: Sequence[np.ndarray], rows: np.ndarray, tables: Sequence[np.ndarray],
        results: Sequence[np.ndarray] = (),
    ) -> int:  # fmt: skip
        """Make so many steps, at most `capacity`.

        Returns:
            How many were made up to one that shall be the last.

        Args:
            arrays: the data, one contiguous array for each input.
            rows: int64 numbers of the rows of all batches, one after the other.
            tables: for each table one whose rows are what it is in each of the steps.
            results: for each output a contiguous array that takes those of all steps, one after the other.
        """
        load = self._next_load()
        load.moving = [load.fill_many(place, array, rows, steps) for place, array in enumerate(arrays)]
        with _undisturbed(), self._drawing(steps):
            load.start(self, steps, tables)
            self._made = self._launch(load, steps, results)
        return self._made

    @contextmanager
    def _drawing(self, steps: int) -> Iterator[None]:
        """Reserve what steps draw from random streams, and give back what is not drawn."""
        self._made = 0
        self.counters = {id(source): source.next(count * steps)[1] for source, _, count in self.drawn}
        try:
            yield
        finally:
            for source, _, count in self.drawn if self._made < steps else ():
                key, counter = source.state
                source.state = key, counter - count * (steps - self._made)

    def _launch(self, load: _Load, steps: int, results: Sequence[np.ndarray]) -> int:
        """Launch the steps of a load; how many were made."""
        stream = self._xp.cuda.get_current_stream()
        for _ in range(steps):
            for graph in self._recording.graphs:
                graph.launch(stream)
        load.done(stream)
        for result, made in zip(results, load.results, strict=False):
            made[:steps].get(out=result[:steps])
        if not self._flags:
            return steps
        for value, cell in self._flags:
            value[...] = cell.get()
        return int(self._recording.block[MADE].get())

    def count_made(self) -> int:
        """How many steps the last call has made, even where Ctrl-C came in between; each is told once."""
        made, self._made = self._made, 0
        return made

    def timed(self, rounds: int = 5) -> list[tuple[str, int, float]]:
        """What its calls are, in order: the name of each, its blocks, and the least of the seconds that it took.

        What CuPy does between them is not among them.  The steps that are made for it change what steps change.
        """
        cuda, calls = self._xp.cuda, self._recording.calls
        least = [math.inf] * len(calls)
        for _ in range(rounds):  # in order: done twice, a call may find its own result in the place of what it reads
            self._recording.block[STEP] = 0  # the first of the steps that were made last, whose batch is there
            self._recording.goes_on.fill(1.0)
            for place, (_, _, alone) in enumerate(calls):
                start, end = cuda.Event(), cuda.Event()
                start.record()
                alone()
                end.record()
                end.synchronize()
                least[place] = min(least[place], cuda.get_elapsed_time(start, end) / 1e3)
        return [(name, blocks, seconds) for (name, blocks, _), seconds in zip(calls, least, strict=True)]

    def explain(self) -> None:
        """There is nothing to explain: no kernel of the device refuses a value."""


class _Load:
    """What many steps are given, in pinned memory and on the device, and their results there."""

    def __init__(self, program: Program):
        self._xp = xp = program._xp
        recording, count = program._recording, program.capacity
        self.host = [_pinned(xp, (count, *one.shape), one.dtype) for one in program.inputs]
        self._device = [xp.empty(one.shape, one.dtype) for one in self.host]
        self.results = [xp.empty((count, *one.shape), one.dtype) for one in program.outputs]
        self._block = _pinned(xp, recording.block.shape, recording.block.dtype)
        self._block[:] = 0
        for place, array in zip(recording.places, (*self._device, *self.results), strict=True):
            self._block[place] = array.data.ptr
        self._goes_on = self._block[GOES_ON : GOES_ON + 1].view("float64")
        self._rows = self._block[PLACES:].view("float64")
        self._event: Any = None
        self.moving: list[bool] = []  # of each part of the batch, whether it is in `host` and still to be moved

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (*self._device, *self.results))

    def wait(self) -> None:
        """Wait until the device has no more need of it."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None

    def fill(self, place: int, part: Any) -> bool:
        """Put a part of one batch, of the host or the device, where the first step reads it; whether it still moves."""
        if is_array(part):
            self._device[place][0] = part
            return False
        self.host[place][0] = part
        return True

    def fill_many(self, place: int, array: Any, rows: np.ndarray, steps: int) -> bool:
        """The same with the parts of many batches, which are rows of an array."""
        size = self.host[place].shape[1]
        out = self._device[place] if is_array(array) else self.host[place]
        into = out[:steps].reshape(-1, *out.shape[2:])
        rows = rows[: steps * size]
        if is_array(array):
            self._xp.take(array, self._xp.asarray(rows), axis=0, out=into)
            return False
        np.take(array, rows, axis=0, out=into, mode="clip")
        return True

    def start(self, program: Program, steps: int, tables: Sequence[np.ndarray]) -> None:
        """Move the batches of so many steps, which lie in `host`, and their numbers to the device."""
        recording, copying, now = program._recording, program._copying, self._xp.cuda.get_current_stream()
        for host, device, moves in zip(self.host, self._device, self.moving, strict=True):
            if moves:
                device[:steps].set(host[:steps], stream=copying)
        if any(self.moving):
            now.wait_event(copying.record())
        self._block[: MADE + 1] = 0
        self._goes_on[0] = 1.0
        for source, _, place in recording.streams:
            self._block[place] = np.uint64(program.counters[id(source)] & (1 << 64) - 1).astype(np.int64)
        if tables:
            rows = np.concatenate([table[:steps] for table in tables], axis=1)
            self._rows[: rows.size] = rows.reshape(-1)
        recording.block.set(self._block, stream=now)

    def done(self, stream: Any) -> None:
        """Note that all that needs it has been asked of a stream."""
        self._event = stream.record()


_leaving: list[tuple[list[_Load], Recording]] = []  # of programs that were let go of while a step was captured


def _wait_for(loads: Sequence[_Load]) -> None:
    """Wait until the device has no more need of loads; where it does not answer, nothing is to be saved."""
    for load in loads:
        with suppress(Exception):
            load.wait()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of this block: steps are launched whole, and counted.

    The signal may reach any thread of the process, so it is not enough that this one holds it back.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(signal.SIGINT, came[0])


def _pinned(xp: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of the host in memory that the device copies from by itself."""
    size = math.prod(shape)
    memory = xp.cuda.alloc_pinned_memory(max(size * dtype.itemsize, 1))
    return np.frombuffer(memory, dtype, size).reshape(shape)
