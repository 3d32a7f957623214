"""What belongs to which output, in every form in which it may be given."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from minikeras import Input, Model, Sequential, layers
from minikeras.training.data import to_arrays
from minikeras.training.outputs import Outputs

Pair = namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize(
    ("structure", "names", "loss_names", "metric_names"),
    [
        (0, ["d"], ["d"], [None]),
        ([0, 0], ["d", "e"], ["d", "e"], ["d", "e"]),
        ({"b": 0, "a": 0}, ["d", "e"], ["a", "b"], ["a", "b"]),
        (Pair(0, 0), ["d", "e"], ["d", "e"], ["d", "e"]),
        ({"x": [0, 0], "w": 0}, ["c", "d", "e"], ["w", "x/d", "x/e"], ["c", "d", "e"]),
        ([{"x": 0}, (0,)], ["d", "e"], ["0/x", "1/e"], ["d", "e"]),
        ([0, 0], None, ["output_0", "output_1"], [None, None]),
    ],
)
def test_names(structure, names, loss_names, metric_names):
    outputs = Outputs(structure, names)
    assert (outputs.loss_names, outputs.metric_names) == (loss_names, metric_names)


def test_forms():
    outputs = Outputs({"x": [0, 0], "w": 0}, ["c", "d", "e"])
    assert outputs.spread("mse", "loss") == ["mse"] * 3
    assert outputs.spread([1, 2, 3], "loss") == [1, 2, 3]
    assert outputs.spread({"w": 1, "x": (2, 3)}, "loss") == [1, 2, 3]
    assert outputs.spread({"x": (2, 3)}, "loss") == [None, 2, 3]
    assert outputs.spread({"d": 2, "c": 1}, "loss") == [1, 2, None]
    assert outputs.spread({"w": 1, "x": 2}, "loss") == [1, 2, 2]
    assert outputs.spread({"w": [1], "x": [[2], [3, 4]]}, "metrics", lists=True) == [[1], [2], [3, 4]]
    assert outputs.targets([5], [False, True, False]) == [None, 5, None]
    assert outputs.targets({"w": 1, "x": [2, 3]}, [True] * 3) == [1, 2, 3]
    for wrong, said in (
        ({"z": 1}, "y must have the form of the outputs"),
        ([1, 2], "y must have the form of the outputs"),
        (1, "y must have the form of the outputs"),
        ({"w": 1, "x": [2]}, "y must have the form of the outputs"),
    ):
        with pytest.raises(ValueError, match=said):
            outputs.spread(wrong, "y")
    for wrong, said in ((1, "y has 1 part"), ([1, 2, 3], "y has 3 parts")):
        with pytest.raises(ValueError, match=rf"{said} for the 2 outputs \['a', 'b'\]; give one for each"):
            Outputs([0, 0], ["a", "b"]).spread(wrong, "y")
    with pytest.raises(ValueError, match=r"loss names the outputs \['c'\].*its outputs are \['a', 'b'\]"):
        Outputs([0, 0], ["a", "b"]).spread({"c": 1}, "loss")


def test_one_output_has_one_of_each():
    outputs = Outputs(0, ["d"])
    assert outputs.spread([5], "y") == outputs.spread({"d": 5}, "y") == outputs.spread(5, "y") == [5]
    for role in ("y", "loss_weights", "sample_weight"):
        with pytest.raises(ValueError, match=rf"{role} has 2 parts for the 1 outputs \['d'\]; give one for each"):
            outputs.spread([1, 2], role)


def test_data_keeps_its_structure():
    pair = to_arrays(Pair(np.ones(2), [np.zeros(2), None]), "x")
    assert type(pair) is Pair and pair.right[1] is None
    assert type(to_arrays((np.ones(2), np.ones(2)), "x")) is tuple
    assert to_arrays([[1, 2], [3, 4]], "x").shape == (2, 2) and to_arrays([1, 2], "x").shape == (2,)


def test_only_one_loss_of_several_outputs_has_no_log_of_its_own():
    x = Input((3,))
    model = Model(x, [layers.Dense(1, name="a")(x), layers.Dense(1, name="b")(x)])
    model.compile("sgd", ["mse", None])
    assert set(model.evaluate(np.ones((2, 3)), [np.ones((2, 1))], verbose=0, return_dict=True)) == {"loss"}
    assert model.metrics_names == ["loss"]


def test_several_inputs_of_a_sequential():
    model = Sequential([layers.Concatenate(), layers.Dense(2)])
    model.compile("sgd", "mse")
    data = [np.ones((4, 2)), np.ones((4, 3))]
    model.fit(data, np.ones((4, 2)), verbose=0)
    assert model.built and [w.shape for w in model.weights] == [(5, 2), (2,)]
    assert model.predict(data, verbose=0).shape == (4, 2)
    with pytest.raises(ValueError, match=r"takes one shape such as \(None, 784\), got 'wide'"):
        Sequential([layers.Dense(2)]).build("wide")
    with pytest.raises(ValueError, match=r"is made for inputs of shape \(None, 3\), got \(None, 4\)"):
        Sequential([Input((3,)), layers.Dense(2)]).build((None, 4))
