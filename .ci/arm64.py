"""The kernels' tests on arm64, by emulation: its vectors, its control register and its calls are others.

    python .ci/arm64.py FOLDER [pytest's arguments]

Everything comes from the registries into FOLDER, and nothing is installed: an arm64 Python by apt, wheels by pip, and
QEMU, which runs the processes of another processor, where the machine has none.  A machine without apt, or from which
its mirrors are not reached, gets a line and no more; whatever fails after that has failed.  QEMU says nothing of speed.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEST_TOOLS = ("pytest", "pytest-xdist", "hypothesis")
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in range(17, 29)] + ["manylinux2014_aarch64"]
KERNELS = "gather", "image", "norm", "pool", "random"
TESTS = ["tests/kernels/tile", *(f"tests/kernels/test_{name}.py" for name in KERNELS)]
TESTS += ["tests/kernels/test_conv.py::test_long_depthwise_convolutions"]
TESTS += ["tests/kernels/compiler/test_team.py::test_denormal_numbers_are_numbers_again_after_a_run"]
TESTS += ["-k", "not depend_on_the_threads and not millionth"]  # these take as long emulated as all the others
PROCESSES = 2
MINUTES = 20  # after which something hangs: it takes two or three


def packages(folder: Path, architecture: str, *names: str) -> bool:
    """Unpack Debian packages and what they depend on under a folder; whether the mirrors have an answer."""
    state, cache = folder.with_suffix(".lists"), folder.with_suffix(".packages")
    for place in (folder, state / "lists" / "partial", cache / "archives" / "partial"):
        place.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()  # of a system without any package
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": cache,
    }
    apt = ["apt-get", "-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], stdout=subprocess.DEVNULL)  # succeeds, with warnings, where nothing is reached
    if not any((state / "lists").glob("*_Packages*")):
        return False
    subprocess.run([*apt, "install", "--yes", "--download-only", *names], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((cache / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return True


def emulator(folder: Path) -> str | None:
    """QEMU for processes of arm64: the machine's, or one from its mirrors."""
    names = ("qemu-aarch64-static", "qemu-aarch64")
    for name in names:
        if found := shutil.which(name):
            return found
    own = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    if not packages(folder, own, "qemu-user-static"):
        return None
    return next(str(place) for name in names if (place := folder / "usr" / "bin" / name).exists())


def python(folder: Path) -> Path | None:
    """A command that is an arm64 Python with what the tests need, or None where there are no mirrors."""
    root, site, command = folder / "root", folder / "site", folder / "python"
    qemu = emulator(folder / "qemu")
    if qemu is None or not packages(root, "arm64", "python3", "libstdc++6"):
        return None
    (found,) = (path for path in (root / "usr" / "bin").iterdir() if re.fullmatch(r"python3\.\d+", path.name))
    needed = [*PROJECT["dependencies"], *(each for each in PROJECT["optional-dependencies"]["test"]
              if re.match(r"[\w-]+", each)[0] in TEST_TOOLS)]  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", site, "--only-binary", ":all:",
         "--implementation", "cp", "--python-version", found.name.removeprefix("python"),
         *(f"--platform={name}" for name in PLATFORMS), *needed],
        check=True,
    )  # fmt: skip
    command.write_text(f'#!/bin/sh\nexec {shlex.join([qemu, "-L", str(root), str(found)])} "$@"\n')
    command.chmod(0o755)
    # for pytest, and for tests that start a Python: the kernel cannot run the emulated file itself
    (site / "sitecustomize.py").write_text(f"import sys\n\nsys.executable = {str(command)!r}\n")
    return command


def main(folder: Path, *arguments: str) -> int:
    """Set it up, and run the tests."""
    if platform.machine() in ("aarch64", "arm64"):
        print("This machine is arm64, the whole suite has run there.")
        return 0
    if sys.platform != "linux" or not all(map(shutil.which, ("apt-get", "dpkg", "dpkg-deb"))):
        print("arm64 is NOT TESTED: this machine has no apt to get an emulator and an arm64 Python with.")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    command = python(folder)
    if command is None:
        print("arm64 is NOT TESTED: apt's mirrors are not reached from this machine.")
        return 0
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder / "site"))),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "NUMBA_CACHE_DIR": str(folder / "code"),
        "OPENBLAS_NUM_THREADS": "1",
        "MINIKERAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "ARMV8",
    }
    pytest = [command, "-m", "pytest", "-n", str(PROCESSES), "-p", "no:cacheprovider", *(arguments or TESTS)]
    return subprocess.run(pytest, cwd=ROOT, env=environment, timeout=60 * MINUTES).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
