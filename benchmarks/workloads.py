"""What is measured: Keras programs, written once and given minikeras or real Keras as `keras`.

A workload's `prepare(keras, setting)` builds model and data and returns its *turn*: a function that runs the timed
work once and returns a measurement, `{"value": number in the workload's unit}`, for training also `"loss"`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

BATCH = 128
PICTURES, TEST_PICTURES = 60_000, 10_000  # as many as MNIST has

Measurement = dict[str, float]
Turn = Callable[[], Measurement]


@dataclass(frozen=True)
class Setting:
    """Where MNIST lies (None: synthetic pictures of its shape), and whether a hundredth of the work is enough."""

    mnist: str | None = None
    quick: bool = False

    def count(self, full: int) -> int:
        """How many samples or calls stand for `full` of them."""
        return max(full // 100, 64) if self.quick else full

    def pictures(self, full: int) -> tuple[Any, Any]:
        """Pictures, float32 in [0, 1] of shape `(n, 28, 28, 1)`, and labels of shape `(n,)`, n = `count(full)`."""
        pictures, labels = read_pictures(self.mnist) if self.mnist else random_pictures(PICTURES)
        count = self.count(full)
        return pictures[:count, :, :, None].astype("float32") / 255, labels[:count]


@cache
def read_pictures(path: str) -> tuple[Any, Any]:
    """MNIST's training pictures and labels, uint8, from Keras's `mnist.npz`."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x_train"], arrays["y_train"]


@cache
def random_pictures(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Random pictures and labels of MNIST's shapes and types."""
    generator = np.random.default_rng(seed)
    pictures = np.frombuffer(generator.bytes(count * 28 * 28), "uint8").reshape(count, 28, 28)
    return pictures, generator.integers(0, 10, count, "uint8")


def mlp(keras: Any) -> Any:
    """W1's model: 784-128-10."""
    model = keras.Sequential(
        [
            keras.Input(shape=(784,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def deep_mlp(keras: Any) -> Any:
    """W2's model: 784-512-512-10 with dropout."""
    model = keras.Sequential(
        [
            keras.Input(shape=(784,)),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def cnn(keras: Any) -> Any:
    """W3's model: two convolutions with pooling, dropout, softmax."""
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Conv2D(64, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def lstm(keras: Any) -> Any:
    """W5's model: a sentiment classifier over 20,000 words."""
    model = keras.Sequential(
        [
            keras.Input(shape=(80,), dtype="int32"),
            keras.layers.Embedding(20_000, 128),
            keras.layers.LSTM(128),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def tiny_mlp(keras: Any) -> Any:
    """W9's model: 20-32-1, so small that the framework's own overhead is what is measured."""
    model = keras.Sequential(
        [
            keras.Input(shape=(20,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy")
    return model


def training(model: Any, x: Any, y: Any, batch_size: int, *, epochs: int = 1, count_steps: bool = False) -> Turn:
    """A turn of one `fit`; the value is samples (or steps) per second."""
    amount = epochs * (-(-len(x) // batch_size) if count_steps else len(x))

    def turn() -> Measurement:
        start = perf_counter()
        history = model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
        seconds = perf_counter() - start
        return {"value": amount / seconds, "loss": float(history.history["loss"][-1])}

    return turn


def latency(call: Callable[[], Any], calls: int) -> Turn:
    """A turn of so many calls, one after another, each result a NumPy array; the value is their median in ms."""

    def turn() -> Measurement:
        times = []
        for _ in range(calls):
            start = perf_counter()
            np.asarray(call())
            times.append(perf_counter() - start)
        return {"value": 1000 * median(times)}

    return turn


def train_mlp(keras: Any, setting: Setting) -> Turn:
    """W1."""
    x, y = setting.pictures(PICTURES)
    return training(mlp(keras), x.reshape(-1, 784), keras.utils.to_categorical(y, 10), BATCH)


def train_deep_mlp(keras: Any, setting: Setting) -> Turn:
    """W2."""
    x, y = setting.pictures(PICTURES)
    return training(deep_mlp(keras), x.reshape(-1, 784), keras.utils.to_categorical(y, 10), BATCH)


def train_cnn(keras: Any, setting: Setting) -> Turn:
    """W3, on 100 full batches."""
    x, y = setting.pictures(100 * BATCH)
    return training(cnn(keras), x, keras.utils.to_categorical(y, 10), BATCH)


def train_lstm(keras: Any, setting: Setting) -> Turn:
    """W5, on 20 full batches of random words."""
    count = setting.count(640)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 20_000, (count, 80), "int32")
    return training(lstm(keras), x, generator.integers(0, 2, count).astype("float32"), 32)


def predict_mlp(keras: Any, setting: Setting) -> Turn:
    """W7: the whole way of `predict`, for one picture."""
    model, x = mlp(keras), setting.pictures(1)[0].reshape(-1, 784)
    return latency(lambda: model.predict(x[:1], verbose=0), setting.count(100))


def predict_on_batch_mlp(keras: Any, setting: Setting) -> Turn:
    """W7: `predict_on_batch`, for one picture."""
    model, x = mlp(keras), setting.pictures(1)[0].reshape(-1, 784)
    return latency(lambda: model.predict_on_batch(x[:1]), setting.count(1000))


def predict_cnn(keras: Any, setting: Setting) -> Turn:
    """W7: the whole way of `predict`, for one picture."""
    model, x = cnn(keras), setting.pictures(1)[0]
    return latency(lambda: model.predict(x[:1], verbose=0), setting.count(100))


def predict_on_batch_cnn(keras: Any, setting: Setting) -> Turn:
    """W7: `predict_on_batch`, for one picture."""
    model, x = cnn(keras), setting.pictures(1)[0]
    return latency(lambda: model.predict_on_batch(x[:1]), setting.count(1000))


def predict_many(keras: Any, setting: Setting) -> Turn:
    """W8."""
    model, x = cnn(keras), setting.pictures(10_000)[0]

    def turn() -> Measurement:
        start = perf_counter()
        model.predict(x, batch_size=BATCH, verbose=0)
        return {"value": len(x) / (perf_counter() - start)}

    return turn


def train_tiny_mlp(keras: Any, setting: Setting) -> Turn:
    """W9, five epochs in one `fit`: one would last some 30 ms."""
    x = np.random.default_rng(0).standard_normal((setting.count(6400), 20), "float32")
    y = (x[:, :1] > 0).astype("float32")
    return training(tiny_mlp(keras), x, y, 32, epochs=5, count_steps=True)


@dataclass(frozen=True)
class Row:
    """A line of the table; `prepare` is None where whole processes are measured instead of turns in a worker."""

    title: str
    unit: str
    prepare: Callable[[Any, Setting], Turn] | None = None
    higher_is_better: bool = False


def _throughput(title: str, prepare: Callable[[Any, Setting], Turn], unit: str = "samples/s") -> Row:
    return Row(title, unit, prepare, higher_is_better=True)


ROWS = {
    "W1": _throughput("W1 MLP 784-128-10, batch 128, Adam: epoch of 60,000", train_mlp),
    "W2": _throughput("W2 MLP 784-512-512-10, dropout 0.2, batch 128, RMSprop: epoch of 60,000", train_deep_mlp),
    "W3": _throughput("W3 CNN 32-64, batch 128, Adam: epoch of 12,800", train_cnn),
    "W5": _throughput("W5 Embedding 20,000 x 128, LSTM 128, length 80, batch 32, Adam: epoch of 640", train_lstm),
    "W7-mlp-predict": Row("W7 MLP, one picture: predict", "ms", predict_mlp),
    "W7-mlp-predict_on_batch": Row("W7 MLP, one picture: predict_on_batch", "ms", predict_on_batch_mlp),
    "W7-cnn-predict": Row("W7 CNN, one picture: predict", "ms", predict_cnn),
    "W7-cnn-predict_on_batch": Row("W7 CNN, one picture: predict_on_batch", "ms", predict_on_batch_cnn),
    "W8": _throughput("W8 CNN, predict 10,000 pictures, batch 128", predict_many),
    "W9": _throughput("W9 MLP 20-32-1, batch 32, Adam: 5 epochs of 6,400", train_tiny_mlp, "steps/s"),
    "cold-import": Row("Cold start: import", "s"),
    "cold-script": Row("Cold start: whole W1 script, start to exit", "s"),
    "cold-memory": Row("Cold start: whole W1 script, peak memory", "MB"),
    "size": Row("Installed size, with all it requires", "MB"),
}


def timed_turn(turn: Turn) -> tuple[Measurement, float]:
    """Run a turn, garbage of earlier ones collected first; its measurement and its duration in seconds."""
    gc.collect()
    start = perf_counter()
    measurement = turn()
    return measurement, perf_counter() - start
