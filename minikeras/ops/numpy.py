"""Everything named after NumPy's functions, in one namespace, as in `keras.ops.numpy`."""

# ruff: noqa: F401, F403
from typing import TYPE_CHECKING

from minikeras.lazy import public_names
from minikeras.ops import later as _later
from minikeras.ops.core import copy, ndim, size
from minikeras.ops.creation import *
from minikeras.ops.elementwise import *
from minikeras.ops.product import *
from minikeras.ops.reduction import *
from minikeras.ops.shaping import *

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras.ops.arranging import *
    from minikeras.ops.decompositions import slogdet
    from minikeras.ops.rare import *
    from minikeras.ops.special import i0
    from minikeras.ops.statistics import *
else:
    __getattr__, __dir__ = public_names(__name__, _later.homes(_later.NUMPY), (__package__,))
