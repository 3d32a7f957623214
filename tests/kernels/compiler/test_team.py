"""The team: every part once, whoever is asleep, busy, forked or about to exit; no result depends on its size."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from team_cases import in_threads, team_of

from minikeras import kernels as k
from minikeras.kernels.cpu.compiler import compiled, host, numbers
from minikeras.kernels.cpu.compiler import team as module
from minikeras.kernels.cpu.compiler.machine import add
from minikeras.kernels.cpu.compiler.team import Team

SIZES = [1, 2, 3]
MOST = 64  # parts


@compiled
def _count(arguments, part, worker):
    """0: counters of parts; 1: whether each worker is at work; 2: mistakes; 3: rounds to spend on a part; 4: size."""
    n = numbers(arguments)
    if worker < 0 or worker >= n[4] or add(n[1] + 8 * worker, 1) != 0:
        add(n[2], 1)
    for _ in range(n[3]):
        add(n[2], 0)
    add(n[0] + 8 * part, 1)
    add(n[1] + 8 * worker, -1)


class Work:
    """Parts that count how often they are done, and whether two had the same worker at once."""

    def __init__(self, team: Team, rounds: int = 0):
        self.done, self.busy, self.mistakes = np.zeros(MOST + 1, np.int64), np.zeros(8, np.int64), np.zeros(1, np.int64)
        places = [array.ctypes.data for array in (self.done, self.busy, self.mistakes)]
        self.team, self.arguments = team, np.array([*places, rounds, team.size], np.int64)

    def run(self, parts: int, wake: bool = True) -> None:
        self.done[:] = 0
        self.team.run(_count.address, self.arguments, parts, wake)
        self.check(parts)

    def begin(self, *kept: Any) -> Any:
        return self.team.task(_count.address, self.arguments, *kept)

    def check(self, parts: int) -> None:
        assert self.done.tolist() == [1] * parts + [0] * (MOST + 1 - parts)
        assert not self.mistakes.any() and not self.busy.any()


def wait_for(condition: Any) -> None:
    for _ in range(60_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("The helpers never came to it.")


def wait_for_sleep(team: Team) -> None:
    wait_for(lambda: len(team._asleep) == team.size - 1)


@pytest.mark.parametrize("size", SIZES)
def test_every_part_is_done_once(size: int) -> None:
    random = np.random.default_rng(0)
    with team_of(size) as team:
        work, long = Work(team), Work(team, rounds=300)
        for turn in range(5000):
            (long if turn % 7 == 0 else work).run(int(random.integers(0, MOST + 1)), wake=turn % 3 > 0)
            if turn % 1000 == 500:
                wait_for_sleep(team)
            elif turn % 50 == 0:
                time.sleep(float(random.random()) * 2e-3)


@pytest.mark.parametrize("size", SIZES)
def test_eight_threads_share_a_team(size: int) -> None:
    with team_of(size) as team:

        def runs(number: int) -> None:
            work = Work(team, rounds=10 * number)
            for turn in range(300):
                work.run((turn * 7 + number) % MOST)

        in_threads(8, runs)
        wait_for_sleep(team)
        Work(team).run(MOST)


def test_helpers_help() -> None:
    """A part that waits for another one ends only if somebody else does that one."""

    @compiled
    def meet(arguments, part, worker):
        add(arguments, 1)
        for _ in range(1_000_000_000):  # minutes: an end, should there be no helper
            if add(arguments, 0) == 2:
                add(arguments + 8, 1)
                break

    with team_of(2) as team:
        for _ in range(2):
            met = np.zeros(2, np.int64)
            team.run(meet.address, met, 2)
            assert met.tolist() == [2, 2]
            wait_for_sleep(team)  # the second time they are asleep at first


def test_helpers_start_once_however_many_threads_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Slow(threading.Thread):
        def __init__(self, **options: Any):
            time.sleep(0.02)
            super().__init__(**options)
            if options["name"].startswith("minikeras"):
                started.append(options["args"])

    team = Team(3)
    monkeypatch.setattr(module.threading, "Thread", lambda **options: Slow(**{"name": "user", **options}))
    in_threads(8, lambda number: Work(team).run(4))
    assert started == [(1,), (2,)]


def test_a_helper_that_cannot_start_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    team = Team(3)
    monkeypatch.setattr(module.threading.Thread, "start", refuse)
    Work(team).run(MOST)
    work = Work(team)
    finish = work.begin()
    assert not work.done.any()
    finish()
    work.check(1)


# ---- tasks


@pytest.mark.parametrize("rounds", [0, 30_000])
def test_a_task_is_done_once_beside_other_work(rounds: int) -> None:
    with team_of(2) as team:
        for turn in range(300):
            work, task = Work(team), Work(team, rounds)
            work.run(2)
            finish = task.begin()
            for parts in range(turn % 5):
                work.run(parts)
            finish()
            task.check(1)


def test_a_task_that_nobody_took() -> None:
    with team_of(2) as team:
        for _ in range(5):
            Work(team).run(2)
            wait_for_sleep(team)
            task = Work(team)
            finish = task.begin()
            assert not task.done.any()
            finish()
            task.check(1)


def test_a_helper_that_watches_takes_the_task() -> None:
    with team_of(2) as team:

        def taken() -> bool:
            Work(team).run(2)  # wakes the helper
            task = Work(team)
            finish = task.begin()
            time.sleep(0.001)
            before = task.done.any()
            finish()
            task.check(1)
            return bool(before)

        wait_for(taken)


def test_one_task_at_a_time() -> None:
    with team_of(2) as team:
        first, second = Work(team), Work(team)
        first.run(2)
        first.done[:] = 0
        finish = first.begin()
        assert second.begin() is None
        finish()
        assert not second.done.any()
        finish = second.begin()
        finish()
        first.check(1)
        second.check(1)


def test_without_helpers_there_is_no_task() -> None:
    assert Work(Team(1)).begin() is None
    assert Work(Team(2)).begin() is None  # nobody has begun yet


def test_what_a_task_needs_stays() -> None:
    with team_of(2) as team:
        Work(team).run(2)
        task, kept = Work(team), np.zeros(3)
        alive = weakref.ref(kept)
        finish = task.begin(kept)
        del kept
        gc.collect()
        assert alive() is not None
        finish()
        del finish
        assert alive() is None


def test_tasks_of_eight_threads() -> None:
    with team_of(2) as team:
        Work(team).run(2)

        def tasks(number: int) -> int:
            taken = 0
            for _ in range(200):
                task, work = Work(team), Work(team)
                finish = task.begin()
                work.run(number)
                if finish is not None:
                    finish()
                    task.check(1)
                    taken += 1
            return taken

        assert sum(in_threads(8, tasks)) > 0


# ---- what a run leaves behind


def test_denormal_numbers_are_numbers_again_after_a_run() -> None:
    tiny = np.full(100, 1e-40, np.float32)
    with team_of(2) as team:
        for parts in (1, 2, MOST):
            Work(team).run(parts)
            assert (tiny * np.float32(0.5) > 0).all()
        task = Work(team)
        finish = task.begin()
        finish()
        assert (tiny * np.float32(0.5) > 0).all()
        # within a run they count as zero, in whichever thread
        for size in (1, 2) if host.ARCHITECTURE in ("x86", "arm64") else ():
            with team_of(size):
                p = np.ones(1 << 17, np.float32)
                g, v = np.full_like(p, 1e-40), np.zeros_like(p)
                k.sgd_momentum(p, g, v, 1.0, 0.0)
                assert not v.any()


# ---- results do not depend on the team


def results() -> list[Any]:
    random = np.random.default_rng(0)
    numbers = lambda *shape: random.standard_normal(shape).astype(np.float32)
    a, b, bias = numbers(501, 300), numbers(300, 130), numbers(130)
    x, kernel = numbers(21, 19, 18, 6), numbers(3, 4, 6, 35)
    geometry: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 1)}
    window: dict[str, Any] = {"size": (2, 3), "strides": (2, 2), "padding": ((0, 1), (1, 0))}
    y = k.conv(x, kernel, numbers(35), activation="relu", **geometry)
    g = numbers(*y.shape)
    pooled, index = k.max_pool(y, with_index=True, **window)
    gp = numbers(*pooled.shape)
    found = [k.dense(a, b, bias, "relu"), k.gemm(a, numbers(501, 77), ta=True), k.gemm(numbers(77, 130), b, tb=True)]
    found += [y, k.conv_kernel_grad(x, g, kernel.shape, **geometry), k.conv_input_grad(g, kernel, x.shape, **geometry)]
    found += [pooled, index, k.max_pool_grad(gp, index, y.shape, **window)]
    found += [k.average_pool(y, **window), k.average_pool_grad(gp, y.shape, **window)]
    found += k.epilogue_grad(g, y, "relu", True)
    found += [k.masked_scale(y, (g > 0).view(np.uint8), 1.25)]
    rows, g_rows, gamma = y.reshape(-1, 35), g.reshape(-1, 35), numbers(35)
    normalized, mean, variance, residual = k.batch_norm(rows, gamma, gamma, 1e-3)
    found += [normalized, mean, variance, *k.batch_norm_grad(g_rows, residual)]
    normalized, residual = k.layer_norm(rows, gamma, gamma, 1e-3)
    found += [normalized, *k.layer_norm_grad(g_rows, residual)]
    found += [k.piecewise_relu(g, 0.1, 1.0), k.piecewise_relu_grad(y, g, 0.1, 1.0)]
    found += [k.global_average_pool(y.reshape(21, -1, 35)), k.global_average_pool_grad(g_rows[:21].copy(), 400)]
    taps = numbers(3, 4, 35, 1)
    same: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 2)), "dilation": (1, 1)}
    found += [k.depthwise_conv(y, taps, gamma, activation="relu", **same)]
    found += [k.depthwise_conv_input_grad(g, taps, y.shape, **same)]
    found += [k.depthwise_conv_kernel_grad(y, g, taps.shape, **same)]
    p, gradient, m, v = numbers(4, 100_003)
    k.adam(p, gradient, m, np.abs(v), 0.01, 0.9, 0.999, 1e-7)
    k.rmsprop(m, gradient, np.abs(v), 0.01, 0.9, 1e-7)
    k.sgd_momentum(v, gradient, m.copy(), 0.01, 0.9, True)
    return [*found, p, m, v]


def test_results_have_the_same_bits_with_any_team() -> None:
    with team_of(1):
        alone = results()
    for size in (2, 3):
        with team_of(size):
            for found, wanted in zip(results(), alone, strict=True):
                assert found.tobytes() == wanted.tobytes()


# ---- processes

TRAINING = """
    import hashlib
    import numpy as np
    import minikeras as mk

    mk.utils.set_random_seed(1)
    model = mk.Sequential([
        mk.layers.Input((28, 28, 1)), mk.layers.Conv2D(8, 3, activation="relu"), mk.layers.MaxPooling2D(),
        mk.layers.Flatten(), mk.layers.Dropout(0.2), mk.layers.Dense(128, activation="relu"), mk.layers.Dense(10),
    ])
    model.compile("adam", mk.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x, y = random.random((192, 28, 28, 1)).astype("float32"), random.integers(0, 10, 192)
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
"""
FORKING = """
    import os, warnings
    # Python 3.12 warns of any fork beside threads; that ours do no harm there is what is tested
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
"""
DIGEST = """
    print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


def python(script: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a script; the limit of time is a guard against a process that hangs."""
    environment = {**os.environ, "MINIKERAS_NUM_THREADS": "2", **environment}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_training_has_the_same_bits_with_one_thread_and_two() -> None:
    runs = [python(TRAINING + DIGEST, MINIKERAS_NUM_THREADS=threads) for threads in ("1", "2")]
    assert [run.stderr for run in runs] == ["", ""]
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_of_threads_is_one_sentence(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKERAS_NUM_THREADS", asked)
    message = f"^MINIKERAS_NUM_THREADS must be a whole number of at least 1, got '{asked}'.$"
    with pytest.raises(ValueError, match=message):
        module.threads_allowed()


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKERAS_NUM_THREADS", "3")
    assert module.threads_allowed() == 3
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("MINIKERAS_NUM_THREADS")
        else:
            monkeypatch.setenv("MINIKERAS_NUM_THREADS", unset)
        assert 1 <= module.threads_allowed() <= (os.cpu_count() or 1)


def test_threads_that_are_the_first_to_need_the_compiled_kernels() -> None:
    """Imports, the compiler and the team begin in eight threads at once."""
    script = """
    import threading
    import numpy as np
    from minikeras import kernels as k

    random = np.random.default_rng(0)
    a, x, kernel = (random.random(shape).astype("f4") for shape in ((300, 300), (30, 20, 20, 8), (3, 3, 8, 16)))
    long = [random.random(100_000).astype("f4") for _ in range(4)]
    geometry = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    window = {"size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    calls = [
        lambda: k.gemm(a, a),
        lambda: k.max_pool(x, **window)[0],
        lambda: k.adam(*long, 0.01, 0.9, 0.999, 1e-7) or long[0].copy(),
        lambda: k.epilogue_grad(x, x, "relu", True)[1],
        lambda: k.conv(x, kernel, **geometry),
        lambda: k.average_pool(x, **window),
        lambda: k.gemm(a, a, ta=True),
        lambda: k.conv(x, kernel, **geometry),
    ]
    barrier, results = threading.Barrier(8), {}

    def work(number):
        barrier.wait()
        results[number] = calls[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in {*range(8)} - {2}:
        np.testing.assert_array_equal(results[number], calls[number]())
    assert (results[2] == long[0]).all()
    assert [thread.name for thread in threading.enumerate()] == ["MainThread", "minikeras-1"]
    print("end")
    """
    run = python(script)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


def test_a_process_exits_in_the_middle_of_an_epoch() -> None:
    """The helper is alive, the generator of batches is closed by the interpreter, a kernel runs at the very end."""
    ending = """
    import atexit
    from minikeras import kernels as k
    from minikeras.training.data import make_stream

    atexit.register(lambda: (k.gemm(np.ones((500, 500), "float32"), np.ones((500, 500), "float32")), print("end")))
    stream = make_stream(x, y, batch_size=64, shuffle=True)
    batches = stream.epoch()
    next(batches)
    """
    run = python(TRAINING + ending)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_computes() -> None:
    script = """
    from minikeras import kernels as k
    from minikeras.training.data import make_stream

    a = random.random((700, 300)).astype("float32")
    expected = k.gemm(a, a, ta=True)
    order = np.arange(len(x))
    stream = make_stream(np.repeat(x, 8, axis=0), np.repeat(order, 8), batch_size=512, shuffle=True)
    for turn in range(10):
        k.gemm(a, a, ta=True)  # wakes the helper
        batches = stream.epoch()
        seen = [next(batches)[1].copy()]
        child = os.fork()
        for data, labels, _ in batches:
            assert (data == x[labels]).all()
            seen.append(labels.copy())
        assert (np.bincount(np.concatenate(seen)) == 8).all()
        assert (k.gemm(a, a, ta=True) == expected).all()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    print("end")
    """
    run = python(TRAINING + FORKING + script)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_does_the_task_that_its_parents_helper_has_begun() -> None:
    script = """
    import signal
    import numpy as np
    from minikeras.kernels.cpu.compiler import compiled
    from minikeras.kernels.cpu.compiler.machine import add, load
    from minikeras.kernels.cpu.compiler.team import team

    @compiled
    def wait(arguments, part, worker):
        add(arguments, 1)  # begun
        while load(arguments + 8) == 0:  # may end
            pass
        add(arguments + 16, 1)  # ended

    team.run(wait.address, np.array([0, 1, 0]), 2)
    numbers = np.zeros(3, np.int64)
    finish = team.task(wait.address, numbers)
    while numbers[0] == 0:  # the helper watches, or is waked
        team.run(wait.address, np.array([0, 1, 0]), 2)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that waits for ever
    numbers[1] = 1
    finish()
    assert numbers.tolist() == ([2, 1, 1] if child == 0 else [1, 1, 1]), numbers
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("end")
    """
    run = python(FORKING + script)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")


# ---- what a part gets


@compiled
def _copy_items(arguments, part, worker):
    """31: where to copy the others."""
    n = numbers(arguments)
    for i in range(31):
        numbers(n[31])[i] = n[i]


class Array(np.ndarray):
    pass


@pytest.mark.parametrize("built_in", [True, False])
def test_items_are_values_and_addresses(built_in: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CAN_BUILD", built_in)
    team, seen = Team(2), np.zeros(31, np.int64)
    arguments = np.arange(100, 132)
    arguments[31] = seen.ctypes.data
    plain, derived = np.zeros(3, np.float32), np.zeros((2, 2)).view(Array)
    items = 7, plain, None, derived, -(2**63), 2**63 - 1, True, 1.5, np.float64(-0.1)
    team.run(_copy_items.address, arguments, 1, items=items)
    floats = np.array([1.5, -0.1]).view(np.int64).tolist()
    wanted = [7, plain.ctypes.data, 0, derived.ctypes.data, -(2**63), 2**63 - 1, 1, *floats, *range(109, 131)]
    assert seen.tolist() == wanted
    assert arguments[:31].tolist() == list(range(100, 131))
    team.run(_copy_items.address, arguments, 1)
    assert seen.tolist() == list(range(100, 131))


@pytest.mark.skipif(not module._CAN_BUILD, reason="needs CPython with its GIL")
@pytest.mark.parametrize("wrong", ["1", np.float32(1.5), [1], object()])
def test_an_item_of_another_kind_is_refused(wrong: Any) -> None:
    seen = np.zeros(31, np.int64)
    arguments = np.zeros(32, np.int64)
    arguments[31] = seen.ctypes.data
    with pytest.raises(TypeError):
        Team(1).run(_copy_items.address, arguments, 1, items=(5, wrong))
    assert not seen.any()
