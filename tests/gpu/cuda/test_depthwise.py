"""Depthwise convolutions on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, reference, same
from gpu.cuda.convolutions import passes
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import geometries, geometry

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import depthwise as override

KERNELS = {"convolve_by_channel", "convolve_by_channel_input_grad", "convolve_by_channel_kernel_grad", "add_parts"}


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=100)
@given(
    geometry=geometries(channels=(1, 3, 4, 8, 33)),
    width=st.sampled_from([1, 1, 2, 5]),
    biased=st.booleans(),
    activation=st.sampled_from([None, "relu", "tanh"]),
    outs=st.sets(st.integers(0, 2)),
    aligned=st.booleans(),
)
def test_of_every_geometry(
    dtype: str, geometry: dict, width: int, biased: bool, activation: str | None, outs: set, aligned: bool
) -> None:
    run, near = passes("depthwise_conv", geometry, width, 1, dtype, biased, activation, outs, aligned)
    same(run, atol=near)


LONG = {  # (geometry, filters of a channel)
    "positions in spans": (geometry((41, 37), 36, (3, 3), n=3, padding=((1, 1), (1, 1))), 1),
    "several filters a channel": (geometry((19, 23), 13, (2, 5), n=2, strides=(2, 1)), 3),
    "a stride beyond the window": (geometry((3, 20, 4), 4, (1, 2, 1), strides=(2, 5, 3)), 1),
    "dilation and stride with a divisor in common": (geometry((31,), 8, (4,), strides=(4,), dilation=(6,)), 1),
    "volumes": (geometry((5, 4, 6), 3, (3, 2, 2), n=2, padding=((1, 1), (0, 1), (2, 0)), strides=(2, 1, 1)), 2),
    "windows in padding alone": (geometry((2, 2), 4, (2, 1), padding=((5, 3), (0, 4)), strides=(1, 3)), 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", LONG)
def test_long_ones(name: str, dtype: str) -> None:
    shape, width = LONG[name]
    run, near = passes("depthwise_conv", shape, width, 1, dtype, activation="sigmoid")
    same(run, KERNELS, atol=near)


@pytest.mark.parametrize("channels", [1, 4])
def test_not_a_number_reaches_the_windows_that_hold_it_even_through_relu(channels: int) -> None:
    def run(k: Kernels) -> list[Any]:
        x, kernel = np.ones((1, 6, channels), "float32"), np.ones((2, channels, 1), "float32")
        x[0, 3] = np.nan
        x[0, 0] = np.inf
        options = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
        return [k.depthwise_conv(k.to_device(x), k.to_device(kernel), None, activation="relu", **options)]

    same(run, {"convolve_by_channel"})


@pytest.mark.parametrize("wrong", ["channels", "bias"])
def test_what_does_not_fit_is_left_to_the_reference(wrong: str) -> None:
    x, kernel, bias = (numbers(0, *shape) for shape in ((2, 6, 4), (3, 4, 2), (8,)))
    x, bias = (x[..., :3].copy(), bias) if wrong == "channels" else (x, bias[:-1].copy())
    for k in (gpu, reference):
        with pytest.raises(ValueError):
            k.depthwise_conv(*map(k.to_device, (x, kernel, bias)), strides=(1,), padding=((0, 0),), dilation=(1,))


@case(override._SOURCE)
def by_channel(k: Kernels) -> list[Any]:
    function, _ = passes("depthwise_conv", geometry((5, 7), 3, (2, 3), n=2), 2, 1, "float32", activation="tanh")
    return function(k)
