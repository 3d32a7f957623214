"""Choices and loops: on values, their gradients, and on symbolic tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikeras
from minikeras import ops
from minikeras.autodiff import GradientTape, KerasTensor, Variable, check_gradients


def values(structure: Any) -> Any:
    return minikeras.tree.map_structure(lambda leaf: np.asarray(leaf).tolist(), structure)


def test_choices() -> None:
    x = ops.convert_to_tensor([1.0, 2.0])
    assert ops.cond(ops.convert_to_tensor(True), lambda: 1, lambda: 2) == 1
    assert values(ops.cond(ops.sum(x) > 5, lambda: {"y": x}, lambda: {"y": -x})) == {"y": [-1, -2]}
    branches = [lambda x: x, lambda x: -x]
    assert [ops.switch(i, branches, 3) for i in (-2, 0, 1, 7)] == [3, 3, -3, -3]
    assert ops.switch(np.int32(1), branches, 3) == -3
    check_gradients(lambda x: ops.cond(ops.sum(x) > 0, lambda: x**2, lambda: x**3), np.array([0.3, -1.0]), order=2)
    check_gradients(lambda x: ops.switch(1, [ops.sin, ops.cos], x), np.array([0.3, -1.0]), order=2)


def test_while_loop() -> None:
    assert ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0)) == (4, 6)
    assert ops.while_loop(lambda x: x < 100, lambda x: x * 2, 1, maximum_iterations=3) == 8
    assert values(ops.while_loop(lambda x, y: x < 3, lambda x, y: [x + 1, [y[0] * 2.0]], [0, [1.0]])) == [3, [8.0]]
    assert ops.while_loop(lambda x: x < 0, lambda x: x, 1) == 1
    check_gradients(
        lambda x: ops.while_loop(lambda v: ops.max(v) < 50, lambda v: v * v + 1, x), np.array([0.3, 0.7]), order=2
    )


def test_fori_loop() -> None:
    assert ops.fori_loop(0, 4, lambda i, s: s + i, 0) == 6
    assert ops.fori_loop(3, 3, lambda i, s: s + i, 7) == 7
    check_gradients(lambda x: ops.fori_loop(1, 4, lambda i, v: v * x + i, x), np.array([0.3, 0.7]), order=2)


def test_map() -> None:
    x = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(ops.map(lambda row: ops.sum(row), x), x.sum(1))
    assert values(ops.map(lambda x: {"y1": x**2, "y2": [x * 10]}, ops.arange(3))) == {
        "y1": [0, 1, 4],
        "y2": [[0, 10, 20]],
    }
    sums, both = ops.vectorized_map(lambda pair: (pair[0] + pair[1], pair[0]), [x, x])
    np.testing.assert_array_equal(sums, 2 * x)
    np.testing.assert_array_equal(both, x)
    check_gradients(lambda x: ops.map(lambda row: ops.square(row), x), x, order=2)


def test_scan() -> None:
    xs = ops.arange(1, 6)
    last, sums = ops.scan(lambda carry, x: (carry + x, carry * 10 + x), 0, xs)
    assert (int(last), sums.tolist()) == (15, [1, 12, 33, 64, 105])
    last, sums = ops.scan(lambda carry, x: (carry + x, carry + x), 0, xs, reverse=True)
    assert (int(last), sums.tolist()) == (15, [15, 14, 12, 9, 5])
    last, nothing = ops.scan(lambda carry, x: (carry * 2, None), 1, length=4)
    assert (int(last), nothing) == (16, None)
    (a, b), found = ops.scan(
        lambda carry, x: ((carry[0] + x["a"], carry[1] * x["b"]), {"sum": carry[0]}),
        (0.0, 1.0),
        {"a": np.array([1.0, 2.0], "f4"), "b": np.array([3.0, 4.0], "f4")},
    )
    assert (float(a), float(b), found["sum"].tolist()) == (3, 12, [0, 1])

    def rnn(w: Any, xs: Any) -> Any:
        return ops.scan(lambda h, x: (ops.tanh(ops.matmul(h, w) + x),) * 2, ops.zeros(2, "float64"), xs)

    rng = np.random.default_rng(0)
    check_gradients(rnn, rng.normal(size=(2, 2)), rng.normal(size=(4, 2)), order=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"xs": np.zeros(0)}, r"at least one step.*lengths \[0\]"),
        ({}, "length=None"),
        ({"xs": np.ones(3), "length": 4}, r"lengths \[3\] and length=4"),
        ({"xs": [np.ones(3), np.ones(2)]}, r"lengths \[3, 2\]"),
        ({"length": 2, "unroll": 0}, "unroll must be.*got 0"),
    ],
)
def test_scans_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ops.scan(lambda carry, x: (carry, carry), 0, **options)
    for scan in (ops.scan, ops.associative_scan):
        with pytest.raises(TypeError, match="takes a function"):
            scan(3, np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="one size along axis 0"):
        ops.associative_scan(lambda a, b: a, [np.ones(2), np.ones(3)])


@given(size=st.integers(1, 9), axis=st.integers(-2, 1), reverse=st.booleans())
def test_associative_scan(size: int, axis: int, reverse: bool) -> None:
    """An operation that does not commute: affine functions, one after the other."""
    rng = np.random.default_rng(size)
    shape = (2, size) if axis in (1, -1) else (size, 2)
    a, b = rng.normal(size=shape), rng.normal(size=shape)

    def after(first: Any, second: Any) -> Any:
        return second[0] * first[0], second[0] * first[1] + second[1]

    found = ops.associative_scan(after, (a, b), reverse=reverse, axis=axis)
    rows = [np.moveaxis(one, axis, 0) for one in (a, b)]
    rows = [one[::-1] for one in rows] if reverse else rows
    expected = [(rows[0][0], rows[1][0])]
    for i in range(1, size):
        expected.append(after(expected[-1], (rows[0][i], rows[1][i])))
    for one, parts in zip(found, zip(*expected, strict=True), strict=True):
        whole = np.stack(parts[::-1] if reverse else parts)
        np.testing.assert_allclose(one, np.moveaxis(whole, 0, axis), rtol=1e-10)


def test_associative_scan_of_structures() -> None:
    assert ops.associative_scan(lambda x, y: x + y, ops.arange(5)).tolist() == [0, 1, 3, 6, 10]
    found = ops.associative_scan(lambda x, y: [x[0] + y[0], x[1] * y[1]], [ops.arange(1, 4), ops.arange(1, 4)])
    assert values(found) == [[1, 3, 6], [1, 2, 6]]
    check_gradients(lambda x: ops.associative_scan(lambda a, b: a * b, x), np.array([0.5, 2.0, 3.0]), order=2)


# ---------------------------------------------------------------- symbolic tensors


def test_loops_in_a_functional_model() -> None:
    x = minikeras.Input((3, 2))
    counted, squared = ops.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), (0, x))
    assert (counted.shape, counted.dtype, squared.shape) == ((), "int32", (None, 3, 2))
    outputs = [
        squared,
        ops.fori_loop(0, 2, lambda i, v: v + i, x),
        ops.map(lambda row: ops.sum(row, axis=0), x),
        ops.vectorized_map(lambda row: row * 2.0, x),
        ops.scan(lambda carry, row: (carry, ops.sum(row)), 0.0, x)[1],
        ops.associative_scan(lambda a, b: a + b, x, axis=1),
        ops.switch(1, [ops.sin, ops.cos], x),
        ops.cond(False, lambda: x, lambda: -x),
    ]
    shapes = [(None, 3, 2), (None, 3, 2), (None, 2), (None, 3, 2), (None,), (None, 3, 2), (None, 3, 2), (None, 3, 2)]
    assert [one.shape for one in outputs] == shapes
    model = minikeras.Model(x, outputs)
    data = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    expected = [data * 8, data + 1, data.sum(1), data * 2, data.sum((1, 2)), data.cumsum(1), np.cos(data), -data]
    for found in (model(data), model.predict(data, verbose=0)):
        for one, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, value, rtol=1e-5, atol=1e-6)


def test_symbolic_conditions() -> None:
    x, flag, index = minikeras.Input((2,)), minikeras.Input(batch_shape=(), dtype="bool"), KerasTensor((), "int32")
    kept = ops.cond(flag, lambda: {"y": x * 2.0}, lambda: {"y": -x})
    assert kept["y"].shape == (None, 2)
    model = minikeras.Model([x, flag], kept)
    data, weight = np.array([[1.0, 2.0]], "float32"), Variable([[3.0, 4.0]])
    assert model([data, np.array(True)])["y"].tolist() == [[2, 4]]
    with GradientTape() as tape:
        y = model([weight, np.array(False)])["y"]
    assert tape.gradient(y, weight).tolist() == [[-1, -1]]
    assert ops.switch(index, [lambda x: x, lambda x: x * 2.0], x).shape == (None, 2)
    assert ops.cond(flag, lambda: 1, lambda: 2).dtype == "int32"
    with pytest.raises(ValueError, match="of the same shapes and types"):
        ops.cond(flag, lambda: x, lambda: ops.sum(x, axis=1))
    with pytest.raises(ValueError, match="uses the symbolic tensor"):
        ops.map(lambda row: row * x, minikeras.Input((2,)))
