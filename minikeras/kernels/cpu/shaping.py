"""Arrays joined and cut on the CPU: strips of memory are copied, by the team where they are many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.kernels.arena import contiguous, empty
from minikeras.kernels.cpu.compiler import Floats, Numbers, octets, part, parts_for, share, words
from minikeras.kernels.reference import shaping as reference
from minikeras.kernels.table import Kernels, override

_ZERO = np.float32(0)


@part
def _copy_strips(part, parts, count, width, source, source_step, target, target_step):
    """Strips of so many bytes, each so many bytes after the one before."""
    first, last = share(part, parts, count)
    fours = width // 4
    for i in range(first, last):
        there, here = source + i * source_step, target + i * target_step
        for j in range(fours):
            words(here)[j] = words(there)[j]
        for j in range(4 * fours, width):
            octets(here)[j] = octets(there)[j]


def _copy(count: int, width: int, source: Any, source_step: int, target: Any, target_step: int) -> None:
    parts = min(parts_for(count * width // 4), count)
    steps = {"source_step": source_step, "target_step": target_step}
    _copy_strips.run(parts, count=count, width=width, source=source, target=target, **steps)


def _are_strips(arrays: Any, axis: int) -> bool:
    """Whether they are contiguous arrays of numbers, of one type, that may be joined along an axis."""
    first = arrays[0]
    kind, rest = first.dtype, (*first.shape[:axis], *first.shape[axis + 1 :])
    return kind.kind in "biuf" and all(
        one.dtype == kind
        and one.size > 0
        and one.flags.c_contiguous
        and (*one.shape[:axis], *one.shape[axis + 1 :]) == rest
        for one in arrays
    )


@override(reference.concatenate, "cpu", when=_are_strips)
def concatenate(k: Kernels, arrays: Sequence[Any], axis: int) -> Any:
    first = arrays[0]
    shape = (*first.shape[:axis], sum(one.shape[axis] for one in arrays), *first.shape[axis + 1 :])
    out, strips = empty(shape, first.dtype), math.prod(shape[:axis])
    step, start = out.nbytes // strips, 0
    for one in arrays:
        width = one.nbytes // strips
        _copy(strips, width, one, width, _from(out, start), step)
        start += width
    return out


def _from(array: Any, start: int) -> Any:
    """The memory of a contiguous array from a byte on."""
    return array.reshape(-1).view(np.uint8)[start:]


def _is_cut(x: Any, axis: int) -> bool:
    return x.dtype.kind in "biuf" and x.size > 0 and x.flags.c_contiguous and math.prod(x.shape[:axis]) > 1


@override(reference.split, "cpu", when=_is_cut)
def split(k: Kernels, x: Any, ends: Sequence[int], axis: int) -> list[Any]:
    strips = math.prod(x.shape[:axis])
    step, each = x.nbytes // strips, x.nbytes // (strips * x.shape[axis])
    parts = []
    for begin, end in zip((0, *ends), (*ends, x.shape[axis]), strict=True):
        out = empty((*x.shape[:axis], end - begin, *x.shape[axis + 1 :]), x.dtype)
        if out.size:
            _copy(strips, (end - begin) * each, _from(x, begin * each), step, out, (end - begin) * each)
        parts.append(out)
    return parts


@part
def _add_along(part, parts, before, count, after, size, g: Floats, indices: Numbers, out: Floats):
    first, last = share(part, parts, before)
    for i in range(first * size * after, last * size * after):
        out[i] = _ZERO
    for line in range(first, last):
        for i in range(line * count * after, (line + 1) * count * after):
            index = indices[i]
            out[(line * size + (index if index >= 0 else index + size)) * after + i % after] += g[i]


def _are_along(g: Any, indices: Any) -> bool:
    return g.dtype.char == "f" and g.size > 0 and g.shape == indices.shape and indices.dtype == np.int64


@override(reference.add_along, "cpu", when=_are_along)
def add_along(k: Kernels, g: Any, indices: Any, size: int, axis: int) -> Any:
    """The indices are in range: `take_along_axis` has taken them."""
    shape = indices.shape
    out, before, after = (
        empty((*shape[:axis], size, *shape[axis + 1 :]), g.dtype), math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    )  # fmt: skip
    sizes = {"before": before, "count": shape[axis], "after": after, "size": size}
    parts = min(parts_for(out.size), before)
    _add_along.run(parts, **sizes, g=contiguous(g), indices=contiguous(indices), out=out)
    return out
