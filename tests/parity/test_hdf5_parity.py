"""HDF5 files both ways: written here and opened by real Keras, and the reverse; equal predictions, then equal training.

Keras 3.15.1 cannot go on training a model that it opened from an HDF5 file with an optimizer's state, whoever wrote it:
it builds the optimizer for no variables.  `opened` does with its own functions what it means to do.
"""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import minikeras
from minikeras.saving import hdf5_file
from minikeras.saving.hdf5_reader import WeightsReader
from tests.layer_cases import ROWS
from tests.parity.test_files_parity import OPTIMIZERS

RNG = np.random.default_rng(3)


def save(K, model, path):
    if K is keras:
        model.save(path)
    else:
        with h5py.File(path, "w") as root:
            hdf5_file.write_model(model, root)


def opened(K, path, **options):
    if K is minikeras:
        with WeightsReader(path, str(path)) as reader:
            return hdf5_file.read_model(reader, **options)
    model = keras.models.load_model(path, **options)
    if getattr(model, "optimizer", None) is not None:
        model.optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        model.optimizer.build(model.trainable_variables)
        with h5py.File(path) as root:
            values = legacy_h5_format.load_optimizer_weights_from_hdf5_group(root)
            for variable, value in zip(model.optimizer.variables, values, strict=True):
                variable.assign(value)
    return model


def close(ours, theirs, tolerance=1e-5):
    ours, theirs = ([np.asarray(x) for x in keras.tree.flatten(values)] for values in (ours, theirs))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def perturbed(model):
    """The model with weights that are all different."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind == "f":
            weight.assign(value + RNG.uniform(0.1, 0.5, value.shape).astype(value.dtype))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
    return model


def train_on(ours, theirs, x, y, steps=3):
    for _ in range(steps):
        logs = [model.train_on_batch(x, y, return_dict=True) for model in (ours, theirs)]
        assert sorted(logs[0]) == sorted(logs[1])
        close(
            [np.float32(logs[0][name]) for name in sorted(logs[0])], [np.float32(logs[1][n]) for n in sorted(logs[1])]
        )
    close(ours.get_weights(), theirs.get_weights())
    close([np.asarray(v) for v in ours.optimizer.variables], [np.asarray(v) for v in theirs.optimizer.variables])


BOTH_WAYS = [pytest.param(minikeras, keras, id="here-there"), pytest.param(keras, minikeras, id="there-here")]


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
@pytest.mark.parametrize("row", [row for row in ROWS if row.keras is not None], ids=lambda row: row.name)
def test_layer(row, source, target, tmp_path):
    dtype = "int32" if row.integers else "float32"
    inputs = [source.Input(shape, dtype=dtype) for shape in row.shapes]
    model = perturbed(source.Model(inputs, row.make(source.layers)(*row.together(inputs))))
    save(source, model, tmp_path / "m.h5")
    x = row.inputs()
    close(opened(target, tmp_path / "m.h5")(x), model(x))


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name, source, target, tmp_path):
    if source is keras and name == "Adafactor":
        pytest.skip("Keras gives two of its arrays one name, which HDF5 refuses")
    model = source.Sequential([source.Input((5,)), source.layers.Dense(4, "tanh"), source.layers.Dense(3)])
    model.compile(OPTIMIZERS[name](source), "mean_squared_error", auto_scale_loss=False)
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.normal(size=(6, 3)).astype("f4")
    model.train_on_batch(x, y)
    save(source, model, tmp_path / "m.h5")
    train_on(*ours_first(source, model, opened(target, tmp_path / "m.h5")), x, y)


def ours_first(source, model, other):
    return (model, other) if source is minikeras else (other, model)
