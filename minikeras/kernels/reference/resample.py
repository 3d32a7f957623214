"""Pictures of another size: along each axis a product with a matrix of weights, of which most are 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np  # weights are made on the host, whatever the device

from minikeras.kernels.arena import fixed
from minikeras.kernels.table import Kernels, kernel


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - x)


def _keys_cubic(x: np.ndarray) -> np.ndarray:
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


def _gaussian(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1.5, np.exp(-2 * x * x), 0)


def _mitchell_cubic(x: np.ndarray) -> np.ndarray:
    near, far = (7 / 6 * x - 2) * x * x + 8 / 9, ((-7 / 18 * x + 2) * x - 10 / 3) * x + 16 / 9
    return np.where(x < 1, near, np.where(x < 2, far, 0))


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of the distance from a pixel that is made
    "bilinear": _triangle,
    "bicubic": _keys_cubic,  # with a = -1/2
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
    "gaussian": _gaussian,  # of radius 1.5, three standard deviations
    "mitchellcubic": _mitchell_cubic,
}
_FEW = 4  # pixels that one is made of: with more of them a product with a matrix is faster
_SHORT = 64
_LEAST = 1000 * float(np.finfo(np.float32).eps)  # a smaller sum of weights is none


class Weights:
    """How the pixels along an axis are made of others.

    Args:
        matrix: (pixels made, pixels there are) float64.
    """

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix

    @cached_property
    def taps(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same as pairs of pixels and their weights, each for all pixels that are made."""
        target, length = self.matrix.shape
        some = self.matrix != 0
        first = some.argmax(axis=1)
        last = np.where(some.any(axis=1), length - 1 - some[:, ::-1].argmax(axis=1), -1)
        taps = []
        for tap in range(max(int((last - first).max(initial=0)) + 1, 1)):
            pixels = np.minimum(first + tap, length - 1)
            taps.append((pixels, np.where(first + tap <= last, self.matrix[np.arange(target), pixels], 0)))
        return taps

    @cached_property
    def transposed(self) -> Weights:
        """Those that a gradient goes back with."""
        return Weights(np.ascontiguousarray(self.matrix.T))


@lru_cache(maxsize=64)
def resizing(length: int, target: int, interpolation: str, antialias: bool = False) -> Weights:
    """The weights that resize an axis: pixels are areas, so the middle of the first is at 1/2.

    Args:
        length, target: how many pixels there are, and are to be.
        interpolation: `"nearest"`, `"area"` or one of `FILTERS`.
        antialias: whether a filter grows as the picture shrinks.
    """
    if interpolation == "nearest":
        return Weights((np.arange(length) == nearest_pixels(length, target)[:, None]).astype(np.float64))
    if interpolation == "area":  # how much of each pixel lies in the one that is made
        edges = np.arange(target + 1) * (length / target)
        pixels = np.arange(length)
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        return Weights(np.maximum(covered, 0) * (target / length))
    return placing(length, target, target / length, 0.0, interpolation, antialias)


def nearest_pixels(length: int, target: int) -> np.ndarray:
    """The pixel that each of those that are made is taken from."""
    return (2 * np.arange(target) + 1) * length // (2 * target)


def placing(
    length: int, target: int, scale: float, translation: float, interpolation: str, antialias: bool = False
) -> Weights:
    """The weights that scale an axis and then move it; what comes from outside of the picture is 0.

    What a filter would take from outside is shared among what is inside.
    """
    step = 1 / scale
    places = (np.arange(target) + 0.5 - translation) * step - 0.5
    distances = abs(places[:, None] - np.arange(length)) / (max(step, 1.0) if antialias else 1.0)
    weights = FILTERS[interpolation](distances)
    total = weights.sum(axis=1, keepdims=True)
    inside = (places[:, None] >= -0.5) & (places[:, None] <= length - 0.5) & (abs(total) > _LEAST)
    return Weights(np.where(inside, weights / np.where(inside, total, 1), 0))


@kernel
def resample(
    k: Kernels, x: Any, weights: Weights, axis: int, out: Any = None, scratch: Callable[..., Any] | None = None
) -> Any:
    """The product of an axis with a matrix, as floats: sums of a few pixels, or of all of them.

    Args:
        x: an array of any shape; floats of 32 bits or more keep their type.
        weights: (target, length), where length is the size of the axis.
        axis: from 0.
        out: where the result goes; its type is that of the computation.
        scratch: `scratch(purpose, shape, dtype)` gives memory that lasts until the next array for the same purpose;
            default new arrays.
    """
    xp, target = k.xp, weights.matrix.shape[0]
    shape = (*x.shape[:axis], target, *x.shape[axis + 1 :])
    if out is None:
        wide = x.dtype.kind == "f" and x.dtype.itemsize >= 4
        out = k.empty(shape, x.dtype if wide else xp.dtype("float32"))
    dtype = out.dtype
    if len(weights.taps) > _FEW:
        matrix = fixed(xp.asarray(weights.matrix.astype(str(dtype))))
        out[...] = xp.moveaxis(xp.tensordot(matrix, x.astype(dtype, copy=False), ([1], [axis])), 0, axis)
        return out
    if scratch is None:

        def scratch(purpose: str, shape: Any, dtype: Any) -> Any:
            return k.empty(shape, dtype)

    beyond = math.prod(shape[axis + 1 :])  # numbers for each pixel: where few, loops over them alone are too short
    lines = (*shape[:axis], target * beyond) if beyond < _SHORT else (*shape[:axis], target, beyond)
    contiguous = out.flags.c_contiguous
    for number, (pixels, each) in enumerate(weights.taps):
        part = scratch("part", shape, x.dtype)
        if xp is np:  # the pixels are there, and mode "raise" would go through a buffer
            np.take(x, fixed(pixels), axis, out=part, mode="clip")
        else:
            xp.take(x, xp.asarray(pixels), axis, out=part)
        term = out if number == 0 and contiguous else scratch("term", shape, dtype)
        each = each.astype(str(dtype))
        each = np.repeat(each, beyond) if beyond < _SHORT else each[:, None]
        xp.multiply(part.reshape(lines), fixed(xp.asarray(each)), out=term.reshape(lines))
        if number == 0 and not contiguous:
            out[...] = term
        elif number:
            xp.add(out, term, out=out)
    return out
