"""Linear algebra, as in `keras.ops.linalg`."""

from minikeras.lazy import offer_names
from minikeras.ops.reduction import norm

__all__ = ["norm"]


offer_names(__name__, owners=(__package__,))
