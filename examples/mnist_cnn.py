"""Train a convolutional network on handwritten digits: `python examples/mnist_cnn.py`."""

from __future__ import annotations

import argparse
import time

from data import load_digits

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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training data (default 4)")
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
    x_train, x_test = x_train[..., None], x_test[..., None]
    model = build()
    model.summary()
    began = time.perf_counter()
    model.fit(x_train, y_train, epochs=options.epochs, batch_size=options.batch_size)
    seconds = time.perf_counter() - began
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=options.batch_size, verbose=0)
    print(f"Trained in {seconds:.1f} s.  Test accuracy {accuracy:.2%}, test loss {loss:.4f}.")


if __name__ == "__main__":
    main()
