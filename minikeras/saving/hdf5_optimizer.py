"""The state of optimizers as Keras's HDF5 files hold it: arrays whose names tell which layout they stand in.

Keras 3 numbers them as this package does.  `tf.keras` names the kind of each array, first or last in its path.  Keras 2
names nothing: all arrays of one kind stand together, one for each weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np

from minikeras.models.older import tables
from minikeras.saving.hdf5_layers import in_file_order, layers_group, origin_of, write_arrays
from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.tracebacks import warn

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
    # there may be one array for each weight that is not used, and dummies
    room = sum(math.prod(one.shape) for one in (*optimizer.variables, *model.trainable_variables)) + len(names)
    problem = "belongs to weights in another layout" if converted else "does not fit it"
    if not converted and sum(math.prod(one.shape) for one in stored.values()) <= room:
        found = {name: one[()] for name, one in stored.items()}
        if not any(one.size and (one.shape or (_last(name) in _COUNTS and one)) for name, one in found.items()):
            return  # of an optimizer that had not made a step
        values = _in_our_order(optimizer, _weights_in_file(model, reader), found, origin_of(reader).version)
        if values is not None and [np.shape(value) for value in values] == [one.shape for one in optimizer.variables]:
            optimizer.load_own_variables({str(i): value for i, value in enumerate(values)})
            return
    sentence = f"The state of the optimizer in {reader.label!r} {problem}; {optimizer.name!r} starts anew."
    warn(sentence)
    if report is not None:
        report.append(sentence)


def _weights_in_file(model: Any, reader: WeightsReader) -> dict[str, Any]:
    """The trainable weights by their names in the file, in its order, which need not be the model's."""
    group, layers = layers_group(reader), {layer.name: layer for layer in model.layers}
    found: dict[int, tuple[str, Any]] = {}
    known = model.trainable_variables
    trained = {*map(id, known)}
    for name in reader.words(group, "layer_names"):
        words = reader.words(reader.group(group, name), "weight_names") if name in layers else []
        for word, weight in zip(words, in_file_order(layers[name], words) if words else [], strict=False):
            if id(weight) in trained:
                found[id(weight)] = f"{word} {len(found)}", weight
    return dict(found.values()) if {*found} == trained else {f"{i:09d}": weight for i, weight in enumerate(known)}


def _in_our_order(
    optimizer: Any, weights: dict[str, Any], found: dict[str, np.ndarray], version: tuple[int, ...]
) -> list[Any] | None:
    """What the file has for each of the optimizer's variables, or None where it has not one for each."""
    ours = optimizer.variables
    if any(_last(name) == "iteration" and "/" in name for name in found):  # of Keras 3
        by_name = {name.partition("/")[2]: value for name, value in found.items()}
        paths = [variable.path.partition("/")[2] for variable in ours]
        same = len(by_name) == len(found) == len({*paths}) and {*paths} == {*by_name}
        return [by_name[path] for path in paths] if same else list(found.values())
    values = _scalars(optimizer, found)
    slots = _slots(optimizer)
    kinds, named = _by_kind(optimizer, list(slots), found, len(weights))
    orders = [list(weights.values())]
    if not named:  # versions up to 2.0.5, and some of TensorFlow 1, sorted the weights by their names
        orders.append([weights[name] for name in sorted(weights)])
    if any(len(arrays) != len(weights) for arrays in kinds.values()):
        return None
    shapes = [[array.shape for array in arrays] for arrays in kinds.values()]
    fitting = [order for order in orders if all([weight.shape for weight in order] == one for one in shapes)]
    if not fitting or (version < (2, 2) and len(fitting) > 1 and not all(map(is_, *fitting))):
        return None
    place = {id(weight): i for i, weight in enumerate(optimizer._trainable_variables)}
    for kind, arrays in kinds.items():
        values |= {id(slots[kind][place[id(w)]]): array for w, array in zip(fitting[0], arrays, strict=True)}
    return [values[id(one)] for one in ours] if all(id(one) in values for one in ours) else None


def _scalars(optimizer: Any, found: dict[str, np.ndarray]) -> dict[int, Any]:
    """Numbers of the state by the ids of the optimizer's variables; what the file lacks is as it is or follows."""
    told = {_last(name): value.reshape(()) for name, value in found.items() if value.size == 1}
    values: dict[int, Any] = {}
    for variable in (one for one in optimizer.variables if not one.shape):
        names = next((names for names in (_COUNTS, _RATES) if variable.name in names), _PRODUCTS)
        given = [told[name] for name in names if name in told]
        values[id(variable)] = given[0] if given else variable.numpy()
        if not given and names is _PRODUCTS and hasattr(optimizer, "beta_1"):  # Nadam's, which some files lack
            steps = int(values[id(optimizer.iterations)])
            shares = optimizer.beta_1 * (1 - 0.5 * 0.96 ** np.arange(1.0, min(steps, 2000) + 1))
            values[id(variable)] = np.float32(shares.prod() * optimizer.beta_1 ** max(steps - 2000, 0))
    return values


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _slots(optimizer: Any) -> dict[str, list[Any]]:
    """The variables that an optimizer keeps for each weight, by their kind."""
    kinds = [kind for kinds in optimizer._slot_groups() for kind in kinds]
    found = {"average": optimizer._averages, **dict(zip(kinds, optimizer._slots, strict=True))}
    return {kind: variables for kind, variables in found.items() if variables}


def _by_kind(
    optimizer: Any, kinds: list[str], found: dict[str, np.ndarray], count: int
) -> tuple[dict[str, list[np.ndarray]], bool]:
    """The arrays of each kind, in the order of the weights, and whether names told them apart."""
    rest = {name: one for name, one in found.items() if _last(name) not in (*_COUNTS, *_RATES, *_PRODUCTS)}
    other = tables.STATES.get(type(optimizer).__name__.removesuffix("W"), {})
    known = {kind: {kind, *other.get(kind, kind).split("|")} for kind in kinds}
    words = set().union(*known.values(), ("momentum", "m", "vhat"))
    split = [(name.split("/"), array) for name, array in rest.items()]
    for part in (-1, 1):  # of the paths of optimizers up to TensorFlow 2.10, and of those since
        if all(len(path) > 1 and path[part] in words for path, _ in split):
            return {
                kind: [array for path, array in split if path[part] in names] for kind, names in known.items()
            }, True
    arrays = list(rest.values())
    # Adam without amsgrad keeps dummies for it; SGD without momentum keeps one that is always its last step
    spare = arrays[len(kinds) * count :]
    if kinds and any(array.shape != (1,) for array in spare):
        return {"": arrays[: count + 1]}, False
    return {kind: arrays[i * count : (i + 1) * count] for i, kind in enumerate(kinds)}, False
