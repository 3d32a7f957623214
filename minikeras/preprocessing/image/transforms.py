"""Changes to a single picture: affine maps, shifts of its colours and its brightness, and their random forms.

The random ones draw from NumPy's global generator, exactly as Keras does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.kernels.reference.image import FILL_MODES
from minikeras.utils.checks import number, one_of, whole

_GROUP = 1 << 16  # values that are brightened at a time, few enough to stay in the cache


def affine_matrices(
    height: int,
    width: int,
    theta: Any = 0.0,
    tx: Any = 0.0,
    ty: Any = 0.0,
    shear: Any = 0.0,
    zx: Any = 1.0,
    zy: Any = 1.0,
) -> np.ndarray:
    """What `kernels.affine_images` takes for rotation, shift, shear and zoom about the middle of a picture.

    Each of the parameters is a number or one for each picture.  The matrix is R(theta) T(tx, ty) S(shear) Z(zx, zy),
    from output to input, on coordinates (x, y): x counts columns, y counts rows, and the middle of the picture is at
    (width / 2 - 1/2, height / 2 - 1/2).  Rows come first in the result, as in an array.  Keras has the same matrices
    (`apply_affine_transform`), but for pictures that are not square a middle with the two halves exchanged.

    Returns:
        (batch, 2, 3) float64.
    """
    parameters = np.empty((6, max(map(np.size, (theta, tx, ty, shear, zx, zy)))))
    for row, parameter in zip(parameters, (theta, tx, ty, shear, zx, zy), strict=True):
        row[:] = parameter
    angles = np.deg2rad(parameters[::3])
    (cosine, rise), (sine, lean) = np.cos(angles), np.sin(angles)
    _, tx, ty, _, zx, zy = parameters
    middle_x, middle_y = width / 2 - 0.5, height / 2 - 0.5
    xx, xy = cosine * zx, -(cosine * lean + sine * rise) * zy
    yx, yy = sine * zx, (cosine * rise - sine * lean) * zy
    matrices = np.empty((len(tx), 2, 3))
    matrices[:, 1, 1], matrices[:, 1, 0] = xx, xy
    matrices[:, 0, 1], matrices[:, 0, 0] = yx, yy
    matrices[:, 1, 2] = (cosine * tx - sine * ty + middle_x) - (xx * middle_x + xy * middle_y)
    matrices[:, 0, 2] = (sine * tx + cosine * ty + middle_y) - (yx * middle_x + yy * middle_y)
    return matrices


def transform_matrix_offset_center(matrix: Any, x: float, y: float) -> np.ndarray:
    """A (3, 3) map about the origin as the same about the middle of x by y pixels, (x / 2 - 1/2, y / 2 - 1/2)."""
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2] = float(x) / 2 - 0.5, float(y) / 2 - 0.5
    back[:2, 2] = -to_middle[:2, 2]
    return to_middle @ matrix @ back


def apply_affine_transform(
    x: Any,
    theta: float = 0,
    tx: float = 0,
    ty: float = 0,
    shear: float = 0,
    zx: float = 1,
    zy: float = 1,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    order: int = 1,
) -> np.ndarray:
    """Rotate, shift, shear and zoom a picture.

    Args:
        x: picture of rank 3.
        theta: rotation in degrees.
        tx, ty: shifts in pixels, sideways and up or down: the result begins at column `tx` and row `ty`.
        shear: in degrees.
        zx, zy: zoom of the width and of the height; above 1 the picture gets smaller.
        row_axis, col_axis, channel_axis: where its axes are; by default channels first.
        fill_mode: what is outside: `"constant"` (cval), `"nearest"`, `"reflect"` or `"wrap"`.
        cval: see there.
        order: degree of the interpolating spline, 0 to 5.

    Returns:
        A picture of the same shape and type (whole numbers are rounded and clipped to their type).

    Raises:
        ValueError: for another rank, axes that are not 0, 1 and 2 with the channels first or last, and numbers, a
            fill mode or an order that are none.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import apply_affine_transform
    >>> picture = np.arange(4.0).reshape(2, 2, 1)
    >>> apply_affine_transform(picture, theta=90, row_axis=0, col_axis=1, channel_axis=2)[..., 0]
    array([[1.00000000e+00, 3.00000000e+00],
           [2.22044605e-16, 2.00000000e+00]])
    """
    x = _picture(x, row_axis, col_axis, channel_axis)
    theta, tx, ty, shear = number("theta", theta), number("tx", tx), number("ty", ty), number("shear", shear)
    zx, zy, cval = number("zx", zx), number("zy", zy), number("cval", cval)
    order, fill_mode = whole("order", order, 0, at_most=5), one_of("fill_mode", fill_mode, FILL_MODES)
    if (theta, tx, ty, shear, zx, zy) == (0, 0, 0, 0, 1, 1):
        return x
    matrices = affine_matrices(x.shape[row_axis], x.shape[col_axis], theta, tx, ty, shear, zx, zy)
    if row_axis > col_axis:
        matrices = matrices[:, ::-1][:, :, [1, 0, 2]]
    picture = np.moveaxis(x, channel_axis, -1)
    if x.dtype.kind != "f":
        picture = picture.astype(np.float64)
    moved = k.affine_images(picture[None], None, matrices, order=order, fill_mode=fill_mode, cval=cval)
    return np.moveaxis(_as_type(k.to_host(moved)[0], x.dtype), -1, channel_axis)


def _picture(x: Any, row_axis: int, col_axis: int, channel_axis: int) -> np.ndarray:
    """One picture as an array, or a sentence."""
    axes = [row_axis, col_axis, channel_axis]
    if any(sum(one == axis and type(one) is not bool for one in axes) != 1 for axis in range(3)) or channel_axis == 1:
        named = f"row_axis={row_axis}, col_axis={col_axis}, channel_axis={channel_axis}"
        raise ValueError(f"The axes must be 0, 1 and 2, the channels first or last, got {named}.")
    return _of_rank_3(x)


def _of_rank_3(x: Any) -> np.ndarray:
    picture = np.asarray(x)
    if picture.ndim != 3 or picture.dtype.kind not in "fiub":
        what = f"the shape {picture.shape}" if picture.ndim != 3 else f"values of type {picture.dtype}"
        raise ValueError(f"This takes one picture of rank 3, an array of numbers, got {what}.")
    return picture


def two_numbers(name: str, meaning: str, value: Any) -> list[float]:
    """Two finite numbers, or a sentence."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, {meaning}, got {value!r}.")
    return [number(f"each number of {name}", one) for one in value]


def numpy_seed(seed: Any) -> int | None:
    """A seed for NumPy's global generator, or None, or a sentence."""
    return whole("seed", seed, 0, at_most=2**32 - 1, optional=True)


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values as numbers of a type: rounded half away from zero and clipped where those are whole."""
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.trunc(values + np.copysign(0.5, values)), limits.min, limits.max).astype(dtype)


def apply_channel_shift(x: Any, intensity: float, channel_axis: int = 0) -> np.ndarray:
    """Add `intensity` to every channel of a picture of rank 3, clipped to its least and largest value.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import apply_channel_shift
    >>> apply_channel_shift(np.array([[[0.0], [10.0]]]), 5.0, channel_axis=2)[..., 0]
    array([[ 5., 10.]])
    """
    x = _of_rank_3(x)
    return np.clip(x + number("intensity", intensity), x.min(), x.max())


def apply_brightness_shift(x: Any, brightness: float, scale: bool = True) -> np.ndarray:
    """Multiply a picture's brightness, in whole grey levels as Pillow's `ImageEnhance.Brightness` does.

    Args:
        x: picture of rank 3 in the layout `config.image_data_format()`, whose fourth channel, if there is one, is
            transparency and stays.
        brightness: the factor.
        scale: stretch the values to 0 to 255 first.  Where it is False this still happens for values outside of 0 to
            255, and is undone at the end.

    Returns:
        A picture of type `config.floatx()`.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import apply_brightness_shift
    >>> apply_brightness_shift(np.full((1, 1, 3), 100.0), 0.5, scale=False)
    array([[[50., 50., 50.]]], dtype=float32)
    """
    x, brightness = _of_rank_3(x), number("brightness", brightness)
    first = config.image_data_format() == "channels_first"
    picture = np.moveaxis(x, 0, -1) if first else x
    bright = brightened(picture[None], np.array([brightness]), scale)[0]
    return np.moveaxis(bright, -1, 0) if first else bright


def brightened(pictures: np.ndarray, brightness: np.ndarray, scale: bool = False) -> np.ndarray:
    """`apply_brightness_shift` of pictures (n, height, width, channels), a factor for each."""
    result = np.empty(pictures.shape, config.floatx())
    group = max(1, _GROUP // max(1, pictures[:1].size))
    for start in range(0, len(pictures), group):
        part = slice(start, start + group)
        _brighten(pictures[part], brightness[part].astype(np.float32).reshape(-1, 1, 1, 1), scale, result[part])
    return result


def _brighten(pictures: np.ndarray, factors: np.ndarray, scale: bool, out: np.ndarray) -> None:
    number = out.dtype.type
    least, most = (bound(axis=(1, 2, 3), keepdims=True) for bound in (pictures.min, pictures.max))
    outside = (least < 0) | (most > 255)
    stretched = outside | scale
    scaled = pictures
    if stretched.any():
        values = pictures.astype(out.dtype)
        above = values - values.min(axis=(1, 2, 3), keepdims=True)
        span = above.max(axis=(1, 2, 3), keepdims=True)
        scaled = np.where(stretched, above / np.where(span == 0, number(1), span) * number(255), values)
    levels = scaled.astype(np.uint8)
    bright = np.multiply(levels, factors, dtype=np.float32)
    np.clip(bright, 0, 255, out=bright)
    if levels.shape[-1] == 4:
        bright[..., 3] = levels[..., 3]
    out[...] = bright.astype(np.uint8)
    if not scale and outside.any():
        out[...] = np.where(outside, out / number(255) * (most - least) + least, out)


def flip_axis(x: Any, axis: int) -> np.ndarray:
    """A picture mirrored along an axis."""
    return np.flip(np.asarray(x), axis)


def random_rotation(
    x: Any,
    rg: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> np.ndarray:
    """Rotate a picture by up to `rg` degrees to either side; the other arguments as in `apply_affine_transform`.

    Args:
        x: tensor, array or number.
        row_axis: where the rows are.
        col_axis: where the columns are.
        channel_axis: where the channels are.
        fill_mode: what stands outside: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the value outside for `"constant"`.
        interpolation_order: 0 for the nearest pixel, 1 for bilinear.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_rotation
    >>> random_rotation(np.ones((3, 4, 4)), 30).shape
    (3, 4, 4)
    """
    rg = number("rg", rg)
    theta = np.random.uniform(-rg, rg)
    axes = row_axis, col_axis, channel_axis
    return apply_affine_transform(x, theta, 0, 0, 0, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_shift(
    x: Any,
    wrg: float,
    hrg: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> np.ndarray:
    """Shift a picture sideways by up to the part `wrg` of its width, and up or down by up to `hrg` of its height.

    Args:
        x: tensor, array or number.
        row_axis: where the rows are.
        col_axis: where the columns are.
        channel_axis: where the channels are.
        fill_mode: what stands outside: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the value outside for `"constant"`.
        interpolation_order: 0 for the nearest pixel, 1 for bilinear.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_shift
    >>> random_shift(np.ones((3, 4, 4)), 0.2, 0.2).shape
    (3, 4, 4)
    """
    x, wrg, hrg = _picture(x, row_axis, col_axis, channel_axis), number("wrg", wrg), number("hrg", hrg)
    tx = np.random.uniform(-wrg, wrg) * x.shape[col_axis]
    ty = np.random.uniform(-hrg, hrg) * x.shape[row_axis]
    axes = row_axis, col_axis, channel_axis
    return apply_affine_transform(x, 0, tx, ty, 0, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_shear(
    x: Any,
    intensity: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> np.ndarray:
    """Shear a picture by up to `intensity` degrees to either side.

    Args:
        x: tensor, array or number.
        row_axis: where the rows are.
        col_axis: where the columns are.
        channel_axis: where the channels are.
        fill_mode: what stands outside: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the value outside for `"constant"`.
        interpolation_order: 0 for the nearest pixel, 1 for bilinear.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_shear
    >>> random_shear(np.ones((3, 4, 4)), 10).shape
    (3, 4, 4)
    """
    intensity = number("intensity", intensity)
    shear = np.random.uniform(-intensity, intensity)
    axes = row_axis, col_axis, channel_axis
    return apply_affine_transform(x, 0, 0, 0, shear, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_zoom(
    x: Any,
    zoom_range: Any,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> np.ndarray:
    """Zoom a picture, both axes by factors of their own, between the two numbers of `zoom_range`.

    Args:
        x: tensor, array or number.
        row_axis: where the rows are.
        col_axis: where the columns are.
        channel_axis: where the channels are.
        fill_mode: what stands outside: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the value outside for `"constant"`.
        interpolation_order: 0 for the nearest pixel, 1 for bilinear.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_zoom
    >>> random_zoom(np.ones((3, 4, 4)), (0.8, 1.2)).shape
    (3, 4, 4)
    """
    zoom_range = two_numbers("zoom_range", "the least and the largest zoom", zoom_range)
    zx, zy = (1, 1) if zoom_range == [1, 1] else np.random.uniform(zoom_range[0], zoom_range[1], 2)
    axes = row_axis, col_axis, channel_axis
    return apply_affine_transform(x, 0, 0, 0, 0, zx, zy, *axes, fill_mode, cval, interpolation_order)


def random_channel_shift(x: Any, intensity_range: float, channel_axis: int = 0) -> np.ndarray:
    """Shift the values of a picture by up to `intensity_range`; see `apply_channel_shift`.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_channel_shift
    >>> random_channel_shift(np.ones((4, 4, 3)), 0.1, channel_axis=2).shape
    (4, 4, 3)
    """
    x, intensity_range = _of_rank_3(x), number("intensity_range", intensity_range)
    return apply_channel_shift(x, np.random.uniform(-intensity_range, intensity_range), channel_axis)


def random_brightness(x: Any, brightness_range: Any, scale: bool = True) -> np.ndarray:
    """Multiply a picture's brightness by a factor between the two of `brightness_range`.

    Args:
        x: tensor, array or number.
        scale: whether pixels are rescaled to 0 to 255 first and back after.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import random_brightness
    >>> random_brightness(np.ones((4, 4, 3)), (0.5, 1.5)).shape
    (4, 4, 3)
    """
    x, brightness_range = _of_rank_3(x), two_numbers("brightness_range", "the least and the largest", brightness_range)
    return apply_brightness_shift(x, np.random.uniform(brightness_range[0], brightness_range[1]), scale)
