"""Lambda: functions as layers, their masks and shapes, and that no description brings a function back."""

import numpy as np
import pytest

from minikeras import Model, Sequential, layers, models, ops, saving
from minikeras import kernels as k
from minikeras.autodiff import Tensor, backward, recording


def double(x, factor=2.0):
    return x * factor


def test_values_and_gradients():
    x = Tensor(k.to_device(np.float32([[1, 2], [3, 4]])), tracked=True)
    with recording():
        y = layers.Lambda(lambda x: ops.square(x) * 3.0)(x)
    np.testing.assert_allclose(k.to_host(backward(y, [x], k.xp.ones((2, 2), "float32"))[0]), 6 * np.asarray(x))


def test_training_and_mask_are_passed_on(masked):
    seen = []

    def look(x, training=None, mask=None):
        seen.append((training, None if mask is None else np.asarray(mask).tolist()))
        return x * 1.0

    layer = layers.Lambda(look, mask=lambda inputs, mask: mask)
    outputs = layer(masked(np.ones((1, 2, 3), "float32"), [[True, False]]), training=True)
    assert seen == [(True, [[True, False]])]
    np.testing.assert_array_equal(outputs._keras_mask, [[True, False]])
    assert layers.Lambda(look)(masked(np.ones((1, 2, 3), "float32"), [[True, False]]))._keras_mask is None


def test_in_models():
    model = Sequential([layers.Input((4, 3)), layers.Lambda(lambda x: ops.sum(x, axis=1)), layers.Dense(2)])
    assert model.layers[0].output.shape == (None, 3)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4, 3)), np.zeros((8, 2)), verbose=0)
    inputs = layers.Input((4,))
    outputs = layers.Lambda(lambda pair: pair[0] + pair[1], output_shape=(4,))([inputs, inputs])
    np.testing.assert_array_equal(Model(inputs, outputs)(np.ones((2, 4))), 2 * np.ones((2, 4)))
    assert layers.Lambda(lambda x: ops.cast(x, "int32"))(layers.Input((2,))).dtype == "int32"
    pair = layers.Lambda(lambda x: [x, x], output_shape=[(2,), (2,)])
    assert pair.compute_output_shape((None, 2)) == [(None, 2), (None, 2)]


def test_summary(capsys):
    Sequential([layers.Input((4,)), layers.Lambda(double, name="twice")]).summary()
    assert "twice (Lambda)" in capsys.readouterr().out


def test_predictions_look_at_the_function_each_time():
    calls = []
    model = Sequential([layers.Input((2,)), layers.Lambda(lambda x: calls.append(1) or x * float(len(calls)))])
    x = np.ones((1, 2), "float32")
    first, second, third = (model.predict_on_batch(x)[0, 0] for _ in range(3))
    assert first < second < third


@pytest.mark.parametrize("name", ["double", "square>function"])
def test_files_name_functions_and_the_user_passes_them(name, tmp_path):
    layer = layers.Lambda(double if name == "double" else lambda x: x * 2.0, name="square")
    Sequential([layers.Input((3,)), layer]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"never taken from a description; pass it as custom_objects=.'{name}'"):
        models.load_model(tmp_path / "model.keras", safe_mode=False)
    opened = models.load_model(tmp_path / "model.keras", custom_objects={name: lambda x: x * 5.0})
    np.testing.assert_array_equal(opened(np.ones((1, 3))), [[5, 5, 5]])


CODE = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None, "closure": None}}


@pytest.mark.parametrize(
    "config",
    [
        {"function": CODE},
        {"function": ["4wE=", None, None], "function_type": "lambda"},
        {"function": "relu", "function_type": "function"},
        {"function": {"module": "os", "class_name": "function", "config": "system"}},
        {"function": {"module": "builtins", "class_name": "function", "config": "double"}, "output_shape": CODE},
        {"function": {"module": "builtins", "class_name": "function", "config": "double"}, "mask": CODE},
        {"function": None},
        {},
    ],
)
def test_no_description_brings_a_function_back(config):
    with saving.custom_object_scope({"double": double}):
        for restore in (layers.Lambda.from_config, from_description):
            with pytest.raises(ValueError, match="never taken from a description"):
                restore({"name": "evil", **config})


def from_description(config):
    return saving.deserialize_keras_object(
        {"module": "keras.layers", "class_name": "Lambda", "config": config}, safe_mode=False
    )


def test_functions_may_be_passed_with_the_description():
    description = layers.Lambda(double).get_config()
    layer = layers.Lambda.from_config(description, custom_objects={"double": double})
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[2, 2, 2]])
    with pytest.raises(ValueError, match="never taken from a description"):
        layers.Lambda.from_config(description, safe_mode=False)


def test_what_is_refused():
    with pytest.raises(TypeError, match="makes a layer of a function, got 3"):
        layers.Lambda(3)
    with (
        saving.custom_object_scope({"double": double}),
        pytest.raises(ValueError, match=r"unknown entries \['script'\]"),
    ):
        layers.Lambda.from_config({**layers.Lambda(double).get_config(), "script": "x"})
    with saving.custom_object_scope({"double": double}):
        layer = layers.Lambda.from_config(layers.Lambda(double, (3,), arguments={"factor": 4.0}).get_config())
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[4, 4, 4]])
    assert layer.compute_output_shape((None, 5)) == (None, 3)
