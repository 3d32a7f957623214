"""Neural-network operations: activations, dense, cross-entropies.  Convolution, pooling, ... live beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import Needs, Tensor, differentiable
