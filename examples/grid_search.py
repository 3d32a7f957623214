"""Choose units and learning rate by cross-validation with scikit-learn: `pip install '.[sklearn]'`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import minikeras as keras
from minikeras import layers
from minikeras.wrappers import SKLearnClassifier


def network(X: np.ndarray, y: np.ndarray, units: int = 8, rate: float = 0.01) -> keras.Model:
    """A compiled network for these data; the wrapper calls it with what `fit` was given."""
    model = keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            layers.Dense(units, activation="relu"),
            layers.Dense(y.shape[1], activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy")
    return model


def main() -> None:
    keras.utils.set_random_seed(1)
    x_train, x_test, y_train, y_test = train_test_split(*load_wine(return_X_y=True), random_state=1)
    classifier = SKLearnClassifier(network, fit_kwargs={"epochs": 20, "verbose": 0})
    pipeline = make_pipeline(StandardScaler(), classifier)
    kwargs: list[dict[str, Any]] = [{"units": units, "rate": rate} for units in (2, 16) for rate in (1e-4, 1e-2)]
    search = GridSearchCV(pipeline, {"sklearnclassifier__model_kwargs": kwargs}, cv=3)
    search.fit(x_train, y_train)
    for given, score in zip(kwargs, search.cv_results_["mean_test_score"], strict=True):
        print(f"{given!s:34} {score:.3f}")
    best = search.best_params_["sklearnclassifier__model_kwargs"]
    scores = cross_val_score(search.best_estimator_, x_train, y_train, cv=3)
    accuracy = search.score(x_test, y_test)
    print(f"best {best}, again {scores.mean():.3f} +- {scores.std():.3f}; on wines kept apart {accuracy:.3f}")
    assert best["rate"] == 1e-2 and accuracy > 0.9, (best, accuracy)


if __name__ == "__main__":
    main()
