"""Differentiable functions of tensors, under Keras's names."""

from typing import TYPE_CHECKING

from minikeras.autodiff import tape as _tape
from minikeras.lazy import LazyModule as _LazyModule
from minikeras.lazy import public_names
from minikeras.ops import later as _later
from minikeras.ops import numpy_protocol as _numpy_protocol  # noqa: F401  (leads NumPy's functions on tensors to ours)
from minikeras.ops import operators as _operators  # noqa: F401  (gives tensors their operators)
from minikeras.ops.activation import *  # noqa: F403
from minikeras.ops.attention import *  # noqa: F403
from minikeras.ops.control_flow import *  # noqa: F403
from minikeras.ops.convolution import *  # noqa: F403
from minikeras.ops.core import *  # noqa: F403
from minikeras.ops.crossentropy import *  # noqa: F403
from minikeras.ops.ctc import *  # noqa: F403
from minikeras.ops.normalization import *  # noqa: F403
from minikeras.ops.numpy import *  # noqa: F403
from minikeras.ops.pooling import *  # noqa: F403

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from minikeras.ops import image as image
    from minikeras.ops.arranging import *  # noqa: F403
    from minikeras.ops.decompositions import *  # noqa: F403
    from minikeras.ops.fourier import *  # noqa: F403
    from minikeras.ops.linalg import *  # noqa: F403
    from minikeras.ops.patches import *  # noqa: F403
    from minikeras.ops.rare import *  # noqa: F403
    from minikeras.ops.special import *  # noqa: F403
    from minikeras.ops.statistics import *  # noqa: F403
else:
    _rooms = {"image": "minikeras.ops.image", "linalg": "minikeras.ops.linalg"}
    _tables = (_later.NUMPY, _later.LINALG, _later.NN, _later.MATH)
    __getattr__, __dir__ = public_names(__name__, {**_rooms, **_later.homes(*_tables)})

_tape.linking = _LazyModule("minikeras.ops.second_order")  # how a gradient is differentiated again
