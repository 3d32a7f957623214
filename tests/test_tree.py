"""Nested structures: every kind, through all functions."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from tree_cases import DEEP, STRUCTURES, Pair

from minikeras import tree


@pytest.mark.parametrize("structure", STRUCTURES, ids=repr)
def test_what_is_flattened_is_packed_again(structure: Any) -> None:
    leaves = tree.flatten(structure)
    again = tree.pack_sequence_as(structure, leaves)
    assert again == structure
    assert type(again) is type(structure)
    assert [leaf for _, leaf in tree.flatten_with_path(structure)] == leaves
    for path, leaf in tree.flatten_with_path(structure):
        part = structure
        for key in path:
            part = part[key]
        assert part == leaf
    tree.assert_same_structure(structure, again)
    tree.assert_same_paths(structure, again)


def test_orders() -> None:
    assert tree.flatten(DEEP) == [1, 2, 1, None]
    assert tree.flatten(OrderedDict(b=1, a=2)) == [1, 2]
    assert list(tree.map_structure(lambda x: x, {"b": 1, "a": 2})) == ["b", "a"]
    assert tree.map_structure_up_to([None, [None, None]], str, [[1, 1], [2, 2]]) == ["[1, 1]", ["2", "2"]]
    assert tree.lists_to_tuples(Pair([1], [[2]])) == Pair((1,), ((2,),))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: tree.map_structure(3, [1]), TypeError),
        (lambda: tree.map_structure(len), ValueError),
        (lambda: tree.map_structure_up_to([1], len), TypeError),
        (lambda: tree.map_structure_up_to([1, [2]], len, [1, 2]), ValueError),
        (lambda: tree.map_structure(max, [1], [1, 2]), ValueError),
        (lambda: tree.pack_sequence_as([1, 2], [3]), ValueError),
        (lambda: tree.pack_sequence_as([1, 2], [3, 4, 5]), ValueError),
        (lambda: tree.pack_sequence_as([1, 2], 3), TypeError),
        (lambda: tree.assert_same_paths([1], {"a": 1}), ValueError),
        (lambda: tree.assert_same_structure([1], (1,)), ValueError),
    ],
)
def test_what_does_not_go_together_is_refused(call: Any, kind: type) -> None:
    with pytest.raises(kind):
        call()


def test_types_of_sequences_are_not_left_unchecked() -> None:
    with pytest.warns(DeprecationWarning, match="assert_same_paths"):
        tree.assert_same_structure([1], [2], check_types=False)


def test_dicts_with_other_orders_meet_by_their_keys() -> None:
    plain, ordered = {"a": 1, "b": 2}, OrderedDict(b=20, a=10)
    assert tree.map_structure(lambda x, y: x + y, plain, ordered) == {"a": 11, "b": 22}
    assert tree.map_structure(lambda x, y: x + y, ordered, plain) == OrderedDict(b=22, a=11)
    assert tree.map_structure(lambda x, y: y, [None, 1], [2, 3], none_is_leaf=False) == [None, 3]


def test_shapes_are_mapped_as_they_are_written() -> None:
    assert tree.map_shape_structure(lambda shape: shape, {"a": [1, None], "b": "none"}) == {"a": [1, None], "b": "none"}
