"""Softmax and cross-entropies on the CPU: a row at a time in compiled loops, where NumPy makes ten passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import activation
from minikeras.kernels.reference import loss as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override, same_shape

_LABELS = (
    *(contiguous_float32("logits", "probabilities"), same_shape("logits", "probabilities")),
    lambda logits, labels: labels.shape == logits.shape[:-1],
)
_TARGETS = contiguous_float32("logits", "target", "probabilities"), same_shape("logits", "target", "probabilities")


_LAST = contiguous_float32("x", "out"), same_shape("x", "out"), lambda x, axis: axis in (-1, x.ndim - 1)


@override(activation.softmax, "cpu", when=_LAST)
def softmax(k: Kernels, x: Any, axis: Any = -1, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    lazy("loss_parts").softmax(x, out)
    return out


@override(reference.cross_entropy, "cpu", when=_TARGETS)
def cross_entropy(k: Kernels, logits: Any, target: Any, probabilities: Any = None) -> Any:
    out = empty(logits.shape[:-1], logits.dtype)
    lazy("loss_parts").cross_entropy(logits, target, probabilities, out)
    return out


@override(reference.cross_entropy_grad, "cpu", when=(of_float32("g"), *_TARGETS))
def cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    lazy("loss_parts").cross_entropy_grad(_rows(g, logits), p, target, out)
    return out


@override(reference.sparse_cross_entropy, "cpu", when=_LABELS)
def sparse_cross_entropy(k: Kernels, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    out = empty(labels.shape, logits.dtype)
    lazy("loss_parts").sparse_cross_entropy(logits, np.ascontiguousarray(labels, np.int64), probabilities, out)
    return out


@override(reference.sparse_cross_entropy_grad, "cpu", when=(of_float32("g"), *_LABELS))
def sparse_cross_entropy_grad(k: Kernels, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    lazy("loss_parts").sparse_cross_entropy_grad(_rows(g, logits), p, np.ascontiguousarray(labels, np.int64), out)
    return out


def _rows(g: Any, logits: Any) -> Any:
    """One number for each row, contiguous."""
    fits = g.shape == logits.shape[:-1] and g.flags.c_contiguous
    return g if fits else np.ascontiguousarray(np.broadcast_to(g, logits.shape[:-1]))
