"""Models as estimators of scikit-learn, which `pip install 'minikeras[sklearn]'` brings."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
