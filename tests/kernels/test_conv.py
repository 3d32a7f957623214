"""Convolution kernels: the reference against sums written out, the overrides against the reference."""

import math
from functools import partial
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from window_cases import geometries, problem

from minikeras.kernels import FUSED_ACTIVATIONS, conv_output_length, reference_table, same_padding, table_of
from minikeras.kernels.cpu import conv as dense_override
from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.reference import conv as conv_reference

reference, override = reference_table(), table_of("cpu")

DTYPES = ["float32", "float64"]
TOLERANCE = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-12}
OPERATIONS = ["conv", "depthwise_conv"]
assert_close = partial(np.testing.assert_allclose, strict=True)


def densities(operation, kernel, groups):
    """Where each value of the kernel stands in the dense kernel (*size, all channels, filters)."""
    *_, rows, columns = kernel.shape
    for row, column in product(range(rows), range(columns)):
        if operation == "conv":
            yield (row, column), (column // (columns // groups) * rows + row, column)
        else:
            yield (row, column), (row, row * columns + column)


def by_hand(operation, x, kernel, g, strides, padding, dilation, groups=1):
    """(output, gradient of the input, gradient of the kernel), each product written out, in float64."""
    x, kernel, g = (array.astype("float64") for array in (x, kernel, g))
    dense = np.zeros((*kernel.shape[:-2], x.shape[-1], g.shape[-1]))
    for at, place in densities(operation, kernel, groups):
        dense[(..., *place)] = kernel[(..., *at)]
    y, gx, gdense = np.zeros_like(g), np.zeros_like(x), np.zeros_like(dense)
    for output in np.ndindex(*g.shape[1:-1]):
        for tap in np.ndindex(*dense.shape[:-2]):
            read = [o * s + t * d - p[0] for o, s, t, d, p in zip(output, strides, tap, dilation, padding, strict=True)]
            if all(0 <= place < length for place, length in zip(read, x.shape[1:-1], strict=True)):
                to, source = (slice(None), *output), (slice(None), *read)
                y[to] += x[source] @ dense[tap]
                gx[source] += g[to] @ dense[tap].T
                gdense[tap] += x[source].T @ g[to]
    gkernel = np.zeros_like(kernel)
    for at, place in densities(operation, kernel, groups):
        gkernel[(..., *at)] = gdense[(..., *place)]
    return y, gx, gkernel


def by_kernels(module, operation, x, kernel, g, **keywords):
    return (
        getattr(module, operation)(x, kernel, None, **keywords),
        getattr(module, f"{operation}_input_grad")(g, kernel, x.shape, **keywords),
        getattr(module, f"{operation}_kernel_grad")(x, g, kernel.shape, **keywords),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(geometry=geometries(), width=st.integers(1, 3), groups=st.sampled_from([1, 2, 3]))
def test_the_reference_is_the_sum_written_out(operation, geometry, width, groups):
    x, kernel, _, g, keywords = problem(geometry, operation, width, groups)
    found = by_kernels(reference, operation, x, kernel, g, **keywords)
    for one, expected in zip(found, by_hand(operation, x, kernel, g, **keywords), strict=True):
        assert_close(one, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(
    geometry=geometries(channels=(1, 3, 17, 32)),
    width=st.sampled_from([1, 2, 16]),
    groups=st.sampled_from([1, 1, 2]),
    block_bytes=st.sampled_from([1, 1000, 1 << 21]),
    biased=st.booleans(),
    activation=st.sampled_from([None, "relu", "tanh"]),
)
def test_the_override_is_the_reference(operation, dtype, geometry, width, groups, block_bytes, biased, activation):
    x, kernel, bias, g, keywords = problem(geometry, operation, width, groups, dtype)
    tolerance = TOLERANCE[dtype] * math.sqrt(x.size + 1)
    with patch.object(dense_override, "_BLOCK_BYTES", block_bytes):
        found = by_kernels(override, operation, x, kernel, g, **keywords)
        fused = getattr(override, operation)(x, kernel, bias if biased else None, activation=activation, **keywords)
    for one, expected in zip(found, by_kernels(reference, operation, x, kernel, g, **keywords), strict=True):
        assert_close(one, expected, rtol=tolerance, atol=tolerance)
    expected = getattr(reference, operation)(x, kernel, bias if biased else None, activation=activation, **keywords)
    assert_close(fused, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", [None, *sorted(FUSED_ACTIVATIONS)])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("module", [reference, override])
def test_bias_and_activation_come_after_the_sum(module, operation, activation):
    geometry = {"n": 2, "spatial": (5, 6), "channels": 3, "size": (3, 3)}
    geometry |= {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    x, kernel, bias, _, keywords = problem(geometry, operation, 2, 1)
    kernel_function = getattr(module, operation)
    expected = reference.activate(kernel_function(x, kernel, None, **keywords) + bias, activation)
    out = np.full_like(expected, np.nan)
    found = kernel_function(x, kernel, bias, activation=activation, out=out, **keywords)
    assert found is out
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("module", [reference, override])
def test_gradients_land_in_a_larger_buffer_and_inputs_stay(module, operation, groups, dtype):
    geometry = {"n": 2, "spatial": (7, 5), "channels": 2, "size": (3, 2)}
    geometry |= {"strides": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2)}
    x, kernel, _, g, keywords = problem(geometry, operation, 2, groups, dtype)
    before = [array.copy() for array in (x, kernel, g)]
    _, input_grad, kernel_grad = by_hand(operation, x, kernel, g, **keywords)
    flat = np.full(kernel.size + 2, 7, dtype)
    out = flat[1:-1].reshape(kernel.shape)
    assert getattr(module, f"{operation}_kernel_grad")(x, g, kernel.shape, out=out, **keywords) is out
    assert_close(out, kernel_grad.astype(dtype), rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    assert flat[0] == flat[-1] == 7
    out = np.full(x.shape, np.nan, dtype)
    assert getattr(module, f"{operation}_input_grad")(g, kernel, x.shape, out=out, **keywords) is out
    assert_close(out, input_grad.astype(dtype), rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
    for array, copy in zip((x, kernel, g), before, strict=True):
        assert np.array_equal(array, copy)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("module", [reference, override])
@pytest.mark.parametrize("size", [(1, 1), (2, 2)])
def test_arrays_may_be_strided_views(module, operation, size):
    geometry = {"n": 2, "spatial": (6, 5), "channels": 4, "size": size}
    geometry |= {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    x, kernel, _, g, keywords = problem(geometry, operation, 2, 1)
    views = [np.repeat(array, 2, axis=-1)[..., ::2] for array in (x, kernel, g)]
    found = by_kernels(module, operation, *views, **keywords)
    for one, expected in zip(found, by_hand(operation, x, kernel, g, **keywords), strict=True):
        assert_close(one, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("module", [reference, override])
def test_not_a_number_reaches_the_windows_that_hold_it_even_through_relu(module, operation):
    x, kernel = np.ones((1, 6, 2)), np.ones((2, 2, 2))
    x[0, 3] = np.nan
    keywords = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
    bias = np.zeros(2 if operation == "conv" else 4)
    y = getattr(module, operation)(x, kernel, bias, activation="relu", **keywords)
    assert np.array_equal(np.isnan(y[0, :, 0]), [False, False, True, True, False])


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrong", ["channels", "bias"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_what_does_not_fit_is_refused(operation, dtype, wrong, size):
    geometry = {"n": 2, "spatial": (6, 5), "channels": 4, "size": size}
    geometry |= {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    x, kernel, bias, _, keywords = problem(geometry, operation, 3, 1, dtype)
    if wrong == "channels":
        x = x[..., :3].copy()
    else:
        bias = bias[:-1].copy()
    for module in (reference, override):
        with pytest.raises(ValueError):
            getattr(module, operation)(x, kernel, bias, **keywords)


LONG = [
    {"n": 3, "spatial": (41, 37), "channels": 65, "size": (3, 3)},
    {"n": 40, "spatial": (19, 23), "channels": 3, "size": (2, 3), "strides": (2, 1)},
    {"n": 1, "spatial": (40, 50), "channels": 130, "size": (3, 2), "strides": (1, 2), "dilation": (2, 3)},
    {"n": 9, "spatial": (700,), "channels": 32, "size": (5,), "padding": ((4, 0),)},
    {"n": 300, "spatial": (5, 5), "channels": 16, "size": (5, 5), "padding": ((2, 2), (2, 2))},
    {"n": 2, "spatial": (3, 3), "channels": 4000, "size": (3, 3), "padding": ((1, 1), (1, 1))},
]


@pytest.mark.parametrize("engine", ["team", "compiled loop"])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("geometry", LONG)
def test_long_depthwise_convolutions(geometry, multiplier, engine):
    rank = len(geometry["size"])
    geometry = {"strides": (1,) * rank, "padding": ((1, 1),) * rank, "dilation": (1,) * rank} | geometry
    x, kernel, bias, g, keywords = problem(geometry, "depthwise_conv", multiplier, 1, "float32")
    exact = [array.astype("float64") for array in (x, kernel, g)]
    guarded = np.full((len(g) + 2, *g.shape[1:]), 7, "float32")
    with patch.object(host, "HAS_VECTORS", engine == "team" and host.HAS_VECTORS):
        y, gx, gkernel = by_kernels(override, "depthwise_conv", x, kernel, g, **keywords)
        fused = override.depthwise_conv(x, kernel, bias, activation="relu", out=guarded[1:-1], **keywords)
    wanted_y, wanted_gx, wanted_gkernel = by_kernels(reference, "depthwise_conv", *exact, **keywords)
    np.testing.assert_allclose(y, wanted_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gx, wanted_gx, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gkernel, wanted_gkernel, rtol=1e-5, atol=1e-6 * math.sqrt(g.size))
    np.testing.assert_allclose(fused, np.maximum(wanted_y + bias, 0), rtol=1e-5, atol=1e-5)
    assert (guarded[0] == 7).all() and (guarded[-1] == 7).all()


GROUPED = [
    {"n": 3, "spatial": (17, 15), "channels": 8, "size": (3, 3), "padding": ((1, 1), (1, 1))},
    {"n": 5, "spatial": (16, 16), "channels": 3, "size": (2, 3), "strides": (2, 1)},
    {"n": 4, "spatial": (400,), "channels": 5, "size": (3,), "padding": ((4, 0),), "dilation": (2,)},
]


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("geometry", GROUPED)
def test_groups_that_are_convolved_one_by_one(geometry, groups):
    rank = len(geometry["size"])
    geometry = {"strides": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank} | geometry
    x, kernel, bias, g, keywords = problem(geometry, "conv", 7, groups, "float32")
    exact = [array.astype("float64") for array in (x, kernel, g)]
    outs = [np.full_like(array, np.nan) for array in (g, x, kernel)]
    with patch.object(conv_reference, "_grouped", None):  # the reference cannot do it
        found = by_kernels(override, "conv", x, kernel, g, **keywords)
        assert override.conv(x, kernel, bias, activation="relu", out=outs[0], **keywords) is outs[0]
        assert override.conv_input_grad(g, kernel, x.shape, out=outs[1], **keywords) is outs[1]
        assert override.conv_kernel_grad(x, g, kernel.shape, out=outs[2], **keywords) is outs[2]
    wanted = by_kernels(reference, "conv", *exact, **keywords)
    for one, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-4)
    for out, expected in zip(outs, (np.maximum(wanted[0] + bias, 0), *wanted[1:]), strict=True):
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_depthwise_gradient_of_another_shape_is_refused(dtype):
    x, kernel, g = np.ones((2, 6, 4), dtype), np.ones((3, 4, 1), dtype), np.ones((2, 3, 4), dtype)
    keywords = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
    with pytest.raises(ValueError, match=r"a gradient of \(2, 3, 4\)"):
        override.depthwise_conv_input_grad(g, kernel, x.shape, **keywords)
    with pytest.raises(ValueError, match=r"a gradient of \(2, 3, 4\)"):
        override.depthwise_conv_kernel_grad(x, g, kernel.shape, **keywords)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 30), kernel=st.integers(1, 7), stride=st.integers(1, 5), dilation=st.integers(1, 3))
def test_same_padding_keeps_the_length(size, kernel, stride, dilation):
    before, after = same_padding(size, kernel, stride, dilation)
    assert 0 <= after - before <= 1
    assert conv_output_length(size, kernel, stride, dilation, before, after) == -(-size // stride)
    if before + after:  # no more than needed
        short = conv_output_length(size, kernel, stride, dilation, before, after - 1)
        assert short < -(-size // stride)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 20), kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(1, 3))
def test_the_output_length_counts_the_windows_that_fit(size, kernel, stride, dilation):
    fits = [start for start in range(0, size, stride) if start + dilation * (kernel - 1) < size]
    assert conv_output_length(size, kernel, stride, dilation) == len(fits)
