"""Whole models trained in real Keras and here: same weights, same batches, 20 steps, then the same numbers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import minikeras

RNG = np.random.default_rng(0)


def vectors(n, d):
    return RNG.normal(size=(n, d)).astype("f4")


def pictures(n, size=10, channels=1):
    return RNG.normal(size=(n, size, size, channels)).astype("f4")


def one_hot(n, c):
    return np.eye(c, dtype="f4")[RNG.integers(0, c, n)]


def mlp(K):
    L = K.layers
    return K.Sequential([K.Input((12,)), L.Dense(16, activation="relu"), L.Dense(5, activation="softmax")])


def regularized(K):
    L = K.layers
    return K.Sequential(
        [
            K.Input((12,)),
            L.Dense(
                16, activation="elu", kernel_regularizer=K.regularizers.L1L2(1e-3, 1e-2), activity_regularizer="l2"
            ),
            L.Dense(5, activation="softmax", kernel_constraint=K.constraints.MaxNorm(0.8), bias_constraint="non_neg"),
        ]
    )


def cnn(K):
    L = K.layers
    return K.Sequential(
        [
            K.Input((10, 10, 1)),
            L.Conv2D(6, 3, padding="same", strides=2, activation="relu"),
            L.MaxPooling2D(),
            L.BatchNormalization(),
            L.Conv2D(8, 2, dilation_rate=1, use_bias=False),
            L.ReLU(),
            L.GlobalAveragePooling2D(),
            L.Dense(5),
        ]
    )


def depthwise(K):
    L = K.layers
    return K.Sequential(
        [
            K.Input((10, 10, 2)),
            L.ZeroPadding2D(1),
            L.DepthwiseConv2D(3, depth_multiplier=2, activation="tanh"),
            L.AveragePooling2D(3, strides=2, padding="same"),
            L.LayerNormalization(),
            L.Flatten(),
            L.Dense(5, activation="softmax"),
        ]
    )


def recurrent(cell):
    def build(K):
        L = K.layers
        return K.Sequential(
            [
                K.Input((9,)),
                L.Embedding(20, 6, mask_zero=True),
                getattr(L, cell)(7, return_sequences=True),
                getattr(L, cell)(5, go_backwards=True),
                L.Dense(1, activation="sigmoid"),
            ]
        )

    return build


def branches(K):
    L = K.layers
    a, b = K.Input((6,), name="a"), K.Input((6,), name="b")
    shared = L.Dense(8, activation="gelu")
    ha, hb = shared(a), shared(b)
    left = L.Dense(1, name="left")(L.Multiply()([ha, hb]))
    right = L.Dense(3, activation="softmax", name="right")(L.Concatenate()([ha, L.Add()([ha, hb])]))
    return K.Model([a, b], [left, right])


def tokens(n):
    x = RNG.integers(1, 20, (n, 9))
    x[np.arange(9) >= RNG.integers(3, 10, (n, 1))] = 0
    return x


CASES = {
    "mlp adam": (mlp, vectors(80, 12), one_hot(80, 5), {"optimizer": "adam", "loss": "categorical_crossentropy"}, {}),
    "mlp sgd nesterov, sample weights": (
        mlp,
        vectors(80, 12),
        RNG.integers(0, 5, 80),
        {
            "optimizer": ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
            "loss": "sparse_categorical_crossentropy",
        },
        {"sample_weight": RNG.uniform(0, 2, 80).astype("f4")},
    ),
    "mlp rmsprop, class weights": (
        mlp,
        vectors(80, 12),
        RNG.integers(0, 5, 80),
        {"optimizer": ("RMSprop", {"momentum": 0.5, "centered": True}), "loss": "sparse_categorical_crossentropy"},
        {"class_weight": {0: 0.5, 3: 2.0}},
    ),
    "regularized adamw, clipped": (
        regularized,
        vectors(80, 12),
        one_hot(80, 5),
        {
            "optimizer": ("AdamW", {"weight_decay": 0.01, "global_clipnorm": 0.5}),
            "loss": ("CategoricalCrossentropy", {"label_smoothing": 0.1}),
        },
        {},
    ),
    "cnn with batch normalization": (
        cnn,
        pictures(80),
        RNG.integers(0, 5, 80),
        {"optimizer": ("Adam", {"clipnorm": 1.0}), "loss": ("SparseCategoricalCrossentropy", {"from_logits": True})},
        {},
    ),
    "depthwise": (depthwise, pictures(80, channels=2), one_hot(80, 5), {"optimizer": "sgd", "loss": "mse"}, {}),
    **{
        f"{cell}, masked": (
            recurrent(cell),
            tokens(80),
            RNG.integers(0, 2, (80, 1)).astype("f4"),
            {"optimizer": ("Adam", {"learning_rate": 0.01}), "loss": "binary_crossentropy"},
            {},
        )
        for cell in ("SimpleRNN", "LSTM", "GRU")
    },
    "branches, two losses": (
        branches,
        [vectors(80, 6), vectors(80, 6)],
        [vectors(80, 1), one_hot(80, 3)],
        {"optimizer": "adam", "loss": ["huber", "categorical_crossentropy"], "loss_weights": [0.7, 1.3]},
        {},
    ),
}


def _made(K, room, spec):
    if isinstance(spec, tuple):
        return getattr(getattr(K, room), spec[0])(**spec[1])
    return spec


def _compile(K, model, arguments):
    arguments = dict(arguments)
    arguments["optimizer"] = _made(K, "optimizers", arguments["optimizer"])
    arguments["loss"] = _made(K, "losses", arguments["loss"])
    two = len(model.outputs) > 1
    model.compile(metrics=[["mae"], ["accuracy"]] if two else ["accuracy"], **arguments)


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps(name):
    build, x, y, arguments, fit_arguments = CASES[name]
    theirs, ours = build(keras), build(minikeras)
    ours.set_weights(theirs.get_weights())
    histories = []
    for K, model in ((keras, theirs), (minikeras, ours)):
        _compile(K, model, arguments)
        histories.append(
            model.fit(
                x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, validation_data=(x, y), **fit_arguments
            ).history
        )
    assert set(histories[0]) == set(histories[1])
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=2e-3, atol=2e-4, err_msg=key)
    for variable, a, b in zip(ours.weights, theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=3e-4, err_msg=variable.path)
    p, q = theirs.predict(x, verbose=0), ours.predict(x, verbose=0)
    for a, b in zip(p if isinstance(p, list) else [p], q if isinstance(q, list) else [q], strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=3e-4)
    np.testing.assert_allclose(ours.evaluate(x, y, verbose=0)[0], theirs.evaluate(x, y, verbose=0)[0], rtol=2e-3)


@pytest.mark.parametrize("name", ["mlp adam", "branches, two losses"])
def test_on_batch_methods(name):
    build, x, y, arguments, _ = CASES[name]
    theirs, ours = build(keras), build(minikeras)
    ours.set_weights(theirs.get_weights())
    _compile(keras, theirs, arguments)
    _compile(minikeras, ours, arguments)
    for _ in range(3):
        a = theirs.train_on_batch(x, y, return_dict=True)
        b = ours.train_on_batch(x, y, return_dict=True)
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_allclose(b[key], a[key], rtol=1e-4, atol=1e-5, err_msg=key)
    np.testing.assert_allclose(ours.train_on_batch(x, y), theirs.train_on_batch(x, y), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.test_on_batch(x, y), theirs.test_on_batch(x, y), rtol=1e-4, atol=1e-5)
