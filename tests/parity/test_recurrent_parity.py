"""Recurrent layers against real Keras: configuration, weights, outputs, states, gradients, masks."""

from __future__ import annotations

import inspect
import json

import jax
import keras
import numpy as np
import pytest
from signatures import by_position

from minikeras import layers, tree
from minikeras.autodiff import Tensor, backward, recording

N, T, D, U = 3, 5, 2, 4
SEQUENCE = {"return_sequences": True, "return_state": True}
CASES = [
    (name, arguments)
    for name in ("SimpleRNN", "LSTM", "GRU")
    for arguments in (
        {},
        {"return_sequences": True},
        {"return_state": True, "go_backwards": True},
        {**SEQUENCE, "go_backwards": True},
        {**SEQUENCE, "zero_output_for_mask": True},
        {"zero_output_for_mask": True, "use_bias": False},
        {**SEQUENCE, "activation": "relu", "kernel_regularizer": "l2", "bias_constraint": "max_norm"},
        {"activation": "linear", "recurrent_initializer": "glorot_uniform"},
        {**SEQUENCE, "activation": "gelu", "dropout": 0.2, "recurrent_dropout": 0.3},
        {"unroll": True, "return_sequences": True},
    )
]
CASES += [
    (name, {**SEQUENCE, "recurrent_activation": act}) for name in ("LSTM", "GRU") for act in ("hard_sigmoid", "silu")
]
CASES += [("LSTM", {"unit_forget_bias": False, "use_cudnn": False})]
# Keras's SimpleRNN forgets its activity_regularizer
CASES += [(name, {**settings, "activity_regularizer": "l2"}) for name in ("LSTM", "GRU") for settings in ({}, SEQUENCE)]
CASES += [
    ("GRU", {"reset_after": False, **more}) for more in ({}, SEQUENCE, {"use_bias": False}, {"activation": "mish"})
]


def numbers(case):
    return f"{case[0]}-{'-'.join(f'{k}={v}' for k, v in case[1].items())}"


def modules():
    return layers, keras.layers


def pair(make):
    """(ours, theirs) with equal random weights; `make(module)` makes the layer."""
    ours, theirs = (make(module) for module in modules())
    for layer in (ours, theirs):
        layer.build((N, T, D))
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(w.shape).astype("float32") for w in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def as_json(config):
    """The configuration as a file has it, numbers as precise as float32, in which Keras keeps some."""
    return json.loads(json.dumps(config), parse_float=lambda digits: float(f"{float(digits):.6g}"))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-5, atol=3e-6)


def compare(ours, theirs, x, states, mask):
    """Outputs, and gradients at inputs, initial states and weights."""

    def call(trainable, x, states):
        settings = {"initial_state": states} if states else {}
        others = [v.value for v in theirs.non_trainable_variables]
        return theirs.stateless_call(trainable, others, x, mask=mask, **settings)[0]

    expected, pull = jax.vjp(call, [v.value for v in theirs.trainable_variables], x, states)
    rng = np.random.default_rng(2)
    seeds = [rng.standard_normal(one.shape).astype("float32") for one in jax.tree_util.tree_leaves(expected)]
    expected_gradients = jax.tree_util.tree_leaves(
        pull(jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(expected), seeds))
    )

    inputs = Tensor(x, tracked=True)
    starts = tree.map_structure(lambda state: Tensor(state, tracked=True), states)
    with recording():
        outputs = ours(inputs, initial_state=starts or None, mask=mask)
    assert isinstance(outputs, tuple) == isinstance(expected, tuple)
    flat = tree.flatten(outputs)
    sources = [*ours.trainable_variables, inputs, *tree.flatten(starts)]
    totals = [np.zeros(source.shape, "float32") for source in sources]
    for output, seed, wanted in zip(flat, seeds, jax.tree_util.tree_leaves(expected), strict=True):
        close(output, wanted)
        for total, gradient in zip(totals, backward(output, sources, seed), strict=True):
            if gradient is not None:
                total += gradient
    for total, wanted in zip(totals, expected_gradients, strict=True):
        np.testing.assert_allclose(total, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=numbers)
def test_configuration_weights_and_shapes(case):
    name, arguments = case
    ours, theirs = pair(lambda module: getattr(module, name)(U, name="layer", **arguments))
    assert as_json(ours.get_config()) == as_json(theirs.get_config())
    assert list(ours.get_config()) == list(theirs.get_config())
    assert as_json(ours.get_build_config()) == as_json(theirs.get_build_config())
    assert [(w.path, tuple(w.shape), w.trainable) for w in ours.weights] == [
        (w.path, tuple(w.shape), w.trainable) for w in theirs.weights
    ]
    for shape in ((N, T, D), (None, T, D), (None, None, D)):
        assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)
    assert ours.supports_masking == theirs.supports_masking
    assert ours.state_size == theirs.state_size
    restored = type(ours).from_config(as_json(theirs.get_config()))
    assert as_json(restored.get_config()) == as_json(ours.get_config())
    for attribute in ("units", "dropout", "recurrent_dropout", "use_bias"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize(
    "name",
    ["SimpleRNN", "LSTM", "GRU", "SimpleRNNCell", "LSTMCell", "GRUCell", "RNN", "StackedRNNCells", "Bidirectional"],
)
def test_constructor_arguments(name):
    ours, theirs = (by_position(getattr(module, name)) for module in modules())
    assert ours == theirs
    ours, theirs = (inspect.signature(getattr(module, name).call).parameters for module in modules())
    if not name.endswith(("Cell", "Cells")):
        assert list(ours) == list(theirs)


@pytest.mark.parametrize("start", [False, True], ids=["zeros", "initial_state"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("case", CASES, ids=numbers)
def test_outputs_and_gradients(case, masked, start):
    name, arguments = case
    ours, theirs = pair(lambda module: getattr(module, name)(U, **arguments))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, D)).astype("float32")
    states = [rng.standard_normal((N, U)).astype("float32") for _ in theirs.state_size] if start else []
    mask = None
    if masked:
        mask = rng.random((N, T)) < 0.6
        mask[0] = start  # a row without a step
        if start:  # before the first step that counts Keras's backends differ
            mask[:, -1 if ours.go_backwards else 0] = True
    if arguments.get("recurrent_activation") == "silu":  # gates without a bound: 1e17 would show roundings alone
        weights = [0.4 * weight for weight in ours.get_weights()]
        ours.set_weights(weights)
        theirs.set_weights(weights)
    compare(ours, theirs, x, states, mask)
    for one in (ours, theirs):
        one(x)
    close(sum(float(loss) for loss in ours.losses), sum(float(loss) for loss in theirs.losses))


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_mask_of_an_embedding(name):
    tokens = np.array([[1, 2, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])

    def make(module):
        embed = module.Embedding(6, D, mask_zero=True)
        return embed, getattr(module, name)(U, **SEQUENCE), getattr(module, name)(U)

    built = [make(module) for module in modules()]
    weights = np.random.default_rng(0)
    for ours, theirs in zip(*built, strict=True):
        shape = (3, 4) if "embedding" in ours.name else (3, 4, D if ours.return_sequences else U)
        for layer in (ours, theirs):
            layer.build(shape)
        values = [weights.standard_normal(w.shape).astype("float32") for w in theirs.weights]
        ours.set_weights(values)
        theirs.set_weights(values)
    results = []
    for embed, first, second in built:
        outputs, *states = first(embed(tokens))
        results.append([outputs, *states, second(outputs)])
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs)
        mask = getattr(theirs, "_keras_mask", None)
        assert (ours._keras_mask is None) == (mask is None)
        assert mask is None or np.array_equal(ours._keras_mask, mask)


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_stateful(name):
    ours, theirs = pair(lambda module: getattr(module, name)(U, stateful=True, return_sequences=True, name="rnn"))
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype("float32")
    for _ in range(2):
        close(ours(x), theirs(x))
    for one, other in zip(ours.states, theirs.states, strict=True):
        close(one, other)
    ours.reset_state()
    theirs.reset_state()
    close(ours(x[:, :2]), theirs(x[:, :2]))
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_functional_encoder_and_decoder(name):
    def shapes(module):
        source, target = module.Input((None, D)), module.Input((None, D))
        _, *states = getattr(module, name)(U, return_state=True)(source)
        outputs = getattr(module, name)(U, **SEQUENCE)(target, initial_state=states)
        return [tuple(one.shape) for one in outputs]

    assert shapes(layers) == shapes(keras.layers)


@pytest.mark.parametrize("name", ["SimpleRNNCell", "LSTMCell", "GRUCell"])
def test_cells(name):
    def make(module):
        return getattr(module, name)(U, name="cell", seed=1, recurrent_regularizer="l1")

    ours, theirs = (make(module) for module in modules())
    for layer in (ours, theirs):
        layer.build((N, D))
    ours.set_weights(theirs.get_weights())
    assert as_json(ours.get_config()) == as_json(theirs.get_config())
    assert list(ours.get_config()) == list(theirs.get_config())
    assert (ours.state_size, ours.output_size) == (theirs.state_size, theirs.output_size)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)).astype("float32")
    states = [rng.standard_normal((N, U)).astype("float32") for _ in range(2 if name == "LSTMCell" else 1)]
    (output, after), (wanted, wanted_after) = ours(x, states), theirs(x, states)
    close(output, wanted)
    for one, other in zip(after, wanted_after, strict=True):
        close(one, other)
    if len(states) == 1:
        close(ours(x, states[0])[1], theirs(x, states[0])[1])


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("settings", [{}, SEQUENCE, {**SEQUENCE, "go_backwards": True}], ids=str)
@pytest.mark.parametrize("stacked", [False, True], ids=["cell", "stack"])
def test_loop_over_a_cell(stacked, settings, masked):
    def make(module):
        cell = module.LSTMCell(U, name="a")
        if stacked:
            cell = module.StackedRNNCells([cell, module.GRUCell(3, name="b")], name="stack")
        return module.RNN(cell, name="layer", **settings)

    ours, theirs = pair(make)
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype("float32")
    mask = np.random.default_rng(1).random((N, T)) < 0.6 if masked else None
    for one, other in zip(
        tree.flatten(ours(x, mask=mask)), jax.tree_util.tree_leaves(theirs(x, mask=mask)), strict=True
    ):
        close(one, other)
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert as_json(without_build(ours.get_config())) == as_json(without_build(theirs.get_config()))
    assert ours.compute_output_shape((N, T, D)) == theirs.compute_output_shape((N, T, D))


STACKS = {
    "list": lambda module: [module.GRUCell(3), module.LSTMCell(U), module.SimpleRNNCell(2)],
    "one": lambda module: [module.GRUCell(3, reset_after=False)],
    "nested": lambda module: [module.StackedRNNCells([module.LSTMCell(2), module.GRUCell(3)]), module.LSTMCell(U)],
}


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("start", [False, True], ids=["zeros", "initial_state"])
@pytest.mark.parametrize(
    "settings",
    [{}, SEQUENCE, {"go_backwards": True, "unroll": True}, {**SEQUENCE, "go_backwards": True}, {"return_state": True}],
    ids=str,
)
@pytest.mark.parametrize("cells", STACKS)
def test_outputs_and_gradients_of_stacks(cells, settings, start, masked):
    if cells == "one":  # Keras's scan over time does not take a list of one cell on JAX
        settings = {**settings, "unroll": True}
    ours, theirs = pair(lambda module: module.RNN(STACKS[cells](module), **settings))
    assert ours.cell.runs_sequences()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, D)).astype("float32")
    mask = None
    if masked:
        mask = rng.random((N, T)) < 0.6
        mask[:, -1 if ours.go_backwards else 0] = True
    states = []
    if start:
        states = tree.map_structure(
            lambda state: rng.standard_normal(state.shape).astype("float32"), ours.get_initial_state(N)
        )
    compare(ours, theirs, x, states, mask)


def without_build(config):
    if isinstance(config, dict):
        return {key: without_build(value) for key, value in config.items() if key != "build_config"}
    return [without_build(value) for value in config] if isinstance(config, list) else config


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("settings", [{}, {"return_sequences": True}, {"return_state": True}, SEQUENCE], ids=str)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(mode, settings, masked):
    ours, theirs = pair(
        lambda module: module.Bidirectional(module.LSTM(U, name="lstm", **settings), merge_mode=mode, name="both")
    )
    assert as_json(without_build(ours.get_config())) == as_json(without_build(theirs.get_config()))
    assert list(ours.get_config()) == list(theirs.get_config())
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert ours.compute_output_shape((None, T, D)) == theirs.compute_output_shape((None, T, D))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, D)).astype("float32")
    mask = rng.random((N, T)) < 0.6 if masked else None
    compare(ours, theirs, x, [], mask)
    if not masked:
        compare(ours, theirs, x, [rng.standard_normal((N, U)).astype("float32") for _ in range(4)], None)


def test_bidirectional_with_a_backward_layer_and_its_configuration():
    def make(module):
        return module.Bidirectional(
            module.LSTM(U, name="one"), backward_layer=module.GRU(U, name="two", go_backwards=True), name="both"
        )

    ours, theirs = pair(make)
    assert as_json(without_build(ours.get_config())) == as_json(without_build(theirs.get_config()))
    restored = layers.Bidirectional.from_config(as_json(theirs.get_config()))
    assert as_json(without_build(restored.get_config())) == as_json(without_build(ours.get_config()))
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype("float32")
    close(ours(x), theirs(x))


def test_time_distributed():
    ours, theirs = pair(lambda module: module.TimeDistributed(module.Dense(U, name="dense"), name="each"))
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype("float32")
    close(ours(x), theirs(x))
    assert as_json(without_build(ours.get_config())) == as_json(without_build(theirs.get_config()))
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    for shape in ((N, T, D), (None, None, D)):
        assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("SimpleRNN", {}), ("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False})],
    ids=["SimpleRNN", "LSTM", "GRU", "GRU reset first"],
)
def test_dropout_by_the_same_masks(name, arguments, recurrent_dropout):
    """Given Keras's masks, the whole sequence is Keras's cell step by step: masks of the same shapes, used alike."""
    settings = {**arguments, "dropout": 0.4, "recurrent_dropout": recurrent_dropout, "seed": 1}
    ours, theirs = pair(lambda module: getattr(module, name)(U, return_sequences=True, **settings))
    x = np.random.default_rng(0).standard_normal((N, T, D)).astype("float32")
    states, expected = theirs.cell.get_initial_state(N), []
    for s in range(T):
        output, states = theirs.cell(x[:, s], states, training=True)
        expected.append(np.asarray(output))
    drawn = {
        "dropout": theirs.cell._dropout_mask,
        "recurrent_dropout": getattr(theirs.cell, "_recurrent_dropout_mask", None),
    }
    cell = ours.cell
    ours(x, training=True)
    assert set(cell._masks) == {key for key, mask in drawn.items() if mask is not None}
    for key, mask in cell._masks.items():
        wanted = np.asarray(drawn[key])
        assert mask.shape == wanted.shape
        cell._masks[key] = wanted
    initial = [np.asarray(state) for state in cell.get_initial_state(N)]
    outputs, _ = cell.run_sequence(Tensor(x), [Tensor(state) for state in initial], True)
    close(outputs, np.stack(expected, axis=1))
