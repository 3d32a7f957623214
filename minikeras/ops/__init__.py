"""Differentiable functions of tensors, under Keras's names."""

from minikeras.ops import numpy_protocol as _numpy_protocol  # noqa: F401  (leads NumPy's functions on tensors to ours)
from minikeras.ops import operators as _operators  # noqa: F401  (gives tensors their operators)
from minikeras.ops.attention import *  # noqa: F403
from minikeras.ops.core import *  # noqa: F403
from minikeras.ops.nn import *  # noqa: F403
from minikeras.ops.numpy import *  # noqa: F403
