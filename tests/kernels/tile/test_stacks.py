"""Products of stacks of matrices against NumPy's."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras.kernels import table_of
from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.cpu.tile import stacks

pytestmark = pytest.mark.skipif(not host.HAS_VECTORS, reason="the host has no vector registers that the tile knows")

cpu = table_of("cpu")
SHAPES = [
    ((5, 7, 9), (5, 9, 11)),
    ((70, 8, 3), (70, 3, 33)),
    ((2, 300, 40), (2, 40, 65)),
    ((3, 1, 16, 17), (4, 17, 31)),
    ((6, 16), (2, 3, 16, 8)),
    ((2, 4, 33, 1), (2, 4, 1, 8)),
]


def numbers(shape: tuple, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_values(left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0), numbers(right, 1)
    np.testing.assert_allclose(cpu.matmul(a, b), a.astype("float64") @ b, rtol=1e-4, atol=1e-5)
    turned_a = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    turned_b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    np.testing.assert_allclose(cpu.matmul(turned_a, turned_b), a.astype("float64") @ b, rtol=1e-4, atol=1e-5)
    spread = np.repeat(a, 3, axis=-1)[..., ::3]
    np.testing.assert_allclose(
        cpu.matmul(spread, b[..., ::-1]), a.astype("float64") @ b[..., ::-1], rtol=1e-4, atol=1e-5
    )


SIZES = st.sampled_from([1, 2, 3, 5, host.ROWS, host.LANES - 1, host.LANES, host.WIDTH + 1, 70])
STACKS = st.sampled_from([(), (1,), (3,), (2, 3), (2, 1), (1, 3)])


def laid(draw: Any, array: Any) -> Any:
    """The same numbers, somehow in memory; one of the last two axes is contiguous."""
    how = draw(
        st.sampled_from(["as it is", "turned", "first axes exchanged", "with gaps", "backwards", "within another"])
    )
    match how:
        case "turned":
            return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
        case "first axes exchanged":
            return np.ascontiguousarray(array.swapaxes(0, -2)).swapaxes(0, -2)
        case "with gaps":
            return np.repeat(array, 2, axis=0)[::2]
        case "backwards":
            return np.ascontiguousarray(array[::-1])[::-1]
        case "within another":
            return np.pad(array, [(1, 2)] * array.ndim, constant_values=np.nan)[(slice(1, -2),) * array.ndim]
    return array


@settings(max_examples=200, deadline=None)
@given(rows=SIZES, steps=SIZES, columns=SIZES, left=STACKS, right=STACKS, data=st.data())
def test_every_layout(rows: int, steps: int, columns: int, left: tuple, right: tuple, data: Any) -> None:
    a, b = numbers((*left, rows, steps), 0), numbers((*right, steps, columns), 1)
    exact, magnitude = a.astype("float64") @ b, abs(a).astype("float64") @ abs(b)
    found = stacks.stacked_product(laid(data.draw, a), laid(data.draw, b))
    assert found.shape == exact.shape and found.dtype == np.float32
    assert (abs(found - exact) <= (steps + 1) * 2.0**-24 * magnitude).all()


@pytest.mark.parametrize(
    ("left", "right"),
    [((7,), (2, 3, 7, 8)), ((2, 3, 9, 7), (7,)), ((7,), (7, 40)), ((50, 7), (7,)), ((1,), (1, 1)), ((1, 1), (1,))],
)
def test_a_vector_is_a_row_or_a_column(left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0), numbers(right, 1)
    found = stacks.stacked_product(a, b)
    np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-5, strict=True)
    np.testing.assert_array_equal(cpu.matmul(a, b), found)


@pytest.mark.parametrize(
    ("left", "right"),
    [((0, 8, 3), (0, 3, 9)), ((4, 8, 0), (4, 0, 9)), ((4, 0, 5), (4, 5, 9)), ((0, 3), (3, 9)), ((3,), (3,))],
)
def test_what_is_left_to_numpy(left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0), numbers(right, 1)
    assert stacks.stacked_product(a, b) is None
    np.testing.assert_allclose(cpu.matmul(a, b), a @ b, rtol=1e-5, strict=True)
    assert stacks.stacked_product(numbers((4, 6, 6), 0), numbers((4, 12, 12), 1)[:, ::2, ::2]) is None


def test_one_matrix_for_all_is_one_product() -> None:
    a, b = numbers((4, 5, 30, 20), 0), numbers((20, 40), 1)
    np.testing.assert_array_equal(cpu.matmul(a, b).reshape(-1, 40), cpu.gemm(a.reshape(-1, 20), b))
    np.testing.assert_array_equal(cpu.matmul(a, np.asfortranarray(b)), cpu.matmul(a, b))
    with patch.object(stacks, "_stack", None):  # not asked
        stacks.stack_plan.cache_clear()
        cpu.matmul(a, b)


@pytest.mark.parametrize(("left", "right"), [((64, 40, 50), (64, 50, 60)), ((40, 64, 50), (50, 60))])
def test_the_team_has_no_part_in_the_result(left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0).swapaxes(0, 1), numbers(right, 1)
    if b.ndim == 3:
        a = np.ascontiguousarray(a.swapaxes(0, 1))
    results = []
    for size in (1, 2, 5):
        with team_of(size):
            results.append(cpu.matmul(a, b))
    np.testing.assert_allclose(results[0], a @ b, rtol=1e-3, atol=1e-4)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("dtype", ["float64", "int32", "float16"])
def test_other_types(dtype: str) -> None:
    a, b = (numbers(shape, 0) * 10 for shape in ((5, 9, 8), (5, 8, 9)))
    assert np.array_equal(cpu.matmul(a.astype(dtype), b.astype(dtype)), a.astype(dtype) @ b.astype(dtype))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="multiplied"):
        cpu.matmul(numbers((4, 9, 8), 0), numbers((4, 7, 9), 0))
