"""What the stand-in has of `cupy.cuda`: streams, events, captures, pools, pinned memory, as strict as CUDA is.

What is asked of a stream is done when somebody waits for it: whoever forgets to wait, or changes pinned memory before
it has been copied, gets wrong numbers.  Kernels and functions of the stand-in run in the stream at once, after all that
was asked of it before.

While a stream is captured nothing is done, but put into a graph.  What CUDA forbids ends the capture: reading back,
waiting, memory from anywhere but a pool that the capture has for its own, modules that are loaded, cuBLAS by way of
CuPy.  A graph that is launched after its pool has gone, or an array that it reads, is an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np


class StreamCaptureError(RuntimeError):
    """What `cupy.cuda.runtime.CUDARuntimeError` is here."""


class _State(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.current: list[Stream] = []
        self.allocators: list[Any] = []


class _Shared:
    def __init__(self) -> None:
        self.capture: Capture | None = None
        self.pinned: Callable[[int], Any] | None = None
        self.pinned_memory: dict[int, Any] = {}  # by address, also what was freed just now
        self.pinned_freed: deque[int] = deque()
        self.memory: dict[int, weakref.ref] = {}  # by the address of device memory, the pool that it is from


_at_work = threading.RLock()  # one thread at a time does what has been asked for


class Event:
    """A place in what a stream has been asked for."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self.stream: Stream | None = None
        self.place = 0
        self.time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or get_current_stream()
        self.place = self.stream.asked
        self.stream.put(self._note)

    def _note(self) -> None:
        self.time = perf_counter()

    def reach(self) -> None:
        if self.stream is not None:
            self.stream.run_to(self.place + 1)

    def synchronize(self) -> None:
        forbid("cudaEventSynchronize")
        self.reach()


class Stream:
    """A queue of work."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.null, self.non_blocking = null, non_blocking
        self.asked = self.done = 0
        self._queue: deque[Callable[[], None]] = deque()
        self.ptr = 0 if null else id(self)

    def put(self, work: Callable[[], None]) -> None:
        self.asked += 1
        self._queue.append(work)

    def run_to(self, place: int) -> None:
        with _at_work:
            while self.done < place:
                work = self._queue.popleft()
                self.done += 1
                work()

    def synchronize(self) -> None:
        capture = shared.capture
        if capture is not None and capture.stream is self:
            capture.end("cudaStreamSynchronize")
        self.run_to(self.asked)

    def wait_event(self, event: Event) -> None:
        if shared.capture is not None and shared.capture.stream is self:
            shared.capture.end("cudaStreamWaitEvent of work outside of the capture")
        self.put(event.reach)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def begin_capture(self, mode: Any = None) -> None:
        if self.null:
            raise StreamCaptureError("cudaErrorStreamCaptureUnsupported: the null stream cannot be captured.")
        if shared.capture is not None:
            raise StreamCaptureError("cudaErrorIllegalState: the stand-in captures one stream at a time.")
        self.synchronize()
        shared.capture = Capture(self)

    def end_capture(self) -> Graph:
        capture, shared.capture = shared.capture, None
        if capture is None or capture.stream is not self:
            raise StreamCaptureError("cudaErrorIllegalState: nothing is captured.")
        if capture.forbidden is not None:
            raise StreamCaptureError(f"cudaErrorStreamCaptureInvalidated by {capture.forbidden}.")
        return Graph(capture)

    def is_capturing(self) -> bool:
        return shared.capture is not None and shared.capture.stream is self

    def __enter__(self) -> Stream:
        state.current.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert state.current.pop() is self


class Capture:
    """What is put into a graph."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.nodes: list[Callable[[], None]] = []
        self.forbidden: str | None = None
        self.foreign: dict[int, weakref.ref] = {}  # arrays that are not of the capture's pool
        self.pools: dict[int, weakref.ref] = {}

    def end(self, what: str) -> None:
        self.forbidden = self.forbidden or what
        raise StreamCaptureError(f"cudaErrorStreamCaptureUnsupported: {what} is not permitted while capturing.")

    def uses(self, array: Any) -> None:
        """Note whose memory a node reads or writes."""
        root = array if array.base is None else array.base
        pool = shared.memory.get(root.data.ptr)
        if pool is None or pool() is None:
            self.foreign[id(root)] = weakref.ref(root)
        else:
            self.pools[id(pool)] = pool


class Graph:
    """Nodes, done one after the other."""

    def __init__(self, capture: Capture) -> None:
        self._nodes, self._foreign, self._pools = capture.nodes, [*capture.foreign.values()], [*capture.pools.values()]
        self.launches = 0

    def launch(self, stream: Stream | None = None) -> None:
        forbid("cudaGraphLaunch")
        (stream or get_current_stream()).put(self._run)

    def _run(self) -> None:
        if any(array() is None for array in self._foreign):
            raise StreamCaptureError("The graph reads memory that has been freed.")
        if any(pool() is None for pool in self._pools):
            raise StreamCaptureError("The graph's pool has been freed.")
        self.launches += 1
        for node in self._nodes:
            node()

    def debug_dot_str(self, flags: int = 0) -> str:
        """The graph in the language of Graphviz, as CUDA writes it."""
        nodes = [f'"graph_1_node_{i}"[\nstyle="bold"\nlabel="{i}"\n];' for i in range(len(self._nodes))]
        edges = [f'"graph_1_node_{i}" -> "graph_1_node_{i + 1}";' for i in range(len(self._nodes) - 1)]
        return "\n".join(["digraph dot {", "subgraph cluster_1 {", *nodes, *edges, "}", "}"])


class MemoryPool:
    """Memory that lives as long as the pool; the device has a million bytes."""

    limit = 0

    def __init__(self, allocator: Any = None) -> None:
        self._held: list[Any] = []
        self._bytes = 0

    def malloc(self, size: int) -> Any:
        memory = _memory(size)
        self._held.append(memory)
        self._bytes += size
        shared.memory[memory.ptr] = weakref.ref(self)
        return memory

    def total_bytes(self) -> int:
        return self._bytes

    used_bytes = total_bytes

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if (size is None) == (fraction is None):
            raise ValueError("CuPy takes either the size or the fraction.")
        self.limit = int(fraction * 1_000_000) if size is None else size  # type: ignore[operator]

    def get_limit(self) -> int:
        return self.limit

    def free_all_blocks(self, stream: Any = None) -> None:
        """Nothing is kept for later here."""


def _memory(size: int) -> Any:
    held = np.empty(max(size, 1), "uint8")
    return SimpleNamespace(ptr=held.__array_interface__["data"][0], held=held)


_default_pool, _default_pinned_pool = MemoryPool(), SimpleNamespace(malloc=lambda size: _pinned(size))


def _pinned(size: int) -> Any:
    """Memory that somebody else has as soon as nobody refers to it, whatever a stream is still to copy from it."""
    kind = ctypes.c_char * max(size, 1)
    held = kind()
    address = ctypes.addressof(held)
    given = type("Pinned", (kind,), {}).from_buffer(held)
    shared.pinned_memory[address] = held
    weakref.finalize(given, _free_pinned, address, max(size, 1)).atexit = False
    return given


def _free_pinned(address: int, size: int) -> None:
    """Put other values there; what was freed last is still there to show them."""
    ctypes.memset(address, 255, size)
    shared.pinned_freed.append(address)
    if len(shared.pinned_freed) > 32:
        del shared.pinned_memory[shared.pinned_freed.popleft()]


def later(array: np.ndarray) -> Callable[[], np.ndarray]:
    """What gives an array of the host when a stream comes to it: pinned memory as it then is, another as it is now."""
    address, size = array.__array_interface__["data"][0], array.nbytes
    if not any(start <= address < start + len(held) for start, held in shared.pinned_memory.items()):
        copy = array.copy()
        return lambda: copy
    shape, dtype = array.shape, array.dtype
    return lambda: np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


state, shared = _State(), _Shared()
_null = Stream(null=True)


def get_current_stream(device_id: int | None = None) -> Stream:
    return state.current[-1] if state.current else _null


def forbid(what: str) -> None:
    """End a capture of the current stream, if there is one."""
    if shared.capture is not None and get_current_stream() is shared.capture.stream:
        shared.capture.end(what)


def capturing() -> Capture | None:
    """The capture of the current stream."""
    capture = shared.capture
    return capture if capture is not None and get_current_stream() is capture.stream else None


def catch_up() -> None:
    """Do what the current stream has been asked for, before something else is done in it."""
    if shared.capture is None or get_current_stream() is not shared.capture.stream:
        stream = get_current_stream()
        stream.run_to(stream.asked)


def placed(array: np.ndarray) -> np.ndarray:
    """A new array in memory of the allocator that is in use: itself where that is CuPy's own."""
    allocate = state.allocators[-1] if state.allocators else None
    if allocate is None:
        forbid("cudaMalloc")
        return array
    memory = allocate(array.nbytes)
    dense = array if array.flags.c_contiguous or array.flags.f_contiguous else np.ascontiguousarray(array)
    moved = np.ndarray(dense.shape, dense.dtype, memory.held, 0, dense.strides)
    moved[...] = dense
    return moved


@contextlib.contextmanager
def using_allocator(allocator: Any = None) -> Iterator[None]:
    state.allocators.append(None if allocator == _default_pool.malloc else allocator)
    try:
        yield
    finally:
        state.allocators.pop()


def alloc_pinned_memory(size: int) -> Any:
    """Memory of the host that the device copies from by itself; CuPy takes some whenever it moves an array."""
    if shared.pinned is None:
        forbid("a copy of what will lie in the host's memory later")
        return _pinned(size)
    return shared.pinned(size)


def set_pinned_memory_allocator(allocator: Any = None) -> None:
    shared.pinned = None if allocator is _default_pinned_pool.malloc else allocator


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds."""
    end.synchronize()
    return (end.time - start.time) * 1e3


cuda = SimpleNamespace(
    Stream=Stream,
    Event=Event,
    MemoryPool=MemoryPool,
    using_allocator=using_allocator,
    get_current_stream=get_current_stream,
    get_elapsed_time=get_elapsed_time,
    alloc_pinned_memory=alloc_pinned_memory,
    set_pinned_memory_allocator=set_pinned_memory_allocator,
    runtime=SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: {"name": b"Stand-in", "major": 9, "minor": 0, "multiProcessorCount": 1},
        driverGetVersion=lambda: 12080,
        runtimeGetVersion=lambda: 13000,
        memGetInfo=lambda: (900_000, 1_000_000),
        deviceSynchronize=lambda: catch_up(),
    ),
    device=SimpleNamespace(get_cublas_handle=lambda: 1),
)


def get_default_memory_pool() -> MemoryPool:
    return _default_pool


def get_default_pinned_memory_pool() -> Any:
    return _default_pinned_pool
