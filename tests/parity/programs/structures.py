"""Programs whose outputs, losses, metrics and inputs are nested, absent or named."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from parity.programs.common import fill, numbers, program, raised

Pair = namedtuple("Pair", ["left", "right"])

STRUCTURES = {
    "dict": lambda a, b, c: {"q": a, "b": b, "n": c},
    "dict_of_lists": lambda a, b, c: {"x": [a, b], "w": c},
    "list_of_named": lambda a, b, c: [Pair(a, b), {"c": c}],
}


def three_heads(keras, structure):
    """A model whose three outputs come in a structure."""
    inputs = keras.Input((4,))
    heads = [keras.layers.Dense(n + 1, name=name)(inputs) for n, name in enumerate(("z", "a", "m"))]
    return fill(keras.Model(inputs, structure(*heads)))


def _rows(structure, count):
    """The first rows of every array."""
    if isinstance(structure, dict):
        return {key: _rows(value, count) for key, value in structure.items()}
    if isinstance(structure, Pair):
        return Pair(*(part[:count] for part in structure))
    return (
        type(structure)(_rows(value, count) for value in structure)
        if isinstance(structure, (list, tuple))
        else structure[:count]
    )


def outputs_program(name, structure):
    """Enter a program that compiles for outputs of this structure in every way."""

    def run(keras):
        x, y = numbers(6, 4), structure(numbers(6, 1, seed=5), numbers(6, 2, seed=6), numbers(6, 3, seed=7))
        metrics = structure(["mae"], ["mse"], ["mae", "mse"])
        weights = structure(np.arange(6.0), np.ones(6), np.ones(6) * 0.5)
        model = three_heads(keras, structure)
        model.compile(
            "sgd",
            loss=structure("mse", "mae", "mse"),
            loss_weights=structure(1.0, 0.5, 2.0),
            metrics=structure("mse", "mae", ["mae"]),
            weighted_metrics=metrics,
        )
        history = model.fit(x, y, batch_size=3, shuffle=False, verbose=0, sample_weight=weights).history
        seen = {"trained": (history, model.metrics_names, model.train_on_batch(x[:3], _rows(y, 3)))}
        partial = three_heads(keras, structure)
        partial.compile("sgd", ["mse", None, "mse"], loss_weights=[1.0, 0.5, 0.25])
        few = partial.evaluate(x, y, verbose=0, return_dict=True, sample_weight=np.arange(6.0))
        predicted = partial.predict(x, verbose=0)
        return {
            **seen,
            "without one": (few, partial.metrics_names),
            "predicted": (predicted, type(predicted).__name__),
            "names": (model.output_names, model.output_shape),
            "too few": raised(partial.evaluate, x, numbers(6, 1), verbose=0),
        }

    run.__name__ = f"outputs_as_{name}"
    return program(run)


for _name, _structure in STRUCTURES.items():
    outputs_program(_name, _structure)


@program
def targets_for_some_outputs(keras):
    inputs = keras.Input((3,))
    layers = keras.layers
    model = fill(keras.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(2, name="b")(inputs)]))
    x, y = numbers(4, 3), numbers(4, 2, seed=1)
    model.compile("sgd", loss=[None, "mse"])
    alone = model.evaluate(x, [y], verbose=0, return_dict=True)
    model.compile("sgd", loss={"a": "mse", "b": "mae"}, metrics={"b": ["mse"]}, loss_weights={"b": 3.0, "a": 0.5})
    by_name = model.evaluate(x, {"b": y, "a": y[:, :1]}, verbose=0, return_dict=True)
    return alone, by_name, model.metrics_names


@program
def outputs_of_a_subclass(keras):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = keras.layers.Dense(1), keras.layers.Dense(2)

        def call(self, x):
            return {"one": self.a(x), "two": [self.b(x), self.b(x) * 2]}

    model = Net()
    model(numbers(2, 3))
    fill(model)
    x = numbers(4, 3)
    y = {"one": numbers(4, 1), "two": [numbers(4, 2, seed=1), numbers(4, 2, seed=2)]}
    model.compile("sgd", loss={"one": "mse", "two": ["mse", "mae"]}, metrics={"one": "mae", "two": ["mse", "mse"]})
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    return logs["loss"], logs["one_loss"], sorted(name for name in logs if not name.startswith("two")), len(logs)


@program
def optional_inputs(keras):
    layers = keras.layers

    class Both(layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x + y

        def compute_output_shape(self, x_shape):
            return x_shape

    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b", optional=True)
    outputs = layers.Dense(2, name="d")(Both()(a, b))
    model = fill(keras.Model({"a": a, "b": b}, outputs))
    model.compile("sgd", "mse")
    x, y = numbers(6, 3), numbers(6, 2, seed=4)
    half = {"a": x, "b": None}
    return {
        "without": model(half),
        "with": model({"a": x, "b": x}),
        "list": keras.Model([a, b], outputs)([x, None]),
        "trained": model.fit(half, y, batch_size=3, epochs=2, shuffle=False, verbose=0).history,
        "predicted": model.predict(half, verbose=0, batch_size=4),
        "on batch": model.predict_on_batch(half),
        "evaluated": model.evaluate(half, y, verbose=0),
        "required": raised(model, {"a": None, "b": x}),
        "config": model.get_layer("b").get_config()["optional"],
    }


@program
def several_inputs_of_a_sequential(keras):
    layers = keras.layers

    class Take(layers.Layer):
        def call(self, inputs):
            return inputs["a"] * 2 + inputs["b"]

    model = keras.Sequential([Take(), layers.Dense(2, kernel_initializer="ones")])
    x = {"a": numbers(5, 3), "b": numbers(5, 3, seed=3)}
    called = model(x)
    model.compile("sgd", "mse")
    merging = keras.Sequential([layers.Add(), layers.Dense(1, kernel_initializer="ones")])
    return {
        "called": called,
        "trained": model.fit(x, numbers(5, 2), epochs=2, batch_size=5, verbose=0).history,
        "predicted": model.predict(x, verbose=0),
        "weights": len(model.weights),
        "built": model.built,
        "merged": merging([numbers(2, 3), numbers(2, 3, seed=1)]),
        "other shape": raised(keras.Sequential([keras.Input((2,), 3), layers.Dense(2)]).build, (3, 4)),
    }


@program
def inputs_by_name(keras):
    a, b = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    outputs = keras.layers.Concatenate()([a, b])
    model = keras.Model({"x": a, "a": b}, outputs)
    x, y = numbers(2, 3), numbers(2, 2)
    return {
        "dict": model({"x": x, "a": y}),
        "list": raised(model, [x, y]),
        "wrong": raised(model, {"one": x, "two": y}),
        "missing": raised(model, {"x": x}),
        "of a list": keras.Model([a, b], outputs)({"two": y, "one": x}),
    }


@program
def clones(keras):
    layers = keras.layers
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="inner")], name="nested")
    model = keras.Model({"x": x, "y": y}, {"sum": inner(x + y), "out": layers.Dense(2, name="d")(y)})
    fill(model)
    model.compile("sgd", "mse", metrics={"out": ["mae"]})
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    data = {"x": numbers(2, 3), "y": numbers(2, 3, seed=1)}
    fresh = {"x": keras.Input((3,), name="p"), "y": keras.Input((3,), name="q")}
    on_new = keras.models.clone_model(model, input_tensors=fresh)
    marked = []

    def mark(layer):
        marked.append(layer.name)
        return layer.__class__.from_config(layer.get_config())

    deep = keras.models.clone_model(model, clone_function=mark, recursive=True)
    calls = []

    def call(layer, *args, **kwargs):
        calls.append(layer.name)
        return layer(*args, **kwargs)

    shallow = keras.models.clone_model(
        keras.Model(x, layers.Dense(1, name="only")(x)), clone_function=lambda layer: layer, call_function=call
    )
    sequential = keras.models.clone_model(inner, input_tensors=keras.Input((3,), name="r"))
    return {
        "compiled": (clone.compiled, type(clone.optimizer).__name__, clone.optimizer is model.optimizer),
        "output": clone(data),
        "inputs": sorted(on_new.input),
        "other structure": raised(keras.models.clone_model, model, input_tensors=(fresh["x"], fresh["y"])),
        "deep": (sorted(name for name in marked if name in ("inner", "d")), sorted(deep.output)),
        "called": [name for name in calls if name == "only"],
        "shallow": len(shallow.layers),
        "sequential": (sequential.input_shape, sequential.inputs[0].name),
    }
