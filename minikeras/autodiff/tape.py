"""The tape: which operations led to a tensor, and how a gradient flows back through them.

While a `GradientTape` is open (or `recording()`), calling an operation (see `op`) links the result to its inputs by a
`Node`; `backward` walks these links from a scalar back to the sources.  The links live as long as the tensors do: one
step.  A vjp works on raw arrays; a gradient that is to be differentiated again is made of operations instead, which
`ops/second_order.py` finds by running the operation's own function once more, on arrays that record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff.tensor import Tensor, Variable, _state, clock, latest_change
from minikeras.kernels.arena import constant, fixed


class Node:
    """One use of an operation: its vector-Jacobian product and the tensors that gradients flow to.

    Args:
        op: the operation.
        vjp: None, and no inputs, where nothing was recorded and only the origin of a result is to be known.
        inputs: for each input the tensor that its gradient flows to, or None.
        args, settings: what the operation was called with.
        arrays: the raw arrays that its function was called with, where something was recorded.
    """

    __slots__ = ("args", "arrays", "grads", "inputs", "needs", "op", "order", "settings", "vjp")

    def __init__(
        self,
        op: Any,
        vjp: Any,
        inputs: Sequence[Any],
        args: tuple,
        settings: dict[str, Any],
        arrays: Sequence[Any] = (),
    ):
        self.op = op
        self.vjp = vjp
        self.inputs = inputs
        self.args = args
        self.settings = settings
        self.arrays = arrays
        self.order = next(clock)
        self.grads: Any = None
        self.needs: Any = None


@lru_cache(maxsize=64)
def _ones(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    ones = xp.ones(shape, dtype)
    return constant(ones) if xp is np else ones


linking: Any = None  # the module `ops.second_order`, once there are operations


class Needs(tuple):
    """For each positional input of an operation: whether its gradient is wanted.

    `out[i]` is the array that the gradient of input i should be written to (a slice of a flat gradient buffer), or
    None: a vjp that can write there directly saves a copy; one that does not know about it is right too.
    """

    out: Sequence[Any] = (None,) * 32


class recording:
    """Context manager: operations on tracked tensors are recorded (`False`: they are not)."""

    __slots__ = ("_on", "_previous")

    def __init__(self, on: bool = True):
        self._on = on

    def __enter__(self) -> None:
        self._previous = _state.recording
        _state.recording = self._previous + 1 if self._on else 0

    def __exit__(self, *error: object) -> None:
        _state.recording = self._previous


def is_recording() -> bool:
    """Whether operations on tracked tensors are recorded now: if not, an operation need not keep what its vjp reads."""
    return _state.recording > 0


def backward(
    target: Tensor,
    sources: Sequence[Tensor],
    seed: Any = None,
    destinations: dict[int, Any] | None = None,
    since: int = 0,
    linked: bool = False,
) -> list[Any]:
    """Gradients of `sum(target * seed)` at the sources, as raw arrays; None where the target does not depend on one.

    Args:
        target: the tensor to differentiate, usually a scalar.
        sources: tensors or variables.
        seed: gradient at the target, default ones.
        destinations: `id(source) -> array` that the gradient of that source is written to (and then returned).
        since: what was recorded before, by `clock`, is taken for constants.
        linked: whether the gradients are themselves to be differentiated: then `seed` and they are tensors, made by
            operations that the open tapes record.

    Raises:
        ValueError: where a variable was changed since the target was computed from it.
        NotImplementedError: where `linked`, for an operation whose gradient cannot be made of operations.
    """
    destinations = destinations or {}
    if seed is None:
        seed = fixed(_ones(k.xp, target.shape, target.data.dtype))
    if linked and not isinstance(seed, Tensor):
        seed = Tensor(seed)
    wanted = {id(source) for source in sources}
    found: dict[int, Any] = {}
    unwritten = dict(destinations)
    if id(target) in wanted:
        found[id(target)] = seed
    nodes = _relevant_nodes(target, wanted, since)
    if nodes and nodes[0].order < latest_change():
        _refuse_changed(nodes)
    if nodes:
        _accumulate_output(target.node, target.index, seed)
    try:
        for node in reversed(nodes):
            g = node.grads
            node.grads = None if type(g) is not list else [None] * len(g)
            if g is None or (type(g) is list and all(part is None for part in g)):
                continue
            needs = node.needs
            node.needs = None
            for position, tensor in enumerate(node.inputs):
                if tensor is not None and id(tensor) in unwritten:
                    # the first contribution may be written to the destination; later ones are added to it
                    if needs.out is Needs.out:
                        needs.out = [None] * len(needs)
                    needs.out[position] = unwritten.pop(id(tensor))
            g = tuple(g) if type(g) is list else g
            gradients = linking.vjp(node, g, needs) if linked else node.vjp(g, needs)
            for position, tensor in enumerate(node.inputs):
                if not needs[position]:
                    continue
                gradient = gradients[position]
                if gradient is None:
                    continue
                if tensor.node is not None:
                    _accumulate_output(tensor.node, tensor.index, gradient)
                key = id(tensor)
                if key in wanted:
                    _accumulate_source(found, key, gradient, destinations.get(key))
    except BaseException:
        for node in nodes:  # what was under way must not reach another gradient
            node.needs, node.grads = None, [None] * len(node.grads) if type(node.grads) is list else None
        raise
    return [found.get(id(source)) for source in sources]


def _relevant_nodes(target: Tensor, wanted: set[int], since: int) -> list[Node]:
    """The nodes between sources and target in the order they were recorded, each with its `needs` filled in."""
    if target.node is None or target.node.order < since:
        return []
    reached = {target.node}
    stack = [target.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor is None or tensor.node is None or tensor.node.order < since:
                continue
            if tensor.node not in reached:
                reached.add(tensor.node)
                stack.append(tensor.node)
    nodes = []
    for node in sorted(reached, key=_by_order):
        flags = [
            tensor is not None and (id(tensor) in wanted or (tensor.node is not None and tensor.node.needs is not None))
            for tensor in node.inputs
        ]
        node.needs = Needs(flags) if True in flags else None
        if node.needs is not None:
            nodes.append(node)
    return nodes


def _refuse_changed(nodes: list[Node]) -> None:
    """Refuse gradients through operations on variables whose values, which the gradients are made of, are gone."""
    for node in nodes:
        for tensor in node.inputs:
            if isinstance(tensor, Variable) and tensor.changed > node.order:
                for other in nodes:
                    other.needs = None
                raise ValueError(
                    f"The variable {tensor.path!r} was changed after the loss was computed from it, so the gradient "
                    "asked for now would be wrong; ask for all gradients before the first update."
                )


def _by_order(node: Node) -> int:
    return node.order


def _accumulate_output(node: Node, index: int, gradient: Any) -> None:
    if node.needs is None:
        return
    if type(node.grads) is list:
        present = node.grads[index]
        node.grads[index] = gradient if present is None else _sum(present, gradient)
    else:
        node.grads = gradient if node.grads is None else _sum(node.grads, gradient)


def _sum(one: Any, other: Any) -> Any:
    return one + other if isinstance(one, Tensor) else k.combine(one, other, "add")


def _accumulate_source(found: dict[int, Any], key: int, gradient: Any, destination: Any) -> None:
    present = found.get(key)
    if destination is None:
        found[key] = gradient if present is None else _sum(present, gradient)
    elif present is None:
        if gradient is not destination:
            k.spread(gradient, destination.shape, destination.dtype, destination)
        found[key] = destination
    else:
        k.combine(destination, gradient, "add", out=destination)
