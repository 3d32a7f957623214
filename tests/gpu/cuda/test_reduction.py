"""Sums, means, bounds and penalties on the GPU's kernels, over any axes, long and short ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, reference, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import reduction, regularizer

SHAPES = [
    *((1,), (1, 1), (7,), (40, 3), (5, 64), (2, 3, 4, 5), (130, 33), (70, 1, 2), (600, 2), (3, 1200), (17_000,)),
    *((2, 700, 5), (9000, 3), (1, 600, 40), (3, 2, 1500), (66, 2, 3, 2), (2, 20_000)),
]


@st.composite
def shapes_and_axes(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(st.sampled_from(SHAPES))
    several = st.sets(st.integers(-len(shape), len(shape) - 1), min_size=1).map(lambda axes: tuple(sorted(axes)))
    axis = draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1), several))
    valid = not isinstance(axis, tuple) or len({i % len(shape) for i in axis}) == len(axis)
    return shape, axis if valid else None


@pytest.mark.parametrize("dtype", DTYPES)
@given(shapes_and_axes(), st.booleans(), st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_any_axes(dtype: str, which: Any, keepdims: bool, special: float | None) -> None:
    shape, axis = which

    def run(k: Kernels) -> list[Any]:
        x = np.round(numbers(0, *shape, low=0, high=1.0).astype("float64"), 2)  # equal ones too
        if special is not None:
            x.flat[x.size // 2] = special
        x = k.to_device(x.astype(numbers(0, 1, dtype=dtype).dtype))
        y = k.average(x, axis, keepdims)
        found = [k.total(x, axis, keepdims), k.total(x, axis, keepdims, out=k.empty(y.shape, x.dtype)), y]
        return [*found, *[k.extreme(x, axis, keepdims, largest) for largest in (True, False)]]

    same(run, {"totals", "largest", "smallest"})


@pytest.mark.parametrize("dtype", DTYPES)
@given(shapes_and_axes(), st.booleans())
def test_gradients_of_bounds(dtype: str, which: Any, equal: bool) -> None:
    shape, axis = which
    axes = (
        tuple(range(len(shape)))
        if axis is None
        else tuple(sorted({i % len(shape) for i in np.atleast_1d(axis).tolist()}))
    )

    def run(k: Kernels) -> list[Any]:
        x = k.to_device((np.round(numbers(0, *shape) * 4) / 4).astype(numbers(0, 1, dtype=dtype).dtype))
        y = (
            k.extreme(x, axes, True)
            if equal
            else k.to_device(numbers(1, *[1 if i in axes else n for i, n in enumerate(shape)], dtype=dtype))
        )
        g = k.to_device(numbers(2, *y.shape, dtype=dtype))
        return [k.extreme_grad(g, x, y, axes)]

    same(run, {"extreme_grad"} if axes[-1] - axes[0] == len(axes) - 1 else None)


@pytest.mark.parametrize("shape", [(300_001,), (3, 70_001), (1000, 40, 7), (7, 1000, 40), (60_000, 3)])
def test_long_sums_keep_their_digits(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    for axis in (None, -1, 0, len(shape) // 2, tuple({0, len(shape) - 1})):
        found = gpu.to_host(gpu.total(gpu.to_device(x), axis))
        np.testing.assert_allclose(found, x.sum(axis=axis, dtype=np.float64), rtol=3e-7)


def test_numbers_of_two_bytes_are_counted_further_than_they_go() -> None:
    x = gpu.to_device(np.ones((3000, 3), np.float16))
    np.testing.assert_array_equal(gpu.to_host(gpu.total(x, 0)), [3000] * 3)
    np.testing.assert_array_equal(gpu.to_host(gpu.average(x * 60, 0)), [60] * 3)


@pytest.mark.parametrize("axis", [5, -4, (0, 0), (1, -2), ()])
def test_other_axes_are_the_references(axis: Any) -> None:
    x = np.ones((2, 3, 4), np.float32)
    for name in ("total", "average", "extreme"):
        if axis == ():
            found = getattr(gpu, name)(gpu.to_device(x), axis)
            np.testing.assert_array_equal(gpu.to_host(found), getattr(reference, name)(x, axis))
            continue
        with pytest.raises(ValueError):
            getattr(gpu, name)(gpu.to_device(x), axis)


def test_a_buffer_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError):
        gpu.total(gpu.to_device(numbers(0, 3, 70, 4)), 1, out=gpu.empty((4, 4), np.dtype("float32")))


@case(reduction._SOURCE)
def reductions(k: Kernels) -> list[Any]:
    found: list[Any] = []
    for shape, axes in (((3, 40), (1,)), ((1200, 33), (0,)), ((2, 70, 5), (1,))):
        x = k.to_device(numbers(0, *shape))
        y = k.extreme(x, axes, True)
        found += [k.total(x, axes), y, k.extreme(x, axes, largest=False), k.extreme_grad(y, x, y, axes)]
    return found


# ---- penalties

FACTORS = st.sampled_from([0.0, 1e-4, 0.5])


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    shape=st.sampled_from([(1,), (7, 3), (700, 11), (40_000,)]),
    l1=FACTORS,
    l2=FACTORS,
    into=st.booleans(),
    special=st.sampled_from([None, math.nan, math.inf]),
)
def test_penalties(dtype: str, shape: tuple[int, ...], l1: float, l2: float, into: bool, special: float | None) -> None:
    def run(k: Kernels) -> list[Any]:
        x = numbers(0, *shape, low=-0.1, high=0.1, dtype=dtype)
        x.reshape(-1)[::3] = 0
        if special is not None:
            x.reshape(-1)[-1] = special
        x, g = k.to_device(x), k.to_device(np.asarray(numbers(1, dtype=dtype)))
        return [k.penalty(x, l1, l2), k.penalty_grad(g, x, l1, l2, k.empty(x.shape, x.dtype) if into else None)]

    with np.errstate(all="ignore"):
        same(run, {"norms", "penalty", "penalty_grad"})


@case(regularizer._SOURCE)
def penalties(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(0, 70, 70))
    return [g := k.penalty(x, 0.1, 0.2), k.penalty_grad(g, x, 0.1, 0.2)]
