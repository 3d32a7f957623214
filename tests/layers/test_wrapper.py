"""Wrapper, a base class, and SpectralNormalization."""

import numpy as np
import pytest

from minikeras import Sequential, layers, utils


class Doubled(layers.Wrapper):
    def call(self, inputs):
        return 2 * self.layer(inputs)


def test_a_wrapper_of_one_s_own():
    layer = Doubled(layers.Dense(3, name="inner"), name="outer")
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(layer(x), 2 * np.asarray(layer.layer(x)))
    assert [w.path for w in layer.weights] == ["outer/inner/kernel", "outer/inner/bias"]
    copy = Doubled.from_config(layer.get_config())
    assert copy.layer.units == 3 and copy.name == "outer"
    with pytest.raises(ValueError, match="Doubled wraps a layer, got 3"):
        Doubled(3)
    assert isinstance(layers.TimeDistributed(layers.Dense(2)), layers.Wrapper)


class OwnCell(layers.SimpleRNNCell):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        layers.TimeDistributed(Doubled(layers.Dense(2))),
        layers.RNN(OwnCell(2)),
        layers.StackedRNNCells([layers.LSTMCell(2), OwnCell(2)]),
        layers.Bidirectional(layers.RNN(OwnCell(2))),
    ],
)
def test_what_it_holds_may_be_one_s_own(layer):
    known = {"Doubled": Doubled, "OwnCell": OwnCell}
    copy = type(layer).from_config(layer.get_config(), custom_objects=known)
    assert repr(copy.get_config()) == repr(layer.get_config())
    with pytest.raises(ValueError, match="neither built in nor registered"):
        type(layer).from_config(layer.get_config())


@pytest.mark.parametrize(
    ("wrapped", "shape"),
    [
        (lambda: layers.Dense(4), (5,)),
        (lambda: layers.Conv2D(4, 2), (3, 3, 5)),
        (lambda: layers.Embedding(6, 4), (3,)),
    ],
)
def test_spectral_normalization(wrapped, shape):
    utils.set_random_seed(1)
    layer = layers.SpectralNormalization(wrapped(), power_iterations=200)
    x = np.random.default_rng(0).integers(0, 5, (2, *shape)).astype("float32")
    before = layer(x)
    kernel = np.asarray(layer.kernel).reshape(-1, 4)
    np.testing.assert_array_equal(layer(x), before)
    layer(x, training=True)
    found = np.asarray(layer.kernel).reshape(-1, 4)
    np.testing.assert_allclose(np.linalg.norm(found, 2), 1, rtol=1e-3)
    np.testing.assert_allclose(found * np.linalg.norm(kernel, 2), kernel, rtol=1e-2, atol=1e-5)
    copy = layers.SpectralNormalization.from_config(layer.get_config())
    assert type(copy.layer) is type(layer.layer) and copy.power_iterations == 200
    assert layer.compute_output_shape((None, *shape)) == (None, *before.shape[1:])


def test_spectral_normalization_in_training_and_of_zeros():
    model = Sequential([layers.Input((4,)), layers.SpectralNormalization(layers.Dense(3)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.eye(4), np.ones((4, 1)), epochs=3, verbose=0)
    assert np.isfinite(np.concatenate([w.ravel() for w in model.get_weights()])).all()
    zeros = layers.SpectralNormalization(layers.Dense(3, kernel_initializer="zeros"))
    assert not np.asarray(zeros(np.ones((1, 4)), training=True)).any()
    with pytest.raises(ValueError, match="wraps a layer with a kernel or embeddings"):
        layers.SpectralNormalization(layers.Flatten())(np.ones((2, 3)))
