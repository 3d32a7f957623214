"""Who is measured: minikeras, real Keras on each backend, PyTorch without Keras, scikit-learn.

Each has its own Python and its own processes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS, STEPS

# Each backend, and what pip installs beside Keras (whose ImageDataGenerator needs SciPy); PyTorch's own columns and
# scikit-learn share its environment.
BACKENDS = {
    "tensorflow": ["tensorflow-cpu", "scipy"],
    "jax": ["jax", "scipy"],
    "torch": ["torch==2.13.0", "scikit-learn", "scipy"],
}
# The same on a GPU, for the drivers of CUDA 13; Keras on TensorFlow is left out there.
BACKENDS_ON_GPU = {"jax": ["jax[cuda13]", "scipy"], "torch": ["torch==2.13.0", "scipy"]}
OURS = "minikeras"
HAND_WRITTEN = ("torch", "torch-compile")
SKLEARN = "scikit-learn"
WHOLE = ("cold-script", "cold-memory", "cold-W3-empty", "cold-W3-warm", "memory-W3", "memory-W4")


class ContenderError(RuntimeError):
    """A contender could not do its part."""


class ContenderLacks(ContenderError):
    """A contender has no such layer, and says which."""


# how each framework is told which device is its only one
DEVICES = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "", "MINIKERAS_DEVICE": "cpu", "JAX_PLATFORMS": "cpu"},
    "gpu": {
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
        "MINIKERAS_DEVICE": "gpu",
        "JAX_PLATFORMS": "cuda",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take three quarters of the memory, and others none
    },
}


@dataclass(frozen=True)
class Contender:
    """A column of the table.

    Args:
        name: its heading.
        python: the Python that has the framework.
        framework: one of `frameworks.NAMES`.
        variables: of the environment.
        cache: the variable that names the folder where compiled kernels are kept between processes, if they are.
        rows: those that it is measured in, all unless given.
        root: the checkout that it runs in, this one unless given.
        without: ways that it does not know.
        chooses: whether it is measured in each of a row's ways, and counts with the best; else in the first.
        device: `"cpu"`, or `"gpu"` for the first one, of which nobody takes more memory than it needs.
    """

    name: str
    python: str
    framework: str
    variables: dict[str, str] = field(default_factory=dict)
    cache: str | None = None
    rows: tuple[str, ...] | None = None
    root: Path = ROOT
    without: tuple[str, ...] = ()
    chooses: bool = False
    device: str = "cpu"

    def ways(self, key: str) -> dict[str, str]:
        """The ways in which it does a row's work, by the names that they have in the results: the first is its own."""
        first, *others = ROWS[key].ways
        known = [way for way in others if self.chooses and way not in self.without]
        return {self.name: first, **{f"{self.name}, {way}": way for way in known}}

    def measured_in(self, key: str) -> bool:
        """Whether it takes part in a row."""
        return self.rows is None or key in self.rows

    @property
    def environment(self) -> dict[str, str]:
        """The processes' environment: the checkout importable, bytecode kept as pip does, and one device."""
        return {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": str(self.root),
            **DEVICES[self.device],
            **self.variables,
        }

    def run(self, *arguments: str, **variables: str) -> tuple[str, float, float]:
        """Run a Python program to its end, with further variables of the environment.

        Returns:
            What it printed, its seconds from start to exit, and its peak memory in MB (its `ru_maxrss`, which cannot
            be below that of the process that starts it: keep this one small).

        Raises:
            ContenderError: if it fails.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            start = time.perf_counter()
            environment = {**self.environment, **variables}
            process = subprocess.Popen(
                [self.python, *arguments], env=environment, cwd=self.root, stdout=out, stderr=err
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise ContenderError(f"{self.name} ended with status {process.returncode}: {_last_line(err)}")
            out.seek(0)
            unit = 1 if sys.platform == "darwin" else 1024
            return out.read(), seconds, usage.ru_maxrss * unit / 1e6


class Worker:
    """A contender's long-lived process, blocked on its pipe while it is not asked; started when first asked."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Ask `benchmarks.worker` to do something."""
        return self.request(do=do, **request)

    def request(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; ContenderError if there is none, or a complaint."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None and self._errors is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status, complaint = process.wait(), _last_line(self._errors)
            self.stop()
            raise ContenderError(f"{self.contender.name} ended with status {status}: {complaint}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise ContenderLacks(answer["missing"])
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def command(self) -> list[str]:
        """What is started, with the contender's environment."""
        return [self.contender.python, "-m", "benchmarks.worker", self.contender.framework]

    def _start(self) -> subprocess.Popen[str]:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the worker lives)
        self._process = subprocess.Popen(
            self.command(),
            env=self.contender.environment,
            cwd=self.contender.root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        return self._process

    def stop(self) -> None:
        """End the process; asking again starts another."""
        if self._process is not None and self._errors is not None:
            self._process.communicate()  # closes the pipe, which ends the worker's loop
            self._errors.close()
        self._process = self._errors = None


def _last_line(stream: IO[str]) -> str:
    stream.seek(0)
    return (stream.read().strip().splitlines() or ["it said nothing."])[-1]


def ours(device: str = "cpu") -> Contender:
    """minikeras, from this checkout, in the running interpreter."""
    cache = "NUMBA_CACHE_DIR" if device == "cpu" else "CUPY_CACHE_DIR"
    return Contender(OURS, sys.executable, OURS, cache=cache, device=device)


def rivals(pythons: dict[str, str], device: str = "cpu") -> list[Contender]:
    """Everyone else, in the order of the columns.

    Args:
        pythons: Python executables by backend; PyTorch's serves PyTorch without Keras, and scikit-learn if it is there.
        device: `"cpu"`, or `"gpu"`, where only Keras is measured, on JAX and on PyTorch.
    """
    if device == "gpu":
        return [
            Contender(
                f"keras-{backend}",
                pythons[backend],
                "keras",
                {"KERAS_BACKEND": backend},
                without=(STEPS,) if backend == "torch" else (),
                chooses=True,
                device=device,
            )
            for backend in BACKENDS_ON_GPU
            if backend in pythons
        ]
    timed = tuple(key for key, row in ROWS.items() if row.model is not None)
    found = []
    for backend in BACKENDS:
        if backend not in pythons:
            continue
        name, python = f"keras-{backend}", pythons[backend]
        variables = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        without = (STEPS,) if backend == "torch" else ()  # whose trainer refuses them
        found.append(Contender(name, python, "keras", variables, without=without, chooses=True))
        if backend == "tensorflow":  # importing it, and its size on the disk, are those of the column before
            found.append(Contender(f"{name}-jit", python, "keras+jit", variables, rows=timed + WHOLE, chooses=True))
    if "torch" in pythons:
        python = pythons["torch"]
        eager, compiled = HAND_WRITTEN
        written = tuple(key for key, row in ROWS.items() if row.work != "fit_augmented")  # PyTorch has no such thing
        cached = tuple(key for key in timed + WHOLE if key in written)
        found.append(Contender(eager, python, "torch", rows=written))
        found.append(Contender(compiled, python, "torch+compile", cache="TORCHINDUCTOR_CACHE_DIR", rows=cached))
        if _has(python, "sklearn"):
            found.append(Contender(SKLEARN, python, "sklearn", rows=("W1",)))
    return found


def _has(python: str, *modules: str) -> bool:
    """Whether a Python has these modules."""
    wanted = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(name) for name in {modules}))"
    return Path(python).exists() and subprocess.run([python, "-c", wanted]).returncode == 0


def pythons_here() -> dict[str, str]:
    """The backends with which real Keras can be imported in the running interpreter."""
    if importlib.util.find_spec("keras") is None:
        return {}
    return {backend: sys.executable for backend in BACKENDS if importlib.util.find_spec(backend) is not None}


def make_environments(folder: Path, device: str = "cpu") -> dict[str, str]:
    """A virtual environment in `folder` per backend, made where it is missing; their Python executables."""
    pythons = {}
    for backend, packages in (BACKENDS if device == "cpu" else BACKENDS_ON_GPU).items():
        python = folder.resolve() / backend / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        pythons[backend] = str(python)
        if _has(str(python), "keras", backend):
            continue
        print(f"Making an environment for keras with {backend} in {python.parent.parent}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages, "keras"], check=True)
    return pythons
