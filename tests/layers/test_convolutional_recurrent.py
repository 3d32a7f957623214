"""LSTMs of convolutions: gradients, masks, states, dropout; their values are compared with real Keras."""

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras import layers, ops, tree
from minikeras.autodiff import GradientTape

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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"return_sequences": True, "return_state": True, "go_backwards": True},
        {"return_sequences": True, "zero_output_for_mask": True, "data_format": "channels_first", "padding": "same"},
        {"return_state": True, "strides": 2, "use_bias": False, "activation": "relu", "kernel_size": (3, 2)},
    ],
)
def test_all_steps_at_once_are_the_steps_one_by_one(monkeypatch, settings, begins, masked, dtype):
    layer = layers.ConvLSTM2D(**{"filters": 3, "kernel_size": 2, "dtype": dtype, **settings})
    x = RNG.normal(size=(3, 4, 5, 6, 2)).astype(dtype)
    layer.build(x.shape)
    initial = [RNG.normal(size=state.shape).astype(dtype) for state in layer.get_initial_state(3)] if begins else None
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]], bool) if masked else None
    found = []
    for at_once in (True, False):
        monkeypatch.setattr(type(layer.cell), "runs_sequences", lambda cell, training, at_once=at_once: at_once)
        with GradientTape() as tape:
            inputs = ops.convert_to_tensor(x)
            tape.watch(inputs)
            results = tree.flatten(layer(inputs, initial_state=initial, mask=mask))
            loss = sum(ops.sum(ops.sin(value)) for value in results)
        found.append([*results, *tape.gradient(loss, [inputs, *layer.trainable_weights])])
    near = {"rtol": 1e-4, "atol": 2e-5} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-12}
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), **near)


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
