"""Affine maps of pictures, and other sizes of them, on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import case, gpu, numbers, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import image as override
from minikeras.kernels.cuda import resample as sizes
from minikeras.kernels.reference.image import FILL_MODES
from minikeras.kernels.reference.resample import FILTERS, Weights, resizing

STILL = np.eye(2, 3)


def pictures(seed: int, *shape: int, dtype: str = "float32") -> Any:
    values = numbers(seed, *shape, low=0, high=255 if dtype == "uint8" else 1, dtype="float64")
    return values.astype(dtype)


def about_the_middle(matrix: Any, height: int, width: int) -> Any:
    middle = (np.array([height, width]) - 1) / 2
    return np.column_stack([matrix, middle - matrix @ middle])


def turn(degrees: float, height: int, width: int) -> Any:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return about_the_middle(np.array([[cosine, -sine], [sine, cosine]]), height, width)


@st.composite
def problems(draw: Any) -> tuple[Any, ...]:
    """Pictures, rows, matrices and options of `affine_images`."""
    lengths = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 31]))
    height, width, channels = draw(lengths), draw(lengths), draw(st.sampled_from([1, 3, 2]))
    n, batch = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    x = pictures(
        draw(st.integers(0, 99)), n, height, width, channels, dtype=draw(st.sampled_from(["float32", "uint8"]))
    )
    kinds = ["any", "turn", "quarter", "shift", "still", "far", "farther", "flat"]
    matrices = [
        {
            "any": random.normal(size=(2, 3)) * [1, 1, 5],
            "turn": turn(random.uniform(-30, 30), height, width),
            "quarter": turn(90 * random.integers(1, 4), height, width),
            "shift": np.array([[1.0, 0, random.integers(-9, 9)], [0, 1, random.integers(-9, 9)]]),
            "still": STILL,
            "far": random.normal(size=(2, 3)) * [1, 1, 1e4],
            "farther": random.normal(size=(2, 3)) * 10.0 ** random.integers(9, 307),
            "flat": np.array([[0, 0, random.uniform(-1, height)], [0, 0, random.uniform(-1, width)]]),
        }[draw(st.sampled_from(kinds))]
        for _ in range(batch)
    ]
    optional = lambda value: draw(st.sampled_from([None, value]))
    options = {
        "order": draw(st.sampled_from([1, 0, 2, 3, 4, 5])),
        "fill_mode": draw(st.sampled_from(FILL_MODES)),
        "cval": draw(st.sampled_from([0.0, 0.7])),
        "channel_shifts": optional(random.choice([0.2, -0.3, np.nan], batch)),
        "flips": optional(random.random((batch, 2)) < 0.5),
        "scale": optional(0.5),
    }
    rows = random.integers(0, n, batch)
    return x, rows, optional(np.array(matrices).reshape(batch, 2, 3)), options


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(problems(), st.sampled_from(["host", "device", "gaps", "gaps on the host"]), st.booleans())
def test_maps_of_pictures(dtype: str, problem: tuple[Any, ...], where: str, in_place: bool) -> None:
    x, rows, matrices, options = problem
    x = x.astype(dtype) if dtype == "float64" else x

    def run(k: Kernels) -> list[Any]:
        given = np.asfortranarray(x) if "gaps" in where else x
        given = given if "host" in where else k.to_device(given)
        out = k.empty((len(rows), *x.shape[1:]), np.dtype(dtype)) if in_place else None
        with np.errstate(all="ignore"):
            return [k.affine_images(given, rows, matrices, **options, out=out)]

    # Rounded once to float32; in float64 a spline of order 5 is a sum of truncated powers of up to 6**5.
    unit = {"float32": 2e-7, "float64": 1e-11}[dtype] * max(1, x.max())
    same(run, {"affine"} if len(rows) else None, 0, 0 if options["order"] == 0 or matrices is None else unit)


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "int16", "bool"])
def test_a_map_that_changes_nothing_copies(order: int, kind: str) -> None:
    x = (9 * pictures(0, 3, 5, 4, 2)).astype(kind)
    if kind.startswith("float"):
        x[1, 2, 3], x[1, 0, 0] = (np.nan, -np.inf), -0.0

    def run(k: Kernels) -> list[Any]:
        still = np.tile(STILL, (3, 1, 1))
        return [k.affine_images(k.to_device(x), None, maps, order=order) for maps in (still, None)]

    same(run, {"affine"}, 0, 0)


def test_what_comes_from_pictures_with_nan() -> None:
    x = pictures(0, 2, 6, 5, 1)
    x[0, 2, 1] = np.nan

    def run(k: Kernels) -> list[Any]:
        turned = np.array([turn(20, 6, 5)] * 2)
        shifts = np.array([0.1, 0.1])
        return [k.affine_images(k.to_device(x), None, maps, channel_shifts=shifts) for maps in (turned, None)]

    same(run, {"affine", "brighten"}, 0, 1e-6)


@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_roundings_decide_as_in_the_reference(order: int, mode: str) -> None:
    """Quarter turns put coordinates on the edge of the picture, or one rounding outside."""
    for size in (10, 11, 28):
        matrices = np.array([turn(90 * quarters, size, size) for quarters in (1, 2, 3)] * 2)
        matrices[3:, :, 2] += 0.5
        x = pictures(0, 6, size, size, 1)
        run = lambda k, x=x, maps=matrices: [
            k.affine_images(k.to_device(x), None, maps, order=order, fill_mode=mode, cval=-9)
        ]
        same(run, {"affine"}, 0, 2e-6 * (order > 0))


def test_what_does_not_fit_is_refused() -> None:
    x = gpu.to_device(pictures(0, 2, 3, 3, 1))
    with pytest.raises(ValueError, match="0 to 5, got 6"):
        gpu.affine_images(x, None, None, order=6)
    with pytest.raises(IndexError, match="rows 0 to 1, got 2"):
        gpu.affine_images(x, np.array([0, 2]), None)
    with pytest.raises(ValueError, match=r"got \(3, 3, 1\)"):
        gpu.affine_images(x[0], None, None)


# ---- other sizes


@given(
    st.sampled_from(["nearest", "area", *FILTERS]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2),
    st.sampled_from(["float32", "float64", "float16", "uint8", "int32", "bool"]),
    st.sampled_from([None, "float32", "float64"]),
    st.booleans(),
)
def test_other_sizes(way: str, length: int, target: int, axis: int, kind: str, out: str | None, smooth: bool) -> None:
    """And back, as gradients go."""
    weights, shape = resizing(length, target, way, smooth), [3, 4, 5]
    shape[axis] = length
    x = (9 * pictures(0, *shape)).astype(kind)

    def run(k: Kernels) -> list[Any]:
        shape[axis] = target
        y = k.resample(k.to_device(x), weights, axis, None if out is None else k.empty(tuple(shape), np.dtype(out)))
        return [y, k.resample(y, weights.transposed, axis)]

    same(run, {"resample"}, 1e-5, 1e-5)


def test_weights_move_once() -> None:
    weights, dtypes = Weights(np.eye(3)), [np.dtype(kind) for kind in ("float32", "float64")]
    first, other = (sizes._taps(gpu, weights, dtype) for dtype in dtypes)
    assert first is sizes._taps(gpu, weights, dtypes[0]) is not other
    assert first[1].dtype == dtypes[0] and other[1].dtype == dtypes[1]


@case(override._SOURCE, sizes._SOURCE)
def maps(k: Kernels) -> list[Any]:
    x, matrices = k.to_device(pictures(0, 2, 40, 30, 1)), np.array([turn(20, 40, 30), turn(-70, 40, 30)])
    changes = {"channel_shifts": np.array([0.2, -0.3]), "fill_mode": "constant"}
    return [k.affine_images(x, None, matrices, **changes), k.resample(x, resizing(40, 9, "bilinear"), 1)]
