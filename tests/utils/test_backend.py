"""The functions that Keras 2 programs call `K`, against NumPy, and such a program's own loss, metric and layer."""

from __future__ import annotations

import numpy as np
import pytest

import minikeras
from minikeras import backend as K

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype("float32")

CASES = {
    "sum": (lambda: K.sum(X, axis=1), lambda: X.sum(axis=1)),
    "mean": (lambda: K.mean(X, axis=[1, 2], keepdims=True), lambda: X.mean(axis=(1, 2), keepdims=True)),
    "mean of truths": (lambda: K.mean(X > 0), lambda: np.float32((X > 0).mean())),
    "max": (lambda: K.max(X), lambda: X.max()),
    "min": (lambda: K.min(X, axis=-1), lambda: X.min(axis=-1)),
    "prod": (lambda: K.prod(X, axis=0), lambda: X.prod(axis=0)),
    "std": (lambda: K.std(X, axis=2), lambda: X.std(axis=2)),
    "any": (lambda: K.any(X > 1, axis=1), lambda: (X > 1).any(axis=1)),
    "all": (lambda: K.all(X < 1, axis=1), lambda: (X < 1).all(axis=1)),
    "argmax": (lambda: K.argmax(X), lambda: X.argmax(axis=-1)),
    "dot": (lambda: K.dot(X, X[0].T), lambda: X @ X[0].T),
    "batch_dot": (lambda: K.batch_dot(X, X.transpose(0, 2, 1)), lambda: X @ X.transpose(0, 2, 1)),
    "batch_dot axes": (lambda: K.batch_dot(X, X, axes=(1, 1)), lambda: np.einsum("bij,bik->bjk", X, X)),
    "batch_dot rows": (lambda: K.batch_dot(X[0], X[1], axes=1), lambda: (X[0] * X[1]).sum(axis=1, keepdims=True)),
    "batch_flatten": (lambda: K.batch_flatten(X), lambda: X.reshape(3, 20)),
    "flatten": (lambda: K.flatten(X), lambda: X.reshape(-1)),
    "permute_dimensions": (lambda: K.permute_dimensions(X, (2, 0, 1)), lambda: X.transpose(2, 0, 1)),
    "reverse": (lambda: K.reverse(X, [0, 2]), lambda: X[::-1, :, ::-1]),
    "concatenate": (lambda: K.concatenate([X, X]), lambda: np.concatenate([X, X], axis=-1)),
    "repeat_elements": (lambda: K.repeat_elements(X, 2, axis=1), lambda: X.repeat(2, axis=1)),
    "gather": (lambda: K.gather(X, [2, 0]), lambda: X[[2, 0]]),
    "l2_normalize": (lambda: K.l2_normalize(X, axis=-1), lambda: X / np.linalg.norm(X, axis=-1, keepdims=True)),
    "relu": (lambda: K.relu(X, alpha=0.1, max_value=0.5), lambda: np.minimum(np.where(X > 0, X, 0.1 * X), 0.5)),
    "switch": (lambda: K.switch(X[:, 0, 0] > 0, X, lambda: -X), lambda: np.where(X[:, :1, :1] > 0, X, -X)),
    "pow": (lambda: K.pow(K.abs(X), 1.5), lambda: np.abs(X) ** 1.5),
    "clip": (lambda: K.clip(X, -0.5, K.epsilon()), lambda: X.clip(-0.5, 1e-7)),
    "cast": (lambda: K.cast(K.equal(K.round(X), 0), K.floatx()), lambda: (X.round() == 0).astype("float32")),
    "constant": (lambda: K.constant(2, shape=(2, 3)), lambda: np.full((2, 3), 2, "float32")),
    "logsumexp": (lambda: K.logsumexp(X, axis=1), lambda: np.log(np.exp(X).sum(axis=1))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_function(name):
    ours, expected = (part() for part in CASES[name])
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    assert ours.dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_variables():
    x = K.variable([[1, 2], [3, 4]])
    assert (K.int_shape(x), K.ndim(x), K.dtype(x), K.shape(x)) == ((2, 2), 2, "float32", (2, 2))
    K.update_add(x, 1.0)
    K.update_sub(x, K.ones((2, 2)))
    np.testing.assert_array_equal(K.eval(x), [[1, 2], [3, 4]])
    K.batch_set_value([(x, np.zeros((2, 2)))])
    assert K.batch_get_value([x, K.zeros((2,))])[0].sum() == 0
    K.set_value(K.update(x, K.ones((2, 2))), np.full((2, 2), 5))
    assert K.get_value(K.mean(x)) == 5
    assert K.int_shape(minikeras.Input((3,))) == (None, 3)


def test_random_numbers_follow_the_seed():
    for draw in (K.random_normal, K.random_uniform):
        first, second = (draw((4, 3), seed=3).numpy() for _ in range(2))
        np.testing.assert_array_equal(first, second)
    kept = K.dropout(np.ones((200,), "float32"), 0.5, seed=1).numpy()
    assert set(kept) == {0, 2}


def test_numbers_of_names():
    minikeras.utils.clear_session()
    assert [K.get_uid("thing"), K.get_uid("thing"), K.get_uid("dense")] == [1, 2, 1]
    assert minikeras.layers.Dense(1).name == "dense_1"


def test_own_loss_metric_and_layer_of_a_keras_2_program():
    def rmse(y_true, y_pred):
        return K.sqrt(K.mean(K.square(y_pred - y_true), axis=-1) + K.epsilon())

    def within(y_true, y_pred):
        return K.mean(K.cast(K.less(K.abs(y_true - y_pred), 0.5), K.floatx()))

    class Noise(minikeras.layers.Layer):
        expected = False

        def call(self, inputs):
            assert K.learning_phase() == int(self.expected)
            return K.in_train_phase(lambda: inputs * 2, inputs)

    noise = Noise()
    model = minikeras.Sequential([minikeras.Input((2,)), noise, minikeras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(minikeras.optimizers.SGD(0.0), loss=rmse, metrics=[within])
    x, y = np.ones((4, 2), "float32"), np.full((4, 1), 2.0, "float32")
    noise.expected = True
    history = model.fit(x, y, verbose=0).history
    assert history["loss"] == [pytest.approx(2.0)]
    assert history["within"] == [0]
    noise.expected = False
    assert model.evaluate(x, y, verbose=0) == [pytest.approx(K.epsilon() ** 0.5), 1]
