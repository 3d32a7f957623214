"""The benchmark harness: a smoke run of minikeras alone from end to end, and the arithmetic of the table."""

import json
import subprocess
import sys

import pytest

from benchmarks import vs_keras
from benchmarks.contenders import Contender, ContenderError, Worker, ours
from benchmarks.installed import ROOT, closure, files_size
from benchmarks.report import number, summarize
from benchmarks.workloads import ROWS


def test_quick_run_of_ours_measures_every_row(tmp_path):
    command = [sys.executable, "-m", "benchmarks.vs_keras", "--quick", "--only-ours", "--rounds", "1"]
    run = subprocess.run([*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "vs_keras_quick.json").read_text())
    assert report["rows"].keys() == ROWS.keys()
    for row in report["rows"].values():
        result = row["results"]["minikeras"]
        assert len(result["values"]) == 1 and 0 < result["min"] <= result["median"] <= result["max"]
        assert row["ratio"] is None
    table = (tmp_path / "vs_keras_quick.md").read_text()
    assert all(f"| {row.title} | {row.unit} |" in table for row in ROWS.values())


@pytest.mark.parametrize(
    ("higher_is_better", "best", "ratio"), [(True, "keras-jax", 2.0), (False, "keras-torch", 0.25)]
)
def test_ratio_is_to_the_best_keras_and_above_one_where_ours_is_ahead(higher_is_better, best, ratio):
    results = {
        "minikeras": {"values": [7.0, 9.0, 8.0]},
        "keras-jax": {"values": [4.0]},
        "keras-torch": {"values": [2.0]},
        "keras-tensorflow": {"error": "it said nothing."},
        "import numpy": {"values": [100.0, 0.1]},
    }
    row = summarize(results, higher_is_better)
    assert (row["best_keras"], row["ratio"]) == (best, ratio)
    assert [results["minikeras"][name] for name in ("median", "min", "max")] == [8.0, 7.0, 9.0]


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


def test_worker_reports_what_went_wrong_and_can_start_again():
    worker = Worker(Contender("broken", sys.executable, "no_such_framework"))
    for _ in range(2):
        with pytest.raises(ContenderError, match="No module named 'no_such_framework'"):
            worker.ask("describe")


def test_run_returns_output_time_and_memory_of_a_process():
    output, seconds, megabytes = ours().run("-c", "block = bytearray(150_000_000); print(len(block))")
    assert output.strip() == "150000000"
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
