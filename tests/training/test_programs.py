"""Steps that are programs leave the bits that the layers leave, for every model, whatever changes between steps."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import minikeras as keras
from minikeras import constraints, layers, losses, metrics, ops, optimizers, regularizers
from minikeras import kernels as k
from minikeras.autodiff import tape
from minikeras.training import programs

pytestmark = pytest.mark.skipif(k.active_device() == "numpy", reason="NumPy has no programs")
ON_CPU = k.active_device() == "cpu"
on_the_cpu = pytest.mark.skipif(not ON_CPU, reason="it asks for what arrays or machine code of the host do")
refuses = pytest.mark.skipif(not ON_CPU, reason="kernels of a GPU refuse no values")
RNG = np.random.default_rng(11)
READY = 5 if ON_CPU else 6  # steps on batches of one shape after which a program is in use; a GPU's may be put off


def entries(model, kind):
    return [entry for key, entry in model._programs._entries.items() if key[0] == kind]


def is_native(model, kind="train"):
    return [entry.program is not None and entry.program.is_native for entry in entries(model, kind)]


def reasons(model, kind="train"):
    return [entry.reason for entry in entries(model, kind)]


def twins(make):
    """The same model twice: one whose steps become programs, one whose steps never do."""
    pair = []
    for jit_compile in ("auto", False):
        keras.utils.set_random_seed(5)
        pair.append(make(jit_compile))
    return pair


def state(model):
    """Everything that steps change."""
    found = [*model.weights, *model.optimizer.variables]
    found += [variable for metric in model.metrics for variable in metric.variables]
    streams = [stream.state for stream in model._contents().streams]
    return [variable.numpy().tobytes() for variable in found], streams


def assert_same(first, second):
    assert state(first) == state(second)


def mlp(jit_compile, optimizer="adam", loss="mse", activation="relu", units=3, **compiled):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation=activation), layers.Dropout(0.3), layers.Dense(units)]
    )
    model.compile(optimizer, loss, jit_compile=jit_compile, **compiled)
    return model


X = RNG.normal(size=(50, 4)).astype("f4")
Y = RNG.normal(size=(50, 3)).astype("f4")


# ---------------------------------------------------------------- what is recorded, and when


def test_the_fifth_step_is_a_program_and_many_steps_are_one_call():
    trained(mlp, X[:8], Y[:8], "auto")  # a GPU's kernels are loaded, which puts a recording off
    first, second = twins(mlp)
    for step in range(8):
        logs = [model.train_on_batch(X[:8], Y[:8]) for model in (first, second)]
        assert logs[0] == logs[1]
        assert_same(first, second)
        assert is_native(first) == [step >= 3]
    histories = []
    for model in (first, second):
        keras.utils.set_random_seed(7)
        histories.append(model.fit(X, Y, batch_size=8, epochs=6, verbose=0, validation_data=(X, Y)).history)
    assert histories[0] == histories[1]
    assert_same(first, second)
    assert is_native(first) == [True, True] and is_native(first, "test") == [True, True]
    assert not any(is_native(second))
    np.testing.assert_array_equal(first.predict(X, batch_size=7, verbose=0), second.predict(X, batch_size=7, verbose=0))


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Adam": lambda: optimizers.Adam(0.01, global_clipnorm=0.5),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True, clipvalue=0.1),
    "AdamW": lambda: optimizers.AdamW(0.01, use_ema=True),
    "Nadam": lambda: optimizers.Nadam(0.01, clipnorm=0.3),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "Ftrl": lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    "Lion": lambda: optimizers.Lion(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 20, warmup_steps=5, warmup_target=0.2)),
    "steps of a schedule": lambda: optimizers.Adam(
        optimizers.schedules.PiecewiseConstantDecay([3, 9, 11], [0.1, 0.03, 0.01, 0.003])
    ),
    "decay": lambda: optimizers.SGD(0.1, decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_and_schedules(name):
    first, second = twins(lambda jit: mlp(jit, OPTIMIZERS[name]()))
    for model in (first, second):
        keras.utils.set_random_seed(7)
        model.fit(X, Y, batch_size=8, epochs=5, verbose=0)
    assert_same(first, second)
    assert is_native(first) == [True, True]


ACCUMULATING = {
    "Adam": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=3, global_clipnorm=0.5, use_ema=True),
    "Nadam": lambda: optimizers.Nadam(
        optimizers.schedules.CosineDecay(0.1, 50), gradient_accumulation_steps=4, weight_decay=0.01
    ),
    "two": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2), {".*bias": optimizers.Adam(0.1)}
        )
    ),
}


@pytest.mark.parametrize("name", ACCUMULATING)
def test_accumulated_gradients(name):
    first, second = twins(lambda jit: mlp(jit, ACCUMULATING[name]()))
    for model in (first, second):
        keras.utils.set_random_seed(7)
        model.fit(X[:48], Y[:48], batch_size=8, epochs=5, verbose=0)
    assert_same(first, second)
    assert is_native(first) == [True]
    for step in range(5):
        for model in (first, second):
            model.train_on_batch(X[step : step + 8], Y[step : step + 8])
        assert_same(first, second)
    for model in (first, second):
        model.fit(X[:48], Y[:48], batch_size=8, epochs=2, verbose=0, shuffle=False)
    assert_same(first, second)


def test_accumulated_gradients_of_some_of_the_weights():
    def make(jit):
        inputs = keras.Input((4,))
        x = layers.Dense(6, activation="relu")(inputs)
        model = keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(2)(x)])
        model.compile(ACCUMULATING["Adam"](), ["mse", None], jit_compile=jit)
        return model

    first, second = twins(make)
    for _ in range(12):
        for model in (first, second):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the second output has no loss
                model.train_on_batch(X[:8], [Y[:8], Y[:8, :2]])
        assert_same(first, second)
    assert is_native(first) == [True], reasons(first)


SCALING = {
    "Adam": (lambda: optimizers.Adam(0.01, clipnorm=0.5), 1024.0, 2000),
    "overflow at first": (lambda: optimizers.SGD(0.1, momentum=0.9), 2.0**30, 2000),
    "overflow again and again": (lambda: optimizers.Nadam(0.01), 2.0**15, 3),
    "accumulating": (lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2), 2.0**16, 5),
}


@pytest.mark.parametrize("name", SCALING)
def test_mixed_precision(name):
    make, scale, growth = SCALING[name]

    def scaled(jit):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dropout(0.3)])
        model.add(layers.BatchNormalization())
        model.add(layers.Dense(3, dtype="float32"))
        model.compile(optimizers.LossScaleOptimizer(make(), scale, growth), "mse", jit_compile=jit, metrics=["mae"])
        return model

    keras.config.set_dtype_policy("mixed_float16")
    try:
        first, second = twins(scaled)
        for model in (first, second):
            keras.utils.set_random_seed(7)
            history = model.fit(X[:48], Y[:48], batch_size=8, epochs=20, verbose=0).history
        assert_same(first, second)
        assert is_native(first) == [True] and entries(first, "train")[0].uses > 60
        assert first.history.history == history
        for step in range(8):
            for model in (first, second):
                model.train_on_batch(X[step : step + 8], Y[step : step + 8])
            assert_same(first, second)
    finally:
        keras.config.set_dtype_policy("float32")
    updates = int(first.optimizer.iterations)
    assert (updates < 128) == (name != "Adam")


LOSSES = [
    *("mse", "mae", "huber", "log_cosh", "poisson", "kl_divergence", "hinge", "squared_hinge", "binary_crossentropy"),
    *(
        "categorical_crossentropy",
        "cosine_similarity",
        "categorical_hinge",
        "mape",
        "msle",
        *("binary_focal_crossentropy", "categorical_focal_crossentropy", "dice", "tversky"),
    ),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    y = np.abs(Y) / np.abs(Y).sum(-1, keepdims=True)
    first, second = twins(lambda jit: mlp(jit, "sgd", loss, metrics=["mse"], weighted_metrics=["mae"]))
    weights = RNG.uniform(size=50).astype("f4")
    for model in (first, second):
        keras.utils.set_random_seed(7)
        model.fit(X, y, batch_size=10, epochs=3, verbose=0, sample_weight=weights)
    assert_same(first, second)
    assert is_native(first) == [True]


METRICS = [
    *("accuracy", "binary_accuracy", "categorical_accuracy", "top_k_categorical_accuracy", "mse", "mae", "hinge"),
    *("cosine_similarity", "kl_divergence", "categorical_crossentropy"),
]


@pytest.mark.parametrize("metric", [*METRICS, metrics.AUC, metrics.Precision, metrics.Recall, metrics.R2Score])
def test_metrics(metric):
    y = np.eye(3, dtype="f4")[RNG.integers(0, 3, 50)]

    def make(jit):
        return mlp(jit, "sgd", "mse", "sigmoid", metrics=[metric if isinstance(metric, str) else metric(name="it")])

    first, second = twins(make)
    for model in (first, second):
        keras.utils.set_random_seed(7)
        history = model.fit(X, y, batch_size=10, epochs=3, verbose=0).history
    assert_same(first, second)
    assert history.keys() == first.history.history.keys()


def test_labels_of_every_type_and_class_weights():
    for dtype in ("uint8", "int32", "int64", "float32"):
        y = RNG.integers(0, 3, 50).astype(dtype)
        first, second = twins(lambda jit: mlp(jit, "adam", losses.SparseCategoricalCrossentropy(from_logits=True)))
        for model in (first, second):
            keras.utils.set_random_seed(7)
            model.fit(X, y, batch_size=10, epochs=3, verbose=0, class_weight={0: 2.0, 1: 0.5})
        assert_same(first, second)
        assert is_native(first) == [True]


def norms(inputs):
    x = layers.BatchNormalization()(layers.Dense(8)(inputs))
    x = layers.LayerNormalization()(layers.Activation("gelu")(x))
    return layers.Dense(3)(layers.Add()([x, layers.Dense(8, activation="silu")(inputs)]))


def convolutions(inputs):
    x = layers.Reshape((2, 2, 1))(inputs)
    x = layers.Conv2D(4, 2, padding="same", activation="relu")(x)
    x = layers.SeparableConv2D(4, 2, padding="same", activation="elu")(x)
    return layers.Dense(3)(layers.Flatten()(layers.MaxPooling2D()(layers.BatchNormalization()(x))))


def channels_first(inputs):
    first = {"data_format": "channels_first"}
    x = layers.Conv2D(4, 2, padding="same", **first)(layers.Reshape((1, 2, 2))(inputs))
    x = layers.DepthwiseConv2D(2, padding="same", **first)(x)
    return layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(**first)(x)))


def recurrences(inputs):
    x = layers.Reshape((2, 2))(inputs)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(layers.Masking()(x))
    return layers.Dense(3)(layers.LSTM(4, dropout=0.2, recurrent_dropout=0.1)(x))


def attention(inputs):
    x = layers.Dense(4)(layers.Reshape((2, 2))(inputs)) + ops.arange(8, dtype="float32").reshape((2, 4))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 2)(x, x))
    x = layers.MultiHeadAttention(2, 2)(x, layers.Reshape((2, 2))(inputs))
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


def penalties(inputs):
    l2 = regularizers.L2(0.01)
    x = layers.Dense(5, kernel_regularizer=l2, bias_regularizer="l1", kernel_constraint="max_norm")(inputs)
    return layers.Dense(3, kernel_regularizer=regularizers.L1L2(0.01, 0.02), kernel_constraint="unit_norm")(x)


@pytest.mark.parametrize("body", [norms, convolutions, channels_first, recurrences, attention, penalties])
def test_models(body):
    def make(jit):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, body(inputs))
        model.compile("adam", "mse", metrics=["mae"], jit_compile=jit)
        return model

    first, second = twins(make)
    for model in (first, second):
        keras.utils.set_random_seed(7)
        model.fit(X, Y, batch_size=10, epochs=3, verbose=0)
    assert_same(first, second)
    assert is_native(first) == [True], reasons(first)
    np.testing.assert_array_equal(first.predict(X, verbose=0), second.predict(X, verbose=0))
    assert first.evaluate(X, Y, verbose=0) == second.evaluate(X, Y, verbose=0)


def test_masks_of_a_recurrent_layers_dropout_are_no_part_of_the_tree():
    model = keras.Sequential([keras.Input((2, 2)), layers.LSTM(3, dropout=0.2, recurrent_dropout=0.1)])
    model.compile("sgd", "mse")
    for _ in range(READY):
        model.train_on_batch(X[:8].reshape(8, 2, 2), Y[:8])
    assert is_native(model) == [True], reasons(model)


def test_several_inputs_and_outputs_with_weights_of_losses():
    def make(jit):
        a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
        x = layers.Dense(5, activation="tanh")(layers.Concatenate()([a, b]))
        model = keras.Model({"a": a, "b": b}, {"c": layers.Dense(3, name="c")(x), "d": layers.Dense(1, name="d")(x)})
        model.compile(
            "adam", {"c": "mse", "d": "mae"}, loss_weights={"c": 0.5, "d": 2.0}, metrics={"c": ["mae"]}, jit_compile=jit
        )
        return model

    first, second = twins(make)
    inputs, targets = {"a": X, "b": X[:, :2].copy()}, {"c": Y, "d": Y[:, :1].copy()}
    histories = []
    for model in (first, second):
        keras.utils.set_random_seed(7)
        histories.append(model.fit(inputs, targets, batch_size=10, epochs=4, verbose=0).history)
    assert histories[0] == histories[1]
    assert_same(first, second)
    assert [entry.program is not None for entry in entries(first, "train")] == [True]
    for model in (first, second):
        histories.append(model.predict(inputs, batch_size=10, verbose=0))
    for name in targets:
        np.testing.assert_array_equal(histories[2][name], histories[3][name])


# ---------------------------------------------------------------- what changes between steps is noticed


def freeze(model):
    model.layers[0].trainable = not model.layers[0].trainable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile(model.optimizer.__class__(), "mse", jit_compile=model.jit_compile)


def assign(model):
    model.set_weights([0.5 * weight for weight in model.get_weights()])


def rebind(model):
    model.layers[-1].bias.data = model.layers[-1].bias.data.copy()


CHANGES = {
    "rate": lambda model: setattr(model.optimizer, "learning_rate", 0.05),
    "epsilon": lambda model: setattr(model.optimizer, "epsilon", 1e-3),
    "clipping": lambda model: setattr(model.optimizer, "clipvalue", 0.05),
    "activation": lambda model: setattr(model.layers[0], "activation", keras.activations.tanh),
    "dropout": lambda model: setattr(model.layers[1], "rate", 0.6),
    "seed": lambda model: setattr(model.layers[1].seed_generator, "state", (99, 0)),
    "regularizer": lambda model: setattr(model.layers[-1].kernel, "regularizer", regularizers.L2(0.1)),
    "constraint": lambda model: setattr(model.layers[0].kernel, "constraint", constraints.MaxNorm(0.5)),
    "another constraint": lambda model: setattr(model.layers[0].kernel, "constraint", constraints.NonNeg()),
    "another regularizer": lambda model: setattr(model.layers[-1].kernel, "regularizer", regularizers.L2(0.5)),
    "compile": lambda model: model.compile("sgd", "mae", jit_compile=model.jit_compile),
    "frozen": freeze,
    "weights": assign,
    "an array": rebind,
    "the step": lambda model: setattr(model.optimizer, "iterations", model.optimizer.iterations) or None,
    "the count": lambda model: model.optimizer.iterations.assign(100),
    "nothing": lambda model: None,
    "a batch": lambda model: model.train_on_batch(X[:5], Y[:5]),
    "predict": lambda model: model.predict_on_batch(X[:8]),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "fit": lambda model: (keras.utils.set_random_seed(3), model.fit(X, Y, batch_size=8, epochs=1, verbose=0)),
}
CHANGES.pop("the step")


@example([("constraint", READY), ("another constraint", 1)])
@example([("regularizer", READY), ("another regularizer", 1)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(1, 6)), min_size=1, max_size=6))
def test_changes_between_steps(changes):
    first, second = twins(mlp)
    for name, steps in [("nothing", READY), *changes]:
        for model in (first, second):
            CHANGES[name](model)
        for _ in range(steps):
            assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
        assert_same(first, second)


def test_what_is_tried_before_training_is_tried_with_programs_too():
    model = mlp("auto")
    for epochs in (1, 4):
        model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, validation_data=(X, Y))
    assert is_native(model) == [True, True]
    before = state(model)
    with pytest.raises(ValueError):
        model.fit(X, Y, batch_size=8, verbose=0, validation_data=(X, Y[:, :2]))
    assert state(model) == before
    with pytest.warns(UserWarning, match="nothing"):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[keras.callbacks.EarlyStopping("nothing", mode="min")])
    uses = entries(model, "train")[0].uses
    model.fit(X[:8], Y[:8], batch_size=8, verbose=0)  # there is nothing to try but the step
    assert entries(model, "train")[0].uses == uses + 1


def test_a_callback_that_changes_the_rate_and_one_that_stops():
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) / 2
            if epoch == 4:
                self.model.stop_training = True

    first, second = twins(mlp)
    for model in (first, second):
        keras.utils.set_random_seed(7)
        model.fit(X, Y, batch_size=8, epochs=9, verbose=0, callbacks=[Halve()])
        assert int(model.optimizer.iterations) == 35
    assert_same(first, second)


def test_batch_hooks_are_called_for_each_batch_or_each_execution():
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            seen.append(("end", batch, logs["loss"]))

    alone, together = twins(mlp)
    for model in (alone, together):
        keras.utils.set_random_seed(7)
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[Seen()])
    half = len(seen) // 2
    assert seen[:half] == seen[half:] and half == 3 * 7 * 2
    seen.clear()
    many, one = twins(lambda jit: mlp(jit, steps_per_execution=3))
    for model in (many, one):
        keras.utils.set_random_seed(7)
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[Seen()])
    half = len(seen) // 2
    assert seen[:half] == seen[half:]
    assert [call[:2] for call in seen[:6]] == [
        ("begin", 0),
        ("end", 2),
        ("begin", 3),
        ("end", 5),
        ("begin", 6),
        ("end", 6),
    ]
    assert_same(many, one)


@pytest.mark.parametrize("steps", [1, 3])
def test_callbacks_are_told_what_an_execution_predicts(steps):
    class Told(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            found.append(np.asarray(logs["outputs"]))

    for model in twins(lambda jit: mlp(jit, steps_per_execution=steps)):
        for _ in range(3):
            found: list[np.ndarray] = []
            predicted = model.predict(X, batch_size=8, verbose=0, callbacks=[Told()])
            assert [len(one) for one in found] == ([8] * 6 + [2] if steps == 1 else [24, 24, 2])
            np.testing.assert_array_equal(np.concatenate(found), predicted)


# ---------------------------------------------------------------- what is not recorded, and why


class Counting(layers.Layer):
    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs * 2.0


def counting(jit_compile):
    model = keras.Sequential([keras.Input((4,)), Counting(), layers.Dense(3)])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    return model


def test_users_code_runs_in_every_step_unless_it_is_asked_for():
    model = counting("auto")
    before = model.layers[0].calls
    model.fit(X, Y, batch_size=10, epochs=4, verbose=0)
    assert model.layers[0].calls >= before + 20
    assert reasons(model) == ["Counting 'counting' may run Python code that a program would not"]
    compiled = counting(True)
    compiled.fit(X, Y, batch_size=10, epochs=4, verbose=0)
    model.fit(X, Y, batch_size=10, epochs=1, verbose=0)
    calls = compiled.layers[0].calls
    compiled.fit(X, Y, batch_size=10, epochs=4, verbose=0)
    assert compiled.layers[0].calls == calls and entries(compiled, "train")[0].program is not None


@pytest.mark.parametrize("why", ["a value", "the shape", "no tensor", "a number", "an assignment", "the step"])
def test_what_spoils_a_recording_of_users_code(why):
    anneal = keras.Variable(0.5)  # nobody's, as those that callbacks change

    class Looking(layers.Layer):
        def call(self, inputs):
            if why == "a number":
                return inputs * float(anneal)
            if why == "an assignment":
                anneal.assign_add(1.0)
            if why == "the step" and int(model.optimizer.iterations) > 20:
                return inputs * 2.0
            if why == "a value" and float(ops.sum(inputs)) > 1e9:
                return inputs
            if why == "the shape":
                return ops.reshape(ops.sum(ops.nonzero(inputs)[0]), (1, 1)) * 0.0 + inputs
            if why == "no tensor":
                return inputs * np.asarray(np.random.default_rng(0).normal(size=4), "f4")
            return inputs

    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    model.compile("sgd", "mse", jit_compile=True)
    model.add(Looking())
    model.add(layers.Dense(3))
    for _ in range(6):
        model.train_on_batch(X[:8], Y[:8])
    assert reasons(model)[0] is not None and not any(is_native(model))


def test_other_reasons():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, data):
            return super().train_step(data)

    def loss(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), -1)

    def function(model, **compiled):
        model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
        for _ in range(3):
            model.train_on_batch(X[:8], Y[:8])
        return reasons(model)[0]

    def sequential():
        return keras.Sequential([keras.Input((4,)), layers.Dense(3)])

    class Users(layers.Layer):
        def call(self, inputs):
            return inputs

    inputs = keras.Input((4,))
    with_loss = keras.Model(inputs, layers.Dense(3)(inputs))
    with_loss.add_loss(ops.sum(Users(name="users")(inputs)))

    assert function(with_loss) == "Users 'users' may run Python code that a program would not"
    assert function(Own()) == "train_step is not the built-in one"
    assert function(sequential(), loss=loss) == "the function 'loss' is not built in"
    assert function(sequential(), run_eagerly=True) == "the model is compiled with run_eagerly=True"
    assert function(sequential(), optimizer=optimizers.SGD(lambda: 0.1)) == "the function '<lambda>' is not built in"


class Distance(metrics.Metric):
    """A user's metric."""

    def __init__(self):
        super().__init__(name="distance")
        self.total, self.count = (self.add_weight(name=name, initializer="zeros") for name in ("total", "count"))

    def update_state(self, y_true, y_pred, sample_weight=None):
        distances = ops.sqrt(ops.sum(ops.square(y_true - y_pred), axis=-1))
        self.total.assign_add(ops.sum(distances if sample_weight is None else distances * sample_weight))
        self.count.assign_add(ops.cast(ops.size(distances), "float32"))

    def result(self):
        return self.total / self.count


class Halved(regularizers.Regularizer):
    """A user's regularizer."""

    def __call__(self, x):
        return 0.5 * ops.sum(ops.abs(x))


def squared(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def largest(y_true, y_pred):
    return ops.max(ops.abs(y_true - y_pred), axis=-1)


def trained(make, x, y, jit_compile, steps=7, sample_weight=None):
    """A model whose steps may be programs, which has the bits of one whose steps never are."""
    pair = []
    for jit in (jit_compile, False):
        keras.utils.set_random_seed(5)
        pair.append(make(jit))
        for step in range(steps):
            batch = x if x.dtype.kind != "f" else x * np.float32(1 - 0.01 * step)
            pair[-1].train_on_batch(batch, y, sample_weight)
    assert_same(*pair)
    return pair[0]


def test_losses_metrics_and_regularizers_of_users_are_recorded_where_all_code_is():
    def make(jit):
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, kernel_regularizer=Halved(), activity_regularizer=Halved())]
        )
        model.add(layers.Dense(3))
        model.compile("adam", squared, metrics=[largest], weighted_metrics=[Distance()], jit_compile=jit)
        return model

    weights = np.linspace(0, 1, 8, dtype="f4")
    model = trained(make, X[:8], Y[:8], True, sample_weight=weights)
    assert is_native(model) == [True]
    for _ in range(6):
        model.test_on_batch(X[:8], Y[:8], weights)
    assert is_native(model, "test") == [True]
    assert not any(is_native(trained(make, X[:8], Y[:8], "auto")))


@on_the_cpu
def test_a_metric_that_reads_targets_is_not_recorded():
    class Reading(Distance):
        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(float(np.asarray(y_true)[0, 0]))

    model = trained(lambda jit: mlp(jit, loss="mse", metrics=[Reading()]), X[:8], Y[:8], True)
    assert reasons(model) == ["Python reads a value"]


class Coder(keras.Model):
    """A model with steps and logs of its own, whose `call` no step uses."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="tanh")])
        self.decoder = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
        self.noise = keras.random.SeedGenerator(3)
        self.tracker = metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def loss_of(self, x):
        mean, log_variance = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(mean), seed=self.noise)
        error = ops.square(x - self.decoder(mean + ops.exp(0.5 * log_variance) * noise))
        divergence = -0.5 * (1 + log_variance - ops.square(mean) - ops.exp(log_variance))
        return ops.mean(ops.sum(error, axis=-1)) + ops.mean(ops.sum(divergence, axis=-1))

    def train_step(self, data):
        with keras.GradientTape() as tape:
            loss = self.loss_of(data[0])
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result(), "parts": {"last": loss}}

    def test_step(self, data):
        loss = self.loss_of(data[0])
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result(), "last": loss}


def test_steps_of_users_are_recorded_where_all_code_is():
    found = []
    for jit in (True, False):
        keras.utils.set_random_seed(5)
        model = Coder()
        model.compile("adam", jit_compile=jit)
        logs = [model.fit(X, X, batch_size=10, epochs=4, shuffle=False, verbose=0).history]
        logs += [model.train_on_batch(X[:10], X[:10], return_dict=True) for _ in range(3)]
        logs += [model.evaluate(X, X, batch_size=10, verbose=0, return_dict=True) for _ in range(3)]
        found.append((model, logs))
    (first, logs), (second, wanted) = found
    assert logs == wanted and {"loss", "last"} <= logs[0].keys()
    assert_same(first, second)
    assert is_native(first) == [True] and is_native(first, "test") == [True]


def test_variables_that_layers_assign_are_part_of_a_program():
    class Counting(layers.Layer):
        def build(self, input_shape):
            self.calls = self.add_weight("calls", (), initializer="zeros", trainable=False)
            self.mean = self.add_weight("mean", (4,), initializer="zeros", trainable=False)

        def call(self, inputs, training=False):
            if training:
                self.calls.assign_add(1.0)
                self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(inputs, axis=0))
            return inputs - self.mean

    def make(jit):
        model = keras.Sequential([keras.Input((4,)), Counting(), layers.Dense(3)])
        model.compile("adam", "mse", jit_compile=jit)
        model.fit(X, Y, batch_size=16, epochs=8, verbose=0, shuffle=False)
        return model

    model = trained(make, X[:16], Y[:16], True)
    assert is_native(model) == [True, True]
    assert float(model.layers[0].calls) == 39


def test_types_that_are_equal_and_another_object():
    other = np.dtype("float32", metadata={"unit": "m"})
    assert other == np.dtype("float32") and other is not np.dtype("float32")

    class Summing(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y_pred)) + ops.mean(y_pred)

    def make(jit):
        tape._ones.cache_clear()  # of the gradients at losses, that begin the backward pass
        tape._ones(np, (), other)
        model = Summing([keras.Input((4,)), layers.Dense(3)])
        model.compile("sgd", jit_compile=jit)
        return model

    assert is_native(trained(make, X[:8], Y[:8], True)) == [True]


def test_a_nested_gradient_of_a_user_is_recorded():
    class Smooth(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            x = ops.convert_to_tensor(x)
            with keras.GradientTape() as tape:
                tape.watch(x)
                outputs = self(x)
            return ops.mean(ops.square(tape.gradient(outputs, x))) + ops.mean(ops.square(y - y_pred))

    def make(jit):
        inputs = keras.Input((4,))
        model = Smooth(inputs, layers.Dense(3)(layers.Dense(6, activation="tanh")(inputs)))
        model.compile("adam", jit_compile=jit)
        return model

    model = trained(make, X[:8], Y[:8], True)
    assert reasons(model) == [None] and is_native(model) == [True]


@on_the_cpu
def test_a_step_that_looks_at_targets_unnoticed_is_found_out():
    class Looking(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return super().compute_loss(x, y, y_pred, sample_weight, training) * float(np.asarray(y).max() > 0)

    def make(jit):
        model = Looking([keras.Input((4,)), layers.Dense(3)])
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    assert reasons(trained(make, X[:8], Y[:8], True)) == ["the program and the layers do not give the same bits"]


@pytest.mark.parametrize("made", [3.0, np.float32(3)])
def test_logs_of_users_that_are_no_tensors_are_not_recorded(made):
    class Plain(keras.Sequential):
        def train_step(self, data):
            super().train_step(data)
            return {"number": made}

    def make(jit):
        model = Plain([keras.Input((4,)), layers.Dense(3)])
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    model = trained(make, X[:8], Y[:8], True)
    assert reasons(model) == ["the logs of the step are no tensors that layers computed, or they carry a mask"]


class WithPositions(layers.Layer):
    """A user's layer that makes arrays of numbers in each call, and reads some that it has."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(12, 4)
        self.table = np.arange(12, dtype="float32")[::-1]

    def call(self, inputs):
        batch, length = ops.shape(inputs)[:2]
        rows, columns = ops.arange(length)[:, None], ops.arange(length)
        causal = ops.cast(ops.reshape(rows >= columns, (1, length, length)), "float32")
        causal = ops.tile(causal, ops.concatenate([ops.expand_dims(batch, -1), ops.convert_to_tensor([1, 1])], axis=0))
        mixed = ops.matmul(causal, inputs) + self.embedding(columns) * ops.ones((4,)) + ops.linspace(0.0, 1.0, 4)
        return mixed * self.table[:length, None] + ops.take(inputs, [0, 0, 1, 3], axis=-1)


@on_the_cpu
def test_arrays_that_users_make_of_numbers_are_constants_of_a_program():
    def make(jit):
        layer = WithPositions()
        model = keras.Sequential([keras.Input((12, 4)), layer, layers.Dense(3), layers.GlobalMaxPooling1D()])
        model.compile("adam", "mse", jit_compile=jit)
        return model

    x = RNG.normal(size=(8, 12, 4)).astype("f4")
    model = trained(make, x, Y[:8], True)
    assert is_native(model) == [True]
    other = make(False)
    other.set_weights(model.get_weights())
    for one in (model, other):
        one.compile("sgd", "mse", jit_compile=one.jit_compile)
        for _ in range(6):
            one.train_on_batch(x, Y[:8])
        one.layers[0].table[3] = 7.0  # memory that the program reads
        one.train_on_batch(x, Y[:8])
    assert model.program().steps == 3
    assert_same(model, other)


EDGES = np.array([[0, 3, 3, 7, 5], [1, 2, 0, 6, 4]])
OF_LAYERS = {
    "one_hot": lambda x: x * ops.one_hot(ops.argmax(x, axis=-1), 4),
    "argmin": lambda x: x * ops.cast(ops.argmin(x, axis=-1, keepdims=True), "float32"),
    "take": lambda x: ops.take(x, [3, 0, -1], axis=-1),
    "take_along_axis": lambda x: ops.take_along_axis(x, ops.argmax(x, axis=1, keepdims=True), axis=1),
    "softmax": lambda x: ops.softmax(x, axis=0) + ops.log_softmax(x, axis=0),
    "cast": lambda x: x * ops.cast(ops.cast(x, "int32") % 3, "float32"),
    "segment_sum": lambda x: ops.segment_sum(ops.take(x, EDGES[1], axis=0), EDGES[0], num_segments=8),
    "slice": lambda x: ops.sigmoid(x[:, 1:]) * ops.gelu(x[..., ::-1][:, :3]),
    "norm": lambda x: x / ops.norm(x, axis=-1, keepdims=True),
    "array": lambda x: x * WEIGHTS,
}
WEIGHTS = np.linspace(0, 1, 4, dtype="f4")


@pytest.mark.parametrize("name", OF_LAYERS)
def test_operations_of_users_layers_are_native(name):
    class Own(layers.Layer):
        def call(self, inputs):
            return OF_LAYERS[name](inputs)

    def make(jit):
        model = keras.Sequential([keras.Input((4,), batch_size=8), layers.Dense(4), Own(), layers.Dense(3)])
        model.compile("adam", "mse", jit_compile=jit)
        return model

    model = trained(make, X[:8], Y[:8], True)
    if not ON_CPU and name in ("array", "segment_sum"):  # which moves to the device in every step
        assert "comes from Python code" in reasons(model)[0]
    else:
        assert reasons(model) == [None] and is_native(model) == [True]


@refuses
def test_categories_within_a_model_are_native_and_refuse_others():
    def make(jit):
        model = keras.Sequential(
            [keras.Input((1,)), layers.CategoryEncoding(5, output_mode="one_hot"), layers.Dense(3)]
        )
        model.compile("adam", "mse", jit_compile=jit)
        return model

    numbers = RNG.integers(0, 5, (8, 1))
    model = trained(make, numbers, Y[:8], "auto")
    assert is_native(model) == [True]
    before = [variable.numpy().tobytes() for variable in model.weights]
    with pytest.raises(ValueError, match="from 0 to 4, got 5"):
        model.train_on_batch(np.full((8, 1), 5), Y[:8])
    assert [variable.numpy().tobytes() for variable in model.weights] == before


@refuses
def test_positions_of_an_open_length():
    """The table may be shorter than the lengths that open dimensions are tried out with."""

    class Positions(layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = layers.Embedding(10, 4)

        def call(self, inputs):
            return inputs + self.table(ops.arange(ops.shape(inputs)[1]))

    inputs = keras.Input((None, 4))
    outputs = Positions()(inputs)
    assert outputs.shape == (None, None, 4)
    model = keras.Model(inputs, outputs)
    assert model(np.zeros((2, 10, 4), "f4")).shape == (2, 10, 4)
    with pytest.raises(IndexError, match="10 rows"):
        model(np.zeros((2, 11, 4), "f4"))


@on_the_cpu
@pytest.mark.parametrize("kind", ["drawn", "counted"])
def test_arrays_that_are_others_in_each_step_are_not_recorded(kind):
    class Changing(layers.Layer):
        steps = 0

        def call(self, inputs):
            self.steps += 1
            number = np.full(4, self.steps, "f4") if kind == "drawn" else ops.full((4,), float(self.steps))
            return inputs * number

    def make(jit):
        model = keras.Sequential([keras.Input((4,)), Changing(), layers.Dense(3)])
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    model = trained(make, X[:8], Y[:8], True, steps=9)
    changing = "a number that kernels are given is another one in each step"
    found = "an array of shape (4,) and type float32 comes from Python code" if kind == "drawn" else changing
    assert reasons(model) == [found]


def test_what_users_put_in_the_place_of_built_in_parts_runs_in_every_step():
    def with_losses(jit):
        model = mlp(jit, "sgd")
        total = model.weights[0]
        cls = type("Own", (keras.Sequential,), {"losses": property(lambda self: [0.1 * ops.sum(ops.square(total))])})
        model.__class__ = cls
        return model

    def with_trainable(jit):
        model = mlp(jit, "sgd")
        odd = property(lambda self: self.layers[int(self.optimizer.iterations) % 2 * 2].trainable_weights)
        model.__class__ = type("Own", (keras.Sequential,), {"trainable_variables": odd})
        model.optimizer.build(model.weights)
        return model

    def with_loss(jit):
        loss, calls = losses.MeanSquaredError(), []
        loss.call = lambda y_true, y_pred: calls.append(1) or ops.mean(y_true - y_pred, -1) * float(1 + len(calls) // 7)
        return mlp(jit, "sgd", loss)

    def with_optimizer(jit):
        optimizer = optimizers.SGD(0.1)
        step = optimizer.apply_gradients
        optimizer.apply = lambda gradients, variables=None: step(
            [(1.0 + int(optimizer.iterations)) * one for one in gradients], variables
        )
        return mlp(jit, optimizer)

    class Penalty:
        __slots__ = ("calls",)

        def __init__(self):
            self.calls = 0

        def __call__(self, weight):
            self.calls += 1
            return (0.1 + self.calls // 7) * ops.sum(ops.square(weight))

    def with_regularizer(jit):
        model = mlp(jit, "sgd")
        model.layers[0].kernel.regularizer = Penalty()
        return model

    for make in (with_losses, with_trainable, with_loss, with_optimizer, with_regularizer):
        first, second = twins(make)
        for _ in range(READY + 3):
            assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
        assert_same(first, second)
        assert reasons(first)[0] is not None, make


@on_the_cpu
@pytest.mark.parametrize("when", ["the program has run", "its second comparison"])
def test_ctrl_c_while_a_program_is_compared_with_the_layers(monkeypatch, when):
    from minikeras.kernels.cpu import program

    first, second = twins(mlp)
    runs, run = [], program.Program.run

    def interrupted(self):
        runs.append(run(self))
        if when == "the program has run" or len(runs) == 2:
            raise KeyboardInterrupt
        return runs[-1]

    for model in (first, second):
        for _ in range(3):
            model.train_on_batch(X[:8], Y[:8])
    second.train_on_batch(X[:8], Y[:8])
    monkeypatch.setattr(program.Program, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.train_on_batch(X[:8], Y[:8])
    monkeypatch.undo()
    assert_same(first, second)
    for _ in range(READY):
        assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert_same(first, second)


@on_the_cpu
@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_while_steps_are_made_by_a_program(monkeypatch, many):
    """It comes after the steps, which are as long as they take in machine code."""
    from minikeras.kernels.cpu import program

    first, second = twins(lambda jit: mlp(jit, optimizers.Adam(optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))))
    for model in (first, second):
        for _ in range(READY):
            model.train_on_batch(X[:8], Y[:8])

    def interrupted(run):
        def wrapper(*arguments):
            run(*arguments)
            raise KeyboardInterrupt

        return wrapper

    (entry,) = entries(first, "train")
    if many:
        entry.seconds = 1e-3  # of a step, so that one call makes several
        monkeypatch.setattr(program._functions, "steps", interrupted(program._functions.steps))
    else:
        monkeypatch.setitem(vars(entry.program), "_one", interrupted(entry.program._one))
    with pytest.raises(KeyboardInterrupt):
        if many:
            first.fit(X[:48], Y[:48], batch_size=8, shuffle=False, verbose=0)
        else:
            first.train_on_batch(X[:8], Y[:8])
    monkeypatch.undo()
    for start in range(0, 48 if many else 8, 8):
        second.train_on_batch(X[start : start + 8], Y[start : start + 8])
    for model in (first, second):
        model.reset_metrics()
        for _ in range(READY):
            model.train_on_batch(X[:8], Y[:8])
    assert int(first.optimizer.iterations) == READY + (6 if many else 1) + READY
    assert_same(first, second)


def test_a_learning_rate_that_is_refused_after_some_steps():
    def make(jit):
        rate = optimizers.schedules.ExponentialDecay(2.0, 10, 1e308, staircase=True)  # too much from step 10 on
        return mlp(jit, optimizers.SGD(rate, clipvalue=1e-3))

    first, second = twins(make)
    for model in (first, second):
        keras.utils.set_random_seed(7)
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="after 10 updates"):
            model.fit(X, Y, batch_size=8, epochs=3, verbose=0)
    assert_same(first, second)
    assert [entry.program is not None for entry in entries(first, "train")] == [True, False]


def test_empty_arrays_that_numpy_gives_for_reading():
    class Emptied(layers.Layer):
        def call(self, inputs):
            return ops.concatenate([ops.broadcast_to(inputs[:0, :1], (0, 4)), inputs], axis=0)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Emptied(), layers.Dense(3)])
    model.compile("sgd", "mse", jit_compile=True)
    for _ in range(READY):
        model.train_on_batch(X[:8], Y[:8])
    assert reasons(model) == [None]


@refuses
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_an_index_or_a_label_that_is_refused_changes_no_weight(dtype):
    def make(jit):
        model = keras.Sequential(
            [keras.Input((5,), dtype=dtype), layers.Embedding(10, 4), layers.Flatten(), layers.Dense(3, "softmax")]
        )
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=jit)
        return model

    x, y = RNG.integers(0, 10, (80, 5)).astype(dtype), RNG.integers(0, 3, 80)
    wrong = x.copy()
    wrong[60, 2] = 10
    first, second = twins(make)
    for model in (first, second):
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        with pytest.raises(IndexError, match="takes indices from 0 to 9, got 10"):
            model.fit(wrong, y, batch_size=8, verbose=0, shuffle=False)
        assert int(model.optimizer.iterations) == 27
        with pytest.raises(ValueError, match="label"):
            model.train_on_batch(x[:8], np.full(8, 3))
        with pytest.raises(IndexError, match="takes indices from 0 to 9, got 10"):
            model.train_on_batch(wrong[56:64], y[56:64])
        if dtype == "float32":
            with pytest.raises(ValueError, match=r"An embedding takes whole numbers, got 3\.5"):
                model.train_on_batch(np.full((8, 5), 3.5), y[:8])
    assert_same(first, second)
    assert is_native(first) == [True]


@refuses
@pytest.mark.parametrize("long", [False, True])
def test_what_a_refused_batch_has_changed_it_has_changed_once(monkeypatch, long):
    from minikeras.training import programs

    def make(jit):
        a, b = keras.Input((4,)), keras.Input((5,), dtype="int32")
        x = [layers.BatchNormalization()(a), layers.Flatten()(layers.Embedding(10, 3)(b))]
        model = keras.Model([a, b], layers.Dense(3)(layers.Concatenate()(x)))
        model.compile("adam", "mse", jit_compile=jit)
        return model

    if long:
        monkeypatch.setattr(programs, "_LONG_BATCH", 1)  # batches are gathered during the step before
    floats, indices = RNG.normal(size=(80, 4)).astype("f4"), RNG.integers(0, 10, (80, 5)).astype("int32")
    wrong, y = indices.copy(), RNG.normal(size=(80, 3)).astype("f4")
    wrong[60, 2] = 10
    first, second = twins(make)
    for model in (first, second):
        model.fit([floats, indices], y, batch_size=8, verbose=0, shuffle=False)
        with pytest.raises(IndexError, match="takes indices from 0 to 9, got 10"):
            model.fit([floats, wrong], y, batch_size=8, verbose=0, shuffle=False)
    assert_same(first, second)


def test_steps_of_much_memory_are_not_recorded_and_others_let_go(monkeypatch):
    monkeypatch.setattr(programs._recording_room(), "LARGE", 20_000 if ON_CPU else 60_000)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(100, activation="relu"), layers.Dense(1)])
    model.compile("sgd", "mse")
    for rows in (6, 12):
        model.fit(np.ones((8 * rows, 4)), np.ones((8 * rows, 1)), batch_size=rows, verbose=0)
    assert len(entries(model, "train")) == 1  # both would hold too much
    model.fit(np.ones((500, 4)), np.ones((500, 1)), batch_size=50, verbose=0)
    assert reasons(model)[-1].startswith("it takes 0 MB") and is_native(model)[-1] is False


def test_threads_share_no_memory_of_programs():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(64, activation="relu"), layers.Dense(2)])
    expected = [model.predict_on_batch(X[i : i + 8]) for i in range(20)]
    for _ in range(READY):
        model.predict_on_batch(X[:8])
    wrong = []

    def work(i):
        for _ in range(100):
            if not np.array_equal(model.predict_on_batch(X[i : i + 8]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and is_native(model, "predict") == [True]


def test_a_call_of_the_model_from_a_loop_of_ones_own():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(2)])
    model.compile("adam", "mse")
    results = [np.asarray(model(X[:1])) for _ in range(8)]
    assert all(np.array_equal(result, results[0]) for result in results) and is_native(model, "predict") == [True]
    kept = model(X[:1])
    model(X[1:2])
    np.testing.assert_array_equal(kept.numpy(), results[0])  # a result is nobody else's memory
    model.train_on_batch(X[:8], Y[:8, :2])
    assert not np.array_equal(np.asarray(model(X[:1])), results[0])
    with keras.GradientTape() as tape:
        loss = ops.sum(model(X[:1]))
    assert all(gradient is not None for gradient in tape.gradient(loss, model.trainable_weights))


def test_a_call_in_which_layers_train_unless_they_are_told_is_no_prediction():
    def make(jit):
        model = keras.Sequential([keras.Input((4, 4, 1)), layers.RandomFlip(), layers.Flatten()])
        model.compile(jit_compile=jit)
        return model

    pictures = RNG.normal(size=(3, 4, 4, 1)).astype("f4")
    first, second = twins(make)
    for _ in range(READY + 1):
        for call in (lambda model: model(pictures), lambda model: model.predict_on_batch(pictures)):
            np.testing.assert_array_equal(*map(call, (first, second)))
    assert is_native(first, "predict") == [True]


@on_the_cpu
def test_a_way_that_depends_on_values_unnoticed_shows_on_zeros():
    class Sneaky(layers.Layer):
        replayable = True

        def call(self, inputs):
            return inputs + (2.0 if np.asarray(inputs.data).any() else 3.0)  # not by way of the tensor

    model = keras.Sequential([keras.Input((4,)), Sneaky()])
    for start in range(0, 30, 5):
        np.testing.assert_array_equal(model.predict_on_batch(X[start : start + 5]), X[start : start + 5] + 2)
    np.testing.assert_array_equal(model.predict_on_batch(0 * X[:5]), np.full((5, 4), 3, "f4"))
    assert reasons(model, "predict") == ["the program and the layers do not give the same bits"]


@pytest.mark.parametrize("view", ["a slice", "a column", "a transposed one", "parts", "the batch", "nothing", "a sum"])
def test_many_predictions_of_a_model_whose_outputs_are_views(view):
    views = {
        "a slice": lambda x: x[:, 1:3],
        "a column": lambda x: x[:, 0],
        "a transposed one": lambda x: ops.transpose(layers.Reshape((2, 3))(x), (0, 2, 1)),
        "parts": lambda x: ops.split(x, 3, axis=1),
        "the batch": lambda x: [inputs, x],
        "nothing": lambda x: x[:, :0],
        "a sum": lambda x: [x, ops.sum(x, axis=0, keepdims=True)],
    }
    inputs = keras.Input((96,))
    model = keras.Model(inputs, views[view](layers.Dense(6)(inputs)))
    x = RNG.normal(size=(800, 96)).astype("f4")  # batches long enough to be gathered during the step before
    steps = [model.predict_on_batch(x[start : start + 100]) for start in range(0, 800, 100)]
    many = model.predict(x, batch_size=100, verbose=0)
    assert is_native(model, "predict") == [True]
    for ones, several in zip(zip(*map(keras.tree.flatten, steps), strict=True), keras.tree.flatten(many), strict=True):
        np.testing.assert_array_equal(several, np.concatenate(ones))


@on_the_cpu
def test_what_numpy_refuses_is_refused_in_our_words():
    inputs = keras.Input((3, 3))
    model = keras.Model(inputs, ops.eigh(inputs))
    good = RNG.normal(size=(2, 3, 3)).astype("f4")
    for _ in range(READY):
        model.predict_on_batch(good)
    assert is_native(model, "predict") == [False] and entries(model, "predict")[0].program is not None
    with pytest.raises(ValueError, match="eigh of matrices"):
        model.predict_on_batch(good * np.float32(np.nan))

    def make(jit):
        model = keras.Model(inputs, ops.svd(layers.BatchNormalization()(inputs), compute_uv=False))
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    first, second = twins(make)
    for model in (first, second):
        for _ in range(READY):
            model.train_on_batch(good, good[:, 0])
        with pytest.raises(ValueError, match="svd of matrices"):
            model.train_on_batch(good * np.array([1, np.nan, 1], "f4"), good[:, 0])
    assert_same(first, second)
    assert entries(first, "train")[0].program is not None


def test_outputs_without_axes_are_refused_where_there_are_batches():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [inputs, ops.sum(inputs)])
    for _ in range(READY):
        model.predict_on_batch(X[:10])
        with pytest.raises(ValueError, match="first axis"):
            model.predict(X, batch_size=10, verbose=0)


@pytest.mark.parametrize("who", ["a call", "a step"])
def test_a_mask_is_there_too_where_predictions_are_recorded(who):
    def make(jit):
        model = keras.Sequential([keras.Input((3, 4)), layers.Masking(), layers.Dense(3)])
        model.compile("sgd", "mse", jit_compile=jit)
        return model

    x, y = RNG.normal(size=(8, 3, 4)).astype("f4"), RNG.normal(size=(8, 3, 3)).astype("f4")
    x[:, 1] = 0
    first, second = twins(make)
    if who == "a step":  # which is not recorded itself
        for model in (first, second):
            loss = lambda y_true, y_pred: ops.mean(ops.square(y_true - y_pred), -1)
            model.compile("sgd", loss, jit_compile=model.jit_compile)
    for _ in range(READY):
        loss = float(losses.MeanSquaredError()(y, first(x))) if who == "a call" else first.test_on_batch(x, y)
        assert loss == second.test_on_batch(x, y)


class Penalizing(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


@pytest.mark.parametrize("how", ["a graph", "a layer", "a regularizer"])
def test_losses_that_a_call_adds_are_there_in_every_call(how):
    def make(jit):
        inputs = keras.Input((4,))
        x = layers.Dense(4, activity_regularizer="l2" if how == "a regularizer" else None)(inputs)
        model = keras.Model(inputs, layers.Dense(3)(Penalizing()(x) if how == "a layer" else x))
        if how == "a graph":
            model.add_loss(ops.mean(ops.square(x)))
        loss = lambda y_true, y_pred: ops.mean(ops.abs(y_true - y_pred), -1)
        model.compile("sgd", loss, jit_compile="auto" if jit and how == "a graph" else bool(jit))
        return model

    first, second = twins(make)
    for model in (first, second):
        for _ in range(READY):
            model.predict_on_batch(X[:8])
    for _ in range(READY):
        assert first.test_on_batch(X[:8], Y[:8]) == second.test_on_batch(X[:8], Y[:8])
        outputs = [model(X[:8]) for model in (first, second)]
        assert float(sum(first.losses)) == float(sum(second.losses)) > 0, outputs
        assert first.train_on_batch(X[:8], Y[:8]) == second.train_on_batch(X[:8], Y[:8])
    assert_same(first, second)


def test_batches_with_gaps_in_memory():
    """A program's batch has none, and kernels for those with gaps may round differently."""
    x, y = np.repeat(X, 2, axis=1)[:, ::2], np.asfortranarray(Y)
    found = []
    for model, whole in [*((model, False) for model in twins(mlp)), *((model, True) for model in twins(mlp))]:
        keras.utils.set_random_seed(7)
        data = (x.copy(), y.copy()) if whole else (x, y)
        logs = [model.train_on_batch(*data) for _ in range(6)]
        logs.append(model.fit(*data, batch_size=10, epochs=2, shuffle=False, verbose=0).history["loss"])
        logs += [model.evaluate(*data, verbose=0), model.predict_on_batch(data[0]).tobytes()]
        found.append((logs, model(data[0]).numpy().tobytes(), state(model)))
    assert found[0] == found[1] == found[2] == found[3]


def test_losses_that_layers_add():
    def make(jit):
        inputs = keras.Input((4,))
        x = layers.Dense(6, activation="tanh", activity_regularizer="l2")(inputs)
        x = layers.ActivityRegularization(l1=0.1)(x)
        model = keras.Model(inputs, layers.Dense(3)(x))
        model.add_loss(ops.mean(ops.square(x)))
        model.compile("adam", "mse", jit_compile=jit)
        return model

    first, second = twins(make)
    for model in (first, second):
        keras.utils.set_random_seed(7)
        history = model.fit(X, Y, batch_size=10, epochs=3, verbose=0).history
        assert history["loss"][0] != history["loss"][2]
    assert_same(first, second)
    assert is_native(first) == [True]

    def added(model):
        return [None if isinstance(loss, keras.KerasTensor) else float(loss) for loss in model.losses]

    for step in range(2):
        assert len(added(first)) == 3 and added(first) == added(second)
        before = first.losses
        for model in (first, second):
            model.train_on_batch(X[10 * step : 10 * step + 10], Y[:10])
        assert [float(loss) for loss in before] != added(first)
    assert first.evaluate(X, Y, verbose=0, batch_size=10) == second.evaluate(X, Y, verbose=0, batch_size=10)
    assert added(first) == added(second) and is_native(first, "test") == [True]
    np.testing.assert_array_equal(first.predict(X, 10, 0), second.predict(X, 10, 0))
    assert added(first) == added(second)
    first.layers[1].activity_regularizer.l2 = second.layers[1].activity_regularizer.l2 = 0.5
    for model in (first, second):
        model.train_on_batch(X[:10], Y[:10])
    assert_same(first, second)
