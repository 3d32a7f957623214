"""Elementwise functions on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import pytest
from gpu.cuda.check import DTYPES, case, numbers, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import activation as override
from minikeras.kernels.reference import activation as written


def test_every_activation_has_a_number() -> None:
    assert {name for name in override.ACTIVATIONS if name} == set(written._TABLE)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 700), st.sampled_from(sorted(written._TABLE)))
def test_activations(dtype: str, size: int, name: str) -> None:
    def run(k: Kernels) -> list[Any]:
        x, g = (k.to_device(numbers(seed, size, dtype=dtype)) for seed in (0, 1))
        y = k.activate(x, name)
        return [y, k.activate_grad(g, y, name)]

    same(run, {"activate", "activate_grad"})


@case(override._SOURCE)
def activations(k: Kernels) -> list[Any]:
    x = k.to_device(numbers(2, 33, 7))
    return [k.activate(x, "relu"), k.activate_grad(x, x, "tanh"), k.activate(x, "sigmoid", out=x)]
