"""From measurements to a table: summaries, ratios, the machine, Markdown."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.workloads import ROWS

THREAD_VARIABLES = (
    "MINIKERAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def machine() -> dict[str, Any]:
    """What the measurements ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "thread_variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def summarize(results: dict[str, Any], higher_is_better: bool) -> dict[str, Any]:
    """Complete a row's results by contender (`{"values": [...]}` or `{"error": ...}`).

    Adds median, min and max to each, and to the row the best real Keras and our ratio to it: how many times better
    ours is, above 1 where it is ahead, whether the unit is a rate or a time.
    """
    for result in results.values():
        if "error" not in result:
            values = result["values"]
            result.update(median=median(values), min=min(values), max=max(values))
    medians = {name: result["median"] for name, result in results.items() if "error" not in result}
    rivals = [name for name in medians if name.startswith("keras-")]
    row: dict[str, Any] = {"results": results, "best_keras": None, "ratio": None}
    if rivals:
        best = (max if higher_is_better else min)(rivals, key=medians.__getitem__)
        row["best_keras"] = best
        if OURS in medians:
            ratio = medians[OURS] / medians[best]
            row["ratio"] = ratio if higher_is_better else 1 / ratio
    return row


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    digits = f"{value:.3g}"
    return f"{float(digits):,.0f}" if abs(float(digits)) >= 100 else digits


def cell(result: dict[str, Any] | None) -> str:
    """A contender's median and its range, as they stand in the table."""
    if result is None:
        return ""
    if "error" in result:
        return "failed"
    return f"{number(result['median'])} ({number(result['min'])} to {number(result['max'])})"


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    names, rows, computer = list(report["contenders"]), report["rows"], report["machine"]
    lines, first_lines, remarks = [], [], []
    for key, row in rows.items():
        results = row["results"]
        ratio = f"{row['ratio']:.2f} ({row['best_keras']})" if row["ratio"] else ""
        lines.append([ROWS[key].title, ROWS[key].unit, *(cell(results.get(name)) for name in names), ratio])
        first = [results.get(name, {}).get("first_seconds") for name in names]
        if any(first) and row["higher_is_better"]:
            first_lines.append([ROWS[key].title, *(number(seconds) if seconds else "" for seconds in first)])
        remarks += [f"- {ROWS[key].title}, {name}: {r['error']}" for name, r in results.items() if "error" in r]
        remarks += [f"- {ROWS[key].title}, {name} alone: {cell(results[name])}." for name in results.keys() - names]
    parts = [
        "# minikeras against real Keras",
        f"{report['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores, "
        f"{computer['system']}; pictures: {report['pictures']}; {report['rounds']} rounds in alternation"
        + (", quick: sizes of a smoke test, NOT a measurement." if report["quick"] else "."),
        "Median (smallest to largest). The last column says how many times better minikeras is than the best Keras "
        "backend: above 1 it is ahead, for rates, times, memory and sizes alike.",
        table(["", "unit", *names, "ours to best Keras"], lines),
    ]
    if first_lines:
        parts += [
            "First turn in seconds, compilation included (a turn as in the rates above):",
            table(["", *names], first_lines),
        ]
    if remarks:
        parts.append("\n".join(remarks))
    parts.append(
        "\n".join(
            f"- {name} {about['version']}: Python {about['python']}, NumPy's BLAS {about['numpy_blas']}; "
            + ", ".join(f"{package} {version}" for package, version in about["packages"].items())
            for name, about in report["contenders"].items()
        )
    )
    return "\n\n".join(parts) + "\n"
