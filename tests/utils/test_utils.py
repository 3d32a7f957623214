"""The names of `minikeras.utils`, loaded when asked for; seeds and sessions."""

from __future__ import annotations

import random as python_random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from minikeras import initializers, layers, utils


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
