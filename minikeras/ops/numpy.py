"""Everything named after NumPy's functions, in one namespace, as in `keras.ops.numpy`."""

from minikeras.ops import creation, elementwise, product, reduction, shaping
from minikeras.ops.creation import *  # noqa: F403
from minikeras.ops.elementwise import *  # noqa: F403
from minikeras.ops.product import *  # noqa: F403
from minikeras.ops.reduction import *  # noqa: F403
from minikeras.ops.shaping import *  # noqa: F403

__all__ = [*creation.__all__, *elementwise.__all__, *product.__all__, *reduction.__all__, *shaping.__all__]
