"""Table lookup."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minikeras.kernels.arena import fitting
from minikeras.kernels.table import Kernels, kernel


def checked_indices(k: Kernels, indices: Any, rows: int) -> Any:
    """The indices, refused where one is not in [0, rows).

    Raises:
        IndexError: an index is out of range.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= rows):
        raise out_of_range(indices[(indices < 0) | (indices >= rows)][0], rows)
    return indices


def out_of_range(wrong: Any, rows: int) -> IndexError:
    """What is raised for an index."""
    return IndexError(
        f"An embedding table with {rows} rows takes indices from 0 to {rows - 1}, got {wrong}; "
        "enlarge input_dim or correct the indices."
    )


@kernel
def embedding(k: Kernels, table: Any, indices: Any, out: Any = None) -> Any:
    """The rows `table[indices]`: table (rows, d), integer indices of any shape -> (*indices.shape, d).

    On a GPU, where looking at the indices would stall every step, the row of one that is out of range is NaN.

    Raises:
        IndexError: an index is out of range (CPU).
        ValueError: `out` has another shape or type.
    """
    shape, rows = (*indices.shape, table.shape[1]), table.shape[0]
    if k.xp is numpy:
        checked_indices(k, indices, rows)
    out = k.empty(shape, table.dtype) if out is None else fitting(out, shape, table.dtype)
    if k.xp is numpy:  # checked above, and mode "raise" would go through a buffer
        return numpy.take(table, indices, axis=0, out=out, mode="clip")
    k.xp.take(table, k.xp.clip(indices, 0, rows - 1), axis=0, out=out)
    known = (indices >= 0) & (indices < rows)
    out[...] = k.xp.where(known[..., None], out, math.nan)
    return out


@kernel
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    """Gradient of the table: zeros, with each row of `g` (*indices.shape, d) added at its index.

    On a GPU the row of an index that is out of range is added nowhere.

    Raises:
        IndexError: an index is out of range (CPU).
        ValueError: `out` has another shape or type.
    """
    shape, rows = tuple(table_shape), table_shape[0]
    if k.xp is numpy:
        checked_indices(k, indices, rows)
    out = k.empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    out.fill(0)
    indices, g = indices.reshape(indices.size), g.reshape(indices.size, table_shape[1])
    if k.xp is not numpy:
        known = (indices >= 0) & (indices < rows)
        indices, g = k.xp.clip(indices, 0, rows - 1), k.xp.where(known[:, None], g, 0)
    k.xp.add.at(out, indices, g)
    return out
