"""Recording a step: what it asks the device for becomes a CUDA graph, which does the same again in the same memory.

While a `Recording` is active, a stream is captured: what our launcher, cuBLASLt and CuPy are asked for is put into a
graph and not done; a `Program` (see program.py) does it as often as is wanted.  So nothing has happened on the device
where a recording fails, and the step is then made anew by the layers.

What CUDA forbids within a capture ends it: reading a value, memory of the driver, products of CuPy's.  What it allows
and would be wrong later is prevented here.  All memory that the step takes comes from a pool of its own, which lives as
long as the graph.  Arrays of the host do not move within a step, for the graph would copy whatever lies there later:
those that are made of numbers are copied at once, beside the capture, and count among the numbers of the step.  What
changes from step to step is read from memory: see `number_at`, `counter_at` and `Program`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from minikeras import kernels
from minikeras.kernels.arena import Advancing, Arena, constant, current, memory_of
from minikeras.kernels.cuda.launch import THREADS, Address, Source, each, is_array, launch

LARGE = 1 << 31  # bytes of a step's buffers from which on the time between kernels is next to nothing
MOST_STEPS = 64  # that one call makes
# places of 8 bytes in a program's block of memory: the step that is next, how many were made, and whether it goes on, a
# float64; behind them the addresses of the data and of the results of many steps, the streams' counters, and then a row
# for each step of the numbers that the host tells
STEP, MADE, GOES_ON, ADDRESSES = 0, 1, 2, 3
PLACES = 1024
_BYTE = np.dtype("uint8")
_capturing = threading.Lock()  # which concerns what all threads take pinned memory from
_OF_OTHERS = "others than our own kernels compute what only some steps do"

SOURCE = Source("""
// so many units of 16, 4 or 1 bytes
__device__ void copy(const unsigned char* from, unsigned char* out, whole width, whole count) {
  EACH(i, count) {
    if (width == 16) ((uint4*)out)[i] = ((const uint4*)from)[i];
    else if (width == 4) ((unsigned*)out)[i] = ((const unsigned*)from)[i];
    else out[i] = from[i];
  }
}
// the part that belongs to the step that is next, of an array for many steps, whose address lies in the block
__global__ void take_part(const whole* block, whole place, unsigned char* out, whole width, whole count) {
  const unsigned char* from = (const unsigned char*)block[place] + block[0] * width * count;
  copy(from, out, width, count);
}
// and the other way around
__global__ void give_part(const whole* block, whole place, const unsigned char* from, whole width, whole count) {
  unsigned char* out = (unsigned char*)block[place] + block[0] * width * count;
  copy(from, out, width, count);
}
// a part of the state as it is before the step, which what our launcher does not launch may change
__global__ void put_aside(const unsigned char* from, unsigned char* out, whole width, whole count) {
  copy(from, out, width, count);
}
// and back again, where the step is left out
__global__ void put_back(const double* goes_on, const unsigned char* from, unsigned char* out, whole width,
                         whole count) {
  if (*goes_on != 0.0) return;
  copy(from, out, width, count);
}
// the step's row of numbers
__global__ void take_numbers(const whole* block, const double* rows, double* out, whole count) {
  EACH(i, count) out[i] = rows[block[0] * count + i];
}
// 0 where one of two numbers is
__global__ void both(const double* first, const double* second, double* out) { *out = *first * *second != 0.0; }
// what moves on: the counters of random streams, each by so many, and the step; the last one is that with a flag of 0
__global__ void end_step(whole* block, unsigned long long* counters, const unsigned long long* growth, whole streams,
                         const double* flag) {
  EACH_IN_BLOCK(i, streams) counters[i] += growth[i];
  if (threadIdx.x == 0) {
    block[0] += 1;
    block[1] += 1;
    if (flag && *flag == 0.0) *(double*)(block + 2) = 0.0;
  }
}
""")


def plain(array: Any) -> Any:
    """A recorded array as any other one: itself."""
    return array


def is_recorded(array: Any) -> bool:
    """Whether an array is one of a step that is recorded: on the device, any may be."""
    return is_array(array)


class _OwnArena(Arena):
    """Buffers of a program, which are never let go."""

    most_shapes = 1 << 62


class NotRecorded(Exception):
    """What the step was to do cannot be part of a graph."""


class Recording:
    """Within its block the thread's step is captured; `spoiled` says why it cannot be repeated, or None.

    Args:
        known: arrays whose memory stays what it is between steps: variables and their like.
        tables: arrays of float64 in the host's memory that hold the step's settings.
        states: of the known arrays those that not only an optimizer changes.
    """

    defers = True  # nothing is done before a program does it

    def __init__(self, known: Iterable[Any] = (), tables: Sequence[np.ndarray] = (), states: Iterable[Any] = ()):
        self._k = kernels.active_table()
        self.xp = xp = self._k.xp
        self.spoiled: str | None = None
        self.again = False  # whether the next step may be recorded, although this one was not
        self.kept: list[Any] = [*known]  # whose memory the graph reads and writes
        self.checks: list[Callable[[], object]] = []
        self.held: list[Any] = []
        self.drawn: dict[int, tuple[Any, int]] = {}  # random streams, and how many blocks of them a step takes
        self.calls: list[tuple[str, int, Callable[[], None]]] = []  # name, blocks and what does it alone
        self.inputs: list[tuple[Any, int]] = []  # the batch's buffers, and where the addresses of their data lie
        self.outputs: list[tuple[Any, int]] = []
        self.graphs: list[Any] = []  # one after the other
        self._signature: list[tuple] = []
        self._states = {one.data.ptr: one for one in states if one.size}
        self._known = {memory_of(one).data.ptr for one in self.kept if is_array(one)}
        self.tables = [one for one in tables if one is not None]
        self.flags: dict[int, tuple[np.ndarray, Any]] = {}  # by address, numbers of the host that the device decides
        self.pool = xp.cuda.MemoryPool()
        self._moved: dict[int, np.ndarray] = {}  # by their addresses, arrays of the host that were moved
        self._unknown: dict[int, str] = {}  # those of which nobody knows where they come from
        self._own: set[int] = set()  # addresses of the memory that the step takes
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._beside = xp.cuda.Stream(non_blocking=True)
        self.arena = _OwnArena()
        self._counters: dict[int, int] = {}  # of each stream, the place in the block of its counter
        self._next_place = ADDRESSES
        width = sum(one.size for one in self.tables)
        with xp.cuda.using_allocator(self._allocate):
            self.block = xp.zeros(PLACES + MOST_STEPS * width, "int64")
            self.now = xp.zeros(width, "float64")
        self.rows = self.block[PLACES:].view("float64")
        self.goes_on = self.block[GOES_ON : GOES_ON + 1].view("float64")
        self._where: Any = self.goes_on
        self._load_kernels()

    def _load_kernels(self) -> None:
        """Launch the kernels of this file, left out, while nothing is captured: a driver may load them only then."""
        nothing = self.xp.zeros(1, "float64")
        for name, count in SOURCE.parameters.items():
            SOURCE.function(self.xp, name, _BYTE, {})((1,), (32,), (nothing, *[0] * count))

    def _allocate(self, size: int) -> Any:
        memory = self.pool.malloc(size)
        self._own.add(memory.ptr)
        return memory

    # ------------------------------------------------------------ the capture

    def __enter__(self) -> Recording:
        self._stack = ExitStack()
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _begin(self) -> None:
        if not _capturing.acquire(blocking=False):
            self.again = True
            self.spoil("another thread records a step")
            raise NotRecorded(self.spoiled)
        self._stack.callback(_capturing.release)
        self._outer, current.recording = current.recording, self
        self._stack.callback(self._leave)
        self._stack.enter_context(self._stream)
        self._stack.enter_context(self.xp.cuda.using_allocator(self._allocate))
        self._stack.enter_context(self.arena)
        self._stack.enter_context(_no_copies(self.xp))
        self._stream.begin_capture()
        if self.now.size:
            self._launch("take_numbers", self.now.size, (self.block, self.rows, self.now, self.now.size))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None and self.spoiled is None:
                self._end()
        finally:
            try:
                self.graphs.append(self._stream.end_capture())
            except Exception as refused:  # what was forbidden has ended it, and says so once more
                self.spoil(f"CUDA cannot capture it: {refused}")
            finally:
                self._stack.close()

    def _cut(self) -> None:
        """End a graph and begin another one."""
        self.graphs.append(self._stream.end_capture())
        self._stream.begin_capture()

    def _leave(self) -> None:
        current.recording = self._outer

    def input(self, leaf: np.ndarray) -> Any:
        """A buffer for a part of the batch, which the step fills from that of many steps."""
        buffer = self._k.empty(leaf.shape, leaf.dtype)
        self.inputs.append((buffer, self._place()))
        self._part("take_part", *self.inputs[-1])
        return buffer

    def give(self, arrays: Sequence[Any]) -> list[Any]:
        """Let each step give arrays, which somebody reads, to those of many steps."""
        for array in arrays:
            self.outputs.append((array, self._place()))
            self._part("give_part", *self.outputs[-1])
        return list(arrays)

    @property
    def places(self) -> list[int]:
        """Where the addresses of the data and of the results of many steps lie in the block."""
        return [place for _, place in (*self.inputs, *self.outputs)]

    def watched(self, array: Any) -> Any:
        """An array of which it is noted what is done with it: itself."""
        return array

    def copy(self, array: Any, values: Any) -> None:
        """Let the step end with values in the memory of an array."""
        self._states[array.data.ptr] = array
        array[...] = values

    def _part(self, name: str, array: Any, place: int) -> None:
        width, count = _units(array)
        self._launch(name, count, (self.block, place, array, width, count))

    def _place(self) -> int:
        """One more place in the block."""
        self._next_place += 1
        if self._next_place > PLACES:
            self.spoil("it has more inputs, outputs and random streams than a program has places for")
            return 0
        return self._next_place - 1

    def _end(self) -> None:
        for unknown in self._unknown.values():
            self.spoil(f"{unknown} comes from Python code")
        blocks = [count for _, count in self.drawn.values()]
        places = [self._counters[stream] for stream in self.drawn if stream in self._counters]
        first = self._next_place
        if len(places) < len(self.drawn):
            self.spoil("it draws random numbers elsewhere than on the device")
            return
        start = min(places, default=first)
        self._keep_states()
        growth = np.zeros(max(first - start, 1), "uint64")
        for place, count in zip(places, blocks, strict=True):
            growth[place - start] = count
        flags = [cell for _, cell in self.flags.values()]  # the last step is one whose flag is 0
        if len(flags) > 1:
            self.spoil("more than one number decides whether it is made")
            return
        counters = self.block[start:].view("uint64")
        streams = growth.size if self.drawn else 0
        given = self.block, counters, self.fix(self.moved(growth)), streams, flags[0] if flags else None
        launch(self._k, SOURCE, "end_step", _BYTE, 1, 32, given)

    def _keep_states(self) -> None:
        """Let steps that are left out change nothing: what CuPy and cuBLASLt do in them is done all the same."""
        if not self.flags:
            return
        self._cut()
        if sum(map(_nodes, self.graphs)) == len(self.calls):
            return
        aside = [(array, self.xp.empty(array.shape, array.dtype)) for array in self._states.values()]
        self.kept += [kept for _, kept in aside]
        outer, self._where = self._where, 0
        for array, kept in aside:
            self._launch("put_back", _units(array)[1], (self.goes_on, kept, array, *_units(array)))
        self._cut()
        for array, kept in aside:
            self._launch("put_aside", _units(array)[1], (array, kept, *_units(array)))
        self._cut()
        self.graphs.insert(0, self.graphs.pop())
        self._where = outer

    def _launch(self, name: str, count: int, given: Sequence[Any]) -> None:
        launch(self._k, SOURCE, name, _BYTE, each(count), THREADS, given)

    # ------------------------------------------------------------ what the step tells

    def spoil(self, reason: str) -> None:
        """Say why this step cannot be repeated without Python; the first reason counts."""
        if self.spoiled is None:
            self.spoiled = reason

    def put_off(self, what: str) -> None:
        """Give this recording up for what must happen outside of a capture, and will when the layers make the step.

        Raises:
            NotRecorded: always.
        """
        self.again = self.spoiled is None
        self.spoil(f"{what} has not been made before")
        raise NotRecorded(self.spoiled)

    def launched(
        self, name: str, dtype: Any, grid: Any, block: Any, given: Sequence[Any], run: Callable[[], None]
    ) -> Any:
        """Note a launch, and what does it alone, to be timed.

        Returns:
            A float64 on the device, or its address: the launch is left out where it is 0.
        """
        self._keep(given)
        self._signature.append((name, dtype.char, grid, block, *map(_told, given)))
        self.calls.append((name, grid[0] * grid[1] * grid[2], run))
        return self._where

    def multiplied(self, kind: Any, arrays: Sequence[Any], run: Callable[[], None]) -> None:
        """Note a product, and what makes it alone."""
        if self._where is not self.goes_on:
            self.spoil(_OF_OTHERS)
        self._keep(arrays)
        self._signature.append(("product", *kind))
        self.calls.append((f"product of {kind.rows} x {kind.inner} by {kind.columns}", max(kind.batch, 1), run))

    def _keep(self, given: Sequence[Any]) -> None:
        """Let arrays that are none of the step's live as long as the graph."""
        self.kept += [one for one in given if is_array(one) and not self._is_own(one)]

    def signature(self) -> list[tuple]:
        """What is asked for, with all numbers, but not in which memory: of the same step it is the same."""
        return self._signature

    def number_at(self, value: np.ndarray) -> Any:
        """The address on the device of a number that lies in the host's memory: one of the step's settings."""
        address = value.ctypes.data
        if address in self.flags:
            return Address(self.flags[address][1].data.ptr, "flag")
        place = 0
        for table in self.tables:
            offset = address - table.ctypes.data
            if 0 <= offset < table.nbytes:
                return Address(self.now.data.ptr + place + offset, "number", place + offset)
            place += table.nbytes
        self.spoil("a number in the host's memory is none of the optimizer's")
        return Address(self.block.data.ptr, "none")

    def flag_at(self, value: np.ndarray) -> Any:
        """Where the device writes a number that decides whether calls are made; the host has it after the steps."""
        address = value.ctypes.data
        if address not in self.flags:
            with self._apart():
                self.flags[address] = value, self.xp.ones(1, "float64")
        return self.flags[address][1]

    @contextmanager
    def only_where(self, number: np.ndarray) -> Iterator[None]:
        """See `arena.only_where`: our own kernels know how to be left out, and nothing else may be in the block."""
        outer, self._where = self._where, self._both(self.number_at(number))
        self._cut()
        graphs, calls = len(self.graphs), len(self.calls)
        try:
            yield
            self._cut()
            if sum(map(_nodes, self.graphs[graphs:])) != len(self.calls) - calls:
                self.spoil(_OF_OTHERS)
        finally:
            self._where = outer

    def _both(self, number: Any) -> Any:
        """A number that is 0 where one is, or what decides about the block around this one."""
        if self._where is self.goes_on:
            return number
        outer, both, self._where = self._where, self._k.empty((1,), np.dtype("float64")), 0
        launch(self._k, SOURCE, "both", _BYTE, 1, 1, (outer, number, both))
        self._where = outer
        return both

    def advancing(self, source: Any, counter: int, blocks: int) -> Advancing:
        """A random stream's counter, of which the step takes so many blocks."""
        before = self.drawn.get(id(source), (source, 0))[1]
        self.drawn[id(source)] = source, before + blocks
        return Advancing(counter, source, before)

    def counter_at(self, value: Any) -> Any:
        """The address of the counter that a stream has when the step begins; None for another number."""
        if not isinstance(value, Advancing):
            return None
        key = id(value.source)
        if key not in self._counters:
            self._counters[key] = self._place()
        return Address(self.block.data.ptr + 8 * self._counters[key], "counter", self._counters[key])

    @property
    def streams(self) -> list[tuple[Any, int, int]]:
        """Random streams, the blocks that a step takes, and the places of their counters."""
        return [(source, blocks, self._counters[key]) for key, (source, blocks) in self.drawn.items()]

    def moved(self, array: np.ndarray) -> Any:
        """An array of the host on the device, copied beside the capture: it is the same in each step."""
        array = array if array.flags.c_contiguous else array.copy()
        self._signature.append((array.shape, array.dtype.char, array.tobytes()))
        with self._apart():
            made = self.xp.empty(array.shape, array.dtype)
            made.set(array, stream=self._beside)
            self._beside.synchronize()
        self.kept.append(made)
        self._moved[made.data.ptr] = array
        if array.flags.writeable:  # unless it turns out to be made of numbers
            self._unknown[made.data.ptr] = f"an array of shape {array.shape} and type {array.dtype}"
        return made

    def value_of(self, array: Any) -> np.ndarray | None:
        """The values of an array that was moved to the device within the step; None for any other."""
        found = self._moved.get(array.data.ptr) if is_array(array) else None
        return found if found is not None and (found.shape, found.dtype) == (array.shape, array.dtype) else None

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Work on another stream, in memory that no step takes."""
        xp = self.xp
        with self._beside, xp.cuda.using_allocator(xp.get_default_memory_pool().malloc):
            yield
            self._beside.synchronize()

    def fix(self, array: Any) -> Any:
        """An array of Python's numbers: the graph makes it anew, or it has been or will be moved to the device."""
        if not is_array(array):
            return constant(array)
        self._unknown.pop(array.data.ptr, None)
        return array

    def are_fixed(self, arrays: Iterable[Any]) -> bool:
        """Whether Python knows the values."""
        return all(self.value_of(one) is not None for one in arrays if not isinstance(one, (int, float)))

    def computed(self, function: Callable, arrays: Sequence[Any]) -> Any:
        """What a function makes of such arrays: the graph makes it anew."""
        return function(*arrays)

    def hold(self, array: Any) -> Any:
        """Take an array that Python code has for one that it keeps, in the memory where it is."""
        if not is_array(array):
            return array
        pointer = memory_of(array).data.ptr
        if pointer not in self._known and not self._is_own(array) and not any(array is one for one in self.held):
            self.held.append(array)
            self._signature.append((array.shape, array.strides, array.dtype.char, array.data.ptr))
        return array

    def check(self, array: Any, numbers_too: bool = True) -> None:
        """Spoil the recording where nobody knows whose memory an array's is."""
        if memory_of(array).data.ptr not in self._known and not self._is_own(array):
            self.spoil(f"an array of shape {array.shape} and type {array.dtype} comes from Python code")
        elif array.size and not self._is_own(array):  # a variable that is assigned a value
            self._states[array.data.ptr] = array

    def _is_own(self, array: Any) -> bool:
        """Whether memory was taken by the step."""
        return memory_of(array).data.ptr in self._own


def _units(array: Any) -> tuple[int, int]:
    """In parts of how many bytes an array is copied, and how many those are."""
    width = next(width for width in (16, 4, 1) if array.nbytes % width == 0 and array.data.ptr % width == 0)
    return width, array.nbytes // width


_NODE = re.compile(r'^\s*"graph_\d+_node_\d+"\s*\[', re.M)  # in CUDA's description of a graph


def _nodes(graph: Any) -> int:
    """How many calls a graph has."""
    return len(_NODE.findall(graph.debug_dot_str()))


def _told(given: Any) -> Any:
    """What a signature has of an argument: of arrays how they are, of numbers in memory which."""
    if is_array(given):
        return given.shape, given.dtype.char
    if given != given:  # NaN is not equal to itself
        return "NaN"
    return given.told if type(given) is Address else given


@contextmanager
def _no_copies(xp: Any) -> Iterator[None]:
    """Let this thread move no array of the host in this block: CuPy takes pinned memory for it, and gets none."""
    thread, pool = threading.get_ident(), xp.get_default_pinned_memory_pool()

    def refuse(size: int) -> Any:
        if threading.get_ident() == thread:
            raise NotRecorded("an array of the host moves to the device within the step")
        return pool.malloc(size)

    xp.cuda.set_pinned_memory_allocator(refuse)
    try:
        yield
    finally:
        xp.cuda.set_pinned_memory_allocator(pool.malloc)
