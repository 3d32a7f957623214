"""Learning rate schedules: values at hand-computed steps, whole curves, descriptions, errors."""

import numpy as np
import pytest

from minikeras import registry
from minikeras.optimizers import SGD, schedules
from minikeras.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

CASES = [
    (ExponentialDecay(0.1, 10, 0.5), {0: 0.1, 10: 0.05, 5: 0.1 * 0.5**0.5, 20: 0.025}),
    (ExponentialDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.05, 19: 0.05}),
    (InverseTimeDecay(0.1, 1, 0.5), {0: 0.1, 1: 0.1 / 1.5, 4: 0.1 / 3}),
    (InverseTimeDecay(0.1, 4, 0.5, staircase=True), {3: 0.1, 4: 0.1 / 1.5}),
    (PiecewiseConstantDecay([5, 9], [1.0, 0.5, 0.1]), {0: 1.0, 5: 1.0, 6: 0.5, 9: 0.5, 10: 0.1}),
    (PolynomialDecay(0.1, 10, 0.02), {0: 0.1, 5: 0.06, 10: 0.02, 50: 0.02}),
    (PolynomialDecay(0.1, 10, 0.0, power=2.0), {5: 0.025}),
    (PolynomialDecay(0.1, 10, 0.0, cycle=True), {0: 0.1, 10: 0.0, 15: 0.025, 20: 0.0}),
    (CosineDecay(0.1, 10), {0: 0.1, 5: 0.05, 10: 0.0, 30: 0.0}),
    (CosineDecay(0.1, 10, alpha=0.2), {0: 0.1, 10: 0.02}),
    (CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=4), {0: 0.0, 2: 0.05, 4: 0.1, 9: 0.05, 14: 0.0, 99: 0.0}),
    (CosineDecayRestarts(0.1, 10), {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05, 30: 0.1}),
    (CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=0.5), {10: 0.05, 15: 0.025, 20: 0.025}),
]


@pytest.mark.parametrize("schedule, values", CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_values(schedule, values):
    for step, rate in values.items():
        assert schedule.rate_at(step) == pytest.approx(rate, abs=1e-9)
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-7)
        assert str(schedule(step).dtype) == "float32"
    np.testing.assert_allclose(schedule(np.array(list(values))), list(values.values()), atol=1e-7)


@pytest.mark.parametrize("schedule", [case[0] for case in CASES])
def test_descriptions(schedule):
    described = schedules.serialize(schedule)
    assert described["module"] == "keras.optimizers.schedules"
    again = schedules.deserialize(described)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


def test_a_schedule_drives_the_optimizer_and_is_saved_with_it():
    optimizer = SGD(ExponentialDecay(0.1, 10, 0.5))
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    assert [variable.name for variable in optimizer.variables] == ["iteration"]
    again = SGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    with pytest.raises(TypeError, match="follows ExponentialDecay and cannot be set"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = InverseTimeDecay(0.3, 1, 1)
    assert float(optimizer.learning_rate) == pytest.approx(0.3)


def test_a_users_schedule():
    @registry.register_keras_serializable("test")
    class Halving(LearningRateSchedule):
        def __init__(self, start):
            self.start = start

        def __call__(self, step):
            return self.start * 0.5**step

        def get_config(self):
            return {"start": self.start}

    assert Halving(1.0).rate_at(3) == 0.125
    optimizer = SGD(Halving(1.0))
    optimizer.iterations.assign(2)
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer._current_rate() == 0.25
    assert isinstance(SGD.from_config(optimizer.get_config())._learning_rate, Halving)


def test_errors():
    with pytest.raises(ValueError, match="one value more than boundaries, got 2 values and 2 boundaries"):
        PiecewiseConstantDecay([1, 2], [0.1, 0.2])
    with pytest.raises(NotImplementedError, match="must define __call__"):
        LearningRateSchedule()(1)
    with pytest.raises(NotImplementedError, match="must define get_config"):
        LearningRateSchedule().get_config()


WRONG = [float("nan"), float("inf"), -1, "x", None, [1.0], True]
ARGUMENTS = {
    ExponentialDecay: {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5},
    InverseTimeDecay: {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5},
    PolynomialDecay: {"initial_learning_rate": 0.1, "decay_steps": 5, "end_learning_rate": 0.01, "power": 2},
    CosineDecay: {"initial_learning_rate": 0.1, "decay_steps": 5, "alpha": 0.1, "warmup_steps": 1},
    CosineDecayRestarts: {"initial_learning_rate": 0.1, "first_decay_steps": 5, "t_mul": 2, "m_mul": 1, "alpha": 0.1},
}


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_numbers_that_make_no_sense_are_refused(cls):
    for name in ARGUMENTS[cls]:
        for wrong in [*WRONG, *([0] if name.endswith("decay_steps") else [])]:
            with pytest.raises(ValueError, match=rf"^{cls.__name__}'s {name} must be a .*number.*, got .+\.$"):
                cls(**{**ARGUMENTS[cls], name: wrong})
    legal = dict.fromkeys(ARGUMENTS[cls], 0) | {"decay_steps": 0.5, "first_decay_steps": 0.5, "t_mul": 0.5}
    legal = {name: value for name, value in legal.items() if name in ARGUMENTS[cls]}
    assert cls(**legal).rate_at(0) == 0
    assert cls(**legal).get_config() | legal == cls(**legal).get_config()


def test_pieces_that_make_no_sense_are_refused():
    for wrong in ("x", float("nan"), None):
        with pytest.raises(ValueError, match=r"^each of PiecewiseConstantDecay's boundaries must be a number, got"):
            PiecewiseConstantDecay([wrong], [0.1, 0.2])
    for wrong in WRONG:
        with pytest.raises(ValueError, match=r"^each of PiecewiseConstantDecay's values must be a number at least"):
            PiecewiseConstantDecay([3], [0.1, wrong])
    for boundaries in ([5, 2], [5, 5]):
        with pytest.raises(ValueError, match=r"needs boundaries that increase, got \[5, .\]; sort them\."):
            PiecewiseConstantDecay(boundaries, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="PiecewiseConstantDecay needs a list of numbers for boundaries, got 3"):
        PiecewiseConstantDecay(3, [0.1, 0.2])
    with pytest.raises(ValueError, match=r"CosineDecay's warmup_target must be a number at least 0 or None, got -1\."):
        CosineDecay(0.1, 10, warmup_target=-1)


def test_periods_that_have_run_out_give_no_rate():
    schedule = CosineDecayRestarts(0.1, 10, t_mul=0.5)  # 10, 5, 2.5, ... steps: 20 in all
    assert SGD(schedule)._current_rate() == pytest.approx(0.1)
    optimizer = SGD(schedule, name="short")
    optimizer.iterations.assign(25)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match="learning rate of 'short' after 25 updates must"),
    ):
        optimizer._current_rate()
