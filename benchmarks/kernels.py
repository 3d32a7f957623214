"""Where a row's time goes: `python -m benchmarks.kernels W3 W4` writes the time of each compiled kernel in a step.

Each kernel stands beside its limit: its products at the rate of NumPy's product of two large matrices (see limits.py),
or the bytes of its arrays, read or written once, at the rate of a copy of as many bytes by all cores, whichever takes
longer.  The rest of a step is Python, NumPy's small operations and its BLAS.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("MINIKERAS_DEVICE", "cpu")

from benchmarks import keras_models, limits, report
from benchmarks.installed import ROOT
from benchmarks.vs_keras import find_mnist
from benchmarks.workloads import ROWS, TOKENS, Measurement, Row, Setting, timed_turn

COPIES = {"64 KiB": 1 << 16, "1 MiB": 1 << 20, "64 MiB": 1 << 26}  # what the page tells of the copy's rate

DEFAULT = tuple(
    key
    for key, row in ROWS.items()
    if row.model and key not in ("W7-mlp-predict", "W7-mlp-predict_on_batch", "W7-cnn-predict", "W12")
)
TURNS = 3
GATES = {"simple": 1, "lstm": 4, "gru": 3}


# ---------------------------------------------------------------- a kernel's limit


def _tiles(v: dict[str, Any]) -> float:
    """A convolution in tiles of 4x4 outputs with a window of 3x3, as its definition has it."""
    return 2.0 * 9 * 16 * v["total"] * v["channels"] * v["filters"]


def _attention(v: dict[str, Any]) -> float:
    """The two products of attention, forward; backward they are four."""
    heads = len(v["query"]) * v["groups"] * v["each_group"]
    return 2.0 * heads * v["steps"] * v["sources"] * (v["depth"] + v["size"]) * (2 if "g_query" in v else 1)


def _recurrence(v: dict[str, Any], gates: int) -> float:
    """The products with the states, and with the inputs where the kernel makes them."""
    width = v["units"] + (v["features"] if v.get("kernel_panels") is not None else 0)
    return 2.0 * v["samples"] * v["time"] * width * gates * v["units"]


# The operations of a kernel's products, from its named arguments; of any other the bytes count.
OPERATIONS: dict[str, Callable[[dict[str, Any]], float]] = {
    "products.product": lambda v: 2.0 * v["rows"] * v["columns"] * v["count"] * v["steps"],
    "products._product": lambda v: 2.0 * v["rows"] * v["columns"] * v["steps"],
    "convolutions._kernel_grad": lambda v: 2.0 * v["images"] * v["count"] * v["steps"] * v["rows"] * v["columns"],
    "stacks._stack": lambda v: 2.0 * v["count"] * v["rows"] * v["steps"] * v["columns"],
    "winograd._convolution": _tiles,
    "winograd._kernel_grad": _tiles,
    "attention._attention": _attention,
    "attention._attention_grad": _attention,
    **{
        f"recurrent._{kind}{way}": lambda v, gates=gates: _recurrence(v, gates)
        for kind, gates in GATES.items()
        for way in ("", "_grad")
    },
}
CHANGED = {"optimizer": ("p", "m", "v")}  # arguments that a module's kernels read and write


def operations_of(place: str, values: dict[str, Any]) -> float:
    """The floating-point operations of a kernel's products; 0 where it has none that are known."""
    count = OPERATIONS.get(place)
    return count(values) if count is not None else 0.0


def bytes_of(place: str, values: dict[str, Any]) -> int:
    """The bytes of a kernel's arrays: what it reads once, though it may have several names, and what it writes."""
    arrays = {name: value for name, value in values.items() if hasattr(value, "nbytes") and name != "scratch"}
    read = {(value.ctypes.data, value.nbytes) for name, value in arrays.items() if name != "out"}
    changed = CHANGED.get(place.partition(".")[0], ()) + ("out",)
    return sum(size for _, size in read) + sum(arrays[name].nbytes for name in changed if name in arrays)


class Times:
    """What was watched of one kernel.

    Attributes:
        calls, seconds: how often it ran, and how long.
        products, memory: seconds that its calls' products and its bytes would take at the machine's rates.
        limit: the sum of the longer ones.
    """

    def __init__(self) -> None:
        self.calls, self.seconds, self.products, self.memory, self.limit = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, seconds: float, products: float, memory: float) -> None:
        """Count a call."""
        self.calls += 1
        self.seconds += seconds
        self.products += products
        self.memory += memory
        self.limit += max(products, memory)


class Watch:
    """Times what the team runs, by the name of its kernel.

    Args:
        rate: operations per second of the machine's products.
    """

    def __init__(self, rate: float) -> None:
        from minikeras.kernels.cpu.compiler.team import team
        from minikeras.kernels.cpu.warmup import kernels

        self.kernels = {kernel.address: kernel for kernel in kernels()}
        self.team, self.run, self.rate = team, team.run, rate
        self.found: dict[str, Times] = defaultdict(Times)

    @property
    def seconds(self) -> float:
        """Of all kernels."""
        return sum(times.seconds for times in self.found.values())

    def __enter__(self) -> Watch:
        def timed(function: int, block: Any, parts: int, wake: bool = True, items: Any = ()) -> None:
            start = perf_counter()
            self.run(function, block, parts, wake, items)
            seconds = perf_counter() - start
            kernel = self.kernels[function]
            names = getattr(kernel, "names", [])
            kept = [] if block is None else block[len(items) : len(names)].tolist()
            values = dict(zip(names, [*items, *kept], strict=False))
            moved = bytes_of(kernel.place, values)
            memory = moved / limits.copy_rate(moved) if moved else 0.0
            self.found[kernel.place].add(seconds, operations_of(kernel.place, values) / self.rate, memory)

        self.team.run = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        del self.team.run


# ---------------------------------------------------------------- a row


def steps_of(row: Row, samples: int, setting: Setting, measured: Measurement) -> int:
    """Steps of a turn: batches, calls for a picture, fits of the sweep, or words."""
    if "done" in measured:
        return int(measured["done"]) * (TOKENS if row.work == "generate" else 1)
    return setting.count(row.count) if row.unit == "ms" else row.epochs * -(-samples // row.batch_size)


def measure(key: str, setting: Setting, rate: float) -> tuple[float, float, int, Watch]:
    """Seconds of a step in a row's best turn, its operations, the steps of another turn, and what was watched in it.

    A step that is watched runs its kernels one by one from Python: the network is another, with `jit_compile=False`.
    """
    row, turns = ROWS[key], []
    for options in ({}, {"jit_compile": False}):
        framework = keras_models.Framework("minikeras", **options)
        framework.seed()
        program = framework.program(row)
        x, y = framework.data(row, setting)
        turns.append(row.turn(program, x, y, setting))
    operations = framework.operations(row, program) * (row.batch_size if row.unit == "samples/s" else 1)
    for turn in turns:
        for _ in range(2):
            turn()
    step = inf
    for _ in range(TURNS):
        measured, seconds = timed_turn(turns[0])
        step = min(step, seconds / steps_of(row, len(x), setting, measured))
    watches = []
    for _ in range(TURNS):
        with Watch(rate) as watch:
            measured = turns[1]()
        watches.append((watch.seconds / (steps := steps_of(row, len(x), setting, measured)), steps, watch))
    _, steps, best = min(watches, key=lambda watched: watched[0])
    return step, operations, steps, best


def page(keys: Sequence[str], setting: Setting, say: Callable[[str], None]) -> str:
    """The report as Markdown."""
    rate, computer = limits.sgemm_rate(), report.machine()
    copies = ", ".join(f"{limits.copy_rate(size) / 1e9:.0f} GB/s for {name}" for name, size in COPIES.items())
    parts = [
        "# Where the time of a step goes",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}, {computer['cpu']}, {computer['cores']} cores; NumPy's product of two "
        f"2048x2048 float32 matrices runs at {rate / 1e9:.0f} GFLOP/s, a copy at {copies}, read and written. "
        "Microseconds of a step (a call for one picture, a fit of the sweep, a word) and, for each compiled kernel, "
        "how often it runs in it, what its products (convolutions as their definition has them) or its bytes would "
        "take at these rates, the longer of the two, and which part of its time that is: more than all of it where an "
        f"algorithm has fewer multiplications, or arrays were in a cache. Best of {TURNS} turns.",
    ]
    for key in keys:
        step, operations, steps, watch = measure(key, setting, rate)
        kernels = watch.seconds / steps
        lines = []
        for name, times in sorted(watch.found.items(), key=lambda item: -item[1].seconds):
            seconds, bound = times.seconds / steps, times.limit / steps
            if setting.quick or seconds > step / 200:
                by = ("products" if times.products > times.memory else "memory") if bound else ""
                limit = [_microseconds(bound), by, f"{bound / seconds:.0%}"] if bound else [""] * 3
                lines.append(
                    [name, f"{times.calls / steps:.3g}", _microseconds(seconds), f"{seconds / step:.0%}", *limit]
                )
        rest, limit = step - kernels, operations / rate
        lines.append(["everything else: Python, NumPy", "", _microseconds(rest), f"{rest / step:.0%}", "", "", ""])
        total = [_microseconds(limit), "products", f"{limit / step:.0%}"]
        lines.append(["**the step**", "", _microseconds(step), "100%", *total])
        header = ["", "times", "us", "of the step", "limit", "by", "of its limit"]
        parts += [f"## {ROWS[key].title}", report.table(header, lines)]
        say(f"{key}: {1e6 * step:,.0f} us a step, {kernels / step:.0%} in compiled kernels")
    return "\n\n".join(parts) + "\n"


def _microseconds(seconds: float) -> str:
    """Whole ones; of less than ten, a tenth too."""
    return f"{1e6 * seconds:,.0f}" if abs(seconds) > 1e-5 else f"{1e6 * seconds:.1f}"


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
