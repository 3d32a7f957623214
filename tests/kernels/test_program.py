"""Programs: a recorded step done again has the bits that the step has, on whatever lies in its memory then."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from team_cases import team_of

from minikeras import kernels as k
from minikeras.kernels.arena import constant, explain
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.compiler import Floats, Numbers, part, share
from minikeras.kernels.cpu.program import Program
from minikeras.kernels.cpu.recording import Recorded, Recording
from minikeras.kernels.cpu.refusals import refuse
from minikeras.seeds import SeedGenerator

F4 = np.dtype("float32")


@part
def _affine(part, parts, size, x: Floats, factor: Floats, out: Floats):  # type: ignore[no-untyped-def]
    first, last = share(part, parts, size)
    for i in range(first, last):
        out[i] = x[i] * factor[0] + np.float32(1)


@part
def _add(part, parts, size, x: Floats, total: Floats):  # type: ignore[no-untyped-def]
    first, last = share(part, parts, size)
    for i in range(first, last):
        total[i] = total[i] + x[i]


@part
def _append(part, parts, number, list: Numbers):  # type: ignore[no-untyped-def]
    """A number after those that are there; how many is the first."""
    list[0] = list[0] + 1
    list[list[0]] = number


@part
def _below(part, parts, size, x: Floats, limit, out: Floats, refused):  # type: ignore[no-untyped-def]
    for i in range(size):
        out[i] = x[i]
        if x[i] >= np.float32(limit):
            out[i] = np.float32(0)
            refuse(refused)


def affine(x: Any, factor: Any, parts: int = 1) -> Any:
    out = k.empty(x.shape, F4)
    _affine.run(parts, size=x.size, x=x, factor=factor, out=out)
    return out


def add(x: Any, total: Any) -> None:
    _add.run(1, size=x.size, x=x, total=total)


def below(x: Any, limit: int) -> Any:
    out, before = k.empty(x.shape, F4), refusals.count()
    _below.run(1, size=x.size, x=x, limit=limit, out=out, refused=refusals.ADDRESS)

    def check() -> None:
        if (x.view(np.ndarray) >= limit).any():
            raise ValueError(f"there is a number that is not below {limit}")

    explain(refusals.count() - before, check)
    return out


def program_of(step: Callable, x: Any, *known: Any, tables: Any = (), double: bool = False) -> Program:
    """A step on a batch as a program, which has forgotten that it was made; its outputs are what the step gives."""
    with Recording([*known, *tables]) as recording:
        buffer = recording.arena.take(np, x.shape, x.dtype)
        np.copyto(buffer.view(np.ndarray), x)
        result = step(buffer, *[array.view(Recorded) for array in known])
    assert recording.spoiled is None
    outputs = [] if result is None else [result.view(np.ndarray)]
    made = Program(recording, [buffer.view(np.ndarray)], tables, outputs, double)
    made.blank()
    return made


def batches(count: int, *shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal((count, *shape)).astype(F4)


# ---- the same bits


def native_step(x: Any, w: Any, factor: Any) -> Any:
    first = affine(x, factor, 2)
    add(first, w)
    return affine(affine(first, factor)[1:].reshape(-1), w)


def mixed_step(x: Any, w: Any, factor: Any) -> Any:
    first = affine(x, factor)
    mean = first.mean(axis=0, keepdims=True)
    w += np.tanh(mean) * 0.5
    w[0, x[0].argsort()[::-1]] *= 1.5
    scaled = affine(np.concatenate([first, mean]) / np.sqrt((w**2).sum()), factor)
    np.multiply(scaled, 3, out=scaled)
    return np.where(scaled > 1, scaled, scaled.T.reshape(scaled.shape))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("step", [native_step, mixed_step])
def test_a_step_done_again_has_the_same_bits(step: Callable, threads: int) -> None:
    data, factor = batches(9, 6, 5), np.float32([1.25])
    start = batches(1, 6, 5)[0] if step is native_step else batches(1, 1, 5)[0]
    with team_of(threads):
        eager, ours = start.copy(), start.copy()
        wanted = [(step(x, eager, factor).copy(), eager.copy()) for x in data]
        again = program_of(step, data[0], ours, factor)
        assert again.is_native is (step is native_step)
        ours[...] = start
        for x, (result, changed) in zip(data, wanted, strict=True):
            again.inputs[0][...] = x
            assert again.run() == 1
            assert again.outputs[0].tobytes() == result.tobytes() and ours.tobytes() == changed.tobytes()


def test_memory_that_is_not_the_programs_is_read_anew() -> None:
    factor = np.float32([2])
    again = program_of(lambda x, factor: affine(x, factor), np.ones(3, F4), factor)
    for value in (3, 5):
        factor[0] = value
        again.inputs[0][...] = [1, 2, 4]
        again.run()
        assert again.outputs[0].tolist() == [value + 1, 2 * value + 1, 4 * value + 1]


def test_constants_are_kept_and_buffers_let_go_with_the_program() -> None:
    factor = constant(np.float32([2]))
    gone = weakref.ref(factor)
    held = [factor]
    again = program_of(lambda x: affine(x, held[0]), np.ones(3, F4))
    del factor
    held.clear()
    gc.collect()
    assert gone() is not None
    again.inputs[0][...] = 4
    again.run()
    assert again.outputs[0].tolist() == [9, 9, 9] and again.nbytes == 24
    del again
    gc.collect()
    assert gone() is None


def test_a_plain_array_that_is_written_to() -> None:
    """What is known is written in each step; what is not spoils the recording."""
    total = np.zeros(3, F4)

    def step(x: Any) -> Any:
        nonlocal total
        total += x  # not a recorded array

    again = program_of(lambda x, _: step(x), np.ones(3, F4), total)
    for _ in range(3):
        again.inputs[0][...] = 2
        again.run()
    assert total.tolist() == [7, 7, 7]
    with Recording() as recording:
        step(recording.arena.take(np, (3,), F4))
    assert recording.spoiled == "an array of shape (3,) and type float32 comes from Python code"


# ---- what is another thing in each step


def test_rows_of_tables() -> None:
    now = np.zeros((2, 2), F4)  # the settings of a step: two of them, two numbers each

    def step(x: Any) -> Any:
        return affine(affine(x, now[1]), now[0, 1:])

    again = program_of(step, np.ones(3, F4), tables=[now])
    settings = batches(5, 2, 2)
    data, rows = batches(20, 3), np.arange(5)[::-1].copy()
    results = np.empty((5, 1, 3), F4)
    one = program_of(step, np.ones((1, 3), F4), tables=[now])
    assert one.run_many(5, [data], rows, [settings], [results]) == 5
    for number in range(5):
        now[...] = settings[number]
        again.inputs[0][...] = data[rows[number]]
        again.run()
        wanted = step(data[rows[number]])
        assert again.outputs[0].tobytes() == results[number].tobytes() == wanted.tobytes()


def drawing(streams: list[SeedGenerator], drawn: Any) -> Callable:
    """A step that draws three blocks, and then another one, of a stream, and two of another."""

    def step(x: Any, *_: Any) -> None:
        for stream, blocks in ((streams[0], 3), (streams[1], 2), (streams[0], 1)):
            _append.run(1, number=stream.next(blocks)[1], list=drawn)

    return step


def test_numbers_that_advance() -> None:
    streams, drawn = [SeedGenerator(1), SeedGenerator(2)], np.zeros(99, np.int64)
    streams[0].next(10)
    again = program_of(drawing(streams, drawn), np.ones((1, 3), F4), drawn)
    assert [stream.counter for stream in streams] == [14, 2] and drawn[:4].tolist() == [3, 10, 0, 13]
    assert again.run() == 1 and again.run() == 1
    assert [stream.counter for stream in streams] == [22, 6]
    assert drawn[4:10].tolist() == [14, 2, 17, 18, 4, 21]
    assert again.run_many(3, [batches(4, 3)], np.arange(3), []) == 3
    assert [stream.counter for stream in streams] == [34, 12]
    assert drawn[10:19].tolist() == [22, 6, 25, 26, 8, 29, 30, 10, 33]
    streams[0].state = streams[0].key, 5
    assert again.fits() and again.run() == 1 and drawn[19:22].tolist() == [5, 12, 8]
    streams[1].state = 99, 0
    assert not again.fits()


# ---- many steps


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("columns", [3, 3000])
def test_many_steps(columns: int, double: bool, threads: int) -> None:
    """With batches of 36 kB that are gathered beside the step before, and with small ones."""
    data, factor, total = batches(20, columns), np.float32([0.5]), np.zeros((3, columns), F4)

    def step(x: Any, factor: Any, total: Any) -> Any:
        found = affine(x, factor, 2)
        add(found, total)
        return affine(found, total.reshape(-1)[:1], 2)

    with team_of(threads):
        again = program_of(step, data[:3], factor, total, double=double)
        for steps in (1, 2, 5, 6):
            total[...] = 0
            eager = total.copy()
            rows = np.random.default_rng(steps).permutation(18)[: 3 * steps]
            wanted = [step(data[rows[3 * i : 3 * i + 3]], factor, eager).copy() for i in range(steps)]
            results = np.full((steps, 3, columns), np.nan, F4)
            assert again.run_many(steps, [data], rows, [], [results]) == steps
            assert results.tobytes() == np.stack(wanted).tobytes() and total.tobytes() == eager.tobytes()
            again.inputs[0][...] = data[:3]  # and one alone between them
            assert again.run() == 1
            assert again.outputs[0].tobytes() == step(data[:3], factor, eager).tobytes()


# ---- what is refused


@pytest.mark.parametrize("double", [False, True])
def test_a_refused_value_stops_the_program_within_its_step(double: bool) -> None:
    stream, drawn, total = SeedGenerator(1), np.zeros(99, np.int64), np.zeros((2, 4), F4)

    def step(x: Any, total: Any, *_: Any) -> Any:
        _append.run(1, number=stream.next(7)[1], list=drawn)
        found = below(x, 5)
        add(found, total)
        return found

    data = np.arange(40, dtype=F4).reshape(10, 4) / 10
    again = program_of(step, data[:2], total, drawn, double=double)
    total[...], drawn[...], counter = 0, 0, stream.counter
    data[5, 1] = 7
    results = np.full((5, 2, 4), -1, F4)
    assert again.run_many(5, [data], np.arange(10), [], [results]) == 2
    np.testing.assert_array_equal(total, data[:2] + data[2:4])  # of the third step nothing after the refusal
    assert stream.counter == counter + 14 and drawn[:4].tolist() == [3, counter, counter + 7, counter + 14]
    np.testing.assert_array_equal(results[:2].reshape(4, 4), data[:4])
    assert (results[3:] == -1).all()
    again.inputs[0][...] = data[4:6]
    assert again.run() == 0 and stream.counter == counter + 14
    with pytest.raises(ValueError, match="there is a number that is not below 5"):
        again.explain()
    again.inputs[0][...] = data[:2]
    assert again.run() == 1
    again.explain()
    np.testing.assert_array_equal(total, data[:2] + data[2:4] + data[:2])


def test_a_refused_value_stops_a_program_with_calls_of_numpy() -> None:
    total, after = np.zeros(4, F4), np.zeros(4, F4)

    def step(x: Any, total: Any, after: Any) -> None:
        found = np.rint(below(x, 5))
        add(found, total)
        after += 1

    again = program_of(step, np.ones(4, F4), total, after)
    assert not again.is_native
    for value, made in ((2, 1), (6, 0), (3, 1)):
        again.inputs[0][...] = value
        assert again.run() == made
    assert (total[0], after[0]) == (1 + 2 + 3, 3)


def test_a_result_of_numpy_that_has_another_shape_stops_the_program() -> None:
    total = np.zeros(3, F4)

    def step(x: Any, total: Any) -> None:
        found = np.repeat(x, x.astype("i4"))  # as many numbers as they say
        total += found[:3]

    again = program_of(step, np.float32([1, 2, 1]), total)
    for value, made in (([1, 2, 1], 1), ([1, 2, 0], 0), ([0, 0, 4], 1)):
        again.inputs[0][...] = value
        assert again.run() == made
    assert total.tolist() == [1 + 1 + 4, 2 + 2 + 4, 2 + 2 + 4]


def test_the_same_step_times_its_calls() -> None:
    again = program_of(mixed_step, batches(1, 6, 5)[0], batches(1, 1, 5)[0], np.float32([1]))
    timed = again.timed(2)
    assert [name for name, _, _ in timed][:3] == ["test_program._affine", "NumPy's add.reduce", "NumPy's divide"]
    assert all(parts == 1 and 0 <= seconds < 1 for _, parts, seconds in timed)


# ---- processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_programs_after_a_fork() -> None:
    """In the child there is another team, without helpers at first."""
    data, factor, total = batches(12, 3000), np.float32([0.5]), np.zeros((3, 3000), F4)

    def step(x: Any, factor: Any, total: Any) -> Any:
        found = affine(x, factor, 4)
        add(found, total)
        return found

    def works(again: Program) -> bool:
        total[...] = 0
        made = again.run_many(4, [data], np.arange(12), []), again.run()
        wanted = np.zeros_like(total)
        for first in (0, 3, 6, 9, 9):
            add(affine(data[first : first + 3], factor, 4), wanted)
        return made == (4, 1) and total.tobytes() == wanted.tobytes()

    again = program_of(step, data[:3], factor, total)
    assert works(again)
    child = os.fork()
    if child == 0:
        status = 1
        with ExitStack() as end:
            end.callback(lambda: os._exit(status))
            status = 0 if works(again) and works(program_of(step, data[:3], factor, total)) else 2
    assert works(again)
    assert os.waitpid(child, 0)[1] == 0
