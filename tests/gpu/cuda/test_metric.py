"""Metrics on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, case, gpu, numbers, same
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import metric as override

EACH_TYPE = pytest.mark.parametrize("dtype", DTYPES)
ROWS, CLASSES = st.integers(1, 70), st.sampled_from([1, 3, 10, 100, 129, 600])


def scores(shape: tuple[int, ...], seed: int, dtype: str) -> Any:
    """Few different numbers, and what is none."""
    x = np.random.default_rng(seed).integers(0, 4, shape).astype("float32") - 1
    x.reshape(-1)[::17] = np.nan
    x.reshape(-1)[5::29] = np.inf
    x.reshape(-1)[6::31] = -0.0
    return x.astype(numbers(0, 1, dtype=dtype).dtype)


@EACH_TYPE
@given(ROWS, CLASSES, st.sampled_from(["int32", "uint8", "float32"]), st.sampled_from([1, 3, 50]))
def test_matches(dtype: str, rows: int, classes: int, kind: str, count: int) -> None:
    def run(k: Kernels) -> list[Any]:
        output, target = (k.to_device(scores((rows, classes), seed, dtype)) for seed in (1, 2))
        least = 0 if kind[0] == "u" else -1
        labels = k.to_device(np.random.default_rng(rows).integers(least, min(classes + 1, 256), rows).astype(kind))
        found = [k.largest_matches(target, output), k.label_matches(labels, output)]
        return [*found, k.rank_matches(labels, output, count), k.places_of_largest(output)]

    same(run, {*override._PLACES.names}, rtol=0, atol=0)


def test_the_first_of_the_largest_numbers_of_a_long_row() -> None:
    def run(k: Kernels) -> list[Any]:
        x = np.zeros((4, 5000), "float32")
        x[0, [7, 1031, 4100]], x[1, 4999], x[2, [3000, 1024]] = 1, 1, np.nan
        return [k.places_of_largest(k.to_device(x))]

    same(run, {"places_of_largest"})


@EACH_TYPE
@given(st.sampled_from(["bool", "int64", "float32"]), st.sampled_from([(1,), (700,), (7, 5), (3, 2, 5)]))
def test_equal_numbers(dtype: str, kind: str, shape: tuple[int, ...]) -> None:
    def run(k: Kernels) -> list[Any]:
        output = k.to_device(scores(shape, 1, dtype))
        target = k.to_device(np.random.default_rng(0).integers(0, 2, shape).astype(kind))
        found = [k.threshold_matches(target, output, 0.5), k.threshold_matches(target, output, 1.0)]
        return [
            *found,
            k.equal_matches(target, output),
            k.equal_matches(output, output),
            k.equal_matches(target, target),
        ]

    same(run, {"threshold_matches", "equal_matches"}, rtol=0, atol=0)


def test_numbers_of_unlike_types_are_compared_as_they_are() -> None:
    def run(k: Kernels) -> list[Any]:
        near = k.to_device(np.int32([2**24, 2**24 + 1, 2**24 + 2])), k.to_device(np.float32([2**24] * 3))
        far = k.to_device(np.int64([2**53, 2**53 + 1])), k.to_device(np.int64([2**53 + 1] * 2))
        return [k.equal_matches(*near), k.equal_matches(*far)]

    same(run, {"equal_matches"}, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_threshold_is_of_the_type_of_what_is_compared(dtype: str) -> None:
    output = np.array([0.3]).astype(dtype)
    matches = gpu.threshold_matches(gpu.to_device(np.float32([0])), gpu.to_device(output), 0.3)
    assert gpu.to_host(matches) == ((output > 0.3) == 0)


# ---- sums

WEIGHTED = [((), None), ((1,), None), ((32,), (32,)), ((7, 5), (7, 5)), ((7, 5), (7, 1)), ((9001,), (9001,))]
WEIGHTED += [((300, 40), (300, 1)), ((9001,), None)]


@EACH_TYPE
@given(st.sampled_from(WEIGHTED), st.sampled_from(["float32", "float64"]), st.booleans())
def test_sums_are_added_to_where_they_lie(dtype: str, shapes: Any, kind: str, counted: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        total, count = (k.to_device(np.full((), start, kind)) for start in (3, 2))
        values = k.to_device(numbers(0, *shapes[0], low=0.1, dtype=dtype))
        weights = None if shapes[1] is None else k.to_device(numbers(1, *shapes[1], low=0.5, dtype=dtype))
        k.add_to_mean(total, count if counted else None, values, weights, 0.5, 7.0)
        return [total, count]

    # float64 of float32: the reference adds up in the latter; 2**14 numbers pairwise, 14 roundings
    near = 14 * 2.0**-24 if (kind, dtype) != ("float64", "float64") else 1e-12
    same(run, {"add_to_mean"}, rtol=near)


def test_long_sums_keep_their_digits() -> None:
    values = np.random.default_rng(0).random((300, 400)).astype("float32")
    weights = np.random.default_rng(1).random((300, 1)).astype("float32")
    total, count = (gpu.to_device(np.zeros(())) for _ in range(2))
    gpu.add_to_mean(total, count, gpu.to_device(values), gpu.to_device(weights))
    np.testing.assert_allclose(gpu.to_host(total), (values.astype("float64") * weights).sum(), rtol=1e-12)
    np.testing.assert_allclose(gpu.to_host(count), 400 * weights.astype("float64").sum(), rtol=1e-12)


@EACH_TYPE
@given(st.sampled_from([(), (1,), (300,), (7, 5)]))
def test_ratios(dtype: str, shape: tuple[int, ...]) -> None:
    def run(k: Kernels) -> list[Any]:
        a, b = numbers(0, *shape, dtype=dtype), np.asarray(scores(shape or (2,), 3, dtype)[... if shape else 1])
        return [k.ratio(k.to_device(a), k.to_device(b)), k.ratio(k.to_device(b), k.to_device(a * 0))]

    with np.errstate(all="ignore"):
        same(run, {"ratio"})


# ---- confusion

CURVE = tuple(i / 10 for i in range(11))
ASKED = [(1, 1, 1, 1), (1, 0, 0, 1), (0, 0, 1, 0)]


@pytest.mark.parametrize("options", [{}, {"class_id": 1}, {"by_label": True}], ids=str)
@given(
    st.sampled_from([(0.5,), CURVE, (0.7, 0.2)]), st.sampled_from(["bool", "float32", "int64"]), st.booleans(),
    st.sampled_from([None, (40, 1), (40, 3), (1, 1)]), st.sampled_from(ASKED), st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_confusion(
    options: dict[str, Any], thresholds: Any, kind: str, labelled: bool, weights: Any, asked: Any, dtype: str
) -> None:
    if "class_id" in options and (weights == (40, 3) or labelled):
        return

    def run(k: Kernels) -> list[Any]:
        random = np.random.default_rng(0)
        scores = k.to_device((random.integers(0, 21, (40, 3)) / 20).astype("float32"))  # often as large as a threshold
        truth = k.to_device(random.integers(0, 2, (40, 3)).astype(kind))
        given = None if weights is None else k.to_device(random.random(weights).astype("float32"))
        labels = k.to_device(np.float32([1, 2, 0.5])) if labelled else None
        shape = (len(thresholds), 3) if options.get("by_label") else (len(thresholds),)
        counts = tuple([k.to_device(np.ones(shape, dtype)) if one else None for one in asked])
        k.add_confusion(counts, truth, scores, given, labels, thresholds, **options)
        return list(counts)

    same(run, {"add_confusion"}, rtol=1e-6)


@pytest.mark.parametrize("by_label", [False, True])
def test_confusion_of_many(by_label: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        random = np.random.default_rng(0)
        scores, truth = k.to_device(random.random((5001, 2))), k.to_device(random.random((5001, 2)) > 0.5)
        weights = k.to_device(random.integers(0, 64, (5001, 1)) / 64)  # whose sums are exact
        counts = tuple([k.to_device(np.ones((11, 2) if by_label else 11)) for _ in range(4)])
        k.add_confusion(counts, truth, scores, weights, None, CURVE, by_label=by_label)
        return list(counts)

    same(run, {"add_confusion", "join_confusion"}, rtol=0, atol=0)


def test_what_is_no_number_is_above_no_threshold() -> None:
    counts = tuple(gpu.to_device(np.zeros(2)) for _ in range(4))
    scores = gpu.to_device(np.float32([[np.inf], [-np.inf], [np.nan]]))
    gpu.add_confusion(counts, gpu.to_device(np.ones((3, 1))), scores, None, None, (0.2, 0.4))
    np.testing.assert_array_equal([gpu.to_host(one) for one in counts], [[1, 1], [0, 0], [0, 0], [2, 2]])


@case(override._PLACES, override._MATCHES, override._SUMS, override._CONFUSION)
def matches(k: Kernels) -> list[Any]:
    output, target, labels = (k.to_device(scores(shape, 1, "float32")) for shape in ((5, 300), (5, 300), (5,)))
    found = [k.largest_matches(target, output), k.label_matches(labels, output), k.rank_matches(labels, output, 3)]
    found += [k.places_of_largest(output), k.equal_matches(target, output), k.threshold_matches(target, output, 0.5)]
    found += [total := k.to_device(np.zeros(())), counts := k.to_device(np.zeros(1)), k.ratio(output, target)]
    k.add_to_mean(total, None, target)
    for size in (200, 900):  # of several warps, whose totals of values and of weights take turns
        values, weights = k.to_device(numbers(1, size)), k.to_device(numbers(2, size, low=0.1))
        found += [sums := k.to_device(np.zeros(())), number := k.to_device(np.zeros(()))]
        k.add_to_mean(sums, number, values, weights)
    many = k.to_device(numbers(0, 5000))
    k.add_confusion((counts, None, None, None), many, many, None, None, (0.5,))
    return found
