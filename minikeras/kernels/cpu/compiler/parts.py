"""Parts: functions with named arguments that the team calls for every part of a kernel's work."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import team as _team
from minikeras.kernels.cpu.compiler.jit import CFunction, inner
from minikeras.kernels.cpu.compiler.kinds import Signature
from minikeras.kernels.cpu.compiler.machine import MOST_ARGUMENTS

_ENTRY = Signature("void", ("arguments", "part", "worker"), ("int64",) * 3)
_BYTE = np.dtype(np.uint8)


class Part(CFunction):
    """A function that the team calls for each part of some work; the function's parameters are its named arguments.

    `part` is the part's number, `parts` how many there are and `worker` the number of who does it, below `team.size`.
    An argument is an array, a number, or None, for which the function reads 0; `=None` makes None the usual one.
    Where the function takes a float, an int becomes one.
    """

    def __init__(self, function: Callable, options: dict[str, Any] | None = None, emits: bool = False):
        super().__init__(function, options, emits)
        names = function.__code__.co_varnames[int(emits) : function.__code__.co_argcount]
        self.names = [name for name in names if name not in ("part", "parts", "worker")]  # as they lie in memory
        self.names += ["parts"] * ("parts" in names)
        self.optional = names[len(names) - len(function.__defaults__ or ()) :]
        if len(self.names) > MOST_ARGUMENTS:
            raise TypeError(f"A part has {MOST_ARGUMENTS} arguments at most, {self.place} has {len(self.names)}.")

    @property
    def signature(self) -> Signature:
        return _ENTRY

    def arguments(self, builder: Any, given: Any) -> list[Any]:
        block, part, worker = given
        values = {"part": part, "worker": worker}
        kinds = dict(zip(self.body.names, self.body.parameters, strict=True))
        for place, name in enumerate(self.names):
            kind = kinds[name]
            value = builder.read(builder.at(block, place, 8), "int64")
            if kind.startswith("*"):
                value = builder.pointer(value, kind[1:])
            elif kind in ("float32", "float64"):
                value = builder.bitcast(value, builder.type("float64"))
                value = value if kind == "float64" else builder.fptrunc(value, builder.type("float32"))
            values[name] = value
        return [values[name] for name in self.body.names]

    @cached_property
    def run(self) -> Callable[..., None]:
        """`run(parts, wake=True, *, name=value, ...)`: do all parts, and return when they are done.

        `wake` says whether the work is worth waking helpers that sleep (some 50 us); those that watch help anyway.
        """
        declared = ", ".join(
            f"{name}=None" if name in self.optional else name for name in self.names if name != "parts"
        )
        passed = "".join(f"float({name}), " if name in self._floats else f"{name}, " for name in self.names)
        code = f"lambda parts, wake=True, *, {declared}: team.run({self.address}, None, parts, wake, ({passed}))"
        made: Callable[..., None] = eval(code, vars(_team))
        made.__name__ = made.__qualname__ = f"{self.place}.run"  # for messages about arguments
        return made

    @cached_property
    def _floats(self) -> set[str]:
        """The arguments that are floats, of which `team.run` takes the bits."""
        kinds = zip(self.body.names, self.body.parameters, strict=True)
        return {name for name, kind in kinds if kind.startswith("float")} - set(self.optional)

    def block(self, **arguments: Any) -> np.ndarray:
        """The arguments as they lie in memory, for `Team.task`; whoever gives arrays has to keep them."""
        floats = {name: float(arguments.get(name) or 0) for name in self._floats}
        return _team.block_of((arguments | floats).get(name, 0) for name in self.names)


def part(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: a part in Numba's dialect; see `Part`.  Options are `numba.njit`'s."""
    if function is None:
        return lambda decorated: Part(decorated, options)
    return Part(function, options)


def specialised(template: Callable, name: str, fastmath: Any = (), **functions: Any) -> Part:
    """A part of its own with the body of a function in which some global names are these functions.

    Args:
        template: in Numba's dialect, not decorated.
        name: what the part is called.
        fastmath: what the arithmetic may do, as an option of `part`.
        functions: made by `inner`, by the names that the template has for them.
    """
    made = FunctionType(template.__code__, {**template.__globals__, **functions}, name)
    made.__annotations__, made.__module__ = template.__annotations__, template.__module__
    return Part(made, {"fastmath": fastmath} if fastmath else None)


def emitted_part(function: Callable) -> Any:
    """Decorator: a part that is written as LLVM code, `(builder, *arguments) -> None`."""
    return Part(function, emits=True)


class _Block(np.ndarray):
    """Arguments as they lie in memory; whoever keeps them keeps the arrays whose addresses are among them."""

    kept: Any = None


class Plan:
    """A part with what does not change between calls of the same shapes: only the first arguments are given to `run`.

    Args:
        part, parts, wake: which part, and as for its `run`.
        scratch: bytes that a worker needs: the part has the arguments `scratch`, after those given to `run`, and
            `each`; see `own_scratch`.  Without any, the address is 0.
        fixed: the other arguments.

    Attributes:
        call: what `Team.run` takes before the arguments that are given to `run`.
        has_scratch: whether there is one more after those.
    """

    __slots__ = ("_scratch", "call", "has_scratch")

    def __init__(self, part: Part, parts: int, wake: bool = True, scratch: int = 0, **fixed: Any):
        each = _each(scratch)
        self._scratch = ((each * team_size() if parts > 1 else each) + 64,) if scratch else None
        self.has_scratch = scratch > 0
        known = {"parts": parts, "each": each, **fixed}
        first = part.names.index("scratch")
        if missing := [name for name in part.names[first + 1 :] if name not in known]:
            raise TypeError(f"{part.place} needs {', '.join(missing)}.")
        block = np.zeros(MOST_ARGUMENTS, np.int64).view(_Block)
        block[: len(part.names)] = part.block(**known)
        block.kept = fixed
        self.call = part.address, block, parts, wake

    def run(self, *arguments: Any) -> None:
        """Compute."""
        items = (*arguments, empty(self._scratch, _BYTE)) if self._scratch else arguments
        _team.team.run(*self.call, items)


_SLICE = 1 << 14  # elements of a part, about
_MOST = 64  # parts


def parts_for(elements: int) -> int:
    """How many parts a pass over so many elements has, whatever the number of threads."""
    return 1 if elements < 2 * _SLICE else min(elements // _SLICE, _MOST)


@inner
def share(part, parts, count):
    """A part's first element and the one after its last, of so many."""
    return count * part // parts, count * (part + 1) // parts


@inner
def share_of_lines(part, parts, size):
    """The same, cut at whole cache lines of float32."""
    lines = (size + 15) // 16
    return lines * part // parts * 16, min(lines * (part + 1) // parts * 16, size)


def team_size() -> int:
    """How many workers there are at most."""
    return _team.team.size


# ---- scratch ---------------------------------------------------------------------------------------------------------


def _each(size: int) -> int:
    return -(-size // 128) * 128


def scratch(size: int) -> dict[str, Any]:
    """The arguments `scratch` and `each` of a part whose workers need so many bytes; see `own_scratch`."""
    each = _each(size)
    return {"scratch": empty((each * team_size() + 64,), _BYTE), "each": each}


@inner
def own_scratch(scratch, each, worker):
    """The address of a worker's scratch: the beginning of a cache line."""
    return (scratch + 63) // 64 * 64 + worker * each
