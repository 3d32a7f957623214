"""Losses on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import loss as override
from minikeras.kernels.reference import loss as written

EACH_TYPE = pytest.mark.parametrize("dtype", DTYPES)
ROWS = st.integers(1, 21)
# one thread a row, neighbours with a number or several each, all of a warp, a block
CLASSES = st.sampled_from([1, 2, 4, 5, 31, 100, 129, 300])
LABELS = ["int32", "int64", "uint8"]


def shares(seed: int, *shape: int, dtype: str) -> np.ndarray:
    """Positive numbers, of which some are small enough for a limit."""
    values = numbers(seed, *shape, low=0.05, high=1.0)
    values[:, ::3] *= 1e-3
    return values.astype(numbers(0, 1, dtype=dtype).dtype)


def test_every_error_has_a_number() -> None:
    assert set(override.ERRORS) == set(written.ERRORS)


@EACH_TYPE
@given(ROWS, CLASSES, st.booleans())
def test_cross_entropies(dtype: str, rows: int, classes: int, known: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        logits, target = (k.to_device(numbers(seed, rows, classes, dtype=dtype)) for seed in (0, 1))
        g = k.to_device(numbers(2, rows, dtype=dtype))
        p = k.softmax(logits) if known else None
        found = [k.cross_entropy(logits, target, p), k.cross_entropy_grad(g, logits, target, p)]
        found.append(k.binary_cross_entropy(logits, target))
        return [*found, k.binary_cross_entropy_grad(target, logits, logits)]

    same(run, {"cross_entropy", "cross_entropy_grad", "binary_cross_entropy", "binary_cross_entropy_grad"})


@EACH_TYPE
@given(ROWS, CLASSES, st.booleans(), st.sampled_from(LABELS))
def test_cross_entropies_of_labels(dtype: str, rows: int, classes: int, known: bool, kind: str) -> None:
    def run(k: Kernels) -> list[Any]:
        logits, g = k.to_device(numbers(0, rows, classes, dtype=dtype)), k.to_device(numbers(1, rows, dtype=dtype))
        most = min(classes, 256)
        labels = k.to_device(np.random.default_rng(rows).integers(0, most, rows).astype(kind))
        p, x = k.softmax(logits) if known else None, k.to_device(shares(3, rows, classes, dtype=dtype))
        return [
            k.sparse_cross_entropy(logits, labels, p),
            k.sparse_cross_entropy_grad(g, logits, labels, p),
            k.sparse_share_cross_entropy(x, labels, 2.0**-9),
            k.sparse_share_cross_entropy_grad(g, x, labels, 2.0**-9),
        ]

    same(run, {*override._OF_LABELS.names})


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("classes", [3, 300])
def test_labels_that_name_no_class(kind: str, classes: int) -> None:
    labels = np.array([-1, classes, 1, -(1 << 31), (1 << 31) - 1]).astype(kind)
    x, g = (gpu.to_device(numbers(0, *shape, low=0.1)) for shape in ((5, classes), (5,)))
    at = gpu.to_device(labels)
    for values in (gpu.sparse_cross_entropy(x, at), gpu.sparse_share_cross_entropy(x, at, 1e-7)):
        np.testing.assert_array_equal(np.isnan(gpu.to_host(values)), labels != 1)
    for p in (None, x):
        gradient = gpu.to_host(gpu.sparse_cross_entropy_grad(g, x, at, p))
        assert not gradient[labels != 1].any() and gradient[2].all()
    gradient = gpu.to_host(gpu.sparse_share_cross_entropy_grad(g, x, at, 1e-7))
    assert not gradient[labels != 1].any() and gradient[2].all()


@EACH_TYPE
@given(ROWS, CLASSES)
def test_rows(dtype: str, rows: int, classes: int) -> None:
    def run(k: Kernels) -> list[Any]:
        x, y = (k.to_device(shares(seed, rows, classes, dtype=dtype)) for seed in (0, 1))
        g = k.to_device(numbers(2, rows, dtype=dtype))
        found = [k.share_cross_entropy(x, y, 2.0**-9), k.share_cross_entropy_grad(g, x, y, 2.0**-9)]
        found += [k.cosine(x, y, 2.0**-9), k.cosine_grad(g, x, y, 2.0**-9), k.largest_margin(y, x)]
        return found + [k.largest_margin_grad(g, y, x, of_target) for of_target in (False, True)]

    same(run, {*override._LIKENESSES.names})


def test_rows_at_and_beyond_limits() -> None:
    def run(k: Kernels) -> list[Any]:
        x = np.float32([[0, 1], [0.5, 0.5], [1, 1], [0, 0], [np.nan, 1], [1e-30, 1e-30], [3, 4], [-1, 2], [1, np.inf]])
        y = np.float32([[1, 0], [0, 1], [1, 1], [0, 1], [0, 1], [1, 0], [0, 0], [0.5, 0.5], [0.25, -np.inf]])
        x, y, g, labels = map(k.to_device, (x, y, np.ones(9, "float32"), np.arange(9) % 2))
        found = [k.share_cross_entropy(x, y, 0.25), k.share_cross_entropy_grad(g, x, y, 0.25)]
        found += [k.sparse_share_cross_entropy(x, labels, 0.25), k.sparse_share_cross_entropy_grad(g, x, labels, 0.25)]
        found += [k.cosine(x, y, 0.25), k.cosine_grad(g, x, y, 0.25), k.largest_margin(y, x)]
        found += [k.largest_margin_grad(g, y, x, of_target) for of_target in (False, True)]
        found += [k.cross_entropy(x, y), k.cross_entropy_grad(g, x, y), k.sparse_cross_entropy(x, labels)]
        return [*found, k.sparse_cross_entropy_grad(g, x, labels), k.binary_cross_entropy(x, y)]

    with np.errstate(all="ignore"):
        same(run)


def test_large_and_undefined_logits() -> None:
    def run(k: Kernels) -> list[Any]:
        logits = np.zeros((6, 300), "float32")
        logits[0, 3], logits[1, 4], logits[2] = 1e30, -np.inf, 1000
        logits[3, 299], logits[4, 6], logits[5] = np.nan, np.inf, -np.inf
        logits, g, labels = map(k.to_device, (logits, np.ones(6, "float32"), np.full(6, 3)))
        return [k.sparse_cross_entropy(logits, labels), k.sparse_cross_entropy_grad(g, logits, labels)]

    with np.errstate(all="ignore"):
        same(run)


def test_rows_of_more_numbers_than_a_block_has_threads() -> None:
    def run(k: Kernels) -> list[Any]:
        logits, target = (k.to_device(numbers(seed, 2, 4099, low=0.1)) for seed in (0, 1))
        labels, g = k.to_device(np.array([4098, 1024])), k.to_device(numbers(2, 2))
        found = [k.sparse_cross_entropy(logits, labels), k.sparse_cross_entropy_grad(g, logits, labels)]
        found += [k.share_cross_entropy(logits, target, 1e-5), k.share_cross_entropy_grad(g, logits, target, 1e-5)]
        return [*found, k.cosine(logits, target, 1e-7), k.mean_error(target, logits, "absolute")]

    same(run, {"sparse_cross_entropy", "share_cross_entropy", "cosine", "mean_error"})


def test_gradients_that_are_spread_over_rows() -> None:
    def run(k: Kernels) -> list[Any]:
        x, y = (k.to_device(shares(seed, 7, 5, dtype="float32")) for seed in (0, 1))
        g, labels = k.xp.broadcast_to(k.to_device(np.float32(0.25)), (7,)), k.to_device(np.arange(7) % 5)
        found = [k.cross_entropy_grad(g, x, y), k.sparse_cross_entropy_grad(g, x, labels), k.cosine_grad(g, x, y, 0.1)]
        found += [k.share_cross_entropy_grad(g, x, y, 0.01), k.sparse_share_cross_entropy_grad(g, x, labels, 0.01)]
        return [*found, k.largest_margin_grad(g, y, x), k.mean_error_grad(g, y, x, "squared")]

    same(run, {"cross_entropy_grad", "mean_error_grad", "cosine_grad", "share_cross_entropy_grad"})


# ---- errors of single elements

SETTINGS = {"huber": 0.3}  # others: epsilon
FAR = ("squared", "absolute", "huber", "log_cosh", "binary_logits", "hinge", "squared_hinge")  # of any output


@EACH_TYPE
@given(
    st.sampled_from(sorted(written.ERRORS)), st.sampled_from([(), (3,), (2, 5)]), CLASSES, st.booleans(), st.booleans()
)
def test_errors(dtype: str, kind: str, leading: tuple[int, ...], columns: int, of_target: bool, binary: bool) -> None:
    shape, setting = (*leading, columns), SETTINGS.get(kind, 2.0**-8)

    def run(k: Kernels) -> list[Any]:
        target = np.random.default_rng(columns).integers(0, 2, shape) if binary else numbers(0, *shape, low=0.1, high=1)
        output = numbers(1, *shape, low=-4, high=4) if kind in FAR else numbers(1, *shape, low=0.1, high=0.9)
        target, output, g = (
            k.to_device(one.astype(numbers(0, 1, dtype=dtype).dtype)) for one in (target, output, numbers(2, *leading))
        )
        found = [k.mean_error(target, output, kind, setting), k.signs(target)]
        return [*found, k.mean_error_grad(g, target, output, kind, setting, of_target)]

    same(run, {"mean_error", "mean_error_grad", "signs"})


@pytest.mark.parametrize("kind", written.ERRORS)
def test_errors_of_what_is_no_number(kind: str) -> None:
    values = np.float32([0, -0.0, 1, -1, 3e18, -3e18, np.inf, -np.inf, np.nan, 1e-30, 0.5])
    given = [one.reshape(-1, 1) for one in np.meshgrid(np.float32([0, 1, 0.25, -1, np.nan]), values)]

    def run(k: Kernels) -> list[Any]:
        target, output, g = map(k.to_device, (*given, np.ones(len(given[0]), "float32")))
        found = [k.mean_error(target, output, kind, 1e-7)]
        return found + [k.mean_error_grad(g, target, output, kind, 1e-7, of_target) for of_target in (False, True)]

    with np.errstate(all="ignore"):
        same(run)


@pytest.mark.parametrize("size", [255, 700, 70_001])
def test_one_target_decides_what_all_stand_for(size: int) -> None:
    def run(k: Kernels) -> list[Any]:
        target = np.arange(size, dtype="float32") % 2
        found = [k.signs(k.to_device(target))]
        target[-1] = 0.5
        return [*found, k.signs(k.to_device(target))]

    same(run, {"signs"}, rtol=0, atol=0)


# ---- weights and sums

WEIGHTED = [((1,), None), ((100,), (100,)), ((50, 7), (50, 1)), ((3, 4, 5), (3, 4, 1)), ((3, 4, 5), (1, 1, 1))]
WEIGHTED += [((9001,), None), ((9001,), (9001,)), ((300, 40), (300, 1)), ((4096, 3), (4096, 3))]


@EACH_TYPE
@given(st.sampled_from(WEIGHTED), st.sampled_from([None, 0.25]))
def test_totals(dtype: str, shapes: Any, factor: float | None) -> None:
    if shapes[1] is None and factor is None:
        return

    def run(k: Kernels) -> list[Any]:
        values, g = k.to_device(numbers(0, *shapes[0], low=0.1, dtype=dtype)), k.to_device(numbers(1, dtype=dtype))
        weights = None if shapes[1] is None else k.to_device(numbers(2, *shapes[1], low=0.5, dtype=dtype))
        total, scale = k.weighted_total(values, weights, factor)
        found = [total] if factor is not None else [total, scale]
        return [*found, k.weighted_total_grad(g, values, weights, scale)]

    same(run, {"weighted_total", "weighted_total_grad"})


def test_types_of_a_gradient_are_those_of_what_it_is_made_of() -> None:
    def run(k: Kernels) -> list[Any]:
        values, g = (k.to_device(numbers(seed, *shape, dtype="float16")) for seed, shape in ((0, (6,)), (1, ())))
        weights, factor = (k.to_device(numbers(2, *shape)) for shape in ((6,), ()))
        return [k.weighted_total_grad(g, values, one, factor) for one in (weights, None)]

    same(run, {"weighted_total_grad"})


def test_weights_that_are_all_zero() -> None:
    def run(k: Kernels) -> list[Any]:
        values, weights, g = map(k.to_device, (np.ones(4, "float32"), np.zeros(4, "float32"), np.float32(1)))
        total, scale = k.weighted_total(values, weights)
        return [total, scale, k.weighted_total_grad(g, values, weights, scale)]

    same(run, {"weighted_total", "weighted_total_grad"})


def test_long_sums_keep_their_digits() -> None:
    values = np.random.default_rng(0).random(200_001).astype("float32")
    total, _ = gpu.weighted_total(gpu.to_device(values), None, 1.0)
    np.testing.assert_allclose(gpu.to_host(total), values.astype("float64").sum(), rtol=6e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    st.sampled_from([None, (20,), (20, 1), (20, 7), (20, 7, 1)]), st.booleans(), st.sampled_from([0.5, 2.0]),
    st.sampled_from(["bool", "int32", "float32"]),
)  # fmt: skip
def test_masks(dtype: str, weights: Any, mean: bool, share: float, kind: str) -> None:
    def run(k: Kernels) -> list[Any]:
        mask = (np.random.default_rng(0).random((20, 7)) > share) * 3
        given = None if weights is None else k.to_device(numbers(0, *weights, dtype=dtype))
        return [k.weights_of_mask(k.to_device(mask.astype(kind)), given, np.dtype(dtype), mean)]

    same(run, {"weights_of_mask"} if weights is None or len(weights) < 3 else None)


# ---- class numbers

ANY_TYPE = ["bool", "uint8", "int8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", ANY_TYPE)
def test_class_numbers(dtype: str) -> None:
    def run(k: Kernels) -> list[Any]:
        labels = np.array([[0, 1], [2, 3], [2, 1]]).astype(dtype)
        found = [one for classes in (4, 2) for one in k.class_numbers(k.to_device(labels), classes)]
        if dtype[0] == "f":
            labels[:, 1] = [1.5, np.nan, -np.inf]
        elif dtype[0] == "u":
            labels[0, 0] = np.iinfo(dtype).max
        elif dtype != "bool":
            labels[:2, 0] = np.iinfo(dtype).min, -3
        return [*found, *k.class_numbers(k.to_device(labels), 1 << 62, -3 if dtype[0] != "u" else 0)]

    with np.errstate(invalid="ignore"):
        same(run, {"class_numbers"})


@case(override._CROSS_ENTROPIES)
def cross_entropies(k: Kernels) -> list[Any]:
    found: list[Any] = []
    for shape in ((40, 10), (3, 300)):
        logits, target = (k.to_device(numbers(seed, *shape)) for seed in (0, 1))
        g = k.to_device(numbers(2, shape[0]))
        found += [k.cross_entropy(logits, target), k.cross_entropy_grad(g, logits, target)]
    return [*found, k.binary_cross_entropy(logits, target), k.binary_cross_entropy_grad(target, logits, target)]


@case(override._OF_LABELS)
def labels(k: Kernels) -> list[Any]:
    found: list[Any] = []
    for shape in ((40, 10), (3, 300)):
        logits, g = k.to_device(numbers(0, *shape, low=0.1)), k.to_device(numbers(2, shape[0]))
        at = k.to_device(np.arange(shape[0]))
        found += [k.sparse_cross_entropy(logits, at), k.sparse_cross_entropy_grad(g, logits, at)]
        found += [
            k.sparse_share_cross_entropy(logits, at, 1e-4),
            k.sparse_share_cross_entropy_grad(g, logits, at, 1e-4),
        ]
    return found


@case(override._LIKENESSES)
def likenesses(k: Kernels) -> list[Any]:
    x, y, g = (k.to_device(numbers(seed, *shape, low=0.1)) for seed, shape in ((0, (3, 300)), (1, (3, 300)), (2, (3,))))
    found = [k.share_cross_entropy(x, y, 1e-4), k.share_cross_entropy_grad(g, x, y, 1e-4), k.cosine(x, y, 1e-4)]
    return [*found, k.cosine_grad(g, x, y, 1e-4), k.largest_margin(y, x), k.largest_margin_grad(g, y, x)]


@case(override._ERRORS)
def errors(k: Kernels) -> list[Any]:
    x, y, g = (k.to_device(numbers(seed, *shape)) for seed, shape in ((0, (3, 300)), (1, (3, 300)), (2, (3,))))
    target = np.zeros((3, 300), "float32")
    target[1, 7] = 2  # seen by one thread of the second block
    at = k.to_device(target)
    found = [k.signs(at), k.mean_error(at, x, "hinge"), k.mean_error_grad(g, at, x, "squared_hinge")]
    return [*found, k.mean_error(y, x, "squared")]


@case(override._TOTALS, override._SLOPES)
def totals(k: Kernels) -> list[Any]:
    values, weights, g = (k.to_device(numbers(seed, *shape)) for seed, shape in ((0, (9001,)), (1, (9001,)), (2, ())))
    total, scale = k.weighted_total(values, weights)
    return [total, scale, k.weighted_total_grad(g, values, weights, scale)]


@case(override._MASKS)
def masks(k: Kernels) -> list[Any]:
    mask = k.to_device(np.arange(700) % 3 == 0)
    return [
        k.weights_of_mask(mask, None, np.dtype("float32"), True),
        *k.class_numbers(k.to_device(np.arange(700)), 300),
    ]
