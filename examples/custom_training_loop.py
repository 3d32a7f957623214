"""A training loop by hand: a tape, an optimizer with a schedule, metrics, and clipping."""

from __future__ import annotations

import numpy as np

import minikeras as keras
from minikeras import layers


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on three arms of a spiral."""
    draw = np.random.default_rng(seed)
    arm = draw.integers(3, size=count)
    radius = draw.random(count)
    angle = 4 * radius + arm * 2 * np.pi / 3 + draw.normal(scale=0.15, size=count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype("float32"), arm


def main() -> None:
    keras.utils.set_random_seed(1)
    x, y = spirals(3000, seed=1)
    model = keras.Sequential(
        [layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu"), layers.Dense(3)]
    )
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = 10 * -(-len(x) // 64)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, steps), global_clipnorm=1.0)
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    data = keras.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=1).batch(64)
    for epoch in range(10):
        accuracy.reset_state()
        for points, arms in data:
            with keras.GradientTape() as tape:
                logits = model(points, training=True)
                loss = loss_of(arms, logits)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            accuracy.update_state(arms, logits)
        print(f"epoch {epoch + 1:2}: accuracy {float(accuracy.result()):.3f}")

    x, y = spirals(1000, seed=2)
    accuracy.reset_state()
    accuracy.update_state(y, model(x))
    result = float(accuracy.result())
    print(f"new points: accuracy {result:.3f}")
    assert result > 0.9, result


if __name__ == "__main__":
    main()
