"""Numbers of any type as float32, sums and constants: the compiled loops against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k

reference, cpu = k.reference_table(), k.table_of("cpu")
FLOAT = np.dtype("float32")
TYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
@given(shape=st.sampled_from([(), (0,), (1,), (7, 3), (40_001,)]), seed=st.integers(0, 99))
def test_every_number_of_every_type(dtype: str, shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    x: Any = np.frombuffer(random.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
    if dtype == "bool":
        x = random.random(shape) > 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        got, wanted = cpu.cast(np.asarray(x), FLOAT), np.asarray(x).astype(FLOAT)
    assert got.dtype == FLOAT and got.shape == shape
    wanted[np.abs(wanted) < 2.0**-126] = 0  # kernels know no denormal numbers
    np.testing.assert_array_equal(np.where(np.abs(got) < 2.0**-126, 0, got), wanted)


def test_what_has_the_type_is_itself_and_views_are_read_as_they_lie() -> None:
    x = np.arange(12, dtype="float32").reshape(3, 4)
    assert cpu.cast(x, FLOAT) is x
    whole = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(cpu.cast(whole[:, ::2], FLOAT), whole[:, ::2])
    assert cpu.cast(x, np.dtype("float64")).dtype == np.float64
    swapped = whole.astype(">i8")
    np.testing.assert_array_equal(cpu.cast(swapped, FLOAT), whole)


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (0, 4), (70_001,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums(shape: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(1)
    x, y = (np.asarray(random.standard_normal(shape).astype(dtype)) for _ in range(2))
    for other in (y, None):
        got = cpu.scaled_sum(x, other, 0.5, -3.0)
        assert got.shape == shape and got.dtype == dtype
        np.testing.assert_allclose(got, reference.scaled_sum(x, other, 0.5, -3.0), rtol=1e-6, atol=1e-6)
    filled = cpu.filled(shape, np.dtype(dtype), 2.5)
    assert filled.shape == shape and filled.dtype == dtype and (filled == 2.5).all()


def test_sums_of_views_and_of_unlike_shapes() -> None:
    x = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(cpu.scaled_sum(x, x[:, :1], 1.0, 2.0), x + 2 * x[:, :1])
