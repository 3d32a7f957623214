"""Differentiable functions of tensors, under Keras's names."""

from minikeras.autodiff import tape as _tape
from minikeras.lazy import LazyModule as _LazyModule
from minikeras.lazy import public_names
from minikeras.ops import numpy_protocol as _numpy_protocol  # noqa: F401  (leads NumPy's functions on tensors to ours)
from minikeras.ops import operators as _operators  # noqa: F401  (gives tensors their operators)

_tape.linking = _LazyModule("minikeras.ops.second_order")  # how a gradient is differentiated again
__getattr__, __dir__ = public_names(__name__)
