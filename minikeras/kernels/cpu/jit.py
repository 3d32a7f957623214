"""Numba at first need: importing this module costs nothing, the first call of a kernel compiles or loads it."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

_compiling = threading.Lock()


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

        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
        }
        options.update(self._options)
        return _cached(numba.njit, self._function, **options)


class LazyPart:
    """A function `(arguments, part, worker)` that becomes a C function for the team when its address is first asked."""

    def __init__(self, function: Callable, options: dict[str, Any]):
        self._function = function
        self._options = options
        self.__doc__ = function.__doc__
        self._compiled: Any = None

    @cached_property
    def address(self) -> int:
        with _compiling:  # two threads would compile two functions, and one would go while its address is in use
            if self._compiled is None:
                self._compiled = self._compile()
        return self._compiled.address

    def _compile(self) -> Any:
        import numba

        def compiler(**options: Any) -> Callable:
            return numba.cfunc("void(int64, int64, int64)", error_model="numpy", **options)

        return _cached(compiler, self._function, **self._options)


def _cached(compiler: Callable, function: Callable, **options: Any) -> Any:
    """Compile with a cache on disk if there is a folder for it, else anew in every process."""
    try:
        return compiler(cache=True, **options)(function)
    except RuntimeError:
        return compiler(**options)(function)


def kept_njit(**options: Any) -> Callable:
    """Decorator: `numba.njit`, cached on disk; for modules that import Numba themselves."""
    import numba

    return lambda function: _cached(numba.njit, function, **options)


def lazy_njit(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: compile with Numba at the first call, cached on disk.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: LazyKernel(decorated, options)
    return LazyKernel(function, options)


def lazy_part(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a part function, compiled when the team first needs it.  Options are `numba.cfunc`'s."""
    if function is None:
        return lambda decorated: LazyPart(decorated, options)
    return LazyPart(function, options)


# NumPy's Adam takes 1 ns longer per weight than the compiled loop, and loading Numba takes 0.25 s.  Whoever has waited
# 0.1 s, two epochs of MNIST on a small MLP, is likely to train on.
_LOADING_PAYS = 100_000_000
_CALL = 6_000  # the calls into NumPy cost as much as so many elements
_elements = 0


def numba_pays(elements: int) -> bool:
    """Whether a loop that NumPy can do too should be compiled: Numba is loaded, or enough such work has been done.

    Args:
        elements: what this call adds to the work.
    """
    global _elements
    if "numba" in sys.modules:
        return True
    _elements += elements + _CALL
    return _elements > _LOADING_PAYS


@lru_cache(maxsize=1)
def tile() -> Any:
    """The module `tile`, imported at first need; None where the host has no vector registers that it knows."""
    module = importlib.import_module("minikeras.kernels.cpu.tile")
    return module if module.AVAILABLE else None


@lru_cache(maxsize=1)
def winograd() -> Any:
    """The module `winograd`, imported at first need, on hosts where `tile` is a module."""
    return importlib.import_module("minikeras.kernels.cpu.winograd")


@lru_cache(maxsize=1)
def pool_parts() -> Any:
    """The module `pool_parts`, imported at first need."""
    return importlib.import_module("minikeras.kernels.cpu.pool_parts")


@lru_cache(maxsize=1)
def shared() -> Any:
    """The module `parts`, imported at first need."""
    return importlib.import_module("minikeras.kernels.cpu.parts")
