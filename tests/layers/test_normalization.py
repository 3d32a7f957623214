"""Batch, layer and unit normalisation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import layers, ops
from minikeras.autodiff import GradientTape, check_gradients

SHAPES = st.integers(2, 4).flatmap(lambda rank: st.tuples(*[st.integers(2, 4)] * rank))


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 2 + 1


@pytest.mark.parametrize("training", [False, True])
@given(shape=SHAPES, axis=st.integers(0, 5), center=st.booleans(), scale=st.booleans())
def test_batch_normalization(check_layer, training, shape, axis, center, scale):
    axis = 1 + axis % (len(shape) - 1)
    arguments = {"axis": axis, "center": center, "scale": scale, "epsilon": 0.01}
    layer, outputs = check_layer(layers.BatchNormalization, arguments, draw(shape), training=training)
    if training:
        x = np.moveaxis(draw(shape), axis, -1)
        rest = tuple(range(x.ndim - 1))
        wanted = (x - x.mean(axis=rest)) / np.sqrt(x.var(axis=rest) + 0.01)
        wanted = wanted * (np.asarray(layer.gamma) if scale else 1) + (np.asarray(layer.beta) if center else 0)
        np.testing.assert_allclose(np.moveaxis(outputs, axis, -1), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("training", [False, True])
def test_smallest_batches(check_layer, size, training):
    layer, _ = check_layer(layers.BatchNormalization, {}, draw((size, 3)), training=training)
    assert all(np.isfinite(value).all() for value in layer.get_weights())


def test_moving_statistics():
    layer = layers.BatchNormalization(momentum=0.75, dtype="float64")
    x = draw((5, 3, 4))
    layer(x)
    assert [w.path.split("/")[1] for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [w.trainable for w in layer.weights] == [True, True, False, False]
    array = layer.moving_mean.data
    layer(x, training=True)
    assert layer.moving_mean.data is array
    np.testing.assert_allclose(layer.moving_mean, 0.25 * x.mean(axis=(0, 1)))
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * x.var(axis=(0, 1)))
    kept = layer.get_weights()
    layer(x)
    layer(x[:0], training=True)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False))
    assert all(np.array_equal(a, b) for a, b in zip(kept, layer.get_weights(), strict=True))


@given(shape=SHAPES, axis=st.integers(0, 5), groups=st.integers(-1, 3), center=st.booleans(), scale=st.booleans())
def test_group_normalization(check_layer, shape, axis, groups, center, scale):
    axis = 1 + axis % (len(shape) - 1)
    groups = groups or 1
    shape = tuple(abs(groups) * size if i == axis else size for i, size in enumerate(shape))
    arguments = {"groups": groups, "axis": axis, "center": center, "scale": scale, "epsilon": 0.01}
    layer, outputs = check_layer(layers.GroupNormalization, arguments, draw(shape))
    x = np.moveaxis(draw(shape), axis, -1)
    parts = x.reshape(shape[0], -1, layer.groups, shape[axis] // layer.groups)
    mean, variance = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    wanted = ((parts - mean) / np.sqrt(variance + 0.01)).reshape(x.shape)
    wanted = wanted * (np.asarray(layer.gamma) if scale else 1) + (np.asarray(layer.beta) if center else 0)
    np.testing.assert_allclose(np.moveaxis(outputs, axis, -1), wanted, rtol=1e-9, atol=1e-9)


def test_groups_that_do_not_fit():
    with pytest.raises(ValueError, match=r"divide into 3 groups, got inputs of shape \(None, 4\) with 4 channels"):
        layers.GroupNormalization(3)(np.ones((2, 4)))
    with pytest.raises(ValueError, match="GroupNormalization's groups must be a positive whole number, got 0"):
        layers.GroupNormalization(0)
    assert layers.GroupNormalization(2)(np.ones((0, 5, 4))).shape == (0, 5, 4)


def test_masked_steps_do_not_count(check_layer, masked):
    x, mask = draw((3, 4, 2)), np.random.default_rng(1).random((3, 4)) < 0.5
    layer, _ = check_layer(layers.BatchNormalization, {"momentum": 0.0}, x, training=True, mask=mask)
    np.testing.assert_allclose(layer.moving_mean, x[mask].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, x[mask].var(axis=0), rtol=1e-6)
    outputs = layer(masked(x, mask), training=True)
    assert np.array_equal(outputs._keras_mask, mask)
    with pytest.raises(ValueError, match=r"got a mask of shape \(3,\) and inputs of shape \(3, 4, 2\)"):
        layer(x, mask=mask[:, 0], training=True)


def test_float16_is_summed_in_float32():
    x = np.full((4096, 2), 30.0, "float16")
    x[::2] = 40
    layer = layers.BatchNormalization(dtype="float16", momentum=0.0, epsilon=0.0)
    y = layer(x, training=True)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y[:2], [[1, 1], [-1, -1]], atol=1e-2)
    np.testing.assert_allclose(layer.moving_variance, [25, 25], rtol=1e-2)
    assert np.isfinite(np.asarray(layers.LayerNormalization(dtype="float16")(x * 100))).all()


@given(shape=SHAPES, data=st.data(), center=st.booleans(), scale=st.booleans())
def test_layer_normalization(check_layer, shape, data, center, scale):
    axes = data.draw(st.lists(st.integers(1, len(shape) - 1), unique=True, min_size=1))
    axis = data.draw(st.sampled_from([axes, axes[0]]))
    arguments = {"axis": axis, "center": center, "scale": scale, "epsilon": 0.01}
    layer, _ = check_layer(layers.LayerNormalization, arguments, draw(shape))
    layer.set_weights([np.ones(w.shape) if w.name == "gamma" else np.zeros(w.shape) for w in layer.weights])
    x, over = draw(shape), tuple(axes if axis is axes else axes[:1])
    wanted = (x - x.mean(axis=over, keepdims=True)) / np.sqrt(x.var(axis=over, keepdims=True) + 0.01)
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-9, atol=1e-9)


def test_empty_batch(check_layer):
    check_layer(layers.LayerNormalization, {"axis": [1, 2]}, draw((0, 3, 2)))
    check_layer(layers.UnitNormalization, {}, draw((0, 3)))


@given(shape=SHAPES)
def test_unit_normalization(check_layer, shape):
    _, outputs = check_layer(layers.UnitNormalization, {"axis": [-1]}, draw(shape))
    np.testing.assert_allclose(np.linalg.norm(outputs, axis=-1), 1.0)


@given(shape=SHAPES, data=st.data())
def test_root_mean_square(check_layer, shape, data):
    axes = data.draw(st.lists(st.integers(1, len(shape) - 1), unique=True, min_size=1))
    layer, _ = check_layer(layers.RMSNormalization, {"axis": axes, "epsilon": 0.01}, draw(shape))
    layer.set_weights([np.ones(w.shape) for w in layer.weights])
    x = draw(shape)
    wanted = x / np.sqrt(np.square(x).mean(axis=tuple(axes), keepdims=True) + 0.01)
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-9, atol=1e-9)


def test_renormalisation_starts_as_batch_normalisation_and_ends_as_inference():
    """With statistics of the batch before alone, and of this batch, training computes what inference does."""
    x = draw((64, 3)) * 2 + 1
    layer = layers.BatchNormalization(renorm=True, momentum=0.0, renorm_momentum=0.0, dtype="float64")
    first = np.asarray(layer(x, training=True))  # the statistics of their own are 0 and 1 here, so that nothing changes
    np.testing.assert_allclose(first, x, rtol=1e-9)
    np.testing.assert_allclose(layer.moving_variance, x.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(layer(x, training=True), layer(x), rtol=1e-9)
    limited = layers.BatchNormalization(renorm=True, renorm_clipping={"rmin": 1, "rmax": 1, "dmax": 0}, dtype="float64")
    np.testing.assert_allclose(limited(x, training=True), layers.BatchNormalization(dtype="float64")(x, training=True))


def test_gradients_of_renormalisation():
    """With limits that leave no correction the gradients are those of batch normalisation."""
    found = []
    for arguments in ({"renorm": True, "renorm_clipping": {"rmin": 1, "rmax": 1, "dmax": 0}}, {}):
        layer = layers.BatchNormalization(dtype="float64", **arguments)
        x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(5, 3)))
        with GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(ops.square(layer(x, training=True)) * np.arange(3))
        found.append([np.asarray(g) for g in tape.gradient(loss, [x, layer.gamma, layer.beta])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_unit_normalization_of_zeros():
    layer = layers.UnitNormalization(dtype="float64")
    assert np.array_equal(layer(np.zeros((2, 3))), np.zeros((2, 3)))
    check_gradients(layer, np.full((2, 3), 1e-3))


def test_refused():
    for limits in ({"rmix": 1}, {"rmin": 2, "rmax": 1}, {"dmax": -1}):
        with pytest.raises(ValueError, match=r"renorm_clipping.*, got \{"):
            layers.BatchNormalization(renorm=True, renorm_clipping=limits)
    with pytest.raises(ValueError, match=r"works on axis 3, got inputs of shape \(None, 4\)"):
        layers.BatchNormalization(axis=3)(np.ones((2, 4)))
    with pytest.raises(TypeError, match="integer or a list of them for axis, got '1'"):
        layers.LayerNormalization(axis="1")
    layer = layers.BatchNormalization()
    layer(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"expects inputs with 4 entries along axis -1, got shape \(2, 5\)"):
        layer(np.ones((2, 5)))
