"""Batches on the CPU: large ones are copied by a helper of the team while the step before is still computed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import lazy
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
        and "minikeras.kernels.cpu.team" in sys.modules  # else there are no helpers, nor a reason to load them
    )


@override(reference.gather, "cpu", when=_is_long)
def gather(k: Kernels, array: Any, rows: Any, out: Any = None) -> tuple[Any, Callable[[], None] | None]:
    finish = lazy("parts").gather_ahead(array, np.ascontiguousarray(rows, np.int64), out)
    return reference.gather(k, array, rows, out) if finish is None else (out, finish)
