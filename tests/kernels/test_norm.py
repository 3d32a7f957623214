"""Normalisation kernels: formulas in float64, central differences, compiled kernels against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import reference_table, table_of

reference, cpu = reference_table(), table_of("cpu")

EPSILON = 1e-3
KINDS = ["batch", "batch_masked", "layer", "rms"]
SIZES = [(0, 3), (1, 1), (1, 5), (7, 3), (33, 17), (300, 67), (3000, 3)]


def problem(rows: int, features: int, dtype: Any = np.float64, gamma: bool = True, beta: bool = True) -> tuple:
    rng = np.random.default_rng(rows + features)
    far = (np.arange(features) % 2 - 0.5) * 7  # no row is nearly constant: its normal form would have few digits
    x = (rng.standard_normal((rows, features)) + 5 + far).astype(dtype)
    mask = (rng.random(rows) < 0.7).astype(dtype)
    weight, shift = rng.standard_normal((2, features)).astype(dtype)
    return x, weight if gamma else None, shift if beta else None, mask


def forward(module: Any, kind: str, x: Any, gamma: Any, beta: Any, mask: Any, out: Any = None) -> tuple:
    if kind == "rms":
        return module.rms_norm(x, gamma, EPSILON, out=out)
    if kind == "layer":
        return module.layer_norm(x, gamma, beta, EPSILON, out=out)
    return module.batch_norm(x, gamma, beta, EPSILON, mask if kind == "batch_masked" else None, out=out)


def backward(module: Any, kind: str, g: Any, residual: Any, **options: Any) -> tuple:
    return getattr(module, f"{kind.split('_')[0]}_norm_grad")(g, residual, **options)


def formula(kind: str, x: Any, gamma: Any, beta: Any, mask: Any) -> Any:
    rows = x[mask > 0] if kind == "batch_masked" else x
    axis = 0 if kind.startswith("batch") else 1
    mean: Any
    if rows.size == 0:
        mean = variance = np.zeros((1, x.shape[1]))
    else:
        mean = rows.mean(axis, keepdims=True)
        variance = rows.var(axis, keepdims=True)
    if kind == "rms":
        mean, variance = 0, (x * x).mean(1, keepdims=True)
    y = (x - mean) / np.sqrt(variance + EPSILON)
    y = y if gamma is None else y * gamma
    return y if beta is None or kind == "rms" else y + beta


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 6), features=st.integers(1, 9), gamma=st.booleans(), beta=st.booleans())
def test_forward_is_the_formula(kind: str, rows: int, features: int, gamma: bool, beta: bool) -> None:
    arguments = problem(rows, features, gamma=gamma, beta=beta)
    x = arguments[0].copy()
    y, *statistics, _ = forward(reference, kind, *arguments)
    np.testing.assert_allclose(y, formula(kind, *arguments), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(arguments[0], x)  # untouched
    out = np.empty_like(x)
    x, gamma, beta, mask = arguments
    assert forward(reference, kind, x, gamma, beta, mask, out)[0] is out
    np.testing.assert_array_equal(out, y)
    if kind == "batch" and rows:
        np.testing.assert_allclose(statistics, [x.mean(0), x.var(0)], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("affine", [True, False])
def test_gradients_are_central_differences(kind: str, affine: bool) -> None:
    arguments = problem(6, 4, gamma=affine, beta=affine)
    x, gamma, beta, mask = arguments
    mask *= 0.5  # fractional weights
    y, *_, residual = forward(reference, kind, *arguments)
    g = np.random.default_rng(3).standard_normal(y.shape)
    step = 1e-6
    gradients = backward(reference, kind, g, residual)
    for array, gradient in zip((x, gamma, beta), gradients, strict=False):
        if array is None:
            assert gradient is None
            continue
        expected = np.zeros_like(array)
        for where in np.ndindex(array.shape):
            value = array[where]
            array[where] = value + step
            high = (forward(reference, kind, *arguments)[0] * g).sum()
            array[where] = value - step
            low = (forward(reference, kind, *arguments)[0] * g).sum()
            array[where] = value
            expected[where] = (high - low) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("module", [reference, cpu])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_to_their_destinations(module: Any, dtype: Any, kind: str) -> None:
    arguments = problem(6, 4, dtype)
    y, *_, residual = forward(module, kind, *arguments)
    g = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
    expected = backward(module, kind, g, residual)
    outs = (np.full(4, 7.0, dtype), np.full(4, 7.0, dtype))
    gradients = backward(module, kind, g, residual, needs_x=False, outs=outs)
    assert gradients[0] is None
    for gradient, out, wanted in zip(gradients[1:], outs, expected[1:], strict=False):
        assert gradient is out
        np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strided", [False, True])
def test_override_equals_reference(kind: str, dtype: Any, affine: bool, size: tuple[int, int], strided: bool) -> None:
    x, gamma, beta, mask = problem(*size, dtype, gamma=affine, beta=affine)
    if strided:
        x = np.repeat(x, 2, axis=1)[:, ::2]
    tolerance: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    exact = [None if array is None else array.astype(np.float64) for array in (x, gamma, beta, mask)]
    *expected, expected_residual = forward(reference, kind, *exact)
    *results, residual = forward(cpu, kind, x, gamma, beta, mask)
    g = np.random.default_rng(3).standard_normal(size).astype(dtype)
    expected += backward(reference, kind, g.astype(np.float64), expected_residual)
    results += backward(cpu, kind, g, residual)
    results += backward(reference, kind, g, residual)  # residuals are interchangeable
    expected += expected[-(3 if kind != "rms" else 2) :]
    for result, wanted in zip(results, expected, strict=True):
        if wanted is None:
            assert result is None
            continue
        assert result.dtype == dtype
        np.testing.assert_allclose(result, wanted, **tolerance)


MANY = [(0, 3), (1, 1), (5, 3), (33, 67), (4000, 7), (300, 600)]


def compare(results: Any, expected: Any, dtype: Any, tolerance: float) -> None:
    for result, wanted in zip(results, expected, strict=True):
        if wanted is None:
            assert result is None
            continue
        assert result.dtype == dtype
        largest = max(1.0, abs(wanted).max(initial=0))
        np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", MANY)
@pytest.mark.parametrize("affine", [True, False])
def test_given_statistics(dtype: Any, size: tuple[int, int], affine: bool) -> None:
    x, gamma, beta, _ = problem(*size, dtype, gamma=affine, beta=affine)
    rng = np.random.default_rng(1)
    mean, variance = rng.standard_normal(size[1]).astype(dtype), rng.random(size[1]).astype(dtype)
    g = rng.standard_normal(size).astype(dtype)
    given_ = (x, mean, variance, gamma, beta)
    exact = [None if one is None else one.astype(np.float64) for one in given_]
    wanted, exact_residual = reference.fixed_norm(*exact, EPSILON)
    found, residual = cpu.fixed_norm(*given_, EPSILON)
    tolerance = 2e-6 if dtype == np.float32 else 1e-12
    compare([found], [wanted], dtype, 10 * tolerance)
    for needs in ((True, True), (True, False), (False, True)):
        wanted = reference.fixed_norm_grad(g.astype(np.float64), exact_residual, needs)
        compare(cpu.fixed_norm_grad(g, residual, needs), wanted, dtype, 10 * tolerance)
    outs = tuple(np.full((2, size[1]), 7, dtype))
    assert all(one is out for one, out in zip(cpu.fixed_norm_grad(g, residual, outs=outs)[1:], outs, strict=True))
    out = np.empty_like(x)
    assert cpu.fixed_norm(*given_, EPSILON, out=out)[0] is out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4), (1, 1, 4), (3, 5, 8), (7, 130, 32), (40, 100, 12), (2, 3, 1)])
@pytest.mark.parametrize("groups", [1, 4, -1])
@pytest.mark.parametrize("affine", [True, False])
def test_groups(dtype: Any, shape: tuple[int, int, int], groups: int, affine: bool) -> None:
    channels = shape[-1]
    groups = channels if groups < 0 or channels == 1 else groups
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + 5 + 3 * np.arange(channels)).astype(dtype)
    gamma, beta = rng.standard_normal((2, channels)).astype(dtype) if affine else (None, None)
    g = rng.standard_normal(shape).astype(dtype)
    exact = [None if one is None else one.astype(np.float64) for one in (x, gamma, beta)]
    wanted, exact_residual = reference.group_norm(*exact, groups, EPSILON)
    found, residual = cpu.group_norm(x, gamma, beta, groups, EPSILON)
    tolerance = 3e-5 if dtype == np.float32 else 1e-9
    compare([found], [wanted], dtype, tolerance)
    for needs_x in (True, False):
        wanted = reference.group_norm_grad(g.astype(np.float64), exact_residual, needs_x)
        compare(cpu.group_norm_grad(g, residual, needs_x), wanted, dtype, 10 * tolerance)
        compare(reference.group_norm_grad(g, residual, needs_x), wanted, dtype, 10 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (7, 5), (3000, 17), (5, 20_000)])
def test_unit(dtype: Any, shape: tuple[int, int]) -> None:
    x, g = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    x[1:2] = 0
    wanted, exact_residual = reference.unit_norm(x.astype(np.float64), 1e-12)
    found, residual = cpu.unit_norm(x, 1e-12)
    tolerance = 2e-6 if dtype == np.float32 else 1e-12
    compare([found], [wanted], dtype, tolerance)
    wanted = reference.unit_norm_grad(g.astype(np.float64), exact_residual)
    compare([cpu.unit_norm_grad(g, residual)], [wanted], dtype, 10 * tolerance)


def test_vectors_of_another_length_are_left_to_the_reference() -> None:
    x, one, many = np.ones((5, 4), np.float32), np.ones(1, np.float32), np.ones(3, np.float32)
    calls = {
        "layer_norm": lambda k, v: k.layer_norm(x, v, None, EPSILON),
        "rms_norm": lambda k, v: k.rms_norm(x, v, EPSILON),
        "batch_norm": lambda k, v: k.batch_norm(x, None, v, EPSILON),
        "fixed_norm": lambda k, v: k.fixed_norm(x, v, one, None, None, EPSILON),
        "group_norm": lambda k, v: k.group_norm(x[None], v, None, 2, EPSILON),
    }
    for call in calls.values():
        np.testing.assert_array_equal(call(cpu, one)[0], call(reference, one)[0])
        with pytest.raises(ValueError):
            call(cpu, many)
    with pytest.raises(ValueError):
        cpu.group_norm(x[None], None, None, 3, EPSILON)


LONG = [(50_001, 3), (200_003, 1), (1031, 70), (257, 513), (7, 20_011), (65_536, 2)]


LONG_CASES = [(kind, size) for size in LONG for kind in ("batch", "layer", "rms") if kind != "layer" or size[1] > 2]


@pytest.mark.parametrize(("kind", "size"), LONG_CASES)  # the normal form of one or two values does not depend on them
def test_long_matrices_in_several_parts(kind: str, size: tuple[int, int]) -> None:
    x, gamma, beta, mask = problem(*size, np.float32)
    g = np.random.default_rng(3).standard_normal(size).astype(np.float32)
    guarded = np.full((size[0] + 2, size[1]), 77, np.float32)
    y, *statistics, residual = forward(cpu, kind, x, gamma, beta, mask, out=guarded[1:-1])
    assert y.base is guarded and (guarded[0] == 77).all() and (guarded[-1] == 77).all()
    exact = [array.astype(np.float64) for array in (x, gamma, beta, mask)]
    wanted, *exact_statistics, exact_residual = forward(reference, kind, *exact)
    gradients = backward(cpu, kind, g, residual)
    wanted_gradients = backward(reference, kind, g.astype(np.float64), exact_residual)
    for found, expected in zip(
        (y, *statistics, *gradients), (wanted, *exact_statistics, *wanted_gradients), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6 * abs(expected).max())


@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_what_is_not_a_number_stays_in_its_column_or_row(kind: str) -> None:
    x, gamma, beta, mask = problem(3001, 20, np.float32)
    g = np.ones_like(x)
    x[1000, 3], x[2000, 17] = np.nan, np.nan
    y, *_, residual = forward(cpu, kind, x, gamma, beta, mask)
    g_x = backward(cpu, kind, g, residual)[0]
    hit = np.zeros(x.shape, bool)
    hit[(slice(None), [3, 17]) if kind == "batch" else [1000, 2000]] = True
    np.testing.assert_array_equal(np.isnan(y), hit)
    np.testing.assert_array_equal(np.isnan(g_x), hit)


@pytest.mark.parametrize("first", [1e4, 0.0])
@pytest.mark.parametrize("rows", [1000, 200_000])
def test_a_mean_far_from_zero_costs_no_digits_of_the_variance(rows: int, first: float) -> None:
    x = (np.random.default_rng(0).standard_normal((rows, 5)) + 1e4).astype(np.float32)
    x[0] = first
    exact = x.astype(np.float64)
    y, mean, variance, _ = cpu.batch_norm(x, None, None, EPSILON)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-4)
    wanted = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + EPSILON)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=2e-3)  # half a step of float32 at 1e4 in the mean


def test_a_constant_column_has_no_variance() -> None:
    x = np.full((5000, 7), 12345.678, np.float32)
    y, mean, variance, _ = cpu.batch_norm(x, None, None, EPSILON)
    assert (mean == x[0]).all() and (variance >= 0).all() and (variance < 1e-6).all() and (y == 0).all()


def test_statistics_of_many_rows_far_from_zero_stay_accurate() -> None:
    x = (np.random.default_rng(0).standard_normal((200_000, 4)) + 100).astype(np.float32)
    _, mean, variance, _ = cpu.batch_norm(x, None, None, EPSILON)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-5)


def test_statistics_of_one_number_for_all_channels() -> None:
    """They broadcast, which machine code does not know: it would read past their end."""
    x, g = (np.random.default_rng(seed).normal(size=(6, 5)).astype("float32") for seed in (0, 1))
    one = np.array([0.25], "float32")
    found = []
    for k in (reference, cpu):
        y, residual = k.fixed_norm(x, one, one + 1, None, None, 1e-3)
        found.append((y, *k.fixed_norm_grad(g, residual)))
    for expected, result in zip(*found, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
