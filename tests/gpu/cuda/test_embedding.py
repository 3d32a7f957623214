"""Table lookups and their gradients on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, plain_gpu, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import embedding as override
from minikeras.kernels.cuda.launch import launch

INDEX_TYPES = ["int32", "int64", "uint8", "uint64"]


def some(count: int, rows: int, kind: str, skew: int = 3) -> Any:
    """Indices, of which some come often and others never."""
    return (rows * np.random.default_rng(count).random(count) ** skew).astype(kind)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    shape=st.sampled_from([(1,), (5,), (2, 3), (2, 3, 2), (70,)]),
    rows=st.sampled_from([1, 3, 200]),
    width=st.sampled_from([1, 3, 8, 33, 300]),
    kind=st.sampled_from(INDEX_TYPES),
    in_place=st.booleans(),
    gaps=st.booleans(),
)
def test_lookups(
    dtype: str, shape: tuple[int, ...], rows: int, width: int, kind: str, in_place: bool, gaps: bool
) -> None:
    indices = some(int(np.prod(shape)), rows, kind).reshape(shape)

    def run(k: Kernels) -> list[Any]:
        table = k.to_device(numbers(0, rows, width, dtype=dtype))
        given = k.to_device(np.repeat(indices, 2, 0))[::2] if gaps else k.to_device(indices)
        out = k.empty((*shape, width), table.dtype) if in_place else None
        return [k.embedding(table, given, out=out)]

    same(run, {"lookup"}, 0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    count=st.sampled_from([1, 31, 32, 33, 255, 300, 700]),
    rows=st.sampled_from([1, 3, 256, 257, 70_000]),
    width=st.sampled_from([1, 3, 33]),
    kind=st.sampled_from(INDEX_TYPES),
    skew=st.sampled_from([1, 3, 40]),
    in_place=st.booleans(),
)
def test_gradients(dtype: str, count: int, rows: int, width: int, kind: str, skew: int, in_place: bool) -> None:
    rows = min(rows, 256) if kind == "uint8" else rows
    width = 1 if rows > 257 else width
    indices = some(count, rows, kind, skew)

    def run(k: Kernels) -> list[Any]:
        g = k.to_device(numbers(0, count, width, dtype=dtype))
        out = k.empty((rows, width), g.dtype) if in_place else None
        return [k.embedding_grad(g, k.to_device(indices), (rows, width), out=out)]

    # up to 700 numbers of size 2 are added, which the reference does one after the other, in units of the largest sum
    bound = {"float32": 2e-3, "float64": 1e-12}.get(dtype)
    same(run, {"count_digits", "sum_counts", "place", "sum_runs", "join_runs"}, None, bound)


def test_the_gradient_of_many_rows() -> None:
    """As many as the counts of digits take the block twice that adds them up."""
    indices = some(9000, 3000, "int32", 2)
    same(lambda k: [k.embedding_grad(k.to_device(numbers(0, 9000, 1)), k.to_device(indices), (3000, 1))], None, 1e-5)


def test_gradients_of_arrays_with_gaps() -> None:
    indices = some(40, 9, "int32").reshape(5, 8)

    def run(k: Kernels) -> list[Any]:
        g = k.to_device(numbers(0, 8, 5, 3)).swapaxes(0, 1)
        return [k.embedding_grad(g, k.to_device(np.ascontiguousarray(indices.T)).T, (9, 3))]

    same(run, {"sum_runs"})


@pytest.mark.parametrize("k", [gpu, plain_gpu], ids=["ours", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["int32", "int64", "uint64"])
def test_the_row_of_an_index_out_of_range_is_no_number(k: Kernels, dtype: str, kind: str) -> None:
    wrong = [-1, -(1 << 31)] if kind != "uint64" else [(1 << 63) + 5, (1 << 64) - 1]
    indices = np.array([3, 0, 7, (1 << 31) - 1, *wrong, 3, 4], kind)
    table, g = numbers(0, 4, 2, dtype=dtype), numbers(1, 8, 2, dtype=dtype)
    found = k.embedding(k.to_device(table), k.to_device(indices)).get()
    assert found.dtype == table.dtype
    np.testing.assert_array_equal(found[[0, 1, 6]], table[[3, 0, 3]])
    assert np.isnan(found[[2, 3, 4, 5, 7]].astype("f4")).all()
    if k is plain_gpu and dtype == "bfloat16":
        return  # which CuPy does not add to places
    g[[2, 3, 4, 5, 7]] = np.nan
    added = k.embedding_grad(k.to_device(g), k.to_device(indices), (4, 2)).get()
    assert added.dtype == g.dtype
    np.testing.assert_array_equal(added, [g[1], [0, 0], [0, 0], g[0] + g[6]])


@given(
    count=st.sampled_from([1, 33, 300]), rows=st.sampled_from([1, 3, 255, 256, 257]), beyond=st.sampled_from([1, 2, 40])
)
def test_gradients_of_indices_out_of_range_are_added_nowhere(count: int, rows: int, beyond: int) -> None:
    indices = np.random.default_rng(0).integers(-beyond, rows + beyond, count)
    known = (indices >= 0) & (indices < rows)
    g = numbers(0, count, 3)

    def run(k: Kernels) -> list[Any]:
        if k is gpu:
            return [k.embedding_grad(k.to_device(g), k.to_device(indices), (rows, 3))]
        return [k.embedding_grad(g[known], indices[known], (rows, 3))]

    same(run, {"sum_runs", "join_runs"}, None, 2e-4)  # up to 300 numbers of size 2, as above


@pytest.mark.parametrize("k", [gpu, plain_gpu])
def test_a_buffer_that_does_not_fit_is_refused(k: Kernels) -> None:
    table, indices = k.to_device(numbers(0, 4, 3)), k.to_device(np.array([[0, 3], [2, 1]]))
    for shape, kind in [((2, 3, 3), "f4"), ((2, 2, 3), "f8")]:
        with pytest.raises(ValueError, match="cannot be written to a buffer"):
            k.embedding(table, indices, out=k.to_device(np.zeros(shape, kind)))
    for shape, kind in [((5, 3), "f4"), ((4, 3), "f8")]:
        with pytest.raises(ValueError, match="cannot be written to a buffer"):
            k.embedding_grad(k.embedding(table, indices), indices, (4, 3), out=k.to_device(np.zeros(shape, kind)))


@case(override._LOOKUP, override._RUNS)
def lookups(k: Kernels) -> list[Any]:
    indices = k.to_device(some(1300, 3000, "int32"))
    g = k.embedding(k.to_device(numbers(0, 3000, 3)), indices)
    return [g, k.embedding_grad(g, indices, (3000, 3))]


@case(override._SORT)
def sorting(k: Kernels) -> list[Any]:
    """What is counted does not say where anything is written, so that it may be wrong."""
    indices, sizes = k.to_device(some(1300, 3000, "int32")), (1300, 3000, 0)
    counts, ranks, keys, places = (
        k.to_device(np.zeros(size, kind)) for size, kind in ((256 * 6, "u4"), (1300, "u2"), (1300, "u4"), (1300, "u4"))
    )
    counting, types = (indices, None, counts, ranks, *sizes), {"I": indices.dtype}
    launch(k, override._SORT, "count_digits", override._SINGLE, 6, 256, counting, **types)
    found = [counts.copy(), ranks]
    launch(k, override._SORT, "sum_counts", override._SINGLE, 1, 64, (counts, counts.size), **types)
    order = k.to_device(np.zeros(256 * 6, "u4")), k.to_device(np.arange(1300, dtype="u2"))
    placing = (indices, None, None, *order, keys, places, *sizes)
    launch(k, override._SORT, "place", override._SINGLE, 6, 256, placing, **types)
    return [*found, counts, keys, places]
