"""Products by our binding of cuBLASLt, against a library that reads its arguments and refuses what is wrong in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cublaslt import FakeCublasLt
from gpu.cuda import check
from gpu.cuda.check import DTYPES, case, numbers, same
from gpu.recorder import recording_device
from hypothesis import given
from hypothesis import strategies as st

from minikeras import GradientTape, config, layers, ops
from minikeras import kernels as k
from minikeras.kernels import Kernels
from minikeras.kernels.cuda import cublas
from minikeras.kernels.cuda import dense as override

SIZES = st.integers(1, 9)


def library() -> FakeCublasLt:
    binding = cublas.binding(check.gpu.xp)
    assert binding is not None
    return binding._library


def by_the_library(run: Any, **tolerance: Any) -> None:
    """Compare with the reference; the products must be the library's."""
    before = library().products
    same(run, **tolerance)
    assert library().products > before


@pytest.mark.parametrize("dtype", DTYPES)
@given(SIZES, SIZES, SIZES, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(1, 3))
def test_products(
    dtype: str, rows: int, inner: int, columns: int, ta: bool, tb: bool, into: bool, offset: int, more: int
) -> None:
    """Transposed or not, parts of larger arrays, which begin anywhere, and into arrays that are given."""

    def run(k: Kernels) -> list[Any]:
        shapes = (inner, rows) if ta else (rows, inner), (columns, inner) if tb else (inner, columns)
        wide = [k.to_device(numbers(i, m + offset, n + more, dtype=dtype)) for i, (m, n) in enumerate(shapes)]
        a, b = (one[offset:, :n] for one, (_, n) in zip(wide, shapes, strict=True))
        out = k.empty((rows, columns), a.dtype) if into else None
        found = k.gemm(a, b, ta, tb, out=out)
        assert out is None or found is out
        return [found, k.gemm(a.T, b.T, not ta, not tb)]

    by_the_library(run)


STACKS = st.sampled_from(
    [
        ((3,), (3,)),
        ((2, 3), (2, 3)),
        ((2, 1), (2, 3)),
        ((), (4,)),
        ((4,), ()),
        ((2, 3), ()),
        ((1,), (5,)),
        ((2, 3), (3,)),
    ]
)


@given(STACKS, SIZES, SIZES, SIZES, st.booleans())
def test_stacks(stacks: Any, rows: int, inner: int, columns: int, turned: bool) -> None:
    def run(k: Kernels) -> list[Any]:
        a, b = k.to_device(numbers(0, *stacks[0], rows, inner)), k.to_device(numbers(1, *stacks[1], inner, columns))
        if turned:
            a = k.to_device(numbers(0, *stacks[0], inner, rows)).swapaxes(-1, -2)
        return [k.matmul(a, b)]

    by_the_library(run)


@given(SIZES, SIZES)
def test_heads(n: int, size: int) -> None:
    """Stacks along other axes than the first, as heads of attention are."""

    def run(k: Kernels) -> list[Any]:
        x, y = (k.to_device(numbers(i, 2, n, 3, size)).swapaxes(1, 2) for i in range(2))
        return [k.matmul(x, y.swapaxes(-1, -2))]

    same(run)


@pytest.mark.parametrize("dtype", DTYPES)
@given(SIZES, SIZES, SIZES, st.booleans(), st.sampled_from([None, "relu", "tanh", "softplus"]))
def test_dense(dtype: str, rows: int, inner: int, units: int, bias: bool, activation: str | None) -> None:
    def run(k: Kernels) -> list[Any]:
        x, w, b = (
            k.to_device(numbers(i, *shape, dtype=dtype))
            for i, shape in enumerate([(rows, inner), (inner, units), (units,)])
        )
        return [k.dense(x, w, b if bias else None, activation)]

    by_the_library(run)


def test_what_has_no_product_is_refused() -> None:
    x, w, b = (check.gpu.to_device(numbers(i, *shape)) for i, shape in enumerate([(2, 3), (3, 4), (4,)]))
    out = check.gpu.to_device(np.zeros((2, 5), "f4"))
    wrong = [
        lambda: check.gpu.gemm(x, x),
        lambda: check.gpu.gemm(x, w, True),
        lambda: check.gpu.gemm(x, w, False, True),
        lambda: check.gpu.gemm(x, w, out=out),
        lambda: check.gpu.matmul(x, x),
        lambda: check.gpu.matmul(x[None], x),
        lambda: check.gpu.dense(x, x, b),
        lambda: check.gpu.dense(x, w, b[:3], "tanh"),
        lambda: check.gpu.dense(x, w, b, out=out),
    ]
    for product in wrong:
        with pytest.raises(ValueError, match=r"(?i)shape|mismatch|dimension"):
            product()


def test_matrices_with_gaps_and_of_whole_numbers() -> None:
    def run(k: Kernels) -> list[Any]:
        x = k.to_device(numbers(0, 6, 8))
        whole = k.to_device(np.arange(12).reshape(3, 4))
        return [k.gemm(x[:, ::2], x[:4, :].T[:4]), k.gemm(whole, whole.T), k.matmul(x[::2, ::2], x[:4, ::2])]

    same(run)


def test_numbers_stay_what_they_are() -> None:
    """A NaN does not become 0 in an activation, as the library's relu may make of it."""

    def run(k: Kernels) -> list[Any]:
        x = np.ones((2, 3), "float32")
        x[0, 1], x[1, 2] = np.nan, np.inf
        return [
            k.dense(
                k.to_device(x), k.to_device(-np.ones((3, 4), "float32")), k.to_device(np.ones(4, "float32")), "relu"
            )
        ]

    with np.errstate(invalid="ignore"):
        same(run)


def test_tf32_only_when_asked() -> None:
    binding = cublas.binding(check.gpu.xp)
    assert binding is not None

    def kinds() -> set[bool]:
        before = set(binding._prepared)
        x = check.gpu.to_device(numbers(0, 11, 13))
        check.gpu.gemm(x, x, tb=True)
        return {kind.tf32 for kind in set(binding._prepared) - before}

    assert kinds() <= {False}
    config.set_tf32(True)
    try:
        assert kinds() == {True}
    finally:
        config.set_tf32(False)
    with pytest.raises(TypeError, match="must be True or False, got 1"):
        config.set_tf32(1)  # type: ignore[arg-type]


def test_numbers_of_two_bytes_are_multiplied_in_tf32_which_has_all_their_bits() -> None:
    with recording_device():
        binding = cublas.binding(k.xp)
        assert binding is not None
        layer = layers.Dense(23, dtype="mixed_float16")
        layer.build((None, 29))
        before = set(binding._prepared)
        with GradientTape() as tape:
            loss = ops.sum(layer(np.ones((31, 29), "float32")))
        tape.gradient(loss, layer.trainable_weights)
        found = {kind.tf32 for kind in set(binding._prepared) - before}
    assert found == {True}


def test_what_the_library_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCublasLt, "cublasLtMatrixLayoutCreate", lambda *_: 7)
    x = check.gpu.to_device(numbers(0, 17, 19))
    with pytest.raises(RuntimeError, match="cublasLtMatrixLayoutCreate failed with status 7"):
        check.gpu.gemm(x, x, tb=True)


@case(override._SOURCE)
def biases(k: Kernels) -> list[Any]:
    x, w, b = k.to_device(numbers(0, 5, 3)), k.to_device(numbers(1, 3, 4)), k.to_device(numbers(2, 4))
    return [k.dense(x, w, b, "tanh")]
