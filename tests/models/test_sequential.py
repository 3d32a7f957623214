"""Sequential: building, changing, calling, refusing."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras as keras
from minikeras import layers


def test_known_input_builds_at_once():
    for first in (
        [keras.Input((4,)), layers.Dense(3)],
        [layers.Dense(3, input_shape=(4,))],
        [layers.Dense(3, input_dim=4)],
        [layers.Dense(3, batch_input_shape=(None, 4))],
    ):
        model = keras.Sequential([*first, layers.Dense(2)])
        assert model.built
        assert [w.shape for w in model.weights] == [(4, 3), (3,), (3, 2), (2,)]
        assert model.input_shape == (None, 4)
        assert model.output_shape == (None, 2)
        assert model.count_params() == 23


def test_deferred_build():
    model = keras.Sequential()
    model.add(layers.Dense(3))
    model.add(layers.Dense(2))
    assert not model.built
    assert model.weights == []
    with pytest.raises(ValueError, match="built"):
        model.count_params()
    assert model(np.zeros((5, 4))).shape == (5, 2)
    assert len(model.weights) == 4
    model = keras.Sequential([layers.Dense(3)])
    model.build((None, 7))
    assert model.weights[0].shape == (7, 3)


def test_add_pop_and_get_layer():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    assert [layer.name for layer in model.layers] == ["a", "b"]
    assert model.get_layer("b") is model.get_layer(index=1)
    assert model.pop().name == "b"
    assert model.output_shape == (None, 3)
    model.add(layers.Dense(5, name="c"))
    assert model.predict(np.zeros((2, 4)), verbose=0).shape == (2, 5)
    with pytest.raises(ValueError, match=r"no layer 'zz'.*\['a', 'c'\]"):
        model.get_layer("zz")


def test_refusals_change_nothing():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a")])
    with pytest.raises(ValueError, match="takes a layer"):
        model.add(lambda x: x)
    with pytest.raises(ValueError, match="unique"):
        model.add(layers.Dense(3, name="a"))
    with pytest.raises(ValueError, match="rank 4"):
        model.add(layers.Conv2D(2, 3))
    assert len(model.layers) == 1
    assert model.output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"expects inputs with 4 entries along axis -1, got shape \(2, 5\)"):
        model(np.zeros((2, 5)))


def test_weights_have_paths_and_creation_order():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.BatchNormalization(name="n")], name="s"
    )
    assert [w.path for w in model.weights] == [
        "s/a/kernel",
        "s/a/bias",
        "s/n/gamma",
        "s/n/beta",
        "s/n/moving_mean",
        "s/n/moving_variance",
    ]


def test_nested_sequential_and_trainable_switch():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(3)])
    model = keras.Sequential([inner, layers.Dense(1)])
    assert model.input_shape == (None, 4)
    assert len(model.trainable_weights) == 6
    inner.trainable = False
    assert len(model.trainable_weights) == 2
    assert len(model.non_trainable_weights) == 4
    assert len(model.weights) == 6
    inner.trainable = True
    inner.layers[0].trainable = False
    assert len(model.trainable_weights) == 4


def test_set_weights_is_all_or_nothing():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    before = model.get_weights()
    with pytest.raises(ValueError, match="2 weights"):
        model.set_weights([np.zeros((4, 3))])
    with pytest.raises(ValueError, match="shape"):
        model.set_weights([np.zeros((4, 3)), np.zeros(4)])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights([w + 1 for w in before])
    np.testing.assert_allclose(model.get_weights()[1], before[1] + 1)


def test_config_round_trip():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh"), layers.Dropout(0.5)])
    twin = keras.Sequential.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    x = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal(model.predict(x, verbose=0), twin.predict(x, verbose=0))


def test_initial_weights_argument():
    kernel, bias = np.full((4, 2), 0.5), np.array([1.0, 2.0])
    model = keras.Sequential([layers.Dense(2, input_shape=(4,), weights=[kernel, bias])])
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
