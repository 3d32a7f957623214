"""`python -m minikeras doctor` on the CPU: what it tells, and that it finds what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras.doctor import examination, machine
from minikeras.doctor.trainings import CLASSES, SIGN, TRAININGS, Training, cnn, lstm, mlp
from minikeras.kernels import comparison

SMALL = [
    Training("W1", lambda: mlp(8), CLASSES, (784,), 0, 64, 32),
    Training("W3", lambda: cnn(2), CLASSES, (28, 28, 1), 0, 16, 8),
    Training("W5", lambda: lstm(8), SIGN, (80,), 20_000, 8, 4),
]


@pytest.fixture(autouse=True)
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "LARGE", [])


def examined(trainings: list[Training] = SMALL) -> tuple[int, list[str]]:
    lines: list[str] = []
    before = k.active_device()
    status = examination.examine(lines.append, trainings=trainings)
    assert k.active_device() == before
    return status, lines


def test_a_healthy_machine_passes() -> None:
    status, lines = examined()
    text = "\n".join(lines)
    assert status == 0 and lines[-1].startswith("PASS: everything, in ")
    assert "GPU: none is used, " in text and f"NumPy {np.__version__}".lower() in text.lower()
    assert next(line for line in lines if line.startswith("lstm_grad ")).split()[1:3] == ["f4", "f8"]
    for training in SMALL:
        assert f"CPU: training {training.name}: " in text
    named = {line.split()[0] for line in lines if line.endswith("PASS")}
    assert named == k.names()


def override(name: str, make: Callable[[Any], Any]) -> None:
    """A kernel of the CPU that does with the reference's result what it is told."""
    known = k.table._references[name]

    def spoilt(k: Any, x: Any, activation: Any, out: Any = None) -> Any:
        return make(known(k, x, activation, out))

    k.override(name, "cpu")(spoilt)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda y: y * np.float32(1.001), "differs by 1.0e-03 of its largest number, 5e-05 at most (float32)"),
        (lambda y: y.astype("float64"), "gave float64, not float32 (float32)"),
        (lambda y: y[:1], "gave the shape (1, 5), not (4, 5) (float32)"),
        (lambda y: None, "gave None (float32)"),
        (lambda y: 1 // 0, "ZeroDivisionError: integer division or modulo by zero (float32)"),
        (lambda y: np.where(y == y.max(), np.nan, y), "differs by inf of its largest number"),
    ],
)
def test_a_wrong_kernel_is_named(make: Callable[[Any], Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "KERNELS", examination.KERNELS[:3])
    override("activate", make)
    try:
        status, lines = examined([])
    finally:
        k.withdraw("activate", "cpu")
    assert status == 1
    assert f"FAILED: cpu kernel activate {reason}" in "\n".join(lines)
    assert lines[-1].startswith("  - cpu kernel ")


def test_a_training_that_does_not_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "KERNELS", [])
    draws = iter(range(9))

    class Other(Training):
        def run(self, jit_compile: bool | str) -> Any:
            found = super().run(jit_compile)
            found.weights[0][0, 0] += 1e-3 * next(draws)
            return found

    status, lines = examined([Other("W1", lambda: mlp(4), CLASSES, (784,), 0, 32, 32)])
    failures = [line for line in lines if line.startswith("FAILED: CPU")]
    assert status == 1 and "a second time differs" in failures[0] and "without programs differs" in failures[1]


def test_a_kernel_that_others_call_is_the_cause() -> None:
    outcomes = {
        name: comparison.Outcome(name, reason=reason) for name, reason in zip("abcd", ("x", "x", "", "x"), strict=True)
    }
    outcomes["a"].within = {"b", "c"}
    outcomes["d"].within = {"c", "d"}
    assert [one.name for one in comparison.causes(outcomes, set("abcd"))] == ["b", "d"]
    assert [one.name for one in comparison.causes(outcomes, {"a"})] == ["a"]


def test_the_trainings_are_those_of_the_benchmarks() -> None:
    import minikeras
    from benchmarks import keras_models

    for training, name in zip(TRAININGS, ("mlp", "cnn", "lstm"), strict=True):
        ours, theirs = training.make(), keras_models.MODELS[name][0](minikeras)
        assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
        assert [type(layer) for layer in ours.layers] == [type(layer) for layer in theirs.layers]


def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert machine.why_no_gpu().startswith("CuPy is not installed")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(machine.config, "driver_is_there", lambda: False)
    assert "there is no CUDA driver" in machine.why_no_gpu()
    monkeypatch.setattr(machine.config, "driver_is_there", lambda: True)
    monkeypatch.setattr(machine.config, "gpu_is_there", lambda: False)
    assert "no device is found: " in machine.why_no_gpu()
    monkeypatch.setattr(machine.config, "gpu_is_there", lambda: True)
    assert machine.why_no_gpu() == ""


def command(*words: str, folder: Path) -> subprocess.CompletedProcess:
    code = (
        "import sys\n"
        "from minikeras import __main__\n"
        "from minikeras.doctor import examination\n"
        "examination.examine = lambda say, xp: say(f'examined {xp}') or 1\n"
        "sys.exit(__main__.main(sys.argv[1:]))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)


def test_the_command(tmp_path: Path) -> None:
    found = command("doctor", folder=tmp_path)
    assert (found.returncode, found.stdout) == (1, "examined None\n")
    (tmp_path / "gpu.json").write_text('{"Some GPU": {"softmax": "was wrong"}}')
    for said in ("What was turned off is forgotten; the next use of a GPU checks it.\n", "Nothing was turned off.\n"):
        found = command("doctor", "--reset", folder=tmp_path)
        assert (found.returncode, found.stdout) == (0, said)
    assert not (tmp_path / "gpu.json").exists()
