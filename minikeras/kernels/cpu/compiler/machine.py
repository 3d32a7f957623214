"""Machine instructions that Numba has no name for: raw memory, atomic counters, calls through a pointer, the GIL.

Addresses are int64.  Memory is read as `numbers(address)[i]`, `floats(address)[i]` or `octets(address)[i]`: pointers
compile several times faster than arrays.  Atomic operations work on 8 bytes.
"""

from __future__ import annotations

import os
from typing import Any

from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.cpu.compiler.jit import instruction
from minikeras.kernels.cpu.compiler.kinds import Doubles, Floats, Numbers, Octets, Words

# ---- memory ----------------------------------------------------------------------------------------------------------


@instruction
def numbers(b: Any, address: int) -> Numbers:
    """The int64 numbers at an address."""
    return b.pointer(address, "int64")


@instruction
def floats(b: Any, address: int) -> Floats:
    """The float32 numbers at an address."""
    return b.pointer(address, "float32")


@instruction
def doubles(b: Any, address: int) -> Doubles:
    """The float64 numbers at an address."""
    return b.pointer(address, "float64")


@instruction
def octets(b: Any, address: int) -> Octets:
    """The bytes at an address."""
    return b.pointer(address, "uint8")


@instruction
def words(b: Any, address: int) -> Words:
    """The 4-byte words at an address."""
    return b.pointer(address, "uint32")


def prefetch_line(b: Any, address: Any) -> None:
    """Emit the instruction of `prefetch`."""
    b.invoke("llvm.prefetch.p0", "void", b.pointer(address, "uint8"), *(b.constant(n, "int32") for n in (0, 3, 1)))


@instruction
def prefetch(b: Any, address: int) -> None:
    """Ask for the cache line at an address, which need not be valid, ahead of its use."""
    prefetch_line(b, address)


MOST_ARGUMENTS = 32  # numbers in a `stack_scratch`


@instruction
def stack_scratch(b: Any) -> int:
    """The address of `MOST_ARGUMENTS` numbers that live until the function returns."""
    return b.on_the_stack("int64", MOST_ARGUMENTS)


# ---- threads ---------------------------------------------------------------------------------------------------------


@instruction
def load(b: Any, address: int) -> int:
    """The number at an address, read before anything that follows."""
    return b.load_atomic(b.pointer(address, "int64"), "acquire", 8)


@instruction
def store(b: Any, address: int, value: int) -> None:
    """Write a number to an address, after everything that precedes."""
    b.store_atomic(value, b.pointer(address, "int64"), "release", 8)


@instruction
def add(b: Any, address: int, value: int) -> int:
    """Add to the number at an address in one step; returns what it was before."""
    return b.atomic_rmw("add", b.pointer(address, "int64"), value, "seq_cst")


@instruction
def exchange(b: Any, address: int, value: int) -> int:
    """Replace the number at an address in one step; returns what it was before."""
    return b.atomic_rmw("xchg", b.pointer(address, "int64"), value, "seq_cst")


@instruction
def call(b: Any, address: int, arguments: int, part: int, worker: int) -> None:
    """Call the compiled function `(arguments, part, worker) -> None` at an address."""
    b.call(b.function_at(address, 3), [arguments, part, worker])


_can_give_way = os.name == "posix"


@instruction
def rest(b: Any) -> None:
    """Tell the processor that the thread waits in a loop."""
    if host.ARCHITECTURE == "x86":
        b.invoke("llvm.x86.sse2.pause", "void")
    elif host.ARCHITECTURE == "arm64":  # a barrier takes about as long as x86's pause; `yield` takes no time there
        b.invoke("llvm.aarch64.isb", "void", b.constant(15, "int32"))


@instruction
def give_way(b: Any) -> None:
    """Let another thread have the core, if one wants it."""
    if _can_give_way:
        b.invoke("sched_yield", "int32")


# ---- denormal numbers ------------------------------------------------------------------------------------------------

# Bits of the control register: tiny results become zero, tiny operands count as zero.
_NO_DENORMALS = {"x86": 0x8040, "arm64": 1 << 24}


def _control_register(b: Any) -> Any:
    """Emit reading it: an int64."""
    if host.ARCHITECTURE == "arm64":
        return b.invoke("llvm.aarch64.get.fpcr", "int64")
    place = b.on_the_stack("int32")
    b.invoke("llvm.x86.sse.stmxcsr", "void", b.pointer(place, "uint8"))
    return b.zext(b.load(b.pointer(place, "int32")), b.type("int64"))


def _set_control_register(b: Any, value: Any) -> None:
    """Emit writing it."""
    if host.ARCHITECTURE == "arm64":
        b.invoke("llvm.aarch64.set.fpcr", "void", value)
    else:
        place = b.on_the_stack("int32")
        b.write(b.trunc(value, b.type("int32")), place)
        b.invoke("llvm.x86.sse.ldmxcsr", "void", b.pointer(place, "uint8"))


@instruction
def flush_denormals(b: Any) -> int:
    """Treat numbers too small for a full mantissa as zero in this thread: they take a hundred times as long.

    Returns what `restore_denormals` takes.
    """
    if host.ARCHITECTURE not in _NO_DENORMALS:
        return b.constant(0)
    before = _control_register(b)
    _set_control_register(b, b.or_(before, b.constant(_NO_DENORMALS[host.ARCHITECTURE])))
    return before


@instruction
def allow_denormals(b: Any) -> int:
    """Compute with them, as NumPy does, until `restore_denormals`, which takes what this returns."""
    if host.ARCHITECTURE not in _NO_DENORMALS:
        return b.constant(0)
    before = _control_register(b)
    _set_control_register(b, b.and_(before, b.constant(~_NO_DENORMALS[host.ARCHITECTURE])))
    return before


@instruction
def restore_denormals(b: Any, before: int) -> None:
    """Undo `flush_denormals` or `allow_denormals`."""
    if host.ARCHITECTURE in _NO_DENORMALS:
        _set_control_register(b, before)


# ---- Python ----------------------------------------------------------------------------------------------------------


@instruction
def integer_of(b: Any, item: int) -> int:
    """The value of a Python int at an address; the caller holds the GIL."""
    return b.invoke("PyLong_AsLongLong", "int64", item)


@instruction
def integer(b: Any, value: int) -> int:
    """A new reference to a Python int; the caller holds the GIL."""
    return b.invoke("PyLong_FromLongLong", "int64", value)


@instruction
def release_gil(b: Any) -> int:
    """Let other Python threads run; returns what `take_gil` takes."""
    return b.invoke("PyEval_SaveThread", "int64")


@instruction
def take_gil(b: Any, state: int) -> None:
    """Undo `release_gil`."""
    b.invoke("PyEval_RestoreThread", "void", state)


@instruction
def error_occurred(b: Any) -> int:
    """Not 0 if a Python exception is set; the caller holds the GIL."""
    return b.invoke("PyErr_Occurred", "int64")


@instruction
def is_subtype(b: Any, one: int, other: int) -> int:
    """Whether a Python type at an address is another or derived from it."""
    return b.zext(b.invoke("PyType_IsSubtype", "int32", one, other), b.type("int64"))
