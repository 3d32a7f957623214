"""Whole sets of weights change at once for threads that predict with them."""

import os
import sys
import threading
import time

import numpy as np
import pytest

import minikeras
from minikeras import callbacks, layers
from minikeras.autodiff import turns

X = np.random.default_rng(0).normal(size=(4, 8)).astype("f4")


@pytest.fixture
def eager_threads():
    """Threads that take turns after microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def deep_model():
    return minikeras.Sequential([minikeras.Input((8,)), *(layers.Dense(8, "tanh") for _ in range(30))])


class Subclassed(minikeras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [layers.Dense(8, "tanh") for _ in range(30)]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


PREDICTIONS = {
    "predict": lambda model: model.predict(X, verbose=0),
    "predict in batches": lambda model: model.predict(X, batch_size=4, steps=1, verbose=0),
    "predict_on_batch": lambda model: model.predict_on_batch(X),
    "call": lambda model: model(X).numpy(),
}


def changes_by_setting(model, sets, folder):
    return [lambda one=one: model.set_weights(one) for one in sets]


def changes_by_loading(model, sets, folder):
    paths = [folder / f"{i}.weights.h5" for i in range(len(sets))]
    for one, path in zip(sets, paths, strict=True):
        model.set_weights(one)
        model.save_weights(path)
    return [lambda path=path: model.load_weights(path) for path in paths]


def changes_by_averages(model, sets, folder):
    optimizer = minikeras.optimizers.SGD(use_ema=True)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_weights)
    for average, value in zip(optimizer._averages, sets[1], strict=True):
        average.assign(value)
    optimizer._iterations.assign(1)
    swapping = callbacks.SwapEMAWeights()
    swapping.set_model(model)
    model.set_weights(sets[0])
    return [swapping._swap, swapping._swap_back]


MANY = [(ways, deep_model, name) for ways in (changes_by_setting, changes_by_averages) for name in PREDICTIONS]
FEW = [(changes_by_setting, Subclassed, "predict"), (changes_by_loading, Subclassed, "call")]


@pytest.mark.parametrize(("ways", "make", "how"), [*MANY, *FEW, (changes_by_loading, deep_model, "predict")])
def test_a_prediction_is_that_of_one_set(ways, make, how, tmp_path, eager_threads):
    model, predict = make(), PREDICTIONS[how]
    expected, sets = [], []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        model(X)
        sets.append([rng.normal(size=weight.shape).astype("f4") for weight in model.weights])
        model.set_weights(sets[-1])
        expected.append(predict(model))
    changes = ways(model, sets, tmp_path)
    found, stop = [], threading.Event()

    def keep_predicting():
        while not stop.is_set():
            found.append(predict(model))

    threads = [threading.Thread(target=keep_predicting) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(6 if ways is changes_by_loading else 30):
        changes[number % 2]()
        time.sleep(0.0005)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(found) > 4
    assert all(any(np.array_equal(one, right) for right in expected) for one in found)
    assert not turns.computing


def test_an_impatient_prediction_within_one_that_is_waited_for(monkeypatch):
    """A layer may hand parts of its work to threads, which must not wait for a change that waits for the layer."""
    monkeypatch.setattr(turns, "POLITENESS", 0.05)
    inner, begun = layers.Dense(8), threading.Event()
    inner(X)

    class Delegating(layers.Layer):
        def call(self, x):
            begun.set()
            while turns.turn.owner is None:
                time.sleep(0.001)
            results = []
            thread = threading.Thread(target=lambda: results.append(inner(x)))
            thread.start()
            thread.join()
            return results[0]

    outer = Delegating()
    before, after, results = inner.get_weights(), [np.ones((8, 8)), np.ones(8)], []
    thread = threading.Thread(target=lambda: results.append(outer(X).numpy()))
    thread.start()
    begun.wait()
    inner.set_weights(after)
    thread.join()
    assert np.allclose(results[0], X @ before[0] + before[1], atol=1e-6)
    assert np.array_equal(inner.get_weights()[0], after[0])


def test_a_prediction_that_does_not_end(monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    layer, begun, go_on = layers.Dense(8), threading.Event(), threading.Event()
    layer(X)

    class Hanging(layers.Layer):
        def call(self, x):
            begun.set()
            go_on.wait()
            return layer(x)

    thread = threading.Thread(target=Hanging(), args=(X,))
    thread.start()
    begun.wait()
    before = layer.get_weights()
    with pytest.raises(TimeoutError, match="another thread predicts with them"):
        layer.set_weights([np.ones((8, 8)), np.ones(8)])
    assert np.array_equal(layer.get_weights()[0], before[0])
    go_on.set()
    thread.join()
    layer.set_weights([np.ones((8, 8)), np.ones(8)])


def test_a_layer_that_sets_weights_within_its_call():
    class Setting(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(8, weights=[np.eye(8), np.ones(8)])

        def call(self, x):
            y = self.inner(x)
            self.inner.set_weights([np.eye(8), np.zeros(8)])
            return self.inner(x) - y

    assert np.allclose(Setting()(X), -1)


def test_an_error_in_a_prediction_leaves_nothing_behind():
    class Failing(layers.Layer):
        def call(self, x):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Failing()(X)
    assert not turns.computing


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # other tests' threads wait for work
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have():
    turns.computing.add(-1)
    try:
        child = os.fork()
        if child == 0:
            with turns.at_once():
                os._exit(0 if not turns.computing else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        turns.computing.discard(-1)
