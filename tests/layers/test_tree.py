"""The tree of layers: whatever is changed in it and when, what is found, trained and recorded is what is there now."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import minikeras as keras
from minikeras import kernels as k
from minikeras import layers, metrics, random, regularizers
from minikeras.autodiff.tensor import Variable

RNG = np.random.default_rng(0)
WIDTH = 3
X, Y = RNG.normal(size=(8, WIDTH)).astype("float32"), RNG.normal(size=(8, WIDTH)).astype("float32")


# ---------------------------------------------------------------- a walk as plain as can be, to compare with


def parts_of(value):
    """Layers, variables, metrics and streams in an attribute, looked for in lists, tuples and dicts."""
    if isinstance(value, (layers.Layer, Variable, metrics.Metric, random.SeedGenerator)):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [part for item in items for part in parts_of(item)]


def walk(layer, frozen=False, found=None):
    """[(thing, whether a layer around it is frozen)] of all that a layer contains, once for each place it is at."""
    found = [] if found is None else found
    frozen = frozen or not layer.trainable
    found += [(layer, frozen), *((variable, frozen) for variable in layer._own)]
    hidden = type(layer)._UNTRACKED - {"_stack"}
    parts = [part for name, value in vars(layer).items() if name not in hidden for part in parts_of(value)]
    if isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential) and layer._graph is not None:
        parts += layer._graph.layers
    for part in parts:
        if isinstance(part, layers.Layer):
            walk(part, frozen, found)
        else:
            found.append((part, frozen))
    return found


def ids(things):
    return {id(thing) for thing in things}


def all_of(model, kind):
    return {id(thing): thing for thing, _ in walk(model) if isinstance(thing, kind)}


def trainable_of(model):
    found = all_of(model, Variable)
    frozen = {id(thing) for thing, is_frozen in walk(model) if is_frozen}
    return {key for key, variable in found.items() if variable.trainable and key not in frozen}


# ---------------------------------------------------------------- models that can be changed in every way


class Noisy(layers.Layer):
    """A layer with a weight, a metric and a stream, which computes nothing with the latter two."""

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), "ones")
        self.meter = metrics.Mean()
        self.streams = [random.SeedGenerator(1)]

    def call(self, x):
        return x * self.scale


class Net(keras.Model):
    """A sum of what all its layers make of one another's outputs."""

    def __init__(self):
        super().__init__()
        self.body = layers.Dense(WIDTH)
        self.blocks = [layers.Dense(WIDTH), [layers.Dense(WIDTH)]]
        self.table = {"first": layers.Dense(WIDTH)}
        self.pair = ("name", layers.Dense(WIDTH), [], 3)
        self.head = layers.Dense(WIDTH)

    def used(self):
        names = ("body", "blocks", "table", "pair", "extra", "head")
        return [part for name in names if hasattr(self, name) for part in parts_of(getattr(self, name))]

    def call(self, x):
        for layer in self.used():
            if isinstance(layer, layers.Layer):
                x = x + 0.3 * layer(x)
        return x


def stack():
    return keras.Sequential([layers.Dense(WIDTH), layers.Dense(WIDTH)])


def functional():
    inputs = keras.Input((WIDTH,))
    return keras.Model(inputs, layers.Dense(WIDTH)(layers.Dense(WIDTH)(inputs)))


def built(make):
    layer = make()
    layer(X)
    return layer


def dense():
    return layers.Dense(WIDTH)


MAKERS = [dense, Noisy, stack, functional, lambda: built(dense), lambda: built(Noisy), lambda: built(stack)]
NAMES = st.sampled_from(["body", "head", "extra"])
NUMBERS = st.integers(0, 20)
GROWTH = ["append", "insert", "slice", "iadd", "nest"]


class Changes(RuleBasedStateMachine):
    """Changes of a model's structure, with training between them."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(1)
        self.model = Net()
        self.pool = [make() for make in MAKERS]  # what was taken out may come back, and be in several places
        self.model(X)
        self.compile()

    def teardown(self):
        self.train(renewed=True, many=True)

    def compile(self):
        self.model.compile(keras.optimizers.SGD(0.01), "mse")
        self.optimized = None  # the variables that the optimizer is for, once it has been used

    def layer(self, number):
        return self.pool[number % len(self.pool)]

    def lists(self):
        return [self.model.blocks, *(value for value in self.model.pair if isinstance(value, list))]

    # -------------------------------------------------------- changes

    @rule(name=NAMES, number=NUMBERS)
    def set_attribute(self, name, number):
        self.pool.append(getattr(self.model, name, None) or dense())
        setattr(self.model, name, self.layer(number))

    @rule(name=NAMES)
    def delete_attribute(self, name):
        if hasattr(self.model, name):
            self.pool.append(getattr(self.model, name))
            delattr(self.model, name)

    @rule(make=st.sampled_from(MAKERS))
    def new_layer(self, make):
        self.model.extra = make()

    @rule(
        which=NUMBERS, number=NUMBERS, where=NUMBERS, how=st.sampled_from(["append", "insert", "slice", "iadd", "nest"])
    )
    def grow_list(self, which, number, where, how):
        lists, layer = self.lists(), self.layer(number)
        chosen = lists[which % len(lists)]
        if how == "append":
            chosen.append(layer)
        elif how == "insert":
            chosen.insert(where % (len(chosen) + 1), layer)
        elif how == "slice":
            chosen[where % (len(chosen) + 1) :][:0] = []
            chosen[:1] = [layer, dense()]
        elif how == "iadd":
            self.model.blocks += (layer,)
        else:
            chosen.append([layer])

    @rule(which=NUMBERS, where=NUMBERS, how=st.sampled_from(["pop", "del", "clear", "replace", "reverse"]))
    def shrink_list(self, which, where, how):
        lists = self.lists()
        chosen = lists[which % len(lists)]
        if how == "clear":
            chosen.clear()
        elif how == "reverse":
            chosen.reverse()
        elif chosen:
            where %= len(chosen)
            if how == "pop":
                chosen.pop(where)
            elif how == "del":
                del chosen[where : where + 2]
            else:
                chosen[where] = self.layer(where)

    @rule(key=st.sampled_from("abc"), number=NUMBERS)
    def set_item(self, key, number):
        self.model.table[key] = self.layer(number)

    @rule(key=st.sampled_from(["a", "b", "first"]))
    def delete_item(self, key):
        self.model.table.pop(key, None)

    @rule(number=NUMBERS)
    def set_tuple(self, number):
        self.model.pair = (1, self.layer(number), [2.0])

    @rule(number=NUMBERS)
    def swap_in_a_nested_layer(self, number):
        nested = [one for one in self.model.used() if isinstance(one, keras.Sequential)]
        if nested:
            chosen = nested[number % len(nested)]
            if number % 2 or len(chosen.layers) < 2:
                chosen.add(dense())
            else:
                chosen.pop()

    @rule(number=NUMBERS, value=st.booleans())
    def switch_layer(self, number, value):
        found = list(all_of(self.model, layers.Layer).values())
        found[number % len(found)].trainable = value

    @rule(number=NUMBERS, value=st.booleans())
    def switch_variable(self, number, value):
        found = list(all_of(self.model, Variable).values())
        if found:
            found[number % len(found)].trainable = value

    @rule(number=NUMBERS)
    def add_weight(self, number):
        """It is part of nothing that is computed; frozen, it needs no gradient."""
        found = list(all_of(self.model, layers.Layer).values())
        found[number % len(found)].add_weight((2,), trainable=False)

    @rule()
    def no_change(self):
        self.model.remark, self.model.body_count, self.model.last = "nothing", 3, RNG.normal(size=2)

    # -------------------------------------------------------- what must be so

    @invariant()
    def what_is_found_is_there(self):
        model = self.model
        assert ids(model._contents().layers) == all_of(model, layers.Layer).keys()
        assert ids(model.weights) == all_of(model, Variable).keys()
        assert ids(model.trainable_variables) == trainable_of(model)
        assert ids(model._contents().metrics) == all_of(model, metrics.Metric).keys()
        assert ids(model._contents().streams) == all_of(model, random.SeedGenerator).keys()
        assert [layer for layer in model.layers if not any(layer is one for one in model._flatten_layers())] == []

    @rule(renewed=st.booleans(), many=st.booleans())
    def train(self, renewed, many):
        model = self.model
        if renewed:
            self.compile()
        model(X)  # builds what is not
        expected, variables = trainable_of(model), all_of(model, Variable)
        before = {key: variable.numpy() for key, variable in variables.items()}
        unknown = self.optimized is not None and not expected <= self.optimized
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if unknown:
                with pytest.raises(ValueError, match="was built for other variables"):
                    self.step(many)
            else:
                self.step(many)
                self.optimized = self.optimized or expected or None
        changed = {key for key, variable in variables.items() if (variable.numpy() != before[key]).any()}
        assert changed == (set() if unknown else expected)

    def step(self, many):
        if many:
            self.model.fit(X, Y, batch_size=4, verbose=0)
        else:
            self.model.train_on_batch(X, Y)


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# ---------------------------------------------------------------- one by one


def fitted(model, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("sgd", "mse")
        model.fit(X, Y, verbose=0, **kwargs)
    return model


def test_a_layer_built_before_is_trained_in_the_place_of_another():
    model, pretrained = Net(), built(dense)
    fitted(model)
    old, before = model.head.get_weights(), pretrained.get_weights()
    replaced, model.head = model.head, pretrained
    fitted(model)
    assert all((one != other).any() for one, other in zip(pretrained.get_weights(), before, strict=True))
    np.testing.assert_equal(replaced.get_weights(), old)


@pytest.mark.parametrize("renewed", [False, True])
def test_a_variable_that_is_switched_off_stays_as_it_is(renewed):
    model = fitted(stack())
    kernel, bias = model.layers[0].weights
    kernel.trainable = False
    before = kernel.numpy(), bias.numpy()
    fitted(model) if renewed else model.train_on_batch(X, Y)
    np.testing.assert_equal(kernel.numpy(), before[0])
    assert (bias.numpy() != before[1]).any()


def test_a_switch_thrown_by_a_callback_works_from_the_next_batch_on():
    class Freezing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.layers[0].weights[0].trainable = False
            seen.append(self.model.layers[0].weights[0].numpy())

    seen, model = [], stack()
    fitted(model, batch_size=2, callbacks=[Freezing()])
    np.testing.assert_equal(seen[1:], [seen[0]] * 3)


def test_a_regularizer_given_later_counts():
    model = fitted(stack())
    loss = model.evaluate(X, Y, verbose=0)
    kernel = model.layers[0].kernel
    kernel.regularizer = regularizers.L2(1.0)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0) - loss, (kernel.numpy() ** 2).sum(), rtol=1e-5)
    kernel.regularizer = None
    assert model.evaluate(X, Y, verbose=0) == loss


def test_layers_among_data_are_found():
    class Named(keras.Model):
        def __init__(self):
            super().__init__()
            self.steps = [("first", layers.Dense(WIDTH)), ("second", layers.Dense(WIDTH))]
            self.circle = [self.steps, 1]
            self.circle.append(self.circle)

        def call(self, x):
            for _, layer in self.steps:
                x = layer(x)
            return x

    model = built(Named)
    assert [name for name, _ in model.named_children()][:2] == ["steps/container/dense", "steps/container_1/dense"]
    assert len(model.layers) == 2 and len(model.trainable_variables) == 4


def test_a_model_says_itself_what_is_trained():
    class Choosy(keras.Sequential):
        @property
        def trainable_variables(self):
            return self.layers[chosen].trainable_variables

    chosen, model = 0, Choosy([dense(), dense()])
    model.build((None, WIDTH))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.optimizer.build(model.weights)
    for chosen in (0, 1, 0):
        before = [layer.get_weights() for layer in model.layers]
        model.train_on_batch(X, Y)
        changed = [(layer.get_weights()[0] != old[0]).any() for layer, old in zip(model.layers, before, strict=True)]
        assert changed == [chosen == 0, chosen == 1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_a_tree_of_its_own(copied):
    model = fitted(stack())
    other = copied(model)
    assert not ids(model.weights) & ids(other.weights)
    other.add(dense())
    assert len(other.layers) == 3 and len(model.layers) == 2


def test_what_a_failing_first_step_built_is_gone_from_the_tree():
    class Failing(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = []

        def call(self, x):
            if not self.parts:
                self.parts.append(layers.Dense(WIDTH))
                self.late = layers.Dense(WIDTH)
            return self.late(self.parts[0](x))

    model = Failing()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError):
        model.train_on_batch(X, Y[:, :2])
    assert model.layers == [] and model.weights == []
    model.train_on_batch(X, Y)
    assert len(model.trainable_variables) == 4


# ---------------------------------------------------------------- what is recorded


def programs(model):
    for _ in range(5):
        model.predict_on_batch(X)
    return [entry.program for key, entry in model._programs._entries.items() if key[0] == "predict"]


def test_what_happens_to_other_models_leaves_recorded_predictions():
    model, other = fitted(functional()), fitted(functional())
    before = programs(model)
    assert k.active_device() == "gpu" or (len(before) == 1 and before[0] is not None)
    other.layers[1].activation = keras.activations.relu
    other.remark = "changed"
    other.layers[1].trainable = False
    fitted(other)
    fitted(model)
    model.evaluate(X, Y, verbose=0)
    assert programs(model) == before


def deep():
    return keras.Sequential([keras.Input((WIDTH,)), dense(), dense(), dense()])


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layers[1], "activation", keras.activations.relu),
        lambda model: setattr(model.layers[1], "call", lambda x: x + 1.0),
        lambda model: setattr(model.layers[1], "kernel", model.layers[2].kernel),
    ],
)
@pytest.mark.parametrize("make", [functional, deep])
def test_recorded_predictions_follow_changes(make, change):
    model = make()
    programs(model)
    change(model)
    np.testing.assert_allclose(model.predict_on_batch(X), model(X).numpy(), rtol=1e-5, atol=1e-6)


def test_recorded_predictions_follow_the_stack():
    model = deep()
    programs(model)
    model.add(layers.Activation("relu"))
    assert (model.predict_on_batch(X) >= 0).all()
    model.pop()
    assert (model.predict_on_batch(X) < 0).any()
