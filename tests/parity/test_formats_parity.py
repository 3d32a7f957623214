"""Folders, shards, weights and checkpoints both ways: written here and read by real Keras, and the reverse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.saving import saving_lib

import minikeras

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 5)).astype("f4"), RNG.normal(size=(8, 3)).astype("f4")
WAYS = [(minikeras, keras), (keras, minikeras)]
BOTH = pytest.mark.parametrize(("source", "target"), WAYS, ids=["from here", "from Keras"])

OPTIMIZERS = {
    "Adam": lambda K: K.optimizers.Adam(0.01, amsgrad=True),
    "SGD": lambda K: K.optimizers.SGD(K.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5), momentum=0.9),
    "RMSprop": lambda K: K.optimizers.RMSprop(0.01, momentum=0.5),
}


def network(K: Any, optimizer: str = "Adam") -> Any:
    """Nested and shared layers, weights that are trained and others, with another start every time."""
    inner = K.Sequential([K.Input((5,)), K.layers.Dense(4, use_bias=False), K.layers.BatchNormalization()])
    inputs = K.Input((5,))
    shared = K.layers.Dense(5, activation="tanh")
    last = K.layers.Concatenate()([shared(shared(inputs)), inner(inputs)])
    model = K.Model(inputs, K.layers.Dense(3)(last))
    model.set_weights([RNG.uniform(0.1, 0.5, value.shape) for value in model.get_weights()])
    model.compile(OPTIMIZERS[optimizer](K), loss="mse", **({"jit_compile": False} if K is keras else {}))
    train(model)
    return model


def train(model: Any) -> None:
    for _ in range(2):
        model.train_on_batch(X, Y)


def state(model: Any) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in model.optimizer.variables]


def assert_goes_on_alike(one: Any, other: Any) -> None:
    for tolerance in (1e-6, 1e-4):
        pairs = [(one.predict_on_batch(X), other.predict_on_batch(X))]
        pairs += zip(one.get_weights(), other.get_weights(), strict=True)
        pairs += zip(state(one), state(other), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        train(one)
        train(other)


@BOTH
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_folders(tmp_path: Path, source: Any, target: Any, optimizer: str) -> None:
    model = network(source, optimizer)
    model.save(tmp_path / "folder", zipped=False)
    other = network(target, optimizer)
    copy = target.saving.load_model(tmp_path / "folder")
    assert_goes_on_alike(model, copy)
    if target is minikeras:
        other.load_weights(tmp_path / "folder")
        np.testing.assert_array_equal(
            other.get_weights()[0], target.saving.load_model(tmp_path / "folder").get_weights()[0]
        )


@BOTH
def test_layers_own_files_in_a_folder(tmp_path: Path, source: Any, target: Any) -> None:
    if source is keras:
        pytest.importorskip("tensorflow")
    texts = source.layers.TextVectorization(vocabulary=["one", "two"])
    model = source.Sequential([source.Input((1,), dtype="string"), texts])
    model.save(tmp_path / "folder", zipped=False)
    copy = target.saving.load_model(tmp_path / "folder")
    assert [str(word) for word in copy.layers[-1].get_vocabulary()] == ["", "[UNK]", "one", "two"]


@BOTH
@pytest.mark.parametrize("size", [250, 400, 1 << 30])
def test_shards(tmp_path: Path, source: Any, target: Any, size: int) -> None:
    model = network(source)
    model.save_weights(tmp_path / "w.weights.json", max_shard_size=size / (1 << 30))
    listed = json.loads((tmp_path / "w.weights.json").read_text())
    assert len(list(tmp_path.iterdir())) == 2 if size == 1 << 30 else len(list(tmp_path.iterdir())) > 4
    assert listed["metadata"]["total_size"] == sum(value.nbytes for value in [*model.get_weights(), *state(model)])
    other = network(target)
    other.load_weights(tmp_path / "w.weights.json")
    assert_goes_on_alike(model, other)


def test_lists_of_shards_are_alike(tmp_path: Path) -> None:
    """The same arrays in the same order, in shards of the same names."""
    maps = []
    for K in (minikeras, keras):
        (tmp_path / K.__name__).mkdir()
        network(K).save_weights(tmp_path / K.__name__ / "w.weights.json", max_shard_size=1000 / (1 << 30))
        content = json.loads((tmp_path / K.__name__ / "w.weights.json").read_text())
        maps.append(
            {place: names if isinstance(names, list) else [names] for place, names in content["weight_map"].items()}
        )
    assert maps[0] == maps[1]


@BOTH
def test_objects_to_skip(tmp_path: Path, source: Any, target: Any) -> None:
    model, other = network(source), network(target)
    model.save_weights(tmp_path / "w.weights.h5")
    last, optimizer = other.layers[-1].get_weights(), state(other)
    other.load_weights(tmp_path / "w.weights.h5", objects_to_skip=[other.layers[-1], other.optimizer])
    for a, b in [*zip(last, other.layers[-1].get_weights(), strict=True), *zip(optimizer, state(other), strict=True)]:
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.get_weights()[:-2], other.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(a, b)


@BOTH
@pytest.mark.parametrize(("name", "alone"), [("{epoch:02d}-{loss:.2f}.keras", False), ("{epoch:02d}.weights.h5", True)])
def test_checkpoints(tmp_path: Path, source: Any, target: Any, name: str, alone: bool) -> None:
    model = network(source)
    checkpoint = source.callbacks.ModelCheckpoint(str(tmp_path / name), save_weights_only=alone)
    model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0, callbacks=[checkpoint])
    first, last = sorted(tmp_path.iterdir())
    assert first.name.startswith("01") and last.name.startswith("02")
    if alone:
        copy = network(target)
        copy.load_weights(last)
    else:
        copy = target.saving.load_model(last)
    assert_goes_on_alike(model, copy)


def test_endings_that_keras_writes_are_written_here(tmp_path: Path) -> None:
    model, theirs = network(minikeras), network(keras)
    for name in ("m.keras", "m.h5", "m.hdf5", "m.weights.h5", "m", "m.tf", "m.npz"):
        accepted = []
        for K, one in ((keras, theirs), (minikeras, model)):
            (tmp_path / K.__name__).mkdir(exist_ok=True)
            try:
                one.save(tmp_path / K.__name__ / name)
                accepted.append(True)
            except ValueError:
                accepted.append(False)
        assert accepted[0] == accepted[1], name


@pytest.mark.parametrize("zipped", [True, False])
def test_the_npz_that_keras_cannot_read_itself(tmp_path: Path, zipped: bool) -> None:
    """Its `weights_format="npz"` pickles a dict for each layer, which its own loader refuses, and this one too."""
    path = tmp_path / ("m.keras" if zipped else "m")
    saving_lib.save_model(network(keras), path, weights_format="npz", zipped=zipped)
    with pytest.raises((ValueError, UnboundLocalError)):
        saving_lib.load_model(path)
    with pytest.raises(ValueError, match="nothing is unpickled"):
        minikeras.saving.load_model(path)
