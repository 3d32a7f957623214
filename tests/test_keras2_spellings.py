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


def test_layers_are_found_under_their_older_paths():
    from minikeras.layers.advanced_activations import ThresholdedReLU
    from minikeras.layers.embeddings import Embedding as Table
    from minikeras.layers.merge import Concatenate, add
    from minikeras.layers.noise import AlphaDropout
    from minikeras.layers.wrappers import Bidirectional

    from minikeras.layers.convolutional import Conv2DTranspose, MaxPooling2D, SeparableConv2D
    from minikeras.layers.core import Dropout, Lambda, Reshape

    for one in (ThresholdedReLU, Conv2DTranspose, MaxPooling2D, SeparableConv2D, Dropout, Lambda, Reshape, Concatenate):
        assert one is getattr(keras.layers, one.__name__)
    assert Table is Embedding and add is keras.layers.add
    assert AlphaDropout is keras.layers.AlphaDropout and Bidirectional is keras.layers.Bidirectional
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from minikeras.layers.core import Nothing  # noqa: F401


def test_a_lambda_layer_of_backend_functions():
    model = Sequential(
        [
            keras.layers.Lambda(lambda x: K.mean(K.square(x), axis=1), input_shape=(5, 3), output_shape=(3,)),
            keras.layers.Lambda(K.softmax),
            keras.layers.Lambda(K.batch_flatten),
        ]
    )
    x = RNG.normal(size=(4, 5, 3)).astype("f4")
    exponentials = np.exp(np.mean(x**2, axis=1))
    wanted = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, rtol=1e-5)


def test_functions_of_the_backend():
    x, kernel = RNG.normal(size=(2, 6, 5, 3)).astype("f4"), RNG.normal(size=(3, 2, 3, 4)).astype("f4")
    np.testing.assert_array_equal(K.conv2d(x, kernel, (2, 1), "same"), keras.ops.conv(x, kernel, (2, 1), "same"))
    np.testing.assert_allclose(
        K.conv1d(x[0], kernel[:, 0], padding="causal"),
        keras.ops.conv(np.pad(x[0], ((0, 0), (2, 0), (0, 0))), kernel[:, 0]),
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_array_equal(K.pool2d(x, (2, 2), (2, 2), pool_mode="avg"), keras.ops.average_pool(x, 2))
    np.testing.assert_array_equal(K.bias_add(x, np.float32([1, 2, 3])), x + np.float32([1, 2, 3]))
    first = np.float32([1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(K.bias_add(x, first, "channels_first"), x + first[:, None, None])
    np.testing.assert_array_equal(K.repeat(x[0, :, :, 0], 2), np.repeat(x[0, :, None, :, 0], 2, 1))
    assert K.temporal_padding(x[0], (1, 2)).shape == (6, 8, 3)
    assert K.spatial_2d_padding(x, ((1, 2), (0, 1))).shape == (2, 9, 6, 3)
    assert K.spatial_2d_padding(x, ((1, 2), (0, 1)), "channels_first").shape == (2, 6, 8, 4)
    assert K.count_params(x) == 180 and str(K.cast_to_floatx([1, 2]).dtype) == "float32"
    np.testing.assert_array_equal(K.in_top_k(np.float32([[1, 2, 3], [3, 2, 1]]), [1, 2], 2), [True, False])
    np.testing.assert_array_equal(K.map_fn(lambda row: row * 2, x), x * 2)
    average = K.variable([1.0, 2.0])
    np.testing.assert_allclose(K.get_value(K.moving_average_update(average, [3.0, 4.0], 0.75)), [1.5, 2.5])
    draws = K.get_value(K.random_bernoulli((5000,), 0.3, seed=1))
    assert set(np.unique(draws)) == {0, 1} and abs(draws.mean() - 0.3) < 0.03
    with pytest.raises(ValueError, match="'max' or 'avg' for pool_mode, got 'min'"):
        K.pool2d(x, (2, 2), pool_mode="min")


def test_a_recurrence_of_the_backend_has_gradients():
    weight = K.variable([0.5, 1.5])
    x = RNG.normal(size=(2, 3, 2)).astype("f4")
    mask = np.array([[True, True, False], [True, False, True]])
    with keras.GradientTape() as tape:
        last, outputs, states = K.rnn(
            lambda x, states: (x * weight, [x * weight + states[0]]),
            *(x, [K.zeros((2, 2))]),
            mask=mask,
            zero_output_for_mask=True,
        )
        loss = K.sum(states[0])
    np.testing.assert_allclose(tape.gradient(loss, weight), (x * mask[..., None]).sum((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(outputs, x * weight.numpy() * mask[..., None], rtol=1e-6)
    np.testing.assert_array_equal(last, outputs[:, -1])
    with pytest.raises(ValueError, match="known number of steps"):
        K.rnn(lambda x, states: (x, states), keras.Input((None, 3)), [])


def test_more_functions_of_the_backend():
    x = RNG.normal(size=(2, 3)).astype("f4")
    np.testing.assert_array_equal(K.cumsum(x), np.cumsum(x, 0))
    np.testing.assert_array_equal(K.cumprod(x), np.cumprod(x, 0))
    np.testing.assert_array_equal(K.clip(x, min_value=-0.5, max_value=0.5), np.clip(x, -0.5, 0.5))
    np.testing.assert_array_equal(K.maximum(x=x, y=0.0), np.maximum(x, 0))
    assert K.expand_dims(x).shape == (2, 3, 1) and K.reshape(x, shape=(3, 2)).shape == (3, 2)
    assert str(K.arange(3).dtype) == "int32" and K.eye((2, 3)).shape == (2, 3)
    volumes = RNG.normal(size=(1, 2, 2, 2, 3)).astype("f4")
    assert K.pool3d(volumes, (2, 2, 2)).shape == (1, 1, 1, 1, 3)
    assert K.resize_volumes(volumes, 1, 2, 3, "channels_last").shape == (1, 2, 4, 6, 3)
    assert K.spatial_3d_padding(volumes, data_format="channels_first").shape == (1, 2, 4, 4, 5)
    assert K.conv2d_transpose(volumes[0], K.ones((2, 2, 5, 3)), (None, 4, 4, 5), (2, 2), "same").shape == (2, 4, 4, 5)
    with pytest.raises(ValueError, match="for 3 axes"):
        K.spatial_3d_padding(volumes, ((1, 1), (1, 1)))
    with pytest.raises(ValueError, match="'min'"):
        K.pool3d(volumes, (2, 2, 2), pool_mode="min")


def test_gradients_of_the_backend():
    weight = K.variable([1.0, 2.0])
    with keras.GradientTape():
        loss = K.sum(K.square(weight) * 3.0)
    np.testing.assert_allclose(K.gradients(loss, [weight])[0], [6, 12])
    with pytest.raises(ValueError, match="The gradients of a symbolic tensor are not known"):
        K.gradients(keras.Input((2,)), [weight])


def test_a_function_of_the_backend_reads_a_hidden_layer():
    model = Sequential([Dense(4, activation="relu", input_dim=3), keras.layers.Dropout(0.5), Dense(2)])
    x = RNG.normal(size=(50, 3)).astype("f4")
    hidden = K.function([model.input], [model.layers[0].output, model.layers[2].output])
    first, last = hidden([x])
    np.testing.assert_allclose(last, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first, model.layers[0](x))
    dropped = K.function([model.layers[0].input, K.learning_phase()], [model.layers[1].output])
    np.testing.assert_array_equal(dropped([x, 0])[0], first)
    assert (dropped([x, 1])[0] == 0).sum() > (first == 0).sum() + 20
