"""State trees, calls with other values, random streams as variables, added metrics, copies with compile's arguments."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import minikeras
from minikeras import Input, Model, Sequential, layers, ops, optimizers
from minikeras.models import clone_model

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


def net():
    return Sequential([Input((3,)), layers.Dense(2, name="d"), layers.Dropout(0.5, seed=3)], name="net")


def test_a_state_tree_restores_everything():
    model = net()
    model.compile(optimizers.Adam(name="adam"), "mse")
    model.fit(X, X[:, :2], verbose=0)
    state = model.get_state_tree("numpy_array")
    assert set(state["optimizer_variables"]["adam"]) >= {"iteration", "learning_rate", "net_d_kernel_momentum"}
    assert state["non_trainable_variables"]["seed_generator"]["seed_generator_state"][0] == 3
    after = model.train_on_batch(X, X[:, :2]), model.get_weights()
    model.set_state_tree(state)
    again = model.train_on_batch(X, X[:, :2]), model.get_weights()
    assert again[0] == after[0]
    for a, b in zip(again[1], after[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_trees_that_do_not_fit_change_nothing():
    model = net()
    before = model.get_weights()[0]
    good = {"net": {"d": {"kernel": before + 1}}}
    for wrong, said in (
        ({"trainable_variables": {**good, "net2": 1}}, "Unknown path in trainable_variables of 'net' 'net2'"),
        ({"trainable_variables": good, "trainable": {}}, "Unknown part of a state tree 'trainable'; did you mean"),
        ({"trainable_variables": {"net": {"d": {**good["net"]["d"], "bias": [1.0]}}}}, "cannot take a value of shape"),
    ):
        with pytest.raises(ValueError, match=said):
            model.set_state_tree(wrong)
        np.testing.assert_array_equal(model.get_weights()[0], before)
    with pytest.raises(TypeError, match="takes the dict of get_state_tree"):
        model.set_state_tree([1])
    twice = Sequential([Input((3,)), layers.Dense(1, name="a")], name="same")
    outer = Model(
        twice.input,
        layers.Concatenate()(
            [twice.output, Sequential([Input((3,)), layers.Dense(1, name="a")], name="same")(twice.input)]
        ),
    )
    with pytest.raises(ValueError, match="got 'same/a/kernel' twice"):
        outer.get_state_tree()


def test_random_streams_are_variables():
    model = net()
    (state,) = [one for one in model.non_trainable_variables if "seed" in one.path]
    generator = model.layers[-1].seed_generator
    assert state.numpy().tolist() == [3, 0] and state.path == "seed_generator/seed_generator_state"
    first = model(X, training=True).numpy()
    assert state.numpy().tolist()[1] == generator.counter > 0
    state.assign([3, 0])
    np.testing.assert_array_equal(model(X, training=True).numpy(), first)
    with pytest.raises(ValueError, match="cannot take"):
        state.assign([0.5, 1])
    assert len(model.weights) == 2 and len(model.variables) == 3


def test_calls_with_other_values_leave_the_layer_as_it_was():
    layer = layers.Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()
    outputs, others = layer.stateless_call([np.ones((3, 2)), np.ones(2)], [], X)
    np.testing.assert_allclose(outputs.numpy(), np.repeat(X.sum(1, keepdims=True) + 1, 2, axis=1), rtol=1e-5)
    assert others == []
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="has 2 trainable and 0 other variables, got 1 and 0 values"):
        layer.stateless_call([np.ones((3, 2))], [], X)
    with pytest.raises(ValueError, match="is not built"):
        layers.Dense(2).stateless_call([], [], X)
    values = [minikeras.Variable(one) for one in before]
    with minikeras.GradientTape(), pytest.raises(NotImplementedError, match="Gradients do not reach the values"):
        layer.stateless_call(values, [], X)


def test_metrics_added_to_a_functional_model():
    x = Input((3,))
    code = layers.Dense(2, name="code")(x)
    model = Model(x, layers.Dense(3)(code))
    model.add_metric(ops.sum(ops.square(code), axis=-1), name="energy")
    model.add_loss(ops.mean(ops.square(code)))
    model.compile("sgd", "mse")
    logs = model.evaluate(X, X, batch_size=2, verbose=0, return_dict=True)
    coded = Model(x, code).predict(X, verbose=0)
    assert logs["energy"] == pytest.approx(np.square(coded).sum(-1).mean(), rel=1e-5)
    history = model.fit(X, X, epochs=2, validation_data=(X, X), verbose=0).history
    assert {"energy", "val_energy", "loss", "val_loss"} == set(history)
    assert "energy" in model.metrics_names
    copied = copy.deepcopy(model)
    assert copied.evaluate(X, X, verbose=0, return_dict=True) == model.evaluate(X, X, verbose=0, return_dict=True)
    with pytest.raises(ValueError, match="does not follow from its inputs alone"):
        model.add_metric(Input((3,)) * 2, name="other")
    for arguments, said in (
        ({"name": None}, "needs a name"),
        ({"name": "n", "aggregation": "sum"}, "takes aggregation"),
    ):
        with pytest.raises(ValueError, match=said):
            model.add_metric(code, **arguments)


def test_files_say_which_added_metrics_they_do_not_hold(tmp_path):
    x = Input((3,))
    hidden = layers.Dense(2)(x)
    model = Model(x, layers.Dense(1)(hidden), name="net")
    model.add_metric(ops.mean(hidden), name="hidden")
    for write in (lambda: model.save(tmp_path / "model.keras"), model.to_json):
        with pytest.warns(UserWarning, match=r"metrics \['hidden'\] given to add_metric\(\) of the model 'net'"):
            write()

    class Own(Model):
        def __init__(self, units=2):
            x = Input((3,))
            hidden = layers.Dense(units)(x)
            super().__init__(x, hidden)
            self.add_metric(ops.mean(hidden), name="hidden")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Own().to_json()  # the class adds it again


def test_metrics_added_in_call():
    class Noted(layers.Layer):
        def call(self, x):
            self.add_metric(ops.mean(x), name="middle")
            return x

    model = Sequential([Noted(), layers.Dense(1)])
    model.compile("sgd", "mse")
    model(X)
    logs = model.evaluate(X, X[:, :1], batch_size=3, verbose=0, return_dict=True)
    assert logs["middle"] == pytest.approx(X.mean(), abs=1e-6)
    with pytest.raises(ValueError, match=r"takes a tensor that call\(\) computes"):
        model.layers[0].add_metric(ops.ones(2), name="outside")


def test_clones_are_compiled_alike():
    model = net()
    model.compile(optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)), "mse", metrics=["mae"])
    model.fit(X, X[:, :2], verbose=0)
    clone = clone_model(model)
    assert clone.compiled and clone.optimizer is not model.optimizer and int(clone.optimizer.iterations) == 0
    assert clone.loss == "mse"
    assert np.isfinite(clone.fit(X, X[:, :2], verbose=0).history["mae"][0])


def test_optional_inputs_may_be_none_and_others_not():
    class Both(layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x * y

        def compute_output_shape(self, x_shape):
            return x_shape

    a, b = Input((3,), name="a"), Input((3,), name="b", optional=True)
    model = Model([a, b], Both()(a, b))
    np.testing.assert_array_equal(model.predict([X, None], verbose=0, batch_size=2), X)
    with pytest.raises(ValueError, match="at its input 'a', which is not optional, got None"):
        model([None, X])
    again = Model.from_config(Model(b, layers.Dense(1)(b)).get_config())
    assert again.layers[0].optional
    clone = clone_model(Model({"x": b}, layers.Dense(1)(b)), clone_function=lambda layer: layer)
    assert clone.layers[0].optional


def test_names_in_the_order_of_the_alphabet_or_not():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    outputs = layers.Subtract()([a, b])
    np.testing.assert_array_equal(Model({"a": a, "b": b}, outputs)([X, X]).numpy(), 0 * X)
    with pytest.raises(ValueError, match=r"has the inputs \['b', 'a'\] by name, whose order"):
        Model({"b": b, "a": a}, outputs)([X, X])
    with pytest.warns(UserWarning, match=r"has no inputs \['c'\]"):
        Model({"a": a, "b": b}, outputs)({"a": X, "b": X, "c": X})


def test_what_models_do_not_do_says_so():
    with pytest.raises(NotImplementedError, match=r"got export\('here'\); save\(\) writes a \.keras file"):
        net().export("here")
    with pytest.raises(NotImplementedError, match=r"got quantize\('int8'\)"):
        net().quantize("int8")
    assert net().state_updates == net().updates == []
