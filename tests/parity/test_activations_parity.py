"""Activations, regularizers and constraints against real Keras on JAX: values, gradients, descriptions."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

from minikeras import activations, constraints, ops, regularizers  # noqa: E402
from minikeras import kernels as k  # noqa: E402
from minikeras.autodiff import Tensor, backward, recording  # noqa: E402

X = (np.random.default_rng(0).normal(size=(6, 8)) * 3).astype("float32")
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("relu", {"negative_slope": 0.1}),
    ("relu", {"max_value": 2.0}),
    ("relu", {"threshold": 0.5}),
    ("relu", {"negative_slope": 0.1, "max_value": 2.0, "threshold": 0.5}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("gelu", {"approximate": True}),
    ("softmax", {"axis": 0}),
    ("softmax", {"axis": [0, 1]}),
    ("log_softmax", {"axis": 0}),
    ("glu", {"axis": 0}),
    ("hard_shrink", {"threshold": 1.0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("squareplus", {"b": 2}),
    ("threshold", {"threshold": 0.5, "default_value": 2.0}),
]
OLDER = "keras2_hard_sigmoid"  # of Keras 1 and 2, which Keras 3 refuses
CALLS = [(name, {}) for name in activations.ALL if name not in ("threshold", "sparsemax", OLDER)] + OPTIONS
PENALTIES: list[tuple[str, dict[str, Any]]] = [
    ("L1", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {"l1": 0.2, "l2": 0.1}),
    ("OrthogonalRegularizer", {"factor": 0.3}),
    ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
]
PROJECTIONS: list[tuple[str, dict[str, Any]]] = [
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 5, "axis": [0, 1]}),
    ("NonNeg", {}),
    ("UnitNorm", {"axis": 1}),
    ("MinMaxNorm", {"min_value": 2.0, "max_value": 4.0, "rate": 0.3}),
]


def compare(ours: Any, theirs: Any) -> None:
    """The same values, and the same gradient of a weighted sum of them."""
    x = Tensor(k.to_device(X.copy()), tracked=True)
    with recording():
        y = ours(x)
        weights = np.random.default_rng(1).normal(size=y.shape).astype("float32")
        total = ops.sum(y * k.to_device(weights))
    np.testing.assert_allclose(y, np.asarray(theirs(X)), rtol=2e-5, atol=2e-6)
    expected = jax.grad(lambda x: (theirs(x) * weights).sum())(jax.numpy.asarray(X))
    np.testing.assert_allclose(k.to_host(backward(total, [x])[0]), np.asarray(expected), rtol=5e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_activations(name: str, options: dict[str, Any]) -> None:
    ours, theirs = activations.get(name), keras.activations.get(name)
    compare(lambda x: ours(x, **options), lambda x: theirs(x, **options))


def test_sparsemax_is_a_distribution() -> None:
    """In Keras it is none wherever more than one value is left: it sums sums."""
    np.testing.assert_allclose(np.asarray(activations.sparsemax(X)).sum(-1), 1, rtol=1e-6)
    theirs = np.asarray(keras.activations.sparsemax(X))
    alone = (np.asarray(activations.sparsemax(X)) > 0).sum(-1) == 1
    assert 0 < alone.sum() < len(X)
    np.testing.assert_allclose(theirs[alone], activations.sparsemax(X[alone]), atol=1e-6)
    assert (theirs[~alone].sum(-1) < 0.99).all()


def test_activation_names() -> None:
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(ALL_OBJECTS_DICT) <= set(activations.ALL)
    with pytest.raises(ValueError, match=OLDER):
        keras.activations.get(OLDER)
    for name in activations.ALL.keys() - {OLDER}:
        assert activations.serialize(activations.get(name)) == keras.activations.serialize(keras.activations.get(name))


@pytest.mark.parametrize(("name", "options"), PENALTIES)
def test_regularizers(name: str, options: dict[str, Any]) -> None:
    ours, theirs = (getattr(module, name)(**options) for module in (regularizers, keras.regularizers))
    compare(ours, lambda x: theirs(keras.ops.convert_to_tensor(x)))
    mine, other = regularizers.serialize(ours), keras.regularizers.serialize(theirs)
    assert list(mine["config"]) == list(other["config"]) and mine["module"] == other["module"]
    again = regularizers.deserialize(other).get_config()  # Keras writes some factors rounded to float32
    assert {key: pytest.approx(value) if key != "mode" else value for key, value in again.items()} == ours.get_config()
    assert keras.regularizers.deserialize(mine).get_config() == other["config"]


@pytest.mark.parametrize(("name", "options"), PROJECTIONS)
def test_constraints(name: str, options: dict[str, Any]) -> None:
    ours, theirs = (getattr(module, name)(**options) for module in (constraints, keras.constraints))
    np.testing.assert_allclose(ours(X), np.asarray(theirs(X)), rtol=1e-6)
    assert constraints.serialize(ours) == keras.constraints.serialize(theirs)
