"""The tape: gradients through shared, unused, nested and repeated values."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras
from minikeras import kernels, ops
from minikeras.autodiff import (
    GradientTape,
    Variable,
    backward,
    check_gradients,
    differentiable,
    grad,
    recording,
    value_and_grad,
)
from minikeras.ops.nn import dense_layer


def test_a_value_used_twice_collects_both_gradients():
    x = Variable(np.array([1.0, 2.0], "f4"))
    with GradientTape() as tape:
        y = x * x + ops.exp(x) * x
    expected = 2 * x.numpy() + np.exp(x.numpy()) * (1 + x.numpy())
    np.testing.assert_allclose(tape.gradient(y, x), expected, rtol=1e-6)


def test_nothing_is_recorded_outside_a_tape():
    x = Variable(np.ones(3, "f4"))
    assert (x * 2).node is None
    with recording():
        assert (x * 2).node is not None
        with recording(False):
            assert (x * 2).node is None


def test_unconnected_sources_have_no_gradient():
    x, other = Variable(np.ones(2, "f4")), Variable(np.ones(2, "f4"))
    with GradientTape() as tape:
        y = ops.sum(x * 3)
    gx, gother = tape.gradient(y, [x, other])
    np.testing.assert_array_equal(gx, [3, 3])
    assert gother is None


def test_watched_tensors_and_structures():
    x = ops.convert_to_tensor(np.array([3.0], "f4"))
    with GradientTape() as tape:
        tape.watch(x)
        y = x * x * x
    gradients = tape.gradient(y, {"x": x})
    np.testing.assert_allclose(gradients["x"], [27.0])
    with pytest.raises(TypeError, match="convert_to_tensor"):
        tape.watch(np.ones(2))


def test_two_tapes_at_once_see_the_same_operations():
    generator, critic = Variable(np.array(2.0, "f4")), Variable(np.array(5.0, "f4"))
    with GradientTape() as first, GradientTape() as second:
        fake = generator * 3.0
        loss = fake * critic
    assert float(first.gradient(loss, generator)) == 15.0
    assert float(second.gradient(loss, critic)) == 6.0


def test_gradient_of_an_intermediate_value():
    x = Variable(np.array(2.0, "f4"))
    with GradientTape() as tape:
        middle = x * x
        y = middle * 5.0 + x
    g_middle, g_x = tape.gradient(y, [middle, x])
    assert float(g_middle) == 5.0
    assert float(g_x) == 21.0


def test_frozen_and_untracked_inputs_cost_nothing():
    asked = []

    @differentiable
    def product(a, b):
        def vjp(g, needs):
            asked.append(tuple(needs))
            return g * b if needs[0] else None, g * a if needs[1] else None

        return a * b, vjp

    a, b = Variable(np.ones(2, "f4")), Variable(np.ones(2, "f4"), trainable=False)
    with recording():
        y = ops.sum(product(a, b))
    backward(y, [a])
    with recording():
        y = ops.sum(product(a, np.ones(2, "f4")))
    backward(y, [a])
    assert asked == [(True, False), (True, False)]


def test_gradients_are_written_to_their_destination():
    w = Variable(np.ones((3, 2), "f4"))
    x = np.arange(6, dtype="f4").reshape(2, 3)
    destination = kernels.to_device(np.full((3, 2), np.nan, "f4"))
    with recording():
        y = ops.sum(ops.matmul(x, w)) + ops.sum(w * w)
    (found,) = backward(y, [w], destinations={id(w): destination})
    assert found is destination
    np.testing.assert_allclose(kernels.to_host(destination), x.sum(0)[:, None] + 2 * np.ones((3, 2)))


def test_a_destination_collects_every_use_of_a_shared_weight():
    rng = np.random.default_rng(0)
    w = Variable(rng.normal(size=(3, 3)), dtype="float64")
    x = rng.normal(size=(4, 3))

    def loss():
        hidden = dense_layer(dense_layer(x, w, None, activation="tanh"), w, None)
        return ops.sum(hidden * hidden) + ops.sum(w * w)

    with recording():
        (expected,) = backward(loss(), [w])
    destination = kernels.to_device(np.full((3, 3), np.nan))
    with recording():
        (found,) = backward(loss(), [w], destinations={id(w): destination})
    assert found is destination
    np.testing.assert_allclose(kernels.to_host(destination), kernels.to_host(expected), rtol=1e-12)


def test_grad_and_value_and_grad():
    gradient = grad(lambda p: ops.sum(p["w"] * p["w"]) * 0.5)({"w": np.array([1.0, -2.0])})
    np.testing.assert_allclose(gradient["w"], [1, -2])
    value, (ga, gb) = value_and_grad(lambda a, b: ops.sum(a * b), argnums=(0, 1))(np.ones(3), np.full(3, 2.0))
    assert float(value) == 6
    np.testing.assert_allclose(ga, [2, 2, 2])
    np.testing.assert_allclose(gb, [1, 1, 1])
    with pytest.raises(ValueError, match="scalar"):
        grad(lambda a: a * 2)(np.ones(3))


def test_a_variable_that_no_float_is_not_tracked():
    counter = Variable(np.array(3), dtype="int64")
    assert not counter.tracked
    assert counter.assign_add(2).numpy() == 5


def test_variable_refuses_another_shape():
    variable = Variable(np.zeros((2, 3), "f4"), name="kernel")
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        variable.assign(np.ones((3, 2)))
    assert not variable.numpy().any()


def test_check_gradients_finds_a_wrong_gradient():
    @differentiable
    def wrong(x):
        return x * x, lambda g, needs: (g * x,)

    with pytest.raises(AssertionError, match="input 0"):
        check_gradients(wrong, np.array([1.0, 2.0]))
    check_gradients(ops.square, np.array([1.0, 2.0]))


def test_a_long_chain_needs_no_recursion():
    x = Variable(np.array(1.0, "f4"))
    with GradientTape() as tape:
        y = x
        for _ in range(20_000):
            y = y + 1.0
    assert float(tape.gradient(y, x)) == 1.0


def test_a_custom_layer_of_ops_needs_no_gradient_code():
    class Gated(minikeras.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 4), "glorot_uniform", name="w")
            self.gate = self.add_weight((input_shape[-1], 4), "glorot_uniform", name="gate")

        def call(self, x):
            total = ops.zeros((x.shape[0], 4), dtype="float64")
            for i in range(2):
                if i % 2 == 0:
                    total = total + ops.matmul(x, self.w) * ops.sigmoid(ops.matmul(x, self.gate))
                else:
                    total = ops.tanh(total)
            return total

    layer = Gated(dtype="float64")
    x = np.random.default_rng(0).normal(size=(3, 5))
    layer(x)
    check_gradients(layer, x, variables=layer.trainable_variables)


def test_tensor_behaves_like_a_number_where_it_is_one():
    t = ops.convert_to_tensor(np.array(2.5, "f4"))
    assert float(t) == 2.5
    assert f"{t:.2f}" == "2.50"
    assert bool(t)
    assert np.asarray(t).dtype == np.float32


# ---------------------------------------------------------------- what would be silently wrong


def test_a_gradient_that_serves_as_a_constant() -> None:
    """An adversarial example: the outer tape takes the gradient for a number when it is told so."""
    w = Variable(np.array([1.0, 2.0], "f4"))
    with GradientTape() as outer:
        x = ops.convert_to_tensor(np.array([3.0, 4.0], "f4"))
        with outer.stop_recording():
            with GradientTape() as inner:
                inner.watch(x)
                y = ops.sum(w * x)
            step = ops.sign(inner.gradient(y, x))
        loss = ops.sum(w * (x + 0.5 * step))
    np.testing.assert_array_equal(outer.gradient(loss, w), [3.5, 4.5])


def test_tapes_that_are_closed_or_no_ones_neighbours_give_gradients() -> None:
    w, v = Variable(np.array([2.0], "f4")), Variable(np.array([5.0], "f4"))
    with GradientTape() as first, GradientTape() as second:
        y, z = w * w * v, w * v * v
    np.testing.assert_array_equal(first.gradient(y, w), [20])
    np.testing.assert_array_equal(second.gradient(z, v), [20])
    with GradientTape(persistent=True) as tape:
        y = w**3
        np.testing.assert_array_equal(tape.gradient(y, w).numpy(), [12])  # asked while it is open
    with GradientTape():
        unconnected = GradientTape()
        assert unconnected.gradient(Variable(np.ones(1, "f4")), w) is None


def test_a_change_between_forward_and_backward_is_refused() -> None:
    """The gradient of a generator, asked for after the discriminator's step, would be one at the new weights."""
    critic, maker = Variable(np.array([3.0], "f4"), name="critic"), Variable(np.array([2.0], "f4"))
    optimizer = minikeras.optimizers.SGD(0.1)
    with GradientTape(persistent=True) as tape:
        score = critic * maker
        other = maker * maker
    optimizer.apply([tape.gradient(score, critic)], [critic])
    np.testing.assert_array_equal(tape.gradient(other, maker), [4])  # nothing that it is made of has changed
    with pytest.raises(ValueError, match="'critic' was changed after the loss was computed"):
        tape.gradient(score, maker)
    np.testing.assert_array_equal(tape.gradient(other, maker), [4])
    with GradientTape() as tape:
        score = critic * maker
    maker.assign([7.0])
    with pytest.raises(ValueError, match="ask for all gradients before"):
        tape.gradient(score, critic)


@pytest.mark.parametrize("trainable", [True, False])
def test_an_assignment_while_the_tape_is_open_leaves_the_tape_the_old_value(trainable: bool) -> None:
    """As a layer does that keeps a moving mean, or a spectral norm that is used twice in a step."""
    w, scale = Variable(np.array([2.0], "f4")), Variable(np.array([10.0], "f4"), trainable=trainable)
    with GradientTape() as tape:
        y = w * scale
        scale.assign(scale * 3)
        y = y + w * scale
    np.testing.assert_array_equal(tape.gradient(y, w), [10 + 30])
    np.testing.assert_array_equal(scale, [30])


def test_an_optimizer_goes_on_after_its_variable_was_assigned_while_a_tape_was_open() -> None:
    w = Variable(np.array([2.0], "f4"))
    optimizer = minikeras.optimizers.SGD(0.5, momentum=0.5)
    values = []
    for _ in range(3):
        with GradientTape() as tape:
            y = w * w
            w.assign_add([1.0])
        optimizer.apply([tape.gradient(y, w)], [w])
        values.append(float(w.numpy()[0]))
    velocity, expected, x = 0.0, [], 2.0
    for _ in range(3):
        velocity = 0.5 * velocity - 0.5 * 2 * x
        x = x + 1 + velocity
        expected.append(x)
    np.testing.assert_allclose(values, expected)


@pytest.mark.parametrize("bad", [None, 3.0, np.ones(2)])
def test_a_gradient_of_or_at_what_is_no_tensor_is_refused(bad: object) -> None:
    w = Variable(np.ones(2, "f4"))
    with GradientTape() as tape:
        y = ops.sum(w)
    with pytest.raises(TypeError, match="target must be a tensor"):
        tape.gradient(bad, w)
    with pytest.raises(TypeError, match="sources must be a tensor"):
        tape.gradient(y, [w, bad])
    with pytest.raises(TypeError, match="value must be a tensor"):
        grad(lambda x: 3.0 if bad is None else bad)(np.ones(2))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_gradients_at_integers_are_refused(dtype: str) -> None:
    x = np.ones(3, dtype)
    with pytest.raises(TypeError, match=f"got one of type {dtype}"):
        grad(lambda x: ops.sum(x * 0.5))(x)
    with GradientTape() as tape, pytest.raises(TypeError, match="cast it to float32"):
        tape.watch(ops.convert_to_tensor(x))
