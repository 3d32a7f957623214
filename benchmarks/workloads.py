"""What is measured: data, sizes and the rows of the table; the programs are in `keras_models.py` and its neighbours.

A *program* trains and asks one network in one framework: `fit(x, y, batch_size, epochs)` returns the last epoch's loss,
`fit_augmented` trains on pictures that are changed at random,
`predict(x, batch_size)` and `predict_on_batch(x)` return a NumPy array, `evaluate(x, y)` a loss.  A *turn* runs the
timed work of a row once and returns a measurement: `{"value": number in the row's unit}`, for training also `"loss"`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from time import perf_counter
from typing import Any, Protocol

import numpy as np

PICTURES, TEST_PICTURES = 60_000, 10_000  # as many as MNIST has

Measurement = dict[str, float]
Turn = Callable[[], Measurement]


class Missing(Exception):
    """A framework has no such layer (yet): its cell says so, and nothing has failed."""


class Program(Protocol):
    """A network in a framework, with its optimizer; see this module's first lines."""

    def fit(self, x: Any, y: Any, batch_size: int, epochs: int) -> float: ...

    def fit_augmented(self, x: Any, y: Any, batch_size: int, epochs: int) -> float: ...

    def evaluate(self, x: Any, y: Any) -> float: ...

    def predict(self, x: Any, batch_size: int) -> Any: ...

    def predict_on_batch(self, x: Any) -> Any: ...


@dataclass(frozen=True)
class Setting:
    """How a row is run.

    Args:
        mnist: where MNIST lies; None for synthetic pictures of its shape.
        quick: whether a hundredth of the work is enough.
        seed: of synthetic pictures.
    """

    mnist: str | None = None
    quick: bool = False
    seed: int = 0

    def count(self, full: int) -> int:
        """How many samples or calls stand for `full` of them."""
        return min(full, max(full // 100, 64)) if self.quick else full

    def pictures(self, full: int) -> tuple[Any, Any]:
        """Pictures, float32 in [0, 1] of shape `(n, 28, 28, 1)`, and labels of shape `(n,)`, n = `count(full)`."""
        count = self.count(full)
        pictures, labels = read_pictures(self.mnist) if self.mnist else random_pictures(count, self.seed)
        return pictures[:count, :, :, None].astype("float32") / 255, labels[:count].astype("int64")


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


def pictures(setting: Setting, count: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """MNIST's pictures, each in the given shape, and their labels."""
    x, y = setting.pictures(count)
    return x.reshape(-1, *shape), y


def patterns(setting: Setting, count: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Noise, each sample with the pattern of its class of ten laid over it: something that a network can learn."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, setting.count(count))
    x = generator.standard_normal((len(y), *shape), "float32")
    x += generator.standard_normal((10, *shape), "float32")[y]
    return x, y


def words(setting: Setting, count: int) -> tuple[Any, Any]:
    """Random texts of 80 of 20,000 words, int32, with random labels 0. and 1."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 20_000, (setting.count(count), 80), "int32")
    return x, generator.integers(0, 2, len(x)).astype("float32")


def signs(setting: Setting, count: int) -> tuple[Any, Any]:
    """Rows of 20 random numbers, labelled 0. or 1. by the sign of the first."""
    x = np.random.default_rng(0).standard_normal((setting.count(count), 20), "float32")
    return x, (x[:, :1] > 0).astype("float32")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        title, unit: as they stand in the table.
        model: the network, by its name in each framework's `MODELS`; None where no network is timed in a worker.
        data: makes `(x, y)`; classes as integers.
        work: "fit", "fit_augmented", "predict" (the whole way of it) or "predict_on_batch".
        count: samples, or calls where one picture's latency is measured.
        batch_size, epochs: of a turn.
        higher_is_better: whether the unit is a rate.
        note: what the report says where nobody has a value.
    """

    title: str
    unit: str
    model: str | None = None
    data: Callable[[Setting, int], tuple[Any, Any]] | None = None
    work: str = "fit"
    count: int = 0
    batch_size: int = 128
    epochs: int = 1
    higher_is_better: bool = False
    note: str = ""

    @property
    def full_title(self) -> str:
        """The title with what a turn of training is."""
        if self.model is None or not self.trains:
            return self.title
        return f"{self.title}: " + ("epoch" if self.epochs == 1 else f"{self.epochs} epochs") + f" of {self.count:,}"

    @property
    def trains(self) -> bool:
        """Whether a turn is training."""
        return self.work in ("fit", "fit_augmented")

    @property
    def samples_per_unit(self) -> int:
        """How many samples one sample, step or call of the unit is."""
        return self.batch_size if self.unit == "steps/s" else 1

    def turn(self, program: Program, x: Any, y: Any, setting: Setting) -> Turn:
        """The timed turn of this row, for a program and its data."""
        if self.unit == "ms":
            one = x[:1]
            if self.work == "predict":
                return latency(lambda: program.predict(one, 32), setting.count(self.count))
            return latency(lambda: program.predict_on_batch(one), setting.count(self.count))
        amount = self.epochs * (-(-len(x) // self.batch_size) if self.unit == "steps/s" else len(x))

        train = program.fit_augmented if self.work == "fit_augmented" else program.fit

        def fit() -> Measurement:
            start = perf_counter()
            loss = train(x, y, self.batch_size, self.epochs)
            return {"value": amount / (perf_counter() - start), "loss": loss}

        def predict() -> Measurement:
            start = perf_counter()
            program.predict(x, self.batch_size)
            return {"value": amount / (perf_counter() - start)}

        return fit if self.trains else predict


def latency(call: Callable[[], Any], calls: int) -> Turn:
    """A turn of so many calls, one after another; the value is their median in ms."""

    def turn() -> Measurement:
        times = []
        for _ in range(calls):
            start = perf_counter()
            np.asarray(call())
            times.append(perf_counter() - start)
        return {"value": 1000 * median(times)}

    return turn


flat = partial(pictures, shape=(784,))
square = partial(pictures, shape=(28, 28, 1))
lines = partial(pictures, shape=(28, 28))


def _training(title: str, model: str, data: Any, count: int, batch_size: int = 128, **more: Any) -> Row:
    more = {"unit": "samples/s", **more}
    return Row(title, model=model, data=data, count=count, batch_size=batch_size, higher_is_better=True, **more)


def _latency(title: str, model: str, work: str, count: int) -> Row:
    return Row(f"{title}: {work}", "ms", model, square if model == "cnn" else flat, work, count)


ROWS = {
    "W1": _training("W1 MLP 784-128-10, batch 128, Adam", "mlp", flat, PICTURES),
    "W2": _training("W2 MLP 784-512-512-10, dropout 0.2, batch 128, RMSprop", "deep_mlp", flat, PICTURES),
    "W3": _training("W3 CNN 32-64, batch 128, Adam", "cnn", square, 12_800),
    "W4": _training(
        "W4 CNN 64-64-128-128 with BatchNormalization, 32x32x3, batch 64, SGD with momentum",
        "deep_cnn",
        partial(patterns, shape=(32, 32, 3)),
        512,
        64,
    ),
    "W5": _training("W5 Embedding 20,000 x 128, LSTM 128, length 80, batch 32, Adam", "lstm", words, 640, 32),
    "W6": _training("W6 GRU 64, GRU 64, length 28, batch 128, Adam", "gru", lines, 12_800),
    "W7-mlp-predict": _latency("W7 MLP, one picture", "mlp", "predict", 100),
    "W7-mlp-predict_on_batch": _latency("W7 MLP, one picture", "mlp", "predict_on_batch", 1000),
    "W7-cnn-predict": _latency("W7 CNN, one picture", "cnn", "predict", 100),
    "W7-cnn-predict_on_batch": _latency("W7 CNN, one picture", "cnn", "predict_on_batch", 1000),
    "W8": Row(
        "W8 CNN, predict 10,000 pictures, batch 128",
        "samples/s",
        "cnn",
        square,
        "predict",
        10_000,
        higher_is_better=True,
    ),
    "W9": _training("W9 MLP 20-32-1, batch 32, Adam", "tiny_mlp", signs, 6400, 32, unit="steps/s", epochs=5),
    "W10": _training(
        "W10 transformer block: d 128, 4 heads, FFN 256, length 64, batch 32, Adam",
        "transformer",
        partial(patterns, shape=(64, 128)),
        2560,
        32,
    ),
    "W11": _training(
        "W11 MobileNet block: depthwise 3x3, BatchNormalization, relu6, pointwise, 32x32x64, batch 32, Adam",
        "mobile_block",
        partial(patterns, shape=(32, 32, 64)),
        640,
        32,
        epochs=2,
    ),
    "W12": _training(
        "W12 CNN 32-64 of W3 on pictures rotated, shifted, sheared and zoomed by ImageDataGenerator",
        "cnn",
        square,
        12_800,
        work="fit_augmented",
    ),
    "cold-model": Row("Cold start: import layers and Sequential, a first model, a first prediction", "s"),
    "cold-script": Row("Cold start: whole W1 script, start to exit", "s"),
    "cold-memory": Row("Cold start: whole W1 script, peak memory", "MB"),
    "cold-W3-empty": Row("Cold start: first epoch of W3, kernel cache empty", "s"),
    "cold-W3-warm": Row("Cold start: first epoch of W3, kernel cache warm", "s"),
    "memory-W3": Row("Memory: whole W3 training run, peak", "MB"),
    "memory-W4": Row("Memory: whole W4 training run, peak", "MB"),
    "size": Row("Installed size, with all it requires", "MB"),
    "size-bare": Row("Installed size without a compiler, kernels from an archive", "MB"),
}


def timed_turn(turn: Turn) -> tuple[Measurement, float]:
    """Run a turn, garbage of earlier ones collected first; its measurement and its duration in seconds."""
    gc.collect()
    start = perf_counter()
    measurement = turn()
    return measurement, perf_counter() - start
