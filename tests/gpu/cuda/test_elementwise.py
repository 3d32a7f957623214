"""Arithmetic on the GPU's kernels: gradients, powers, choices, sums and constants, with special values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, numbers, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import cast, elementwise

SPECIAL = [0.0, -0.0, 1, -1, 2, 0.5, math.inf, -math.inf, math.nan]


def special(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    """Small whole numbers and halves, often equal ones, and special values."""
    x = np.round(2 * numbers(seed, *shape, low=-3, high=3)) / 2
    chosen = np.random.default_rng(seed).choice(SPECIAL, shape)
    return np.where(np.random.default_rng(seed + 9).random(shape) < 0.3, chosen, x).astype(
        numbers(0, 1, dtype=dtype).dtype
    )


OPERANDS = st.sampled_from(["array", 0, 0.5, -1, 0.1, math.nan, math.inf, True])


def operand(k: Kernels, which: Any, array: np.ndarray) -> Any:
    return k.to_device(array) if which == "array" else which


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(1, 600), one=OPERANDS, other=OPERANDS, first=st.booleans())
def test_the_larger_and_choices(dtype: str, size: int, one: Any, other: Any, first: bool) -> None:
    one, other = ("array", other) if first else (one, "array")

    def run(k: Kernels) -> list[Any]:
        g = k.to_device(numbers(0, size, dtype=dtype))
        x1, x2 = (operand(k, which, special(seed, size, dtype=dtype)) for seed, which in ((1, one), (2, other)))
        condition = k.to_device(numbers(3, size) > 0)
        return [k.larger_grad(g, x1, x2), k.choose(condition, x1, x2)]

    with np.errstate(all="ignore"):
        same(run, {"larger_grad", "choose"})


def test_the_sign_of_a_zero_that_is_chosen() -> None:
    def run(k: Kernels) -> list[Any]:
        zeros = k.choose(k.to_device(numbers(0, 9) > 0), -0.0, k.to_device(numbers(1, 9)))
        return [zeros, k.xp.signbit(zeros)]

    same(run, {"choose"})


def test_what_is_repeated_stays_with_the_reference() -> None:
    def run(k: Kernels) -> list[Any]:
        x, row, condition = (k.to_device(one) for one in (numbers(0, 4, 3), numbers(1, 3), numbers(2, 4, 3) > 0))
        whole = k.to_device(np.arange(12).reshape(4, 3))
        return [
            *(k.larger_grad(x, x, row), k.choose(condition, x, row), k.choose(condition[:, :1], x, 0)),
            *(k.choose(condition, whole, 7), k.choose(condition, 1.5, x.astype("float64")), k.power(whole, 2)),
        ]

    same(run)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(1, 600), name=st.sampled_from(sorted(elementwise._GRADIENTS)))
def test_gradients_of_one_operand(dtype: str, size: int, name: str) -> None:
    def run(k: Kernels) -> list[Any]:
        g, v = k.to_device(numbers(0, size, dtype=dtype)), k.to_device(special(1, size, dtype=dtype))
        return [k.transform_grad(g, v, name)]

    with np.errstate(all="ignore"):
        same(run, {"transform_grad"})


EXPONENTS = [0, 1, 2, 3, 4, 7, -1, -2, -3, 0.5, 1.5, 2.5, -0.5, -1.5, 0.3, True, 2.0, math.inf, math.nan]


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(1, 300), exponent=st.sampled_from(EXPONENTS))
def test_powers(dtype: str, size: int, exponent: float) -> None:
    def run(k: Kernels) -> list[Any]:
        x = k.to_device(special(1, size, dtype=dtype))
        return [k.power(x, exponent)]

    with np.errstate(all="ignore"):
        same(run, {"power"})


@case(elementwise._SOURCE)
def arithmetic(k: Kernels) -> list[Any]:
    x, y, condition = (k.to_device(one) for one in (numbers(0, 33, 7), numbers(1, 33, 7), numbers(2, 33, 7) > 0))
    return [k.larger_grad(x, x, y), k.transform_grad(x, y, "sqrt"), k.power(x, 3), k.choose(condition, x, 1.5)]


# ---- sums and constants


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    shape=st.sampled_from([(), (1,), (7, 3), (601,), (2, 0)]),
    factors=st.sampled_from([(0.5, -3.0), (1, 0), (1.0, math.inf), (0.0, 1e-3)]),
    alone=st.booleans(),
)
def test_sums(dtype: str, shape: tuple[int, ...], factors: tuple[float, float], alone: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        x, y = (k.to_device(np.asarray(special(seed, *shape, dtype=dtype))) for seed in (0, 1))
        return [k.scaled_sum(x, None if alone else y, *factors)]

    with np.errstate(all="ignore"):
        same(run, None if 0 in shape else {"scaled_sum"})


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "bool"])
def test_constants(dtype: str) -> None:
    kind = numbers(0, 1, dtype=dtype).dtype

    def run(k: Kernels) -> list[Any]:
        return [k.filled(shape, kind, value) for shape, value in (((3, 5), 2.5), ((), 1), ((0, 2), 0))]

    same(run)


@case(cast._SOURCE)
def sums(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(0, 33, 7))
    return [k.scaled_sum(x, x, 2.0, 0.5), k.scaled_sum(x, None, 2.0, 0.5)]
