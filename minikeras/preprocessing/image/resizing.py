"""Resizing arrays of pictures: each axis is a product with a matrix of weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff.tensor import Tensor
from minikeras.utils.checks import whole


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


_KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bilinear": _triangle,
    "bicubic": _keys_cubic,  # with a = -1/2
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
    "gaussian": _gaussian,  # of radius 1.5, three standard deviations
    "mitchellcubic": _mitchell_cubic,
}
_BLURRING = ("gaussian", "mitchellcubic")  # these do not leave a picture of the right size as it is
_FEW = 4  # pixels that one is made of: with more of them a product with a matrix is faster
_SHORT = 64
INTERPOLATIONS = ("nearest", "area", *_KERNELS)


@lru_cache(maxsize=64)
def _weights(length: int, target: int, interpolation: str) -> np.ndarray:
    """The (target, length) matrix that resizes an axis: pixels are areas, so the middle of the first is at 1/2."""
    places = (np.arange(target) + 0.5) * (length / target) - 0.5
    if interpolation == "nearest":
        weights = np.arange(length) == np.floor(places + 0.5)[:, None]
        return weights.astype(np.float64)
    if interpolation == "area":  # how much of each pixel lies in the one that is made
        edges = np.arange(target + 1) * (length / target)
        pixels = np.arange(length)
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        return np.maximum(covered, 0) * (target / length)
    weights = _KERNELS[interpolation](abs(places[:, None] - np.arange(length)))
    return weights / weights.sum(axis=1, keepdims=True)  # what would lie outside is shared among what is inside


@lru_cache(maxsize=64)
def _taps(length: int, target: int, interpolation: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same as pairs of pixels and their weights, each for all pixels that are made."""
    weights = _weights(length, target, interpolation)
    first = (weights != 0).argmax(axis=1)
    last = length - 1 - (weights != 0)[:, ::-1].argmax(axis=1)
    taps = []
    for tap in range(int((last - first).max()) + 1):
        pixels = np.minimum(first + tap, length - 1)
        taps.append((pixels, np.where(first + tap <= last, weights[np.arange(target), pixels], 0)))
    return taps


class _Scratch(threading.local):
    """Memory for what lies between two passes; new pages for every picture would cost more than the arithmetic."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def take(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of any content, good until the next one for the same purpose."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(purpose)
        if memory is None or memory.nbytes < size:
            memory = self._memory[purpose] = np.empty(size, np.uint8)
        return memory[:size].view(dtype).reshape(shape)


_scratch = _Scratch()


def _resize_axis(images: np.ndarray, axis: int, target: int, interpolation: str, out: np.ndarray) -> None:
    """Write to `out` what the axis becomes: a weighted sum of a few pixels, or of all of them."""
    length = images.shape[axis]
    taps = _taps(length, target, interpolation)
    if len(taps) > _FEW:
        weights = _weights(length, target, interpolation).astype(out.dtype)
        out[...] = np.moveaxis(np.tensordot(weights, images.astype(out.dtype, copy=False), ([1], [axis])), 0, axis)
        return
    beyond = math.prod(out.shape[axis + 1 :])  # numbers for each pixel: where few, loops over them alone are too short
    lines = (*out.shape[:axis], target * beyond) if beyond < _SHORT else (*out.shape[:axis], target, beyond)
    for number, (pixels, weights) in enumerate(taps):
        part = np.take(images, pixels, axis, out=_scratch.take("part", out.shape, images.dtype), mode="clip")
        term = out if number == 0 else _scratch.take("term", out.shape, out.dtype)
        weights = weights.astype(out.dtype)
        weights = np.repeat(weights, beyond) if beyond < _SHORT else weights[:, None]
        np.multiply(part.reshape(lines), weights, out=term.reshape(lines))
        if number:
            np.add(out, term, out=out)


def resized(images: np.ndarray, size: Sequence[int], interpolation: str, first: int = 0) -> np.ndarray:
    """Pictures of another size as floating-point numbers, not rounded; `first` is the axis of their height."""
    dtype = images.dtype if images.dtype == np.float64 else np.dtype(np.float32)
    axes = [
        (target / images.shape[axis], axis, int(target))
        for axis, target in zip((first, first + 1), size, strict=True)
        if images.shape[axis] != target or interpolation in _BLURRING
    ]
    for number, (_, axis, target) in enumerate(sorted(axes)):  # what makes them smaller comes first
        shape = (*images.shape[:axis], target, *images.shape[axis + 1 :])
        last = number == len(axes) - 1
        out = np.empty(shape, dtype) if last else _scratch.take("between", shape, dtype)
        _resize_axis(images, axis, target, interpolation, out)
        images = out
    return images if axes else images.astype(dtype)


def resize(
    images: np.ndarray, size: Sequence[int], interpolation: str = "bilinear", data_format: str = "channels_last"
) -> np.ndarray:
    """Resize pictures without smoothing them first, as `keras.ops.image.resize` does by default.

    Args:
        images: (..., height, width, channels), or (..., channels, height, width) for `"channels_first"`.
        size: (height, width) in pixels.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"` (Keys, a = -1/2), `"lanczos3"`, `"lanczos5"`, `"area"`,
            `"gaussian"` or `"mitchellcubic"`, the last three as TensorFlow has them.
        data_format: the layout.

    Returns:
        Pictures of the same type; whole numbers are rounded and clipped to their type.

    Raises:
        ValueError: for an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}.")
    first = images.ndim - (3 if data_format == "channels_last" else 2)
    if interpolation == "nearest":
        for axis, target in zip((first, first + 1), size, strict=True):
            picks = _weights(images.shape[axis], int(target), interpolation).argmax(axis=1)
            images = np.take(images, picks, axis=axis)
        return images
    dtype = images.dtype
    result = resized(images, size, interpolation, first)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        result = np.clip(np.round(result), limits.min, limits.max)
    return np.ascontiguousarray(result.astype(dtype, copy=False))


def middle(images: np.ndarray, size: Sequence[int], first: int = 0) -> np.ndarray:
    """The largest middle part of pictures that has the aspect ratio of `size`; `first` is the axis of their height."""
    height, width = images.shape[first : first + 2]
    cut_height = max(min(height, int(width * size[0] / size[1])), 1)
    cut_width = max(min(width, int(height * size[1] / size[0])), 1)
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    return images[(slice(None),) * first + (slice(top, top + cut_height), slice(left, left + cut_width))]


def smart_resize(
    x: Any, size: Sequence[int], interpolation: str = "bilinear", data_format: str = "channels_last"
) -> Any:
    """Cut the largest middle part of the target's aspect ratio out of pictures, and resize it.

    Args:
        x: (height, width, channels) or a batch of such, or with the channels first; an array or a tensor.
        size: (height, width) in pixels.
        interpolation, data_format: as in `resize`.

    Returns:
        An array for an array, a tensor for a tensor.

    Raises:
        ValueError: for a size that is not two numbers, another rank, or an unknown interpolation.
    """
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}.")
    size = [whole("size", one, 1) for one in size]
    data_format = config.standardize_data_format(data_format)
    images = k.to_host(x.data) if isinstance(x, Tensor) else np.asarray(x)
    if images.ndim not in (3, 4):
        raise ValueError(f"smart_resize takes pictures of rank 3 or 4, got the shape {images.shape}.")
    first = images.ndim - (3 if data_format == "channels_last" else 2)
    result = resize(middle(images, size, first), size, interpolation, data_format)
    return Tensor(k.to_device(result)) if isinstance(x, Tensor) else result
