"""Why a loss is not finite: said once, with the data's column, the layer, the operation and the batch."""

from __future__ import annotations

import contextlib
import copy
import warnings

import numpy as np
import pytest

import minikeras as keras
from minikeras import kernels as k
from minikeras import layers, ops, optimizers
from minikeras.callbacks import Callback, TerminateOnNaN
from minikeras.seeds import global_generator

BATCH = 8


def features(seed=0, columns=4):
    return np.random.default_rng(seed).standard_normal((64, columns)).astype("float32")


X, Y = features(), features(1, 2)


@pytest.fixture(autouse=True)
def _without_numpys_warnings():
    with np.errstate(all="ignore"):
        yield


class Logarithm(layers.Layer):
    def call(self, inputs):
        return ops.log(inputs)


class Root(layers.Layer):
    """sqrt of zeros: finite, but its slope is not."""

    def call(self, inputs):
        return ops.sqrt(inputs * 0)


def stack(*between, optimizer="sgd", loss="mse", known=True, **arguments):
    keras.utils.set_random_seed(3)
    first = [keras.Input((4,))] if known else []
    start = layers.Dense(3, kernel_initializer="ones", name="first")
    model = keras.Sequential([*first, start, *between, layers.Dense(2, name="last")])
    model.compile(optimizer, loss, **arguments)
    return model


def functional(operation):
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="last")(operation(hidden)), name="graph")
    model.compile("sgd", "mse")
    return model


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__(name="own")
        self.first, self.inner, self.last = layers.Dense(3), layer, layers.Dense(2)

    def call(self, inputs, training=False):
        return self.last(self.inner(self.first(inputs)))


class OwnStep(Subclassed):
    def train_step(self, data):
        x, y = data
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(self(x, training=True) - y))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def warnings_of(function):
    """The function's result, and the texts and files of this package's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    return result, [(str(one.message), one.filename) for one in caught if one.category is UserWarning]


def fit(model, x=X, y=Y, **arguments):
    settings = {"verbose": 0, "batch_size": BATCH, "epochs": 3, "shuffle": False} | arguments
    if not isinstance(x, np.ndarray | dict | list):
        settings.pop("batch_size")
        settings.pop("shuffle")
    return warnings_of(lambda: model.fit(x, y, **settings))


def located(model, x=X, y=Y, **arguments):
    """The callback after training; whatever it finds is said in one warning at this file's line."""
    callback = TerminateOnNaN(locate=True)
    _, told = fit(model, x, y, callbacks=[callback], **arguments)
    if callback.location is None:
        assert told == []
    else:
        assert told == [(str(callback.location), __file__)]
        assert model.stop_training
    return callback.location


def spoiled(rows=33, column=3, value=np.nan):
    x = X.copy()
    x[rows, column] = value
    return x


# ---------------------------------------------------------------- fit and evaluate say it once


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_column_of_the_data_is_named_once(value):
    history, told = fit(stack(), spoiled(value=value))
    assert len(history.epoch) == 3
    ((text, file),) = told
    assert f": column 3 of x is not finite, first in sample 33 ({value}); clean the data." in text
    assert text.startswith("The loss became ")
    assert file == __file__


def test_several_columns_and_inputs_are_named():
    x = spoiled()
    x[40, 0] = np.inf
    _, ((text, _),) = fit(stack(), x)
    assert "the columns 0 and 3 of x are not finite, first in sample 33 (nan)" in text
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Add()([a, b])))
    model.compile("sgd", "mse")
    _, ((text, _),) = fit(model, {"a": X, "b": spoiled(column=1)})
    assert "column 1 of x['b'] is not finite, first in sample 33" in text
    model = keras.Model([a, b], layers.Dense(2)(layers.Add()([a, b])))
    model.compile("sgd", "mse")
    _, ((text, _),) = fit(model, [X, spoiled(rows=2)])
    assert "column 3 of x[1] is not finite, first in sample 2" in text


def test_the_first_value_of_pictures_is_named():
    pictures = np.zeros((16, 3, 3, 1), "float32")
    pictures[5, 1, 2, 0] = np.nan
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    _, ((text, _),) = fit(model, pictures, Y[:16])
    assert "x is not finite, first in sample 5 at [1, 2, 0] (nan)" in text


def test_labels_and_weights_are_looked_at_too():
    def own(y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    labels = Y.copy()
    labels[7, 1] = np.inf
    _, ((text, _),) = fit(stack(loss=own), X, labels)
    assert "column 1 of y is not finite, first in sample 7 (inf)" in text


def test_of_a_generator_the_last_batch_is_looked_at():
    def batches():
        for start in range(0, 64, BATCH):
            yield spoiled(rows=59)[start : start + BATCH], Y[start : start + BATCH]

    _, ((text, _),) = fit(stack(), batches(), None, epochs=1)
    assert "column 3 of x is not finite, first in sample 3 of the last batch (nan)" in text


def test_spoilt_weights_are_named_where_the_data_is_right():
    _, ((text, _),) = fit(stack(optimizer=optimizers.SGD(1e10)))
    assert "the weights of 'first' and 'last' are not finite; lower the learning rate" in text
    assert "TerminateOnNaN(locate=True)" in text
    model = stack()
    model.get_layer("last").kernel.assign(np.full((3, 2), np.nan))
    _, ((text, _),) = warnings_of(lambda: model.evaluate(X, Y, verbose=0))
    assert text.startswith("The loss became nan and the weights of 'last' are not finite")


def test_evaluate_names_layer_and_operation_and_changes_nothing():
    model = stack(Logarithm(name="logs"), metrics=["mae"])
    before = model.get_weights()
    values, ((text, file),) = warnings_of(lambda: model.evaluate(X, Y, verbose=0, batch_size=BATCH))
    assert np.isnan(values[0])
    assert "begins in layer 'logs' (Logarithm), operation 'log', whose inputs lie between" in text
    assert file == __file__
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(AssertionError):  # another call says it again
        assert warnings_of(lambda: model.evaluate(X, Y, verbose=0))[1] == []


def test_an_earlier_batch_of_an_evaluation():
    model = stack(Logarithm(name="logs"))
    model.get_layer("first").set_weights([np.eye(4, 3, dtype="float32"), np.zeros(3, "float32")])
    x = np.abs(X) + 1
    x[0] = -1
    _, ((text, _),) = warnings_of(lambda: model.evaluate(x, Y, verbose=0, batch_size=BATCH))
    assert text.startswith("The loss became nan in a batch before the last")


def test_validation_data_is_looked_at_and_the_loss_is_told_of_once_in_a_fit():
    _, ((text, _),) = fit(stack(), validation_data=(spoiled(), Y))
    assert text.startswith("The validation loss became nan: column 3 of x is not finite")
    _, told = fit(stack(), spoiled(), validation_data=(spoiled(), Y))
    assert len(told) == 1


def test_a_finite_loss_says_nothing():
    assert fit(stack())[1] == []
    assert fit(stack(), callbacks=[TerminateOnNaN(locate=True)])[1] == []


# ---------------------------------------------------------------- TerminateOnNaN(locate=True)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_layer_that_takes_a_logarithm_of_negative_numbers(known, optimizer):
    location = located(stack(Logarithm(name="logs"), known=known, optimizer=optimizer))
    assert (location.phase, location.layer, location.operation) == ("forward", "logs", "log")
    assert (location.epoch, location.batch) == (0, 0)
    assert "at batch 0 of epoch 0 (counted from 0) in layer 'logs' (Logarithm), operation 'log'" in str(location)


def test_the_batch_is_the_one_where_it_begins():
    x = np.abs(X) + 1
    x[21] = -5  # in the third batch
    model = stack(Logarithm(name="logs"), optimizer=optimizers.SGD(1e-4))
    model.get_layer("first").set_weights([np.eye(4, 3, dtype="float32"), np.zeros(3, "float32")])
    location = located(model, x)
    assert (location.layer, location.operation, location.batch) == ("logs", "log", 2)
    assert "whose inputs lie between -" in str(location)


def test_a_later_epoch():
    class Spoils(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.get_layer("last").bias.assign(np.array([0.0, np.nan]))

    callback = TerminateOnNaN(locate=True)
    _, ((text, _),) = fit(stack(), callbacks=[Spoils(), callback])
    location = callback.location
    assert (location.phase, location.epoch, location.batch) == ("weights", 2, 0)
    assert "before the step: the weights of 'last' are not finite" in text


def test_a_gradient_that_is_not_finite_is_found_while_the_loss_still_is():
    location = located(stack(Root(name="root")))
    assert (location.phase, location.layer, location.operation) == ("backward", "root", "sqrt")
    assert location.batch == 0
    assert str(location).startswith("The weights stop being finite at batch 0")


def test_a_step_that_is_too_long():
    location = located(stack(optimizer=optimizers.SGD(1e10)))
    assert location.phase == "forward"
    assert location.batch <= 2
    assert "lower the learning rate" in str(location)
    location = located(stack(optimizer=optimizers.SGD(3e38)))
    assert (location.phase, location.layer, location.operation, location.batch) == ("update", None, None, 0)
    assert "by SGD with learning rate 3e+38" in str(location)


def test_a_column_of_the_batch():
    location = located(stack(), spoiled())
    assert (location.phase, location.layer, location.batch) == ("data", None, 4)
    assert "column 3 of x is not finite, first in sample 1 of the batch (nan)" in str(location)


def test_a_loss():
    location = located(stack(loss=lambda y_true, y_pred: ops.log(y_pred - 1000.0)))
    assert (location.phase, location.layer, location.operation) == ("forward", None, "log")
    assert "operation 'log' of the loss" in str(location)


def test_an_infinity_that_is_masked_away_is_not_blamed():
    class Masked(layers.Layer):
        def call(self, inputs):
            hidden = ops.where(inputs > 100.0, inputs, -np.inf)  # legitimate: softmax makes zeros of it
            return inputs + ops.sum(ops.where(ops.isfinite(hidden), hidden, 0.0))

    location = located(stack(Masked(name="masked"), Logarithm(name="logs")))
    assert (location.layer, location.operation) == ("logs", "log")


def test_functional_models_and_operations_in_their_graph():
    location = located(functional(Logarithm(name="logs")))
    assert (location.layer, location.operation) == ("logs", "log")
    location = located(functional(ops.log))
    assert (location.layer, location.operation) == ("graph", "log")


@pytest.mark.parametrize("kind", [Subclassed, OwnStep])
@pytest.mark.parametrize(("layer", "phase", "operation"), [(Logarithm, "forward", "log"), (Root, "backward", "sqrt")])
def test_subclassed_models_and_own_training_steps(kind, layer, phase, operation):
    model = kind(layer(name="inner"))
    model.compile("adam", "mse")
    location = located(model)
    assert (location.phase, location.layer, location.operation) == (phase, "inner", operation)


def test_nested_models_name_the_innermost_layer():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), Logarithm(name="deep")], name="block")
    location = located(functional(inner))
    assert location.layer == "deep"


def test_a_list_of_inputs_to_an_operation():
    class Join(layers.Layer):
        def call(self, inputs):
            return ops.concatenate([inputs, ops.exp(ops.abs(inputs) + 1000.0)], axis=-1)

    location = located(stack(Join(name="join")))
    assert (location.layer, location.operation) == ("join", "exp")


@pytest.mark.parametrize("seed", range(4))
def test_dropout_is_drawn_as_it_was(seed):
    class Bounded(layers.Layer):
        def call(self, inputs):
            return ops.log(1.0 - inputs / 1e9)  # only where dropout keeps one of the three huge values: seldom

    keras.utils.set_random_seed(seed)
    x = np.zeros((64, 4), "float32")
    x[17, 0] = 1e10
    model = stack(layers.Dropout(0.9), Bounded(name="bounded"), optimizer=optimizers.SGD(1e-30))
    location = located(model, x, epochs=60)
    assert (location.layer, location.operation, location.batch) == ("bounded", "log", 2)


def state_of(model):
    values = [variable.numpy() for variable in model.weights]
    values += [variable.numpy() for variable in model.optimizer.variables]
    values += [variable.numpy() for metric in model.metrics for variable in metric.variables]
    return values, model.optimizer.iterations.numpy(), global_generator().state


@pytest.mark.parametrize("layer", [Logarithm, Root])
@pytest.mark.parametrize("own_step", [False, True])
def test_the_model_ends_as_it_does_without(layer, own_step):
    ended = []
    for locate in (True, False):
        keras.utils.clear_session()
        keras.utils.set_random_seed(5)
        if own_step:
            model = OwnStep(layer(name="inner"))
            model.compile("adam", "mse")
        else:
            between = (layers.Dropout(0.3), layers.BatchNormalization(), layer(name="inner"))
            model = stack(*between, optimizer="adam", metrics=["mae"])
        steps = [(X[:BATCH], Y[:BATCH])] if layer is Root else [(X[:BATCH], Y[:BATCH])] * 3
        callback = TerminateOnNaN(locate=locate)
        with contextlib.suppress(StopIteration):
            warnings_of(lambda m=model, s=steps, c=callback: m.fit(iter(s), verbose=0, callbacks=[c], epochs=1))
        assert (callback.location is not None) is locate
        assert "apply_flat" not in vars(model.optimizer)
        assert not any("call" in vars(one) for one in model._contents().layers)
        ended.append(state_of(model))
    for one, other in zip(ended[0][0], ended[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert ended[0][1] == ended[1][1] == 1
    assert ended[0][2] == ended[1][2]


def test_raising_instead():
    callback = TerminateOnNaN(raise_error=True, locate=True)
    with pytest.raises(RuntimeError, match=r"in layer 'logs' \(Logarithm\), operation 'log'"):
        fit(stack(Logarithm(name="logs")), callbacks=[callback])
    assert callback.location.batch == 0


def test_nothing_stays_behind():
    model = stack()
    callback = TerminateOnNaN(locate=True)
    fit(model, callbacks=[callback])
    assert callback.location is None
    assert callback._tracer is None
    seen = []

    class Fails(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(len(self.model._observers))
            raise OSError("mine")

    for callbacks in ([TerminateOnNaN(locate=True), Fails()], [Fails()]):
        with pytest.raises(OSError, match="mine"):
            fit(model, callbacks=callbacks)
    assert seen == [1, 0]
    copy.deepcopy(callback)


def test_each_replica_of_a_comparison_is_located_for_itself():
    model = stack()
    callback = TerminateOnNaN(locate=True)
    rates = [optimizers.SGD(1e-3, name="slow"), optimizers.SGD(1e10, name="fast")]
    model.compile(rates, "mse")
    history, told = fit(model, callbacks=[callback])
    ((text, _),) = told
    assert text.startswith("fast: The ")
    assert history.best == "slow"
    assert len(history.history["slow/loss"]) == 3
    assert np.isfinite(k.to_host(model.get_layer("last").kernel.data)).all()


def test_without_locate_it_is_as_in_keras(capsys):
    history, told = fit(stack(Logarithm(name="logs")), callbacks=[TerminateOnNaN()])
    assert history.epoch == [0]
    assert "Batch 0: the loss is nan, training ends" in capsys.readouterr().out
    assert len(told) == 1  # fit's own, of the weights
