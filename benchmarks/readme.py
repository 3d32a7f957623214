"""README's table, made from the measurements: `python -m benchmarks.readme` writes it, `--check` compares it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contenders import OURS
from benchmarks.installed import ROOT
from benchmarks.workloads import ROWS

BEGIN = "<!-- the table, from benchmarks/results/vs_keras.json by `python -m benchmarks.readme` -->"
END = "<!-- the table's end -->"
ALSO = {"cold-model", "cold-script", "cold-W3-empty", "memory-W3", "size"}  # beside the rows of networks
RIVALS = {
    "keras-tensorflow": "TensorFlow",
    "keras-tensorflow-jit": "TensorFlow, jit_compile",
    "keras-jax": "JAX",
    "keras-torch": "PyTorch",
    "torch": "eager",
    "torch-compile": "torch.compile",
}


def best(row: dict[str, Any], rival: str) -> list[str]:
    """The best rival's median with its name, and our ratio to it: two cells, empty where there is none."""
    name, ratio = row[f"best_{rival}"], row[f"ratio_to_{rival}"]
    if name is None:
        return ["", ""]
    median, (whose, *way) = report.number(row["results"][name]["median"]), name.split(", ")
    return [f"{median} ({', '.join([RIVALS[whose], *way])})", "" if ratio is None else report.times(ratio)]


def section(result: dict[str, Any]) -> str:
    """What stands between the two marks: a line for each row of the page that has a value, and all rows' means."""
    lines = []
    for key, row in result["rows"].items():
        named = ROWS[key].model is not None or key in ALSO
        if named and any("values" in one for one in row["results"].values()):
            ours = row["results"].get(OURS, {})
            value = report.number(ours["median"]) if "values" in ours else ""
            title = f"{ROWS[key].title}, {row['unit']}"
            lines.append([title, value, *best(row, "keras"), best(row, "torch")[1]])
    header = ["", "minikeras", "best Keras", "ratio", "ratio to PyTorch"]
    parts = [
        report.table(header, lines),
        report.standing(result["rows"], "keras", "the best Keras"),
        report.standing(result["rows"], "torch", "the better hand-written PyTorch"),
    ]
    return "\n\n".join(part for part in parts if part)


def replaced(page: str, text: str) -> str:
    """The page with `text` between its two marks.

    Raises:
        ValueError: if it has not one of each, in this order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"The page needs the marks {BEGIN!r} and {END!r}, once each, in this order.")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write README's table, or 1 where it and the measurements disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the two disagree")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "vs_keras.json")
    parser.add_argument("--page", type=Path, default=ROOT / "README.md")
    options = parser.parse_args(argv)
    page = options.page.read_text(encoding="utf-8")
    wanted = replaced(page, section(json.loads(options.results.read_text(encoding="utf-8"))))
    if page == wanted:
        return 0
    if options.check:
        complaint = f"{options.page} has another table than {options.results}; run python -m benchmarks.readme."
        print(complaint, file=sys.stderr)
        return 1
    options.page.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
