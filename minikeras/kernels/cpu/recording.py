"""Recording a step: what machine code and NumPy were asked to do, in order, and in which memory.

While a `Recording` is active, the thread's buffers, batches and variables are `Recorded` arrays, which NumPy asks what
to do with them, so nothing that is computed from them escapes; and each call of machine code is noted with the values
and addresses of its arguments.  What was noted can be done again (see program.py) as long as the memory is the same and
nothing happened that depends on values: a value read by Python spoils a recording, and so does memory of which nobody
knows where its contents come from.  The step is computed as usual meanwhile, by the same calls and with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from minikeras.kernels.arena import Advancing, Arena, current, memory_of
from minikeras.kernels.cpu.compiler.machine import MOST_ARGUMENTS
from minikeras.kernels.cpu.compiler.team import as_number
from minikeras.kernels.cpu.strided import instead

LARGE = 1 << 27  # bytes of a step's buffers from which on Python's share of its time is next to nothing


def plain(array: np.ndarray) -> np.ndarray:
    """A recorded array as any other one."""
    return array.view(np.ndarray)


def is_recorded(array: Any) -> bool:
    """Whether an array is one of a step that is recorded."""
    return isinstance(array, Recorded)


class NativeCall(NamedTuple):
    """A call of machine code: the function's address, its parts, and its arguments as they lie in memory.

    Without a function so many calls are left out instead where the number that the argument points to is 0.
    """

    function: int
    parts: int
    wake: bool
    arguments: np.ndarray
    arrays: tuple[int, ...]  # which of the arguments are addresses of arrays
    moving: tuple[tuple[int, Advancing], ...]  # which are numbers that advance


class PythonCall(NamedTuple):
    """A call of NumPy: without arguments, into the memory that it wrote to when it was recorded; whether it could."""

    run: Callable[[], bool]
    name: str
    numbers: str  # what it is given besides arrays


class _OwnArena(Arena):
    """Buffers of a program: they are `Recorded`, and never let go."""

    most_shapes = 1 << 62

    def __init__(self, recording: Recording):
        super().__init__()
        self._recording = recording

    def _new(self, xp: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
        buffer, memory = super()._new(xp, shape, dtype)
        self._recording.know_own(memory)
        return buffer.view(Recorded), memory


class Recording:
    """Within its block this thread's calls are noted in `calls`; `spoiled` says why they cannot be repeated, or None.

    Args:
        known: arrays whose memory stays what it is between steps: variables and their like.
        tables, states: of no account here, where tables lie in memory that calls read anyway, and steps end at once.
    """

    defers = False  # it is made while it is recorded

    def __init__(
        self, known: Iterable[np.ndarray] = (), tables: Sequence[np.ndarray] = (), states: Iterable[np.ndarray] = ()
    ):
        self.calls: list[NativeCall | PythonCall] = []
        self.spoiled: str | None = None
        self.results: list[np.ndarray] = []  # arrays that NumPy has made
        self.kept: list[Any] = []  # whose memory the calls read and write
        self.checks: list[Callable[[], object]] = []  # each raises if the step's memory holds what is not allowed
        self.held: list[np.ndarray] = []  # the memory of arrays that Python code has, which must be its in each step
        self._fixed: dict[int, Any] = {}  # the memory of arrays of Python's numbers
        self._given: list[tuple] = []  # of both, what the signature tells
        self.drawn: dict[int, tuple[Any, int]] = {}  # random streams, and how many blocks of them a step takes
        self._roots: dict[int, Any] = {}
        self.arena = _OwnArena(self)
        for array in known:
            self.know(array)

    def __enter__(self) -> Recording:
        self._outer, current.recording = current.recording, self
        self.arena.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.arena.__exit__(*error)
        current.recording = self._outer

    def input(self, leaf: np.ndarray) -> np.ndarray:
        """A buffer with the values of a part of the batch."""
        buffer = self.arena.take(np, leaf.shape, leaf.dtype)
        np.copyto(plain(buffer), leaf)
        return buffer

    def give(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Where a program leaves what somebody reads after the step."""
        return list(map(plain, arrays))

    def watched(self, array: np.ndarray) -> Recorded:
        """An array of which it is noted what is done with it."""
        return array.view(Recorded)

    def copy(self, array: np.ndarray, values: np.ndarray) -> None:
        """Let the step end with values in the memory of an array."""
        np.copyto(array, values)

    def know(self, array: np.ndarray) -> None:
        """Take it for granted that memory stays where it is, and is changed by what is recorded alone."""
        root = memory_of(array)
        self._roots[id(root)] = root

    def know_own(self, memory: np.ndarray) -> None:
        """Know memory that the arena keeps; a reference to it would say that it is in use."""
        self._roots[id(memory)] = None

    def fix(self, array: np.ndarray) -> np.ndarray:
        """Take an array that was made of Python's numbers for the same one in each step: the signature tells them."""
        self.know(array)
        root = memory_of(array)
        self._fixed[id(root)] = root
        self._given.append((array.shape, array.dtype, array.tobytes()))
        return array.view(Recorded)

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Take an array that Python code has for one that it keeps, in the memory where it is: see `held`."""
        root = memory_of(array)
        if isinstance(array, Recorded) or not isinstance(root, np.ndarray):
            return array
        if root.flags.writeable and id(root) not in self._roots:
            self.know(array)
            self.held.append(root)
            self.kept.append(root)
        if any(one is root for one in self.held):
            self._given.append((array.shape, array.strides, array.dtype, array.ctypes.data, hash(array.tobytes())))
        return array.view(Recorded)

    def are_fixed(self, arrays: Iterable[Any]) -> bool:
        """Whether arrays are made of Python's numbers alone."""
        return all(id(memory_of(one)) in self._fixed for one in arrays if not isinstance(one, (int, float)))

    def computed(self, function: Callable, arrays: Sequence[Any]) -> np.ndarray:
        """An array that a function makes of fixed ones, which is fixed itself, without calls that are noted."""
        current.recording = None
        try:
            result = function(*map(_plain, arrays))
        finally:
            current.recording = self
        return self.fix(np.array(result))

    def spoil(self, reason: str) -> None:
        """Say why this step cannot be repeated without Python; the first reason counts."""
        if self.spoiled is None:
            self.spoiled = reason

    def note(self, function: int, template: Any, parts: int, wake: bool, items: Sequence[Any]) -> None:
        """Note a call of machine code; see `Team.run`."""
        arguments = np.zeros(MOST_ARGUMENTS, np.int64)
        if template is not None:
            arguments[: len(template)] = template
        arrays = [place for place, item in enumerate(items) if isinstance(item, np.ndarray)]
        for place in arrays:
            self.check(items[place])
        moving = [(place, item) for place, item in enumerate(items) if isinstance(item, Advancing)]
        arguments[: len(items)] = [as_number(item) for item in items]
        self.kept.append((template, [item for item in items if type(item) is np.ndarray]))  # the arena keeps its own
        self.calls.append(NativeCall(function, parts, wake, arguments, tuple(arrays), tuple(moving)))

    @contextmanager
    def only_where(self, number: np.ndarray) -> Iterator[None]:
        """See `arena.only_where`."""
        self.check(number)
        arguments = np.zeros(MOST_ARGUMENTS, np.int64)
        arguments[0] = number.ctypes.data
        place = len(self.calls)
        self.calls.append(NativeCall(0, 0, False, arguments, (0,), ()))
        yield
        within = self.calls[place + 1 :]
        if not all(isinstance(one, NativeCall) for one in within):
            self.spoil("NumPy computes what only some steps do")
        self.calls[place] = NativeCall(0, len(within), False, arguments, (0,), ())

    def advancing(self, source: Any, counter: int, blocks: int) -> Advancing:
        """A random stream's counter, of which the step takes so many blocks."""
        before = self.drawn.get(id(source), (source, 0))[1]
        self.drawn[id(source)] = source, before + blocks
        return Advancing(counter, source, before)

    def signature(self) -> list[tuple]:
        """What is asked for, with all numbers, but not in which of its buffers: of the same step it is the same."""
        found = [*self._given]
        for one in self.calls:
            if isinstance(one, NativeCall):
                numbers = one.arguments.copy()
                numbers[[*one.arrays, *(place for place, _ in one.moving)]] = 0
                found.append((one.function, one.parts, numbers.tobytes(), one.arrays))
            else:
                found.append((one.name, one.numbers))
        return found

    def check(self, array: np.ndarray, numbers_too: bool = True) -> None:
        """Spoil the recording where nobody knows what made an array; one without axes is a number that Python gave."""
        if not (array.ndim or numbers_too or isinstance(array, Recorded)):
            return
        root = memory_of(array)
        constant = isinstance(root, np.ndarray) and not root.flags.writeable
        if not (constant or id(root) in self._roots):
            self.spoil(f"an array of shape {array.shape} and type {array.dtype} comes from Python code")

    def compute(self, function: Callable, args: Any, options: dict[str, Any], name: str) -> Any:
        """Call a function of NumPy on recorded arrays, and note it; results are recorded arrays, never scalars."""
        plain_args, plain_options = _plain(args), _plain(options)
        given = [leaf for leaf in _leaves((plain_args, plain_options)) if isinstance(leaf, np.ndarray)]
        outs = options.get("out")
        if outs is None and name not in _CHANGING and self.are_fixed(given):
            result = function(*plain_args, **plain_options)
            if isinstance(result, (np.ndarray, np.generic)):
                return self.fix(np.asarray(result))
        if (outs is not None or name in _CHANGING) and self.are_fixed(given[:1] if outs is None else _leaves([outs])):
            self.spoil("Python code changes an array that it has made")
        done = instead(function, args, options, name)
        if done is not None:
            return done
        leaves = _leaves((args, options))
        for leaf in leaves:
            if isinstance(leaf, np.ndarray):
                self.check(leaf, numbers_too=False)
        numbers = repr([_number(leaf) for leaf in leaves])
        result = function(*plain_args, **plain_options)
        if name in _SIZED_BY_VALUES or (name == "where" and len(args) == 1):
            self.spoil(f"the shape of what NumPy's {name} gives depends on values")
        if outs is not None or result is None:

            def repeat() -> bool:
                function(*plain_args, **plain_options)
                return True

            self.calls.append(PythonCall(repeat, name, numbers))
            return result if outs is None else outs[0] if isinstance(outs, tuple) and len(outs) == 1 else outs
        several = isinstance(result, (tuple, list))
        results = result if several else (result,)
        if not all(isinstance(one, (np.ndarray, np.generic)) for one in results):
            if name not in _OF_SHAPES:
                self.spoil(f"NumPy's {name} gives Python a value")
            return result
        new = [not (isinstance(one, np.ndarray) and _shares(one, given)) for one in results]
        made = [  # views, or what the program can write to
            np.array(one) if isinstance(one, np.generic) or (is_new and not one.flags.writeable) else one
            for one, is_new in zip(results, new, strict=True)
        ]
        if any(new):
            buffers = [*compress(made, new)]

            def run() -> bool:
                again = function(*plain_args, **plain_options)
                found = [*compress(again if several else (again,), new)]
                if [one.shape for one in found] != [buffer.shape for buffer in buffers]:
                    return False
                for buffer, one in zip(buffers, found, strict=True):
                    buffer[...] = one
                return True

            self.calls.append(PythonCall(run, name, numbers))
            self.results += buffers
            for buffer in buffers:
                self.know(buffer)
        elif not all(_shares(_plain(one), results) for one in leaves if isinstance(one, Recorded) and one.size):
            self.spoil(f"which part of an array NumPy's {name} gives depends on values")
        made = [one.view(Recorded) for one in made]
        return getattr(type(result), "_make", type(result))(made) if several else made[0]


# functions of NumPy that look at shapes and types alone
_OF_SHAPES = frozenset(
    (
        "shape",
        "ndim",
        "size",
        "result_type",
        "iscomplexobj",
        "isrealobj",
        "can_cast",
        "may_share_memory",
        "min_scalar_type",
    )
)
# those that change what they are given
_CHANGING = frozenset(
    (
        *("assignment", "add.at", "copyto", "fill", "fill_diagonal", "maximum.at", "minimum.at", "multiply.at"),
        *("partition", "place", "put", "put_along_axis", "putmask", "setfield", "sort", "subtract.at"),
    )
)
# those whose results have a size that depends on values, and some that may change what they are given
_SIZED_BY_VALUES = frozenset(
    (
        *("nonzero", "flatnonzero", "argwhere", "unique", "unique_values", "unique_all", "unique_counts"),
        *("unique_inverse", "compress", "extract", "bincount", "trim_zeros", "nan_to_num", "byteswap"),
    )
)


def _shares(array: np.ndarray, others: Iterable[np.ndarray]) -> bool:
    return any(np.may_share_memory(array, other) for other in others)


def _plain(value: Any) -> Any:
    """The same with NumPy's own arrays in the place of recorded ones."""
    if isinstance(value, Recorded):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    return value


def _number(leaf: Any) -> Any:
    """A number that Python gave, or an array's shape."""
    if not isinstance(leaf, np.ndarray):
        return leaf
    return leaf.shape if leaf.ndim or isinstance(leaf, Recorded) else leaf.item()


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for one in value for leaf in _leaves(one)]
    return _leaves(list(value.values())) if isinstance(value, dict) else [value]


def _note(function: Callable, args: Any, options: dict[str, Any], name: str) -> Any:
    recording = current.recording
    if recording is None:  # somebody has kept the array
        return function(*_plain(args), **_plain(options))
    return recording.compute(function, args, options, name)


class Recorded(np.ndarray):
    """An array of a step that is recorded: whatever NumPy is asked to do with it is noted."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(hasattr(one, "__array_ufunc__") and not isinstance(one, (np.ndarray, np.generic)) for one in inputs):
            return NotImplemented  # a tensor knows better
        return _note(
            getattr(ufunc, method),
            inputs,
            options,
            ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}",
        )

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if not all(issubclass(one, np.ndarray) for one in types):
            return NotImplemented
        return _note(function, args, options, function.__name__)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, (list, np.ndarray)) for part in parts):
            name = "boolean index" if any(getattr(part, "dtype", None) == np.bool_ for part in parts) else "index"
            if name == "boolean index" and current.recording is not None:
                current.recording.spoil("the shape of what a boolean index gives depends on values")
            return _note(np.ndarray.__getitem__, (self, index), {}, name)
        return super().__getitem__(parts if Ellipsis in parts else (*parts, Ellipsis))

    def __setitem__(self, index: Any, value: Any) -> None:
        _note(np.ndarray.__setitem__, (self, index, value), {}, "assignment")

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))


def _noting(function: Callable, name: str) -> Callable:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return _note(function, (self, *args), options, name)

    return method


def _reading(function: Callable, name: str) -> Callable:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        if current.recording is not None and not current.recording.are_fixed([self]):
            current.recording.spoil("Python reads a value")
        return function(self.view(np.ndarray), *args, **options)

    return method


def _attribute(name: str, method: Callable[[Callable, str], Callable]) -> property:
    """An attribute of arrays that is asked for, and set, by way of a method that notes or reads."""
    found = getattr(np.ndarray, name)
    return property(method(found.__get__, name), method(found.__set__, name))


# `sum` and its kin are made of ufuncs, which are noted; views are no work
_NOTED = (
    *("argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "choose", "clip", "compress", "conj"),
    *("conjugate", "copy", "cumprod", "cumsum", "diagonal", "dot", "fill", "flatten", "nonzero", "partition", "put"),
    *("ravel", "repeat", "reshape", "round", "searchsorted", "setfield", "sort", "take", "trace"),
)
_READ = (
    *("__bool__", "__complex__", "__contains__"),
    *("__float__", "__format__", "__index__", "__int__", "__repr__", "__str__", "dump", "dumps", "item", "tobytes"),
    *("tofile", "tolist", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__setstate__", "__dlpack__"),
    *(("tostring",) if hasattr(np.ndarray, "tostring") else ()),  # before NumPy 2.3
)
for _name in _NOTED:
    setattr(Recorded, _name, _noting(getattr(np.ndarray, _name), _name))
for _name in _READ:
    setattr(Recorded, _name, _reading(getattr(np.ndarray, _name), _name))
for _name in ("real", "imag"):
    setattr(Recorded, _name, _attribute(_name, _noting))
for _name in ("flat", "data"):
    setattr(Recorded, _name, _attribute(_name, _reading))
