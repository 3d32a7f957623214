"""Models in several Python threads at once: each gets what it gets alone."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from team_cases import at_once

import minikeras as mk
from minikeras.training import data

layers = mk.layers


def mlp() -> Any:
    return mk.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2, seed=1),
            layers.Dense(10, activation="softmax"),
        ]
    )


def cnn() -> Any:
    return mk.Sequential(
        [
            layers.Input((784,)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2, seed=1),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def images(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).random((count, 784)).astype("float32")


@pytest.mark.parametrize("build", [mlp, cnn])
def test_eight_threads_predict_with_one_model(build: Any) -> None:
    model = build()
    inputs = [images(300 + 7 * seed, seed) for seed in range(8)]

    def predictions(x: Any) -> Any:
        return [model.predict(x, batch_size=size, verbose=0) for size in (64, 100, 64)]

    alone = [predictions(x) for x in inputs]
    together = at_once(*[lambda x=x: predictions(x) for x in inputs])
    for found, wanted in zip(together, alone, strict=True):
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(alone[0][0][:300], alone[1][0][:300])


def trained(build: Any, optimizer: str, seed: int) -> Any:
    """A function that trains a new model and gives its weights."""
    mk.utils.set_random_seed(seed)
    model = build()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = images(500, seed), np.random.default_rng(seed).integers(0, 10, 500)

    def train() -> Any:
        history = model.fit(x, y, batch_size=64, epochs=3, verbose=0, validation_split=0.2).history
        return history, model.get_weights()

    return train


def test_two_models_train_in_two_threads() -> None:
    cases = [(mlp, "adam", 1), (cnn, "rmsprop", 2)]
    with patch.object(data, "next_seed", lambda: 7):  # the order must not depend on who begins first
        alone = [trained(*case)() for case in cases]
        together = at_once(*[trained(*case) for case in cases])
    for (found_history, found), (history, weights) in zip(together, alone, strict=True):
        assert found_history == history
        for one, other in zip(found, weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_prediction_beside_training() -> None:
    model, train = cnn(), trained(mlp, "adam", 3)
    x = images(500, 5)
    wanted = model.predict(x, verbose=0)
    with patch.object(data, "next_seed", lambda: 7):
        _, weights = trained(mlp, "adam", 3)()
        (_, found), *predictions = at_once(train, *[lambda: model.predict(x, verbose=0)] * 2)
    for one, other in zip(found, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for prediction in predictions:
        np.testing.assert_array_equal(prediction, wanted)
