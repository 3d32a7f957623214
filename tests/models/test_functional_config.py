"""The description of functional models: what it says, and that it comes back with every kind of wiring."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikeras
from minikeras import layers, ops
from minikeras.autodiff import composite, differentiable
from minikeras.models import Functional, clone_model, model_from_config, model_from_json
from minikeras.saving import register_keras_serializable

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)


def rebuilt(model):
    """The model from its description, with its weights."""
    config = json.loads(json.dumps(model.get_config()))
    copy = type(model).from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config
    copy.set_weights(model.get_weights())
    return copy


def assert_same(model, x):
    copy = rebuilt(model)
    expected, got = model.predict(x, verbose=0), copy.predict(x, verbose=0)
    assert type(expected) is type(got)
    if isinstance(expected, dict):
        assert list(expected) == list(got)
    for a, b in zip(minikeras.tree.flatten(expected), minikeras.tree.flatten(got), strict=True):
        assert np.array_equal(a, b)
    return copy


def test_says_what_keras_says():
    x = minikeras.Input((3,), name="x")
    model = minikeras.Model(x, layers.Dense(2, name="d")(x) + 1.0, name="m")
    config = json.loads(json.dumps(model.get_config()))
    assert (config["name"], config["trainable"]) == ("m", True)
    assert (config["input_layers"], config["output_layers"]) == (["x", 0, 0], ["add", 0, 0])
    entrance, dense, add = config["layers"]
    assert entrance["inbound_nodes"] == []
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 3], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    assert dense["name"] == "d" and dense["inbound_nodes"] == [{"args": [tensor], "kwargs": {}}]
    assert {key: add[key] for key in ("module", "class_name", "config", "registered_name")} == {
        "module": "keras.src.ops.numpy",
        "class_name": "Add",
        "config": {"name": "add"},
        "registered_name": "Add",
    }
    assert add["inbound_nodes"][0]["args"][1] == 1.0


def test_shared_layer_has_several_calls():
    x, y = minikeras.Input((3,), name="x"), minikeras.Input((3,), name="y")
    shared = layers.Dense(3)
    model = minikeras.Model([x, y], layers.Subtract()([shared(shared(x)), shared(y)]))
    copy = assert_same(model, [X, 2 * X])
    assert len(copy.layers) == 4 and copy.count_params() == shared.count_params()


def test_only_the_calls_of_this_model_count():
    x = minikeras.Input((3,))
    shared = layers.Dense(3)
    minikeras.Model(x, shared(x))
    y = minikeras.Input((3,))
    model = minikeras.Model(y, shared(layers.ReLU()(shared(y))))
    assert [len(layer["inbound_nodes"]) for layer in model.get_config()["layers"]] == [0, 2, 1]
    assert_same(model, X)


def test_structures_of_ends():
    a, b = minikeras.Input((3,), name="a"), minikeras.Input((3,), name="b")
    d = layers.Dense(2)
    for inputs, outputs, data in (
        ({"a": a, "b": b}, {"sum": d(a) + d(b), "both": [a + b, a * b]}, {"a": X, "b": X}),
        ([a, b], [a + b, b], [X, X]),
        ([a], [a * 2.0], [X]),
        (a, [a * 2.0, {"x": a + 1.0}], X),
    ):
        model = minikeras.Model(inputs, outputs)
        copy = assert_same(model, data)
        assert minikeras.tree.flatten(copy.output_shape) == minikeras.tree.flatten(model.output_shape)


def test_nested_models():
    inner_input = minikeras.Input((3,))
    inner = minikeras.Model(inner_input, [layers.Dense(3)(inner_input), layers.Dense(2)(inner_input)], name="inner")
    stack = minikeras.Sequential([layers.Dense(3), layers.ReLU()], name="stack")
    x = minikeras.Input((3,))
    first, second = inner(stack(x))
    model = minikeras.Model(x, [*inner(first), second, stack(first)])
    copy = assert_same(model, X)
    assert isinstance(copy.get_layer("inner"), Functional)


def test_model_between_tensors_inside_another():
    x = minikeras.Input((3,))
    hidden = layers.Dense(4, name="before")(x)
    output = layers.Dense(2, name="after")(ops.tanh(hidden * 2.0))
    model = minikeras.Model(hidden, output)
    assert [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)] == ["after"]
    assert len(model.weights) == 2
    whole, start = minikeras.Model(x, output), minikeras.Model(x, hidden)
    np.testing.assert_allclose(
        model.predict(start.predict(X, verbose=0), verbose=0), whole.predict(X, verbose=0), atol=1e-6
    )
    assert_same(model, np.ones((2, 4), "f4"))


def test_unused_input():
    x, y = minikeras.Input((3,)), minikeras.Input((3,))
    assert_same(minikeras.Model([x, y], layers.Dense(2)(x)), [X, X])


def test_arguments_of_calls():
    class Scale(layers.Layer):
        def call(self, x, factor, shift=None, table=None):
            return x * factor + (0.0 if shift is None else shift) + table["t"]

    minikeras.utils.register_keras_serializable("functional_tests")(Scale)
    x = minikeras.Input((3,))
    model = minikeras.Model(x, Scale()(x, 3.0, shift=x, table={"t": np.float32(2)}))
    assert_same(model, X)
    np.testing.assert_allclose(model.predict(X, verbose=0), 4 * X + 2, atol=1e-6)


def test_states_and_masks():
    x = minikeras.Input((5,), dtype="int32")
    h = layers.Embedding(7, 3, mask_zero=True)(x)
    sequence, state, carry = layers.LSTM(3, return_sequences=True, return_state=True)(h)
    model = minikeras.Model(x, layers.LSTM(3)(sequence, initial_state=[state, carry]))
    assert_same(model, np.array([[1, 2, 3, 0, 0], [6, 5, 4, 3, 2]]))


def test_training_flag_of_a_call():
    x = minikeras.Input((300,))
    model = minikeras.Model(x, layers.Dropout(0.5, seed=1)(x, training=True))
    assert (rebuilt(model).predict(np.ones((1, 300), "f4"), verbose=0) == 0).any()


def test_subclasses():
    class Own(minikeras.Model):
        pass

    class WithSettings(minikeras.Model):
        def __init__(self, units=2, **kwargs):
            x = minikeras.Input((3,))
            super().__init__(x, layers.Dense(units)(x), **kwargs)
            self.units = units

    x = minikeras.Input((3,))
    assert type(assert_same(Own(x, layers.Dense(2)(x)), X)) is Own
    model = WithSettings(units=4, name="w")
    assert model.get_config()["units"] == 4 and "layers" not in model.get_config()
    assert_same(model, X)


def test_trainable_and_types():
    x = minikeras.Input((3,))
    frozen, double = layers.Dense(3, trainable=False), layers.Dense(2, dtype="float64")
    copy = rebuilt(minikeras.Model(x, double(frozen(x)), trainable=True))
    assert [layer.trainable for layer in copy.layers[1:]] == [False, True]
    assert copy.predict(X, verbose=0).dtype == np.float64


def test_json_and_clone():
    x = minikeras.Input((3,))
    model = minikeras.Model(x, layers.Dense(2)(x))
    model.compile("adam", "mse", metrics=["mae"])
    copy = model_from_json(model.to_json(indent=1))
    assert copy.compiled and type(copy.optimizer) is type(model.optimizer)
    clone = clone_model(model)
    assert clone.compiled and clone.optimizer is not model.optimizer
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])


def test_clone_of_users_classes():
    class Own(minikeras.Model):
        def __init__(self, units):
            super().__init__()
            self.units, self.dense = units, layers.Dense(units)

        def call(self, x):
            return self.dense(x)

    model = Own(4)
    model(X)
    clone = clone_model(model)
    assert clone.dense is not model.dense and clone(X).shape == (8, 4)


def config_of_a_model():
    x = minikeras.Input((3,), name="x")
    return json.loads(minikeras.Model(x, layers.Dense(2, name="d")(x) * 2.0, name="m").to_json())


WRONG = {
    "loop": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["multiply", 0, 0]),
    "unknown layer": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["y", 0, 0]),
    "unknown call": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["x", 1, 0]),
    "unknown output": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["x", 0, 1]),
    "negative call": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["x", -1, 0]),
    "no history": lambda c: dense(c)["inbound_nodes"][0]["args"][0]["config"].pop("keras_history"),
    "two of one name": lambda c: c["config"]["layers"].append(dense(c)),
    "unconnected": lambda c: c["config"]["layers"].append({**dense(c), "name": "e"}),
    "layers that are none": lambda c: c["config"].update(layers="Dense"),
    "a layer that is none": lambda c: c["config"]["layers"].append("Dense"),
    "a layer that is an optimizer": lambda c: dense(c).update(module="keras.optimizers", class_name="Adam", config={}),
    "calls in no way": lambda c: dense(c).update(inbound_nodes=[["x", 0, 0, {}, 3]]),
    "ends that are none": lambda c: c["config"].update(output_layers=3),
    "an end that is unknown": lambda c: c["config"].update(output_layers=["y", 0, 0]),
    "function with unknown settings": lambda c: c["config"]["layers"][2]["config"].update(out=1),
    "function that is not known": lambda c: c["config"]["layers"][2].update(class_name="Save"),
    "function of another module": lambda c: c["config"]["layers"][2].update(module="numpy"),
    "function without inputs": lambda c: c["config"]["layers"][2].update(inbound_nodes=[]),
    "wrong arguments": lambda c: dense(c)["inbound_nodes"][0].update(args=[]),
    "unknown keywords": lambda c: dense(c)["inbound_nodes"][0].update(kwargs={"evil": 1}),
}


def dense(config):
    return config["config"]["layers"][1]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_descriptions(name):
    config = config_of_a_model()
    WRONG[name](config)
    with pytest.raises(ValueError) as error:
        model_from_config(config)
    assert "\n" not in str(error.value)


@given(st.data())
def test_any_graph(data):
    """Random graphs of shared layers, merges and functions come back as they were."""
    tensors = [minikeras.Input((3,)), minikeras.Input((3,))]
    pool = [layers.Dense(3), layers.Dense(3, activation="tanh"), layers.BatchNormalization()]
    for _ in range(data.draw(st.integers(1, 12))):
        a, b = (data.draw(st.sampled_from(tensors)) for _ in range(2))
        use = data.draw(st.integers(0, 5))
        merge = {3: layers.Add(), 4: lambda pair: pair[0] - pair[1], 5: lambda pair: ops.maximum(*pair) * 2.0}
        tensors.append(pool[use](a) if use < 3 else merge[use]([a, b]))
    assert_same(minikeras.Model(tensors[:2], tensors[-2:]), [X, X + 1])


# ---------------------------------------------------------------- operations of the user


@register_keras_serializable("tests", "bend")
@differentiable
def bend(x, weight=None, *, strength=1.0, axes=()):
    y = np.tanh(strength * x) if weight is None else np.tanh(strength * x) * weight
    slope = strength * (1 - np.tanh(strength * x) ** 2)
    return y.sum(axis=tuple(axes), keepdims=True), lambda g, needs: (
        g * slope * (1 if weight is None else weight),
        None,
    )


@composite
def twice(x, factor):
    return ops.multiply(x, 2 * factor)


@pytest.mark.parametrize("way", ["file", "json", "clone", "config"])
def test_operations_of_the_user_are_described(way, tmp_path):
    inputs = minikeras.Input((3,))
    hidden = layers.Dense(4)(inputs)
    outputs = twice(bend(hidden, np.arange(4.0), strength=0.5, axes=[1]) + bend(x=hidden), factor=3.0)
    model = minikeras.Model(inputs, outputs)
    objects = {"twice": twice}  # bend is registered
    if way == "file":
        model.save(tmp_path / "m.keras")
        again = minikeras.models.load_model(tmp_path / "m.keras", custom_objects=objects)
    elif way == "json":
        again = minikeras.models.model_from_json(model.to_json(), custom_objects=objects)
    elif way == "clone":
        again = minikeras.models.clone_model(model)
    else:
        again = minikeras.Model.from_config(model.get_config(), custom_objects=objects)
    again.set_weights(model.get_weights())
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    again.compile("sgd", "mse")
    before = again.get_weights()[0]
    again.fit(x, np.ones((5, 4)), verbose=0)
    assert (again.get_weights()[0] != before).any()


def test_an_operation_that_nobody_knows_is_refused(tmp_path):
    inputs = minikeras.Input((3,))
    model = minikeras.Model(inputs, twice(inputs, 2.0))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="twice"):
        minikeras.models.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="twice"):  # and one that is no operation
        minikeras.models.load_model(tmp_path / "m.keras", custom_objects={"twice": lambda x, factor: x})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [lambda: layers.Dropout(0.5), lambda: layers.RandomFlip("horizontal")])
def test_training_that_was_said_is_kept(make, training):
    x = minikeras.Input((8, 8, 3))
    model = model_from_json(minikeras.Model(x, make()(x, training=training)).to_json())
    pictures = np.random.default_rng(0).uniform(size=(16, 8, 8, 3)).astype("float32")
    for mode in (True, False):
        assert np.any(np.asarray(model(pictures, training=mode)) != pictures) == training
