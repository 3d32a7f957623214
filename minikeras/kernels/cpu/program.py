"""A recorded step as a program: calls of machine code with fixed addresses, done again in one call without the GIL.

What a program's calls read and write lies where it lay when the step was recorded (see recording.py).  What is another
thing in each step is a number among a call's arguments that moves on: the row of a table, where the rows of the batch
are listed, the counter of a random stream.  Between its calls of machine code a program may have some of NumPy, which
are made from Python; where it has none, one call makes as many steps as are wanted, and a helper gathers the next batch
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby, islice
from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler import compiled, inner, numbers
from minikeras.kernels.cpu.compiler.machine import MOST_ARGUMENTS, call, flush_denormals, restore_denormals
from minikeras.kernels.cpu.compiler.team import as_function, do_parts, end_task, offer_task, team
from minikeras.kernels.cpu.gather import gather_part
from minikeras.kernels.cpu.recording import Advancing, NativeCall, PythonCall, Recording

# A program in memory: a header of int64 numbers, and what their addresses point to.
_CALLS = 0  # address of the calls: function, parts and address of the arguments each
_COUNT = 1
_MOVING = 2  # address of the numbers that move: their address, their value in the first step, and what a step adds
_MOVING_COUNT = 3
_BATCHES = 4  # address of the calls that gather the batch
_BATCH_COUNT = 5
_HEADER = 8  # numbers of each variant


@inner
def _do(control, calls, first, last):
    """Make calls of machine code."""
    for i in range(first, last):
        one = numbers(calls + 24 * i)
        do_parts(control, one[0], one[2], one[1])


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


@compiled
def _run_steps(control, program, variants, steps, gather_task):
    """Make so many steps; with two variants, whose batches lie apart, each batch is gathered during the step before."""
    before = flush_denormals()
    for step in range(steps):
        at = program + 8 * _HEADER * (step % variants)
        variant = numbers(at)
        if step == 0 or variants == 1:
            _move(variant, step)
            _do(control, variant[_BATCHES], 0, variant[_BATCH_COUNT])
        offered = 0
        following = program + 8 * _HEADER * ((step + 1) % variants)
        if variants > 1 and step + 1 < steps:
            _move(numbers(following), step + 1)
            offered = offer_task(control, gather_task, following)
        _do(control, variant[_CALLS], 0, variant[_COUNT])
        if offered:
            end_task(control)
        elif variants > 1 and step + 1 < steps:
            _do(control, numbers(following)[_BATCHES], 0, numbers(following)[_BATCH_COUNT])
    restore_denormals(before)


@compiled
def _run_some(control, variant, first, last):
    """Make some of a program's calls."""
    before = flush_denormals()
    _do(control, numbers(variant)[_CALLS], first, last)
    restore_denormals(before)


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
        double: whether batches are long enough to be gathered by a helper.

    Attributes:
        is_native: whether there is nothing but machine code in it.
        drawn: the random streams that a step draws from, each with its key and the blocks that it takes.
    """

    def __init__(
        self, recording: Recording, inputs: Sequence[np.ndarray], tables: Sequence[np.ndarray] = (), double: bool = False
    ):
        self.calls, self._kept, self._arena = recording.calls, recording.kept, recording.arena
        self.inputs, self._tables = list(inputs), list(tables)
        self.drawn = [(source, source.key, blocks) for source, blocks in recording.drawn.values()]
        self.is_native = all(isinstance(one, NativeCall) for one in self.calls)
        self._wakes = any(one.wake and one.parts > 1 for one in self.calls if isinstance(one, NativeCall))
        self._variants = [_Variant(self.calls, self._tables, self.inputs, self.inputs)]
        if double and self.is_native:
            others = [np.empty_like(one, subok=False) for one in self.inputs]
            self._variants.append(_Variant(self.calls, self._tables, self.inputs, others))
        self._header = np.zeros((len(self._variants), _HEADER), np.int64)
        self._blocks = np.zeros((len(self._variants), len(self.inputs), MOST_ARGUMENTS), np.int64)
        self._segments = [
            (is_native, len(list(group))) for is_native, group in groupby(isinstance(c, NativeCall) for c in self.calls)
        ]
        self._python = [one for one in self.calls if isinstance(one, PythonCall)]
        self._moved = True  # whether something else than a step on `inputs` has been prepared

    def fits(self) -> bool:
        """Whether the random streams have the keys that they had."""
        return all(source.key == key for source, key, _ in self.drawn)

    def run(self) -> None:
        """Make a step on what lies in `inputs`, with the tables as they are."""
        if self.drawn or self._moved:
            self._prepare(1, [], _NO_ROWS, self._tables)
            self._moved = bool(self.drawn)
        if self.is_native:
            self._run(1, 1)
            return
        _functions.move(self._header.ctypes.data)
        native, python = 0, iter(self._python)
        for is_native, count in self._segments:
            if is_native:
                with _watched(self._wakes) as control:
                    _functions.some(control, self._header.ctypes.data, native, native + count)
                native += count
            else:
                for one in islice(python, count):
                    one.run()

    def run_many(self, steps: int, arrays: Sequence[np.ndarray], rows: np.ndarray, tables: Sequence[np.ndarray]) -> None:
        """Make so many steps; every call must be of machine code.

        Args:
            arrays: the data, one contiguous array for each input.
            rows: int64 numbers of the rows of all batches, one after the other.
            tables: for each table one whose rows are what it is in each of the steps.
        """
        self._prepare(steps, arrays, rows, tables)
        self._moved = True
        self._run(steps, len(self._variants))

    def _prepare(self, steps: int, arrays: Sequence[np.ndarray], rows: Any, tables: Sequence[np.ndarray]) -> None:
        """Fill in the header and where numbers move from."""
        counters = {id(source): source.next(blocks * steps)[1] for source, _, blocks in self.drawn}
        blocks = {id(source): blocks for source, _, blocks in self.drawn}
        for variant, header, gathers in zip(self._variants, self._header, self._blocks, strict=True):
            moving = variant.moving_from(tables, counters, blocks)
            calls = np.zeros((len(arrays), 3), np.int64)
            for i, (array, buffer) in enumerate(zip(arrays, variant.inputs, strict=False)):
                given = {"count": len(buffer), "dataset": array, "rows": rows, "out": buffer, "parts": 1}
                gathers[i, : len(gather_part.names)] = gather_part.block(width=array.nbytes // len(array), **given)
                calls[i] = gather_part.address, 1, gathers[i].ctypes.data
                place = gathers[i].ctypes.data + 8 * gather_part.names.index("rows")
                moving = np.append(moving, [[place, rows.ctypes.data, 8 * len(buffer)]], axis=0)
            variant.moving, variant.gathers = moving, calls
            header[:6] = (
                *(variant.calls.ctypes.data, len(variant.calls), moving.ctypes.data, len(moving)),
                *(calls.ctypes.data, len(calls)),
            )

    def _run(self, steps: int, variants: int) -> None:
        if self._wakes or variants > 1:
            with team.watching() as control:
                _functions.steps(control, self._header.ctypes.data, variants, steps, _gather_batch.address)
        else:
            _functions.steps(team.control, self._header.ctypes.data, variants, steps, 0)


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
        self.moving = self.gathers = np.zeros((0, 3), np.int64)

    def moving_from(self, tables: Sequence[Any], counters: dict[int, int], blocks: dict[int, int]) -> np.ndarray:
        """`(address, number in the first step, growth)` of all numbers that move."""
        found = [(at, tables[i].ctypes.data + offset, tables[i].strides[0]) for at, i, offset in self._in_tables]
        for at, number in self._advancing:
            found.append((at, counters[id(number.source)] + number.offset, blocks[id(number.source)]))
        return np.array(found, np.int64).reshape(-1, 3)


_NO_ROWS = np.zeros(0, np.int64)


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
