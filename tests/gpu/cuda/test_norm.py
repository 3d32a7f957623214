"""Normalisation on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, reference, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import norm as override

EPSILON = 1e-3
EACH_TYPE = pytest.mark.parametrize("dtype", DTYPES)
# less than a block and several tiles of rows; columns in one block and several, some of them beyond the last
ROWS, COLUMNS = st.sampled_from([1, 2, 7, 33, 300, 700]), st.sampled_from([1, 3, 8, 10, 33, 64])
FEATURES = st.sampled_from([1, 3, 5, 33, 100, 129, 300])
ROWS_ALONE = ["norm_rows", "norm_rows_grad"]


def problem(k: Kernels, rows: int, columns: int, dtype: str, gamma: bool = True, beta: bool = True) -> list[Any]:
    """x, gamma, beta and g; no row is nearly constant, for its normal form would have few digits."""
    far = (np.arange(columns) % 2 - 0.5) * 4
    x = (numbers(0, rows, columns) + far).astype(numbers(0, 1, dtype=dtype).dtype)
    arrays = [k.to_device(one) for one in (x, numbers(1, columns, dtype=dtype), numbers(2, columns, dtype=dtype))]
    g = k.to_device(numbers(3, rows, columns, dtype=dtype))
    return [arrays[0], arrays[1] if gamma else None, arrays[2] if beta else None, g]


@EACH_TYPE
@given(ROWS, COLUMNS, st.booleans(), st.sampled_from([None, "bool", "float32"]))
def test_batches(dtype: str, rows: int, columns: int, affine: bool, mask: str | None) -> None:
    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, rows, columns, dtype, affine, affine)
        counted = None
        if mask is not None:
            counted = k.to_device((np.random.default_rng(rows).integers(0, 3, rows) / 2).astype(mask))
        *found, residual = k.batch_norm(x, gamma, beta, EPSILON, counted)
        found += k.batch_norm_grad(g, residual)
        return [*found, *k.batch_norm_grad(g, residual, needs_x=False), residual[3], residual[4]]

    same(run, {"column_moments", "join_moments", "normalize_columns", "batch_slopes"})


@EACH_TYPE
@given(ROWS, COLUMNS, st.booleans(), st.sampled_from([(True, True), (True, False), (False, True)]))
def test_statistics_that_are_given(dtype: str, rows: int, columns: int, affine: bool, needs: tuple[bool, bool]) -> None:
    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, rows, columns, dtype, affine, affine)
        mean, variance = (k.to_device(numbers(seed, columns, low=0.5, dtype=dtype)) for seed in (4, 5))
        y, residual = k.fixed_norm(x, mean, variance, gamma, beta, EPSILON)
        return [y, *k.fixed_norm_grad(g, residual, needs), residual[4]]

    same(run, {"normalize_columns", "column_slopes"})


@EACH_TYPE
@given(ROWS, FEATURES, st.booleans(), st.booleans())
def test_rows(dtype: str, rows: int, features: int, gamma: bool, beta: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        x, *affine, g = problem(k, min(rows, 40), features, dtype, gamma, beta)
        y, residual = k.layer_norm(x, *affine, EPSILON)
        found = [y, *k.layer_norm_grad(g, residual), *k.layer_norm_grad(g, residual, needs_x=False)]
        y, residual = k.rms_norm(x, affine[0], EPSILON)
        return [*found, y, *k.rms_norm_grad(g, residual)]

    same(run, {*ROWS_ALONE})


def test_rows_and_groups_of_more_numbers_than_a_block_has_threads() -> None:
    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, 2, 5000, "float32")
        y, residual = k.layer_norm(x, gamma, beta, EPSILON)
        found = [y, *k.layer_norm_grad(g, residual)]
        x, gamma, beta, g = problem(k, 700, 24, "float32")
        y, residual = k.group_norm(x[None], gamma, beta, 2, EPSILON)
        return [*found, y, *k.group_norm_grad(g[None], residual)]

    same(run, {*ROWS_ALONE})


SHAPES = [(1, 1, 4), (3, 5, 8), (7, 130, 4), (2, 100, 12), (2, 3, 1), (5, 1, 24)]


@EACH_TYPE
@given(st.sampled_from(SHAPES), st.sampled_from([1, 2, 4, None]), st.booleans())
def test_groups(dtype: str, shape: tuple[int, int, int], groups: int | None, affine: bool) -> None:
    samples, positions, channels = shape

    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, samples * positions, channels, dtype, affine, affine)
        of = channels if groups is None or channels == 1 else groups
        y, residual = k.group_norm(x.reshape(shape), gamma, beta, of, EPSILON)
        g = g.reshape(shape)
        return [y, *k.group_norm_grad(g, residual), *k.group_norm_grad(g, residual, needs_x=False)]

    same(run, {*ROWS_ALONE})


@EACH_TYPE
@given(st.integers(1, 40), FEATURES)
def test_unit(dtype: str, rows: int, features: int) -> None:
    def run(k: Kernels) -> list[Any]:
        x = numbers(0, rows, features, dtype=dtype)
        x[1:2] = 0
        y, residual = k.unit_norm(k.to_device(x), 1e-3)
        return [y, k.unit_norm_grad(k.to_device(numbers(1, rows, features, dtype=dtype)), residual)]

    same(run, {"unit_rows", "unit_rows_grad"})


CALLS: dict[str, Any] = {
    "batch": lambda k, x, gamma, beta, out: k.batch_norm(x, gamma, beta, EPSILON, out=out),
    "masked": lambda k, x, gamma, beta, out: k.batch_norm(x, gamma, beta, EPSILON, k.to_device(np.ones(33)), out=out),
    "fixed": lambda k, x, gamma, beta, out: k.fixed_norm(x, beta, gamma * gamma, gamma, beta, EPSILON, out=out),
    "layer": lambda k, x, gamma, beta, out: k.layer_norm(x, gamma, beta, EPSILON, out=out),
    "rms": lambda k, x, gamma, beta, out: k.rms_norm(x, gamma, EPSILON, out=out),
}
GRADIENTS = {"masked": "batch"}


@pytest.mark.parametrize("kind", CALLS)
def test_results_go_to_their_destinations(kind: str) -> None:
    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, 33, 10, "float32")
        out, *outs = (k.to_device(np.full(shape, 7, "float32")) for shape in ((33, 10), 10, 10))
        y, *_, residual = CALLS[kind](k, x, gamma, beta, out)
        g = k.xp.broadcast_to(g[:1], g.shape)  # as it comes from a sum over rows
        gradients = getattr(k, f"{GRADIENTS.get(kind, kind)}_norm_grad")(g, residual, outs=tuple(outs))
        assert y is out and all(one is wanted for one, wanted in zip(gradients[1:], outs, strict=False))
        return [y, *gradients]

    same(run, {"column_slopes", "join_slopes"})


@pytest.mark.parametrize("kind", CALLS)
def test_residuals_are_those_of_the_reference(kind: str) -> None:
    x, gamma, beta, _ = problem(gpu, 33, 10, "float32")
    arrays = [gpu.to_host(one) for one in (x, gamma, beta)]
    *_, residual = CALLS[kind](gpu, x, gamma, beta, None)
    *_, wanted = CALLS[kind](reference, *arrays, None)
    assert len(residual) == len(wanted)
    for one, other in zip(residual, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(gpu.to_host(one) if hasattr(one, "get") else one, other, rtol=1e-5)


@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_what_is_not_a_number_stays_in_its_column_or_row(kind: str) -> None:
    x, gamma, beta, g = problem(gpu, 301, 20, "float32")
    x[100, 3], x[200, 17] = np.nan, np.nan
    y, *_, residual = CALLS[kind](gpu, x, gamma, beta, None)
    g_x = getattr(gpu, f"{kind}_norm_grad")(g, residual)[0]
    hit = np.zeros(x.shape, bool)
    hit[(slice(None), [3, 17]) if kind == "batch" else [100, 200]] = True
    np.testing.assert_array_equal(np.isnan(gpu.to_host(y)), hit)
    np.testing.assert_array_equal(np.isnan(gpu.to_host(g_x)), hit)


@pytest.mark.parametrize("first", [1e4, 0.0])
@pytest.mark.parametrize("rows", [1000, 20_000])
def test_a_mean_far_from_zero_costs_no_digits_of_the_variance(rows: int, first: float) -> None:
    x = (np.random.default_rng(0).standard_normal((rows, 5)) + 1e4).astype(np.float32)
    x[0] = first
    exact = x.astype(np.float64)
    y, mean, variance = map(gpu.to_host, gpu.batch_norm(gpu.to_device(x), None, None, EPSILON)[:3])
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-6)
    wanted = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + EPSILON)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-3)  # half a step of float32 at 1e4 in the mean


def test_a_constant_column_has_no_variance() -> None:
    x = np.full((500, 7), 12345.678, np.float32)
    y, mean, variance = map(gpu.to_host, gpu.batch_norm(gpu.to_device(x), None, None, EPSILON)[:3])
    assert (mean == x[0]).all() and not variance.any() and not y.any()


def test_a_batch_that_is_masked_altogether() -> None:
    def run(k: Kernels) -> list[Any]:
        x, gamma, beta, g = problem(k, 33, 10, "float32")
        *found, residual = k.batch_norm(x, gamma, beta, EPSILON, k.to_device(np.zeros(33, bool)))
        return [*found, *k.batch_norm_grad(g, residual)]

    # deviations of sqrt(1e-3) make everything 32 times as large
    same(run, {"column_moments", "batch_slopes"}, atol=1e-3)


def test_vectors_of_another_length_are_left_to_the_reference() -> None:
    def run(k: Kernels) -> list[Any]:
        x, one = k.to_device(numbers(0, 5, 4)), k.to_device(np.full(1, 2, "float32"))
        found = [k.layer_norm(x, one, None, EPSILON)[0], k.rms_norm(x, one, EPSILON)[0]]
        found += [k.batch_norm(x, None, one, EPSILON)[0], k.fixed_norm(x, one, one, None, None, EPSILON)[0]]
        residual = k.fixed_norm(x, one, one, None, None, EPSILON)[1]
        return [*found, k.group_norm(x[None], one, None, 2, EPSILON)[0], *k.fixed_norm_grad(x, residual)]

    same(run)


@case(override._COLUMNS)
def columns(k: Kernels) -> list[Any]:
    found = []
    for rows, features in ((700, 3), (300, 33)):
        x, gamma, beta, g = problem(k, rows, features, "float32")
        *results, residual = k.batch_norm(x, gamma, beta, EPSILON)
        found += [*results, *k.batch_norm_grad(g, residual)]
    return found


@case(override._ROWS)
def rows(k: Kernels) -> list[Any]:
    x, gamma, beta, g = problem(k, 5, 300, "float32")
    y, residual = k.layer_norm(x, gamma, beta, EPSILON)
    unit, of_unit = k.unit_norm(x, 1e-12)
    return [y, *k.layer_norm_grad(g, residual), unit, k.unit_norm_grad(g, of_unit)]
