"""The names of `minikeras.utils`, loaded when asked for; seeds and sessions."""

from __future__ import annotations

import logging
import random as python_random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from minikeras import Input, Sequential, config, initializers, layers, ops, utils
from minikeras.utils import console


def test_every_name_is_there() -> None:
    assert all(callable(getattr(utils, name)) for name in utils.__all__)
    assert set(utils.__all__) <= set(dir(utils))
    with pytest.raises(AttributeError, match="nothing"):
        utils.nothing  # noqa: B018


def test_importing_utils_loads_nothing() -> None:
    script = "import sys, minikeras.utils; print([m for m in sys.modules if m in ('numpy', 'minikeras.registry')])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_a_seed_restarts_every_stream() -> None:
    def draw() -> list[Any]:
        return [python_random.random(), np.random.rand(), initializers.get("glorot_uniform")((2, 2)).tolist()]

    utils.set_random_seed(7)
    first = draw()
    assert draw() != first
    utils.set_random_seed(7)
    assert draw() == first
    utils.set_random_seed(2**40)
    with pytest.raises(ValueError, match="whole number"):
        utils.set_random_seed("seven")


def test_clear_session_restarts_names() -> None:
    utils.clear_session()
    assert [layers.Dense(1).name, layers.Dense(1).name] == ["dense", "dense_1"]
    utils.clear_session()
    assert layers.Dense(1).name == "dense"


def test_modules_of_keras_2() -> None:
    from minikeras.utils import data_utils, generic_utils, layer_utils, np_utils

    assert utils.np_utils is np_utils and np_utils.to_categorical is utils.to_categorical
    assert generic_utils.Progbar is utils.Progbar and utils.generic_utils is generic_utils
    assert data_utils.get_file is utils.get_file and data_utils.Sequence is utils.Sequence
    assert layer_utils.get_source_inputs is utils.get_source_inputs
    model = Sequential([Input((2,)), layers.Dense(3)])
    assert layer_utils.count_params(model.weights + model.weights) == 9
    shown: list[str] = []
    utils.print_summary(model, print_fn=shown.append)
    assert "Total params: 9" in shown[0]
    assert generic_utils.to_list(3) == [3] and generic_utils.to_list([3]) == [3]
    assert generic_utils.to_list((3, 4)) == [(3, 4)] and generic_utils.to_list((3, 4), allow_tuple=True) == [3, 4]
    assert generic_utils.unpack_singleton([3]) == 3 and generic_utils.unpack_singleton([3, 4]) == [3, 4]


def test_source_inputs() -> None:
    a, b = Input((3,)), Input((3,))
    hidden = layers.Dense(2)(a)
    assert utils.get_source_inputs(a) == [a] and utils.get_source_inputs(hidden) == [a]
    both = layers.Concatenate()([layers.Dense(2)(b), hidden, ops.relu(a)])
    assert [id(one) for one in utils.get_source_inputs(both)] == [id(b), id(a)]
    deep = a
    for _ in range(2000):  # far deeper than Python recurses
        deep = ops.relu(deep)
    assert utils.get_source_inputs(deep) == [a]


@pytest.fixture
def without_interactive_logging() -> Any:
    utils.disable_interactive_logging()
    yield
    utils.enable_interactive_logging()


def test_logging_instead_of_standard_output(
    without_interactive_logging: None, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    assert not utils.is_interactive_logging_enabled() and not config.is_interactive_logging_enabled()
    model = Sequential([Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with caplog.at_level(logging.INFO, "minikeras"):
        model.fit(np.ones((8, 2)), np.ones(8), epochs=2, batch_size=4)
        console.announce("done")
    assert capsys.readouterr().out == ""
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", "2/2", "Epoch 2/2", "2/2", "done"]
    assert "loss: " in lines[1] and {record.name for record in caplog.records} == {"minikeras"}


def test_standard_output_by_default(capsys: pytest.CaptureFixture) -> None:
    assert utils.is_interactive_logging_enabled()
    console.announce("done")
    assert capsys.readouterr().out.strip() == "done"
