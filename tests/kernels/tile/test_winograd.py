"""Convolutions by Winograd's method against float64."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu import conv as override
from minikeras.kernels.cpu.compiler import host

if not host.HAS_VECTORS:
    pytest.skip("the tile needs AVX2, AVX-512 or NEON", allow_module_level=True)
from minikeras.kernels.cpu.tile import convolutions, winograd

reference, cpu = reference_table(), table_of("cpu")

LANES, WIDTH = host.LANES, host.WIDTH
GUARD = np.float32(77)
UNIT: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1)}


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_close(found: Any, exact: Any, magnitude: Any) -> None:
    """Nothing is off by more than a few roundings of a sum's magnitude."""
    assert found.dtype == np.float32 and found.shape == exact.shape
    assert np.abs(found - exact).max() <= 1e-6 * magnitude.max()


def most(x: Any, kernel: Any, axes: tuple[int, ...]) -> Any:
    """The magnitude of a window full of the largest number: a tile's numbers reach all of its results' roundings.

    Where there are few windows, none of them may be as large as what their tile has taken in.
    """
    return 0.7 * abs(x).max() * abs(kernel).sum(axis=axes)


def guarded(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(a buffer of guard values, an array of NaN in its middle)."""
    flat = np.full(math.prod(shape) + 2 * WIDTH, GUARD)
    out = flat[WIDTH:-WIDTH].reshape(shape)
    out.fill(math.nan)
    return flat, out


def assert_guards(flat: Any) -> None:
    assert (flat[:WIDTH] == GUARD).all() and (flat[-WIDTH:] == GUARD).all()


def check_forward(x: Any, kernel: Any, padding: Any, biased: bool = True, relu: bool = True) -> Any:
    bias = numbers(kernel.shape[-1], seed=3) if biased else None
    wide = [None if array is None else array.astype(np.float64) for array in (x, kernel, bias)]
    exact = reference.conv(*wide, padding=padding, activation="relu" if relu else None, **UNIT)
    magnitude = most(*wide[:2], (0, 1, 2)) + (abs(bias) if biased else 0)
    flat, out = guarded(exact.shape)
    assert winograd.convolution(x, kernel, bias, padding=padding, relu=relu, out=out) is out
    assert_close(out, exact, magnitude)
    assert_guards(flat)
    np.testing.assert_array_equal(winograd.convolution(x, kernel, bias, padding=padding, relu=relu), out)
    return out


def check_input_grad(x: Any, kernel: Any, padding: Any) -> Any:
    g = numbers(*reference.conv(x, kernel, padding=padding, **UNIT).shape, seed=4)
    wide = g.astype(np.float64), kernel.astype(np.float64)
    exact = reference.conv_input_grad(*wide, x.shape, padding=padding, **UNIT)
    magnitude = most(*wide, (0, 1, 3))
    flat, out = guarded(x.shape)
    assert winograd.convolution_input_grad(g, kernel, padding=padding, out=out) is out
    assert_close(out, exact, magnitude)
    assert_guards(flat)
    return out


def check_kernel_grad(x: Any, kernel: Any, padding: Any) -> Any:
    g = numbers(*reference.conv(x, kernel, padding=padding, **UNIT).shape, seed=4)
    wide = x.astype(np.float64), g.astype(np.float64)
    exact = reference.conv_kernel_grad(*wide, kernel.shape, padding=padding, **UNIT)
    magnitude = reference.conv_kernel_grad(*map(abs, wide), kernel.shape, padding=padding, **UNIT)
    flat, out = guarded(kernel.shape)
    assert winograd.convolution_kernel_grad(x, g, kernel.shape, padding=padding, out=out) is out
    assert_close(out, exact, magnitude)
    assert_guards(flat)
    np.testing.assert_array_equal(winograd.convolution_kernel_grad(x, g, kernel.shape, padding=padding), out)
    return out


@st.composite
def problems(draw: Any, most_padding: int = 2) -> tuple[Any, Any, Any]:
    """(x, kernel, padding)."""
    padding = tuple((draw(st.integers(0, most_padding)), draw(st.integers(0, most_padding))) for _ in range(2))
    spatial = tuple(max(3 - sum(pair), 1) + draw(st.integers(0, 11)) for pair in padding)
    images = draw(st.sampled_from([1, 2, 19]))
    channels = draw(st.sampled_from([1, 3, LANES, LANES + 1, 40]))
    filters = draw(st.sampled_from([1, 5, LANES, WIDTH, WIDTH + 1, 70]))
    return numbers(images, *spatial, channels, seed=1), numbers(3, 3, channels, filters, seed=2), padding


@settings(max_examples=60, deadline=None)
@given(problem=problems(most_padding=5), biased=st.booleans(), relu=st.booleans())
def test_convolutions(problem: Any, biased: bool, relu: bool) -> None:
    check_forward(*problem, biased, relu)


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_input_gradients(problem: Any) -> None:
    check_input_grad(*problem)


@settings(max_examples=60, deadline=None)
@given(problem=problems(most_padding=5))
def test_kernel_gradients(problem: Any) -> None:
    check_kernel_grad(*problem)


@pytest.mark.parametrize("check", [check_forward, check_input_grad, check_kernel_grad])
@pytest.mark.parametrize(
    ("x_shape", "filters", "padding"),
    [
        ((37, 13, 14, 32), 64, ((0, 0), (0, 0))),
        ((1, 90, 71, 20), WIDTH + 3, ((1, 1), (1, 1))),
        ((300, 4, 3, 128), 130, ((1, 2), (2, 1))),
    ],
    ids=["many images", "one image", "small images, several blocks"],
)
def test_a_result_does_not_depend_on_the_threads(check: Any, x_shape: Any, filters: int, padding: Any) -> None:
    x, kernel = numbers(*x_shape, seed=1), numbers(3, 3, x_shape[-1], filters, seed=2)
    results = []
    for size in (1, 2, 3):
        with team_of(size):
            results.append(check(x, kernel, padding))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_an_error_of_a_millionth() -> None:
    """What the choice of points is for: with the usual ones the error is five times larger."""
    x, kernel = np.maximum(numbers(16, 16, 16, 128), 0), numbers(3, 3, 128, 64, seed=1) / 24
    same = ((1, 1), (1, 1))
    exact = reference.conv(x.astype(np.float64), kernel.astype(np.float64), padding=same, **UNIT)
    error = np.abs(winograd.convolution(x, kernel, padding=same) - exact).max()
    assert error < 1e-5 * exact.std() and error < 2e-6 * np.abs(exact).max()


def test_not_a_number_stays_in_its_tile_and_reaches_it_through_relu() -> None:
    x, kernel = np.ones((2, 12, 12, 3), np.float32), np.ones((3, 3, 3, 40), np.float32)
    x[1, 6, 6, 1] = math.nan
    y = winograd.convolution(x, kernel, padding=((1, 1), (1, 1)), relu=True)
    assert np.isnan(y[1, 5:8, 5:8]).all()
    assert np.isfinite(y[0]).all()
    y[1, 4:8, 4:8] = 0
    assert np.isfinite(y).all()


X, KERNEL = numbers(64, 12, 12, 32), numbers(3, 3, 32, 32)
GEOMETRY: dict[str, Any] = {"padding": ((1, 1), (0, 0)), **UNIT}
G = numbers(64, 12, 10, 32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.conv(X, numbers(3, 3, 33, 32), **GEOMETRY), "takes 33 channels, got 32"),
        (lambda: cpu.conv(X, KERNEL, numbers(31), **GEOMETRY), r"bias must have the shape \(32,\), got \(31,\)"),
        (lambda: cpu.conv(X, KERNEL, out=numbers(64, 12, 11, 32), **GEOMETRY), "out must have the shape"),
        (
            lambda: cpu.conv_kernel_grad(X, numbers(64, 12, 11, 32), KERNEL.shape, **GEOMETRY),
            "do not belong to a kernel",
        ),
        (
            lambda: cpu.conv_kernel_grad(X, G, KERNEL.shape, out=numbers(3, 3, 32, 31), **GEOMETRY),
            "out must have the shape",
        ),
        (lambda: cpu.conv_input_grad(G, numbers(3, 3, 32, 33), X.shape, **GEOMETRY), "33 channels, got 32"),
        (lambda: cpu.conv_input_grad(G, KERNEL, (64, 12, 13, 32), **GEOMETRY), "out must have the shape"),
    ],
)
def test_a_convolution_that_does_not_fit_is_one_sentence(call: Any, message: str) -> None:
    with (
        patch.object(convolutions, "Plan", None),
        pytest.raises(ValueError, match=message) as error,
    ):  # the tile is not asked
        call()
    assert str(error.value).count(".") == 1


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_the_override_uses_it(activation: str | None) -> None:
    close = lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3, strict=True)
    arguments = {"conv": (X, KERNEL, numbers(32)), "conv_kernel_grad": (X, G, KERNEL.shape)}
    arguments["conv_input_grad"] = G, KERNEL, X.shape
    for name, given_ones in arguments.items():
        options = {"activation": activation, **GEOMETRY} if name == "conv" else GEOMETRY
        with patch.object(convolutions, "Plan", None):
            found = getattr(cpu, name)(*given_ones, **options)
        close(found, getattr(reference, name)(*given_ones, **options))


def test_where_it_pays() -> None:
    pays = lambda outputs, kernel_shape, strides=(1, 1), dilation=(1, 1): override.winograd_pays(
        outputs, kernel_shape, strides, dilation
    )
    assert pays((128, 11, 11), (3, 3, 32, 64)) and pays((64, 32, 32), (3, 3, 64, 64))
    assert not pays((128, 26, 26), (3, 3, 1, 32))  # few channels
    assert not pays((1, 11, 11), (3, 3, 32, 64))  # few tiles
    assert not pays((1000, 2, 2), (3, 3, 64, 64))  # tiles that are mostly empty
    assert not pays((128, 11, 11), (5, 5, 32, 64)) and not pays((9, 32, 32, 32), (3, 3, 3, 64, 64))
    assert not pays((128, 32, 32), (3, 3, 64, 64), strides=(1, 2))
    assert not pays((128, 32, 32), (3, 3, 64, 64), dilation=(2, 1))


AVX2 = """
from minikeras.kernels import reference_table

import numpy as np
from minikeras.kernels.cpu.compiler import host, processor

host.use(processor.FAMILIES["x86-64-v3"])
from minikeras.kernels.cpu.tile import winograd

conv = reference_table()
assert (host.ROWS, host.WIDTH) == (6, 16)
random = np.random.default_rng(0)
numbers = lambda *shape: random.standard_normal(shape).astype("f4")
close = lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
padding, unit = ((1, 0), (1, 2)), {"strides": (1, 1), "dilation": (1, 1)}
for channels, filters in ((11, 21), (8, 32)):
    x, kernel = numbers(20, 9, 8, channels), numbers(3, 3, channels, filters)
    y = conv.conv(x.astype("f8"), kernel, padding=padding, **unit)
    g = y.astype("f4")
    close(winograd.convolution(x, kernel, padding=padding), y)
    wanted = conv.conv_input_grad(y, kernel, x.shape, padding=padding, **unit)
    close(winograd.convolution_input_grad(g, kernel, padding=padding), wanted)
    wanted = conv.conv_kernel_grad(x.astype("f8"), y, kernel.shape, padding=padding, **unit)
    close(winograd.convolution_kernel_grad(x, g, kernel.shape, padding=padding) / 100, wanted / 100)
print("end")
"""


@pytest.mark.skipif(LANES == 8, reason="the other tests run without AVX-512")
def test_a_host_with_avx2_only(tmp_path: Path) -> None:
    machine = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment = {**os.environ, **machine, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", AVX2], env=environment, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")
