"""Shape rules: what they say is what the operations give, for known sizes and for every one that an open one may be."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
import pydoc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import nn_cases, op_cases
from ops.op_cases import Case

from minikeras import activations, ops, tree
from minikeras import kernels as k
from minikeras.autodiff import (
    KerasTensor,
    Op,
    Spec,
    Tensor,
    Variable,
    composite,
    differentiable,
    operation,
    producer,
    recording,
    shapes,
    symbolic,
)
from minikeras.ops import nn

LIMITED = settings(max_examples=60, deadline=None)
CASES = [
    case
    for case in (*op_cases.CASES, *nn_cases.CASES)
    if isinstance(getattr(ops, case.name, None), Op) and str(case) != "where(array)"
]
OPEN = {"unique", "bincount"}  # how long the result is depends on values: the rule leaves that size open
INDEXED = {"take", "take_along_axis", "embedding_lookup", "segment_sum", "segment_max", "in_top_k"}


def assert_consistent(op: Any, arguments: list[Any], opened: list[list[bool]]) -> None:
    """The symbolic result with these axes open has the shape and type of the computed one, open sizes aside.

    Args:
        op: the operation.
        arguments: positional and keyword arguments, with float arrays in the places of inputs.
        opened: for each array, which of its axes are open.
    """
    axes = iter(opened)

    def symbol(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return KerasTensor(
            [None if free else n for n, free in zip(leaf.shape, next(axes), strict=True)], str(leaf.dtype)
        )

    args, kwargs = arguments
    computed = tree.flatten(op(*args, **kwargs))
    symbolic = tree.flatten(op(*tree.map_structure(symbol, args), **tree.map_structure(symbol, kwargs)))
    assert len(computed) == len(symbolic)
    is_open = any(map(any, opened))
    for result, expected in zip(symbolic, computed, strict=True):
        assert isinstance(result, KerasTensor)
        assert result.dtype == str(expected.data.dtype)
        assert result.ndim == expected.ndim
        assert all(m == n or (m is None and is_open) for m, n in zip(result.shape, expected.shape, strict=True))


def tensors(case: Case, dtype: str = "float32") -> list[Any]:
    """The arguments of a case, its inputs as tensors; where it has none, its arrays."""
    if not case.inputs():
        return [[Tensor(k.to_device(np.asarray(case.args[0]))), *case.args[1:]], case.kwargs]
    inputs = iter([Tensor(k.to_device(value)) for value in case.inputs(dtype=dtype)])
    return tree.map_structure(
        lambda leaf: next(inputs) if isinstance(leaf, op_cases.X) else leaf, [list(case.args), case.kwargs]
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operation_has_a_rule_that_says_what_it_gives(case: Case) -> None:
    op = getattr(ops, case.name)
    assert op.shape is not None
    arguments = tensors(case)
    arrays = [leaf for leaf in tree.flatten(arguments) if isinstance(leaf, Tensor)]
    values = any(isinstance(leaf, np.ndarray) and leaf.dtype == bool for leaf in tree.flatten(arguments))
    if not values and case.name not in OPEN:
        assert_consistent(op, arguments, [[False] * array.ndim for array in arrays])
    if arrays and case.name not in ("unstack", "reshape", "broadcast_to", "squeeze"):
        assert_consistent(op, arguments, [[a is arrays[0] and i == 0 for i in range(a.ndim)] for a in arrays])


def test_an_array_of_float64_beside_a_symbolic_tensor_counts_as_beside_a_tensor() -> None:
    wide = np.ones((4, 4))
    for dtype in ("float32", "float64", "int32"):
        x = Tensor(k.to_device(np.ones((2, 2), dtype)))
        assert_consistent(lambda x: ops.slice_update(wide, [0, 0], x), [[x], {}], [[False, False]])


def test_no_public_operation_is_without_a_rule() -> None:
    public = [getattr(room, name) for room in (ops, ops.image) for name in dir(room)]
    missing = {op.__name__ for op in public if isinstance(op, Op) and op.shape is None}
    assert missing == {"map", "scan", "vectorized_map"}  # whose results are a user's function's


PICTURES = {
    "patches": (lambda x: ops.image.extract_patches(x, (2, 3), 2, padding="same"), (2, 7, 8, 3)),
    "patches that lie apart": (lambda x: ops.image.extract_patches(x, 2, dilation_rate=2), (7, 8, 3)),
    "patches, channels first": (lambda x: ops.image.extract_patches(x, 2, data_format="channels_first"), (2, 3, 6, 7)),
    "patches of a volume": (lambda x: ops.image.extract_patches(x, (2, 2, 1)), (2, 4, 6, 5, 2)),
    "patches of a volume, in 3D": (lambda x: ops.image.extract_patches_3d(x, 2), (4, 6, 5, 2)),
    "pictures of patches": (lambda x: ops.image.reconstruct_patches(x, (2, 3)), (2, 3, 4, 12)),
    "pictures of padded patches": (
        lambda x: ops.image.reconstruct_patches(x, 2, (5, 7), padding="same", data_format="channels_first"),
        (2, 8, 3, 4),
    ),
    "values between": (lambda x: ops.image.map_coordinates(np.ones((4, 5, 6)), x, 1), (3, 2, 7)),
    "similarity": (lambda x: ops.image.ssim(x, x, filter_size=3), (2, 5, 6, 3)),
    "similarity of two pictures": (lambda x: ops.image.ssim(x, x, filter_size=3), (5, 6, 3)),
    "brightness": (lambda x: ops.image.rgb_to_grayscale(x), (2, 5, 6, 3)),
    "brightness, channels first": (lambda x: ops.image.rgb_to_grayscale(x, "channels_first"), (3, 5, 6)),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_rules_of_pictures(name: str, dtype: str) -> None:
    function, shape = PICTURES[name]
    if dtype == "uint8" and name == "values between":
        dtype = "int32"
    pictures = Tensor(k.to_device(np.ones(shape, dtype)))
    for opened in ([False] * len(shape), [len(shape) > 3 and name != "values between", *[False] * (len(shape) - 1)]):
        assert_consistent(function, [[pictures], {}], [opened])


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (lambda x: ops.image.reconstruct_patches(x, 2), (2, 3, 4, 7), "needs an output_size"),
        (lambda x: ops.image.reconstruct_patches(x, 2, strides=1), (2, 3, 4, 8), "side by side"),
        (lambda x: ops.image.map_coordinates(np.ones((4, 5)), x, 1), (3, 2), "needs coordinates of shape"),
        (lambda x: ops.image.ssim(x, x, filter_size=9), (8, 8, 3), "does not fit"),
        (lambda x: ops.image.rgb_to_grayscale(x), (8, 8, 4), "1 or 3 channels"),
        (lambda x: ops.image.extract_patches(x, 9), (8, 8, 3), "does not fit"),
        (lambda x: ops.bincount(x, minlength=-1), (8,), "minlength must be"),
        (lambda x: ops.tensordot(x, x, 3), (8, 8), "needs as many"),
    ],
)
def test_rules_refuse_what_does_not_fit(function: Any, shape: tuple, message: str) -> None:
    with pytest.raises((ValueError, NotImplementedError), match=message):
        function(KerasTensor(shape))


def test_rules_run_nothing_but_single_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "infer_output", lambda *args: pytest.fail("an operation was run on zeros"))
    monkeypatch.setattr("minikeras.autodiff.op.infer_output", symbolic.infer_output)
    x = KerasTensor((None, 50_000, 50_000))
    assert ops.mean(ops.relu(x) * 2.0 + ops.sum(x, axis=1, keepdims=True), axis=(1, 2)).shape == (None,)


# ---------------------------------------------------------------- families, for any shapes

sizes = st.integers(1, 4)
anything = st.lists(sizes, max_size=3).map(tuple)
DTYPES = ["bool", "int8", "uint8", "int32", "float16", "float32", "float64"]


def array(data: st.DataObject, shape: Any, dtype: str | None = None) -> Tensor:
    dtype = data.draw(st.sampled_from(DTYPES)) if dtype is None else dtype
    return Tensor(k.to_device(np.ones(shape, dtype)))


def opening(data: st.DataObject, *arrays: Tensor) -> list[list[bool]]:
    return [data.draw(st.lists(st.booleans(), min_size=a.ndim, max_size=a.ndim)) for a in arrays]


def alike(data: st.DataObject, *arrays: Tensor) -> list[list[bool]]:
    """The same axes open in all arrays, counted from the last."""
    most = max(a.ndim for a in arrays)
    free = data.draw(st.lists(st.booleans(), min_size=most, max_size=most))
    return [free[most - a.ndim :] for a in arrays]


BINARY = [
    op
    for op in [getattr(ops, name) for name in dir(ops)]
    if isinstance(op, Op) and op.shape is shapes.broadcast and op.count == 2
]


@pytest.mark.parametrize("op", sorted({op for op in BINARY if "cross" not in op.__name__}, key=str), ids=str)
@given(data=st.data())
@LIMITED
def test_broadcasting(op: Op, data: st.DataObject) -> None:
    full = data.draw(anything)
    pair = []
    kinds = ["bool", "int8", "uint8", "int32"] if "bitwise" in op.__name__ else DTYPES
    for _ in range(2):
        shape = tuple(data.draw(st.sampled_from([1, n])) for n in full)
        shape = shape[data.draw(st.integers(0, len(shape))) :]
        pair.append(array(data, shape, data.draw(st.sampled_from(kinds))))
    number = data.draw(st.sampled_from([None, 2, True] + [0.5] * ("bitwise" not in op.__name__)))
    arguments = pair if number is None else data.draw(st.permutations([pair[0], number]))
    arrays = [one for one in arguments if isinstance(one, Tensor)]
    # an open size is taken for another one beside it, so only sizes that are equal may be opened together
    opened = [
        [free and n == full[i - a.ndim] for i, (n, free) in enumerate(zip(a.shape, flags, strict=True))]
        for a, flags in zip(arrays, opening(data, *arrays), strict=True)
    ]
    with contextlib.suppress(TypeError):  # NumPy subtracts no booleans
        op(*arguments)
        assert_consistent(op, [list(arguments), {}], opened)


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        ((None, 3), (2, None), (2, 3)),
        ((None, 1), (3,), (None, 3)),
        ((None,), (1,), (None,)),
        ((None, 3), (None, 1), (None, 3)),
        ((2, None, 4), (None, 1), (2, None, 4)),
        ((0,), (1,), (0,)),
        ((), (None, 2), (None, 2)),
    ],
)
def test_open_sizes_broadcast_as_in_keras(one: Any, other: Any, result: Any) -> None:
    assert (KerasTensor(one) + KerasTensor(other)).shape == result
    assert shapes.broadcast_shapes(other, one) == result


@pytest.mark.parametrize("name", sorted({*op_cases.REDUCTIONS, "any", "all", "argmax", "argmin", "count_nonzero"}))
@given(data=st.data())
@LIMITED
def test_reductions(name: str, data: st.DataObject) -> None:
    x = array(data, data.draw(st.lists(sizes, min_size=1, max_size=4)))
    options: Any = st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1))
    if not name.startswith("arg"):
        options |= st.lists(st.integers(0, x.ndim - 1), min_size=1, unique=True).map(tuple)
    kwargs = {"axis": data.draw(options)}
    if name != "count_nonzero":
        kwargs["keepdims"] = data.draw(st.booleans())
    assert_consistent(getattr(ops, name), [[x], kwargs], opening(data, x))


@given(data=st.data())
@LIMITED
def test_products(data: st.DataObject) -> None:
    inner = data.draw(sizes)
    batch = data.draw(st.lists(sizes, max_size=2))
    vectors = data.draw(st.sampled_from(["", "left", "right", "both"]))
    a = array(data, [inner] if vectors in ("left", "both") else [*batch, data.draw(sizes), inner])
    b = array(data, [inner] if vectors in ("right", "both") else [*batch[1:], inner, data.draw(sizes)])
    assert_consistent(ops.matmul, [[a, b], {}], opening(data, a, b))
    assert_consistent(ops.dot, [[a, b], {}], opening(data, a, b))
    c = array(data, [data.draw(sizes), inner])
    assert_consistent(ops.inner, [[a, c], {}] if a.shape[-1] == inner else [[c, c], {}], opening(data, a, c))
    assert_consistent(ops.outer, [[a, c], {}], opening(data, a, c))
    assert_consistent(ops.vdot, [[a, a], {}], opening(data, a, a))


@given(data=st.data())
@LIMITED
def test_einsum_and_tensordot(data: st.DataObject) -> None:
    letters = {letter: data.draw(sizes) for letter in "abcd"}
    terms = ["".join(data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))) for _ in range(2)]
    known = sorted({*terms[0], *terms[1]})
    result = "".join(data.draw(st.lists(st.sampled_from(known), unique=True)))
    arrays = [array(data, [letters[letter] for letter in term]) for term in terms]
    subscripts = ",".join(terms) + data.draw(st.sampled_from(["", f"->{result}"]))
    assert_consistent(ops.einsum, [[subscripts, *arrays], {}], opening(data, *arrays))
    shape = data.draw(st.lists(sizes, min_size=2, max_size=3))
    a, b = array(data, shape, "float32"), array(data, shape[::-1], "float32")
    count = data.draw(st.integers(0, 2))
    axes = data.draw(
        st.sampled_from([[0, -1], [[0, 1], [-1, -2]], [list(range(count)), [-1 - i for i in range(count)]]])
    )
    assert_consistent(ops.tensordot, [[a, b, axes], {}], opening(data, a, b))


@given(data=st.data())
@LIMITED
def test_joining_and_splitting(data: st.DataObject) -> None:
    shape = data.draw(st.lists(sizes, min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = [array(data, shape) for _ in range(data.draw(st.integers(1, 3)))]
    assert_consistent(ops.stack, [[arrays], {"axis": axis}], opening(data, *arrays))
    longer = list(shape)
    longer[axis] += data.draw(sizes)
    arrays.append(array(data, longer))
    assert_consistent(ops.concatenate, [[arrays], {"axis": axis}], opening(data, *arrays))
    x = arrays[0]
    cuts = data.draw(st.lists(st.integers(-5, 5), max_size=3).map(sorted))
    assert_consistent(ops.split, [[x, cuts], {"axis": axis}], opening(data, x))
    assert_consistent(ops.split, [[x, x.shape[axis]], {"axis": axis}], opening(data, x))
    assert_consistent(ops.unstack, [[x, x.shape[axis], axis], {}], opening(data, x))
    assert_consistent(ops.hstack if x.ndim > 1 else ops.vstack, [[[x, x]], {}], alike(data, x, x))


@given(data=st.data())
@LIMITED
def test_rearranging(data: st.DataObject) -> None:
    x = array(data, data.draw(st.lists(sizes, min_size=1, max_size=4)))
    axis, other = (data.draw(st.integers(-x.ndim, x.ndim - 1)) for _ in range(2))
    order = data.draw(st.permutations(range(x.ndim)))
    some = data.draw(st.integers(0, x.ndim))
    free = opening(data, x)
    for op, args in (
        (ops.transpose, [order]),
        (ops.transpose, []),
        (ops.swapaxes, [axis, other]),
        (ops.moveaxis, [axis, other]),
        (ops.moveaxis, [order[:some], list(range(some))]),
        (ops.expand_dims, [axis]),
        (ops.ravel, []),
        (ops.flip, [axis]),
        (ops.roll, [2, axis]),
        (ops.tile, [data.draw(st.lists(sizes, max_size=5))]),
        (ops.repeat, [2, data.draw(st.sampled_from([None, axis]))]),
        (ops.repeat, [list(range(x.shape[axis])), axis]),
        (ops.pad, [data.draw(st.sampled_from([1, [(1, 2)], [(i, 2) for i in range(x.ndim)]]))]),
        (ops.take_along_axis, [np.zeros(x.shape, int), axis]),
        (ops.take, [np.zeros(data.draw(anything), int), data.draw(st.sampled_from([None, axis]))]),
        (ops.cumsum, [data.draw(st.sampled_from([None, axis]))]),
        (ops.reshape, [[-1, *x.shape[1:]]]),
        (ops.reshape, [[*x.shape[:-1], None]]),
        (ops.reshape, [-1]),
        (ops.squeeze, [tuple(i for i, n in enumerate(x.shape) if n == 1)]),
        (ops.one_hot, [3, axis]),
    ):
        if op is ops.one_hot and x.dtype.kind not in "iu":
            continue
        assert_consistent(op, [[x, *args], {}], free)
    if x.ndim >= 2:
        offset = data.draw(st.integers(-2, 2))
        for op in (ops.diagonal, ops.trace, ops.tril, ops.triu):
            assert_consistent(op, [[x, offset], {}], free)


part = st.one_of(
    st.none(),
    st.integers(-1, 0),
    st.slices(4),
    st.sampled_from([np.array([0, 0, -1]), np.array([[0], [-1]]), [0, 0, 0], np.array(0)]),
)


@given(data=st.data(), key=st.lists(part, max_size=4), ellipsis=st.booleans())
@settings(max_examples=300, deadline=None)
def test_indexing(data: st.DataObject, key: list[Any], ellipsis: bool) -> None:
    x = array(data, data.draw(st.lists(sizes, min_size=sum(one is not None for one in key), max_size=5)), "float32")
    if ellipsis:
        key.insert(data.draw(st.integers(0, len(key))), ...)
    assert_consistent(ops.get_item, [[x, tuple(key)], {}], opening(data, x))
    if x.ndim:
        mask = np.ones(x.shape[: data.draw(st.integers(1, x.ndim))], bool)
        assert KerasTensor(x.shape)[mask].shape == (None, *x.shape[mask.ndim :])


@given(data=st.data())
@LIMITED
def test_windows(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 2))
    axes = st.lists(st.integers(1, 3), min_size=n, max_size=n).map(tuple)
    spatial = data.draw(st.lists(st.integers(7, 9), min_size=n, max_size=n))
    layout = data.draw(st.sampled_from(["channels_last", "channels_first"]))
    shape = [2, *spatial, 4] if layout == "channels_last" else [2, 4, *spatial]
    x = array(data, shape, "float32")
    padding, strides, size = data.draw(st.sampled_from(["valid", "same"])), data.draw(axes), data.draw(axes)
    free = [opening(data, x)[0]]
    free[0][-1 if layout == "channels_last" else 1] = False
    settings = {"padding": padding, "data_format": layout}
    for pool in (ops.max_pool, ops.average_pool):
        assert_consistent(pool, [[x, size, strides], settings], free)
    spread = data.draw(axes) if strides == (1,) * n else 1
    kernel, pointwise = array(data, (*size, 4, 2), "float32"), array(data, (*(1,) * n, 8, 3), "float32")
    settings |= {"strides": strides, "dilation_rate": spread}
    closed = [[False] * kernel.ndim, [False] * kernel.ndim]
    assert_consistent(ops.conv, [[x, kernel], settings], [*free, closed[0]])
    assert_consistent(ops.depthwise_conv, [[x, kernel], settings], [*free, closed[0]])
    if len(set(strides)) == 1:
        assert_consistent(ops.separable_conv, [[x, kernel, pointwise], settings], [*free, *closed])
    back = array(data, (*size, 3, 4), "float32")
    assert_consistent(ops.conv_transpose, [[x, back], settings], [*free, closed[0]])


@given(data=st.data())
@LIMITED
def test_choice_and_types(data: st.DataObject) -> None:
    shape = data.draw(anything)
    condition, a, b = array(data, shape, "bool"), array(data, shape), array(data, shape)
    assert_consistent(ops.where, [[condition, a, b], {}], alike(data, condition, a, b))
    assert_consistent(ops.where, [[condition, a, 0.5], {}], alike(data, condition, a))
    for dtype in DTYPES:
        assert_consistent(ops.cast, [[a, dtype], {}], opening(data, a))
        assert_consistent(ops.saturate_cast, [[a, dtype], {}], opening(data, a))
    assert_consistent(ops.clip, [[a, 0, 1], {}], opening(data, a))
    assert [one.shape for one in ops.where(KerasTensor((3, None), "bool"))] == [(None,), (None,)]


# ---------------------------------------------------------------- refusals, and operations of one's own


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x + KerasTensor((None, 4)),
        lambda x: x @ KerasTensor((4, 2)),
        lambda x: ops.concatenate([x, KerasTensor((2, 3, 1))]),
        lambda x: ops.stack([x, KerasTensor((2, 4))]),
        lambda x: ops.reshape(KerasTensor((2, 3)), (4, -1)),
        lambda x: ops.reshape(x, (-1, -1)),
        lambda x: ops.transpose(x, (0, 0)),
        lambda x: ops.squeeze(x, 1),
        lambda x: ops.sum(x, axis=2),
        lambda x: ops.split(x, 2, axis=1),
        lambda x: ops.unstack(x),
        lambda x: x[:, 5],
        lambda x: x[0, 0, 0],
        lambda x: ops.broadcast_to(x, (2, 4)),
        lambda x: ops.einsum("ij,jk->ik", x, KerasTensor((4, 2))),
        lambda x: ops.tensordot(x, KerasTensor((4, 2)), 1),
        lambda x: ops.top_k(x, 4),
        lambda x: ops.conv(KerasTensor((None, 8, 3)), KerasTensor((2, 2, 4))),
        lambda x: ops.max_pool(KerasTensor((None, 1, 3)), 2),
        lambda x: nn.dense_layer(x, KerasTensor((4, 2))),
    ],
    ids=range(20),
)
def test_what_does_not_go_together_is_refused_in_a_sentence(make: Any) -> None:
    with pytest.raises(ValueError) as error:
        make(KerasTensor((None, 3)))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_a_rule_of_the_users() -> None:
    runs = []

    @differentiable(inputs=1, shape=lambda x, *, count: (*x.shape, count))
    def spread(x: Any, count: int = 2) -> Any:
        runs.append(x.shape)
        return k.xp.repeat(x[..., None], count, axis=-1), lambda g, needs: (g.sum(axis=-1),)

    assert spread(KerasTensor((None, 700)), 3).shape == (None, 700, 3)
    assert spread(x=KerasTensor((None, 700))).dtype == "float32"
    assert runs == [(1, 1), (1, 1)]  # to find the type
    assert spread(np.ones((2, 5), "f4")).shape == (2, 5, 2)

    @operation(shape=lambda x: Spec(x.shape[:1], "bool"))
    def positive(x: Any) -> Any:
        return (x > 0).all(axis=tuple(range(1, x.ndim)))

    result = positive(KerasTensor((None, 3, 3)))
    assert (result.shape, result.dtype) == ((None,), "bool")


def test_without_a_rule_zeros_are_computed_with_once_where_all_sizes_are_known() -> None:
    runs = []

    @composite
    def doubled(x: Any) -> Any:
        runs.append(x.shape)
        return ops.concatenate([x, x])

    assert doubled(KerasTensor((3, 2))).shape == (6, 2)
    assert runs == [(3, 2)]
    assert doubled(KerasTensor((None, 2))).shape == (None, 2)
    assert len(runs) == 3


def test_the_producer_of_a_tensor_is_known() -> None:
    x = Variable(np.ones((2, 3), "f4"))
    with recording():
        y = ops.sum(ops.exp(x), axis=1)
    node = producer(y)
    assert node is not None and node.op is ops.sum and node.settings == {"axis": 1}
    inner = producer(node.args[0])
    assert inner is not None and inner.op is ops.exp and inner.args == (x,)
    assert producer(x) is producer(ops.exp(x)) is producer(3.0) is None


def test_an_operation_looks_like_a_function() -> None:
    assert list(inspect.signature(ops.softmax).parameters) == ["x", "axis"]
    assert str(inspect.getdoc(ops.add)).startswith("`x1 + x2`.") and ops.add.__module__ == "minikeras.ops.elementwise"
    assert inspect.isroutine(ops.add) and callable(ops.add) and not isinstance(ops.add, type)
    assert pickle.loads(pickle.dumps(ops.add)) is ops.add is copy.deepcopy(ops.add)
    assert "softmax(x: 'Any', axis: 'Any' = -1)" in pydoc.render_doc(ops.softmax, renderer=pydoc.plaintext)

    class Holder:
        data = Tensor(k.to_device(np.ones(2, "f4")))
        doubled = composite(lambda self, factor=2: self.data * factor)

    np.testing.assert_array_equal(Holder().doubled(3), [3, 3])
    assert Holder.doubled is vars(Holder)["doubled"]
    assert set(nn_cases.ACTIVATIONS) <= {getattr(activations, name).__name__ for name in nn_cases.ACTIVATIONS}
