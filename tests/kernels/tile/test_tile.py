"""The register-tiled products and convolutions against float64, with the error bound of a float32 sum."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.cpu.compiler import team as module
from minikeras.kernels.cpu.tile import convolutions, products

reference, cpu = reference_table(), table_of("cpu")

pytestmark = pytest.mark.skipif(not host.HAS_VECTORS, reason="the tile needs AVX2, AVX-512 or NEON")

ROWS, WIDTH, LANES = host.ROWS, host.WIDTH, host.LANES
GUARD = np.float32(77)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_within_rounding(found: Any, exact: Any, magnitude: Any, terms: int) -> None:
    """Each value is off by no more than `terms` roundings of the sum of its terms' magnitudes; others are the same."""
    assert found.dtype == np.float32 and found.shape == exact.shape
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(found[~finite], exact[~finite])
    allowed = terms * 2.0**-24 * magnitude[finite]
    error = np.abs(found[finite] - exact[finite])
    assert (error <= allowed).all(), f"{(error - allowed).max()} too much"


def inside(matrix: Any, surroundings: float) -> tuple[Any, Any]:
    """(a wider matrix, a slice of it that holds the matrix)."""
    wide = np.full((matrix.shape[0] + 2, matrix.shape[1] + 5), surroundings, np.float32)
    part = wide[1:-1, 2:-3]
    part[...] = matrix
    return wide, part


def product(a: Any, b: Any, bias: Any, ta: bool, tb: bool, relu: bool) -> tuple[Any, Any]:
    """(the product in float64, the sum of its terms' magnitudes)."""
    a, b = (matrix.astype(np.float64) for matrix in (a.T if ta else a, b.T if tb else b))
    with np.errstate(invalid="ignore"):
        exact, magnitude = a @ b, abs(a) @ abs(b)
        if bias is not None:
            exact, magnitude = exact + bias, magnitude + abs(bias)
    return np.maximum(exact, 0) if relu else exact, magnitude


@settings(max_examples=150, deadline=None)
@given(
    rows=st.sampled_from([1, 2, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 2]),
    steps=st.sampled_from([1, 2, LANES - 1, LANES, 2 * LANES + 3, 300]),
    columns=st.sampled_from([1, 2, LANES - 1, LANES, LANES + 1, WIDTH - 1, WIDTH, WIDTH + 1, 3 * WIDTH + 5]),
    ta=st.booleans(),
    tb=st.booleans(),
    biased=st.booleans(),
    relu=st.booleans(),
    special=st.sampled_from([None, math.nan, math.inf, -math.inf]),
    where=st.sampled_from("ab"),
    data=st.data(),
)
def test_products(rows, steps, columns, ta, tb, biased, relu, special, where, data) -> None:
    a = numbers(*((steps, rows) if ta else (rows, steps)), seed=1)
    b = numbers(*((columns, steps) if tb else (steps, columns)), seed=2)
    bias = numbers(columns, seed=3) if biased else None
    if special is not None:
        flat = (a if where == "a" else b).reshape(-1)
        flat[data.draw(st.integers(0, flat.size - 1), label="place")] = special
    exact, magnitude = product(a, b, bias, ta, tb, relu)
    a, b = inside(a, math.nan)[1], inside(b, math.nan)[1]
    wide, out = inside(np.full((rows, columns), math.nan, np.float32), GUARD)
    assert products.matrix_product(a, b, ta, tb, bias, relu, out) is out
    assert_within_rounding(out, exact, magnitude, steps + 1)
    fresh = products.matrix_product(np.ascontiguousarray(a), np.ascontiguousarray(b), ta, tb, bias, relu)
    if columns == 1 or rows < ROWS:  # where nothing lies between the numbers of a row or a column, sums are of vectors
        assert_within_rounding(fresh, exact, magnitude, steps + 1)
    else:
        np.testing.assert_array_equal(fresh, out)
    out[...] = GUARD
    assert (wide == GUARD).all()


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(1, 2 * ROWS + 3),
    steps=st.integers(1, LANES + 3),
    columns=st.integers(1, 2 * WIDTH + LANES + 2),
    turned=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    biased=st.booleans(),
    activation=st.sampled_from([None, "relu", "tanh"]),
    zeros=st.booleans(),
)
def test_every_small_size_is_made_in_the_tile(rows, steps, columns, turned, biased, activation, zeros) -> None:
    """A zero times an infinity is not a number, wherever they meet; a matrix may lie by columns."""
    a, b = numbers(rows, steps, seed=1), numbers(steps, columns, seed=2)
    if zeros:
        a[0, -1], b[-1, -1], b[-1, 0] = 0, math.inf, -math.inf
    bias = numbers(columns, seed=3) if biased else None
    exact, magnitude = product(a, b, bias, False, False, False)
    ta, tb, a_by_columns, b_by_columns = turned
    x, w = np.array(a, order="F" if a_by_columns else "C"), np.array(b, order="F" if b_by_columns else "C")
    y = products.matrix_product(x, w, bias=bias)
    assert_within_rounding(y, exact, magnitude, steps + 1)
    if zeros:
        assert np.isnan(y[0, [0, -1]]).all()
    x, w = (np.array(m.T, order="C") if t else m for m, t in ((x, ta), (w, tb)))
    plain = products.matrix_product(x, w, ta, tb)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(cpu.gemm(x, w, ta, tb), plain)
        assert_within_rounding(plain, *product(a, b, None, False, False, False), steps + 1)
        if not (ta or tb):
            wanted = y if activation is None else reference.activate(y, activation)
            np.testing.assert_allclose(cpu.dense(x, w, bias, activation), wanted, rtol=1e-6, atol=1e-7)


def walled(pages: int = 16) -> Any:
    """Memory whose pages before and after may not be touched, as bytes."""
    memory = np.frombuffer(mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE), np.uint8)
    for page in (0, pages + 1):
        place = ctypes.c_void_p(memory.ctypes.data + page * mmap.PAGESIZE)
        assert ctypes.CDLL(None).mprotect(place, mmap.PAGESIZE, 0) == 0
    return memory[mmap.PAGESIZE : -mmap.PAGESIZE]


@pytest.mark.skipif(os.name != "posix", reason="walls are made by mprotect")
def test_nothing_beside_a_matrix_is_touched() -> None:
    """The process would end if it were."""
    random, spaces = np.random.default_rng(0), [walled() for _ in range(4)]

    def placed(space: Any, array: Any) -> Any:
        first = random.choice([0, space.size - array.nbytes])
        place = space[first : first + array.nbytes].view(np.float32).reshape(array.shape)
        place[...] = array
        return place

    for _ in range(300):
        rows, steps, columns = (int(size) for size in random.integers(1, [3 * ROWS, 2 * LANES, 3 * WIDTH]))
        ta, tb, biased = random.random(3) < 0.5
        a = numbers(*((steps, rows) if ta else (rows, steps)), seed=1)
        b = numbers(*((columns, steps) if tb else (steps, columns)), seed=2)
        plain = a, b, numbers(columns, seed=3), np.zeros((rows, columns), np.float32)
        x, w, bias, out = map(placed, spaces, plain)
        products.matrix_product(x, w, bool(ta), bool(tb), bias if biased else None, out=out)
        exact, magnitude = product(a, b, bias if biased else None, ta, tb, False)
        assert_within_rounding(out, exact, magnitude, steps + 1)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_nothing_to_multiply_is_left_to_numpy(shape: tuple[int, int, int], turned: bool) -> None:
    rows, steps, columns = shape
    a, b = np.zeros((rows, steps), np.float32), np.zeros((columns, steps) if turned else (steps, columns), np.float32)
    assert products.matrix_product(a, b, tb=turned) is None
    np.testing.assert_array_equal(cpu.gemm(a, b, tb=turned), np.zeros((rows, columns), np.float32), strict=True)
    if not turned:
        bias = numbers(columns)
        wanted = np.broadcast_to(np.maximum(bias, 0), (rows, columns))
        np.testing.assert_array_equal(cpu.dense(a, b, bias, "relu"), wanted, strict=True)


def test_what_lies_with_gaps_both_ways_is_left_to_numpy() -> None:
    a, b = numbers(9, 7), numbers(14, 40)[::2, ::2]
    assert products.matrix_product(a, b) is None
    np.testing.assert_allclose(cpu.gemm(a, b), a @ b, rtol=1e-4, atol=1e-5, strict=True)
    every_other = numbers(18, 14)[::2, ::2]  # the left one may
    np.testing.assert_allclose(
        products.matrix_product(every_other, numbers(7, 5)), every_other @ numbers(7, 5), rtol=1e-4, atol=1e-5
    )
    out = np.zeros((9, 80), np.float32)[:, ::2]
    assert products.matrix_product(a, numbers(7, 40), out=out) is None
    assert cpu.gemm(a, numbers(7, 40), out=out) is out
    np.testing.assert_allclose(out, a @ numbers(7, 40), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(128, 784, 128), (784, 128, 10), (33, 64, 300), (2000, 300, 1), (1, 784, 700)])
def test_the_team_has_no_part_in_a_product(shape: tuple[int, int, int], turned: tuple[bool, bool]) -> None:
    rows, steps, columns = shape
    ta, tb = turned
    a, b = (
        numbers(*((steps, rows) if ta else (rows, steps)), seed=1),
        numbers(*((columns, steps) if tb else (steps, columns))),
    )
    results = []
    for size in (1, 2, 5):
        with team_of(size):
            results.append(products.matrix_product(a, b, ta, tb, bias=numbers(columns, seed=3), relu=True))
    assert_within_rounding(results[0], *product(a, b, numbers(columns, seed=3), ta, tb, True), steps + 1)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


class Parts:
    """The team, remembering how many parts it was asked for."""

    def __init__(self) -> None:
        self.size, self.asked = module.team.size, 0
        self._team = module.team

    def run(self, function: int, arguments: Any, parts: int, wake: bool = True, items: tuple = ()) -> None:
        self.asked = max(self.asked, parts)
        self._team.run(function, arguments, parts, wake, items)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("shape", [(257, 300, 9 * WIDTH + 3), (2003, 150, WIDTH + 1), (5000, 210, 3)])
def test_products_of_many_parts(shape: tuple[int, int, int], ta: bool, tb: bool) -> None:
    rows, steps, columns = shape
    a = numbers(*((steps, rows) if ta else (rows, steps)), seed=1)
    b = numbers(*((columns, steps) if tb else (steps, columns)), seed=2)
    bias = numbers(columns, seed=3)
    wide, out = inside(np.full((rows, columns), math.nan, np.float32), GUARD)
    with patch.object(module, "team", Parts()) as parts:
        products.matrix_product(a, b, ta, tb, bias, True, out)
    assert parts.asked > 1
    assert_within_rounding(out, *product(a, b, bias, ta, tb, True), steps + 1)
    out[...] = GUARD
    assert (wide == GUARD).all()


@pytest.mark.parametrize(("rows", "steps", "columns"), [(40, 128, 30), (33, 301, 2 * WIDTH + 3), (200, 1000, 70)])
def test_long_sums_of_a_transposed_matrix_are_made_in_stretches(rows: int, steps: int, columns: int) -> None:
    a, b = numbers(steps, rows, seed=1), numbers(steps, columns, seed=2)
    exact, magnitude = product(a, b, None, True, False, False)
    with patch.object(products, "_SLICE", 64 * rows):
        products.product_plan.cache_clear()
        assert_within_rounding(products.matrix_product(a, b, ta=True), exact, magnitude, steps)
        wide, out = inside(np.full(exact.shape, np.nan, np.float32), GUARD)
        assert products.matrix_product(inside(a, 5)[1], inside(b, 5)[1], ta=True, out=out) is out
    products.product_plan.cache_clear()
    assert_within_rounding(out.copy(), exact, magnitude, steps)
    out[...] = GUARD
    assert (wide == GUARD).all()


def test_a_single_column_of_a_long_sum() -> None:
    with patch.object(products, "_SLICE", 64):
        products.product_plan.cache_clear()
        for rows in (1, 3, 40):
            a, b = numbers(900, rows, seed=1), numbers(900, 1, seed=2)
            exact, magnitude = product(a, b, None, True, False, False)
            assert_within_rounding(products.matrix_product(a, b, ta=True), exact, magnitude, 900)
            assert_within_rounding(products.matrix_product(b, a, ta=True), exact.T, magnitude.T, 900)
    products.product_plan.cache_clear()


def test_a_backward_matrix_and_a_repeated_row() -> None:
    a, b = numbers(40, 30)[::-1], np.broadcast_to(numbers(1, 50), (30, 50))
    assert products.is_matrix(a) and products.is_matrix(b)
    assert_within_rounding(products.matrix_product(a, b), *product(a, b, None, False, False, False), 31)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)),
        np.zeros((3, 4), np.float32)[:, ::2],
        np.zeros((3, 4), np.float32).T,
        np.zeros((0, 4), np.float32),
        np.zeros(3, np.float32),
    ],
    ids=["float64", "every other column", "transposed", "empty", "vector"],
)
def test_what_is_no_matrix_for_the_tile(array: Any) -> None:
    assert not products.is_matrix(array)


A, B = numbers(100, 90), numbers(90, 80)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.gemm(A, B, tb=True), r"\(100, 90\) and \(90, 80\) cannot be multiplied"),
        (lambda: cpu.gemm(A, B, ta=True), r"\(100, 90\) and \(90, 80\) cannot be multiplied"),
        (lambda: cpu.dense(A, numbers(91, 80)), r"\(100, 90\) and \(91, 80\) cannot be multiplied"),
        (lambda: cpu.dense(A, B, numbers(81)), r"bias must have the shape \(80,\), got \(81,\)"),
        (lambda: cpu.gemm(A, B, out=numbers(99, 80)), r"out must have the shape \(100, 80\), got \(99, 80\)"),
    ],
)
def test_a_product_that_does_not_fit_is_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert str(error.value).count(".") == 1


# ---- convolutions


@st.composite
def problems(draw: Any, unit_strides: bool = False) -> tuple[Any, Any, dict[str, Any]]:
    """(x, kernel, the keyword arguments); with `unit_strides` only what the input gradient takes."""
    rank = draw(st.integers(1, 3))
    several = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
    size, dilation = several(1, 3), several(1, 3 if rank < 3 else 2)
    strides = (1,) * rank if unit_strides else several(1, 3)
    reach = [d * (m - 1) for m, d in zip(size, dilation, strict=True)]
    most = [r if unit_strides else 3 for r in reach]
    padding = tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in most)
    least = [max(r + 1 - sum(pair), 1) for r, pair in zip(reach, padding, strict=True)]
    spatial = tuple(n + draw(st.integers(0, 9 if rank < 3 else 3)) for n in least)
    images = draw(st.sampled_from([1, 2, 19]))
    channels, filters = draw(st.sampled_from([1, 3, 5, 17])), draw(st.sampled_from([1, 3, LANES, WIDTH + 1, 70]))
    keywords = {"strides": strides, "padding": padding, "dilation": dilation}
    return numbers(images, *spatial, channels, seed=1), numbers(*size, channels, filters, seed=2), keywords


def guarded(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(a buffer of guard values, an array of NaN in its middle)."""
    flat = np.full(math.prod(shape) + 2 * WIDTH, GUARD)
    out = flat[WIDTH:-WIDTH].reshape(shape)
    out.fill(math.nan)
    return flat, out


def assert_guards(flat: Any) -> None:
    assert (flat[:WIDTH] == GUARD).all() and (flat[-WIDTH:] == GUARD).all()


def check_forward(x: Any, kernel: Any, keywords: dict[str, Any], biased: bool, relu: bool) -> None:
    bias = numbers(kernel.shape[-1], seed=3) if biased else None
    wide = [None if array is None else array.astype(np.float64) for array in (x, kernel, bias)]
    exact = reference.conv(*wide, activation="relu" if relu else None, **keywords)
    magnitude = reference.conv(*[None if array is None else abs(array) for array in wide], **keywords)
    flat, out = guarded(exact.shape)
    assert convolutions.convolution(x, kernel, bias, relu=relu, out=out, **keywords) is out
    assert_within_rounding(out, exact, magnitude, math.prod(kernel.shape[:-1]) + 1)
    assert_guards(flat)
    np.testing.assert_array_equal(convolutions.convolution(x, kernel, bias, relu=relu, **keywords), out)


def check_kernel_grad(x: Any, kernel: Any, keywords: dict[str, Any]) -> None:
    g = numbers(*reference.conv(x, kernel, **keywords).shape, seed=4)
    wide = x.astype(np.float64), g.astype(np.float64)
    exact = reference.conv_kernel_grad(*wide, kernel.shape, **keywords)
    magnitude = reference.conv_kernel_grad(*map(abs, wide), kernel.shape, **keywords)
    flat, out = guarded(kernel.shape)
    assert convolutions.convolution_kernel_grad(x, g, kernel.shape, out=out, **keywords) is out
    assert_within_rounding(out, exact, magnitude, g.size // g.shape[-1])
    assert_guards(flat)


def check_input_grad(x: Any, kernel: Any, keywords: dict[str, Any]) -> None:
    g = numbers(*reference.conv(x, kernel, **keywords).shape, seed=4)
    wide = g.astype(np.float64), kernel.astype(np.float64)
    exact = reference.conv_input_grad(*wide, x.shape, **keywords)
    magnitude = reference.conv_input_grad(*map(abs, wide), x.shape, **keywords)
    flat, out = guarded(x.shape)
    del keywords["strides"]
    assert convolutions.convolution_input_grad(g, kernel, x.shape, out=out, **keywords) is out
    assert_within_rounding(out, exact, magnitude, kernel.size // kernel.shape[-2])
    assert_guards(flat)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), biased=st.booleans(), relu=st.booleans())
def test_convolutions(problem, biased: bool, relu: bool) -> None:
    check_forward(*problem, biased, relu)


@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_kernel_gradients(problem) -> None:
    check_kernel_grad(*problem)


@settings(max_examples=60, deadline=None)
@given(problem=problems(unit_strides=True))
def test_input_gradients(problem) -> None:
    check_input_grad(*problem)


LARGE = {
    "many images": ((37, 20, 21, 3), (5, 5, 3, 9)),
    "one image, several panels": ((1, 40, 41, 8), (3, 3, 8, 3 * WIDTH + 1)),
    "small maps": ((300, 4, 3, 16), (3, 3, 16, WIDTH + 3)),
    "a long line": ((2, 3001, 5), (7, 5, 20)),
    "pointwise": ((30, 9, 9, 24), (1, 1, 24, 40)),
}


@pytest.mark.parametrize("case", LARGE)
def test_convolutions_of_many_parts(case: str) -> None:
    x, kernel = (numbers(*shape, seed=seed) for seed, shape in enumerate(LARGE[case]))
    size = kernel.shape[:-2]
    keywords = {"strides": (1,) * len(size), "padding": tuple(((m - 1) // 2, m // 2) for m in size)}
    keywords["dilation"] = (1,) * len(size)
    for check, options in ((check_forward, (True, True)), (check_kernel_grad, ()), (check_input_grad, ())):
        with patch.object(module, "team", Parts()) as parts:
            check(x, kernel, dict(keywords), *options)
        # gradients are shared by images (and an input gradient by panels of channels, here one)
        assert (parts.asked > 1) == (len(x) > 1 or check is check_forward)


def test_not_a_number_reaches_the_windows_that_hold_it_even_through_relu() -> None:
    x, kernel = np.ones((2, 9, 3), np.float32), np.ones((3, 3, 40), np.float32)
    x[1, 4, 2], x[1, 8, 0] = math.nan, -math.inf
    y = convolutions.convolution(x, kernel, strides=(1,), padding=((1, 1),), dilation=(1,), relu=True)
    assert np.isnan(y).all(axis=(0, 2)).tolist() == [False] * 9
    assert np.isnan(y[1]).all(axis=1).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert y[1, 7:].max() == 0 and (y[0] > 0).all()


X, KERNEL = numbers(2, 9, 9, 3), numbers(3, 3, 3, 8)
GEOMETRY: dict[str, Any] = {"strides": (1, 1), "padding": ((0, 0), (1, 1)), "dilation": (1, 1)}
G = numbers(2, 7, 9, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.conv(X, numbers(3, 3, 4, 8), **GEOMETRY), "takes 4 channels, got 3"),
        (lambda: cpu.conv(X, KERNEL, numbers(7), **GEOMETRY), r"bias must have the shape \(8,\), got \(7,\)"),
        (lambda: cpu.conv(X, KERNEL, out=numbers(2, 7, 8, 8), **GEOMETRY), "out must have the shape"),
        (
            lambda: cpu.conv_kernel_grad(X, numbers(2, 7, 8, 8), KERNEL.shape, **GEOMETRY),
            "do not belong to a kernel",
        ),
        (
            lambda: cpu.conv_kernel_grad(X, G, KERNEL.shape, out=numbers(3, 3, 3, 7), **GEOMETRY),
            "out must have the shape",
        ),
        (lambda: cpu.conv_input_grad(G, numbers(3, 3, 3, 7), X.shape, **GEOMETRY), "7 channels, got 8"),
        (lambda: cpu.conv_input_grad(G, KERNEL, (2, 9, 8, 3), **GEOMETRY), "out must have the shape"),
    ],
)
def test_a_convolution_that_does_not_fit_is_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert str(error.value).count(".") == 1


# ---- other hosts

AVX2 = """
from minikeras.kernels import reference_table

import numpy as np
from minikeras.kernels.cpu.compiler import host, processor

host.use(processor.FAMILIES["x86-64-v3"])
from minikeras.kernels.cpu.tile import convolutions, products

conv = reference_table()
assert (host.ROWS, host.WIDTH) == (6, 16)
random = np.random.default_rng(0)
numbers = lambda *shape: random.standard_normal(shape).astype("f4")
close = lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
for rows, steps, columns in ((1, 1, 1), (6, 8, 16), (7, 19, 17), (3, 21, 50), (11, 9, 70), (13, 20, 1), (300, 100, 50)):
    a, b = numbers(rows, steps), numbers(steps, columns)
    for ta in (False, True):
        for tb in (False, True):
            left, right = (np.ascontiguousarray(m.T) if turned else m for m, turned in ((a, ta), (b, tb)))
            close(products.matrix_product(left, right, ta, tb), a.astype("f8") @ b)
geometry = {"strides": (1, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 1)}
x, kernel = numbers(20, 9, 8, 3), numbers(3, 3, 3, 21)
wide = x.astype("f8"), kernel.astype("f8")
y = conv.conv(*wide, **geometry)
close(convolutions.convolution(x, kernel, **geometry), y)
g = y.astype("f4")
np.testing.assert_allclose(
    convolutions.convolution_kernel_grad(x, g, kernel.shape, **geometry),
    conv.conv_kernel_grad(wide[0], y, kernel.shape, **geometry),
    rtol=1e-4,
    atol=1e-2,
)
del geometry["strides"]
wanted = conv.conv_input_grad(y, wide[1], x.shape, strides=(1, 1), **geometry)
found = convolutions.convolution_input_grad(g, kernel, x.shape, **geometry)
np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
print("end")
"""


@pytest.mark.skipif(host.LANES < 16, reason="the other tests run without AVX-512")
def test_a_host_with_avx2_only(tmp_path: Path) -> None:
    machine = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment = {**os.environ, **machine, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", AVX2], env=environment, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("there", [True, False], ids=["tile", "no tile"])
def test_overrides_with_and_without_the_tile_are_the_reference(there: bool) -> None:
    a, b, bias = numbers(70, 90, seed=1), numbers(90, 80, seed=2), numbers(80, seed=3)
    close = lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, strict=True)
    products.product_plan.cache_clear()
    with patch.object(host, "HAS_VECTORS", there):
        assert (products.matrix_product(a, b) is not None) == there
        close(cpu.gemm(a, b), reference.gemm(a, b))
        close(cpu.gemm(a, numbers(70, 80), ta=True), reference.gemm(a, numbers(70, 80), ta=True))
        close(cpu.dense(a, b, bias, "relu"), reference.dense(a, b, bias, "relu"))
        close(cpu.dense(a, b, bias, "tanh"), reference.dense(a, b, bias, "tanh"))
        for name, arguments in {
            "conv": (X, KERNEL, numbers(8)),
            "conv_kernel_grad": (X, G, KERNEL.shape),
            "conv_input_grad": (G, KERNEL, X.shape),
        }.items():
            found = getattr(cpu, name)(*arguments, **GEOMETRY)
            close(found, getattr(reference, name)(*arguments, **GEOMETRY))
    products.product_plan.cache_clear()
