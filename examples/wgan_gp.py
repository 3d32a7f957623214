"""A generative adversarial network with gradient penalty: a gradient inside a loss, differentiated again.

After Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), on points of a ring instead of pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minikeras as keras
from minikeras import layers, ops

NOISE, CRITIC_STEPS, PENALTY = 4, 4, 0.3


def ring(count: int, seed: int) -> np.ndarray:
    """Points about the circle of radius 2."""
    draw = np.random.default_rng(seed)
    angle = draw.uniform(0, 2 * np.pi, count)
    radius = 2 + draw.normal(scale=0.1, size=count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype("float32")


class WGAN(keras.Model):
    """A generator and a critic, whose gradient at points between real and made ones is kept near length 1."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.generator = keras.Sequential([keras.Input((NOISE,)), *self.hidden("relu"), layers.Dense(2)])
        self.critic = keras.Sequential([keras.Input((2,)), *self.hidden("softplus"), layers.Dense(1)])
        self.seeds = keras.random.SeedGenerator(7)

    @staticmethod
    def hidden(activation: Any) -> list[layers.Layer]:
        return [layers.Dense(48, activation=activation), layers.Dense(48, activation=activation)]

    def compile(self, generator_optimizer: Any, critic_optimizer: Any) -> None:
        super().compile()
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer

    def noise(self, count: int) -> Any:
        return keras.random.normal((count, NOISE), seed=self.seeds)

    def penalty(self, real: Any, made: Any) -> Any:
        between = keras.random.uniform((real.shape[0], 1), seed=self.seeds)
        points = between * real + (1 - between) * made
        with keras.GradientTape() as tape:
            tape.watch(points)
            judged = self.critic(points, training=True)
        lengths = ops.sqrt(ops.sum(ops.square(tape.gradient(judged, points)), axis=1) + 1e-12)
        return ops.mean(ops.square(lengths - 1.0))

    def train_step(self, real: Any) -> dict[str, Any]:
        real = ops.convert_to_tensor(real)
        for _ in range(CRITIC_STEPS):
            made = self.generator(self.noise(real.shape[0]))
            with keras.GradientTape() as tape:
                distance = ops.mean(self.critic(real)) - ops.mean(self.critic(made))
                penalty = self.penalty(real, made)
                loss = PENALTY * penalty - distance
            variables = self.critic.trainable_variables
            self.critic_optimizer.apply(tape.gradient(loss, variables), variables)
        with keras.GradientTape() as tape:
            made_loss = -ops.mean(self.critic(self.generator(self.noise(real.shape[0]))))
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(made_loss, variables), variables)
        return {"distance": distance, "penalty": penalty}


def main() -> None:
    keras.utils.set_random_seed(1)
    gan = WGAN()
    gan.compile(*(keras.optimizers.Adam(3e-3, beta_1=0.5, beta_2=0.9) for _ in range(2)))
    gan.fit(ring(6000, seed=1), batch_size=128, epochs=6, verbose=2)

    made = ops.convert_to_numpy(gan.generator(gan.noise(2000)))
    radii = np.hypot(*made.T)
    shares, _ = np.histogram(np.arctan2(*made.T), bins=8, range=(-np.pi, np.pi))
    print(f"radius {radii.mean():.2f} +- {radii.std():.2f} (real: 2.00 +- 0.10); eighths of the ring: {shares}")
    assert abs(radii.mean() - 2) < 0.4 and radii.std() < 0.9, (radii.mean(), radii.std())
    assert shares.min() > 100, shares


if __name__ == "__main__":
    main()
