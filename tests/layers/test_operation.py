"""Uses of layers in graphs under Keras 2's names, and operations of one's own."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
import pytest

import minikeras
from minikeras import Input, Model, Operation, layers


class Scale(Operation):
    def __init__(self, factor, *, shift=0.0, name=None):
        super().__init__(name=name)
        self.factor, self.shift = factor, shift

    def call(self, x):
        return x * self.factor + self.shift


def test_uses_under_keras_2_names():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    shared = layers.Dense(2, name="shared")
    first, second = shared(a), shared(b)
    both = layers.Add(name="both")([first, second])
    assert shared.input_shape == (None, 3) and shared.output_shape == (None, 2)
    assert shared.get_input_at(0) is a and shared.get_output_at(1) is second
    assert shared.get_input_shape_at(1) == (None, 3) and shared.get_output_shape_at(-1) == (None, 2)
    assert len(shared.inbound_nodes) == 2 and shared.inbound_nodes is shared._inbound_nodes
    adder = both._keras_history[0]
    assert [node.outbound_layer for node in shared.outbound_nodes] == [adder, adder]
    assert adder.inbound_nodes[0].inbound_layers == [shared, shared]
    assert shared.inbound_nodes[0].inbound_layers is a._keras_history[0] and shared.inbound_nodes[0].parent_nodes
    assert a._keras_history[0].inbound_nodes[0].is_input and a._keras_history[0].input_shape == (None, 3)
    assert adder.input_shape == [(None, 2), (None, 2)]
    assert shared.updates == [] and shared.stateful is False
    with pytest.raises(ValueError, match="'shared' is used 2 times in graphs, got the number 2"):
        shared.get_output_at(2)


def test_several_shapes_have_no_one_shape():
    flat = layers.Flatten(name="flat")
    flat(Input((2, 3)))
    flat(Input((4,)))
    with pytest.raises(AttributeError, match=r"used with several output shapes.*get_output_shape_at"):
        _ = flat.output_shape
    with pytest.raises(AttributeError, match="has not been used in a graph"):
        _ = layers.Flatten().input_shape


def test_layers_may_use_these_names_themselves():
    class Own(layers.Layer):
        def __init__(self, output_shape, **kwargs):
            super().__init__(**kwargs)
            self.output_shape = output_shape

        def call(self, x):
            return x

    assert Own(7).output_shape == 7 and Own(7).get_config()["output_shape"] == 7
    assert Own.from_config(Own(7).get_config()).output_shape == 7


def test_what_uses_an_operation_is_not_kept_by_it():
    base = layers.Dense(2)(Input((3,)))
    head = weakref.ref(Model(base._keras_history[0].input, layers.Dense(1)(base)))
    gc.collect()
    assert head() is None
    assert base._keras_history[0].outbound_nodes == []


def test_operations_in_graphs():
    x = Input((2,))
    scale = Scale(3.0, name="scale")
    model = Model(x, scale(x))
    assert [one.name for one in model.operations][1:] == ["scale"] and len(model.layers) == 1
    data = np.arange(4, dtype="float32").reshape(2, 2)
    np.testing.assert_array_equal(model(data).numpy(), 3 * data)
    for _ in range(2):  # the second would be replayed
        np.testing.assert_array_equal(model.predict(data, verbose=0), 3 * data)
    scale.factor = 5.0
    np.testing.assert_array_equal(model.predict(data, verbose=0), 5 * data)
    np.testing.assert_array_equal(scale(data), 5 * data)
    assert scale.input_shape == (None, 2) and isinstance(layers.Dense(1), Operation)
    with minikeras.GradientTape() as tape:
        tensor = minikeras.Variable(data)
        total = minikeras.ops.sum(scale(tensor))
    np.testing.assert_array_equal(tape.gradient(total, tensor).numpy(), np.full((2, 2), 5.0))


def test_operations_are_described_and_copied(tmp_path):
    scale = Scale(2.0, shift=1.0)
    assert scale.get_config() == {"factor": 2.0, "shift": 1.0, "name": scale.name}
    assert Scale.from_config(scale.get_config()).shift == 1.0
    x = Input((2,))
    model = Model(x, scale(x))
    data = np.ones((1, 2), "float32")
    with minikeras.utils.custom_object_scope({"Scale": Scale}):
        model.save(tmp_path / "scaled.keras")
        again = minikeras.models.load_model(tmp_path / "scaled.keras")
    for one in (again, pickle.loads(pickle.dumps(model)), minikeras.models.clone_model(model, clone_function=str)):
        np.testing.assert_array_equal(one(data).numpy(), np.full((1, 2), 3.0))


def test_operations_that_are_wrong():
    with pytest.raises(ValueError, match="takes a name of type str without '/', got 'a/b'"):
        Scale(1.0, name="a/b")
    with pytest.raises(NotImplementedError, match="does not define call"):
        Operation()(np.ones(2))

    class Any(Operation):
        def __init__(self, *sizes):
            super().__init__()

    with pytest.raises(NotImplementedError, match="takes any number of arguments; give it a get_config"):
        Any(1, 2).get_config()
