"""Pictures per second of ImageDataGenerator, and what training pays for it.

`python -m benchmarks.augmentation --keras PYTHON` writes two tables.

PYTHON has real Keras and SciPy; its own generator, `keras.src.legacy.preprocessing.image`, makes the same batches in a
process of its own, in alternation with ours.  Without it only ours is measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import keras_models, report
from benchmarks.contenders import Contender, Worker
from benchmarks.installed import ROOT

OURS, KERAS = "minikeras", "Keras"
MODULES = {OURS: keras_models.PICTURES["minikeras"], KERAS: keras_models.PICTURES["keras"]}
ROUNDS = 3

ARTICLE: dict[str, Any] = {**keras_models.CHANGES}
ALL = {
    **ARTICLE,
    "channel_shift_range": 20.0,
    "horizontal_flip": True,
    "vertical_flip": True,
    "brightness_range": [0.8, 1.2],
    "rescale": 1 / 255,
}


@dataclass(frozen=True)
class Case:
    """A row: the generator's arguments, the pictures' shape, how many make a batch, whether they come from files."""

    title: str
    arguments: dict[str, Any]
    shape: tuple[int, int, int] = (28, 28, 1)
    batch: int = 128
    files: bool = False


CASES = {
    "mnist": Case("28 x 28 x 1 (MNIST), the article's arguments", ARTICLE),
    "mnist-all": Case("28 x 28 x 1, with flips, channel shift, brightness, rescale too", ALL),
    "mnist-cubic": Case("28 x 28 x 1, the article's arguments, cubic splines", {**ARTICLE, "interpolation_order": 3}),
    "mnist-rescale": Case("28 x 28 x 1, rescale alone", {"rescale": 1 / 255}),
    "colour": Case("128 x 128 x 3, the article's arguments", ARTICLE, (128, 128, 3), 32),
    "colour-all": Case("128 x 128 x 3, with flips, channel shift, brightness, rescale too", ALL, (128, 128, 3), 32),
    "colour-rescale": Case("128 x 128 x 3, rescale alone", {"rescale": 1 / 255}, (128, 128, 3), 32),
    "files": Case(
        "JPEG files of 200 x 160, to 128 x 128 x 3, the article's arguments", ARTICLE, (128, 128, 3), 32, True
    ),
}

NETWORKS = {
    "mlp": "Dense 128, Dense 10 on 28 x 28 x 1, batch 128, Adam",
    "cnn": "Conv 32, Conv 64, Dense 10 on 28 x 28 x 1 (W3), batch 128, Adam",
}


def write_files(folder: Path, count: int) -> None:
    """Pictures in two classes: smooth ones, as photographs are, so that a JPEG file of them has a usual size."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(count):
        (folder / str(number % 2)).mkdir(exist_ok=True)
        small = generator.integers(0, 256, (12, 15, 3)).astype("uint8")
        picture = Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC)
        picture.save(folder / str(number % 2) / f"{number}.jpg", quality=90)


def batches(name: str, case: Case, samples: int, folder: str | None) -> Callable[[], Any]:
    """What gives the next batch of a contender."""
    generator = importlib.import_module(MODULES[name]).ImageDataGenerator(**case.arguments)
    if case.files:
        height, width, _ = case.shape
        flow = generator.flow_from_directory(folder, (height, width), batch_size=case.batch, seed=0)
    else:
        x = np.random.default_rng(0).uniform(0, 255, (samples, *case.shape)).astype("float32")
        flow = generator.flow(x, np.arange(samples) % 10, batch_size=case.batch, seed=0)
    return lambda: next(flow)


def training(name: str, network: str, samples: int) -> Callable[[], dict[str, float]]:
    """What measures the samples per second of `fit` on arrays ("plain") and on the generator ("augmented")."""
    keras = importlib.import_module(name.lower())
    if network == "cnn":
        model = keras_models.cnn(keras)
    else:
        layers = [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, "softmax")]
        model = keras.Sequential([keras.Input(shape=(28, 28, 1)), *layers])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).uniform(0, 1, (samples, 28, 28, 1)).astype("float32")
    y = np.arange(samples) % 10
    flow = importlib.import_module(MODULES[name]).ImageDataGenerator(**ARTICLE).flow(x, y, batch_size=128, seed=0)

    def measure() -> dict[str, float]:
        start = perf_counter()
        model.fit(x, y, batch_size=128, verbose=0)
        middle = perf_counter()
        model.fit(flow, verbose=0)
        return {"plain": samples / (middle - start), "augmented": samples / (perf_counter() - middle)}

    measure()  # compiles
    return measure


def serve(name: str) -> None:
    """Answer requests, a JSON line each: `{"case", "samples", "least", "folder"}` with pictures per second,
    `{"network", "samples"}` with samples per second."""
    versions = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "pillow", "keras") if name == KERAS else ("numpy", "numba", "pillow"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    made: dict[str, Callable[[], Any]] = {}
    trained: dict[str, Callable[[], dict[str, float]]] = {}
    out, sys.stdout = sys.stdout, sys.stderr  # the iterators say how many files they have found
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        if "network" in request:
            network = request["network"]
            if network not in trained:
                trained[network] = training(name, network, request["samples"])
            print(json.dumps(trained[network]()), file=out, flush=True)
            continue
        case = CASES[request["case"]]
        if request["case"] not in made:
            made[request["case"]] = batches(name, case, request["samples"], request["folder"])
            made[request["case"]]()  # compiles, and fills the cache
        spent, pictures, following = 0.0, 0, made[request["case"]]
        while spent < request["least"]:
            start = perf_counter()
            batch, _ = following()
            spent, pictures = spent + perf_counter() - start, pictures + len(batch)
        print(json.dumps({"rate": pictures / spent, "versions": versions}), file=out, flush=True)


class Measured(Worker):
    """A process of `serve`."""

    def command(self) -> list[str]:
        return [self.contender.python, "-m", "benchmarks.augmentation", "--serve", self.contender.framework]


def measure(keys: Sequence[str], keras: str | None, rounds: int, least: float, samples: int) -> dict[str, Any]:
    """What is measured in so many rounds.

    Returns:
        `{"rates": {case: {name: [pictures per second]}}, "training": {network: {name: {"plain": [samples per second],
        "augmented": [...]}}}, "versions": {name: {package: version}}}`.
    """
    workers = {OURS: Measured(Contender(OURS, sys.executable, OURS))}
    if keras is not None:
        workers[KERAS] = Measured(Contender(KERAS, keras, KERAS, {"KERAS_BACKEND": "jax"}))
    rates: dict[str, dict[str, list[float]]] = {}
    versions: dict[str, dict[str, str]] = {}
    trained: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if any(CASES[key].files for key in keys):
            write_files(Path(folder), samples)
        try:
            for key in keys:
                rates[key] = {name: [] for name in workers}
                for _ in range(rounds):
                    for name, worker in workers.items():
                        answer = worker.request(case=key, samples=samples, least=least, folder=folder)
                        rates[key][name].append(answer["rate"])
                        versions[name] = answer["versions"]
                print(f"{CASES[key].title}: measured", flush=True)
            for network in NETWORKS:
                trained[network] = {name: {"plain": [], "augmented": []} for name in workers}
                for _ in range(rounds):
                    for name, worker in workers.items():
                        for kind, rate in worker.request(network=network, samples=4 * samples).items():
                            trained[network][name][kind].append(rate)
                print(f"{NETWORKS[network]}: measured", flush=True)
        finally:
            for worker in workers.values():
                worker.stop()
    return {"rates": rates, "training": trained, "versions": versions}


def middle(values: list[float]) -> str:
    """The median of rates, and the smallest and the largest."""
    return f"{report.number(median(values))} ({report.number(min(values))} to {report.number(max(values))})"


def markdown(result: dict[str, Any]) -> str:
    """The measurements as a Markdown page."""
    computer, names = result["machine"], list(result["versions"])
    lines = []
    for key, rates in result["rates"].items():
        middles = {name: median(rates[name]) for name in names}
        line = [CASES[key].title]
        line += [middle(rates[name]) for name in names]
        line.append(report.number(1e6 / middles[OURS]))
        line.append(report.times(middles[OURS] / middles[KERAS]) if KERAS in middles else "")
        lines.append(line)
    costs = []
    for network, measured in result["training"].items():
        line = [NETWORKS[network]]
        for name in names:
            plain, augmented = measured[name]["plain"], measured[name]["augmented"]
            line += [middle(plain), middle(augmented), f"{median(plain) / median(augmented) - 1:.0%}"]
        costs.append(line)
    cost_header = [f"{name}{what}" for name in names for what in (", arrays", ", generator", ": more time")]
    packages = [
        f"- {name}: " + ", ".join(f"{package} {version}" for package, version in result["versions"][name].items())
        for name in names
    ]
    header = ["pictures per second", *names, "µs for each of ours", "ours to Keras's"]
    parts = [
        "# Augmentation: ImageDataGenerator's pictures per second",
        f"{result['date']}, {computer['cpu']} ({computer['architecture']}), {computer['cores']} cores"
        + ("; quick: sizes of a smoke test, NOT a measurement." if result["quick"] else "."),
        f"Medians of {result['rounds']} rounds in alternation (smallest to largest); batches of 128 pictures of "
        "28 x 28 or 32 of 128 x 128, float32 and of random values, one after the other, nothing prepared ahead. "
        "Keras's is its own `keras.src.legacy.preprocessing.image.ImageDataGenerator`.",
        report.table(header, lines),
        "## Training\n\nSamples per second of `fit`, on arrays and on the generator with the article's arguments.",
        report.table(["samples per second", *cost_header], costs),
        "\n".join(packages),
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the table and the values."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__)
    parser.add_argument("--keras", metavar="PYTHON", help="a Python that has Keras and SciPy")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated (default: all)")
    parser.add_argument("--quick", action="store_true", help="few pictures: does it run?")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    parser.add_argument("--serve", choices=MODULES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        return serve(options.serve)
    keys = options.cases.split(",")
    unknown = [key for key in keys if key not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    rounds, least, samples = (1, 0.001, 64) if options.quick else (ROUNDS, 0.15, 1024)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": report.machine(),
        "quick": options.quick,
        "rounds": rounds,
        **measure(keys, options.keras, rounds, least, samples),
    }
    stem = options.output / ("augmentation_quick" if options.quick else "augmentation")
    options.output.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
