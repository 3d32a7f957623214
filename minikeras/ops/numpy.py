"""Everything named after NumPy's functions, in one namespace, as in `keras.ops.numpy`."""

from minikeras.lazy import offer_names
from minikeras.ops.core import ndim, size  # noqa: F401
from minikeras.ops.creation import *  # noqa: F403
from minikeras.ops.elementwise import *  # noqa: F403
from minikeras.ops.product import *  # noqa: F403
from minikeras.ops.reduction import *  # noqa: F403
from minikeras.ops.shaping import *  # noqa: F403

offer_names(__name__, owners=(__package__,))
