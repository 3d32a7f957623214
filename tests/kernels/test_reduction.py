"""Sums, means and bounds over some axes on the CPU against sums in float64 and against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras import kernels
from minikeras.kernels.table import Kernels, reference_table

pytestmark = pytest.mark.skipif(kernels.active_device() != "cpu", reason="the kernels of the CPU")
cpu, reference = Kernels(np, "cpu"), reference_table()
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)
big = st.sampled_from([(3, 700, 5), (2, 65, 64), (4, 5000), (2, 30, 40, 3), (1, 3000, 1), (40, 3, 500)])


@st.composite
def arrays_and_axes(draw):
    shape = draw(st.one_of(shapes, big))
    first = draw(st.integers(0, len(shape) - 1))
    end = draw(st.integers(first + 1, len(shape)))
    axes = tuple(draw(st.permutations([i - draw(st.sampled_from([0, len(shape)])) for i in range(first, end)])))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape).astype(np.float32)
    x = np.round(x, draw(st.sampled_from([0, 1, 6])))  # equal ones too
    if draw(st.booleans()):
        x.flat[draw(st.integers(0, x.size - 1))] = draw(st.sampled_from([math.nan, math.inf, -math.inf, 1e-42]))
    return x, axes[0] if len(axes) == 1 and draw(st.booleans()) else axes


@settings(max_examples=150, deadline=None)
@given(arrays_and_axes(), st.booleans(), st.booleans())
def test_reductions_over_neighbouring_axes(given_: tuple, keepdims: bool, strided: bool) -> None:
    x, axis = given_
    if strided:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    wide, count = x.astype(np.float64), x.size // max(x.sum(axis=axis).size, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        for found, wanted, scale in (
            (cpu.total(x, axis, keepdims), wide.sum(axis=axis, keepdims=keepdims), count),
            (cpu.average(x, axis, keepdims), wide.mean(axis=axis, keepdims=keepdims), 1),
        ):
            assert found.dtype == np.float32 and found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=3e-6 * scale)
        for largest in (True, False):
            y = cpu.extreme(x, axis, keepdims, largest)
            np.testing.assert_array_equal(y, reference.extreme(x, axis, keepdims, largest))
            assert y.dtype == np.float32
        bound = cpu.extreme(x, axis, True)
        axes = tuple(sorted(i % x.ndim for i in np.atleast_1d(axis).tolist()))
        g = np.random.default_rng(5).normal(size=bound.shape).astype(np.float32)
        for y in (bound, bound + 1):  # none is equal to that
            np.testing.assert_array_equal(
                cpu.extreme_grad(g, x, y, axes), reference.extreme_grad(g, x, y, axes), strict=True
            )


@pytest.mark.parametrize("axis", [5, -4, (0, 0), (1, -2)])
def test_axes_that_are_refused(axis: object) -> None:
    x = np.ones((2, 3, 4), np.float32)
    for name in ("total", "average", "extreme"):
        with pytest.raises(ValueError):
            getattr(cpu, name)(x, axis)


def test_a_sum_into_a_buffer() -> None:
    x, out = np.ones((3, 70, 4), np.float32), np.empty((3, 4), np.float32)
    assert cpu.total(x, 1, out=out) is out and (out == 70).all()
    with pytest.raises(ValueError):
        cpu.total(x, 1, out=np.empty((4, 4), np.float32))
