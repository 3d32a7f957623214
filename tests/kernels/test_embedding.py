"""Table lookup and its gradient against loops over the indices."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras.kernels import reference_table, table_of

reference, cpu = reference_table(), table_of("cpu")
embedding, embedding_grad = reference.embedding, reference.embedding_grad
LOOKUPS = [embedding, cpu.embedding]
GRADIENTS = [embedding_grad, cpu.embedding_grad]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(), (0,), (1,), (5,), (2, 3), (2, 0), (2, 3, 2)]),
    rows=st.integers(1, 6),
    d=st.integers(1, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
    index_type=st.sampled_from([np.int32, np.int64, np.uint8]),
    strided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lookup_and_gradient(
    shape: tuple[int, ...], rows: int, d: int, dtype: Any, index_type: Any, strided: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((rows, d)).astype(dtype)
    indices = np.asarray(rng.integers(0, rows, shape)).astype(index_type)
    g = rng.standard_normal((*shape, d)).astype(dtype)
    if strided:
        table, g = np.asfortranarray(table), np.asfortranarray(g)
    y = embedding(table, indices)
    np.testing.assert_array_equal(cpu.embedding(table, indices), y)
    expected = np.zeros((rows, d))
    for where in np.ndindex(shape):
        np.testing.assert_array_equal(y[where], table[indices[where]])
        expected[indices[where]] += g[where]
    assert y.shape == (*shape, d) and y.dtype == dtype
    out = np.empty_like(y)
    for lookup in LOOKUPS:
        assert lookup(table, indices, out=out) is out
        np.testing.assert_array_equal(out, y)
    for gradient_of in GRADIENTS:
        gradient = gradient_of(g, indices, (rows, d))
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)
        for out in (np.full((rows, d), 7, dtype), np.full((rows, 2 * d), 7, dtype)[:, ::2]):
            assert gradient_of(g, indices, (rows, d), out=out) is out
            np.testing.assert_array_equal(out, gradient)


@pytest.mark.parametrize(("rows", "d", "count"), [(70_000, 1, 5_000), (701, 128, 3_000), (3, 30_001, 50), (900, 80, 0)])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_the_gradient_of_a_large_table(rows: int, d: int, count: int, index_type: Any) -> None:
    rng = np.random.default_rng(0)
    indices = (rows * rng.random(count) ** 3).astype(index_type)  # some rows often, others never
    g = rng.standard_normal((2, count, d)).astype(np.float32)[1]
    expected = embedding_grad(g, indices, (rows, d))
    for size in (1, 2, 3):
        with team_of(size):
            out = np.full((rows, d), 7, np.float32)
            assert cpu.embedding_grad(g, indices, (rows, d), out=out) is out
            np.testing.assert_array_equal(out, expected)
            strided = np.repeat(g, 2, axis=1)[:, ::2]
            np.testing.assert_array_equal(cpu.embedding_grad(strided, indices, (rows, d)), expected)


def test_a_large_lookup_is_shared() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((500, 100)).astype(np.float32)
    indices = rng.integers(0, 500, (40, 30)).astype(np.int32)
    expected = embedding(table, indices)
    for size in (1, 2, 3):
        with team_of(size):
            np.testing.assert_array_equal(cpu.embedding(table, indices), expected)
            indices[-1, -1] = 500
            with pytest.raises(IndexError, match="got 500"):
                cpu.embedding(table, indices)
            indices[-1, -1] = 3
            expected = embedding(table, indices)


@pytest.mark.parametrize("wrong", [-1, 4, 100])
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_index_out_of_range_is_refused(wrong: int, index_type: Any, dtype: Any) -> None:
    indices = np.array([[0, 3], [wrong, 1]], index_type)
    message = f"4 rows takes indices from 0 to 3, got {wrong};"
    for lookup, gradient_of in zip(LOOKUPS, GRADIENTS, strict=True):
        with pytest.raises(IndexError, match=message):
            lookup(np.zeros((4, 2), dtype), indices)
        with pytest.raises(IndexError, match=message):
            gradient_of(np.zeros((2, 2, 2), dtype), indices, (4, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_buffer_that_does_not_fit_is_refused(dtype: Any) -> None:
    table, indices = np.ones((4, 3), dtype), np.array([[0, 3], [2, 1]])
    other = {np.float32: np.float64, np.float64: np.float32}[dtype]

    def check(function: Any, first: Any, last: Any, shape: tuple[int, ...], wrong: tuple[int, ...]) -> None:
        for size, kind in [(wrong, dtype), (shape[::-1], dtype), *((shape, kind) for kind in (other, "f2", "i4"))]:
            out = np.full(size, 7, kind)
            said = f"of shape {shape} and type {np.dtype(dtype)} cannot be written to a buffer of shape {size} and type"
            with pytest.raises(ValueError, match=re.escape(f"{said} {out.dtype};")):
                function(first, indices, *last, out=out)
            assert (out == 7).all()

    for lookup in LOOKUPS:
        check(lookup, table, (), (2, 2, 3), (2, 3, 3))
    for gradient_of in GRADIENTS:
        check(gradient_of, np.ones((2, 2, 3), dtype), ((4, 3),), (4, 3), (3, 3))  # where row 3 would be beyond the end
        check(gradient_of, np.ones((2, 2, 3), dtype), ((4, 3),), (4, 3), (5, 3))  # where row 4 would keep its numbers
