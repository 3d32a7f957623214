"""All variables of a model as one nested dict, by their paths."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from minikeras.autodiff.tensor import Variable, assign_all
from minikeras.utils.checks import one_of
from minikeras.utils.suggest import unknown


def _groups(model: Any) -> dict[str, dict[str, Variable]]:
    """The variables of each kind by their paths.

    Raises:
        ValueError: for two of one path.
    """
    kinds = ("trainable_variables", "non_trainable_variables", "metrics_variables")
    variables = {kind: getattr(model, kind) for kind in kinds}
    variables["optimizer_variables"] = [] if model.optimizer is None else model.optimizer.variables
    found: dict[str, dict[str, Variable]] = {kind: {} for kind in variables}
    for kind, ones in variables.items():
        for one in ones:
            if found[kind].setdefault(one.path, one) is not one:
                raise ValueError(f"A state tree names variables by paths, got {one.path!r} twice; name the layers.")
    return found


def state_tree(model: Any, value_format: str) -> dict[str, Any]:
    """What `Model.get_state_tree` returns."""
    one_of("value_format", value_format, ("backend_tensor", "numpy_array"))
    state: dict[str, Any] = {}
    for group, variables in _groups(model).items():
        state[group] = {}
        for path, variable in variables.items():
            *folders, name = path.split("/")
            place = functools.reduce(lambda outer, folder: outer.setdefault(folder, {}), folders, state[group])
            place[name] = variable.numpy() if value_format == "numpy_array" else variable.value
    return state


def set_state_tree(model: Any, state: Any) -> None:
    """What `Model.set_state_tree` does."""
    if not isinstance(state, Mapping):
        raise TypeError(f"set_state_tree takes the dict of get_state_tree(), got {type(state).__name__}.")
    groups = _groups(model)
    variables, values = [], []
    for group, inner in state.items():
        if group not in groups:
            raise ValueError(unknown("part of a state tree", group, groups))
        for path, value in _leaves(inner, ""):
            if path not in groups[group]:
                raise ValueError(unknown(f"path in {group} of {model.name!r}", path, groups[group]))
            variables.append(groups[group][path])
            values.append(value)
    assign_all(variables, values)


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(path, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(inner, f"{path}/{name}" if path else str(name))]
