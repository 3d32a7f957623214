"""Programs of the years of Keras 2, which real Keras 3 refuses."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras as keras
from minikeras import backend as K
from minikeras.callbacks import Callback
from minikeras.layers import LSTM, Activation, Dense, Embedding, Flatten
from minikeras.models import Sequential
from minikeras.utils import np_utils

RNG = np.random.default_rng(0)


def digits(n=30):
    return RNG.normal(size=(n, 6)).astype("f4"), np_utils.to_categorical(RNG.integers(0, 3, n), 3)


def batches(x, y, size=10):
    while True:
        for i in range(0, len(x), size):
            yield x[i : i + size], y[i : i + size]


def classifier():
    model = Sequential()
    model.add(Dense(8, input_dim=6))
    model.add(Activation("relu"))
    model.add(Dense(3, activation="softmax"))
    return model


def test_a_program_of_2018():
    x, y = digits()
    model = classifier()
    optimizer = keras.optimizers.SGD(lr=0.1, decay=0.5, momentum=0.9, nesterov=True)
    model.compile(loss="categorical_crossentropy", optimizer=optimizer, metrics=["acc"])
    history = model.fit(x, y, nb_epoch=2, batch_size=10, verbose=0, validation_data=(x, y))
    assert sorted(history.history) == ["acc", "loss", "val_acc", "val_loss"] and history.epoch == [0, 1]
    assert optimizer.iterations.numpy() == 6 and K.get_value(optimizer.lr) == pytest.approx(0.1)
    scores = model.predict_proba(x)
    assert np.array_equal(model.predict_classes(x), scores.argmax(axis=1))
    history = model.fit_generator(
        batches(x, y), steps_per_epoch=3, epochs=2, verbose=0, workers=1, use_multiprocessing=False, max_queue_size=2
    )
    assert len(history.history["acc"]) == 2
    assert model.evaluate_generator(batches(x, y), steps=3, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(
        model.predict_generator(batches(x, y), steps=3, verbose=0), model.predict_proba(x), rtol=1e-5
    )


def test_learning_rates_set_through_the_backend():
    class Halve(Callback):
        def on_epoch_end(self, epoch, logs=None):
            K.set_value(self.model.optimizer.lr, K.get_value(self.model.optimizer.lr) * 0.5)

    x, y = digits()
    model = classifier()
    model.compile(keras.optimizers.Adam(lr=0.008, epsilon=None, decay=0.0), "categorical_crossentropy")
    model.fit(x, y, epochs=3, verbose=0, callbacks=[Halve()])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


def test_states_are_reset_by_hand():
    model = Sequential([LSTM(4, batch_input_shape=(2, 3, 5), stateful=True), Dense(1)])
    x = RNG.normal(size=(2, 3, 5)).astype("f4")
    first, second = model.predict(x, batch_size=2, verbose=0), model.predict(x, batch_size=2, verbose=0)
    assert not np.allclose(first, second)
    model.reset_states()
    np.testing.assert_allclose(model.predict(x, batch_size=2, verbose=0), first, rtol=1e-6)


def test_input_length_builds_the_model():
    model = Sequential([Embedding(10, 4, input_length=5), Flatten(), Dense(1, activation="sigmoid")])
    assert model.output_shape == (None, 1) and model.count_params() == 40 + 21
    assert set(np.unique(model.predict_classes(RNG.integers(0, 10, (7, 5))))) <= {0, 1}
