"""Activations with settings or weights of their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import layers

SHAPES = st.integers(2, 4).flatmap(lambda rank: st.tuples(st.integers(0, 2), *[st.integers(1, 4)] * (rank - 1)))


def draw(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    return x + 0.05 * np.sign(x)  # away from the corner at 0


CASES = [
    (layers.ReLU, {}, lambda x: np.maximum(x, 0)),
    (layers.ReLU, {"max_value": 0.7}, lambda x: np.clip(x, 0, 0.7)),
    (
        layers.ReLU,
        {"negative_slope": 0.1, "threshold": 0.3},
        lambda x: np.where(x > 0.3, x, 0.1 * (x - 0.3)),
    ),
    (layers.LeakyReLU, {}, lambda x: np.where(x > 0, x, 0.3 * x)),
    (layers.LeakyReLU, {"negative_slope": 0.1}, lambda x: np.where(x > 0, x, 0.1 * x)),
    (layers.ELU, {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    (layers.ThresholdedReLU, {}, lambda x: np.where(x > 1, x, 0)),
    (layers.ThresholdedReLU, {"theta": 0.3}, lambda x: np.where(x > 0.3, x, 0)),
    (layers.Softmax, {}, lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
    (layers.Softmax, {"axis": 1}, lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
    (layers.Activation, {"activation": "tanh"}, np.tanh),
    (layers.Identity, {}, lambda x: x),
]


@pytest.mark.parametrize(("cls", "arguments", "formula"), CASES)
@given(shape=SHAPES)
def test_formulas(check_layer, cls, arguments, formula, shape):
    _, outputs = check_layer(cls, arguments, draw(shape))
    np.testing.assert_allclose(outputs, formula(draw(shape)), rtol=1e-9)


@given(shape=SHAPES, data=st.data())
def test_prelu(check_layer, shape, data):
    shared = data.draw(st.lists(st.integers(1, len(shape) - 1), unique=True))
    layer, outputs = check_layer(layers.PReLU, {"shared_axes": shared}, draw(shape))
    assert layer.alpha.shape == tuple(1 if i in shared else n for i, n in enumerate(shape) if i > 0)
    x = draw(shape)
    np.testing.assert_allclose(outputs, np.where(x > 0, x, np.asarray(layer.alpha) * x))


def test_masked_softmax(check_layer):
    x, mask = draw((2, 3, 4)), np.random.default_rng(1).random((2, 3, 4)) < 0.6
    mask[..., 0] = True
    _, outputs = check_layer(layers.Softmax, {}, x, mask=mask)
    weights = np.exp(x) * mask
    np.testing.assert_allclose(outputs, weights / weights.sum(axis=-1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(layers.Softmax(dtype="float64")(x, mask=mask.astype("int32")), outputs)


def test_masks_pass(masked):
    for layer in (layers.ReLU(), layers.PReLU(), layers.Activation("relu"), layers.Identity()):
        assert np.array_equal(layer(masked(draw((2, 3, 4)), np.ones((2, 3))))._keras_mask, np.ones((2, 3)))


def test_refused():
    with pytest.raises(ValueError, match="ReLU's max_value must be a number at least 0 or None, got -1"):
        layers.ReLU(max_value=-1)
    with pytest.raises(ValueError, match="negative_slope must be a number at least 0, got None"):
        layers.LeakyReLU(None)
    assert layers.LeakyReLU(alpha=0.1).negative_slope == 0.1
    with pytest.raises(ValueError, match=r"mask of shape \(2, 2\) and inputs \(2, 3\)"):
        layers.Softmax()(np.ones((2, 3)), mask=np.ones((2, 2), "bool"))
    with pytest.raises(ValueError, match="a known size along axis 1"):
        layers.PReLU()(layers.Input((None, 3)))
