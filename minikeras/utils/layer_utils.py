"""What can be told about a graph of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minikeras.models.summary import print_summary

__all__ = ["count_params", "get_source_inputs", "print_summary"]


def count_params(weights: Iterable[Any]) -> int:
    """How many numbers these weights have; one that is given twice counts once."""
    return sum(int(weight.size) for weight in {id(weight): weight for weight in weights}.values())


def get_source_inputs(tensor: Any) -> list[Any]:
    """The inputs that a symbolic tensor is computed from, in the order in which they are met.

    Args:
        tensor: the output of a layer or operation in a functional model.

    Returns:
        A list of symbolic tensors; `[tensor]` for one that is an input itself.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> x = keras.Input((3,), name="x")
    >>> [source.name for source in keras.utils.get_source_inputs(layers.Dense(2)(x))]
    ['x']
    """
    if getattr(tensor, "_keras_history", None) is None:
        return [tensor]
    sources: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        history = current._keras_history
        before = history[0]._inbound_nodes[history[1]].input_tensors if history else []
        if before:
            waiting.extend(reversed(before))
        else:
            sources[id(current)] = current
    return list(sources.values())
