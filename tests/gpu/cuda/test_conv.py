"""Convolutions on the GPU's kernels."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, reference, same
from gpu.cuda.convolutions import passes
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import geometries, geometry

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import conv as override


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=100)
@given(
    geometry=geometries(channels=(1, 3, 4, 17)),
    width=st.sampled_from([1, 2, 8, 33]),
    groups=st.sampled_from([1, 1, 2]),
    biased=st.booleans(),
    activation=st.sampled_from([None, "relu", "tanh"]),
    outs=st.sets(st.integers(0, 2)),
    aligned=st.booleans(),
)
def test_of_every_geometry(
    dtype: str, geometry: dict, width: int, groups: int, biased: bool, activation: str | None, outs: set, aligned: bool
) -> None:
    run, near = passes("conv", geometry, width, groups, dtype, biased, activation, outs, aligned)
    same(run, atol=near)


KERNELS = {"convolve", "convolve_input_grad", "convolve_kernel_grad"}
IN_TILES = {  # (geometry, filters of a group, groups)
    "several tiles each way": (geometry((9, 10), 20, (3, 3), n=2, padding=((1, 1), (1, 1))), 68, 1),
    "narrow tiles": (geometry((7, 11), 33, (2, 3), strides=(2, 1), dilation=(1, 2)), 30, 1),
    "groups": (geometry((70,), 8, (3,), padding=((2, 0),)), 4, 5),
    "a stride beyond the window": (geometry((3, 20, 4), 3, (1, 2, 1), strides=(2, 5, 3)), 5, 1),
    "dilation and stride with a divisor in common": (geometry((31,), 2, (4,), strides=(4,), dilation=(6,)), 3, 1),
    "volumes": (geometry((5, 4, 6), 3, (3, 2, 2), n=2, padding=((1, 1), (0, 1), (2, 0)), strides=(2, 1, 1)), 6, 2),
    "windows in padding alone": (geometry((2, 2), 1, (2, 1), padding=((5, 3), (0, 4)), strides=(1, 3)), 2, 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", IN_TILES)
def test_in_tiles(name: str, dtype: str) -> None:
    run, near = passes("conv", *IN_TILES[name], dtype, activation="sigmoid")
    same(run, KERNELS, atol=near)


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_in_spans(dtype: str) -> None:
    run, near = passes("conv", geometry((40, 35), 2, (2, 2), n=3), 5, 2, dtype)
    same(run, {*KERNELS, "add_parts"}, atol=near)


@given(
    st.integers(0, 1 << 24),
    st.integers(1, 5000),
    st.sampled_from([8, 16]),
    st.integers(1, 1 << 30),
    st.integers(1, 1024),
)
def test_spans_cover_all_positions(positions: int, blocks: int, step: int, size: int, most: int) -> None:
    count, length = override.spans(positions, blocks, step, size, most)
    assert length % step == 0
    assert (count - 1) * length < max(positions, 1) <= count * length
    assert count <= most
    assert count == 1 or count * size <= 64 << 20


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("most_bytes", [1, 30_000])
@given(
    geometry=geometries(channels=(1, 4, 6)),
    width=st.sampled_from([1, 4, 9]),
    activation=st.sampled_from([None, "relu", "tanh"]),
    outs=st.sets(st.integers(0, 2)),
)
def test_with_columns_in_memory(
    most_bytes: int, dtype: str, geometry: dict, width: int, activation: str | None, outs: set
) -> None:
    run, near = passes("conv", geometry, width, 1, dtype, True, activation, outs)
    with patch.object(override, "_products_pay", lambda *_: True), patch.object(override, "_MOST_BYTES", most_bytes):
        same(run, atol=near)


def test_columns_of_several_blocks() -> None:
    run, near = passes(
        "conv", geometry((9, 10), 36, (3, 3), n=2, padding=((1, 1), (0, 2)), strides=(1, 2)), 4, 1, "float32"
    )
    with patch.object(override, "_products_pay", lambda *_: True):
        same(run, {"gather_columns", "add_columns"}, atol=near)


def test_products_are_for_large_convolutions() -> None:
    chosen = {
        (size, dtype): override._products_pay(32 * size * size, 9 * filters, filters, np.dtype(dtype))
        for size, filters in ((112, 32), (28, 128), (7, 128))
        for dtype in ("float16", "float32")
    }
    assert [key for key, chosen_one in chosen.items() if chosen_one] == [
        (112, "float16"),
        (28, "float16"),
        (28, "float32"),
    ]


def test_not_a_number_reaches_the_windows_that_hold_it_even_through_relu() -> None:
    def run(k: Kernels) -> list[Any]:
        x = np.ones((1, 6, 2), "float32")
        x[0, 3] = np.nan
        x[0, 0] = np.inf
        kernel, bias = np.ones((2, 2, 2), "float32"), np.zeros(2, "float32")
        options = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
        return [k.conv(*map(k.to_device, (x, kernel, bias)), activation="relu", **options)]

    same(run, {"convolve"})


@pytest.mark.parametrize("wrong", ["channels", "bias"])
def test_what_does_not_fit_is_left_to_the_reference(wrong: str) -> None:
    x, kernel, bias = (numbers(0, *shape) for shape in ((2, 6, 4), (3, 4, 2), (2,)))
    x, bias = (x[..., :3].copy(), bias) if wrong == "channels" else (x, bias[:-1].repeat(3))
    for k in (gpu, reference):
        with pytest.raises(ValueError):
            k.conv(*map(k.to_device, (x, kernel, bias)), strides=(1,), padding=((0, 0),), dilation=(1,))


def _small(width: int) -> Any:
    def run(k: Kernels) -> list[Any]:
        function, _ = passes(
            "conv", geometry((6, 9), 9, (2, 2), n=2, strides=(2, 1)), width, 1, "float32", activation="tanh"
        )
        return function(k)

    return run


wide, narrow = (case(override._IN_TILES[width])(_small(width)) for width in (64, 32))


@case(override._ADDING)
def adding(k: Kernels) -> list[Any]:
    out = k.empty((37,), np.dtype("float32"))
    override.add_parts(k, k.to_device(numbers(0, 19, 37)), out, 3)
    return [out]


@case(override._COLUMNS)
def columns(k: Kernels) -> list[Any]:
    function, _ = passes("conv", geometry((5, 4), 4, (2, 2), n=2), 3, 1, "float32")
    with patch.object(override, "_products_pay", lambda *_: True):
        return function(k)
