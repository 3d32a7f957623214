"""`python -m minikeras warmup`: everything is compiled, kept, and found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from minikeras.kernels.cpu.compiler import host
from minikeras.kernels.cpu.warmup import kernels


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "minikeras", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_everything_is_compiled_and_kept(tmp_path: Path) -> None:
    result = run(tmp_path, "warmup")
    assert (result.returncode, result.stderr) == (0, "")
    places = {kernel.place for kernel in kernels()}
    assert {file.name.removesuffix(".code") for file in tmp_path.iterdir()} == places
    lines = result.stdout.splitlines()
    assert len(lines) == len(places) + 1
    assert lines[-1].startswith(f"{len(places)} kernels are ready in {tmp_path} after ")
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert run(tmp_path, "warmup").returncode == 0
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}


def test_a_host_without_the_tile_leaves_out_what_calls_it() -> None:
    with patch.object(host, "HAS_VECTORS", False):
        places = {kernel.place for kernel in kernels()}
    assert {"optimizer._adam", "recurrent._lstm_cell"} <= places
    assert not {"products.rows_product", "recurrent._lstm"} & places


def test_without_a_folder_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = run(file, "warmup")
    assert result.returncode == 1
    assert result.stderr.startswith("The machine code could not be kept, so every process compiles anew:")


def test_an_unknown_command_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "warm")
    assert result.returncode == 2
    assert "invalid choice: 'warm'" in result.stderr
