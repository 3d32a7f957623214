"""Operations that programs seldom use: exactness, ends and zeros, refusals, complex numbers, and the examples."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import backend, ops, tree
from minikeras.autodiff import GradientTape, KerasTensor, Op, Variable, check_gradients
from minikeras.lazy import homes

FILES = ("arranging", "decompositions", "fourier", "linalg", "patches", "rare", "special", "statistics")
NAMES = [name for name, home in homes("minikeras.ops").items() if home.split(":")[0].rpartition(".")[2] in FILES]


def test_each_name_is_in_its_namespaces() -> None:
    assert len(NAMES) > 100
    for name in NAMES:
        assert name in dir(ops)
    for namespace in (ops.numpy, ops.linalg):
        for name in {*dir(namespace)} & {*dir(ops)}:
            assert getattr(namespace, name) is getattr(ops, name)
    with pytest.raises(AttributeError, match="nothing"):
        ops.nothing  # noqa: B018


SHOWN = [name for name in NAMES if ">>>" in (getattr(ops, name).__doc__ or "")]


@pytest.mark.parametrize("name", [f"ops.{name}" for name in SHOWN] + ["K"] + ["tree"])
def test_examples(name: str) -> None:
    if name == "K":
        assert doctest.testmod(backend).failed == 0
    elif name == "tree":
        assert doctest.testmod(tree).failed == 0
    else:
        text = getattr(ops, name.removeprefix("ops.")).__doc__
        runner = doctest.DocTestRunner()
        runner.run(doctest.DocTestParser().get_doctest(text, {}, name, None, 0))
        assert runner.summarize(verbose=False).failed == 0


def test_nearly_all_have_examples() -> None:
    assert {name for name in NAMES if isinstance(getattr(ops, name), Op)} - set(SHOWN) <= {
        "empty_like",
        "bitwise_invert",
    }


# ---------------------------------------------------------------- special functions


def test_erfc_to_the_last_digits() -> None:
    x = np.concatenate([np.linspace(-6, 26, 641), [0.0, 1e-9, 6.2831, 6.2832]])
    expected = np.array([math.erfc(one) for one in x])
    np.testing.assert_allclose(ops.erfc(x), expected, rtol=2e-14)
    np.testing.assert_array_equal(ops.erfc(np.array([-math.inf, math.inf, 40.0])), [2, 0, 0])


@given(st.floats(-0.999999, 0.999999))
def test_erfinv_is_the_inverse(value: float) -> None:
    y = float(ops.erfinv(np.array(value)))
    tail = 1 - abs(value)
    assert math.erfc(abs(y)) == pytest.approx(tail, rel=1e-12) or abs(math.erf(y) - value) < 1e-15 * abs(value)


def test_erfinv_at_its_ends() -> None:
    y = ops.erfinv(np.array([-1.0, 1.0, 0.0, 2.0, math.nan, 1e-300])).numpy()
    np.testing.assert_array_equal(y[:3], [-math.inf, math.inf, 0])
    assert np.isnan(y[3:5]).all()
    assert y[5] == pytest.approx(1e-300 * math.sqrt(math.pi) / 2, rel=1e-12)


def test_gammainc() -> None:
    x = np.array([0.0, 0.1, 1.0, 5.0, 30.0, math.inf])
    np.testing.assert_allclose(ops.gammainc(1.0, x), 1 - np.exp(-x), rtol=1e-12)
    np.testing.assert_allclose(ops.gammainc(np.array(0.5), x), [math.erf(math.sqrt(one)) for one in x], rtol=1e-12)
    # of whole numbers one less a sum of Poisson's probabilities
    for a in (3, 40):
        for point in (0.5, 3.0, 40.0, 90.0):
            rest = sum(math.exp(n * math.log(point) - point - math.lgamma(n + 1)) for n in range(a))
            assert float(ops.gammainc(np.array(float(a)), np.array(point))) == pytest.approx(1 - rest, abs=1e-13)
    assert np.isnan(ops.gammainc(np.array([-1.0, 0.0, 1.0]), np.array([1.0, 1.0, -1.0])).numpy()).all()
    assert ops.gammainc(np.zeros(0), np.zeros(0)).shape == (0,)
    watched = Variable(np.array(2.0))
    with GradientTape() as tape:
        y = ops.gammainc(watched, 1.0)
    with pytest.raises(ValueError, match="no gradient at its first argument"):
        tape.gradient(y, watched)


def test_slopes_of_gammainc_at_zero() -> None:
    x = Variable(np.zeros(3))
    with GradientTape() as tape:
        y = ops.gammainc(np.array([0.5, 1.0, 2.0]), x)
    np.testing.assert_array_equal(tape.gradient(y, x), [math.inf, 1, 0])


# ---------------------------------------------------------------- zeros, NaN, nothing


def test_quantiles_with_nan_and_infinities() -> None:
    x = np.array([[1.0, math.nan, 3.0], [2.0, math.inf, math.inf], [math.nan] * 3])
    np.testing.assert_array_equal(ops.median(x, 1), [math.nan, math.inf, math.nan])
    np.testing.assert_array_equal(ops.nanmedian(x, 1), [2, math.inf, math.nan])
    np.testing.assert_array_equal(ops.nanmax(x, 1), [3, math.inf, math.nan])
    np.testing.assert_array_equal(ops.nanargmax(x, 1), [2, 1, -1])
    assert math.isnan(float(ops.median(np.zeros(0))))
    assert np.isnan(ops.quantile(x[0, ::2], ops.convert_to_tensor([-0.1, 1.1]))).all()
    long = np.arange(5001, dtype="float16") % 1024  # float16 has no place for each
    assert float(ops.median(long)) == np.median(long)
    assert str(ops.median(long).dtype) == "float16"
    assert ops.quantile(np.zeros((0, 3)), np.array([0.5, 0.1]), axis=1).shape == (2, 0)


def test_no_gradient_reaches_what_is_left_out() -> None:
    x = Variable(np.array([1.0, np.nan, 4.0]))
    for function in (ops.nansum, ops.nanmean, ops.nanvar, ops.nanstd, ops.nanmax, ops.nanprod, ops.nanmedian):
        with GradientTape() as tape:
            y = function(x)
        gradient = tape.gradient(y, x).numpy()
        assert np.isfinite(gradient).all() and gradient[1] == 0, function
    x = Variable(np.array([1.0, 0.0]))
    with GradientTape() as tape:
        y = ops.divide_no_nan(1.0, x)
    np.testing.assert_array_equal(tape.gradient(y, x), [-1, 0])


def test_gradients_at_zeros() -> None:
    zeros = np.zeros((2, 2))
    check_gradients(ops.det, np.array([[1.0, 2.0], [2.0, 4.0]]))  # singular
    check_gradients(ops.segment_prod, np.array([0.0, 2.0, 0.0, 3.0, 4.0]), segment_ids=np.array([0, 0, 1, 1, 1]))
    for function in (ops.normalize, ops.nanstd, lambda x: ops.cdist(x, x), ops.sinc):
        x = Variable(zeros)
        with GradientTape() as tape:
            y = ops.sum(function(x))
        assert np.isfinite(tape.gradient(y, x).numpy()).all()


EMPTY: list[Any] = [
    *(ops.inv, ops.det, ops.cholesky, ops.eigh, ops.qr, ops.svd, ops.pinv, ops.lu_factor, ops.slogdet, ops.matrix_rank),
    *(lambda x: ops.solve(x, x), lambda x: ops.matrix_power(x, 3), lambda x: ops.cdist(x, x), ops.diff, ops.trapezoid),
    *(lambda x: ops.extract_sequences(x, 2, 1), lambda x: ops.fft((x, x)), ops.rfft, lambda x: ops.kron(x, x)),
    *(
        lambda x: ops.cross(x, x),
        ops.sparsemax,
        ops.fliplr,
        lambda x: ops.rot90(x, 1, (1, 2)),
        lambda x: ops.dstack([x, x]),
    ),
    *(lambda x: ops.unfold(x[..., None], 1), lambda x: ops.segment_prod(x, np.zeros(0, "int32"), 2)),
]


@pytest.mark.parametrize("function", EMPTY)
def test_empty_batches(function: Any) -> None:
    for result in tree.flatten(function(ops.zeros((0, 3, 3)))):
        assert 0 in result.shape or result.shape[0] == 2  # segments there are


# ---------------------------------------------------------------- matrices


def test_what_is_decomposed_is_put_together_again() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    square = x[:, :3] + 3 * np.eye(3)
    symmetric = square + np.swapaxes(square, 1, 2)
    q, r = ops.qr(x)
    np.testing.assert_allclose(ops.matmul(q, r), x, atol=1e-12)
    u, s, v = ops.svd(x, full_matrices=False)
    np.testing.assert_allclose(ops.matmul(u * s[:, None], v), x, atol=1e-12)
    values, vectors = ops.eigh(symmetric)
    np.testing.assert_allclose(ops.matmul(symmetric, vectors), vectors * values[:, None], atol=1e-12)
    for one in (x, square, np.swapaxes(x, 1, 2), np.zeros((1, 2, 2))):
        packed, pivots = (part.numpy() for part in ops.lu_factor(one))
        m, n = one.shape[1:]
        for lu, rows, matrix in zip(packed, pivots, one, strict=True):
            order = np.arange(m)
            for i, row in enumerate(rows):
                order[[i, row]] = order[[row, i]]
            size = min(m, n)
            lower, upper = np.tril(lu[:, :size], -1) + np.eye(m, size), np.triu(lu[:size])
            np.testing.assert_allclose(lower @ upper, matrix[order], atol=1e-12)
    factor = ops.cholesky(symmetric)
    np.testing.assert_allclose(ops.matmul(ops.cholesky_inverse(factor), symmetric), [np.eye(3)] * 2, atol=1e-12)


def test_gradients_do_not_need_all_results() -> None:
    x = np.random.default_rng(0).normal(size=(3, 3)) + 2 * np.eye(3)
    for function in (ops.qr, ops.svd, ops.eigh, ops.slogdet, ops.lu_factor):
        for i in range(len(function(x))):
            if str(function(x)[i].dtype) != "int32" and (function, i) != (ops.slogdet, 0):
                check_gradients(lambda x, f=function, i=i: f(x)[i], x)


# ---------------------------------------------------------------- refusals

X = np.ones((3, 4))
REFUSED: list[tuple[Any, type, str]] = [
    (lambda: ops.inv(X), ValueError, r"square matrices.*\(3, 4\)"),
    (lambda: ops.inv(np.ones((2, 2))), ValueError, "Singular"),
    (lambda: ops.cholesky(-np.eye(2)), ValueError, "positive definite"),
    (lambda: ops.solve(np.eye(3), X.T), ValueError, r"\(4, 3\)"),
    (lambda: ops.solve(np.ones((2, 2)), np.ones(2)), ValueError, "Singular"),
    (lambda: ops.qr(X, mode="r"), ValueError, "'r'"),
    (lambda: ops.lstsq(X, np.ones(4)), ValueError, r"\(4,\)"),
    (lambda: ops.matrix_power(np.eye(2), 0.5), TypeError, "0.5"),
    (lambda: ops.ldexp(1.0, 0.5), TypeError, "whole numbers"),
    (lambda: ops.histogram(X[0], bins=2.5), TypeError, "2.5"),
    (lambda: ops.histogram(X[0], bins=-1), ValueError, "bins=-1"),
    (lambda: ops.histogram(X[0], range=(2, 1)), ValueError, r"range=\(2, 1\)"),
    (lambda: ops.quantile(X, 0.5, method="middle"), ValueError, "'middle'"),
    (lambda: ops.quantile(X, [0.5, 1.5]), ValueError, r"between 0 and 1, got \[0.5, 1.5\]"),
    (lambda: ops.percentile(X, -1), ValueError, "between 0 and 100, got -1"),
    (lambda: ops.searchsorted(X, 1.0), ValueError, "vector"),
    (lambda: ops.argpartition(X, 0.5), ValueError, "0.5"),
    (lambda: ops.correlate(X[0], X[0], mode="all"), ValueError, "'all'"),
    (lambda: ops.correlate(X, X[0]), ValueError, r"\(3, 4\)"),
    (lambda: ops.cross(X, X), ValueError, "2 or 3"),
    (lambda: ops.rot90(X[0]), ValueError, "two different axes"),
    (lambda: ops.rot90(X, axes=(1, -1)), ValueError, "two different axes"),
    (lambda: ops.select([True], [1, 2]), ValueError, "1 and 2"),
    (lambda: ops.dsplit(X, 2), ValueError, "3 axes"),
    (lambda: ops.fft((X, X[0])), ValueError, "pair"),
    (lambda: ops.fft((X.astype(int), X.astype(int))), ValueError, "floats"),
    (lambda: ops.fft2((X[0], X[0])), ValueError, "2 axes"),
    (lambda: ops.view_as_complex(X), ValueError, "pairs"),
    (lambda: ops.view(X[:, :3].astype("float32"), "float64"), ValueError, "cannot be read"),
    (lambda: ops.unfold(X[None, None], 5), ValueError, "do not fit"),
    (lambda: ops.fold(X[None], (3, 3), 2), ValueError, "fold takes"),
    (lambda: ops.depth_to_space(X[None, None], 3), ValueError, "blocks of 3"),
    (lambda: ops.space_to_depth(X, 2), ValueError, "four axes"),
    (lambda: ops.psnr(X, X[0], 1.0), ValueError, "one shape"),
    (lambda: ops.einsum("ij->j", X, optimise=True), TypeError, "optimise"),
    (lambda: ops.normalize(X, order=0), ValueError, "got 0"),
    (lambda: ops.cdist(X, X[:, :3]), ValueError, "cdist"),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(call: Any, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: ops.svd(x)[0], "full_matrices"),
        (lambda x: ops.qr(x, "complete")[0], "'complete'"),
        (lambda x: ops.qr(ops.transpose(x))[0], "m >= n"),
        (lambda x: ops.lu_factor(x)[0], "square"),
    ],
)
def test_gradients_that_are_not_known(function: Any, words: str) -> None:
    x = Variable(np.random.default_rng(0).normal(size=(4, 3)))
    with GradientTape() as tape:
        y = function(x)
    with pytest.raises(ValueError, match=words):
        tape.gradient(y, x)


# ---------------------------------------------------------------- complex numbers


@pytest.mark.parametrize("dtype, one, step", [("float16", 15360, 2.0**-10), ("bfloat16", 16256, 2.0**-7)])
def test_bits_of_narrow_floats(dtype: str, one: int, step: float) -> None:
    x = ops.ones((2,), dtype)
    assert ops.view(x, "uint16").numpy().tolist() == [one, one] and ops.view(x, "int8").shape == (4,)
    above = ops.nextafter(x, 2 * x)
    assert above.dtype == dtype and (ops.cast(above, "float32") - 1.0).numpy().tolist() == [step, step]


def test_complex_numbers_hold_values_but_no_gradients() -> None:
    size, turn = Variable(np.float32([1, 2])), np.float32([0.5, -1])
    with GradientTape() as tape:
        z = ops.polar(size, turn)
        y = ops.real(z)
    assert str(z.dtype) == "complex64"
    np.testing.assert_allclose(z, size.numpy() * np.exp(1j * turn), rtol=1e-6)
    np.testing.assert_allclose(ops.angle(z), turn, rtol=1e-6)
    np.testing.assert_allclose(ops.imag(ops.conj(z)), -size.numpy() * np.sin(turn), rtol=1e-6)
    np.testing.assert_array_equal(ops.view_as_complex(ops.view_as_real(z)), z)
    np.testing.assert_array_equal(ops.isreal(z), [False, False])
    with pytest.raises(TypeError, match="No gradient flows through complex numbers"):
        tape.gradient(y, size)
    values, _ = ops.eig(np.array([[0.0, 1.0], [-1.0, 0.0]]))
    np.testing.assert_allclose(np.sort_complex(values.numpy()), [-1j, 1j])
    assert ops.polar(KerasTensor((None, 2)), KerasTensor((2,))).dtype == "complex64"


# ---------------------------------------------------------------- functions of functions


def test_vectorize() -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0])

    def scaled(row: Any, factor: Any, power: int = 1) -> Any:
        return row * factor**power, ops.sum(row)

    function = ops.vectorize(scaled, excluded={"power"}, signature="(n),()->(n),()")
    rows, sums = function(x, y, power=2)
    np.testing.assert_allclose(rows, x * y[:, None] ** 2)
    np.testing.assert_allclose(sums, x.sum(1))
    product = ops.vectorize(lambda a, b: a * b)
    np.testing.assert_allclose(product(x, y[:, None]), x * y[:, None])
    check_gradients(lambda a: product(a, 2.0), x)


def test_hints_of_einsum() -> None:
    np.testing.assert_allclose(ops.einsum("ij->j", X, optimize=True), X.sum(0))
    assert ops.einsum("ij->j", KerasTensor((None, 4)), optimize="greedy").shape == (4,)


def test_unique_of_so_many() -> None:
    x = np.array([[3, 1, 3], [2, 2, 9]], "int32")
    values, index, inverse, counts = ops.unique(x, True, True, True, True, size=6, fill_value=7)
    np.testing.assert_array_equal(values, [1, 2, 3, 9, 7, 7])
    np.testing.assert_array_equal(index[:4], [1, 3, 0, 5])
    np.testing.assert_array_equal(inverse, [[2, 0, 2], [1, 1, 3]])
    np.testing.assert_array_equal(counts, [1, 2, 2, 1, 0, 0])
    assert ops.unique(KerasTensor((None, 3)), size=4).shape == (4,)
    assert len(ops.unique(np.array([np.nan, np.nan]))) == 2


@pytest.mark.parametrize("name", ["fft", "ifft2", "irfft"])
@pytest.mark.parametrize("x", [[1.0], np.ones(3), (1.0, 2.0), (np.ones((2, 3)),), (np.ones((2, 2)), np.ones((3, 3)))])
def test_transforms_take_pairs(name, x):
    with pytest.raises(ValueError, match=f"{name} takes a pair .real, imaginary. of arrays"):
        getattr(ops, name)(x)
