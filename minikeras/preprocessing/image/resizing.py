"""Resizing arrays of pictures: each axis is a product with a matrix of weights."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff.tensor import Tensor
from minikeras.kernels.reference.resample import FILTERS, nearest_pixels, resizing
from minikeras.utils.checks import one_of, whole

_BLURRING = ("gaussian", "mitchellcubic")  # these do not leave a picture of the right size as it is
INTERPOLATIONS = ("nearest", "area", *FILTERS)
_host = k.reference_table()  # pictures in files are prepared in host memory, whatever the device


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
        weights = resizing(images.shape[axis], target, interpolation)
        _host.resample(images, weights, axis, out=out, scratch=_scratch.take)
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
    one_of("interpolation", interpolation, INTERPOLATIONS)
    first = images.ndim - (3 if data_format == "channels_last" else 2)
    if interpolation == "nearest":
        for axis, target in zip((first, first + 1), size, strict=True):
            images = np.take(images, nearest_pixels(images.shape[axis], int(target)), axis=axis)
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

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import smart_resize
    >>> smart_resize(np.ones((10, 20, 3)), (5, 5)).shape
    (5, 5, 3)
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
