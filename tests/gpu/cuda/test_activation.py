"""Elementwise functions on the GPU's kernels: special values, digits, every option, rows of all lengths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, reference, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import activation as override
from minikeras.kernels.cuda.launch import launch
from minikeras.kernels.reference import activation as written

SETTINGS: dict[str, tuple[float, ...]] = {
    "elu": (0.75,),
    "celu": (0.75,),
    "hard_shrink": (0.5,),
    "soft_shrink": (0.5,),
    "threshold": (0.25, 3.0),
    "squareplus": (4.0,),
}
SPECIAL = [0.0, -0.0, 1, -1, 0.5, -0.5, 3, -3, 6, -6, 1e4, -1e4, math.inf, -math.inf, math.nan]


def with_special(seed: int, size: int, dtype: str) -> np.ndarray:
    x = numbers(seed, size, low=-9, high=9, dtype=dtype)
    x[: len(SPECIAL)] = np.array(SPECIAL[:size]).astype(x.dtype)
    return x


def test_every_activation_and_curve_has_a_number() -> None:
    assert {name for name in override.ACTIVATIONS if name} == set(written._TABLE)
    assert set(override.CURVES) == set(written._CURVES)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 700), st.sampled_from(sorted(written._TABLE)))
def test_activations(dtype: str, size: int, name: str) -> None:
    def run(k: Kernels) -> list[Any]:
        x, g = k.to_device(with_special(0, size, dtype)), k.to_device(numbers(1, size, dtype=dtype))
        y = k.activate(x, name)
        return [y, k.activate_grad(g, k.to_device(numbers(2, size, dtype=dtype)), name)]

    with np.errstate(all="ignore"):
        same(run, {"activate", "activate_grad"})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(written._CURVES))
def test_curves(dtype: str, name: str) -> None:
    def run(k: Kernels) -> list[Any]:
        x, g = k.to_device(with_special(0, 300, dtype)), k.to_device(numbers(1, 300, dtype=dtype))
        settings = SETTINGS.get(name, ())
        return [k.curve(x, name, settings), k.curve_grad(g, x, name, settings)]

    with np.errstate(all="ignore"):
        same(run, {"curve", "curve_grad"})


def whole_range(most: float) -> np.ndarray:
    """Numbers of all magnitudes up to one, of both signs."""
    magnitudes = np.exp2(np.linspace(-20, math.log2(most), 1001))
    return np.concatenate([-magnitudes, magnitudes, np.linspace(-most, most, 1001)]).astype(np.float32)


def exact_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * np.vectorize(math.erfc)(-x * math.sqrt(0.5))


def exact_shrink(x: np.ndarray) -> np.ndarray:
    squared = x * x
    series = x * squared * (1 / 3 - squared * (2 / 15 - squared * 17 / 315))
    return np.where(abs(x) < 0.01, series, x - np.tanh(x))


EXACT = {"gelu": exact_gelu, "tanh_shrink": exact_shrink}


@pytest.mark.parametrize(
    ("name", "most", "units"),
    [
        # gelu's tanh form takes the exponential of a number, 11 for 4, whose last place is so many of the result's
        *(("gelu", 12.5, 3), ("gelu_tanh", 4, 33), ("silu", 80, 4), ("mish", 80, 5), ("elu", 80, 3), ("celu", 60, 3)),
        *(("squareplus", 80, 4), ("sparse_plus", 80, 3), ("hard_shrink", 80, 0), ("soft_shrink", 80, 1)),
        *(("threshold", 80, 0), ("tanh_shrink", 80, 1), ("expm1", 80, 3), ("erf", 80, 3)),
    ],
)
def test_small_values_keep_their_digits(name: str, most: float, units: float) -> None:
    x, settings = whole_range(most), SETTINGS.get(name, ())
    found = gpu.to_host(gpu.curve(gpu.to_device(x), name, settings))
    wide = x.astype(np.float64)
    exact = EXACT[name](wide) if name in EXACT else reference.curve(wide, name, settings)
    assert (abs(found - exact) / np.spacing(abs(exact).astype(np.float32))).max() <= units


def test_the_settings_of_a_curve_are_its_own() -> None:
    def run(k: Kernels) -> list[Any]:
        x = k.to_device(numbers(0, 3, 11))
        return [k.curve(x, "threshold", one) for one in ((0.5, -1.0), (-1, 7))]

    same(run, {"curve"})


@pytest.mark.parametrize("size", [1, 255, 1023, 1024, 1025, 3000])
def test_a_grid_that_is_too_small_goes_on(size: int) -> None:
    x = gpu.to_device(numbers(0, size))
    out = gpu.empty(x.shape, x.dtype)
    launch(gpu, override._SOURCE, "activate", x.dtype, 1, 256, (x, out, override.ACTIVATIONS["tanh"], size))
    np.testing.assert_array_equal(gpu.to_host(out), gpu.to_host(gpu.activate(x, "tanh")))


@case(override._SOURCE, override._CURVES)
def curves(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(2, 33, 7))
    found = [k.activate(x, "relu"), k.activate_grad(x, x, "tanh"), k.erf(x), k.curve_grad(x, x, "mish")]
    return [*found, k.activate(x, "sigmoid", out=x)]


# ---- straight lines and dropout


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    size=st.integers(1, 600),
    slope=st.sampled_from([0.0, 0.25, 1]),
    limit=st.sampled_from([None, 2.0, 0, 6]),
    threshold=st.sampled_from([0.0, 0.5, -1]),
    into=st.booleans(),
)
def test_straight_lines(dtype: str, size: int, slope: float, limit: float | None, threshold: float, into: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        x, g = k.to_device(with_special(0, size, dtype)), k.to_device(numbers(1, size, dtype=dtype))
        settings = slope, limit, threshold
        found = [k.piecewise_relu(x, *settings), k.piecewise_relu_grad(g, x, *settings)]
        return [*found, k.piecewise_relu(x, *settings, out=x)] if into else found

    with np.errstate(all="ignore"):
        same(run, {"piecewise_relu", "piecewise_relu_grad"})


SHAPES = [
    *(
        ((4, 5, 6), (4, 5, 6)),
        ((4, 5, 6), (4, 1, 6)),
        ((4, 5, 6), (6,)),
        ((4, 5, 6), (4, 1, 1)),
        ((4, 5, 6), (1, 1, 1)),
    ),
    *(((3, 1, 5, 1), (3, 1, 1, 1)), ((2, 1, 3), (1, 1, 3)), ((700,), (700,)), ((70, 11), (70, 1)), ((3, 4), ())),
]


@pytest.mark.parametrize("dtype", DTYPES)
@given(shapes=st.sampled_from(SHAPES), kind=st.sampled_from(["uint8", "bool", "its own"]), into=st.booleans())
def test_dropout(dtype: str, shapes: Any, kind: str, into: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        x = with_special(0, math.prod(shapes[0]), dtype).reshape(shapes[0])
        mask = (numbers(1, *shapes[1]) > 0).astype(x.dtype if kind == "its own" else kind)
        x, mask = k.to_device(x), k.to_device(mask)
        return [k.masked_scale(x, mask, 1.25, out=x if into else None)]

    with np.errstate(all="ignore"):
        same(run, {"masked_scale"})


def test_a_mask_that_is_repeated_in_two_places_stays_with_the_reference() -> None:
    def run(k: Kernels) -> list[Any]:
        return [k.masked_scale(k.to_device(numbers(0, 2, 3, 4)), k.to_device(numbers(1, 1, 3, 1)), 2.0)]

    same(run)


def test_a_number_of_numpys_is_no_mask() -> None:
    for kept in (np.True_, np.False_, np.float32(0.5)):
        same(lambda k, kept=kept: [k.masked_scale(k.to_device(numbers(0, 2, 3, 4)), kept, 2.0)])


@case(override._LINES)
def lines(k: Kernels) -> list[Any]:
    x, mask = k.to_device(numbers(2, 33, 7)), k.to_device(numbers(3, 33, 1) > 0)
    return [k.piecewise_relu(x, 0.5), k.piecewise_relu_grad(x, x, 0.5, 1.0), k.masked_scale(x, mask, 2.0)]


# ---- along an axis

ROWS = [
    *(((1, 1), -1), ((7, 3), -1), ((33, 10), 1), ((2, 3, 33), -1), ((9, 256), -1), ((3, 257), -1), ((2, 5000), 1)),
    *(
        ((7, 3), 0),
        ((300, 5), 0),
        ((2, 9, 4), 1),
        ((1, 1), 0),
        ((3, 1), -1),
        ((2, 3, 2100), 1),
        ((5,), 0),
        ((400,), -1),
    ),
]


@pytest.mark.parametrize("dtype", DTYPES)
@given(which=st.sampled_from(ROWS), special=st.sampled_from([None, math.inf, -math.inf, math.nan, 88.0]))
def test_softmax_and_its_logarithm(dtype: str, which: Any, special: float | None) -> None:
    shape, axis = which

    def run(k: Kernels) -> list[Any]:
        x = numbers(0, *shape, low=-8, high=8, dtype=dtype)
        if special is not None:
            x.reshape(-1)[x.size // 2] = special
        x, g = k.to_device(x), k.to_device(numbers(1, *shape, dtype=dtype))
        y, log_y = (k.to_device(numbers(seed, *shape, low=-1, high=0, dtype=dtype)) for seed in (2, 3))
        found = [k.softmax(x, axis), k.log_softmax(x, axis)]
        return [*found, k.softmax_grad(g, y, axis), k.log_softmax_grad(g, log_y, axis), k.softmax(x, axis, x)]

    with np.errstate(all="ignore"):
        same(run, {"softmax", "log_softmax", "softmax_grad", "log_softmax_grad"})


def test_axes_that_are_none_are_refused() -> None:
    x = gpu.to_device(numbers(0, 3, 4))
    for axis in (2, -3):
        with pytest.raises(ValueError):
            gpu.softmax(x, axis)


@case(override._ROWS)
def rows(k: Kernels) -> list[Any]:
    found: list[Any] = []
    for shape, axis in (((3, 300), -1), ((9, 40), -1), ((2, 3, 2100), 1)):
        x, g = k.to_device(numbers(2, *shape)), k.to_device(numbers(3, *shape))
        found += [y := k.softmax(x, axis), log_y := k.log_softmax(x, axis)]
        found += [k.softmax_grad(g, y, axis), k.log_softmax_grad(g, log_y, axis)]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@given(which=st.sampled_from([((2,), 0), ((1, 2), -1), ((6, 4), 0), ((3, 4, 10), 1), ((30, 34), -1), ((4, 3, 2), 0)]))
def test_glu(dtype: str, which: Any) -> None:
    shape, axis = which

    def run(k: Kernels) -> list[Any]:
        x = k.to_device(numbers(0, *shape, low=-8, high=8, dtype=dtype))
        y = k.glu(x, axis)
        return [y, k.glu_grad(k.to_device(numbers(1, *y.shape, dtype=dtype)), x, axis)]

    same(run, {"glu", "glu_grad"})


def test_what_has_no_halves_is_refused() -> None:
    with pytest.raises(ValueError):
        gpu.glu(gpu.to_device(numbers(0, 3, 5)))


@case(override._GATED)
def gated(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(2, 33, 6))
    return [y := k.glu(x), k.glu_grad(y, x)]
