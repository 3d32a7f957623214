"""On a CUDA device (`pytest --device gpu`): the same results as on the CPU, and everything where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu.workouts import BATCH, WORKOUTS, Workout, bench, compare, reference_kernels, train

from minikeras import kernels as k
from minikeras import layers, saving, tree, utils
from minikeras.doctor.cases import KERNELS
from minikeras.doctor.examination import examine
from minikeras.kernels.comparison import Bench

pytestmark = pytest.mark.gpu

SAMPLES = 4 * BATCH - 3
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}  # numbers of two bytes are the doctor's, beside a reference in float32
every_workout = pytest.mark.parametrize("workout", WORKOUTS, ids=str)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__.strip("_"))
def test_every_kernel_gives_what_the_reference_gives(kernels: Callable[[Bench], list[Any]], dtype: str) -> None:
    found = kernels(bench(dtype))
    with reference_kernels():
        expected = kernels(bench(dtype))
        compare(found, expected, TOLERANCE[dtype], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__.strip("_"))
def test_every_override_gives_what_the_reference_gives(kernels: Callable[[Bench], list[Any]], dtype: str) -> None:
    overridden = kernels(bench(dtype))
    k.bind(k.reference_table(k.xp))
    try:
        expected = kernels(bench(dtype))
    finally:
        k.use("gpu")
    compare(overridden, expected, TOLERANCE[dtype], TOLERANCE[dtype])


def test_the_doctor_finds_nothing() -> None:
    import cupy

    lines: list[str] = []
    assert examine(lines.append, cupy) == 0, "\n".join(lines)


def test_random_bits_are_the_same() -> None:
    def draws() -> list[Any]:
        shape = (33, 7)
        return [
            k.random_bits(3, 2**64 - 3, 100),
            *[k.uniform(4, 5, shape, dtype) for dtype in ("float16", *TOLERANCE)],
            k.dropout_mask(5, 6, shape, 0.3),
        ]

    found = draws()
    with reference_kernels():
        for one, other in zip(found, draws(), strict=True):
            np.testing.assert_array_equal(k.to_host(one), other)


@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout1D"])
def test_dropout_masks_are_the_same(name: str) -> None:
    def dropped() -> np.ndarray:
        layer = getattr(layers, name)(0.4, seed=3)
        return np.asarray(layer(np.ones((4, 5, 6), "float32"), training=True))

    found = dropped()
    with reference_kernels():
        np.testing.assert_array_equal(found, dropped())


@every_workout
def test_training_equals_that_on_the_cpu(workout: Workout) -> None:
    x, _, *_ = workout.data(SAMPLES, np.random.default_rng(5))

    def run() -> list[Any]:
        model, found = train(workout, SAMPLES)
        return found + tree.flatten(model.predict(x, BATCH, verbose=0))

    found = run()
    with reference_kernels():
        compare(found, run(), rtol=1e-3, atol=1e-4)


@every_workout
def test_two_runs_are_the_same(workout: Workout) -> None:
    _, first = train(workout, SAMPLES)
    _, second = train(workout, SAMPLES)
    compare(first, second, rtol=1e-5, atol=1e-6)  # sums by atomic addition may differ in their last digits


@every_workout
def test_weights_and_optimizer_state_live_on_the_device(workout: Workout) -> None:
    import cupy

    model, _ = train(workout, SAMPLES)
    slots = model.optimizer.variables[2:]
    assert slots or workout.name == "mlp"
    for variable in (*model.variables, *slots):
        assert isinstance(variable.data, cupy.ndarray)


@every_workout
def test_files(workout: Workout, tmp_path: Path) -> None:
    import cupy

    model, _ = train(workout, SAMPLES)
    x, _, *_ = workout.data(SAMPLES, np.random.default_rng(5))
    predicted = tree.flatten(model.predict(x, verbose=0))
    model.save(tmp_path / "model.keras")
    copy = saving.load_model(tmp_path / "model.keras")
    assert all(isinstance(variable.data, cupy.ndarray) for variable in copy.variables)
    compare(tree.flatten(copy.predict(x, verbose=0)), predicted)
    compare(copy.optimizer.get_weights(), model.optimizer.get_weights(), rtol=0, atol=0)
    with reference_kernels():
        copy = saving.load_model(tmp_path / "model.keras")
        compare(tree.flatten(copy.predict(x, verbose=0)), predicted, rtol=1e-3, atol=1e-4)


@every_workout
def test_data_may_live_on_the_device(workout: Workout) -> None:
    x, y, *_ = workout.data(SAMPLES, np.random.default_rng(5))
    losses = []
    for place in (k.to_device, np.asarray):
        utils.set_random_seed(1)
        model = workout.make()
        history = model.fit(*tree.map_structure(place, (x, y)), BATCH, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
