"""Differentiable functions of tensors, under Keras's names."""

from minikeras.lazy import offer_names
from minikeras.autodiff import tape as _tape
from minikeras.lazy import LazyModule as _LazyModule
from minikeras.ops import numpy_protocol as _numpy_protocol  # noqa: F401  (leads NumPy's functions on tensors to ours)
from minikeras.ops import operators as _operators  # noqa: F401  (gives tensors their operators)
from minikeras.ops.activation import *  # noqa: F403
from minikeras.ops.attention import *  # noqa: F403
from minikeras.ops.control_flow import *  # noqa: F403
from minikeras.ops.convolution import *  # noqa: F403
from minikeras.ops.core import *  # noqa: F403
from minikeras.ops.crossentropy import *  # noqa: F403
from minikeras.ops.normalization import *  # noqa: F403
from minikeras.ops.numpy import *  # noqa: F403
from minikeras.ops.pooling import *  # noqa: F403

offer_names(__name__)
_tape.linking = _LazyModule("minikeras.ops.second_order")  # how a gradient is differentiated again
