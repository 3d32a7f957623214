"""Optimizers made of others: the scale of the loss, and variables handed out."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from minikeras import Sequential, layers, models, name_scope, registry
from minikeras.autodiff import Variable
from minikeras.optimizers import SGD, Adam, LossScaleOptimizer, MultiOptimizer, OptimizerMap

X, Y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
NAN = np.float32("nan")


def variables():
    made = [Variable(np.ones(2, "float32"), name=name) for name in ("a", "b")]
    for variable in made:
        variable.path = f"layer/{variable.name}"
    return made


def test_a_step_that_overflows_is_left_out_and_halves_the_scale():
    weights, inner = variables(), Adam(0.1)
    scaling = LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=2)
    assert scaling.scale_loss(1.0) == 8
    for gradient, scale, count, updates in (
        (NAN, 4, 0, 0),
        (4, 4, 1, 1),
        (np.inf, 2, 0, 1),
        (4, 2, 1, 2),
        (4, 4, 0, 3),
    ):
        before = [weight.numpy() for weight in weights]
        scaling.apply([np.full(2, gradient, "float32"), np.ones(2, "float32")], weights)
        assert (float(scaling.dynamic_scale), int(scaling.step_counter)) == (scale, count)
        assert int(scaling.iterations) == updates and inner.loss_scale_factor is None
        moved = [(weight.numpy() != old).any() for weight, old in zip(weights, before, strict=True)]
        assert moved == [np.isfinite(gradient)] * 2
    assert scaling.scale_loss(1.0) == 4


def test_scaling_changes_nothing_else():
    """The scale is a power of two, so training is the same bit for bit, learning rates and averages included."""
    results = []
    for scaled in (False, True):
        model = Sequential([layers.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(3)])
        model.set_weights([np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(model.weights)])
        inner = Adam(0.05, use_ema=True, clipnorm=0.5)
        model.compile(LossScaleOptimizer(inner) if scaled else inner, "mse")
        model.optimizer.learning_rate = 0.02
        history = model.fit(X, Y, epochs=3, batch_size=4, shuffle=False, verbose=0)
        results.append([history.history["loss"], *model.get_weights()])
        assert float(model.optimizer.learning_rate) == np.float32(0.02) and int(model.optimizer.iterations) == 12
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [lambda: LossScaleOptimizer(Adam(0.05)), lambda: MultiOptimizer(two_rates())])
def test_files_and_copies_go_on_like_the_original(make, tmp_path):
    model = Sequential([layers.Input((3,)), layers.Dense(4), layers.Dense(3)])
    model.compile(make(), "mse")
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    others = [models.load_model(tmp_path / "model.keras"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    for other in others:
        other.fit(X, Y, epochs=2, shuffle=False, verbose=0)
        for one, expected in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, expected)
        for one, expected in zip(other.optimizer.get_weights(), model.optimizer.get_weights(), strict=True):
            np.testing.assert_array_equal(one, expected)


def two_rates():
    return OptimizerMap(SGD(0.1), {".*/kernel": Adam(0.01)})


def test_each_variable_has_its_optimizer():
    weights, gradient = variables(), np.ones(2, "float32")
    slow, fast = SGD(0.25), SGD(1.0)
    both = MultiOptimizer(OptimizerMap(slow, {"layer/b": fast}), loss_scale_factor=2.0)
    assert both.scale_loss(1.0) == 2
    both.apply([gradient * 2, gradient * 2], weights)
    np.testing.assert_array_equal([weight.numpy()[0] for weight in weights], [0.75, 0])
    with pytest.raises(ValueError, match="has a gradient"):
        both.apply([None, None], weights)
    both.apply([None, gradient * 2], weights)
    np.testing.assert_array_equal([weight.numpy()[0] for weight in weights], [0.75, -1])
    assert (int(both.iterations), int(slow.iterations), int(fast.iterations)) == (2, 1, 2)
    assert both.optimizers == [fast, slow] and len(both.variables) == 6
    nested = LossScaleOptimizer(MultiOptimizer(OptimizerMap(SGD(1.0))), initial_scale=4.0)
    nested.apply([gradient * 4], weights[:1])
    assert weights[0].numpy()[0] == -0.25
    with pytest.raises(ValueError, match="does not know"):
        both.gradient_destinations([Variable(gradient)])


def test_a_map_is_a_mapping():
    chosen, adam = OptimizerMap(SGD()), Adam()
    chosen["encoder/.*"] = adam
    assert (list(chosen), len(chosen), chosen["encoder/kernel"]) == (["encoder/.*"], 1, adam)
    chosen["encoder/bias"] = SGD()
    assert type(chosen["encoder/bias"]) is SGD
    chosen["enc.*"] = SGD()
    with pytest.raises(ValueError, match="all match 'encoder/kernel'"):
        chosen["encoder/kernel"]
    del chosen["enc.*"]
    again = registry.deserialize_keras_object(registry.serialize_keras_object(chosen))
    assert list(again) == list(chosen) and type(again.default_optimizer) is SGD


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LossScaleOptimizer("adam"), "must be an optimizer, got 'adam'"),
        (lambda: LossScaleOptimizer(SGD(), initial_scale=0), "initial_scale must be a positive number, got 0"),
        (lambda: LossScaleOptimizer(SGD(), clipnorm=1.0), "takes no clipnorm=1.0"),
        (lambda: LossScaleOptimizer(SGD(), dynamic=False), "takes no dynamic=False"),
        (lambda: OptimizerMap(None), "must be an optimizer, got None"),
        (lambda: OptimizerMap(SGD(), [1]), "must be a dict"),
        (lambda: OptimizerMap(SGD(), {"a": LossScaleOptimizer(SGD())}), "not made of others"),
        (lambda: OptimizerMap(SGD(), {1: SGD()}), "must be a new string, got 1"),
        (lambda: MultiOptimizer(3), "takes an OptimizerMap"),
        (lambda: MultiOptimizer(lambda variable: None).build(variables()), "must be an optimizer"),
        (lambda: MultiOptimizer(two_rates()).learning_rate, "has no learning_rate"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        call()


def test_a_model_that_computes_in_float16_has_its_loss_scaled(monkeypatch):
    """What `compile` looks at is the name of the policy alone."""
    model = Sequential([layers.Input((3,)), layers.Dense(3)])
    monkeypatch.setattr(type(model), "dtype_policy", type("Policy", (), {"name": "mixed_float16"})())
    model.compile("adam", "mse")
    assert isinstance(model.optimizer, LossScaleOptimizer) and type(model.optimizer.inner_optimizer) is Adam
    model.compile(LossScaleOptimizer(SGD(), name="own"), "mse")
    assert model.optimizer.name == "own"
    model.compile("adam", "mse", auto_scale_loss=False)
    assert type(model.optimizer) is Adam


def test_patterns_of_a_map_see_name_scopes():
    with name_scope("encoder"):
        slow = Variable([1.0], name="kernel")
    fast = Variable([1.0], name="kernel")
    chosen = OptimizerMap(SGD(1.0))
    chosen["encoder/.*"] = SGD(0.25)
    MultiOptimizer(chosen).apply([[1.0], [1.0]], [slow, fast])
    assert (slow.path, fast.path) == ("encoder/kernel", "kernel")
    assert (float(slow[0]), float(fast[0])) == (0.75, 0.0)
