"""Activations: gradients, fusion, what losses see of them, and names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import activations, layers, ops
from minikeras import kernels as k
from minikeras.autodiff import KerasTensor, Tensor, backward, check_gradients, differentiable, producer, recording
from minikeras.ops.crossentropy import logits_behind
from minikeras.registry import register_keras_serializable

OPTIONS = {
    "relu": {"negative_slope": 0.1, "max_value": 1.5, "threshold": 0.3},
    "threshold": {"threshold": 0.2, "default_value": 3.0},
    "softmax": {"axis": 0},
    "log_softmax": {"axis": 0},
    "elu": {"alpha": 0.7},
    "celu": {"alpha": 0.7},
    "leaky_relu": {"negative_slope": 0.3},
    "gelu": {"approximate": True},
    "glu": {"axis": 0},
    "hard_shrink": {"threshold": 0.8},
    "soft_shrink": {"threshold": 0.8},
    "squareplus": {"b": 2},
}
CALLS = [(name, {}) for name in activations.ALL if name != "threshold"] + list(OPTIONS.items())


@pytest.mark.parametrize(("name", "options"), CALLS)
@given(seed=st.integers(0, 999))
def test_gradients(name: str, options: dict, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(4, 6)) * 2
    check_gradients(activations.get(name), x, **options)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_shapes_and_types(name: str, options: dict) -> None:
    function = activations.get(name)
    y = function(Tensor(k.to_device(np.ones((4, 6), "float32"))), **options)
    assert y.dtype == np.float32
    symbolic = function(KerasTensor((None, 6)), **{**options, **({"axis": -1} if "axis" in options else {})})
    assert symbolic.shape == (None, 3 if name == "glu" else 6)


@pytest.mark.parametrize("name", sorted(k.FUSED_ACTIVATIONS))
def test_fused_names_are_what_kernels_compute(name: str) -> None:
    function = activations.get(name)
    assert activations.fused_name(function) == name
    x = np.linspace(-3, 8, 23, dtype="float32")
    np.testing.assert_allclose(function(x), k.to_host(k.activate(k.to_device(x), name)), rtol=1e-6)


def test_only_plain_functions_are_fused() -> None:
    assert activations.fused_name(None) is None
    assert activations.fused_name(activations.linear) is None
    assert activations.fused_name(activations.softmax) is None
    assert activations.fused_name(lambda x: x) is None
    assert activations.epilogue(activations.relu) == ("relu", None)
    assert activations.epilogue(activations.sigmoid) == (None, activations.sigmoid)  # losses look for its logits
    assert activations.epilogue(activations.linear) == activations.epilogue(None) == (None, None)


@differentiable
def squashed(x):
    y = k.xp.arcsinh(x)
    return y, lambda g, needs: (g / k.xp.cosh(y),)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.Dense(3, activation=squashed), (4, 5)),
        (lambda: layers.Conv1D(3, 2, activation=squashed), (2, 6, 4)),
        (lambda: layers.Conv2D(4, 2, groups=2, activation=squashed), (2, 5, 5, 4)),
        (lambda: layers.DepthwiseConv1D(2, activation=squashed), (2, 6, 3)),
        (lambda: layers.SeparableConv1D(3, 2, activation=squashed), (2, 6, 3)),
        (lambda: layers.Conv1DTranspose(3, 2, activation=squashed), (2, 6, 3)),
        (lambda: layers.GRU(3, activation=squashed), (2, 4, 3)),
        (lambda: layers.LSTM(3, activation=squashed, recurrent_activation=squashed), (2, 4, 3)),
    ],
)
def test_an_activation_of_the_users_within_the_kernel(make, shape, monkeypatch) -> None:
    layer = make()
    x = k.to_device(np.random.default_rng(0).normal(size=shape).astype("f4"))
    outside = layer(x).numpy()
    monkeypatch.setattr(activations, "_FUSED", dict(activations._FUSED))
    calls = []

    def forward(xp, x, out):
        calls.append(x.shape)
        xp.arcsinh(x, out=out)

    assert activations.fused(squashed, forward, lambda xp, g, y: g / xp.cosh(y)) is squashed
    assert activations.epilogue(squashed)[1] is None
    np.testing.assert_allclose(layer(x).numpy(), outside, rtol=1e-5, atol=1e-6)
    assert calls
    with recording():
        loss = ops.sum(ops.square(layer(Tensor(x))))
    mine = backward(loss, layer.trainable_weights)
    monkeypatch.setattr(activations, "_FUSED", {})
    with recording():
        loss = ops.sum(ops.square(layer(Tensor(x))))
    for one, other in zip(mine, backward(loss, layer.trainable_weights), strict=True):
        np.testing.assert_allclose(k.to_host(one), k.to_host(other), rtol=1e-4, atol=1e-5)


def test_values() -> None:
    x = np.float32([-2, 0, 1, 7])
    np.testing.assert_array_equal(activations.relu(x), [0, 0, 1, 7])
    np.testing.assert_array_equal(activations.relu(x, negative_slope=0.5, max_value=5, threshold=1), [-1.5, -0.5, 0, 5])
    np.testing.assert_array_equal(activations.relu6(x), [0, 0, 1, 6])
    np.testing.assert_array_equal(activations.hard_sigmoid(np.float32([-3, 0, 3])), [0, 0.5, 1])
    assert activations.linear(x) is x


def test_losses_find_the_logits() -> None:
    x = Tensor(k.to_device(np.ones((2, 3))), tracked=True)
    with recording():
        assert logits_behind(activations.softmax(x), activations.softmax) is x
        assert logits_behind(activations.softmax(x, axis=0), activations.softmax) is None
        assert logits_behind(activations.sigmoid(x), activations.softmax) is None
        assert logits_behind(activations.sigmoid(x), activations.sigmoid) is x
    for made in (activations.softmax(x, -1), activations.softmax(x, axis=1), activations.sigmoid(x)):  # not recorded
        node = producer(made)
        assert node is not None and node.args[0] is x and logits_behind(made, node.op) is x
    assert producer(ops.exp(x)) is None


def test_names() -> None:
    assert activations.get(None) is activations.linear
    assert activations.get("relu") is activations.relu
    assert activations.get("swish") is activations.silu and activations.get("hard_swish") is activations.hard_silu
    assert activations.get(ops.tanh) is ops.tanh
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        activations.get("rellu")
    with pytest.raises(ValueError, match="given by name"):
        activations.get(3)


def test_descriptions() -> None:
    for name, function in activations.ALL.items():
        assert activations.get(activations.serialize(function)) is activations.get(name)
    assert activations.serialize(activations.swish) == "silu"
    with pytest.raises(ValueError, match="lambda"):
        activations.serialize(lambda x: x)

    @register_keras_serializable(package="tests")
    def doubled(x):
        return x * 2

    assert activations.deserialize(activations.serialize(doubled)) is doubled
    assert activations.deserialize("twice", {"twice": doubled}) is doubled
