"""Attention on the GPU's kernels: by tiles of queries, and by matrix products where rows of sources are long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, numbers, results, same
from gpu.cuda.check import gpu as table
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import attention as override

# sums of products before and after a softmax
NEAR = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 5e-5, "float64": 1e-11}
MASKS = ["none", "batch", "head", "steps", "column", "full"]


@contextmanager
def long_rows(really: bool = True) -> Iterator[None]:
    """Within this block no row of sources fits into shared memory."""
    before = override._SHARED
    override._SHARED = 0 if really else before
    try:
        yield
    finally:
        override._SHARED = before


def run(
    k: Kernels, batch: int, steps: int, sources: int, heads: int, groups: int, depth: int, size: int,
    dtype: str = "float32", mask: str = "none", causal: bool = False, dropped: bool = False, zero_empty: bool = False,
    at_weights: bool = False, lying: str = "flat",
) -> list[Any]:  # fmt: skip
    """All results, and the gradients."""
    shapes = {
        "batch": (batch, 1, 1, sources),
        "head": (1, heads, steps, sources),
        "steps": (steps, sources),
        "column": (batch, 1, steps, 1),
        "full": (batch, heads, steps, sources),
    }
    allowed = keep = None
    if mask != "none":
        allowed = numbers(4, *shapes[mask]) > -0.8
        allowed[..., -1:, :] = False
        allowed = k.to_device(allowed)
    if dropped:
        keep = k.to_device((numbers(5, batch, heads, steps, sources) > -1.2).astype("uint8"))

    def array(seed: int, *shape: int) -> Any:
        x = numbers(seed, *shape, dtype=dtype)
        if lying == "heads first":
            return k.to_device(np.ascontiguousarray(x.swapaxes(1, 2))).swapaxes(1, 2)
        if lying == "wide":
            return k.to_device(np.concatenate([x, x], axis=-1))[..., : shape[-1]]
        return k.to_device(np.repeat(x, 2, axis=-1))[..., ::2] if lying == "spread" else k.to_device(x)

    query, key = array(0, batch, steps, heads, depth), array(1, batch, sources, groups, depth)
    value, g = array(2, batch, sources, groups, size), array(3, batch, steps, heads, size)
    y, weights = k.attention(query, key, value, 0.3, allowed, causal, keep, 1.25, zero_empty)
    extra = k.to_device(numbers(6, batch, heads, steps, sources, dtype=dtype)) if at_weights else None
    gradients = k.attention_grad(g, query, key, value, weights, 0.3, allowed, causal, keep, 1.25, extra)
    return [y, weights, *gradients]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("long", [False, True])
@given(
    sizes=st.tuples(
        st.integers(1, 2), st.integers(1, 40), st.integers(1, 70), st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1)]),
        st.integers(1, 35), st.integers(1, 66),
    ),
    mask=st.sampled_from(MASKS),
    causal=st.booleans(),
    dropped=st.booleans(),
    zero_empty=st.booleans(),
    at_weights=st.booleans(),
    lying=st.sampled_from(["flat", "heads first", "wide", "spread"]),
)  # fmt: skip
def test_attention(dtype: str, long: bool, sizes: Any, **options: Any) -> None:
    batch, steps, sources, (heads, groups), depth, size = sizes
    used = {"softmax_of_scores", "softmax_of_scores_grad"}
    if not long:
        used = {"attention", "attention_grad", "attention_sources_grad"}
    with long_rows(long):
        same(
            lambda k: run(k, batch, steps, sources, heads, groups, depth, size, dtype, **options), used,
            rtol=NEAR[dtype], atol=NEAR[dtype],
        )  # fmt: skip


def tile(steps: int, sources: int, dtype: str = "float32", batch: int = 1) -> int:
    """The queries of a block, 0 where there are matrix products."""
    query, key = (np.broadcast_to(np.ones((), dtype), (batch, length, 8, 64)) for length in (steps, sources))
    return override._tile(query, key, key)[0]


def test_tiles_by_the_length_of_rows() -> None:
    assert tile(64, 256) == 32 == tile(64, 256, "float16")
    assert tile(64, 512) == tile(16, 20) == tile(64, 200, "float64") == 16
    assert tile(8, 1000) == tile(1, 20) == 8
    assert tile(64, 1000) == tile(64, 256, "float64") == 0
    assert tile(64, 256, "float16", 64) == 0 != tile(64, 256, "float32", 64)


@pytest.mark.parametrize(("steps", "sources"), [(33, 290), (17, 290), (9, 600), (3, 650)])
@pytest.mark.parametrize("causal", [False, True])
def test_each_tile(steps: int, sources: int, causal: bool) -> None:
    assert tile(steps, sources)
    near = {"rtol": NEAR["float32"], "atol": NEAR["float32"]}
    same(lambda k: run(k, 1, steps, sources, 2, 1, 33, 3, causal=causal, dropped=True), {"attention"}, **near)


@pytest.mark.parametrize("long", [False, True])
def test_what_is_not_a_number(long: bool) -> None:
    """It stays in its row, and is nowhere where it may not be attended to."""

    def compute(k: Kernels) -> list[Any]:
        query, key, value = (numbers(seed, 2, 5, 2, 4) for seed in range(3))
        query[0, 1, 1, 0], query[1, 2, 0, 1], key[1, 3] = np.nan, np.inf, np.nan
        allowed = np.ones((2, 1, 5, 5), bool)
        allowed[1, :, :, 3] = allowed[0, :, 4] = False
        inputs = [k.to_device(one) for one in (query, key, value)]
        return [
            one
            for zero_empty in (False, True)
            for one in k.attention(*inputs, 0.5, k.to_device(allowed), zero_empty=zero_empty)
        ]

    with long_rows(long), np.errstate(invalid="ignore"):
        same(compute, {"softmax_of_scores" if long else "attention"})
        found = results(table, compute)[0]
        assert np.isnan(found[0, 1, 1]).all() and np.isnan(found).sum() == 8


def test_without_weights() -> None:
    inputs = [table.to_device(numbers(seed, 1, 9, 2, 4)) for seed in range(3)]
    y, weights = table.attention(*inputs, 0.5, wants_weights=False)
    assert weights is None
    wanted = table.attention(*inputs, 0.5)[0]
    assert table.to_host(y).tobytes() == table.to_host(wanted).tobytes()


@pytest.mark.parametrize("shape", [(0, 3, 4, 2, 2, 3, 3), (2, 0, 4, 2, 2, 3, 3), (2, 3, 0, 2, 2, 3, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    same(lambda k: run(k, *shape), set())


@case(override._TILES)
def tiles(k: Kernels) -> list[Any]:
    shapes = (1, 36, 70, 2, 1, 35, 66), (1, 12, 70, 1, 1, 35, 66), (1, 7, 70, 1, 1, 35, 66)
    return [one for shape in shapes for one in run(k, *shape, dropped=True, causal=True)]


@case(override._ROWS)
def rows(k: Kernels) -> list[Any]:
    before, override._MOST_BLOCKS = override._MOST_BLOCKS, 1
    try:
        with long_rows():
            return run(k, 1, 3, 70, 2, 1, 3, 4, dropped=True, mask="full")
    finally:
        override._MOST_BLOCKS = before
