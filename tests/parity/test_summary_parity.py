"""Summaries, character by character as real Keras prints them."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from types import SimpleNamespace  # noqa: E402

from minikeras import layers  # noqa: E402
from minikeras.models.model import Model  # noqa: E402
from minikeras.models.sequential import Sequential  # noqa: E402

OURS: Any = SimpleNamespace(layers=layers, Model=Model, Sequential=Sequential, Input=layers.Input)


def cnn(room: Any) -> Any:
    stack = [
        room.Input((28, 28, 1)),
        room.layers.Conv2D(8, 3, name="a_very_long_name_indeed_for_a_layer"),
        room.layers.BatchNormalization(name="batch_normalization"),
        room.layers.MaxPooling2D(name="max_pooling2d"),
        room.layers.Flatten(name="flatten"),
        room.layers.Dropout(0.5, name="dropout"),
        room.layers.Dense(10000, name="dense"),
    ]
    return room.Sequential(stack, name="cnn")


def deferred(room: Any) -> Any:
    return room.Sequential([room.layers.Dense(3, name="a"), room.layers.Dense(2, name="b")], name="deferred")


def chain(room: Any) -> Any:
    start = room.Input((5, 4), name="start")
    outputs = room.layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(start)
    return room.Model(start, outputs, name="chain")


def graph(room: Any) -> Any:
    one, two = room.Input((4,), name="one"), room.Input((4,), name="a_second_input")
    dense = room.layers.Dense(5, name="dense")
    first, second = dense(one), dense(two)
    added = room.layers.Add(name="add")([first, second])
    joined = room.layers.Concatenate(name="concatenate")([added, first])
    inner = room.Sequential(
        [room.Input((10,)), room.layers.Dense(3, name="x"), room.layers.Dense(2, name="y")], name="inner"
    )
    return room.Model([one, two], [room.layers.Dense(1, name="out")(inner(joined)), added], name="graph")


def frozen(room: Any) -> Any:
    model = cnn(room)
    model.layers[0].trainable = False
    return model


OPTIONS: list[dict[str, Any]] = [
    {},
    {"show_trainable": True},
    {"expand_nested": True, "show_trainable": True},
    {"line_length": 60},
    {"line_length": 120},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("make", [cnn, deferred, chain, graph, frozen])
@pytest.mark.parametrize("columns", ["80", "160"])
def test_summary(make: Any, options: dict[str, Any], columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if options.get("line_length", 0) > int(columns):
        columns = "160"  # Keras cuts what is wider than the terminal
    monkeypatch.setenv("COLUMNS", columns)
    texts: list[str] = []
    make(OURS).summary(print_fn=texts.append, **options)
    make(keras).summary(print_fn=texts.append, **options)
    assert texts[0] == texts[1]
