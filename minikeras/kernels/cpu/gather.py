"""Batches on the CPU: large ones are copied by a helper of the team while the step before is still computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.cpu.compiler import Numbers, octets, part, share, team, words
from minikeras.kernels.reference import gather as reference
from minikeras.kernels.table import Kernels, override

_LONG = 1 << 15  # bytes


def _is_long(array: Any, rows: Any, out: Any) -> bool:
    return (
        out is not None
        and out.nbytes >= _LONG
        and out.shape == (len(rows), *array.shape[1:])
        and out.dtype == array.dtype
        and out.flags.c_contiguous
        and array.flags.c_contiguous
        and not array.dtype.hasobject
        and team.team.has_helpers
    )


@part
def gather_part(part, parts, count, dataset, rows: Numbers, out, width):
    """Rows of a dataset, each of so many bytes."""
    first, last = share(part, parts, count)
    fours = width // 4
    for i in range(first, last):
        source, target = dataset + rows[i] * width, out + i * width
        there, here = words(source), words(target)
        for j in range(fours):
            here[j] = there[j]
        for j in range(4 * fours, width):
            octets(target)[j] = octets(source)[j]


@override(reference.gather, "cpu", when=_is_long)
def gather(k: Kernels, array: Any, rows: Any, out: Any = None) -> tuple[Any, Callable[[], None] | None]:
    rows, width = np.ascontiguousarray(rows, np.int64), array.nbytes // len(array)
    block = gather_part.block(parts=1, count=len(rows), dataset=array, rows=rows, out=out, width=width)
    finish = team.team.task(gather_part.address, block, array, rows, out)
    return reference.gather(k, array, rows, out) if finish is None else (out, finish)
