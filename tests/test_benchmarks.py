"""The benchmark harness: a smoke run of minikeras alone from end to end, and the arithmetic of the table."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import minikeras
from benchmarks import (
    augmentation,
    checkpoint,
    frameworks,
    house,
    kernels,
    limits,
    plot,
    readme,
    scaling,
    sweep,
    sweep_cases,
    versions,
    vs_keras,
    worker,
)
from benchmarks.contenders import Contender, ContenderError, ContenderLacks, Worker, ours, rivals
from benchmarks.installed import ROOT, closure, files_size
from benchmarks.keras_models import compiled
from benchmarks.report import best_way, cell, limit, number, part_of_limit, standing, summarize
from benchmarks.workloads import (
    AT_ONCE,
    ROWS,
    START,
    STEPS,
    TOKENS,
    WIDTHS,
    WORDS,
    Missing,
    Setting,
    generate,
    reinforce,
    repeated,
)
from benchmarks.workloads import sweep as trained_models
from minikeras.kernels.cpu import warmup


def test_quick_run_of_ours_measures_every_row(tmp_path):
    command = [sys.executable, "-m", "benchmarks.vs_keras", "--quick", "--only-ours", "--rounds", "1"]
    compiling = vs_keras.GROUPS[1]  # takes several seconds; what is around it has a test of its own
    command += ["--rows", ",".join(key for key in ROWS if key not in compiling)]
    run = subprocess.run([*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "vs_keras_quick.json").read_text())
    assert report["rows"].keys() == ROWS.keys() - set(compiling) and report["sgemm_rate"] > 1e8
    lacks = {"W10"} - ({"W10"} if hasattr(minikeras.layers, "MultiHeadAttention") else set())
    for key, row in report["rows"].items():
        if ROWS[key].note:
            assert row["results"] == {}
            continue
        result = row["results"]["minikeras"]
        if key in lacks:
            assert result == {"missing": "minikeras.layers has no MultiHeadAttention"}
            continue
        assert list(row["results"])[:1] == ["minikeras"]  # in one way, whatever Keras is asked for
        assert len(result["values"]) == 1 and 0 < result["min"] <= result["median"] <= result["max"]
        assert (row["operations"] is not None) == (ROWS[key].model is not None)
    page = (tmp_path / "vs_keras_quick.md").read_text()
    assert all(f"| {ROWS[key].full_title} | {ROWS[key].unit} |" in page for key in report["rows"])


@pytest.mark.parametrize(
    ("higher_is_better", "keras", "torch"),
    [(True, ("keras-jax", 2.0), ("torch", 0.5)), (False, ("keras-torch", 0.25), ("torch-compile", 1.5))],
)
def test_ratios_are_to_the_best_and_above_one_where_ours_is_ahead(higher_is_better, keras, torch):
    results = {
        "minikeras": {"values": [7.0, 9.0, 8.0], "operations": 5.0},
        "keras-jax": {"values": [4.0]},
        "keras-torch": {"values": [2.0]},
        "keras-tensorflow": {"error": "it said nothing."},
        "torch": {"values": [16.0]},
        "torch-compile": {"values": [12.0]},
        "scikit-learn": {"values": [100.0, 0.1]},
    }
    row = summarize(results, higher_is_better)
    assert (row["best_keras"], row["ratio_to_keras"]) == keras
    assert (row["best_torch"], row["ratio_to_torch"]) == torch
    assert row["operations"] == 5.0
    assert [results["minikeras"][name] for name in ("median", "min", "max")] == [8.0, 7.0, 9.0]


def test_who_has_several_ways_counts_with_the_best_and_it_is_named():
    results = {
        "minikeras": {"values": [8.0]},
        "keras-jax": {"values": [4.0]},
        f"keras-jax, {STEPS}": {"values": [5.0, 5.0]},
        "keras-jax-other": {"values": [9.0]},
        "keras-torch": {"error": "it broke"},
    }
    row = summarize(results, True)
    row["higher_is_better"] = True
    assert best_way(row, "keras-jax") == f"keras-jax, {STEPS}" and best_way(row, "keras-torch") == "keras-torch"
    assert best_way({**row, "higher_is_better": False}, "keras-jax") == "keras-jax"
    assert cell(results[f"keras-jax, {STEPS}"], 2, STEPS) == f"5 (5 to 5; {STEPS})"
    del results["keras-jax-other"]
    row |= summarize(results, True)
    assert readme.best(row, "keras") == [f"5 (JAX, {STEPS})", "1.60"]


def test_every_keras_trains_in_both_ways_and_ours_as_people_first_meet_it(tmp_path):
    found = {one.name: one for one in [ours(), *rivals(dict.fromkeys(("torch", "tensorflow", "jax"), "a/python"))]}
    for name in ("keras-jax", "keras-tensorflow", "keras-tensorflow-jit"):
        assert found[name].ways("W1") == {name: "", f"{name}, {STEPS}": STEPS}
        assert found[name].ways("W13") == {name: "", f"{name}, {AT_ONCE}": AT_ONCE}
        assert found[name].ways("W7-mlp-predict") == {name: ""}
    assert found["keras-torch"].ways("W1") == {"keras-torch": ""}  # it refuses several steps
    assert list(found["keras-torch"].ways("W15").values()) == ["", AT_ONCE]
    assert all(found[name].ways(key) == {name: ""} for name in ("minikeras", "torch") for key in ROWS)
    assert all(STEPS in row.ways for row in ROWS.values() if row.trains and row.model)


def test_a_worker_keeps_the_turns_of_several_ways():
    answers = worker.Worker(frameworks.load("minikeras"))
    for way in ("", STEPS):
        request = {"do": "prepare", "row": "W9", "setting": {"quick": True}}
        assert answers.answer({**request, "way": way} if way else request)["first_seconds"] > 0
    assert answers.answer({"do": "turn"})["value"] > 0 and answers.answer({"do": "turn", "way": STEPS})["value"] > 0
    answers.answer({"do": "prepare", "row": "W13", "setting": {"quick": True}, "way": AT_ONCE})
    assert list(answers.turns) == [AT_ONCE]


def test_repeated_work_ends_with_its_time_and_counts_what_it_has_done():
    stages = []

    def stage(number):
        stages.append(number)
        time.sleep(0.002)
        return 10.0 - number

    assert repeated(stage, 3, 2, 1e9)()["done"] == 3 and stages == [0, 1, 2]
    measured = repeated(stage, 10_000, 2, 0.01)()
    assert 1 <= measured["done"] <= 6 and measured["loss"] == 10.0
    assert 0 < measured["value"] < 2 / 0.002
    assert "loss" not in repeated(lambda number: None, 1, 1, 0.0)()


class _Told:
    """A program that notes what it is asked."""

    def __init__(self):
        self.asked, self.learnt, self.others = [], [], []

    def ask(self, x):
        self.asked.append(x.copy())
        return np.eye(5)[None, [len(self.asked) % 2] * x.shape[1]] if x.dtype == np.int32 else np.array([[0.0, 1.0]])

    def train_on_batch(self, x, y):
        self.learnt.append((x, y))
        return 0.5

    def another(self, units, rate):
        self.others.append((units, rate))
        return SimpleNamespace(fit=lambda x, y, batch_size, epochs: float(batch_size * epochs))


def test_reinforcement_learning_remembers_rewards_and_learns_them():
    told, row = _Told(), ROWS["W13"]
    x, y = row.data(Setting(quick=True), row.count)
    step = reinforce(told, x, y, row)
    assert [step(number) for number in range(len(x))] == [0.5] * len(x) and not y.any()
    assert all(one.shape == (1, 4) for one in told.asked)
    inputs, targets = told.learnt[-1]
    assert inputs.shape == (32, 4) and targets.shape == (32, 2) and not targets[:, 0].any()
    known = targets[:, 1] != 0
    assert known.sum() > 16 and (targets[known, 1] == inputs[known, 1]).all()


def test_a_sweep_trains_another_model_each_time():
    told, row = _Told(), ROWS["W14"]
    stage = trained_models(told, None, None, row)
    assert [stage(number) for number in range(row.repeats)] == [640.0] * 20
    assert len(set(told.others)) == row.repeats


def test_a_text_grows_by_the_likeliest_word():
    told, row = _Told(), ROWS["W15"]
    x, y = row.data(Setting(quick=True), row.count)
    generate(told, x, y, row)(0)
    assert [one.shape for one in told.asked] == [(1, length) for length in range(START, START + TOKENS)]
    assert told.asked[-1][0, START:].tolist() == [1, 0] * (TOKENS // 2 - 1) + [1]


def test_limit_is_a_rate_or_a_time_like_the_row():
    rate, time = ({"operations": 2e6, "higher_is_better": higher, "results": {}} for higher in (True, False))
    assert limit(rate, 1e9) == 500.0 and limit(time, 1e9) == 2.0  # samples/s; ms
    for row in (rate, time):
        assert part_of_limit(row, 1e9) is None
    rate["results"]["minikeras"], time["results"]["minikeras"] = {"median": 125.0}, {"median": 8.0}
    assert part_of_limit(rate, 1e9) == part_of_limit(time, 1e9) == 0.25


def test_standing_is_the_geometric_mean_of_the_rows_that_have_a_ratio():
    rows = {key: {"ratio_to_keras": ratio} for key, ratio in (("W1", 2.0), ("W2", 0.5), ("W3", 8.0), ("size", 16.0))}
    rows |= {"W12": {"ratio_to_keras": None}, "cold-model": {"ratio_to_keras": 100.0}}
    assert standing(rows, "keras", "Keras") == (
        "Geometric mean of our ratios to Keras: 2.00 over 3 rows of networks, ahead in 2 of them; "
        "3.36 over all 4 rows, ahead in 3 of them."
    )
    assert standing({"W12": rows["W12"]}, "keras", "Keras") == ""


# By hand: multiplications and additions, forward and for the weights and (after the first layer) for the inputs.
OPERATIONS = {
    "mlp": 2 * (2 * 784 * 128 + 3 * 128 * 10),
    "deep_cnn": 2 * (1024 * 9 * (2 * 3 * 64 + 3 * 64 * 64) + 256 * 9 * 3 * (64 * 128 + 128 * 128) + 3 * 128 * 10),
    "lstm": 2 * 3 * (80 * 4 * (128 * 128 + 128 * 128) + 128),
    "gru": 2 * (28 * 3 * (2 * 28 * 64 + 3 * 64 * 64) + 28 * 3 * 3 * 2 * 64 * 64 + 3 * 64 * 10),
    "autoencoder": 2 * (2 * 784 * 128 + 3 * (2 * 128 * 32 + 128 * 784)),
    "tabular": 2 * (2 * 100 * 256 + 3 * (9 * 256 * 256 + 256)),
    "mobile_block": 2 * (1024 * (2 * 9 * 64 + 3 * 64 * 64) + 3 * 64 * 10),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_a_training_step_are_those_counted_by_hand(name):
    assert limits.operations(compiled(minikeras, name), training=True) == OPERATIONS[name]


def test_attention_to_itself_counts_projections_and_pairs():
    class MultiHeadAttention:
        num_heads, key_dim, output = 4, 32, np.empty((1, 64, 128))

    projection = 2 * 64 * 128 * 128
    assert limits.layer_operations(MultiHeadAttention()) == (4 * projection + 4 * 64 * 64 * 128, 3 * projection)


def test_operations_of_repeated_work_are_those_of_its_unit():
    ours = frameworks.load("minikeras")
    found = {key: ours.operations(ROWS[key], ours.program(ROWS[key])) for key in ("W13", "W14", "W15")}
    asked, trained = 2 * (4 * 64 + 64 * 64 + 64 * 2), 2 * (2 * 4 * 64 + 3 * (64 * 64 + 64 * 2))
    assert found["W13"] == asked + 32 * trained
    assert found["W14"] == 20 * 1000 * np.mean([2 * (2 * 20 * units + 3 * units) for units in WIDTHS])
    lengths = np.arange(START, START + TOKENS)
    blocks = 2 * lengths * (4 * 64 * 64 + 2 * 64 * 256) + 4 * lengths**2 * 64
    assert found["W15"] == np.mean(2 * blocks + 2 * lengths * 64 * WORDS)


def test_what_keras_lacks_is_told_and_a_mistake_is_not_taken_for_it(monkeypatch):
    layers = ModuleType("layers")
    keras = SimpleNamespace(__name__="keras", layers=layers, Input=minikeras.Input, Sequential=minikeras.Sequential)
    with pytest.raises(Missing, match="layers has no Dense"):
        compiled(keras, "mlp")
    layers.Dense = lambda *args, **kwargs: [].no_such_thing
    with pytest.raises(AttributeError, match="no_such_thing"):
        compiled(keras, "mlp")


def test_contenders_take_turns_and_a_failing_one_drops_out():
    calls = []

    def part(name, fails_in=None):
        def play(turn):
            calls.append((name, turn))
            if turn == fails_in:
                raise ContenderError("it broke")
            return {"W1": {"value": 10.0 * turn, "loss": 0.5}}

        return play

    results = vs_keras.alternate(["W1"], {"a": part("a"), "b": part("b", fails_in=1)}, rounds=2)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]
    assert results == {"W1": {"a": {"values": [10.0, 20.0], "loss": 0.5}, "b": {"error": "it broke"}}}


def test_who_is_slow_takes_two_turns_and_who_lacks_a_layer_none():
    def slow(turn):
        time.sleep(0.02)
        return {"W1": {"value": 1.0}}

    def lacking(turn):
        raise ContenderLacks("it has no Dense")

    parts = {"slow": slow, "fast": lambda turn: {"W1": {"value": 2.0}}, "lacking": lacking}
    results = vs_keras.alternate(["W1"], parts, rounds=4, seconds=0.015)["W1"]
    assert results == {
        "slow": {"values": [1.0] * 2},
        "fast": {"values": [2.0] * 4},
        "lacking": {"missing": "it has no Dense"},
    }
    assert cell({**results["slow"], "median": 1.0, "min": 1.0, "max": 1.0}, 4) == "1 (1 to 1; 2 turns)"


def test_worker_reports_what_went_wrong_and_can_start_again():
    worker = Worker(Contender("broken", sys.executable, "no_such_framework"))
    for _ in range(2):
        with pytest.raises(ContenderError, match="There is no framework 'no_such_framework'"):
            worker.ask("describe")


def test_rivals_share_an_environment_and_take_part_where_it_says_something_new(tmp_path):
    found = {one.name: one for one in rivals({"torch": str(tmp_path / "python"), "tensorflow": "a/python"})}
    assert list(found) == ["keras-tensorflow", "keras-tensorflow-jit", "keras-torch", "torch", "torch-compile"]
    assert found["keras-tensorflow-jit"].measured_in("W4") and not found["keras-tensorflow-jit"].measured_in("size")
    assert found["torch"].measured_in("size") and found["torch-compile"].measured_in("cold-W3-empty")
    assert found["torch"].python == found["keras-torch"].python and found["keras-torch"].framework == "keras"


def test_empty_kernel_cache_is_a_new_folder_each_time_and_the_warm_run_finds_it_filled(monkeypatch):
    runs = []

    def run(self, *arguments, **variables):
        (folder,) = (Path(value) for value in variables.values())
        runs.append((list(variables), folder, [path.name for path in folder.iterdir()]))
        (folder / "kernel").touch()
        return json.dumps({"loss": 0.5, "seconds": 9.0 - len(runs)}), 60.0, 100.0 * len(runs)

    monkeypatch.setattr(Contender, "run", run)
    part = vs_keras.first_epoch_part(ours(), quick=True)
    assert part(0) == {"cold-W3-empty": {}, "cold-W3-warm": {}, "memory-W3": {}} and runs == []
    assert part(1) == {
        "cold-W3-empty": {"value": 8.0, "loss": 0.5},
        "cold-W3-warm": {"value": 7.0},
        "memory-W3": {"value": 200.0},
    }
    part(2)
    assert [files for _, _, files in runs] == [[], ["kernel"], [], ["kernel"]]
    assert runs[0][0] == ["NUMBA_CACHE_DIR"] and runs[0][1] == runs[1][1] != runs[2][1]


def test_run_returns_output_time_and_memory_of_a_process():
    command = "import os; block = bytearray(150_000_000); print(len(block), os.environ['MORE'])"
    output, seconds, megabytes = ours().run("-c", command, MORE="more")
    assert output.strip() == "150000000 more"
    assert 0 < seconds < 60 and megabytes > 150
    with pytest.raises(ContenderError, match="minikeras ended with status 3"):
        ours().run("-c", "raise SystemExit(3)")


def test_installed_size_follows_requirements():
    assert "pluggy" in closure(["pytest>=8; python_version > '3'"])
    assert closure(["pytest; extra == 'test'", "no-such-package"]) == []
    assert files_size("numpy") > 10_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "W1,W99"], "got 'W99'"),
        (["--rounds", "0"], "got 0"),
        (["--python-for", "theano=/usr/bin/python"], "got 'theano=/usr/bin/python'"),
        ([], "pass --python-for"),
    ],
)
def test_bad_command_lines_say_what_to_pass(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(vs_keras, "pythons_here", dict)
    with pytest.raises(SystemExit):
        vs_keras.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"), [(154_321.0, "154,000"), (99.96, "100"), (12.345, "12.3"), (0.0481, "0.0481")]
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


RESULT = {
    "date": "today",
    "machine": {"cores": 2, "cpu": "a processor", "architecture": "x86_64"},
    "rows": {
        "W1": {
            "unit": "samples/s",
            "results": {"minikeras": {"values": [3e4], "median": 3e4}, "keras-jax": {"values": [2e4], "median": 2e4}},
            "best_keras": "keras-jax",
            "ratio_to_keras": 1.5,
            "best_torch": None,
            "ratio_to_torch": None,
        },
        "W12": {"results": {}, "ratio_to_keras": None, "ratio_to_torch": None},
    },
}


def test_readme_is_written_between_its_marks_and_checked(tmp_path):
    page, results = tmp_path / "README.md", tmp_path / "results.json"
    results.write_text(json.dumps(RESULT))
    page.write_text(f"before\n\n{readme.BEGIN}\nold\n{readme.END}\n\nafter\n")
    options = ["--page", str(page), "--results", str(results)]
    assert readme.main([*options, "--check"]) == 1 and "old" in page.read_text()
    assert readme.main(options) == 0 and readme.main([*options, "--check"]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n\n{readme.BEGIN}\n") and text.endswith(f"{readme.END}\n\nafter\n")
    assert f"| {ROWS['W1'].title}, samples/s | 30,000 | 20,000 (JAX) | 1.50 |  |" in text and "W12" not in text
    page.write_text(text.replace("30,000", "40,000"))
    assert readme.main([*options, "--check"]) == 1


@pytest.mark.parametrize("page", ["", readme.BEGIN, readme.END + readme.BEGIN, (readme.BEGIN + readme.END) * 2])
def test_readme_without_its_marks_is_left_alone(page):
    with pytest.raises(ValueError, match="needs the marks"):
        readme.replaced(page, "table")


def test_readme_and_the_results_agree():
    assert readme.main(["--check"]) == 0, "run python -m benchmarks.readme"


def test_plot_names_rows_briefly_and_draws_those_that_have_a_ratio():
    keys = ("W5", "W7-cnn-predict", "cold-W3-warm")
    names = ["W5 Embedding 20,000 x 128", "W7 CNN, predict", "Cold start: first epoch of W3, kernel cache warm"]
    assert [plot.label(key) for key in keys] == names
    pytest.importorskip("matplotlib")
    (axes,) = plot.figure(RESULT).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["W1 MLP 784-128-10"]
    assert [text.get_text() for text in axes.texts] == ["1.50"]


def test_scaling_measures_both_with_each_number_of_threads():
    points = scaling.measure([(2, 16), (4, 16)], [1, 2], rounds=1, least=0.001)
    assert [(point["batch"], point["width"], point["threads"]) for point in points] == [
        (2, 16, 1),
        (2, 16, 2),
        (4, 16, 1),
        (4, 16, 2),
    ]
    assert all(point[work][name] > 0 for point in points for work in scaling.WORK for name in ("minikeras", "NumPy"))


def test_scaling_finds_the_cliff_and_what_threads_bring():
    def point(batch, threads, ours):
        costs = {"minikeras": ours, "NumPy": 2.0}
        return {"batch": batch, "width": scaling.WIDTH, "threads": threads, "train": costs, "predict": costs}

    result = {**RESULT, "quick": False, "rounds": 1, "threads": [1, 2]}
    result["points"] = [point(1, 1, 4.0), point(2, 1, 2.0), point(4, 1, 6.0), *(point(b, 2, 1.0) for b in (1, 2, 4))]
    assert scaling.steepest(scaling.chosen(result, "batch")[::2], "batch", "train") == (3.0, 4)
    text = scaling.markdown(result)
    assert "| 4 | 6 (3.00) | 1 (0.50) | 6 (3.00) | 1 (0.50) |" in text and "## Width" not in text
    assert "training step, threads 1 against 2: minikeras 3.63 times as fast with 2 (from 2.00 to 6.00)" in text


def test_everything_built_in_is_swept_or_it_is_said_why_not():
    without = set(", ".join(sweep_cases.WITHOUT).split(", "))
    without |= {"Loss", "LossFunctionWrapper", "Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    without |= {"get", "serialize", "deserialize"}
    for group, kind in {"layers": "Layer", "losses": "Loss", "optimizers": "Optimizer", "activations": None}.items():
        module, names = getattr(minikeras, group), defaultdict(set)
        for name in dir(module):
            one = getattr(module, name)
            is_class = isinstance(one, type) and kind is not None and issubclass(one, getattr(module, kind))
            if not name.startswith("_") and (is_class or (kind is None and callable(one))):
                names[one].add(name)  # several where it has aliases
        swept = {case.partition(".")[2] for case in sweep_cases.CASES if case.startswith(f"{group}.")}
        assert [sorted(some) for some in names.values() if not some & (swept | without)] == []
        assert len(swept) == sum(bool(some & swept) for some in names.values()) > 10  # none twice, none from elsewhere


@pytest.mark.parametrize("group", sweep.GROUPS)
def test_every_case_of_the_sweep_is_trained(group):
    for name in (case for case in sweep_cases.CASES if case.startswith(group)):
        step = sweep.training_step(minikeras, name, "small")
        assert np.isfinite(step()), name


def test_a_sweep_is_measured_and_told(tmp_path):
    options = ["--quick", "--only-ours", "--only", "losses.Huber,gelu", "--output", str(tmp_path)]
    assert sweep.main(options) == 0
    result = json.loads((tmp_path / "sweep_quick.json").read_text())
    assert result["rows"].keys() == {"losses.Huber", "activations.gelu"}
    assert all(row["small"]["minikeras"] > 0 for row in result["rows"].values())
    assert "NOT a measurement" in (tmp_path / "sweep_quick.md").read_text()


@pytest.mark.parametrize(
    "arguments", [["--only", "gelu,gloo"], ["--sizes", "huge"], ["--backends", "torch"], ["--rounds", "0"]]
)
def test_a_sweep_of_what_is_unknown_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--only-ours", *arguments])
    assert f"got {arguments[1].split(',')[-1]!r}" in capsys.readouterr().err.replace("got 0", "got '0'")


class _Swept:
    """A contender of the sweep with these seconds for its turns; where there are none left, it breaks."""

    def __init__(self, name, seconds, asked):
        self.contender, self.seconds, self.asked = SimpleNamespace(name=name), iter(seconds), asked

    def request(self, **request):
        self.asked.append((self.contender.name, *request))
        if "case" in request:
            return {}
        seconds = next(self.seconds, None)
        if seconds is None:
            raise ContenderError("it broke")
        return {"seconds": seconds}


def test_contenders_of_the_sweep_take_turns_and_the_best_time_counts():
    asked = []
    workers = [
        _Swept("minikeras", [2.0, 1.0], asked),
        _Swept("keras-jax", [4.0, 5.0], asked),
        _Swept("other", [3.0], asked),
    ]
    found = sweep.measure(workers, "layers.Dense", "small", 2, 0.1)
    assert found == {"minikeras": 1.0, "keras-jax": 4.0, "other": {"error": "it broke"}}
    turns = [name for name, what, *_ in asked if what == "least"]
    assert turns == ["minikeras", "keras-jax", "other"] * 2 and sweep.ratios(found) == {"keras-jax": 4.0}


def test_the_sweep_lists_where_we_are_behind_the_better_backend():
    rows = {
        "layers.Dense": {
            "small": {"minikeras": 3.0, "keras-jax": 2.0, "keras-tensorflow": 1.0},
            "large": {"minikeras": 1.05, "keras-jax": 1.0, "keras-tensorflow": 9.0},
        },
        "layers.Flatten": {"small": {"minikeras": 1.0, "keras-jax": {"error": "\x1b[1mlong\n" * 200}}},
        "losses.Huber": {"small": {"minikeras": 2e-6, "keras-jax": 1e-6, "keras-tensorflow": 8e-6}},
    }
    assert sweep.behind(rows) == [
        (1 / 3, "layers.Dense", "small", "keras-tensorflow"),
        (0.5, "losses.Huber", "small", "keras-jax"),
    ]
    result = {**RESULT, "quick": False, "rounds": 3, "least": 0.1, "rivals": ["keras-jax", "keras-tensorflow"]}
    text = sweep.markdown({**result, "rows": rows})
    assert "better backend: 2 of 3." in text and "| losses.Huber | small | 2 | 0.50 | keras-jax |" in text
    assert "| Huber | 2 | 0.50 | 4.00 |  |  |  |" in text
    (complaint,) = (line for line in text.splitlines() if line.startswith("- layers.Flatten, small, keras-jax"))
    assert len(complaint) < 400 and "\x1b" not in complaint


def test_augmentation_is_measured_with_arrays_and_files(tmp_path):
    pytest.importorskip("PIL")
    augmentation.main(["--quick", "--cases", "mnist,files", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "augmentation_quick.json").read_text())
    assert all(rate > 0 for rates in result["rates"].values() for rate in rates["minikeras"])
    assert "NOT a measurement" in (tmp_path / "augmentation_quick.md").read_text()
    with pytest.raises(SystemExit):
        augmentation.main(["--cases", "nothing"])


def test_checkpoints_are_measured_and_trainings_killed(tmp_path):
    checkpoint.main(["--quick", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "checkpoint_quick.json").read_text())["rows"]
    assert all(len(one["plain"]) == len(one["saved"]) == 2 and one["saves"] >= 1 for one in found.values())
    checkpoint.main(["--quick", "--kills", "1", "--cases", "several", "--output", str(tmp_path)])
    text = (tmp_path / "checkpoint_quick.md").read_text()
    assert "NOT a measurement" in text and "trainings ended bit for bit as one that was never killed" in text


def test_augmentation_is_compared_with_keras():
    rates = {"mnist": {"minikeras": [3e5, 1e5, 2e5], "Keras": [9e3, 1e4, 2e4]}}
    versions = {"minikeras": {"numpy": "2"}, "Keras": {"scipy": "1"}}
    rivals = {"minikeras": {"plain": [4.0], "augmented": [2.0]}, "Keras": {"plain": [5.0], "augmented": [4.0]}}
    result = {"quick": False, "rounds": 3, "rates": rates, "training": {"cnn": rivals}, "versions": versions}
    text = augmentation.markdown({**RESULT, **result})
    assert "| 4 (4 to 4) | 2 (2 to 2) | 100% | 5 (5 to 5) | 4 (4 to 4) | 25% |" in text
    assert "| 200,000 (100,000 to 300,000) | 10,000 (9,000 to 20,000) | 5 | 20 |" in text
    assert "- Keras: scipy 1" in text


def test_kernels_of_a_step_are_timed(tmp_path):
    command = [sys.executable, "-m", "benchmarks.kernels", "--quick", "W9", "--output", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)  # a process of its own: the kernels are the CPU's
    text = (tmp_path / "kernels_quick.md").read_text()
    assert "dense._relu_grad | 2 |" in text and "**the step**" in text and "| memory |" in text


WATCHED = """
import json
from benchmarks import kernels
from benchmarks.workloads import Setting
_, operations, steps, watch = kernels.measure("W1", Setting(quick=True), 1.0)
found = {name: [times.calls, times.products, times.memory > 0] for name, times in watch.found.items()}
print(json.dumps([operations, steps, found]))
"""


def test_the_products_that_are_watched_are_those_of_the_row():
    run = subprocess.run([sys.executable, "-c", WATCHED], check=True, cwd=ROOT, capture_output=True, text=True)
    operations, steps, found = json.loads(run.stdout)
    assert operations == 128 * OPERATIONS["mlp"] and steps == 5  # 600 pictures
    products = sum(products for _, products, _ in found.values())
    assert 0.95 * 600 * OPERATIONS["mlp"] < products <= 600 * OPERATIONS["mlp"]  # NumPy may have made small ones
    assert found["products._product"][0] >= 10 and found["optimizer._adam"] == [5, 0.0, True]


def test_a_kernels_bytes_are_read_once_and_written_once():
    x, out = np.zeros((4, 8), "float32"), np.zeros(6)
    values = {"x": x, "g": x, "out": out, "vectors": np.zeros(2, "float32"), "size": 32, "scratch": np.zeros(1000)}
    assert kernels.bytes_of("norm._combine", values) == 128 + 48 + 8
    in_place = {"out": x, "g": x}
    assert kernels.bytes_of("activation._relu", in_place) == 256
    state = {name: np.zeros(8) for name in "pgmv"}
    assert kernels.bytes_of("optimizer._adam", state) == 4 * 64 + 3 * 64 and kernels.bytes_of("loss._softmax", {}) == 0


def test_a_kernels_operations_are_those_of_its_definition():
    geometry = {"total": 6, "channels": 3, "filters": 5}
    assert kernels.operations_of("winograd._convolution", geometry) == 2 * 6 * 16 * 9 * 3 * 5
    lstm = {"samples": 2, "time": 7, "units": 3, "features": 5}
    assert kernels.operations_of("recurrent._lstm", lstm) == 2 * 2 * 7 * 3 * 12
    inside = {**lstm, "kernel_panels": np.zeros(1)}
    assert kernels.operations_of("recurrent._lstm_grad", inside) == 2 * 2 * 7 * (3 + 5) * 12
    heads = {"query": np.zeros((2, 4, 6, 3)), "groups": 6, "each_group": 1, "steps": 4, "sources": 5}
    heads |= {"depth": 3, "size": 3}
    assert kernels.operations_of("attention._attention", heads) == 2 * 12 * 4 * 5 * 6
    assert kernels.operations_of("attention._attention_grad", {**heads, "g_query": 0}) == 2 * 2 * 12 * 4 * 5 * 6
    assert kernels.operations_of("pool._average", {}) == 0
    places = {kernel.place for kernel in warmup.kernels()}
    assert set(kernels.OPERATIONS) <= places  # a kernel that is renamed is renamed there


def test_a_copy_has_a_rate_for_about_so_many_bytes():
    rates = {size: limits.copy_rate(size) for size in (1, 1 << 16, (1 << 19) + 1, 1 << 20)}
    assert all(1e7 < rate < 1e13 for rate in rates.values()) and len(set(rates.values())) == 2


def test_kernels_of_an_unknown_row_are_not_timed(capsys):
    with pytest.raises(SystemExit):
        kernels.main(["W99"])
    assert "rows are W1, " in capsys.readouterr().err


def test_code_lines_are_those_with_code():
    source = '"""Docs,\nmore."""\n\nimport x  # why\n\n\ndef f(\n    a,\n):\n    """One."""\n'
    source += '    # nothing\n    return """two\nlines"""\n'
    assert house.code_lines(source) == 6


def test_the_measures_of_the_house():
    measured = {name: value for name, value, _ in house.rows()}
    dense = measured["code lines of Dense, its bases but Layer included"]
    assert dense == house.class_lines(minikeras.layers.Dense) > 10
    assert measured["code lines of the package"] > measured["code lines of kernels/cpu"] > 1000
    assert 5 < measured["frames from fit to a Dense kernel"] < 30
    assert measured["Python calls in predict(x[:1])"] < measured["Python calls in evaluate of one sample"]
    assert all(one < other for one, other in house.circles())


def test_a_circle_is_seen_in_functions_and_strings(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from package import b\n    load('package.c')\nimport package.d\n")
    known = {"package", "package.b", "package.c", "package.d", "package.e"}
    assert house.imports_of(file, known, "package.") == {"package.b", "package.c", "package.d"}


class _Turns:
    """A worker whose turns take one value after the other."""

    def __init__(self, values, asked):
        self.values, self.asked = iter(values), asked

    def ask(self, do, **request):
        self.asked.append((self, do))
        return {"value": next(self.values)} if do == "turn" else {}


def test_versions_run_the_same_benchmarks(tmp_path):
    other, folder = tmp_path / "other", tmp_path / "both"
    (other / "minikeras").mkdir(parents=True)
    (other / "minikeras" / "__init__.py").write_text("NAME = 'other'\n")
    folder.mkdir()
    contender = Contender("other", sys.executable, "minikeras", root=versions.with_these_benchmarks(other, folder))
    output, _, _ = contender.run("-c", "import benchmarks, minikeras; print(minikeras.NAME, *benchmarks.__path__)")
    assert output.split()[0] == "other" and Path(output.split()[1]).resolve() == ROOT / "benchmarks"


def test_versions_take_turns_and_are_compared_by_speed(monkeypatch):
    monkeypatch.setattr(versions, "SETTLE_SECONDS", 0)
    asked = []
    workers = {"other": _Turns([1.0, 2.0, 3.0], asked), "this": _Turns([2.0, 4.0, 6.0], asked)}
    values = versions.alternate(workers, "W1", 3)
    assert values == {"other": [1.0, 2.0, 3.0], "this": [2.0, 4.0, 6.0]}
    turns = [worker for worker, do in asked if do == "turn"]
    assert turns[:2] == turns[2:4][::-1] and len(turns) == 6
    assert versions.line("W1", values)[-1] == "2.000"  # samples/s
    assert versions.line("W7-mlp-predict", values)[-1] == "0.500"  # ms


# ---- on a GPU ------------------------------------------------------------------------------------------------------


def test_on_a_gpu_keras_is_measured_on_jax_and_pytorch():
    pythons = dict.fromkeys(("torch", "tensorflow", "jax"), "a/python")
    found = [ours("gpu"), *rivals(pythons, "gpu")]
    assert [one.name for one in found] == ["minikeras", "keras-jax", "keras-torch"]
    assert found[1].ways("W1") == {"keras-jax": "", f"keras-jax, {STEPS}": STEPS}
    assert found[2].ways("W1") == {"keras-torch": ""}
    for one in found:
        environment = one.environment
        assert environment["MINIKERAS_DEVICE"] == "gpu" and environment["JAX_PLATFORMS"] == "cuda"
        assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" and environment["CUDA_VISIBLE_DEVICES"] != ""
        assert "," not in environment["CUDA_VISIBLE_DEVICES"]
    assert all(one.environment["CUDA_VISIBLE_DEVICES"] == "" for one in (ours(), *rivals(pythons)))


def test_the_rows_on_a_gpu_and_the_environments(tmp_path, monkeypatch):
    options = vs_keras.arguments(["--only-ours", "--device", "gpu"])
    assert options.rows[:2] == ["W1", "W2"] and options.rows[-2:] == ["W17", "cold-model"]
    assert vs_keras.arguments(["--only-ours"]).rows[-1] == "size"
    assert vs_keras.arguments(["--only-ours", "--device", "gpu", "--rows", "W1,size"]).rows == ["W1", "size"]
    with pytest.raises(SystemExit):
        vs_keras.arguments(["--only-ours", "--device", "tpu"])
    asked = []
    monkeypatch.setattr("benchmarks.contenders.subprocess.run", lambda command, **_: asked.append([*map(str, command)]))
    monkeypatch.setattr("benchmarks.contenders._has", lambda *_: False)
    options = vs_keras.arguments(["--device", "gpu", "--make-environments", str(tmp_path)])
    assert list(options.pythons) == ["jax", "torch"]
    assert next(one[5:] for one in asked if "jax[cuda13]" in one) == ["jax[cuda13]", "scipy", "keras"]


class _Answering:
    """A worker that computes on some device."""

    def __init__(self, contender, device):
        self.contender, self.device = contender, device

    def ask(self, do, **request):
        if do == "describe":
            return {
                "device": self.device, "python": "3.12.0", "version": "1", "packages": {}, "numpy_blas": "a BLAS 1",
                "installed_bytes": 1,
            }  # fmt: skip
        if do == "prepare":
            return {"first_seconds": 2.5, "first_loss": 0.5, "device_bytes": 3_000_000, "operations": 1e6}
        return {"value": 1000.0}

    def stop(self):
        pass


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_a_run_on_a_gpu_is_reported(device, tmp_path, monkeypatch, capsys):
    """With workers that have no GPU: what they would be asked, what is written; who is not on the GPU is refused."""
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(vs_keras, "Worker", lambda contender: _Answering(contender, device))
    monkeypatch.setattr(vs_keras, "sgemm_rate", lambda where: {"gpu": 5e13}[where])
    monkeypatch.setattr(vs_keras, "SETTLE_SECONDS", 0.0)
    words = ["--device", "gpu", "--rows", "W1,W9", "--rounds", "1", "--output", str(tmp_path), "--python-for"]
    status = vs_keras.main([*words, f"jax={python}", "--python-for", f"torch={python}"])
    if device == "cpu":
        assert status == 1 and "minikeras computes on the cpu, not on the gpu; see that" in capsys.readouterr().err
        return
    assert status == 0
    page = (tmp_path / "vs_keras_gpu.md").read_text()
    assert page.startswith("# minikeras against real Keras on a GPU\n")
    assert "the rate of cuBLAS in float32, 50000 GFLOP/s" in page
    assert page.count("| 3 | 3 | 3 |") == 2 and page.count("| 2.5 | 2.5 | 2.5 |") == 2
    written = json.loads((tmp_path / "vs_keras_gpu.json").read_text())
    assert written["device"] == "gpu" and list(written["rows"]) == ["W1", "W9"]
    assert list(written["rows"]["W1"]["results"]) == ["minikeras", "keras-jax", f"keras-jax, {STEPS}", "keras-torch"]


def test_a_framework_says_where_it_computes():
    assert frameworks.load("minikeras").device() == "cpu"
