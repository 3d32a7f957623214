"""Pictures, as in `keras.ops.image`: (height, width, channels), or a batch of such, or with the channels first.

Whatever works along one axis is a product of that axis with a matrix (`kernels.resample`): resizing, blurs, edges,
grey values.  Whatever reads a picture at other places is `_read`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import TooSmall
from minikeras.autodiff.tape import backward, recording
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.kernels.arena import fixed
from minikeras.kernels.reference.image import folded
from minikeras.kernels.reference.resample import Weights, nearest_pixels, placing, resizing
from minikeras.lazy import offer_names
from minikeras.ops import core, elementwise, product, reduction, shaping
from minikeras.ops.common import counted
from minikeras.ops.convolution import explicit_padding, per_axis, windows
from minikeras.seeds import SeedGenerator, next_seed
from minikeras.utils.checks import number, one_of, whole

__all__ = ["affine_transform", "crop_images", "elastic_transform", "extract_patches", "extract_patches_3d"]
__all__ += ["gaussian_blur", "hsv_to_rgb", "map_coordinates", "pad_images", "perspective_transform"]
__all__ += ["reconstruct_patches", "resize", "rgb_to_grayscale", "rgb_to_hsv", "scale_and_translate", "sobel_edges"]
__all__ += ["ssim"]

KERAS_MODULE = "keras.src.ops.image"
INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
_ORDERS = {"nearest": 0, "bilinear": 1}
FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
_METHODS = {"lanczos3": "lanczos3", "lanczos5": "lanczos5"}
_METHODS |= dict.fromkeys(("linear", "bilinear", "trilinear"), "bilinear")
_METHODS |= dict.fromkeys(("cubic", "bicubic", "tricubic"), "bicubic")

# ---------------------------------------------------------------- axes


def height_axis(shape: Sequence[Any], data_format: Any, owner: str, rank: int = 2) -> int:
    """The first of the `rank` axes between batch and channels.

    Raises:
        ValueError: where there are other axes than these, channels, and perhaps a batch.
    """
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(f"{owner} takes inputs of rank {rank + 1} or {rank + 2}, got shape {tuple(shape)}.")
    return len(shape) - rank - (config.standardize_data_format(data_format) == "channels_last")


def _channels_last(x: Any, data_format: Any, owner: str, rank: int = 2) -> tuple[Any, Callable[[Any], Any]]:
    """A tensor with its channels in the last axis, and a function that puts them back."""
    x = _tensor(x)
    first = height_axis(x.shape, data_format, owner, rank)
    if first + rank < x.ndim:
        return x, lambda y: y
    return shaping.moveaxis(x, first - 1, -1), lambda y: shaping.moveaxis(y, -1, first - 1)


def _batch(images: Any, data_format: Any, owner: str) -> tuple[Any, Callable[[Any], Any]]:
    """Pictures as (batch, height, width, channels), and a function that undoes that."""
    x, undo = _channels_last(images, data_format, owner)
    return (x[None], lambda y: undo(y[0])) if x.ndim == 3 else (x, undo)


def _resized(x: Any, data_format: Any, owner: str, made: Callable[..., Any], rank: int = 2) -> Any:
    """The rule of pictures `x`, or volumes, whose sizes and channels `made(sizes, channels)` says."""
    first = height_axis(x.shape, data_format, owner, rank)
    channel = first - 1 if first + rank == x.ndim else x.ndim - 1
    sizes, channels = made(x.shape[first : first + rank], x.shape[channel])
    shape = _with(x.shape, first, *sizes)
    return shapes.Spec(_with(shape, channel, channels), x.dtype)


def _with(shape: Sequence[Any], axis: int, *sizes: Any) -> tuple[Any, ...]:
    """A shape with other sizes from an axis on."""
    return (*shape[:axis], *sizes, *shape[axis + len(sizes) :])


def _tensor(x: Any) -> Any:
    return x if isinstance(x, Tensor) else core.convert_to_tensor(x)


@differentiable(inputs=1, keras="")
def _along(x: Any, weights: Weights, axis: int) -> Any:
    """The product of an axis with a matrix; integers become float32."""
    dtype = x.dtype if x.dtype.kind == "f" else k.xp.dtype("float32")

    def vjp(g: Any, needs: Any) -> Any:
        return (k.resample(g, weights.transposed, axis).astype(dtype, copy=False),)

    return k.resample(x, weights, axis).astype(dtype, copy=False), vjp


def _like_images(x: Any, dtype: Any) -> Any:
    """Floats as pictures of a type: whole numbers are rounded and clipped to their type."""
    if x.dtype == dtype:
        return x
    return core.saturate_cast(elementwise.round(x) if dtype.kind in "iu" else x, dtype)


# ---------------------------------------------------------------- other sizes


def _size(size: Any, owner: str) -> tuple[int, int]:
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"{owner} needs a size of two numbers (height, width), got {size!r}.")
    height, width = (whole("size", one, 1, owner=owner) for one in size)
    return height, width


def _resize_shape(images: Any, *, size: Any, data_format: Any, **settings: Any) -> Any:
    axis = height_axis(images.shape, data_format, "resize")
    return shapes.Spec(_with(images.shape, axis, *_size(size, "resize")), images.dtype)


@composite(inputs=1, shape=_resize_shape)
def resize(
    images: Any, size: Sequence[int], interpolation: str = "bilinear", antialias: bool = False,
    crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False, fill_mode: str = "constant",
    fill_value: float = 0.0, data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures of another size.

    Args:
        images: (height, width, channels), or a batch of such.
        size: (height, width) in pixels.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"` (Keys 1981, a = -1/2), `"lanczos3"` or `"lanczos5"`.
        antialias: whether a picture that becomes smaller is smoothed.
        crop_to_aspect_ratio: cut out the largest middle part that has the new aspect ratio.
        pad_to_aspect_ratio: put a border around the picture so that it has the new aspect ratio.
        fill_mode, fill_value: the border: `"constant"`, of this value.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        Pictures of the same type; whole numbers are rounded and clipped to their type.

    Raises:
        ValueError: for another rank, size, interpolation or fill mode, and where both aspect ratios are asked for.

    >>> from minikeras import ops
    >>> ops.image.resize([[[0.0], [4.0]]], (1, 4)).numpy()[0, :, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    target = _size(size, "resize")
    one_of("interpolation", interpolation, INTERPOLATIONS, owner="resize")
    one_of("fill_mode", fill_mode, ("constant",), owner="resize")
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError("resize cuts or pads to the aspect ratio, got both as True; leave one of them out.")
    images = _tensor(images)
    dtype = images.dtype
    first = height_axis(images.shape, data_format, "resize")
    if pad_to_aspect_ratio or crop_to_aspect_ratio:
        height, width = images.shape[first : first + 2]
        fitting = int(width * target[0] / target[1]), int(height * target[1] / target[0])
        if crop_to_aspect_ratio:
            cut = [max(min(n, m), 1) for n, m in zip((height, width), fitting, strict=True)]
            starts = [(n - m) // 2 for n, m in zip((height, width), cut, strict=True)]
            ranges = [slice(start, start + m) for start, m in zip(starts, cut, strict=True)]
            images = images[(slice(None),) * first + tuple(ranges)]
        else:
            border = [max(m - n, 0) // 2 for n, m in zip((height, width), fitting, strict=True)]
            if dtype.kind in "iu" and any(border):
                images = core.cast(images, "float32")  # which holds any fill_value
            widths = _with(((0, 0),) * images.ndim, first, *[(n, n) for n in border])
            images = shaping.pad(images, widths, constant_values=number("fill_value", fill_value, owner="resize"))
    for axis, wanted in zip((first, first + 1), target, strict=True):
        length = images.shape[axis]
        if length == wanted:
            continue
        if length == 0:
            raise ValueError(f"resize needs pictures with pixels, got shape {tuple(images.shape)}.")
        if interpolation == "nearest":
            images = shaping.take(images, k.to_device(nearest_pixels(length, wanted)), axis=axis)
        else:
            images = _along(images, resizing(length, wanted, interpolation, bool(antialias)), axis)
    return _like_images(images, dtype)


def _placed_shape(images: Any, *, output_shape: Any, **settings: Any) -> Any:
    return shapes.Spec(tuple(output_shape), images.dtype if images.dtype.kind == "f" else np.dtype("float32"))


@composite(inputs=1, shape=_placed_shape, takes=4)
def scale_and_translate(
    images: Any, output_shape: Sequence[int], scale: Any, translation: Any, spatial_dims: Sequence[int], method: str,
    antialias: bool = True,
) -> Any:  # fmt: skip
    """Pictures scaled and then moved: what was at place x of an axis comes to `x * scale + translation`.

    Pixels are areas, the first from 0 to 1.  What comes from outside of the picture is 0.

    Args:
        images: an array of any shape.
        output_shape: the shape of the result.
        scale, translation: a number for each of `spatial_dims`.
        spatial_dims: the axes that are scaled; all others keep their size.
        method: `"linear"` (or `"bilinear"`, `"trilinear"`), `"cubic"` (`"bicubic"`, `"tricubic"`), `"lanczos3"` or
            `"lanczos5"`.
        antialias: whether a picture that becomes smaller is smoothed.

    Raises:
        ValueError: for another method, for a scale that is not above 0, and where numbers and axes do not go together.

    >>> from minikeras import ops
    >>> ops.image.scale_and_translate([1.0, 2.0], (4,), [2.0], [0.0], [0], "linear").numpy().tolist()
    [1.0, 1.25, 1.75, 2.0]
    """
    owner = "scale_and_translate"
    method = _METHODS[one_of("method", method, _METHODS, owner=owner)]
    images, output_shape = _tensor(images), tuple(output_shape)
    axes = shapes.axes_of(list(spatial_dims), images.ndim)
    scales, shifts = (np.asarray(k.to_host(raw(one)), np.float64).reshape(-1) for one in (scale, translation))
    kept = [axis for axis in range(images.ndim) if axis not in axes]
    if len(output_shape) != images.ndim or any(images.shape[axis] != output_shape[axis] for axis in kept):
        raise ValueError(f"{owner} keeps all sizes but those of {axes}, got {output_shape} for {tuple(images.shape)}.")
    fit = len(scales) == len(shifts) == len(axes) and np.isfinite([scales, shifts]).all() and (scales > 0).all()
    if not fit:
        raise ValueError(f"{owner} needs a scale above 0 and a translation for each axis, got {scales} and {shifts}.")
    for axis, factor, shift in zip(axes, scales.tolist(), shifts.tolist(), strict=True):
        length, target = images.shape[axis], whole("output_shape", output_shape[axis], 1, owner=owner)
        images = _along(images, placing(length, target, factor, shift, method, bool(antialias)), axis)
    return images


def _borders(images: Any, word: str, given: dict[str, Any]) -> Any:
    """The axis of the height, and for it and the next one how much is before, after and between."""
    first = height_axis(images.shape, given["data_format"], f"{word} of images")
    sign, found = {"padding": 1, "cropping": -1}[word], []
    for names, n in zip(_SIDES, images.shape[first : first + 2], strict=True):
        labels = [f"{names[0]}_{word}", f"{names[1]}_{word}", names[2]]
        before, after, target = (whole(one, given[one], 0, optional=True) for one in labels)
        if (before, after, target).count(None) != 1:
            values = ", ".join(f"{one}={given[one]}" for one in labels)
            raise ValueError(f"Of the {word} of images, two of three numbers are to be given, got {values}.")
        if n is not None:
            target = n + sign * (before + after) if target is None else target
            before = sign * (target - n) - after if before is None else before
            after = sign * (target - n) - before
            if min(before, after, target) < 0:
                raise TooSmall(
                    f"The {word} of images may not be negative, got {before} and {after} to make {target} pixels of "
                    f"{n}; correct {', '.join(labels)}."
                )
        found.append((before, after, target))
    return first, found


_SIDES = (("top", "bottom", "target_height"), ("left", "right", "target_width"))


def _bordered(word: str) -> Callable[..., Any]:
    """The shape rule of padding or cropping."""

    def rule(images: Any, **settings: Any) -> Any:
        first, borders = _borders(images, word, settings)
        return shapes.Spec(_with(images.shape, first, *[target for *_, target in borders]), images.dtype)

    return rule


@composite(inputs=1, shape=_bordered("padding"))
def pad_images(
    images: Any, top_padding: int | None = None, left_padding: int | None = None, bottom_padding: int | None = None,
    right_padding: int | None = None, target_height: int | None = None, target_width: int | None = None,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Zeros around pictures; of top, bottom and target height two are given, and of left, right and target width.

    Args:
        images: (height, width, channels), or a batch of such.
        top_padding, left_padding, bottom_padding, right_padding, target_height, target_width: pixels.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> from minikeras import ops
    >>> ops.image.pad_images(ops.ones((2, 2, 1)), 1, 0, target_height=4, target_width=3).shape
    (4, 3, 1)
    """
    given, images = locals(), _tensor(images)
    first, borders = _borders(images, "padding", given)
    return shaping.pad(images, _with(((0, 0),) * images.ndim, first, *[pair[:2] for pair in borders]))


@composite(inputs=1, shape=_bordered("cropping"))
def crop_images(
    images: Any, top_cropping: int | None = None, left_cropping: int | None = None, bottom_cropping: int | None = None,
    right_cropping: int | None = None, target_height: int | None = None, target_width: int | None = None,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures without their borders; of top, bottom and target height two are given, and of left, right and width.

    Args:
        images: (height, width, channels), or a batch of such.
        top_cropping, left_cropping, bottom_cropping, right_cropping, target_height, target_width: pixels.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> from minikeras import ops
    >>> ops.image.crop_images(ops.ones((5, 5, 1)), 1, 0, target_height=3, target_width=2).shape
    (3, 2, 1)
    """
    given, images = locals(), _tensor(images)
    first, borders = _borders(images, "cropping", given)
    return images[(slice(None),) * first + tuple(slice(start, start + n) for start, _, n in borders)]


# ---------------------------------------------------------------- read at other places


def _reading(owner: str, interpolation: Any, fill_mode: Any, fill_value: Any) -> dict[str, Any]:
    """The settings of `_read`."""
    one_of("interpolation", interpolation, _ORDERS, owner=owner)
    one_of("fill_mode", fill_mode, FILL_MODES, owner=owner)
    fill_value = number("fill_value", fill_value, owner=owner)
    return {"order": _ORDERS[interpolation], "fill_mode": fill_mode, "fill_value": fill_value}


def _check_reading(inputs: Any, coordinates: Any, order: int, fill_mode: str, fill_value: float) -> dict[str, Any]:
    """The settings of `_read`, where coordinates fit to inputs."""
    order = one_of("order", order, (0, 1), owner="map_coordinates")
    if coordinates.ndim < 2 or coordinates.shape[0] != inputs.ndim:
        raise ValueError(
            f"map_coordinates needs coordinates of shape ({inputs.ndim}, ...) for inputs of shape "
            f"{tuple(inputs.shape)}, got {tuple(coordinates.shape)}."
        )
    return _reading("map_coordinates", "bilinear" if order else "nearest", fill_mode, fill_value)


def _read_shape(inputs: Any, coordinates: Any, **settings: Any) -> Any:
    _check_reading(inputs, coordinates, **settings)
    return shapes.Spec(coordinates.shape[1:], inputs.dtype)


@composite(inputs=2, shape=_read_shape)
def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0.0
) -> Any:
    """An array read between its elements.

    Args:
        inputs: an array of any shape.
        coordinates: (axes of inputs, ...): along each axis the place that a result is read at.
        order: 0 for the nearest element, 1 for linear interpolation.
        fill_mode: what lies outside: `"constant"` (`fill_value`), `"nearest"`, `"wrap"`, `"mirror"` (about the middle
            of the last element) or `"reflect"` (about its edge).
        fill_value: see there.

    Returns:
        An array of the inputs' type; whole numbers are rounded.

    Raises:
        ValueError: for coordinates that do not fit, and for another order or fill mode.

    >>> from minikeras import ops
    >>> ops.image.map_coordinates([0.0, 10.0, 20.0], [[0.5, 1.75]], order=1).numpy().tolist()
    [5.0, 17.5]
    """
    inputs, coordinates = _tensor(inputs), _tensor(coordinates)
    settings = _check_reading(inputs, coordinates, order, fill_mode, fill_value)
    return _read(inputs[None, ..., None], shaping.expand_dims(coordinates, 1), **settings)[0, ..., 0]


def _read(x: Any, coordinates: Any, order: int, fill_mode: str, fill_value: float) -> Any:
    """Pictures (batch, *sizes, channels) read at coordinates (axes, batch, ...): (batch, ..., channels)."""
    table, whole_numbers = shaping.reshape(x, (-1, x.shape[-1])), x.dtype.kind in "iu"
    fill = x.dtype.type(fill_value).item()
    first = counted(x.shape[0]).reshape((-1,) + (1,) * (coordinates.ndim - 2))
    neighbours = [
        _neighbours(place, n, order, fill_mode)
        for place, n in zip(core.unstack(coordinates), x.shape[1:-1], strict=True)
    ]
    result: Any = None
    for corner in itertools.product(*neighbours):
        rows, inside = first, None
        for (index, within, _), n in zip(corner, x.shape[1:-1], strict=True):
            rows, inside = rows * n + index, within if inside is None else inside & within
        values = shaping.take(table, rows, axis=0)
        values = values if inside is None else elementwise.where(inside[..., None], values, fill)
        if order:
            values = values * shaping.expand_dims(math.prod(weight for *_, weight in corner), -1)
        result = values if result is None else result + values
    if whole_numbers and order:  # the nearest, of two that are as near the one away from 0
        result = elementwise.trunc(result + elementwise.sign(result) * 0.5)
    return core.cast(result, x.dtype)


def _neighbours(place: Any, length: int, order: int, fill_mode: str) -> list[tuple[Any, Any, Any]]:
    """Along an axis the elements below and above a place, whether they are inside, and their weights."""
    xp = k.xp
    at = xp.clip(place.data, -_FAR, _FAR)
    if order:
        lower = xp.floor(at)
        found = [(lower, 1 - (place - lower)), (lower + 1, place - lower)]
    else:
        found = [(xp.trunc(at) + xp.sign(at) * (abs(at - xp.trunc(at)) >= 0.5), 1)]
    result = []
    for index, weight in found:
        index = index.astype("int64")
        within = (index >= 0) & (index < length) if fill_mode == "constant" else None
        mode = "nearest" if fill_mode == "constant" else fill_mode
        result.append((index % length if mode == "wrap" else folded(index, length, mode), within, weight))
    return result


_FAR = 1e9  # pixels; far outside, and still a whole number


def _warped(x: Any, maps: Any, **settings: Any) -> Any:
    """Pictures (batch, height, width, channels) read where maps (batch, 8) of their pixels say."""
    host = k.to_host(maps.data)
    smooth = settings["order"] == 1 and settings["fill_mode"] in ("nearest", "reflect") and x.dtype.kind == "f"
    if smooth and not host[:, 6:].any() and np.isfinite(host).all():
        return _like_images(_affine(x, maps, fill_mode=settings["fill_mode"]), x.dtype)
    return _like_images(_read(x, _places(x, maps), **settings), x.dtype)


def _places(x: Any, maps: Any) -> Any:
    """Row and column that each pixel is read at, (2, batch, height, width)."""
    count, height, width, _ = x.shape
    maps = core.cast(maps, "float64" if x.dtype == "float64" else "float32")
    row, column = counted(height)[:, None], counted(width)
    ones = k.filled((1,), column.dtype, 1)
    grid = k.stack([part.reshape(-1) for part in k.xp.broadcast_arrays(column, row, ones)], 0)
    grid = grid.astype(str(maps.dtype))
    below = product.matmul(maps[:, 6:], grid[:2]) + 1
    places = shaping.stack([product.matmul(maps[:, 3:6], grid) / below, product.matmul(maps[:, :3], grid) / below])
    return shaping.broadcast_to(shaping.reshape(places, (2, -1, height, width)), (2, count, height, width))


@differentiable(inputs=2, keras="")
def _affine(x: Any, maps: Any, *, fill_mode: str) -> Any:
    """The same by a kernel of its own, for maps that are affine."""
    host = np.broadcast_to(k.to_host(maps)[:, [4, 3, 5, 1, 0, 2]], (len(x), 6)).reshape(-1, 2, 3)

    def vjp(g: Any, needs: Any) -> Any:
        sources = [Tensor(x, needs[0]), Tensor(maps, needs[1])]
        with recording():
            y = _read(sources[0], _places(*sources), 1, fill_mode, 0.0)
        return backward(y, sources, g)

    return k.affine_images(x, None, host, order=1, fill_mode=fill_mode).astype(x.dtype, copy=False), vjp


def _check_batch(owner: str, name: str, shape: Any, inner: tuple[int, ...], batch: int) -> None:
    if tuple(shape) not in ((1, *inner), (batch, *inner)):
        raise ValueError(f"{owner} needs {name} of shape {inner}, or {(batch, *inner)}, got {tuple(shape)}.")


@composite(inputs=2, shape=shapes.like)
def affine_transform(
    images: Any, transform: Any, interpolation: str = "bilinear", fill_mode: str = "constant", fill_value: float = 0,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures moved by maps `(a0, a1, a2, b0, b1, b2, c0, c1)`.

    The pixel at (x, y), column and row, is read at ((a0 x + a1 y + a2) / n, (b0 x + b1 y + b2) / n), where n is
    c0 x + c1 y + 1.

    Args:
        images: (height, width, channels), or a batch of such.
        transform: (8,) for all pictures, or (batch, 8).
        interpolation: `"bilinear"` or `"nearest"`.
        fill_mode, fill_value: what lies outside, as in `map_coordinates`.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        Pictures of the same shape and type.

    Raises:
        ValueError: for shapes that do not fit, and for another interpolation or fill mode.

    >>> from minikeras import ops
    >>> ops.image.affine_transform([[[1.0], [2.0], [3.0]]], [1, 0, 1, 0, 1, 0, 0, 0]).numpy()[0, :, 0].tolist()
    [2.0, 3.0, 0.0]
    """
    owner = "affine_transform"
    settings = _reading(owner, interpolation, fill_mode, fill_value)
    batch, undo = _batch(images, data_format, owner)
    maps = _tensor(transform)
    maps = maps[None] if maps.ndim == 1 else maps
    _check_batch(owner, "a transform", maps.shape, (8,), batch.shape[0])
    return undo(_warped(batch, maps, **settings))


@composite(inputs=3, shape=shapes.like)
def perspective_transform(
    images: Any, start_points: Any, end_points: Any, interpolation: str = "bilinear", fill_value: float = 0,
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures in another perspective: four points come to lie on four others, straight lines stay straight.

    Gradients reach the pictures, not the points.

    Args:
        images: (height, width, channels), or a batch of such.
        start_points, end_points: (4, 2) or (batch, 4, 2): four points (x, y), column and row, before and after.
        interpolation: `"bilinear"` or `"nearest"`.
        fill_value: what lies outside.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Raises:
        ValueError: for shapes that do not fit, another interpolation, and points of which three lie on a line.

    >>> from minikeras import ops
    >>> corners = [[0, 0], [2, 0], [0, 2], [2, 2]]
    >>> image = ops.reshape(ops.arange(9.0), (3, 3, 1))
    >>> ops.image.perspective_transform(image, corners, [[2, 0], [0, 0], [2, 2], [0, 2]]).numpy()[0, :, 0].tolist()
    [2.0, 1.0, 0.0]
    """
    owner = "perspective_transform"
    settings = _reading(owner, interpolation, "constant", fill_value)
    batch, undo = _batch(images, data_format, owner)
    pair = [np.asarray(k.to_host(raw(points)), np.float64) for points in (start_points, end_points)]
    start, end = (points[None] if points.ndim == 2 else points for points in pair)
    for name, points in (("start_points", start), ("end_points", end)):
        _check_batch(owner, name, points.shape, (4, 2), batch.shape[0])
    start, end = np.broadcast_arrays(start, end)
    zeros, ones = np.zeros((*end.shape[:2], 3)), np.ones((*end.shape[:2], 1))
    plane = np.concatenate([end, ones], axis=-1)
    rows = [(plane, zeros, -start[..., :1] * end), (zeros, plane, -start[..., 1:] * end)]
    equations = np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=1)
    try:
        maps = np.linalg.solve(equations, start.swapaxes(1, 2).reshape(-1, 8, 1))[..., 0]
    except np.linalg.LinAlgError:
        raise ValueError(f"{owner} needs four points of which no three lie on a line, got {end.tolist()}.") from None
    return undo(_warped(batch, Tensor(k.to_device(maps)), **settings))


@composite(inputs=1, shape=shapes.like)
def elastic_transform(
    images: Any, alpha: float = 20.0, sigma: float = 5.0, interpolation: str = "bilinear",
    fill_mode: str = "reflect", fill_value: float = 0.0, seed: Any = None, data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures with every pixel moved a little, its neighbours in about the same direction (Simard et al. 2003).

    Args:
        images: (height, width, channels), or a batch of such.
        alpha: how far: a factor of the random shifts, normal numbers of standard deviation sigma, smoothed.
        sigma: how smooth: the standard deviation in pixels of the Gaussian that smooths the shifts.
        interpolation, fill_mode, fill_value: as in `affine_transform`.
        seed: a whole number, a `SeedGenerator`, or None for a new one.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> from minikeras import ops
    >>> ops.image.elastic_transform(ops.ones((8, 8, 1)), seed=1).numpy().min().round(5).item()
    1.0
    """
    owner = "elastic_transform"
    settings = _reading(owner, interpolation, fill_mode, fill_value)
    alpha, sigma = number("alpha", alpha, owner=owner), number("sigma", sigma, above=0, owner=owner)
    batch, undo = _batch(images, data_format, owner)
    dtype, shape = "float64" if batch.dtype == "float64" else "float32", (2, *batch.shape[:3])
    seed = next_seed(passing=True) if seed is None else seed
    stream = seed if isinstance(seed, SeedGenerator) else SeedGenerator(seed)
    drawn = stream.next(k.blocks_for("normal", math.prod(shape), dtype))
    shifts: Any = Tensor(k.normal(*drawn, shape, dtype))
    for axis in (2, 3):
        shifts = _along(shifts, _gaussian(int(6 * sigma) | 1, sigma, shape[axis]), axis)
    row, column = counted(shape[2])[:, None], counted(shape[3])
    grid = k.stack(k.xp.broadcast_arrays(row, column), 0)[:, None]
    return undo(_read(batch, shifts * (alpha * sigma) + grid.astype(dtype), **settings))


# ---------------------------------------------------------------- patches


def _rank_of(size: Any) -> int:
    """How many axes windows of this size have."""
    if not isinstance(size, (int, list, tuple)):
        raise TypeError(f"Patches need a size of one, two or three whole numbers, got {size!r}.")
    if not isinstance(size, int) and len(size) not in (2, 3):
        raise ValueError(f"Patches need a size of one, two or three whole numbers, got {size!r}.")
    return 2 if isinstance(size, int) else len(size)


def _patches_shape(
    x: Any, *, size: Any, strides: Any, dilation_rate: Any, padding: str, data_format: Any, rank: int | None = None
) -> Any:
    rank = rank or _rank_of(size)
    numbers = per_axis(size, rank), per_axis(strides if strides else size, rank)

    def made(sizes: Any, channels: Any) -> Any:
        counts = windows(sizes, *numbers, padding, per_axis(dilation_rate, rank))
        return counts, None if channels is None else channels * math.prod(numbers[0])

    return _resized(x, data_format, "extract_patches", made, rank)


@composite(inputs=1, shape=_patches_shape)
def extract_patches(
    images: Any, size: Any, strides: Any = None, dilation_rate: Any = 1, padding: str = "valid",
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """The windows of pictures or volumes, each as one vector.

    Args:
        images: (height, width, channels) or a batch of such; with three sizes (depth, height, width, channels).
        size: of a window: a number, or two or three of them.
        strides: from window to window, default `size`, so that they do not overlap.
        dilation_rate: from pixel to pixel of a window.
        padding: `"valid"`, or `"same"` with zeros at the edges.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        (rows, columns, height * width * channels of a window), or a batch of such, channels first where they were.

    Raises:
        ValueError: for shapes that do not fit; TypeError: for a size of another kind.

    >>> from minikeras import ops
    >>> ops.image.extract_patches(ops.reshape(ops.arange(16), (4, 4, 1)), 2).numpy()[0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    return _extract(images, size, strides, dilation_rate, padding, data_format, _rank_of(size))


def _patches_3d_shape(volumes: Any, **settings: Any) -> Any:
    return _patches_shape(volumes, rank=3, **settings)


@composite(inputs=1, shape=_patches_3d_shape, keras="keras.src.ops.image.ExtractPatches")
def extract_patches_3d(
    volumes: Any, size: Any, strides: Any = None, dilation_rate: Any = 1, padding: str = "valid",
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """The windows of volumes, each as one vector; arguments as for `extract_patches`, with three sizes.

    Args:
        size: size of the patches.
        strides: steps between windows, one number or one for each axis.
        dilation_rate: steps within a window.
        padding: `"valid"` (none) or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> from minikeras import ops
    >>> ops.image.extract_patches_3d(ops.ones((4, 4, 4, 1)), 2).shape
    (2, 2, 2, 8)
    """
    return _extract(volumes, size, strides, dilation_rate, padding, data_format, 3)


def _extract(images: Any, size: Any, strides: Any, dilation: Any, padding: str, data_format: Any, rank: int) -> Any:
    x, undo = _channels_last(images, data_format, "extract_patches", rank)
    first = x.ndim - rank - 1
    numbers = per_axis(size, rank), per_axis(strides if strides else size, rank), per_axis(dilation, rank)
    pads = explicit_padding(padding, tuple(x.shape[first:-1]), *numbers)
    counts: Any = windows(x.shape[first:-1], numbers[0], numbers[1], padding, numbers[2])
    if any(map(any, pads)):
        x = shaping.pad(x, _with(((0, 0),) * x.ndim, first, *pads))
    for axis, (count, n, step, apart) in enumerate(zip(counts, *numbers, strict=True)):
        picks = np.arange(count)[:, None] * step + np.arange(n) * apart
        x = shaping.take(x, fixed(k.to_device(picks)), axis=first + 2 * axis)
    outer = [first + 2 * axis for axis in range(rank)]
    x = shaping.transpose(x, [*range(first), *outer, *[axis + 1 for axis in outer], x.ndim - 1])
    return undo(shaping.reshape(x, (*x.shape[: first + rank], -1)))


def _reconstructed(
    counts: Any, depth: Any, *, size: Any, output_size: Any, strides: Any, padding: str
) -> tuple[Any, Any, Any]:
    """The sizes of a window, those that all windows cover, and those of the picture."""
    owner, rank = "reconstruct_patches", len(counts)
    sizes = per_axis(size, rank)
    if strides and per_axis(strides, rank) != sizes:
        raise NotImplementedError(f"{owner} takes windows side by side, with strides of {sizes}, got {strides!r}.")
    one_of("padding", padding, ("valid", "same"), owner=owner)
    covered = tuple(None if n is None else n * m for n, m in zip(counts, sizes, strict=True))
    wanted = covered if output_size is None and padding == "valid" else tuple(output_size or ())
    needed = tuple(None if n is None else -(-n // m) for n, m in zip(wanted, sizes, strict=False))
    fits = shapes.agree(needed, counts) and len(wanted) == rank
    fits = fits and (padding == "same" or shapes.agree(wanted, covered))
    if not fits or (depth is not None and depth % math.prod(sizes)):
        raise ValueError(
            f"{owner} needs an output_size that {counts} windows of {sizes} cover with padding={padding!r}, got "
            f"{output_size!r} for patches with {depth} numbers each."
        )
    return sizes, covered, wanted


def _reconstructed_shape(patches: Any, *, data_format: Any, **settings: Any) -> Any:
    def made(counts: Any, depth: Any) -> Any:
        sizes, _, wanted = _reconstructed(counts, depth, **settings)
        return wanted, None if depth is None else depth // math.prod(sizes)

    return _resized(patches, data_format, "reconstruct_patches", made, _rank_of(settings["size"]))


@composite(inputs=1, shape=_reconstructed_shape)
def reconstruct_patches(
    patches: Any, size: Any, output_size: Any = None, strides: Any = None, padding: str = "valid",
    data_format: str | None = None,
) -> Any:  # fmt: skip
    """Pictures or volumes of their windows: the inverse of `extract_patches` for windows that do not overlap.

    Args:
        patches: what `extract_patches` returned.
        size: of a window, as there.
        output_size: (height, width), or three sizes: those of the picture, needed for `padding="same"`; default what
            the windows cover.
        strides: `size`, or None.
        padding, data_format: as for `extract_patches`.

    Raises:
        ValueError: where shapes do not fit together; NotImplementedError: for windows that overlap.

    >>> from minikeras import ops
    >>> image = ops.reshape(ops.arange(16), (4, 4, 1))
    >>> bool(ops.all(ops.image.reconstruct_patches(ops.image.extract_patches(image, 2), 2) == image))
    True
    """
    rank = _rank_of(size)
    x, undo = _channels_last(patches, data_format, "reconstruct_patches", rank)
    first = x.ndim - rank - 1
    counts, sample = tuple(x.shape[first:-1]), x.shape[:first]
    settings = {"size": size, "output_size": output_size, "strides": strides, "padding": padding}
    sizes, covered, wanted = _reconstructed(counts, x.shape[-1], **settings)
    x = shaping.reshape(x, (*sample, *counts, *sizes, -1))
    pairs = [axis for one in range(rank) for axis in (first + one, first + rank + one)]
    x = shaping.transpose(x, [*range(first), *pairs, x.ndim - 1])
    x = shaping.reshape(x, (*sample, *covered, -1))
    starts = [(n - m) // 2 for n, m in zip(covered, wanted, strict=True)]
    ranges = tuple(slice(start, start + n) for start, n in zip(starts, wanted, strict=True))
    return undo(x[(slice(None),) * first + ranges])


# ---------------------------------------------------------------- filters


def _band(values: np.ndarray, length: int, padding: str = "same") -> Weights:
    """The matrix of a correlation with a few values along an axis, zeros outside (`"same"`) or none (`"valid"`)."""
    reach = len(values)
    before = (reach - 1) // 2 if padding == "same" else 0
    target = length if padding == "same" else length - reach + 1
    if target < 1:
        raise TooSmall(f"A filter of {reach} values does not fit into pictures with {length} pixels along an axis.")
    matrix = np.zeros((target, length + reach))
    places = np.arange(target)
    for tap, value in enumerate(values):
        matrix[places, places + tap] = value
    return Weights(np.ascontiguousarray(matrix[:, before : before + length]))


def _gaussian(size: int, sigma: float, length: int, padding: str = "same") -> Weights:
    values = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return _band(values / values.sum(), length, padding)


@composite(inputs=1, shape=shapes.like)
def gaussian_blur(images: Any, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: Any = None) -> Any:
    """Pictures smoothed by a Gaussian; outside of them is 0.

    Args:
        images: (height, width, channels), or a batch of such.
        kernel_size: height and width of the filter in pixels.
        sigma: its standard deviations along height and width, in pixels.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> from minikeras import ops
    >>> print(ops.image.gaussian_blur(ops.ones((3, 3, 1)), (1, 3)).numpy()[0, :, 0].round(3))
    [0.726 1.    0.726]
    """
    owner, images = "gaussian_blur", _tensor(images)
    first = height_axis(images.shape, data_format, owner)
    deviations = k.to_host(raw(sigma)).tolist()
    for axis, size, deviation in zip((first, first + 1), kernel_size, deviations, strict=True):
        size, deviation = whole("kernel_size", size, 1, owner=owner), number("sigma", deviation, above=0, owner=owner)
        images = _along(images, _gaussian(size, deviation, images.shape[axis]), axis)
    return images


def box_sum(images: Any, first: int) -> Any:
    """The sums of 3 x 3 pixels of pictures whose height is axis `first`; outside is 0."""
    for axis in (first, first + 1):
        images = _along(images, _band(np.ones(3), images.shape[axis]), axis)
    return images


_SMOOTH, _SLOPE = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])


@composite(inputs=1, shape=lambda images, **settings: shapes.Spec((*images.shape, 2), images.dtype))
def sobel_edges(images: Any, data_format: str | None = None) -> Any:
    """How fast the values of pictures change downwards and to the right, by Sobel's filters; outside is 0.

    Args:
        images: a batch (batch, height, width, channels).
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        The shape of `images` and one more axis of size 2: along the height, along the width.

    >>> from minikeras import ops
    >>> ops.image.sobel_edges(ops.reshape(ops.arange(9.0), (1, 3, 3, 1))).numpy()[0, 1, 1, 0].tolist()
    [24.0, 8.0]
    """
    images = _tensor(images)
    if images.ndim != 4:
        raise ValueError(f"sobel_edges takes a batch of pictures, got shape {tuple(images.shape)}.")
    first = height_axis(images.shape, data_format, "sobel_edges")
    edges = []
    for down, right in ((_SLOPE, _SMOOTH), (_SMOOTH, _SLOPE)):
        y = _along(images, _band(down, images.shape[first]), first)
        edges.append(_along(y, _band(right, images.shape[first + 1]), first + 1))
    return shaping.stack(edges, axis=-1)


def _ssim_shape(image1: Any, image2: Any, *, data_format: Any, filter_size: int, **settings: Any) -> Any:
    first = height_axis(image1.shape, data_format, "ssim")
    size = whole("filter_size", filter_size, 1, owner="ssim")
    if not shapes.agree(image1.shape, image2.shape):
        raise ValueError(f"ssim compares pictures of one shape, got {image1.shape} and {image2.shape}.")
    windows(image1.shape[first : first + 2], (size, size), (1, 1), "valid")
    return shapes.Spec(image1.shape[:-3], image1.dtype)


@composite(inputs=2, shape=_ssim_shape, keras="keras.src.ops.image.SSIM")
def ssim(
    image1: Any, image2: Any, max_val: float = 1.0, filter_size: int = 11, filter_sigma: float = 1.5,
    k1: float = 0.01, k2: float = 0.03, data_format: str | None = None,
) -> Any:  # fmt: skip
    """How alike pictures are in structure, 1 where they are equal (Wang et al. 2004).

    Args:
        image1, image2: (height, width, channels), or batches of such.
        max_val: the difference of the largest and the least value that pixels may have.
        filter_size, filter_sigma: size and standard deviation of the Gaussian windows that are compared.
        k1, k2: small numbers that keep quotients steady.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        A number for each picture.

    >>> from minikeras import ops
    >>> ops.image.ssim(ops.ones((2, 16, 16, 1)), ops.ones((2, 16, 16, 1))).numpy().tolist()
    [1.0, 1.0]
    """
    one, other = _tensor(image1), _tensor(image2)
    dtype, first = one.dtype, height_axis(one.shape, data_format, "ssim")
    size, sigma = whole("filter_size", filter_size, 1, owner="ssim"), number("filter_sigma", filter_sigma, above=0)
    if one.shape != other.shape:
        raise ValueError(f"ssim compares pictures of one shape, got {tuple(one.shape)} and {tuple(other.shape)}.")
    if dtype.kind != "f":
        one, other = core.cast(one, "float32"), core.cast(other, "float32")

    def smooth(x: Any) -> Any:
        for axis in (first, first + 1):
            x = _along(x, _gaussian(size, sigma, x.shape[axis], "valid"), axis)
        return x

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mean1, mean2 = smooth(one), smooth(other)
    variances = smooth(one * one) + smooth(other * other) - mean1 * mean1 - mean2 * mean2
    covariance = smooth(one * other) - mean1 * mean2
    alike = (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1 * mean1 + mean2 * mean2 + c1) * (variances + c2))
    return core.cast(reduction.mean(alike, axis=(-3, -2, -1)), dtype)


# ---------------------------------------------------------------- colours

_LUMA = Weights(np.array([[0.2989, 0.5870, 0.1140]]))


def _grey_shape(images: Any, *, data_format: Any) -> Any:
    def made(sizes: Any, channels: Any) -> Any:
        if channels not in (1, 3, None):
            raise ValueError(f"rgb_to_grayscale takes pictures with 1 or 3 channels, got {channels} of them.")
        return sizes, 1

    return _resized(images, data_format, "rgb_to_grayscale", made)


@composite(inputs=1, shape=_grey_shape, keras="keras.src.ops.image.RGBToGrayscale")
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Any:
    """The brightness of pictures, as ITU-R BT.601 weighs their colours: `0.2989 R + 0.587 G + 0.114 B`.

    Args:
        images: (height, width, 3), or a batch of such; of grey pictures themselves.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        The same with one channel, of the same type; of whole numbers what follows the point is cut off.

    >>> from minikeras import ops
    >>> print(ops.image.rgb_to_grayscale([[[100.0, 0.0, 0.0]]]).numpy().round(2))
    [[[29.89]]]
    """
    images, undo = _channels_last(images, data_format, "rgb_to_grayscale")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"rgb_to_grayscale takes pictures with 1 or 3 channels, got {images.shape[-1]} of them.")
    return undo(images if images.shape[-1] == 1 else core.cast(_along(images, _LUMA, images.ndim - 1), images.dtype))


def _colours(images: Any, data_format: Any, owner: str) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The three channels of pictures, and a function that makes pictures of three."""
    images, undo = _channels_last(images, data_format, owner)
    if images.dtype.char not in FLOATS or images.shape[-1] != 3:
        raise ValueError(f"{owner} takes floats with 3 channels, got {images.dtype} with {images.shape[-1]}.")
    return [images[..., i] for i in range(3)], lambda parts: undo(shaping.stack(parts, axis=-1))


@composite(inputs=1, shape=shapes.like, keras="keras.src.ops.image.RGBToHSV")
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Any:
    """Red, green and blue as hue, saturation and value, all from 0 to 1 (Smith 1978).

    Args:
        images: floats (height, width, 3), or a batch of such, from 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> from minikeras import ops
    >>> print(ops.image.rgb_to_hsv([[[0.0, 0.5, 0.0]]]).numpy().round(3))
    [[[0.333 1.    0.5  ]]]
    """
    channels, undo = _colours(images, data_format, "rgb_to_hsv")
    tiny = float(core._finfo(channels[0].dtype).eps)
    red, green, blue = (elementwise.where(elementwise.abs(one) < tiny, 0.0, one) for one in channels)
    value = elementwise.maximum(elementwise.maximum(red, green), blue)
    spread = value - elementwise.minimum(elementwise.minimum(red, green), blue)
    saturation = elementwise.where(value > 0, spread / elementwise.where(value > 0, value, 1.0), 0.0)
    sixth = 1 / (6 * elementwise.where(spread > 0, spread, 1.0))
    hue = elementwise.where(value == green, sixth * (blue - red) + 1 / 3, sixth * (red - green) + 2 / 3)
    hue = elementwise.where(value == red, sixth * (green - blue), hue)
    hue = elementwise.where(spread > 0, hue, 0.0) + core.cast(hue < 0, hue.dtype)
    return undo([hue, saturation, value])


@composite(inputs=1, shape=shapes.like, keras="keras.src.ops.image.HSVToRGB")
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Any:
    """Hue, saturation and value as red, green and blue, all from 0 to 1; arguments as for `rgb_to_hsv`.

    Args:
        images: pictures, one or a batch.
        data_format: `"channels_last"` or `"channels_first"`, default the global one.

    >>> from minikeras import ops
    >>> ops.image.hsv_to_rgb([[[0.0, 1.0, 0.5]]]).numpy().tolist()
    [[[0.5, 0.0, 0.0]]]
    """
    (hue, saturation, value), undo = _colours(images, data_format, "hsv_to_rgb")
    sixths = elementwise.mod(hue, 1.0) * 6.0
    shares = [elementwise.abs(sixths - 3.0) - 1.0, *(2.0 - elementwise.abs(sixths - n) for n in (2.0, 4.0))]
    parts = [value * (1.0 - saturation + saturation * elementwise.clip(one, 0.0, 1.0)) for one in shares]
    return undo(parts)


offer_names(__name__)
