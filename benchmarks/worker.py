"""One contender's long-lived process: takes requests, a JSON line each, and sleeps on the pipe between them.

Run as `python -m benchmarks.worker NAME`; NAME is one of `frameworks.NAMES`.  The requests:

    {"do": "describe"}                                      versions, BLAS, installed size
    {"do": "prepare", "row": key, "setting": {...}}         model and data, a first turn, a second to warm up
    {"do": "turn"}                                          a timed turn of the prepared row

With `"way": name` both are about one of the row's ways; several can be prepared.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks import frameworks
from benchmarks.installed import closure, files_size, project_size
from benchmarks.workloads import ROWS, Missing, Setting, Turn, timed_turn


def describe(framework: Any) -> dict[str, Any]:
    """What runs here: versions of everything the framework requires, NumPy's BLAS, installed size in bytes."""
    bare = None
    if "minikeras" in framework.modules:
        (names, size), (_, bare) = project_size(), project_size(compiler=False)
    else:
        providers = metadata.packages_distributions()
        names = closure(name for module in framework.modules for name in providers[module])
        size = sum(map(files_size, names))
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "python": platform.python_version(),
        "version": framework.version,
        "packages": {name: metadata.version(name) for name in names},
        "numpy_blas": f"{blas['name']} {blas['version']}",
        "device": framework.device() if hasattr(framework, "device") else "cpu",
        "installed_bytes": size,
        **({} if bare is None else {"installed_bytes_without_compiler": bare}),
    }


class Worker:
    """Answers requests with one framework; holds at most one prepared row, and the turns of its ways."""

    def __init__(self, framework: Any) -> None:
        self.framework = framework
        self.key, self.data = "", (None, None)
        self.turns: dict[str, Turn] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says."""
        if request["do"] == "describe":
            return describe(self.framework)
        if request["do"] == "prepare":
            return self.prepare(request["row"], Setting(**request["setting"]), request.get("way", ""))
        measurement, _ = timed_turn(self.turns[request.get("way", "")])
        return dict(measurement)

    def prepare(self, key: str, setting: Setting, way: str) -> dict[str, Any]:
        """Build a row's model and data and run two turns; what the first took and led to."""
        row = ROWS[key]
        if key != self.key or way in self.turns:
            self.key, self.data, self.turns = "", (None, None), {}
            gc.collect()
            self.key, self.data = key, self.framework.data(row, setting)
        self.framework.seed()
        program = self.framework.program(row, way) if way else self.framework.program(row)
        turn = row.turn(program, *self.data, setting)
        measurement, first_seconds = timed_turn(turn)
        timed_turn(turn)
        self.turns[way] = turn
        answer = {"first_seconds": first_seconds}
        if "loss" in measurement:
            answer["first_loss"] = measurement["loss"]
        if hasattr(self.framework, "device_bytes") and self.framework.device() == "gpu":
            answer["device_bytes"] = self.framework.device_bytes()
        if hasattr(self.framework, "operations"):
            answer["operations"] = self.framework.operations(row, program)
        return answer


def serve(make: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Answer requests until they end, with the function that `make` returns."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not run into the answers
    answer_to = make()
    for line in sys.stdin:
        try:
            answer = answer_to(json.loads(line))
        except Missing as missing:
            answer = {"missing": str(missing)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(lambda: Worker(frameworks.load(sys.argv[1])).answer)
