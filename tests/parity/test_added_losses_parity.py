"""Losses added to a functional model against real Keras, where a layer adds them in its `call`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

import minikeras  # noqa: E402

X = np.random.default_rng(0).random((12, 6)).astype("float32")


class Divergence(keras.layers.Layer):
    """The divergence, and where it is given input and output the squared error between them."""

    def call(self, inputs):
        mean, log_variance, *ends = inputs
        ops = keras.ops
        self.add_loss(-0.5 * ops.mean(ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), -1)))
        if ends:
            self.add_loss(ops.square(ends[1] - ends[0]))  # not a scalar
            return ends[1]
        return mean


def build(module, own_loss: bool):
    x = module.Input((6,))
    h = module.layers.Dense(5, activation="relu", name="h")(x)
    mean, log_variance = (module.layers.Dense(3, name=name)(h) for name in ("mu", "sigma"))
    decoder = module.layers.Dense(6, activation="sigmoid", name="decoder")
    if module is keras:
        if own_loss:
            y = decoder(Divergence(name="divergence")([mean, log_variance]))
        else:
            y = Divergence(name="divergence")([mean, log_variance, x, decoder(mean)])
        return module.Model(x, y)
    ops = minikeras.ops
    model = module.Model(x, decoder(mean))
    divergence = -0.5 * ops.mean(ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), -1))
    model.add_loss(divergence if own_loss else [divergence, ops.square(model.output - x)])
    return model


@pytest.mark.parametrize("own_loss", [True, False])
def test_losses_and_weights_after_three_steps(own_loss: bool) -> None:
    """With a compiled loss beside the added one, and with added ones alone that depend on inputs and outputs."""
    ours, theirs = build(minikeras, own_loss), build(keras, own_loss)
    rng = np.random.default_rng(1)
    for name in ("h", "mu", "sigma", "decoder"):
        values = [rng.normal(0, 0.4, w.shape).astype("float32") for w in theirs.get_layer(name).get_weights()]
        ours.get_layer(name).set_weights(values)
        theirs.get_layer(name).set_weights(values)
    results = []
    for model in (ours, theirs):
        model.compile("adam", **({"loss": "mse"} if own_loss else {}))
        targets = (X,) if own_loss else ()
        history = model.fit(X, *targets, batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"]
        results.append((history, model.evaluate(X, *targets, batch_size=12, verbose=0)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)
    for name in ("h", "mu", "sigma", "decoder"):
        pairs = zip(ours.get_layer(name).get_weights(), theirs.get_layer(name).get_weights(), strict=True)
        for mine, expected in pairs:
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_keras_opens_the_file(tmp_path: Path) -> None:
    """It predicts the same; the layers that only the losses need are not in it."""
    x = minikeras.Input((6,))
    y = minikeras.layers.Dense(6, activation="sigmoid")(x)
    side = minikeras.layers.Dense(6)(x)
    model = minikeras.Model(x, y)
    losses = minikeras.losses
    for name in ("mean_squared_error", "binary_crossentropy", "huber", "log_cosh", "hinge", "poisson"):
        model.add_loss(minikeras.ops.mean(getattr(losses, name)(side, y)))
    model.save(tmp_path / "a.keras")
    theirs = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(theirs.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)
    assert len(theirs.layers) == 2
