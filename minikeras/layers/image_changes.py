"""Preprocessing of pictures: layers that change colours, mix pictures, or draw from many changes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from minikeras import kernels as k
from minikeras import ops, random
from minikeras.autodiff.op import operation
from minikeras.config import epsilon
from minikeras.declared import Number, Whole
from minikeras.layers.common import int_tuple
from minikeras.layers.fields import DataFormat, Share, declared
from minikeras.layers.image import (
    BaseImagePreprocessingLayer,
    Factor,
    Interpolation,
    RandomImageLayer,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    Sizes,
    chosen,
    uniform,
)
from minikeras.ops import image
from minikeras.utils.checks import number, shown

__all__ = ["AutoContrast", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomBrightness"]
__all__ += ["RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomErasing"]
__all__ += ["RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization"]
__all__ += ["RandomSaturation", "RandomSharpness", "Solarization"]


def _range(layer: Any, name: str, value: Any) -> tuple[float, float]:
    owner = type(layer).__name__
    if not isinstance(value, (list, tuple)) or len(value) != 2 or value[0] == value[1]:
        raise ValueError(f"{owner} needs two different numbers (low, high) for {name}, got {shown(value)}.")
    low, high = sorted(one if type(one) is int else number(name, one, owner=owner) for one in value)
    return low, high


Range = Annotated[Any, _range]


def _between(images: Any, source: Any, target: Any) -> Any:
    """Pictures with values of one range in another."""
    if tuple(source) == tuple(target):
        return images
    scale = (target[1] - target[0]) / (source[1] - source[0])
    return (images - source[0]) * scale + target[0]


class ColourLayer(RandomImageLayer):
    """A layer that changes colours by one number, or a decision, for each picture, and keeps them in their range.

    Attributes:
        key: what that is called in the transformation.
    """

    key = "factor"
    clips = True
    factor: Any
    value_range: Any = (0, 255)

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        return {self.key: self._drawn(sizes.batch, seed)}

    def _drawn(self, count: int, seed: Any) -> Any:
        return uniform((count, 1, 1, 1), self.factor, seed)

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        changed = self._change(images, self._per_picture(transformation[self.key]))
        return ops.clip(changed, *self.value_range) if self.clips else changed

    def _change(self, images: Any, drawn: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _change(); change the colours there.")

    def _grey(self, images: Any) -> Any:
        return image.rgb_to_grayscale(images, data_format=self.data_format)

    def _in_hsv(self, images: Any, channel: int, change: Any) -> Any:
        """Pictures with one of hue, saturation and value changed by a function, all from 0 to 1."""
        axis = self._height_axis(images) - 1 if self.data_format == "channels_first" else -1
        images = image.rgb_to_hsv(_between(images, self.value_range, (0, 1)), data_format=self.data_format)
        parts = list(ops.unstack(images, 3, axis=axis))
        parts[channel] = change(parts[channel])
        images = image.hsv_to_rgb(ops.stack(parts, axis=axis), data_format=self.data_format)
        return _between(images, (0, 1), self.value_range)


@declared
class RandomBrightness(ColourLayer):
    """In training pictures brighter or darker.

    Args:
        factor: how much, as a part of the range: `f` for -f to f, or two numbers from -1 to 1.
        value_range: the least and the largest value of pictures, which results are clipped to.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomBrightness((0.5, 0.5), value_range=(0, 1))(np.array([[[0.25, 0.75]]])).numpy().tolist()
    [[[0.75, 1.0]]]
    """

    key = "rgb_delta"

    factor: Annotated[Any, Factor(-1, 1, symmetric=True)]
    value_range: Range = (0, 255)
    seed: Any = None

    def _drawn(self, count: int, seed: Any) -> Any:
        low, high = self.value_range
        return super()._drawn(count, seed) * float(high - low)

    def _change(self, images: Any, drawn: Any) -> Any:
        return images + drawn


def _contrast(layer: Any, name: str, value: Any) -> Any:
    """A number is as far up as down."""
    lower, upper = Factor(0, 1)(layer, name, value)
    return (lower, upper) if isinstance(value, (list, tuple)) else (upper, upper)


@declared
class RandomContrast(ColourLayer):
    """In training the differences of pixels from the mean of their channel larger or smaller.

    Args:
        factor: how much, 0 to 1: `f` for a contrast of 1 - f to 1 + f, or (lower, upper) for 1 - lower to 1 + upper.
        value_range: the least and the largest value of pictures, which results are clipped to.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomContrast((0, 0), value_range=(0, 1))(np.array([[[0.25], [0.75]]])).numpy().ravel().tolist()
    [0.25, 0.75]
    """

    key = "contrast_factor"

    factor: Annotated[Any, _contrast]
    value_range: Range = (0, 255)
    seed: Any = None

    def _drawn(self, count: int, seed: Any) -> Any:
        return uniform((count, 1, 1, 1), (1 - self.factor[0], 1 + self.factor[1]), seed)

    def _change(self, images: Any, drawn: Any) -> Any:
        first = self._height_axis(images)
        mean = ops.mean(images, axis=(first, first + 1), keepdims=True)
        return (images - mean) * drawn + mean


@declared
class PartialChange(ColourLayer):
    """A layer that changes colours by a factor from 0 to 1; arguments as for `RandomColorDegeneration`."""

    factor: Annotated[Any, Factor(0, 1)]
    value_range: Range = (0, 255)
    data_format: DataFormat = None
    seed: Any = None


class RandomColorDegeneration(PartialChange):
    """In training colours closer to grey.

    Args:
        factor: how close, 0 (as they are) to 1 (grey): `f` for 0 to f, or two numbers.
        value_range: the least and the largest value of pictures, which results are clipped to.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> print(layers.RandomColorDegeneration((1.0, 1.0))(np.array([[[100.0, 0.0, 0.0]]])).numpy().round(2))
    [[[29.89 29.89 29.89]]]
    """

    def _change(self, images: Any, drawn: Any) -> Any:
        return images + drawn * (self._grey(images) - images)


class RandomSaturation(PartialChange):
    """In training colours paler or stronger.

    Args:
        factor: how strong, 0 (grey) over 0.5 (as they are) to 1: `f` for 0 to f, or two numbers.
        value_range: the least and the largest value of pictures.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomSaturation((0.0, 0.0), (0, 1))(np.array([[[0.5, 0.25, 0.0]]])).numpy().tolist()
    [[[0.5, 0.5, 0.5]]]
    """

    def _drawn(self, count: int, seed: Any) -> Any:
        factor = uniform((count,), self.factor, seed)
        return factor / (1 - factor + epsilon())

    def _change(self, images: Any, drawn: Any) -> Any:
        return self._in_hsv(images, 1, lambda saturation: ops.clip(saturation * drawn[..., 0], 0.0, 1.0))


class RandomHue(PartialChange):
    """In training all colours turned on the colour wheel.

    Args:
        factor: how far, in half turns, to either side: `f` for 0 to f, or two numbers from 0 to 1.
        value_range: the least and the largest value of pictures, which results are clipped to.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomHue((1.0, 1.0))(np.array([[[100.0, 0.0, 0.0]]])).numpy().round(3).tolist()
    [[[0.0, 100.0, 100.0]]]
    """

    def _drawn(self, count: int, seed: Any) -> Any:
        side = ops.where(uniform((count,), (0, 1), seed) > 0.5, -0.5, 0.5)
        return side * uniform((count,), self.factor, seed)

    def _change(self, images: Any, drawn: Any) -> Any:
        return self._in_hsv(images, 0, lambda hue: ops.mod(hue + drawn[..., 0], 1.0))


@declared
class RandomGrayscale(ColourLayer):
    """In training some pictures grey, with three equal channels.

    Args:
        factor: the probability of that, 0 to 1.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same pictures in every run, default drawn from the global stream.

    Returns:
        Pictures of the same type.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomGrayscale(1.0)(np.array([[[100, 0, 0]]], "uint8")).numpy().tolist()
    [[[29, 29, 29]]]
    """

    keeps_type = True

    factor: Share = 0.5
    data_format: DataFormat = None
    seed: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        return uniform((sizes.batch, 1, 1, 1), (0, 1), seed) < self.factor

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        return ops.where(self._per_picture(transformation), self._grey(images), images)


@declared
class RandomInvert(ColourLayer):
    """In training some pictures as their negatives.

    Args:
        factor: the probability of that, 0 to 1: `f` for a random one from 0 to f, or two numbers.
        value_range: the least and the largest value of pictures, which change places.
        seed: whole number for the same pictures in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomInvert((1.0, 1.0))(np.array([[[0.0, 255.0]]])).numpy().tolist()
    [[[255.0, 0.0]]]
    """

    key, clips = "apply_inversion", False

    factor: Annotated[Any, Factor(0, 1)] = 1.0
    value_range: Range = (0, 255)
    seed: Any = None
    data_format: DataFormat = None

    def _drawn(self, count: int, seed: Any) -> Any:
        return chosen(count, self.factor, seed)

    def _change(self, images: Any, drawn: Any) -> Any:
        return ops.where(drawn, float(sum(self.value_range)) - images, images)


@declared
class RandomPosterization(ColourLayer):
    """In training colours with fewer bits, of the 8 that they have.

    Args:
        factor: how many are kept, 1 to 8: a number `n` for 1 to n - 1 (1 for 1), or two, the second of which is left
            out unless both are equal.
        value_range: the least and the largest value of pictures.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same bits in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomPosterization((2, 2))(np.array([[[10.0, 100.0, 250.0]]])).numpy().tolist()
    [[[0.0, 64.0, 192.0]]]
    """

    key, clips = "shift_factor", False

    factor: Annotated[Any, Factor(1, 8)]
    value_range: Range = (0, 255)
    data_format: DataFormat = None
    seed: Any = None

    def _drawn(self, count: int, seed: Any) -> Any:
        low, high = map(int, self.factor)
        return ops.subtract(8, random.randint((count,), low, max(high, low + 1), seed=seed))

    def _change(self, images: Any, drawn: Any) -> Any:
        step = ops.power(2.0, drawn)
        whole = ops.floor(ops.clip(_between(images, self.value_range, (0, 255)), 0.0, 255.0))
        return _between(ops.floor(whole / step) * step, (0, 255), self.value_range)


class RandomSharpness(PartialChange):
    """In training pictures smoother or sharper.

    Args:
        factor: how sharp, 0 (smooth) over 0.5 (as they are) to 1: `f` for 0 to f, or two numbers.
        value_range: the least and the largest value of pictures, which results are clipped to.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same factors in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomSharpness((0.5, 0.5))(np.full((3, 3, 1), 7.0)).numpy().min().item()
    7.0
    """

    def _change(self, images: Any, drawn: Any) -> Any:
        smooth = (image.box_sum(images, self._height_axis(images)) + 4 * images) / 13  # 5/13 and eight times 1/13
        return images + (1 - 2 * drawn) * (smooth - images)


def _odd(layer: Any, name: str, value: Any) -> tuple[int, int]:
    sizes = int_tuple(layer, name, value, 2)
    if not all(size % 2 for size in sizes):
        raise ValueError(f"{type(layer).__name__} needs one or two odd numbers for {name}, got {shown(value)}.")
    return sizes[0], sizes[1]


@declared
class RandomGaussianBlur(ColourLayer):
    """In training some pictures smoothed by a Gaussian.

    Args:
        factor: the probability of that, 0 to 1: `f` for a random one from 0 to f, or two numbers.
        kernel_size: of the filter in pixels, odd: one number, or its height and width.
        sigma: its standard deviation, 0 to 1: `s` for a random one from 0 to s, or two numbers; along height and width
            for itself.
        value_range: the least and the largest value of pictures, which results are clipped to.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same transformations in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomGaussianBlur((0.0, 0.0))(np.full((3, 3, 1), 7.0)).numpy().min().item()
    7.0
    """

    factor: Annotated[Any, Factor(0, 1)] = 1.0
    kernel_size: Annotated[Any, _odd] = 3
    sigma: Annotated[Any, Factor(0, 1)] = 1.0
    value_range: Range = (0, 255)
    data_format: DataFormat = None
    seed: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        apply = chosen(sizes.batch, self.factor, seed)
        return {"should_apply_blur": apply, "blur_factor": uniform((2,), self.sigma, seed) + 1e-6}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        blurred = image.gaussian_blur(images, self.kernel_size, transformation["blur_factor"], self.data_format)
        images = ops.where(self._per_picture(transformation["should_apply_blur"]), blurred, images)
        return ops.clip(images, *self.value_range)


def box_masks(layer: RandomImageLayer, sizes: Sizes, parts: Any, seed: Any) -> tuple[Any, Any]:
    """Random boxes in pictures as masks (batch, height, width, 1), or channels first, and the parts that they cover.

    Args:
        parts: (batch, 2) height and width of the boxes as parts of the picture's.
    """
    inside, covered = [], 1.0
    for axis, length in enumerate(sizes[1:]):
        extent = parts[:, axis] * float(length)
        start = uniform((sizes.batch,), (0, 1), seed) * (length - extent)
        place = ops.arange(length, dtype="float32")
        inside.append((place >= start[:, None]) & (place < (start + extent)[:, None]))
        covered = covered * parts[:, axis]
    masks = inside[0][:, :, None] & inside[1][:, None, :]
    return ops.expand_dims(masks, 1 if layer.data_format == "channels_first" else -1), covered


@declared
class RandomErasing(ColourLayer):
    """In training a box of some pictures erased (Zhong et al. 2017).

    Args:
        factor: the probability of that, 0 to 1: `f` for a random one from 0 to f, or two numbers.
        scale: the squares of the box's height and width, as parts of the picture's: two numbers from 0 to 1.
        fill_value: what is put there: a number, three for the channels, or None for noise.
        value_range: the least and the largest value of pictures.
        seed: whole number for the same boxes in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> erase = layers.RandomErasing((1.0, 1.0), scale=(1.0, 1.0), fill_value=7)
    >>> erase(np.zeros((1, 2, 3))).numpy().tolist()
    [[[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]]]
    """

    factor: Annotated[Any, Factor(0, 1)] = 1.0
    scale: Annotated[Any, Factor(0, 1)] = (0.02, 0.33)
    fill_value: Any = None
    value_range: Range = (0, 255)
    seed: Any = None
    data_format: DataFormat = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.shape(self.fill_value) not in ((), (3,)):
            raise ValueError(f"RandomErasing needs one or three numbers for fill_value, got {shown(self.fill_value)}.")

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        masks, _ = box_masks(self, sizes, ops.sqrt(uniform((sizes.batch, 2), self.scale, seed)), seed)
        shape = (data["images"] if isinstance(data, dict) else data).shape
        apply = chosen(sizes.batch, self.factor, seed)
        if self.fill_value is None:
            fill = ops.multiply(random.normal(shape, dtype="float32", seed=seed), self.value_range[1])
        else:
            fill = ops.convert_to_tensor(self.fill_value, "float32")
            fill = ops.reshape(fill, (-1, 1, 1)) if self.data_format == "channels_first" else fill
        return {"apply_erasing": apply, "batch_masks": masks, "fill_value": ops.clip(fill, *self.value_range)}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        where = ops.logical_and(transformation["batch_masks"], self._per_picture(transformation["apply_erasing"]))
        return ops.where(where, ops.cast(transformation["fill_value"], self.compute_dtype), images)


@declared
class Solarization(ColourLayer):
    """In training bright pixels as in a negative.

    Args:
        addition_factor: what is added before, as a part of the range: `f` for 0 to f, or two numbers from 0 to 1.
        threshold_factor: from where on pixels are bright, as a part of the range; likewise.
        value_range: the least and the largest value of pictures.
        seed: whole number for the same numbers in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Solarization(threshold_factor=(0.5, 0.5))(np.array([[[0.0, 100.0, 200.0]]])).numpy().tolist()
    [[[0.0, 100.0, 55.0]]]
    """

    addition_factor: Annotated[Any, Factor(0, 1)] = 0.0
    threshold_factor: Annotated[Any, Factor(0, 1)] = 0.0
    value_range: Range = (0, 255)
    seed: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        pairs = (("additions", self.addition_factor), ("thresholds", self.threshold_factor))
        return {name: uniform((sizes.batch, 1, 1, 1), factor, seed) * 255.0 for name, factor in pairs}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        bright = _between(images, self.value_range, (0, 255)) + self._per_picture(transformation["additions"])
        bright = ops.clip(bright, 0.0, 255.0)
        changed = ops.where(bright < self._per_picture(transformation["thresholds"]), bright, 255.0 - bright)
        return _between(changed, (0, 255), self.value_range)


@declared
class AutoContrast(BaseImagePreprocessingLayer):
    """Each channel of a picture stretched to the whole range, in training and in inference.

    Args:
        value_range: the least and the largest value that pictures may have.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.AutoContrast()(np.array([[[1.0], [2.0], [3.0]]])).numpy().ravel().tolist()
    [0.0, 127.5, 255.0]
    """

    acts_always = True

    value_range: Range = (0, 255)

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        first, (low, high) = self._height_axis(images), self.value_range
        least, most = (find(images, axis=(first, first + 1), keepdims=True) for find in (ops.min, ops.max))
        flat = most == least
        stretched = (images - least) * ((high - low) / ops.where(flat, 1.0, most - least)) + low
        return ops.where(flat, images, ops.clip(stretched, low, high))


@declared
class Equalization(BaseImagePreprocessingLayer):
    """Each channel of a picture with about as many pixels of each value, in training and in inference.

    Args:
        value_range: the least and the largest value of pictures.
        bins: how many values are told apart.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Equalization()(np.array([[[1.0], [2.0], [3.0]]])).numpy().ravel().tolist()
    [0.0, 128.0, 255.0]
    """

    acts_always = True

    value_range: Range = (0, 255)
    bins: Annotated[int, Whole(2)] = 256
    data_format: DataFormat = None

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        bright = _between(images, self.value_range, (0, 255))
        equal = _equalized(bright, self._height_axis(images), self.bins)
        return _between(ops.where(equal < 0, bright, equal), (0, 255), self.value_range)


@operation(inputs=1, keras="")
def _equalized(x: Any, first: int, bins: int) -> Any:
    """Values from 0 to 255 by their rank among those of their channel; -1 where all are in one bin."""
    xp, axes = k.xp, (first, first + 1)
    rows = xp.moveaxis(x, axes, (-2, -1))
    lines = rows.reshape(math.prod(rows.shape[:-2]), -1)
    index = xp.clip(lines * ((bins - 1) / 255), 0, bins - 1).astype("int64")
    index += xp.arange(len(lines))[:, None] * bins
    counts = xp.bincount(index.reshape(-1), minlength=len(lines) * bins).reshape(len(lines), bins)
    below = counts.cumsum(axis=1)
    first_count = xp.take_along_axis(below, (below > 0).argmax(axis=1)[:, None], axis=1)
    rest = below[:, -1:] - first_count
    table = xp.clip(xp.rint((below - first_count) * 255 / xp.maximum(rest, 1)), 0, 255)
    table = xp.where(rest > 0, table, -1).reshape(-1)
    return xp.moveaxis(xp.take(table, index).astype(x.dtype).reshape(rows.shape), (-2, -1), axes)


# ---------------------------------------------------------------- pictures mixed


class Mixing(RandomImageLayer):
    """A layer that puts something of another picture of the batch into each, and of its label into the label."""

    moves_pixels = True

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        if not training or transformation is None:
            return labels
        labels = ops.convert_to_tensor(labels)
        if labels.ndim < 2:
            self._refuse(
                f"mixes labels of shape (batch, classes), got shape {tuple(labels.shape)}; make them one-hot with "
                "ops.one_hot"
            )
        weight = ops.reshape(transformation["mix_weight"], (-1,) + (1,) * (labels.ndim - 1))
        return _mixed(ops.cast(labels, self.compute_dtype), ops.cast(weight, self.compute_dtype), transformation)


def _mixed(values: Any, weight: Any, transformation: Any) -> Any:
    others = ops.take(values, transformation["permutation_order"], axis=0)
    return weight * values + (1 - weight) * others


@declared
class MixUp(Mixing):
    """In training the weighted mean of each picture and another one of its batch (Zhang et al. 2017).

    Args:
        alpha: both parameters of the beta distribution that weights are drawn from: the smaller, the closer they are
            to 0 or 1.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.
        seed: whole number for the same pairs in every run, default drawn from the global stream.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> data = {"images": np.ones((2, 4, 4, 3)), "labels": np.eye(2)}
    >>> layers.MixUp(seed=1)(data)["labels"].numpy().sum(axis=1).tolist()
    [1.0, 1.0]
    """

    alpha: Annotated[float, Number(above=0)] = 0.2
    data_format: DataFormat = None
    seed: Any = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        order = random.shuffle(ops.arange(sizes.batch), seed=seed)
        weight = random.beta((sizes.batch,), self.alpha, self.alpha, dtype="float32", seed=seed)
        return {"mix_weight": weight, "permutation_order": order}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        images = ops.cast(images, self.compute_dtype)
        return _mixed(images, self._per_picture(transformation["mix_weight"]), transformation)


@declared
class CutMix(Mixing):
    """In training a box of each picture taken from another one of its batch (Yun et al. 2019).

    Args:
        factor: both parameters of the beta distribution that the parts of pictures that stay are drawn from, 0 to 1:
            `f` for 0 to f, or two numbers.
        seed: whole number for the same boxes in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> data = {"images": np.ones((2, 4, 4, 3)), "labels": np.eye(2)}
    >>> layers.CutMix(seed=1)(data)["labels"].numpy().sum(axis=1).tolist()
    [1.0, 1.0]
    """

    factor: Annotated[Any, Factor(0, 1)] = 1.0
    seed: Any = None
    data_format: DataFormat = None

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        alpha = float(uniform((), self.factor, seed).numpy()) + 1e-6
        stays = random.beta((sizes.batch,), alpha, alpha, dtype="float32", seed=seed)
        part = ops.sqrt(ops.subtract(1.0, stays))
        masks, covered = box_masks(self, sizes, ops.stack([part, part], axis=1), seed)
        order = random.shuffle(ops.arange(sizes.batch), seed=seed)
        return {"permutation_order": order, "batch_masks": masks, "mix_weight": 1 - covered}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        others = ops.take(images, transformation["permutation_order"], axis=0)
        return ops.where(transformation["batch_masks"], others, images)


# ---------------------------------------------------------------- several changes


@declared
class RandomColorJitter(RandomImageLayer):
    """In training brightness, contrast, saturation and hue changed, one after the other.

    Args:
        value_range: the least and the largest value of pictures.
        brightness_factor, contrast_factor, saturation_factor, hue_factor: those of `RandomBrightness`,
            `RandomContrast`, `RandomSaturation` and `RandomHue`; None leaves that out.
        seed: whole number for the same transformations in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandomColorJitter((0, 1), brightness_factor=(0.5, 0.5))(np.zeros((1, 1, 3))).numpy().tolist()
    [[[0.5, 0.5, 0.5]]]
    """

    value_range: Range = (0, 255)
    brightness_factor: Any = None
    contrast_factor: Any = None
    saturation_factor: Any = None
    hue_factor: Any = None
    seed: Any = None
    data_format: DataFormat = None

    def __post_init__(self) -> None:
        super().__post_init__()
        common = {name: getattr(self, name) for name in ("value_range", "seed", "data_format", "dtype_policy")}
        common["dtype"] = common.pop("dtype_policy")
        self._steps = []
        for cls in (RandomBrightness, RandomContrast, RandomSaturation, RandomHue):
            word = cls.__name__.removeprefix("Random").lower()
            if getattr(self, f"{word}_factor") is not None:
                setattr(self, f"random_{word}", cls(getattr(self, f"{word}_factor"), **common))
                self._steps.append(f"random_{word}")

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        return {name: getattr(self, name).get_random_transformation(data, seed=seed) for name in self._steps}

    def _transform_images(self, images: Any, transformation: Any, interpolation: str) -> Any:
        for name in self._steps:
            images = getattr(self, name).transform_images(images, transformation[name])
        return images


_AUGMENTATIONS = (
    *("random_shear", "random_translation", "random_rotation", "random_brightness", "random_color_degeneration"),
    *("random_contrast", "random_sharpness", "random_posterization", "solarization", "auto_contrast", "equalization"),
)


@declared
class RandAugment(RandomImageLayer):
    """In training a few changes drawn from eleven kinds, the same for a batch (Cubuk et al. 2019).

    Args:
        value_range: the least and the largest value of pictures.
        num_ops: how many changes.
        factor: how large they are, 0 to 1: `f` for 0 to f, or two numbers.
        interpolation: `"bilinear"` or `"nearest"`.
        seed: whole number for the same changes in every run, default drawn from the global stream.
        data_format: `"channels_last"` or `"channels_first"`, default `config.image_data_format()`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.RandAugment(seed=1)(np.ones((2, 8, 8, 3), "uint8")).shape
    (2, 8, 8, 3)
    """

    value_range: Range = (0, 255)
    num_ops: Annotated[int, Whole(0)] = 2
    factor: Annotated[Any, Factor(0, 1)] = 0.5
    interpolation: Interpolation = "bilinear"
    seed: Any = None
    data_format: DataFormat = None

    def __post_init__(self) -> None:
        super().__post_init__()
        factor, common = self.factor, {"data_format": self.data_format, "dtype": self.dtype_policy}
        levels: Any = {**common, "value_range": self.value_range}
        coloured: Any = {**levels, "seed": self.seed}
        moving: Any = {**common, "seed": self.seed, "interpolation": self.interpolation}
        self.random_shear = RandomShear(factor, factor, **moving)
        self.random_translation = RandomTranslation(factor, factor, **moving)
        self.random_rotation = RandomRotation(factor, **moving)
        self.random_brightness = RandomBrightness(factor, **coloured)
        self.random_color_degeneration = RandomColorDegeneration(factor, **coloured)
        self.random_contrast = RandomContrast(factor, **coloured)
        self.random_sharpness = RandomSharpness(factor, **coloured)
        self.random_posterization = RandomPosterization(max(1, int(8 * factor[1])), **coloured)
        self.solarization = Solarization(factor, factor, **coloured)
        self.auto_contrast, self.equalization = AutoContrast(**levels), Equalization(**levels)

    def _draw(self, sizes: Sizes, seed: Any, data: Any) -> Any:
        numbers = random.randint((self.num_ops,), 0, len(_AUGMENTATIONS), seed=seed).numpy().tolist()
        names = {_AUGMENTATIONS[n] for n in numbers}
        drawn = {name: getattr(self, name).get_random_transformation(data, seed=seed) for name in sorted(names)}
        return {"transforms": drawn, "layer_idxes": numbers}

    def transform_images(self, images: Any, transformation: Any = None, training: bool = True) -> Any:
        images = ops.cast(ops.convert_to_tensor(images), self.compute_dtype)
        return self._in_turn("transform_images", images, transformation, training)

    def transform_segmentation_masks(
        self, segmentation_masks: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        return self._in_turn("transform_segmentation_masks", segmentation_masks, transformation, training)

    def _in_turn(self, method: str, values: Any, transformation: Any, training: bool) -> Any:
        for chosen_one in transformation["layer_idxes"] if training and transformation else ():
            name = _AUGMENTATIONS[int(chosen_one)]
            values = getattr(getattr(self, name), method)(values, transformation["transforms"][name])
        return values
