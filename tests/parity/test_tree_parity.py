"""Nested structures as in real Keras: results, their types, and the kinds of errors."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from tree_cases import OF_ONE, OF_TWO, PAIRS, STRUCTURES, outcome  # noqa: E402

from minikeras import tree  # noqa: E402


def _typed(structure: Any) -> Any:
    """A structure with the type of each part, so that dicts of different kinds are not equal."""
    if isinstance(structure, dict):
        return type(structure), [(key, _typed(part)) for key, part in structure.items()]
    if keras.tree.is_nested(structure):
        return type(structure), [_typed(part) for part in structure]
    return structure


@pytest.mark.parametrize("structure", STRUCTURES, ids=repr)
def test_of_one_structure(structure: Any) -> None:
    for name, call in OF_ONE.items():
        ours, theirs = (outcome(call, module, structure) for module in (tree, keras.tree))
        assert _typed(ours) == _typed(theirs), name


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=repr)
def test_of_two_structures(one: Any, other: Any) -> None:
    """But for None in the place of a leaf of the shallow structure, which Keras documents and refuses."""
    for name, call in OF_TWO.items():
        if name == "map_structure_up_to" and one is None:
            continue
        ours, theirs = (outcome(call, module, one, other) for module in (tree, keras.tree))
        assert _typed(ours) == _typed(theirs), name


@pytest.mark.parametrize("name", [name for name in dir(keras.tree) if inspect.isfunction(getattr(keras.tree, name))])
def test_arguments(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (tree, keras.tree))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]
