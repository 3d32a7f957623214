"""Recorded sequences of logs through real Keras's callbacks and ours: the same decisions."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from minikeras import callbacks as ours  # noqa: E402

theirs = keras.callbacks


class Model:
    """A model that only records what callbacks do to it; its weights are the epoch's number."""

    metrics: tuple = ()

    def __init__(self) -> None:
        self.stop_training = False
        self.weights: Any = None
        self.saved: list[str] = []
        self.optimizer = type("Optimizer", (), {"learning_rate": np.float32(0.1)})()

    def get_weights(self) -> Any:
        return self.weights

    def set_weights(self, weights: Any) -> None:
        self.weights = weights

    def save(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(os.path.basename(path))

    save_weights = save


def decisions(callback: Any, name: str, values: list[float], batches: int = 3) -> list[Any]:
    """What the callback did, epoch by epoch."""
    model = Model()
    callback.set_model(model)
    made: list[Any] = []
    for _ in range(2):  # two trainings with one callback
        model.stop_training = False
        callback.on_train_begin()
        for epoch, value in enumerate(values):
            callback.on_epoch_begin(epoch)
            for batch in range(batches):
                callback.on_train_batch_begin(batch)
                callback.on_train_batch_end(batch, {"loss": float(batch)})
            model.weights = epoch
            logs = {"other": 1.0} if value is None else {name: value}
            callback.on_epoch_end(epoch, logs)
            rate = float(model.optimizer.learning_rate)
            made.append((epoch, model.stop_training, round(rate, 9), tuple(model.saved), sorted(logs)))
            if model.stop_training:
                break
        callback.on_train_end()
        made.append(model.weights)
    return made


rng = np.random.default_rng(5)
NOISY = [round(float(value), 3) for value in np.exp(-np.arange(24) / 6) + rng.normal(0, 0.05, 24)]
SEQUENCES = {
    "noisy": NOISY,
    "rising": [0.1, 0.2, 0.2, 0.25, 0.24, 0.23, 0.22, 0.21, 0.2, 0.2, 0.3, 0.1],
    "flat": [1.0] * 12,
    "nan": [1.0, 0.9, float("nan"), 0.8, float("nan"), float("nan"), 0.95, 0.9],
    "nan first": [float("nan"), 0.9, 0.8, 0.7],
    "holes": [1.0, None, 0.9, None, None, 1.1, 1.2],
}


def compare(name: str, options: dict[str, Any], values: list[float], monitor: str = "val_loss") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = decisions(getattr(ours, name)(**options), monitor, values)
        real = decisions(getattr(theirs, name)(**options), monitor, values)
    assert mine == real


@pytest.mark.parametrize("values", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2},
        {"patience": 3, "restore_best_weights": True},
        {"patience": 2, "min_delta": 0.06, "restore_best_weights": True},
        {"patience": 2, "min_delta": -0.06},
        {"patience": 2, "baseline": 0.5, "restore_best_weights": True},
        {"patience": 2, "baseline": 0.01},
        {"patience": 1, "start_from_epoch": 4, "restore_best_weights": True},
        {"patience": 2, "mode": "max", "restore_best_weights": True},
        {"patience": 2, "mode": "max", "min_delta": 0.06, "baseline": 0.2},
    ],
    ids=str,
)
def test_early_stopping(options: dict[str, Any], values: list[float]) -> None:
    compare("EarlyStopping", options, values)


@pytest.mark.parametrize("values", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5},
        {"patience": 1, "cooldown": 2},
        {"patience": 2, "cooldown": 3, "factor": 0.3, "min_delta": 0.05},
        {"patience": 1, "min_lr": 0.004, "factor": 0.2},
        {"patience": 1, "min_lr": 0.1},
        {"patience": 0},
        {"patience": 2, "mode": "max"},
    ],
    ids=str,
)
def test_reduce_lr_on_plateau(options: dict[str, Any], values: list[float]) -> None:
    compare("ReduceLROnPlateau", options, values)


@pytest.mark.parametrize("values", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save_best_only": True},
        {"save_best_only": True, "mode": "max"},
        {"save_best_only": True, "initial_value_threshold": 0.3},
        {"save_freq": 2},
        {"save_freq": 4},
        {"save_freq": 7},
    ],
    ids=str,
)
def test_model_checkpoint(options: dict[str, Any], values: list[float], tmp_path: Any) -> None:
    compare("ModelCheckpoint", {"filepath": f"{tmp_path}/{{epoch:02d}}.keras", **options}, values)
    weights = {"filepath": f"{tmp_path}/{{epoch}}.weights.h5", "save_weights_only": True, **options}
    compare("ModelCheckpoint", weights, values)


def test_checkpoint_paths_with_batches(tmp_path: Any) -> None:
    compare("ModelCheckpoint", {"filepath": f"{tmp_path}/{{epoch}}-{{batch}}-{{loss}}.h5", "save_freq": 4}, NOISY)


@pytest.mark.parametrize(
    "schedule",
    [lambda epoch: 0.1 / (1 + epoch), lambda epoch, rate: float(rate * 0.9), lambda epoch, rate=None: 0.5],
    ids=["epoch", "epoch and rate", "default"],
)
def test_learning_rate_scheduler(schedule: Any) -> None:
    compare("LearningRateScheduler", {"schedule": schedule}, NOISY)


def test_csv_logger(tmp_path: Any) -> None:
    written = []
    for room, name in ((ours, "ours.csv"), (theirs, "theirs.csv")):
        for logs in ({"loss": 1.5, "acc": 0.25}, {"loss": 1.0, "val_loss": 2.0, "acc": np.float32(0.5)}):
            logger = room.CSVLogger(str(tmp_path / name), append=True)
            logger.on_train_begin()
            for epoch in range(2):
                logger.on_epoch_end(epoch, logs)
            logger.on_train_end()
        written.append((tmp_path / name).read_text())
    assert written[0] == written[1]


def test_the_same_hooks_and_arguments() -> None:
    import inspect

    hooks = [name for name in dir(theirs.Callback) if name.startswith(("on_", "set_"))]
    assert all(hasattr(ours.Callback, name) and hasattr(ours.CallbackList, name) for name in hooks)
    for name in ours.__all__:
        expected = inspect.signature(getattr(theirs, name).__init__).parameters
        mine = inspect.signature(getattr(ours, name).__init__).parameters
        for argument, parameter in expected.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                assert mine[argument].default == parameter.default, (name, argument)
