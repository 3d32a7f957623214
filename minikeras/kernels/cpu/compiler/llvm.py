"""What the compiler needs of LLVM: a builder with words for vectors and loops, machine code, and loading it.

Nothing outside this folder imports llvmlite, so it is loaded with the first function that is compiled or read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import binding, ir

from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.cpu.compiler.kinds import ENTRY, Signature
from minikeras.kernels.cpu.compiler.processor import Target

INT64 = ir.IntType(64)
TYPES: dict[str, Any] = {
    "int64": INT64,
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "uint8": ir.IntType(8),
    "uint16": ir.IntType(16),
    "uint32": ir.IntType(32),
    "int32": ir.IntType(32),
    "int128": ir.IntType(128),
    "bool": ir.IntType(1),
    "void": ir.VoidType(),
}
BYTES = {"int64": 8, "float32": 4, "float64": 8, "uint8": 1, "uint32": 4}
_KINDS = {str(TYPES[kind]): kind for kind in BYTES}


def type_of(kind: str, lanes: int = 0) -> Any:
    """LLVM's type of a kind, or of a vector of so many."""
    of = TYPES[kind[1:]].as_pointer() if kind.startswith("*") else TYPES[kind]
    return ir.VectorType(of, lanes) if lanes else of


def function_type(signature: Signature) -> Any:
    """LLVM's type of a function."""
    return ir.FunctionType(type_of(signature.result), [type_of(kind) for kind in signature.parameters])


class Mask(NamedTuple):
    """The first lanes of a vector."""

    lanes: Any  # a vector of bool
    count: Any  # how many, an int64: any number of at least all lanes stands for them, one below 1 for none
    whole: Any  # whether these are all lanes, a bool


class Builder(ir.IRBuilder):
    """llvmlite's builder of instructions, with words for constants, vectors and loops.

    An address is an int64; a kind is the name of a type, and where `lanes` are given, a vector of it is meant.
    """

    # ---- values

    def constant(self, value: Any, kind: str = "int64", lanes: int = 0) -> Any:
        """A number, or a vector that has it in every lane, or the numbers of a list."""
        values = list(value) if isinstance(value, (list, range)) else [value] * lanes
        of = type_of(kind, lanes)
        return ir.Constant(of, values if lanes else value)

    type = staticmethod(type_of)

    def spread(self, value: Any, lanes: int) -> Any:
        """A vector with a value in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        single = self.insert_element(undefined, value, self.constant(0, "int32"))
        return self.shuffle_vector(single, undefined, self.constant(0, "int32", lanes))

    def picked(self, one: Any, other: Any, places: list[int]) -> Any:
        """The lanes at these places of two vectors, the second's after the first's."""
        return self.shuffle_vector(one, other, self.constant(places, "int32", len(places)))

    def first_lanes(self, count: Any, lanes: int) -> Mask:
        """The lanes whose number is below `count`, an int64 that fits into 32 bits."""
        last = self.spread(self.trunc(count, TYPES["int32"]), lanes)
        there = self.icmp_signed("<", self.constant(range(lanes), "int32", lanes), last)
        return Mask(there, count, self.icmp_signed(">=", count, self.constant(lanes)))

    def across(self, vector: Any, combine: Callable) -> Any:
        """All lanes combined, halves with halves."""
        lanes = distance = vector.type.count
        while distance := distance // 2:
            vector = combine(vector, self.picked(vector, vector, [lane ^ distance for lane in range(lanes)]))
        return self.extract_element(vector, self.constant(0, "int32"))

    def invoke(self, name: str, result: Any, *values: Any) -> Any:
        """Call a function of LLVM or of the process; its result is of a kind, or of a value's type."""
        result = type_of(result) if isinstance(result, str) else result
        kind = ir.FunctionType(result, [value.type for value in values])
        return self.call(self.module.globals.get(name) or ir.Function(self.module, kind, name), values)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """`x * y + z`, rounded once."""
        lanes = getattr(x.type, "count", 0)
        return self.invoke(f"llvm.fma.v{lanes}f32" if lanes else "llvm.fma.f32", x.type, x, y, z)

    def at_least(self, value: Any, least: Any) -> Any:
        """The larger of both; NaN stays."""
        return self.select(self.fcmp_ordered("<", value, least), least, value)

    def function_at(self, address: Any, parameters: int) -> Any:
        """The function at an address, of so many numbers and without a result."""
        return self.inttoptr(address, ir.FunctionType(TYPES["void"], [INT64] * parameters).as_pointer())

    # ---- memory

    def at(self, address: Any, index: Any, step: Any = 4) -> Any:
        """The address of an element: `address + index * step`."""
        if isinstance(index, int) and isinstance(step, int):
            return self.add(address, self.constant(index * step))
        index, step = (self.constant(one) if isinstance(one, int) else one for one in (index, step))
        return self.add(address, self.mul(index, step))

    def pointer(self, address: Any, kind: str = "float32", lanes: int = 0, element: Any = None) -> Any:
        """A pointer to what is at an address, or begins at an element of the array there."""
        if element is None:
            return self.inttoptr(address, type_of(kind, lanes).as_pointer())
        return self.bitcast(self.gep(self.pointer(address, kind), [element]), type_of(kind, lanes).as_pointer())

    def read(
        self, address: Any, kind: str = "float32", lanes: int = 0, mask: Mask | None = None, other: float = 0.0,
        element: Any = None,
    ) -> Any:  # fmt: skip
        """The value at an address; of a vector, where there is a mask, the lanes that it has, `other` in the rest.

        Where a loop goes over the `element` of an array, LLVM understands that better than one over addresses (for
        plain reading; masks take an address).
        """
        if mask is None:
            return self.load(self.pointer(address, kind, lanes, element), align=BYTES[kind])
        rest = self.constant(other, kind, lanes)
        if not host.HAS_MASKS:
            copy = self.on_the_stack(kind, 1, lanes)
            with self.if_then(self.not_(mask.whole), likely=False):
                self.write(rest, copy)
                self._copy(address, copy, mask.count, kind)
            return self.read(self.select(mask.whole, address, copy), kind, lanes)
        pointer, alignment = self.pointer(address, kind, lanes), self.constant(BYTES[kind], "int32")
        return self.invoke(f"llvm.masked.load.v{lanes}f32.p0", rest.type, pointer, alignment, mask.lanes, rest)

    def write(self, value: Any, address: Any, mask: Mask | None = None, element: Any = None) -> None:
        """Write a value, or the lanes of a vector that a mask has."""
        lanes = getattr(value.type, "count", 0)
        kind = _KINDS[str(value.type.element if lanes else value.type)]
        if mask is None:
            self.store(value, self.pointer(address, kind, lanes, element), align=BYTES[kind])
        elif not host.HAS_MASKS:
            copy = self.on_the_stack(kind, 1, lanes)
            self.write(value, self.select(mask.whole, address, copy))
            with self.if_then(self.not_(mask.whole), likely=False):
                self._copy(copy, address, mask.count, kind)
        else:
            pointer, alignment = self.pointer(address, kind, lanes), self.constant(BYTES[kind], "int32")
            self.invoke(f"llvm.masked.store.v{lanes}f32.p0", "void", value, pointer, alignment, mask.lanes)

    def _copy(self, source: Any, target: Any, count: Any, kind: str) -> None:
        """Copy some numbers, one by one."""
        with self.loop(count) as place:
            self.write(self.read(source, kind, element=place.index), target, element=place.index)

    def on_the_stack(self, kind: str, count: int = 1, lanes: int = 0) -> Any:
        """The address of memory that lives until the function returns; one, however often the code is run."""
        with self.goto_entry_block():
            return self.ptrtoint(self.alloca(type_of(kind, lanes), size=count), INT64)

    # ---- loops and branches

    def loop(self, stop: Any, start: Any = None, step: int = 1, values: Any = (), at_least_once: bool = False) -> Loop:
        """A loop that is being emitted, as a context: what is emitted inside is its body; see `Loop`."""
        return Loop(self, stop, start, step, values, at_least_once)

    def over_row(self, count: Any, rows: list[Any], start: list[Any], body: Callable, lanes: int) -> list[Any]:
        """A loop over the vectors of some rows of `count` numbers, 1 at least.

        Args:
            rows: (address, what is read beyond the last number) of each.
            start: what the first round carries.
            body: `(vectors, carried) -> (new vectors, None for rows that stay; what the next round carries)`.

        Returns:
            What the last round carries.
        """
        with self.loop(count, step=lanes, values=start, at_least_once=True) as loop:
            mask = self.first_lanes(self.sub(count, loop.index), lanes)
            places = [self.at(address, loop.index) for address, _ in rows]
            vectors = [self.read(at, "float32", lanes, mask, rest) for at, (_, rest) in zip(places, rows, strict=True)]
            results, loop.following = body(vectors, loop.values)
            for place, result in zip(places, results, strict=True):
                if result is not None:
                    self.write(result, place, mask)
        return loop.results

    def where(self, condition: Any, usual: list[Any], emit: Callable[[], list[Any]]) -> list[Any]:
        """The values that the code of `emit` gives where the condition, which is likely, holds, else the usual ones."""
        before = self.block
        with self.if_then(condition, likely=True):
            values, inside = emit(), self.block
        results = []
        for value, other in zip(values, usual, strict=True):
            results.append(self.phi(value.type))
            results[-1].add_incoming(value, inside)
            results[-1].add_incoming(other, before)
        return results


class Loop:
    """A loop that is being emitted, as a context: what is emitted inside is its body.

    Args:
        stop, start, step: the range of its index, an int64; `step` is positive.
        values: what the first round gets; `following` is to be set to what the next round gets.
        at_least_once: whether there is a first round without looking.

    Attributes:
        index: the round's index.
        values: what the round gets.
        results: after the loop, what the round after the last would get.
    """

    def __init__(self, builder: Builder, stop: Any, start: Any, step: int, values: Any, at_least_once: bool):
        self.builder, self.stop, self.step, self.at_least_once = builder, stop, step, at_least_once
        self.first = ir.Constant(INT64, 0) if start is None else start
        self.before = self.following = list(values)

    def __enter__(self) -> Loop:
        builder, entry = self.builder, self.builder.block
        self.again = body = builder.append_basic_block("body" if self.at_least_once else "test")
        builder.branch(self.again)
        builder.position_at_end(self.again)
        self.index, *self.values = (builder.phi(value.type) for value in (self.first, *self.before))
        for phi, value in zip((self.index, *self.values), (self.first, *self.before), strict=True):
            phi.add_incoming(value, entry)
        if not self.at_least_once:
            body = builder.append_basic_block("body")
        self.end = builder.append_basic_block("end")
        if not self.at_least_once:
            builder.cbranch(builder.icmp_signed("<", self.index, self.stop), body, self.end)
            builder.position_at_end(body)
        return self

    def __exit__(self, *error: Any) -> None:
        builder = self.builder
        following = builder.add(self.index, ir.Constant(INT64, self.step), flags=["nsw"])
        for phi, value in zip((self.index, *self.values), (following, *self.following), strict=True):
            phi.add_incoming(value, builder.block)
        if self.at_least_once:
            builder.cbranch(builder.icmp_signed("<", following, self.stop), self.again, self.end)
        else:
            builder.branch(self.again)
        builder.position_at_end(self.end)
        self.results = list(self.following if self.at_least_once else self.values)


# ---- machine code ----------------------------------------------------------------------------------------------------


def target() -> Any:
    """LLVM's machine for what code is made for."""
    return _machine_of(host.target())


@lru_cache(maxsize=8)
def _machine_of(target: Target) -> Any:
    try:
        found = binding.Target.from_default_triple()
    except RuntimeError:  # nobody has told LLVM about this processor yet
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        found = binding.Target.from_default_triple()
    native = target.name == "native"
    return found.create_target_machine(
        # the pipelines that LLVM knows of some arm64 processors have it load so far ahead that sums leave the registers
        cpu="generic" if host.ARCHITECTURE == "arm64" else binding.get_host_cpu_name() if native else target.name,
        features=binding.get_host_cpu_features().flatten() if native else "",
        opt=3,
        reloc="static" if host.ARCHITECTURE == "x86" else "default",  # calls may be far
        codemodel="jitdefault",
        jit=True,
    )


def machine_code(module: Any, optimised: bool, linked: str = "") -> bytes:
    """Of a module of LLVM code, or its text, together with another one's."""
    parsed = binding.parse_assembly(str(module))
    if linked:
        parsed.link_in(binding.parse_assembly(linked))
    if optimised:
        options = binding.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = True
        passes = binding.create_pass_builder(target(), options)
        passes.getModulePassManager().run(parsed, passes)
    code: bytes = target().emit_object(parsed)
    return code


# Functions of the process that compiled code may call; LLVM asks for those of C on its own account.
_PYTHON_CALLS = (
    "PyErr_Occurred", "PyEval_RestoreThread", "PyEval_SaveThread", "PyLong_AsLongLong", "PyLong_FromLongLong",
    "PyType_IsSubtype",
)  # fmt: skip
_C_CALLS = ("memcpy", "memmove", "memset", "sched_yield", "expf", "log", "logf", "powf", "tanhf")


@lru_cache(maxsize=1)
def _offer_calls() -> None:
    """Tell LLVM where these functions are; it does not find them by itself in every process."""
    c = ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("ucrtbase")
    for library, names in ((ctypes.pythonapi, _PYTHON_CALLS), (c, _C_CALLS)):
        for name in names:
            if hasattr(library, name):
                offer(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)


def offer(name: str, address: int) -> None:
    """Let code that is loaded from now on call the function at an address by a name."""
    binding.add_symbol(name, address)


_engines: list[Any] = []  # an engine owns the code that it has loaded


def load(code: bytes) -> int:
    """The address of the entry after its machine code has been loaded."""
    _offer_calls()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(ENTRY))
