"""The table of layers, in every kind of model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minikeras import layers, ops
from minikeras.models.model import Model
from minikeras.models.sequential import Sequential


def summary(model: Model, **options: Any) -> str:
    texts: list[str] = []
    model.summary(print_fn=texts.append, **options)
    assert len(texts) == 1
    return texts[0]


def rows(model: Model, **options: Any) -> list[list[str]]:
    """The first line of each row, as a list of its cells."""
    table = summary(model, **options).splitlines()
    starts = [i + 1 for i, line in enumerate(table) if line[0] in "┡├"]
    return [[cell.strip() for cell in table[i].strip("│").split("│")] for i in starts if table[i][0] == "│"]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def mlp() -> Sequential:
    return Sequential(
        [layers.Input((784,)), layers.Dense(128, name="hidden"), layers.Dense(10, name="head")], name="mlp"
    )


def test_a_whole_table(capsys: pytest.CaptureFixture) -> None:
    mlp().summary()
    assert capsys.readouterr().out == (
        'Model: "mlp"\n'
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓\n"
        "┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃\n"
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩\n"
        "│ hidden (Dense)                  │ (None, 128)            │       100,480 │\n"
        "├─────────────────────────────────┼────────────────────────┼───────────────┤\n"
        "│ head (Dense)                    │ (None, 10)             │         1,290 │\n"
        "└─────────────────────────────────┴────────────────────────┴───────────────┘\n"
        " Total params: 101,770 (397.54 KB)\n"
        " Trainable params: 101,770 (397.54 KB)\n"
        " Non-trainable params: 0 (0.00 B)\n"
    )


def test_totals_with_frozen_layers_and_an_optimizer() -> None:
    model = mlp()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    assert "Optimizer" not in summary(model)
    model.fit(np.zeros((2, 784), "float32"), np.zeros((2, 10), "float32"), verbose=0)
    total, trainable, frozen, optimizer = summary(model).splitlines()[-4:]
    assert trainable == " Trainable params: 1,290 (5.04 KB)"
    assert frozen == " Non-trainable params: 100,480 (392.50 KB)"
    assert optimizer.startswith(" Optimizer params: ") and total.startswith(" Total params: 101,77")


def test_what_is_not_built() -> None:
    model = Sequential([layers.Dense(3), Sequential([layers.Dense(2)])])
    assert [row[1:] for row in rows(model)] == [["?", "0 (unbuilt)"]] * 2
    assert " Total params: 0 (0.00 B)" in summary(model)
    model(np.zeros((2, 4), "float32"))
    assert [row[1:] for row in rows(model)] == [["(None, 3)", "15"], ["(None, 2)", "8"]]
    assert rows(Sequential()) == []


def test_connections_of_a_graph() -> None:
    one, two = layers.Input((4,), name="one"), layers.Input((4,), name="two")
    shared = layers.Dense(5, name="shared")
    both = layers.Add(name="both")([shared(one), shared(two)])
    model = Model([one, two], ops.multiply(both, both), name="graph")
    assert [row[:1] + row[2:] for row in rows(model, line_length=120)] == [
        ["one (InputLayer)", "0", "-"],
        ["two (InputLayer)", "0", "-"],
        ["shared (Dense)", "25", "one[0][0], two[0][0]"],
        ["both (Add)", "0", "shared[0][0], shared[1][0]"],
        [rows(model, line_length=120)[-1][0], "0", "both[0][0], both[0][0]"],
    ]
    assert rows(model, line_length=120)[-1][0].endswith("(Multiply)")
    assert {len(line) for line in summary(model, line_length=120).splitlines()[1:-3]} == {120}


def test_a_functional_chain_has_no_connections() -> None:
    start = layers.Input((4,), name="start")
    model = Model(start, layers.Dense(2, name="end")(start))
    assert rows(model) == [["start (InputLayer)", "(None, 4)", "0"], ["end (Dense)", "(None, 2)", "10"]]
    twice = layers.Dense(4, name="twice")
    assert rows(Model(start, twice(twice(start))))[1][3] == "start[0][0],"


def test_nested_models_and_a_column_for_trainable() -> None:
    inner = Sequential([layers.Input((4,)), layers.Dense(3, name="deep"), layers.Flatten(name="flat")], name="inner")
    inner.layers[0].trainable = False
    model = Sequential([layers.Input((4,)), inner, layers.Dense(1, name="top")])
    assert [row[0] for row in rows(model)] == ["inner (Sequential)", "top (Dense)"]
    listed = rows(model, expand_nested=True, show_trainable=True)
    assert [row[0] for row in listed] == ["inner (Sequential)", "└ deep (Dense)", "└ flat (Flatten)", "top (Dense)"]
    assert [row[3] for row in listed] == ["Y", "N", "-", "Y"]


def test_a_subclassed_model() -> None:
    class Mine(Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = layers.Dense(3, name="first")
            self.rest = [layers.Dense(2, name="second"), layers.Dense(9, name="unused")]

        def call(self, inputs: Any) -> Any:
            return self.rest[0](self.first(inputs))

    model = Mine()
    assert [row[1] for row in rows(model)] == ["?", "?", "?"]
    model(np.zeros((2, 4), "float32"))
    assert rows(model) == [
        ["first (Dense)", "(None, 3)", "15"],
        ["second (Dense)", "(None, 2)", "8"],
        ["unused (Dense)", "?", "0 (unbuilt)"],
    ]


def test_several_outputs_and_long_names() -> None:
    sequence = layers.Input((5, 4))
    recurrent = layers.LSTM(3, return_sequences=True, return_state=True, name="r" * 40)
    table = summary(Model(sequence, recurrent(sequence)))
    assert f"│ {'r' * 30}… │ [(None, 5, 3), (None,  │            96 │" in table
    assert "│ (LSTM)                          │ 3), (None, 3)]         │               │" in table


def test_a_range_of_layers() -> None:
    model = Sequential([layers.Input((2,)), *(layers.Dense(2, name=f"layer_{i}") for i in range(5))])
    assert [row[0] for row in rows(model, layer_range=("layer_1", "layer_3"))] == [
        f"layer_{i} (Dense)" for i in (1, 2, 3)
    ]
    assert len(rows(model, layer_range=["layer_3", "layer_[01]"])) == 3
    with pytest.raises(ValueError, match="fits none"):
        model.summary(layer_range=("layer_1", "nowhere"))
    with pytest.raises(ValueError, match="two layers"):
        model.summary(layer_range=("layer_1",))


@pytest.mark.parametrize("line_length", [5, 40, 81])
def test_any_width(line_length: int) -> None:
    widths = {len(line) for line in summary(mlp(), line_length=line_length, show_trainable=True).splitlines()[1:-3]}
    assert len(widths) == 1 and widths.pop() >= line_length
