"""The kernel of image augmentation against SciPy, on which Keras's rests, and against Keras's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")
ndimage = pytest.importorskip("scipy.ndimage")

from keras.src.legacy.preprocessing import image as keras_image  # noqa: E402

from minikeras import kernels as k  # noqa: E402

MODES = ["constant", "nearest", "reflect", "wrap"]
TOLERANCES = {"float64": 1e-6, "float32": 5e-6}  # of a range of 1; a grey level is 1 / 255


def maps(height: int, width: int, seed: int) -> Any:
    """Turns, shears and zooms about the middle, quarter turns, whole shifts, and coordinates far outside."""
    random = np.random.default_rng(seed)
    middle = (np.array([height, width]) - 1) / 2
    linear = [np.eye(2) + random.uniform(-0.4, 0.4, (2, 2)) for _ in range(6)]
    for quarters in (1, 2, 3):
        cosine, sine = np.cos(quarters * np.pi / 2), np.sin(quarters * np.pi / 2)
        linear.append(np.array([[cosine, -sine], [sine, cosine]]))
    found = [np.column_stack([one, middle - one @ middle]) for one in linear]
    for reach in (2, 5, 1000):
        found.append(np.column_stack([np.eye(2), random.integers(-reach, reach + 1, 2) * [height, width]]))
        found.append(np.column_stack([random.normal(size=(2, 2)), random.normal(size=2) * reach * height]))
    found.append(np.column_stack([np.diag([0.5, 2]), [1, -3]]))
    return np.array(found)


def moved(x: Any, matrices: Any, order: int, mode: str) -> Any:
    """SciPy's results, in the pictures' type."""
    found = np.empty_like(x)
    for number, matrix in enumerate(matrices):
        for channel in range(x.shape[-1]):
            settings = {"order": order, "mode": mode, "cval": 0.4}
            source = x[number, ..., channel]
            found[number, ..., channel] = ndimage.affine_transform(source, matrix[:, :2], matrix[:, 2], **settings)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_scipys_results(dtype: str, order: int, mode: str) -> None:
    shapes = [(28, 28, 1), (19, 16, 3)]
    if order < 4 and (order < 2 or mode != "reflect"):  # see the docstring of the kernel
        shapes += [(5, 3, 2), (1, 7, 1), (4, 1, 3), (1, 1, 1)]
    for shape in shapes:
        matrices = maps(*shape[:2], seed=order)
        x = np.random.default_rng(order).random((len(matrices), *shape)).astype(dtype)
        found = k.affine_images(k.to_device(x), None, matrices, order=order, fill_mode=mode, cval=0.4)
        np.testing.assert_allclose(
            k.to_host(found), moved(x, matrices, order, mode), rtol=0, atol=TOLERANCES[dtype], strict=True
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1])
def test_which_pixel_is_read_is_scipys_to_the_last_bit(order: int, mode: str) -> None:
    """Where a rounding decides: on the edge or outside, and halfway between two pixels."""
    for size in (10, 11, 28):
        matrices = maps(size, size, seed=7)
        matrices[:9, :, 2] += 0.5 * np.arange(9)[:, None]  # quarter turns onto borders between pixels too
        x = np.random.default_rng(1).integers(0, 256, (len(matrices), size, size, 1)).astype("float32")
        found = k.to_host(k.affine_images(k.to_device(x), None, matrices, order=order, fill_mode=mode, cval=-999))
        np.testing.assert_allclose(found, moved_constant(x, matrices, order, mode), rtol=0, atol=1e-4 * order)


def moved_constant(x: Any, matrices: Any, order: int, mode: str) -> Any:
    """SciPy's results with a constant that no pixel has."""
    return np.stack(
        [
            ndimage.affine_transform(one[..., 0], matrix[:, :2], matrix[:, 2], order=order, mode=mode, cval=-999)
            for one, matrix in zip(x, matrices, strict=True)
        ]
    )[..., None]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_channel_shifts_and_flips_are_kerass(dtype: str) -> None:
    x = (np.random.default_rng(3).random((4, 9, 7, 3)) * 255).astype(dtype)
    shifts, flips = np.array([20.0, -31.5, np.nan, 400.0]), np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool)
    found = k.affine_images(k.to_device(x), None, None, channel_shifts=shifts, flips=flips, scale=1 / 255)
    for one, picture, amount, (horizontal, vertical) in zip(k.to_host(found), x, shifts, flips, strict=True):
        wanted = picture if np.isnan(amount) else keras_image.apply_channel_shift(picture, amount, 2)
        wanted = keras_image.flip_axis(wanted, 1) if horizontal else wanted
        wanted = keras_image.flip_axis(wanted, 0) if vertical else wanted
        np.testing.assert_allclose(one, wanted * (1 / 255), rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_kerass_own_transformation(mode: str) -> None:
    """`apply_affine_transform` of shear, zoom and shift, whose matrix is written out here."""
    height, width = 12, 17
    x = (np.random.default_rng(5).random((height, width, 3)) * 255).astype("float32")
    angle, rows, columns, zoom = 0.3, 2.5, -1.25, (0.8, 1.2)
    settings = {"row_axis": 0, "col_axis": 1, "channel_axis": 2, "fill_mode": mode, "cval": 9.0}
    wanted = keras_image.apply_affine_transform(
        x, theta=np.rad2deg(angle), tx=rows, ty=columns, zx=zoom[0], zy=zoom[1], **settings
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([height / 2 - 0.5, width / 2 - 0.5])
    # Keras swaps the axes of the finished matrix; its shift is along (rows, columns) before that
    linear, offset = turn @ np.diag(zoom), turn @ np.array([rows, columns])
    offset = offset + middle - linear @ middle
    matrix = np.column_stack([linear[::-1, ::-1], offset[::-1]])
    found = k.affine_images(k.to_device(x[None]), None, matrix[None], fill_mode=mode, cval=9.0)
    np.testing.assert_allclose(k.to_host(found)[0], wanted, rtol=0, atol=255 * 5e-6)
