"""Machine instructions that Numba has no name for: raw memory, atomic counters, calls through a pointer, the GIL.

Addresses are int64.  Memory is read as `numbers(address)[i]`, `floats(address)[i]` or `octets(address)[i]`: pointers
compile several times faster than arrays.  Atomic operations work on 8 bytes.  Nothing here imports Numba: an
`instruction` becomes known to it when a function that uses it is compiled (see jit.py).
"""

from __future__ import annotations

import os
import platform
from typing import Any

from llvmlite import ir

from minikeras.kernels.cpu.jit import instruction

INT64, _INT32, _BYTE, _VOID = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.VoidType()


def function(builder: Any, name: str, result: Any, parameters: list[Any]) -> Any:
    """A function of LLVM or of the process, declared in the module that is being built."""
    declared = builder.module.globals.get(name)
    return declared or ir.Function(builder.module, ir.FunctionType(result, parameters), name)


class Loop:
    """A loop that is being emitted, as a context: what is emitted inside is its body.

    Args:
        stop, start, step: the range of its index, an int64; `step` is positive.
        values: what the first round gets; `following` is to be set to what the next round gets.

    Attributes:
        index: the round's index.
        values: what the round gets; after the loop, what the round after the last would get.
    """

    def __init__(self, builder: Any, stop: Any, start: Any = None, step: int = 1, values: Any = ()):
        self.builder, self.stop, self.step = builder, stop, step
        self.first = ir.Constant(INT64, 0) if start is None else start
        self.before = self.following = list(values)

    def __enter__(self) -> Loop:
        builder, entry = self.builder, self.builder.block
        self.test, body, self.end = (builder.append_basic_block(name) for name in ("test", "body", "end"))
        builder.branch(self.test)
        builder.position_at_end(self.test)
        self.index, *self.values = (builder.phi(value.type) for value in (self.first, *self.before))
        for phi, value in zip((self.index, *self.values), (self.first, *self.before), strict=True):
            phi.add_incoming(value, entry)
        builder.cbranch(builder.icmp_signed("<", self.index, self.stop), body, self.end)
        builder.position_at_end(body)
        return self

    def __exit__(self, *error: Any) -> None:
        following = self.builder.add(self.index, ir.Constant(INT64, self.step), flags=["nsw"])
        for phi, value in zip((self.index, *self.values), (following, *self.following), strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.branch(self.test)
        self.builder.position_at_end(self.end)


def _pointer(builder: Any, address: Any, kind: Any = INT64) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


# ---- memory ----------------------------------------------------------------------------------------------------------


@instruction("CPointer(int64)(int64)")
def numbers(builder: Any, address: Any) -> Any:
    """The int64 numbers at an address."""
    return _pointer(builder, address)


@instruction("CPointer(float32)(int64)")
def floats(builder: Any, address: Any) -> Any:
    """The float32 numbers at an address."""
    return _pointer(builder, address, ir.FloatType())


@instruction("CPointer(float64)(int64)")
def doubles(builder: Any, address: Any) -> Any:
    """The float64 numbers at an address."""
    return _pointer(builder, address, ir.DoubleType())


@instruction("CPointer(uint8)(int64)")
def octets(builder: Any, address: Any) -> Any:
    """The bytes at an address."""
    return _pointer(builder, address, _BYTE)


@instruction("CPointer(uint32)(int64)")
def words(builder: Any, address: Any) -> Any:
    """The 4-byte words at an address."""
    return _pointer(builder, address, _INT32)


@instruction("void(int64)")
def prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address, which need not be valid, ahead of its use."""
    prefetch_line(builder, address)


def prefetch_line(builder: Any, address: Any) -> None:
    """Emit the instruction of `prefetch`."""
    byte = _BYTE.as_pointer()
    called = function(builder, "llvm.prefetch.p0", _VOID, [byte, _INT32, _INT32, _INT32])
    read, keep, data = (ir.Constant(_INT32, number) for number in (0, 3, 1))
    builder.call(called, [builder.inttoptr(address, byte), read, keep, data])


# ---- threads ---------------------------------------------------------------------------------------------------------


@instruction("int64(int64)")
def load(builder: Any, address: Any) -> Any:
    """The number at an address, read before anything that follows."""
    return builder.load_atomic(_pointer(builder, address), "acquire", 8)


@instruction("void(int64, int64)")
def store(builder: Any, address: Any, value: Any) -> None:
    """Write a number to an address, after everything that precedes."""
    builder.store_atomic(value, _pointer(builder, address), "release", 8)


@instruction("int64(int64, int64)")
def add(builder: Any, address: Any, value: Any) -> Any:
    """Add to the number at an address in one step; returns what it was before."""
    return builder.atomic_rmw("add", _pointer(builder, address), value, "seq_cst")


@instruction("int64(int64, int64)")
def exchange(builder: Any, address: Any, value: Any) -> Any:
    """Replace the number at an address in one step; returns what it was before."""
    return builder.atomic_rmw("xchg", _pointer(builder, address), value, "seq_cst")


@instruction("void(int64, int64, int64, int64)")
def call(builder: Any, address: Any, arguments: Any, part: Any, worker: Any) -> None:
    """Call the compiled function `(arguments, part, worker) -> None` at an address."""
    kind = ir.FunctionType(_VOID, [INT64] * 3)
    builder.call(builder.inttoptr(address, kind.as_pointer()), [arguments, part, worker])


_X86 = platform.machine() in ("x86_64", "AMD64")
_can_give_way = os.name == "posix"


@instruction("void()")
def rest(builder: Any) -> None:
    """Tell the processor that the thread waits in a loop."""
    if _X86:
        builder.call(function(builder, "llvm.x86.sse2.pause", _VOID, []), [])


@instruction("void()")
def give_way(builder: Any) -> None:
    """Let another thread have the core, if one wants it."""
    if _can_give_way:
        builder.call(function(builder, "sched_yield", _INT32, []), [])


# ---- denormal numbers ------------------------------------------------------------------------------------------------

_NO_DENORMALS = 0x8040  # of the SSE control register: tiny results become zero, tiny operands count as zero


def _room(builder: Any) -> Any:
    """A place on the stack for a control register; one in a function, however often it is asked for."""
    with builder.goto_entry_block():
        return builder.alloca(_INT32)


def _control_register(builder: Any, name: str, place: Any) -> None:
    called = function(builder, f"llvm.x86.sse.{name}", _VOID, [_BYTE.as_pointer()])
    builder.call(called, [builder.bitcast(place, _BYTE.as_pointer())])


@instruction("int64()")
def flush_denormals(builder: Any) -> Any:
    """Treat numbers too small for a full mantissa as zero in this thread: they take a hundred times as long.

    Returns what `restore_denormals` takes.
    """
    if not _X86:
        return ir.Constant(INT64, 0)
    place = _room(builder)
    _control_register(builder, "stmxcsr", place)
    before = builder.load(place)
    builder.store(builder.or_(before, ir.Constant(_INT32, _NO_DENORMALS)), place)
    _control_register(builder, "ldmxcsr", place)
    return builder.zext(before, INT64)


@instruction("void(int64)")
def restore_denormals(builder: Any, before: Any) -> None:
    """Undo `flush_denormals`."""
    if _X86:
        place = _room(builder)
        builder.store(builder.trunc(before, _INT32), place)
        _control_register(builder, "ldmxcsr", place)


# ---- Python ----------------------------------------------------------------------------------------------------------


@instruction("int64(int64)")
def integer_of(builder: Any, item: Any) -> Any:
    """The value of a Python int at an address; the caller holds the GIL."""
    return builder.call(function(builder, "PyLong_AsLongLong", INT64, [INT64]), [item])


@instruction("int64(int64)")
def integer(builder: Any, value: Any) -> Any:
    """A new reference to a Python int; the caller holds the GIL."""
    return builder.call(function(builder, "PyLong_FromLongLong", INT64, [INT64]), [value])


@instruction("int64()")
def release_gil(builder: Any) -> Any:
    """Let other Python threads run; returns what `take_gil` takes."""
    return builder.call(function(builder, "PyEval_SaveThread", INT64, []), [])


@instruction("void(int64)")
def take_gil(builder: Any, state: Any) -> None:
    """Undo `release_gil`."""
    builder.call(function(builder, "PyEval_RestoreThread", _VOID, [INT64]), [state])


@instruction("int64()")
def error_occurred(builder: Any) -> Any:
    """Not 0 if a Python exception is set; the caller holds the GIL."""
    return builder.call(function(builder, "PyErr_Occurred", INT64, []), [])


@instruction("int64(int64, int64)")
def is_subtype(builder: Any, one: Any, other: Any) -> Any:
    """Whether a Python type at an address is another or derived from it."""
    return builder.zext(builder.call(function(builder, "PyType_IsSubtype", _INT32, [INT64] * 2), [one, other]), INT64)


ROOM = 32  # numbers in a `stack_room`


@instruction("int64()")
def stack_room(builder: Any) -> Any:
    """The address of `ROOM` numbers that live until the function returns."""
    with builder.goto_entry_block():
        place = builder.alloca(INT64, size=ROOM)
    return builder.ptrtoint(place, INT64)
