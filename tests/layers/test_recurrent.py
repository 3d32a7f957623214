"""Recurrent layers against loops over time in NumPy, their gradients, states, masks, dropout and descriptions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import activations, layers, ops, seeds, tree
from minikeras import kernels as k
from minikeras.autodiff import GradientTape, recording
from minikeras.autodiff.check import check_gradients

CLASSES = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}
KINDS = ("SimpleRNN", "LSTM", "GRU", "GRU reset first")
rng = np.random.default_rng(5)


def make(kind: str, units: int = 3, **settings):
    name, _, first = kind.partition(" ")
    if first:
        settings["reset_after"] = False
    return CLASSES[name](units, **{"dtype": "float64", "bias_initializer": "normal", **settings})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(kind: str, weights: list, x, states):
    """One time step in NumPy: the new states."""
    kernel, recurrent, bias = weights
    h = states[0]
    if kind == "SimpleRNN":
        return [np.tanh(x @ kernel + h @ recurrent + bias)]
    if kind == "LSTM":
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]
    if kind == "GRU":
        x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=1)
        h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3, axis=1)
        candidate = np.tanh(x_h + sigmoid(x_r + h_r) * h_h)
    else:
        x_z, x_r, x_h = np.split(x @ kernel + bias, 3, axis=1)
        r_z, r_r, r_h = np.split(recurrent, 3, axis=1)
        h_z = h @ r_z
        candidate = np.tanh(x_h + (sigmoid(x_r + h @ r_r) * h) @ r_h)
    z = sigmoid(x_z + h_z)
    return [z * h + (1 - z) * candidate]


def loop(kind, weights, x, states, mask=None, zero_output=False, backwards=False):
    """(outputs (n, t, u), last states), row by row and step by step."""
    n, t, _ = x.shape
    states = [state.copy() for state in states]
    outputs = np.zeros((n, t, states[0].shape[1]))
    for row in range(n):
        shown = np.zeros(states[0].shape[1])
        for place, s in enumerate(range(t)[:: -1 if backwards else 1]):
            if mask is None or mask[row, s]:
                new = step(kind, weights, x[row : row + 1, s], [state[row : row + 1] for state in states])
                for state, one in zip(states, new, strict=True):
                    state[row] = one[0]
                shown = outputs[row, place] = states[0][row]
            elif not zero_output:
                outputs[row, place] = shown
    return outputs, states


@st.composite
def cases(draw):
    n, t = draw(st.integers(0, 3)), draw(st.integers(1, 5))
    kind = draw(st.sampled_from(KINDS))
    seed = np.random.default_rng(draw(st.integers(0, 99)))
    x = seed.standard_normal((n, t, 2))
    count = 2 if kind == "LSTM" else 1
    initial = [seed.standard_normal((n, 3)) for _ in range(count)] if draw(st.booleans()) else None
    mask = seed.random((n, t)) < 0.6 if draw(st.booleans()) else None
    flags = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask")
    return kind, x, initial, mask, {flag: draw(st.booleans()) for flag in flags}


@given(cases())
def test_equals_a_loop_over_time(case):
    kind, x, initial, mask, flags = case
    layer = make(kind, **flags)
    results = layer(x, initial_state=initial, mask=mask)
    start = initial or [np.zeros((len(x), 3))] * len(layer.get_initial_state(1))
    outputs, states = loop(
        kind, layer.get_weights(), x, start, mask, flags["zero_output_for_mask"], flags["go_backwards"]
    )
    wanted = [outputs if flags["return_sequences"] else outputs[:, -1]]
    if flags["return_state"]:
        assert isinstance(results, tuple)
        wanted += states
    else:
        results = (results,)
    for result, one in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result.numpy(), one, rtol=1e-11, atol=1e-12)
        assert result.dtype == "float64"


@given(cases())
def test_gradients(case):
    kind, x, initial, mask, flags = case
    layer = make(kind, **flags)
    layer.build(x.shape)
    check_gradients(
        lambda x, *states: layer(x, initial_state=list(states) or None, mask=mask),
        x,
        *(initial or []),
        variables=layer.trainable_weights,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_is_the_same(kind):
    """A subclass of the cell, which must not take the fast way, gives the same outputs and gradients."""
    layer = make(kind, return_sequences=True, return_state=True, zero_output_for_mask=True)
    x, mask = rng.standard_normal((4, 5, 2)), rng.random((4, 5)) < 0.6
    layer.build(x.shape)

    class Slow(type(layer.cell)):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    flags = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}
    slow = layers.RNN(Slow.from_config(layer.cell.get_config()), dtype="float64", **flags)
    slow.build(x.shape)
    slow.set_weights(layer.get_weights())
    assert layer.cell.runs_sequences() and not slow.cell.runs_sequences()
    results = []
    for one in (layer, slow):
        with GradientTape() as tape:
            values = one(x, mask=mask)
            loss = sum(ops.sum(ops.square(value)) for value in values)
        results.append([*values, *tape.gradient(loss, one.trainable_weights)])
    for fast, stepped in zip(*results, strict=True):
        np.testing.assert_allclose(fast.numpy(), stepped.numpy(), rtol=1e-10, atol=1e-12)


CELLS = {
    "simple": lambda **arguments: layers.SimpleRNNCell(2, dtype="float64", **arguments),
    "lstm": lambda **arguments: layers.LSTMCell(3, dtype="float64", **arguments),
    "gru": lambda **arguments: layers.GRUCell(4, dtype="float64", **arguments),
}


class SteppedCells(layers.StackedRNNCells):
    """A stack that is not known to run over all time steps at once."""

    def call(self, inputs, states):
        return super().call(inputs, states)


@st.composite
def stacks(draw):
    names = draw(st.lists(st.sampled_from([*CELLS, "nested"]), min_size=1, max_size=3))
    dropout = {"dropout": draw(st.sampled_from([0.0, 0.4])), "recurrent_dropout": draw(st.sampled_from([0.0, 0.3]))}
    flags = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "unroll")
    _, _, _, mask, _ = draw(cases())
    n, t = (draw(st.integers(1, 3)), draw(st.integers(1, 4))) if mask is None else mask.shape
    return names, dropout, n, t, mask, draw(st.booleans()), {flag: draw(st.booleans()) for flag in flags}


def a_stack(cls, names, dropout):
    def cell(name, seed):
        if name == "nested":
            return cls([cell("lstm", seed), cell("simple", seed + 1)], dtype="float64")
        return CELLS[name](bias_initializer="normal", seed=seed, **dropout)

    return cls([cell(name, 2 * seed) for seed, name in enumerate(names)], dtype="float64")


@given(stacks(), st.booleans())
def test_stacked_cells_are_layers_one_after_the_other(case, training):
    names, dropout, n, t, mask, begins, flags = case
    seed = np.random.default_rng(2)
    x = seed.standard_normal((n, t, 2))
    found = []
    fast = layers.RNN(a_stack(layers.StackedRNNCells, names, dropout), dtype="float64", **flags)
    fast.build(x.shape)
    initial = None
    if begins:
        initial = tree.map_structure(lambda one: seed.standard_normal(one.shape), fast.get_initial_state(n))
    for cls in (layers.StackedRNNCells, SteppedCells):
        layer = layers.RNN(a_stack(cls, names, dropout), dtype="float64", **flags)
        layer.build(x.shape)
        layer.set_weights(fast.get_weights())
        assert layer.cell.runs_sequences() is (cls is layers.StackedRNNCells)
        with GradientTape() as tape:
            inputs = ops.convert_to_tensor(x)
            tape.watch(inputs)
            results = layer(inputs, initial_state=initial, mask=mask, training=training)
            loss = sum(ops.sum(ops.sin(value)) for value in tree.flatten(results))
        found.append((results, tape.gradient(loss, [inputs, *layer.trainable_weights])))
    tree.assert_same_structure(found[0], found[1])
    for one, other in zip(tree.flatten(found[0]), tree.flatten(found[1]), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-11)


def test_what_keeps_stacked_cells_from_running_at_once():
    def runs(*cells):
        return layers.StackedRNNCells(cells).runs_sequences()

    class Penalised(layers.Layer):
        state_size = 3

        def call(self, inputs, states):
            return states[0], states

    known = layers.LSTMCell(3)
    assert runs(known, layers.StackedRNNCells([layers.GRUCell(3)]))
    assert not runs(known, Penalised())
    assert not runs(known, layers.GRUCell(3, activation=ops.sin))
    assert not runs(known, layers.GRUCell(3, dtype="float64"))
    assert not runs(known, layers.GRUCell(3, activity_regularizer="l2"))


def test_a_stateful_stack_continues_where_it_ended():
    x = rng.standard_normal((2, 6, 2))
    made = [layers.RNN([CELLS["lstm"](), CELLS["gru"]()], stateful=on, dtype="float64") for on in (True, False)]
    for layer in made:
        layer.build(x.shape)
        layer.set_weights(made[0].get_weights())
    made[0](x[:, :2])
    np.testing.assert_allclose(made[0](x[:, 2:]).numpy(), made[1](x).numpy(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"use_bias": False}])
def test_activations_that_no_kernel_knows(kind, settings):
    if kind != "SimpleRNN":
        settings = {**settings, "recurrent_activation": "silu"}
    layer = make(kind, activation=ops.sin, return_state=True, **settings)
    x, mask = rng.standard_normal((2, 3, 2)), np.array([[True, False, True], [False, True, False]])
    layer.build(x.shape)
    assert not layer.cell.runs_sequences()
    check_gradients(lambda x: layer(x, mask=mask), x, variables=layer.trainable_weights)


def test_linear_activation_runs_in_the_kernel():
    layer = make("SimpleRNN", activation=None)
    assert layer.activation is activations.linear and layer.cell.runs_sequences()
    x = rng.standard_normal((2, 3, 2))
    layer.build(x.shape)
    check_gradients(layer, x, variables=layer.trainable_weights)


@pytest.mark.parametrize("kind", KINDS)
def test_stateful_continues_where_it_ended(kind):
    x = rng.standard_normal((2, 6, 2))
    layer = make(kind, stateful=True, return_sequences=True)
    parts = [layer(x[:, :2]), layer(x[:, 2:])]
    whole = make(kind, return_sequences=True)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    wanted = whole(x).numpy()
    np.testing.assert_allclose(np.concatenate([part.numpy() for part in parts], axis=1), wanted, rtol=1e-12)
    assert len(layer.weights) == 3 and not layer.non_trainable_weights
    kept = layer.states[0]
    layer.reset_state()
    assert layer.states[0] is kept and not kept.numpy().any()
    layer(x[:, :3])
    halfway = [state.numpy() for state in layer.states]
    layer.reset_states()
    layer.reset_states(halfway)
    np.testing.assert_allclose(layer(x[:, 3:]).numpy(), wanted[:, 3:], rtol=1e-12)
    with pytest.raises(ValueError, match=r"needs states of shapes \[\(1, 3\).*a stateful layer keeps its batch size"):
        layer(x[:1])


def test_stateful_states_exist_after_building_with_a_batch_size():
    layer = make("LSTM", stateful=True)
    layer(layers.Input(batch_shape=(2, 4, 3)))
    assert [state.shape for state in layer.states] == [(2, 3), (2, 3)]


def test_nothing_is_kept_for_backward_in_inference(monkeypatch):
    kept = []
    run = k.lstm

    def spy(*args, **settings):
        kept.append(settings["with_residual"])
        return run(*args, **settings)

    monkeypatch.setattr(k, "lstm", spy)
    layer = make("LSTM")
    layer(rng.standard_normal((2, 3, 2)))
    with recording():
        layer(rng.standard_normal((2, 3, 2)))
    assert kept == [False, True]


def test_forget_gate_starts_open():
    layer = make("LSTM", bias_initializer="zeros")
    layer.build((None, None, 2))
    assert layer.cell.bias.numpy().tolist() == [0] * 3 + [1] * 3 + [0] * 6
    layer = make("LSTM", bias_initializer="zeros", unit_forget_bias=False)
    layer.build((None, None, 2))
    assert not layer.cell.bias.numpy().any()


def test_recurrent_kernel_is_orthogonal():
    layer = make("LSTM", units=4)
    layer.build((None, None, 2))
    recurrent = layer.cell.recurrent_kernel.numpy()
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(4), atol=1e-10)


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_one_mask_for_all_steps_and_for_training_only(kind):
    x = np.ones((3, 5, 40))
    settings = {"dropout": 0.5, "recurrent_dropout": 0.4, "seed": 7, "return_sequences": True}
    fast = make(kind, **settings)
    plain = fast(x).numpy()
    np.testing.assert_array_equal(plain, fast(x, training=False).numpy())
    state = fast.cell.seed_generator.state
    trained = fast(x, training=True).numpy()
    assert not np.allclose(trained, plain)
    assert not np.allclose(trained, fast(x, training=True).numpy())  # each sequence draws anew

    cell = fast.cell
    cell.seed_generator.state = state
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()
    states = cell.get_initial_state(3)
    stepped = []
    for s in range(5):
        output, states = cell(x[:, s], states, training=True)
        stepped.append(output.numpy())
    np.testing.assert_allclose(np.stack(stepped, axis=1), trained, rtol=1e-10)
    dropped, dropped_states = cell._masks["dropout"], cell._masks["recurrent_dropout"]
    by_gate = () if kind == "SimpleRNN" else (cell._GATES,)
    assert (dropped.shape, dropped_states.shape) == ((*by_gate, 3, 40), (*by_gate, 3, cell.units))
    assert 0.3 < float((dropped == 0).mean()) < 0.7
    assert set(np.unique(k.to_host(dropped)).tolist()) == {0, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_without_recurrent_dropout_all_gates_drop_the_same_inputs(kind):
    layer = make(kind, dropout=0.5)
    layer(np.ones((3, 5, 40)), training=True)
    assert layer.cell._masks["dropout"].shape == (3, 40)


def test_dropout_gradients():
    layer = make("GRU", dropout=0.4, recurrent_dropout=0.4)
    x = rng.standard_normal((3, 4, 6))
    layer.build(x.shape)
    state = layer.cell.seed_generator.state

    def run(x):
        layer.cell.seed_generator.state = state
        return layer(x, training=True)

    check_gradients(run, x, variables=layer.trainable_weights)


def test_seed_repeats_dropout():
    results = []
    for _ in range(2):
        seeds.set_seed(1)
        layer = make("LSTM", dropout=0.5)
        results.append(layer(np.ones((2, 3, 4)), training=True).numpy())
    np.testing.assert_array_equal(*results)


# ---------------------------------------------------------------- masks, shapes, graphs


def test_mask_of_the_inputs_is_used_and_passed_on():
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    embed = layers.Embedding(5, 2, mask_zero=True, dtype="float64")
    layer = make("LSTM", return_sequences=True, return_state=True)
    outputs, h, c = layer(embed(tokens))
    np.testing.assert_array_equal(np.asarray(outputs._keras_mask), tokens != 0)
    assert h._keras_mask is None and c._keras_mask is None
    last = make("LSTM")
    last.build((None, None, 2))
    last.set_weights(layer.get_weights())
    result = last(embed(tokens))
    assert result._keras_mask is None
    np.testing.assert_allclose(result.numpy(), h.numpy())
    alone = last(embed(tokens[:1, :2]))
    np.testing.assert_allclose(result.numpy()[:1], alone.numpy())


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_output_shapes_are_those_computed(sequences, state):
    x = np.zeros((2, 4, 3))
    candidates = [
        *[make(kind, return_sequences=sequences, return_state=state) for kind in KINDS],
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=sequences, return_state=state),
    ]
    for mode in ("concat", "sum", "mul", "ave", None):
        candidates.append(layers.Bidirectional(make("LSTM", return_sequences=sequences, return_state=state), mode))
    for layer in candidates:
        shapes = layer.compute_output_shape((2, 4, 3))
        eager, symbolic = tree.flatten(layer(x)), tree.flatten(layer(layers.Input((4, 3))))
        assert [value.shape[1:] for value in symbolic] == [value.shape[1:] for value in eager]
        assert tree.flatten(shapes) == [size for value in eager for size in value.shape]


def test_symbolic_initial_state_belongs_to_the_graph():
    inputs, start = layers.Input((4, 2)), [layers.Input((3,)), layers.Input((3,))]
    layer = make("LSTM")
    output = layer(inputs, initial_state=start)
    assert output.shape == (None, 3)
    assert layer._inbound_nodes[0].input_tensors == [inputs, *start]
    assert layer.get_build_config() == {
        "shapes_dict": {"sequences_shape": (None, 4, 2), "initial_state_shape": [(None, 3), (None, 3)]}
    }


def test_single_initial_state_may_come_without_a_list():
    layer = make("GRU")
    x, h = rng.standard_normal((2, 3, 2)), rng.standard_normal((2, 3))
    np.testing.assert_array_equal(layer(x, h).numpy(), layer(x, initial_state=[ops.convert_to_tensor(h)]).numpy())


# ---------------------------------------------------------------- wrappers, cells


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional(mode, sequences):
    x, mask = rng.standard_normal((3, 4, 2)), rng.random((3, 4)) < 0.7
    both = layers.Bidirectional(
        make("LSTM", name="lstm", return_sequences=sequences, return_state=True), merge_mode=mode, dtype="float64"
    )
    results = both(x, mask=mask)
    assert [both.forward_layer.name, both.backward_layer.name] == ["forward_lstm", "backward_lstm"]
    forward, *first = both.forward_layer(x, mask=mask)
    backward, *second = both.backward_layer(x, mask=mask)
    forward, backward = forward.numpy(), backward.numpy()[:, :: -1 if sequences else 1]
    merged = {
        "concat": [np.concatenate([forward, backward], axis=-1)],
        "sum": [forward + backward],
        "mul": [forward * backward],
        "ave": [(forward + backward) / 2],
        None: [forward, backward],
    }[mode]
    for result, wanted in zip(results, [*merged, *[state.numpy() for state in (*first, *second)]], strict=True):
        np.testing.assert_allclose(result.numpy(), wanted, rtol=1e-12)
    check_gradients(lambda x: both(x, mask=mask), x, variables=both.trainable_weights)
    copy = layers.Bidirectional.from_config(both.get_config())
    copy.build((None, *x.shape[1:]))
    assert copy.get_config() == both.get_config()
    assert [copy.forward_layer.name, copy.backward_layer.go_backwards] == ["forward_lstm", True]


def test_bidirectional_initial_state_and_stateful():
    x = rng.standard_normal((2, 4, 2))
    both = layers.Bidirectional(make("LSTM", return_state=True, stateful=True), dtype="float64")
    _, *states = both(x)
    again = both(x)[0].numpy()
    np.testing.assert_allclose(both(x, initial_state=states)[0].numpy(), again)
    assert len(both.states) == 4
    both.reset_states()
    assert not any(state.numpy().any() for state in both.states)


def test_time_distributed():
    layer = layers.TimeDistributed(layers.Dense(3, dtype="float64"), dtype="float64")
    x = rng.standard_normal((2, 4, 5))
    outputs = layer(x).numpy()
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(outputs, x @ kernel + bias, rtol=1e-12)
    assert layer.weights[0].path == f"{layer.name}/{layer.layer.name}/kernel"
    assert layers.TimeDistributed.from_config(layer.get_config()).get_config()["layer"]["class_name"] == "Dense"
    images = layers.TimeDistributed(layers.Conv2D(2, 3))
    assert images(layers.Input((None, 8, 8, 1))).shape == (None, None, 6, 6, 2)
    assert images(np.zeros((2, 3, 8, 8, 1), "float32")).shape == (2, 3, 6, 6, 2)
    inner = layers.TimeDistributed(make("LSTM"))
    masked = layers.Embedding(4, 2, mask_zero=True, dtype="float64")(np.array([[[1, 2, 0], [3, 0, 0]]]))
    assert inner(masked).shape == (1, 2, 3)
    np.testing.assert_allclose(inner(masked).numpy()[0, 1], inner(masked[:, :, :1]).numpy()[0, 1])


@pytest.mark.parametrize("mask", [None, np.array([[True, False, True], [False, True, False]])])
def test_stacked_cells_are_layers_in_a_row(mask):
    x = rng.standard_normal((2, 3, 2))
    stack = layers.RNN(
        [layers.LSTMCell(3, dtype="float64"), layers.GRUCell(4, dtype="float64")],
        return_sequences=True,
        return_state=True,
        dtype="float64",
    )
    outputs, lstm_states, gru_states = stack(x, mask=mask)
    first, second = make("LSTM", return_sequences=True, return_state=True), make("GRU", 4, return_sequences=True)
    first.build(x.shape)
    second.build((2, 3, 3))
    first.set_weights(stack.get_weights()[:3])
    second.set_weights(stack.get_weights()[3:])
    inner, h, c = first(x, mask=mask)
    np.testing.assert_allclose(outputs.numpy(), second(inner, mask=mask).numpy(), rtol=1e-12)
    np.testing.assert_allclose(lstm_states[0].numpy(), h.numpy(), rtol=1e-12)
    np.testing.assert_allclose(lstm_states[1].numpy(), c.numpy(), rtol=1e-12)
    assert len(gru_states) == 1
    assert layers.RNN.from_config(stack.get_config()).state_size == [[3, 3], 4]
    check_gradients(lambda x: stack(x, mask=mask), x, variables=stack.trainable_weights)


def test_a_cell_of_ones_own():
    class Sum(layers.Layer):
        state_size = 2

        def call(self, inputs, states):
            total = states[0] + inputs
            return total * 2.0, [total]

    x = rng.standard_normal((3, 4, 2)).astype("float32")
    layer = layers.RNN(Sum(), return_sequences=True, return_state=True)
    outputs, state = layer(x)
    np.testing.assert_allclose(outputs.numpy(), 2 * np.cumsum(x, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.numpy(), x.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert layer(layers.Input((4, 2)))[0].shape == (None, 4, 2)


# ---------------------------------------------------------------- description, errors


@pytest.mark.parametrize("kind", KINDS)
def test_description_and_pickle(kind):
    layer = make(kind, dropout=0.2, kernel_regularizer="l2", go_backwards=True, recurrent_constraint="max_norm", seed=3)
    x = rng.standard_normal((2, 3, 2))
    layer(x)
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x).numpy(), layer(x).numpy())
    assert (layer.units, layer.dropout) == (3, 0.2)
    assert len(layer.losses) == 1


def test_old_arguments():
    assert layers.LSTM(2, implementation=2, time_major=False, use_cudnn=False, unroll=True).unroll
    with pytest.raises(ValueError, match="got time_major=True"):
        layers.LSTM(2, time_major=True)


def test_trainable_reaches_the_cell():
    layer = make("LSTM", trainable=False)
    layer.build((None, 3, 2))
    assert not layer.trainable_weights and len(layer.non_trainable_weights) == 3
    layer.trainable = True
    assert len(layer.trainable_weights) == 3


@pytest.mark.parametrize(
    ("make_layer", "inputs", "message"),
    [
        (lambda: layers.LSTM(0), None, "LSTM's units must be a positive whole number, got 0"),
        (lambda: layers.GRU(2, dropout=1.5), None, "GRU's dropout must be a number from 0 to 1, got 1.5"),
        (lambda: layers.LSTM(2, wrong=1), None, r"LSTM got unknown arguments \['wrong'\]"),
        (lambda: layers.LSTM(2), np.zeros((2, 3)), "expects inputs of rank 3, got shape"),
        (lambda: layers.RNN(layers.Dense(2)), None, "A recurrent cell is a layer with a state_size"),
        (lambda: layers.Bidirectional(layers.Dense(2)), None, "Bidirectional wraps a recurrent layer"),
        (lambda: layers.Bidirectional(layers.GRU(2), "max"), None, "for merge_mode, got 'max'"),
        (
            lambda: layers.Bidirectional(layers.GRU(2), backward_layer=layers.GRU(2)),
            None,
            "two layers of different go_backwards, got False and False",
        ),
        (lambda: layers.TimeDistributed(3), None, "TimeDistributed wraps a layer, got 3"),
        (lambda: layers.TimeDistributed(layers.Dense(2)), np.zeros((2, 3)), "expects inputs of rank 3 or more"),
    ],
)
def test_errors(make_layer, inputs, message):
    with pytest.raises(ValueError, match=message):
        make_layer()(inputs)


def test_errors_about_states_masks_and_changed_features():
    layer = make("LSTM")
    x = np.zeros((2, 4, 2))
    layer(x)
    with pytest.raises(ValueError, match=r"needs states of shapes \[\(2, 3\), \(2, 3\)\], got \[\(2, 3\)\]\."):
        layer(x, initial_state=[np.zeros((2, 3))])
    with pytest.raises(ValueError, match=r"needs a mask of shape \(2, 4\), one value for each time step, got shape"):
        layer(x, mask=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="expects inputs with 2 entries along axis -1"):
        layer(np.zeros((2, 4, 5)))


def test_bidirectional_copies_a_layer_around_an_own_cell_that_is_not_registered():
    class Own(layers.Layer):
        state_size = 3

        def call(self, inputs, states):
            return inputs + states[0], [inputs + states[0]]

    both = layers.Bidirectional(layers.RNN(Own()))
    assert both(np.ones((2, 4, 3))).shape == (2, 6)
    assert type(both.backward_layer.cell) is Own
