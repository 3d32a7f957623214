"""Every operation of `op_cases`: values against NumPy, gradients against difference quotients, symbolic shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.op_cases import BINARY, CASES, REDUCTIONS, UNARY, Case, spaced

from minikeras import Model, kernels, layers, ops, tree
from minikeras.autodiff import KerasTensor, Tensor, check_gradients, grad
from minikeras.ops import core
from minikeras.ops import numpy as numpy_ops

LIMITED = settings(max_examples=15, deadline=None)


def shapes(least_rank: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 4), min_size=least_rank, max_size=3).map(tuple)


@st.composite
def broadcasting_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: each may lack leading axes and have 1 for any size."""
    full = draw(shapes())
    pair = []
    for _ in range(2):
        sizes = tuple(draw(st.sampled_from([1, n])) for n in full)
        pair.append(sizes[draw(st.integers(0, len(sizes))) :])
    return pair[0], pair[1]


@pytest.mark.parametrize("case", [case for case in CASES if case.numpy()], ids=str)
def test_values(case: Case) -> None:
    reference = case.numpy()
    assert reference is not None
    inputs = case.inputs()
    results = tree.flatten(case.call(getattr(ops, case.name), *inputs))
    expected = tree.flatten(case.call(reference, *inputs))
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result, Tensor)
        assert result.shape == np.shape(value)
        np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
def test_gradients(case: Case) -> None:
    check_gradients(lambda *inputs: case.call(getattr(ops, case.name), *inputs), *case.inputs())


def _only_float32(case: Case) -> bool:
    return case.differentiable and not any(str(leaf) == "float64" for leaf in case.args)


@pytest.mark.parametrize("case", [case for case in CASES if _only_float32(case)], ids=str)
def test_float32_stays_float32(case: Case) -> None:
    for result in tree.flatten(case.call(getattr(ops, case.name), *case.inputs(dtype="float32"))):
        assert result.data.dtype in (np.float32, np.int32)


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=str)
def test_symbolic_call_records_the_public_function_and_infers_the_shape(case: Case) -> None:
    inputs = case.inputs(dtype="float32")
    symbols = [KerasTensor(value.shape) for value in inputs]
    function = getattr(ops, case.name)
    results = tree.flatten(case.call(function, *symbols))
    for result, value in zip(results, tree.flatten(case.call(function, *inputs)), strict=True):
        assert isinstance(result, KerasTensor)
        if not any(isinstance(leaf, np.ndarray) and leaf.dtype == bool for leaf in tree.flatten(list(case.args))):
            assert result.shape == value.shape
        assert result.dtype == str(value.dtype)
        assert result._keras_history[0].function is function


def test_every_differentiable_operation_has_a_case() -> None:
    covered = {getattr(ops, case.name) for case in CASES if case.differentiable}
    for name in (*[name for name in dir(core) if name in dir(ops)], *dir(numpy_ops)):
        function = getattr(ops, name)
        if getattr(function, "differentiable", False) and not name.startswith("nanarg"):
            assert function in covered, f"ops.{name} needs a line in op_cases"


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes(), seed=st.integers(0, 99))
@LIMITED
def test_unary(name: str, shape: tuple[int, ...], seed: int) -> None:
    low, high, *_ = UNARY[name]
    check_gradients(getattr(ops, name), spaced(np.random.default_rng(seed), shape, low, high))


@pytest.mark.parametrize("name", BINARY)
@given(pair=broadcasting_shapes(), seed=st.integers(0, 99))
@LIMITED
def test_binary(name: str, pair: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high, *other = BINARY[name]
    a, b = (spaced(rng, shape, low, high) for shape in pair)
    reference = other[0] if other else getattr(np, name)
    np.testing.assert_allclose(getattr(ops, name)(a, b), reference(a, b), rtol=1e-12)
    check_gradients(getattr(ops, name), a, b, rtol=1e-4)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data(), shape=shapes(least_rank=1), keepdims=st.booleans(), seed=st.integers(0, 99))
@LIMITED
def test_reduction(name: str, data: st.DataObject, shape: tuple[int, ...], keepdims: bool, seed: int) -> None:
    rank = len(shape)
    axis = data.draw(
        st.one_of(
            st.none(),
            st.integers(-rank, rank - 1),
            st.lists(st.integers(0, rank - 1), min_size=1, unique=True).map(lambda axes: tuple(i - rank for i in axes)),
        )
    )
    axes = range(rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if name not in ("nanprod", "nansum", "norm", "prod", "sum") and 0 in [shape[i] for i in axes]:
        shape = tuple(max(n, 1) for n in shape)  # nothing to reduce: NumPy raises or returns NaN
    x = spaced(np.random.default_rng(seed), shape, -2, 2)
    reference = REDUCTIONS[name] or getattr(np, name)
    function = getattr(ops, name)
    np.testing.assert_allclose(
        function(x, axis=axis, keepdims=keepdims), reference(x, axis=axis, keepdims=keepdims), rtol=1e-10
    )
    check_gradients(function, x, axis=axis, keepdims=keepdims)


@given(
    batch=broadcasting_shapes(),
    sizes=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 3)),
    vectors=st.sampled_from(["", "left", "right"]),
)
@settings(max_examples=40, deadline=None)
def test_matmul(batch: tuple, sizes: tuple[int, int, int], vectors: str) -> None:
    rng = np.random.default_rng(0)
    n, m, p = sizes
    a = rng.standard_normal((m,) if vectors == "left" else (*batch[0], n, m))
    b = rng.standard_normal((m,) if vectors == "right" else (*batch[1], m, p))
    np.testing.assert_allclose(ops.matmul(a, b), a @ b, rtol=1e-12, atol=1e-12)
    check_gradients(ops.matmul, a, b)


@given(shape=shapes(least_rank=1), data=st.data())
@settings(max_examples=30, deadline=None)
def test_indexing(shape: tuple[int, ...], data: st.DataObject) -> None:
    bound = st.one_of(st.none(), st.integers(-5, 5))
    step = st.sampled_from([None, 1, 2, -1, -3])
    part = st.one_of(st.builds(slice, bound, bound, step), st.none())
    key = [data.draw(part) for _ in shape]
    while sum(one is not None for one in key) > len(shape):
        key.remove(None)
    x = spaced(np.random.default_rng(0), shape, -2, 2)
    np.testing.assert_array_equal(ops.get_item(x, tuple(key)), x[tuple(key)])
    check_gradients(ops.get_item, x, key=tuple(key))
    index = data.draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=5)) if shape[0] else []
    np.testing.assert_array_equal(ops.get_item(x, index), x[np.array(index, int)])
    check_gradients(ops.get_item, x, key=index)


X = np.arange(24.0).reshape(2, 3, 4)
# what picks from X by indices, the second of which is out of range, and where the result has what that picks
OUT_OF_RANGE = {
    "take": (lambda x, i: ops.take(x, i, axis=1), (slice(None), 1)),
    "take_along_axis": (lambda x, i: ops.take_along_axis(x, ops.reshape(i, (1, -1, 1)), axis=1), (slice(None), 1)),
    "an array": (lambda x, i: x[:, i], (slice(None), 1)),
    "an array and numbers": (lambda x, i: x[..., i, 2], (slice(None), 1)),
    "an array apart from a number": (lambda x, i: x[1, :, None, ops.cast(i, "int64")], 1),
    "arrays": (lambda x, i: x[ops.where(i > 2, 1, i % 2), i], 1),
    "after a new axis": (lambda x, i: x[None, 0, i], (slice(None), 1)),
}


@pytest.mark.parametrize(("pick", "there"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
@pytest.mark.parametrize("wrong", [5, -6])
def test_an_index_out_of_range(pick: Callable, there: Any, wrong: int) -> None:
    """The CPU refuses it; on a GPU, which would have to be waited for, what it picks is NaN, and has no gradient."""
    x, indices = ops.convert_to_tensor(X), ops.convert_to_tensor(np.array([-1, wrong, 0]))
    if kernels.active_device() != "gpu":
        with pytest.raises(IndexError):
            pick(x, indices)
        return
    right = np.array([-1, 0, 0])
    expected = np.array(pick(x, ops.convert_to_tensor(right)))
    expected[there] = np.nan
    np.testing.assert_array_equal(pick(x, indices), expected)

    def total(x: Any, indices: Any) -> Any:
        picked = pick(x, indices)
        return ops.sum(ops.where(np.isnan(expected), 0.0, picked))

    gradient = grad(lambda x: ops.sum(pick(x, indices)))(x)
    np.testing.assert_array_equal(gradient, grad(lambda x: total(x, ops.convert_to_tensor(right)))(x))


@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_extremes_share_the_gradient(name: str) -> None:
    x = ops.convert_to_tensor(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 3.0]]))
    gradient = grad(lambda x: ops.sum(getattr(ops, name)(x, axis=1)))(x)
    expected = [[1 / 3] * 3, [0, 0, 1] if name == "max" else [0.5, 0.5, 0]]
    np.testing.assert_allclose(gradient, expected)


def test_gradients_at_kinks() -> None:
    from minikeras.autodiff import grad

    zero = ops.convert_to_tensor(np.zeros(3))
    for function, expected in (
        (lambda x: ops.maximum(x, 0.0), 0.5),
        (lambda x: ops.minimum(x, 0.0), 0.5),
        (ops.abs, 0.0),
        (lambda x: ops.power(x, 2), 0.0),
        (lambda x: ops.power(x, 1), 1.0),
        (lambda x: ops.power(x, 0), 0.0),
        (lambda x: ops.power(x, np.zeros(3)), 0.0),
        (ops.std, 0.0),
        (ops.norm, 0.0),
        (ops.prod, 0.0),
        (lambda x: ops.clip(x, 0.0, 1.0), 0.5),
    ):
        np.testing.assert_array_equal(grad(lambda x, f=function: ops.sum(f(x)))(zero), np.full(3, expected))


def test_products_with_zeros_have_finite_gradients() -> None:
    x = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.0]])
    check_gradients(ops.prod, x, axis=1)
    check_gradients(ops.cumprod, x, axis=1)


def test_result_types() -> None:
    i, u, f, h = (np.ones(2, name) for name in ("int32", "uint8", "float32", "float16"))
    for result, dtype in (
        (ops.add(i, f), "float32"),
        (ops.add(i, 2.0), "float32"),
        (ops.add(h, 2.0), "float16"),
        (ops.add(h, f), "float32"),
        (ops.add(u, h), "float16"),
        (ops.add(2, 3), "int32"),
        (ops.add(True, 3), "int32"),
        (ops.add(f, np.float64(2)), "float32"),
        (ops.divide(i, i), "float32"),
        (ops.divide(3, 2), "float32"),
        (ops.divide(i, 2), "float32"),
        (ops.exp(i), "float32"),
        (ops.exp(1), "float32"),
        (ops.floor(i), "float32"),
        (ops.sqrt(h), "float16"),
        (ops.mean(i), "float32"),
        (ops.mean(i > 0), "float32"),
        (ops.sum(i > 0), "int32"),
        (ops.sum(i), "int32"),
        (ops.sum(u), "uint32"),
        (ops.square(i > 0), "int32"),
        (ops.argmax(f), "int32"),
        (ops.argsort(f), "int32"),
        (ops.count_nonzero(f), "int32"),
        (ops.where(i > 0, 1, 0), "int32"),
        (ops.where(i > 0, 1.0, 0), "float32"),
        (ops.where(i > 0, i, f), "float32"),
        (ops.concatenate([i, f]), "float32"),
        (ops.stack([1.0, 2.0]), "float32"),
        (ops.sum([1.0, 2.0]), "float32"),
        (ops.sum([1, 2]), "int32"),
        (ops.arange(3), "int32"),
        (ops.arange(3.0), "float32"),
        (ops.full((2,), 1), "float32"),
        (ops.linspace(0, 1), "float32"),
        (ops.maximum(f, 0), "float32"),
        (ops.cumsum(i > 0, axis=0), "int32"),
        (ops.prod(f, dtype="float64"), "float64"),
        (ops.matmul(i, f), "float32"),
        (ops.einsum("i,i->", i, f), "float32"),
        (ops.equal(i, f), "bool"),
        (ops.erf(i), "float32"),
    ):
        assert str(result.dtype) == dtype


def test_wrong_arguments_are_told() -> None:
    x = np.ones((4, 3))
    for call, words in (
        (lambda: ops.split(x, 3), "size 4 cannot be split into 3"),
        (lambda: ops.pad(x, 1, mode="edge", constant_values=0), "constant_values"),
        (lambda: ops.norm(x, ord="abc", axis=0), "ord='abc'"),
        (lambda: ops.meshgrid(x[0], indexing="x"), "'x'"),
        (lambda: ops.einsum("ij,jk", x), "2 operands, got 1"),
        (lambda: ops.unstack(x, 3), "num=3"),
        (lambda: ops.scatter_update(x, [[0]], x[:1], reduction="mean"), "'mean'"),
        (lambda: ops.convert_to_tensor(x, sparse=True), "sparse=True"),
        (lambda: ops.map(lambda v: v, x[:0]), "at least one"),
        (lambda: ops.bincount(np.array([1]), sparse=True), "sparse=True"),
        (lambda: ops.where(x > 1, x), "x2=None"),
        (lambda: ops.get_item(KerasTensor((4, 5)), (..., 1, ...)), "one ellipsis"),
        (lambda: ops.depth_to_space(np.ones((1, 2, 2, 4)), 0), "block_size"),
    ):
        with pytest.raises(ValueError, match=r"[a-z]") as error:
            call()
        assert words in str(error.value)
    with pytest.raises(TypeError, match="x2"):
        ops.add(x1=1)
    with pytest.raises(TypeError):
        ops.sum(x, 0, False, 3)


def test_inputs_may_be_named() -> None:
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ops.add(x1=x, x2=1), x + 1)
    np.testing.assert_array_equal(ops.sum(x=x, axis=0), x.sum(0))
    np.testing.assert_array_equal(ops.concatenate(xs=[x, x], axis=1), np.concatenate([x, x], 1))
    np.testing.assert_array_equal(ops.where(x > 2, x2=0.0, x1=x), np.where(x > 2, x, 0))
    assert ops.add(x1=KerasTensor((2, 3)), x2=1).shape == (2, 3)


@pytest.mark.parametrize("sizes", [ops.convert_to_tensor, np.array, list], ids=["tensor", "array", "list"])
def test_sizes_may_be_computed(sizes):
    assert ops.tile(ops.ones((1, 3)), sizes([2, 1])).shape == (2, 3)
    assert ops.reshape(ops.ones((6,)), sizes([2, -1])).shape == (2, 3)


def test_sizes_may_be_computed_while_a_model_is_made():
    class Counted(layers.Layer):
        def call(self, x):
            batch, size = ops.shape(x)
            counts = ops.concatenate([ops.expand_dims(batch, -1), ops.convert_to_tensor([1])], 0)
            return x + ops.tile(ops.reshape(ops.arange(size, dtype="float32"), (1, size)), counts)

    inputs = layers.Input((3,))
    model = Model(inputs, Counted()(inputs))
    for batch in (2, 5):
        np.testing.assert_array_equal(model.predict(np.zeros((batch, 3)), verbose=0), [[0, 1, 2]] * batch)
