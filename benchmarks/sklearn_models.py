"""W1 as scikit-learn's users write it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.workloads import Row, Setting


class SklearnProgram:
    """`MLPClassifier` (see `workloads.Program`); it begins anew with every `fit`, which costs it nothing."""

    def __init__(self) -> None:
        self.model: Any = None

    def fit(self, x: Any, y: Any, batch_size: int, epochs: int) -> float:
        self.model = MLPClassifier((128,), solver="adam", alpha=0.0, batch_size=batch_size, max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # so few epochs are what is asked for
            self.model.fit(x, y)
        return float(self.model.loss_)

    def evaluate(self, x: Any, y: Any) -> float:
        return float(-np.log(self.predict(x, len(x))[np.arange(len(x)), y]).mean())

    def predict(self, x: Any, batch_size: int) -> Any:
        return np.concatenate([self.predict_on_batch(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])

    def predict_on_batch(self, x: Any) -> Any:
        return self.model.predict_proba(x)


class Framework:
    """scikit-learn."""

    version = sklearn.__version__
    modules = ("sklearn",)

    def seed(self) -> None:
        np.random.seed(0)

    def program(self, row: Row) -> SklearnProgram:
        assert row.model == "mlp"
        return SklearnProgram()

    def data(self, row: Row, setting: Setting) -> tuple[Any, Any]:
        """The row's data as this framework takes it: as it is."""
        assert row.data is not None
        return row.data(setting, row.count)
