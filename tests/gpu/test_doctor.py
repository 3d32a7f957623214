"""The doctor on the stand-in: it finds what is wrong with a GPU, turns that off and nothing else, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu import recorder, spoilt

from minikeras.doctor import examination
from minikeras.doctor.cases import KERNELS, LARGE
from minikeras.doctor.trainings import CLASSES, SIGN, Trained, Training, cnn, lstm, mlp
from minikeras.kernels import table
from minikeras.kernels.comparison import Compared, Watched
from minikeras.kernels.cuda import turned_off

SMALL = [
    Training("W1", lambda: mlp(8), CLASSES, (784,), 0, 32, 32),
    Training("W3", lambda: cnn(2), CLASSES, (28, 28, 1), 0, 8, 8),
    Training("W5", lambda: lstm(8), SIGN, (80,), 20_000, 4, 4),
]
xp = recorder._module


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose GPU nobody has used."""
    monkeypatch.setattr(turned_off, "path", lambda: tmp_path / "cache" / "gpu.json")
    monkeypatch.setattr(turned_off, "_begun", set())
    monkeypatch.setattr(turned_off, "_off", {})
    monkeypatch.setattr(examination.Examination, "cpu", lambda self: None)
    yield
    for name in table.names():
        table.turn_off(name, "gpu", None)


def some(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let there be only some cases."""
    monkeypatch.setattr(examination, "KERNELS", [case for case in KERNELS if case.__name__ in names])
    monkeypatch.setattr(examination, "LARGE", [case for case in LARGE if case.__name__ in names])


def examined(trainings: Any = ()) -> tuple[int, list[str]]:
    lines: list[str] = []
    with recorder.recording_device():
        status = examination.examine(lines.append, xp, large=False, trainings=trainings)
    return status, lines


# of products that pay only for what would take the stand-in minutes; the doctor's large cases run them on a device
LARGE_ONLY = {"add_columns", "gather_columns"}


def test_a_device_that_computes_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(examination.TYPES, "gpu", ("float32", "bfloat16"))
    status, lines = examined(SMALL)
    text = "\n".join(lines)
    assert status == 0, text
    assert "GPU: Stand-in, compute capability 9.0" in text and "driver for CUDA 12.8, runtime 13.0" in text
    assert lines[-1].startswith("PASS: everything")
    (row,) = [line for line in lines if line.startswith("activate_grad ")]
    assert row.split()[1:3] == ["f4", "b2"] and row.endswith("PASS (activate_grad)")
    (ran,) = [line for line in lines if " CUDA kernels ran" in line]
    assert set(ran.partition(", not: ")[2].rstrip(".").split(", ")) <= LARGE_ONLY  # add a case for each other one
    for training in SMALL:
        assert f"GPU: training {training.name}: " in text
    assert json.loads(turned_off.path().read_text()) == {turned_off.device_of(xp): {}}


def test_every_kernel_that_the_gpu_overrides_is_run_by_a_case() -> None:
    """In the override itself: a call that its conditions do not let through would only run the reference."""
    ran: set[str] = set()
    every = [(name, one) for name, overrides in table._overrides["gpu"].items() for one in overrides]
    before = {id(one): one.replacement for _, one in every}

    def noting(name: str, function: Any) -> Any:
        def noted(*arguments: Any, **options: Any) -> Any:
            ran.add(name)
            return function(*arguments, **options)

        noted.__module__, noted.__doc__ = function.__module__, function.__doc__
        return noted

    def replace(made: Any) -> None:
        for name, one in every:
            one.replacement = made(name, before[id(one)])
            one.__dict__.pop("choice", None)
            table._changed(name)

    try:
        replace(noting)
        outcomes: dict[str, Any] = {}
        for case in (*KERNELS, *LARGE):
            case(Compared("float32", Watched(xp, "gpu"), outcomes))
    finally:
        replace(lambda name, function: function)
    assert not [one for one in outcomes.values() if not one.passed]
    assert table.overridden("gpu") - ran == set()  # add a case


def test_wrong_numbers_turn_off_the_kernel_and_none_of_those_that_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "_activations", "_products", "_recurrences", "_row_losses")
    with spoilt.activate(spoilt.wrong_numbers):
        status, lines = examined()
    assert status == 1
    (failure,) = [line for line in lines if line.startswith("FAILED: ") and "checks" not in line]
    assert (
        failure.startswith("FAILED: activate differs by ") and "; it is turned off on Stand-in, driver 12.8" in failure
    )
    assert set(turned_off.all_off()) == {"activate"}
    (kept,) = json.loads(turned_off.path().read_text()).values()
    assert set(kept) == {"activate"}


def test_what_is_mended_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "_activations")
    turned_off.turn_off(xp, "activate", "was wrong")
    status, _ = examined()
    assert status == 0 and not turned_off.all_off()


def test_what_raises_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "_activations")

    with spoilt.activate(spoilt.refused):
        status, lines = examined()
    assert status == 1 and set(turned_off.all_off()) == {"activate"}
    assert "activate RuntimeError: the driver has no such instruction (float32); it is" in "\n".join(lines)


def test_what_stops_the_device_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "_activations")

    def stop(*arguments: Any) -> Any:
        stopped.setattr(recorder.DeviceArray, "get", lambda self: 1 / 0, raising=False)
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.MonkeyPatch.context() as stopped, spoilt.activate(stop):
        status, lines = examined(SMALL)
    assert status == 1 and "run doctor again" in "\n".join(lines) and "training" not in "\n".join(lines)
    status, lines = examined()
    assert status == 1 and set(turned_off.all_off()) == {"activate"}
    assert "activate stopped the device: RuntimeError: an illegal memory access" in "\n".join(lines)


class Graphs:
    """A training that goes wrong as a graph while something is on."""

    name = "W1"

    def __init__(self, *guilty: str, raises: bool = False):
        self.guilty, self.raises = guilty, raises

    def run(self, jit_compile: bool | str) -> Trained:
        wrong = jit_compile and any(turned_off.reason(name) is None for name in self.guilty)
        if wrong and self.raises:
            raise NotImplementedError("cuBLAS in a capture")
        return Trained([1.5 if wrong else 1.0], [np.ones(2)], 0.1)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("guilty", [("cublaslt",), ("graphs",), ("nothing",)])
def test_graphs(guilty: tuple[str, ...], raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch)
    status, lines = examined([Graphs(*guilty, raises=raises)])
    assert status == 1
    assert set(turned_off.all_off()) == {*guilty} - {"nothing"}
    assert ("NotImplementedError: cuBLAS in a capture" if raises else "differs by 5.0e-01") in "\n".join(lines)


def test_a_training_that_is_wrong_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch)

    class Wrong(Graphs):
        def run(self, jit_compile: bool | str) -> Trained:
            from minikeras import kernels

            return Trained([1.0 if kernels.active_device() != "gpu" else float("nan")], [], 0.1)

    status, lines = examined([Wrong()])
    assert status == 1 and "FAILED: GPU: training W1 differs by inf" in lines
