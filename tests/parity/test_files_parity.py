"""Files both ways: written here and opened by real Keras, and the reverse; equal predictions, then equal training."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import minikeras
from minikeras.models.functional_config import _BY_OP

RNG = np.random.default_rng(0)

LAYERS = {
    "Dense": (lambda L: L.Dense(3, activation="gelu", kernel_regularizer="l2", bias_constraint="non_neg"), (5,)),
    "Dense_no_bias": (lambda L: L.Dense(3, use_bias=False, trainable=False), (4, 5)),
    "Activation": (lambda L: L.Activation("hard_sigmoid"), (5,)),
    "Dropout": (lambda L: L.Dropout(0.0), (5,)),
    "Flatten": (lambda L: L.Flatten(), (4, 5)),
    "Reshape": (lambda L: L.Reshape((2, -1)), (4, 5)),
    "Permute": (lambda L: L.Permute((2, 1)), (4, 5)),
    "Conv1D": (lambda L: L.Conv1D(4, 3, padding="causal", dilation_rate=2), (8, 3)),
    "Conv2D": (lambda L: L.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu"), (7, 7, 2)),
    "Conv2D_groups": (lambda L: L.Conv2D(4, 3, groups=2, use_bias=False, kernel_initializer="he_normal"), (7, 7, 2)),
    "DepthwiseConv2D": (lambda L: L.DepthwiseConv2D(3, depth_multiplier=2), (7, 7, 2)),
    "MaxPooling1D": (lambda L: L.MaxPooling1D(2), (8, 3)),
    "MaxPooling2D": (lambda L: L.MaxPooling2D((2, 3), strides=1, padding="same"), (7, 7, 2)),
    "AveragePooling1D": (lambda L: L.AveragePooling1D(3, padding="same"), (8, 3)),
    "AveragePooling2D": (lambda L: L.AveragePooling2D(2), (7, 7, 2)),
    "GlobalMaxPooling1D": (lambda L: L.GlobalMaxPooling1D(), (8, 3)),
    "GlobalMaxPooling2D": (lambda L: L.GlobalMaxPooling2D(keepdims=True), (7, 7, 2)),
    "GlobalAveragePooling1D": (lambda L: L.GlobalAveragePooling1D(), (8, 3)),
    "GlobalAveragePooling2D": (lambda L: L.GlobalAveragePooling2D(), (7, 7, 2)),
    "BatchNormalization": (lambda L: L.BatchNormalization(momentum=0.9), (5,)),
    "BatchNormalization_plain": (lambda L: L.BatchNormalization(scale=False, center=False), (7, 7, 2)),
    "LayerNormalization": (lambda L: L.LayerNormalization(epsilon=1e-5), (4, 5)),
    "Embedding": (lambda L: L.Embedding(20, 3, mask_zero=True), (6,)),
    "SimpleRNN": (lambda L: L.SimpleRNN(3, return_sequences=True), (6, 2)),
    "LSTM": (lambda L: L.LSTM(3, go_backwards=True, unit_forget_bias=False), (6, 2)),
    "GRU": (lambda L: L.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid"), (6, 2)),
    "GRU_reset_after": (lambda L: L.GRU(3, return_sequences=True), (6, 2)),
    "Bidirectional": (lambda L: L.Bidirectional(L.LSTM(3), merge_mode="sum"), (6, 2)),
    "TimeDistributed": (lambda L: L.TimeDistributed(L.Dense(3)), (6, 2)),
    "RNN_stacked": (lambda L: L.RNN([L.LSTMCell(3), L.GRUCell(2)], return_sequences=True), (6, 2)),
    "ZeroPadding2D": (lambda L: L.ZeroPadding2D(((1, 0), (2, 1))), (5, 5, 2)),
    "ReLU": (lambda L: L.ReLU(max_value=0.7, negative_slope=0.1, threshold=0.1), (5,)),
    "Softmax": (lambda L: L.Softmax(axis=1), (4, 5)),
    "LeakyReLU": (lambda L: L.LeakyReLU(0.1), (5,)),
    "Masking": (lambda L: L.Masking(0.5), (6, 2)),
}


def adapted(layer):
    layer.adapt(np.random.default_rng(1).normal(2, 3, size=(50, 4, 5)).astype("f4"))
    return layer


OPTIMIZERS = {
    "SGD": lambda K: K.optimizers.SGD(0.05),
    "SGD_momentum": lambda K: K.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda K: K.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Adam": lambda K: K.optimizers.Adam(0.01, clipnorm=0.5),
    "Adam_amsgrad": lambda K: K.optimizers.Adam(0.01, amsgrad=True, global_clipnorm=1.0),
    "AdamW": lambda K: K.optimizers.AdamW(0.01, weight_decay=0.02),
    **{
        name: lambda K, name=name: getattr(K.optimizers, name)(0.01)
        for name in ("Adagrad", "Adadelta", "Adamax", "Nadam", "Lion", "Ftrl", "Adafactor")
    },
    "LossScale": lambda K: K.optimizers.LossScaleOptimizer(K.optimizers.Adam(0.01), initial_scale=8.0),
    "Multi": lambda K: K.optimizers.MultiOptimizer(
        K.optimizers.OptimizerMap(K.optimizers.SGD(0.05, momentum=0.9), {".*kernel": K.optimizers.Adam(0.01)})
    ),
    "Adam_ema": lambda K: K.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "Adam_accumulation": lambda K: K.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "Adam_schedule": lambda K: K.optimizers.Adam(K.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
}

LOSSES = {
    "mse": ("mse", "regression"),
    "MeanAbsoluteError": (lambda K: K.losses.MeanAbsoluteError(), "regression"),
    "Huber": (lambda K: K.losses.Huber(), "regression"),
    "function": (lambda K: K.losses.mean_squared_error, "regression"),
    "binary": (lambda K: K.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), "one_hot"),
    "categorical": (lambda K: K.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), "one_hot"),
    "circle": (lambda K: K.losses.Circle(gamma=2.0), "classes"),
    "sparse": (lambda K: K.losses.SparseCategoricalCrossentropy(from_logits=True), "classes"),
}

METRICS = {
    "accuracy": ("accuracy", "classes"),
    "SparseCategoricalAccuracy": (lambda K: K.metrics.SparseCategoricalAccuracy(name="sca"), "classes"),
    "SparseTopK": (lambda K: K.metrics.SparseTopKCategoricalAccuracy(k=2), "classes"),
    "CategoricalAccuracy": (lambda K: K.metrics.CategoricalAccuracy(), "one_hot"),
    "TopK": (lambda K: K.metrics.TopKCategoricalAccuracy(k=2), "one_hot"),
    "BinaryAccuracy": (lambda K: K.metrics.BinaryAccuracy(threshold=0.3), "one_hot"),
    "OneHotIoU": (lambda K: K.metrics.OneHotIoU(3, [0, 2]), "one_hot"),
    "mae": ("mae", "regression"),
    "MeanSquaredError": (lambda K: K.metrics.MeanSquaredError(), "regression"),
}


def data(shape, n=6, integers=False):
    return RNG.integers(0, 20, (n, *shape)).astype("f4") if integers else RNG.normal(size=(n, *shape)).astype("f4")


def targets(kind, n=6):
    classes = RNG.integers(0, 3, n)
    return {"regression": data((3,), n), "one_hot": np.eye(3, dtype="f4")[classes], "classes": classes}[kind]


def as_list(value):
    if isinstance(value, dict):
        return [np.asarray(value[key]) for key in sorted(value)]
    return [np.asarray(part) for part in value] if isinstance(value, (list, tuple)) else [np.asarray(value)]


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def optimizer_state(model):
    return [np.asarray(v) for v in model.optimizer.variables]


def assert_equal_models(ours, theirs, x, y):
    assert_close(ours.get_weights(), theirs.get_weights())
    assert_close(as_list(ours.predict(x, verbose=0)), as_list(theirs.predict(x, verbose=0)))
    assert_close(optimizer_state(ours), optimizer_state(theirs))
    for _ in range(2):
        ours_logs = ours.train_on_batch(x, y, return_dict=True)
        theirs_logs = theirs.train_on_batch(x, y, return_dict=True)
        assert sorted(ours_logs) == sorted(theirs_logs)
        assert_close(
            [np.float32(ours_logs[k]) for k in sorted(ours_logs)],
            [np.float32(theirs_logs[k]) for k in sorted(ours_logs)],
        )
    assert_close(ours.get_weights(), theirs.get_weights())
    assert_close(optimizer_state(ours), optimizer_state(theirs))


def both_ways(build, x, y, tmp_path):
    """Build here, train, save, open there; and the reverse; also weights files and JSON."""
    for source, target in ((minikeras, keras), (keras, minikeras)):
        model = build(source)
        model.train_on_batch(x, y)
        model.save(tmp_path / "m.keras")
        copy = target.models.load_model(tmp_path / "m.keras")
        ours, theirs = (model, copy) if source is minikeras else (copy, model)
        assert_equal_models(ours, theirs, x, y)
        # weights into a model with weights of its own
        model.save_weights(tmp_path / "w.weights.h5")
        other = build(target)
        other.train_on_batch(x, y)
        other.load_weights(tmp_path / "w.weights.h5")
        ours, theirs = (model, other) if source is minikeras else (other, model)
        assert_equal_models(ours, theirs, x, y)


def with_head(K, layer, shape, *, integers=False, optimizer="adam", loss="mse", metrics=None):
    inputs = K.Input(shape, name="entrance")
    hidden = layer(inputs)
    hidden = K.layers.GlobalAveragePooling1D()(hidden) if integers else K.layers.Flatten()(hidden)
    model = K.Model(inputs, K.layers.Dense(3)(hidden))
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    return model


TOGETHER = {
    "pictures": (
        lambda L: [
            L.Rescaling([0.5, 0.1], offset=-1.0),
            L.SeparableConv2D(4, 3, strides=2, padding="same", activation="relu"),
            L.GroupNormalization(2, center=False),
            L.Conv2DTranspose(4, (3, 2), strides=2, activation="relu"),
            L.AlphaDropout(0.0),
        ],
        (7, 7, 2),
    ),
    "sequences": (
        lambda L: [
            adapted(L.Normalization()),
            L.Normalization(mean=[0.1] * 5, variance=[2.0] * 5),
            L.SeparableConv1D(3, 2, depth_multiplier=2),
            L.Conv1DTranspose(3, 3, strides=2, output_padding=1, padding="same"),
        ],
        (4, 5),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_layers_together(name, tmp_path):
    make, shape = TOGETHER[name]
    x = data(shape)
    for source, target in ((minikeras, keras), (keras, minikeras)):
        model = source.Sequential([source.Input(shape), *make(source.layers)])
        for weight in model.weights:
            value = np.asarray(weight)
            weight.assign(value + (0.1 if value.dtype.kind == "f" else 1))
        for layer in model.layers:
            if source is keras and isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # it computes with copies of its weights
        path = tmp_path / f"{source.__name__}.keras"
        model.save(path)
        opened = target.saving.load_model(path)
        assert_close(opened.get_weights(), model.get_weights())
        assert_close([np.asarray(opened(x))], [np.asarray(model(x))])


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, tmp_path):
    make, shape = LAYERS[name]
    integers = name == "Embedding"
    both_ways(
        lambda K: with_head(K, make(K.layers), shape, integers=integers),
        data(shape, integers=integers),
        targets("regression"),
        tmp_path,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_layer_config_equals_kerass(name):
    """The description of a layer is the very same, entry by entry."""
    make, shape = LAYERS[name]

    def describe(K):
        layer = make(K.layers)
        layer.name = "layer"
        K.Sequential([K.Input(shape), layer])
        description = json.loads(json.dumps(K.saving.serialize_keras_object(layer)))
        description.pop("build_config", None)  # which layers note it is Keras's own affair
        return description

    assert without_automatic_names(describe(minikeras)) == without_automatic_names(describe(keras))


def without_automatic_names(value):
    if isinstance(value, dict):
        return {key: without_automatic_names(item) for key, item in value.items() if key != "name" or "module" in value}
    return [without_automatic_names(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name, tmp_path):
    make = OPTIMIZERS[name]
    both_ways(
        lambda K: with_head(K, K.layers.Dense(4), (5,), optimizer=make(K)),
        data((5,)),
        targets("regression"),
        tmp_path,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, tmp_path):
    loss, kind = LOSSES[name]
    both_ways(
        lambda K: with_head(K, K.layers.Dense(4), (5,), loss=loss(K) if callable(loss) else loss),
        data((5,)),
        targets(kind),
        tmp_path,
    )


@pytest.mark.parametrize("name", METRICS)
def test_metric(name, tmp_path):
    metric, kind = METRICS[name]

    def build(K):
        loss = K.losses.SparseCategoricalCrossentropy(from_logits=True) if kind == "classes" else "mse"
        metrics = [metric(K) if callable(metric) else metric]
        return with_head(K, K.layers.Dense(4), (5,), loss=loss, metrics=metrics)

    both_ways(build, data((5,)), targets(kind), tmp_path)


# ---------------------------------------------------------------- whole models


def sequential(K):
    L = K.layers
    model = K.Sequential(
        [K.Input((8, 8, 1)), L.Conv2D(3, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(3)]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model, data((8, 8, 1)), targets("regression")


def deferred_sequential(K):
    model = K.Sequential([K.layers.Dense(4, activation="relu"), K.layers.BatchNormalization(), K.layers.Dense(3)])
    model.compile("rmsprop", "mse")
    model.build((None, 5))
    return model, data((5,)), targets("regression")


def branches(K):
    L = K.layers
    x = K.Input((6,))
    a, b = L.Dense(4, activation="tanh")(x), L.Dense(4)(x)
    merged = L.Concatenate()([L.Add()([a, b]), L.Multiply()([a, b]), x])
    model = K.Model(x, L.Dense(3)(merged))
    model.compile("adam", "mse")
    return model, data((6,)), targets("regression")


def shared_layers(K):
    L = K.layers
    x, y = K.Input((5,)), K.Input((5,))
    shared, twice = L.Dense(4, activation="relu"), L.Dense(4)
    a, b = shared(x), shared(y)
    model = K.Model([x, y], L.Dense(3)(L.Add()([twice(twice(a)), b])))
    model.compile("adam", "mse")
    return model, [data((5,)), data((5,))], targets("regression")


def several_ends(K):
    L = K.layers
    first, second = K.Input((5,), name="first"), K.Input((4,), name="second")
    h = L.Concatenate(name="join")([L.Dense(4)(first), second])
    outputs = {"one": L.Dense(3, name="one")(h), "two": L.Dense(2, activation="sigmoid", name="two")(h)}
    model = K.Model({"first": first, "second": second}, outputs)
    model.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights={"one": 1.0, "two": 0.3}, metrics={"one": ["mae"]})
    return model, {"first": data((5,)), "second": data((4,))}, {"one": data((3,)), "two": data((2,))}


def list_of_outputs(K):
    L = K.layers
    x = K.Input((5,))
    h = L.Dense(4, activation="relu")(x)
    model = K.Model(x, [L.Dense(3, name="a")(h), L.Dense(2, name="b")(h)])
    model.compile("adam", ["mse", "mae"])
    return model, data((5,)), [data((3,)), data((2,))]


def nested(K):
    L = K.layers
    inner_input = K.Input((5,))
    inner = K.Model(inner_input, L.Dense(5, activation="relu")(L.BatchNormalization()(inner_input)), name="inner")
    stack = K.Sequential([K.Input((5,)), L.Dense(5), L.Dense(5, trainable=False)], name="stack")
    x = K.Input((5,))
    h = inner(x)
    h = stack(inner(h))
    model = K.Model(x, [L.Dense(3, name="head")(h), inner(h)])
    model.compile("adam", "mse")
    return model, data((5,)), [data((3,)), data((5,))]


def nested_at_the_end(K):
    inner_input = K.Input((5,))
    inner = K.Model(inner_input, K.layers.Dense(5)(inner_input))
    x = K.Input((5,))
    model = K.Model(x, inner(K.layers.Dense(5)(inner(x))))
    model.compile("adam", "mse")
    return model, data((5,)), data((5,))


def sequential_of_models(K):
    L = K.layers
    inner = K.Sequential([L.Dense(5, activation="relu"), L.Dense(4)])
    model = K.Sequential([K.Input((5,)), inner, L.Dense(3)])
    model.compile("adam", "mse")
    return model, data((5,)), targets("regression")


def layer_shared_between_models(K):
    L = K.layers
    shared = L.Dense(5)
    first, second = K.Sequential([K.Input((5,)), shared, L.ReLU()]), K.Sequential([K.Input((5,)), L.Dense(5), shared])
    x = K.Input((5,))
    model = K.Model(x, L.Dense(3)(second(first(x))))
    model.compile("adam", "mse")
    return model, data((5,)), targets("regression")


def inside_another(K):
    L = K.layers
    x = K.Input((5,))
    first = L.Dense(4, activation="relu")(x)
    whole = K.Model(x, L.Dense(3)(L.Dense(4)(first)))
    model = K.Model(first, whole.output)
    model.compile("adam", "mse")
    return model, data((4,)), targets("regression")


def masked(K):
    L = K.layers
    x = K.Input((6,))
    h = L.Embedding(20, 4, mask_zero=True)(x)
    h = L.Bidirectional(L.GRU(3, return_sequences=True))(L.LSTM(3, return_sequences=True)(h))
    model = K.Model(x, L.Dense(3)(L.LSTM(3)(h)))
    model.compile("adam", "mse")
    x = data((6,), integers=True)
    x[:, 4:] = 0
    return model, x, targets("regression")


def states_passed_on(K):
    L = K.layers
    x, y = K.Input((6, 2)), K.Input((4, 2))
    _, h, c = L.LSTM(3, return_state=True)(x)
    model = K.Model([x, y], L.Dense(3)(L.LSTM(3)(y, initial_state=[h, c])))
    model.compile("adam", "mse")
    return model, [data((6, 2)), data((4, 2))], targets("regression")


def frozen(K):
    L = K.layers
    model = K.Sequential([K.Input((5,)), L.Dense(4), L.Dense(4), L.Dense(3)])
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    return model, data((5,)), targets("regression")


MODELS = [
    sequential,
    deferred_sequential,
    branches,
    shared_layers,
    several_ends,
    list_of_outputs,
    nested,
    nested_at_the_end,
]
MODELS += [sequential_of_models, inside_another, masked, states_passed_on, frozen]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_model(build, tmp_path):
    _, x, y = build(minikeras)
    both_ways(lambda K: build(K)[0], x, y, tmp_path)


def test_layer_shared_between_models(tmp_path):
    """Real Keras opens this from here, though not from itself: its own file does not say that the layer is one."""
    model, x, _ = layer_shared_between_models(minikeras)
    model.save(tmp_path / "m.keras")
    for copy in (keras.models.load_model(tmp_path / "m.keras"), minikeras.models.load_model(tmp_path / "m.keras")):
        assert copy.count_params() == model.count_params()
        assert_close(as_list(copy.predict(x, verbose=0)), as_list(model.predict(x, verbose=0)))


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_json(build):
    """A model from JSON has its source's weights under the same shapes and computes the same with them."""
    for source, target in ((minikeras, keras), (keras, minikeras)):
        model, x, _ = build(source)
        copy = target.models.model_from_json(model.to_json())
        copy.set_weights(model.get_weights())
        assert_close(as_list(copy.predict(x, verbose=0)), as_list(model.predict(x, verbose=0)))
        assert copy.optimizer.get_config()["learning_rate"] == model.optimizer.get_config()["learning_rate"]


# not compared: real Keras notes masks and training flags as arguments of calls, and names clones of tensors otherwise
WIRED = [build for build in MODELS if build not in (masked, states_passed_on, inside_another)]


@pytest.mark.parametrize("build", WIRED, ids=lambda build: build.__name__)
def test_functional_config_is_wired_as_kerass(build):
    """Names, calls and ends are the same in the description written here."""

    def wiring(K):
        K.utils.clear_session()
        config = json.loads(json.dumps(build(K)[0].get_config()))
        layers = [(layer["class_name"], layer.get("inbound_nodes")) for layer in config["layers"]]
        for _, calls in layers:
            for call in calls or ():
                call["kwargs"] = {name: value for name, value in call["kwargs"].items() if value is not None}
        return layers, config.get("input_layers"), config.get("output_layers")

    assert wiring(minikeras) == wiring(keras)


SIX = np.arange(6, dtype="f4")
OPS = {
    "add": lambda K, x, y: x + y,
    "add_number": lambda K, x, y: 1.5 + x,
    "multiply": lambda K, x, y: x * 2,
    "subtract": lambda K, x, y: 1 - x - y,
    "divide": lambda K, x, y: x / 2.0,
    "power": lambda K, x, y: abs(x) ** 2,
    "negative": lambda K, x, y: -x,
    "matmul": lambda K, x, y: x @ K.ops.transpose(y, (0, 2, 1)),
    "array": lambda K, x, y: x + np.arange(6, dtype="f4"),
    "tensor": lambda K, x, y: x * K.ops.convert_to_tensor(np.arange(6, dtype="f4")),
    "relu": lambda K, x, y: K.ops.relu(x),
    "activations": lambda K, x, y: (
        K.activations.relu(x, max_value=1.0) + K.activations.sigmoid(y) + K.activations.tanh(x)
    ),
    "sigmoid": lambda K, x, y: K.ops.sigmoid(x),
    "tanh": lambda K, x, y: K.ops.tanh(x),
    "softmax": lambda K, x, y: K.ops.softmax(x, axis=1),
    "elu": lambda K, x, y: K.ops.elu(x, alpha=0.5) + K.ops.leaky_relu(y, 0.3),
    "gelu": lambda K, x, y: K.ops.gelu(x) + K.ops.gelu(y, approximate=False),
    "silu": lambda K, x, y: K.ops.silu(x) * K.ops.log_softmax(y),
    "pick": lambda K, x, y: x[:, 0],
    "slice": lambda K, x, y: x[:, 1:3, None],
    "ellipsis": lambda K, x, y: x[..., ::2],
    "concatenate": lambda K, x, y: K.ops.concatenate([x, y], axis=-1),
    "stack": lambda K, x, y: K.ops.stack([x, y], axis=1),
    "mean": lambda K, x, y: K.ops.mean(x, axis=1, keepdims=True),
    "sum": lambda K, x, y: K.ops.sum(x, axis=(1, 2)),
    "max": lambda K, x, y: K.ops.max(x, axis=-1),
    "reshape": lambda K, x, y: K.ops.reshape(x, (-1, 24)),
    "transpose": lambda K, x, y: K.ops.transpose(x, (0, 2, 1)),
    "expand_dims": lambda K, x, y: K.ops.squeeze(K.ops.expand_dims(x, 1), 1),
    "where": lambda K, x, y: K.ops.where(x > 0, x, y),
    "split": lambda K, x, y: K.ops.split(x, 2, axis=-1)[1],
    "pad": lambda K, x, y: K.ops.pad(x, [[0, 0], [1, 1], [0, 0]]),
    "clip": lambda K, x, y: K.ops.clip(x, 0, 1),
    "einsum": lambda K, x, y: K.ops.einsum("bij,bkj->bik", x, y),
    "maximum": lambda K, x, y: K.ops.maximum(x, y),
    "exp": lambda K, x, y: K.ops.exp(x) + K.ops.log(K.ops.square(y) + 1.0) + K.ops.sqrt(K.ops.absolute(x)),
    "cast": lambda K, x, y: K.ops.cast(K.ops.argmax(x, axis=-1), "float32"),
    "logsumexp": lambda K, x, y: K.ops.logsumexp(x, axis=1),
    "one_hot": lambda K, x, y: K.ops.one_hot(K.ops.argmax(x, axis=-1), 6),
    "swapaxes": lambda K, x, y: K.ops.swapaxes(x, 1, 2),
    "repeat": lambda K, x, y: K.ops.repeat(K.ops.tile(x, (1, 2, 1)), 2, axis=1),
    "take": lambda K, x, y: K.ops.take(x, 1, axis=1),
    "layer_normalization": lambda K, x, y: (
        K.ops.layer_normalization(x) + K.ops.layer_normalization(y, SIX, beta=SIX, axis=-1, epsilon=0.1)
    ),
    "rms_scaling": lambda K, x, y: K.ops.layer_normalization(x, SIX, axis=-1, rms_scaling=True),
    "batch_normalization": lambda K, x, y: (
        K.ops.batch_normalization(x, SIX, SIX + 1, axis=-1)
        + K.ops.batch_normalization(y, SIX, SIX + 1, -1, offset=SIX, scale=SIX, epsilon=0.1)
    ),
    "log1p": lambda K, x, y: K.ops.log1p(K.ops.absolute(x)) - K.ops.expm1(y),
    "meshgrid": lambda K, x, y: K.ops.meshgrid(x[:, 0, 0], y[0, 0], indexing="ij"),
    "isclose": lambda K, x, y: K.ops.isclose(x, y, rtol=0.5),
    "average": lambda K, x, y: K.ops.average(x, axis=1, weights=K.ops.absolute(y)),
    "padding": lambda K, x, y: K.ops.pad(x, [[0, 0], [1, 2], [0, 1]], constant_values=2.0),
    "tensordot": lambda K, x, y: K.ops.tensordot(x, np.ones((4, 6, 3), "f4"), axes=[[1, 2], [0, 1]]),
    "convolution": lambda K, x, y: K.ops.conv(x, np.ones((3, 6, 2), "f4"), padding="same"),
    "top_k": lambda K, x, y: K.ops.top_k(x, 2)[0],
    "moments": lambda K, x, y: K.ops.moments(x, axes=[1])[1],
    "crossentropy": lambda K, x, y: K.ops.categorical_crossentropy(K.ops.softmax(x), y, from_logits=True),
    "slice_update": lambda K, x, y: K.ops.slice_update(x, (0, 0, 0), np.ones((1, 2, 2), "f4")),
}


# ReconstructPatches is of a later Keras
@pytest.mark.parametrize(
    "known", [one for one in _BY_OP.values() if one.class_name != "ReconstructPatches"], ids=lambda one: one.class_name
)
def test_every_operation_is_described_as_keras_does(known):
    """Keras has a class of that name, constructed with these settings and called with these arguments."""
    cls = getattr(importlib.import_module(known.module), known.class_name)
    accepted = set(inspect.signature(cls.__init__).parameters)
    assert set(known.settings) <= accepted
    called = list(inspect.signature(cls.call).parameters.values())[1:]
    if all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in called):
        assert len(known.taken) == len(called)


@pytest.mark.parametrize("name", OPS)
def test_operation(name, tmp_path):
    def build(K):
        x, y = K.Input((4, 6), name="x"), K.Input((4, 6), name="y")
        return K.Model([x, y], OPS[name](K, x, y))

    inputs = [data((4, 6)), data((4, 6))]
    for source, target in ((minikeras, keras), (keras, minikeras)):
        model = build(source)
        model.save(tmp_path / "m.keras")
        copy = target.models.load_model(tmp_path / "m.keras")
        assert_close(as_list(copy.predict(inputs, verbose=0)), as_list(model.predict(inputs, verbose=0)))
        again = source.models.model_from_json(copy.to_json())  # described again from what was restored
        assert_close(as_list(again.predict(inputs, verbose=0)), as_list(model.predict(inputs, verbose=0)))


@pytest.mark.parametrize("seed", range(12))
def test_layers_are_numbered_as_in_keras(seed):
    """Files name layers by their class and position: the order of the layers of any graph is Keras's."""

    def order(K):
        random = np.random.default_rng(seed)
        tensors = [K.Input((3,), name="a"), K.Input((3,), name="b")]
        used = []
        for i in range(14):
            picked = [tensors[j] for j in random.choice(len(tensors), 2, replace=False)]
            if used and random.random() < 0.2:
                layer, picked = used[random.integers(len(used))], picked[:1]
            elif random.random() < 0.5:
                layer, picked = K.layers.Dense(3, name=f"layer{i}"), picked[:1]
                used.append(layer)
            else:
                layer = K.layers.Add(name=f"layer{i}")
            tensors.append(layer(picked[0] if len(picked) == 1 else picked))
        model = K.Model(tensors[:2], [tensors[-1], tensors[-3]])
        return [layer.name for layer in model.layers]

    assert order(minikeras) == order(keras)


# ---------------------------------------------------------------- users' classes


def custom_classes(K, package):
    class Scale(K.layers.Layer):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, input_shape):
            self.shift = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="shift")

        def call(self, x):
            return x * self.factor + self.shift

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    class Net(K.Model):
        def __init__(self, units=4, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.blocks = [K.layers.Dense(units, activation="relu"), [K.layers.Dense(units)]]
            self.named = {"scale": Scale(3.0), "dense": K.layers.Dense(units)}
            self._head = K.layers.Dense(3)
            self.tail = K.Sequential([K.layers.Dense(3)])
            self.gain = self.add_weight(shape=(3,), initializer="ones", name="gain")

        def call(self, x):
            x = self.named["dense"](self.named["scale"](self.blocks[1][0](self.blocks[0](x))))
            return self.tail(self._head(x)) * self.gain

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    for cls in (Scale, Net):
        K.saving.register_keras_serializable(package)(cls)
    return Scale, Net


def test_users_classes(tmp_path):
    classes = {K: custom_classes(K, "files") for K in (minikeras, keras)}
    x, y = data((5,)), targets("regression")

    def build(K):
        model = classes[K][1](units=6)
        model.compile("adam", "mse")
        model.train_on_batch(x, y)
        return model

    for source, target in ((minikeras, keras), (keras, minikeras)):
        model = build(source)
        model.save_weights(tmp_path / "w.weights.h5")
        other = build(target)
        other.load_weights(tmp_path / "w.weights.h5")
        model.save(tmp_path / "m.keras")
        copy = target.models.load_model(tmp_path / "m.keras")
        for theirs_or_ours in (other, copy):
            assert_close(as_list(theirs_or_ours.predict(x, verbose=0)), as_list(model.predict(x, verbose=0)))


def test_bare_description_written_by_hand(tmp_path):
    """Files need not say more than Keras needs: defaults fill the rest."""
    description = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "by_hand",
            "layers": [
                {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4]}},
                {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3, "activation": "relu"}},
            ],
        },
    }
    ours = minikeras.models.model_from_json(json.dumps(description))
    theirs = keras.models.model_from_json(json.dumps(description))
    theirs.set_weights(ours.get_weights())
    x = data((4,))
    assert_close(as_list(ours.predict(x, verbose=0)), as_list(theirs.predict(x, verbose=0)))


# ---------------------------------------------------------------- what is only in one mode of a call


def pictures_in_front(K):
    """Keras notes `training=True` for layers whose `call` has it as its default, although nobody said so."""
    x = K.Input((8, 8, 3))
    return K.Model(x, K.layers.Dense(2)(K.layers.Flatten()(K.layers.RandomZoom(0.4)(K.layers.RandomFlip()(x)))))


def test_random_layers_predict_as_they_are(tmp_path):
    theirs = pictures_in_front(keras)
    theirs.save(tmp_path / "theirs.keras")
    ours = minikeras.saving.load_model(tmp_path / "theirs.keras")
    pictures = data((8, 8, 3))
    assert_close(ours.predict(pictures, verbose=0), theirs.predict(pictures, verbose=0))
    assert np.any(np.asarray(ours(pictures, training=True)) != np.asarray(ours(pictures, training=False)))


def test_training_that_was_said_stays_said(tmp_path):
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    ends = [keras.layers.BatchNormalization()(x, training=False), inner(x, training=False)]
    keras.Model(x, [*ends, keras.layers.Dropout(0.5)(x, training=True)]).save(tmp_path / "theirs.keras")
    ours = minikeras.saving.load_model(tmp_path / "theirs.keras")
    ones = np.ones((50, 4), "float32")
    for training in (True, False):
        normalized, left_alone, dropped = map(np.asarray, ours(ones, training=training))
        np.testing.assert_allclose(normalized, ones / np.sqrt(1.001), rtol=1e-6)
        np.testing.assert_array_equal(left_alone, ones)
        assert set(np.unique(dropped)) == {0.0, 2.0}


@pytest.mark.parametrize("name", ["LayerScale", "StochasticDepth"])
def test_layers_of_applications(name, tmp_path):
    from keras.src.applications import convnext

    layer = convnext.LayerScale(0.5, 4) if name == "LayerScale" else convnext.StochasticDepth(0.5)
    theirs = keras.Sequential([keras.Input((4,)), layer])
    theirs.save(tmp_path / "theirs.keras")
    program = "import sys, minikeras; print(type(minikeras.saving.load_model(sys.argv[1]).layers[0]).__name__)"
    # in a process of its own: nothing has loaded these layers before
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "theirs.keras"], capture_output=True, text=True)
    assert done.stdout.strip() == name, done.stderr
