"""What a history tells: a table of its values, and learning curves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from minikeras import callbacks, layers, optimizers
from minikeras.callbacks import History
from minikeras.models.sequential import Sequential

X = np.linspace(-1, 1, 60, dtype="float32").reshape(20, 3)
Y = (X.sum(axis=1, keepdims=True) > 0).astype("float32")


def recorded(epochs, first=0, **attributes) -> History:
    """A history of a training that was not: a dict of values for each epoch."""
    history = History()
    history.on_train_begin()
    for epoch, logs in enumerate(epochs, first):
        history.on_epoch_end(epoch, logs)
    vars(history).update(attributes)
    return history


EPOCHS = [
    {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.6, "val_loss": 0.9},
    {"accuracy": 0.8, "loss": 0.4, "val_accuracy": 0.9, "val_loss": 0.5},
    {"accuracy": 0.9, "loss": 0.0004, "val_accuracy": 0.7, "val_loss": 0.75},
]


def test_table_of_an_ordinary_fit():
    loss, accuracy = recorded(EPOCHS, seconds=2.5).table()
    assert loss == {
        "replica": None,
        "metric": "loss",
        "final": 0.0004,
        "best": 0.0004,
        "best_epoch": 3,
        "val_final": 0.75,
        "val_best": 0.5,
        "val_best_epoch": 2,
        "gap": 0.75 - 0.0004,
        "epochs": 3,
        "seconds": 2.5,
    }
    assert accuracy["metric"] == "accuracy" and accuracy["val_best"] == 0.9 and accuracy["val_best_epoch"] == 2
    assert accuracy["gap"] == pytest.approx(-0.2)


def test_summary_of_an_ordinary_fit(capsys):
    recorded(EPOCHS, seconds=2.5).summary()
    assert capsys.readouterr().out.splitlines() == [
        "metric       final      best  epoch  val final  val best  epoch      gap",
        "────────────────────────────────────────────────────────────────────────",
        "loss      4.00e-04  4.00e-04      3     0.7500    0.5000      2   0.7496",
        "accuracy    0.9000    0.9000      3     0.7000    0.9000      2  -0.2000",
        "3 epochs in 2.5 s; gap: validation minus training.",
    ]
    texts: list[str] = []
    history = recorded([{"loss": 2.0, "learning_rate": 0.1, "temperature": "warm"}], first=4, seconds=1)
    assert history.summary(print_fn=texts.append) is None
    lines = texts[0].splitlines()
    assert lines[2].split() == ["loss", "2.0000", "2.0000", "5"]
    assert lines[3].split() == ["learning_rate", "0.1000"] and lines[4].split() == ["temperature", "warm"]
    assert lines[5] == "1 epoch in 1.0 s."


def test_summary_of_a_comparison():
    values = [
        {"loss": 0.5, "a/loss": 0.7, "b/loss": 0.5, "val_loss": 0.6, "a/val_loss": 0.9, "b/val_loss": 0.6},
        {"loss": 0.4, "a/loss": 0.6, "b/loss": 0.4, "val_loss": 0.7, "a/val_loss": 0.8, "b/val_loss": 0.7},
    ]
    history = recorded(values, replicas=["a", "b"], best="b", seconds={"a": 1.0, "b": 12.34})
    texts: list[str] = []
    history.summary(texts.append)
    assert texts[0].splitlines() == [
        "replica  metric   final    best  epoch  val final  val best  epoch     gap    time",
        "──────────────────────────────────────────────────────────────────────────────────",
        "a        loss    0.6000  0.6000      2     0.8000    0.8000      2  0.2000   1.0 s",
        "b *      loss    0.4000  0.4000      2     0.7000    0.6000      1  0.3000  12.3 s",
        "* the lowest final validation loss: what the model has become; gap: validation minus training.",
    ]
    assert [row["replica"] for row in history.table()] == ["a", "b"]


def test_epochs_that_were_not_validated_and_values_that_are_not_numbers():
    history = recorded([{"loss": 1.0}, {"loss": 0.5, "val_loss": 0.6}, {"loss": float("nan")}])
    (row,) = history.table()
    assert (row["best"], row["best_epoch"]) == (0.5, 2) and row["gap"] == pytest.approx(0.1)
    assert (row["val_final"], row["val_best_epoch"]) == (0.6, 2)
    (row,) = recorded([{"loss": float("nan")}]).table()
    assert row["best"] is None and row["best_epoch"] is None


def test_a_history_of_two_trainings_tells_of_the_last():
    history = recorded(EPOCHS)
    history.on_train_begin()
    history.on_epoch_end(7, {"loss": 0.3})
    assert len(history.history["loss"]) == 4
    (row,) = [row for row in history.table() if row["metric"] == "loss"]
    assert (row["best"], row["best_epoch"], row["epochs"], row["val_final"]) == (0.3, 8, 1, None)


def test_before_training():
    history = History()
    texts: list[str] = []
    history.summary(texts.append)
    assert texts == ["There are no values yet: no epoch has been trained.\n"] and history.table() == []
    with pytest.raises(ValueError, match="no curves to draw"):
        history.plot()


def model() -> Sequential:
    made = Sequential([layers.Input((3,)), layers.Dense(1, activation="sigmoid")])
    made.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return made


def test_curves_of_an_ordinary_fit():
    history = model().fit(X, Y, epochs=3, validation_split=0.5, validation_freq=2, verbose=0)
    figure = history.plot()
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == (
        "loss (mean per sample)",
        "accuracy (fraction of samples)",
    )
    assert accuracy.get_xlabel() == "epoch (passes over the training data)"
    training, validation = loss.lines
    assert (training.get_linestyle(), validation.get_linestyle()) == ("--", "-")
    assert training.get_color() == validation.get_color()
    assert list(training.get_xdata()) == [1, 2, 3] and list(validation.get_xdata()) == [2]
    assert list(training.get_ydata()) == history.history["loss"]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    (only,) = history.plot("accuracy").axes
    assert list(only.lines[0].get_ydata()) == history.history["accuracy"]
    with pytest.raises(ValueError, match="Unknown metric 'acuracy'; did you mean 'accuracy'"):
        history.plot(["loss", "acuracy"])


def test_curves_of_a_comparison_in_a_figure_of_the_users(tmp_path):
    from matplotlib.figure import Figure

    made = model()
    made.compile([optimizers.SGD(0.1), optimizers.Adam(0.1)], "binary_crossentropy")
    history = made.fit(X, Y, epochs=2, validation_split=0.5, verbose=0)
    figure = Figure()
    path = tmp_path / "curves.png"
    assert history.plot(path=path, figure=figure) is figure
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    labels = ["sgd, training", "sgd, validation", "adam, training", "adam, validation"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_linestyle() for line in axes.lines] == ["--", "-"] * 2


PROGRAM = """
import sys
from minikeras.callbacks import History
history = History(); history.on_train_begin(); history.on_epoch_end(0, {"loss": 1.0})
assert "matplotlib" not in sys.modules
history.plot(path=sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
sys.modules["matplotlib.figure"] = None
try:
    history.plot()
except ImportError as error:
    print(error)
"""


def test_drawing_needs_no_display_and_no_pyplot_and_says_where_matplotlib_is_missing(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "c.png")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == (
        "Drawing learning curves takes matplotlib, which is not installed; run pip install 'minikeras[plot]'."
    )
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_seconds_are_measured():
    history = model().fit(X, Y, epochs=2, verbose=0)
    assert 0 < history.seconds < 60
    made = model()
    made.compile(["sgd", "adam"], "mse")
    history = made.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.EarlyStopping("loss")])
    assert set(history.seconds) == {"sgd", "adam"} and min(history.seconds.values()) > 0
