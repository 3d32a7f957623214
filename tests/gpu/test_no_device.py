"""CuPy itself, installed on a machine without a device."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def run(code: str, device: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "MINIKERAS_DEVICE": device, "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_asking_for_the_gpu(device: str) -> None:
    result = run("from minikeras import config, layers; config.set_device('gpu')", device)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "RuntimeError: The device 'gpu' was asked for, but no CUDA device was found; "
        "check the driver or choose the device 'cpu'."
    )


def test_auto() -> None:
    result = run("from minikeras import kernels; print(kernels.active_device())", "auto")
    assert (result.stdout, result.stderr) == ("cpu\n", "")
