"""Where an epoch over arrays begins and ends, and what the logs of a user's own steps become, in Keras and here."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import minikeras


def recorder(K, seen):
    """A model that notes the first column of each batch that it is given."""

    class Model(K.Model):
        def __init__(self):
            super().__init__()
            self.dense = K.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, *arguments):
            seen.append(np.asarray(arguments[-1][0])[:, 0].astype(int).tolist())
            return super().train_step(*arguments)

        def test_step(self, *arguments):
            seen.append(["test", *np.asarray(arguments[-1][0])[:, 0].astype(int).tolist()])
            return super().test_step(*arguments)

    return Model()


def record(K, samples, method="fit", **arguments):
    """The batches, with the epochs' beginnings and the number of steps that callbacks are told; and the warnings."""
    seen = []

    class Epochs(K.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(("epoch", epoch, self.params["steps"]))

        def on_test_begin(self, logs=None):
            seen.append("test")

    model = recorder(K, seen)
    model.compile("sgd", "mse", run_eagerly=True)
    x = np.arange(samples, dtype="f4").reshape(-1, 1)
    data = {"x": x} if method == "predict" else {"x": x, "y": x}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = getattr(model, method)(**data, verbose=0, callbacks=[Epochs()], **arguments)
    if method == "predict":
        seen.append(np.shape(result))
    return seen, sum("ran out of data" in str(warning.message) for warning in caught)


EPOCHS = {
    "a part of the data": dict(batch_size=2, steps_per_epoch=2, epochs=6),
    "a part, and a smaller last batch": dict(batch_size=3, steps_per_epoch=3, epochs=4),
    "all of the data": dict(batch_size=2, steps_per_epoch=5, epochs=2),
    "more than the data": dict(batch_size=2, steps_per_epoch=7, epochs=3),
    "no batch size": dict(steps_per_epoch=3, epochs=2),
    "no batch size, and more than samples": dict(steps_per_epoch=20, epochs=2),
    "no batch size, and fewer batches": dict(steps_per_epoch=6, epochs=3),
    "one step": dict(batch_size=4, steps_per_epoch=1, epochs=4),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_epochs_of_some_steps(name):
    theirs = record(keras, 10, shuffle=False, **EPOCHS[name])
    assert record(minikeras, 10, shuffle=False, **EPOCHS[name]) == theirs


@pytest.mark.parametrize("shuffle", [True, "batch"])
@pytest.mark.parametrize("name", EPOCHS)
def test_shuffled_epochs_of_some_steps(name, shuffle):
    def sizes(K):
        seen, warned = record(K, 10, shuffle=shuffle, **EPOCHS[name])
        assert all(sorted(part) == list(range(10)) for part in passes(seen))
        return [len(one) if isinstance(one, list) else one for one in seen], warned

    def passes(seen):
        """The samples of each whole pass through the data."""
        flat = [sample for one in seen if isinstance(one, list) for sample in one]
        return [flat[start : start + 10] for start in range(0, len(flat) - 9, 10)]

    assert sizes(minikeras) == sizes(keras)


@pytest.mark.parametrize(
    "arguments",
    [dict(validation_steps=2), dict(validation_steps=9), dict(validation_steps=2, batch_size=None)],
    ids=["fewer", "more", "no batch size"],
)
def test_validation_of_some_steps(arguments):
    x = np.arange(10, dtype="f4").reshape(-1, 1)
    arguments = {"batch_size": 2, "epochs": 2, "validation_data": (x, x), "shuffle": False, **arguments}
    assert record(minikeras, 4, **arguments) == record(keras, 4, **arguments)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("arguments", [dict(batch_size=2, steps=2), dict(steps=3), dict(batch_size=2, steps=20)])
def test_evaluation_and_prediction_of_some_steps(method, arguments):
    assert record(minikeras, 10, method, **arguments) == record(keras, 10, method, **arguments)


def stepping(K, make):
    """A model whose steps return what `make(model, results)` makes of the results of its metrics."""

    class Model(K.Model):
        def __init__(self):
            super().__init__()
            self.dense = K.layers.Dense(2, kernel_initializer="ones")

        def call(self, x):
            return self.dense(x)

        def _logs(self):
            return make({metric.name: metric.result() for metric in self.metrics})

        if K is minikeras:

            def train_step(self, data):
                super().train_step(data)
                return self._logs()

            def test_step(self, data):
                super().test_step(data)
                return self._logs()

        else:  # stateless, so that the results are known after the step: its logs have them

            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                return make({"loss": logs.pop("loss"), "compile_metrics": logs}), state

            def test_step(self, state, data):
                logs, state = super().test_step(state, data)
                return make({"loss": logs.pop("loss"), "compile_metrics": logs}), state

    return Model()


@pytest.mark.parametrize(
    "make",
    [
        lambda results: results,
        lambda results: {"b": {"z": 1.0, "a": {"deep": 2.0}}, "a": 3, "loss": results["loss"]},
        lambda results: {"loss": results["loss"], "compile_metrics": {"loss": 5.0, **results["compile_metrics"]}},
    ],
    ids=["the guide's", "nested", "equal names"],
)
def test_dicts_in_logs_are_flattened(make):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    y = x[:, :2]
    histories = []
    for K in (keras, minikeras):
        model = stepping(K, make)
        model.compile("sgd", "mse", metrics=["mae", "mape"])
        history = model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), shuffle=False, verbose=0).history
        histories.append((history, model.evaluate(x, y, verbose=0, return_dict=True)))
    (theirs, their_test), (ours, our_test) = histories
    assert list(ours) == list(theirs) and list(our_test) == list(their_test)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)
    np.testing.assert_allclose(list(our_test.values()), list(their_test.values()), rtol=1e-4)
