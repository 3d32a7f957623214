"""Pooling kernels: the reference against windows cut out one by one, the overrides against the reference."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import poolings

from minikeras.kernels import reference_table, table_of

reference, override = reference_table(), table_of("cpu")

DTYPES = ["float32", "float64"]
MODULES = [reference, override]
assert_close = partial(np.testing.assert_allclose, strict=True)


def windows(x_shape, g_shape, size, strides, padding):
    """For every output: (its place, {tap: the place in the input}), what lies in the padding left out."""
    for output in np.ndindex(*g_shape[1:-1]):
        reads = {}
        for number, tap in enumerate(np.ndindex(*size)):
            read = [o * s + t - before for o, s, t, (before, _) in zip(output, strides, tap, padding, strict=True)]
            if all(0 <= place < length for place, length in zip(read, x_shape[1:-1], strict=True)):
                reads[number] = (slice(None), *read)
        yield (slice(None), *output), reads


@settings(max_examples=40, deadline=None)
@given(poolings())
def test_max_pool_is_the_maximum_of_each_window(problem):
    x, g, keywords = problem
    y, index, gx = np.full(g.shape, -np.inf), np.zeros(g.shape, "uint8"), np.zeros(x.shape)
    for output, reads in windows(x.shape, g.shape, **keywords):
        if reads:
            values = np.stack([x[read] for read in reads.values()])
            y[output] = values.max(axis=0)
            index[output] = np.array(list(reads))[values.argmax(axis=0)]  # argmax: the first of equals, NaN first
        for number, read in reads.items():
            gx[read] += np.where(index[output] == number, g[output], 0)
    found, found_index = reference.max_pool(x, with_index=True, **keywords)
    assert_close(found, y, rtol=0)
    assert_close(found_index, index, rtol=0)
    assert_close(reference.max_pool_grad(g, index, x.shape, **keywords), gx, rtol=0)
    alone, nothing = reference.max_pool(x, **keywords)
    assert_close(alone, y, rtol=0)
    assert nothing is None


@settings(max_examples=40, deadline=None)
@given(poolings())
def test_average_pool_is_the_mean_of_each_window_without_its_padding(problem):
    x, g, keywords = problem
    y, gx = np.zeros(g.shape), np.zeros(x.shape)
    for output, reads in windows(x.shape, g.shape, **keywords):
        for read in reads.values():
            y[output] += x[read] / len(reads)
            gx[read] += g[output] / len(reads)
    assert_close(reference.average_pool(x, **keywords), y, rtol=1e-12, atol=1e-12)
    assert_close(reference.average_pool_grad(g, x.shape, **keywords), gx, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_override_is_the_reference(dtype, data):
    x, g, keywords = data.draw(poolings(dtype, channels=(1, 3, 17, 32)))
    y, index = reference.max_pool(x, with_index=True, **keywords)
    found, found_index = override.max_pool(x, with_index=True, **keywords)
    assert_close(found, y, rtol=0)
    assert_close(found_index, index, rtol=0)
    assert_close(override.max_pool(x, **keywords)[0], y, rtol=0)
    for name, arguments in {
        "max_pool_grad": (g, index, x.shape),
        "average_pool": (x,),
        "average_pool_grad": (g, x.shape),
    }.items():
        expected = getattr(reference, name)(*arguments, **keywords)
        out = np.full_like(expected, np.nan)
        assert getattr(override, name)(*arguments, out=out, **keywords) is out
        for found in (out, getattr(override, name)(*arguments, **keywords)):
            assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("module", MODULES)
def test_a_large_window_gets_a_wider_index(module):
    x = np.zeros((1, 300, 1))
    x[0, 290] = 1
    keywords = {"size": (300,), "strides": (300,), "padding": ((0, 0),)}
    y, index = module.max_pool(x, with_index=True, **keywords)
    assert index.dtype == "uint16"
    assert (y.item(), index.item()) == (1, 290)
    gx = module.max_pool_grad(np.ones_like(y), index, x.shape, **keywords)
    assert_close(gx, x, rtol=0)


@pytest.mark.parametrize("module", MODULES)
def test_an_infinite_gradient_reaches_only_the_winner(module):
    keywords = {"size": (2,), "strides": (2,), "padding": ((0, 0),)}
    index = np.ones((1, 2, 1), "uint8")
    gx = module.max_pool_grad(np.full((1, 2, 1), math.inf), index, (1, 4, 1), **keywords)
    assert gx.ravel().tolist() == [0, math.inf, 0, math.inf]


@pytest.mark.parametrize("module", MODULES)
def test_half_precision_and_strided_views(module):
    keywords = {"size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 1))}
    x = np.arange(60, dtype="float16").reshape(2, 5, 3, 2).transpose(0, 2, 1, 3)
    y, index = module.max_pool(x, with_index=True, **keywords)
    assert y.dtype == "float16"
    assert index.dtype == "uint8"
    expected = reference.max_pool(np.ascontiguousarray(x, "float64"), **keywords)[0]
    assert_close(y, expected.astype("float16"), rtol=0)
    mean = module.average_pool(x, **keywords)
    assert_close(mean, reference.average_pool(x.astype("float64"), **keywords).astype("float16"), rtol=1e-3)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (7, 33, 150), (1, 40_000, 1), (3, 4099, 5), (300, 2, 70)])
def test_global_average_pool(module, dtype, strided, shape):
    random = np.random.default_rng(0)
    x, g = random.standard_normal(shape) + 1, random.standard_normal(shape[::2])
    if strided:
        x, g = np.repeat(x, 2, axis=-1)[..., ::2], np.repeat(g, 2, axis=-1)[..., ::2]
    x, g = x.astype(dtype, order="K"), g.astype(dtype, order="K")
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-12}[dtype]
    y, gx = module.global_average_pool(x), module.global_average_pool_grad(g, shape[1])
    assert y.dtype == gx.dtype == dtype
    np.testing.assert_allclose(y, x.astype("float64").mean(axis=1), rtol=tolerance, atol=tolerance)
    wanted = np.broadcast_to(g[:, None].astype("float64") / shape[1], shape)
    np.testing.assert_allclose(gx, wanted, rtol=tolerance, atol=tolerance / shape[1])
