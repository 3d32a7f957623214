"""Products of an axis with a matrix of few weights, against the dense product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras import kernels as k
from minikeras.kernels.reference.resample import Weights, placing, resizing


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(0, 2),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from(["float32", "float64", "uint8"]),
)
def test_any_matrix(seed, axis, length, target, entries, dtype):
    rng = np.random.default_rng(seed)
    matrix = np.zeros((target, length))
    matrix[rng.integers(0, target, entries), rng.integers(0, length, entries)] = rng.normal(size=entries)
    shape = [2, 3, 40]
    shape[axis] = length
    x = (9 * rng.random(shape)).astype(dtype)
    weights = Weights(matrix)
    wanted = np.moveaxis(np.tensordot(matrix, x.astype("f8"), ([1], [axis])), 0, axis)
    found = k.to_host(k.resample(k.to_device(x), weights, axis))
    assert found.dtype == (dtype if dtype != "uint8" else "float32")
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    turned = k.xp.empty(wanted.shape[::-1], found.dtype).transpose()  # not contiguous
    np.testing.assert_allclose(k.to_host(k.resample(k.to_device(x), weights, axis, out=turned)), wanted, 1e-5, 1e-4)
    np.testing.assert_array_equal(weights.transposed.matrix, matrix.T)


@pytest.mark.parametrize(
    "interpolation", ["nearest", "area", "bilinear", "bicubic", "lanczos3", "lanczos5", "gaussian"]
)
def test_weights_of_a_pixel_sum_to_one(interpolation):
    for length in (1, 3, 8):
        for target in (1, 3, 5, 17):
            matrix = resizing(length, target, interpolation, antialias=interpolation == "lanczos3").matrix
            np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    outside = placing(3, 5, 1.0, 2.0, "bilinear").matrix
    np.testing.assert_array_equal(outside[:2], 0)
    np.testing.assert_allclose(outside[2:], np.eye(3), atol=1e-12)
