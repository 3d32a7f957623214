"""Optimizers: the formulas against plain NumPy, options, missing gradients, state, copies, names and errors."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import minikeras.optimizers.legacy
from minikeras import kernels as k
from minikeras import layers, ops, optimizers, registry
from minikeras.autodiff import Tensor, Variable, backward, recording
from minikeras.constraints import NonNeg
from minikeras.optimizers import SGD, Adam, AdamW, Nadam, Optimizer, RMSprop
from minikeras.optimizers.schedules import InverseTimeDecay, LearningRateSchedule

SHAPES = ((3, 2), (2,), (4,))


def make_variables(seed=0, dtype="float64", shapes=SHAPES):
    generator = np.random.default_rng(seed)
    variables = [Variable(generator.normal(size=shape), dtype=dtype, name=f"w{i}") for i, shape in enumerate(shapes)]
    for variable in variables:
        variable.path = f"layer/{variable.name}"
    return variables


def gradients_for(variables, step):
    generator = np.random.default_rng(step + 100)
    return [generator.normal(size=variable.shape).astype(variable.dtype) for variable in variables]


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def train(optimizer, variables, steps, start=0):
    for step in range(start, start + steps):
        optimizer.apply(gradients_for(variables, step), variables)


# ---------------------------------------------------------------- formulas: each case is a step on one array


def sgd(p, g, s, t):
    p -= 0.1 * g


def momentum(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) - 0.1 * g
    p += s["v"]


def nesterov(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) - 0.1 * g
    p += 0.9 * s["v"] - 0.1 * g


def rmsprop(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    p -= 0.1 * g / np.sqrt(s["v"] + 1e-7)


def rmsprop_centered_momentum(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
    s["b"] = 0.5 * s.get("b", 0) + 0.1 * g / np.sqrt(s["v"] - s["a"] ** 2 + 1e-7)
    p -= s["b"]


def adam(p, g, s, t, amsgrad=False):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    s["vhat"] = np.maximum(s.get("vhat", 0), s["v"]) if amsgrad else s["v"]
    p -= 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * s["m"] / (np.sqrt(s["vhat"]) + 1e-7)


def amsgrad(p, g, s, t):
    adam(p, g, s, t, amsgrad=True)


def adamw(p, g, s, t):
    p -= 0.1 * 0.004 * p
    adam(p, g, s, t)


def adagrad(p, g, s, t):
    s["a"] = s.get("a", 0.1) + g**2
    p -= 0.1 * g / np.sqrt(s["a"] + 1e-7)


def adadelta(p, g, s, t):
    s["g"] = 0.95 * s.get("g", 0) + 0.05 * g**2
    step = g * np.sqrt(s.get("d", 0) + 1e-7) / np.sqrt(s["g"] + 1e-7)
    s["d"] = 0.95 * s.get("d", 0) + 0.05 * step**2
    p -= 0.1 * step


def adamax(p, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(0.999 * s.get("u", 0), abs(g))
    p -= 0.1 / (1 - 0.9**t) * s["m"] / (s["u"] + 1e-7)


def nadam(p, g, s, t):
    share, following = (0.9 * (1 - 0.5 * 0.96**n) for n in (t, t + 1))
    s["product"] = s.get("product", 1) * share
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    mean = following * s["m"] / (1 - s["product"] * following) + (1 - share) * g / (1 - s["product"])
    p -= 0.1 * mean / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)


def lion(p, g, s, t):
    p -= 0.1 * np.sign(0.9 * s.get("m", 0) + 0.1 * g)
    s["m"] = 0.99 * s.get("m", 0) + 0.01 * g


def ftrl(p, g, s, t):
    before = s.get("n", 0.1)
    s["n"] = before + g**2
    s["z"] = s.get("z", 0) + g + 2 * 0.2 * p - (np.sqrt(s["n"]) - np.sqrt(before)) / 0.1 * p
    z = s["z"]
    p[...] = np.where(abs(z) <= 0.3, 0, -(z - np.sign(z) * 0.3) / ((np.sqrt(s["n"]) + 0.5) / 0.1 + 2 * 0.1))


def lamb(p, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    update = s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)
    p -= 0.1 * np.linalg.norm(p) / np.linalg.norm(update) * update


def adafactor(p, g, s, t):
    keep, squares = 1 - t**-0.8, g**2 + 1e-30
    if p.ndim == 2:
        s["r"] = keep * s.get("r", 0) + (1 - keep) * squares.mean(1)
        s["c"] = keep * s.get("c", 0) + (1 - keep) * squares.mean(0)
        s["v"] = np.outer(s["r"], s["c"]) / s["r"].mean()
    else:
        s["v"] = keep * s.get("v", 0) + (1 - keep) * squares
    update = g / np.sqrt(s["v"])
    size = max(1e-3, np.sqrt((p**2).mean()))
    p -= size * min(0.1, t**-0.5) * update / max(1, np.sqrt((update**2).mean()))


FTRL = {
    "l1_regularization_strength": 0.3,
    "l2_regularization_strength": 0.1,
    "l2_shrinkage_regularization_strength": 0.2,
    "beta": 0.5,
}
FORMULAS = [
    (lambda **o: optimizers.SGD(0.1, **o), sgd),
    (lambda **o: optimizers.SGD(0.1, 0.9, **o), momentum),
    (lambda **o: optimizers.SGD(0.1, 0.9, True, **o), nesterov),
    (lambda **o: optimizers.RMSprop(0.1, **o), rmsprop),
    (lambda **o: optimizers.RMSprop(0.1, momentum=0.5, centered=True, **o), rmsprop_centered_momentum),
    (lambda **o: optimizers.Adam(0.1, **o), adam),
    (lambda **o: optimizers.Adam(0.1, amsgrad=True, **o), amsgrad),
    (lambda **o: optimizers.AdamW(0.1, **o), adamw),
    (lambda **o: optimizers.Adagrad(0.1, **o), adagrad),
    (lambda **o: optimizers.Adadelta(0.1, **o), adadelta),
    (lambda **o: optimizers.Adamax(0.1, **o), adamax),
    (lambda **o: optimizers.Nadam(0.1, **o), nadam),
    (lambda **o: optimizers.Lion(0.1, **o), lion),
    (lambda **o: optimizers.Ftrl(0.1, **FTRL, **o), ftrl),
    (lambda **o: optimizers.Lamb(0.1, **o), lamb),
    (lambda **o: optimizers.Adafactor(0.1, **o), adafactor),
]
NAMES = [formula.__name__ for _, formula in FORMULAS]


def make_exact(optimizer):
    """The learning rate in float64, as the formulas have it."""
    optimizer._learning_rate.host = np.asarray(0.1)
    return optimizer


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
def test_twenty_steps_follow_the_formula(make, formula):
    variables = make_variables()
    expected, states = values(variables), [{} for _ in variables]
    optimizer = make_exact(make())
    for step in range(20):
        gradients = gradients_for(variables, step)
        optimizer.apply(gradients, variables)
        for p, g, state in zip(expected, gradients, states, strict=True):
            formula(p, g, state, step + 1)
    assert_same(values(variables), expected, rtol=1e-6 if formula is nadam else 1e-10)
    assert int(optimizer.iterations) == 20


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
def test_a_variable_without_gradient_and_its_state_stay(make, formula):
    variables = make_variables()
    optimizer = make()
    train(optimizer, variables, 2)
    before, slots = values(variables), [group[1].numpy() for group in optimizer._slots]
    first, _, last = gradients_for(variables, 2)
    with pytest.warns(UserWarning, match=r"does not depend on the variables \['layer/w1'\]"):
        optimizer.apply([first, None, last])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.apply([first, None, last])
    after = values(variables)
    np.testing.assert_array_equal(after[1], before[1])
    assert_same([group[1].numpy() for group in optimizer._slots], slots, rtol=0)
    assert (after[0] != before[0]).all() and (after[2] != before[2]).all()
    assert int(optimizer.iterations) == 4


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_copies_go_on_like_the_original(make, formula, duplicate):
    variables = make_variables(dtype="float32")
    optimizer = make(use_ema=True, clipnorm=1.0)
    train(optimizer, variables, 3)
    other, theirs = duplicate((optimizer, variables))
    alone = duplicate(optimizer)
    assert not any(a is b for a, b in zip(variables, theirs, strict=True))
    train(optimizer, variables, 3, start=3)
    train(other, theirs, 3, start=3)
    train(alone, alone._trainable_variables, 3, start=3)
    for copied in (other, alone):
        assert_same(values(copied._trainable_variables), values(variables), rtol=0)
        assert_same(copied.get_weights(), optimizer.get_weights(), rtol=0)
    assert len(other._prepared.plan.segments) == 1 or formula is adafactor
    assert type(other.learning_rate) is type(optimizer.learning_rate)
    other.learning_rate = 0.5
    assert float(other.variables[1]) == 0.5


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
def test_state_is_saved_and_loaded(make, formula):
    variables = make_variables()
    optimizer = make()
    train(optimizer, variables, 3)
    store = {}
    optimizer.save_own_variables(store)
    assert list(store) == [str(i) for i in range(len(optimizer.variables))]
    other, theirs = make(), make_variables()
    for mine, their in zip(variables, theirs, strict=True):
        their.assign(mine)
    other.build(theirs)
    other.load_own_variables(store)
    train(optimizer, variables, 3, start=3)
    train(other, theirs, 3, start=3)
    assert_same(values(theirs), values(variables), rtol=0)


# ---------------------------------------------------------------- options


def test_clipping():
    small, large = np.array([0.3, 0.4]), np.array([3.0, -4.0])
    for option, expected in (
        ({"clipnorm": 1.0}, (small, large / 5)),
        ({"global_clipnorm": 1.0}, (small / np.sqrt(25.25), large / np.sqrt(25.25))),
        ({"global_clipnorm": 100.0}, (small, large)),
        ({"clipvalue": 0.35}, ([0.3, 0.35], [0.35, -0.35])),
    ):
        variables = [Variable(np.zeros(2), dtype="float64") for _ in range(2)]
        gradients = [small.copy(), large.copy()]
        SGD(1.0, **option).apply(gradients, variables)
        assert_same([-value for value in values(variables)], expected, rtol=1e-12)
        assert_same(gradients, [small, large], rtol=0)  # the caller's arrays are left alone


def test_an_infinite_global_norm_is_not_taken_for_a_large_one():
    variable = Variable(np.zeros(2, "float32"))
    SGD(1.0, global_clipnorm=1.0).apply([np.array([np.inf, 1], "float32")], [variable])
    assert np.isnan(variable.numpy()).all()


def test_weight_decay_spares_excluded_variables():
    for exclusion in ({"var_names": ["bias"]}, {"var_list": [1]}):
        variables = [Variable(np.ones(2), name=name) for name in ("kernel", "bias", "gamma")]
        optimizer = SGD(0.5, weight_decay=0.1)
        chosen = [variables[i] for i in exclusion.pop("var_list", [])]
        optimizer.exclude_from_weight_decay(chosen, **exclusion)
        optimizer.apply([np.zeros(2, "float32")] * 3, variables)
        assert_same(values(variables), [[0.95] * 2, [1.0] * 2, [0.95] * 2], rtol=1e-6)
        with pytest.raises(ValueError, match="is built already"):
            optimizer.exclude_from_weight_decay(var_names=["kernel"])


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_lets_weights_decay_in_the_same_pass_or_before(amsgrad):
    """The same bits, whether all weights decay or one of them does not."""
    variables, others = make_variables(dtype="float32"), make_variables(dtype="float32")
    together, alone = (AdamW(0.1, weight_decay=0.3, amsgrad=amsgrad) for _ in range(2))
    alone.exclude_from_weight_decay([others[2]])
    train(together, variables, 3)
    train(alone, others, 3)
    assert together._prepared.plan.is_decayed and not alone._prepared.plan.is_decayed
    assert_same(values(variables[:2]), values(others[:2]), rtol=0)
    assert (variables[2].numpy() != others[2].numpy()).all()


def test_constraints_come_last():
    variable = Variable(np.array([1.0, 1.0]))
    variable.constraint = NonNeg()
    SGD(1.0).apply([np.array([3.0, 0.5], "float32")], [variable])
    assert_same(values([variable]), [[0.0, 0.5]])


def test_moving_averages_replace_the_weights():
    variable = Variable(np.array([1.0]), dtype="float64")
    optimizer = SGD(1.0, use_ema=True, ema_momentum=0.75)
    for _ in range(2):
        optimizer.apply([np.array([1.0])], [variable])
    assert_same(values([variable]), [[-1.0]])
    optimizer.finalize_variable_values([variable])
    assert_same(values([variable]), [[-0.25]])  # the first average is the first weight, 0
    variable = Variable(np.array([1.0]), dtype="float64")
    optimizer = SGD(1.0, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2)
    for _ in range(2):
        optimizer.apply([np.array([1.0])], [variable])
    assert_same(values([variable]), [[-0.25]])


def test_accumulated_gradients_make_one_update_by_their_mean():
    variables, others = make_variables(), make_variables()
    slow, fast = Adam(0.1, gradient_accumulation_steps=2), Adam(0.1)
    for update in range(3):
        gradients = [gradients_for(variables, 2 * update), gradients_for(variables, 2 * update + 1)]
        slow.apply(gradients[0], variables)
        assert_same(values(variables), values(others), rtol=1e-12)
        slow.apply(gradients[1], variables)
        fast.apply([(a + b) / 2 for a, b in zip(*gradients, strict=True)], others)
        assert_same(values(variables), values(others), rtol=1e-12)
    assert int(slow.iterations) == 3 and int(slow.variables[0]) == 6


def test_loss_scale():
    variable = Variable(np.zeros(1))
    optimizer = SGD(1.0, loss_scale_factor=4.0)
    assert optimizer.scale_loss(2.0) == 8.0
    optimizer.apply([np.array([8.0], "float32")], [variable])
    assert_same(values([variable]), [[-2.0]])


def test_keras_2_arguments():
    optimizer = SGD(lr=0.5, decay=0.1, momentum=0.9, nesterov=True)
    assert float(optimizer.lr) == 0.5
    optimizer.iterations.assign(5)
    assert optimizer._current_rate() == pytest.approx(0.5 / 1.5)
    optimizer.lr = 0.25
    assert optimizer._current_rate() == pytest.approx(0.25 / 1.5)
    described = optimizer.get_config()["learning_rate"]
    assert described["class_name"] == "InverseTimeDecay"
    again = SGD.from_config(optimizer.get_config())
    assert isinstance(again._learning_rate, InverseTimeDecay)
    again.iterations.assign(5)
    assert float(again.learning_rate) == pytest.approx(0.25 / 1.5)
    assert [variable.name for variable in optimizer.variables] == ["iteration"] == [v.name for v in again.variables]
    assert Adam(epsilon=None).epsilon == RMSprop(epsilon=None).epsilon == 1e-7
    assert Adam(lr=0.01, decay=0.0).variables[1].name == "learning_rate"


# ---------------------------------------------------------------- the way of a training step


def loss_of(a, b):
    with recording():
        return ops.sum(ops.square(a)) + ops.sum(b * 3.0)


def test_backward_writes_into_the_flat_gradients():
    a, b = make_variables(shapes=((3, 2), (2,)))
    expected = [value - 0.1 * g for value, g in zip(values([a, b]), (2 * a.numpy(), np.full(2, 3.0)), strict=True)]
    optimizer = make_exact(SGD(0.1))
    destinations = optimizer.gradient_destinations([a, b])
    assert optimizer.gradient_destinations([a, b]) is destinations
    gradients = backward(loss_of(a, b), [a, b], destinations=destinations)
    assert gradients[0] is destinations[id(a)]
    optimizer.apply_flat(gradients)
    assert_same(values([a, b]), expected, rtol=1e-12)


def test_fewer_variables_than_it_was_built_for():
    variables = make_variables()
    optimizer = Adam(0.1)
    train(optimizer, variables, 1)
    before = values(variables)
    part = [variables[2], variables[0]]
    gradients = gradients_for(part, 7)
    optimizer.gradient_destinations(part)
    optimizer.apply_flat([k.to_device(gradient) for gradient in gradients])
    after = values(variables)
    np.testing.assert_array_equal(after[1], before[1])
    assert (after[0] != before[0]).all() and (after[2] != before[2]).all()
    optimizer.apply_gradients([(gradients[0], variables[2])])
    np.testing.assert_array_equal(variables[0].numpy(), after[0])


def test_a_rebound_variable_goes_on():
    variables, others = make_variables(), make_variables()
    optimizer, other = Adam(0.1), Adam(0.1)
    train(optimizer, variables, 2)
    train(other, others, 2)
    variables[1].data = variables[1].data.copy()
    train(optimizer, variables, 2, start=2)
    train(other, others, 2, start=2)
    assert_same(values(variables), values(others), rtol=0)


def test_two_optimizers_share_variables():
    variables = make_variables()
    first, second = SGD(0.1), Adam(0.1)
    train(first, variables, 1)
    array = variables[1].data
    train(second, variables[1:], 1)
    assert variables[1].data is array
    assert len(second._prepared.plan.segments) == 1


def test_mixed_types():
    variables = [*make_variables(dtype="float32"), *make_variables(dtype="float64"), *make_variables(dtype="float16")]
    optimizer = Adam(0.1, global_clipnorm=1.0, weight_decay=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(optimizer, variables, 3)
    assert [variable.dtype for variable in variables] == ["float32"] * 3 + ["float64"] * 3 + ["float16"] * 3
    assert len(optimizer._prepared.plan.segments) == 3
    assert all(np.isfinite(value).all() for value in values(variables))


def test_a_float32_step_stays_float32():
    (variable,) = make_variables(dtype="float32", shapes=((5,),))
    for optimizer in (Adam(clipnorm=0.1), Nadam(global_clipnorm=0.1), AdamW()):
        train(optimizer, [variable], 2)
        assert variable.dtype == "float32"
        assert {slot.dtype for group in optimizer._slots for slot in group} == {"float32"}


def test_a_users_optimizer():
    class Mine(Optimizer):
        def __init__(self, learning_rate=0.1, **options):
            super().__init__(learning_rate, **options)

        def build(self, variables):
            super().build(variables)
            self.sums = [self.add_variable_from_reference(variable, "sum") for variable in variables]

        def update_step(self, gradient, variable, learning_rate):
            total = self.sums[self._get_variable_index(variable)]
            self.assign_add(total, gradient)
            self.assign_sub(variable, total * ops.cast(learning_rate, variable.dtype))

    variables = make_variables(shapes=((2,), (3,)))
    start = values(variables)
    optimizer = Mine()
    for _ in range(2):
        optimizer.apply([np.ones(2), np.ones(3)], variables)
    assert_same(values(variables), [value - 0.3 for value in start], rtol=1e-6)
    assert [variable.path for variable in optimizer.variables[2:]] == ["mine/layer_w0_sum", "mine/layer_w1_sum"]
    with pytest.raises(NotImplementedError, match="must define update_step"):
        Optimizer(0.1).apply([np.ones(2)], variables[:1])


def test_the_learning_rate_can_be_a_function_or_be_set():
    optimizer = SGD(lambda: 0.25)
    assert optimizer.learning_rate == 0.25
    variable = Variable(np.zeros(1))
    optimizer.apply([Tensor(k.xp.ones(1, "float32"))], [variable])
    assert_same(values([variable]), [[-0.25]])
    optimizer = SGD(1)
    optimizer.learning_rate.assign(0.5)
    assert float(optimizer.learning_rate) == optimizer._current_rate() == 0.5
    optimizer.learning_rate = InverseTimeDecay(0.1, 1, 1)
    assert [variable.name for variable in optimizer.variables] == ["iteration"]


# ---------------------------------------------------------------- names, descriptions, errors


def test_names():
    assert isinstance(optimizers.get("adam"), Adam)
    assert isinstance(optimizers.get("Adam"), Adam)
    assert isinstance(optimizers.get("RMSprop"), RMSprop)
    assert isinstance(optimizers.get(AdamW), AdamW)
    assert optimizers.get(None) is None
    made = SGD(0.5)
    assert optimizers.get(made) is made
    assert optimizers.get({"class_name": "adam", "config": {"lr": 0.5}}).get_config()["learning_rate"] == 0.5
    assert minikeras.optimizers.legacy.Adam is Adam and optimizers.rmsprop is RMSprop
    with pytest.raises(ValueError, match="Unknown optimizer 'adamm'; did you mean 'adam'"):
        optimizers.get("adamm")
    with pytest.raises(ValueError, match="An optimizer is given by name"):
        optimizers.get(abs)


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
def test_descriptions(make, formula):
    optimizer = make(clipvalue=0.5, use_ema=True, name="mine")
    described = optimizers.serialize(optimizer)
    assert described["module"] == "keras.optimizers" and described["registered_name"] is None
    again = optimizers.deserialize(described)
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()


def test_a_registered_optimizer_is_found():
    @registry.register_keras_serializable("test")
    class Slow(SGD):
        pass

    assert isinstance(optimizers.deserialize(optimizers.serialize(Slow(0.5))), Slow)
    assert isinstance(optimizers.deserialize("Tame", {"Tame": Slow}), Slow)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Adam(learning_rat=1), "Unknown argument of Adam 'learning_rat'; did you mean 'learning_rate'"),
        (lambda: Adam(clipnorm=1.0, clipvalue=1.0), "Only one way of clipping may be chosen"),
        (lambda: Adam(InverseTimeDecay(0.1, 1, 1), decay=0.1), "decay needs a learning rate that is a number"),
        (lambda: AdamW(weight_decay=None), "needs a number as its weight_decay, got None"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


NO_NUMBERS = ["fast", [0.1], True, float("nan"), float("inf"), -1]
ADAM = {
    "learning_rate": ("learning_rate must be a number at least 0", [*NO_NUMBERS, None, "0.1", np.float32("nan")]),
    "beta_1": ("Adam's beta_1 must be a number at least 0 and below 1", [*NO_NUMBERS, 1, 2, None]),
    "beta_2": ("Adam's beta_2 must be a number at least 0 and below 1", [*NO_NUMBERS, 1.0, None]),
    "epsilon": ("Adam's epsilon must be a number at least 0", NO_NUMBERS),
    "weight_decay": ("Adam's weight_decay must be a number at least 0 or None", NO_NUMBERS),
    "clipnorm": ("Adam's clipnorm must be a number at least 0 or None", NO_NUMBERS),
    "clipvalue": ("Adam's clipvalue must be a number at least 0 or None", NO_NUMBERS),
    "global_clipnorm": ("Adam's global_clipnorm must be a number at least 0 or None", NO_NUMBERS),
    "decay": ("Adam's decay must be a number at least 0 or None", NO_NUMBERS),
    "ema_momentum": ("Adam's ema_momentum must be a number from 0 to 1", [*NO_NUMBERS, 1.5, None]),
    "ema_overwrite_frequency": ("frequency must be a positive whole number or None", [*NO_NUMBERS, 0.5]),
    "loss_scale_factor": ("Adam's loss_scale_factor must be a positive number or None", [*NO_NUMBERS, 0]),
    "gradient_accumulation_steps": ("steps must be a whole number of at least 2 or None", [*NO_NUMBERS, 1, 2.5]),
}
OTHERS = [
    (SGD, "momentum", "SGD's momentum must be a number from 0 to 1", [*NO_NUMBERS, 1.5]),
    (RMSprop, "rho", "RMSprop's rho must be a number from 0 to 1", [*NO_NUMBERS, 1.5]),
    (RMSprop, "momentum", "RMSprop's momentum must be a number from 0 to 1", [*NO_NUMBERS, 1.5]),
    (optimizers.Adadelta, "rho", "Adadelta's rho must be a number from 0 to 1", [*NO_NUMBERS, 1.5]),
    (optimizers.Adagrad, "initial_accumulator_value", "value must be a number at least 0", NO_NUMBERS),
    (optimizers.Adamax, "beta_2", "Adamax's beta_2 must be a number at least 0 and below 1", [*NO_NUMBERS, 1]),
    (optimizers.Nadam, "beta_1", "Nadam's beta_1 must be a number at least 0 and below 1", [*NO_NUMBERS, 1]),
    (optimizers.Lion, "beta_1", "Lion's beta_1 must be a number above 0 and at most 1", [*NO_NUMBERS, 0, 1.5]),
    (optimizers.Lion, "beta_2", "Lion's beta_2 must be a number from 0 to 1", [*NO_NUMBERS, 1.5]),
    (optimizers.Ftrl, "learning_rate_power", "power must be a number at most 0", ["fast", True, float("nan"), 1]),
    (optimizers.Adafactor, "clip_threshold", "Adafactor's clip_threshold must be a positive number", [*NO_NUMBERS, 0]),
    (AdamW, "weight_decay", "AdamW's weight_decay must be a number at least 0 or None", NO_NUMBERS),
]


@pytest.mark.parametrize(
    ("make", "argument", "sentence", "values"),
    [*((Adam, name, *case) for name, case in ADAM.items()), *OTHERS],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_numbers_that_make_no_sense_are_refused(make, argument, sentence, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"{sentence}, got .+\.$"):
            make(**{argument: value})


@pytest.mark.parametrize("name", sorted(optimizers.ALL))
def test_what_is_legal_stays_legal(name):
    make = optimizers.ALL[name]
    for rate in (0, np.float32(0), np.array(0), Tensor(np.float32(0)), lambda: 0.0):
        variables = make_variables()
        train(make(rate), variables, 2)
        assert_same(values(variables), values(make_variables()), rtol=0)  # how weights are frozen
    make(clipnorm=0, gradient_accumulation_steps=0, ema_overwrite_frequency=0, weight_decay=0, loss_scale_factor=2)
    assert make(learning_rate=make(0.25).learning_rate).learning_rate == 0.25


def test_ends_of_intervals():
    assert SGD(momentum=1).momentum == 1 and Adam(beta_1=0, epsilon=0).epsilon == 0 and RMSprop(rho=1).rho == 1


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1, "0.1", None, [0.1, 0.2], Tensor(np.float32(-1))])
def test_a_rate_that_is_none_cannot_be_set(rate):
    variables = make_variables()
    optimizer = Adam(0.5)
    train(optimizer, variables, 1)
    state = optimizer.get_weights()
    with pytest.raises(ValueError, match="learning_rate must be a number at least 0, got"):
        optimizer.learning_rate = rate
    with pytest.raises(ValueError, match="learning_rate must be a number at least 0, got"):
        optimizer.learning_rate.assign(rate)
    if not isinstance(rate, (str, list, type(None))):
        with pytest.raises(ValueError, match="learning_rate must be a number at least 0, got"):
            optimizer.set_weights([state[0] + 1, np.float32(float(rate)), *state[2:]])
        with pytest.raises(ValueError, match="learning_rate must be a number at least 0, got"):
            Adam(0.5).load_own_variables({"0": np.int32(3), "1": np.float32(float(rate))})
    assert_same(optimizer.get_weights(), state, rtol=0)
    optimizer.learning_rate = Tensor(np.float32(0.25))
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate.assign_sub(0.25)
    assert optimizer.learning_rate == 0
    assert copy.deepcopy(optimizer).learning_rate == 0 and type(copy.deepcopy(optimizer.learning_rate)).__name__ == (
        "LearningRate"
    )


@pytest.mark.parametrize("bad", [float("nan"), -1.0, None, "0.1"])
@pytest.mark.parametrize("steps", [None, 2])
def test_a_function_or_schedule_that_gives_no_rate_changes_nothing(bad, steps):
    class Sudden(LearningRateSchedule):
        def __call__(self, step):
            return bad if int(step) else 0.1

    def sudden():
        return bad if int(by_function.iterations) else 0.1

    by_schedule, by_function = Adam(Sudden(), gradient_accumulation_steps=steps), Adam(sudden)
    for optimizer, name in ((by_schedule, "Sudden's learning rate at step [12]"), (by_function, "The learning rate")):
        variables = make_variables()
        train(optimizer, variables, 1)
        before, state = values(variables), optimizer.get_weights()
        with pytest.raises(ValueError, match=rf"{name}.* must be a number at least 0, got {bad!r}\."):
            train(optimizer, variables, 1)
        assert_same(values(variables), before, rtol=0)
        assert_same(optimizer.get_weights(), state, rtol=0)


def test_bad_gradients_change_nothing():
    variables = make_variables()
    optimizer = SGD(0.1, 0.9)
    train(optimizer, variables, 1)
    before, state = values(variables), optimizer.get_weights()
    good = gradients_for(variables, 1)
    stranger = make_variables(5)[0]
    for grads, given, message in (
        ([None] * 3, None, "None of the 3 trainable variables has a gradient"),
        (good[:2], None, "3 variables need as many gradients, got 2"),
        ([good[0], good[1], np.ones(1)], None, r"gradient of 'layer/w2' must have its shape \(4,\), got \(1,\)"),
        ([good[0]], [stranger], "was built for other variables and does not know 'layer/w0'"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.apply(grads, given)
    assert_same(values(variables), before, rtol=0)
    assert_same(optimizer.get_weights(), state, rtol=0)
    with pytest.raises(ValueError, match="apply was given no variables"):
        SGD().apply(good)
    with pytest.raises(RuntimeError, match="apply_flat was called before gradient_destinations"):
        SGD().apply_flat(good)
    SGD().apply([], [])


def test_state_that_does_not_fit_is_left_alone():
    variables = make_variables()
    optimizer = Adam()
    train(optimizer, variables, 1)
    state = optimizer.get_weights()
    with pytest.warns(UserWarning, match="has 8 variables and the file has 1; its state was not loaded"):
        optimizer.load_own_variables({"0": 3})
    with pytest.raises(ValueError, match="cannot take"):
        optimizer.set_weights([*state[:-1], np.zeros(9)])
    assert_same(optimizer.get_weights(), state, rtol=0)
    optimizer.set_weights([value * 0 for value in state])
    assert int(optimizer.iterations) == 0


@pytest.mark.filterwarnings("ignore:The loss does not depend on")
@pytest.mark.parametrize("factor", [None, 8.0])
def test_minimize(factor):
    def loss():
        return minikeras.ops.sum(x**2) + other * 0.0

    x, other, frozen = Variable([3.0, 1.0]), Variable(2.0), Variable([1.0])
    optimizer = optimizers.SGD(0.25, loss_scale_factor=factor)
    assert int(optimizer.minimize(loss, [x, other, frozen])) == 1
    np.testing.assert_allclose(x, [1.5, 0.5])
    with minikeras.GradientTape() as tape:
        value = loss()
    optimizer.minimize(value, lambda: [x, other, frozen], tape=tape)
    np.testing.assert_allclose(x, [0.75, 0.25])
    with minikeras.GradientTape() as tape:
        value = x**2
    optimizer.minimize(value, [x, other, frozen], grad_loss=np.array([1.0, 0.0], "float32"), tape=tape)
    np.testing.assert_allclose(x, [0.375, 0.25])
    assert frozen.numpy() == 1
    with pytest.raises(ValueError, match="needs the tape"):
        optimizer.minimize(value, [x])
    with pytest.raises(ValueError):
        optimizer.minimize(loss, [frozen])
    np.testing.assert_allclose(x, [0.375, 0.25])


def test_stateless_apply_leaves_variables_as_they_are():
    weight, twin = Variable([3.0, 1.0]), Variable([3.0, 1.0])
    optimizer, other = Adam(0.1), Adam(0.1)
    optimizer.build([weight])
    values, state = optimizer.stateless_apply(optimizer.variables, [[1.0, 2.0]], [weight])
    values, state = optimizer.stateless_apply(state, [[0.5, 2.0]], values)
    for gradient in ([1.0, 2.0], [0.5, 2.0]):
        other.apply([gradient], [twin])
    np.testing.assert_array_equal(k.to_host(values[0].data), twin.numpy())
    for one, variable in zip(state, other.variables, strict=True):
        np.testing.assert_array_equal(k.to_host(one.data), variable.numpy())
    assert weight.numpy().tolist() == [3.0, 1.0] and int(optimizer.iterations) == 0
    with pytest.raises(ValueError, match="is built"):
        Adam().stateless_apply([], [], [])


def test_a_schedule_begins_with_an_optimizers_learning_rate():
    optimizer = SGD(0.5)
    optimizer.learning_rate = optimizers.schedules.PolynomialDecay(optimizer.learning_rate, 4)
    assert float(optimizer.learning_rate) == 0.5


@pytest.mark.parametrize("relative", [True, False])
def test_adafactors_learning_rate_falls_with_the_steps(relative):
    weight = Variable([1.0])
    optimizer = optimizers.Adafactor(0.6, relative_step=relative)
    sizes = []
    for _ in range(5):
        before = float(weight[0])
        optimizer.apply([[0.1]], [weight])
        sizes.append((before - float(weight[0])) / before)
    np.testing.assert_allclose(sizes, [0.6, 0.6, 3**-0.5, 0.5, 5**-0.5], rtol=1e-4)


# ---------------------------------------------------------------- variables that become their gradients


@pytest.mark.parametrize("options", [{}, {"clipvalue": 0.1}, {"use_ema": True}, {"loss_scale_factor": 4.0}], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad", "Lion"])
def test_overwrite_with_gradient(name, options):
    weight, scale = Variable([1.0, 2.0]), Variable([3.0, 4.0], name="scale")
    scale.overwrite_with_gradient = True
    alone = Variable([1.0, 2.0])
    both, one = getattr(optimizers, name)(**options), getattr(optimizers, name)(**options)
    for step in range(3):
        both.apply([[0.5, -0.5], [7.0 + step, 8.0]], [weight, scale])
        one.apply([[0.5, -0.5]], [alone])
        assert scale.numpy().tolist() == [7.0 + step, 8.0]
        assert np.array_equal(weight.numpy(), alone.numpy())
    both.finalize_variable_values([weight, scale])
    assert scale.numpy().tolist() == [9.0, 8.0]
    assert [v.shape for v in both.variables] == [v.shape for v in one.variables]  # there is no state for it


def test_overwrite_with_gradient_accumulates_the_largest():
    scale = Variable([3.0, 4.0])
    scale.overwrite_with_gradient = True
    optimizer = optimizers.SGD(gradient_accumulation_steps=2)
    optimizer.apply([[1.0, 6.0]], [scale])
    assert scale.numpy().tolist() == [3.0, 4.0]
    optimizer.apply([[2.0, 5.0]], [scale])
    assert scale.numpy().tolist() == [2.0, 6.0]
    optimizer.apply([[0.5, 0.5]], [scale])
    optimizer.apply([[0.0, 0.0]], [scale])
    assert scale.numpy().tolist() == [0.5, 0.5]


def test_overwrite_with_gradient_is_a_switch():
    variable = Variable([1.0])
    assert variable.overwrite_with_gradient is False
    with pytest.raises(TypeError, match="is True or False, got 'true'"):
        variable.overwrite_with_gradient = "true"


def test_a_layer_whose_scale_follows_what_it_sees():
    """The largest input of each step, which a custom gradient gives for the gradient of the scale."""

    @ops.custom_gradient
    def scaled(x, scale):
        return x / scale, lambda upstream: (upstream / scale, ops.max(ops.abs(x)))

    class Scaled(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight((), "ones", overwrite_with_gradient=True, name="scale")

        def call(self, x):
            return scaled(x, self.scale)

    x = np.linspace(-3, 2, 12, dtype="f4").reshape(4, 3)
    model = minikeras.Sequential([minikeras.Input((3,)), Scaled(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, x[:, :1], epochs=2, verbose=0)
    assert float(model.layers[0].scale) == 3.0
