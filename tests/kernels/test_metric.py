"""Metrics: the compiled passes against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k

reference, cpu = k.reference_table(), k.table_of("cpu")
LABELS = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64", "uint64"]
SHAPES = [(1, 1), (32, 1), (128, 10), (7, 5, 3), (40, 600), (9001, 4), (0, 10)]


def sums() -> tuple[Any, Any]:
    return np.array(3.0), np.array(2.0)


@given(
    st.sampled_from([((), None), ((1,), None), ((32,), (32,)), ((7, 5), (7, 5)), ((7, 5), (7, 1)), ((7, 5), None)]),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 99),
)
def test_sums_are_added_to_where_they_lie(shapes: Any, dtype: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.asarray(random.standard_normal(shapes[0]).astype(dtype))
    weights = None if shapes[1] is None else random.random(shapes[1]).astype(dtype)
    (total, count), (expected, samples) = sums(), sums()
    cpu.add_to_mean(total, count, values, weights, 0.5, 7.0)
    reference.add_to_mean(
        expected, samples, values.astype("f8"), None if weights is None else weights.astype("f8"), 0.5, 7.0
    )
    np.testing.assert_allclose([total, count], [expected, samples], rtol=1e-6, atol=1e-6)
    cpu.add_to_mean(total, None, values)
    np.testing.assert_allclose(total, expected + values.astype("f8").sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(70_001,), (300, 400)])
@pytest.mark.parametrize("each", [None, 1, 0])
def test_long_sums_keep_their_digits(shape: tuple[int, ...], each: int | None) -> None:
    values = np.random.default_rng(0).random(shape).astype("float32")
    weights = None if each is None else np.random.default_rng(1).random(shape[:1]).astype("float32")
    if weights is not None and len(shape) > 1:
        weights = np.broadcast_to(weights[:, None], shape).copy() if each else weights[:, None]
    (total, count), (expected, samples) = sums(), sums()
    cpu.add_to_mean(total, count, values, weights)
    reference.add_to_mean(expected, samples, values.astype("f8"), None if weights is None else weights.astype("f8"))
    np.testing.assert_allclose([total, count], [expected, samples], rtol=1e-7)


def test_other_sums() -> None:
    total, count = np.array(1, "float32"), np.array(1.0)
    cpu.add_to_mean(total, count, np.float32([1, 2]), None, 1.0, 2.0)
    assert total == 4 and count == 3
    total, count = sums()
    cpu.add_to_mean(total, count, np.arange(6, dtype="float32")[::2])
    cpu.add_to_mean(total, count, np.array([True, True]))
    cpu.add_to_mean(total, count, np.float32(2))
    assert total == 3 + 6 + 2 + 2 and count == 5


def scores(shape: tuple[int, ...], seed: int) -> Any:
    x = np.random.default_rng(seed).integers(0, 4, shape).astype("float32")  # with ties
    x.reshape(-1)[::17] = np.nan
    x.reshape(-1)[5::29] = np.inf
    return x


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_matches(shape: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(len(shape))
    output = scores(shape, 1)
    labels = random.integers(0 if dtype[0] in "ub" else -1, shape[-1] + 1, shape[:-1]).astype(dtype)
    target = random.integers(0, 2, shape).astype(dtype)
    for got, wanted in (
        (cpu.label_matches(labels, output), reference.label_matches(labels, output)),
        (cpu.threshold_matches(target, output, 0.5), reference.threshold_matches(target, output, 0.5)),
        (cpu.largest_matches(scores(shape, 2), output), reference.largest_matches(scores(shape, 2), output)),
    ):
        assert got.dtype == np.float32 and got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)
    if len(shape) == 2:
        for count in (1, 3, 50):
            got, wanted = (table.rank_matches(labels, output, count) for table in (cpu, reference))
            np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(cpu.places_of_largest(output), reference.places_of_largest(output))
    np.testing.assert_array_equal(cpu.equal_matches(target, output), reference.equal_matches(target, output))


def test_views_and_unlike_shapes() -> None:
    output, labels = scores((20, 6), 3), np.arange(40, dtype="uint8") % 6
    for got, wanted in (
        (cpu.label_matches(labels[::2], output), reference.label_matches(labels[::2], output)),
        (cpu.label_matches(labels[:20], output[:, ::2]), reference.label_matches(labels[:20], output[:, ::2])),
        (cpu.label_matches(labels[:20, None], output), reference.label_matches(labels[:20, None], output)),
        (cpu.threshold_matches(labels[:6], output, 1.0), reference.threshold_matches(labels[:6], output, 1.0)),
        (cpu.largest_matches(output.T, output.T), np.ones(6)),
    ):
        np.testing.assert_array_equal(got, wanted)


CURVE = tuple(i / 10 for i in range(11))


@pytest.mark.parametrize("thresholds", [(0.5,), CURVE, (0.7, 0.2)])
@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
@pytest.mark.parametrize("weights", [None, (40, 1), (40, 3), (1, 1), (1, 3)])
@pytest.mark.parametrize("options", [{}, {"class_id": 1}, {"by_label": True}])
def test_confusion(thresholds: Any, dtype: str, weights: Any, options: dict[str, Any]) -> None:
    if weights in ((40, 3), (1, 3)) and "class_id" in options:
        return
    random = np.random.default_rng(0)
    scores = (random.integers(0, 21, (40, 3)) / 20).astype("float32")
    truth = random.integers(0, 2, (40, 3)).astype(dtype)
    given = None if weights is None else random.random(weights).astype("float32")
    labels = np.float32([1, 2, 0.5])
    shape = (len(thresholds), 3) if options.get("by_label") else (len(thresholds),)
    for of_labels in (None, labels) if "class_id" not in options else (None,):
        for asked in ((1, 1, 1, 1), (1, 0, 0, 1)):
            got, wanted = ([np.ones(shape) if one else None for one in asked] for _ in range(2))
            cpu.add_confusion(tuple(got), truth, scores, given, of_labels, thresholds, **options)
            reference.add_confusion(tuple(wanted), truth, scores, given, of_labels, thresholds, **options)
            for one, other in zip(got, wanted, strict=True):
                if one is not None:
                    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_confusion_of_nothing_and_of_what_is_no_number() -> None:
    counts = tuple(np.zeros(2) for _ in range(4))
    cpu.add_confusion(counts, np.zeros((0, 1)), np.zeros((0, 1), "f4"), None, None, (0.2, 0.4))
    assert not np.any(counts)
    scores = np.float32([[np.inf], [-np.inf], [np.nan]])
    for table in (cpu, reference):
        for thresholds in ((0.2, 0.4), (0.2,)):
            counts = tuple(np.zeros(len(thresholds)) for _ in range(4))
            table.add_confusion(counts, np.ones((3, 1)), scores, None, None, thresholds)
            np.testing.assert_array_equal([count[-1] for count in counts], [1, 0, 0, 2])
            np.testing.assert_array_equal([count[0] for count in counts], [1, 0, 0, 2])
