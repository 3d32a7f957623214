"""The pictures that the examples train on."""

from __future__ import annotations

import numpy as np

from minikeras import utils
from minikeras.datasets import digits, mnist


def load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (n, 28, 28) in [0, 1] and one-hot labels: MNIST where it can be had, else drawn digits."""
    try:
        (x_train, y_train), (x_test, y_test) = mnist.load_data()
        print(f"Data: MNIST, {len(x_train):,} handwritten digits to train on, {len(x_test):,} to test on.")
    except OSError as error:
        print(f"{error}\nData: digits drawn by minikeras.datasets.digits instead; accuracies differ from MNIST's.")
        (x_train, y_train), (x_test, y_test) = digits.load_data()
    scale = np.float32(1 / 255)
    return x_train * scale, utils.to_categorical(y_train, 10), x_test * scale, utils.to_categorical(y_test, 10)
