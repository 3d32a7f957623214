"""Are these two pictures the same digit?  One encoder for both, trained with the contrastive loss.

After Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping" (2006).
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minikeras as keras
from minikeras import layers, ops
from minikeras.datasets import digits

MARGIN = 1.0


def pairs(pictures: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pairs of pictures, half of them of one digit, and whether they are."""
    draw = np.random.default_rng(seed)
    by_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    first = draw.integers(len(labels), size=count)
    same = np.arange(count) % 2
    second = np.empty(count, int)
    for row in range(count):
        digit = labels[first[row]] if same[row] else (labels[first[row]] + draw.integers(1, 10)) % 10
        second[row] = draw.choice(by_digit[digit])
    return [pictures[first], pictures[second]], same.astype("float32")[:, None]


def contrastive(same: Any, distance: Any) -> Any:
    """Pull pictures of one digit together, push others apart until a margin is between them."""
    return ops.mean(same * ops.square(distance) + (1 - same) * ops.square(ops.maximum(MARGIN - distance, 0.0)), axis=-1)


def closer_than_half(same: Any, distance: Any) -> Any:
    """Whether the distance tells the truth."""
    return ops.mean(ops.cast(ops.equal(same, ops.cast(distance < MARGIN / 2, same.dtype)), "float32"), axis=-1)


def build() -> keras.Model:
    """From two pictures to the distance of their codes."""
    encoder = keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="tanh"),
            layers.Dense(8),
        ],
        name="encoder",
    )
    left, right = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    difference = layers.subtract([encoder(left), encoder(right)])
    distance = layers.Lambda(lambda d: ops.sqrt(ops.sum(ops.square(d), axis=-1, keepdims=True) + 1e-7))(difference)
    return keras.Model([left, right], distance)


def main() -> None:
    keras.utils.set_random_seed(1)
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    x_train, x_test = (x[..., None].astype("float32") / 255 for x in (x_train, x_test))
    model = build()
    model.compile(keras.optimizers.Adam(2e-3), contrastive, metrics=[closer_than_half])
    model.fit(*pairs(x_train, y_train, 4000, seed=1), epochs=4, batch_size=64, verbose=2)
    results = model.evaluate(*pairs(x_test, y_test, 1000, seed=2), verbose=0, return_dict=True)
    print(f"right about {results['closer_than_half']:.1%} of new pairs")
    assert results["closer_than_half"] > 0.9, results


if __name__ == "__main__":
    main()
