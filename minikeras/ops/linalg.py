"""Linear algebra, as in `keras.ops.linalg`."""

from minikeras.ops.reduction import norm

__all__ = ["norm"]
