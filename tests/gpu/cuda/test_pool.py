"""Pooling on the GPU's kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, numbers, same
from gpu.cuda.convolutions import placed
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import poolings

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import pool as override


def passes(problem: tuple, dtype: str, outs: bool = False, aligned: bool = True) -> Any:
    """Both poolings with their gradients; into arrays that are given, and of arrays that are not aligned, if wanted."""
    x, g, options = problem
    x, g = (array.astype(numbers(0, 1, dtype=dtype).dtype) for array in (x, g))

    def run(k: Kernels) -> list[Any]:
        of_x, of_g = placed(k, x, aligned), placed(k, g, aligned)

        def place(like: Any) -> Any:
            return placed(k, np.full(like.shape, math.nan, like.dtype), aligned) if outs else None

        alone, nothing = k.max_pool(of_x, **options)
        y, index = k.max_pool(of_x, with_index=True, **options)
        return [
            alone,
            nothing,
            y,
            index,
            k.max_pool_grad(of_g, index, x.shape, out=place(of_x), **options),
            k.average_pool(of_x, out=place(of_g), **options),
            k.average_pool_grad(of_g, x.shape, out=place(of_x), **options),
        ]

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=100)
@given(poolings(channels=(1, 3, 4, 8, 33)), st.booleans(), st.booleans())
def test_of_every_geometry(dtype: str, problem: tuple, outs: bool, aligned: bool) -> None:
    same(passes(problem, dtype, outs, aligned))


def pooling(
    shape: tuple, size: tuple, strides: tuple | None = None, padding: tuple | None = None
) -> tuple[np.ndarray, np.ndarray, dict]:
    """One of `poolings`."""
    options = {"size": size, "strides": strides or size, "padding": padding or ((0, 0),) * len(size)}
    return numbers(0, *shape), numbers(1, *override._outputs(shape, **options)), options


LARGE = {
    "several blocks": pooling((2, 17, 16, 36), (2, 3), (1, 2), ((1, 0), (2, 2))),
    "channels that are not in fours": pooling((3, 21, 9, 11), (3, 3), (2, 2)),
    "windows of 300": pooling((1, 601, 2), (300,), (299,), ((1, 0),)),
    "inputs that no window reaches": pooling((1, 11, 4), (2,), (5,)),
    "volumes": pooling((2, 5, 6, 7, 4), (2, 3, 2), (2, 1, 3), ((1, 1), (0, 2), (1, 0))),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", LARGE)
def test_large_ones(name: str, dtype: str) -> None:
    kernels = {"max_pool", "max_pool_grad", "average_pool", "average_pool_grad"}
    same(passes(LARGE[name], dtype), kernels)


def test_an_infinite_gradient_reaches_only_the_winner() -> None:
    def run(k: Kernels) -> list[Any]:
        options = {"size": (2,), "strides": (2,), "padding": ((0, 0),)}
        index, g = np.ones((1, 2, 4), "uint8"), np.full((1, 2, 4), math.inf, "float32")
        return [k.max_pool_grad(k.to_device(g), k.to_device(index), (1, 4, 4), **options)]

    same(run, {"max_pool_grad"})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 5, 3), (7, 33, 40), (1, 9000, 1), (3, 2099, 5), (30, 2, 68), (2, 3, 0)]
)
def test_over_all_positions(dtype: str, shape: tuple) -> None:
    x, g = numbers(0, *shape, dtype=dtype), numbers(1, *shape[::2], dtype=dtype)

    def run(k: Kernels) -> list[Any]:
        return [
            k.global_average_pool(k.to_device(x)),
            k.global_average_pool_grad(k.to_device(g), shape[1]),
        ]

    same(run, {"average_positions", "average_positions_grad"} if x.size else None)


@pytest.mark.parametrize("channels", [2, 4])
def test_not_a_number_in_a_mean_over_all_positions(channels: int) -> None:
    x = np.ones((2, 30, channels), "float32")
    x[0, 7, 0], x[1, 3, 1] = math.nan, math.inf

    def run(k: Kernels) -> list[Any]:
        g = k.global_average_pool(k.to_device(x))
        return [g, k.global_average_pool_grad(g, 3)]

    same(run)


@case(override._SOURCE)
def pools(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(0, 2, 90, 3))
    mean = k.global_average_pool(x)
    return [*passes(pooling((1, 9, 7, 3), (3, 2), (2, 2)), "float32")(k), mean, k.global_average_pool_grad(mean, 3)]
