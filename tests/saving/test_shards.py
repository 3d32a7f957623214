"""Weights in several files: round trips, bounds of a shard, and lists that must not be trusted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving import load_weights, save_weights

SMALL = 100 / (1 << 30)  # 100 bytes in GB


def network(units: int = 4) -> Any:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(units), layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    model = network()
    path = tmp_path / "m.weights.json"
    model.save_weights(path, max_shard_size=SMALL)
    return model, path


def values(model: Any) -> list[np.ndarray]:
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def refused(path: Path, match: str, error: Any = ValueError) -> None:
    model = network()
    before = values(model)
    with pytest.raises(error, match=match) as raised:
        model.load_weights(path)
    assert "\n" not in str(raised.value)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def rewrite(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


def test_round_trip_with_the_optimizers_state(saved: Any) -> None:
    model, path = saved
    other = network()
    other.load_weights(path)
    assert same(model, other)
    shards = [name for name in names(path) if name.endswith(".h5")]
    assert shards == [f"m_0000{i}.weights.h5" for i in range(len(shards))] and len(shards) > 3
    total = sum(value.nbytes for value in values(model))
    assert json.loads(path.read_text())["metadata"]["total_size"] == total
    for name in shards:
        with h5py.File(path.with_name(name)) as file:
            places: list[str] = []
            file.visit(places.append)
            assert 0 < sum(file[place].nbytes for place in places if hasattr(file[place], "nbytes")) <= 100


def test_one_shard_by_default(tmp_path: Path) -> None:
    model = network()
    model.save_weights(tmp_path / "a.weights.json")
    assert names(tmp_path / "a") == ["a.weights.json", "a_00000.weights.h5"]
    with pytest.warns(UserWarning, match=r"listed in a \.json file"):
        model.save_weights(tmp_path / "b.weights.h5", max_shard_size=1)
    assert "b.weights.json" in names(tmp_path / "a")
    other = network()
    other.load_weights(tmp_path / "b.weights.json")
    assert same(model, other)


def test_shards_of_an_earlier_save_go_and_other_files_stay(saved: Any) -> None:
    model, path = saved
    before = names(path)
    path.with_name("m_00099.weights.h5").write_text("mine")
    model.save_weights(path)
    assert names(path) == ["m.weights.json", "m_00000.weights.h5", "m_00099.weights.h5"] and len(before) > 3
    rewrite(path, lambda content: content["weight_map"].update(x=["m_00099.weights.h5", "other.h5"]))
    path.with_name("other.h5").write_text("mine")
    model.save_weights(path)
    assert names(path) == ["m.weights.json", "m_00000.weights.h5", "other.h5"]


def test_an_array_larger_than_a_shard(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layers/dense/vars/0 has 48 bytes, a shard at most 40; pass a larger"):
        network().save_weights(tmp_path / "m.weights.json", max_shard_size=40 / (1 << 30))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, -1, float("nan"), "1GB", True])
def test_sizes_that_are_none(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match="max_shard_size"):
        network().save_weights(tmp_path / "m.weights.json", max_shard_size=size)


def test_no_shards_of_other_formats(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.weights\.json"):
        network().save_weights(tmp_path / "m.npz", max_shard_size=1)


def test_existing_files_are_kept(saved: Any) -> None:
    model, path = saved
    with pytest.raises(FileExistsError, match="exists"):
        model.save_weights(path, overwrite=False)
    path.unlink()
    with pytest.raises(FileExistsError, match="m_00000"):
        model.save_weights(path, overwrite=False)


def test_a_failed_save_keeps_what_was_there(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = saved
    before = {name: path.with_name(name).read_bytes() for name in names(path)}
    monkeypatch.setattr(type(model.optimizer), "save_own_variables", lambda self, store: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save_weights(path, max_shard_size=SMALL)
    assert {name: path.with_name(name).read_bytes() for name in names(path)} == before


def test_shards_of_two_saves_are_never_mixed(saved: Any) -> None:
    """As a killed save may leave them, with some shards new and the list old."""
    _, path = saved
    shard = path.with_name("m_00001.weights.h5")
    content = shard.read_bytes()
    network().save_weights(path, max_shard_size=SMALL)
    shard.write_bytes(content)
    refused(path, "is of another save")


@pytest.mark.parametrize(
    "name", ["../m_00000.weights.h5", "/etc/x.h5", "a/b.h5", "a\\b.h5", "", "..", "m.txt", 3, None]
)
def test_shards_elsewhere(saved: Any, name: Any) -> None:
    _, path = saved
    rewrite(path, lambda content: content["weight_map"].update({"/layers/dense/vars": name}))
    refused(path, r"should name \.h5 files beside it")


def test_links_out_of_the_folder(saved: Any, tmp_path: Path) -> None:
    _, path = saved
    (tmp_path / "elsewhere").mkdir()
    shard = path.with_name("m_00000.weights.h5")
    shard.rename(tmp_path / "elsewhere" / "x.h5")
    sub = tmp_path / "sub"
    sub.mkdir()
    for name in names(path):
        if name.endswith((".h5", ".json")):
            path.with_name(name).rename(sub / name)
    (sub / shard.name).symlink_to(tmp_path / "elsewhere" / "x.h5")
    refused(sub / path.name, "a link out of its folder")


def test_missing_shards(saved: Any) -> None:
    _, path = saved
    path.with_name("m_00001.weights.h5").unlink()
    refused(path, r"no file .*m_00001.*whole folder", FileNotFoundError)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("metadata"),
        lambda content: content.update(metadata=[]),
        lambda content: content["metadata"].update(total_size="many"),
        lambda content: content["metadata"].update(total_size=-1),
        lambda content: content["metadata"].update(total_size=float("inf")),
        lambda content: content.update(weight_map=[1]),
    ],
)
def test_lists_of_another_form(saved: Any, change: Any) -> None:
    _, path = saved
    rewrite(path, change)
    refused(path, "should list shards by metadata and weight_map")


def test_an_array_in_two_shards(saved: Any) -> None:
    _, path = saved
    with h5py.File(path.with_name("m_00001.weights.h5"), "a") as file:
        file.require_group("layers/dense/vars")["0"] = np.ones((3, 4), "f4")
    rewrite(
        path, lambda c: c["weight_map"].update({"/layers/dense/vars": ["m_00000.weights.h5", "m_00001.weights.h5"]})
    )
    refused(path, "in two shards")


def test_other_models_are_refused(saved: Any) -> None:
    _, path = saved
    with pytest.raises(ValueError, match="has shape"):
        load_weights(network(units=5), path)


def test_a_model_without_weights(tmp_path: Path) -> None:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Flatten()])
    save_weights(model, tmp_path / "m.weights.json")
    load_weights(model, tmp_path / "m.weights.json")


def test_threads_that_write_the_same_list(saved: Any) -> None:
    _, path = saved
    models = [network() for _ in range(3)]

    def save(model: Any) -> None:
        for _ in range(3):
            model.save_weights(path, max_shard_size=SMALL)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(save, models))
    read = network()
    read.load_weights(path)
    assert any(same(read, model) for model in models)
