"""One contender's long-lived process: takes requests, a JSON line each, and sleeps on the pipe between them.

Run as `python -m benchmarks.worker NAME`; NAME is minikeras or keras.  The requests:

    {"do": "describe"}                                      versions, BLAS, installed size
    {"do": "prepare", "row": key, "setting": {...}}         model and data, a first turn, a second to warm up
    {"do": "turn"}                                          a timed turn of the prepared row
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import sys
import traceback
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.installed import closure, files_size, project_size
from benchmarks.workloads import ROWS, Setting, Turn, timed_turn


def describe(keras: Any) -> dict[str, Any]:
    """What runs here: versions of everything the framework requires, NumPy's BLAS, installed size in bytes."""
    if keras.__name__ == "minikeras":
        names, size = project_size()
    else:
        backend = keras.backend.backend()
        providers = metadata.packages_distributions()
        names = closure([*providers["keras"], *providers[backend]])
        size = sum(map(files_size, names))
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "version": keras.__version__,
        "packages": {name: metadata.version(name) for name in names},
        "numpy_blas": f"{blas['name']} {blas['version']}",
        "installed_bytes": size,
    }


class Worker:
    """Answers requests with one framework; holds at most one prepared row."""

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.turn: Turn | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says."""
        if request["do"] == "describe":
            return describe(self.keras)
        if request["do"] == "prepare":
            self.turn = None
            gc.collect()
            prepare = ROWS[request["row"]].prepare
            assert prepare is not None
            self.keras.utils.set_random_seed(0)
            self.turn = prepare(self.keras, Setting(**request["setting"]))
            _, first_seconds = timed_turn(self.turn)
            timed_turn(self.turn)
            return {"first_seconds": first_seconds}
        assert self.turn is not None
        measurement, _ = timed_turn(self.turn)
        return dict(measurement)


def main() -> None:
    """Serve until the requests end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not run into the answers
    worker = Worker(importlib.import_module(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
