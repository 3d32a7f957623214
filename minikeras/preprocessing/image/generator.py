"""ImageDataGenerator: random changes to pictures and their normalisation, for whole batches at a time.

The random parameters are drawn from NumPy's global generator in the order in which Keras draws them, so the same seed
gives the same pictures.  One thing differs: Keras shifts rows by `width_shift_range` and columns by
`height_shift_range`, against its documentation; here a width is shifted sideways.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.declared import Converted, Fielded, Number, OneOf, Whole, declared, field
from minikeras.kernels.reference.image import FILL_MODES
from minikeras.preprocessing.image import transforms
from minikeras.preprocessing.image.file_iterators import DataFrameIterator, DirectoryIterator
from minikeras.preprocessing.image.iterators import NumpyArrayIterator
from minikeras.utils.checks import number, one_of, whole

_GROUP = 1 << 22  # values of pictures that `fit` works on at a time


@dataclass
class Draws:
    """Random parameters of a batch, one of each for every picture; None where the generator does not change that."""

    matrices: np.ndarray | None  # (batch, 2, 3)
    flips: np.ndarray | None  # (batch, 2), left to right and top to bottom
    channel_shifts: np.ndarray | None
    brightness: np.ndarray | None

    def __getitem__(self, picks: Any) -> Draws:
        parts = (self.matrices, self.flips, self.channel_shifts, self.brightness)
        return Draws(*(None if part is None else part[picks] for part in parts))


def _shift_range(generator: Any, name: str, limit: Any) -> Any:
    """A range of shifts as it is given: a number, or a list or array of numbers to choose from."""
    if limit is None:
        return 0.0
    if not isinstance(limit, (list, tuple, np.ndarray)) or not np.ndim(limit):
        found = number(name, limit)
        return limit if isinstance(limit, (int, float)) else found if isinstance(limit, np.floating) else int(found)
    for one in limit:
        number(f"each of the {name}", one)
    return limit


def _zoom_range(generator: Any, name: str, given: Any) -> list[float]:
    """The least and the largest zoom."""
    if np.ndim(given) == 0 and not isinstance(given, (dict, set)):
        about = number(name, given or 0)
        limits = [1 - about, 1 + about]
    else:
        limits = transforms.two_numbers(name, "the least and the largest zoom", given)
    if min(limits) < 0:
        raise ValueError(f"{name} must not lead to zooms below 0, got {given!r}: {limits}.")
    return limits


def _brightness_range(generator: Any, name: str, given: Any) -> list[float] | None:
    return None if given is None else transforms.two_numbers(name, "the least and the largest factor", given)


_WITHOUT_NONE = Converted(lambda given: given or 0)
_IMPLIED = (  # an option, another one, and what that is because of it
    ("zca_whitening", "featurewise_center", True),
    ("zca_whitening", "featurewise_std_normalization", False),
    ("featurewise_std_normalization", "featurewise_center", True),
    ("samplewise_std_normalization", "samplewise_center", True),
)


@declared
class ImageDataGenerator(Fielded):
    """Batches of pictures with random changes, normalised.

    A picture goes through one affine map (rotation, shift, shear, zoom), channel shift, flips and brightness, then
    through `preprocessing_function`, `rescale`, the samplewise and the featurewise normalisation, and whitening.

    Args:
        featurewise_center: subtract the mean of each channel over the data that `fit` saw.
        samplewise_center: subtract each picture's mean.
        featurewise_std_normalization: divide by the standard deviation of each channel over that data; implies
            `featurewise_center`.
        samplewise_std_normalization: divide by each picture's standard deviation; implies `samplewise_center`.
        zca_whitening: decorrelate the values of that data; implies `featurewise_center` and switches
            `featurewise_std_normalization` off.
        zca_epsilon: added to the singular values.
        rotation_range: largest angle, in degrees.
        width_shift_range, height_shift_range: how far pictures move sideways, and up or down: a float below 1 is a part
            of the width or height, one from 1 on a number of pixels; an integer n means one of the whole numbers below
            n, a list one of its entries, either with a random sign.
        brightness_range: least and largest factor.
        shear_range: largest angle, in degrees.
        zoom_range: least and largest factor, or a number z for 1 - z and 1 + z; above 1 a picture gets smaller.
        channel_shift_range: largest value added to all channels.
        fill_mode: what lies outside of a picture: `"nearest"`, `"constant"`, `"reflect"` or `"wrap"`.
        cval: the value outside for `"constant"`.
        horizontal_flip, vertical_flip: mirror every second picture, at random.
        rescale: a factor for all values; None or 0 for none.
        preprocessing_function: called with each picture (rank 3) after the random changes; returns one of that shape.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        validation_split: the part of the data that `subset="validation"` means.
        interpolation_order: degree of the interpolating spline, 0 to 5.
        dtype: type of the batches, default `config.floatx()`.
        image_shape: the shape of one picture, where pictures come as flat rows (n, width).  Without it such rows are
            square pictures of one channel.  Batches of flat rows come back flat.

    Raises:
        ValueError: for arguments that make no sense, such as a range that is no finite number.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import ImageDataGenerator
    >>> changes = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True)
    >>> pictures, labels = next(changes.flow(np.ones((8, 6, 6, 3)), np.zeros(8), batch_size=4))
    >>> pictures.shape
    (4, 6, 6, 3)
    """

    featurewise_center: bool = False
    samplewise_center: bool = False
    featurewise_std_normalization: bool = False
    samplewise_std_normalization: bool = False
    zca_whitening: bool = False
    zca_epsilon: Annotated[float, Number(0)] = 1e-6
    rotation_range: Annotated[float, _WITHOUT_NONE, Number()] = 0
    width_shift_range: Annotated[Any, _shift_range] = 0.0
    height_shift_range: Annotated[Any, _shift_range] = 0.0
    brightness_range: Annotated[Any, _brightness_range] = None
    shear_range: Annotated[float, _WITHOUT_NONE, Number()] = 0.0
    zoom_range: Annotated[Any, _zoom_range] = 0.0
    channel_shift_range: Annotated[float, _WITHOUT_NONE, Number()] = 0.0
    fill_mode: Annotated[str, OneOf(*FILL_MODES)] = "nearest"
    cval: Annotated[float, Number()] = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rescale: Annotated[float | None, Number(optional=True)] = None
    preprocessing_function: Callable[[np.ndarray], Any] | None = None
    data_format: str | None = None
    validation_split: Annotated[float, _WITHOUT_NONE, Number(0, below=1)] = field(default=0.0, stored=False)
    interpolation_order: Annotated[int, Whole(0, at_most=5)] = 1
    dtype: Any = None
    image_shape: Sequence[int] | None = None

    def __post_init__(self, validation_split: float) -> None:  # type: ignore[override]
        self._validation_split = validation_split
        if self.preprocessing_function is not None and not callable(self.preprocessing_function):
            raise ValueError(f"preprocessing_function must be a function or None, got {self.preprocessing_function!r}.")
        self.dtype = config.floatx() if self.dtype is None else self.dtype
        try:
            kind: str = np.dtype(self.dtype).kind
        except TypeError:
            kind = "none"
        if kind not in "fiu":
            raise ValueError(f"dtype must be a type of numbers such as 'float32', got {self.dtype!r}.")
        self.data_format = config.image_data_format() if self.data_format is None else self.data_format
        one_of("data_format", self.data_format, ("channels_last", "channels_first"))
        self.channel_axis, self.row_axis, self.col_axis = (1, 2, 3) if self._channels_first else (3, 1, 2)
        if self.image_shape is not None:
            if not isinstance(self.image_shape, (list, tuple)) or len(self.image_shape) != 3:
                raise ValueError(f"image_shape must be the shape of one picture, of rank 3, got {self.image_shape!r}.")
            self.image_shape = tuple(whole("image_shape", one, 1) for one in self.image_shape)
        self._warned_of_flat_rows = False
        for cause, name, value in _IMPLIED:
            if getattr(self, cause) and getattr(self, name) != value:
                setattr(self, name, value)
                warnings.warn(f"{cause}=True implies {name}={value}, which is set.", stacklevel=3)
        self.mean: Any = None
        self.std: Any = None
        self.zca_whitening_matrix: Any = None

    @property
    def _channels_first(self) -> bool:
        return self.data_format == "channels_first"

    # Batches

    def flow(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        seed: int | None = None,
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Endless batches of arrays; see `NumpyArrayIterator` for the arguments."""
        return NumpyArrayIterator(
            x,
            y,
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            subset=subset,
            ignore_class_split=ignore_class_split,
            dtype=self.dtype,
        )

    def flow_from_directory(
        self,
        directory: str | os.PathLike,
        target_size: Sequence[int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        *,
        on_error: str = "raise",
    ) -> DirectoryIterator:
        """Endless batches of the pictures in a folder of folders; see `DirectoryIterator` for the arguments."""
        return DirectoryIterator(
            directory,
            self,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            follow_links=follow_links,
            subset=subset,
            interpolation=interpolation,
            keep_aspect_ratio=keep_aspect_ratio,
            dtype=self.dtype,
            on_error=on_error,
        )

    def flow_from_dataframe(
        self,
        dataframe: Any,
        directory: str | os.PathLike | None = None,
        x_col: str = "filename",
        y_col: Any = "class",
        weight_col: str | None = None,
        target_size: Sequence[int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation: str = "nearest",
        validate_filenames: bool = True,
        *,
        keep_aspect_ratio: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> DataFrameIterator:
        """Endless batches of the pictures that a pandas DataFrame names; see `DataFrameIterator` for the arguments.

        `class_mode="other"` is Keras 2's name for `"raw"`; `has_ext`, `sort` and `drop_duplicates` are its arguments,
        which change nothing.
        """
        for name in kwargs:
            if name not in ("has_ext", "sort", "drop_duplicates"):
                raise TypeError(f"flow_from_dataframe has no argument {name!r}.")
            warnings.warn(f"{name} is Keras 2's argument and changes nothing.", DeprecationWarning, stacklevel=2)
        if class_mode == "other":
            warnings.warn("class_mode='other' is now 'raw'.", DeprecationWarning, stacklevel=2)
            class_mode = "raw"
        return DataFrameIterator(
            dataframe,
            directory,
            self,
            x_col=x_col,
            y_col=y_col,
            weight_col=weight_col,
            target_size=target_size,
            color_mode=color_mode,
            classes=classes,
            class_mode=class_mode,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            subset=subset,
            interpolation=interpolation,
            keep_aspect_ratio=keep_aspect_ratio,
            dtype=self.dtype,
            validate_filenames=validate_filenames,
            on_error=on_error,
        )

    def as_pictures(self, x: np.ndarray) -> tuple[np.ndarray, bool]:
        """Flat rows (n, width) as pictures of rank 4, and whether they were flat.

        Raises:
            ValueError: for another rank, or for rows whose width does not fit.
        """
        if x.ndim == 4:
            return x, False
        if x.ndim != 2:
            raise ValueError(f"Pictures must have rank 4, or 2 as flat rows, got the shape {x.shape}.")
        return x.reshape(len(x), *self._shape_of_rows(x.shape[1])), True

    def _shape_of_rows(self, width: int) -> tuple[int, ...]:
        if self.image_shape is not None:
            if math.prod(self.image_shape) != width:
                raise ValueError(
                    f"Flat rows of pictures {self.image_shape} do not have {width} values; correct image_shape."
                )
            return tuple(self.image_shape)
        side = math.isqrt(width)
        if side * side != width or not width:
            raise ValueError(
                f"Flat rows of {width} values are no square pictures of one channel; pass image_shape=(height, width, "
                "channels) to the generator, or pictures of rank 4."
            )
        if not self._warned_of_flat_rows:
            self._warned_of_flat_rows = True
            warnings.warn(
                f"Flat rows of {width} values are taken for pictures of {side} x {side} pixels with one channel; pass "
                "image_shape to the generator to say so.",
                stacklevel=4,
            )
        return (1, side, side) if self._channels_first else (side, side, 1)

    # Random changes

    def get_random_transform(self, img_shape: Sequence[int], seed: int | None = None) -> dict[str, Any]:
        """Draw the parameters of a random change.

        Args:
            img_shape: shape of the picture, of rank 3.
            seed: for NumPy's global generator; None draws what comes next.

        Returns:
            theta and shear (degrees), tx and ty (pixels, along the width and the height), zx, zy, flip_horizontal,
            flip_vertical, channel_shift_intensity and brightness (None where they do not change).
        """
        if seed is not None:
            np.random.seed(seed)
        theta = np.random.uniform(-self.rotation_range, self.rotation_range) if self.rotation_range else 0
        tx = _drawn_shift(self.width_shift_range, img_shape[self.col_axis - 1])
        ty = _drawn_shift(self.height_shift_range, img_shape[self.row_axis - 1])
        shear = np.random.uniform(-self.shear_range, self.shear_range) if self.shear_range else 0
        zx, zy = np.random.uniform(self.zoom_range[0], self.zoom_range[1], 2) if self._zooms else (1, 1)
        flip_horizontal = (np.random.random() < 0.5) * self.horizontal_flip
        flip_vertical = (np.random.random() < 0.5) * self.vertical_flip
        shift, brightness = None, None
        if self.channel_shift_range != 0:
            shift = np.random.uniform(-self.channel_shift_range, self.channel_shift_range)
        if self.brightness_range is not None:
            brightness = np.random.uniform(*self.brightness_range)
        drawn = theta, tx, ty, shear, zx, zy, flip_horizontal, flip_vertical, shift, brightness
        return dict(zip(_DRAWN, drawn, strict=True))

    @property
    def _zooms(self) -> bool:
        return not (self.zoom_range[0] == 1 and self.zoom_range[1] == 1)

    def draw(self, shape: Sequence[int], count: int) -> Draws:
        """The parameters for `count` pictures of a shape, with the numbers that `get_random_transform` would draw."""
        moves = (self.rotation_range, self.width_shift_range, self.height_shift_range, self.shear_range)
        zoom = tuple(self.zoom_range) if self._zooms else None
        chances = (0.0, 1.0), (0.0, 1.0)
        colours = _both_sides(self.channel_shift_range), self.brightness_range
        ranges = dict(zip(_DRAWN, (*map(_both_sides, moves), zoom, zoom, *chances, *colours), strict=True))
        height, width = shape[self.row_axis - 1], shape[self.col_axis - 1]
        if _is_chosen(self.height_shift_range) or _is_chosen(self.width_shift_range):
            # whole numbers take another amount of the generator's bits each: they are drawn one by one
            drawn = [self.get_random_transform(shape) for _ in range(count)]
            columns: dict[str, Any] = {
                name: None if limits is None else np.array([one[name] for one in drawn], np.float64)
                for name, limits in ranges.items()
            }
        else:
            found = {name: limits for name, limits in ranges.items() if limits is not None}
            limits = np.array([*found.values()], np.float64)
            numbers = limits[:, 0] + (limits[:, 1] - limits[:, 0]) * np.random.random_sample((count, len(found)))
            columns = dict.fromkeys(ranges) | dict(zip(found, numbers.T, strict=True))
            for name, limit, length in (("tx", self.width_shift_range, width), ("ty", self.height_shift_range, height)):
                if columns[name] is not None and limit < 1:
                    columns[name] *= length
            columns["flip_horizontal"] = (columns["flip_horizontal"] < 0.5) & bool(self.horizontal_flip)
            columns["flip_vertical"] = (columns["flip_vertical"] < 0.5) & bool(self.vertical_flip)
        flips = None
        if self.horizontal_flip or self.vertical_flip:
            flips = np.stack([columns["flip_horizontal"], columns["flip_vertical"]], axis=1).astype(bool)
        affine = {name: columns[name] for name in _AFFINE if columns[name] is not None}
        matrices = transforms.affine_matrices(height, width, **affine) if affine else None
        return Draws(matrices, flips, columns["channel_shift_intensity"], columns["brightness"])

    def apply_transform(self, x: Any, transform_parameters: Mapping[str, Any]) -> np.ndarray:
        """Change a picture.

        Args:
            x: picture of rank 3, or a flat row.
            transform_parameters: as from `get_random_transform`; what is absent does not change.

        Returns:
            The changed picture, of the same shape.
        """
        x = np.asarray(x)
        if x.ndim == 1:
            return self.apply_transform(x.reshape(self._shape_of_rows(len(x))), transform_parameters).reshape(-1)
        if x.ndim != 3:
            raise ValueError(f"A picture has rank 3, or 1 as a flat row, got the shape {x.shape}.")
        row_axis, col_axis, channel_axis = self.row_axis - 1, self.col_axis - 1, self.channel_axis - 1
        get: Any = transform_parameters.get
        affine = {name: get(name, 1 if name in ("zx", "zy") else 0) for name in _AFFINE}
        x = transforms.apply_affine_transform(
            x,
            **affine,
            row_axis=row_axis,
            col_axis=col_axis,
            channel_axis=channel_axis,
            fill_mode=self.fill_mode,
            cval=self.cval,
            order=self.interpolation_order,
        )
        if get("channel_shift_intensity") is not None:
            x = transforms.apply_channel_shift(x, get("channel_shift_intensity"), channel_axis)
        if get("flip_horizontal", False):
            x = transforms.flip_axis(x, col_axis)
        if get("flip_vertical", False):
            x = transforms.flip_axis(x, row_axis)
        if get("brightness") is not None:
            picture = np.moveaxis(x, channel_axis, -1)[None]
            x = np.moveaxis(transforms.brightened(picture, np.array([get("brightness")]))[0], -1, channel_axis)
        return x

    def random_transform(self, x: Any, seed: int | None = None) -> np.ndarray:
        """A picture of rank 3, or a flat row, changed at random; `seed` is for NumPy's global generator."""
        shape = np.shape(x)
        shape = self._shape_of_rows(shape[0]) if len(shape) == 1 else shape
        return self.apply_transform(x, self.get_random_transform(shape, seed))

    @property
    def one_by_one(self) -> bool:
        """Whether pictures are changed one after the other: a function or method of somebody else sees each, and may
        draw random numbers of its own in between."""
        methods = ("get_random_transform", "apply_transform", "random_transform", "standardize")
        own = any(getattr(type(self), name) is not getattr(ImageDataGenerator, name) for name in methods)
        return own or bool(self.preprocessing_function) or np.dtype(self.dtype) not in (np.float32, np.float64)

    def transformed(
        self, images: np.ndarray, rows: np.ndarray | None, draws: Draws, scaled: bool = False
    ) -> np.ndarray:
        """The pictures `rows` (None: all) of `images`, of float32 or float64, changed as drawn.

        `scaled`: then multiplied by `rescale`.
        """
        if self._channels_first:
            images, rows = np.moveaxis(images if rows is None else images[rows], 1, -1), None
        last = scaled and draws.brightness is None and bool(self.rescale)
        moves = not (draws.matrices is None and draws.flips is None and draws.channel_shifts is None)
        if not moves and (not last or k.xp is not np):  # not worth a way to the device and back
            batch = images.copy() if rows is None else np.take(images, rows, axis=0)
            if last:
                batch *= self.rescale
        else:
            moved = k.affine_images(
                images,
                rows,
                draws.matrices,
                order=self.interpolation_order,
                fill_mode=self.fill_mode,
                cval=self.cval,
                channel_shifts=draws.channel_shifts,
                flips=draws.flips,
                scale=self.rescale if last else None,
            )
            batch = k.to_host(moved)
        if draws.brightness is not None:
            batch = transforms.brightened(batch, draws.brightness).astype(batch.dtype, copy=False)
            if scaled and self.rescale:
                batch *= self.rescale
        return np.ascontiguousarray(np.moveaxis(batch, -1, 1)) if self._channels_first else batch

    # Normalisation

    def standardize(self, x: Any) -> np.ndarray:
        """Normalise a picture or a batch, in place where that can be done.

        As in Keras, "samplewise" means all that is passed: pass one picture at a time (a batch of flat rows is taken
        row by row).

        Args:
            x: array of floats.

        Returns:
            The normalised values, of the same shape.
        """
        if isinstance(x, np.ndarray) and x.ndim == 1:
            return self.standardize(x.reshape(self._shape_of_rows(len(x)))).reshape(-1)
        if isinstance(x, np.ndarray) and x.ndim == 2:
            return np.stack([self.standardize(row) for row in x])
        if self.preprocessing_function:
            x = self.preprocessing_function(x)
        if self.rescale:
            x *= self.rescale
        return self._normalized(x, None)

    def normalized(self, batch: np.ndarray) -> np.ndarray:
        """A batch that `transformed` has scaled, with each picture normalised, in place where that can be done."""
        return self._normalized(batch, (1, 2, 3))

    def _normalized(self, x: Any, axes: tuple[int, ...] | None) -> Any:
        if self.samplewise_center:
            x -= np.mean(x, axis=axes, keepdims=True)
        if self.samplewise_std_normalization:
            x /= np.std(x, axis=axes, keepdims=True) + 1e-6
        if self.featurewise_center and self._is_fitted(self.mean, "featurewise_center"):
            x -= self.mean
        if self.featurewise_std_normalization and self._is_fitted(self.std, "featurewise_std_normalization"):
            x /= self.std + 1e-6
        if self.zca_whitening and self._is_fitted(self.zca_whitening_matrix, "zca_whitening"):
            flat = x.reshape(-1, math.prod(x.shape[-3:]))
            x = (flat @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def _is_fitted(self, value: Any, name: str) -> bool:
        if value is None:
            warnings.warn(f"{name} has no effect before fit() has seen data; call fit(x) first.", stacklevel=5)
        return value is not None

    def fit(self, x: Any, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Learn what the featurewise normalisation and whitening need, after `rescale`.

        Args:
            x: pictures of rank 4, or flat rows.
            augment: learn from randomly changed pictures.
            rounds: how many changed ones are made of each.
            seed: for NumPy's global generator.

        Raises:
            ValueError: for another rank, for rows whose width does not fit, and for `rounds` and a seed that are no
                such numbers.
        """
        rounds, seed = whole("rounds", rounds, 1), transforms.numpy_seed(seed)
        x, _ = self.as_pictures(np.asarray(x))
        channels = x.shape[self.channel_axis]
        if channels not in (1, 3, 4):
            place = f"axis {self.channel_axis} of the shape {x.shape}"
            message = f"Pictures have 1, 3 or 4 channels, got {channels} on {place}; check data_format."
            warnings.warn(message, stacklevel=2)
        if seed is not None:
            np.random.seed(seed)
        if augment:
            x = self._augmented(x.astype(self.dtype), rounds)
        if not (self.featurewise_center or self.featurewise_std_normalization or self.zca_whitening):
            return
        if not augment:
            x = np.array(x, dtype=self.dtype)
            if self.rescale:
                x *= self.rescale
        axes, values = (0, self.row_axis, self.col_axis), x.size / channels
        shape = [channels if axis == self.channel_axis else 1 for axis in (1, 2, 3)]
        step = max(1, _GROUP // max(1, math.prod(x.shape[1:])))
        groups = [x[start : start + step] for start in range(0, len(x), step)]  # views
        if self.featurewise_center:
            # summed in float64: float32 would lose the last digits, and in large sets of data more than these
            mean = sum(group.sum(axis=axes, dtype=np.float64) for group in groups) / values
            self.mean = mean.astype(x.dtype).reshape(shape)
            x -= self.mean
        if self.featurewise_std_normalization:
            middle = sum(group.sum(axis=axes, dtype=np.float64) for group in groups) / values
            middle = middle.reshape(shape)
            square = sum(np.square(group - middle).sum(axis=axes) for group in groups) / values
            self.std = np.sqrt(square).astype(x.dtype).reshape(shape)
            x /= self.std + 1e-6
        if self.zca_whitening:
            directions, sizes, _ = np.linalg.svd(x.reshape(len(x), -1).T, full_matrices=False)
            self.zca_whitening_matrix = (directions * (np.sqrt(len(x)) / (sizes + self.zca_epsilon))) @ directions.T

    def _augmented(self, x: np.ndarray, rounds: int) -> np.ndarray:
        """`rounds` times each picture, scaled, then changed."""
        if self.rescale:
            x *= self.rescale
        result = np.empty((rounds * len(x), *x.shape[1:]), x.dtype)
        for turn in range(rounds):
            part = result[turn * len(x) : (turn + 1) * len(x)]
            if self.one_by_one:
                for place, picture in enumerate(x):
                    part[place] = self.random_transform(picture)
            elif len(x):
                part[...] = self.transformed(x, None, self.draw(x.shape[1:], len(x)))
        return result


_AFFINE = ("theta", "tx", "ty", "shear", "zx", "zy")
_DRAWN = (*_AFFINE, "flip_horizontal", "flip_vertical", "channel_shift_intensity", "brightness")


def _is_chosen(limit: Any) -> bool:
    """Whether a shift is one of several whole numbers or entries, and not drawn from an interval."""
    if isinstance(limit, float):
        return False
    if np.ndim(limit):
        return True
    try:
        return operator.index(limit) > 0
    except TypeError:
        return False


def _both_sides(limit: Any) -> Any:
    """The interval of a range to either side of zero; None where that is nothing."""
    if isinstance(limit, (int, float)) or not np.ndim(limit):
        return (-limit, limit) if limit else None
    return (0, 0) if np.size(limit) else None


def _drawn_shift(limit: Any, length: int) -> Any:
    if not _both_sides(limit):
        return 0
    if _is_chosen(limit):
        shift = np.random.choice(limit) * np.random.choice([-1, 1])
    else:
        shift = np.random.uniform(-limit, limit)
    return shift * length if np.max(limit) < 1 else shift
