"""Layers of residual branches in networks for pictures."""

import numpy as np
import pytest

import minikeras
from minikeras import ops, registry
from minikeras.autodiff.check import check_gradients
from minikeras.layers.residual import CustomScaleLayer, LayerScale, StochasticDepth


def test_layer_scale():
    layer = LayerScale(0.5, 3)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(layer(x)), 0.5 * x)
    layer.gamma.assign([1, 2, 3])
    np.testing.assert_array_equal(np.asarray(layer(x)), x * [1, 2, 3])
    with pytest.raises(ValueError, match=r"3 factors, got inputs of shape \(None, 4\)"):
        LayerScale(0.5, 3)(np.ones((2, 4)))


def test_stochastic_depth_drops_whole_samples():
    minikeras.utils.set_random_seed(0)
    layer = StochasticDepth(0.25)
    x = np.ones((4000, 2, 3), "f4")
    assert np.array_equal(np.asarray(layer(x)), x)
    y = np.asarray(layer(x, training=True))
    kept = y[:, 0, 0] != 0
    np.testing.assert_array_equal(y, np.where(kept[:, None, None], np.float32(1 / 0.75), 0) * x)
    assert abs(kept.mean() - 0.75) < 0.03  # four standard deviations
    assert np.array_equal(np.asarray(StochasticDepth(1.0)(x, training=True)), 0 * x)


def test_custom_scale():
    x, y = np.ones((2, 3)), np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(np.asarray(CustomScaleLayer(0.5)([x, y])), x + 0.5 * y)


def test_gradients():
    scale, depth, custom = (
        LayerScale(0.5, 3, dtype="float64"),
        StochasticDepth(0.5, dtype="float64"),
        CustomScaleLayer(2.0, dtype="float64"),
    )
    scale.build((2, 3))
    x, y = np.random.default_rng(0).normal(size=(2, 2, 3))
    check_gradients(lambda a, b: ops.sum(custom([scale(a), depth(b)]) ** 2), x, y)


@pytest.mark.parametrize(
    "layer, module",
    [
        (LayerScale(1e-6, 8), "keras.src.applications.convnext"),
        (StochasticDepth(0.1), "keras.src.applications.convnext"),
        (CustomScaleLayer(0.2), "keras.src.applications.inception_resnet_v2"),
    ],
)
def test_files_name_them_as_keras_does(layer, module):
    description = registry.serialize_keras_object(layer)
    assert (description["module"], description["class_name"]) == (module, type(layer).__name__)
    assert registry.deserialize_keras_object(description).get_config() == layer.get_config()
