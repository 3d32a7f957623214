"""Train a multilayer perceptron on handwritten digits: `python examples/mnist_mlp.py [--deep]`.

One hidden layer of 128 units and Adam; with `--deep`, two of 512 units with dropout and RMSprop.
"""

from __future__ import annotations

import argparse
import time

from data import load_digits

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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deep", action="store_true", help="two hidden layers of 512 units with dropout")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the training data (default 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="samples per step (default 128)")
    parser.add_argument(
        "--device", choices=("cpu", "gpu", "auto"), help="where to compute (default $MINIKERAS_DEVICE, else auto)"
    )
    parser.add_argument("--seed", type=int, default=0, help="for initial weights, order and dropout (default 0)")
    options = parser.parse_args()
    if options.device:
        keras.config.set_device(options.device)
    keras.utils.set_random_seed(options.seed)

    x_train, y_train, x_test, y_test = load_digits()
    x_train, x_test = x_train.reshape(-1, 784), x_test.reshape(-1, 784)
    model = build(options.deep)
    model.summary()
    began = time.perf_counter()
    model.fit(x_train, y_train, epochs=options.epochs, batch_size=options.batch_size)
    seconds = time.perf_counter() - began
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=options.batch_size, verbose=0)
    print(f"Trained in {seconds:.1f} s.  Test accuracy {accuracy:.2%}, test loss {loss:.4f}.")


if __name__ == "__main__":
    main()
