"""Batches are prepared ahead: order, bounds, errors, and that nothing is left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings

import numpy as np
import pytest
from datasets_for_processes import Numbers

import minikeras as keras
from minikeras import kernels as k
from minikeras import layers
from minikeras.training import ahead
from minikeras.training.ahead import ReadAhead
from minikeras.training.data import make_stream


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("minikeras-batches")]
    assert not _children()


def _children():
    """The processes that this one has started and that still are."""
    found = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if "minikeras.training.worker" in line]


def trained():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    return model


class Recorder(keras.callbacks.Callback):
    """Keeps what happens, and stops after `last` batches."""

    def __init__(self, last=None, error=None):
        super().__init__()
        self.last, self.error, self.count = last, error, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.last:
            if self.error is not None:
                raise self.error
            self.model.stop_training = True


def seen_by_fit(source, **arguments):
    """The first value of each batch that training sees."""
    seen = []

    class Watching(keras.Sequential):
        def train_step(self, data):
            seen.append(float(k.to_host(data[0])[0, 0]))
            return super().train_step(data)

    model = Watching([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    model.fit(source, verbose=0, **arguments)
    return seen


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whoever_is_faster(workers):
    class Uneven(Numbers):
        def __getitem__(self, index):
            time.sleep(0.003 * (index % 3))
            return super().__getitem__(index)

    data = Uneven(7, workers=workers)
    assert seen_by_fit(data, epochs=2, shuffle=False) == [*range(7), *range(100, 107)]
    # fewer steps than batches: the next epoch goes on, and sees what on_epoch_end did
    data = Uneven(7, workers=workers)
    expected = [0, 1, 2, 103, 104, 105, 206, 300, 301]
    with pytest.warns(UserWarning, match="ran out of data: it ended after 1 of 3 batches, so this epoch stops here"):
        assert seen_by_fit(data, epochs=4, steps_per_epoch=3, shuffle=False) == [*expected, 302]


def test_fit_generator_begins_a_dataset_anew():
    data = Numbers(3)
    model = trained()
    counter = Recorder()
    model.fit_generator(data, steps_per_epoch=7, epochs=2, callbacks=[counter], verbose=0, max_q_size=2, nb_worker=2)
    assert counter.count == 14
    assert model.predict_generator(data, steps=4, verbose=0).shape == (8, 1)
    assert np.isfinite(model.evaluate_generator(data, steps=4, verbose=0))


def test_the_order_is_shuffled_as_python_shuffles():
    import random

    keras.utils.set_random_seed(5)
    order = list(range(7))
    random.shuffle(order)
    keras.utils.set_random_seed(5)
    assert seen_by_fit(Numbers(7, workers=2)) == order


def test_a_generator_is_read_by_one_thread_and_no_further_than_asked():
    threads, served = set(), []

    def batches():
        for i in itertools.count():
            threads.add(threading.get_ident())
            served.append(i)
            yield np.full((2, 3), i, "f4"), np.zeros(2, "f4")

    generator = batches()
    assert seen_by_fit(generator, steps_per_epoch=4, epochs=3) == list(range(12))
    assert served == list(range(12))
    assert len(threads) == 1 and threads != {threading.get_ident()}
    assert seen_by_fit(generator, steps_per_epoch=2) == [12, 13]

    stream = make_stream(batches(), max_queue_size=3)
    del served[:]
    epoch = stream.epoch()
    for taken in range(1, 6):
        next(epoch)
        deadline = time.monotonic() + 5
        while len(served) < taken + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(served) == taken + 3
    stream.close()


def test_without_workers_the_main_thread_reads():
    threads = set()

    def batches():
        for i in range(3):
            threads.add(threading.get_ident())
            yield np.full((2, 3), i, "f4"), np.zeros(2, "f4")

    assert seen_by_fit(batches(), workers=0) == [0, 1, 2]
    assert threads == {threading.get_ident()}


def test_one_batch_is_prepared_while_another_is_in_use():
    ready = threading.Event()

    def batches():
        yield 0
        ready.set()
        yield 1

    reader = ReadAhead([ahead.Iterated(batches(), lambda item: item)], 1, "test")
    results = reader.run(itertools.count())
    assert next(results) == 0
    assert ready.wait(5)
    assert list(results) == [1]
    reader.close()


def test_a_generator_that_asks_the_model_finds_it_as_without_threads():
    model = trained()

    def batches():
        for _ in range(20):
            x = np.ones((2, 3), "f4")
            yield x, model.predict(x, verbose=0)[:, 0] + 1000.0

    def weights(**arguments):
        model.set_weights([np.zeros((3, 1), "f4")])
        model.fit(batches(), verbose=0, **arguments)
        return model.get_weights()[0]

    expected = weights(workers=0)
    for _ in range(3):
        np.testing.assert_array_equal(weights(), expected)


def test_hooks_are_called_once_around_each_epoch():
    calls = []

    class Told(Numbers):
        def on_epoch_begin(self):
            calls.append("begin")

        def on_epoch_end(self):
            calls.append("end")

    model = trained()
    model.fit(Told(), validation_data=Numbers(), epochs=2, verbose=0)
    assert calls == ["begin", "end"] * 2
    model.evaluate(Told(), verbose=0)
    model.predict(Told(), verbose=0)
    assert calls == ["begin", "end"] * 4


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_exception_arrives_with_its_traceback(workers):
    counter = Recorder()
    with pytest.raises(LookupError, match="picture 3 is gone") as caught:
        trained().fit(Numbers(fault="error"), workers=workers, shuffle=False, callbacks=[counter], verbose=0)
    assert counter.count == 3
    assert "datasets_for_processes" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_stopping_and_failing_leave_nothing_behind():
    model = trained()
    for workers in (1, 3):
        counter = Recorder(last=2)
        model.fit(Numbers(50, workers=workers), epochs=5, callbacks=[counter], verbose=0)
        assert counter.count == 2
    with pytest.raises(ZeroDivisionError):
        model.fit(Numbers(50), validation_data=Numbers(3), callbacks=[Recorder(2, ZeroDivisionError())], verbose=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(Numbers(50), callbacks=[Recorder(2, KeyboardInterrupt())], verbose=0)
    with pytest.raises(ValueError, match="axis -1"):
        model.predict(([np.zeros((2, 5), "f4")] for _ in range(3)), verbose=0)


def test_a_generator_that_ends_is_a_sentence():
    def batches(count):
        for i in range(count):
            yield np.full((2, 3), i, "f4"), np.zeros(2, "f4")

    model = trained()
    with pytest.warns(UserWarning, match="ran out of data: it ended after 2 of 4 batches, so training stops here"):
        history = model.fit(batches(6), steps_per_epoch=4, epochs=3, verbose=0)
    assert len(history.epoch) == 2
    with pytest.warns(UserWarning, match="ran out of data after epoch 1, so training stops here"):
        history = model.fit(batches(6), epochs=3, verbose=0)
    assert len(history.epoch) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(batches(6), verbose=0)
        model.fit(batches(6), steps_per_epoch=3, epochs=2, verbose=0)


def test_a_generator_that_stalls_is_a_sentence(monkeypatch):
    monkeypatch.setattr(ahead, "PATIENCE", 0.05)
    monkeypatch.setattr(ahead, "LIMIT", 0.2)
    release = threading.Event()

    def batches():
        yield np.zeros((2, 3), "f4"), np.zeros(2, "f4")
        release.wait(10)

    monkeypatch.setattr(ahead, "GRACE", 0.05)
    with (
        pytest.warns(UserWarning, match="No batch came from generator for 0 seconds; still waiting"),
        pytest.warns(UserWarning, match="did not end within 0 seconds and was left behind"),
        pytest.raises(TimeoutError, match=r"generator has stalled, no batch came from it for 0 seconds"),
    ):
        trained().fit(batches(), steps_per_epoch=5, verbose=0)
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("minikeras-batches"):
            thread.join(5)


@pytest.fixture
def control_c():
    """SIGINT raises KeyboardInterrupt, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_control_c_ends_a_fit_that_waits(control_c):
    started = threading.Event()

    def batches():
        yield np.zeros((2, 3), "f4"), np.zeros(2, "f4")
        started.set()
        time.sleep(0.5)
        yield np.zeros((2, 3), "f4"), np.zeros(2, "f4")

    def interrupt():
        started.wait(5)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained().fit(batches(), verbose=0)
    assert time.monotonic() - begin < 5
    other.join()


def test_evaluate_and_predict_read_ahead_too():
    model = trained()
    expected = model.predict(np.concatenate([Numbers()[i][0] for i in range(6)]), verbose=0)
    for settings in ({"workers": 0}, {"workers": 2, "max_queue_size": 1}):
        np.testing.assert_array_equal(model.predict(Numbers(), verbose=0, **settings), expected)
        assert model.evaluate(Numbers(), verbose=0, **settings) == model.evaluate(Numbers(workers=0), verbose=0)


def test_a_dataset_without_settings_or_length():
    class Bare(keras.utils.PyDataset):
        def __init__(self):
            pass

        def __getitem__(self, index):
            return np.zeros((2, 3), "f4"), np.zeros(2, "f4")

    with pytest.raises(NotImplementedError, match="Bare does not say how many batches it has; define __len__"):
        trained().fit(Bare(), verbose=0)
    Bare.__len__ = lambda self: 2
    with pytest.warns(UserWarning, match=r"Bare.__init__ does not call super\(\).__init__"):
        trained().fit(Bare(), verbose=0)

    class Endless(Bare):
        num_batches = None

        def __init__(self):
            keras.utils.PyDataset.__init__(self)

    counter = Recorder()
    trained().fit(Endless(), steps_per_epoch=3, epochs=2, callbacks=[counter], verbose=0)
    assert counter.count == 6


# ------------------------------------------------------------ processes: each costs a start, so there are few tests


def test_processes_prepare_the_same_batches():
    data = Numbers(5, workers=2, use_multiprocessing=True)
    model = trained()
    stream = make_stream(data, shuffle=False)
    for epoch in range(2):
        batches = [(x[0, 0], y[0]) for x, y, _ in stream.training_epoch()]
        assert batches == [(i + 100 * epoch, 0.0) for i in range(5)]  # elsewhere, and with what on_epoch_end did
        stream.on_epoch_end()
    x = next(stream.training_epoch())[0]
    x += 1  # what arrives is the caller's own
    stream.close()
    assert not _children()

    data.fault = "error"
    with pytest.raises(LookupError, match="picture 3 is gone") as caught:
        model.fit(data, shuffle=False, verbose=0)
    assert "datasets_for_processes.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "fault, sentence",
    [
        ("killed", "A worker process of Numbers was killed by SIGKILL while it prepared batch 3; see whether"),
        ("unpicklable", "A worker process failed: .*LocalError"),
    ],
)
def test_a_fault_in_a_process_ends_the_fit_with_a_sentence(fault, sentence):
    data = Numbers(fault=fault, use_multiprocessing=True)
    with pytest.raises(RuntimeError, match=sentence):
        trained().fit(data, shuffle=False, verbose=0)


def test_control_c_ends_processes_at_work(control_c):
    data = Numbers(fault="slow", use_multiprocessing=True)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained().fit(data, verbose=0)
    assert time.monotonic() - begin < 8
    timer.join()


def test_what_cannot_be_sent_is_prepared_in_threads():
    class Local(Numbers):
        pass

    with pytest.warns(UserWarning, match="Local cannot be sent to worker processes"):
        trained().fit(Local(use_multiprocessing=True), verbose=0)


PROGRAM = """
from __future__ import annotations

import os
import threading

import numpy as np
import minikeras as keras

lock = threading.Lock()
triple = lambda x: 3 * x
SIZE = 2
FACTORS = np.zeros(3)

def row(index, size=SIZE):
    with lock:
        return np.full((size, 3), triple(index) + FACTORS[index])

class Base(keras.utils.PyDataset):
    def __len__(self):
        return 3

class Own(Base):
    def __getitem__(self, index):
        print("from the worker")
        return row(index), np.full(2, os.getpid())

print("the program runs")
FACTORS[2] = 10

def main():
    from minikeras.training.data import make_stream
    stream = make_stream(Own(use_multiprocessing=True))
    print([int(x[0, 0]) for x, y, _ in stream.epoch() if y[0] != os.getpid()])
    stream.close()

GUARD
    main()
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__':", "if True:"])
def test_datasets_of_the_main_program(tmp_path, guard):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("GUARD", guard))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "the program runs\n[0, 3, 16]\n", done.stderr
    assert done.stderr == "from the worker\n" * 3
