"""Programs that build models: Sequential, functional, subclassed, shared, nested, taken apart and put together."""

from __future__ import annotations

import json

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


@program
def sequential_step_by_step(keras):
    layers = keras.layers
    model = keras.Sequential(name="steps")
    model.add(layers.Dense(5, activation="relu", name="a"))
    model.add(layers.Dense(4, name="b"))
    before = len(model.weights), model.built, raised(model.count_params), raised(lambda: model.output_shape)
    y = model(np.ones((3, 6)))
    after = len(model.weights), model.built, model.count_params(), [w.shape for w in model.weights]
    model.pop()
    popped = len(model.layers), model.count_params()
    model.add(layers.Dense(2, activation="softmax", name="c"))
    return {
        "before": before,
        "output": tuple(y.shape),
        "after": after,
        "popped": popped,
        "names": [layer.name for layer in model.layers],
        "paths": [w.path for w in model.weights],
        "prediction": fill(model).predict(numbers(7, 6), verbose=0),
        "same name": raised(model.add, layers.Dense(2, name="c")),
        "not a layer": raised(model.add, 3),
    }


@program
def sequential_with_input_shapes(keras):
    layers = keras.layers
    results = {}
    for name, first in {
        "input_shape": layers.Dense(3, input_shape=(4,)),
        "input_dim": layers.Dense(3, input_dim=4),
        "Input": keras.Input((4,)),
        "Input with batch": keras.Input(shape=(4,), batch_size=2),
        "InputLayer": layers.InputLayer(shape=(4,)),
    }.items():
        model = keras.Sequential([first, layers.Dense(2)])
        results[name] = model.input_shape, model.output_shape, len(model.layers), [w.shape for w in model.weights]
    return results


@program
def residual_network(keras):
    layers = keras.layers
    inputs = keras.Input(shape=(12, 12, 3), name="img")
    x = layers.Conv2D(4, 3, activation="relu", name="conv_a")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="conv_b")(x)
    block_1 = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Conv2D(8, 3, activation="relu", padding="same", name="conv_c")(block_1)
    block_2 = layers.add([x, block_1], name="sum")
    x = layers.GlobalAveragePooling2D(name="gap")(block_2)
    outputs = layers.Dense(5, name="logits")(layers.Dropout(0.5, name="drop")(x))
    model = keras.Model(inputs, outputs, name="toy_resnet")
    model.compile(
        optimizer=keras.optimizers.RMSprop(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    fill(model)
    pictures, labels = numbers(10, 12, 12, 3), classes(10, 5)
    return {
        "layers": [(layer.name, type(layer).__name__) for layer in model.layers],
        "shapes": [model.get_layer(name).output.shape for name in ("conv_a", "pool", "sum", "gap")],
        "ends": (model.input_shape, model.output_shape, model.output_names),
        "config of a layer": model.get_layer("conv_c").get_config()["padding"],
        "evaluation": model.evaluate(pictures, labels, batch_size=5, verbose=0, return_dict=True),
        "prediction": model.predict(pictures, batch_size=4, verbose=0),
        "missing": raised(model.get_layer, "nowhere"),
        "by index": model.get_layer(index=3).name,
    }


@program
def model_taken_apart(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="tanh", name="one"),
            layers.Dense(5, activation="tanh", name="two"),
            layers.Dense(2, name="three"),
        ]
    )
    fill(model)
    x = numbers(4, 8)
    features = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers])
    single = keras.Model(model.inputs, model.get_layer("two").output)
    tail = keras.Model(model.layers[1].input, model.layers[-1].output)
    headless = keras.Sequential(model.layers[:-1] + [layers.Activation("relu")])
    headless.build((None, 8))
    return {
        "features": features(x),
        "single": single.predict(x, verbose=0),
        "shared weights": single.weights[0] is model.weights[0],
        "tail": tail(numbers(3, 6)),
        "headless": headless(x),
        "summary of tail": [layer.name for layer in tail.layers][1:],
    }


@program
def autoencoder_of_models(keras):
    layers = keras.layers
    encoder_input = keras.Input(shape=(8, 8, 1), name="img")
    x = layers.Conv2D(4, 3, activation="relu")(encoder_input)
    x = layers.MaxPooling2D(2)(x)
    encoder_output = layers.Flatten()(x)
    encoder = keras.Model(encoder_input, encoder_output, name="encoder")
    decoder_input = keras.Input(shape=(36,), name="encoded")
    x = layers.Reshape((3, 3, 4))(decoder_input)
    x = layers.UpSampling2D(3)(x)
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    decoder_output = layers.Conv2D(1, 3, activation="sigmoid")(x)
    decoder = keras.Model(decoder_input, decoder_output, name="decoder")
    auto_input = keras.Input(shape=(8, 8, 1), name="start")
    auto = keras.Model(auto_input, decoder(encoder(auto_input)), name="autoencoder")
    fill(auto)
    x = numbers(6, 8, 8, 1)
    auto.compile("adam", "mse")
    history = auto.fit(x, x, batch_size=3, epochs=2, shuffle=False, verbose=0)
    return {
        "names": [layer.name for layer in auto.layers],
        "output": auto.output_shape,
        "inner": auto.get_layer("encoder").output_shape,
        "weights": [w.shape for w in auto.weights],
        "history": history.history,
        "inner prediction": encoder.predict(x, verbose=0),
    }


@program
def ensemble(keras):
    def member():
        inputs = keras.Input(shape=(10,))
        return keras.Model(inputs, keras.layers.Dense(1)(inputs))

    members = [fill(member(), seed) for seed in (1, 2, 3)]
    inputs = keras.Input(shape=(10,))
    outputs = keras.layers.average([one(inputs) for one in members])
    model = keras.Model(inputs=inputs, outputs=outputs)
    return model.predict(numbers(5, 10), verbose=0), len(model.trainable_weights), len(model.layers)


@program
def siamese_network(keras):
    ops, layers = keras.ops, keras.layers
    encoder = keras.Sequential([keras.Input((6, 6)), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(4)])
    left, right = keras.Input((6, 6), name="left"), keras.Input((6, 6), name="right")
    a, b = encoder(left), encoder(right)
    distance = ops.sqrt(ops.maximum(ops.sum(ops.square(a - b), axis=1, keepdims=True), keras.backend.epsilon()))
    model = keras.Model([left, right], distance)

    def contrastive_loss(y_true, y_pred):
        margin = ops.square(ops.maximum(1.0 - y_pred, 0.0))
        return ops.mean((1 - y_true) * ops.square(y_pred) + y_true * margin)

    fill(model)
    model.compile(loss=contrastive_loss, optimizer=keras.optimizers.Adam(0.01), metrics=["accuracy"])
    pair, labels = [numbers(12, 6, 6), numbers(12, 6, 6, seed=1)], classes(12, 2)[:, None].astype("float32")
    history = model.fit(pair, labels, batch_size=4, epochs=3, shuffle=False, verbose=0)
    by_name = model.predict({"left": pair[0], "right": pair[1]}, verbose=0)
    return {
        "history": history.history,
        "count": model.count_params(),
        "by name": by_name,
        "by list": model.predict(pair, verbose=0),
        "one input": raised(model, pair[0]),
    }


@program
def subclassed_blocks(keras):
    layers = keras.layers

    class Block(layers.Layer):
        def __init__(self, units, rate=0.0, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(units, name="dense")
            self.norm = layers.BatchNormalization()
            self.drop = layers.Dropout(rate)

        def call(self, x, training=False):
            x = self.norm(self.dense(x), training=training)
            return self.drop(keras.ops.relu(x), training=training)

    class Network(keras.Model):
        def __init__(self, depth):
            super().__init__(name="network")
            self.blocks = [Block(4 + i, name=f"block_{i}") for i in range(depth)]
            self.heads = {"mean": layers.Dense(1), "scale": layers.Dense(1, activation="softplus")}

        def call(self, inputs, training=False):
            x = inputs
            for block in self.blocks:
                x = block(x, training=training)
            return {name: head(x) for name, head in self.heads.items()}

    model = Network(2)
    empty = len(model.weights), model.built
    x = numbers(9, 3)
    shapes = {name: tuple(value.shape) for name, value in model(x).items()}
    fill(model)
    model.compile("sgd", loss={"mean": "mse", "scale": "mae"})
    y = {"mean": numbers(9, 1), "scale": numbers(9, 1, seed=3)}
    history = model.fit(x, y, batch_size=9, epochs=2, verbose=0)
    return {
        "empty": empty,
        "shapes": shapes,
        "weights": [w.shape for w in model.weights],
        "trainable": len(model.trainable_weights),
        "layers": [layer.name for layer in model.layers][:2],
        "history": history.history,
        "prediction": model.predict(x, verbose=0),
        "training differs": bool(np.any(np.asarray(model(x, training=True)["mean"]) != np.asarray(model(x)["mean"]))),
    }


@program
def ticket_router(keras):
    layers = keras.layers
    title = keras.Input(shape=(None,), name="title", dtype="int32")
    body = keras.Input(shape=(None,), name="body", dtype="int32")
    tags = keras.Input(shape=(3,), name="tags")
    title_features = layers.LSTM(4)(layers.Embedding(20, 6)(title))
    body_features = layers.GlobalAveragePooling1D()(layers.Embedding(20, 5)(body))
    x = layers.concatenate([title_features, body_features, tags])
    priority = layers.Dense(1, name="priority")(x)
    department = layers.Dense(4, name="department")(x)
    model = keras.Model([title, body, tags], {"priority": priority, "department": department})
    fill(model)
    model.compile(
        optimizer=keras.optimizers.RMSprop(1e-2),
        loss={
            "priority": keras.losses.BinaryCrossentropy(from_logits=True),
            "department": keras.losses.CategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"priority": 1.0, "department": 0.2},
        metrics={"department": ["accuracy", "top_k_categorical_accuracy"], "priority": "mae"},
    )
    x = {"title": classes(40, 20).reshape(10, 4), "body": classes(60, 20).reshape(10, 6), "tags": numbers(10, 3)}
    y = {
        "priority": classes(10, 2)[:, None].astype("float32"),
        "department": np.eye(4, dtype="float32")[classes(10, 4)],
    }
    history = model.fit(x, y, epochs=2, batch_size=5, shuffle=False, verbose=0, validation_data=(x, y))
    return {
        "history": history.history,
        "evaluation": model.evaluate(x, y, verbose=0, return_dict=True),
        "prediction": model.predict(x, verbose=0),
        "names": (sorted(tensor.name for tensor in model.inputs), sorted(model.output_names)),
        "shapes": (model.input_shape, model.output_shape),
        "missing input": raised(model.predict, {"title": x["title"]}, verbose=0),
    }


@program
def two_outputs_by_position(keras):
    layers = keras.layers
    inputs = keras.Input((5,))
    x = layers.Dense(6, activation="relu")(inputs)
    model = keras.Model(
        inputs, [layers.Dense(1, name="score")(x), layers.Dense(3, activation="softmax", name="kind")(x)]
    )
    fill(model)
    x, y = numbers(12, 5), [numbers(12, 1, seed=4), classes(12, 3)]
    model.compile(
        "sgd", ["mse", "sparse_categorical_crossentropy"], metrics=[["mae"], ["accuracy"]], loss_weights=[1.0, 0.5]
    )
    history = model.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    one_loss = keras.Model(inputs, model.outputs)
    one_loss.compile("sgd", loss=["mse", None])
    return {
        "history": history.history,
        "evaluation": model.evaluate(x, y, verbose=0),
        "names": model.metrics_names,
        "prediction": model.predict(x, verbose=0),
        "weights per output": model.evaluate(x, y, verbose=0, sample_weight=[np.arange(12.0), np.ones(12)]),
        "one loss": raised(one_loss.fit, x, y, verbose=0),
    }


@program
def arithmetic_on_symbolic_tensors(keras):
    ops = keras.ops
    a, b = keras.Input((4, 6)), keras.Input((4, 6))
    cases = {
        "sum": a + 1.0,
        "reversed": 2 - a,
        "product": a * b,
        "ratio": a / (ops.abs(b) + 1),
        "power": a**2,
        "negative": -a,
        "slice": a[:, 1:3],
        "column": a[..., 0],
        "new axis": a[:, None],
        "matmul": ops.matmul(a, ops.transpose(b, (0, 2, 1))),
        "einsum": ops.einsum("bij,bkj->bik", a, b),
        "compare": ops.cast(a > b, "float32"),
        "reshape": ops.reshape(a, (-1, 24)),
        "softmax": ops.softmax(a, axis=1),
        "stack": ops.stack([a, b], axis=1),
        "concatenate": ops.concatenate([a, b], axis=-1),
        "where": ops.where(a > 0, a, b),
        "mean": ops.mean(a, axis=(1, 2)),
        "max": ops.max(a, axis=-1, keepdims=True),
        "argmax": ops.argmax(a, axis=-1),
        "pad": ops.pad(a, [[0, 0], [1, 1], [0, 2]]),
        "tile": ops.tile(a, (1, 2, 1)),
        "split": ops.split(a, 2, axis=-1)[1],
        "expand": ops.expand_dims(a, -1),
        "one hot": ops.one_hot(ops.argmax(a, axis=-1), 6),
    }
    model = keras.Model([a, b], cases)
    values = model([numbers(3, 4, 6), numbers(3, 4, 6, seed=1)])
    return {
        name: (tensor.shape, keras.backend.standardize_dtype(tensor.dtype), values[name])
        for name, tensor in cases.items()
    }


@program
def open_sizes(keras):
    layers = keras.layers
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", strides=2)(inputs)
    x = layers.MaxPooling2D(2, padding="same")(x)
    y = layers.GlobalMaxPooling2D()(x)
    model = fill(keras.Model(inputs, [x, y]))
    sequence = keras.Input((None, 5))
    z = layers.Conv1D(3, 2, padding="causal", dilation_rate=2)(sequence)
    z = layers.GRU(4, return_sequences=True)(z)
    recurrent = fill(keras.Model(sequence, z))
    return {
        "shapes": (x.shape, y.shape, z.shape),
        "small": [tuple(part.shape) for part in model.predict(numbers(2, 8, 8, 3), verbose=0)],
        "large": [tuple(part.shape) for part in model.predict(numbers(1, 15, 11, 3), verbose=0)],
        "values": model.predict(numbers(2, 9, 7, 3), verbose=0),
        "lengths": [recurrent.predict(numbers(2, n, 5), verbose=0) for n in (3, 6)],
    }


@program
def copies_and_descriptions(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,), name="in"),
            layers.Dense(4, activation="relu", kernel_regularizer="l2", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="out"),
        ],
        name="original",
    )
    fill(model)
    x = numbers(3, 6)
    clone = keras.models.clone_model(model)
    fresh = bool(np.any(np.asarray(clone(x)) != np.asarray(model(x))))
    clone.set_weights(model.get_weights())
    again = keras.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    parsed = keras.models.model_from_json(model.to_json())
    description = json.loads(model.to_json())
    functional = keras.Model(model.inputs, model.outputs, name="functional")
    rebuilt = keras.Model.from_config(functional.get_config())
    rebuilt.set_weights(functional.get_weights())
    return {
        "fresh": fresh,
        "cloned": clone(x),
        "again": again(x),
        "names": [layer.name for layer in parsed.layers],
        "keys": sorted(description),
        "class": (description["class_name"], description["config"]["name"]),
        "configs": {layer.name: sorted(layer.get_config()) for layer in model.layers},
        "dense": model.get_layer("hidden").get_config(),
        "rebuilt": (rebuilt.name, rebuilt(x), [layer.name for layer in rebuilt.layers]),
    }


@program
def clone_with_a_function(keras):
    layers = keras.layers
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Dense(3, activation="relu", name="changed")(inputs))
    model = keras.Model(inputs, outputs)

    def clone(layer):
        config = layer.get_config()
        if layer.name == "changed":
            config["activation"] = "tanh"
        return type(layer).from_config(config)

    copied = keras.models.clone_model(model, clone_function=clone)
    fill(copied)
    return copied.get_layer("changed").get_config()["activation"], copied(numbers(2, 4)), len(copied.layers)


@program
def weights_surgery(keras):
    layers = keras.layers

    def network(outputs):
        return keras.Sequential([keras.Input((5,)), layers.Dense(4, name="body"), layers.Dense(outputs, name="head")])

    small, large = fill(network(2)), fill(network(3), seed=9)
    kernel, bias = small.layers[-1].get_weights()
    wide_kernel, wide_bias = large.layers[-1].get_weights()
    wide_kernel[:, :2], wide_bias[:2] = kernel, bias
    large.layers[-1].set_weights([wide_kernel, wide_bias])
    large.get_layer("body").set_weights(small.get_layer("body").get_weights())
    large.layers[0].kernel.assign(large.layers[0].kernel * 2.0)
    large.layers[0].bias.assign_add(np.ones(4))
    return {
        "prediction": large(numbers(3, 5)),
        "shapes": [w.shape for w in large.get_weights()],
        "names": [w.name for w in large.weights],
        "dtypes": [keras.backend.standardize_dtype(w.dtype) for w in large.weights],
        "too few": raised(large.set_weights, large.get_weights()[:3]),
        "wrong shape": raised(large.layers[0].set_weights, [np.ones((3, 3)), np.ones(4)]),
        "kernel": large.layers[0].kernel.numpy(),
        "Dense(weights)": raised(lambda: layers.Dense(2).kernel),
    }


@program
def transfer_learning(keras):
    layers = keras.layers
    base = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ],
        name="base",
    )
    base.trainable = False
    inputs = keras.Input((6, 6, 2))
    x = base(inputs, training=False)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dropout(0.0)(x)))
    fill(model)
    x, y = numbers(8, 6, 6, 2), classes(8, 3)
    frozen = [w.copy() for w in base.get_weights()]
    counts = len(model.trainable_weights), len(model.non_trainable_weights)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    first = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    kept = all(np.array_equal(a, b) for a, b in zip(frozen, base.get_weights(), strict=True))
    base.trainable = True
    for layer in base.layers[:-1]:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    second = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    return {
        "counts": counts,
        "first": first,
        "kept": kept,
        "second": second,
        "counts later": (len(model.trainable_weights), len(model.non_trainable_weights)),
        "changed": [bool(np.any(a != b)) for a, b in zip(frozen, base.get_weights(), strict=True)],
        "prediction": model.predict(x, verbose=0),
    }


@program
def switches_of_nested_layers(keras):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(2)])
    model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)])

    def state():
        return [layer.trainable for layer in (model, inner, *inner.layers)], len(model.trainable_weights)

    states = [state()]
    model.trainable = False
    states.append(state())
    inner.layers[0].trainable = True
    states.append(state())
    model.trainable = True
    inner.trainable = False
    states.append(state())
    dense = layers.Dense(2, trainable=False)
    dense.build((None, 3))
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    return states, len(dense.trainable_weights), len(norm.trainable_weights), len(norm.non_trainable_weights)


@program
def summaries(keras):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="x")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="y")], name="outer")
    model.layers[0].trainable = False
    lines: dict[str, list[str]] = {}
    for name, options in {
        "plain": {},
        "nested": {"expand_nested": True},
        "trainable": {"show_trainable": True},
        "narrow": {"line_length": 60},
    }.items():
        lines[name] = []
        model.summary(print_fn=lambda text, name=name, **_: lines[name].append(text), **options)
    unbuilt = keras.Sequential([layers.Dense(2)], name="unbuilt")
    lines["unbuilt"] = []
    unbuilt.summary(print_fn=lambda text, **_: lines["unbuilt"].append(text))
    return lines
