"""Models of Keras 2's last code, opened here: the same outputs, whatever layers and options they have."""

from __future__ import annotations

import importlib
import json

import h5py
import numpy as np
import pytest

import minikeras as keras
from minikeras.models.description import model_from_config, model_from_json

tf_keras = pytest.importorskip("tf_keras")
tf = importlib.import_module("tensorflow")
L = tf_keras.layers

SEQUENCE, IMAGE, VOLUME, VECTOR = (6, 4), (8, 8, 3), (4, 4, 4, 2), (5,)


def _rnn_cells():
    return [L.LSTMCell(3, recurrent_activation="hard_sigmoid"), L.GRUCell(2), L.SimpleRNNCell(2)]


def _adapted():
    layer = L.Normalization(axis=None)
    layer.adapt(np.arange(10.0).reshape(2, 5))
    return layer


# name: (shape of a sample, layers one after the other)
STACKS = {
    "dense": (VECTOR, lambda: [L.Dense(4, "relu", kernel_regularizer="l2", bias_constraint="non_neg"), L.Dense(2)]),
    "regularizers": (
        VECTOR,
        lambda: [
            L.Dense(
                3,
                kernel_regularizer=tf_keras.regularizers.L1L2(0.1, 0.2),
                kernel_constraint=tf_keras.constraints.MaxNorm(2.0, axis=0),
                activity_regularizer="l1",
            )
        ],
    ),
    "activations": (VECTOR, lambda: [L.Activation(one) for one in ("hard_sigmoid", "swish", "gelu", "exponential")]),
    "softmax": (
        VECTOR,
        lambda: [L.Softmax(), L.ELU(0.7), L.LeakyReLU(0.4), L.ReLU(2.0, 0.1, 0.05), L.ThresholdedReLU(0.01)],
    ),
    "prelu": (SEQUENCE, lambda: [L.PReLU(shared_axes=[1], alpha_initializer="random_normal")]),
    "conv1d": (SEQUENCE, lambda: [L.Conv1D(4, 2, padding="causal", dilation_rate=2), L.Conv1D(4, 2, groups=2)]),
    "conv2d": (IMAGE, lambda: [L.Conv2D(4, (3, 2), strides=2, padding="same", activation="hard_sigmoid")]),
    "conv3d": (VOLUME, lambda: [L.Conv3D(2, 2), L.Conv3DTranspose(2, 2, strides=2)]),
    "transposed": (IMAGE, lambda: [L.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1)]),
    "transposed 1": (SEQUENCE, lambda: [L.Conv1DTranspose(4, 3, strides=2)]),
    "depthwise": (IMAGE, lambda: [L.DepthwiseConv2D(3, depth_multiplier=2), L.SeparableConv2D(4, 3)]),
    "depthwise 1": (SEQUENCE, lambda: [L.DepthwiseConv1D(3), L.SeparableConv1D(4, 2, depth_multiplier=2)]),
    "local": (IMAGE, lambda: [L.LocallyConnected2D(2, 3)]),
    "local 1": (SEQUENCE, lambda: [L.LocallyConnected1D(2, 3)]),
    "pools 1": (SEQUENCE, lambda: [L.MaxPooling1D(2, 1, "same"), L.AveragePooling1D(2), L.GlobalMaxPooling1D()]),
    "pools 2": (
        IMAGE,
        lambda: [L.MaxPool2D(2), L.AvgPool2D(2, padding="same"), L.GlobalAveragePooling2D(keepdims=True)],
    ),
    "pools 3": (VOLUME, lambda: [L.MaxPooling3D(2), L.GlobalAveragePooling3D()]),
    "batch norm": (IMAGE, lambda: [L.BatchNormalization(), L.BatchNormalization(axis=1, scale=False, center=False)]),
    "layer norm": (SEQUENCE, lambda: [L.LayerNormalization(), L.LayerNormalization(axis=[1, 2], epsilon=0.1)]),
    "other norms": (IMAGE, lambda: [L.GroupNormalization(3), L.UnitNormalization()]),
    "noise": (
        IMAGE,
        lambda: [L.GaussianNoise(0.1), L.GaussianDropout(0.1), L.AlphaDropout(0.1), L.SpatialDropout2D(0.1)],
    ),
    "dropout": (SEQUENCE, lambda: [L.Dropout(0.3, noise_shape=(None, 1, 4), seed=3), L.ActivityRegularization(0.1)]),
    "shapes": (IMAGE, lambda: [L.Permute((2, 1, 3)), L.Reshape((4, -1)), L.Flatten(), L.RepeatVector(3)]),
    "padding": (
        IMAGE,
        lambda: [L.ZeroPadding2D(((1, 2), (3, 0))), L.Cropping2D(1), L.UpSampling2D(2, interpolation="bilinear")],
    ),
    "padding 1": (SEQUENCE, lambda: [L.ZeroPadding1D((1, 2)), L.Cropping1D((1, 0)), L.UpSampling1D(3)]),
    "padding 3": (VOLUME, lambda: [L.ZeroPadding3D(1), L.Cropping3D(1), L.UpSampling3D(2)]),
    "lstm": (SEQUENCE, lambda: [L.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid"), L.LSTM(2)]),
    "gru": (SEQUENCE, lambda: [L.GRU(3, return_sequences=True), L.GRU(2, reset_after=False, go_backwards=True)]),
    "gru 1": (SEQUENCE, lambda: [L.GRU(3, reset_after=False, use_bias=False)]),
    "simple": (SEQUENCE, lambda: [L.SimpleRNN(3, unroll=True, dropout=0.1, recurrent_dropout=0.1)]),
    "masked": (SEQUENCE, lambda: [L.Masking(0.5), L.LSTM(3, return_sequences=True), L.TimeDistributed(L.Dense(2))]),
    "cells": (SEQUENCE, lambda: [L.RNN(_rnn_cells())]),
    "a cell": (SEQUENCE, lambda: [L.RNN(L.GRUCell(3), return_sequences=True)]),
    "bidirectional": (SEQUENCE, lambda: [L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="sum")]),
    "bidirectional 2": (
        SEQUENCE,
        lambda: [
            L.Bidirectional(L.GRU(3), backward_layer=L.LSTM(3, go_backwards=True, recurrent_activation="hard_sigmoid"))
        ],
    ),
    "bidirectional rnn": (SEQUENCE, lambda: [L.Bidirectional(L.RNN(L.LSTMCell(2)), merge_mode="mul")]),
    "conv lstm": (
        (3, 5, 5, 2),
        lambda: [L.ConvLSTM2D(2, 3, return_sequences=True), L.ConvLSTM2D(2, 2, padding="same")],
    ),
    "conv lstm 1": ((3, 5, 2), lambda: [L.ConvLSTM1D(2, 3, recurrent_activation="sigmoid")]),
    "distributed model": (
        SEQUENCE,
        lambda: [L.TimeDistributed(tf_keras.Sequential([L.Input((4,)), L.Dense(3), L.BatchNormalization()]))],
    ),
    "nested": (VECTOR, lambda: [tf_keras.Sequential([L.Dense(3), tf_keras.Sequential([L.Dense(2)])]), L.Dense(1)]),
    "einsum": (SEQUENCE, lambda: [L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="hard_sigmoid")]),
    "rescaling": (IMAGE, lambda: [L.Rescaling(1 / 127.5, -1), L.Resizing(4, 4), L.CenterCrop(2, 2)]),
    "normalization": (VECTOR, lambda: [L.Normalization(mean=[1.0] * 5, variance=[4.0] * 5), _adapted()]),
    "random": (
        IMAGE,
        lambda: [L.RandomFlip(), L.RandomRotation(0.1), L.RandomZoom(0.1), L.RandomTranslation(0.1, 0.1)],
    ),
    "random 2": (
        IMAGE,
        lambda: [L.RandomContrast(0.1), L.RandomBrightness(0.1, value_range=(0, 1)), L.RandomCrop(8, 8)],
    ),
    "discretization": (VECTOR, lambda: [L.Discretization([0.0, 0.5]), L.CategoryEncoding(4, "multi_hot")]),
    "lambda": (VECTOR, lambda: [L.Lambda(lambda x: x * 2, name="double"), L.Dense(2)]),
    "initializers": (
        VECTOR,
        lambda: [
            L.Dense(5, kernel_initializer=one)
            for one in (
                tf_keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal"),
                *("orthogonal", "identity", "random_uniform", "he_normal", "lecun_uniform"),
                tf_keras.initializers.Constant(0.3),
            )
        ],
    ),
}


def _embedding():
    words = L.Input((7,))
    masked = L.Embedding(10, 4, mask_zero=True, input_length=7)(words)
    return words, L.Bidirectional(L.LSTM(3))(masked)


def _encoder_and_decoder():
    source, target = L.Input(SEQUENCE), L.Input(SEQUENCE)
    _, h, c = L.LSTM(3, return_state=True)(source)
    sequences, *_ = L.LSTM(3, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    return [source, target], L.Dense(2, "softmax")(sequences)


def _states_of_both_directions():
    source, states = L.Input(SEQUENCE), [L.Input((3,)) for _ in range(2)]
    return [source, *states], L.Bidirectional(L.GRU(3))(source, initial_state=states)


def _attention():
    x, y = L.Input(SEQUENCE), L.Input((5, 4))
    first = L.MultiHeadAttention(2, 3, value_dim=2, dropout=0.1)(x, value=y, key=y)
    second, scores = L.MultiHeadAttention(1, 2, output_shape=3)(x, x, return_attention_scores=True)
    third = L.Attention(use_scale=True)([x, y])
    fourth = L.AdditiveAttention()([x, y])
    return [x, y], [L.Concatenate()([first, second, third, fourth]), scores]


def _causal():
    x = L.Input(SEQUENCE)
    return x, L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)


def _merges():
    x, y = L.Input(VECTOR), L.Input(VECTOR)
    made = [one()([x, y]) for one in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)]
    return [x, y], L.Concatenate(axis=1)([*made, L.Dot(axes=1, normalize=True)([x, y])])


def _shared():
    shared = L.Dense(4, "tanh")
    tower = tf_keras.Sequential([L.Input(VECTOR), L.Dense(4), L.BatchNormalization()])
    x, y = L.Input(VECTOR), L.Input(VECTOR)
    return [x, y], [L.Add()([shared(x), shared(y)]), L.Subtract()([tower(x), tower(y)])]


def _nested():
    inner_x, inner_y = L.Input(VECTOR, name="a"), L.Input(VECTOR, name="b")
    inner = tf_keras.Model([inner_x, inner_y], [L.Dense(3)(inner_x), L.Dense(3)(L.Add()([inner_x, inner_y]))])
    x, y = L.Input(VECTOR), L.Input(VECTOR)
    first, second = inner([x, y])
    third, fourth = inner([y, x])
    return [x, y], [L.Add()([first, fourth]), second, third]


def _dicts():
    inner = {"a": L.Input(VECTOR, name="a"), "b": L.Input(VECTOR, name="b")}
    return inner, {"sum": L.Add(name="sum")([inner["a"], inner["b"]]), "more": L.Dense(2, name="more")(inner["a"])}


def _arithmetic():
    x, y = L.Input(VECTOR), L.Input(VECTOR)
    z = (2.0 * x + y - 1.0) / (tf.abs(y) + 1.5)
    z = -z + tf.square(x) ** 1.5 + tf.maximum(x, 0.1) * [1.0, 2.0, 3.0, 4.0, 5.0] + tf.sqrt(tf.exp(tf.minimum(y, 1.0)))
    z = tf.where(x > y, z, tf.clip_by_value(z, -1.0, 1.0)) + tf.cast(x < 0.5, tf.float32)
    return [x, y], z + tf.math.squared_difference(x, y) + (x // 0.3) + (y % 0.4)


def _reductions():
    x = L.Input(SEQUENCE)
    kept = [one(x, axis=1) for one in (tf.reduce_mean, tf.reduce_sum, tf.reduce_max, tf.reduce_min, tf.reduce_prod)]
    kept += [
        tf.math.reduce_std(x, axis=1),
        tf.math.reduce_logsumexp(x, axis=[1]),
        tf.reduce_mean(x, axis=(1,), keepdims=True)[:, 0],
    ]
    return x, tf.concat(kept, axis=-1)


def _shapes_of_tensors():
    x = L.Input(SEQUENCE)
    z = tf.transpose(tf.reshape(x, (-1, 6, 2, 2)), perm=[0, 2, 1, 3])
    z = tf.squeeze(tf.expand_dims(z, axis=1), axis=[1])
    z = tf.stack([z, tf.tile(z[:, :, :1], [1, 1, 6, 1])], axis=1)
    first, second = tf.unstack(z, axis=1)
    return x, tf.concat([first[:, :, :, 0, tf.newaxis], second[:, ::-1, :, 1:]], axis=-1)


def _by_batch():
    x = L.Input(SEQUENCE)
    query = L.Dense(4)(x)
    batch = tf.shape(query)[0]
    heads = tf.transpose(tf.reshape(query, (batch, -1, 2, 2)), perm=[0, 2, 1, 3])
    scores = tf.nn.softmax(tf.matmul(heads, heads, transpose_b=True) / tf.math.sqrt(2.0), axis=-1)
    joined = tf.transpose(tf.matmul(scores, heads), perm=[0, 2, 1, 3])
    return x, L.Dense(2)(tf.reshape(joined, (tf.shape(x)[0], -1, 4)))


def _functions():
    x = L.Input(VECTOR)
    one = [tf.nn.relu(x), tf.nn.sigmoid(x), tf.nn.gelu(x), tf.nn.leaky_relu(x, alpha=0.1), tf.nn.elu(x), tf.nn.swish(x)]
    one += [tf.nn.tanh(x), tf.nn.softplus(x), tf.nn.l2_normalize(x, axis=1), tf.matmul(x, tf.ones((5, 2)))]
    one += [tf.one_hot(tf.argmax(x, axis=1), 5), tf.gather(x, [0, 2], axis=1), tf.pad(x, [[0, 0], [1, 1]])]
    one += [tf_keras.activations.hard_sigmoid(x), tf.math.log1p(tf.abs(x)), tf.ones_like(x), tf.stop_gradient(x)]
    return x, tf.concat(one, axis=1)


def _positions():
    words = L.Input((6,), dtype="int32")
    places = tf.range(start=0, limit=6, delta=1)
    return words, L.Embedding(9, 4)(words) + L.Embedding(6, 4)(places)


def _masks():
    x, mask = L.Input(SEQUENCE), L.Input((6,), dtype="bool")
    return [x, mask], L.LSTM(3)(x, mask=mask)


def _dropped_losses():
    x = L.Input(VECTOR)
    y = L.Dense(3)(x)
    model = tf_keras.Model(x, y)
    model.add_loss(tf.reduce_mean(tf.square(y)))
    model.add_metric(tf.reduce_sum(y), name="total")
    return model


GRAPHS = {
    one.__name__.strip("_"): one
    for one in (
        *(_embedding, _encoder_and_decoder, _states_of_both_directions, _attention, _causal, _merges, _shared, _nested),
        *(_dicts, _arithmetic, _reductions, _shapes_of_tensors, _by_batch, _functions, _positions, _masks),
        _dropped_losses,
    )
}


def _stack(name):
    shape, layers = STACKS[name]
    return tf_keras.Sequential([L.Input(shape), *layers()], name="stack")


def _graph(name):
    ends = GRAPHS[name]()
    return ends if isinstance(ends, tf_keras.Model) else tf_keras.Model(*ends)


def _with_values(model, rng):
    """The model with weights that tell everything apart."""
    adapted = {id(w) for one in model.submodules if type(one) is L.Normalization for w in one.weights}
    for weight in model.weights:
        if weight.dtype.is_floating and id(weight) not in adapted:
            weight.assign(rng.uniform(0.1, 0.9, weight.shape))
    return model


def _inputs(model, rng):
    def values(tensor):
        shape = (3, *tensor.shape[1:])
        if tensor.dtype == tf.bool:
            return np.sort(rng.random(shape) > 0.4)[:, ::-1].copy()
        embedding = any(isinstance(layer, L.Embedding) for layer in model.layers)
        whole = tensor.dtype.is_integer or embedding
        return rng.integers(0, 9, shape) if whole else rng.random(shape).astype("float32")

    return tf.nest.map_structure(values, model.input)


def _same(model, ours, rng):
    values = _inputs(model, rng)
    wanted, found = model(values, training=False), ours(values, training=False)
    if isinstance(wanted, dict):
        assert wanted.keys() == found.keys()
    for one, other in zip(tf.nest.flatten(wanted), keras.tree.flatten(found), strict=True):
        np.testing.assert_allclose(np.asarray(other), one.numpy(), rtol=1e-5, atol=1e-5)


def _leaves(model):
    """The layers with weights of their own, those of models in the model too."""
    for layer in model.layers:
        inner = getattr(layer, "layer", None)
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        elif hasattr(inner, "layers"):
            yield from _leaves(inner)
        elif layer.weights:
            yield layer


CUSTOM = dict.fromkeys(("double", "double>function"), lambda x: x * 2)


def _cases():
    yield from ((_stack, name) for name in STACKS)
    yield from ((_graph, name) for name in GRAPHS)


@pytest.mark.parametrize(("make", "name"), [*_cases()], ids=lambda one: one if isinstance(one, str) else None)
def test_a_model_of_keras_2_opens(make, name, tmp_path):
    """Its `.keras` file, and its description as in HDF5 files, where some things are written otherwise."""
    rng = np.random.default_rng(3)
    model = _with_values(make(name), rng)
    path = tmp_path / "model.keras"
    model.save(path)
    _same(model, keras.models.load_model(path, custom_objects=CUSTOM), rng)
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as file:
        described, version = file.attrs["model_config"], file.attrs["keras_version"]
    ours = model_from_config(json.loads(described), CUSTOM, version=str(version))
    for theirs, own in zip(_leaves(model), _leaves(ours), strict=True):
        own.set_weights(theirs.get_weights())
    _same(model, ours, rng)


@pytest.mark.parametrize("name", ["lstm", "gru", "conv2d", "nested"])
def test_its_json_opens(name):
    rng = np.random.default_rng(3)
    model = _with_values(_stack(name), rng)
    ours = model_from_json(model.to_json())
    for theirs, own in zip(_leaves(model), _leaves(ours), strict=True):
        own.set_weights(theirs.get_weights())
    _same(model, ours, rng)


OPTIMIZERS = {
    "adam": lambda: tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9), amsgrad=True),
    "adamw": lambda: tf_keras.optimizers.AdamW(0.05, weight_decay=0.1),
    "sgd": lambda: tf_keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    "plain sgd": lambda: tf_keras.optimizers.SGD(tf_keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5)),
    "plain sgd at a rate": lambda: tf_keras.optimizers.SGD(0.1),
    "rmsprop": lambda: tf_keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "adagrad": lambda: tf_keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.2),
    **{"adadelta": lambda: tf_keras.optimizers.Adadelta(0.5), "adamax": lambda: tf_keras.optimizers.Adamax(0.1)},
    "ftrl": lambda: tf_keras.optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on(name, tmp_path):
    """The state of the optimizer, how the model was compiled, and the same weights after further steps."""
    x, y = np.random.default_rng(0).random((8, 4)), np.random.default_rng(1).random((8, 1))
    model = tf_keras.Sequential([L.Input((4,)), L.Dense(3, "tanh"), L.Dense(1)])
    loss = tf_keras.losses.Huber(delta=0.7)
    model.compile(OPTIMIZERS[name](), loss, metrics=["mae", tf_keras.metrics.RootMeanSquaredError(name="root")])
    model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    ours = keras.models.load_model(tmp_path / "model.keras")
    theirs = model.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0).history
    own = ours.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0).history
    assert own.keys() == theirs.keys()
    for key, values in theirs.items():
        np.testing.assert_allclose(own[key], values, rtol=1e-4)
    for one, other in zip(ours.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
