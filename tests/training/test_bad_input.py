"""Bad input: one clear sentence, and the model as it was."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minikeras as keras
from minikeras import layers

X = np.random.default_rng(0).normal(size=(20, 4)).astype("f4")
Y = np.arange(20) % 3


def model_with_state():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def raising_generator():
    yield X, Y
    raise RuntimeError("the disk is gone")


def with_nan(y):
    y = y.astype("f4")
    y[7] = np.nan
    return y


CASES = {
    "rank": (lambda m: m.fit(X[:, :, None, None], Y, verbose=0), r"shape \(None, 4\).*got shape \(20, 4, 1, 1\)"),
    "features": (lambda m: m.fit(X[:, :3], Y, verbose=0), r"with 4 entries along axis -1, got shape \(20, 3\)"),
    "lengths": (lambda m: m.fit(X, Y[:19], verbose=0), "same number of samples, got x 20, y 19"),
    "weights' length": (lambda m: m.fit(X, Y, sample_weight=np.ones(3), verbose=0), "sample_weight 3"),
    "empty": (lambda m: m.fit(X[:0], Y[:0], verbose=0), "empty, got 0 samples"),
    "no data": (lambda m: m.fit(verbose=0), "x is missing"),
    "nan labels": (lambda m: m.fit(X, with_nan(Y), verbose=0), "finite numbers, got nan in sample 7"),
    "infinite labels": (lambda m: m.fit(X, np.where(Y == 1, np.inf, 0.0), verbose=0), "finite numbers, got inf"),
    "nan labels of a generator": (lambda m: m.fit(iter([(X, with_nan(Y))]), verbose=0), "finite numbers, got nan"),
    "label out of range": (lambda m: m.fit(X, Y + 1, verbose=0), "between 0 and 2 for 3 classes"),
    "one-hot for sparse": (lambda m: m.fit(X, np.eye(3)[Y], verbose=0), "categorical_crossentropy"),
    "strings": (lambda m: m.fit(X, np.array(["a"] * 20), verbose=0), "y must hold numbers"),
    "objects": (
        lambda m: m.fit(np.array([[None] * 4] * 20), Y, verbose=0),
        "x must hold numbers, got an array of type object",
    ),
    "ragged": (lambda m: m.fit([[1, 2], [3]], Y[:2], verbose=0), "unequal parts"),
    "batch size": (
        lambda m: m.fit(X, Y, batch_size=0, verbose=0),
        "batch_size must be a positive whole number or None, got 0",
    ),
    "epochs": (lambda m: m.fit(X, Y, epochs=-1, verbose=0), "epochs must be a whole number of at least 0, got -1"),
    "split": (
        lambda m: m.fit(X, Y, validation_split=1.5, verbose=0),
        "validation_split must be a number at least 0 and below 1 or None, got 1.5",
    ),
    "split of batches": (lambda m: m.fit(iter([(X, Y)]), validation_split=0.5, verbose=0), "works on arrays"),
    "y beside batches": (lambda m: m.fit(iter([(X, Y)]), Y, verbose=0), "brings its own batches"),
    "unknown argument": (lambda m: m.fit(X, Y, epoch=3, verbose=0), r"unknown arguments \['epoch'\]"),
    "no targets": (lambda m: m.fit(X, verbose=0), "got no targets"),
    "empty generator": (lambda m: m.fit(iter([]), verbose=0), "ended before the first batch"),
    "four parts": (lambda m: m.fit(iter([(X, Y, Y, Y)]), verbose=0), "got a tuple of 4"),
    "predict": (lambda m: m.predict(X[:, :2], verbose=0), "with 4 entries along axis -1"),
    "evaluate": (lambda m: m.evaluate(X, Y[:2], verbose=0), "same number of samples"),
    "train_on_batch": (lambda m: m.train_on_batch(X, Y[:2]), "same number of samples"),
    "optimizer": (lambda m: m.compile("adamm", "mse"), "'adamm'.*'adam'"),
    "loss": (
        lambda m: m.compile("adam", "categorical_crossentropi"),
        "'categorical_crossentropi'.*'categorical_crossentropy'",
    ),
    "metric": (lambda m: m.compile("adam", "mse", metrics=["acuracy"]), "'acuracy'"),
    "compile argument": (lambda m: m.compile("adam", "mse", metric=["acc"]), r"unknown arguments \['metric'\]"),
    "set_weights": (lambda m: m.set_weights([np.zeros(3)]), "8 weights"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_and_an_unchanged_model(name):
    action, pattern = CASES[name]
    model = model_with_state()
    before = model.get_weights()
    compiled_loss = model.loss
    with pytest.raises(ValueError) as caught:
        action(model)
    message = str(caught.value)
    assert re.search(pattern, message), message
    assert message.endswith((".", "?")), message
    assert "\n" not in message
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.loss == compiled_loss
    assert model.optimizer.iterations == 0
    model.fit(X, Y, verbose=0)  # still usable


def test_fit_before_compile():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    for method in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"must be compiled before .*\(\)"):
            method(X, Y)
    assert model.predict(X, verbose=0).shape == (20, 1)


def test_a_generator_that_raises_reaches_the_caller():
    model = model_with_state()
    with pytest.raises(RuntimeError, match="the disk is gone"):
        model.fit(raising_generator(), steps_per_epoch=5, verbose=0)
    assert np.isfinite(np.concatenate([w.ravel() for w in model.get_weights()])).all()
    model.fit(X, Y, verbose=0)


def test_a_generator_that_ends_early_stops_with_a_warning():
    model = model_with_state()
    with pytest.warns(UserWarning, match="ended after 2 of 5 batches"):
        history = model.fit(iter([(X, Y), (X, Y)]), steps_per_epoch=5, epochs=3, verbose=0)
    assert len(history.history["loss"]) == 1


def test_unknown_names_suggest_the_nearest():
    for make in (
        lambda: layers.Dense(3, activation="rellu"),
        lambda: layers.Dense(3, kernel_initializer="glorot_unifrom"),
        lambda: layers.Dense(3, kernel_regularizer="l22"),
        lambda: layers.Dense(3, kernel_constraint="non_ne"),
    ):
        with pytest.raises(ValueError, match="did you mean"):
            make()


def test_layer_arguments():
    for make, pattern in [
        (lambda: layers.Dense(0), "units.*0"),
        (lambda: layers.Dense(2.5), "units.*2.5"),
        (lambda: layers.Dense(3, unit=4), "unit"),
        (lambda: layers.Dropout(1.5), "1.5"),
        (lambda: layers.Conv2D(3, 0), "0"),
        (lambda: layers.Conv2D(3, 3, padding="smae"), "smae"),
        (lambda: keras.Input(), "shape"),
    ]:
        with pytest.raises(ValueError, match=pattern):
            make()
    with pytest.raises(ValueError, match=r"4 entries"):
        layer = layers.Dense(3)
        layer.build((None, 4))
        layer(np.zeros((2, 5)))
