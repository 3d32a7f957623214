"""Trainings that are broken off: each function begins one anew and returns the model and the arguments of its `fit`.

`python -m tests.resume_cases CASE FOLDER SEED` is the program that is killed: it trains, kills itself at a moment that
the seed chooses, and writes what it ended with to `FOLDER/resultSEED.json` when it got to the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np

import minikeras as keras
from minikeras import callbacks, layers, losses, metrics, optimizers
from minikeras.data import Dataset
from minikeras.preprocessing.image import ImageDataGenerator

X = np.random.default_rng(0).normal(size=(22, 6)).astype("float32")
Y = X[:, :2].sum(1, keepdims=True) > 0
PICTURES = np.random.default_rng(1).random((14, 6, 6, 1)).astype("float32")
LABELS = np.arange(14) % 3


def mlp() -> tuple[Any, dict[str, Any]]:
    """Dropout, a schedule, running means, and callbacks in the middle of their patience."""
    inside = [layers.Dense(5, "relu"), layers.Dropout(0.4), layers.BatchNormalization(), layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((6,)), *inside])
    schedule = optimizers.schedules.ExponentialDecay(0.05, 3, 0.9)
    model.compile(
        optimizers.Adam(schedule, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy", metrics.AUC(name="auc")]
    )
    stop = callbacks.EarlyStopping(patience=2, restore_best_weights=True, min_delta=0.05)
    return model, {"x": X, "y": Y, "validation_split": 0.2, "batch_size": 5, "callbacks": [stop], "epochs": 4}


def plateau() -> tuple[Any, dict[str, Any]]:
    """Moving averages, accumulated gradients, a rate that is set by two callbacks."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, "tanh"), layers.GaussianNoise(0.1), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1, momentum=0.9, use_ema=True, gradient_accumulation_steps=2, decay=0.01), "mse")
    lower = callbacks.ReduceLROnPlateau("loss", patience=1, cooldown=1, min_delta=0.1, factor=0.5)
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9)
    swap = callbacks.SwapEMAWeights(swap_on_epoch=True)
    options = {"callbacks": [halve, lower, swap], "validation_data": (X[:5], Y[:5]), "epochs": 4}
    return model, {"x": X, "y": Y, "batch_size": 6, "shuffle": "batch", "steps_per_epoch": 3, **options}


def cnn(**options: Any) -> tuple[Any, dict[str, Any]]:
    """Pictures that are changed at random in threads."""
    generator = ImageDataGenerator(rotation_range=30, width_shift_range=0.2, horizontal_flip=True, zoom_range=0.2)
    inside = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dropout(0.2), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6, 6, 1)), *inside])
    model.compile("rmsprop", losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    batches = generator.flow(PICTURES, LABELS, batch_size=4, seed=5)
    validation = generator.flow(PICTURES, LABELS, batch_size=8, seed=6, shuffle=False)
    return model, {"x": batches, "validation_data": validation, "epochs": 3, "workers": 2, **options}


def cnn_processes() -> tuple[Any, dict[str, Any]]:
    """Pictures that are changed at random in processes."""
    return cnn(workers=1, use_multiprocessing=True, epochs=2, validation_data=None)


def cnn_unseeded() -> tuple[Any, dict[str, Any]]:
    """Pictures that one thread changes with NumPy's global generator."""
    generator = ImageDataGenerator(rotation_range=30, horizontal_flip=True)
    model, options = cnn()
    return model, {**options, "x": generator.flow(PICTURES, LABELS, batch_size=4), "workers": 1}


def lstm() -> tuple[Any, dict[str, Any]]:
    """A recurrent layer that carries states, on a dataset that is shuffled and prepared ahead."""
    sequences = np.random.default_rng(2).normal(size=(18, 4, 3)).astype("float32")
    data = Dataset.from_arrays(sequences, sequences.sum((1, 2))).shuffle(7).batch(3).prefetch(2)
    inside = [layers.LSTM(4, stateful=True, recurrent_dropout=0.1), layers.Dense(1)]
    model = keras.Sequential([keras.Input((4, 3), batch_size=3), *inside])
    model.compile("nadam", "mse")
    check = Dataset.from_arrays(sequences, sequences.sum((1, 2))).shuffle(18).batch(3)
    return model, {"x": data, "validation_data": check, "validation_steps": 2, "epochs": 3}


def repeated() -> tuple[Any, dict[str, Any]]:
    """An endless dataset, of which an epoch takes a part."""
    model, _ = mlp()
    data = Dataset.from_arrays(X, Y).shuffle(22).map(lambda x, y: (x * np.float32(1.5), y)).batch(4).repeat()
    return model, {"x": data, "steps_per_epoch": 4, "epochs": 3}


def comparison() -> tuple[Any, dict[str, Any]]:
    """Three optimizers, of which one stops early."""
    inside = [layers.Dense(4, "relu"), layers.Dropout(0.3), layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((6,)), *inside])
    model.compile(["sgd", optimizers.Adam(0.05), optimizers.SGD(0.0)], "binary_crossentropy", metrics=["accuracy"])
    stop = callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    lower = callbacks.ReduceLROnPlateau(patience=1, min_delta=0.05)
    return model, {"x": X, "y": Y, "validation_split": 0.25, "batch_size": 5, "callbacks": [stop, lower], "epochs": 4}


class Shuffled(keras.utils.PyDataset):
    """A user's dataset, as they are written: an order of its own, noise from a generator of its own and NumPy's."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.noise = np.random.default_rng(3)
        self._indices = np.arange(len(X))
        self.on_epoch_end()

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        rows = self._indices[index * 4 : index * 4 + 4]
        scale = np.random.uniform(0.9, 1.1) if self.workers < 2 else 1.0
        noise = self.noise.normal(size=(4, 6)) if self.workers < 2 else 0.0
        return (X[rows] * scale + noise).astype("float32"), Y[rows]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self._indices)


class Counting(callbacks.Callback):
    """A user's callback with plain attributes."""

    def __init__(self, limit: int = 100):
        self.limit, self.batches, self.losses, self.noise = limit, 0, [], random.Random(1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        self.limit -= 1
        self.losses.append(logs["loss"] + self.noise.random())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["counted"] = self.batches + self.limit / 7 + sum(self.losses)


class Noise(layers.Layer):
    """A user's layer with random numbers of all kinds, and a number that it counts up."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        self.calls += 1
        shift = np.random.normal() + random.random() + self.calls / 10
        return inputs + float(shift) * 0.01 + keras.random.normal((1,)) * 0.01


class TwoSteps(keras.Model):
    """A user's model with a training step and a metric of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.first, self.noise, self.last = layers.Dense(3, "tanh"), Noise(), layers.Dense(1)
        self.seen = metrics.Sum(name="seen")
        self.steps = 0

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.noise(self.first(inputs), training=training))

    def train_step(self, data: Any) -> Any:
        x, y = data
        self.steps += 1
        with keras.GradientTape() as tape:
            loss = keras.ops.mean((self(x, training=True) - y) ** 2) / self.steps
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.seen.update_state([float(self.steps)])
        return {"loss": loss, "seen": self.seen.result()}


def own() -> tuple[Any, dict[str, Any]]:
    """What users write: model, layer, dataset and callback."""
    model = TwoSteps()
    model.compile("adam", "mse")
    return model, {"x": Shuffled(workers=0), "callbacks": [Counting()], "epochs": 3}


def own_threads() -> tuple[Any, dict[str, Any]]:
    """A user's dataset, prepared ahead by one thread, in a new order each epoch."""
    model, _ = mlp()
    return model, {"x": Shuffled(), "callbacks": [Counting()], "epochs": 3, "shuffle": True}


def own_many_threads() -> tuple[Any, dict[str, Any]]:
    """The same by several threads, a part of it in each epoch."""
    model, _ = mlp()
    return model, {"x": Shuffled(workers=3), "steps_per_epoch": 3, "epochs": 4}


def own_arrays() -> tuple[Any, dict[str, Any]]:
    """A user's layer on arrays, with a model that is only built by its first step."""
    model = keras.Sequential([layers.Dense(4), Noise(), layers.Dense(1)])
    model.compile("adagrad", "mse", metrics=["mae"])
    return model, {"x": X, "y": Y, "batch_size": 7, "callbacks": [Counting()], "epochs": 3}


def outputs() -> tuple[Any, dict[str, Any]]:
    """Several outputs, each with a loss and metrics, weights of samples, half precision with its scale."""
    given = keras.Input((6,))
    hidden = layers.Dense(4, "relu")(given)
    parts = {"a": layers.Dense(1, name="a")(hidden), "b": layers.Dense(1, name="b")(layers.Dropout(0.2)(hidden))}
    model = keras.Model(given, parts)
    scaled = optimizers.LossScaleOptimizer(optimizers.Adam(0.01), dynamic_growth_steps=3)
    model.compile(scaled, {"a": "mse", "b": "mae"}, metrics={"a": ["mae"], "b": ["mse"]})
    return model, {"x": X, "y": {"a": Y, "b": Y}, "sample_weight": np.linspace(0, 2, 22), "batch_size": 9, "epochs": 2}


def several() -> tuple[Any, dict[str, Any]]:
    """An optimizer for each part of the weights."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, "relu", name="a"), layers.Dense(1, name="b")])
    chosen = optimizers.OptimizerMap(optimizers.Adam(0.01), {".*a/.*": optimizers.SGD(0.1, momentum=0.5)})
    model.compile(optimizers.MultiOptimizer(chosen), "mse")
    return model, {"x": X, "y": Y, "batch_size": 8, "epochs": 3}


RANDOM = np.random.default_rng(4)


class Part:
    """Something that a user's class is made of."""

    def __init__(self):
        self.noise, self.count = np.random.default_rng(5), 0

    def __call__(self, rows: Any) -> Any:
        self.count += 1
        return (rows + self.noise.normal() + self.count / 10).astype("float32")


class Composed(keras.utils.PyDataset):
    """Random numbers of its parts, of a layer and of the module."""

    def __init__(self):
        super().__init__()
        self.parts, self.drop, self.order = [Part()], layers.Dropout(0.2), np.arange(len(X))

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        rows = self.order[index * 4 : index * 4 + 4]
        return self.drop(self.parts[0](X[rows]), training=True), Y[rows]

    def on_epoch_end(self) -> None:
        RANDOM.shuffle(self.order)


class Weighing(losses.Loss):
    """A loss that counts, and keeps a variable that a callback changes."""

    def __init__(self, weight: Any):
        super().__init__()
        self.weight, self.calls = weight, 0

    def call(self, y_true: Any, y_pred: Any) -> Any:
        self.calls += 1
        return keras.ops.mean((y_true - y_pred) ** 2, -1) * self.weight / self.calls


class Changing(callbacks.Callback):
    """Changes settings of layers and optimizers; keeps arrays, a model of its own, and what its parts keep."""

    def __init__(self, shadow: Any):
        self.shadow, self.part, self.numbers, self.nothing = shadow, Part(), np.zeros(3), {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.numbers += self.part(np.ones(3))
        pairs = zip(self.shadow.get_weights(), self.model.get_weights(), strict=True)
        self.shadow.set_weights([a / 2 + b / 2 for a, b in pairs])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["changing"] = self.numbers.sum() + sum(one.sum() for one in self.shadow.get_weights())
        if epoch == 0:
            self.model.layers[1].rate = 0.6
            self.model.optimizer.weight_decay = 0.1


def elsewhere() -> tuple[Any, dict[str, Any]]:
    """State in what a program's objects and functions lead to."""
    RANDOM.bit_generator.state = np.random.default_rng(4).bit_generator.state
    weight = keras.Variable(1.0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4, "tanh"), layers.Dropout(0.3), layers.Dense(1)])
    model.compile(optimizers.AdamW(0.02), Weighing(weight))
    lower = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: weight.assign(weight * 0.7))
    changing = Changing(keras.models.clone_model(model))
    return model, {"x": Composed(), "callbacks": [lower, changing], "epochs": 3}


CASES = {
    one.__name__: one
    for one in (
        *(mlp, plateau, cnn, cnn_processes, cnn_unseeded, lstm, repeated, comparison),
        *(own, own_threads, own_many_threads, own_arrays, outputs, several, elsewhere),
    )
}


def begun(case: str) -> tuple[Any, dict[str, Any]]:
    """A training as a program begins it."""
    keras.utils.set_random_seed(7)
    model, options = CASES[case]()
    return model, {"verbose": 0, **options}


def ended(model: Any, history: Any) -> dict[str, str]:
    """All that a training ended with, as texts that are equal for equal bits."""
    arrays = [*model.get_weights(), *model.optimizer.get_weights()]
    return {
        "arrays": hashlib.sha256(b"".join(one.tobytes() for one in arrays)).hexdigest(),
        "history": repr({name: [float(one) for one in values] for name, values in sorted(history.history.items())}),
        "epochs": repr(history.epoch),
        "metrics": repr({name: float(value) for name, value in sorted(model.get_metrics_result().items())}),
        "streams": repr([stream.counter for stream in model._contents().streams]),
    }


class Kill(callbacks.Callback):
    """Kills the process at a batch, some milliseconds after it, or within a save.

    Args:
        chance: chooses.
    """

    def __init__(self, chance: random.Random):
        self.left, self.delay = chance.randrange(1, 9), chance.choice((0.0, 0.0, 0.001, 0.004, 0.02))
        if chance.random() < 0.3:  # in the middle of writing, or when all but the last step is done
            name, saves = chance.choice(("fsync", "replace")), iter(range(chance.randrange(4), -1, -1))
            function = getattr(os, name)
            setattr(os, name, lambda *arguments: function(*arguments) if next(saves) else kill())

    def get_state(self) -> dict[str, Any]:
        return {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            kill() if self.delay == 0 else threading.Timer(self.delay, kill).start()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(case: str, folder: str, seed: int) -> None:
    """Train as the seed says, below 0 without being killed or saved."""
    model, options = begun(case)
    backup = os.path.join(folder, "backup")
    if seed >= 0:
        chosen = list(options.get("callbacks", ()))
        if model.built and seed % 2:
            chosen.append(callbacks.BackupAndRestore(backup, save_freq=1 + seed % 3, delete_checkpoint=False))
        else:
            options["resume"] = backup
        options["callbacks"] = [*chosen, Kill(random.Random(seed))]
    result = ended(model, model.fit(**options))
    path = os.path.join(folder, f"result{seed}.json")
    with open(f"{path}.new", "w") as file:
        json.dump(result, file)
    os.rename(f"{path}.new", path)


def run(case: str, folder: Any, seed: int, killed_after: float | None = None) -> dict[str, str] | None:
    """What the program ends with, None where it was killed: by itself, or after so many seconds from here."""
    command = [sys.executable, "-m", "tests.resume_cases", case, str(folder), str(seed)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "MINIKERAS_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    try:
        process.wait(killed_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{case} with seed {seed} failed")
    path = os.path.join(folder, f"result{seed}.json")
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file)


def kill_until_done(case: str, folder: Any, seed: int) -> tuple[dict[str, str], int]:
    """Start a program until it gets to its end: what it ends with, and how often it was killed.

    A killed one has begun nothing anew: each goes on where the last whole checkpoint is.
    """
    chance, kills = random.Random(seed), 0
    while True:
        outside = chance.uniform(0.3, 3.0) if chance.random() < 0.2 else None
        result = run(case, folder, chance.randrange(10**6), outside)
        if result is not None:
            return result, kills
        kills += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
