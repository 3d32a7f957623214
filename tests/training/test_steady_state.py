"""Determinism, memory and threads: what repeating a step must and must not do."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import minikeras as keras
from minikeras import kernels as k
from minikeras import layers
from minikeras.kernels.arena import Arena


def small_model(seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


DATA = np.random.default_rng(0).normal(size=(64, 6)).astype("f4"), np.arange(64) % 2

PROGRAM = """
import hashlib, numpy as np, minikeras as keras
from minikeras import layers
keras.utils.set_random_seed(5)
x = np.random.default_rng(0).normal(size=(96, 12, 12, 1)).astype("f4"); y = np.arange(96) % 3
m = keras.Sequential([keras.Input((12, 12, 1)), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(),
    layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.4), layers.Dense(3, activation="softmax")])
m.compile("adam", "sparse_categorical_crossentropy")
m.fit(x, y, epochs=3, batch_size=32, verbose=0)
print(hashlib.sha256(b"".join(w.tobytes() for w in m.get_weights())).hexdigest())
"""


def test_two_processes_from_one_seed_give_the_same_bits():
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_another_seed_gives_other_weights():
    weights = []
    for seed in (1, 1, 2):
        model = small_model(seed)
        model.fit(*DATA, epochs=2, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize("method", ["predict", "predict_on_batch", "train_on_batch", "test_on_batch"])
def test_ten_thousand_calls_do_not_grow_memory(method):
    model = small_model()
    x, y = DATA[0][:2], DATA[1][:2]
    call = getattr(model, method)
    arguments = (x,) if method.startswith("predict") else (x, y)
    named = {"verbose": 0} if method == "predict" else {}
    for _ in range(200):
        call(*arguments, **named)
    tracemalloc.start()
    try:
        for _ in range(300):
            call(*arguments, **named)
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            call(*arguments, **named)
        grown = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert grown < 50_000, f"{grown} bytes in 10,000 calls"


def test_a_steady_step_takes_every_buffer_from_the_arena(monkeypatch):
    model = small_model()
    model.jit_compile = False  # a program has its own buffers
    model.train_on_batch(*DATA)
    model.train_on_batch(*DATA)
    made = []
    take = Arena.take

    def counting(self, xp, shape, dtype):
        held = self.nbytes
        buffer = take(self, xp, shape, dtype)
        made.append(self.nbytes - held)
        return buffer

    monkeypatch.setattr(Arena, "take", counting)
    model.train_on_batch(*DATA)
    assert made and not any(made)


def address(array):
    return array.data.ptr if k.active_device() == "gpu" else array.ctypes.data


def test_the_arena_never_hands_out_what_somebody_holds():
    arena = Arena()
    with arena:
        first = k.empty((4, 4), np.dtype("f4"))
        view = first[1:]
        freed = address(first)
        del first
        second = k.empty((4, 4), np.dtype("f4"))
        assert address(second) != freed  # the view still reads the first
        del view
        third = k.empty((4, 4), np.dtype("f4"))
        assert address(third) == freed
        assert k.empty((4, 4), np.dtype("f8")).dtype == np.float64
    assert arena.nbytes > 0
    arena.clear()
    assert arena.nbytes == 0


def test_weights_and_gradients_are_views_of_one_buffer():
    model = small_model()
    model.train_on_batch(*DATA)
    variables = model.trainable_variables
    base = variables[0].data.base
    assert base is not None
    assert all(variable.data.base is base for variable in variables)
    addresses = [address(variable.data) for variable in variables]
    assert addresses == sorted(addresses)


def test_predicting_from_several_threads():
    model = small_model()
    x = np.random.default_rng(1).normal(size=(8, 32, 6)).astype("f4")
    expected = [model.predict(part, verbose=0) for part in x]
    wrong = []

    def work(i):
        for _ in range(50):
            if not np.array_equal(model.predict(x[i], verbose=0), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_kernels_allocate_outside_a_step():
    a = k.empty((3,), np.dtype("f4"))
    assert k.empty((3,), np.dtype("f4")) is not a


def test_metrics_of_layers_are_found_whenever_they_are_set():
    model = small_model()
    names = [metric.name for metric in model.metrics]
    model.train_on_batch(*DATA)
    model.layers[0].extra = keras.metrics.Mean(name="extra")
    assert [metric.name for metric in model.metrics] == [*names, "extra"]
    del model.layers[0].extra
    assert [metric.name for metric in model.metrics] == names

    class Listing(layers.Layer):
        def __init__(self):
            super().__init__()
            self.found = []

        def call(self, inputs):
            return inputs

    layer = Listing()
    model = keras.Sequential([keras.Input((6,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    before = len(model.metrics)
    layer.found.append(keras.metrics.Mean(name="later"))
    assert len(model.metrics) == before + 1
