"""Pooling over windows and over everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import Input, layers


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    sizes, strides = (draw(st.tuples(*[st.integers(1, 3)] * rank)) for _ in range(2))
    padding = draw(st.sampled_from(["valid", "same"]))
    lengths = [draw(st.integers(size if padding == "valid" else 1, 6)) for size in sizes]
    arguments = {"pool_size": sizes, "strides": draw(st.sampled_from([None, strides])), "padding": padding}
    return rank, arguments, (draw(st.integers(0, 2)), *lengths, draw(st.integers(1, 2)))


def distinct(shape):
    """Values without ties, which a maximum could not be differentiated at."""
    return np.random.default_rng(0).permutation(float(np.prod(shape)) * np.arange(np.prod(shape))).reshape(shape) / 10


@pytest.mark.parametrize("kind", ["Max", "Average"])
@given(case=cases())
def test_windows(check_layer, kind, case):
    rank, arguments, shape = case
    cls = getattr(layers, f"{kind}Pooling{rank}D")
    x = distinct(shape)
    _, last = check_layer(cls, arguments, x)
    _, first = check_layer(cls, {**arguments, "data_format": "channels_first"}, np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last, rtol=1e-12)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["Max", "Average"])
@given(shape=st.integers(3, 5).flatmap(lambda rank: st.tuples(st.integers(0, 2), *[st.integers(1, 3)] * (rank - 1))))
def test_everything(check_layer, kind, keepdims, shape):
    cls = getattr(layers, f"Global{kind}Pooling{len(shape) - 2}D")
    x = distinct(shape)
    _, outputs = check_layer(cls, {"keepdims": keepdims}, x)
    check_layer(cls, {"keepdims": keepdims, "data_format": "channels_first"}, x)
    reduce = np.max if kind == "Max" else np.mean
    np.testing.assert_allclose(outputs, reduce(x, axis=tuple(range(1, len(shape) - 1)), keepdims=keepdims))


def test_mean_of_steps_that_count(check_layer, masked):
    x, mask = distinct((2, 4, 3)), np.array([[1, 1, 0, 1], [0, 1, 0, 0]], "bool")
    wanted = np.stack([x[i, mask[i]].mean(axis=0) for i in range(2)])
    outputs = layers.GlobalAveragePooling1D(dtype="float64")(masked(x, mask))
    np.testing.assert_allclose(outputs, wanted)
    assert outputs._keras_mask is None
    check_layer(layers.GlobalAveragePooling1D, {"keepdims": True}, x, mask=mask)
    np.testing.assert_allclose(
        layers.GlobalAveragePooling1D("channels_first", dtype="float64")(np.swapaxes(x, 1, 2), mask=mask), wanted
    )


def test_aliases():
    assert layers.MaxPool2D is layers.MaxPooling2D
    assert layers.AvgPool1D is layers.AveragePooling1D
    assert layers.GlobalAvgPool2D is layers.GlobalAveragePooling2D
    assert layers.GlobalMaxPool3D is layers.GlobalMaxPooling3D


def test_refused():
    with pytest.raises(ValueError, match="MaxPooling2D's pool_size must be a positive whole number, got 0"):
        layers.MaxPooling2D(0)
    with pytest.raises(ValueError, match="for padding, got 'causal'"):
        layers.AveragePooling1D(2, padding="causal")
    with pytest.raises(ValueError, match=r"of size 3 or more along axis 1, got shape \(None, 2, 5, 1\)"):
        layers.MaxPooling2D(3)(Input((2, 5, 1)))
    with pytest.raises(ValueError, match=r"A window of size \(3, 3\) does not fit into inputs of size \(2, 5\)"):
        layers.MaxPooling2D(3)(np.ones((1, 2, 5, 1)))
    with pytest.raises(ValueError, match=r"expects inputs of rank 4, got shape \(1, 2, 5\)"):
        layers.GlobalMaxPooling2D()(np.ones((1, 2, 5)))
