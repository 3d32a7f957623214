"""Preprocessing of pictures: what all such layers share, and those that move pixels.

They take pictures (height, width, channels), batches of them, or a dict with `"images"` and perhaps `"labels"` and
`"segmentation_masks"`, in a model, in `Dataset.map` and on NumPy arrays alike.  Random ones act in training, which is
what they take a call outside of a model for; each says how it draws a transformation, and how it carries one out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from minikeras import ops, random, tree
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.declared import Check, Kept, OneOf
from minikeras.layers.fields import DataFormat, Positive, declared, field
from minikeras.layers.layer import Layer
from minikeras.layers.spec import call_signature, map_shapes
from minikeras.ops import image
from minikeras.registry import deserialize_keras_object, serialize_keras_object
from minikeras.seeds import SeedGenerator
from minikeras.utils.checks import number, shown

__all__ = ["CenterCrop", "Pipeline", "RandomCrop", "RandomFlip", "RandomRotation", "RandomShear"]
__all__ += ["RandomTranslation", "RandomZoom", "Resizing"]


class Sizes(NamedTuple):
    """How many pictures there are, and the sizes of each."""

    batch: int
    height: int
    width: int


def Factor(low: float, high: float, symmetric: bool = False, inside: bool = False) -> Check:
    """The check of a number, or of a range to draw one from, kept as a pair.

    Args:
        low, high: the bounds of a number; a range has something in common with them.
        inside: whether a range has to lie between them.
        symmetric: whether a number `f` means the range from `-f`, as far as `low` allows, and not from the lower bound.
    """

    def check(layer: Any, name: str, value: Any) -> tuple[float, float]:
        given = value if isinstance(value, (list, tuple)) else (value,)
        pair = [one if type(one) is int else number(name, one, owner=type(layer).__name__) for one in given]
        if len(pair) == 1 and low <= pair[0] <= high:
            return max(-abs(pair[0]), low) if symmetric else max(0, low), abs(pair[0])
        ends = (min(pair), max(pair)) if inside else (max(pair), min(pair))
        if len(pair) != 2 or ends[0] < low or ends[1] > high:
            raise ValueError(
                f"{type(layer).__name__} needs for {name} a number from {low:g} to {high:g}, or two as a range, got "
                f"{shown(value)}."
            )
        return min(pair), max(pair)

    return check


def Supported(*choices: str) -> Check:
    """The check of one of a few words; of others Keras says that they are not implemented."""

    def check(layer: Any, name: str, value: Any) -> str:
        if value not in choices:
            raise NotImplementedError(f"{type(layer).__name__} takes one of {choices} for {name}, got {value!r}.")
        return value

    return check


FillMode = Annotated[str, Supported("reflect", "wrap", "constant", "nearest")]
Interpolation = Annotated[str, Supported("nearest", "bilinear")]
_ABOUT_ZERO = Factor(-1, 1, symmetric=True, inside=True)


@declared
class BaseImagePreprocessingLayer(Layer):
    """Base of layers that prepare pictures.

    A layer of your own draws what is to be done in `get_random_transformation` and does it in `transform_images`; where
    labels or masks change with the pictures, in `transform_labels` and `transform_segmentation_masks`.

    Args:
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        bounding_box_format: kept for files; bounding boxes are refused unless `transform_bounding_boxes` is defined.

    >>> import numpy as np
    >>> from minikeras.layers.image import BaseImagePreprocessingLayer
    >>> class Darker(BaseImagePreprocessingLayer):
    ...     def transform_images(self, images, transformation, training=True):
    ...         return images / 2 if training else images
    >>> Darker()(np.ones((2, 2, 1))).numpy().max().item()
    0.5
    """

    acts_always = False  # whether it does the same in inference
    keeps_type = False  # whether the result is of the pictures' type, and not of the type of the computation
    moves_pixels = False  # whether masks change with the pictures

    bounding_box_format: Any = field(default=None, kw_only=True)
    if TYPE_CHECKING:  # see `Layer`

        @property
        def data_format(self) -> Any: ...
    else:
        data_format: DataFormat = field(default=None, kw_only=True)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        """What is to be done to these pictures, drawn from `seed`, by default from the layer's own stream."""
        return None

    def transform_images(self, images: Any, transformation: Any = None, training: bool = True) -> Any:
        """A batch of pictures after a transformation."""
        images = ops.convert_to_tensor(images)
        images = images if self.keeps_type else ops.cast(images, self.compute_dtype)
        return self._transformed(images, transformation, training, getattr(self, "interpolation", "bilinear"))

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Masks (batch, height, width, channels) of the pictures after their transformation."""
        masks = ops.convert_to_tensor(segmentation_masks)
        return self._transformed(masks, transformation, training, "nearest") if self.moves_pixels else masks

    def _transformed(self, images: Any, transformation: Any, training: bool, interpolation: str) -> Any:
        acts = self.acts_always or (training and transformation is not None)
        return self._transform_images(images, transformation, interpolation) if acts else images

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        """Labels (batch, ...) of the pictures after their transformation."""
        return labels

    def transform_bounding_boxes(self, bounding_boxes: Any, transformation: Any, training: bool = True) -> Any:
        """Bounding boxes after the transformation of their pictures."""
        raise NotImplementedError(
            f"{type(self).__name__} does not transform bounding boxes; leave 'bounding_boxes' out of its inputs, or "
            "define transform_bounding_boxes in a subclass."
        )

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} does not define transform_images(); write there what it does."
        )

    def call(self, data: Any, training: bool = True) -> Any:
        images = data["images"] if isinstance(data, dict) else data
        if len(images.shape) not in (3, 4):
            self._refuse(f"takes pictures of rank 3 or batches of rank 4, got shape {tuple(images.shape)}")
        transformation = self.get_random_transformation(data, training=training)

        def each(transform: Callable[..., Any], value: Any) -> Any:
            if len(images.shape) == 4:
                return transform(value, transformation, training=training)
            return transform(ops.expand_dims(value, 0), transformation, training=training)[0]

        if not isinstance(data, dict):
            return each(self.transform_images, data)
        if "bounding_boxes" in data and self.bounding_box_format is None:
            raise ValueError(f"{type(self).__name__} needs a bounding_box_format for data with 'bounding_boxes'.")
        changes = {name: getattr(self, f"transform_{name}") for name in _TRANSFORMED if name in data}
        return {name: each(changes[name], one) if name in changes else one for name, one in data.items()}

    def compute_output_spec(self, data: Any, training: Any = None) -> Any:
        if isinstance(data, dict):
            return self._spec_by_running((data,), {})
        shape = self.compute_output_shape(data.shape)
        return KerasTensor(shape, data.dtype if self.keeps_type else self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config if self.bounding_box_format else {k: v for k, v in config.items() if k != "bounding_box_format"}

    def _height_axis(self, images: Any) -> int:
        return image.height_axis(images.shape, self.data_format, type(self).__name__)

    def _sizes(self, data: Any) -> Sizes:
        images = data["images"] if isinstance(data, dict) else data
        first = self._height_axis(images)
        return Sizes(images.shape[0] if len(images.shape) == 4 else 1, *images.shape[first : first + 2])


_TRANSFORMED = ("images", "bounding_boxes", "labels", "segmentation_masks")


class RandomImageLayer(BaseImagePreprocessingLayer):
    """A layer that does something at random in training, and nothing in inference; it has a `seed`."""

    seed: Any

    def __post_init__(self) -> None:
        self.generator = SeedGenerator(self.seed)

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> Any:
        return self._draw(self._sizes(data), self.generator if seed is None else seed, data) if training else None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _draw(); draw what is to be done there.")

    def _per_picture(self, value: Any) -> Any:
        """Numbers, one for each picture, with the axes of pictures."""
        value = ops.reshape(ops.convert_to_tensor(value), (-1, 1, 1, 1))
        return value if value.dtype == "bool" else ops.cast(value, self.compute_dtype)


def uniform(shape: Any, bounds: Any, seed: Any) -> Any:
    """Random numbers in a range."""
    return random.uniform(shape, float(bounds[0]), float(bounds[1]), dtype="float32", seed=seed)


def chosen(count: int, factor: Any, seed: Any) -> Any:
    """Which of so many pictures are changed, each with a probability drawn from the range `factor`."""
    probability = uniform((count,), factor, seed)
    return uniform((count,), (0, 1), seed) < probability


# ---------------------------------------------------------------- other sizes


class Sized(BaseImagePreprocessingLayer):
    """A layer that makes pictures of one size, in training and in inference."""

    acts_always = True
    moves_pixels = True
    height: Any
    width: Any

    def compute_output_shape(self, input_shape: Any) -> Any:
        def sized(shape: Any) -> tuple[Any, ...]:
            first = image.height_axis(shape, self.data_format, type(self).__name__)
            return (*shape[:first], self.height, self.width, *shape[first + 2 :])

        return map_shapes(sized, input_shape)

    def _resized(self, images: Any, interpolation: str, **options: Any) -> Any:
        size = self.height, self.width
        return image.resize(images, size, interpolation, **options, data_format=self.data_format)

    def _cut(self, images: Any, top: int, left: int) -> Any:
        first = self._height_axis(images)
        ranges = slice(top, top + self.height), slice(left, left + self.width)
        return images[(slice(None),) * first + ranges]


@declared
class Resizing(Sized):
    """Pictures of another size, in training and in inference.

    Args:
        height, width: the new size in pixels.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        crop_to_aspect_ratio, pad_to_aspect_ratio, fill_mode, fill_value, antialias: as in `ops.image.resize`.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    Returns:
        Pictures of the same type; whole numbers are rounded.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Resizing(1, 4)(np.array([[[0.0], [4.0]]])).numpy()[0, :, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """

    keeps_type = True

    height: Positive[int]
    width: Positive[int]
    interpolation: Annotated[str, OneOf(*image.INTERPOLATIONS)] = "bilinear"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    fill_mode: Annotated[str, OneOf("constant")] = "constant"
    fill_value: float = 0.0
    antialias: bool = False
    data_format: DataFormat = None

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        names = ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "fill_mode", "fill_value")
        return self._resized(images, interpolation, **{name: getattr(self, name) for name in names})


@declared
class CenterCrop(Sized):
    """The middle of pictures; of smaller ones the largest part of this aspect ratio, resized.

    Args:
        height, width: the size of what is cut out, in pixels.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.CenterCrop(1, 2)(np.arange(4.0).reshape(1, 4, 1)).numpy().ravel().tolist()
    [1.0, 2.0]
    """

    height: Positive[int]
    width: Positive[int]
    data_format: DataFormat = None

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        _, height, width = self._sizes(images)
        if height >= self.height and width >= self.width:
            return self._cut(images, (height - self.height) // 2, (width - self.width) // 2)
        return self._resized(images, interpolation, crop_to_aspect_ratio=True)


@declared
class RandomCrop(RandomImageLayer, Sized):
    """In training a random part of pictures, one place for a batch.

    In inference, and of smaller pictures, it is the largest middle part of this aspect ratio, resized.

    Args:
        height, width: the size of what is cut out, in pixels.
        seed: whole number for the same places in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomCrop(2, 3)(np.ones((4, 8, 8, 1))).shape
    (4, 2, 3, 1)
    """

    height: Positive[int]
    width: Positive[int]
    seed: Any = None
    data_format: DataFormat = None
    if not TYPE_CHECKING:  # see `Layer`
        name: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        rest = sizes.height - self.height, sizes.width - self.width
        return tuple(int(uniform((), (0, n + 1), seed).numpy()) for n in rest) if min(rest) >= 0 else None

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        if transformation is None:
            return self._resized(images, interpolation, crop_to_aspect_ratio=True)
        return self._cut(images, *map(int, transformation))


@declared
class RandomLength(Layer):
    """In training pictures of a random height or width, one for a batch; arguments as for `RandomHeight`."""

    axis = -3

    factor: Annotated[Any, Kept(Factor(-1, math.inf, symmetric=True))]
    interpolation: Annotated[str, OneOf(*image.INTERPOLATIONS)] = "bilinear"
    seed: Any = None

    def __post_init__(self) -> None:
        self.generator = SeedGenerator(self.seed)

    def call(self, inputs: Any, training: bool = True) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        if not training:
            return inputs
        size = list(inputs.shape[-3:-1])
        stretch = 1 + uniform((), _symmetric(self.factor), self.generator).numpy()
        size[self.axis + 3] = max(int(stretch * size[self.axis + 3]), 1)
        return image.resize(inputs, size, self.interpolation, data_format="channels_last")

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = list(input_shape)
        shape[self.axis] = None
        return tuple(shape)


class RandomHeight(RandomLength):
    """In training pictures of a random height, one for a batch.

    Args:
        factor: how much longer or shorter: `f` for -f to f, or two numbers of at least -1.
        interpolation: `"bilinear"`, `"nearest"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        seed: whole number for the same lengths in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras._legacy.layers import RandomHeight
    >>> RandomHeight((0.5, 0.5))(np.ones((4, 4, 1))).shape
    (6, 4, 1)
    """


class RandomWidth(RandomLength):
    """In training pictures of a random width, one for a batch.

    Args:
        factor, interpolation, seed: as for `RandomHeight`.

    >>> import numpy as np
    >>> from minikeras._legacy.layers import RandomWidth
    >>> RandomWidth((0.5, 0.5))(np.ones((4, 4, 1))).shape
    (4, 6, 1)
    """

    axis = -2


# ---------------------------------------------------------------- pixels moved


@declared
class RandomFlip(RandomImageLayer):
    """In training half of the pictures mirrored.

    Args:
        mode: `"horizontal"`, `"vertical"`, or `"horizontal_and_vertical"` (both at once).
        seed: whole number for the same pictures in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> flip = layers.RandomFlip("horizontal", seed=1)
    >>> flip(np.arange(2.0).reshape(1, 2, 1).repeat(3, 2)).shape
    (1, 2, 3)
    """

    moves_pixels = True

    mode: Annotated[str, OneOf("horizontal", "vertical", "horizontal_and_vertical")] = "horizontal_and_vertical"
    seed: Any = None
    data_format: DataFormat = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        return {"flips": uniform((sizes.batch, 1, 1, 1), (0, 1), seed) <= 0.5}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        first, flips = self._height_axis(images), self._per_picture(transformation["flips"])
        axes = [axis for axis, word in ((first, "vertical"), (first + 1, "horizontal")) if word in self.mode]
        return ops.where(flips, ops.flip(images, tuple(axes)), images)


class RandomWarp(RandomImageLayer):
    """A layer that moves pictures by maps of their pixels, which `_maps` makes of the transformation."""

    moves_pixels = True
    fill_mode: Any
    fill_value: Any

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        maps = self._maps(transformation, self._sizes(images))
        return image.affine_transform(images, maps, interpolation, self.fill_mode, self.fill_value, self.data_format)

    def _maps(self, transformation: Any, sizes: Sizes) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _maps(); return the affine maps there.")


def _rows(*columns: Any) -> Any:
    """Maps (batch, 8) of six columns; a number is one for all."""
    length = next(len(column) for column in columns if not isinstance(column, float))
    full = [ops.broadcast_to(ops.cast(ops.reshape(one, (-1,)), "float32"), (length,)) for one in columns]
    return ops.stack([*full, *[ops.zeros((length,))] * 2], axis=1)


@declared
class RandomRotation(RandomWarp):
    """In training pictures turned about their middle.

    Args:
        factor: how far, in turns: `f` for -f to f, or two numbers; above 0 is counter-clockwise.
        fill_mode: what comes from outside: `"reflect"`, `"wrap"`, `"constant"` (fill_value) or `"nearest"`.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: whole number for the same angles in every run, default drawn from the global stream.
        fill_value: see there.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> turn = layers.RandomRotation((0.25, 0.25))
    >>> turn(np.arange(4.0).reshape(2, 2, 1)).numpy().round(3)[..., 0].tolist()
    [[1.0, 3.0], [0.0, 2.0]]
    """

    factor: Annotated[Any, Factor(-1, 1, symmetric=True)]
    fill_mode: FillMode = "reflect"
    interpolation: Interpolation = "bilinear"
    seed: Any = None
    fill_value: float = 0.0
    data_format: DataFormat = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        angle = uniform((sizes.batch,), self.factor, seed) * 360.0
        cosine, sine = ops.cos(angle * (math.pi / 180)), ops.sin(angle * (math.pi / 180))
        x, y = (sizes.width - 1) / 2, (sizes.height - 1) / 2
        matrix = _rows(cosine, -sine, x - x * cosine + y * sine, sine, cosine, y - x * sine - y * cosine)
        return {"angle": angle, "rotation_matrix": matrix}

    def _maps(self, transformation: Any, sizes: Sizes) -> Any:
        return transformation["rotation_matrix"]


@declared
class RandomTranslation(RandomWarp):
    """In training pictures moved up or down and sideways.

    Args:
        height_factor: how far down, as a part of the height: `f` for -f to f, or two numbers from -1 to 1.
        width_factor: how far to the right, as a part of the width; likewise.
        fill_mode, interpolation, seed, fill_value, data_format: as for `RandomRotation`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> move = layers.RandomTranslation((0.5, 0.5), 0.0, fill_mode="constant")
    >>> move(np.arange(4.0).reshape(2, 2, 1)).numpy()[..., 0].tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """

    height_factor: Annotated[Any, Kept(_ABOUT_ZERO)]
    width_factor: Annotated[Any, Kept(_ABOUT_ZERO)]
    fill_mode: FillMode = "reflect"
    interpolation: Interpolation = "bilinear"
    seed: Any = None
    fill_value: float = 0.0
    data_format: DataFormat = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        down = uniform((sizes.batch, 1), _symmetric(self.height_factor), seed) * sizes.height
        right = uniform((sizes.batch, 1), _symmetric(self.width_factor), seed) * sizes.width
        return {"translations": ops.concatenate([right, down], axis=1)}

    def _maps(self, transformation: Any, sizes: Sizes) -> Any:
        translations = ops.convert_to_tensor(transformation["translations"])
        return _rows(1.0, 0.0, -translations[:, 0], 0.0, 1.0, -translations[:, 1])


def _symmetric(factor: Any) -> tuple[float, float]:
    """A number as a range about 0."""
    return tuple(sorted(factor)) if isinstance(factor, (list, tuple)) else (-abs(factor), abs(factor))  # type: ignore


@declared
class RandomZoom(RandomWarp):
    """In training pictures larger or smaller about their middle.

    Args:
        height_factor: how much of a picture's height more, or less, is seen: `f` for -f to f, or two numbers above -1
            and up to 1; above 0 the picture becomes smaller.
        width_factor: the same of its width; default as the height.
        fill_mode, interpolation, seed, fill_value, data_format: as for `RandomRotation`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> zoom = layers.RandomZoom((1.0, 1.0), fill_mode="constant")
    >>> zoom(np.ones((1, 6, 1))).numpy()[0, :, 0].tolist()
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    height_factor: Annotated[Any, Kept(_ABOUT_ZERO)]
    width_factor: Annotated[Any, lambda *given: given[2] and Kept(_ABOUT_ZERO)(*given)] = None
    fill_mode: FillMode = "reflect"
    interpolation: Interpolation = "bilinear"
    seed: Any = None
    fill_value: float = 0.0
    data_format: DataFormat = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        height = width = 1 + uniform((sizes.batch, 1), _symmetric(self.height_factor), seed)
        if self.width_factor is not None:
            width = 1 + uniform((sizes.batch, 1), _symmetric(self.width_factor), seed)
        return {"height_zoom": height, "width_zoom": width}

    def _maps(self, transformation: Any, sizes: Sizes) -> Any:
        x, y = (ops.reshape(transformation[f"{side}_zoom"], (-1,)) for side in ("width", "height"))
        return _rows(x, 0.0, (sizes.width - 1) / 2 * (1 - x), 0.0, y, (sizes.height - 1) / 2 * (1 - y))


@declared
class RandomShear(RandomWarp):
    """In training pictures pushed askew.

    Args:
        x_factor: how far to the side for each pixel down, 0 to 1: `f` for 0 to f, or two numbers; to either side alike.
        y_factor: how far up or down for each pixel to the side; likewise.
        interpolation, fill_mode, fill_value, data_format, seed: as for `RandomRotation`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomShear(0.2, seed=1)(np.ones((4, 4, 1))).numpy().min().item()
    1.0
    """

    x_factor: Annotated[Any, Factor(0, 1)] = 0.0
    y_factor: Annotated[Any, Factor(0, 1)] = 0.0
    interpolation: Interpolation = "bilinear"
    fill_mode: FillMode = "reflect"
    fill_value: float = 0.0
    data_format: DataFormat = None
    seed: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        side = ops.where(uniform((sizes.batch, 1), (0, 1), seed) > 0.5, -1.0, 1.0)
        along = [uniform((sizes.batch, 1), factor, seed) for factor in (self.x_factor, self.y_factor)]
        return {"shear_factor": ops.concatenate(along, axis=1) * side}

    def _maps(self, transformation: Any, sizes: Sizes) -> Any:
        factors = ops.convert_to_tensor(transformation["shear_factor"])
        return _rows(1.0, factors[:, 0], 0.0, factors[:, 1], 1.0, 0.0)


# ---------------------------------------------------------------- in a row


@declared
class Pipeline(Layer):
    """Layers one after the other, as a preprocessing step: a call outside of a model is one in training.

    Args:
        layers: a list of them.
        name: default `"pipeline"` with a number.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Pipeline([layers.Resizing(4, 4), layers.Rescaling(0.5)])(np.ones((2, 2, 1))).numpy().max().item()
    0.5
    """

    layers: Any
    if not TYPE_CHECKING:  # see `Layer`
        name: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.layers, (list, tuple)) or not all(map(callable, self.layers)):
            raise ValueError(f"Pipeline needs a list of layers, got {shown(self.layers)}.")
        self.layers = list(self.layers)

    def call(self, inputs: Any, training: bool = True, mask: Any = None) -> Any:
        for layer in self.layers:
            takes = call_signature(type(layer)).names if isinstance(layer, Layer) else ()
            named = {"training": training, "mask": mask}
            inputs = layer(inputs, **{name: value for name, value in named.items() if name in takes})
        return inputs

    def compute_output_spec(self, inputs: Any, training: bool = True, mask: Any = None) -> Any:
        if not all(isinstance(layer, Layer) for layer in self.layers):
            return self._spec_by_running((inputs,), {"training": training})
        for layer in self.layers:
            layer._build_from_inputs((inputs,), {})
            inputs = layer.compute_output_spec(tree.map_structure(layer._cast_symbol, inputs))
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "layers": [serialize_keras_object(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Pipeline:
        given = config.get("layers")
        return cls(**{**config, "layers": given and [deserialize_keras_object(one, custom_objects) for one in given]})
