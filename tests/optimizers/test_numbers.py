"""The numbers of a step lie in memory: known ahead, and read by the very same kernels in every step."""

import copy
import pickle

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras import ops, optimizers
from minikeras.autodiff import Variable
from minikeras.constraints import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from minikeras.optimizers import schedules

SHAPES = ((3, 4), (4,), (4, 2))

BY_NAME = {
    "sgd": lambda **o: optimizers.SGD(0.1, **o),
    "momentum": lambda **o: optimizers.SGD(0.1, 0.9, **o),
    "nesterov": lambda **o: optimizers.SGD(0.1, 0.9, True, **o),
    "rmsprop": lambda **o: optimizers.RMSprop(0.01, **o),
    "centered": lambda **o: optimizers.RMSprop(0.01, momentum=0.5, centered=True, **o),
    "adam": lambda **o: optimizers.Adam(0.01, **o),
    "amsgrad": lambda **o: optimizers.Adam(0.01, amsgrad=True, **o),
    "adamw": lambda **o: optimizers.AdamW(0.01, **{"weight_decay": 0.1, **o}),
    "adagrad": lambda **o: optimizers.Adagrad(0.1, **o),
    "adadelta": lambda **o: optimizers.Adadelta(1.0, **o),
    "adamax": lambda **o: optimizers.Adamax(0.01, **o),
    "nadam": lambda **o: optimizers.Nadam(0.01, **o),
    "lion": lambda **o: optimizers.Lion(0.01, **o),
    "ftrl": lambda **o: optimizers.Ftrl(0.1, l1_regularization_strength=0.01, **o),
    "lamb": lambda **o: optimizers.Lamb(0.01, **o),
    "adafactor": lambda **o: optimizers.Adafactor(0.01, **o),
}
OPTIONS = {
    "plain": {},
    "decay and averages": {"weight_decay": 0.05, "use_ema": True, "clipnorm": 0.5},
    "global norm": {"global_clipnorm": 0.5, "loss_scale_factor": 4.0, "decay": 0.1},
    "value": {"clipvalue": 0.3},
}
SCHEDULES = {
    "exponential": schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True),
    "inverse": schedules.InverseTimeDecay(0.1, 3, 0.5),
    "pieces": schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.01]),
    "polynomial": schedules.PolynomialDecay(0.1, 4, cycle=True),
    "cosine": schedules.CosineDecay(0.01, 5, warmup_target=0.1, warmup_steps=3),
    "restarts": schedules.CosineDecayRestarts(0.1, 2),
}


def make_variables(constraints=(), dtype="float32"):
    generator = np.random.default_rng(0)
    variables = [Variable(generator.normal(size=shape), dtype=dtype, name=f"w{i}") for i, shape in enumerate(SHAPES)]
    for variable, constraint in zip(variables, constraints, strict=False):
        variable.constraint = constraint
    return variables


def gradients_for(variables, step):
    generator = np.random.default_rng(step + 100)
    return [generator.normal(size=variable.shape).astype(variable.dtype) for variable in variables]


def step(optimizer, variables, at):
    """As a training step does: gradients are written to where the optimizer wants them."""
    destinations = optimizer.gradient_destinations(variables)
    for variable, gradient in zip(variables, gradients_for(variables, at), strict=True):
        destinations[id(variable)][...] = k.to_device(gradient)
    optimizer.apply_flat([destinations[id(variable)] for variable in variables])


def state(optimizer, variables):
    return [value.numpy() for value in (*variables, *optimizer.variables)]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_ahead(optimizer, variables, steps=6):
    """What `_numbers_ahead` says is what the steps have then, and saying it changes nothing."""
    before, memory = state(optimizer, variables), optimizer._now
    address, ahead = memory.ctypes.data, optimizer._numbers_ahead(steps)
    assert ahead.shape == (steps, memory.size) and ahead.dtype == np.float64
    assert_same(state(optimizer, variables), before)
    for i in range(steps):
        step(optimizer, variables, 50 + i)
        assert optimizer._now is memory and memory.ctypes.data == address
        assert memory.tolist() == ahead[i].tolist()
    assert optimizer._numbers_ahead(0).shape == (0, memory.size)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", BY_NAME)
def test_numbers_are_known_ahead(name, options):
    variables, optimizer = make_variables(), BY_NAME[name](**options)
    for i in range(2):
        step(optimizer, variables, i)
    assert_ahead(optimizer, variables)
    optimizer.iterations.assign(1000)
    optimizer.learning_rate = 0.003
    assert_ahead(optimizer, variables, 2)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_are_known_ahead(schedule):
    for optimizer in (optimizers.SGD(schedule, weight_decay=0.1), optimizers.Adam(schedule)):
        variables = make_variables()
        step(optimizer, variables, 0)
        assert_ahead(optimizer, variables)


def test_what_cannot_be_known_ahead():
    class Mine(schedules.CosineDecay):
        def rate_at(self, step):
            return 0.5

    growing = schedules.ExponentialDecay(1.0, 1, 1e200)
    for rate in (lambda: 0.1, Mine(0.1, 10), growing):
        variables, optimizer = make_variables(), optimizers.SGD(rate)
        step(optimizer, variables, 0)
        assert optimizer._numbers_ahead(3) is None
    assert optimizer._numbers_ahead(1) is not None  # 1e200 is a rate, its square is none


# ---------------------------------------------------------------- the same kernels in every step


class Calls:
    """The compiled kernels that are called, with where their arguments lie."""

    def __init__(self, monkeypatch):
        from minikeras.kernels.cpu.compiler.team import team

        self.calls, self.team = [], team
        self.run = run = team.run

        def running(function, arguments, parts, wake=True, items=()):
            self.calls.append((function, arguments, parts, wake, items))
            run(function, arguments, parts, wake, items)

        monkeypatch.setattr(team, "run", running)

    def again(self):
        for call in self.calls:
            self.run(*call)

    def shown(self):
        return [
            (call[0], call[2], *[one.ctypes.data if isinstance(one, np.ndarray) else one for one in call[4]])
            for call in self.calls
        ]


on_the_cpu = pytest.mark.skipif(k.active_device() != "cpu", reason="compiled kernels are the CPU's")
CONSTRAINTS = {
    "none": (),
    "norms": (MaxNorm(0.8), NonNeg(), MinMaxNorm(0.5, 0.7, 0.5, axis=-1)),
    "unit": (UnitNorm([0, 1]), MaxNorm(0.5, axis=None), UnitNorm()),
}


@on_the_cpu
@pytest.mark.parametrize("constraints", CONSTRAINTS.values(), ids=CONSTRAINTS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_step_is_the_same_kernels_again(name, options, constraints, monkeypatch):
    """Calls noted in one step, made again with the next steps' numbers, give what steps of an optimizer give."""
    variables, others = make_variables(constraints), make_variables(constraints)
    optimizer, other = BY_NAME[name](**options), BY_NAME[name](**options)
    for i in range(2):
        step(optimizer, variables, i)
        step(other, others, i)
    assert optimizer._is_repeatable and optimizer._obstacle is None
    destinations = optimizer.gradient_destinations(variables)
    noted = Calls(monkeypatch)
    step(optimizer, variables, 2)
    kernels = len(noted.calls)
    assert kernels
    monkeypatch.undo()
    step(other, others, 2)
    ahead = optimizer._numbers_ahead(3)
    for i, numbers in enumerate(ahead):
        for variable, gradient in zip(variables, gradients_for(variables, 3 + i), strict=True):
            destinations[id(variable)][...] = gradient
        optimizer._now[...] = numbers
        noted.again()
        step(other, others, 3 + i)
        assert_same([v.numpy() for v in variables], [v.numpy() for v in others])
    optimizer._advance(ahead)
    assert_same(state(optimizer, variables), state(other, others))
    step(optimizer, variables, 6)
    step(other, others, 6)
    assert_same(state(optimizer, variables), state(other, others))


@on_the_cpu
@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_but_memory_changes_from_step_to_step(name, monkeypatch):
    """The kernels' own arguments, numbers and places, are the same in every step, but for buffers that are new."""
    variables, optimizer = make_variables(), BY_NAME[name](weight_decay=0.1, use_ema=True)
    step(optimizer, variables, 0)
    shown = []
    for i in range(2):
        noted = Calls(monkeypatch)
        step(optimizer, variables, 1 + i)
        monkeypatch.undo()
        shown.append(noted.shown())
    assert len(shown[0]) == len(shown[1])
    new = 1 if name in ("lamb", "adafactor") else 0
    for first, second in zip(*shown, strict=True):
        assert sum(a != b for a, b in zip(first, second, strict=True)) <= new


# ---------------------------------------------------------------- copies, obstacles, several optimizers


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_has_memory_of_its_own(duplicate):
    variables, optimizer = make_variables(), optimizers.Nadam(0.1)
    step(optimizer, variables, 0)
    other, theirs = duplicate((optimizer, variables))
    kept = optimizer._now.copy()
    step(other, theirs, 1)
    assert not np.shares_memory(other._now, optimizer._now)
    assert_same([optimizer._now], [kept])
    assert_ahead(other, theirs)
    assert_ahead(optimizer, variables)


def test_obstacles():
    class Mine(optimizers.Adam):
        pass

    cases = [
        (optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2), (), "every few updates"),
        (optimizers.SGD(0.1), (lambda w: ops.abs(w),), "user's constraint"),
        (optimizers.Ftrl(0.1, learning_rate_power=-0.75), (), "learning_rate_power"),
        (optimizers.LossScaleOptimizer(optimizers.SGD(0.1)), (), None),
        (Mine(0.1), (), "Mine is a user's"),
        (optimizers.SGD(0.1, ema_overwrite_frequency=2), (), None),
    ]
    for optimizer, constraints, reason in cases:
        step(optimizer, make_variables(constraints), 0)
        assert optimizer._is_repeatable is (reason is None)
        assert reason is None or reason in optimizer._obstacle
    exact = optimizers.SGD(0.1)
    step(exact, make_variables(dtype="float64"), 0)
    assert exact._obstacle == "a weight is not of float32"
    optimizer = optimizers.SGD(0.1)
    vars(optimizer)["apply_flat"] = optimizer.apply_flat
    assert "replaced" in optimizer._obstacle


def test_settings_are_what_kernels_are_told():
    adam = optimizers.Adam(0.1)
    both = optimizers.MultiOptimizer(optimizers.OptimizerMap(adam))
    scaling = optimizers.LossScaleOptimizer(adam)
    assert adam._leaves == both._leaves == scaling._leaves == [adam]
    for optimizer in (adam, both, scaling):
        before = optimizer._settings
        adam.learning_rate = 0.2
        assert optimizer._settings == before
        adam.beta_1, adam.clipnorm = adam.beta_1 / 2, (adam.clipnorm or 0) + 1
        assert optimizer._settings != before


def choose(variable):
    return CHOSEN[variable.name]


CHOSEN: dict = {}


@pytest.mark.parametrize("duplicate", [lambda thing: thing, copy.deepcopy])
def test_several_optimizers_have_one_memory(duplicate):
    nadam, sgd, idle = optimizers.Nadam(0.1), optimizers.SGD(0.1, weight_decay=0.1), optimizers.SGD(0.5)
    CHOSEN.update(w0=nadam, w1=sgd, w2=nadam, unused=idle)
    both, variables = optimizers.MultiOptimizer(choose, loss_scale_factor=2.0), make_variables()
    step(both, variables, 0)
    both, variables = duplicate((both, variables))
    step(both, variables, 1)
    assert both._is_repeatable and both._now.size == sum(one._now.size for one in both._members)
    assert_ahead(both, variables)
    other, theirs = copy.deepcopy((both, variables))
    assert other._numbers_ahead(3) is None  # it has no memory yet
    other.gradient_destinations(theirs)
    ahead = other._numbers_ahead(3)
    counts = [int(one.iterations) for one in (other, *other._members)]
    other._advance(ahead)
    assert [int(one.iterations) for one in (other, *other._members)] == [count + 3 for count in counts]
    for i in range(3):
        step(both, variables, i)
    assert float(both._members[0]._product) == float(other._members[0]._product)
    step(both, variables[:1], 0)
    assert "not all" in both._obstacle
    step(both, variables, 0)
    assert both._is_repeatable
    CHOSEN.update(w0=both._members[0])
    step(optimizers.MultiOptimizer(choose), variables[:1], 0)  # it has the numbers of the first one now
    assert "part of another" in both._obstacle
    step(both, variables, 1)


def test_an_update_that_is_refused_changes_nothing():
    rate = [0.1]
    optimizer, variables = optimizers.Nadam(lambda: rate[0]), make_variables()
    step(optimizer, variables, 0)
    before = state(optimizer, variables)
    rate[0] = float("nan")
    with pytest.raises(ValueError, match="learning rate"):
        step(optimizer, variables, 1)
    assert_same(state(optimizer, variables), before)
