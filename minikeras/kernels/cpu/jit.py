"""Machine code: made at first need, kept in a file, and loaded by later processes without a compiler.

What is compiled is written in Python, in Numba's dialect, and decorated here; importing such a module costs nothing.  A
function that is compiled may use other functions and instructions decorated here.  The translator (translate.py) makes
LLVM code of it, or, where it does not know something, Numba.
"""

from __future__ import annotations

import ctypes
import dis
import hashlib
import importlib
import os
import platform
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

_compiling = threading.RLock()
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}  # sums may vectorise; NaN and infinity stay exact


class _Lazy:
    """Something that Numba knows once it is loaded, as what its `known` says."""

    known: Any


class _Instruction(_Lazy):
    def __init__(self, emit: Callable, signature: str):
        self.emit, self.signature = emit, signature
        self.__doc__ = emit.__doc__

    @cached_property
    def known(self) -> Any:
        import inspect

        from numba.core import sigutils
        from numba.extending import intrinsic

        parameters, result = sigutils.normalize_signature(self.signature)
        emit = self.emit

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(builder, *values)
            return context.get_dummy_value() if value is None else value

        def typed(context: Any, *arguments: Any) -> Any:
            return result(*parameters), generate

        names = ["context", *(f"argument_{place}" for place in range(len(parameters)))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
        typed.__name__ = emit.__name__
        return intrinsic(typed)


class _Inner(_Lazy):
    def __init__(self, function: Callable, options: dict[str, Any]):
        self.function, self.options = function, options
        self.__doc__ = function.__doc__

    @cached_property
    def known(self) -> Any:
        import numba

        return numba.njit(**self.options)(_ready(self.function))


def _named(function: Callable) -> dict[str, _Lazy]:
    """The lazy globals of a function."""
    space = function.__globals__
    names = {one.argval for one in dis.get_instructions(function.__code__) if one.opname == "LOAD_GLOBAL"}
    return {name: space[name] for name in names if isinstance(space.get(name), _Lazy)}


def _used(function: Callable) -> list[_Lazy]:
    """What a function uses, directly or through inner functions."""
    found: list[_Lazy] = []
    for lazy in _named(function).values():
        found += [lazy, *(_used(lazy.function) if isinstance(lazy, _Inner) else [])]
    return found


def _ready(function: Callable) -> Callable:
    """A function whose lazy globals are what Numba knows them as."""
    lazy = {name: value.known for name, value in _named(function).items()}
    if not lazy:
        return function
    space = {**function.__globals__, **lazy}
    ready = types.FunctionType(function.__code__, space, function.__name__, function.__defaults__, function.__closure__)
    ready.__module__, ready.__qualname__ = function.__module__, function.__qualname__
    return ready


def instruction(signature: str) -> Callable:
    """Decorator: a function `(builder, *values) -> value` that emits LLVM code, of a Numba signature."""
    return lambda emit: _Instruction(emit, signature)


def inner(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a function for use in compiled ones.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: _Inner(decorated, options)
    return _Inner(function, options)


# ---- functions of C --------------------------------------------------------------------------------------------------


class CFunction(_Lazy):
    """A function that becomes machine code when its address is first asked.

    Compiled functions may call it: it is not compiled into them, so several can share it.
    """

    def __init__(self, function: Callable, signature: str, options: dict[str, Any]):
        self.function, self.signature, self.options = function, signature, options
        self.place = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.__doc__ = function.__doc__

    @cached_property
    def address(self) -> int:
        with _compiling:  # two threads would compile it twice
            found = self.__dict__.get("address")
            return self._find() if found is None else found

    def _find(self) -> int:
        for called in self._calls():
            _offer(called.symbol, called.address)
        stamp = _stamp(self.function.__module__)
        code = _read(self.place, stamp)
        if code is None:
            code = self._compile()
            _write(self.place, stamp, code)
        return _load(code)

    def _calls(self) -> list[CFunction]:
        """The functions of C that it calls."""
        return [lazy for lazy in _used(self.function) if isinstance(lazy, CFunction)]

    @property
    def symbol(self) -> str:
        """Its name in the machine code of others."""
        return f"minikeras.{self.place}"

    @cached_property
    def known(self) -> Any:
        return _Instruction(self.emit, self.signature).known

    def emit(self, builder: Any, *values: Any) -> Any:
        """A call in the code of another function."""
        from llvmlite import ir

        from minikeras.kernels.cpu.translate import signature_of

        kind = signature_of(self.signature).type
        called = builder.module.globals.get(self.symbol) or ir.Function(builder.module, kind, self.symbol)
        value = builder.call(called, values)
        return None if isinstance(kind.return_type, ir.VoidType) else value

    def _compile(self) -> bytes:
        """Machine code with a function `_ENTRY`."""
        from minikeras.kernels.cpu.translate import Untranslatable

        try:
            return self._translate()
        except Untranslatable:
            return self._compile_with_numba()

    def _translate(self) -> bytes:
        from minikeras.kernels.cpu.translate import Module, signature_of

        module = Module(_Lazy, _call)
        signature = signature_of(self.signature)
        module.function(self.function, _ENTRY, signature.parameters, signature.result, self.options.get("fastmath", ()))
        return module.machine_code(_target())

    def _compile_with_numba(self) -> bytes:
        import numba
        from llvmlite import binding

        made = numba.njit(self.signature, **_BARE, **self.options)(_ready(self.function))
        (signature,) = made.signatures
        name = made.overloads[signature].fndesc.mangled_name
        module = binding.parse_assembly(made.inspect_llvm(signature))
        module.link_in(binding.parse_assembly(_entry(name, self.signature)))
        return _target().emit_object(module)


class EmittedFunction(CFunction):
    """A function of C that is written as LLVM code: `(builder, *values)` emits it."""

    def _calls(self) -> list[CFunction]:
        return []

    def _compile(self) -> bytes:
        from llvmlite import binding, ir

        from minikeras.kernels.cpu.translate import signature_of

        module = ir.Module()
        entry = ir.Function(module, signature_of(self.signature).type, _ENTRY)
        builder = ir.IRBuilder(entry.append_basic_block())
        self.function(builder, *entry.args)
        builder.ret_void()
        return _target().emit_object(binding.parse_assembly(str(module)))


_BARE: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
_ENTRY = "entry"


def _call(module: Any, called: _Lazy, builder: Any, values: Any, convert: Callable, flags: Any) -> tuple[Any, Any]:
    """Translate a call of something lazy; (code, kind of the result or of its parts)."""
    from minikeras.kernels.cpu.translate import signature_of

    if isinstance(called, _Inner):
        kinds = [value.kind for value in values]
        key = called, tuple(kinds)
        if key not in module.made:
            name = f"{called.function.__name__}.{len(module.made)}"
            options = called.options.get("fastmath", flags)
            module.made[key] = module.function(called.function, name, kinds, None, options)
        code, kind = module.made[key]
        return builder.call(code, [value.code for value in values]), kind
    assert isinstance(called, (_Instruction, CFunction))
    signature = signature_of(called.signature)
    given = [convert(value, kind).code for value, kind in zip(values, signature.parameters, strict=True)]
    return called.emit(builder, *given), signature.result


def _entry(name: str, signature: str) -> str:
    """LLVM code of a C function that calls one of Numba's, which takes places for its result and for an exception."""
    from llvmlite import ir

    from minikeras.kernels.cpu.translate import signature_of

    kind, number = signature_of(signature).type, ir.IntType(64)
    module, place = ir.Module(), number.as_pointer()
    inside = ir.Function(module, ir.FunctionType(ir.IntType(32), [place, place, *kind.args]), name)
    entry = ir.Function(module, kind, _ENTRY)
    builder = ir.IRBuilder(entry.append_basic_block())
    room, exception = builder.alloca(number), builder.alloca(number)
    builder.call(inside, [room, exception, *entry.args])
    if kind.return_type == number:
        builder.ret(builder.load(room))
    else:
        builder.ret_void()
    return str(module)


def compiled(signature: str, **options: Any) -> Callable:
    """Decorator: a function of C with a Numba signature.  Options are `numba.njit`'s."""
    return lambda function: CFunction(function, signature, options)


def emitted(signature: str) -> Callable:
    """Decorator: a function of C without result that is written as LLVM code, `(builder, *values) -> None`."""
    return lambda function: EmittedFunction(function, signature, {})


def lazy_part(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a part function `(arguments, part, worker)` for the team.  Options are `numba.njit`'s."""
    make = compiled("void(int64, int64, int64)", **options)
    return make if function is None else make(function)


@lru_cache(maxsize=1)
def _target() -> Any:
    """The machine that code is made for: this one."""
    from llvmlite import binding

    try:
        target = binding.Target.from_default_triple()
    except RuntimeError:  # nobody has told LLVM about this processor yet
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="static" if platform.machine() in ("x86_64", "AMD64") else "default",  # calls may be far
        codemodel="jitdefault",
        jit=True,
    )


# Functions of the process that compiled code may call; LLVM asks for those of C on its own account.
_PYTHON_CALLS = (
    "PyErr_Occurred",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyType_IsSubtype",
)
_C_CALLS = ("memcpy", "memmove", "memset", "sched_yield", "expf", "log", "logf", "powf", "tanhf")


@lru_cache(maxsize=1)
def _offer_calls() -> None:
    """Tell LLVM where these functions are; it does not find them by itself in every process."""
    c = ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("ucrtbase")
    for library, names in ((ctypes.pythonapi, _PYTHON_CALLS), (c, _C_CALLS)):
        for name in names:
            if hasattr(library, name):
                _offer(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)


def _offer(name: str, address: int) -> None:
    from llvmlite import binding

    binding.add_symbol(name, address)


_engines: list[Any] = []  # an engine owns the code that it has loaded


def _load(code: bytes) -> int:
    """The address of a function after its machine code has been loaded."""
    from llvmlite import binding

    _offer_calls()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(_ENTRY))


# ---- files -----------------------------------------------------------------------------------------------------------
# A file holds the digest of what follows, the stamp and the machine code.

_DIGEST = 32


@lru_cache(maxsize=1)
def _folders() -> list[Path]:
    """Where compiled code may lie, the best place first: as Numba chooses it."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    cache = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return [Path(__file__).parent / "__pycache__", Path(os.path.expanduser(cache)) / "minikeras"]


@lru_cache(maxsize=64)
def _stamp(module: str) -> bytes:
    """What a function's machine code depends on: its module, the kernels' sources, the processor and the compiler."""
    digest, sources = _common_stamp()
    own = getattr(sys.modules[module], "__file__", None)
    if own is None or Path(own) in sources:
        return digest
    return hashlib.sha256(digest + Path(own).read_bytes()).digest()


@lru_cache(maxsize=1)
def _common_stamp() -> tuple[bytes, list[Path]]:
    """The stamp of a function among the kernels, and the sources that its constants may come from."""
    import llvmlite
    from llvmlite import binding

    digest = hashlib.sha256(f"{llvmlite.__version__} {sys.platform}".encode())
    digest.update(f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}".encode())
    sources = _sources()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.digest(), sources


def _sources() -> list[Path]:
    """Those of this room: compiled functions have constants of the reference in them, and of no other room."""
    room = Path(__file__).parents[1]
    return sorted(source for folder in (room, room / "cpu", room / "reference") for source in folder.glob("*.py"))


def _read(place: str, stamp: bytes) -> bytes | None:
    """Kept code, or None where there is none for this stamp or it is damaged."""
    for folder in _folders():
        try:
            content = (folder / f"{place}.code").read_bytes()
        except OSError:
            continue
        digest, rest = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(rest).digest() == digest and rest.startswith(stamp):
            return rest[len(stamp) :]
    return None


def _write(place: str, stamp: bytes, code: bytes) -> None:
    """Keep code in the first folder that takes it; without one, every process compiles anew."""
    content = stamp + code
    content = hashlib.sha256(content).digest() + content
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as room:  # goes whatever happens
                new = Path(room) / "code"
                new.write_bytes(content)
                os.replace(new, folder / f"{place}.code")  # at once: another process may be reading
            return
        except OSError:  # full or not writable: the next one
            continue


# ---- Numba's own functions -------------------------------------------------------------------------------------------


class LazyKernel:
    """A function that becomes a Numba kernel when it is first called.

    The kernel is serial and releases the GIL; what is long enough for several threads is a `lazy_part`.  `fastmath`
    permits reassociation (so that sums vectorise) but keeps NaN and infinity exact.
    """

    def __init__(self, function: Callable, options: dict[str, Any]):
        self._function = function
        self._options = options
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self._compiled: Any = None

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled(*args)

    def _compile(self) -> Any:
        import numba

        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST, **self._options}
        function = _ready(self._function)
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for Numba's cache: compiled anew in every process
            return numba.njit(**options)(function)


def lazy_njit(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: compile with Numba at the first call, cached on disk.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: LazyKernel(decorated, options)
    return LazyKernel(function, options)


@lru_cache(maxsize=1)
def tile() -> Any:
    """The module `tile`, imported at first need; None where the host has no vector registers that it knows."""
    module = lazy("tile")
    return module if module.AVAILABLE else None


@cache
def lazy(module: str) -> Any:
    """A module of this folder, imported at first need."""
    return importlib.import_module(f"minikeras.kernels.cpu.{module}")
