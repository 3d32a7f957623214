"""Programs that each use many small things: attributes, alternative spellings of arguments, unusual orders of calls."""

from __future__ import annotations

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


@program
def attributes_of_layers(keras):
    layers = keras.layers

    class Old(layers.Layer):
        def __init__(self, units=3, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.input_spec = layers.InputSpec(ndim=2)
            self.scale = keras.Variable(2.0, name="scale")
            self.fixed = keras.Variable(np.ones(2), trainable=False, name="fixed")

        def build(self, input_shape):
            self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer="ones")
            self.extra = {"bias": self.add_weight(shape=(self.units,), name="bias"), "parts": [layers.Dense(2)]}
            super().build(input_shape)

        def call(self, inputs):
            return keras.ops.dot(inputs, self.kernel) * self.scale

        def compute_output_shape(self, input_shape):
            return (input_shape[0], self.units)

    layer = Old(name="old", dtype="float32")
    y = layer(np.ones((2, 4)))
    symbolic = layer(keras.Input((4,)))
    dense = layers.Dense(2, name="d")
    dense.build((None, 3))
    return {
        "names": [w.name for w in layer.weights],
        "trainable": [w.name for w in layer.trainable_variables],
        "fixed": [w.name for w in layer.non_trainable_weights],
        "shapes": (tuple(y.shape), symbolic.shape, layer.compute_output_shape((7, 4))),
        "wrong rank": raised(layer, np.ones((2, 4, 4))),
        "types": (
            layer.dtype,
            layer.compute_dtype,
            layer.variable_dtype,
            layer.dtype_policy.name,
            keras.backend.standardize_dtype(layer.kernel.dtype),
        ),
        "flags": (layer.built, layer.trainable, layer.supports_masking, layer.autocast),
        "uses": (layer.output.shape, raised(lambda: layers.Dense(2).output)),
        "dense": (
            dense.units,
            dense.use_bias,
            dense.activation.__name__,
            dense.kernel.shape,
            dense.bias.path,
            dense.input_spec.ndim,
            dense.input_spec.min_ndim,
        ),
        "no call": raised(layers.Layer(), np.ones((1, 2))),
        "no name": raised(layers.Layer, name=3),
    }


@program
def forms_of_data(keras):
    x, y = numbers(16, 4), numbers(16, 1, seed=1)

    def fresh():
        model = fill(
            keras.Sequential([keras.Input((4,), name="entry"), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
        )
        model.compile("sgd", "mse")
        return model

    class ArrayLike:
        def __init__(self, values):
            self.values, self.shape, self.dtype = values, values.shape, values.dtype

        def __array__(self, dtype=None, copy=None):
            return self.values if dtype is None else self.values.astype(dtype)

        def __len__(self):
            return len(self.values)

        def __getitem__(self, key):
            return self.values[key]

    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    return {
        "float64": fresh().fit(x.astype("float64"), y.astype("float64"), **options).history,
        "dict": fresh().fit({"entry": x}, y, **options).history,
        "list": fresh().fit([x], [y], **options).history,
        "flat targets": fresh().fit(x, y[:, 0], **options).history,
        "whole numbers": fresh().fit(np.round(x).astype("int64"), np.round(y).astype("int32"), **options).history,
        "tensors": fresh().fit(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y), **options).history,
        "split": sorted(fresh().fit(x, y, validation_split=0.25, validation_batch_size=2, **options).history),
        "validation": fresh()
        .fit(x, y, validation_data=(x[:4], y[:4], np.arange(4.0)), validation_freq=[2], **options)
        .history,
        "steps": fresh().fit(x, y, steps_per_epoch=1, **options).history,
        "booleans": fresh().predict(x > 0, verbose=0),
        "one sample": fresh().predict(x[:1], verbose=0).shape,
        "too wide": raised(fresh().predict, numbers(3, 5), verbose=0),
        "text": raised(fresh().predict, np.array(["a", "b"]), verbose=0) != "nothing",
    }


@program
def spellings_of_compile(keras):
    k = keras
    x, y = numbers(12, 4), classes(12, 3)

    def history(loss, target, metrics=None, activation="softmax", optimizer="sgd", **options):
        model = fill(
            k.Sequential([k.Input((4,)), k.layers.Dense(target.shape[-1] if target.ndim > 1 else 3, activation)])
        )
        model.compile(optimizer=optimizer, loss=loss, metrics=metrics, **options)
        return model.fit(x, target, batch_size=6, epochs=2, shuffle=False, verbose=0).history

    one_hot, binary = k.utils.to_categorical(y, 3), (y > 0).astype("float32")[:, None]
    return {
        "names": history("categorical_crossentropy", one_hot, ["acc", "mse", "AUC"]),
        "camel": history("SparseCategoricalCrossentropy", y, ["SparseCategoricalAccuracy"]),
        "functions": history(k.losses.categorical_crossentropy, one_hot, [k.metrics.categorical_accuracy]),
        "objects": history(k.losses.KLDivergence(), one_hot, [k.metrics.CategoricalAccuracy("good")]),
        "binary": history("binary_crossentropy", binary, ["accuracy", "Precision", "Recall"], "sigmoid"),
        "list of one": history(["mse"], binary, [["mae"]], "sigmoid"),
        "weights": history("mse", binary, None, "sigmoid", loss_weights=[0.5]),
        "short": history("mse", binary, ["mae", "mape", "msle"], "sigmoid", "rmsprop"),
        "top": history("sparse_categorical_crossentropy", y, [k.metrics.SparseTopKCategoricalAccuracy(k=2)]),
        "nadam": history("hinge", binary, None, "tanh", k.optimizers.Nadam(0.01)),
        "eager": history("mse", binary, None, "sigmoid", run_eagerly=True),
    }


@program
def every_optimizer_and_clipping(keras):
    k = keras.optimizers
    cases = {
        "momentum": k.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        "adam": k.Adam(0.01, amsgrad=True, clipnorm=0.5),
        "adamw": k.AdamW(0.01, weight_decay=0.1),
        "rmsprop": k.RMSprop(0.01, momentum=0.5, centered=True),
        "global": k.Adam(0.01, global_clipnorm=0.1),
        "value": k.SGD(0.1, clipvalue=0.01),
        "average": k.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
        "adagrad": k.Adagrad(0.1),
        "adadelta": k.Adadelta(1.0),
        "adamax": k.Adamax(0.01),
        "lion": k.Lion(0.01),
        "accumulating": k.SGD(0.1, gradient_accumulation_steps=2),
    }
    results = {}
    for name, optimizer in cases.items():
        model = fill(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)]))
        model.compile(optimizer, "mse")
        model.fit(numbers(12, 4), numbers(12, 1, seed=1), batch_size=3, epochs=2, shuffle=False, verbose=0)
        results[name] = model.get_weights(), sorted(optimizer.get_config())
    return results


@program
def subclass_with_everything(keras):
    ops, layers = keras.ops, keras.layers

    class Gate(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, shape):
            self.gate = layers.Dense(self.units, activation="sigmoid", name="gate")
            self.gate.build(shape)

        def call(self, x):
            return x[..., : self.units] * self.gate(x)

    class Tower(keras.Model):
        def __init__(self, depth=2, width=4, **kwargs):
            super().__init__(**kwargs)
            self.depth, self.width = depth, width
            self.entry = layers.Dense(width)
            self.gates = [Gate(width) for _ in range(depth)]
            self.head = keras.Sequential([layers.Dense(3), layers.Softmax()])

        def build(self, input_shape):
            self.bias = self.add_weight(shape=(self.width,), initializer="zeros", name="shared_bias")
            super().build(input_shape)

        def call(self, inputs, training=None, mask=None):
            x = self.entry(inputs["x"]) + self.bias
            for i, gate in enumerate(self.gates):
                x = gate(x)
                if i % 2 == 0:
                    x = x + ops.ones_like(x)
            if training:
                self.add_loss(0.01 * ops.sum(self.bias**2))
            return self.head(x)

        def get_config(self):
            return {**super().get_config(), "depth": self.depth, "width": self.width}

    model = Tower(name="tower")
    x, y = {"x": numbers(10, 5)}, classes(10, 3)
    model(x)
    fill(model)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history
    again = Tower.from_config(model.get_config())
    again(x)
    again.set_weights(model.get_weights())
    return {
        "weights": [tuple(w.shape) for w in model.weights],
        "history": history,
        "prediction": model.predict(x, verbose=0),
        "again": again.predict(x, verbose=0),
        "layers": [type(layer).__name__ for layer in model.layers],
        "params": model.count_params(),
        "config": sorted(model.get_config()),
    }


@program
def shared_and_repeated(keras):
    layers = keras.layers
    shared = layers.Dense(4, activation="relu", name="shared")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.subtract([shared(a), shared(shared(b))])
    x = layers.Multiply()([x, layers.Maximum()([a, b])])
    out = layers.Dot(axes=1, normalize=True)([x, layers.Average()([a, b])])
    model = fill(keras.Model(inputs=[a, b], outputs=out))
    model.compile("sgd", "mse")
    data = [numbers(6, 4), numbers(6, 4, seed=1)]
    history = model.fit(data, numbers(6, 1), batch_size=3, epochs=2, shuffle=False, verbose=0).history
    duplicate = keras.Sequential([keras.Input((4,)), shared])
    same_names = raised(keras.Model, a, layers.Dense(2, name="a")(a)) != "nothing"
    return {
        "history": history,
        "count": (len(model.weights), len(model.layers)),
        "duplicate": duplicate.weights[0] is model.get_layer("shared").kernel,
        "prediction": model.predict(data, verbose=0),
        "not connected": raised(keras.Model, a, shared(b)),
        "same names": same_names,
        "not symbolic": raised(keras.Model, np.ones(3), a) != "nothing",
    }


@program
def images_from_start_to_end(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Conv2D(6, 2, strides=2, groups=2, padding="same"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dropout(0.0),
            layers.Dense(10, activation="softmax"),
        ]
    )
    fill(model, scale=0.1)
    x, y = np.abs(numbers(12, 12, 12, 1)), keras.utils.to_categorical(classes(12, 10), 10)
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=6, epochs=2, shuffle=False, verbose=0, validation_split=0.5).history
    score = model.evaluate(x, y, verbose=0)
    return {
        "history": history,
        "score": score,
        "weights": model.get_weights(),
        "shapes": [layer.output.shape for layer in model.layers],
        "by layer": [layer.count_params() for layer in model.layers],
    }


@program
def lengths_that_vary(keras):
    """A stack takes sequences and images of other sizes than it was built on, as far as its layers do."""
    text = keras.Sequential([keras.layers.Embedding(10, 4), keras.layers.LSTM(3), keras.layers.Dense(1)])
    text.build((None, 5))
    fill(text)
    tokens = np.arange(14).reshape(2, 7) % 10
    flat = keras.Sequential([keras.layers.Flatten()])
    return [
        text.predict(tokens[:, :5], verbose=0),
        text.predict(tokens, verbose=0),
        *[flat.predict(np.ones(shape, "f4"), verbose=0) for shape in ((3, 5, 7), (2, 7, 5))],
        raised(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).predict, np.ones((2, 5)), verbose=0),
    ]


@program
def nested_ends(keras):
    """Inputs and outputs in dicts of dicts, and what a description keeps of tuples and lists."""
    a, b, c = keras.Input((1,), name="a"), keras.Input((2,), name="b"), keras.Input((3,), name="c")
    dense = keras.layers.Dense
    model = keras.Model(
        {"a": a, "more": {"b": b, "c": c}}, {"one": dense(1)(a), "more": {"two": dense(2)(b), "three": dense(3)(c)}}
    )
    fill(model)
    data = {"a": numbers(2, 1), "more": {"b": numbers(2, 2), "c": numbers(2, 3)}}
    results = [model(data), model.predict(data, verbose=0)]
    for kind in (list, tuple):
        pair = keras.Model(a, kind([dense(2)(a), dense(3)(a)]))
        results.append(type(type(pair).from_config(pair.get_config())(numbers(2, 1))).__name__)
    return results


@program
def losses_of_layers_by_call(keras):
    """`losses` are those of the last call: not those of building, nor of an earlier call from elsewhere."""

    class Sum(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.sum(x))
            return x

    inner = keras.Sequential([Sum()])
    inner(np.ones((1, 2)))
    results = [[float(loss) for loss in inner.losses]]
    outer = keras.Sequential([inner])
    outer(3 * np.ones((1, 2)))
    results.append([float(loss) for loss in outer.losses])
    return results


@program
def losses_in_lists(keras):
    """A loss given alone in a list is that loss."""
    x, y1, y2 = numbers(8, 3), numbers(8, 1), classes(8, 2).reshape(8, 1)
    results = []
    for losses in ({"p": ["mse"], "q": ["binary_crossentropy"]}, ["mse", ["binary_crossentropy"]], ["mse", "mse"]):
        inputs = keras.Input((3,))
        p, q = keras.layers.Dense(1, name="p")(inputs), keras.layers.Dense(1, activation="sigmoid", name="q")(inputs)
        model = keras.Model(inputs, {"p": p, "q": q} if isinstance(losses, dict) else [p, q])
        fill(model)
        model.compile(keras.optimizers.SGD(0.1), losses)
        targets = {"p": y1, "q": y2} if isinstance(losses, dict) else [y1, y2]
        results.append(model.fit(x, targets, shuffle=False, verbose=0).history)
    return results


@program
def states_of_stacked_cells(keras):
    """A cell without `get_initial_state` and of an integer `state_size` has a bare state in a stack."""

    class Cell(keras.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = self.state_size = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="ones", name="kernel")

        def call(self, inputs, states):
            output = keras.ops.matmul(inputs, self.kernel) + states[0]
            return output, [output]

    stack = keras.layers.RNN([Cell(3), Cell(2)], return_state=True)
    return list(stack(numbers(2, 4, 5)))


@program
def inputs_from_tensors(keras):
    """`InputLayer` around a symbolic tensor, and what it refuses."""
    Layer = keras.layers.InputLayer
    tensor = keras.KerasTensor((2, 3), "float32")
    layer = Layer(input_tensor=tensor)
    return [
        (tuple(layer.batch_shape), layer.dtype, layer.output is tensor, layer.call()),
        tuple(keras.layers.Input(tensor=keras.KerasTensor((None, 4))).shape),
        raised(Layer, input_tensor=tensor, batch_shape=(5, 3)),
        raised(Layer, input_tensor=tensor, dtype="int32"),
        raised(Layer, shape=(3,), batch_shape=(2, 3)),
        raised(Layer, batch_size=4, batch_shape=(2, 3)),
        raised(Layer),
        raised(Layer, input_tensor=np.zeros((2, 3))),
    ]


@program
def arguments_that_are_refused(keras):
    """Kinds of exceptions, and what an unbuilt stack has not."""
    L = keras.layers
    empty = keras.Sequential()
    return [
        [raised(L.RepeatVector, n) for n in ("3", 3.5, [3], 0)],
        [raised(L.Dense, 2, trainable=value) for value in ("yes", 1, None)],
        raised(L.TimeDistributed(L.Dense(5)), np.zeros((4, 5, 3)), mask=np.ones((4, 6), bool)),
        raised(L.BatchNormalization(), np.zeros((4, 5, 3)), mask=np.ones((4, 6), bool), training=True),
        [hasattr(empty, name) for name in ("input_shape", "output_shape", "inputs", "outputs")],
        [L.Dropout(0.5).built, L.ReLU().built, L.Add().built, L.Dense(1).built, L.Activation("relu").built],
    ]


@program
def normalisation_with_masks(keras):
    """Masked batch statistics along any axis, and with a mask that has to be repeated."""
    x = numbers(3, 4, 5)
    results = []
    for axis, mask in (
        (1, numbers(3, 4) > 0),
        (-1, numbers(3, 4) > 0),
        (-1, numbers(1, 4) > 0),
        (2, numbers(3, 1) > 0),
    ):
        layer = keras.layers.BatchNormalization(axis=axis, momentum=0.5)
        layer.build(x.shape)
        fill(layer)
        results.append([layer(x, training=True, mask=mask), *layer.get_weights()])
    return results


@program
def activation_taken_off(keras):
    """A layer whose activation was set to None is linear, and a threshold does not pass what equals it."""
    dense, convolution = keras.layers.Dense(3, activation="relu"), keras.layers.Conv1D(2, 2, activation="relu")
    results = []
    for layer, x in ((dense, numbers(2, 4)), (convolution, numbers(2, 5, 3))):
        layer.build(x.shape)
        fill(layer)
        layer.activation = None
        results.append(layer(x))
    x = np.array([[6.0, 5.0, 0.0, -5.0, 10.0]], "f4")
    results.append(keras.layers.ReLU(max_value=8, threshold=5)(x))
    results.append(keras.layers.ReLU(negative_slope=0.5, threshold=5)(x))
    return results
