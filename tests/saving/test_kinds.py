"""Files are told by their content: every kind under every name, and a sentence for those that are something else."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving import load_model

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)


def network() -> Any:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)])
    model.compile(minikeras.optimizers.Adam(0.01), "mse")
    model.fit(X, X[:, :2], verbose=0)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return network()


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# ---------------------------------------------------------------- what can be read, whatever it is called


@pytest.mark.parametrize("written", ["m.keras", "m.h5", "m.hdf5"])
@pytest.mark.parametrize("named", ["m.keras", "m.h5", "m.hdf", "m.zip", "m.txt", "m", "m.weights.h5"])
def test_whole_models(tmp_path: Path, model: Any, written: str, named: str) -> None:
    model.save(tmp_path / written)
    path = (tmp_path / written).rename(tmp_path / f"named.{named}")
    copy = load_model(path)
    assert same(copy, model) and copy.optimizer.iterations == model.optimizer.iterations
    other = network()
    other.load_weights(path)
    assert same(other, model)


@pytest.mark.parametrize("written", ["m.weights.h5", "m.npz", "m.h5", "m.hdf5", "m.weights.json"])
@pytest.mark.parametrize("named", ["w.h5", "w.keras", "w", "w.npz", "w.weights.json"])
def test_weights_alone(tmp_path: Path, model: Any, written: str, named: str) -> None:
    model.save_weights(tmp_path / written)
    path = (tmp_path / written).rename(tmp_path / named)
    other = network()
    other.load_weights(path)
    assert same(other, model)
    with pytest.raises(ValueError, match="weights without an architecture"):
        load_model(path)


def test_hdf5_after_a_block_of_the_users(tmp_path: Path, model: Any) -> None:
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as plain, h5py.File(tmp_path / "block.h5", "w", userblock_size=1024) as file:
        for name in plain:
            plain.copy(name, file)
        for name, value in plain.attrs.items():
            file.attrs[name] = value
    assert same(load_model(tmp_path / "block.h5"), model)


def test_an_architecture_is_no_model(tmp_path: Path, model: Any) -> None:
    path = tmp_path / "model.keras"
    path.write_text(model.to_json())
    with pytest.raises(ValueError, match=r"architecture without weights; make the model with model_from_json\(\)"):
        load_model(path)
    with pytest.raises(ValueError, match="holds no weights"):
        network().load_weights(path)


# ---------------------------------------------------------------- what is something else


def zipped(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.keras"), io.BytesIO())
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


def object_array() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, dense=np.array({"0": np.ones(3)}, object))
    return stream.getvalue()


FOREIGN = {
    "empty": (b"", "is empty"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "pointer of Git LFS.*lfs pull"),
    "git annex": (b"/annex/objects/SHA256E-s1--00.h5\n", "pointer of git-annex"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "a web page.*download the file itself"),
    "web page without a type": (b"<HTML><head>", "a web page"),
    "gzip": (gzip.compress(b"x" * 100), "packed; unpack it first"),
    "tar": (tarred(), "packed; unpack it first"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle.*can run code"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(20), "a model of TensorFlow Lite"),
    "onnx": (b"\x08\x07\x12\x07pytorch", "a model of ONNX"),
    "saved model": (b"\x08\x01\x12\xff\x01\n", "a TensorFlow SavedModel"),
    "safetensors": (b'\x40\x00\x00\x00\x00\x00\x00\x00{"a":{}}', "safetensors"),
    "gguf": (b"GGUF\x03\x00", "GGUF"),
    "array": (array(), "a single NumPy array"),
    "checkpoint": (b'model_checkpoint_path: "ckpt-1"\n', "a checkpoint of TensorFlow"),
    "yaml": (b"backend: tensorflow\nclass_name: Sequential\n", "YAML, which is never read"),
    "text": (b"a note", "damaged or of no kind"),
    "torch": (zipped(archive__data_dot_pkl="x", archive__version="3"), "a file of PyTorch.*can run code"),
    "archive of a saved model": (zipped(m__saved_model_dot_pb="x"), "a TensorFlow SavedModel"),
    "archive of a file": (zipped(model_dot_h5="x"), "archive of .'model.h5'. without config.json; unpack it"),
    "half an archive": (zipped(config_dot_json="{}")[:40], "is damaged"),
    "archive without weights": (zipped(config_dot_json="{}"), "has no model.weights.h5"),
    "JSON of no model": (b'{"a": 1}', "no list of shards"),
    "TensorFlow.js": (b'{"format": "layers-model", "modelTopology": {}, "weightsManifest": []}', "TensorFlow.js"),
    "half a JSON": (b'{"class_name": "Seq', "is JSON text"),
    "pickled arrays": (object_array(), "nothing is unpickled"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_other_files(tmp_path: Path, name: str, ending: str) -> None:
    content, match = FOREIGN[name]
    path = tmp_path / f"file{ending}"
    path.write_bytes(content)
    for read in (load_model, network().load_weights):
        with pytest.raises(ValueError, match=match) as error:
            read(path)
        assert path.name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("member", "match"),
    [
        ("saved_model.pb", "a TensorFlow SavedModel"),
        ("checkpoint", "a checkpoint of TensorFlow"),
        ("_CHECKPOINT_METADATA", "a checkpoint of Orbax"),
        ("notes.txt", r"a folder without config\.json"),
    ],
)
def test_other_folders(tmp_path: Path, member: str, match: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / member).write_text("x")
    for read in (load_model, network().load_weights):
        with pytest.raises(ValueError, match=match):
            read(tmp_path / "folder")


def test_nothing_there(tmp_path: Path, model: Any) -> None:
    with pytest.raises(FileNotFoundError, match="check the path") as caught:
        load_model(tmp_path / "m.keras")
    assert isinstance(caught.value, ValueError)  # as Keras's own is, for this ending
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileNotFoundError, match=r"is it 'm\.keras'\?"):
        load_model(tmp_path / "m")
    (tmp_path / "ckpt.index").write_text("x")
    with pytest.raises(ValueError, match="a checkpoint of TensorFlow"):
        network().load_weights(tmp_path / "ckpt")
    with pytest.raises(TypeError, match="by its path"):
        load_model(json)


@pytest.mark.parametrize("place", [512, 1024, 2048])
def test_an_archive_whose_weights_begin_where_hdf5_may(tmp_path: Path, model: Any, place: int) -> None:
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    weights = contents.pop("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("a", bytes(place - 2 * 30 - len("a") - len("model.weights.h5")))
        for name, content in {"model.weights.h5": weights, **contents}.items():
            archive.writestr(name, content)
    assert (tmp_path / "m.keras").read_bytes()[place:].startswith(b"\x89HDF")
    assert same(load_model(tmp_path / "m.keras"), model)
