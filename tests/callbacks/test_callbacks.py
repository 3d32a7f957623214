"""Which hooks are called when, with what, at what cost; and what each callback decides."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minikeras import layers, ops
from minikeras.callbacks import (
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from minikeras.callbacks.monitor import higher_is_better
from minikeras.models.sequential import Sequential
from minikeras.saving import load_model
from minikeras.utils import checks


class FakeModel:
    """What callbacks need of a model."""

    def __init__(self, learning_rate: float = 0.1) -> None:
        self.stop_training = False
        self.weights = 0
        self.saved: list[tuple[str, str]] = []
        self.optimizer = type("Optimizer", (), {"learning_rate": learning_rate})()

    def get_weights(self) -> int:
        return self.weights

    def set_weights(self, weights: int) -> None:
        self.weights = weights

    def save(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(("model", path))

    def save_weights(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(("weights", path))


def run(callback: Callback, values: list[Any], name: str = "val_loss", model: Any = None) -> Any:
    """Train a fake model: one epoch per value, in which its weights become the epoch's number."""
    model = model or FakeModel()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        model.weights = epoch
        callback.on_epoch_end(epoch, {} if value is None else {name: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model


def small_model() -> Sequential:
    model = Sequential([layers.Input((3,)), layers.Dense(2), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


X = np.linspace(-1, 1, 30, dtype="float32").reshape(10, 3)
Y = X.sum(axis=1, keepdims=True)


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_") or name in ("on_batch_begin", "on_batch_end"):
            return super().__getattribute__(name)
        return lambda *args: self.calls.append((name, *args[:-1], sorted(args[-1])))


# ---------------------------------------------------------------- the list


def test_every_hook_of_fit_evaluate_and_predict_in_order() -> None:
    recorder = Recorder()
    model = small_model()
    model.fit(X, Y, batch_size=5, epochs=2, validation_data=(X, Y), callbacks=[recorder], verbose=0)
    metrics = ["loss", "mae"]
    batches = [("on_train_batch_begin", 0, []), ("on_train_batch_end", 0, metrics)]
    batches += [("on_train_batch_begin", 1, []), ("on_train_batch_end", 1, metrics)]
    validation = [
        ("on_test_begin", []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, metrics),
        ("on_test_batch_begin", 1, []),
        ("on_test_batch_end", 1, metrics),
        ("on_test_end", metrics),
    ]
    both = [*metrics, "val_loss", "val_mae"]
    epochs = [
        call
        for epoch in range(2)
        for call in [("on_epoch_begin", epoch, []), *batches, *validation, ("on_epoch_end", epoch, both)]
    ]
    assert recorder.calls == [("on_train_begin", []), *epochs, ("on_train_end", both)]
    assert recorder.params == {"verbose": 0, "epochs": 2, "steps": 2} and recorder.model is model

    recorder.calls.clear()
    model.evaluate(X, Y, batch_size=5, callbacks=recorder, verbose=0)
    assert recorder.calls == validation

    recorder.calls.clear()
    model.predict(X, batch_size=10, callbacks=[recorder], verbose=0)
    assert recorder.calls == [
        ("on_predict_begin", []),
        ("on_predict_batch_begin", 0, []),
        ("on_predict_batch_end", 0, ["outputs"]),
        ("on_predict_end", []),
    ]


def test_logs_are_only_read_for_those_who_listen() -> None:
    reads = []

    def logs() -> dict[str, float]:
        reads.append(1)
        return {"loss": 1.0}

    quiet = CallbackList([EarlyStopping(), ModelCheckpoint("a.keras")], add_history=True, verbose=0)
    quiet.on_train_batch_end(0, logs)
    assert not quiet.wants_train_batches and not reads

    seen: list[Any] = []
    legacy = LambdaCallback(on_batch_end=lambda batch, logs: seen.append((batch, logs)))
    other = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, logs)))
    attentive = CallbackList([legacy, [other]])
    attentive.on_train_batch_end(3, logs)
    attentive.on_batch_end(4, {"loss": 2.0})
    assert seen == [(3, {"loss": 1.0})] * 2 + [(4, {"loss": 2.0})] * 2 and len(reads) == 1
    assert attentive.wants_train_batches and not attentive.wants_test_batches and not attentive.wants_predict_batches
    quiet.append(other)
    assert quiet.wants_train_batches


def test_a_subclass_of_a_lazy_callback_gets_a_dict() -> None:
    class Mine(ProgbarLogger):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.got = logs
            super().on_train_batch_end(batch, logs)

    mine = Mine()
    callbacks = CallbackList([mine], add_progbar=True, verbose=0)
    callbacks.on_train_batch_end(0, lambda: {"loss": 1.0})
    assert mine.got == {"loss": 1.0} and callbacks.callbacks == [mine]


def test_default_callbacks_and_their_order() -> None:
    early, history = EarlyStopping(), History()
    kinds = [type(c) for c in CallbackList([early], add_history=True, add_progbar=True, verbose=0).callbacks]
    assert kinds == [EarlyStopping, History, ProgbarLogger]
    assert CallbackList(history, add_history=True).callbacks == [history]
    model = FakeModel()
    CallbackList(early, add_history=True, model=model, epochs=3)
    assert isinstance(model.history, History) and early.params == {"epochs": 3} and early.model is model  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [EarlyStopping, "early", print])
def test_what_is_not_a_callback_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="Callbacks are instances"):
        CallbackList([wrong])


def test_history_and_what_a_callback_adds_to_the_logs() -> None:
    adds = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=epoch * 10))
    history = small_model().fit(X, Y, epochs=5, initial_epoch=2, validation_split=0.2, callbacks=[adds], verbose=0)
    assert history.epoch == [2, 3, 4] and history.history["extra"] == [20, 30, 40]
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae", "extra"]
    assert all(isinstance(value, float) for value in history.history["val_loss"])
    assert history.model.history is history


@pytest.mark.parametrize(
    "method, phase, switch", [("evaluate", "test", "stop_evaluating"), ("predict", "predict", "stop_predicting")]
)
def test_an_evaluation_and_a_prediction_of_endless_data_stop_from_a_batch(method: str, phase: str, switch: str) -> None:
    def endless() -> Iterator[tuple[Any, ...]]:
        while True:
            yield (X,) if method == "predict" else (X, Y)

    def stop(batch: int, logs: Any) -> None:
        seen.append(batch)
        setattr(model, switch, len(seen) == 3)

    model, stopper = small_model(), LambdaCallback()
    setattr(stopper, f"on_{phase}_batch_end", stop)
    for _ in range(2):  # the switch is off again when the next begins
        seen: list[int] = []
        getattr(model, method)(endless(), callbacks=[stopper], verbose=0)
        assert seen == [0, 1, 2]


def test_stop_training_from_a_batch() -> None:
    def stop(batch: int, logs: Any) -> None:
        model.stop_training = batch == 1

    model = small_model()
    ended: list[int] = []
    callbacks = [
        LambdaCallback(on_train_batch_end=stop, on_epoch_end=lambda epoch, logs: ended.append(epoch)),
    ]
    assert model.fit(X, Y, batch_size=1, epochs=5, callbacks=callbacks, verbose=0).epoch == [0] == ended


# ---------------------------------------------------------------- watching a value


@pytest.mark.parametrize(
    ("name", "rises"),
    [
        ("val_loss", False),
        ("accuracy", True),
        ("val_head_sparse_top_k_categorical_accuracy", True),
        ("mean_squared_error", False),
        ("loss_head_auc", True),
        ("accurate_loss", False),
        ("f1_score", True),
        ("true_positives", True),
        ("false_negatives", False),
        ("mean_io_u", True),
        ("val_sensitivity_at_specificity", True),
        ("pearson_correlation", True),
        ("binary_crossentropy", False),
    ],
)
def test_direction_from_the_name(name: str, rises: bool) -> None:
    assert higher_is_better(name) is rises


def test_a_name_without_direction_needs_a_mode() -> None:
    with pytest.raises(ValueError, match="pass mode="):
        EarlyStopping("score")
    assert run(EarlyStopping("score", mode="max"), [1, 2, 3, 2], "score").stop_training
    ModelCheckpoint("m.keras", monitor="score")
    with pytest.warns(UserWarning, match="'up'"):
        EarlyStopping(mode="up")


def test_a_missing_value_is_told_with_the_nearest_name() -> None:
    stopping = EarlyStopping("val_acc")
    stopping.set_model(FakeModel())
    with pytest.warns(UserWarning, match="did you mean 'val_accuracy'"):
        stopping.on_epoch_end(0, {"val_accuracy": 1.0, "loss": 2.0})
    assert stopping.best is None


def test_early_stopping(capsys: pytest.CaptureFixture) -> None:
    stopping = EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
    model = run(stopping, [1.0, 0.5, 0.6, 0.7, 0.1])
    assert stopping.stopped_epoch == 3 and stopping.best_epoch == 1 and model.weights == 1
    assert capsys.readouterr().out.startswith("Epoch 4: early stopping\n")
    stopping = EarlyStopping(patience=5, restore_best_weights=True)
    model = run(stopping, [1.0, 0.5, 0.6])
    assert not model.stop_training and model.weights == 1  # restored although training was not stopped
    assert run(stopping, [3.0, 2.0]).weights == 1 and stopping.best == 2.0  # a second fit starts anew
    assert run(EarlyStopping(), [float("nan"), 1.0]).stop_training
    assert run(EarlyStopping(start_from_epoch=3), [1.0, 2.0, 3.0, 2.0, 1.0]).weights == 4


def test_real_training_stops_and_restores() -> None:
    model = small_model()
    best: list[Any] = []
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: best.append((logs["loss"], model.get_weights())))
    stopping = EarlyStopping("loss", patience=1, min_delta=10.0, restore_best_weights=True)
    history = model.fit(X, Y, epochs=9, callbacks=[stopping, keep], verbose=0)
    assert history.epoch == [0, 1]
    for mine, kept in zip(model.get_weights(), best[0][1], strict=True):
        np.testing.assert_array_equal(mine, kept)


def test_reduce_lr_on_plateau() -> None:
    reducing = ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1, min_lr=0.04)
    model = run(reducing, [1.0, 1.0, 1.0], model=FakeModel(0.1))
    assert model.optimizer.learning_rate == 0.05
    model = run(reducing, [1.0] * 9, model=FakeModel(0.1))
    assert model.optimizer.learning_rate == 0.04
    assert ReduceLROnPlateau(epsilon=0.5).min_delta == 0.5
    assert run(ReduceLROnPlateau(factor=0, patience=1), [1.0] * 3, model=FakeModel(0.1)).optimizer.learning_rate == 0


@pytest.mark.parametrize(
    ("make", "argument", "wrong", "sentence"),
    [
        (EarlyStopping, "monitor", [1, None, ["loss"]], "EarlyStopping's monitor must be the name of a value"),
        (EarlyStopping, "min_delta", ["x", None, math.nan], "EarlyStopping's min_delta must be a number"),
        (EarlyStopping, "patience", [-1, 2.5, "3", None, True], "patience must be a whole number of at least 0"),
        (EarlyStopping, "start_from_epoch", [-1, 0.5, None], "start_from_epoch must be a whole number of at least 0"),
        (EarlyStopping, "baseline", ["x", math.nan, True], "EarlyStopping's baseline must be a number or None"),
        (ReduceLROnPlateau, "factor", [-0.5, 1, math.nan, "x"], "factor must be a number at least 0 and below 1"),
        (ReduceLROnPlateau, "cooldown", [-1, 0.5, "x"], "cooldown must be a whole number of at least 0"),
        (ReduceLROnPlateau, "min_lr", [-1, None, math.inf], "ReduceLROnPlateau's min_lr must be a number at least 0"),
        (ReduceLROnPlateau, "epsilon", ["x", [1]], "ReduceLROnPlateau's min_delta must be a number"),
        (LearningRateScheduler, "schedule", [0.1, None, "x"], "LearningRateScheduler takes a function of the epoch"),
        (LambdaCallback, "on_epoch_end", [1, "x"], "LambdaCallback takes a function for on_epoch_end"),
        (CSVLogger, "filename", [1, None, b"x", ""], "CSVLogger's filename must be a path"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Any, argument: str, wrong: list[Any], sentence: str) -> None:
    for value in wrong:
        with pytest.raises(ValueError, match=rf"{sentence}.*, got .+\.$"):
            make(**{argument: value})


def test_checkpoints(tmp_path: Any) -> None:
    path = f"{tmp_path}/new/{{epoch:02d}}-{{val_loss:.1f}}.keras"
    assert run(ModelCheckpoint(path), [3.0, 4.0]).saved == [
        ("model", f"{tmp_path}/new/01-3.0.keras"),
        ("model", f"{tmp_path}/new/02-4.0.keras"),
    ]
    best = ModelCheckpoint(f"{tmp_path}/b{{epoch}}.weights.h5", save_best_only=True, save_weights_only=True)
    assert [path[-12] for _, path in run(best, [3.0, 4.0, 2.0, 2.0]).saved] == ["1", "3"]
    threshold = ModelCheckpoint(tmp_path / "m.h5", save_best_only=True, initial_value_threshold=2.0)
    assert len(run(threshold, [3.0, 1.0]).saved) == 1
    assert len(run(ModelCheckpoint(tmp_path / "m.keras", period=2), [1.0] * 5).saved) == 2
    missing = ModelCheckpoint(tmp_path / "m.keras", save_best_only=True)
    with pytest.warns(UserWarning, match="val_loss"):
        assert len(run(missing, [None]).saved) == 1
    with pytest.raises(KeyError, match="val_los"):
        run(ModelCheckpoint(tmp_path / "{val_los}.keras"), [1.0])


def test_checkpoints_by_batches(tmp_path: Any) -> None:
    checkpoint = ModelCheckpoint(f"{tmp_path}/{{epoch}}-{{batch}}-{{loss}}.keras", save_freq=4)
    model = FakeModel()
    callbacks = CallbackList(checkpoint, model=model)
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(5):
            callbacks.on_train_batch_end(batch, lambda: {"loss": 7})
        callbacks.on_epoch_end(epoch, {"loss": 7})
    assert [path.rsplit("/", 1)[1] for _, path in model.saved] == ["1-4-7.keras", "2-3-7.keras"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filepath": "m.txt"}, "keras, .h5 or .hdf5"),
        ({"filepath": "m.keras", "save_weights_only": True}, "weights.h5"),
        ({"filepath": "m.keras", "save_freq": "batch"}, "save_freq .* must be a positive whole number, got 'batch'"),
        ({"filepath": "m.keras", "save_freq": 0}, "save_freq .* must be a positive whole number, got 0"),
        ({"filepath": "m.keras", "save_freq": True}, "save_freq .* must be a positive whole number, got True"),
        ({"filepath": "m.keras", "period": 0}, "period must be a positive whole number, got 0"),
        ({"filepath": "m.keras", "initial_value_threshold": "x"}, "threshold must be a number or None, got 'x'"),
        ({"filepath": 3}, "ModelCheckpoint's filepath must be a path, got 3"),
    ],
)
def test_bad_checkpoints(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint(**arguments)


# ---------------------------------------------------------------- the small ones


def test_learning_rate_scheduler() -> None:
    for schedule in (lambda epoch: 0.1 / 2**epoch, lambda epoch, rate: rate if epoch == 0 else rate / 2):
        logs: dict[str, Any] = {}
        scheduler = LearningRateScheduler(schedule)
        model = FakeModel(0.1)
        scheduler.set_model(model)
        scheduler.on_epoch_begin(0)
        scheduler.on_epoch_begin(1)
        scheduler.on_epoch_end(1, logs)
        assert model.optimizer.learning_rate == logs["learning_rate"] == 0.05
    for wrong in (None, "0.1", math.nan, -1, [0.1]):
        model = FakeModel(0.1)
        with pytest.raises(ValueError, match=r"a schedule returns \(for epoch 0\) must be a number at least 0, got"):
            run(LearningRateScheduler(lambda epoch: wrong), [1.0], model=model)  # noqa: B023
        assert model.optimizer.learning_rate == 0.1
    model = FakeModel(0.1)
    run(LearningRateScheduler(lambda epoch: ops.convert_to_tensor(0.25)), [1.0], model=model)
    assert model.optimizer.learning_rate == 0.25

    def broken(epoch: int, rate: float) -> float:
        return rate + "1"  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        run(LearningRateScheduler(broken), [1.0])


def test_learning_rates_of_a_real_fit() -> None:
    history = small_model().fit(X, Y, epochs=3, callbacks=[LearningRateScheduler(lambda e, r: r / 10)], verbose=0)
    np.testing.assert_allclose(history.history["learning_rate"], [1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_terminate_on_nan(capsys: pytest.CaptureFixture) -> None:
    def spoil(batch: int, logs: Any) -> None:
        if batch == 1:
            model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])

    spoils = LambdaCallback(on_train_batch_begin=spoil)
    model = small_model()
    assert model.fit(X, Y, batch_size=2, epochs=3, callbacks=[spoils, TerminateOnNaN()], verbose=0).epoch == [0]
    assert "Batch 1: the loss is nan" in capsys.readouterr().out
    model = small_model()
    with pytest.raises(RuntimeError, match="batch 1"):
        model.fit(X, Y, batch_size=2, callbacks=[spoils, TerminateOnNaN(raise_error=True)], verbose=0)


def test_lambda_callback_names_the_wrong_hook() -> None:
    with pytest.raises(ValueError, match="did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)


def test_csv_logger(tmp_path: Any) -> None:
    path = tmp_path / "log.csv"
    small_model().fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[CSVLogger(path)], verbose=0)
    small_model().fit(X, Y, epochs=1, callbacks=[CSVLogger(path, append=True)], verbose=0)
    rows = list(csv.reader(path.open(newline="")))
    assert rows[0] == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "0"] and rows[3][3:] == ["NA", "NA"]
    logger = CSVLogger(path, separator=";")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"val_b": np.array([1, 2]), "a": "x"})
    logger.on_train_end()
    assert path.read_text().splitlines() == ["epoch;a;val_b", '0;x;"""[1, 2]"""']


@pytest.mark.parametrize("ending", ["keras", "h5", "hdf5"])
def test_checkpoints_of_models_in_every_format(tmp_path: Any, ending: str) -> None:
    model = small_model()
    path = f"{tmp_path}/weights.{{epoch:02d}}-{{loss:.2f}}.{ending}"
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[ModelCheckpoint(path)])
    names = sorted(os.listdir(tmp_path))
    assert len(names) == 2 and all(name.endswith(ending) for name in names)
    copy = load_model(tmp_path / names[-1])
    assert all(map(np.array_equal, copy.get_weights(), model.get_weights()))


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "hdf5", "npz", "weights.json"])
def test_checkpoints_of_weights_in_every_format(tmp_path: Any, ending: str) -> None:
    model = small_model()
    path = f"{tmp_path}/{{epoch:02d}}.{ending}"
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[ModelCheckpoint(path, save_weights_only=True)])
    other = small_model()
    other.fit(X, Y, verbose=0)
    other.load_weights(tmp_path / f"02.{ending}")
    assert all(map(np.array_equal, other.get_weights(), model.get_weights()))


def test_checkpoints_are_written_in_the_formats_of_save() -> None:
    for ending in checks.MODEL_ENDINGS:
        ModelCheckpoint(f"m{ending}")
    for ending in checks.WEIGHTS_ENDINGS:
        ModelCheckpoint(f"m{ending}", save_weights_only=True)
    for path in ("m.weights.json", "m.npz", "m"):
        with pytest.raises(ValueError, match=r"ending in \.keras, \.h5 or \.hdf5"):
            ModelCheckpoint(path)
    for path in ("m.keras", "checkpoint", "m.tf"):
        with pytest.raises(ValueError, match=r"ending in \.weights\.h5, "):
            ModelCheckpoint(path, save_weights_only=True)
