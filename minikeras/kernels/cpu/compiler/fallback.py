"""Numba: it compiles what the translator does not know."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

from minikeras.kernels.cpu.compiler.kinds import Lazy, Signature
from minikeras.lazy import LazyModule

llvm = LazyModule("minikeras.kernels.cpu.compiler.llvm")

FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}  # sums may vectorise; NaN and infinity stay exact
_BARE: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}


def named(function: Callable) -> dict[str, Lazy]:
    """The lazy globals of a function."""
    space = function.__globals__
    return {name: space[name] for name in function.__code__.co_names if isinstance(space.get(name), Lazy)}


def ready(function: Callable) -> Callable:
    """A function whose lazy globals are what Numba knows them as."""
    lazy = {name: value.known for name, value in named(function).items()}
    if not lazy:
        return function
    space = {**function.__globals__, **lazy}
    made = types.FunctionType(function.__code__, space, function.__name__, None, function.__closure__)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def inlined(function: Callable, options: dict[str, Any]) -> Any:
    """A function for use in others."""
    import numba

    return numba.njit(**options)(ready(function))


def intrinsic(emit: Callable, signature: Signature) -> Any:
    """An instruction `(builder, *values) -> value`, as Numba's."""
    from numba import extending
    from numba.core import sigutils

    parameters, result = sigutils.normalize_signature(signature.in_numba)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        own = llvm.Builder(builder.block)
        value = emit(own, *values)
        builder.position_at_end(own.block)
        return context.get_dummy_value() if value is None else value

    def typed(context: Any, *arguments: Any) -> Any:
        return result(*parameters), generate

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("context", *signature.names)
    typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
    typed.__name__ = emit.__name__
    return extending.intrinsic(typed)


def compiled(function: Callable, signature: Signature, options: dict[str, Any]) -> tuple[str, str]:
    """LLVM code of a function, and its name there.

    Before the parameters there are two more, places for its result and for an exception.
    """
    import numba

    made = numba.njit(signature.in_numba, **_BARE, **options)(ready(function))
    (found,) = made.signatures
    return made.inspect_llvm(found), made.overloads[found].fndesc.mangled_name
