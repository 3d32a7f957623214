"""Descriptions: what can be described comes back, what is not known or is code never does."""

import json
import subprocess
import sys

import numpy as np
import pytest

import minikeras
from minikeras import layers, limits, registry
from minikeras.registry import (
    custom_object_scope,
    deserialize_keras_object,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)


def through_json(thing):
    return deserialize_keras_object(json.loads(json.dumps(serialize_keras_object(thing))))


@register_keras_serializable("registry_tests")
class Doubled(layers.Layer):
    def __init__(self, inner=None, times=2, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.times = inner, times

    def call(self, x):
        return self.inner(x) * self.times


@register_keras_serializable("registry_tests", name="squared")
def square_function(x):
    return x * x


class Unregistered(layers.Layer):
    def call(self, x):
        return x


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "text", [1, [2, None]], {"a": {"b": 1.5}}])
def test_plain_values(value):
    assert through_json(value) == value


def test_special_values():
    assert through_json(slice(1, None, 2)) == slice(1, None, 2)
    assert through_json(Ellipsis) is Ellipsis
    assert through_json(b"bytes") == b"bytes"
    assert through_json(np.float32(0.25)) == 0.25
    assert serialize_keras_object(np.dtype("float32")) == "float32"
    array = through_json(np.arange(6, dtype="int16").reshape(2, 3))
    assert array.dtype == np.int16 and array.tolist() == [[0, 1, 2], [3, 4, 5]]
    tensor = through_json(minikeras.ops.convert_to_tensor([1.0, 2.0]))
    assert tensor.numpy().tolist() == [1.0, 2.0]


def test_users_class_with_a_layer_as_argument():
    layer = through_json(Doubled(layers.Dense(3, name="inside"), times=5, name="outside"))
    assert type(layer) is Doubled and layer.name == "outside" and layer.times == 5
    assert isinstance(layer.inner, layers.Dense) and layer.inner.name == "inside"


def test_class_whose_constructor_takes_nothing_else():
    @register_keras_serializable("registry_tests")
    class Bare(layers.Layer):
        def __init__(self):
            super().__init__()

        def call(self, x):
            return x

    layer = Bare()
    layer.trainable = False
    copy = through_json(layer)
    assert copy.name == layer.name and not copy.trainable


def test_users_function():
    layer = through_json(layers.Dense(2, activation=square_function))
    assert layer.activation is square_function
    assert get_registered_name(square_function) == "registry_tests>squared"
    assert get_registered_object("registry_tests>squared") is square_function


def test_unregistered_class_needs_custom_objects():
    description = serialize_keras_object(Unregistered(name="u"))
    with pytest.raises(ValueError, match="neither built in nor registered"):
        deserialize_keras_object(description)
    assert type(deserialize_keras_object(description, custom_objects={"Unregistered": Unregistered})) is Unregistered
    with custom_object_scope({"Unregistered": Unregistered}):
        assert type(deserialize_keras_object(description)) is Unregistered
    with pytest.raises(ValueError, match="neither built in nor registered"):
        deserialize_keras_object(description)


def test_lambdas_are_not_described():
    with pytest.raises(ValueError, match="without a name"):
        serialize_keras_object(layers.Dense(2, activation=lambda x: x))


def test_what_has_no_config_is_not_described():
    with pytest.raises(TypeError, match="get_config"):
        serialize_keras_object(object())


def test_class_without_config_is_not_registered():
    with pytest.raises(ValueError, match="get_config"):
        register_keras_serializable()(type("NoConfig", (), {}))


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}}

REFUSED = {
    "module of the standard library": {"module": "subprocess", "class_name": "Popen", "config": {"args": "id"}},
    "function of the standard library": {"module": "os", "class_name": "function", "config": "system"},
    "builtins": {"module": "builtins", "class_name": "eval", "config": {}},
    "keras's own functions": {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://x"}},
    "class of another module": {**DENSE, "module": "keras.src.layers"},
    "lambda": {"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}},
    "type specification": {"class_name": "__typespec__", "config": {}},
    "lambda layer": {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "x"}},
    "built-in under another name": {**DENSE, "registered_name": "registry_tests>Doubled"},
    "unknown argument": {**DENSE, "config": {"units": 2, "evil": 1}},
    "unknown entry": {**DENSE, "script": "x"},
    "missing argument": {**DENSE, "config": {"name": "d"}},
    "argument of another type": {**DENSE, "config": {"units": "many"}},
    "config that is none": {**DENSE, "config": [2]},
    "module that is none": {**DENSE, "module": ["keras.layers"]},
    "class that is none": {**DENSE, "class_name": 3},
    "objects in an array": {"class_name": "__numpy__", "config": {"value": ["x"], "dtype": "object"}},
    "unknown function": {"module": "builtins", "class_name": "function", "config": "nowhere"},
    "function that is none": {"module": "builtins", "class_name": "function", "config": ["relu"]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(ValueError) as error:
        deserialize_keras_object(REFUSED[name])
    assert "\n" not in str(error.value)


def test_nothing_in_a_description_makes_it_safe():
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match="never loaded"):
            deserialize_keras_object(REFUSED["lambda"], safe_mode=safe_mode)


def test_an_object_described_twice_stays_one():
    shared = layers.Dense(2)
    both = registry.describe_whole([shared, layers.Dense(3), shared])
    assert [("shared_object_id" in part) for part in both] == [True, False, True]
    with registry.object_sharing():
        first, second, third = deserialize_keras_object(both)
    assert first is third and second is not first


def test_weights_count_before_they_are_made():
    with limits.allowing(40), pytest.raises(ValueError, match=r"36 bytes for a weight of shape \(3, 3\)|12 bytes"):
        layers.Dense(3).build((None, 3))


def test_layers_of_applications_are_known_from_the_start():
    """A file is opened by a program that has not touched `applications`."""
    code = "from minikeras import layers, registry; "
    code += "print(registry.builtin_class('keras.src.applications.convnext', 'LayerScale'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LayerScale" in done.stdout
