"""A variational autoencoder of handwritten digits, with a training step of its own.

After Kingma and Welling, "Auto-Encoding Variational Bayes" (2014): the encoder gives mean and variance of a code, the
decoder draws the picture of a code, and the loss is reconstruction plus the divergence from a standard normal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minikeras as keras
from minikeras import layers, ops
from minikeras.datasets import digits

CODE = 4


class Sampling(layers.Layer):
    """A code drawn from the normal distribution of this mean and logarithm of the variance."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1337)

    def call(self, inputs: Any) -> Any:
        mean, log_variance = inputs
        return mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.seeds)


class VAE(keras.Model):
    """Encoder and decoder, trained together."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        picture = keras.Input((28, 28, 1))
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(picture)
        x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
        mean, log_variance = layers.Dense(CODE)(x), layers.Dense(CODE)(x)
        code = Sampling()([mean, log_variance])
        self.encoder = keras.Model(picture, [mean, log_variance, code], name="encoder")

        code = keras.Input((CODE,))
        x = layers.Reshape((7, 7, 16))(layers.Dense(7 * 7 * 16, activation="relu")(code))
        x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(x)
        self.decoder = keras.Model(code, x, name="decoder")
        self.trackers = [keras.metrics.Mean(name) for name in ("loss", "reconstruction", "divergence")]

    @property
    def metrics(self) -> list[Any]:
        return self.trackers

    def call(self, pictures: Any) -> Any:
        return self.decoder(self.encoder(pictures)[0])

    def losses_of(self, pictures: Any) -> tuple[Any, Any]:
        mean, log_variance, code = self.encoder(pictures)
        pixels = keras.losses.binary_crossentropy(pictures, self.decoder(code))
        divergence = -0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance))
        return ops.mean(ops.sum(pixels, axis=(1, 2))), ops.mean(ops.sum(divergence, axis=1))

    def train_step(self, data: Any) -> dict[str, Any]:
        with keras.GradientTape() as tape:
            reconstruction, divergence = self.losses_of(data)
            loss = reconstruction + divergence
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for tracker, value in zip(self.trackers, (loss, reconstruction, divergence), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def main() -> None:
    keras.utils.set_random_seed(1)
    (pictures, _), _ = digits.load_data()
    pictures = pictures[:2000, ..., None].astype("float32") / 255
    vae = VAE()
    vae.compile(optimizer=keras.optimizers.Adam(2e-3))
    history = vae.fit(pictures, epochs=6, batch_size=64, verbose=2)

    codes = np.random.default_rng(1).normal(size=(5, CODE)).astype("float32")
    drawn = vae.decoder.predict(codes, verbose=0)[..., 0]
    for row in drawn[0, ::2]:
        print("".join(" .:#"[int(value * 3.99)] for value in row))
    losses = history.history["loss"]
    print(f"loss per picture: {losses[0]:.1f} at first, {losses[-1]:.1f} at last")
    assert losses[-1] < 0.75 * losses[0], losses
    assert drawn.min() >= 0 and drawn.max() <= 1


if __name__ == "__main__":
    main()
