"""Several inputs to one."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import layers

MERGED = {
    "Add": np.add,
    "Multiply": np.multiply,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
}
SIZES = st.tuples(*[st.integers(1, 3)] * 3)


def draw(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", MERGED)
@given(batch=st.integers(0, 2), sizes=SIZES, data=st.data())
def test_elementwise(check_layer, name, batch, sizes, data):
    inputs, expanded = [], []
    for seed in range(data.draw(st.integers(1, 3))):
        shape = tuple(data.draw(st.sampled_from([1, size])) for size in sizes)
        rank = data.draw(st.integers(0, 3))
        x = draw((batch, *shape[3 - rank :]), seed)
        inputs.append(x)
        expanded.append(x)
    most = max(x.ndim for x in inputs)
    expanded = [x.reshape(batch, *(1,) * (most - x.ndim), *x.shape[1:]) for x in inputs]
    _, outputs = check_layer(getattr(layers, name), {}, inputs)
    np.testing.assert_allclose(outputs, functools.reduce(MERGED[name], expanded))
    functional = getattr(layers, name.lower())(inputs, dtype="float64")
    assert np.array_equal(functional, outputs)


@given(batch=st.integers(0, 2), sizes=SIZES)
def test_subtract_and_average(check_layer, batch, sizes):
    inputs = [draw((batch, *sizes), seed) for seed in range(3)]
    _, outputs = check_layer(layers.Subtract, {}, inputs[:2])
    np.testing.assert_allclose(outputs, inputs[0] - inputs[1])
    assert np.array_equal(layers.subtract(inputs[:2], dtype="float64"), outputs)
    _, outputs = check_layer(layers.Average, {}, inputs)
    np.testing.assert_allclose(outputs, np.mean(inputs, axis=0))
    assert np.array_equal(layers.average(inputs, dtype="float64"), outputs)


@given(batch=st.integers(0, 2), sizes=SIZES, axis=st.sampled_from([1, 2, 3, -1, -2]), data=st.data())
def test_concatenate(check_layer, batch, sizes, axis, data):
    inputs = []
    for seed in range(data.draw(st.integers(1, 3))):
        shape = [batch, *sizes]
        shape[axis] = data.draw(st.integers(0, 3))
        inputs.append(draw(shape, seed))
    _, outputs = check_layer(layers.Concatenate, {"axis": axis}, inputs)
    assert np.array_equal(outputs, np.concatenate(inputs, axis=axis))
    assert np.array_equal(layers.concatenate(inputs, axis, dtype="float64"), outputs)
    assert layers.Concatenate().compute_output_shape([(None, None, 2), (None, 4, 3)]) == (None, None, 5)


@pytest.mark.parametrize(
    ("shapes", "axes", "formula"),
    [
        (((2, 3), (2, 3)), 1, "na,na->n"),
        (((2, 3), (2, 3)), -1, "na,na->n"),
        (((2, 4, 3), (2, 3)), (2, 1), "nba,na->nb"),
        (((2, 3), (2, 4, 3)), (1, 2), "na,nba->nb"),
        (((2, 4, 3), (2, 5, 4)), [1, -1], "nab,nca->nbc"),
        (((1, 4, 3, 2), (1, 5, 4, 2)), (1, 2), "nabc,ndae->nbcde"),
        (((0, 4, 3), (0, 5, 4)), (1, 2), "nab,nca->nbc"),
    ],
)
def test_dot(check_layer, shapes, axes, formula):
    inputs = [draw(shape, seed) for seed, shape in enumerate(shapes)]
    wanted = np.einsum(formula, *inputs)
    _, outputs = check_layer(layers.Dot, {"axes": axes}, inputs)
    np.testing.assert_allclose(outputs, wanted if wanted.ndim > 1 else wanted[:, None])
    check_layer(layers.Dot, {"axes": axes, "normalize": True}, inputs)
    assert np.array_equal(layers.dot(inputs, axes, dtype="float64"), outputs)


def test_cosine():
    x = draw((4, 3), 0)
    np.testing.assert_allclose(layers.Dot(1, normalize=True, dtype="float64")([x, 2 * x]), np.ones((4, 1)))


def test_masks(masked):
    a, b = draw((2, 3, 4), 0), draw((2, 3, 4), 1)
    one, two = np.array([[1, 1, 0], [1, 0, 0]], "bool"), np.array([[0, 1, 0], [1, 1, 0]], "bool")
    both, plain = [masked(a, one), masked(b, two)], [masked(a, one), b]
    for cls in (layers.Add, layers.Multiply, layers.Maximum):
        assert np.array_equal(cls(dtype="float64")(both)._keras_mask, one | two)
        assert cls(dtype="float64")(plain)._keras_mask is None
    product = np.where(one[..., None], a, 1) * np.where(two[..., None], b, 1) * (one | two)[..., None]
    np.testing.assert_allclose(layers.Multiply(dtype="float64")(both), product)
    largest = np.asarray(layers.Maximum(dtype="float64")(both))
    np.testing.assert_array_equal(largest[0, 0], a[0, 0])
    np.testing.assert_array_equal(largest[1, 1], b[1, 1])
    np.testing.assert_array_equal(largest[0, 1], np.maximum(a, b)[0, 1])
    joined = layers.Concatenate(1, dtype="float64")(plain)
    assert np.array_equal(joined._keras_mask, np.concatenate([one, np.ones_like(one)], axis=1))
    assert layers.Dot(2)(both)._keras_mask is None
    for layer in (layers.Add(), layers.Concatenate(1)):
        assert layer.compute_mask([a, b], mask=[None, None]) is None
        for inputs, masks in ((a, [one, two]), ([a, b], one), ([a, b], [one])):
            with pytest.raises(ValueError, match="takes a list of inputs and a list of as many masks"):
                layer.compute_mask(inputs, masks)


def test_configuration():
    for axes in (1, [1, 2]):
        config = json.loads(json.dumps(layers.Dot(axes, normalize=True).get_config()))
        assert layers.Dot.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (layers.Add(name="sum"), [(2, 3), (2, 4)], r"Add 'sum' needs inputs .* got \[\(None, 3\), \(None, 4\)\]"),
        (layers.Subtract(), [(2, 3)] * 3, "takes two inputs, got 3"),
        (layers.Concatenate(), [(2, 3, 4), (2, 2, 4)], "equal along every axis but 2"),
        (layers.Concatenate(), [(2, 3, 4), (2, 4)], "of one rank"),
        (layers.Concatenate(axis=3), [(2, 3), (2, 3)], "with an axis 3"),
        (layers.Dot((1, 1)), [(2, 3), (2, 4)], r"of one size along axes=\(1, 1\)"),
        (
            layers.Dot((0, 1)),
            [(2, 3), (2, 3)],
            "works on axis 0, got inputs of rank 2; choose an axis that they have, not the batch",
        ),
        (layers.Dot(1), [(2, 3)] * 3, "two of them"),
    ],
)
def test_refused_shapes(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer([np.ones(shape) for shape in shapes])


def test_refused():
    with pytest.raises(ValueError, match=r"takes a list of inputs, got shape \(None, 3\)"):
        layers.Add()(np.ones((2, 3)))
    with pytest.raises(ValueError, match="needs inputs of shapes of one batch size"):
        layers.Add().compute_output_shape([(2, 3), (4, 3)])
    with pytest.raises(ValueError, match="one integer or two for axes, got 'last'"):
        layers.Dot("last")
