"""What `fit(resume=...)` costs, and whether a killed training goes on bit for bit.

`python -m benchmarks.checkpoint` trains W1 and W3 with and without it, in alternation, and writes a table.
`python -m benchmarks.checkpoint --kills 100` kills trainings of every kind (see `tests/resume_cases.py`) at random
moments, also within a save, until that many are dead, and compares what each ends with with one that was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Any

import minikeras
from benchmarks import keras_models, report, workloads
from benchmarks.installed import ROOT
from minikeras.training.checkpoint import Folder
from minikeras.training.resuming import Progress
from tests.resume_cases import CASES, kill_until_done, run

ROWS = {"W1": keras_models.mlp, "W3": keras_models.cnn}
ROUNDS = {"W1": 30, "W3": 9}
EPOCHS = {"W1": 2, "W3": 1}


def measure(key: str, rounds: int, quick: bool) -> dict[str, Any]:
    """Seconds of trainings without and with checkpoints, in alternation, and what each save took."""
    row, setting = workloads.ROWS[key], workloads.Setting(quick=quick)
    assert row.data is not None
    x, y = row.data(setting, row.count)
    model = ROWS[key](minikeras)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    names = ("plain", "saved", "plain cpu", "saved cpu", "copying", "writing")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    plain_save, plain_write = Progress.save, Folder.write

    def timed(function: Any, name: str) -> Any:
        def call(*arguments: Any) -> None:
            began = perf_counter()
            function(*arguments)
            seconds[name].append(perf_counter() - began)

        return call

    size = 0
    Progress.save, Folder.write = timed(plain_save, "copying"), timed(plain_write, "writing")  # type: ignore
    try:
        for number in range(rounds + 1):  # the first compiles
            kinds = ("plain", "saved") if number % 2 else ("saved", "plain")
            for kind in kinds:
                with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # on the disk, not in memory
                    began, used = perf_counter(), process_time()
                    options = {"resume": folder} if kind == "saved" else {}
                    model.fit(x, y, batch_size=row.batch_size, epochs=EPOCHS[key], verbose=0, **options)
                    taken, used = perf_counter() - began, process_time() - used
                    size = max([size, *(file.stat().st_size for file in Path(folder).iterdir())])
                if number:
                    seconds[kind].append(taken)
                    seconds[f"{kind} cpu"].append(used)
                else:
                    seconds["copying"].clear(), seconds["writing"].clear()
    finally:
        Progress.save, Folder.write = plain_save, plain_write  # type: ignore[method-assign]
    return {**seconds, "size": size, "saves": len(seconds["copying"]) / max(rounds, 1)}


def middle(values: list[float], factor: float, digits: int) -> str:
    """The median, and between which values the middle half lies."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{median(values) * factor:.{digits}f} ({low * factor:.{digits}f} to {high * factor:.{digits}f})"


def markdown(result: dict[str, Any]) -> str:
    """The measurements as a Markdown page."""
    computer, lines = result["machine"], []
    for key, found in result["rows"].items():
        ratios = [saved / plain - 1 for saved, plain in zip(found["saved"], found["plain"], strict=True)]
        waits, writes = (found[name] for name in ("copying", "writing"))
        processor = median(found["saved cpu"]) / median(found["plain cpu"]) - 1
        most = found["saves"] * (median(waits) + median(writes)) / median(found["plain"])
        line = [f"{workloads.ROWS[key].title}, epochs: {EPOCHS[key]}", str(len(ratios))]
        line += [middle(found["plain"], 1, 2), middle(found["saved"], 1, 2), middle(ratios, 100, 1) + " %"]
        line += [f"{processor:.1%}", f"{most:.1%}", f"{found['saves']:.1f}"]
        lines.append([*line, middle(waits, 1000, 2), middle(writes, 1000, 1), f"{found['size'] / 1e6:.1f}"])
    header = ["a training of", "rounds", "s without", "s with", "more, by round", "more processor time"]
    header += ["seconds of the saves", "saves", "ms training waits for a save", "ms the thread writes", "MB"]
    parts = [
        "# Checkpoints: what `fit(resume=...)` costs",
        f"{result['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores, load "
        f"{result['load']:.1f}, Python {platform.python_version()}, NumPy {metadata.version('numpy')}"
        + ("; quick: sizes of a smoke test, NOT a measurement." if result["quick"] else "."),
        "With and without in alternation, each round on the same model, at the default frequency: the end of each "
        "epoch and within long ones after 5 and then every 15 seconds. Medians, and in brackets the middle half of the "
        "rounds, which tells the noise. Processor time is of all threads, that which writes among them. The seconds of "
        "the saves are those of copying and of writing, the wait for the disk too, as a part of the training: the most "
        "that they can cost.",
        report.table(header, lines),
        *([] if "kills" not in result else [result["kills"]]),
    ]
    return "\n\n".join(parts) + "\n"


def kill(kills: int, seed: int, cases: Sequence[str]) -> str:
    """Kill trainings until that many are dead; a sentence that says what they ended with."""
    chance, counts = random.Random(seed), dict.fromkeys(cases, 0)
    with tempfile.TemporaryDirectory() as folder:
        expected = {case: run(case, folder, -1) for case in cases if not os.makedirs(f"{folder}/{case}")}
    wrong, trainings = [], 0
    while sum(counts.values()) < kills:
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                found, killed = kill_until_done(case, folder, chance.randrange(10**9))
            counts[case], trainings = counts[case] + killed, trainings + 1
            if found != expected[case]:
                wrong.append(case)
            print(f"{case}: {killed} kills, {'the same' if found == expected[case] else 'NOT THE SAME'}", flush=True)
            if sum(counts.values()) >= kills:
                break
    listed = ", ".join(f"{case} {count}" for case, count in counts.items() if count)
    same = f"{trainings - len(wrong)} of {trainings} trainings ended bit for bit as one that was never killed"
    return f"{sum(counts.values())} kills by SIGKILL (seed {seed}; {listed}): {same}."


def main(argv: Sequence[str] | None = None) -> None:
    """Measure or kill, and write what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--kills", type=int, help="kill so many trainings instead of measuring")
    parser.add_argument("--cases", default=",".join(CASES), help="which are killed (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the data: does it run?")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    options = parser.parse_args(argv)
    stem = options.output / ("checkpoint_quick" if options.quick else "checkpoint")
    options.output.mkdir(parents=True, exist_ok=True)
    if options.kills:
        known = json.loads(stem.with_suffix(".json").read_text()) if stem.with_suffix(".json").exists() else None
        sentence = kill(options.kills, options.seed, options.cases.split(","))
        print(sentence)
        if known is None:
            return
        result = {**known, "kills": sentence}
    else:
        result = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": report.machine(),
            "load": os.getloadavg()[0],
            "quick": options.quick,
            "rows": {key: measure(key, 2 if options.quick else ROUNDS[key], options.quick) for key in ROWS},
        }
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
