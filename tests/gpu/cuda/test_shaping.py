"""Arrays joined and cut on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, plain_gpu, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import shaping as override

KINDS = [*DTYPES, "int32", "int64", "uint8", "bool", "complex64", "complex128"]
SHAPES = st.lists(st.sampled_from([1, 2, 5, 40]), min_size=1, max_size=3)


def values(seed: int, shape: tuple[int, ...], kind: str) -> Any:
    return numbers(seed, *shape, dtype=kind) if kind in DTYPES else numbers(seed, *shape, low=-9, high=9).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@given(SHAPES, st.integers(0, 2), st.lists(st.sampled_from([0, 1, 3, 270]), min_size=1, max_size=3), st.booleans())
def test_joining_and_cutting(kind: str, shape: list[int], axis: int, lengths: list[int], gaps: bool) -> None:
    axis %= len(shape)

    def run(k: Kernels) -> list[Any]:
        arrays = []
        for place, length in enumerate(lengths):
            array = values(place, (*shape[:axis], length, *shape[axis + 1 :]), kind)
            given = k.to_device(np.asfortranarray(array) if gaps and place % 2 else array)
            arrays.append(given)
        joined = k.concatenate(arrays, axis)
        return [joined, *k.split(joined, np.cumsum(lengths)[:-1].tolist(), axis)]

    same(run, None, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
@given(SHAPES, st.integers(0, 3), st.sampled_from([1, 2, 9]), st.booleans())
def test_stacking(kind: str, shape: list[int], axis: int, count: int, gaps: bool) -> None:
    axis %= len(shape) + 1

    def run(k: Kernels) -> list[Any]:
        arrays = [values(place, tuple(shape), kind) for place in range(count)]
        return [k.stack([k.to_device(np.asfortranarray(one) if gaps else one) for one in arrays], axis)]

    same(run, None if gaps or kind == "complex128" else {"copy_strips"}, 0, 0)


def test_what_is_copied() -> None:
    x = gpu.to_device(numbers(0, 4, 6))
    assert all(part.base is x for part in gpu.split(x, [1], 0))  # views
    assert all(part.base is None and part.flags.c_contiguous for part in gpu.split(x, [1], 1))
    with pytest.raises(ValueError, match="dimension"):
        gpu.concatenate([x, x[:, :2]], 0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.lists(st.sampled_from([1, 2, 5]), min_size=1, max_size=3),
    st.integers(0, 2),
    st.sampled_from([1, 3, 64, 65, 90]),
    st.sampled_from([1, 7, 40]),
    st.sampled_from(["int64", "int32"]),
    st.booleans(),
)
def test_adding_along_an_axis(
    dtype: str, shape: list[int], axis: int, count: int, size: int, kind: str, gaps: bool
) -> None:
    axis %= len(shape)
    shape[axis] = count
    indices = np.random.default_rng(0).integers(-size, size, shape).astype(kind)
    given = numbers(0, *shape, dtype=dtype)

    def run(k: Kernels) -> list[Any]:
        arrays = [k.to_device(np.asfortranarray(one) if gaps else one) for one in (given, indices)]
        return [k.add_along(*arrays, size, axis)]

    # up to 90 numbers of size 2 are added, which the reference does one after the other, in units of the largest sum
    bound = {"float32": 2e-4, "float64": 1e-12}.get(dtype)
    same(run, {"add_along"} if count <= 64 else {"number_results"}, None, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.lists(st.sampled_from([1, 2, 5, 33]), min_size=1, max_size=2),
    st.integers(0, 1),
    st.sampled_from([(), (1,), (3, 2), (33,)]),
    st.sampled_from(["int64", "int32", "uint8", "uint64"]),
    st.booleans(),
)
def test_picking(dtype: str, shape: list[int], axis: int, count: tuple[int, ...], kind: str, gaps: bool) -> None:
    axis %= len(shape)
    size, given = shape[axis], numbers(0, *shape, dtype=dtype)
    low = -size if kind[0] == "i" else 0
    indices = np.random.default_rng(0).integers(low, size, count).astype(kind)
    along = np.random.default_rng(1).integers(low, size, (*shape[:axis], 5, *shape[axis + 1 :])).astype(kind)

    def run(k: Kernels) -> list[Any]:
        x = k.to_device(np.asfortranarray(given) if gaps else given)
        return [k.take(x, k.to_device(indices), axis), k.take_along(x, k.to_device(along), axis)]

    same(run, {"take_slices", "take_along"}, 0, 0)


@pytest.mark.parametrize("k", [gpu, plain_gpu], ids=["ours", "reference"])
@pytest.mark.parametrize("kind", ["int32", "int64", "uint64"])
def test_what_an_index_out_of_range_picks_is_no_number(k: Kernels, kind: str) -> None:
    wrong = [-4, -(1 << 31)] if kind != "uint64" else [(1 << 63) + 5, (1 << 64) - 1]
    indices = np.array([2, 3, (1 << 31) - 1, *wrong, 0], kind)
    x, g = numbers(0, 2, 3), numbers(1, 2, 6)
    g[:, 1:5] = np.nan
    lines = k.to_device(np.stack([indices, indices]))
    for found in (k.take(k.to_device(x), k.to_device(indices), 1), k.take_along(k.to_device(x), lines, 1)):
        np.testing.assert_array_equal(found.get()[:, [0, 5]], x[:, [2, 0]])
        assert np.isnan(found.get()[:, 1:5]).all()
    for times in (1, 20):  # few numbers of a line, and many
        given = [k.to_device(np.repeat(one, times, 1)) for one in (g, lines.get())]
        expected = times * np.stack([g[:, 5], 0 * g[:, 5], g[:, 0]], 1)
        np.testing.assert_allclose(k.add_along(*given, 3, 1).get(), expected, rtol=1e-5)


def test_whole_numbers_are_picked() -> None:
    def run(k: Kernels) -> list[Any]:
        x, indices = k.to_device(np.arange(6).reshape(2, 3)), k.to_device(np.array([[2, 0], [1, -1]]))
        return [k.take(x, indices, 1), k.take_along(x, indices, 1), k.take(x > 2, indices, 1)]

    same(run)


@case(override._STRIPS, override._ALONG, override._PICKING)
def strips(k: Kernels) -> list[Any]:
    arrays = [k.to_device(numbers(place, 5, length)) for place, length in enumerate((3, 300))]
    along = [k.to_device(np.arange(5 * count).reshape(5, count) % 7) for count in (3, 300)]
    joined = k.concatenate(arrays, 1)
    added = [k.add_along(*pair, 7, 1) for pair in zip(arrays, along, strict=True)]
    picked = [k.take(arrays[0], k.to_device(np.array([2, 0])), 1), k.take_along(arrays[0], along[0] % 3, 1)]
    return [joined, *k.split(joined, [3], 1), *added, *picked]
