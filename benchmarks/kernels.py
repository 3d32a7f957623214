"""Where a row's time goes: `python -m benchmarks.kernels W3 W4` writes the time of each compiled kernel in a step.

The rest of a step is Python, NumPy's small operations and its BLAS.  Beside the step stands what its products would
take at the rate of NumPy's product of two large matrices (see limits.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("MINIKERAS_DEVICE", "cpu")

from benchmarks import frameworks, limits, report
from benchmarks.installed import ROOT
from benchmarks.vs_keras import find_mnist
from benchmarks.workloads import ROWS, Setting, timed_turn

DEFAULT = ("W1", "W2", "W3", "W4", "W5", "W6", "W7-cnn-predict_on_batch", "W8", "W9", "W10", "W11")
TURNS = 3


class Watch:
    """Times what the team runs, by the name of its kernel."""

    def __init__(self) -> None:
        from minikeras.kernels.cpu.compiler.team import team
        from minikeras.kernels.cpu.warmup import kernels

        self.names = {kernel.address: kernel.place for kernel in kernels()}
        self.team, self.run = team, team.run
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __enter__(self) -> Watch:
        def timed(function: int, *arguments: Any, **options: Any) -> None:
            start = perf_counter()
            self.run(function, *arguments, **options)
            name = self.names[function]
            self.seconds[name] += perf_counter() - start
            self.calls[name] += 1

        self.team.run = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        del self.team.run


def measure(key: str, setting: Setting) -> tuple[float, float, int, Watch]:
    """Seconds of a row's best turn, operations of a step, steps of a turn, and what was watched in another turn."""
    framework, row = frameworks.load("minikeras"), ROWS[key]
    framework.seed()
    program = framework.program(row)
    x, y = framework.data(row, setting)
    turn = row.turn(program, x, y, setting)
    steps = setting.count(row.count) if row.unit == "ms" else row.epochs * -(-len(x) // row.batch_size)
    samples = 1 if row.unit == "ms" else row.batch_size
    for _ in range(2):
        turn()
    seconds = min(timed_turn(turn)[1] for _ in range(TURNS))
    watches = []
    for _ in range(TURNS):
        with Watch() as watch:
            turn()
        watches.append(watch)
    best = min(watches, key=lambda watch: sum(watch.seconds.values()))
    return seconds, framework.operations(row, program) * samples, steps, best


def page(keys: Sequence[str], setting: Setting, say: Callable[[str], None]) -> str:
    """The report as Markdown."""
    rate, computer = limits.sgemm_rate(), report.machine()
    parts = [
        "# Where the time of a step goes",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}, {computer['cpu']}, {computer['cores']} cores; NumPy's product of two "
        f"2048x2048 float32 matrices runs at {rate / 1e9:.0f} GFLOP/s. Microseconds of a step (a call for one picture) "
        f"and, for each compiled kernel, how often it runs in it. Best of {TURNS} turns.",
    ]
    for key in keys:
        seconds, operations, steps, watch = measure(key, setting)
        step, kernels = seconds / steps, sum(watch.seconds.values()) / steps
        lines = [
            [name, f"{watch.calls[name] / steps:.3g}", f"{1e6 * total / steps:,.0f}", f"{total / steps / step:.0%}"]
            for name, total in sorted(watch.seconds.items(), key=lambda item: -item[1])
            if setting.quick or total / steps > step / 200
        ]
        lines.append(
            ["everything else: Python, NumPy", "", f"{1e6 * (step - kernels):,.0f}", f"{1 - kernels / step:.0%}"]
        )
        limit = operations / rate
        lines.append(["**the step**", "", f"{1e6 * step:,.0f}", "100%"])
        lines.append(["its products at NumPy's rate", "", f"{1e6 * limit:,.0f}", f"{limit / step:.0%}"])
        parts += [f"## {ROWS[key].title}", report.table(["", "times", "us", "of the step"], lines)]
        say(f"{key}: {1e6 * step:,.0f} us a step, {kernels / step:.0%} in compiled kernels")
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure rows and write benchmarks/results/kernels.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("rows", nargs="*", default=list(DEFAULT), help=f"of {', '.join(DEFAULT)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    options = parser.parse_args(argv)
    for name in options.rows:
        if name not in DEFAULT:
            parser.error(f"rows are {', '.join(DEFAULT)}, got {name!r}.")
    text = page(options.rows, Setting(find_mnist(), options.quick), print)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / ("kernels_quick.md" if options.quick else "kernels.md")
    path.write_text(text, encoding="utf-8")
    print(f"Written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
