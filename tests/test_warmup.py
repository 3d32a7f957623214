"""`python -m minikeras warmup`: everything is compiled, kept, and found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from minikeras.kernels.cpu.compiler import host, loader, processor
from minikeras.kernels.cpu.warmup import kernels

PATH = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **PATH}
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


# ---- archives

own = pytest.mark.skipif(not loader.OWN, reason="archives are for systems whose machine code we load ourselves")
BARE = "import sys; sys.modules['llvmlite'] = sys.modules['numba'] = None\n"  # as where neither is installed
TRAINING = """
import numpy as np
import minikeras as mk
from minikeras import kernels, layers

mk.utils.set_random_seed(1)
random = np.random.default_rng(0)
for kind in ("float32", "float64"):
    model = mk.Sequential([
        layers.Input((8, 8, 3), dtype=kind), layers.Conv2D(8, 3, activation="relu", dtype=kind),
        layers.DepthwiseConv2D(3, dtype=kind), layers.BatchNormalization(dtype=kind), layers.Flatten(dtype=kind),
        layers.Dropout(0.2, dtype=kind), layers.Dense(64, activation="gelu", dtype=kind), layers.Dense(3, dtype=kind),
    ])
    model.compile("adam", mk.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = random.random((64, 8, 8, 3)).astype(kind), random.integers(0, 3, 64)
    losses = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history["loss"]
    print(kernels.active_device(), kind, *map(repr, losses))
words = mk.Sequential([layers.Embedding(50, 16), layers.LSTM(32), layers.Dense(1)])
words.compile("rmsprop", "mse")
print(words.fit(random.integers(0, 50, (32, 12)), random.random(32), verbose=0).history["loss"][0])
"""


def program(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": "",
        "MINIKERAS_DEVICE": "auto",
        "CUDA_VISIBLE_DEVICES": "",
        **PATH,
        **environment,
    }
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kernels for this very processor, which is quick where they are compiled already."""
    path = tmp_path_factory.mktemp("archive") / "kernels.zip"
    command = [sys.executable, "-m", "minikeras", "warmup", "--output", str(path), "--processor", "native"]
    made = subprocess.run(command, env={**os.environ, **PATH}, capture_output=True, text=True, timeout=300)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.splitlines()[-1].startswith(f"{len(kernels())} kernels for native are in {path}, ")
    assert path.stat().st_size < 1_000_000  # so that a wheel with two families stays below 3 MB
    return path


@own
def test_with_an_archive_neither_llvm_nor_numba_is_needed(archive: Path, tmp_path: Path) -> None:
    compiled = program(TRAINING, tmp_path)
    assert (compiled.returncode, compiled.stderr) == (0, "")
    assert compiled.stdout.startswith("cpu float32 ")
    bare = program(f"{BARE}{TRAINING}", tmp_path, MINIKERAS_KERNELS=str(archive))
    assert (bare.stdout, bare.stderr, bare.returncode) == (compiled.stdout, "", 0)
    chosen = f"from minikeras import config; config.set_kernels({str(archive)!r})\n"
    both = f"{chosen}{TRAINING}\nimport sys; assert not {{'llvmlite', 'numba'}} & sys.modules.keys()"
    unused = program(both, tmp_path)  # nor used where it is installed
    assert (unused.stdout, unused.stderr, unused.returncode) == (compiled.stdout, "", 0)


@own
def test_every_kernel_of_an_archive_is_loaded(archive: Path, tmp_path: Path) -> None:
    loaded = program(
        f"{BARE}from minikeras.kernels.cpu.warmup import kernels; print(all(one.address for one in kernels()))",
        tmp_path, MINIKERAS_KERNELS=str(archive),
    )  # fmt: skip
    assert (loaded.stdout, loaded.stderr) == ("True\n", "")


@own
def test_a_kernel_that_an_archive_lacks(archive: Path, tmp_path: Path) -> None:
    script = """
import numpy as np
from minikeras.kernels.cpu.compiler import Floats, part
@part
def mine(part, parts, x: Floats):
    x[0] = x[0] * x[0]
x = np.full(1, 3, "f4")
mine.run(1, x=x)
print(x[0])
"""
    found = program(f"{BARE}{script}", tmp_path, MINIKERAS_KERNELS=str(archive))
    missing = f"RuntimeError: The kernel __main__.mine is not in {archive}, and llvmlite is missing, which compiles it;"
    assert found.stderr.splitlines()[-1].startswith(missing)
    (tmp_path / "own.py").write_text(script)  # with a compiler it is made for what the archive is for
    found = program(
        "import own", tmp_path, MINIKERAS_KERNELS=str(archive), PYTHONPATH=f"{tmp_path}{os.pathsep}{PATH['PYTHONPATH']}"
    )
    assert (found.stdout, found.stderr) == ("9.0\n", "")


@own
def test_an_archive_is_chosen_before_anything_is_computed_and_must_be_sound(archive: Path, tmp_path: Path) -> None:
    found = program(
        f"""{BARE}
import warnings; warnings.simplefilter("ignore")
from minikeras import config, kernels, ops
def choose(path):
    try: config.set_kernels(path)
    except RuntimeError as error: print(error)
    print(config.kernels(), kernels.active_device())
choose("absent.zip")
choose({str(archive)!r})
ops.softmax(ops.ones((3, 4)))
choose("none")
""",
        tmp_path,
    )
    refusals = [line for line in found.stdout.splitlines() if line.endswith(".")]
    assert refusals[0].startswith("The machine code in absent.zip cannot be used: there is no such file; make it anew")
    assert refusals[1:] == ["Machine code is in use already, so config.set_kernels() comes too late; call it first."]
    states = [line for line in found.stdout.splitlines() if not line.endswith(".")]
    assert states == [" numpy", f"{archive} cpu", f"{archive} cpu"]


@own
def test_code_for_other_processors_is_never_run(archive: Path, tmp_path: Path) -> None:
    lacking = sorted(processor.features())[0]
    found = program(
        f"""{BARE}
import warnings; warnings.simplefilter("ignore")
from minikeras.kernels.cpu.compiler import processor
had = processor.features()
processor.features = lambda: had - {{{lacking!r}}}
from minikeras import config
config.set_kernels({str(archive)!r})
""",
        tmp_path,
    )
    assert found.returncode == 1
    assert f"for native this processor lacks {lacking}; make it anew" in found.stderr.splitlines()[-1]


def test_an_archive_is_for_families_that_are_known(tmp_path: Path) -> None:
    result = run(tmp_path, "warmup", "--output", str(tmp_path / "k.zip"), "--processor", "pentium")
    known = ", ".join((*processor.FAMILIES, "native"))
    expected = f"There is no family of processors 'pentium' here; choose from {known}.\n"
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == expected or not loader.OWN
    assert "--output" in run(tmp_path, "warmup", "--processor", "native").stderr
    assert not (tmp_path / "k.zip").exists()


def test_without_a_compiler_nothing_is_compiled_ahead(tmp_path: Path) -> None:
    found = program(f"{BARE}from minikeras.__main__ import main; sys.exit(main(['warmup']))", tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "llvmlite is missing, which compiles kernels; run pip install numba.\n"


WARNING = "UserWarning: llvmlite is missing, which compiles kernels, and there is no archive of machine code for this"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_both_numpy_computes_and_one_warning_says_so(device: str, tmp_path: Path) -> None:
    (tmp_path / "kernels.zip").write_text("never looked at, because it only lies there")
    wanted = program(TRAINING, tmp_path, MINIKERAS_DEVICE="numpy")
    assert (wanted.returncode, wanted.stderr) == (0, "")
    assert wanted.stdout.startswith("numpy float32 ")
    again = "from minikeras import config; config.set_device('cpu'); print(kernels.active_device(), config.device())"
    found = program(f"{BARE}{TRAINING}{again}", tmp_path, MINIKERAS_DEVICE=device)
    assert found.returncode == 0
    assert found.stdout == f"{wanted.stdout}numpy cpu\n"
    assert found.stderr.count("Warning") == found.stderr.count(WARNING) == 1
