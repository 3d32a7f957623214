"""Copies of everything: by pickle, also with buffers apart, by copy.deepcopy, cloudpickle and joblib.

A copy behaves as the original would, and the two have nothing in common that either could change.
"""

import copy
import io
import multiprocessing
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
from layer_cases import ROWS
from loss_cases import CASES as LOSSES
from metric_cases import CASES as METRICS

import minikeras
from minikeras import (
    callbacks,
    constraints,
    initializers,
    kernels,
    layers,
    losses,
    metrics,
    ops,
    optimizers,
    regularizers,
    tree,
)
from minikeras.data import Dataset
from minikeras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay
from minikeras.preprocessing.image import ImageDataGenerator
from minikeras.preprocessing.text import Tokenizer

X = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
Y = X[:, :2]


def with_buffers_apart(thing):
    buffers = []
    return pickle.loads(pickle.dumps(thing, 5, buffer_callback=buffers.append), buffers=buffers)


def by_cloudpickle(thing):
    return pickle.loads(cloudpickle.dumps(thing))


def by_joblib(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {f"pickle{n}": lambda thing, n=n: pickle.loads(pickle.dumps(thing, n)) for n in (2, 3, 4, 5)}
WAYS |= {"buffers": with_buffers_apart, "deepcopy": copy.deepcopy, "cloudpickle": by_cloudpickle, "joblib": by_joblib}
each_way = pytest.mark.parametrize("copied", WAYS.values(), ids=WAYS)


def assert_from_another_process(one, other):
    """The same bits; where this one is on a GPU, and the other is not, the same numbers."""
    if kernels.active_device() == "gpu":
        return np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.array_equal(one, other)


def assert_equal(one, other):
    one, other = tree.flatten(one), tree.flatten(other)
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f")


def small_model(optimizer="adam", **arguments):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, "tanh"), layers.Dropout(0.3), layers.Dense(2)])
    model.compile(optimizer, "mse", **arguments)
    return model


def assert_same_future(model, other, x=X, y=Y):
    for _ in range(2):
        assert model.train_on_batch(x, y) == other.train_on_batch(x, y)
    assert_equal(model.get_weights(), other.get_weights())
    assert_equal(model.optimizer.get_weights(), other.optimizer.get_weights())


# ---------------------------------------------------------------- layers, losses, metrics, optimizers: each of them


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_layer(row):
    layer, inputs = row.make(layers), row.together(row.inputs())
    layer(*inputs)
    for copied in (WAYS["pickle5"], copy.deepcopy, by_cloudpickle):
        other = copied(layer)
        assert other.get_config() == layer.get_config()
        assert [weight.path for weight in other.weights] == [weight.path for weight in layer.weights]
        assert_equal(other.get_weights(), layer.get_weights())
        assert_equal(other(*inputs), layer(*inputs))
        if layer._contents().streams:
            assert_equal(other(*inputs, training=True), layer(*inputs, training=True))  # the same random numbers
        if layer.weights:
            before = layer.get_weights()
            for weight in other.weights:
                weight.assign(np.ones(weight.shape))
            assert_equal(layer.get_weights(), before)


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_loss(case):
    loss, data = getattr(losses, case.cls)(**case.options), case.data((4, 3), "float32")
    for copied in WAYS.values():
        other = copied(loss)
        assert other.get_config() == loss.get_config()
        assert_equal(other(*data), loss(*data))


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_every_metric_with_its_sums(case):
    metric, batches = getattr(metrics, case.cls)(**case.options), case.batches()
    metric.update_state(*batches[0][:2])
    for copied in (WAYS["pickle5"], copy.deepcopy, by_cloudpickle):
        other = copied(metric)
        assert other.get_config() == metric.get_config()
        assert_equal(other.result(), metric.result())
        before = [variable.numpy() for variable in metric.variables]
        other.update_state(*batches[1][:2])
        assert_equal([variable.numpy() for variable in metric.variables], before)
        twin = copied(metric)
        twin.update_state(*batches[1][:2])
        assert_equal(twin.result(), other.result())


def chosen_by_name():
    patterns = {".*bias": optimizers.SGD(0.1, momentum=0.9)}
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.Adam(), patterns))


BUILT_IN = [
    "SGD",
    "RMSprop",
    "Adam",
    "AdamW",
    "Adadelta",
    "Adagrad",
    "Adamax",
    "Nadam",
    "Ftrl",
    "Lion",
    "Adafactor",
    "Lamb",
]
OPTIMIZERS = {name: getattr(optimizers, name) for name in [*BUILT_IN, "Adafactor", "Lamb"]} | {
    "chosen by name": chosen_by_name,
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(), dynamic_growth_steps=2),
    "averaging": partial(optimizers.Adam, use_ema=True, ema_overwrite_frequency=3),
    "accumulating": partial(optimizers.Adam, gradient_accumulation_steps=2),
    "following a schedule": lambda: optimizers.SGD(CosineDecay(0.1, 5), momentum=0.9, nesterov=True),
    "decaying": partial(optimizers.RMSprop, 0.01, decay=0.1, centered=True),
    "clipping": partial(optimizers.Adam, amsgrad=True, global_clipnorm=0.1, weight_decay=0.01),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("way", ["pickle2", "buffers", "deepcopy", "cloudpickle", "joblib"])
def test_every_optimizer_in_the_middle_of_training(make, way):
    model = small_model(make())
    for _ in range(3):
        model.train_on_batch(X, Y)
    other, third = WAYS[way](model), WAYS[way](model)
    weights, state = model.get_weights(), model.optimizer.get_weights()
    assert_same_future(other, third)
    assert_equal([weights, state], [model.get_weights(), model.optimizer.get_weights()])
    model.train_on_batch(X, Y)
    model.train_on_batch(X, Y)
    assert_equal(model.get_weights(), other.get_weights())

    optimizer, variables = WAYS[way]((model.optimizer, model.trainable_weights))  # without the model
    gradients = [np.full(weight.shape, 0.5, "f4") for weight in variables]
    optimizer.apply(gradients, variables)
    model.optimizer.apply(gradients, model.trainable_weights)
    assert_equal([weight.numpy() for weight in variables], [weight.numpy() for weight in model.trainable_weights])
    assert_equal(optimizer.get_weights(), model.optimizer.get_weights())


@each_way
def test_what_layers_are_configured_with(copied):
    things = [initializers.GlorotUniform(seed=3), initializers.Constant(2.0), initializers.Orthogonal(2.0)]
    things += [regularizers.L1L2(0.1, 0.2), regularizers.OrthogonalRegularizer(), constraints.MaxNorm(2)]
    things += [constraints.MinMaxNorm(), PiecewiseConstantDecay([1, 2], [0.1, 0.2, 0.3]), CosineDecay(0.1, 10)]
    things += [minikeras.DTypePolicy("mixed_bfloat16")]
    for thing in things:
        assert copied(thing).get_config() == thing.get_config() and copied(thing) is not thing
    assert_equal(copied(things[0])((3, 4)), things[0]((3, 4)))


@each_way
def test_a_regularizer_is_the_copys_own(copied):
    layer = layers.Dense(2, kernel_regularizer=regularizers.L2(0.1), kernel_constraint=constraints.MaxNorm(1))
    layer(X)
    other = copied(layer)
    assert other.kernel.regularizer is other.kernel_regularizer is not layer.kernel_regularizer
    assert other.kernel.constraint is other.kernel_constraint is not layer.kernel_constraint


# ---------------------------------------------------------------- states: of layers, of random streams, of data


@each_way
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_carried_states(cell, copied):
    x, y = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("f4"), np.ones((2, 4), "f4")
    recurrent = getattr(layers, cell)(4, stateful=True, dropout=0.3, recurrent_dropout=0.2)
    model = minikeras.Sequential([minikeras.Input(batch_shape=(2, 5, 3)), recurrent])
    model.compile("adam", "mse")
    model.train_on_batch(x, y)
    other = copied(model)
    assert_same_future(model, other, x, y)
    assert_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))


@each_way
def test_random_streams(copied):
    generator = minikeras.random.SeedGenerator(7)
    generator.next(3)
    assert copied(generator).state == generator.state
    layer = layers.Dropout(0.5)
    layer(X, training=True)
    state = layer.variables[0]
    other = copied(state)
    assert other.path == state.path
    assert_equal(other.numpy(), state.numpy())
    other.assign([1, 2])
    assert state.numpy()[1] != 2
    assert_equal(copied(layer)(X, training=True), layer(X, training=True))


@each_way
def test_data_in_the_middle(copied):
    dataset = Dataset.from_arrays(X, Y).shuffle(8, seed=1).batch(3).repeat(2)
    batches = iter(dataset)
    next(batches)
    assert_equal(list(copied(batches)), list(batches))
    assert_equal(list(copied(dataset)), list(copied(dataset)))
    pictures = np.random.default_rng(2).uniform(size=(10, 6, 6, 1)).astype("f4")
    generator = ImageDataGenerator(rotation_range=20, featurewise_center=True)
    generator.fit(pictures)
    flow = generator.flow(pictures, np.arange(10), batch_size=4, seed=3)
    next(flow)
    other = copied(flow)
    for _ in range(4):
        assert_equal(next(other), next(flow))
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["a b", "b c"])
    other = copied(tokenizer)
    other.fit_on_texts(["d"])
    assert other.word_index.keys() - tokenizer.word_index.keys() == {"d"}


@each_way
def test_tables_of_text_layers(copied):
    texts = np.array(["a b", "b c d"])
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(texts)
    assert_equal(copied(vectorize)(texts), vectorize(texts))
    numbers = layers.Normalization()
    numbers.adapt(X)
    assert_equal(copied(numbers)(X), numbers(X))


# ---------------------------------------------------------------- models


@each_way
def test_number_types(copied):
    dense = [layers.Dense(4, dtype=dtype) for dtype in ("mixed_float16", "bfloat16", "float64", "float32")]
    model = minikeras.Sequential([minikeras.Input((3,)), *dense, layers.Dense(2)])
    model.compile("adam", "mse")
    model.train_on_batch(X, Y)
    other = copied(model)
    assert [layer.dtype_policy for layer in other.layers] == [layer.dtype_policy for layer in model.layers]
    assert [weight.dtype for weight in other.weights] == [weight.dtype for weight in model.weights]
    assert_same_future(model, other)


@each_way
def test_added_losses_and_metrics_of_a_graph(copied):
    x = minikeras.Input((3,))
    hidden = layers.Dense(4)(x)
    model = minikeras.Model(x, layers.Dense(2)(hidden))
    model.add_loss(ops.mean(ops.square(hidden)))
    model.add_metric(ops.mean(hidden), name="hidden")
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    other = copied(model)
    assert [metric.name for metric in other.metrics] == ["loss", "hidden"]
    assert_same_future(model, other)


class WithEnds(minikeras.Model):
    def __init__(self, units):
        x = minikeras.Input((3,))
        hidden = layers.Dense(units)(x)
        super().__init__(x, layers.Dense(2)(hidden))
        self.hidden, self.ends = hidden, [x, {"hidden": hidden}]


@each_way
def test_symbolic_tensors_that_a_model_holds_are_those_of_its_copy(copied):
    model = WithEnds(4)
    other = copied(model)
    inside = minikeras.Model(other.ends[0], other.ends[1]["hidden"])
    assert inside.layers[-1] is other.layers[1] and other.hidden is other.ends[1]["hidden"]
    assert_equal(inside.predict(X, verbose=0), minikeras.Model(model.input, model.hidden).predict(X, verbose=0))


@each_way
def test_history_and_callbacks(copied):
    model, stopping = small_model(), callbacks.EarlyStopping("loss", patience=5)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[stopping, callbacks.ReduceLROnPlateau("loss")])
    other, stopped = copied((history, stopping))
    assert other.history == history.history and other.epoch == history.epoch
    assert stopped.best == stopping.best and stopped.model is other.model is not model
    assert_same_future(other.model, model)


@each_way
def test_comparisons(copied):
    model = small_model([optimizers.SGD(0.1), optimizers.Adam(0.1)])
    before = copied(model)
    model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    before.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    assert before.history.history == model.history.history
    assert_same_future(copied(model), before)


class Copying(callbacks.Callback):
    """Copies the model wherever it is called."""

    def __init__(self, copied):
        super().__init__()
        self.copied, self.copies = copied, {}

    def on_train_begin(self, logs=None):
        self.copies["train_begin"] = self.copied(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.copies[batch] = self.copied(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.copies["epoch_end"] = self.copied(self.model)


@each_way
@pytest.mark.parametrize("optimizer", ["adam", ["sgd", "adam"]], ids=["one", "comparison"])
def test_while_training(optimizer, copied):
    model, copying = small_model(optimizer, metrics=["mae"]), Copying(copied)
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[copying], validation_data=(X, Y))
    if optimizer == "adam":
        other = copying.copies[0]
        other.train_on_batch(X[4:], Y[4:])
        assert_equal(other.get_weights(), model.get_weights())
    for other in copying.copies.values():
        other.fit(X, Y, verbose=0)
        assert np.isfinite(other.predict(X, verbose=0)).all()


def test_a_shallow_copy_shares_its_weights_and_nothing_it_makes_later():
    model = small_model()
    other = copy.copy(model)
    assert other.weights[0] is model.weights[0] and other.optimizer is model.optimizer
    other.add(layers.Dense(1))
    assert (len(other.layers), len(model.layers)) == (4, 3)
    assert other.predict(X, verbose=0).shape == (8, 1) and model.predict(X, verbose=0).shape == (8, 2)
    layer = layers.Dense(2)
    other = copy.copy(layer)
    other(X)
    layer(X[:, :2])
    assert other.kernel.shape == (3, 2) and layer.kernel.shape == (2, 2) and len(layer.weights) == 2


def test_what_compile_found_out_holds_no_data():
    class Doubling(minikeras.Model):
        def call(self, x):
            return x * 2.0

    model = Doubling()
    model.compile(loss="mse", metrics=["mae"])
    model.evaluate(np.ones((5000, 50)), np.ones((5000, 50)), batch_size=5000, verbose=0)
    assert len(pickle.dumps(model._compiled_loss)) < 5000


# ---------------------------------------------------------------- tensors, and what has no copy


@each_way
def test_tensors_are_copied_as_values(copied):
    variable = minikeras.Variable(X, name="v", trainable=False)
    other = copied(variable)
    other.assign_add(np.ones_like(X))
    assert (other.path, other.dtype, other.trainable) == ("v", "float32", False)
    assert_equal(variable.numpy(), X)
    source = minikeras.Variable(X)
    with minikeras.GradientTape() as tape:
        tensor = copied(source * 2)
    assert tape.gradient(tensor, source) is None
    assert_equal(tensor, X * 2)


def test_big_arrays_lie_apart_where_they_may():
    buffers = []
    text = pickle.dumps(minikeras.Variable(np.ones((300, 300), "f4")), 5, buffer_callback=buffers.append)
    assert len(text) < 2000 and [len(buffer.raw()) for buffer in buffers] == [360000]


@each_way
def test_refusals(copied):
    x = minikeras.Input((3,))
    with pytest.raises(TypeError, match=r"belongs to a graph of layers .* make a model of"):
        copied(layers.Dense(2)(x))
    with pytest.raises(TypeError, match="A GradientTape cannot be copied or pickled"):
        copied(minikeras.GradientTape())
    layer = layers.Dense(2)
    layer(X)
    layer.add_loss(lambda: ops.sum(layer.kernel))
    with pytest.raises(TypeError, match=r"cannot be copied or pickled, because the function .* add_loss"):
        copied(layer)
    assert copied(minikeras.KerasTensor((None, 3))).shape == (None, 3)  # a shape and a type alone


def test_a_lambda_needs_cloudpickle():
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)])
    model.compile("adam", lambda y, p: ops.mean(ops.square(y - p)), metrics=[lambda y, p: ops.mean(p)])
    model.train_on_batch(X, Y)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(model)
    assert_same_future(model, by_cloudpickle(model))


# ---------------------------------------------------------------- other processes

IN_MAIN = """
import pickle, sys
import cloudpickle, numpy as np, minikeras
from minikeras import layers, losses, metrics, ops, optimizers
from minikeras.autodiff.op import differentiable
from minikeras.declared import declared

@minikeras.saving.register_keras_serializable("mine")
class Weighted(layers.Layer):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.inner = units, layers.Dense(units)
    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
    def call(self, x):
        return ops.relu(x @ self.kernel) + self.inner(x)

@declared
class Scaled(layers.Layer):
    factor: float = 2.0
    def call(self, x):
        return x * self.factor

class Squares(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 2, axis=-1)

class Total(metrics.Metric):
    def __init__(self, name="total", **options):
        super().__init__(name=name, **options)
        self.total = self.add_weight(name="total", initializer="zeros")
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(ops.sum(y_pred))
    def result(self):
        return self.total

class Momentum(optimizers.Optimizer):
    def build(self, variables):
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
    def update_step(self, gradient, variable, learning_rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        self.assign(velocity, velocity * 0.9 + gradient)
        self.assign_sub(variable, velocity * learning_rate)

class Shift(minikeras.Operation):
    def __init__(self, by, name=None):
        super().__init__(name=name)
        self.by = by
    def call(self, x):
        return x + self.by

@ops.custom_gradient
def softplus(x):
    e = ops.exp(x)
    return ops.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))

@differentiable(shape=lambda x: x.shape)
def twice(x):
    return x * 2, lambda g, needs: (g * 2,)

class Net(minikeras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [Weighted(4), Scaled(3.0), layers.Dropout(0.5), layers.Lambda(lambda x: x * 2), layers.Dense(2)]
    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x

x = minikeras.Input((3,))
h = layers.Dense(4, activation=softplus)(Shift(1.5)(Scaled(2.0)(twice(x))))
X, Y = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3), np.ones((8, 2), "f4")
for model in (Net(), minikeras.Model(x, layers.Dense(2)(h))):
    model.compile(Momentum(0.01), Squares(), metrics=[Total(), lambda y, p: ops.mean(p)])
    model.fit(X, Y, verbose=0)
    data = cloudpickle.dumps(model)
    pickle.dump((data, X, Y, model.train_on_batch(X, Y), model.predict(X, verbose=0)), sys.stdout.buffer)
"""


def test_what_a_script_defines_reaches_another_process():
    """Classes, operations and lambdas of a `__main__` that the reading process does not have."""
    written = subprocess.run([sys.executable, "-c", IN_MAIN], capture_output=True, check=True).stdout
    file = io.BytesIO(written)
    for _ in range(2):
        data, x, y, logs, prediction = pickle.load(file)
        model = pickle.loads(data)
        assert_from_another_process(model.train_on_batch(x, y), logs)
        assert_from_another_process(model.predict(x, verbose=0), prediction)
        assert_same_future(by_cloudpickle(model), copy.deepcopy(model), x, y)


def _continue(model, results):
    with minikeras.GradientTape() as tape:
        loss = ops.sum(model(X))
    assert all(one is not None for one in tape.gradient(loss, model.trainable_weights))
    later = layers.Dense(2)
    later(X)
    ordered = later.kernel.number > max(weight.number for weight in model.weights)
    results.put((model.train_on_batch(X, Y), model.predict(X, verbose=0), ordered))


def test_a_started_process_goes_on_as_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    model = small_model()
    model.fit(X, Y, batch_size=2, epochs=20, verbose=0)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_continue, args=(model, results))
    process.start()
    logs, prediction, ordered = results.get(timeout=60)
    process.join()
    assert ordered
    assert_from_another_process(logs, model.train_on_batch(X, Y))
    assert_from_another_process(prediction, model.predict(X, verbose=0))


def test_joblib_predicts_in_processes():
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)])
    predict = joblib.delayed(lambda model, x: model.predict(x, verbose=0))
    parts = joblib.Parallel(n_jobs=2, backend="loky")(predict(model, part) for part in (X[:4], X[4:]))
    assert np.array_equal(np.concatenate(parts), model.predict(X, batch_size=4, verbose=0))
