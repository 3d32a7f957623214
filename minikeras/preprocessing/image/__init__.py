"""Pictures: their files, random changes to them, and batches of both for training."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
