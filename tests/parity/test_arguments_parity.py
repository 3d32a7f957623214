"""Names, order, kinds and defaults of the arguments of every public function, as in real Keras."""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from minikeras import ops  # noqa: E402
from minikeras.models.functional_config import _BY_OP  # noqa: E402

ROOMS = ("ops", "ops.numpy", "ops.nn", "ops.linalg", "activations", "random")
OTHERWISE = {"multi_hot"}  # has an older spelling


def _functions(room: str) -> list[tuple[str, Any, Any]]:
    theirs: Any = keras
    for part in room.split("."):
        theirs = getattr(theirs, part)
    ours = importlib.import_module(f"minikeras.{room}")
    names = [name for name in dir(theirs) if name[0] != "_" and inspect.isfunction(getattr(theirs, name))]
    return [(name, getattr(ours, name), getattr(theirs, name)) for name in names if hasattr(ours, name)]


@pytest.mark.parametrize("room", ROOMS)
def test_arguments(room: str) -> None:
    def arguments(function: Any) -> list[tuple]:
        parameters = inspect.signature(function).parameters.values()
        return [(one.name, one.kind, one.default) for one in parameters]

    different = {}
    for name, ours, theirs in _functions(room):
        if name not in OTHERWISE and arguments(ours) != arguments(theirs):
            different[name] = (inspect.signature(ours), inspect.signature(theirs))
    assert not different


def test_names_are_compared() -> None:
    assert len(_functions("ops")) > 300


def test_classes_in_files() -> None:
    """Each operation names a class of Keras, whose constructor and call take what a graph's description says of it."""
    described = {op: one for op, one in _BY_OP.items() if getattr(ops, op.__name__, None) is op}
    assert len(described) > 250
    for op, one in described.items():
        cls = getattr(importlib.import_module(one.module), one.class_name)
        constructor, call = (list(inspect.signature(method).parameters)[1:] for method in (cls.__init__, cls.call))
        if op.__name__ not in OTHERWISE:
            assert one.settings == [name for name in constructor if name != "name"], op
            assert len(one.taken) == len(call) - ("kwargs" in call), op
