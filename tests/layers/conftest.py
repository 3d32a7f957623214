"""`check_layer`: what must hold for every layer, whatever its mathematics."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minikeras.autodiff import Tensor, check_gradients
from minikeras.layers import Input
from minikeras.ops import convert_to_tensor


@pytest.fixture(scope="session")
def check_layer() -> Callable[..., Any]:
    """A function that checks a layer of a class, its arguments and float64 inputs (an array or a list of them):

    the outputs have the shape that `compute_output_shape` and the symbolic call promise, a layer made from the
    configuration computes the same with the same weights, and the gradients are right.  Returns (layer, outputs).
    """
    return _check_layer


def _check_layer(cls: type, arguments: dict[str, Any], inputs: Any, training: bool = False, **call: Any) -> Any:
    layer = cls(dtype="float64", **arguments)
    if "training" in inspect.signature(layer.call).parameters:
        call["training"] = training
    arrays = inputs if isinstance(inputs, list) else [inputs]

    def together(values: Any) -> Any:
        return list(values) if isinstance(inputs, list) else next(iter(values))

    outputs = layer(inputs, **call)
    _set_random_weights(layer)
    outputs = layer(inputs, **call)
    shape = tuple(outputs.shape)
    assert np.asarray(outputs).dtype == "float64"
    assert tuple(layer.compute_output_shape(together(x.shape for x in arrays))) == shape

    symbolic = layer(together(Input(x.shape[1:], dtype="float64") for x in arrays))
    assert symbolic.shape == (None, *shape[1:])
    assert symbolic.dtype == "float64"

    config = json.dumps(layer.get_config())
    copy = cls.from_config(json.loads(config))
    assert json.dumps(copy.get_config()) == config
    copy(inputs, **call)
    assert [w.path for w in copy.weights] == [w.path for w in layer.weights]
    copy.set_weights(layer.get_weights())
    assert np.array_equal(copy(inputs, **call), layer(inputs, **call), equal_nan=True)

    check_gradients(
        lambda *values: layer(together(values), **call), *arrays, variables=layer.trainable_variables, rtol=1e-4
    )
    return layer, np.asarray(layer(inputs, **call))


def _set_random_weights(layer: Any) -> None:
    """Positive numbers, which a variance must be too."""
    rng = np.random.default_rng(0)
    layer.set_weights([rng.uniform(0.2, 1.5, w.shape).astype(w.dtype) for w in layer.weights])


@pytest.fixture(scope="session")
def masked() -> Callable[..., Tensor]:
    """A function that makes a tensor with a mask."""

    def make(values: Any, mask: Any) -> Tensor:
        tensor = convert_to_tensor(np.asarray(values))
        tensor._keras_mask = convert_to_tensor(np.asarray(mask, "bool"))
        return tensor

    return make
