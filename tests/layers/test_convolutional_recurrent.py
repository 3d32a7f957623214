"""LSTMs of convolutions: gradients, masks, states, dropout; their values are compared with real Keras."""

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras import layers

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 4, 5, 2))
CELL = {"filters": 2, "kernel_size": 2, "padding": "same", "dtype": "float64"}


@pytest.mark.parametrize(
    ("rank", "shape", "arguments"),
    [
        (1, (2, 3, 5, 2), {"kernel_size": 3, "strides": 2, "return_sequences": True}),
        (2, (2, 2, 4, 3, 2), {"kernel_size": (2, 1), "data_format": "channels_last", "dilation_rate": 2}),
        (2, (2, 2, 2, 3, 3), {"kernel_size": 2, "data_format": "channels_first", "use_bias": False}),
        (3, (1, 2, 2, 3, 2, 1), {"kernel_size": 2, "padding": "same", "unit_forget_bias": False}),
    ],
)
def test_gradients(check_layer, rank, shape, arguments):
    cls = getattr(layers, f"ConvLSTM{rank}D")
    check_layer(cls, {"filters": 2, **arguments}, RNG.normal(size=shape))


def test_a_window_of_one_place_is_an_lstm_of_each_place():
    layer = layers.ConvLSTM1D(3, 1, dtype="float64", return_sequences=True)
    outputs = np.asarray(layer(X))
    plain = layers.LSTM(3, dtype="float64", return_sequences=True)
    plain.build((None, None, 2))
    plain.set_weights([w[0] if w.ndim == 3 else w for w in layer.get_weights()])
    for place in range(5):
        np.testing.assert_allclose(outputs[:, :, place], plain(X[:, :, place]), rtol=1e-9)


@pytest.mark.parametrize("zero", [False, True])
def test_masked_steps_are_left_out(zero):
    layer = layers.ConvLSTM1D(**CELL, return_sequences=True, return_state=True, zero_output_for_mask=zero)
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    outputs, *states = layer(X, mask=mask)
    for n, counts in enumerate(mask):
        wanted, *ends = layer(X[n : n + 1, counts])
        np.testing.assert_allclose(np.asarray(outputs)[n, counts], np.asarray(wanted)[0], rtol=1e-9)
        for state, end in zip(states, ends, strict=True):
            np.testing.assert_allclose(np.asarray(state)[n], np.asarray(end)[0], rtol=1e-9)
        left_out = np.asarray(outputs)[n, ~counts]
        repeated = [np.asarray(outputs)[n, t - 1] if t else 0 for t in np.flatnonzero(~counts)]
        for step, before in zip(left_out, repeated, strict=True):
            assert np.array_equal(step, np.zeros_like(step) if zero else before + np.zeros_like(step))


def test_stateful():
    layer = layers.ConvLSTM1D(**CELL, stateful=True)
    whole = layers.ConvLSTM1D(**CELL)
    layer(X[:, :2])
    whole.build(X.shape), whole.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(X[:, 2:]), whole(X), rtol=1e-9)
    layer.reset_states()
    np.testing.assert_allclose(layer(X), whole(X), rtol=1e-9)


def test_dropout_is_the_same_at_each_step_and_another_for_each_gate():
    layer = layers.ConvLSTM1D(
        2, 1, dropout=0.5, seed=1, return_sequences=True, bias_initializer="zeros", dtype="float64"
    )
    x = np.repeat(X[:, :1], 3, axis=1)
    layer.build(x.shape)
    layer.cell.recurrent_kernel.assign(np.zeros(layer.cell.recurrent_kernel.shape))
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    mask = k.to_host(layer.cell._masks["dropout"])
    assert mask.shape == (4, 3, 5, 2)
    assert set(np.unique(mask)) == {0, 2}
    assert not np.array_equal(mask[0], mask[1])
    assert np.array_equal(layer(x), layer(x, training=False))


def test_both_directions():
    layer = layers.Bidirectional(layers.ConvLSTM1D(**CELL, return_sequences=True))
    assert layer(X).shape == (3, 4, 5, 4) == layer.compute_output_shape(X.shape)


def test_refused():
    with pytest.raises(ValueError, match="known size along axis 1"):
        layers.ConvLSTM2D(2, 2)(layers.Input((3, None, 4, 1)))
    with pytest.raises(ValueError, match="strides above 1 or a dilation_rate above 1, not both"):
        layers.ConvLSTM2D(2, 2, strides=2, dilation_rate=2)
    with pytest.raises(ValueError, match=r"needs states of shapes \[\(3, 5, 2\), \(3, 5, 2\)\], got \[\(3, 2\)\]"):
        layers.ConvLSTM1D(**CELL)(X, initial_state=np.zeros((3, 2)))
