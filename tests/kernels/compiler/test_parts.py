"""What a kernel author writes: parts, their arguments and helpers, on both engines; the example in the docstring."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras import kernels
from minikeras.kernels.cpu import compiler
from minikeras.kernels.cpu.compiler import (
    Doubles,
    Floats,
    Numbers,
    Octets,
    Part,
    Plan,
    Words,
    emitted_part,
    floats,
    host,
    instruction,
    loader,
    numbers,
    own_scratch,
    part,
    parts_for,
    scratch,
    share,
    share_of_lines,
    team,
    team_size,
)
from minikeras.kernels.cpu.compiler.machine import add


def on_both(function: Part, parts: int, **arguments: Any) -> None:
    """Run a part as the translator makes it, and then as Numba does."""
    for called in function.calls():
        loader.offer(called.symbol, called.address)
    items = [parts if name == "parts" else arguments.get(name) for name in function.names]
    for compile_it in (function.translate, function.compile_with_numba):
        team.team.run(loader.load(compile_it()), None, parts, items=tuple(items))


@part
def _all_kinds(
    part,
    parts,
    worker,
    x: Floats,
    y: Doubles,
    n: Numbers,
    b: Octets,
    w: Words,
    scale: np.float32,
    exact: float,
    at,
    flag,
):
    if part == parts - 1 and worker >= 0:
        x[0] += np.float32(b[0]) * scale
        y[0] += np.float64(w[0]) + exact
        n[0] += n[1] + numbers(at)[0] + (10 if flag else 20)


def test_arguments_arrive_by_name_as_what_they_are() -> None:
    x, y, n = np.zeros(1, "f4"), np.zeros(1), np.array([0, 3])
    at = np.array([5])
    arguments = dict(x=x, y=y, n=n, b=np.array([7], "u1"), w=np.array([2**31 + 1], "u4"), at=at)
    on_both(_all_kinds, 3, **arguments, scale=0.1, exact=0.1, flag=True)
    step = np.float32(7) * np.float32(0.1)
    assert (x[0], y[0], n[0]) == (step + step, 2 * (2**31 + 1 + 0.1), 2 * (3 + 5 + 10))
    _all_kinds.run(2, flag=False, exact=np.float64(0.5), scale=-1.0, **arguments)
    assert n[0] == 36 + 28
    before = x[0]
    _all_kinds.run(1, flag=False, exact=0, scale=3, **arguments)  # ints that are to be floats
    assert x[0] == before + 21


@pytest.mark.parametrize("wrong", [{}, {"x": 1, "y": 2}, {"z": 1}])
def test_an_argument_that_is_missing_or_unknown_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="argument"):
        _one.run(1, **wrong)


@part
def _one(part, parts, x, kept=None):
    numbers(x)[0] += 1 if kept else 100


def test_what_is_not_given_is_0() -> None:
    x = np.zeros(1, np.int64)
    on_both(_one, 2, x=x)
    _one.run(1, x=x)
    _one.run(1, x=x, kept=x)
    assert x[0] == 100 * (2 + 2 + 1) + 1


def test_a_part_has_as_many_arguments_as_a_run_takes() -> None:
    names = ", ".join(f"a{i}" for i in range(33))
    space: dict[str, Any] = {}
    exec(f"def many({names}): pass", space)
    space["many"].__module__ = __name__
    with pytest.raises(TypeError, match=r"at most, .*many has 33"):
        part(space["many"])


@emitted_part
def _emitted(b, part, out, factor: np.float32):
    b.write(b.fmul(factor, b.sitofp(part, b.type("float32"))), b.at(out, part))


def test_a_part_of_llvm_code() -> None:
    out = np.zeros(5, np.float32)
    _emitted.run(5, factor=1.5, out=out)
    assert out.tolist() == [0, 1.5, 3, 4.5, 6]


@part
def _marked(part, parts, size, counts: Numbers, begins: Numbers, by_lines):
    if by_lines:
        first, end = share_of_lines(part, parts, size)
    else:
        first, end = share(part, parts, size)
    begins[part] = first
    for i in range(first, end):
        counts[i] += 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3000), st.integers(1, 70), st.booleans())
def test_shares_are_all_there_is(size: int, parts: int, by_lines: bool) -> None:
    counts, begins = np.zeros(size + 1, np.int64), np.zeros(parts, np.int64)
    _marked.run(parts, size=size, counts=counts, begins=begins, by_lines=by_lines)
    assert counts.tolist() == [1] * size + [0]
    if by_lines:
        assert not (begins % 16).any()


def test_how_many_parts_depends_on_the_size_alone() -> None:
    assert [parts_for(size) for size in (0, 1, 1 << 15, 10**9)] == [1, 1, 2, 64]


# ---- rows in vectors


@instruction
def _scaled_total(b, row, count, factor: np.float32) -> np.float32:
    factors = b.spread(factor, host.LANES)

    def body(vectors: list[Any], carried: list[Any]) -> Any:
        value = b.fmul(vectors[0], factors)
        return [value], [b.fadd(carried[0], value)]

    (total,) = b.over_row(count, [(row, 0.0)], [b.constant(0.0, "float32", host.LANES)], body, host.LANES)
    return b.across(total, b.fadd)


@part
def _scaled(part, row, count, factor: np.float32, out):
    floats(out)[0] = _scaled_total(row, count, factor)


@pytest.mark.skipif(not host.HAS_VECTORS, reason="masks are slow without the registers")
@pytest.mark.parametrize("masks", [True, False], ids=["masks", "one by one"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100])
def test_a_row_of_any_length(count: int, masks: bool) -> None:
    row, out = np.arange(1, count + 5, dtype=np.float32), np.zeros(1, np.float32)
    with patch.object(host, "HAS_MASKS", masks):
        on_both(_scaled, 1, row=row, count=count, factor=2.0, out=out)  # doubled twice
    assert row.tolist() == [4 * i if i <= count else i for i in range(1, count + 5)]
    assert out[0] == 4 * count * (count + 1) / 2


@instruction
def _emitted_loops(b, count, out):
    for place, once in enumerate((False, True)):
        with b.loop(count, values=[b.constant(0)], at_least_once=once) as loop:
            loop.following = [b.add(loop.values[0], b.add(loop.index, b.constant(1)))]
        b.write(loop.results[0], b.at(out, place, 8))


@part
def _loops(part, count, out):
    _emitted_loops(count, out)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_loops_with_and_without_a_look_before_the_first_round(count: int) -> None:
    out = np.zeros(2, np.int64)
    on_both(_loops, 1, count=count, out=out)
    assert out.tolist() == [count * (count + 1) // 2, max(count, 1) * (max(count, 1) + 1) // 2]


# ---- scratch and plans


@part
def _in_scratch(part, worker, wanted, mistakes, scratch, each, size):
    own = numbers(own_scratch(scratch, each, worker))
    for i in range(size):
        own[i] = part
    for i in range(size):
        if own[i] != part:
            add(mistakes, 1)
    numbers(wanted)[part] = own_scratch(scratch, each, worker) % 64 + 1


@pytest.mark.parametrize("size", [1, 3])
def test_workers_have_scratch_of_their_own(size: int) -> None:
    done, mistakes = np.zeros(40, np.int64), np.zeros(1, np.int64)
    with team_of(size):
        assert team_size() == size
        for _ in range(20):
            done[:] = 0
            _in_scratch.run(40, wanted=done, mistakes=mistakes, **scratch(8 * 1000), size=1000)
            assert done.tolist() == [1] * 40 and not mistakes[0]
            plan = Plan(_in_scratch, 40, scratch=8000, size=1000)
            plan.run(done, mistakes)
            assert done.tolist() == [1] * 40 and not mistakes[0]


def test_a_plan_has_all_arguments() -> None:
    with pytest.raises(TypeError, match="_in_scratch needs size"):
        Plan(_in_scratch, 1)


@part
def _from_a_table(part, scratch, each, table: Numbers, size, out: Numbers):
    for i in range(size):
        out[i] = table[i]


def test_whoever_keeps_the_call_of_a_plan_keeps_its_tables() -> None:
    table, out = np.arange(5, dtype=np.int64) * 7, np.zeros(5, np.int64)
    alive = weakref.ref(table)
    plan = Plan(_from_a_table, 1, table=table, size=5, out=out)
    assert not plan.has_scratch
    _, block, *_ = call = plan.call
    del plan, table
    team.team.run(*call, ())
    assert alive() is not None and out.tolist() == [0, 7, 14, 21, 28]
    del call
    assert alive() is not None
    del block
    assert alive() is None


# ---- the docstring


def test_the_example_in_the_docstring_runs_as_it_stands(tmp_path: Path) -> None:
    documented = inspect.getdoc(compiler) or ""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", documented, re.M)
    code = textwrap.dedent(max(blocks, key=len))
    (tmp_path / "author.py").write_text(code)
    spec = importlib.util.spec_from_file_location("author", tmp_path / "author.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["author"] = module
    try:
        spec.loader.exec_module(module)
        cpu, reference = kernels.table_of("cpu"), kernels.reference_table()
        x = np.random.default_rng(0).standard_normal((37, 4001)).astype("float32")
        np.testing.assert_array_equal(cpu.hard_tanh(x, 0.7), reference.hard_tanh(x, 0.7))
        np.testing.assert_allclose(cpu.row_sums(x), reference.row_sums(x), atol=1e-3)
        assert cpu.row_sums.__func__.__module__ == "author"
    finally:
        del sys.modules["author"]
        kernels.withdraw("hard_tanh")
        kernels.withdraw("row_sums")
