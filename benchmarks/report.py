"""From measurements to a table: summaries, ratios, the machine, Markdown."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from benchmarks.contenders import HAND_WRITTEN, OURS, SKLEARN
from benchmarks.workloads import ROWS

UNRANKED = {"cold-model"}  # in no mean: a ratio of start-up times says nothing about training
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
    """Complete a row's results by contender (`{"values": [...]}`, `{"error": ...}` or `{"missing": ...}`).

    Adds median, min and max to each, and to the row the best real Keras, the better hand-written PyTorch, and our ratio
    to either: how many times better ours is, above 1 where it is ahead, whether the unit is a rate or a time.
    """
    for result in results.values():
        if "values" in result:
            values = result["values"]
            result.update(median=median(values), min=min(values), max=max(values))
    medians = {name: result["median"] for name, result in results.items() if "values" in result}
    row: dict[str, Any] = {"results": results}
    for rival, names in (
        ("keras", [name for name in medians if name.startswith("keras-")]),
        ("torch", [name for name in medians if name in HAND_WRITTEN]),
    ):
        best = (max if higher_is_better else min)(names, key=medians.__getitem__, default=None)
        times_better = None
        if best is not None and OURS in medians:
            times_better = medians[OURS] / medians[best] if higher_is_better else medians[best] / medians[OURS]
        row[f"best_{rival}"], row[f"ratio_to_{rival}"] = best, times_better
    operations = [result["operations"] for result in results.values() if "operations" in result]
    row["operations"] = operations[0] if operations else None
    return row


def contender(name: str) -> str:
    """Whose results these are: a name in the results without the way of asking that may follow it."""
    return name.partition(", ")[0]


def best_way(row: dict[str, Any], name: str) -> str:
    """The name in a row's results under which a contender did best, of the ways in which it was asked."""
    results = row["results"]
    values = {way: one["median"] for way, one in results.items() if "median" in one and contender(way) == name}
    return (max if row["higher_is_better"] else min)(values, key=values.__getitem__, default=name)


def limit(row: dict[str, Any], rate: float | None) -> float | None:
    """What the row would be if its products ran at `rate` (operations per second) and all else took no time."""
    if row["operations"] is None or rate is None:
        return None
    return rate / row["operations"] if row["higher_is_better"] else 1000 * row["operations"] / rate


def part_of_limit(row: dict[str, Any], rate: float | None) -> float | None:
    """The part of `limit` that ours reaches."""
    bound, ours = limit(row, rate), row["results"].get(OURS, {}).get("median")
    if bound is None or ours is None:
        return None
    return ours / bound if row["higher_is_better"] else bound / ours


def ratios(rows: dict[str, Any], rival: str) -> dict[str, float]:
    """Our ratio to the best Keras ("keras") or the better PyTorch ("torch"), by row, where there is one."""
    found = {key: row[f"ratio_to_{rival}"] for key, row in rows.items() if key not in UNRANKED}
    return {key: ratio for key, ratio in found.items() if ratio is not None}


def standing(rows: dict[str, Any], rival: str, name: str) -> str:
    """In a sentence: the geometric means of our ratios, and how many are ahead."""
    every = ratios(rows, rival)
    networks = {key: ratio for key, ratio in every.items() if ROWS[key].model is not None}
    parts = [
        f"{geometric_mean(some.values()):.2f} over {what}, ahead in {sum(ratio > 1 for ratio in some.values())} of them"
        for some, what in ((networks, f"{len(networks)} rows of networks"), (every, f"all {len(every)} rows"))
        if some
    ]
    return f"Geometric mean of our ratios to {name}: {'; '.join(parts)}." if parts else ""


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    digits = f"{value:.3g}"
    return f"{float(digits):,.0f}" if abs(float(digits)) >= 100 else digits


def times(ratio: float) -> str:
    """A ratio: two places after the point, three digits in all where it is large."""
    return f"{ratio:.2f}" if ratio < 10 else number(ratio)


def cell(result: dict[str, Any] | None, rounds: int, way: str = "") -> str:
    """A contender's median and its range, as in the table; fewer turns than `rounds` are told, and another way."""
    if result is None:
        return ""
    if "missing" in result:
        return "none yet"
    if "error" in result:
        return "failed"
    turns = len(result["values"])
    fewer = f"; {turns} turn{'s' * (turns > 1)}" if turns < rounds else ""
    named = f"; {way}" if way else ""
    return f"{number(result['median'])} ({number(result['min'])} to {number(result['max'])}{fewer}{named})"


def ratio(row: dict[str, Any], rival: str) -> str:
    """Our ratio to the best Keras ("keras") or the better PyTorch ("torch") and who that is, as in the table."""
    value = row[f"ratio_to_{rival}"]
    return "" if value is None else f"{times(value)} ({row[f'best_{rival}']})"


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown page."""
    rows, computer, rounds, rate = report["rows"], report["machine"], report["rounds"], report["sgemm_rate"]
    names = [name for name in report["contenders"] if name != SKLEARN]
    lines, remarks = [], []
    for key, row in rows.items():
        results, title = row["results"], row["title"]
        size = 1 if key.startswith("size") else rounds
        best = {name: best_way(row, name) for name in names}
        bound, part = limit(row, rate), part_of_limit(row, rate)
        lines.append(
            [
                title,
                row["unit"],
                *(cell(results.get(way), size, way[len(name) + 2 :]) for name, way in best.items()),
                "" if bound is None else number(bound),
                "" if part is None else f"{part:.0%}",
                *(ratio(row, rival) for rival in ("keras", "torch")),
            ]
        )
        for name, result in results.items():
            if "values" not in result:
                remarks.append(f"- {title}, {name}: {result.get('error') or result['missing']}.")
            elif contender(name) not in names:
                remarks.append(f"- {title}, {name} alone: {cell(result, size)} {row['unit']}.")
        if ROWS[key].note:
            remarks.append(f"- {title}: {ROWS[key].note}.")
    on_gpu = report.get("device") == "gpu"
    parts = [
        "# minikeras against real Keras" + (" on a GPU" if on_gpu else " and PyTorch"),
        f"{report['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores, "
        f"{computer['system']}; pictures: {report['pictures']}; rounds in alternation: {rounds}, but a contender that "
        f"has worked {report['seconds']:g} s on a row takes no further turn after its second"
        + ("; quick: sizes of a smoke test, NOT a measurement." if report["quick"] else "."),
        "Median (smallest to largest). Keras is measured both as people first meet it and with "
        "`steps_per_execution=32` where it trains or predicts by itself, with `model(x)` and with `predict_on_batch` "
        "where a loop asks it; a cell is the better of the two, named where it is the second. The last columns say how "
        "many times better minikeras is than the best Keras backend and than the better PyTorch: above 1 it is ahead, "
        "for rates, times, memory and sizes alike. The limit is the row's products at the rate of "
        f"{'cuBLAS in float32' if on_gpu else 'NumPy'}, "
        f"{rate / 1e9:.0f} GFLOP/s in this session; beside it the part of it that minikeras reaches.",
        table(["", "unit", *names, "limit", "ours of limit", "ours to best Keras", "ours to better PyTorch"], lines),
        standing(rows, "keras", "the best Keras"),
        standing(rows, "torch", "the better hand-written PyTorch"),
        _first_turns(report, names, "first_seconds", "First turn in seconds, compilation included:"),
        _first_turns(
            report,
            names,
            "device_bytes",
            "Memory of the GPU in MB that a pool had taken after the second turn, for this row or one before, as its "
            "library counts it:",
            1e-6,
        ),
        _first_turns(report, names, "first_loss", "Loss after the first turn, to see that all do the same work:"),
        "\n".join(remarks),
        "\n".join(
            f"- {name} {about['version']}: Python {about['python']}, NumPy's BLAS {about['numpy_blas']}; "
            + ", ".join(f"{package} {version}" for package, version in about["packages"].items())
            for name, about in report["contenders"].items()
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _first_turns(report: dict[str, Any], names: list[str], what: str, introduction: str, unit: float = 1.0) -> str:
    """A table of what the rows' first turns gave; nothing where none gave it."""
    lines = []
    for row in report["rows"].values():
        values = [row["results"].get(name, {}).get(what) for name in names]
        if row["higher_is_better"] and any(value is not None for value in values):
            lines.append([row["title"], *("" if value is None else number(unit * value) for value in values)])
    return f"{introduction}\n\n{table(['', *names], lines)}" if lines else ""
