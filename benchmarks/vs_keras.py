"""minikeras against real Keras and PyTorch: `python -m benchmarks.vs_keras --help`, and see README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import (
    BACKENDS,
    Contender,
    ContenderError,
    ContenderLacks,
    Worker,
    make_environments,
    ours,
    pythons_here,
    rivals,
)
from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS, Setting

SETTLE_SECONDS = 0.5  # threads that spin after their last task come to rest before another contender's turn
CLOCK = "import time\nstart = time.perf_counter()\n{}\nprint(time.perf_counter() - start)"
FIRST_MODEL = """
import numpy as np
from {} import Sequential, layers
model = Sequential([layers.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
model.predict(np.zeros((1, 8)), verbose=0)
"""
FIRST_MODELS = {  # of those who are no Keras
    "torch": """
import torch
torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))(torch.zeros(1, 8))
""",
    "numpy": "import numpy",  # what all of them begin with
}
SIZES = {"size": "installed_bytes", "size-bare": "installed_bytes_without_compiler"}
GROUPS = (("cold-script", "cold-memory"), ("cold-W3-empty", "cold-W3-warm", "memory-W3"))  # measured together

# A contender's part in one round; round 0 prepares and warms up, and its values are dropped.
Part = Callable[[int], dict[str, dict[str, Any]]]


def alternate(
    keys: Sequence[str], parts: dict[str, Part], rounds: int, seconds: float = inf, settle: float = 0.0
) -> dict[str, dict[str, Any]]:
    """Run every contender's part, one after another, round after round.

    Args:
        keys: the rows that a part measures.
        parts: by contender.
        rounds: how many, besides round 0.
        seconds: who has worked so long gets no further round, once it has two values.
        settle: seconds to wait before each part.

    Returns:
        By row, then by contender: `{"values": [...], ...}`, or `{"error": ...}` or `{"missing": ...}` for one that
        failed, or could not begin, and dropped out.
    """
    results: dict[str, dict[str, Any]] = {key: {name: {"values": []} for name in parts} for key in keys}
    spent = dict.fromkeys(parts, 0.0)
    for turn in range(rounds + 1):
        for name, part in parts.items():
            so_far = results[keys[0]][name]
            if "values" not in so_far or (spent[name] > seconds and len(so_far["values"]) > 1):
                continue
            time.sleep(settle)
            start = time.perf_counter()
            try:
                measured = part(turn)
            except ContenderError as error:
                what = "missing" if isinstance(error, ContenderLacks) else "error"
                print(f"{keys[0]:24} {name:20} {what}: {error}", flush=True)
                for key in keys:
                    results[key][name] = {what: str(error)}
                continue
            spent[name] += time.perf_counter() - start
            for key in keys:
                result, values = results[key][name], dict(measured[key])
                value = values.pop("value", None)
                result.update(values)
                if turn and value is not None:
                    result["values"].append(value)
                    progress = f"{report.number(value)} {ROWS[key].unit}"
                else:
                    progress = "ready"
                print(f"{key:24} {name:20} round {turn}/{rounds}: {progress}", flush=True)
    return results


def workload_part(worker: Worker, key: str, setting: Setting, way: str) -> Part:
    """Turns of a workload in a contender's worker, in one of the row's ways."""

    def part(turn: int) -> dict[str, dict[str, Any]]:
        if turn:
            return {key: worker.ask("turn", way=way)}
        return {key: worker.ask("prepare", row=key, setting=dataclasses.asdict(setting), way=way)}

    return part


def first_model_part(contender: Contender, module: str) -> Part:
    """Seconds from the first import to a first model's first prediction, in a fresh process each."""
    program = CLOCK.format(FIRST_MODELS.get(module, FIRST_MODEL.format(module)))
    return lambda turn: {"cold-model": {"value": float(contender.run("-c", program)[0])}}


def _script(contender: Contender, key: str, quick: bool, **variables: str) -> tuple[dict[str, Any], float, float]:
    """What the whole script of a row printed, its seconds from start to exit, its peak memory in MB."""
    arguments = ["-m", "benchmarks.script", contender.framework, key, *(["quick"] if quick else [])]
    output, seconds, megabytes = contender.run(*arguments, **variables)
    return json.loads(output.splitlines()[-1]), seconds, megabytes


def script_part(contender: Contender, quick: bool) -> Part:
    """Seconds and peak memory of the whole W1 script, in a fresh process each."""

    def part(turn: int) -> dict[str, dict[str, Any]]:
        _, seconds, megabytes = _script(contender, "W1", quick)
        return {"cold-script": {"value": seconds}, "cold-memory": {"value": megabytes}}

    return part


def first_epoch_part(contender: Contender, quick: bool) -> Part:
    """Seconds of W3's first epoch with an empty and with a filled kernel cache, and the peak memory of the latter run.

    Who keeps no compiled kernels between processes runs once, for both.  Round 0 has nothing to prepare.
    """

    def part(turn: int) -> dict[str, dict[str, Any]]:
        if turn == 0:
            return {"cold-W3-empty": {}, "cold-W3-warm": {}, "memory-W3": {}}
        with tempfile.TemporaryDirectory() as folder:
            cache = {contender.cache: folder} if contender.cache else {}
            empty = warm = _script(contender, "W3", quick, **cache)
            if cache:
                warm = _script(contender, "W3", quick, **cache)
        return {
            "cold-W3-empty": {"value": empty[0]["seconds"], "loss": empty[0]["loss"]},
            "cold-W3-warm": {"value": warm[0]["seconds"]},
            "memory-W3": {"value": warm[2]},
        }

    return part


def memory_part(contender: Contender, quick: bool) -> Part:
    """Peak memory of a whole W4 training run; round 0 fills the kernel cache of those who have one."""

    def part(turn: int) -> dict[str, dict[str, Any]]:
        if turn == 0 and not contender.cache:
            return {"memory-W4": {}}
        return {"memory-W4": {"value": _script(contender, "W4", quick)[2]}}

    return part


def measure(
    keys: Sequence[str], workers: list[Worker], about: dict[str, Any], rounds: int, seconds: float, setting: Setting
) -> dict[str, Any]:
    """Results of one row (or of those that one process gives together), by row and by contender."""
    key = keys[0]
    workers = [worker for worker in workers if worker.contender.measured_in(key)]
    contenders = [worker.contender for worker in workers]
    if key in SIZES:
        sizes = {one.name: about[one.name].get(SIZES[key]) for one in contenders}
        return {key: {name: {"values": [size / 1e6]} for name, size in sizes.items() if size is not None}}
    if ROWS[key].note:
        return {key: {}}
    if ROWS[key].model is not None:
        parts = {
            name: workload_part(one, key, setting, way)
            for one in workers
            for name, way in one.contender.ways(key).items()
        }
    elif key == "cold-model":
        # NumPy, which all of them import, in our interpreter: what minikeras adds to it can be read off.
        parts = {one.name: first_model_part(one, one.framework) for one in contenders}
        parts["import numpy"] = first_model_part(contenders[0], "numpy")
    else:
        make = {"cold-script": script_part, "cold-W3-empty": first_epoch_part, "memory-W4": memory_part}[key]
        parts = {one.name: make(one, setting.quick) for one in contenders}
    return alternate(keys, parts, rounds, seconds, 0.0 if setting.quick else SETTLE_SECONDS)


def sgemm_rate(device: str = "cpu") -> float:
    """Float32 products of NumPy or of CuPy on this machine, operations per second, in a process of their own."""
    return float(ours(device).run("-m", "benchmarks.limits", device)[0])


def described(worker: Worker) -> dict[str, Any]:
    """What a contender says of itself.

    Raises:
        ContenderError: it computes on another device than it should.
    """
    about, wanted = worker.ask("describe"), worker.contender.device
    if about["device"] != wanted:
        raise ContenderError(
            f"{worker.contender.name} computes on the {about['device']}, not on the {wanted}; see that "
            f"{worker.contender.python} has its packages for CUDA."
        )
    return about


def find_mnist() -> str | None:
    """Where `mnist.npz` lies, if minikeras finds it without a download."""
    from minikeras.datasets import mnist

    path = mnist.find()
    return str(path) if path is not None and path.is_file() else None


def add_environments(parser: argparse.ArgumentParser) -> None:
    """The options that say where real Keras is."""
    parser.add_argument(
        "--python-for",
        action="append",
        default=[],
        metavar="BACKEND=PYTHON",
        help="a Python that has keras and this backend (tensorflow, jax or torch); repeatable",
    )
    parser.add_argument(
        "--make-environments",
        type=Path,
        metavar="FOLDER",
        help="make an environment per backend in FOLDER, where it is missing, and use these",
    )
    parser.add_argument("--only-ours", action="store_true", help="measure minikeras alone")


def environments(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, str]:
    """The Python executable by backend; a parser's error where nobody is found but somebody is wanted."""
    given = {}
    for item in options.python_for:
        backend, _, python = item.partition("=")
        if backend not in BACKENDS or not Path(python).is_file():
            known = ", ".join(BACKENDS)
            parser.error(f"--python-for expects BACKEND=PYTHON, a backend of {known} and a file, got {item!r}.")
        given[backend] = os.path.abspath(python)  # not resolved: a link is what makes a virtual environment
    if options.only_ours:
        return {}
    device = getattr(options, "device", "cpu")
    made = make_environments(options.make_environments, device) if options.make_environments else {}
    pythons = {**made, **given} or pythons_here()
    if not pythons:
        parser.error(
            "real Keras is not installed beside this Python; pass --python-for jax=PATH (also tensorflow, torch) "
            "to name one that has it, --make-environments FOLDER to install it, or --only-ours."
        )
    return pythons


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; `pythons` is the Python executable by backend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vs_keras", description=__doc__)
    rows = list(dict.fromkeys(key.split("-")[0] for key in ROWS))  # W7, cold and memory stand for several
    parser.add_argument("--rows", help=f"comma-separated, of {','.join(rows)} (default: all)")
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="where all compute; on a GPU minikeras and Keras on JAX and PyTorch, by default W1 to W17 and the import",
    )
    parser.add_argument("--rounds", type=int, help="timed turns per row and contender (default 5; 2 with --quick)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        help="a contender that has worked so long on a row gets no further turn after its second (default %(default)s)",
    )
    add_environments(parser)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="FOLDER",
        help="where the table and the JSON go (default: benchmarks/results)",
    )
    options = parser.parse_args(argv)
    networks = [name for name in rows if name.startswith("W")]
    usual = rows if options.device == "cpu" else [*networks, "cold-model"]
    options.rows = options.rows.split(",") if options.rows else usual
    for name in options.rows:
        if name not in rows and name not in ROWS:
            parser.error(f"--rows knows {', '.join(rows)}, got {name!r}.")
    options.rounds = (2 if options.quick else 5) if options.rounds is None else options.rounds
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}.")
    options.pythons = environments(parser, options)
    return options


def grouped(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows asked for (by their names, or what stands before a hyphen), those that are measured together in one."""
    together = {key: group for group in GROUPS for key in group}
    keys = [key for key in ROWS if key in names or key.split("-")[0] in names]
    return list(dict.fromkeys(together.get(key, (key,)) for key in keys))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; 1 if a measurement failed."""
    options = arguments(argv)
    setting = Setting(find_mnist(), options.quick)
    contenders = [ours(options.device), *rivals(options.pythons, options.device)]
    workers = [Worker(contender) for contender in contenders]
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "quick": options.quick,
        "device": options.device,
        "pictures": "MNIST" if setting.mnist else "synthetic, MNIST's shape",
        "machine": report.machine(),
    }
    try:
        result["sgemm_rate"] = sgemm_rate(options.device)
        about = {worker.contender.name: described(worker) for worker in workers}
        result.update(contenders=about, rows={})
        for group in grouped(options.rows):
            measured = measure(group, workers, about, options.rounds, options.seconds, setting)
            for key, results in measured.items():
                row = ROWS[key]
                result["rows"][key] = {
                    "title": row.full_title,
                    "unit": row.unit,
                    "higher_is_better": row.higher_is_better,
                    **report.summarize(results, row.higher_is_better),
                }
            write(result, options.output)
        result["sgemm_rate"] = max(result["sgemm_rate"], sgemm_rate(options.device))
        write(result, options.output)
    except ContenderError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    finally:
        for worker in workers:
            worker.stop()
    print(f"\n{report.markdown(result)}\nWritten to {options.output}")
    failed = [one for row in result["rows"].values() for one in row["results"].values() if "error" in one]
    return 1 if failed else 0


def write(result: dict[str, Any], folder: Path) -> None:
    """Write what is measured so far, so that an interrupted run keeps its rows."""
    stem = "vs_keras" + ("_gpu" if result["device"] == "gpu" else "") + ("_quick" if result["quick"] else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(report.markdown(result), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
