"""Short trainings: a network of each kind, for a few steps, on any device; what comes of them is compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras import layers, utils
from minikeras.models import Sequential


def mlp(units: int = 128) -> Any:
    """W1 of the benchmarks: 784-128-10."""
    return Sequential(
        [layers.Input((784,)), layers.Dense(units, activation="relu"), layers.Dense(10, activation="softmax")]
    )


def cnn(filters: int = 32) -> Any:
    """W3: two convolutions with pooling, dropout, softmax."""
    return Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(2 * filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5, seed=2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def lstm(units: int = 128) -> Any:
    """W5: a sentiment classifier over 20,000 words."""
    return Sequential(
        [
            layers.Input((80,), dtype="int32"),
            layers.Embedding(20_000, units),
            layers.LSTM(units),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


CLASSES, SIGN = "sparse_categorical_crossentropy", "binary_crossentropy"


@dataclass(frozen=True)
class Training:
    """What is trained.

    Args:
        name: as the benchmarks have it.
        make: the network.
        loss: what is minimised.
        shape: of a sample; whole numbers where there is one axis and these are words.
        words: how many words there are, 0 for pictures.
        samples, batch_size: of an epoch, of which there are four: the first steps are not those of a program.
    """

    name: str
    make: Any
    loss: str
    shape: tuple[int, ...]
    words: int
    samples: int
    batch_size: int

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Samples and their labels."""
        draws = np.random.default_rng(3)
        if self.words:
            x = draws.integers(0, self.words, (self.samples, *self.shape), "int32")
            return x, (x[:, 0] % 2).astype("float32")
        y = draws.integers(0, 10, self.samples)
        x = draws.uniform(0, 1, (self.samples, *self.shape)) + draws.uniform(0, 1, (10, *self.shape))[y]
        return (0.5 * x).astype("float32"), y

    def run(self, jit_compile: bool | str) -> Trained:
        """Train it anew on the active device, with seeds that are always the same."""
        x, y = self.data()
        utils.set_random_seed(5)
        model = self.make()
        model.compile("adam", self.loss, jit_compile=jit_compile)
        start = time.perf_counter()
        losses = model.fit(x, y, self.batch_size, epochs=4, verbose=0).history["loss"]
        seconds = time.perf_counter() - start
        return Trained(losses, model.get_weights(), seconds, model._programs.why("train"))


@dataclass
class Trained:
    """The losses of the epochs, the weights, how long it took, and why no program made steps, None if one did."""

    losses: list[float]
    weights: list[np.ndarray]
    seconds: float
    reason: str | None = None

    def difference(self, other: Trained) -> float:
        """The largest of losses and weights, relative to the largest number there."""
        pairs = zip([np.array(self.losses), *self.weights], [np.array(other.losses), *other.weights], strict=True)
        found = [float(np.abs(one - two).max() / (np.abs(two).max() or 1.0)) for one, two in pairs]
        return float("inf") if any(np.isnan(found)) else max(found)


TRAININGS = [
    Training("W1", mlp, CLASSES, (784,), 0, 1280, 128),
    Training("W3", cnn, CLASSES, (28, 28, 1), 0, 256, 64),
    Training("W5", lstm, SIGN, (80,), 20_000, 128, 32),
]
