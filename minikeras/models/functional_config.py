"""Functional models as descriptions, in Keras's own layout, and back.

`layers` lists the operations, each with its `inbound_nodes`: the arguments of every call in this model, where a tensor
is named by `[operation, call, output]`.  An operation of `ops` used on symbolic tensors is described as the class that
Keras has for it, which stands at the operation.

A loss that was added to the model is written as an `Identity` named `added_loss`, which no output needs: Keras makes
it, does not use it, and opens the file as a model without that loss.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minikeras import activations, config, losses, ops, registry, tree
from minikeras.autodiff.op import Op, camel_case
from minikeras.autodiff.symbolic import FunctionNode, KerasTensor, SymbolicNode, is_symbolic
from minikeras.layers.core import Identity
from minikeras.layers.layer import Layer
from minikeras.layers.operation import Operation
from minikeras.models.graph import Graph, is_users_operation, named_function
from minikeras.ops import image, nn


@dataclass(frozen=True)
class Reference:
    """A tensor of a description: the how-manieth output of which call of which operation."""

    name: str
    call: int
    output: int


class Described:
    """What Keras calls an operation, and which of its parameters a call takes; the others belong to the constructor."""

    def __init__(self, op: Op):
        self.op = op
        self.module, self.class_name = op.keras_class
        self.signature = inspect.signature(op)
        parameters = self.signature.parameters
        names = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD] + list(op.hidden)
        self.taken = list(op.takes if not isinstance(op.takes, int) else names[: op.takes])
        self.settings = [name for name in names if name not in self.taken]
        self.several = parameters[self.taken[0]].kind is inspect.Parameter.VAR_POSITIONAL

    def split(self, args: tuple, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """A call's arguments, and those of the constructor."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = {**self.op.hidden, **bound.arguments, **bound.arguments.get("kwargs", {})}
        taken = list(given[self.taken[0]]) if self.several else [given[name] for name in self.taken]
        return taken, {name: given[name] for name in self.settings}

    def join(self, args: list[Any], kwargs: dict[str, Any], settings: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The operation's arguments: the inverse of `split`."""
        if self.several:
            first = list(self.signature.parameters).index(self.taken[0])
            leading = [settings[name] for name in self.settings[:first]]
            return (*leading, *args), {**kwargs, **{name: settings[name] for name in self.settings[first:]}}
        named = {**dict(zip(self.taken, args, strict=False)), **kwargs}
        if "key" in named and isinstance(named["key"], list):
            named["key"] = tuple(named["key"])  # an index; JSON has no tuples
        return (named.pop(self.taken[0]),), {**named, **settings}


_BY_CLASS: dict[tuple[str, str], Described] = {}  # also by the classes of other names that `ops` has for them
_BY_OP: dict[Op, Described] = {}
_rooms = [(room, name) for room in (ops, image) for name in dir(room)]
_others = [("re_lu", nn.piecewise_relu), ("exponential", activations.exponential)]
for _name, _op in [*[(name, getattr(room, name)) for room, name in _rooms], *_others]:
    if isinstance(_op, Op) and any(_op.keras_class):
        _known = _BY_OP[_op] = _BY_OP.get(_op) or Described(_op)
        _BY_CLASS.setdefault((_known.module, _known.class_name), _known)
        _BY_CLASS.setdefault((_known.module, camel_case(_name)), _known)


def operation_module(class_name: str) -> str | None:
    """The module of the operation that has a class of this name in Keras."""
    return next((module for module, name in _BY_CLASS if name == class_name), None)


def described(op: Op) -> Described:
    """What Keras calls an operation of `ops` that it has a class for."""
    return _BY_OP[op]


# ---------------------------------------------------------------- losses, of which Keras has no classes for graphs


def _margins(t: Any, p: Any) -> Any:
    binary = ops.all(ops.logical_or(ops.equal(t, 0), ops.equal(t, 1)))
    return ops.maximum(1 - ops.where(binary, 2 * t - 1, t) * p, 0)


def _log_of(y: Any) -> Any:
    return ops.log(ops.maximum(y, config.epsilon()) + 1)


# what the mean over the last axis is taken of, for targets t and predictions p
_ERRORS: dict[Callable, Callable] = {
    losses.mean_squared_error: lambda t, p: ops.square(p - t),
    losses.mean_absolute_error: lambda t, p: ops.abs(p - t),
    losses.mean_absolute_percentage_error: lambda t, p: (
        ops.abs((p - t) / ops.maximum(ops.abs(t), config.epsilon())) * 100
    ),
    losses.mean_squared_logarithmic_error: lambda t, p: ops.square(_log_of(p) - _log_of(t)),
    losses._huber: lambda t, p, delta: ops.where(
        ops.abs(p - t) <= delta, 0.5 * ops.square(p - t), delta * ops.abs(p - t) - 0.5 * delta * delta
    ),
    losses.log_cosh: lambda t, p: p - t + ops.softplus((p - t) * -2) - math.log(2),
    losses.hinge: _margins,
    losses.squared_hinge: lambda t, p: ops.square(_margins(t, p)),
    losses.poisson: lambda t, p: p - t * ops.log(p + config.epsilon()),
    losses._binary_crossentropy: lambda t, p, from_logits: ops.binary_crossentropy(t, p, from_logits),
}


def _divergence(t: Any, p: Any) -> Any:
    t, p = (ops.clip(y, config.epsilon(), 1.0) for y in (t, p))
    return ops.sum(t * ops.log(t / p), axis=-1)


def _largest_margin(t: Any, p: Any) -> Any:
    wrong = ops.max((1.0 - t) * p, axis=-1)
    return ops.maximum(wrong - ops.sum(t * p, axis=-1) + 1.0, 0.0)


def _cosine(t: Any, p: Any, epsilon: float) -> Any:
    squares = (ops.sum(ops.square(y), axis=-1, keepdims=True) for y in (t, p))
    lengths = [ops.sqrt(ops.maximum(square, epsilon**2)) for square in squares]
    return -ops.sum((t / lengths[0]) * (p / lengths[1]), axis=-1)


# others as a whole
_VALUES: dict[Callable, Callable] = {
    losses.kl_divergence: _divergence,
    losses._largest_margin: _largest_margin,
    losses._cosine: _cosine,
}


def _spelled_out(operation: Any, nodes: list[SymbolicNode], graph: Graph) -> list[tuple[SymbolicNode, list]]:
    """For each use of one of these losses the same computation made of operations that Keras has classes for."""
    function = named_function(operation.function) if isinstance(operation, FunctionNode) else None
    if function not in _ERRORS and function not in _VALUES:
        return []
    found = []
    for node in nodes:
        if function in _ERRORS:
            result = ops.mean(_ERRORS[function](*node.args, **node.kwargs), axis=-1)
        else:
            result = _VALUES[function](*node.args, **node.kwargs)
        inner = Graph(list({id(tensor): tensor for tensor in node.input_tensors}.values()), result)
        found.append((node, [one for one in inner.nodes if one not in graph.node_set]))
    return found


# ---------------------------------------------------------------- to a description


_ADDED_LOSS = re.compile(r"added_loss(_\d+)?")


def describe_graph(graph: Graph, added: Sequence[KerasTensor] = ()) -> dict[str, Any]:
    """`layers`, `input_layers` and `output_layers` of a functional model's description.

    Args:
        graph: the graph.
        added: those of its added losses that are written; what only the others need is left out.

    Raises:
        ValueError: for an operation that files have no name for.
    """
    if len(added) < len(graph.losses):
        graph = Graph(graph.input_structure, graph.output_structure, added)
    calls: dict[Any, list[SymbolicNode]] = {}
    instead: dict[int, KerasTensor] = {}  # by the id of a tensor that no operation in the description makes
    taken = {operation.name for operation in graph.operations}
    for operation in graph.operations:
        nodes = _calls(operation, graph)
        spelled = _spelled_out(operation, nodes, graph)
        for node, inner in spelled:
            for one in inner:
                one.operation.name = _free_name(f"{operation.name}_{one.operation.function.graph_name}", taken)
                calls[one.operation] = [one]
            instead[id(node.outputs)] = inner[-1].outputs
        if not spelled:
            calls[operation] = nodes
    number = {node: i for nodes in calls.values() for i, node in enumerate(nodes)}

    def reference(tensor: KerasTensor) -> list[Any]:
        tensor = instead.get(id(tensor), tensor)
        operation, index, output = tensor._keras_history
        return [operation.name, number[operation._inbound_nodes[index]], output]

    def end(tensor: KerasTensor) -> list[Any]:
        name, call, output = reference(tensor)
        own_graph = getattr(tensor._keras_history[0], "is_functional", False)  # which Keras counts as a call of its own
        return [name, call + own_graph, output]

    def describe(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return registry.serialize_keras_object(leaf)
        history = {"shape": list(leaf.shape), "dtype": leaf.dtype, "keras_history": reference(leaf)}
        return {"class_name": "__keras_tensor__", "config": history}

    layers = []
    for operation, nodes in calls.items():
        if isinstance(operation, FunctionNode):
            description, arguments = _describe_function_node(operation, nodes)
        else:
            description = registry.serialize_keras_object(operation)
            arguments = [(node.args, _said(operation, node.kwargs)) for node in nodes if node.input_tensors]
        description["name"] = operation.name
        description["inbound_nodes"] = [
            {"args": tree.map_structure(describe, list(args)), "kwargs": tree.map_structure(describe, kwargs)}
            for args, kwargs in arguments
        ]
        layers.append(description)
    for loss in added:
        name = _free_name("added_loss", taken)
        description = registry.serialize_keras_object(Identity(name=name, dtype=loss.dtype))
        layers.append({**description, "name": name, "inbound_nodes": [{"args": [describe(loss)], "kwargs": {}}]})
    return {
        "layers": layers,
        "input_layers": tree.map_structure(end, graph.input_structure),
        "output_layers": tree.map_structure(end, graph.output_structure),
    }


def _free_name(name: str, taken: set[str]) -> str:
    """The name with a number where others have it; it is taken then."""
    found = next(one for i in itertools.count() if (one := f"{name}_{i}" if i else name) not in taken)
    taken.add(found)
    return found


def _calls(operation: Any, graph: Graph) -> list[SymbolicNode]:
    """An operation's calls that belong to this graph."""
    within = graph.node_set
    return [node for node in operation._inbound_nodes if node in within]


def _describe_function_node(operation: FunctionNode, nodes: list[SymbolicNode]) -> tuple[dict[str, Any], list[tuple]]:
    function = operation.function
    arguments: list[tuple]
    if is_users_operation(function):  # all arguments belong to its calls
        arguments = [(node.args, node.kwargs) for node in nodes]
        name = registry.get_registered_name(function)
        return registry.description_of(None, function.__name__, {"name": operation.name}, name), arguments
    if function not in _BY_OP:
        problem = f"The operation {operation.name!r} ({function.__name__}) has no name in files"
        raise ValueError(f"{problem}; put it into the call() of a layer of your own.")
    known = _BY_OP[function]
    parts = [known.split(node.args, node.kwargs) for node in nodes]
    arguments, settings = [(args, {}) for args, _ in parts], parts[-1][1]
    named = {"name": operation.name, **registry.serialize_keras_object(settings)}
    return registry.description_of(known.module, known.class_name, named, known.class_name), arguments


# ---------------------------------------------------------------- and back


def restore_graph(described: dict[str, Any]) -> tuple[Any, Any, list[KerasTensor]]:
    """The inputs, outputs and added losses of the model that `layers`, `input_layers` and `output_layers` describe.

    Raises:
        ValueError: for a description whose parts do not fit together, or that holds layers which no output needs.
    """
    descriptions = _by_name(described["layers"])
    inputs = _map_ends(described["input_layers"], descriptions)
    outputs = _map_ends(described["output_layers"], descriptions)
    order = _call_order(descriptions, tree.flatten([outputs, inputs]))
    added = _added_losses(descriptions, {name for name, _ in order})
    descriptions = {name: description for name, description in descriptions.items() if name not in added}
    order = _call_order(descriptions, tree.flatten([outputs, inputs, list(added.values())]))
    unused = sorted(set(descriptions) - {name for name, _ in order})
    if unused:
        raise ValueError(f"The description holds the layers {unused[:5]}, which no output needs; remove them.")
    operations = {name: _restore_operation(name, description) for name, description in descriptions.items()}
    tensors: dict[tuple[str, int], list[KerasTensor]] = {}

    def find(reference: Reference) -> KerasTensor:
        found = tensors[reference.name, reference.call]
        if reference.output >= len(found):
            raise ValueError(f"The description names {reference}, but that call has {len(found)} outputs.")
        return found[reference.output]

    for name, call in order:
        nodes = descriptions[name]["inbound_nodes"]
        if nodes:
            args, kwargs = (_revive(nodes[call][part], find) for part in ("args", "kwargs"))
            _call(operations[name], args, kwargs, descriptions[name])
        tensors[name, call] = operations[name]._inbound_nodes[-1].output_tensors
    return tree.map_structure(find, inputs), tree.map_structure(find, outputs), [find(loss) for loss in added.values()]


def _call(operation: Any, args: list[Any], kwargs: dict[str, Any], description: dict[str, Any]) -> None:
    """Call a layer or a function on symbolic tensors."""
    if not isinstance(operation, FunctionNode):
        operation(*args, **(_call_keywords(operation, kwargs) if isinstance(operation, Layer) else kwargs))
        return
    function: Any = operation.function
    if not is_symbolic((args, kwargs)):
        raise ValueError(f"The description calls the operation {operation.name!r} without a tensor; remove that call.")
    known = _BY_OP.get(function)
    if known is None:
        SymbolicNode(operation, tuple(args), kwargs, function.infer(tuple(args), kwargs))
        return
    settings = registry.deserialize_keras_object(
        {key: value for key, value in description["config"].items() if key != "name"}
    )
    unknown = sorted(set(settings) - set(known.settings))
    if unknown:
        raise ValueError(f"The description of {operation.name!r} has the unknown settings {unknown}; remove them.")
    values, named = known.join(args, kwargs, settings)
    SymbolicNode(operation, values, named, known.op.infer(values, named))


def _by_name(layers: Any) -> dict[str, dict[str, Any]]:
    """The layers' descriptions by name, checked."""
    if not isinstance(layers, list):
        raise ValueError(f"A functional model's layers are a list of descriptions, got {layers!r:.80}.")
    found: dict[str, dict[str, Any]] = {}
    for layer in layers:
        name = layer.get("name") if registry.is_description(layer) else None
        nodes = layer.get("inbound_nodes") if name is not None else None
        if not isinstance(name, str) or not isinstance(nodes, list) or not isinstance(layer["config"], dict):
            raise ValueError(f"A layer in a model needs class_name, config, name and inbound_nodes, got {layer!r:.80}.")
        if name in found:
            raise ValueError(f"Layer names in a model must be unique, got {name!r} twice.")
        for node in nodes:
            parts = [node.get("args"), node.get("kwargs")] if isinstance(node, dict) else [None, None]
            if not isinstance(parts[0], (list, tuple)) or not isinstance(parts[1], dict):
                raise ValueError(f"A call of the layer {name!r} is described by args and kwargs, got {node!r:.80}.")
        found[name] = layer
    return found


def _map_ends(structure: Any, descriptions: dict[str, dict[str, Any]]) -> Any:
    """A structure of `[layer, call, output]` as one of references."""
    if isinstance(structure, dict):
        return {key: _map_ends(item, descriptions) for key, item in structure.items()}
    if not isinstance(structure, (list, tuple)):
        raise ValueError(f"A model's inputs and outputs are given as [layer, call, output], got {structure!r:.80}.")
    if len(structure) == 3 and isinstance(structure[0], str):
        end = _as_reference(structure)
        nested = "input_layers" in descriptions.get(end.name, {}).get("config", ())
        return Reference(end.name, max(end.call - nested, 0), end.output)
    return type(structure)([_map_ends(item, descriptions) for item in structure])


def _added_losses(descriptions: dict[str, dict[str, Any]], needed: set[str]) -> dict[str, Reference]:
    """The tensors that stand for losses, by the names of the layers that mark them."""
    found = {}
    for name, description in descriptions.items():
        nodes = description["inbound_nodes"]
        marks = name not in needed and _ADDED_LOSS.fullmatch(name) and description["class_name"] == "Identity"
        if marks and len(nodes) == 1 == len(nodes[0]["args"]):
            reference = _tensor_reference(nodes[0]["args"][0])
            if reference is not None:
                found[name] = reference
    return found


def _as_reference(history: Any) -> Reference:
    if isinstance(history, (list, tuple)) and len(history) == 3:
        name, call, output = history
        if isinstance(name, str) and type(call) is int and type(output) is int and call >= 0 and output >= 0:
            return Reference(name, call, output)
    raise ValueError(f"A tensor in a description is named by [layer, call, output], got {history!r:.80}.")


def _tensor_reference(value: Any) -> Reference | None:
    """The reference where a value from JSON is a tensor of the graph."""
    if registry.is_description(value) and value["class_name"] == "__keras_tensor__":
        history = value["config"].get("keras_history") if isinstance(value["config"], dict) else None
        return _as_reference(history)
    return None


def _needed(value: Any) -> Iterator[Reference]:
    reference = _tensor_reference(value)
    if reference is not None:
        yield reference
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _needed(item)


def _call_order(descriptions: dict[str, dict[str, Any]], ends: list[Reference]) -> list[tuple[str, int]]:
    """The calls that the ends need, each after those it needs itself and after earlier calls of its layer."""

    def before(name: str, call: int) -> Iterator[tuple[str, int]]:
        nodes = descriptions[name]["inbound_nodes"]
        if call >= max(len(nodes), 1):
            raise ValueError(f"The description names call {call} of {name!r}, which is called {len(nodes)} times.")
        if call:
            yield name, call - 1
        if nodes:
            yield from ((needed.name, needed.call) for needed in _needed(nodes[call]))

    order: list[tuple[str, int]] = []
    state: dict[tuple[str, int], bool] = {}  # False while what it needs is looked for, then True
    stack: list[tuple[tuple[str, int] | None, Iterator]] = [(None, iter([(end.name, end.call) for end in ends]))]
    while stack:
        key, needs = stack[-1]
        needed = next(needs, None)
        if needed is None:
            stack.pop()
            if key is not None:
                state[key] = True
                order.append(key)
        elif needed[0] not in descriptions:
            raise ValueError(f"The description uses the layer {needed[0]!r}, which it does not hold.")
        elif needed not in state:
            state[needed] = False
            stack.append((needed, before(*needed)))
        elif not state[needed]:
            raise ValueError(f"The description has a loop through the layer {needed[0]!r}.")
    return order


def is_operation(description: dict[str, Any]) -> bool:
    """Whether a description names an operation, built in or the user's."""
    return _operation(description) is not None


def _operation(description: dict[str, Any]) -> Op | None:
    known = _BY_CLASS.get((str(description.get("module")), str(description["class_name"])))
    return _users_operation(description) if known is None else known.op


def _restore_operation(name: str, description: dict[str, Any]) -> Any:
    op = _operation(description)
    if op is not None:
        return FunctionNode(op, name)
    layer = registry.deserialize_keras_object(description)
    if not isinstance(layer, (Layer, Operation)):
        raise ValueError(f"The description of {name!r} gives {layer!r:.80}, which is no layer.")
    layer.name = name
    return layer


def _users_operation(description: dict[str, Any]) -> Op | None:
    """The registered operation, or that among the `custom_objects`, that a description names."""
    for key in ("registered_name", "class_name"):
        thing = registry.get_registered_object(description[key]) if isinstance(description.get(key), str) else None
        if isinstance(thing, Op):
            return thing
    return None


def _revive(value: Any, find: Callable) -> Any:
    """Arguments from JSON, with tensors in the place of references."""
    reference = _tensor_reference(value)
    if reference is not None:
        return find(reference)
    if registry.is_description(value):
        return registry.deserialize_keras_object(value)
    if isinstance(value, (list, tuple)):
        return [_revive(item, find) for item in value]
    if isinstance(value, dict):
        return {key: _revive(item, find) for key, item in value.items()}
    return value


def _default_of_training(layer: Layer) -> Any:
    parameters = inspect.signature(layer.call).parameters
    return parameters["training"].default if "training" in parameters else False


def _said(operation: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a call, where `training` as it is by default is 0 or 1: False and True are what Keras notes."""
    told = kwargs.get("training")
    if isinstance(operation, Layer) and isinstance(told, bool) and told is _default_of_training(operation):
        return {**kwargs, "training": int(told)}
    return kwargs


def _call_keywords(layer: Layer, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a call without those that Keras notes for every call: the default of `training`, and no mask."""
    parameters = inspect.signature(layer.call).parameters
    automatic = {"training": (None, _default_of_training(layer)), "mask": (None,)}
    given = {name: value for name, value in kwargs.items() if not any(value is v for v in automatic.get(name, ()))}
    unknown = sorted(set(given) - set(parameters) - {"training"})
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        raise ValueError(f"The description calls {layer.name!r} with the unknown arguments {unknown}; remove them.")
    return given
