"""The state of things as plain data: of the random generators of the process, and of objects by their attributes.

A state is made of numbers, texts, arrays, lists, tuples, dicts and sets of these.  `described` turns one into what JSON
holds and a list of arrays, copied so that training may go on; `rebuilt` is its inverse.
"""

from __future__ import annotations

import inspect
import random
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff.tensor import Variable
from minikeras.optimizers.flat import address, is_held
from minikeras.seeds import SeedGenerator, global_generator
from minikeras.tracebacks import warn
from minikeras.training.reached import is_followed, is_users, reached

_PLAIN = frozenset({type(None), bool, int, float, str})
_SMALL = 64  # bytes of an array that is written into the text
_LARGE = 1 << 22  # bytes of an array that is not read in whole, byte by byte, to see whether it has changed


class NotData(TypeError):
    """A value that is no plain data."""


# ---------------------------------------------------------------- data


def described(state: Any) -> tuple[Any, list[np.ndarray]]:
    """The state as what JSON holds, and the arrays that it refers to, as copies of one axis of bytes.

    Variables that lie side by side in a flat arena (see `optimizers.flat`) are copied together.

    Raises:
        NotData: for anything that is no plain data.
    """
    arrays: list[np.ndarray] = []
    places: dict[int, int] = {}
    return _described(state, arrays, places), arrays


def _described(value: Any, arrays: list[np.ndarray], places: dict[int, int]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (list, tuple, set, frozenset):
        if kind is list and _PLAIN.issuperset(map(type, value)):
            return list(value)
        parts = [_described(one, arrays, places) for one in value]
        return parts if kind is list else {kind.__name__: parts}
    if kind is dict:
        return {"dict": [[_described(one, arrays, places) for one in item] for item in value.items()]}
    if isinstance(value, (np.ndarray, np.generic, k.xp.ndarray)) and not value.dtype.hasobject:
        return _described_array(value, arrays, places)
    raise NotData(f"a {kind.__name__} is no plain data")


def _described_array(array: Any, arrays: list[np.ndarray], places: dict[int, int]) -> Any:
    native = array.dtype.kind != "V"  # bfloat16, for example, is not
    found = {"array": array.dtype.str if native else array.dtype.name, "shape": list(array.shape)}
    if array.nbytes <= _SMALL:
        found["hex"] = np.asarray(k.to_host(array)).tobytes().hex()
        return found | {"scalar": True} if isinstance(array, np.generic) else found
    buffer = array.base if is_held(array) else array
    if id(buffer) not in places:
        places[id(buffer)] = len(arrays)
        arrays.append(np.array(k.to_host(buffer), order="C").reshape(-1).view(np.uint8))
    return found | {"in": places[id(buffer)], "at": address(array) - address(buffer)}


def rebuilt(description: Any, arrays: list[Any]) -> Any:
    """The state that was described; its arrays are new ones.

    Raises:
        ValueError, TypeError, LookupError: for what `described` never gives.
    """
    if type(description) is list:
        if _PLAIN.issuperset(map(type, description)):
            return description
        return [rebuilt(one, arrays) for one in description]
    if type(description) is not dict:
        return description
    if "array" in description:
        return _rebuilt_array(description, arrays)
    ((kind, parts),) = description.items()
    if kind == "dict":
        return {rebuilt(name, arrays): rebuilt(value, arrays) for name, value in parts}
    return _CONTAINERS[kind](rebuilt(one, arrays) for one in parts)


_CONTAINERS: dict[str, Callable] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def _rebuilt_array(found: dict[str, Any], arrays: list[Any]) -> Any:
    dtype, shape = np.dtype(found["array"]), tuple(found["shape"])
    if dtype.hasobject:
        raise ValueError("An array of objects is no data.")
    data = bytes.fromhex(found["hex"]) if "hex" in found else arrays[found["in"]]
    count = int(np.prod(shape, dtype=object)) if shape else 1
    array = np.frombuffer(data, dtype, count, found.get("at", 0)).reshape(shape).copy()
    return array[()] if found.get("scalar") else array


# ---------------------------------------------------------------- random generators


def state_of_generator(value: Any) -> Any:
    """The state of a random generator of NumPy, Python or minikeras, as data; None for what is none."""
    for kind, (get, _) in _GENERATORS.items():
        if isinstance(value, kind):
            return get(value)
    return None


def set_generator(value: Any, state: Any) -> None:
    """Let a random generator go on from a state."""
    next(put for kind, (_, put) in _GENERATORS.items() if isinstance(value, kind))(value, state)


_GENERATORS: dict[type, tuple[Callable, Callable]] = {
    np.random.Generator: (
        lambda one: one.bit_generator.state,
        lambda one, state: setattr(one.bit_generator, "state", state),
    ),
    np.random.RandomState: (lambda one: one.get_state(legacy=False), np.random.RandomState.set_state),
    random.Random: (random.Random.getstate, random.Random.setstate),
    SeedGenerator: (lambda one: one.state, lambda one, state: setattr(one, "state", state)),
}

# those that belong to the whole process
_PROCESS: dict[str, Any] = {
    "numpy": np.random.mtrand._rand,
    "python": random._inst,  # type: ignore[attr-defined]
    "minikeras": global_generator(),
}


def random_states(names: Collection[str] = tuple(_PROCESS)) -> dict[str, Any]:
    """The states of the process's own generators: NumPy's, Python's and minikeras's."""
    return {name: state_of_generator(_PROCESS[name]) for name in names}


def set_random_states(states: dict[str, Any]) -> None:
    """Go back to what `random_states` gave."""
    for name, state in states.items():
        set_generator(_PROCESS[name], state)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of the generators that were drawn from between two calls of `random_states`."""
    return [name for name, state in after.items() if _print(state) != _print(before[name])]


# ---------------------------------------------------------------- attributes


class Attributes:
    """The state that an object has in its attributes, and in what these lead to (see `reached`).

    That is what is plain data and has changed, random generators, and variables that have changed.

    Args:
        thing: the object, as it is in the beginning.
        is_state: whether an attribute of a name may be part of its state.
        small_too: whether small ones count although they have not changed, for an object that may have been used
            before; but for arguments of the constructor, which the program gives.
        apart: objects by `id` whose state somebody else keeps.
        follows: whether what the attributes lead to is part of the state.
    """

    def __init__(
        self,
        thing: Any,
        is_state: Callable[[str], bool] = lambda name: name[0] != "_",
        small_too: bool = False,
        apart: Mapping[int, Any] | None = None,
        follows: bool = True,
    ):
        self._thing, self._is_state, self._small_too = thing, is_state, small_too
        self._arguments = frozenset(inspect.signature(type(thing)).parameters) if small_too else frozenset()
        self._apart, self._follows = {**(apart or {}), id(thing): thing}, follows
        self._apart |= {id(one): one for one in _PROCESS.values()}
        self._before = {name: _mark(value) for name, value in self._attributes().items()}
        self._inner_before = {way: _inner_marks(one) for way, one in self._inner().items()}
        self._told: set[str] = set()
        self._in_the_beginning = _print(self.generators()) if follows else None

    def has_changed(self) -> bool:
        """Whether there is a state that is not that of the beginning, in what the attributes lead to."""
        return bool(self.state()["inner"]) or _print(self.generators()) != self._in_the_beginning

    def _attributes(self) -> dict[str, Any]:
        found = getattr(self._thing, "__dict__", {})
        return {name: value for name, value in found.items() if self._is_state(name)}

    def _inner(self) -> dict[str, Any]:
        if not self._follows:
            return {}
        kind = type(self._thing)
        own = vars(kind) if is_users(kind.__module__) else {}
        return reached({**own, **self._attributes()}, tuple(_GENERATORS), self._apart)

    def generators(self) -> dict[str, Any]:
        """The states of its random generators."""
        return self._generators(self._inner())

    @staticmethod
    def _generators(inner: dict[str, Any]) -> dict[str, Any]:
        found = {way: state_of_generator(value) for way, value in inner.items()}
        return {way: state for way, state in found.items() if state is not None}

    def passing(self) -> dict[str, Any]:
        """What often changes and is found quickly: single numbers and texts, and random generators; as a state is."""
        inner = self._inner()
        parts = {way: _single(_inner_values(one)) for way, one in inner.items() if not isinstance(one, Variable)}
        parts = {way: values for way, values in parts.items() if values}
        own = _single(self._attributes()) if self._follows else {}  # of minikeras's own they are settings
        return {"data": own, "inner": parts, "random": self._generators(inner)}

    def state(self, tells: bool = False) -> dict[str, Any]:
        """The state as data.

        Args:
            tells: whether a warning names, once, what has changed and is no part of it.
        """
        values, kept, inner = self._attributes(), {}, {}
        marks = {name: _mark(value) for name, value in values.items()}
        differing = [name for name, mark in marks.items() if self._before.get(name) != mark]
        strange = {one for one in differing if marks[one][0] == "other" and not is_followed(values[one])} - self._told
        if tells and strange:
            self._told |= strange
            what = "callback" if hasattr(self._thing, "set_params") else "data"
            problem = f"The attributes {sorted(strange)} of the {what} {type(self._thing).__name__} change"
            remedy = "let get_state() and set_state() keep them" if what == "callback" else "let them be arrays"
            warn(f"{problem} and are no plain data, so a resumed training begins them anew; {remedy}.")
        for name in [name for name, mark in marks.items() if mark[0] == "data"]:
            whole = self._small_too and name not in self._arguments and _is_small(values[name])
            if whole or name in differing:
                kept[name] = values[name]
        for way, one in self._inner().items():
            before, now = self._inner_before.get(way, {}), _inner_marks(one)
            changes = {name: _inner_values(one)[name] for name, mark in now.items() if before.get(name) != mark}
            if changes:
                inner[way] = changes
        return {"data": kept, "inner": inner, "random": self.generators()}

    def put_back(self, state: dict[str, Any]) -> None:
        """Let the object have what `state` gave; methods and properties of its class are left alone."""
        mine = vars(self._thing)
        for name, value in state["data"].items():
            if name in mine or not hasattr(type(self._thing), name):
                setattr(self._thing, name, value)
        inner = self._inner()  # after the data, which leads to none of it
        for way in state["inner"].keys() & inner.keys():
            if isinstance(inner[way], Variable):
                inner[way].assign(state["inner"][way][""])
            else:
                vars(inner[way]).update(state["inner"][way])
        for way, value in state["random"].items():
            if state_of_generator(inner.get(way)) is not None:
                set_generator(inner[way], value)


def _single(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in [*values.items()] if type(value) in _PLAIN}


def joined(state: dict[str, Any], passing: dict[str, Any]) -> dict[str, Any]:
    """A state of `Attributes`, with what has changed since."""
    inner = {way: {**state["inner"].get(way, {}), **values} for way, values in passing["inner"].items()}
    data = {**state["data"], **passing["data"]}
    return {"data": data, "inner": {**state["inner"], **inner}, "random": passing["random"]}


def _inner_values(thing: Any) -> dict[str, Any]:
    """What of a thing that was reached may change, by name."""
    if isinstance(thing, Variable):
        return {"": thing.data}
    return {} if isinstance(thing, tuple(_GENERATORS)) else vars(thing)


def _inner_marks(thing: Any) -> dict[str, Any]:
    marks = {name: _mark(value) for name, value in _inner_values(thing).items()}
    return {name: mark for name, mark in marks.items() if mark[0] == "data"}


class CallbackStates:
    """The states of callbacks, each by the name of its class.

    Args:
        callbacks: as they are before training.
        apart: see `Attributes`.
    """

    def __init__(self, callbacks: Sequence[Any], apart: Mapping[int, Any] | None = None):
        names = ("model", "params", "replica")
        self._known = [
            (one, Attributes(one, lambda name: name not in names, small_too=True, apart=apart)) for one in callbacks
        ]

    def get(self) -> list[Any]:
        """`[name, state]` of each; it warns, once, of attributes that are not kept."""
        found = []
        for callback, attributes in self._known:
            own = type(callback).__module__.startswith("minikeras.")
            state = callback.get_state()
            found.append([type(callback).__name__, attributes.state(tells=not own) if state is None else state])
        return found

    def put(self, states: list[Any]) -> None:
        """Give the callbacks their states; it warns of those that there is none for."""
        waiting: dict[str, list[Any]] = {}
        for name, state in states:
            waiting.setdefault(name, []).append(state)
        for callback, attributes in self._known:
            name, now = type(callback).__name__, callback.get_state()
            if waiting.get(name):
                (attributes.put_back if now is None else callback.set_state)(waiting[name].pop(0))
            elif any((attributes.state() if now is None else now).values()):
                warn(f"The callback {name} was not there when the checkpoint was made, so it begins anew.")


def data_of(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are plain data."""
    return {name: value for name, value in values.items() if _mark(value)[0] == "data"}


def _is_small(value: Any) -> bool:
    if type(value) in (list, tuple, set):
        return len(value) <= _SMALL and _PLAIN.issuperset(map(type, value))
    return type(value) in _PLAIN or (type(value) is dict and not value)


def _mark(value: Any) -> tuple:
    """What tells whether a value has changed, the object itself for what is neither data nor a generator."""
    if state_of_generator(value) is not None:
        return ("random",)
    try:
        return "data", _print(value)
    except (NotData, RecursionError):
        return "other", id(value), value


def _print(value: Any) -> Any:
    """A value that is equal for equal data."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, repr(value)
    if kind in (list, tuple, set, frozenset):
        plain = kind in (list, tuple) and _PLAIN.issuperset(map(type, value))
        return kind, (len(value), hash(tuple(value))) if plain else [_print(one) for one in value]
    if kind is dict:
        return kind, [(_print(name), _print(one)) for name, one in value.items()]
    if not isinstance(value, (np.ndarray, np.generic, k.xp.ndarray)) or value.dtype.hasobject:
        raise NotData(f"a {kind.__name__} is no plain data")
    value = k.to_host(value)
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    if data.size < _LARGE:
        return value.dtype.str, value.shape, zlib.crc32(data.data)
    rest = data.size % 8  # one fast pass over all, which the order does not count for, and a slow one over a part
    blocks = np.ascontiguousarray(data[: data.size - rest].reshape(-1, 8)[:: data.size // _LARGE + 1])
    together = int(np.bitwise_xor.reduce(data[: data.size - rest].view(np.uint64)))
    return value.dtype.str, value.shape, together, zlib.crc32(blocks.data), data[data.size - rest :].tobytes()
