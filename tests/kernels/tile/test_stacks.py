"""Products of stacks of matrices against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minikeras.kernels import table_of
from minikeras.kernels.cpu import dense as override
from minikeras.kernels.cpu.compiler import host

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


@pytest.fixture
def stacked(monkeypatch: Any) -> list[tuple]:
    """What went through the stack; nothing is too small for it."""
    calls: list[tuple] = []
    function = override.stacked_product

    def noted(a: Any, b: Any) -> Any:
        calls.append((a.shape, b.shape))
        return function(a, b)

    monkeypatch.setattr(override, "_SMALL", 0)
    monkeypatch.setattr(override, "stacked_product", noted)
    return calls


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_values(stacked: list[tuple], left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0), numbers(right, 1)
    np.testing.assert_allclose(cpu.matmul(a, b), a.astype("float64") @ b, rtol=1e-4, atol=1e-5)
    turned_a = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    turned_b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    np.testing.assert_allclose(cpu.matmul(turned_a, turned_b), a.astype("float64") @ b, rtol=1e-4, atol=1e-5)
    spread = np.repeat(a, 3, axis=-1)[..., ::3]
    np.testing.assert_allclose(
        cpu.matmul(spread, b[..., ::-1]), a.astype("float64") @ b[..., ::-1], rtol=1e-4, atol=1e-5
    )
    assert len(stacked) == 2  # neither of the last axes of the mirrored one is contiguous


@pytest.mark.parametrize(
    ("left", "right"),
    [((0, 8, 3), (0, 3, 9)), ((4, 8, 0), (4, 0, 9)), ((4, 0, 5), (4, 5, 9)), ((3,), (2, 3, 9)), ((2, 9, 3), (3,))],
)
def test_empty_and_vectors(stacked: list[tuple], left: tuple, right: tuple) -> None:
    a, b = numbers(left, 0), numbers(right, 1)
    np.testing.assert_allclose(cpu.matmul(a, b), a @ b, rtol=1e-5)
    assert not stacked


def test_one_matrix_for_all_is_one_product(stacked: list[tuple]) -> None:
    a, b = numbers((4, 5, 30, 20), 0), numbers((20, 40), 1)
    np.testing.assert_allclose(cpu.matmul(a, b), a @ b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cpu.matmul(a, numbers((40, 20), 1).T), a @ numbers((40, 20), 1).T, rtol=1e-4, atol=1e-5)
    assert not stacked


@pytest.mark.parametrize("dtype", ["float64", "int32", "float16"])
def test_other_types(stacked: list[tuple], dtype: str) -> None:
    a, b = (numbers(shape, 0) * 10 for shape in ((5, 9, 8), (5, 8, 9)))
    assert np.array_equal(cpu.matmul(a.astype(dtype), b.astype(dtype)), a.astype(dtype) @ b.astype(dtype))
    assert not stacked


def test_shapes_that_do_not_fit(stacked: list[tuple]) -> None:
    with pytest.raises(ValueError, match="multiplied"):
        cpu.matmul(numbers((4, 9, 8), 0), numbers((4, 7, 9), 0))
