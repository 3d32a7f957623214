"""Backups of a training, averages of weights, values sent to a server, and what callbacks say they are."""

from __future__ import annotations

import http.server
import json
import os
import threading
import typing
import urllib.parse

import numpy as np
import pytest

from minikeras import Sequential, callbacks, config, layers, ops, optimizers
from minikeras.callbacks import BackupAndRestore, Callback, RemoteMonitor, SwapEMAWeights

X, Y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
START = [np.random.default_rng(1).normal(size=(3, 3)), np.zeros(3)]


def model_of(optimizer="adam"):
    model = Sequential([layers.Input((3,)), layers.Dense(3)])
    model.set_weights(START)
    model.compile(optimizers.Adam(0.05) if optimizer == "adam" else optimizer, "mse")
    return model


def fit(model, epochs, *extra, **options):
    return model.fit(X, Y, epochs=epochs, batch_size=4, shuffle=False, verbose=0, callbacks=list(extra), **options)


def assert_same(model, other):
    for one, expected in zip(
        [*model.get_weights(), *model.optimizer.get_weights()],
        [*other.get_weights(), *other.optimizer.get_weights()],
        strict=True,
    ):
        np.testing.assert_array_equal(one, expected)


class Break(Callback):
    """Breaks a training off."""

    def __init__(self, epoch=None, batch=0):
        self.place, self.now = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == self.place:
            raise RuntimeError("broken off")


# ---------------------------------------------------------------- backups


@pytest.mark.parametrize("double", [False, True])
def test_a_training_goes_on_with_the_next_epoch(tmp_path, double):
    folder = tmp_path / "backup"
    expected = model_of()
    whole = fit(expected, 5)
    with pytest.raises(RuntimeError, match="broken off"):
        fit(model_of(), 5, BackupAndRestore(folder, double_checkpoint=double), Break(3, 1))
    assert sorted(os.listdir(folder)) == ["checkpoint_0.zip", "checkpoint_1.zip"]
    model, begun = model_of(), []
    seen = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    history = fit(model, 5, BackupAndRestore(folder, double_checkpoint=double), seen)
    assert begun == [3, 4]
    assert history.epoch == [0, 1, 2, 3, 4] and history.history == whole.history
    assert_same(model, expected)
    assert not folder.exists()
    assert fit(model, 1).epoch == [0]  # the next training is a new one


def test_every_few_batches(tmp_path):
    expected = model_of()
    fit(expected, 3)
    kept = BackupAndRestore(tmp_path, save_freq=3, delete_checkpoint=False)
    with pytest.raises(RuntimeError, match="broken off"):
        fit(model_of(), 3, kept, Break(1, 2))
    model, batches = model_of(), []
    seen = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    history = fit(model, 3, kept, seen)
    assert batches == [2, 3, 0, 1, 2, 3]  # batches 0 and 1 of the second epoch were saved
    assert history.epoch == [0, 1, 2] and int(model.optimizer.iterations) == 12
    assert_same(model, expected)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_0.zip", "checkpoint_1.zip"]


def test_a_training_that_was_killed_at_its_very_end(tmp_path):
    """All epochs are done; what is left is to put the averages in the place of the weights."""
    models = [model_of(optimizers.SGD(0.1, use_ema=True)) for _ in range(2)]
    whole = fit(models[0], 2, BackupAndRestore(tmp_path, delete_checkpoint=False))
    again = fit(models[1], 2, BackupAndRestore(tmp_path))
    assert again.epoch == [0, 1] and again.history == whole.history
    assert_same(*models)
    assert not tmp_path.exists()


def test_what_else_is_in_the_folder_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    fit(model_of(), 1, BackupAndRestore(tmp_path))
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_a_model_that_is_not_built(tmp_path):
    model = Sequential([layers.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a model that is built"):
        fit(model, 1, BackupAndRestore(tmp_path))
    assert not model.built
    for arguments in (
        {"backup_dir": ""},
        {"backup_dir": "a", "save_freq": 0},
        {"backup_dir": "a", "save_freq": "batch"},
    ):
        with pytest.raises(ValueError, match="BackupAndRestore's"):
            BackupAndRestore(**arguments)


# ---------------------------------------------------------------- averages


class Seen(Callback):
    """The kernel at some hooks."""

    def __init__(self):
        self.seen = {}

    def _look(self, hook):
        self.seen[hook] = self.model.weights[0].numpy()

    def on_test_batch_end(self, batch, logs=None):
        self._look("test")

    def on_predict_batch_end(self, batch, logs=None):
        self._look("predict")

    def on_epoch_end(self, epoch, logs=None):
        self._look("epoch")

    def on_train_batch_end(self, batch, logs=None):
        self._look("train")


@pytest.mark.parametrize("wrapped", [lambda inner: inner, optimizers.LossScaleOptimizer])
@pytest.mark.parametrize("on_epoch", [False, True])
def test_averages_stand_in_for_the_weights(on_epoch, wrapped):
    seen = Seen()
    model = model_of(wrapped(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)))
    plain = model_of(optimizers.SGD(0.1))
    swap = SwapEMAWeights(swap_on_epoch=on_epoch)
    for epochs in (1, 2, 3):
        fit(plain, epochs, initial_epoch=epochs - 1)
    fit(model, 3, swap, seen, validation_data=(X, Y))
    average = getattr(model.optimizer, "inner_optimizer", model.optimizer)._averages[0].numpy()
    np.testing.assert_allclose(seen.seen["train"], plain.weights[0].numpy(), rtol=1e-5)  # training is undisturbed
    np.testing.assert_array_equal(seen.seen["test"], average)
    assert (seen.seen["epoch"] == average).all() == on_epoch
    np.testing.assert_array_equal(model.weights[0].numpy(), average)  # as without the callback
    model.set_weights(START)
    model.predict(X, callbacks=[swap, seen], verbose=0)
    np.testing.assert_array_equal(seen.seen["predict"], average)
    np.testing.assert_array_equal(model.weights[0].numpy(), START[0].astype("float32"))  # Keras leaves the averages


def test_averages_where_training_is_stopped_early():
    """The model ends with the averages whichever epoch is the last; Keras looks for the one that was planned."""
    model = model_of(optimizers.SGD(0.1, use_ema=True))
    stop = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1))
    fit(model, 9, SwapEMAWeights(swap_on_epoch=True), stop)
    np.testing.assert_array_equal(model.weights[0].numpy(), model.optimizer._averages[0].numpy())


def test_averages_need_an_optimizer_that_has_them():
    with pytest.raises(ValueError, match=r"use_ema=True, got <Adam learning_rate=0.05 iterations=0>"):
        fit(model_of(), 1, SwapEMAWeights())


def test_what_a_comparison_refuses():
    model = model_of([optimizers.SGD(0.1, use_ema=True), optimizers.Adam(0.1, use_ema=True)])
    with pytest.raises(ValueError, match="does not work in a comparison"):
        fit(model, 1, SwapEMAWeights())
    np.testing.assert_array_equal(model.get_weights()[0], START[0].astype("float32"))


# ---------------------------------------------------------------- a server


class Server(http.server.BaseHTTPRequestHandler):
    received: typing.ClassVar[list] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.received.append((self.path, self.headers["Content-Type"], self.headers["X-Key"], body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        """Silent."""


def test_values_are_sent():
    Server.received.clear()
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    history = fit(model_of(), 2, RemoteMonitor(root, field="values"))
    fit(model_of(), 1, RemoteMonitor(root, "/json", headers={"X-Key": "7"}, send_as_json=True))
    server.shutdown()
    server.server_close()
    (path, kind, _, body), _, (json_path, json_kind, key, text) = Server.received
    assert (path, kind) == ("/publish/epoch/end/", "application/x-www-form-urlencoded")
    assert json.loads(urllib.parse.parse_qs(body)["values"][0]) == {"epoch": 0, "loss": history.history["loss"][0]}
    assert (json_path, json_kind, key) == ("/json", "application/json", "7")
    assert json.loads(text)["epoch"] == 0
    with pytest.warns(UserWarning, match=r"RemoteMonitor could not send epoch 1 to"):
        fit(model_of(), 1, RemoteMonitor(root))
    with pytest.raises(ValueError, match="root must begin with"):
        RemoteMonitor("localhost:9000")


# ---------------------------------------------------------------- limits, words


def test_limits_of_epochs_and_steps():
    model = model_of()
    try:
        config.set_max_epochs(2)
        config.set_max_steps_per_epoch(2)
        with pytest.warns(UserWarning) as told:
            history = fit(model, 5)
        assert {str(one.message).partition(";")[0] for one in told} == {
            "Training is limited to 2 of 5 epochs",
            "An epoch is limited to 2 batches",
        }
        assert history.epoch == [0, 1] and int(model.optimizer.iterations) == 4
        with pytest.warns(UserWarning, match="limited to 2"):
            assert model.predict(X, batch_size=4, verbose=0).shape == (8, 3)
        with pytest.warns(UserWarning, match="limited to 2"):
            model.evaluate(((X[i : i + 1], Y[i : i + 1]) for i in range(16)), verbose=0)
        for value in (0, 1.5, "2", True):
            with pytest.raises(ValueError, match="max_epochs must be a positive whole number or None"):
                config.set_max_epochs(value)
        assert config.max_epochs() == 2
    finally:
        config.set_max_epochs(None)
        config.set_max_steps_per_epoch(None)
    assert fit(model, 3).epoch == [0, 1, 2]


def test_what_they_are():
    model = model_of(optimizers.Adam(0.25))
    history = fit(model, 2)
    assert repr(model.optimizer) == "<Adam learning_rate=0.25 iterations=8>"
    assert repr(history) == f"<History epochs=2 loss={history.history['loss'][-1]:.4f}>"
    assert repr(callbacks.EarlyStopping("loss", patience=3)) == "<EarlyStopping monitor='loss' patience=3>"
    assert repr(callbacks.TerminateOnNaN()) == "<TerminateOnNaN>"
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert repr(optimizers.SGD(schedule)) == "<SGD learning_rate=ExponentialDecay iterations=0>"
    scaled = optimizers.LossScaleOptimizer(optimizers.SGD(0.5), 4.0)
    assert repr(scaled) == ("<LossScaleOptimizer scale=4 inner_optimizer=<SGD learning_rate=0.5 iterations=0>>")


def test_attributes_that_programs_read():
    function = print
    assert callbacks.LambdaCallback(own=function).own is function
    assert callbacks.EarlyStopping(monitor="accuracy").monitor_op is ops.greater
    assert callbacks.ReduceLROnPlateau(monitor="loss").monitor_op is ops.less
