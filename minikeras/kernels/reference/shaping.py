"""Arrays joined, and cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
def add_along(k: Kernels, g: Any, indices: Any, size: int, axis: int) -> Any:
    """The gradient of `take_along_axis`: zeros, `size` of them along an axis (not negative), and each number added to
    that of its line which has its index.
    """
    shape = indices.shape
    lines: list[Any] = [k.xp.arange(n).reshape((-1,) + (1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)]
    lines[axis] = indices
    gradient = k.filled((*shape[:axis], size, *shape[axis + 1 :]), g.dtype, 0)
    k.xp.add.at(gradient, tuple(lines), g)
    return gradient
