"""The benchmark harness: a smoke run of minikeras alone from end to end, and the arithmetic of the table."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import minikeras
from benchmarks import augmentation, checkpoint, house, kernels, limits, plot, readme, scaling, versions, vs_keras
from benchmarks.contenders import Contender, ContenderError, ContenderLacks, Worker, ours, rivals
from benchmarks.installed import ROOT, closure, files_size
from benchmarks.keras_models import compiled
from benchmarks.report import cell, limit, number, part_of_limit, standing, summarize
from benchmarks.workloads import ROWS, Missing


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
    assert "dense._relu_grad | 2 |" in text and "**the step**" in text


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
