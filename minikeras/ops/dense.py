"""What dense, embedding and dropout layers are made of."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable
from minikeras.kernels.arena import explain


def _dense_shape(x: Any, w: Any, b: Any, **settings: Any) -> Any:
    shapes.matmul(x, w)  # refuses sizes that do not go together
    return shapes.Spec((*x.shape[:-1], w.shape[-1]), w.dtype)


@differentiable(shape=_dense_shape)
def dense_layer(x: Any, w: Any, b: Any = None, *, activation: str | None = None) -> Any:
    """`activation(x @ w + b)` over the last axis of `x`, any leading axes."""
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # -1 is no size beside a 0
    if rows.dtype != w.dtype:
        rows = rows.astype(w.dtype)
    y = k.dense(rows, w, b, activation)

    def vjp(g: Any, needs: Any) -> Any:
        g, gb = k.epilogue_grad(g.reshape(y.shape), y, activation, needs[2], needs.out[2])
        gx = k.gemm(g, w, tb=True).reshape(x.shape) if needs[0] else None
        return gx, (k.gemm(rows, g, ta=True, out=needs.out[1]) if needs[1] else None), gb

    return (y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[-1])), vjp


_FAR = 1 << 62  # beyond every index


def _check_indices(given: Any) -> None:
    with np.errstate(invalid="ignore"):
        fractions = given[given % 1 != 0]  # with NaN and infinity
    if fractions.size:
        raise ValueError(
            f"An embedding takes whole numbers, got {fractions[0]!s}; round the inputs or number their values."
        )


@differentiable(shape=lambda table, indices: shapes.Spec((*indices.shape, *table.shape[1:]), table.dtype))
def embedding_lookup(table: Any, indices: Any) -> Any:
    """Rows of `table` by integer `indices` of any shape."""
    if indices.dtype.kind not in "iu":
        given, (indices, wrong) = indices, k.class_numbers(indices, _FAR, -_FAR)
        if k.xp is np:  # a GPU would have to be waited for; there what is no whole number is an index out of range
            explain(wrong, partial(_check_indices, given.view(np.ndarray)))

    def vjp(g: Any, needs: Any) -> Any:
        return k.embedding_grad(g, indices, table.shape, out=needs.out[0]), None

    return k.embedding(table, indices), vjp


@differentiable(shape=shapes.same)
def masked_scale(x: Any, *, mask: Any, scale: float) -> Any:
    """`x * mask * scale` with a 0/1 mask that broadcasts: dropout."""
    y = k.masked_scale(x, mask, scale)
    return y, lambda g, needs: (k.masked_scale(g, mask, scale),)
