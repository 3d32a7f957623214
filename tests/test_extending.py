"""The programs of docs/extending.md run as they stand and print what stands below them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.M | re.S)


def test_each_section_has_a_program():
    assert [title for title, _, _ in PROGRAMS] == re.findall(r"^## (.+)$", TEXT, re.M)
    assert all(program.count("\n") <= 60 for _, program, _ in PROGRAMS)  # a page


@pytest.mark.parametrize(("program", "printed"), [one[1:] for one in PROGRAMS], ids=[one[0] for one in PROGRAMS])
def test_it_runs_as_it_stands(program, printed, tmp_path):
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    run = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == printed
