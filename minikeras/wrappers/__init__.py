"""Models as estimators of scikit-learn, which `pip install 'minikeras[sklearn]'` brings."""

from typing import TYPE_CHECKING

from minikeras.lazy import public_names

_NAMES = ("SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer")

if TYPE_CHECKING:
    from minikeras.wrappers.estimators import SKLearnClassifier as SKLearnClassifier
    from minikeras.wrappers.estimators import SKLearnRegressor as SKLearnRegressor
    from minikeras.wrappers.estimators import SKLearnTransformer as SKLearnTransformer
else:
    __getattr__, __dir__ = public_names(__name__, {name: f"minikeras.wrappers.estimators:{name}" for name in _NAMES})
