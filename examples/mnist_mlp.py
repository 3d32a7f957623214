"""Train a multilayer perceptron on handwritten digits: `python examples/mnist_mlp.py [--deep]`.

One hidden layer of 128 units and Adam; with `--deep`, two of 512 units with dropout and RMSprop.
"""

from __future__ import annotations

from common import parse_options, train_and_test

import minikeras as keras
from minikeras import layers


def build(deep: bool) -> keras.Model:
    """The compiled network."""
    if deep:
        model = keras.Sequential(
            [
                keras.Input((784,)),
                layers.Dense(512, activation="relu"),
                layers.Dropout(0.2),
                layers.Dense(512, activation="relu"),
                layers.Dropout(0.2),
                layers.Dense(10, activation="softmax"),
            ]
        )
    else:
        model = keras.Sequential(
            [keras.Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax")]
        )
    model.compile(optimizer="rmsprop" if deep else "adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    options = parse_options(__doc__, epochs=5, switches={"--deep": "two hidden layers of 512 units with dropout"})
    train_and_test(build(options.deep), (784,), options)


if __name__ == "__main__":
    main()
