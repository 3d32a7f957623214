"""HDF5 files as older versions of Keras wrote them, made by h5py."""

from __future__ import annotations

import json

import h5py
import numpy as np

from minikeras.models import load_model
from minikeras.saving import hdf5_file
from minikeras.saving.hdf5_reader import WeightsReader


def write_file(path, layers, version, backend="tensorflow", description=None, training=None, state=None, words=None):
    """A file of these layers, `{name: {name of an array: array}}`; with a description one of a whole model.

    Args:
        words: what strings are written as, default bytes.
    """
    words = words or (lambda text: text.encode())
    with h5py.File(path, "w") as root:
        group = root
        if description is not None:
            root.attrs["model_config"] = words(json.dumps(description))
            group = root.create_group("model_weights")
        if training is not None:
            root.attrs["training_config"] = words(json.dumps(training))
        for one in (root, group):
            if version is not None:
                one.attrs["keras_version"], one.attrs["backend"] = words(version), words(backend)
        group.attrs["layer_names"] = [words(name) for name in layers]
        for name, arrays in layers.items():
            write_arrays(group.require_group(name), arrays, words)
        if state is not None:
            write_arrays(root.create_group("optimizer_weights"), state, words)
    return path


def write_arrays(group, arrays, words):
    group.attrs["weight_names"] = [words(name) for name in arrays]
    for name, array in arrays.items():
        group[name] = array


def read_file(path, **options):
    return load_model(path, **options)


def read_weights(model, path, **options):
    with WeightsReader(path, str(path)) as reader:
        return hdf5_file.read_layers(model, reader, **options)


def save_model(model, path, **options):
    with h5py.File(path, "w") as root:
        hdf5_file.write_model(model, root, **options)
    return path


def numbers(*shapes, seed=0):
    """Arrays that are all different, of about 0.5."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.1, 0.9, shape).astype("f4") for shape in shapes]
