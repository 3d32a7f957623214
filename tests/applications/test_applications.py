"""Networks for pictures: arguments, files of weights, pictures and names.  Layers are compared with real Keras."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import applications, layers
from minikeras.applications import imagenet_utils
from minikeras.applications.blocks import Style, correct_pad, divisible
from minikeras.applications.sums import SUMS

TITLES = [name for name in dir(applications) if name[0].isupper()]
TINY = {"weights": None, "input_shape": (32, 32, 3), "alpha": 0.25, "classes": 5}


def tiny(**arguments):
    return applications.MobileNet(**{**TINY, **arguments})


@pytest.fixture(scope="module")
def network():
    return tiny()


PIXELS = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("f4")


def test_nothing_is_loaded_before_it_is_wanted():
    code = "import sys; from minikeras import Sequential, layers; print('minikeras.applications' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_way_to_a_network():
    from minikeras.applications.resnet50 import ResNet50, preprocess_input

    assert ResNet50 is applications.ResNet50 is applications.resnet.ResNet50 is applications.resnet50.ResNet50
    assert applications.vgg16.VGG16 is applications.VGG16 and not hasattr(applications.vgg16, "VGG19")
    assert preprocess_input is not applications.xception.preprocess_input
    assert pickle.loads(pickle.dumps(ResNet50)) is ResNet50
    assert len(TITLES) == 40
    for title in TITLES:
        function = getattr(applications, title)
        assert function.__name__ == title and inspect.getdoc(function).startswith(f"{title} (")
        assert "{" not in function.__doc__


def test_one_network_of_each_kind_predicts():
    for title, size in (("ResNet50V2", 32), ("EfficientNetV2B0", 32), ("NASNetMobile", 33)):
        model = getattr(applications, title)(
            weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3)
        )
        assert np.isfinite(model.predict(np.zeros((1, size, size, 3)), verbose=0)).all()


def test_training_moves_all_weights(network):
    model = tiny(dropout=0.5)
    before = [one.numpy().copy() for one in model.trainable_weights]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(PIXELS, np.array([0, 1]), verbose=0)
    assert all((one.numpy() != old).any() for one, old in zip(model.trainable_weights, before, strict=True))


def test_names_that_people_ask_for(network):
    assert network.name == "mobilenet_0.25_32"
    assert network.get_layer("conv_pw_13_relu").output.shape == (None, 1, 1, 256)
    vgg = applications.VGG16(weights=None, include_top=False)
    assert vgg.get_layer("block5_conv3").output.shape == (None, None, None, 512)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "title, arguments, message",
    [
        (
            "ResNet50",
            {"weights": "nowhere.h5"},
            "ResNet50 takes weights=None, 'imagenet' or the path of a file, got 'no",
        ),
        ("ResNet50", {"weights": 3}, "got 3"),
        ("VGG16", {"classes": 10}, "VGG16 of ImageNet has 1000 classes, got classes=10"),
        ("VGG16", {"classifier_activation": "relu"}, "classifier_activation='softmax' or None"),
        ("VGG16", {"weights": None, "pooling": "mean"}, "VGG16's pooling must be None, 'avg' or 'max', got 'mean'"),
        ("VGG16", {"weights": None, "classes": 0}, "classes must be a positive whole number, got 0"),
        ("VGG16", {"weights": None, "include_top": "no"}, "include_top must be True or False"),
        (
            "VGG16",
            {"weights": None, "input_shape": (31, 32, 3)},
            r"at least 32x32 large, got input_shape=\(31, 32, 3\)",
        ),
        ("VGG16", {"weights": None, "input_shape": (32, 32)}, "three integers"),
        ("VGG16", {"weights": None, "input_shape": (None, 32, 3)}, "sizes must be known"),
        ("VGG16", {"input_shape": (32, 32, 3)}, r"input_shape must be \(224, 224, 3\)"),
        ("VGG16", {"include_top": False, "input_shape": (32, 32, 1)}, "have 3 channels"),
        ("VGG16", {"weights": None, "input_tensor": np.ones((1, 32, 32, 3))}, "symbolic tensor"),
        ("MobileNet", {"alpha": 0.3}, r"weights for alpha in \(0.25, 0.5, 0.75, 1.0\), got 0.3"),
        ("MobileNet", {"alpha": 0}, "alpha must be .* got 0"),
        ("MobileNet", {"depth_multiplier": 2}, "depth_multiplier=1, got 2"),
        ("MobileNetV3Large", {"alpha": 0.75, "minimalistic": True}, "alpha in"),
        ("NASNetMobile", {"weights": None, "include_top": False, "input_shape": (None, 32, 3)}, "sizes must be known"),
    ],
)
def test_refusals(title, arguments, message, monkeypatch):
    monkeypatch.setattr(imagenet_utils, "fetch", lambda *file: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=message):
        getattr(applications, title)(**arguments)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="alpha"):
        applications.VGG16(alpha=1)


def test_shapes_that_contradict_a_tensor():
    with pytest.raises(ValueError, match="contradicts"):
        applications.MobileNetV2(input_tensor=minikeras.Input((96, 96, 3)), input_shape=(32, 32, 3), weights=None)


def test_formats_that_a_family_does_not_take():
    minikeras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="'channels_last' only"):
            applications.DenseNet121(weights=None)
        shape = tiny(include_top=False, input_shape=(3, 32, 32)).output_shape
    finally:
        minikeras.config.set_image_data_format("channels_last")
    assert shape == (None, 256, 1, 1)


def test_unusual_channels_warn():
    with pytest.warns(UserWarning, match="1 or 3 channels"):
        assert tiny(input_shape=(32, 32, 4)).input_shape == (None, 32, 32, 4)


def test_a_tensor_as_the_input():
    pixels = minikeras.Input((32, 32, 3))
    model = tiny(input_tensor=layers.Rescaling(2.0)(pixels))
    assert model.layers[1].name.startswith("rescaling") and model.inputs[0] is pixels


# ---------------------------------------------------------------- weights


def older_file(path, model, group="", names=None):
    """A file of Keras 2's layout."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        root.attrs["layer_names"] = [name.encode() for name in (names or [layer.name for layer in model.layers])]
        for layer in model.layers:
            part = root.create_group(layer.name)
            weights = [*layer.trainable_weights, *layer.non_trainable_weights]
            part.attrs["weight_names"] = [f"{layer.name}/w{i}:0".encode() for i in range(len(weights))]
            for i, weight in enumerate(weights):
                part[f"{layer.name}/w{i}:0"] = weight.numpy()
    return path


def test_weights_from_a_file_of_each_kind(network, tmp_path):
    network.save(tmp_path / "m.keras")
    network.save_weights(tmp_path / "m.weights.h5")
    older_file(tmp_path / "m.h5", network)
    older_file(tmp_path / "whole.h5", network, "model_weights")
    for name in ("m.keras", "m.weights.h5", "m.h5", "whole.h5"):
        model = tiny(weights=str(tmp_path / name))
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), network.get_weights(), strict=True)), name


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder in place of the network, and an empty cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imagenet_utils, "STORE", (tmp_path / "store").as_uri() + "/")
    return tmp_path / "store"


def test_weights_of_imagenet_are_fetched_once_and_checked(store, tmp_path, monkeypatch):
    arguments = {"include_top": False, "input_shape": (224, 224, 3)}
    model = applications.MobileNetV3Small(weights=None, **arguments)
    name = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"
    folder = store / "tensorflow" / "keras-applications" / "mobilenet_v3"
    folder.mkdir(parents=True)
    older_file(folder / name, model)
    with pytest.raises(ValueError, match="MD5 sum"):
        applications.MobileNetV3Small(**arguments)
    assert not list((tmp_path / "cache").rglob("*.h5"))
    monkeypatch.setitem(SUMS, "small_224_1.0", ["0" * 32, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    fetched = applications.MobileNetV3Small(**arguments)
    (folder / name).unlink()
    for one in (fetched, applications.MobileNetV3Small(**arguments)):
        assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), model.get_weights(), strict=True))
    with pytest.raises(OSError, match="could not be fetched"):
        applications.MobileNetV3Small(input_shape=(224, 224, 3))


@pytest.mark.parametrize(
    "title, arguments, name, folder",
    [
        (
            "VGG19",
            {"include_top": False},
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "tensorflow/keras-applications/vgg19/",
        ),
        ("MobileNet", {"alpha": 0.75}, "mobilenet_7_5_224_tf.h5", "tensorflow/keras-applications/mobilenet/"),
        (
            *("MobileNet", {"alpha": 1, "include_top": False, "input_shape": (128, 128, 3)}),
            *("mobilenet_1_0_128_tf_no_top.h5", "tensorflow/keras-applications/mobilenet/"),
        ),
        (
            *("MobileNetV2", {"alpha": 1}, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"),
            "tensorflow/keras-applications/mobilenet_v2/",
        ),
        (
            *("MobileNetV3Small", {"input_shape": (224, 224, 3), "minimalistic": True, "include_top": False}),
            *("weights_mobilenet_v3_small_minimalistic_224_1.0_float_no_top_v2.h5",),
            "tensorflow/keras-applications/mobilenet_v3/",
        ),
        ("EfficientNetB0", {}, "efficientnetb0.h5", "keras-applications/"),
        ("EfficientNetV2B0", {}, "efficientnetv2-b0.h5", "tensorflow/keras-applications/efficientnet_v2/"),
        ("NASNetMobile", {"include_top": False}, "nasnet_mobile_no_top.h5", "tensorflow/keras-applications/nasnet/"),
        (
            "InceptionV3",
            {},
            "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
            "tensorflow/keras-applications/inception_v3/",
        ),
    ],
)
def test_where_weights_come_from(title, arguments, name, folder, monkeypatch):
    asked = []

    def fetch(*file):
        asked.append(file)
        raise OSError("enough")

    monkeypatch.setattr("minikeras.applications.family.fetch", fetch)
    monkeypatch.setattr(
        "minikeras.initializers.VarianceScaling.draw", lambda self, generator, shape, t: np.zeros(shape, t)
    )
    with pytest.raises(OSError, match="enough"):
        getattr(applications, title)(**arguments)
    found, place, checksum, remote = asked[0]
    assert (found, place) == (name, folder)
    assert remote == ("NASNet-mobile-no-top.h5" if title == "NASNetMobile" else name)
    assert checksum is None if title in ("MobileNet", "MobileNetV2") else re.fullmatch("[0-9a-f]{32}", checksum)


def test_sizes_without_weights_warn(monkeypatch):
    monkeypatch.setattr("minikeras.applications.family.fetch", lambda *file: 1 / 0)
    with pytest.warns(UserWarning, match="those for 224 are taken"), pytest.raises(ZeroDivisionError):
        applications.MobileNet(include_top=False, input_shape=(100, 100, 3))


def test_sums_are_sums():
    for sums in SUMS.values():
        assert len(sums) == 2 and all(re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", one) for one in sums)


# ---------------------------------------------------------------- pictures and names


def test_pictures_are_left_as_they_were():
    pixels = np.full((1, 2, 2, 3), 100.0, "f4")
    for mode in ("caffe", "tf", "torch"):
        assert imagenet_utils.preprocess_input(pixels, mode=mode) is not pixels
    assert (pixels == 100).all()


def test_preprocess_input_by_hand():
    pixels = np.array([[[0.0, 127.5, 255.0]]])
    assert imagenet_utils.preprocess_input(pixels, mode="tf").tolist() == [[[-1, 0, 1]]]
    expected = [255 - 103.939, 127.5 - 116.779, -123.68]
    np.testing.assert_allclose(imagenet_utils.preprocess_input(pixels), [[expected]], rtol=1e-12)
    expected = [-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(imagenet_utils.preprocess_input(pixels, mode="torch"), [[expected]], rtol=1e-12)
    # whole numbers become floats first: real Keras subtracts whole means from integer tensors
    whole = minikeras.ops.convert_to_tensor(np.array([[[0, 0, 0]]], "int32"))
    np.testing.assert_allclose(np.asarray(imagenet_utils.preprocess_input(whole)), [[[-103.939, -116.779, -123.68]]])


def test_preprocess_input_keeps_the_kind_and_type():
    pixels = np.arange(12.0).reshape(2, 2, 3)
    for mode in ("caffe", "tf", "torch"):
        for dtype in ("float16", "float32", "float64"):
            array = imagenet_utils.preprocess_input(pixels.astype(dtype), mode=mode)
            tensor = imagenet_utils.preprocess_input(minikeras.ops.convert_to_tensor(pixels, dtype), mode=mode)
            assert array.dtype == dtype and tensor.dtype == dtype and type(array) is np.ndarray
            np.testing.assert_allclose(np.asarray(tensor), array, rtol=1e-6 if dtype != "float16" else 1e-3, atol=1e-6)
        listed = imagenet_utils.preprocess_input(pixels.tolist(), mode=mode)
        np.testing.assert_allclose(np.asarray(listed), imagenet_utils.preprocess_input(pixels, mode=mode), rtol=1e-5)


def test_preprocess_input_refuses():
    with pytest.raises(ValueError, match="mode must be 'caffe', 'tf' or 'torch'"):
        imagenet_utils.preprocess_input(np.ones((2, 2, 3)), mode="none")
    with pytest.raises(ValueError, match="data_format must be"):
        imagenet_utils.preprocess_input(np.ones((2, 2, 3)), data_format="last")
    for shape in ((2, 2, 4), (3,)):
        with pytest.raises(ValueError, match="3 channels"):
            imagenet_utils.preprocess_input(np.ones(shape))


def test_preprocess_input_in_a_model():
    inputs = minikeras.Input((4, 4, 3), dtype="uint8")
    model = minikeras.Model(inputs, applications.vgg16.preprocess_input(inputs))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("u1")
    expected = applications.vgg16.preprocess_input(pixels)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, rtol=1e-6)


def test_names_of_classes(store, monkeypatch):
    names = {str(i): [f"n{i}", f"thing {i}"] for i in range(1000)}
    folder = store / "download.tensorflow.org" / "data"
    folder.mkdir(parents=True)
    text = json.dumps(names)
    (folder / "imagenet_class_index.json").write_text(text)
    predictions = np.zeros((2, 1000), "f4")
    predictions[0, 7], predictions[0, 3], predictions[1, 999] = 0.7, 0.2, 1
    with pytest.raises(ValueError, match="MD5 sum"):
        imagenet_utils.decode_predictions(predictions)
    monkeypatch.setattr(imagenet_utils, "_NAMES", (*imagenet_utils._NAMES[:2], hashlib.md5(text.encode()).hexdigest()))
    found = applications.resnet50.decode_predictions(minikeras.ops.convert_to_tensor(predictions), top=2)
    assert found[0] == [("n7", "thing 7", np.float32(0.7)), ("n3", "thing 3", np.float32(0.2))]
    assert found[1][0] == ("n999", "thing 999", 1)
    for wrong in (predictions[0], predictions[:, :10]):
        with pytest.raises(ValueError, match=r"\(pictures, 1000\)"):
            imagenet_utils.decode_predictions(wrong)
    with pytest.raises(ValueError, match="top"):
        imagenet_utils.decode_predictions(predictions, top=0)


# ---------------------------------------------------------------- blocks


def test_paths_from_words():
    x = layers.Input((9, 9, 3))
    style = Style(names="{0} {0} {0}")
    assert style.path(x, "8 4:3/2 max").shape == (None, 1, 1, 4)
    assert style.path(x, "8:3v avg 4:1x7").shape == (None, 7, 7, 4)
    joined = style.path(x, "4:1x3+3x1=both")
    assert joined.shape == (None, 9, 9, 8) and joined._keras_history[0].name == "both"
    assert style.branches(x, "2 | 3:3 | avg", "all").shape == (None, 9, 9, 8)


def test_sizes_of_blocks():
    assert [divisible(x) for x in (3, 8, 11, 12, 19.2)] == [8, 8, 16, 16, 24]
    assert divisible(19.2, least=False) == 16
    assert correct_pad(minikeras.KerasTensor((None, 8, 9, 3)), 3) == ((0, 1), (1, 1))
    assert correct_pad(minikeras.KerasTensor((None, None, None, 3)), 5) == ((1, 2), (1, 2))
