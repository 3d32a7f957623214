"""Where Keras 2 has `to_categorical` and `normalize`."""

from minikeras.utils.numerical import normalize, to_categorical

__all__ = ["normalize", "to_categorical"]
