"""Gradients of whole models: the total loss at every trainable variable and every float input, in float64.

Hypothesis chooses the architecture; the loss includes what regularizers, activity regularizers and `add_loss` add.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minikeras as keras
from minikeras import layers, ops, tree
from minikeras.autodiff import check_gradients

batches = st.sampled_from([1, 2, 3, 5])
sizes = st.integers(1, 4)
activations = st.sampled_from([None, "relu", "tanh", "sigmoid", "elu", "selu", "gelu", "softplus", "silu", "softmax"])
penalties = st.sampled_from([None, "l2", "l1"])
paddings = st.sampled_from(["valid", "same"])
# a loss, the activation that goes before it, and what its targets are
heads = st.sampled_from(
    [
        ("mean_squared_error", None, "numbers"),
        ("huber", None, "numbers"),
        ("categorical_crossentropy", "softmax", "weights"),
        (keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, dtype="float64"), None, "weights"),
        ("sparse_categorical_crossentropy", "softmax", "labels"),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64"), None, "labels"),
        ("binary_crossentropy", "sigmoid", "weights"),
        ("kl_divergence", "softmax", "weights"),
        ("poisson", "softplus", "weights"),
    ]
)


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def targets(kind: str, outputs: Any) -> Any:
    rng = np.random.default_rng(3)
    if kind == "labels":
        return rng.integers(0, outputs.shape[-1], outputs.shape[:-1])
    if kind == "numbers":
        return rng.normal(size=outputs.shape)
    weights = rng.uniform(0.1, 1, outputs.shape)
    return weights / weights.sum(-1, keepdims=True)


def check(model: Any, inputs: Any, loss: Any, kinds: Any = "numbers", weighted: bool = False, **compiled: Any) -> None:
    """`inputs`: an array or a list of them; `kinds`: of the targets of each output."""
    arrays = inputs if isinstance(inputs, list) else [inputs]

    def call(values: Any) -> Any:
        return model(list(values) if isinstance(inputs, list) else values[0], training=True)

    outputs = tree.flatten(call(arrays))
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.1, 1, w.shape) * rng.choice([-1, 1], w.shape) for w in model.get_weights()])
    y = [targets(kind, out) for kind, out in zip(tree.flatten(kinds), outputs, strict=True)]
    sample_weight = [rng.uniform(0, 2, len(one)) for one in y] if weighted else [None] * len(y)
    y, sample_weight = (y, sample_weight) if len(y) > 1 else (y[0], sample_weight[0])
    model.compile(loss=loss, **compiled)

    def total(*values: Any) -> Any:
        return model.compute_loss(y=y, y_pred=call(values), sample_weight=sample_weight)

    assert all(str(v.dtype) == "float64" for v in model.trainable_variables)
    check_gradients(total, *arrays, variables=model.trainable_variables, directions=2, rtol=1e-4, atol=1e-6)


@given(data=st.data(), n=batches, features=sizes, units=st.lists(sizes, max_size=3), head=heads, weighted=st.booleans())
@settings(max_examples=40)
def test_dense(data: Any, n: int, features: int, units: list, head: tuple, weighted: bool) -> None:
    model = keras.Sequential([keras.Input((features,))])
    for width in units:
        arguments = {f"{part}_regularizer": data.draw(penalties, label=part) for part in ("kernel", "bias", "activity")}
        model.add(layers.Dense(width, data.draw(activations), use_bias=data.draw(st.booleans()), **arguments))
        more = data.draw(
            st.sampled_from(
                [
                    None,
                    layers.BatchNormalization,
                    layers.LayerNormalization,
                    layers.PReLU,
                    lambda: layers.ActivityRegularization(l1=0.1, l2=0.2),
                ]
            )
        )
        if more is not None:
            model.add(more())
    loss, activation, kind = head
    model.add(layers.Dense(3, activation))
    check(model, numbers(n, features), loss, kind, weighted)


def _pictures(data_format: str, n: int, *spatial: int, channels: int) -> Any:
    return numbers(*((n, *spatial, channels) if data_format == "channels_last" else (n, channels, *spatial)))


@given(
    data=st.data(),
    n=batches,
    rank=st.integers(1, 2),
    data_format=st.sampled_from(["channels_last", "channels_first"]),
    depth=st.integers(1, 2),
    head=heads,
)
@settings(max_examples=25)
def test_convolutional(data: Any, n: int, rank: int, data_format: str, depth: int, head: tuple) -> None:
    """Convolutions, dense and depthwise, with batch normalisation in training mode, pooling and an end of each kind."""
    x = _pictures(data_format, n, *(9, 8)[:rank], channels=2)
    axis = -1 if data_format == "channels_last" else 1
    geometry = {"padding": "same", "data_format": data_format}
    model = keras.Sequential([keras.Input(x.shape[1:])])
    for _ in range(depth):
        if data.draw(st.booleans(), label="depthwise"):
            make = getattr(layers, f"DepthwiseConv{rank}D")
            model.add(make(data.draw(st.integers(1, 3)), depth_multiplier=data.draw(st.integers(1, 2)), **geometry))
        else:
            strides = data.draw(st.integers(1, 2), label="strides")
            groups = data.draw(st.integers(1, 2), label="groups")
            conv = getattr(layers, f"Conv{rank}D")(
                2 * data.draw(st.integers(1, 2)),
                data.draw(st.integers(1, 3)),
                strides=strides,
                dilation_rate=1 if strides > 1 else data.draw(st.integers(1, 2)),
                groups=groups,
                activation=data.draw(activations.filter(lambda name: name != "softmax")),
                kernel_regularizer=data.draw(penalties),
                activity_regularizer=data.draw(penalties),
                **geometry,
            )
            model.add(conv)
        if data.draw(st.booleans(), label="normalised"):
            model.add(layers.BatchNormalization(axis=axis, center=data.draw(st.booleans()), epsilon=0.1))
        pool = data.draw(st.sampled_from([None, "Max", "Average"]))
        if pool is not None:
            padding = data.draw(paddings)
            model.add(getattr(layers, f"{pool}Pooling{rank}D")(2, 1, padding=padding, data_format=data_format))
    end = data.draw(st.sampled_from(["Flatten", f"GlobalAveragePooling{rank}D", f"GlobalMaxPooling{rank}D"]))
    model.add(getattr(layers, end)(data_format=data_format))
    loss, activation, kind = head
    model.add(layers.Dense(3, activation))
    check(model, x, loss, kind)


@given(data=st.data(), n=batches, steps=st.integers(1, 5), depth=st.integers(1, 2), head=heads)
@settings(max_examples=40)
def test_recurrent(data: Any, n: int, steps: int, depth: int, head: tuple) -> None:
    """Recurrent layers on embedded tokens; the token 0 is masked, in a sample perhaps every step of it."""
    tokens = np.random.default_rng(n * 7 + steps).integers(0, 4, (n, steps))
    model = keras.Sequential([keras.Input((steps,), dtype="int32")])
    model.add(layers.Embedding(4, 3, mask_zero=data.draw(st.booleans(), label="masked"), embeddings_regularizer="l2"))
    for number in range(depth):
        last = number == depth - 1
        kind = data.draw(st.sampled_from(["LSTM", "GRU", "SimpleRNN"]))
        arguments: dict[str, Any] = {
            "return_sequences": not last or data.draw(st.booleans(), label="sequences"),
            "go_backwards": data.draw(st.booleans(), label="backwards"),
            "activation": data.draw(st.sampled_from(["tanh", "softsign", "elu", "gelu"])),
            "use_bias": data.draw(st.booleans(), label="bias"),
            "recurrent_regularizer": data.draw(penalties),
            "activity_regularizer": data.draw(penalties),
        }
        if kind == "GRU":
            arguments["reset_after"] = data.draw(st.booleans(), label="reset_after")
        layer = getattr(layers, kind)(data.draw(st.integers(1, 3)), **arguments)
        merge = data.draw(st.sampled_from([None, "concat", "sum", "ave"]))
        model.add(layer if merge is None else layers.Bidirectional(layer, merge_mode=merge))
    loss, activation, kind = head
    model.add(layers.Dense(3, activation))
    check(model, tokens, loss, kind)


@given(
    n=batches,
    features=sizes,
    merge=st.sampled_from(["Add", "Multiply", "Average", "Maximum", "Subtract", "Concatenate"]),
    activation=activations,
    first=heads,
    second=heads,
    weighted=st.booleans(),
)
@settings(max_examples=25)
def test_shared_layers_several_inputs_and_outputs(
    n: int, features: int, merge: str, activation: Any, first: tuple, second: tuple, weighted: bool
) -> None:
    """A layer used twice, a nested model used twice, a residual connection, operations, and a loss for each output."""
    a, b = keras.Input((features,), name="a"), keras.Input((features,), name="b")
    shared = layers.Dense(3, activation, kernel_regularizer="l2", activity_regularizer="l1", name="shared")
    inner_input = keras.Input((3,))
    inner = keras.Model(
        inner_input, inner_input + layers.Dense(3, "tanh", bias_regularizer="l2")(inner_input), name="in"
    )
    left, right = inner(shared(a)), inner(ops.sin(shared(b)) * 2.0)
    merged = getattr(layers, merge)()([left, right])
    outputs = [layers.Dense(3, first[1], name="first")(merged), layers.Dense(2, second[1], name="second")(left)]
    model = keras.Model([a, b], outputs)
    check(
        model,
        [numbers(n, features), numbers(n, features, seed=1)],
        [first[0], second[0]],
        [first[2], second[2]],
        weighted,
        loss_weights=[0.5, 2.0],
    )


class Looping(keras.Model):
    """Python control flow, one layer used many times, a weight of its own and `add_loss`."""

    def __init__(self, depth: int, stop: bool):
        super().__init__()
        self.depth, self.stop = depth, stop
        self.first = layers.Dense(3, "tanh")
        self.again = layers.Dense(3, "sigmoid", kernel_regularizer="l2")
        self.scale = self.add_weight((3,), initializer="ones", name="scale")
        self.heads = [layers.Dense(2), layers.Dense(2)]

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.first(inputs)
        for step in range(self.depth):
            x = x + self.again(x) * self.scale
            if self.stop and step == 1:
                break
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return ops.concatenate([head(x) for head in self.heads], axis=-1)


@given(n=batches, features=sizes, depth=st.integers(0, 4), stop=st.booleans(), head=heads)
@settings(max_examples=20)
def test_subclassed_with_a_loop(n: int, features: int, depth: int, stop: bool, head: tuple) -> None:
    loss, activation, kind = head
    model = Looping(depth, stop)
    model.heads[1].activation = keras.activations.get("tanh")
    outer = keras.Sequential([model, layers.Dense(3, activation)])
    check(outer, numbers(n, features), loss, kind)
