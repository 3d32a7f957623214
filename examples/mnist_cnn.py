"""Train a convolutional network on handwritten digits: `python examples/mnist_cnn.py`."""

from __future__ import annotations

from common import parse_options, train_and_test

import minikeras as keras
from minikeras import layers


def build() -> keras.Model:
    """The compiled network: two convolutions with pooling, dropout, and a softmax."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    options = parse_options(__doc__, epochs=4)
    train_and_test(build(), (28, 28, 1), options)


if __name__ == "__main__":
    main()
