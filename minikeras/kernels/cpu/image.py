"""Image augmentation on the CPU: one compiled pass over each picture, for float32 and bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import image as reference
from minikeras.kernels.table import Kernels, override

_MOST_PIXELS = 1 << 23  # along an axis: float32 counts a little further


def _compiled(images: Any, out: Any) -> bool:
    fits = images.dtype.char in "fB" and images.ndim == 4 and (out is None or out.dtype.char == "f")
    return fits and max(images.shape[1:3]) <= _MOST_PIXELS


@override(reference.affine_images, "cpu", when=_compiled)
def affine_images(
    k: Kernels,
    images: Any,
    rows: Any,
    matrices: Any,
    *,
    order: int = 1,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    channel_shifts: Any = None,
    flips: Any = None,
    scale: float | None = None,
    out: Any = None,
) -> Any:
    """On the CPU weights and sums are float32: a result may differ by 1e-6 of the picture's range."""
    rows, matrices, channel_shifts, flips = reference.checked(
        images, rows, matrices, order, fill_mode, channel_shifts, flips, out
    )
    shape = (len(rows), *images.shape[1:])
    result = out if out is not None and out.flags.c_contiguous else empty(shape, np.dtype(np.float32))
    if result.size:
        if not images.flags.c_contiguous:
            images, rows = images[rows], np.arange(len(rows))
        if channel_shifts is not None:
            channel_shifts = channel_shifts.astype(np.float32)
        lazy("image_parts").affine_images(
            np.ascontiguousarray(images),
            np.ascontiguousarray(rows),
            matrices,
            order,
            fill_mode,
            cval,
            channel_shifts,
            flips,
            1.0 if scale is None else scale,
            result,
        )
    if out is not None and result is not out:
        out[...] = result
        return out
    return result
