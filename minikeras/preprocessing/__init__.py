"""Pictures, text and sequences made ready for training, each module loaded when it is first asked for."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
