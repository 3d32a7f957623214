"""The layouts that `.keras` files of Keras 2.12 to 2.15 have inside, made by hand."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest

import minikeras as keras
from minikeras import layers
from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.saving.weights_file import read_weights

RNG = np.random.default_rng(0)


def model_with(*inner):
    model = keras.Sequential([keras.Input((4, 3)), *inner])
    for weight in model.weights:
        weight.assign(RNG.uniform(0.1, 0.9, weight.shape))
    return model


def written(groups):
    """A file with the arrays of each group; a group without any is there too."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.create_group("vars")
        for path, arrays in groups.items():
            group = root.create_group(path).create_group("vars")
            for i, array in enumerate(arrays):
                group[str(i)] = array
    return file


def read(model, file):
    read_weights(model, WeightsReader(file, "old.keras"), "old.keras")


def stack():
    return model_with(
        layers.Conv1D(2, 2),
        layers.BatchNormalization(),
        layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
        layers.Conv1D(2, 1),
        layers.BatchNormalization(),
        layers.Dense(3),
    )


def groups_of(model, container, join, gaps):
    """What a model of `stack` has, under other names."""
    conv, norm, both, conv_2, norm_2, dense = model.layers
    second = 2 if gaps else 1
    found = {("conv1d",): conv, ("batch_normalization",): norm, (f"conv1d_{second}",): conv_2}
    found |= {(f"batch_normalization_{second}",): norm_2, ("dense",): dense}
    groups = {join((container, *path)): one.get_weights() for path, one in found.items()}
    for name in ("forward_layer", "backward_layer"):
        cell = getattr(both, name).cell
        groups[join((container, "bidirectional", name))] = []
        groups[join((container, "bidirectional", name, "cell"))] = cell.get_weights()
    groups[join((container, "dropout"))] = []
    return groups


LAYOUTS = {
    "2.13": ("_layer_checkpoint_dependencies", "/".join, True),
    "2.13 on Windows": ("_layer_checkpoint_dependencies", "\\".join, True),
    "2.15": ("layers", "/".join, False),
    "2.15 on Windows": ("layers", "\\".join, False),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_older_layouts_are_read(layout):
    model, other = stack(), stack()
    read(other, written(groups_of(model, *layout)))
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_model_in_a_model():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(3)])
    model = model_with(layers.Dense(3), layers.TimeDistributed(inner))
    container = "_layer_checkpoint_dependencies"
    within = f"{container}/time_distributed/layer/{container}"
    arrays = [RNG.normal(size=weight.shape).astype("float32") for weight in model.weights]
    paths = [f"{container}/dense", f"{within}/dense", f"{within}/dense_2"]
    read(model, written({path: arrays[2 * i : 2 * i + 2] for i, path in enumerate(paths)}))
    for weight, array in zip(model.weights, arrays, strict=True):
        np.testing.assert_array_equal(weight.numpy(), array)


def test_private_names_of_parts():
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.MultiHeadAttention(1, 2)(inputs, inputs))
    (attention,) = (one for one in model.layers if one.weights)
    names = ("query", "key", "value", "output")
    groups = {}
    for name in names:
        parts = getattr(attention, f"{name}_dense").get_weights()
        groups[f"layers/multi_head_attention/_{name}_dense"] = [RNG.normal(size=one.shape) for one in parts]
    read(model, written(groups))
    for name in names:
        wanted = groups[f"layers/multi_head_attention/_{name}_dense"]
        for one, array in zip(getattr(attention, f"{name}_dense").get_weights(), wanted, strict=True):
            np.testing.assert_allclose(one, array, rtol=1e-6)


def test_another_number_of_layers_is_refused():
    model = model_with(layers.Dense(3), layers.Dense(3))
    before = model.get_weights()
    arrays = [np.ones((3, 3)), np.ones(3)]
    groups = {f"_layer_checkpoint_dependencies/dense{end}": arrays for end in ("", "_2", "_4")}
    with pytest.raises(
        ValueError, match=r"'old\.keras' has 3 layers of the kind 'dense', the model 2, so that it is open"
    ):
        read(model, written(groups))
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_shapes_that_do_not_fit_are_refused():
    model = model_with(layers.Dense(3))
    file = written({"_layer_checkpoint_dependencies/dense": [np.ones((3, 4)), np.ones(4)]})
    with pytest.raises(ValueError, match=r"kernel' has shape \(3, 3\), the file has \(3, 4\)"):
        read(model, file)


def test_groups_within_themselves_end():
    file = written({"_layer_checkpoint_dependencies/dense": [np.ones((3, 3)), np.ones(3)]})
    with h5py.File(file, "r+") as root:
        root["_layer_checkpoint_dependencies/dense/again"] = root["_layer_checkpoint_dependencies"]
    model = model_with(layers.Dense(3))
    read(model, file)
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((3, 3)))


def test_the_optimizers_state_has_no_learning_rate():
    model = model_with(layers.Dense(3))
    model.compile(keras.optimizers.Adam(0.25), "mse")
    model.optimizer.build(model.trainable_variables)
    shapes = [variable.shape for variable in model.optimizer.variables[2:]]
    moments = [RNG.normal(size=shape).astype("float32") for shape in shapes]
    groups = {"layers/dense": model.get_weights(), "optimizer": [np.int64(7), *moments]}
    read(model, written(groups))
    assert int(model.optimizer.iterations) == 7 and float(model.optimizer.learning_rate) == 0.25
    for variable, moment in zip(model.optimizer.variables[2:], moments, strict=True):
        np.testing.assert_array_equal(variable.numpy(), moment)


def test_layers_that_were_built_without_a_shape():
    """As Keras writes an `Embedding(weights=[...])` and a layer whose `build()` takes nothing."""

    class Own(layers.Layer):
        def build(self):
            self.scale = self.add_weight(shape=(2,), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    own = Own()
    own.build()
    described = layers.serialize(own)
    assert described["build_config"] == {"shapes_dict": {}}
    with keras.saving.custom_object_scope({"Own": Own}):
        assert len(layers.deserialize(described).weights) == 1
    config = {"input_dim": 5, "output_dim": 3}
    embedding = {"module": "keras.layers", "class_name": "Embedding", "config": config, "registered_name": None}
    assert len(layers.deserialize({**embedding, "build_config": {"shapes_dict": {}}}).weights) == 1
    for useless in ({"shapes_dict": {}}, {"input_shape": None}):
        dense = {**embedding, "class_name": "Dense", "config": {"units": 2}, "build_config": useless}
        layer = layers.deserialize(dense)
        assert not layer.built and layer(np.ones((1, 3))).shape == (1, 2)
