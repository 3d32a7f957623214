"""The wiring of an older functional model: which call takes which tensors, as Keras 3 writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minikeras import registry
from minikeras.models.older import tables
from minikeras.models.older.operations import CLASSES, MOVES_AXES, SYMBOLS, Call, constant, plain_symbol, size, tensor

_RECURRENT = {"RNN", "SimpleRNN", "LSTM", "GRU", "Bidirectional", *(f"ConvLSTM{n}D" for n in (1, 2, 3))}
_CONSTANT = "_CONSTANT_VALUE"


class Wiring:
    """One functional model on its way.

    Args:
        config: its configuration.
        layer: what translates the description of a layer.
        note: called with a sentence and a layer's name.
    """

    def __init__(self, config: dict[str, Any], layer: Callable[[Any], Any], note: Callable[[str, str], None]):
        self._config, self._layer, self._note = config, layer, note
        self._entries: dict[str, Any] = {}
        for entry in config["layers"]:
            name = entry.get("name") if registry.is_description(entry) else None
            if not isinstance(name, str) or not isinstance(entry.get("inbound_nodes"), list):
                raise ValueError(
                    f"A layer in a model needs class_name, config, name and inbound_nodes, got {entry!r:.80}."
                )
            self._entries[name] = entry
        self._first: dict[str, int] = {}  # the number of a layer's first call; that of a model in it counts from 1
        for name, call in self._uses([[one["inbound_nodes"] for one in config["layers"]], self._ends()]):
            self._first[name] = min(call, self._first.get(name, call))
        self._functional: set[str] = set()

    def modern(self) -> dict[str, Any]:
        """`layers`, `input_layers` and `output_layers` in the form of Keras 3."""
        layers = [one for name in self._needed() for one in self._modern_entries(name, self._entries[name])]
        self._functional = {one["name"] for one in layers if "input_layers" in one["config"]}
        ends = {name: self._structure(self._config[name]) for name in ("input_layers", "output_layers")}
        return {"layers": layers, **ends}

    def _ends(self) -> list[Any]:
        return [self._config.get("input_layers"), self._config.get("output_layers")]

    def _is_reference(self, value: Any) -> bool:
        """Whether a value is `[layer, call, output]`, perhaps with arguments of the call behind."""
        if not isinstance(value, (list, tuple)) or len(value) not in (3, 4) or not isinstance(value[0], str):
            return False
        return type(value[1]) is int and (
            value[0] == _CONSTANT or (value[0] in self._entries and type(value[2]) is int)
        )

    def _uses(self, value: Any) -> Iterator[tuple[str, int]]:
        """The calls whose tensors a structure holds."""
        if self._is_reference(value):
            if value[0] != _CONSTANT:
                yield value[0], value[1]
            yield from self._uses(list(value[3:]))
        elif isinstance(value, (list, tuple, dict)):
            for one in value.values() if isinstance(value, dict) else value:
                yield from self._uses(one)

    def _needed(self) -> list[str]:
        """The layers that the outputs need, in their order; others only noted losses and metrics."""
        found: set[str] = set()
        open_ends = [name for name, _ in self._uses(self._ends())]
        while open_ends:
            name = open_ends.pop()
            if name not in found:
                found.add(name)
                open_ends += [one for one, _ in self._uses(self._entries[name]["inbound_nodes"])]
        for name in self._entries.keys() - found:
            self._note("Left out, as no output needs it", name)
        return [name for name in self._entries if name in found]

    def _tensor(self, reference: Any) -> dict[str, Any]:
        name, call, output = reference[:3]
        if self._symbol(name) == "shape":
            return size(self._source(name), -1)
        if self._is_size(name):
            return self._size(name)
        return tensor(name, call - self._first.get(name, 0), output)

    def _structure(self, value: Any) -> Any:
        """The model's inputs or outputs."""
        if self._is_reference(value):
            name, call, output = value[:3]
            return [name, call - self._first.get(name, 0) + (name in self._functional), output]
        if isinstance(value, dict):
            return {name: self._structure(one) for name, one in value.items()}
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"A model's inputs and outputs are given as [layer, call, output], got {value!r:.80}.")
        found = [self._structure(one) for one in value]
        return found[0] if len(found) == 1 else found

    # ------------------------------------------------------------ sizes of tensors

    def _symbol(self, name: str) -> str | None:
        """What TensorFlow calls a function in the graph, None for a layer."""
        config = self._entries[name]["config"] if self._entries[name]["class_name"] in CLASSES else {}
        symbol = config.get("function")
        return plain_symbol(symbol) if isinstance(symbol, str) else None

    def _source(self, name: str) -> Any:
        """The first tensor that a layer or function takes."""
        return next(self._references(self._entries[name]["inbound_nodes"]), None)

    def _references(self, value: Any) -> Iterator[Any]:
        if self._is_reference(value):
            if value[0] != _CONSTANT:
                yield value
        elif isinstance(value, (list, tuple, dict)):
            for one in value.values() if isinstance(value, dict) else value:
                yield from self._references(one)

    def _is_size(self, name: str) -> bool:
        """Whether a function gives one of the sizes of a tensor."""
        source = self._source(name) if self._symbol(name) == "__operators__.getitem" else None
        return source is not None and self._symbol(source[0]) == "shape"

    def _size(self, name: str) -> Any:
        """A size as a number where the description tells it, else what stands for it."""
        axis = self._source(name)[3].get("slice_spec")
        source = self._source(self._source(name)[0])
        entry = self._entries[source[0]]
        shape = entry["config"].get("batch_input_shape") if entry["class_name"] == "InputLayer" else None
        if type(axis) is not int:
            raise ValueError(f"The sizes {name!r} are known only when they are computed; build the model in code.")
        if shape is not None and shape[axis] is not None:
            return shape[axis]
        return size("batch" if axis == 0 and self._keeps_batch(source[0]) else source[:3], axis)

    def _keeps_batch(self, name: str) -> bool:
        """Whether the first axis of what a layer or function gives is that of the model's inputs."""
        symbol, sources = self._symbol(name), list(self._references(self._entries[name]["inbound_nodes"]))
        if symbol is not None:
            ours, _ = SYMBOLS.get(symbol, ("", {}))
            others = next((one[3] for one in sources if len(one) == 4), {})
            if not ours or (ours in MOVES_AXES and not self._leaves_first_axis(ours, others)):
                return False
        return all(self._keeps_batch(one[0]) for one in sources)

    def _leaves_first_axis(self, ours: str, others: dict[str, Any]) -> bool:
        """Whether an operation that may move axes leaves the first where it is."""
        if ours == "transpose":
            return isinstance(others.get("perm"), list) and others["perm"][0] == 0
        if ours == "get_item":
            key = others.get("slice_spec")
            first = key[0] if isinstance(key, list) and key else key
            return first == {"start": None, "stop": None, "step": None}
        if ours == "reshape":
            shape = others.get("shape")
            first = shape[0] if isinstance(shape, list) and shape else None
            named = self._is_reference(first) and self._is_size(first[0])
            return named and self._size(first[0]) == size("batch", 0)
        axes = others.get("axis")
        return axes is not None and all(type(one) is int and one > 0 for one in (axes if isinstance(axes, list) else [axes]))

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
            if isinstance(value, dict):
                return {name: first(one) for name, one in value.items()}
            raise ValueError(f"A call in the description names [layer, call, output], got {value!r:.80}.")

        value = first(node)
        return value, {name: self._named(one) for name, one in others.items()}

    def _named(self, value: Any) -> Any:
        """An argument given by name."""
        if self._is_reference(value):
            return self._tensor(value)
        if isinstance(value, (list, tuple)):
            return [self._named(one) for one in value]
        if isinstance(value, dict):
            return {name: self._named(one) for name, one in value.items()}
        return value

    def _modern_entries(self, name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
        nodes = entry["inbound_nodes"]
        if nodes and isinstance(nodes[0], dict) and nodes[0].keys() == {"args", "kwargs"}:
            return [entry]  # translated before
        if entry["class_name"] in CLASSES:
            is_shape = self._symbol(name) == "shape" or self._is_size(name)
            return [] if is_shape else self._operation(name, entry)
        calls = [self._arguments(node) for node in nodes]
        entry = {key: value for key, value in entry.items() if key != "inbound_nodes"}
        if entry["class_name"] == "Merge":
            entry = self._merge(name, entry, len(calls[0][0]) if isinstance(calls[0][0], list) else 1)
        causal = entry["class_name"] in ("Attention", "AdditiveAttention") and entry["config"].get("causal")
        if causal is not None and isinstance(entry["config"], dict):
            entry["config"] = {key: value for key, value in entry["config"].items() if key != "causal"}
        made = self._layer(entry)
        builtin = made.get("module") == "keras.layers"
        modern = []
        for value, others in calls:
            value = value[0] if isinstance(value, list) and len(value) == 1 else value
            if made["class_name"] in _RECURRENT and isinstance(value, list):
                value, others = _states_apart(value, others, int(made["config"].pop("num_constants", 0) or 0))
            if builtin:
                others = {key: one for key, one in others.items() if one is not None}
            if others.get("training") is False:
                others["training"] = 0  # said by the user; False alone is what Keras 3 notes of every call
            if causal:
                others["use_causal_mask"] = True
            modern.append({"args": [value], "kwargs": others})
        return [{**made, "name": name, "inbound_nodes": modern}]

    def _merge(self, name: str, entry: dict[str, Any], count: int) -> dict[str, Any]:
        """Keras 1's Merge as the layer that does what its mode says."""
        config = entry["config"]
        mode = config.get("mode")
        if mode not in tables.MERGES:
            raise ValueError(
                f"The Merge {name!r} has the mode {mode!r:.80}, which is code or unknown; build the model in code and load "
                "its weights into it."
            )
        made: dict[str, Any] = {"name": name}
        if mode == "concat":
            made["axis"] = config.get("concat_axis", -1)
        if mode in ("dot", "cos"):
            made |= {"axes": config.get("dot_axes", -1), "normalize": mode == "cos"}
        self._note(f"Merge of mode {mode!r} is now called {tables.MERGES[mode]}", name)
        return {"class_name": tables.MERGES[mode], "config": made, "name": name}

    def _operation(self, name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
        """A function of TensorFlow."""
        config, nodes = entry["config"], entry["inbound_nodes"]
        if len(nodes) != 1:
            raise ValueError(
                f"The function {name!r} is used {len(nodes)} times, where once is known; build it in code."
            )
        value, others = self._arguments(nodes[0])
        if entry["class_name"] == "TensorFlowOpLayer":
            values = list(value) if isinstance(value, list) else [value]
            node = config.get("node_def")
            if not isinstance(node, dict) or "op" not in node:
                raise ValueError(f"The function {name!r} is described in a way that is not known; build it in code.")
            for place, one in sorted((config.get("constants") or {}).items(), key=lambda item: int(item[0])):
                values.insert(int(place), one)
            symbol, others = node["op"], {"": values, **_attributes(node.get("attr") or {})}
        else:
            symbol, others = config["function"], {"": [value], **others}
        self._note(f"TensorFlow's {symbol} is an operation of ops now", name)
        return Call(name, symbol, others).entries()


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """The settings of a node of TensorFlow that say something."""
    names = {
        "keep_dims": "keepdims",
        "transpose_a": "transpose_a",
        "transpose_b": "transpose_b",
        "adj_x": "transpose_a",
    }
    names |= {"adj_y": "transpose_b", "DstT": "dtype"}
    return {names[name]: next(iter(value.values()), None) for name, value in attributes.items() if name in names}


def _states_apart(value: list[Any], others: dict[str, Any], constants: int) -> tuple[Any, dict[str, Any]]:
    """The sequences, and what a recurrent layer is called with beside them."""
    sequences, *states = value
    states, rest = (states[:-constants], states[-constants:]) if constants else (states, [])
    others = {name: one for name, one in others.items() if name not in ("initial_state", "constants")}
    if states:
        others["initial_state"] = states
    if rest:
        others["constants"] = rest
    return sequences, others
