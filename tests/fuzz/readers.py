"""All that reads files from outside, and what must hold whatever is in them, for fuzzers."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

import minikeras
from minikeras import layers
from minikeras.datasets import cifar, files, idx, words
from minikeras.models import model_from_json
from minikeras.saving import load_model
from minikeras.utils import archives

LONGEST = 1500  # characters of a sentence, of which a path may take some hundreds


def network():
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def saved(ending):
    """The bytes of a model's file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model" + ending)
        model = network()
        model.save(path) if ending == ".keras" else model.save_weights(path)
        return path.read_bytes()


def layered():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        group = file.create_group("dense")
        group.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
        group["dense/kernel:0"], group["dense/bias:0"] = np.ones((3, 4), "f4"), np.ones(4, "f4")
    return content.getvalue()


def batch(protocol):
    content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2], b"batch_label": b"x", "names": ["a", "b"]}
    return pickle.dumps(content, protocol)


def npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def texts():
    lists = np.empty(2, object)
    lists[:] = [[1, 2], [3]]
    return npz(x=lists, y=np.zeros(2, int))


def tar(mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name in ("folder/a.txt", "n" * 150, "ä" * 60):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"hello"))
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "folder/a.txt"
        archive.addfile(member)
    return content.getvalue()


def zip_file():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/a.txt", b"hello" * 20)
        archive.writestr("b", b"x")
    return content.getvalue()


def unpack(path):
    import shutil

    archives.unpack(path, path.parent / "unpacked")
    shutil.rmtree(path.parent / "unpacked", ignore_errors=True)


_idx = b"\0\0\x08\x02\0\0\0\2\0\0\0\3abcdef"
_model = network()
_small = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4)])
# By name: the ending of its files, good ones, and what reads them.
READERS: dict[str, tuple[str, Callable[[], list[bytes]], Callable]] = {
    "weights": (".weights.h5", lambda: [saved(".weights.h5")], _model.load_weights),
    "keras": (".keras", lambda: [saved(".keras")], load_model),
    "layered": (".h5", lambda: [layered()], _small.load_weights),
    "json": (".json", lambda: [network().to_json().encode()], lambda path: model_from_json(path.read_text("utf-8"))),
    "pickle": (
        ".pickle",
        lambda: [batch(protocol) for protocol in (2, 3, 4, 5)],
        lambda path: cifar._batch(path, path.read_bytes()),
    ),
    "idx": (".idx", lambda: [_idx, gzip.compress(_idx)], idx.read_idx),
    "npz": (".npz", lambda: [npz(x=np.ones((2, 3)), y=np.arange(3))], lambda path: files.read_npz(path, ("x", "y"))),
    "texts": (".npz", lambda: [texts()], lambda path: words.read(path, ("x", "y"), np.random.RandomState(0))),
    "tar": (".data", lambda: [tar("w"), tar("w:gz"), tar("w:bz2"), tar("w:xz")], unpack),
    "zip": (".data", lambda: [zip_file()], unpack),
}
NAMELESS = {"json"}  # texts, not files


def check(name: str, content: bytes, folder: Path) -> bool:
    """Read such a file; whether it could be read.

    Raises:
        AssertionError: where it was refused in another way than by one sentence that names it.
    """
    ending, _, read = READERS[name]
    path = folder / f"file{ending}"
    path.write_bytes(content)
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        assert name in NAMELESS or str(path) in text, f"a sentence without the file: {error!r}"
        assert "\n" not in text and len(text) < LONGEST, f"more than a sentence: {error!r}"
        return False
    return True


def rezipped(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip archive with its members changed, and right sums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
