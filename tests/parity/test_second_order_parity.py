"""Gradients of gradients, custom gradients and loops against real Keras on JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import minikeras
from minikeras.autodiff import GradientTape, grad

RNG = np.random.default_rng(0)


def critic(K: Any) -> Any:
    """Of pictures, with everything that such a network is made of."""
    L = K.layers
    return K.Sequential(
        [
            K.Input((6, 6, 2)),
            L.Conv2D(4, 3, strides=2, padding="same", activation="tanh"),
            L.BatchNormalization(),
            L.Conv2DTranspose(3, 3, strides=2, padding="same"),
            L.LeakyReLU(),
            L.DepthwiseConv2D(2, activation="softplus"),
            L.AveragePooling2D(2, strides=1),
            L.MaxPooling2D(2),
            L.LayerNormalization(),
            L.Flatten(),
            L.Dense(3, activation="swish"),
            L.Dense(1),
        ]
    )


def dense(K: Any) -> Any:
    L = K.layers
    x = inputs = K.Input((5,))
    for activation in ("relu", "gelu", "elu", "sigmoid", "mish"):
        x = L.Dense(4, activation=activation)(x)
    x = L.UnitNormalization()(L.Dropout(0.5)(x))
    return K.Model(inputs, L.Dense(1)(L.concatenate([x, L.Dense(2, activation="softmax")(inputs)])))


def attention(K: Any) -> Any:
    L = K.layers
    inputs = K.Input((4, 6))
    x = L.LayerNormalization()(inputs)
    x = L.add([inputs, L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)])
    return K.Model(inputs, L.Dense(1)(L.GlobalAveragePooling1D()(x)))


MODELS: list[tuple[Callable, tuple[int, ...], bool]] = [
    (critic, (4, 6, 6, 2), True),
    (dense, (4, 5), False),
    (attention, (2, 4, 6), False),
]


@pytest.mark.parametrize(
    ("make", "shape", "training"), MODELS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_gradient_of_a_gradient_penalty(make: Callable, shape: tuple[int, ...], training: bool) -> None:
    theirs, ours = make(keras), make(minikeras)
    weights = [RNG.normal(size=w.shape).astype("f4") * 0.5 + (w.ndim == 1) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)
    x = RNG.normal(size=shape).astype("f4")
    axes = tuple(range(1, len(shape)))
    fixed = [v.value for v in theirs.non_trainable_variables]

    def penalty(trainable: Any) -> Any:
        def score(x: Any) -> Any:
            return jnp.sum(theirs.stateless_call(trainable, fixed, x, training=training)[0])

        slope = jax.grad(score)(x)
        return jnp.mean((jnp.sqrt(jnp.sum(slope**2, axis=axes)) - 1) ** 2)

    value, expected = jax.jit(jax.value_and_grad(penalty))([v.value for v in theirs.trainable_variables])
    with GradientTape() as outer:
        tensor = minikeras.ops.convert_to_tensor(x)
        with GradientTape() as inner:
            inner.watch(tensor)
            scores = ours(tensor, training=training)
        slope = inner.gradient(scores, tensor)
        found = minikeras.ops.mean((minikeras.ops.sqrt(minikeras.ops.sum(slope**2, axis=axes)) - 1) ** 2)
    assert float(found) == pytest.approx(float(value), rel=2e-4)
    gradients = outer.gradient(found, ours.trainable_variables, unconnected_gradients="zero")
    for one, their, variable in zip(gradients, expected, theirs.trainable_variables, strict=True):
        scale = float(np.abs(their).max())
        np.testing.assert_allclose(one, their, rtol=2e-3, atol=1e-3 * scale + 1e-6, err_msg=variable.path)


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy", "kl_divergence"])
def test_hessian_products_of_losses(loss: str) -> None:
    target = np.eye(4, dtype="f4")[[0, 2, 1]]
    logits, direction = RNG.normal(size=(2, 3, 4)).astype("f4")

    def product(K: Any, gradient: Callable) -> Any:
        def slope(x: Any) -> Any:
            return K.ops.sum(
                gradient(lambda x: K.ops.sum(getattr(K.losses, loss)(target, K.ops.softmax(x))))(x) * direction
            )

        return gradient(slope)(logits)

    np.testing.assert_allclose(product(minikeras, grad), product(keras, jax.grad), rtol=1e-3, atol=1e-5)


def test_custom_gradients() -> None:
    def made(K: Any) -> Any:
        @K.ops.custom_gradient
        def log1pexp(x: Any) -> Any:
            e = K.ops.exp(x)

            def gradient(*args: Any, upstream: Any = None) -> Any:
                if upstream is None:
                    (upstream,) = args
                return K.ops.multiply(upstream, 1.0 - 1.0 / K.ops.add(1, e))

            return K.ops.log(1 + e), gradient

        return lambda x: K.ops.sum(log1pexp(x))

    x = np.array([0.5, 1.0, 20.0], "f4")
    ours, theirs = made(minikeras), made(keras)
    np.testing.assert_allclose(grad(ours)(x), jax.grad(theirs)(x), rtol=1e-6)
    again = grad(lambda x: minikeras.ops.sum(grad(ours)(x)))(x)
    np.testing.assert_allclose(again, jax.grad(lambda x: jnp.sum(jax.grad(theirs)(x)))(x), rtol=1e-5, atol=1e-9)


LOOPS: dict[str, Callable] = {
    "scan": lambda ops, x: ops.scan(lambda carry, row: (carry + row, carry * row), ops.zeros((2,)), x),
    "scan, reverse": lambda ops, x: ops.scan(lambda c, row: (c * 0.5 + row, (c, row)), ops.ones((2,)), x, reverse=True),
    "scan, length": lambda ops, x: ops.scan(lambda carry, _: (carry * 2, carry), x, length=3),
    "associative_scan": lambda ops, x: ops.associative_scan(lambda a, b: a * b, x),
    "associative_scan, reverse": lambda ops, x: ops.associative_scan(lambda a, b: a + b, x, reverse=True, axis=1),
    "while_loop": lambda ops, x: ops.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * v), (0, x)),
    "while_loop, at most": lambda ops, x: ops.while_loop(lambda v: ops.all(v < 1e9), lambda v: v + 1, x, 2),
    "fori_loop": lambda ops, x: ops.fori_loop(1, 4, lambda i, v: v * i, x),
    "map": lambda ops, x: ops.map(lambda row: {"sum": ops.sum(row), "twice": row * 2}, x),
    "vectorized_map": lambda ops, x: ops.vectorized_map(lambda row: ops.sum(row) * row, x),
    "cond": lambda ops, x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x * 3),
    "switch": lambda ops, x: ops.switch(5, [lambda v: v, lambda v: -v], x),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name: str) -> None:
    x = RNG.normal(size=(3, 2)).astype("f4")
    ours, theirs = (LOOPS[name](K.ops, K.ops.convert_to_tensor(x)) for K in (minikeras, keras))
    flat = minikeras.tree.flatten(ours), keras.tree.flatten(theirs)
    assert len(flat[0]) == len(flat[1])
    for one, their in zip(*flat, strict=True):
        assert str(one.dtype) == str(their.dtype)
        np.testing.assert_allclose(one, their, rtol=1e-5)
    shapes = [
        [leaf.shape for leaf in K.tree.flatten(LOOPS[name](K.ops, K.KerasTensor((3, 2))))]
        for K in (minikeras, keras)
        if name != "cond" and not (K is keras and name.startswith(("scan", "while_loop")))
    ]
    assert all(found == [tuple(leaf.shape) for leaf in flat[0]] for found in shapes)
