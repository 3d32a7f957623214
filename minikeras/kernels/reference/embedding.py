"""Table lookup."""

from __future__ import annotations

from typing import Any

import numpy

from minikeras.kernels.arena import fitting
from minikeras.kernels.table import Kernels, kernel


def checked_indices(k: Kernels, indices: Any, rows: int) -> Any:
    """The indices, refused where one is not in [0, rows).

    On a GPU reading them back would stall every step, so there they are clipped instead.

    Raises:
        IndexError: an index is out of range (CPU).
    """
    if k.xp is not numpy:
        return k.xp.clip(indices, 0, rows - 1)
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

    Raises:
        IndexError: an index is out of range (CPU; a GPU clips it).
        ValueError: `out` has another shape or type.
    """
    indices = checked_indices(k, indices, table.shape[0])
    shape = (*indices.shape, table.shape[1])
    out = k.empty(shape, table.dtype) if out is None else fitting(out, shape, table.dtype)
    if k.xp is numpy:  # checked above, and mode "raise" would go through a buffer
        return numpy.take(table, indices, axis=0, out=out, mode="clip")
    return k.xp.take(table, indices, axis=0, out=out)


@kernel
def embedding_grad(k: Kernels, g: Any, indices: Any, table_shape: tuple[int, int], out: Any = None) -> Any:
    """Gradient of the table: zeros, with each row of `g` (*indices.shape, d) added at its index.

    Raises:
        IndexError: an index is out of range (CPU; a GPU clips it).
        ValueError: `out` has another shape or type.
    """
    indices = checked_indices(k, indices, table_shape[0])
    shape = tuple(table_shape)
    out = k.empty(shape, g.dtype) if out is None else fitting(out, shape, g.dtype)
    out.fill(0)
    k.xp.add.at(out, indices.reshape(indices.size), g.reshape(indices.size, table_shape[1]))
    return out
