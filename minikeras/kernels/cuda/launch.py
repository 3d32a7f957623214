"""CUDA C as text, compiled when it is first needed, and launched through one function.

    _SOURCE = Source('''
    __global__ void doubled(const T* x, T* y, whole n) {
      EACH(i, n) y[i] = A(x[i]) * 2;
    }
    ''')
    launch(k, _SOURCE, "doubled", x.dtype, each(x.size), 256, (x, y, x.size))

`T` is the type of the numbers in memory and `A` the one that is computed with; `prelude.cu` has what else sources know.
Whole numbers arrive as `whole` (64 bits), Python's floats as `double`, arrays as pointers, and None as a null pointer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minikeras.kernels.arena import current
from minikeras.kernels.table import Condition, Kernels, _contiguous

# what CUDA C calls the types of numbers, by their letters
TYPES = {
    "?": "bool", "b": "signed char", "B": "unsigned char", "h": "short", "H": "unsigned short", "i": "int",
    "I": "unsigned int", "l": "long long", "L": "unsigned long long", "q": "long long", "Q": "unsigned long long",
    "e": "half16", "E": "bfloat16", "f": "float", "d": "double",
}  # fmt: skip
FLOATS = "eEfd"
THREADS = 256  # of a block, where there is no reason for another number
_MOST_BLOCKS = 1 << 16  # of a grid whose threads go on to the next index
OPTIONS = ("--std=c++17",)  # for the compiler
_TYPES_HERE = "// the types follow"

# the beginning of a kernel, which is given another parameter: in steps that are programs it may be left out
_KERNEL = re.compile(r"__global__\s+void\s+((?:__launch_bounds__\([^)]*\)\s*)?)(\w+)\s*\(([^{]*)\)\s*\{")
_LEFT_OUT = (
    r'extern "C" __global__ void \1\2(const double* only_where, \3) { if (only_where && *only_where == 0.0) return;'
)

sources: list[Source] = []  # all that there are
launched: set[str] | None = None  # if a set, the names of what is launched are added to it


class Source:
    """CUDA C of some kernels.

    Args:
        text: beginning with `__global__ void name(...) {` for each kernel.
        parts: files beside this one that it begins with, such as `"activations.cu"`.
        types: names of further types than T that are told at each launch; see `launch`.
    """

    def __init__(self, text: str, *, parts: Sequence[str] = (), types: Sequence[str] = ()):
        self.text, self.parts, self.types = text, tuple(parts), tuple(types)
        self._functions: dict[tuple, Any] = {}
        sources.append(self)

    @property
    def names(self) -> list[str]:
        """The kernels in it."""
        return [found[2] for found in _KERNEL.finditer(self.text)]

    @property
    def parameters(self) -> dict[str, int]:
        """How many parameters each kernel has in the text."""
        return {found[2]: found[3].count(",") + 1 for found in _KERNEL.finditer(self.text)}

    @cached_property
    def own(self) -> str:
        """The text as it is compiled."""
        return _KERNEL.sub(_LEFT_OUT, self.text)

    @cached_property
    def code(self) -> str:
        """What is compiled: the prelude, other parts, and the text."""
        files = [(Path(__file__).parent / name).read_text() for name in ("prelude.cu", *self.parts)]
        return "\n".join([*files, self.own])

    def written(self, dtype: Any, **types: Any) -> str:
        """The code for types of numbers: of T, and of those that have names of their own."""
        named = {"T": TYPES[dtype.char], "A": "double" if dtype.char == "d" else "float"}
        named |= {name: TYPES[types[name].char] for name in self.types}
        meant = [f"typedef {value} {name};" for name, value in named.items()]
        return self.code.replace(_TYPES_HERE, "\n".join(meant), 1)

    def function(self, xp: Any, name: str, dtype: Any, types: dict[str, Any]) -> Any:
        """A kernel for a type, compiled for the array module's device."""
        key = (xp, name, dtype.char, *[types[one].char for one in self.types])
        found = self._functions.get(key)
        if found is None:
            if current.recording is not None:
                current.recording.put_off(f"the kernel {name!r}")
            whole = (xp, None, *key[2:])
            if whole not in self._functions:
                self._functions[whole] = xp.RawModule(code=self.written(dtype, **types), options=OPTIONS)
            found = self._functions[key] = self._functions[whole].get_function(name)
        return found


def launch(
    k: Kernels,
    source: Source,
    name: str,
    dtype: Any,
    grid: Any,
    block: Any,
    arguments: Sequence[Any],
    shared: int = 0,
    **types: Any,
) -> None:
    """Let the device run a kernel, after all that it was told before.

    Args:
        name: the kernel's, in the source.
        dtype: of T.
        grid: blocks, one number or up to three; nothing is launched where one is 0.
        block: threads of a block, likewise.
        arguments: contiguous arrays, numbers, None, and what `number` and `counter` give.
        shared: bytes of memory that a block's threads share, beyond what the source declares.
        types: what else the source's `types` stand for.
    """
    grid, block = _three(grid), _three(block)
    if 0 in grid:
        return
    if launched is not None:
        launched.add(name)
    given = [int(one or 0) if one is None or type(one) is bool else one for one in arguments]
    function, recording = source.function(k.xp, name, dtype, types), current.recording
    if recording is None:
        function(grid, block, (0, *given), shared_mem=shared)
        return
    numbers: list[Any] = [np.uint64(one) if type(one) is Address else one for one in given]
    addresses = [np.uint64(one.data.ptr) if is_array(one) else one for one in numbers]

    def alone() -> None:  # without the arrays: what they hold is to be used again within the step
        function(grid, block, (0, *addresses), shared_mem=shared)

    where = recording.launched(name, dtype, grid, block, given, alone)
    where = np.uint64(where) if type(where) is Address else where
    function(grid, block, (where, *numbers), shared_mem=shared)


def is_array(value: Any) -> bool:
    """Whether it is an array on the device."""
    return hasattr(value, "shape") and not isinstance(value, (np.ndarray, np.generic))


class Address(int):
    """Where a number lies on the device, and which it is: what a recorded step reads anew each time."""

    told: tuple

    def __new__(cls, address: int, *told: Any) -> Address:
        made = super().__new__(cls, address)
        made.told = told
        return made


def _three(sizes: Any) -> tuple[int, ...]:
    given = sizes if isinstance(sizes, tuple) else (sizes,)
    return (*given, 1, 1)[:3]


def each(count: int, threads: int = THREADS) -> int:
    """The blocks of a grid whose threads have an index each."""
    return min(-(-count // threads), _MOST_BLOCKS)


def fours(count: int) -> int:
    """The blocks of a grid whose threads have four indices each: `in_fours`, of `THREADS` threads."""
    return each(-(-count // 4))


def threads_for(count: int, most: int = THREADS) -> int:
    """The threads of a block that shares so many values: whole warps, a power of two, at most `most`."""
    return min(max(32, 1 << (count - 1).bit_length()), most) if count > 1 else 32


def number(value: Any) -> tuple[Any, Any]:
    """The two arguments for `NUMBER(name)`: a number, or one of float64 that lies in the host's memory.

    Where the step is recorded, the latter is read by each step of the program from the device's copy.
    """
    if not (isinstance(value, np.ndarray) and value.ndim):
        return float(value), 0
    if current.recording is not None:
        return 0.0, current.recording.number_at(value)
    return value.item(), 0


def counter(value: int) -> tuple[Any, Any]:
    """The two arguments for `COUNTER(name)`: how many blocks a random stream has used, modulo 2**64."""
    if current.recording is not None:
        place = current.recording.counter_at(value)
        if place is not None:
            return np.uint64(value.offset), place  # type: ignore[attr-defined]
    return np.uint64(value & (1 << 64) - 1), 0


def contiguous_numbers(first: str, *others: str, types: str = FLOATS) -> Condition:
    """Whether arguments are contiguous arrays of one type of floats, the first not empty (None: passed over)."""
    return _contiguous(first, others, f'{{0}}.dtype.char in "{types}"', "{0}.dtype == {1}.dtype")
