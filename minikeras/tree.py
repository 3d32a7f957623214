"""Nested structures of lists, tuples and dicts: map over them, flatten them, fill them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minikeras.lazy import offer_names


def is_nested(structure: Any) -> bool:
    """Whether `structure` is a list, tuple or dict."""
    return isinstance(structure, (list, tuple, dict))


def flatten(structure: Any) -> list[Any]:
    """The leaves, depth first; dicts in sorted key order where keys sort, else in insertion order."""
    leaves: list[Any] = []
    _flatten(structure, leaves)
    return leaves


def _flatten(structure: Any, leaves: list[Any]) -> None:
    if isinstance(structure, dict):
        for key in _keys(structure):
            _flatten(structure[key], leaves)
    elif isinstance(structure, (list, tuple)):
        for item in structure:
            _flatten(item, leaves)
    else:
        leaves.append(structure)


def _keys(structure: dict) -> list[Any]:
    try:
        return sorted(structure)
    except TypeError:
        return list(structure)


def map_structure(function: Callable, structure: Any, *others: Any) -> Any:
    """The same structure with `function` applied to each leaf, together with the leaves at its place in `others`.

    Raises:
        ValueError: where `others` have another structure.
    """
    if others:
        for other in others:
            assert_same_structure(structure, other)
        leaves = zip(*(flatten(one) for one in (structure, *others)), strict=True)
        return pack_sequence_as(structure, [function(*group) for group in leaves])
    if isinstance(structure, dict):
        return type(structure)((key, map_structure(function, value)) for key, value in structure.items())
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_structure(function, item) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)([map_structure(function, item) for item in structure])
    return function(structure)


def map_shape_structure(function: Callable, structure: Any) -> Any:
    """The same structure with `function` applied to each shape, a tuple or list of sizes or None."""
    if isinstance(structure, dict):
        return type(structure)((key, map_shape_structure(function, value)) for key, value in structure.items())
    if any(is_nested(item) for item in structure):
        return type(structure)([map_shape_structure(function, item) for item in structure])
    return function(tuple(structure))


def assert_same_structure(a: Any, b: Any) -> None:
    """Do nothing for structures that differ in their leaves only.

    Raises:
        ValueError: for others.
    """
    outlines = [map_structure(lambda leaf: None, one) for one in (a, b)]
    if outlines[0] != outlines[1]:
        raise ValueError(f"The structures must be the same, got {outlines[0]!r} and {outlines[1]!r}.")


def pack_sequence_as(structure: Any, flat: list[Any]) -> Any:
    """The shape of `structure` filled with the leaves `flat`, in `flatten`'s order."""
    return _pack(structure, iter(flat))


def _pack(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, dict):
        filled = {key: _pack(structure[key], leaves) for key in _keys(structure)}
        return type(structure)((key, filled[key]) for key in structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*[_pack(item, leaves) for item in structure])
    if isinstance(structure, (list, tuple)):
        return type(structure)([_pack(item, leaves) for item in structure])
    return next(leaves)


offer_names(__name__)
