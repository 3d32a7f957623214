"""`ops.image`: gradients against difference quotients, what is refused, and what follows from the mathematics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.op_cases import spaced

from minikeras import Input, ops
from minikeras.autodiff import check_gradients

LIMITED = settings(max_examples=8, deadline=None)
FORMATS = st.sampled_from(["channels_last", "channels_first"])


def pictures(seed, height, width, channels=3, data_format="channels_last", batch=2, low=0.05, high=0.95):
    x = spaced(np.random.default_rng(seed), (batch, height, width, channels), low, high)
    return x if data_format == "channels_last" else np.moveaxis(x, -1, 1).copy()


@LIMITED
@given(
    st.integers(0, 99),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.booleans(),
    st.sampled_from([{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True, "fill_value": 0.5}]),
    FORMATS,
)
def test_gradients_of_resizing(seed, interpolation, size, antialias, ratio, data_format):
    x = pictures(seed, 4, 5, 1, data_format)
    options = {"interpolation": interpolation, "antialias": antialias, "data_format": data_format, **ratio}
    check_gradients(lambda x: ops.image.resize(x, size, **options), x)


@LIMITED
@given(
    st.integers(0, 99), st.sampled_from(["constant", "nearest", "wrap", "mirror", "reflect"]), FORMATS, st.booleans()
)
def test_gradients_of_warps(seed, mode, data_format, bent):
    rng = np.random.default_rng(seed)
    maps = np.array([[1.0, 0, 0, 0, 1, 0, 0, 0]]) + rng.uniform(-0.2, 0.2, (2, 8)) * [1, 1, 9, 1, 1, 9, bent, bent]
    x = pictures(seed, 4, 5, 2, data_format)

    def warp(x, maps):
        return ops.image.affine_transform(x, maps, fill_mode=mode, fill_value=0.3, data_format=data_format)

    check_gradients(warp, x, maps)
    check_gradients(lambda x: ops.image.affine_transform(x, maps, "nearest", mode, data_format=data_format), x)
    places = rng.uniform(-6, 9, (2, 7))
    check_gradients(lambda x, p: ops.image.map_coordinates(x, p, 1, mode, 0.5), x[0, :, :, 0], places)
    corners = np.array([[0.0, 0], [4, 0], [0, 3], [4, 3]])
    moved = corners + rng.uniform(-0.9, 0.9, (4, 2))
    check_gradients(lambda x: ops.image.perspective_transform(x, corners, moved, data_format=data_format), x)
    check_gradients(lambda x: ops.image.elastic_transform(x, 2.0, 1.0, fill_mode=mode, seed=seed), x)


@LIMITED
@given(st.integers(0, 99), FORMATS)
def test_gradients_of_filters_patches_and_colours(seed, data_format):
    x = pictures(seed, 6, 5, 3, data_format)
    form = {"data_format": data_format}
    for call in (
        lambda x: ops.image.gaussian_blur(x, (3, 5), (0.7, 1.9), **form),
        lambda x: ops.image.sobel_edges(x, **form),
        lambda x: ops.image.ssim(x, 1 - x, filter_size=3, **form),
        lambda x: ops.image.extract_patches(x, (2, 3), 1, padding="same", **form),
        lambda x: ops.image.pad_images(x, 1, 0, target_height=8, target_width=6, **form),
        lambda x: ops.image.crop_images(x, 1, 2, target_height=3, right_cropping=0, **form),
        lambda x: ops.image.rgb_to_grayscale(x, **form),
        lambda x: ops.image.rgb_to_hsv(x, **form),
        lambda x: ops.image.hsv_to_rgb(x, **form),
    ):
        check_gradients(call, x)
    check_gradients(
        lambda x: ops.image.scale_and_translate(x, (2, 6, 9, 3), [1.7], [-0.3], [2], "cubic"), pictures(seed, 6, 5)
    )


@LIMITED
@given(st.integers(0, 99), st.sampled_from(["valid", "same"]), st.sampled_from([2, 3]), FORMATS, st.booleans())
def test_patches_come_together_again(seed, padding, rank, data_format, single):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 4, rank).tolist())
    sizes = tuple((np.array(size) * rng.integers(1, 3, rank) + (padding == "same") * rng.integers(0, 2, rank)).tolist())
    x = rng.normal(size=(*sizes, 2) if data_format == "channels_last" else (2, *sizes))
    x = x if single else x[None].repeat(2, 0)
    patches = ops.image.extract_patches(x, size, padding=padding, data_format=data_format)
    again = ops.image.reconstruct_patches(patches, size, sizes, padding=padding, data_format=data_format)
    np.testing.assert_array_equal(again, x)
    check_gradients(
        lambda p: ops.image.reconstruct_patches(p, size, sizes, padding=padding, data_format=data_format),
        patches.numpy(),
    )


def test_colours_there_and_back():
    x = pictures(3, 5, 6)
    np.testing.assert_allclose(ops.image.hsv_to_rgb(ops.image.rgb_to_hsv(x)), x, rtol=1e-12)


def test_a_quarter_turn():
    """Of a square about its middle, by each way to read pictures."""
    x = pictures(1, 6, 6).astype("float32")
    turn = np.array([0.0, -1, 5, 1, 0, 0, 0, 0], "float32")
    for mode in ("reflect", "constant", "wrap"):
        for interpolation in ("bilinear", "nearest"):
            y = ops.image.affine_transform(x, turn, interpolation, mode)
            np.testing.assert_allclose(y, np.rot90(x, 1, (1, 2)), atol=1e-5)


def test_nearest_pixels_are_exact():
    """(2 i + 1) length / (2 target) is computed in whole numbers."""
    for length in range(1, 40):
        for target in range(1, 40):
            y = ops.image.resize(np.arange(length, dtype="int32").reshape(1, length, 1), (1, target), "nearest")
            assert y.numpy().ravel().tolist() == [(2 * i + 1) * length // (2 * target) for i in range(target)]


def test_whole_numbers_stay_in_their_type():
    step = np.uint8([[[0], [0], [255], [255]]])
    y = ops.image.resize(step, (1, 16), "bicubic")
    assert y.dtype == "uint8"
    assert (y.numpy().min(), y.numpy().max()) == (0, 255)  # what swings over is clipped, not wrapped


X = np.ones((2, 4, 5, 3), "float32")
REFUSED = [
    (lambda: ops.image.resize(X[0, 0], (2, 2)), "takes inputs of rank 3 or 4, got shape"),
    (lambda: ops.image.resize(X, (2,)), "needs a size of two numbers"),
    (lambda: ops.image.resize(X, (2, 0)), "size must be a positive whole number, got 0"),
    (lambda: ops.image.resize(X, (2, 2), "cubic"), "interpolation must be 'bilinear'"),
    (lambda: ops.image.resize(X, (2, 2), fill_mode="reflect"), "fill_mode must be 'constant'"),
    (lambda: ops.image.resize(X, (2, 2), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True), "leave one of them"),
    (lambda: ops.image.resize(X[:, :0], (2, 2)), "needs pictures with pixels"),
    (lambda: ops.image.pad_images(X, 1), "two of three numbers"),
    (lambda: ops.image.pad_images(X, 1, 1, target_height=4, target_width=9), "may not be negative"),
    (lambda: ops.image.crop_images(X, 1, 1, target_height=9, target_width=2), "may not be negative"),
    (lambda: ops.image.crop_images(X, -1, 1, target_height=2, target_width=2), "top_cropping must be a whole number"),
    (lambda: ops.image.crop_images(X, 4, 1, 1, 1), "may not be negative"),
    (lambda: ops.image.affine_transform(X, np.ones((3, 8))), "needs a transform of shape"),
    (lambda: ops.image.affine_transform(X, np.ones(6)), "needs a transform of shape"),
    (lambda: ops.image.affine_transform(X, np.ones(8), "bicubic"), "interpolation must be"),
    (lambda: ops.image.affine_transform(X, np.ones(8), fill_mode="edge"), "fill_mode must be"),
    (lambda: ops.image.perspective_transform(X, np.ones((4, 2)), np.ones((4, 2))), "no three lie on a line"),
    (lambda: ops.image.perspective_transform(X, np.ones((3, 2)), np.ones((4, 2))), "needs start_points of shape"),
    (lambda: ops.image.map_coordinates(X, np.ones((3, 2)), 1), "needs coordinates of shape"),
    (lambda: ops.image.map_coordinates(X[0, 0, 0], np.ones((1, 2)), 2), "order must be 0 or 1"),
    (lambda: ops.image.elastic_transform(X, sigma=0), "sigma must be a positive number|sigma must be a number above 0"),
    (lambda: ops.image.extract_patches(X, (1, 2, 3, 4)), "one, two or three whole numbers"),
    (lambda: ops.image.extract_patches(X, (9, 9)), "does not fit"),
    (lambda: ops.image.reconstruct_patches(X, 2), "needs an output_size"),
    (lambda: ops.image.reconstruct_patches(ops.image.extract_patches(X, 2), 2, padding="same"), "needs an output_size"),
    (lambda: ops.image.gaussian_blur(X, (3, 3), (1.0, 0.0)), "sigma must be"),
    (lambda: ops.image.ssim(X, X), "does not fit"),
    (lambda: ops.image.ssim(X, X[:1]), "one shape"),
    (lambda: ops.image.rgb_to_grayscale(X[..., :2]), "1 or 3 channels"),
    (lambda: ops.image.rgb_to_hsv(X.astype("uint8")), "takes floats with 3 channels, got uint8"),
    (lambda: ops.image.hsv_to_rgb(X[..., :1]), "takes floats with 3 channels"),
    (lambda: ops.image.scale_and_translate(X, (2, 4, 5, 3), [0.0], [1.0], [1], "linear"), "a scale above 0"),
    (lambda: ops.image.scale_and_translate(X, (2, 4, 6, 3), [1.0], [1.0], [1], "linear"), "keeps all sizes but"),
    (lambda: ops.image.scale_and_translate(X, (2, 4, 5, 3), [1.0], [1.0], [1], "nearest"), "method must be"),
    (lambda: ops.image.sobel_edges(X[0]), "takes a batch of pictures"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_other_refusals():
    with pytest.raises(TypeError, match="one, two or three whole numbers"):
        ops.image.extract_patches(X, 2.5)
    with pytest.raises(NotImplementedError, match="side by side"):
        ops.image.reconstruct_patches(X, 2, strides=1)


def test_open_sizes():
    x = Input((None, None, 3))
    assert ops.image.resize(x, (5, 6)).shape == (None, 5, 6, 3)
    assert ops.image.pad_images(x, 1, 1, target_height=9, right_padding=2).shape == (None, 9, None, 3)
    assert ops.image.crop_images(x, 1, 1, target_height=9, right_cropping=2).shape == (None, 9, None, 3)
    assert ops.image.extract_patches(x, 4).shape == (None, None, None, 48)
    assert ops.image.affine_transform(x, np.ones(8)).shape == (None, None, None, 3)
    assert ops.image.ssim(x, x).shape == (None,)
