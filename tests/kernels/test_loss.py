"""Softmax and cross-entropies: the compiled loops against the reference, in float64 where that is the truth."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras.kernels.cpu.compiler import FAST, compiled, exp, floats

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
    for bound in (k.softmax, k.cross_entropy_grad):
        assert bound.__func__.__module__ == "minikeras.kernels.cpu.loss"
