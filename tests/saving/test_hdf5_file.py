"""Whole models in HDF5 files of each age of Keras: what they compute, and what a damaged one says."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving import hdf5_file
from minikeras.saving.hdf5_reader import WeightsReader
from tests.saving.hdf5_cases import numbers, read_file, save_model, write_file

DENSE = numbers((3, 4), (4,), (4, 2), (2,))


def dense(units, activation, name, **more):
    return {"class_name": "Dense", "config": {"name": name, "units": units, "activation": activation, **more}}


def keras_1():
    first = {"output_dim": 4, "init": "glorot_uniform", "batch_input_shape": [None, 3], "activation": "relu"}
    second = {"output_dim": 2, "init": "glorot_uniform", "activation": "linear"}
    config = [{"class_name": "Dense", "config": {"name": n, **c}} for n, c in (("d_1", first), ("d_2", second))]
    return {"class_name": "Sequential", "config": config}


def keras_2(as_list=False):
    stack = [dense(4, "relu", "d_1", batch_input_shape=[None, 3], dtype="float32"), dense(2, "linear", "d_2")]
    return {"class_name": "Sequential", "config": stack if as_list else {"name": "s", "layers": stack}}


def tf_keras():
    entrance = {"batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "ragged": False, "name": "in"}
    stack = [
        {"class_name": "InputLayer", "config": entrance, "name": "in", "inbound_nodes": []},
        {**dense(4, "relu", "d_1"), "name": "d_1", "inbound_nodes": [[["in", 0, 0, {}]]]},
        {**dense(2, "linear", "d_2"), "name": "d_2", "inbound_nodes": [[["d_1", 0, 0, {}]]]},
    ]
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [["d_2", 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": stack, **ends}}


def keras_3():
    entrance = {"batch_shape": [None, 3], "dtype": "float32", "sparse": False, "name": "in"}
    common = {
        "trainable": True,
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
    }
    stack = [{"class_name": "InputLayer", "config": entrance}, dense(4, "relu", "d_1", **common)]
    stack.append(dense(2, "linear", "d_2", **common))
    return {"class_name": "Sequential", "config": {"name": "s", "trainable": True, "layers": stack}}


AGES = {
    "1.2.2": (keras_1(), "d_1_W:0 d_1_b:0 d_2_W:0 d_2_b:0", {"lr": 0.5}),
    "2.0.5": (keras_2(as_list=True), "d_1/kernel:0 d_1/bias:0 d_2/kernel:0 d_2/bias:0", {"lr": 0.5, "decay": 0.0}),
    "2.2.4": (keras_2(), "d_1/kernel:0 d_1/bias:0 d_2/kernel:0 d_2/bias:0", {"lr": 0.5, "decay": 0.0}),
    "2.3.1": (keras_2(), "d_1/kernel:0 d_1/bias:0 d_2/kernel:0 d_2/bias:0", {"learning_rate": 0.5}),
    "2.4.0": (tf_keras(), "d_1/kernel:0 d_1/bias:0 d_2/kernel:0 d_2/bias:0", {"name": "SGD", "learning_rate": 0.5}),
    "3.8.0": (keras_3(), "s/d_1/kernel s/d_1/bias s/d_2/kernel s/d_2/bias", {"name": "sgd", "learning_rate": 0.5}),
}


def file_of(path, version, **more):
    description, names, optimizer = AGES[version]
    arrays = dict(zip(names.split(), DENSE, strict=True))
    stored = {name: {key: one for key, one in arrays.items() if name in key} for name in ("d_1", "d_2")}
    training = {"optimizer_config": {"class_name": "SGD", "config": optimizer}, "loss": "mse", "metrics": ["mae"]}
    training |= {"loss_weights": None}
    return write_file(path, {"in": {}, **stored}, version, description=description, training=training, **more)


def expected(x):
    return np.maximum(x @ DENSE[0] + DENSE[1], 0) @ DENSE[2] + DENSE[3]


@pytest.mark.parametrize("words", [None, str], ids=["bytes", "str"])
@pytest.mark.parametrize("version", AGES)
def test_files_of_each_age(version, words, tmp_path):
    model = read_file(file_of(tmp_path / "m.h5", version, words=words))
    x, y = numbers((5, 3), (5, 2), seed=1)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected(x), rtol=1e-6)
    assert float(model.optimizer.learning_rate) == 0.5
    assert sorted(model.evaluate(x, y, verbose=0, return_dict=True)) == ["loss", "mae"]
    assert not read_file(tmp_path / "m.h5", compile=False).compiled


def test_what_a_file_says_of_its_model(tmp_path):
    with WeightsReader(file_of(tmp_path / "m.h5", "2.2.4"), "m.h5") as reader:
        assert hdf5_file.is_model(reader)
        assert hdf5_file.is_layered(reader)
        description, training, *origin = hdf5_file.read_model_config(reader)
    assert description == keras_2()
    assert training["loss"] == "mse"
    assert origin == ["2.2.4", "tensorflow"]
    with WeightsReader(write_file(tmp_path / "w.h5", {"d": {}}, "2.2.4"), "w.h5") as reader:
        assert not hdf5_file.is_model(reader)
        assert hdf5_file.is_layered(reader)
        assert hdf5_file.read_model_config(reader) == (None, None, "2.2.4", "tensorflow")
    with pytest.raises(ValueError, match="weights without an architecture"):
        read_file(tmp_path / "w.h5")


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 300 + b"]" * 300, b"3", b'{"class_name": 3, "config": 5}'])
def test_descriptions_that_are_none(text, tmp_path):
    path = file_of(tmp_path / "m.h5", "2.2.4")
    with h5py.File(path, "a") as root:
        root.attrs["model_config"] = np.bytes_(text)
    with pytest.raises(ValueError, match=r"m\.h5"):
        read_file(path)


def test_layers_of_a_file_are_matched_by_name_where_it_can_be(tmp_path):
    """The groups stand in another order than the model's layers."""
    a, b = numbers((3, 3), (3, 3))
    inputs = minikeras.Input((3,))
    outputs = [layers.Dense(3, use_bias=False, name=name)(inputs) for name in ("a", "b")]
    path = save_model(minikeras.Model(inputs, outputs), tmp_path / "m.h5")
    with h5py.File(path, "a") as root:
        root["model_weights"].attrs["layer_names"] = [b"b", b"a"]
        for name, array in (("a", a), ("b", b)):
            (key,) = root[f"model_weights/{name}"].attrs["weight_names"]
            root[f"model_weights/{name}"][key][...] = array
            del root[f"model_weights/{name}"][key].attrs["crc32"]
    for found, wanted in zip(read_file(path)(np.eye(3)), (a, b), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)


# ---------------------------------------------------------------- written and read


def trained(**compiled):
    inputs = minikeras.Input((3,))
    hidden = layers.Dense(4, "relu", name="hidden")(inputs)
    model = minikeras.Model(inputs, [layers.Dense(1, name="one")(hidden * 2.0), layers.Dense(2, name="two")(hidden)])
    model.compile("adam", **compiled)
    model.train_on_batch(*batch())
    return model


def batch():
    x, one, two = numbers((6, 3), (6, 1), (6, 2), seed=2)
    return x, [one, two]


COMPILED = {
    "one": {"loss": "mse"},
    "list": {"loss": ["mse", "KLD"], "metrics": [["mae"], ["acc", minikeras.metrics.AUC(name="area")]]},
    "dict": {
        "loss": {"one": minikeras.losses.Huber(), "two": "MeanSquaredError"},
        "loss_weights": {"one": 2.0, "two": 1.0},
    },
    "weighted": {"loss": "mse", "weighted_metrics": {"two": ["msle"]}},
}


@pytest.mark.parametrize("name", COMPILED)
def test_training_goes_on(name, tmp_path):
    model = trained(**COMPILED[name])
    other = read_file(save_model(model, tmp_path / "m.h5"))
    for _ in range(2):
        logs = [one.train_on_batch(*batch(), return_dict=True) for one in (model, other)]
        assert logs[0] == logs[1]
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_weights(tmp_path, recwarn):
    inputs = minikeras.Input((3,))
    path = save_model(minikeras.Model(inputs, minikeras.ops.relu(inputs) * 2.0), tmp_path / "m.h5")
    np.testing.assert_array_equal(read_file(path)(np.eye(3) - 0.5).numpy(), np.eye(3))
    assert not recwarn


def test_strings_are_written_in_full(tmp_path):
    path = save_model(trained(loss=["mse", "KLD"], metrics=[["mae"], ["acc", "accuracy"]]), tmp_path / "m.h5")
    with h5py.File(path) as root:
        training = json.loads(root.attrs["training_config"])
    assert training["loss"] == ["mean_squared_error", "kl_divergence"]
    error, rates = training["metrics"][0][0], training["metrics"][1]
    assert (error["class_name"], error["config"]["name"]) == ("MeanAbsoluteError", "mae")
    assert rates == ["acc", "accuracy"]


def test_without_the_optimizer(tmp_path):
    path = save_model(trained(loss="mse"), tmp_path / "m.h5", include_optimizer=False)
    with h5py.File(path) as root:
        assert "training_config" not in root.attrs
        assert "optimizer_weights" not in root
    assert not read_file(path).compiled


def test_what_cannot_be_described_leaves_the_file_empty(tmp_path):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Activation(lambda x: x)])
    with h5py.File(tmp_path / "m.h5", "w") as root:
        with pytest.raises(ValueError, match="name"):
            hdf5_file.write_model(model, root)
        assert not root.attrs.keys()


@minikeras.saving.register_keras_serializable("hdf5_file")
class Doubling(minikeras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.inner = units, layers.Dense(units)
        self.scale = self.add_weight(shape=(units,), initializer="ones", name="scale")

    def call(self, inputs):
        return self.inner(inputs) * self.scale

    def get_config(self):
        return {"units": self.units, "name": self.name}


def test_a_model_of_a_class_of_ones_own_with_weights_of_its_own(tmp_path):
    model = Doubling(2)
    x = numbers((4, 3))[0]
    model(x)
    model.scale.assign([2.0, 3.0])
    other = read_file(save_model(model, tmp_path / "m.h5"))
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())
    with h5py.File(tmp_path / "m.h5") as root:
        assert root["model_weights/top_level_model_weights"].attrs["weight_names"].tolist() == [
            model.scale.path.encode()
        ]


def test_a_class_that_is_not_known(tmp_path):
    path = file_of(tmp_path / "m.h5", "3.8.0")
    with h5py.File(path, "a") as root:
        root.attrs["model_config"] = root.attrs["model_config"].replace('"Dense"', '"mine>Thick"')
    with pytest.raises(ValueError, match=r"m\.h5.*Thick.*custom_objects"):
        read_file(path)
    x = numbers((5, 3), seed=1)[0]
    other = read_file(path, custom_objects={"Thick": layers.Dense})
    np.testing.assert_allclose(other(x).numpy(), expected(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_a_vocabulary_that_was_learnt(tmp_path, kind):
    """HDF5 has no place for files of layers: the configuration holds what `.keras` archives have in one."""
    own = getattr(layers, kind)()
    own.adapt(np.array([3, 5, 5]) if kind == "IntegerLookup" else np.array(["a b", "b", "b"]))
    dtype = "int64" if kind == "IntegerLookup" else "string"
    model = minikeras.Sequential([minikeras.Input((1,), dtype=dtype), own])
    model.save(tmp_path / "m.h5")
    read = minikeras.saving.load_model(tmp_path / "m.h5")
    assert read.layers[-1].get_vocabulary() == own.get_vocabulary()
    assert own.get_config()["vocabulary"] is None
