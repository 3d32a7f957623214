"""Mixed precision under the names that older programs have: mathematics in bfloat16 or float16, weights in float32.

>>> from minikeras import mixed_precision
>>> mixed_precision.global_policy()
<DTypePolicy "float32">
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minikeras.config import DTypePolicy, dtype_policy, set_dtype_policy
from minikeras.lazy import public_names

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]

if TYPE_CHECKING:
    from minikeras.optimizers import LossScaleOptimizer
else:
    __getattr__, __dir__ = public_names(__name__, {"LossScaleOptimizer": "minikeras.optimizers:LossScaleOptimizer"})
