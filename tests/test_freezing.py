"""Frozen programs: PyInstaller finds the hook, and what it makes needs no sources and no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import minikeras
from minikeras.freezing import hook_folders
from minikeras.kernels.cpu.compiler import loader

PACKAGE = Path(minikeras.__file__).parent
PROGRAM = """
import sys
import numpy as np
from minikeras import Sequential, kernels, layers, utils
from minikeras.models.older_config import tables

utils.set_random_seed(1)
model = Sequential([layers.Dense(64, activation="relu"), layers.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
x, y = np.random.default_rng(0).random((64, 20)).astype("f4"), np.arange(64) % 3
print(kernels.active_device(), model.fit(x, y, epochs=2, verbose=0).history["loss"])
print({name.partition(".")[0] for name in sys.modules} & {"llvmlite", "numba"})
"""


def run(command: list[str], folder: Path, **environment: str) -> str:
    environment = {**os.environ, "MINIKERAS_DEVICE": "cpu", **environment}
    found = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_hook_is_where_pyinstaller_looks() -> None:
    (folder,) = hook_folders()
    assert (Path(folder) / "hook-minikeras.py").is_file()


def test_a_program_in_a_zip_file(tmp_path: Path) -> None:
    """Whose modules and lists are read by another loader than usual."""
    file = tmp_path / "minikeras.zip"
    with zipfile.ZipFile(file, "w") as packed:
        for source in PACKAGE.rglob("*"):
            if source.suffix in (".py", ".pyi", ".txt"):
                packed.write(source, source.relative_to(PACKAGE.parent))
    usual = run([sys.executable, "-c", PROGRAM], tmp_path, PYTHONPATH=str(PACKAGE.parent))
    cache = str(tmp_path / "cache")
    zipped = [run([sys.executable, "-c", PROGRAM], tmp_path, PYTHONPATH=str(file), NUMBA_CACHE_DIR=cache) for _ in "12"]
    assert [text.splitlines()[0] for text in zipped] == usual.splitlines()[:1] * 2
    if loader.OWN:  # what the first run compiled was found by the second
        assert zipped[1].splitlines()[1] == "set()"


@pytest.mark.skipif(find_spec("PyInstaller") is None, reason="PyInstaller is not installed")
def test_a_program_that_pyinstaller_made(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    python = {"PYTHONPATH": str(PACKAGE.parent)}
    usual = run([sys.executable, "program.py"], tmp_path, **python)
    hooks = [f"--additional-hooks-dir={hook_folders()[0]}", "--log-level", "WARN"]
    run([sys.executable, "-m", "PyInstaller", *hooks, "program.py"], tmp_path, **python)
    made = run([str(tmp_path / "dist" / "program" / "program")], tmp_path, PYTHONPATH="")
    assert made.splitlines()[0] == usual.splitlines()[0]
    if loader.OWN:
        assert made.splitlines()[1] == "set()"
        assert not list((tmp_path / "dist").rglob("*llvmlite*"))
