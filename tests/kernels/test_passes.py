"""Passes that the team shares, long enough for several parts, against the reference and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu import dense as override
from minikeras.kernels.cpu.compiler import parts_for

_LONG = 1 << 16
_SLICE = 1 << 14  # elements of a part, about

reference, cpu = reference_table(), table_of("cpu")

GUARD = np.float32(77)
SOME_LENGTHS = [_LONG, _LONG + 1, _LONG + 15, _LONG + 17, 3 * _LONG - 1, 100_003]


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def guarded(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(a buffer of guard values, an array of NaN in its middle)."""
    flat = np.full(math.prod(shape) + 64, GUARD)
    out = flat[32:-32].reshape(shape)
    out.fill(math.nan)
    return flat, out


def assert_guards(flat: Any) -> None:
    assert (flat[:32] == GUARD).all() and (flat[-32:] == GUARD).all()


# ---- optimizers

rates = st.sampled_from([1e-4, 0.01, 1.0])
shares = st.sampled_from([0.0, 0.5, 0.9, 0.999])
OPTIMIZER_CASES: dict[str, tuple[int, dict[str, Any]]] = {  # slots and what to draw
    "adam": (2, {"alpha": rates, "beta_1": shares, "beta_2": shares, "epsilon": st.sampled_from([1e-7, 1e-3])}),
    "rmsprop": (1, {"lr": rates, "rho": shares, "epsilon": st.sampled_from([1e-7, 1e-3])}),
    "sgd": (0, {"lr": rates}),
    "sgd_momentum": (1, {"lr": rates, "momentum": shares, "nesterov": st.booleans()}),
}


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
@settings(max_examples=12, deadline=None)
@given(size=st.sampled_from(SOME_LENGTHS), seed=st.integers(0, 99), data=st.data())
def test_long_optimizer_steps_have_the_reference_bits(name: str, size: int, seed: int, data: Any) -> None:
    slots, drawn = OPTIMIZER_CASES[name]
    options = {key: data.draw(strategy, label=key) for key, strategy in drawn.items()}
    assert parts_for(size) > 1
    state = numbers(2 + slots, size + 64, seed=seed)
    state[-1] = state[-1] ** 2 + 1e-3  # no number is so small that its square is a denormal one
    state[1, 40:43] = math.nan, math.inf, -math.inf
    found, wanted = state.copy(), state.copy()
    for _ in range(2):
        getattr(cpu, name)(*found[:, 32:-32], **options)
        with np.errstate(invalid="ignore"):
            getattr(reference, name)(*wanted[:, 32:-32], **options)
    np.testing.assert_array_equal(found, wanted)  # those beside it too
    assert not np.array_equal(found[0], state[0])


@pytest.mark.parametrize("name", OPTIMIZER_CASES)
@pytest.mark.parametrize("which", ["p", "g", "last slot"])
def test_long_optimizer_steps_of_views_with_gaps(name: str, which: str) -> None:
    slots, drawn = OPTIMIZER_CASES[name]
    options = {key: 0.5 for key in drawn if key != "nesterov"}
    arrays = list(np.abs(numbers(2 + slots, _LONG + 9)))
    place = {"p": 0, "g": 1, "last slot": -1}[which]
    around = np.full((_LONG + 9, 2), GUARD)
    around[:, 0] = arrays[place]
    wanted = [array.copy() for array in arrays]
    arrays[place] = around[:, 0]
    getattr(cpu, name)(*arrays, **options)
    getattr(reference, name)(*wanted, **options)
    for found, expected in zip(arrays, wanted, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (around[:, 1] == GUARD).all()


# ---- backward through an activation and a bias

SHAPES = [(8192, 1), (1, 70_001), (3, 30_011), (4099, 37), (100_000, 3), (257, 513), (7, 50, 31, 33)]


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_relu_grad(shape: tuple[int, ...], biased: bool, activated: bool) -> None:
    g, y = numbers(*shape, seed=1), np.maximum(numbers(*shape, seed=2), 0) if activated else None
    if y is not None:
        g.reshape(-1)[np.argmin(y)] = math.nan  # does not get through
        y.reshape(-1)[-1] = math.nan  # nor does what belongs to no number
    before = g.copy()
    flat, sums = guarded(shape[-1:])
    result = override._relu_grads(g, y, sums if biased else None)
    np.testing.assert_array_equal(g, before)
    wanted = g if y is None else np.where(y > 0, g, np.float32(0))
    assert (result is g) == (y is None)
    np.testing.assert_array_equal(result, wanted)
    if biased:
        rows = wanted.reshape(-1, shape[-1]).astype(np.float64)
        allowed = len(rows) * 2.0**-24 * abs(rows).sum(axis=0)
        assert (abs(sums - rows.sum(axis=0)) <= allowed).all()
    else:
        assert np.isnan(sums).all()
    assert_guards(flat)


def test_a_gradient_that_is_not_a_number_reaches_its_bias_only() -> None:
    g = numbers(5001, 20)
    g[4000, 3], g[17, 5], g[18, 6], g[4999, 6] = math.nan, math.inf, math.inf, -math.inf
    with np.errstate(invalid="ignore"):
        _, sums = cpu.epilogue_grad(g, np.ones_like(g), "relu", True)
    assert np.isnan(sums).nonzero()[0].tolist() == [3, 6]
    assert np.isinf(sums).nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("kind", ["contiguous", "with gaps", "float64", "none"])
@pytest.mark.parametrize("rows", [101, 601], ids=["one part", "several"])
def test_epilogue_grad_is_the_reference(rows: int, activation: str | None, kind: str) -> None:
    g, y = numbers(rows, 130, seed=1), np.tanh(numbers(rows, 130, seed=2))
    outs = {
        "contiguous": lambda: np.zeros(130, np.float32),
        "with gaps": lambda: np.zeros(260, np.float32)[::2],
        "float64": lambda: np.zeros(130),
        "none": lambda: None,
    }
    out, expected_out = outs[kind](), outs[kind]()
    found, sums = cpu.epilogue_grad(g, y, activation, True, out)
    wanted, expected_sums = reference.epilogue_grad(g, y, activation, True, expected_out)
    assert out is None or sums is out
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(sums, expected_sums, rtol=1e-5, atol=1e-4, strict=True)
    if kind == "with gaps":
        assert not out.base[1::2].any()
    without, nothing = cpu.epilogue_grad(g, y, activation, False)
    np.testing.assert_array_equal(without, wanted)
    assert nothing is None


# ---- activations made of straight lines

LINES = [(0.0, None, 0.0), (0.0, 6.0, 0.0), (0.3, None, 0.0), (0.1, 1.0, -0.5), (0.0, 2.0, 1.0), (0.2, 0.0, 0.0)]


@pytest.mark.parametrize(("slope", "limit", "threshold"), LINES)
@pytest.mark.parametrize("size", [8192, 8193, 100_003])
def test_piecewise_relu(size: int, slope: float, limit: float | None, threshold: float) -> None:
    x, g = numbers(size, seed=1) * 4, numbers(size, seed=2)
    x[:6] = math.nan, math.inf, -math.inf, threshold, 0 if limit is None else limit, -0.0
    g[7], g[8], x[7], x[8] = math.inf, math.inf, threshold - 1, threshold + 0.5
    settings = {"slope": slope, "limit": limit, "threshold": threshold}
    flat, out = guarded((size,))
    assert cpu.piecewise_relu(x, **settings, out=out) is out
    assert_guards(flat)
    with np.errstate(invalid="ignore"):
        line = np.where(x > threshold, x, np.float32(slope) * (x - np.float32(threshold)))
        line = line if slope else np.where(x <= threshold, np.float32(0), x)
    wanted = line if limit is None else np.minimum(line, np.float32(limit))
    np.testing.assert_array_equal(out, wanted)
    steep = np.where(x > threshold, g, np.float32(slope) * g if slope else np.float32(0))
    wanted_gradient = steep if limit is None else np.where(line >= limit, np.float32(0), steep)
    found = cpu.piecewise_relu_grad(g, x, **settings)
    np.testing.assert_array_equal(found, wanted_gradient)
    np.testing.assert_array_equal(reference.piecewise_relu(x, **settings), wanted)
    np.testing.assert_array_equal(reference.piecewise_relu_grad(g, x, **settings), wanted_gradient)
    assert cpu.piecewise_relu(x, **settings, out=x) is x
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu"])
@pytest.mark.parametrize("kind", ["contiguous", "with gaps", "float64", "short"])
def test_activations_are_the_reference(name: str, kind: str) -> None:
    x, g = numbers(2, 101, 90) * 5
    if kind == "with gaps":
        x, g = x[:, ::2], g[:, ::2]
    elif kind == "float64":
        x, g = x.astype(np.float64), g.astype(np.float64)
    elif kind == "short":
        x, g = x[:3], g[:3]
    y = cpu.activate(x, name)
    np.testing.assert_array_equal(y, reference.activate(x, name), strict=True)
    found = cpu.activate_grad(g, y, name)
    np.testing.assert_array_equal(found, reference.activate_grad(g, y, name), strict=True)


# ---- dropout


@pytest.mark.parametrize("shape", [(8192,), (8207,), (33, 1000), (200_001,), (5, 70, 41, 17)])
def test_masked_scale_has_the_reference_bits(shape: tuple[int, ...]) -> None:
    x, mask = numbers(*shape), (numbers(*shape, seed=1) > 0).astype(np.uint8)
    x.reshape(-1)[:4] = math.nan, math.inf, -math.inf, -0.0
    mask.reshape(-1)[:4] = 1
    wanted = reference.masked_scale(x, mask, 1 / 0.7)
    np.testing.assert_array_equal(cpu.masked_scale(x, mask, 1 / 0.7), wanted)
    flat, out = guarded(shape)
    assert cpu.masked_scale(x, mask, 1 / 0.7, out) is out
    np.testing.assert_array_equal(out, wanted)
    assert_guards(flat)


@pytest.mark.parametrize("name", ["activate_grad", "masked_scale", "piecewise_relu_grad"])
def test_numpys_scalars_are_left_to_the_reference(name: str) -> None:
    x = np.float32(3)
    other = {"activate_grad": (x, "relu"), "masked_scale": (np.ones((), np.uint8), 2.0), "piecewise_relu_grad": (x,)}
    wanted = getattr(reference, name)(x, *other[name])
    np.testing.assert_array_equal(getattr(cpu, name)(x, *other[name]), wanted)


@pytest.mark.parametrize("kind", ["broadcast", "bool", "float", "mask with gaps", "x with gaps", "out with gaps"])
def test_masks_that_are_left_to_the_reference(kind: str) -> None:
    x, mask, out = numbers(200, 300), (numbers(200, 300, seed=1) > 0).astype(np.uint8), None
    if kind == "broadcast":
        mask = mask[:, :1]
    elif kind in ("bool", "float"):
        mask = mask.astype(kind)
    elif kind == "mask with gaps":
        mask = np.repeat(mask, 2, axis=1)[:, ::2]
    elif kind == "x with gaps":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    else:
        out = np.full((200, 600), GUARD)[:, ::2]
    wanted = reference.masked_scale(x, mask, 2.0)
    found = cpu.masked_scale(x, mask, 2.0, out)
    np.testing.assert_allclose(found, wanted, rtol=0, strict=kind != "float")
    if out is not None:
        assert found is out and (out.base[:, 1::2] == GUARD).all()


# ---- pooling


@st.composite
def pooling(draw: Any) -> tuple[Any, dict[str, Any]]:
    """(x of several parts, the keyword arguments); small whole numbers, so that ties are common, and some NaN."""
    rank = draw(st.integers(1, 3))
    several = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
    spatial, channels = several(2, {1: 60, 2: 12, 3: 6}[rank]), draw(st.sampled_from([1, 3, 16, 33]))
    size, strides = several(1, 3), several(1, 3)
    padding = tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in size)
    picture = math.prod(spatial) * channels
    images = -(-draw(st.integers(2 * _SLICE, 5 * _SLICE)) // picture)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = random.integers(-2, 3, (images, *spatial, channels)).astype(np.float32)
    x[random.random(x.shape) < 0.01] = draw(st.sampled_from([0, math.nan, math.inf, -math.inf]))
    return x, {"size": size, "strides": strides, "padding": padding}


@settings(max_examples=30, deadline=None)
@given(problem=pooling())
def test_pooling_of_many_parts_is_the_reference(problem: Any) -> None:
    x, keywords = problem
    assert parts_for(x.size) > 1
    y, index = reference.max_pool(x, with_index=True, **keywords)
    found, found_index = cpu.max_pool(x, with_index=True, **keywords)
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(found_index, index)
    alone, nothing = cpu.max_pool(x, **keywords)
    np.testing.assert_array_equal(alone, y)
    assert nothing is None
    g = np.random.default_rng(0).integers(-5, 6, y.shape).astype(np.float32)
    for name, arguments in {
        "max_pool_grad": (g, index, x.shape),
        "average_pool": (x,),
        "average_pool_grad": (g, x.shape),
    }.items():
        with np.errstate(invalid="ignore"):
            wanted = getattr(reference, name)(*arguments, **keywords)
        flat, out = guarded(wanted.shape)
        assert getattr(cpu, name)(*arguments, out=out, **keywords) is out
        # 27 taps at most, each a few roundings of numbers below 10
        np.testing.assert_allclose(out, wanted, rtol=0, atol=27 * 10 * 2.0**-23, strict=True)
        assert_guards(flat)


def test_pooling_of_one_large_picture_and_of_a_wide_window() -> None:
    x = numbers(1, 400, 300, 2)
    for size in ((2, 2), (20, 20)):  # the second one needs an index of 16 bits
        keywords: dict[str, Any] = {"size": size, "strides": size, "padding": ((0, 0), (0, 0))}
        y, index = reference.max_pool(x, with_index=True, **keywords)
        found, found_index = cpu.max_pool(x, with_index=True, **keywords)
        np.testing.assert_array_equal(found, y)
        np.testing.assert_array_equal(found_index, index)
        assert found_index.dtype == index.dtype
        wanted = reference.max_pool_grad(y, index, x.shape, **keywords)
        np.testing.assert_array_equal(cpu.max_pool_grad(y, index, x.shape, **keywords), wanted)
