"""The examples run, and each ends in a result that it checks itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
HELPERS = {"common", "shapes"}
ELSEWHERE = {"article", "mnist_cnn", "mnist_mlp"}  # they have options, and tests or runs of their own
NEEDS = {"grid_search": "sklearn"}
EXAMPLES = sorted({path.stem for path in FOLDER.glob("*.py")} - HELPERS - ELSEWHERE)

pytestmark = pytest.mark.skipif(os.environ.get("MINIKERAS_EXAMPLES") == "0", reason="the examples run on one Python")


def test_there_are_twelve_and_each_checks_its_result():
    assert len(EXAMPLES) >= 12
    for name in EXAMPLES:
        assert "\n    assert " in (FOLDER / f"{name}.py").read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    environment = {**os.environ, "MINIKERAS_DEVICE": "cpu"}
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert run.stdout.strip(), "an example says what it found"


def test_the_snippet_of_the_readme_runs_as_it_stands(tmp_path: Path):
    page = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    snippet = page.partition("```python\n")[2].partition("```")[0]
    run = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    assert "'accuracy': 0.9" in run.stdout and (tmp_path / "digits.keras").is_file()
