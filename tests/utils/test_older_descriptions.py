"""Descriptions without a module: `utils.legacy`."""

from __future__ import annotations

import pytest

from minikeras import initializers, layers
from minikeras.utils import legacy


def test_there_and_back():
    described = legacy.serialize_keras_object(initializers.Constant(3.0))
    assert described == {"class_name": "Constant", "config": {"value": 3.0}}
    again = legacy.deserialize_keras_object(described, module_objects=vars(initializers))
    assert again.value == 3.0
    assert legacy.serialize_keras_object(None) is None
    assert legacy.serialize_keras_object(len) == "len"
    assert legacy.deserialize_keras_object("len", custom_objects={"len": len}) is len
    assert isinstance(legacy.deserialize_keras_object("Flatten", {"Flatten": layers.Flatten}), layers.Flatten)
    assert legacy.deserialize_keras_object(len) is len


def test_what_is_not_known():
    with pytest.raises(ValueError, match="Unknown layer 'Flaten'; did you mean 'Flatten'"):
        legacy.deserialize_keras_object("Flaten", {"Flatten": layers.Flatten}, printable_module_name="layer")
    with pytest.raises(ValueError, match="cannot be described"):
        legacy.serialize_keras_object(3)
