"""CUDA C compiled for the CPU and launched on the stand-in's arrays: its `RawModule` (see `cuda_on_host.h`)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gpu import streams

_HEADER = Path(__file__).parent / "cuda_on_host.h"
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\[\];")
_FLAGS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE")
_libraries: list[Any] = []
_backwards = 0
_compiling = threading.Lock()
launched: Counter[str] = Counter()  # the kernels, and how often each


def _folder() -> Path:
    """Where compiled sources are kept."""
    folder = Path(os.environ.get("MINIKERAS_CUDA_ON_HOST", Path(tempfile.gettempdir()) / f"cuda_on_host_{os.getuid()}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise RuntimeError("CUDA C is tested with a C++ compiler, and there is none; install g++, or name one in CXX.")
    return found


@functools.cache
def _header() -> Path:
    """A folder with the header, compiled ahead, which saves more than half of each source's compilation."""
    stamp = hashlib.sha1("\0".join([_HEADER.read_text(), _compiler(), *_FLAGS]).encode()).hexdigest()[:20]
    folder = _folder() / f"header_{stamp}"
    if not folder.exists():
        unfinished = folder.with_suffix(f".{os.getpid()}")
        unfinished.mkdir(exist_ok=True)
        header = Path(shutil.copy(_HEADER, unfinished))
        subprocess.run([_compiler(), *_FLAGS, "-x", "c++-header", str(header), "-o", f"{header}.gch"], check=True)
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return folder


@functools.cache
def _library(code: str) -> Any:
    names = _KERNEL.findall(code)
    body = _DYNAMIC.sub(r"\1* \2 = (\1*)host::dynamic_shared;", code)
    launchers = [
        f'extern "C" void run_{name}(const unsigned* sizes, void** given) {{ host::launch({name}, sizes, given); }}\n'
        f'extern "C" int parameters_of_{name}() {{ return host::parameters({name}); }}\n'
        for name in names
    ]
    text = "\n".join(['#include "cuda_on_host.h"', body, *launchers])
    stamp = hashlib.sha1("\0".join([text, _HEADER.read_text(), _compiler(), *_FLAGS]).encode()).hexdigest()[:20]
    made = _folder() / f"{stamp}.so"
    if not made.exists():
        source, unfinished = made.with_suffix(f".{os.getpid()}.cpp"), made.with_suffix(f".{os.getpid()}.so")
        source.write_text(text)
        command = [_compiler(), *_FLAGS, "-I", str(_header()), "-o", str(unfinished), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SyntaxError(done.stderr)
        source.unlink()
        unfinished.rename(made)
    library = ctypes.PyDLL(str(made))  # which keeps the GIL: one block runs at a time
    ctypes.c_int.in_dll(library, "host_order").value = _backwards
    _libraries.append(library)
    return library


@contextlib.contextmanager
def backwards() -> Iterator[None]:
    """Within this block the last thread and the last block run first."""
    _turn(1)
    try:
        yield
    finally:
        _turn(0)


def _turn(order: int) -> None:
    global _backwards
    _backwards = order
    for library in _libraries:
        ctypes.c_int.in_dll(library, "host_order").value = order


class HostModule:
    """What `cupy.RawModule` is: kernels by name."""

    def __init__(self, code: str, *, options: Sequence[str] = (), backend: str = "nvrtc"):
        streams.forbid("the loading of a module")
        with _compiling:
            self._library = _library(code)

    def get_function(self, name: str) -> HostKernel:
        return HostKernel(self._library, name)


class HostKernel:
    """What `cupy.RawKernel` is: called with grid, block and arguments, of which Python's numbers are of 64 bits."""

    def __init__(self, library: Any, name: str):
        self._run, self._name = getattr(library, f"run_{name}"), name
        self._count = getattr(library, f"parameters_of_{name}")()

    def __call__(self, grid: Any, block: Any, args: Sequence[Any], *, shared_mem: int = 0) -> None:
        grid, block = ((*sizes, 1, 1)[:3] for sizes in (grid, block))
        if not (all(0 < size < 1 << 31 for size in grid) and max(*grid[1:]) < 1 << 16):
            raise ValueError(f"{self._name}: no device has a grid of {grid} blocks.")
        if not (0 < block[0] * block[1] * block[2] <= 1024 and block[2] <= 64):
            raise ValueError(f"{self._name}: no device has blocks of {block} threads.")
        if shared_mem > 48 << 10:
            raise ValueError(f"{self._name}: a block shares 48 KB unless more is asked for, got {shared_mem} bytes.")
        if len(args) != self._count:
            raise TypeError(f"{self._name} has {self._count} parameters, got {len(args)} arguments.")
        values = [_as_memory(one) for one in args]
        sizes = np.array([*grid, *block, shared_mem], np.uint32)
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        launched[self._name] += 1

        def run() -> None:
            self._run(ctypes.c_void_p(sizes.ctypes.data), pointers)
            assert values  # which the pointers lead to

        capture = streams.capturing()
        if capture is None:
            streams.catch_up()
            run()
            return
        for one in args:
            if hasattr(one, "_held"):
                capture.uses(one)
        capture.nodes.append(run)


def _as_memory(value: Any) -> np.ndarray:
    """An argument as it lies in memory: an address or a number."""
    if hasattr(value, "_held"):
        return np.array(value._held.__array_interface__["data"][0], np.uint64)
    if isinstance(value, np.ndarray):
        raise TypeError("A kernel takes arrays of the device, got one of NumPy.")
    if isinstance(value, bool) or not isinstance(value, (int, float, np.uint64)):  # of NumPy's only what 64 bits need
        raise TypeError(f"A kernel takes arrays, int and float, got {type(value).__name__}.")
    return np.array(value, np.int64 if isinstance(value, int) else np.float64 if isinstance(value, float) else None)
