"""Layers that move values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import layers

BORDER = st.tuples(st.integers(0, 2), st.integers(0, 2))


def draw(shape):
    return np.random.default_rng(0).standard_normal(shape)


def shapes(least, most):
    return st.integers(least, most).flatmap(
        lambda rank: st.tuples(st.integers(0, 2), *[st.integers(1, 4)] * (rank - 1))
    )


@given(shape=shapes(1, 5))
def test_flatten(check_layer, shape):
    x = draw(shape)
    _, outputs = check_layer(layers.Flatten, {}, x)
    assert np.array_equal(outputs, x.reshape(shape[0], np.prod(shape[1:], dtype=int)))
    if x.ndim > 2:
        _, first = check_layer(layers.Flatten, {"data_format": "channels_first"}, np.moveaxis(x, -1, 1))
        assert np.array_equal(first, outputs)


@given(batch=st.integers(0, 2), sizes=st.permutations([2, 3, 4]), place=st.integers(0, 2))
def test_reshape(check_layer, batch, sizes, place):
    x = draw((batch, 6, 4))
    wanted = x.reshape(batch, *sizes)
    sizes = [-1 if i == place else size for i, size in enumerate(sizes)]
    _, outputs = check_layer(layers.Reshape, {"target_shape": sizes}, x)
    assert np.array_equal(outputs, wanted)
    assert layers.Reshape((-1, 2)).compute_output_shape((None, None, 3)) == (None, None, 2)


@given(shape=shapes(2, 5), data=st.data())
def test_permute(check_layer, shape, data):
    dims = data.draw(st.permutations(range(1, len(shape))))
    _, outputs = check_layer(layers.Permute, {"dims": dims}, draw(shape))
    assert np.array_equal(outputs, draw(shape).transpose(0, *dims))


@given(shape=shapes(2, 2), n=st.integers(1, 3))
def test_repeat_vector(check_layer, shape, n):
    _, outputs = check_layer(layers.RepeatVector, {"n": n}, draw(shape))
    assert np.array_equal(outputs, np.stack([draw(shape)] * n, axis=1))


@given(shape=shapes(3, 5), data=st.data())
def test_padding_and_cropping_undo_each_other(check_layer, shape, data):
    rank = len(shape) - 2
    borders = [data.draw(BORDER) for _ in range(rank)]
    x, given_as = draw(shape), borders[0] if rank == 1 else borders
    pad, crop = getattr(layers, f"ZeroPadding{rank}D"), getattr(layers, f"Cropping{rank}D")
    _, padded = check_layer(pad, {"padding": given_as}, x)
    assert np.array_equal(padded, np.pad(x, [(0, 0), *borders, (0, 0)]))
    _, cropped = check_layer(crop, {"cropping": given_as}, padded)
    assert np.array_equal(cropped, x)
    _, first = check_layer(pad, {"padding": given_as, "data_format": "channels_first"}, np.moveaxis(x, -1, 1))
    assert np.array_equal(np.moveaxis(first, 1, -1), padded)
    if rank > 1:
        _, first = check_layer(crop, {"cropping": given_as, "data_format": "channels_first"}, first)
        assert np.array_equal(np.moveaxis(first, 1, -1), x)


def test_forms_of_borders():
    assert layers.ZeroPadding2D(2).padding == ((2, 2), (2, 2))
    assert layers.ZeroPadding2D((1, (2, 3))).padding == ((1, 1), (2, 3))
    assert layers.ZeroPadding1D((1, 2)).padding == (1, 2)
    assert layers.Cropping1D(2).cropping == (2, 2)


@given(shape=shapes(3, 5), data=st.data())
def test_up_sampling(check_layer, shape, data):
    rank = len(shape) - 2
    sizes = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    cls, size = getattr(layers, f"UpSampling{rank}D"), sizes[0] if rank == 1 else sizes
    wanted = x = draw(shape)
    for axis, factor in enumerate(sizes, start=1):
        wanted = np.repeat(wanted, factor, axis=axis)
    _, outputs = check_layer(cls, {"size": size}, x)
    assert np.array_equal(outputs, wanted)
    if rank > 1:
        _, first = check_layer(cls, {"size": size, "data_format": "channels_first"}, np.moveaxis(x, -1, 1))
        assert np.array_equal(np.moveaxis(first, 1, -1), wanted)


def test_masks_are_dropped(masked):
    x = masked(draw((2, 3, 4)), np.ones((2, 3)))
    for layer in (layers.Flatten(), layers.Reshape((-1,)), layers.Permute((2, 1)), layers.ZeroPadding1D()):
        assert layer(x)._keras_mask is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Reshape((-1, -1)), r"may be -1 for target_shape, got \(-1, -1\)"),
        (lambda: layers.Permute((0, 1)), "Permute's dims must be a positive whole number, got 0"),
        (lambda: layers.Permute((1, 3)), r"the numbers 1 to 2 in some order for dims, got \(1, 3\)"),
        (lambda: layers.RepeatVector(0), "RepeatVector's n must be a positive whole number, got 0"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), r"2 integers or 2 pairs \(before, after\), got \(1, 2, 3\)"),
        (lambda: layers.ZeroPadding1D(-1), "ZeroPadding1D's padding must be a whole number of at least 0, got -1"),
        (lambda: layers.UpSampling1D((2, 2)), r"UpSampling1D's size must be a positive whole number, got \(2, 2\)"),
        (lambda: layers.UpSampling2D(2, interpolation="area"), "for interpolation, got 'area'"),
        (lambda: layers.Reshape((5,))(np.ones((2, 4))), r"got samples of shape \(4,\) with 4 values"),
        (lambda: layers.Reshape((-1, 3))(np.ones((2, 4))), "number of values must stay the same"),
        (lambda: layers.Permute((2, 1))(np.ones((2, 4))), r"expects inputs of rank 3, got shape \(2, 4\)"),
        (
            lambda: layers.Cropping1D(2)(np.ones((2, 4, 1))),
            r"cuts 4 values off axis 1, got inputs of shape \(2, 4, 1\)",
        ),
        (lambda: layers.Cropping2D(1)(layers.Input((2, 4, 1))), "cut off less than there is"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
