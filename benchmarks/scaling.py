"""What a sample costs as batches and layers grow: `python -m benchmarks.scaling` writes a table and a plot.

The network is two Dense layers of one width, trained with SGD on the mean squared error; the yardstick is NumPy's own
products of the same step, without anything around them: two for a prediction, five for a training step.  Each thread
count has a process of ours and one of NumPy's, which measure in alternation.  The plot needs `pip install '.[bench]'`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.contenders import Contender, Worker
from benchmarks.installed import ROOT

BATCHES, WIDTHS = [2**power for power in range(13)], [2**power for power in range(4, 13)]
WIDTH, BATCH = 512, 128  # what the other one is held at
WORK = {"train": "training step", "predict": "prediction"}
OURS, NUMPY = "minikeras", "NumPy"
ROUNDS = 3


def network(batch: int, width: int) -> dict[str, Callable[[], Any]]:
    """Our training step and prediction."""
    import minikeras as keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, activation="relu"), keras.layers.Dense(width)]
    model = keras.Sequential([keras.Input(shape=(width,)), *layers])
    model.compile(optimizer=keras.optimizers.SGD(0.001), loss="mean_squared_error")
    x, y = np.random.default_rng(0).standard_normal((2, batch, width), "float32")
    return {"train": lambda: model.train_on_batch(x, y), "predict": lambda: model.predict_on_batch(x)}


def products(batch: int, width: int) -> dict[str, Callable[[], Any]]:
    """NumPy's products of the same work, into arrays that are there already."""
    generator = np.random.default_rng(0)
    x, hidden, outputs, gradient = generator.standard_normal((4, batch, width), "float32")
    first, second, first_gradient, second_gradient = generator.standard_normal((4, width, width), "float32")

    def predict() -> None:
        np.matmul(x, first, hidden)
        np.matmul(hidden, second, outputs)

    def train() -> None:
        predict()
        np.matmul(hidden.T, gradient, second_gradient)
        np.matmul(gradient, second.T, outputs)
        np.matmul(x.T, outputs, first_gradient)

    return {"train": train, "predict": predict}


def seconds(call: Callable[[], Any], least: float) -> float:
    """Seconds of a call, the best of so many that they last `least` seconds together, three at least."""
    best, spent, calls = float("inf"), 0.0, 0
    while calls < 3 or spent < least:
        start = perf_counter()
        call()
        took = perf_counter() - start
        best, spent, calls = min(best, took), spent + took, calls + 1
    return best


def serve(name: str) -> None:
    """Answer requests `{"batch", "width", "least"}`, a JSON line each, with the seconds of each work."""
    make = network if name == OURS else products
    for line in sys.stdin:
        request = json.loads(line)
        calls = make(request["batch"], request["width"])
        for call in calls.values():
            call()
        print(json.dumps({work: seconds(call, request["least"]) for work, call in calls.items()}), flush=True)


class Measured(Worker):
    """A process of `serve`."""

    def command(self) -> list[str]:
        return [self.contender.python, "-m", "benchmarks.scaling", "--serve", self.contender.framework]


def measure(
    sizes: Sequence[tuple[int, int]], threads: Sequence[int], rounds: int, least: float
) -> list[dict[str, Any]]:
    """Microseconds for each sample: `{"batch", "width", "threads", "train": {name: number}, "predict": {...}}` each."""
    workers = {}
    for count in threads:
        names = ("MINIKERAS_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        variables = dict.fromkeys(names, str(count))
        for name in (OURS, NUMPY):
            workers[count, name] = Measured(Contender(name, sys.executable, name, variables))
    points = []
    try:
        for batch, width in sizes:
            best: dict[Any, float] = {}
            for _ in range(rounds):
                for (count, name), worker in workers.items():
                    for work, took in worker.request(batch=batch, width=width, least=least).items():
                        at = count, work, name
                        best[at] = min(best.get(at, float("inf")), 1e6 * took / batch)
            for count in threads:
                costs = {work: {name: best[count, work, name] for name in (OURS, NUMPY)} for work in WORK}
                points.append({"batch": batch, "width": width, "threads": count, **costs})
            print(f"batch {batch}, width {width}: measured", flush=True)
    finally:
        for worker in workers.values():
            worker.stop()
    return points


def chosen(result: dict[str, Any], along: str) -> list[dict[str, Any]]:
    """The points along the batch sizes, or along the widths, in their order."""
    held, value = ("width", WIDTH) if along == "batch" else ("batch", BATCH)
    return sorted((point for point in result["points"] if point[held] == value), key=lambda point: point[along])


def steepest(points: list[dict[str, Any]], along: str, work: str) -> tuple[float, int]:
    """The cliff, if there is one: the largest factor by which ours, in units of NumPy's, grows from a size to the next,
    and the size where it has grown."""
    ratios = [(point[work][OURS] / point[work][NUMPY], point[along]) for point in points]
    steps = [(after / before, size) for (before, _), (after, size) in pairwise(ratios)]
    return max(steps, default=(1.0, points[0][along]))


def markdown(result: dict[str, Any]) -> str:
    """The measurements as a Markdown page."""
    computer, threads = result["machine"], result["threads"]
    parts = [
        "# What a sample costs as batches and layers grow",
        f"{result['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores"
        + ("; quick: sizes of a smoke test, NOT a measurement." if result["quick"] else "."),
        "Two Dense layers of one width, SGD, mean squared error: microseconds for each sample (`train_on_batch`, "
        "`predict_on_batch`), then how many times that is what NumPy's own products of the same work take, alone and "
        f"with as many threads. Each the best of {result['rounds']} rounds in alternation.",
    ]
    for along, title in (("batch", f"Batch size, at width {WIDTH}"), ("width", f"Width, at batch {BATCH}")):
        points = chosen(result, along)
        if not points:
            continue
        header = [along, *(f"{name}, threads {count}" for name in WORK.values() for count in threads)]
        lines = []
        for size in dict.fromkeys(point[along] for point in points):
            line = [str(size)]
            for work in WORK:
                for count in threads:
                    costs = next(p for p in points if p[along] == size and p["threads"] == count)[work]
                    line.append(f"{report.number(costs[OURS])} ({costs[OURS] / costs[NUMPY]:.2f})")
            lines.append(line)
        parts += [f"## {title}", report.table(header, lines)]
        remarks = []
        for work, name in WORK.items():
            for count in threads:
                factor, size = steepest([p for p in points if p["threads"] == count], along, work)
                remarks.append(
                    f"- {name}, threads {count}: measured by NumPy's, ours grows the most from one size to the next at "
                    f"{along} {size}, by {factor:.2f}."
                )
        parts.append("\n".join(remarks))
    if len(threads) > 1:
        parts += ["## Threads", _gain(result)]
    return "\n\n".join(parts) + "\n"


def _gain(result: dict[str, Any]) -> str:
    """What more threads bring, in a sentence for each work."""
    few, many = min(result["threads"]), max(result["threads"])
    by_size: dict[tuple[int, int], dict[int, Any]] = {}
    for point in result["points"]:
        by_size.setdefault((point["batch"], point["width"]), {})[point["threads"]] = point
    lines = []
    for work, title in WORK.items():
        gains = {
            name: [one[few][work][name] / one[many][work][name] for one in by_size.values()] for name in (OURS, NUMPY)
        }
        lines.append(
            f"- {title}, threads {few} against {many}: "
            + "; ".join(
                f"{name} {geometric_mean(some):.2f} times as fast with {many} (from {min(some):.2f} to {max(some):.2f})"
                for name, some in gains.items()
            )
            + "."
        )
    return "\n".join(lines)


def figure(result: dict[str, Any]) -> Any:
    """A Matplotlib figure: cost against batch size and against width, for both kinds of work."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 7), layout="constrained")
    table = drawing.subplots(2, 2)
    for row, (work, title) in zip(table, WORK.items(), strict=True):
        for axes, along in zip(row, ("batch", "width"), strict=True):
            for name, colour in ((OURS, "#d1495b"), (NUMPY, "#555555")):
                for count in result["threads"]:
                    points = [point for point in chosen(result, along) if point["threads"] == count]
                    axes.plot(
                        [point[along] for point in points],
                        [point[work][name] for point in points],
                        "o-" if count == max(result["threads"]) else "o--",
                        color=colour,
                        markersize=3,
                        label=f"{name}{' products' if name == NUMPY else ''}, threads {count}",
                    )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.grid(alpha=0.2)
            held = f"width {WIDTH}" if along == "batch" else f"batch {BATCH}"
            axes.set_title(f"{title}, {held}", fontsize=10)
            axes.set_xlabel("batch size" if along == "batch" else "width")
            axes.set_ylabel("µs for each sample")
    table[0][0].legend(fontsize=8)
    return drawing


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the table, the values and, where Matplotlib is, the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--threads", default="1,2", help="comma-separated (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    parser.add_argument("--serve", choices=(OURS, NUMPY), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        return serve(options.serve)
    threads = [int(count) for count in options.threads.split(",")]
    batches, widths = (BATCHES[:4], WIDTHS[:3]) if options.quick else (BATCHES, WIDTHS)
    sizes = list(dict.fromkeys([(batch, WIDTH) for batch in batches] + [(BATCH, width) for width in widths]))
    rounds, least = (1, 0.002) if options.quick else (ROUNDS, 0.03)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": report.machine(),
        "quick": options.quick,
        "threads": threads,
        "rounds": rounds,
        "points": measure(sizes, threads, rounds, least),
    }
    stem = options.output / ("scaling_quick" if options.quick else "scaling")
    options.output.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    try:
        drawing = figure(result)
    except ModuleNotFoundError as error:
        print(f"No plot, for there is no {error.name}: pip install '.[bench]'", file=sys.stderr)
    else:
        drawing.savefig(stem.with_suffix(".png"), dpi=140, metadata={"Software": None})
    print(markdown(result))


if __name__ == "__main__":
    main()
