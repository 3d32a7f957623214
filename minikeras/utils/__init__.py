"""Helpers for users, each loaded when it is first asked for."""

from minikeras.lazy import public_names

# where Keras 2 has some of these
_MODULES = ("data_utils", "generic_utils", "layer_utils", "legacy", "np_utils", "vis_utils")
__getattr__, __dir__ = public_names(__name__, {name: f"{__name__}.{name}" for name in _MODULES})
