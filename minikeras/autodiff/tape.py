"""The tape: which operations led to a tensor, and how a gradient flows back through them.

While a `GradientTape` is open (or `recording()`), calling an operation (see `op`) links the result to its inputs by a
`Node`; `backward` walks these links from a scalar back to the sources.  The links live as long as the tensors do: one
step.  First order only: a vjp works on raw arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import FLOATS, Tensor, Variable, _state, clock, latest_change
from minikeras.tracebacks import user_facing


class Node:
    """One use of an operation: its vector-Jacobian product and the tensors that gradients flow to.

    Args:
        op: the operation.
        vjp: None, and no inputs, where nothing was recorded and only the origin of a result is to be known.
        inputs: for each input the tensor that its gradient flows to, or None.
        args, settings: what the operation was called with.
    """

    __slots__ = ("args", "grads", "inputs", "needs", "op", "order", "settings", "vjp")

    def __init__(self, op: Any, vjp: Any, inputs: Sequence[Any], args: tuple, settings: dict[str, Any]):
        self.op = op
        self.vjp = vjp
        self.inputs = inputs
        self.args = args
        self.settings = settings
        self.order = next(clock)
        self.grads: Any = None
        self.needs: Any = None


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
) -> list[Any]:
    """Gradients of `sum(target * seed)` at the sources, as raw arrays; None where the target does not depend on one.

    Args:
        target: the tensor to differentiate, usually a scalar.
        sources: tensors or variables.
        seed: gradient at the target, default ones.
        destinations: `id(source) -> array` that the gradient of that source is written to (and then returned).
    """
    destinations = destinations or {}
    if seed is None:
        seed = k.xp.ones(target.shape, target.data.dtype)
    wanted = {id(source) for source in sources}
    found: dict[int, Any] = {}
    unwritten = dict(destinations)
    if id(target) in wanted:
        found[id(target)] = seed
    nodes = _relevant_nodes(target, wanted)
    if nodes and nodes[0].order < latest_change():
        _refuse_changed(nodes)
    if nodes:
        _accumulate_output(target.node, target.index, seed)
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
        gradients = node.vjp(tuple(g) if type(g) is list else g, needs)
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
    return [found.get(id(source)) for source in sources]


def _relevant_nodes(target: Tensor, wanted: set[int]) -> list[Node]:
    """The nodes between sources and target in the order they were recorded, each with its `needs` filled in."""
    if target.node is None:
        return []
    reached = {target.node}
    stack = [target.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor is not None and tensor.node is not None and tensor.node not in reached:
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


def refuse_second_order(others: int, gradients: Sequence[Any]) -> None:
    """Refuse to make gradients while other blocks record: they would take them for constants."""
    if others > 0 and any(gradient is not None for gradient in gradients):
        raise NotImplementedError(
            "A gradient was asked for inside another open tape, which cannot differentiate it again: gradients of "
            "gradients are not supported; ask for it outside of the other tape, or, if it serves as a constant there, "
            "within `with tape.stop_recording():`."
        )


def _by_order(node: Node) -> int:
    return node.order


def _accumulate_output(node: Node, index: int, gradient: Any) -> None:
    if node.needs is None:
        return
    if type(node.grads) is list:
        present = node.grads[index]
        node.grads[index] = gradient if present is None else present + gradient
    else:
        node.grads = gradient if node.grads is None else node.grads + gradient


def _accumulate_source(found: dict[int, Any], key: int, gradient: Any, destination: Any) -> None:
    present = found.get(key)
    if destination is None:
        found[key] = gradient if present is None else present + gradient
    elif present is None:
        if gradient is not destination:
            destination[...] = gradient
        found[key] = destination
    else:
        destination += gradient


class GradientTape:
    """Record operations on trainable variables and watched tensors, then ask for gradients.

    ```python
    with GradientTape() as tape:
        loss = ops.mean(ops.square(model(x) - y))
    gradients = tape.gradient(loss, model.trainable_variables)
    ```

    Args:
        persistent: accepted for familiarity; every tape may be asked more than once.
        watch_accessed_variables: with False, only what `watch` names has a gradient.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._watched: list[Tensor] = []
        self._recorder = recording()
        self._is_open = False

    def __enter__(self) -> GradientTape:
        self._recorder.__enter__()
        self._is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self._is_open = False
        self._recorder.__exit__(*error)

    def stop_recording(self) -> recording:
        """A block, `with tape.stop_recording():`, whose operations no tape records."""
        return recording(False)

    @user_facing
    def watch(self, tensor: Any) -> None:
        """Track a tensor (or a structure of them) that is not a trainable variable.

        Raises:
            TypeError: for what is no tensor of a float type.
        """
        for leaf in tree.flatten(tensor):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f"GradientTape.watch takes tensors, got {type(leaf).__name__}; make one with ops.convert_to_tensor."
                )
            _require_float(leaf.data)
            leaf.tracked = True
            self._watched.append(leaf)

    @user_facing
    def gradient(self, target: Any, sources: Any, output_gradients: Any = None) -> Any:
        """Gradients of the sum of `target` at `sources`, in the structure of `sources`; None where not connected.

        Args:
            target: a tensor or a structure of them, computed while the tape was open.
            sources: variables or watched tensors.
            output_gradients: the gradients at `target`, default ones.

        Raises:
            TypeError: for a target or source that is no tensor.
            ValueError: where a variable was changed since the target was computed from it.
            NotImplementedError: inside another open tape, which could not differentiate the result again.
        """
        flat = tree.flatten(sources)
        _require_tensors("target", tree.flatten(target))
        _require_tensors("sources", flat)
        if not self.watch_accessed_variables:
            watched = {id(tensor) for tensor in self._watched}
            flat = [source if id(source) in watched else Tensor(source.data) for source in flat]
        targets = tree.flatten(target)
        seeds = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)
        total: list[Any] = [None] * len(flat)
        for one, seed in zip(targets, seeds, strict=True):
            for i, gradient in enumerate(backward(one, flat, raw(seed))):
                if gradient is not None:
                    total[i] = gradient if total[i] is None else total[i] + gradient
        refuse_second_order(_state.recording - self._is_open, total)
        return tree.pack_sequence_as(sources, [None if g is None else Tensor(g) for g in total])


def _require_tensors(role: str, values: Sequence[Any]) -> None:
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"A gradient's {role} must be a tensor made by minikeras.ops or a variable, got "
                f"{'None' if value is None else type(value).__name__}; a NumPy array or a number has no gradient."
            )


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns `(function(...), its gradient)` with respect to the arguments numbered `argnums`."""

    @user_facing
    @functools.wraps(function)
    def evaluate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        positions = [argnums] if isinstance(argnums, int) else list(argnums)
        arguments = list(args)
        for position in positions:
            arguments[position] = tree.map_structure(_tracked, arguments[position])
        with recording():
            value = function(*arguments, **kwargs)
        _require_tensors("function's value", [value])
        if value.size != 1:
            raise ValueError(
                f"grad needs a scalar function, got a value of shape {value.shape}; reduce it with ops.sum."
            )
        chosen = [arguments[position] for position in positions]
        found = backward(value, tree.flatten(chosen))
        refuse_second_order(_state.recording, found)
        flat = [Tensor(g) if g is not None else None for g in found]
        gradients = tree.pack_sequence_as(chosen, flat)
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return evaluate


def grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the gradient of the scalar `function` with respect to the arguments numbered `argnums`.

    An argument may be a structure (list, dict) of arrays or variables; the gradient has the same structure.
    """
    evaluate = value_and_grad(function, argnums)

    @user_facing
    @functools.wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return evaluate(*args, **kwargs)[1]

    return gradient


def _tracked(value: Any) -> Tensor:
    if isinstance(value, Variable):
        return value
    array = raw(value) if not isinstance(value, (int, float)) else k.xp.asarray(float(value))
    _require_float(array)
    return Tensor(array, tracked=True)


def _require_float(array: Any) -> None:
    if array.dtype.char not in FLOATS:
        raise TypeError(
            f"A gradient is taken at float tensors, got one of type {array.dtype}, in which it would be rounded; cast "
            "it to float32 first."
        )
