"""Number types of layers: names, the global one, one for each path, their descriptions."""

import json

import pytest

from minikeras import DTypePolicy, Sequential, config, dtype_policies, layers, mixed_precision, saving, utils
from minikeras.dtype_policies import DTypePolicyMap


@pytest.fixture(autouse=True)
def the_usual_policy():
    yield
    config.reset_dtype_policy()


@pytest.mark.parametrize(
    ("name", "compute", "variable"),
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("int8", "int8", "int8"),
    ],
)
def test_names(name, compute, variable):
    policy = DTypePolicy(name)
    assert (policy.name, policy.compute_dtype, policy.variable_dtype) == (name, compute, variable)
    assert policy.quantization_mode is None
    assert repr(policy) == f'<DTypePolicy "{name}">'
    assert policy == dtype_policies.get(name) == dtype_policies.FloatDTypePolicy(name) != DTypePolicy("float64")
    assert len({policy, DTypePolicy(name)}) == 1
    for description in (dtype_policies.serialize(policy), saving.serialize_keras_object(policy)):
        assert dtype_policies.deserialize(json.loads(json.dumps(description))) == policy
        assert saving.deserialize_keras_object(description) == policy == dtype_policies.get(description)


def test_refused():
    with pytest.raises(TypeError, match="has a name such as 'mixed_bfloat16', got 5"):
        DTypePolicy(5)
    for name in ("mixed_float32", "mixed_", "half", "int8_from_float32"):
        with pytest.raises(ValueError, match=f"number type such as 'float32', .* got '{name}'"):
            DTypePolicy(name)
        with pytest.raises(ValueError, match=name):
            config.set_dtype_policy(name)
    for wrong in (None, 5, object):
        with pytest.raises(ValueError, match="a DTypePolicy or its name"):
            config.set_dtype_policy(wrong)
    with pytest.raises(ValueError, match="names one of DTypePolicy, FloatDTypePolicy, DTypePolicyMap, got"):
        dtype_policies.deserialize({"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}})
    with pytest.raises(ValueError, match="a dtype policy can be described"[2:]):
        dtype_policies.serialize("float32")
    with pytest.raises(ValueError, match="is the name of a number type"):
        layers.Dense(2, dtype=object())
    assert config.dtype_policy() == DTypePolicy("float32")


def test_the_global_policy():
    assert config.dtype_policy().name == config.floatx()
    mixed_precision.set_global_policy("mixed_bfloat16")
    assert mixed_precision.global_policy() is config.dtype_policy() == mixed_precision.Policy("mixed_bfloat16")
    layer = layers.Dense(3)
    assert (layer.dtype, layer.variable_dtype, layer.compute_dtype, layer.input_dtype) == (
        *("float32", "float32", "bfloat16", "bfloat16"),
    )
    assert layers.Dense(3, dtype="float64").compute_dtype == "float64"
    assert config.floatx() == "float32"
    utils.clear_session()
    assert layers.Dense(3).dtype_policy == DTypePolicy("float32")
    assert layer.dtype_policy.name == "mixed_bfloat16"
    assert "LossScaleOptimizer" in dir(mixed_precision)


def test_a_map():
    policies = DTypePolicyMap("float32", {"a/b": "float64", "a/.*": DTypePolicy("mixed_bfloat16")})
    assert policies["a/b"].name == "float64"
    assert policies["a/c"].name == "mixed_bfloat16"
    assert policies["a"].name == policies["b/a/c"].name == "float32"
    assert (policies.name, policies.compute_dtype, policies.variable_dtype) == ("map_float32", "float32", "float32")
    assert list(policies) == ["a/b", "a/.*"]
    assert len(policies) == 2
    assert "a/b" in policies and "a/c" not in policies
    policies["a/c.*"] = "float16"
    with pytest.raises(ValueError, match=r"'a/c' fits the keys \['a/\.\*', 'a/c\.\*'\]"):
        policies["a/c"]
    del policies["a/c.*"]
    with pytest.raises(ValueError, match="has the key 'a/b' already"):
        policies["a/b"] = "float16"
    with pytest.raises(ValueError, match="no map"):
        DTypePolicyMap(policies)
    with pytest.raises(TypeError, match="a dict of policies by paths"):
        DTypePolicyMap(policy_map=["float32"])
    description = json.loads(json.dumps(saving.serialize_keras_object(policies)))
    restored = saving.deserialize_keras_object(description)
    assert restored == policies != DTypePolicyMap("float32")
    assert restored["a/c"] == policies["a/c"]
    assert "default_policy=float32, mapping=[('a/b', 'float64')" in repr(policies)


def test_a_map_follows_the_global_policy():
    policies = DTypePolicyMap()
    config.set_dtype_policy("mixed_float16")
    assert policies.compute_dtype == policies["any"].compute_dtype == "float16"
    assert DTypePolicyMap.from_config(policies.get_config()).get_config()["default_policy"] is None


def test_layers_find_their_policies_by_their_paths():
    policies = DTypePolicyMap("float32", {"(model/)?second": "mixed_bfloat16", "model/third": "float64"})
    stack = [layers.Dense(2, name=name, dtype=policies) for name in ("first", "second", "third")]
    model = Sequential([layers.Input((4,)), *stack], name="model")
    assert [layer.path for layer in stack] == ["model/first", "model/second", "model/third"]
    assert [layer.compute_dtype for layer in stack] == ["float32", "bfloat16", "float64"]
    assert [layer.kernel.dtype for layer in stack] == ["float32", "float32", "float64"]
    assert model.output.dtype == "float64"
    copy = Sequential.from_config(model.get_config())  # which builds each layer before the model has it, as Keras does
    assert [layer.path for layer in copy.layers] == ["first", "second", "third"]
    assert [layer.compute_dtype for layer in copy.layers] == ["float32", "bfloat16", "float32"]
    stack[0].dtype_policy = "float16"
    assert (policies["model/first"].name, stack[0].compute_dtype) == ("float16", "float16")
    stack[0].dtype_policy = "mixed_bfloat16"
    assert (policies["model/first"].name, stack[0].compute_dtype) == ("mixed_bfloat16", "bfloat16")


def test_the_policy_of_a_layer_may_be_replaced():
    layer = layers.Dense(2)
    layer.dtype_policy = "mixed_bfloat16"
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    assert layer(layers.Input((3,))).dtype == "bfloat16"
