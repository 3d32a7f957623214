"""Recorded sequences of logs through real Keras's callbacks and ours: the same decisions."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from signatures import by_position

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

import minikeras  # noqa: E402
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


NEWER = ("BackupAndRestore", "RemoteMonitor", "SwapEMAWeights", "TensorBoard")


@pytest.mark.parametrize("name", NEWER)
def test_arguments_and_defaults(name: str) -> None:
    assert by_position(getattr(ours, name)) == by_position(getattr(theirs, name))


def both_models(optimizer: str, **options: Any) -> list[tuple[Any, Any]]:
    """The same model for both, with weights that are all alike, and the module of each."""
    made = []
    for module in (minikeras, keras):
        model = module.Sequential([module.layers.Input((3,)), module.layers.Dense(2, kernel_initializer="ones")])
        model.compile(getattr(module.optimizers, optimizer)(**options), "mse", metrics=["mae"])
        made.append((module, model))
    return made


def test_the_same_files_for_tensorboard(tmp_path: Any) -> None:
    """The same tags, steps and values; what TensorFlow writes as tensors are scalars to TensorBoard too."""
    pytest.importorskip("tensorboardX")
    pytest.importorskip("tensorboard")  # without which TensorFlow writes nothing
    tensorflow = pytest.importorskip("tensorflow")
    x, y = (np.random.default_rng(i).normal(size=(8, size)).astype("float32") for i, size in enumerate((3, 2)))
    found: list[dict[str, Any]] = []
    for module, model in both_models("SGD", learning_rate=0.1):
        folder = tmp_path / module.__name__
        board = module.callbacks.TensorBoard(folder, update_freq=1)
        model.fit(x, y, 4, 2, validation_data=(x, y), callbacks=[board], shuffle=False, verbose=0)
        values: dict[Any, Any] = {}
        for file in folder.glob("*/events*"):
            for event in tensorflow.compat.v1.train.summary_iterator(str(file)):
                for value in event.summary.value:
                    plugin = value.metadata.plugin_data.plugin_name
                    place = file.parent.name, value.tag, event.step
                    if plugin == "graph_keras_model":
                        values[place] = plugin
                    elif value.WhichOneof("value") == "simple_value":
                        values[place] = value.simple_value
                    elif value.tensor.dtype == 1:
                        values[place] = float(tensorflow.make_ndarray(value.tensor))
        found.append(values)
    mine, other = found
    assert mine.keys() == other.keys() and len(mine) > 10
    for place, value in mine.items():
        assert value == other[place] if isinstance(value, str) else value == pytest.approx(other[place], rel=1e-5), (
            place
        )


@pytest.mark.parametrize("on_epoch", [False, True])
def test_averages_in_the_place_of_weights(on_epoch: bool) -> None:
    x, y = (np.random.default_rng(i).normal(size=(8, size)).astype("float32") for i, size in enumerate((3, 2)))
    results = []
    for module, model in both_models("SGD", learning_rate=0.1, use_ema=True, ema_momentum=0.5):
        swap = module.callbacks.SwapEMAWeights(on_epoch)
        history = model.fit(x, y, 4, 3, validation_data=(x, y), callbacks=[swap], shuffle=False, verbose=0)
        results.append([history.history["loss"], history.history["val_loss"], *model.get_weights()])
    for one, expected in zip(*results, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


def test_estimators_take_the_same_arguments() -> None:
    for name in ("SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"):
        mine, other = (getattr(module.wrappers, name) for module in (minikeras, keras))
        assert by_position(mine) == by_position(other)
        public = {attribute for attribute in vars(other) if not attribute.startswith("_")}
        assert public <= set(dir(mine))
