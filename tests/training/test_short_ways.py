"""Short ways: one batch that nobody is told of needs no stream and no hooks; results and refusals stay the same."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minikeras as keras
from benchmarks.house import calls_of, perceptron
from minikeras import callbacks, kernels, layers

RNG = np.random.default_rng(5)
X = RNG.normal(size=(20, 4)).astype("f4")
Y = RNG.integers(0, 3, 20)
WEIGHTS = RNG.random(20).astype("f4")


def network():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    return model


def told(**arguments):
    """The same, but somebody listens."""
    return {**arguments, "callbacks": [callbacks.Callback()]}


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": X, "y": Y},
        {"x": X.astype("f8"), "y": Y.tolist(), "batch_size": 20},
        {"x": X, "y": Y, "sample_weight": WEIGHTS, "return_dict": True},
    ],
)
def test_evaluate_of_one_batch_gives_what_the_long_way_gives(arguments):
    model = network()
    model.fit(X, Y, epochs=2, verbose=0)
    state = [weight.copy() for weight in model.get_weights()]
    short = model.evaluate(**arguments, verbose=0)
    assert short == model.evaluate(**told(**arguments), verbose=0) == model.evaluate(**arguments, verbose=2)
    assert all(np.array_equal(a, b) for a, b in zip(state, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": X, "y": Y[:7]},
        {"x": X, "y": Y + 3},
        {"x": X, "y": Y + 0.5},
        {"x": X, "y": np.where(Y == 1, np.nan, Y)},
        {"x": X, "y": None},
        {"x": X, "y": Y, "sample_weight": WEIGHTS * np.inf},
        {"x": X[:, :3], "y": Y},
        {"x": X.astype("U"), "y": Y},
        {"x": X[:0], "y": Y[:0]},
        {"x": X, "y": Y, "batch_size": 0},
        {"x": X, "y": Y, "steps": -1},
        {"x": X, "y": Y, "worker": 1},
    ],
)
def test_evaluate_refuses_by_the_same_sentence_and_changes_nothing(arguments):
    model = network()
    metrics = [variable.numpy().tolist() for metric in model.metrics for variable in metric.variables]
    sentences = []
    for form in (arguments, told(**arguments)):
        with pytest.raises((ValueError, TypeError)) as caught:
            model.evaluate(**form, verbose=0)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert metrics == [variable.numpy().tolist() for metric in model.metrics for variable in metric.variables]


def test_a_loss_that_is_not_finite_is_explained_on_the_short_way_too():
    model = network()
    x = X.copy()
    x[3, 2] = np.nan
    sentences = []
    for form in ({}, {"callbacks": [callbacks.Callback()]}):
        with pytest.warns(UserWarning, match="column 2 of x is not finite") as caught:
            model.evaluate(x, Y, verbose=0, **form)
        sentences.append([str(one.message) for one in caught])
    assert sentences[0] == sentences[1]


def test_a_prediction_inside_a_tape_is_not_recorded():
    model = network()
    expected = model.predict(X, verbose=0)
    with keras.GradientTape() as tape:
        np.testing.assert_array_equal(model.predict(X, verbose=0), expected)
        np.testing.assert_array_equal(model.predict_on_batch(X), expected)
        loss = keras.ops.sum(model(X, training=False) ** 2)  # the tape goes on
    assert all(np.any(gradient.numpy()) for gradient in tape.gradient(loss, model.trainable_weights))


def test_a_prediction_step_of_the_users_is_made_on_both_ways():
    class Doubling(keras.Sequential):
        def predict_step(self, data):
            return {"twice": super().predict_step(data) * 2, "raw": np.ones(len(data))}

    model = Doubling([keras.Input((4,)), layers.Dense(2)])
    expected = keras.ops.convert_to_numpy(model(X)) * 2
    for outputs in (model.predict(X, verbose=0), model.predict_on_batch(X), model.predict(X, verbose=0, steps=1)):
        assert type(outputs["twice"]) is np.ndarray
        np.testing.assert_allclose(outputs["twice"], expected, rtol=1e-6)
        assert outputs["raw"].tolist() == [1] * 20
    model = network()
    model.predict_step = lambda data: keras.ops.zeros((len(data), 1))
    assert not model.predict(X, verbose=0).any() and not model.predict_on_batch(X).any()


def test_arenas_nest_and_copies_of_a_model_have_none_of_their_buffers():
    model = network()
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert model._arenas
    assert not copy.deepcopy(model)._arenas and not pickle.loads(pickle.dumps(model))._arenas
    outer, inner = kernels.Arena(), kernels.Arena()
    with outer:
        with inner, outer:
            kernels.empty((3,), np.dtype("f4"))
        kernels.empty((5,), np.dtype("f4"))
    assert outer.nbytes > 0 == inner.nbytes
    before = outer.nbytes
    kernels.empty((7,), np.dtype("f4"))
    assert outer.nbytes == before


def test_a_step_within_the_beginning_of_a_fit_leaves_its_guard_in_place():
    """Where `on_train_begin` trains and the data of `fit` is bad, the model is as that step left it."""

    class Warming(callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.train_on_batch(X, Y)
            self.state = [weight.copy() for weight in self.model.get_weights()]

    model, warming = network(), Warming()
    with pytest.raises(ValueError):
        model.fit(X[:, :3], Y, verbose=0, callbacks=[warming])
    assert int(model.optimizer.iterations) == 1
    assert all(np.array_equal(a, b) for a, b in zip(warming.state, model.get_weights(), strict=True))


@pytest.mark.parametrize(("name", "most"), [("predict", 39), ("predict_on_batch", 39), ("evaluate", 240)])
def test_few_python_calls(name, most):
    model, x = perceptron(), np.zeros((1, 784), "float32")
    y = () if name.startswith("predict") else (np.eye(10, dtype="float32")[:1],)
    arguments = {} if name == "predict_on_batch" else {"verbose": 0}
    for _ in range(6):  # the fifth is a program's
        getattr(model, name)(x, *y, **arguments)
    if kernels.active_device() == "gpu":
        pytest.skip("Python launches what a GPU does")
    assert calls_of(lambda: getattr(model, name)(x, *y, **arguments)) <= most
