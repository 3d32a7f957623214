"""Rows of softmax and of cross-entropies as parts for the team, in float32.

Arguments: 0 rows, 1 parts, 2 classes; then what the part's docstring says.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.cpu.functions import exp
from minikeras.kernels.cpu.jit import inner, lazy_part
from minikeras.kernels.cpu.machine import floats, numbers
from minikeras.kernels.cpu.parts import parts_of
from minikeras.kernels.cpu.team import team

_EXACT = {"contract"}  # sums keep their order: large logits cancel
_ZERO, _ONE = np.float32(0), np.float32(1)


@inner
def _rows(n, part):  # type: ignore[no-untyped-def]
    """A part's first row and the one after its last."""
    return n[0] * part // n[1], n[0] * (part + 1) // n[1]


@inner
def _largest(x, size):  # type: ignore[no-untyped-def]
    """The largest number; NaN if there is one."""
    best = x[0]
    for j in range(1, size):
        best = x[j] if x[j] > best or x[j] != x[j] else best
    return best


@lazy_part(fastmath=_EXACT)
def _softmax_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 x, 4 result."""
    n = numbers(arguments)
    first, last = _rows(n, part)
    for row in range(first, last):
        at = 4 * row * n[2]
        x, out = floats(n[3] + at), floats(n[4] + at)
        most, total = _largest(x, n[2]), _ZERO
        for j in range(n[2]):
            out[j] = exp(x[j] - most)
        for j in range(n[2]):
            total += out[j]
        scale = _ONE / total
        for j in range(n[2]):
            out[j] *= scale


def softmax(x: Any, out: Any) -> None:
    """As the kernel, along the last axis."""
    _run(_softmax_part, x, x, out)


@inner
def _sum_of_exponentials(n, x, most, at):  # type: ignore[no-untyped-def]
    """Of `x - most` in a row; where its probabilities are known the largest, which is `exp(0) / sum`, tells."""
    if n[6]:
        return _ONE / _largest(floats(n[6] + at), n[2])
    total = _ZERO
    for j in range(n[2]):
        total += exp(x[j] - most)
    return total


@lazy_part(fastmath=_EXACT)
def _cross_entropy_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 logits, 4 target, 5 result, 6 probabilities or 0."""
    n = numbers(arguments)
    first, last = _rows(n, part)
    for row in range(first, last):
        at = 4 * row * n[2]
        x, target = floats(n[3] + at), floats(n[4] + at)
        most, weight, product = _largest(x, n[2]), _ZERO, _ZERO
        for j in range(n[2]):
            weight += target[j]
            product += (x[j] - most) * target[j]
        floats(n[5])[row] = math.log(_sum_of_exponentials(n, x, most, at)) * weight - product


def cross_entropy(logits: Any, target: Any, probabilities: Any, out: Any) -> None:
    """As the kernel."""
    _run(_cross_entropy_part, logits, logits, target, out, probabilities)


@lazy_part(fastmath=_EXACT)
def _cross_entropy_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 the gradient at the losses, 4 probabilities, 5 target, 6 result."""
    n = numbers(arguments)
    first, last = _rows(n, part)
    for row in range(first, last):
        at = 4 * row * n[2]
        p, target, out, g = floats(n[4] + at), floats(n[5] + at), floats(n[6] + at), floats(n[3])[row]
        weight = _ZERO
        for j in range(n[2]):
            weight += target[j]
        for j in range(n[2]):
            out[j] = (p[j] * weight - target[j]) * g


def cross_entropy_grad(g: Any, probabilities: Any, target: Any, out: Any) -> None:
    """As the kernel, of given probabilities."""
    _run(_cross_entropy_grad_part, probabilities, g, probabilities, target, out)


@lazy_part(fastmath=_EXACT)
def _sparse_cross_entropy_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 logits, 4 labels (int64), 5 result, 6 probabilities or 0."""
    n = numbers(arguments)
    first, last = _rows(n, part)
    for row in range(first, last):
        at = 4 * row * n[2]
        x = floats(n[3] + at)
        most = _largest(x, n[2])
        total = _sum_of_exponentials(n, x, most, at)
        floats(n[5])[row] = math.log(total) - (x[numbers(n[4])[row]] - most)


def sparse_cross_entropy(logits: Any, labels: Any, probabilities: Any, out: Any) -> None:
    """As the kernel; labels are in range."""
    _run(_sparse_cross_entropy_part, logits, logits, labels, out, probabilities)


@lazy_part(fastmath=_EXACT)
def _sparse_cross_entropy_grad_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """3 the gradient at the losses, 4 probabilities, 5 labels (int64), 6 result."""
    n = numbers(arguments)
    first, last = _rows(n, part)
    for row in range(first, last):
        at = 4 * row * n[2]
        p, out, g = floats(n[4] + at), floats(n[6] + at), floats(n[3])[row]
        for j in range(n[2]):
            out[j] = p[j] * g
        label = numbers(n[5])[row]
        out[label] = (p[label] - _ONE) * g


def sparse_cross_entropy_grad(g: Any, probabilities: Any, labels: Any, out: Any) -> None:
    """As the kernel, of given probabilities; labels are in range."""
    _run(_sparse_cross_entropy_grad_part, probabilities, g, probabilities, labels, out)


def _run(part: Any, rows: Any, *arrays: Any) -> None:
    classes = rows.shape[-1]
    count = rows.size // classes
    parts = min(parts_of(4 * rows.size), count)  # an exponential costs more than a pass over memory
    team.run(part.address, None, parts, True, (count, parts, classes, *arrays))
