"""The state of optimizers as Keras's HDF5 files hold it: arrays whose names tell which layout they stand in.

Keras 3 numbers them as this package does.  `tf.keras` names the kind of each array, first or last in its path.  Keras 2
names nothing: all arrays of one kind stand together, one for each weight.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.saving.hdf5_layers import layers_group, write_arrays
from minikeras.saving.hdf5_reader import WeightsReader

# what other versions call the kinds of state, by class of optimizer, "" for all
_OTHER_NAMES: dict[str, dict[str, str]] = {
    "": {"average": "average"},
    "SGD": {"momentum": "m"},
    "Lion": {"momentum": "m"},
    "Adamax": {"momentum": "m", "norm": "u|v"},
    "RMSprop": {"velocity": "rms", "average_gradient": "mg"},
    "Adadelta": {"accumulated_grad": "accum_grad", "accumulated_delta_var": "accum_var"},
    **dict.fromkeys(("Adam", "Nadam"), {"momentum": "m", "velocity": "v", "velocity_hat": "vhat"}),
}
_COUNTS, _RATES, _PRODUCTS = ("iteration", "iterations", "iter"), ("learning_rate",), ("momentum_cache", "m_schedule")


def write_optimizer(optimizer: Any, root: Any) -> None:
    """Write an optimizer's state into an open HDF5 file, as Keras 3 does."""
    write_arrays(root.create_group("optimizer_weights"), optimizer.variables)


def read_optimizer(
    model: Any, reader: WeightsReader, report: list[str] | None = None, converted: Sequence[str] = ()
) -> None:
    """Read the state of a compiled model's optimizer, if the file has one.

    A state that does not fit is left alone as a whole, with a warning.

    Args:
        model: the model, with its weights and compiled as it was.
        reader: the file.
        report: a list that a sentence about a state that was left alone is appended to.
        converted: what `read_layers` returned; the state of weights that were converted does not fit them.

    Raises:
        ValueError: for a number of updates that is none.
    """
    group, optimizer = reader.group(reader.root, "optimizer_weights"), model.optimizer
    names = [] if group is None or optimizer is None else reader.words(group, "weight_names")
    if not names:
        return
    optimizer.build(model.trainable_variables)
    stored = {re.sub(r":\d+$", "", name): reader.array(group, name) for name in names}
    own = sum(math.prod(variable.shape) for variable in optimizer.variables)
    problem = "belongs to weights in another layout" if converted else "does not fit it"
    if not converted and sum(math.prod(one.shape) for one in stored.values()) <= 2 * own + len(names):
        try:
            found = {name: np.asarray(one[()]) for name, one in stored.items()}
        except OSError as error:
            raise ValueError(f"{reader.label!r} could not be read: {error}") from error
        if not any(one.size and (one.shape or (_last(name) in _COUNTS and one)) for name, one in found.items()):
            return  # of an optimizer that had not made a step
        values = _in_our_order(optimizer, _weights_in_file(model, reader), found)
        if values is not None and [np.shape(value) for value in values] == [one.shape for one in optimizer.variables]:
            optimizer.load_own_variables({str(i): value for i, value in enumerate(values)})
            return
    sentence = f"The state of the optimizer in {reader.label!r} {problem}; {optimizer.name!r} starts anew."
    warnings.warn(sentence, stacklevel=3)
    if report is not None:
        report.append(sentence)


def _weights_in_file(model: Any, reader: WeightsReader) -> list[Any]:
    """The trainable weights in the order of the file, whose layers may stand in another order than the model's."""
    layers = {layer.name: layer for layer in model.layers}
    names = reader.words(layers_group(reader), "layer_names")
    ordered = [v for name in names if name in layers for v in layers[name].trainable_weights]
    found = list({id(variable): variable for variable in ordered}.values())
    known = model.trainable_variables
    return found if {*map(id, found)} == {*map(id, known)} else known


def _in_our_order(optimizer: Any, weights: list[Any], found: dict[str, np.ndarray]) -> list[Any] | None:
    """What the file has for each of the optimizer's variables, or None where it has not one for each."""
    ours = optimizer.variables
    if any(name.rpartition("/")[2] == "iteration" and "/" in name for name in found):  # of Keras 3
        by_name = {name.partition("/")[2]: value for name, value in found.items()}
        paths = [variable.path.partition("/")[2] for variable in ours]
        same = len(by_name) == len(found) == len({*paths}) and {*paths} == {*by_name}
        return [by_name[path] for path in paths] if same else list(found.values())
    scalars = {_last(name): value.reshape(()) for name, value in found.items() if value.size == 1}
    values = {id(one): one.numpy() for one in ours if not one.shape and one.name in (*_COUNTS, *_RATES)}
    for variable in ours:
        if not variable.shape:
            kinds = next((kinds for kinds in (_COUNTS, _RATES) if variable.name in kinds), _PRODUCTS)
            values |= {id(variable): scalars[kind] for kind in kinds if kind in scalars}
    rest = {name: one for name, one in found.items() if _last(name) not in (*_COUNTS, *_RATES, *_PRODUCTS)}
    slots = _slots(optimizer)
    place = {id(weight): i for i, weight in enumerate(optimizer._trainable_variables)}
    for kind, arrays in _by_kind(type(optimizer).__name__, list(slots), rest, len(weights)).items():
        if len(arrays) != len(weights):
            return None
        values |= {id(slots[kind][place[id(w)]]): array for w, array in zip(weights, arrays, strict=True)}
    return [values[id(one)] for one in ours] if all(id(one) in values for one in ours) else None


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _slots(optimizer: Any) -> dict[str, list[Any]]:
    """The variables that an optimizer keeps for each weight, by their kind."""
    kinds = [kind for kinds in optimizer._slot_groups() for kind in kinds]
    found = {"average": optimizer._averages, **dict(zip(kinds, optimizer._slots, strict=True))}
    return {kind: variables for kind, variables in found.items() if variables}


def _by_kind(class_name: str, kinds: list[str], rest: dict[str, np.ndarray], count: int) -> dict[str, list[np.ndarray]]:
    """The arrays of each kind, in the order of the weights."""
    other = {**_OTHER_NAMES[""], **_OTHER_NAMES.get(class_name.removesuffix("W"), {})}
    known = {kind: {kind, *other.get(kind, kind).split("|")} for kind in kinds}
    words = set().union(*known.values(), ["momentum", "m", "vhat"])
    for part in (-1, 1):  # of the paths of optimizers up to TensorFlow 2.10, and of those since
        split = [(name.split("/"), array) for name, array in rest.items()]
        if all(len(path) > 1 and path[part] in words for path, _ in split):
            return {kind: [array for path, array in split if path[part] in names] for kind, names in known.items()}
    arrays = list(rest.values())
    # Adam without amsgrad keeps dummies for it; SGD without momentum keeps one that is always its last step
    spare = arrays[len(kinds) * count :]
    if kinds and any(array.shape != (1,) for array in spare):
        return {"": []}
    return {kind: arrays[i * count : (i + 1) * count] for i, kind in enumerate(kinds)}
