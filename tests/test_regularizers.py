"""Regularizers: values, gradients, configuration and names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minikeras import regularizers
from minikeras.autodiff import Tensor, Variable, check_gradients
from minikeras.registry import register_keras_serializable

MATRIX = np.random.default_rng(0).normal(size=(4, 5))
ALL = [
    regularizers.L1(0.3),
    regularizers.L2(0.3),
    regularizers.L1L2(0.2, 0.5),
    regularizers.L1L2(),
    regularizers.OrthogonalRegularizer(0.3),
    regularizers.OrthogonalRegularizer(0.3, mode="columns"),
]


@pytest.mark.parametrize("regularizer", ALL, ids=lambda r: type(r).__name__)
def test_gradients(regularizer: regularizers.Regularizer) -> None:
    check_gradients(regularizer, MATRIX)


@given(x=arrays.arrays(np.float64, arrays.array_shapes(max_dims=4), elements=st.floats(-10, 10)))
def test_values(x: np.ndarray) -> None:
    np.testing.assert_allclose(regularizers.L1(0.3)(x), 0.3 * np.abs(x).sum(), atol=1e-12)
    np.testing.assert_allclose(regularizers.L2(0.3)(x), 0.3 * (x**2).sum(), atol=1e-12)  # no factor 1/2
    expected = 0.2 * np.abs(x).sum() + 0.5 * (x**2).sum()
    np.testing.assert_allclose(regularizers.L1L2(0.2, 0.5)(x), expected, atol=1e-12)


def test_orthogonal_is_the_mean_cosine_of_pairs() -> None:
    x = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(regularizers.OrthogonalRegularizer(0.6)(x), 0.6 * (0 + 2 * np.sqrt(0.5)) / 3)


def test_types_of_weights_stay() -> None:
    for regularizer in ALL:
        assert regularizer(Variable(MATRIX, dtype="float32")).dtype == np.float32
        assert isinstance(regularizer(MATRIX), Tensor)


def test_configuration_brings_a_regularizer_back() -> None:
    for regularizer in ALL:
        again = regularizers.deserialize(regularizers.serialize(regularizer))
        assert type(again) is type(regularizer) and again.get_config() == regularizer.get_config()


def test_names() -> None:
    assert regularizers.get(None) is None
    assert regularizers.get("l2").l2 == 0.01 and regularizers.get("L1").l1 == 0.01
    assert regularizers.l1_l2 is regularizers.L1L2 and isinstance(regularizers.get("l1_l2"), regularizers.L1L2)
    assert regularizers.get({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}}).l2 == 0.5
    with pytest.raises(ValueError, match=r"(?i)did you mean 'l2'"):
        regularizers.get("l22")


def test_own_regularizer() -> None:
    @register_keras_serializable(package="tests")
    class Cubes(regularizers.Regularizer):
        def __call__(self, x):
            return (x**3).sum()

        def get_config(self):
            return {}

    assert isinstance(regularizers.deserialize(regularizers.serialize(Cubes())), Cubes)
    with pytest.raises(NotImplementedError, match="get_config"):
        regularizers.Regularizer().get_config()


@pytest.mark.parametrize("factor", [-1, np.inf, np.nan, "much", [1], True])
def test_factors(factor: object) -> None:
    for make in (regularizers.L2, regularizers.L1, regularizers.L1L2, regularizers.OrthogonalRegularizer):
        with pytest.raises(ValueError, match=r"A regularizer's (l1|l2|factor) must be a number at least 0, got .+\.$"):
            make(factor)


def test_orthogonal_needs_a_matrix_and_a_mode() -> None:
    with pytest.raises(ValueError, match="needs a matrix"):
        regularizers.OrthogonalRegularizer()(np.ones(3))
    with pytest.raises(ValueError, match="mode"):
        regularizers.OrthogonalRegularizer(mode="diagonal")
