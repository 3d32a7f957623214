"""Choices and loops, in Python: what is done in them is differentiated; on symbolic tensors each is one element.

Functions that are passed on symbolic tensors are called when the model is; symbolic tensors that they need beside their
arguments belong into these.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from minikeras import tree
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite
from minikeras.autodiff.operands import operands
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.ops import shaping
from minikeras.ops.core import convert_to_tensor, is_tensor
from minikeras.tracebacks import user_facing

# ---------------------------------------------------------------- choices


@user_facing
def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """`true_fn()` if `pred` holds, else `false_fn()`.

    Args:
        pred: a boolean, also a tensor without axes; where it is symbolic both results are computed, and one is taken.
        true_fn, false_fn: functions without arguments; symbolic results have the same structure, shapes and types.

    Raises:
        ValueError: for symbolic results that differ.

    >>> from minikeras import ops
    >>> x = ops.convert_to_tensor([1.0, 2.0])
    >>> ops.cond(ops.sum(x) > 2, lambda: x * 10, lambda: x).tolist()
    [10.0, 20.0]
    """
    if isinstance(pred, KerasTensor):
        return _chosen(pred, [false_fn(), true_fn()])
    return true_fn() if pred else false_fn()


@user_facing
def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """`branches[index](*operands)`; an index beyond the ends means the branch at that end.

    Where the index is symbolic the results of all branches are computed, and one is taken: they have the same
    structure, shapes and types.

    Raises:
        ValueError: for symbolic results that differ.

    >>> from minikeras import ops
    >>> ops.switch(1, [ops.add, ops.subtract], 3.0, 2.0).item()
    1.0
    """
    if isinstance(index, KerasTensor):
        return _chosen(index, [branch(*operands) for branch in branches])
    return branches[_within(index, branches)](*operands)


def _within(index: Any, choices: Sequence[Any]) -> int:
    return builtins.min(builtins.max(int(index), 0), len(choices) - 1)


def _specs(structure: Any) -> Any:
    return tree.map_structure(lambda leaf: shapes.spec_of(convert_to_tensor(leaf)), structure)


def _chosen_shape(index: Any, *, results: list[Any]) -> Any:
    first, *others = [_specs(result) for result in results]
    for other in others:
        tree.assert_same_structure(first, other)
        kinds = [[(leaf.shape, str(leaf.dtype)) for leaf in tree.flatten(one)] for one in (first, other)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"A symbolic condition chooses from results of the same shapes and types, got {kinds[0]} and "
                f"{kinds[1]}; make them alike."
            )
    return first


@composite(inputs=1, shape=_chosen_shape, keras="")
def _chosen(index: Any, results: list[Any]) -> Any:
    return tree.map_structure(convert_to_tensor, results[_within(index, results)])


# ---------------------------------------------------------------- loops


def _like(name: str) -> Callable:
    """The rule of a loop whose results are like the argument of this name."""
    return lambda **arguments: _specs(arguments[name])


@composite(inputs=0, shape=_like("loop_vars"), keras="")
def while_loop(cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """`loop_vars = body(*loop_vars)` as long as `cond(*loop_vars)` holds.

    Args:
        cond: returns whether to go on.
        body: returns the next `loop_vars`.
        loop_vars: a list or tuple is passed as several arguments, anything else as one; numbers and arrays become
            tensors.
        maximum_iterations: at most so many times, default any number.

    >>> from minikeras import ops
    >>> i, total = ops.while_loop(lambda i, total: i < 4, lambda i, total: (i + 1, total + i), (0, 0))
    >>> int(i), int(total)
    (4, 6)
    """
    leaves = tree.flatten(loop_vars)
    leaves = [x if is_tensor(x) else convert_to_tensor(a) for x, a in zip(leaves, operands(leaves), strict=True)]
    loop_vars = tree.pack_sequence_as(loop_vars, leaves)
    several = isinstance(loop_vars, (list, tuple))
    values = tuple(loop_vars) if several else (loop_vars,)
    count = 0
    while (maximum_iterations is None or count < maximum_iterations) and cond(*values):
        result = body(*values)
        values = tuple(result) if isinstance(result, (list, tuple)) else (result,)
        count += 1
    return tree.pack_sequence_as(loop_vars, tree.flatten(values))


@composite(inputs=0, shape=_like("init_val"), keras="")
def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """`value = body_fun(i, value)` for i from `lower` to before `upper`, beginning with `init_val`.

    >>> from minikeras import ops
    >>> ops.fori_loop(0, 4, lambda i, value: value + i, 0)
    6
    """
    value = init_val
    for i in range(int(lower), int(upper)):
        value = body_fun(i, value)
    return value


@composite(inputs=0, keras="")
def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: Any = 1
) -> Any:
    """Carry a value along the first axis of arrays: `carry, y = f(carry, x)` for each `x`.

    Args:
        f: returns the next carry, and a result or None.
        init: the first carry, a tensor or a structure of them.
        xs: a tensor or a structure of them, of which `f` gets one element after the other, or None.
        length: how many steps; needed without `xs`.
        reverse: whether to begin with the last element; the results stand where their elements do.
        unroll: accepted for familiarity: a loop is always what Python makes of it.

    Returns:
        The last carry, and the results stacked along a new first axis (None where `f` returns None).

    Raises:
        TypeError: where `f` is no function.
        ValueError: without `xs` and `length`, where these differ, without any step, and for a bad `unroll`.

    >>> from minikeras import ops
    >>> last, sums = ops.scan(lambda carry, x: (carry + x, carry + x), 0, ops.arange(4))
    >>> int(last), sums.tolist()
    (6, [0, 1, 3, 6])
    """
    if not callable(f):
        raise TypeError(f"scan takes a function f(carry, x), got {f!r}.")
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(f"unroll must be a positive whole number or a boolean, got {unroll!r}.")
    leaves = [] if xs is None else _tensors(xs)
    sizes = {len(leaf) for leaf in leaves} | ({int(length)} if length is not None else set())
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"scan and map take at least one step, one for each element of all xs, got xs of lengths "
            f"{[len(leaf) for leaf in leaves]} and length={length}."
        )
    (steps,) = sizes
    carry = tree.map_structure(convert_to_tensor, init)
    results = []
    for i in reversed(range(steps)) if reverse else range(steps):
        carry, y = f(carry, None if xs is None else tree.pack_sequence_as(xs, [leaf[i] for leaf in leaves]))
        results.append(y)
    columns = zip(*[tree.flatten(y) for y in (results[::-1] if reverse else results)], strict=True)
    made = [None if column[0] is None else shaping.stack(column) for column in columns]
    return carry, tree.pack_sequence_as(results[0], made)


def _tensors(structure: Any) -> list[Any]:
    return [convert_to_tensor(leaf) for leaf in tree.flatten(structure)]


@composite(inputs=0, keras="")
def map(f: Callable, xs: Any) -> Any:
    """`f` at each element along the first axis of the arrays in `xs`, and the results stacked.

    Args:
        f: a function of an element, or of a structure of elements, that returns a tensor or a structure of them.
        xs: a tensor or a structure of them.

    Raises:
        ValueError: where there is no element.

    >>> from minikeras import ops
    >>> ops.map(lambda x: x * x, ops.arange(4)).tolist()
    [0, 1, 4, 9]
    """
    return scan(lambda carry, x: (carry, f(x)), 0, xs)[1]


@composite(inputs=0, keras="")
def vectorized_map(function: Callable, elements: Any) -> Any:
    """`function` at each element along the first axis of a tensor (or of each tensor in a structure), results stacked.

    >>> from minikeras import ops
    >>> ops.vectorized_map(ops.sum, ops.ones((3, 2))).tolist()
    [2.0, 2.0, 2.0]
    """
    return map(function, elements)


@composite(inputs=0, shape=_like("elems"), keras="")
def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """What an associative function makes of the first elements, for each number of them: running sums and their kin.

    Args:
        f: `f(a, b)` of structures like `elems`, elementwise along the axis, with `f(a, f(b, c)) == f(f(a, b), c)`.
        elems: a tensor or a structure of them, all of one size along the axis.
        reverse: whether to go from the last element to the first.
        axis: where the elements are.

    Returns:
        A structure like `elems`: `[a, f(a, b), f(f(a, b), c), ...]`.

    Raises:
        TypeError: where `f` is no function.
        ValueError: where sizes along the axis differ.

    >>> from minikeras import ops
    >>> ops.associative_scan(lambda x, y: x + y, ops.arange(5)).tolist()
    [0, 1, 3, 6, 10]
    """
    if not callable(f):
        raise TypeError(f"associative_scan takes a function f(a, b), got {f!r}.")
    leaves = _tensors(elems)
    sizes = {leaf.shape[axis] for leaf in leaves}
    if len(sizes) != 1:
        raise ValueError(
            f"associative_scan needs one size along axis {axis}, got shapes {[leaf.shape for leaf in leaves]}."
        )
    if reverse:
        leaves = [shaping.flip(leaf, axis) for leaf in leaves]

    def part(start: int | None, end: int | None) -> Any:
        found = [shaping.get_item(leaf, shaping._along(axis, builtins.slice(start, end), leaf.ndim)) for leaf in leaves]
        return tree.pack_sequence_as(elems, found)

    (size,), reach = sizes, 1  # element i holds what f makes of the `reach` elements up to it
    while reach < size:
        combined = tree.flatten(f(part(None, -reach), part(reach, None)))
        begun = tree.flatten(part(None, reach))
        leaves = [shaping.concatenate(pair, axis) for pair in zip(begun, combined, strict=True)]
        reach *= 2
    if reverse:
        leaves = [shaping.flip(leaf, axis) for leaf in leaves]
    return tree.pack_sequence_as(elems, leaves)
