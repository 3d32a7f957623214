"""Softmax and cross-entropies on the CPU: a row at a time in compiled loops, where NumPy makes ten passes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import Floats, Numbers, exp, floats, inner, part, parts_for, share
from minikeras.kernels.reference import activation
from minikeras.kernels.reference import loss as reference
from minikeras.kernels.table import Kernels, contiguous_float32, of_float32, override, same_shape

_EXACT = {"contract"}  # sums keep their order: large logits cancel
_ZERO, _ONE = np.float32(0), np.float32(1)


@inner
def _largest(x, size):
    """The largest number; NaN if there is one."""
    best = x[0]
    for j in range(1, size):
        best = x[j] if x[j] > best or x[j] != x[j] else best
    return best


@part(fastmath=_EXACT)
def _softmax(part, parts, rows, classes, x, out):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        value, result = floats(x + at), floats(out + at)
        most, total = _largest(value, classes), _ZERO
        for j in range(classes):
            result[j] = exp(value[j] - most)
        for j in range(classes):
            total += result[j]
        scale = _ONE / total
        for j in range(classes):
            result[j] *= scale


@inner
def _sum_of_exponentials(x, classes, most, probabilities):
    """Of `x - most` in a row; where its probabilities are known the largest, which is `exp(0) / sum`, tells."""
    if probabilities:
        return _ONE / _largest(floats(probabilities), classes)
    total = _ZERO
    for j in range(classes):
        total += exp(x[j] - most)
    return total


@inner
def _of_row(array, at):
    """Where a row of an array begins that may be missing."""
    return array + at if array else 0


@part(fastmath=_EXACT)
def _cross_entropy(part, parts, rows, classes, logits, target, out: Floats, probabilities):
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        x, wanted = floats(logits + at), floats(target + at)
        most, weight, product = _largest(x, classes), _ZERO, _ZERO
        for j in range(classes):
            weight += wanted[j]
            product += (x[j] - most) * wanted[j]
        total = _sum_of_exponentials(x, classes, most, _of_row(probabilities, at))
        out[row] = math.log(total) * weight - product


@part(fastmath=_EXACT)
def _cross_entropy_grad(part, parts, rows, classes, g: Floats, probabilities, target, out):
    """From the gradient at the losses."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        p, wanted, result, gradient = floats(probabilities + at), floats(target + at), floats(out + at), g[row]
        weight = _ZERO
        for j in range(classes):
            weight += wanted[j]
        for j in range(classes):
            result[j] = (p[j] * weight - wanted[j]) * gradient


@part(fastmath=_EXACT)
def _sparse_cross_entropy(part, parts, rows, classes, logits, labels: Numbers, out: Floats, probabilities):
    """Labels are in range."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        x = floats(logits + at)
        most = _largest(x, classes)
        total = _sum_of_exponentials(x, classes, most, _of_row(probabilities, at))
        out[row] = math.log(total) - (x[labels[row]] - most)


@part(fastmath=_EXACT)
def _sparse_cross_entropy_grad(part, parts, rows, classes, g: Floats, probabilities, labels: Numbers, out):
    """From the gradient at the losses."""
    first, last = share(part, parts, rows)
    for row in range(first, last):
        at = 4 * row * classes
        p, result, gradient = floats(probabilities + at), floats(out + at), g[row]
        for j in range(classes):
            result[j] = p[j] * gradient
        label = labels[row]
        result[label] = (p[label] - _ONE) * gradient


def _run(part: Any, scores: Any, **arguments: Any) -> None:
    """Run a part on the rows of scores."""
    classes = scores.shape[-1]
    rows = scores.size // classes
    parts = min(parts_for(4 * scores.size), rows)  # an exponential costs more than a pass over memory
    part.run(parts, rows=rows, classes=classes, **arguments)


_LABELS = (
    *(contiguous_float32("logits", "probabilities"), same_shape("logits", "probabilities")),
    lambda logits, labels: labels.shape == logits.shape[:-1],
)
_TARGETS = contiguous_float32("logits", "target", "probabilities"), same_shape("logits", "target", "probabilities")


_LAST = contiguous_float32("x", "out"), same_shape("x", "out"), lambda x, axis: axis in (-1, x.ndim - 1)


@override(activation.softmax, "cpu", when=_LAST)
def softmax(k: Kernels, x: Any, axis: Any = -1, out: Any = None) -> Any:
    out = empty(x.shape, x.dtype) if out is None else out
    _run(_softmax, x, x=x, out=out)
    return out


@override(reference.cross_entropy, "cpu", when=_TARGETS)
def cross_entropy(k: Kernels, logits: Any, target: Any, probabilities: Any = None) -> Any:
    out = empty(logits.shape[:-1], logits.dtype)
    _run(_cross_entropy, logits, logits=logits, target=target, out=out, probabilities=probabilities)
    return out


@override(reference.cross_entropy_grad, "cpu", when=(of_float32("g"), *_TARGETS))
def cross_entropy_grad(k: Kernels, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    _run(_cross_entropy_grad, p, g=_row_of(g, logits), probabilities=p, target=target, out=out)
    return out


@override(reference.sparse_cross_entropy, "cpu", when=_LABELS)
def sparse_cross_entropy(k: Kernels, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    out = empty(labels.shape, logits.dtype)
    labels = np.ascontiguousarray(labels, np.int64)
    _run(_sparse_cross_entropy, logits, logits=logits, labels=labels, out=out, probabilities=probabilities)
    return out


@override(reference.sparse_cross_entropy_grad, "cpu", when=(of_float32("g"), *_LABELS))
def sparse_cross_entropy_grad(k: Kernels, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    p = k.softmax(logits) if probabilities is None else probabilities
    out = empty(logits.shape, logits.dtype)
    labels = np.ascontiguousarray(labels, np.int64)
    _run(_sparse_cross_entropy_grad, p, g=_row_of(g, logits), probabilities=p, labels=labels, out=out)
    return out


def _row_of(g: Any, logits: Any) -> Any:
    """One number for each row, contiguous."""
    fits = g.shape == logits.shape[:-1] and g.flags.c_contiguous
    return g if fits else np.ascontiguousarray(np.broadcast_to(g, logits.shape[:-1]))
