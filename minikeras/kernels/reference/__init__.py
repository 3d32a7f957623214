"""Every kernel once, in plain array code that runs on NumPy and on CuPy: the oracle and the fallback.

Each module's `xp` is the array module in use; `kernels.use()` rebinds it.
"""

from minikeras.kernels.reference import (
    activation,
    attention,
    conv,
    dense,
    embedding,
    gather,
    image,
    loss,
    norm,
    optimizer,
    pool,
    random,
    recurrent,
    reduction,
)

MODULES = (
    activation,
    attention,
    conv,
    dense,
    embedding,
    gather,
    image,
    loss,
    norm,
    optimizer,
    pool,
    random,
    recurrent,
    reduction,
)
REFERENCE = {name: getattr(module, name) for module in MODULES for name in module.__all__}

globals().update(REFERENCE)
__all__ = list(REFERENCE)
