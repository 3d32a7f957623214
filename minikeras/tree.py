"""Nested structures of lists, tuples, deques and dicts: map over them, flatten them, fill them again."""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from minikeras.lazy import offer_names


class MAP_TO_NONE:
    """What a function of `traverse` returns where None is to be in the place of a part.

    >>> import minikeras as keras
    >>> keras.tree.traverse(lambda part: keras.tree.MAP_TO_NONE if part == 2 else None, [1, 2])
    [1, None]
    """


NESTED: tuple[type, ...] = (list, tuple, dict, deque)  # what `is_nested` means, for whoever saves a call


def is_nested(structure: Any) -> bool:
    """Whether `structure` is a list, tuple, deque or dict.

    >>> from minikeras import tree
    >>> tree.is_nested([1]), tree.is_nested("text")
    (True, False)
    """
    return isinstance(structure, NESTED)


def flatten(structure: Any) -> list[Any]:
    """The leaves, depth first; dicts in the order of their keys where these sort, an `OrderedDict` in its own.

    Args:
        structure: lists, tuples, dicts and leaves.

    >>> from minikeras import tree
    >>> tree.flatten({"b": [1, 2], "a": 3})
    [3, 1, 2]
    """
    leaves: list[Any] = []
    _flatten(structure, leaves)
    return leaves


def _flatten(structure: Any, leaves: list[Any]) -> None:
    if isinstance(structure, dict):
        for key in _keys(structure):
            _flatten(structure[key], leaves)
    elif isinstance(structure, (list, tuple, deque)):
        for item in structure:
            _flatten(item, leaves)
    else:
        leaves.append(structure)


def _keys(structure: dict) -> list[Any]:
    if isinstance(structure, OrderedDict):
        return list(structure)
    try:
        return sorted(structure)
    except TypeError:
        return list(structure)


def _children(structure: Any) -> dict[Any, Any]:
    """The parts of a structure by their keys or places, in the order of `flatten`."""
    if isinstance(structure, dict):
        return {key: structure[key] for key in _keys(structure)}
    return dict(enumerate(structure))


def _rebuilt(structure: Any, parts: dict[Any, Any]) -> Any:
    """A structure of the same kind with these parts, by their keys or places."""
    kind: Any = type(structure)
    if isinstance(structure, dict):
        kept = [structure.default_factory] if isinstance(structure, defaultdict) else []
        return kind(*kept, [(key, parts[key]) for key in structure])
    return kind(*parts.values()) if hasattr(structure, "_fields") else kind(parts.values())


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """The leaves as pairs (path, leaf), a path being the keys and places that lead there.

    Args:
        structure: lists, tuples, dicts and leaves.

    >>> from minikeras import tree
    >>> tree.flatten_with_path([{"foo": 42}])
    [((0, 'foo'), 42)]
    """
    if not is_nested(structure):
        return [((), structure)]
    found = []
    for key, part in _children(structure).items():
        found += [((key, *path), leaf) for path, leaf in flatten_with_path(part)]
    return found


def map_structure(func: Callable, *structures: Any, none_is_leaf: bool = True) -> Any:
    """The same structure with `func` applied to each leaf, together with the leaves at its place in the others.

    Args:
        structures: one or several of the same structure.
        none_is_leaf: whether `func` is called for None too, which else stays.

    Raises:
        TypeError: where `func` cannot be called.
        ValueError: where there is no structure, or they differ.

    >>> from minikeras import tree
    >>> tree.map_structure(lambda x, y: x + y, {"a": [1]}, {"a": [2]})
    {'a': [3]}
    """
    if not structures or not callable(func):
        kind = ValueError if callable(func) else TypeError
        raise kind(f"map_structure takes a function and a structure at least, got {func!r} and {structures!r}.")
    if len(structures) == 1 and none_is_leaf:
        return _mapped(func, structures[0])
    structure = structures[0]
    for other in structures[1:]:
        assert_same_structure(structure, other)

    def at_leaf(*leaves: Any) -> Any:
        return None if leaves[0] is None and not none_is_leaf else func(*leaves)

    return _mapped_up_to(structure, at_leaf, structures)


def _mapped(func: Callable, structure: Any) -> Any:
    if isinstance(structure, (list, tuple)) and not hasattr(structure, "_fields"):
        return type(structure)([_mapped(func, one) if isinstance(one, NESTED) else func(one) for one in structure])
    if not isinstance(structure, (tuple, dict, deque)):
        return func(structure)
    parts = structure if isinstance(structure, dict) else dict(enumerate(structure))
    return _rebuilt(structure, {key: _mapped(func, part) for key, part in parts.items()})


def map_structure_up_to(shallow_structure: Any, func: Callable, *structures: Any) -> Any:
    """The shallow structure with `func` applied to what the others, which may go deeper, have in place of its leaves.

    Args:
        shallow_structure: how far the structures are walked.

    Raises:
        TypeError: where there is no structure, or `func` cannot be called.
        ValueError: where one of the structures differs from the shallow one before its leaves.

    >>> from minikeras import tree
    >>> tree.map_structure_up_to([None, None], len, [[1, 1], [2, 2, 2]])
    [2, 3]
    """
    if not structures or not callable(func):
        raise TypeError(f"map_structure_up_to takes a function and a structure, got {func!r} and {structures!r}.")
    for structure in structures:
        if not _same(shallow_structure, structure, deeper=True):
            raise ValueError(f"The structure must begin as {shallow_structure!r} does, got {structure!r}.")
    return _mapped_up_to(shallow_structure, func, structures)


def _mapped_up_to(shallow: Any, func: Callable, structures: Any) -> Any:
    if not is_nested(shallow):
        return func(*structures)
    parts = [_children(structure) for structure in structures]
    made = {key: _mapped_up_to(part, func, [one[key] for one in parts]) for key, part in _children(shallow).items()}
    return _rebuilt(shallow, made)


def map_shape_structure(func: Callable, structure: Any) -> Any:
    """The same structure with `func` applied to each shape, a tuple or list of sizes or None.

    >>> from minikeras import tree
    >>> tree.map_shape_structure(len, {"a": (None, 3), "b": [(2,)]})
    {'a': 2, 'b': [1]}
    """
    if isinstance(structure, dict):
        return type(structure)((key, map_shape_structure(func, value)) for key, value in structure.items())
    if is_nested(structure) and any(is_nested(item) for item in structure):
        return type(structure)([map_shape_structure(func, item) for item in structure])
    return func(structure)


def traverse(func: Callable, structure: Any, top_down: bool = True) -> Any:
    """The structure in which what `func` returns for each part stands in its place, where that is not None.

    Args:
        func: called for the whole, for each part of it, and for each leaf; `MAP_TO_NONE` stands for None.
        top_down: what is replaced is not looked into; else parts come before the whole that they make up.

    >>> from minikeras import tree
    >>> tree.traverse(lambda part: sum(part) if isinstance(part, tuple) else None, [(1, 2), 3])
    [3, 3]
    """

    def inside() -> Any:
        if not is_nested(structure):
            return structure
        parts = {key: traverse(func, part, top_down) for key, part in _children(structure).items()}
        return _rebuilt(structure, parts)

    whole = structure if top_down else inside()
    found = func(whole)
    if found is None:
        return inside() if top_down else whole
    return None if found is MAP_TO_NONE else found


def lists_to_tuples(structure: Any) -> Any:
    """The structure with tuples in the place of lists.

    >>> from minikeras import tree
    >>> tree.lists_to_tuples([1, {"a": [2]}])
    (1, {'a': (2,)})
    """
    return traverse(lambda part: tuple(part) if isinstance(part, list) else None, structure, top_down=False)


def assert_same_structure(a: Any, b: Any, check_types: bool | None = None) -> None:
    """Do nothing for structures that differ in their leaves only; all kinds of dicts count as one.

    Args:
        check_types: without effect, as in Keras.
        a: a structure.
        b: the one to compare with it.

    Raises:
        ValueError: for others.

    >>> from minikeras import tree
    >>> tree.assert_same_structure([(0, 1)], [(2, 3)])
    """
    if check_types is not None:
        warnings.warn("check_types has no effect; see assert_same_paths.", DeprecationWarning, stacklevel=2)
    if not _same(a, b):
        outlines = [_mapped(lambda leaf: None, one) for one in (a, b)]
        raise ValueError(f"The structures must be the same, got {outlines[0]!r} and {outlines[1]!r}.")


def _same(a: Any, b: Any, deeper: bool = False) -> bool:
    """Whether two structures differ in their leaves only, or the second one goes `deeper` than the first."""
    if not is_nested(a):
        return deeper or not is_nested(b)
    if not is_nested(b) or _kind(a) is not _kind(b) or len(a) != len(b):
        return False
    one, other = _children(a), _children(b)
    return one.keys() == other.keys() and all(_same(one[key], other[key], deeper) for key in one)


def _kind(structure: Any) -> type:
    if hasattr(structure, "_fields"):
        return type(structure)
    return next(kind for kind in (dict, list, tuple, deque) if isinstance(structure, kind))


def assert_same_paths(a: Any, b: Any) -> None:
    """Do nothing for structures with the same keys and places, whatever kinds of sequences these are in.

    Args:
        a: a structure.
        b: the one to compare with it.

    Raises:
        ValueError: for others, with the paths that only one of them has.

    >>> from minikeras import tree
    >>> tree.assert_same_paths([0, 1], (2, 3))
    """
    first, second = ({path for path, _ in flatten_with_path(one)} for one in (a, b))
    if first != second:
        alone = [sorted(map(str, one - other)) for one, other in ((first, second), (second, first))]
        raise ValueError(
            f"The structures must have the same paths; only the first has {alone[0]}, the second {alone[1]}."
        )


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The shape of `structure` filled with the leaves `flat_sequence`, in `flatten`'s order.

    Raises:
        TypeError: where the leaves are no sequence.
        ValueError: where there are more or fewer leaves than places.

    >>> from minikeras import tree
    >>> tree.pack_sequence_as({"b": 0, "a": [0]}, [1, 2])
    {'b': 2, 'a': [1]}
    """
    leaves, count = list(flat_sequence), len(flatten(structure))
    if len(leaves) != count:
        raise ValueError(f"A structure with {count} places cannot be filled with {len(leaves)} leaves.")
    return _pack(structure, iter(leaves))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if not is_nested(structure):
        return next(leaves)
    return _rebuilt(structure, {key: _pack(part, leaves) for key, part in _children(structure).items()})


offer_names(__name__)
