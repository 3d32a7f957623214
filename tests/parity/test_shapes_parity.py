"""Symbolic results against real Keras: every case of the operations with its first axis open, and more open sizes."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from ops.nn_cases import PUBLIC  # noqa: E402
from ops.op_cases import CASES, Case, X  # noqa: E402
from parity.test_ops_parity import WITHOUT_COUNTERPART  # noqa: E402

import minikeras  # noqa: E402
from minikeras import tree  # noqa: E402

# where Keras's symbolic result is not what it computes, or is less or more than follows from the shapes
OTHERWISE = {
    "clip(3x4,3x1,4)",
    "einsum(ii->i,3x3)",
    "vstack(3,3)",
    "split(5x2,1,3)",
    "categorical_crossentropy(2x3x4,2x3x4,axis=1)",
    "categorical_crossentropy(2x3x4,2x3x4,from_logits=True,axis=0)",
    *("corrcoef(3x5)", "corrcoef(5)", "rot90(2x3,0)", "rot90(2x3,2)", "kron(3,2x2)", "slogdet(2x3x3)"),
    *("lu_factor(2x4x4)", "hsplit(4,1)", "select(array,array,2x3,2x3,1.5)"),
    *[f"adaptive_{name}_pool({sizes})" for name in ("max", "average") for sizes in ("2x5x4x2,2,6", "2x3x4x2x2,2,4,1")],
}


def _result(K: Any, function: Any, case: Case, first_open: bool) -> Any:
    count = 0

    def symbol(leaf: Any) -> Any:
        nonlocal count
        if not isinstance(leaf, X):
            return leaf
        count += 1
        free = first_open and count == 1 and leaf.shape
        return K.KerasTensor((None, *leaf.shape[1:]) if free else leaf.shape, "float32")

    args, kwargs = tree.map_structure(symbol, [list(case.args), case.kwargs])
    return [(tuple(one.shape), str(one.dtype)) for one in tree.flatten(function(*args, **kwargs))]


def _expected() -> list[tuple[Case, bool, Any]]:
    """Cases, whether their first axis is open, and what Keras says; without those that it cannot be called with."""
    found = []
    for case in (*CASES, *PUBLIC):
        if case.inputs() and not {str(case)} & (WITHOUT_COUNTERPART | OTHERWISE) and hasattr(keras.ops, case.name):
            for first_open in (False, True):
                with contextlib.suppress(Exception):
                    theirs = _result(keras, getattr(keras.ops, case.name), case, first_open)
                    found.append((case, first_open, theirs))
    return found


EXPECTED = _expected()


@pytest.mark.parametrize(("case", "first_open", "theirs"), EXPECTED, ids=lambda one: str(one)[:60])
def test_each_operation(case: Case, first_open: bool, theirs: Any) -> None:
    assert _result(minikeras, getattr(minikeras.ops, case.name), case, first_open) == theirs


def test_nearly_every_case_is_compared() -> None:
    assert len(EXPECTED) > 550


# shapes of the inputs: a function of the namespace and of symbolic tensors of these shapes
RULES = [
    ([(None, 3), (2, None)], lambda K, x, y: x + y),
    ([(None, 1), (None, 5)], lambda K, x, y: x * y),
    ([(None, None), (1, 4)], lambda K, x, y: K.ops.maximum(x, y)),
    ([(None, 3), (3,)], lambda K, x, y: x > y),
    ([(None, 4), (4, None)], lambda K, x, y: K.ops.matmul(x, y)),
    ([(None, 2, 4), (None, 4, 5)], lambda K, x, y: K.ops.matmul(x, y)),
    ([(None, 2, 4), (4,)], lambda K, x, y: K.ops.matmul(x, y)),
    ([(None, None, 4), (None, 4, 5)], lambda K, x, y: K.ops.einsum("bij,bjk->bik", x, y)),
    ([(None, 3, 4), (4, 3, 2)], lambda K, x, y: K.ops.tensordot(x, y, axes=[[1, 2], [1, 0]])),
    ([(None, 3), (None, 2)], lambda K, x, y: K.ops.concatenate([x, y], axis=1)),
    ([(None, 3), (2, 3)], lambda K, x, y: K.ops.concatenate([x, y], axis=0)),
    ([(None, 3), (None, 3)], lambda K, x, y: K.ops.stack([x, y], axis=1)),
    ([(None, 6)], lambda K, x: K.ops.reshape(x, (-1, 2, 3))),
    ([(None, 6)], lambda K, x: K.ops.reshape(x, (2, -1))),
    ([(4, 6)], lambda K, x: K.ops.reshape(x, (8, -1))),
    ([(None, 6, None)], lambda K, x: K.ops.transpose(x, (2, 0, 1))),
    ([(None, 6)], lambda K, x: K.ops.split(x, 3, axis=1)),
    ([(None, 6)], lambda K, x: K.ops.split(x, [1, 4], axis=1)),
    ([(None, 6, 2)], lambda K, x: x[:, 1:4]),
    ([(None, 6, 2)], lambda K, x: x[..., None, 0]),
    ([(None, 6, 2)], lambda K, x: x[:, 2, ::2]),
    ([(None, 6, 2)], lambda K, x: K.ops.take(x, np.array([[0, 1]]), axis=1)),
    ([(None, 6)], lambda K, x: K.ops.take_along_axis(x, np.array([[0, 1]]), axis=1)),
    ([(None, 6), (6,)], lambda K, x, y: K.ops.where(x > 0, x, y)),
    ([(None, None, 3)], lambda K, x: K.ops.mean(x, axis=(1, 2), keepdims=True)),
    ([(None, None, 3)], lambda K, x: K.ops.argmax(x, axis=-1)),
    ([(None, 3)], lambda K, x: K.ops.expand_dims(x, (0, -1))),
    ([(None, 1, 3)], lambda K, x: K.ops.squeeze(x, 1)),
    ([(None, 3)], lambda K, x: K.ops.tile(x, (2, 2))),
    ([(None, 3)], lambda K, x: K.ops.repeat(x, 2, axis=1)),
    ([(None, 3)], lambda K, x: K.ops.pad(x, [[0, 0], [1, 2]])),
    ([(None, 3)], lambda K, x: K.ops.cast(x, "int32")),
    ([(None,)], lambda K, x: K.ops.one_hot(K.ops.cast(x, "int32"), 5)),
    ([(None, 5)], lambda K, x: K.ops.top_k(x, 2)),
    ([(None, None, 8, 3)], lambda K, x: K.ops.max_pool(x, 2, padding="same")),
    ([(None, None, 8, 3)], lambda K, x: K.ops.average_pool(x, (2, 3), strides=2)),
    ([(None, None, 8, 3), (3, 3, 3, 4)], lambda K, x, y: K.ops.conv(x, y, strides=2, padding="same")),
    ([(None, 9, 3), (3, 3, 4)], lambda K, x, y: K.ops.conv(x, y, dilation_rate=2)),
    ([(None, 9, 3), (3, 3, 2)], lambda K, x, y: K.ops.depthwise_conv(x, y)),
    ([(None, 9, 3), (3, 4, 3)], lambda K, x, y: K.ops.conv_transpose(x, y, strides=2)),
    ([(None, 4, 2, 8), (None, 6, 2, 8)], lambda K, x, y: K.ops.dot_product_attention(x, y, y)),
    ([(None, 3), (None, 3)], lambda K, x, y: K.ops.categorical_crossentropy(x, K.ops.softmax(y))),
    ([(None, 3)], lambda K, x: K.ops.moments(x, axes=[1])),
    ([(None, 3, 3)], lambda K, x: K.ops.diagonal(x, 1, 1, 2)),
    ([(None, 3)], lambda K, x: K.ops.cumsum(x, axis=1)),
    ([(3, 2)], lambda K, x: K.ops.unstack(x)),
]


@pytest.mark.parametrize(("shapes", "function"), RULES, ids=range(len(RULES)))
def test_open_sizes(shapes: Any, function: Any) -> None:
    def result(K: Any) -> list[tuple]:
        made = function(K, *[K.KerasTensor(shape, "float32") for shape in shapes])
        return [(tuple(one.shape), str(one.dtype)) for one in tree.flatten(made)]

    assert result(minikeras) == result(keras)
