"""Real Keras reads arrays in chunks with HDF5's checksum, notices damage in them, and passes over our own sums."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import minikeras
from minikeras import layers


def network(library, kinds):
    return library.Sequential([library.Input((300,)), kinds.Dense(400), kinds.Dense(1)])


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_large_arrays(tmp_path, ending):
    path = tmp_path / f"m{ending}"
    ours = network(minikeras, layers)
    ours.save(path) if ending == ".keras" else ours.save_weights(path)
    theirs = keras.saving.load_model(path) if ending == ".keras" else network(keras, keras.layers)
    if ending != ".keras":
        theirs.load_weights(path)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.array_equal(one, other)
    theirs.save(path) if ending == ".keras" else theirs.save_weights(path)
    back = network(minikeras, layers)
    back.load_weights(path)
    for one, other in zip(ours.get_weights(), back.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_keras_notices_damage(tmp_path):
    path = tmp_path / "m.weights.h5"
    ours = network(minikeras, layers)
    ours.save_weights(path)
    content = bytearray(path.read_bytes())
    content[content.index(ours.get_weights()[0][:3].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        network(keras, keras.layers).load_weights(path)
    with pytest.raises(ValueError, match=r"m\.weights\.h5' is damaged"):
        network(minikeras, layers).load_weights(path)
