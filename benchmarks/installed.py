"""The size of what an installation puts on the disk, the packages it requires included."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def closure(requirements: Iterable[str]) -> list[str]:
    """Names of the installed packages that `requirements` bring with them, themselves included, sorted.

    Requirements of an extra are left out, and so is what is not installed: another platform's or version's.
    """
    waiting, found = list(requirements), set()
    while waiting:
        requirement, _, marker = waiting.pop().partition(";")
        match = re.match(r"[\w.-]+", requirement)
        if match is None or "extra" in marker:
            continue
        name = re.sub(r"[-_.]+", "-", match[0]).lower()
        if name not in found:
            try:
                waiting += metadata.requires(name) or ()
            except metadata.PackageNotFoundError:
                continue
            found.add(name)
    return sorted(found)


def files_size(name: str) -> int:
    """Bytes of an installed package's files."""
    paths = (Path(str(file.locate())) for file in metadata.files(name) or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


COMPILER = "numba"  # what an installation without a compiler leaves out, with all that only it requires


def project_size(compiler: bool = True) -> tuple[list[str], int]:
    """minikeras as it lies in this checkout: the packages it requires, and the bytes of all.

    Kernels that were compiled beside the sources are the user's, not the installation's.

    Args:
        compiler: False for `pip install --no-deps minikeras` and the rest of what it requires.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = closure(name for name in project["dependencies"] if compiler or not name.startswith(COMPILER))
    compiled = (".code", ".nbi", ".nbc")
    own = (path for path in (ROOT / "minikeras").rglob("*") if path.is_file() and path.suffix not in compiled)
    return names, sum(path.stat().st_size for path in own) + sum(map(files_size, names))
