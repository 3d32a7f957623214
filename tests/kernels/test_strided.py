"""What a recorded step computes in NumPy's place has NumPy's bits, however the arrays lie in memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras import config, kernels
from minikeras.kernels.cpu.program import Program
from minikeras.kernels.cpu.recording import NativeCall, Recording

pytestmark = pytest.mark.skipif(kernels.active_device() != "cpu", reason="steps are recorded on the CPU alone")


def recorded(compute, *arrays):
    """(what a function of arrays gives while it is recorded, the recording)."""
    with Recording() as recording:
        buffers = []
        for array in arrays:
            buffer = kernels.arena.empty(array.shape, array.dtype)
            buffer.view(np.ndarray)[...] = array
            buffers.append(buffer)
        result = compute(*buffers)
    return result, recording


def check(compute, *arrays, native=True):
    with np.errstate(all="ignore"):
        wanted = compute(*[array.copy() for array in arrays])
        found, recording = recorded(compute, *arrays)
    plain = found.view(np.ndarray)
    assert plain.dtype == wanted.dtype and plain.shape == wanted.shape
    assert [i > 0 for i in plain.strides] == [i > 0 for i in wanted.strides]
    assert plain.flags.c_contiguous == wanted.flags.c_contiguous
    np.testing.assert_array_equal(plain, wanted)
    real = plain[~np.isnan(plain)] if plain.dtype.kind == "f" else plain
    assert real.tobytes() == (wanted[~np.isnan(wanted)] if wanted.dtype.kind == "f" else wanted).tobytes()  # -0.0 too
    assert recording.spoiled is None
    assert all(isinstance(call, NativeCall) for call in recording.calls) == native


@st.composite
def arrays(draw, dtype=np.float32, most=4):
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=most)))
    if draw(st.integers(0, 9)) == 0:
        shape = (*shape[:1], 40_000 // shape[0])
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape) * 3
    x = x.astype(dtype)
    if dtype == np.float32:
        x.flat[0] = draw(st.sampled_from([0.0, -0.0, math.nan, math.inf, 1e-42, 3e38]))
    return x


ways = st.sampled_from(
    [lambda x: x, lambda x: x.T, lambda x: x[..., ::-1], lambda x: x[::2], lambda x: x[None, ..., :1]]
)
FUNCTIONS = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum"),
    *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
)


@settings(max_examples=200, deadline=None)
@given(arrays(), ways, st.sampled_from(FUNCTIONS), st.data())
def test_functions_of_two_arrays(x, way, name, data) -> None:
    function = getattr(np, name)
    other = np.random.default_rng(1).normal(size=way(x).shape).astype(np.float32)
    for axis in range(other.ndim):
        if data.draw(st.booleans()):
            other = other[(slice(None),) * axis + (slice(1),)]
    check(lambda a, b: function(way(a), b), x, other)
    check(lambda a, b: function(b, way(a)), x, other)
    check(lambda a: function(way(a), 1.5), x)
    check(lambda a: function(2, way(a)), x)
    if name in FUNCTIONS[:6]:
        check(lambda a, b: function(way(a), b > 0), x, other)
        check(lambda a, b: function(way(a), b, out=way(a)), x, other)
        check(lambda a: function(way(a), np.float64(1.5)), x, native=False)


ALONE = (
    *("negative", "absolute", "square", "sqrt", "reciprocal", "floor", "ceil", "sign"),
    *("isnan", "isfinite", "isinf"),
)
OF_TRUTHS = "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"


@settings(max_examples=100, deadline=None)
@given(arrays(), ways, st.sampled_from(ALONE))
def test_functions_of_one_array(x, way, name) -> None:
    x.flat[-1] = -0.0
    check(lambda a: getattr(np, name)(way(a)), x)
    if name in ALONE[:8]:
        check(lambda a: getattr(np, name)(way(a), out=way(a)), x)


@settings(max_examples=50, deadline=None)
@given(arrays(), ways, st.sampled_from(OF_TRUTHS))
def test_functions_of_truths(x, way, name) -> None:
    other = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    check(lambda a, b: getattr(np, name)(way(a) > 0, way(b) > 0), x, other)
    check(lambda a, b: getattr(np, name)(way(a) > 0, way(b)[..., :1] > 0), x, other)
    check(lambda a: ~(way(a) > 0), x)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([np.float32, np.bool_, np.int64, np.uint8, np.float64]).flatmap(arrays), ways, st.data())
def test_what_is_made_of_copies(x, way, data) -> None:
    axis, shift = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.integers(-3, 3))
    check(lambda a: np.concatenate([a, a[:0], a]), x)
    check(lambda a: np.concatenate([way(a), way(a)], axis=axis), x)
    check(lambda a: np.stack([way(a), way(a)], axis=axis), x)
    check(lambda a: np.roll(way(a), shift, axis), x)
    check(lambda a: np.tile(a, (2, 3)), x)
    for function in (np.zeros_like, np.ones_like):
        check(lambda a, function=function: function(way(a)), x)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([np.float32, np.bool_, np.int64, np.uint8, np.float64]).flatmap(arrays), ways)
def test_copies(x, way) -> None:
    size = way(x).size
    check(lambda a: way(a).copy(), x)
    check(lambda a: np.ascontiguousarray(way(a)) if not way(a).flags.c_contiguous else way(a).copy(), x)
    check(lambda a: way(a).reshape(size).copy(), x)
    check(lambda a: np.repeat(way(a), 3, -1), x)
    check(lambda a: np.repeat(way(a), 2, axis=0), x)
    check(lambda a: np.pad(way(a), [(1, 2)] * way(a).ndim, mode="constant", constant_values=1), x)
    check(lambda a: (way(a) * 0 == 0).astype(np.float32), x, native=x.dtype not in (np.uint8, np.float64))

    def assigned(a, b):
        b.fill(1)
        way(b)[...] = way(a)
        b[..., -1] = 0
        b[:1] = way(b)[:1].copy() if way(b)[:1].shape == b[:1].shape else 1
        return b

    check(assigned, x, x)


@settings(max_examples=50, deadline=None)
@given(arrays(), ways)
def test_choices_and_truths(x, way) -> None:
    other = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    check(lambda a, b: np.where(way(a) > 0, way(a), way(b)), x, other)
    check(lambda a, b: np.where(way(a) > 0, 0.0, way(b)), x, other)
    check(lambda a: way(a).astype(bool).astype(np.float32), x)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_number_of_two_bytes(name) -> None:
    narrow = np.dtype(config.standardize_dtype(name))
    x = np.arange(1 << 16, dtype=np.uint16).view(narrow)
    check(lambda a: a.astype(np.float32), x)
    wide = x[np.isfinite(x.astype(np.float32))].astype(np.float32)
    between = (wide[:-1] + wide[1:]) / 2
    for one in (wide, between, np.nextafter(between, math.inf), np.nextafter(between, -math.inf), wide * 1e5):
        check(lambda a: a.astype(narrow).astype(np.float32), one.astype(np.float32))
    x = x[: 6 * 7 * 9].reshape(6, 7, 9)
    for way in (lambda a: a.T, lambda a: a[..., ::-1], lambda a: a[:, 1:, ::2]):
        check(lambda a, way=way: way(a).astype(np.float32), x)
        check(lambda a, way=way: way(a).copy().astype(np.float32), x)
        check(lambda a, way=way: way(a.astype(np.float32)).astype(narrow).astype(np.float32), x)


@settings(max_examples=50, deadline=None)
@given(arrays(most=3), st.booleans(), st.data())
def test_any_and_all(x, keepdims, data) -> None:
    x = np.stack([x, -x])
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for function in (np.any, np.all):
        check(lambda a, function=function: function(a > 0, axis=axis, keepdims=keepdims), x)
    check(lambda a: np.any(a > 0, axis=(0, 1), keepdims=keepdims), x[..., None])


def test_memory_that_is_shared_is_left_to_numpy() -> None:
    def shifted(a):
        a[1:] = a[:-1]
        return a

    def summed(a):
        np.add(a[1:], a[:-1], out=a[1:])
        return a

    x = np.arange(5, dtype=np.float32)
    check(shifted, x, native=False)
    check(summed, x, native=False)


def test_numbers_tell_recordings_apart() -> None:
    x = np.ones(3, np.float32)
    for compute in (lambda number: lambda a: a + number, lambda number: lambda a: a.fill(number)):
        same, again, other = (recorded(compute(number), x)[1].signature() for number in (2.0, 2.0, 3.0))
        assert same == again != other


INTEGERS = [np.bool_, np.uint8, np.int32, np.int64]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(INTEGERS).flatmap(arrays), ways, st.sampled_from(INTEGERS), st.sampled_from(FUNCTIONS[6:]))
def test_integers_are_compared_and_converted(x, way, other_type, name) -> None:
    other = (np.random.default_rng(1).normal(size=x.shape) * 3).astype(other_type)
    check(lambda a, b: getattr(np, name)(way(a), way(b)), x, other)
    check(lambda a: getattr(np, name)(way(a), 1), x)
    for target in (*INTEGERS, np.float32):
        check(lambda a, target=target: way(a).astype(target), x)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([np.int32, np.int64]).flatmap(arrays), ways, st.sampled_from(["add", "subtract", "multiply"]))
def test_arithmetic_of_integers(x, way, name) -> None:
    x.flat[0] = np.iinfo(x.dtype).max
    other = (np.random.default_rng(1).normal(size=x.shape) * 3).astype(np.int32)
    check(lambda a, b: getattr(np, name)(way(a), way(b)), x, other)
    check(lambda a: getattr(np, name)(7, way(a)), x)
    check(lambda a: way(a) % 5, x)
    check(lambda a: way(a) % -5, x, native=False)


@settings(max_examples=50, deadline=None)
@given(arrays(), ways, st.sampled_from([np.int32, np.int64]))
def test_numbers_that_are_cut_to_integers(x, way, target) -> None:
    with np.errstate(all="ignore"):
        fits = bool((np.abs(way(x)) < 2.0 ** (31 if target == np.int32 else 63)).all())
    check(lambda a: way(a).astype(target), x, native=fits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e9])
def test_a_number_beyond_the_integers_ends_a_program(value) -> None:
    with Recording() as recording:
        buffer = kernels.arena.empty((4,), np.dtype("f4"))
        buffer.view(np.ndarray)[...] = 1.5
        result = buffer.astype(np.int32)
    program = Program(recording, [])
    assert program.run() and result.view(np.ndarray).tolist() == [1] * 4
    buffer.view(np.ndarray)[2] = value
    assert not program.run()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([np.float32, np.int64, np.int32]).flatmap(arrays), st.data())
def test_elements_are_taken(x, data) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    rng, size = np.random.default_rng(2), x.shape[axis]
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    indices = rng.integers(-size, size, data.draw(st.sampled_from([(5,), (2, 3)]))).astype(dtype)
    check(lambda a, b: np.take(a, b, axis=axis), x, indices)
    check(lambda a, b: np.take(a, b, axis, mode="clip"), x, indices)
    shape = list(x.shape)
    shape[axis] = 3
    along = rng.integers(-size, size, shape).astype(dtype)
    check(lambda a, b: np.take_along_axis(a, b, axis), x, along, native=x.itemsize == 4)


def test_an_index_out_of_range_ends_a_program() -> None:
    with Recording() as recording:
        x = kernels.arena.empty((4, 3), np.dtype("f4"))
        x.view(np.ndarray)[...] = 1.5
        indices = kernels.arena.empty((2,), np.dtype("i4"))
        indices.view(np.ndarray)[...] = 3, -4
        np.take(x, indices, axis=0)
    program = Program(recording, [])
    assert program.run()
    indices.view(np.ndarray)[1] = 4
    assert not program.run()
    with pytest.raises(IndexError):
        program.explain()


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([np.float32, np.int32, np.int64]).flatmap(arrays), ways)
def test_choices_of_numbers_of_a_type(x, way) -> None:
    check(lambda a: np.where(way(a) > 0, way(a), x.dtype.type(2)), x)

    def copied(a, b):
        np.copyto(b, way(a))
        return b

    check(copied, x, np.zeros(way(x).shape, x.dtype))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(1, 7), st.integers(0, 99))
def test_numbers_are_added_along_an_axis(before, count, after, size, seed) -> None:
    rng = np.random.default_rng(seed)
    g, indices = rng.normal(size=(before, count, after)).astype("f4"), rng.integers(-size, size, (before, count, after))
    np.testing.assert_array_equal(
        kernels.add_along(g, indices, size, 1), kernels.reference_table().add_along(g, indices, size, 1)
    )
