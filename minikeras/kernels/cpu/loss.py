"""Softmax and cross-entropies on the CPU: a row at a time in compiled loops, where NumPy makes ten passes."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.reference import loss as reference
from minikeras.kernels.reference.activation import softmax as reference_softmax


@lru_cache(maxsize=1)
def _parts() -> Any:
    """The module `loss_parts`, imported at first need."""
    return importlib.import_module("minikeras.kernels.cpu.loss_parts")


def _compiled(*arrays: Any) -> bool:
    """Whether the compiled loops take these: contiguous float32 of one shape, not empty."""
    first = arrays[0]
    return first.size > 0 and all(
        array.dtype.char == "f" and array.flags.c_contiguous and array.shape == first.shape for array in arrays
    )


def softmax(x: Any, axis: Any = -1, out: Any = None) -> Any:
    """See the reference."""
    if axis not in (-1, x.ndim - 1) or not _compiled(x, x if out is None else out):
        return reference_softmax(x, axis, out)
    if out is None:
        out = empty(x.shape, x.dtype)
    _parts().softmax(x, out)
    return out


def cross_entropy(logits: Any, target: Any, probabilities: Any = None) -> Any:
    """See the reference."""
    if not _compiled(logits, target, logits if probabilities is None else probabilities):
        return reference.cross_entropy(logits, target)
    out = empty(logits.shape[:-1], logits.dtype)
    _parts().cross_entropy(logits, target, probabilities, out)
    return out


def cross_entropy_grad(g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    """See the reference."""
    p = softmax(logits) if probabilities is None else probabilities
    if not _compiled(p, target) or g.dtype.char != "f":
        return reference.cross_entropy_grad(g, logits, target, p)
    out = empty(logits.shape, logits.dtype)
    _parts().cross_entropy_grad(_rows(g, logits), p, target, out)
    return out


def sparse_cross_entropy(logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """See the reference."""
    if not _compiled(logits, logits if probabilities is None else probabilities) or labels.shape != logits.shape[:-1]:
        return reference.sparse_cross_entropy(logits, labels)
    out = empty(labels.shape, logits.dtype)
    _parts().sparse_cross_entropy(logits, np.ascontiguousarray(labels, np.int64), probabilities, out)
    return out


def sparse_cross_entropy_grad(g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """See the reference."""
    p = softmax(logits) if probabilities is None else probabilities
    if not _compiled(p) or g.dtype.char != "f" or labels.shape != logits.shape[:-1]:
        return reference.sparse_cross_entropy_grad(g, logits, labels, p)
    out = empty(logits.shape, logits.dtype)
    _parts().sparse_cross_entropy_grad(_rows(g, logits), p, np.ascontiguousarray(labels, np.int64), out)
    return out


def _rows(g: Any, logits: Any) -> Any:
    """One number for each row, contiguous."""
    fits = g.shape == logits.shape[:-1] and g.flags.c_contiguous
    return g if fits else np.ascontiguousarray(np.broadcast_to(g, logits.shape[:-1]))


OVERRIDES = {
    "cross_entropy": cross_entropy,
    "cross_entropy_grad": cross_entropy_grad,
    "softmax": softmax,
    "sparse_cross_entropy": sparse_cross_entropy,
    "sparse_cross_entropy_grad": sparse_cross_entropy_grad,
}
