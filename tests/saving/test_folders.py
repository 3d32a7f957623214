"""Models as folders: the members of a `.keras` archive, unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving import load_model

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)


def network() -> Any:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    model.compile(minikeras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(X, X[:, :2], verbose=0)
    return model


def same(one: Any, other: Any) -> bool:
    pairs = zip(one.get_weights() + state(one), other.get_weights() + state(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def state(model: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.optimizer.variables]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    model = network()
    model.save(tmp_path / "model", zipped=False)
    return model, tmp_path / "model"


def refused(named: Path, match: str, path: Path | None = None) -> None:
    with pytest.raises(ValueError, match=match) as raised:
        load_model(path or named)
    assert named.name in str(raised.value) and "\n" not in str(raised.value)


def test_round_trip(saved: Any) -> None:
    model, path = saved
    assert sorted(one.name for one in path.iterdir()) == ["config.json", "metadata.json", "model.weights.h5"]
    assert same(load_model(path), model)
    other = network()
    other.load_weights(path)
    assert same(other, model)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_layers_own_files(tmp_path: Path) -> None:
    texts = layers.TextVectorization(vocabulary=["a", "b"])
    model = minikeras.Sequential([minikeras.Input((1,), dtype="string"), texts])
    model.save(tmp_path / "words", zipped=False)
    assert load_model(tmp_path / "words").layers[-1].get_vocabulary() == texts.get_vocabulary()


def test_an_unpacked_archive(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        archive.extractall(tmp_path / "m")
    assert same(load_model(tmp_path / "m"), model)


def test_weights_as_npz(saved: Any) -> None:
    model, path = saved
    model.save_weights(path / "model.weights.npz")
    (path / "model.weights.h5").unlink()
    assert same(load_model(path), model)


def test_saving_again_replaces_the_model(saved: Any) -> None:
    _, path = saved
    other = network()
    other.save(path, zipped=False)
    assert same(load_model(path), other) and [one.name for one in path.parent.iterdir()] == [path.name]
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        other.save(path, zipped=False, overwrite=False)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    network().save(tmp_path / "model", zipped=False)
    load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "members", [["notes.txt"], ["assets"], ["config.json"], ["config.json", "model.weights.h5", ".git"]]
)
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, members: list[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in members:
        (folder / name).write_text("mine")
    with pytest.raises(FileExistsError, match="is not replaced, as it holds"):
        network().save(folder, zipped=False)
    assert {one.name: one.read_text() for one in folder.iterdir()} == dict.fromkeys(members, "mine")
    with pytest.raises(FileExistsError, match="as it is a file"):
        network().save(folder / members[0], zipped=False)
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.write_bytes"])
def test_a_failed_save_keeps_what_was_there(saved: Any, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    model, path = saved

    def fail(*arguments: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(where, fail)
        network().save(path, zipped=False)
    assert same(load_model(path), model) and [one.name for one in path.parent.iterdir()] == [path.name]


def test_places_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="create it first"):
        network().save(tmp_path / "none" / "model", zipped=False)
    for name in ("model.keras", "model.h5"):
        with pytest.raises(ValueError, match="zipped=False writes a folder"):
            network().save(tmp_path / name, zipped=False)


def test_links_out_of_the_folder(saved: Any, tmp_path: Path) -> None:
    _, path = saved
    for name in ("config.json", "model.weights.h5"):
        (path / name).rename(tmp_path / name)
        (path / name).symlink_to(tmp_path / name)
        refused(path, "is a link out of its folder")
        (path / name).unlink()
        (tmp_path / name).rename(path / name)
    (tmp_path / "secret.txt").write_text("secret")
    (path / "assets").mkdir()
    (path / "assets" / "vocabulary.txt").symlink_to(tmp_path / "secret.txt")
    refused(path, "is a link out of its folder")


def test_a_link_to_a_folder_is_not_followed(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = saved
    (path / "assets").symlink_to("/", target_is_directory=True)
    monkeypatch.setattr("pathlib.Path.rglob", lambda *arguments: pytest.fail("what it leads to was listed"))
    refused(path, "assets' is a link, which is not followed")


def test_files_of_no_layer_are_not_read(saved: Any) -> None:
    model, path = saved
    (path / "assets").mkdir()
    with open(path / "assets" / "large", "wb") as file:
        file.truncate(1 << 40)
    assert same(load_model(path), model)


def test_half_a_folder(saved: Any) -> None:
    _, path = saved
    (path / "metadata.json").write_text("{")
    load_model(path)  # nothing depends on it
    (path / "model.weights.h5").unlink()
    refused(path, r"has no model\.weights\.h5")
    (path / "model.weights.h5").write_text("version https://git-lfs.github.com/spec/v1")
    refused(path / "model.weights.h5", "Git LFS", path=path)
    (path / "config.json").write_text("{")
    (path / "model.weights.h5").write_text("x")
    refused(path, "is JSON text")
