"""Affine maps of pictures with interpolation, as image augmentation draws them: a batch gathered and transformed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np  # the few numbers that describe a batch are drawn on the host, whatever the device

from minikeras.kernels.table import Kernels, kernel

FILL_MODES = ("constant", "nearest", "reflect", "wrap")
_PADDING = 12  # pixels that SciPy repeats at the edges for fill mode "nearest" before it looks for a spline
_FAR = 1e9  # pixels; coordinates end here, before rounding shows in what is left of them inside
_GROUP = 1 << 18  # pixels transformed at a time


@kernel
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
    """A batch of pictures, each moved by an affine map, then brightened, mirrored and scaled: (batch, h, w, channels).

    Everything but `images` and `out` is in host memory.

    Args:
        images: (n, height, width, channels), of real numbers, on the host or the device.
        rows: (batch,) integers from 0 to n - 1, the picture that each result is made from; None takes each in turn.
        matrices: (batch, 2, 3), finite; row and column of an output pixel, and 1, times this give the coordinates of
            its value in the picture, in pixels.  A map that changes nothing copies; so does None, for all pictures.
        order: degree of the interpolating spline, 0 (the nearest pixel) to 5.
        fill_mode: what lies outside: `"constant"` (cval, without a transition), `"nearest"` (the pixel at the edge),
            `"reflect"` (d c b a | a b c d | d c b a) or `"wrap"`, which has the last pixel fall on the first.
        cval: the value outside for `"constant"`.
        channel_shifts: (batch,) numbers added to all channels, the sum clipped to the range of the picture after its
            map; NaN, or None for all, leaves a picture as it is.
        flips: (batch, 2) booleans: mirror left to right, mirror top to bottom.
        scale: a factor for all values, applied last.
        out: where the result goes.

    Returns:
        float64 for float64 images, else float32, on the device.  Coordinates and splines are float64 throughout.

    Raises:
        ValueError: an unknown order or fill mode, shapes that do not fit, a matrix that is not finite.
        IndexError: a row out of range.

    Source: `scipy.ndimage.affine_transform`, whose result this is; Unser, Aldroubi and Eden, "B-spline signal
    processing" (1993).  With `"reflect"`, order 4 or 5 and fewer than 10 pixels along an axis SciPy's filter is not
    exact, and this one is.
    """
    xp = k.xp
    rows, matrices, channel_shifts, flips = checked(
        images, rows, matrices, order, fill_mode, channel_shifts, flips, out
    )
    if out is None:
        out = k.empty((len(rows), *images.shape[1:]), xp.dtype("float64" if images.dtype == np.float64 else "float32"))
    if out.size == 0:
        return out
    group = max(1, _GROUP // math.prod(images.shape[1:]))
    for start in range(0, len(rows), group):
        part = slice(start, start + group)
        result = out[part]
        result[...] = _chosen(k, images, rows[part])
        if matrices is not None:
            moved = start + np.flatnonzero((matrices[part] != _IDENTITY).any(axis=(1, 2)))
            if moved.size:
                pictures = _chosen(k, images, rows[moved]).astype("float64")
                out[xp.asarray(moved)] = _transformed(k, pictures, matrices[moved], order, fill_mode, cval)
        if channel_shifts is not None:
            shifts = xp.asarray(channel_shifts[part].astype(str(out.dtype))).reshape(-1, 1, 1, 1)
            least, most = (bound(axis=(1, 2, 3), keepdims=True) for bound in (result.min, result.max))
            shifted = xp.minimum(xp.maximum(result + shifts, least), most)
            result[...] = xp.where(xp.isnan(shifts), result, shifted)
        if flips is not None:
            for axis, column in ((2, 0), (1, 1)):
                chosen = xp.asarray(flips[part, column]).reshape(-1, 1, 1, 1)
                result[...] = xp.where(chosen, xp.flip(result, axis), result)
    if scale is not None:
        out *= float(scale)
    return out


_IDENTITY = np.eye(2, 3)


def checked(
    images: Any, rows: Any, matrices: Any, order: int, fill_mode: str, channel_shifts: Any, flips: Any, out: Any
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """`rows`, `matrices`, `channel_shifts` and `flips` as arrays of one type each, refused where they do not fit."""
    if images.ndim != 4:
        raise ValueError(f"Pictures have the shape (n, height, width, channels), got {images.shape}; reshape them.")
    if order not in range(6):
        raise ValueError(f"The order of interpolation is an integer from 0 to 5, got {order!r}; use 1 for bilinear.")
    if fill_mode not in FILL_MODES:
        raise ValueError(f"The fill mode {fill_mode!r} is unknown; use one of {', '.join(FILL_MODES)}.")
    count = len(images)
    rows = np.arange(count) if rows is None else np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(f"Rows are integers of shape (batch,), got {rows.dtype} of {rows.shape}; pass the places.")
    rows = rows.astype(np.int64, copy=False)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        wrong = rows[(rows < 0) | (rows >= count)][0]
        raise IndexError(f"{count} pictures have the rows 0 to {count - 1}, got {wrong}; correct the rows.")
    batch = len(rows)
    if matrices is not None:
        matrices = np.ascontiguousarray(matrices, np.float64)
        if not np.isfinite(matrices).all():
            raise ValueError("A matrix of an affine map has an entry that is not finite; correct its parameters.")
    if channel_shifts is not None:
        channel_shifts = np.ascontiguousarray(channel_shifts, np.float64)
    if flips is not None:
        flips = np.ascontiguousarray(flips, np.bool_)
    for name, array, shape in (
        ("Matrices", matrices, (batch, 2, 3)),
        ("Channel shifts", channel_shifts, (batch,)),
        ("Flips", flips, (batch, 2)),
        ("Results", out, (batch, *images.shape[1:])),
    ):
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} for {batch} pictures have the shape {shape}, got {array.shape}; reshape them.")
    return rows, matrices, channel_shifts, flips


def _chosen(k: Kernels, images: Any, rows: np.ndarray) -> Any:
    """The pictures `rows` on the device."""
    return k.xp.asarray(images[rows]) if isinstance(images, np.ndarray) else images[k.xp.asarray(rows)]


def _transformed(k: Kernels, pictures: Any, matrices: np.ndarray, order: int, fill_mode: str, cval: float) -> Any:
    """Each of the float64 pictures (n, h, w, c) read at the places that its matrix (n, 2, 3) gives."""
    xp = k.xp
    n, height, width, _ = shape = pictures.shape
    matrices = xp.asarray(matrices)
    row, column = xp.arange(height, dtype="float64")[:, None], xp.arange(width, dtype="float64")
    padding = _PADDING if order > 1 and fill_mode == "nearest" else 0
    if order > 1:
        for axis in (1, 2):
            pictures = _coefficients(k, pictures, axis, order, fill_mode, padding)
    indices: list[list[Any]] = []
    weights: list[list[Any]] = []
    outside: Any = False
    for axis in (0, 1):
        along_rows, along_columns, offset = (matrices[:, axis, entry].reshape(n, 1, 1) for entry in range(3))
        # summed from the left, as in SciPy: a coordinate on the edge is inside, and one rounding beyond it outside
        place = xp.clip(offset + row * along_rows + column * along_columns, -_FAR, _FAR)
        if fill_mode == "constant":
            outside = outside | (place < 0) | (place > shape[1 + axis] - 1)
        length = shape[1 + axis] + 2 * padding
        place = place + padding if padding else _mapped(k, place, length, fill_mode)  # the padding's edge has no end
        first = xp.floor(place if order % 2 else place + 0.5).astype("int64") - order // 2
        taps = range(order + 1)
        indices.append([folded(first + tap, length, fill_mode) for tap in taps])
        weights.append([_spline(order, place - (first + tap)) if order else 1.0 for tap in taps])
    picture = xp.arange(n).reshape(n, 1, 1)
    result: Any = 0
    for row_index, row_weight in zip(indices[0], weights[0], strict=True):
        for column_index, column_weight in zip(indices[1], weights[1], strict=True):
            values = pictures[picture, row_index, column_index]
            result = result + values * (row_weight * column_weight)[..., None] if order else values
    return xp.where(outside[..., None], cval, result) if fill_mode == "constant" else result


def _mapped(k: Kernels, place: Any, length: int, fill_mode: str) -> Any:
    """Coordinates moved into the picture, or at most one pixel outside, by the rule of a fill mode."""
    xp = k.xp
    last = length - 1
    if fill_mode == "reflect":
        period = 2 * length
        below, above = place + period * xp.floor(-place / period), place - period * xp.floor(place / period)
        below = xp.where(below < -length, below + period, -below - 1)
        return xp.where(place < 0, below, xp.where(above >= length, period - above - 1, above))
    if fill_mode == "wrap" and last:
        below, above = place + last * (xp.floor(-place / last) + 1), place - last * xp.floor(place / last)
        return xp.where(place < 0, below, xp.where(place > last, above, place))
    return xp.clip(place, 0, last)


def folded(index: Any, length: int, fill_mode: str) -> Any:
    """Indices of a spline's coefficients moved into the picture: what lies outside mirrors what lies inside."""
    if fill_mode == "nearest":
        return index.clip(0, length - 1)
    if fill_mode == "reflect":  # about the edge of the last pixel
        return (2 * length - 1 - abs(2 * (index % (2 * length)) - (2 * length - 1))) // 2
    return length - 1 - abs(index % max(2 * length - 2, 1) - (length - 1))  # about its middle


def _spline(degree: int, x: Any) -> Any:
    """The cardinal B-spline of a degree above 0 at distances `x` from its middle, as a sum of truncated powers."""
    result: Any = 0
    for k in range(degree + 2):
        ramp = x + ((degree + 1) / 2 - k)
        ramp = (ramp + abs(ramp)) / 2
        result = result + (-1) ** k * math.comb(degree + 1, k) / math.factorial(degree) * ramp**degree
    return result


def _coefficients(k: Kernels, pictures: Any, axis: int, order: int, fill_mode: str, padding: int) -> Any:
    """The coefficients, along an axis, of the spline that runs through the pixels."""
    inverse = k.xp.asarray(_inverse(pictures.shape[axis], order, fill_mode, padding))
    return k.xp.moveaxis(k.xp.tensordot(inverse, pictures, ([1], [axis])), 0, axis)


@lru_cache(maxsize=16)
def _inverse(length: int, order: int, fill_mode: str, padding: int) -> np.ndarray:
    """The matrix that takes pixels, those at the edges repeated `padding` times, to coefficients."""
    padded = length + 2 * padding
    places = np.arange(padded)
    values = np.zeros((padded, padded))  # of the splines at the pixels
    for tap in range(-(order // 2), order // 2 + 1):
        columns = folded(places + tap, padded, "reflect" if padding else fill_mode)
        np.add.at(values, (places, columns), _spline(order, float(tap)))
    inverse = np.linalg.inv(values)
    pixels = np.clip(places - padding, 0, length - 1)
    return inverse @ (pixels[:, None] == np.arange(length))
