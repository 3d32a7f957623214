"""Differentiable functions of tensors, under Keras's names."""

from typing import TYPE_CHECKING

from minikeras.lazy import public_names as _public_names
from minikeras.ops import numpy_protocol as _numpy_protocol  # noqa: F401  (leads NumPy's functions on tensors to ours)
from minikeras.ops import operators as _operators  # noqa: F401  (gives tensors their operators)
from minikeras.ops.activation import *  # noqa: F403
from minikeras.ops.attention import *  # noqa: F403
from minikeras.ops.convolution import *  # noqa: F403
from minikeras.ops.core import *  # noqa: F403
from minikeras.ops.crossentropy import *  # noqa: F403
from minikeras.ops.normalization import *  # noqa: F403
from minikeras.ops.numpy import *  # noqa: F403
from minikeras.ops.pooling import *  # noqa: F403

if TYPE_CHECKING:
    from minikeras.ops import image as image
else:
    __getattr__, __dir__ = _public_names(__name__, {"image": f"{__name__}.image"})
