"""Pickle and copy.deepcopy of models: the copy is independent and trains on exactly as the original would."""

import copy
import pickle
import sys

import numpy as np
import pytest

import minikeras
from minikeras import layers, ops

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)
Y = X[:, :2]


def sequential():
    return minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(2)])


def deferred():
    return minikeras.Sequential([layers.Dense(4, activation="relu"), layers.BatchNormalization(), layers.Dense(2)])


def functional():
    x = minikeras.Input((3,))
    shared = layers.Dense(3, activation="tanh")
    h = ops.concatenate([shared(shared(x)) * 2.0, x], axis=-1)[:, :4]
    return minikeras.Model(x, layers.Dense(2)(layers.Dropout(0.3, seed=1)(h)))


def nested():
    inner = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(3), layers.BatchNormalization()])
    y = minikeras.Input((3,))
    part = minikeras.Model({"y": y}, {"z": layers.Dense(3)(y)})
    x = minikeras.Input((3,))
    return minikeras.Model(x, layers.Dense(2)(inner(inner(x)) + part({"y": x})["z"]))


class Subclassed(minikeras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(3), layers.LSTM(3)]
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(self.blocks[1](ops.expand_dims(self.blocks[0](x), 1)))


MODELS = [sequential, deferred, functional, nested, Subclassed]
COPIES = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_trained_model(make, how, optimizer):
    model = make()
    model.compile(optimizer, "mse", metrics=["mae"])
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    other = COPIES[how](model)
    assert [w.path for w in other.weights] == [w.path for w in model.weights]
    assert np.array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    before = model.get_weights()
    other.fit(X, Y, batch_size=4, verbose=0, shuffle=False)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.fit(X, Y, batch_size=4, verbose=0, shuffle=False)
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), model.get_weights(), strict=True))
    states = zip(other.optimizer.get_weights(), model.optimizer.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in states)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_untrained_model(make, how):
    other = COPIES[how](make())
    other.compile("adam", "mse")
    other.fit(X, Y, verbose=0)
    assert other.predict(X, verbose=0).shape == (8, 2)


@pytest.mark.parametrize("how", COPIES)
def test_structure(how):
    model = functional()
    other = COPIES[how](model)
    assert other.get_config() == model.get_config()
    assert other.input_shape == model.input_shape and other.output_shape == model.output_shape
    assert len({id(layer) for layer in model.layers} & {id(layer) for layer in other.layers}) == 0
    again = minikeras.Model(other.input, layers.Dense(1)(other.layers[-1].output))
    assert again.predict(X, verbose=0).shape == (8, 1)


@pytest.mark.parametrize("how", COPIES)
def test_sequential_can_grow_afterwards(how):
    other = COPIES[how](sequential())
    other.add(layers.Dense(5))
    assert other.output_shape == (None, 5)
    other.pop()
    assert other.output_shape == (None, 2)


def test_layers_shared_by_two_models_stay_shared():
    model = functional()
    part = minikeras.Model(model.input, model.layers[1].output)
    model, part = pickle.loads(pickle.dumps((model, part)))
    assert part.layers[1] is model.layers[1]
    model.layers[1].set_weights([np.zeros_like(w) for w in model.layers[1].get_weights()])
    assert not part.predict(X, verbose=0).any()


@pytest.mark.parametrize("how", COPIES)
def test_deep_models(how):
    """Deeper than Python's recursion limit, in both ways of building."""
    depth = sys.getrecursionlimit() + 200
    x = h = minikeras.Input((2,))
    for _ in range(depth):
        h = h + 1.0
    model = minikeras.Model(x, h)
    assert COPIES[how](model).predict(np.zeros((1, 2), "f4"), verbose=0)[0, 0] == depth
    assert minikeras.models.model_from_json(model.to_json()).predict(np.zeros((1, 2), "f4"), verbose=0)[0, 0] == depth


@pytest.mark.parametrize("how", COPIES)
def test_layer_alone(how):
    layer = layers.Dense(3)
    layer(X)
    other = COPIES[how](layer)
    assert np.array_equal(np.asarray(other(X)), np.asarray(layer(X)))
    other.kernel.assign(np.zeros((3, 3)))
    assert np.asarray(layer.kernel).any()
