"""Who is measured: minikeras and real Keras on each backend, each with its own Python and its own processes."""

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

BACKENDS = {"tensorflow": "tensorflow-cpu", "jax": "jax", "torch": "torch"}  # and what pip installs beside Keras
OURS = "minikeras"


class ContenderError(RuntimeError):
    """A contender could not do its part."""


@dataclass(frozen=True)
class Contender:
    """A column of the table: a framework's module name, the Python that has it, and environment variables."""

    name: str
    python: str
    module: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The processes' environment: this checkout importable, the CPU the only device."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "MINIKERAS_DEVICE": "cpu",
            "JAX_PLATFORMS": "cpu",
            **self.variables,
        }

    def run(self, *arguments: str) -> tuple[str, float, float]:
        """Run a Python program to its end.

        Returns:
            What it printed, its seconds from start to exit, and its peak memory in MB (its `ru_maxrss`, which cannot
            be below that of the process that starts it: keep this one small).

        Raises:
            ContenderError: if it fails.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            start = time.perf_counter()
            process = subprocess.Popen(
                [self.python, *arguments], env=self.environment, cwd=ROOT, stdout=out, stderr=err
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
        """Send a request to `benchmarks.worker` and wait for its answer; ContenderError if there is none."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None and self._errors is not None
        try:
            print(json.dumps({"do": do, **request}), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status, complaint = process.wait(), _last_line(self._errors)
            self.stop()
            raise ContenderError(f"{self.contender.name} ended with status {status}: {complaint}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the worker lives)
        self._process = subprocess.Popen(
            [self.contender.python, "-m", "benchmarks.worker", self.contender.module],
            env=self.contender.environment,
            cwd=ROOT,
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


def ours() -> Contender:
    """minikeras, from this checkout, in the running interpreter."""
    return Contender(OURS, sys.executable, OURS)


def real_keras(pythons: dict[str, str]) -> list[Contender]:
    """Real Keras on each backend of `pythons` (backend: Python executable), in the order of `BACKENDS`."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return [
        Contender(f"keras-{backend}", pythons[backend], "keras", {"KERAS_BACKEND": backend, **quiet})
        for backend in BACKENDS
        if backend in pythons
    ]


def pythons_here() -> dict[str, str]:
    """The backends with which real Keras can be imported in the running interpreter."""
    if importlib.util.find_spec("keras") is None:
        return {}
    return {backend: sys.executable for backend in BACKENDS if importlib.util.find_spec(backend) is not None}


def make_environments(folder: Path) -> dict[str, str]:
    """A virtual environment in `folder` per backend, made where it is missing; their Python executables."""
    pythons = {}
    for backend, package in BACKENDS.items():
        python = folder.resolve() / backend / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        pythons[backend] = str(python)
        wanted = f"import importlib.util as u, sys; sys.exit(not (u.find_spec('keras') and u.find_spec('{backend}')))"
        if python.exists() and subprocess.run([str(python), "-c", wanted]).returncode == 0:
            continue
        print(f"Making an environment for keras with {backend} in {python.parent.parent}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "keras", package], check=True)
    return pythons
