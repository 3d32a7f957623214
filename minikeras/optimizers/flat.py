"""The flat arena: variables, gradients and optimizer slots as views into a few long arrays.

One optimizer step is then one kernel call on one long array, whatever the number of variables.  A variable is adopted
once: an arena that holds it keeps it, so models that share layers, and a second optimizer for the same weights (or for
some of them), find the weights where they are.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter, is_
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff.tensor import Variable

_buffers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id; they live as long as a view

_data = attrgetter("data")


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether two lists hold the very same objects (`==` of arrays would compare their elements)."""
    return len(first) == len(second) and all(map(is_, first, second))


def views_like(arrays: Iterable[Any]) -> list[Any]:
    """Zeros of the same shapes and types: in the given order, without gaps, in one new buffer for each type."""
    arrays = list(arrays)
    sizes: Counter = Counter()
    for array in arrays:
        sizes[array.dtype] += array.size
    buffers = {dtype: k.xp.zeros(size, dtype) for dtype, size in sizes.items()}
    _buffers.update({id(buffer): buffer for buffer in buffers.values()})
    used: Counter = Counter()
    views = []
    for array in arrays:
        start = used[array.dtype]
        used[array.dtype] += array.size
        views.append(buffers[array.dtype][start : start + array.size].reshape(array.shape))
    return views


def is_held(array: Any) -> bool:
    """Whether an array is a part of an arena."""
    return array.base is not None and _buffers.get(id(array.base)) is array.base


def adopt(variables: Sequence[Variable]) -> None:
    """Move the variables that no arena holds into new buffers, side by side and with their values."""
    loose = [variable for variable in variables if not is_held(variable.data)]
    for variable, view in zip(loose, views_like(map(_data, loose)), strict=True):
        view[...] = variable.data
        variable.data = view


def stretches(rows: Sequence[Sequence[Any]], positions: Sequence[int]) -> list[tuple[Any, ...]]:
    """The entries at `positions` of several lists of views, joined to 1-D arrays.

    Args:
        rows: lists of views into flat buffers: of parameters, of gradients, of slots.
        positions: which entries to take.

    Returns:
        One tuple of 1-D arrays, one for each row, for every longest stretch of entries that are neighbours in all rows.
    """
    filled = [position for position in positions if rows[0][position].size]
    positions = sorted(filled, key=lambda i: rows[0][i].dtype.char)  # a buffer holds one type; the sort is stable
    joined = []
    start = 0
    for end in range(1, len(positions) + 1):
        if end < len(positions) and all(_adjacent(row[positions[end - 1]], row[positions[end]]) for row in rows):
            continue
        joined.append(tuple([_span(row[positions[start]], row[positions[end - 1]]) for row in rows]))
        start = end
    return joined


def _adjacent(first: Any, second: Any) -> bool:
    return first.base is second.base and address(first) + first.nbytes == address(second)


def _span(first: Any, last: Any) -> Any:
    """The part of their buffer from the start of one view to the end of another."""
    start = address(first.base)
    item = first.itemsize
    return first.base[(address(first) - start) // item : (address(last) + last.nbytes - start) // item]


def address(array: Any) -> int:
    """Where the memory of an array begins."""
    return array.ctypes.data if hasattr(array, "ctypes") else array.data.ptr  # of NumPy, of CuPy


class FlatVariables:
    """Variables in flat buffers, and a flat buffer of each type for their gradients.

    Attributes:
        variables: in the order given.
        arrays: their raw arrays.
        gradients: for each variable the view that its gradient is written to.
        destinations: the same by `id(variable)`, as `backward` takes it.
        index: the position of a variable by its id.
    """

    def __init__(self, variables: Sequence[Variable]):
        adopt(variables)
        self.variables = list(variables)
        self.arrays = [variable.data for variable in variables]
        self.gradients = views_like(self.arrays)
        self.index = {id(variable): position for position, variable in enumerate(variables)}
        self.destinations = dict(zip(self.index, self.gradients, strict=True))

    def is_current(self) -> bool:
        """Whether every variable still has the array it had here (nobody has bound another one)."""
        return all(map(is_, map(_data, self.variables), self.arrays))
