"""What is measured: data, sizes and the rows of the table; the programs are in `keras_models.py` and its neighbours.

A *program* trains and asks one network in one framework: `fit(x, y, batch_size, epochs)` returns the last epoch's loss,
`fit_augmented` trains on pictures that are changed at random, `train_on_batch(x, y)` takes one step and returns its
loss, `predict(x, batch_size)`, `predict_on_batch(x)` and `ask(x)`, which one writes in a loop of one's own, return a
NumPy array, `evaluate(x, y)` a loss; `another(units, rate)` is a new program with another width and learning rate.  A
*turn* runs the timed work of a row once and returns a measurement: `{"value": number in the row's unit}`, for training
also `"loss"`, for repeated work also `"done"`, how often it was done.  A *way* is how Keras can be asked for the same
work: whoever has several is measured with each and counts with the best.
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
WORDS, START, TOKENS = 96, 8, 32  # of W15: what a text is made of, how many begin it, how many are added
WIDTHS, RATES = (8, 16, 32, 64, 128), (0.03, 0.01, 0.003, 0.001)  # what the sweep tries, each with each
STEPS, AT_ONCE = "32 steps a call", "predict_on_batch"  # ways beside the one that comes first

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

    def ask(self, x: Any) -> Any: ...

    def train_on_batch(self, x: Any, y: Any) -> float: ...

    def another(self, units: int, rate: float) -> Program: ...


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

    @property
    def turn_seconds(self) -> float:
        """When a turn of repeated work ends, and counts what it has done."""
        return 0.1 if self.quick else 5.0

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


def signs(setting: Setting, count: int, features: int = 20) -> tuple[Any, Any]:
    """Rows of random numbers, labelled 0. or 1. by the sign of the first."""
    x = np.random.default_rng(0).standard_normal((setting.count(count), features), "float32")
    return x, (x[:, :1] > 0).astype("float32")


def alike(setting: Setting, count: int) -> tuple[Any, Any]:
    """Flat pictures, wanted as they are."""
    x, _ = pictures(setting, count, (784,))
    return x, x


def states(setting: Setting, count: int) -> tuple[Any, Any]:
    """States of four random numbers, and what is known of the worth of two actions: nothing yet."""
    x = np.random.default_rng(0).standard_normal((setting.count(count), 4), "float32")
    return x, np.zeros((len(x), 2), "float32")


def beginnings(setting: Setting, count: int) -> tuple[Any, Any]:
    """The first words of texts, int32, with room for what follows."""
    x = np.random.default_rng(0).integers(0, WORDS, (count, START + TOKENS), "int32")
    return x, x


# ---------------------------------------------------------------- work that a turn repeats: stage after stage


def reinforce(program: Program, x: Any, y: Any, row: Row) -> Callable[[int], float]:
    """A step of reinforcement learning: an action for one state, its reward remembered, a batch of memories learnt."""
    y, batches = y.copy(), np.random.default_rng(1).integers(0, len(x), (len(x), row.batch_size))

    def step(number: int) -> float:
        at = number % len(x)
        action = program.ask(x[at : at + 1])[0].argmax()
        y[at, action] = x[at, action]
        remembered = batches[at]
        return program.train_on_batch(x[remembered], y[remembered])

    return step


def sweep(program: Program, x: Any, y: Any, row: Row) -> Callable[[int], float]:
    """A model of the sweep: built, compiled and trained."""
    variants = [(units, rate) for units in WIDTHS for rate in RATES]

    def stage(number: int) -> float:
        return program.another(*variants[number % len(variants)]).fit(x, y, row.batch_size, row.epochs)

    return stage


def generate(program: Program, x: Any, y: Any, row: Row) -> Callable[[int], None]:
    """A text, each word the likeliest after all that are there."""

    def stage(number: int) -> None:
        text = x[number % len(x)][None].copy()
        for length in range(START, START + TOKENS):
            text[0, length] = program.ask(text[:, :length])[0, -1].argmax()

    return stage


REPEATED: dict[str, Callable[..., Callable[[int], float | None]]] = {
    "reinforce": reinforce, "sweep": sweep, "generate": generate
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        title, unit: as they stand in the table.
        model: the network, by its name in each framework's `MODELS`; None where no network is timed in a worker.
        data: makes `(x, y)`; classes as integers.
        work: "fit", "fit_augmented", "predict" (the whole way of it), "predict_on_batch", or one of `REPEATED`.
        count: samples, or calls where one picture's latency is measured.
        batch_size, epochs: of a turn.
        repeats: how often a turn does repeated work, if the time allows.
        ways: how Keras can be asked; the first is how people first meet it, and ours.
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
    repeats: int = 0
    ways: tuple[str, ...] = ("",)
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
        """How many samples one sample, step, call or fit of the unit is."""
        return {"steps/s": self.batch_size, "fits/s": self.count * self.epochs}.get(self.unit, 1)

    def turn(self, program: Program, x: Any, y: Any, setting: Setting) -> Turn:
        """The timed turn of this row, for a program and its data."""
        if self.unit == "ms":
            one = x[:1]
            if self.work == "predict":
                return latency(lambda: program.predict(one, 32), setting.count(self.count))
            return latency(lambda: program.predict_on_batch(one), setting.count(self.count))
        if self.work in REPEATED:
            stage = REPEATED[self.work](program, x, y, self)
            units = TOKENS if self.work == "generate" else 1
            return repeated(stage, setting.count(self.repeats), units, setting.turn_seconds)
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


def repeated(stage: Callable[[int], float | None], count: int, units: int, seconds: float) -> Turn:
    """A turn of so many stages, or of those that could begin within `seconds`; the value is units per second.

    The loss is that of the first stage, to which all come.
    """

    def turn() -> Measurement:
        start = perf_counter()
        loss, done = stage(0), 1
        while done < count and perf_counter() - start < seconds:
            stage(done)
            done += 1
        measurement = {"value": units * done / (perf_counter() - start), "done": done}
        return measurement if loss is None else {**measurement, "loss": loss}

    return turn


flat = partial(pictures, shape=(784,))
square = partial(pictures, shape=(28, 28, 1))
lines = partial(pictures, shape=(28, 28))


def _training(title: str, model: str, data: Any, count: int, batch_size: int = 128, **more: Any) -> Row:
    more = {"unit": "samples/s", "ways": ("", STEPS), **more}
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
        ways=("", STEPS),
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
    "W13": _training(
        "W13 reinforcement learning, 10,000 steps: MLP 4-64-64-2, one state by model(x), train_on_batch of 32, Adam",
        "agent",
        states,
        10_000,
        32,
        unit="steps/s",
        work="reinforce",
        repeats=10_000,
        ways=("", AT_ONCE),
    ),
    "W14": _training(
        "W14 sweep of 20 MLPs 20-8 to 128-1, each built, compiled, 20 epochs of 1,000, batch 32, Adam",
        "tiny_mlp",
        signs,
        1000,
        32,
        unit="fits/s",
        epochs=20,
        work="sweep",
        repeats=20,
    ),
    "W15": _training(
        f"W15 text, word by word with model(x), from {START} to {START + TOKENS}: 2 transformer blocks, d 64, FFN 256",
        "writer",
        beginnings,
        20,
        1,
        unit="words/s",
        work="generate",
        repeats=20,
        ways=("", AT_ONCE),
    ),
    "W16": _training("W16 autoencoder 784-128-32-128-784, batch 128, Adam", "autoencoder", alike, PICTURES),
    "W17": _training(
        "W17 tabular MLP: 100 columns, 10 layers of 256 with BatchNormalization, batch 1,024, Adam",
        "tabular",
        partial(signs, features=100),
        51_200,
        1024,
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
