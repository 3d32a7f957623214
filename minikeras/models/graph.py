"""The layer graph of a functional model: which uses of which layers lie between its inputs and outputs, in which order.

Static: built once, from symbolic tensors.  `run` calls the layers on values, one after the other.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras import tree
from minikeras.autodiff.symbolic import FunctionNode, KerasTensor, SymbolicNode, unique_name
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.core import InputLayer
from minikeras.layers.layer import Layer


class Graph:
    """The operations between symbolic inputs and outputs (structures of `KerasTensor`), and those to further losses.

    Args:
        inputs, outputs: the ends.
        losses: symbolic tensors that training adds to the loss.
        kept: symbolic tensors that a compiled loss refers to.

    What only losses and kept tensors need comes after all the rest, and is only computed where they are asked for.

    Raises:
        ValueError: where an output or a loss does not follow from the inputs alone.
    """

    def __init__(self, inputs: Any, outputs: Any, losses: Sequence[KerasTensor] = (), kept: Sequence[KerasTensor] = ()):
        for role, structure in (("inputs", inputs), ("outputs", outputs)):
            for tensor in tree.flatten(structure):
                if not isinstance(tensor, KerasTensor):
                    raise ValueError(f"A model's {role} are symbolic tensors, got {tensor!r}; use minikeras.Input().")
        self.input_structure, self.output_structure = inputs, outputs
        self.inputs: list[KerasTensor] = tree.flatten(inputs)
        self.outputs: list[KerasTensor] = tree.flatten(outputs)
        self.losses, self.kept = list(losses), list(kept)
        self._sources = frozenset(map(id, self.inputs))
        self._met: dict[Any, int] = {}
        self.node_set: set[SymbolicNode] = set()
        self.output_nodes = self._sort_nodes(self.outputs, "outputs depend")
        self.operations = self._sort_operations()
        loss_nodes = self._sort_nodes([*self.losses, *self.kept], "loss depends") if losses or kept else []
        self.nodes = self.output_nodes + loss_nodes
        taken = {operation.name for operation in self.operations}
        for operation in self._by_depth(self._depths(loss_nodes), known=self.operations):
            while isinstance(operation, FunctionNode) and operation.name in taken:
                operation.name = unique_name(operation.name)  # nobody chose it, and it may be that of a layer
            taken.add(operation.name)
            self.operations.append(operation)
        self.layers = [operation for operation in self.operations if isinstance(operation, Layer)]
        counts = Counter(operation.name for operation in self.operations)
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise ValueError(f"Layer names in a model must be unique, got {repeated} more than once; pass other names.")
        self._plan = [self._step(node) for node in self.output_nodes if not self._is_source(node)]
        self._whole_plan = self._plan + [self._step(node) for node in loss_nodes if not self._is_source(node)]
        self._origin: tuple[Graph, dict[int, KerasTensor]] | None = None

    def constants(self) -> list[Any]:
        """The arrays and tensors that its operations are given besides symbolic ones."""
        given = tree.flatten([(node.args, node.kwargs) for node in self.nodes])
        return [leaf for leaf in given if type(leaf) is Tensor or isinstance(leaf, np.ndarray)]

    def _is_source(self, node: SymbolicNode) -> bool:
        return self._sources.issuperset(map(id, node.output_tensors))

    def _sort_nodes(self, ends: list[KerasTensor], role: str) -> list[SymbolicNode]:
        """The nodes not met yet that the ends need, each after those it needs; operations are numbered as first met."""
        order: list[SymbolicNode] = []
        # depth first, without recursion: a graph may be thousands of layers deep
        stack: list[tuple[SymbolicNode | None, Iterator[KerasTensor]]] = [(None, iter(ends))]
        while stack:
            node, needed = stack[-1]
            tensor = next(needed, None)
            if tensor is None:
                stack.pop()
                if node is not None:
                    order.append(node)
                continue
            if tensor._keras_history is None:
                raise ValueError(f"{tensor!r} is the output of no layer; start from minikeras.Input().")
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            if node in self.node_set:
                continue
            self._met.setdefault(operation, len(self._met))
            self.node_set.add(node)  # symbolic tensors are made once from earlier ones: there are no cycles
            if id(tensor) not in self._sources and not node.input_tensors:
                raise ValueError(f"The {role} on the Input {operation.name!r}, which is not among the model's inputs.")
            stack.append((node, iter(() if id(tensor) in self._sources else node.input_tensors)))
        return order

    def _sort_operations(self) -> list[Any]:
        """Operations by their distance from the outputs, the farthest first: the order in which files number layers."""
        depth_of = self._depths(self.output_nodes)
        for tensor in self.inputs:
            operation = tensor._keras_history[0]
            if operation not in depth_of:
                depth_of[operation], self._met[operation] = 0, -1
                node = operation._inbound_nodes[tensor._keras_history[1]]
                self.output_nodes.insert(0, node)
                self.node_set.add(node)
        return self._by_depth(depth_of)

    def _depths(self, nodes: list[SymbolicNode]) -> dict[Any, int]:
        """How far from the ends the operations of sorted nodes are."""
        node_depth: dict[SymbolicNode, int] = {}
        depth_of: dict[Any, int] = {}
        for node in reversed(nodes):
            depth = max(node_depth.setdefault(node, 0), depth_of.get(node.operation, 0))
            depth_of[node.operation] = node_depth[node] = depth
            if self._is_source(node):
                continue
            for tensor in node.input_tensors:
                operation, index, _ = tensor._keras_history
                parent = operation._inbound_nodes[index]
                node_depth[parent] = max(depth + 1, node_depth.get(parent, 0))
        return depth_of

    def _by_depth(self, depth_of: dict[Any, int], known: Sequence[Any] = ()) -> list[Any]:
        """The operations that are not known yet, the farthest first."""
        there = set(known)
        found = [operation for operation in depth_of if operation not in there]
        return sorted(found, key=lambda operation: (-depth_of[operation], self._met[operation]))

    def _step(self, node: SymbolicNode) -> tuple:
        """(operation, id of the only input or None, node, ids of the outputs)."""
        plain = len(node.args) == 1 and isinstance(node.args[0], KerasTensor) and not node.kwargs
        outputs = [id(tensor) for tensor in node.output_tensors]
        single = isinstance(node.outputs, KerasTensor)
        return node.operation, id(node.args[0]) if plain else None, node, outputs[0] if single else outputs

    def grow(self, node: SymbolicNode) -> None:
        """Let the graph end with what another layer makes of its outputs.

        A stack of many layers is made of such steps, each of which takes the same time.

        Args:
            node: a use, of the outputs as its only argument, of a layer that is not in the graph.
        """
        operation = node.operation
        self.nodes.append(node)
        self.output_nodes.append(node)
        self.node_set.add(node)
        self.operations.append(operation)
        self.layers.append(operation)
        self._plan.append(self._step(node))
        self._whole_plan.append(self._plan[-1])
        self._end_with(node.outputs)

    def shrink(self) -> None:
        """Take the last step of `grow` back."""
        node = self.nodes[-1]
        for steps in (self.nodes, self.output_nodes, self.operations, self.layers, self._plan, self._whole_plan):
            steps.pop()
        self.node_set.discard(node)
        self._end_with(node.args[0])

    def _end_with(self, outputs: Any) -> None:
        self.output_structure, self.outputs = outputs, tree.flatten(outputs)

    def with_entrances(self, replaced: dict[int, KerasTensor] | None = None) -> Graph:
        """This graph with an Input for each input that lies inside another graph; nothing before it belongs here.

        Args:
            replaced: what stands for which tensors already, by their ids; the other tensors are entered there.
        """
        replaced = {id(tensor): tensor for tensor in self.inputs} if replaced is None else replaced
        for tensor in self.inputs:
            if replaced[id(tensor)] is tensor and not isinstance(tensor._keras_history[0], InputLayer):
                replaced[id(tensor)] = InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype).output
        if all(replaced[id(tensor)] is tensor for tensor in self.inputs):
            return self
        use = Filler(replaced)
        for node in self.nodes:
            if not self._is_source(node) and not all(id(tensor) in replaced for tensor in node.output_tensors):
                fresh = [KerasTensor(tensor.shape, tensor.dtype) for tensor in node.output_tensors]
                args, kwargs = tree.map_structure(use, node.args), tree.map_structure(use, node.kwargs)
                for old, new in zip(node.output_tensors, fresh, strict=True):
                    replaced.setdefault(id(old), new)
                SymbolicNode(node.operation, args, kwargs, tree.pack_sequence_as(node.outputs, fresh))
        ends = tree.map_structure(use, self.input_structure), tree.map_structure(use, self.output_structure)
        graph = Graph(*ends, [use(tensor) for tensor in self.losses])
        graph._origin = self, replaced
        return graph

    def with_losses(self, losses: Sequence[KerasTensor]) -> Graph:
        """This graph with further losses; they may be made of the tensors that this graph's inputs were cut from.

        Raises:
            ValueError: where a loss does not follow from the inputs alone.
        """
        try:
            graph = Graph(self.input_structure, self.output_structure, [*self.losses, *losses], self.kept)
        except ValueError:
            if self._origin is None:
                raise
            before, replaced = self._origin
            # of the same tensors before the cut: what stands for them is known, what is new follows them
            cut = Graph(before.input_structure, before.output_structure, losses).with_entrances(replaced)
            graph = Graph(self.input_structure, self.output_structure, [*self.losses, *cut.losses], self.kept)
        graph._origin = self._origin
        return graph

    def keeping(self, tensors: Sequence[KerasTensor]) -> Graph:
        """This graph with further tensors that a compiled loss refers to; without those that are not its own."""
        graph = self
        for tensor in tensors:
            if any(tensor is kept for kept in graph.kept):
                continue
            try:
                graph = Graph(self.input_structure, self.output_structure, self.losses, [*graph.kept, tensor])
            except ValueError:
                continue  # of another model
            graph._origin = self._origin
        return graph

    def __getstate__(self) -> dict[str, Any]:
        """The operations and a flat list of calls, for pickle and copies: tensors and nodes refer to each other."""
        place = self.placing()
        calls = []
        for node in self.nodes:
            operation = node.operation
            if isinstance(operation, FunctionNode):
                operation = _Function(named_function(operation.function), operation.name)
            outputs = tree.map_structure(lambda out: _Specification(out.shape, out.dtype, out.name), node.outputs)
            args = () if self._is_source(node) else place(node.args)
            calls.append((operation, args, place(node.kwargs), outputs))
        ends = place((self.input_structure, self.output_structure, self.losses, self.kept))
        return {"calls": calls, "ends": ends}

    def _tensors(self) -> list[KerasTensor]:
        return [tensor for node in self.nodes for tensor in node.output_tensors]

    def placing(self) -> Callable[[Any], Any]:
        """What puts their places, which can be copied and pickled, for this graph's tensors in a structure."""
        places = {id(tensor): _Place(number) for number, tensor in enumerate(self._tensors())}
        return lambda structure: tree.map_structure(lambda leaf: places.get(id(leaf), leaf), structure)

    def found(self, structure: Any) -> Any:
        """A structure of this graph's tensors from one of the places that they had in the graph it is a copy of."""
        tensors = self._tensors()
        return tree.map_structure(lambda leaf: tensors[leaf.number] if isinstance(leaf, _Place) else leaf, structure)

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors: list[KerasTensor] = []
        functions: dict[str, FunctionNode] = {}

        def find(leaf: Any) -> Any:
            return tensors[leaf.number] if isinstance(leaf, _Place) else leaf

        for operation, args, kwargs, outputs in state["calls"]:
            if isinstance(operation, _Function):
                operation = functions.setdefault(operation.name, FunctionNode(operation.function, operation.name))
            outputs = tree.map_structure(lambda leaf: KerasTensor(leaf.shape, leaf.dtype, leaf.name), outputs)
            SymbolicNode(operation, tree.map_structure(find, args), tree.map_structure(find, kwargs), outputs)
            tensors.extend(tree.flatten(outputs))
        self.__init__(*tree.map_structure(find, state["ends"]))  # type: ignore[misc]

    def run(self, inputs: list[Any], add_losses: Callable[[list[Any], list[Any]], None] | None = None) -> Any:
        """The outputs, in their structure, for a flat list of input values.

        Args:
            inputs: tensors.
            add_losses: called with the values of the losses and of the kept tensors; without it they are not computed.
        """
        values = {id(tensor): value for tensor, value in zip(self.inputs, inputs, strict=True)}
        for operation, only, node, outputs in self._plan if add_losses is None else self._whole_plan:
            if only is not None:
                result = operation(values[only])
            else:
                fill = Filler(values)
                result = operation(*tree.map_structure(fill, node.args), **tree.map_structure(fill, node.kwargs))
            if type(outputs) is int:
                values[outputs] = result
            else:
                for key, value in zip(outputs, tree.flatten(result), strict=True):
                    values[key] = value
        if add_losses is not None:
            add_losses(*([values[id(tensor)] for tensor in tensors] for tensors in (self.losses, self.kept)))
        if isinstance(self.output_structure, KerasTensor):
            return values[id(self.output_structure)]
        return tree.map_structure(lambda tensor: values[id(tensor)], self.output_structure)


def named_function(function: Callable) -> Callable:
    """The function of a module that an operation within it was made for; the operation where that is it."""
    named = getattr(sys.modules.get(function.__module__), function.__name__, function)
    return named if inspect.unwrap(named) is inspect.unwrap(function) else function


def is_users_operation(function: Callable) -> bool:
    """Whether this is an operation that a user made, which a file names as it names a user's layer."""
    return not function.__module__.startswith("minikeras.")


@dataclass(frozen=True)
class _Place:
    """A tensor of a pickled graph: the how-manieth output of its calls."""

    number: int


@dataclass(frozen=True)
class _Function:
    """A function node of a pickled graph."""

    function: Callable
    name: str


@dataclass(frozen=True)
class _Specification:
    """A tensor of a pickled graph where it is made."""

    shape: tuple[int | None, ...]
    dtype: str
    name: str


class Filler:
    """Replaces a symbolic tensor by its value; anything else stays."""

    def __init__(self, values: dict[int, Any]):
        self._values = values

    def __call__(self, leaf: Any) -> Any:
        return self._values[id(leaf)] if isinstance(leaf, KerasTensor) else leaf
