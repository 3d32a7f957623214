"""Files without the optimizer's state."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import minikeras as keras


@pytest.mark.parametrize("include", [True, False])
def test_a_file_with_and_without_the_optimizers_state(tmp_path: Path, include: bool) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    x = np.ones((8, 3), "float32")
    model.fit(x, x[:, :2], verbose=0)
    path = tmp_path / "model.keras"
    model.save(path, include_optimizer=include)
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        assert ("optimizer" in weights) == include
    loaded = keras.models.load_model(path)
    for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert int(loaded.optimizer.iterations) == include
    loaded.fit(x, x[:, :2], verbose=0)
    assert int(loaded.optimizer.iterations) == 1 + include
