"""Kernels, operations and whole training runs on a stand-in for CuPy: what they use, CuPy has (see `recorder`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gpu.recorder import Counts, DeviceArray, recording_device
from gpu.workouts import KERNELS, WORKOUTS, Bench, Workout
from loss_cases import CASES as LOSSES
from loss_cases import LossCase
from minikeras import kernels as k
from minikeras import losses, ops, tree, utils
from minikeras.autodiff import Tensor, recording
from minikeras.autodiff.tape import backward
from minikeras.callbacks import Callback
from minikeras.kernels.reference import REFERENCE
from ops.op_cases import CASES, Case

SETTINGS = {"rtol": 1e-5, "atol": 1e-6}


@contextlib.contextmanager
def reference_kernels() -> Iterator[None]:
    """Within this block the reference kernels run on NumPy."""
    previous = k.active_device()
    k.bind(np, {})
    k._active_device = "cpu"
    try:
        yield
    finally:
        k.use(previous)


def compare(found: list[Any], expected: list[Any]) -> None:
    """The same values and types."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            one, other = k.to_host(one), k.to_host(other)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, **SETTINGS)


# ---------------------------------------------------------------- kernels, operations, losses


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__.strip("_"))
def test_kernels(kernels: Callable[[Bench], list[Any]], dtype: str) -> None:
    with reference_kernels():
        expected = kernels(Bench(dtype))
    with recording_device() as counts:
        found = kernels(Bench(dtype))
        assert not counts.reads
        compare(found, expected)


def test_no_kernel_is_left_out() -> None:
    bench = Bench("float32")
    for kernels in KERNELS:
        kernels(bench)
    assert bench.asked == set(REFERENCE)


def _values_and_gradients(function: Callable, inputs: list[np.ndarray], differentiable: bool) -> list[Any]:
    """The results of a function and, where it has them, the gradients at its inputs."""
    tensors = [Tensor(k.to_device(value), tracked=value.dtype.kind == "f") for value in inputs]
    with recording():
        results = tree.flatten(function(*tensors))
    arrays = [result.data for result in results]
    for result in results:
        if differentiable and result.tracked:
            arrays += backward(result, tensors)
    return arrays


def _runs_the_same(function: Callable, inputs: list[np.ndarray], differentiable: bool) -> Counts:
    with reference_kernels():
        expected = _values_and_gradients(function, inputs, differentiable)
    with recording_device() as counts:
        found = _values_and_gradients(function, inputs, differentiable)
        assert all(isinstance(array, DeviceArray) for array in found if array is not None)
        reads = list(counts.reads)
        compare(found, expected)
    counts.reads = reads
    return counts


# their result, or an error that they raise, depends on values
_WAITING = {"bincount", "nonzero", "segment_sum", "where"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations(case: Case, dtype: str) -> None:
    function = lambda *inputs: case.call(getattr(ops, case.name), *inputs)
    counts = _runs_the_same(function, case.inputs(dtype=dtype), case.differentiable)
    print(case, counts.reads)


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_losses(case: LossCase) -> None:
    loss = getattr(losses, case.cls)(**case.options)
    counts = _runs_the_same(loss, list(case.data((4, 3), "float32")), True)
    assert not counts.reads
    assert len(counts.transfers) == 2


# ---------------------------------------------------------------- training


class Watch(Callback):
    """Notes what went to the device and what came back within each epoch."""

    def __init__(self, counts: Counts):
        super().__init__()
        self._counts = counts
        self.epochs: list[tuple[list, list]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = len(self._counts.transfers), len(self._counts.reads)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        transfers, reads = self._start
        self.epochs.append((self._counts.transfers[transfers:], self._counts.reads[reads:]))


BATCH, BATCHES = 8, 4


def _train(workout: Workout, samples: int, callbacks: list[Callback]) -> tuple[Any, list[Any]]:
    """A trained model, and its logs and weights."""
    utils.set_random_seed(11)
    model = workout.make()
    x, y, *weights = workout.data(samples, np.random.default_rng(5))
    options = {"sample_weight": weights[0]} if weights else {}
    history = model.fit(x, y, BATCH, epochs=2, verbose=0, callbacks=callbacks, **options, **workout.fit)
    found = [np.asarray(history.history[name]) for name in sorted(history.history)]
    return model, found + model.get_weights() + model.optimizer.get_weights()


@pytest.mark.parametrize("workout", WORKOUTS, ids=str)
def test_training_equals_that_of_the_reference_kernels(workout: Workout) -> None:
    x, y, *_ = workout.data(BATCH * BATCHES - 3, np.random.default_rng(5))

    def run() -> list[Any]:
        model, found = _train(workout, BATCH * BATCHES - 3, [])
        outputs = tree.flatten(model.predict(x, BATCH, verbose=0)) + tree.flatten(model.predict_on_batch(x))
        scores = model.evaluate(x, y, BATCH, verbose=0), model.test_on_batch(x, y), model.train_on_batch(x, y)
        return [*found, *outputs, *[np.asarray(value) for value in tree.flatten(list(scores))]]

    with reference_kernels():
        expected = run()
    with recording_device():
        compare(run(), expected)


@pytest.mark.parametrize("workout", WORKOUTS, ids=str)
def test_a_batch_moves_once_and_nothing_is_read_back(workout: Workout) -> None:
    reads = []
    for batches in (BATCHES, 2 * BATCHES):
        with recording_device() as counts:
            watch = Watch(counts)
            model, _ = _train(workout, BATCH * batches, [watch])
            assert all(isinstance(variable.data, DeviceArray) for variable in model.variables)
            x, y, *_ = workout.data(BATCH * batches, np.random.default_rng(5))
            arrays = len(tree.flatten([x, y]))
            transfers, reads_of_epoch = watch.epochs[1]
            weighted = len(workout.data(1, np.random.default_rng(5))) == 3 or "class_weight" in workout.fit
            assert len(transfers) == batches * (arrays + weighted), sorted(set(transfers))

            counts.clear()
            model.evaluate(x, y, BATCH, verbose=0)
            assert len(counts.transfers) == batches * arrays, sorted(set(counts.transfers))
            reads.append((reads_of_epoch, list(counts.reads)))

            counts.clear()
            outputs = model.predict(x, BATCH, verbose=0)
            assert len(counts.transfers) == batches * len(tree.flatten(x))
            assert len(counts.reads) == batches * len(tree.flatten(outputs)), sorted(set(counts.reads))
    assert reads[0] == reads[1]
