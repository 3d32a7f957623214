"""Everything named after NumPy's functions, in one namespace, as in `keras.ops.numpy`."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
