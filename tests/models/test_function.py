"""Graphs of operations as functions."""

import numpy as np
import pytest

from minikeras import Function, Input, KerasTensor, layers, ops


def test_of_plain_tensors_and_structures():
    first, second = KerasTensor((None, 2, 3)), KerasTensor((None, 2, 3))
    function = Function([first, second], {"sum": first + second, "product": ops.sigmoid(first) * second}, name="both")
    a, b = np.random.default_rng(0).normal(size=(2, 4, 2, 3)).astype("f4")
    found = function([a, b])
    np.testing.assert_allclose(found["sum"], a + b, rtol=1e-6)
    np.testing.assert_allclose(found["product"], b / (1 + np.exp(-a)), rtol=1e-5)
    assert function.inputs == [first, second] and len(function.outputs) == 2 and function.name == "both"
    assert len(function.operations) == 5


def test_of_layers_and_of_symbolic_tensors():
    inputs = Input((3,))
    dense = layers.Dense(2)
    function = Function(inputs, dense(inputs))
    x = np.ones((4, 3), "f4")
    np.testing.assert_array_equal(function(x), dense(x))
    assert function(Input((3,))).shape == (None, 2)
    (listed,) = Function([inputs], [dense(inputs)])([x])
    np.testing.assert_array_equal(listed, dense(x))
    dense.set_weights([np.ones((3, 2)), np.zeros(2)])
    np.testing.assert_array_equal(function(x), 3 * np.ones((4, 2)))


def test_what_is_refused():
    inputs, other = Input((3,)), Input((3,))
    with pytest.raises(ValueError, match="A Function has inputs and outputs"):
        Function([], inputs * 2.0)
    with pytest.raises(ValueError, match="not among the model's inputs"):
        Function(inputs, inputs + other)
