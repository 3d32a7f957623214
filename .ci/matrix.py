"""The plain suite on every Python of this machine that pyproject.toml allows, with the oldest and the newest NumPy.

    python .ci/matrix.py FOLDER [COMBINATION ...]

FOLDER takes the virtual environments.  A combination is `3.12-oldest` or `3.13-newest`; without any, all are run but
that of the running Python with the newest NumPy, which README's own commands are.  Each runs an eighth of the tests,
another one than the last.

The newest NumPy is what pip chooses.  The oldest is the lower bound in pyproject.toml, or the first release after it
that has wheels for that Python; on the oldest Python everything else is at its lower bound too.  A Python that the
classifiers name has to pass; another, for which there are no wheels yet, gets a line and no more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PROMISED = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", name)}
OLDEST_PYTHON = int(PROJECT["requires-python"].removeprefix(">=3."))
SHARES = 8  # into so many parts the tests are cut; each combination takes the next one
RELEASES = 12  # of NumPy after the lower bound in which wheels for a Python are looked for

PROBE = """
import sys, sysconfig, venv, ensurepip
free = sysconfig.get_config_var("Py_GIL_DISABLED")
print(sys.implementation.name, *sys.version_info[:3], "free-threaded" if free else sys.version_info.releaselevel)
"""
VERSIONS = """
import platform
from importlib.metadata import version
print(f"Python {platform.python_version()}, NumPy {version('numpy')}, Numba {version('numba')}, h5py {version('h5py')}")
"""


class Python(NamedTuple):
    """An interpreter."""

    version: tuple[int, int, int]
    path: str

    @property
    def name(self) -> str:
        return f"3.{self.version[1]}"


def pythons() -> list[Python]:
    """The newest of each minor version that can make virtual environments; the running one for its own."""
    found = {sys.version_info[1]: Python(sys.version_info[:3], sys.executable)}
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    names = [f"python3.{minor}" for minor in range(OLDEST_PYTHON, sys.version_info[1] + 10)]
    paths = [path for name in ["python3", *names] if (path := shutil.which(name))]
    for path in [*paths, *map(str, sorted(root.glob("versions/*/bin/python3")))]:
        probe = subprocess.run([path, "-c", PROBE], capture_output=True, text=True)
        answer = probe.stdout.split()
        if len(answer) != 5:  # pyenv has such names for what it would have to be told to choose
            if "ModuleNotFoundError" in probe.stderr:
                print(f"{path} is left out: {probe.stderr.strip().splitlines()[-1]}")
            continue
        kind, *numbers, level = answer
        python = Python((int(numbers[0]), int(numbers[1]), int(numbers[2])), path)
        minor = python.version[1]
        if python.version < (3, OLDEST_PYTHON):
            continue
        if kind != "cpython" or level == "free-threaded":
            print(f"{path} is left out: {kind} {level} is not promised.")
        elif minor not in found or (minor != sys.version_info[1] and found[minor].version < python.version):
            found[minor] = python
    return [found[minor] for minor in sorted(found)]


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    """The oldest version of each package, those of extras included."""
    bounds: dict[str, str] = {}
    for requirement in requirements:
        if extras := re.fullmatch(rf"{PROJECT['name']}\[(.+)\]", requirement):
            for extra in extras[1].split(","):
                bounds |= lower_bounds(PROJECT["optional-dependencies"][extra.strip()])
        elif bound := re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement):
            bounds[bound[1]] = bound[2]
        else:
            sys.exit(f"Each dependency in pyproject.toml needs a lower bound as in numpy>=2.0, got {requirement!r}.")
    return bounds


def choices(python: Python, which: str) -> list[list[str]]:
    """What pip is asked for beside the project, in this order until it has wheels for it."""
    if which == "newest":
        return [[]]
    bounds = lower_bounds([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]])
    if python.version[1] == OLDEST_PYTHON:
        return [[f"{name}=={version}" for name, version in bounds.items()]]
    major, minor = map(int, bounds["numpy"].split(".")[:2])
    later = [f"{major}.{minor + more}" for more in range(1, RELEASES)]
    return [[f"numpy=={version}"] for version in [bounds["numpy"], *later]]


def install(python: Python, which: str, folder: Path, wheel: Path) -> str:
    """Make a virtual environment of it; what pip said where it has no wheels, else nothing."""
    subprocess.run([python.path, "-m", "venv", "--clear", folder], check=True)
    for chosen in choices(python, which):
        pip_install = [folder / "bin" / "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"]
        command = [*pip_install, f"{wheel}[test]", *chosen]  # most of what is installed is never imported
        pip = subprocess.run(command, capture_output=True, text=True)
        if pip.returncode == 0:
            return ""
    return "\n".join(line for line in pip.stderr.splitlines() if "ERROR" in line) or pip.stderr


def run(python: Python, which: str, folder: Path, share: str, errors: str) -> tuple[bool, str]:
    """Whether this share of the suite passes there, and a line for the end."""
    name = f"{python.name} ({python.path}) with the {which} NumPy"
    if errors:
        print(f"\n== Python {name}: no wheels\n{errors}", flush=True)
        return python.name not in PROMISED, f"Python {name}: NOT TESTED, pip has no wheels of all dependencies for it"
    versions = subprocess.run([folder / "bin" / "python", "-c", VERSIONS], check=True, capture_output=True, text=True)
    line = versions.stdout.strip()
    print(f"\n== {line} (the {which} NumPy)", flush=True)
    # two processes; the team's threads are part of what is tested, OpenBLAS's would only wait for each other
    # the examples ran with README's test command already
    pytest = [folder / "bin" / "pytest", "-n", "2"]
    settings = {"OPENBLAS_NUM_THREADS": "1", "MINIKERAS_EXAMPLES": "0", "MINIKERAS_SHARE": share}
    settings["NUMBA_CACHE_DIR"] = str(folder.parent / "code")  # which does not depend on the Python
    passed = subprocess.run(pytest, env={**os.environ, **settings}).returncode == 0
    return passed, f"{line}: {'passed' if passed else 'FAILED'}, part {share} of the tests"


def main(folder: str, *asked: str) -> int:
    """Run the combinations, then say what each came to."""
    place = Path(folder)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place / "wheel", "."]
    subprocess.run(build, check=True)
    (wheel,) = (place / "wheel").glob("*.whl")
    wanted = []
    for python in pythons():
        for which in ("oldest", "newest"):
            key = f"{python.name}-{which}"
            if key in asked or not (asked or (python.path == sys.executable and which == "newest")):
                wanted.append((python, which, place / key))
    with ThreadPoolExecutor(2) as pool:  # pip unpacks in one process
        errors = list(pool.map(lambda one: install(*one, wheel), wanted))
    results = []
    for number, (one, error) in enumerate(zip(wanted, errors, strict=True)):
        results.append(run(*one, f"{number % SHARES + 1}/{SHARES}", error))
        shutil.rmtree(one[-1])
    print("\n== Pythons", *(line for _, line in results), sep="\n", flush=True)
    return 0 if all(passed for passed, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
