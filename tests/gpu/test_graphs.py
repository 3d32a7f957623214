"""Steps that are CUDA graphs, on a stand-in as strict as CUDA is: what ends a capture, and how many steps go together.

The numbers are those of a twin whose steps are made by the layers.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gpu import recorder, streams

import minikeras as keras
from benchmarks.keras_models import compiled as network_of_the_benchmarks
from minikeras import kernels as k
from minikeras import layers, ops, optimizers
from minikeras.kernels.cuda import launch, program, turned_off
from minikeras.kernels.cuda.recording import NotRecorded, Recording
from minikeras.training import programs

xp = recorder._module
X = np.random.default_rng(1).normal(size=(96, 4)).astype("f4")
Y = np.random.default_rng(2).normal(size=(96, 3)).astype("f4")
READY = 6  # steps on batches of one shape after which a program is in use, also where kernels were to be loaded
FLOAT = np.dtype("float32")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(programs, "_LONG", 1e6)  # seconds that a call of many steps may take
    with recorder.recording_device() as counts:
        yield counts


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many steps each call of many was asked for, and how many it made."""
    found: list[tuple[int, int]] = []
    run = program.Program.run_many

    def noted(self: Any, steps: int, *given: Any) -> int:
        made = run(self, steps, *given)
        found.append((steps, made))
        return made

    monkeypatch.setattr(program.Program, "run_many", noted)
    return found


def mlp(jit: Any, *body: Callable[[], Any], optimizer: Any = "adam", **compiled: Any) -> Any:
    model = keras.Sequential(
        [keras.Input((4,)), *[make() for make in body], layers.Dense(6, "relu"), layers.Dropout(0.3), layers.Dense(3)]
    )
    model.compile(optimizer() if callable(optimizer) else optimizer, "mse", jit_compile=jit, **compiled)
    return model


def twins(make: Callable[[Any], Any], jit: Any = "auto") -> tuple[Any, Any]:
    """The same model twice: one whose steps become programs, one whose steps never do."""
    pair = []
    for one in (jit, False):
        keras.utils.set_random_seed(5)
        pair.append(make(one))
    return pair[0], pair[1]


def state(model: Any) -> Any:
    found = [*model.weights, *model.optimizer.variables]
    found += [variable for metric in model.metrics for variable in metric.variables]
    return [one.numpy().tobytes() for one in found], [one.state for one in model._contents().streams]


def entry(model: Any, kind: str = "train") -> Any:
    (found,) = [one for key, one in model._programs._entries.items() if key[0] == kind]
    return found


def begin(*models: Any, steps: int = READY) -> None:
    """Make so many steps that there is a program, each call of which makes as many as it can."""
    for model in models:
        for _ in range(steps):
            model.train_on_batch(X[:8], Y[:8])
    assert entry(models[0]).program is not None, entry(models[0]).reason
    for found in models[0]._programs._entries.values():
        found.seconds = 1e-6


def fit(*models: Any, x: Any = X, y: Any = Y, **options: Any) -> None:
    """The same training of models, which must give the same numbers."""
    histories = []
    for model in models:
        keras.utils.set_random_seed(7)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            histories.append(model.fit(x, y, **{"batch_size": 8, "verbose": 0, **options}).history)
    assert all(repr(one) == repr(histories[0]) for one in histories)
    assert all(state(one) == state(models[0]) for one in models)


# ---- what ends a capture -------------------------------------------------------------------------------------------


def _reads(x: Any) -> Any:
    return x * float(ops.max(x).numpy())


def _reads_unnoticed(x: Any) -> Any:
    return x * float(x.data.max())


def _other_pool(x: Any) -> Any:
    with xp.cuda.using_allocator(xp.get_default_memory_pool().malloc):
        return ops.convert_to_tensor(x.data + x.data)


def _moves(x: Any) -> Any:
    return x * ops.convert_to_tensor(xp.asarray(np.full(4, 0.5, "f4")))


def _products(x: Any) -> Any:
    return x + ops.convert_to_tensor(xp.matmul(x.data, xp.matmul(x.data.T, x.data)))


def _loads(x: Any) -> Any:
    xp.RawModule(code="__global__ void nothing() {}")
    return x


def _waits(x: Any) -> Any:
    event = xp.cuda.Event()
    event.record()
    event.synchronize()
    return x


def _waits_for_all(x: Any) -> Any:
    xp.cuda.get_current_stream().synchronize()
    return x


def _elsewhere(x: Any) -> Any:
    with xp.cuda.Stream(null=True):
        return x * ops.convert_to_tensor(x.data * 2)


ENDS = {
    "a value is read": (_reads, "Python reads a value"),
    "a value is read unnoticed": (_reads_unnoticed, "which reads a value"),
    "memory of another pool": (_other_pool, "cudaMalloc"),
    "an array of the host moves": (_moves, "an array of the host moves to the device within the step"),
    "CuPy's cuBLAS": (_products, "calling cuBLAS API during stream capture"),
    "a module is loaded": (_loads, "the loading of a module"),
    "an event is waited for": (_waits, "cudaEventSynchronize"),
    "a stream is waited for": (_waits_for_all, "cudaStreamSynchronize"),
    "work in the null stream": (_elsewhere, "the program and the layers do not give the same bits"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_a_capture(name: str) -> None:
    function, reason = ENDS[name]

    class Own(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return function(inputs)

    first, second = twins(lambda jit: mlp(jit, Own), True)
    for _ in range(READY + 2):
        assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert state(first) == state(second)
    told = first.program()
    assert reason in told.reason and reason in repr(told) and not told.kernels
    assert streams.shared.capture is None and streams.shared.pinned is None and not streams.state.allocators


@pytest.mark.parametrize("kind", ["a number", "an array of the host", "an array of a number", "an array of the device"])
def test_what_is_another_in_each_step_is_found_out(kind: str) -> None:
    clock = [0]

    class Changing(layers.Layer):
        def call(self, inputs: Any) -> Any:
            number = 1 + 0.1 * (clock[0] % 7)
            if kind == "a number":
                return inputs * number
            if kind == "an array of the host":
                return inputs * np.full(4, number, "f4")
            if kind == "an array of a number":
                return inputs * ops.full((4,), number)
            return ops.convert_to_tensor(inputs.data * number)

    first, second = twins(lambda jit: mlp(jit, Changing), True)
    for step in range(4 * READY):
        clock[0] = step
        assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert state(first) == state(second)
    assert entry(first).program is None and entry(first).reason is not None, first.program()


def test_what_was_not_loaded_puts_a_recording_off() -> None:
    source = launch.Source("__global__ void twice(const T* x, T* y, whole n) { EACH(i, n) y[i] = A(x[i]) * 2; }")
    launch.sources.remove(source)
    table = k.active_table()
    x, y = k.to_device(X[0]), k.to_device(X[0])
    recording = Recording([x, y])
    with pytest.raises(NotRecorded), recording:
        launch.launch(table, source, "twice", FLOAT, 1, 32, (x, y, 4))
    assert recording.again and recording.spoiled == "the kernel 'twice' has not been made before"
    np.testing.assert_array_equal(k.to_host(y), X[0])  # nothing was done
    launch.launch(table, source, "twice", FLOAT, 1, 32, (x, y, 4))
    with Recording([x, y]) as recording:
        launch.launch(table, source, "twice", FLOAT, 1, 32, (x, y, 4))
    assert recording.spoiled is None


def test_the_null_stream_is_not_captured() -> None:
    with pytest.raises(streams.StreamCaptureError, match="null stream"):
        xp.cuda.get_current_stream().begin_capture()


@pytest.mark.parametrize("gone", ["pool", "array", "nothing"])
def test_a_graph_whose_memory_has_gone(gone: str) -> None:
    x, y = k.to_device(X[0]), k.to_device(X[0])
    with Recording([x, y]) as recording:
        k.xp.multiply(x, x + 1, out=y)
    (graph,) = recording.graphs
    assert recording.spoiled is None
    recording.kept[:] = [one for one in recording.kept if one is not x and one is not y]
    if gone == "pool":
        del recording
    elif gone == "array":
        del x
    gc.collect()
    stream = xp.cuda.get_current_stream()
    graph.launch(stream)
    if gone == "nothing":
        stream.synchronize()
        np.testing.assert_array_equal(k.to_host(y), X[0] * (X[0] + 1))
    else:
        with pytest.raises(streams.StreamCaptureError, match="freed"):
            stream.synchronize()


@pytest.mark.parametrize("what", ["CuPy", "a product"])
def test_work_of_others_in_what_only_some_steps_do(what: str) -> None:
    table = np.ones(1)
    x, y = k.to_device(X[:4]), k.to_device(X[:4])
    k.gemm(x, x, out=y)
    with Recording([x, y], [table]) as recording, recording.only_where(table):
        k.activate(x, "tanh", out=y)
    assert recording.spoiled is None and len(recording.graphs) == 3
    with Recording([x, y], [table]) as recording, recording.only_where(table):
        _ = xp.add(x, 1, out=y) if what == "CuPy" else k.gemm(x, x, out=y)
    assert recording.spoiled == "others than our own kernels compute what only some steps do"


@pytest.mark.parametrize("name", ["graphs", "cublaslt"])
def test_turned_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned_off, "_off", {name: "was wrong"})
    first, second = twins(mlp)
    for _ in range(READY + 1):
        assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert state(first) == state(second)
    reasons = {
        "graphs": "graphs are turned off on this GPU, because it was wrong",
        "cublaslt": "calling cuBLAS API during stream capture is currently unsupported",
    }
    assert first.program().reason == reasons[name]


def test_the_layers_make_all_steps_where_that_is_asked_for() -> None:
    model = mlp(False)
    for _ in range(READY + 1):
        model.train_on_batch(X[:8], Y[:8])
    assert model.program().reason == "the model is compiled with jit_compile=False"


# ---- many steps ----------------------------------------------------------------------------------------------------


def test_more_data_than_a_load_takes(monkeypatch: pytest.MonkeyPatch, loads: list) -> None:
    monkeypatch.setattr(program, "_MOST_BYTES", 5 * 8 * 7 * 4)  # five batches of 8 rows
    first, second = twins(mlp)
    begin(first, second)
    assert entry(first).program.capacity == 5
    fit(first, second, epochs=2, shuffle=True)
    assert loads == [(5, 5), (5, 5), (2, 2)] * 2


def test_more_steps_than_a_load_takes(loads: list) -> None:
    first, second = twins(mlp)
    begin(first, second)
    x, y = np.tile(X, (6, 1)), np.tile(Y, (6, 1))
    fit(first, second, x=x, y=y, shuffle=True)
    assert loads == [(64, 64), (8, 8)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("where", ["both", "data", "targets"])
def test_data_on_the_device(where: str, shuffle: bool, loads: list) -> None:
    first, second = twins(mlp)
    begin(first, second)
    x = X if where == "targets" else k.to_device(X)
    y = Y if where == "data" else k.to_device(Y)
    fit(first, second, x=x, y=y, shuffle=shuffle, epochs=2)
    assert loads == [(12, 12)] * 2
    assert first.train_on_batch(x[:8], y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert state(first) == state(second)


@pytest.mark.parametrize("waits", [True, False])
def test_loads_on_their_way_have_memory_of_their_own(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in copies when somebody waits: without that, data of a later load would be in the place of earlier."""
    monkeypatch.setattr(program, "_MOST_BYTES", 1 * 8 * 7 * 4)
    if not waits:
        monkeypatch.setattr(program._Load, "wait", lambda self: None)
    first, second = twins(mlp)
    begin(first, second)
    loaded = []
    begun = program._Load.start
    monkeypatch.setattr(program._Load, "start", lambda self, *given: loaded.append(self) or begun(self, *given))
    for model in (first, second):
        model.fit(X, Y, batch_size=8, verbose=0, shuffle=False)
    assert len(loaded) == 12 and all(one is not other for one, other in itertools.pairwise(loaded))
    assert (state(first) == state(second)) is waits


def test_predictions_of_several_outputs(loads: list) -> None:
    def make(jit: Any) -> Any:
        inputs = keras.Input((4,))
        hidden = layers.Dense(5, "tanh")(inputs)
        named = {"first": layers.Dense(3)(hidden), "rest": [hidden[:, 1:3], layers.Softmax()(hidden)]}
        model = keras.Model(inputs, named)
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    first, second = twins(make)
    for model in (first, second):
        for _ in range(READY):
            model.predict(X[:8], batch_size=8, verbose=0)
    entry(first, "predict").seconds = 1e-6
    loads.clear()
    for rows in (96, 91):
        found, expected = (model.predict(X[:rows], batch_size=8, verbose=0) for model in (first, second))
        for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
            assert one.shape[0] == rows
            np.testing.assert_array_equal(one, other)
    assert loads == [(12, 12), (11, 11)]


def test_rates_that_change_between_steps(loads: list) -> None:
    for rate in (0.01, optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)):
        first, second = twins(
            lambda jit, rate=rate: mlp(jit, optimizer=lambda: optimizers.AdamW(rate, weight_decay=0.1))
        )
        begin(first, second)
        for other in (0.1, 0.003):
            for model in (first, second) if rate == 0.01 else ():
                model.optimizer.learning_rate = other
            fit(first, second, epochs=3)
    assert loads == [(12, 12)] * 12


def test_random_streams_draw_what_the_layers_draw(loads: list) -> None:
    first, second = twins(
        lambda jit: mlp(jit, lambda: layers.GaussianNoise(0.1, seed=3), lambda: layers.Dropout(0.2, seed=3))
    )
    begin(first, second)
    for _ in range(2):
        fit(first, second, epochs=2)
        for model in (first, second):
            model.train_on_batch(X[:5], Y[:5])  # by the layers
    assert loads == [(12, 12)] * 4


class Counting(layers.Layer):
    """A layer whose states CuPy computes, from what they were."""

    def build(self, shape: Any) -> None:
        self.steps = self.add_weight("steps", (), "zeros", trainable=False)
        self.seen = self.add_weight("seen", (4,), "zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        self.steps.assign(self.steps + 1)
        self.seen.assign(ops.cumsum(self.seen + ops.sin(inputs[0])))
        return inputs


@pytest.mark.parametrize("accumulated", [None, 3])
@pytest.mark.parametrize("body", ["plain", "states", "both"])
def test_an_overflow_in_the_midst_of_many_steps(body: str, accumulated: int | None, loads: list) -> None:
    own: list[Any] = {"plain": [], "states": [Counting], "both": [layers.BatchNormalization, Counting]}[body]

    def optimizer() -> Any:
        inner = optimizers.Adam(0.01, gradient_accumulation_steps=accumulated)
        return optimizers.LossScaleOptimizer(inner, initial_scale=2.0**15, dynamic_growth_steps=5)

    first, second = twins(lambda jit: mlp(jit, *own, optimizer=optimizer, metrics=["mae"]), True)
    begin(first, second, steps=24 if accumulated else READY)
    y = Y.copy()
    y[26], y[59] = 3e38, -3e38  # in the fourth batch and the eighth
    fit(first, second, y=y, shuffle=False)
    assert loads == [(12, 4), (8, 4), (4, 4)]
    if not accumulated:
        assert int(first.optimizer.iterations) == READY + 10
    loads.clear()
    fit(first, second, epochs=2)
    assert loads == [(12, 12)] * 2


# ---- Ctrl-C, threads, and what is let go of ------------------------------------------------------------------------


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("helpers", [0, 2])
def test_ctrl_c_in_the_midst_of_many_steps(helpers: int, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are whole, and counted; the signal may reach any thread."""
    first, second = twins(lambda jit: mlp(jit, optimizer=optimizers.Adam))
    begin(first, second)
    end, launches = threading.Event(), []
    threads = [threading.Thread(target=end.wait) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    run = streams.Graph.launch

    def interrupted(self: Any, stream: Any = None) -> None:
        run(self, stream)
        launches.append(self)
        if len(launches) == (3 if many else 1):
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(100_000))  # Python looks for signals now and then

    before, handler = signal.getsignal(signal.SIGINT), signal.default_int_handler
    signal.signal(signal.SIGINT, handler)  # what is started in the background of a shell has none
    monkeypatch.setattr(streams.Graph, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if many:
            first.fit(X, Y, batch_size=8, verbose=0, shuffle=False)
        else:
            first.train_on_batch(X[:8], Y[:8])
    monkeypatch.undo()
    end.set()
    for thread in threads:
        thread.join()
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)
    steps = 12 if many else 1
    assert len(launches) == steps and int(first.optimizer.iterations) == READY + steps
    for start in range(0, 8 * steps, 8):
        second.train_on_batch(X[start : start + 8], Y[start : start + 8])
    for model in (first, second):
        model.reset_metrics()
    assert state(first) == state(second)
    fit(first, second)


def test_threads_train_models_of_their_own() -> None:
    pairs = [twins(mlp) for _ in range(3)]
    errors: list[Exception] = []

    def work(model: Any) -> None:
        try:
            for _ in range(4 * READY):
                model.train_on_batch(X[:8], Y[:8])
            model.fit(X, Y, batch_size=8, verbose=0, epochs=2, shuffle=False)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first, _ in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    work(pairs[0][1])
    expected = pairs[0][1].get_weights()
    for first, _ in pairs:
        assert entry(first).program is not None, entry(first).reason
        assert all(np.array_equal(*pair) for pair in zip(first.get_weights(), expected, strict=True))
    assert streams.shared.pinned is None


def test_one_thread_records_at_a_time() -> None:
    x, found = k.to_device(X), []

    def other() -> None:
        recording = Recording([x])
        with pytest.raises(NotRecorded), recording:
            pytest.fail("two at a time")
        found.append(recording)

    with Recording([x]) as recording:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        k.xp.add(x, 1, out=x)
    assert recording.spoiled is None
    assert found[0].again and found[0].spoiled == "another thread records a step"
    with Recording([x]) as recording:
        k.xp.add(x, 1, out=x)
    assert recording.spoiled is None


def test_a_program_that_is_let_go_of_while_the_device_is_at_work() -> None:
    """What the device still copies from, and to, is nobody else's until then."""
    first, second = twins(mlp)
    begin(first, second)
    stream = xp.cuda.get_current_stream()
    stream.synchronize()
    uses = entry(first).uses
    first._programs.train_step((X[:8], Y[:8]))
    assert stream.done < stream.asked and entry(first).uses == uses + 1
    made = weakref.ref(entry(first).program)
    first._programs._entries.clear()
    assert made() is None
    stream.synchronize()
    second.train_on_batch(X[:8], Y[:8])
    for model in (first, second):
        model.reset_metrics()
    assert state(first) == state(second)
    fit(first, second)


def test_what_calls_take_is_measured_on_the_steps_own_batch() -> None:
    """Also after many steps, and where calls change what they read: nothing is read or written elsewhere."""

    def make(jit: Any) -> Any:
        model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(300, 4), layers.Flatten()])
        model.add(layers.Dense(3))
        model.compile("adam", "mse", jit_compile=jit)
        return model

    first, second = twins(make)
    indices = np.random.default_rng(3).integers(0, 300, (96, 3)).astype("i4")
    fit(first, second, x=indices)
    names = [name for name, _, _ in first.program().kernels]
    assert "sum_counts" in names and names[-1] == "end_step"
    assert "sum_counts" in repr(first.program())
    fit(first, second, x=indices)


@pytest.mark.parametrize("name", ["mlp", "gru", "transformer", "agent", "writer", "autoencoder"])
def test_networks_of_the_benchmarks_are_programs(name: str) -> None:
    """Nothing in them is for the layers: neither in a step of training nor in a prediction."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(1)
    model = network_of_the_benchmarks(keras, name)
    shape = (2, *[12 if size is None else size for size in model.input_shape[1:]])
    outputs = (2, *[12 if size is None else size for size in model.output_shape[1:]])
    words = name == "writer"
    x = rng.integers(0, 90, shape).astype("int32") if words else rng.normal(size=shape).astype("float32")
    y = rng.integers(0, 90, shape) if words else np.eye(outputs[-1], dtype="float32")[rng.integers(0, 2, 2)]
    for _ in range(7):
        model.train_on_batch(x, y)
        model.predict_on_batch(x)
    assert [model._programs.why(kind) for kind in ("train", "predict")] == [None, None]
