"""What is shown: on a terminal, in a pipe, on streams that cannot take it."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minikeras.callbacks import CallbackList, progress
from minikeras.utils import Progbar, console


class Stream(io.StringIO):
    def __init__(self, terminal: bool = True) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "perf_counter", clock)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    write_to(stream, monkeypatch)
    return stream


def write_to(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "sys", SimpleNamespace(stdout=stream))  # pytest sets sys.stdout itself between phases
    monkeypatch.setattr(console, "_line_is_open", False)


def lines(text: str) -> list[str]:
    """Each drawing of the line, without colours and blanks at the end."""
    plain = re.sub("\x1b\\[[0-9]*m", "", text)
    return [line.rstrip(" ") for line in re.split("[\r\n]+", plain) if line]


def steps(bar: Progbar, clock: Clock, times: list[float], values: Any = ()) -> None:
    for i, seconds in enumerate(times):
        clock.now += seconds
        bar.update(i + 1, values[i] if values else None)


def test_the_bar_and_its_clocks(clock: Clock, terminal: Stream) -> None:
    values = [[("loss", 1.5 * 0.9**i), ("acc", 0.0001 * i)] for i in range(3)]
    steps(Progbar(3), clock, [1.2, 2.7, 70.1], values)
    assert lines(terminal.getvalue()) == [
        f"1/3 {'━' * 20} 2s 1s/step - loss: 1.5000 - acc: 0.0000e+00",
        f"2/3 {'━' * 20} 2s 3s/step - loss: 1.4250 - acc: 5.0000e-05",
        f"3/3 {'━' * 20} 74s 36s/step - loss: 1.2150 - acc: 2.0000e-04",
    ]
    assert "\r\x1b[1m2/3\x1b[0m \x1b[32m━━━━━━━━━━━━━\x1b[0m━━━━━━━ \x1b[1m2s\x1b[0m" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4000.0, "8:53:20 4000s/step"), (30.0, "4:00 30s/step"), (2e-3, "0s 2ms/step"), (2e-5, "0s 20us/step")],
)
def test_units_of_time(seconds: float, shown: str, clock: Clock, terminal: Stream) -> None:
    steps(Progbar(10, interval=0), clock, [1.0, seconds])
    assert lines(terminal.getvalue())[-1].endswith(shown)


def test_a_short_line_covers_a_long_one(clock: Clock, terminal: Stream) -> None:
    steps(Progbar(3), clock, [1.0, 1.0], [[("x", 0.0)], [("x", 1.0)]])
    first, second = re.sub("\x1b\\[[0-9]*m", "", terminal.getvalue()).split("\r")[1:]
    assert second.endswith("0.5000    ") and len(first) == len(second)


def test_drawn_at_most_twenty_times_a_second(clock: Clock, terminal: Stream) -> None:
    reads = []

    def logs() -> dict[str, float]:
        reads.append(clock.now)
        return {"loss": len(reads)}

    callbacks = CallbackList(add_progbar=True, verbose=1, epochs=1, steps=1000)
    callbacks.on_epoch_begin(0)
    for batch in range(1000):
        clock.now += 0.001
        callbacks.on_train_batch_end(batch, logs)
    callbacks.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.25})
    assert len(reads) <= 21 and len(lines(terminal.getvalue())) == len(reads) + 1
    assert lines(terminal.getvalue())[-1] == f"1000/1000 {'━' * 20} 1s 1ms/step - loss: 0.5000 - val_loss: 0.2500"


def test_names_of_what_is_averaged(clock: Clock, terminal: Stream) -> None:
    values = [[("averaged", 1.0), ("shown", 1.0)], [("averaged", 2.0), ("shown", 2.0)]]
    for arguments in ({"stateful_metrics": ["shown"]}, {"stateless_metrics": iter(["averaged"])}):
        steps(Progbar(3, interval=0, **arguments), clock, [1.0, 1.0], values)
        assert lines(terminal.getvalue())[-1].endswith("averaged: 1.5000 - shown: 2.0000")
    with pytest.raises(ValueError, match="Only one of stateful_metrics and stateless_metrics"):
        Progbar(3, stateful_metrics=[], stateless_metrics=[])


def test_a_running_line_fits_the_terminal(clock: Clock, terminal: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    steps(Progbar(2), clock, [1.0, 1.0], [[(f"metric_{i}", i) for i in range(9)]] * 2)
    running, final = lines(terminal.getvalue())
    assert len(running) == 49 and "metric_8" in final


def test_unknown_number_of_steps(clock: Clock, terminal: Stream) -> None:
    callbacks = CallbackList(add_progbar=True, verbose=1, epochs=2, steps=None)
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(3):
            clock.now += 0.5
            callbacks.on_train_batch_end(batch, {"loss": 1.0})
        callbacks.on_epoch_end(epoch, {"loss": 1.0})
    shown = lines(terminal.getvalue())
    assert shown[:3] == ["Epoch 1/2", "      1/Unknown 0s 500ms/step - loss: 1.0000", shown[2]]
    assert shown[4] == f"3/3 {'━' * 20} 2s 500ms/step - loss: 1.0000"
    assert shown[6].startswith("1/3 ")  # known from the first epoch


def test_an_epoch_cut_short_shows_where(clock: Clock, terminal: Stream) -> None:
    callbacks = CallbackList(add_progbar=True, verbose=1, steps=10)
    callbacks.on_epoch_begin(0)
    clock.now += 1
    callbacks.on_train_batch_end(4, {"loss": 1.0})
    callbacks.on_epoch_end(0, {"loss": 1.0})
    assert lines(terminal.getvalue())[-1].startswith(" 5/10 ")


def test_validation_is_silent_and_evaluation_is_not(clock: Clock, terminal: Stream) -> None:
    callbacks = CallbackList(add_progbar=True, verbose=1, steps=1)
    callbacks.on_train_begin()
    callbacks.on_test_begin()
    callbacks.on_test_batch_end(0, {"loss": 1.0})
    callbacks.on_test_end({"loss": 1.0})
    assert terminal.getvalue() == ""
    callbacks.on_train_end()
    callbacks.on_test_begin()
    callbacks.on_test_batch_end(0, {"loss": 1.0})
    callbacks.on_test_end({"loss": 1.0})
    callbacks.on_predict_begin()
    callbacks.on_predict_batch_end(0, {"outputs": np.zeros(3)})
    callbacks.on_predict_end()
    assert lines(terminal.getvalue())[1::2] == [f"1/1 {'━' * 20} 0s 0s/step{end}" for end in (" - loss: 1.0000", "")]


def test_add_averages_and_finish(clock: Clock, terminal: Stream) -> None:
    bar = Progbar(30, unit_name="image", stateful_metrics=["last"], interval=0)
    for i in range(2):
        clock.now += 1
        bar.add(10, [("x", i), ("last", i), ("label", "a"), ("vector", np.array([1.0, 3.0]))])
    clock.now += 1
    bar.finish()
    assert lines(terminal.getvalue())[-1] == (
        f"20/30 {'━' * 20} 3s 200ms/image - x: 0.5000 - last: 1.0000 - label: a - vector: 2.0000"
    )


def test_without_colours(clock: Clock, terminal: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    steps(Progbar(4), clock, [1.0])
    assert terminal.getvalue() == f"\r1/4 {'━' * 5}{'─' * 15} 3s 1s/step"


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_one_plain_line_per_epoch_elsewhere(verbose: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal=False)
    write_to(stream, monkeypatch)
    callbacks = CallbackList(add_progbar=True, verbose=verbose, epochs=2, steps=3)
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(3):
            clock.now += 0.5
            callbacks.on_train_batch_end(batch, lambda: pytest.fail("nothing is to be read here"))
        callbacks.on_epoch_end(epoch, {"loss": 1.25, "learning_rate": 1e-4})
    line = "3/3 - 2s - 500ms/step - loss: 1.2500 - learning_rate: 1.0000e-04\n"
    assert stream.getvalue() == f"Epoch 1/2\n{line}Epoch 2/2\n{line}"


def test_verbose_0(clock: Clock, terminal: Stream) -> None:
    steps(Progbar(2, verbose=0), clock, [1.0, 1.0])
    CallbackList(add_progbar=True, verbose=0, epochs=2).on_epoch_begin(0)
    assert terminal.getvalue() == ""


# ---------------------------------------------------------------- streams


def test_a_message_does_not_run_into_the_bar(clock: Clock, terminal: Stream) -> None:
    steps(Progbar(2), clock, [1.0])
    console.announce("message")
    console.announce("another")
    assert terminal.getvalue().endswith("/step\nmessage\nanother\n")


def test_streams_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = Stream()
    closed.close()
    for stream in (None, closed, Broken()):
        write_to(stream, monkeypatch)
        bar = Progbar(2, interval=0)
        bar.update(1)
        bar.update(2)
        console.announce("message")


def test_a_stream_of_ascii(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    write_to(stream, monkeypatch)
    steps(Progbar(2), clock, [1.0], [[("größe", 1.0)]])
    console.show("┏━┓ …\n")
    assert lines(raw.getvalue().decode()) == [f"1/2 {'=' * 20} 1s 1s/step - gr??e: 1.0000+=+ ."]


_SCRIPT = """
import numpy as np
from minikeras import layers
from minikeras.models.sequential import Sequential
from minikeras.utils import set_random_seed
set_random_seed(1)  # by chance a loss could be so small that it is written as 1.2e-05
model = Sequential([layers.Input((3,)), layers.Dense(1)], name="m")
model.compile("sgd", "mse")
x = np.ones((12, 3), "float32")
model.fit(x, x[:, :1], batch_size=4, epochs=2, validation_data=(x, x[:, :1]))
model.predict(x)
model.summary()
"""


def _program(**streams: Any) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", "TERM": "xterm"}
    return subprocess.Popen([sys.executable, "-c", _SCRIPT], env=environment, **streams)


def test_a_program_on_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    program = _program(stdout=theirs)
    os.close(theirs)
    received = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        received += part
    os.close(ours)
    assert program.wait() == 0
    shown = lines(received.decode())
    epoch = r"3/3 ━{20} \d+s \d+(us|ms|s)/step - loss: [\d.]+ - val_loss: [\d.]+"
    assert "Epoch 1/2" in shown and "Epoch 2/2" in shown and b"\x1b[32m" in received
    assert sum(re.fullmatch(epoch, line) is not None for line in shown) == 2, shown


def test_a_program_in_a_pipe() -> None:
    output, _ = (program := _program(stdout=subprocess.PIPE)).communicate()
    text = output.decode()
    assert program.returncode == 0 and "\r" not in text and "\x1b" not in text
    plain = text.splitlines()
    assert plain[0] == "Epoch 1/2" and re.fullmatch(r"3/3 - \d+s - \S+ - loss: [\d.]+ - val_loss: [\d.]+", plain[1])
    assert re.match(r"1/1 - \d+s", plain[4]) and plain[5] == 'Model: "m"'
