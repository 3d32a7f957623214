"""The estimators: a model, or a function that makes one, behind `fit` and `predict` of scikit-learn."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.callbacks import History
from minikeras.models import Model, clone_model

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("The wrappers need scikit-learn 1.6 or newer; run pip install 'minikeras[sklearn]'.") from error


class _Estimator(BaseEstimator):
    """Base of the estimators.

    Attributes:
        model_: the trained model.
        history_: what `fit` of the model returned.
    """

    def __init__(
        self,
        model: Model | Callable[..., Model],
        warm_start: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        fit_kwargs: dict[str, Any] | None = None,
    ):
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    model_: Model
    history_: History

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Any:
        """Train a model.

        Args:
            X: numbers (samples, features).
            y: the targets, (samples,) or, but for a classifier, (samples, outputs).
            kwargs: of the model's `fit`; they come before `fit_kwargs`.

        Returns:
            The estimator.

        Raises:
            ValueError: for data that does not fit.
            RuntimeError: for a model that is not compiled with a loss and an optimizer.
        """
        X, y = self._checked(X, y)
        model = self._model_for(X, y)
        if not model.compiled or model.loss is None or model.optimizer is None:
            problem = f"The model {model.name!r} must be compiled with a loss and an optimizer"
            raise RuntimeError(f"{problem}; call its compile() first.")
        self.history_ = model.fit(X, y, **{**(self.fit_kwargs or {}), **kwargs})
        self.model_ = model
        return self

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Samples and targets, these as a matrix; what is found out about them is kept."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        return X, y.reshape(len(y), -1)

    def _model_for(self, X: Any, y: Any) -> Model:
        if self.warm_start and (isinstance(self.model, Model) or hasattr(self, "model_")):
            return self.model if isinstance(self.model, Model) else self.model_
        if not isinstance(self.model, Model):
            return self.model(X=X, y=y, **(self.model_kwargs or {}))
        model, arguments = clone_model(self.model), dict(self.model._compile_arguments)
        if self.model.compiled and self.model.optimizer is not None:
            optimizer = arguments.pop("optimizer")
            model.compile(type(optimizer).from_config(optimizer.get_config()), **copy.deepcopy(arguments))
        return model

    def _outputs(self, X: Any) -> np.ndarray:
        """What the model gives for these samples."""
        check_is_fitted(self)
        return self.model_.predict(validate_data(self, X, reset=False), verbose=0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.target_tags.required = tags.target_tags.multi_output = True
        return tags


class SKLearnClassifier(ClassifierMixin, _Estimator):
    """A model as a classifier of scikit-learn; its targets are one-hot, so its loss is `categorical_crossentropy`.

    Args:
        model: a compiled `Model`, which each `fit` copies without its weights, or a function that returns one; it is
            called with the samples as `X`, the targets as the model gets them as `y`, and `model_kwargs`.
        warm_start: whether `fit` trains the model on that was trained before, or a given one itself.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, such as `{"epochs": 10, "verbose": 0}`.

    Raises:
        ValueError, RuntimeError: when it is fitted, see `fit`.

    >>> import numpy as np
    >>> from minikeras import Sequential, layers, wrappers
    >>> def build(X, y):
    ...     model = Sequential([layers.Input(X.shape[1:]), layers.Dense(y.shape[1], "softmax")])
    ...     model.compile("sgd", "categorical_crossentropy")
    ...     return model
    >>> classifier = wrappers.SKLearnClassifier(build, fit_kwargs={"epochs": 300, "verbose": 0})
    >>> classifier.fit(np.float32([[-1], [1], [-2], [2]]), ["low", "high", "low", "high"]).predict([[-3.0], [3.0]])
    array(['low', 'high'], dtype='<U4')
    """

    classes_: np.ndarray

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            raise ValueError(f"A classifier cannot learn one class alone, got {self.classes_[0]!r} in every sample.")
        return X, np.eye(len(self.classes_))[numbers]

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each sample."""
        likeliest = self._outputs(X).argmax(axis=-1)
        return self.classes_[likeliest]

    def decision_function(self, X: Any) -> np.ndarray:
        """The outputs of the model, (samples, classes)."""
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score, tags.target_tags.multi_output = True, False
        return tags


class SKLearnRegressor(RegressorMixin, _Estimator):
    """A model as a regressor of scikit-learn; its targets are (samples, outputs).

    Args:
        model: a compiled `Model`, which each `fit` copies without its weights, or a function that returns one; it is
            called with the samples as `X`, the targets as the model gets them as `y`, and `model_kwargs`.
        warm_start: whether `fit` trains the model on that was trained before, or a given one itself.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, such as `{"epochs": 10, "verbose": 0}`.

    Raises:
        ValueError, RuntimeError: when it is fitted, see `fit`.

    >>> import numpy as np
    >>> from minikeras import Sequential, layers, optimizers, wrappers
    >>> model = Sequential([layers.Input((1,)), layers.Dense(1)])
    >>> model.compile(optimizers.SGD(0.5), "mse")
    >>> regressor = wrappers.SKLearnRegressor(model, fit_kwargs={"epochs": 100, "verbose": 0})
    >>> regressor.fit([[-1.0], [1.0]], [1.0, 3.0]).predict([[2.0]]).round(3)
    array([4.], dtype=float32)
    """

    def predict(self, X: Any) -> np.ndarray:
        """The outputs of the model, (samples,) if the targets were, else (samples, outputs)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat and outputs.ndim == 2 and outputs.shape[1] == 1 else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class SKLearnTransformer(TransformerMixin, _Estimator):
    """A model as a transformer of scikit-learn: samples become the model's outputs, such as embeddings.

    Args:
        model: a compiled `Model`, which each `fit` copies without its weights, or a function that returns one; it is
            called with the samples as `X`, the targets as the model gets them as `y`, and `model_kwargs`.
        warm_start: whether `fit` trains the model on that was trained before, or a given one itself.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, such as `{"epochs": 10, "verbose": 0}`.

    Raises:
        ValueError, RuntimeError: when it is fitted, see `fit`.

    >>> from minikeras import Sequential, layers, wrappers
    >>> model = Sequential([layers.Input((3,)), layers.Dense(2)])
    >>> model.compile("sgd", "mse")
    >>> transformer = wrappers.SKLearnTransformer(model, fit_kwargs={"verbose": 0})
    >>> transformer.fit_transform([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]).shape
    (2, 2)
    """

    def transform(self, X: Any) -> np.ndarray:
        """The outputs of the model, (samples, outputs)."""
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
