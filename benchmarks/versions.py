"""This checkout of minikeras against another one, turn by turn: whether a change made something slower.

    python -m benchmarks.versions OTHER [--rows W1,W9] [--rounds 15] [--output FOLDER]

OTHER is a folder with another checkout.  Both run this checkout's benchmarks.  Both workers live at the same time and
take turns, so that what else the machine does meets both; the medians' ratio is of the speeds, above 1 where this
checkout is faster.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import ContenderError, Worker, ours
from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS

SETTLE_SECONDS = 0.1  # between turns, in which threads come to rest


def alternate(workers: dict[str, Worker], row: str, rounds: int) -> dict[str, list[float]]:
    """The values of a row's turns, by the workers' names."""
    values: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.ask("prepare", row=row, setting={})
    for number in range(rounds):
        for name in list(workers)[:: 1 if number % 2 else -1]:
            time.sleep(SETTLE_SECONDS)
            values[name].append(workers[name].ask("turn")["value"])
    return values


def with_these_benchmarks(other: Path, folder: Path) -> Path:
    """The folder, with links to another checkout's minikeras and to these benchmarks."""
    for name, place in {"minikeras": other, "benchmarks": ROOT}.items():
        (folder / name).symlink_to((place / name).resolve(), target_is_directory=True)
    return folder


def line(row: str, values: dict[str, list[float]]) -> list[str]:
    """A row of the table: medians, quartiles, and the ratio of the speeds."""
    cells, medians = [], {}
    for name, ones in values.items():
        low, medians[name], high = statistics.quantiles(ones, n=4)
        cells.append(f"{report.number(medians[name])} ({report.number(low)} to {report.number(high)})")
    ratio = medians["this"] / medians["other"]
    return [f"{ROWS[row].title}, {ROWS[row].unit}", *cells, f"{ratio if ROWS[row].higher_is_better else 1 / ratio:.3f}"]


def _commit(folder: Path) -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    return found.stdout.strip() or str(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rows", default=",".join(key for key, row in ROWS.items() if row.model))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="folder for versions.md")
    given = parser.parse_args(arguments)
    commits = {"this": _commit(ROOT), "other": _commit(given.other)}
    computer, lines = report.machine(), []
    with tempfile.TemporaryDirectory() as folder:
        root = with_these_benchmarks(given.other, Path(folder))
        for row in given.rows.split(","):
            workers = {"other": Worker(replace(ours(), name="other", root=root)), "this": Worker(ours())}
            try:
                lines.append(line(row, alternate(workers, row, given.rounds)))
            except ContenderError as error:  # an earlier version lacks what a row needs
                lines.append([f"{ROWS[row].title}, {ROWS[row].unit}", f"not measured: {error}", "", ""])
            finally:
                for worker in workers.values():
                    worker.stop()
            print(*lines[-1], sep=" | ", flush=True)
    header = ["", *(f"{name} ({commits[name]})" for name in ("other", "this")), "this / other"]
    page = _page(computer, given.rounds, report.table(header, lines))
    if given.output:
        (given.output / "versions.md").write_text(page, encoding="utf-8")
    print(page)


def _page(computer: dict[str, Any], rounds: int, table: str) -> str:
    return (
        "# This version against an earlier one\n\n"
        f"Made by `python -m benchmarks.versions`: {rounds} rounds, turn by turn, medians and quartiles; the last "
        f"column is the ratio of the speeds. {computer['cpu']}, {computer['cores']} cores, {computer['system']}, "
        f"Python {sys.version.split()[0]}, load {computer['load_average_at_start']} at the start.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
