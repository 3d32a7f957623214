"""Functions of TensorFlow in the graph of an older model, as operations of `ops` in the description of Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from minikeras import ops, registry
from minikeras.models.functional_config import described
from minikeras.models.older import tables
from minikeras.ops import image

CLASSES = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
_SIZE = "size of a tensor"
_TYPES = {"DT_FLOAT": "float32", "DT_HALF": "float16", "DT_DOUBLE": "float64", "DT_BOOL": "bool"}
_TYPES |= {f"DT_{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}


def plain_symbol(symbol: str) -> str:
    """A function's name without the module of an older TensorFlow or of Keras's backend."""
    return symbol.removeprefix("compat.v1.").removeprefix("keras.").removeprefix("backend.")


def tensor(name: str, call: int = 0, output: int = 0) -> dict[str, Any]:
    """A tensor in a description of Keras 3."""
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, output]}}


def size(of: Any, axis: int) -> dict[str, Any]:
    """The size of a tensor along an axis, where only a call tells it; axis 0 of all that keep the batch is one."""
    return {"class_name": _SIZE, "config": {"of": of, "axis": axis}}


def _is_size(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == _SIZE


def constant(value: Any) -> Any:
    """A number as it is, a list of numbers as an array; of a list of tensors each."""
    if not isinstance(value, list):
        return value
    inner = value
    while isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, dict):
        return [constant(one) for one in value]
    dtype = {bool: "bool", int: "int32"}.get(type(inner), "float32")
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


class Call:
    """One use of a function of TensorFlow, which becomes one operation or a few.

    Args:
        name: of the layer that stood for it, which the last of the operations gets.
        symbol: what TensorFlow calls the function.
        values: its arguments by its parameters' names, with tensors in the form of Keras 3; those that have no name
            are in a list under "".
    """

    def __init__(self, name: str, symbol: str, values: dict[str, Any]):
        self.name, self.symbol = name, symbol
        self.made: list[dict[str, Any]] = []
        if plain_symbol(symbol) not in tables.SYMBOLS:
            self.refuse("has no counterpart")
        self.ours, known = tables.SYMBOLS[plain_symbol(symbol)]
        self.given: dict[str, Any] = dict(tables.DEFAULTS.get(self.ours, {}))
        self.given |= dict(zip(dict.fromkeys(known.values()), values.pop("", []), strict=False))
        for theirs, value in values.items():
            theirs = theirs.replace("keep_dims", "keepdims")
            if theirs in known and value is not None:
                self.given[known[theirs]] = value
            elif theirs != "name" and value and value not in tables.PLAIN_PARAMETERS.get(theirs, ()):
                self.refuse(f"has {theirs}={value!r}, which is not known")
        parts = [one for value in self.given.values() for one in (value if isinstance(value, list) else [value])]
        if self.ours != "reshape" and any(map(_is_size, parts)):
            self.refuse("takes the size of a tensor, which only a call tells")

    def refuse(self, problem: str) -> NoReturn:
        raise ValueError(
            f"TensorFlow's {self.symbol!r} (layer {self.name!r}) {problem} here; build the model in code and load its "
            "weights into it."
        )

    def entries(self) -> list[dict[str, Any]]:
        """The descriptions of its operations."""
        special = _SPECIAL.get(self.ours)
        if special is not None:
            special(self, self.given)
        else:
            self.last(self.ours, **self.given)
        return self.made

    def last(self, operation: str, **values: Any) -> None:
        """The operation that gives the result."""
        self._add(self.name, operation, values)

    def before(self, operation: str, **values: Any) -> dict[str, Any]:
        """An operation whose result the next ones take."""
        name = f"{self.name}_{operation}_{len(self.made)}"
        self._add(name, operation, values)
        return tensor(name)

    def layer(self, class_name: str, value: Any, **config: Any) -> None:
        """The layer that gives the result."""
        self._enter("keras.layers", class_name, None, {"name": self.name, **config}, [value])

    def _add(self, name: str, operation: str, values: dict[str, Any]) -> None:
        known = described(getattr(ops, operation, None) or getattr(image, operation))
        values = {n: constant(v) if n in known.taken and n != "key" else v for n, v in values.items()}
        taken, settings = known.split((), values)
        self._enter(known.module, known.class_name, known.class_name, {"name": name, **settings}, taken)

    def _enter(self, module: str, class_name: str, registered: Any, config: dict[str, Any], args: list[Any]) -> None:
        entry = registry.description_of(module, class_name, config, registered)
        self.made.append({**entry, "name": config["name"], "inbound_nodes": [{"args": args, "kwargs": {}}]})


def _matmul(call: Call, values: dict[str, Any]) -> None:
    for flag, x in (("transpose_a", "x1"), ("transpose_b", "x2")):
        if values.pop(flag, False):
            values[x] = call.before("swapaxes", x=values[x], axis1=-2, axis2=-1)
    call.last("matmul", **values)


def _reshape(call: Call, values: dict[str, Any]) -> None:
    """A shape in which sizes may come from tensors: the batch's in front, and one other that the rest tells."""
    shape = values["newshape"] if isinstance(values["newshape"], list) else [values["newshape"]]
    batch = shape[0] == size("batch", 0)
    rest = [-1 if _is_size(one) else one for one in shape[batch:]]
    if rest.count(-1) > 1 or not all(type(one) is int for one in rest):
        call.refuse(f"has a shape of which only a call tells more than one size, {shape},")
    if batch:
        call.layer("Reshape", values["x"], target_shape=rest)
    else:
        call.last("reshape", x=values["x"], newshape=rest)


def _index(value: Any) -> Any:
    if isinstance(value, dict) and "start" in value:
        return {"class_name": "__slice__", "config": {name: value[name] for name in ("start", "stop", "step")}}
    return {**value, "config": {}} if isinstance(value, dict) else value  # an ellipsis


def _get_item(call: Call, values: dict[str, Any]) -> None:
    key = values["key"]
    call.last("get_item", x=values["x"], key=[*map(_index, key)] if isinstance(key, list) else _index(key))


def _pad(call: Call, values: dict[str, Any]) -> None:
    mode = values.get("mode", "constant").lower()
    call.last(
        "pad", **{n: v for n, v in values.items() if n != "constant_values" or mode == "constant"} | {"mode": mode}
    )


def _l2_normalize(call: Call, values: dict[str, Any]) -> None:
    if values.get("epsilon", 1e-12) != 1e-12:
        call.refuse(f"has epsilon={values['epsilon']!r}, where only 1e-12 is known")
    call.layer("UnitNormalization", values["x"], axis=values.get("axis", -1))


_SPECIAL: dict[str, Callable[[Call, dict[str, Any]], None]] = {
    **{"matmul": _matmul, "get_item": _get_item, "reshape": _reshape, "pad": _pad, "l2_normalize": _l2_normalize},
    "squared_difference": lambda call, v: call.last("square", x=call.before("subtract", x1=v["x"], x2=v["y"])),
    "cast": lambda call, v: call.last("cast", x=v["x"], dtype=_TYPES.get(v["dtype"], v["dtype"])),
    "identity": lambda call, v: call.layer("Identity", v["x"]),
    "hard_sigmoid": lambda call, v: call.layer("Activation", v["x"], activation="keras2_hard_sigmoid"),
}
