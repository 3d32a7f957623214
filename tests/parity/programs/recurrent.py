"""Programs with sequences: states, masks, cells of their own, wrappers, encoder and decoder."""

from __future__ import annotations

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


@program
def stateful_network(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(2, 3, 4)),
            layers.LSTM(5, stateful=True, return_sequences=True),
            layers.GRU(3, stateful=True),
        ]
    )
    fill(model)
    x = numbers(2, 3, 4)
    first, second = np.array(model(x)), np.array(model(x))  # Keras on JAX forgets the states after predict and fit
    for layer in model.layers:
        layer.reset_states()
    third = np.array(model(x))
    model.compile("sgd", "mse")
    model.fit(x, numbers(2, 3), batch_size=2, epochs=1, verbose=0)
    return {"first": first, "second": second, "third": third, "states": len(model.layers[0].states)}


@program
def translation(keras):
    layers = keras.layers
    size, source_tokens, target_tokens = 6, 7, 8
    encoder_inputs = keras.Input(shape=(None, source_tokens))
    _, state_h, state_c = layers.LSTM(size, return_state=True, name="encoder")(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, target_tokens))
    decoder = layers.LSTM(size, return_sequences=True, return_state=True, name="decoder")
    outputs, _, _ = decoder(decoder_inputs, initial_state=[state_h, state_c])
    dense = layers.Dense(target_tokens, activation="softmax", name="tokens")
    model = keras.Model([encoder_inputs, decoder_inputs], dense(outputs))
    fill(model)
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    source = np.eye(source_tokens, dtype="float32")[classes(20, source_tokens).reshape(4, 5)]
    target = np.eye(target_tokens, dtype="float32")[classes(24, target_tokens).reshape(4, 6)]
    history = model.fit(
        [source, target], np.roll(target, -1, axis=1), batch_size=2, epochs=2, shuffle=False, verbose=0
    ).history

    encoder_model = keras.Model(model.inputs[0], model.layers[2].output[1:])
    state_inputs = [keras.Input((size,)), keras.Input((size,))]
    step_outputs, h, c = decoder(decoder_inputs, initial_state=state_inputs)
    decoder_model = keras.Model([decoder_inputs, *state_inputs], [dense(step_outputs), h, c])
    states = encoder_model.predict(source[:1], verbose=0)
    token, decoded = np.eye(target_tokens, dtype="float32")[None, :1], []
    for _ in range(4):
        scores, *states = decoder_model.predict([token, *states], verbose=0)
        decoded.append(int(scores[0, -1].argmax()))
        token = np.eye(target_tokens, dtype="float32")[None, decoded[-1] : decoded[-1] + 1]
    return {
        "history": history,
        "decoded": decoded,
        "layers": [layer.name for layer in model.layers][2:],
        "states": [state.shape for state in states],
        "scores": scores,
    }


@program
def masks(keras):
    ops, layers = keras.ops, keras.layers
    tokens = np.array([[711, 632, 71, 0, 0], [73, 8, 3215, 55, 927], [83, 91, 0, 0, 0]]) % 40
    embedding = layers.Embedding(40, 4, mask_zero=True)
    embedded = embedding(tokens)

    class Temporal(layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            weights = ops.cast(mask, "float32")[..., None]
            return inputs * weights / ops.sum(weights, axis=1, keepdims=True)

    class Split(layers.Layer):
        def call(self, inputs):
            return ops.split(inputs, 2, axis=1)

        def compute_mask(self, inputs, mask=None):
            return None if mask is None else ops.split(mask, 2, axis=1)

    class Own(layers.Layer):
        def compute_mask(self, inputs, mask=None):
            return ops.any(ops.not_equal(inputs, 0), axis=-1)

        def call(self, inputs):
            return inputs

    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(40, 4, mask_zero=True)(inputs)
    pooled = layers.GlobalAveragePooling1D()(x)
    last = layers.LSTM(3)(layers.Dropout(0.1)(x))
    model = fill(keras.Model(inputs, [Temporal()(x), pooled, last]))
    padded = numbers(2, 4, 3)
    padded[0, 2:] = 0
    masked = keras.Sequential(
        [keras.Input((4, 3)), layers.Masking(), layers.SimpleRNN(2, return_sequences=True), layers.Dense(1)]
    )
    fill(masked)
    masked.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
    left, right = Split()(embedding(np.array([[1, 0, 3, 0]])))
    return {
        "mask": embedding.compute_mask(tokens),
        "attached": embedded._keras_mask,
        "model": model.predict(tokens, verbose=0),
        "given": layers.GlobalAveragePooling1D()(numbers(3, 5, 2), mask=ops.not_equal(tokens, 0)),
        "halves": (left._keras_mask, right._keras_mask),
        "own": Own()(padded)._keras_mask,
        "evaluated": masked.evaluate(padded, numbers(2, 4, 1), verbose=0, return_dict=True),
        "trained": masked.fit(padded, numbers(2, 4, 1), batch_size=2, epochs=2, verbose=0).history["loss"],
        "lstm": fill_and_call(layers.LSTM(3), embedded, mask=ops.not_equal(tokens, 0)).shape == (3, 3),
    }


def fill_and_call(layer, x, **kwargs):
    layer(x, **kwargs)
    return fill(layer)(x, **kwargs)


@program
def own_cell(keras):
    ops, layers = keras.ops, keras.layers

    class MinimalCell(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform", name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

        def call(self, inputs, states):
            output = ops.tanh(ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel))
            return output, [output]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    x = numbers(3, 5, 4)
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.RNN(MinimalCell(6), return_sequences=True),
            layers.RNN([MinimalCell(3), layers.LSTMCell(2)], return_state=False),
        ]
    )
    fill(model)
    model.compile("sgd", "mse")
    history = model.fit(x, numbers(3, 2), batch_size=3, epochs=2, verbose=0).history
    return {
        "history": history,
        "weights": [(w.name, tuple(w.shape)) for w in model.weights],
        "prediction": model.predict(x, verbose=0),
        "config": sorted(model.layers[0].get_config()),
    }


@program
def wrappers(keras):
    layers = keras.layers
    x = numbers(2, 4, 3)
    results = {}
    for mode in ("concat", "sum", "mul", "ave", None):
        layer = layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode=mode)
        results[f"bidirectional {mode}"] = fill_and_call(layer, x)
    backward = layers.LSTM(3, go_backwards=True)
    results["two layers"] = fill_and_call(layers.Bidirectional(layers.LSTM(3), backward_layer=backward), x)
    results["states"] = fill_and_call(layers.Bidirectional(layers.LSTM(2, return_state=True)), x)
    results["distributed"] = fill_and_call(layers.TimeDistributed(layers.Conv1D(2, 2)), numbers(2, 3, 4, 3))
    results["names"] = [w.path.split("/", 1)[1] for w in layers_built(layers.Bidirectional(layers.LSTM(2)), x).weights]
    config = layers.Bidirectional(layers.LSTM(3, dropout=0.2, name="inner"), name="outer").get_config()
    again = layers.Bidirectional.from_config(config)
    results["again"] = again.name, again.forward_layer.units, sorted(config)
    results["distributed network"] = fill_and_call(
        layers.TimeDistributed(keras.Sequential([keras.Input((4, 3)), layers.Flatten(), layers.Dense(2)])),
        numbers(2, 3, 4, 3),
    )
    return results


def layers_built(layer, x):
    layer(x)
    return layer


@program
def steps_by_hand(keras):
    ops, layers = keras.ops, keras.layers
    cell = layers.LSTMCell(3)
    x = numbers(2, 4, 5)
    cell.build((None, 5))
    fill(cell)
    states = cell.get_initial_state(batch_size=2)
    outputs = []
    for t in range(4):
        y, states = cell(x[:, t], states)
        outputs.append(y)
    whole = layers.LSTM(3, return_sequences=True, return_state=True)
    whole(x)
    whole.set_weights(cell.get_weights())
    everything, h, c = whole(x)
    resumed = layers.LSTM(3)
    resumed(x)
    resumed.set_weights(cell.get_weights())
    return {
        "steps": ops.stack(outputs, axis=1),
        "whole": everything,
        "states": (h, c),
        "resumed": resumed(x, initial_state=[h, c]),
        "sizes": (cell.state_size, cell.output_size),
        "in a loop": ops.fori_loop(0, 3, lambda i, total: total + ops.cast(i, "float32"), ops.zeros(())),
        "forget bias": layers_built(layers.LSTM(2), x).get_weights()[2],
        "wrong rank": raised(layers.LSTM(2), np.ones((3, 4))),
    }
