"""Pictures in files, as Pillow's images and as arrays.  Pillow loads when the first file does."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras.tracebacks import user_facing
from minikeras.utils.bounded import RATIO, Allowance
from minikeras.utils.checks import one_of

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
COLOR_MODES = {"grayscale": 1, "rgb": 3, "rgba": 4}  # and their channels
PICTURE_ENDINGS = ("jpg", "jpeg", "bmp", "png", "ppm", "tif", "tiff")
_GRAYSCALE_MODES = ("L", "I;16", "I")  # of 8, 16 and 32 bits, which stay as they are

_RATIO = 1000  # how many times its bytes in the file a picture may have at most; a blank page has some hundreds
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # Pillow would have Ghostscript run what begins so


class PictureError(OSError, ValueError):
    """A file that is no picture, a damaged one, or one that is too large to be opened safely."""


def _pillow(caller: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"{caller} needs Pillow, which is not installed; pip install 'minikeras[images]'.") from error
    return Image


@user_facing
def load_img(
    path: str | bytes | os.PathLike | io.BytesIO,
    color_mode: str = "rgb",
    target_size: Sequence[int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
    *,
    grayscale: bool | None = None,
) -> Any:
    """Read a picture from a file.

    As in Keras, what EXIF says about rotation is ignored (`PIL.ImageOps.exif_transpose` turns the picture), and of an
    animation the first frame is read.

    Args:
        path: file, or its content as `io.BytesIO`.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"`; the last leaves pictures of 16 and 32 bits as they are.
        target_size: (height, width) in pixels; None keeps the size.
        interpolation: how it is resized: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos"`, `"box"` or `"hamming"`.
        keep_aspect_ratio: cut the middle of the target's aspect ratio out before resizing, so that nothing is
            distorted.
        grayscale: Keras 2's name for `color_mode="grayscale"`.

    Returns:
        A `PIL.Image.Image`, completely read.

    Raises:
        PictureError: for a file that is empty, damaged, no picture, PostScript, or has more than twice
            `PIL.Image.MAX_IMAGE_PIXELS` pixels (178,956,970 together, unless it is set), or far more than its bytes
            can hold.
        FileNotFoundError, PermissionError: from opening it.
        ValueError: for an unknown color mode or interpolation.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "picture.png")
    >>> keras.utils.save_img(path, np.zeros((4, 6, 3)))
    >>> keras.utils.load_img(path, target_size=(2, 3)).size
    (3, 2)
    """
    image_module = _pillow("load_img")
    if isinstance(color_mode, bool):  # the second argument of Keras 2's load_img
        color_mode, grayscale = "rgb", color_mode
    if grayscale is not None:
        warnings.warn("grayscale is Keras 2's argument; use color_mode='grayscale'.", DeprecationWarning, stacklevel=2)
        color_mode = "grayscale" if grayscale else color_mode
    one_of("color_mode", color_mode, COLOR_MODES)
    if target_size is not None:
        one_of("interpolation", interpolation, INTERPOLATIONS)
    if isinstance(path, io.BytesIO):
        stream, name = path, "The picture in memory"
    elif isinstance(path, (str, bytes, os.PathLike)):
        with open(path, "rb") as file:
            stream = io.BytesIO(file.read())
        name = os.fsdecode(path)
    else:
        raise TypeError(f"path must be a path or io.BytesIO, got {type(path).__name__}.")
    if not stream.getbuffer().nbytes:
        raise PictureError(f"{name} is empty, got 0 bytes; replace it or leave it out.")
    if stream.getvalue()[:4] in _POSTSCRIPT:
        raise PictureError(f"{name} is a PostScript program, which is not run; convert it to a picture.")
    try:
        image = image_module.open(stream)
        pixels = math.prod(image.size) * len(image.getbands())
        Allowance(_RATIO // RATIO * stream.getbuffer().nbytes).spend(pixels, "its header")
        image.load()
        return _converted(image, color_mode, target_size, interpolation, keep_aspect_ratio)
    except Exception as error:  # decoders raise whatever the damage leads them to
        unknown = isinstance(error, image_module.UnidentifiedImageError)
        reason = "Pillow knows no such format" if unknown else error
        raise PictureError(f"{name} cannot be read as a picture: {reason}; replace it or leave it out.") from error


def _converted(image: Any, color_mode: str, target_size: Any, interpolation: str, keep_aspect_ratio: bool) -> Any:
    if color_mode == "grayscale":
        if image.mode not in _GRAYSCALE_MODES:
            image = image.convert("L")
    elif image.mode != color_mode.upper():
        image = image.convert(color_mode.upper())
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    size = int(target_size[1]), int(target_size[0])
    method = getattr(_pillow("load_img").Resampling, interpolation.upper())
    if not keep_aspect_ratio:
        return image.resize(size, method)
    width, height = image.size
    cut_width, cut_height = min(width, height * size[0] // size[1]), min(height, width * size[1] // size[0])
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return image.resize(size, method, box=(left, top, left + cut_width, top + cut_height))


@user_facing
def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """A picture as an array of rank 3.

    Args:
        img: a `PIL.Image.Image`, or an array of rank 2 or 3.
        data_format: layout of the result, default `config.image_data_format()`.
        dtype: type of the result, default `config.floatx()`.

    Returns:
        (height, width, channels), or (channels, height, width) for `"channels_first"`.

    Raises:
        ValueError: for what has neither rank 2 nor rank 3.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras.utils.img_to_array(keras.utils.array_to_img(np.zeros((4, 6, 3)))).shape
    (4, 6, 3)
    """
    channels_first = config.standardize_data_format(data_format) == "channels_first"
    array = np.asarray(img, dtype=config.floatx() if dtype is None else dtype)
    if array.ndim == 3:
        return array.transpose(2, 0, 1) if channels_first else array
    if array.ndim == 2:
        return array[None] if channels_first else array[..., None]
    raise ValueError(f"A picture has rank 2 or 3, got the shape {array.shape}; pass one picture.")


@user_facing
def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Any:
    """An array of rank 3 as a picture.

    Args:
        x: (height, width, channels), or (channels, height, width) for `"channels_first"`; 1, 3 or 4 channels.
        data_format: layout of `x`, default `config.image_data_format()`.
        scale: stretch the values so that the least becomes 0 and the largest 255; else they are cut to whole numbers.
        dtype: the type in which that is computed, default `config.floatx()`.

    Returns:
        A `PIL.Image.Image`; of 32-bit integers for one channel with unscaled values above 255, else of bytes.

    Raises:
        ValueError: for another rank or number of channels.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> keras.utils.array_to_img(np.zeros((4, 6, 3))).size
    (6, 4)
    """
    image_module = _pillow("array_to_img")
    channels_first = config.standardize_data_format(data_format) == "channels_first"
    array = np.asarray(x, dtype=config.floatx() if dtype is None else dtype)
    if array.ndim != 3:
        raise ValueError(f"array_to_img takes one picture of rank 3, got the shape {array.shape}.")
    if channels_first:
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in (1, 3, 4):
        raise ValueError(f"A picture has 1, 3 or 4 channels, got {array.shape[2]}; check data_format.")
    if scale:
        array = array - array.min()
        most = array.max()
        if most != 0:
            array /= most
        array *= 255
    values = array if array.shape[2] > 1 else array[:, :, 0]
    wide = values.ndim == 2 and values.max() > 255
    return image_module.fromarray(np.ascontiguousarray(values.astype("int32" if wide else "uint8")))


@user_facing
def save_img(
    path: Any, x: Any, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs: Any
) -> None:
    """Write an array of rank 3 to a file as a picture.

    Args:
        path: path or file object.
        x, data_format, scale: as in `array_to_img`.
        file_format: such as `"png"`; default what the path ends in.
        **kwargs: for `PIL.Image.Image.save`.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "picture.png")
    >>> keras.utils.save_img(path, np.zeros((4, 6, 3)))
    >>> os.path.exists(path)
    True
    """
    if file_format is None and isinstance(path, (str, os.PathLike)):
        file_format = os.path.splitext(os.fspath(path))[1][1:].lower() or None
    if file_format is not None and file_format.lower() == "jpg":
        file_format = "jpeg"
    image = array_to_img(x, data_format=data_format, scale=scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warnings.warn("JPEG has no transparency; the picture is saved without.", stacklevel=2)
        image = image.convert("RGB")
    image.save(path, format=file_format, **kwargs)


def list_pictures(directory: str | os.PathLike, ext: str | Sequence[str] = PICTURE_ENDINGS) -> list[str]:
    """Paths of the pictures in a folder and all below it, by the endings of their names (without the dot), sorted."""
    endings = tuple(f".{one}".lower() for one in ((ext,) if isinstance(ext, str) else ext))
    found = (os.path.join(folder, name) for folder, _, names in os.walk(os.fspath(directory)) for name in names)
    return sorted(path for path in found if path.lower().endswith(endings))
