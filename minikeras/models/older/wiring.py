"""The wiring of an older functional model: which call takes which tensors, as Keras 3 writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minikeras import registry
from minikeras.models.older import tables
from minikeras.models.older.operations import CLASSES, Call, constant, plain_symbol, size, tensor

_RECURRENT = {"RNN", "SimpleRNN", "LSTM", "GRU", "Bidirectional", *(f"ConvLSTM{n}D" for n in (1, 2, 3))}
_CONSTANT = "_CONSTANT_VALUE"
_WHOLE = {"start": None, "stop": None, "step": None}
# attributes of TensorFlow's nodes that say what a function's parameter says
_ATTRIBUTES = {"keep_dims": "keepdims", "transpose_a": "transpose_a", "transpose_b": "transpose_b", "DstT": "dtype"}
_ATTRIBUTES |= {"adj_x": "transpose_a", "adj_y": "transpose_b"}


class Wiring:
    """One functional model on its way.

    Args:
        config: its configuration.
        layer: what translates the description of a layer.
        note: called with a sentence and a layer's name.

    Raises:
        ValueError: for a configuration whose parts do not fit together.
    """

    def __init__(self, config: dict[str, Any], layer: Callable[[Any], Any], note: Callable[[str, str], None]):
        self._layer, self._note = layer, note
        self._ends = {end: config.get(end) for end in ("input_layers", "output_layers")}
        self._entries: dict[str, Any] = {}
        for entry in config["layers"]:
            name = entry.get("name") if registry.is_description(entry) else None
            if not isinstance(name, str) or not isinstance(entry.get("inbound_nodes"), list):
                problem = f"A layer in a model needs class_name, config, name and inbound_nodes, got {entry!r:.80}"
                raise ValueError(f"{problem}.")
            self._entries[name] = entry
        self._moved: dict[str, bool] = {}  # what `_keeps_batch` found
        self._first: dict[str, int] = {}  # the number of a layer's first call; that of a model in it counts from 1
        for name, call, *_ in self._uses([[one["inbound_nodes"] for one in config["layers"]], self._ends]):
            self._first[name] = min(call, self._first.get(name, call))

    def modern(self) -> dict[str, Any]:
        """`layers`, `input_layers` and `output_layers` in the form of Keras 3."""
        layers = [one for name in self._needed() for one in self._modern_entries(name, self._entries[name])]
        functional = {one["name"] for one in layers if "input_layers" in one["config"]}
        return {"layers": layers, **{end: self._end(value, functional) for end, value in self._ends.items()}}

    def _is_reference(self, value: Any) -> bool:
        """Whether a value is `[layer, call, output]`, perhaps with arguments of the call behind."""
        if not isinstance(value, (list, tuple)) or len(value) not in (3, 4) or not isinstance(value[0], str):
            return False
        return type(value[1]) is int and (
            value[0] == _CONSTANT or (value[0] in self._entries and type(value[2]) is int)
        )

    def _uses(self, value: Any, arguments: bool = True) -> Iterator[Any]:
        """The references in a structure, also those in the arguments of calls."""
        if self._is_reference(value):
            if value[0] != _CONSTANT:
                yield value
            value = value[3:] if arguments else ()
        if isinstance(value, (list, tuple, dict)):
            for one in value.values() if isinstance(value, dict) else value:
                yield from self._uses(one, arguments)

    def _needed(self) -> list[str]:
        """The layers that the outputs need, in their order; others only noted losses and metrics."""
        found: set[str] = set()
        waiting = [one[0] for one in self._uses(self._ends)]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [one[0] for one in self._uses(self._entries[name]["inbound_nodes"])]
        for name in sorted(self._entries.keys() - found):
            self._note("Left out, as no output needs it", name)
        return [name for name in self._entries if name in found]

    def _end(self, value: Any, functional: set[str]) -> Any:
        """The model's inputs or outputs; a functional model within is counted from its second call, as Keras does."""
        if self._is_reference(value):
            name, call, output = value[:3]
            return [name, call - self._first.get(name, 0) + (name in functional), output]
        if isinstance(value, dict):
            return {name: self._end(one, functional) for name, one in value.items()}
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"A model's inputs and outputs are given as [layer, call, output], got {value!r:.80}.")
        found = [self._end(one, functional) for one in value]
        return found[0] if len(found) == 1 else found

    def _tensor(self, reference: Any) -> Any:
        name, call, output = reference[:3]
        if self._symbol(name) == "shape":
            return size(self._source(name)[:3], -1)
        return self._size(name) if self._is_size(name) else tensor(name, call - self._first.get(name, 0), output)

    # ------------------------------------------------------------ sizes of tensors

    def _symbol(self, name: str) -> str | None:
        """What TensorFlow calls a function in the graph, None for a layer."""
        entry = self._entries[name]
        symbol = entry["config"].get("function") if entry["class_name"] in CLASSES else None
        return plain_symbol(symbol) if isinstance(symbol, str) else None

    def _source(self, name: str) -> Any:
        """The first tensor that a layer or function takes."""
        return next(self._uses(self._entries[name]["inbound_nodes"]), (None, 0, 0, {}))

    def _is_size(self, name: str) -> bool:
        """Whether a function gives one of the sizes of a tensor."""
        source = self._source(name)[0] if self._symbol(name) == "__operators__.getitem" else None
        return source is not None and self._symbol(source) == "shape"

    def _size(self, name: str) -> Any:
        """A size as a number where the description tells it, else what stands for it."""
        axis, source = self._source(name)[3].get("slice_spec"), self._source(self._source(name)[0])
        entry = self._entries[source[0]]
        shape = entry["config"].get("batch_input_shape") if entry["class_name"] == "InputLayer" else None
        if type(axis) is not int:
            raise ValueError(f"Only a call tells the sizes {name!r}; build the model in code.")
        if shape is not None and shape[axis] is not None:
            return shape[axis]
        return size("batch" if axis == 0 and self._keeps_batch(source[0]) else source[:3], axis)

    def _keeps_batch(self, name: str) -> bool:
        """Whether the first axis of what a layer or function gives is that of the model's inputs."""
        waiting, seen = [name], set()
        while waiting and name not in self._moved:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                sources = list(self._uses(self._entries[one]["inbound_nodes"], False))
                others: dict[str, Any] = next((one[3] for one in sources if len(one) == 4), {})
                symbol = self._symbol(one)
                ours = tables.SYMBOLS.get(symbol, ("", {}))[0] if symbol is not None else "layer"
                if not ours or (ours in tables.MOVES_AXES and not self._leaves_first_axis(ours, others)):
                    self._moved[name] = False
                waiting += [source[0] for source in sources]
        return self._moved.setdefault(name, True)

    def _leaves_first_axis(self, ours: str, others: dict[str, Any]) -> bool:
        """Whether an operation that may move axes leaves the first where it is."""
        named = {"transpose": "perm", "get_item": "slice_spec", "reshape": "shape"}.get(ours, "axis")
        value: Any = others.get(named)
        first = value[0] if isinstance(value, list) and value else value
        if named == "axis":
            return all(type(one) is int and one > 0 for one in (value if isinstance(value, list) else [value]))
        if named == "shape":
            return self._is_reference(first) and self._is_size(first[0]) and self._size(first[0]) == size("batch", 0)
        return first == (0 if named == "perm" else _WHOLE)

    # ------------------------------------------------------------ calls

    def _arguments(self, node: Any) -> tuple[Any, dict[str, Any]]:
        """The first argument of a call, and the others by name."""
        others: dict[str, Any] = {}

        def first(value: Any) -> Any:
            if self._is_reference(value):
                others.update(value[3] if len(value) == 4 and isinstance(value[3], dict) else {})
                return constant(value[2]) if value[0] == _CONSTANT else self._tensor(value)
            if isinstance(value, (list, tuple)):
                return [first(one) for one in value]
            if not isinstance(value, dict):
                raise ValueError(f"A call in the description names [layer, call, output], got {value!r:.80}.")
            return {name: first(one) for name, one in value.items()}

        value = first(node)
        return value, {name: self._named(one) for name, one in others.items()}

    def _named(self, value: Any) -> Any:
        """An argument given by name."""
        if self._is_reference(value):
            return self._tensor(value)
        if isinstance(value, (list, tuple)):
            return [self._named(one) for one in value]
        return {name: self._named(one) for name, one in value.items()} if isinstance(value, dict) else value

    def _modern_entries(self, name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
        if entry["class_name"] in CLASSES:
            is_shape = self._symbol(name) == "shape" or self._is_size(name)
            return [] if is_shape else self._operation(name, entry)
        calls = [self._arguments(node) for node in entry["inbound_nodes"]]
        config = entry["config"]
        causal = isinstance(config, dict) and config.get("causal") and "Attention" in entry["class_name"]
        if isinstance(config, dict) and entry["class_name"] in ("Attention", "AdditiveAttention"):
            config = {key: value for key, value in config.items() if key != "causal"}
        made = self._layer({**{key: one for key, one in entry.items() if key != "inbound_nodes"}, "config": config})
        nodes = []
        for value, others in calls:
            value = value[0] if isinstance(value, list) and len(value) == 1 else value
            if made["class_name"] in _RECURRENT and isinstance(value, list):
                value, others = _states_apart(value, others, int(config.get("num_constants") or 0))
            if made["module"] == "keras.layers":
                others = {key: one for key, one in others.items() if one is not None}
            if others.get("training") is False:
                others["training"] = 0  # said by the user; False alone is what Keras 3 notes of every call
            nodes.append({"args": [value], "kwargs": {**others, "use_causal_mask": True} if causal else others})
        return [{**made, "name": name, "inbound_nodes": nodes}]

    def _operation(self, name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
        """A function of TensorFlow."""
        config, nodes = entry["config"], entry["inbound_nodes"]
        node = config.get("node_def", config)
        symbol = node.get("op", config.get("function")) if isinstance(node, dict) else None
        if len(nodes) != 1 or not isinstance(symbol, str):
            raise ValueError(f"The function {name!r} is described in a way that is not known; build the model in code.")
        value, others = self._arguments(nodes[0])
        if "op" in node:
            values = list(value) if isinstance(value, list) else [value]
            for place, one in sorted((config.get("constants") or {}).items(), key=lambda item: int(item[0])):
                values.insert(int(place), one)
            given = (node.get("attr") or {}).items()
            others = {_ATTRIBUTES[key]: next(iter(one.values()), None) for key, one in given if key in _ATTRIBUTES}
        else:
            values = [value]
        self._note(f"TensorFlow's {symbol} is an operation of ops now", name)
        return Call(name, symbol, {"": values, **others}).entries()


def _states_apart(value: list[Any], others: dict[str, Any], constants: int) -> tuple[Any, dict[str, Any]]:
    """The sequences, and what a recurrent layer is called with beside them."""
    parts = {"initial_state": value[1 : len(value) - constants], "constants": value[len(value) - constants :]}
    others = {name: one for name, one in others.items() if name not in parts}
    return value[0], {**others, **{name: one for name, one in parts.items() if one}}
