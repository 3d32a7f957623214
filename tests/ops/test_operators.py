"""Python's operators and array methods on tensors and symbolic tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import pytest

from minikeras import ops
from minikeras.autodiff import KerasTensor, Tensor, Variable, check_gradients

ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
A = np.array([[0.5, 1.5], [2.5, 3.5]])
B = np.array([[0.7, 1.2], [2.0, 3.5]])


@pytest.mark.parametrize("function", [*ARITHMETIC, *COMPARISONS, operator.matmul])
def test_binary(function: Callable) -> None:
    expected = function(A, B)
    for x1, x2 in (
        (ops.convert_to_tensor(A), ops.convert_to_tensor(B)),
        (ops.convert_to_tensor(A), B),
        (A, ops.convert_to_tensor(B)),
        (Variable(A, dtype="float64"), ops.convert_to_tensor(B)),
    ):
        result = function(x1, x2)
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result, expected)
    if function is not operator.matmul:
        np.testing.assert_array_equal(function(ops.convert_to_tensor(A), 2), function(A, 2))
        np.testing.assert_array_equal(function(2, ops.convert_to_tensor(A)), function(2, A))
        assert function(KerasTensor((None, 2)), 2).shape == (None, 2)
        assert function(2.0, KerasTensor((None, 2))).shape == (None, 2)
    assert function(KerasTensor((2, 2)), A).shape == (2, 2)
    assert function(A, KerasTensor((2, 2))).shape == (2, 2)


@pytest.mark.parametrize("function", [operator.and_, operator.or_, operator.xor])
def test_logic(function: Callable) -> None:
    p, q = np.array([True, True, False]), np.array([True, False, False])
    np.testing.assert_array_equal(function(ops.convert_to_tensor(p), q), function(p, q))
    np.testing.assert_array_equal(function(p, ops.convert_to_tensor(q)), function(p, q))
    np.testing.assert_array_equal(~ops.convert_to_tensor(p), ~p)
    assert (KerasTensor((3,), "bool") & q).dtype == "bool"


def test_unary() -> None:
    np.testing.assert_array_equal(-ops.convert_to_tensor(A), -A)
    np.testing.assert_array_equal(abs(ops.convert_to_tensor(-A)), A)
    np.testing.assert_array_equal(+ops.convert_to_tensor(A), A)
    assert (-KerasTensor((None, 3))).shape == (None, 3)


def test_gradients() -> None:
    check_gradients(lambda x, y: 2 / x - (x @ y) ** 2 * 3 + abs(-x) % 0.9, A, B)
    check_gradients(lambda x: (1 - x[:, 0]) * x[1, ..., None], A)
    check_gradients(lambda x: x.reshape(4).mean() + x.T.sum(axis=0).max() * x.std() - x.var(keepdims=True), A)


def test_indexing() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    t = ops.convert_to_tensor(x)
    keys = [0, -1, (1, 2), slice(None, None, 2), (Ellipsis, 1), (slice(None), None, 0), np.array([1, 0]), [0, 1], x > 5]
    for key in keys:
        np.testing.assert_array_equal(t[key], x[key])
    np.testing.assert_array_equal(t[ops.convert_to_tensor(np.array([1, 0]))], x[[1, 0]])
    np.testing.assert_array_equal(t[:, ops.convert_to_tensor(np.array(2))], x[:, 2])
    np.testing.assert_array_equal(t[t > 5], x[x > 5])
    assert [row.shape for row in t] == [(3, 4), (3, 4)]
    assert KerasTensor((None, 3, 4))[:, -1].shape == (None, 4)
    assert KerasTensor((None, 3, 4))[..., None].shape == (None, 3, 4, 1)


def test_methods() -> None:
    t = ops.convert_to_tensor(A)
    for name, args in (
        ("sum", (0,)),
        ("mean", ()),
        ("max", (1,)),
        ("min", ()),
        ("std", (0,)),
        ("var", ()),
        ("argmax", (1,)),
        ("any", ()),
        ("all", ()),
        ("clip", (1.0, 3.0)),
        ("reshape", (4, 1)),
        ("reshape", ((1, -1),)),
        ("flatten", ()),
        ("transpose", ()),
        ("transpose", (1, 0)),
        ("transpose", ((1, 0),)),
        ("squeeze", ()),
        ("astype", ("float32",)),
        ("copy", ()),
    ):
        np.testing.assert_allclose(getattr(t, name)(*args), getattr(A, name)(*args))
    np.testing.assert_array_equal(t.T, A.T)
    assert t.copy().data is not t.data
    assert KerasTensor((None, 3)).T.shape == (3, None)


def test_tensors_are_keys_and_compare_with_anything() -> None:
    t, s = ops.convert_to_tensor(A), KerasTensor((2,))
    assert {t: 1, s: 2}[t] == 1
    assert (t == None) is False and (s != None) is True  # noqa: E711
    assert (t == "auto") is False


def test_types_are_weak_for_numbers() -> None:
    t = ops.convert_to_tensor(A.astype("float32"))
    for result in (t + 1, 1.5 * t, t / 2, 2 / t, t**0.5, 2.0**t, t - np.float64(1), np.float64(2) * t, t * np.sqrt(2)):
        assert result.dtype == np.float32
