"""What the examples share: the pictures, the options, and the run."""

from __future__ import annotations

import argparse
import time

import numpy as np

import minikeras as keras
from minikeras.datasets import digits, mnist


def load_pictures() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`(x_train, y_train), (x_test, y_test)` as bytes: MNIST where it can be had, else drawn digits."""
    try:
        data = mnist.load_data()
        print(f"Data: MNIST, {len(data[0][0]):,} handwritten digits to train on, {len(data[1][0]):,} to test on.")
    except OSError as error:
        print(f"{error}\nData: digits drawn by minikeras.datasets.digits instead; accuracies differ from MNIST's.")
        data = digits.load_data()
    return data


def load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same pictures (n, 28, 28) in [0, 1] and one-hot labels."""
    (x_train, y_train), (x_test, y_test) = load_pictures()
    scale = np.float32(1 / 255)
    one_hot = keras.utils.to_categorical
    return x_train * scale, one_hot(y_train, 10), x_test * scale, one_hot(y_test, 10)


def parse_options(description: str, epochs: int, switches: dict[str, str] | None = None) -> argparse.Namespace:
    """The command line's options, put into effect: device and seed; `switches` are further flags and their help."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    for name, text in (switches or {}).items():
        parser.add_argument(name, action="store_true", help=text)
    parser.add_argument("--epochs", type=int, default=epochs, help=f"passes over the training data (default {epochs})")
    parser.add_argument("--batch-size", type=int, default=128, help="samples per step (default 128)")
    parser.add_argument("--device", choices=("cpu", "gpu", "auto"), help="default $MINIKERAS_DEVICE, else auto")
    parser.add_argument("--seed", type=int, default=7, help="for initial weights, order and dropout (default 7)")
    options = parser.parse_args()
    if options.device:
        keras.config.set_device(options.device)
    keras.utils.set_random_seed(options.seed)
    return options


def train_and_test(model: keras.Model, sample_shape: tuple[int, ...], options: argparse.Namespace) -> None:
    """Fit the model to the digits and print its accuracy on those it has not seen."""
    x_train, y_train, x_test, y_test = load_digits()
    x_train, x_test = x_train.reshape(-1, *sample_shape), x_test.reshape(-1, *sample_shape)
    model.summary()
    began = time.perf_counter()
    model.fit(x_train, y_train, epochs=options.epochs, batch_size=options.batch_size)
    seconds = time.perf_counter() - began
    loss, accuracy = model.evaluate(x_test, y_test, batch_size=options.batch_size, verbose=0)
    print(f"Trained in {seconds:.1f} s.  Test accuracy {accuracy:.2%}, test loss {loss:.4f}.")
