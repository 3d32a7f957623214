"""minikeras against real Keras on each backend: `python -m benchmarks.vs_keras --help`, and see README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import (
    BACKENDS,
    Contender,
    ContenderError,
    Worker,
    make_environments,
    ours,
    pythons_here,
    real_keras,
)
from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS, Setting

SETTLE_SECONDS = 0.1  # threads that spin after their last task come to rest before another contender's turn
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"

# A contender's part in one round; round 0 prepares and warms up, and its values are dropped.
Part = Callable[[int], dict[str, dict[str, Any]]]


def alternate(keys: Sequence[str], parts: dict[str, Part], rounds: int) -> dict[str, dict[str, Any]]:
    """Run every contender's part, one after another, round after round.

    Args:
        keys: the rows that a part measures.
        parts: by contender.
        rounds: how many, besides round 0.

    Returns:
        By row, then by contender: `{"values": [...], ...}`, or `{"error": ...}` for one that failed and dropped out.
    """
    results: dict[str, dict[str, Any]] = {key: {name: {"values": []} for name in parts} for key in keys}
    for turn in range(rounds + 1):
        for name, part in parts.items():
            if "error" in results[keys[0]][name]:
                continue
            time.sleep(SETTLE_SECONDS)
            try:
                measured = part(turn)
            except ContenderError as error:
                print(f"{keys[0]:24} {name:17} failed: {error}", flush=True)
                for key in keys:
                    results[key][name] = {"error": str(error)}
                continue
            for key in keys:
                result, values = results[key][name], dict(measured[key])
                value = values.pop("value", None)
                result.update(values)
                if turn and value is not None:
                    result["values"].append(value)
                    progress = f"{report.number(value)} {ROWS[key].unit}"
                else:
                    progress = "ready"
                print(f"{key:24} {name:17} round {turn}/{rounds}: {progress}", flush=True)
    return results


def workload_part(worker: Worker, key: str, setting: Setting) -> Part:
    """Turns of a workload in a contender's worker."""

    def part(turn: int) -> dict[str, dict[str, Any]]:
        if turn:
            return {key: worker.ask("turn")}
        return {key: worker.ask("prepare", row=key, setting=dataclasses.asdict(setting))}

    return part


def import_part(contender: Contender) -> Part:
    """Seconds of `import`, in a fresh process each."""
    return lambda turn: {"cold-import": {"value": float(contender.run("-c", IMPORT.format(contender.module))[0])}}


def script_part(contender: Contender, quick: bool) -> Part:
    """Seconds and peak memory of the whole W1 script, in a fresh process each."""

    def part(turn: int) -> dict[str, dict[str, Any]]:
        arguments = ["-m", "benchmarks.script_w1", contender.module, *(["quick"] if quick else [])]
        _, seconds, megabytes = contender.run(*arguments)
        return {"cold-script": {"value": seconds}, "cold-memory": {"value": megabytes}}

    return part


def measure(
    keys: Sequence[str], workers: list[Worker], about: dict[str, Any], rounds: int, setting: Setting
) -> dict[str, Any]:
    """Results of one row (or of the two that the whole script gives together), by row and by contender."""
    contenders = [worker.contender for worker in workers]
    if keys[0] == "size":
        return {"size": {name: {"values": [one["installed_bytes"] / 1e6]} for name, one in about.items()}}
    if keys[0] == "cold-import":
        # NumPy, which all of them import, in our interpreter: what minikeras adds to it can be read off.
        alone = dataclasses.replace(contenders[0], name="import numpy", module="numpy")
        return alternate(keys, {one.name: import_part(one) for one in [*contenders, alone]}, rounds)
    if keys[0] == "cold-script":
        return alternate(keys, {one.name: script_part(one, setting.quick) for one in contenders}, rounds)
    return alternate(keys, {one.contender.name: workload_part(one, keys[0], setting) for one in workers}, rounds)


def find_mnist() -> str | None:
    """Where `mnist.npz` lies, if minikeras finds it without a download."""
    from minikeras.datasets import mnist

    path = mnist.find()
    return str(path) if path is not None and path.is_file() else None


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; `pythons` is the Python executable by backend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vs_keras", description=__doc__)
    rows = list(dict.fromkeys(key.split("-")[0] for key in ROWS))
    parser.add_argument("--rows", default=",".join(rows), help="comma-separated, of %(default)s")
    parser.add_argument("--rounds", type=int, help="timed turns per row and contender (default 5; 2 with --quick)")
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
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="FOLDER",
        help="where the table and the JSON go (default: benchmarks/results)",
    )
    options = parser.parse_args(argv)
    options.rows = options.rows.split(",")
    for name in options.rows:
        if name not in rows:
            parser.error(f"--rows knows {', '.join(rows)}, got {name!r}.")
    options.rounds = (2 if options.quick else 5) if options.rounds is None else options.rounds
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}.")
    given = {}
    for item in options.python_for:
        backend, _, python = item.partition("=")
        if backend not in BACKENDS or not Path(python).is_file():
            known = ", ".join(BACKENDS)
            parser.error(f"--python-for expects BACKEND=PYTHON, a backend of {known} and a file, got {item!r}.")
        given[backend] = os.path.abspath(python)  # not resolved: a link is what makes a virtual environment
    options.pythons = {}
    if not options.only_ours:
        made = make_environments(options.make_environments) if options.make_environments else {}
        options.pythons = {**made, **given} or pythons_here()
        if not options.pythons:
            parser.error(
                "real Keras is not installed beside this Python; pass --python-for jax=PATH (also tensorflow, torch) "
                "to name one that has it, --make-environments FOLDER to install it, or --only-ours."
            )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; 1 if a measurement failed."""
    options = arguments(argv)
    setting = Setting(find_mnist(), options.quick)
    workers = [Worker(contender) for contender in [ours(), *real_keras(options.pythons)]]
    keys = [key for key in ROWS if key.split("-")[0] in options.rows]
    groups = [[key] for key in keys if key not in ("cold-script", "cold-memory")]
    if "cold-script" in keys:
        groups.append(["cold-script", "cold-memory"])
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "rounds": options.rounds,
        "quick": options.quick,
        "pictures": "MNIST" if setting.mnist else "synthetic, MNIST's shape",
        "machine": report.machine(),
    }
    try:
        about = {worker.contender.name: worker.ask("describe") for worker in workers}
        result.update(contenders=about, rows={})
        for group in groups:
            for key, results in measure(group, workers, about, options.rounds, setting).items():
                row = ROWS[key]
                result["rows"][key] = {
                    "title": row.title,
                    "unit": row.unit,
                    "higher_is_better": row.higher_is_better,
                    **report.summarize(results, row.higher_is_better),
                }
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
    stem = "vs_keras_quick" if result["quick"] else "vs_keras"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(report.markdown(result), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
