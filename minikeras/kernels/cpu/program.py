"""A recorded step as a program: calls of machine code with fixed addresses, done again in one call without the GIL.

What a program's calls read and write lies where it lay when the step was recorded (see recording.py).  What is another
thing in each step is a number among a call's arguments that moves on: the row of a table, where the rows of the batch
are listed, the counter of a random stream.  Between its calls of machine code a program may have some of NumPy, which
are made from Python; where it has none, one call makes as many steps as are wanted, and a helper gathers the next batch
meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby, islice
from time import perf_counter
from typing import Any

import numpy as np

from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.compiler import compiled, doubles, inner, numbers
from minikeras.kernels.cpu.compiler.jit import places
from minikeras.kernels.cpu.compiler.machine import (
    MOST_ARGUMENTS,
    call,
    flush_denormals,
    integer,
    integer_of,
    load,
    release_gil,
    restore_denormals,
    take_gil,
)
from minikeras.kernels.cpu.compiler.team import (
    CAN_BUILD,
    as_function,
    built_in,
    do_parts,
    end_task,
    offer_task,
    team,
)
from minikeras.kernels.cpu.gather import gather_part
from minikeras.kernels.cpu.recording import Advancing, NativeCall, PythonCall, Recording

# A program in memory: a header of int64 numbers, and what their addresses point to.
_CALLS = 0  # address of the calls: function, parts and address of the arguments each
_COUNT = 1
_MOVING = 2  # address of the numbers that move: their address, their value in the first step, and what a step adds
_MOVING_COUNT = 3
_BATCHES = 4  # address of the calls that gather the batch
_BATCH_COUNT = 5
_RESULTS = 6  # address of the calls that copy what a step gives
_RESULT_COUNT = 7
_MADE = 8  # how many steps of the last call were made, in the first variant: Ctrl-C takes what the call returns
_HEADER = 9  # numbers of each variant


@inner
def _do(control, calls, first, last, refusals):
    """Make calls of machine code, as long as none refuses a value; whether none has."""
    before = load(refusals)
    i = first
    while i < last:
        one = numbers(calls + 24 * i)
        i += 1
        if one[0] == 0:  # as many calls as it has parts are left out where the number is 0
            if doubles(numbers(one[2])[0])[0] == 0.0:
                i += one[1]
        else:
            do_parts(control, one[0], one[2], one[1])
            if load(refusals) != before:
                return False
    return True


@inner
def _move(variant, step):
    """Put the numbers that move to what they are in a step."""
    moving = variant[_MOVING]
    for i in range(variant[_MOVING_COUNT]):
        one = numbers(moving + 24 * i)
        numbers(one[0])[0] = one[1] + step * one[2]


@compiled
def _gather_batch(batches, part, worker):
    """Gather all arrays of a batch: a task."""
    header = numbers(batches)
    for i in range(header[_BATCH_COUNT]):
        one = numbers(header[_BATCHES] + 24 * i)
        call(one[0], one[2], 0, 0)


@inner
def _make_steps(control, program, variants, steps, gather_task, refusals):
    """Make so many steps, until a value is refused or a kernel lets them end; how many were made.

    With two variants, whose batches lie apart, each batch is gathered during the step before.
    """
    before = flush_denormals()
    made, ends = 0, load(refusals + 8)
    numbers(program)[_MADE] = 0
    for step in range(steps):
        at = program + 8 * _HEADER * (step % variants)
        variant = numbers(at)
        if step == 0 or variants == 1:
            _move(variant, step)
            _do(control, variant[_BATCHES], 0, variant[_BATCH_COUNT], refusals)
        offered = 0
        following = program + 8 * _HEADER * ((step + 1) % variants)
        if variants > 1 and step + 1 < steps:
            _move(numbers(following), step + 1)
            offered = offer_task(control, gather_task, following)
        goes_on = _do(control, variant[_CALLS], 0, variant[_COUNT], refusals)
        _do(control, variant[_RESULTS], 0, variant[_RESULT_COUNT], refusals)
        if offered:
            end_task(control)
        elif variants > 1 and step + 1 < steps:
            _do(control, numbers(following)[_BATCHES], 0, numbers(following)[_BATCH_COUNT], refusals)
        if not goes_on:
            break
        made += 1
        numbers(program)[_MADE] = made
        if load(refusals + 8) != ends:
            break
    restore_denormals(before)
    return made


@compiled
def _run_steps(control, program, variants, steps, gather_task, refusals) -> int:
    return _make_steps(control, program, variants, steps, gather_task, refusals)


@compiled
def _run_one(self, items, count) -> int:
    """Make one step, as CPython calls a built-in function whose `self` is the address of control, program, refusals."""
    given = numbers(integer_of(self))
    state = release_gil()
    made = _make_steps(given[0], given[1], 1, 1, 0, given[2])
    take_gil(state)
    return integer(made)


@compiled
def _run_some(control, variant, first, last, refusals) -> int:
    """Make some of a program's calls; 0 where a value was refused."""
    before = flush_denormals()
    goes_on = _do(control, numbers(variant)[_CALLS], first, last, refusals)
    restore_denormals(before)
    return 1 if goes_on else 0


@compiled
def _move_first(variant):
    """Put the numbers that move to what they are in the first step."""
    _move(numbers(variant), 0)


class Program:
    """What a recording noted, to be done again.

    Args:
        recording: of a step that nothing has spoiled.
        inputs: the buffers that the step's batch lay in.
        tables: arrays that hold the step's settings, such as an optimizer's; the host writes them before each step.
        outputs: arrays that somebody reads after the step.
        double: whether batches are long enough to be gathered by a helper.

    Attributes:
        is_native: whether there is nothing but machine code in it.
        drawn: the random streams that a step draws from, each with its key and the blocks that it takes.
        capacity: how many steps one call makes at most.
    """

    capacity = 1 << 62

    def __init__(
        self,
        recording: Recording,
        inputs: Sequence[np.ndarray],
        tables: Sequence[np.ndarray] = (),
        outputs: Sequence[np.ndarray] = (),
        double: bool = False,
    ):
        self.calls, self._kept, self._arena = recording.calls, recording.kept, recording.arena
        self._results = recording.results
        self.inputs, self._tables, self.outputs = list(inputs), list(tables), list(outputs)
        self.drawn = [(source, source.key, blocks) for source, blocks in recording.drawn.values()]
        self._checks = recording.checks
        self.is_native = all(isinstance(one, NativeCall) for one in self.calls)
        self._wakes = any(one.wake and one.parts > 1 for one in self.calls if isinstance(one, NativeCall))
        self._variants = [_Variant(self.calls, self._tables, self.inputs, self.inputs)]
        if double and self.is_native:
            others = [np.empty_like(one, subok=False) for one in self.inputs]
            self._variants.append(_Variant(self.calls, self._tables, self.inputs, others))
        self._header = np.zeros((len(self._variants), _HEADER), np.int64)
        self._segments = [
            (is_native, len(list(group))) for is_native, group in groupby(isinstance(c, NativeCall) for c in self.calls)
        ]
        self._python = [one for one in self.calls if isinstance(one, PythonCall)]
        self._moved = True  # whether something else than a step on `inputs` has been prepared
        self._given = np.zeros(3, np.int64)  # see `_run_one`

    @property
    def nbytes(self) -> int:
        """Bytes of its own memory."""
        return self._arena.nbytes

    def blank(self, others: Sequence[np.ndarray] = ()) -> None:
        """Fill its memory, and other arrays, with what shows in every result: nothing is left of the recorded step."""
        for array in (*self._arena.arrays(), *self._results, *others):
            array.view(np.ndarray).fill(math.nan if array.dtype.kind == "f" else 0)

    def fits(self) -> bool:
        """Whether the random streams have the keys that they had."""
        return all(source.key == key for source, key, _ in self.drawn)

    def write(self, batch: Sequence[np.ndarray]) -> None:
        """Put a batch where the next step reads it."""
        for buffer, part in zip(self.inputs, batch, strict=True):
            buffer[...] = part

    def run(self) -> int:
        """Make a step on what lies in `inputs`, with the tables as they are.

        It is 0 where a step ended early: a kernel or NumPy refused a value, or NumPy gave an array of another shape.
        """
        if self.drawn or self._moved or team.control != self._given[0]:  # a forked process has another team
            self._prepare(1, (), _NOTHING, self._tables, ())
            self._moved = bool(self.drawn)
        try:
            if not self.is_native:
                self._header[0, _MADE] = 0
                self._header[0, _MADE] = self._between_numpy()
            else:
                if self._wakes:
                    team.wake()
                self._one()
        finally:
            made = self._header.item(_MADE)
            if not made:
                self._give_back(1)
        return made

    def count_made(self) -> int:
        """How many steps the last call has made, even where Ctrl-C came in between; each is told once."""
        made = self._header.item(_MADE)
        self._header[0, _MADE] = 0
        return made

    def _between_numpy(self) -> int:
        """Make a step whose calls of machine code have some of NumPy between them; 0 where it ended early."""
        _functions.move(self._header.ctypes.data)
        native, python = 0, iter(self._python)
        for is_native, count in self._segments:
            if is_native:
                with _watched(self._wakes) as control:
                    done = _functions.some(control, self._header.ctypes.data, native, native + count, refusals.ADDRESS)
                if not done:
                    return 0
                native += count
            elif not all(_is_done(one) for one in islice(python, count)):
                return 0
        return 1

    @cached_property
    def _one(self) -> Callable[[], int]:
        """Make one step."""
        if CAN_BUILD:
            return built_in(_run_one, self._given.ctypes.data)
        return lambda: _functions.steps(self._given[0], self._given[1], 1, 1, 0, self._given[2])

    def timed(self, rounds: int = 5) -> list[tuple[str, int, float]]:
        """What its calls are, in order: the name of each, its parts, and the least of the seconds that it took.

        The steps that are made for it change what steps change.
        """
        seconds, alone = np.full((rounds, len(self.calls)), np.inf), math.inf

        def native(start: int, end: int) -> float:
            with _watched(self._wakes) as control:
                began = perf_counter()
                _functions.some(control, header, start, end, refusals.ADDRESS)
                return perf_counter() - began

        for one_round in seconds:
            self.run()
            header, place = self._header.ctypes.data, 0
            for number, one in enumerate(self.calls):
                if isinstance(one, NativeCall):
                    alone = min(alone, native(place, place))  # what it takes to ask for nothing
                    one_round[number] = native(place, place + 1)
                    place += 1
                else:
                    began = perf_counter()
                    one.run()
                    one_round[number] = perf_counter() - began
        self.count_made()
        shown = [
            (places.get(c.function, "only in some steps"), c.parts)
            if isinstance(c, NativeCall)
            else (f"NumPy's {c.name}", 1)
            for c in self.calls
        ]
        least, is_native = seconds.min(0), [isinstance(c, NativeCall) for c in self.calls]
        least = np.where(is_native, np.maximum(least - alone, 0.0), least)
        return [(name, parts, one) for (name, parts), one in zip(shown, least.tolist(), strict=True)]

    def run_many(
        self, steps: int, arrays: Sequence[np.ndarray], rows: np.ndarray, tables: Sequence[np.ndarray],
        results: Sequence[np.ndarray] = (),
    ) -> int:  # fmt: skip
        """Make so many steps; every call must be of machine code.

        Returns:
            How many were made before one in which a kernel refuses a value, or up to one that shall be the last.

        Args:
            arrays: the data, one contiguous array for each input.
            rows: int64 numbers of the rows of all batches, one after the other.
            tables: for each table one whose rows are what it is in each of the steps.
            results: for each output a contiguous array that takes those of all steps, one after the other.
        """
        self._prepare(steps, arrays, rows, tables, results)
        self._moved = True
        try:
            self._run(steps, len(self._variants))
        finally:
            made = self._header.item(_MADE)
            self._give_back(steps - made)
        if made < steps:  # the batch that was refused, for `explain`
            for buffer, array in zip(self.inputs, self._variants[made % len(self._variants)].inputs, strict=True):
                buffer[...] = array
        return made

    def _prepare(self, steps: int, arrays: Any, rows: np.ndarray, tables: Any, results: Any) -> None:
        """Fill in the header, and where the numbers that move begin."""
        blocks = {id(source): blocks for source, _, blocks in self.drawn}
        counters = {id(source): source.next(count * steps)[1] for source, _, count in self.drawn}
        for variant, header in zip(self._variants, self._header, strict=True):
            batch = [_Copy(array, rows, buffer, len(buffer)) for array, buffer in zip(arrays, variant.inputs)]  # noqa: B905
            given = [_Copy(output, _NOTHING, result, 0) for output, result in zip(self.outputs, results)]  # noqa: B905
            copies = [*batch, *given]
            moving = [*variant.moving_from(tables, counters, blocks)]
            moving += [copy.moving("rows", rows.ctypes.data, 8 * copy.count) for copy in batch]
            moving += [copy.moving("out", copy.out.ctypes.data, copy.nbytes) for copy in given]
            tables_of = moving, [copy.call for copy in batch], [copy.call for copy in given]
            lists = [variant.calls, *(np.array(rows_of, np.int64).reshape(-1, 3) for rows_of in tables_of)]
            variant.held = copies, lists
            self._given[:] = team.control, self._header.ctypes.data, refusals.ADDRESS
            header[:_MADE] = [number for one in lists for number in (one.ctypes.data, len(one))]

    def _run(self, steps: int, variants: int) -> None:
        given = (
            self._header.ctypes.data,
            variants,
            steps,
            _gather_batch.address if variants > 1 else 0,
            refusals.ADDRESS,
        )
        if self._wakes or variants > 1:
            with team.watching() as control:
                _functions.steps(control, *given)
        else:
            _functions.steps(team.control, *given)

    def _give_back(self, steps: int) -> None:
        """Give the random streams back what steps that were not made would have drawn."""
        for source, _, blocks in self.drawn:
            key, counter = source.state
            source.state = key, counter - blocks * steps

    def explain(self) -> None:
        """Raise, if a value in the last step is the reason why it was not made to its end."""
        for check in self._checks:
            check()


def _is_done(call: PythonCall) -> bool:
    """Make a call of NumPy; what it refuses is no step, and the layers say why."""
    try:
        return call.run()
    except Exception:
        return False


class _Variant:
    """A program's calls with the batch in buffers of its own."""

    def __init__(self, calls: Sequence[Any], tables: Sequence[Any], recorded: Sequence[Any], inputs: Sequence[Any]):
        native = [one for one in calls if isinstance(one, NativeCall)]
        self.inputs = inputs
        self._arguments = np.array([one.arguments for one in native] or np.zeros((0, MOST_ARGUMENTS)), np.int64)
        self.calls = np.zeros((len(native), 3), np.int64)
        self._in_tables: list[tuple[int, int, int]] = []  # (address of an argument, table, bytes from its beginning)
        self._advancing: list[tuple[int, Advancing]] = []
        for number, one in enumerate(native):
            block = self._arguments[number]
            self.calls[number] = one.function, one.parts, block.ctypes.data
            for place in one.arrays:
                for old, new in zip(recorded, inputs, strict=True):
                    if 0 <= (offset := int(one.arguments[place]) - old.ctypes.data) < max(old.nbytes, 1):
                        block[place] = new.ctypes.data + offset
                for i, table in enumerate(tables):
                    if 0 <= (offset := int(one.arguments[place]) - table.ctypes.data) < table.nbytes:
                        self._in_tables.append((block.ctypes.data + 8 * place, i, offset))
            self._advancing += [(block.ctypes.data + 8 * place, number) for place, number in one.moving]
        self.held: tuple = ()  # what the header points to

    def moving_from(self, tables: Any, counters: dict[int, int], blocks: dict[int, int]) -> list[tuple[int, int, int]]:
        """`(address, number in the first step, growth)` of the numbers that move among the arguments."""
        found = [(at, tables[i].ctypes.data + offset, tables[i].strides[0]) for at, i, offset in self._in_tables]
        for at, number in self._advancing:
            found.append((at, counters[id(number.source)] + number.offset, blocks[id(number.source)]))
        return found


class _Copy:
    """A call that copies rows of an array, or with a count of 0 the whole of it."""

    def __init__(self, array: np.ndarray, rows: np.ndarray, out: np.ndarray, count: int):
        self.count, self.out = count, out
        width = array.nbytes // len(array) if count else array.nbytes
        self.nbytes = width * max(count, 1)
        self._block = gather_part.block(count=max(count, 1), dataset=array, rows=rows, out=out, width=width, parts=1)
        self._kept = array, rows
        self.call = gather_part.address, 1, self._block.ctypes.data

    def moving(self, name: str, start: int, growth: int) -> tuple[int, int, int]:
        """The named argument as a number that moves."""
        return self._block.ctypes.data + 8 * gather_part.names.index(name), start, growth


_NOTHING = np.zeros(1, np.int64)
_NOTHING.flags.writeable = False


class _Functions:
    """The functions of machine code as Python calls them."""

    @cached_property
    def steps(self) -> Callable:
        return as_function(_run_steps)

    @cached_property
    def some(self) -> Callable:
        return as_function(_run_some)

    @cached_property
    def move(self) -> Callable:
        return as_function(_move_first)


_functions = _Functions()


@contextmanager
def _watched(wakes: bool) -> Iterator[int]:
    """The team's address, its helpers awake on request."""
    if not wakes:
        yield team.control
        return
    with team.watching() as control:
        yield control
