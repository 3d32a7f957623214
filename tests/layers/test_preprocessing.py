"""Rescaling and Normalization: values, types, what is learned from data, use in models, and what is refused."""

import numpy as np
import pytest

from minikeras import Model, Sequential, layers, ops, utils
from minikeras.data import Dataset

RNG = np.random.default_rng(0)


def test_rescaling(check_layer):
    x = RNG.standard_normal((3, 4, 2))
    _, outputs = check_layer(layers.Rescaling, {"scale": 2.0, "offset": -1}, x)
    np.testing.assert_allclose(outputs, 2 * x - 1)
    _, outputs = check_layer(layers.Rescaling, {"scale": [2.0, 3.0], "offset": [0.0, 1.0]}, x)
    np.testing.assert_allclose(outputs, x * [2, 3] + [0, 1])
    pictures = RNG.integers(0, 256, (2, 3, 3, 1)).astype("uint8")
    outputs = layers.Rescaling(1 / 255)(pictures)
    assert str(outputs.dtype) == "float32"
    np.testing.assert_allclose(outputs, pictures / 255.0, rtol=1e-6)


def test_normalization(check_layer):
    x = RNG.normal(3, 2, (6, 4, 2))
    for axis, reduced in ((-1, (0, 1)), (None, (0, 1, 2)), ((1, 2), (0,)), ((2, 1), (0,))):
        mean, deviation = x.mean(reduced, keepdims=True), x.std(reduced, keepdims=True)
        for invert in (False, True):
            layer, _ = check_layer(layers.Normalization, {"axis": axis, "invert": invert}, x)
            layer.adapt(x)
            wanted = x * deviation + mean if invert else (x - mean) / deviation
            np.testing.assert_allclose(layer(x), wanted, rtol=1e-10, atol=1e-10)
            assert layer.trainable_weights == [] and [w.path.split("/")[1] for w in layer.weights] == [
                *("mean", "variance", "count")
            ]
    _, outputs = check_layer(layers.Normalization, {"mean": [1.0, 2.0], "variance": [4.0, 0.0]}, x)
    np.testing.assert_allclose(outputs, (x - [1, 2]) / [2, 1e-7])


class Halves(utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return RNG_DATA[index * 20 : index * 20 + 20], np.zeros(20)


RNG_DATA = RNG.normal(1000, 0.5, (40, 3)).astype("float32")


@pytest.mark.parametrize(
    "data",
    [
        lambda: RNG_DATA,
        lambda: ops.convert_to_tensor(RNG_DATA),
        lambda: [RNG_DATA[:7], RNG_DATA[7:7], RNG_DATA[7:]],
        lambda: ((RNG_DATA[i : i + 9], None) for i in range(0, 40, 9)),
        Halves,
        lambda: Dataset.from_arrays(RNG_DATA, np.zeros(40)).batch(9),
    ],
)
def test_adapt(data):
    layer = layers.Normalization()
    assert layer.mean is None
    layer.adapt(data())
    np.testing.assert_allclose(layer.mean, RNG_DATA.mean(0, dtype="float64", keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, RNG_DATA.var(0, dtype="float64", keepdims=True), rtol=1e-5)
    layer.adapt([RNG_DATA[:7], RNG_DATA[7:]], steps=1)
    np.testing.assert_allclose(layer.mean, RNG_DATA[:7].mean(0, dtype="float64", keepdims=True), rtol=1e-6)


def test_adapt_changes_a_model_that_has_predicted():
    layer = layers.Normalization()
    inputs = layers.Input((3,))
    model = Model(inputs, layer(inputs))
    np.testing.assert_allclose(model.predict(RNG_DATA, verbose=0), RNG_DATA)
    model.predict(RNG_DATA, verbose=0)
    layer.adapt(RNG_DATA)
    assert abs(model.predict(RNG_DATA, verbose=0)).max() < 5
    copy = Sequential([layers.Input((3,)), layers.Normalization()])
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(RNG_DATA), model(RNG_DATA))


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda: layers.Normalization(mean=1.0), ValueError, "or neither, got mean=1.0 and variance=None"),
        (lambda: layers.Normalization(mean=[1.0], variance=1.0), ValueError, "of the same shape"),
        (lambda: layers.Normalization(axis=None, mean=[1.0], variance=[1.0]), ValueError, "has 0 axes of features"),
        (
            lambda: layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 2.0])(np.ones((2, 3))),
            ValueError,
            r"do not fit inputs of shape \(None, 3\) along the axes \(-1,\)",
        ),
        (lambda: layers.Normalization(axis=3)(np.ones((2, 3))), ValueError, "works on axis 3"),
        (lambda: layers.Normalization(mean=1.0, variance=1.0).adapt(RNG_DATA), ValueError, "was given its mean"),
        (lambda: layers.Normalization().adapt([]), ValueError, "at least one batch of data, got none"),
        (lambda: layers.Normalization().adapt({"x": RNG_DATA}), TypeError, "an iterable of batches, got {'x'"),
        (lambda: layers.Normalization().adapt([[1.0, 2.0]]), TypeError, "got one of list"),
        (
            lambda: layers.Normalization().adapt([RNG_DATA, RNG_DATA[:, :2]]),
            ValueError,
            r"built for inputs of shape \(40, 3\), got data of shape \(40, 2\)",
        ),
    ],
)
def test_what_is_refused(misuse, error, message):
    with pytest.raises(error, match=message):
        misuse()
