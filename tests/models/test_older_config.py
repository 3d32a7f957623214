"""Descriptions of Keras 1, of Keras 2 and of tf.keras: read with the meaning that they had."""

from __future__ import annotations

import json

import numpy as np
import pytest

import minikeras as keras
from minikeras import activations, layers
from minikeras.models.description import model_from_config, model_from_json
from minikeras.models.older_config import is_older, modern_compile_config, modern_description

RNG = np.random.default_rng(0)


def entry(class_name, name, nodes=None, **config):
    """A layer in the way of Keras 2; `nodes` as in a functional model."""
    found = {"class_name": class_name, "config": {"name": name, **config}}
    return found if nodes is None else {**found, "name": name, "inbound_nodes": nodes}


def entrance(name, *shape):
    return entry("InputLayer", name, [], batch_input_shape=[None, *shape], dtype="float32", sparse=False)


def functional(entries, inputs, outputs):
    ends = {"input_layers": [[one, 0, 0] for one in inputs], "output_layers": outputs}
    return {"class_name": "Model", "config": {"name": "model", "layers": entries, **ends}, "keras_version": "2.2.4"}


def sequential(*entries, version="2.2.2"):
    return {"class_name": "Sequential", "config": list(entries), "keras_version": version, "backend": "tensorflow"}


def with_values(model):
    """The model with weights that tell everything apart."""
    for weight in model.weights:
        weight.assign(RNG.uniform(-0.9, 0.9, weight.shape))
    return model


def old_hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


# ---------------------------------------------------------------- which Keras wrote it


def test_a_description_of_today_comes_back_untouched():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Bidirectional(layers.GRU(2))(layers.RepeatVector(2)(inputs))))
    model.compile("adam", "mse", metrics=["mae"])
    for description in (json.loads(model.to_json()), json.loads(keras.Sequential([layers.Dense(2)]).to_json())):
        assert modern_description(description) is description
    bare = {"class_name": "Dense", "config": {"units": 3}}
    assert modern_description(bare) is bare


def test_the_version_decides_what_the_description_leaves_open():
    described = {"class_name": "GRU", "config": {"units": 3}}
    assert not is_older(described) and not is_older(described, "3.1.0")
    for version in ("2.2.4-tf", "1.2.2", "2.15.0"):
        assert is_older(described, version)
    assert modern_description(described, "2.1.0")["config"] == {"units": 3, "reset_after": False}
    assert modern_description({**described, "keras_version": "3.0.0"}) == described


def test_layers_and_models_are_made_from_older_configurations():
    gru = layers.deserialize({"class_name": "GRU", "config": {"units": 3, "implementation": 1}})
    assert gru.reset_after is False
    model = keras.Sequential.from_config(
        sequential(entry("Dense", "d", units=2, batch_input_shape=[None, 3]))["config"]
    )
    assert model.output_shape == (None, 2) and model.layers[0].name == "d"
    config = functional([entrance("x", 3), entry("Dense", "d", [[["x", 0, 0, {}]]], units=2)], "x", [["d", 0, 0]])
    assert keras.Model.from_config(config["config"]).output_shape == (None, 2)


# ---------------------------------------------------------------- functions and gates as they were


def test_hard_sigmoid_of_keras_2():
    x = np.array([-3.0, -2.5, -1.0, 0.0, 2.0, 2.5, 4.0], "float32")
    np.testing.assert_allclose(activations.keras2_hard_sigmoid(x), old_hard_sigmoid(x), atol=1e-7)
    assert activations.get("keras2_hard_sigmoid") is activations.keras2_hard_sigmoid
    variable = keras.Variable(x)
    with keras.GradientTape() as tape:
        loss = keras.ops.sum(activations.keras2_hard_sigmoid(variable) * np.arange(7.0, dtype="float32"))
    wanted = np.where(np.abs(x) < 2.5, 0.2, 0.0) * np.arange(7)
    np.testing.assert_allclose(tape.gradient(loss, variable), wanted, atol=1e-6)


def test_an_lstm_with_hard_sigmoid_by_the_formula():
    report: list[str] = []
    described = sequential(
        entry(
            "LSTM", "l", units=2, batch_input_shape=[None, 3, 2], recurrent_activation="hard_sigmoid", implementation=1
        )
    )
    model = with_values(model_from_config(described, report=report))
    kernel, recurrent, bias = model.get_weights()
    x = RNG.normal(size=(4, 3, 2)).astype("float32")
    h = c = np.zeros((4, 2))
    for t in range(3):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = old_hard_sigmoid(f) * c + old_hard_sigmoid(i) * np.tanh(g)
        h = old_hard_sigmoid(o) * np.tanh(c)
    np.testing.assert_allclose(model.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)
    assert any("clip(0.2 x + 0.5, 0, 1): l." in one for one in report)
    assert '"keras2_hard_sigmoid"' in model.to_json()
    again = model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(again.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("class_name", "version"), [("GRU", "2.0.4"), ("GRU", "1.1.0")])
def test_a_gru_resets_before_the_product(class_name, version):
    name = "output_dim" if version < "2" else "units"
    described = sequential(entry(class_name, "g", batch_input_shape=[None, 3, 2], **{name: 2}), version=version)
    model = with_values(model_from_config(described))
    kernel, recurrent, bias = model.get_weights()
    assert bias.shape == (6,)
    x = RNG.normal(size=(4, 3, 2)).astype("float32")
    h = np.zeros((4, 2))
    for t in range(3):
        gates = x[:, t] @ kernel + bias
        z, r = (1 / (1 + np.exp(-(gates[:, i : i + 2] + h @ recurrent[:, i : i + 2]))) for i in (0, 2))
        h = z * h + (1 - z) * np.tanh(gates[:, 4:] + (r * h) @ recurrent[:, 4:])
    np.testing.assert_allclose(model.predict(x, verbose=0), h, rtol=1e-5, atol=1e-6)


def test_layers_of_cudnn():
    described = sequential(
        entry("CuDNNLSTM", "l", units=2, batch_input_shape=[None, 3, 2], return_sequences=True, unit_forget_bias=True),
        entry("CuDNNGRU", "g", units=2, return_sequences=False, stateful=False),
        version="2.2.4",
    )
    lstm, gru = model_from_config(described).layers
    assert type(lstm) is layers.LSTM and lstm.recurrent_activation is activations.sigmoid
    assert type(gru) is layers.GRU and gru.reset_after is True and gru.recurrent_activation is activations.sigmoid


# ---------------------------------------------------------------- configurations


OLD_CONV = {
    **{"nb_filter": 4, "nb_row": 3, "nb_col": 2, "subsample": [2, 1], "border_mode": "same", "dim_ordering": "tf"},
    **{"bias": False, "init": "he_normal", "activation": "hard_sigmoid", "input_dtype": "float32"},
    "W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.25},
    "b_constraint": {"name": "MaxNorm", "m": 2, "axis": 0},
}


def test_a_model_of_keras_1():
    described = sequential(
        entry("Convolution2D", "c", batch_input_shape=[None, 8, 8, 1], **OLD_CONV),
        entry("BatchNormalization", "b", mode=0, axis=-1, epsilon=0.01, momentum=0.9, beta_init="zero"),
        entry("MaxPooling2D", "m", pool_size=[2, 2], strides=[2, 2], border_mode="valid", dim_ordering="tf"),
        entry("Dropout", "d", p=0.25),
        entry("Flatten", "f"),
        entry("Dense", "e", output_dim=6, init="uniform", activation="linear", input_dim=None),
        entry("RepeatVector", "r", n=3),
        entry("LSTM", "l", output_dim=3, inner_init="orthogonal", inner_activation="hard_sigmoid", dropout_U=0.5,
              forget_bias_init="one", consume_less="cpu", return_sequences=True),
        entry("TimeDistributed", "t", layer=entry("Dense", "i", output_dim=2, W_constraint={"name": "NonNeg"})),
        version="1.2.1",
    )  # fmt: skip
    model = model_from_config(described)
    conv, norm, _, dropout, _, dense, _, lstm, distributed = model.layers
    assert (conv.filters, conv.kernel_size, conv.strides, conv.padding) == (4, (3, 2), (2, 1), "same")
    assert conv.use_bias is False and conv.activation is activations.keras2_hard_sigmoid
    assert conv.kernel_regularizer.l2 == 0.25 and conv.bias_constraint.max_value == 2
    assert conv.kernel_initializer.get_config()["distribution"] == "untruncated_normal"
    assert norm.epsilon == 0.01 and dropout.rate == 0.25
    assert dense.kernel_initializer.get_config()["maxval"] == 0.05
    assert lstm.recurrent_dropout == 0.5 and lstm.recurrent_initializer.gain == 1.1
    assert type(distributed.layer.kernel_constraint) is keras.constraints.NonNeg
    assert model.output_shape == (None, 3, 2)
    assert model.losses and float(model.losses[0]) == pytest.approx(
        0.25 * float(np.square(conv.get_weights()[0]).sum()), rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"mode": "sum"}, lambda a, b: a + b),
        ({"mode": "mul"}, lambda a, b: a * b),
        ({"mode": "ave"}, lambda a, b: (a + b) / 2),
        ({"mode": "max"}, np.maximum),
        ({"mode": "concat", "concat_axis": 1}, lambda a, b: np.concatenate([a, b], 1)),
        ({"mode": "dot", "dot_axes": 1}, lambda a, b: (a * b).sum(1, keepdims=True)),
    ],
)
def test_merges_of_keras_1(settings, wanted):
    nodes = [[["x", 0, 0], ["y", 0, 0]]]
    described = functional(
        [entrance("x", 3), entrance("y", 3), entry("Merge", "m", nodes, **settings)], "xy", [["m", 0, 0]]
    )
    a, b = (RNG.normal(size=(2, 3)).astype("float32") for _ in range(2))
    np.testing.assert_allclose(model_from_config(described).predict([a, b], verbose=0), wanted(a, b), rtol=1e-5)


def test_a_stack_upon_a_merge():
    branches = [
        {"class_name": "Sequential", "config": [entry("Dense", f"d{i}", output_dim=2, batch_input_shape=[None, 3])]}
        for i in range(2)
    ]
    described = sequential(
        entry("Merge", "m", layers=branches, mode="concat", concat_axis=-1),
        entry("Dense", "e", output_dim=1),
        version="1.0.6",
    )
    model = with_values(model_from_config(described))
    first, second, last = (one.get_weights() for one in model.layers if one.weights)
    a, b = (RNG.normal(size=(2, 3)).astype("float32") for _ in range(2))
    joined = np.concatenate([a @ first[0] + first[1], b @ second[0] + second[1]], 1)
    np.testing.assert_allclose(model.predict([a, b], verbose=0), joined @ last[0] + last[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("class_name", "config", "wanted"),
    [
        ("BatchNormalization", {"axis": {"class_name": "__tuple__", "items": [3]}}, {"axis": 3}),
        ("BatchNormalizationV1", {"axis": [3], "fused": True, "renorm": False}, {"axis": 3}),
        ("LeakyReLU", {"alpha": {"type": "ndarray", "value": 0.25}}, {"negative_slope": 0.25}),
        ("ReLU", {"max_value": {"type": "ndarray", "value": 6.0}}, {"max_value": 6.0}),
        ("Dropout", {"rate": 0.5, "noise_shape": None, "seed": None}, {"rate": 0.5}),
        ("ZeroPadding2D", {"padding": [1, 2, 3, 4]}, {"padding": ((1, 2), (3, 4))}),
        (
            "AtrousConvolution2D",
            {"nb_filter": 2, "nb_row": 3, "nb_col": 3, "atrous_rate": [2, 2]},
            {"dilation_rate": (2, 2)},
        ),
        ("Conv2D", {"filters": 2, "kernel_size": 3, "data_format": "channels_last", "groups": 1}, {"groups": 1}),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "groups": 1}, {"filters": 2}),
        ("Embedding", {"input_dim": 5, "output_dim": 3, "init": "uniform", "input_length": 4}, {"output_dim": 3}),
        ("UpSampling1D", {"length": 3}, {"size": 3}),
        (
            "TextVectorization",
            {"output_mode": "tf-idf", "vocabulary_size": 3, "vocabulary": None},
            {"output_mode": "tf_idf"},
        ),
        ("CategoryEncoding", {"max_tokens": 3, "output_mode": "binary"}, {"num_tokens": 3, "output_mode": "multi_hot"}),
        (
            "Bidirectional",
            {"layer": {"class_name": "LSTM", "config": {"units": 2, "time_major": False}}},
            {"merge_mode": "concat"},
        ),
        ("Dense", {"units": 2, "dtype": {"class_name": "Policy", "config": {"name": "mixed_float16"}}}, {"units": 2}),
    ],
)
def test_settings_of_single_layers(class_name, config, wanted):
    layer = layers.deserialize(
        modern_description({"class_name": class_name, "config": {"name": "x", **config}}, "2.3.0")
    )
    assert {name: getattr(layer, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (entry("LSTM", "l", units=2, time_major=True), "'l' has time_major=True, which layers here do not have"),
        (entry("Conv2DTranspose", "c", filters=2, kernel_size=3, groups=2), "groups=2"),
        (entry("BatchNormalization", "b", mode=2), "mode=2"),
        (entry("Highway", "h"), "'h' is a Highway, which was dropped by Keras 2; pass a class of that name"),
        (entry("ModuleWrapper", "w"), "wraps a layer of another Keras"),
        (entry("Merge", "m", mode="lambda"), "has the mode 'lambda', which is code or unknown"),
        (
            entry(
                "Deconvolution2D",
                "d",
                nb_filter=2,
                nb_row=3,
                nb_col=3,
                subsample=[2, 2],
                border_mode="same",
                output_shape=[None, 15, 16, 2],
            ),
            "gives outputs of shape",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(described, words):
    with pytest.raises(ValueError, match=words):
        modern_description(described, "2.3.0")


def test_a_users_class_of_the_name_counts():
    class Highway(layers.Dense):
        pass

    model = model_from_config(
        sequential(entry("Highway", "h", units=2, batch_input_shape=[None, 3])), {"Highway": Highway}
    )
    assert type(model.layers[0]) is Highway


def test_a_users_functional_model_is_wired():
    class Mine(keras.Model):
        pass

    described = functional([entrance("x", 3), entry("Dense", "d", [[["x", 0, 0, {}]]], units=2)], "x", [["d", 0, 0]])
    model = model_from_config({**described, "class_name": "Mine"}, {"Mine": Mine})
    assert type(model) is Mine and model.output_shape == (None, 2)


def test_code_of_a_lambda_is_the_users_to_pass():
    described = sequential(
        entry("Dense", "d", units=2, batch_input_shape=[None, 3]),
        entry("Lambda", "twice", function=["4wEAAAA=", None, None], function_type="lambda", output_shape=None,
              output_shape_type="raw", arguments={}),
    )  # fmt: skip
    with pytest.raises(ValueError, match="twice"):
        model_from_config(described)
    report: list[str] = []
    names = dict.fromkeys(("twice", "twice>function"), lambda x: x * 2)
    model = model_from_config(described, names, report=report)
    x = RNG.normal(size=(2, 3)).astype("float32")
    np.testing.assert_allclose(model(x), 2 * np.asarray(model.layers[0](x)), rtol=1e-6)
    assert any("Code in a file is not run" in one for one in report)


# ---------------------------------------------------------------- functional models


def test_tensors_given_by_name_and_states_of_a_recurrence():
    entries = [
        entrance("x", 3, 2),
        entrance("h", 2),
        entrance("c", 2),
        entry(
            "LSTM",
            "l",
            [[["x", 0, 0, {}], ["h", 0, 0, {}], ["c", 0, 0, {}]]],
            units=2,
            return_state=True,
            implementation=2,
        ),
        entry("Dense", "d", [[["l", 0, 1, {}]]], units=1),
    ]
    described = functional(entries, "xhc", [["d", 0, 0], ["l", 0, 2]])
    model = with_values(model_from_config(described))
    values = [RNG.normal(size=shape).astype("float32") for shape in ((4, 3, 2), (4, 2), (4, 2))]
    lstm, dense = model.get_layer("l"), model.get_layer("d")
    _, h, c = lstm(values[0], initial_state=values[1:])
    found = model.predict(values, verbose=0)
    np.testing.assert_allclose(found[0], dense(h), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], c, rtol=1e-5, atol=1e-6)


def test_a_model_in_a_model_is_counted_from_its_second_call():
    inner = {"name": "in", "layers": [entrance("a", 3), entry("Dense", "d", [[["a", 0, 0, {}]]], units=3)]}
    inner |= {"input_layers": [["a", 0, 0]], "output_layers": [["d", 0, 0]]}
    nodes = [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]]
    wrapped = {"class_name": "Model", "config": inner, "name": "inner", "inbound_nodes": nodes}
    described = functional([entrance("x", 3), wrapped], "x", [["inner", 2, 0], ["inner", 1, 0]])
    model = with_values(model_from_config(described))
    kernel, bias = model.get_weights()
    x = RNG.normal(size=(2, 3)).astype("float32")
    once = x @ kernel + bias
    twice, first = model.predict(x, verbose=0)
    np.testing.assert_allclose(first, once, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(twice, once @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_a_layer_called_for_predicting_stays_so_in_training():
    """As in transfer learning, `base(x, training=False)`; Keras 3 would train it."""
    entries = [
        entrance("x", 3),
        entry("BatchNormalization", "b", [[["x", 0, 0, {"training": False}]]], axis=[1]),
        entry("BatchNormalization", "t", [[["b", 0, 0, {}]]], axis=[1]),
        entry("Dense", "d", [[["t", 0, 0, {"training": None}]]], units=1),
    ]
    model = model_from_config(functional(entries, "x", [["d", 0, 0]]))
    model.compile("sgd", "mse")
    model.fit(RNG.normal(5, 1, (8, 3)), np.ones((8, 1)), verbose=0)
    assert not np.any(model.get_layer("b").moving_mean.numpy()) and np.all(model.get_layer("t").moving_mean.numpy())


def test_what_only_noted_losses_is_left_out():
    entries = [
        entrance("x", 3),
        entry("Dense", "d", [[["x", 0, 0, {}]]], units=2),
        entry("TFOpLambda", "tf.math.square", [["d", 0, 0, {"name": None}]], function="math.square"),
        entry("AddLoss", "add_loss", [["tf.math.square", 0, 0, {}]], unconditional=False),
    ]
    report: list[str] = []
    model = model_from_config(functional(entries, "x", [["d", 0, 0]]), report=report)
    assert [one.name for one in model.layers] == ["x", "d"]
    assert report == ["Left out, as no output needs it: add_loss, tf.math.square."]


def operation(function, node, class_name="TFOpLambda"):
    entries = [entrance("x", 4, 6), entrance("y", 4, 6), entry(class_name, "op", [node], function=function)]
    return model_from_config(functional(entries, "xy", [["op", 0, 0]]))


X = RNG.uniform(0.1, 2, (3, 4, 6)).astype("float32")
Y = RNG.uniform(0.1, 2, (3, 4, 6)).astype("float32")


@pytest.mark.parametrize(
    ("function", "node", "wanted"),
    [
        ("__operators__.add", ["x", 0, 0, {"y": ["y", 0, 0], "name": None}], lambda: X + Y),
        ("math.subtract", ["_CONSTANT_VALUE", -1, 2.0, {"y": ["x", 0, 0], "name": None}], lambda: 2 - X),
        ("math.multiply", ["x", 0, 0, {"y": [1.0, 2, 3, 4, 5, 6]}], lambda: X * np.arange(1, 7)),
        ("math.truediv", ["x", 0, 0, {"y": ["y", 0, 0]}], lambda: X / Y),
        ("math.pow", ["x", 0, 0, {"y": 2}], lambda: X**2),
        ("math.reduce_mean", ["x", 0, 0, {"axis": [1], "keepdims": True}], lambda: X.mean(1, keepdims=True)),
        ("math.reduce_sum", ["x", 0, 0, {"axis": -1}], lambda: X.sum(-1)),
        ("concat", [["x", 0, 0, {"axis": 1}], ["y", 0, 0, {"axis": 1}]], lambda: np.concatenate([X, Y], 1)),
        ("stack", [["x", 0, 0, {}]], lambda: X[None]),
        ("reshape", ["x", 0, 0, {"shape": [-1, 24]}], lambda: X.reshape(-1, 24)),
        ("compat.v1.transpose", ["x", 0, 0, {"perm": [0, 2, 1]}], lambda: X.transpose(0, 2, 1)),
        ("expand_dims", ["x", 0, 0, {"axis": 1}], lambda: X[:, None]),
        ("linalg.matmul", ["x", 0, 0, {"b": ["y", 0, 0], "transpose_b": True}], lambda: X @ Y.transpose(0, 2, 1)),
        ("math.squared_difference", ["x", 0, 0, {"y": ["y", 0, 0]}], lambda: (X - Y) ** 2),
        ("cast", ["x", 0, 0, {"dtype": "float64"}], lambda: X),
        ("nn.softmax", ["x", 0, 0, {}], lambda: np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
        ("math.argmax", ["x", 0, 0, {}], lambda: X.argmax(0)),
        ("clip_by_value", ["x", 0, 0, {"clip_value_min": 0.5, "clip_value_max": 1}], lambda: X.clip(0.5, 1)),
        (
            "compat.v1.pad",
            ["x", 0, 0, {"paddings": [[0, 0], [1, 0], [0, 2]]}],
            lambda: np.pad(X, [(0, 0), (1, 0), (0, 2)]),
        ),
        ("math.l2_normalize", ["x", 0, 0, {"axis": -1}], lambda: X / np.sqrt((X**2).sum(-1, keepdims=True))),
        ("keras.activations.hard_sigmoid", ["x", 0, 0, {}], lambda: old_hard_sigmoid(X)),
        (
            "__operators__.getitem",
            ["x", 0, 0, {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -2}]}],
            lambda: X[..., ::-2],
        ),
        (
            "__operators__.getitem",
            ["x", 0, 0, {"slice_spec": [{"start": 1, "stop": None, "step": None}, 0]}],
            lambda: X[1:, 0],
        ),
    ],
)
def test_functions_of_tensorflow(function, node, wanted):
    np.testing.assert_allclose(operation(function, node)([X, Y]), wanted(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "node", "words"),
    [
        ("random.normal", ["x", 0, 0, {}], "TensorFlow's 'random.normal' .layer 'op'. has no counterpart here"),
        ("gather", ["x", 0, 0, {"indices": [0], "batch_dims": 1}], "has batch_dims=1, which is not known here"),
        ("math.l2_normalize", ["x", 0, 0, {"epsilon": 0.1}], "epsilon=0.1"),
    ],
)
def test_functions_of_tensorflow_that_are_refused(function, node, words):
    with pytest.raises(ValueError, match=words):
        operation(function, node)


@pytest.mark.parametrize(
    ("node_def", "constants", "wanted"),
    [
        ({"op": "Mul", "input": ["x", "mul/y"]}, {"1": 3.0}, lambda: X * 3),
        ({"op": "Sub", "input": ["sub/x", "x"]}, {"0": 1.0}, lambda: 1 - X),
        (
            {"op": "Mean", "attr": {"keep_dims": {"b": True}, "T": {"type": "DT_FLOAT"}}},
            {"1": [1]},
            lambda: X.mean(1, keepdims=True),
        ),
        ({"op": "Cast", "attr": {"DstT": {"type": "DT_INT32"}}}, {}, lambda: X.astype("int32")),
    ],
)
def test_nodes_of_tensorflow(node_def, constants, wanted):
    settings = {"node_def": {"name": "n", **node_def}, "constants": constants}
    entries = [entrance("x", 4, 6), entry("TensorFlowOpLayer", "op", [[["x", 0, 0, {}]]], **settings)]
    model = model_from_config(functional(entries, "x", [["op", 0, 0]]))
    np.testing.assert_allclose(model(X), wanted(), rtol=1e-5)


def by_batch(shape):
    """The sizes of a tensor used to give another its shape."""
    entries = [
        entrance("x", 4, 6),
        entry("Dense", "d", [[["x", 0, 0, {}]]], units=6),
        entry("TFOpLambda", "s", [["d", 0, 0, {"out_type": "int32"}]], function="compat.v1.shape"),
        entry("SlicingOpLambda", "n", [["s", 0, 0, {"slice_spec": 0}]], function="__operators__.getitem"),
        entry("SlicingOpLambda", "l", [["s", 0, 0, {"slice_spec": 1}]], function="__operators__.getitem"),
        entry("TFOpLambda", "r", [["d", 0, 0, {"shape": shape}]], function="reshape"),
    ]
    return model_from_config(functional(entries, "x", [["r", 0, 0]]))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ([["n", 0, 0], -1, 2, 3], (3, 4, 2, 3)),
        ([["n", 0, 0], ["l", 0, 0], 2, 3], (3, 4, 2, 3)),
        ([["n", 0, 0], 24], (3, 24)),
    ],
)
def test_shapes_by_the_size_of_the_batch(shape, wanted):
    assert tuple(by_batch(shape)(X).shape) == wanted


def test_shapes_that_only_a_call_tells_are_refused():
    with pytest.raises(ValueError, match="of which only a call tells more than one size"):
        by_batch([["n", 0, 0], ["l", 0, 0], -1])


# ---------------------------------------------------------------- compiling


def test_how_an_older_model_was_compiled():
    described = {
        "optimizer_config": {
            "class_name": "SGD",
            "config": {"lr": 0.1, "decay": 0.5, "momentum": 0.9, "nesterov": True},
        },
        **{"loss": "mse", "metrics": ["acc"], "sample_weight_mode": None, "loss_weights": None},
    }
    model = model_from_config(sequential(entry("Dense", "d", units=1, batch_input_shape=[None, 3])))
    model.compile_from_config(modern_compile_config(described, "2.1.0"))
    assert isinstance(model.optimizer, keras.optimizers.SGD) and model.optimizer.decay == 0.5
    model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, epochs=2)
    assert model.optimizer.momentum == 0.9 and float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_losses_and_metrics_of_tf_keras():
    described = {
        "optimizer_config": {"class_name": "Custom>Adam", "config": {
            "name": "Adam", "weight_decay": False, "clipnorm": None, "jit_compile": True, "is_legacy_optimizer": False,
            "learning_rate": {"class_name": "ExponentialDecay", "config": {
                "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": False, "name": None}},
        }},
        "loss": {"class_name": "BinaryCrossentropy", "config": {
            "reduction": "auto", "name": "bce", "from_logits": True, "label_smoothing": 0.1, "axis": -1, "fn": "x"}},
        "metrics": [[
            {"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "binary_accuracy"}},
            {"class_name": "AUC", "config": {"name": "auc", "dtype": "float32", "num_thresholds": 50, "curve": "ROC"}},
            {"class_name": "MeanMetricWrapper", "config": {"name": "mse", "fn": "mean_squared_error"}},
        ]],
        "steps_per_execution": None, "run_eagerly": None, "jit_compile": None,
    }  # fmt: skip
    model = model_from_config(sequential(entry("Dense", "d", units=1, batch_input_shape=[None, 3])))
    model.compile_from_config(modern_compile_config(described, "2.11.0"))
    history = model.fit(np.ones((4, 3)), np.array([[0.0], [1], [0], [1]]), verbose=0).history
    assert sorted(history) == ["accuracy", "auc", "loss", "mse"]
    assert isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.ExponentialDecay)
    assert model.loss.get_config()["label_smoothing"] == 0.1


@pytest.mark.parametrize(
    ("class_name", "config", "version", "wanted", "words"),
    [
        ("SGD", {"lr": 0.1, "clipnorm": 2.0}, "2.2.4", {"global_clipnorm": 2.0}, "clipnorm is that of all gradients"),
        ("SGD", {"lr": 0.1, "clipnorm": 2.0}, "2.2.4-tf", {"clipnorm": 2.0}, None),
        ("SGD", {"lr": 0.1, "clipnorm": 2.0}, "2.15.0", {"clipnorm": 2.0}, None),
        ("Adagrad", {"lr": 0.1}, "2.3.1", {"initial_accumulator_value": 0.0}, "divides by sqrt"),
        ("RMSprop", {"lr": 0.1, "epsilon": None}, "2.0.8", {"learning_rate": 0.1}, "divides by sqrt"),
        ("Nadam", {"lr": 0.1, "schedule_decay": 0.004}, "2.1.0", {"learning_rate": 0.1}, "0.96"),
    ],
)
def test_optimizers_whose_meaning_changed(class_name, config, version, wanted, words):
    report: list[str] = []
    described = {"optimizer_config": {"class_name": class_name, "config": config}}
    found = modern_compile_config(described, version, report)["optimizer"]
    assert found["config"].items() >= wanted.items() and "schedule_decay" not in found["config"]
    assert isinstance(keras.optimizers.deserialize(found), getattr(keras.optimizers, class_name))
    assert any(words in one for one in report) if words else not report


def test_damaged_descriptions_are_refused_in_a_sentence():
    good = functional([entrance("x", 3), entry("Dense", "d", [[["x", 0, 0, {}]]], units=2)], "x", [["d", 0, 0]])
    for damage in (
        lambda c: c["config"].update(layers=[3]),
        lambda c: c["config"]["layers"][1].update(inbound_nodes=3),
        lambda c: c["config"]["layers"][1].update(inbound_nodes=[["x", 0]]),
        lambda c: c["config"]["layers"][1].update(inbound_nodes=[[["d", 0, 0, {}]]]),
        lambda c: c["config"]["layers"][1].update(class_name=None),
        lambda c: c["config"].update(output_layers=[["z", 0, 0]]),
        lambda c: c["config"]["layers"][1].update(class_name="TFOpLambda"),
    ):
        described = json.loads(json.dumps(good))
        damage(described)
        with pytest.raises(ValueError):
            model_from_config(described)
