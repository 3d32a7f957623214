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
def split(k: Kernels, x: Any, ends: Sequence[int], axis: int) -> list[Any]:
    """The parts of an array along an axis (not negative): each ends before an index, one more goes to the end.

    They may be views.
    """
    return k.xp.split(x, ends, axis=axis)
