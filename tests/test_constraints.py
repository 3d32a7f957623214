"""Constraints: what they guarantee, configuration and names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minikeras import Input, Sequential, constraints, layers
from minikeras import kernels as k
from minikeras.autodiff import Tensor, Variable

WEIGHTS = arrays.arrays(np.float64, (4, 3), elements=st.floats(-10, 10).map(lambda v: v if abs(v) > 1e-3 else 0.0))
ALL = [
    constraints.MaxNorm(1.5, axis=1),
    constraints.NonNeg(),
    constraints.UnitNorm([0, 1]),
    constraints.MinMaxNorm(0.5, 2.0, 0.3),
]


def norms(w, axis=0):
    return np.sqrt((np.asarray(w) ** 2).sum(axis))


@given(w=WEIGHTS)
def test_guarantees(w: np.ndarray) -> None:
    assert (norms(constraints.MaxNorm(1.5)(w)) <= 1.5 + 1e-9).all()
    inside = norms(w) < 1.5
    np.testing.assert_allclose(np.asarray(constraints.MaxNorm(1.5)(w))[:, inside], w[:, inside], rtol=1e-3)
    np.testing.assert_array_equal(constraints.NonNeg()(w), np.maximum(w, 0))
    nonzero = norms(w) > 0
    np.testing.assert_allclose(norms(constraints.UnitNorm()(w))[nonzero], 1, rtol=1e-3)
    bounded = norms(constraints.MinMaxNorm(0.5, 2)(w))[nonzero]
    assert (bounded > 0.499).all() and (bounded <= 2).all()


def test_rate_goes_part_of_the_way() -> None:
    w = np.array([[4.0], [3.0]])
    np.testing.assert_allclose(norms(constraints.MinMaxNorm(0, 1, rate=0.25)(w)), 0.25 * 1 + 0.75 * 5, rtol=1e-6)


@pytest.mark.parametrize("constraint", ALL, ids=lambda c: type(c).__name__)
def test_takes_arrays_and_tensors_and_keeps_them(constraint: constraints.Constraint) -> None:
    w = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    kept = w.copy()
    variable = Variable(w)
    for value in (k.to_device(w), Tensor(k.to_device(w)), variable):
        projected = constraint(value)
        assert isinstance(projected, Tensor) and projected.shape == (4, 3) and projected.dtype == np.float32
        np.testing.assert_array_equal(projected, constraint(w))
    np.testing.assert_array_equal(variable.numpy(), kept)


def test_configuration_brings_a_constraint_back() -> None:
    for constraint in ALL:
        again = constraints.deserialize(constraints.serialize(constraint))
        assert type(again) is type(constraint) and again.get_config() == constraint.get_config()


def test_names() -> None:
    assert constraints.get(None) is None
    assert isinstance(constraints.get("non_neg"), constraints.NonNeg)
    assert isinstance(constraints.get("MaxNorm"), constraints.max_norm)
    assert constraints.get({"class_name": "MaxNorm", "config": {"max_value": 3, "axis": 0}}).max_value == 3
    with pytest.raises(ValueError, match="did you mean 'max_norm'"):
        constraints.get("max_nrom")
    w = Tensor(k.to_device(np.ones(3)))
    assert constraints.Constraint()(w) is w


WRONG = [-1, np.nan, "x", None, [1.0], True]


@pytest.mark.parametrize(
    ("make", "argument", "sentence"),
    [
        (constraints.MaxNorm, "max_value", "MaxNorm's max_value must be a number at least 0"),
        (constraints.MinMaxNorm, "min_value", "MinMaxNorm's min_value must be a number at least 0"),
        (constraints.MinMaxNorm, "max_value", "MinMaxNorm's max_value must be a number at least 0"),
        (constraints.MinMaxNorm, "rate", "MinMaxNorm's rate must be a number from 0 to 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: type, argument: str, sentence: str) -> None:
    for wrong in [*WRONG, *([1.5] if argument == "rate" else [])]:
        with pytest.raises(ValueError, match=rf"^{sentence}, got .+\.$"):
            make(**{argument: wrong})


def test_norms_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_value must not exceed max_value, got 2 and 1; exchange them\."):
        constraints.MinMaxNorm(2, 1)
    assert constraints.MinMaxNorm(1, 1).min_value == 1 and constraints.MaxNorm(np.inf)(np.ones((2, 2))).shape == (2, 2)


@pytest.mark.parametrize("make", [constraints.MaxNorm, constraints.UnitNorm, constraints.MinMaxNorm])
def test_axes_are_checked_where_a_weight_is_made(make: type) -> None:
    for axis in (1.0, "x", True, [0, 0.5], {}):
        with pytest.raises(ValueError, match=rf"^{make.__name__}'s axis must be a whole number or a list of them, got"):
            make(axis=axis)
    for axis in (2, -3, [0, 5], [0, 0], [0, -2]):
        layer = layers.Dense(3, kernel_constraint=make(axis=axis))
        with pytest.raises(
            ValueError, match=rf"^{make.__name__} with axis=.+ takes weights that have these axes.+\(4, 3"
        ):
            layer.build((None, 4))
        assert layer.weights == []
    for axis in (0, -2, [0, 1], (1,), None):
        layers.Dense(3, kernel_constraint=make(axis=axis)).build((None, 4))


def test_a_constraint_that_is_set_after_some_steps_holds_from_then_on() -> None:
    model = Sequential([Input((4,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 4), "f4"), -np.ones((8, 3), "f4")
    model.fit(x, y, epochs=8, verbose=0)
    assert model.layers[0].kernel.numpy().min() < 0
    model.layers[0].kernel.constraint = constraints.NonNeg()
    model.fit(x, y, epochs=1, verbose=0)
    assert model.layers[0].kernel.numpy().min() == 0
