"""Noise in training, identity in inference, reproducible; penalties on activations."""

import numpy as np
import pytest

from minikeras import kernels, layers, ops
from minikeras.autodiff import Tensor, backward, check_gradients, recording

X = np.random.default_rng(0).standard_normal((50, 40, 6)).astype("float32") + 3
LAYERS = [
    (layers.Dropout, {"rate": 0.3}, X),
    (layers.Dropout, {"rate": 0.3, "noise_shape": (None, 1, None)}, X),
    (layers.SpatialDropout1D, {"rate": 0.3}, X),
    (layers.SpatialDropout2D, {"rate": 0.3}, X[None]),
    (layers.SpatialDropout3D, {"rate": 0.3, "data_format": "channels_first"}, X[..., None, None]),
    (layers.GaussianNoise, {"stddev": 0.3}, X),
    (layers.GaussianDropout, {"rate": 0.3}, X),
    (layers.AlphaDropout, {"rate": 0.3}, X),
    (layers.AlphaDropout, {"rate": 0.3, "noise_shape": (None, 1, None)}, X),
]


@pytest.mark.parametrize(("cls", "arguments", "x"), LAYERS)
def test_inference_training_and_seeds(check_layer, cls, arguments, x):
    layer = cls(seed=3, **arguments)
    tensor = ops.convert_to_tensor(x)
    assert layer(tensor) is tensor
    assert layer(tensor, training=False) is tensor
    first, second = layer(x, training=True), layer(x, training=True)
    assert first.shape == x.shape
    assert first.dtype == "float32"
    assert not np.array_equal(first, second)
    again = cls.from_config(layer.get_config())
    assert np.array_equal(again(x, training=True), first)
    assert np.array_equal(again(x, training=True), second)
    check_layer(cls, arguments, np.asarray(x[:2], "float64"))

    def fresh(inputs):
        return cls(seed=3, dtype="float64", **arguments)(inputs, training=True)

    check_gradients(fresh, np.asarray(x[:1, :5, :2], "float64"))
    check_gradients(fresh, np.asarray(x[:0], "float64"))


def test_dropped_and_kept():
    x = np.ones((100, 1000), "float32")
    y = np.asarray(layers.Dropout(0.3, seed=1)(x, training=True))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    assert abs((y == 0).mean() - 0.3) < 0.005
    y = np.asarray(layers.Dropout(0.3, noise_shape=(None, 1), seed=1)(x, training=True))
    assert all(len(np.unique(row)) == 1 for row in y)
    y = np.asarray(layers.SpatialDropout1D(0.5, seed=1)(X, training=True))
    assert set(np.unique((y == 0).sum(axis=1))) == {0, 40}


def test_normal_noise():
    zeros = np.zeros((200, 1000), "float32")
    noise = np.asarray(layers.GaussianNoise(0.2, seed=1)(zeros, training=True))
    assert abs(noise.mean()) < 2e-3
    assert abs(noise.std() - 0.2) < 2e-3
    factor = np.asarray(layers.GaussianDropout(0.2, seed=1)(zeros + 1, training=True))
    assert abs(factor.mean() - 1) < 4e-3
    assert abs(factor.std() - 0.5) < 4e-3


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal((200, 1000)).astype("float32")
    y = np.asarray(layers.AlphaDropout(0.3, seed=1)(x, training=True))
    assert abs(y.mean()) < 1e-2
    assert abs(y.std() - 1) < 1e-2
    values, counts = np.unique(y, return_counts=True)
    low = values[counts.argmax()]  # what all dropped values become
    assert abs(counts.max() / y.size - 0.3) < 5e-3
    factor = (0.7 * (1 + 0.3 * 1.7580993408473766**2)) ** -0.5
    np.testing.assert_allclose(low, -1.7580993408473766 * factor * 0.7, rtol=1e-5)


def test_nothing_and_everything():
    tensor = ops.convert_to_tensor(X)
    for layer in (layers.Dropout(0), layers.GaussianNoise(0.0), layers.GaussianDropout(0.0)):
        assert layer(tensor, training=True) is tensor
    assert not np.asarray(layers.Dropout(1)(X, training=True)).any()


def test_backward_uses_the_mask_of_the_forward_pass():
    x = Tensor(kernels.to_device(X), tracked=True)
    with recording():
        y = layers.Dropout(0.5)(x, training=True)
    (gradient,) = backward(y, [x])
    np.testing.assert_allclose(kernels.to_host(gradient) * X, np.asarray(y))


def test_mask_passes(masked):
    mask = np.ones(X.shape[:2], "bool")
    for training in (False, True):
        assert np.array_equal(layers.Dropout(0.5)(masked(X, mask), training=training)._keras_mask, mask)


def test_activity_regularization(check_layer):
    layer, outputs = check_layer(layers.ActivityRegularization, {"l1": 0.1, "l2": 0.2}, X[:4].astype("float64"))
    layer(X[:4])
    np.testing.assert_allclose(outputs, X[:4])
    np.testing.assert_allclose(layer.losses[0], (0.1 * np.abs(X[:4]).sum() + 0.2 * (X[:4] ** 2).sum()) / 4, rtol=1e-5)


def test_refused():
    with pytest.raises(ValueError, match="AlphaDropout needs a rate below 1, where nothing would be left, got 1"):
        layers.AlphaDropout(1)
    for cls in (layers.Dropout, layers.SpatialDropout1D, layers.GaussianNoise, layers.GaussianDropout):
        for wrong in (-0.1, 1.5, "half", None):
            with pytest.raises(ValueError, match=f"{cls.__name__}'s .* must be a number from 0 to 1, got {wrong!r}"):
                cls(wrong)
    with pytest.raises(ValueError, match="rate below 1"):
        layers.GaussianDropout(1)
    with pytest.raises(ValueError, match=r"noise_shape, got \(0, 1\)"):
        layers.Dropout(0.5, noise_shape=(0, 1))
    for noise_shape in [(None, 1), (None, 7, None)]:
        with pytest.raises(ValueError, match="the size of that axis"):
            layers.Dropout(0.5, noise_shape=noise_shape)(X, training=True)
    with pytest.raises(ValueError, match="A seed is a whole number"):
        layers.Dropout(0.5, seed="one")
