"""Machine instructions that Numba has no name for: raw addresses, atomic counters, calls through a pointer.

Addresses are int64; every number in memory that is read or written here is 8 bytes wide unless the name says otherwise.
This module imports Numba: import it at first need.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INT64 = ir.IntType(64)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, INT64.as_pointer())


@intrinsic
def load(context, address):  # type: ignore[no-untyped-def]
    """The number at an address, read before anything that follows."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(_pointer(builder, arguments[0]), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def store(context, address, value):  # type: ignore[no-untyped-def]
    """Write a number to an address, after everything that precedes."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def add(context, address, value):  # type: ignore[no-untyped-def]
    """Add to the number at an address in one step; returns what it was before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("add", _pointer(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def exchange(context, address, value):  # type: ignore[no-untyped-def]
    """Replace the number at an address in one step; returns what it was before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.atomic_rmw("xchg", _pointer(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def call(context, function, arguments, part, worker):  # type: ignore[no-untyped-def]
    """Call the compiled function `(arguments, part, worker) -> None` at an address."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [INT64] * 3)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


_X86 = platform.machine() in ("x86_64", "AMD64")
_can_give_way = os.name == "posix"


@intrinsic
def rest(context):  # type: ignore[no-untyped-def]
    """Tell the processor that the thread waits in a loop."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(context):  # type: ignore[no-untyped-def]
    """Let another thread have the core, if one wants it."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if _can_give_way:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def pointer(context, address):  # type: ignore[no-untyped-def]
    """An address as `numba.carray` takes it."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def prefetch(context, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at an address, which need not be valid, ahead of its use."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        prefetch_line(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def prefetch_line(builder: Any, address: Any) -> None:
    """Emit the instruction of `prefetch`."""
    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, keep, data = (ir.Constant(word, number) for number in (0, 3, 1))
    builder.call(function, [builder.inttoptr(address, byte), read, keep, data])


_NO_DENORMALS = 0x8040  # of the SSE control register: tiny results become zero, tiny operands count as zero


def _control_register(builder: Any, name: str, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, ir.IntType(8).as_pointer())])


@intrinsic
def flush_denormals(context):  # type: ignore[no-untyped-def]
    """Treat numbers too small for a full mantissa as zero in this thread: they take a hundred times as long.

    Returns what `restore_denormals` takes.
    """

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if not _X86:
            return ir.Constant(INT64, 0)
        word = ir.IntType(32)
        place = cgutils.alloca_once(builder, word)
        _control_register(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, ir.Constant(word, _NO_DENORMALS)), place)
        _control_register(builder, "ldmxcsr", place)
        return builder.zext(before, INT64)

    return types.int64(), generate


@intrinsic
def restore_denormals(context, before):  # type: ignore[no-untyped-def]
    """Undo `flush_denormals`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if _X86:
            word = ir.IntType(32)
            place = cgutils.alloca_once(builder, word)
            builder.store(builder.trunc(values[0], word), place)
            _control_register(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int64), generate
