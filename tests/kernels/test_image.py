"""Affine maps of pictures: the reference where the result is plain to see, the override against the reference."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras import kernels as k
from minikeras.kernels.reference import image as image_reference

reference, override = k.reference_table(), k.table_of("cpu")

MODULES = pytest.mark.parametrize("module", [reference, override], ids=["reference", "override"])
MODES = ["constant", "nearest", "reflect", "wrap"]
ORDERS = range(6)
STILL = np.eye(2, 3)


def pictures(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    return (np.random.default_rng(seed).random(shape) * (255 if dtype == "uint8" else 1)).astype(dtype)


def shift(rows: float, columns: float) -> Any:
    return np.array([[1.0, 0, rows], [0, 1, columns]])


def about_the_middle(matrix: Any, height: int, width: int) -> Any:
    middle = (np.array([height, width]) - 1) / 2
    return np.column_stack([matrix, middle - matrix @ middle])


def turn(degrees: float, height: int, width: int) -> Any:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return about_the_middle(np.array([[cosine, -sine], [sine, cosine]]), height, width)


# ---- results that are plain to see


@MODULES
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_a_map_that_changes_nothing_copies(module: Any, order: int, dtype: str) -> None:
    x = pictures(3, 5, 4, 2, dtype=dtype)
    if dtype != "uint8":
        x[1, 2, 3] = np.nan, -np.inf
        x[1, 0, 0] = -0.0
    found = module.affine_images(x, None, np.tile(STILL, (3, 1, 1)), order=order)
    wanted = x.astype("float64" if dtype == "float64" else "float32")
    assert found.tobytes() == wanted.tobytes()
    assert module.affine_images(x, None, None, order=order).tobytes() == wanted.tobytes()
    assert found is not x and not np.shares_memory(found, x)


@MODULES
@pytest.mark.parametrize("order", ORDERS)
def test_mirrors_are_exact(module: Any, order: int) -> None:
    x = pictures(4, 5, 7, 3)
    x[:, 1, 2] = np.nan
    flips = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool)
    found = module.affine_images(x, None, np.tile(STILL, (4, 1, 1)), order=order, flips=flips)
    np.testing.assert_array_equal(found, [x[0], x[1, :, ::-1], x[2, ::-1], x[3, ::-1, ::-1]])


def source_of(place: int, length: int, mode: str) -> int | None:
    """The pixel that shows at a whole coordinate; None is the constant."""
    if 0 <= place < length:
        return place
    if mode == "constant":
        return None
    if mode == "nearest":
        return 0 if place < 0 else length - 1
    if mode == "reflect":
        return int(np.pad(np.arange(length), 40, mode="symmetric")[place + 40])
    repeated = place % (length - 1)  # the last pixel lies on the first of the next repetition
    return length - 1 if repeated == 0 and place < 0 else repeated


@MODULES
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_by_whole_pixels(module: Any, mode: str, order: int, channels: int) -> None:
    height, width = 17, 12
    shifts = [(2, -3), (-1, 0), (0, 4), (-16, 11), (-23, 30), (39, -34)]
    x = pictures(len(shifts), height, width, channels)
    found = module.affine_images(
        x, None, np.array([shift(*one) for one in shifts]), order=order, fill_mode=mode, cval=2.5
    )
    wanted = np.full_like(x, 2.5)
    for number, (down, along) in enumerate(shifts):
        for row, column in np.ndindex(height, width):
            y, x_place = source_of(row + down, height, mode), source_of(column + along, width, mode)
            if y is not None and x_place is not None:
                wanted[number, row, column] = x[number, y, x_place]
    # beyond its 12 pixels of padding "nearest" has a coefficient of the spline for the pixel, as SciPy has
    tolerance = 0 if order < 2 else 3e-4 if mode == "nearest" and order > 3 else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@MODULES
@pytest.mark.parametrize("order", ORDERS)
def test_quarter_turns(module: Any, order: int) -> None:
    x = pictures(3, 8, 8, 2)
    matrices = np.array([np.rint(turn(-90 * quarters, 8, 8)) for quarters in (1, 2, 3)])
    found = module.affine_images(x, None, matrices, order=order)
    wanted = [np.rot90(x[quarters - 1], quarters) for quarters in (1, 2, 3)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if order < 2 else 1e-6)


@MODULES
@pytest.mark.parametrize("order", range(1, 6))
@pytest.mark.parametrize("mode", MODES)
def test_a_slope_stays_a_slope(module: Any, order: int, mode: str) -> None:
    """A spline through points of a plane is the plane, far from edges, where it is bent."""
    size = 61
    rows, columns = np.mgrid[:size, :size]
    plane = (rows * 0.7 - columns * 1.3 + 5)[None, :, :, None]
    matrix = about_the_middle(np.array([[0.31, -0.12], [0.15, 0.27]]), size, size)
    found = module.affine_images(plane, None, matrix[None], order=order, fill_mode=mode)
    y = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2]
    x = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2]
    np.testing.assert_allclose(found[0, :, :, 0], y * 0.7 - x * 1.3 + 5, rtol=0, atol=1e-5)


@MODULES
def test_channel_shifts_are_clipped_to_the_moved_picture(module: Any) -> None:
    x = pictures(3, 6, 5, 3)
    matrices = np.array([shift(0.5, 2), STILL, shift(9, 9)])
    shifts = np.array([0.3, -0.4, np.nan])
    moved = module.affine_images(x, None, matrices, fill_mode="constant", cval=0.25)
    found = module.affine_images(x, None, matrices, fill_mode="constant", cval=0.25, channel_shifts=shifts, scale=2)
    for one, before, amount in zip(found, moved, shifts.astype("float32"), strict=True):
        wanted = before if np.isnan(amount) else np.clip(before + amount, before.min(), before.max())
        np.testing.assert_array_equal(one, 2 * wanted)


@MODULES
def test_a_picture_with_nan_has_no_range(module: Any) -> None:
    x = pictures(2, 4, 4, 1)
    x[0, 2, 1] = np.nan
    found = module.affine_images(x, None, None, channel_shifts=np.array([0.1, 0.1]))
    assert np.isnan(found[0]).all() and not np.isnan(found[1]).any()


@MODULES
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_rows_choose_pictures_and_out_takes_them(module: Any, dtype: str) -> None:
    x, rows = pictures(5, 9, 6, 3, dtype=dtype), np.array([4, 0, 0, 2], "int32")
    matrices = np.array([turn(10 * number, 9, 6) for number in range(4)])
    out = np.full((4, 9, 6, 3), np.nan, "float64" if dtype == "float64" else "float32")
    found = module.affine_images(x, rows, matrices, scale=0.5, out=out)
    assert found is out
    np.testing.assert_array_equal(out, module.affine_images(x[rows], None, matrices, scale=0.5))
    assert module.affine_images(x, rows[:0], matrices[:0]).shape == (0, 9, 6, 3)


@MODULES
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"order": 6}, ValueError, "0 to 5, got 6"),
        ({"fill_mode": "mirror"}, ValueError, "'mirror' is unknown; use one of constant, nearest, reflect, wrap"),
        ({"matrices": np.full((2, 2, 3), np.inf)}, ValueError, "not finite"),
        ({"matrices": np.full((2, 2, 3), np.nan)}, ValueError, "not finite"),
        ({"matrices": np.zeros((1, 2, 3))}, ValueError, r"shape \(2, 2, 3\), got \(1, 2, 3\)"),
        ({"rows": np.array([0, 2])}, IndexError, "rows 0 to 1, got 2"),
        ({"rows": np.array([-1, 0])}, IndexError, "rows 0 to 1, got -1"),
        ({"rows": np.array([0.0, 1.0])}, ValueError, "integers"),
        ({"flips": np.zeros((2, 1), bool)}, ValueError, r"Flips for 2 pictures have the shape \(2, 2\)"),
        ({"channel_shifts": np.zeros(3)}, ValueError, r"Channel shifts .* \(2,\), got \(3,\)"),
        ({"out": np.zeros((2, 3, 3, 2), "float32")}, ValueError, r"shape \(2, 3, 3, 1\), got \(2, 3, 3, 2\)"),
        ({"images": np.zeros((2, 3, 3), "float32")}, ValueError, r"got \(2, 3, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(module: Any, arguments: dict, error: Any, message: str) -> None:
    given: dict[str, Any] = {"images": pictures(2, 3, 3, 1), "rows": None, "matrices": np.tile(STILL, (2, 1, 1))}
    with pytest.raises(error, match=message):
        module.affine_images(**{**given, **arguments})


# ---- the override


@st.composite
def problems(draw: Any) -> tuple[Any, ...]:
    """Arguments of the kernel, and the range of the pictures."""
    lengths = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 31, 40]))
    height, width, channels = draw(lengths), draw(lengths), draw(st.sampled_from([1, 3, 2, 5, 9]))
    n, batch = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from(["float32", "uint8"]))
    x = pictures(n, height, width, channels, dtype=dtype, seed=draw(st.integers(0, 99)))
    matrices = []
    for _ in range(batch):
        kind = draw(st.sampled_from(["any", "turn", "quarter", "shift", "still", "far", "farther", "flat"]))
        matrices.append(
            {
                "any": random.normal(size=(2, 3)) * [1, 1, 5],
                "turn": turn(random.uniform(-30, 30), height, width),
                "quarter": turn(90 * random.integers(1, 4), height, width),
                "shift": shift(*random.integers(-2 * height, 2 * height, 2)),
                "still": STILL,
                "far": random.normal(size=(2, 3)) * [1, 1, 1e4],
                "farther": random.normal(size=(2, 3)) * 10.0 ** random.integers(9, 308),
                "flat": np.array([[0, 0, random.uniform(-1, height)], [0, 0, random.uniform(-1, width)]]),
            }[kind]
        )
    optional = lambda value: draw(st.sampled_from([None, value]))
    arguments = {
        "order": draw(st.sampled_from([1, 0, 2, 3, 4, 5])),
        "fill_mode": draw(st.sampled_from(MODES)),
        "cval": draw(st.sampled_from([0.0, 0.7])),
        "channel_shifts": optional(random.choice([0.2, -0.3, np.nan], batch)),
        "flips": optional(random.random((batch, 2)) < 0.5),
        "scale": optional(0.5),
    }
    rows = random.integers(0, n, batch)
    return x, rows, optional(np.array(matrices).reshape(batch, 2, 3)), arguments


@settings(max_examples=120, deadline=None)
@given(problems())
def test_override_is_the_reference(problem: tuple[Any, ...]) -> None:
    x, rows, matrices, arguments = problem
    with np.errstate(over="ignore", invalid="ignore"):  # the farthest coordinates
        wanted = reference.affine_images(x, rows, matrices, **arguments)
        with patch.object(image_reference, "_chosen", None):
            found = override.affine_images(x, rows, matrices, **arguments)
    assert found.dtype == wanted.dtype == np.float32 and found.shape == wanted.shape
    size = 255 if x.dtype == np.uint8 else 1
    tolerance = 0 if arguments["order"] == 0 or matrices is None else 2e-6 if arguments["order"] == 1 else 1e-5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_roundings_decide_as_in_the_reference(order: int, mode: str) -> None:
    """Quarter turns put coordinates on the edge of the picture, or one rounding outside."""
    for size in (10, 11, 28):
        matrices = np.array([turn(90 * quarters, size, size) for quarters in (1, 2, 3)] * 2)
        matrices[3:, :, 2] += 0.5
        x = pictures(6, size, size, 1)
        wanted, found = (
            module.affine_images(x, None, matrices, order=order, fill_mode=mode, cval=-9)
            for module in (reference, override)
        )
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6 * (order > 0))


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_arrays_with_gaps(order: int, dtype: str) -> None:
    around = pictures(8, 7, 12, 4, dtype=dtype)
    x = around[::2, :, ::2, 1:]
    room = np.full((6, 7, 6, 4), np.nan, "float32")
    rows, matrices = np.array([1, 3, 0]), np.array([turn(9 * number, 7, 6) for number in range(3)])
    found = override.affine_images(x, rows, matrices, order=order, out=room[::2, ..., 1:])
    np.testing.assert_array_equal(found, override.affine_images(x.copy(), rows, matrices, order=order))
    assert np.isnan(room[1::2]).all() and np.isnan(room[..., 0]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_beside_the_result_is_written(channels: int) -> None:
    flat = np.full(3 * 11 * 9 * channels + 64, 77, "float32")
    out = flat[32:-32].reshape(3, 11, 9, channels)
    matrices = np.array([turn(20, 11, 9), STILL, shift(3, -2)])
    override.affine_images(pictures(3, 11, 9, channels), None, matrices, fill_mode="constant", out=out)
    assert (flat[:32] == 77).all() and (flat[-32:] == 77).all() and (out != 77).all()


@pytest.mark.parametrize(("shape", "order"), [((28, 28, 1), 1), ((28, 28, 1), 3), ((40, 50, 3), 1), ((40, 50, 3), 0)])
def test_results_do_not_depend_on_the_team(shape: tuple[int, ...], order: int) -> None:
    x = pictures(130, *shape, dtype="uint8")
    matrices = np.array([turn(number - 65, *shape[:2]) for number in range(130)])
    changes = {"channel_shifts": np.linspace(-9, 9, 130), "flips": np.arange(260).reshape(130, 2) % 3 == 0}
    with team_of(1):
        alone = override.affine_images(x, None, matrices, order=order, fill_mode="wrap", **changes)
    with team_of(3):
        together = override.affine_images(x, None, matrices, order=order, fill_mode="wrap", **changes)
    np.testing.assert_array_equal(alone, together)


def test_the_cpu_uses_the_override() -> None:
    assert k.affine_images.__func__.__module__ == "minikeras.kernels.cpu.image"
