"""Random numbers of the GPU's kernels: the reference's bits, wherever a stream is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, _bfloat16, case, gpu, reference, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels, blocks_for
from minikeras.kernels.arena import current
from minikeras.kernels.cuda import random

KEYS = st.one_of(st.integers(0, 9), st.integers(0, 2**128 - 1))
COUNTERS = st.one_of(
    st.integers(0, 99),
    st.integers(0, 2**64 - 2000),
    st.builds(lambda bits, back: (1 << bits) - back, st.sampled_from([32, 63]), st.integers(1, 9)),
)
BEYOND = st.one_of(st.integers(2**64 - 9, 2**64 + 9), st.integers(2**64, 2**256 - 1))
SIZES = st.integers(0, 700)


def kind(dtype: str) -> Any:
    return np.dtype(_bfloat16() if dtype == "bfloat16" else dtype)


def bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()


@given(KEYS, COUNTERS, SIZES, st.booleans())
def test_bits_are_numpys(key: int, counter: int, count: int, into: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        return [k.random_bits(key, counter, count, k.empty((count,), np.dtype("uint64")) if into else None)]

    same(run, {"random_bits"} if count else None)
    expected = np.random.Philox(key=key, counter=counter).random_raw(count)
    np.testing.assert_array_equal(gpu.to_host(run(gpu)[0]), expected)


@given(KEYS, BEYOND, st.integers(1, 50))
def test_bits_beyond_a_word(key: int, counter: int, count: int) -> None:
    expected = np.random.Philox(key=key, counter=counter % 2**256).random_raw(count)
    np.testing.assert_array_equal(gpu.to_host(gpu.random_bits(key, counter, count)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@given(KEYS, COUNTERS, SIZES, st.booleans())
def test_values(dtype: str, key: int, counter: int, size: int, into: bool) -> None:
    """Uniform ones to the last bit, normal ones up to the rounding of log, cos and sin."""
    out = gpu.empty((size + 9,), kind(dtype))
    out[...] = 9
    place = out[3 : 3 + size] if into else None  # not where a vector begins
    found, wanted = (
        k.to_host(k.uniform(key, counter, (size,), kind(dtype), where))
        for k, where in ((gpu, place), (reference, None))
    )
    assert found.dtype == wanted.dtype and found.shape == wanted.shape and bits(found) == bits(wanted)
    around = gpu.to_host(out).astype("float64")
    assert (around[:3] == 9).all() and (around[3 + size :] == 9).all()

    def run(k: Kernels) -> list[Any]:
        return [k.normal(key, counter, (size,), kind(dtype))]

    same(run, {"uniform", "normal"} if size else None, rtol={"float64": 1e-12, "float32": 1e-6}.get(dtype))


def test_shapes_of_values() -> None:
    def run(k: Kernels) -> list[Any]:
        return [
            *[k.uniform(3, 11, shape, "float32") for shape in ((), (3, 5), (0, 2))],
            *[k.normal(3, 11, shape, "float32") for shape in ((), (3, 5), (0, 2))],
            *(k.uniform(3, 2**64 - 1, (40,)), k.normal(3, 2**64 - 1, (40,)), k.dropout_mask(3, 2**64 - 1, (40,), 0.5)),
            *[k.dropout_mask(3, 11, shape, 0.5) for shape in ((), (3, 5), (0, 2))],
        ]

    same(run, {"uniform", "normal", "dropout_mask"})


@given(
    KEYS,
    st.one_of(COUNTERS, st.integers(2**64 - 9, 2**64 + 9)),
    SIZES,
    st.sampled_from([0.0, 0.2, 0.7, 0.99999, 1.0]),
    st.booleans(),
)
def test_masks(key: int, counter: int, size: int, rate: float, into: bool) -> None:
    out = gpu.empty((size + 9,), np.dtype("uint8"))
    out[...] = 9
    place = out[3 : 3 + size] if into else None
    found = gpu.to_host(gpu.dropout_mask(key, counter, (size,), rate, place))
    np.testing.assert_array_equal(found, reference.dropout_mask(key, counter, (size,), rate), strict=True)
    around = gpu.to_host(out)
    assert (around[:3] == 9).all() and (around[3 + size :] == 9).all()


def test_a_mask_with_gaps() -> None:
    out = gpu.empty((40, 60), np.dtype("uint8"))
    gpu.dropout_mask(5, 6, (40, 30), 0.4, out[:, ::2])
    np.testing.assert_array_equal(gpu.to_host(out)[:, ::2], reference.dropout_mask(5, 6, (40, 30), 0.4))


class Stream(int):
    """A counter as a step that is recorded has it: how many blocks the step has drawn before."""

    offset = 7


class Recording:
    """What `launch` asks of one."""

    place: Any = None

    def counter_at(self, value: Any) -> Any:
        return self.place if isinstance(value, Stream) else None

    def launched(self, *given: Any) -> Any:
        return 0


@pytest.mark.parametrize("start", [0, 2**32 - 9])
def test_a_recorded_step_reads_its_counter_anew(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording()
    recording.place = gpu.to_device(np.array([start], "uint64"))
    draws: list[Any] = [
        lambda k, counter: k.uniform(3, counter, (40,)),
        lambda k, counter: k.normal(3, counter, (40,)),
        lambda k, counter: k.dropout_mask(3, counter, (90,), 0.5),
        lambda k, counter: k.random_bits(3, counter, 90),
    ]
    for draw in draws:
        monkeypatch.setattr(current, "recording", recording)
        found = draw(gpu, Stream(5))  # whatever it was when the step was recorded
        monkeypatch.setattr(current, "recording", None)
        np.testing.assert_allclose(gpu.to_host(found), draw(reference, start + 7), rtol=1e-6)


@pytest.mark.parametrize("size", [8, 24])
def test_masks_resume_where_they_stopped(size: int) -> None:
    whole = gpu.to_host(gpu.dropout_mask(9, 4, (2 * size,), 0.5))
    counters = 4, 4 + blocks_for("dropout_mask", size)
    parts = [gpu.to_host(gpu.dropout_mask(9, counter, (size,), 0.5)) for counter in counters]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@case(random._BITS, random._MASKS)
def draws(k: Kernels) -> list[Any]:
    return [k.random_bits(1, 2, 33), k.normal(1, 2, (33,)), k.dropout_mask(1, 2, (33,), 0.5)]
