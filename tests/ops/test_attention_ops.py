"""Attention, its projections and products of stacks: formulas in NumPy, gradients against difference quotients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.op_cases import spaced

from minikeras import kernels as k
from minikeras import ops
from minikeras.autodiff import KerasTensor, Tensor, backward, check_gradients, recording
from minikeras.ops.attention import attention, projections

seeds = st.integers(0, 99)


def random(seed: int, *shapes: tuple[int, ...] | None) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [None if shape is None else spaced(rng, shape, -1, 1) for shape in shapes]


def formula(query: Any, key: Any, value: Any, scale: float, allowed: Any, keep: Any, zero_empty: bool) -> Any:
    """(result, weights), one step of one head after the other."""
    batch, steps, heads, _ = query.shape
    each = heads // key.shape[2]
    y = np.zeros((*query.shape[:3], value.shape[3]))
    weights = np.zeros((batch, heads, steps, key.shape[1]))
    for b, t, n in np.ndindex(batch, steps, heads):
        scores = key[b, :, n // each] @ query[b, t, n] * scale
        row = np.where(allowed[b, n, t], np.exp(scores), 0)
        if row.sum() > 0:
            weights[b, n, t] = row / row.sum()
        elif row.size and not zero_empty:
            weights[b, n, t] = 1 / row.size
        used = weights[b, n, t] if keep is None else weights[b, n, t] * keep[b, n, t] * 1.5
        y[b, t, n] = used @ value[b, :, n // each]
    return y, weights


@given(
    data=st.data(),
    sizes=st.tuples(*[st.integers(0, 3)] * 3, *[st.integers(1, 3)] * 4),
    seed=seeds,
    causal=st.booleans(),
    zero_empty=st.booleans(),
    dropped=st.booleans(),
    with_weights=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_attention(
    data: Any, sizes: tuple, seed: int, causal: bool, zero_empty: bool, dropped: bool, with_weights: bool
) -> None:
    batch, steps, sources, groups, each, depth, size = sizes
    heads = groups * each
    whole = (batch, heads, steps, sources)
    inputs = random(seed, (batch, steps, heads, depth), (batch, sources, groups, depth), (batch, sources, groups, size))
    rng = np.random.default_rng(seed)
    mask = None
    if data.draw(st.booleans()):
        mask = rng.random([data.draw(st.sampled_from([1, axis])) if axis else 0 for axis in whole]) < 0.6
    keep = (rng.random(whole) < 0.7).astype("uint8") if dropped else None
    allowed = np.broadcast_to(True if mask is None else mask, whole) & (
        np.tri(steps, sources, dtype=bool) if causal else True
    )
    options: dict[str, Any] = {
        "scale": 0.7,
        "mask": None if mask is None else k.to_device(mask),
        "causal": causal,
        "keep": None if keep is None else k.to_device(keep),
        "keep_scale": 1.5,
        "zero_empty": zero_empty,
        "return_weights": with_weights,
    }
    expected = formula(*inputs, 0.7, allowed, keep, zero_empty)
    results = attention(*inputs, **options)
    for result, wanted in zip(results if with_weights else [results], expected, strict=False):
        np.testing.assert_allclose(result, wanted, rtol=1e-10, atol=1e-12)
    check_gradients(lambda *values: attention(*values, **options), *inputs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ((2, 6, 2, 5), (2, 5, 2, 3)),
        ((2, 6, 2, 4), (2, 6, 2, 3)),
        ((3, 6, 2, 5), (3, 6, 2, 3)),
        ((2, 6, 2, 5), (2, 6, 1, 3)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(key: tuple, value: tuple) -> None:
    with pytest.raises(ValueError, match=r"got queries of shape \(2, 3, 4, 5\)"):
        ops.dot_product_attention(*random(0, (2, 3, 4, 5), key, value))


@given(
    leading=st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
    inner=st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    outer=st.lists(st.lists(st.integers(1, 3), max_size=2).map(tuple), min_size=1, max_size=3),
    biases=st.integers(0, 7),
    seed=seeds,
)
@settings(max_examples=40, deadline=None)
def test_projections(leading: tuple, inner: tuple, outer: list[tuple], biases: int, seed: int) -> None:
    shapes: list[Any] = [(*leading, *inner)]
    for i, one in enumerate(outer):
        shapes += [(*inner, *one), one if biases >> i & 1 else None]
    x, *weights = random(seed, *shapes)
    results = projections(x, *weights, axes=len(inner))
    results = [results] if len(outer) == 1 else results
    for result, kernel, bias in zip(results, weights[::2], weights[1::2], strict=True):
        expected = np.tensordot(x, kernel, len(inner)) + (0 if bias is None else bias)
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-12)
    check_gradients(lambda *values: projections(*values, axes=len(inner)), x, *weights)


def test_gradients_of_projections_go_to_their_destinations() -> None:
    values = [x.astype("float32") for x in random(0, (4, 5, 6), (6, 2, 3), (2, 3), (6, 4), (4,))]
    tensors = [Tensor(k.to_device(x), tracked=True) for x in values]

    def gradients(**options: Any) -> list[Any]:
        with recording():
            a, b = projections(*tensors)
            total = ops.sum(a * a) + ops.sum(b)
        return backward(total, tensors, **options)

    expected = gradients()
    ends = np.cumsum([x.size for x in values])
    buffer = k.xp.full(int(ends[-1]), np.nan, "float32")
    parts = [buffer[end - x.size : end].reshape(x.shape) for end, x in zip(ends, values, strict=True)]
    written = gradients(destinations={id(x): part for x, part in zip(tensors, parts, strict=True)})
    for got, part, wanted in zip(written, parts, expected, strict=True):
        assert got is part
        np.testing.assert_allclose(k.to_host(got), k.to_host(wanted), rtol=1e-5)


def test_only_one_of_several_projections_is_used() -> None:
    x, *weights = random(0, (3, 4), (4, 2), (2,), (4, 5), (5,))
    check_gradients(lambda *values: projections(*values)[1], x, *weights)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"mask": True}], ids=str)
def test_dot_product_attention(options: dict[str, Any], bias: bool) -> None:
    query, key, value, added = random(0, (2, 3, 4, 5), (2, 4, 2, 5), (2, 4, 2, 3), (1, 4, 3, 4))
    options = dict(options)
    mask = np.random.default_rng(0).random((2, 1, 3, 4)) < 0.7
    mask[..., 0] = True
    if "mask" in options:
        options["mask"] = mask
    allowed = np.broadcast_to(mask if "mask" in options else True, (2, 4, 3, 4))
    if "is_causal" in options:
        allowed = allowed & np.tri(3, 4, dtype=bool)
    scale = options.get("scale", 1 / math.sqrt(5))
    inputs = [query, key, value, added] if bias else [query, key, value]
    if bias:
        wide_key, wide_value = (one.repeat(2, axis=2) for one in (key, value))
        scores = np.einsum("btnh,bsnh->bnts", query, wide_key) * scale + added
        weights = np.where(allowed, np.exp(scores), 0)
        expected = np.einsum("bnts,bsnh->btnh", weights / weights.sum(-1, keepdims=True), wide_value)
    else:
        expected = formula(query, key, value, scale, allowed, None, False)[0]
    np.testing.assert_allclose(ops.dot_product_attention(*inputs, **options), expected, rtol=1e-10, atol=1e-12)
    check_gradients(lambda *values: ops.dot_product_attention(*values, **options), *inputs)
    symbolic = ops.dot_product_attention(*[KerasTensor((None, *x.shape[1:])) for x in inputs[:3]])
    assert symbolic.shape == (None, 3, 4, 3)


# ---------------------------------------------------------------- products that attention is made of


LETTERS = st.lists(st.sampled_from("abcde"), max_size=4, unique=True).map("".join)


@given(data=st.data(), left=LETTERS, right=LETTERS, seed=seeds, dtype=st.sampled_from(["float64", "float32"]))
@settings(max_examples=80, deadline=None)
def test_einsum_of_two_operands(data: Any, left: str, right: str, seed: int, dtype: str) -> None:
    sizes = {letter: data.draw(st.integers(0 if letter == "e" else 1, 3)) for letter in "abcde"}
    both = sorted(set(left + right))
    result = "".join(data.draw(st.lists(st.sampled_from(both), unique=True) if both else st.just([])))
    subscripts = f"{left},{right}->{result}"
    x, y = random(seed, *[tuple(sizes[letter] for letter in term) for term in (left, right)])
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
    got = ops.einsum(subscripts, x.astype(dtype), y.astype(dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.einsum(subscripts, x, y), **close)
    check_gradients(lambda a, b: ops.einsum(subscripts, a, b), x, y)


@pytest.mark.parametrize("subscripts", ["ab,bc->ac", "ab,b->a", "abc,cd->abd", "abc,abd->cd"])
def test_einsum_broadcasts_axes_of_one(subscripts: str) -> None:
    left, right = subscripts.split("->")[0].split(",")
    sizes = {"a": 2, "b": 3, "c": 4, "d": 5}
    x, y = random(0, tuple(1 if one == "b" else sizes[one] for one in left), tuple(sizes[one] for one in right))
    np.testing.assert_allclose(ops.einsum(subscripts, x, y), np.einsum(subscripts, x, y))
    check_gradients(lambda a, b: ops.einsum(subscripts, a, b), x, y)


@pytest.mark.parametrize(
    ("left", "right"),
    [((6, 40, 30), (6, 30, 50)), ((6, 40, 30), (30, 50)), ((2, 1, 40, 30), (3, 30, 50)), ((40, 30), (6, 30, 50))],
)
def test_long_products_of_stacks(left: tuple, right: tuple) -> None:
    """float32 and long enough for the kernels of the device, forward and backward."""
    x, y = random(0, left, right)
    tensors = [Tensor(k.to_device(one.astype("float32")), tracked=True) for one in (x, y)]
    with recording():
        product = ops.matmul(*tensors)
    np.testing.assert_allclose(product, x @ y, rtol=1e-4, atol=1e-4)
    seed = random(1, product.shape)[0].astype("float32")
    gradients = backward(product, tensors, k.to_device(seed))
    expected = [seed @ y.swapaxes(-1, -2), x.swapaxes(-1, -2) @ seed]
    for gradient, wanted, one in zip(gradients, expected, (x, y), strict=True):
        extra = wanted.ndim - one.ndim
        axes = tuple(i for i in range(wanted.ndim) if i < extra or one.shape[i - extra] != wanted.shape[i])
        wanted = wanted.sum(axis=axes, keepdims=True).reshape(one.shape)
        np.testing.assert_allclose(k.to_host(gradient), wanted, rtol=1e-3, atol=1e-3)
