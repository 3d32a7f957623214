"""Keras 3's other names for the modules of `minikeras.preprocessing`."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__, {name: f"{__name__}.{name}" for name in ("image", "sequence", "text")})
