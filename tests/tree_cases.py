"""Calls of `tree`, which real Keras answers in the same way."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from typing import Any

Pair = namedtuple("Pair", "b a")
Other = namedtuple("Other", "b a")

DEEP = {"b": [1, None], "a": (Pair(1, 2),), "c": {}}
STRUCTURES: list[Any] = [
    *(
        1,
        None,
        "text",
        [],
        (),
        [None],
        {"a": 1},
        DEEP,
        {1: 2, "a": 3},
        [[1, 2], [3, [4]]],
        Pair([1], 2),
        deque([1, [2]]),
    ),
    *(OrderedDict(b=1, a=2), defaultdict(list, {"b": 1, "a": [2]}), (1, {"z": 1, "y": [2]})),
]
PAIRS: list[tuple[Any, Any]] = [
    *[([1, 2], (1, 2)), ([1, 2], [1]), (1, [1]), ([1], 1), (Pair(1, 2), Pair(3, 4)), (Pair(1, 2), Other(3, 4))],
    *[({"a": 1}, {"b": 1}), ({"a": 1}, OrderedDict(a=2)), (Pair(1, 2), (1, 2)), ([[1]], [(1,)]), (None, 1)],
    *[({"a": 1, "b": 2}, {"b": 3, "a": 4}), ([1, [2]], [3, [4]]), ({"a": [1]}, {"a": {0: 1}})],
]

# function of the module and of a structure
OF_ONE: dict[str, Callable[[Any, Any], Any]] = {
    "is_nested": lambda tree, one: tree.is_nested(one),
    "flatten": lambda tree, one: tree.flatten(one),
    "flatten_with_path": lambda tree, one: tree.flatten_with_path(one),
    "map_structure": lambda tree, one: tree.map_structure(lambda leaf: (leaf,), one),
    "map_structure_but_none": lambda tree, one: tree.map_structure(lambda leaf: (leaf,), one, none_is_leaf=False),
    "pack_sequence_as": lambda tree, one: tree.pack_sequence_as(one, range(len(tree.flatten(one)))),
    "pack_too_few": lambda tree, one: tree.pack_sequence_as(one, [1] * (len(tree.flatten(one)) - 1)),
    "pack_too_many": lambda tree, one: tree.pack_sequence_as(one, [1] * (len(tree.flatten(one)) + 1)),
    "lists_to_tuples": lambda tree, one: tree.lists_to_tuples(one),
    "traverse": lambda tree, one: visited(tree, one, True),
    "traverse_bottom_up": lambda tree, one: visited(tree, one, False),
    "traverse_to_none": lambda tree, one: tree.traverse(lambda x: tree.MAP_TO_NONE if x == 2 else None, one),
    "traverse_replaced": lambda tree, one: tree.traverse(lambda x: "found" if isinstance(x, tuple) else None, one),
}
OF_TWO: dict[str, Callable[[Any, Any, Any], Any]] = {
    "assert_same_structure": lambda tree, one, other: tree.assert_same_structure(one, other),
    "assert_same_paths": lambda tree, one, other: tree.assert_same_paths(one, other),
    "map_structure": lambda tree, one, other: tree.map_structure(lambda x, y: (x, y), one, other),
    "map_structure_up_to": lambda tree, one, other: tree.map_structure_up_to(one, lambda x: ["found", x], other),
}


def visited(tree: Any, structure: Any, top_down: bool) -> Any:
    """What `traverse` calls its function with, and what it returns."""
    seen: list[Any] = []
    return tree.traverse(seen.append, structure, top_down), seen


def outcome(call: Callable, *args: Any) -> Any:
    """The result; an error is its kind."""
    try:
        return call(*args)
    except (TypeError, ValueError) as error:
        return type(error)
