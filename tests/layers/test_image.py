"""Preprocessing layers for pictures: in models, datasets and alone, what they do, draw and refuse."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import minikeras
from minikeras import Input, Model, Sequential, _legacy, layers, models, ops
from minikeras import kernels as k
from minikeras.autodiff import check_gradients
from minikeras.data import Dataset
from minikeras.layers.image import BaseImagePreprocessingLayer

RNG = np.random.default_rng(2)
UNIT = RNG.random((3, 6, 7, 3)).astype("float32")
BYTES = RNG.integers(0, 256, (3, 6, 7, 3)).astype("uint8")


class Masked(layers.Layer):
    def call(self, inputs, mask=None):
        return inputs * mask


MAKERS = {
    "Resizing": lambda **a: layers.Resizing(4, 5, **a),
    "CenterCrop": lambda **a: layers.CenterCrop(4, 5, **a),
    "RandomCrop": lambda **a: layers.RandomCrop(4, 5, **a),
    "RandomFlip": layers.RandomFlip,
    "RandomRotation": lambda **a: layers.RandomRotation(0.2, **a),
    "RandomTranslation": lambda **a: layers.RandomTranslation(0.2, 0.3, **a),
    "RandomZoom": lambda **a: layers.RandomZoom(0.2, **a),
    "RandomShear": lambda **a: layers.RandomShear(0.2, 0.1, **a),
    "RandomBrightness": lambda **a: layers.RandomBrightness(0.2, **a),
    "RandomContrast": lambda **a: layers.RandomContrast(0.2, **a),
    "RandomColorDegeneration": lambda **a: layers.RandomColorDegeneration(0.9, **a),
    "RandomSaturation": lambda **a: layers.RandomSaturation(0.9, **a),
    "RandomHue": lambda **a: layers.RandomHue(0.9, **a),
    "RandomGrayscale": layers.RandomGrayscale,
    "RandomInvert": layers.RandomInvert,
    "RandomPosterization": lambda **a: layers.RandomPosterization(5, **a),
    "RandomSharpness": lambda **a: layers.RandomSharpness(0.9, **a),
    "RandomGaussianBlur": layers.RandomGaussianBlur,
    "RandomErasing": layers.RandomErasing,
    "Solarization": lambda **a: layers.Solarization(0.2, 0.5, **a),
    "AutoContrast": layers.AutoContrast,
    "Equalization": layers.Equalization,
    "RandomColorJitter": lambda **a: layers.RandomColorJitter(
        brightness_factor=0.2, contrast_factor=0.2, saturation_factor=0.8, hue_factor=0.2, **a
    ),
    "MixUp": layers.MixUp,
    "CutMix": layers.CutMix,
    "RandAugment": layers.RandAugment,
}
ALWAYS = ("Resizing", "CenterCrop", "RandomCrop", "AutoContrast", "Equalization")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_every_layer_everywhere(name, data_format):
    layer = MAKERS[name](data_format=data_format)
    images = {"channels_last": BYTES, "channels_first": np.moveaxis(BYTES, -1, 1)}[data_format]
    symbolic = layer(Input(images.shape[1:], dtype="uint8"))
    results = {training: layer(images, training=training) for training in (True, False)}
    for result in results.values():  # shape and type are those that the graph has
        assert (result.shape[1:], str(result.dtype)) == (symbolic.shape[1:], str(symbolic.dtype))
        assert np.isfinite(result.numpy()).all()
    if name not in ALWAYS:
        np.testing.assert_array_equal(results[False].numpy(), images)
    assert layer(images[0]).shape == results[True].shape[1:]  # one picture
    open_sizes = layer(Input((None,) * 3)).shape
    assert open_sizes[1:] == layer.compute_output_shape((None,) * 4)[1:]
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    masks = images[..., :1] if data_format == "channels_last" else images[:, :1]
    data = {"images": images, "labels": np.eye(3, dtype="float32"), "segmentation_masks": masks, "other": np.ones(3)}
    changed = layer(data)
    assert set(changed) == set(data)
    assert changed["labels"].shape == (3, 3)
    assert changed["images"].shape[2:] == results[True].shape[2:]
    first = 1 if data_format == "channels_last" else 2
    assert changed["segmentation_masks"].shape[first : first + 2] == results[True].shape[first : first + 2]
    np.testing.assert_allclose(data["images"], images)  # what was given is as it was


@pytest.mark.parametrize("name", [name for name in MAKERS if name.startswith("Rand") or name in ("MixUp", "CutMix")])
def test_a_seed_repeats_the_draws(name):
    one, other, third = (MAKERS[name](seed=seed)(UNIT * 255).numpy() for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, other)
    layer = MAKERS[name](seed=4)
    several = [layer(UNIT * 255).numpy() for _ in range(12)]
    assert any((one != third).any() or (several[0] != later).any() for later in several)


def test_in_a_model_and_its_file(tmp_path):
    model = Sequential(
        [
            layers.Input((6, 7, 3)),
            layers.RandomFlip(seed=1),
            layers.RandomRotation(0.1, seed=1),
            layers.Pipeline([layers.RandomContrast(0.1, value_range=(0, 1)), layers.RandAugment((0, 1), 1)]),
            layers.Resizing(4, 4),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(UNIT, np.ones((3, 1)), epochs=2, verbose=0)
    wanted = model.predict(UNIT, verbose=0)
    np.testing.assert_allclose(wanted, model.layers[-1](layers.Flatten()(layers.Resizing(4, 4)(UNIT))), rtol=1e-5)
    assert np.abs(model(UNIT, training=True).numpy() - wanted).max() > 1e-4
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(models.load_model(tmp_path / "model.keras").predict(UNIT, verbose=0), wanted)
    images, labels = Input((6, 7, 3)), Input((3,))
    mixed = layers.MixUp()({"images": images, "labels": labels})
    assert (mixed["images"].shape, mixed["labels"].shape) == ((None, 6, 7, 3), (None, 3))
    assert Model([images, labels], mixed)([UNIT, np.eye(3)])["labels"].shape == (3, 3)


def test_files_find_the_layers_before_anybody_used_them(tmp_path):
    Sequential([layers.Input((6, 7, 3)), layers.RandomHue(0.1), layers.CutMix()]).save(tmp_path / "model.keras")
    program = (
        "import sys; from minikeras import layers, models, Sequential; import minikeras.ops; "
        "assert not [m for m in sys.modules if 'layers.image' in m or 'ops.image' in m]; "
        "assert 'RandomFlip' in dir(layers); "
        f"print([type(one).__name__ for one in models.load_model({str(tmp_path / 'model.keras')!r}).layers])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["['RandomHue',", "'CutMix']"]
    old = {"class_name": "RandomZoom", "config": {"height_factor": 0.1}}  # without its module, as in old files
    assert layers.deserialize(old).height_factor == 0.1


def test_in_a_dataset():
    pipeline = layers.Pipeline([layers.Resizing(4, 4), layers.RandomFlip(seed=1), layers.Rescaling(1 / 255)])
    batches = Dataset.from_arrays(BYTES, np.arange(3)).batch(3)
    for images, labels in batches.map(lambda x, y: (pipeline(x), y)):
        assert (images.shape, images.max() <= 1, labels.tolist()) == ((3, 4, 4, 3), True, [0, 1, 2])
    mix = layers.MixUp(seed=2)
    data = Dataset.from_arrays({"images": UNIT, "labels": np.eye(3, dtype="float32")}).batch(3).map(mix)
    for element in data:
        np.testing.assert_allclose(element["labels"].sum(axis=1), 1, rtol=1e-6)


def test_gradients_reach_the_pictures():
    images = UNIT[:, :4, :4].astype("float64")
    for layer in (
        layers.RandomRotation(0.2, dtype="float64"),
        layers.RandomZoom(0.3, fill_mode="constant", dtype="float64"),
        layers.RandomContrast(0.2, value_range=(-9, 9), dtype="float64"),
        layers.RandomHue(0.2, value_range=(0, 1), dtype="float64"),
        layers.RandomSharpness((0.2, 0.3), value_range=(-9, 9), dtype="float64"),
        layers.MixUp(dtype="float64"),
        layers.UpSampling2D(2, interpolation="bicubic", dtype="float64"),
    ):
        drawn = None
        if hasattr(layer, "get_random_transformation"):
            drawn = layer.get_random_transformation(images)
        call = layer if drawn is None else lambda x, layer=layer, drawn=drawn: layer.transform_images(x, drawn)
        check_gradients(lambda x, call=call: ops.multiply(call(x), 1.0), images)


def test_changes_known_by_heart():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    flipped = layers.RandomFlip("horizontal").transform_images(x, {"flips": np.array([True])})
    np.testing.assert_array_equal(flipped.numpy(), x[:, :, ::-1])
    turned = layers.RandomRotation((0.25, 0.25))(x[:, :, :3])
    np.testing.assert_allclose(turned.numpy(), np.rot90(x[:, :, :3], 1, (1, 2)), atol=1e-5)  # counter-clockwise
    moved = layers.RandomTranslation((1 / 3, 1 / 3), (-0.25, -0.25), fill_mode="wrap")(x)
    np.testing.assert_allclose(moved.numpy(), np.roll(x, (1, -1), (1, 2)), atol=1e-4)
    np.testing.assert_array_equal(layers.RandomInvert((1.0, 1.0), (-1, 11))(x).numpy(), 10 - x)
    grey = layers.RandomSaturation((0.0, 0.0))(BYTES).numpy()
    np.testing.assert_allclose(grey, BYTES.max(axis=-1, keepdims=True).repeat(3, -1), rtol=1e-5)
    full = layers.RandomSaturation((1.0, 1.0))(BYTES).numpy()
    assert full.min() >= -1e-3 and full.max() <= 255 + 1e-3  # Keras leaves the range
    dark = layers.RandomBrightness((-0.5, -0.5))(np.full((2, 2, 3), 200, "uint8")).numpy()
    np.testing.assert_allclose(dark, 72.5)  # Keras counts bytes modulo 256
    tilted = layers.RandomContrast(0.4)
    assert tilted.factor == (0.4, 0.4)  # as documented: from 0.6 to 1.4


def test_a_crop_of_small_pictures_and_in_inference():
    crop = layers.RandomCrop(4, 4, seed=1)
    x = np.arange(48.0).reshape(1, 6, 8, 1)
    places = {tuple(crop(x).numpy()[0, 0, 0]) for _ in range(60)}
    assert places == {(8.0 * row + column,) for row in range(3) for column in range(5)}
    middle = ops.image.resize(x, (4, 4), crop_to_aspect_ratio=True)
    np.testing.assert_allclose(crop(x, training=False).numpy(), middle)
    np.testing.assert_allclose(crop(x[:, :3]).numpy(), ops.image.resize(x[:, :3], (4, 4), crop_to_aspect_ratio=True))
    np.testing.assert_array_equal(layers.CenterCrop(4, 4)(x).numpy(), x[:, 1:5, 2:6])


def test_histograms_are_of_single_pictures():
    layer = layers.Equalization()
    both = layer(BYTES).numpy()
    for one, alone in zip(both, BYTES, strict=True):
        np.testing.assert_array_equal(one, layer(alone).numpy())
    counts = np.array([0, 0, 0, 50, 50, 100, 200, 250], "uint8").reshape(1, 8, 1)
    assert layer(counts).numpy().ravel().tolist() == [0, 0, 0, 102, 102, 153, 204, 255]
    flat = np.full((2, 2, 1), 7, "uint8")
    assert layer(flat).numpy().max() == layers.AutoContrast()(flat).numpy().max() == 7


def test_mixing_needs_labels_of_classes():
    for layer in (layers.MixUp(), layers.CutMix()):
        with pytest.raises(ValueError, match=r"mixes labels of shape \(batch, classes\), got shape \(3,\)"):
            layer({"images": UNIT, "labels": np.arange(3)})
    one_hot = layers.CutMix(seed=3)({"images": UNIT, "labels": np.eye(3)})["labels"].numpy()
    np.testing.assert_allclose(one_hot.sum(axis=1), 1, rtol=1e-6)


class Shift(BaseImagePreprocessingLayer):
    def __init__(self, by=1, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def get_random_transformation(self, data, training=True, seed=None):
        return {"by": self.by} if training else None

    def transform_images(self, images, transformation, training=True):
        return images + transformation["by"] if training else images

    def transform_labels(self, labels, transformation, training=True):
        return labels * 2


def test_a_layer_of_a_users_own():
    layer = Shift(by=3, data_format="channels_last")
    result = layer({"images": UNIT, "labels": np.ones(3)})
    np.testing.assert_allclose(result["images"].numpy(), UNIT + 3)
    assert result["labels"].numpy().tolist() == [2, 2, 2]
    np.testing.assert_array_equal(layer(UNIT[0], training=False).numpy(), UNIT[0])
    again = Shift.from_config(layer.get_config())
    assert (again.by, again.data_format) == (3, "channels_last")


def test_refused():
    data = {"images": UNIT, "bounding_boxes": {"boxes": np.ones((3, 1, 4)), "labels": np.ones((3, 1))}}
    with pytest.raises(ValueError, match="needs a bounding_box_format"):
        layers.RandomFlip()(data)
    with pytest.raises(NotImplementedError, match="does not transform bounding boxes; leave"):
        layers.RandomFlip(bounding_box_format="xyxy")(data)
    with pytest.raises(ValueError, match="takes pictures of rank 3 or batches of rank 4, got shape"):
        layers.RandomFlip()(UNIT[0, 0])
    with pytest.raises(ValueError, match="mode must be 'horizontal', 'vertical'"):
        layers.RandomFlip("diagonal")
    for layer in (layers.RandomTranslation, layers.RandomZoom):
        with pytest.raises(ValueError, match=r"needs for height_factor a number from -1 to 1, or two as a range, got"):
            layer((-1.1, 0.0), 0.0)
    with pytest.raises(ValueError, match="needs for factor a number from 0 to 1, or two as a range, got 3"):
        layers.RandomHue(3)
    with pytest.raises(ValueError, match=r"needs two different numbers \(low, high\) for value_range, got"):
        layers.RandomHue(0.1, value_range=(1, 1))
    with pytest.raises(ValueError, match="one or three numbers for fill_value"):
        layers.RandomErasing(fill_value=(1, 2))
    with pytest.raises(ValueError, match="one or two odd numbers for kernel_size, got 2"):
        layers.RandomGaussianBlur(kernel_size=2)
    masked = layers.Pipeline([Masked()])
    np.testing.assert_array_equal(masked(np.ones(3), mask=np.array([1, 0, 1])), [1, 0, 1])
    with pytest.raises(ValueError, match="Pipeline needs a list of layers, got None"):
        layers.Pipeline.from_config({"name": "steps"})
    with pytest.raises(ValueError, match="Pipeline needs a list of layers, got 3"):
        layers.Pipeline(3)
    with pytest.raises(ValueError, match="takes one of"):
        layers.UpSampling2D(interpolation="area")


def test_older_layers_and_paths():
    older = _legacy.layers
    assert older.RandomHeight(0.3, seed=1)(UNIT).shape[2:] == (7, 3)
    assert older.RandomWidth((-0.5, -0.5))(UNIT).shape == (3, 6, 3, 3)
    assert older.RandomWidth(0.2)(Input((6, 7, 3))).shape == (None, 6, None, 3)
    with pytest.raises(AttributeError, match="has no attribute 'RandomThing'"):
        minikeras.layers.RandomThing  # noqa: B018


def test_results_are_arrays_of_the_device():
    images = k.to_device(UNIT)
    for name, make in MAKERS.items():
        assert isinstance(make()(images).data, k.xp.ndarray), name
