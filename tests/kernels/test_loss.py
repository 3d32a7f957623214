"""Softmax and cross-entropies: the compiled loops against the reference, in float64 where that is the truth."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k
from minikeras import ops
from minikeras.kernels.cpu import refusals
from minikeras.kernels.cpu.compiler import FAST, compiled, exp, floats
from minikeras.kernels.cpu.recording import Recorded, Recording
from minikeras.kernels.reference.loss import ERRORS

reference, cpu = k.reference_table(), k.table_of("cpu")
softmax = reference.softmax

SHAPES = [(128, 10), (600, 1), (1, 600), (7, 5, 33), (3001, 17), (50, 10), (0, 10)]


@compiled(fastmath=FAST)
def _exponentials(x, out, size):  # type: ignore[no-untyped-def]
    for i in range(size):
        floats(out)[i] = exp(floats(x)[i])


def exponentials(x: Any) -> Any:
    out = np.empty_like(x)
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(_exponentials.address)(x.ctypes.data, out.ctypes.data, x.size)
    return out


def test_exponentials() -> None:
    x = np.concatenate([np.linspace(-87.3, 88.7, 200_001), np.linspace(-1, 1, 20_001)]).astype("f4")
    truth = np.exp(x.astype("f8"))
    assert (np.abs(exponentials(x) - truth) / truth).max() < 1e-7
    edges = np.array([0, -0.0, -200, -np.inf, 200, np.inf, np.nan, 1e-30, -88, 88.73], "f4")
    wanted = np.array([1, 1, 0, 0, np.inf, np.inf, np.nan, 1, 0, np.inf], "f4")
    np.testing.assert_array_equal(exponentials(edges), wanted)


def case(shape: tuple[int, ...], dtype: str = "float32") -> tuple[Any, Any, Any, Any]:
    random = np.random.default_rng(len(shape) + shape[0])
    logits = (5 * random.standard_normal(shape)).astype(dtype)
    target = random.random(shape).astype(dtype)
    labels = random.integers(0, shape[-1], shape[:-1]).astype("int32")
    return logits, target, labels, random.standard_normal(shape[:-1]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_overrides(shape: tuple[int, ...], dtype: str) -> None:
    logits, target, labels, g = case(shape, dtype)
    exact = [array.astype("f8") for array in (logits, target, g)]
    results = [
        (cpu.softmax(logits), softmax(exact[0])),
        (cpu.cross_entropy(logits, target), reference.cross_entropy(*exact[:2])),
        (cpu.cross_entropy_grad(g, logits, target), reference.cross_entropy_grad(exact[2], *exact[:2])),
    ]
    results += [
        (cpu.cross_entropy(logits, target, cpu.softmax(logits)), reference.cross_entropy(*exact[:2])),
        (
            cpu.sparse_cross_entropy(logits, labels, cpu.softmax(logits)),
            reference.sparse_cross_entropy(exact[0], labels),
        ),
        (cpu.sparse_cross_entropy(logits, labels), reference.sparse_cross_entropy(exact[0], labels)),
        (
            cpu.sparse_cross_entropy_grad(g, logits, labels),
            reference.sparse_cross_entropy_grad(exact[2], exact[0], labels),
        ),
    ]
    for got, wanted in results:
        assert got.dtype == dtype and got.shape == wanted.shape
        tolerance = 1e-12 if dtype == "float64" else 1e-6 * max(np.abs(wanted).max(initial=1), 1)
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=tolerance)


def test_views_and_axes() -> None:
    logits, _, _, _ = case((60, 40))
    for x, axis in ((logits.T, -1), (logits[::2], -1), (logits, 0), (logits[:, ::3], 1), (logits, 1)):
        np.testing.assert_allclose(cpu.softmax(x, axis=axis), softmax(x.astype("f8"), axis=axis), rtol=2e-6, atol=1e-7)
    out = np.empty_like(logits)
    assert cpu.softmax(logits, out=out) is out
    same = logits.copy()
    assert (cpu.softmax(same, out=same) == out).all()
    broadcast = np.broadcast_to(np.float32(0.25), (60,))
    labels = np.arange(60) % 40
    np.testing.assert_allclose(
        cpu.sparse_cross_entropy_grad(broadcast, logits, labels),
        reference.sparse_cross_entropy_grad(broadcast, logits, labels),
        rtol=2e-6,
        atol=1e-7,
    )


def test_large_and_undefined_logits() -> None:
    logits = np.zeros((60, 10), "f4")
    logits[0, 3], logits[1, 4], logits[2] = 1e30, -np.inf, 1000
    logits[3, 5], logits[4, 6] = np.nan, np.inf
    labels = np.full(60, 3)
    with np.errstate(invalid="ignore"):
        for got, wanted in (
            (cpu.softmax(logits), softmax(logits)),
            (cpu.sparse_cross_entropy(logits, labels), reference.sparse_cross_entropy(logits, labels)),
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_kernels_are_bound() -> None:
    for bound, family in ((k.softmax, "activation"), (k.cross_entropy_grad, "loss")):
        assert bound.__func__.__module__ == f"minikeras.kernels.cpu.{family}"


# ---- errors of single elements

SETTINGS = {"huber": 0.3}  # others: epsilon
ERROR_SHAPES = [(1,), (7,), (32, 1), (128, 10), (3, 0), (0, 4), (2, 3, 33), (60, 784), (40_001, 1)]


def pair(kind: str, shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    target, output = random.random(shape), random.random(shape)
    if kind in ("hinge", "squared_hinge"):
        target = random.integers(0, 2, shape) * (1 + seed % 2)
    if kind in ("squared", "absolute", "huber", "log_cosh", "binary_logits", "hinge", "squared_hinge"):
        output = 8 * output - 4
    return target.astype("float32"), output.astype("float32")


@pytest.mark.parametrize("kind", ERRORS)
@given(shape=st.sampled_from(ERROR_SHAPES), seed=st.integers(0, 9))
def test_errors(kind: str, shape: tuple[int, ...], seed: int) -> None:
    target, output = pair(kind, shape, seed)
    setting = float(np.float32(SETTINGS.get(kind, 1e-7)))
    g = np.asarray(np.random.default_rng(seed).standard_normal(shape[:-1]).astype("float32"))
    exact = [array.astype("f8") for array in (g, target, output)]
    got = cpu.mean_error(target, output, kind, setting)
    wanted = np.asarray(reference.mean_error(*exact[1:], kind, setting))
    assert got.dtype == np.float32 and got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6 * max(np.abs(wanted).max(initial=0), 1))
    for of_target in (False, True):
        got = cpu.mean_error_grad(g, target, output, kind, setting, of_target)
        wanted = reference.mean_error_grad(*exact, kind, setting, of_target)
        assert got.dtype == np.float32 and got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=3e-6, atol=3e-6 * max(np.abs(wanted).max(initial=0), 0.1))


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_of_what_is_no_number(kind: str) -> None:
    values = np.float32([0, -0.0, 1, -1, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e-30, 0.5])
    target, output = (one.reshape(-1, 1) for one in np.meshgrid(np.float32([0, 1, 0.25, -1, np.nan]), values))
    with np.errstate(all="ignore"):
        for one in (0, 1):
            got, wanted = (
                table.mean_error(target, output, kind, 1e-7)
                if one
                else table.mean_error_grad(np.ones(len(target), "f4"), target, output, kind, 1e-7)
                for table in (cpu, reference)
            )
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6, err_msg=kind)


def test_errors_of_views_and_of_unlike_shapes() -> None:
    target, output = pair("squared", (6, 4), 0)
    g = np.ones(6, "float32")
    for t, y in ((target[:, :1], output), (target[0], output), (target[:, ::2], output[:, ::2])):
        np.testing.assert_allclose(cpu.mean_error(t, y, "squared"), ((np.asarray(y) - t) ** 2).mean(-1), rtol=1e-6)
        got, wanted = (table.mean_error_grad(g, t, y, "squared") for table in (cpu, reference))
        np.testing.assert_array_equal(got, wanted)
    spread = np.broadcast_to(np.float32(0.5), (6,))
    got, wanted = (table.mean_error_grad(spread, target, output, "squared") for table in (cpu, reference))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


# ---- weights and sums

WEIGHTED = [
    *(((1,), None), ((100,), (100,)), ((50, 7), (50, 1)), ((3, 4, 5), (3, 4, 1)), ((3, 4, 5), (3, 1, 5))),
    *(((70_001,), None), ((70_001,), (70_001,)), ((3000, 40), (3000, 1)), ((0,), None), ((0,), (0,))),
]


@pytest.mark.parametrize("shapes", WEIGHTED, ids=str)
@pytest.mark.parametrize("factor", [None, 0.25])
def test_totals(shapes: Any, factor: float | None) -> None:
    random = np.random.default_rng(0)
    values = random.random(shapes[0]).astype("float32")
    weights = None if shapes[1] is None else random.random(shapes[1]).astype("float32")
    if weights is None and factor is None:
        return
    exact = values.astype("f8"), None if weights is None else weights.astype("f8")
    (got, scale), (wanted, exact_scale) = (
        cpu.weighted_total(values, weights, factor),
        reference.weighted_total(*exact, factor),
    )
    assert np.shape(got) == () and got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scale, exact_scale, rtol=1e-6)
    g = np.array(1.5, "float32")
    got, wanted = (
        cpu.weighted_total_grad(g, values, weights, scale),
        reference.weighted_total_grad(1.5, *exact, exact_scale),
    )
    assert got.dtype == np.float32 and got.shape == values.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_weights_that_are_all_zero() -> None:
    values, weights = np.ones(4, "float32"), np.zeros(4, "float32")
    total, scale = cpu.weighted_total(values, weights)
    assert total == 0 and scale == 0
    assert not cpu.weighted_total_grad(np.array(1, "f4"), values, weights, scale).any()


@pytest.mark.parametrize("weights", [None, (20,), (20, 1), (20, 7), (20, 7, 1), (20, 7, 2)])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "int32"])
def test_masks(weights: Any, mean: bool, dtype: str) -> None:
    random = np.random.default_rng(0)
    for share in (0.5, 2.0):  # some, none
        mask = (random.random((20, 7)) > share).astype(dtype)
        given = None if weights is None else random.random(weights).astype("float32")
        got, wanted = (table.weights_of_mask(mask, given, np.dtype("float32"), mean) for table in (cpu, reference))
        assert got.dtype == np.float32 and got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


# ---- class numbers


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_class_numbers(dtype: str) -> None:
    labels = np.array([[0, 1], [2, 3], [2, 1]]).astype(dtype)
    for table in (cpu, reference):
        named, wrong = table.class_numbers(labels, 4)
        assert named.dtype == np.int64 and not wrong
        np.testing.assert_array_equal(named, labels)
        named, wrong = table.class_numbers(labels, 2)
        assert wrong == (0 if dtype == "bool" else 3)
        np.testing.assert_array_equal(named, np.where(labels < 2, labels.astype("int64"), 0))
        named, wrong = table.class_numbers(labels[:0], 2)
        assert named.shape == (0, 2) and not wrong
        np.testing.assert_array_equal(table.class_numbers(labels[:, ::2], 4)[0], labels[:, ::2])


@pytest.mark.parametrize("value", [-1, 3, 1.5, np.nan, np.inf, -np.inf, 1e30])
def test_labels_that_name_no_class_are_counted_and_refused(value: float) -> None:
    labels, before = np.array([1, value, 2], "float64"), refusals.count()
    for table in (cpu, reference):
        named, wrong = table.class_numbers(labels, 3)
        assert wrong == 1
        np.testing.assert_array_equal(named, [1, 0, 2])
    assert refusals.count() == before + 1  # a program would stop
    said = "must be the whole number" if value == 1.5 or np.isnan(value) else "must lie between 0 and 2 for 3 classes"
    with pytest.raises(ValueError, match=said):
        ops.sparse_categorical_crossentropy(labels, np.zeros((3, 3), "float32"), from_logits=True)


@pytest.mark.parametrize("table", [cpu, reference], ids=["cpu", "reference"])
@pytest.mark.parametrize("value", [1, 3])
def test_labels_of_a_recorded_step_are_refused_like_others(table: Any, value: int, monkeypatch: Any) -> None:
    """By the step that is recorded at once, by its program's with the check that it keeps."""
    monkeypatch.setattr(k, "class_numbers", table.class_numbers)
    logits, labels = np.zeros((3, 3), "float32"), np.array([0, value, 2])
    with (
        Recording([logits, labels]) as recording,
        pytest.raises(ValueError, match="got labels between 0 and 3") if (value == 3) else nullcontext(),
    ):
        ops.sparse_categorical_crossentropy(labels.view(Recorded), logits.view(Recorded), from_logits=True)
    if table is reference:
        assert recording.spoiled == "Python reads a value"  # and such a step is never made by a program
        return
    assert recording.spoiled is None
    labels[1] = -1
    (check,) = recording.checks
    with pytest.raises(ValueError, match="got labels between -1 and 2"):
        check()


def test_labels_below_zero_may_be_allowed() -> None:
    labels = np.float32([-1, 2, 0.5, -4])
    for table in (cpu, reference):
        named, wrong = table.class_numbers(labels, 4, -3)
        assert wrong == 2
        np.testing.assert_array_equal(named, [-1, 2, -3, -3])


def test_many_labels_are_looked_at_by_several() -> None:
    labels = np.arange(50_001) % 10
    assert not cpu.class_numbers(labels, 10)[1]
    labels[[3, 40_000]] = 10
    named, wrong = cpu.class_numbers(labels, 10)
    assert wrong == 2 and named[3] == named[40_000] == 0


# ---- cross-entropies of probabilities, and likenesses of rows

ROW_SHAPES = [(1, 1), (128, 10), (7, 5, 33), (0, 4), (3001, 17)]


def row_kernels(table: Any, g: Any, x: Any, y: Any, labels: Any, epsilon: float = 1e-3) -> dict[str, Any]:
    return {
        "share_cross_entropy": table.share_cross_entropy(x, y, epsilon),
        "share_cross_entropy_grad": table.share_cross_entropy_grad(g, x, y, epsilon),
        "sparse_share_cross_entropy": table.sparse_share_cross_entropy(x, labels, epsilon),
        "sparse_share_cross_entropy_grad": table.sparse_share_cross_entropy_grad(g, x, labels, epsilon),
        "cosine": table.cosine(x, y, epsilon),
        "cosine_grad": table.cosine_grad(g, x, y, epsilon),
        **({} if not x.size else {"largest_margin": table.largest_margin(y, x)}),
        **({} if not x.size else {"largest_margin_grad": table.largest_margin_grad(g, y, x)}),
    }


@pytest.mark.parametrize("shape", ROW_SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows(shape: tuple[int, ...], dtype: str) -> None:
    random = np.random.default_rng(0)
    x, y = (random.random(shape).astype(dtype) for _ in range(2))
    y[..., :1] = 1  # a target as of one-hot ones, and rows that are far beyond the limits
    x[::7] *= np.where(np.arange(shape[-1]) % 2, 1e-5, 1)
    labels, g = random.integers(0, shape[-1], shape[:-1]), random.standard_normal(shape[:-1]).astype(dtype)
    got = row_kernels(cpu, g, x, y, labels)
    for name, wanted in row_kernels(reference, *[one.astype("f8") for one in (g, x, y)], labels).items():
        assert got[name].dtype == dtype and got[name].shape == wanted.shape, name
        tolerance = (2e-6 if dtype == "float32" else 1e-12) * max(np.abs(wanted).max(initial=0), 1)
        np.testing.assert_allclose(got[name], wanted, rtol=2e-6, atol=tolerance, err_msg=name)


def test_rows_at_and_beyond_limits() -> None:
    x = np.float32([[0, 1], [0.5, 0.5], [1, 1], [0, 0], [np.nan, 1], [1e-30, 1e-30], [3, 4], [-1, 2]])
    y = np.float32([[1, 0], [0, 1], [1, 1], [0, 1], [0, 1], [1, 0], [0, 0], [0.5, 0.5]])
    with np.errstate(all="ignore"):
        for labels in (0, 1):
            given = np.ones(len(x), "f4"), x, y, np.full(len(x), labels)
            got, wanted = row_kernels(cpu, *given, 0.25), row_kernels(reference, *given, 0.25)
            for name, values in wanted.items():
                np.testing.assert_allclose(got[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_rows_of_views_and_labels_of_no_class() -> None:
    random = np.random.default_rng(0)
    x, y, labels, g = random.random((6, 8)), random.random((6, 8)), np.arange(6) % 4, np.ones(6, "float32")
    views = x.astype("f4")[:, ::2], y.astype("f4")[:, ::2]
    got, wanted = row_kernels(cpu, g, *views, labels), row_kernels(reference, g, *views, labels)
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)
    labels[2] = -1
    x32 = x.astype("f4")
    np.testing.assert_array_equal(np.isnan(cpu.sparse_share_cross_entropy(x32, labels, 1e-7)), labels < 0)
    assert not cpu.sparse_share_cross_entropy_grad(g, x32, labels, 1e-7)[2].any()
