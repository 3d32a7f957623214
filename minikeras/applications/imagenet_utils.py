"""Pictures as networks trained on ImageNet expect them, the names of its classes, and the shapes of inputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from minikeras import config, ops
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.datasets import files
from minikeras.tracebacks import user_facing
from minikeras.utils import data_utils
from minikeras.utils.checks import one_of, shown, whole

STORE = "https://storage.googleapis.com/"  # where Keras keeps weights and names
_NAMES = ("imagenet_class_index.json", "download.tensorflow.org/data/", "c2c37ea517e94d9795004a39431a14cb")
_FORMATS = ("channels_first", "channels_last")
# divisor of the pixels, whether red and blue change places, what is subtracted from the channels, and their divisors
_MODES: dict[str, tuple[float | None, bool, Any, Any]] = {
    "caffe": (None, True, (103.939, 116.779, 123.68), None),
    "tf": (127.5, False, 1.0, None),
    "torch": (255.0, False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def fetch(name: str, folder: str, checksum: str | None, remote: str = "") -> str:
    """The path of a file in Keras's cache (`~/.keras/models`), downloaded and checked where it is not there."""
    return data_utils.get_file(name, f"{STORE}{folder}{remote or name}", cache_subdir="models", file_hash=checksum)


@user_facing
def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Pictures with values from 0 to 255 as a network expects them.

    Args:
        x: one picture or a batch, with red, green and blue: a NumPy array, a tensor, or a symbolic tensor.
        data_format: `"channels_first"` or `"channels_last"`; by default (None) `config.image_data_format()`.
        mode: `"caffe"`: blue, green, red, each minus its mean over ImageNet; `"tf"`: scaled to -1 to 1; `"torch"`:
            scaled to 0 to 1, minus the mean and divided by the deviation of each channel over ImageNet.

    Returns:
        The same kind of thing, of floating type.  `x` is left as it was.

    Raises:
        ValueError: for another mode or format, or pictures without three channels.

    Example:

    >>> import numpy as np
    >>> from minikeras.applications import imagenet_utils
    >>> imagenet_utils.preprocess_input(np.array([[[0, 127.5, 255]]]), mode="tf")
    array([[[-1.,  0.,  1.]]])
    """
    divisor, swapped, mean, deviation = _MODES[one_of("mode", mode, _MODES)]
    data_format = one_of("data_format", data_format or config.image_data_format(), _FORMATS)
    plain = isinstance(x, np.ndarray)
    x = x if plain or isinstance(x, KerasTensor) else ops.convert_to_tensor(x)
    axis = -1 if data_format == "channels_last" else 0 if len(x.shape) == 3 else 1
    if mode != "tf" and (len(x.shape) < 3 or x.shape[axis] not in (3, None)):
        raise ValueError(f"Pictures need 3 channels, here the axis {axis}, got the shape {tuple(x.shape)}.")
    if "float" not in str(x.dtype):
        x = x.astype(config.floatx()) if plain else ops.cast(x, config.floatx())
    around = (1,) * (-1 - axis + len(x.shape)) if axis >= 0 else ()

    def along(values: Any) -> Any:
        array = values if isinstance(values, float) else np.reshape(values, (3, *around))
        return np.asarray(array, x.dtype) if plain else ops.convert_to_tensor(array, dtype=x.dtype)

    x = x / divisor if divisor else x
    if swapped:
        x = np.flip(x, axis) if plain else ops.flip(x, axis)
    x = x - along(mean)
    return x if deviation is None else x / along(deviation)


@user_facing
def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, Any]]]:
    """The most probable classes of ImageNet, whose names are read from Keras's cache or downloaded.

    Args:
        preds: an array or tensor of shape (pictures, 1000).
        top: how many classes are named for each picture.

    Returns:
        For each picture a list of (identifier in WordNet, name, probability), the most probable first.

    Raises:
        ValueError: for another shape.
        OSError: where the names are neither in the cache nor can be downloaded.

    Example:

    >>> from minikeras import applications
    >>> model = applications.ResNet50()  # doctest: +SKIP
    >>> applications.resnet50.decode_predictions(model.predict(pictures), top=1)  # doctest: +SKIP
    [[('n02504458', 'African_elephant', 0.82)]]
    """
    if len(preds.shape) != 2 or preds.shape[1] != 1000:
        raise ValueError(f"decode_predictions expects an array of shape (pictures, 1000), got {tuple(preds.shape)}.")
    name, folder, checksum = _NAMES
    names = files.read_json(Path(fetch(name, folder, checksum)))
    values, top = ops.convert_to_numpy(preds), whole("top", top, 1)
    order = np.argsort(values)[:, -top:][:, ::-1]
    return [[(*names[str(i)], row[i]) for i in best] for row, best in zip(values, order, strict=True)]


def obtain_input_shape(
    input_shape: Any, default_size: int, min_size: int, data_format: str, require_flatten: bool, weights: Any = None
) -> tuple[int | None, ...]:
    """The shape of a network's pictures, without the batch.

    Args:
        input_shape: what was asked for, or None.
        default_size, min_size: usual and least height and width in pixels.
        data_format: `"channels_first"` or `"channels_last"`.
        require_flatten: whether the sizes must be known.
        weights: `"imagenet"`, a path or None.

    Raises:
        ValueError: where the shape is too small, open, or not that of the weights.

    Example:

    >>> from minikeras.applications.imagenet_utils import obtain_input_shape
    >>> obtain_input_shape(None, 224, 32, "channels_last", require_flatten=True)
    (224, 224, 3)
    """
    first, trained = data_format == "channels_first", weights == "imagenet"
    shape = tuple(input_shape) if input_shape else None
    channels = 3
    if shape and len(shape) != 3:
        raise ValueError(f"input_shape must be a tuple of three integers, got {shown(input_shape)}.")
    if shape and not trained:
        channels = shape[0 if first else -1]
        if channels not in (1, 3):
            warnings.warn(f"This model usually expects 1 or 3 channels, got input_shape={shape}.", stacklevel=2)
    default = (channels, default_size, default_size) if first else (default_size, default_size, channels)
    if trained and require_flatten and shape not in (None, default):
        raise ValueError(f"With weights='imagenet' and include_top=True input_shape must be {default}, got {shape}.")
    if shape is None:
        return default if require_flatten else tuple(None if size == default_size else size for size in default)
    if trained and shape[0 if first else -1] != 3:
        raise ValueError(f"With weights='imagenet' pictures have 3 channels, got input_shape={shape}.")
    if any(size is not None and size < min_size for size in (shape[1:] if first else shape[:2])):
        raise ValueError(f"Pictures must be at least {min_size}x{min_size} large, got input_shape={shape}.")
    if require_flatten and None in shape:
        raise ValueError(f"With include_top=True the sizes must be known, got input_shape={shape}.")
    return shape
