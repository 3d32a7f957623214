"""Weights in `.npz` files: by path or as a list, and archives that must not be trusted."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving.npz_file import NpzReader, write_npz


def network(units: int = 4, **options: Any) -> Any:
    made = [minikeras.Input((3,)), layers.Dense(units, **options), layers.BatchNormalization(), layers.Dense(2)]
    model = minikeras.Sequential(made)
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    return model


def values(model: Any) -> list[np.ndarray]:
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(values(one), values(other), strict=True))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    model = network()
    model.save_weights(tmp_path / "m.npz")
    return model, tmp_path / "m.npz"


def refused(path: Path, match: str) -> None:
    model = network()
    before = values(model)
    with pytest.raises(ValueError, match=match) as error:
        model.load_weights(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def test_round_trip_with_the_optimizers_state(saved: Any) -> None:
    model, path = saved
    other = network()
    other.load_weights(path)
    assert same(model, other)


def test_numpy_reads_it(saved: Any) -> None:
    model, path = saved
    with np.load(path, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["layers/dense/vars/0"], model.layers[0].get_weights()[0])
        assert "optimizer/vars/0" in arrays


def test_bfloat16_is_exact(tmp_path: Path) -> None:
    model = network(dtype="bfloat16")
    model.save_weights(tmp_path / "m.npz")
    other = network(dtype="bfloat16")
    other.load_weights(tmp_path / "m.npz")
    assert same(model, other)


def test_a_list_of_weights(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "w.npz"
    np.savez(path, *model.get_weights())
    other = network()
    other.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
    np.savez(path, *model.get_weights()[:-1])
    refused(path, "it has 7 arrays, the model 8")
    np.savez(path, *[np.ones(3), *model.get_weights()[1:]])
    refused(path, r"arr_0 has shape \(3,\), the weight .*kernel.* has \(3, 4\)")


def test_other_models_are_refused(saved: Any) -> None:
    with pytest.raises(ValueError, match="has shape"):
        network(units=5).load_weights(saved[1])


def with_member(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for one, old in {**members, name: content}.items():
            archive.writestr(one, old)


def header(shape: Any, dtype: str, data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue() + data


BAD = {
    "bomb by shape": (header((1 << 20, 1 << 20), "<f4"), "claims the shape"),
    "negative shape": (header((-2, -2), "<f4", bytes(16)), "claims the shape|cannot be read"),
    "too little data": (header((3, 4), "<f4", bytes(8)), "claims the shape"),
    "objects": (header((1,), "|O", b"x"), "nothing is unpickled"),
    "text": (header((1,), "<U2", bytes(8)), "holds <U2 and no numbers"),
    "complex": (header((1,), "<c8", bytes(8)), "no numbers"),
    "no array": (b"hello", "cannot be read"),
    "an endless header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_members(saved: Any, name: str) -> None:
    content, match = BAD[name]
    with_member(saved[1], "layers/dense/vars/0.npy", content)
    refused(saved[1], match)


def test_zip_bomb(saved: Any) -> None:
    content = header((3 << 22,), "<f4", bytes(3 << 24))
    with_member(saved[1], "layers/dense/vars/1.npy", content, zipfile.ZIP_DEFLATED)
    refused(saved[1], "has shape|far more than the file holds")


def test_damage(saved: Any) -> None:
    _, path = saved
    content = bytearray(path.read_bytes())
    place = content.index(b"layers/dense/vars/0.npy") + 160
    content[place] ^= 1
    path.write_bytes(content)
    refused(path, "damaged at 'layers/dense/vars/0'|cannot be read")


def test_compressed_by_numpy(saved: Any, tmp_path: Path) -> None:
    model, path = saved
    with np.load(path) as arrays:
        np.savez_compressed(tmp_path / "c.npz", **arrays)
    other = network()
    other.load_weights(tmp_path / "c.npz")
    assert same(model, other)


def test_thousands_of_small_arrays(tmp_path: Path) -> None:
    """The directory of such an archive is about a third of it."""
    groups = [(f"layers/dense_{index:025}/vars", {"0": np.full(16, index, "f4")}) for index in range(12_000)]
    write_npz(tmp_path / "m.npz", groups)
    with NpzReader(tmp_path / "m.npz", "m.npz") as reader:
        assert len(list(reader.arrays())) == 12_000
