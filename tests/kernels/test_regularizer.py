"""Penalties: the compiled passes against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k

reference, cpu = k.reference_table(), k.table_of("cpu")
FACTORS = st.sampled_from([0.0, 1e-4, 0.5])


@given(st.sampled_from([(1,), (7, 3), (0, 4), (700, 101)]), FACTORS, FACTORS, st.integers(0, 99))
def test_penalties(shape: tuple[int, ...], l1: float, l2: float, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    x.reshape(-1)[::3] = 0
    got, wanted = cpu.penalty(x, l1, l2), reference.penalty(x.astype("f8"), l1, l2)
    assert got.shape == () and got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    g, out = np.array(0.5, "float32"), np.empty_like(x)
    wanted = reference.penalty_grad(np.float64(0.5), x.astype("f8"), l1, l2)
    np.testing.assert_allclose(cpu.penalty_grad(g, x, l1, l2), wanted, rtol=1e-6)
    assert cpu.penalty_grad(g, x, l1, l2, out) is out
    np.testing.assert_allclose(out, wanted, rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30])
def test_weights_that_are_no_numbers(value: float) -> None:
    x = np.float32([1, value, 2])
    for l1, l2 in ((0.1, 0.0), (0.0, 0.1)):
        with np.errstate(over="ignore", invalid="ignore"):
            got, wanted = (table.penalty_grad(np.array(1, "f4"), x, l1, l2) for table in (cpu, reference))
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
            np.testing.assert_allclose(cpu.penalty(x, l1, l2), reference.penalty(x, l1, l2), rtol=1e-6)


def test_views() -> None:
    x = np.arange(12, dtype="float32").reshape(3, 4)
    assert cpu.penalty(x[:, ::2], 1.0, 0.0) == x[:, ::2].sum()
    np.testing.assert_array_equal(cpu.penalty_grad(np.array(1, "f4"), x.T, 0.0, 0.5), x.T)
