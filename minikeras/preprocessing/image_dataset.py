"""Pictures in folders as a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from minikeras import config
from minikeras.preprocessing.directory_dataset import FORMATS, Options, directory_datasets
from minikeras.preprocessing.image.files import COLOR_MODES, load_img
from minikeras.preprocessing.image.resizing import INTERPOLATIONS, middle, resize, resized
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


@user_facing
def image_dataset_from_directory(
    directory: str | os.PathLike,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: int | Sequence[int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """A `Dataset` of the pictures in a folder (`.bmp`, `.gif`, `.jpeg`, `.jpg`, `.png`), read while it is iterated.

    Args:
        directory: a folder with one subfolder for each class.
        labels: `"inferred"` from the subfolders, None for none, or a list with the label of each file, sorted by path.
        label_mode: `"int"` (int32, shape `(batch,)`), `"categorical"` (float32 one-hot, `(batch, classes)`), `"binary"`
            (float32 0 or 1, `(batch, 1)`), or None: no labels.
        class_names: the subfolders in the order of their labels; default sorted.
        color_mode: `"grayscale"`, `"rgb"` or `"rgba"`.
        batch_size: pictures in a batch; None gives single pictures.
        image_size: (height, width) of the result in pixels.
        shuffle: mix the files once, and the pictures near each other anew in each pass; else sorted by path.
        seed: determines both; needed where `validation_split` is to split shuffled files.
        validation_split: fraction of the files, the last ones of their order, for validation.
        subset: `"training"`, `"validation"`, or `"both"`, which gives a list of two datasets.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"area"`, `"lanczos3"`, `"lanczos5"`, `"gaussian"` or
            `"mitchellcubic"`, without smoothing before a picture is made smaller.
        follow_links: also read folders that symbolic links lead to; links out of `directory` are refused.
        crop_to_aspect_ratio: cut the largest middle part of the target's aspect ratio out first.
        pad_to_aspect_ratio: keep the aspect ratio and fill up with black.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        format: `"tf"` or `"grain"`; as in Keras `"tf"` fills up after resizing, `"grain"` before it; else the same.
        verbose: say how many files were found.

    Returns:
        A `Dataset` of float32 pictures from 0 to 255, shape (batch, height, width, channels), or pairs of them and
        labels.  Its `class_names` and `file_paths` are lists; the paths are in the order before each pass mixes them.

    Raises:
        FileNotFoundError: where `directory` is no folder.
        ValueError: for arguments that do not fit each other or the files; while iterating, for a damaged picture.
        ImportError: without Pillow.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> os.mkdir(os.path.join(folder, "cats"))
    >>> keras.utils.save_img(os.path.join(folder, "cats", "1.png"), np.zeros((8, 8, 3)))
    >>> data = keras.utils.image_dataset_from_directory(folder, image_size=(4, 4), verbose=False)
    >>> [pictures.shape for pictures, labels in data]
    [(1, 4, 4, 3)]
    """
    one_of("color_mode", color_mode, COLOR_MODES)
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if not isinstance(image_size, (list, tuple)) or len(image_size) != 2:
        raise ValueError(f"image_size must be (height, width), got {image_size!r}.")
    one_of("interpolation", interpolation.lower(), INTERPOLATIONS)
    one_of("format", format, FORMATS)
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("Only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be True, got both.")
    load = partial(
        load_picture, size=tuple(image_size), color_mode=color_mode, interpolation=interpolation.lower(),
        crop=crop_to_aspect_ratio, pad=format if pad_to_aspect_ratio else None,
        data_format=config.standardize_data_format(data_format),
    )  # fmt: skip
    options = Options(
        labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, follow_links, verbose
    )
    return directory_datasets(directory, options, load, EXTENSIONS, "pictures")


def load_picture(
    path: str, size: tuple[int, int], color_mode: str, interpolation: str, crop: bool, pad: str | None, data_format: str
) -> np.ndarray:
    """A picture file as a float32 array of the given size, values from 0 to 255."""
    picture = np.asarray(load_img(path, color_mode=color_mode))
    if picture.ndim == 2:
        picture = picture[:, :, None]
    height, width = picture.shape[:2]
    if crop:
        picture = middle(picture, size)
    elif pad == "grain":
        above = (max(height, int(width * size[0] / size[1])) - height) // 2
        beside = 0 if above else (max(width, int(height * size[1] / size[0])) - width) // 2
        picture = np.pad(picture, ((above, above), (beside, beside), (0, 0)))
    if pad == "tf":
        picture = _filled_up(picture, size, interpolation)
    else:
        picture = _resized(picture, size, interpolation)
    return np.ascontiguousarray(picture.transpose(2, 0, 1)) if data_format == "channels_first" else picture


def _resized(picture: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    if interpolation == "nearest":
        return resize(picture, size, interpolation).astype(np.float32)
    return resized(picture, size, interpolation)


def _filled_up(picture: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The picture made as large as fits into `size`, in the middle of a black one."""
    shape, target = np.array(picture.shape[:2], np.float32), np.array(size, np.float32)
    exact = shape / (shape / target).max()  # in float32 and not rounded for the margins: TensorFlow's own arithmetic
    height, width = exact.astype(int).tolist()
    top, left = ((target - exact) / 2).astype(int).tolist()
    whole = np.zeros((*size, picture.shape[2]), np.float32)
    whole[top : top + height, left : left + width] = _resized(picture, (height, width), interpolation)
    return whole
