"""Functional and subclassed models."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras as keras
from minikeras import layers, ops


def test_branches_shared_layers_several_inputs_and_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(3, name="shared")
    joined = layers.Concatenate(name="joined")([shared(a), shared(b)])
    summed = layers.Add()([shared(a), shared(b)])
    model = keras.Model([a, b], [layers.Dense(1, name="left")(joined), layers.Dense(2, name="right")(summed)])
    assert isinstance(model, keras.Model)
    assert model.output_names == ["left", "right"]
    assert len(model.weights) == 6
    xa, xb = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("f4")
    left, right = model([xa, xb])
    kernel, bias = shared.get_weights()
    ha, hb = xa @ kernel + bias, xb @ kernel + bias
    wl, bl = model.get_layer("left").get_weights()
    np.testing.assert_allclose(left, np.concatenate([ha, hb], -1) @ wl + bl, rtol=1e-5, atol=1e-6)
    by_name = model.predict({"b": xb, "a": xa}, verbose=0)
    np.testing.assert_allclose(by_name[0], left, rtol=1e-6)
    np.testing.assert_allclose(by_name[1], right, rtol=1e-6)
    with pytest.raises(ValueError, match="2 inputs"):
        model([xa])
    with pytest.raises(ValueError, match=r"misses the inputs \['b'\]"):
        model({"a": xa})


def test_operators_and_ops_on_symbolic_tensors():
    x = keras.Input((4,))
    y = ops.relu(x * 2.0 + 1.0) - x
    z = ops.concatenate([y, x[:, :2]], axis=-1)
    model = keras.Model(x, z)
    assert z.shape == (None, 6)
    data = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    expected = np.concatenate([np.maximum(data * 2 + 1, 0) - data, data[:, :2]], -1)
    np.testing.assert_allclose(model(data), expected, rtol=1e-6)


def test_dict_outputs_and_nested_models():
    inner_in = keras.Input((3,))
    inner = keras.Model(inner_in, layers.Dense(2)(inner_in), name="inner")
    x = keras.Input((3,))
    model = keras.Model(inputs=x, outputs={"p": inner(x), "q": inner(x * 2.0)})
    out = model.predict(np.ones((4, 3)), verbose=0)
    assert set(out) == {"p", "q"}
    assert len(model.weights) == 2
    assert model.get_layer("inner") is inner


def test_a_part_of_a_model():
    x = keras.Input((3,))
    h = layers.Dense(4, activation="relu", name="h")(x)
    model = keras.Model(x, layers.Dense(2)(h))
    features = keras.Model(model.inputs, model.get_layer("h").output)
    assert features(np.ones((2, 3))).shape == (2, 4)


def test_graph_errors():
    x, other = keras.Input((3,)), keras.Input((3,), name="other")
    y = layers.Add()([x, other])
    with pytest.raises(ValueError, match="'other'"):
        keras.Model(x, y)
    with pytest.raises(ValueError, match=r"minikeras\.Input"):
        keras.Model(np.ones((2, 3)), y)
    with pytest.raises(ValueError, match="unique"):
        keras.Model(x, layers.Dense(1, name="d")(layers.Dense(1, name="d")(x)))


def test_subclass_with_python_control_flow():
    class Recursive(keras.Model):
        def __init__(self, depth):
            super().__init__()
            self.depth = depth
            self.blocks = [layers.Dense(4, activation="tanh") for _ in range(2)]
            self.head = layers.Dense(1)
            self.drop = layers.Dropout(0.5)

        def call(self, x, training=False):
            for i in range(self.depth):
                x = self.blocks[i % 2](x)
            if training:
                x = self.drop(x)
            return self.head(x)

    model = Recursive(3)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f4")
    assert model(x).shape == (8, 1)
    assert len(model.weights) == 6
    assert len(model.layers) == 4
    model.compile("adam", "mse")
    before = [w.copy() for w in model.get_weights()]
    model.fit(x, np.ones(8), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    # the training flag reaches nested layers
    assert not np.allclose(model(x, training=True), model(x, training=True))
    np.testing.assert_array_equal(model(x), model(x))


def test_subclass_with_functional_constructor():
    class Named(keras.Model):
        def __init__(self):
            x = keras.Input((3,))
            super().__init__(x, layers.Dense(2)(x), name="named")

    model = Named()
    assert isinstance(model, Named)
    assert model.name == "named"
    assert model(np.ones((2, 3))).shape == (2, 2)


def test_custom_layer_in_a_graph_has_its_shape_inferred():
    class Halve(layers.Layer):
        def call(self, x):
            return x[:, ::2] * 0.5

    x = keras.Input((6,))
    assert Halve()(x).shape == (None, 3)


def test_add_loss_and_activity_regularizer():
    class Sparse(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(ops.abs(x)) * 0.1)
            return x

    x = keras.Input((3,))
    model = keras.Model(
        x, Sparse()(layers.Dense(2, kernel_regularizer="l2", activity_regularizer=keras.regularizers.L1(0.5))(x))
    )
    data = np.ones((4, 3), "f4")
    out = np.asarray(model(data))
    kernel = model.get_weights()[0]
    losses = sorted(float(value) for value in model.losses)
    expected = sorted([np.abs(out).sum() * 0.1, 0.5 * np.abs(out).sum() / 4, 0.01 * (kernel**2).sum()])
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    model(data)
    assert len(model.losses) == 3


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_hands_the_mask_it_is_called_with_to_its_layers(kind):
    lstm = layers.LSTM(3)
    entrance = keras.Input((4, 2))
    model = keras.Model(entrance, lstm(entrance)) if kind == "functional" else keras.Sequential([entrance, lstm])
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    mask = np.array([[True, True, False, False], [True] * 4])
    np.testing.assert_array_equal(np.asarray(model(x, mask=mask)), np.asarray(lstm(x, mask=mask)))
    assert np.any(np.asarray(model(x)) != np.asarray(model(x, mask=mask)))
