"""Conversion, control flow, scattering and the error function."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minikeras
from minikeras import kernels, ops
from minikeras.autodiff import KerasTensor, Variable, check_gradients, grad, recording


def test_conversion() -> None:
    assert ops.convert_to_tensor([1.0, 2.0]).dtype == np.float32
    assert ops.convert_to_tensor([1, 2]).dtype == np.int32
    assert ops.convert_to_tensor(True).dtype == bool
    assert ops.convert_to_tensor(np.ones(2)).dtype == np.float64
    assert ops.convert_to_tensor([np.float64(1)]).dtype == np.float64
    assert ops.convert_to_tensor(np.ones(2), "float32").dtype == np.float32
    tensor = ops.convert_to_tensor([[1.0, 2.0]])
    assert ops.convert_to_tensor(tensor) is tensor
    assert ops.cast(tensor, "float32") is tensor
    symbol = KerasTensor((None, 3))
    assert ops.convert_to_tensor(symbol) is symbol
    assert ops.cast(symbol, "int32").dtype == "int32"
    assert ops.shape(symbol) == (None, 3)
    assert ops.shape([[1, 2]]) == (1, 2)
    assert (ops.ndim(tensor), ops.size(tensor), ops.size(symbol)) == (2, 2, None)
    assert (ops.dtype(tensor), ops.dtype(3)) == ("float32", "int32")
    assert ops.is_tensor(tensor) and ops.is_tensor(symbol) and not ops.is_tensor(np.ones(2))
    array = ops.convert_to_numpy(tensor)
    array[...] = 0
    assert tensor.tolist() == [[1.0, 2.0]]


def test_cast_between_floats_keeps_the_gradient_and_its_type() -> None:
    v = Variable(np.ones(3), dtype="float32")
    gradient = grad(lambda v: ops.sum(ops.cast(v, "float64") * np.arange(3.0)))(v)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [0, 1, 2])


@pytest.mark.parametrize("to", ["bool", "int8", "uint8", "int32", "int64", "float16", "float32"])
@pytest.mark.parametrize("of", ["float32", "float64", "int32", "uint8", "bool"])
def test_saturate_cast(of: str, to: str) -> None:
    numbers = np.array([-1e12, -300, -1, 0, 1, 127, 255, 300, 1e12])
    if of == "bool":
        x = numbers > 0
    elif of.startswith("float"):
        x = numbers.astype(of)
    else:
        x = np.clip(numbers, np.iinfo(of).min, np.iinfo(of).max).astype(of)
    result = ops.saturate_cast(x, to)
    if to == "bool":
        expected = x.astype(float) > 0
    elif to.startswith("float"):
        expected = np.clip(x.astype("float64"), np.finfo(to).min, np.finfo(to).max).astype(to)
    else:
        limits = np.iinfo(to)
        expected = np.array([min(max(int(value), limits.min), limits.max) for value in x])
    assert str(result.dtype) == to
    if to == "int32" and of == "float32":  # the largest float32 not beyond the limit
        np.testing.assert_allclose(result, expected, rtol=1e-7)
    else:
        np.testing.assert_array_equal(result, expected)


def test_stop_gradient() -> None:
    x = ops.convert_to_tensor(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(grad(lambda x: ops.sum(x * ops.stop_gradient(x)))(x), [1, 2])


def test_segments() -> None:
    data, ids = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0]]), np.array([0, 0, 2])
    np.testing.assert_array_equal(ops.segment_sum(data, ids), [[3, 8], [0, 0], [4, 4]])
    np.testing.assert_array_equal(ops.segment_max(data, ids, 3), [[2, 5], [-np.inf, -np.inf], [4, 4]])
    nowhere = np.array([-1, 0, -2])  # slices that are in no segment
    np.testing.assert_array_equal(ops.segment_sum(data, nowhere, 2), [[2, 3], [0, 0]])
    np.testing.assert_array_equal(ops.segment_max(data, nowhere, 2), [[2, 3], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(ops.segment_min(data, nowhere, 2), [[2, 3], [np.inf, np.inf]])
    np.testing.assert_array_equal(ops.segment_prod(data, nowhere, 2), [[2, 3], [1, 1]])
    beyond = np.array([5, 0, -2])
    for name in ("sum", "max", "min", "prod"):
        reduce = getattr(ops, f"segment_{name}")
        if kernels.active_device() == "gpu":
            np.testing.assert_array_equal(reduce(data, beyond, 2), reduce(data, nowhere, 2))
            gradient = grad(lambda x, reduce=reduce: ops.sum(reduce(x, ops.convert_to_tensor(beyond), 2)[0]))
            np.testing.assert_array_equal(gradient(ops.convert_to_tensor(data)), [[0, 0], [1, 1], [0, 0]])
        else:
            with pytest.raises(IndexError):
                reduce(data, beyond, 2)


def test_top_k_and_in_top_k() -> None:
    values, indices = ops.top_k(np.array([5, 2, 7, 7, 9, 3]), 3)
    np.testing.assert_array_equal(values, [9, 7, 7])
    np.testing.assert_array_equal(indices, [4, 2, 3])
    predictions = np.array([[0.1, 0.4, 0.6, 0.9, 0.5], [0.1, 0.7, 0.9, 0.8, 0.3], [0.1, 0.6, 0.9, 0.9, 0.5]], "float32")
    np.testing.assert_array_equal(ops.in_top_k(np.array([2, 5, 3]), predictions, 3), [True, False, True])
    np.testing.assert_array_equal(ops.in_top_k(np.array([0, 0, 0]), predictions, 4), [False] * 3)


def test_scatter() -> None:
    indices, updates = np.array([[0, 1], [2, 0]]), np.array([1.5, 2.5])
    np.testing.assert_array_equal(ops.scatter(indices, updates, (3, 2)), [[0, 1.5], [0, 0], [2.5, 0]])
    x = np.ones((3, 2))
    np.testing.assert_array_equal(
        ops.scatter_update(x, [[1], [1]], np.array([[1.0, 2], [3, 4]]), "add"), [[1, 1], [5, 7], [1, 1]]
    )
    x, places, values = np.full((3, 2), 2.0), [[1], [1], [-1]], np.array([[1.0, 3], [5, -4], [6, 7]])
    for reduction, of in (("mul", np.multiply), ("max", np.maximum), ("min", np.minimum)):
        wanted = x.copy()
        of.at(wanted, [1, 1, -1], values)
        np.testing.assert_array_equal(ops.scatter_update(x, places, values, reduction), wanted)
    np.testing.assert_array_equal(ops.scatter_update([5, 2], [[0]], [3], "min"), [3, 2])
    np.testing.assert_array_equal(x, np.full((3, 2), 2))


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 4e-16), ("float32", 3e-7)])
def test_erf(dtype: str, bound: float) -> None:
    x = np.concatenate([np.linspace(-8, 8, 4001), [-np.inf, np.inf, 0.46875, 4.0, 1e-300, 30]]).astype(dtype)
    result = ops.erf(x)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, [math.erf(value) for value in x], rtol=bound * 3, atol=bound)
    assert np.isnan(ops.erf(np.nan))
    assert ops.erf(np.ones((0, 3))).shape == (0, 3)


def test_a_tensor_always_holds_an_array() -> None:
    x = ops.convert_to_tensor(np.array([1.0, 2.0]))
    for value in (ops.sum(x), x[0], ops.sum(x) + 1, ops.max(x) > 1, ops.split(x, 2)[0][0], -x[1]):
        assert isinstance(value.data, kernels.xp.ndarray)
    assert (ops.sum(x) * 2).dtype == np.float64


def test_nothing_is_recorded_without_a_tape() -> None:
    v = Variable(np.ones(2))
    assert ops.exp(v).node is None
    with recording():
        assert ops.exp(v).node is not None
        assert ops.argmax(v).node is None
        assert ops.exp(ops.stop_gradient(v)).node is None


def test_scatter_adds_up_what_comes_to_one_place() -> None:
    indices, values = np.array([[0], [2], [0]]), np.array([1.0, 2.0, 5.0])
    np.testing.assert_array_equal(ops.scatter(indices, values.astype("int32"), (4,)), [6, 0, 2, 0])
    check_gradients(lambda values: ops.scatter(indices, values, (4,)) ** 2, values)
    rows = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(ops.scatter(indices, rows, (3, 2)), [rows[0] + rows[2], [0, 0], rows[1]])


def test_a_slice_that_is_not_there_is_refused() -> None:
    x = np.arange(12.0, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(ops.slice(x, (1, 0), (-1, 2)).numpy(), x[1:, :2])
    for start, shape in (((1, 1), (3, 3)), ((-1, 0), (1, 4)), ((3, 0), (1, 4)), ((0, 0), (-2, 4)), ((0,), (2,))):
        with pytest.raises(ValueError, match="does not lie within shape"):
            ops.slice(x, start, shape)
    for start in ((2, 2), (-1, 0), (0,)):
        with pytest.raises(ValueError, match="does not lie within shape"):
            ops.slice_update(x, start, np.ones((1, 3), "float32"))


@pytest.mark.parametrize("axis", [2, -3, 1.5, "1", True])
def test_an_axis_that_is_not_there_is_refused(axis: object) -> None:
    x = np.arange(6.0, dtype="float32").reshape(2, 3)
    calls = [
        lambda: ops.concatenate([x, x], axis=axis),
        lambda: ops.split(x, 1, axis=axis),
        lambda: ops.unstack(x, axis=axis),
        lambda: ops.repeat(x, 2, axis=axis),
        lambda: ops.layer_normalization(ops.convert_to_tensor(x), axis=axis),
        lambda: ops.tensordot(x, x.T, axes=([axis], [0])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="There is no axis"):
            call()


def test_tensordot_sums_over_axes_that_go_together() -> None:
    x = np.arange(6.0, dtype="float32").reshape(2, 3)
    np.testing.assert_array_equal(ops.tensordot(x, x.T, axes=([0, 1], [1, 0])).numpy(), np.float32(55))
    for axes in (2, ([0, 1], [0, 1]), ([1, 1], [0, 0]), ([0, 0], [1, 1])):
        with pytest.raises(ValueError, match="pairs of axes of equal size, each axis once"):
            ops.tensordot(x, x.T, axes=axes)
    with pytest.raises(ValueError, match="empty list"):
        ops.concatenate([])


def test_a_slice_from_a_symbolic_start():
    x, start = minikeras.Input((5,)), minikeras.Input((), batch_size=2, dtype="int32")
    for row, begin in ((1, start), (1, [start[0], start[1]]), (0, [0, start[1]])):
        part = ops.slice(x, begin, (1, 2))
        assert part.shape == (1, 2)
        model = minikeras.Model([x, start], part)
        values = np.arange(10, dtype="f4").reshape(2, 5)
        assert np.array_equal(model([values, np.array([1, 2], "int32")]), values[row : row + 1, 2:4])
    assert ops.slice(x, start, (1, -1)).shape == (1, None)
    with pytest.raises(ValueError, match="argument 2 is"):
        ops.slice(minikeras.Input((5, 5)), start, (1, 2, 2))
