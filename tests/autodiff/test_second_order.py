"""Gradients of gradients: of every operation, in every spelling, and what is refused."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import nn_cases, op_cases, test_nn_ops
from ops.op_cases import BINARY, REDUCTIONS, UNARY, Case, spaced

import minikeras
from minikeras import backend, layers, losses, ops, regularizers
from minikeras import kernels as k
from minikeras.activations import fused
from minikeras.autodiff import GradientTape, Variable, check_gradients, differentiable, grad, value_and_grad
from minikeras.kernels.reference import activation

FEW = settings(max_examples=4, deadline=None)


def gradient_penalty(critic: Any, x: Any) -> tuple[Any, Any]:
    """The penalty (|d critic/dx| - 1)^2 and the tape that it was recorded on (Gulrajani et al. 2017)."""
    with GradientTape() as outer:
        x = ops.convert_to_tensor(x)
        with GradientTape() as inner:
            inner.watch(x)
            score = critic(x)
        slope = inner.gradient(score, x)
        penalty = ops.mean((ops.sqrt(ops.sum(slope**2, axis=-1)) - 1) ** 2)
    return penalty, outer


def test_the_penalty_of_a_linear_critic() -> None:
    critic = layers.Dense(1, use_bias=False)
    critic.build((None, 3))
    critic.kernel.assign([[1.0], [2.0], [2.0]])
    penalty, tape = gradient_penalty(critic, np.random.default_rng(0).normal(size=(4, 3)).astype("float32"))
    assert float(penalty) == pytest.approx(4)
    np.testing.assert_allclose(tape.gradient(penalty, critic.kernel), [[4 / 3], [8 / 3], [8 / 3]], rtol=1e-6)


# ---------------------------------------------------------------- every operation


REFUSED = {"gammainc"}  # the operations whose gradients cannot be differentiated again


def check_second_order(case: Case, function: Any) -> None:
    if not {case.name, str(case)} & REFUSED:
        check_gradients(function, *case.inputs(), order=2, directions=1)
        return
    with pytest.raises(NotImplementedError, match="cannot be differentiated again"):
        check_gradients(function, *case.inputs(), order=2, directions=1)


@pytest.mark.parametrize("case", [case for case in op_cases.CASES if case.differentiable], ids=str)
def test_every_operation(case: Case) -> None:
    check_second_order(case, lambda *inputs: case.call(getattr(ops, case.name), *inputs))


@pytest.mark.parametrize("case", [case for case in nn_cases.CASES if case.differentiable], ids=str)
def test_every_operation_of_networks(case: Case) -> None:
    check_second_order(case, lambda *inputs: test_nn_ops.differentiable(case, *inputs))


@pytest.mark.parametrize("name", UNARY)
@given(shape=st.lists(st.integers(0, 3), max_size=3).map(tuple), seed=st.integers(0, 99))
@FEW
def test_any_shape(name: str, shape: tuple[int, ...], seed: int) -> None:
    low, high, *_ = UNARY[name]
    x = spaced(np.random.default_rng(seed), shape, low, high)
    check_gradients(getattr(ops, name), x, order=2, directions=1, rtol=1e-4)


@pytest.mark.parametrize("name", BINARY)
@given(pair=st.sampled_from([((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((0, 2), (1,))]), seed=st.integers(0, 99))
@FEW
def test_any_pair(name: str, pair: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (spaced(rng, shape, *BINARY[name][:2]) for shape in pair)
    check_gradients(getattr(ops, name), a, b, order=2, directions=1, rtol=1e-4)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(axis=st.sampled_from([None, 0, -1, (0, 2)]), keepdims=st.booleans(), seed=st.integers(0, 99))
@FEW
def test_any_reduction(name: str, axis: Any, keepdims: bool, seed: int) -> None:
    x = spaced(np.random.default_rng(seed), (2, 3, 2), -2, 2)
    check_gradients(getattr(ops, name), x, axis=axis, keepdims=keepdims, order=2, directions=1, rtol=1e-4)


@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_any_convolution(data: st.DataObject, seed: int) -> None:
    """Also where strides leave values out and a window lies in the padding alone."""
    rank = data.draw(st.integers(1, 2))
    sizes = [data.draw(st.integers(3, 5)) for _ in range(rank)]
    kernel = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    strides = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    groups = data.draw(st.sampled_from([1, 2]))
    settings = {"strides": strides, "padding": data.draw(st.sampled_from(["valid", "same"]))}
    x, w = rng.normal(size=(2, *sizes, 2)), rng.normal(size=(*kernel, 2 // groups, 2))
    check_gradients(ops.conv, x, w, order=2, directions=1, **settings)
    check_gradients(ops.conv_transpose, x, rng.normal(size=(*kernel, 3, 2)), order=2, directions=1, **settings)


@pytest.mark.parametrize("name", ["tanh", "exp", "sigmoid", "softplus", "sin", "square", "reciprocal", "gelu", "erf"])
def test_the_third_and_the_fourth_order(name: str) -> None:
    check_gradients(getattr(ops, name), np.array([0.3, -0.6, 1.1]), order=4, directions=1, rtol=1e-4)


def test_orders_without_end() -> None:
    derivative = ops.sin
    for order in range(1, 7):
        derivative = grad(derivative)
        expected = math.sin(0.3 + order * math.pi / 2)
        assert float(derivative(Variable(0.3, dtype="float64"))) == pytest.approx(expected, rel=1e-12)
    hessian = grad(lambda w: ops.sum(grad(lambda w: ops.sum(ops.matmul(w, w) ** 2))(w) ** 2))
    check_gradients(lambda w: hessian(w), np.random.default_rng(0).normal(size=(2, 2)))


LOSSES = [
    losses.mean_squared_error,
    losses.huber,
    losses.log_cosh,
    losses.poisson,
    losses.kl_divergence,
    losses.cosine_similarity,
    losses.binary_crossentropy,
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_losses(loss: Any) -> None:
    rng = np.random.default_rng(0)
    check_gradients(loss, rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0.1, 0.9, (3, 4)), order=2, directions=1)


@pytest.mark.parametrize("regularizer", [regularizers.L1L2(0.1, 0.2), regularizers.OrthogonalRegularizer(0.3)])
def test_regularizers(regularizer: Any) -> None:
    check_gradients(regularizer, np.random.default_rng(0).normal(size=(3, 4)), order=2)


def test_a_cross_entropy_that_knows_the_probabilities() -> None:
    """Which it is given as raw arrays: to the second derivative they are no constants."""
    x, target = np.random.default_rng(0).normal(size=(3, 4)), np.eye(4)[[0, 2, 1]]
    labels = np.array([0, 2, 1])
    check_gradients(lambda x: losses.categorical_crossentropy(target, ops.softmax(x)), x, order=2)
    check_gradients(lambda x: losses.sparse_categorical_crossentropy(labels, ops.softmax(x)), x, order=2)
    check_gradients(lambda x: losses.binary_crossentropy(target, ops.sigmoid(x)), x, order=2)


def test_an_activation_of_a_users_own_within_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "_TABLE", dict(activation._TABLE))

    @differentiable
    def logarithmic(x):
        y = k.xp.sign(x) * k.xp.log1p(k.xp.abs(x))
        return y, lambda g, needs: (g / (1 + k.xp.abs(x)),)

    def forward(xp, x, out):
        sign = xp.sign(x)
        xp.log1p(xp.abs(x), out=out)
        xp.multiply(out, sign, out=out)

    fused(logarithmic, forward, lambda xp, g, y: g * xp.exp(-xp.abs(y)))
    layer, x = layers.Dense(2, activation=logarithmic, dtype="float64"), np.ones((2, 3)) / 3
    layer(x)
    check_gradients(layer, x, variables=layer.trainable_variables, order=2)
    check_gradients(logarithmic, x, order=2)


# ---------------------------------------------------------------- every spelling


def cube(x: Any) -> Any:
    return ops.sum(x**3)


def test_functions_of_functions() -> None:
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(grad(lambda x: ops.sum(grad(cube)(x)))(x), 6 * x)
    value, slope = value_and_grad(lambda x: ops.sum(value_and_grad(cube)(x)[1]))(x)
    assert float(value) == 15
    np.testing.assert_allclose(slope, 6 * x)


def test_a_function_within_a_tape_and_a_tape_within_a_function() -> None:
    x = ops.convert_to_tensor([1.0, 2.0])
    with GradientTape() as tape:
        tape.watch(x)
        slope = grad(cube)(x)
    np.testing.assert_allclose(tape.gradient(slope, x), [6, 12])

    def norm_of_slope(x: Any) -> Any:
        with GradientTape() as tape:
            tape.watch(x)
            y = cube(x)
        return ops.sum(tape.gradient(y, x) ** 2)

    np.testing.assert_allclose(grad(norm_of_slope)(np.array([1.0, 2.0])), [36, 288])


def test_a_persistent_tape_records_the_gradients_that_it_gives() -> None:
    x = Variable(3.0)
    with GradientTape(persistent=True) as tape:
        y = x**3
        slope = tape.gradient(y, x)
    assert float(tape.gradient(slope, x)) == 18
    with GradientTape() as tape:
        slope = tape.gradient(x**3, x)
    assert tape.gradient(slope, x) is None  # as in TensorFlow, where only a persistent one goes on recording
    assert float(tape.gradient(slope, x, unconnected_gradients="zero")) == 0


def test_gradients_of_the_backend() -> None:
    x = Variable([1.0, 2.0])
    with GradientTape() as tape:
        slope = backend.gradients(cube(x), [x])[0]
    np.testing.assert_allclose(tape.gradient(slope, x), [6, 12])


def test_a_layer_that_differentiates_what_comes_before_it() -> None:
    class Slope(layers.Layer):
        def call(self, inputs):
            with GradientTape() as tape:
                tape.watch(inputs)
                y = inputs**3
            return tape.gradient(y, inputs)

    model = minikeras.Sequential([minikeras.Input((2,)), layers.Dense(2, use_bias=False), Slope()])
    kernel = np.array([[0.5, -1.0], [1.0, 2.0]], "float32")
    model.layers[0].kernel.assign(kernel)
    model.compile(minikeras.optimizers.SGD(1.0), lambda t, y: ops.sum(y))
    x = np.array([[1.0, 2.0]], "float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), 3 * (x @ kernel) ** 2, rtol=1e-6)
    model.fit(x, x, verbose=0)
    np.testing.assert_allclose(model.layers[0].kernel, kernel - x.T * 6 * (x @ kernel), rtol=1e-6)


def test_a_generative_network_with_a_penalty_trains() -> None:
    """Convolutions, batch and layer normalisation, dropout, pooling, transposed convolution in the way of `fit`."""

    class Penalised(minikeras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.maker = minikeras.Sequential(
                [
                    layers.Dense(16, activation="relu"),
                    layers.Reshape((2, 2, 4)),
                    layers.BatchNormalization(),
                    layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh"),
                ]
            )
            self.critic = minikeras.Sequential(
                [
                    layers.Conv2D(4, 3, padding="same", activation="leaky_relu"),
                    layers.LayerNormalization(),
                    layers.Dropout(0.2, seed=1),
                    layers.MaxPooling2D(),
                    layers.Flatten(),
                    layers.Dense(1),
                ]
            )
            self.steps = [minikeras.optimizers.Adam(0.01), minikeras.optimizers.Adam(0.01)]

        def train_step(self, data):
            real = ops.convert_to_tensor(data)
            noise = ops.ones((len(real), 3))
            with GradientTape() as tape:
                fake = self.maker(noise, training=True)
                mixed = 0.5 * real + 0.5 * fake
                with GradientTape() as inner:
                    inner.watch(mixed)
                    score = self.critic(mixed, training=True)
                norm = ops.sqrt(ops.sum(inner.gradient(score, mixed) ** 2, axis=(1, 2, 3)) + 1e-12)
                difference = ops.mean(self.critic(fake, training=True)) - ops.mean(self.critic(real, training=True))
                penalty = ops.mean((norm - 1) ** 2)
                loss = difference + 10 * penalty
            weights = self.critic.trainable_variables
            self.steps[0].apply(tape.gradient(loss, weights), weights)
            with GradientTape() as tape:
                loss = -ops.mean(self.critic(self.maker(noise, training=True), training=True))
            weights = self.maker.trainable_variables
            self.steps[1].apply(tape.gradient(loss, weights), weights)
            return {"penalty": penalty}

    minikeras.utils.set_random_seed(0)
    model = Penalised()
    model.compile()
    images = np.random.default_rng(0).normal(size=(16, 4, 4, 1)).astype("float32")
    history = model.fit(images, epochs=15, batch_size=16, verbose=0).history["penalty"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.5 * history[0]


def test_dropout_keeps_its_mask() -> None:
    layer, x = layers.Dropout(0.5), ops.convert_to_tensor(np.arange(1.0, 41.0, dtype="float32"))
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            kept = layer(x, training=True)
            y = kept**3
        slope = inner.gradient(y, x)
    np.testing.assert_allclose(slope, 3 * kept.numpy() ** 2 * (kept.numpy() / x.numpy()), rtol=1e-5)
    np.testing.assert_allclose(outer.gradient(slope, x), 6 * kept.numpy() * (kept.numpy() / x.numpy()) ** 2, rtol=1e-5)


def test_a_variable_that_is_assigned_while_the_tapes_are_open() -> None:
    """Each use counts with the value that it had then."""
    w, x = Variable([2.0]), Variable([5.0])
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = w * x**2
            w.assign([100.0])
        slope = inner.gradient(y, x)  # 2 w x
    assert slope.tolist() == [20]
    assert outer.gradient(slope, [w, x]) == [[10], [4]]


def test_gradients_at_results_are_differentiated_too() -> None:
    x, v = Variable([1.0, 2.0]), Variable([3.0, 5.0])
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x**2
        product = inner.gradient(y, x, output_gradients=v)
    np.testing.assert_allclose(product, [6, 20])
    np.testing.assert_allclose(outer.gradient(product, v), [2, 4])


def test_threads_differentiate_at_once() -> None:
    found: list[list[float]] = []

    def work() -> None:
        for _ in range(20):
            found.append(grad(lambda x: ops.sum(grad(cube)(x)))(np.array([1.0, 2.0])).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[6.0, 12.0]] * 80


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_types_stay(dtype: str) -> None:
    x = ops.convert_to_tensor(np.array([[0.5, 1.0], [2.0, 0.1]], dtype))
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            y = ops.sum(ops.softmax(ops.matmul(x, x)) * ops.mean(x) + ops.max(x, axis=0))
        slope = inner.gradient(y, x)
    assert slope.dtype == outer.gradient(slope, x).dtype == dtype


# ---------------------------------------------------------------- operations of a user's own


def second(operation: Any, x: Any = (0.5, -1.0, 2.0)) -> None:
    check_gradients(operation, np.array(x), order=2)


def test_array_code_of_any_kind() -> None:
    @differentiable
    def with_numpy(x):
        y = np.tanh(x) if k.xp is np else k.xp.tanh(x)
        return y, lambda g, needs: (g * (1 - y**2),)

    @differentiable
    def in_place(x):
        y = k.empty((2, *x.shape), x.dtype)
        first, second = y
        k.xp.multiply(x, x, out=first)
        second[...] = first * x
        first += 1
        rows = y.reshape(-1)
        rows *= 2

        def vjp(g, needs):
            gradient = k.xp.zeros_like(x)
            gradient += g[0] * (4 * x)
            gradient[1:] += (g[1] * (3 * y[0] - 6))[1:]
            gradient[:1] = gradient[:1] + g[1, :1] * 6 * x[:1] ** 2
            return (gradient + (0 * g[1]),)

        return y, vjp

    @differentiable
    def reduced(x):
        y = (x.T @ x) + k.xp.linalg.norm(x) ** 2
        return y, lambda g, needs: (g * 4 * x,)

    @differentiable
    def converted(x):
        rows = k.xp.asarray(x, "float64")
        return k.xp.stack([rows**2, x]), lambda g, needs: (g[0] * 2 * rows + g[1],)

    for operation in (with_numpy, in_place, reduced, converted):
        second(operation)
    check_gradients(lambda x, y: ops.sum([x, y], axis=0) ** 2, np.ones(2), np.array([2.0, 3.0]), order=2)


def test_a_constant_that_changes_between_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Global names are looked up as they are, not as they were when the function first ran."""
    monkeypatch.setitem(globals(), "SCALE", 2.0)

    @differentiable
    def scaled(x):
        return SCALE * x**2, lambda g, needs: (g * (2 * SCALE * x),)  # type: ignore[name-defined]  # noqa: F821

    second(scaled)
    monkeypatch.setitem(globals(), "SCALE", 7.0)
    second(scaled)
    assert float(grad(grad(scaled))(1.0)) == 14


def test_what_no_operation_does_is_refused_at_once() -> None:
    x = ops.convert_to_tensor([1.0, 2.0])

    @differentiable
    def through_the_host(x):
        values = k.to_host(x)
        return k.to_device(values**2), lambda g, needs: (g * k.to_device(2 * values),)

    @differentiable
    def changes_its_input(x):
        def vjp(g, needs):
            x[...] = 2 * x
            return (g * x,)

        return x**2, vjp

    @differentiable
    def changes_a_copy_or_a_view(x):
        y = x + 0
        y.reshape(1, 2).T.reshape(2)[...] = 0
        return y, lambda g, needs: (g,)

    @differentiable
    def decides(x):
        y = 2 * x if x[:1] else x
        return y, lambda g, needs: (g * (y / x),)

    @differentiable
    def writes_to_what_is_split(x):
        y = x * 1
        for part in k.xp.split(y, 2):
            part *= 2
        return y, lambda g, needs: (2 * g,)

    @differentiable
    def sorts(x):
        y = x.copy()
        y.sort()
        return y, lambda g, needs: (g,)

    for operation in (
        through_the_host,
        changes_its_input,
        changes_a_copy_or_a_view,
        decides,
        writes_to_what_is_split,
        sorts,
    ):
        with GradientTape() as outer:
            outer.watch(x)
            with GradientTape() as inner:
                inner.watch(x)
                y = ops.sum(operation(x * 1.0) * 3)
            with pytest.raises(
                NotImplementedError, match=f"{operation.__name__} cannot be differentiated again.*stop_"
            ):
                inner.gradient(y, x)


def test_a_function_that_draws_random_numbers_is_refused() -> None:
    rng = np.random.default_rng(0)

    @differentiable
    def noisy(x):
        noise = k.to_device(rng.normal(size=x.shape))
        return x * noise, lambda g, needs: (g * noise,)

    with pytest.raises(NotImplementedError, match=r"noisy.*draws random numbers"):
        grad(lambda x: ops.sum(grad(lambda x: ops.sum(noisy(x) ** 2))(x)))(np.ones(3))


def test_a_gradient_that_was_refused_leaves_nothing_behind() -> None:
    @differentiable
    def opaque(x):
        values = k.to_host(x)
        return k.to_device(values**2), lambda g, needs: (g * k.to_device(2 * values),)

    x = Variable([1.0, 2.0])
    with GradientTape() as inner:
        middle = x * 3.0
        y = ops.sum(opaque(middle) + middle)
    with GradientTape(), pytest.raises(NotImplementedError):
        inner.gradient(y, x)
    np.testing.assert_allclose(inner.gradient(y, x), [18 + 3, 36 + 3])


def test_a_gradient_made_of_operations() -> None:
    def gradient(x, *, power):
        return lambda g, needs: (g * power * x ** (power - 1),)

    @differentiable(gradient=gradient)
    def opaque(x, *, power):
        values = k.to_host(x)
        return k.to_device(values**power), lambda g, needs: (g * k.to_device(power * values ** (power - 1)),)

    check_gradients(opaque, np.array([0.5, 2.0]), order=3, power=4)


def test_check_gradients_finds_a_wrong_second_order() -> None:
    @differentiable(gradient=lambda x: lambda g, needs: (g * 2.5 * ops.stop_gradient(x),))
    def wrong(x):
        return x * x, lambda g, needs: (g * 2 * x,)

    check_gradients(wrong, np.array([1.0, 2.0]))
    with pytest.raises(AssertionError, match="input 0"):
        check_gradients(wrong, np.array([1.0, 2.0]), order=2)


# ---------------------------------------------------------------- the rules of the tape


def test_what_was_computed_before_a_tape_is_a_constant_to_it() -> None:
    x = Variable([3.0])
    with GradientTape() as outer:
        before = x * x
        with GradientTape() as inner:
            y = before * x
        slope = inner.gradient(y, x)
    assert slope.tolist() == [9]  # d/dx of 9 x
    assert outer.gradient(y, x).tolist() == [27]
    assert outer.gradient(slope, x).tolist() == [6]
    assert inner.gradient(y, before).tolist() == [3]


def test_reset() -> None:
    x = ops.convert_to_tensor([3.0])
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = x * x
        tape.reset()
        z = y * 2
        assert tape.gradient(y, x) is None
        tape.watch([x, y])
        z = y * x
    assert [g.tolist() for g in tape.gradient(z, [x, y])] == [[9], [3]]


def test_unconnected_gradients() -> None:
    x, other = Variable([1.0]), Variable(np.ones((2, 3)))
    with GradientTape() as tape:
        y = x * 2
    assert tape.gradient(y, {"x": x, "other": other})["other"] is None
    zeros = tape.gradient(y, {"x": x, "other": other}, unconnected_gradients="zero")["other"]
    assert zeros.shape == (2, 3)
    assert not zeros.numpy().any()
    with pytest.raises(ValueError, match="'none' or 'zero', got 'zeros'"):
        tape.gradient(y, x, unconnected_gradients="zeros")


def test_jacobians() -> None:
    rng = np.random.default_rng(0)
    x, w = Variable(rng.normal(size=(4, 3))), Variable(rng.normal(size=(3, 2)))
    with GradientTape() as tape:
        y = ops.matmul(x, w) ** 2
    found = tape.jacobian(y, {"x": x, "w": w, "none": Variable([1.0])})
    product = x.numpy() @ w.numpy()
    np.testing.assert_allclose(found["x"], np.einsum("ij,kj,il->ijlk", 2 * product, w, np.eye(4)), atol=1e-6)
    np.testing.assert_allclose(found["w"], np.einsum("ij,ik,jl->ijkl", 2 * product, x, np.eye(2)), atol=1e-6)
    assert found["none"] is None
    assert tape.jacobian(y, Variable([1.0, 2.0]), unconnected_gradients="zero").shape == (4, 2, 2)


def test_hessians() -> None:
    x = Variable([1.0, 2.0, 3.0], dtype="float64")
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = ops.prod(x) + ops.sum(x**3)
        slope = inner.gradient(y, x)
    np.testing.assert_allclose(outer.jacobian(slope, x), [[6, 3, 2], [3, 12, 1], [2, 1, 18]])
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = x**3
        diagonal = inner.jacobian(y, x)
    np.testing.assert_allclose(outer.gradient(diagonal, x), [6, 12, 18])
