"""Functions that become machine code at first need: kept in files, and loaded by later processes without a compiler.

What is compiled is written in Python, in Numba's dialect, and decorated here; importing such a module costs nothing.  A
function that is compiled may use other functions and instructions decorated here.  The translator (translate.py) makes
LLVM code of it, or, where it does not know something, Numba (fallback.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

from minikeras.kernels.cpu.compiler import archive, fallback, host, loader, store
from minikeras.kernels.cpu.compiler.kinds import Lazy, Signature, signature_of
from minikeras.lazy import LazyModule

llvm, translate = (LazyModule(f"minikeras.kernels.cpu.compiler.{name}") for name in ("llvm", "translate"))  # load LLVM

_compiling = threading.RLock()
places: dict[int, str] = {}  # names of the functions that have an address, for those who show them


class Instruction(Lazy):
    """LLVM code for use in compiled functions: `emit(builder, *values)` writes it."""

    def __init__(self, emit: Callable):
        self.emit = emit
        self.__doc__ = emit.__doc__

    @cached_property
    def signature(self) -> Signature:
        return signature_of(self.emit, without=1)

    @cached_property
    def known(self) -> Any:
        return fallback.intrinsic(self.emit, self.signature)

    def translated(self, module: Any, builder: Any, values: Any, convert: Callable, flags: Any) -> tuple[Any, Any]:
        kinds = self.signature.parameters
        given = [convert(value, kind).code for value, kind in zip(values, kinds, strict=True)]
        return self.emit(builder, *given), self.signature.result


class Inner(Lazy):
    """A function that is compiled into those that call it, for the kinds that they give."""

    def __init__(self, function: Callable, options: dict[str, Any]):
        self.function, self.options = function, options
        self.__doc__ = function.__doc__

    @cached_property
    def known(self) -> Any:
        return fallback.inlined(self.function, self.options)

    def translated(self, module: Any, builder: Any, values: Any, convert: Callable, flags: Any) -> tuple[Any, Any]:
        kinds = tuple(value.kind for value in values)
        if (self, kinds) not in module.made:
            name = f"{self.function.__name__}.{len(module.made)}"
            flags = self.options.get("fastmath", flags)
            module.made[self, kinds] = module.function(self.function, name, kinds, flags)
        code, kind = module.made[self, kinds]
        return builder.call(code, [value.code for value in values]), kind


class CFunction(Lazy):
    """A function of C that becomes machine code when its address is first asked.

    Compiled functions may call it: it is not compiled into them, so several can share it.

    Args:
        function: in Numba's dialect, or where it `emits`, one `(builder, *values)` that writes LLVM code.
        options: `numba.njit`'s.
    """

    def __init__(self, function: Callable, options: dict[str, Any] | None = None, emits: bool = False):
        self.function, self.options, self.emits = function, options or {}, emits
        self.place = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__ = function.__doc__

    @cached_property
    def body(self) -> Signature:
        """The signature of what is written."""
        return signature_of(self.function, without=int(self.emits))

    @property
    def signature(self) -> Signature:
        """That of the function of C."""
        return self.body

    def arguments(self, builder: Any, given: Any) -> list[Any]:
        """What the parameters of the body are, given those of the function of C."""
        return list(given)

    @cached_property
    def address(self) -> int:
        with _compiling:  # two threads would compile it twice
            found = self.__dict__.get("address")
            if found is None:
                found = self._find()
                places[found] = self.place
            return found

    def _find(self) -> int:
        for called in self.calls():
            loader.offer(called.symbol, called.address)
        return loader.load(self.code())

    def code(self) -> bytes:
        """Its machine code: that of the archive in use, or kept in a file, or else made now.

        Raises:
            RuntimeError: it is to be made, and there is no compiler.
        """
        kept = archive.active()
        code = kept.code(self.symbol) if kept else None
        if code is not None:
            return code
        stamp = store.stamp_of(self.function.__module__, host.machine())
        code = store.read(self.place, stamp)
        if code is None:
            try:
                code = self.compile()
            except ModuleNotFoundError as error:
                if error.name is None or error.name.partition(".")[0] not in ("llvmlite", "numba"):
                    raise
                where = f"not in {kept.path}" if kept else "not compiled yet"
                raise RuntimeError(
                    f"The kernel {self.place} is {where}, and {error.name} is missing, which compiles it; run pip "
                    f"install numba, or choose the device 'numpy'."
                ) from error
            store.write(self.place, stamp, code)
        return code

    def calls(self) -> list[CFunction]:
        """The functions of C that it calls, directly or through inner functions."""
        found: list[CFunction] = []
        waiting = [] if self.emits else [self.function]
        while waiting:
            for lazy in fallback.named(waiting.pop()).values():
                if isinstance(lazy, CFunction):
                    found.append(lazy)
                elif isinstance(lazy, Inner):
                    waiting.append(lazy.function)
        return found

    @property
    def symbol(self) -> str:
        """Its name in the machine code of others."""
        return f"{self.function.__module__}.{self.function.__name__}"

    @cached_property
    def known(self) -> Any:
        return fallback.intrinsic(self.emit, self.signature)

    def emit(self, builder: Any, *values: Any) -> Any:
        """A call in the code of another function."""
        value = builder.invoke(self.symbol, self.signature.result, *values)
        return None if self.signature.result == "void" else value

    translated = Instruction.translated

    def compile(self) -> bytes:
        """Machine code."""
        try:
            return self.translate()
        except translate.Untranslatable:
            return self.compile_with_numba()

    def translate(self) -> bytes:
        """Machine code, made without Numba."""
        module = translate.Module()
        builder, given = module.entry(self.signature)
        values = self.arguments(builder, given)
        if self.emits:
            self.function(builder, *values)
            builder.ret_void()
        else:
            module.fill(builder, self.function, values, self.body, self.options.get("fastmath", ()))
        return llvm.machine_code(module.module, optimised=not self.emits)

    def compile_with_numba(self) -> bytes:
        """Machine code, made by Numba."""
        for called in self.calls():
            llvm.offer(called.symbol, called.address)  # Numba has LLVM load the function too
        code, name = fallback.compiled(self.function, self.body, self.options)
        module = translate.Module()
        builder, given = module.entry(self.signature)
        result, exception = builder.alloca(llvm.INT64), builder.alloca(llvm.INT64)
        builder.invoke(name, "int32", result, exception, *self.arguments(builder, given))
        if self.signature.result == "void":
            builder.ret_void()
        else:
            builder.ret(builder.load(result))
        return llvm.machine_code(code, optimised=False, linked=str(module.module))


def instruction(emit: Callable) -> Any:
    """Decorator: a function `(builder, *values) -> value` that writes LLVM code; annotations say the kinds."""
    return Instruction(emit)


def inner(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a function for use in compiled ones, of any kinds.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: Inner(decorated, options)
    return Inner(function, options)


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a function of C.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: CFunction(decorated, options)
    return CFunction(function, options)


def emitted(function: Callable) -> Any:
    """Decorator: a function of C without a result that is written as LLVM code, `(builder, *values) -> None`."""
    return CFunction(function, emits=True)
