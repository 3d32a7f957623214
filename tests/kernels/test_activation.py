"""Compiled activations and other curves: digits over the whole range, special values, and the reference's arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu import activation as override
from minikeras.kernels.cpu.compiler import exp, inner
from minikeras.kernels.reference import activation as written

reference, cpu = reference_table(), table_of("cpu")

SETTINGS: dict[str, tuple[float, ...]] = {
    "elu": (0.75,),
    "celu": (0.75,),
    "hard_shrink": (0.5,),
    "soft_shrink": (0.5,),
    "threshold": (0.25, 3.0),
    "squareplus": (4.0,),
}
ACTIVATIONS, CURVES = sorted(written._TABLE), sorted(written._CURVES)
SPECIAL = np.array([0.0, -0.0, 1, -1, 6, -6, 1e30, -1e30, math.inf, -math.inf, math.nan], np.float32)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3


def whole_range(most: float = 80.0) -> Any:
    """Numbers of all magnitudes up to one, of both signs."""
    magnitudes = np.exp2(np.linspace(-20, math.log2(most), 5001))
    return np.concatenate([-magnitudes, magnitudes, np.linspace(-most, most, 5001)]).astype(np.float32)


def units_off(found: Any, exact: Any) -> float:
    """The largest distance, in units of the last place of float32."""
    return float((abs(found.astype(np.float64) - exact) / np.spacing(abs(exact).astype(np.float32))).max())


def test_every_activation_and_curve_is_compiled() -> None:
    assert set(ACTIVATIONS) == override._ACTIVATIONS.keys() | override._LINES.keys()
    assert set(CURVES) == override._CURVES.keys()


def exact_gelu(x: Any) -> Any:
    return x * 0.5 * np.vectorize(math.erfc)(-x * math.sqrt(0.5))


@pytest.mark.parametrize(
    ("name", "most", "units"),
    [
        *(("sigmoid", 80, 3), ("tanh", 80, 5), ("exponential", 80, 2), ("elu", 80, 3), ("selu", 80, 3)),
        *(("softplus", 80, 3), ("log_sigmoid", 80, 3), ("softsign", 80, 3), ("leaky_relu", 80, 1), ("relu", 80, 0)),
    ],
)
def test_digits_of_activations(name: str, most: float, units: float) -> None:
    x = whole_range(most)
    y = cpu.activate(x, name)
    assert units_off(y, reference.activate(x.astype(np.float64), name)) <= units
    ones, exact = np.ones_like(x), np.ones_like(x, np.float64)
    slope = cpu.activate_grad(ones, y, name)
    if name != "selu":  # beside a constant, which has but 24 bits
        assert units_off(slope, reference.activate_grad(exact, y.astype(np.float64), name)) <= 3


@pytest.mark.parametrize(
    ("name", "most", "units"),
    [
        # gelu's tanh form takes the exponential of a number, 11 for 4, whose last place is so many of the result's
        *(("gelu", 12.5, 8), ("gelu_tanh", 4, 33), ("silu", 80, 4), ("mish", 80, 4), ("elu", 80, 3), ("celu", 60, 3)),
        *(("squareplus", 80, 4), ("sparse_plus", 80, 3), ("hard_shrink", 80, 0), ("soft_shrink", 80, 1)),
        *(("threshold", 80, 0), ("expm1", 80, 3), ("erf", 80, 5)),
    ],
)
def test_digits_of_curves(name: str, most: float, units: float) -> None:
    x, numbers = whole_range(most), SETTINGS.get(name, ())
    exact = exact_gelu if name == "gelu" else lambda x: reference.curve(x, name, numbers)
    assert units_off(cpu.curve(x, name, numbers), exact(x.astype(np.float64))) <= units


def test_digits_of_logarithms() -> None:
    x = np.exp2(np.linspace(-126, 127.9, 40_001)).astype(np.float32)
    assert units_off(cpu.curve(x, "log"), np.log(x.astype(np.float64))) <= 2
    x = np.concatenate([x[x > 1e-37], -x[(x > 1e-37) & (x < 1)], 1 - np.exp2(np.linspace(-20, -1, 999))])
    x = x[x > -1].astype(np.float32)
    assert units_off(cpu.curve(x, "log1p"), np.log1p(x.astype(np.float64))) <= 2
    found = cpu.curve(np.array([0, -0.0, 1e-40, -1, math.inf, -math.inf, math.nan, 1], np.float32), "log")
    np.testing.assert_array_equal(found, [-math.inf, -math.inf, -math.inf, math.nan, math.inf, math.nan, math.nan, 0])
    found = cpu.curve(np.array([-1, -2, math.inf, math.nan, 0], np.float32), "log1p")
    np.testing.assert_array_equal(found, [-math.inf, math.nan, math.inf, math.nan, 0])


def test_tanh_shrink_keeps_its_digits_near_zero() -> None:
    x = whole_range(80)
    small = abs(x) < 0.01
    exact = x.astype(np.float64)
    squared = exact * exact
    series = exact * squared * (1 / 3 - squared * (2 / 15 - squared * 17 / 315))
    exact = np.where(small, series, exact - np.tanh(exact))
    assert units_off(cpu.curve(x, "tanh_shrink"), exact) <= 5


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000, 3 * 16384 + 5])
def test_activations_are_the_reference(name: str, size: int) -> None:
    x, g = numbers(size), numbers(size, seed=1)
    x[: len(SPECIAL)] = SPECIAL[: len(x)]
    with np.errstate(all="ignore"):
        y, wanted = cpu.activate(x, name), reference.activate(x, name)
        np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=2e-7)
        gradient, wanted = cpu.activate_grad(g, y, name), reference.activate_grad(g, y, name)
    finite = np.isfinite(y)
    np.testing.assert_allclose(gradient[finite], wanted[finite], rtol=2e-6, atol=1e-6)
    assert cpu.activate(x, name, out=x) is x
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000, 3 * 16384 + 5])
def test_curves_are_the_reference(name: str, size: int) -> None:
    x, g = numbers(size), numbers(size, seed=1)
    x[: len(SPECIAL)] = SPECIAL[: len(x)]
    settings = SETTINGS.get(name, ())
    with np.errstate(all="ignore"):
        y, wanted = cpu.curve(x, name, settings), reference.curve(x, name, settings)
        gradient, wanted_gradient = cpu.curve_grad(g, x, name, settings), reference.curve_grad(g, x, name, settings)
    np.testing.assert_allclose(y, wanted, rtol=2e-6, atol=3e-7, strict=True)
    usual = np.isfinite(x) & (abs(x) < 1e9)
    np.testing.assert_allclose(gradient[usual], wanted_gradient[usual], rtol=1e-5, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(CURVES),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    kind=st.sampled_from(["plain", "gaps", "float64", "turned"]),
    seed=st.integers(0, 9),
)
def test_arguments_of_every_kind(name: str, shape: list[int], kind: str, seed: int) -> None:
    x, g = numbers(*shape, seed=seed), numbers(*shape, seed=seed + 1)
    if kind == "gaps":
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif kind == "turned":
        x, g = x.T, g.T
    elif kind == "float64":
        x, g = x.astype(np.float64), g.astype(np.float64)
    settings = SETTINGS.get(name, ())
    for function, arguments in (("curve", (x,)), ("curve_grad", (g, x))):
        with np.errstate(invalid="ignore"):
            wanted = getattr(reference, function)(*arguments, name, settings)
            found = getattr(cpu, function)(*arguments, name, settings)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6, strict=True)


@pytest.mark.parametrize("name", CURVES)
def test_gradients_of_curves_are_central_differences(name: str) -> None:
    x = np.random.default_rng(0).normal(size=200) * 2
    x = abs(x) + 0.1 if "log" in name else x
    settings, step = SETTINGS.get(name, ()), 1e-6
    difference = (reference.curve(x + step, name, settings) - reference.curve(x - step, name, settings)) / (2 * step)
    np.testing.assert_allclose(reference.curve_grad(np.ones_like(x), x, name, settings), difference, atol=1e-7)


def test_on_a_limit_the_slope_is_a_half() -> None:
    x = np.array([-1, 1, 0.5, -0.5], np.float32)
    for table in (reference, cpu):
        np.testing.assert_array_equal(table.curve_grad(np.ones_like(x), x, "hard_tanh"), [0.5, 0.5, 1, 1])
        np.testing.assert_array_equal(table.curve_grad(np.ones_like(x), x, "soft_shrink", (0.5,)), [1, 1, 0.5, 0.5])


# ---- along an axis

ROWS = [(1, 1), (7, 3), (33, 10), (5, 1000), (3000, 17), (2, 3, 4, 6)]


@pytest.mark.parametrize("shape", ROWS)
@pytest.mark.parametrize("special", [False, True])
def test_softmax_and_its_logarithm(shape: tuple[int, ...], special: bool) -> None:
    x, g = numbers(*shape), numbers(*shape, seed=1)
    if special:
        x.reshape(-1, shape[-1])[0, 0], x.reshape(-1, shape[-1])[-1, -1] = math.inf, math.nan
        x[..., 0] = np.where(np.isnan(x[..., 0]), x[..., 0], -math.inf)
    with np.errstate(all="ignore"):
        for axis in (-1, x.ndim - 1, 0):
            y, wanted = cpu.log_softmax(x, axis), reference.log_softmax(x.astype(np.float64), axis)
            np.testing.assert_allclose(y, wanted, rtol=2e-6, atol=2e-6)
            found, wanted = cpu.log_softmax_grad(g, y, axis), reference.log_softmax_grad(g, y, axis)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
            y = cpu.softmax(x, axis)
            found, wanted = cpu.softmax_grad(g, y, axis), reference.softmax_grad(g, y, axis)
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (6, 4), (3, 4, 10), (3000, 34), (0, 4), (4, 0)])
@pytest.mark.parametrize("axis", [0, -1, 1])
def test_glu(shape: tuple[int, ...], axis: int) -> None:
    x = numbers(*shape)
    if axis >= x.ndim or x.shape[axis] % 2:
        for table in (reference, cpu):
            with pytest.raises((ValueError, IndexError)):
                table.glu(x, axis)
        return
    wanted = reference.glu(x, axis)
    np.testing.assert_allclose(cpu.glu(x, axis), wanted, rtol=1e-6, atol=1e-7, strict=True)
    g = numbers(*wanted.shape, seed=1)
    wanted = reference.glu_grad(g, x, axis)
    np.testing.assert_allclose(cpu.glu_grad(g, x, axis), wanted, rtol=1e-5, atol=5e-6, strict=True)


# ---- one's own


@inner
def _twice_exp(x):
    return exp(x) + exp(x)


@inner
def _of_twice_exp(y):
    return y


def test_an_activation_of_ones_own(monkeypatch: Any) -> None:
    monkeypatch.setattr(override, "_ACTIVATIONS", dict(override._ACTIVATIONS))
    for kind in ("values", "gradients"):  # taken away again at the end
        monkeypatch.setattr(override, f"_own_twice_exp_{kind}", None, raising=False)
    override.compiled_activation("own.twice_exp", _twice_exp, _of_twice_exp)
    x, g = numbers(40, 3), numbers(40, 3, seed=1)
    y = cpu.activate(x, "own.twice_exp")
    np.testing.assert_allclose(y, 2 * np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(cpu.activate_grad(g, y, "own.twice_exp"), g * y)
