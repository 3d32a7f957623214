"""Elementwise arithmetic: every bit as NumPy has it, for operands of every layout, inside of a step and outside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import Arena, reference_table, table_of
from minikeras.kernels.cpu import elementwise as override

reference, cpu = reference_table(), table_of("cpu")
TWO, ONE = sorted(override._PAIRS), sorted({*override._EACH} - {"copy"})
SPECIAL = np.array(
    [0.0, -0.0, 1, -1, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 1e-20, 3e38, -3e38, 2.0**-149], np.float32
)


def numbers(*shape: int, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    special = np.random.default_rng(seed + 1).choice(SPECIAL, shape)
    return np.where(np.random.default_rng(seed + 2).random(shape) < 0.2, special, x)


def compare(call: Any) -> None:
    """A call of a table gives the same bits on the CPU as the reference, within a step and outside."""
    with np.errstate(all="ignore"):
        wanted = call(reference)
        np.testing.assert_array_equal(call(cpu), wanted, strict=True)
        with Arena():
            np.testing.assert_array_equal(call(cpu), wanted, strict=True)


SHAPES: list[tuple[Any, Any]] = [
    *(((7,), (7,)), ((3, 5), (3, 5)), ((0, 3), (0, 3)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 4)), ((6, 5), (1, 5))),
    *(((6, 5), (6, 1)), ((2, 3, 4), (2, 1, 1)), ((2, 3, 4), (2, 3, 1)), ((3, 4), (1,)), ((3, 4), ()), ((2, 3), (1, 1))),
    *(((2, 1, 4), (1, 3, 1)), ((2, 3, 4), (2, 1, 4)), ((2, 3, 4), (3, 1)), ((4,), (2, 4)), ((1, 4), (4,)), ((), ())),
    *(((300, 200), (300, 200)), ((300, 200), (200,)), ((300, 200), (300, 1)), ((70_001,), (70_001,)), ((70_001,), ())),
    *(((5, 4), 2.5), ((5, 4), -3), ((5, 4), True), ((5, 4), math.nan), ((70_001,), 0.1), ((), 2.0), ((0,), 2.0)),
]


def operand(shape: Any, seed: int) -> Any:
    return numbers(*shape, seed=seed) if isinstance(shape, tuple) else shape


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(("one", "other"), SHAPES)
def test_two_operands(name: str, one: Any, other: Any) -> None:
    for first, second in ((one, other), (other, one)):
        a, b = operand(first, 1), operand(second, 2)
        compare(lambda k, a=a, b=b: k.combine(a, b, name))


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(TWO),
    shapes=st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.booleans()), min_size=1, max_size=4),
    kinds=st.tuples(*[st.sampled_from(["plain", "gaps", "float64", "int32"])] * 2),
    seed=st.integers(0, 9),
)
def test_operands_of_every_kind(name: str, shapes: list[tuple[bool, int, bool]], kinds: Any, seed: int) -> None:
    """Each axis may be 1 in either operand."""

    def made(place: int, kind: str) -> Any:
        x = numbers(*(1 if axis[2 * place] else axis[1] for axis in shapes), seed=seed + place)
        if kind == "gaps":
            return np.repeat(x, 2, axis=-1)[..., ::2]
        with np.errstate(invalid="ignore"):
            return x if kind == "plain" else x.astype(kind)

    a, b = made(0, kinds[0]), made(1, kinds[1])
    compare(lambda k: k.combine(a, b, name))


@pytest.mark.parametrize("shape", [(4, 6), (300, 200)])
def test_results_go_where_they_should(shape: tuple[int, int]) -> None:
    a, b = numbers(*shape, seed=1), numbers(*shape, seed=2)
    with np.errstate(all="ignore"), Arena():
        wanted = a + b
        out = np.empty((shape[0], 2 * shape[1]), np.float32)[:, ::2]
        assert cpu.combine(a, b, "add", out=out) is out
        np.testing.assert_array_equal(out, wanted)
        with pytest.raises(ValueError):
            cpu.combine(a, b, "add", out=np.empty(3, np.float32))
        assert cpu.combine(a, b, "add", out=a) is a
        np.testing.assert_array_equal(a, wanted)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (17,), (3, 5), (70_001,)])
def test_one_operand(name: str, shape: tuple[int, ...]) -> None:
    x, g = numbers(*shape, seed=1), numbers(*shape, seed=5)
    compare(lambda k: k.transform(x, name))
    compare(lambda k: k.transform_grad(g, x, name))
    wide = x.astype(np.float64)
    compare(lambda k: k.transform(wide, name))
    compare(lambda k: k.transform(x.T, name))


@pytest.mark.parametrize("shape", [(1,), (17,), (3, 5), (70_001,)])
def test_the_larger_and_choices(shape: tuple[int, ...]) -> None:
    g, a, b = (numbers(*shape, seed=seed) for seed in (1, 2, 5))
    b = np.where(np.random.default_rng(0).random(shape) < 0.3, a, b)
    number = float(a.flat[0]) if np.isfinite(a.flat[0]) else 1.0
    for one, other in ((a, b), (a, number), (number, a), (a, b.astype(np.float64)), (a, b.flat[:1])):
        compare(lambda k, one=one, other=other: k.larger_grad(g, one, other))
    with np.errstate(invalid="ignore"):
        condition = a > b
    for one, other in ((a, b), (a, 0), (0, a), (a, 2.0), (a, b.flat[:1]), (a.astype(np.float64), b)):
        compare(lambda k, one=one, other=other: k.choose(condition, one, other))
    compare(lambda k: k.choose(condition[..., :1], a, b))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 7), (65, 1), (5000, 33), (3, 20_000), (40, 30, 5), (0, 4)])
def test_sums_over_leading_axes(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32) + 1
    for axis in (0, (0,), (0, 1), -1, None):
        keepdims = axis == -1
        wanted = x.astype(np.float64).sum(axis=axis, keepdims=keepdims)
        found = cpu.total(x, axis, keepdims)
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-5)
        assert found.dtype == np.float32 and found.shape == wanted.shape
    out = np.empty(shape[1:], np.float32)
    assert cpu.total(x, 0, out=out) is out
    np.testing.assert_array_equal(out, cpu.total(x, 0))
    with pytest.raises(ValueError):
        cpu.total(x, 0, out=np.empty((shape[1] + 1, *shape[2:]), np.float32))


def test_what_is_no_number_stays_in_its_sum() -> None:
    x = np.ones((3000, 20), np.float32)
    x[1000, 3], x[5, 4], x[6, 4], x[7, 5] = math.nan, math.inf, -math.inf, math.inf
    total = cpu.total(x, 0)
    assert np.isnan(total).nonzero()[0].tolist() == [3, 4] and np.isinf(total).nonzero()[0].tolist() == [5]


def laid_out(x: Any, way: str) -> Any:
    """The same numbers, lying in another way."""
    if way == "turned":
        return np.ascontiguousarray(x.T).T
    if way == "gaps":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    return np.concatenate([x, x], axis=-1)[..., : x.shape[-1]] if way == "columns" else x


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    way=st.sampled_from(["plain", "turned", "gaps", "columns"]),
    keepdims=st.booleans(),
    data=st.data(),
)
def test_sums_and_means_over_any_axes(shape: list[int], way: str, keepdims: bool, data: Any) -> None:
    x = laid_out(np.random.default_rng(0).normal(size=shape).astype(np.float32), way)
    several = st.sets(st.integers(0, x.ndim - 1)).map(lambda axes: tuple(sorted(axes)))
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1), several))
    for name in ("total", "average"):
        wanted = getattr(reference, name)(x.astype(np.float64), axis, keepdims)
        found = getattr(cpu, name)(x, axis, keepdims)
        assert found.dtype == np.float32 and found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
    out = np.full(reference.total(x, axis, keepdims).shape, 7, np.float32)
    if out.ndim:
        assert cpu.total(x, axis, keepdims, out) is out
        np.testing.assert_array_equal(out, cpu.total(x, axis, keepdims))


@pytest.mark.parametrize("shape", [(300_001,), (3, 70_001), (1000, 40, 7), (7, 1000, 40), (100, 3, 100, 20)])
def test_long_sums_are_exact_in_any_order(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    for axis in (None, -1, 0, len(shape) // 2, tuple({0, len(shape) - 1})):
        np.testing.assert_allclose(cpu.total(x, axis), x.sum(axis=axis, dtype=np.float64), rtol=5e-7)
    x.flat[5] = math.nan
    assert np.isnan(cpu.total(x, -1)).sum() == 1


def test_axes_that_are_none_are_refused() -> None:
    for axis in (2, (0, 0), (-3,)):
        with pytest.raises(ValueError):
            cpu.total(np.ones((2, 3), np.float32), axis)


@pytest.mark.parametrize("way", ["plain", "turned", "gaps", "columns"])
def test_repeated_to_a_shape(way: str) -> None:
    for small, shape in (((3, 1), (4, 3, 5)), ((2, 1, 4), (2, 3, 4)), ((1,), (70_001,)), ((6, 5), (6, 5)), ((), (3,))):
        x = laid_out(numbers(*small), way) if small else numbers()
        found = cpu.spread(x, shape, x.dtype)
        np.testing.assert_array_equal(found, np.broadcast_to(x, shape), strict=True)
        assert found.flags.owndata or found.flags.c_contiguous
    wide = cpu.spread(np.arange(3.0), (2, 3), np.dtype(np.float32))
    np.testing.assert_array_equal(wide, np.array([[0, 1, 2]] * 2, np.float32), strict=True)
    with pytest.raises(ValueError):
        cpu.spread(np.ones(3, np.float32), (4,), np.dtype(np.float32))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 31, -1, -2, -3, 0.5, 1.5, 2.5, 31.5, -0.5, -1.5, True])
def test_powers(exponent: float) -> None:
    x = np.concatenate([SPECIAL, numbers(200)])
    with np.errstate(all="ignore"):
        found, wanted = cpu.power(x, exponent), np.power(x.astype(np.float64), np.float64(exponent)).astype(np.float32)
    np.testing.assert_array_max_ulp(found[np.isfinite(wanted)], wanted[np.isfinite(wanted)], 1)
    defined = ~((x == -math.inf) & (exponent == 0.5)) & ~((x == 0) & (exponent == 0.5))  # NumPy's own is the root
    np.testing.assert_array_equal(np.signbit(found)[defined], np.signbit(wanted)[defined])
    np.testing.assert_array_equal(np.isnan(found)[defined], np.isnan(wanted)[defined])
    np.testing.assert_array_equal(np.isinf(found)[defined], np.isinf(wanted)[defined])
