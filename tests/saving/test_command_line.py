"""`python -m minikeras info` and `convert`: what they tell, what they write, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers, models
from minikeras.__main__ import main
from minikeras.saving import load_model

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)


def network() -> Any:
    inner = minikeras.Sequential([minikeras.Input((4,)), layers.Dense(5, name="deep")], name="inside")
    model = minikeras.Sequential(
        [minikeras.Input((3,)), layers.Dense(4, name="first"), inner, layers.Dense(2, name="last")], name="net"
    )
    model.compile(minikeras.optimizers.Adam(0.01), "mse")
    model.fit(X, X[:, :2], verbose=0)
    return model


def state(model: Any) -> list[np.ndarray]:
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(state(one), state(other), strict=True))


@pytest.fixture
def model() -> Any:
    return network()


def told(capsys: pytest.CaptureFixture, *arguments: Any) -> str:
    capsys.readouterr()
    assert main([str(one) for one in arguments]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture, match: str, *arguments: Any) -> None:
    capsys.readouterr()
    assert main([str(one) for one in arguments]) == 1
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1 and "Traceback" not in captured.err
    with pytest.raises(ValueError, match=match):
        raise ValueError(captured.err)


# ---------------------------------------------------------------- info


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m"])
def test_whole_models(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any, name: str) -> None:
    model.save(tmp_path / name, zipped=name != "m")
    text = told(capsys, "info", tmp_path / name)
    assert "Sequential, compiled with Adam" in text and "written by   Keras 3" in text
    assert "weights      6 arrays of 53 numbers, 212 bytes" in text
    assert "optimizer    14 arrays of 108 numbers, 432 bytes" in text
    rows = {line.split()[0]: line for line in text.splitlines() if "(" in line}
    assert rows["first"].split()[-1] == "16" and "[None, 3]" in rows["first"] and "(Dense)" in rows["first"]
    assert rows["last"].split()[-1] == "12" and rows["inside"].split()[-1] == "25" and "deep" in rows


@pytest.mark.parametrize("name", ["w.weights.h5", "w.weights.json", "w.npz", "w.h5"])
def test_weights_alone(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any, name: str) -> None:
    model.save_weights(tmp_path / name)
    text = told(capsys, "info", tmp_path / name)
    assert "weights      6 arrays of 53 numbers, 212 bytes" in text and "3x4" in text
    assert ("optimizer" in text) == (name != "w.h5")


def test_an_architecture(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    (tmp_path / "m.json").write_text(model.to_json())
    text = told(capsys, "info", tmp_path / "m.json")
    assert "architecture (JSON)" in text and "first (Dense)" in text and "weights  " not in text


def test_neither_arrays_nor_a_model_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that asks for 4 TB in a layer of a class that nobody knows is told of all the same."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        huge = {"class_name": "Huge", "config": {"name": "huge\x1b[31m", "units": 10**12}}
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [huge]}})
        group = file.create_group("model_weights/huge")
        file["model_weights"].attrs["layer_names"] = [b"huge"]
        group.create_dataset("kernel", (1 << 20, 1 << 20), "f4", chunks=(64, 64), compression="gzip")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: 1 / 0)
    text = told(capsys, "info", path)
    assert "1048576x1048576" not in text.replace("huge", "") or "1,099,511,627,776 numbers" in text
    assert "needs the class 'Huge' of module None" in text and "compressed (gzip)" in text
    assert "\x1b" not in text and "huge?[31m" in text


def test_what_is_unusual(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/layers")
        file["external"] = h5py.ExternalLink("/etc/passwd", "/")
        file["again"] = file["layers"]
        file["loop"] = file["/"]
        file["text"] = np.array([b"text"])
        file.create_dataset("elsewhere", (4,), "f4", external=[("/etc/passwd", 0, 16)])
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
        file.create_virtual_dataset("virtual", layout)
    unusual = [line for line in told(capsys, "info", path).splitlines() if line.startswith("unusual")]
    for part in (
        *(
            "'soft' is a link",
            "'external' is a link",
            "'elsewhere' is stored in another",
            "'virtual' is stored in another",
        ),
        *("'text' holds no numbers", "is the same as another group", "'loop' is the same as another"),
    ):
        assert any(part in line for line in unusual), (part, unusual)


def test_sums_of_arrays(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    model.save_weights(tmp_path / "m.weights.h5")
    assert "unusual" not in told(capsys, "info", tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        file["layers/dense/vars/0"].attrs.clear()
    assert "arrays have no checksums" in told(capsys, "info", tmp_path / "m.weights.h5")


def test_lambdas_and_code(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    models.Sequential([minikeras.Input((3,)), layers.Lambda(lambda x: x, name="step")]).save(tmp_path / "m.keras")
    assert "needs the function of the Lambda layer 'step'" in told(capsys, "info", tmp_path / "m.keras")


def test_groups_of_older_files(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5", "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    assert "as Keras 2.12 to 2.15 did" in told(capsys, "info", tmp_path / "m.weights.h5")


@pytest.mark.parametrize("content", [b"", b"a note", b"PK\x03\x04", b"{", b"\x89HDF\r\n\x1a\n", b"\x80\x04."])
def test_what_is_no_file_of_these(tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes) -> None:
    (tmp_path / "file.h5").write_bytes(content)
    refused(capsys, r"minikeras: .*file\.h5", "info", tmp_path / "file.h5")
    refused(capsys, r"minikeras: .*file\.h5", "convert", tmp_path / "file.h5", tmp_path / "x.keras")
    assert [one.name for one in tmp_path.iterdir()] == ["file.h5"]


# ---------------------------------------------------------------- convert


WHOLE = ["m.keras", "m.h5", "m.hdf5", "m"]


@pytest.mark.parametrize("target", WHOLE)
@pytest.mark.parametrize("source", ["m.keras", "m.h5", "m"])
def test_models_keep_their_optimizers_state(
    tmp_path: Path, capsys: pytest.CaptureFixture, model: Any, source: str, target: str
) -> None:
    (tmp_path / "from").mkdir()
    model.save(tmp_path / "from" / source, zipped=source != "m")
    text = told(capsys, "convert", tmp_path / "from" / source, tmp_path / target)
    assert str(tmp_path / target) in text and "the model 'net'" in text
    copy = load_model(tmp_path / target)
    assert same(copy, model)
    copy.fit(X, X[:, :2], epochs=2, shuffle=False, verbose=0)
    model.fit(X, X[:, :2], epochs=2, shuffle=False, verbose=0)
    assert same(copy, model)


BY_PATH = ["w.weights.h5", "w.weights.json", "w.npz"]


@pytest.mark.parametrize("target", BY_PATH)
@pytest.mark.parametrize("source", [*BY_PATH, "m.keras"])
def test_weights(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any, source: str, target: str) -> None:
    (tmp_path / "from").mkdir()
    (model.save if source[0] == "m" else model.save_weights)(tmp_path / "from" / source)
    told(capsys, "convert", tmp_path / "from" / source, tmp_path / target)
    other = network()
    other.load_weights(tmp_path / target)
    assert same(other, model)


def test_architectures(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    model.save(tmp_path / "m.h5")
    told(capsys, "convert", tmp_path / "m.h5", tmp_path / "m.json")
    told(capsys, "convert", tmp_path / "m.json", tmp_path / "n.json")
    made = models.model_from_json((tmp_path / "n.json").read_text())
    assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]
    refused(capsys, "architecture without weights", "convert", tmp_path / "m.json", tmp_path / "m.keras")


def test_what_cannot_be_converted(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "w.weights.h5")
    model.save_weights(tmp_path / "layered.h5")
    before = sorted(tmp_path.iterdir())
    for source, target, match in (
        ("w.weights.h5", "x.keras", r"without the model that '.*x\.keras' needs"),
        ("w.weights.h5", "x.h5", "without the model"),
        ("layered.h5", "x.npz", "without the model"),
        ("m.keras", "x.txt", "convert writes files ending in"),
        ("m.keras", "w.weights.h5", "exists; pass --overwrite"),
        ("none.keras", "x.h5", "no file"),
    ):
        refused(capsys, match, "convert", tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.iterdir()) == before
    told(capsys, "convert", "--overwrite", tmp_path / "m.keras", tmp_path / "w.weights.h5")


def test_a_loss_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any) -> None:
    def own_loss(y: Any, p: Any) -> Any:
        return minikeras.ops.mean(y - p, -1)

    model.compile("sgd", own_loss)
    model.save(tmp_path / "m.keras")
    refused(capsys, "the function 'own_loss'", "convert", tmp_path / "m.keras", tmp_path / "m.h5")
    told(capsys, "convert", "--without-optimizer", tmp_path / "m.keras", tmp_path / "m.h5")
    copy = load_model(tmp_path / "m.h5")
    assert not copy.compiled and all(map(np.array_equal, copy.get_weights(), model.get_weights()))


def test_from_a_shell(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("readme.txt", "x")
    command = [sys.executable, "-m", "minikeras"]
    done = subprocess.run([*command, "info", tmp_path / "m.keras"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not a model file" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*command, "infos"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_model_of_ones_own_class_shows_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Own(minikeras.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner = layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    model = Own()
    model(X)
    model.save(tmp_path / "own.keras")
    text = told(capsys, "info", tmp_path / "own.keras")
    assert (
        "inner/vars  3x2 2    8\n" in text and "Layer (type)" not in text and "model        Own, not compiled" in text
    )


@pytest.mark.parametrize("training", ["[1, 2]", "7", '{"optimizer": 7, "optimizer_config": []}'])
def test_a_compilation_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture, model: Any, training: str) -> None:
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file.attrs["training_config"] = training
    assert "first (Dense)" in told(capsys, "info", tmp_path / "m.h5")


def test_groups_in_groups(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with h5py.File(tmp_path / "deep.weights.h5", "w") as file:
        group = file.create_group("layers")
        for _ in range(300):
            group = group.create_group("a")
    refused(capsys, "deep.weights.h5' has groups within groups, 200", "info", tmp_path / "deep.weights.h5")


def test_the_way_to_replace_a_file_is_the_command_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture, model: Any
) -> None:
    model.save(tmp_path / "m.keras")
    refused(capsys, "m.keras' exists; pass --overwrite", "convert", tmp_path / "m.keras", tmp_path / "m.keras")
