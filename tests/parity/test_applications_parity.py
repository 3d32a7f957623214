"""Networks for pictures: the same layers as real Keras's in every network, the same numbers in each family."""

from __future__ import annotations

import inspect
import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras.src.backend.jax.core import JaxVariable

import minikeras
from minikeras import applications
from minikeras.initializers import VarianceScaling

TITLES = [name for name in dir(applications) if name[0].isupper()]
MODULES = [name for name in dir(applications) if name[0].islower()]
ENDS = ({"classes": 7}, {"include_top": False, "pooling": "avg", "input_shape": (96, 96, 3)})


@pytest.fixture
def no_values(monkeypatch):
    """Weights of zeros on both sides, which cost nothing to make."""

    def zeros(variable, initializer):
        variable._value = np.zeros(variable._shape, variable._dtype)

    monkeypatch.setattr(JaxVariable, "_initialize_with_initializer", zeros)
    monkeypatch.setattr(VarianceScaling, "draw", lambda self, generator, shape, dtype: np.zeros(shape, dtype))


def build(title, **arguments):
    keras.utils.clear_session()
    minikeras.utils.clear_session()
    return getattr(keras.applications, title)(**arguments), getattr(applications, title)(**arguments)


def without_marks(config):
    """A description without what real Keras writes for some layers only: shapes built for, defaults of `call`."""
    if isinstance(config, list):
        return [without_marks(one) for one in config]
    if not isinstance(config, dict):
        return config
    marks = [("build_config", config.get("build_config")), ("mask", None), ("training", False)]
    skipped = [name for name, mark in marks if name in config and config[name] is mark]
    return {name: without_marks(value) for name, value in config.items() if name not in skipped}


def described(model):
    """Names, classes, settings, wiring, shapes of the outputs and weights of all layers, in order."""
    config = without_marks(json.loads(json.dumps(model.get_config())))
    shapes = [
        (layer.name, tuple(layer.output.shape), [tuple(w.shape) for w in layer.weights]) for layer in model.layers
    ]
    return config, shapes


@pytest.mark.parametrize("number, title", list(enumerate(TITLES)), ids=TITLES)
def test_layers_of_every_network(number, title, no_values):
    """With the classifier and usual sizes, or without it, in turns."""
    theirs, ours = build(title, weights=None, **ENDS[number % 2])
    (their_config, their_shapes), (config, shapes) = described(theirs), described(ours)
    assert shapes == their_shapes
    for layer, expected in zip(config["layers"], their_config["layers"], strict=True):
        assert layer == expected
    assert config == their_config


CHANGES = {
    "MobileNet": [{"alpha": 0.5, "depth_multiplier": 2, "dropout": 0.2}, {"include_top": False, "pooling": "max"}],
    "MobileNetV2": [{"alpha": 1.4, "input_shape": (97, 65, 3), "classifier_activation": None}],
    "MobileNetV3Small": [{"minimalistic": True, "input_shape": (97, 65, 3)}, {"alpha": 1.5, "dropout_rate": 0}],
    "MobileNetV3Large": [{"include_preprocessing": False, "alpha": 0.75}, {"include_top": False, "pooling": "max"}],
    "EfficientNetB0": [{"input_shape": (97, 65, 1)}, {"include_top": False, "pooling": "max"}],
    "EfficientNetV2B0": [{"include_preprocessing": False}, {"input_shape": (64, 64, 1)}, {"include_top": False}],
    "ConvNeXtTiny": [{"include_preprocessing": False}, {"include_top": False}, {"name": "other"}],
    "VGG16": [{"include_top": False}, {"include_top": False, "pooling": "max", "input_shape": (33, 40, 3)}],
    "ResNet50": [{"include_top": False, "pooling": "max"}, {"classifier_activation": None, "name": "other"}],
    "Xception": [{"include_top": False, "pooling": "max"}],
    "InceptionV3": [{"include_top": False, "pooling": "max"}],
    "DenseNet121": [{"include_top": False}],
    "NASNetMobile": [{"include_top": False}, {"include_top": False, "pooling": "max", "input_shape": (97, 97, 3)}],
}


@pytest.mark.parametrize("title", CHANGES)
def test_layers_with_other_arguments(title, no_values):
    for arguments in CHANGES[title]:
        theirs, ours = build(title, weights=None, **arguments)
        assert described(ours) == described(theirs)
        assert ours.name == theirs.name


@pytest.mark.parametrize("title", ["VGG16", "ResNet50V2", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0"])
def test_channels_first(title, no_values, monkeypatch):
    for backend in (keras, minikeras):
        monkeypatch.setattr(backend.config, "image_data_format", backend.config.image_data_format)
        backend.config.set_image_data_format("channels_first")
    try:
        theirs, ours = build(title, weights=None, input_shape=(3, 64, 64))
        assert described(ours) == described(theirs)
    finally:
        for backend in (keras, minikeras):
            backend.config.set_image_data_format("channels_last")


def test_a_tensor_as_the_input(no_values):
    for title, arguments in (("MobileNetV2", {}), ("MobileNetV3Small", {}), ("ResNet50", {"include_top": False})):
        keras.utils.clear_session()
        minikeras.utils.clear_session()
        models = []
        for framework in (keras, minikeras):
            pixels = framework.Input((96, 96, 3))
            tensor = framework.layers.Rescaling(2.0)(pixels)
            models.append(getattr(framework.applications, title)(input_tensor=tensor, weights=None, **arguments))
        assert described(models[1]) == described(models[0])
        assert models[1].name == models[0].name


# ---------------------------------------------------------------- numbers


@pytest.fixture
def random_values(monkeypatch):
    """Weights in real Keras that keep activations alive, made by NumPy: no function is compiled for each shape."""
    generator = np.random.default_rng(0)

    def draw(variable, initializer):
        shape = variable._shape
        if len(shape) > 1:
            value = generator.standard_normal(shape, "f4") * np.float32(np.sqrt(1.5 / np.prod(shape[:-1])))
        elif type(initializer).__name__ == "Ones":
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.1, shape)
        variable._value = np.asarray(value, variable._dtype)

    monkeypatch.setattr(JaxVariable, "_initialize_with_initializer", draw)


def outputs(framework, model):
    return framework.Model(model.inputs, [one.output for one in model.layers if not hasattr(one, "layers")])


def assert_equal_layers(theirs, ours, pixels):
    reference = outputs(keras, theirs)
    found = outputs(minikeras, ours)(pixels, training=False)
    if len(theirs.layers) > 700:  # blocks repeat: one after the other, what is compiled for a block serves the next
        expected = reference([jnp.asarray(pixels)], training=False)
    else:
        parts = reference.trainable_variables, reference.non_trainable_variables
        quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        run = jax.jit(lambda *values: reference.stateless_call(*values, training=False)[0], compiler_options=quick)
        expected = run(*[[one._value for one in part] for part in parts], [pixels])
    for one, other in zip(found, expected, strict=True):
        other = np.asarray(other)
        np.testing.assert_allclose(np.asarray(one), other, rtol=1e-4, atol=1e-5 * max(1e-3, np.abs(other).max()))


FAMILIES = {  # a network, the size of pictures, their largest value, further arguments
    "VGG16": (32, 2, {"include_top": False, "pooling": "avg"}),
    "ResNet50": (32, 2, {"classes": 7}),
    "ResNet50V2": (32, 2, {"include_top": False, "pooling": "max"}),
    "DenseNet121": (32, 2, {"include_top": False, "pooling": "avg"}),
    "Xception": (71, 2, {"include_top": False, "pooling": "avg"}),
    "InceptionV3": (75, 2, {"classes": 7}),
    "InceptionResNetV2": (75, 2, {"include_top": False, "pooling": "max"}),
    "NASNetMobile": (32, 2, {"classes": 7}),
    "MobileNet": (32, 2, {"classes": 7, "alpha": 0.5}),
    "MobileNetV2": (33, 2, {"classes": 7, "alpha": 0.5}),
    "MobileNetV3Small": (33, 255, {"classes": 7}),
    "EfficientNetB0": (33, 255, {"classes": 7}),
    "EfficientNetV2B0": (32, 255, {"classes": 7}),
    "ConvNeXtTiny": (32, 255, {"classes": 7}),
}


@pytest.mark.parametrize("title", FAMILIES)
def test_numbers_of_every_family(title, random_values, tmp_path):
    """Real Keras's `.keras` file opened here, layer by layer; its older `.h5` file as weights of our network."""
    size, largest, arguments = FAMILIES[title]
    arguments = {**arguments, "input_shape": (size, size, 3)}
    theirs = getattr(keras.applications, title)(weights=None, **arguments)
    theirs.save(tmp_path / "theirs.keras")
    theirs.save(tmp_path / "theirs.h5")
    pixels = np.random.default_rng(1).uniform(0, largest, (2, size, size, 3)).astype("f4")
    opened = minikeras.models.load_model(tmp_path / "theirs.keras")
    assert_equal_layers(theirs, opened, pixels)
    made = getattr(applications, title)(weights=tmp_path / "theirs.h5", **arguments)
    np.testing.assert_array_equal(made.predict(pixels, verbose=0), opened.predict(pixels, verbose=0))


@pytest.mark.parametrize("title", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_our_files_in_real_keras(title, tmp_path, random_values):
    size, largest, arguments = FAMILIES[title]
    ours = getattr(applications, title)(weights=None, input_shape=(size, size, 3), **arguments)
    ours.save(tmp_path / "ours.keras")
    ours.save_weights(tmp_path / "ours.weights.h5")
    pixels = np.random.default_rng(1).uniform(0, largest, (2, size, size, 3)).astype("f4")
    assert_equal_layers(keras.models.load_model(tmp_path / "ours.keras"), ours, pixels)
    made = getattr(keras.applications, title)(
        weights=str(tmp_path / "ours.weights.h5"), input_shape=(size, size, 3), **arguments
    )
    for one, other in zip(made.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- pictures and names


def test_every_module_has_what_keras_has():
    for name in MODULES:
        theirs, ours = getattr(keras.applications, name), getattr(applications, name)
        for thing in (one for one in dir(theirs) if not one.startswith("_")):
            expected, found = (inspect.signature(getattr(one, thing)).parameters for one in (theirs, ours))
            assert [(p.name, p.default) for p in found.values()] == [(p.name, p.default) for p in expected.values()]
    for title in TITLES:
        expected = inspect.signature(getattr(keras.applications, title)).parameters.values()
        found = inspect.signature(getattr(applications, title)).parameters.values()
        assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected]


@pytest.mark.parametrize("data_format, shape", [("channels_last", (5, 4, 3)), ("channels_first", (3, 5, 4))])
@pytest.mark.parametrize("name", MODULES)
def test_preprocess_input(name, data_format, shape):
    theirs, ours = getattr(keras.applications, name), getattr(applications, name)
    for batch in ((), (2,)):
        pixels = np.random.default_rng(0).integers(0, 256, batch + shape)
        for dtype in ("float32", "uint8"):
            expected = theirs.preprocess_input(pixels.astype(dtype), data_format=data_format)
            found = ours.preprocess_input(pixels.astype(dtype), data_format=data_format)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        expected = theirs.preprocess_input(jnp.asarray(pixels, "float32"), data_format=data_format)
        found = ours.preprocess_input(minikeras.ops.convert_to_tensor(pixels.astype("f4")), data_format=data_format)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6, atol=1e-6)
        symbol = ours.preprocess_input(minikeras.KerasTensor((None, *shape)), data_format=data_format)
        assert symbol.shape == (None, *shape)


def test_decode_predictions(monkeypatch, tmp_path):
    names = {str(i): [f"n{i:08}", f"thing {i}"] for i in range(1000)}
    (tmp_path / "names.json").write_text(json.dumps(names))
    monkeypatch.setattr("keras.src.applications.imagenet_utils.CLASS_INDEX", names)
    monkeypatch.setattr(applications.imagenet_utils, "fetch", lambda *file: str(tmp_path / "names.json"))
    predictions = np.random.default_rng(0).permutation(2000).reshape(2, 1000).astype("f4")
    for arguments in ({}, {"top": 3}):
        expected = keras.applications.imagenet_utils.decode_predictions(predictions, **arguments)
        assert applications.resnet50.decode_predictions(predictions, **arguments) == expected


@pytest.mark.parametrize(
    "title, arguments",
    [
        ("ResNet50", {"weights": "none.h5"}),
        ("ResNet50", {"weights": "imagenet", "classes": 10}),
        ("ResNet50", {"weights": "imagenet", "input_shape": (32, 32, 3)}),
        ("ResNet50", {"weights": "imagenet", "include_top": False, "input_shape": (32, 32, 4)}),
        ("ResNet50", {"weights": "imagenet", "classifier_activation": "relu"}),
        ("ResNet50", {"weights": None, "input_shape": (31, 32, 3)}),
        ("ResNet50", {"weights": None, "input_shape": (32, 32)}),
        ("ResNet50", {"weights": None, "input_shape": (None, None, 3)}),
        ("Xception", {"weights": None, "include_top": False, "input_shape": (70, 80, 3)}),
        ("MobileNet", {"weights": "imagenet", "alpha": 0.3}),
        ("MobileNet", {"weights": "imagenet", "depth_multiplier": 2}),
        ("MobileNetV2", {"weights": "imagenet", "alpha": 0.3}),
        ("MobileNetV3Small", {"weights": "imagenet", "alpha": 0.75, "minimalistic": True}),
        ("MobileNetV3Small", {"weights": None, "input_shape": (31, 32, 3)}),
    ],
)
def test_refusals(title, arguments, no_values):
    """Where real Keras refuses, before anything is fetched."""
    for framework in (keras, minikeras):
        with pytest.raises(ValueError):
            getattr(framework.applications, title)(**arguments)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_network_with_random_layers_in_front(ending, tmp_path):
    """As transfer learning builds them: pictures are changed in training alone."""
    L = keras.layers
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35)
    front = [keras.Input((32, 32, 3)), L.RandomFlip(), L.RandomRotation(0.1), L.Rescaling(1 / 127.5, offset=-1)]
    theirs = keras.Sequential([*front, base, L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(3)])
    theirs.compile("adam", "mse")
    theirs.save(tmp_path / f"theirs{ending}")
    ours = minikeras.models.load_model(tmp_path / f"theirs{ending}")
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    wanted = theirs.predict(pictures, verbose=0)
    np.testing.assert_allclose(ours.predict(pictures, verbose=0), wanted, rtol=1e-5, atol=1e-6)
    ours.save(tmp_path / f"ours{ending}")
    again = keras.models.load_model(tmp_path / f"ours{ending}")
    np.testing.assert_allclose(again.predict(pictures, verbose=0), wanted, rtol=1e-5, atol=1e-6)
