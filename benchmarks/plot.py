"""Our ratio in every row of the table, drawn: `python -m benchmarks.plot` (it needs `pip install '.[bench]'`)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS

COLOURS = {"keras": "#d1495b", "torch": "#00798c"}  # the measured rivals; they differ in lightness too
NAMES = {"keras": "best Keras backend", "torch": "better hand-written PyTorch"}


def label(key: str) -> str:
    """A row's name beside its bars: what its title says before the first comma, and a latency's way."""
    row = ROWS[key]
    start, colon, rest = row.title.partition(":")
    if row.model is None and colon:
        return f"{start}: {rest.strip()}"
    return start.split(", ")[0] + (f", {row.work}" if row.unit == "ms" else "")


def figure(result: dict[str, Any]) -> Any:
    """A Matplotlib figure: a point for each row and rival on a logarithmic axis, right of 1 where ours is ahead."""
    from matplotlib.figure import Figure

    ratios = {rival: report.ratios(result["rows"], rival) for rival in NAMES}
    keys = [key for key in result["rows"] if any(key in some for some in ratios.values())]
    drawing = Figure(figsize=(9, 1.5 + 0.32 * len(keys)), layout="constrained")
    axes = drawing.subplots()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    for rival, shift in (("keras", -0.16), ("torch", 0.16)):
        places = [(ratios[rival][key], index + shift) for index, key in enumerate(keys) if key in ratios[rival]]
        for ratio, place in places:
            axes.plot([1, ratio], [place, place], color=COLOURS[rival], linewidth=4, solid_capstyle="butt", alpha=0.6)
            axes.annotate(
                report.times(ratio),
                (ratio, place),
                xytext=(5 if ratio >= 1 else -5, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize=7,
            )
        if places:
            axes.plot(*zip(*places, strict=True), "o", color=COLOURS[rival], markersize=4, label=NAMES[rival])
    axes.margins(x=0.12)
    axes.set_yticks(range(len(keys)), [label(key) for key in keys], fontsize=8)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", which="both", alpha=0.2)
    axes.set_xlabel("how many times better minikeras is (logarithmic; right of 1 it is ahead)")
    axes.set_title(f"minikeras on {result['machine']['cores']} cores, {result['date']}", fontsize=10)
    if keys:
        axes.legend(loc="lower right", fontsize=8)
    return drawing


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the measurements into a PNG."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "vs_keras.json")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.png", metavar="PNG")
    options = parser.parse_args(argv)
    result = json.loads(options.results.read_text(encoding="utf-8"))
    figure(result).savefig(options.output, dpi=140, metadata={"Software": None})
    print(f"Drawn into {options.output}")


if __name__ == "__main__":
    main()
