"""Preprocessing of pictures: pairs of pictures mixed, several changes drawn from many, and layers in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from minikeras import ops, random
from minikeras.declared import Number, Whole
from minikeras.layers.fields import DataFormat, declared
from minikeras.layers.image import (
    Factor,
    Interpolation,
    RandomImageLayer,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    Sizes,
    uniform,
)
from minikeras.layers.image_colour import (
    AutoContrast,
    Equalization,
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomPosterization,
    RandomSharpness,
    Range,
    Solarization,
    box_masks,
)
from minikeras.layers.layer import Layer
from minikeras.layers.spec import call_signature
from minikeras.registry import builtin, deserialize_keras_object, serialize_keras_object
from minikeras.utils.checks import shown


class Mixing(RandomImageLayer):
    """A layer that puts something of another picture of the batch into each, and of its label into the label."""

    moves_pixels = True

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        if not training or transformation is None:
            return labels
        labels = ops.convert_to_tensor(labels)
        if labels.ndim < 2:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} mixes labels of shape (batch, classes), got shape "
                f"{tuple(labels.shape)}; make them one-hot with ops.one_hot."
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
        for number in transformation["layer_idxes"] if training and transformation else ():
            name = _AUGMENTATIONS[int(number)]
            values = getattr(getattr(self, name), method)(values, transformation["transforms"][name])
        return values


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

    def call(self, inputs: Any, training: bool = True) -> Any:
        for layer in self.layers:
            takes = isinstance(layer, Layer) and call_signature(type(layer)).training
            inputs = layer(inputs, training=training) if takes else layer(inputs)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "layers": [serialize_keras_object(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pipeline:
        return cls(**{**config, "layers": [deserialize_keras_object(layer) for layer in config["layers"]]})


builtin("keras.layers", MixUp, CutMix, RandAugment, Pipeline)
