"""Convolutions with a kernel for every place, against loops over the places."""

import itertools

import numpy as np
import pytest

from minikeras import layers
from minikeras.layers.local import LocallyConnected2D

RNG = np.random.default_rng(3)


def by_place(x, kernel, bias, size, strides, channels_first):
    """The loop; the kernel's rows are in the order of a window's values in memory."""
    places = [
        range(0, n - m + 1, s)
        for n, m, s in zip(x.shape[2:][: len(size)] if channels_first else x.shape[1:-1], size, strides, strict=True)
    ]
    rows = []
    for number, starts in enumerate(itertools.product(*places)):
        window = tuple(slice(start, start + m) for start, m in zip(starts, size, strict=True))
        patch = x[(slice(None), slice(None), *window) if channels_first else (slice(None), *window)]
        rows.append(patch.reshape(len(x), -1) @ kernel[number])
    y = np.stack(rows, axis=1).reshape(len(x), *map(len, places), -1) + bias
    return np.moveaxis(y, -1, 1) if channels_first else y


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("size", "strides"), [((3,), (2,)), ((2, 3), (1, 2))])
def test_values_and_gradients(check_layer, size, strides, data_format):
    rank, first = len(size), data_format == "channels_first"
    shape = (2, 3, 7, 6)[: 2 + rank] if first else (2, *(7, 6)[:rank], 3)
    arguments = {"filters": 4, "kernel_size": size, "strides": strides, "data_format": data_format}
    x = RNG.normal(size=shape)
    layer, outputs = check_layer(getattr(layers, f"LocallyConnected{rank}D"), arguments, x)
    np.testing.assert_allclose(outputs, by_place(x, *layer.get_weights(), size, strides, first), rtol=1e-9)


def test_same_padding_is_that_of_convolutions(check_layer):
    x = RNG.normal(size=(2, 7, 6, 2))
    arguments = {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "tanh"}
    layer, outputs = check_layer(layers.LocallyConnected2D, arguments, x)
    usual = layers.Conv2D(**arguments, dtype="float64")
    usual.build(x.shape)
    kernel, bias = usual.get_weights()
    layer.set_weights([np.broadcast_to(kernel.reshape(18, 3), (12, 18, 3)), np.broadcast_to(bias, (4, 3, 3))])
    np.testing.assert_allclose(layer(x), usual(x), rtol=1e-9)
    assert outputs.shape == usual(x).shape


def test_arguments():
    assert LocallyConnected2D is layers.LocallyConnected2D
    assert layers.LocallyConnected1D(2, 3, implementation=3).get_config()["implementation"] == 3
    with pytest.raises(ValueError, match=r"implementation.*got 4"):
        layers.LocallyConnected1D(2, 3, implementation=4)
    with pytest.raises(ValueError, match="known size along axis 1"):
        layers.LocallyConnected1D(2, 3)(layers.Input((None, 4)))
    layer = layers.LocallyConnected1D(2, 3, use_bias=False)
    layer(np.ones((1, 5, 2)))
    assert [w.shape for w in layer.weights] == [(3, 6, 2)]
