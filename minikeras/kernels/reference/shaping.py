"""Arrays joined, cut into parts, and picked from by indices.

CuPy takes an index that is out of range for another one.  To look at it would stall each step; what it picks is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minikeras.kernels.table import Kernels, kernel


@kernel
def concatenate(k: Kernels, arrays: Sequence[Any], axis: int) -> Any:
    """Arrays of one type, which are equal in all axes but one, joined along that axis (not negative)."""
    return k.xp.concatenate(arrays, axis=axis)


@kernel
def stack(k: Kernels, arrays: Sequence[Any], axis: int) -> Any:
    """Arrays of one type and shape joined along a new axis (not negative)."""
    return k.xp.stack(arrays, axis=axis)


@kernel
def split(k: Kernels, x: Any, ends: Sequence[int], axis: int) -> list[Any]:
    """The parts of an array along an axis (not negative): each ends before an index, one more goes to the end.

    They may be views.
    """
    return k.xp.split(x, ends, axis=axis)


@kernel
def take(k: Kernels, x: Any, indices: Any, axis: int) -> Any:
    """The slices number `indices` (integers of any shape) along an axis (not negative); -1 is the last one.

    Raises:
        IndexError: an index is out of range (CPU; on a GPU the slice is NaN, where there is such a number).
    """
    y = k.xp.take(x, indices, axis=axis)
    lined_up = (*indices.shape, *[1] * (x.ndim - 1 - axis))
    return y if k.xp is numpy else _only_known(k, y, indices.reshape(lined_up), x, axis)


@kernel
def take_along(k: Kernels, x: Any, indices: Any, axis: int) -> Any:
    """For each line along an axis (not negative) the numbers at its own indices; -1 is the last one.

    Raises:
        IndexError: an index is out of range (CPU; on a GPU the number is NaN, where there is such a number).
    """
    y = k.xp.take_along_axis(x, indices, axis=axis)
    return y if k.xp is numpy else _only_known(k, y, indices, x, axis)


def known_places(indices: Any, size: int) -> Any:
    """Whether indices are those of an axis of this size, from its beginning or its end."""
    return (indices >= -size) & (indices < size)


def _only_known(k: Kernels, y: Any, indices: Any, x: Any, axis: int) -> Any:
    """What was taken, but NaN instead where an index was out of range; of whole numbers what it was taken for."""
    is_number = y.dtype.kind in "fc" or y.dtype.char == "E"
    return k.xp.where(known_places(indices, x.shape[axis]), y, y.dtype.type(math.nan)) if is_number else y


@kernel
def add_along(k: Kernels, g: Any, indices: Any, size: int, axis: int) -> Any:
    """The gradient of `take_along_axis`: zeros, `size` of them along an axis (not negative), and each number added to
    that of its line which has its index; on a GPU that of an index out of range nowhere.
    """
    if k.xp is not numpy:
        indices, g = indices % size, k.xp.where(known_places(indices, size), g, g.dtype.type(0))
    shape = indices.shape
    lines: list[Any] = [k.xp.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)]
    lines[axis] = indices
    gradient = k.filled((*shape[:axis], size, *shape[axis + 1 :]), g.dtype, 0)
    k.xp.add.at(gradient, tuple(lines), g)
    return gradient
