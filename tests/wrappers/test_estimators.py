"""Models as estimators: scikit-learn's own checks, and what people do with estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from minikeras import Sequential, kernels, layers, optimizers, utils
from minikeras.wrappers import SKLearnClassifier, SKLearnRegressor, SKLearnTransformer

pytestmark = pytest.mark.skipif(kernels.active_device() == "gpu", reason="the checks are of the host's code")


def build(X, y, loss, activation="softmax", units=8, rate=0.05):
    """A small model for these samples and targets, the same each time: checks compare one fit with another."""
    utils.set_random_seed(0)
    model = Sequential(
        [layers.Input(X.shape[1:]), layers.Dense(units, "relu"), layers.Dense(y.shape[1], activation=activation)]
    )
    model.compile(optimizers.Adam(rate), loss)
    return model


CLASSIFIER = {"model_kwargs": {"loss": "categorical_crossentropy"}, "fit_kwargs": {"epochs": 3, "verbose": 0}}
REGRESSOR = {"model_kwargs": {"loss": "mse", "activation": None}, "fit_kwargs": {"verbose": 0}}

NOT_APPLICABLE = {
    "SKLearnClassifier": {
        "check_classifiers_train": "decision_function gives all outputs, also for two classes, as in Keras",
        "check_classifiers_classes": "a few steps need not have learnt all classes",
    },
    "SKLearnRegressor": {
        "check_regressor_multioutput": "predictions are of the model's type, float32, and the check asks for float64",
    },
    "SKLearnTransformer": {},
}


def checks():
    """Each check of scikit-learn with its estimator, under a name that is the same in every process."""
    for estimator in (
        SKLearnClassifier(build, **CLASSIFIER),
        SKLearnRegressor(build, **REGRESSOR),
        SKLearnTransformer(build, **REGRESSOR),
    ):
        name = type(estimator).__name__
        for number, (one, check) in enumerate(estimator_checks_generator(estimator)):
            title = getattr(check, "func", check).__name__
            expected = NOT_APPLICABLE[name].get(title)
            marks = [pytest.mark.xfail(reason=expected, strict=True)] if expected else []
            yield pytest.param(one, check, id=f"{name}-{title}-{number}", marks=marks)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def spirals():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype("float32")
    return X, np.where(X[:, 0] + X[:, 1] > 0, "up", "down")


def test_a_pipeline_learns_and_is_pickled():
    X, y = spirals()
    pipeline = make_pipeline(StandardScaler(), SKLearnClassifier(build, **CLASSIFIER))
    pipeline.fit(X, y, sklearnclassifier__epochs=30)
    assert pipeline.score(X, y) > 0.9
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))
    np.testing.assert_array_equal(
        again.decision_function(X).argmax(1), again[-1].classes_.searchsorted(again.predict(X))
    )


def test_a_search_tries_arguments_of_the_model_and_of_fit():
    X, y = spirals()
    grid = {
        "model_kwargs": [{"loss": "categorical_crossentropy", "units": units} for units in (1, 8)],
        "fit_kwargs": [{"epochs": epochs, "verbose": 0} for epochs in (0, 30)],
    }
    search = GridSearchCV(SKLearnClassifier(build), grid, cv=2).fit(X, y)
    assert search.best_params_["fit_kwargs"]["epochs"] == 30 and search.best_score_ > 0.8
    assert len(search.best_estimator_.history_.epoch) == 30


def test_processes():
    X, y = spirals()
    with parallel_config("multiprocessing"):  # which starts in a moment; what it sends is pickled as by any other
        scores = cross_val_score(SKLearnClassifier(build, **CLASSIFIER), X, y, cv=2, n_jobs=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_a_clone_has_all_arguments_and_nothing_learnt():
    estimator = SKLearnClassifier(build, warm_start=True, **CLASSIFIER).fit(*spirals())
    other = clone(estimator)
    assert other.get_params() == estimator.get_params() and other.fit_kwargs is not estimator.fit_kwargs
    with pytest.raises(NotFittedError):
        other.predict(spirals()[0])
    estimator.fit(*spirals(), epochs=1)
    assert estimator.fit_kwargs == CLASSIFIER["fit_kwargs"]  # what fit is given is not kept


def test_a_given_model_is_copied_unless_it_goes_on():
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = X @ np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]])
    model = build(X, y, "mse", activation=None)
    before = model.get_weights()
    estimator = SKLearnRegressor(model, fit_kwargs={"verbose": 0, "epochs": 2}).fit(X, y)
    assert estimator.model_ is not model and estimator.predict(X).shape == (20, 2)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert estimator.model_.optimizer is not model.optimizer and int(model.optimizer.iterations) == 0
    warm = SKLearnRegressor(model, warm_start=True, fit_kwargs={"verbose": 0})
    assert warm.fit(X, y).fit(X, y).model_ is model and int(model.optimizer.iterations) == 2
    made = SKLearnRegressor(build, warm_start=True, **REGRESSOR)
    assert made.fit(X, y[:, 0]).model_ is made.fit(X, y[:, 0]).model_
    assert made.predict(X).shape == (20,)


def test_what_is_refused():
    X, _ = spirals()
    with pytest.raises(ValueError, match=r"one class alone, got .*'up'"):
        SKLearnClassifier(build, **CLASSIFIER).fit(X, np.full(60, "up"))
    with pytest.raises(RuntimeError, match="must be compiled"):
        SKLearnRegressor(Sequential([layers.Input((4,)), layers.Dense(1)])).fit(X, np.ones(60))
    with pytest.raises(ValueError, match="Unknown label type"):
        SKLearnClassifier(build, **CLASSIFIER).fit(X, np.linspace(0, 1, 60))
