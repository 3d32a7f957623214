"""Preprocessing layers for pictures against real Keras: configuration, files, and the same for one transformation."""

from __future__ import annotations

import inspect

import jax
import keras
import numpy as np
import pytest
from keras.src.legacy import layers as older_layers
from signatures import by_position

from minikeras import Sequential, _legacy, layers, models, tree, utils


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """JAX compiles each of these once, for arrays of a few hundred numbers."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


RNG = np.random.default_rng(11)
BYTES = RNG.integers(0, 256, (3, 8, 11, 3)).astype("uint8")
UNIT = RNG.random((3, 8, 11, 3)).astype("float32")
COLOURS = (255 * UNIT).astype("float32")

# class, arguments, pictures, and whether Keras computes what its documentation says
LAYERS = [
    ("Resizing", {"height": 5, "width": 6}, UNIT),
    ("Resizing", {"height": 9, "width": 4, "interpolation": "bicubic", "antialias": True}, BYTES),
    ("Resizing", {"height": 6, "width": 6, "pad_to_aspect_ratio": True, "fill_value": 0.5}, UNIT),
    ("Resizing", {"height": 6, "width": 6, "crop_to_aspect_ratio": True, "interpolation": "nearest"}, BYTES),
    ("CenterCrop", {"height": 5, "width": 6}, BYTES),
    ("CenterCrop", {"height": 12, "width": 6}, UNIT),
    ("RandomCrop", {"height": 5, "width": 6, "seed": 1}, UNIT),
    ("RandomFlip", {}, BYTES),
    ("RandomFlip", {"mode": "vertical", "seed": 3}, UNIT),
    ("RandomRotation", {"factor": 0.2}, UNIT),
    ("RandomRotation", {"factor": (-0.1, 0.4), "fill_mode": "constant", "fill_value": 0.3, "seed": 1}, UNIT),
    ("RandomRotation", {"factor": 0.3, "interpolation": "nearest", "fill_mode": "wrap"}, UNIT),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": (-0.2, 0.4), "fill_mode": "nearest"}, UNIT),
    ("RandomZoom", {"height_factor": 0.4}, UNIT),
    ("RandomZoom", {"height_factor": (0.1, 0.4), "width_factor": 0.2, "fill_mode": "constant"}, UNIT),
    ("RandomShear", {"x_factor": (0.1, 0.5), "y_factor": (0.0, 0.2), "fill_mode": "wrap"}, UNIT),
    ("RandomBrightness", {"factor": 0.4}, COLOURS),
    ("RandomBrightness", {"factor": (-0.1, 0.3), "value_range": (0, 1), "seed": 2}, UNIT),
    ("RandomContrast", {"factor": (0.5, 0.9)}, COLOURS),
    ("RandomColorDegeneration", {"factor": (0.2, 0.8)}, COLOURS),
    ("RandomSaturation", {"factor": (0.2, 0.8), "value_range": (0, 1)}, UNIT),
    ("RandomHue", {"factor": (0.2, 0.8)}, COLOURS),
    ("RandomGrayscale", {"factor": 0.6}, BYTES),
    ("RandomGrayscale", {}, UNIT),
    ("RandomInvert", {"factor": (0.4, 0.9)}, COLOURS),
    ("RandomPosterization", {"factor": (1, 7)}, COLOURS),
    ("RandomPosterization", {"factor": (3, 3), "value_range": (0, 1)}, UNIT),
    ("RandomSharpness", {"factor": (0.0, 1.0)}, COLOURS),
    ("RandomGaussianBlur", {"factor": (0.4, 0.9), "kernel_size": 5, "sigma": (1.0, 1.0)}, COLOURS),
    ("RandomErasing", {"factor": (0.4, 0.9), "scale": (0.1, 0.6)}, COLOURS),
    ("RandomErasing", {"factor": 1.0, "fill_value": 0.5, "value_range": (0, 1)}, UNIT),
    ("Solarization", {"addition_factor": 0.2, "threshold_factor": 0.5}, COLOURS),
    ("Solarization", {"threshold_factor": 0.5, "value_range": (0, 1)}, UNIT),
    ("AutoContrast", {}, COLOURS / 2),
    ("AutoContrast", {"value_range": (0, 1)}, UNIT / 2),
    ("MixUp", {"alpha": 0.4}, COLOURS),
    ("CutMix", {"factor": (0.2, 0.9)}, COLOURS),
    ("RandAugment", {"num_ops": 1, "factor": 0.4}, COLOURS[:1]),
]
IDS = [f"{name}-{'-'.join(map(str, arguments.values()))}-{x.dtype}" for name, arguments, x in LAYERS]
NAMES = sorted({name for name, *_ in LAYERS} | {"Equalization", "RandomColorJitter", "Pipeline"})
ALWAYS = ("Resizing", "CenterCrop", "RandomCrop", "AutoContrast")


def pair(name, arguments):
    return getattr(layers, name)(**arguments), getattr(keras.layers, name)(**arguments)


def plain(value):
    """Keras's values as arrays, with lists for tuples."""
    return tree.map_structure(lambda leaf: leaf if isinstance(leaf, (int, str)) else np.asarray(leaf), value)


def listed(value):
    if isinstance(value, dict):
        return {key: listed(one) for key, one in value.items() if key not in ("name", "seed", "dtype")}
    return [listed(one) for one in value] if isinstance(value, (list, tuple)) else value


def close(ours, theirs, rtol=1e-4, atol=2e-3, share=1.0):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    atol = atol if theirs.max() > 2 else 1e-5
    near = np.isclose(ours.astype("f8"), theirs.astype("f8"), rtol=rtol, atol=atol)
    assert near.mean() >= share, np.abs(ours.astype("f8") - theirs.astype("f8")).max()


@pytest.mark.parametrize(("name", "arguments", "images"), LAYERS, ids=IDS)
def test_configuration_result_and_inference(name, arguments, images):
    keras.utils.set_random_seed(3), utils.set_random_seed(3)
    ours, theirs = pair(name, arguments)
    configs = listed(ours.get_config()), listed(theirs.get_config())
    if name == "RandomGrayscale":
        configs[0].pop("seed", None)
    assert configs[0] == configs[1]
    again, there = layers.deserialize(keras.layers.serialize(theirs)), keras.layers.deserialize(layers.serialize(ours))
    assert listed(again.get_config()) == configs[0]
    assert listed(there.get_config()) == configs[1]

    transformation = theirs.get_random_transformation(images, training=True)
    share = 0.99 if arguments.get("interpolation") == "nearest" or name == "RandAugment" else 1.0  # ties, floors
    found = ours.transform_images(images, plain(transformation), training=True)
    close(
        found, theirs.transform_images(keras.ops.convert_to_tensor(images), transformation, training=True), share=share
    )

    drawn = tree.map_structure(np.asarray, ours.get_random_transformation(images, training=True))
    if name not in ("RandAugment", "MixUp") and drawn is not None:
        if isinstance(drawn, dict):
            drawn = {key: keras.ops.convert_to_tensor(one) for key, one in drawn.items()}
        wanted = theirs.transform_images(keras.ops.convert_to_tensor(images), drawn, training=True)
        close(ours.transform_images(images, drawn), wanted, share=share)

    if name != "RandomCrop":
        result, wanted = ours(images, training=False), theirs(images, training=False)
        close(result, np.asarray(wanted) if name in ALWAYS else np.asarray(wanted).astype(str(result.dtype)))
    one = ours(images[0])  # in training by default
    assert one.shape == tuple(theirs.compute_output_shape(images[0].shape))


@pytest.mark.parametrize("name", NAMES)
def test_arguments_by_position(name):
    assert by_position(getattr(layers, name)) == by_position(getattr(keras.layers, name))


@pytest.mark.parametrize("name", ["RandomHeight", "RandomWidth"])
def test_older_layers(name):
    ours, theirs = getattr(_legacy.layers, name), getattr(older_layers, name)
    assert by_position(ours) == by_position(theirs)
    one, other = ours((0.5, 0.5), seed=1), theirs((0.5, 0.5), seed=1)
    assert listed(one.get_config()) == listed(other.get_config())
    close(one(UNIT), np.asarray(other(UNIT)))
    close(one(UNIT, training=False), UNIT)
    assert one.compute_output_shape((None, 8, 11, 3)) == other.compute_output_shape((None, 8, 11, 3))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Resizing", {"height": 5, "width": 6}),
        ("CenterCrop", {"height": 5, "width": 6}),
        ("RandomFlip", {}),
        ("RandomRotation", {"factor": 0.2}),
        ("RandomContrast", {"factor": (0.5, 0.9)}),
        ("RandomColorDegeneration", {"factor": (0.2, 0.8)}),
        ("RandomHue", {"factor": (0.2, 0.8)}),
        ("RandomSharpness", {"factor": (0.0, 1.0)}),
        ("RandomErasing", {"factor": 1.0, "fill_value": 3}),
        ("CutMix", {"factor": 0.8}),
        ("RandomGrayscale", {}),
    ],
)
def test_channels_first(name, arguments):
    ours, theirs = pair(name, {**arguments, "data_format": "channels_first"})
    images = np.moveaxis(COLOURS, -1, 1).copy()
    transformation = theirs.get_random_transformation(keras.ops.convert_to_tensor(images), training=True)
    wanted = theirs.transform_images(keras.ops.convert_to_tensor(images), transformation, training=True)
    close(ours.transform_images(images, plain(transformation), training=True), wanted)
    assert ours.compute_output_shape(images.shape) == tuple(theirs.compute_output_shape(images.shape))


def test_equalization_of_one_picture():
    """Keras puts all pictures of a batch into one histogram, and does nothing in inference, against what it says."""
    for arguments, images in (({"bins": 9}, COLOURS), ({"value_range": (0, 1), "bins": 7}, UNIT)):
        ours, theirs = pair("Equalization", arguments)
        assert listed(ours.get_config()) == listed(theirs.get_config())
        assert listed(keras.layers.deserialize(layers.serialize(ours)).get_config()) == listed(theirs.get_config())
        wanted = np.concatenate([np.asarray(theirs(one[None], training=True)) for one in images])
        close(ours(images, training=True), wanted)
        close(ours(images, training=False), wanted)
        flat = np.full((1, 4, 4, 1), 0.5, "float32")
        close(ours(flat), theirs(flat, training=True))


def test_color_jitter_is_its_layers_in_turn():
    factors = {"brightness_factor": 0.2, "contrast_factor": (0.1, 0.3), "saturation_factor": 0.4, "hue_factor": 0.2}
    ours, theirs = pair("RandomColorJitter", {"value_range": (0, 1), **factors})
    assert listed(ours.get_config()) == listed(theirs.get_config())
    drawn = ours.get_random_transformation(UNIT, training=True)
    wanted = UNIT
    for word in ("brightness", "contrast", "saturation", "hue"):
        step = tree.map_structure(lambda one: keras.ops.convert_to_tensor(np.asarray(one)), drawn[f"random_{word}"])
        step = {key: one if word in ("brightness", "contrast") else one.reshape(-1) for key, one in step.items()}
        wanted = getattr(theirs, f"random_{word}").transform_images(keras.ops.convert_to_tensor(wanted), step)
    close(ours.transform_images(UNIT, drawn), wanted)


DRAWS = [
    ("RandomFlip", {}, "flips"),
    ("RandomRotation", {"factor": 0.2}, "angle"),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": (-0.2, 0.4)}, "translations"),
    ("RandomZoom", {"height_factor": (0.1, 0.4), "width_factor": 0.2}, "width_zoom"),
    ("RandomShear", {"x_factor": (0.1, 0.5), "y_factor": (0.0, 0.2)}, "shear_factor"),
    ("RandomBrightness", {"factor": 0.4}, "rgb_delta"),
    ("RandomContrast", {"factor": (0.5, 0.9)}, "contrast_factor"),
    ("RandomColorDegeneration", {"factor": (0.2, 0.8)}, "factor"),
    ("RandomSaturation", {"factor": (0.2, 0.6)}, "factor"),
    ("RandomHue", {"factor": 0.6}, "factor"),
    ("RandomInvert", {"factor": (0.4, 0.9)}, "apply_inversion"),
    ("RandomPosterization", {"factor": 6}, "shift_factor"),
    ("RandomSharpness", {"factor": 0.6}, "factor"),
    ("RandomGaussianBlur", {"factor": 0.7}, "should_apply_blur"),
    ("RandomErasing", {"scale": (0.1, 0.6), "fill_value": 1}, "batch_masks"),
    ("Solarization", {"addition_factor": 0.2, "threshold_factor": 0.5}, "thresholds"),
    ("MixUp", {"alpha": 0.4}, "mix_weight"),
    ("CutMix", {"factor": (0.5, 0.5)}, "mix_weight"),
]


@pytest.mark.parametrize(("name", "arguments", "key"), DRAWS, ids=[f"{name}-{key}" for name, _, key in DRAWS])
def test_draws_are_of_one_distribution(name, arguments, key):
    count = 400 if name == "RandomErasing" else 1000 if name in ("MixUp", "CutMix") else 3000
    images = np.zeros((count, 3, 4, 3), "float32")
    drawn = []
    for layer in pair(name, {**arguments, "seed": 5}):
        values = np.asarray(layer.get_random_transformation(images, training=True)[key]).astype("f8")
        drawn.append(values.reshape(count, -1) if key != "batch_masks" else values[..., 0].reshape(count, -1))
    spread = drawn[1].std(axis=0) + 1e-9
    off = np.abs(drawn[0].mean(axis=0) - drawn[1].mean(axis=0)) / spread
    assert off.max() < 4 * (2 / count) ** 0.5, off  # four standard deviations of the difference of two means
    np.testing.assert_allclose(drawn[0].std(axis=0), spread, rtol=0.06 if count == 3000 else 0.15, atol=1e-6)


def test_labels_and_masks():
    data = {"images": COLOURS, "labels": np.eye(3, dtype="float32"), "segmentation_masks": BYTES[..., :1]}
    for name, arguments in (("MixUp", {}), ("CutMix", {}), ("RandomFlip", {}), ("RandomRotation", {"factor": 0.2})):
        ours, theirs = pair(name, arguments)
        transformation = theirs.get_random_transformation(COLOURS, training=True)
        wanted = theirs.transform_labels(keras.ops.convert_to_tensor(data["labels"]), transformation, training=True)
        close(ours.transform_labels(data["labels"], plain(transformation)), wanted)
        if name != "MixUp":  # Keras takes single values of the masks there, and not masks
            masks = keras.ops.convert_to_tensor(data["segmentation_masks"])
            wanted = np.asarray(theirs.transform_segmentation_masks(masks, transformation, training=True))
            found = ours.transform_segmentation_masks(data["segmentation_masks"], plain(transformation)).numpy()
            assert (found == wanted).mean() > 0.98, name
        result = ours(dict(data))
        assert {key: one.shape for key, one in result.items()} == {key: one.shape for key, one in data.items()}


def test_files_both_ways(tmp_path):
    def steps(library, other):
        return [
            library.Resizing(8, 8),
            library.RandomFlip("horizontal", seed=1),
            library.RandomRotation(0.1),
            library.RandomContrast((0.1, 0.2)),
            library.RandAugment(num_ops=1),
            library.Pipeline([library.RandomZoom(0.1), library.CenterCrop(6, 6)]),
            library.UpSampling2D(2, interpolation="bicubic"),
            other.Conv2D(2, 3),
        ]

    ours = Sequential([layers.Input((9, 10, 3)), *steps(layers, layers)])
    theirs = keras.Sequential([keras.layers.Input((9, 10, 3)), *steps(keras.layers, keras.layers)])
    ours.save(tmp_path / "ours.keras"), theirs.save(tmp_path / "theirs.keras")
    images = COLOURS[:, :, :10].repeat(2, 1)[:, :9].astype("float32")
    close(models.load_model(tmp_path / "theirs.keras").predict(images, verbose=0), theirs.predict(images, verbose=0))
    close(ours.predict(images, verbose=0), keras.models.load_model(tmp_path / "ours.keras").predict(images, verbose=0))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])
def test_up_sampling(interpolation):
    for data_format, images in (("channels_last", UNIT), ("channels_first", np.moveaxis(UNIT, -1, 1))):
        arguments = {"size": (2, 3), "interpolation": interpolation, "data_format": data_format}
        ours, theirs = pair("UpSampling2D", arguments)
        assert listed(ours.get_config()) == listed(theirs.get_config())
        close(ours(images), theirs(images))


REFUSED = [
    ("RandomRotation", {"factor": 0.1, "fill_mode": "edge"}),
    ("RandomZoom", {"height_factor": 0.1, "interpolation": "bicubic"}),
    ("RandomRotation", {"factor": 2.0}),
    ("RandomRotation", {"factor": "x"}),
    ("RandomRotation", {"factor": (0.1, 0.2, 0.3)}),
    ("RandomTranslation", {"height_factor": 1.5, "width_factor": 0}),
    ("RandomZoom", {"height_factor": -1.5}),
    ("RandomShear", {"x_factor": -0.5}),
    ("RandomBrightness", {"factor": 0.1, "value_range": 3}),
    ("RandomPosterization", {"factor": 9}),
    ("RandomGaussianBlur", {"kernel_size": 4}),
    ("RandomGrayscale", {"factor": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), REFUSED)
def test_refused_as_in_keras(name, arguments):
    with pytest.raises((ValueError, NotImplementedError)) as wanted:
        getattr(keras.layers, name)(**arguments)
    with pytest.raises(wanted.type) as found:
        getattr(layers, name)(**arguments)
    assert inspect.cleandoc(str(found.value)).endswith(".")
