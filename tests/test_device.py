"""Choosing a device where there is no GPU: one clear sentence, or silently the CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minikeras import config

NO_CUPY = "import sys; sys.modules['cupy'] = None"
NO_DEVICE = """
import sys, types
from importlib.machinery import ModuleSpec
cupy = sys.modules["cupy"] = types.ModuleType("cupy")
cupy.__spec__ = ModuleSpec("cupy", None)
def getDeviceCount():
    {count}
cupy.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=getDeviceCount))
"""
MACHINES = {
    "without CuPy": (NO_CUPY, "CuPy is not installed; run pip install"),
    "without a device": (NO_DEVICE.format(count="return 0"), "no CUDA device was found; check the driver"),
    "with a broken driver": (NO_DEVICE.format(count="raise OSError"), "no CUDA device was found; check the driver"),
}
each_machine = pytest.mark.parametrize(("machine", "reason"), MACHINES.values(), ids=MACHINES)


def run(code: str, device: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "MINIKERAS_DEVICE": device}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@each_machine
def test_a_gpu_that_is_not_there_is_refused_and_nothing_changes(machine: str, reason: str) -> None:
    result = run(
        f"{machine}\n"
        "from minikeras import config, ops\n"
        "try: config.set_device('gpu')\n"
        "except RuntimeError as error: print(error)\n"
        "print(config.device(), float(ops.sum(ops.ones(3))))",
        device="cpu",
    )
    message, state = result.stdout.splitlines()
    assert reason in message
    assert message.startswith("The device 'gpu' was asked for, but")
    assert message.count(".") == 1 and message.endswith(".")
    assert state == "cpu 3.0"


@each_machine
def test_the_environment_asks_for_a_gpu_that_is_not_there(machine: str, reason: str) -> None:
    result = run(f"{machine}\nfrom minikeras import layers", device="gpu")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("RuntimeError: The device 'gpu' was asked for, but")
    assert reason in result.stderr.splitlines()[-1]


@each_machine
def test_auto_falls_back_silently(machine: str, reason: str) -> None:
    code = f"{machine}\nfrom minikeras import kernels, layers\nprint(kernels.active_device(), kernels.xp.__name__)"
    result = run(code, device="auto")
    assert (result.stdout, result.stderr, result.returncode) == ("cpu numpy\n", "", 0)


def test_without_a_driver_cupy_is_not_imported() -> None:
    no_driver = "from minikeras import config\nconfig.driver_is_there = lambda: False"
    code = (
        f"{no_driver}\nimport sys\nfrom minikeras import kernels\nprint(kernels.active_device(), 'cupy' in sys.modules)"
    )
    assert run(code, device="auto").stdout == "cpu False\n"


@pytest.mark.parametrize("device", ["tpu", "cuda:0"])
def test_an_unknown_device(device: str) -> None:
    result = run("from minikeras import layers", device=device)
    expected = f"ValueError: MINIKERAS_DEVICE must be one of ('cpu', 'gpu', 'numpy', 'auto'), got '{device}'."
    assert result.stderr.splitlines()[-1] == expected


def test_an_empty_variable_means_auto() -> None:
    assert run(f"{NO_CUPY}\nfrom minikeras import config\nprint(config.device())", device=" ").stdout == "auto\n"


def test_the_device_numpy_runs_no_machine_code() -> None:
    """All kernels are the reference's, and nothing of the compiler is loaded."""
    result = run(
        f"{NO_CUPY}\n"
        "import numpy as np\n"
        "from minikeras import Sequential, config, kernels, layers, ops\n"
        "model = Sequential([layers.Dense(8, 'relu'), layers.Dropout(.5), layers.Dense(3, activation='softmax')])\n"
        "model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])\n"
        "model.fit(np.zeros((64, 4)), np.zeros(64), verbose=0); model.predict(np.zeros((4, 4)), verbose=0)\n"
        "plain = kernels.softmax.__func__ is kernels.reference.activation.softmax\n"
        "print(kernels.active_device(), config.device(), plain)\n"
        "print([name for name in sys.modules if name.startswith(('llvmlite', 'numba', 'minikeras.kernels.cpu'))])\n"
        "with config.device_scope('cpu:0'): print(config.device())\n"
        "config.set_device('cpu'); print(kernels.active_device(), kernels.softmax.__func__.__module__[:21])\n"
        "config.set_device('numpy'); print(kernels.active_device())\n"
        "try: ops.sparse_categorical_crossentropy(np.array([7]), np.array([[0.2, 0.8]]))\n"
        "except ValueError as error: print('refused')\n",
        device="numpy",
    )
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[:3] == ["numpy numpy True", "[]", "numpy"]
    assert lines[3:] == ["cpu minikeras.kernels.cpu", "numpy", "refused"]


# ---- a limit of a GPU's memory, which needs none to be set


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "0%", "101%", "half", "%", "1e9", "nan%", b"50%"])
def test_a_limit_of_memory_that_is_none(limit: object) -> None:
    config.set_gpu_memory_limit("40 %")
    with pytest.raises(
        ValueError, match=r"^limit must be a positive number of bytes, a share .* such as '50%', or None"
    ):
        config.set_gpu_memory_limit(limit)  # type: ignore[arg-type]
    assert config.gpu_memory_limit() == "40%"
    config.set_gpu_memory_limit(None)


@pytest.mark.parametrize(("text", "limit"), [("", None), ("12.5%", "12.5%"), (" 4000000 ", 4_000_000)])
def test_the_environment_limits_memory(text: str, limit: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKERAS_GPU_MEMORY_LIMIT", text)
    result = run("from minikeras import config; print(repr(config.gpu_memory_limit()))", device="cpu")
    assert result.stdout == f"{limit!r}\n"


def test_a_limit_in_the_environment_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKERAS_GPU_MEMORY_LIMIT", "much")
    result = run("from minikeras import config", device="cpu")
    assert result.stderr.splitlines()[-1].startswith("ValueError: MINIKERAS_GPU_MEMORY_LIMIT must be a positive number")


def test_looking_for_what_is_turned_off_costs_nothing_on_the_cpu() -> None:
    code = "import sys\nfrom minikeras import kernels, layers\nprint([one for one in sys.modules if 'cuda' in one])"
    assert run(code, device="cpu").stdout == "[]\n"
