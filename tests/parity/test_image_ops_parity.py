"""`ops.image` against real Keras: values, types, shapes of symbolic tensors, and gradients at the first input."""

from __future__ import annotations

import jax
import keras
import numpy as np
import pytest

from minikeras import Input, Model, models, ops
from minikeras.autodiff import GradientTape, Tensor


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """JAX compiles each of these once, for arrays of a few hundred numbers."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


RNG = np.random.default_rng(3)
PICTURES = RNG.random((2, 7, 10, 3)).astype("float32")
SMALL = RNG.random((1, 5, 6, 2)).astype("float32")
BYTES = RNG.integers(0, 256, (2, 7, 10, 3)).astype("uint8")
INTEGERS = RNG.integers(-300, 300, (2, 5, 6, 2)).astype("int32")
FIRST = np.moveaxis(PICTURES, -1, 1).copy()
MAPS = np.array([[0.9, 0.3, -1.3, -0.2, 1.2, 0.7, 0, 0], [-1.1, 0.4, 8.2, 0.3, 0.8, -3.1, 0, 0]], "float32")
MAPS[:, :6] += RNG.uniform(-0.01, 0.01, (2, 6)).astype("float32")  # no place lies halfway between pixels
CORNERS = np.array([[0, 0], [9, 0], [0, 6], [9, 6]], "float32")
MOVED = CORNERS + RNG.uniform(-1.5, 1.5, (2, 4, 2)).astype("float32")
PLACES = RNG.uniform(-9, 14, (2, 40)).astype("float32")

MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
CASES = [
    *[("resize", [PICTURES, (5, 17)], {"interpolation": word}) for word in ("nearest", "bilinear", "bicubic")],
    *[("resize", [PICTURES, (4, 21)], {"interpolation": word}) for word in ("lanczos3", "lanczos5")],
    *[("resize", [PICTURES, (4, 6)], {"interpolation": word, "antialias": True}) for word in ("bilinear", "lanczos3")],
    ("resize", [PICTURES, (6, 3)], {"interpolation": "nearest", "antialias": True}),
    ("resize", [FIRST, (14, 5)], {"data_format": "channels_first"}),
    ("resize", [FIRST[0], (9, 9)], {"data_format": "channels_first", "pad_to_aspect_ratio": True, "fill_value": 0.5}),
    ("resize", [PICTURES, (9, 9)], {"pad_to_aspect_ratio": True, "fill_value": 2.5}),
    ("resize", [PICTURES, (4, 13)], {"pad_to_aspect_ratio": True, "interpolation": "nearest"}),
    ("resize", [PICTURES[0], (9, 9)], {"crop_to_aspect_ratio": True, "interpolation": "bicubic"}),
    ("resize", [PICTURES, (3, 12)], {"crop_to_aspect_ratio": True}),
    ("resize", [BYTES, (5, 4)], {"interpolation": "bicubic"}),
    ("resize", [BYTES, (8, 8)], {"pad_to_aspect_ratio": True, "fill_value": 7.0}),
    ("resize", [INTEGERS, (9, 9)], {"interpolation": "nearest"}),
    ("resize", [PICTURES.astype("float16"), (9, 9)], {}),
    ("pad_images", [PICTURES, 1, 2], {"bottom_padding": 3, "target_width": 15}),
    ("pad_images", [FIRST], {"bottom_padding": 1, "target_height": 9, "right_padding": 0, "target_width": 12}
     | {"data_format": "channels_first"}),
    ("crop_images", [PICTURES, 1, 2], {"bottom_cropping": 3, "target_width": 5}),
    ("crop_images", [PICTURES[0]], {"bottom_cropping": 1, "target_height": 4, "right_cropping": 0, "target_width": 2}),
    *[("affine_transform", [PICTURES, MAPS], {"fill_mode": word, "fill_value": 0.3, "interpolation": order})
      for word, order in zip(MODES, ("bilinear", "nearest", "bilinear", "nearest", "bilinear"), strict=True)],
    ("affine_transform", [FIRST[0], MAPS[0]], {"data_format": "channels_first"}),
    ("affine_transform", [BYTES, MAPS], {"fill_mode": "reflect"}),
    ("perspective_transform", [PICTURES, np.stack([CORNERS] * 2), MOVED], {"fill_value": 0.25}),
    *[("map_coordinates", [INTEGERS[0, :, :, 0].astype("float32"), PLACES, order], {"fill_mode": word, "fill_value": 3})
      for word, order in zip(MODES, (0, 1, 0, 1, 1), strict=True)],
    ("map_coordinates", [INTEGERS[0, :, :, 0], PLACES, 1], {"fill_mode": "mirror"}),
    ("map_coordinates", [np.arange(4.0, dtype="float32"), np.float32([[0.5, 1.5, 2.5, -0.5, -1.5]]), 0], {}),
    ("extract_patches", [PICTURES, 3], {}),
    ("extract_patches", [PICTURES, (2, 3), (1, 2)], {"padding": "same"}),
    ("extract_patches", [FIRST, (2, 3)], {"strides": 1, "dilation_rate": 2, "data_format": "channels_first"}),
    ("extract_patches", [PICTURES[0], 2, 3], {"padding": "same"}),
    ("extract_patches_3d", [PICTURES[..., None], (2, 3, 2)], {"padding": "same"}),
    ("extract_patches", [RNG.random((3, 4, 5, 2)).astype("f4"), (2, 2, 3)], {"strides": (1, 2, 2)}),
    ("gaussian_blur", [PICTURES], {"data_format": "channels_last"}),
    ("gaussian_blur", [FIRST[0], (5, 5), (2.0, 2.0)], {"data_format": "channels_first"}),
    ("hsv_to_rgb", [PICTURES], {}),
    ("hsv_to_rgb", [FIRST[0]], {"data_format": "channels_first"}),
    ("rgb_to_hsv", [PICTURES], {}),
    ("rgb_to_hsv", [FIRST[0]], {"data_format": "channels_first"}),
    ("rgb_to_hsv", [np.float32([[[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.2], [0, 1e-9, 0]]])], {}),
    ("rgb_to_grayscale", [PICTURES], {}),
    ("rgb_to_grayscale", [BYTES], {}),
    ("rgb_to_grayscale", [FIRST[0]], {"data_format": "channels_first"}),
    ("scale_and_translate", [PICTURES, (2, 9, 4, 3), np.float32([1.7, 0.4]), np.float32([-2.1, 0.3]), (1, 2), "linear"],
     {}),
    ("scale_and_translate", [PICTURES, (2, 9, 10, 3), np.float32([0.6]), np.float32([1.3]), (1,), "cubic", False], {}),
    ("sobel_edges", [PICTURES], {}),
    ("sobel_edges", [FIRST], {"data_format": "channels_first"}),
    ("ssim", [FIRST[0], FIRST[1]], {"filter_size": 5, "max_val": 2.0, "k1": 0.1, "data_format": "channels_first"}),
]  # fmt: skip


def _id(case):
    name, args, kwargs = case
    return f"{name}-{args[0].dtype}-{'-'.join(str(value) for value in kwargs.values())}"


@pytest.mark.parametrize("case", CASES, ids=map(_id, CASES))
def test_values_types_and_gradients(case):
    name, args, kwargs = case
    ours, theirs = getattr(ops.image, name), getattr(keras.ops.image, name)
    x, *others = args
    rough = 1e-3 if x.dtype == "float16" else 0

    def close(a, b):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5 + rough, atol=1e-5 + rough)

    if x.dtype.kind != "f":
        found, wanted = ours(*args, **kwargs), theirs(*args, **kwargs)
        assert (str(found.dtype), tuple(found.shape)) == (str(wanted.dtype), tuple(wanted.shape))
        np.testing.assert_array_equal(found.numpy(), np.asarray(wanted))
        return
    wanted, pull = jax.vjp(lambda x: theirs(x, *others, **kwargs), x)
    with GradientTape() as tape:
        source = Tensor(x)
        tape.watch(source)
        found = ours(source, *others, **kwargs)
        assert (str(found.dtype), tuple(found.shape)) == (str(wanted.dtype), tuple(wanted.shape))
        close(found.numpy(), wanted)
        weights = RNG.normal(size=wanted.shape).astype(str(wanted.dtype))
        total = ops.sum(found * weights)
    gradient = tape.gradient(total, source)
    expected = pull(weights)[0]
    close(np.zeros(x.shape) if gradient is None else gradient, expected)
    symbolic = ours(Input(batch_shape=x.shape), *others, **kwargs)
    assert (symbolic.shape, symbolic.dtype) == (tuple(wanted.shape), "float32")


def test_gradients_reach_coordinates_and_maps():
    x, places = INTEGERS[0, :, :, 0].astype("float32"), PLACES
    for mode in ("constant", "reflect"):
        wanted = jax.grad(lambda p, mode=mode: keras.ops.image.map_coordinates(x, p, 1, mode, 2.0).sum())(places)
        with GradientTape() as tape:
            source = Tensor(places)
            tape.watch(source)
            total = ops.sum(ops.image.map_coordinates(x, source, 1, mode, 2.0))
        np.testing.assert_allclose(tape.gradient(total, source), wanted, rtol=1e-4, atol=1e-3)
        wanted = jax.grad(lambda m, mode=mode: keras.ops.image.affine_transform(PICTURES, m, fill_mode=mode).sum())(
            MAPS
        )
        with GradientTape() as tape:
            source = Tensor(MAPS)
            tape.watch(source)
            total = ops.sum(ops.image.affine_transform(PICTURES, source, fill_mode=mode))
        found = tape.gradient(total, source)
        np.testing.assert_allclose(found[:, :6], wanted[:, :6], rtol=1e-3, atol=1e-3)


def test_open_sizes_as_in_keras():
    for name, args, kwargs in (
        ("resize", ((5, 4),), {}),
        ("pad_images", (1, 2), {"target_height": 400, "target_width": 500}),
        ("crop_images", (1, 2), {"target_height": 4, "target_width": 5}),
        ("rgb_to_grayscale", (), {}),
        ("rgb_to_hsv", (), {}),
        ("extract_patches", (3,), {}),
        ("sobel_edges", (), {}),
        ("gaussian_blur", (), {}),
    ):
        ours = getattr(ops.image, name)(Input((None, None, 3)), *args, **kwargs)
        theirs = getattr(keras.ops.image, name)(keras.Input((None, None, 3)), *args, **kwargs)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name


def test_a_graph_of_them_is_the_same_in_keras(tmp_path):
    image, other = Input((12, 14, 3), name="one"), Input((12, 14, 3), name="two")
    y = ops.image.resize(image, (12, 14), interpolation="bicubic") + ops.image.gaussian_blur(other)
    y = ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(y))
    y = ops.image.pad_images(y, 1, 1, 1, 1)
    y = ops.image.crop_images(y, 2, 2, 0, 0)
    patches = ops.image.extract_patches(ops.image.rgb_to_grayscale(y), (2, 2))
    model = Model([image, other], [patches, ops.image.ssim(image, other), ops.image.sobel_edges(y)])
    model.save(tmp_path / "model.keras")
    values = [RNG.random((2, 12, 14, 3)).astype("f4") for _ in range(2)]
    again, theirs = models.load_model(tmp_path / "model.keras"), keras.models.load_model(tmp_path / "model.keras")
    for found, second, wanted in zip(model(values), again(values), theirs(values), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found, second)


def test_what_keras_has_otherwise_than_it_says():
    """Height comes first in `kernel_size` and `sigma`, and maps are projective, as Keras's documentation has it."""
    found = ops.image.gaussian_blur(PICTURES, (3, 5), (1.0, 2.0))
    wanted = keras.ops.image.gaussian_blur(PICTURES, (5, 3), (2.0, 1.0), data_format="channels_last")
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    bent = MAPS.copy()
    bent[:, 6:] = [[0.02, -0.01], [0.01, 0.03]]
    found = ops.image.affine_transform(PICTURES, bent)
    for picture, (a0, a1, a2, b0, b1, b2, c0, c1), result in zip(PICTURES, bent, found.numpy(), strict=True):
        y, x = np.mgrid[:7, :10].astype("f4")
        n = c0 * x + c1 * y + 1
        places = np.stack([(b0 * x + b1 * y + b2) / n, (a0 * x + a1 * y + a2) / n])
        for channel in range(3):
            wanted = keras.ops.image.map_coordinates(picture[..., channel], places, 1)
            np.testing.assert_allclose(result[..., channel], wanted, rtol=1e-4, atol=1e-5)


def test_elastic_transforms_are_of_one_distribution():
    ramp = np.broadcast_to(np.arange(40, dtype="f4")[:, None, None], (40, 40, 1))
    many = np.repeat(ramp[None], 8, 0)
    spread = []
    for module, seed in ((ops, 3), (keras.ops, 4)):
        moved = np.asarray(module.image.elastic_transform(many, alpha=3.0, sigma=2.0, seed=seed)) - many
        inner = moved[:, 12:28, 12:28]
        spread.append((inner.std(), (inner[:, 1:] - inner[:, :-1]).std(), inner.mean()))
    np.testing.assert_allclose(spread[0][:2], spread[1][:2], rtol=0.12)
    assert abs(spread[0][2]) < 0.3
