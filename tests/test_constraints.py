"""Constraints: what they guarantee, configuration and names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from minikeras import constraints
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
