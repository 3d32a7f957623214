"""Every built-in layer, activation, loss and optimizer against Keras on JAX and TensorFlow: where are we behind?

    python -m benchmarks.sweep --make-environments FOLDER [--only losses,gelu] [--sizes small,large] [--backends jax]

Timed is a training step of a small network (sweep_cases.py) on a batch that is there already: `train_on_batch` here,
in Keras the compiled function that its `fit` calls for each batch, its results waited for.  What Keras spends around
that function, often more than in it, is left out: this is about the kernels, `benchmarks.vs_keras` about whole runs.
Each contender has one process; they take turns, and the best time of all turns counts.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter
from typing import Any

from benchmarks import report, worker
from benchmarks.contenders import OURS, ContenderError, Worker, ours, rivals
from benchmarks.installed import ROOT
from benchmarks.scaling import seconds
from benchmarks.sweep_cases import CASES, SIZES, network
from benchmarks.vs_keras import add_environments, environments

BACKENDS = ("jax", "tensorflow")
BEHIND = 1.1  # times slower than the better backend: what is listed
GROUPS = ("layers", "activations", "losses", "optimizers")


# ---------------------------------------------------------------- in a contender's process


def training_step(keras: Any, name: str, size: str) -> Callable[[], Any]:
    """A step of a case, which returns when it is done."""
    model, x, y = network(keras, name, size)
    if keras.__name__ == OURS:
        return lambda: model.train_on_batch(x, y)
    return {"jax": _jax_step, "tensorflow": _tensorflow_step}[keras.backend.backend()](model, x, y)


def _jax_step(model: Any, x: Any, y: Any) -> Callable[[], Any]:
    import jax

    batch = jax.device_put(x), jax.device_put(y)
    model.optimizer.build(model.trainable_variables)
    model.train_on_batch(x, y)  # the metrics' variables are made
    model.make_train_function()
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = [tuple([one.value for one in group] for group in groups)]

    def step() -> None:
        _, state[0] = jax.block_until_ready(model.train_function(state[0], iter((batch,))))

    return step


def _tensorflow_step(model: Any, x: Any, y: Any) -> Callable[[], Any]:
    import tensorflow as tf

    batch = tf.constant(x), tf.constant(y)
    model.make_train_function()

    def step() -> None:
        for value in tf.nest.flatten(model.train_function(iter((batch,)))):
            value.numpy()

    return step


class Sweeper:
    """Answers `{"case", "size"}`, which makes a step, and `{"least"}`: the best seconds of steps that last so long."""

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.step: Callable[[], Any] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says."""
        if "case" in request:
            return self.prepare(request["case"], request["size"])
        assert self.step is not None
        return {"seconds": seconds(self.step, request["least"])}

    def prepare(self, name: str, size: str) -> dict[str, Any]:
        """Make a case's step, and take two; what the first took, compilation included."""
        self.step = None
        self.keras.utils.clear_session()
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()
        self.keras.utils.set_random_seed(0)
        start = perf_counter()
        step = training_step(self.keras, name, size)
        step()
        first = perf_counter() - start
        step()
        self.step = step
        return {"first_seconds": first}


class Swept(Worker):
    """A process that serves a `Sweeper`."""

    def command(self) -> list[str]:
        return [self.contender.python, "-m", "benchmarks.sweep", "--serve", self.contender.framework]


# ---------------------------------------------------------------- measuring


def measure(workers: Sequence[Worker], name: str, size: str, rounds: int, least: float) -> dict[str, Any]:
    """The best seconds of a step by contender, or `{"error": why}`; they take turns, ours first."""
    found: dict[str, Any] = {}
    for one in workers:
        try:
            one.request(case=name, size=size)
        except ContenderError as error:
            found[one.contender.name] = {"error": str(error)}
    for _ in range(rounds):
        for one in workers:
            before = found.get(one.contender.name, float("inf"))
            if isinstance(before, dict):
                continue
            try:
                found[one.contender.name] = min(before, one.request(least=least)["seconds"])
            except ContenderError as error:
                found[one.contender.name] = {"error": str(error)}
    return found


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """How many times faster ours is than each contender that has a time."""
    ours_took = found.get(OURS)
    if not isinstance(ours_took, float):
        return {}
    return {name: took / ours_took for name, took in found.items() if name != OURS and isinstance(took, float)}


def behind(rows: dict[str, Any]) -> list[tuple[float, str, str, str]]:
    """Where we are more than `BEHIND` times slower than the better backend: ratio, case, size, backend; worst first."""
    worst = []
    for name, sizes in rows.items():
        for size, found in sizes.items():
            better = min(((ratio, rival) for rival, ratio in ratios(found).items()), default=None)
            if better is not None and better[0] * BEHIND < 1:
                worst.append((better[0], name, size, better[1]))
    return sorted(worst)


# ---------------------------------------------------------------- the report


def markdown(result: dict[str, Any]) -> str:
    """The measurements as a Markdown page."""
    computer, rows, names = result["machine"], result["rows"], result["rivals"]
    sizes = [size for size in SIZES if any(size in found for found in rows.values())]
    slower = behind(rows)
    parts = [
        "# Every layer, activation, loss and optimizer against Keras",
        f"{result['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores"
        + ("; quick: NOT a measurement." if result["quick"] else "."),
        "A training step of a small network with each, at three sizes, on a batch that is there already: microseconds "
        f"here, then how many times faster that is than {' and than '.join(names) or 'nobody'} (the compiled function "
        f"that `fit` calls). Each the best of {result['rounds']} turns of {result['least']:g} s, in alternation.",
        f"## Behind\n\nMore than {BEHIND:g} times slower than the better backend: {len(slower)} of "
        f"{sum(bool(ratios(found)) for one in rows.values() for found in one.values())}.",
    ]
    if slower:
        lines = [
            [name, size, report.number(1e6 * rows[name][size][OURS]), report.times(ratio), rival]
            for ratio, name, size, rival in slower
        ]
        parts.append(report.table(["", "size", "us", "ratio", "to"], lines))
    for group in GROUPS:
        members = {name: found for name, found in rows.items() if name.startswith(f"{group}.")}
        if not members:
            continue
        header = ["", *(text for size in sizes for text in (f"{size}, us", *names))]
        lines = [
            [name.partition(".")[2], *(text for size in sizes for text in _cells(found.get(size, {}), names))]
            for name, found in members.items()
        ]
        means = [_mean(members, size, rival) for size in sizes for rival in (None, *names)]
        parts += [f"## {group.capitalize()}", report.table(header, [*lines, ["**geometric mean**", *means]])]
    errors = [
        f"- {name}, {size}, {who}: {_brief(one['error'])}"
        for name, found in rows.items()
        for size, all_of_it in found.items()
        for who, one in all_of_it.items()
        if isinstance(one, dict)
    ]
    if errors:
        parts += ["## Could not be measured", "\n".join(errors)]
    return "\n\n".join(parts) + "\n"


def _brief(message: str) -> str:
    """An error on one line, without what a framework says at length."""
    line = " ".join(re.sub(r"\x1b\[\d*m", "", message).split())
    return line if len(line) < 300 else f"{line[:140]} ... {line[-140:]}"


def _cells(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    took, ours_to = found.get(OURS), ratios(found)
    mine = report.number(1e6 * took) if isinstance(took, float) else "failed" if took else ""
    return [mine, *(report.times(ours_to[name]) if name in ours_to else "" for name in names)]


def _mean(members: dict[str, Any], size: str, rival: str | None) -> str:
    """The geometric mean of our ratios to a rival at a size."""
    found = [ratios(one.get(size, {})).get(rival or "") for one in members.values()]
    known = [ratio for ratio in found if ratio is not None]
    return report.times(geometric_mean(known)) if known else ""


def write(result: dict[str, Any], folder: Path) -> None:
    """Write what is measured so far, so that an interrupted run keeps its cases."""
    stem = folder / ("sweep_quick" if result["quick"] else "sweep")
    folder.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


# ---------------------------------------------------------------- the command


def chosen(only: str) -> list[str]:
    """The cases whose group, name or full name is among these, comma-separated; all where there are none."""
    wanted = [word for word in only.split(",") if word]
    if unknown := [word for word in wanted if not any(word in (name, *name.split(".")) for name in CASES)]:
        raise ValueError(f"--only knows {', '.join(GROUPS)} and their members, got {', '.join(unknown)!r}.")
    return [name for name in CASES if not wanted or set(wanted) & {name, *name.split(".")}]


def listed(text: str, known: Sequence[str], option: str) -> list[str]:
    """The words of an option, each of them known."""
    words = text.split(",")
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"{option} knows {', '.join(known)}, got {', '.join(unknown)!r}.")
    return words


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="comma-separated groups and names: losses,layers.Dense,gelu")
    parser.add_argument("--sizes", default=",".join(SIZES), help="comma-separated (default %(default)s)")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="comma-separated (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default %(default)s)")
    parser.add_argument("--least", type=float, default=0.1, help="seconds of a turn (default %(default)s)")
    add_environments(parser)
    parser.add_argument("--quick", action="store_true", help="short turns of the smallest size: does it run?")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        return options
    if options.quick:
        options.sizes, options.rounds, options.least = SIZES[0], 1, 0.001
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}.")
    try:
        options.cases = chosen(options.only)
        options.sizes = listed(options.sizes, SIZES, "--sizes")
        options.backends = listed(options.backends, BACKENDS, "--backends")
    except ValueError as error:
        parser.error(str(error))
    found = environments(parser, options)
    options.pythons = {backend: python for backend, python in found.items() if backend in options.backends}
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; 1 if one of ours could not be measured."""
    options = arguments(argv)
    if options.serve:
        worker.serve(lambda: Sweeper(importlib.import_module(options.serve)).answer)
        return 0
    keras = [one for one in rivals(options.pythons) if one.framework == "keras"]
    workers = [Swept(one) for one in (ours(), *keras)]
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": report.machine(),
        "quick": options.quick,
        "rounds": options.rounds,
        "least": options.least,
        "rivals": [one.name for one in keras],
        "rows": {},
    }
    todo, start = list(itertools.product(options.cases, options.sizes)), time.monotonic()
    try:
        for number, (name, size) in enumerate(todo, 1):
            found = measure(workers, name, size, options.rounds, options.least)
            result["rows"].setdefault(name, {})[size] = found
            write(result, options.output)
            times = ", ".join(f"{rival} {report.times(ratio)}" for rival, ratio in ratios(found).items())
            took = found[OURS]
            mine = f"{report.number(1e6 * took)} us" if isinstance(took, float) else took["error"]
            gone = time.monotonic() - start
            left = gone / number * (len(todo) - number) / 60
            print(f"[{number}/{len(todo)}] {name} {size}: {mine}; {times} ({left:.0f} min left)", flush=True)
    finally:
        for one in workers:
            one.stop()
    slower = behind(result["rows"])
    print(f"\nBehind in {len(slower)} of {len(todo)}; written to {options.output}")
    for ratio, name, size, rival in slower:
        print(f"{report.times(ratio)} {name} {size} ({rival})")
    return int(any(isinstance(found[OURS], dict) for sizes in result["rows"].values() for found in sizes.values()))


if __name__ == "__main__":
    sys.exit(main())
