"""The tree of layers: what a layer contains, found by one walk over its attributes; nothing has to be registered.

Every layer and variable carries a *mark*, an object that another takes the place of when something changes that the
walk would find.  As long as all marks in a tree are the very objects that they were, and its lists and dicts hold what
they held, another walk would find the same, so that the last one need not be repeated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter, is_
from typing import Any, NoReturn

import numpy as np

from minikeras.autodiff.seed_state import SeedState
from minikeras.autodiff.symbolic import snake_case
from minikeras.autodiff.tensor import Variable, assign_all, list_of_arrays
from minikeras.declared import Configured
from minikeras.layers.spec import call_signature
from minikeras.seeds import SeedGenerator
from minikeras.tracebacks import user_facing

_ABSENT = object()
_PLAIN = frozenset({type(None), bool, int, float, str})


def _role(kind: type) -> str | None:
    """Whether values of a type are parts of a tree, or containers that may have some, or neither."""
    if issubclass(kind, (Structure, Variable, SeedGenerator)) or hasattr(kind, "update_state") or is_stored(kind):
        return "part"
    return "container" if issubclass(kind, (list, tuple, dict)) else None


_role_of: Callable[[Any], str | None] = functools.cache(_role)


def is_stored(kind: type) -> bool:
    """Whether objects of a type have variables that files hold."""
    return hasattr(kind, "save_own_variables")


def _may_hold(value: Any) -> bool:
    """Whether a value is a part of a tree or could become the container of one."""
    role = _role_of(type(value))
    return role == "part" or (role is not None and (type(value) is not tuple or any(map(_may_hold, value))))


def _values(container: Any) -> Collection[Any]:
    return container.values() if isinstance(container, dict) else container


def named_parts(name: str, value: Any, entered: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """The parts of a tree that a value is or holds, with their names.

    Members of lists, tuples and dicts are named by their class, as in files: `blocks/dense`, `blocks/dense_1`,
    `blocks/container/dense`.

    Args:
        name: of the value.
        value: anything.
        entered: the containers that are known, by id; those found are added, and none is entered twice.
    """
    role = _role_of(type(value))
    if role == "part":
        yield name, value
    elif role is not None and id(value) not in entered:
        entered[id(value)] = value
        values = list(_values(value))
        if not any(map(_role_of, set(map(type, values)))):
            return  # data
        counts: dict[str, int] = {}
        for item in values:
            role = _role_of(type(item))
            if role is not None:
                kind = "container" if role == "container" else snake_case(type(item).__name__)
                count = counts[kind] = counts.get(kind, -1) + 1
                yield from named_parts(f"{name}/{kind}_{count}" if count else f"{name}/{kind}", item, entered)


def _holds(container: Any, objects: list[Any]) -> bool:
    return len(container) == len(objects) and all(map(is_, _values(container), objects))


class Contents:
    """What a layer contains, here and below, each thing once.

    Attributes:
        layers: the layer itself and all below, parents first.
        sublayers: those that it has itself.
        own: the variables that it has itself: trainable ones first, in the order of their creation.
        weights: the own variables of all layers.
        trainable: the weights that training changes: trainable themselves and of trainable layers.
        penalized: those of them that have a regularizer.
        metrics, streams: the layers' metrics and random streams.
        loss_functions: the functions given to `add_loss`.
        tells_more: whether calls give more than outputs, see `Structure`.
        trains_unasked: whether a layer acts as in training where nobody says whether it is one.
        proven: names of the logs of the trainer's steps that have worked with them, by their data's shapes.
        marked, marks: layers and variables, and the marks that they had.
        containers: the lists and dicts that were looked through.
    """

    def __init__(self, root: Structure):
        self.layers: list[Any] = []
        self.marks: list[object] = []
        self.proven: dict[tuple, set[str]] = {}
        self._inside: dict[int, tuple[list[Variable], list[Any]]] = {}  # own variables and layers of each layer
        parts: dict[int, Any] = {}
        containers: dict[int, Any] = {}
        self._visit(root, parts, containers)
        self.own, self.sublayers = self._inside[id(root)]
        self.weights = list({id(variable): variable for own, _ in self._inside.values() for variable in own}.values())
        self.marked = [*self.layers, *self.weights]
        self.marks += map(_mark, self.weights)
        frozen = self._frozen()
        self.trainable = [one for one in self.weights if one.trainable and id(one) not in frozen]
        self.penalized = [variable for variable in self.trainable if variable.regularizer is not None]
        self.metrics = [part for part in parts.values() if hasattr(type(part), "update_state")]
        self.streams = [part for part in parts.values() if isinstance(part, SeedGenerator)]
        self.loss_functions = [function for layer in self.layers for function in layer._loss_functions]
        self.tells_more = bool(self.loss_functions) or any(layer._tells_more for layer in self.layers)
        self.trains_unasked = any(
            call_signature(type(layer)).default_training for layer in self.layers if hasattr(layer, "call")
        )
        self.containers = [one for one in containers.values() if not isinstance(one, tuple)]
        self._held = [list(_values(container)) for container in self.containers]

    def _visit(self, layer: Any, parts: dict[int, Any], containers: dict[int, Any]) -> None:
        self.layers.append(layer)
        self.marks.append(_mark(layer))  # before anything is looked at, lest a change in between is missed
        children = {id(child): child for _, child in layer.named_children(containers)}
        parts |= children
        own = {id(one): one for one in (*layer._own, *children.values()) if isinstance(one, Variable)}
        ordered = sorted(own.values(), key=lambda variable: (not variable.made_trainable, variable.number))
        inside = [child for child in children.values() if isinstance(child, Structure) and child is not layer]
        self._inside[id(layer)] = ordered, inside
        for child in inside:
            if id(child) not in self._inside:
                self._visit(child, parts, containers)

    def _frozen(self) -> set[int]:
        """The ids of the variables in layers that are not trainable, and below them."""
        found: set[int] = set()
        waiting = {id(layer) for layer in self.layers if not layer._trainable}
        met: set[int] = set()
        while waiting:
            own, inside = self._inside[waiting.pop()]
            found.update(map(id, own))
            met.update(fresh := set(map(id, inside)) - met)
            waiting |= fresh
        return found

    def holds_the_same(self) -> bool:
        """Whether all lists and dicts that were looked through hold the very objects that they held."""
        return all(map(_holds, self.containers, self._held))


_mark = attrgetter("_structure")


class Structure(Configured):
    """What makes a layer a node of a tree."""

    name: Any
    built = False
    _recorded: tuple[tuple, dict[str, Any]]  # the constructor's arguments
    _own: list[Variable]
    _loss_functions: list[Any]
    _trainable: bool
    _tells_more = False  # whether its calls add to loss or metrics, or keep what a loss refers to, as its graph says
    _path: str | None = None  # in its model, once `build` was called
    _structure: object  # the mark of what the layer has
    _settings: object  # the mark of what its `call` may depend on besides: of all public attributes

    # what was last found; a layer that kept it would be in a circle of references, and not freed at once
    _known: Contents | None = None
    _keeps_contents = False
    # attributes that are no part of the tree, and those that change it although they hold no part of it themselves
    _UNTRACKED: frozenset[str] = frozenset()
    _STRUCTURAL = frozenset({"_trainable"})

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__new__(cls)
        instance._recorded = args, kwargs
        instance._restructured()
        return instance

    def _refuse(self, what: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"{type(self).__name__} {self.name!r} {what}.")

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, _ABSENT)
        object.__setattr__(self, name, value)
        self._note_change(name, before, value)

    def __delattr__(self, name: str) -> None:
        before = self.__dict__.get(name, _ABSENT)
        object.__delattr__(self, name)
        self._note_change(name, before, _ABSENT)

    def _note_change(self, name: str, before: Any, value: Any) -> None:
        if before is value or name in self._UNTRACKED:
            return
        if name in self._STRUCTURAL or _may_hold(before) or _may_hold(value):
            self._restructured()
        elif name[0] != "_":
            self.__dict__["_settings"] = object()

    def _restructured(self) -> None:
        """Note that this layer contains something else, or that its weights are trained where they were not."""
        self.__dict__["_structure"] = self.__dict__["_settings"] = object()

    # ------------------------------------------------------------ what it contains

    def _own_layers(self) -> Sequence[Any]:
        """The layers that it is made of without having them as attributes."""
        return ()

    def named_children(self, containers: dict[int, Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Names and values of the layers, variables, metrics and random streams that this layer has itself.

        They are found among the attributes, in the order these were set, and in lists, tuples and dicts there.

        Args:
            containers: takes those that were looked through, by id.
        """
        for name, value in [("layers", self._own_layers()), *self.__dict__.items()]:
            if type(value) not in _PLAIN and name not in self._UNTRACKED:
                entered: dict[int, Any] = {}
                yield from named_parts(name, value, entered)
                if containers is not None:
                    containers |= entered

    def _contents(self) -> Contents:
        """What it contains now."""
        known = self._known
        if (
            known is not None
            and all(map(is_, map(_mark, known.marked), known.marks))
            and (not known.containers or known.holds_the_same())
        ):
            return known
        contents = Contents(self)
        if self._keeps_contents:
            self._known = contents
        return contents

    def _flatten_layers(self, recursive: bool = True, include_self: bool = True) -> list[Any]:
        contents = self._contents()
        layers = contents.layers if recursive else [self, *contents.sublayers]
        return list(layers if include_self else layers[1:])

    @property
    def weights(self) -> list[Variable]:
        """Every weight here and below: of each layer the trainable ones first, in creation order."""
        return list(self._contents().weights)

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes: trainable themselves and of trainable layers."""
        return list(self._contents().trainable)

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training leaves alone."""
        return _without(self.weights, self.trainable_weights)

    @property
    def variables(self) -> list[Variable]:
        """The weights and the states of random streams."""
        contents = self._contents()
        return contents.weights + [SeedState(one, i) for i, one in enumerate(contents.streams)]

    def _kept_variables(self) -> list[Variable]:
        """The weights and the metrics' variables."""
        contents = self._contents()
        return contents.weights + [variable for metric in contents.metrics for variable in metric.variables]

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return _without(self.variables, self.trainable_weights)

    @property
    def metrics(self) -> list[Any]:
        return list(self._contents().metrics)

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        contents = self._contents()
        for variable in contents.own:
            if variable.made_trainable and variable.trainable != self._trainable:
                variable.trainable = self._trainable
        for layer in contents.sublayers:
            layer.trainable = value

    @property
    def path(self) -> str:
        """The names of the layers around it and its own, with `/` between; its own alone before it is built."""
        return self.name if self._path is None else self._path

    @user_facing
    def count_params(self) -> int:
        """The number of weights' entries.

        Raises:
            ValueError: where the layer is not built.
        """
        if not self.built:
            raise ValueError(f"The layer {self.name!r} has no weights before it is built; call it on data first.")
        return sum(int(v.size) for v in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, in the order of `weights`."""
        return [variable.numpy() for variable in self.weights]

    @user_facing
    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace all weights; a prediction on a batch in another thread has all the old or all the new ones.

        Raises:
            ValueError, TypeError: where number, shapes or types do not fit; then nothing is changed.
        """
        variables, weights = self.weights, list_of_arrays(f"The layer {self.name!r}", weights)
        if len(weights) != len(variables):
            raise ValueError(
                f"The layer {self.name!r} has {len(variables)} weights, got a list of {len(weights)}; pass the list "
                "that get_weights() of such a layer gives."
            )
        assign_all(variables, weights)


def _without(variables: list[Variable], others: list[Variable]) -> list[Variable]:
    left_out = set(map(id, others))
    return [variable for variable in variables if id(variable) not in left_out]
