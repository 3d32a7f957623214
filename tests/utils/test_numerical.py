"""`utils.to_categorical` and `utils.normalize`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minikeras import config, ops
from minikeras.autodiff import Tensor
from minikeras.utils.numerical import normalize, to_categorical


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.integers(0, 6)))
def test_to_categorical_is_a_row_of_the_identity(x):
    squeezed = x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x
    for num_classes in (None, 7, 9):
        y = to_categorical(x, num_classes)
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, np.eye(num_classes or x.max() + 1)[squeezed])


@pytest.mark.parametrize(
    "x",
    [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1], np.uint8), np.array([0.0, 2.0, 1.0]), np.array([0, 2, 1], object),
     np.array([[0], [2], [1]], np.int32), memoryview(bytes([0, 2, 1]))],
)  # fmt: skip
def test_to_categorical_takes_any_whole_numbers(x):
    np.testing.assert_array_equal(to_categorical(x), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_to_categorical_of_booleans_scalars_and_nothing():
    np.testing.assert_array_equal(to_categorical([True, False]), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(to_categorical(1, 3), [0, 1, 0])
    np.testing.assert_array_equal(to_categorical([1, 0], 0), [[0, 1], [1, 0]])
    assert to_categorical([], 3).shape == (0, 3)
    assert to_categorical([0, 1], 2, dtype="uint8").dtype == np.uint8


@pytest.mark.parametrize(
    ("x", "num_classes", "message"),
    [
        ([0, -1], None, r"labels from 0 to 0, got -1"),
        ([0, 3], 3, r"labels from 0 to 2, got 3"),
        ([0, 1.5], None, r"whole numbers as labels, got 1\.5"),
        ([0, np.nan], 3, r"whole numbers as labels, got nan"),
        ([np.inf], 3, r"whole numbers as labels, got inf"),
        (np.array([2**64 - 1], np.uint64), 3, r"whole numbers .*18446744073709551615"),
        (["a", "b"], None, r"whole numbers as labels, got <U1 values"),
        (["1", "2"], None, r"whole numbers as labels, got 1"),
        ([], None, r"got no labels \(shape \(0,\)\)"),
    ],
)
def test_to_categorical_refuses_what_it_would_corrupt(x, num_classes, message):
    with pytest.raises(ValueError, match=message):
        to_categorical(x, num_classes)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=4), elements=st.integers(-9, 9)),
    st.sampled_from([0, 1, -1, -2]),
    st.sampled_from([1, 2, np.inf]),
)
def test_normalize_gives_unit_or_zero_vectors(x, axis, order):
    y = normalize(x, axis, order)
    norms = np.linalg.norm(y, order, axis)
    np.testing.assert_allclose(norms, np.any(x, axis), rtol=0, atol=1e-12)
    np.testing.assert_allclose(y * np.linalg.norm(x, order, axis, keepdims=True), x, rtol=0, atol=1e-12)


def test_normalize_of_whole_arrays_and_types():
    np.testing.assert_allclose(normalize([3, 4]), [0.6, 0.8])
    np.testing.assert_allclose(normalize([[3.0, 0], [0, 4]], axis=None), [[0.75, 0], [0, 1]])  # the matrix norm
    assert normalize(np.ones(3, np.float32)).dtype == np.float32 and normalize([1, 1]).dtype == np.float64
    x = np.zeros((2, 3))
    np.testing.assert_array_equal(normalize(x), x)
    assert normalize(x) is not x


def test_tensors_give_tensors():
    y = to_categorical(ops.convert_to_tensor([[0], [2], [7]]), 3)
    assert isinstance(y, Tensor) and y.dtype == config.floatx()
    np.testing.assert_array_equal(ops.convert_to_numpy(y), [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert to_categorical(ops.convert_to_tensor([0, 4])).shape == (2, 5)
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    for order in (1, 2):
        y = normalize(ops.convert_to_tensor(x), order=order)
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(ops.convert_to_numpy(y), normalize(x, order=order), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: to_categorical([0, 1], 2.5), "num_classes must be a whole number of at least 0 or None, got 2.5"),
        (lambda: to_categorical([0, 1], -2), "num_classes must be a whole number of at least 0 or None, got -2"),
        (lambda: to_categorical([-1, 1]), "to_categorical expects labels from 0 to 1, got -1"),
        (lambda: to_categorical([0, 7], 3), "to_categorical expects labels from 0 to 2, got 7"),
        (lambda: normalize([["x"]]), "normalize takes an array of numbers, got <U1 values"),
        (lambda: normalize(np.ones((2, 2)), 5), "axis must be a whole number from -2 to 1 or None, got 5"),
        (lambda: normalize(np.ones((2, 2)), order="x"), "order must be a number, got 'x'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
