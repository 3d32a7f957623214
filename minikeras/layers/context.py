"""What nested calls of layers know of each other, in each thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from minikeras.autodiff.tensor import scope


class _Context(threading.local):
    """The calls that are going on: the training flag, and the outermost layer."""

    training: bool | None = None
    entry: Any = None
    entries: int = 0  # how many outermost calls there were
    building: Any = None  # the layer whose `build` runs
    on_zeros: bool = False  # whether `call` runs only to find out what its outputs look like
    arguments: Mapping[str, Any] = MappingProxyType({})  # what layers within take of those of a call around them
    outputs: dict[Any, Any] | None = None  # of models for symbolic inputs, while those of a model around are found
    predicting: bool = False  # whether nobody will ask for the losses of this call


class _Entrance(threading.local):
    """What a thread does with a layer before that computes, if no other layer calls it.

    A thread that prepares batches waits there for its turn.
    """

    before: Callable[[Any], None] | None = None


class _Naming(threading.local):
    """The path of names for new weights."""

    path: tuple[str, ...] = ()


context, entrance, naming = _Context(), _Entrance(), _Naming()


class within:
    """Within this block the paths of new weights end with a layer's name, once."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> Any:
        self._outer = naming.path
        naming.path = self._path()
        return self

    def _path(self) -> tuple[str, ...]:
        return naming.path if naming.path[-1:] == (self.name,) else (*naming.path, self.name)

    def __exit__(self, *error: object) -> None:
        naming.path = self._outer


class name_scope(within):
    """Within this block the paths of new weights begin with a name.

    Args:
        name: the name, without `/`.
        caller, deduplicate: accepted for familiarity.
        override_parent: a path, such as `"outer/inner"`, that takes the place of the blocks around this one.

    >>> import minikeras as keras
    >>> with keras.name_scope("encoder"):
    ...     path = keras.Variable([0.0], name="w").path
    ...
    >>> path
    'encoder/w'
    """

    def __init__(self, name: str, caller: Any = None, deduplicate: bool = True, override_parent: str | None = None):
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"A name_scope has a name of type str without '/', got {name!r}.")
        self.name, self.caller, self.deduplicate, self.override_parent = name, caller, deduplicate, override_parent

    def __enter__(self) -> Any:
        self._outer_names = scope.names
        super().__enter__()
        scope.names = naming.path
        return self

    def _path(self) -> tuple[str, ...]:
        override = self.override_parent
        return (*(naming.path if override is None else filter(None, override.split("/"))), self.name)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        scope.names = self._outer_names
