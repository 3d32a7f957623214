"""What `minikeras.wrappers` offers: see `lazy.py`."""

from minikeras.wrappers.estimators import SKLearnClassifier as SKLearnClassifier
from minikeras.wrappers.estimators import SKLearnRegressor as SKLearnRegressor
from minikeras.wrappers.estimators import SKLearnTransformer as SKLearnTransformer
